"""The ranking engine: a case worked by hand, trec_eval, a loop oracle with ties, masks, and sanity."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.errors import InputError
from recdistill.evaluation.ranking import (
    FAMILIES,
    RankingResult,
    evaluable,
    metrics_from_ranks,
    overlap_at_k,
    rank_all,
    rank_batch,
    relevant_ranks,
)

KS = [1, 5, 10, 20, 50]


def csr(pairs: list[tuple[int, int]], n_users: int) -> Csr:
    table = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    return Csr.from_pairs(table[:, 0], table[:, 1], n_users)


def evaluate(scores: Tensor, relevant: Csr, seen: Csr | None = None, ks=KS, **kwargs) -> RankingResult:
    """Evaluates a whole table of scores ``[U, I]``."""
    n_users, n_items = scores.shape
    return rank_all(
        lambda users: scores[users], users=torch.arange(n_users), relevant=relevant,
        seen=seen or csr([], n_users), n_items=n_items, ks=ks, **kwargs,
    )  # fmt: skip


def random_case(seed: int, *, cold: int = 0) -> tuple[Tensor, Csr, Csr]:
    """Tie-free scores, relevant and seen items; some users have neither."""
    rng = np.random.default_rng(seed)
    n_users, n_items = int(rng.integers(1, 51)), int(rng.integers(2, 301))
    scores = torch.from_numpy(np.stack([rng.permutation(n_items) for _ in range(n_users)])).float()

    def pairs(mean: float, width: int) -> Csr:
        chosen = rng.random((n_users, width)) < mean / width
        return csr([(int(u), int(i)) for u, i in zip(*chosen.nonzero(), strict=True)], n_users)

    relevant = pairs(5, n_items + cold)
    if not relevant.indices.numel():
        relevant = csr([(0, 0)], n_users)
    return scores, relevant, pairs(10, n_items)


def oracle(scores: list[float], relevant: set[int], seen: set[int], k: int) -> dict[str, float]:
    """One user by plain loops: the list with every tie resolved against the model."""
    shown = [i for i in range(len(scores)) if i not in seen and scores[i] > -math.inf]
    ranked = sorted(shown, key=lambda i: (-scores[i], i in relevant))[:k]
    places = [place for place, item in enumerate(ranked, 1) if item in relevant]
    ideal = sum(1 / math.log2(place + 1) for place in range(1, min(k, len(relevant)) + 1))
    return {
        f"ndcg@{k}": sum(1 / math.log2(place + 1) for place in places) / ideal,
        f"recall@{k}": len(places) / len(relevant),
        f"hr@{k}": float(bool(places)),
        f"mrr@{k}": 1 / places[0] if places else 0.0,
        f"map@{k}": sum(n / place for n, place in enumerate(places, 1)) / len(relevant),
        f"precision@{k}": len(places) / k,
    }


T0 = {
    "ndcg@2": ([0.613147, 0.630930, 0], 0.414692),
    "ndcg@5": ([0.703918, 0.630930, 0], 0.444949),
    "recall@2": ([1 / 3, 1, 0], 0.444444),
    "recall@5": ([2 / 3, 1, 0], 0.555556),
    "hr@1": ([1, 0, 0], 0.333333),
    "hr@5": ([1, 1, 0], 0.666667),
    "mrr@5": ([1, 0.5, 0], 0.5),
    "map@5": ([0.555556, 0.5, 0], 0.351852),
    "precision@5": ([0.4, 0.2, 0], 0.2),
}


@pytest.fixture(scope="module")
def t0() -> RankingResult:
    items = {name: i for i, name in enumerate("abcdexyzwv")}
    lists = ["axbyz", "xdyzw", "xyzwv"]
    scores = torch.full((3, 10), -1.0)
    for user, names in enumerate(lists):
        for place, name in enumerate(names):
            scores[user, items[name]] = 10.0 - place
    relevant = csr([(0, items[n]) for n in "abc"] + [(1, items["d"]), (2, items["e"])], 3)
    return evaluate(scores, relevant, ks=[1, 2, 5])


@pytest.mark.parametrize("name", T0)
def test_t0_by_hand(t0: RankingResult, name: str) -> None:
    per_user, mean = T0[name]
    assert t0.per_user[name].tolist() == pytest.approx(per_user, abs=1e-6)
    assert t0.means()[name] == pytest.approx(mean, abs=1e-6)


def test_agrees_with_trec_eval_on_200_random_cases() -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    cuts = ",".join(map(str, KS))
    measures = {f"{m}.{cuts}" for m in ("ndcg_cut", "recall", "success", "map_cut", "P")} | {"recip_rank"}
    names = {"ndcg": "ndcg_cut", "recall": "recall", "hr": "success", "map": "map_cut", "precision": "P"}
    for seed in range(200):
        scores, relevant, seen = random_case(seed)
        result = evaluate(scores, relevant, seen)
        sets = [set(relevant.rows(torch.tensor([u]))[1].tolist()) for u in range(len(scores))]
        qrels = {str(u): {str(i): 1 for i in items} for u, items in enumerate(sets) if items}
        hidden = [set(seen.rows(torch.tensor([u]))[1].tolist()) for u in range(len(scores))]
        run = {
            q: {str(i): float(s) for i, s in enumerate(scores[int(q)].tolist()) if i not in hidden[int(q)]}
            for q in qrels
        }
        run = {q: ranked or {"none": 1.0} for q, ranked in run.items()}
        theirs = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)
        for k in KS:
            cut = {q: dict(sorted(r.items(), key=lambda kv: -kv[1])[:k]) for q, r in run.items()}
            first = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(cut)
            for at, user in enumerate(result.users.tolist()):
                ours = {family: float(result.per_user[f"{family}@{k}"][at]) for family in FAMILIES}
                expected = {ours_name: theirs[str(user)][f"{name}_{k}"] for ours_name, name in names.items()}
                assert ours == pytest.approx(expected | {"mrr": first[str(user)]["recip_rank"]}, abs=1e-6)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_agrees_with_loops_when_scores_tie(data: st.DataObject) -> None:
    n_users, n_items = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 14))
    levels = data.draw(st.integers(1, 5))  # few distinct scores: ties everywhere, inside and at the boundary
    level = st.integers(1, levels).map(float)
    table = data.draw(st.lists(st.lists(level, min_size=n_items, max_size=n_items),
                               min_size=n_users, max_size=n_users))  # fmt: skip
    sets = st.lists(st.sets(st.integers(0, n_items + 1)), min_size=n_users, max_size=n_users)
    relevant, seen = data.draw(sets), data.draw(sets)
    ks = data.draw(st.lists(st.integers(1, 16), min_size=1, max_size=3, unique=True))
    if not any(relevant):
        relevant[0] = {0}
    result = evaluate(
        torch.tensor(table),
        csr([(u, i) for u, items in enumerate(relevant) for i in items], n_users),
        csr([(u, i) for u, items in enumerate(seen) for i in items], n_users),
        ks=ks,
        chunk=data.draw(st.integers(1, 5)),
    )
    assert result.users.tolist() == [u for u, items in enumerate(relevant) if items]
    for at, user in enumerate(result.users.tolist()):
        for k in ks:
            expected = oracle(table[user], relevant[user], seen[user], k)
            ours = {name: float(result.per_user[name][at]) for name in expected}
            assert ours == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("position", [0, 499, 999])
def test_constant_scores_hit_nothing_and_are_named(position: int) -> None:
    relevant = csr([(u, position) for u in range(500)], 500)
    result = evaluate(torch.zeros(500, 1000), relevant, ks=[10])
    assert result.means()["hr@10"] == 0
    assert result.warnings == ["constant_scores"]
    assert result.tie_rate == {10: 1.0}
    assert result.coverage == {10: 0.0}


def test_one_user_with_two_scores_is_not_constant() -> None:
    scores = torch.zeros(3, 200)
    scores[1, 150] = -1  # below the top list, so that only a look at the whole row tells
    assert evaluate(scores, csr([(0, 0), (1, 0), (2, 0)], 3), ks=[5]).warnings == []


def test_constant_but_for_masked_items_is_constant() -> None:
    scores = torch.zeros(1, 9)
    scores[0, 3] = 5
    assert evaluate(scores, csr([(0, 0)], 1), csr([(0, 3)], 1), ks=[5]).warnings == ["constant_scores"]


def test_nan_names_model_user_and_item() -> None:
    scores = torch.rand(6, 40)
    scores[4, 17] = torch.nan
    with pytest.raises(InputError, match=r"'student' scored NaN for user 4, item 17"):
        evaluate(scores, csr([(u, 0) for u in range(6)], 6), name="student", chunk=2)


def test_nan_is_found_by_the_bare_function_too() -> None:
    with pytest.raises(InputError, match="user 0, item 1"):
        relevant_ranks(torch.tensor([[1.0, torch.nan]]), (torch.tensor([0]), torch.tensor([0])), 1)


def test_item_permutation_changes_nothing_with_bf16_ties() -> None:
    torch.manual_seed(0)
    n_users, n_items = 300, 800
    scores = (torch.randn(n_users, 16) @ torch.randn(16, n_items)).bfloat16()
    user, item = torch.randint(n_users, (3000,)), torch.randint(n_items, (3000,))
    seen_user, seen_item = torch.randint(n_users, (6000,)), torch.randint(n_items, (6000,))
    order = torch.randperm(n_items)
    place = order.argsort()
    ours = evaluate(scores, Csr.from_pairs(user, item, n_users), Csr.from_pairs(seen_user, seen_item, n_users))
    permuted = evaluate(
        scores[:, order], Csr.from_pairs(user, place[item], n_users),
        Csr.from_pairs(seen_user, place[seen_item], n_users),
    )  # fmt: skip
    assert ours.means() == pytest.approx(permuted.means(), abs=1e-9)
    assert ours.tie_rate == permuted.tie_rate
    assert ours.tie_rate[10] > 0.05
    for name, values in ours.per_user.items():
        torch.testing.assert_close(values, permuted.per_user[name], rtol=0, atol=1e-9)


def test_seen_items_never_show_and_short_lists_are_padded() -> None:
    torch.manual_seed(0)
    n_users, n_items = 40, 60
    scores = torch.randn(n_users, n_items)
    pairs = [(u, i) for u in range(2, n_users) for i in torch.randperm(n_items)[: u + 5].tolist()]
    seen = csr(pairs + [(0, i) for i in range(n_items)] + [(1, i) for i in range(3, n_items)], n_users)
    result = evaluate(scores, csr([(u, u) for u in range(n_users)], n_users), seen)
    row, _ = torch.where(result.top >= 0)
    assert not seen.contains(row, result.top[result.top >= 0].long()).any()
    assert result.top.dtype == torch.int32
    assert result.top.shape == (n_users, 50)
    assert (result.top[0] == -1).all()  # saw everything
    assert result.top[1, :3].tolist() == scores[1, :3].argsort(descending=True).tolist()
    assert (result.top[1, 3:] == -1).all()
    assert result.per_user["recall@50"][0] == 0  # a relevant item that is masked can't be hit


def test_cold_items_count_and_cannot_be_hit() -> None:
    result = evaluate(torch.tensor([[3.0, 2.0, 1.0]]), csr([(0, 0), (0, 7), (0, 9)], 1), ks=[5])
    assert result.n_cold == 2
    assert float(result.per_user["recall@5"]) == pytest.approx(1 / 3)


def test_cold_items_among_the_seen_are_skipped() -> None:
    result = evaluate(torch.tensor([[3.0, 2.0]]), csr([(0, 1)], 1), csr([(0, 0), (0, 5)], 1), ks=[1])
    assert float(result.per_user["hr@1"]) == 1


def test_duplicates_change_nothing() -> None:
    scores, relevant, seen = random_case(3)
    user = torch.repeat_interleave(torch.arange(len(scores)), relevant.counts())
    twice = Csr.from_pairs(user.repeat(2), relevant.indices.repeat(2), len(scores))
    assert evaluate(scores, twice, seen).means() == evaluate(scores, relevant, seen).means()


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_batch_size_does_not_matter(chunk: int) -> None:
    torch.manual_seed(1)
    user_factors, item_factors = torch.randn(150, 16), torch.randn(400, 16)
    user, item = torch.randint(150, (900,)), torch.randint(400, (900,))
    relevant, seen = Csr.from_pairs(user, item, 150), Csr.from_pairs(user, (item + 7) % 400, 150)

    def run(size: int) -> RankingResult:
        return rank_all(
            lambda users: user_factors[users] @ item_factors.T, users=torch.arange(150), relevant=relevant,
            seen=seen, n_items=400, ks=KS, chunk=size,
        )  # fmt: skip

    ours, whole = run(chunk), run(150)
    assert ours.means() == pytest.approx(whole.means(), abs=1e-12)
    assert torch.equal(ours.top, whole.top)
    assert (ours.tie_rate, ours.n_users) == (whole.tie_rate, whole.n_users)


def test_the_scores_of_the_model_are_left_alone() -> None:
    popularity = torch.tensor([3.0, 2.0, 1.0])
    table = popularity.repeat(2, 1)
    relevant, seen = csr([(0, 1), (1, 0)], 2), csr([(0, 0)], 2)
    for scores in (popularity.expand(2, 3), table):  # a mask written into either would corrupt the model
        result = rank_batch(scores, torch.arange(2), relevant, seen, [1])
        assert result.per_user["hr@1"].tolist() == [1, 1]
    assert popularity.tolist() == [3, 2, 1]
    assert table.tolist() == [[3, 2, 1], [3, 2, 1]]


class TestSanity:
    def test_perfect_model(self) -> None:
        _, relevant, _ = random_case(5)
        n_users = relevant.indptr.numel() - 1
        user = torch.repeat_interleave(torch.arange(n_users), relevant.counts())
        scores = torch.rand(n_users, 300)
        scores[user, relevant.indices] += 1
        means = evaluate(scores, relevant, ks=[20]).means()
        assert [means[f"{family}@20"] for family in ("ndcg", "recall", "hr", "mrr", "map")] == [1.0] * 5

    def test_reversed_model(self) -> None:
        scores = torch.rand(50, 300)
        scores[:, 0] = -1
        means = evaluate(scores, csr([(u, 0) for u in range(50)], 50)).means()
        assert all(means[f"{family}@{k}"] == 0 for family in FAMILIES for k in KS)

    def test_random_model(self) -> None:
        torch.manual_seed(0)
        n_users, n_items, k = 4000, 200, 10
        relevant = csr([(u, u % n_items) for u in range(n_users)], n_users)
        hit_rate = evaluate(torch.rand(n_users, n_items), relevant, ks=[k]).means()["hr@10"]
        p = k / n_items
        assert abs(hit_rate - p) < 4 * math.sqrt(p * (1 - p) / n_users)

    def test_user_order(self) -> None:
        scores, relevant, seen = random_case(8)
        users = evaluable(relevant)
        args = {"relevant": relevant, "seen": seen, "n_items": scores.shape[1], "ks": KS}
        forward = rank_all(lambda u: scores[u], users=users, **args)
        backward = rank_all(lambda u: scores[u], users=users.flip(0), **args)
        assert forward.means() == pytest.approx(backward.means(), abs=1e-12)
        assert torch.equal(forward.top, backward.top.flip(0))

    @pytest.mark.parametrize("transform", [lambda s: 3 * s - 7, lambda s: (s / 400).exp(), lambda s: s**3])
    def test_monotone_transforms(self, transform) -> None:
        scores, relevant, seen = random_case(9)
        assert evaluate(transform(scores), relevant, seen).means() == evaluate(scores, relevant, seen).means()

    def test_k_beyond_the_catalogue(self) -> None:
        result = evaluate(torch.tensor([[1.0, 3.0, 2.0]]), csr([(0, 0), (0, 1)], 1), ks=[2, 10])
        assert result.top.tolist() == [[1, 2, 0] + [-1] * 7]
        assert result.means()["recall@10"] == 1
        assert result.means()["precision@10"] == pytest.approx(0.2)
        assert result.tie_rate == {2: 0.0, 10: 0.0}


def test_coverage_counts_items_in_some_list() -> None:
    scores = torch.tensor([[4.0, 3, 2, 1], [4.0, 3, 1, 2], [4.0, 1, 3, 2]])
    result = evaluate(scores, csr([(u, 0) for u in range(3)], 3), ks=[1, 2])
    assert result.coverage == {1: 0.25, 2: 0.75}
    assert result.means()["coverage@2"] == 0.75


def test_users_without_relevant_items_are_left_out() -> None:
    relevant = csr([(1, 0)], 3)
    result = evaluate(torch.rand(3, 5), relevant, ks=[5])
    assert evaluable(relevant).tolist() == result.users.tolist() == [1]
    batch = rank_batch(torch.rand(3, 5), torch.arange(3), relevant, csr([], 3), ks=[5])
    assert batch.users.tolist() == [1]


def test_an_empty_share_is_fine_and_an_empty_part_is_not() -> None:
    nobody = torch.zeros(0, dtype=torch.int64)
    args = {"seen": csr([], 2), "n_items": 5, "ks": [5]}
    share = rank_all(lambda u: torch.rand(len(u), 5), users=nobody, relevant=csr([(1, 0)], 2), **args)
    assert share.n_users == 0
    assert share.top.shape == (0, 5)
    with pytest.raises(InputError, match="no user has a relevant item"):
        rank_all(lambda u: torch.rand(len(u), 5), users=torch.arange(2), relevant=csr([], 2), **args)


def test_scores_of_another_catalogue_are_refused() -> None:
    with pytest.raises(InputError, match=r"'teacher' gave scores of shape \[2, 4\], expected \[2, 5\]"):
        rank_all(
            lambda u: torch.rand(len(u), 4), users=torch.arange(2), relevant=csr([(0, 0), (1, 0)], 2),
            seen=csr([], 2), n_items=5, name="teacher",
        )  # fmt: skip


@pytest.mark.parametrize("ks", [[], [0], [-3, 10]])
def test_list_lengths_must_be_positive(ks: list[int]) -> None:
    with pytest.raises(InputError, match="list lengths"):
        evaluate(torch.rand(1, 4), csr([(0, 0)], 1), ks=ks)


def test_metrics_of_a_row_without_relevant_items_are_zero() -> None:
    row = torch.tensor([1])
    out = metrics_from_ranks(torch.tensor([0]), row, torch.tensor([0, 1]), [5])
    assert out["ndcg@5"].tolist() == [0, 1]
    assert all(values.dtype == torch.float64 for values in out.values())


def test_overlap_ignores_order_and_padding() -> None:
    a = torch.tensor([[1, 2, 3], [1, -1, -1], [-1, -1, -1], [4, 5, 6]])
    b = torch.tensor([[3, 1, 9], [1, -1, -1], [-1, -1, -1], [4, -1, -1]])
    assert overlap_at_k(a, b, 3).tolist() == pytest.approx([2 / 3, 1, 0, 1 / 3])
    assert overlap_at_k(a, b, 1).tolist() == [0, 1, 0, 1]
