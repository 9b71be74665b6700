"""Fewer numbers by the best approximation of lower rank: of all scores, or of each layer and table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from recdistill.compression.base import Compressed, CompressionPass, from_factors, take_bound
from recdistill.compression.prune_structured import PruneStructured
from recdistill.compression.sizes import bytes_of, in_words
from recdistill.config.importing import import_target
from recdistill.config.plugins import plugin_modules
from recdistill.errors import InputError
from recdistill.models.base import ClosedFormModel, FactorModel, Model
from recdistill.models.build import build
from recdistill.models.factored import FactoredEmbedding, FactoredLinear
from recdistill.models.fit import Fit

WHERE = "compression.low_rank"


class LowRank(CompressionPass):
    """Of a model of dot products the vectors of users and items are cut, so that U Vᵀ changes least. Of any other model
    each linear layer and table W becomes two narrow factors that change W least, where these are smaller than W;
    recurrent layers and convolutions stay.

    Source: Eckart and Young, Psychometrika 1936. The SVD of U Vᵀ comes from the QR factors of U and V, without the
    matrix itself.

    One of the three says how much is left:

    Args:
        rank: new length of the vectors, or rank of each layer.
        energy: share of the squared singular values that is kept at least, of each layer by itself.
        budget: bytes of all weights as float32, such as 200kB. Layers share them so that the singular values that are
            kept, each as a share of the squares of its layer, come to most for their bytes.
        finetune: training afterwards, None for none.
    """

    def __init__(
        self,
        rank: Annotated[int, Ge(1)] | None = None,
        energy: Annotated[float, Gt(0), Lt(1)] | None = None,
        budget: int | str | None = None,
        finetune: Fit | None = None,
    ):
        super().__init__(finetune)
        self.rank, self.energy, self.budget = rank, energy, budget
        chosen = [name for name in ("rank", "energy", "budget") if getattr(self, name) is not None]
        if len(chosen) != 1:
            raise InputError(
                f"low_rank takes one of rank, energy and budget, here are {' and '.join(chosen) or 'none'}",
                where=WHERE, fix=f"{WHERE}.rank=null {WHERE}.energy=0.9",
            )  # fmt: skip
        self.bytes = None if budget is None else bytes_of(budget, f"{WHERE}.budget")

    @classmethod
    def strengths(cls, node: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**node, "rank": None, "budget": None, "energy": share} for share in (0.99, 0.95, 0.9, 0.8, 0.65, 0.5)]

    def check(self, net: dict[str, Any], earlier: Sequence[CompressionPass]) -> dict[str, Any]:
        model: type[Model] = import_target(net["_target_"], WHERE, plugin_modules())
        if issubclass(model, ClosedFormModel) and not issubclass(model, FactorModel):
            raise InputError(
                f"low_rank needs vectors of users and items, or layers; {model.__name__} has none",
                where=WHERE, fix="leave low_rank out, or choose student=mf",
            )  # fmt: skip
        if net.get("table") and not earlier:
            raise InputError(
                "low_rank needs plain tables; these are compressed already", where=WHERE,
                fix="leave low_rank out, or start from a plain table: table@student.net.table=none",
            )  # fmt: skip
        if any(not isinstance(step, LowRank | PruneStructured) for step in earlier):
            raise InputError(
                "low_rank must come before the passes that change how weights are stored",
                where="compression", fix="put it first, as in compression=[low_rank,prune,quantize]",
            )  # fmt: skip
        if not issubclass(model, FactorModel):
            if any(isinstance(step, LowRank) for step in earlier):
                raise InputError(
                    f"the layers of {model.__name__} have two factors already", where=WHERE,
                    why="low_rank is here twice", fix="once, with a lower rank",
                )  # fmt: skip
            return net
        width = net.get("dim", math.inf) + bool(net.get("item_bias"))
        if self.rank is not None and self.rank >= width:
            bias = " (the item bias counts as one)" if net.get("item_bias") else ""
            raise InputError(
                f"rank {self.rank} does not shorten vectors of length {width}{bias}",
                where=f"{WHERE}.rank", fix=f"choose a rank below {width}",
            )  # fmt: skip
        return {"_target_": "recdistill.models.mf.MF", "dim": self.rank or width}

    def apply(self, state: Compressed) -> Compressed:
        return self._scores(state) if isinstance(state.model, FactorModel) else self._layers(state)

    def _scores(self, state: Compressed) -> Compressed:
        assert isinstance(state.model, FactorModel)
        with torch.inference_mode():
            user, item = state.model.factors()
        q_user, r_user = torch.linalg.qr(user.double())
        q_item, r_item = torch.linalg.qr(item.double())
        left, size, right = torch.linalg.svd(r_user @ r_item.T, full_matrices=False)
        rank = self.rank
        if self.energy is not None:
            rank = rank_of_energy(size, self.energy)
        if self.bytes is not None:
            rank = min(self.bytes // (4 * (len(user) + len(item))), user.shape[1])
            if not rank:
                raise too_small(self.bytes, 4 * (len(user) + len(item)))
        root = size[:rank].sqrt()
        return from_factors(state.model, q_user @ left[:, :rank] * root, q_item @ right[:rank].T * root)

    def _layers(self, state: Compressed) -> Compressed:
        weights = {name: layer.weight.detach().double() for name, layer in state.model.named_modules()
                   if isinstance(layer, nn.Linear | nn.Embedding)}  # fmt: skip
        parts = {name: torch.linalg.svd(weight, full_matrices=False) for name, weight in weights.items()}
        spectra = {name: part[1] for name, part in parts.items()}
        shapes = {name: (weight.shape[0], weight.shape[1]) for name, weight in weights.items()}
        if self.bytes is not None:
            stored = sum(part.nbytes for part in state.model.state_dict().values())
            rest = stored - sum(4 * m * n for m, n in shapes.values())
            ranks = ranks_of_budget(spectra, shapes, self.bytes - rest, rest)
        else:
            ranks = {name: self.rank or rank_of_energy(size, self.energy or 1.0) for name, size in spectra.items()}
        ranks = {name: rank for name, rank in ranks.items() if pays(rank, *shapes[name])}
        if not ranks:
            if self.bytes is not None:  # it is small enough as it is
                return state
            raise InputError(
                f"no layer of {type(state.model).__name__} is smaller as two factors", where=WHERE,
                why=f"rank · (rows + columns) is not below rows · columns for {listing_of(shapes)}",
                fix="a lower rank or energy, or leave low_rank out",
            )  # fmt: skip
        net = {**state.net, "ranks": ranks}
        with torch.random.fork_rng(devices=[]):
            small = build(net, state.model.schema)
        kept = small.state_dict()
        kept |= {name: part for name, part in state.model.state_dict().items() if name in kept}
        for name, rank in ranks.items():
            kept |= {
                f"{name}.{key}": part for key, part in factors(small.get_submodule(name), parts[name], rank).items()
            }
            if f"{name}.bias" in state.model.state_dict():
                kept[f"{name}.outer.bias"] = state.model.state_dict()[f"{name}.bias"]
        small.load_state_dict(kept)
        take_bound(small, state.model)
        return Compressed(small.train(state.model.training), net)


def factors(layer: nn.Module, parts: tuple[Tensor, Tensor, Tensor], rank: int) -> dict[str, Tensor]:
    """The weights of the two factors of a layer, from the singular value decomposition of its own."""
    left, size, right = parts
    root = size[:rank].sqrt()
    rows, columns = left[:, :rank] * root, right[:rank].T * root
    if isinstance(layer, FactoredLinear):
        rows, columns = columns.T.contiguous(), rows
    assert isinstance(layer, FactoredLinear | FactoredEmbedding)
    return {"inner.weight": rows.float(), "outer.weight": columns.float()}


def pays(rank: int, rows: int, columns: int) -> bool:
    """Whether two factors are smaller than the matrix."""
    return rank * (rows + columns) < rows * columns


def rank_of_energy(size: Tensor, energy: float) -> int:
    """The least rank that keeps a share of the squares of the singular values ``[n]``, which fall."""
    share = size.square().cumsum(0) / size.square().sum().clamp(min=torch.finfo(size.dtype).tiny)
    return min(int((share < energy).sum()) + 1, len(size))


def ranks_of_budget(
    spectra: dict[str, Tensor], shapes: dict[str, tuple[int, int]], budget: int, rest: int = 0
) -> dict[str, int]:
    """The rank of each layer, those that stay whole included: one after another the singular value that weighs most
    for its bytes, as a share of the squares of its layer, as long as there are bytes.

    Args:
        spectra: singular values of each layer, which fall.
        shapes: its rows and columns.
        budget: bytes of all of them as float32.
        rest: bytes of what has no rank, for the message.

    Raises:
        InputError: it is not enough for a rank of 1.
    """
    ranks = dict.fromkeys(spectra, 1)

    def cost(name: str, rank: int) -> int:
        rows, columns = shapes[name]
        return 4 * min(rank * (rows + columns), rows * columns)

    spent = sum(cost(name, 1) for name in ranks)
    if spent > budget:
        raise too_small(budget + rest, spent + rest)
    gains = [
        (-float(value) / (rows + columns), name)
        for name, size in spectra.items()
        for value, (rows, columns) in [(value, shapes[name]) for value in size.square()[1:] / size.square().sum()]
    ]
    for _, name in sorted(gains):
        more = cost(name, ranks[name] + 1) - cost(name, ranks[name])
        if spent + more <= budget:
            ranks[name], spent = ranks[name] + 1, spent + more
    return ranks


def listing_of(shapes: dict[str, tuple[int, int]]) -> str:
    return ", ".join(f"{name} ({rows} × {columns})" for name, (rows, columns) in list(shapes.items())[:5]) or "none"


def too_small(wanted: int, least: int) -> InputError:
    return InputError(
        f"a budget of {in_words(wanted)} is too small for low_rank", where=f"{WHERE}.budget",
        why=f"with rank 1 everywhere the weights take {in_words(least)} as float32",
        fix="a larger budget, a smaller student, or quantize behind it with a larger one here",
    )  # fmt: skip
