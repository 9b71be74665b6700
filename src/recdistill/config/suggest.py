"""The nearest right name for a wrong one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The names most like ``name``, best first; empty when nothing is close."""
    lowered = {candidate.lower(): candidate for candidate in sorted(set(names))}
    found = difflib.get_close_matches(name.lower(), lowered, n=count, cutoff=0.6)
    return [lowered[match] for match in found]


def did_you_mean(name: str, names: Iterable[str]) -> str | None:
    """``did you mean a, b?`` or None when nothing is close."""
    found = nearest(name, names)
    return f"did you mean {', '.join(found)}?" if found else None


def nearest_key(key: str, keys: Iterable[str]) -> list[str]:
    """The dotted keys most like ``key``: same parent first, then anywhere.

    ``student.net.dimm`` is answered with ``student.net.dim`` although ``teacher.net.dim`` is as close.
    """
    known = set(keys)
    parent, _, leaf = key.rpartition(".")
    siblings = {k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == parent}
    close = [f"{parent}.{name}" if parent else name for name in nearest(leaf, siblings)]
    if close:
        return close
    # A key of another section: somebody who types rrd.weight means distiller.rrd.weight.
    tails = sorted((k for k in known if k.endswith(f".{key}")), key=len)
    if tails:
        return tails[:3]
    if "." not in key:
        return nearest(key, known)
    return _repaired(key, known)


def _repaired(key: str, known: set[str]) -> list[str]:
    """The key with its first wrong part replaced: ``distillr.rrd.weight`` -> ``distiller.rrd.weight``."""
    parts = key.split(".")
    for index, part in enumerate(parts):
        prefix = ".".join(parts[:index])
        names = {k.split(".")[index] for k in known if not prefix or k.startswith(f"{prefix}.")}
        if part not in names:
            return [".".join([*parts[:index], name, *parts[index + 1 :]]) for name in nearest(part, names)]
    return []


def listing(names: Iterable[str], limit: int = 30) -> str:
    """Names on one line, cut when there are very many."""
    ordered = sorted(set(names))
    more = f", ... ({len(ordered)} in all)" if len(ordered) > limit else ""
    return ", ".join(ordered[:limit]) + more
