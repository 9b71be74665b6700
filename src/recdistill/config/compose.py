"""Compose a config through Hydra, from the shipped folder and the user's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recdistill.config.diagnose import CONFIG_NAME, FAILURES, diagnose
from recdistill.config.gate import leaves
from recdistill.config.locate import Sources
from recdistill.config.overrides import parse
from recdistill.config.unchosen import drop, require_free, unchosen
from recdistill.errors import InputError

VERSION_BASE = "1.3"


class UserFolders(SearchPathPlugin):
    """Puts the user's config folders before the shipped ones, so that a file of the same name wins."""

    sources: Sources

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra for every command."""
        for folder in map(str, self.sources.extra):  # each is put right before "main", after the ones before it
            search_path.prepend("recdistill-user", f"file://{folder}", SearchPathQuery(provider="main"))


def use_folders(sources: Sources) -> None:
    """Let Hydra look into the user's folders from now on."""
    UserFolders.sources = sources
    plugins = Plugins.instance()
    if UserFolders not in plugins.discover(SearchPathPlugin):
        plugins.register(UserFolders)


@contextlib.contextmanager
def hydra_session(sources: Sources) -> Iterator[None]:
    """Hydra, ready to compose from these folders."""
    use_folders(sources)
    with initialize_config_dir(str(sources.conf), job_name="recdistill", version_base=VERSION_BASE):
        yield


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """Compose inside a :func:`hydra_session`, with the ``hydra`` node and without settings of what is not chosen.

    Raises:
        InputError: an override or a config file is wrong.
    """
    require_free(overrides, UserFolders.sources.folders)
    cfg = _composed(overrides)
    drop(cfg, unchosen(cfg, overrides, UserFolders.sources.folders))
    return cfg


def left_out(overrides: Sequence[str]) -> list[str]:
    """The keys that :func:`compose_config` takes out of what Hydra composes."""
    return unchosen(_composed(overrides), overrides, UserFolders.sources.folders)


def _composed(overrides: Sequence[str]) -> DictConfig:
    try:
        return compose(CONFIG_NAME, overrides=list(overrides), return_hydra_config=True)
    except FAILURES as error:
        raise diagnose(error, parse(overrides), UserFolders.sources.modules) from error


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """The config without its hydra node, as plain values with every interpolation resolved.

    Raises:
        InputError: a value is missing (``???``) or an interpolation leads nowhere; all are listed.
    """
    job = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    missing = [key for key, value in leaves(OmegaConf.to_container(job), "") if value == "???"]
    if missing:
        raise InputError(
            "\n".join(f"{key} is needed: {_meaning(key)}" for key in missing),
            where=", ".join(missing),
            fix=" ".join(f"{key}=VALUE" for key in missing),
        )
    try:
        found = OmegaConf.to_container(job, resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(
            "an interpolation in the config cannot be resolved",
            where=str(getattr(error, "full_key", "") or "") or None,
            why=str(error).splitlines()[0],
        ) from error
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def _meaning(key: str) -> str:
    known = {"path": "a file or folder", "user": "a column name", "item": "a column name"}
    return known.get(key.rpartition(".")[2], "it has no default")
