"""ONNX files in which products are computed in 8 bits, weights and what they are multiplied with."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Interval

from recdistill.export.base import Format, Queries, Subject, require_packages
from recdistill.export.graphs import exported_graph, require_exportable
from recdistill.export.onnx import PACKAGES, quiet, session, write_graph
from recdistill.export.parity import TOP, close, time_one
from recdistill.models.base import Model

MODEL = "model.int8.onnx"
WHOLE = 2**31 - 1  # so that every weight is a constant, which alone are quantized


class OnnxInt8(Format):
    """The graph of the ONNX format, quantized by ONNX Runtime: the weights of linear layers, tables and convolutions,
    each output with a scale of its own, and what comes in.

    ``dynamic`` finds the scale of what comes in anew for each call; ``static`` fixes it beforehand by what some queries
    of the data bring there. Such a file does not answer exactly as the model: the share of equal items is reported, and
    too low a share is an error. The table of a sequence model is in the file twice, as it is read from and as it is
    multiplied with.

    Source: Jacob et al., CVPR 2018; https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html

    Args:
        mode: see above.
        queries: that fix the scales of ``static``.
        floor: least agreement with the model, see :func:`~recdistill.export.parity.close`.
        k: length of the lists, 10 or more; a shorter list is the beginning of a longer one.
        reduce_range: whether weights are from -64 to 64. An x86 CPU without VNNI instructions adds two products in 16
            bits, where those of whole 8 don't fit.
    """

    def __init__(
        self,
        mode: Literal["dynamic", "static"] = "dynamic",
        queries: Annotated[int, Ge(1)] = 256,
        floor: Annotated[float, Interval(ge=0, le=1)] = 0.9,
        k: Annotated[int, Ge(TOP)] = 100,
        reduce_range: bool = True,
    ):
        self.mode, self.queries, self.floor, self.k, self.reduce_range = mode, queries, floor, k, reduce_range

    def require(self, model: type[Model], net: dict[str, Any], where: str) -> None:
        require_packages(PACKAGES, "onnx", where)
        require_exportable(model, net, where)

    def write(self, subject: Subject, folder: Path) -> list[dict[str, Any]]:
        queries, file = subject.queries, folder / MODEL
        with tempfile.TemporaryDirectory(prefix="recdistill-onnx-") as temporary:
            whole = Path(temporary) / "float.onnx"
            write_graph(exported_graph(subject.model, self.k, queries.examples(), queries.predict), whole, WHOLE)
            without_shapes(whole)
            with quiet():
                self._quantize(whole, file, queries)
        answer = session(file)
        parity = close(queries, answer, file.name, self.floor)
        return [{"file": MODEL, "bytes": file.stat().st_size, "parity": parity, "latency": time_one(queries, answer)}]

    def _quantize(self, whole: Path, file: Path, queries: Queries) -> None:
        from onnxruntime import quantization as q

        common: dict[str, Any] = {
            "per_channel": True, "weight_type": q.QuantType.QInt8, "reduce_range": self.reduce_range
        }  # fmt: skip
        if self.mode == "dynamic":
            q.quantize_dynamic(whole, file, **common, extra_options={"MatMulConstBOnly": True})
            return
        q.quantize_static(
            whole, file, _reader(queries, self.queries), quant_format=q.QuantFormat.QDQ, **common,
            op_types_to_quantize=["MatMul", "Gemm", "Conv", "Gather"],
            extra_options={"MatMulConstBOnly": True, "QuantizeBias": False},
        )  # fmt: skip


def without_shapes(file: Path) -> None:
    """Leaves out the shapes of what is computed on the way, which the quantizer would otherwise hold against its own
    (https://github.com/microsoft/onnxruntime/issues/25890)."""
    import onnx

    model = onnx.load(file)
    del model.graph.value_info[:]
    onnx.save(model, file)


def _reader(queries: Queries, count: int) -> Any:
    """What the quantizer reads queries from, a few at a time."""
    from onnxruntime.quantization import CalibrationDataReader

    chosen = torch.randperm(queries.count, generator=torch.Generator().manual_seed(0))[:count]

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left: Iterator[Any] = (
                {name: part.numpy() for name, part in queries.inputs(part).items()} for part in torch.split(chosen, 16)
            )

        def get_next(self) -> Any:
            return next(self.left, None)

    return Reader()
