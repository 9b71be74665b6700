"""The charts of the page, as SVG text. matplotlib is an extra: without it ``available`` says so."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recdistill.config.metrics import sign
from recdistill.reporting import figures, labels, svg
from recdistill.reporting.escape import visible
from recdistill.reporting.labels import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_POINTS = 80  # of one curve
MAX_METRICS = 3  # of one panel of curves
MAX_LABELS = 14  # of a scatter; past it only the frontier is named
_MARKS = {
    "teacher": ("s", 1),
    "teacher_quantized": ("D", 1),
    "alone": ("^", 5),
    "student": ("o", 0),
    "compressed": ("v", 2),
    "baseline": ("X", 4),
}
_ROLES = {"teacher_quantized": "quantized teacher", "alone": "student alone", "student": "distilled student"}


def available() -> bool:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def draw(name: str, label: str, size: tuple[float, float], paint: Callable[[Figure], None]) -> str:
    """What ``paint`` does to a new figure of ``size`` inches, as SVG; see :func:`~recdistill.reporting.svg.inline`."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {**svg.STYLE, "svg.hashsalt": name}  # matplotlib types the keys one by one
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that matplotlib's font lacks is drawn by the browser
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure)
        return svg.inline(figure, name, label)


def frontier(points: Sequence[Point], way: int = 1) -> list[int]:
    """Which points no other beats with fewer or as many bytes, from small to large; ``way`` is -1 for an error."""
    best, kept = float("-inf"), []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -way * points[i][1])):
        if way * points[index][1] > best:
            best = way * points[index][1]
            kept.append(index)
    return kept


def pareto(rows: Sequence[Mapping[str, Any]], metric: str, name: str = "pareto") -> str:
    """Quality against bytes on disk.

    Args:
        rows: each with ``label``, ``role``, ``bytes``, ``value`` and ``low``, ``high`` or ``None``.
        metric: what ``value`` is.
        name: of the chart on its page.
    """
    rows = [row for row in rows if row["bytes"] and figures.known(row["value"])]
    if not rows:
        return ""
    edge = frontier([(row["bytes"], row["value"]) for row in rows], sign(metric))
    named = range(len(rows)) if len(rows) <= MAX_LABELS else edge

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        axes.margins(0.16, 0.12)
        line = [rows[i] for i in edge]
        xs, ys = [row["bytes"] for row in line], [row["value"] for row in line]
        axes.plot(xs, ys, drawstyle="steps-post", color=svg.INK, alpha=0.35, linewidth=1.2, zorder=1)
        for role in dict.fromkeys(row["role"] for row in rows):
            _scatter(axes, [row for row in rows if row["role"] == role], role)
        axes.xaxis.set_major_formatter(lambda value, _: _size(value))
        axes.xaxis.set_minor_formatter(_minor_sizes(rows))
        axes.set_xlabel("bytes on disk (log)")
        axes.set_ylabel(figures.metric_name(visible(metric)) + (" (lower is better)" if sign(metric) < 0 else ""))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, handletextpad=0.3)
        labels.annotate(figure, axes, [rows[i] for i in named], [(row["bytes"], row["value"]) for row in rows])

    return draw(name, f"{figures.metric_name(metric)} against bytes on disk", (7.2, 4.6), paint)


def _minor_sizes(rows: Sequence[Mapping[str, Any]]) -> Callable[[float, float], str]:
    """Labels at 2 and 5 where the axis holds too few powers of ten to be read."""
    sizes = [row["bytes"] for row in rows]
    narrow = max(sizes) / min(sizes) < 100
    return lambda value, _: _size(value) if narrow and f"{value:e}"[0] in "25" else ""


def _size(value: float) -> str:
    """Without the zeros that only a measured size has."""
    number, _, unit = figures.size(value).partition(" ")
    return f"{float(number):g} {unit}" if unit else number


def _scatter(axes: Axes, rows: Sequence[Mapping[str, Any]], role: str) -> None:
    mark, colour = _MARKS.get(role, ("o", 5))
    for row in rows:
        if figures.known(row.get("low")) and figures.known(row.get("high")):
            interval = [row["low"], row["high"]]
            axes.plot([row["bytes"]] * 2, interval, color=svg.PALETTE[colour], alpha=0.6, linewidth=1.2)
    xs, ys = [row["bytes"] for row in rows], [row["value"] for row in rows]
    style: dict[str, Any] = {"color": svg.PALETTE[colour], "markersize": 7.5, "markeredgewidth": 0}
    axes.plot(xs, ys, mark, label=visible(_ROLES.get(role, role)), zorder=3, **style)


