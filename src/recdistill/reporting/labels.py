"""Names beside the points of a scatter, where they cover nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recdistill.reporting.escape import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = tuple[float, float]
Box = tuple[float, float, float, float]

_SIDES: tuple[tuple[int, int, Any], ...] = (
    (7, 5, "left"),  # first above, where the frontier's line does not run
    (-7, 5, "right"),
    (0, 9, "center"),
    (0, -17, "center"),
    (8, -4, "left"),
    (-8, -4, "right"),
    (8, -17, "left"),
    (-8, -17, "right"),
)


def annotate(figure: Figure, axes: Axes, rows: Sequence[Mapping[str, Any]], points: Sequence[Point]) -> None:
    """Puts each label on the first side of its point where it covers nothing."""
    figure.draw_without_rendering()
    unit = figure.dpi / 72
    centres = [axes.transData.transform(point) for point in points]
    taken: list[Box] = [(x - 6 * unit, y - 6 * unit, x + 6 * unit, y + 6 * unit) for x, y in centres]
    # From the top, so that of two close points the upper one has its label above the other's.
    for row in sorted(rows, key=lambda row: -float(row["value"])):
        text, at = short(row["label"]), (row["bytes"], row["value"])
        x, y = axes.transData.transform(at)
        extent = 5.6 * len(text) * unit, 12 * unit
        boxes = [_label_box((x + dx * unit, y + dy * unit), align, extent) for dx, dy, align in _SIDES]
        best = min(range(len(_SIDES)), key=lambda i: _cost(boxes[i], taken, axes))
        if len(rows) < len(points) and _cost(boxes[best], taken, axes):
            continue  # a crowd: better no name than an unreadable one
        taken.append(boxes[best])
        dx, dy, align = _SIDES[best]
        axes.annotate(text, at, (dx, dy), textcoords="offset points", ha=align, fontsize=9.5, annotation_clip=False)


def _label_box(at: Point, align: str, extent: Point) -> Box:
    left = at[0] - {"left": 0.0, "right": extent[0], "center": extent[0] / 2}[align]
    return left, at[1], left + extent[0], at[1] + extent[1]


def _cost(box: Box, taken: Sequence[Box], axes: Axes) -> int:
    frame = axes.get_window_extent()
    outside = box[0] < frame.x0 or box[2] > frame.x1 or box[1] < frame.y0
    return sum(_overlaps(box, other) for other in taken) + 3 * int(outside)


def short(label: str) -> str:
    text = visible(label)
    return text if len(text) <= 34 else text[:33] + "…"


def _overlaps(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
