"""The page: self-contained, complete, and honest in its headline."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from recdistill.reporting import charts, page, svg
from recdistill.reporting.data_facts import data_facts, flat, moment
from recdistill.reporting.headline import headline
from recdistill.reporting.write import write_reports

Summary = dict[str, Any]


class _Elements(HTMLParser):
    """Every start tag with its attributes, and that each is closed."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "use", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.fixture
def run(tmp_path: Path, summary: Summary, history: list[dict[str, Any]]) -> Path:
    for name in ("teacher", "alone", "student"):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        (folder / "history.json").write_text(json.dumps(history))
    write_reports(tmp_path, summary)
    return tmp_path


def test_writes_every_file_and_leaves_no_temporary(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names == {"models", "summary.csv", "table.md", "table.tex", "report.html"}


def test_loads_nothing(run: Path) -> None:
    text = (run / "report.html").read_text()
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    parsed = _Elements(text)
    assert parsed.open == []
    assert not {tag for tag, _ in parsed.tags} & {"script", "img", "link", "iframe", "image"}
    links = [attrs.get(name) for _, attrs in parsed.tags for name in ("src", "href", "xlink:href")]
    assert all(link.startswith("#") for link in links if link)
    assert all(url.startswith("#") for url in re.findall(r"url\(([^)]*)\)", text))


def test_is_small_and_holds_everything(run: Path) -> None:
    text = (run / "report.html").read_text()
    assert len(text) < 300_000
    for part in (
        "9f2c41d07a",
        "c0ffee12",
        "hash-of-student",
        "2.6.0",
        "AMD EPYC",
        "988,129",
        "not in a git checkout",
    ):
        assert part in text, part
    assert "recdistill run experiment=quickstart &#39;distiller=[rrd]&#39; seed=1" in text
    assert text.count("<svg") == 2 + 3
    for label in ("soft label", "task", "NDCG@10", "teacher-int8", "bytes on disk (log)"):
        assert f">{label}</text>" in text, label


def test_ids_are_unique_and_references_resolve(run: Path) -> None:
    text = (run / "report.html").read_text()
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]*)\)", text)) | set(re.findall(r'href="#([^"]*)"', text)) <= set(ids)


def test_charts_follow_the_page_colours(run: Path) -> None:
    text = (run / "report.html").read_text()
    assert svg.INK not in text
    assert "currentColor" in text
    assert not re.search(r"(fill|stroke): #(000000|ffffff)", text)
    assert "DejaVu" not in text


def test_names_cannot_act(summary: Summary, tmp_path: Path) -> None:
    evil = "</svg><script>alert(1)</script>\x1b[31m\n$x"
    summary["rows"][3]["name"] = summary["run"] = summary["data"]["name"] = evil
    summary["notes"] = summary["data"]["report"]["warnings"] = [evil]
    summary["command"] = evil
    write_reports(tmp_path, summary)
    text = (tmp_path / "report.html").read_text()
    assert "<script" not in text
    assert "\x1b" not in text
    assert _Elements(text).open == []


