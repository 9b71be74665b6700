"""Z-scored soft labels and correlations: against loops and numpy, and whatever the scale of the student."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from distiller_parts import make_mf
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.lists import FLOOR
from recdistill.distillers.response import soft_label_loss
from recdistill.distillers.scale_free import DIST, LogitStandardised, dist_loss, pearson, standardised
from recdistill.distillers.teacher import LiveTeacher
from recdistill.distillers.views import ModelView
from recdistill.tasks.batches import generator


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def everything(x: Tensor) -> Tensor:
    return torch.ones_like(x, dtype=torch.bool)


class Rows:
    def __init__(self, logits: Tensor):
        self.logits = logits

    def scores(self) -> Tensor:
        return self.logits


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 9), st.integers(0, 999), st.floats(1e-6, 1e6))
def test_pearson_is_numpys(n: int, seed: int, scale: float) -> None:
    x, y = randn(3, n, seed=seed), randn(3, n, seed=seed + 1)
    kept = everything(x)
    if n > 3:
        kept[:, 1] = False
    found = pearson(x * scale, y, kept)
    for row in range(3):
        a, b = x[row][kept[row]].numpy(), y[row][kept[row]].numpy()
        assert found[row].item() == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-9)


def test_standardised_is_the_loop() -> None:
    z, hidden = randn(3, 5), torch.zeros(3, 5, dtype=torch.bool)
    hidden[1, 2:] = True
    hidden[2] = True
    found = standardised(z, hidden)
    for row in range(3):
        kept = z[row][~hidden[row]].numpy()
        if len(kept):
            expected = torch.from_numpy((kept - kept.mean()) / kept.std())
            torch.testing.assert_close(found[row][~hidden[row]], expected, atol=1e-9, rtol=1e-9)
    assert bool((found[hidden] == FLOOR).all())


def test_dist_is_the_loop_over_rows_and_columns() -> None:
    s, z = randn(6, 4), randn(6, 4, seed=1)
    p, q = (s / 2).softmax(-1).numpy(), (z / 2).softmax(-1).numpy()
    rows = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    columns = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    distiller = DIST(beta=0.7, gamma=1.3, temperature=2.0)
    assert distiller(Rows(s), Rows(z), torch.Generator()).item() == pytest.approx(0.7 * rows + 1.3 * columns)


@pytest.mark.parametrize("beta", [0.0, 1.0, 7.0])
def test_of_two_classes_it_is_columns_alone(beta: float) -> None:
    """Two probabilities correlate with 1 or -1, a constant, which would be logged, and nothing learned from it."""
    s, z = randn(9, 2), randn(9, 2, seed=1)
    p, q = (x.softmax(-1).numpy() for x in (s, z))
    columns = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    found = DIST(beta=beta, gamma=1.3)(Rows(s), Rows(z), torch.Generator())
    assert found.item() == pytest.approx(1.3 * columns)


def test_z_scored_soft_labels() -> None:
    s, z = randn(6, 4), randn(6, 4, seed=1)
    by_row = [
        torch.from_numpy((a - a.mean(-1, keepdims=True)) / a.std(-1, keepdims=True)) for a in (s.numpy(), z.numpy())
    ]
    found = LogitStandardised(temperature=2.0)(Rows(s), Rows(z), torch.Generator())
    torch.testing.assert_close(found, soft_label_loss(*by_row, 2.0))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_logits_of_any_place_and_scale(scale: float) -> None:
    """A student that is the teacher but for place and scale has nothing to learn; KL on the logits would have."""
    z = randn(5, 6)
    s = (z * scale + 3).requires_grad_()
    value = LogitStandardised()(Rows(s), Rows(z), torch.Generator())
    value.sum().backward()
    assert s.grad is not None
    assert value.max() < 1e-6
    assert s.grad.abs().max() * scale < 1e-5
    p = z.softmax(-1)
    torch.testing.assert_close(dist_loss(p * scale + 1, p, everything(p)), torch.zeros(5, dtype=torch.float64))
    assert soft_label_loss(z * 3, z, 1.0).min() > 1e-3


def test_gradcheck() -> None:
    z, x = randn(4, 5, seed=3), randn(4, 5)
    for distiller in (DIST(), LogitStandardised()):
        assert torch.autograd.gradcheck(
            lambda s, d=distiller: d(Rows(s), Rows(z), torch.Generator()), (x.clone().requires_grad_(),)
        )


def test_no_gap_no_gradient() -> None:
    for distiller in (DIST(), LogitStandardised()):
        s = randn(4, 5).requires_grad_()
        value = distiller(Rows(s), Rows(s.detach().clone()), torch.Generator()).sum()
        value.backward()
        assert value.abs().item() < 1e-12
        assert s.grad is not None
        assert s.grad.abs().max() < 1e-9


@pytest.mark.parametrize("size", [0.0, 1e-8, 1e4])
def test_flat_and_extreme_answers(size: float) -> None:
    """Answers that do not vary correlate with nothing: finite gradients, and no value that is not a number."""
    for distiller in (DIST(), LogitStandardised()):
        for seed in range(4):
            s = (randn(4, 5, seed=seed).float() * size).requires_grad_()
            value = distiller(Rows(s), Rows(randn(4, 5, seed=seed + 9).float() * max(size, 1.0)), torch.Generator())
            value.sum().backward()
            assert bool(value.isfinite().all())
            assert s.grad is not None
            assert bool(s.grad.isfinite().all())
    flat = torch.zeros(2, 5)
    assert pearson(flat, torch.randn(2, 5), everything(flat)).abs().max() == 0


@pytest.mark.parametrize("others", [0, 30])
def test_short_and_empty_lists(full_user: Interactions, others: int) -> None:
    schema, users = Schema(3, 6), torch.arange(3)
    student, teacher = make_mf(schema, 1), make_mf(schema, 2, 5)
    live = LiveTeacher(teacher, full_user).view(users)
    s, z = student.scores(users).detach(), teacher.scores(users).detach()
    free = {1: [1, 4], 2: [0, 2, 3, 4, 5]}
    found = LogitStandardised(k=5, others=others)(ModelView(student, users, full_user.csr), live, generator("cpu", 1))
    for user, items in free.items():
        both = standardised(s[user, items].double().unsqueeze(0)), standardised(z[user, items].double().unsqueeze(0))
        assert found[user].item() == pytest.approx(soft_label_loss(*both, 2.0).item(), rel=1e-4, abs=1e-5)
    assert found[0].item() == 0
    value = DIST(k=5, others=others, gamma=0.0)(ModelView(student, users, full_user.csr), live, generator("cpu", 1))
    row = 1 - np.corrcoef(*(x[2, free[2]].softmax(-1) for x in (s, z)))[0, 1]
    assert value.item() == pytest.approx(row / 3, abs=1e-5)  # an empty list and one of two have nothing to say
    value.backward()
    assert all(bool(p.grad.isfinite().all()) for p in student.parameters() if p.grad is not None)


def test_the_columns_of_lists_are_the_items_beside_them(schema: Schema, train: Interactions) -> None:
    users = torch.arange(train.n_users)
    student, teacher = make_mf(schema, 1), make_mf(schema, 2, 5)
    live = LiveTeacher(teacher, train).view(users)
    found = DIST(beta=0.0, k=3, others=4)(ModelView(student, users, train.csr), live, generator("cpu", 5))
    drawn = torch.randint(train.n_items, (4,), generator=generator("cpu", 5)).tolist()
    s, z = student.scores(users).detach(), teacher.scores(users).detach()
    listed = [live.top_items(3)[0][user].tolist() for user in users]
    open_ = [[i for i in drawn if i not in listed[u] and not train.csr.contains(users[u : u + 1], torch.tensor([i]))]
             for u in users]  # fmt: skip
    values = []
    for item in drawn:
        pairs = []
        for user in users.tolist():
            if item in open_[user]:
                choice = [*listed[user], *open_[user]]
                place = choice.index(item)
                pairs.append([a[user, choice].softmax(-1)[place].item() for a in (s, z)])
        values.append(1 - np.corrcoef(np.array(pairs).T)[0, 1] if len(pairs) > 2 else 0.0)
    assert found.item() == pytest.approx(sum(values) / 4, rel=1e-4)
