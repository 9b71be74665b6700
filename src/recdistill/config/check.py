"""Bind the whole config to the constructors it names, before anything runs; every problem at once."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from recdistill.config.importing import import_target
from recdistill.config.schedules import Planned, schedule_problem
from recdistill.config.schema import Config
from recdistill.config.suggest import listing, nearest
from recdistill.config.types import Finding, annotations_of, explain, value_problem
from recdistill.errors import InputError

# Arguments that the framework gives when it builds the object.
SUPPLIED = frozenset({"schema"})
# Keys of Hydra's instantiate, never arguments.
RESERVED = frozenset({"_target_", "_partial_", "_args_", "_convert_", "_recursive_"})


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Args:
        key: the config key.
        message: what is wrong with it and what it was.
        fix: what to type instead.
    """

    key: str
    message: str
    fix: str | None = None

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" + (f" ({self.fix})" if self.fix else "")


def check_config(
    resolved: dict[str, Any],
    *,
    plugins: Iterable[str] = (),
    supplied: Iterable[str] = SUPPLIED,
    sections: Iterable[str] = (),
) -> list[Problem]:
    """Everything that is wrong with a composed and resolved config.

    Args:
        resolved: the config as plain values, without its hydra node.
        plugins: top-level modules of the enabled plug-ins.
        supplied: names of arguments that are given at run time.
        sections: further top-level keys that are allowed: groups that a user added.
    """
    plain = check_plain(resolved, sections)
    nodes = check_nodes(resolved, plugins=plugins, supplied=frozenset(supplied))
    return [*plain, *(problem for problem in nodes if not any(_passed_on(top, problem) for top in plain))]


def _passed_on(top: Problem, below: Problem) -> bool:
    """Whether a value is wrong only because it is taken from a top-level key of its name that is wrong as well."""
    same_name = "." not in top.key and below.key.rpartition(".")[2] == top.key
    return same_name and below.message.partition(": ")[0] == top.message.partition(": ")[0]


def require_valid(problems: list[Problem]) -> None:
    """Raise one error for all problems."""
    if not problems:
        return
    if len(problems) == 1:
        raise InputError(problems[0].message, where=problems[0].key, fix=problems[0].fix)
    lines = "\n".join(f"  {problem}" for problem in problems[:20])
    more = f"\n  ... and {len(problems) - 20} more" if len(problems) > 20 else ""
    raise InputError(f"{len(problems)} things in the config are wrong:\n{lines}{more}")


def check_plain(resolved: dict[str, Any], sections: Iterable[str] = ()) -> list[Problem]:
    """The values that belong to no constructor, against :mod:`recdistill.config.schema`."""
    extra = set(sections) - set(Config.model_fields)
    known = {key: value for key, value in resolved.items() if key not in extra}
    try:
        Config.model_validate_json(json.dumps(known, default=str), strict=True)
    except ValidationError as error:
        return [Problem(*found) for found in explain(error, known, Config)]
    return []


def check_nodes(
    tree: Any, key: str = "", *, plugins: Iterable[str] = (), supplied: frozenset[str] = SUPPLIED
) -> list[Problem]:
    """Every node with a ``_target_`` below ``tree``, nested ones too."""
    problems: list[Problem] = []
    for name, node in _nodes(tree, key):
        try:
            problems += _check_node(name, node, tuple(plugins), supplied)
        except InputError as error:
            problems.append(Problem(error.where or name, _one_line(error), error.fix))
    return problems


def _one_line(error: InputError) -> str:
    return f"{error.what}; {error.why}" if error.why else error.what


def _nodes(tree: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(tree, dict):
        if "_target_" in tree:
            yield key, tree
        for name, child in tree.items():
            yield from _nodes(child, f"{key}.{name}" if key else str(name))
    elif isinstance(tree, list):
        for index, child in enumerate(tree):
            yield from _nodes(child, f"{key}[{index}]")


def _check_node(key: str, node: dict[str, Any], plugins: tuple[str, ...], supplied: frozenset[str]) -> list[Problem]:
    found = import_target(node["_target_"], f"{key}._target_", plugins)
    parameters = _parameters(found)
    if parameters is None:
        return []
    given = {name: value for name, value in node.items() if name not in RESERVED}
    return [
        *_unknown(key, node["_target_"], given, parameters),
        *_absent(key, node, given, parameters, supplied),
        *_wrong_values(key, given, found, plugins),
    ]


def _parameters(found: Any) -> dict[str, inspect.Parameter] | None:
    try:
        return dict(inspect.signature(found).parameters)
    except (TypeError, ValueError):  # a constructor written in C
        return None


def _unknown(
    key: str, target: str, given: dict[str, Any], parameters: dict[str, inspect.Parameter]
) -> Iterator[Problem]:
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in given:
        if name not in parameters:
            near = nearest(name, parameters, 1)
            fix = f"did you mean {key}.{near[0]}?" if near else None
            takes = listing(parameters) or "nothing"
            yield Problem(f"{key}.{name}", f"{target} takes no {name!r}, it takes: {takes}", fix)


def _absent(
    key: str,
    node: dict[str, Any],
    given: dict[str, Any],
    parameters: dict[str, inspect.Parameter],
    supplied: frozenset[str],
) -> Iterator[Problem]:
    # What a partial lacks is given by whoever calls it.
    if node.get("_partial_"):
        return
    positional = len(node.get("_args_", ()))
    for index, (name, parameter) in enumerate(parameters.items()):
        variable = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        optional = variable or parameter.default is not parameter.empty
        if optional or index < positional or name in given or name in supplied:
            continue
        yield Problem(f"{key}.{name}", f"{node['_target_']} needs {name!r}", f"{key}.{name}=VALUE")


def _wrong_values(key: str, given: dict[str, Any], found: Any, plugins: tuple[str, ...]) -> Iterator[Problem]:
    annotations, parameters = annotations_of(found), _parameters(found) or {}
    for name, value in given.items():
        if name not in annotations:
            continue
        default = parameters[name].default if name in parameters else None
        if not _holds_node(value):
            problem = value_problem(f"{key}.{name}", value, annotations[name], default)
        else:
            problem = _wrong_schedule(f"{key}.{name}", value, annotations, plugins)
        if problem:
            yield Problem(*problem)


def _wrong_schedule(key: str, value: Any, annotations: dict[str, Any], plugins: tuple[str, ...]) -> Finding | None:
    """What is wrong with the place of a node, where it is a schedule. What is wrong with the node itself is found with
    it, but for what its constructor says."""
    if not (isinstance(value, dict) and "_target_" in value):
        return None
    try:
        kind = import_target(value["_target_"], key, plugins)
        if not hasattr(kind, "extremes") or _check_node(key, value, plugins, SUPPLIED):
            return None
        schedule: Planned = kind(**{name: given for name, given in value.items() if name not in RESERVED})
    except InputError:
        return None
    except ValueError as error:
        return key, str(error), None
    return schedule_problem(key, schedule, annotations)


def _holds_node(value: Any) -> bool:
    return any(True for _ in _nodes(value, ""))
