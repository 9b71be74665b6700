"""A config value against a type annotation, and the message when it does not fit."""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from recdistill.config.suggest import listing, nearest

Finding = tuple[str, str, str | None]
"""Key, message, fix."""

FINITE = ConfigDict(allow_inf_nan=False)
"""No number of a config is infinite, or not a number."""

_BOUNDS = (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))


def annotations_of(found: Any) -> dict[str, Any]:
    """The types of a class's constructor arguments (or of a function's), as far as they can be evaluated."""
    function = inspect.unwrap(found.__init__ if inspect.isclass(found) else found)
    function = getattr(function, "__func__", function)
    scope = getattr(function, "__globals__", {})
    types: dict[str, Any] = {}
    for name, annotation in getattr(function, "__annotations__", {}).items():
        holder = SimpleNamespace(__annotations__={name: annotation})
        try:
            types |= typing.get_type_hints(holder, scope, include_extras=True)
        except (NameError, TypeError, AttributeError):
            continue  # a type that is imported for the type checker only
    types.pop("return", None)
    return types


def value_problem(key: str, value: Any, annotation: Any, default: Any = None) -> Finding | None:
    """What is wrong with a value, or None.

    Args:
        default: a right value to offer, where there is one.

    Strict: ``true`` and ``1.5`` are no int, ``"3"`` is no number; an int is a float, a list is a tuple.
    Types that no plain value can have (a tensor, a module) are not judged.
    """
    adapter = _adapter(annotation)
    if adapter is None:
        return None
    try:
        # As JSON, since a YAML list stands for a tuple and a string for a path or an enum.
        adapter.validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        first = _nearest_miss(error)
        where, wrong = _follow(key, value, first["loc"])
        said = first.get("ctx", {}).get("fix")
        fix = said or _fix_choice(wrong, adapter, first) or _fix_range(where, adapter, default)
        return where, f"{_shown(wrong)}: {_wording(first)}", fix
    return None


def _nearest_miss(error: ValidationError) -> Any:
    """Of a type that is one of several, what is wrong with the value as that of its own kind: of ``[]`` that it is
    empty, and not that it is no number."""
    found = error.errors(include_url=False)
    return next((item for item in found if not item["type"].endswith(("_type", "missing"))), found[0])


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    if annotation is Any:
        return None
    for config in (FINITE, None):  # a model has a config of its own, and takes no other
        try:
            return TypeAdapter(annotation, config=config)
        except (PydanticUserError, TypeError, NameError):
            continue
    return None


def explain(error: ValidationError, tree: dict[str, Any], model: type[BaseModel]) -> Iterator[Finding]:
    """The errors of a pydantic model as config keys, one for each key."""
    seen: set[str] = set()
    for item in error.errors(include_url=False):
        if item["type"] == "extra_forbidden":
            key = ".".join(map(str, item["loc"]))
            yield key, f"there is no key {key!r} in the config", _near_field(item["loc"], model)
            continue
        if item["type"] == "missing":
            key = ".".join(map(str, item["loc"]))
            yield key, "is missing", f"{key}=VALUE"
            continue
        key, wrong = _follow("", tree, item["loc"])
        if key not in seen:
            seen.add(key)
            context = item.get("ctx", {})
            message = _wording(item) if context.get("whole") else f"{_shown(wrong)}: {_wording(item)}"
            yield key, message, context.get("fix") or _fix_field(key, item["loc"], model)


def _follow(key: str, value: Any, loc: tuple[int | str, ...]) -> tuple[str, Any]:
    """Walk an error's location through the data; the names of union members in it are stepped over."""
    for part in loc:
        if isinstance(value, dict) and part in value:
            key, value = (f"{key}.{part}" if key else str(part)), value[part]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            key, value = f"{key}[{part}]", value[part]
    return key, value


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"{text} ({'null' if value is None else type(value).__name__})"


