"""Compressed tables through whole runs: chosen for a student, or as a pass behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from recdistill.config.listing import groups
from recdistill.config.locate import find_sources
from recdistill.export.bundle import load_model, model_info
from recdistill.models.tables.base import tables_of

KINDS = sorted(name for name in groups(find_sources([], []).folders)["table"] if name != "none")
LARGE = ("data.source.n_users=400", "data.source.n_items=700", "student.net.dim=16", "student.fit.epochs=2")
SMALL_TABLES = {"pq": ("codes=16", "parts=4")}


def words_for(kind: str, prefix: str) -> list[str]:
    return [f"{prefix}.{setting}" for setting in SMALL_TABLES.get(kind, ())]


def rows(folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["rows"]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_is_trained_in_it_and_rounded(kind: str, cli: Callable[..., int], tmp_path: Path) -> None:
    words = [*LARGE, f"table@student.net.table={kind}", *words_for(kind, "student.net.table"),
             "compression=[quantize]", "export=[bundle]", "run.name=a"]  # fmt: skip
    assert cli("run", *words) == 0
    table = rows(tmp_path / "outputs" / "a")
    student, small = table[-2:]
    assert isinstance(small["bytes"], int)
    assert isinstance(student["bytes"], int)
    assert small["bytes"] < student["bytes"] < 4 * 16 * (400 + 700)
    bundle = tmp_path / "outputs" / "a" / "export"
    assert model_info(bundle)["bytes"] == small["bytes"] == (bundle / "model.safetensors").stat().st_size
    assert tables_of(load_model(bundle))


@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_fits_and_tunes(kind: str, cli: Callable[..., int], tmp_path: Path) -> None:
    name = f"embedding_{kind}"
    words = [*LARGE, f"compression=[{name}]", f"compression.{name}.finetune.epochs=2",
             f"compression.{name}.hint=1.0",
             *words_for(kind, f"compression.{name}.table")]  # fmt: skip
    assert cli("compress", *words) == 0
    (folder,) = [file.parent for file in (tmp_path / "outputs" / "cache" / "compress").glob("*/model.json")]
    model, start = load_model(folder), load_model(folder / "latent")
    assert set(tables_of(model)) == {"user", "item"}
    anchors = load_file(folder / "latent" / "anchors.safetensors")
    student = next((tmp_path / "outputs" / "cache" / "student").glob("*/model.json")).parent
    for side in ("user", "item"):
        assert torch.equal(anchors[side], load_model(student).state_dict()[f"{side}.weight"])
        fitted, tuned = getattr(start, side).weight, getattr(model, side).weight
        assert not torch.equal(fitted, tuned)
        zero = anchors[side].square().mean()
        assert (fitted - anchors[side]).square().mean() < zero
    assert (folder / "model.safetensors").stat().st_size < (student / "model.safetensors").stat().st_size


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("student.net.table=qr",), "table@student.net.table=qr"),
        (("table@student.net.table=qr", "student.net.fusion=add"), "needs a plain table"),
        (("compression=[quantize,embedding_qr]",), "before the passes"),
        (("student=neumf", "compression=[embedding_qr]"), "no table that could be compressed"),
        (("table@student.net.table=qr", "compression=[embedding_pq]"), "compressed already"),
    ],
)
def test_what_can_not_be_is_refused_at_once(
    words: tuple[str, ...], said: str, cli: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("run", *words) == 2
    assert said in capsys.readouterr().err
    assert not list((tmp_path / "outputs").glob("cache/student/*/model.json"))
