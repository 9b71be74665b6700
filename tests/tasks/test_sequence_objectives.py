"""Losses over sequences against loops over their formulas, in float64."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sequence_kit import BothSides, Weighted, model_of, sequences
from torch import Tensor
from torch.nn import functional as F

from recdistill.errors import InputError
from recdistill.models.sasrec import SASRec
from recdistill.tasks.batches import generator
from recdistill.tasks.objectives import (
    Objective,
    SequenceBCE,
    SequenceCloze,
    SequenceContrast,
    SequenceGBCE,
    SequenceSampledSoftmax,
    SequenceSoftmax,
)
from recdistill.tasks.objectives import sequence as catalogue
from recdistill.tasks.objectives.sequence import catalogue_cross_entropy, joined
from recdistill.tasks.objectives.sequence_contrast import mask_token, nt_xent
from recdistill.tasks.objectives.sequence_sampled import gbce
from recdistill.tasks.sampling import Hard, InBatch, Popularity, Sampler, Uniform
from recdistill.tasks.sequence import Sequence
from recdistill.tasks.sequence_batches import SequenceBatch
from recdistill.tasks.sequence_view import SequenceView
from recdistill.tasks.windows import Sequences

SIZES = [2, 9, 1, 5, 23, 3, 6, 7, 2]
N_ITEMS = 40  # some of which nobody has


@pytest.fixture
def train() -> Sequences:
    return sequences(SIZES, n_items=N_ITEMS)


def first_batch(train: Sequences, objective: Objective, batch_size: int = 5) -> SequenceBatch:
    task = Sequence(max_length=train.max_length)
    return task.epoch(train, objective, seed=1, epoch=0, batch_size=batch_size, queries=3).batch(0)


def loss_of(objective: Objective, model: Any, batch: SequenceBatch, train: Sequences) -> Tensor:
    return objective(model, batch, SequenceView(model, batch.query, train, batch), generator("cpu", batch.seed))


def scored(model: Weighted, batch: SequenceBatch) -> list[tuple[int, int, list[float]]]:
    """User, next item and all scores of each place, from the items up to there alone."""
    item = model.item.weight.detach()
    found = []
    for user, history, target in zip(batch.user.tolist(), batch.history.tolist(), batch.target.tolist(), strict=True):
        for place, wanted in enumerate(target):
            if wanted >= 0:
                read = history[: place + 1]
                query = sum(0.5 ** (place - at) * item[one] for at, one in enumerate(read))
                found.append((user, wanted, (item[: model.schema.n_items] @ query).tolist()))
    return found


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def test_softmax_is_the_loop(train: Sequences) -> None:
    model = model_of(train)
    batch = first_batch(train, SequenceSoftmax())
    terms = [math.log(sum(math.exp(z) for z in zs)) - zs[i] for _, i, zs in scored(model, batch)]
    assert len(terms) == int((batch.target >= 0).sum())
    assert loss_of(SequenceSoftmax(), model, batch, train).item() == pytest.approx(sum(terms) / len(terms), rel=1e-12)


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_catalogue_cross_entropy_is_that_of_the_score_matrix(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "SCORE_BYTES", rows * 8 * 7)
    torch.manual_seed(0)
    query = (10 * torch.randn(8, 3, dtype=torch.float64)).requires_grad_()
    items = (10 * torch.randn(7, 3, dtype=torch.float64)).requires_grad_()
    target = torch.randint(7, (8,))
    loss = catalogue_cross_entropy(query, items, target)
    exact = F.cross_entropy(query @ items.T, target)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-12)
    for got, want in zip(
        torch.autograd.grad(3 * loss, (query, items)), torch.autograd.grad(3 * exact, (query, items)), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)
    small = [(t.detach() / 10).requires_grad_() for t in (query, items)]
    assert torch.autograd.gradcheck(lambda q, v: catalogue_cross_entropy(q, v, target), small)


def test_catalogue_cross_entropy_in_half_precision_sums_in_single() -> None:
    torch.manual_seed(0)
    query, items = torch.randn(4, 8).bfloat16().requires_grad_(), (0.01 * torch.randn(20000, 8)).bfloat16()
    target = torch.arange(4)
    exact = F.cross_entropy(query.double() @ items.double().T, target)
    loss = catalogue_cross_entropy(query, items, target)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-3)
    loss.backward()
    assert query.grad is not None
    assert query.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("sampler", [Uniform(), Popularity(0.5)])
@pytest.mark.parametrize("correction", [True, False])
def test_sampled_softmax_is_the_loop(sampler: Sampler, correction: bool, train: Sequences) -> None:
    model = model_of(train)
    objective = SequenceSampledSoftmax(negatives=9, correction=correction, sampler=sampler)
    batch = first_batch(train, objective)
    assert batch.proposal is not None
    drawn = batch.proposal.draw(9, generator("cpu", batch.seed)).tolist()
    weight = torch.bincount(train.part.item, minlength=N_ITEMS).double() ** sampler.power
    weight = weight.clamp(min=1e-9)
    q = (weight / weight.sum()).tolist()
    terms = []
    for _, i, zs in scored(model, batch):
        others = sum(math.exp(zs[j]) / (9 * q[j] if correction else 1) for j in drawn if j != i)
        terms.append(math.log(math.exp(zs[i]) + others) - zs[i])
    assert loss_of(objective, model, batch, train).item() == pytest.approx(sum(terms) / len(terms), rel=1e-4)


def test_sampled_softmax_comes_near_the_full_one(train: Sequences) -> None:
    model = model_of(train)
    batch = first_batch(train, SequenceSampledSoftmax())
    few, many = (loss_of(SequenceSampledSoftmax(negatives=n), model, batch, train).item() for n in (5, 200_000))
    full = loss_of(SequenceSoftmax(), model, batch, train).item()
    assert many == pytest.approx(full, abs=0.02)
    assert abs(few - full) > abs(many - full)


@pytest.mark.parametrize("objective", [SequenceBCE(3), SequenceGBCE(3, t=0.0), SequenceGBCE(3, t=0.4), SequenceGBCE(3)])
def test_binary_losses_are_the_loop(objective: SequenceBCE, train: Sequences) -> None:
    model = model_of(train)
    batch = first_batch(train, objective)
    user = torch.tensor([u for u, _, _ in scored(model, batch)])
    target = batch.target[batch.target >= 0]
    negatives = objective.draw(target, user, batch, N_ITEMS, generator("cpu", batch.seed)).tolist()
    beta = 1.0
    if isinstance(objective, SequenceGBCE):
        share = 3 / (N_ITEMS - 1)
        beta = share * (objective.t * (1 - 1 / share) + 1 / share)
    total = 0.0
    for (_, i, zs), others in zip(scored(model, batch), negatives, strict=True):
        total -= math.log(sigmoid(zs[i]) ** beta) + sum(math.log(1 - sigmoid(zs[j])) for j in others)
    expected = total / (4 * len(negatives))
    assert loss_of(objective, model, batch, train).item() == pytest.approx(expected, rel=1e-10)


def test_the_exponent_runs_from_one_to_the_share_that_is_drawn() -> None:
    assert SequenceGBCE(256, t=0.0).exponent(12101) == pytest.approx(1.0)
    assert SequenceGBCE(256, t=1.0).exponent(12101) == pytest.approx(256 / 12100)
    assert SequenceGBCE(256, t=0.75).exponent(3417) == pytest.approx(256 / 3416 * 0.75 + 0.25)
    torch.manual_seed(0)
    positive, negative = torch.randn(6, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    plain = F.binary_cross_entropy_with_logits(
        torch.cat([positive.unsqueeze(1), negative], 1), F.one_hot(torch.zeros(6, dtype=torch.int64), 5).double()
    )
    assert gbce(positive, negative, SequenceGBCE(4, t=0.0).exponent(100)).item() == pytest.approx(plain.item())


@pytest.mark.parametrize("n_items", [1, 2, 5, 10])
def test_a_small_catalogue_has_fewer_negatives_than_are_asked_for(n_items: int, train: Sequences) -> None:
    objective, target = SequenceGBCE(256, t=0.75), torch.arange(n_items).repeat(50)
    batch = first_batch(train, objective)
    found = objective.draw(target, target, batch, n_items, generator("cpu", 1))
    assert found.shape == (50 * n_items, n_items - 1)
    assert not (found == target.unsqueeze(1)).any()
    assert bool((found < n_items).all())
    # All others are drawn at once: what is left is plain binary cross-entropy.
    assert objective.exponent(n_items) == pytest.approx(1.0 if n_items > 1 else 0.25)


def test_calibrated_probabilities_are_right() -> None:
    """At t = 1 the score that is best for an item which comes with probability p is its logit: σ(z) = p."""
    n_items, k, p = 50, 7, 0.3
    z = torch.tensor(p, dtype=torch.float64).logit().requires_grad_()
    # With probability p it is the next item; otherwise it is among the k of n - 1 others k / (n - 1) times.
    beta = SequenceGBCE(k, t=1.0).exponent(n_items)
    loss = p * beta * F.softplus(-z) + (1 - p) * k / (n_items - 1) * F.softplus(z)
    assert torch.autograd.grad(loss, z)[0].item() == pytest.approx(0, abs=1e-12)


def test_own_negatives_are_what_they_say(train: Sequences) -> None:
    seen = [set(train.csr.rows(torch.tensor([u]))[1].tolist()) for u in range(len(SIZES))]
    user, target = torch.arange(len(SIZES)).repeat(300), torch.randint(N_ITEMS, (300 * len(SIZES),))
    batch = first_batch(train, SequenceBCE(4))
    rng = generator("cpu", 5)
    for u, items in zip(user.tolist(), SequenceBCE(4).draw(target, user, batch, N_ITEMS, rng).tolist(), strict=True):
        assert not seen[u] & set(items)
    found: Counter[int] = Counter()
    for i, items in zip(target.tolist(), SequenceGBCE(4).draw(target, user, batch, N_ITEMS, rng).tolist(), strict=True):
        assert i not in items
        found.update((j - i) % N_ITEMS for j in items)
    assert set(found) == set(range(1, N_ITEMS))
    assert max(found.values()) < 1.4 * min(found.values())


def test_cloze_is_the_loop(train: Sequences) -> None:
    model = model_of(train, BothSides)
    objective = SequenceCloze(probability=0.3)
    batch = first_batch(train, objective)
    whole = joined(batch, N_ITEMS, train.max_length)
    chosen = objective.masked(whole < N_ITEMS, generator("cpu", batch.seed))
    item = model.item.weight.detach()
    terms = []
    for row, hidden in zip(whole.tolist(), chosen.tolist(), strict=True):
        read = [N_ITEMS + 1 if out else one for one, out in zip(row, hidden, strict=True) if one != N_ITEMS]
        query = sum(item[one] for one in read) / len(read)
        zs = (item[:N_ITEMS] @ query).tolist()
        terms += [math.log(sum(map(math.exp, zs))) - zs[one] for one, out in zip(row, hidden, strict=True) if out]
    assert loss_of(objective, model, batch, train).item() == pytest.approx(sum(terms) / len(terms), rel=1e-10)


@pytest.mark.parametrize("max_length", [1, 3, 5, 30])
def test_sequences_to_fill_in_have_the_last_item_and_fit(max_length: int) -> None:
    train = sequences(SIZES, max_length=max_length, n_items=N_ITEMS)
    task = Sequence(max_length=max_length)
    epoch = task.epoch(train, SequenceCloze(), seed=1, epoch=0, batch_size=4, queries=0)
    for batch in map(epoch.batch, range(epoch.steps)):
        whole = joined(batch, N_ITEMS, max_length)
        assert whole.shape[1] <= max_length
        for history, target, row in zip(batch.history, batch.target, whole, strict=True):
            full = [*history[:1].tolist(), *target[target >= 0].tolist()]
            assert row[row < N_ITEMS].tolist() == full[-max_length:]
            assert (row[: len(full)] < N_ITEMS).all()


def test_what_is_masked() -> None:
    length = torch.arange(1, 13).repeat(2000)
    inside = torch.arange(12) < length.unsqueeze(1)
    chosen = SequenceCloze(probability=0.25, last=0.0).masked(inside, generator("cpu", 1))
    assert not (chosen & ~inside).any()
    assert chosen.any(1).all()
    long = chosen[length == 12].double()
    # One at least: p, and an even share of where nothing was masked.
    assert long.mean(0).tolist() == pytest.approx([0.25 + 0.75**12 / 12] * 12, abs=0.05)
    last = SequenceCloze(probability=0.25, last=1.0).masked(inside, generator("cpu", 1))
    assert torch.equal(last, inside & (torch.arange(12) == length.unsqueeze(1) - 1))
    some = SequenceCloze(probability=0.01, last=0.3).masked(inside[length == 12], generator("cpu", 1))
    assert some[:, -1].double().mean().item() == pytest.approx(0.3 + 0.7 * (0.01 + 0.99**12 / 12), abs=0.05)


def test_nt_xent_is_the_loop() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 5, 3, dtype=torch.float64).unbind()
    rows = torch.cat([first, second]).tolist()
    dot = [[sum(x * y for x, y in zip(a, b, strict=True)) / 0.7 for b in rows] for a in rows]
    terms = []
    for a in range(10):
        others = sum(math.exp(dot[a][c]) for c in range(10) if c != a)
        terms.append(math.log(others) - dot[a][(a + 5) % 10])
    assert nt_xent(first, second, 0.7).item() == pytest.approx(sum(terms) / 10, rel=1e-12)


def test_contrast_adds_to_its_base(train: Sequences) -> None:
    model = model_of(train)
    base = SequenceSampledSoftmax(negatives=7)
    batch = first_batch(train, base)
    alone = loss_of(base, model, batch, train)
    assert loss_of(SequenceContrast(base, weight=0.0), model, batch, train).item() == alone.item()
    losses = [loss_of(SequenceContrast(base, weight=w), model, batch, train).item() for w in (1.0, 2.0)]
    assert losses[1] - alone.item() == pytest.approx(2 * (losses[0] - alone.item()))
    assert losses[0] > alone.item()
    assert SequenceContrast(base).negatives == 7  # so that the epoch has a distribution to draw from


def test_unchanged_histories_are_read_to_their_last_item(train: Sequences) -> None:
    """Nothing left out, masked or moved: the two copies are the history, whose vector is the model's query."""
    same = SequenceContrast(SequenceSoftmax(), weight=1.0, crop=1.0, mask=0.0, reorder=0.0)
    for kind in (Weighted, BothSides):
        model = model_of(train, kind)
        batch = first_batch(train, same)
        base: Objective = SequenceSoftmax()
        if kind is BothSides:
            same.base = base = SequenceCloze()
        rng = generator("cpu", batch.seed)
        view = SequenceView(model, batch.query, train, batch)
        query = model.query(batch.history)
        expected = base(model, batch, view, rng) + nt_xent(query, query, 1.0)
        assert loss_of(same, model, batch, train).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_model_without_a_mask_is_given_no_masked_items(train: Sequences) -> None:
    history = first_batch(train, SequenceSoftmax()).history.repeat(50, 1)
    contrast = SequenceContrast(SequenceSoftmax())
    plain, masking = model_of(train), model_of(train, BothSides)
    assert mask_token(plain) is None
    assert contrast.change(plain, history, generator("cpu", 0)).max() == N_ITEMS
    changed = contrast.change(masking, history, generator("cpu", 0))
    assert changed.max() == N_ITEMS + 1
    assert ((changed == history).all(1)).double().mean() < 0.6  # most have changed
    assert mask_token(SASRec(plain.schema, dim=8)) == N_ITEMS + 1
    loss = loss_of(contrast, SASRec(plain.schema, dim=8), first_batch(train, SequenceSoftmax()), train)
    assert torch.isfinite(loss)


