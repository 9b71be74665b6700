"""What a run found, in plain words, and no better than it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recdistill.config.metrics import CHANCE, family, sign
from recdistill.reporting import figures
from recdistill.reporting.table import P_ALONE, Row, first, teacher_ratio

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Headline:
    """``lead`` is the one sentence to remember; ``details`` put it in proportion."""

    lead: str
    details: list[str] = field(default_factory=list)

    @property
    def sentences(self) -> list[str]:
        return [self.lead, *self.details]


def headline(summary: Mapping[str, Any]) -> Headline:
    """The headline of one run; harm by a teacher of another domain comes first."""
    found, harm = _of_run(summary), negative_transfer(summary)
    return Headline(harm, found.sentences) if harm else found


def negative_transfer(summary: Mapping[str, Any]) -> str:
    """Says that the distilled student is significantly worse than the student alone, under a teacher of another domain;
    empty where it is not."""
    student, alone = (first(summary["rows"], role) for role in ("student", "alone"))
    source, metric = summary.get("transfer"), summary["metric"]
    if not source or student is None or alone is None or not _below(student, alone, metric):
        return ""
    p = student.get(P_ALONE)
    if not figures.known(p) or float(str(p)) >= SIGNIFICANT:
        return ""
    return f"Negative transfer: the teacher of {source} made the student worse ({_against(student, alone, metric)})."


def _of_run(summary: Mapping[str, Any]) -> Headline:
    rows, metric = summary["rows"], summary["metric"]
    teacher, alone, student = (first(rows, role) for role in ("teacher", "alone", "student"))
    compressed = [row for row in rows if row.get("role") == "compressed"]
    subject = student or (compressed[0] if compressed else None)
    if teacher is None or subject is None:
        return Headline(_comparison(summary))
    kept = _kept("The student" if student else _compressed_name(subject), subject, teacher, metric)
    smaller = [_kept(_compressed_name(row), row, teacher, metric) for row in compressed if row is not subject]
    if alone is None:
        missing = "There is no student trained alone in this run, so what distillation added is not known."
        return Headline(kept, [*smaller, missing])
    verdict = _verdict(subject, alone, metric)
    if not _better(teacher, alone, metric):
        who = "The distilled student" if student else f"The compressed model ({subject['name']})"
        # A share of a teacher that is below the student alone would only look good.
        shares = [] if _below(teacher, alone, metric) else [kept, *smaller]
        return Headline(_weak_teacher(teacher, alone, metric), [f"{who} is {verdict}.", *shares])
    if _better(subject, alone, metric):
        made = "Distillation made it" if student else "It is"  # a student that was compressed alone was not distilled
        return Headline(kept, [f"{made} {verdict}.", *smaller])
    caution = "What it keeps is not shown to come from the teacher."
    return Headline(f"{kept[:-1]}, but is {verdict}.", [caution, *smaller])


def _compressed_name(row: Row) -> str:
    return f"Compressed ({row['name']}), it"


def _value(row: Row, metric: str) -> float | None:
    value = (row.get("metrics") or {}).get(metric)
    return float(value) if value is not None and figures.known(value) else None


def _gain(row: Row, other: Row, metric: str) -> float | None:
    """How much better the first is."""
    ours, theirs = _value(row, metric), _value(other, metric)
    return None if ours is None or theirs is None else sign(metric) * (ours - theirs)


def _better(row: Row, alone: Row, metric: str) -> bool:
    """Better, and significantly so where a test was made."""
    p = row.get(P_ALONE)
    if (_gain(row, alone, metric) or 0.0) <= 0:
        return False
    return not figures.known(p) or float(str(p)) < SIGNIFICANT


def _below(row: Row, alone: Row, metric: str) -> bool:
    return (_gain(row, alone, metric) or 0.0) < 0


def _kept(who: str, row: Row, teacher: Row, metric: str) -> str:
    ratio = teacher_ratio(row, teacher)
    where = f" in {figures.share(ratio)}" if ratio is not None else ""
    kept, name = row.get("kept") or {}, figures.metric_name(metric)
    reached = f"{who} reaches {name} {figures.quality(_value(row, metric))}"
    if not figures.known(kept.get("value")):
        return f"{reached}{where}."
    share = f"{figures.percent(kept['value'])} % {figures.interval(kept.get('low'), kept.get('high'))}".strip()
    if sign(metric) < 0:  # nobody wants to keep an error
        theirs = figures.quality(_value(teacher, metric))
        return f"{reached} against the teacher's {theirs} ({share} kept){where}."
    chance = " above chance" if family(metric) in CHANCE else ""
    return f"{who} keeps {share} of the teacher's {name}{chance}{where}."


def _against(row: Row, alone: Row, metric: str) -> str:
    p = row.get(P_ALONE)
    test = f", {figures.equals(p)}" if figures.known(p) else ""
    values = f"{figures.quality(_value(row, metric))} against {figures.quality(_value(alone, metric))}"
    return f"{figures.metric_name(metric)} {values}{test}"


def _verdict(row: Row, alone: Row, metric: str) -> str:
    """How the student compares with the same student without a teacher; goes after "is"."""
    baseline = f"than the same student trained alone ({_against(row, alone, metric)})"
    gain, p = _gain(row, alone, metric), row.get(P_ALONE)
    if gain is None:
        return f"neither better nor worse {baseline}: the metric is missing"
    side = "better" if gain > 0 else "worse"
    if not figures.known(p):
        return f"{side} {baseline}, without a test"
    sure = float(str(p)) < SIGNIFICANT
    return f"significantly {side} {baseline}" if sure else f"not significantly better {baseline}"


def _weak_teacher(teacher: Row, alone: Row, metric: str) -> str:
    p = teacher.get(P_ALONE)
    if (_gain(teacher, alone, metric) or 0.0) > 0:
        extent = "not significantly better than"
    elif _below(teacher, alone, metric) and figures.known(p) and float(str(p)) < SIGNIFICANT:
        extent = "worse than"
    else:
        extent = "no better than"
    small = ", or the test part is too small to tell" if extent.startswith("not") else ""
    return (
        f"The teacher is {extent} the student trained alone ({_against(teacher, alone, metric)}):"
        f" there was little to distil{small}, and the share kept of it says little."
    )


def _comparison(summary: Mapping[str, Any]) -> str:
    rows, metric = summary["rows"], summary["metric"]
    data = (summary.get("data") or {}).get("name") or "this data set"
    scored = [row for row in rows if _value(row, metric) is not None]
    if not scored:
        return f"No model was evaluated on {data}."
    best = max(scored, key=lambda row: sign(metric) * (_value(row, metric) or 0.0))
    value = f"{figures.metric_name(metric)} {figures.quality(_value(best, metric))}"
    if len(scored) == 1:
        return f"{best['name']} reaches {value} on {data}."
    extreme = "highest" if sign(metric) > 0 else "lowest"
    return f"{len(scored)} models compared on {data}; the {extreme} is {best['name']} with {value}."
