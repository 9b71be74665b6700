"""The gate over several teachers of lists, classes and numbers: against loops in float64, and what it comes to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from list_parts import INF, randn, softmax
from torch import Tensor

from recdistill.data.features import Features
from recdistill.data.interactions import Interactions, Schema
from recdistill.data.rows import Rows
from recdistill.distillers.base import Setting
from recdistill.distillers.ensembles import GatedEnsemble
from recdistill.distillers.lists import TopKKL
from recdistill.distillers.signals import compute_signals
from recdistill.distillers.stored import StoredTeacher
from recdistill.distillers.teacher import LiveTeacher, view_of_users
from recdistill.distillers.views import ModelView
from recdistill.models.base import TableModel
from recdistill.models.ensemble import RankingEnsemble, RatingEnsemble, TableEnsemble
from recdistill.models.given import GivenLists
from recdistill.models.mf import MF
from recdistill.tasks.classification import Classification
from recdistill.tasks.rating import Rating
from recdistill.tasks.table_batches import TablePart

Q, ITEMS, K, M = 5, 12, 4, 3
RNG = torch.Generator()


@dataclass
class Lists:
    """A view that ranks a catalogue by its scores ``[Q, I]``, and names so many items of each query."""

    z: Tensor
    length: Tensor | None = None
    parts: tuple[Lists, ...] = ()
    regression = False
    n_items = ITEMS

    def members(self) -> list[Lists]:
        return list(self.parts) or [self]

    def scores(self, items: Tensor) -> Tensor:
        return self.z.gather(1, items)

    def log_normaliser(self) -> Tensor:
        return self.z.logsumexp(-1)

    def top_items(self, k: int) -> tuple[Tensor, Tensor]:
        top, items = self.z.detach().topk(k)
        if self.length is not None:
            top = top.masked_fill(torch.arange(k) >= self.length.unsqueeze(1), -INF)
        return items, top


@dataclass
class Rowwise:
    """A view of rows: logits ``[Q, C]``, or numbers."""

    z: Tensor
    regression: bool = False
    parts: tuple[Rowwise, ...] = ()

    def members(self) -> list[Rowwise]:
        return list(self.parts) or [self]

    def scores(self) -> Tensor:
        return self.z


def lists(short: bool = True) -> Lists:
    """Three members; with lists that are whole, short and, of some queries, empty. Query 4 has none of anybody."""
    lengths = ([4, 2, 0, 4, 0], [4, 4, 3, 0, 0], [1, 0, 0, 4, 0]) if short else ([K] * Q,) * M
    return Lists(randn(Q, ITEMS), None, tuple(
        Lists(2 * randn(Q, ITEMS, seed=10 + m), torch.tensor(length)) for m, length in enumerate(lengths)
    ))  # fmt: skip


def rows(outputs: int) -> Rowwise:
    number = outputs == 1
    return Rowwise(randn(Q, outputs), number, tuple(Rowwise(randn(Q, outputs, seed=m), number) for m in range(10, 13)))


def gated(members: int = M, outputs: int = 1, **more: Any) -> GatedEnsemble:
    """With a gate that has learned something, in float64."""
    distiller = GatedEnsemble(**{"k": K, "negatives": 0, "temperature": 0.7, **more})
    distiller.prepare(Setting(members=members, outputs=outputs))
    distiller.advance(0.0)
    distiller.double()
    for number, parameter in enumerate(distiller.parameters()):
        parameter.data.copy_(randn(*parameter.shape, seed=20 + number))
    return distiller


def weighted(distiller: GatedEnsemble, seen: list[float], there: list[bool]) -> list[float]:
    """α of one query, by hand."""
    assert distiller.gate is not None
    w, b = distiller.gate.weight.tolist(), distiller.gate.bias.tolist()
    raw = [sum(a * x for a, x in zip(row, seen, strict=True)) + b[m] for m, row in enumerate(w)]
    e = [math.exp(x) if here else 0.0 for x, here in zip(raw, there, strict=True)]
    return [x / sum(e) if any(there) else 0.0 for x in e]


def test_lists_are_the_loop() -> None:
    distiller, teacher, student = gated(), lists(), Lists(randn(Q, ITEMS, seed=5))
    found = distiller(student, teacher, RNG)
    totals = [0.0] * M
    for q in range(Q):
        divergence, sure, there = [], [], []
        mass = sum(math.exp(z) for z in student.z[q].tolist())
        for member in teacher.parts:
            assert member.length is not None
            z = member.z[q].tolist()
            order = sorted(range(ITEMS), key=lambda i: -z[i])[: int(member.length[q])]
            p = softmax([z[i] for i in order], 0.7) if order else []
            log_q = [float(student.z[q, i]) - math.log(mass) for i in order]
            divergence.append(sum(a * (math.log(a) - b) for a, b in zip(p, log_q, strict=True)))
            sure.append(1 + sum(a * math.log(a) for a in p) / math.log(K) if order else 0.0)
            there.append(bool(order))
        alpha = weighted(distiller, sure, there)
        totals = [a + b for a, b in zip(totals, alpha, strict=True)]
        assert found[q].item() == pytest.approx(sum(a * d for a, d in zip(alpha, divergence, strict=True)), abs=1e-9)
    assert found[4] == 0  # nobody has a list for it, so that it counts in no mean either
    logged = distiller.advance(0.5)
    assert logged == pytest.approx({f"share.{m}": totals[m] / (Q - 1) for m in range(M)})


@pytest.mark.parametrize("classes", [2, 4])
def test_classes_are_the_loop(classes: int) -> None:
    distiller, teacher, student = gated(outputs=classes, temperature=2.0), rows(classes), Rowwise(randn(Q, classes))
    found = distiller(student, teacher, RNG)
    for q in range(Q):
        p = [softmax(member.z[q].tolist(), 2.0) for member in teacher.parts]
        s = softmax(student.z[q].tolist(), 2.0)
        divergence = [4 * sum(a * math.log(a / b) for a, b in zip(one, s, strict=True)) for one in p]
        alpha = weighted(distiller, [x for one in p for x in one], [True] * M)
        assert found[q].item() == pytest.approx(sum(a * d for a, d in zip(alpha, divergence, strict=True)))


def test_numbers_are_the_loop() -> None:
    distiller, teacher, student = gated(), rows(1), Rowwise(randn(Q, 1, seed=1), regression=True)
    found = distiller(student, teacher, RNG)
    for q in range(Q):
        z = [float(member.z[q, 0]) for member in teacher.parts]
        alpha = weighted(distiller, z, [True] * M)
        expected = sum(a * (x - float(student.z[q, 0])) ** 2 / 2 for a, x in zip(alpha, z, strict=True))
        assert found[q].item() == pytest.approx(expected)


CASES: dict[str, tuple[Callable[[], Any], int, type[Any]]] = {
    "lists": (lists, 1, Lists), "classes": (lambda: rows(4), 4, Rowwise), "numbers": (lambda: rows(1), 1, Rowwise),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_student_and_gate(case: str) -> None:
    make, outputs, _ = CASES[case]
    distiller, teacher = gated(outputs=outputs), make()
    weights = dict(distiller.named_parameters())
    z = teacher.z.clone().requires_grad_()

    def loss(z: Tensor, *held: Tensor) -> Tensor:
        given = dict(zip(weights, held, strict=True)), (replace(teacher, z=z, parts=()), teacher, RNG)
        return torch.func.functional_call(distiller, *given)

    assert torch.autograd.gradcheck(loss, (z, *weights.values()))
    grads = torch.autograd.grad(loss(z, *weights.values()).sum(), (z, *weights.values()))
    assert all(bool(grad.any()) for grad in grads)


@pytest.mark.parametrize("case", CASES)
def test_a_student_that_is_the_only_member_with_a_say_learns_nothing(case: str) -> None:
    """Of a list: that has the member's distribution on it, and nothing elsewhere."""
    make, outputs, kind = CASES[case]
    distiller, teacher = gated(outputs=outputs), lists(short=False) if case == "lists" else make()
    assert distiller.gate is not None
    distiller.gate.bias.data[1] = 200.0  # the second one alone
    z = teacher.parts[1].z
    if kind is Lists:
        z = z / 0.7 + torch.full_like(z, -1e9).scatter(1, z.topk(K).indices, 0.0)
    z = z.clone().requires_grad_()
    loss = distiller(replace(teacher, z=z, parts=()), teacher, RNG)
    (grad,) = torch.autograd.grad(loss.sum(), z)
    assert loss.abs().max() < 1e-9
    assert grad.abs().max() < 1e-9
    (far,) = torch.autograd.grad(distiller(replace(teacher, z=-z, parts=()), teacher, RNG).sum(), z)
    assert far.abs().max() > 0.1


