"""Soft labels from a list and the mass behind it: against loops, whole soft labels, and stored as live."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from distiller_parts import make_mf
from list_parts import INF, randn, ranking, value_of
from torch import Tensor

from recdistill.data.interactions import Dataset, Interactions, Schema
from recdistill.distillers.base import Needs
from recdistill.distillers.lists import FLOOR
from recdistill.distillers.response import soft_label_loss
from recdistill.distillers.signals import compute_signals
from recdistill.distillers.stored import StoredTeacher
from recdistill.distillers.tail import TailKL, tail_kl_loss
from recdistill.distillers.teacher import LiveTeacher
from recdistill.distillers.views import ModelView
from recdistill.models.base import FactorModel, RankingModel
from recdistill.models.given import GivenLists
from recdistill.models.neumf import NeuMF
from recdistill.tasks.batches import generator
from recdistill.tasks.objectives import SequenceSoftmax
from recdistill.tasks.sequence import Sequence

sys.path.insert(0, str(Path(__file__).parents[1] / "tasks"))
from sequence_kit import model_of, sequences

K, T = 4, 0.7
USERS = torch.tensor([9, 0, 3])


def loop(z_s: list[float], z_t: list[float], out: set[int], k: int, temperature: float) -> float:
    """T² Σ p_t log(p_t / p_s) over the teacher's first k of what is not out, and all others as one."""
    left = sorted((i for i in range(len(z_t)) if i not in out), key=lambda i: -z_t[i])
    masses = []
    for z in (z_t, z_s):
        e = [math.exp(z[i] / temperature) for i in left]
        masses.append([*e[:k], sum(e[k:])])
    (t, s), kl = masses, 0.0
    for a, b in zip(t, s, strict=True):
        p, q = a / sum(t) if t else 0, b / sum(s) if s else 0
        kl += p * math.log(p / q) if p else 0.0
    return temperature**2 * kl


def made(kind: str, schema: Schema, seed: int) -> RankingModel:
    if kind == "mf":
        return make_mf(schema, seed, dim=5)
    torch.manual_seed(seed)
    return NeuMF(schema, dim=4, layers=2, init_std=1.0)


@pytest.mark.parametrize("teacher", ["mf", "neumf"])
@pytest.mark.parametrize("student", ["mf", "neumf"])
@pytest.mark.parametrize("shared", [False, True], ids=["fused", "shared scores"])
def test_the_distiller_is_the_loop(
    schema: Schema, train: Interactions, student: str, teacher: str, shared: bool
) -> None:
    own, other = made(student, schema, 1), made(teacher, schema, 2)
    views = [ModelView(own, USERS, train.csr), ModelView(other, USERS, train.csr)]
    if shared:
        views[0].scores()
    z_s, z_t = (view.scores().double().tolist() for view in (ModelView(m, USERS, train.csr) for m in (own, other)))
    expected = [
        loop(z_s[row], z_t[row], set(train.item[train.user == user].tolist()), K, T)
        for row, user in enumerate(USERS.tolist())
    ]
    assert TailKL(K, 0, T)(*views, generator("cpu", 1)).tolist() == pytest.approx(expected, rel=1e-4)


def test_all_items_are_the_soft_labels_of_the_catalogue(student: FactorModel, teacher: FactorModel) -> None:
    """And fewer are never more, since outcomes are merged: the less, the fewer."""
    nothing = torch.empty(0, dtype=torch.int64)
    train = Interactions(nothing, nothing, 12, 17)
    whole = soft_label_loss(student.scores(USERS), teacher.scores(USERS), 2.0)
    found = torch.stack([value_of(TailKL(k, 0, 2.0), student, teacher, train, USERS) for k in (1, 5, 16, 17, 40)])
    torch.testing.assert_close(found[2:], whole.expand(3, -1), rtol=1e-4, atol=1e-6)
    assert bool((found.diff(dim=0)[:2] > 0).all())


def test_a_student_that_is_the_teacher_learns_nothing(teacher: FactorModel, train: Interactions) -> None:
    loss = TailKL(K, 0, T)(*(ModelView(teacher, USERS, train.csr) for _ in range(2)), generator("cpu", 1))
    assert loss.tolist() == pytest.approx([0.0] * 3, abs=1e-6)
    loss.sum().backward()
    assert max(float(p.grad.abs().max()) for p in teacher.parameters() if p.grad is not None) < 1e-5


@pytest.mark.parametrize("kind", ["mf", "neumf"])
@pytest.mark.parametrize("longest", [K, 9], ids=["its own list", "a longer one"])
def test_stored_is_live(schema: Schema, train: Interactions, tmp_path: Path, kind: str, longest: int) -> None:
    """Also where another distiller has asked for a longer list, so that the tail begins on it."""
    model, student = made(kind, schema, 2), make_mf(schema, 1)
    distiller = TailKL(K, 0, T)
    compute_signals(model, train, distiller.needs() | Needs(top_k=longest, tails=(3.0,)), tmp_path, chunk=5)
    live, stored = LiveTeacher(model, train).view(USERS), StoredTeacher(tmp_path).view(USERS)
    for temperature in (T, 3.0):
        torch.testing.assert_close(stored.log_tail(K, temperature), live.log_tail(K, temperature))
    losses = [distiller(ModelView(student, USERS, train.csr), view, generator("cpu", 1)) for view in (live, stored)]
    torch.testing.assert_close(*losses)


