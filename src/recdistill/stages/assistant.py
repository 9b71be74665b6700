"""A teacher that is itself a student: what a config says of it, and the config of the line that it is the end of
(docs/signals.md).

Source: Mirzadeh et al., Improved knowledge distillation via teacher assistant, AAAI 2020.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from recdistill.errors import InputError
from recdistill.stages.nodes import is_assistant

OWN = ("taught_by", "distiller", "alpha")  # of its node, beside those of any model
KEYS = {
    "student": "teacher",
    "teacher": "teacher.taught_by",
    "distiller": "teacher.distiller",
    "alpha": "teacher.alpha",
}
# student.net.dim=8, distiller=[topk_kl], objective@student.objective=bce; not the words of a sentence.
_KEY = re.compile(rf"(?<![\w./])({'|'.join(KEYS)})(?=(\.[a-z_]|=))")


def assisted_config(cfg: dict[str, Any]) -> dict[str, Any] | None:
    """The config of the line whose student is the teacher of ``cfg``; as a teacher it has all labels and columns. None
    where the teacher is nobody's student, or that of a line over other data."""
    node = cfg["teacher"]
    if cfg.get("transfer") or not is_assistant(node):
        return None
    student = {name: value for name, value in node.items() if name not in OWN}
    nothing = ("alone", "teaching", "weighting", "transfer", "compression", "baselines", "budget")
    return cfg | {name: {} for name in nothing} | {
        "teacher": node["taught_by"], "student": student, "distiller": node["distiller"], "alpha": node["alpha"],
        "data": cfg["data"] | {"label_fraction": 1.0, "privileged": []},
    }  # fmt: skip


@contextlib.contextmanager
def keys_of_assistant() -> Iterator[None]:
    """Inside, an InputError about ``student``, ``teacher``, ``distiller`` or ``alpha`` is about those of the line whose
    student is the teacher."""
    try:
        yield
    except InputError as error:
        error.where = KEYS.get(error.where or "", _KEY.sub(_of_assistant, error.where or "")) or None
        error.fix = _KEY.sub(_of_assistant, error.fix or "") or None
        raise


def _of_assistant(key: re.Match[str]) -> str:
    group, placed = key[1], key.string[: key.start()].endswith("@")
    chosen = key[2] == "=" and group != "alpha" and not placed  # an option of a group, without its place
    return f"{group}@{KEYS[group]}" if chosen else KEYS[group]


def require_assistant(cfg: dict[str, Any]) -> None:
    """Refuses an assistant in another place than that of a teacher, and one that is not distilled.

    Raises:
        InputError: see above.
    """
    models = {"student": cfg["student"]} | {
        f"baselines.{name}": node for name, node in dict(cfg.get("baselines") or {}).items()
    }
    for where, node in models.items():
        if is_assistant(node):
            raise InputError("an assistant is a teacher alone", where=f"{where}.taught_by",
                             fix="teacher=assistant; recdistill ls teacher shows all")  # fmt: skip
    node = cfg["teacher"]
    if not any(name in node for name in OWN):
        return
    for name, group in (("taught_by", "teacher"), ("distiller", "distiller")):
        if isinstance(node.get(name), str):
            raise InputError(f"{node[name]!r} is the name of a whole section, which is placed", where=f"teacher.{name}",
                             fix=f"{group}@teacher.{name}={node[name]}")  # fmt: skip
    if missing := [name for name in OWN if not node.get(name)]:
        raise InputError(
            f"an assistant without {missing[0]} is no student of its teacher", where=f"teacher.{missing[0]}",
            fix="teacher=assistant; distiller@teacher.distiller=soft_label teacher.alpha=0.5; or another teacher",
        )  # fmt: skip
    if isinstance(node["alpha"], int | float) and not 0 < node["alpha"] <= 1:
        raise InputError(
            f"{node['alpha']} is not above 0 and at most 1", where="teacher.alpha", fix="teacher.alpha=0.5"
        )


def notes_on_assistant(cfg: dict[str, Any]) -> list[str]:
    """What a reader of a table must know of an assistant."""
    if not is_assistant(cfg["teacher"]):
        return []
    return [f"the teacher is an assistant, {lineage(cfg['teacher'])}; who taught it is in no row, nor is the time that"
            " took"]  # fmt: skip


def lineage(node: dict[str, Any]) -> str:
    """A model, and who taught it."""
    net = node["net"]
    name = str(net["_target_"]).rpartition(".")[2] + (f" d={net['dim']}" if "dim" in net else "")
    if not is_assistant(node):
        return name
    return f"{name} that learned by {'+'.join(node['distiller'])} from {lineage(node['taught_by'])}"
