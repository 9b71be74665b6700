"""The closed value of each loss as its temperature tends to infinity, derived from its formula, in float64.

With c(z) = z - mean(z) over C numbers, softmax(z / T) = (1 + c(z) / T) / C up to 1 / T². So T² · KL tends to
|c(z_t) - c(z_s)|² / 2C, and T² · CE to T² log C + (|c(z_s)|² - 2 c(z_s) · c(z_t)) / 2C, whose first term has no limit
and is taken off.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from contract_kit import files
from torch import Tensor
from view_kit import CATALOGUE, MEMBERS, QUERIES, few, loss_of, prepared, seen_of, tensors

T = 1e4
Given = dict[str, Tensor]
Row = list[float]
Value = tuple[float, float]  # what T² is multiplied by where the loss has no limit, and what is left


def centred(row: Row) -> Row:
    return [x - sum(row) / len(row) for x in row]


def dot(a: Row, b: Row) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def gap(s: Row, t: Row) -> float:
    """That of T² · KL."""
    between = [x - y for x, y in zip(centred(s), centred(t), strict=True)]
    return dot(between, between) / (2 * len(s))


def cross(s: Row, t: Row) -> Value:
    """That of T² · CE."""
    a, b = centred(s), centred(t)
    return math.log(len(s)), (dot(a, a) - 2 * dot(a, b)) / (2 * len(s))


def softmax(row: Row) -> Row:
    total = sum(map(math.exp, row))
    return [math.exp(x) / total for x in row]


def mean(values: list[Value]) -> Value:
    return sum(a for a, _ in values) / len(values), sum(b for _, b in values) / len(values)


def by_row(of: Callable[[Row, Row, int], Value]) -> Callable[[Given, Given], Value]:
    """The mean over rows, from the logits of student and teacher and the true class."""

    def value(student: Given, teacher: Given) -> Value:
        both = zip(student["all"].tolist(), teacher["all"].tolist(), strict=True)
        return mean([of(s, t, n % len(s)) for n, (s, t) in enumerate(both)])

    return value


def kl(factor: float) -> Callable[[Given, Given], Value]:
    return by_row(lambda s, t, _: (0.0, factor * gap(s, t)))


def decoupled(s: Row, t: Row, y: int) -> Value:
    """With alpha 1 and beta 8; of [p, 1 - p], where p = (1 + c_y / T) / C, KL is the squared difference over
    2 p (1 - p)."""
    apart = centred(s)[y] - centred(t)[y]
    return 0.0, apart**2 / (2 * (len(s) - 1)) + 8 * gap(s[:y] + s[y + 1 :], t[:y] + t[y + 1 :])


def standardised(s: Row, t: Row, _: int) -> Value:
    return 0.0, gap(*(list(np.array(z) / np.std(z)) for z in (s, t)))


def correlations(student: Given, teacher: Given) -> Value:
    """Correlation does not see that p = (1 + c / T) / C instead of c."""
    s, t = (np.array([centred(row) for row in given["all"].tolist()]) for given in (student, teacher))
    rows, columns = (
        np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in pairs])
        for pairs in (zip(s, t, strict=True), zip(s.T, t.T, strict=True))
    )
    return 0.0, float(rows + columns)


def clicks(s: Row, t: Row, _: int) -> Value:
    """T² · (softplus(s / T) - σ(t / T) s / T)."""
    return math.log(2), s[0] ** 2 / 8 - s[0] * t[0] / 4


def members(teacher: Given) -> list[list[Row]]:
    return [teacher["all"].tolist(), *teacher["others"].tolist()]


def gated(student: Given, teacher: Given) -> Value:
    """Of the logits 0 and z; the gate takes all alike at first."""
    return mean([
        (0.0, gap([0.0, *s], [0.0, *t]))
        for rows in members(teacher) for s, t in zip(student["all"].tolist(), rows, strict=True)
    ])  # fmt: skip


def alike(student: Given, teacher: Given) -> Value:
    """As gated, of classes."""
    return mean(
        [(0.0, gap(s, t)) for rows in members(teacher) for s, t in zip(student["all"].tolist(), rows, strict=True)]
    )


def confident(student: Given, teacher: Given) -> Value:
    """The weights have no temperature."""
    found = []
    for n, s in enumerate(student["all"].tolist()):
        own = [rows[n] for rows in members(teacher)]
        share = softmax([-math.log(softmax(t)[n % len(s)]) for t in own])
        parts = [((1 - w) / (MEMBERS - 1), cross(s, t)) for w, t in zip(share, own, strict=True)]
        found.append((sum(w * a for w, (a, _) in parts), sum(w * b for w, (_, b) in parts)))
    return mean(found)


def by_user(of: Callable[[list[int], list[int], Row, Row], Value]) -> Callable[[Given, Given], Value]:
    """The mean over users, from the student's and the teacher's four best new items and the scores of all items."""

    def value(student: Given, teacher: Given) -> Value:
        seen, found = seen_of(QUERIES, CATALOGUE).tolist(), []
        both = [(given["user"] @ given["item"].T).tolist() for given in (student, teacher)]
        for user, (s, t) in enumerate(zip(*both, strict=True)):
            free = [item for item in range(CATALOGUE) if not seen[user][item]]
            lists = [sorted(free, key=lambda item: -z[item])[:4] for z in (s, t)]
            found.append(of(*lists, s, t))
        return mean(found)

    return value


def closed(mine: list[int], theirs: list[int], s: Row, t: Row) -> Value:
    """All of the student's list is drawn, so that the second set is the union. beta 3."""
    (a, easy), (b, hard) = (
        cross([s[i] for i in items], [t[i] for i in items]) for items in (mine, sorted({*mine, *theirs}))
    )
    g = math.exp(-3 * len({*mine} & {*theirs}) / 4)
    return (1 - g) * a + g * b, (1 - g) * easy + g * hard


