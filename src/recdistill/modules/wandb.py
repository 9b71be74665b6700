"""Weights & Biases that never stops a run: no login prompt, one warning where it can't be reached."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from pytorch_lightning.loggers import WandbLogger

log = logging.getLogger(__name__)


class OfflineSafeWandbLogger(WandbLogger):
    """Logs online where a key is set and the service answers within a few seconds, else offline.

    Args:
        save_dir: folder for the files of a run.
        name: of the run.
        project: in W&B.
    """

    def __init__(self, save_dir: str = ".", name: str | None = None, project: str = "recdistill"):
        import wandb

        mode = os.environ.get("WANDB_MODE") or ("online" if _has_key() else "offline")
        if mode == "online" and not _reachable():
            log.warning("W&B can't be reached: logging offline; later: wandb sync %s/wandb/offline-run-*", save_dir)
            mode = "offline"
        # The library reads the environment again, and stops at an empty value.
        os.environ["WANDB_MODE"] = mode
        Path(save_dir).mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(silent=True, console="off", init_timeout=5)
        super().__init__(save_dir=save_dir, name=name, project=project, mode=mode, settings=settings)
        self._wandb_init.pop("anonymous", None)  # W&B warns of it, even where it is None

    def close(self) -> None:
        """Ends the run, so that the next job of a grid gets its own."""
        if self._experiment is not None:
            self._experiment.finish()
            self._experiment = None


def _has_key() -> bool:
    import wandb

    return bool(os.environ.get("WANDB_API_KEY") or wandb.api.api_key)


def _reachable(timeout: float = 3.0) -> bool:
    """Whether something answers HTTP at the service's address, in whatever way."""
    import http.client
    import urllib.error
    import urllib.request

    address = os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
    try:
        urllib.request.urlopen(address, timeout=timeout).close()
    except urllib.error.HTTPError as answer:
        return answer.code not in (502, 503, 504)  # these come from a proxy on the way
    except (OSError, ValueError, http.client.HTTPException):
        return False
    return True