def _wording(item: Any) -> str:
    if item["type"] == "string_pattern_mismatch":  # of a plug-in
        return f"must look like {item['ctx']['pattern']}"
    text = (
        str(item["msg"])
        .removeprefix("Value error, ")
        .replace("Input should", "must")
        .replace("String should", "must")
        .replace("List should", "must")
    )
    return text.replace("a valid ", "a ").replace("a integer", "an integer").replace("a array", "a list")


def _fix_range(key: str, adapter: TypeAdapter[Any], default: Any = None) -> str | None:
    """A right value and the allowed range: ``alpha=0.5: a number >= 0 and <= 1``; None for a type without one."""
    parts = _parts(adapter)
    if key.endswith("]"):
        parts = [part["items"] for part in parts if isinstance(part.get("items"), dict)]
    for part in parts:
        if bounds := _bounds(part):
            whole = part.get("type") == "integer"
            said = f"{'a whole number' if whole else 'a number'} {bounds}"
            if key.endswith("]"):
                return said
            number = isinstance(default, int | float) and not isinstance(default, bool)
            good = default if number else _example(part, whole)
            return f"{key}={'VALUE' if good is None else format(good, 'g')}: {said}"
    return None


def _bounds(part: dict[str, Any]) -> str:
    return " and ".join(f"{sign} {part[name]:g}" for name, sign in _BOUNDS if name in part)


def range_of(annotation: Any) -> str:
    """The bounds of a number: ``>= 0 and <= 1``; empty for a type without any."""
    adapter = _adapter(annotation)
    return next(filter(None, map(_bounds, _parts(adapter) if adapter else [])), "")


def _example(part: dict[str, Any], whole: bool) -> float | None:
    """A number within the bounds; None where there is but one, since a rate of 1 is no advice."""
    low: Any
    high: Any
    low, high = (part.get(name, part.get(f"exclusive{name.capitalize()}")) for name in ("minimum", "maximum"))
    if whole:
        return float(high - ("exclusiveMaximum" in part) if low is None else low + ("exclusiveMinimum" in part))
    if low is not None and high is not None:
        return float(low + high) / 2
    return None


def _parts(adapter: TypeAdapter[Any]) -> list[dict[str, Any]]:
    try:
        schema = adapter.json_schema()
    except PydanticUserError:
        return []
    return [schema, *schema.get("anyOf", [])]


def _fix_choice(value: Any, adapter: TypeAdapter[Any], error: Any) -> str | None:
    choices = [str(choice) for part in _parts(adapter) for choice in part.get("enum", [])]
    if not choices and error["type"] == "literal_error":  # of a field of a model
        choices = re.findall(r"'([^']+)'", error["ctx"]["expected"])
    near = nearest(str(value), choices, 1)
    return f"did you mean {near[0]}?" if near else (f"one of {listing(choices)}" if choices else None)


def _model_at(loc: tuple[int | str, ...], model: type[BaseModel]) -> type[BaseModel]:
    for part in loc[:-1]:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (inspect.isclass(inner) and issubclass(inner, BaseModel)):
            break
        model = inner
    return model


def _near_field(loc: tuple[int | str, ...], model: type[BaseModel]) -> str | None:
    fields = _model_at(loc, model).model_fields
    near = nearest(str(loc[-1]), fields, 1)
    return f"did you mean {'.'.join([*map(str, loc[:-1]), near[0]])}?" if near else f"keys: {listing(fields)}"


def _fix_field(key: str, loc: tuple[int | str, ...], model: type[BaseModel]) -> str | None:
    for end in range(len(loc), 0, -1):
        field = _model_at(loc[:end], model).model_fields.get(str(loc[end - 1]))
        if field is not None:
            annotation: Any = field.annotation
            for extra in field.metadata:
                annotation = typing.Annotated[annotation, extra]
            return _fix_range(key, TypeAdapter(annotation), field.default)
    return None
