"""Rows of raw values are predicted as the task's evaluation does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from serving_kit import MODELS, Client, data

from recdistill.data.rows import Rows
from recdistill.export.bundle import load_model
from recdistill.serving.table import BadValueError, Columns
from recdistill.stages.export import subject_of

N = 17


def raw(task: str, n: int = N) -> list[dict[str, Any]]:
    """Rows of the validation part with the values that they came with."""
    features = data(task).valid.features
    rows: list[dict[str, Any]] = [{} for _ in range(n)]
    words = features.vocabularies
    for at, row in enumerate(rows):
        row |= {name: str(words[name][codes[at]]) for name, codes in features.categorical.items()}
        row |= {name: float(numbers[at]) for name, numbers in features.numeric.items()}
        row |= {name: vectors[at].tolist() for name, vectors in features.vector.items()}
        for name, sets in features.multi.items():
            row[name] = [str(words[name][code]) for code in sets.indices[sets.indptr[at] : sets.indptr[at + 1]]]
    return rows


@pytest.mark.parametrize("name", ["clicks", "bags", "digits"])
def test_raw_values_are_predicted_as_in_evaluation(name: str, client: Client, bundles: dict[str, Path]) -> None:
    from serving_kit import task_of

    task = MODELS[name][0]
    queries = subject_of(task_of(task), data(task), bundles[name].parent / "model").queries
    status, said = client.post("/v1/score", {"model": name, "rows": raw(task)})
    assert status == 200, said
    with torch.no_grad():
        np.testing.assert_allclose(said["predictions"], queries.expected(torch.arange(N)), atol=1e-5)


def test_requests_together_are_answered_as_alone(client: Client) -> None:
    rows = raw("ctr")
    bodies = [json.dumps({"model": "bags", "rows": part}).encode() for part in (rows[:1], rows[1:6], [{}], rows[6:8])]

    async def together() -> list[Any]:
        return await asyncio.gather(*(client.ask("POST", "/v1/score", body) for body in bodies))

    for body, (status, said) in zip(bodies, client.run(together()), strict=True):
        assert status == 200
        alone = client.post("/v1/score", body)[1]
        np.testing.assert_allclose(said["predictions"], alone["predictions"], atol=1e-6)


def test_what_is_missing_or_unknown_is_what_training_made_of_it(client: Client, bundles: dict[str, Path]) -> None:
    model = load_model(bundles["clicks"].parent / "model", data("ctr").train)
    with torch.no_grad():
        features = data("ctr").schema.features
        nothing = Rows(torch.zeros(1, len(features["categorical"]), dtype=torch.int64),
                       torch.zeros(1, len(features["numeric"])),
                       Rows.of(data("ctr").valid.features, len(data("ctr").valid)).multi)  # fmt: skip
        empty = {name: type(sets)(torch.zeros(2, dtype=torch.int64), sets.indices[:0])
                 for name, sets in nothing.multi.items()}  # fmt: skip
        wanted = float(torch.sigmoid(model(Rows(nothing.categorical, nothing.numeric, empty))))
    for row in ({}, {"genre": "never seen", "tags": ["nor", "these"]}, {"genre": None, "number": None, "tags": None}):
        status, said = client.post("/v1/score", {"model": "clicks", "rows": [row]})
        assert status == 200
        assert said["predictions"][0] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"gender": "x"}, "gender"), ({"genre": 1.5}, "genre"), ({"genre": True}, "genre"), ({"genre": []}, "genre"),
        ({"genre": 2**70}, "genre"), ({"number": "1"}, "number"), ({"number": True}, "number"),
        ({"number": 1e300}, "number"), ({"tags": "v1"}, "tags"), ({"tags": [["v"]]}, "tags"), ({"tags": [{}]}, "tags"),
    ],
)  # fmt: skip
def test_values_that_a_feature_can_not_have(row: dict[str, Any], word: str, client: Client) -> None:
    status, said = client.post("/v1/score", {"model": "clicks", "rows": [{}, row]})
    assert status == 422
    assert word in said["error"]["what"]
    assert "row 1" in said["error"]["what"]


def test_numbers_far_from_those_of_training(client: Client) -> None:
    status, said = client.post("/v1/score", {"model": "clicks", "rows": [{"number": 1e29}]})
    assert status in (200, 422), said


def test_logarithms_are_those_of_training() -> None:
    columns = Columns({"numeric": {"x": 1}, "vector": {"v": 2}}, {}, {"x": (1.0, 2.0)}, logarithms=True)
    found = columns.encode([{"x": 99}, {"x": -99.0}, {"v": [1, 2.5]}])
    np.testing.assert_allclose(found["numeric"][:, 0], [(np.log(100) - 1) / 2, (-np.log(100) - 1) / 2, 0], rtol=1e-6)
    np.testing.assert_allclose(found["v.vector"], [[0, 0], [0, 0], [1, 2.5]])
    for wrong in ([1], [1, True], [1, float("nan")], "12", [1, "2"]):
        with pytest.raises(BadValueError, match="list of 2 numbers"):
            columns.encode([{"v": wrong}])
