"""Runs on the rows of a table: the metric's direction, what a share means and what is not there, in every output."""

from __future__ import annotations

import copy
import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from recdistill.evaluation.significance import bootstrap_difference, bootstrap_ratio, paired_t
from recdistill.reporting import charts, formats, page, users
from recdistill.reporting.compare import comparison_table
from recdistill.reporting.grid import collect
from recdistill.reporting.grid_report import grid_headline, grid_page, grid_table
from recdistill.reporting.headline import headline
from recdistill.reporting.table import Table, summary_table
from recdistill.reporting.write import print_summary
from recdistill.stages.grid import difference_p

Summary = dict[str, Any]
TASKS = {"ctr": "auc", "rating": "rmse", "classification": "accuracy"}


def printed(summary: Summary) -> str:
    out = io.StringIO()
    print_summary(summary, Console(file=out, width=100))
    return out.getvalue()


def headings(table: Table, terminal: bool = False) -> list[str]:
    return [column.heading for column in table.shown if column.terminal or not terminal]


@pytest.mark.parametrize(
    ("task", "on_screen", "on_page"),
    [
        ("ctr", ["AUC", "Log loss"], ["ECE", "GAUC"]),
        ("rating", ["RMSE", "MAE"], ["User RMSE", "User MAE"]),
        ("classification", ["Accuracy", "Macro F1"], ["Macro recall"]),
    ],
)
def test_a_task_has_its_metrics(
    table_of: Callable[..., Summary], task: str, on_screen: list[str], on_page: list[str]
) -> None:
    table = summary_table(table_of(task))
    ends = ["% of teacher [95 % CI]", "p vs alone", "ms, batch 1 p50 / p99"]
    assert headings(table) == ["model", "params", "on disk (smaller)", *on_screen, *on_page, *ends]
    assert headings(table, terminal=True) == ["model", "params", "on disk (smaller)", *on_screen, *ends]


@pytest.mark.parametrize("task", TASKS)
def test_the_csv_has_every_metric_once_and_exactly(table_of: Callable[..., Summary], task: str) -> None:
    summary = table_of(task)
    text = formats.to_csv(summary_table(summary))
    header = text.splitlines()[0].split(",")
    assert len(header) == len(set(header))
    for record, row in zip(csv.DictReader(io.StringIO(text)), summary["rows"], strict=True):
        assert {name: float(record[name]) for name in row["metrics"]} == row["metrics"]


@pytest.mark.parametrize("task", TASKS)
def test_it_fits_a_terminal(table_of: Callable[..., Summary], task: str) -> None:
    text = printed(table_of(task))
    assert max(len(line) for line in text.splitlines()) <= 100
    assert all(figure in text for figure in ("1.52 MB (16x)", "94.5 [93.1, 95.7]", "0.051 / 0.076"))


@pytest.mark.parametrize(
    ("task", "metric", "low", "chance"), [("ctr", "auc", 0.48, "0.5"), ("classification", "accuracy", 0.0, "0")]
)
def test_a_teacher_near_chance_has_no_share_and_the_caption_says_so(
    table_of: Callable[..., Summary], task: str, metric: str, low: float, chance: str
) -> None:
    summary = copy.deepcopy(table_of(task, metric))
    for row in summary["rows"]:
        row["kept"] = None
    summary["rows"][0]["metrics"][metric] = low + 0.03
    summary["rows"][0]["ci"] = {metric: [low, low + 0.06]}
    table = summary_table(summary)
    assert f"% of teacher: none, since the teacher's own interval includes {chance}, what" in table.caption
    shares = [cell.text for row in table.rows for column, cell in table.cells(row) if column.key == "kept"]
    assert set(shares) == {"–"}
    summary["rows"][0]["ci"] = {metric: [float(chance) + 0.01, 1.0]}
    assert "none, since" not in summary_table(summary).caption


