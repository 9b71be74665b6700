"""The presets of a model grow with their names, and a student that is small takes one of them."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from contract_kit import files, node

from recdistill.data.interactions import Schema
from recdistill.models.build import build

SIZES = ("_tiny", "_small", "", "_large")
WIDTHS = {"dim", "hidden", "layers", "cross_layers", "rank", "channels", "dilations"}
FAMILIES = {
    name: [name + size for size in SIZES if name + size in files("model")]
    for name in files("model")
    if any(name + size in files("model") for size in SIZES if size)
}


def count(option: str, fields: int) -> int:
    """Parameters of a model of rows with so many fields, of 784 pixels, or of 500 users and 800 items."""
    codes = {"user": 500, "item": 800} | {f"field {n}": 200 for n in range(2, fields)}
    features = {"categorical": codes, "vector": {"image": 784}}
    schema = Schema(n_users=500, n_items=800, max_length=50, n_outputs=10, features=features)
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(node("model", option), schema).parameters())


def test_most_models_have_presets() -> None:
    assert {"dcnv2", "deepfm", "cnn", "mlp", "mf", "lightgcn", "sasrec", "gru4rec"} <= set(FAMILIES)


@pytest.mark.parametrize("fields", [3, 39])
@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_grow_with_their_names(family: str, fields: int) -> None:
    counts = {option: count(option, fields) for option in FAMILIES[family]}
    for (smaller, few), (larger, many) in pairwise(counts.items()):
        assert few < many, f"{smaller}: {few:,} parameters, {larger}: {many:,}"


@pytest.mark.parametrize("family", [name for name in FAMILIES if name in files("student")])
def test_a_student_has_the_size_of_a_preset(family: str) -> None:
    net = node("student", family)["net"]
    sizes = {key: net[key] for key in sorted(WIDTHS & net.keys())}
    presets = {name: node("model", name) for name in FAMILIES[family] if name != family}
    assert sizes in [{key: preset[key] for key in sizes} for preset in presets.values()]
