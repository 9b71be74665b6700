"""Numbers that change while a model is trained: alpha, a temperature, the weight of a term."""

from __future__ import annotations

import math
from typing import Annotated, Any

from annotated_types import Ge, Gt, Interval, MinLen

Share = Annotated[float, Interval(ge=0, le=1)]
Part = Annotated[float, Interval(gt=0, le=1)]


class Schedule:
    """A number as a function of how much of the training is done, from 0 at its first step towards 1."""

    def __call__(self, progress: float) -> float:
        raise NotImplementedError

    def extremes(self) -> tuple[float, float]:
        """Its least and its greatest value."""
        raise NotImplementedError

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.dict_schema()  # in a config it is a node; what it takes its constructor says


class Linear(Schedule):
    """From ``start`` to ``end`` in a straight line, which is done after a share of the training.

    Args:
        start, end: the values.
        over: share of the training that it takes; 0.1 is a warm-up.
    """

    def __init__(self, start: float, end: float, over: Part = 1.0):
        self.start, self.end, self.over = start, end, over

    def __call__(self, progress: float) -> float:
        return self.start + (self.end - self.start) * self.shape(min(progress / self.over, 1.0))

    def shape(self, done: float) -> float:
        """How far from start to end, when a share of the way is done."""
        return done

    def extremes(self) -> tuple[float, float]:
        return min(self.start, self.end), max(self.start, self.end)


class Cosine(Linear):
    """As :class:`Linear`, along half a cosine: slowly at both ends.

    Args:
        start, end, over: see :class:`Linear`.
    """

    def shape(self, done: float) -> float:
        return (1 - math.cos(math.pi * done)) / 2


class Exponential(Linear):
    """From ``start`` to ``end``, both above 0, by a constant factor at each step.

    Args:
        start, end, over: see :class:`Linear`.
    """

    def __init__(self, start: Annotated[float, Gt(0)], end: Annotated[float, Gt(0)], over: Part = 1.0):
        super().__init__(start, end, over)

    def __call__(self, progress: float) -> float:
        return float(self.start * (self.end / self.start) ** min(progress / self.over, 1.0))


class Steps(Schedule):
    """Constant between some moments.

    Args:
        values: one more than ``at``.
        at: shares of the training at which the next value begins, ascending.

    Raises:
        ValueError: their numbers or order do not fit.
    """

    def __init__(self, values: Annotated[list[float], MinLen(1)], at: list[Share]):
        if len(values) != len(at) + 1:
            raise ValueError(f"{len(values)} values need {len(values) - 1} moments in 'at', not {len(at)}")
        if at != sorted(at):
            raise ValueError(f"the moments of 'at' must ascend: {at}")
        self.values, self.at = values, at

    def __call__(self, progress: float) -> float:
        return self.values[sum(progress >= moment for moment in self.at)]

    def extremes(self) -> tuple[float, float]:
        return min(self.values), max(self.values)


# Numbers that are looked at anew in each step; a schedule must stay where the number must.
Amount = Annotated[float, Ge(0)] | Schedule  # of anything; at 0 it is not there
Weight = Amount
Temperature = Annotated[float, Gt(0)] | Schedule
Mix = Share | Schedule  # of two parts; at 0 or 1 one of them is left out
Blend = Annotated[float, Interval(gt=0, lt=1)] | Schedule  # of two parts, none of which is left out
Dropped = Annotated[float, Interval(ge=0, lt=1)] | Schedule  # share of what is there
Rate = Annotated[float, Gt(0)] | None


def most(value: float | Schedule) -> float:
    """The greatest value that a number will have."""
    return value.extremes()[1] if isinstance(value, Schedule) else value


def at(value: float | Schedule, progress: float) -> float:
    """The value of a number or a schedule."""
    return value(progress) if isinstance(value, Schedule) else value
