"""A grid's figures against numpy and scipy; a failed job is seen and heard."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import ttest_rel

from recdistill.errors import InputError
from recdistill.evaluation.significance import bootstrap_difference
from recdistill.reporting import users
from recdistill.reporting.grid import collect, finish
from recdistill.reporting.grid_report import grid_table
from recdistill.stages.grid import difference_p

SEEDS = (1, 2, 3)
N_USERS = 200


def _values(name: str, distiller: str, seed: int) -> np.ndarray[Any, Any]:
    base: np.ndarray[Any, Any] = np.random.default_rng(0).beta(1, 2, N_USERS)
    if name == "teacher":
        return base * 1.2
    lift = {"rrd": 0.02, "de": 0.0}[distiller] if name == "student" else 0.0
    stream = [seed, len(distiller) if name == "student" else 99]
    return base + lift + np.random.default_rng(stream).normal(0, 0.02, N_USERS)


def _hash(name: str, distiller: str, seed: int) -> str:
    return {"teacher": "t", "alone": f"a{seed}"}.get(name, f"s{distiller}{seed}")


@pytest.fixture
def grid(tmp_path: Path, summary_with: Callable[..., dict[str, Any]]) -> Path:
    """Two distillers, three seeds: the teacher is one for all, the student alone one for each seed."""
    number = 0
    for distiller in ("rrd", "de"):
        for seed in SEEDS:
            summary = summary_with()
            summary["overrides"] = ["data=ml1m", f"distiller=[{distiller}]", f"seed={seed}"]
            summary["seed"] = seed
            summary["rows"] = [summary["rows"][i] for i in (0, 2, 3)]
            job = tmp_path / str(number)
            for row in summary["rows"]:
                values = _values(row["name"], distiller, seed)
                row["metrics"] = {"ndcg@10": float(values.mean()), "recall@10": float(values.mean()) * 1.5}
                row["weights_hash"] = _hash(row["name"], distiller, seed)
                (job / row["folder"]).mkdir(parents=True)
                # Rows in another order each time: users are matched by name, not by place.
                frame = pl.DataFrame({"user": np.arange(N_USERS), "ndcg@10": values}).sample(fraction=1, shuffle=True)
                frame.write_parquet(job / row["folder"] / "per_user.parquet")
            _finish_job(job, {"state": "done", "overrides": summary["overrides"]}, summary)
            number += 1
    return tmp_path


def _finish_job(folder: Path, status: dict[str, Any], summary: dict[str, Any] | None = None) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "status.json").write_text(json.dumps(status))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))


def _row(found: dict[str, Any], name: str, override: str = "") -> dict[str, Any]:
    rows: list[dict[str, Any]] = [
        row for row in found["rows"] if row["name"] == name and override in " ".join(row["overrides"])
    ]
    assert len(rows) == 1
    return rows[0]


def test_mean_and_sd_over_seeds(grid: Path) -> None:
    found = collect(grid, difference_p)
    for distiller in ("rrd", "de"):
        means = [_values("student", distiller, seed).mean() for seed in SEEDS]
        row = _row(found, "student", distiller)
        assert row["n_runs"] == 3
        assert row["metrics"]["ndcg@10"]["mean"] == pytest.approx(np.mean(means), abs=1e-12)
        assert row["metrics"]["ndcg@10"]["sd"] == pytest.approx(np.std(means, ddof=1), abs=1e-12)


def test_same_weights_are_shown_once(grid: Path) -> None:
    found = collect(grid, difference_p)
    assert [row["name"] for row in found["rows"]] == ["teacher", "alone", "student", "student"]
    assert [row["n_runs"] for row in found["rows"]] == [1, 3, 3, 3]
    assert [row["trials"] for row in found["rows"]] == [1, 1, 2, 2]
    assert [row["overrides"] for row in found["rows"]] == [[], [], ["distiller=[rrd]"], ["distiller=[de]"]]
    assert found["common"] == ["data=ml1m"]
    assert found["n_configs"] == 2


def _averaged(name: str, distiller: str) -> np.ndarray[Any, Any]:
    means: np.ndarray[Any, Any] = np.mean([_values(name, distiller, seed) for seed in SEEDS], axis=0)
    return means


def _by_seed(name: str, distiller: str) -> np.ndarray[Any, Any]:
    return np.stack([_values(name, distiller, seed) for seed in SEEDS])


def test_p_knows_of_seeds_and_users(grid: Path) -> None:
    found = collect(grid, difference_p)
    expected = {
        name: bootstrap_difference(_by_seed(row, name), _by_seed("alone", name), same_seeds=True).p
        for row, name in (("student", "rrd"), ("student", "de"))
    }
    expected["teacher"] = bootstrap_difference(_by_seed("teacher", "rrd"), _by_seed("alone", "rrd"), same_seeds=True).p
    for distiller in ("rrd", "de"):
        assert _row(found, "student", distiller)["p_alone"] == pytest.approx(expected[distiller], rel=1e-9)
    order = sorted(expected, key=lambda name: expected[name])
    rows = {"rrd": _row(found, "student", "rrd"), "de": _row(found, "student", "de")}
    adjusted, highest = {}, 0.0
    for rank, name in enumerate(order):
        highest = max(highest, min(1.0, (3 - rank) * expected[name]))
        adjusted[name] = highest
    for name, row in rows.items():
        assert row["p_holm"] == pytest.approx(adjusted[name], rel=1e-9)
    assert _row(found, "alone")["p_alone"] is None


def test_p_of_one_seed_is_paired_over_users(grid: Path) -> None:
    for job in (1, 2, 4, 5):
        shutil.rmtree(grid / str(job))
    expected = ttest_rel(_values("student", "rrd", 1), _values("alone", "rrd", 1)).pvalue
    assert _row(collect(grid, difference_p), "student", "rrd")["p_alone"] == pytest.approx(expected, rel=1e-9)


def test_kept_is_a_ratio_of_means_with_its_interval(grid: Path) -> None:
    ours, teacher = _averaged("student", "rrd"), _values("teacher", "rrd", 1)
    kept = _row(collect(grid, difference_p), "student", "rrd")["kept"]
    assert kept["value"] == pytest.approx(ours.mean() / teacher.mean(), rel=1e-12)
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, N_USERS, (2000, N_USERS))
    low, high = np.quantile(ours[drawn].mean(1) / teacher[drawn].mean(1), [0.025, 0.975])
    assert kept["low"] == pytest.approx(low, abs=0.004)
    assert kept["high"] == pytest.approx(high, abs=0.004)


def test_a_teacher_near_chance_has_no_share() -> None:
    rng = np.random.default_rng(0)
    ours = pl.DataFrame({"unit": range(100), "value": rng.random(100)})
    lucky = pl.DataFrame({"unit": range(100), "value": [1.0] + [0.0] * 99})
    assert users.kept_share(ours, lucky, "ndcg@10") is None
    assert users.kept_share(lucky, ours, "ndcg@10") is not None
    assert users.kept_share(lucky, ours, "rmse") is not None  # of an error 0 is no chance


def test_failed_jobs_are_rows_and_the_exit_code(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert finish(grid, difference_p) == 0
    overrides = ["data=ml1m", "distiller=[de]", "seed=4"]
    _finish_job(
        grid / "6",
        {"state": "failed", "error": "\nno file x.csv\n  fix: y", "exit_code": 2, "overrides": overrides},
    )
    _finish_job(grid / "7", {"state": "failed", "error": "loss is NaN", "exit_code": 3, "overrides": overrides})
    (grid / "8").mkdir()
    capsys.readouterr()
    assert finish(grid, difference_p) == 3
    printed = capsys.readouterr().out
    assert "6 of 9 jobs finished, 3 failed" in printed
    assert "warning" not in printed
    (row,) = [line for line in (grid / "table.md").read_text().splitlines() if "job 6 failed" in line]
    assert row.startswith(r"| job 6 failed (exit 2)<br>distiller=\[de\] seed=4: no file x.csv |")
    html = (grid / "report.html").read_text()
    assert html.count("no file x.csv") == 1
    assert "fix: y" not in html
    with (grid / "summary.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    assert [record["error"] for record in records[-3:-1]] == ["no file x.csv", "loss is NaN"]
    assert "no status.json" in records[-1]["error"]
    assert json.loads((grid / "grid.json").read_text())["n_failed"] == 3


def test_what_the_data_warn_of_is_in_every_output(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = grid / "0" / "summary.json"
    summary = json.loads(file.read_text())
    summary["data"]["report"] = {"warnings": ["LeaveOneOut leaks time"]}
    file.write_text(json.dumps(summary))
    assert finish(grid, difference_p) == 0
    assert "data: LeaveOneOut leaks time" in capsys.readouterr().out
    assert "data: LeaveOneOut leaks time" in (grid / "report.html").read_text()
    assert json.loads((grid / "grid.json").read_text())["data_warnings"] == ["LeaveOneOut leaks time"]


def test_all_jobs_means_the_failed_ones_too(grid: Path) -> None:
    (grid / "7").mkdir()
    assert collect(grid, difference_p)["common"] == ["data=ml1m"]
    _finish_job(grid / "6", {"state": "failed", "error": "x", "exit_code": 2, "overrides": ["data=csv", "seed=1"]})
    found = collect(grid, difference_p)
    assert found["common"] == []
    assert "All jobs:" not in grid_table(found).caption
    assert _row(found, "student", "rrd")["overrides"] == ["data=ml1m", "distiller=[rrd]"]


def test_a_job_that_says_done_without_figures_has_failed(grid: Path) -> None:
    (grid / "0" / "summary.json").write_text("{")
    (grid / "1" / "summary.json").unlink()
    assert [job["exit_code"] for job in collect(grid, difference_p)["failed"]] == [1, 1]


def test_a_failed_seed_does_not_double_the_shared_rows(grid: Path) -> None:
    _finish_job(grid / "5", {"state": "failed", "error": "x", "exit_code": 3, "overrides": []})
    found = collect(grid, difference_p)
    assert [row["n_runs"] for row in found["rows"]] == [1, 3, 3, 2]
    assert _row(found, "alone")["trials"] == 1


def test_all_jobs_failed(tmp_path: Path) -> None:
    _finish_job(tmp_path / "0", {"state": "failed", "error": "x", "exit_code": 4, "overrides": ["seed=1"]})
    assert finish(tmp_path, difference_p) == 4
    assert (tmp_path / "report.html").is_file()


def test_a_single_seed_without_users_keeps_its_own_test(grid: Path) -> None:
    for path in grid.rglob("per_user.parquet"):
        path.unlink()
    row = _row(collect(grid, difference_p), "student", "rrd")
    assert row["p_alone"] is row["kept"] is None
    for number in (1, 2, 4, 5):
        for file in sorted((grid / str(number)).rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
        (grid / str(number)).rmdir()
    row = _row(collect(grid, difference_p), "student", "rrd")
    assert row["p_alone"] == 0.0002
    assert row["kept"]["value"] == 0.3812 / 0.4093


def test_outputs_agree_and_fit(grid: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    finish(grid, difference_p)
    row = _row(collect(grid, difference_p), "student", "rrd")
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("report:")]
    assert max(map(len, lines)) <= 100
    mean = f"{row['metrics']['ndcg@10']['mean']:.4f}"
    html = (grid / "report.html").read_text()
    for text in ("\n".join(lines), (grid / "table.md").read_text(), (grid / "table.tex").read_text(), html):
        assert mean in text
    with (grid / "summary.csv").open(newline="") as file:
        record = next(r for r in csv.DictReader(file) if r["overrides"] == "distiller=[rrd]")
    assert float(record["ndcg@10"]) == row["metrics"]["ndcg@10"]["mean"]
    assert float(record["ndcg@10_sd"]) == row["metrics"]["ndcg@10"]["sd"]
    assert "<svg" in html
    assert "http:" not in html


def test_no_jobs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no jobs of a grid"):
        collect(tmp_path, difference_p)


def _as_folds(grid: Path) -> None:
    """The jobs are folds of one seed, each with users that the others lack."""
    for job in range(6):
        file = grid / str(job) / "summary.json"
        summary, fold = json.loads(file.read_text()), job % 3 + 1
        summary["overrides"][-1] = f"data.split.fold={fold}"
        summary["seed"] = 7
        summary["data"]["manifest"] = {"split": {"fold": fold}}
        for row in summary["rows"]:
            row["weights_hash"] += f"fold{fold}"
            users_file = grid / str(job) / row["folder"] / "per_user.parquet"
            pl.read_parquet(users_file).filter(pl.col("user") % 5 != fold).write_parquet(users_file)
        file.write_text(json.dumps(summary))
        (grid / str(job) / "status.json").write_text(json.dumps({"state": "done", "overrides": summary["overrides"]}))


def _over_folds(name: str, distiller: str) -> np.ndarray[Any, Any]:
    """Each user's mean over the folds that have it, by a plain loop."""
    found = []
    for user in range(N_USERS):
        own = [_values(name, distiller, fold)[user] for fold in SEEDS if user % 5 != fold]
        found.append(sum(own) / len(own))
    return np.array(found)


