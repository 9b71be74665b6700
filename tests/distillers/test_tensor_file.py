"""A file that is written a few rows at a time is what the library reads, and is mapped by whoever reads it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from distiller_parts import make_mf
from safetensors.torch import load_file, save_file
from torch import Tensor

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers import signals, stored
from recdistill.distillers.base import Needs
from recdistill.distillers.signals import compute_signals
from recdistill.distillers.stored import SIGNALS, StoredTeacher
from recdistill.distillers.tensor_file import TensorFile
from recdistill.models.neumf import NeuMF

TENSORS = {
    "half": torch.randn(5, 3).half(), "number": torch.randint(9, (5, 4), dtype=torch.int32),
    "score": torch.randn(7, 2), "flat": torch.randn(3), "wide": torch.randn(2, 3, dtype=torch.float64),
    "none": torch.zeros(0, 4), "id": torch.arange(4), "known": torch.arange(5) > 2,
    "rough": torch.randn(3, 3).bfloat16(),
}  # fmt: skip


def write(path: Path, tensors: dict[str, Tensor], size: int) -> None:
    """Last rows first."""
    with TensorFile(path, {name: (x.dtype, tuple(x.shape)) for name, x in tensors.items()}) as file:
        for name, tensor in tensors.items():
            for start in reversed(range(0, len(tensor), size)):
                file.put(name, start, tensor[start : start + size])


@pytest.mark.parametrize("size", [1, 2, 100])
def test_the_library_reads_what_was_put(tmp_path: Path, size: int) -> None:
    write(tmp_path / "ours", TENSORS, size)
    save_file(TENSORS, tmp_path / "theirs")
    ours, theirs = load_file(tmp_path / "ours"), load_file(tmp_path / "theirs")
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype
        assert torch.equal(ours[name], tensor), name
    assert (tmp_path / "ours").stat().st_size == (tmp_path / "theirs").stat().st_size


def test_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with TensorFile(tmp_path / "x", {"a": (torch.float32, (4, 2))}) as file:
        for row, part in [(3, torch.zeros(2, 2)), (0, torch.zeros(1, 3)), (0, torch.zeros(1, 2).half())]:
            with pytest.raises(AssertionError):
                file.put("a", row, part)


EVERYTHING = Needs(top_k=5, scores=True, embeddings=True, top_users=3, tails=(1.0, 0.5))


@pytest.mark.parametrize("kind", ["mf", "neumf"])
def test_answers_go_to_the_disk_as_they_come(
    schema: Schema, train: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Three queries at a time are the whole at once, and no more than three rows wait for the disk."""
    model = make_mf(schema, 1) if kind == "mf" else NeuMF(schema, dim=4, init_std=1.0)
    compute_signals(model, train, EVERYTHING, tmp_path / "whole")
    rows, put = [], TensorFile.put

    def noted(self: TensorFile, name: str, row: int, part: Tensor) -> None:
        rows.append(len(part))
        put(self, name, row, part)

    monkeypatch.setattr(TensorFile, "put", noted)
    compute_signals(model, train, EVERYTHING, tmp_path / "parts", chunk=3)
    assert max(rows) == 3
    whole, parts = (load_file(tmp_path / name / SIGNALS) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, msg=name)
    assert {"top_tail.1.0", "top_tail.0.5", "top_users", "user_vectors" if kind == "neumf" else "user_factors"} < {
        *whole
    }


def test_a_large_catalogue_has_few_queries_at_a_time(
    schema: Schema, train: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, put = [], TensorFile.put

    def noted(self: TensorFile, name: str, row: int, part: Tensor) -> None:
        sizes.append(len(part))
        put(self, name, row, part)

    monkeypatch.setattr(TensorFile, "put", noted)
    monkeypatch.setattr(signals, "MAX_CHUNK", 2 * schema.n_items)
    compute_signals(make_mf(schema, 1), train, Needs(top_k=5), tmp_path)
    assert max(sizes) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="the maps of a process are Linux's")
def test_stored_signals_are_mapped(schema: Schema, train: Interactions, tmp_path: Path) -> None:
    """Not a byte is copied, so that processes share the pages of the file: also after a step has read them."""
    compute_signals(make_mf(schema, 1), train, EVERYTHING, tmp_path)
    teacher = StoredTeacher(tmp_path)
    teacher.to(torch.device("cpu"))
    view = teacher.view(torch.arange(4))
    view.top_items(5), view.scores(), view.log_tail(3, 0.5)
    spans = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if str(tmp_path) in line:
            spans.append([int(end, 16) for end in line.split()[0].split("-")])
    for name, tensor in teacher.tensors.items():
        begin = tensor.data_ptr()
        assert any(low <= begin and begin + tensor.nbytes <= high for low, high in spans), name


@pytest.mark.parametrize(("free", "moved"), [(float("inf"), True), (1000.0, False)])
def test_a_device_without_room_gets_the_vectors_alone(
    schema: Schema, train: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, moved: bool
) -> None:
    compute_signals(make_mf(schema, 1), train, EVERYTHING, tmp_path)
    monkeypatch.setattr(stored, "free_memory", lambda _: free)
    teacher = StoredTeacher(tmp_path)
    teacher.to(torch.device("meta"))  # a device whose tensors hold nothing
    on_device = {name for name, tensor in teacher.tensors.items() if tensor.is_meta}
    assert on_device == ({*teacher.tensors} if moved else {"user_factors", "item_factors"})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("free", [float("inf"), 1000.0])
def test_rows_come_to_the_device(
    schema: Schema, train: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float
) -> None:
    compute_signals(NeuMF(schema, dim=4, init_std=1.0), train, EVERYTHING, tmp_path)
    monkeypatch.setattr(stored, "free_memory", lambda _: free)
    found: list[list[Any]] = []
    for device in (torch.device("cpu"), torch.device("cuda")):
        teacher = StoredTeacher(tmp_path)
        teacher.to(device)
        view = teacher.view(torch.tensor([4, 0], device=device))
        items = torch.tensor([3, 1], device=device)
        found.append([
            view.scores(), view.scores(items), *view.top_items(4), view.log_tail(4, 0.5), view.user_vectors(),
            view.item_vectors(items), *view.flipped(items).top_items(2), view.flipped(items).scores(),
        ])  # fmt: skip
    for ours, theirs in zip(*found, strict=True):
        assert theirs.device.type == "cuda"
        torch.testing.assert_close(theirs.cpu(), ours)
