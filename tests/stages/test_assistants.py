"""Chains of assistants in one command: each is the student that a command of its own would distil."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from stage_kit import models, weights
from task_kit import LINES, command, words_of, write_digits

from recdistill.data import store
from recdistill.errors import InputError
from recdistill.export.bundle import load_model, model_info
from recdistill.stages.assistant import assisted_config, keys_of_assistant

Cli = Callable[..., int]
CACHE = Path("outputs/cache")
FIT = ("fit.epochs=3", "fit.batch_size=32")
CHAIN = (
    "teacher=assistant", "teacher.net.dim=8", *(f"teacher.{word}" for word in FIT),
    "distiller@teacher.distiller=topk_kl", "teacher.distiller.topk_kl.k=10", "teacher.alpha=0.7",
    "teacher@teacher.taught_by=mf", "teacher.taught_by.net.dim=12", "teacher.taught_by.fit.epochs=3",
)  # fmt: skip


def distilled(run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"outputs/{run}/metrics.json").read_text(encoding="utf-8"))["models"]
    return found


def test_a_chain_is_its_commands_one_by_one(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights of assistant and student equal those of two commands with a bundle in between; all is found again."""
    assert cli("run", *CHAIN, "run.name=chain") == 0
    summary = json.loads(Path("outputs/chain/summary.json").read_text(encoding="utf-8"))
    chain = {row["name"]: row for row in summary["rows"]}
    assert chain["teacher"]["label"] == "MF d=8"
    assert "MF d=8 that learned by topk_kl from MF d=12; who taught it" in "".join(summary["notes"])
    assert cli("verify", "outputs/chain") == 0
    capsys.readouterr()
    assert cli("distill", *CHAIN) == 0
    assert ": training" not in capsys.readouterr().out
    one = ("teacher=mf", "teacher.net.dim=12", "teacher.fit.epochs=3", "teacher.fit.batch_size=4096", "student=mf",
           "student.net.dim=8", *(f"student.{word}" for word in FIT), "alpha=0.7", "distiller=topk_kl",
           "distiller.topk_kl.k=10", f"cache={os.getcwd()}/other")  # fmt: skip
    assert cli("distill", *one, "run.name=first") == 0
    first = distilled("first")["student distilled"]
    assert chain["teacher"]["weights_hash"] == first["weights_hash"]
    two = ("teacher=bundle", f"teacher.path={first['folder']}", f"cache={os.getcwd()}/other")
    assert cli("distill", *two, "run.name=second") == 0
    second = distilled("second")
    assert second["student distilled"]["weights_hash"] == chain["student distilled"]["weights_hash"]
    assert second["student distilled"]["weights_hash"] != second["student alone"]["weights_hash"]


def test_the_assistant_learns_from_the_large_teacher_alone(cli: Cli) -> None:
    """Its signals are those of the large teacher, the student's its own; what changes the large one changes both."""
    assert cli("distill", *CHAIN, "distiller=topk_kl", "distiller.topk_kl.k=10", "run.name=c") == 0
    (large,), (train,) = models(CACHE, "teacher"), [
        store.load_pairs(file.parent).train for file in CACHE.glob("data/*/dataset.json")
    ]  # fmt: skip
    assistant = Path(distilled("c")["teacher"]["folder"])
    assert [model_info(folder)["net"]["dim"] for folder in (large, assistant)] == [12, 8]
    taught = {json.loads(file.read_text())["teacher"]: file.parent for file in CACHE.glob("signals/*/signals.json")}
    assert set(taught) == {large.name, assistant.name}
    from safetensors.torch import load_file

    for folder in (large, assistant):
        with torch.no_grad():
            scores = load_model(folder, train).scores(torch.arange(train.n_users))
        scores[train.user, train.item] = -torch.inf
        top = load_file(taught[folder.name] / "signals.safetensors")["top_scores"]
        torch.testing.assert_close(top, scores.topk(10).values)
    before = [weights(folder) for folder in models(CACHE, "student")]
    assert cli("distill", *CHAIN, "distiller=topk_kl", "distiller.topk_kl.k=10", "teacher.taught_by.fit.epochs=1") == 0
    assert len({weights(folder) for folder in models(CACHE, "student")} - set(before)) == 2


