"""Rows of table E that only a whole run shows: what its tables hold, and how that was found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch
from ranking_kit import given_split
from stage_kit import models, weights
from torch import Tensor

from recdistill.data import store as data_store
from recdistill.data.csr import Csr
from recdistill.data.filters import Filters
from recdistill.data.interactions import Dataset
from recdistill.data.prepare import prepare
from recdistill.data.sources.synthetic import Synthetic
from recdistill.data.splits import GlobalTemporal
from recdistill.evaluation.cost import WARM_UP, cpu_name
from recdistill.evaluation.ranking import evaluable, recommend
from recdistill.export.bundle import load_model, save_model
from recdistill.models.lightgcn import LightGCN
from recdistill.models.mf import MF
from recdistill.tasks.ranking import scorer

Cli = Callable[..., int]
OF_THE_TEACHER = (
    "distillers",
    "weighting",
    "alpha",
    "teacher",
    "signals",
)  # what only the key of a distilled student has


def test_e06_sampled_metrics_are_off_named_and_in_no_table(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("run", "run.name=off", "alpha=0") == 0
    assert cli("run", "run.name=on", "alpha=0", "evaluation.sampled=9") == 0
    off, on = (json.loads(Path(f"outputs/{name}/summary.json").read_text()) for name in ("off", "on"))
    assert all(row["sampled"] == {} for row in off["rows"])
    for row, plain in zip(on["rows"], off["rows"], strict=True):
        assert row["metrics"] == plain["metrics"]
        assert set(row["sampled"]) == {f"sampled_{name}[n=9]" for name in row["metrics"] if "coverage" not in name}
        assert row["sampled"]["sampled_ndcg@10[n=9]"] > row["metrics"]["ndcg@10"]  # why it is in no table
    for file in ("table.md", "table.tex", "summary.csv", "report.html"):
        assert "sampled_" not in Path("outputs/on", file).read_text()
    assert cli("run", "run.name=by", "alpha=0", "evaluation.sampled=9", "evaluation.best_by=sampled") == 0
    noted = [json.loads(Path(f"outputs/{name}/summary.json").read_text())["notes"] for name in ("on", "by")]
    assert ["among 9 sampled items" in " ".join(notes) for notes in noted] == [False, True]
    for wrong in ("sampled_ndcg@10", "'sampled_ndcg@10[n=9]'"):
        assert cli("run", f"evaluation.metric={wrong}", "evaluation.sampled=9") == 2
    assert "evaluation.metric" in capsys.readouterr().err


@pytest.mark.parametrize("distiller", ["soft_label", "topk_kl"])
def test_e12_the_student_alone_is_in_the_table_on_equal_terms(distiller: str, cli: Cli) -> None:
    more = ["distiller.topk_kl.k=10"] if distiller == "topk_kl" else []
    assert cli("run", f"distiller={distiller}", *more, "run.name=one") == 0
    rows = {row["role"]: row for row in json.loads(Path("outputs/one/summary.json").read_text())["rows"]}
    nets, budgets = [], []
    for role in ("alone", "student"):
        row = rows[role]
        model = Path("outputs/one", row["folder"])
        nets.append(json.loads((model / "model.json").read_text())["net"])
        (folder,) = (f for f in models(Path("outputs/cache"), "student") if weights(f) == row["weights_hash"])
        depends_on = json.loads((folder / "stamp.json").read_text())["depends_on"]
        budgets.append({key: value for key, value in depends_on.items() if key not in OF_THE_TEACHER})
        assert depends_on["node"]["fit"]["epochs"] == len(json.loads((model / "history.json").read_text())) == 4
    assert nets[0] == nets[1]  # the same architecture
    assert budgets[0] == budgets[1]  # and budget: epochs, batches, objective, seed, data, precision
    assert rows["alone"]["parameters"] == rows["student"]["parameters"]
    assert rows["alone"]["weights_hash"] != rows["student"]["weights_hash"]


def test_e12_each_row_carries_its_number_of_trials(cli: Cli) -> None:
    """Counted where a grid was searched, and as its owner says elsewhere; all of them differ here."""
    words = ["+teacher.trials=7", "+student.trials=3", "baselines=[popularity,ease]", "compression=[quantize]"]
    assert cli("run", *words, "baselines.ease.tune={net.l2:[50.0,100.0]}", "run.name=one") == 0
    rows = json.loads(Path("outputs/one/summary.json").read_text())["rows"]
    assert {row["name"]: row["trials"] for row in rows} == {
        "teacher": 7, "teacher int8": 7, "teacher int4": 7, "student alone": 3, "student distilled": 3, "quantize": 3,
        "popularity": 1, "ease": 2,
    }  # fmt: skip


def test_e19_duplicates_are_counted(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = given_split(tmp_path / "in")
    assert cli("run", *words, "run.name=once", "alpha=0") == 0
    frames = {part: pl.read_csv(tmp_path / "in" / f"{part}.csv") for part in ("train", "valid", "test")}
    for part, count in (("train", 5), ("test", 3)):
        pl.concat([frames[part], frames[part].head(count)]).write_csv(tmp_path / "in" / f"{part}.csv")
    assert cli("run", *words, "run.name=twice", "alpha=0") == 0
    once, twice = (json.loads(Path(f"outputs/{name}/summary.json").read_text()) for name in ("once", "twice"))
    for one, two in zip(once["rows"], twice["rows"], strict=True):
        assert (one["metrics"], one["weights_hash"]) == (two["metrics"], two["weights_hash"])
    rows = sum(frame.unique().height for frame in frames.values())
    assert rows == sum(frame.height for frame in frames.values())
    for summary, read in ((once, rows), (twice, rows + 8)):
        (step,) = (s for s in summary["data"]["report"]["filters"] if s["filter"] == "duplicates=drop")
        assert step["rows"] == [read, rows]
    capsys.readouterr()
    assert cli("data", *words) == 0
    assert f"{rows + 8:,} → {rows:,}" in capsys.readouterr().out


def test_e20_cold_items_of_a_run_are_in_its_rows(cli: Cli, tmp_path: Path) -> None:
    """A user with two items more that nobody can know has found as many of more; the others have what they had."""
    words = [*given_split(tmp_path / "in"), "alpha=0"]
    assert cli("run", *words, "run.name=known") == 0
    test = pl.read_csv(tmp_path / "in" / "test.csv")
    first, second = test["user"].unique(maintain_order=True)[:2]
    cold = pl.DataFrame({"user": [first, first, second], "item": ["unheard", "unseen", "unheard"]})
    pl.concat([test, cold]).write_csv(tmp_path / "in" / "test.csv")
    assert cli("run", *words, "run.name=cold") == 0
    known, with_cold = (json.loads(Path(f"outputs/{name}/summary.json").read_text()) for name in ("known", "cold"))
    counts = [{row["n_cold_items"] for row in summary["rows"]} for summary in (known, with_cold)]
    items = set(pl.read_csv(tmp_path / "in" / "train.csv")["item"])
    assert counts == [{int((~frame["item"].is_in(items)).sum())} for frame in (test, pl.concat([test, cold]))]
    assert with_cold["data"]["report"]["n_cold_items"] == known["data"]["report"]["n_cold_items"] + 2
    for row in with_cold["rows"]:
        before, after = (
            pl.read_parquet(Path("outputs", run, row["folder"], "per_user.parquet")) for run in ("known", "cold")
        )
        more = before.join(cold.group_by("user").len(), on="user", how="left").with_columns(pl.col("len").fill_null(0))
        assert after["n_relevant"].equals(more["n_relevant"] + more["len"])
        expected = more["recall@20"] * more["n_relevant"] / (more["n_relevant"] + more["len"])
        assert after["recall@20"].to_list() == pytest.approx(expected.to_list(), abs=1e-12)


def test_e21_a_bundle_recommends_what_the_eager_model_does(tmp_path: Path) -> None:
    """Eager against saved and loaded again, for all users; served models and other formats are not tested here."""
    torch.manual_seed(0)
    log = prepare(Synthetic(n_users=120, n_items=80, niches=6), Filters(), GlobalTemporal())
    assert isinstance(log, Dataset)
    users, seen = torch.arange(log.train.n_users), log.train.csr
    for number, model in enumerate((MF(log.schema, dim=12), LightGCN(log.schema, dim=12, layers=2))):
        model.bind(log.train)
        net = {"_target_": f"{type(model).__module__}.{type(model).__name__}", "dim": 12}
        net |= {"layers": 2} if isinstance(model, LightGCN) else {}
        save_model(tmp_path / str(number), model, net, data=log.fingerprint)
        eager, saved = (
            recommend(scorer(each), users, seen, 10)[0]
            for each in (model.eval(), load_model(tmp_path / str(number), log.train))
        )
        assert (eager >= 0).all()
        assert float((eager == saved).all(1).double().mean()) >= 0.999


def test_e21_the_overlap_of_int8_is_reported(cli: Cli) -> None:
    """It is that of the two stored models' own lists, nearly 1, and more than that of int4."""
    assert cli("run", "run.name=one", "alpha=0") == 0
    rows = {row["name"]: row for row in json.loads(Path("outputs/one/summary.json").read_text())["rows"]}
    overlap = {bits: rows[f"teacher int{bits}"]["overlap"]["10"] for bits in (8, 4)}
    assert 0.97 <= overlap[8] <= 1
    assert 0.8 <= overlap[4] < overlap[8]
    (folder,) = models(Path("outputs/cache"), "data")
    data = data_store.load_pairs(folder)
    teacher, int8 = (
        recommend(scorer(load_model(Path("outputs/one", rows[name]["folder"]))), evaluable(data.test.csr),
                  data.train.csr.union(data.valid.csr), 10)[0]
        for name in ("teacher", "teacher int8")
    )  # fmt: skip
    shared = [len(set(one) & set(two)) / 10 for one, two in zip(teacher.tolist(), int8.tolist(), strict=True)]
    assert overlap[8] == pytest.approx(sum(shared) / len(shared), abs=1e-9)


