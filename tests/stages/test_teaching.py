"""Soft labels stay with the rows that they are of, through the real stages; the experiments of teaching articles."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from task_kit import command, words_of, write_digits
from torch import Tensor
from torch.nn import functional as F

from recdistill.config.compose import compose_config, hydra_session, resolve
from recdistill.config.locate import find_sources
from recdistill.data.rows import Rows
from recdistill.export.bundle import load_model
from recdistill.models.build import build
from recdistill.stages.line import Line
from recdistill.tasks.batches import generator, mix

REPO = Path(__file__).parents[2]
SHARED = REPO.parent / "shared" / "data"
EXPERIMENTS = sorted(file.stem for file in (REPO / "conf/experiment/teaching").glob("*.yaml"))


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_digits(tmp_path / "digits")
    return tmp_path


def line_of(words: list[str], folder: Path) -> Line:
    with hydra_session(find_sources([], [])):
        return Line(resolve(compose_config(words)), folder)


@pytest.mark.parametrize("task", ["ctr", "rating", "classification"])
def test_stored_signals_are_those_of_the_training_rows(task: str, there: Path) -> None:
    """Row n of what is stored is the teacher's own answer for row n of the training part."""
    line = line_of(words_of(task, "distiller=soft_label", "teacher.fit.epochs=1"), there)
    assert line.signals is not None
    stored = load_file(line.signals / "signals.safetensors")["scores"]
    data = line.task.adapt(line.data, ("train", "valid"))
    teacher = load_model(line.teacher, data.train).eval()
    rows = Rows.of(data.train.features, len(data.train))
    with torch.no_grad():
        each = torch.stack([teacher(rows.take(torch.tensor([n]))).squeeze(0) for n in range(len(data.train))])
    answer = {"ctr": each.unsqueeze(-1), "rating": each.unsqueeze(-1), "classification": each}[task]
    torch.testing.assert_close(stored[:, 1:] if task == "ctr" else stored, answer, atol=1e-5, rtol=1e-5)
    assert answer.std(0).min() > 0.01  # or any order would do


def mlp(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    hidden = F.linear(x, weights["layers.0.weight"], weights["layers.0.bias"]).relu()
    return F.linear(hidden, weights["layers.2.weight"], weights["layers.2.bias"])


def test_a_distilled_student_is_that_of_a_plain_loop(there: Path) -> None:
    """Hinton et al.'s loss in plain PyTorch, from the teacher's weights, with a loop of its own: the same student."""
    t, alpha, lr, seed = 3.0, 0.7, 0.01, 1
    words = words_of(
        "classification", "distiller=soft_label", f"temperature={t}", f"alpha={alpha}", f"seed={seed}",
        "student.fit.epochs=1", "student.fit.schedule=constant", "student.fit.batch_size=16",
    )  # fmt: skip
    assert command("distill", words) == 0
    line = line_of(words, there)
    train = line.task.adapt(line.data, ("train", "valid")).train
    x, y = train.features.vector["image"], train.label.long()

    soft = (mlp(load_file(line.teacher / "model.safetensors"), x) / t).softmax(-1)
    torch.manual_seed(mix(seed, 0x1417))
    net = build(line.cfg["student"]["net"], line.task.schema(line.data))
    weights = dict(net.named_parameters())
    optimizer = torch.optim.Adam(weights.values(), lr=lr)
    order = torch.randperm(len(y), generator=generator("cpu", seed, 0))
    for step in order.tensor_split(-(-len(y) // 16)):
        z = mlp(weights, x[step])
        hard = -z.log_softmax(-1)[torch.arange(len(step)), y[step]].mean()
        kl = (soft[step] * (soft[step].log() - (z / t).log_softmax(-1))).sum(-1).mean()
        optimizer.zero_grad()
        ((1 - alpha) * hard + alpha * t * t * kl).backward()
        optimizer.step()

    found = load_file(line.student / "model.safetensors")
    for name, tensor in weights.items():
        torch.testing.assert_close(found[name], tensor.detach(), atol=2e-5, rtol=1e-4)
    alone = load_file(line.alone / "model.safetensors")
    assert (alone["layers.0.weight"] - found["layers.0.weight"]).abs().max() > 0.01  # it is the soft labels that count


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_teaching_experiment_runs(name: str, there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One step of every stage, of made-up digits or the real ratings."""
    folder = there / "digits"
    if name.startswith("ml100k"):
        folder = SHARED / "ml-100k"
        if not folder.is_dir():
            pytest.skip(f"{folder} is not there")
    code = command("check", [f"experiment=teaching/{name}", f"data.path={folder}", "logger=none", "trainer=cpu"])
    seen = capsys.readouterr()
    assert code == 0, seen
    assert "one step of every stage worked" in seen.out


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_teaching_experiment_says_how_to_start_it(name: str) -> None:
    text = (REPO / f"conf/experiment/teaching/{name}.yaml").read_text(encoding="utf-8")
    assert f"# Try: recdistill run experiment=teaching/{name} data.path=../shared/data/" in text