def test_a_single_teacher_is_that_of_its_list() -> None:
    """No gate; the gradient is topk_kl's, the value its without the teacher's entropy."""
    distiller, student = gated(members=1), Lists(randn(Q, ITEMS, seed=5).requires_grad_())
    (teacher, *_) = lists().parts
    plain = TopKKL(K, 0, 0.7)
    found, other = distiller(student, teacher, RNG), plain(student, teacher, RNG)
    grads = [torch.autograd.grad(loss.sum(), student.z)[0] for loss in (found, other)]
    torch.testing.assert_close(*grads)
    assert not list(distiller.parameters())
    assert distiller.advance(0.5) == {}
    assert bool((found[:2] < other[:2]).all())
    assert found[2] == other[2] == 0  # no list


def test_items_behind_the_end_of_a_list_do_not_count() -> None:
    distiller, teacher, student = gated(), lists(), Lists(randn(Q, ITEMS, seed=5))
    before = distiller(student, teacher, RNG)

    class Elsewhere(Lists):
        def top_items(self, k: int) -> tuple[Tensor, Tensor]:
            items, top = super().top_items(k)
            return torch.where(top > -INF, items, 0), top

    moved = tuple(Elsewhere(member.z, member.length) for member in teacher.parts)
    assert torch.equal(distiller(student, replace(teacher, parts=moved), RNG), before)


