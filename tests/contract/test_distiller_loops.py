"""No distiller loops in Python over users, items or places of a list: ten times as many take no more lines.

Counted are the lines of the package that are run, between the start of an epoch and the gradients of a step; sums and
sorts inside torch are not. So a loop is found wherever it stands, and a loop over layers or groups is none.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from contract_kit import files
from torch import Tensor
from view_kit import few, loss_of, prepared, tensors

import recdistill
from recdistill.distillers.base import Distiller, Needs

PACKAGE = Path(recdistill.__file__).parent
PAIRS = [(option, task) for option in files("distiller") if option != "none" for task in few(option).tasks]
SMALL, LARGE = (60, 90), (600, 900)  # queries and items, below what is looked up at once


def lines_of(what: Callable[[], Any], where: str) -> int:
    """How many lines of files below a folder are run."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(where):
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        what()
    finally:
        sys.settrace(before)
    return count


def lines_at(distiller: Distiller, task: str, size: tuple[int, int], where: str = str(PACKAGE)) -> int:
    """Those of a first step of all queries."""
    student, teacher = (tensors(task, seed, queries=size[0], items=size[1]) for seed in (1, 11))
    users = torch.arange(size[0])
    for tensor in student.values():
        tensor.requires_grad_()

    def step() -> None:
        prepared(distiller, task, student, teacher, progress=0.5)
        loss_of(distiller, task, student, teacher, users).backward()

    return lines_of(step, where)


@pytest.mark.parametrize(("option", "task"), PAIRS)
def test_ten_times_as_many_take_no_more_lines(option: str, task: str) -> None:
    small, large = (lines_at(few(option), task, size) for size in (SMALL, LARGE))
    assert 0 < large <= small + 30, (small, large)


class ByUser(Distiller):
    """Squared distances, one user after another."""

    def needs(self) -> Needs:
        return Needs(scores=True)

    def forward(self, student: Any, teacher: Any, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        return torch.stack([(a - b).square().mean() for a, b in zip(student.scores(), teacher.scores(), strict=True)])


class ByPlace(ByUser):
    """The same, one item after another, in a lookup at the start of an epoch."""

    def start_epoch(self, moment: Any) -> None:
        n_items = moment.teacher(torch.tensor([0])).n_items
        self.order = list(map(lambda item: item, range(n_items)))  # noqa: C417

    def forward(self, student: Any, teacher: Any, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        return (student.scores()[:, self.order] - teacher.scores()[:, self.order]).square().mean(-1)


@pytest.mark.parametrize("kind", [ByUser, ByPlace])
def test_a_loop_would_be_found(kind: type[Distiller]) -> None:
    small, large = (lines_at(kind(), "ranking", size, str(Path(__file__).parent)) for size in (SMALL, LARGE))
    assert large > small + 400


HANDED = {"tolist", "numpy", "item"}  # values that leave torch, as a loop over them would want


BYTES = ("teacher.py", "tensor_file.py")  # hash or write whole tensors
FILES = [file for file in sorted((PACKAGE / "distillers").glob("*.py")) if file.name not in BYTES]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_values_leave_torch(file: Path) -> None:
    found = [
        f"{file.name}:{node.lineno} {ast.unparse(node)}"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in HANDED
    ]
    assert not found
