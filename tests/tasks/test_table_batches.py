"""Batches of the rows of a table and a model's answers for them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from recdistill.data.interactions import Schema
from recdistill.data.rows import Rows
from recdistill.distillers.response import number_loss, soft_label_loss
from recdistill.models.base import TableModel
from recdistill.tasks.table_batches import TablePart, TableView, table_epoch


def part_of(n: int) -> TablePart:
    """Rows whose only code is their number, and labels that are ten times it."""
    return TablePart(Rows(torch.arange(n).unsqueeze(1), torch.zeros(n, 0)), 10.0 * torch.arange(n))


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 60), st.integers(1, 70), st.integers(1, 5), st.integers(0, 3))
def test_shares_make_up_the_step_and_steps_the_epoch(n: int, batch_size: int, world: int, epoch: int) -> None:
    plan = table_epoch(part_of(n), seed=3, epoch=epoch, batch_size=batch_size)
    seen = []
    for step in range(plan.steps):
        whole = plan.batch(step)
        assert 1 <= len(whole.query) <= batch_size
        assert whole.weight == whole.query_weight == 1.0
        shares = [plan.batch(step, rank, world) for rank in range(world)]
        real = [share for share in shares if share.weight]
        assert torch.equal(torch.cat([share.query for share in real]).sort().values, whole.query.sort().values)
        for share in shares:
            assert share.seed == whole.seed
            assert torch.equal(share.rows.categorical[:, 0], share.query)
            assert torch.equal(share.label, 10.0 * share.query)
        # The mean over processes of weight times local mean is the mean over the step.
        mean = sum(share.weight * float(share.label.mean()) for share in shares) / world
        assert mean == pytest.approx(float(whole.label.mean()))
        seen.append(whole.query)
    assert torch.cat(seen).sort().values.tolist() == list(range(n))


def test_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return table_epoch(part_of(50), seed=seed, epoch=epoch, batch_size=8).order.tolist()

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(*at)) for at in ((1, 0), (1, 1), (2, 0))}) == 3


class Given(TableModel):
    """The outputs of a table by the code of a row."""

    def __init__(self, outputs: Tensor):
        super().__init__(Schema())
        self.outputs, self.calls = outputs, 0

    def forward(self, rows: Rows) -> Tensor:
        self.calls += 1
        return self.outputs[rows.categorical[:, 0]]


def view(outputs: Tensor, kind: str) -> TableView:
    part = part_of(len(outputs))
    return TableView(Given(outputs), part.rows, torch.arange(len(outputs)), kind, part)  # type: ignore[arg-type]


def test_a_click_is_two_classes() -> None:
    """softmax([0, z]) is (1 - sigmoid(z), sigmoid(z)); so the KL of the soft labels is that of Bernoulli variables."""
    z, t = torch.randn(9), torch.randn(9)
    student, teacher = view(z, "click"), view(t, "click")
    assert torch.allclose(student.scores().softmax(-1)[:, 1], z.sigmoid())
    for temperature in (1.0, 3.0):
        p, q = (t / temperature).sigmoid().double(), (z / temperature).sigmoid().double()
        bernoulli = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
        loss = soft_label_loss(student.scores(), teacher.scores(), temperature).mean()
        assert float(loss) == pytest.approx(temperature**2 * float(bernoulli.mean()), rel=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_a_number_is_a_normal_distribution(temperature: float) -> None:
    z, t = torch.randn(9).double(), torch.randn(9).double()
    expected = temperature**2 * kl_divergence(Normal(t, temperature), Normal(z, temperature)).mean()
    assert float(number_loss(z, t).mean()) == pytest.approx(float(expected))
    found = view(z.float(), "value")
    assert found.regression
    assert torch.allclose(found.scores(), z.float().unsqueeze(-1))


def test_classes_are_scored_as_they_are_and_computed_once() -> None:
    outputs = torch.randn(6, 3)
    found = view(outputs, "classes")
    assert not found.regression
    assert torch.equal(found.scores(), outputs)
    found.scores()
    assert found.model.calls == 1  # type: ignore[attr-defined]
    other = torch.tensor([4, 1])
    assert torch.equal(found.of(other).scores(), outputs[other])
