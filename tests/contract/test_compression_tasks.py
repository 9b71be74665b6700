"""Every compression pass on the student of every task, by itself and after another."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from answers_kit import TASKS, data_of, task_of, walks
from contract_kit import every, files, node
from omegaconf import OmegaConf

from recdistill.compression.base import Compressed, CompressionPass, materialised
from recdistill.errors import InputError
from recdistill.export.bundle import WEIGHTS, load_model, model_info, save_model
from recdistill.models.build import build, instantiate
from recdistill.models.tables.base import tables_of
from recdistill.stages.export import EXPORT, export, subject_of

STUDENTS = {"ranking": "mf", "sequence": "gru4rec", "ctr": "dnn", "rating": "biased_mf", "classification": "mlp"}
PASSES = [name for name in files("compression") if name != "none"]
# One option of each class: the forms of a table differ in nothing that another pass would meet.
CLASSES = list({OmegaConf.load(files("compression")[name])[name]["_target_"]: name for name in PASSES}.values())
ALL = ("prune_structured", "low_rank", "prune", "quantize")


def data(task: str) -> Any:
    return walks() if task == "ranking" else data_of(task)


@cache
def _student(task: str) -> tuple[Any, dict[str, Any]]:
    """Of the size that it has by default, untrained, with numbers that differ."""
    net = node("student", STUDENTS[task])["net"]
    torch.manual_seed(0)
    model = build(net, task_of(task).schema(data(task)))
    model.bind(data(task).train)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn(weight.shape))
    return model.eval(), net


def attempt(task: str, passes: Sequence[str]) -> Compressed | InputError:
    try:
        return compressed(task, passes)
    except InputError as refused:
        return refused


def compressed(task: str, passes: Sequence[str], **rank: int) -> Compressed:
    """What a line does: all is checked first, then applied."""
    model, net = _student(task)
    steps: list[CompressionPass] = []
    after = dict(net)
    for name in passes:
        step: CompressionPass = instantiate(node("compression", name)[name] | (rank if name == "low_rank" else {}))
        after = step.check(after, steps)
        steps.append(step)
    state = materialised(copy.deepcopy(model), net)
    for step in steps:
        state = step.apply(state)
    return state


def saved(task: str, state: Compressed, folder: Path) -> Path:
    fingerprint = data(task).fingerprint
    save_model(folder, state.model, state.net, codecs=state.codecs, clips=state.clips, data=fingerprint)
    return folder


def answers(task: str, folder: Path) -> torch.Tensor:
    queries = subject_of(task_of(task), data(task), folder).queries
    return queries.expected(torch.arange(min(queries.count, 40)))


def payload(folder: Path) -> int:
    """Bytes of the tensors, without the header of the file, which is a visible share of such small ones."""
    content = (folder / WEIGHTS).read_bytes()
    return len(content) - 8 - int.from_bytes(content[:8], "little")


@every("compression")
@pytest.mark.parametrize("task", TASKS)
def test_a_pass_on_a_student_is_stored_as_it_answers(task: str, option: str, tmp_path: Path) -> None:
    state = attempt(task, [option])
    if isinstance(state, InputError):
        assert state.fix, f"{option} refuses the student of {task} and does not say what to do"
        pytest.skip(state.what)
    whole = saved(task, materialised(*_student(task)), tmp_path / "whole")
    first = saved(task, state, tmp_path / "first")
    again: Any = load_model(first, data(task).train)
    second = saved(task, Compressed(again, model_info(first)["net"], state.codecs), tmp_path / "second")
    assert (first / WEIGHTS).read_bytes() == (second / WEIGHTS).read_bytes()
    assert torch.equal(answers(task, first), answers(task, second))
    assert model_info(first)["bytes"] == (first / WEIGHTS).stat().st_size
    if option.startswith("embedding_"):  # of tables as small as these, some take fewer bytes in another form
        shrunk = bool(tables_of(state.model))
        assert payload(first) < payload(whole) if shrunk else payload(first) == payload(whole)
    else:
        assert payload(first) < 0.95 * payload(whole)


@pytest.mark.parametrize("pair", list(itertools.permutations(CLASSES, 2)), ids="-".join)
@pytest.mark.parametrize("task", TASKS)
def test_two_passes_compose_or_are_refused_with_the_reason(task: str, pair: tuple[str, str], tmp_path: Path) -> None:
    state = attempt(task, pair)
    if isinstance(state, InputError):
        assert state.where
        assert state.fix
        return
    small = saved(task, state, tmp_path / "pair")
    assert bool(torch.isfinite(answers(task, small)).any())
    if set(pair) <= set(ALL):
        alone = [saved(task, compressed(task, [name]), tmp_path / name) / WEIGHTS for name in pair]
        assert (small / WEIGHTS).stat().st_size < 1.02 * min(file.stat().st_size for file in alone) + 500


@pytest.mark.parametrize("task", TASKS)
def test_all_passes_after_another_and_then_as_a_graph(task: str, tmp_path: Path) -> None:
    """The graph is held against the model of the file by the export itself."""
    pytest.importorskip("onnxruntime", reason="pip install 'recdistill[onnx]'")
    pytest.importorskip("onnxscript", reason="pip install 'recdistill[onnx]'")
    folder = saved(task, compressed(task, ALL, rank=2), tmp_path / "model")
    config = {"export": {"onnx": {"_target_": "recdistill.export.onnx.Onnx", "k": 10}}}
    (said,) = export(config, task_of(task), data(task), folder, tmp_path, None)
    assert said["bytes"] == (tmp_path / EXPORT / said["file"]).stat().st_size
    assert said["parity"].get("same_top_10", 1.0) == 1.0


@pytest.mark.slow
@every("compression")
@pytest.mark.parametrize("task", TASKS)
def test_each_pass_as_a_graph(task: str, option: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="pip install 'recdistill[onnx]'")
    state = attempt(task, [option])
    if isinstance(state, InputError):
        pytest.skip(state.what)
    folder = saved(task, state, tmp_path / "model")
    config = {"export": {"onnx": {"_target_": "recdistill.export.onnx.Onnx", "k": 10}}}
    (said,) = export(config, task_of(task), data(task), folder, tmp_path, None)
    assert said["parity"].get("same_top_10", 1.0) == 1.0
