"""Batches where only some rows, events or places have a label: the hard loss sees these alone; all are distilled."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.interactions import Interactions
from recdistill.data.withheld import with_labels
from recdistill.tasks.batches import ranking_epoch, user_epoch
from recdistill.tasks.classification import Classification
from recdistill.tasks.ctr import Ctr
from recdistill.tasks.ranking import Ranking
from recdistill.tasks.sequence_batches import sequence_epoch
from recdistill.tasks.table_batches import table_epoch
from recdistill.tasks.timeline import Timeline
from recdistill.tasks.windows import Sequences
from table_kit import table

CPU = torch.device("cpu")


def log(n: int = 400, users: int = 25, items: int = 30) -> Interactions:
    rng = torch.Generator().manual_seed(0)
    user, item = torch.randint(users, (n,), generator=rng), torch.randint(items, (n,), generator=rng)
    return Interactions(user, item, users, items, time=torch.randperm(n, generator=rng))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([0.0, 0.02, 0.3, 0.9]), st.integers(3, 60), st.integers(1, 4))
def test_rows_with_and_without_a_label_make_up_the_epoch(share: float, batch_size: int, world: int) -> None:
    train = with_labels(table(n=120), share, seed=1)
    part = Ctr().prepare(train, CPU)
    assert torch.equal(part.label.isnan(), ~train.labelled)
    plan = table_epoch(part, seed=3, epoch=0, batch_size=batch_size)
    assert plan.steps == table_epoch(Ctr().prepare(table(n=120), CPU), seed=3, epoch=0, batch_size=batch_size).steps
    seen = []
    for step in range(plan.steps):
        whole, shares = plan.batch(step), [plan.batch(step, rank, world) for rank in range(world)]
        assert torch.equal(whole.label, train.label[whole.query[: len(whole.label)]])
        assert bool(len(whole.label)) == bool(share)  # no step without a label
        seen.append(whole.query)
        if share:
            mean = sum(batch.weight * float(batch.label.mean()) for batch in shares) / world
            assert mean == pytest.approx(float(whole.label.mean()))
        assert sum(batch.query_weight for batch in shares) == pytest.approx(world)
    assert set(torch.cat(seen).tolist()) == set(range(120))


def test_hidden_classes_are_none() -> None:
    train = with_labels(table(n=50, clicks=False), 0.2, seed=1)
    label = Classification().prepare(train, CPU).label
    assert torch.equal(label == -1, ~train.labelled)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_events_without_a_label_are_neither_positives_nor_known(share: float) -> None:
    train = with_labels(log(), share, seed=2)
    part = Ranking().prepare(train, CPU)
    taught = {*zip(train.user[train.labelled].tolist(), train.item[train.labelled].tolist(), strict=True)}
    plan = ranking_epoch(part, seed=1, epoch=0, batch_size=32, negatives=3, queries=8)
    assert plan.steps == 13  # as many as for all 400
    batches = [plan.batch(step) for step in range(plan.steps)]
    assert all(len(batch.user) for batch in batches)
    pairs = {pair for batch in batches for pair in zip(batch.user.tolist(), batch.item.tolist(), strict=True)}
    assert pairs == taught
    assert {user for batch in batches for user in batch.query.tolist()} == set(range(25))
    assert len(part.csr.indices) == len(taught)


def test_users_without_a_label_are_distilled_all_the_same() -> None:
    part = Ranking().prepare(with_labels(log(), 0.03, seed=2), CPU)
    plan = user_epoch(part, seed=1, epoch=0, batch_size=4)
    batches = [plan.batch(step) for step in range(plan.steps)]
    assert sorted(user for batch in batches for user in batch.query.tolist()) == list(range(25))
    known = set(part.user.tolist())
    assert {user for batch in batches for user in batch.user.tolist()} == known
    assert len(known) < 25


def test_with_all_labels_users_are_the_queries() -> None:
    batch = user_epoch(Ranking().prepare(log(), CPU), seed=1, epoch=0, batch_size=4).batch(0)
    assert batch.user is batch.query


@pytest.mark.parametrize("world", [1, 3])
def test_places_are_read_and_only_labelled_ones_are_targets(world: int) -> None:
    train = with_labels(log(), 0.2, seed=2)
    whole, few = (Sequences.of(part, CPU, 6) for part in (replace(train, labelled=None), train))
    assert torch.equal(few.timeline.item, whole.timeline.item)
    assert torch.equal(few.csr.indices, train.csr.indices)
    assert torch.equal(few.part.item, train.item[train.labelled])  # what popularity is counted of
    plans = [sequence_epoch(part, seed=1, epoch=0, batch_size=8, queries=4) for part in (whole, few)]
    assert plans[0].bounds == plans[1].bounds
    found = 0
    for step in range(plans[0].steps):
        full, some = (plan.batch(step) for plan in plans)
        assert torch.equal(full.history, some.history)
        assert torch.equal(full.query, some.query)
        kept = some.target >= 0
        assert torch.equal(full.target[kept], some.target[kept])
        found += int(kept.sum())
        shares = [plans[1].batch(step, rank, world) for rank in range(world)]
        sums = [float((batch.target * (batch.target >= 0)).sum()) for batch in shares]
        counts = [int((batch.target >= 0).sum()) for batch in shares]
        if kept.any():  # the mean over processes of weight times local mean is the mean over the step
            mean = sum(b.weight * s / max(n, 1) for b, s, n in zip(shares, sums, counts, strict=True)) / world
            assert mean == pytest.approx(float(some.target[kept].float().mean()))
    first = torch.zeros(len(few.timeline), dtype=torch.bool)
    first[few.timeline.indptr[:-1][few.timeline.indptr.diff() > 0]] = True
    # Every labelled event but a user's first is a target, in one window here or in two.
    assert found >= int((few.timeline.labelled & ~first).sum()) > 0


def test_labels_follow_their_events_into_the_order_of_time() -> None:
    train = with_labels(log(), 0.3, seed=5)
    timeline = Timeline.of(train)
    taught = sorted(zip(train.user[train.labelled].tolist(), train.item[train.labelled].tolist(), strict=True))
    rows = timeline.labelled.nonzero().flatten()
    assert sorted(zip(timeline.users(rows).tolist(), timeline.item[rows].tolist(), strict=True)) == taught
