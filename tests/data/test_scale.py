"""The benchmark of preparation on a small log: both pipelines keep the same rows."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import polars as pl

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_data.py"


def test_both_pipelines_keep_the_same_rows(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("benchmark_data", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    args = argparse.Namespace(rows=20_000, users=2_000, items=400)
    found = {step: script.STEPS[step](tmp_path, args) for step in ("make", "bare", "prepared", "load")}
    assert found["prepared"]["filtered"] == found["bare"]["rows"] < args.rows
    assert 0 < found["load"]["rows"] < found["prepared"]["rows"]
    log = pl.read_parquet(tmp_path / "log.parquet")
    assert log.schema == {"user": pl.String, "item": pl.String, "time": pl.Int64}
    assert log["item"].value_counts()["count"].max() > 5 * args.rows / args.items  # type: ignore[operator]
