"""Distillation of a language model's lists, of which some places are to be trusted more than others."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional as F

from recdistill.distillers.base import Distiller, ListView, Moment, Needs, Setting, on_list
from recdistill.distillers.discrepancy import isin
from recdistill.distillers.lists import FLOOR, unlisted, usual_others
from recdistill.distillers.positions import position_weights, rd_loss
from recdistill.distillers.ranked_lists import RankedLists, catalogue_size
from recdistill.distillers.schedules import Temperature, Weight, most


def importance(place: Tensor, confidence: Tensor, agreed: Tensor, listed: Tensor, shares: tuple[float, ...]) -> Tensor:
    """w_r ∝ γ_p w_p(r) + γ_c w_c(r) + γ_o w_o(r) of the places of each list, ``[Q, K]``, with sum 1: w_p and w_c are
    themselves brought to sum 1 over a list, w_o is 1 where both models agree.

    Where all three say nothing, places weigh alike; those behind the end of a list weigh 0.

    Args:
        place: ``[K]``, at least 0.
        confidence: ``[Q, K]``, at least 0.
        agreed: bool ``[Q, K]``, whether the student has the item among its own first K, too.
        listed: bool ``[Q, K]``, False behind the end of a short list.
        shares: γ_p, γ_c and γ_o.
    """
    parts = (to_sum_1(place * listed), to_sum_1(confidence * listed), agreed.to(place.dtype))
    raw = torch.stack([share * part for share, part in zip(shares, parts, strict=True)]).sum(0) * listed
    said = raw.sum(-1, keepdim=True) > 0
    return to_sum_1(torch.where(said, raw, listed.to(raw.dtype)))


def to_sum_1(weights: Tensor) -> Tensor:
    """Each row of ``[Q, K]`` divided by its sum; rows of zeros stay so."""
    total = weights.sum(-1, keepdim=True)
    return weights / torch.where(total > 0, total, 1)


class DLLM2Rec(Distiller):
    """Importance-aware ranking distillation: the items of the teacher's list as positives, weighted by
    :func:`importance`, in the form of the student's own hard loss:

    ===========  ================================================================================================
    ``bce``      -Σ_r w_r log σ(z_r), less the mean of log(1 - σ(z_j)) over random items j that are not on the list
    ``softmax``  -Σ_r w_r log softmax(z)_r, over the catalogue or over the list and random items beside it
    ===========  ================================================================================================

    Source: Cui et al., Distillation matters: empowering sequential recommenders to match the performance of large
    language models, RecSys 2024; the shares γ and e^-r are those of its public code. Its confidence
    e^-d, of the distance d between what the model wrote and the item, is here a column of the file
    (:class:`~recdistill.models.given.GivenLists`), or the teacher's softmax over its list; its base loss is binary
    cross-entropy with the term of DROS, here ``bce`` or ``softmax``. The other half of the method, which adds a map of
    the items' text vectors to the student's, e_i + β W e_LLM,i, is ``student.net.fusion=add``
    (:class:`~recdistill.models.fusion.ItemFusion`).

    Args:
        k: length of the teacher's list, and of the student's own that it is compared with.
        position, confidence, agreement: the shares γ_p, γ_c and γ_o.
        confidences: ``scores`` for the teacher's softmax over its list; ``given`` for those that came with a list.
        position_temperature: of w_p(r) ∝ e^(-r / temperature).
        temperature: of that softmax.
        loss: see above.
        negatives: random items beside the list, shared by the queries of a step, of which training items do not count.
            Of ``softmax``, 0 takes the whole catalogue, and None too where the hard loss scores it anyway, or where it
            is small; else, and of ``bce``, None is 500.
        every: epochs between two looks at the student's list, each of which scores the catalogue for all queries; the
            public code ranks it at each step.
        weight: factor among the distillers.

    Raises:
        ValueError: all shares are 0, or ``bce`` is to have no negatives.
    """

    per_query = True
    temperature: float

    def __init__(
        self,
        k: Annotated[int, Ge(1)] = 10,
        position: Weight = 0.3,
        confidence: Weight = 0.5,
        agreement: Weight = 0.1,
        confidences: Literal["scores", "given"] = "scores",
        position_temperature: Temperature = 1.0,
        temperature: Temperature = 1.0,
        loss: Literal["bce", "softmax"] = "softmax",
        negatives: Annotated[int, Ge(0)] | None = None,
        every: Annotated[int, Ge(1)] = 10,
        weight: Weight = 1.0,
    ):
        super().__init__(weight)
        if not any(map(most, (position, confidence, agreement))):
            raise ValueError("position, confidence and agreement are all 0, so that no place of a list has a weight")
        if loss == "bce" and negatives == 0:
            raise ValueError("loss=bce needs negatives, at least 1")
        self.k, self.confidences = k, confidences
        self.position: float = position  # type: ignore[assignment]
        self.confidence: float = confidence  # type: ignore[assignment]
        self.agreement: float = agreement  # type: ignore[assignment]
        self.position_temperature: float = position_temperature  # type: ignore[assignment]
        self.temperature = temperature  # type: ignore[assignment]
        self.loss, self.negatives, self.every = loss, negatives, every
        self.compares = most(agreement) > 0

    @property
    def shares(self) -> tuple[float, float, float]:
        """γ_p, γ_c and γ_o of the moment."""
        return self.position, self.confidence, self.agreement

    def needs(self) -> Needs:
        return Needs(top_k=self.k, confidences=self.confidences == "given")

    def prepare(self, setting: Setting) -> None:
        if self.loss == "bce":
            self.negatives = self.negatives or 500
        elif self.negatives is None and setting.whole:
            self.negatives = 0
        self.negatives = usual_others(self.negatives, setting)
        if self.compares:
            self.own = RankedLists(setting.queries, self.k)

    def start_epoch(self, moment: Moment) -> None:
        if self.compares and moment.epoch % self.every == 0:
            size = catalogue_size(moment.student, moment.rng.device)
            self.own.refresh(lambda queries: moment.student(queries).top_items(self.k), size)

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        items, top_t = teacher.top_items(self.k)
        listed, top = on_list(top_t), student.scores(items)
        weights = self.weights(student, teacher, items, top_t)
        if not self.negatives:
            return -(weights * (top - student.log_normaliser().unsqueeze(-1))).sum(-1)
        rest = unlisted(items, listed, student, self.negatives, rng)
        if self.loss == "softmax":
            both = torch.cat([top.masked_fill(~listed, FLOOR), rest], -1)
            return -(weights * (top - both.logsumexp(-1, keepdim=True))).sum(-1)
        counted = (rest > FLOOR) & listed.any(-1, keepdim=True)
        return rd_loss(top, weights) + (F.softplus(rest) * counted).sum(-1) / counted.sum(-1).clamp(min=1)

    def weights(self, student: ListView, teacher: ListView, items: Tensor, top_t: Tensor) -> Tensor:
        """Of the places of the teacher's lists, ``[Q, K]``, without gradients."""
        listed = on_list(top_t)
        if self.confidences == "given":
            sure = teacher.top_confidences(self.k).to(top_t.dtype)
        else:
            sure = (top_t / self.temperature).masked_fill(~listed, FLOOR).softmax(-1)
        agreed = torch.zeros_like(listed)
        if self.compares:
            agreed = isin(items, *self.own.of(student.users)) & listed
        place = position_weights(items.shape[1], self.position_temperature, items.device).to(top_t.dtype)
        return importance(place, sure, agreed, listed, self.shares)
