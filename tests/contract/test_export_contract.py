"""Every model as an ONNX file, asked in a process that has ONNX Runtime and NumPy alone, against a loop over the
scores of the evaluator's own path."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from answers_kit import N_ITEMS, TASKS, data_of, serving, target, task_of, walks
from contract_kit import node

from recdistill.errors import InputError
from recdistill.export.base import Queries
from recdistill.export.bundle import WEIGHTS, load_model, model_info, save_model
from recdistill.export.graphs import QUERY, SEEN
from recdistill.export.manifest import open_manifest
from recdistill.export.names import HISTORIES, ITEMS, USERS, WORDS
from recdistill.export.onnx import ENCODER, MODEL, SCALES
from recdistill.export.onnx_int8 import OnnxInt8
from recdistill.export.packing import Codec
from recdistill.export.torch_export import PROGRAM
from recdistill.models.base import ClosedFormModel
from recdistill.models.build import build
from recdistill.models.fold_in import fold_in
from recdistill.stages.export import EXPORT, export, subject_of

pytest.importorskip("onnxruntime", reason="pip install 'recdistill[onnx]'")
pytest.importorskip("onnxscript", reason="pip install 'recdistill[onnx]'")

K = 20  # more than some users have left
QUICK = {
    "ranking": ("mf_tiny", "neumf_tiny", "multvae_tiny", "ease", "two_tower_tiny", "popularity"),
    "sequence": ("sasrec_tiny", "gru4rec_tiny"),
    "ctr": ("dcnv2_tiny", "din"), "rating": ("biased_mf",), "classification": ("cnn_tiny", "mlp_tiny"),
}  # fmt: skip
SIZES = ("_large", "_small")
ALL = [(task, option) for task in TASKS for option in serving("model", task) if not option.endswith(SIZES)]
CASES = [
    pytest.param(task, option, marks=() if option in QUICK[task] else pytest.mark.slow, id=f"{task}-{option}")
    for task, option in ALL
]
BARE = """
import sys
import numpy as np
import onnxruntime
assert not {"torch", "recdistill", "onnx"} & set(sys.modules)
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
asked = np.load(sys.argv[2])
names = [part.name for part in session.get_inputs()]
found = session.run(None, {name: asked[name] for name in names})
np.savez(sys.argv[3], **{part.name: value for part, value in zip(session.get_outputs(), found)})
"""


BARE_TORCH = """
import sys
import numpy as np
import torch
program = torch.export.load(sys.argv[1]).module()
found = program(*(torch.from_numpy(part) for part in np.load(sys.argv[2]).values()))
assert "recdistill" not in sys.modules
names = ("score", "item") if isinstance(found, tuple) else ("prediction",)
found = found if isinstance(found, tuple) else (found,)
np.savez(sys.argv[3], **{name: part.detach().numpy() for name, part in zip(names, found)})
"""


def bare(file: Path, inputs: dict[str, torch.Tensor], folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """What a file answers in a process of its own."""
    np.savez(folder / "asked.npz", **{name: part.numpy() for name, part in inputs.items()})
    script = BARE if file.suffix == ".onnx" else BARE_TORCH
    words = [sys.executable, "-c", script, str(file), str(folder / "asked.npz"), str(folder / "found.npz")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "found.npz"))


def data(task: str) -> Any:
    return walks() if task == "ranking" else data_of(task)


@cache
def model_of(task: str, option: str) -> Any:
    """Untrained, but with numbers that differ from each other."""
    torch.manual_seed(0)
    model = build(node("model", option), task_of(task).schema(data(task)))
    model.bind(data(task).train)
    if isinstance(model, ClosedFormModel):
        model.fit(data(task).train)
    return model.eval()


def saved(task: str, option: str, folder: Path, bits: Any = None) -> Path:
    model = model_of(task, option)
    codecs = {}
    if bits:
        state = model.state_dict()
        codecs = {name: Codec(bits) for name, part in state.items() if part.dim() > 1 and len(part) > 1}
    save_model(folder, model, node("model", option), codecs=codecs, data=data(task).fingerprint)
    return folder


def config(*formats: dict[str, Any]) -> dict[str, Any]:
    kinds = {
        "graph": "onnx.Onnx", "apart": "onnx.Onnx", "program": "torch_export.TorchExport", "bundle": "folder.Bundle",
    }  # fmt: skip
    nodes = {}
    for settings in formats:
        kind = settings["form"]
        own = {name: value for name, value in settings.items() if name != "form" or "Onnx" in kinds[kind]}
        nodes[kind] = {"_target_": f"recdistill.export.{kinds[kind]}", **own}
    return {"export": nodes}


def run(task: str, model_folder: Path, tmp_path: Path, *formats: dict[str, Any]) -> tuple[Path, list[dict[str, Any]]]:
    found = export(config(*formats), task_of(task), data(task), model_folder, tmp_path / "run", None)
    return tmp_path / "run" / EXPORT, found


def best_by_loop(scores: torch.Tensor, known: list[int], k: int) -> list[tuple[float, int]]:
    """The list of one user: scores and items, equal scores by item."""
    left = [(-float(score), item) for item, score in enumerate(scores) if item not in set(known)]
    return [(-score, item) for score, item in sorted(left)[:k]]


def check_lists(found: dict[str, Any], scores: torch.Tensor, seen: torch.Tensor) -> None:
    n_items = scores.shape[1]
    assert found["score"].shape == found["item"].shape == (len(scores), min(K, n_items))
    for row in range(len(scores)):
        known = [item for item in seen[row].tolist() if item < n_items]
        wanted = best_by_loop(scores[row], known, K)
        items = found["item"][row].tolist()
        shown = [item for item in items if item >= 0]
        assert len(shown) == len(set(shown)) == len(wanted)
        assert not set(shown) & set(known)
        assert items[len(wanted) :] == [-1] * (len(items) - len(wanted))
        for (value, _), item, score in zip(wanted, shown, found["score"][row].tolist(), strict=False):
            assert math.isclose(value, score, abs_tol=1e-4, rel_tol=1e-4)
            assert math.isclose(value, float(scores[row, item]), abs_tol=1e-4, rel_tol=1e-4)


def check_file(task: str, model: Any, file: Path, queries: Queries, tmp_path: Path) -> None:
    """Against the model itself, for one query and for several."""
    for asked in (torch.tensor([3]), torch.arange(5, 16)):
        inputs = queries.inputs(asked)
        found = bare(file, inputs, tmp_path)
        with torch.no_grad():
            if queries.predict is not None:
                np.testing.assert_allclose(found["prediction"], queries.expected(asked), atol=1e-5)
            else:
                check_lists(found, task_of(task).scorer(model, data(task))(asked), inputs[SEEN])


@pytest.mark.parametrize(("task", "option"), CASES)
def test_a_graph_answers_without_torch(task: str, option: str, tmp_path: Path) -> None:
    model_folder = saved(task, option, tmp_path / "model")
    folder, (said,) = run(task, model_folder, tmp_path, {"form": "graph", "k": K})
    manifest = open_manifest(folder)
    assert manifest["files"][MODEL]["bytes"] == said["bytes"] == (folder / MODEL).stat().st_size
    assert manifest["exports"] == [said]
    assert said["parity"]["max_difference"] < 1e-4
    assert said["latency"]["p50_ms"] > 0
    subject = subject_of(task_of(task), data(task), model_folder)
    check_file(task, load_model(model_folder, data(task).train), folder / MODEL, subject.queries, tmp_path)


@pytest.mark.parametrize(
    ("option", "folds"),
    [("mf", True), ("lightgcn", True), ("ials", False), ("simplex", False),
     ("neumf_tiny", False), ("ease", False)],
)  # fmt: skip
def test_a_service_folds_in_as_the_model_does(option: str, folds: bool, tmp_path: Path) -> None:
    """By the table of items where the model itself goes by its factors; not where it has a way of its own."""
    subject = subject_of(task_of("ranking"), data("ranking"), saved("ranking", option, tmp_path / "model"))
    if subject.fold_in is not None:
        loaded, history = model_of("ranking", option), data("ranking").train.csr
        vectors = fold_in(dict(subject.model.named_parameters())["item.weight"], history, **subject.fold_in)
        torch.testing.assert_close(vectors, loaded.folded(history))
    assert (subject.fold_in is not None) == folds


@cache
def plain_bytes(task: str, option: str) -> int:
    """Of the graph whose weights are float32."""
    with tempfile.TemporaryDirectory() as folder:
        _, (said,) = run(task, saved(task, option, Path(folder) / "model"), Path(folder), {"form": "graph", "k": K})
    return int(said["bytes"])


@pytest.mark.parametrize("bits", [16, "bf16", 8, 4])
@pytest.mark.parametrize(("task", "option"), [("ranking", "mf"), ("sequence", "sasrec"), ("ctr", "dcnv2_tiny")])
def test_small_weights_stay_small(task: str, option: str, bits: Any, tmp_path: Path) -> None:
    model_folder = saved(task, option, tmp_path / "model", bits)
    model = load_model(model_folder, data(task).train)
    folder, (said,) = run(task, model_folder, tmp_path, {"form": "graph", "k": K})
    subject = subject_of(task_of(task), data(task), model_folder)
    check_file(task, model, folder / MODEL, subject.queries, tmp_path)
    coded = sum(math.prod(model_info(model_folder)["shapes"][name]) for name in model_info(model_folder)["codecs"])
    saving = plain_bytes(task, option) - said["bytes"]
    assert (
        saving > 0.8 * coded * (4 - (16 if bits == "bf16" else bits) / 8) - 12_000
    )  # scales, and some nodes for each weight


@pytest.mark.parametrize("mode", ["dynamic", "static"])
@pytest.mark.parametrize(("task", "option"), [("ranking", "mf"), ("sequence", "sasrec_tiny"), ("ctr", "dcnv2_tiny")])
def test_computed_in_8_bits_it_still_agrees(task: str, option: str, mode: Any, tmp_path: Path) -> None:
    model_folder = saved(task, option, tmp_path / "model")
    subject = subject_of(task_of(task), data(task), model_folder)
    (said,) = OnnxInt8(mode, queries=32, k=K).write(subject, tmp_path)
    assert said["bytes"] == (tmp_path / said["file"]).stat().st_size
    assert max(said["parity"].get(name, 0) for name in ("overlap@10", "correlation")) > 0.95
    if option == "mf":
        assert said["bytes"] < 0.25 * (model_folder / WEIGHTS).stat().st_size + 6_000  # scales and nodes
    onnx = pytest.importorskip("onnx")
    whole = [onnx.numpy_helper.to_array(part) for part in onnx.load(tmp_path / said["file"]).graph.initializer]
    coded = [np.abs(part.astype(int)).max() for part in whole if part.dtype == np.int8 and part.size > 1]
    assert 60 <= max(coded) <= 64  # two products with an 8-bit number are at most 2 * 64 * 255 < 2^15
    kinds = {operator.op_type for operator in onnx.load(tmp_path / said["file"]).graph.node}
    assert "DequantizeLinear" in kinds or "MatMulInteger" in kinds


@pytest.mark.parametrize(
    ("task", "option", "bits"),
    [("ranking", "mf_tiny", 4), ("ranking", "multvae_tiny", None), ("sequence", "sasrec_tiny", 8),
     ("rating", "biased_mf", None), ("classification", "cnn_tiny", None)],
)  # fmt: skip
def test_a_program_answers_without_this_package(task: str, option: str, bits: int | None, tmp_path: Path) -> None:
    model_folder = saved(task, option, tmp_path / "model", bits)
    folder, (said,) = run(task, model_folder, tmp_path, {"form": "program", "k": K})
    assert said["bytes"] == (folder / PROGRAM).stat().st_size
    subject = subject_of(task_of(task), data(task), model_folder)
    check_file(task, load_model(model_folder, data(task).train), folder / PROGRAM, subject.queries, tmp_path)


def test_sizes_that_torch_fixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fixes sizes"):
        run("ctr", saved("ctr", "din", tmp_path / "model"), tmp_path, {"form": "program", "k": K})
    assert not (tmp_path / "run" / EXPORT).exists()


@pytest.mark.parametrize("bits", [None, 8])
@pytest.mark.parametrize(("task", "option"), [("ranking", "mf_tiny"), ("sequence", "gru4rec_tiny")])
def test_encoder_and_table_apart(task: str, option: str, bits: int | None, tmp_path: Path) -> None:
    model_folder = saved(task, option, tmp_path / "model", bits)
    folder, said = run(task, model_folder, tmp_path, {"form": "apart", "k": K})
    assert said[0]["file"] == ENCODER
    assert said[0]["parity"]["same_top_10"] == 1.0
    items = np.load(folder / "items.npy", allow_pickle=False)
    assert items.dtype == (np.int8 if bits else np.float32)
    assert len(items) == N_ITEMS
    table = items.astype(np.float32) * np.load(folder / SCALES)[:, None] if bits else items
    subject = subject_of(task_of(task), data(task), model_folder)
    asked = torch.arange(2, 9)
    vector = bare(folder / ENCODER, {QUERY: subject.queries.inputs(asked)[QUERY]}, tmp_path)["vector"]
    with torch.no_grad():
        wanted = task_of(task).scorer(load_model(model_folder, data(task).train), data(task))(asked)
    np.testing.assert_allclose(vector @ table.T, wanted, atol=1e-5)


@pytest.mark.parametrize("option", ["mf_tiny", "lightgcn_tiny"])
def test_a_bundle_is_whole_by_itself(option: str, tmp_path: Path) -> None:
    import polars as pl

    model_folder = saved("ranking", option, tmp_path / "model")
    folder, said = run("ranking", model_folder, tmp_path, {"form": "bundle"})
    assert {part["file"] for part in said} == {path.name for path in folder.iterdir()} - {"manifest.json"}
    whole = walks()
    assert pl.read_parquet(folder / USERS)["user"].to_list() == whole.users.tolist()
    assert pl.read_parquet(folder / ITEMS)["item"].to_list() == whole.items.tolist()
    alone = load_model(folder)  # without any data
    scores = task_of("ranking").scorer(load_model(model_folder, whole.train), whole)
    with torch.no_grad():
        torch.testing.assert_close(alone.scores(torch.arange(90)), scores(torch.arange(90)))
    pairs = pl.read_parquet(folder / HISTORIES)
    had = {(int(u), int(i)) for part in (whole.train, whole.valid) for u, i in zip(part.user, part.item, strict=True)}
    assert set(pairs.rows()) == had


def test_a_sequence_bundle_keeps_the_order(tmp_path: Path) -> None:
    import polars as pl

    folder, _ = run("sequence", saved("sequence", "sasrec_tiny", tmp_path / "model"), tmp_path, {"form": "bundle"})
    whole = walks()
    for user, own in pl.read_parquet(folder / HISTORIES).group_by("user"):
        events = [(int(part.time[at]), int(part.item[at])) for part in (whole.train, whole.valid)
                  for at in (part.user == user[0]).nonzero().flatten()]  # fmt: skip
        assert own["item"].to_list() == [item for _, item in sorted(events)]


def test_a_table_bundle_has_its_words(tmp_path: Path) -> None:
    import polars as pl

    folder, _ = run("ctr", saved("ctr", "dcnv2_tiny", tmp_path / "model"), tmp_path, {"form": "bundle"})
    words = pl.read_parquet(folder / WORDS)
    for name, known in data("ctr").train.features.vocabularies.items():
        own = words.filter(pl.col("feature") == name).sort("code")
        assert own["value"].to_list() == known.tolist()
        assert own["code"].to_list() == list(range(len(known)))


@pytest.mark.parametrize("option", ["neumf", "ease", "multvae", "popularity"])
def test_what_has_no_vectors_is_not_split(option: str) -> None:
    from recdistill.export.onnx import Onnx

    with pytest.raises(InputError, match="no dot products"):
        Onnx(form="apart").require(target("model", option), {}, "export.onnx")


@pytest.mark.parametrize(
    ("task", "kind", "options"),
    [("ranking", "RankingEnsemble", ("mf_tiny", "neumf_tiny", "mf_tiny")),
     ("sequence", "SequenceEnsemble", ("sasrec_tiny", "gru4rec_tiny")),
     ("ctr", "TableEnsemble", ("dcnv2_tiny", "lr", "fm"))],
)  # fmt: skip
def test_light_models_together_are_one_graph(task: str, kind: str, options: tuple[str, ...], tmp_path: Path) -> None:
    torch.manual_seed(3)
    net = {"_target_": f"recdistill.models.ensemble.{kind}", "_recursive_": False,
           "members": {f"m{n}": {"net": node("model", option)} for n, option in enumerate(options)}}  # fmt: skip
    model = build(net, task_of(task).schema(data(task)))
    model.bind(data(task).train)
    save_model(tmp_path / "model", model.eval(), net, data=data(task).fingerprint)
    folder, (said,) = run(task, tmp_path / "model", tmp_path, {"form": "graph", "k": K})
    assert said["parity"]["max_difference"] < 1e-4
    queries = subject_of(task_of(task), data(task), tmp_path / "model").queries
    check_file(task, load_model(tmp_path / "model", data(task).train), folder / MODEL, queries, tmp_path)


def test_an_ensemble_that_asks_for_histories_is_refused() -> None:
    from recdistill.export.onnx import Onnx
    from recdistill.models.ensemble import RankingEnsemble

    with pytest.raises(InputError, match="can't be exported") as error:
        Onnx().require(RankingEnsemble, {"combine": "rank"}, "export.onnx")
    assert "combine=zscore" in str(error.value)
    Onnx().require(RankingEnsemble, {}, "export.onnx")
