"""``recdistill compare``: on made-up runs whose figures are known, and once on real ones."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats
from stage_kit import tree

from recdistill.cli import main
from recdistill.evaluation.significance import bootstrap_difference, bootstrap_mean
from recdistill.reporting.grid import collect
from recdistill.stages.grid import difference_p

N = 400
USERS = [f"{i:03}" for i in range(N)]
LEVEL = np.random.default_rng(0).beta(0.5, 2, N)


def values(shift: float, seed: int, noise: float = 0.02) -> np.ndarray[Any, Any]:
    return LEVEL + shift + np.random.default_rng([seed, int(1e6 + shift * 1e6)]).normal(0, noise, N)


def make_run(folder: Path, seed: int = 1, recipe: str = "r", overrides: tuple[str, ...] = (), **change: Any) -> Path:
    """A run of three rows; ``shift`` moves the metric of its last."""
    shift = change.pop("shift", -0.02)
    rows = []
    for name, role, at in (("teacher", "teacher", 0.0), ("student alone", "alone", -0.05),
                           ("quantize", "compressed", shift)):  # fmt: skip
        place = Path("models") / name.replace(" ", "_")
        (folder / place).mkdir(parents=True)
        own = values(at, seed)
        metrics = {"ndcg@10": own, "recall@20": own * 2, "rmse": own * 100}
        of_users = {"user": USERS, "n_relevant": [3] * N} | {key: metrics[key] for key in ("ndcg@10", "recall@20")}
        of_rows = {"row": [str(row) for row in range(N)], "rmse": metrics["rmse"]}
        for file, columns in (("per_user.parquet", of_users), ("per_row.parquet", of_rows)):
            frame = pl.DataFrame(columns).sample(fraction=1.0, shuffle=True, seed=seed)
            frame.write_parquet(folder / place / file)
        rows.append({
            "name": name, "role": role, "label": "MF d=8", "folder": str(place),
            "weights_hash": f"{recipe}{name}{seed}",
            "metrics": {name: by_user.mean() for name, by_user in metrics.items()} | {"coverage@10": 0.5},
        })  # fmt: skip
    summary = {
        "seed": seed, "recipe_hash": recipe, "metric": "ndcg@10", "n_users": N, "overrides": list(overrides),
        "data": {"name": "toy", "fingerprint": "d1", "manifest": {"parts": {"train": "a", "test": "b"}}}, "rows": rows,
    } | change  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "status.json").write_text(json.dumps({"state": "done", "error": None, "overrides": list(overrides)}))
    return folder


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recdistill"])
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def compared(*words: str) -> dict[str, Any]:
    assert main(["compare", *words, "compare.output=out"]) == 0
    content: dict[str, Any] = json.loads(Path("out/compare.json").read_text())
    return content


def test_one_run_is_compared_row_by_row(capsys: pytest.CaptureFixture[str]) -> None:
    make_run(Path("runs/one"))
    found = compared("runs/one")
    teacher, alone, small = found["lines"]
    assert [line["name"] for line in found["lines"]] == ["teacher", "student alone", "quantize"]
    assert [line["verdict"] for line in found["lines"]] == ["reference", "worse (1 seed)", "worse (1 seed)"]
    assert teacher["value"] == pytest.approx(values(0, 1).mean(), abs=1e-15)
    assert (teacher["low"], teacher["high"]) == bootstrap_mean(values(0, 1))[1:]
    expected = stats.ttest_rel(values(-0.02, 1), values(0, 1)).pvalue
    assert small["p"] == small["p_users"] == pytest.approx(expected, rel=1e-9)
    assert small["p_bootstrap"] == pytest.approx(expected, abs=0.01)
    assert alone["p_holm"] == 2 * alone["p"] < small["p"] == small["p_holm"]
    assert found["against"] == 1
    assert "one seed a line" in found["notes"][0]
    screen = capsys.readouterr().out
    assert "NDCG@10 against teacher: 2 worse." in screen
    assert max(map(len, screen.splitlines())) <= 100
    rows = list(csv.DictReader(Path("out/compare.csv").read_text().splitlines()))
    assert float(rows[2]["difference"]) == small["difference"]["value"]
    assert "| 3 quantize" in Path("out/compare.md").read_text()


def test_runs_that_differ_by_their_seed_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (3, 1, 2):
        make_run(Path(f"runs/a{seed}"), seed, "a", ("alpha=0.5", f"seed={seed}"))
        make_run(Path(f"runs/b{seed}"), seed, "b", ("alpha=0.9", f"seed={seed}"), shift=-0.021)
    found = compared("runs/a3", "runs/a1", "runs/a2", "runs/b2", "runs/b1", "runs/b3")
    first, second = found["lines"]
    assert [line["name"] for line in found["lines"]] == ["quantize", "quantize"]
    assert (first["detail"], second["detail"]) == ("alpha=0.5", "alpha=0.9")
    assert first["seeds"] == second["seeds"] == [1, 2, 3]
    a, b = (np.stack([values(shift, seed) for seed in (1, 2, 3)]) for shift in (-0.02, -0.021))
    assert first["by_run"] == pytest.approx(a.mean(1), abs=1e-15)
    assert first["sd"] == pytest.approx(a.mean(1).std(ddof=1))
    expected = bootstrap_difference(b, a, same_seeds=True)
    assert second["p"] == second["p_bootstrap"] == pytest.approx(expected.p, abs=1e-12)
    assert [second["difference"][key] for key in ("value", "low", "high")] == pytest.approx(list(expected[:3]))
    assert "3 ±" in capsys.readouterr().out


def test_a_swept_number_is_in_its_order() -> None:
    """A shell's outputs/dim_* is 10, 2, 9; seeds too are numbers."""
    for dim in ("10", "2", "9"):
        for seed in (10, 2):
            words = (f"student.net.dim={dim}", f"seed={seed}")
            make_run(Path(f"dim_{dim}_{seed}"), seed, f"r{dim}", overrides=words, shift=-0.01 * int(dim))
    found = compared(*sorted(str(path) for path in Path().glob("dim_*")))
    assert [line["detail"] for line in found["lines"]] == [f"student.net.dim={dim}" for dim in (2, 9, 10)]
    assert [line["seeds"] for line in found["lines"]] == [[2, 10]] * 3
    assert found["against"] == 1


