"""Sampled metrics: against a loop over the drawn items, and the sample itself."""

from __future__ import annotations

import math

import pytest
import torch
from ranking_kit import csr_of

from recdistill.data.csr import Csr
from recdistill.evaluation.ranking import rank_all
from recdistill.evaluation.sampled import monitored, negatives_of, noise, sampled, sampled_name


@pytest.fixture
def case() -> tuple[torch.Tensor, list[set[int]], list[set[int]]]:
    rng = torch.Generator().manual_seed(0)
    scores = torch.randint(6, (30, 50), generator=rng).float()  # with ties
    relevant = [{(u * 7 + j) % 52 for j in range(u % 3 + 1)} for u in range(30)]  # 50 and 51 are cold
    seen = [{(u * 5 + 11 * j) % 50 for j in range(4)} - relevant[u] for u in range(30)]
    return scores, relevant, seen


@pytest.mark.parametrize("n", [1, 9, 99])
def test_by_loops(case, n: int) -> None:
    scores, relevant, seen = case
    few = sampled(lambda u: scores[u], csr_of(relevant), csr_of(seen), n)
    args = {"users": torch.arange(30), "relevant": csr_of(relevant), "seen": csr_of(seen), "n_items": 50, "ks": [5]}
    result = rank_all(few, **args, chunk=7)
    draw = noise(torch.arange(30), 50, 0)
    for at, user in enumerate(result.users.tolist()):
        free = [i for i in range(50) if i not in relevant[user] | seen[user]]
        negatives = sorted(free, key=lambda i: -float(draw[user, i]))[:n]
        pool = [i for i in relevant[user] if i < 50] + negatives
        ranked = sorted(pool, key=lambda i: (-float(scores[user, i]), i in relevant[user]))[:5]
        places = [place for place, item in enumerate(ranked, 1) if item in relevant[user]]
        ideal = sum(1 / math.log2(place + 1) for place in range(1, min(5, len(relevant[user])) + 1))
        assert float(result.per_user["ndcg@5"][at]) == pytest.approx(
            sum(1 / math.log2(place + 1) for place in places) / ideal
        )


def test_the_hash_is_splitmix64() -> None:
    def by_hand(user: int, item: int, seed: int) -> int:
        x = (((user << 32) + item + 1) * 0x9E3779B97F4A7C15 + seed) % 2**64
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return (x ^ (x >> 31)) % 2**52

    assert noise(torch.tensor([5, 0]), 4, 9).tolist() == [[by_hand(u, i, 9) for i in range(4)] for u in (5, 0)]


@pytest.mark.parametrize("kept", [2**26, 4 * 9 * 12, 0])
def test_what_is_kept_of_a_sample_changes_nothing(case, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, relevant, seen = case
    monkeypatch.setattr("recdistill.evaluation.sampled.KEPT", kept)
    found, masked, both = csr_of(relevant), csr_of(seen), csr_of([a | b for a, b in zip(seen, relevant, strict=True)])
    args = {"users": torch.arange(30), "relevant": found, "n_items": 50, "ks": [5]}

    def top(sets: Csr, n: int, seed: int, chunk: int) -> list[list[int]]:
        few = sampled(lambda u: scores[u], found, sets, n, seed=seed)
        return rank_all(few, **args, seen=sets, chunk=chunk).top.tolist()

    asked = [(masked, 9, 0), (masked, 9, 0), (masked, 3, 0), (masked, 9, 1), (both, 9, 0), (masked, 9, 0)]
    tops = [top(*what, chunk) for what, chunk in zip(asked, (7, 30, 4, 9, 11, 1), strict=True)]
    assert tops[0] == tops[1] == tops[5]
    anew = [Csr(found.indptr, found.indices) for _ in asked]
    for at, (sets, n, seed) in enumerate(asked):
        few = sampled(lambda u: scores[u], anew[at], sets, n, seed=seed)
        assert rank_all(few, **args | {"relevant": anew[at]}, seen=sets).top.tolist() == tops[at]
    assert tops[2] != tops[0] != tops[3]


def test_a_second_validation_draws_nothing(case, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, relevant, seen = case
    sets = csr_of(relevant), csr_of(seen)
    args = {"users": torch.arange(30), "relevant": sets[0], "seen": sets[1], "n_items": 50, "ks": [5]}
    first = rank_all(sampled(lambda u: scores[u], *sets, 9), **args)
    monkeypatch.delattr("recdistill.evaluation.sampled.noise")
    again = rank_all(sampled(lambda u: scores[u], *sets, 9), **args)
    assert again.means() == first.means()


def test_enough_negatives_is_the_full_ranking(case) -> None:
    scores, relevant, seen = case
    args = {"users": torch.arange(30), "relevant": csr_of(relevant), "seen": csr_of(seen), "n_items": 50, "ks": [5]}
    full = rank_all(lambda u: scores[u], **args)
    few = rank_all(sampled(lambda u: scores[u], csr_of(relevant), csr_of(seen), 50), **args)
    assert few.means() == pytest.approx(full.means())


def test_the_sample_is_uniform_and_the_users_own() -> None:
    draw = noise(torch.arange(2000), 200, 0)
    assert 0 <= int(draw.min()) < int(draw.max()) < 2**52
    assert torch.equal(draw[700:703], noise(torch.arange(700, 703), 200, 0))
    assert len(torch.unique(draw)) == draw.numel()
    drawn = torch.bincount(draw.topk(20, dim=1).indices.flatten(), minlength=200)
    expected = 2000 * 20 / 200
    chi_square = float(((drawn - expected) ** 2 / expected).sum())
    assert chi_square < 199 + 5 * math.sqrt(2 * 199)
    correlation = torch.corrcoef(torch.stack([draw[0], draw[1], noise(torch.tensor([0]), 200, 1)[0]]).double())
    assert (correlation - torch.eye(3)).abs().max() < 0.3


def test_the_name_carries_the_sample() -> None:
    assert sampled_name("ndcg@10", 99) == "sampled_ndcg@10[n=99]"
    assert [negatives_of(sampled_name("ndcg@10", n)) for n in (99, None)] == [99, None]


def test_an_epoch_is_chosen_by_the_full_metric_unless_asked() -> None:
    asked = {"metric": "mrr@5", "sampled": 9, "best_by": "full"}
    assert monitored(asked) == "mrr@5"
    assert monitored({**asked, "best_by": "sampled"}) == "sampled_mrr@5[n=9]"
