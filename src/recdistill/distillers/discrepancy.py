"""Distillation of where student and teacher disagree: what stands high in one list and low in the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from recdistill.distillers.base import Distiller, ListView, Moment, Needs, Setting, on_list
from recdistill.distillers.lists import FLOOR, draw, require_pool, rrd_loss, step_items
from recdistill.distillers.ranked_lists import Lists, RankedLists, catalogue_size, rank_in
from recdistill.distillers.schedules import Amount, Temperature, Weight


def discrepancy(behind: Tensor, listed: Tensor, temperature: float) -> Tensor:
    """max(0, tanh(behind / temperature)) of the places of a list: ``[Q, P]``; 0 behind the end of a list.

    Args:
        behind: how many places lower the other list ranks them, see :func:`places_behind`.
    """
    return torch.tanh(behind / temperature).clamp(min=0) * listed


class ComparedLists(nn.Module):
    """The student's and the teacher's lists of all queries, and how each ranks what is on the other.

    Args:
        queries: how many there are.
        length: of a list.
    """

    def __init__(self, queries: int, length: int):
        super().__init__()
        self.own = RankedLists(queries, length, compared=True)
        self.target = RankedLists(queries, length, compared=True)

    def refresh(self, own: Callable[[Tensor], Lists], target: Callable[[Tensor], Lists], n: int) -> None:
        """Writes what both models give for queries out of a catalogue of n; see :meth:`RankedLists.refresh`."""
        self.own.refresh(own, n)
        self.target.refresh(target, n)
        self.own.compare(self.target)
        self.target.compare(self.own)


def corrections(student: ListView, lists: ComparedLists, k: int, temperature: float, rng: torch.Generator) -> Tensor:
    """:func:`rrd_loss` ``[Q]`` of k items that the student ranks too low, in the teacher's order, against k that it
    ranks too high; both drawn without replacement in proportion to their :func:`discrepancy`."""

    def drawn(ranked: RankedLists) -> Lists:
        items, listed = ranked.of(student.users)
        return draw_where((items, listed), discrepancy(ranked.behind[student.users], listed, temperature), k, rng)

    (under, missed), (over, exceeded) = drawn(lists.target), drawn(lists.own)
    low, high = student.scores(torch.cat([under, over], -1)).tensor_split([under.shape[1]], -1)
    return rrd_loss(low, high.masked_fill(~exceeded, FLOOR), missed)


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
        every: epochs between two looks at both lists, each of which scores the catalogue for all users; one in each
            where the teacher learns.
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
        every: Annotated[int, Ge(1)] = 10,
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
        self.item_lists = ComparedLists(setting.queries, self.pool)
        self.user_lists = ComparedLists(setting.train.n_items, self.user_pool)

    def start_epoch(self, moment: Moment) -> None:
        if not RankedLists.due(moment, self.every):
            return
        nobody = torch.zeros(1, dtype=torch.int64, device=moment.rng.device)
        student, teacher = moment.student(nobody), moment.teacher(nobody)

        def of_user(users: Tensor) -> Lists:
            return self.ranked(moment.student(users), moment.teacher(users), self.pool)

        def of_item(items: Tensor) -> Lists:
            return self.ranked(student.flipped(items), teacher.flipped(items), self.user_pool)

        self.item_lists.refresh(of_user, lambda users: moment.teacher(users).top_items(self.pool), student.n_items)
        self.user_lists.refresh(of_item, lambda items: teacher.flipped(items).top_items(self.user_pool), moment.queries)

    def ranked(self, student: ListView, teacher: ListView, length: int) -> Lists:
        """The student's list, ids and scores."""
        if self.candidates == "catalogue":
            return student.top_items(length)
        items, top_t = teacher.top_items(length)
        scores, order = student.scores(items).masked_fill(~on_list(top_t), -torch.inf).sort(-1, descending=True)
        return items.gather(1, order), scores

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        temperature = self.discrepancy_temperature
        user_side = corrections(student, self.item_lists, self.k, temperature, rng)
        items, listed = self.item_lists.target.of(student.users)
        queries = step_items(items[:, : self.k], listed[:, : self.k], student.n_items, self.items, rng)
        item_side = corrections(student.flipped(queries), self.user_lists, self.users, temperature, rng)
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
    the set alone, and g = exp(-``beta`` · share of T that is in A). The draw goes by the lists of the last look.

    Source: Zhu and Zhang, Rejuvenating cross-entropy loss in knowledge distillation for recommender systems, 2025
    (arXiv 2509.20989); sets, draw and g as in its authors' code.

    Args:
        k: length of T and S, and items in A.
        pool: length of the student's list that A is drawn from.
        position_temperature: of that draw.
        beta: how fast attention moves from A ∪ (T - S) to S.
        temperature: divides both scores.
        every: epochs between two looks at the student's list, each of which scores the catalogue for all queries; 1 in
            the article, and here where the teacher learns.
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
        every: Annotated[int, Ge(1)] = 10,
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
        self.lists = RankedLists(setting.queries, self.pool, scored=True, compared=True)

    def start_epoch(self, moment: Moment) -> None:
        if self.lists.due(moment, self.every):
            size = catalogue_size(moment.student, moment.rng.device)
            self.lists.refresh(lambda queries: moment.student(queries).top_items(self.pool), size, moment.teacher)
            target = RankedLists(moment.queries, self.k).to(moment.rng.device)
            target.refresh(lambda queries: moment.teacher(queries).top_items(self.k), size)
            self.lists.compare(target)

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        items_t, top_t = teacher.top_items(self.k)
        listed_t = on_list(top_t)
        (items_s, listed_s), scores = self.lists.of(student.users), self.lists.scores[student.users]
        chosen = draw(self.closure(self.lists.behind[student.users], listed_s), self.k, rng)
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

    def closure(self, behind: Tensor, listed: Tensor) -> Tensor:
        """Log-weights ``[Q, pool]`` of the draw of A.

        Args:
            behind: how T ranks the places of the student's list, see :func:`places_behind`.
        """
        place = torch.arange(1, self.pool + 1, device=behind.device)
        shared = (behind + place <= self.k) & listed
        below = shared.flip(-1).cumsum(-1).flip(-1).clamp(max=50)
        return (below / self.position_temperature).masked_fill(~listed, -torch.inf)