def test_e22_a_share_has_its_denominator_an_interval_and_a_warning(
    cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    """The teacher learns nothing here; popularity beats it."""
    assert (
        cli("run", "run.name=one", "teacher.fit.lr=1e-9", "baselines=[popularity]", "data.source.popularity=1.5") == 0
    )
    summary = json.loads(Path("outputs/one/summary.json").read_text())
    rows = {row["name"]: row for row in summary["rows"]}
    teacher, kept = rows["teacher"]["metrics"]["ndcg@10"], rows["student distilled"]["kept"]
    assert kept["value"] == pytest.approx(rows["student distilled"]["metrics"]["ndcg@10"] / teacher)
    assert kept["low"] <= kept["value"] <= kept["high"]
    said = " ".join(capsys.readouterr().out.split())
    assert f"% of teacher: NDCG@10 by the teacher's {teacher:.4f}, same users and evaluator" in said
    assert "the teacher is below the baseline popularity" in said


def test_e23_latency_says_how_it_was_measured(
    cli: Cli, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On more than 256 users: each timed call is noted, with its users and threads."""
    calls = list[tuple[int, int, int]]()

    def noted(score: Callable[[Tensor], Tensor], users: Tensor, seen: Csr, k: int) -> object:
        lists = recommend(score, users, seen, k)
        calls.append((len(users), torch.get_num_threads(), lists[0].shape[1]))
        return lists

    monkeypatch.setattr("recdistill.tasks.ranking.recommend", noted)
    assert cli("run", "run.name=one", "alpha=0", "data.source.n_users=300", "teacher.fit.epochs=1") == 0
    summary = json.loads(Path("outputs/one/summary.json").read_text())
    assert summary["data"]["report"]["users"] > 256
    assert summary["machine"]["cpu"] == cpu_name() != ""
    for row in summary["rows"]:
        assert set(row["latency"]) == {"1", "256"}
        for batch, times in row["latency"].items():
            assert 0 < times["p50_ms"] <= times["p95_ms"] <= times["p99_ms"]
            assert (times["batch"], times["threads"]) == (int(batch), 1)
    counts = {size: sum(call == (size, 1, 10) for call in calls) for size in (1, 256)}
    assert sum(counts.values()) == len(calls)
    timed = {size: sum(row["latency"][str(size)]["repeats"] for row in summary["rows"]) for size in (1, 256)}
    warm_up, looked_at = WARM_UP * len(summary["rows"]), {1: len(summary["rows"]), 256: 0}  # whose work is counted
    assert WARM_UP > 0
    assert counts == {size: count + warm_up + looked_at[size] for size, count in timed.items()}  # not timed, the first
    assert min(timed.values()) >= 20 * len(summary["rows"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"one request on {summary['machine']['cpu']}, 1 thread, {summary['data']['report']['items']} items" in said
    header, *_ = Path("outputs/one/summary.csv").read_text().splitlines()
    assert {f"latency_b{batch}_p{p}_ms" for batch in (1, 256) for p in (50, 95, 99)} <= set(header.split(","))
