"""Why a config does not compose: which override Hydra stumbled over, and what it should have been.

Hydra answers a typo with "use +key", which silences the message and keeps the typo.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml  # type: ignore[import-untyped]
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recdistill.config.importing import import_target
from recdistill.config.overrides import key_of, values
from recdistill.config.suggest import did_you_mean, listing, nearest, nearest_key
from recdistill.config.yaml_safety import yaml_error
from recdistill.errors import InputError

CONFIG_NAME = "config"
FAILURES = (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, RecursionError)


def diagnose(error: Exception, parsed: Sequence[Override], modules: Iterable[str]) -> InputError:
    """Find the override that Hydra stumbled over, and what it should have been."""
    if isinstance(error, yaml.YAMLError):
        return yaml_error(error)
    cause = error.__cause__
    if isinstance(cause, yaml.YAMLError):
        return yaml_error(cause)
    loader = _Loader()
    good: list[str] = []
    for override in parsed:
        found = _wrong_group_option(override, loader, good)
        if found:
            return found
    for override in parsed:
        found = _wrong_key(override, loader, good, tuple(modules))
        if found:
            return found
    return _file_error(error, loader)


class _Loader:
    """What the composed config could have been made of."""

    def __init__(self) -> None:
        self._loader = GlobalHydra.instance().config_loader()
        self._top = self._options_of("", ObjectType.GROUP)

    @property
    def choices(self) -> dict[str, list[str]]:
        """Every group that is not Hydra's own, with its options."""
        names = [group for group in self._walk(self._top) if group.split("/")[0] != "hydra"]
        return {name: self.options(name) for name in names}

    def options(self, group: str) -> list[str]:
        return self._options_of(group, ObjectType.CONFIG)

    def is_group(self, group: str) -> bool:
        return bool(self.options(group) or self._options_of(group, ObjectType.GROUP))

    def _walk(self, names: Sequence[str]) -> Iterator[str]:
        for name in names:
            yield name
            yield from self._walk([f"{name}/{g}" for g in self._options_of(name, ObjectType.GROUP)])

    def _options_of(self, group: str, kind: ObjectType) -> list[str]:
        return list(self._loader.get_group_options(group, kind, CONFIG_NAME, []))


def _wrong_group_option(override: Override, loader: _Loader, good: list[str]) -> InputError | None:
    key = key_of(override)
    if not loader.is_group(key):
        return None
    options = loader.options(key)
    for value in values(override):
        for name in value if isinstance(value, list) else [value]:
            if name is None or str(name).removesuffix(".yaml") in options or "/" in str(name):
                continue
            return InputError(
                f"there is no {key} called {str(name)!r}",
                where=f"{key}={name}",
                why=f"{key} can be: {listing(options)}",
                fix=_fix(key, nearest(str(name), options, 3)) or f"recdistill ls {key}",
            )
    assert override.input_line is not None
    good.append(override.input_line)
    return None


def _fix(key: str, options: Sequence[str]) -> str | None:
    return " or ".join(f"{key}={option}" for option in options) or None


def _wrong_key(override: Override, loader: _Loader, good: list[str], modules: tuple[str, ...]) -> InputError | None:
    key = key_of(override)
    if loader.is_group(key) or override.is_force_add():
        return None
    base = _quietly(lambda: compose(CONFIG_NAME, overrides=good, return_hydra_config=True))
    if base is None:
        return None
    if key.split(".")[0] == "alone" and not override.is_add() and not override.is_delete():
        return _not_alone(override, base)
    base = _quietly(lambda: compose(CONFIG_NAME, overrides=good, return_hydra_config=True))
    if base is None:
        return None
    if override.is_add():
        return _there_already(override) if _has_key(base, key) else None
    if _has_key(base, key):
        return _new_members(override, base) if override.package is None else _unknown(override, loader.choices, ())
    return (
        _argument(override, base, modules)
        or _of_another_option(override, loader)
        or _unknown(override, loader.choices, _keys(base))
    )


def _new_members(override: Override, base: DictConfig) -> InputError | None:
    """A dict that is to replace values of another one, and has keys that the other lacks."""
    there = OmegaConf.select(base, key_of(override), throw_on_missing=False)
    given = [value for value in values(override) if isinstance(value, dict)]
    absent = [str(name) for value in given for name in value if isinstance(there, DictConfig) and name not in there]
    if not absent:
        return None
    return InputError(
        f"{key_of(override)} has no {absent[0]!r}",
        where=override.input_line,
        why=f"it has: {listing(str(name) for name in there) or 'nothing'}",
        fix=f"'++{override.input_line}' if the name is right: ++ adds what is not there",
    )


def _of_another_option(override: Override, loader: _Loader) -> InputError | None:
    """A key of ``data`` that the chosen data set lacks, and others have."""
    key = key_of(override)
    group, _, name = key.partition(".")
    if group != "data" or not name or "." in name:
        return None
    having = []
    for option in loader.options(group):
        cfg = _quietly(lambda words=[f"{group}={option}"]: compose(CONFIG_NAME, overrides=words))  # type: ignore[misc]
        if cfg is not None and _has_key(cfg, key):
            having.append(option)
    if not having:
        return None
    having.sort(key=lambda option: option != "csv")
    others = f" (or {', '.join(having[1:])})" if len(having) > 1 else ""
    why = f"the data set that is chosen has no {name!r}"
    if name == "path":
        why = "this data set is made, not read from a file"
    fix = f"add {group}={having[0]}{others}"
    return InputError(f"there is no key {key!r} in the config", where=override.input_line, why=why, fix=fix)


