"""Each soft loss against its formula in plain Python, its gradient against differences, its limits by
hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from recdistill.distillers.features import hint_loss
from recdistill.distillers.lists import FLOOR, rrd_loss, topk_kl_loss
from recdistill.distillers.response import ce_kl_loss, listed_mse, soft_label_loss

INF = math.inf


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def softmax(z: list[float], t: float = 1.0) -> list[float]:
    e = [math.exp(x / t) for x in z]
    return [x / sum(e) for x in e]


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a)


def cross_entropy(p: list[float], q: list[float]) -> float:
    return -sum(a * math.log(b) for a, b in zip(p, q, strict=True) if a)


@pytest.mark.parametrize("t", [1.0, 2.0, 4.0])
class TestResponse:
    def test_soft_label_is_the_loop(self, t: float) -> None:
        s, z = randn(5, 7), randn(5, 7, seed=1)
        rows = [kl(softmax(b, t), softmax(a, t)) for a, b in zip(s.tolist(), z.tolist(), strict=True)]
        assert soft_label_loss(s, z, t).mean().item() == pytest.approx(t * t * sum(rows) / 5)

    def test_two_items_have_a_closed_form(self, t: float) -> None:
        # KL of two coins, σ(a / T) against σ(b / T).
        a, b = 1.3, -0.4
        p, q = 1 / (1 + math.exp(-a / t)), 1 / (1 + math.exp(-b / t))
        expected = t * t * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
        assert soft_label_loss(torch.tensor([[b, 0]]), torch.tensor([[a, 0]]), t).mean().item() == pytest.approx(
            expected, rel=1e-5
        )

    @pytest.mark.parametrize("mix", [0.0, 0.7, 1.0])
    def test_ce_kl_is_the_loop(self, t: float, mix: float) -> None:
        s, z = randn(5, 7), randn(5, 7, seed=1)
        total = 0.0
        for a, b in zip(s.tolist(), z.tolist(), strict=True):
            p, q = softmax(b, t), softmax(a, t)
            total += mix * cross_entropy(p, q) + (1 - mix) * kl(p, q)
        assert ce_kl_loss(s, z, t, mix).mean().item() == pytest.approx(t * t * total / 5)

    def test_the_gradient_is_t_times_the_difference_of_softmaxes(self, t: float) -> None:
        s, z = randn(2, 6).requires_grad_(), randn(2, 6, seed=1)
        soft_label_loss(s, z, t).mean().backward()
        expected = t * (torch.softmax(s / t, -1) - torch.softmax(z / t, -1)) / 2
        torch.testing.assert_close(s.grad, expected.detach())

    def test_no_gap_no_gradient(self, t: float) -> None:
        z = randn(3, 8)
        for loss in (lambda s: soft_label_loss(s, z, t).mean(), lambda s: ce_kl_loss(s, z, t, 0.0).mean()):
            s = z.clone().requires_grad_()
            value = loss(s)
            assert value.item() == pytest.approx(0, abs=1e-12)
            value.backward()
            assert s.grad is not None
            assert s.grad.abs().max() < 1e-12
        s = z.clone().requires_grad_()
        ce_kl_loss(s, z, t, 1.0).mean().backward()
        assert s.grad is not None
        assert s.grad.abs().max() < 1e-12


def test_the_size_of_the_gradient_does_not_depend_on_a_high_temperature() -> None:
    # Hinton et al., eq. 4: at high T the gradient with T² tends to (z_s - z_t) / n for centred scores.
    s, z = randn(1, 6), randn(1, 6, seed=1)
    s, z = s - s.mean(), z - z.mean()
    for t in (100.0, 1000.0):
        x = s.clone().requires_grad_()
        soft_label_loss(x, z, t).mean().backward()
        torch.testing.assert_close(x.grad, (s - z) / 6, atol=2 / t, rtol=0)


def test_worked_example_of_the_combined_loss() -> None:
    p, q = [0.1, 0.3, 0.2, 0.2, 0.2], [0.2, 0.2, 0.3, 0.2, 0.1]
    s, z = torch.tensor([q]).log(), torch.tensor([p]).log()
    assert ce_kl_loss(s, z, 1.0, 1.0).mean().item() == pytest.approx(1.6670, abs=5e-5)
    assert ce_kl_loss(s, z, 1.0, 0.0).mean().item() == pytest.approx(0.1099, abs=5e-5)
    assert ce_kl_loss(s, z, 1.0, 0.7).mean().item() == pytest.approx(0.7 * 1.66698 + 0.3 * 0.10986, abs=1e-4)


def test_topk_kl_is_the_loop() -> None:
    top_s, rest, top_t = randn(4, 3), randn(4, 5, seed=1), randn(4, 3, seed=2)
    for t in (1.0, 2.0, 4.0):
        total = 0.0
        for a, r, b in zip(top_s.tolist(), rest.tolist(), top_t.tolist(), strict=True):
            total += cross_entropy(softmax(b, t), softmax(a + r)[:3])
        log_norm = torch.cat([top_s, rest], -1).logsumexp(-1)
        assert topk_kl_loss(top_s, log_norm, top_t, t).mean().item() == pytest.approx(total / 4)


def test_topk_kl_of_a_short_list_is_that_of_the_list_alone() -> None:
    top_s, rest, top_t = randn(2, 3), randn(2, 5, seed=1), randn(2, 3, seed=2)
    short = torch.cat([top_t, torch.full((2, 2), -INF)], 1)
    padded = torch.cat([top_s, randn(2, 2, seed=3)], 1)
    norm = torch.cat([top_s, rest], -1).logsumexp(-1)
    torch.testing.assert_close(
        topk_kl_loss(padded, norm, short, 2.0).mean(), topk_kl_loss(top_s, norm, top_t, 2.0).mean()
    )
    nothing = topk_kl_loss(padded.requires_grad_(), norm, torch.full((2, 5), -INF), 2.0).mean()
    nothing.backward()
    assert nothing.item() == 0
    assert padded.grad is not None
    assert padded.grad.abs().max() == 0


def plackett_luce(top: list[float], rest: list[float]) -> float:
    """-log of the probability that drawing without replacement gives ``top`` in this order before any of
    ``rest``, summed over every order of all items that begins so."""
    items = list(top) + list(rest)
    total = 0.0
    for tail in itertools.permutations(range(len(top), len(items))):
        order = [*range(len(top)), *tail]
        p = 1.0
        for k in range(len(order)):
            p *= math.exp(items[order[k]]) / sum(math.exp(items[j]) for j in order[k:])
        total += p
    return -math.log(total)


@pytest.mark.parametrize(("k", "n"), [(1, 1), (2, 3), (3, 2), (4, 4)])
def test_rrd_is_plackett_luce_with_the_rest_in_any_order(k: int, n: int) -> None:
    top, rest = randn(3, k), randn(3, n, seed=1)
    expected = [plackett_luce(a, b) for a, b in zip(top.tolist(), rest.tolist(), strict=True)]
    assert rrd_loss(top, rest).mean().item() == pytest.approx(sum(expected) / 3)


def test_rrd_of_a_short_list_is_that_of_the_list_alone() -> None:
    top, rest = randn(2, 3), randn(2, 4, seed=1)
    padded = torch.cat([top, 50 + randn(2, 2, seed=2)], 1).requires_grad_()
    listed = torch.tensor([[True, True, True, False, False]] * 2)
    value = rrd_loss(padded, rest, listed).mean()
    torch.testing.assert_close(value, rrd_loss(top, rest).mean())
    value.backward()
    alone = top.clone().requires_grad_()
    rrd_loss(alone, rest).mean().backward()
    assert padded.grad is not None
    torch.testing.assert_close(padded.grad[:, :3], alone.grad)
    assert padded.grad[:, 3:].abs().max() == 0
    assert rrd_loss(padded, rest, torch.zeros(2, 5, dtype=torch.bool)).mean().item() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_floor_is_as_if_the_item_were_not_there(dtype: torch.dtype) -> None:
    top, rest = randn(2, 3).to(dtype), randn(2, 4, seed=1).to(dtype)
    x, y = top.clone().requires_grad_(), rest.clone().requires_grad_()
    hidden = torch.zeros(2, 4, dtype=torch.bool)
    hidden[:, 1] = True
    value = rrd_loss(x, y.masked_fill(hidden, FLOOR)).mean()
    value.backward()
    a, b = top.clone().requires_grad_(), rest[:, [0, 2, 3]].clone().requires_grad_()
    expected = rrd_loss(a, b).mean()
    expected.backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(x.grad, a.grad)
    assert y.grad is not None
    torch.testing.assert_close(y.grad[:, [0, 2, 3]], b.grad)
    assert y.grad[:, 1].abs().max() == 0
    # All hidden: only the order inside the list is left.
    x.grad = None
    rrd_loss(x, torch.full((2, 4), FLOOR, dtype=dtype)).mean().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
    torch.testing.assert_close(
        rrd_loss(top, torch.full((2, 4), FLOOR, dtype=dtype)).mean(),
        rrd_loss(top[:, :2], top[:, 2:]).mean(),
        atol=1e-5,
        rtol=1e-5,
    )


def test_listed_mse_leaves_out_what_is_not_there() -> None:
    s, z = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[3.0, -INF], [3.0, 5.0]])
    s.requires_grad_()
    value = listed_mse(s, z)
    assert value.tolist() == pytest.approx([4, (0 + 1) / 2])
    value.sum().backward()
    assert s.grad is not None
    assert s.grad[0, 1] == 0
    assert listed_mse(s, torch.full((2, 2), -INF)).tolist() == [0, 0]


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "soft_label": lambda s: soft_label_loss(s, randn(3, 6, seed=9), 2.0).mean(),
    "ce_kl": lambda s: ce_kl_loss(s, randn(3, 6, seed=9), 4.0, 0.7).mean(),
    "topk_kl": lambda s: topk_kl_loss(s[:, :2], s.logsumexp(-1), randn(3, 2, seed=9), 0.5).mean(),
    "rrd": lambda s: rrd_loss(s[:, :3], s[:, 3:]).mean(),
    "rrd_short": lambda s: rrd_loss(s[:, :3], s[:, 3:], torch.tensor([[True, True, False]] * 3)).mean(),
    "logit_mse": lambda s: listed_mse(s, randn(3, 6, seed=9)),
    "hint": lambda s: hint_loss(s, randn(3, 6, seed=9)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradcheck(name: str) -> None:
    assert torch.autograd.gradcheck(LOSSES[name], (randn(3, 6).requires_grad_(),))
