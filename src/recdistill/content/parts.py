"""Something slow, computed in parts that are kept, so that a run that was cut off goes on where it was."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recdistill.runs.atomic import atomic_path

log = logging.getLogger(__name__)


def in_parts(
    n: int, size: int, folder: Path, compute: Callable[[int, int], np.ndarray[Any, Any]], key: str, what: str
) -> Tensor:
    """Float32 ``[n, d]``, ``size`` rows at a time; a part that the folder holds is read from it.

    Args:
        compute: the rows from a number up to another.
        key: config key, for the log.
        what: rows are, in the plural.
    """
    started, done, found = time.monotonic(), 0, []
    for number, start in enumerate(range(0, n, size)):
        file, end = folder / f"{number:06}.npy", min(start + size, n)
        if not file.exists():
            rows = np.asarray(compute(start, end), dtype=np.float32)
            with atomic_path(file) as temporary, temporary.open("wb") as opened:
                np.save(opened, rows)
            done += end - start
            log.info("%s: %d of %d %s, %.0f a second", key, end, n, what, done / (time.monotonic() - started))
        found.append(torch.from_numpy(np.load(file, allow_pickle=False)))
    return torch.cat(found)
