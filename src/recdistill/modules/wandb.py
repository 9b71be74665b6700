"""Weights & Biases that never stops a run: no login prompt, one warning where it can't be reached."""

from __future__ import annotations

import logging
import os
from typing import Any

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
        settings: dict[str, Any] = {"silent": True, "console": "off", "init_timeout": 5}
        if mode == "online" and not _reachable():
            log.warning("W&B can't be reached: logging offline; later: wandb sync %s/wandb/offline-run-*", save_dir)
            mode = "offline"
        super().__init__(
            save_dir=save_dir, name=name, project=project, mode=mode, settings=wandb.Settings(**settings)
        )

    def close(self) -> None:
        """Ends the run, so that the next job of a grid gets its own."""
        if self._experiment is not None:
            self._experiment.finish(quiet=True)


def _has_key() -> bool:
    import wandb

    return bool(os.environ.get("WANDB_API_KEY") or wandb.api.api_key)


def _reachable(timeout: float = 3.0) -> bool:
    import socket
    from urllib.parse import urlparse

    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    try:
        socket.create_connection((host.hostname or "", host.port or 443), timeout).close()
    except OSError:
        return False
    return True
