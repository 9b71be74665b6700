"""Every ranking network as teacher and student of a whole run, on data so small that it takes seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from stage_kit import models, weights

NETWORKS = ("simgcl", "xsimgcl", "multvae", "neumf", "simplex", "two_tower")
SMALL = ("{role}.net.dim=4", "{role}.fit.epochs=2", "{role}.fit.batch_size=64")


def small(role: str, name: str) -> list[str]:
    return [f"{role}={name}", *(word.format(role=role) for word in SMALL)]


def rows(folder: Path) -> list[str]:
    (summary,) = folder.glob("outputs/*/summary.json")
    return [row["name"] for row in json.loads(summary.read_text(encoding="utf-8"))["rows"]]


@pytest.mark.parametrize("name", NETWORKS)
def test_teaches_learns_and_is_compressed(name: str, cli: Callable[..., int], tmp_path: Path) -> None:
    assert cli("run", *small("teacher", name), *small("student", name), "compression=[quantize]") == 0
    assert {"teacher", "student distilled", "quantize"} <= set(rows(tmp_path))


@pytest.mark.parametrize("name", ["xsimgcl", "multvae"])
def test_what_is_random_in_them_is_a_function_of_the_seed(name: str, cli: Callable[..., int], tmp_path: Path) -> None:
    for cache in ("a", "b"):
        assert cli("train", *small("teacher", name), f"cache={cache}") == 0
    (first,), (second,) = (models(tmp_path / cache, "teacher") for cache in ("a", "b"))
    assert weights(first) == weights(second)


@pytest.mark.parametrize("signals", ["stored", "live"])
def test_vectors_that_are_not_the_scores_teach(signals: str, cli: Callable[..., int], tmp_path: Path) -> None:
    roles = [*small("teacher", "neumf"), *small("student", "neumf"), "student.net.dim=2"]
    assert cli("run", *roles, "distiller=hint", f"signals={signals}") == 0
    assert {"teacher", "student distilled"} <= set(rows(tmp_path))
