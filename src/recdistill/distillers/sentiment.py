"""An auxiliary task: the student's vectors also say whether a review was a good one."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from recdistill.data.interactions import Interactions
from recdistill.distillers.base import Distiller, ListView, Moment, Needs, Setting
from recdistill.distillers.schedules import Weight
from recdistill.errors import InputError

KEPT = 0.1  # share of the reviews that the head does not learn from
MOST = 10_000  # of these


def sentiment_of(score: Tensor, low: float, high: float) -> Tensor:
    """0 (bad) up to ``low``, 2 (good) from ``high`` on, 1 between; -1 where there is none: int64 ``[N]``."""
    found = 1 + (score >= high).long() - (score <= low).long()
    return found.masked_fill(score.isnan(), -1)


def mean_recall(said: Tensor, label: Tensor) -> Tensor:
    """The share of each class of ``label`` that is ``said``, and their mean over the classes that occur: a scalar, 1/3
    for whoever always says the same of three."""
    there = torch.bincount(label, minlength=3)
    right = torch.bincount(label[said == label], minlength=3)
    return (right / there.clamp(min=1)).sum() / (there > 0).sum().clamp(min=1)


class AuxSentiment(Distiller):
    """Cross-entropy of a head on [u ∘ v; u; v], the student's vectors of a user and an item, for the sentiment of that
    user's review: bad, neutral or good by its stars. Multi-task learning with shared vectors; the head is thrown away.

    It learns from events of the training part alone, and teaches nothing of the teacher: choose it beside other
    distillers. Of a tenth of these events, at most 10,000, which it does not learn from, it logs at the start of each
    epoch how many it gets right, and the mean over the three classes of how many, which few bad reviews don't hide in.

    Source: Caruana, Multitask learning, 1997; McAuley and Leskovec, Hidden factors and hidden topics, RecSys 2013, for
    vectors that are shared by a recommender and what reviews say.

    Args:
        score: name of a numeric feature of events, such as a score that another program made of the review's text; None
            for the value of the event, its stars.
        low, high: up to which score a review is bad, and from which on it is good.
        rows: reviews per step.
        weight: factor among the distillers.

    Raises:
        InputError: the student has no vectors, or the training part no such score or no events.
        ValueError: ``low`` is not below ``high``.
    """

    tasks = ("ranking",)
    teaches = False
    measured: Tensor
    user: Tensor
    item: Tensor
    label: Tensor

    def __init__(
        self,
        score: str | None = None,
        low: float = 2.0,
        high: float = 4.0,
        rows: Annotated[int, Ge(1)] = 1024,
        weight: Weight = 0.1,
    ):
        super().__init__(weight)
        if low >= high:
            raise ValueError(f"low={low:g} must be below high={high:g}")
        self.score, self.low, self.high, self.rows = score, low, high, rows

    def needs(self) -> Needs:
        return Needs()

    def prepare(self, setting: Setting) -> None:
        if not setting.student_dim:
            raise InputError(
                "aux_sentiment needs a student with user and item vectors", where="distiller",
                fix="choose student=mf, or leave it out",
            )  # fmt: skip
        train: Interactions = setting.train
        label = sentiment_of(scores_of(train, self.score), self.low, self.high)
        at = (label >= 0).nonzero().flatten()
        at = at[torch.randperm(len(at), generator=torch.Generator().manual_seed(0))]
        self.kept = min(round(KEPT * len(at)), MOST)
        for name, column in (("user", train.user), ("item", train.item), ("label", label)):
            self.register_buffer(name, column[at], persistent=False)
        self.register_buffer("measured", torch.zeros(2))
        self.classifier = nn.Linear(3 * setting.student_dim, 3)

    def start_epoch(self, moment: Moment) -> None:
        kept = slice(self.kept)
        with torch.no_grad():
            said = self.logits(moment.student(self.user[kept]), self.item[kept]).argmax(-1)
        label = self.label[kept]
        right = (said == label).sum() / max(len(label), 1)
        self.measured.copy_(torch.stack([right, mean_recall(said, label)]))

    def advance(self, progress: float) -> dict[str, float]:
        names = ("accuracy", "balanced_accuracy")
        return super().advance(progress) | dict(zip(names, map(float, self.measured), strict=True))

    def logits(self, student: ListView, items: Tensor) -> Tensor:
        """``[n, 3]``, for as many users as items."""
        u, v = student.user_vectors(), student.item_vectors(items)
        found: Tensor = self.classifier(torch.cat([u * v, u, v], -1))
        return found

    def forward(self, student: Any, teacher: Any, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        drawn = torch.randint(self.kept, len(self.label), (self.rows,), generator=rng, device=self.label.device)
        return F.cross_entropy(self.logits(student.of(self.user[drawn]), self.item[drawn]), self.label[drawn])


def scores_of(train: Interactions, name: str | None) -> Tensor:
    """float ``[N]``, a score for each event; NaN where it is missing.

    Raises:
        InputError: events have none, or there are no events.
    """
    found = train.value if name is None else train.context.numeric.get(name)
    if found is not None and not len(found):
        raise InputError(
            "aux_sentiment learns from reviews with a label, of which there are none", where="data.label_fraction",
            why="it is so small that no event of the training part keeps its label",
            fix="data.label_fraction=0.1, or leave out aux_sentiment",
        )  # fmt: skip
    if found is None or not bool(found.isfinite().any()):
        known = ", ".join(train.context.numeric)
        raise InputError(
            "aux_sentiment needs a score of each review, and the training part has "
            + ("no ratings" if name is None else f"no numeric feature '{name}' of events"),
            where="distiller.aux_sentiment.score", why=f"its events have: {known}" if known else "",
            fix="data with ratings, such as data=amazon_reviews, or distiller.aux_sentiment.score=NAME of a feature",
        )  # fmt: skip
    return found
