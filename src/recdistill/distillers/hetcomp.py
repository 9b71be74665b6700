"""Distillation of several teachers from easy to hard: what they ranked early in their training, then at its end."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from recdistill.distillers.base import Distiller, ListView, Moment, Needs, Setting, on_list
from recdistill.distillers.discrepancy import isin
from recdistill.distillers.lists import FLOOR, rrd_loss, unlisted
from recdistill.distillers.ranked_lists import Lists, catalogue_size
from recdistill.distillers.schedules import Weight
from recdistill.distillers.signals import portions
from recdistill.errors import InputError


def importance(places: int, device: torch.device) -> Tensor:
    """e^(-r/10) of the places r = 0, 1, ... of a list."""
    return torch.exp(-torch.arange(places, device=device) / 10)


def distance(student: Lists, teacher: Lists) -> Tensor:
    """1 - NDCG ``[Q]`` of the student's list against the teacher's: an item of the latter gains 2^(e^(-r/10)) - 1 at
    the student's place r, whatever the teacher's, and the best is a list of such items alone."""
    (items, listed), (of_teacher, there) = student, teacher
    place = torch.arange(items.shape[1], device=items.device)
    gain = (2 ** importance(len(place), items.device) - 1) / torch.log2(place + 2.0)
    found = isin(items, of_teacher, there) & listed
    best = gain.cumsum(0)[(there.sum(-1).clamp(max=len(place)) - 1).clamp(min=0)]
    return 1 - (found * gain).sum(-1) / best


def consensus(lists: Tensor, listed: Tensor, k: int) -> Lists:
    """The k items with the largest sums of :func:`importance` over several lists ``[F, Q, K]``, best first: ``[Q, k]``,
    and which places hold one. Of equal sums the item of the first list that has one comes first."""
    families, rows, length = lists.shape
    weight = importance(length, lists.device) * listed
    items, weight = lists.transpose(0, 1).flatten(1), weight.transpose(0, 1).flatten(1)
    items = items.masked_fill(weight == 0, -1)
    by_id, order = items.sort(dim=-1, stable=True)
    new = torch.ones_like(by_id, dtype=torch.bool)
    new[:, 1:] = by_id[:, 1:] != by_id[:, :-1]
    group = new.cumsum(-1) - 1
    sums = weight.new_zeros(rows, families * length).scatter_add_(1, group, weight.gather(1, order))
    total = torch.zeros_like(weight).scatter_(1, order, sums.gather(1, group) * new)
    score, at = total.sort(dim=-1, descending=True, stable=True)
    return items.gather(1, at)[:, :k].clamp(min=0), score[:, :k] > 0


def set_loss(top: Tensor, rest: Tensor, listed: Tensor) -> Tensor:
    """Mean over k of -log(e^{z_k} / (e^{z_k} + Σ_l e^{z_l})) of each row ``[Q]``: every item of a list above the rest,
    in any order. 0 where no list is.

    Args:
        top: the student's scores ``[Q, K]`` of the list.
        rest: those ``[Q, L]`` of other items.
        listed: bool ``[Q, K]``, False behind the end of a short list.
    """
    terms = torch.logaddexp(top, rest.logsumexp(-1, keepdim=True)) - top
    return (terms * listed).sum(-1) / listed.sum(-1).clamp(min=1)


def order_loss(top: Tensor, rest: Tensor, listed: Tensor) -> Tensor:
    """:func:`~recdistill.distillers.lists.rrd_loss` per item of the list; arguments as of :func:`set_loss`."""
    return rrd_loss(top, rest, listed) / listed.sum(-1).clamp(min=1)


class HetComp(Distiller):
    """Several models teach one student, each by lists from several moments of its training, the easiest first.

    The members of the teacher are models of ``families`` in their order, as many of each, weak to strong, such as
    checkpoints. A query begins with the first list of each family, and goes on to the next one where

        d before / d now > ``pace`` · 0.995^looks,    d = :func:`distance` between the student's list and that next one

    that is, where the student has come nearer to it since the last move. What is taught is the :func:`consensus` of
    the families' lists: its set (:func:`set_loss`), and its order (:func:`order_loss`) once a query has the last list
    of every family.

    Source: Kang et al., Distillation from heterogeneous models for top-K recommendation, WWW 2023; the condition, the
    weights of places and the looks as in a version of the authors' code, which looks every 10 of up to 1000 epochs and
    teaches order once all users are at the end. Here there are fewer epochs: from ``until`` on everybody is at the end;
    the rest of the catalogue is sampled; and the student's own items are left to the hard loss.

    Args:
        k: length of the lists.
        families: how many models the members are checkpoints of.
        pace: how much nearer is near enough, first.
        every: epochs between two looks at the student's lists, each of which scores the catalogue for all queries.
        until: share of the epochs after which all are at the end.
        uninteresting: random items below the list, shared by the queries of a step.
        weight: factor among the distillers.

    Raises:
        InputError: the members can't be shared out over the families.
    """

    per_query = True
    place: Tensor
    before: Tensor
    looks: Tensor

    def __init__(
        self,
        k: Annotated[int, Ge(1)] = 50,
        families: Annotated[int, Ge(1)] = 1,
        pace: Annotated[float, Ge(0)] = 1.05,
        every: Annotated[int, Ge(1)] = 2,
        until: Annotated[float, Interval(ge=0, le=1)] = 0.5,
        uninteresting: Annotated[int, Ge(1)] = 500,
        weight: Weight = 1.0,
    ):
        super().__init__(weight)
        self.k, self.families, self.pace = k, families, pace
        self.every, self.until, self.uninteresting = every, until, uninteresting
        self.last = 0

    def needs(self) -> Needs:
        return Needs(top_k=self.k, members=True)

    def prepare(self, setting: Setting) -> None:
        if setting.members % self.families:
            raise InputError(
                f"{setting.members} models of the teacher are no checkpoints of {self.families} families",
                where="distiller.hetcomp.families", why="each family has as many",
                fix="teacher=trajectories distiller.hetcomp.families=2",
            )  # fmt: skip
        self.last = setting.members // self.families - 1
        self.register_buffer("place", torch.zeros(self.families, setting.queries, dtype=torch.int8))
        self.register_buffer("before", torch.full((self.families, setting.queries), torch.nan))
        self.register_buffer("looks", torch.zeros((), dtype=torch.int64))

    def start_epoch(self, moment: Moment) -> None:
        if moment.epoch >= self.until * moment.epochs:
            self.place.fill_(self.last)
        if not moment.epoch or moment.epoch % self.every or bool((self.place == self.last).all()):
            return
        size = catalogue_size(moment.student, moment.rng.device)
        for part in portions(moment.queries, size, device=moment.rng.device.type):
            self.look(part.to(moment.rng.device), moment)
        self.looks += 1

    def look(self, queries: Tensor, moment: Moment) -> None:
        """Moves queries on, and keeps how far off the list is that comes next."""
        items, scores = moment.student(queries).top_items(self.k)
        student = items, on_list(scores)
        lists, listed = self.lists(moment.teacher(queries))
        threshold = self.pace * 0.995 ** float(self.looks)
        for family in range(self.families):
            place, before = self.place[family, queries].long(), self.before[family, queries]
            now = distance(student, self.chosen(lists, listed, family, (place + 1).clamp(max=self.last)))
            near = (before > threshold * now) & (place < self.last)  # never at the first look
            after = distance(student, self.chosen(lists, listed, family, (place + 2).clamp(max=self.last)))
            self.place[family, queries] = (place + near).to(torch.int8)
            self.before[family, queries] = torch.where(near, after, torch.where(before.isnan(), now, before))

    def lists(self, teacher: Any) -> tuple[Tensor, Tensor]:
        """Those of all members, ``[M, Q, K]``, and which of their places hold an item."""
        found = [member.top_items(self.k) for member in teacher.members()]
        return torch.stack([items for items, _ in found]), torch.stack([on_list(scores) for _, scores in found])

    def chosen(self, lists: Tensor, listed: Tensor, family: int, place: Tensor) -> Lists:
        """Of one family the list of each query at its place, int64 ``[Q]``."""
        member, row = family * (self.last + 1) + place, torch.arange(len(place), device=place.device)
        return lists[member, row], listed[member, row]

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        lists, listed = self.lists(teacher)
        place = self.place[:, student.users].long()
        of_families = [self.chosen(lists, listed, family, at) for family, at in enumerate(place)]
        items, there = (torch.stack(both) for both in zip(*of_families, strict=True))
        items, there = consensus(items, there, self.k)
        rest = unlisted(items, there, student, self.uninteresting, rng)
        top = student.scores(items).masked_fill(~there, FLOOR)
        at_the_end = (place == self.last).all(0)
        return torch.where(at_the_end, order_loss(top, rest, there), set_loss(top, rest, there))
