"""Several teachers at once: weights and gate against plain loops, members live and stored."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from recdistill.data.features import Features
from recdistill.data.interactions import Examples, Interactions, Schema
from recdistill.data.rows import Rows
from recdistill.distillers.base import Needs, Setting
from recdistill.distillers.ensembles import (
    ConfidenceEnsemble,
    CtrEnsemble,
    confidence_weights,
    member_scores,
    soft_cross_entropies,
)
from recdistill.distillers.signals import check_needs, compute_signals
from recdistill.distillers.stored import StoredTeacher
from recdistill.distillers.teacher import LiveTeacher
from recdistill.errors import InputError
from recdistill.models.ensemble import RankingEnsemble, TableEnsemble
from recdistill.models.mf import MF
from recdistill.tasks.ctr import Ctr
from recdistill.tasks.table_batches import TablePart

FEW: dict[str, Any] = {name: {"net": {"_target_": "recdistill.models.lr.LR"}} for name in ("a", "b", "c")}
N = 9


def log_softmax(z: list[float]) -> list[float]:
    top = max(z)
    total = math.log(sum(math.exp(x - top) for x in z)) + top
    return [x - total for x in z]


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("teachers", [1, 2, 3])
def test_losses_are_their_formulas(teachers: int, classes: int, scale: float) -> None:
    torch.manual_seed(teachers)
    z_t, z_s = (scale * torch.randn(*shape, dtype=torch.float64) for shape in ((teachers, N, classes), (N, classes)))
    label, tau = torch.randint(classes, (N,)), 3.0
    found, weight = soft_cross_entropies(z_s, z_t, tau), confidence_weights(z_t, label)
    torch.testing.assert_close(weight.sum(0), torch.ones(N, dtype=torch.float64))
    for q in range(N):
        losses = [-log_softmax(z_t[m, q].tolist())[label[q]] for m in range(teachers)]
        share = [math.exp(x) for x in log_softmax(losses)]
        for m in range(teachers):
            p = [math.exp(x) for x in log_softmax((z_t[m, q] / tau).tolist())]
            log_q = log_softmax((z_s[q] / tau).tolist())
            expected = -(tau**2) * sum(a * b for a, b in zip(p, log_q, strict=True))
            assert found[m, q].item() == pytest.approx(expected, rel=1e-9)
            assert weight[m, q].item() == pytest.approx((1 - share[m]) / (teachers - 1) if teachers > 1 else 1)


def test_gradients_are_right_and_none_where_student_and_teachers_agree() -> None:
    torch.manual_seed(0)
    z_t, z_s = torch.randn(3, N, 4, dtype=torch.float64), torch.randn(N, 4, dtype=torch.float64, requires_grad=True)
    label = torch.randint(4, (N,))

    def loss(z: Tensor) -> Tensor:
        return (confidence_weights(z_t, label) * soft_cross_entropies(z, z_t, 2.0)).sum(0)

    assert torch.autograd.gradcheck(loss, z_s)
    same = z_t[0].clone().requires_grad_()
    (grad,) = torch.autograd.grad(soft_cross_entropies(same, z_t[:1].expand(3, -1, -1), 2.0).sum(), same)
    assert grad.abs().max() < 1e-12
    extreme = (1e4 * torch.randn(N, 4)).requires_grad_()
    (grad,) = torch.autograd.grad(soft_cross_entropies(extreme, 1e4 * torch.randn(3, N, 4), 1.0).sum(), extreme)
    assert bool(grad.isfinite().all())


@pytest.fixture
def rows() -> TablePart:
    torch.manual_seed(1)
    features = Features({"item": torch.randint(1, 6, (N,))})
    examples = Examples(torch.randint(2, (N,)).float(), features)
    return TablePart(Rows.of(examples.features, N), examples.label)


def teacher_of_clicks() -> TableEnsemble:
    torch.manual_seed(2)
    model = TableEnsemble(Schema(features={"categorical": {"item": 6}}), FEW)
    for member in model.parts():
        for parameter in member.parameters():
            torch.nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("distiller", [CtrEnsemble(2.0), ConfidenceEnsemble(2.0)])
def test_stored_members_are_the_live_ones(distiller: Any, rows: TablePart, tmp_path: Path) -> None:
    task, model, query = Ctr(), teacher_of_clicks(), torch.tensor([4, 0, 8])
    compute_signals(model, rows, distiller.needs(), tmp_path, ask=task.view, queries=N)
    live, stored = LiveTeacher(model, rows, task.view), StoredTeacher(tmp_path)
    assert (live.members, stored.members) == (3, 3)
    torch.testing.assert_close(member_scores(stored.view(query)), member_scores(live.view(query)))
    expected = torch.stack([part(rows.rows.take(query)) for part in model.parts()])
    torch.testing.assert_close(member_scores(stored.view(query))[..., 1], expected)
    distiller.prepare(Setting(members=3))
    student = task.view(teacher_of_clicks().parts()[0], rows, query)
    losses = [distiller(student, teacher.view(query), torch.Generator()) for teacher in (live, stored)]
    assert losses[0].shape == (3,)
    torch.testing.assert_close(*losses)


def test_a_single_teacher_is_its_only_member(rows: TablePart, tmp_path: Path) -> None:
    task, model = Ctr(), teacher_of_clicks().parts()[0]
    compute_signals(model, rows, Needs(scores=True, members=True), tmp_path, ask=task.view, queries=N)
    for teacher in (LiveTeacher(model, rows, task.view), StoredTeacher(tmp_path)):
        view = teacher.view(torch.arange(N))
        assert teacher.members == 1
        torch.testing.assert_close(member_scores(view)[0], view.scores())


def test_the_gate_learns_whom_to_follow() -> None:
    """At first all alike; of two teachers that say the opposite it takes the one that the student agrees with."""
    distiller = CtrEnsemble()
    distiller.prepare(Setting(members=3))
    z = torch.randn(3, N, 2)
    assert torch.equal(distiller.shares(z), torch.full((3, N), 1 / 3))
    student = torch.stack([torch.zeros(N), 2 * torch.ones(N)], -1)
    teachers = torch.stack([student, -student, -student])
    optimizer = torch.optim.Adam(distiller.parameters(), lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        (distiller.shares(teachers) * soft_cross_entropies(student, teachers, 1.0)).sum(0).mean().backward()
        optimizer.step()
    shares = distiller.shares(teachers)
    torch.testing.assert_close(shares.sum(0), torch.ones(N))
    assert bool((shares[0] > 0.9).all())
    logit = teachers[..., 1] - teachers[..., 0]
    for m in range(3):  # softmax of W z + b, by hand
        raw = [sum(distiller.gate.weight[k, j] * logit[j, 0] for j in range(3)) + distiller.gate.bias[k]
               for k in range(3)]  # fmt: skip
        assert shares[m, 0].item() == pytest.approx(math.exp(log_softmax([x.item() for x in raw])[m]), rel=1e-4)


@dataclass(frozen=True)
class Says:
    """A view of logits ``[N, C]``, and those of the members of an ensemble."""

    logits: Tensor
    others: list[Says] = field(default_factory=list)

    def scores(self) -> Tensor:
        return self.logits

    def members(self) -> list[Says]:
        return self.others or [self]


@pytest.mark.parametrize("temperature", [0.5, 3.0])
@pytest.mark.parametrize("teachers", [2, 4])
def test_the_gated_loss_is_the_loop(teachers: int, temperature: float) -> None:
    """Σ_m α_m T² KL(σ(z_m / T) ‖ σ(z_s / T)), with a gate that has learned: without the temperature, not all alike."""
    torch.manual_seed(3)
    distiller = CtrEnsemble(temperature)
    distiller.prepare(Setting(members=teachers))
    distiller.double()
    for parameter in distiller.parameters():
        torch.nn.init.normal_(parameter)
    z_s, z_t = 2 * torch.randn(N, 2, dtype=torch.float64), 2 * torch.randn(teachers, N, 2, dtype=torch.float64)
    found = distiller(Says(z_s), Says(z_t.mean(0), [Says(z) for z in z_t]), torch.Generator())
    weight, bias, most = distiller.gate.weight.tolist(), distiller.gate.bias.tolist(), []
    for q in range(N):
        logit = [(z[q, 1] - z[q, 0]).item() for z in z_t]
        gate = [b + sum(w * x for w, x in zip(row, logit, strict=True)) for row, b in zip(weight, bias, strict=True)]
        alpha, expected = [math.exp(x) for x in log_softmax(gate)], 0.0
        most.append(max(alpha))
        for m in range(teachers):
            log_p, log_q = (log_softmax((z[q] / temperature).tolist()) for z in (z_t[m], z_s))
            divergence = sum(math.exp(a) * (a - b) for a, b in zip(log_p, log_q, strict=True))
            expected += alpha[m] * temperature**2 * divergence
        assert found[q].item() == pytest.approx(expected, rel=1e-9)
    assert max(most) > 1.5 / teachers, "a gate that takes all alike"


def test_the_gate_does_not_prefer_whoever_is_sure() -> None:
    """Against the divergence by hand; of a teacher that says what the student says and one that is nearly sure of no,
    which has the lower cross-entropy, the gate takes the former."""

    def logits(p: float) -> Tensor:
        return torch.tensor([[math.log(1 - p), math.log(p)]]).expand(N, -1)

    distiller, student = CtrEnsemble(), Says(logits(0.3))
    teachers = Says(logits(0.3), [Says(logits(p)) for p in (0.3, 0.01)])
    distiller.prepare(Setting(members=2))
    found = distiller(student, teachers, torch.Generator())
    divergence = 0.01 * math.log(0.01 / 0.3) + 0.99 * math.log(0.99 / 0.7)
    assert found.tolist() == pytest.approx([divergence / 2] * N, rel=1e-4)
    cross = soft_cross_entropies(student.scores(), member_scores(teachers), 1.0)[:, 0]
    assert cross[1] < cross[0]
    optimizer = torch.optim.Adam(distiller.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        distiller(student, teachers, torch.Generator()).mean().backward()
        optimizer.step()
    assert bool((distiller.shares(member_scores(teachers))[0] > 0.9).all())


def test_members_of_a_ranking_give_lists_too(schema: Schema, train: Interactions, tmp_path: Path) -> None:
    members: dict[str, Any] = {n: {"net": {"_target_": "recdistill.models.mf.MF", "dim": 3}} for n in ("a", "b")}
    torch.manual_seed(0)
    model = RankingEnsemble(schema, members).eval()
    model.make(None, {name: MF(schema, dim=3, init_std=1.0) for name in members})
    model.bind(train)
    compute_signals(copy.deepcopy(model), train, Needs(top_k=4, scores=True, members=True), tmp_path)
    users = torch.tensor([3, 0])
    live, stored = LiveTeacher(model, train).view(users).members(), StoredTeacher(tmp_path).view(users).members()
    for part, one, other in zip(model.parts(), live, stored, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(one.scores(), part.scores(users))
        torch.testing.assert_close(other.scores(), one.scores())
        for a, b in zip(one.top_items(4), other.top_items(4), strict=True):
            torch.testing.assert_close(a, b)
    flipped = LiveTeacher(model, train).view(users).flipped(torch.tensor([2])).members()
    assert torch.allclose(flipped[0].scores(), model.parts()[0].scores(torch.arange(12), torch.tensor([2])).T)


def test_too_many_scores_are_refused(schema: Schema, monkeypatch: pytest.MonkeyPatch) -> None:
    """A matrix for the ensemble and one for each member."""
    members: dict[str, Any] = {n: {"net": {"_target_": "recdistill.models.mf.MF", "dim": 3}} for n in ("a", "b")}
    model = RankingEnsemble(schema, members)
    one = 4 * schema.n_users * schema.n_items
    monkeypatch.setattr("recdistill.distillers.signals.MAX_SCORE_BYTES", 3 * one)
    check_needs(model, Needs(scores=True, members=True), schema.n_users)
    monkeypatch.setattr("recdistill.distillers.signals.MAX_SCORE_BYTES", 3 * one - 1)
    check_needs(model, Needs(scores=True), schema.n_users)
    with pytest.raises(InputError, match="all scores of the teacher"):
        check_needs(model, Needs(scores=True, members=True), schema.n_users)