@pytest.mark.parametrize("case", CASES)
def test_all_count_alike_at_first(case: str) -> None:
    make, outputs, _ = CASES[case]
    distiller, teacher = GatedEnsemble(K, 0), lists(short=False) if case == "lists" else make()
    distiller.prepare(Setting(members=M, outputs=outputs))
    student = replace(teacher, parts=())
    one = GatedEnsemble(K, 0)
    one.prepare(Setting())
    mean = sum(one(student, member, RNG) for member in teacher.parts) / M
    torch.testing.assert_close(distiller(student, teacher, RNG), mean)
    assert distiller.advance(0.0) == pytest.approx({f"share.{m}": 1 / M for m in range(M)})


def test_the_gate_learns_query_by_query_whom_the_student_agrees_with() -> None:
    """Two members, each of whom says what the student says where it is the surer one."""
    half = torch.arange(Q) % 2 == 0
    z = 6 * randn(Q, ITEMS, seed=5)
    parts = tuple(Lists(torch.where(own.unsqueeze(1), z, -0.1 * z)) for own in (half, ~half))
    distiller, student, teacher = GatedEnsemble(K, 0), Lists(z), Lists(z, None, parts)
    distiller.prepare(Setting(members=2))
    distiller.double()
    optimizer = torch.optim.Adam(distiller.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        distiller(student, teacher, RNG).mean().backward()
        optimizer.step()
    _, sure, there = distiller.of_lists(student, list(parts), RNG)
    alpha = distiller.shares(sure, there)
    assert bool((alpha[0, half] > 0.8).all())
    assert bool((alpha[1, ~half] > 0.8).all())


def test_stored_lists_are_the_live_ones(schema: Schema, train: Interactions, tmp_path: Path) -> None:
    """One member knows some users alone, as a file does."""
    given = GivenLists(schema, "unused", k=5)
    for user in range(0, schema.n_users, 2):
        free = sorted(set(range(schema.n_items)) - set(train.item[train.user == user].tolist()))[: 2 + user % 3]
        given.items[user, : len(free)] = torch.tensor(free, dtype=torch.int32)
        given.score[user] = 1.0
        given.score[user, : len(free)] = 1.0 + torch.arange(len(free)).flip(0)
        given.length[user] = len(free)
    members: dict[str, Any] = {"mf": {"net": {"_target_": "recdistill.models.mf.MF", "dim": 3}}}
    torch.manual_seed(0)
    model = RankingEnsemble(schema, members).eval()
    model.make(None, {"mf": MF(schema, dim=3, init_std=1.0), "file": given})
    model.bind(train)
    distiller = gated(members=2, negatives=5)
    compute_signals(model, train, distiller.needs(), tmp_path)
    users, student = torch.tensor([3, 0, 4]), ModelView(MF(schema, dim=2), torch.tensor([3, 0, 4]), train.csr)
    found = []
    for teacher in (LiveTeacher(model, train, view_of_users), StoredTeacher(tmp_path)):
        found.append(distiller(student, teacher.view(users), torch.Generator().manual_seed(1)))
        _, sure, there = distiller.of_lists(student, teacher.view(users).members(), torch.Generator())
        assert there.tolist() == [[True] * 3, [False, True, True]]
        assert distiller.shares(sure, there)[:, 0].tolist() == [1, 0]
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


class ByItem(TableModel):
    """An answer for each item."""

    def __init__(self, schema: Schema):
        super().__init__(schema)
        self.table = torch.nn.Embedding(6, schema.n_outputs)

    def forward(self, rows: Rows) -> Tensor:
        found: Tensor = self.table(rows.categorical[:, 0])
        return found.squeeze(1) if self.schema.n_outputs == 1 else found


@pytest.mark.parametrize(
    ("kind", "task", "outputs"), [(RatingEnsemble, Rating(), 1), (TableEnsemble, Classification(), 3)]
)
def test_stored_rows_are_the_live_ones(kind: type[Any], task: Any, outputs: int, tmp_path: Path) -> None:
    torch.manual_seed(1)
    label = torch.rand(9) if outputs == 1 else torch.randint(3, (9,))
    part = TablePart(Rows.of(Features({"item": torch.randint(1, 6, (9,))}), 9), label)
    schema = Schema(features={"categorical": {"item": 6}}, n_outputs=outputs)
    model = kind(schema, {"a": {"net": {"_target_": "recdistill.models.lr.LR"}}})
    model.make(None, {name: ByItem(schema) for name in "abc"})
    distiller = gated(outputs=outputs)
    compute_signals(model.eval(), part, distiller.needs(), tmp_path, ask=task.view, queries=9)
    query = torch.tensor([4, 0, 8])
    student = task.view(ByItem(schema), part, query)
    live, stored = LiveTeacher(model, part, task.view), StoredTeacher(tmp_path)
    losses = [distiller(student, teacher.view(query), RNG) for teacher in (live, stored)]
    assert losses[0].shape == (3,)
    assert bool((losses[0] > 0).all())
    torch.testing.assert_close(*losses)
