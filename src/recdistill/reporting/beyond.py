"""What averages don't tell: coverage, popularity and variety of the lists, and the metric by users and items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from recdistill.reporting import figures
from recdistill.reporting.cold import cold_items
from recdistill.reporting.table import Cell, Column, Row, Table

HINT = "Coverage, popularity and variety of the lists, and the metric by users and items: in the report."


@dataclass(frozen=True)
class Section:
    """A table of its own on the page."""

    title: str
    table: Table


def sections(summary: Mapping[str, Any]) -> list[Section]:
    """The tables, from ``summary.json``; none for a run that was evaluated without them."""
    rows = [row for row in summary["rows"] if row.get("beyond")]
    if not rows:
        return []
    metric = figures.metric_name(summary["metric"])
    return [
        Section("Beyond accuracy", Table(_beyond_columns(rows), tuple(rows), _beyond_caption(rows[0]["beyond"]))),
        Section(
            f"{metric} by users and items",
            Table(_slice_columns(rows, summary["metric"]), tuple(rows), _slice_caption(rows[0], metric)),
        ),
        *([Section("Cold items", table)] if (table := cold_items(rows)) else []),
    ]


def _beyond_columns(rows: list[Row]) -> tuple[Column, ...]:
    columns = [
        _name(),
        _number("coverage", "in some\nlist", _percent),
        _number("gini", "Gini of\nexposure", lambda value: f"{value:.3f}"),
        _number("entropy", "entropy\nbits", lambda value: f"{value:.2f}"),
        _number("novelty", "novelty\nbits", lambda value: f"{value:.2f}"),
        _number("diversity", "diversity\nin a list", lambda value: f"{value:.3f}"),
        _number("popularity", "popularity\nof an item", figures.significant),
        _number("popularity_lift", "lift over\nhistories", lambda value: f"{100 * value:+.0f} %"),
        _number("tail_share", "tail items\nin a list", _percent),
        _number("popularity_divergence", "popularity\ndivergence", lambda value: f"{value:.3f}"),
    ]
    if any("category_divergence" in row["beyond"] for row in rows):
        columns.append(_number("category_divergence", "category\ndivergence", lambda value: f"{value:.3f}"))
    if any((row["beyond"].get("full_lists") or 0) < 1 for row in rows):
        columns.append(_number("full_lists", "full\nlists", _percent))
    return tuple(columns)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _name() -> Column:
    return Column("name", "model", lambda row: Cell(row["name"], row.get("label") or ""), lambda _: {}, left=True)


def _number(key: str, heading: str, text: Callable[[float], str]) -> Column:
    def cell(row: Row) -> Cell:
        value = row["beyond"].get(key)
        return Cell(text(value) if figures.known(value) else figures.NONE)

    return Column(key, heading, cell, lambda row: {key: row["beyond"].get(key)})


def _beyond_caption(found: Mapping[str, Any]) -> str:
    said = [
        f"Lists of {found['k']} items. Popularity: training users of an item. Gini: 0 if all items are shown equally"
        " often, near 1 if few are shown. Novelty: bits of surprise, -log2 of the share of training users who have the"
        " item.",
        f"Diversity: 1 minus the mean cosine of the items of a list, by {found.get('diversity_by')}"
        f" ({found.get('diversity_users', 0):,} users).",
        "Lift: how much more popular the lists are than the users' histories. Tail: the least popular items that bring"
        f" 20 % of the interactions; histories have {_share(found.get('tail_share_history'))} of it. Divergence: how"
        " far a list's mix of head, mid and tail (bits) is from that of the history; 0 is the same mix.",
    ]
    if "category_by" in found:
        said.append(
            f"Category divergence: the same for {found['category_by']}, as Kullback-Leibler divergence in nats."
        )
    return " ".join(said)


def _share(value: object) -> str:
    return _percent(value) if isinstance(value, float) and figures.known(value) else figures.NONE


def _slice_columns(rows: list[Row], metric: str) -> tuple[Column, ...]:
    slices = [found for found in rows[0].get("slices") or [] if found["pairs"]]
    return (_name(), *(_slice(found, metric) for found in slices))


def _slice(first: Mapping[str, Any], metric: str) -> Column:
    by, name = first["by"], first["name"]
    if by == "users":
        shortest, longest = first["history"]
        heading = f"{name} users\n{shortest}–{longest} items\n{first['users']:,} users"
    else:
        heading = f"{name} items\n{first['items']:,} items\n{first['pairs']:,} pairs"

    def cell(row: Row) -> Cell:
        found: Mapping[str, Any] = next(
            (each for each in row.get("slices") or [] if (each["by"], each["name"]) == (by, name)), {}
        )
        low, high = (found.get("ci") or {}).get(metric) or (None, None)
        value = (found.get("metrics") or {}).get(metric)
        none = figures.NONE if figures.known(value) else ""
        detail = f"[{figures.quality(low)}, {figures.quality(high)}]" if figures.known(low) else none
        return Cell(figures.quality(value), detail)

    return Column(f"{by}_{name}", heading, cell, lambda _: {})


def _slice_caption(row: Row, metric: str) -> str:
    found = [x for x in row.get("slices") or [] if x["by"] == "users"]
    users, pairs = (sum(x[key] for x in found) for key in ("users", "pairs"))
    return (
        f"{users:,} users with {pairs:,} relevant test pairs, all of them in either half of the table; [95 % CI],"
        " bootstrap over the slice's users. Users: thirds by training history. Items: head, the most popular ones that"
        " bring 20 % of the training interactions; tail, the least popular that bring 20 %; mid, between; cold, unknown"
        f" to training, which are on none of these lists. {metric} of a slice of items looks for its relevant items"
        " alone, in the same full lists."
    )
