"""ONNX files, which ONNX Runtime serves without PyTorch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from recdistill.errors import InputError
from recdistill.export.base import Format, Subject, require_packages
from recdistill.export.graphs import (
    QUERY,
    SEEN,
    Graph,
    Inputs,
    best,
    exported_graph,
    item_vectors,
    require_exportable,
    vector_graph,
)  # fmt: skip
from recdistill.export.names import ENCODER, SCALES
from recdistill.export.names import GRAPH as MODEL
from recdistill.export.names import VECTORS as ITEMS
from recdistill.export.packing import quantize_rows
from recdistill.export.parity import TOP, Answer, measured
from recdistill.export.small import with_small_weights
from recdistill.models.base import Model

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 20
FOLDED = 64  # numbers in the largest tensor that is computed at export


class Onnx(Format):
    """The model as one graph, or as an encoder of queries and a table of items.

    ``graph``: a query and what it has seen go in, the ``k`` best and their scores come out; of rows, predictions.
    ``apart``: ``encoder.onnx`` gives the vector of a query; ``items.npy`` holds the items' vectors, whose dot products
    with it are the scores: for catalogues that an index searches. Where the model's table is in 8 bits the items' are
    too, with ``items.scale.npy``. Weights of 8 and 4 bits stay so in the file.

    Args:
        form: see above.
        k: length of the lists, 10 or more; a shorter list is the beginning of a longer one.
    """

    def __init__(self, form: Literal["graph", "apart"] = "graph", k: Annotated[int, Ge(TOP)] = 100):
        self.form, self.k = form, k

    def require(self, model: type[Model], net: dict[str, Any], where: str) -> None:
        require_packages(PACKAGES, "onnx", where)
        require_exportable(model, net, where, apart=self.form == "apart")

    def write(self, subject: Subject, folder: Path) -> list[dict[str, Any]]:
        model, queries = with_small_weights(subject.model, subject.codecs), subject.queries
        examples = queries.examples()
        if self.form == "apart":
            return self._write_apart(subject, vector_graph(model, examples), folder)
        write_graph(exported_graph(model, self.k, examples, queries.predict), folder / MODEL)
        return [{"file": MODEL, **measured(queries, session(folder / MODEL), folder / MODEL)}]

    def _write_apart(self, subject: Subject, graph: Graph, folder: Path) -> list[dict[str, Any]]:
        write_graph(graph, folder / ENCODER)
        vectors = item_vectors(subject.model)
        coded = any("item" in name and codec["bits"] == 8 for name, codec in subject.codecs.items())
        if coded:
            codes, scale = quantize_rows(vectors, 8)
            np.save(folder / ITEMS, codes.to(torch.int8).numpy())
            np.save(folder / SCALES, scale.numpy())
            vectors = codes * scale.unsqueeze(1)
        else:
            np.save(folder / ITEMS, vectors.contiguous().numpy())
        encode = session(folder / ENCODER)

        def answer(inputs: Inputs) -> tuple[Tensor, ...]:
            (vector,) = encode({QUERY: inputs[QUERY]})
            return best(vector @ vectors.T, inputs[SEEN], min(self.k, len(vectors)))

        items = [file for file in (ITEMS, SCALES) if (folder / file).exists()]
        return [
            {"file": ENCODER, **measured(subject.queries, answer, folder / ENCODER)},
            *({"file": file, "bytes": (folder / file).stat().st_size} for file in items),
        ]


def write_graph(graph: Graph, file: Path, folded: int = FOLDED) -> None:
    """Writes the ONNX file, whose dimensions of :attr:`~recdistill.export.graphs.Graph.varying` are free.

    Args:
        folded: numbers in the largest tensor that is computed at export.

    Raises:
        InputError: the exporter has no operator for something in the model.
    """
    with quiet():
        try:
            program: Any = torch.onnx.export(
                graph.module, tuple(graph.inputs.values()), dynamo=True, dynamic_shapes=shapes_of(graph), verbose=False,
                input_names=list(graph.inputs), output_names=list(graph.outputs), external_data=False,
                opset_version=OPSET, optimize=False,
            )  # fmt: skip
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            raise InputError(
                f"{file.name}: the model can't be exported", where="export.onnx",
                why=str(error.__cause__ or error).strip().splitlines()[0], fix="export=bundle",
            ) from error  # fmt: skip
        from onnxscript.optimizer import optimize_ir

        # By default tensors of several thousand numbers are folded, which undoes small integers.
        optimize_ir(program.model, input_size_limit=folded, output_size_limit=folded)
    for node in program.model.graph.all_nodes():  # where each came from, several times the size of a small model
        node.metadata_props.clear()
        node.doc_string = None
    program.save(file)


def shapes_of(graph: Graph) -> Any:
    """The free dimensions of a graph's inputs, as exporters want them."""
    dynamic = tuple(dict.fromkeys(graph.varying[name], torch.export.Dim.AUTO) for name in graph.inputs)
    # A function of any number of arguments takes them as one.
    return (dynamic,) if graph.outputs == ("prediction",) else dynamic


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that are not there."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        before, logging.root.manager.disable = logging.root.manager.disable, logging.WARNING
        try:
            yield
        finally:
            logging.root.manager.disable = before


def session(file: Path) -> Answer:
    """Asks an ONNX file in ONNX Runtime, on one thread."""
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 3
    opened = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = {part.name for part in opened.get_inputs()}

    def answer(inputs: Inputs) -> tuple[Tensor, ...]:
        given = {name: part.numpy() for name, part in inputs.items() if name in names}
        return tuple(torch.from_numpy(part) for part in opened.run(None, given))

    return answer
