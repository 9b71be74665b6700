"""Models of every task as programs of ExecuTorch, asked in a process without this package, against a loop over the
scores of the evaluator's own path."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from answers_kit import data_of, task_of, walks
from contract_kit import node

from recdistill.errors import InputError
from recdistill.export.bundle import load_model, save_model
from recdistill.export.edge import PROGRAM, one_of
from recdistill.export.packing import Codec
from recdistill.models.base import ClosedFormModel
from recdistill.models.build import build
from recdistill.stages.export import EXPORT, export, subject_of

pytest.importorskip("executorch", reason="pip install 'recdistill[edge]'")

K = 20
BARE = """
import sys
import numpy as np
import torch
from executorch.runtime import Runtime
method = Runtime.get().load_program(sys.argv[1]).load_method("forward")
found = method.execute([torch.from_numpy(part) for part in np.load(sys.argv[2]).values()])
assert "recdistill" not in sys.modules
np.savez(sys.argv[3], *[part.numpy() for part in found])
"""


def data(task: str) -> Any:
    return walks() if task == "ranking" else data_of(task)


def saved(task: str, option: str, folder: Path, bits: int | None) -> Path:
    torch.manual_seed(0)
    model = build(node("model", option), task_of(task).schema(data(task)))
    model.bind(data(task).train)
    if isinstance(model, ClosedFormModel):
        model.fit(data(task).train)
    state = model.eval().state_dict()
    coded = [name for name, part in state.items() if bits and part.dim() > 1 and len(part) > 1]
    codecs = {name: Codec(bits) for name in coded} if bits else {}
    save_model(folder, model, node("model", option), codecs=codecs, data=data(task).fingerprint)
    return folder


def run(task: str, model_folder: Path, tmp_path: Path, **settings: Any) -> list[dict[str, Any]]:
    cfg = {"export": {"executorch": {"_target_": "recdistill.export.edge.ExecuTorch", "k": K, **settings}}}
    return export(cfg, task_of(task), data(task), model_folder, tmp_path / "run", None)


@pytest.mark.parametrize(
    ("task", "option", "bits"),
    [("ranking", "mf_tiny", None), ("ranking", "mf_tiny", 8), ("ranking", "multvae_tiny", None),
     ("sequence", "sasrec_tiny", 8), ("sequence", "gru4rec_tiny", None),
     ("rating", "biased_mf", None), ("classification", "cnn_tiny", None)],
)  # fmt: skip
def test_a_program_answers(task: str, option: str, bits: int | None, tmp_path: Path) -> None:
    model_folder = saved(task, option, tmp_path / "model", bits)
    (said,) = run(task, model_folder, tmp_path)
    file = tmp_path / "run" / EXPORT / PROGRAM
    assert said["bytes"] == file.stat().st_size
    assert said["parity"]["queries"] > 10
    model = load_model(model_folder, data(task).train)
    queries = subject_of(task_of(task), data(task), model_folder).queries
    asked = torch.tensor([7])
    inputs = one_of(queries.inputs(asked), 0, said["lengths"], model.schema.n_items)
    np.savez(tmp_path / "asked.npz", **{name: part.numpy() for name, part in inputs.items()})
    words = [sys.executable, "-c", BARE, str(file), str(tmp_path / "asked.npz"), str(tmp_path / "found.npz")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = list(np.load(tmp_path / "found.npz").values())
    with torch.no_grad():
        wanted = queries.expected(asked)
    if queries.predict is not None:
        np.testing.assert_allclose(found[0], wanted, atol=1e-4)
        return
    best = sorted((-float(score), item) for item, score in enumerate(wanted[0]) if score > -torch.inf)[:K]
    np.testing.assert_allclose(found[0][0, : len(best)], [-score for score, _ in best], rtol=1e-4, atol=1e-4)
    assert found[1][0, len(best) :].tolist() == [-1] * (min(K, model.schema.n_items) - len(best))
    np.testing.assert_allclose(wanted[0, found[1][0, : len(best)]], [-score for score, _ in best], rtol=1e-4, atol=1e-4)


def test_small_weights_stay_small(tmp_path: Path) -> None:
    (plain,) = run("ranking", saved("ranking", "mf", tmp_path / "plain", None), tmp_path)
    (small,) = run("ranking", saved("ranking", "mf", tmp_path / "small", 8), tmp_path)
    assert small["bytes"] < 0.5 * plain["bytes"]


def test_too_short_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="items to leave out"):
        run("ranking", saved("ranking", "mf_tiny", tmp_path / "model", None), tmp_path, longest=2)
    assert not (tmp_path / "run" / EXPORT).exists()


def test_models_that_read_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be exported"):
        run("ctr", saved("ctr", "dcnv2_tiny", tmp_path / "model", None), tmp_path)
    assert not (tmp_path / "run" / EXPORT).exists()
