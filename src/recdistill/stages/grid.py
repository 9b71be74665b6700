"""The end of a grid: one table over all its jobs."""

from __future__ import annotations

from pathlib import Path


def finish(folder: Path) -> int:
    """Prints the table and writes it beside the jobs; the largest exit code of a failed job, or 0."""
    from recdistill.reporting.grid import finish as write_and_print

    return write_and_print(folder)
