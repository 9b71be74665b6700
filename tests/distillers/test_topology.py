"""Losses on relations: against loops in float64, and at their limits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from distiller_parts import make_mf
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.base import Needs, Setting
from recdistill.distillers.features import VectorDistiller
from recdistill.distillers.relations import (
    CKA,
    RKD,
    SimilarityPreserving,
    angle_loss,
    cka_loss,
    distance_loss,
    similarity_loss,
)
from recdistill.distillers.teacher import LiveTeacher
from recdistill.distillers.topology import FTD, HTD, hierarchical_loss, topology_loss
from recdistill.distillers.views import ModelView
from recdistill.tasks.batches import generator

Row = list[float]


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dot(a: Row, b: Row) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def minus(a: Row, b: Row) -> Row:
    return [x - y for x, y in zip(a, b, strict=True)]


def norm(a: Row) -> float:
    return math.sqrt(dot(a, a))


def cos(a: Row, b: Row) -> float:
    return dot(a, b) / (norm(a) * norm(b))


def mean_of(rows: list[Row]) -> Row:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def huber(x: float) -> float:
    return x * x / 2 if abs(x) <= 1 else abs(x) - 0.5


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@given(st.integers(0, 50))
def test_topology_is_the_loop(seed: int) -> None:
    s, t, w = randn(5, 3, seed=seed), randn(5, 4, seed=seed + 99), randn(5, seed=seed).softmax(0)
    total = sum(
        w[i].item() * w[j].item() * (cos(t[i].tolist(), t[j].tolist()) - cos(s[i].tolist(), s[j].tolist())) ** 2
        for i in range(5) for j in range(5)
    )  # fmt: skip
    assert topology_loss(s, t, w).item() == pytest.approx(total)


@pytest.mark.parametrize("level", ["entity", "group"])
@pytest.mark.parametrize("group", [[0, 2, 0, 2, 5, 0], [1, 1, 1, 1, 1, 1], [0, 1, 2, 3, 4, 5]])
def test_hierarchy_is_the_loop(level: str, group: list[int]) -> None:
    s, t, w = randn(6, 3), randn(6, 4, seed=1), randn(6, seed=2).softmax(0)
    rows_s, rows_t, names = s.tolist(), t.tolist(), sorted(set(group))
    inside = [(i, j) for i in range(6) for j in range(6) if group[i] == group[j]]
    weights = [(w[i] * w[j]).item() for i, j in inside]
    gaps = [(cos(rows_t[i], rows_t[j]) - cos(rows_s[i], rows_s[j])) ** 2 for i, j in inside]
    total = dot(weights, gaps) / sum(weights)
    middle_s, middle_t = (
        [mean_of([row for row, own in zip(rows, group, strict=True) if own == g]) for g in names]
        for rows in (rows_s, rows_t)
    )
    if level == "group":
        pairs = itertools.product(range(len(names)), repeat=2)
        total += mean([(cos(middle_t[g], middle_t[h]) - cos(middle_s[g], middle_s[h])) ** 2 for g, h in pairs])
    else:
        total += mean([
            dot(w.tolist(), [(cos(p_t, rows_t[i]) - cos(p_s, rows_s[i])) ** 2 for i in range(6)])
            for p_s, p_t in zip(middle_s, middle_t, strict=True)
        ])  # fmt: skip
    assert hierarchical_loss(s, t, torch.tensor(group), w, level).item() == pytest.approx(total)  # type: ignore[arg-type]


def test_what_the_authors_code_leaves_out() -> None:
    """Of pairs whose cosine is negative nothing is learned, and prototypes are held: among groups nothing at all."""
    s, t, group = randn(4, 3), randn(4, 3, seed=1), torch.tensor([0, 0, 1, 1])
    t[1], t[3] = -t[0], -t[2]
    share = torch.full((4,), 0.25, dtype=torch.float64)
    x = s.clone().requires_grad_()
    hierarchical_loss(x, t, group, share, "group", authors_code=True).backward()
    assert x.grad is not None
    assert x.grad.abs().max() < 1e-12
    x.grad = None
    hierarchical_loss(x, t, group, share, "group").backward()
    assert x.grad.abs().max() > 1e-3


@given(st.integers(0, 50), st.sampled_from([0.3, 5.0]))
def test_distances_and_angles_are_the_loops(seed: int, scale: float) -> None:
    s, t = (scale * randn(5, 3, seed=seed)).exp(), randn(5, 4, seed=seed + 99)  # some gaps are beyond 1
    a, b = s.tolist(), t.tolist()
    pairs = list(itertools.combinations(range(5), 2))
    d_s, d_t = ([norm(minus(x[i], x[j])) for i, j in pairs] for x in (a, b))
    expected = mean([huber(y / mean(d_t) - x / mean(d_s)) for x, y in zip(d_s, d_t, strict=True)])
    assert distance_loss(s, t).item() == pytest.approx(expected)
    triples = list(itertools.permutations(range(5), 3))
    gaps = [
        cos(minus(b[i], b[j]), minus(b[k], b[j])) - cos(minus(a[i], a[j]), minus(a[k], a[j])) for i, j, k in triples
    ]
    assert angle_loss(s, t).item() == pytest.approx(mean([huber(gap) for gap in gaps]))


@given(st.integers(0, 50))
def test_similarity_is_the_loop(seed: int) -> None:
    s, t = randn(5, 3, seed=seed).tolist(), randn(5, 4, seed=seed + 99).tolist()
    total = 0.0
    for i in range(5):
        g_s, g_t = ([dot(x[i], x[j]) for j in range(5)] for x in (s, t))
        total += sum((y / norm(g_t) - x / norm(g_s)) ** 2 for x, y in zip(g_s, g_t, strict=True))
    found = similarity_loss(torch.tensor(s, dtype=torch.float64), torch.tensor(t, dtype=torch.float64))
    assert found.item() == pytest.approx(total / 5)


@given(st.integers(0, 50))
def test_cka_is_one_minus_the_alignment_of_centred_kernels(seed: int) -> None:
    """By its other definition: HSIC of the kernels over the root of their own."""
    s, t = randn(6, 3, seed=seed), randn(6, 4, seed=seed + 99)
    centre = torch.eye(6, dtype=torch.float64) - 1 / 6
    k, l = (centre @ rows @ rows.T @ centre for rows in (s, t))  # noqa: E741
    expected = 1 - (k * l).sum() / ((k * k).sum() * (l * l).sum()).sqrt()
    assert cka_loss(s, t).item() == pytest.approx(expected.item())


def test_what_each_does_not_see() -> None:
    s, t = randn(6, 3), randn(6, 4, seed=1)
    turn = torch.linalg.qr(randn(3, 3, seed=5))[0]
    for loss in LOSSES.values():
        assert loss(3.0 * s @ turn, t).item() == pytest.approx(loss(s, t).item()), "rotation and scale"
    shift = randn(3, seed=7)
    for loss in (distance_loss, angle_loss, cka_loss):
        assert loss(s + shift, t).item() == pytest.approx(loss(s, t).item())


def even(n: int) -> Tensor:
    return torch.full((n,), 1 / n, dtype=torch.float64)


GROUP = torch.tensor([0, 1, 0, 1, 2, 0])
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "topology": lambda s, t: topology_loss(s, t, even(len(s)).to(s.dtype)),
    "hierarchy": lambda s, t: hierarchical_loss(s, t, GROUP[: len(s)], even(len(s)).to(s.dtype)),
    "hierarchy_groups": lambda s, t: hierarchical_loss(s, t, GROUP[: len(s)], even(len(s)).to(s.dtype), "group"),
    "distance": distance_loss,
    "angle": angle_loss,
    "similarity": similarity_loss,
    "cka": cka_loss,
}


@pytest.mark.parametrize("name", LOSSES)
class TestLimits:
    def test_gradcheck(self, name: str) -> None:
        assert torch.autograd.gradcheck(lambda s: LOSSES[name](s, randn(6, 4, seed=1)), (randn(6, 3).requires_grad_(),))

    def test_no_gap_no_gradient(self, name: str) -> None:
        t = randn(6, 4)
        s = t.clone().requires_grad_()
        value = LOSSES[name](s, t)
        value.backward()
        assert value.item() == pytest.approx(0, abs=1e-12)
        assert s.grad is not None
        assert s.grad.abs().max() < 1e-9

    @pytest.mark.parametrize("scale", [0.0, 1e-8, 1e4])
    def test_extreme_and_equal_vectors(self, name: str, scale: float) -> None:
        s, t = (scale * randn(6, 3).float()), (scale * randn(6, 4, seed=1).float())
        s[1], t[1], s[2] = s[0], t[0], s[0]  # an item drawn twice, and two users that the student does not tell apart
        s.requires_grad_()
        value = LOSSES[name](s, t)
        value.backward()
        assert bool(value.isfinite())
        assert s.grad is not None
        assert bool(s.grad.isfinite().all())

    def test_one_row(self, name: str) -> None:
        s = randn(1, 3).requires_grad_()
        value = LOSSES[name](s, randn(1, 4, seed=1))
        value.backward()
        assert bool(value.isfinite())
        assert s.grad is not None
        assert bool(s.grad.isfinite().all())


MAKERS: dict[str, Callable[[], VectorDistiller]] = {
    "ftd": lambda: FTD(rows=6),
    "rkd": lambda: RKD(rows=6, triples=5),
    "similarity": lambda: SimilarityPreserving(rows=6),
    "cka": lambda: CKA(rows=6),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_student_that_is_the_teacher(name: str, schema: Schema, train: Interactions) -> None:
    student, distiller = make_mf(schema, 1), MAKERS[name]()
    distiller.prepare(Setting(4, 4, train=train))
    users = torch.arange(train.n_users)
    teacher = LiveTeacher(make_mf(schema, 1), train).view(users)
    value = distiller(ModelView(student, users, train.csr), teacher, generator("cpu", 1))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-5)
    for parameter in student.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() < 1e-5


def test_users_and_items_weigh_the_same_however_many(schema: Schema, train: Interactions) -> None:
    student, teacher, distiller = make_mf(schema, 1), LiveTeacher(make_mf(schema, 2, 5), train), FTD(rows=200)
    distiller.prepare(Setting(4, 6, train=train))
    values = []
    for repeats in (1, 9):
        users = torch.tensor([3, 5, 0]).repeat(repeats)
        view = ModelView(student, users, train.csr)
        values.append(distiller(view, teacher.view(users), generator("cpu", 1)).item())
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_ftd_is_the_loop_over_users_and_items_together(schema: Schema, train: Interactions) -> None:
    student, teacher, distiller = make_mf(schema, 1), LiveTeacher(make_mf(schema, 2, 5), train), FTD(rows=7)
    distiller.prepare(Setting(4, 6, train=train))
    users = torch.tensor([3, 5, 0])
    view = ModelView(student, users, train.csr)
    found = distiller(view, teacher.view(users), generator("cpu", 1))
    items = distiller.draw(train.n_items, generator("cpu", 1))
    s, t = (
        [*model.factors()[0][users].tolist(), *model.factors()[1][items].tolist()]
        for model in (student, teacher.model)  # type: ignore[union-attr]
    )
    w = [0.5 / 3] * 3 + [0.5 / 7] * 7
    total = sum(w[i] * w[j] * (cos(t[i], t[j]) - cos(s[i], s[j])) ** 2 for i in range(10) for j in range(10))
    assert found.item() == pytest.approx(total, rel=1e-5)


def test_rkd_weighs_distances_of_all_and_angles_of_some() -> None:
    s, t = randn(7, 3), randn(7, 4, seed=1)
    expected = 0.7 * distance_loss(s, t) + 1.3 * angle_loss(s[:5], t[:5])
    assert RKD(distance=0.7, angle=1.3, triples=5).loss(s, t).item() == pytest.approx(expected.item())


def test_groups_of_users_and_items_are_different(schema: Schema, train: Interactions) -> None:
    """With a selector that prefers one group for all, users are compared with users, and items with items."""
    student, teacher, distiller = (
        make_mf(schema, 1),
        LiveTeacher(make_mf(schema, 2, 5), train),
        HTD(3, gamma=0.999, rows=6),
    )
    distiller.prepare(Setting(4, 6, train=train))
    for experts in distiller.maps:
        with torch.no_grad():
            experts.selector.weight.zero_()  # type: ignore[union-attr]
            experts.selector.bias.copy_(torch.tensor([0.0, 9.0, 0.0]))  # type: ignore[union-attr]
    users = torch.tensor([3, 5, 0])
    view = ModelView(student, users, train.csr)
    found = distiller(view, teacher.view(users), generator("cpu", 1))
    sides = distiller.vectors(view, teacher.view(users), generator("cpu", 1))  # type: ignore[arg-type]
    s, t = (torch.cat([side[k] for side in sides]) for k in (0, 1))
    group = torch.tensor([1] * 3 + [4] * 6)
    share = torch.tensor([1 / 6] * 3 + [1 / 12] * 6)
    assert found.item() == pytest.approx(hierarchical_loss(s, t, group, share).item(), rel=0.1)


def test_layers_change_what_is_needed() -> None:
    vectors, layers = RKD(), RKD(layers={"deep": "trunk", "fields": "trunk"})
    assert vectors.needs() == Needs(embeddings=True)
    assert "ranking" in vectors.tasks
    assert layers.needs() == Needs(layers=("trunk",))
    assert layers.layers == ("deep", "fields")
    assert "ranking" not in layers.tasks
    assert {"ctr", "rating", "classification", "sequence"} == set(layers.tasks)
    layers.prepare(Setting())


class Layered:
    """A view whose layers are given."""

    def __init__(self, outputs: dict[str, Tensor]):
        self.outputs = outputs

    def layer(self, name: str) -> Tensor:
        return self.outputs[name]


@pytest.mark.parametrize("kind", [RKD, SimilarityPreserving, CKA])
def test_of_layers_it_is_the_mean_over_pairs(kind: Callable[..., RKD]) -> None:
    distiller = kind(layers={"a": "x", "b": "x"}, rows=4)
    distiller.prepare(Setting())
    student, teacher = {"a": randn(6, 3), "b": randn(6, 5, seed=1)}, {"x": randn(6, 2, seed=2)}
    found = distiller(Layered(student), Layered(teacher), generator("cpu", 1))
    losses = [distiller.loss(rows[:4], teacher["x"][:4]).item() for rows in student.values()]
    assert found.item() == pytest.approx(mean(losses))


@pytest.mark.parametrize("kind", [RKD, SimilarityPreserving, CKA])
def test_a_teacher_that_learns_too_has_its_own_layers(kind: Callable[..., RKD]) -> None:
    distiller = kind(layers={"a": "x", "b": "x"}, rows=4)
    distiller.swap()
    assert (distiller.layers, distiller.needs()) == (("x",), Needs(layers=("a", "b")))
    student, teacher = {"a": randn(6, 3), "b": randn(6, 5, seed=1)}, {"x": randn(6, 2, seed=2)}
    found = distiller(Layered(teacher), Layered(student), generator("cpu", 1))
    losses = [distiller.loss(teacher["x"][:4], rows[:4]).item() for rows in student.values()]
    assert found.item() == pytest.approx(mean(losses))
    vectors = kind()
    vectors.swap()
    assert vectors.needs() == Needs(embeddings=True)
