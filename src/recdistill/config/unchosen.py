"""Settings that say nothing: of options that are not chosen, though an experiment may hold those of every method that
it is run with, and of a section that a chosen option makes another one's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from recdistill.config.listing import groups
from recdistill.config.overrides import key_of, parse, place_of, values
from recdistill.config.suggest import did_you_mean, listing
from recdistill.errors import InputError

NAMED = ("baselines", "compression", "distiller", "export", "index", "logger", "rerank")
"""The groups of which several options can be chosen, each of them under its own name."""

_GIVEN_AWAY = re.compile(r"^(\w+): \$\{(\w+)\}", re.MULTILINE)


def unchosen(cfg: DictConfig, overrides: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Keys of a composed config that are settings of an option that is not chosen, such as ``distiller.topk_kl``.

    Args:
        cfg: the config as Hydra composed it.
        overrides: the words of the command line; what they set is meant to count.
        folders: every config folder, the winner first.

    Raises:
        InputError: there is no option of that name, it has no class, or the command line sets what is not chosen, or
            chooses one twice.
    """
    parsed = parse(overrides)
    _require_distinct(parsed)
    found = list(_without_class(cfg))
    if not found:
        return []
    options, typed = groups(folders), {place_of(override): override.input_line for override in parsed}
    for group, name in found:
        _require_option(group, name, options.get(group, {}))
        given = [text for key, text in typed.items() if f"{key}.".startswith(f"{group}.{name}.")]
        if given:
            others = [other for other, node in cfg[group].items() if _has_class(node)]
            raise InputError(
                f"{group}.{name} is not chosen, so that its settings say nothing", where=given[0],
                fix=f"choose it, too: '{group}=[{','.join([*others, name])}]', or leave them out",
            )  # fmt: skip
    return [f"{group}.{name}" for group, name in found]


def require_free(overrides: Sequence[str], folders: Sequence[Path]) -> None:
    """Raises InputError where the command line sets what an option gives away as a whole: ``teaching=born_again`` has
    ``teacher: ${student}``, and ``teacher=ease`` beside it would be read by nobody.

    Args:
        overrides: the words of the command line.
        folders: every config folder, the winner first.
    """
    parsed = parse(overrides)
    for override in parsed:
        option = str(override.value())
        files = [folder / key_of(override) / f"{option}.yaml" for folder in folders] if option.isidentifier() else []
        file = next((file for file in files if file.is_file()), None)
        for section, whose in _GIVEN_AWAY.findall(file.read_text(encoding="utf-8")) if file else []:
            taken = [str(other.input_line) for other in parsed if place_of(other).partition(".")[0] == section]
            if taken:
                raise InputError(
                    f"{override.input_line} makes the {section} the {whose}, in model and settings", where=taken[0],
                    why=f"nothing else of the {section} would be read",
                    fix=f"leave out one of the two, or set the {whose}",
                )  # fmt: skip


def _require_distinct(parsed: Sequence[Override]) -> None:
    """Raises InputError for a list with the same option twice, of which Hydra would keep one."""
    for override in parsed:
        for names in values(override) if key_of(override) in NAMED else []:
            if isinstance(names, list) and (twice := [name for name in names if names.count(name) > 1]):
                raise InputError(
                    f"{twice[0]} is chosen twice", where=str(override.input_line),
                    why="each option has one section in the config", fix="leave one out",
                )  # fmt: skip


def drop(cfg: DictConfig, keys: Sequence[str]) -> None:
    """Takes the sections with these keys out of the config."""
    with open_dict(cfg):
        for key in keys:
            group, _, name = key.partition(".")
            del cfg[group][name]


def _without_class(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Group and name of each entry that names no class."""
    for group in NAMED:
        section = OmegaConf.to_container(cfg[group], resolve=False) if OmegaConf.is_config(cfg.get(group)) else None
        for name, node in section.items() if isinstance(section, dict) else ():
            if isinstance(node, dict) and not _has_class(node):
                yield group, str(name)


def _has_class(node: Any) -> bool:
    """Whether an entry can be built: by itself or, of a baseline, by its net."""
    if not isinstance(node, Mapping | DictConfig):
        return False
    return "_target_" in node or _has_class(node.get("net"))


def _require_option(group: str, name: str, options: Mapping[str, Path]) -> None:
    """Raises InputError for a name that is no option, and for an option whose own file names no class."""
    target = "net._target_" if group == "baselines" else "_target_"
    if name not in options:
        raise InputError(
            f"there is no {group} called {name!r}", where=f"{group}.{name}", why=f"{group} can be: {listing(options)}",
            fix=did_you_mean(name, options) or f"recdistill ls {group}; or give it a class: {group}.{name}.{target}",
        )  # fmt: skip
    content = yaml.safe_load(options[name].read_text(encoding="utf-8")) or {}
    if "defaults" not in content and isinstance(content.get(name), dict) and not _has_class(content[name]):
        raise InputError(f"{group}.{name} names no class", where=str(options[name]), fix=f"give it a {target}")
