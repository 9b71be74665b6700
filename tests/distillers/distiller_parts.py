"""A teacher, a student and every distiller of the package, sized for the small data of the tests."""

from __future__ import annotations

from collections.abc import Callable

import torch

from recdistill.data.interactions import Schema
from recdistill.distillers.base import Distiller, Setting
from recdistill.distillers.features import Hint
from recdistill.distillers.lists import RRD, TopKKL
from recdistill.distillers.response import CEKL, LogitMSE, SoftLabel
from recdistill.models.base import FactorModel
from recdistill.models.mf import MF

MAKERS: dict[str, Callable[[], Distiller]] = {
    "soft_label": lambda: SoftLabel(2.0),
    "ce_kl": lambda: CEKL(0.7, 2.0),
    "logit_mse": lambda: LogitMSE(k=4),
    "topk_kl_all": lambda: TopKKL(k=4, negatives=0, temperature=0.5),
    "topk_kl": lambda: TopKKL(k=4, negatives=9),
    "rrd": lambda: RRD(k=3, uninteresting=8, pool=5, position_temperature=2.0),
    "rrd_top": lambda: RRD(k=3, uninteresting=8, pool=5, position_temperature=0.0),
    "hint": lambda: Hint(items=10),
}


def make_mf(schema: Schema, seed: int, dim: int = 3) -> FactorModel:
    torch.manual_seed(seed)
    return MF(schema, dim=dim, item_bias=True, init_std=1.0)


def prepared(name: str, student_dim: int = 4, teacher_dim: int = 6) -> Distiller:
    distiller = MAKERS[name]()
    torch.manual_seed(7)
    distiller.prepare(Setting(student_dim, teacher_dim))
    return distiller
