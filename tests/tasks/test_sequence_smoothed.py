"""Labels shared among items of like content, against loops over their definition, in float64."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sequence_kit import events, model_of
from torch import Tensor

from recdistill.data.features import Features
from recdistill.errors import InputError
from recdistill.tasks.batches import generator
from recdistill.tasks.objectives import SequenceSmoothed, SequenceSoftmax
from recdistill.tasks.objectives.sequence_smoothed import nearest
from recdistill.tasks.sequence import Sequence
from recdistill.tasks.sequence_view import SequenceView
from recdistill.tasks.windows import Sequences

N_ITEMS = 12
UNKNOWN = 3  # the item without a vector


@pytest.fixture
def content() -> Tensor:
    rows = torch.randn(N_ITEMS, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    rows[UNKNOWN] = torch.nan
    return rows


def cosines(rows: Tensor) -> list[list[float]]:
    mean = [sum(r[k] for r in rows.tolist() if not math.isnan(r[k])) / (len(rows) - 1) for k in range(rows.shape[1])]
    centred = [[x - m for x, m in zip(r, mean, strict=True)] for r in rows.tolist()]
    norms = [math.sqrt(sum(x * x for x in r)) for r in centred]
    return [
        [sum(x * y for x, y in zip(a, b, strict=True)) / (m * n) for b, n in zip(centred, norms, strict=True)]
        for a, m in zip(centred, norms, strict=True)
    ]


def label(of: int, near: list[list[float]], share: float, count: int, temperature: float) -> list[float]:
    """q(· | of), by its definition."""
    if of == UNKNOWN:
        return [float(j == of) for j in range(N_ITEMS)]
    others = sorted((j for j in range(N_ITEMS) if j not in (of, UNKNOWN)), key=lambda j: -near[of][j])[:count]
    powers = {j: math.exp(near[of][j] / temperature) for j in others}
    return [(1 - share) * (j == of) + share * powers.get(j, 0.0) / sum(powers.values()) for j in range(N_ITEMS)]


Loss = SequenceSoftmax | SequenceSmoothed


def loss_of(objective: Loss, content: Tensor | None) -> tuple[float, list[Tensor], Tensor]:
    """The loss of a step, the scores and targets of its places."""
    table = events([4, 6, 1, 5, 3], N_ITEMS)
    if content is not None:
        table = replace(table, item_features=Features(vector={"text": content}))
    train = Sequences.of(events([4, 6, 1, 5, 3], N_ITEMS), torch.device("cpu"), 5, None)
    batch = Sequence(max_length=5).epoch(train, objective, seed=1, epoch=0, batch_size=5, queries=3).batch(0)
    model = model_of(train)
    objective.bind(table)
    view = SequenceView(model, batch.query, train, batch)
    value = objective(model, batch, view, generator("cpu", batch.seed))
    at = batch.target >= 0
    return value.item(), list((view.hidden()[at] @ view.items().T).detach()), batch.target[at]


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0, 0.9), count=st.integers(1, 30), temperature=st.floats(0.05, 5))
def test_the_loss_is_the_cross_entropy_against_the_shared_labels(share: float, count: int, temperature: float) -> None:
    rows = torch.randn(N_ITEMS, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    rows[UNKNOWN] = torch.nan
    near = cosines(rows)
    value, scores, target = loss_of(SequenceSmoothed(share, count, temperature), rows)
    assert UNKNOWN in target.tolist()
    total = 0.0
    for zs, wanted in zip(scores, target.tolist(), strict=True):
        q = label(wanted, near, share, count, temperature)
        log_sum = math.log(sum(math.exp(z) for z in zs.tolist()))
        total -= sum(share_of * (z - log_sum) for share_of, z in zip(q, zs.tolist(), strict=True))
    assert value == pytest.approx(total / len(target), rel=1e-9)


def test_a_share_of_nothing_is_the_plain_loss_and_needs_no_vectors() -> None:
    assert loss_of(SequenceSmoothed(share=0.0), None)[0] == loss_of(SequenceSoftmax(), None)[0]


def test_items_without_vectors_are_refused() -> None:
    with pytest.raises(InputError, match="sequence_smoothed needs vectors of the items"):
        loss_of(SequenceSmoothed(), None)


def test_an_item_that_is_like_none_keeps_its_label() -> None:
    rows = torch.zeros(3, 2)
    rows[0, 0] = 1.0
    near, weight = nearest(rows, 2, 0.1)
    assert near.shape == weight.shape == (3, 2)
    assert not weight.any()


def test_the_gradient_is_that_of_autograd_over_the_dense_labels(content: Tensor) -> None:
    objective = SequenceSmoothed(0.4, 3, 0.2)
    objective.bind(replace(events([4], N_ITEMS), item_features=Features(vector={"text": content})))
    near = cosines(content)
    target = torch.tensor([0, 5, UNKNOWN, 5])
    query = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    items = torch.randn(N_ITEMS, 3, dtype=torch.float64, requires_grad=True)

    class View:
        def items(self) -> Tensor:
            return items

    loss = objective.loss(query, target, target, View(), None, torch.Generator())  # type: ignore[arg-type]
    got = torch.autograd.grad(loss, (query, items))
    q = torch.tensor([label(t, near, 0.4, 3, 0.2) for t in target.tolist()], dtype=torch.float64)
    dense = -(q * torch.log_softmax(query @ items.T, 1)).sum(1).mean()
    for one, other in zip(got, torch.autograd.grad(dense, (query, items)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
