"""Rows of a table: from raw values to the inputs of a graph."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recdistill.export.names import NUMBERS, WORDS
from recdistill.runs.atomic import read_json
from recdistill.serving.catalogue import frame, strings, unreadable

Inputs = dict[str, npt.NDArray[Any]]
Value = str | int | float | bool | list[Any] | None
MOST = 2**63
KINDS = ("categorical", "numeric", "multi", "vector")


class BadValueError(ValueError):
    """A value of a row that its feature can't have."""


@dataclass(frozen=True)
class Columns:
    """What a row is made of.

    Attributes:
        kinds: kind of feature to names and sizes, in the order of the graph's columns.
        codes: name of a categorical or set-valued feature to value to code.
        moments: name of a numeric feature to mean and deviation.
        logarithms: whether numbers enter as sign(x) · log(1 + |x|).
    """

    kinds: dict[str, dict[str, int]]
    codes: dict[str, dict[str, int]]
    moments: dict[str, tuple[float, float]]
    logarithms: bool = False

    @property
    def names(self) -> dict[str, str]:
        """Name of a feature to its kind."""
        return {name: kind for kind in KINDS for name in self.kinds.get(kind, {})}

    def encode(self, rows: Sequence[Mapping[str, Value]]) -> Inputs:
        """The inputs of a graph; what a row leaves out is missing, and a word that training lacked unknown.

        Raises:
            BadValueError: a feature that is not there, or a value that it can't have.
        """
        known = self.names
        for number, row in enumerate(rows):
            for name in row:
                if name not in known:
                    raise BadValueError(f"row {number}: there is no feature {name!r}; they are {', '.join(known)}")
        inputs: Inputs = {}
        single = self.kinds.get("categorical", {})
        if single:
            inputs["categorical"] = np.array([[self._code(name, row.get(name), at) for name in single]
                                              for at, row in enumerate(rows)], np.int64)  # fmt: skip
        if self.kinds.get("numeric"):
            inputs["numeric"] = np.array([[self._number(name, row.get(name), at) for name in self.kinds["numeric"]]
                                          for at, row in enumerate(rows)], np.float32)  # fmt: skip
        for name in self.kinds.get("multi", {}):
            sets = [self._set(name, row.get(name), at) for at, row in enumerate(rows)]
            inputs[f"{name}.indptr"] = np.cumsum([0, *map(len, sets)], dtype=np.int64)
            inputs[f"{name}.indices"] = np.array([code for codes in sets for code in codes], np.int64)
        for name, size in self.kinds.get("vector", {}).items():
            inputs[f"{name}.vector"] = np.array([self._vector(name, row.get(name), size, at)
                                                 for at, row in enumerate(rows)], np.float32)  # fmt: skip
        return inputs

    def _code(self, name: str, value: Value, row: int) -> int:
        if value is None:
            return 0
        if isinstance(value, bool) or not (isinstance(value, str) or (isinstance(value, int) and abs(value) < MOST)):
            raise BadValueError(f"row {row}: {name} is a word, such as {self._example(name)!r}")
        return self.codes[name].get(str(value), 0)

    def _set(self, name: str, value: Value, row: int) -> list[int]:
        if not isinstance(value, list | None):
            raise BadValueError(f"row {row}: {name} is a list of words, such as [{self._example(name)!r}]")
        return [code for one in value or () if (code := self._code(name, one, row))]

    def _number(self, name: str, value: Value, row: int) -> float:
        if value is None:
            return 0.0
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:
            raise BadValueError(f"row {row}: {name} is a number")
        number = math.copysign(math.log1p(abs(value)), value) if self.logarithms else float(value)
        mean, deviation = self.moments[name]
        return (number - mean) / (deviation or 1.0)

    def _vector(self, name: str, value: Value, size: int, row: int) -> list[float]:
        if value is None:
            return [0.0] * size
        if not isinstance(value, list) or len(value) != size:
            raise BadValueError(f"row {row}: {name} is a list of {size} numbers")
        for one in value:
            if isinstance(one, bool) or not isinstance(one, int | float) or not abs(one) < 1e30:
                raise BadValueError(f"row {row}: {name} is a list of {size} numbers")
        return [float(one) for one in value]

    def _example(self, name: str) -> str:
        return next((word for word, code in self.codes[name].items() if code), "")


def read_columns(folder: Path, schema: Mapping[str, Any], logarithms: bool) -> Columns:
    """From the files of a bundle.

    Raises:
        InputError: they say something else than a bundle's do.
    """
    words = frame(folder / WORDS, "feature", "code", "value")
    try:
        kinds = {kind: {name: int(schema["features"][kind][name]) for name in sorted(schema["features"].get(kind, {}))}
                 for kind in KINDS}  # fmt: skip
        codes: dict[str, dict[str, int]] = {name: {} for kind in ("categorical", "multi") for name in kinds[kind]}
        for name, value, code in zip(strings(words["feature"]), strings(words["value"]), words["code"], strict=True):
            if name in codes and value:
                codes[name][value] = int(code)
        numbers = read_json(folder / NUMBERS)
        moments = {name: (float(numbers[name][0]), float(numbers[name][1])) for name in kinds["numeric"]}
        for kind in ("categorical", "multi"):
            for name, size in kinds[kind].items():
                if any(not 0 < code < size for code in codes[name].values()):
                    raise ValueError(f"{name} has codes that the model lacks")
    except (KeyError, ValueError, TypeError, IndexError, OSError, AttributeError) as error:
        raise unreadable(folder, error) from error
    return Columns(kinds, codes, moments, logarithms)


def joined(parts: Sequence[Inputs]) -> Inputs:
    """The inputs of several requests as those of one."""
    if len(parts) == 1:
        return parts[0]
    found: Inputs = {}
    for name in parts[0]:
        columns = [part[name] for part in parts]
        if name.endswith(".indptr"):
            starts = np.cumsum([0, *(column[-1] for column in columns[:-1])])
            columns = [columns[0][:1], *(column[1:] + start for column, start in zip(columns, starts, strict=True))]
        found[name] = np.concatenate(columns)
    return found


def n_rows(inputs: Inputs) -> int:
    """How many rows these are."""
    name, first = next(iter(inputs.items()))
    return len(first) - name.endswith(".indptr")