def curves(history: Sequence[Mapping[str, Any]], row: str, name: str, wanted: Sequence[str] = ()) -> str:
    """Every loss term of one trained row by epoch, and the wanted validation metrics (else the first few)."""
    keys = list(dict.fromkeys(key for entry in history for key in entry))
    losses = [key for key in keys if key.startswith("train/") and _curve(history, key)]
    metrics = [key for key in keys if key.startswith("valid/") and _curve(history, key)]
    chosen = [key for key in metrics if key.partition("/")[2] in wanted] or metrics[:MAX_METRICS]
    parts = [("loss", losses), ("validation", chosen)]
    parts = [(title, part) for title, part in parts if part]
    if not parts:
        return ""

    def paint(figure: Figure) -> None:
        panels = figure.subplots(len(parts), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (title, part) in zip(panels, parts, strict=True):
            _lines(axes, history, part, title)
        panels[-1].set_xlabel("epoch")

    return draw(name, f"learning curves of {visible(row)}", (4.4, 2.2 * len(parts) + 0.3), paint)


def _curve(history: Sequence[Mapping[str, Any]], key: str) -> list[Point]:
    """Finite points, thinned; the last one always stays."""
    found = [(entry.get("epoch", i), entry.get(key)) for i, entry in enumerate(history)]
    points = [(epoch, float(value)) for epoch, value in found if value is not None and figures.known(value)]
    step = max(1, -(-len(points) // MAX_POINTS))
    return points[::step] + points[-1:] if step > 1 else points


def _lines(axes: Axes, history: Sequence[Mapping[str, Any]], keys: Sequence[str], title: str) -> None:
    styles, values = ("-", "--", ":", "-."), []
    for index, key in enumerate(keys):
        points = _curve(history, key)
        values += [y for _, y in points]
        style: dict[str, Any] = {"color": svg.PALETTE[index % 6], "linestyle": styles[index % 4]}
        style["marker"] = "o" if len(points) == 1 else None
        label = visible(key.partition("/")[2])
        label = figures.metric_name(label) if title == "validation" else label.replace("_", " ")
        axes.plot([x for x, _ in points], [y for _, y in points], label=label, **style)
    if title == "loss" and min(values) > 0 and max(values) > 30 * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")  # the default writes TeX
        axes.yaxis.set_minor_formatter("")
        title += " (log)"
    axes.set_ylabel(title)
    axes.locator_params(axis="x", integer=True)
    # Above the axes, where it cannot cover a curve.
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.1, columnspacing=1.2)


def _marks(roles: Sequence[str]) -> list[tuple[str, int]]:
    """The scatter's marker and colour where they tell the rows apart, else one after the other."""
    if len(set(roles)) == len(roles) and all(role in _MARKS for role in roles):
        return [_MARKS[role] for role in roles]
    return [("osD^vX"[index % 6], index % 6) for index in range(len(roles))]


def overlap(rows: Sequence[Mapping[str, Any]], name: str = "overlap") -> str:
    """Share of the teacher's top k that each row also has. Rows: ``label``, ``role``, ``overlap`` by k."""
    rows = [row for row in rows if row["overlap"]]
    if not rows:
        return ""
    ks = sorted({int(k) for row in rows for k in row["overlap"]})
    marks = _marks([row["role"] for row in rows])

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for index, row in enumerate(rows):
            points = [(ks.index(int(k)), v) for k, v in row["overlap"].items() if figures.known(v)]
            points.sort()
            marker, colour = marks[index]
            style: dict[str, Any] = {"color": svg.PALETTE[colour], "marker": marker}
            style |= {"linestyle": "-" if index < 6 else "--", "label": labels.short(row["label"])}
            axes.plot([x for x, _ in points], [y for _, y in points], markersize=6, **style)
        axes.set_xticks(range(len(ks)), [str(k) for k in ks])
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("k")
        axes.set_ylabel("overlap with the teacher's top k")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)

    return draw(name, "overlap with the teacher's top k", (7.2, 4.4), paint)
