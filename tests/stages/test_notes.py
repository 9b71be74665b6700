"""What the notes of a run say of rows that are not in the table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from recdistill.data.features import Features
from recdistill.data.interactions import Examples, TableDataset
from recdistill.data.parts import EARLIER_PAIR, NO_HISTORY
from recdistill.stages.summary import notes, planned

MODEL = {"net": {"_target_": "recdistill.models.mf.MF", "dim": 8}, "fit": {"lr": 0.1}}
CFG = {"teacher": MODEL, "student": MODEL}
EMPTY = TableDataset(
    train=Examples(torch.tensor([1.0]), Features()), valid=Examples(torch.tensor([1.0]), Features()),
    test=Examples(torch.tensor([1.0]), Features()), report={}, manifest={}, fingerprint="",
)  # fmt: skip


def test_settings_of_the_student_alone_are_said(tmp_path: Path) -> None:
    """A rival with another learning rate is not the same student, whatever a headline calls it."""
    alone = {"fit": {"lr": 0.3}, "net": {"dim": 8}}
    (said,) = notes({**CFG, "alone": alone}, EMPTY, 0, tmp_path)
    assert said == "the student alone has settings of its own: fit.lr=0.3 (distilled: 0.1)"


def test_a_teacher_that_is_lists_says_so(tmp_path: Path) -> None:
    lists = {"net": {"_target_": "recdistill.models.given.GivenLists", "path": "lists.parquet"}}
    (said,) = notes({"teacher": lists, "student": MODEL}, EMPTY, 0, tmp_path)
    assert "its bytes are those of the answers" in said
    assert [role for _, role in planned({"teacher": lists, "student": MODEL, "alpha": 0})] == ["teacher", "alone"]


def test_rows_of_unknown_users_are_counted(tmp_path: Path) -> None:
    part = Examples(torch.tensor([1.0, 0.0]), Features())
    data = TableDataset(train=part, valid=part, test=part, report={}, manifest={}, fingerprint="")
    lost = {"valid": {NO_HISTORY: 3, EARLIER_PAIR: 1}, "test": {NO_HISTORY: 7, EARLIER_PAIR: 2}}
    assert notes(CFG, data, 0, tmp_path) == []
    said = notes(CFG, replace(data, report={"lost": lost}), 0, tmp_path)
    assert said == ["7 test rows are of users without training data; they are left out"]
    assert notes(CFG, replace(data, report={"lost": {"test": {NO_HISTORY: 0}}}), 0, tmp_path) == []
