"""Programs of ``torch.export``, which PyTorch runs without this package's classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from recdistill.errors import InputError
from recdistill.export.base import Format, Subject
from recdistill.export.graphs import Graph, Inputs, exported_graph, require_exportable
from recdistill.export.onnx import quiet, shapes_of
from recdistill.export.parity import TOP, Answer, measured
from recdistill.export.small import with_small_weights
from recdistill.models.base import Model

PROGRAM = "model.pt2"


class TorchExport(Format):
    """``model.pt2``: the graph that the ONNX format exports, of PyTorch's own operators.

    Args:
        k: length of the lists, 10 or more; a shorter list is the beginning of a longer one.
    """

    def __init__(self, k: Annotated[int, Ge(TOP)] = 100):
        self.k = k

    def require(self, model: type[Model], net: dict[str, Any], where: str) -> None:
        require_exportable(model, net, where)

    def write(self, subject: Subject, folder: Path) -> list[dict[str, Any]]:
        model = with_small_weights(subject.model, subject.codecs)
        graph = exported_graph(model, self.k, subject.queries.examples(), subject.queries.predict)
        write_program(graph, folder / PROGRAM)
        return [{"file": PROGRAM, **measured(subject.queries, program(folder / PROGRAM), folder / PROGRAM)}]


def write_program(graph: Graph, file: Path) -> None:
    """Writes the program.

    Raises:
        InputError: something in the model can't be traced.
    """
    with quiet():
        try:
            # Sizes that follow from each other are checked when it runs, where they would be frozen otherwise.
            traced = torch.export.export(
                graph.module, tuple(graph.inputs.values()), dynamic_shapes=shapes_of(graph),
                prefer_deferred_runtime_asserts_over_guards=True,
            )  # fmt: skip
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"{file.name}: the model can't be exported", where="export.torch_export",
                why=str(error).strip().splitlines()[0], fix="export=bundle",
            ) from error  # fmt: skip
        torch.export.save(traced, file)


def program(file: Path) -> Answer:
    """Asks a program; InputError where it takes queries of some sizes alone."""
    with quiet():
        module = torch.export.load(file).module()

    def answer(inputs: Inputs) -> tuple[Tensor, ...]:
        try:
            found = module(*inputs.values())
        except (AssertionError, RuntimeError) as error:  # what a guard or a constraint on sizes raises
            raise InputError(
                f"{file.name}: torch.export fixes sizes of this model that differ from query to query",
                where="export.torch_export", why=str(error).strip().splitlines()[0], fix="export=[bundle,onnx]",
            ) from error  # fmt: skip
        return found if isinstance(found, tuple) else (found,)

    return answer
