"""Every YAML of conf/data composes, binds to its constructor, and takes the keys that its header promises."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_object, instantiate

from recdistill.data.filters import Filters
from recdistill.data.prepare import prepare
from recdistill.data.sources.base import Source
from recdistill.data.splits import PerUserTemporal, Split

CONF = Path(__file__).parents[2] / "conf"
DATA = sorted(path.stem for path in (CONF / "data").glob("*.yaml"))
SPLITS = sorted(path.stem for path in (CONF / "data" / "split").glob("*.yaml"))


def composed(folder: Path, *overrides: str) -> Any:
    text = f"defaults:\n  - data: synthetic\n  - _self_\nhydra:\n  searchpath: ['file://{CONF}']\n"
    (folder / "config.yaml").write_text(text)
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose("config", list(overrides)).data


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("split", SPLITS)
def test_composes_and_binds(tmp_path: Path, name: str, split: str) -> None:
    needs_path = [] if name.startswith("synthetic") else [f"data.path={tmp_path}"]
    data = composed(tmp_path, f"data={name}", f"data/split={split}", *needs_path)
    assert isinstance(instantiate(data.source), Source)
    assert isinstance(instantiate(data.filters), Filters)
    assert isinstance(instantiate(data.split), Split)


@pytest.mark.parametrize("name", DATA)
def test_every_argument_is_in_the_yaml(tmp_path: Path, name: str) -> None:
    data = composed(tmp_path, f"data={name}")
    for node in (data.source, data.filters, data.split):
        arguments = set(inspect.signature(get_object(node._target_)).parameters)
        keys = {key for key in node if key != "_target_"}
        assert keys <= arguments
        text = {"separator", "quote", "header", "columns", "encoding"}
        left = {"parquet": text, "jsonl": text, "citeulike": {*text, "features"}}.get(name, set())
        assert arguments - keys <= left


@pytest.mark.parametrize("path", sorted((CONF / "data").rglob("*.yaml")), ids=lambda path: path.stem)
def test_header_has_a_command(path: Path) -> None:
    comment = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any("recdistill data " in line for line in comment)


def test_the_line_of_the_readme(tmp_path: Path) -> None:
    rows = "".join(f"c{n % 9},s{n % 31},{n}\n" for n in range(200))
    (tmp_path / "my.csv").write_text("customer,sku,ts\n" + rows)
    data = composed(
        tmp_path, "data=csv", f"data.path={tmp_path}/my.csv", "data.user=customer", "data.item=sku",
        "data.time=ts",
        "data/split=user_temporal", "data.split.test=0.2", "data.filters.k_core=2",
    )  # fmt: skip
    split = instantiate(data.split)
    assert isinstance(split, PerUserTemporal)
    dataset = prepare(instantiate(data.source), instantiate(data.filters), split)
    assert dataset.report["users"] == 9
    assert dataset.manifest["split"] == {"name": "PerUserTemporal", "valid": 0.1, "test": 0.2, "seed": 0}


def test_the_contract_imports_no_polars() -> None:
    code = "import sys, recdistill.data.interactions; sys.exit('polars' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
