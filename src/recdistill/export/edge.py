"""ExecuTorch programs, for phones and small boards: one query at a time, without Python."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import pad

from recdistill.errors import InputError
from recdistill.export.base import Format, Queries, Subject, require_packages
from recdistill.export.graphs import QUERY, SEEN, Graph, Inputs, exported_graph, require_exportable
from recdistill.export.onnx import quiet
from recdistill.export.parity import TOP, Answer, measured
from recdistill.export.small import with_small_weights
from recdistill.models.base import Model, SequenceModel

PROGRAM = "model.pte"
INDPTR, INDICES = ".indptr", ".indices"


class ExecuTorch(Format):
    """``model.pte``: the graph that the ONNX format exports, for one query, its matrix products by XNNPACK.

    Memory is planned when the file is written, so that sizes are fixed: a history is filled up to the model's longest,
    and what is left out to ``longest``, and models that read sets of a row are refused.

    Args:
        k: length of the lists, 10 or more; a shorter list is the beginning of a longer one.
        longest: the most items that are left out of a list; None for those of whoever has most in the data.
    """

    def __init__(self, k: Annotated[int, Ge(TOP)] = 100, longest: Annotated[int, Ge(1)] | None = None):
        self.k, self.longest = k, longest

    def require(self, model: type[Model], net: dict[str, Any], where: str) -> None:
        require_packages(("executorch", "torchao"), "edge", where)
        require_exportable(model, net, where)

    def write(self, subject: Subject, folder: Path) -> list[dict[str, Any]]:
        model, queries = with_small_weights(subject.model, subject.codecs), subject.queries
        lengths = {} if queries.predict else self.lengths(model, queries)
        example = one_of(queries.inputs(torch.zeros(1, dtype=torch.int64)), 0, lengths, model.schema.n_items)
        write_program(exported_graph(model, self.k, example, queries.predict), folder / PROGRAM)
        answer = program(folder / PROGRAM, lengths, model.schema.n_items)
        return [{"file": PROGRAM, **measured(queries, answer, folder / PROGRAM), "lengths": lengths}]

    def lengths(self, model: Model, queries: Queries) -> dict[str, int]:
        """How long each input of a list is."""
        most = {QUERY: 0, SEEN: 1}
        for part in torch.split(torch.arange(queries.count), 1024):
            found = queries.inputs(part)
            most = {
                name: max(size, found[name].shape[-1] if found[name].dim() > 1 else 0) for name, size in most.items()
            }
        if self.longest is not None and self.longest < most[SEEN]:
            raise InputError(
                f"a user of the data has {most[SEEN]} items to leave out", where="export.executorch.longest",
                why=f"the program takes {self.longest}", fix=f"export.executorch.longest={most[SEEN]}, or null",
            )  # fmt: skip
        history = model.schema.max_length if isinstance(model, SequenceModel) else most[QUERY]
        return {QUERY: history, SEEN: self.longest or most[SEEN]}


def one_of(inputs: Inputs, row: int, lengths: dict[str, int], filler: int) -> Inputs:
    """The inputs of one query of several, those of ``lengths`` filled up."""
    found = {}
    for name, part in inputs.items():
        if name.endswith((INDPTR, INDICES)):  # of a model that does not read them: others are refused
            found[name] = torch.tensor([0, 1]) if name.endswith(INDPTR) else torch.zeros(1, dtype=torch.int64)
        else:
            own = part[row : row + 1]
            found[name] = pad(own, (0, lengths[name] - own.shape[1]), value=filler) if lengths.get(name) else own
    return found


def write_program(graph: Graph, file: Path) -> None:
    """Writes the program.

    Raises:
        InputError: something in the model has no operator there.
    """
    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        try:
            traced = torch.export.export(graph.module, tuple(part.contiguous() for part in graph.inputs.values()))
            lowered = to_edge_transform_and_lower(traced, partitioner=[XnnpackPartitioner()]).to_executorch()
        except Exception as error:  # its passes raise errors of every kind
            raise InputError(
                f"{file.name}: the model can't be exported", where="export.executorch",
                why=str(error.__cause__ or error).strip().splitlines()[0][:300], fix="export=[bundle,onnx]",
            ) from error  # fmt: skip
    file.write_bytes(lowered.buffer)


def program(file: Path, lengths: dict[str, int], filler: int) -> Answer:
    """Asks a program, one query after the other."""
    with quiet():
        from executorch.runtime import Runtime

        loaded = Runtime.get().load_program(file)
    methods = {loaded: loaded.load_method("forward")}  # which does not keep what it is of

    def one(inputs: Inputs) -> list[Tensor]:
        # What comes back lies in memory that the next call writes to.
        return [part.clone() for part in methods[loaded].execute([part.contiguous() for part in inputs.values()])]

    def answer(inputs: Inputs) -> tuple[Tensor, ...]:
        count = len(next(iter(inputs.values())))
        found = [one(one_of(inputs, row, lengths, filler)) for row in range(count)]
        return tuple(torch.cat(parts) for parts in zip(*found, strict=True))

    return answer
