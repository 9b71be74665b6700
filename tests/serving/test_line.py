"""A run that exports, then the service on its folder: the same lists as ``recdistill recommend``, of all its models."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from serving_kit import Server
from stage_kit import finish, start

K = 10


@pytest.mark.parametrize(
    "words",
    [
        ("compression=[low_rank,quantize]", "compression.low_rank.rank=3", "export_also=[teacher,student]"),
        pytest.param(("student=multvae", "student.net.dim=4", "student.fit.epochs=3"), marks=pytest.mark.slow),
        pytest.param(("task=sequence", "task.max_length=8", "teacher=sasrec", "teacher.net.dim=8",
                      "teacher.fit.epochs=2", "student=gru4rec", "student.net.dim=4", "student.net.hidden=4",
                      "student.fit.epochs=2", "compression=[quantize]"), marks=pytest.mark.slow),
    ],
    ids=["factors", "sets", "histories"],
)  # fmt: skip
def test_the_service_answers_as_the_line_recommends(words: tuple[str, ...], tmp_path: Path) -> None:
    given = (*words, "export=[bundle,onnx]")
    code, said = finish(start(tmp_path, "run", *given, "run.name=a"), 170)
    assert code == 0, said
    code, said = finish(start(tmp_path, "recommend", *given, "run.name=b", f"recommend.k={K}"), 100)
    assert code == 0, said
    lists: dict[str, list[str]] = {}
    with (tmp_path / "outputs/b/recommendations.csv").open() as file:
        for row in csv.DictReader(file):
            lists.setdefault(row["user"], []).append(row["item"])
    server = Server(tmp_path / "outputs/a")
    try:
        same = 0
        for user, items in lists.items():
            status, answer = server.ask("/v1/recommend", {"user": user, "k": K})
            assert status == 200
            same += [one["item"] for one in answer["items"]] == items
        assert same >= 0.999 * len(lists), f"{same} of {len(lists)}"
        assert len(lists) > 20
        names = server.ask("/readyz")[1]["models"]
        assert names == (["last", "student", "teacher"] if "export_also=[teacher,student]" in words else ["a"])
        for name in names:
            assert server.ask("/v1/recommend", {"user": user, "model": name})[0] == 200
    finally:
        server.stop()
