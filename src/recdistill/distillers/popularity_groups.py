"""Distillation inside groups of items of like popularity, without the teacher's bias towards popular ones."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional as F

from recdistill.distillers.base import Distiller, ListView, Moment, Needs, Setting
from recdistill.distillers.ranked_lists import RankedLists, catalogue_size
from recdistill.distillers.schedules import Temperature, Weight


def popularity_groups(popularity: Tensor, groups: int) -> Tensor:
    """The group of each item, int64 ``[n_items]``, from 0, the most popular: ranked by popularity, the items are cut
    where its running total passes a ``groups``-th of the whole. A group that one item outweighs stays empty."""
    order = popularity.argsort(descending=True, stable=True)
    before = popularity[order].cumsum(0) - popularity[order]
    found = torch.empty_like(order)
    found[order] = (before * groups // popularity.sum().clamp(min=1)).clamp(max=groups - 1)
    return found


def quotas(popularity: Tensor, group: Tensor, groups: int, count: int, power: float) -> Tensor:
    """How many of ``count`` pairs each group gets, int64 ``[groups]``: in proportion to
    (highest + lowest - own mean popularity)^power, none for a group without a pair of items. Where nothing is popular
    all means are 0, and the groups get the same: the limit of means that are alike."""
    size = torch.bincount(group, minlength=groups)
    mean = torch.bincount(group, popularity.double(), minlength=groups) / size.clamp(min=1)
    usable = size > 1
    if not bool(usable.any()):
        return torch.zeros_like(size)
    share = (mean[usable].max() + mean[usable].min() - mean).clamp(min=0) ** power * usable
    if not bool(share.any()):
        share = usable.double()
    return torch.cat([share.new_zeros(1), share.cumsum(0) / share.sum() * count]).round().diff().long()


def pair_loss(better: Tensor, worse: Tensor, drawn: Tensor) -> Tensor:
    """-mean of log σ(z_better - z_worse) over the pairs of each row ``[Q, n]`` that were drawn: ``[Q]``."""
    return -(F.logsigmoid(better - worse) * drawn).sum(-1) / drawn.sum(-1).clamp(min=1)


class UnKD(Distiller):
    """Unbiased distillation: :func:`pair_loss` on pairs of one group of items, the better one being that which the
    teacher ranks higher.

    Items are in groups of equal total popularity. Both items of a pair are drawn by p(rank in the group) ∝
    exp(-rank / T); training items are left out, and those that the teacher does not rank. A pair of one item, or of two
    that the teacher scores alike, does not count.

    Source: Chen et al., Unbiased knowledge distillation for recommendation, WSDM 2023; draw and quotas as in its
    authors' code.

    Args:
        groups: how many.
        pairs: per user, over all groups.
        pool: length of the teacher's list in each group.
        position_temperature: T of the draw.
        quota_power: how much more pairs less popular groups get; 0 gives all the same.
        weight: factor among the distillers.
    """

    per_query = True
    quota: Tensor
    group: Tensor

    def __init__(
        self,
        groups: Annotated[int, Ge(1)] = 4,
        pairs: Annotated[int, Ge(1)] = 30,
        pool: Annotated[int, Ge(2)] = 100,
        position_temperature: Temperature = 20.0,
        quota_power: Annotated[float, Ge(0)] = 1.0,
        weight: Weight = 1.0,
    ):
        super().__init__(weight)
        self.groups, self.pairs, self.pool = groups, pairs, pool
        self.position_temperature: float = position_temperature  # type: ignore[assignment]
        self.quota_power = quota_power

    def needs(self) -> Needs:
        return Needs(scores=True)

    def prepare(self, setting: Setting) -> None:
        popularity = torch.bincount(setting.train.item, minlength=setting.train.n_items)
        self.register_buffer("group", popularity_groups(popularity, self.groups), persistent=False)
        quota = quotas(popularity, self.group, self.groups, self.pairs, self.quota_power)
        self.register_buffer("quota", torch.arange(self.groups).repeat_interleave(quota), persistent=False)
        # The teacher's lists: one of each group, behind each other.
        self.lists = RankedLists(setting.queries, self.groups * self.pool, scored=True)

    def start_epoch(self, moment: Moment) -> None:
        if moment.epoch == 0 or moment.teacher_changes:
            size = catalogue_size(moment.student, moment.rng.device)
            self.lists.refresh(lambda queries: self.ranked(moment.teacher(queries), moment.student(queries)), size)

    def ranked(self, teacher: ListView, student: ListView) -> tuple[Tensor, Tensor]:
        """The teacher's lists of all groups, ids and scores ``[Q, groups * pool]``."""
        scores = teacher.ranked_scores()
        row, item = student.seen_pairs()
        scores[row, item] = -torch.inf
        found_items, found_scores = [], []
        for number in range(self.groups):
            members = (self.group == number).nonzero().squeeze(1)
            values, places = scores[:, members].topk(min(self.pool, len(members)))
            missing = self.pool - values.shape[1]
            found_items.append(F.pad(members[places], (0, missing)))
            found_scores.append(F.pad(values, (0, missing), value=-torch.inf))
        return torch.cat(found_items, -1), torch.cat(found_scores, -1)

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        items, listed = self.lists.of(student.users)
        lengths = listed.view(len(items), self.groups, self.pool).sum(-1)[:, self.quota]  # [Q, n]
        uniform = torch.rand(2, *lengths.shape, generator=rng, device=items.device)
        ranks = truncated_geometric(uniform, lengths, self.position_temperature)
        # Of both the places on the lists, and what the teacher gives them: of a pair of one item that is the same.
        pair = [self.quota * self.pool + place for place in (ranks.amin(0), ranks.amax(0))]
        better, worse = (student.scores(items.gather(1, place)) for place in pair)
        higher, lower = (self.lists.scores[student.users].gather(1, place) for place in pair)
        return pair_loss(better, worse, higher > lower)


def truncated_geometric(uniform: Tensor, lengths: Tensor, temperature: float) -> Tensor:
    """Ranks from 0, int64, with p(rank) ∝ exp(-rank / temperature) below ``lengths``, from numbers in [0, 1); 0 where a
    length is 0."""
    mass = -torch.expm1(-lengths / temperature)
    ranks = (-temperature * torch.log1p(-uniform * mass)).long()
    return torch.minimum(ranks, (lengths - 1).clamp(min=0))
