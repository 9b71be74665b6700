"""Teachers that learn, from the command line: tables, caches, processes, fine-tuning, refusals."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from stage_kit import finish, history, models, weights
from stage_kit import words_of as small
from task_kit import command, words_of, write_digits

from command_kit import Command
from recdistill.config.compose import compose_config, hydra_session, resolve
from recdistill.config.locate import find_sources
from recdistill.distillers.stored import SIGNALS
from recdistill.errors import InputError
from recdistill.stages.line import Line
from recdistill.stages.watched import wanted

FINETUNE = "compression.prune.finetune={_target_: recdistill.models.fit.Fit, epochs: 1, batch_size: 64, lr: 0.01}"
TWO = ("trainer=ddp_cpu", "trainer.devices=2")
ALONE = [word for word in small(()) if not word.startswith("teacher")]  # of the teacher's, which is the student's model


def table(folder: Path, name: str = "x") -> dict[str, dict[str, Any]]:
    summary = json.loads((folder / "outputs" / name / "summary.json").read_text(encoding="utf-8"))
    return {row["name"]: row for row in summary["rows"]} | {"notes": summary["notes"]}


def line_of(folder: Path, *words: str) -> Line:
    with hydra_session(find_sources([], [])):
        return Line(resolve(compose_config(list(words))), folder)


def test_mutual_learning(cli: Any, tmp_path: Path) -> None:
    words = ("distiller=[soft_label,hint]", "teaching=mutual", "run.name=x")
    assert cli("run", *words) == 0
    rows = table(tmp_path)
    assert rows["teacher"]["weights_hash"] != rows["teacher trained along"]["weights_hash"]
    assert rows["teacher trained along"]["label"] == "MF d=12"
    assert rows["student distilled"]["weights_hash"] != rows["student alone"]["weights_hash"]
    assert rows["teacher trained along"]["train_seconds"] is None, "it is in the student's"
    assert min(rows[name]["train_seconds"] for name in ("teacher", "student distilled")) > 0
    assert any("trained along" in note for note in rows["notes"])
    assert not list(tmp_path.rglob(SIGNALS)), "there is no teacher to ask before"
    kept = models(tmp_path / "outputs/cache", "student")
    assert len(kept) == 2, "distilled and alone"
    told = [key for folder in kept for key in history(folder)[-1]]
    assert {"train/hint", "train/teacher.hint", "train/teacher.bpr"} <= set(told)
    assert not list(kept[0].rglob("last.ckpt"))
    assert cli("verify", "outputs/x") == 0


def test_what_a_student_depends_on(tmp_path: Path) -> None:
    """Its key holds the teacher's node, and how it is taught; not how signals are stored."""

    def key(*more: str) -> Any:
        line = line_of(tmp_path, *small(("teaching=mutual", *more)))
        return line.soft_key

    first = key()
    assert first == key("signals=live")
    assert first != key("teaching.back=0.1")
    assert first != key("teacher.net.dim=13")
    assert first != key("teacher.fit.lr=0.5")
    assert first != key("teacher.fit.weight_decay=0.5")
    frozen = line_of(tmp_path, *small(())).losses
    assert "teaching" not in frozen
    mean = line_of(tmp_path, *ALONE, "teaching=mean_teacher").soft_key
    assert "peer" not in mean
    assert mean != line_of(tmp_path, *ALONE, "teaching=mean_teacher", "teaching.decay=0.5").soft_key


def test_vectors_of_a_file_are_part_of_the_key(tmp_path: Path) -> None:
    import numpy as np

    file = tmp_path / "vectors.npy"
    np.save(file, np.zeros((3, 12), dtype=np.float32))
    words = small(("teaching=mutual", f"teacher.fit.item_init={file}"))
    first = line_of(tmp_path, *words).soft_key
    np.save(file, np.ones((3, 12), dtype=np.float32))
    assert first != line_of(tmp_path, *words).soft_key


def test_at_alpha_0_it_is_the_student_alone(cli: Any, tmp_path: Path) -> None:
    assert cli("run", "teaching=mutual", "alpha=0", "run.name=x") == 0
    rows = table(tmp_path)
    assert "student distilled" not in rows
    assert "teacher trained along" not in rows
    assert len(models(tmp_path / "outputs/cache", "student")) == 1


