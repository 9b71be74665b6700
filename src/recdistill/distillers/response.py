"""Distillation on scores: soft labels over the whole catalogue and its kin."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional as F

from recdistill.distillers.base import LISTS, TABLES, Distiller, Needs, Setting, View, on_list
from recdistill.distillers.candidates import candidates, ranks
from recdistill.distillers.lists import usual_others
from recdistill.distillers.schedules import Mix, Temperature, Weight
from recdistill.errors import InputError


def soft_label_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(softmax(z_t / T) ‖ softmax(z_s / T)) of each row of ``[Q, I]``: ``[Q]``.

    T² keeps the size of the gradient independent of T (Hinton et al. 2015, section 2.1).
    """
    log_s, log_t = F.log_softmax(student / temperature, -1), F.log_softmax(teacher / temperature, -1)
    return temperature**2 * F.kl_div(log_s, log_t, log_target=True, reduction="none").sum(-1)


def number_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Half of (z_t - z_s)², mean over the numbers of each row of ``[Q, C]``: the soft labels of a number, ``[Q]``.

    Of a number, a softened label is a normal distribution around it with standard deviation T, and
    T² · KL(N(z_t, T²) ‖ N(z_s, T²)) is this for every T.
    """
    return (teacher - student).square().mean(-1) / 2


def ce_kl_loss(student: Tensor, teacher: Tensor, temperature: float, mix: float) -> Tensor:
    """T² · (mix · CE(p_t, p_s) + (1 - mix) · KL(p_t ‖ p_s)) of each row of ``[Q, I]``: ``[Q]``.

    Computed as KL + mix · H(p_t), since CE = KL + H.
    """
    log_p = F.log_softmax(teacher / temperature, -1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    return soft_label_loss(student, teacher, temperature) + mix * temperature**2 * entropy


def combined_loss(p: Tensor, q: Tensor, alpha: float) -> Tensor:
    """alpha · CE(p, q) + (1 - alpha) · KL(p ‖ q) of probabilities, mean over rows of ``[Q, C]``, in nats.

    What :func:`ce_kl_loss` is of logits, as teaching articles write it. Where q is 0 and p is not, it is infinite.

    Args:
        p: the teacher's probabilities.
        q: the student's.
        alpha: share of the cross-entropy.

    Raises:
        InputError: a row has a negative value, or does not sum to 1 within 1e-6 or, if that is more, what rounding does
            to so many numbers.
    """
    for name, rows in (("p", p), ("q", q)):
        _require_probabilities(name, rows)
    cross_entropy, entropy = -torch.xlogy(p, q).sum(-1), -torch.xlogy(p, p).sum(-1)
    return (cross_entropy - (1 - alpha) * entropy).mean()


def _require_probabilities(name: str, rows: Tensor) -> None:
    # Sums are added by lanes, 8 or 16 of them by the CPU: of long rows the error of each grows with its length.
    length = rows.shape[-1]
    rounding = torch.finfo(rows.dtype).eps * max(math.sqrt(length), length / 256) if rows.is_floating_point() else 0.0
    near = max(1e-6, min(rounding, 0.01))
    rows = rows.detach().double().reshape(-1, rows.shape[-1])
    sums = rows.sum(-1)
    # Written so that NaN is refused too.
    wrong = ~((rows >= 0).all(-1) & ((sums - 1).abs() <= near))
    if wrong.any():
        row = int(wrong.nonzero()[0])
        negative = bool((rows[row] < 0).any())
        raise InputError(
            f"row {row} of {name} is no distribution: it "
            + ("has a negative value" if negative else f"sums to {sums[row]:.7g}, not to 1"),
            where=name, fix="divide each row by its sum, or give logits to ce_kl_loss",
        )  # fmt: skip


def listed_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of (z_t - z_s)² over the places of each row of ``[Q, K]`` that hold an item: ``[Q]``, 0 for none."""
    listed = on_list(teacher)
    gap = torch.where(listed, teacher - student, 0.0)
    return gap.square().sum(-1) / listed.sum(-1).clamp(min=1)


