"""Table E of the acceptance sheet: evaluation is right. One test a row, named after it.

What only a whole run shows is in test_table_e_runs.py, E9 to E11 in test_leaks.py, E13 in tests/stages/test_tune.py,
E15 in test_significance.py and E24 in tests/stages/test_verify.py.
"""

from __future__ import annotations

import json
import math
import runpy
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from subprocess import PIPE

import pytest
import torch
from ranking_kit import KS, csr, evaluate, random_case
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.filters import Filters
from recdistill.data.interactions import Dataset
from recdistill.data.prepare import prepare
from recdistill.data.sources.synthetic import Synthetic
from recdistill.data.splits import GlobalTemporal
from recdistill.errors import EXIT_INPUT, InputError
from recdistill.evaluation.ranking import FAMILIES, RankingResult, evaluable, overlap_at_k, rank_all
from recdistill.models.base import RankingModel
from recdistill.models.mf import MF
from recdistill.tasks.ranking import Ranking, scorer

Cli = Callable[..., int]
WORKER = Path(__file__).with_name("ddp_worker.py")
WORLDS = (1, 2, 4)
USERS = (3, 10, 13)  # 3 leaves the fourth process without a user


@pytest.fixture(scope="module")
def log() -> Dataset:
    """A made-up log, cut in time."""
    return prepare(Synthetic(n_users=120, n_items=80, niches=6), Filters(), GlobalTemporal())


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
def test_e01_by_hand(t0: RankingResult, name: str) -> None:
    per_user, mean = T0[name]
    assert t0.per_user[name].tolist() == pytest.approx(per_user, abs=1e-6)
    assert t0.means()[name] == pytest.approx(mean, abs=1e-6)


def test_e01_agrees_with_trec_eval_on_200_random_cases() -> None:
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


@pytest.mark.parametrize("position", [0, 499, 999])
def test_e03_constant_scores_hit_nothing_and_are_named(position: int) -> None:
    relevant = csr([(u, position) for u in range(500)], 500)
    result = evaluate(torch.zeros(500, 1000), relevant, ks=[10])
    assert result.means()["hr@10"] == 0
    assert result.warnings == ["constant_scores"]
    assert result.tie_rate == {10: 1.0}
    assert result.coverage == {10: 0.0}


class Given(RankingModel):
    """Scores that are given, ``[n_users, n_items]``."""

    def __init__(self, data: Dataset, table: Tensor):
        super().__init__(data.schema)
        self.register_buffer("table", table)

    def scores(self, users: Tensor, items: Tensor | None = None) -> Tensor:
        return self.table[users] if items is None else self.table[users.unsqueeze(1), items]


def test_e04_nan_names_model_user_and_item() -> None:
    scores = torch.rand(6, 40)
    scores[4, 17] = torch.nan
    with pytest.raises(InputError, match=r"'student' scored NaN for user 4, item 17"):
        evaluate(scores, csr([(u, 0) for u in range(6)], 6), name="student", chunk=2)


def test_e04_a_model_that_scores_nan_stops_the_evaluation(log: Dataset) -> None:
    user = int(evaluable(log.test.csr)[-1])
    table = torch.rand(log.train.n_users, log.train.n_items)
    item = next(i for i in range(log.train.n_items) if not log.train.csr.contains(torch.tensor(user), torch.tensor(i)))
    table[user, item] = torch.nan
    with pytest.raises(InputError, match=f"'student' scored NaN for user {user}, item {item}") as error:
        Ranking().evaluate(Given(log, table), log, "test", [10], name="student")
    assert error.value.exit_code == EXIT_INPUT != 0


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_e05_item_permutation_changes_nothing_where_scores_tie(precision: str) -> None:
    torch.manual_seed(0)
    n_users, n_items = 300, 800
    scores = torch.randn(n_users, 16) @ torch.randn(16, n_items)
    scores = scores.bfloat16() if precision == "bf16" else (scores * 127 / scores.abs().amax()).round()
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
    assert ours.tie_rate[10] > (0.1 if precision == "bf16" else 0.3)
    for name, values in ours.per_user.items():
        torch.testing.assert_close(values, permuted.per_user[name], rtol=0, atol=1e-9)


def test_e07_seen_items_never_show_and_short_lists_are_padded() -> None:
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


@pytest.mark.parametrize("part", ["valid", "test"])
def test_e07_what_was_seen_is_masked_at_test_validation_items_too(part: str, log: Dataset) -> None:
    """A model that scores what was seen above all else shows nothing of it."""
    hidden = log.train.csr if part == "valid" else log.train.csr.union(log.valid.csr)
    row, item = hidden.rows(torch.arange(log.train.n_users))
    warm = item < log.train.n_items
    table = torch.rand(log.train.n_users, log.train.n_items)
    table[row[warm], item[warm]] += 9
    result = Ranking().evaluate(Given(log, table), log, part, [20])
    assert result.n_users == len(evaluable(getattr(log, part).csr)) > 0
    row, place = torch.where(result.top >= 0)
    assert not hidden.contains(result.users[row], result.top[row, place].long()).any()


def test_e08_training_ends_before_validation_and_that_before_the_test(log: Dataset) -> None:
    last, first = log.train.time.max(), log.valid.time.min()
    assert last < first <= log.valid.time.max() < log.test.time.min()
    cuts = log.manifest["cut_times"]
    assert (int(last) < cuts["valid"] <= int(first), int(log.test.time.min()) >= cuts["test"]) == (True, True)
    assert log.manifest["leaks_time"] is False
    assert len(set(log.manifest["parts"].values())) == 3


