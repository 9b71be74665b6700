"""Outputs of the submodules of a model, for distillation of what it computes on the way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from recdistill.config.suggest import did_you_mean, listing
from recdistill.errors import InputError

ROLES = {"trunk": "hidden layer of rows or histories", "attention": "attention over a history"}


@contextmanager
def recorded(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """While inside, the last output of each named submodule is kept; of one that gives a tuple, its first part. A name
    may also be of a method that a submodule tells by: it gets what the submodule is called with.

    Raises:
        InputError: a name is of no submodule, or of one that is never called.
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


def giving(model: nn.Module, answer: Callable[[], object], places: Sequence[int]) -> list[str]:
    """Names of the submodules that give something of each place while the model answers.

    Args:
        answer: asks the model.
        places: sizes of the first dimensions of such an output.
    """
    with torch.no_grad(), recorded(model, callables(model)) as found:
        answer()
    return [name for name, output in found.items() if of_each(output, places)]


def of_each(output: Any, places: Sequence[int]) -> bool:
    """Whether an output is one of each place. Args: see :func:`giving`."""
    return isinstance(output, Tensor) and output.shape[: len(places)] == torch.Size(places)


def silent(model: nn.Module, name: str, others: Collection[str]) -> InputError:
    """What is said of a submodule whose output can't be compared, since it is never called, or gives something else
    than a vector of each row, or place of a history.

    Args:
        others: names of those whose outputs can.
    """
    return InputError(
        f"the layer {name!r} of {type(model).__name__} gives nothing of a row or history when the model answers",
        where="distiller", why=f"those that do are {listing(others)}",
        fix=did_you_mean(name, others) or "name one of those",
    )  # fmt: skip


def callables(model: nn.Module) -> list[str]:
    """Names of the submodules that can be called: a list of modules can't, nor a table that is only looked up in."""
    return [key for key, module in model.named_modules() if key and type(module).forward is not nn.Module.forward]


def source(model: nn.Module, name: str, others: Collection[str] = ()) -> tuple[nn.Module, str]:
    """The submodule of this name, and "" or its method. "trunk" and "attention" are what a model says gives its last
    hidden layer and the weights of its last attention.

    Args:
        others: names to offer instead of a wrong one; those of all that can be called where there are none.

    Raises:
        InputError: there is none, or it can't be called.
    """
    modules: dict[str, nn.Module] = {key: module for key, module in model.named_modules() if key}
    able = callables(model)
    others = others or able
    if name in ROLES and name not in modules:
        role, name = name, str(getattr(model, name, ""))
        if not name:
            raise InputError(
                f"{type(model).__name__} has no {ROLES[role]}", where="distiller",
                fix="choose another model or distiller" + f", or name one of its layers: {listing(others)}",
            )  # fmt: skip
    owner, _, method = name.rpartition(".")
    if owner in modules and method in getattr(modules[owner], "told", ()):
        return modules[owner], method
    if name not in modules:
        raise InputError(
            f"{type(model).__name__} has no layer {name!r}", where="distiller",
            why=f"its layers are {listing(others)}", fix=did_you_mean(name, others),
        )  # fmt: skip
    if name not in able:
        raise silent(model, name, others)
    return modules[name], ""


def _keep(found: dict[str, Tensor], name: str, method: str, module: nn.Module, given: Any, output: Any) -> None:
    if method:
        output = getattr(module, method)(*given)
    found[name] = output[0] if isinstance(output, tuple) else output