def test_lines_of_no_one_number_stay_as_they_are_given() -> None:
    for name, words in (("b", ("alpha=0.5",)), ("a", ("temperature=2",)), ("c", ("alpha=0.1",))):
        make_run(Path(name), 1, name, overrides=words)
    assert [line["detail"] for line in compared("b", "a", "c")["lines"]] == ["alpha=0.5", "temperature=2", "alpha=0.1"]


def test_equal_models_are_noise() -> None:
    make_run(Path("one"), recipe="a")
    make_run(Path("two"), recipe="b", shift=-0.0200001)
    second = compared("one", "two")["lines"][1]
    assert second["verdict"] == "noise"
    assert second["p_holm"] > 0.05
    assert second["detail"] == "two"  # no overrides tell them apart


def test_metrics_models_and_references_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    make_run(Path("one"), recipe="a")
    make_run(Path("two"), recipe="b", shift=0.03)
    words = ["one", "two", "compare.metric=recall@20"]
    found = compared(*words, "compare.models=[quantize,student alone]", "compare.against=3")
    assert [(line["name"], line["verdict"]) for line in found["lines"]] == [
        ("quantize", "worse (1 seed)"), ("student alone", "worse (1 seed)"), ("quantize", "reference"),
        ("student alone", "worse (1 seed)"),
    ]  # fmt: skip
    assert found["lines"][0]["value"] == pytest.approx(2 * values(-0.02, 1).mean())
    assert compared(*words, "compare.against=two")["against"] == 2
    assert compared("one", "compare.against=student alone")["against"] == 2
    capsys.readouterr()
    for word, said in (
        ("compare.metric=ndgc@10", "compare.metric=ndcg@10"),
        ("compare.metric=coverage@10", "one number for all users"),
        ("compare.models=[quantise]", "did you mean quantize?"),
        ("compare.against=quantize", "more than one line"),
        ("compare.against=nobody", "1: quantize (one)"),
        ("compare.against=7", "no line"),
        ("compare.against=0", "compare.against"),
        ("compare.modells=[teacher]", "compare.models"),
    ):
        assert main(["compare", *words, word]) == 2, word
        assert said in capsys.readouterr().err