def test_e17_processes_count_every_user_once(tmp_path: Path) -> None:
    args = [str(tmp_path), ",".join(map(str, WORLDS)), ",".join(map(str, USERS))]
    workers = [
        subprocess.Popen([sys.executable, WORKER, str(rank), *args], stdout=PIPE, stderr=PIPE, text=True)
        for rank in range(max(WORLDS))
    ]
    outputs = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * len(workers), outputs
    results = json.loads(outputs[0][0].splitlines()[-1])
    assert [(result["world"], result["users"]) for result in results] == list(product(WORLDS, USERS))
    worker = runpy.run_path(str(WORKER))
    evaluate, evaluate_rows = worker["evaluate"], worker["evaluate_rows"]
    for result in results:
        alone, means = evaluate(result["users"])
        assert result["counted"] == result["users"]
        assert result["sums"] == pytest.approx(alone.sums.tolist(), abs=1e-12)
        assert result["means"] == pytest.approx(means, abs=1e-12)
        assert result["rows"] == pytest.approx(evaluate_rows(result["users"]), abs=1e-12)


def crowded_scores(n_users: int, n_items: int, seed: int) -> Tensor:
    """Scores of which half tie exactly, and half lie one step of float32 above or below another."""
    rng = torch.Generator().manual_seed(seed)
    scores = (torch.randn(n_users, n_items, generator=rng) * 4).round() / 4
    step = torch.randint(-2, 3, scores.shape, generator=rng).float()  # +-2 is +-inf: half of those with a step
    return torch.where(step == 0, scores, torch.nextafter(scores, step * torch.inf))


@pytest.mark.parametrize("chunk", [1, 7, 64])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_e18_batch_size_does_not_matter(chunk: int, seed: int) -> None:
    """Of given scores. A model's own may differ in the last bit by the shape of the batch: see the next test."""
    scores, rng = crowded_scores(150, 400, seed), torch.Generator().manual_seed(seed)
    user, item = torch.randint(150, (900,), generator=rng), torch.randint(410, (900,), generator=rng)  # 10 are cold
    relevant, seen = Csr.from_pairs(user, item, 150), Csr.from_pairs(user, (item + 7) % 400, 150)
    ours, whole = (evaluate(scores, relevant, seen, chunk=size) for size in (chunk, 150))
    assert whole.tie_rate[10] > 0.2, "too few ties for the test to fail"
    assert ours.means() == pytest.approx(whole.means(), abs=1e-12)
    for name, values in whole.per_user.items():
        torch.testing.assert_close(ours.per_user[name], values, rtol=0, atol=1e-12)
    assert torch.equal(ours.top, whole.top)
    assert torch.equal(ours.shown, whole.shown)
    assert (ours.tie_rate, ours.coverage, ours.n_users, ours.n_cold) == (
        whole.tie_rate, whole.coverage, whole.n_users, whole.n_cold,
    )  # fmt: skip


def test_e18_the_batches_of_a_model_are_the_same_in_every_run(log: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their size follows from the catalogue alone, so rounding is the same and results are equal to the last bit."""
    monkeypatch.setattr("recdistill.evaluation.ranking.CPU_CHUNK", 4 * log.train.n_items * 7)
    model, sizes = MF(log.schema, dim=12), list[int]()
    whole = scorer(model)
    users = evaluable(log.test.csr)

    def score(part: Tensor) -> Tensor:
        sizes.append(len(part))
        return whole(part)

    for _ in range(2):
        rank_all(score, users=users, relevant=log.test.csr, seen=log.train.csr, n_items=log.train.n_items)
    once = -(-len(users) // 7)
    assert len(users) > 7
    assert sizes == 2 * ([7] * (once - 1) + [len(users) - 7 * (once - 1)])
    one, two = (Ranking().evaluate(model, log, "test", [10]) for _ in range(2))
    assert one.means() == two.means()
    assert torch.equal(one.top, two.top)


def test_e19_duplicates_change_nothing() -> None:
    scores, relevant, seen = random_case(3)
    user = torch.repeat_interleave(torch.arange(len(scores)), relevant.counts())
    twice = Csr.from_pairs(user.repeat(2), relevant.indices.repeat(2), len(scores))
    assert evaluate(scores, twice, seen).means() == evaluate(scores, relevant, seen).means()


def test_e20_cold_items_count_and_cannot_be_hit() -> None:
    result = evaluate(torch.tensor([[3.0, 2.0, 1.0]]), csr([(0, 0), (0, 7), (0, 9)], 1), ks=[5])
    assert result.n_cold == 2
    assert float(result.per_user["recall@5"]) == pytest.approx(1 / 3)


class TestE25Sanity:
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


def test_e25_the_engine_agrees_with_its_scorer(log: Dataset) -> None:
    """Nothing is lost between a model and the engine: the same scores by hand give the same result."""
    torch.manual_seed(0)
    model = MF(log.schema, dim=5)
    result = Ranking().evaluate(model, log, "test", [10])
    seen = log.train.csr.union(log.valid.csr)
    direct = rank_all(
        lambda users: model.scores(users).detach(), users=evaluable(log.test.csr), relevant=log.test.csr, seen=seen,
        n_items=log.train.n_items, ks=[10],
    )  # fmt: skip
    assert direct.means() == pytest.approx(result.means(), abs=1e-9)
    assert float(overlap_at_k(result.top, direct.top, 10).mean()) == pytest.approx(1, abs=1e-3)
    assert scorer(model)(torch.tensor([0])).shape == (1, log.train.n_items)
