"""What a page says of the data: the report in words, then what only the manifest knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from recdistill.reporting import figures

Facts = list[tuple[str, str]]
_SECONDS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_UNKNOWN_LEAK = ("leaks time", "unknown")
_HASHES = {
    "parts": "hash of part",
    "catalogue": "hash of catalogue",
    "cold_items": "hash of cold items",
    "cold_users": "hash of cold users",
}


def data_facts(data: Mapping[str, Any]) -> list[tuple[str, Facts]]:
    """The data report and what the manifest adds to it as lists of facts."""
    report, manifest = data.get("report") or {}, data.get("manifest") or {}
    head = [("name", str(data.get("name") or "")), ("fingerprint", str(data.get("fingerprint") or ""))]
    facts = [("Data", [fact for fact in head if fact[1]] + list(_report(report)))]
    added = {_HASHES.get(key, key): value for key, value in manifest.items() if not _repeated(key, value, report)}
    more = list(flat(added))
    return [*facts, ("Data manifest", more)] if more else facts


def _repeated(key: str, value: Any, report: Mapping[str, Any]) -> bool:
    """The filters' settings are the names of the report's steps, and the split's note is in its note."""
    told = {"filters": "filters", "split_note": "note"}.get(key)
    return told in report if told else key in report and report[key] == value


def moment(time: float, unit: object) -> str:
    """A time as an ISO date where its unit is known, else as the number.

    >>> moment(1713513245, "s"), moment(7, None)
    ('2024-04-19 07:54:05 UTC', '7')
    """
    seconds = _SECONDS.get(str(unit))
    try:
        return str(time) if seconds is None else f"{datetime.fromtimestamp(time // seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return str(time)


def _report(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in report.items():
        if key in ("warnings", "time_unit"):
            continue
        if key == "cut_times" and isinstance(value, Mapping):
            yield from ((f"{name} starts", moment(cut, report.get("time_unit"))) for name, cut in value.items())
        elif key == "leaks_time" and value is None:
            yield _UNKNOWN_LEAK
        elif key == "log" and isinstance(value, Mapping):
            yield from _log(value, report.get("time_unit"))
        elif key in _MAPPINGS and isinstance(value, Mapping):
            yield from _MAPPINGS[key](value)
        elif key == "filters" and isinstance(value, list):
            yield from map(_filter, value)
        elif key in _NUMBERS and figures.known(value):
            yield _NUMBERS[key](value)
        else:
            yield from flat(value, key.replace("_", " "))


def _filter(step: Mapping[str, Any]) -> tuple[str, str]:
    """``31,900 → 25,520 rows, 2,000 → 1,999 users``; what stayed the same is left out."""
    pairs = [(name, pair) for name, pair in step.items() if isinstance(pair, list) and len(pair) == 2]
    changed = [f"{before:,} → {after:,} {name}" for name, (before, after) in pairs if before != after]
    return f"filter {step.get('filter', '')}".strip(), ", ".join(changed) or "removed nothing"


def _log(log: Mapping[str, Any], unit: object) -> Facts:
    """What is in the files: sizes, the rows of each value or their range, first and last time."""
    facts = [("in the files", ", ".join(f"{log[name]:,} {name}" for name in ("users", "items", "rows") if name in log))]
    values, times = log.get("values"), log.get("times")
    if isinstance(values, Mapping):
        facts.append(("values", ", ".join(f"{value}: {count:,}" for value, count in values.items())))
    elif values:
        facts.append(("values", f"{values[0]:g} to {values[1]:g}"))
    if times:
        facts.append(("times", " to ".join(moment(time, unit) for time in times)))
    return facts


def _features(sides: Mapping[str, Mapping[str, str]]) -> Facts:
    return [
        (f"{side} features", ", ".join(f"{name} ({kind})" for name, kind in kinds.items()))
        for side, kinds in sides.items()
    ]


def _reasons(label: str, counts: Mapping[str, Any]) -> Facts:
    found = [f"{count:,} × {reason}" for reason, count in counts.items() if count]
    return [(label, ", ".join(found))] if found else []


def _lost(parts: Mapping[str, Any]) -> Facts:
    return [fact for name, reasons in parts.items() for fact in _reasons(f"left out of {name}", reasons)]


def _parts(parts: Mapping[str, Any]) -> Facts:
    """Rows and users of each part; cold ones only where there are any."""
    texts = {
        name: [f"{n:,} {key.replace('_', ' ')}" for key, n in counts.items() if n or not key.startswith("cold")]
        for name, counts in parts.items()
    }
    return [(f"{name} part", ", ".join(text)) for name, text in texts.items()]


def _split(split: Mapping[str, Any]) -> Facts:
    arguments = [f"{key.replace('_', ' ')} {text}" for key, text in flat(split) if key not in ("name", "kind")]
    return [("split", ", ".join([str(split.get("name") or split.get("kind") or ""), *arguments]).removeprefix(", "))]


_MAPPINGS: dict[str, Callable[[Mapping[str, Any]], Facts]] = {
    "features": _features,
    "dropped": lambda counts: _reasons("left out", counts),
    "lost": _lost,
    "parts": _parts,
    "split": _split,
}
_NUMBERS: dict[str, Callable[[float], tuple[str, str]]] = {
    "rows_read": lambda n: ("rows read", f"{n:,}"),
    "users": lambda n: ("users", f"{n:,}"),
    "items": lambda n: ("items", f"{n:,}"),
    "rows": lambda n: ("rows", f"{n:,}"),
    "n_cold_items": lambda n: ("cold items", f"{n:,}"),
    "n_cold_users": lambda n: ("cold users", f"{n:,}"),
    "n_train_only": lambda n: ("users in train only", f"{n:,}"),
    "density": lambda share: ("density", f"{100 * share:.3g} % of user-item pairs are in train"),
    "head_share": lambda share: ("popularity", f"{100 * share:.1f} % of rows on the top fifth of items"),
    "gini": lambda value: ("Gini of popularity", f"{value:.3f}"),
    "median_history": lambda n: ("median user", f"{n:,g} training rows"),
}


def flat(content: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested containers as (spaced key, text); long lists are cut, and what is empty is left out."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from flat(value, f"{prefix} {key}".strip().replace("_", " "))
    elif isinstance(content, list) and any(isinstance(item, Mapping) for item in content):
        for index, item in enumerate(content[:20], 1):
            yield from flat(item, f"{prefix} {index}")
    elif content is None or content in ("", []):
        return
    elif isinstance(content, bool):
        yield prefix, "yes" if content else "no"
    elif isinstance(content, float):
        yield prefix, f"{content:.6g}" if abs(content) < 1e6 else str(content)
    elif isinstance(content, list):
        more = f", ... ({len(content)} in all)" if len(content) > 20 else ""
        yield prefix, ", ".join(str(item) for item in content[:20]) + more
    elif isinstance(content, int):
        # A seed or a year is not a count; only what is long gains from separators.
        yield prefix, f"{content:,}" if abs(content) >= 10_000 and "time" not in prefix else str(content)
    else:
        yield prefix, str(content)
