"""A miniature of conf/ and a plug-in whose classes its targets name: what the config and CLI tests run on."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).resolve().parents[1]

DEFAULTS: list[Any] = [
    "_self_",
    {"data": "synthetic"},
    {"task": "ranking"},
    {"teacher": "lightgcn"},
    {"student": "mf"},
    {"distiller": "soft_label"},
    {"compression": "none"},
    {"trainer": "auto"},
    {"logger": "csv"},
    {"baselines": "default"},
    {"experiment": None},
    {"override hydra/job_logging": "recdistill"},
    {"override hydra/hydra_logging": "recdistill"},
]

FILES = {
    "data/synthetic.yaml": "# A made-up data set\n_target_: miniparts.Data\npath: null\nrows: 100\n",
    "data/csv.yaml": "# A CSV file of yours\n_target_: miniparts.Data\npath: ???\nrows: 1\n",
    "task/ranking.yaml": "# Order the catalogue\n_target_: recdistill.tasks.ranking.Ranking\nmetric: ndcg@10\n",
    "teacher/lightgcn.yaml": "# A graph model\nnet:\n  _target_: miniparts.Net\n  dim: 64\n",
    "student/mf.yaml": "# Matrix factorisation\nnet:\n  _target_: miniparts.Net\n  dim: 8\n",
    "distiller/soft_label.yaml": "# Soft labels\nsoft_label:\n  _target_: miniparts.Kd\n  weight: 1.0\n",
    "distiller/rrd.yaml": "# Relaxed ranking\nrrd:\n  _target_: miniparts.Kd\n  weight: 1.0\n",
    "distiller/none.yaml": "# No teacher\n{}\n",
    "compression/none.yaml": "# Nothing\n{}\n",
    "trainer/auto.yaml": "# What is there\nbatch: 1\n",
    "logger/csv.yaml": "# CSV files\ncsv:\n  _target_: miniparts.Kd\n",
    "baselines/default.yaml": "# Popularity\npop:\n  net:\n    _target_: miniparts.Net\n    dim: 1\n",
    "experiment/paper/rrd.yaml": "# @package _global_\n# A paper\ndefaults:\n"
    "  - override /distiller: rrd\nalpha: 0.9\n",
}

PLUGIN = """
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from json import dumps as alias


class Data:
    def __init__(self, path: str | None, rows: Annotated[int, Ge(1)], label_fraction: float = 1.0, privileged=()): ...


class Net:
    def __init__(
        self,
        schema,
        dim: Annotated[int, Ge(1)],
        act: Literal["relu", "gelu"] = "relu",
        dropout: Annotated[float, Ge(0), Le(1)] = 0.0,
        sizes: tuple[int, ...] = (),
        inner: object = None,
    ): ...


class Kd:
    def __init__(self, weight: float = 1.0, alpha: float | None = None): ...
"""

STAGES = """
import logging, sys, types
from recdistill.errors import DivergedError, InputError

def run(cfg, folder):
    logging.getLogger("recdistill").info("seed %s", cfg.seed)
    (folder / "seen.txt").write_text(str(cfg.student.net.dim), encoding="utf-8")
    kinds = {7: ValueError("bad seed"), 8: DivergedError("nan"), 9: OSError(28, "No space left"),
             10: MemoryError(), 11: KeyboardInterrupt(), 12: InputError("no", fix="yes")}
    if cfg.seed in kinds:
        raise kinds[cfg.seed]
    if cfg.seed == 13:
        import os, signal
        os.kill(os.getpid(), signal.SIGTERM)

def finish(folder):
    print("joint table of", folder.name)
    return 0

verbs, grid = types.ModuleType("recdistill.stages.verbs"), types.ModuleType("recdistill.stages.grid")
verbs.run = run
verbs.check = lambda cfg, folder: 0
grid.finish = finish
sys.modules[verbs.__name__], sys.modules[grid.__name__] = verbs, grid
"""

LAUNCHER = """
import sys
from pathlib import Path
from recdistill.config import locate
locate.conf_dir = lambda: Path({conf!r})
{stages}
from recdistill.cli import main
sys.exit(main())
"""


def write_tree(folder: Path, files: dict[str, str]) -> Path:
    """Write text files below a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def make_conf(folder: Path) -> Path:
    """The shipped top-level values and Hydra bits with miniature groups."""
    shutil.copytree(REPO / "conf" / "hydra", folder / "hydra")
    shipped = yaml.safe_load((REPO / "conf" / "config.yaml").read_text(encoding="utf-8"))
    config = yaml.safe_dump(shipped | {"defaults": DEFAULTS}, sort_keys=False)
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    return write_tree(folder, FILES)


def make_launcher(file: Path, conf: Path) -> list[str]:
    """A command that is ``recdistill`` on the miniature conf and with fake stages."""
    file.write_text(LAUNCHER.format(conf=str(conf), stages=STAGES), encoding="utf-8")
    return [sys.executable, str(file)]