OBJECTIVES: list[Callable[[], Objective]] = [
    SequenceSoftmax, SequenceSampledSoftmax, SequenceBCE, SequenceGBCE, lambda: SequenceContrast(SequenceSoftmax()),
]  # fmt: skip


@pytest.mark.parametrize("make", OBJECTIVES)
def test_every_loss_learns(make: Callable[[], Objective], train: Sequences) -> None:
    objective = make()
    model = model_of(train)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    batch = first_batch(train, objective, batch_size=100)

    def mean_rank() -> float:
        ranks = [sum(z > zs[i] for z in zs) for _, i, zs in scored(model, batch)]
        return sum(ranks) / len(ranks)

    before = mean_rank()
    for step in range(100):
        optimizer.zero_grad()
        view = SequenceView(model, batch.query, train, batch)
        objective(model, batch, view, generator("cpu", step)).backward()
        optimizer.step()
    assert mean_rank() < 0.7 * before


@pytest.mark.parametrize("make", OBJECTIVES)
def test_a_model_that_sees_the_next_item_is_refused(make: Callable[[], Objective], train: Sequences) -> None:
    model = model_of(train, BothSides)
    with pytest.raises(InputError, match="sees both sides") as error:
        loss_of(make(), model, first_batch(train, make()), train)
    assert error.value.fix is not None
    assert "sequence_cloze" in error.value.fix


def test_wrong_parts_are_refused(train: Sequences) -> None:
    with pytest.raises(InputError, match="knows no masked items"):
        loss_of(SequenceCloze(), model_of(train), first_batch(train, SequenceCloze()), train)
    for sampler in (InBatch(), Hard()):
        with pytest.raises(InputError, match=type(sampler).__name__):
            SequenceBCE(sampler=sampler)
        with pytest.raises(InputError, match=type(sampler).__name__):
            SequenceSampledSoftmax(sampler=sampler)
