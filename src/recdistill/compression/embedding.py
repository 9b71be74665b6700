"""Smaller tables: those of a trained model in another form, and then trained in it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from recdistill.compression.base import Compressed, CompressionPass
from recdistill.compression.low_rank import LowRank
from recdistill.compression.prune import Prune
from recdistill.compression.quantize import Quantize
from recdistill.config.importing import import_target
from recdistill.config.plugins import plugin_modules
from recdistill.errors import InputError
from recdistill.models.base import FactorModel, Model
from recdistill.models.build import build
from recdistill.models.code_table import take_field
from recdistill.models.fields import FieldEmbedding
from recdistill.models.fit import Fit
from recdistill.models.mf import MF
from recdistill.models.tables.base import Table, TableKind, tables_of

log = logging.getLogger(__name__)
FUSION = ("fusion", "features", "adapter")
WHERE = "compression.embedding"


class Embedding(CompressionPass):
    """Puts the tables of a model into a compressed form (:mod:`recdistill.models.tables.base`).

    Each starts as near to the table that was trained as its form allows: by least squares, k-means, or a truncated SVD
    of its matrix or tensor. That alone destroys a ranking, so that a fine-tuning follows, whose loss has
    ``hint`` · ‖e_i - old_i‖² / ‖old‖² beside the student's own, distilled where the line has a teacher: compression and
    distillation as one loss on the vectors as they will be decoded.

    Args:
        table: the form.
        hint: weight of the distance to the old table, 0 for none.
        finetune: training afterwards, None for none.
        pace: learning rate of that as a share of the one that ``finetune`` has, which may be the student's own: what is
            near its table already is spoilt by large steps, and what is far needs them.
    """

    def __init__(
        self,
        table: TableKind,
        hint: Annotated[float, Ge(0)] = 1.0,
        finetune: Fit | None = None,
        pace: Annotated[float, Gt(0)] = 1.0,
    ):
        super().__init__(finetune and replace(finetune, lr=pace * finetune.lr))
        self.table, self.hint = table, hint

    def check(self, net: dict[str, Any], earlier: Sequence[CompressionPass]) -> dict[str, Any]:
        model = import_target(net["_target_"], WHERE, plugin_modules())
        if issubclass(model, FactorModel) and model is not MF:  # what is served of it
            model, net = MF, {"_target_": "recdistill.models.mf.MF", **({"dim": net["dim"]} if "dim" in net else {})}
        if "table" not in inspect.signature(model).parameters:
            raise InputError(
                f"{model.__name__} has no table that could be compressed", where=WHERE,
                fix="leave the pass out, or choose a student such as mf, sasrec, gru4rec or dcnv2",
            )  # fmt: skip
        if net.get("table"):
            raise InputError(
                "the tables are compressed already", where=WHERE,
                fix="leave the pass out, or start from a plain table: table@student.net.table=none",
            )  # fmt: skip
        if not issubclass(model, FactorModel) and any(isinstance(step, LowRank) for step in earlier):
            raise InputError(
                "low_rank has made two factors of the tables, which take no other form", where="compression",
                fix="one of the two, such as compression=[embedding_md,quantize]",
            )  # fmt: skip
        if any(isinstance(step, Quantize | Prune) for step in earlier):
            raise InputError(
                "tables take another form before the passes that change how weights are stored", where="compression",
                fix="put it first: compression=[embedding_pq,quantize]",
            )  # fmt: skip
        return {key: value for key, value in net.items() if key not in FUSION} | {"table": node_of(self.table)}

    def apply(self, state: Compressed) -> Compressed:
        net = {key: value for key, value in state.net.items() if key not in FUSION} | {"table": node_of(self.table)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = build(net, state.model.schema)
        if not tables_of(model):
            log.warning("no table of %s takes fewer bytes in this form: all stay as they are", type(model).__name__)
        if state.train is not None:
            model.bind(state.train)
        with torch.no_grad():
            wanted = take_weights(model, state.model)
            for name, table in tables_of(model).items():
                table.fit(wanted[name])
                table.settle()
        return Compressed(model.eval(), net, anchors=wanted, hint=self.hint, train=state.train)


def node_of(kind: TableKind) -> dict[str, Any]:
    """The config of a kind of table."""
    assert isinstance(kind, partial)
    settings = {key: list(value) if isinstance(value, list | tuple) else value for key, value in kind.keywords.items()}
    return {"_target_": f"{kind.func.__module__}.{kind.func.__qualname__}", "_partial_": True, **settings}


def take_weights(model: Model, old: Model) -> dict[str, Tensor]:
    """Copies what both models have; gives the vectors ``[rows, dim]`` that each compressed table of the new one stands
    for."""
    wanted: dict[str, Tensor] = {}
    theirs = dict(old.named_modules())
    fields = {name: module for name, module in model.named_modules() if isinstance(module, FieldEmbedding)}
    for path, own in fields.items():
        before = theirs[path]
        assert isinstance(before, FieldEmbedding)
        for name in own.table_of:
            target = take_field(own.table(name), before.table(name), name)
            if target is not None:
                wanted[f"{path}.tables.{own.table_of[name]}.table"] = target
    for path in tables_of(model):
        if path not in wanted:
            wanted[path] = plain(theirs[path])
    inner = tuple(f"{path}." for path in (*tables_of(model), *(f"{path}.tables" for path in fields)))
    rest = {name: tensor for name, tensor in old.state_dict().items() if not name.startswith(inner)}
    unknown = model.load_state_dict(rest, strict=False).unexpected_keys
    assert not unknown, unknown
    return wanted


def plain(table: nn.Module) -> Tensor:
    assert isinstance(table, nn.Embedding | Table)
    return table.weight.detach().clone()
