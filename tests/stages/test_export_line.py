"""An export at the end of a run: what is shown, what the folder holds, what is refused before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stage_kit import finish, start

from recdistill.export.manifest import open_manifest


def test_a_run_exports_its_last_model(tmp_path: Path) -> None:
    words = ("compression=[quantize]", "export=[bundle]", "run.name=a")
    code, output = finish(start(tmp_path, "run", *words))
    assert code == 0, output
    folder = tmp_path / "outputs" / "a" / "export"
    summary = json.loads((tmp_path / "outputs" / "a" / "summary.json").read_text())
    last = summary["rows"][-1]
    manifest = open_manifest(folder)
    assert manifest["weights_hash"] == last["weights_hash"]
    assert [said["file"] for said in summary["exports"]] == [said["file"] for said in manifest["exports"]]
    assert manifest["files"]["model.safetensors"]["bytes"] == last["bytes"]
    assert "exported model.safetensors" in output
    card = (folder / "README.md").read_text()
    low, high = last["ci"][summary["metric"]]
    for said in (f"{last['metrics'][summary['metric']]:.4f}", f"{low:.4f} to {high:.4f}", "GlobalTemporal", "quantize",
                 "## Limits", "recdistill"):  # fmt: skip
        assert said in card
    page = (tmp_path / "outputs" / "a" / "report.html").read_text()
    assert "Exported files" in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("student=neumf", "export=[onnx_apart]"), "no dot products"),
        (("export=[bundl]",), "bundle"),
        (("export_also=[teacher]",), "no format is chosen"),
    ],
)
def test_what_can_not_be_is_refused_at_once(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    if "onnx" in words[-1]:
        pytest.importorskip("onnxruntime", reason="pip install 'recdistill[onnx]'")
    code, output = finish(start(tmp_path, "run", *words))
    assert code == 2, output
    assert said in output
    assert not (tmp_path / "outputs" / "cache").exists()
