"""Losses on the logits of clicks: against loops, other forms of themselves, and at their limits."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recdistill.distillers.base import Setting
from recdistill.distillers.clicks import CLID, BCESoft, Debiased, bce_soft_loss, clid_loss, uncertain_loss
from recdistill.distillers.response import LogitMSE, soft_label_loss

PAIRS = st.lists(st.tuples(st.floats(-6, 6), st.floats(-6, 6)), min_size=2, max_size=9)


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def bce(p: float, q: float) -> float:
    return -p * math.log(q) - (1 - p) * math.log(1 - q)


def columns(pairs: list[tuple[float, float]]) -> tuple[Tensor, Tensor]:
    both = torch.tensor(pairs, dtype=torch.float64)
    return both[:, 0], both[:, 1]


@settings(deadline=None, max_examples=60)
@given(PAIRS, st.floats(0.5, 5))
def test_bce_soft_is_the_loop(pairs: list[tuple[float, float]], t: float) -> None:
    s, z = columns(pairs)
    found = bce_soft_loss(s, z, t)
    for value, (a, b) in zip(found.tolist(), pairs, strict=True):
        assert value == pytest.approx(t * t * bce(sigmoid(b / t), sigmoid(a / t)))


def test_bce_soft_has_the_gradient_of_soft_labels() -> None:
    z, gradients = torch.randn(6, dtype=torch.float64), []
    for loss in (
        lambda s: bce_soft_loss(s, z, 3.0),
        lambda s: soft_label_loss(torch.stack([s * 0, s], -1), torch.stack([z * 0, z], -1), 3.0),
    ):
        s = torch.linspace(-2, 2, 6, dtype=torch.float64, requires_grad=True)
        loss(s).sum().backward()
        gradients.append(s.grad)
    torch.testing.assert_close(*gradients)


@settings(deadline=None, max_examples=60)
@given(PAIRS)
def test_clid_is_the_loop(pairs: list[tuple[float, float]]) -> None:
    s, z = columns(pairs)
    q_s, q_t = ([sigmoid(x) / sum(map(sigmoid, one)) for x in one] for one in (s.tolist(), z.tolist()))
    listwise = sum(b * math.log(b / a) for a, b in zip(q_s, q_t, strict=True))
    pointwise = sum(bce(b, a) - bce(b, b) for a, b in zip(q_s, q_t, strict=True))
    assert clid_loss(s, z).item() == pytest.approx(listwise, abs=1e-9)
    assert clid_loss(s, z, "pointwise").item() == pytest.approx(pointwise, abs=1e-9)


def test_clid_keeps_calibration() -> None:
    """Where the student's probabilities are the teacher's it is 0; a softmax over the list would not tell a shift."""
    z = torch.randn(8, dtype=torch.float64)
    for form in ("listwise", "pointwise"):
        s = z.clone().requires_grad_()
        value = clid_loss(s, z, form)  # type: ignore[arg-type]
        value.backward()
        assert abs(value.item()) < 1e-12
        assert s.grad is not None
        assert s.grad.abs().max() < 1e-12
        assert clid_loss(z + 2, z, form).item() > 1e-3  # type: ignore[arg-type]


def test_clid_does_not_depend_on_how_many_rows_there_are() -> None:
    s, z = torch.randn(10), torch.randn(10)
    assert clid_loss(s.repeat(50), z.repeat(50)).item() == pytest.approx(clid_loss(s, z).item(), rel=1e-4)


@settings(deadline=None, max_examples=60)
@given(PAIRS, st.floats(0, 4))
def test_uncertain_is_the_loop(pairs: list[tuple[float, float]], loss: float) -> None:
    head, other = columns(pairs)
    found = uncertain_loss(torch.full_like(head, loss), head, other)
    for value, (a, b) in zip(found.tolist(), pairs, strict=True):
        apart = bce(sigmoid(a), sigmoid(b)) - bce(sigmoid(a), sigmoid(a))
        assert value == pytest.approx(math.exp(-apart) * loss + apart, abs=1e-9)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bce_soft": lambda s, z: bce_soft_loss(s, z, 2.0),
    "clid": lambda s, z: clid_loss(s, z),
    "clid_pointwise": lambda s, z: clid_loss(s, z, "pointwise"),
    "uncertain": lambda s, z: uncertain_loss(bce_soft_loss(s, z.sigmoid(), 1.0), s, z),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name: str) -> None:
    z = torch.randn(5, dtype=torch.float64)
    s = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, z), (s,))
    for size, n in ((1e4, 5), (1.0, 1), (1e4, 1)):
        far = (torch.randn(n) * size).requires_grad_()
        value = LOSSES[name](far, torch.randn(n) * size)
        value.sum().backward()
        assert bool(value.isfinite().all())
        assert far.grad is not None
        assert bool(far.grad.isfinite().all())


class Clicks:
    """Rows whose logit is a linear function of a layer."""

    regression = False

    def __init__(self, hidden: Tensor):
        self.hidden, self.users = hidden, torch.arange(len(hidden))

    def scores(self) -> Tensor:
        z = self.hidden.sum(-1)
        return torch.stack([torch.zeros_like(z), z], -1)

    def layer(self, name: str, rows: Tensor | None = None) -> Tensor:
        assert name == "trunk"
        return self.hidden if rows is None else self.hidden[rows]


def test_distillers_take_the_logit_of_yes() -> None:
    student, teacher = Clicks(torch.randn(6, 3)), Clicks(torch.randn(6, 3))
    s, z, rng = student.hidden.sum(-1), teacher.hidden.sum(-1), torch.Generator()
    torch.testing.assert_close(BCESoft(2.0)(student, teacher, rng), bce_soft_loss(s, z, 2.0))
    torch.testing.assert_close(CLID("pointwise")(student, teacher, rng), clid_loss(s, z, "pointwise"))
    assert LogitMSE()(student, teacher, rng).mean().item() == pytest.approx(((s - z) ** 2).mean().item() / 2)


def test_debiased_trusts_rows_on_which_the_heads_agree() -> None:
    torch.manual_seed(1)
    distiller, teacher = Debiased(), Clicks(torch.randn(8, 3))
    distiller.prepare(Setting(student_layers={"trunk": 3}))
    student = Clicks(torch.randn(8, 3).requires_grad_())
    s, z = student.hidden.sum(-1), teacher.hidden.sum(-1)
    second = distiller.head(student.hidden).squeeze(-1)
    found = distiller(student, teacher, torch.Generator())
    for row in range(8):
        p, q, label = (sigmoid(x[row].item()) for x in (s, second, z))
        apart = bce(p, q) - bce(p, p)
        expected = math.exp(-apart) * bce(label, p) + apart + bce(label, q)
        assert found[row].item() == pytest.approx(expected, rel=1e-4)
    with torch.no_grad():  # the second head is the first
        distiller.head.weight.fill_(1.0)
        distiller.head.bias.zero_()
    agreed = distiller(student, teacher, torch.Generator())
    torch.testing.assert_close(agreed, 2 * bce_soft_loss(s, z, 1.0))
    agreed.sum().backward()
    assert distiller.head.weight.grad is not None
