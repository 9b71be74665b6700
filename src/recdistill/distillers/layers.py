"""Distillation of what models compute on the way: the outputs of their layers, of rows of a table and of histories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn

from recdistill.distillers.base import TABLES, Distiller, Needs, Setting, View, some_of, spread
from recdistill.distillers.features import Mapper, mapper_of
from recdistill.distillers.schedules import Weight

Layers = Annotated[Mapping[str, str], MinLen(1)]
SMALL = 1e-9  # what is below it counts as it


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(a_t ‖ a_s) of each row of ``[Q, n]``: ``[Q]``, where a are the weights of the places that the student sees
    (those where its own are above 0), divided by their sum."""
    seen = student > 0
    a_t = teacher * seen
    a_t = a_t / a_t.sum(-1, keepdim=True).clamp(min=SMALL)
    a_s = student / student.sum(-1, keepdim=True).clamp(min=SMALL)
    return (a_t * (a_t.clamp(min=SMALL).log() - a_s.clamp(min=SMALL).log())).sum(-1)


class Paired(Distiller):
    """What compares layers of the student with layers of the teacher.

    Attributes:
        pairs: submodules of the student, and which of the teacher's each learns from. Where the roles are swapped, a
            layer may learn from several.
    """

    pairs: tuple[tuple[str, str], ...] = ()

    def pair(self, pairs: Iterable[tuple[str, str]]) -> None:
        self.pairs = tuple(pairs)
        self.layers = tuple(dict.fromkeys(own for own, _ in self.pairs))

    def swap(self) -> None:
        self.pair((its, own) for own, its in self.pairs)

    def needs(self) -> Needs:
        return Needs(layers=tuple(sorted({its for _, its in self.pairs})))


class LayerDistiller(Paired):
    """Base of losses between pairs of layers.

    Args:
        layers: submodules of the student, and which of the teacher's each learns from.
        weight: factor among the distillers.
    """

    per_query = True

    def __init__(self, layers: Layers, weight: Weight = 1.0):
        super().__init__(weight)
        self.pair(layers.items())


class LayerHints(LayerDistiller):
    """‖h_t - g(h_s)‖² / d_t of each query, mean over pairs of layers, with a map g for each.

    Of a sequence model a layer's output is that at the last place of a history. "trunk" is the last hidden layer of any
    model that has one; a name that is of no layer is answered with those that there are.

    Source: Romero et al., FitNets, ICLR 2015, eq. 3; several pairs of layers as in Jiao et al., TinyBERT, Findings of
    EMNLP 2020.

    Args:
        layers: submodules of the student, and which of the teacher's each learns from.
        mapper: what g is: linear, "mlp" with a hidden layer of the mean width, or "none" between outputs of one width.
        rows: most queries of a step, or of a process's part of it.
        weight: factor among the distillers.

    Raises:
        InputError: a model has no such layer, or no map is wanted and the widths differ.
    """

    tasks = ("sequence", *TABLES)

    def __init__(
        self, layers: Layers, mapper: Mapper = "linear", rows: Annotated[int, Ge(1)] = 512, weight: Weight = 1.0
    ):
        super().__init__(layers, weight)
        self.mapper, self.rows = mapper, rows

    def prepare(self, setting: Setting) -> None:
        self.maps = nn.ModuleList(
            mapper_of(self.mapper, setting.student_layers[own], setting.teacher_layers[its]) for own, its in self.pairs
        )

    def forward(self, student: View, teacher: View, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        chosen = some_of(len(student.users), self.rows, student.users.device)
        gaps = [
            (teacher.layer(its, chosen) - mapping(student.layer(own, chosen))).square().mean(-1)
            for mapping, (own, its) in zip(self.maps, self.pairs, strict=True)
        ]
        return spread(torch.stack(gaps).mean(0), chosen, len(student.users))


class AttentionHints(LayerDistiller):
    """:func:`attention_loss` of what the last place of a history attends to, the mean of the heads, of each query, mean
    over pairs of attentions. It is about the last 50 places, counted from the last, so that lengths need not agree.

    "attention" is the last one of a model. In training the student may see less of a history than the teacher, whose
    weights are then those of what it sees too.

    Source: Jiao et al., TinyBERT, Findings of EMNLP 2020, whose loss is the squared distance of the scores
    before the softmax, head by head: heads need not be as many here.

    Args:
        layers: names of the student's weights, and of the teacher's that each learns from, such as
            ``blocks.0.attention.weights``.
        weight: factor among the distillers.

    Raises:
        InputError: a model has no attention, or not of this name.
    """

    tasks = ("sequence",)

    def forward(self, student: View, teacher: View, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        losses = [attention_loss(student.layer(own), teacher.layer(its)) for own, its in self.pairs]
        return torch.stack(losses).mean(0)
