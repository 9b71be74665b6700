"""What a compression pass does, and how its result stays compressed while it is fine-tuned.

A pass changes the weights and says how they are to be stored (a :class:`~recdistill.export.packing.Codec` per
tensor). Fine-tuning then trains under exactly these constraints: zeros stay zero, and the forward pass sees
quantized weights, with gradients passed straight through the rounding.

The life of a model under constraints: :func:`constrain`, training, :func:`release`, then
:func:`~recdistill.export.bundle.save_model` with the same codecs and clips, which stores what the forward
pass saw. Read back, it is on the grid, and rounding it again without clips changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from recdistill.compression.gradual import Gradual
from recdistill.export.packing import Bits, Codec, rounded
from recdistill.models.base import FactorModel, Model
from recdistill.models.build import build
from recdistill.models.fit import Fit
from recdistill.models.mf import MF
from recdistill.models.tables.base import tables_of
from recdistill.models.tied import TiedSequenceModel

CLIPS, ANCHORS = "clips.safetensors", "anchors.safetensors"
HINT = ":hint"  # among the anchors, which have names of tables


@dataclass
class Compressed:
    """A model on its way through the passes.

    Attributes:
        model: the model; its weights are float32, already at the values that will be stored, or latent ones
            that rounding brings there.
        net: ``_target_`` and hyper-parameters that rebuild it.
        codecs: how tensors of its state dict are stored, where not as dense float32.
        clips: of quantized tensors, ``[rows]``; none for a tensor whose largest values are kept.
        gradual: arguments of :class:`~recdistill.compression.gradual.Gradual` for the sparse tensors, whose zeros come
            while it is fine-tuned; empty where they are there.
        gradients: those of the training loss by name of the parameter, for so many steps; None where there are none.
        anchors: by the name of a compressed table, the vectors ``[rows, dim]`` that it stands for.
        hint: weight of the distance to these in the loss of a fine-tuning.
        train: the training part, for what has to be counted there.
    """

    model: Model
    net: dict[str, Any]
    codecs: dict[str, Codec] = field(default_factory=dict)
    clips: dict[str, Tensor] = field(default_factory=dict)
    gradual: dict[str, Any] = field(default_factory=dict)
    gradients: Callable[[int], Iterator[dict[str, Tensor]]] | None = None
    anchors: dict[str, Tensor] = field(default_factory=dict)
    hint: float = 0.0
    train: Any = None


class CompressionPass:
    """One step of compression.

    Args:
        finetune: training afterwards, under the teacher where there is one; None for none.
    """

    def __init__(self, finetune: Fit | None = None):
        self.finetune = finetune

    @classmethod
    def strengths(cls, node: dict[str, Any]) -> list[dict[str, Any]]:
        """Configs of this pass to choose from by a budget, the mildest first; ``node`` is the one that was given."""
        return [node]

    @classmethod
    def untrained(cls, node: dict[str, Any]) -> dict[str, Any]:
        """The config of a pass that makes a file as large as this one does, without a fine-tuning."""
        return {**node, "finetune": None}

    @property
    def looks(self) -> bool:
        """Whether it looks at the gradients of the training loss."""
        return False

    def check(self, net: dict[str, Any], earlier: Sequence[CompressionPass]) -> dict[str, Any]:  # noqa: ARG002
        """Refuse what can't work, before anything is trained.

        Args:
            net: config of the model as the earlier passes leave it.
            earlier: the passes before this one.

        Returns:
            The config of the model as this pass leaves it.

        Raises:
            InputError: the pass can't be applied to such a model, or not in this place.
        """
        return net

    def apply(self, state: Compressed) -> Compressed:
        """The compressed model. ``state`` may be changed."""
        raise NotImplementedError


def tables(model: nn.Module) -> dict[str, Tensor]:
    """The tensors that passes work on: weights of two dimensions or more, by their name in the state dict."""
    state = model.state_dict()
    return {name: table for name, table in state.items() if table.dim() >= 2 and table.is_floating_point()}


def materialised(model: Model, net: dict[str, Any]) -> Compressed:
    """The model as it is served: one that derives its factors from a graph or from features becomes a plain
    factorisation; one that fuses features into its items' table has the vectors that came of it in this table."""
    if isinstance(model, MF | TiedSequenceModel) and model.fused is not None:
        return _with_table(model, net)
    if not isinstance(model, FactorModel) or type(model) is MF:
        return Compressed(model, net)
    with torch.inference_mode():
        user, item = model.factors()
    return from_factors(model, user, item)