@pytest.mark.parametrize(
    ("task", "metric", "says"),
    [
        ("ctr", "auc", "AUC above chance by the teacher's, (AUC - 0.5) / (0.9785 - 0.5), same rows"),
        ("ctr", "logloss", "the teacher's Log loss, 0.1712, by the model's, same rows"),
        ("ctr", "gauc", "GAUC above chance by the teacher's, (GAUC - 0.5) / (0.9534 - 0.5), same users"),
        ("rating", "rmse", "the teacher's RMSE, 0.8512, by the model's, same rows"),
        ("classification", "accuracy", "Accuracy by the teacher's 0.9871, same rows"),
    ],
)
def test_the_caption_says_what_a_share_and_the_test_are(
    table_of: Callable[..., Summary], task: str, metric: str, says: str
) -> None:
    summary = table_of(task, metric)
    caption = summary_table(summary).caption
    assert caption.startswith(f"Test part, {summary['n_rows']:,} rows.")
    assert f"% of teacher: {says} and evaluator." in caption
    assert f"p: paired t-test per {'user' if metric == 'gauc' else 'row'}" in caption
    assert ("DeLong" in caption) == (metric == "auc")
    assert "Latency: one row scored on AMD EPYC 7B13, 1 thread." in caption
    assert "Holm over 3 models." in caption
    for word in ("ranked", "items", "request"):
        assert word not in caption


@pytest.mark.parametrize(("task", "errors"), [("ctr", "Log loss, ECE"), ("rating", "RMSE, MAE, User RMSE, User MAE")])
def test_the_caption_names_the_errors(table_of: Callable[..., Summary], task: str, errors: str) -> None:
    assert f"Lower is better: {errors}." in summary_table(table_of(task)).caption


def test_nothing_is_lower_better_in_classification(table_of: Callable[..., Summary]) -> None:
    assert "Lower" not in summary_table(table_of("classification")).caption


def test_headline_of_clicks(table_of: Callable[..., Summary]) -> None:
    found = headline(table_of("ctr"))
    assert found.lead == "The student keeps 94.5 % [93.1, 95.7] of the teacher's AUC above chance in 1/16 of the bytes."
    assert found.details[0].startswith("Distillation made it significantly better")


def test_headline_of_an_error(table_of: Callable[..., Summary]) -> None:
    found = headline(table_of("rating"))
    assert found.lead == (
        "The student reaches RMSE 0.8712 against the teacher's 0.8512 (94.5 % [93.1, 95.7] kept) in 1/16 of the bytes."
    )
    assert found.details == [
        "Distillation made it significantly better than the same student trained alone"
        " (RMSE 0.8712 against 0.8844, p < .001)."
    ]


def test_headline_of_an_error_that_grew(table_of: Callable[..., Summary]) -> None:
    summary = table_of("rating")
    summary["rows"][2]["metrics"] = {"rmse": 0.8944}
    assert "but is significantly worse than the same student trained alone" in headline(summary).lead


def test_headline_of_a_teacher_with_the_larger_error(table_of: Callable[..., Summary]) -> None:
    summary = table_of("rating")
    summary["rows"][0]["metrics"] = {"rmse": 0.8944}
    assert headline(summary).lead.startswith("The teacher is worse than the student trained alone (RMSE 0.8944 against")
    summary["rows"][0] |= {"metrics": {"rmse": 0.8840}, "p_alone_holm": 0.4}
    assert headline(summary).lead.startswith("The teacher is not significantly better than the student trained alone")


@pytest.mark.parametrize(
    ("task", "words"), [("rating", "lowest is teacher with RMSE 0.8512"), ("ctr", "highest is teacher with AUC 0.9785")]
)
def test_the_best_of_a_comparison(table_of: Callable[..., Summary], task: str, words: str) -> None:
    summary = table_of(task)
    summary["rows"] = [row | {"role": "baseline"} for row in summary["rows"]]
    assert headline(summary).lead == f"4 models compared on table.csv; the {words}."


def test_a_teacher_with_a_larger_error_than_a_baseline_is_a_warning(table_of: Callable[..., Summary]) -> None:
    summary = table_of("rating")
    assert page.warnings(summary) == []
    summary["rows"].append(summary["rows"][3] | {"name": "knn", "metrics": {"rmse": 0.8001}})
    (warning,) = page.warnings(summary)
    assert warning.startswith("the teacher is worse than the baseline knn (RMSE 0.8512 against 0.8001)")