def _not_alone(override: Override, base: DictConfig) -> InputError | None:
    """A setting below ``alone`` that is not there yet: the section is empty and takes the student's keys."""
    key = key_of(override)
    given = values(override)
    settings = dict(_leaves(key, given[0])) if given else {key: None}
    absent = [name for name in settings if not _has_key(base, name)]
    if not absent:
        return None
    students = _keys(base)
    words = []
    for name in absent:
        twin = "student" + name.removeprefix("alone")
        near = [twin] if twin in students else nearest_key(twin, students)[:1]
        if not near or not near[0].startswith("student."):
            near = [twin]
        text = (override.input_line or "").partition("=")[2] if name == key else _written(settings[name])
        words.append(f"+alone{near[0].removeprefix('student')}={text}")
    return InputError(
        f"there is no key {absent[0]!r} in the config",
        where=override.input_line,
        why="alone is an empty section that takes the student's keys",
        fix=" ".join(words),
    )


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, child in value.items():
            yield from _leaves(f"{prefix}.{name}", child)
    else:
        yield prefix, value


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _there_already(override: Override) -> InputError:
    text = override.input_line or ""
    key = key_of(override)
    return InputError(f"{key} is in the config already", where=text, fix=text.removeprefix("+"))


def _quietly(call: Callable[[], DictConfig]) -> DictConfig | None:
    try:
        return call()
    except FAILURES:
        return None


def _argument(override: Override, base: DictConfig, modules: tuple[str, ...]) -> InputError | None:
    """The key of an argument that the constructor takes and the config leaves at its default."""
    parent, _, name = key_of(override).rpartition(".")
    node = OmegaConf.select(base, parent, throw_on_missing=False) if parent else None
    target = node.get("_target_") if isinstance(node, DictConfig) else None
    if target is None:
        return None
    try:
        arguments = inspect.signature(import_target(target, parent, modules)).parameters
    except (InputError, TypeError, ValueError):
        return None
    if name in arguments:
        return InputError(
            f"{key_of(override)} is not in the config, {target} has its default",
            where=override.input_line,
            fix=f"+{override.input_line}",
        )
    near = nearest(name, set(arguments) - set(node or ()), 1)
    if not near or nearest(name, set(node or ()), 1):
        return None
    value = (override.input_line or "").partition("=")[2]
    return InputError(
        f"there is no key {key_of(override)!r} in the config",
        where=override.input_line,
        why=f"{target} takes: {listing(arguments)}",
        fix=f"+{parent}.{near[0]}={value}",
    )


def _unknown(override: Override, options: Mapping[str, Sequence[str]], keys: Sequence[str]) -> InputError:
    key, groups = key_of(override), list(options)
    value = (override.input_line or "").partition("=")[2] or "VALUE"
    near = nearest_key(key, {*groups, *keys})
    section = key.rpartition(".")[0]
    known = {k.removeprefix(f"{section}.").split(".")[0] for k in keys if k.startswith(f"{section}.")} - {"_target_"}
    why = f"{section} has: {listing(known)}" if section and known else f"the groups are: {listing(groups)}"
    fix = " or ".join(f"{name}={value}" for name in near) or "recdistill run --cfg job shows every key"
    parts = key.split(".")
    chosen = ".".join(parts[:2]) in keys
    if len(parts) > 1 and not chosen and parts[1] in options.get(parts[0], ()):
        why, fix = (
            f"{parts[0]}.{parts[1]} is not chosen",
            f"choose it first: {parts[0]}={parts[1]} {override.input_line}",
        )
    elif len(parts) == 2 and parts[0] in options and not section_has(keys, parts[0]):
        others = [option for option in options[parts[0]] if option != "none"]
        why, fix = (
            f"{parts[0]} has no settings before one is chosen",
            f"first {parts[0]}={others[0]}; there are {listing(others)}",
        )
    return InputError(f"there is no key {key!r} in the config", where=override.input_line, why=why, fix=fix)


def section_has(keys: Sequence[str], section: str) -> bool:
    return any(key.startswith(f"{section}.") for key in keys)


def _has_key(cfg: DictConfig, key: str) -> bool:
    node: Any = cfg
    for part in key.replace("[", ".").replace("]", "").split("."):
        node = OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node
        if isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, dict) and part in node:
            node = node[part]
        else:
            return False
    return True


def _keys(cfg: DictConfig) -> list[str]:
    """Every dotted key of the config but Hydra's own."""
    tree = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(tree, dict)
    return [key for name, node in tree.items() if name != "hydra" for key in _dotted(str(name), node)]


def _dotted(prefix: str, node: Any) -> Iterator[str]:
    yield prefix
    if isinstance(node, dict):
        for name, child in node.items():
            yield from _dotted(f"{prefix}.{name}", child)


def _file_error(error: Exception, loader: _Loader) -> InputError:
    """Something in a config file, not in an override."""
    text = [line for line in str(error).splitlines() if line.strip() and "+" not in line]
    why = " ".join(text[:1]) or type(error).__name__
    if isinstance(error.__cause__, OmegaConfBaseException):
        why += "\n" + str(error.__cause__).splitlines()[0]
    fix = None
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        fix = did_you_mean(option, error.options or loader.options(group))
    elif added := re.search(r"Could not override '(\S+@\S+)'", why):  # a group that nothing puts there yet
        fix = f"+{added[1]}=OPTION puts it there"
    return InputError("the config cannot be composed", why=why, fix=fix)
