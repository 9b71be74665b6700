"""Models that look at vectors of items, from the command line to the table, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Cli = Callable[..., int]
SMALL = ("{role}.net.dim=4", "{role}.fit.epochs=2", "{role}.fit.batch_size=64")


@pytest.fixture
def encoded(tmp_path: Path) -> list[str]:
    """Options that give each item of the small data a vector "vectors"."""
    ids = [f"i{n:05}" for n in range(400)]
    np.save(tmp_path / "given.npy", np.random.default_rng(1).normal(size=(len(ids), 6)).astype(np.float32))
    (tmp_path / "given.ids").write_text("\n".join(ids) + "\n", encoding="utf-8")
    few = ["data.source.n_users=80", "data.source.n_items=60", "data.source.niches=6"]
    return [*few, "encode=vectors", f"data.encode.vectors.file={tmp_path / 'given.npy'}"]


def small(role: str, name: str) -> list[str]:
    return [f"{role}={name}", *(word.format(role=role) for word in SMALL)]


def rows(folder: Path) -> list[str]:
    (summary,) = folder.glob("outputs/*/summary.json")
    return [row["name"] for row in json.loads(summary.read_text(encoding="utf-8"))["rows"]]


@pytest.mark.parametrize(("teacher", "student"), [("vbpr", "freedom"), ("freedom", "mf")])
def test_teaches_learns_and_is_compressed(
    teacher: str, student: str, cli: Cli, encoded: list[str], tmp_path: Path
) -> None:
    fused = ["student.net.fusion=gate", "student.net.adapter=3"] if student == "mf" else []
    words = [*encoded, *small("teacher", teacher), *small("student", student), *fused, "compression=[quantize]"]
    assert cli("run", *words) == 0
    assert {"teacher", "student alone", "student distilled", "quantize"} <= set(rows(tmp_path))


def test_a_sequence_model_of_vectors_teaches_one_of_ids(cli: Cli, encoded: list[str], tmp_path: Path) -> None:
    words = [*small("teacher", "sasrec"), *small("student", "gru4rec"), "student.net.hidden=4", "student.net.layers=1"]
    fused = ["teacher.net.fusion=features", "teacher.net.adapter=3", "compression=[quantize]"]
    assert cli("run", "task=sequence", *encoded, *words, *fused) == 0
    assert {"teacher", "teacher int8", "student distilled", "quantize"} <= set(rows(tmp_path))


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["teacher=vbpr"], "teacher.net.features"),
        (["student=freedom"], "student.net.features"),
        (["student.net.adapter=4"], "student.net.fusion"),
    ],
)
def test_without_vectors(words: list[str], where: str, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("run", *words) == 2
    assert where in capsys.readouterr().err