def from_factors(model: Model, user: Tensor, item: Tensor) -> Compressed:
    """An MF with these vectors."""
    net = {"_target_": "recdistill.models.mf.MF", "dim": user.shape[1]}
    with torch.random.fork_rng(devices=[]):
        plain = MF(model.schema, dim=user.shape[1])
    plain.load_state_dict({"user.weight": user.clone().float(), "item.weight": item.clone().float()})
    return Compressed(plain.eval(), net)


def _with_table(model: MF | TiedSequenceModel, net: dict[str, Any]) -> Compressed:
    """The same model with its items' vectors in a table."""
    net = {key: value for key, value in net.items() if key not in ("fusion", "features", "adapter")}
    with torch.inference_mode():
        vectors = model.item_vectors().clone()
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("fused.")}
    with torch.random.fork_rng(devices=[]):
        plain = build(net, model.schema)
    plain.load_state_dict(state | {"item.weight": vectors})
    return Compressed(plain.eval(), net)


def take_bound(small: Model, model: Model) -> None:
    """Buffers that are not stored, such as those of :meth:`~recdistill.models.base.Model.bind`, in a smaller
    model."""
    for name, buffer in model.named_buffers():
        path, _, leaf = name.rpartition(".")
        owner = small.get_submodule(path) if path in dict(small.named_modules()) else None
        if owner is not None and leaf in model.get_submodule(path)._non_persistent_buffers_set:
            owner.register_buffer(leaf, buffer, persistent=False)


def read_latent(folder: Path, model: Model, net: dict[str, Any], codecs: dict[str, Codec]) -> Compressed:
    """A model to be fine-tuned, with what stands beside its weights in ``folder``.

    Args:
        folder: as the stage of compression wrote it.
        model: read from there.
        net: its config.
        codecs: the constraints that it must keep.
    """
    clips, anchors = (_tensors(folder / name) for name in (CLIPS, ANCHORS))
    hint = anchors.pop(HINT, torch.zeros(()))
    return Compressed(model, net, codecs, clips, anchors=anchors, hint=float(hint))


def _tensors(file: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(file) if file.exists() else {}


class _Masked(nn.Module):
    """Keeps zeros zero."""

    kept: Tensor

    def __init__(self, kept: Tensor):
        super().__init__()
        self.register_buffer("kept", kept, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.kept


class _Rounded(nn.Module):
    """Rounds to the grid that is stored; the gradient passes as if nothing had happened."""

    clip: Tensor | None

    def __init__(self, bits: Bits, clip: Tensor | None):
        super().__init__()
        self.bits = bits
        self.register_buffer("clip", clip, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        with torch.no_grad():
            stored = rounded(weight, self.bits, self.clip)
        # An exact zero is added, so that the forward pass is on the grid to the last bit.
        return stored + (weight - weight.detach())


def constrain(state: Compressed) -> None:
    """Make the model's forward pass see what will be stored, so that training adapts to it."""
    for name, table in tables_of(state.model).items():
        table.loosen()
        if name in state.anchors:
            table.hold(state.anchors[name], state.hint)
    parameters = dict(state.model.named_parameters())
    for name, codec in state.codecs.items():
        if name not in parameters:
            continue
        path, _, leaf = name.rpartition(".")
        owner = state.model.get_submodule(path)
        if codec.sparse:
            weight = parameters[name]
            rule = Gradual(weight.shape, **state.gradual) if state.gradual else _Masked((weight != 0).float())
            parametrize.register_parametrization(owner, leaf, rule)
        if codec.bits != 32:
            parametrize.register_parametrization(owner, leaf, _Rounded(codec.bits, state.clips.get(name)))


def release(model: nn.Module) -> None:
    """Undo :func:`constrain`: the weights become the latent ones, with their zeros, which packing rounds as
    the forward pass did. Compressed tables settle first: their codes are chosen among the rounded vectors."""
    for table in tables_of(model).values():
        table.settle()
    for module in list(model.modules()):
        for leaf, steps in list(getattr(module, "parametrizations", {}).items()):
            latent = steps.original.detach().clone()
            for step in steps:
                if isinstance(step, Gradual) and not step.settled:  # a training that was shorter than its schedule
                    step.choose(latent, step.sparsity)
                if isinstance(step, _Masked | Gradual):
                    latent = step(latent).detach()
            parametrize.remove_parametrizations(module, leaf, leave_parametrized=False)
            with torch.no_grad():
                getattr(module, leaf).copy_(latent)
