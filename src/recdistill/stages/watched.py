"""Whether teacher and student have the layers that distillers compare, looked at before anything is trained."""

from __future__ import annotations

from typing import Any

import torch

from recdistill.distillers.base import Distiller, View
from recdistill.export.bundle import model_info
from recdistill.models.base import Model
from recdistill.models.build import build, instantiate
from recdistill.models.given import ReadyMade
from recdistill.models.layers import source
from recdistill.modules.mutual import Mutual
from recdistill.stages.assistant import keys_of_assistant
from recdistill.stages.line import Line
from recdistill.stages.nodes import bundle_of, target_of
from recdistill.stages.teaching import teaching_of

CPU = torch.device("cpu")


def require_layers(line: Line) -> None:
    """Builds both, untrained, since a size may decide which layers there are, and asks them about one query, since a
    layer need not be called. What is made of other models is not known before those are.

    Raises:
        InputError: a layer is not there, or gives nothing of a query.
    """
    if line.assisted:
        with keys_of_assistant():
            require_layers(line.assisted)
    for role, names in wanted(line).items():
        net = net_of(line.cfg[role], role)
        if not names or issubclass(target_of(net, f"{role}.net"), ReadyMade):
            continue
        data = line.given(line.data) if role == "student" else line.data
        with torch.random.fork_rng(devices=[]):
            model = build(net, line.task.schema(data)).eval()
            model.bind(data.train.taught)
        with torch.no_grad():
            require_given(line.task.view(model, line.task.prepare(data.train, CPU), torch.arange(1)), model, names)


def wanted(line: Line) -> dict[str, set[str]]:
    """Names of the layers of student and teacher that the losses of a line compare."""

    def losses() -> list[Distiller]:
        return [instantiate(node) for node in line.distillers.values()] if line.losses else []

    forth = losses()
    own = {name for loss in forth for name in loss.layers}
    its = {name for loss in forth for name in loss.needs().layers}
    how = teaching_of(line.cfg.get("teaching"))
    if isinstance(how, Mutual) and how.back:
        for loss in losses():
            if loss.teaches:
                loss.swap()
                own |= set(loss.needs().layers)
                its |= set(loss.layers)
    return {"student": own, "teacher": its}


def require_given(view: View, model: Model, names: set[str]) -> None:
    """Raises InputError where the answers of a model are without a layer."""
    others = view.layers()
    for name in sorted(names):
        source(model, name, others)
    watched = view.watch(sorted(names))
    for name in sorted(names):
        watched.layer(name)


def net_of(node: dict[str, Any], where: str) -> dict[str, Any]:
    """Config of the net of a node, or of that in the bundle that the node takes."""
    folder = bundle_of(node, where)
    net: dict[str, Any] = model_info(folder)["net"] if folder else node["net"]
    return net
