"""Lists with confidences, and vectors of texts in the loss, from the command line to the table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file

Cli = Callable[..., int]
FILE = ("teacher=files", "teacher.path=lists.csv", "teacher.rank=rank", "distiller=dllm2rec")
SURE = ("teacher.confidence=sure", "distiller.dllm2rec.confidences=given")


@pytest.fixture
def written(tmp_path: Path) -> None:
    """Ranked lists of most users, as a language model's answers may look."""
    rng = np.random.default_rng(0)
    items = rng.permuted(np.tile(np.arange(60), (70, 1)), axis=1)[:, :8]
    pl.DataFrame({
        "user": [f"u{user:05}" for user in range(70) for _ in range(8)], "rank": list(range(1, 9)) * 70,
        "item": [f"i{item:05}" for item in items.flat], "sure": rng.random(560).round(3),
    }).write_csv(tmp_path / "lists.csv")  # fmt: skip


def metrics(run: str) -> dict[str, dict[str, float]]:
    found = json.loads(Path(f"outputs/{run}/metrics.json").read_text())["models"]
    return {name: model["metrics"] for name, model in found.items()}


@pytest.mark.usefixtures("written")
def test_written_lists_teach_by_their_confidences(cli: Cli) -> None:
    """Live as stored; and with the softmax of the ranks' scores it is another student."""
    for signals in ("stored", "live"):
        assert cli("distill", *FILE, *SURE, f"signals={signals}", f"run.name={signals}") == 0
    assert cli("distill", *FILE, "run.name=scores") == 0
    (folder,) = (file.parent for file in Path("outputs/cache").glob("signals/*/signals.json")
                 if json.loads(file.read_text())["needs"]["confidences"])  # fmt: skip
    tensors = load_file(folder / "signals.safetensors")
    assert tensors["top_confidences"].shape == tensors["top_items"].shape
    stored, live, scores = (metrics(run)["student distilled"] for run in ("stored", "live", "scores"))
    assert stored["ndcg@10"] == pytest.approx(live["ndcg@10"], abs=1e-6)
    assert stored != scores


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*FILE, "distiller.dllm2rec.confidences=given"), "GivenLists has no confidences beside its lists"),
        (("distiller=dllm2rec", "distiller.dllm2rec.confidences=given"), "MF has no confidences beside its lists"),
        ((*FILE, "teacher.confidence=sur"), "sur"),
        ((*FILE, "distiller.dllm2rec.confidences=sure"), "confidences"),
        (("distiller=[topk_kl,rlmrec]", "distiller.rlmrec.vectors=text"), "rlmrec needs vectors of the items"),
    ],
)
@pytest.mark.usefixtures("written")
def test_what_is_refused(words: tuple[str, ...], said: str, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("distill", *words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("task", ["ranking", "sequence"])
@pytest.mark.parametrize("mode", ["contrastive", "generative"])
def test_vectors_of_the_data_beside_a_teacher(task: str, mode: str, cli: Cli, tmp_path: Path) -> None:
    """Served, the student needs no vectors."""
    ids = [f"i{n:05}" for n in range(60)]
    np.save(tmp_path / "given.npy", np.random.default_rng(1).normal(size=(60, 6)).astype(np.float32))
    (tmp_path / "given.ids").write_text("\n".join(ids) + "\n", encoding="utf-8")
    words = ["encode=vectors", "data.encode.vectors.file=given.npy", "distiller=[topk_kl,rlmrec]"]
    words += ["distiller.rlmrec.vectors=vectors", f"distiller.rlmrec.mode={mode}"]
    if task == "sequence":
        words += ["task=sequence", "teacher=sasrec", "student=sasrec", "teacher.net.dim=8", "student.net.dim=4",
                  "teacher.fit.epochs=1", "student.fit.epochs=2"]  # fmt: skip
    assert cli("distill", *words, "run.name=it") == 0
    assert "student distilled" in metrics("it")
    for file in Path("outputs/cache").glob("student/*/model.safetensors"):
        assert not [name for name in load_file(file) if "content" in name or "maps" in name]


def reviews(file: Path, seed: int, start: int, stop: int) -> None:
    """600 reviews in the order of time; the stars of those from ``start`` to ``stop`` depend on the seed."""
    rng = np.random.default_rng(0)
    stars = rng.integers(1, 6, 600)
    stars[start:stop] = np.random.default_rng(seed).integers(1, 6, stop - start)
    pair = rng.permutation(60 * 60)[:600]
    pl.DataFrame({"user": [f"u{n}" for n in pair // 60], "item": [f"i{n}" for n in pair % 60], "rating": stars,
                  "time": np.arange(600)}).write_csv(file)  # fmt: skip


def test_sentiment_is_that_of_training_reviews_alone(cli: Cli, tmp_path: Path) -> None:
    """Other stars in validation and test: the same student. In training: another one."""
    words = ["data=csv", "data.path=log.csv", "data.value=rating", "data.time=time"]
    words += ["distiller=[topk_kl,aux_sentiment]", "distiller.aux_sentiment.weight=5"]
    found = []
    for number, changed in enumerate([(1, 480, 600), (2, 480, 600), (2, 0, 200)]):
        reviews(tmp_path / "log.csv", *changed)
        assert cli("distill", *words, f"run.name=r{number}", f"cache=cache{number}") == 0
        found.append(metrics(f"r{number}")["student distilled"])
        history = [json.loads(file.read_text()) for file in Path(f"cache{number}").glob("student/*/history.json")]
        (logged,) = [epochs for epochs in history if "aux_sentiment" in json.dumps(epochs)]
        assert "aux_sentiment.accuracy" in json.dumps(logged)
    assert found[0] == found[1]
    assert found[0] != found[2]
