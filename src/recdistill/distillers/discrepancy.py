"""Distillation of where student and teacher disagree: what stands high in one list and low in the other."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from recdistill.distillers.base import Distiller, ListView, Moment, Needs, Setting, on_list
from recdistill.distillers.lists import FLOOR, draw, require_pool, rrd_loss, step_items
from recdistill.distillers.ranked_lists import RankedLists, catalogue_size, rank_in
from recdistill.distillers.schedules import Amount, Temperature, Weight

Lists = tuple[Tensor, Tensor]  # items int64 [Q, P], and which places hold an item


def discrepancy(mine: Lists, other: Lists, temperature: float) -> Tensor:
    """max(0, tanh((rank in the other list - rank in mine) / temperature)) of the places of a list: ``[Q, P]``.

    Ranks begin at 1; what is not on a list of length P has rank P + 1. 0 behind the end of a list.
    """
    items, listed = mine
    behind = rank_in(items, *other) - torch.arange(1, items.shape[1] + 1, device=items.device)
    return torch.tanh(behind / temperature).clamp(min=0) * listed


def corrections(
    student: ListView, own: Lists, target: Lists, k: int, temperature: float, rng: torch.Generator
) -> Tensor:
    """:func:`rrd_loss` ``[Q]`` of k items that the student ranks too low, in the teacher's order, against k that it
    ranks too high; both drawn without replacement in proportion to their :func:`discrepancy`.

    Args:
        own, target: the student's and the teacher's lists.
    """
    (under, missed), (over, exceeded) = (
        draw_where(mine, discrepancy(mine, other, temperature), k, rng)
        for mine, other in ((target, own), (own, target))
    )
    return rrd_loss(student.scores(under), student.scores(over).masked_fill(~exceeded, FLOOR), missed)


def draw_where(lists: Lists, weights: Tensor, k: int, rng: torch.Generator) -> Lists:
    """k items ``[Q, k]`` of each list by their weights ``[Q, P]``, and whether their weight is above 0; in the order of
    the list."""
    chosen = draw(weights.log(), k, rng)
    return lists[0].gather(1, chosen), weights.gather(1, chosen) > 0


class DCD(Distiller):
    """Dual correction: :func:`corrections` for the users of the step, plus ``item_weight`` times the same for items,
    each of which ranks users. Where student and teacher rank alike it is 0.

    The author's code takes for the student's list the teacher's, in the student's order (``candidates: list``), so that
    an item that only the student ranks high is never corrected. Its item side takes the items that the step's
    interactions are of; here half are from the teacher's lists, half from the whole catalogue.

    Source: Lee and Kim, Dual correction strategy for ranking distillation in top-N recommender system, CIKM 2021.

    Args:
        k: items to draw of each kind.
        pool: length of both lists.
        discrepancy_temperature: ranks that make a difference.
        users: users to draw of each kind, on the item side.
        user_pool: length of its lists.
        items: items per step.
        item_weight: factor of the item side.
        every: epochs between two looks at the student's lists, each of which scores the catalogue for all users.
        candidates: what the student ranks: the whole catalogue, or the teacher's list alone.
        weight: factor among the distillers; small, because the terms of a list are summed, as in the paper.
    """

    tasks = ("ranking",)
    per_query = True

    def __init__(
        self,
        k: Annotated[int, Ge(1)] = 40,
        pool: Annotated[int, Ge(1)] = 100,
        discrepancy_temperature: Temperature = 10.0,
        users: Annotated[int, Ge(1)] = 20,
        user_pool: Annotated[int, Ge(1)] = 50,
        items: Annotated[int, Ge(2)] = 256,
        item_weight: Weight = 0.5,
        every: Annotated[int, Ge(1)] = 3,
        candidates: Literal["catalogue", "list"] = "catalogue",
        weight: Weight = 1.0,
    ):
        super().__init__(weight)
        require_pool(pool, k)
        require_pool(user_pool, users, "user_pool", "users")
        self.k, self.pool = k, pool
        self.discrepancy_temperature: float = discrepancy_temperature  # type: ignore[assignment]
        self.users, self.user_pool, self.items = users, user_pool, items
        self.item_weight: float = item_weight  # type: ignore[assignment]
        self.every, self.candidates = every, candidates

    def needs(self) -> Needs:
        return Needs(top_k=self.pool, top_users=self.user_pool)

    def prepare(self, setting: Setting) -> None:
        self.item_lists = RankedLists(setting.queries, self.pool)
        self.user_lists = RankedLists(setting.train.n_items, self.user_pool)

    def start_epoch(self, moment: Moment) -> None:
        if moment.epoch % self.every:
            return
        nobody = torch.zeros(1, dtype=torch.int64, device=moment.rng.device)
        student, teacher = moment.student(nobody), moment.teacher(nobody)

        def items_of(users: Tensor) -> Lists:
            return self.ranked(moment.student(users), moment.teacher(users), self.pool)

        def users_of(items: Tensor) -> Lists:
            return self.ranked(student.flipped(items), teacher.flipped(items), self.user_pool)

        self.item_lists.refresh(items_of, student.n_items)
        self.user_lists.refresh(users_of, moment.queries)

    def ranked(self, student: ListView, teacher: ListView, length: int) -> Lists:
        """The student's list, ids and scores."""
        if self.candidates == "catalogue":
            return student.top_items(length)
        items, top_t = teacher.top_items(length)
        scores, order = student.scores(items).masked_fill(~on_list(top_t), -torch.inf).sort(-1, descending=True)
        return items.gather(1, order), scores

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        items, top_t = teacher.top_items(self.pool)
        own, target = self.item_lists.of(student.users), (items, on_list(top_t))
        user_side = corrections(student, own, target, self.k, self.discrepancy_temperature, rng)
        queries = step_items(items[:, : self.k], top_t[:, : self.k], student.n_items, self.items, rng)
        users, top_t = teacher.flipped(queries).top_items(self.user_pool)
        own, target = self.user_lists.of(queries), (users, on_list(top_t))
        flipped = student.flipped(queries)
        item_side = corrections(flipped, own, target, self.users, self.discrepancy_temperature, rng)
        return user_side + self.item_weight * item_side.mean()


