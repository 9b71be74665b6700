"""The configs of models, as plain nodes: what class one names, what it depends on, one merged over another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recdistill.config.importing import import_target
from recdistill.config.plugins import plugin_modules
from recdistill.config.suggest import did_you_mean
from recdistill.content.base import ContentEncoder
from recdistill.content.files import content_of
from recdistill.errors import InputError
from recdistill.export.bundle import INFO, WEIGHTS, model_info
from recdistill.models.build import instantiate
from recdistill.models.given import Bundle, ReadyMade
from recdistill.models.item_init import is_file
from recdistill.runs.atomic import file_digest
from recdistill.stages.blame import key_of_net


def target_of(node: dict[str, Any], where: str) -> Any:
    """The class that a config names."""
    return import_target(node["_target_"], where, plugin_modules())


def class_of(node: dict[str, Any], where: str) -> Any:
    """The class of the model that a node stands for; of a bundle that of the model in its folder."""
    if folder := bundle_of(node, where):
        return target_of(model_info(folder)["net"], f"{where}.net")
    return target_of(node["net"], f"{where}.net")


def bundle_of(node: dict[str, Any], where: str) -> Path | None:
    """The folder of the model that a node takes as it is, None where it does not."""
    net = node["net"]
    return Path(net["path"]).expanduser() if target_of(net, f"{where}.net") is Bundle else None


def spelled_out(node: dict[str, Any], where: str) -> dict[str, Any]:
    """The hyper-parameters of a node, and of its members, where a bundle's are those of the model in its folder."""
    if folder := bundle_of(node, where):
        found: dict[str, Any] = model_info(folder)["net"]
        return found
    return with_nets(node["net"], lambda name, one: spelled_out(one, f"{where}.net.members.{name}"))


def as_stored(node: dict[str, Any], where: str, folders: dict[str, str]) -> dict[str, Any]:
    """The hyper-parameters of a node, with those of its members as they are in their folders: what files gave them is
    nowhere else."""
    return with_nets(spelled_out(node, where), lambda name, _: dict(model_info(Path(folders[name]))["net"]))


def as_asked(net: dict[str, Any], where: str) -> dict[str, Any]:
    """A net's config without what its files have said, and so its members."""
    replaced = getattr(target_of(net, where), "replaced", ())
    asked = {name: value for name, value in net.items() if name not in replaced}
    return with_nets(asked, lambda name, one: as_asked(one["net"], f"{where}.members.{name}"))


def with_nets(net: dict[str, Any], own: Callable[[str, dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """A copy of a net's config; each member has the net that ``own`` makes of its name and its node."""
    found = {name: {**one, "net": own(name, one)} for name, one in (net.get("members") or {}).items()}
    return {**net, "members": found} if found else dict(net)


def is_made(node: dict[str, Any], where: str) -> bool:
    """Whether a model is made of files or of other models, and not trained."""
    return issubclass(target_of(node["net"], f"{where}.net"), Bundle | ReadyMade)


def is_assistant(node: dict[str, Any]) -> bool:
    """Whether a model is a student that teaches, see :mod:`recdistill.stages.assistant`."""
    return "taught_by" in node


@dataclass(frozen=True)
class Member:
    """A model that another one is made of.

    Attributes:
        key: in the config of the run.
        node: its config.
        task: config of the task that it is trained for.
    """

    key: str
    node: dict[str, Any]
    task: dict[str, Any]

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]


def members_of(whole: Member) -> list[Member]:
    """The models that one is made of, such as those of an ensemble; none for one that is trained by itself.

    Raises:
        InputError: one of them names no model.
    """
    net = whole.node["net"]
    model = target_of(net, f"{whole.key}.net")
    if not issubclass(model, ReadyMade) or "members" not in net:
        return []
    found = [Member(f"{whole.key}.net.members.{name}", node, model.task_of_members(net, whole.task))
             for name, node in net["members"].items()]  # fmt: skip
    for member in found:
        if not isinstance(member.node, dict) or "net" not in member.node:
            raise InputError(f"the member {member.name!r} names no model", where=member.key,
                             fix=f"+teacher@{member.key}=mf")  # fmt: skip
        if is_assistant(member.node):
            raise InputError(
                f"the member {member.name!r} is an assistant, which is a teacher by itself", where=member.key,
                fix=f"teacher@{member.key}=bundle, of a run that has distilled it",
            )  # fmt: skip
    return found


def with_members(whole: Member) -> Iterator[Member]:
    """A model, and all that it is made of."""
    yield whole
    for member in members_of(whole):
        yield from with_members(member)


def encoders_of(data: dict[str, Any]) -> dict[str, ContentEncoder]:
    """What makes vectors of items, by the name of the feature; ``data`` is that section of the config."""
    return {name: instantiate(node) for name, node in (data.get("encode") or {}).items()}


def given_files(depends_on: dict[str, Any], where: str) -> dict[str, Any]:
    """The content of the files that item tables start from and of those that models are read from, which their paths
    alone do not tell.

    Raises:
        InputError: there is no such file.
    """
    nodes = [node for node in (depends_on.get("node"), *depends_on.get("choices", ())) if node]
    starts: set[str] = {start for node in nodes if (start := (node.get("fit") or {}).get("item_init"))}
    files = sorted(start for start in starts if is_file(start))
    found = {"item_init": [content_of(file, f"{where}.fit.item_init") for file in files]} if files else {}
    read = [content for node in nodes for content in _read_by(node, where)]
    return found | ({"files": read} if read else {})


def _read_by(node: dict[str, Any], where: str) -> Iterator[list[str]]:
    """Hashes of the files that a model is read from."""
    if folder := bundle_of(node, where):
        model_info(folder)  # says what is wrong with it
        yield [file_digest(folder / name) for name in (WEIGHTS, INFO)]
    model = target_of(node["net"], f"{where}.net")
    if issubclass(model, ReadyMade):
        yield from (model.contents(name, node["net"][name], key_of_net(where, node, name)) for name in model.files)


def merged(node: dict[str, Any], changes: dict[str, Any], key: str = "alone") -> dict[str, Any]:
    """``node`` with some of its values replaced.

    Raises:
        InputError: a change has no place in ``node``.
    """
    result = dict(node)
    for name, value in changes.items():
        if name not in node:
            raise InputError(
                f"{key}.{name} replaces nothing: the student has {', '.join(node)}", where=key,
                fix=did_you_mean(name, node),
            )  # fmt: skip
        result[name] = merged(node[name], value, f"{key}.{name}") if isinstance(value, dict) else value
    return result