def test_the_places_of_histories(tmp_path: Path) -> None:
    """Live, stored and the loop; the items of a place are those that its user had by then."""
    train = sequences([2, 9, 1, 5, 23], n_items=30)
    task, distiller, query = Sequence(max_length=5), TailKL(K, 0, T), torch.tensor([0, 4, 30, 12])
    student, model = model_of(train, dtype=torch.float32), model_of(train, dtype=torch.float32)
    with torch.no_grad():
        student.item.weight.copy_(torch.randn(student.item.weight.shape, generator=torch.Generator().manual_seed(5)))
    compute_signals(model, train, distiller.needs(), tmp_path, ask=task.view, queries=task.queries(train))
    live = LiveTeacher(model, train, task.view).view(query)
    z_s, z_t = (task.view(m, train, query).scores().double().tolist() for m in (student, model))
    had = train.timeline.had(query)
    expected = [loop(z_s[row], z_t[row], set(had.rows(torch.tensor([row]))[1].tolist()), K, T) for row in range(4)]
    for view in (live, StoredTeacher(tmp_path).view(query)):
        loss = distiller(task.view(student, train, query), view, generator("cpu", 1))
        assert loss.tolist() == pytest.approx(expected, rel=1e-4)


def test_all_places_of_a_step_in_one_pass(tmp_path: Path) -> None:
    """As many queries as there are places and more: each learns from the stored list of its own event."""
    train = sequences([2, 5, 4, 3], n_items=30)
    task, distiller = Sequence(max_length=5), TailKL(K, 0, T)
    student, model = (model_of(train, dtype=torch.float32) for _ in range(2))
    with torch.no_grad():
        student.item.weight.mul_(3)
    compute_signals(model, train, distiller.needs(), tmp_path, ask=task.view, queries=task.queries(train))
    plan = task.epoch(train, SequenceSoftmax(), seed=1, epoch=0, batch_size=9, queries=10**9)
    batch, student.calls = plan.batch(0), 0
    assert plan.steps == 1
    assert len(batch.query) == 1 + 4 + 3 + 2, "the last event of a user has no next one"
    own = StoredTeacher(tmp_path).view(batch.query)
    loss = distiller(task.batch_view(student, batch, train), own, generator("cpu", 1))
    assert student.calls == 1
    expected = distiller(task.view(student, train, batch.query), own, generator("cpu", 1))
    torch.testing.assert_close(loss, expected)  # no history is longer than a window
    assert bool((loss > 0).all())


def test_users_who_have_seen_nearly_everything(full_user: Interactions) -> None:
    """All of it: 0. All but two items: no tail, of either."""
    student, teacher = make_mf(Schema(3, 6), 1), make_mf(Schema(3, 6), 2, dim=5)
    loss = value_of(TailKL(2, 0, T), student, teacher, full_user, torch.arange(3))
    z_s, z_t = (m.scores(torch.arange(3)).double().tolist() for m in (student, teacher))
    expected = [0.0, loop(z_s[1], z_t[1], {0, 2, 3, 5}, 2, T), loop(z_s[2], z_t[2], {1}, 2, T)]
    assert loss.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)
    loss.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in student.parameters() if p.grad is not None)


@pytest.mark.parametrize("kept", [3, 1])
def test_a_list_from_a_file_ends(schema: Schema, train: Interactions, tmp_path: Path, kept: int) -> None:
    """Behind its end there is no mass of the teacher's; behind the first places of it there is that of the others."""
    ids, user = range(train.n_items), 3
    free = [i for i in ids if i not in set(train.item[train.user == user].tolist())][:3]
    rows = {"user": [str(user)] * 3, "item": [str(i) for i in free], "score": [2.0, 1.0, 0.5]}
    pl.DataFrame(rows).write_parquet(tmp_path / "lists.parquet")
    names = torch.arange(20).numpy().astype(str)
    model = GivenLists(schema, str(tmp_path / "lists.parquet"))
    model.make(Dataset(train, train, train, names, names, {}, {}, "x"), {})
    distiller = TailKL(kept, 0, T)
    compute_signals(model, train, distiller.needs(), tmp_path / "signals")
    student, users = make_mf(schema, 1), torch.tensor([user, 5])
    z_s = student.scores(users).double()[0].tolist()
    z_t = [dict(zip(free, rows["score"], strict=True)).get(i, -1e3) for i in ids]
    expected = loop(z_s, z_t, set(train.item[train.user == user].tolist()), kept, T)
    for view in (LiveTeacher(model, train).view(users), StoredTeacher(tmp_path / "signals").view(users)):
        assert view.log_tail(kept, T).isinf().tolist() == [kept == 3, True]
        loss = distiller(ModelView(student, users, train.csr), view, generator("cpu", 1))
        assert loss.tolist() == pytest.approx([expected, 0.0], rel=1e-4), "of a user without a list there is nothing"


