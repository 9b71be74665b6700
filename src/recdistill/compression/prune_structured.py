"""Fewer units, heads, layers or numbers in a vector: what is left is the same architecture with smaller tensors."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from recdistill.compression.base import Compressed, CompressionPass, take_bound
from recdistill.config.importing import import_target
from recdistill.config.plugins import plugin_modules
from recdistill.config.suggest import listing
from recdistill.errors import InputError
from recdistill.models.base import ClosedFormModel, FactorModel, Model
from recdistill.models.build import build
from recdistill.models.fit import Fit
from recdistill.models.mf import MF
from recdistill.models.pieces import Kind, Pieces, without_others

Keep = Annotated[float, Gt(0)]


class PruneStructured(CompressionPass):
    """Leaves out the least important pieces of each layer and rebuilds the model without them.

    A piece is a unit of a perceptron, of a recurrent layer or of the network of a Transformer's block, a channel of a
    convolution, an attention head, a layer that adds to what it gets, or one number of all vectors. An architecture
    that has one number for several layers, such as the heads of all blocks, keeps as many in each, each layer its own
    most important ones.

    Importance is either ``l2``, the sum of squares of all weights of a piece (Li et al., Pruning filters for efficient
    ConvNets, ICLR 2017, with all weights instead of the incoming ones), which needs no data; or ``taylor``, the mean
    over some steps of (∂loss/∂g)², where g = 1 is a factor before what a piece gives, which to first order is how much
    the loss changes without it (Molchanov et al., Importance estimation for neural network pruning, CVPR 2019, eq. 8).
    The loss is that of the training, with the teacher where there is one.

    Args:
        keep: of each kind of piece a share (.5) or a number (2) that is kept, at least one; kinds that the model has
            not are passed over.
        importance: see above.
        steps: of training whose batches ``taylor`` looks at.
        finetune: training of what is left, None for none.
    """

    def __init__(
        self,
        keep: Mapping[Kind, Keep],
        importance: Literal["l2", "taylor"] = "l2",
        steps: Annotated[int, Ge(1)] = 16,
        finetune: Fit | None = None,
    ):
        super().__init__(finetune)
        self.keep, self.importance, self.steps = keep, importance, steps
        for kind, share in keep.items():
            if isinstance(share, float) and share > 1:
                raise InputError(f"keep.{kind}={share} is neither a share nor a number",
                                 where=f"compression.prune_structured.keep.{kind}",
                                 fix=f"a share up to 1.0, or a whole number such as {round(share)}")  # fmt: skip

    @classmethod
    def strengths(cls, node: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**node, "keep": dict.fromkeys(node["keep"], share)} for share in (0.9, 0.75, 0.6, 0.45, 0.3, 0.2, 0.1)]

    @property
    def looks(self) -> bool:
        return self.importance == "taylor"

    def check(self, net: dict[str, Any], earlier: Sequence[CompressionPass]) -> dict[str, Any]:
        where = "compression.prune_structured"
        model: type[Model] = import_target(net["_target_"], where, plugin_modules())
        if any(not isinstance(step, PruneStructured) for step in earlier):
            raise InputError(
                "prune_structured must come before the passes that change how weights are stored or multiplied",
                where="compression", why="it changes the sizes of what they work on",
                fix="put it first: compression=[prune_structured,low_rank,quantize]",
            )  # fmt: skip
        if net.get("table") and "dims" in self.keep:
            raise InputError(
                "the vectors of a compressed table have no numbers to leave out", where=f"{where}.keep.dims",
                why="they are made of parts that all numbers share", fix=f"~{where}.keep.dims",
            )  # fmt: skip
        if self.importance == "taylor" and issubclass(model, ClosedFormModel):
            raise InputError(
                f"{model.__name__} has no loss to take the gradient of", where=f"{where}.importance",
                why="it is computed in one go", fix=f"{where}.importance=l2",
            )  # fmt: skip
        if issubclass(model, FactorModel) and model is not MF:  # is served as the factorisation that it comes to
            net = {"_target_": f"{MF.__module__}.{MF.__name__}", "dim": net.get("dim", 2)}
            model = MF
        after = smaller(model, net, self.keep)
        if after == smaller(model, net, {}):
            has = model.resizable(whole(model, net))
            kept = next(iter(has), None)
            raise InputError(
                f"there is nothing to leave out of {model.__name__}", where=f"{where}.keep",
                why=f"of {listing(has)} all are kept" if has else "its sizes follow from one another",
                fix=f"{where}.keep.{kept}=0.5" if kept else "another student, or compression=[low_rank,quantize]",
            )  # fmt: skip
        return after

    def apply(self, state: Compressed) -> Compressed:
        model = state.model
        net = smaller(type(model), state.net, self.keep)
        importance = self.importances(state)
        chosen = []
        for pieces, values in zip(model.pieces(), importance, strict=True):
            if pieces.kind in self.keep:
                count = kept_of(pieces.count, self.keep[pieces.kind])
                # Sorted by the number among equals, so that it is a function of the model.
                best = values.argsort(descending=True, stable=True)[:count].sort().values
                chosen.append((pieces, best))
        if all(len(kept) == pieces.count for pieces, kept in chosen):
            return state
        with torch.random.fork_rng(devices=[]):
            small = build(net, model.schema)
        weights = without_others({name: part.clone() for name, part in model.state_dict().items()}, chosen)
        wanted = {name: part.shape for name, part in small.state_dict().items()}
        if wanted != {name: part.shape for name, part in weights.items()}:
            raise InputError(
                f"{type(model).__name__} can't have these sizes: what is left has another form",
                where="compression.prune_structured.keep", fix="keep a few more, or a few less",
            )  # fmt: skip
        small.load_state_dict(weights)
        take_bound(small, model)
        return Compressed(small.train(model.training), net)

    def importances(self, state: Compressed) -> list[Tensor]:
        """Of each piece of each of the model's :meth:`~recdistill.models.base.Model.pieces`."""
        pieces: list[Pieces] = state.model.pieces()
        weights = {name: weight.detach() for name, weight in state.model.named_parameters()}
        if self.importance == "l2":
            squares = {name: weight.double().square() for name, weight in weights.items()}
            return [part.total(squares) for part in pieces]
        assert state.gradients is not None, "whoever applies a pass that looks at the data gives it gradients"
        found = [torch.zeros(part.count, dtype=torch.float64) for part in pieces]
        for gradient in state.gradients(self.steps):
            products = {name: gradient[name].double() * weight for name, weight in weights.items() if name in gradient}
            for number, part in enumerate(pieces):
                found[number] += part.total(products, gates=True).square()
        return found


def kept_of(count: int, keep: float) -> int:
    """How many of ``count`` are kept, at least one."""
    return min(count, keep) if isinstance(keep, int) else max(1, round(count * keep))


def given(model: type[Model], net: dict[str, Any]) -> dict[str, Any]:
    """All hyper-parameters, as they are given or by default."""
    parameters = inspect.signature(model).parameters.items()
    return {name: parameter.default for name, parameter in parameters if name != "schema"} | net


def whole(model: type[Model], net: dict[str, Any]) -> dict[str, Any]:
    """All hyper-parameters, in numbers."""
    return model.spelled_out(given(model, net))


def smaller(model: type[Model], net: dict[str, Any], keep: Mapping[Any, float]) -> dict[str, Any]:
    """The hyper-parameters of what is left."""
    before, spelled = given(model, net), whole(model, net)
    changed = {key: value for key, value in spelled.items() if value != before[key]}
    for kind, keys in model.resizable(spelled).items():
        for key in keys:
            sizes, share = spelled[key], keep.get(kind, 1.0)
            changed[key] = kept_of(sizes, share) if isinstance(sizes, int) else [kept_of(n, share) for n in sizes]
    return {**net, **changed}
