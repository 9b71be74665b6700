"""Import what a ``_target_`` names, or say which name was meant."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from recdistill.config.gate import check_object, check_target
from recdistill.config.suggest import listing, nearest
from recdistill.errors import InputError


def import_target(target: object, key: str, plugins: tuple[str, ...] = ()) -> Any:
    """The class or function of a target that the gate lets through.

    Raises:
        InputError: not allowed, not there (with the nearest name), or a package it needs is not installed.
    """
    name = check_target(target, key, plugins)
    parts = name.split(".")
    module, rest = _longest_module(parts, key)
    found: Any = module
    for index, part in enumerate(rest):
        if not hasattr(found, part):
            raise _not_found(name, found, ".".join(parts[: len(parts) - len(rest) + index]), part, key)
        found = getattr(found, part)
    if isinstance(found, ModuleType):
        raise InputError(f"{name} is a module, not a class", where=key, fix=f"name one of: {_public_names(found)}")
    check_object(found, name, key, plugins)
    return found


def _longest_module(parts: list[str], key: str) -> tuple[ModuleType, list[str]]:
    for cut in range(len(parts), 0, -1):
        name = ".".join(parts[:cut])
        try:
            return importlib.import_module(name), parts[cut:]
        except ModuleNotFoundError as error:
            # "recdistill.models.mf.MF" is no module; but a missing wandb inside one is another matter.
            if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
                raise InputError(
                    f"{'.'.join(parts)} needs the package {error.name}, which is not installed",
                    where=key,
                    fix=f"pip install {error.name}",
                ) from error
    raise InputError(f"there is no module {parts[0]}", where=key, fix="is it in a folder given with --plugin DIR?")


def _not_found(name: str, parent: Any, parent_name: str, part: str, key: str) -> InputError:
    near = nearest(part, _names(parent), 1)
    return InputError(
        f"{name} does not exist",
        where=key,
        why=f"{parent_name} has: {_public_names(parent)}",
        fix=f"did you mean {parent_name}.{near[0]}?" if near else None,
    )


def _public_names(parent: Any) -> str:
    return listing(_names(parent)) or "nothing"


def _names(parent: Any) -> set[str]:
    """What a module defines itself, and the modules below it."""
    below = {module.name for module in pkgutil.iter_modules(getattr(parent, "__path__", []))}
    own = getattr(parent, "__name__", "")
    names = {
        name
        for name, value in vars(parent).items()
        if callable(value) and str(getattr(value, "__module__", "")).startswith(own)
    }
    return {name for name in names | below if not name.startswith("_")}
