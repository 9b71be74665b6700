"""Negatives: never what a user has seen, and distributed as they should be."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from recdistill.data.interactions import Interactions
from recdistill.tasks.batches import generator, ranking_epoch
from recdistill.tasks.sampling import Hard, InBatch, Popularity, Proposal, Sampler, Uniform

SAMPLERS = (Uniform(), Popularity(), Popularity(power=2.0), InBatch(), Hard(), Hard(candidates=2, power=0.5))


def weight_of(sampler: Sampler, train: Interactions) -> Tensor:
    return torch.bincount(train.item, minlength=train.n_items).double() ** sampler.power


def fits(draws: Tensor, weight: Tensor) -> bool:
    """Whether a chi-square test lets the draws pass; none may be of weight 0."""
    found = torch.bincount(draws.flatten(), minlength=len(weight)).double()
    assert not bool(found[weight == 0].any())
    expected = weight / weight.sum() * found.sum()
    return float(chisquare(found[weight > 0], expected[weight > 0]).pvalue) > 1e-4


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 6), st.integers(1, 9), st.integers(0, 40), st.integers(0, 10**6), st.sampled_from([0.0, 0.75, 3.0])
)
def test_negatives_are_unseen(n_users: int, n_items: int, n: int, seed: int, power: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    user, item = (torch.randint(high, (n,), generator=rng) for high in (n_users, n_items))
    train = Interactions(user, item, n_users, n_items)
    users = torch.arange(n_users).repeat(3)
    negative = Popularity(power).proposal(train).draw_unseen(users, 4, generator("cpu", seed))
    assert negative.shape == (3 * n_users, 4)
    seen = set(zip(user.tolist(), item.tolist(), strict=True))
    for owner, row in zip(users.tolist(), negative.tolist(), strict=True):
        everything = all((owner, other) in seen for other in range(n_items))
        for other in row:
            assert 0 <= other < n_items
            assert everything or (owner, other) not in seen


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_user_draws_from_what_is_left(sampler: Sampler, train: Interactions) -> None:
    """Chi-square by user, and over everybody for shared negatives; uniform and by popularity."""
    proposal, rng = sampler.proposal(train), generator("cpu", 1)
    weight = weight_of(sampler, train)
    assert fits(proposal.draw(30_000, rng), weight)
    draws = proposal.draw_unseen(torch.arange(train.n_users), 20_000, rng)
    for user in range(train.n_users):
        left = weight.clone()
        left[train.item[train.user == user]] = 0
        assert fits(draws[user], left), user


def test_the_test_of_distributions_can_fail(train: Interactions) -> None:
    draws = Uniform().proposal(train).draw(30_000, generator("cpu", 1))
    assert not fits(draws, weight_of(Popularity(), train))


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_who_has_seen_everything_draws_anything(power: float) -> None:
    train = Interactions(torch.zeros(5, dtype=torch.int64), torch.arange(5), 2, 5)
    draws = Popularity(power).proposal(train).draw_unseen(torch.tensor([0, 1]), 20_000, generator("cpu", 1))
    assert all(fits(row, torch.ones(5, dtype=torch.float64)) for row in draws)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_log_q_is_the_distribution(sampler: Sampler, train: Interactions) -> None:
    proposal, weight = sampler.proposal(train), weight_of(sampler, train)
    items, users = torch.arange(train.n_items), torch.arange(train.n_users)
    torch.testing.assert_close(proposal.log_q(items).exp(), (weight / weight.sum()).float(), rtol=1e-5, atol=0)
    own = proposal.log_q(items.expand(train.n_users, -1), users).exp()
    for user in users.tolist():
        left = weight.clone()
        left[train.item[train.user == user]] = 0
        torch.testing.assert_close(own[user][left > 0], (left / left.sum())[left > 0].float(), rtol=1e-5, atol=0)
    torch.testing.assert_close(proposal.log_q(items[: train.n_users], users), own.log().diagonal())


@pytest.mark.parametrize("power", [0.0, 0.75, 1.0])
def test_an_item_with_nearly_all_rows_is_no_trouble(power: float) -> None:
    """B29: nearly everybody has it, so that drawing again until it is another would take a hundred turns."""
    n = 200_000
    user = torch.cat([torch.arange(n), torch.arange(2000)])
    item = torch.cat([torch.zeros(n, dtype=torch.int64), 1 + torch.arange(2000) % 50])
    started = time.process_time()
    plan = ranking_epoch(
        Interactions(user, item, n, 51), seed=1, epoch=0, batch_size=4096, negatives=1, queries=0,
        sampler=Popularity(power),
    )  # fmt: skip
    assert int((plan.negative == 0).sum()) == 0
    assert time.process_time() - started < 3


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_a_user_who_has_seen_nearly_everything_is_no_trouble(power: float) -> None:
    """B28."""
    n = 20_000
    train = Interactions(torch.zeros(n - 1, dtype=torch.int64), torch.arange(n - 1), 2, n)
    started = time.process_time()
    users = torch.zeros(5000, dtype=torch.int64)
    drawn = Popularity(power).proposal(train).draw_unseen(users, 4, generator("cpu", 1))
    assert drawn.unique().tolist() == [n - 1]
    assert time.process_time() - started < 1


def test_keys_of_many_users_fit() -> None:
    """The key of the last user and the last unit of weight is below 2^63."""
    n_users = 4_000_000
    train = Interactions(torch.tensor([0, n_users - 1]), torch.tensor([0, 1]), n_users, 3)
    proposal = Popularity(1.0).proposal(train)
    assert n_users * (proposal.total + 1) < 2**63
    last = proposal.draw_unseen(torch.tensor([n_users - 1]), 1000, generator("cpu", 1))
    assert sorted(last.unique().tolist()) == [0]  # the third item occurs nowhere: one unit of 2^39


def test_weights_of_one_are_uniform(train: Interactions) -> None:
    """The two ways through the code draw the same."""
    ones = Proposal(train.csr, train.n_items, torch.ones(train.n_items, dtype=torch.int64))
    plain, users = Uniform().proposal(train), torch.arange(train.n_users)
    assert torch.equal(*(p.draw_unseen(users, 50, generator("cpu", 3)) for p in (plain, ones)))
    assert torch.equal(plain.free, ones.free)


def test_an_epoch_s_negatives_are_a_function_of_seed_and_number(train: Interactions) -> None:
    common = {"batch_size": 8, "negatives": 3, "queries": 0, "sampler": Popularity()}
    first = ranking_epoch(train, seed=1, epoch=0, **common).negative  # type: ignore[arg-type]
    torch.manual_seed(9)
    assert torch.equal(ranking_epoch(train, seed=1, epoch=0, **common).negative, first)  # type: ignore[arg-type]
    for other in ({"seed": 2, "epoch": 0}, {"seed": 1, "epoch": 1}):
        assert not torch.equal(ranking_epoch(train, **other, **common).negative, first)  # type: ignore[arg-type]
