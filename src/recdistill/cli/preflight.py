"""Everything that is looked at before a run: gate, compose, gate again, bind to the constructors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from recdistill.config import check, compose, gate, listing, overrides, secrets
from recdistill.config.locate import Sources
from recdistill.config.yaml_safety import scan_folders
from recdistill.errors import InputError


def gate_overrides(words: Sequence[str], sources: Sources) -> list[Override]:
    """Parse the overrides and look at what they name, before Hydra sees them."""
    scan_folders(sources.extra)
    parsed = overrides.parse(words)
    pairs = [(overrides.key_of(o), value) for o in parsed for value in overrides.values(o)]
    gate.check_overrides(pairs, sources.modules)
    for key, value in pairs:
        secrets.refuse_secrets(value, key)
    return parsed


def compose_gated(words: Sequence[str]) -> DictConfig:
    """Compose one config inside a session and look at its hydra node."""
    cfg = compose.compose_config(words)
    gate.check_hydra_node(_plain(cfg.hydra))
    secrets.refuse_secrets(_plain(cfg))
    return cfg


def check_job(cfg: DictConfig, sources: Sources) -> dict[str, Any]:
    """Gate a composed config and bind it to its constructors; gives the resolved values.

    Raises:
        InputError: every problem of the config in one message.
    """
    resolved = compose.resolve(cfg)
    gate.check_config(resolved, sources.modules)
    sections = {group.split("/")[0] for group in listing.groups(sources.folders)}
    check.require_valid(check.check_config(resolved, plugins=sources.modules, sections=sections))
    return resolved


def check_all(parsed: Sequence[Override], sources: Sources, multirun: bool) -> tuple[dict[str, Any], bool]:
    """Check the config, or in a sweep each choice; gives the first one, resolved, and whether it is a grid.

    Raises:
        InputError: the first config that is wrong; in a sweep the message names it.
    """
    sweeps = [override for override in parsed if override.is_sweep_override()]
    configs = overrides.expand(parsed)
    with compose.hydra_session(sources):
        cfg = compose_gated(configs[0])
        grid = multirun or str(cfg.hydra.mode).endswith("MULTIRUN")
        if sweeps and not grid:
            raise _needs_multirun(sweeps[0])
        first = _checked(cfg, sources, configs[0] if grid else [])
        for words in configs[1:]:
            _checked(compose_gated(words), sources, words)
    return first, grid


def _checked(cfg: DictConfig, sources: Sources, words: Sequence[str]) -> dict[str, Any]:
    try:
        return check_job(cfg, sources)
    except InputError as error:
        if not words:
            raise
        error.why = "\n".join(text for text in (error.why, f"in the config of: {' '.join(words)}") if text)
        raise


def _needs_multirun(override: Override) -> InputError:
    text = override.input_line or ""
    key, _, value = text.partition("=")
    return InputError(
        f"{text} has several values, which is a grid",
        where=key,
        fix=f"add -m for a grid, or write {key}=[{value}] for a list, or quote it: '{key}=\"{value}\"'",
    )


def _plain(node: DictConfig) -> Any:
    return OmegaConf.to_container(node, resolve=False)
