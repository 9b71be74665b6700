"""A new part is one Python file and one YAML file, and is tested without an edit anywhere else."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

TOWER = '''
import torch
from torch import nn
from recdistill.models.base import FactorModel


class Tower(FactorModel):
    """Two towers of a table and a layer."""

    def __init__(self, schema, dim: int = 8):
        super().__init__(schema)
        self.user, self.item = nn.Embedding(schema.n_users, dim), nn.Embedding(schema.n_items, dim)
        self.layer = nn.Linear(dim, dim)

    def factors(self):
        return self.layer(self.user.weight), self.item.weight


class Liar(Tower):
    """Its scores depend on who else is in the batch."""

    def scores(self, users, items=None):
        scores = super().scores(users, items)
        return scores - scores.mean()
'''

LOSS = '''
from recdistill.distillers.base import Distiller, Needs


class Centred(Distiller):
    """Squared distance of centred scores."""

    def needs(self):
        return Needs(scores=True)

    def forward(self, student, teacher, rng):
        gap = student.scores() - teacher.scores()
        return (gap - gap.mean(-1, keepdim=True)).square().mean()
'''


def write_plugin(folder: Path) -> Path:
    def yaml(group: str, name: str, body: str) -> None:
        path = folder / "conf" / group / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"# A part of a plug-in.\n# Try: recdistill run --plugin . {group}={name}\n{body}",
            encoding="utf-8",
        )

    folder.mkdir()
    (folder / "own_towers.py").write_text(TOWER, encoding="utf-8")
    (folder / "own_losses.py").write_text(LOSS, encoding="utf-8")
    yaml("model", "own_tower", "_target_: own_towers.Tower\ndim: 8\n")
    yaml("model", "own_liar", "_target_: own_towers.Liar\ndim: 8\n")
    yaml("model", "own_typo", "_target_: own_towers.Tower\ndimm: 8\n")
    yaml("distiller", "own_centred", "own_centred:\n  _target_: own_losses.Centred\n  weight: 0.5\n")
    return folder


def outcomes(folder: Path, tmp_path: Path) -> dict[str, bool]:
    """Names of the contract tests of the plug-in's parts, and whether each passed."""
    report = tmp_path / "report.xml"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(Path(__file__).parent), "-k", "own_", "-q",
         f"--junitxml={report}", "-p", "no:cacheprovider"],
        env=os.environ | {"RECDISTILL_PLUGINS": str(folder)}, capture_output=True, text=True, timeout=200,
    check=False, )  # fmt: skip
    assert report.is_file(), done.stdout + done.stderr
    cases = ET.parse(report).getroot().iter("testcase")
    return {str(case.get("name")): case.find("failure") is None and case.find("error") is None for case in cases}


def test_parts_of_a_plug_in_are_found_and_tried(tmp_path: Path) -> None:
    found = outcomes(write_plugin(tmp_path / "plugin"), tmp_path)

    def of(part: str) -> dict[str, bool]:
        return {name: passed for name, passed in found.items() if part in name}

    assert len(of("own_tower")) >= 7
    assert all(of("own_tower").values())
    assert len(of("own_centred")) >= 6
    assert all(of("own_centred").values())
    assert not of("own_liar")["test_a_batch_is_its_users_one_by_one[own_liar]"]
    assert not of("own_typo")["test_composes_and_binds[own_typo]"]
