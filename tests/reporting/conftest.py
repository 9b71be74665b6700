"""Made-up runs: every figure is known before it is printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Summary = dict[str, Any]


def make_row(name: str, role: str, value: float, size: int, **extra: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": name,
        "role": role,
        "label": f"MF d={size % 97}",
        "parameters": size // 4,
        "bytes": size,
        "metrics": {"ndcg@10": value, "recall@10": value * 1.7, "ndcg@50": value * 1.3},
        "ci": {"ndcg@10": [value - 0.008, value + 0.008]},
        "kept": None,
        "p_alone": None,
        "p_alone_holm": extra.get("p_alone"),
        "overlap": None,
        "latency": {
            "1": {"p50_ms": size / 3e7, "p95_ms": size / 2.5e7, "p99_ms": size / 2e7},
            "256": {"p50_ms": size / 2e6, "p95_ms": size / 1.5e6, "p99_ms": size / 1e6},
        },
        "warnings": [],
        "weights_hash": f"hash-of-{name}",
        "train_seconds": 12.5,
        "folder": f"models/{name}",
    }
    return row | extra


def make_summary(student: float = 0.3812, p: float = 0.0002, teacher_p: float = 0.0001) -> Summary:
    """A teacher of .4093, its int8 version, a student alone at .3644, the distilled one and popularity."""
    kept = {"value": student / 0.4093, "low": student / 0.4093 - 0.021, "high": student / 0.4093 + 0.021}
    rows = [
        make_row("teacher", "teacher", 0.4093, 24_320_512, label="LightGCN d=256", p_alone=teacher_p),
        make_row("teacher-int8", "teacher_quantized", 0.4071, 6_100_004, label="LightGCN d=256, int8"),
        make_row("alone", "alone", 0.3644, 1_523_904, overlap={"5": 0.31, "10": 0.36, "20": 0.42, "50": 0.55}),
        make_row(
            "student",
            "student",
            student,
            1_523_904,
            kept=kept,
            p_alone=p,
            overlap={"5": 0.44, "10": 0.5, "20": 0.57, "50": 0.66},
        ),
        make_row("popularity", "baseline", 0.2107, 14_820, latency=None, train_seconds=None),
    ]
    return {
        "format": 1,
        "command": "recdistill run experiment=quickstart 'distiller=[rrd]' seed=1",
        "run": "quickstart",
        "created": "2026-11-20T12:00:00+00:00",
        "seconds": 93.4,
        "versions": {"recdistill": "0.1.0", "python": "3.11.2", "torch": "2.6.0"},
        "machine": {"cpu": "AMD EPYC 7B13", "threads": 4},
        "seed": 1,
        "config_hash": "9f2c41d07a",
        "commit": None,
        "overrides": ["experiment=quickstart", "distiller=[rrd]", "seed=1"],
        "data": {
            "name": "ml-1m",
            "fingerprint": "c0ffee12",
            "report": {
                "users": 6040,
                "items": 3706,
                "rows": {"read": 1000209, "kept": 988129},
                "warnings": [],
            },
            "manifest": {"split": {"kind": "leave_last", "test": 6040}},
        },
        "metric": "ndcg@10",
        "ks": [5, 10, 20, 50],
        "n_users": 6040,
        "rows": rows,
        "notes": [],
    }


_TABLES: dict[str, tuple[int, dict[str, dict[str, float]]]] = {
    "ctr": (28_860, {
        "teacher": {"auc": 0.9785, "logloss": 0.1712, "ne": 0.2691, "ece": 0.0112, "ece_mass": 0.0120, "gauc": 0.9534},
        "alone": {"auc": 0.9367, "logloss": 0.2954, "ne": 0.4643, "ece": 0.0154, "ece_mass": 0.0162, "gauc": 0.9001},
        "student": {"auc": 0.9521, "logloss": 0.2509, "ne": 0.3944, "ece": 0.0187, "ece_mass": 0.0190, "gauc": 0.9188},
        "lr": {"auc": 0.9312, "logloss": 0.3054, "ne": 0.4800, "ece": 0.0101, "ece_mass": 0.0108, "gauc": 0.8931},
    }),
    "rating": (10_003, {
        "teacher": {"rmse": 0.8512, "mae": 0.6671, "user_rmse": 0.8601, "user_mae": 0.6902},
        "alone": {"rmse": 0.8844, "mae": 0.6951, "user_rmse": 0.8921, "user_mae": 0.7166},
        "student": {"rmse": 0.8712, "mae": 0.6849, "user_rmse": 0.8800, "user_mae": 0.7065},
        "mean": {"rmse": 1.1171, "mae": 0.9330, "user_rmse": 1.0402, "user_mae": 0.8610},
    }),
    "classification": (10_000, {
        "teacher": {"accuracy": 0.9871, "macro_f1": 0.9870, "macro_recall": 0.9869},
        "alone": {"accuracy": 0.9512, "macro_f1": 0.9508, "macro_recall": 0.9506},
        "student": {"accuracy": 0.9634, "macro_f1": 0.9631, "macro_recall": 0.9630},
        "mode": {"accuracy": 0.1135, "macro_f1": 0.0204, "macro_recall": 0.1},
    }),
}  # fmt: skip
MAIN = {"ctr": "auc", "rating": "rmse", "classification": "accuracy"}


def make_table(task: str, metric: str | None = None) -> Summary:
    """A run on the rows of a table: teacher, its int8 version, student alone, distilled student and a baseline."""
    n_rows, found = _TABLES[task]
    metric = metric or MAIN[task]
    sizes = {"teacher": 24_320_512, "alone": 1_523_904, "student": 1_523_904}
    rows = []
    for name, metrics in found.items():
        value = metrics[metric]
        times = {"1": {"p50_ms": 0.0512, "p95_ms": 0.0601, "p99_ms": 0.0764, "threads": 1}}
        more = {
            "latency": times,
            "metrics": metrics,
            "ci": {metric: [value - 0.004, value + 0.004]},
            "label": f"DCNv2 {name}",
        }
        tested = {} if name == "alone" else {"p_alone": 0.0003}
        rows.append(
            make_row(name, name if name in sizes else "baseline", value, sizes.get(name, 14_820), **more, **tested)
        )
    rows[2]["kept"] = {"value": 0.945, "low": 0.931, "high": 0.957}
    report = {"rows": 288_609, "parts": {"test": {"rows": n_rows, "positive": 9_612, "empty_cells": 0}}, "warnings": []}
    data = {"name": "table.csv", "fingerprint": "c0ffee12", "report": report, "manifest": {}}
    empty = {"tie_rate": {}, "n_cold_items": 0, "beyond": {}, "slices": [], "sampled": {}}
    summary = make_summary() | {"task": task, "metric": metric, "ks": [], "data": data, "n_rows": n_rows}
    del summary["n_users"]
    return summary | {"rows": [row | empty for row in rows]}


def make_history(epochs: int = 30) -> list[dict[str, Any]]:
    return [
        {
            "epoch": epoch,
            "seconds": 1.5,
            "train/loss": 0.9 / (1 + epoch),
            "train/task": 0.6 / (1 + epoch),
            "train/soft_label": float("nan") if epoch == 0 else 0.02 / (1 + epoch),
            "valid/ndcg@10": 0.38 - 0.3 / (1 + epoch),
        }
        for epoch in range(epochs)
    ]


@pytest.fixture
def summary() -> Summary:
    return make_summary()


@pytest.fixture
def summary_with() -> Callable[..., Summary]:
    return make_summary


@pytest.fixture
def table_of() -> Callable[..., Summary]:
    return make_table


@pytest.fixture
def row_with() -> Callable[..., dict[str, Any]]:
    return make_row


@pytest.fixture
def history() -> list[dict[str, Any]]:
    return make_history()
