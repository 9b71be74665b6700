"""The end of a grid: one table over all its jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def finish(folder: Path) -> int:
    """Prints the table and writes it beside the jobs; the largest exit code of a failed job, or 0."""
    from recdistill.reporting.grid import finish as write_and_print

    return write_and_print(folder, difference_p)


def difference_p(ours: Any, theirs: Any, same_seeds: bool) -> float:
    """Two-sided p-value of two models, the test that a grid and ``recdistill compare`` share.

    Args:
        ours, theirs: values by seed and user, ``[S, U]``.
        same_seeds: whether row s of both is of the same seed.
    """
    from recdistill.evaluation.significance import bootstrap_difference, paired_t

    if len(ours) == len(theirs) == 1:
        return paired_t(ours[0], theirs[0])
    return bootstrap_difference(ours, theirs, same_seeds=same_seeds).p
