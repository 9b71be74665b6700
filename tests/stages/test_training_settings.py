"""Samplers, averaged weights and given vectors from the command line, in one process and in two."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from safetensors.torch import load_file
from stage_kit import finish, history, models, start, weights

from recdistill.config.check import check_nodes
from recdistill.export.bundle import load_model
from recdistill.models.build import instantiate

TWO = ("trainer=ddp_cpu", "trainer.devices=2")
ALL = (
    "objective@teacher.objective=sampled_softmax", "sampler@teacher.objective.sampler=in_batch", "teacher.fit.ema=0.9",
    "teacher.fit.accumulate=2", "teacher.fit.warmup=5", "teacher.fit.item_init=vectors.npy",
)  # fmt: skip


def write_vectors(folder: Path, length: int, seed: int = 0) -> None:
    np.save(folder / "vectors.npy", np.random.default_rng(seed).normal(size=(60, length)).astype(np.float32))
    (folder / "vectors.ids").write_text("".join(f"i{n:05}\n" for n in range(60)))


def test_two_processes_are_one(tmp_path: Path) -> None:
    """In-batch negatives are those of the whole step, and the average that of the same weights."""
    write_vectors(tmp_path, 20)
    words = ("run.name=x", "trainer.precision=64-true")
    one = start(tmp_path, "train", *ALL, *words, "cache=one", "run.root=r1")
    two = start(tmp_path, "train", *ALL, *TWO, *words, "cache=two", "run.root=r2")
    (code_1, out_1), (code_2, out_2) = finish(one, 200), finish(two, 200)
    assert (code_1, code_2) == (0, 0), out_1 + out_2
    a, b = (models(tmp_path / name, "teacher")[0] for name in ("one", "two"))
    other = load_file(b / "model.safetensors")
    for name, tensor in load_file(a / "model.safetensors").items():
        assert float((tensor - other[name]).abs().max()) < 1e-6, name
    for row, same in zip(history(a), history(b), strict=True):
        assert row == pytest.approx(same, abs=1e-6)
    assert "start from a vector" in out_1


@pytest.mark.parametrize(
    "task", [("task=ranking",), ("task=sequence", "teacher=gru4rec", "student=gru4rec", "teacher.net.dropout=0")]
)
def test_epochs_chosen_by_the_sampled_metric(task: tuple[str, ...], tmp_path: Path) -> None:
    """Its values are those of the kept model against the drawn items, in one process and in two."""
    words = (
        *task, "evaluation.sampled=5", "evaluation.best_by=sampled", "trainer.precision=64-true",
        "teacher.net.dim=8", "teacher.fit.epochs=3", "teacher.fit.validate_every=1",
    )  # fmt: skip
    found = []
    for name, more in (("one", ()), ("two", TWO)):
        code, output = finish(start(tmp_path, "train", *words, *more, f"cache={name}", f"run.name={name}"), 200)
        assert code == 0, output
        (model,) = models(tmp_path / name, "teacher")
        values = [row["valid/sampled_ndcg@10[n=5]"] for row in history(model)]
        assert not any("valid/ndcg@10" in row for row in history(model))
        config = OmegaConf.load(tmp_path / f"outputs/{name}/config.yaml")
        its_task = instantiate(OmegaConf.to_container(config.task))
        (stored,) = (tmp_path / name / "data").glob("*/")
        data = its_task.load(stored, ("train", "known", "valid"))
        kept = load_model(model, data.train)
        means = its_task.evaluate(kept, data, "valid", [10], negatives=5).means()
        assert means["ndcg@10"] == pytest.approx(max(values), abs=1e-6)
        assert its_task.evaluate(kept, data, "valid", [10]).means()["ndcg@10"] < max(values) - 0.1  # of 60 items
        found.append(values)
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_other_vectors_are_another_training(tmp_path: Path) -> None:
    """The key holds the content of the file: not its name, not its date."""
    words = ("teacher.fit.item_init=vectors.npy", "teacher.fit.epochs=1", "run.root=r")
    found = []
    for seed in (0, 0, 1):
        write_vectors(tmp_path, 4, seed)
        code, output = finish(start(tmp_path, "train", *words, f"run.name=x{len(found)}", "cache=cache"))
        assert code == 0, output
        found.append(models(tmp_path / "cache", "teacher"))
    assert [len(folders) for folders in found] == [1, 1, 2]
    assert weights(found[2][0]) != weights(found[2][1])
    assert json.loads((found[0][0] / "model.json").read_text())["net"].keys().isdisjoint({"item_init"})


def test_a_missing_file_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "vectors.npz").write_bytes(b"x")
    code, output = finish(start(tmp_path, "train", "teacher.fit.item_init=vectors.npy", "run.name=x"))
    assert code == 2
    assert "vectors.npz" in output
    assert not list((tmp_path / "outputs/cache").rglob("model.safetensors"))


def test_a_correction_for_hard_negatives_is_refused(tmp_path: Path) -> None:
    words = ("objective@teacher.objective=sampled_softmax", "sampler@teacher.objective.sampler=hard", "run.name=x")
    code, output = finish(start(tmp_path, "train", *words))
    assert code == 2, output
    assert "correction=none" in output


@pytest.mark.parametrize(
    ("key", "value"), [("ema", 1.0), ("ema", -0.1), ("accumulate", 0), ("warmup", -1), ("item_init", "")]
)
def test_ranges(key: str, value: object) -> None:
    node = {"_target_": "recdistill.models.fit.Fit", key: value}
    assert [problem.key for problem in check_nodes(node, "student.fit")] == [f"student.fit.{key}"]
