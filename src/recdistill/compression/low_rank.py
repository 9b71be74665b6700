"""Shorter vectors: the best approximation of a score matrix by one of lower rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge

from recdistill.compression.base import Compressed, CompressionPass, from_factors
from recdistill.config.importing import import_target
from recdistill.config.plugins import plugin_modules
from recdistill.errors import InputError
from recdistill.models.base import FactorModel
from recdistill.models.fit import Fit


class LowRank(CompressionPass):
    """Cuts the vectors of users and items to ``rank`` numbers, so that U Vᵀ changes least.

    Source: Eckart and Young, Psychometrika 1936. The SVD of U Vᵀ comes from the QR factors of U and V,
    without the matrix itself.

    Args:
        rank: new length of the vectors.
        finetune: training afterwards, None for none.
    """

    def __init__(self, rank: Annotated[int, Ge(1)] = 8, finetune: Fit | None = None):
        super().__init__(finetune)
        self.rank = rank

    def check(self, net: dict[str, Any], earlier: Sequence[CompressionPass]) -> dict[str, Any]:
        model = import_target(net["_target_"], "compression.low_rank", plugin_modules())
        if not issubclass(model, FactorModel):
            raise InputError(
                f"low_rank needs a model with user and item vectors; {model.__name__} has none",
                where="compression.low_rank", fix="leave low_rank out, or choose student=mf",
            )  # fmt: skip
        if any(not isinstance(step, LowRank) for step in earlier):
            raise InputError(
                "low_rank must come before the passes that change how weights are stored",
                where="compression", fix="put it first: compression=[low_rank,prune,quantize]",
            )  # fmt: skip
        width = net.get("dim", math.inf) + bool(net.get("item_bias"))
        if self.rank >= width:
            bias = " (the item bias counts as one)" if net.get("item_bias") else ""
            raise InputError(
                f"rank {self.rank} does not shorten vectors of length {width}{bias}",
                where="compression.low_rank.rank", fix=f"choose a rank below {width}",
            )  # fmt: skip
        return {"_target_": "recdistill.models.mf.MF", "dim": self.rank}

    def apply(self, state: Compressed) -> Compressed:
        assert isinstance(state.model, FactorModel)
        with torch.inference_mode():
            user, item = state.model.factors()
        q_user, r_user = torch.linalg.qr(user.double())
        q_item, r_item = torch.linalg.qr(item.double())
        left, size, right = torch.linalg.svd(r_user @ r_item.T, full_matrices=False)
        root = size[: self.rank].sqrt()
        return from_factors(state.model, q_user @ left[:, : self.rank] * root, q_item @ right[: self.rank].T * root)