def even_list(mine: list[int], theirs: list[int], s: Row, t: Row) -> Value:
    """The teacher's distribution over its list is even; the student has no temperature."""
    del mine, t
    return 0.0, math.log(sum(map(math.exp, s))) - sum(s[i] for i in theirs) / 4


def even_label(mine: list[int], theirs: list[int], s: Row, t: Row) -> Value:
    """The label is 1/2; the student has no temperature."""
    del mine, t
    return 0.0, sum(math.log1p(math.exp(s[i])) - s[i] / 2 for i in theirs) / 4


def even_label_of_lower(mine: list[int], theirs: list[int], s: Row, t: Row) -> Value:
    """The same of those that the student ranks lower."""
    lower = [i for place, i in enumerate(theirs) if i not in mine or mine.index(i) > place]
    return 0.0, even_label(mine, lower, s, t)[1] * 4 / max(len(lower), 1)


def with_tail(student: Given, teacher: Given) -> Value:
    """Of the n new items the list has one outcome each and the other r one in all: with Δ = c(z_t) - c(z_s),
    (Σ_list Δ² + (Σ_other Δ)² / r) / 2n."""
    seen, found = seen_of(QUERIES, CATALOGUE).tolist(), []
    both = [(given["user"] @ given["item"].T).tolist() for given in (student, teacher)]
    for user, (s, t) in enumerate(zip(*both, strict=True)):
        free = sorted((item for item in range(CATALOGUE) if not seen[user][item]), key=lambda item: -t[item])
        delta = [x - y for x, y in zip(*(centred([z[item] for item in free]) for z in (t, s)), strict=True)]
        listed, other = delta[:4], delta[4:]
        found.append((0.0, (dot(listed, listed) + sum(other) ** 2 / len(other)) / (2 * len(free))))
    return mean(found)


@dataclass(frozen=True)
class Limit:
    value: Callable[[Given, Given], Value]
    task: str = "classification"
    changes: dict[str, Any] = field(default_factory=dict)


LIMITS = {
    "soft_label": Limit(kl(1.0)),
    "reverse_kl": Limit(kl(1.0)),
    "skew_kl": Limit(kl(0.9**2)),  # the mixture is 0.9 as far off
    "jsd": Limit(kl(0.25)),  # b · (1 - b)
    "consistency": Limit(kl(1.0), changes={"share": 0.0, "noise": 0.0, "teacher": 1.0}),
    # 0.3 · KL + 0.7 · CE
    "ce_kl": Limit(by_row(lambda s, t, _: (0.7 * cross(s, t)[0], 0.3 * gap(s, t) + 0.7 * cross(s, t)[1]))),
    "dkd": Limit(by_row(decoupled)),
    "logit_standardised": Limit(by_row(standardised)),
    "dist": Limit(correlations),
    "bce_soft": Limit(by_row(clicks), "ctr"),
    "ctr_ensemble": Limit(gated, "ctr"),
    "confidence_ensemble": Limit(confident),
    "gated_ensemble": Limit(alike),
    "tail_kl": Limit(with_tail, "ranking", {"k": 4}),
    "rce_kd": Limit(by_user(closed), "ranking", {"k": 4, "pool": 4}),
    "topk_kl": Limit(by_user(even_list), "ranking", {"k": 4, "negatives": 0}),
    "dllm2rec": Limit(by_user(even_list), "ranking", {"position": 0.0, "agreement": 0.0, "loss": "softmax",
                                                      "negatives": 0}),
    "cd": Limit(by_user(even_label), "ranking", {"k": 4, "pool": 4}),
    "bidirectional": Limit(by_user(even_label_of_lower), "ranking", {"k": 4, "pool": 4}),
}  # fmt: skip
NONE = {
    "de": "the temperature is that of a draw of experts, which have 1 / M of it in the end: a value of their weights",
    "htd": "as de", "teacher_assistants": "as de",
    "rank_distil": "the temperature is that of a draw of orders, all of which are as likely in the end",
    "rlmrec": "the temperature divides cosines of vectors that went through maps with random weights",
}  # fmt: skip


@pytest.mark.parametrize("option", LIMITS)
def test_the_value_at_a_high_temperature(option: str) -> None:
    limit = LIMITS[option]
    student, teacher = tensors(limit.task, 1), tensors(limit.task, 11)
    distiller = prepared(few(option, **limit.changes), limit.task, student, teacher)
    vars(distiller)["temperature"] = T
    grows, expected = limit.value(student, teacher)
    found = loss_of(distiller, limit.task, student, teacher).item() - T**2 * grows
    assert abs(expected) > 0.05
    assert found == pytest.approx(expected, rel=2e-3)


def test_each_temperature_has_a_limit_or_a_reason() -> None:
    softened = {option for option in files("distiller") if option != "none" and hasattr(few(option), "temperature")}
    assert softened == {*LIMITS, *NONE}
    assert not {*LIMITS} & {*NONE}
