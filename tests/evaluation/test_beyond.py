"""Beyond accuracy: loops over users, items and pairs, cases worked by hand, and what no tie may change."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_kit import csr_of
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy as scipy_entropy

from recdistill.data.csr import Csr
from recdistill.evaluation.beyond import Catalogue, beyond, entropy, exposure, gini
from recdistill.evaluation.diversity import category_divergence, cooccurrence_diversity, vector_diversity
from recdistill.evaluation.popularity import (
    history_means,
    list_means,
    popularity_divergence,
    popularity_groups,
    popularity_lift,
    self_information,
)
from recdistill.evaluation.ranking import rank_all

N_USERS, N_ITEMS, K = 30, 25, 6


class Case:
    """Random histories, lists (some short, one empty), categories and vectors; as tensors and as plain lists."""

    def __init__(self, seed: int):
        rng = np.random.default_rng(seed)
        weights = rng.dirichlet(np.ones(N_ITEMS) * 0.4) * 0.9 + 0.1 / N_ITEMS
        draw = rng.choice
        sizes = rng.integers(1, 9, N_USERS)
        self.history = [set(draw(N_ITEMS, n, replace=False, p=weights).tolist()) for n in sizes]
        for item in range(N_ITEMS):  # a catalogue holds items of the training part only
            self.history[item % N_USERS].add(item)
        self.users = sorted(draw(N_USERS, 20, replace=False).tolist())
        self.lists = [draw(N_ITEMS, int(n), replace=False).tolist() for n in rng.integers(2, K + 1, 20)]
        self.lists[3], self.lists[4] = [], [7]
        self.tags = [set(draw(5, int(n), replace=False).tolist()) for n in rng.integers(0, 4, N_ITEMS)]
        self.vectors = rng.normal(size=(N_ITEMS, 4))
        self.vectors[2] = 0  # no direction: left out
        self.top = torch.tensor([items + [-1] * (K - len(items)) for items in self.lists], dtype=torch.int32)
        self.train, self.categories = csr_of(self.history), csr_of(self.tags)
        self.at = torch.tensor(self.users)
        self.fans = [{u for u, items in enumerate(self.history) if i in items} for i in range(N_ITEMS)]
        self.counts = torch.tensor([len(fans) for fans in self.fans])


@pytest.fixture(params=range(5))
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def mean(values: list[float]) -> float:
    kept = [value for value in values if not math.isnan(value)]
    return sum(kept) / len(kept)


def groups_by_loop(counts: list[int]) -> list[int]:
    total, out = sum(counts), []
    for c in counts:
        above, below = sum(d for d in counts if d > c), sum(d for d in counts if d < c)
        out.append(0 if above < 0.2 * total else 2 if below < 0.2 * total else 1)
    return out


def mix(items: list[int], tags: list[set[int]], n: int) -> list[float]:
    total = [0.0] * n
    tagged = [i for i in items if tags[i]]
    for i in tagged:
        for tag in tags[i]:
            total[tag] += 1 / len(tags[i]) / len(tagged)
    return total


def test_gini_by_its_definition_over_pairs(case: Case) -> None:
    shown = exposure(case.top, N_ITEMS)
    expected = [sum(item in items for items in case.lists) for item in range(N_ITEMS)]
    assert shown.tolist() == expected
    differences = sum(abs(a - b) for a in expected for b in expected)
    assert gini(shown) == pytest.approx(differences / (2 * N_ITEMS * sum(expected)), abs=1e-12)
    assert entropy(shown) == pytest.approx(scipy_entropy(expected, base=2), abs=1e-12)


@pytest.mark.parametrize(
    ("counts", "expected_gini", "bits"), [([5, 5, 5, 5], 0, 2), ([0, 0, 0, 9], 0.75, 0), ([0, 0, 4, 4], 0.5, 1)]
)
def test_gini_and_entropy_by_hand(counts: list[int], expected_gini: float, bits: float) -> None:
    assert gini(torch.tensor(counts)) == pytest.approx(expected_gini)
    assert entropy(torch.tensor(counts)) == pytest.approx(bits)


def test_popularity_by_loops(case: Case) -> None:
    counts, where = case.counts.tolist(), case.at
    of_lists = [mean([counts[i] for i in items]) if items else math.nan for items in case.lists]
    of_histories = [mean([counts[i] for i in case.history[u]]) for u in case.users]
    assert list_means(case.counts, case.top).tolist() == pytest.approx(of_lists, nan_ok=True)
    assert history_means(case.counts, case.train, where).tolist() == pytest.approx(of_histories)
    lift = (mean(of_lists) - mean(of_histories)) / mean(of_histories)
    assert popularity_lift(case.counts, case.top, case.train, where) == pytest.approx(lift)
    surprise = [mean([-math.log2(counts[i] / N_USERS) for i in items]) if items else math.nan for items in case.lists]
    ours = list_means(self_information(case.counts, N_USERS), case.top)
    assert ours.tolist() == pytest.approx(surprise, nan_ok=True)


def test_popularity_divergence_by_loops(case: Case) -> None:
    groups = groups_by_loop(case.counts.tolist())
    assert popularity_groups(case.counts).tolist() == groups
    tags = [{group} for group in groups]
    expected = [
        jensenshannon(mix(sorted(case.history[u]), tags, 3), mix(items, tags, 3), base=2) ** 2 if items else math.nan
        for u, items in zip(case.users, case.lists, strict=True)
    ]
    ours = popularity_divergence(torch.tensor(groups), case.top, case.train, case.at)
    assert ours.tolist() == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_groups_by_hand() -> None:
    """Ten interactions: 5, 2, 1, 1, 1. The first item alone is 50 %; each of the three last are in one tie."""
    assert popularity_groups(torch.tensor([1, 5, 1, 2, 1])).tolist() == [2, 0, 2, 1, 2]
    assert popularity_groups(torch.tensor([3, 3, 3])).tolist() == [0, 0, 0]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.randoms())
def test_groups_do_not_depend_on_the_order_of_items(counts: list[int], random) -> None:
    order = list(range(len(counts)))
    random.shuffle(order)
    groups = popularity_groups(torch.tensor(counts)).tolist()
    assert groups == groups_by_loop(counts)
    assert popularity_groups(torch.tensor([counts[i] for i in order])).tolist() == [groups[i] for i in order]


def test_diversity_over_pairs(case: Case) -> None:
    def cosine(i: int, j: int) -> float:
        a, b = case.vectors[i], case.vectors[j]
        return float(a @ b / math.sqrt((a @ a) * (b @ b)))

    def shared(i: int, j: int) -> float:
        return len(case.fans[i] & case.fans[j]) / math.sqrt(len(case.fans[i]) * len(case.fans[j]))

    def spread(items: list[int], alike) -> float:
        pairs = list(combinations(items, 2))
        return 1 - mean([alike(i, j) for i, j in pairs]) if pairs else math.nan

    ours = vector_diversity(case.top, torch.from_numpy(case.vectors))
    expected = [spread([i for i in items if i != 2], cosine) for items in case.lists]
    assert ours.tolist() == pytest.approx(expected, abs=1e-12, nan_ok=True)
    ours = cooccurrence_diversity(case.top, case.train, case.counts)
    assert ours.tolist() == pytest.approx([spread(items, shared) for items in case.lists], abs=1e-12, nan_ok=True)


def test_diversity_within_a_budget_looks_at_every_nth_user(case: Case) -> None:
    whole = cooccurrence_diversity(case.top, case.train, case.counts)
    work = sum(int(case.counts[i]) for items in case.lists for i in items)
    some = cooccurrence_diversity(case.top, case.train, case.counts, budget=-(-work // 3))
    assert some[::3].tolist() == pytest.approx(whole[::3].tolist(), nan_ok=True)
    assert some[1::3].isnan().all()
    assert some[2::3].isnan().all()


def test_missing_vectors_are_left_out() -> None:
    vectors = torch.tensor([[1.0, 0], [torch.nan, 1], [0, 1], [2, 0]])
    top = torch.tensor([[0, 1, 2], [0, 1, -1], [0, 3, 1]])
    assert vector_diversity(top, vectors).tolist() == pytest.approx([1, math.nan, 0], nan_ok=True)


def test_category_divergence_by_loops(case: Case) -> None:
    def divergence(user: int, items: list[int]) -> float:
        p, q = mix(sorted(case.history[user]), case.tags, 5), mix(items, case.tags, 5)
        if not sum(p) or not sum(q):
            return math.nan
        return sum(a * math.log(a / (0.99 * b + 0.01 * a)) for a, b in zip(p, q, strict=True) if a)

    expected = [divergence(u, items) for u, items in zip(case.users, case.lists, strict=True)]
    ours = category_divergence(case.top, case.train, case.at, case.categories)
    assert ours.tolist() == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_known_items_that_training_lacks_are_passed_over() -> None:
    """A user held out of training may have brought them; here item 9 of a catalogue of three."""
    with_it, without = csr_of([{0, 2, 9}, {1}]), csr_of([{0, 2}, {1}])
    counts, users, top = torch.tensor([4, 2, 1]), torch.arange(2), torch.tensor([[1], [0]])
    categories = csr_of([{0}, {1}, {0, 1}])
    for measure in (
        lambda history: history_means(counts, history, users),
        lambda history: popularity_divergence(popularity_groups(counts), top, history, users),
        lambda history: category_divergence(top, history, users, categories),
    ):
        assert torch.equal(measure(with_it), measure(without))


def test_category_divergence_by_hand() -> None:
    """Steck's case: a history of 70 % romance and 30 % action; a list of romance alone misses the action."""
    categories = csr_of([{0}] * 8 + [{1}] * 4)
    history = csr_of([{*range(7), 8, 9, 10}])
    calibrated, romance = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 8, 9, 10]]), torch.tensor([[*range(8), -1, -1]])
    user = torch.tensor([0])
    assert category_divergence(calibrated, history, user, categories).item() == pytest.approx(0, abs=1e-12)
    expected = 0.7 * math.log(0.7 / (0.99 + 0.007)) + 0.3 * math.log(0.3 / 0.003)
    assert category_divergence(romance, history, user, categories).item() == pytest.approx(expected)


