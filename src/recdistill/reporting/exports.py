"""What the exported files of a run are: their bytes, whether they answer as the model does, and how fast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

AGREEMENT = ("overlap@10", "correlation", "same_class")  # of a file whose scores are rounded


def export_lines(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name of each exported file, and what was measured of it; none for a run without exports."""
    return [(str(said["file"]), describe(said)) for said in summary.get("exports") or []]


def describe(said: Mapping[str, Any]) -> str:
    """One file in a line; ``said`` as a format gives it."""
    words = [f"{said['bytes']:,} bytes"]
    if parity := said.get("parity"):
        if (same := parity.get("same_top_10")) is not None:
            words.append(f"top 10 as the model's for {same:.1%} of {parity['queries']} users")
        words += [f"{name} {parity[name]:.3f} with the model's" for name in AGREEMENT if name in parity]
        words.append(f"scores within {parity['max_difference']:.1e}")
    if times := said.get("latency"):
        words.append(f"{times['p50_ms']:.3f} ms at batch 1 (p99 {times['p99_ms']:.3f})")
    return ", ".join(words)
