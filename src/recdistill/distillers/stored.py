"""Answers from stored signals, which :mod:`~recdistill.distillers.signals` wrote."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recdistill.distillers.teacher import FrozenTeacher
from recdistill.errors import InputError
from recdistill.models.dot import dot_scores
from recdistill.runs.atomic import file_digest, read_json

SIGNALS = "signals.safetensors"
SIGNALS_INFO = "signals.json"
MEMBER = "member."  # of names: member.0.scores
SWAPPED = {
    "user_factors": "item_factors", "item_factors": "user_factors", "user_vectors": "item_vectors",
    "item_vectors": "user_vectors", "top_users": "top_items", "top_user_scores": "top_scores",
}  # fmt: skip


class StoredTeacher(FrozenTeacher):
    """Answers from the signals that :func:`~recdistill.distillers.signals.compute_signals` wrote.

    Args:
        folder: where they are.

    Attributes:
        data: fingerprint of the data set that they are of, "" where it is unknown.

    Raises:
        InputError: there are no signals, or they do not match their hash.
    """

    def __init__(self, folder: Path):
        from safetensors.torch import load_file

        if not (folder / SIGNALS_INFO).is_file() or not (folder / SIGNALS).is_file():
            raise InputError(
                "there are no teacher signals here", where=str(folder), fix=f"remove {folder} and run again"
            )
        info = read_json(folder / SIGNALS_INFO)
        if file_digest(folder / SIGNALS) != info["hash"]:
            raise InputError(
                "the stored teacher signals are damaged",
                where=str(folder / SIGNALS),
                fix=f"remove the folder {folder} and run again: they are computed anew",
            )
        self.data: str = info.get("data", "")
        self.identity = info["hash"]
        self.n_items: int = info["n_items"]
        self.queries: int = info["queries"]
        self.tensors: dict[str, Tensor] = load_file(folder / SIGNALS)
        self.informed = self.tensors.pop("informed", None)
        self.dim = next((t.shape[1] for name, t in self.tensors.items() if name in ("item_factors", "item_vectors")), 0)
        self.members = max((number for number, _ in map(of_member, self.tensors)), default=-1) + 1 or 1

    def to(self, device: torch.device, train: Any = None) -> None:  # noqa: ARG002
        """What would take more than half of the device's free memory stays mapped, but for vectors: of it a step's rows
        are moved."""
        fits = sum(tensor.nbytes for tensor in self.tensors.values()) <= free_memory(device) / 2
        self.tensors = {
            name: tensor.to(device) if fits or name.endswith(("_factors", "_vectors")) else tensor
            for name, tensor in self.tensors.items()
        }

    def view(self, users: Tensor) -> _StoredView:
        return _StoredView(self.tensors, users, self.n_items, self.queries)

    def widths(self) -> dict[str, int]:
        prefix = "layer."
        return {n.removeprefix(prefix): t.shape[1] for n, t in self.tensors.items() if n.startswith(prefix)}


def free_memory(device: torch.device) -> float:
    """Bytes that are free on a CUDA device; of any other as many as one wants."""
    return float(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else math.inf


class _StoredView:
    regression = False  # the student's says how scores are compared

    def __init__(self, tensors: dict[str, Tensor], users: Tensor, n_items: int, queries: int):
        self.tensors, self.users, self.n_items, self.queries = tensors, users, n_items, queries

    def of(self, users: Tensor) -> _StoredView:
        return _StoredView(self.tensors, users, self.n_items, self.queries)

    def _own(self, table: Tensor) -> Tensor:
        """The rows of the queries, where these are."""
        return table[self.users.to(table.device)].to(self.users.device)

    def scores(self, items: Tensor | None = None) -> Tensor:
        if "scores" in self.tensors:
            rows = self._own(self.tensors["scores"])
            if items is None:
                return rows
            return rows[:, items] if items.dim() == 1 else rows.gather(1, items)
        with torch.autocast(self.users.device.type, enabled=False):
            return dot_scores(self.tensors["user_factors"], self.tensors["item_factors"], self.users, items)

    def ranked_scores(self) -> Tensor:
        scores = self.scores().clone()
        if "floor" in self.tensors:
            scores.masked_fill_(scores <= self._own(self.tensors["floor"]).unsqueeze(1), -torch.inf)
        if "known_items" in self.tensors:
            known_items = self.tensors["known_items"].to(self.users.device)
            known = self._own(self.tensors["known_queries"]).unsqueeze(1) & known_items
            scores.masked_fill_(~known, -torch.inf)
        return scores

    def flipped(self, items: Tensor) -> _StoredView:
        swapped = {SWAPPED[name]: tensor for name, tensor in self.tensors.items() if name in SWAPPED}
        if "scores" in self.tensors:
            swapped["scores"] = self.tensors["scores"].T
        return _StoredView(swapped, items, n_items=self.queries, queries=self.n_items)

    def members(self) -> list[_StoredView]:
        parts: dict[int, dict[str, Tensor]] = {}
        for name, tensor in self.tensors.items():
            number, plain = of_member(name)
            parts.setdefault(number, {})[plain] = tensor
        parts.pop(-1, None)
        return [_StoredView(parts[n], self.users, self.n_items, self.queries) for n in sorted(parts)] or [self]

    def layer(self, name: str, rows: Tensor | None = None) -> Tensor:
        view = self if rows is None else self.of(self.users[rows])
        return view._own(self.tensors[f"layer.{name}"])

    def log_normaliser(self, temperature: float = 1.0) -> Tensor:
        return (self.scores() / temperature).logsumexp(-1)

    def top_items(self, k: int) -> tuple[Tensor, Tensor]:
        items, scores = (self._own(self.tensors[name][:, :k]) for name in ("top_items", "top_scores"))
        return items.long(), scores

    def top_confidences(self, k: int) -> Tensor:
        return self._own(self.tensors["top_confidences"][:, :k]).float()

    def log_tail(self, k: int, temperature: float) -> Tensor:
        behind = self._own(self.tensors["top_scores"][:, k:]) / temperature  # of a list that others want longer
        tail = self._own(self.tensors[tail_at(temperature)])
        return torch.cat([behind, tail.unsqueeze(1)], 1).logsumexp(1)

    def user_vectors(self) -> Tensor:
        return self._own(self._vectors("user"))

    def item_vectors(self, items: Tensor) -> Tensor:
        return self._vectors("item")[items]

    def _vectors(self, side: str) -> Tensor:
        name = f"{side}_vectors"
        return self.tensors[name if name in self.tensors else f"{side}_factors"]


def tail_at(temperature: float) -> str:
    """Name of the tensor that holds the mass behind the lists at a temperature."""
    return f"top_tail.{float(temperature)!r}"


def of_member(name: str) -> tuple[int, str]:
    """Whose signal a stored tensor is, -1 for that of the teacher itself, and its name there."""
    if not name.startswith(MEMBER):
        return -1, name
    number, _, plain = name.removeprefix(MEMBER).partition(".")
    return int(number), plain
