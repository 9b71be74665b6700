"""Which numbers take a schedule, and whether its values fit: both are said by annotations."""

from __future__ import annotations

import inspect
import types
import typing
from typing import Annotated, Any, Protocol

from recdistill.config.suggest import listing
from recdistill.config.types import Finding, range_of, value_problem


class Planned(Protocol):
    """What stands in the place of a number and has many values, such as
    :class:`~recdistill.distillers.schedules.Schedule`."""

    def extremes(self) -> tuple[float, float]:
        """The least and the greatest of them."""
        ...


def takes(annotation: Any, kind: type) -> bool:
    """Whether an argument of this type may be an object of this class."""
    if annotation is Any:
        return True
    if typing.get_origin(annotation) is Annotated:
        return takes(typing.get_args(annotation)[0], kind)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return any(takes(part, kind) for part in typing.get_args(annotation))
    return inspect.isclass(annotation) and issubclass(kind, annotation)


def schedule_problem(key: str, schedule: Planned, annotations: dict[str, Any]) -> Finding | None:
    """What is wrong with a schedule in the place of an argument, or None: the argument takes none, or would not take
    one of its values as a plain number.

    Args:
        key: where it stands; its last part is the name of the argument.
        annotations: of all arguments there.
    """
    where, _, name = key.rpartition(".")
    kind = type(schedule)
    if not takes(annotations.get(name, Any), kind):
        able = [f"{where}.{other}" for other, annotation in annotations.items() if takes(annotation, kind)]
        said = f"a schedule goes to {listing(able)}" if able else f"nothing of {where} takes a schedule"
        return key, f"{name} takes no schedule", f"{key}=VALUE; {said}"
    low, high = schedule.extremes()
    for value in (low, high):
        if problem := value_problem(key, value, annotations.get(name, Any)):
            values = range_of(annotations[name])
            return key, f"a schedule goes from {low:g} to {high:g}: {problem[1]}", f"keep its values {values}"
    return None