def test_mean_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("run", [*ALONE, "teaching=mean_teacher", "alpha=0.3", "run.name=x"]) == 0
    rows = table(tmp_path)
    assert rows["teacher"]["label"] == rows["student alone"]["label"] == "MF d=4"
    assert rows["teacher"]["weights_hash"] == rows["student alone"]["weights_hash"]
    assert rows["student distilled"]["weights_hash"] != rows["teacher"]["weights_hash"]
    assert any("average of its own weights" in note for note in rows["notes"])
    assert_counted_once(rows)
    assert command("verify", ["outputs/x"]) == 0


def assert_counted_once(rows: dict[str, Any]) -> None:
    """The teacher is the student alone: no comparison, and no part of Holm's correction over the others."""
    assert rows["teacher"]["weights_hash"] == rows["student alone"]["weights_hash"]
    assert rows["teacher"]["p_alone_holm"] is None
    assert "teacher and student alone are one model, which is not compared with itself" in rows["notes"]
    others = [row for name, row in rows.items() if name not in ("teacher", "student alone", "notes")]
    smallest = min(others, key=lambda row: float(row["p_alone"]))
    assert smallest["p_alone_holm"] == pytest.approx(min(1, len(others) * smallest["p_alone"]))


def test_born_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen teacher of the student's own settings, and the generation after it."""
    monkeypatch.chdir(tmp_path)
    words = [word for word in ALONE if not word.startswith("alpha")]
    assert command("run", [*words, "teaching=born_again", "student.net.dim=5", "run.name=x"]) == 0
    rows = table(tmp_path)
    assert rows["teacher"]["label"] == "MF d=5"
    assert_counted_once(rows)
    assert command("verify", ["outputs/x"]) == 0
    assert rows["student distilled"]["label"].startswith("MF d=5")
    assert list(tmp_path.rglob(SIGNALS))
    first = rows["student distilled"]["weights_hash"]
    again = ["teacher=bundle", "teacher.path=outputs/x/models/student_distilled", "student.net.dim=5", "run.name=y"]
    assert command("run", [*words, *again]) == 0
    rows = table(tmp_path, "y")
    assert rows["teacher"]["weights_hash"] == first != rows["student distilled"]["weights_hash"]
    assert rows["teacher"]["train_seconds"] is None, "it was copied"
    assert rows["teacher"]["p_alone_holm"] is not None


def test_rocket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = words_of(
        "ctr", "teaching=rocket", "distiller=logit_mse", "student=dnn", "student.net.dim=5", "student.net.hidden=[6]",
        "run.name=x",
    )  # fmt: skip
    words = [word for word in words if word != "teacher.net.dim=4"]  # of the student's
    assert command("run", words) == 0
    rows = table(tmp_path)
    light, booster = (
        load_file(tmp_path / "outputs/x" / rows[name]["folder"] / "model.safetensors")
        for name in ("student distilled", "teacher trained along")
    )
    shared = [name for name in light if name.startswith("fields.")]
    assert shared
    assert all(light[name].equal(booster[name]) for name in shared)


