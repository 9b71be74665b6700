"""What is derived from weights, and kept while these stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from torch import nn

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """The last value that was computed from some weights.

    It is kept for a frozen teacher only: fused optimizers change weights without a new version.
    """

    def __init__(self) -> None:
        self._last: tuple[object, Value] | None = None

    def of(self, weights: Iterable[nn.Parameter], compute: Callable[[], Value]) -> Value:
        """The value, computed anew where one of the weights takes gradients or has changed."""
        weights = list(weights)
        if any(weight.requires_grad for weight in weights):
            return compute()
        version = [(weight.data_ptr(), weight._version) for weight in weights]
        if self._last is None or self._last[0] != version:
            self._last = (version, compute())
        return self._last[1]
