"""What the notes of a run say of rows that are not in the table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from recdistill.data.features import Features
from recdistill.data.interactions import Examples, TableDataset
from recdistill.data.parts import EARLIER_PAIR, NO_HISTORY
from recdistill.stages.summary import notes


def test_rows_of_unknown_users_are_counted(tmp_path: Path) -> None:
    part = Examples(torch.tensor([1.0, 0.0]), Features())
    data = TableDataset(train=part, valid=part, test=part, report={}, manifest={}, fingerprint="")
    lost = {"valid": {NO_HISTORY: 3, EARLIER_PAIR: 1}, "test": {NO_HISTORY: 7, EARLIER_PAIR: 2}}
    assert notes({}, data, 0, tmp_path) == []
    said = notes({}, replace(data, report={"lost": lost}), 0, tmp_path)
    assert said == ["7 test rows are of users without training data; they are left out"]
    assert notes({}, replace(data, report={"lost": {"test": {NO_HISTORY: 0}}}), 0, tmp_path) == []