def test_a_list_with_nearly_all_of_the_mass() -> None:
    """In float32, where 1 - Σ p_t of the list would be a rounding error; against the same in float64."""
    top_s, top_t = (30 * randn(5, 6, seed=s).sort(-1, descending=True).values for s in (1, 2))
    rest_s, tail_t = top_s[:, 0] - 40, top_t[:, 0] - 25
    top_t[1, 3:], tail_t[1] = -INF, -INF
    rest_s[2] = FLOOR
    tail_t[2] = -INF
    given = [x.float().requires_grad_() for x in (top_s, rest_s)]
    loss = tail_kl_loss(*given, top_t.float(), tail_t.float(), 2.0)
    exact = tail_kl_loss(top_s, rest_s, top_t, tail_t, 2.0)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-5)
    loss.sum().backward()
    assert all(bool(x.grad.isfinite().all()) for x in given)
    assert not bool(given[0].grad[1, 3:].any())


def test_the_tail_of_a_sure_teacher_is_no_rounding_error(schema: Schema, train: Interactions) -> None:
    """e^-40 of the mass and less: its logarithm is exact to the last digits, live and of the student."""
    model = make_mf(schema, 2, dim=5)
    with torch.no_grad():
        model.user.weight.mul_(12)
    view, z = ModelView(model, USERS, train.csr), model.scores(USERS).double()
    items, _ = view.top_items(K)
    rest = view.log_rest(items, torch.ones_like(items, dtype=torch.bool), T)
    for row, user in enumerate(USERS.tolist()):
        behind = ranking(model.scores(torch.arange(12)), train, user, 17)[K:]
        expected = (z[row, behind] / T).logsumexp(0).item()
        assert view.log_tail(K, T)[row].item() == pytest.approx(expected, rel=1e-5)
        assert rest[row].item() == pytest.approx(expected, rel=1e-5)


def test_gradients() -> None:
    top_t, tail_t = randn(4, 5, seed=2).sort(-1, descending=True).values, randn(4, seed=3)
    top_t[0, 3:], tail_t[0], top_t[1], tail_t[1] = -INF, -INF, -INF, -INF

    def loss(top: Tensor, rest: Tensor) -> Tensor:
        return tail_kl_loss(top, rest, top_t, tail_t, T)

    given: Any = (randn(4, 5).requires_grad_(), randn(4, seed=1).requires_grad_())
    assert torch.autograd.gradcheck(loss, given)
    assert loss(*given)[1].item() == 0


def test_tails_are_wanted_at_each_temperature() -> None:
    assert TailKL(K, temperature=2.0).needs() | TailKL(9, temperature=1.0).needs() == Needs(top_k=9, tails=(1.0, 2.0))


def test_the_tail_of_a_sample_is_right_on_average(schema: Schema, train: Interactions) -> None:
    """Its mass, over many draws, is that of all unlisted items; and the loss takes it."""
    view, teacher = (ModelView(make_mf(schema, seed), USERS, train.csr) for seed in (1, 2))
    items, top_t = teacher.top_items(K)
    drawn = TailKL(K, 6, T)
    masses = torch.stack([drawn.log_rest(view, items, items >= 0, generator("cpu", n)).exp() for n in range(4000)])
    z = view.scores().detach().double()
    for row, user in enumerate(USERS.tolist()):
        out = {*train.item[train.user == user].tolist(), *items[row].tolist()}
        exact = sum(math.exp(z[row, i] / T) for i in range(train.n_items) if i not in out)
        error = masses[:, row].std().item() / math.sqrt(len(masses))
        assert abs(masses[:, row].mean().item() - exact) < 4 * error < 0.1 * exact
    rest = drawn.log_rest(view, items, items >= 0, generator("cpu", 5))
    expected = tail_kl_loss(view.scores(items), rest, top_t, teacher.log_tail(K, T), T)
    torch.testing.assert_close(drawn(view, teacher, generator("cpu", 5)), expected)


def test_a_sample_of_hidden_items_says_nothing_of_the_tail(schema: Schema) -> None:
    """Of the first user all but two items are known: they are hardly drawn."""
    items = torch.arange(15)
    train = Interactions(torch.zeros(15, dtype=torch.int64), items, 12, 17)
    view, teacher = (ModelView(make_mf(schema, seed), torch.tensor([0]), train.csr) for seed in (1, 2))
    losses = torch.stack([TailKL(1, 1, T)(view, teacher, generator("cpu", n)) for n in range(40)]).detach()
    assert float(losses.max()) < 1e3
    assert int((losses == 0).sum()) > 20