@pytest.mark.parametrize("task", ["sequence", "rating", "classification", "ctr"])
def test_every_task(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_digits(tmp_path / "digits")
    assert command("check", words_of(task, "teaching=mutual", "distiller=soft_label")) == 0


def test_fine_tuning_has_the_teacher_that_was_trained_along(cli: Any, tmp_path: Path) -> None:
    words = ("compression=prune", FINETUNE, "run.name=x")
    assert cli("compress", "teaching=mutual", *words) == 0
    line = line_of(tmp_path, *small(("teaching=mutual", *words)))
    assert line.tuning_spec["teacher"] == str(line.along)
    assert weights(line.along) == weights(line.student / "teacher")
    assert "teaching" not in line.tuning_spec
    mean = line_of(tmp_path, *ALONE, "teaching=mean_teacher", *words)
    assert mean.tuning_spec["teacher"] == str(mean.student)


@pytest.mark.parametrize("way", ["mutual", pytest.param("mean_teacher", marks=pytest.mark.slow)])
def test_two_processes_are_one(way: str, tmp_path: Path) -> None:
    """Maps of both directions are trained, which DDP waits for; every second step distils."""
    words = (
        "distiller=[soft_label,hint]", f"teaching={way}", "objective@student.objective=bpr", "student.fit.every=2",
        "student.fit.batch_size=128", "student.fit.clip=0.5", "student.fit.epochs=2",
    )  # fmt: skip
    found = []
    for name, more in (("one", ()), ("two", TWO)):
        chosen = [word for word in small((*words, *more)) if way == "mutual" or not word.startswith("teacher")]
        words_here = ["distill", *chosen, f"cache={name}", f"run.root=r{name}", "run.name=x"]
        code, text = finish(
            Command(words_here, tmp_path, {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}), 200
        )
        assert code == 0, text
        found.append(models(tmp_path / name, "student"))
    for a, b in zip(*found, strict=True):
        for name, tensor in load_file(a / "model.safetensors").items():
            other = load_file(b / "model.safetensors")[name]
            assert float((tensor - other).abs().max()) < 1e-4, name


@pytest.mark.parametrize(
    ("words", "text", "fix"),
    [
        (("teacher=ease",), "EASE is not trained step by step", "teaching=frozen"),
        (("teacher=mf", "teacher.fit.ema=0.9"), "no average is kept", "teacher.fit.ema=0"),
        (("data.label_fraction=0", "alpha=1"), "needs labels", "teaching=frozen"),
        (("distiller=hint", "student=multvae"), "has no user and item vectors", "leave out hint"),
        (("teaching.back=1.5",), "teaching.back", ""),
        (
            ("+schedule@teaching.back=linear", "teaching.back.start=0", "teaching.back.end=2"),
            "a schedule goes from 0 to 2",
            "where: teaching.back",
        ),
        (("teaching.shared=[user]",), "can't share 'user'", "same sizes"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], text: str, fix: str, cli: Any, capsys: Any) -> None:
    assert cli("distill", "teaching=mutual", *words) == 2
    said = capsys.readouterr()
    assert text in said.out + said.err
    assert fix in said.out + said.err


def test_another_way_of_teaching_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no way of teaching"):
        line_of(tmp_path, *small(("+teaching._target_=recdistill.distillers.weighting.Gap",)))


@pytest.mark.parametrize(
    ("words", "student", "teacher"),
    [
        (("teaching=frozen",), {"deep.0", "deep.1"}, {"cross.0", "trunk"}),
        (("teaching=mutual",), {"deep.0", "deep.1"}, {"cross.0", "trunk"}),
        (("teaching=mutual", "teaching.back=0"), {"deep.0", "deep.1"}, {"cross.0", "trunk"}),
        (("teaching=mutual", "distiller=debiased", "distiller.debiased.layer=deep.0"), {"deep.0"}, {"trunk"}),
        (("teaching=frozen", "distiller=debiased", "distiller.debiased.layer=deep.0"), {"deep.0"}, set()),
    ],
)
def test_whose_layers_are_compared(
    words: tuple[str, ...], student: set[str], teacher: set[str], tmp_path: Path
) -> None:
    """By a table of who learns from whom: of a teacher that learns, too, the layers stay its own."""
    losses = ("distiller=rkd", "distiller.rkd.layers={deep.0: cross.0, deep.1: trunk}")
    chosen = words if "distiller=debiased" in words else (*words, *losses)
    line = line_of(tmp_path, *words_of("ctr", "student=dnn", *chosen))
    assert wanted(line) == {"student": student, "teacher": teacher}


@pytest.mark.parametrize(
    "words",
    [
        ("distiller=rkd", "distiller.rkd.layers={deep.0: cross.0, deep.1: cross.0}"),
        ("distiller=hint_layers", "~distiller.hint_layers.layers.trunk",
         "+distiller.hint_layers.layers={deep.0: cross.0, deep.1: cross.0}"),
        ("distiller=debiased", "distiller.debiased.layer=out"),
    ],
)  # fmt: skip
def test_a_teacher_with_other_layers_learns_too(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("check", words_of("ctr", "student=dnn", "student.net.hidden=[8]", "teaching=mutual", *words)) == 0
