"""Outputs of the submodules of a model, for distillation of what it computes on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from recdistill.config.suggest import did_you_mean, listing
from recdistill.errors import InputError

ROLES = {"trunk": "hidden layer of rows or histories", "attention": "attention over a history"}


@contextmanager
def recorded(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """While inside, the last output of each named submodule is kept; of one that gives a tuple, its first part. A name
    may also be of a method that a submodule tells by: it gets what the submodule is called with.

    Raises:
        InputError: a name is of no submodule.
    """
    found: dict[str, Tensor] = {}
    handles = []
    try:
        for name in names:
            module, method = source(model, name)
            handles.append(module.register_forward_hook(partial(_keep, found, name, method)))
        yield found
    finally:
        for handle in handles:
            handle.remove()


def source(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The submodule of this name, and "" or its method. "trunk" and "attention" are what a model says gives its last
    hidden layer and the weights of its last attention.

    Raises:
        InputError: there is none.
    """
    modules: dict[str, nn.Module] = {key: module for key, module in model.named_modules() if key}
    if name in ROLES and name not in modules:
        role, name = name, str(getattr(model, name, ""))
        if not name:
            raise InputError(
                f"{type(model).__name__} has no {ROLES[role]}", where="distiller",
                fix="choose another model or distiller" + f", or name one of its layers: {listing(modules)}",
            )  # fmt: skip
    owner, _, method = name.rpartition(".")
    if owner in modules and method in getattr(modules[owner], "told", ()):
        return modules[owner], method
    if name not in modules:
        raise InputError(
            f"{type(model).__name__} has no layer {name!r}", where="distiller",
            why=f"its layers are {listing(modules)}", fix=did_you_mean(name, modules),
        )  # fmt: skip
    return modules[name], ""


def _keep(found: dict[str, Tensor], name: str, method: str, module: nn.Module, given: Any, output: Any) -> None:
    if method:
        output = getattr(module, method)(*given)
    found[name] = output[0] if isinstance(output, tuple) else output