def test_the_frontier_of_an_error_goes_down() -> None:
    points = [(1.0, 0.9), (2.0, 0.8), (3.0, 0.85), (2.0, 0.7), (4.0, 0.6)]
    assert charts.frontier(points, -1) == [0, 3, 4]
    assert charts.frontier([(size, -value) for size, value in points]) == [0, 3, 4]


@pytest.mark.parametrize("task", TASKS)
def test_the_page_says_which_way_is_better_and_has_no_empty_section(
    table_of: Callable[..., Summary], task: str
) -> None:
    text = page.run_page(table_of(task), {})
    assert ("Down and to the left is better" in text) == (task == "rating")
    assert ("Up and to the left is better" in text) == (task != "rating")
    assert ("RMSE (lower is better)</text>" in text) == (task == "rating")
    assert re.findall(r"<h2>([^<]+)</h2>", text) == [
        "Results",
        "Quality against size",
        "What a model costs",
        "Command",
        "Data",
        "Provenance",
    ]
    assert "9,612 positive" in text


RNG = np.random.default_rng(7)
LABEL_ERROR = RNG.gamma(2.0, 0.4, 300)  # of 100 rows in each of three folds


def squared(name: str, seed: int) -> np.ndarray[Any, Any]:
    """Squared errors of 300 rows: the student's are lower than those of the student alone."""
    scale = {"teacher": 0.8, "alone": 1.0, "student": 0.93}[name]
    return scale * LABEL_ERROR + np.random.default_rng([seed, len(name)]).normal(0, 0.02, 300) ** 2


@pytest.fixture
def grid(tmp_path: Path, table_of: Callable[..., Summary]) -> Callable[..., Path]:
    """Jobs of RMSE, one a seed and fold; every fold numbers its rows from 0."""

    def write(seeds: list[int], folds: list[int]) -> Path:
        for number, (seed, fold) in enumerate((seed, fold) for seed in seeds for fold in folds):
            folder = tmp_path / str(number)
            summary = table_of("rating") | {"seed": seed, "n_rows": 100}
            summary["rows"] = summary["rows"][:3]
            if len(folds) > 1:
                summary["data"] = summary["data"] | {"manifest": {"split": {"name": "KFold", "fold": fold}}}
            for row in summary["rows"]:
                error = squared(row["name"], seed)[100 * fold : 100 * fold + 100]
                root = float(np.sqrt(error.mean()))
                row |= {"metrics": {"rmse": root}, "weights_hash": f"{row['name']}-{seed}-{fold}", "kept": None}
                (folder / row["folder"]).mkdir(parents=True)
                frame = pl.DataFrame({"row": np.arange(100), "rmse": (root + error / root) / 2})
                frame = frame.sample(fraction=1, shuffle=True, seed=number)
                frame.write_parquet(folder / row["folder"] / "per_row.parquet")
            overrides = ["task=rating", f"seed={seed}", f"data.split.fold={fold}"]
            (folder / "summary.json").write_text(json.dumps(summary | {"overrides": overrides}))
            (folder / "status.json").write_text(json.dumps({"state": "done", "overrides": overrides}))
        return tmp_path

    return write


def values(name: str, seeds: list[int], folds: list[int]) -> np.ndarray[Any, Any]:
    """By seed and row, rows of all folds one after the other."""
    of_seeds = []
    for seed in seeds:
        parts = [squared(name, seed)[100 * fold : 100 * fold + 100] for fold in folds]
        of_seeds.append(np.concatenate([(np.sqrt(part.mean()) + part / np.sqrt(part.mean())) / 2 for part in parts]))
    return np.stack(of_seeds)


def row_of(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in found["rows"] if row["name"] == name)