def ranked(scores: torch.Tensor, train: Csr, k: int):
    n_users, n_items = scores.shape
    relevant = csr_of([{(u * 3) % n_items} for u in range(n_users)])
    return rank_all(
        lambda u: scores[u], users=torch.arange(n_users), relevant=relevant, seen=train, n_items=n_items, ks=[k]
    )


def test_all_together_equals_the_parts(case: Case) -> None:
    scores = torch.randn(N_USERS, N_ITEMS, generator=torch.Generator().manual_seed(1))
    scores[0, torch.tensor(sorted(set(range(N_ITEMS)) - case.history[0]))[2:]] = -torch.inf  # a list of two
    scores[5] = -torch.inf  # a list of none
    result = ranked(scores, case.train, 5)
    catalogue = Catalogue(case.train, N_ITEMS, case.train, case.categories, torch.from_numpy(case.vectors))
    found = beyond(result, 5, catalogue)
    assert found["k"] == 5
    assert found["coverage"] == result.coverage[5]
    assert found["user_coverage"] == pytest.approx(29 / 30)
    assert found["full_lists"] == pytest.approx(28 / 30)
    assert found["diversity"] == pytest.approx(float(vector_diversity(result.top, catalogue.vectors).nanmean()))
    tail = [group == 2 for group in groups_by_loop(case.counts.tolist())]
    lists = [[i for i in items if i >= 0] for items in result.top.tolist()]
    assert found["tail_share"] == pytest.approx(mean([mean([tail[i] for i in x]) for x in lists if x]))
    assert found["tail_share_history"] == pytest.approx(mean([mean([tail[i] for i in x]) for x in case.history]))
    assert found["category_users"] <= 29
    plain = beyond(result, 5, Catalogue(case.train, N_ITEMS, case.train))
    assert "category_divergence" not in plain
    assert plain["gini"] == found["gini"]
    assert plain["diversity"] == pytest.approx(
        float(cooccurrence_diversity(result.top, case.train, case.counts).nanmean())
    )


