"""Families that teach one student together, checkpoints as teachers, and chains of assistants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from task_kit import LOG, command, words_of, write_digits

from recdistill.data import store
from recdistill.distillers.stored import StoredTeacher
from recdistill.export.bundle import load_model, model_info
from recdistill.models.fold_in import RIDGE, UNOBSERVED
from recdistill.models.folded import Folded

COMMON = (*LOG, "evaluation.ks=[5,10]", "logger=none", "trainer=cpu", "student.fit.epochs=2", "student.net.dim=4",
          "distiller=topk_kl", "distiller.topk_kl.k=8", "distiller.topk_kl.negatives=0")  # fmt: skip
PARTS = "teacher.net.members."


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "outputs" / name / "metrics.json").read_text(encoding="utf-8"))
    return content["models"]


def signals(folder: Path) -> dict[str, torch.Tensor]:
    (at,) = (file.parent for file in folder.glob("outputs/cache/signals/*/signals.json"))
    return StoredTeacher(at).tensors


def test_three_families_teach_a_ranking_student(folder: Path) -> None:
    few = (f"{PARTS}graph.fit.epochs=2", f"{PARTS}mf.fit.epochs=2", f"{PARTS}sequence.net.members.model.fit.epochs=1")
    assert command("distill", [*COMMON, "teacher=families", *few, "student=mf", "run.name=r"]) == 0
    models = found(folder, "r")
    net = model_info(Path(models["teacher"]["folder"]))["net"]
    kinds = {name: member["net"]["_target_"].rpartition(".")[2] for name, member in net["members"].items()}
    assert kinds == {"graph": "LightGCN", "mf": "MF", "sequence": "ByHistory"}
    assert models["student distilled"]["weights_hash"] != models["student alone"]["weights_hash"]
    # What is taught is what the three say together.
    train = store.load_pairs(next(folder.glob("outputs/cache/data/*/dataset.json")).parent).train
    teacher = load_model(Path(models["teacher"]["folder"]), train)
    with torch.no_grad():
        ranks = []
        for member in teacher.parts():
            scores = member.scores(torch.tensor([3]))[0]
            scores[train.csr.indices[train.csr.indptr[3] : train.csr.indptr[4]]] = -torch.inf
            ranks.append(scores.argsort(descending=True, stable=True).argsort() + 1)
    fused = sum(1 / (60 + rank.double()) for rank in ranks)
    fused[train.csr.indices[train.csr.indptr[3] : train.csr.indptr[4]]] = -torch.inf
    top = signals(folder)["top_items"][3].long()
    np.testing.assert_allclose(fused[top], fused.topk(8).values, rtol=1e-6)
    # The whole line ends in its table: what a graph spreads, once for all, is in no request.
    assert command("run", [*COMMON, "teacher=families", *few, "student=mf", "run.name=whole"]) == 0
    rows = json.loads((folder / "outputs/whole/summary.json").read_text(encoding="utf-8"))["rows"]
    dims = [net["members"][name]["net"]["dim"] for name in ("graph", "mf")]
    of_vectors = sum(2 * train.n_items * dim for dim in dims)
    entries = 2 * len(train.user)
    assert of_vectors < rows[0]["work"]["flops"] < of_vectors + 2 * entries * dims[0]


def test_three_families_teach_a_sequence_student(folder: Path) -> None:
    few = (f"{PARTS}graph.net.members.model.fit.epochs=2", f"{PARTS}mf.net.members.model.fit.epochs=2",
           f"{PARTS}sequence.fit.epochs=1")  # fmt: skip
    words = [*COMMON, "task=sequence", "teacher=families_sequence", *few, "student=gru4rec", "run.name=s"]
    assert command("distill", words) == 0
    models = found(folder, "s")
    info = model_info(Path(models["teacher"]["folder"]))
    members = info["net"]["members"]
    kinds = {name: member["net"]["_target_"].rpartition(".")[2] for name, member in members.items()}
    assert kinds == {"graph": "Folded", "mf": "Folded", "sequence": "SASRec"}
    assert models["student distilled"]["weights_hash"] != models["student alone"]["weights_hash"]
    lists = signals(folder)["top_items"]
    data = store.load_pairs(next(folder.glob("outputs/cache/data/*/dataset.json")).parent)
    assert len(lists) == len(data.train)  # an event each
    teacher = load_model(Path(models["teacher"]["folder"]), data.train)
    folded = teacher.parts()[0]
    assert isinstance(folded, Folded)
    history = torch.tensor([[5, 2, 9], [4, 40, 40]])
    q = folded.item.double().numpy()
    for row, items in enumerate(([5, 2, 9], [4])):
        own = q[items]
        penalty = RIDGE * (q**2).mean() * (len(items) + UNOBSERVED * len(q))
        left = own.T @ own + UNOBSERVED * q.T @ q + penalty * np.eye(q.shape[1])
        expected = np.linalg.solve(left, own.sum(0))
        np.testing.assert_allclose(folded.query(history)[row].numpy(), expected, rtol=2e-3, atol=1e-5)
    assert torch.equal(folded.query(torch.full((1, 3), 40)), torch.zeros(1, q.shape[1]))


def test_what_has_no_vectors_can_not_be_folded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del folder
    words = [*COMMON, "task=sequence", "teacher=folded", "teacher@teacher.net.members.model=ease", "teacher.net.dim=4"]
    assert command("distill", words) == 2
    assert "EASE has no item vectors" in capsys.readouterr().err


def test_checkpoints_of_two_families_go_from_easy_to_hard(folder: Path) -> None:
    few = [
        f"{PARTS}{name}.fit.epochs={epochs}"
        for name, epochs in (("graph_1", 1), ("graph_2", 2), ("graph_3", 3), ("mf_1", 1), ("mf_2", 2), ("mf_3", 3))
    ]
    words = [word for word in COMMON if not word.startswith(("distiller", "student.fit"))]
    words += ["teacher=trajectories", *few, "student=mf", "student.fit.epochs=6", "distiller=hetcomp",
              "distiller.hetcomp.k=8", "distiller.hetcomp.families=2", "distiller.hetcomp.every=1"]  # fmt: skip
    for asked in ("stored", "live"):
        assert command("distill", [*words, f"signals={asked}", f"run.name={asked}"]) == 0
    stored, live = (found(folder, name)["student distilled"]["metrics"]["ndcg@10"] for name in ("stored", "live"))
    assert stored == pytest.approx(live, abs=1e-6)
    names = [name for name in signals(folder) if name.endswith("top_items")]
    assert sorted(names) == [*(f"member.{n}.top_items" for n in range(6)), "top_items"]


def test_an_assistant_teaches_the_next_student(folder: Path) -> None:
    """From 24 numbers over 12 to 4: the first run's student is the second one's teacher."""
    few = ("teacher=mf", "student=mf", "teacher.fit.epochs=3", "student.fit.batch_size=64")
    first = [word for word in COMMON if not word.startswith("student.net")]
    assert command("run", [*first, *few, "teacher.net.dim=24", "student.net.dim=12", "run.name=first"]) == 0
    bundle = folder / "outputs/first/models/student_distilled"
    words = [*COMMON, "student=mf", "teacher=bundle", f"teacher.path={bundle}", "run.name=second"]
    assert command("run", words) == 0
    rows = {}
    for run in ("first", "second"):
        summary = json.loads((folder / "outputs" / run / "summary.json").read_text(encoding="utf-8"))
        rows[run] = {row["role"]: row for row in summary["rows"]}
    for figure in ("weights_hash", "bytes", "metrics", "label"):
        expected, taken = rows["first"]["student"][figure], rows["second"]["teacher"][figure]
        assert taken == (expected.partition(",")[0] if figure == "label" else expected)
    assert rows["second"]["student"]["parameters"] < rows["second"]["teacher"]["parameters"]
    assert command("verify", [str(folder / "outputs/second")]) == 0


GATED = {
    "sequence": ("teacher=ensemble_sequence", f"~teacher@{PARTS}nextitnet", f"{PARTS}sasrec.fit.epochs=1",
                 f"{PARTS}gru4rec.fit.epochs=1"),
    "rating": ("teacher=ensemble_rating", f"{PARTS}biased_mf.fit.epochs=1", f"{PARTS}neumf_rating.fit.epochs=1"),
    "classification": ("teacher=ensemble_classification", f"~teacher@{PARTS}cnn", f"+teacher@{PARTS}other=mlp",
                       f"{PARTS}mlp.fit.epochs=1", f"{PARTS}other.net.hidden=[8]", f"{PARTS}other.fit.epochs=1"),
}  # fmt: skip


@pytest.mark.parametrize("task", ["ranking", *GATED])
def test_a_gate_over_members_says_what_it_did(task: str, folder: Path) -> None:
    """Of lists stored and live; the shares of the members begin alike and move."""
    write_digits(folder / "digits")
    if task == "ranking":
        words = [*COMMON[:-3], "teacher=families", f"~teacher@{PARTS}sequence", f"{PARTS}graph.fit.epochs=1",
                 f"{PARTS}mf.fit.epochs=2", "student=mf", "student.fit.batch_size=16"]  # fmt: skip
    else:
        words = words_of(task, *GATED[task])
    words += ["distiller=gated_ensemble", "distiller.gated_ensemble.k=8", "distiller.gated_ensemble.lr=0.05"]
    ways = ("stored", "live") if task in ("ranking", "sequence") else ("stored",)
    for signals in ways:
        assert command("distill", [*words, f"signals={signals}", f"run.name={signals}"]) == 0
    students = [found(folder, name)["student distilled"] for name in ways]
    assert students[-1]["metrics"] == pytest.approx(students[0]["metrics"], abs=1e-3)
    history = json.loads((Path(students[0]["folder"]) / "history.json").read_text(encoding="utf-8"))
    shares = [history[-1][f"train/gated_ensemble.share.{member}"] for member in range(2)]
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert abs(shares[0] - 0.5) > 1e-3