def test_an_assistant_s_teacher_may_be_an_assistant(cli: Cli) -> None:
    longer = ("teacher=assistant", "teacher.net.dim=6", *(f"teacher.{word}" for word in FIT),
              "teacher@teacher.taught_by=assistant", "teacher.taught_by.net.dim=8", "teacher.taught_by.fit.epochs=3",
              "teacher@teacher.taught_by.taught_by=mf", "teacher.taught_by.taught_by.net.dim=12",
              "teacher.taught_by.taught_by.fit.epochs=2")  # fmt: skip
    assert cli("distill", *longer, "student.net.dim=2") == 0
    found = [model_info(folder)["net"]["dim"] for stage in ("teacher", "student") for folder in models(CACHE, stage)]
    assert sorted(found) == [2, 2, 6, 8, 12]  # the student alone, too


def test_an_assistant_is_given_what_a_teacher_is() -> None:
    """All labels and columns; and nothing of what is only the student's."""
    node = {"net": {"dim": 8}, "objective": {}, "fit": {}}
    teacher = {**node, "taught_by": {"net": {}}, "distiller": {"soft_label": {}}, "alpha": 0.7}
    data = {"source": {}, "label_fraction": 0.01, "privileged": ["dwell"]}
    cfg = {"seed": 3, "teacher": teacher, "student": {}, "distiller": {"rrd": {}}, "alpha": 0.1, "data": data,
           "alone": {"fit": {}}, "weighting": {"x": 1}, "compression": {"prune": {}},
           "baselines": {"ease": {}}}  # fmt: skip
    found = assisted_config(cfg)
    assert found is not None
    assert (found["student"], found["teacher"], found["distiller"]) == (node, {"net": {}}, {"soft_label": {}})
    assert (found["alpha"], found["seed"]) == (0.7, 3)
    assert found["data"] == {"source": {}, "label_fraction": 1.0, "privileged": []}
    assert not any(found[name] for name in ("alone", "weighting", "compression", "baselines", "transfer"))
    assert assisted_config({**cfg, "transfer": {"data": {}}}) is None  # the line over the other data has it


@pytest.mark.parametrize(("depth", "key"), [(1, "teacher"), (2, "teacher.taught_by")])
def test_keys_are_those_that_are_typed(depth: int, key: str) -> None:
    fix = "student.net.dim=8, student=mf, or objective@student.objective=bce; alpha=0.5 of a teacher"

    def fail() -> None:
        with ExitStack() as stack:
            for _ in range(depth):
                stack.enter_context(keys_of_assistant())
            raise InputError("no", where="student.net.dim", fix=fix)

    with pytest.raises(InputError) as said:
        fail()
    assert said.value.where == f"{key}.net.dim"
    assert said.value.fix == (
        f"{key}.net.dim=8, student@{key}=mf, or objective@{key}.objective=bce; {key}.alpha=0.5 of a teacher"
    )


@pytest.mark.parametrize("task", LINES)
def test_every_task_has_assistants(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_digits(tmp_path / "digits")
    words = words_of(task, f"teacher=assistant_{task}", "signals=live")
    assert command("check", words) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("teaching=mutual",), "an assistant has learned when it teaches"),
        (("teacher.alpha=0",), "an assistant without alpha is no student of its teacher"),
        (("teacher.alpha=2",), "2 is not above 0 and at most 1"),
        (("distiller@teacher.distiller=hint", "teacher@teacher.taught_by=ease"), "teacher@teacher.taught_by=mf"),
        (("distiller@teacher.distiller=ctr_ensemble",), "teacher.distiller.ctr_ensemble"),
        (("+teacher@baselines.odd=assistant",), "an assistant is a teacher alone"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_it_is_said_before_anything_is_trained(
    words: tuple[str, ...], said: str, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [word for word in CHAIN if "distiller" not in word and word.partition("=")[0] not in
           {other.partition("=")[0] for other in words}]  # fmt: skip
    own = [word for word in own if "taught_by." not in word] if len(words) > 1 else own
    assert cli("distill", *own, *words) == 2
    assert said in capsys.readouterr().err.replace("\n", " ")
    assert not models(CACHE, "teacher")


def test_an_assistant_is_no_member(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("train", "teacher=ensemble", "+teacher@teacher.net.members.odd=assistant") == 2
    assert "the member 'odd' is an assistant" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("teacher.taught_by=ease", "teacher@teacher.taught_by=ease"),
        ("teacher.distiller=rrd", "distiller@teacher.distiller=rrd"),
        ("~teacher.taught_by", "without taught_by"),
    ],
)
def test_an_assistant_that_is_half_one(word: str, said: str, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("check", "teacher=assistant", word) == 2
    assert said in capsys.readouterr().err
