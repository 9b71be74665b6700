"""Where configs and plug-ins come from, and who wins when two files have the same name."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import recdistill
from recdistill.config import plugins
from recdistill.config.suggest import did_you_mean
from recdistill.errors import InputError


def conf_dir() -> Path:
    """The folder of the shipped configs: inside an installed package, else at the top of the repo."""
    package = Path(recdistill.__file__).resolve().parent
    candidates = (package / "conf", package.parents[1] / "conf")
    for folder in candidates:
        if (folder / "config.yaml").is_file():
            return folder
    raise InputError(
        "the shipped configs are missing",
        where=" or ".join(str(folder) for folder in candidates),
        fix="install recdistill again",
    )


@dataclass(frozen=True)
class Sources:
    """The config folders and plug-ins of one call.

    Args:
        conf: the shipped configs.
        extra: the user's config folders; the first one that has a file wins, and all win over ``conf``.
        plugins: folders whose modules a ``_target_`` may name.
    """

    conf: Path
    extra: tuple[Path, ...] = ()
    plugins: tuple[Path, ...] = ()

    @property
    def folders(self) -> tuple[Path, ...]:
        """Every config folder, the winner first."""
        return (*self.extra, self.conf)

    @property
    def home(self) -> tuple[Path, ...]:
        """Folders that the packages of a ``_target_`` lie in: ours, and the plug-ins."""
        return (Path(recdistill.__file__).resolve().parents[1], *self.plugins)

    @property
    def modules(self) -> frozenset[str]:
        """Top-level modules and packages of the plug-ins."""
        return frozenset(module.name for module in pkgutil.iter_modules([str(p) for p in self.plugins]))

    def enable_plugins(self) -> None:
        """Make the plug-ins importable, here and in processes that are started from here."""
        plugins.enable(self.plugins)


def find_sources(config_dirs: Sequence[str], plugin_dirs: Sequence[str]) -> Sources:
    """Turn the folders given on the command line into :class:`Sources`.

    Raises:
        InputError: a folder is missing, or a plug-in would hide a module that is already installed.
    """
    plugin_folders = tuple(_existing(path, "--plugin") for path in plugin_dirs)
    folders = [_existing(path, "--config-dir") for path in config_dirs]
    folders += [plugin / "conf" for plugin in plugin_folders if (plugin / "conf").is_dir()]
    sources = Sources(conf_dir(), tuple(folders), plugin_folders)
    _refuse_hidden_modules(sources)
    return sources


def _existing(path: str, flag: str) -> Path:
    folder = Path(path).expanduser().absolute()
    if folder.is_dir():
        return folder
    siblings = [p.name for p in folder.parent.iterdir() if p.is_dir()] if folder.parent.is_dir() else []
    raise InputError(
        f"{flag} {path} is not a folder",
        where=str(folder),
        fix=did_you_mean(folder.name, siblings) or f"give {flag} a folder that exists",
    )


def _refuse_hidden_modules(sources: Sources) -> None:
    # A plug-in called torch.py would stand before the real one on sys.path, for the whole program.
    taken = {"recdistill", "torch", "hydra", "hydra_plugins", "omegaconf", "pytorch_lightning", "lightning"}
    clash = sorted(sources.modules & (taken | sys.stdlib_module_names))
    if clash:
        raise InputError(
            f"the plug-in module {clash[0]} has the name of an installed one",
            where=", ".join(str(folder) for folder in sources.plugins),
            fix=f"rename {clash[0]}",
        )