def test_of_an_error_less_is_better(capsys: pytest.CaptureFixture[str]) -> None:
    make_run(Path("one"))
    found = compared("one", "compare.metric=rmse")
    assert [line["verdict"] for line in found["lines"]] == ["reference", "better (1 seed)", "better (1 seed)"]
    assert f"{100 * values(0, 1).mean():.4f} [" in capsys.readouterr().out
    assert any("whether other rows would show" in note for note in found["notes"])


def test_rows_of_folds_are_other_rows() -> None:
    """Row 3 of one fold and row 3 of another are two: values are no means over folds, and p is over all of them."""
    for fold in (1, 2):
        manifest = {"source_fingerprint": "s", "filters": {}, "split": {"name": "kfold", "fold": fold}}
        make_run(Path(f"f{fold}"), data={"name": "toy", "fingerprint": f"d{fold}", "manifest": manifest})
    shuffled = pl.read_parquet("f2/models/quantize/per_row.parquet")
    shuffled.with_columns(rmse=pl.col("rmse").reverse()).write_parquet("f2/models/quantize/per_row.parquet")
    found = compared("f1", "f2", "compare.metric=rmse")
    assert (found["n_users"], found["folds"]) == (2 * N, [1, 2])
    ours, theirs = (
        np.concatenate([
            pl.read_parquet(f"f{fold}/models/{name}/per_row.parquet").sort("row")["rmse"].to_numpy() for fold in (1, 2)
        ])
        for name in ("quantize", "teacher")
    )  # fmt: skip
    quantize = next(line for line in found["lines"] if line["name"] == "quantize")
    assert quantize["p_users"] == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)


def test_what_is_one_number_of_a_table_or_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(Path("one"), n_rows=N)
    summary = json.loads((run / "summary.json").read_text())
    for row in summary["rows"]:
        row["metrics"]["ece"] = 0.1
    (run / "summary.json").write_text(json.dumps(summary))
    assert main(["compare", "one", "compare.metric=ece"]) == 2
    said = capsys.readouterr().err
    assert "no ece by row" in said
    assert "ece is one number for all rows" in said
    assert main(["compare", "one", "compare.metric=gauc"]) == 2
    assert "no gauc by user" in capsys.readouterr().err


def test_what_must_not_be_compared(capsys: pytest.CaptureFixture[str]) -> None:
    one = make_run(Path("one"), recipe="a")
    other = {"name": "toy", "fingerprint": "d2", "manifest": {"parts": {"train": "a", "test": "c"}}}
    make_run(Path("data"), recipe="b", data=other)
    assert main(["compare", "one", "data"]) == 2
    said = capsys.readouterr().err
    assert "one and data were made on different data" in said
    assert "different: test part" in said

    make_run(Path("users"), recipe="c")
    for file in Path("users").glob("models/*/per_user.parquet"):
        pl.read_parquet(file).with_columns(user=pl.col("user").str.strip_chars_start("0")).write_parquet(file)
    assert main(["compare", "one", "users"]) == 2
    assert "100 users are only in the first, 100 only in the second" in capsys.readouterr().err

    make_run(Path("metric"), recipe="d", metric="recall@20")
    assert main(["compare", "one", "metric"]) == 2
    assert "compare.metric=ndcg@10" in capsys.readouterr().err
    assert compared(str(one), "metric", "compare.metric=recall@20")["metric"] == "recall@20"


