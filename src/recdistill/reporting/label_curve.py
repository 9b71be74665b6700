"""Quality against the share of labels that students are given, as a grid over ``data.label_fraction`` finds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recdistill.config.metrics import sign
from recdistill.reporting import charts, figures, labels, svg
from recdistill.reporting.escape import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARE = "data.label_fraction="
ROLES = {"teacher": ("s", 1), "alone": ("^", 5), "student": ("o", 0), "compressed": ("v", 2)}
DASHES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Curve:
    """One model over the shares of labels.

    Attributes:
        name: of the model, and what else tells its configuration from others.
        role: of its rows.
        points: share, mean and standard deviation (0 of a single seed), by share; of a model that all shares have in
            common one point with the share None.
    """

    name: str
    role: str
    points: list[tuple[float | None, float, float]]


def curves_of(grid: Mapping[str, Any]) -> list[Curve]:
    """The curves of a grid's table, teachers first; none where the grid has one share of labels alone."""
    found: dict[tuple[str, str], list[tuple[float | None, float, float]]] = {}
    for row in grid["rows"]:
        value = (row["metrics"].get(grid["metric"]) or {}) if row["role"] in ROLES else {}
        if not figures.known(value.get("mean")):
            continue
        others = " ".join(text for text in row["overrides"] if not text.startswith(SHARE))
        share = next((float(text.removeprefix(SHARE)) for text in row["overrides"] if text.startswith(SHARE)), None)
        name = f"{row['name']} {others}".strip()
        found.setdefault((row["role"], name), []).append((share, value["mean"], value.get("sd") or 0.0))
    curves = [
        Curve(name, role, sorted(points, key=lambda point: point[0] or 0)) for (role, name), points in found.items()
    ]
    shares = {share for curve in curves for share, _, _ in curve.points if share}
    return sorted(curves, key=lambda curve: list(ROLES).index(curve.role)) if len(shares) > 1 else []


def draw_curves(curves: Sequence[Curve], metric: str, name: str = "labels") -> str:
    """The chart, with a band of ±sd; empty where there is no curve."""
    if not curves:
        return ""
    shares = sorted({share for curve in curves for share, _, _ in curve.points if share})

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        seen: dict[str, int] = {}
        for curve in curves:
            (marker, colour), nth = ROLES[curve.role], seen.setdefault(curve.role, 0)
            seen[curve.role] += 1
            points = curve.points
            if [share for share, _, _ in points] == [None]:  # one model for all shares
                points = [(share, *points[0][1:]) for share in shares]
            drawn = [(share, mean, sd) for share, mean, sd in points if share]
            xs, ys = [share for share, _, _ in drawn], [mean for _, mean, _ in drawn]
            low, high = ([mean + side * sd for _, mean, sd in drawn] for side in (-1, 1))
            axes.fill_between(xs, low, high, color=svg.PALETTE[colour], alpha=0.18, linewidth=0)
            style: dict[str, Any] = {"color": svg.PALETTE[colour], "marker": marker, "markersize": 6}
            axes.plot(xs, ys, linestyle=DASHES[nth % 4], label=labels.short(visible(curve.name)), **style)
        axes.set_xticks(shares, [f"{100 * share:g} %" for share in shares])
        axes.xaxis.set_minor_locator(_no_ticks())
        axes.set_xlabel("share of the training labels (log)")
        axes.set_ylabel(figures.metric_name(visible(metric)) + (" (lower is better)" if sign(metric) < 0 else ""))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)

    return charts.draw(name, f"{figures.metric_name(metric)} against the share of labels", (7.2, 4.6), paint)


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()
