"""The table of items that training lacks: who can rank them, and how well."""

from __future__ import annotations

from typing import Any

from recdistill.reporting import figures
from recdistill.reporting.table import Cell, Column, Row, Table

AMONG = {"cold": "among\ncold items", "all": "among\nall items"}
RIVALS = {"student alone": "p vs\nalone", "content_knn": "p vs\ncontent-kNN"}


def cold_items(rows: list[Row]) -> Table | None:
    """The table; None where there are no cold items, or no row can rank them."""
    able = next((row["cold"] for row in rows if (row.get("cold") or {}).get("metrics")), None)
    if able is None:
        return None
    chance = {
        "name": "random",
        "role": "baseline",
        "label": "any order, on average",
        "cold": {"metrics": able["random"]},
    }
    columns = [Column("name", "model", lambda row: Cell(row["name"], row.get("label") or ""), lambda _: {}, left=True)]
    for field, heading in AMONG.items():
        names = list(able["metrics"][field])
        ndcg, recalls = _nearest(names, "ndcg", 10), [_nearest(names, "recall", k) for k in (10, 50)]
        columns += [_metric(field, name, heading) for name in dict.fromkeys([ndcg, *recalls])]
        columns += [_p(field, rival, text) for rival, text in RIVALS.items() if rival in (row["name"] for row in rows)]
    return Table(tuple(columns), (*rows, chance), _caption(able))


def _nearest(names: list[str], family: str, k: int) -> str:
    own = [name for name in names if name.startswith(f"{family}@")]
    return min(own, key=lambda name: abs(int(name.partition("@")[2]) - k))


def _metric(field: str, name: str, heading: str) -> Column:
    def cell(row: Row) -> Cell:
        cold: dict[str, Any] = row.get("cold") or {}
        value = ((cold.get("metrics") or {}).get(field) or {}).get(name)
        ends = ((cold.get("ci") or {}).get(field) or {}).get(name) or ()
        return Cell(figures.quality(value), f"[{', '.join(map(figures.quality, ends))}]" if ends else "")

    return Column(f"{field}_{name}", f"{figures.metric_name(name)}\n{heading}", cell, lambda _: {})


def _p(field: str, rival: str, heading: str) -> Column:
    def cell(row: Row) -> Cell:
        return Cell(figures.probability((((row.get("cold") or {}).get("p") or {}).get(field) or {}).get(rival)))

    return Column(f"{field}_p_{rival}", heading, cell, lambda _: {})


def _caption(cold: dict[str, Any]) -> str:
    return (
        f"{cold['items']:,} items that training lacks, {cold['users']:,} users with {cold['pairs']:,} relevant pairs of"
        " them; these pairs alone are looked for, among the cold items or among these and the whole catalogue. "
        f"{figures.NONE}: the model knows items by their ids and can't rank new ones. [95 % CI], bootstrap over users;"
        " p: paired t-test of NDCG over users, not corrected."
    )
