"""Which Python objects a config may name.

Hydra calls whatever ``_target_`` names, and so do ``class`` and ``()`` of a logging config. Both are looked
at three times: in the raw overrides (before Hydra sees them), in the composed config (aliases, nested nodes
and interpolations), and on the imported object (a module may import ``torch`` under its own name).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from recdistill.config.suggest import nearest
from recdistill.errors import InputError

PREFIXES = (
    "recdistill.",
    "torch.optim.",
    "pytorch_lightning.callbacks.",
    "pytorch_lightning.loggers.",
    "pytorch_lightning.plugins.",
    "pytorch_lightning.profilers.",
    "pytorch_lightning.strategies.",
    "pytorch_lightning.trainer.",
)
EXACT = ("pytorch_lightning.Trainer",)
# Parts of our own package that write files or start stages: nothing that a config should call.
PRIVATE = ("recdistill.cli", "recdistill.config", "recdistill.errors", "recdistill.runs", "recdistill.stages")
HYDRA_PREFIXES = ("hydra._internal.core_plugins.", "hydra_plugins.", "hydra.experimental.callbacks.")
LOGGING_PREFIXES = ("logging.", "rich.logging.", "colorlog.")
# Folders are ours to choose (run.name, run.root), and a search path would bring in files nobody scanned.
OWN_HYDRA_KEYS = {
    "hydra.run.dir": "run.name=NAME",
    "hydra.sweep.dir": "run.name=NAME",
    "hydra.sweep.subdir": "run.name=NAME",
    "hydra.output_subdir": "run.name=NAME",
    "hydra.searchpath": "--config-dir DIR",
    "hydra.job.chdir": "run.name=NAME",
}

# Environment variables that decide which code runs; hydra.job.env_set must not touch them.
CODE_VARIABLES = ("RECDISTILL_", "PYTHON", "LD_", "DYLD_", "PATH")

_INTERPOLATION = "${"
_CREATES_NODES = ("${oc.create", "${oc.decode")


def is_allowed(target: str, plugins: Iterable[str] = ()) -> bool:
    """Whether a ``_target_`` of this name may be imported at all.

    Args:
        target: the dotted name.
        plugins: the top-level modules of the plug-ins that the user enabled.
    """
    parts = target.split(".")
    if len(parts) < 2 or not all(part.isidentifier() and not part.startswith("_") for part in parts):
        return False
    if any(target == name or target.startswith(name + ".") for name in PRIVATE):
        return False
    return target in EXACT or target.startswith(PREFIXES) or parts[0] in frozenset(plugins)


def check_target(target: object, key: str, plugins: Iterable[str] = ()) -> str:
    """The target's name if it is allowed.

    Raises:
        InputError: it is not; the message lists what is, and the nearest such name.
    """
    if isinstance(target, str) and is_allowed(target, plugins):
        return target
    raise _refused(target, key, tuple(plugins))


def check_object(found: object, target: str, key: str, plugins: Iterable[str] = ()) -> None:
    """Refuse an object that only looks as if it were defined under an allowed name.

    Raises:
        InputError: ``found`` is not a class or function, or it was defined elsewhere
            (``recdistill.x.torch.load`` is ``torch.load``).
    """
    plugins = tuple(plugins)
    module = getattr(found, "__module__", None)
    if not callable(found) or not isinstance(module, str):
        raise InputError(f"{target} is not a class or a function", where=key)
    home = f"{module}.{getattr(found, '__name__', 'object')}"
    if not is_allowed(_public(home), plugins) and not any(home.startswith(p) for p in PREFIXES[1:]):
        raise _refused(home, key, plugins, alias=target)


def _public(home: str) -> str:
    # An object may live in a private file (recdistill.models._layers) and be exported by a public one.
    return ".".join(part.lstrip("_") or part for part in home.split("."))


def check_overrides(overrides: Iterable[tuple[str, Any]], plugins: Iterable[str] = ()) -> None:
    """Look at the overrides of the command line before Hydra does.

    Args:
        overrides: dotted key and parsed value of each (a sweep is a list of its choices).
        plugins: see :func:`is_allowed`.
    """
    plugins = tuple(plugins)
    for key, value in overrides:
        key = key.replace("/", ".") if key.startswith("hydra/") else key
        if key in OWN_HYDRA_KEYS or key.startswith("hydra.searchpath"):
            raise _own_key(key)
        if key.startswith("hydra.") or key == "hydra":
            _refuse_calls_under_hydra(key, value)
        else:
            _check_targets(key, value, plugins)


def _own_key(key: str) -> InputError:
    fix = OWN_HYDRA_KEYS.get(key, "--config-dir DIR")
    return InputError(f"{key} is set by recdistill itself", where=key, fix=f"use {fix} instead")


def _refuse_calls_under_hydra(key: str, value: Any) -> None:
    for name, leaf in leaves(value, key):
        if name.rpartition(".")[2] in ("_target_", "class", "()") or _creates(leaf):
            raise InputError(
                f"{name} must not be set from the command line",
                where=name,
                why="Hydra calls what it names before the config is checked",
                fix="choose an option instead, as in hydra/launcher=joblib",
            )


def _check_targets(key: str, value: Any, plugins: tuple[str, ...]) -> None:
    for name, leaf in leaves(value, key):
        if name.rpartition(".")[2] != "_target_":
            continue
        # A sweep over targets is a list; what an interpolation gives is seen in the composed config.
        for target in leaf if isinstance(leaf, list) else [leaf]:
            if not (isinstance(target, str) and _INTERPOLATION in target):
                check_target(target, name, plugins)


def check_config(resolved: Any, plugins: Iterable[str] = ()) -> None:
    """Check every ``_target_`` of a composed and resolved config (without its hydra node)."""
    plugins = tuple(plugins)
    for name, leaf in leaves(resolved, ""):
        if name.rpartition(".")[2] == "_target_":
            check_target(leaf, name, plugins)


def check_hydra_node(node: Any) -> None:
    """Check the unresolved ``hydra`` node: nothing but Hydra's own plug-ins and logging may be named."""
    for name, leaf in leaves(node, "hydra"):
        last = name.rpartition(".")[2]
        if last == "_target_":
            allowed = isinstance(leaf, str) and leaf.startswith(HYDRA_PREFIXES)
        elif last in ("class", "()"):
            allowed = isinstance(leaf, str) and leaf.startswith(LOGGING_PREFIXES) and leaf.count(".") <= 2
        elif isinstance(leaf, str) and leaf.startswith("ext://"):
            allowed = leaf in ("ext://sys.stdout", "ext://sys.stderr")
        else:
            allowed = not _creates(leaf) and not _sets_code_variable(name)
        if not allowed:
            raise InputError(
                f"{name}: {leaf} is not allowed",
                where=name,
                why="it would run code; Hydra may call: " + ", ".join((*HYDRA_PREFIXES, *LOGGING_PREFIXES)),
                fix="remove it, or choose a shipped option of that hydra/ group",
            )


def leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Dotted key and value of every leaf; a ``_target_`` that is no string is a leaf, too."""
    if isinstance(value, dict):
        for name, child in value.items():
            inner = f"{key}.{name}" if key else str(name)
            if str(name) == "_target_":
                yield inner, child
            else:
                yield from leaves(child, inner)
    elif isinstance(value, (list, tuple)) and not key.endswith("_target_"):
        for index, child in enumerate(value):
            yield from leaves(child, f"{key}[{index}]")
    else:
        yield key, value


def _sets_code_variable(name: str) -> bool:
    return name.startswith("hydra.job.env_set.") and name.split(".")[3].upper().startswith(CODE_VARIABLES)


def _creates(leaf: object) -> bool:
    return isinstance(leaf, str) and any(mark in leaf for mark in _CREATES_NODES)


def _refused(target: object, key: str, plugins: tuple[str, ...], alias: str = "") -> InputError:
    allowed = (*PREFIXES, *EXACT, *(f"{name}." for name in plugins))
    near = nearest(target, allowed, 1) if isinstance(target, str) else []
    what = f"{alias} is really {target}, which" if alias else f"the target {target!r}"
    return InputError(
        f"{what} is not allowed in a config",
        where=key,
        why="a target is Python code that runs; allowed are " + ", ".join(allowed),
        fix=f"did you mean {near[0]}?" if near else "for code of your own: --plugin DIR and _target_: MODULE.CLASS",
    )
