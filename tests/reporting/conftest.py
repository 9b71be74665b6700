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
def row_with() -> Callable[..., dict[str, Any]]:
    return make_row


@pytest.fixture
def history() -> list[dict[str, Any]]:
    return make_history()
