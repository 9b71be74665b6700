"""Re-ranking in a run: rows with accuracy and diversity, what recommend writes, what is refused before anything is
trained, and that a run can be verified."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from stage_kit import finish, start

from recdistill.stages.rerank import contents_of


def test_rows_of_a_run_and_verify(tmp_path: Path) -> None:
    words = (
        "rerank=[mmr,popularity]",
        "rerank.mmr.weight=0.3",
        "compression=[quantize]",
        "export=[bundle]",
        "run.name=a",
    )
    code, output = finish(start(tmp_path, "run", *words))
    assert code == 0, output
    summary = json.loads((tmp_path / "outputs" / "a" / "summary.json").read_text())
    rows = {row["name"]: row for row in summary["rows"]}
    last, mmr, both = rows["quantize"], rows["reranked mmr"], rows["reranked mmr + popularity"]
    assert mmr["role"] == both["role"] == "reranked"
    assert mmr["weights_hash"] == last["weights_hash"]
    assert mmr["beyond"]["diversity"] > last["beyond"]["diversity"]
    assert both["beyond"]["popularity"] < mmr["beyond"]["popularity"]
    assert mmr["metrics"] != last["metrics"]
    assert mmr["latency"]["1"]["p50_ms"] > 0
    assert {last["p_alone_holm"] is None, mmr["p_alone_holm"] is None} == {False}
    card = (tmp_path / "outputs" / "a" / "export" / "README.md").read_text()
    assert f"{last['metrics'][summary['metric']]:.4f}" in card  # the file is the model, which re-ranks nothing
    code, output = finish(start(tmp_path, "verify", "outputs/a"))
    assert code == 0, output


def items_of(file: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in csv.DictReader(file.read_text().splitlines()):
        found.setdefault(row["user"], []).append(row["item"])
    return found


def test_recommend_re_ranks(tmp_path: Path) -> None:
    base = ("recommend.model=alone", "distiller=none", "recommend.k=5")
    (tmp_path / "h.csv").write_text("user,item\nnew,i00001\nnew,i00002\n")
    rules = ("rerank=[mmr,rules]", "rerank.rules.pin=[i00007]", "rerank.rules.deny=[i00057]")
    for name, words in (("plain", ()), ("ruled", rules), ("new", (*rules, "recommend.histories=h.csv"))):
        code, output = finish(start(tmp_path, "recommend", *base, *words, f"run.name={name}"))
        assert code == 0, output
    plain, ruled, new = (
        items_of(tmp_path / "outputs" / name / "recommendations.csv") for name in ("plain", "ruled", "new")
    )
    assert any("i00057" in items for items in plain.values())
    assert not any("i00057" in items for items in ruled.values())
    first = [items[0] == "i00007" for items in ruled.values()]
    assert sum(first) > 0
    assert all("i00007" not in items or items[0] == "i00007" for items in ruled.values())
    assert all(len(items) == 5 for items in ruled.values())
    assert list(new) == ["new"]
    assert new["new"][0] == "i00007"
    assert not {"i00001", "i00002", "i00057"} & set(new["new"])


@pytest.mark.parametrize(
    ("words", "said"),
    [(("rerank=[mmr]", "rerank.mmr.weight=2"), "rerank.mmr.weight"), (("rerank=[mrr]",), "mmr"),
     (("rerank=[rules]", "rerank.rules.deny=[nothing]"), "rerank.rules.deny"),
     (("rerank=[mmr]", "task=ctr", "data=synthetic_clicks", "teacher=lr", "student=lr", "distiller=none"), "no lists")],
)  # fmt: skip
def test_what_can_not_be_is_refused_at_once(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    code, output = finish(start(tmp_path, "run", *words))
    assert code == 2, output
    assert said in output
    assert not list((tmp_path / "outputs").glob("cache/teacher/*"))


def test_a_file_of_rules_counts_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "deny.txt").write_text("i1\n")
    node = {"_target_": "recdistill.rerank.rules.Rules", "deny": str(tmp_path / "deny.txt"), "pin": None}
    first = contents_of(node)
    assert set(first) == {"deny"}
    (tmp_path / "deny.txt").write_text("i2\n")
    assert contents_of(node) != first