def broken(how: str) -> None:
    run = Path("runs/bad")
    per_user = run / "models/quantize/per_user.parquet"
    if how == "moved":
        shutil.move(run, "runs/elsewhere")
    elif how == "unfinished":
        (run / "summary.json").unlink()
        (run / "status.json").write_text(json.dumps({"state": "failed", "error": "loss is NaN\nmore"}))
    elif how == "failed later":
        (run / "status.json").write_text(json.dumps({"state": "failed", "error": "disk full"}))
    elif how == "json":
        (run / "summary.json").write_text('{"rows": [')
    elif how == "shape":
        (run / "summary.json").write_text('{"rows": [1], "data": {}}')
    elif how == "models":
        shutil.rmtree(run / "models")
    elif how == "parquet":
        per_user.write_bytes(per_user.read_bytes()[:-40])
    elif how == "escape":
        summary = json.loads((run / "summary.json").read_text())
        summary["rows"][2]["folder"] = "../good/models/quantize"
        (run / "summary.json").write_text(json.dumps(summary))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("moved", "there is no folder runs/bad"),
        ("unfinished", "loss is NaN"),
        ("failed later", "disk full"),
        ("json", "summary of the run cannot be read"),
        ("shape", "summary of the run cannot be read"),
        ("models", "per_user.parquet of quantize is missing"),
        ("parquet", "values of the users cannot be read"),
        ("escape", "the row quantize has no folder in the run"),
    ],
)
def test_a_broken_run_is_named(how: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(Path("runs/good"), recipe="a")
    make_run(Path("runs/bad"), recipe="b")
    broken(how)
    before = tree(Path())
    assert main(["compare", "runs/good", "runs/bad"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "bad" in error
    assert "fix:" in error
    assert len(error.splitlines()) < 12
    assert tree(Path()) == before


@pytest.mark.parametrize("value", [None, 3, "x", [], {}, [[]], {"a": [1]}])
@pytest.mark.parametrize("key", ["rows", "data", "metric", "seed", "overrides", "recipe_hash", "row", "data.manifest"])
def test_no_summary_makes_a_traceback(key: str, value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever stands in the file: a table, or an error that names the file."""
    make_run(Path("good"), recipe="a")
    summary = json.loads((make_run(Path("odd"), recipe="b") / "summary.json").read_text())
    if key == "row":
        summary["rows"][2] |= dict.fromkeys(("role", "label", "weights_hash", "trials", "folder"), value)
    elif key == "data.manifest":
        summary["data"]["manifest"] = value
    else:
        summary[key] = value
    Path("odd/summary.json").write_text(json.dumps(summary))
    if main(["compare", "odd", "good", "compare.output=out"]):
        assert "odd" in capsys.readouterr().err


def test_folders_that_hold_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    make_run(Path("runs/good"))
    for word, said in (
        ("runs", "give the runs in it: runs/good"),
        ("runs/godo", "did you mean runs/good?"),
        ("runs/good/summary.json", "give the folder of the run: runs/good"),
    ):
        assert main(["compare", word]) == 2
        assert said in capsys.readouterr().err
    assert main(["compare"]) == 2
    assert "recdistill compare outputs/one outputs/two" in capsys.readouterr().err
    assert main(["compare", "runs/good", "-m"]) == 2


def test_nothing_else_is_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    make_run(Path("one"))
    before = {path: path.read_bytes() for path in Path("one").rglob("*") if path.is_file()}
    assert main(["compare", "one", "compare.output=one"]) == 2
    assert "compare.output" in capsys.readouterr().err
    assert main(["compare", "one", "compare.output=one/summary.json"]) == 2
    assert {path: path.read_bytes() for path in Path("one").rglob("*") if path.is_file()} == before
    compared("one")
    compared("one")  # over an earlier comparison
    assert main(["compare", "one"]) == main(["compare", "one"]) == 0
    assert len(list(Path("outputs/compare").iterdir())) == 2
    assert [path.name for path in Path("outputs").iterdir()] == ["compare"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["compare.csv", "compare.json", "compare.md"]


def test_a_grid_is_its_jobs_and_a_job_that_failed_is_said() -> None:
    for job, (recipe, alpha, seed) in enumerate((("a", 0.1, 1), ("a", 0.1, 2), ("b", 0.9, 1), ("b", 0.9, 2))):
        make_run(Path(f"grid/{job}"), seed, recipe, (f"alpha={alpha}", f"seed={seed}"))
    Path("grid/4").mkdir()
    (Path("grid/4") / "status.json").write_text(json.dumps({"state": "failed", "error": "loss is NaN", "exit_code": 3}))
    (Path("grid") / "grid.json").write_text("{}")
    found = compared("grid")
    assert [line["detail"] for line in found["lines"]] == ["alpha=0.1", "alpha=0.9"]
    assert [line["seeds"] for line in found["lines"]] == [[1, 2], [1, 2]]
    assert "grid/4 is left out: loss is NaN" in found["notes"]
    again = compared("grid", "grid/0", "grid")
    assert again["lines"] == found["lines"]


def test_a_verdict_on_one_seed_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Seeds of a closed form don't vary, so nothing tells how far the one seed of a network is off."""
    for seed in (1, 2, 3):
        make_run(Path(f"exact{seed}"), seed, "a")
        if seed > 1:
            shutil.copytree("exact1/models", f"exact{seed}/models", dirs_exist_ok=True)
    make_run(Path("trained"), 1, "b", shift=0.02)
    found = compared("exact1", "exact2", "exact3", "trained")
    assert [line["verdict"] for line in found["lines"]] == ["reference", "better (1 seed)"]
    screen = capsys.readouterr().out
    assert "1 better" in screen
    assert "one seed only, so it is about these weights" in " ".join(screen.split())
    for file in (Path("out/compare.md"), Path("out/compare.csv")):
        assert "better (1 seed)" in file.read_text().replace("\\", "")
    make_run(Path("trained2"), 2, "b", shift=0.02)
    found = compared("exact1", "exact2", "exact3", "trained", "trained2")
    assert found["lines"][1]["verdict"] in ("better", "noise")


def make_fold(name: str, fold: int, recipe: str, seed: int = 1, **change: Any) -> Path:
    """A run on one fold, whose test part lacks every fifth user, others in each fold."""
    manifest = {
        "source_fingerprint": "s", "filters": {"min": 1}, "split": {"kind": "KFold", "fold": fold, "folds": 3},
        "parts": {"train": f"t{fold}", "test": f"u{fold}"},
    } | change.pop("manifest", {})  # fmt: skip
    data = {"name": "toy", "fingerprint": f"d{fold}", "manifest": manifest}
    overrides = (f"recipe={recipe}", f"seed={seed}", f"data.split.fold={fold}")
    run = make_run(Path(name), 10 * seed + fold, recipe, overrides, data=data, **change)
    summary = json.loads((run / "summary.json").read_text())
    summary["seed"] = seed
    for row in summary["rows"]:
        file = run / row["folder"] / "per_user.parquet"
        frame = pl.read_parquet(file).filter(pl.col("user").cast(pl.Int64) % 5 != fold)
        frame.write_parquet(file)
        row["metrics"]["ndcg@10"] = frame["ndcg@10"].mean()
    (run / "summary.json").write_text(json.dumps(summary))
    return run


def over_folds(shift: float, seed: int) -> np.ndarray[Any, Any]:
    """Each user's mean over the folds that have it, by a plain loop."""
    found = []
    for user in range(N):
        own = [values(shift, 10 * seed + fold)[user] for fold in (1, 2, 3) if user % 5 != fold]
        found.append(sum(own) / len(own))
    return np.array(found)


@pytest.mark.parametrize("seeds", [(1,), (1, 2)])
def test_folds_are_one_line_and_agree_with_their_grid(
    seeds: tuple[int, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [(seed, fold, shift) for shift in (-0.02, -0.03) for seed in seeds for fold in (1, 2, 3)]
    for job, (seed, fold, shift) in enumerate(jobs):
        make_fold(f"grid/{job}", fold, f"r{shift}", seed, shift=shift)
    found = compared("grid")
    first, second = found["lines"]
    assert (first["detail"], second["detail"]) == ("recipe=r-0.02", "recipe=r-0.03")
    assert first["folds"] == [1, 2, 3] * len(seeds)
    assert found["n_users"] == N
    a, b = (np.stack([over_folds(shift, seed) for seed in seeds]) for shift in (-0.02, -0.03))
    assert second["difference"]["value"] == pytest.approx((b - a).mean(), abs=1e-12)
    expected = stats.ttest_rel(b[0], a[0]).pvalue
    if len(seeds) > 1:
        expected = bootstrap_difference(b, a, same_seeds=True).p
    assert second["p"] == pytest.approx(expected, rel=1e-9)
    assert second["verdict"].startswith("worse")
    assert ("folds" if len(seeds) == 1 else "runs") in capsys.readouterr().out

    grid = {(row["name"], *row["overrides"]): row for row in collect(Path("grid"), difference_p)["rows"]}
    for line, recipe in ((first, "r-0.02"), (second, "r-0.03")):
        row = grid["quantize", f"recipe={recipe}"]
        assert row["metrics"]["ndcg@10"]["mean"] == pytest.approx(line["value"], abs=1e-12)
        assert row["metrics"]["ndcg@10"]["sd"] == pytest.approx(line["sd"], abs=1e-12)
        models = ["student alone", "quantize"]
        folders = [f"grid/{job}" for job, (_, _, shift) in enumerate(jobs) if f"r{shift}" == recipe]
        against = compared(*folders, f"compare.models={json.dumps(models)}")["lines"][1]
        assert row["p_alone"] == pytest.approx(against["p"], rel=1e-9)
        assert row["gain"] == pytest.approx(against["value"] - compared(*folders)["lines"][1]["value"], abs=1e-12)


def test_folds_that_are_not_of_one_cross_validation(capsys: pytest.CaptureFixture[str]) -> None:
    one = str(make_fold("one", 1, "r"))
    for name, manifest in (
        ("source", {"source_fingerprint": "other"}), ("filters", {"filters": {"min": 5}}),
        ("deal", {"split": {"kind": "KFold", "fold": 2, "folds": 5}}),
        ("fixed", {"split": {"kind": "Given"}}),
    ):  # fmt: skip
        make_fold(name, 2, "r", manifest=manifest)
        assert main(["compare", one, name]) == 2
        assert f"one and {name} were made on different data" in capsys.readouterr().err
    make_fold("two", 2, "r")
    make_fold("rival", 1, "x")
    assert main(["compare", one, "two", "rival"]) == 2
    said = capsys.readouterr().err
    assert "rival and one have different folds" in said
    assert "recdistill run -m data.split.fold=1,2,..." in said


def test_a_run_that_says_nothing_new_is_left_out() -> None:
    make_run(Path("one"))
    shutil.copytree("one", "copy")
    make_run(Path("other"), recipe="x")
    found = compared("one", "copy", "other")
    assert len(found["lines"]) == 2
    assert "copy is one once more (recipe, seed and weights): left out" in found["notes"]


def test_the_same_recipe_and_seed_with_other_weights_is_another_line() -> None:
    """Code that was changed between two runs."""
    make_run(Path("before"), overrides=("alpha=0.5",))
    make_run(Path("after"), overrides=("alpha=0.5",))
    summary = json.loads(Path("after/summary.json").read_text())
    for row in summary["rows"]:
        row["weights_hash"] += "new"
    Path("after/summary.json").write_text(json.dumps(summary))
    assert [line["detail"] for line in compared("before", "after")["lines"]] == ["before", "after"]


def test_a_model_of_several_recipes_with_the_same_weights_is_one_line() -> None:
    make_run(Path("one"), recipe="a")
    make_run(Path("two"), recipe="b", shift=0.01)
    summary = json.loads(Path("two/summary.json").read_text())
    summary["rows"][0]["weights_hash"] = "ateacher1"
    Path("two/summary.json").write_text(json.dumps(summary))
    found = compared("one", "two", "compare.models=[teacher,quantize]")
    assert [line["name"] for line in found["lines"]] == ["teacher", "quantize", "quantize"]
    assert "teacher of two has the same weights as that of one: one line" in found["notes"]


def test_trials_are_shown_where_there_were_any(capsys: pytest.CaptureFixture[str]) -> None:
    make_run(Path("one"))
    summary = json.loads(Path("one/summary.json").read_text())
    summary["rows"][1]["trials"] = 12
    Path("one/summary.json").write_text(json.dumps(summary))
    assert [line["trials"] for line in compared("one")["lines"]] == [1, 12, 1]
    assert "12 trials" in capsys.readouterr().out


def test_names_cannot_act(capsys: pytest.CaptureFixture[str]) -> None:
    """S15: in the terminal, in Markdown and in a spreadsheet."""
    make_run(Path("one"))
    summary = json.loads(Path("one/summary.json").read_text())
    summary["rows"][1]["name"], summary["rows"][2]["label"] = "=cmd\x1b[31m<script>", "<b>|\n"
    Path("one/summary.json").write_text(json.dumps(summary))
    compared("one")
    screen = capsys.readouterr().out
    assert "\x1b[31m<" not in screen
    assert "\\x1b" in screen
    assert "<script>" not in Path("out/compare.md").read_text()
    assert "'=cmd" in Path("out/compare.csv").read_text()


def test_a_folder_with_an_equals_sign_is_a_folder() -> None:
    """B49."""
    make_run(Path("lr=1, new ü"))
    assert compared("lr=1, new ü")["lines"][0]["name"] == "teacher"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("recdistill comp", "compress compare"),
        ("recdistill compare ru", "runs/"),
        ("recdistill verify runs/", "runs/one/ runs/two/"),
        ("recdistill compare runs/one compare.me", "compare.metric="),
        ("recdistill verify runs/one verify.", "verify.data="),
    ],
)
def test_completion_of_folders_and_options(
    line: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        Path("runs", name).mkdir(parents=True)
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["-sc", "query=bash"]) == 0
    assert capsys.readouterr().out.split() == expected.split()


def test_a_missing_folder_is_said_without_hydra_or_torch() -> None:
    """The command line stays light until the verb is known to have what it needs."""
    code = (
        "import sys; from recdistill.cli import main; assert main(['compare']) == 2; main(['verify', '--help']);"
        "sys.exit(','.join({'hydra', 'torch', 'polars', 'numpy', 'rich', 'yaml'} & set(sys.modules)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_real_runs_and_their_provenance(cli: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    """Two seeds of one recipe and a run of another: what is needed to compare them is in their summaries."""
    for seed in (1, 2):
        assert cli("run", f"seed={seed}", f"run.name=s{seed}", "compression=[quantize]") == 0
    assert cli("run", "alpha=0.2", "run.name=other", "logger=csv") == 0
    one, two, other = (json.loads(Path(f"outputs/{name}/summary.json").read_text()) for name in ("s1", "s2", "other"))
    assert one["recipe_hash"] == two["recipe_hash"] != other["recipe_hash"]
    assert one["config_hash"] != two["config_hash"]
    capsys.readouterr()
    found = compared("outputs/s1", "outputs/s2", "outputs/other")
    assert [line["name"] for line in found["lines"]] == ["quantize", "student distilled"]
    assert [line["seeds"] for line in found["lines"]] == [[1, 2], [1]]
    means = [summary["rows"][-1]["metrics"]["ndcg@10"] for summary in (one, two)]
    assert found["lines"][0]["value"] == pytest.approx(np.mean(means), abs=1e-12)
    assert "one seed only" in found["notes"][-1]
    assert found["n_users"] == one["n_users"]
