"""Whether a file answers as the model does, and how fast."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recdistill.errors import ParityError
from recdistill.evaluation.cost import latency
from recdistill.evaluation.topk import PAD, top_k
from recdistill.export.base import Queries
from recdistill.export.graphs import Inputs

TOP, CHECKED, BATCH, CALLS = 10, 256, 32, 100
TOLERANCE = 1e-4  # of the largest score, or of 1 where all are smaller: what float32 sums in another order come to

Answer = Callable[[Inputs], tuple[Tensor, ...]]
"""Inputs of a graph to its outputs."""


def measured(queries: Queries, answer: Answer, file: Path) -> dict[str, Any]:
    """Bytes, parity and latency of a file that was written; raises what :func:`check` does."""
    return {
        "bytes": file.stat().st_size, "parity": check(queries, answer, file.name), "latency": time_one(queries, answer),
    }  # fmt: skip


def check(queries: Queries, answer: Answer, what: str) -> dict[str, Any]:
    """Asks a file and the model the same: :data:`CHECKED` queries one by one at first, then :data:`BATCH` at a time.

    Equal scores, and scores that differ by less than the tolerance, may stand in either order.

    Args:
        queries: with the model's own answers.
        answer: asks the file.
        what: name of the file, for the message.

    Returns:
        ``queries``; ``max_difference`` of scores; of lists ``same_top_10``, the share of queries with the same items
        at the same places, ties aside.

    Raises:
        ParityError: an answer differs.
    """
    chosen = torch.randperm(queries.count, generator=torch.Generator().manual_seed(0))[:CHECKED]
    parts = [*torch.split(chosen[:4], 1), *torch.split(chosen[4:], BATCH)]
    with torch.inference_mode():
        compare = of_lists if queries.predict is None else of_rows
        found = [compare(queries.expected(part), answer(queries.inputs(part))) for part in parts if len(part)]
    difference = torch.cat([values for values, _ in found])
    same = torch.cat([right for _, right in found])
    worst = float(difference.max()) if len(difference) else 0.0
    if not bool(same.all()):
        raise ParityError(
            f"{what} does not answer as the model does: {int((~same).sum())} of {len(same)} queries differ",
            where=what, why=f"scores are up to {worst:.3g} apart", fix="leave this format out of export=[...]",
        )  # fmt: skip
    lists = {} if queries.predict else {"same_top_10": float(same.double().mean())}
    return {"queries": len(chosen), "max_difference": worst, **lists}


def close(queries: Queries, answer: Answer, what: str, floor: float) -> dict[str, Any]:
    """Asks a file whose scores are rounded, and the model, the same.

    Args:
        queries, answer, what: as of :func:`check`.
        floor: least agreement: of lists ``overlap@10``, the mean share of the model's ten best items that are among the
            file's; of rows with one number ``correlation``; of classes ``same_class``, the share of rows.

    Returns:
        ``queries``, ``max_difference`` of the scores of items that both name, or of the predictions, and the agreement.

    Raises:
        ParityError: it is below the floor.
    """
    chosen = torch.randperm(queries.count, generator=torch.Generator().manual_seed(0))[:CHECKED]
    name, worst, found = "overlap@10", 0.0, []
    with torch.inference_mode():
        pairs = [(queries.expected(part), answer(queries.inputs(part))) for part in torch.split(chosen, BATCH)]
    if queries.predict is None:
        for scores, (value, item) in pairs:
            top, listed = top_k(scores, min(TOP, scores.shape[1]))[0], item[:, :TOP]
            hit = (top.unsqueeze(2) == listed.unsqueeze(1)).any(2) & (top != PAD)
            found.append(hit.sum(1) / (top != PAD).sum(1).clamp(min=1))
            own = scores.gather(1, listed.clamp(min=0))
            both = (listed != PAD) & own.isfinite() & value[:, :TOP].isfinite()
            worst = max(worst, float(((own - value[:, :TOP]).abs() * both).nan_to_num(0.0).max()))
        agreement = float(torch.cat(found).double().mean())
    else:
        wanted, given = (torch.cat(part).double() for part in zip(*((a, b[0]) for a, b in pairs), strict=True))
        worst = float((wanted - given).abs().nan_to_num(torch.inf).max())
        if wanted.dim() > 1:
            name, agreement = "same_class", float((wanted.argmax(1) == given.argmax(1)).double().mean())
        else:
            name, agreement = "correlation", float(torch.corrcoef(torch.stack([wanted, given]))[0, 1].nan_to_num(0.0))
    if agreement < floor:
        raise ParityError(
            f"{what} answers too differently from the model: {name} is {agreement:.3f}, the floor is {floor}",
            where=what, why=f"scores are up to {worst:.3g} apart",
            fix="compression.quantize.finetune, another mode of the format, or a lower floor",
        )  # fmt: skip
    return {"queries": len(chosen), "max_difference": worst, name: agreement}


def of_lists(scores: Tensor, answers: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Compares lists with the scores ``[B, n_items]`` that they should be the top of.

    Returns:
        The largest difference of each query ``[B]``, and whether its list is right, bool ``[B]``.
    """
    value, item = (part[:, :TOP] for part in answers)
    if value.shape != item.shape or value.shape != (len(scores), min(TOP, scores.shape[1])):
        return torch.full((len(scores),), torch.inf), torch.zeros(len(scores), dtype=torch.bool)
    wanted = top_k(scores, value.shape[1])[1]
    padded = torch.cat([scores, scores.new_full((len(scores), 1), -torch.inf)], 1)
    own = padded.gather(1, torch.where(item == PAD, scores.shape[1], item).clamp(0, scores.shape[1]))
    finite = scores.where(scores.isfinite(), 0.0)
    allowed = TOLERANCE * finite.abs().amax(1).clamp(min=1.0)
    apart = torch.maximum(_apart(value, wanted), _apart(own, wanted)).amax(1)
    distinct = (item.sort(1).values.diff() != 0) | (item.sort(1).values[:, 1:] == PAD)
    return apart, (apart <= allowed) & distinct.all(1)


def of_rows(predictions: Tensor, answers: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Compares predictions ``[B]`` or ``[B, C]``, as :func:`of_lists` does lists."""
    (value,) = answers
    if value.shape != predictions.shape:
        return torch.full((len(predictions),), torch.inf), torch.zeros(len(predictions), dtype=torch.bool)
    apart = _apart(value, predictions).flatten(1).amax(1) if value.dim() > 1 else _apart(value, predictions)
    return apart, apart <= TOLERANCE * max(1.0, float(predictions.abs().max()))


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """|a - b|, zero where both are -inf, inf where one is or something is no number."""
    return torch.where(a == b, 0.0, (a.double() - b).abs()).nan_to_num(torch.inf, posinf=torch.inf)


def time_one(queries: Queries, answer: Answer) -> dict[str, float]:
    """Latency of one query at a time, on one thread of torch; a runtime's own threads are its caller's to pin."""
    pool = torch.arange(min(queries.count, CHECKED))
    inputs = [queries.inputs(query) for query in torch.split(pool, 1)]
    return latency(lambda query: answer(inputs[int(query)]), pool, repeats=CALLS)
