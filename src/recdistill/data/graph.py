"""A knowledge graph over the items of a data set and what else is known of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class KnowledgeGraph:
    """Triples such as (film, director, person), in numbers.

    Attributes:
        head, tail: int64 ``[T]``, entities: the items of the catalogue by their numbers, others from ``n_items`` on.
        relation: int64 ``[T]``.
        n_items: of the catalogue, whether they are in a triple or not.
        n_entities: the other entities. Items that training lacks are among them.
        n_relations: kinds of triples.
    """

    head: Tensor
    relation: Tensor
    tail: Tensor
    n_items: int
    n_entities: int
    n_relations: int

    def __len__(self) -> int:
        return self.head.numel()

    @property
    def both_ways(self) -> tuple[Tensor, Tensor, Tensor]:
        """``(entity, relation, neighbour)``, each int64 ``[2 T]``: every triple from its head and from its tail."""
        ends = torch.cat([self.head, self.tail]), torch.cat([self.tail, self.head])
        return ends[0], self.relation.repeat(2), ends[1]

    def linked(self) -> Tensor:
        """bool ``[n_items]``: the items that are in a triple."""
        found = torch.zeros(self.n_items + self.n_entities, dtype=torch.bool)
        found[self.head] = found[self.tail] = True
        return found[: self.n_items]