def test_without_matplotlib_says_what_to_install(
    summary: Summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    write_reports(tmp_path, summary)
    text = (tmp_path / "report.html").read_text()
    assert "pip install &#34;recdistill[plots]&#34;" in text
    assert "<svg" not in text
    assert "93.1 [91.0, 95.2]" in text


def test_a_row_cannot_read_outside_of_the_run(summary: Summary, tmp_path: Path) -> None:
    (tmp_path / "history.json").write_text("[]")
    run = tmp_path / "run"
    run.mkdir()
    summary["rows"][0]["folder"] = ".."
    assert page.histories(run, summary) == {}


def test_frontier_drops_what_is_beaten() -> None:
    assert charts.frontier([(10, 0.2), (20, 0.1), (30, 0.3), (30, 0.25), (40, 0.3)]) == [0, 2]


def test_palette_reads_on_white_and_near_black() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for colour in svg.PALETTE:
        light, dark = luminance(colour) + 0.05, luminance("#121518") + 0.05
        assert 1.05 / light >= 3
        assert light / dark >= 3


def test_headline_better(summary: Summary) -> None:
    found = headline(summary)
    assert found.lead == "The student keeps 93.1 % [91.0, 95.2] of the teacher's NDCG@10 in 1/16 of the bytes."
    assert found.details == [
        "Distillation made it significantly better than the same student trained alone"
        " (NDCG@10 0.3812 against 0.3644, p < .001)."
    ]


def test_headline_of_a_student_that_was_compressed_without_a_teacher(summary: Summary) -> None:
    """Rounding may well help; nothing was distilled."""
    rows = [row | {"role": "compressed"} if row["role"] == "student" else row for row in summary["rows"]]
    said = " ".join(headline({**summary, "rows": rows}).sentences)
    assert "Distillation made" not in said
    assert "than the same student trained alone" in said


def test_headline_not_better_than_alone(summary_with: Callable[..., Summary]) -> None:
    found = headline(summary_with(student=0.3651, p=0.31))
    assert "but is not significantly better than the same student trained alone" in found.lead
    assert "p = .310" in found.lead
    assert found.details == ["What it keeps is not shown to come from the teacher."]


def test_headline_worse_than_alone(summary_with: Callable[..., Summary]) -> None:
    assert "significantly worse than" in headline(summary_with(student=0.34, p=0.01)).lead


@pytest.mark.parametrize(
    ("value", "p", "words"),
    [
        (0.4093, 0.2, "not significantly better than"),
        (0.3644, 0.001, "no better than"),
        (0.35, 0.2, "no better than"),
        (0.35, None, "no better than"),
        (0.35, 0.001, "worse than"),
    ],
)
def test_headline_teacher_not_better(
    summary_with: Callable[..., Summary], value: float, p: float | None, words: str
) -> None:
    summary = summary_with(teacher_p=p)
    summary["rows"][0]["metrics"]["ndcg@10"] = value
    found = headline(summary)
    assert found.lead.startswith(f"The teacher is {words} the student trained alone")
    assert "says little" in found.lead
    assert ("too small to tell" in found.lead) == words.startswith("not significantly")
    assert any("keeps" in sentence for sentence in found.details) == (value >= 0.3644)


@pytest.mark.parametrize(
    ("student", "p", "verdict"),
    [
        (0.3651, 0.632, "not significantly better than the same student trained alone"),
        (0.36, 0.632, "not significantly better than the same student trained alone"),
        (0.34, 0.01, "significantly worse than the same student trained alone"),
    ],
)
def test_headline_student_of_a_teacher_that_is_worse(
    summary_with: Callable[..., Summary], student: float, p: float, verdict: str
) -> None:
    summary = summary_with(student=student, p=p, teacher_p=0.001)
    summary["rows"][0]["metrics"]["ndcg@10"] = 0.35
    test = f"(NDCG@10 {student:.4f} against 0.3644, p = {f'{p:.3f}'[1:]})"
    assert headline(summary).details == [f"The distilled student is {verdict} {test}."]


def test_headline_without_a_student_alone(summary: Summary) -> None:
    summary["rows"] = [row for row in summary["rows"] if row["role"] != "alone"]
    assert "what distillation added is not known" in headline(summary).details[-1]


def test_headline_without_distillation(summary: Summary) -> None:
    summary["rows"] = summary["rows"][-1:]
    assert headline(summary).lead == "popularity reaches NDCG@10 0.2107 on ml-1m."
    summary["rows"] = []
    assert headline(summary).lead == "No model was evaluated on ml-1m."


def test_a_teacher_below_a_baseline_is_a_warning(summary: Summary) -> None:
    assert page.warnings(summary) == []
    summary["rows"][-1]["metrics"]["ndcg@10"] = 0.42
    (warning,) = page.warnings(summary)
    assert warning.startswith("the teacher is below the baseline popularity (NDCG@10 0.4093 against 0.4200)")


def test_a_big_run_stays_small(
    summary: Summary, row_with: Callable[..., dict[str, Any]], history: list[dict[str, Any]]
) -> None:
    terms = {f"train/term_{i}": 0.5 for i in range(6)}
    long = [{**history[i % 30], **terms, "epoch": i} for i in range(300)]
    summary["rows"] += [row_with(f"student-{i}", "student", 0.3 + i / 200, 10**5 * (i + 1)) for i in range(20)]
    histories = {row["name"]: long for row in summary["rows"]}
    text = page.run_page(summary, histories)
    assert len(text) < 500_000
    assert text.count("<svg") == 2 + page.MAX_CURVES


def test_facts_are_flat_and_readable() -> None:
    content = {
        "rows": {"read": 1000209},
        "density": 0.008510922127,
        "cut_times": {"test": 1719248967},
        "note": "",
        "min_value": None,
        "strict": True,
    }
    content["filters"] = [{"name": "k_core", "lost": 3}]
    assert dict(flat(content)) == {
        "rows read": "1,000,209",
        "density": "0.00851092",
        "cut times test": "1719248967",
        "strict": "yes",
        "filters 1 name": "k_core",
        "filters 1 lost": "3",
    }


def test_the_files_read_as_a_person_would() -> None:
    log = {"rows": 31900, "users": 2000, "items": 1500, "values": {"1": 900, "4.5": 31000}, "times": [0, 1713513245]}
    report = {"log": log, "features": {"item": {"genre": "multi", "price": "numeric"}}, "time_unit": "s"}
    assert data_facts({"report": report})[0][1] == [
        ("in the files", "2,000 users, 1,500 items, 31,900 rows"),
        ("values", "1: 900, 4.5: 31,000"),
        ("times", "1970-01-01 00:00:00 UTC to 2024-04-19 07:54:05 UTC"),
        ("item features", "genre (multi), price (numeric)"),
    ]
    assert data_facts({"report": {"log": {"rows": 7, "values": [-1.5, 20.0], "times": [3, 9]}}})[0][1] == [
        ("in the files", "7 rows"),
        ("values", "-1.5 to 20"),
        ("times", "3 to 9"),
    ]


def test_data_reads_as_a_person_would() -> None:
    split, cuts = {"name": "GlobalTemporal", "valid": 0.1, "test": 0.1}, {"valid": 1713513245}
    both = {"source": "a.csv", "split": split, "leaks_time": False, "cut_times": cuts}
    report = {
        **both,
        "rows_read": 31900,
        "dropped": {"no user": 0},
        "note": "",
        "time_unit": "s",
        "filters": [{"filter": "repeats=first", "rows": [31900, 31893], "users": [2000, 2000]}],
        "users": 1999,
        "density": 0.00851,
        "median_history": 12.0,
        "parts": {"test": {"rows": 3184, "users": 848, "cold_rows": 0, "cold_items": 2}},
        "lost": {"test": {"user without training history": 1006, "pair of an earlier part": 0}},
        "n_cold_items": 0,
        "warnings": ["is shown above"],
    }
    manifest = {**both, "filters": {"k_core": 0}, "split_note": "", "parts": {"test": "a9e39c"}, "cold_items": "7ebb"}
    found = data_facts({"name": "Synthetic", "fingerprint": "6f7c", "report": report, "manifest": manifest})
    assert found == [
        (
            "Data",
            [
                ("name", "Synthetic"),
                ("fingerprint", "6f7c"),
                ("source", "a.csv"),
                ("split", "GlobalTemporal, valid 0.1, test 0.1"),
                ("leaks time", "no"),
                ("valid starts", "2024-04-19 07:54:05 UTC"),
                ("rows read", "31,900"),
                ("filter repeats=first", "31,900 → 31,893 rows"),
                ("users", "1,999"),
                ("density", "0.851 % of user-item pairs are in train"),
                ("median user", "12 training rows"),
                ("test part", "3,184 rows, 848 users, 2 cold items"),
                ("left out of test", "1,006 × user without training history"),
                ("cold items", "0"),
            ],
        ),
        ("Data manifest", [("hash of part test", "a9e39c"), ("hash of cold items", "7ebb")]),
    ]


@pytest.mark.parametrize(
    ("time", "unit", "text"),
    [(1713513245123, "ms", "2024-04-19 07:54:05 UTC"), (42, None, "42"), (10**18, "s", str(10**18))],
)
def test_times_without_a_date_stay_numbers(time: int, unit: str | None, text: str) -> None:
    assert moment(time, unit) == text


def test_curves_show_the_metric_of_the_run_only(history: list[dict[str, Any]]) -> None:
    for entry in history:
        entry.update({f"valid/map@{k}": 0.1 for k in range(20)})
    drawn = charts.curves(history, "student", "c", ["ndcg@10"])
    assert ">NDCG@10</text>" in drawn
    assert "MAP@" not in drawn
    assert charts.curves([], "student", "c") == ""
