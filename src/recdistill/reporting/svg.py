"""Turns a matplotlib figure into an SVG that lives inside a page and follows its colours."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from markupsafe import escape as html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#010203"  # stands for the page's text colour until it is replaced by currentColor
# At least 3:1 on white and on near-black, and told apart by the colour-blind.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#b4609a", "#a6761d", "#7a7a7a")
_FONT = "system-ui, sans-serif"

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.unicode_minus": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "font.size": 10.5,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.8,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), INK
    ),
}


def inline(figure: Figure, name: str, label: str) -> str:
    """The figure as ``<svg>``: ids carry ``name``, so that several charts on one page do not clash.

    Args:
        figure: drawn under ``STYLE``.
        name: unique on the page; letters, digits and dashes.
        label: what a screen reader says.
    """
    out = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(out, format="svg", metadata=nothing)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.S)
    text = re.sub(r"\bid=\"", f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r"xlink:href=\"#", f'href="#{name}-', text)
    text = re.sub(r"font-family: [^;\"]*", f"font-family: {_FONT}", text)
    text = re.sub(r"(font: [^;\"]*?[\d.]+px) [^;\"]*", rf"\1 {_FONT}", text)
    text = re.sub(r"<g id=\"[^\"]*\"", "<g", text)  # names of groups, which nothing refers to
    text = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), text)
    text = text.replace(INK, "currentColor")
    return _open(text, name, label)


def _open(text: str, name: str, label: str) -> str:
    """A new opening tag: the size comes from the page, so only the view box stays."""
    box = re.search(r'viewBox="([^"]*)"', text)
    start = text.index(">") + 1
    view = box[1] if box else ""
    head = f'<svg class="chart" id="{name}" role="img" aria-label="{html(label)}" viewBox="{view}">'
    return re.sub(r"\n\s*", "\n", head + text[start:]).strip()