def test_a_grid_reads_values_by_row(grid: Callable[..., Path]) -> None:
    found = collect(grid([1], [0]), difference_p)
    ours, teacher, alone = (values(name, [1], [0])[0] for name in ("student", "teacher", "alone"))
    student = row_of(found, "student")
    assert student["p_alone"] == pytest.approx(paired_t(ours, alone), rel=1e-9)
    assert student["gain"] == pytest.approx(alone.mean() - ours.mean())
    assert student["gain"] > 0
    share, low, high = bootstrap_ratio(teacher, ours, n=4000)
    assert student["kept"]["value"] == pytest.approx(share)
    assert (student["kept"]["low"], student["kept"]["high"]) == pytest.approx((low, high), abs=0.003)
    assert found["n_rows"] == 100
    assert "n_users" not in found


def test_a_lower_error_is_a_better_model_of_a_grid(grid: Callable[..., Path]) -> None:
    found = collect(grid([1], [0]), difference_p)
    assert grid_headline(found).details == [
        "1 of 1 distilled models are significantly better than the same student trained alone (Holm's p)."
    ]
    caption = grid_table(found).caption
    assert caption.startswith("Test part, 100 rows. Lower is better: RMSE. Mean ±sd over seeds;")
    assert "ratio of the teacher's mean RMSE to the model's over rows, the interval is over rows." in caption
    assert "paired t-test over rows" in caption
    text = grid_page(found)
    assert "Down and to the left is better" in text


def test_seeds_share_rows_and_folds_do_not(grid: Callable[..., Path]) -> None:
    seeds, folds = [1, 2], [0, 1, 2]
    found = collect(grid(seeds, folds), difference_p)
    ours, alone = values("student", seeds, folds), values("alone", seeds, folds)
    # Rows in the order in which they are joined: by the text "fold:row".
    order = sorted(range(300), key=lambda at: f"{at // 100}:{at % 100}")
    expected = bootstrap_difference(ours[:, order], alone[:, order], same_seeds=True).p
    assert row_of(found, "student")["p_alone"] == pytest.approx(expected, rel=1e-6, abs=1e-12)
    runs = [users.Tested(Path(found["folder"]) / str(job) / "models/student", fold) for job, fold in ((0, 0), (1, 1))]
    joined = users.mean_values(runs, "rmse")
    assert joined is not None
    assert joined.height == 200
    assert "two-way bootstrap over seeds and rows" in grid_table(found).caption


def test_a_missing_file_is_no_average_over_the_rest(grid: Callable[..., Path]) -> None:
    folder = grid([1, 2], [0])
    (folder / "1/models/student/per_row.parquet").unlink()
    assert row_of(collect(folder, difference_p), "student")["p_alone"] is None
    there = users.Tested(folder / "0/models/student")
    assert users.mean_values([there], "rmse") is not None
    assert users.mean_values([there], "auc") is None
    assert users.mean_values([], "rmse") is None


def test_metrics_by_user_of_a_table_are_in_the_file_of_users() -> None:
    names = {name: users.values_file(name) for name in ("auc", "rmse", "gauc", "user_rmse", "ndcg@10")}
    assert names == {"auc": "per_row.parquet", "rmse": "per_row.parquet"} | dict.fromkeys(
        ("gauc", "user_rmse", "ndcg@10"), "per_user.parquet"
    )


def line(number: int, verdict: str) -> dict[str, Any]:
    unknown = dict.fromkeys(("difference", "p", "p_users", "p_bootstrap", "p_holm", "sd", "low", "high"))
    more = {
        "name": "student",
        "role": "student",
        "label": "",
        "detail": "",
        "runs": ["a"],
        "seeds": [1],
        "folds": [None],
    }
    return unknown | more | {"number": number, "value": 0.9, "by_run": [0.9], "trials": 1, "verdict": verdict}


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        ("rmse", "Test part, 100 rows. Lower is better: RMSE."),
        ("gauc", "Test part, 100 users."),
        ("ndcg@10", "Test part, all items ranked, 100 users."),
    ],
)
def test_a_comparison_says_what_it_is_over(metric: str, says: str) -> None:
    unit = "rows" if metric == "rmse" else "users"
    comparison = {
        "metric": metric, "lines": [line(1, "reference"), line(2, "noise")], "folds": [], "against": 1, "n_users": 100,
    }  # fmt: skip
    assert comparison_table(comparison).caption.startswith(
        f"{says} Difference: from line 1, same {unit}. p: paired t-test over {unit}."
    )
