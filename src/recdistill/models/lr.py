"""Logistic regression: a weight for each value of each field."""

from __future__ import annotations

from torch import Tensor

from recdistill.data.interactions import Schema
from recdistill.data.rows import Rows
from recdistill.models.fields import FieldModel, LinearTerm, MaxRows


class LR(FieldModel):
    """z = b + w · x; for a rating, linear regression.

    Source: Richardson et al., Predicting clicks: estimating the click-through rate for new ads, WWW 2007.

    Args:
        schema: sizes of the fields.
        max_rows: weights of a field, the rest of whose values, the rare ones, share; None for no limit.
    """

    def __init__(self, schema: Schema, max_rows: MaxRows | None = None):
        super().__init__(schema)
        self.linear = LinearTerm(schema.features, max_rows)

    def forward(self, rows: Rows) -> Tensor:
        logit: Tensor = self.start + self.linear(rows)
        return logit
