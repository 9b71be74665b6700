"""Outputs of the submodules of a model, for distillation of what it computes on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from recdistill.config.suggest import did_you_mean, listing
from recdistill.errors import InputError


@contextmanager
def recorded(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """While inside, the last output of each named submodule is kept; of one that gives a tuple, its first part.

    Raises:
        InputError: a name is of no submodule.
    """
    found: dict[str, Tensor] = {}
    handles = []
    try:
        for name in names:
            handles.append(submodule(model, name).register_forward_hook(partial(_keep, found, name)))
        yield found
    finally:
        for handle in handles:
            handle.remove()


def submodule(model: nn.Module, name: str) -> nn.Module:
    """The submodule of this name.

    Raises:
        InputError: there is none.
    """
    modules: dict[str, nn.Module] = {key: module for key, module in model.named_modules() if key}
    if name not in modules:
        raise InputError(
            f"{type(model).__name__} has no layer {name!r}", where="distiller",
            why=f"its layers are {listing(modules)}", fix=did_you_mean(name, modules),
        )  # fmt: skip
    return modules[name]


def _keep(found: dict[str, Tensor], name: str, _module: nn.Module, _given: Any, output: Any) -> None:
    found[name] = output[0] if isinstance(output, tuple) else output
