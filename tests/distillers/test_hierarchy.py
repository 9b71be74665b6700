"""Hierarchical topology distillation as a whole, against a loop in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from list_parts import randn
from torch import Tensor

from recdistill.data.interactions import Interactions
from recdistill.distillers.base import Setting
from recdistill.distillers.experts import ExpertMixture
from recdistill.distillers.topology import HTD
from recdistill.tasks.batches import generator

Row = list[float]


@dataclass(frozen=True)
class Vectors:
    user: Tensor
    item: Tensor

    @property
    def n_items(self) -> int:
        return len(self.item)

    def user_vectors(self) -> Tensor:
        return self.user

    def item_vectors(self, items: Tensor) -> Tensor:
        return self.item[items]


def cos(a: Row, b: Row) -> float:
    size = math.sqrt(sum(x * x for x in a) * sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / size


def affine(x: Row, weight: list[Row], bias: Row) -> Row:
    return [b + sum(w * v for w, v in zip(row, x, strict=True)) for row, b in zip(weight, bias, strict=True)]


def softmax(z: Row) -> Row:
    e = [math.exp(x - max(z)) for x in z]
    return [x / sum(e) for x in e]


def middle(rows: list[Row]) -> Row:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def liked(experts: ExpertMixture, t: Row) -> Row:
    return affine(t, experts.selector.weight.tolist(), experts.selector.bias.tolist())


def hint_of(experts: ExpertMixture, s: Row, t: Row, noise: Row, temperature: float) -> float:
    """‖e_t - Σ_m s_m E_m(e_s)‖² / d_t of one entity."""
    share = softmax([(math.log(p) - g) / temperature for p, g in zip(softmax(liked(experts, t)), noise, strict=True)])
    count, hidden, width = experts.second.shape
    mixed = [0.0] * width
    for m in range(count):
        own = slice(m * hidden, (m + 1) * hidden)
        inner = [max(0.0, x) for x in affine(s, experts.first.weight[own].tolist(), experts.first.bias[own].tolist())]
        outer = affine(inner, experts.second[m].T.tolist(), experts.bias[m].tolist())
        mixed = [x + share[m] * y for x, y in zip(mixed, outer, strict=True)]
    return sum((x - y) ** 2 for x, y in zip(t, mixed, strict=True)) / width


def topology(s: list[Row], t: list[Row], group: list[int], w: Row, level: str) -> float:
    n = range(len(s))
    pairs = [(i, j) for i in n for j in n if group[i] == group[j]]
    total = sum(w[i] * w[j] * (cos(t[i], t[j]) - cos(s[i], s[j])) ** 2 for i, j in pairs)
    total /= sum(w[i] * w[j] for i, j in pairs)
    names = sorted({*group})
    p_s, p_t = ([middle([rows[i] for i in n if group[i] == g]) for g in names] for rows in (s, t))
    if level == "group":
        gaps = [(cos(a, b) - cos(c, d)) ** 2 for a, c in zip(p_t, p_s, strict=True)
                for b, d in zip(p_t, p_s, strict=True)]  # fmt: skip
        return total + sum(gaps) / len(gaps)
    return total + sum(
        w[i] * (cos(a, t[i]) - cos(c, s[i])) ** 2 for a, c in zip(p_t, p_s, strict=True) for i in n
    ) / len(names)


@pytest.mark.parametrize("level", ["entity", "group"])
@pytest.mark.parametrize(("gamma", "temperature"), [(0.3, 0.1), (0.5, 1.0), (0.9, 2.0)])
def test_htd_is_the_loop(gamma: float, temperature: float, level: str, train: Interactions) -> None:
    """γ · topology + (1 - γ) · hints, users and items in groups of their own, each side with half of the weight."""
    users, rows = torch.tensor([3, 5, 0, 1]), 9
    student, teacher = (
        Vectors(randn(12, d, seed=seed)[users], randn(train.n_items, d, seed=seed + 1)) for d, seed in ((3, 0), (5, 8))
    )
    torch.manual_seed(4)
    distiller = HTD(3, gamma=gamma, level=level, temperature=temperature, rows=rows)  # type: ignore[arg-type]
    distiller.prepare(Setting(3, 5, train=train))
    distiller.double()
    found = distiller(student, teacher, generator("cpu", 1))  # type: ignore[arg-type]

    rng = generator("cpu", 1)
    items = distiller.draw(train.n_items, rng)
    sides = [(student.user, teacher.user), (student.item[items], teacher.item[items])]
    hints, all_s, all_t, group, w = [], [], [], [], []
    for number, (experts, side) in enumerate(zip(distiller.maps, sides, strict=True)):
        assert isinstance(experts, ExpertMixture)
        s, t = (rows.tolist() for rows in side)
        noise = torch.empty(len(t), 3, dtype=torch.float64).exponential_(generator=rng).log().tolist()
        hints.append(sum(hint_of(experts, *each, temperature) for each in zip(s, t, noise, strict=True)) / len(t))
        likes = [liked(experts, row) for row in t]
        group += [(3 * number) + z.index(max(z)) for z in likes]
        w += [0.5 / len(t)] * len(t)
        all_s, all_t = all_s + s, all_t + t
    assert 2 < len({*group}) < len(group)
    expected = gamma * topology(all_s, all_t, group, w, level) + (1 - gamma) * sum(hints) / 2
    assert found.item() == pytest.approx(expected, rel=1e-9)
