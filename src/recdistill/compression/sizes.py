"""Sizes as people write them."""

from __future__ import annotations

import re

from recdistill.errors import InputError

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def bytes_of(size: int | str, where: str) -> int:
    """Bytes of a number of them, or of one with a unit: ``2MB``, ``500 kB``, ``1.5MiB``.

    Raises:
        InputError: it is no such thing.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(size))
    if not found or found[2].upper() not in UNITS or isinstance(size, bool):
        raise InputError(f"{size!r} is no size", where=where, fix=f"{where}=2MB, or a number of bytes")
    count = int(float(found[1]) * UNITS[found[2].upper()])
    if count < 1:
        raise InputError(f"{size!r} is nothing", where=where, fix=f"{where}=2MB, or a number of bytes")
    return count


def in_words(count: int) -> str:
    """Such as 1.53 MB."""
    for unit in ("GB", "MB", "kB"):
        if count >= UNITS[unit.upper()]:
            return f"{count / UNITS[unit.upper()]:.3g} {unit}"
    return f"{count} bytes"
