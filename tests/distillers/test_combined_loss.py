"""The combined loss of teaching articles, on probabilities: their worked examples, another library, and refusals."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from recdistill.distillers.response import ce_kl_loss, combined_loss
from recdistill.errors import InputError

P, Q = torch.tensor([[0.1, 0.3, 0.2, 0.2, 0.2]]), torch.tensor([[0.2, 0.2, 0.3, 0.2, 0.1]])
NO_DISTRIBUTION = torch.tensor([[0.1, 0.3, 0.4, 0.1]])

logits = st.lists(st.lists(st.floats(-8, 8), min_size=4, max_size=4), min_size=1, max_size=5)


def test_the_first_worked_example_is_refused() -> None:
    """Its p sums to .9. The article's .183 is not its cross-entropy either: that is 1.1472."""
    q = torch.tensor([[0.2, 0.35, 0.3, 0.15]])
    assert -(NO_DISTRIBUTION * q.log()).sum().item() == pytest.approx(1.1472, abs=5e-5)
    for alpha in (0.0, 0.7, 1.0):
        with pytest.raises(InputError, match=r"row 0 of p .* sums to 0\.9, not to 1"):
            combined_loss(NO_DISTRIBUTION, q, alpha)


def test_the_second_worked_example() -> None:
    """The article says .455 for the cross-entropy; it is 1.6670."""
    assert combined_loss(P, Q, 1.0).item() == pytest.approx(1.6670, abs=5e-5)
    assert combined_loss(P, Q, 0.0).item() == pytest.approx(0.1099, abs=5e-5)
    assert combined_loss(P, Q, 0.7).item() == pytest.approx(0.7 * 1.66698 + 0.3 * 0.10986, abs=1e-4)


@given(logits, st.floats(0, 1))
def test_it_is_scipys(rows: list[list[float]], alpha: float) -> None:
    z = torch.tensor(rows, dtype=torch.float64)
    p, q = z.softmax(-1), z.flip(-1).softmax(-1)
    kl = entropy(p.numpy(), q.numpy(), axis=-1)
    expected = (alpha * (kl + entropy(p.numpy(), axis=-1)) + (1 - alpha) * kl).mean()
    assert combined_loss(p, q, alpha).item() == pytest.approx(expected, abs=1e-9)
    assert ce_kl_loss(z.flip(-1), z, 1.0, alpha).mean().item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("n", [64, 25_000, 1_000_000])
def test_the_rounding_of_a_wide_softmax_is_no_fault(n: int) -> None:
    """In single precision; a row that is off by more than that is told by how much."""
    torch.manual_seed(0)
    p = (3 * torch.randn(4, n)).softmax(-1)
    assert combined_loss(p, p, 0.0).item() == pytest.approx(0, abs=1e-6)
    with pytest.raises(InputError, match=r"row 0 of q .* sums to 1\.00[01]"):
        combined_loss(p, p * 1.001, 0.0)


def test_zeros() -> None:
    certain, half = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]])
    assert combined_loss(certain, half, 0.3).item() == pytest.approx(math.log(2))
    assert combined_loss(certain, certain, 0.3).item() == 0
    assert combined_loss(half, certain, 0.3).item() == math.inf


@pytest.mark.parametrize(
    ("p", "q", "message"),
    [
        (P, Q * 1.00001, "row 0 of q .* sums to 1.00001"),
        (torch.cat([P, -P]), Q.expand(2, -1), "row 1 of p .* negative"),
        (torch.tensor([[1.5, -0.5]]), torch.tensor([[0.5, 0.5]]), "row 0 of p .* negative"),
        (torch.tensor([[math.nan, 1.0]]), torch.tensor([[0.5, 0.5]]), "row 0 of p .* sums to nan"),
    ],
)
def test_what_is_no_distribution_is_refused(p: torch.Tensor, q: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        combined_loss(p, q, 0.7)
