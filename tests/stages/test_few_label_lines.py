"""Lines with few labels and with none: what students learn from, and that nothing else reaches them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from task_kit import command, words_of, write_digits

from recdistill.data import store
from recdistill.data.interactions import Interactions
from recdistill.data.withheld import with_labels
from recdistill.export.bundle import load_model, model_info
from recdistill.stages import training
from recdistill.stages.withheld import given

RANKING = (
    "task=ranking", "data=synthetic", "data.source.n_users=50", "data.source.n_items=40", "data.source.niches=6",
    "teacher=mf", "teacher.net.dim=8", "student=mf", "student.net.dim=4", "evaluation.ks=[5,10]",
    "teacher.fit.epochs=3", "student.fit.epochs=3", "student.fit.validate_every=3", "logger=none", "trainer=cpu",
)  # fmt: skip
TASKS = ("ranking", "sequence", "ctr", "rating", "classification")


def words(task: str, *more: str) -> list[str]:
    if task == "ranking":
        keys = {word.partition("=")[0] for word in more}
        return [*(w for w in RANKING if w.partition("=")[0] not in keys and w.split(".")[0] not in keys), *more]
    return words_of(task, *more)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_digits(tmp_path / "digits")
    return tmp_path


def found(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "outputs" / name / "metrics.json").read_text(encoding="utf-8"))
    return content["models"]


@pytest.mark.parametrize("task", TASKS)
def test_students_learn_from_few_labels_and_from_none(folder: Path, task: str) -> None:
    for name, more in (("whole", ()), ("few", ("data.label_fraction=0.1",)),
                       ("none", ("data.label_fraction=0", "alpha=1"))):  # fmt: skip
        assert command("distill", words(task, "distiller=soft_label", f"run.name={name}", *more)) == 0
    whole, few, none = (found(folder, name) for name in ("whole", "few", "none"))
    hashes = [models["student distilled"]["weights_hash"] for models in (whole, few, none)]
    assert len(set(hashes)) == 3
    assert whole["student alone"]["weights_hash"] != few["student alone"]["weights_hash"]
    assert "student alone" not in none
    # The teacher is the same stop.
    assert len({models["teacher"]["folder"] for models in (whole, few, none)}) == 1
    assert model_info(Path(few["student alone"]["folder"]))["labels"] == {"share": 0.1, "seed": 1}
    assert "labels" not in model_info(Path(few["teacher"]["folder"]))


@pytest.mark.parametrize("task", ["ranking", "ctr", "rating", "classification"])
@pytest.mark.parametrize("model", ["alone", "distilled"])
def test_hidden_labels_have_no_say(folder: Path, monkeypatch: pytest.MonkeyPatch, task: str, model: str) -> None:
    """Other labels in their place, and other items of hidden events, and the student is the same bit for bit."""

    def spoiled(data: Any, labels: float = 1.0, privileged: Any = None, *, seed: int) -> Any:
        data = given(data, labels, privileged, seed=seed)
        train = data.train
        if train.labelled is None:
            return data
        at = (~train.labelled).nonzero().flatten()
        if isinstance(train, Interactions):
            item = train.item.clone()
            item[at] = item[at].roll(1)
            return replace(data, train=replace(train, item=item))
        label = train.label.clone()
        label[at] = label[at].flip(0).roll(1)
        assert not torch.equal(label, train.label)
        return replace(data, train=replace(train, label=label))

    hashes = []
    for cache, prepared in (("a", given), ("b", spoiled)):
        monkeypatch.setattr(training, "given", prepared)
        assert command("distill", words(
            task, "distiller=soft_label", "data.label_fraction=0.1", f"run.name={cache}", f"cache={cache}",
            "student.fit.validate_every=3",
        )) == 0  # fmt: skip
        hashes.append(found(folder, cache)[f"student {model}"]["weights_hash"])
    assert hashes[0] == hashes[1]


def test_a_students_graph_is_that_of_its_labels_wherever_it_is_read(folder: Path) -> None:
    more = ("student=lightgcn", "distiller=soft_label", "data.label_fraction=0.2", "run.name=graph",
            "compression=quantize")  # fmt: skip
    assert command("run", [w for w in words("ranking", *more) if not w.startswith("student.fit")]) == 0
    run = folder / "outputs/graph"
    data = store.load_pairs(next(folder.glob("outputs/cache/data/*/dataset.json")).parent)
    few = with_labels(data.train, 0.2, 1).taught
    edges = 2 * len(few.csr.indices)
    for name in ("student_alone", "student_distilled"):  # the compressed one has vectors, and no graph
        assert len(load_model(run / "models" / name, data.train).indices) == edges
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    said = f"{len(few):,} of {len(data.train):,} in training are given to students and baselines"
    assert summary["data"]["report"]["labels"] == said
    assert any(said in note for note in summary["notes"])
    assert said in (run / "report.html").read_text(encoding="utf-8")
    assert command("verify", [str(run)]) == 0


def test_stored_and_live_teachers_are_asked_the_same(folder: Path) -> None:
    for signals in ("live", "stored"):
        more = ("distiller=topk_kl", "distiller.topk_kl.k=5", "data.label_fraction=0.2", f"signals={signals}")
        assert command("distill", words("ranking", *more, f"run.name={signals}")) == 0
    live, stored = (found(folder, name)["student distilled"]["metrics"] for name in ("live", "stored"))
    assert live["ndcg@10"] == pytest.approx(stored["ndcg@10"], abs=1e-6)


def test_run_without_labels_has_neither_student_alone_nor_baselines_and_is_verified(folder: Path) -> None:
    more = ("distiller=soft_label", "data.label_fraction=0", "alpha=1", "baselines=[popularity]", "run.name=none")
    assert command("run", words("ranking", *more)) == 0
    summary = json.loads((folder / "outputs/none/summary.json").read_text(encoding="utf-8"))
    assert [row["role"] for row in summary["rows"]] == ["teacher", "teacher_quantized", "teacher_quantized", "student"]
    assert any("no student alone" in note for note in summary["notes"])
    assert command("verify", [str(folder / "outputs/none")]) == 0


@pytest.mark.parametrize(
    ("task", "more", "what"),
    [
        ("ranking", ("data.label_fraction=0",), "learns from the teacher alone"),
        ("ranking", ("data.label_fraction=1.5",), "data.label_fraction"),
        ("ctr", ("data.label_fraction=0.5", "task.history=3"), "made of labels"),
        ("sequence", ("data.label_fraction=0.5", "student=bert4rec"), "needs the labels of all"),
        ("ranking", ("data.privileged=[age]",), "columns are withheld from students of tables"),
        ("ctr", ("data.privileged=[devise]",), "no column 'devise'"),
    ],
)
def test_refusals(
    folder: Path, capsys: pytest.CaptureFixture[str], task: str, more: tuple[str, ...], what: str
) -> None:
    del folder
    assert command("distill", words(task, *more)) == 2
    assert what in " ".join(capsys.readouterr().err.split())


def test_nobody_learns_from_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del folder
    more = ("distiller=soft_label", "data.label_fraction=0", "alpha=1", "recommend.model=alone")
    assert command("recommend", words("ranking", *more)) == 2
    assert "the student alone has nothing to learn from" in capsys.readouterr().err