def listed_ce(student: Tensor, teacher: Tensor, listed: Tensor, temperature: float) -> Tensor:
    """T² · cross-entropy between the softmaxes of both scores ``[Q, K]``, divided by the temperature T, over the places
    that hold an item: ``[Q]``."""
    log_q = (student / temperature).masked_fill(~listed, FLOOR).log_softmax(-1)
    p = (teacher / temperature).masked_fill(~listed, FLOOR).softmax(-1) * listed
    return -(temperature**2) * (p * log_q).sum(-1)


def isin(items: Tensor, others: Tensor, listed: Tensor) -> Tensor:
    """bool ``[Q, K]``: whether each item is in the list of its row."""
    return rank_in(items, others, listed) <= others.shape[1]


class RCEKD(Distiller):
    """Rejuvenated cross-entropy: the cross-entropy over some items bounds NDCG only where all items that the student
    ranks above them are among them.

    With T the teacher's and S the student's first k, (1 - g) · CE over S + g · CE over A ∪ (T - S), where A are k items
    of the student's longer list, which make up for what stands above T - S: the place p of it is drawn by
    exp(n_p / ``position_temperature``), n_p = how many of T stand at p or below, at most 50. CE are soft labels over
    the set alone, and g = exp(-``beta`` · share of T that is in A).

    Source: Zhu and Zhang, Rejuvenating cross-entropy loss in knowledge distillation for recommender systems, 2025
    (arXiv 2509.20989); sets, draw and g as in its authors' code.

    Args:
        k: length of T and S, and items in A.
        pool: length of the student's list that A is drawn from.
        position_temperature: of that draw.
        beta: how fast attention moves from A ∪ (T - S) to S.
        temperature: divides both scores.
        every: epochs between two looks at the student's list, each of which scores the catalogue for all queries.
        weight: factor among the distillers.
    """

    per_query = True
    temperature: float

    def __init__(
        self,
        k: Annotated[int, Ge(1)] = 50,
        pool: Annotated[int, Ge(1)] = 200,
        position_temperature: Temperature = 10.0,
        beta: Amount = 3.0,
        temperature: Temperature = 1.0,
        every: Annotated[int, Ge(1)] = 1,
        weight: Weight = 1.0,
    ):
        super().__init__(weight)
        require_pool(pool, k)
        self.k, self.pool = k, pool
        self.position_temperature: float = position_temperature  # type: ignore[assignment]
        self.beta: float = beta  # type: ignore[assignment]
        self.temperature = temperature  # type: ignore[assignment]
        self.every = every

    def needs(self) -> Needs:
        return Needs(top_k=self.k, scores=True)

    def prepare(self, setting: Setting) -> None:
        self.lists = RankedLists(setting.queries, self.pool, scored=True)

    def start_epoch(self, moment: Moment) -> None:
        if self.lists.due(moment, self.every):
            size = catalogue_size(moment.student, moment.rng.device)
            self.lists.refresh(lambda queries: moment.student(queries).top_items(self.pool), size, moment.teacher)

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        items_t, top_t = teacher.top_items(self.k)
        listed_t = on_list(top_t)
        (items_s, listed_s), scores = self.lists.of(student.users), self.lists.scores[student.users]
        chosen = draw(self.closure(items_s, listed_s, items_t, listed_t), self.k, rng)
        items_a, listed_a = items_s.gather(1, chosen), listed_s.gather(1, chosen)
        z_t = torch.cat([scores[:, : self.k], scores.gather(1, chosen), top_t], -1)
        items_s, listed_s = items_s[:, : self.k], listed_s[:, : self.k]
        drawn = isin(items_t, items_a, listed_a) & listed_t
        alone = listed_t & ~drawn & ~isin(items_t, items_s, listed_s)

        z_s = student.scores(torch.cat([items_s, items_a, items_t], -1))
        easy = listed_ce(z_s[:, : self.k], z_t[:, : self.k], listed_s, self.temperature)
        hard = listed_ce(z_s[:, self.k :], z_t[:, self.k :], torch.cat([listed_a, alone], -1), self.temperature)
        share = drawn.sum(-1).to(top_t.dtype) / listed_t.sum(-1).clamp(min=1)
        g = torch.exp(-self.beta * share)
        return ((1 - g) * easy + g * hard) * listed_t.any(-1)

    def closure(self, items_s: Tensor, listed_s: Tensor, items_t: Tensor, listed_t: Tensor) -> Tensor:
        """Log-weights ``[Q, pool]`` of the draw of A."""
        shared = (isin(items_s, items_t, listed_t) & listed_s).long()
        below = shared.flip(-1).cumsum(-1).flip(-1).clamp(max=50)
        return (below / self.position_temperature).masked_fill(~listed_s, -torch.inf)
