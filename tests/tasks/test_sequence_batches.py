"""Every window once per epoch, the same for any number of processes, in steps of as many places and little padding."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sequence_kit import sequences

from recdistill.tasks.sampling import Popularity
from recdistill.tasks.sequence_batches import SequenceBatch, SequenceEpoch, even_bounds, sequence_epoch
from recdistill.tasks.windows import Sequences

SIZES = [2, 9, 1, 5, 23, 3, 0, 6, 7, 2, 13, 4]


@pytest.fixture
def train() -> Sequences:
    return sequences(SIZES)


def plan(train: Sequences, **changes: int) -> SequenceEpoch:
    return sequence_epoch(train, **{"seed": 1, "epoch": 0, "batch_size": 4, "queries": 6, **changes})


def content(batch: SequenceBatch) -> list[tuple[int, tuple[int, ...], tuple[int, ...]]]:
    """User, items and targets of each sequence, without padding."""
    found = []
    for user, history, target in zip(batch.user.tolist(), batch.history.tolist(), batch.target.tolist(), strict=True):
        n = sum(item >= 0 for item in target)
        assert history[n:] == [11] * (len(history) - n)
        assert target[n:] == [-1] * (len(target) - n)
        assert n
        found.append((user, tuple(history[:n]), tuple(target[:n])))
    return found


def expected(train: Sequences) -> Counter[tuple[int, tuple[int, ...], tuple[int, ...]]]:
    items, line = train.timeline.item.tolist(), train.timeline
    return Counter(
        (int(line.users(torch.tensor([row]))), tuple(items[row : row + n]), tuple(items[row + 1 : row + 1 + n]))
        for row, n in zip(train.first.tolist(), train.count.tolist(), strict=True)
    )


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("batch_size", [1, 4, 1000])
def test_every_window_comes_once_and_ranks_share_a_step(train: Sequences, world: int, batch_size: int) -> None:
    epoch = plan(train, batch_size=batch_size)
    assert epoch.steps == -(-len(train.first) // batch_size)
    seen: Counter[object] = Counter()
    value = torch.randn(len(train) + 1, dtype=torch.float64)
    for step in range(epoch.steps):
        whole = epoch.batch(step)
        shares = [epoch.batch(step, rank, world) for rank in range(world)]
        assert [one for s in shares if s.weight > 0 for one in content(s)] == content(whole)
        assert len({s.seed for s in shares}) == 1
        # The average over processes of weight times local mean is the mean of the step: of targets and of queries.
        mean = sum(s.weight * value[s.target[s.target >= 0]].mean() for s in shares) / world
        assert mean == pytest.approx(float(value[whole.target[whole.target >= 0]].mean()))
        assert all(len(s.query) for s in shares)  # nobody takes the mean of nothing
        mean = sum(s.query_weight * value[s.query].mean() for s in shares) / world
        assert mean == pytest.approx(float(value[whole.query].mean()))
        asked = torch.cat([s.query for s in shares if s.query_weight > 0])
        assert sorted(asked.tolist()) == sorted(whole.query.tolist())
        seen.update(content(whole))
    assert seen == expected(train)


@pytest.mark.parametrize("world", [1, 3])
def test_queries_are_places_of_the_histories(train: Sequences, world: int) -> None:
    epoch = plan(train, queries=7)
    times_asked: Counter[int] = Counter()
    for step in range(epoch.steps):
        places = int((epoch.batch(step).target >= 0).sum())
        assert len(epoch.batch(step).query) == min(7, places)
        for rank in range(world):
            batch = epoch.batch(step, rank, world)
            assert torch.equal(batch.history.flatten()[batch.place], train.timeline.item[batch.query])
            assert torch.equal(batch.target.flatten()[batch.place], train.timeline.item[batch.query + 1])
            row = batch.place // batch.history.shape[1]
            assert torch.equal(batch.user[row], train.timeline.users(batch.query))
            assert len(set(batch.place.tolist())) == len(batch.place)
            times_asked.update(batch.query.tolist())
    assert len(times_asked) > 20
    assert plan(train, queries=0).batch(0).query.numel() == 0
    assert plan(train, queries=0).batch(0).query_weight == 0


@pytest.mark.parametrize("world", [1, 2])
def test_more_queries_than_places_are_all_places(train: Sequences, world: int) -> None:
    """Each once, by whichever process has it."""
    epoch = plan(train, queries=10**9)
    for step in range(epoch.steps):
        shares = [epoch.batch(step, rank, world) for rank in range(world)]
        for batch in shares:
            places = (batch.history.flatten() != train.n_items).nonzero().flatten()
            assert batch.place.sort().values.tolist() == places.tolist()
        assert sum(batch.query_weight for batch in shares) == pytest.approx(world)


def test_all_places_are_asked_for_as_often(train: Sequences) -> None:
    per_event: Counter[int] = Counter()
    for number in range(400):
        per_event.update(plan(train, epoch=number, batch_size=1000, queries=10).batch(0).query.tolist())
    in_windows = Counter(
        row + i for row, c in zip(train.first.tolist(), train.count.tolist(), strict=True) for i in range(c)
    )
    assert set(per_event) == set(in_windows)
    for row, windows in in_windows.items():
        mean = 4000 * windows / int(train.count.sum())
        assert abs(per_event[row] - mean) < 5 * mean**0.5


def test_an_epoch_is_a_function_of_seed_and_number(train: Sequences) -> None:
    def all_of(epoch: SequenceEpoch) -> list[object]:
        batches = [epoch.batch(step) for step in range(epoch.steps)]
        return [[b.history.tolist(), b.target.tolist(), b.query.tolist(), b.place.tolist(), b.seed] for b in batches]

    first = all_of(plan(train))
    torch.manual_seed(99)  # the global generator plays no part
    assert all_of(plan(train)) == first
    assert all_of(plan(train, seed=2)) != first
    assert all_of(plan(train, epoch=1)) != first
    assert plan(train).batch(0).proposal is None
    proposal = sequence_epoch(train, seed=1, epoch=0, batch_size=4, queries=0, sampler=Popularity(1.0)).proposal
    assert proposal is not None
    counts = torch.bincount(train.part.item, minlength=11).double()
    assert proposal.log_q(torch.arange(11)).exp().tolist() == pytest.approx((counts / counts.sum()).tolist(), abs=1e-6)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=40), st.data())
def test_steps_are_even_and_never_empty(counts: list[int], data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, len(counts)))
    upto = torch.tensor([0, *counts]).cumsum(0)
    bounds = even_bounds(upto, steps)
    assert bounds[0] == 0
    assert bounds[-1] == len(counts)
    assert bool((bounds.diff() >= 1).all())
    if sum(counts) // steps >= max(counts) + 1:  # where a window is no longer than a step, none is far off
        assert (upto[bounds].diff() - sum(counts) / steps).abs().max() <= max(counts) + 1


def test_steps_have_as_many_places_and_little_padding() -> None:
    rng = torch.Generator().manual_seed(0)
    sizes = (2 + 50 * torch.rand(6000, generator=rng) ** 6).long().tolist()  # most short, some long
    train = sequences(sizes, max_length=50)
    epoch = plan(train, batch_size=32)
    batches = [epoch.batch(step) for step in range(epoch.steps)]
    places = torch.tensor([int((b.target >= 0).sum()) for b in batches]).double()
    padded = 1 - float(places.sum()) / sum(b.history.numel() for b in batches)
    assert padded < 0.1
    assert 1 - float(places.sum()) / (50 * len(train.first)) > 0.8  # of batches padded to the longest there may be
    assert (places / places.mean() - 1).abs().max() < 0.25
    widths = [b.history.shape[1] for b in batches]
    assert torch.corrcoef(torch.tensor([widths, list(range(len(widths)))]).double())[0, 1].abs() < 0.2  # in no order
