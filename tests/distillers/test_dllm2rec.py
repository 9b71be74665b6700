"""Language models' lists against the formula in plain Python, with confidences of scores and of a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from distiller_parts import make_mf
from hypothesis import given
from hypothesis import strategies as st
from list_parts import INF, randn, ranking, ready, sigmoid, softmax, value_of, views
from torch import Tensor

from recdistill.data.interactions import Dataset, Interactions, Schema
from recdistill.distillers.base import Moment, Needs, Setting
from recdistill.distillers.discrepancy import isin
from recdistill.distillers.dllm2rec import DLLM2Rec, importance
from recdistill.distillers.signals import check_needs, compute_signals
from recdistill.distillers.stored import StoredTeacher
from recdistill.distillers.views import ModelView
from recdistill.errors import InputError
from recdistill.models.base import FactorModel
from recdistill.models.given import GivenLists
from recdistill.tasks.batches import generator

USERS = torch.tensor([4, 1, 7])


def weights_of(sure: list[float], agreed: list[bool], shares: tuple[float, ...], temperature: float) -> list[float]:
    """Of one list, term by term."""
    place = [math.exp(-r / temperature) for r in range(1, len(sure) + 1)]
    raw = [
        shares[0] * p / sum(place) + shares[1] * (c / sum(sure) if sum(sure) else 0) + shares[2] * both
        for p, c, both in zip(place, sure, agreed, strict=True)
    ]
    return [w / sum(raw) for w in raw] if sum(raw) else [1 / len(raw)] * len(raw)


def oracle(student: FactorModel, lists: list[tuple[list[int], list[float]]], train: Interactions,
           distiller: DLLM2Rec, drawn: list[int] | None) -> list[float]:  # fmt: skip
    """The loss of each user of USERS, from the teacher's items and confidences."""
    z_s = student.scores(torch.arange(train.n_users)).double()
    values = []
    for user, (items, sure) in zip(USERS.tolist(), lists, strict=True):
        z, own = z_s[user].tolist(), ranking(z_s, train, user, distiller.k)
        seen = train.item[train.user == user].tolist()
        w = weights_of(sure, [i in own for i in items], distiller.shares, distiller.position_temperature)
        rest = None if drawn is None else [z[i] for i in drawn if i not in items and i not in seen]
        if distiller.loss == "bce":
            assert rest
            below = sum(-math.log(1 - sigmoid(x)) for x in rest) / len(rest)
            values.append(-sum(a * math.log(sigmoid(z[i])) for a, i in zip(w, items, strict=True)) + below)
            continue
        normal = sum(map(math.exp, z if rest is None else [z[i] for i in items] + rest))
        values.append(-sum(a * (z[i] - math.log(normal)) for a, i in zip(w, items, strict=True)))
    return values


