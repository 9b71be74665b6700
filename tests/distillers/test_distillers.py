"""Each distiller on views of two models: against loops, and at its limits."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from distiller_parts import MAKERS, make_mf, prepared
from list_parts import INF, ranking, softmax, views

from recdistill.data.csr import Csr
from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.lists import FLOOR, RRD, TopKKL, draw_ranks, unlisted
from recdistill.distillers.response import LogitMSE, SoftLabel
from recdistill.distillers.views import ModelView
from recdistill.models.base import FactorModel
from recdistill.tasks.batches import generator


@pytest.mark.parametrize("name", MAKERS)
def test_a_student_that_is_the_teacher(name: str, schema: Schema, train: Interactions) -> None:
    student, teacher = make_mf(schema, 1), make_mf(schema, 1)
    distiller = prepared(name, 4, 4)
    users = torch.arange(train.n_users)
    if name == "hint":
        with torch.no_grad():
            for linear in (distiller.user_map, distiller.item_map):
                linear.weight.copy_(torch.eye(4))
                linear.bias.zero_()
    value = distiller(*views(student, teacher, train, users), generator("cpu", 1)).mean()
    value.backward()
    if name in ("soft_label", "logit_mse", "hint"):
        assert value.item() == pytest.approx(0, abs=1e-6)
    if name in ("soft_label", "ce_kl", "logit_mse", "hint"):
        assert max(p.grad.abs().max().item() for p in student.parameters() if p.grad is not None) < 1e-6
    assert all(p.grad is None for p in teacher.parameters())


def test_hint_is_the_loop(student: FactorModel, teacher: FactorModel, train: Interactions) -> None:
    distiller, users = prepared("hint"), torch.tensor([4, 1])
    value = distiller(*views(student, teacher, train, users), generator("cpu", 1)).mean()
    items = torch.randint(train.n_items, (10,), generator=generator("cpu", 1))
    means = []
    for linear, ids, side in ((distiller.user_map, users, 0), (distiller.item_map, items, 1)):
        rows = []
        for i in ids.tolist():
            mapped = linear.weight @ student.factors()[side][i] + linear.bias
            rows += [(a - b) ** 2 for a, b in zip(mapped.tolist(), teacher.factors()[side][i].tolist(), strict=True)]
        means.append(sum(rows) / len(rows))
    assert value.item() == pytest.approx(sum(means) / 2, rel=1e-5)


def test_topk_kl_over_the_catalogue_is_the_loop(
    student: FactorModel, teacher: FactorModel, train: Interactions
) -> None:
    users = torch.tensor([4, 1, 9])
    z_s, z_t = student.scores(users).tolist(), teacher.scores(users).tolist()
    total = 0.0
    for row, user in enumerate(users.tolist()):
        seen = set(train.item[train.user == user].tolist())
        top = sorted((i for i in range(train.n_items) if i not in seen), key=lambda i: -z_t[row][i])[:4]
        p, log_q = softmax([z_t[row][i] for i in top], 0.5), [math.log(x) for x in softmax(z_s[row])]
        total -= sum(a * log_q[i] for a, i in zip(p, top, strict=True))
    value = TopKKL(k=4, negatives=0, temperature=0.5)(
        *views(student, teacher, train, users), generator("cpu", 1)
    ).mean()
    assert value.item() == pytest.approx(total / 3, rel=1e-5)


@pytest.mark.parametrize(("n_items", "negatives"), [(150, 50), (150, 400), (300, 200), (2001, 500)])
def test_soft_labels_of_a_sample_stand_for_the_catalogue(n_items: int, negatives: int) -> None:
    """On average, e^(z / T) of the random items sums up to that of all that are neither on the list nor in training."""
    k, tau, users, draws = 40, 5.0, torch.arange(3), 500
    user, item = (torch.rand(3, n_items, generator=generator("cpu", 5)) < 0.1).nonzero(as_tuple=True)
    train, schema = Interactions(user, item, 3, n_items), Schema(3, n_items)
    student, teacher = views(make_mf(schema, 1), make_mf(schema, 2), train, users)
    distiller = SoftLabel(temperature=tau, negatives=negatives, k=k)
    items, _ = teacher.top_items(k)
    with torch.no_grad():
        found = torch.stack([
            torch.stack([(z[:, k:].double() / tau).exp().sum(-1) for z in logits])
            for logits in (distiller.logits(student, teacher, generator("cpu", n)) for n in range(draws))
        ])  # [draws, 2, 3]  # fmt: skip
    for number, view in enumerate((student, teacher)):
        mass = (view.scores().detach().double() / tau).exp()
        for row in range(3):
            had = {*item[user == row].tolist(), *items[row].tolist()}
            expected = sum(mass[row, other].item() for other in range(n_items) if other not in had)
            own = found[:, number, row]
            error = own.std().item() / math.sqrt(draws)
            assert error < 0.01 * expected, "too noisy to tell"
            assert abs(own.mean().item() - expected) < 4 * error


def test_soft_labels_of_a_sample_are_the_loop(student: FactorModel, teacher: FactorModel, train: Interactions) -> None:
    """Each of the others with what it stands for; and so many of them that the loss is that over all but training."""
    users = torch.tensor([0, 3])
    both, z = views(student, teacher, train, users), [m.scores(users).detach().double() for m in (student, teacher)]
    seen = [set(train.item[train.user == user].tolist()) for user in users.tolist()]

    def loop(row: int, others: list[int], stands_for: float) -> float:
        top = ranking(teacher.scores(torch.arange(12)), train, int(users[row]), 4)
        items = [(item, 1.0) for item in top]
        items += [(item, stands_for) for item in others if item not in {*top, *seen[row]}]
        masses = [[count * math.exp(scores[row, item] / 2) for item, count in items] for scores in z]
        q, p = ([mass / sum(own) for mass in own] for own in masses)
        return 4 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))

    others = torch.randint(17, (6,), generator=generator("cpu", 3)).tolist()
    few = SoftLabel(temperature=2.0, negatives=6, k=4)(*both, generator("cpu", 3))
    assert few.tolist() == pytest.approx([loop(row, others, 17 / 6) for row in range(2)], rel=1e-4)
    many = SoftLabel(temperature=2.0, negatives=400_000, k=4)(*both, generator("cpu", 3))
    assert many.tolist() == pytest.approx([loop(row, list(range(17)), 1.0) for row in range(2)], rel=0.02)


def test_unlisted_hides_what_is_listed_also_when_it_is_drawn_twice(student: FactorModel) -> None:
    users = torch.tensor([0, 3])
    view = ModelView(student, users, Csr(torch.zeros(13, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)))
    items = torch.tensor([[2, 5, 7], [0, 1, 2]])
    listed = torch.tensor([[True, True, False], [True, True, True]])  # 7 stands behind the end
    others = torch.randint(17, (60,), generator=generator("cpu", 3))
    assert 7 in others
    got = unlisted(items, listed, view, 60, generator("cpu", 3))
    full = student.scores(users)
    for row in range(2):
        for column, item in enumerate(others.tolist()):
            expected = FLOOR if item in items[row, listed[row]].tolist() else full[row, item].item()
            assert got[row, column].item() == pytest.approx(expected, rel=1e-5)


def test_ranks_are_drawn_without_replacement_by_their_weights() -> None:
    scores = torch.zeros(40_000, 4)
    drawn = draw_ranks(scores, 2, 1.5, generator("cpu", 1))
    assert bool((drawn[:, 0] < drawn[:, 1]).all())
    p = softmax([0, -1, -2, -3], 1.5)
    for a, b in itertools.combinations(range(4), 2):
        expected = p[a] * p[b] / (1 - p[a]) + p[b] * p[a] / (1 - p[b])
        share = ((drawn[:, 0] == a) & (drawn[:, 1] == b)).double().mean().item()
        assert share == pytest.approx(expected, abs=0.01)
    scores[:, 2:] = -INF
    assert bool((draw_ranks(scores, 2, 1.5, generator("cpu", 1)) == torch.tensor([0, 1])).all())


@pytest.mark.parametrize("name", MAKERS)
def test_users_who_have_seen_nearly_everything(name: str, full_user: Interactions) -> None:
    schema = Schema(3, 6)
    student, teacher = make_mf(schema, 1), make_mf(schema, 2, dim=5)
    distiller = prepared(name)
    value = distiller(*views(student, teacher, full_user, torch.tensor([0, 1, 2])), generator("cpu", 1)).mean()
    value.backward()
    assert bool(value.isfinite())
    assert all(bool(p.grad.isfinite().all()) for p in student.parameters() if p.grad is not None)


@pytest.mark.parametrize(("user", "k", "listed"), [(1, 5, 2), (2, 3, 3)])
def test_behind_the_end_of_a_list_and_of_training_items_nothing_counts(
    full_user: Interactions, user: int, k: int, listed: int
) -> None:
    """User 1 can only be shown items 1 and 4, user 2 all but item 1: what else is in the loss was drawn at random."""
    student, teacher = make_mf(Schema(3, 6), 1), make_mf(Schema(3, 6), 2, dim=5)
    both = views(student, teacher, full_user, torch.tensor([user]))
    value = TopKKL(k=k, negatives=7)(*both, generator("cpu", 1)).mean()
    z_s, z_t = (m.scores(torch.tensor([user]))[0].tolist() for m in (student, teacher))
    seen = full_user.item[full_user.user == user].tolist()
    top = sorted((i for i in range(6) if i not in seen), key=lambda i: -z_t[i])[:listed]
    drawn = torch.randint(6, (7,), generator=generator("cpu", 1)).tolist()
    others = [i for i in drawn if i not in seen and i not in top]
    assert bool(others) == (user == 2)
    q, p = softmax([z_s[i] for i in [*top, *others]]), softmax([z_t[i] for i in top])
    assert value.item() == pytest.approx(-sum(a * math.log(b) for a, b in zip(p, q[:listed], strict=True)), rel=1e-5)


def test_lists_of_a_user_who_has_seen_everything_teach_nothing(full_user: Interactions) -> None:
    schema = Schema(3, 6)
    for distiller in (TopKKL(k=4, negatives=0), TopKKL(k=4, negatives=5), RRD(k=3, pool=4, uninteresting=5)):
        student, teacher = make_mf(schema, 1), make_mf(schema, 2, dim=5)
        value = distiller(*views(student, teacher, full_user, torch.tensor([0])), generator("cpu", 1)).mean()
        value.backward()
        assert value.item() == 0
        assert student.user.weight.grad.abs().max() == 0  # type: ignore[union-attr]


def test_a_step_with_the_same_seed_is_the_same(student: FactorModel, teacher: FactorModel, train: Interactions) -> None:
    users = torch.arange(5)
    for name in MAKERS:
        distiller = prepared(name)
        values = {
            distiller(*views(student, teacher, train, users), generator("cpu", 5)).mean().item() for _ in range(3)
        }
        assert len(values) == 1


def test_logit_mse_is_the_loop(student: FactorModel, teacher: FactorModel, train: Interactions) -> None:
    users = torch.tensor([4, 1])
    z_s, z_t = student.scores(users).detach(), teacher.scores(users).detach()
    masked = z_t.clone()
    for row, user in enumerate(users.tolist()):
        masked[row, train.item[train.user == user]] = -INF
    top = masked.topk(4).indices
    others = torch.randint(train.n_items, (4,), generator=generator("cpu", 1))
    gap = (z_t - z_s).square()
    expected = (gap.gather(1, top).mean() + gap[:, others].mean()) / 2
    value = LogitMSE(k=4)(*views(student, teacher, train, users), generator("cpu", 1))
    assert value.mean().item() == pytest.approx(expected.item(), rel=1e-5)
