"""Fewer weights: some become zero, and the file keeps only the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from annotated_types import Interval

from recdistill.compression.base import Compressed, CompressionPass, tables
from recdistill.compression.gradual import Method, without_lowest
from recdistill.errors import InputError
from recdistill.export.packing import Codec
from recdistill.models.fit import Fit


class Prune(CompressionPass):
    """Zeros in each table. Stored are one bit per position and the values that are left, so that the file shrinks from
    a sparsity of 1 / bits on; a dense matmul does not get faster.

    ``magnitude`` drops the smallest weights, before the fine-tuning or, with ``until``, one after another in its
    course. ``movement`` drops in its course those that it moves towards zero, whatever their size; it needs some epochs
    to see which.

    Source: Han et al., Learning both weights and connections, NeurIPS 2015; Zhu and Gupta, To prune, or not to prune,
    2017, for ``until``; Sanh et al., Movement pruning, NeurIPS 2020.

    Args:
        sparsity: share of each table's weights that is dropped.
        method: see above.
        until: share of the fine-tuning after which no more are dropped; None for all at once, before it.
        finetune: training of the rest, None for none.

    Raises:
        InputError: what happens in the course of a fine-tuning has none.
    """

    def __init__(
        self,
        sparsity: Annotated[float, Interval(gt=0, lt=1)] = 0.5,
        method: Method = "magnitude",
        until: Annotated[float, Interval(gt=0, lt=1)] | None = None,
        finetune: Fit | None = None,
    ):
        super().__init__(finetune)
        self.sparsity, self.method, self.until = sparsity, method, until
        if (method == "movement" or until is not None) and finetune is None:
            what = "movement pruning" if method == "movement" else "gradual pruning"
            raise InputError(
                f"{what} happens while the model is fine-tuned, and there is no fine-tuning",
                where="compression.prune.finetune",
                fix="compression.prune.finetune={_target_: recdistill.models.fit.Fit, epochs: 10}, or"
                " method=magnitude until=null",
            )  # fmt: skip
        if method == "movement" and until is None:
            self.until = 0.7

    @classmethod
    def strengths(cls, node: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**node, "sparsity": share} for share in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)]

    @classmethod
    def untrained(cls, node: dict[str, Any]) -> dict[str, Any]:
        return {**super().untrained(node), "method": "magnitude", "until": None}

    def apply(self, state: Compressed) -> Compressed:
        for name, weight in tables(state.model).items():
            if self.until is None:
                weight.mul_(without_lowest(weight.abs(), self.sparsity))
            state.codecs[name] = replace(state.codecs.get(name, Codec()), sparse=True)
        if self.until is not None:
            state.gradual = {"sparsity": self.sparsity, "method": self.method, "until": self.until}
        return state