@pytest.mark.parametrize("shares", [(0.3, 0.5, 0.1), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
@pytest.mark.parametrize(("loss", "negatives"), [("softmax", 0), ("softmax", 40), ("bce", 40)])
def test_it_is_the_loop(
    student: FactorModel, teacher: FactorModel, train: Interactions, shares: tuple[float, ...], loss: Any,
    negatives: int,
) -> None:  # fmt: skip
    distiller = DLLM2Rec(5, *shares, position_temperature=2.0, temperature=0.7, loss=loss, negatives=negatives)
    ready(distiller, student, teacher, train)
    z_t = teacher.scores(torch.arange(train.n_users)).double()
    lists = []
    for user in USERS.tolist():
        items = ranking(z_t, train, user, 5)
        lists.append((items, softmax(z_t[user][items].tolist(), 0.7)))
    drawn = torch.randint(train.n_items, (negatives,), generator=generator("cpu", 1)).tolist() if negatives else None
    expected = oracle(student, lists, train, distiller, drawn)
    assert value_of(distiller, student, teacher, train, USERS).tolist() == pytest.approx(expected, rel=1e-5)


def look(queries: int, student: Any) -> Moment:
    """The first moment of a training; what the teacher says is not asked then."""
    return Moment(0, 1, queries, student, lambda _: None, generator("cpu", 0))


def from_file(folder: Path, train: Interactions, rows: list[tuple[int, int, int, float]]) -> GivenLists:
    """A teacher that is a file of user, rank, item and confidence."""
    names = {"user": str, "rank": str, "item": str, "confidence": float}
    columns = {name: [kind(row[n]) for row in rows] for n, (name, kind) in enumerate(names.items())}
    pl.DataFrame(columns).write_parquet(folder / "lists.parquet")
    ids = [np.array([str(n) for n in range(size)], dtype=object) for size in (train.n_users, train.n_items)]
    data = Dataset(train, train, train, *ids, report={}, manifest={}, fingerprint="f")
    model = GivenLists(
        Schema(train.n_users, train.n_items), str(folder / "lists.parquet"), rank="rank", confidence="confidence"
    )
    model.make(data, {})
    return model


@pytest.mark.parametrize("stored", [False, True])
def test_confidences_of_a_file_weigh_its_places(
    student: FactorModel, train: Interactions, tmp_path: Path, stored: bool
) -> None:
    """In float16, whatever the order of the file's rows; live as stored."""
    rng, rows, lists = np.random.default_rng(0), [], []
    for user in range(train.n_users):
        seen = train.item[train.user == user].tolist()
        items = [i for i in rng.permutation(train.n_items).tolist() if i not in seen][: 2 + user % 4]
        sure = [float(np.float16(x)) for x in rng.random(len(items))]
        rows += [(user, rank, item, c) for rank, (item, c) in enumerate(zip(items, sure, strict=True), 1)]
        lists.append((items, sure))
    teacher = from_file(tmp_path, train, [rows[n] for n in rng.permutation(len(rows))])
    distiller = DLLM2Rec(4, confidences="given", negatives=0)
    check_needs(teacher, distiller.needs(), train.n_users)
    distiller.prepare(Setting(4, train=train, queries=train.n_users))
    distiller.start_epoch(look(train.n_users, lambda users: ModelView(student, users, train.csr)))
    view: Any = ModelView(teacher, USERS, train.csr)  # type: ignore[arg-type]
    if stored:
        compute_signals(teacher, train, distiller.needs(), tmp_path / "signals")
        kept = StoredTeacher(tmp_path / "signals")
        assert kept.tensors["top_confidences"].dtype == torch.float16
        view = kept.view(USERS)
    value = distiller(ModelView(student, USERS, train.csr), view, generator("cpu", 1))
    expected = oracle(student, [(lists[u][0][:4], lists[u][1][:4]) for u in USERS.tolist()], train, distiller, None)
    assert value.tolist() == pytest.approx(expected, rel=1e-5)


def test_confidences_that_nobody_gave_are_asked_for_in_vain(teacher: FactorModel) -> None:
    with pytest.raises(InputError, match="MF has no confidences beside its lists") as error:
        check_needs(teacher, DLLM2Rec(confidences="given").needs(), 3)
    assert "confidences=scores" in (error.value.fix or "")
    lists = GivenLists(Schema(3, 4), "lists.parquet")
    with pytest.raises(InputError, match="GivenLists has no confidences"):
        check_needs(lists, Needs(top_k=3, confidences=True), 3)


rows_of = st.lists(st.floats(0, 1, width=16), min_size=4, max_size=4)


@given(rows_of, st.lists(st.booleans(), min_size=4, max_size=4), st.integers(0, 4),
       st.tuples(*[st.sampled_from([0.0, 0.1, 0.5, 2.0])] * 3).filter(any))  # fmt: skip
def test_importance_is_the_loop(sure: list[float], agreed: list[bool], length: int, shares: tuple[float, ...]) -> None:
    listed = torch.arange(4) < length
    place = torch.softmax(-torch.arange(1, 5).double(), -1)
    both = torch.tensor([agreed]) & listed
    found = importance(place, torch.tensor([sure]).double(), both, listed.unsqueeze(0), shares)[0]
    expected = weights_of(sure[:length], agreed[:length], shares, 1.0) if length else []
    assert found.tolist() == pytest.approx(expected + [0.0] * (4 - length))


def test_a_sharp_softmax_trusts_the_first_place_alone(
    student: FactorModel, teacher: FactorModel, train: Interactions
) -> None:
    sharp = DLLM2Rec(5, 0.0, 1.0, 0.0, temperature=1e-3, negatives=0)
    ready(sharp, student, teacher, train)
    found = value_of(sharp, student, teacher, train, USERS)
    items = views(student, teacher, train, USERS)[1].top_items(1)[0]
    z = student.scores(USERS)
    assert found.tolist() == pytest.approx((z.logsumexp(-1) - z.gather(1, items).squeeze(1)).tolist(), rel=1e-5)


def test_who_agrees() -> None:
    items, own = torch.tensor([[3, 1, 5], [0, 1, 2]]), torch.tensor([[1, 5, 3], [2, 0, 0]])
    listed = torch.tensor([[True, True, False], [True, True, True]])
    mine = torch.tensor([[True, True, True], [True, False, False]])
    assert (isin(items, own, mine) & listed).tolist() == [[True, True, False], [False, False, True]]


def losses(z: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Both forms of the loss for a student that answers z of a catalogue of six, the first four of which are listed."""

    class View:
        n_items = 6
        users = torch.arange(len(z))

        def scores(self, items: Tensor | None = None) -> Tensor:
            return z if items is None else z[:, items] if items.dim() == 1 else z.gather(1, items)

        def log_normaliser(self) -> Tensor:
            return z.logsumexp(-1)

        def seen_pairs(self) -> tuple[Tensor, Tensor]:
            return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)

        def top_items(self, k: int) -> tuple[Tensor, Tensor]:
            scores, items = z.detach().topk(k)
            return items, scores

    class Lists(View):
        def top_items(self, k: int) -> tuple[Tensor, Tensor]:
            return torch.arange(k).expand(len(z), k), torch.tensor([3.0, 2.0, 1.0, -INF]).expand(len(z), 4).double()

        def top_confidences(self, k: int) -> Tensor:
            return weights[:, :k]

    kinds: list[dict[str, Any]] = [{"negatives": 0}, {"negatives": 9}, {"loss": "bce", "negatives": 9}]
    found = {}
    for kind in kinds:
        distiller = DLLM2Rec(4, confidences="given", **kind)
        distiller.prepare(Setting(train=Interactions(torch.tensor([0]), torch.tensor([0]), len(z), 6), queries=len(z)))
        distiller.start_epoch(look(len(z), lambda _: View()))
        found[str(kind)] = distiller(View(), Lists(), generator("cpu", 1))
    return found


def test_gradcheck_and_large_scores() -> None:
    sure = randn(3, 4, seed=2).sigmoid()
    for name in losses(randn(3, 6), sure):
        assert torch.autograd.gradcheck(lambda z, n=name: losses(z, sure)[n], (randn(3, 6).requires_grad_(),))
        for scale in (1e4, -1e4):
            large = (scale * torch.ones(3, 6, dtype=torch.float64)).requires_grad_()
            losses(large, sure)[name].sum().backward()
            assert large.grad is not None
            assert bool(large.grad.isfinite().all())


@pytest.mark.parametrize("loss", ["softmax", "bce"])
def test_short_and_empty_lists(full_user: Interactions, loss: Any) -> None:
    student, teacher = make_mf(Schema(3, 6), 1), make_mf(Schema(3, 6), 2, dim=5)
    distiller = DLLM2Rec(4, loss=loss, negatives=5)
    ready(distiller, student, teacher, full_user)
    value = value_of(distiller, student, teacher, full_user, torch.arange(3))
    assert value[0].item() == 0
    assert bool(value.isfinite().all())
    value.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in student.parameters() if p.grad is not None)


def test_the_student_is_looked_at_every_few_epochs(
    student: FactorModel, teacher: FactorModel, train: Interactions
) -> None:
    """In between, what it agreed to before counts; without a share for it there is nothing to look at."""
    distiller = DLLM2Rec(5, 0.1, 0.1, 5.0, negatives=0, every=3)
    other = make_mf(Schema(train.n_users, train.n_items), 9)
    z_t = teacher.scores(torch.arange(train.n_users)).double()
    lists = [(ranking(z_t, train, u, 5), softmax([z_t[u][i].item() for i in ranking(z_t, train, u, 5)]))
             for u in USERS.tolist()]  # fmt: skip

    def expected(looked: FactorModel) -> list[float]:
        z, own = student.scores(USERS).double(), looked.scores(torch.arange(train.n_users)).double()
        values = []
        for row, (user, (items, sure)) in enumerate(zip(USERS.tolist(), lists, strict=True)):
            agreed = [i in ranking(own, train, user, 5) for i in items]
            w = weights_of(sure, agreed, distiller.shares, 1.0)
            values.append(-sum(a * z[row].log_softmax(-1)[i].item() for a, i in zip(w, items, strict=True)))
        return values

    assert expected(student) != pytest.approx(expected(other), rel=1e-3)
    for epoch, looked in enumerate([other, other, other, student]):
        ready(distiller, other if epoch < 3 else student, teacher, train, epoch)
        found = value_of(distiller, student, teacher, train, USERS).tolist()
        assert found == pytest.approx(expected(looked), rel=1e-5)
    ready(distiller, other, teacher, train, 4)
    assert value_of(distiller, student, teacher, train, USERS).tolist() == pytest.approx(expected(student), rel=1e-5)
    without = DLLM2Rec(5, agreement=0.0)
    ready(without, student, teacher, train)
    assert not list(without.buffers())


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(ValueError, match="all 0"):
        DLLM2Rec(position=0, confidence=0, agreement=0)
    with pytest.raises(ValueError, match="loss=bce needs negatives"):
        DLLM2Rec(loss="bce", negatives=0)


@pytest.mark.parametrize(
    ("loss", "whole", "found"), [("softmax", True, 0), ("softmax", False, 500), ("bce", True, 500)]
)
def test_what_stands_for_the_catalogue(loss: Any, whole: bool, found: int) -> None:
    distiller = DLLM2Rec(loss=loss)
    train = Interactions(torch.tensor([0]), torch.tensor([0]), 1, 5000)
    distiller.prepare(Setting(train=train, whole=whole))
    assert distiller.negatives == found