def test_the_most_popular_is_popular_narrow_and_unsurprising(case: Case) -> None:
    by_popularity = ranked(case.counts.float().expand(N_USERS, -1), case.train, 5)
    at_random = ranked(torch.rand(N_USERS, N_ITEMS, generator=torch.Generator().manual_seed(0)), case.train, 5)
    catalogue = Catalogue(case.train, N_ITEMS, case.train)
    narrow, wide = beyond(by_popularity, 5, catalogue), beyond(at_random, 5, catalogue)
    for name in ("gini", "popularity", "popularity_lift"):
        assert narrow[name] > wide[name]
    for name in ("coverage", "entropy", "novelty", "tail_share"):
        assert narrow[name] < wide[name]


def test_equal_scores_are_listed_by_id_however_the_batch_is_cut() -> None:
    scores = torch.randint(3, (40, 60), generator=torch.Generator().manual_seed(0)).float()
    train = csr_of([{(u * 7) % 60} for u in range(40)])
    relevant = csr_of([{u} for u in range(40)])
    seen = [set(train.rows(torch.tensor([u]))[1].tolist()) for u in range(40)]
    for chunk in (1, 7, 40):
        result = rank_all(
            lambda u: scores[u],
            users=torch.arange(40),
            relevant=relevant,
            seen=train,
            n_items=60,
            ks=[3, 8],
            chunk=chunk,
        )
        for user, items in enumerate(result.top.tolist()):
            unseen = [i for i in range(60) if i not in seen[user]]
            assert items == sorted(unseen, key=lambda i: (-float(scores[user, i]), i))[:8]


def test_nothing_shown_is_none_and_not_a_number() -> None:
    train = csr_of([{0, 1}, {0}])
    result = rank_all(
        lambda u: torch.full((len(u), 2), -torch.inf), users=torch.arange(2), relevant=csr_of([{0}, {1}]), seen=train,
        n_items=2, ks=[1],
    )  # fmt: skip
    found = beyond(result, 1, Catalogue(train, 2, train))
    assert found["user_coverage"] == 0
    assert all(found[name] is None for name in ("gini", "novelty", "popularity", "diversity", "tail_share"))
