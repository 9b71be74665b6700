"""Whose fault it is: parts know their own keys, such as ``net.dim``; a message names what somebody has to type."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from recdistill.errors import InputError

# net.dim, fit.item_init=..., objective; not teacher.net.dim, and not the words of a sentence.
_KEY = re.compile(r"(?<![\w./])(net|fit|objective)(?=\.[a-z_]|=)")


@contextlib.contextmanager
def keys_below(where: str) -> Iterator[None]:
    """Inside, an InputError about ``net``, ``fit`` or ``objective`` is about those of the node at the key ``where``."""
    try:
        yield
    except InputError as error:
        if error.where in ("net", "fit", "objective"):
            error.where = f"{where}.{error.where}"
        for name in ("where", "why", "fix"):
            if text := getattr(error, name):
                setattr(error, name, _KEY.sub(rf"{where}.\1", text))
        raise
