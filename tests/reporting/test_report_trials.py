"""E12: how many models were tried for a row is said wherever the row is shown."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recdistill.reporting import formats
from recdistill.reporting.grid import collect
from recdistill.reporting.page import run_page
from recdistill.reporting.table import summary_table
from recdistill.stages.grid import difference_p

Make = Callable[..., dict[str, Any]]


def tuned(summary: dict[str, Any]) -> dict[str, Any]:
    for row in summary["rows"]:
        row["trials"] = {"student": 4, "popularity": 12}.get(row["name"], 1)
    return summary


def test_one_run(summary_with: Make) -> None:
    plain, summary = summary_with(), tuned(summary_with())
    for text in (
        formats.to_markdown(summary_table(summary)),
        formats.to_latex(summary_table(summary)),
        run_page(summary, {}),
    ):
        assert "12 trials" in text
        assert "4 trials" in text
        assert "1 trials" not in text
    assert "trials" not in formats.to_markdown(summary_table(plain))
    lines = csv.DictReader(formats.to_csv(summary_table(summary)).splitlines())
    assert [line["trials"] for line in lines] == ["1", "1", "1", "4", "12"]


def test_a_grid_adds_up_its_configurations(summary_with: Make, tmp_path: Path) -> None:
    """Two configurations of the student, 4 trials each; one popularity, however many jobs have it."""
    for number, (alpha, seed) in enumerate((alpha, seed) for alpha in ("0.1", "0.9") for seed in (1, 2)):
        summary = tuned(summary_with())
        summary["overrides"] = [f"alpha={alpha}", f"seed={seed}"]
        for row in summary["rows"]:
            row["weights_hash"] = f"{row['name']}{alpha if row['name'] == 'student' else ''}{seed}"
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "summary.json").write_text(json.dumps(summary))
        status = {"state": "done", "overrides": summary["overrides"]}
        (tmp_path / str(number) / "status.json").write_text(json.dumps(status))
    found = {row["name"]: row["trials"] for row in collect(tmp_path, difference_p)["rows"]}
    assert found == {"teacher": 1, "teacher-int8": 1, "alone": 1, "student": 8, "popularity": 12}
