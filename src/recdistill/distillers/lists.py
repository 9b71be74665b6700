"""Distillation of ranked lists: the top of the teacher's ranking against the rest of the catalogue."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional as F

from recdistill.distillers.base import Distiller, ListView, Needs, Setting, on_list
from recdistill.distillers.schedules import Amount, Temperature, Weight
from recdistill.models import dot

FLOOR = dot.FLOOR
SMALL = 2000  # items of a catalogue that is not worth sampling


def topk_kl_loss(top_s: Tensor, log_norm: Tensor, top_t: Tensor, temperature: float) -> Tensor:
    """Cross-entropy between the teacher's softmax over its list and the student's over list and rest, of each
    row: ``[Q]``. That of an empty list is 0.

    Args:
        top_s: the student's scores ``[Q, K]`` of the teacher's list.
        log_norm: log Σ e^z of the student's scores of list and rest, ``[Q]``; the teacher gives the rest no
            mass.
        top_t: the teacher's scores ``[Q, K]``; -inf behind the end of a list.
        temperature: divides the teacher's scores only, so that the student stays calibrated for its own
            ranking.
    """
    listed = on_list(top_t)
    target = F.softmax((top_t / temperature).masked_fill(~listed, FLOOR), -1) * listed
    return -(target * (top_s - log_norm.unsqueeze(-1))).sum(-1)


def rrd_loss(top: Tensor, rest: Tensor, listed: Tensor | None = None) -> Tensor:
    """Relaxed Plackett-Luce: -Σ_k log(e^{z_k} / (Σ_{j≥k} e^{z_j} + Σ_l e^{z_l})) of each row: ``[Q]``.

    Args:
        top: the student's scores ``[Q, K]`` of the interesting items, in the teacher's order.
        rest: the student's scores ``[Q, L]`` of the uninteresting items, whose order does not matter.
        listed: bool ``[Q, K]``, False behind the end of a short list; None where all lists are full.
    """
    if listed is not None:
        top = top.masked_fill(~listed, FLOOR)
    from_here_on = top.flip(-1).logcumsumexp(-1).flip(-1)  # [Q, K]: log Σ_{j≥k} e^{z_j}
    below = rest.logsumexp(-1, keepdim=True)
    terms = torch.logaddexp(from_here_on, below) - top
    return (terms if listed is None else terms * listed).sum(-1)


class TopKKL(Distiller):
    """Listwise soft labels: :func:`topk_kl_loss` over the teacher's top k and the rest of the catalogue.

    Source: Cao et al., Learning to rank: from pairwise to listwise approach, ICML 2007, for the top-one
    probabilities of a list.

    Args:
        k: length of the teacher's list.
        negatives: random items beside it, shared by the users of a step, of which a user's training items do not
            count; 0 takes the whole catalogue, None too where the hard loss scores it anyway, and else
            :func:`usual_others`.
        temperature: of the teacher's distribution over its list.
        weight: factor among the distillers.
    """

    per_query = True
    temperature: float

    def __init__(
        self,
        k: Annotated[int, Ge(1)] = 100,
        negatives: Annotated[int, Ge(0)] | None = None,
        temperature: Temperature = 1.0,
        weight: Weight = 1.0,
    ):
        super().__init__(weight)
        self.k, self.negatives = k, negatives
        self.temperature = temperature  # type: ignore[assignment]

    def needs(self) -> Needs:
        return Needs(top_k=self.k)

    def prepare(self, setting: Setting) -> None:
        if self.negatives is None and setting.whole:
            self.negatives = 0
        self.negatives = usual_others(self.negatives, setting)

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        return self.of_list(student, *teacher.top_items(self.k), rng)

    def of_list(self, student: ListView, items: Tensor, top_t: Tensor, rng: torch.Generator) -> Tensor:
        """The loss ``[Q]`` of one list: items and scores ``[Q, K]`` as :meth:`ListView.top_items` gives them."""
        top_s = student.scores(items)
        if not self.negatives:
            return topk_kl_loss(top_s, student.log_normaliser(), top_t, self.temperature)
        listed = on_list(top_t)
        rest = unlisted(items, listed, student, self.negatives, rng)
        both = torch.cat([top_s.masked_fill(~listed, FLOOR), rest], -1)
        return topk_kl_loss(top_s, both.logsumexp(-1), top_t, self.temperature)


class RRD(Distiller):
    """Relaxed ranking distillation: :func:`rrd_loss` on K interesting items of the teacher's list against L
    others, which are neither in the list nor among the user's training items.

    Source: Kang et al., DE-RRD, CIKM 2020, eq. 7; the interesting items are drawn by p(rank) ∝
    exp(-rank / T).

    Args:
        k: interesting items per user.
        uninteresting: other items, shared by the users of a step.
        pool: length of the teacher's list from which the interesting ones are drawn.
        position_temperature: T of the draw; 0 takes the first k, which the paper's author found to be at
            least as good.
        weight: factor among the distillers; small, because the terms of a list are summed, as in the paper.
    """

    per_query = True

    def __init__(
        self,
        k: Annotated[int, Ge(1)] = 40,
        uninteresting: Annotated[int, Ge(1)] = 500,
        pool: Annotated[int, Ge(1)] = 100,
        position_temperature: Amount = 10.0,
        weight: Weight = 1.0,
    ):
        super().__init__(weight)
        require_pool(pool, k)
        self.k, self.uninteresting, self.pool = k, uninteresting, pool
        self.position_temperature: float = position_temperature  # type: ignore[assignment]

    def needs(self) -> Needs:
        return Needs(top_k=self.pool if self.position_temperature else self.k)

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        items, top_t = teacher.top_items(self.needs().top_k)
        return relaxed_ranking(student, items, top_t, self.k, self.position_temperature, self.uninteresting, rng)


class IRRRD(RRD):
    """Item-side ranking regularisation: :class:`RRD` for the users of the step, plus ``item_weight`` times the same for
    items, each of which ranks users.

    The items are those that the user side looks at: half of them from the lists, half from the whole catalogue. The
    author's code takes all interesting and uninteresting items of the step, mostly the whole catalogue.

    Source: Kang et al., Item-side ranking regularized distillation for recommender system, Information Sciences 2021.

    Args:
        k, uninteresting, pool, position_temperature, weight: see :class:`RRD`.
        users: interesting users per item.
        uninteresting_users: other users, shared by the items of a step.
        user_pool: length of the teacher's list of users, from which the interesting ones are drawn.
        items: items per step.
        item_weight: factor of the item side.
    """

    tasks = ("ranking",)

    def __init__(
        self,
        k: Annotated[int, Ge(1)] = 40,
        uninteresting: Annotated[int, Ge(1)] = 500,
        pool: Annotated[int, Ge(1)] = 100,
        position_temperature: Amount = 10.0,
        users: Annotated[int, Ge(1)] = 20,
        uninteresting_users: Annotated[int, Ge(1)] = 200,
        user_pool: Annotated[int, Ge(1)] = 50,
        items: Annotated[int, Ge(2)] = 256,
        item_weight: Weight = 0.5,
        weight: Weight = 1.0,
    ):
        super().__init__(k, uninteresting, pool, position_temperature, weight)
        require_pool(user_pool, users, "user_pool", "users")
        self.users, self.uninteresting_users, self.user_pool = users, uninteresting_users, user_pool
        self.items = items
        self.item_weight: float = item_weight  # type: ignore[assignment]

    def needs(self) -> Needs:
        drawn = bool(self.position_temperature)
        return Needs(top_k=self.pool if drawn else self.k, top_users=self.user_pool if drawn else self.users)

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        temperature, needs = self.position_temperature, self.needs()
        items, top_t = teacher.top_items(needs.top_k)
        user_side = relaxed_ranking(student, items, top_t, self.k, temperature, self.uninteresting, rng)
        queries = step_items(items[:, : self.k], on_list(top_t)[:, : self.k], student.n_items, self.items, rng)
        users, top_t = teacher.flipped(queries).top_items(needs.top_users)
        flipped = student.flipped(queries)
        item_side = relaxed_ranking(flipped, users, top_t, self.users, temperature, self.uninteresting_users, rng)
        return user_side + self.item_weight * item_side.mean()


def usual_others(asked: int | None, setting: Setting) -> int:
    """How many random items stand for the catalogue beside a list: those that are asked for, or 500; 0, which is
    all of it, where it is small."""
    if asked is not None:
        return asked
    return 0 if setting.train is None or getattr(setting.train, "n_items", 0) <= SMALL else 500


def require_pool(pool: int, k: int, pool_name: str = "pool", k_name: str = "k") -> None:
    """Raises ValueError where more is to be drawn than there is."""
    if pool < k:
        raise ValueError(f"{pool_name}={pool} must be at least {k_name}={k}")


def relaxed_ranking(
    student: ListView, items: Tensor, top_t: Tensor, k: int, temperature: float, count: int, rng: torch.Generator
) -> Tensor:
    """:func:`rrd_loss` ``[Q]`` of k places that are drawn from the teacher's list ``[Q, P]``, or of the whole list at
    temperature 0, against ``count`` items that are not on it."""
    rest = unlisted(items, on_list(top_t), student, count, rng)
    if temperature:
        chosen = draw_ranks(top_t, k, temperature, rng)
        items, top_t = items.gather(1, chosen), top_t.gather(1, chosen)
    return rrd_loss(student.scores(items), rest, on_list(top_t))


def step_items(items: Tensor, listed: Tensor, n_items: int, count: int, rng: torch.Generator) -> Tensor:
    """At most ``count`` different items, int64; half of the draws are from the lists ``[Q, K]`` of the step, where
    they hold an item, half from all."""
    drawn = torch.randint(n_items, (count,), generator=rng, device=items.device)
    named = items[listed]
    if len(named):
        half = count // 2
        drawn[:half] = named[torch.randint(len(named), (half,), generator=rng, device=items.device)]
    different: Tensor = torch.unique(drawn)
    return different


def draw(log_weights: Tensor, k: int, rng: torch.Generator) -> Tensor:
    """k places ``[Q, k]`` of each row without replacement, p ∝ e^log_weight, ascending; those of -inf only when nothing
    else is left."""
    # Gumbel's trick: the k largest of log p + noise are a draw without replacement.
    return (log_weights + gumbel_noise(log_weights, rng)).topk(k).indices.sort(-1).values


def gumbel_noise(like: Tensor, rng: torch.Generator) -> Tensor:
    """-log E with E exponential, of the shape of another tensor; float32 also where half precision is the usual one, in
    which 0 is drawn now and then. From uniform numbers, which a CPU draws sooner than exponential ones."""
    uniform = torch.rand(like.shape, generator=rng, dtype=torch.float32, device=like.device)
    return uniform.neg_().log1p_().neg_().clamp_(min=1e-30).log_().neg_()


def draw_ranks(top_scores: Tensor, k: int, temperature: float, rng: torch.Generator) -> Tensor:
    """k places ``[Q, k]`` of each ranked list without replacement, p(rank) ∝ exp(-rank / temperature),
    ascending.

    Places behind the end of a list are taken only when nothing else is left.
    """
    rank = torch.arange(top_scores.shape[1], device=top_scores.device)
    return draw((-rank / temperature).masked_fill(~on_list(top_scores), -torch.inf), k, rng)


def unlisted(items: Tensor, listed: Tensor, student: ListView, count: int, rng: torch.Generator) -> Tensor:
    """The student's scores ``[Q, count]`` of random items; FLOOR for those that are on a query's list, or that the user
    has in training.

    Args:
        items: int64 ``[Q, K]``, the lists.
        listed: bool ``[Q, K]``, see :func:`~recdistill.distillers.base.on_list`: what stands behind the end of a
            list is on none, and may be the same items for all.
        student: scores them.
        count: how many are drawn.
        rng: draws them.
    """
    others, hidden = draw_beside(items, listed, student, count, rng)
    return student.scores(others).masked_fill(hidden, FLOOR)


def draw_beside(
    items: Tensor, listed: Tensor, student: ListView, count: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random items int64 ``[count]``, and which of them :func:`unlisted` hides, bool ``[Q, count]``."""
    others = torch.randint(student.n_items, (count,), generator=rng, device=items.device)
    # Item to its place among the others; all draws of an item share the place that was written last.
    place = torch.full((student.n_items,), count, device=items.device)
    place[others] = torch.arange(count, device=items.device)
    hidden = torch.zeros(len(items), count + 1, dtype=torch.bool, device=items.device)
    hidden.scatter_(1, place[items].masked_fill(~listed, count), True)
    row, item = student.seen_pairs()
    hidden[row, place[item]] = True
    return others, hidden[:, place[others]]