class SoftLabel(Distiller):
    """Soft labels over the catalogue or the classes: :func:`soft_label_loss`, and :func:`number_loss` for ratings.

    Source: Hinton et al., Distilling the knowledge in a neural network, 2015, section 2.

    Args:
        temperature: softens both distributions.
        negatives: 0 compares the whole catalogue; otherwise the teacher's first k items and so many random ones, shared
            by the users of a step, which stand for all others but the user's training items; None is
            :func:`~recdistill.distillers.lists.usual_others`.
        k: length of that list.
        weight: factor among the distillers.
    """

    tasks = (*LISTS, *TABLES)
    per_query = True
    temperature: float

    def __init__(
        self, temperature: Temperature = 2.0, negatives: Annotated[int, Ge(0)] | None = None,
        k: Annotated[int, Ge(1)] = 100, weight: Weight = 1.0,
    ):  # fmt: skip
        super().__init__(weight)
        self.temperature = temperature  # type: ignore[assignment]
        self.negatives, self.k = negatives, k

    def needs(self) -> Needs:
        return Needs(scores=True, top_k=0 if self.negatives == 0 else self.k)

    def prepare(self, setting: Setting) -> None:
        self.negatives = usual_others(self.negatives, setting)

    def forward(self, student: View, teacher: View, rng: torch.Generator) -> Tensor:
        if student.regression:
            return number_loss(student.scores(), teacher.scores())
        student_logits, teacher_logits = self.logits(student, teacher, rng)
        return soft_label_loss(student_logits, teacher_logits, self.temperature)

    def logits(self, student: Any, teacher: Any, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Of both, over what is compared: ``[Q, C]``."""
        if not self.negatives or not ranks(student):
            return student.scores(), teacher.scores()
        compared = candidates(student, teacher, self.k, self.negatives, rng)
        # e^(z / T) of each of the others counts for so many items. They are drawn from the whole catalogue, and those
        # that the list or training has are hidden: so the sum over what is left is right on average.
        stands_for = student.n_items / self.negatives
        shift = compared.teacher.new_zeros(compared.teacher.shape[1])
        shift[self.k :] = self.temperature * math.log(stands_for)
        return compared.of(student) + shift, compared.teacher + shift


class CEKL(SoftLabel):
    """Cross-entropy and KL on the soft labels, mixed: :func:`ce_kl_loss`. Their gradients for the student are
    equal (CE = KL + a constant); the mix matters for the value that is logged.

    Source: the combined loss of teaching articles.

    Args:
        mix: share of the cross-entropy.
        temperature, negatives, k, weight: see :class:`SoftLabel`.
    """

    def __init__(
        self, mix: Mix = 0.7, temperature: Temperature = 2.0,
        negatives: Annotated[int, Ge(0)] | None = None, k: Annotated[int, Ge(1)] = 100, weight: Weight = 1.0,
    ):  # fmt: skip
        super().__init__(temperature, negatives, k, weight)
        self.mix: float = mix  # type: ignore[assignment]

    def forward(self, student: View, teacher: View, rng: torch.Generator) -> Tensor:
        if student.regression:  # the entropy of the label is a constant
            return number_loss(student.scores(), teacher.scores())
        student_logits, teacher_logits = self.logits(student, teacher, rng)
        return ce_kl_loss(student_logits, teacher_logits, self.temperature, self.mix)


class LogitMSE(Distiller):
    """Mean of (z_t - z_s)² over the teacher's top items and as many random ones; of a row over its logits, which are 0
    and z of a click, or its number.

    Source: Ba and Caruana, Do deep nets really need to be deep?, NeurIPS 2014, eq. 1; on lists, because a
    catalogue's tail would outweigh what is shown.

    Args:
        k: items of the teacher's list, and random items.
        weight: factor among the distillers.
    """

    tasks = (*LISTS, *TABLES)
    per_query = True

    def __init__(self, k: Annotated[int, Ge(1)] = 50, weight: Weight = 1.0):
        super().__init__(weight)
        self.k = k

    def needs(self) -> Needs:
        return Needs(top_k=self.k, scores=True)

    def forward(self, student: Any, teacher: Any, rng: torch.Generator) -> Tensor:
        if not ranks(student):
            gap: Tensor = teacher.scores() - student.scores()
            return gap.square().mean(-1)
        items, top_scores = teacher.top_items(self.k)
        others = torch.randint(student.n_items, (self.k,), generator=rng, device=items.device)
        on_top = listed_mse(student.scores(items), top_scores)
        on_others: Tensor = (teacher.scores(others) - student.scores(others)).square().mean(-1)
        return (on_top + on_others) / 2