def test_folds_are_repetitions_and_no_rivals(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _as_folds(grid)
    assert finish(grid, difference_p) == 0
    found = collect(grid, difference_p)
    assert found["n_configs"] == 2
    assert [(row["name"], row["n_runs"], row["trials"], row["folds"]) for row in found["rows"]] == [
        ("teacher", 3, 1, [1, 2, 3]), ("alone", 3, 1, [1, 2, 3]),
        ("student", 3, 2, [1, 2, 3]), ("student", 3, 2, [1, 2, 3]),
    ]  # fmt: skip
    row = _row(found, "student", "rrd")
    means = [json.loads((grid / str(job) / "summary.json").read_text())["rows"][2]["metrics"] for job in range(3)]
    values = [mean["ndcg@10"] for mean in means]
    assert row["metrics"]["ndcg@10"] == {
        "mean": pytest.approx(np.mean(values)), "sd": pytest.approx(np.std(values, ddof=1)), "values": values,
    }  # fmt: skip
    expected = ttest_rel(_over_folds("student", "rrd"), _over_folds("alone", "rrd")).pvalue
    assert row["p_alone"] == pytest.approx(expected, rel=1e-9)
    said = capsys.readouterr().out
    assert "folds" in said
    assert "over folds" in re.sub(r"\s+", " ", said)
    assert "paired t-test" in said


def test_means_over_different_folds_are_not_paired(grid: Path) -> None:
    _as_folds(grid)
    summary = json.loads((grid / "0" / "summary.json").read_text())
    summary["rows"] = [row for row in summary["rows"] if row["role"] != "alone"]
    (grid / "0" / "summary.json").write_text(json.dumps(summary))
    row = _row(collect(grid, difference_p), "student", "rrd")
    assert row["n_runs"] == 3
    assert row["p_alone"] is row["gain"] is None


def test_identical_users_have_p_one() -> None:
    same = np.array([[0.1, 0.5, 0.9]])
    assert difference_p(same, same, True) == 1.0


def test_a_teacher_that_is_the_student_alone_is_not_tested(grid: Path) -> None:
    """As in self-distillation: the same weights under two names are no comparison, and Holm's correction knows."""
    before = collect(grid, difference_p)
    for job in sorted(grid.glob("[0-9]*")):
        summary = json.loads((job / "summary.json").read_text())
        teacher, alone, _ = summary["rows"]
        teacher |= {name: alone[name] for name in ("metrics", "weights_hash")}
        shutil.copy(job / alone["folder"] / "per_user.parquet", job / teacher["folder"] / "per_user.parquet")
        (job / "summary.json").write_text(json.dumps(summary))
    found = collect(grid, difference_p)
    assert _row(before, "teacher")["p_holm"] is not None
    assert _row(found, "teacher")["p_holm"] is None
    students = [row for row in found["rows"] if row["name"] == "student"]
    expected = users.holm([row["p_alone"] for row in students])
    assert [row["p_holm"] for row in students] == pytest.approx(expected)


def test_holm_against_a_worked_example() -> None:
    assert users.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert users.holm([]) == []
