"""How numbers are written for people; machine-readable outputs do not use these."""

from __future__ import annotations

import math

NONE = "–"
_UPPER = frozenset({"ndcg", "mrr", "map", "hr", "auc", "gauc", "rmse", "mae", "mse", "ne", "ece"})
_NAMES = {
    "logloss": "Log loss",
    "ece_mass": "ECE by mass",
    "user_rmse": "User RMSE",
    "user_mae": "User MAE",
    "macro_f1": "Macro F1",
    "macro_recall": "Macro recall",
}


def known(value: object) -> bool:
    """A finite number; what is missing or NaN is written as a dash."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def significant(value: float | None, digits: int = 3) -> str:
    """
    >>> [significant(x) for x in (0.01234, 1.5, 15.25, 152.4, 1524.0)]
    ['0.0123', '1.50', '15.2', '152', '1524']
    """
    if value is None or not known(value):
        return NONE
    magnitude = int(f"{value:.{digits - 1}e}".partition("e")[2])  # of the rounded number: 9.999 is 10.0
    return f"{value:.{min(max(digits - 1 - magnitude, 0), 9)}f}"


def milliseconds(value: float | None) -> str:
    """Two digits below a tenth: a clock is not better than that."""
    return significant(value, 2 if value is not None and known(value) and value < 0.1 else 3)


def _scaled(value: float, units: tuple[str, ...]) -> str:
    step = 0
    while value >= 999.5 and step < len(units) - 1:
        value, step = value / 1000, step + 1
    number = f"{value:.0f}" if step == 0 else significant(value)
    return f"{number} {units[step]}".strip()


def count(value: float | None) -> str:
    """
    >>> count(812), count(1_048_576)
    ('812', '1.05 M')
    """
    return _scaled(value, ("", "k", "M", "G", "T")) if value is not None and known(value) else NONE


def size(value: float | None) -> str:
    """Bytes in decimal units.

    >>> size(1_523_904)
    '1.52 MB'
    """
    return _scaled(value, ("B", "kB", "MB", "GB", "TB")) if value is not None and known(value) else NONE


def ratio(value: float | None) -> str:
    """How many times smaller than the teacher: ``16x``, ``3.9x``, ``0.5x``."""
    if value is None or not known(value):
        return NONE
    return f"{value:.0f}x" if value >= 9.95 else f"{value:.1f}x" if value >= 0.1 else significant(value, 1) + "x"


def share(value: float) -> str:
    """The part of the teacher's bytes, in words.

    >>> share(16.1), share(2.5), share(0.5)
    ('1/16 of the bytes', '40 % of the bytes', '2.0 times the bytes')
    """
    if value >= 9.5:
        return f"1/{value:.0f} of the bytes"
    if value > 1.005:
        return f"{100 / value:.0f} % of the bytes"
    return "as many bytes" if value > 0.995 else f"{1 / value:.1f} times the bytes"


def quality(value: float | None) -> str:
    return f"{value:.4f}" if value is not None and known(value) else NONE


def spread(mean: float | None, sd: float | None) -> str:
    return quality(mean) if sd is None or not known(sd) else f"{quality(mean)} ±{sd:.4f}".replace("±0.", "±.")


def percent(value: float | None) -> str:
    return f"{100 * value:.1f}" if value is not None and known(value) else NONE


def interval(low: float | None, high: float | None) -> str:
    """A 95 % interval of shares, in percent."""
    return f"[{percent(low)}, {percent(high)}]" if known(low) and known(high) else ""


def probability(value: float | None) -> str:
    """
    >>> probability(0.0004), probability(0.0314), probability(1.0)
    ('<.001', '.031', '1.000')
    """
    if value is None or not known(value):
        return NONE
    return "<.001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def equals(value: float | None) -> str:
    """``p < .001`` or ``p = .031``, for sentences."""
    text = probability(value)
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def metric_name(name: str) -> str:
    """
    >>> metric_name("ndcg@10"), metric_name("recall@10"), metric_name("logloss")
    ('NDCG@10', 'Recall@10', 'Log loss')
    """
    if name in _NAMES:
        return _NAMES[name]
    head, at, tail = name.partition("@")
    return (head.upper() if head.lower() in _UPPER else head[:1].upper() + head[1:]) + at + tail


def duration(seconds: float | None) -> str:
    if seconds is None or not known(seconds):
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"
