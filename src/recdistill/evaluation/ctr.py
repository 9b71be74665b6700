"""Click prediction: does the model order clicks before the rest, and do its probabilities mean what they say?

Equal predictions count half in the AUC, whatever the order of the rows, and are never split between bins.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from recdistill.evaluation.tables import refuse_nan, warnings, widened

EPS = 1e-15  # a prediction of exactly 0 or 1 that is wrong costs 34.5 nats, not infinitely many
BINS = 15


def auc(prediction: Tensor, label: Tensor) -> float:
    """Area under the ROC curve: the chance that a click scores above a non-click, equal scores counting half.

    Mann and Whitney's U, exact. Any monotone score will do.

    Args:
        prediction: float ``[N]``.
        label: ``[N]``, 0 or 1.

    Returns:
        NaN where there is one class only.
    """
    area, _ = areas(prediction, label, torch.zeros(len(label), dtype=torch.int64, device=label.device))
    return float(area[0]) if len(area) else float("nan")


def gauc(prediction: Tensor, label: Tensor, user: Tensor) -> tuple[float, int]:
    """AUC by user, averaged with the users' impressions as weights (Zhou et al., KDD 2018).

    Args:
        prediction, label: as for :func:`auc`.
        user: int64 ``[N]``, any ids.

    Returns:
        The average (NaN without a user who has both classes), and how many users have one class only and are left out.
    """
    _, group = torch.unique(user, return_inverse=True)
    area, rows = areas(prediction, label, group)
    known = ~area.isnan()
    weight = rows[known].double()
    return float((area[known] * weight).sum() / weight.sum()), int((~known).sum())


def areas(prediction: Tensor, label: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """AUC of each group, float64 ``[G]`` (NaN with one class), and its rows, int64 ``[G]``.

    Args:
        prediction, label: as for :func:`auc`.
        group: int64 ``[N]`` in ``[0, G)``, none of them empty.
    """
    order = prediction.argsort(stable=True)
    order = order[group[order].argsort(stable=True)]
    prediction, label, group = prediction[order], label[order].long(), group[order]
    new = torch.ones_like(group, dtype=torch.bool)
    new[1:] = (group[1:] != group[:-1]) | (prediction[1:] != prediction[:-1])
    tie = new.cumsum(0) - 1
    ties = int(tie[-1]) + 1 if len(tie) else 0
    positive, rows = torch.bincount(tie, label.double(), ties), torch.bincount(tie, minlength=ties).double()
    negative, of = rows - positive, group[new]
    positives, negatives = torch.bincount(of, positive), torch.bincount(of, negative)
    before = negative.cumsum(0) - negative - (negatives.cumsum(0) - negatives)[of]
    won = torch.bincount(of, positive * (before + negative / 2))
    return won / (positives * negatives), (positives + negatives).long()


def log_loss(probability: Tensor, label: Tensor, *, eps: float = EPS) -> Tensor:
    """Negative log-likelihood of each row in nats, float64 ``[N]``; probabilities are kept ``eps`` off 0 and 1."""
    p, y = probability.double().clamp(eps, 1 - eps), label.double()
    return -(y * p.log() + (1 - y) * torch.log1p(-p))


def normalised_entropy(mean_log_loss: float, rate: float) -> float:
    """Log loss by that of always predicting the click rate (He et al., ADKDD 2014); below 1 the model knows more.

    NaN where all rows are of one class.
    """
    p = torch.tensor(rate, dtype=torch.float64)
    base = -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))
    return float(mean_log_loss / base) if base > 0 else float("nan")


def calibration_error(probability: Tensor, label: Tensor, *, bins: int = BINS, equal: str = "width") -> float:
    """Expected calibration error: ``sum(|B| / N · |mean label - mean probability|)`` over bins B.

    Args:
        probability: ``[N]`` in [0, 1].
        label: ``[N]``, 0 or 1.
        bins: how many.
        equal: "width", bins ``[b / bins, (b + 1) / bins)`` (Guo et al., ICML 2017), or "mass", as many rows in each
            (Nguyen and O'Connor, EMNLP 2015), equal probabilities together in the bin of their middle.
    """
    p = probability.double()
    if equal == "mass":
        _, tie, size = torch.unique(p, return_inverse=True, return_counts=True)
        middle = size.cumsum(0) - (size + 1) / 2  # from 0
        position = (middle / len(p))[tie]
    else:
        position = p
    return float(_calibration(*_binned(p, label, position, bins), len(p)))


def _binned(p: Tensor, label: Tensor, position: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Sums of labels and of probabilities by bin, float64 ``[bins]`` each."""
    bin_of = (position * bins).long().clamp(max=bins - 1)
    return torch.bincount(bin_of, label.double(), bins), torch.bincount(bin_of, p, bins)


def _calibration(labels: Tensor, probabilities: Tensor, n: int | Tensor) -> Tensor:
    return (labels - probabilities).abs().sum() / n


class CtrMetrics(Metric):
    """Log loss, normalised entropy, calibration error, AUC and, with users, GAUC, over all rows of all processes.

    AUC and the bins of equal mass need every prediction, so these are kept (8 bytes a row, 20 with label and user).
    The rest are sums. Give each row to one process only.

    Args:
        name: of the model, for errors and warnings.
        users: whether ``update`` gets users.
        kwargs: of :class:`torchmetrics.Metric`.

    Attributes:
        n_one_class: users left out of GAUC, after ``compute``.
        warnings: names, after ``compute``.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    loss: Tensor
    ends: Tensor
    seen: list[Tensor]
    labels: list[Tensor]
    users: list[Tensor]

    def __init__(self, name: str = "model", *, users: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.name, self.by_user = name, users
        self.n_one_class = 0
        self.warnings: list[str] = []
        self.add_state("loss", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("ends", torch.full((2, 1), torch.inf, dtype=torch.float64), dist_reduce_fx="min")
        for state in ("seen", "labels", "users"):
            self.add_state(state, [], dist_reduce_fx="cat")

    def update(self, probability: Tensor, label: Tensor, user: Tensor | None = None) -> None:
        """Add rows: ``probability`` float ``[B]`` in [0, 1], ``label`` ``[B]`` 0 or 1, ``user`` int64 ``[B]``.

        Raises:
            InputError: a probability is NaN.
            ValueError: numbers that are no probabilities, or users where there should be none.
        """
        refuse_nan(probability, self.name, sum(len(part) for part in self.seen))
        if self.by_user != (user is not None):
            raise ValueError("give users to every update of CtrMetrics(users=True), and to no other")
        self.ends = widened(self.ends, probability)
        if bool((self.ends[0] < 0) | (self.ends[1] < -1)):
            raise ValueError("CtrMetrics takes probabilities in [0, 1], not logits")
        self.loss += log_loss(probability, label).sum()
        self.seen.append(probability.double())
        self.labels.append(label.to(torch.int32))
        if user is not None:
            self.users.append(user)

    def compute(self) -> dict[str, Tensor]:
        """``auc``, ``logloss``, ``ne``, ``ece``, ``ece_mass`` and, with users, ``gauc``: float64 scalars."""
        p, label = dim_zero_cat(self.seen), dim_zero_cat(self.labels)
        loss = float(self.loss / len(p))
        found = {
            "auc": auc(p, label),
            "logloss": loss,
            "ne": normalised_entropy(loss, float(label.double().mean())),
            "ece": calibration_error(p, label),
            "ece_mass": calibration_error(p, label, equal="mass"),
        }
        if self.by_user:
            found["gauc"], self.n_one_class = gauc(p, label, dim_zero_cat(self.users))
        self.warnings = warnings(self.ends, len(p))
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in found.items()}
