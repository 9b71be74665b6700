"""Rating: how much a user likes an item, as a number."""

from __future__ import annotations

from torchmetrics import Metric

from recdistill.data.interactions import Dataset, TableDataset
from recdistill.evaluation.rating import RatingMetrics
from recdistill.tasks.examples import as_table
from recdistill.tasks.tables import TableTask


class Rating(TableTask):
    """Rating prediction, on interactions with values or on a table whose label is a number.

    Args:
        metric: what a checkpoint is chosen by.
    """

    name = "rating"
    examples = ("biased_mf", "neumf_rating", "fm")
    plain_objective = "squared_error"
    metrics_known = ("rmse", "mae", "user_rmse", "user_mae")
    output = "value"

    def __init__(self, metric: str = "rmse"):
        super().__init__(metric)

    def of_pairs(self, data: Dataset) -> TableDataset:
        return as_table(data)

    def metrics(self, data: TableDataset, ks: list[int], name: str = "model") -> Metric:  # noqa: ARG002
        groups = [part.group for part in (data.train, data.valid, data.test) if part.group is not None]
        n = max((int(group.max()) + 1 for group in groups if len(group)), default=1)
        return RatingMetrics(n, name)
