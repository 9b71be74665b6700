"""Tables of results: ratios, means over seeds and verdicts, from rows as runs write them."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from recdistill.config.compose import compose_config, hydra_session, resolve
from recdistill.config.locate import find_sources
from recdistill.stages.line import Line
from recdistill.stages.summary import planned

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module


def config(*words: str) -> dict[str, Any]:
    with hydra_session(find_sources([], [])):
        return dict(resolve(compose_config([*words, "trainer=cpu", "run.name=x"])))


def test_every_row_of_a_published_table_is_one_of_its_run(script: Any, tmp_path: Path) -> None:
    reproduce: ModuleType = script("reproduce")
    for make in reproduce.TABLES.values():
        table = make()
        for overrides in {row.overrides for row in table.rows}:
            cfg = config(f"experiment={table.experiment}", f"data.path={tmp_path}", *overrides)
            Line(cfg, tmp_path)
            there = {name for name, _ in planned(cfg)}
            assert {row.model for row in table.rows if row.overrides == overrides} <= there
            assert cfg["student"]["fit"]["every"] == 1  # as the authors have it


def test_no_two_runs_of_the_tables_share_a_folder(script: Any) -> None:
    """Several tables may be made in one folder, and a name of more than 255 bytes cannot be written."""
    reproduce: ModuleType = script("reproduce")
    tables = [make() for make in reproduce.TABLES.values()]
    runs = {(table.experiment, row.overrides) for table in tables for row in table.rows}
    names = {reproduce.run_name(table, row.overrides, "1,2,3,4,5") for table in tables for row in table.rows}
    assert len(names) == len(runs)
    assert max(len(name) for name in names) <= 255


def runs(*values: float) -> list[dict[str, Any]]:
    return [
        {"alone": {"metrics": {"ndcg@10": value}, "sampled": {"sampled_hr@5[n=499]": value / 2}}} for value in values
    ]


@pytest.mark.parametrize(
    ("published", "verdict"), [(0.2, "above"), (0.205, "within 3 %"), (0.21, "misses"), (None, "| | |")]
)
def test_a_line_is_mean_and_deviation_beside_the_published(script: Any, published: float | None, verdict: str) -> None:
    reproduce: ModuleType = script("reproduce")
    row = reproduce.Row("x", "alone", (), {"ndcg@10": published})
    text = reproduce.line(row, runs(0.19, 0.21), "ndcg@10")
    assert "| 0.2000 ± 0.0141 |" in text
    assert verdict in text
    row = reproduce.Row("x", "alone", (), {"sampled_hr@5[n=499]": 0.1})
    assert "| 0.1000 | 0.1000 | 1.000 | above |" in reproduce.line(row, runs(0.2), "sampled_hr@5[n=499]")


def test_kept_quality_is_the_mean_of_each_seed_s_share(script: Any) -> None:
    kept: ModuleType = script("kept_quality")
    found = [
        {
            "teacher": {"metrics": {"ndcg@10": 0.2}, "bytes": 1000},
            "quantize": {"metrics": {"ndcg@10": 0.1}, "bytes": 100},
        },
        {
            "teacher": {"metrics": {"ndcg@10": 0.1}, "bytes": 1000},
            "quantize": {"metrics": {"ndcg@10": 0.08}, "bytes": 50},
        },
    ]
    one = kept.point("x", "small", "quantize", 20, found)
    assert one.value == pytest.approx(0.09)
    assert one.kept == pytest.approx((50 + 80) / 2)
    assert one.spread == pytest.approx(30 / 2**0.5)
    assert (one.narrower, one.smaller) == (10, 15)


def test_the_recipes_end_with_the_rows_that_are_read(script: Any, tmp_path: Path) -> None:
    kept: ModuleType = script("kept_quality")
    for source in kept.SOURCES:
        cfg = config(*kept.words(source, 30, tmp_path))
        assert {"teacher", "teacher int8", "teacher int4", "student alone", "student distilled", "quantize"} <= {
            name for name, _ in planned(cfg)
        }
        assert cfg["student"]["net"]["dim"] == 30
        assert cfg["data"]["source"]["path"].startswith(str(tmp_path))
        assert cfg["student"]["fit"]["weight_decay"] == (0.4 if source == "ml1m" else 0.03)
