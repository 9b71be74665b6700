"""Every sample once per epoch, the same for any number of processes; negatives against a brute-force set."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from recdistill.data.interactions import Interactions
from recdistill.tasks.batches import (
    RankingEpoch,
    mix,
    ranking_epoch,
    user_epoch,
)


def epoch(train: Interactions, **changes: int) -> RankingEpoch:
    settings = {"seed": 1, "epoch": 0, "batch_size": 10, "negatives": 3, "queries": 5}
    return ranking_epoch(train, **{**settings, **changes})


def pairs(train: Interactions) -> list[tuple[int, int]]:
    return list(zip(train.user.tolist(), train.item.tolist(), strict=True))


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("batch_size", [1, 4, 10, 1000])
def test_every_interaction_comes_once_and_ranks_share_a_step(train: Interactions, world: int, batch_size: int) -> None:
    plan = epoch(train, batch_size=batch_size)
    seen: Counter[tuple[int, int]] = Counter()
    sizes = []
    for step in range(plan.steps):
        whole = plan.batch(step)
        shares = [plan.batch(step, rank, world) for rank in range(world)]
        counted = [s for s in shares if s.weight > 0]
        assert torch.equal(torch.cat([s.user for s in counted]), whole.user)
        assert torch.equal(torch.cat([s.item for s in counted]), whole.item)
        assert torch.equal(torch.cat([s.negative for s in counted]), whole.negative)
        asked = [s for s in shares if s.query_weight > 0]
        assert torch.equal(torch.cat([s.query for s in asked]), whole.query)
        assert len({s.seed for s in shares}) == 1
        assert all(len(s.user) and len(s.query) for s in shares)  # nobody takes the mean of nothing
        # The average over processes of weight · local mean is the mean of the step.
        value = torch.randn(train.n_users, dtype=torch.float64)
        mean = sum(s.weight * value[s.user].mean() for s in shares) / world
        assert mean == pytest.approx(float(value[whole.user].mean()))
        mean = sum(s.query_weight * value[s.query].mean() for s in shares) / world
        assert mean == pytest.approx(float(value[whole.query].mean()))
        seen.update(zip(whole.user.tolist(), whole.item.tolist(), strict=True))
        sizes.append(len(whole.user))
    assert seen == Counter(pairs(train))
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= batch_size


def test_users_to_distil_come_in_rounds(train: Interactions) -> None:
    plan = epoch(train, batch_size=7, queries=5)
    assert len(plan.query) == plan.steps * 5
    for start in range(0, len(plan.query), train.n_users):
        part = plan.query[start : start + train.n_users].tolist()
        assert len(set(part)) == len(part)
    assert epoch(train, queries=0).batch(0).query.numel() == 0


def test_an_epoch_is_a_function_of_seed_and_number(train: Interactions) -> None:
    def content(plan: RankingEpoch) -> list[object]:
        return [t.tolist() for t in (plan.user, plan.item, plan.negative, plan.query)] + [plan.seed]

    first = content(epoch(train))
    torch.manual_seed(99)  # the global generator plays no part
    assert content(epoch(train)) == first
    for other in (epoch(train, seed=2), epoch(train, epoch=1)):
        assert all(a != b for a, b in zip(content(other), first, strict=True))
    assert mix(1, 2) != mix(2, 1)
    assert mix(0) != mix(0, 0)
    assert len({mix(a, b) for a in range(50) for b in range(50)}) == 2500


def test_batches_are_slices_of_resident_tensors(train: Interactions) -> None:
    plan = epoch(train)
    for name in ("user", "item", "negative", "query"):
        whole, part = getattr(plan, name), getattr(plan.batch(1, 1, 2), name)
        assert part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()


def test_a_pass_over_users(train: Interactions) -> None:
    plan = user_epoch(train, seed=1, epoch=0, batch_size=5)
    batches = [plan.batch(step) for step in range(plan.steps)]
    assert sorted(torch.cat([b.user for b in batches]).tolist()) == list(range(train.n_users))
    assert all(torch.equal(b.user, b.query) and b.item.numel() == 0 for b in batches)
    shares = [plan.batch(0, rank, 2) for rank in range(2)]
    assert torch.equal(torch.cat([s.query for s in shares]), batches[0].query)
    assert shares[0].negative.numel() == 0
