"""Graph models that learn from their own noise: SimGCL and XSimGCL."""

from __future__ import annotations

from functools import reduce
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from recdistill.data.interactions import Schema
from recdistill.errors import InputError
from recdistill.models.lightgcn import LightGCN

Tables = tuple[Tensor, Tensor]


class SimGCL(LightGCN):
    """E = mean over l = 1..layers of A^l E0, and two views of it that a contrastive loss brings together.

    A view is a walk over the graph with every vector shifted a little after each step. Train it with
    :class:`~recdistill.tasks.objectives.graph_contrast.GraphContrast`.

    Source: Yu et al., Are graph augmentations necessary? Simple graph contrastive learning for recommendation,
    SIGIR 2022, section 3; E0 itself is left out of the mean, as there.

    Args:
        schema: sizes of the data.
        dim: length of the vectors.
        layers: propagation steps.
        noise: length of the shifts, ε.
        init_std: standard deviation of the initial weights.
    """

    def __init__(
        self,
        schema: Schema,
        dim: Annotated[int, Ge(1)] = 64,
        layers: Annotated[int, Ge(1)] = 3,
        noise: Annotated[float, Gt(0)] = 0.1,
        init_std: Annotated[float, Gt(0)] = 0.1,
    ):
        super().__init__(schema, dim, layers, init_std)
        self.noise = noise

    def _propagate(self) -> Tables:
        return self._mean()

    def _mean(self, noise: float = 0.0) -> Tables:
        _, *after = self.walk(noise)
        return self.split(reduce(torch.add, after) / self.layers)

    def views(self) -> tuple[Tables, Tables]:
        """Two views of the vectors of users and items."""
        return self._mean(self.noise), self._mean(self.noise)


class XSimGCL(SimGCL):
    """SimGCL with one walk a step: the shifted vectors are those that are ranked by in training, and they are
    contrasted with those of an early layer of the same walk.

    Source: Yu et al., XSimGCL: Towards extremely simple graph contrastive learning for recommendation, TKDE 2023,
    section 4.

    Args:
        schema: sizes of the data.
        dim: length of the vectors.
        layers: propagation steps.
        noise: length of the shifts, ε.
        contrast_layer: l*, the layer that the last vectors are contrasted with.
        init_std: standard deviation of the initial weights.

    Raises:
        InputError: there is no such layer.
    """

    def __init__(
        self,
        schema: Schema,
        dim: Annotated[int, Ge(1)] = 64,
        layers: Annotated[int, Ge(1)] = 3,
        noise: Annotated[float, Gt(0)] = 0.2,
        contrast_layer: Annotated[int, Ge(1)] = 1,
        init_std: Annotated[float, Gt(0)] = 0.1,
    ):
        if contrast_layer > layers:
            raise InputError(
                f"contrast_layer={contrast_layer} is not one of {layers} layers",
                where="net.contrast_layer", fix=f"net.contrast_layer={layers}",
            )  # fmt: skip
        super().__init__(schema, dim, layers, noise, init_std)
        self.contrast_layer = contrast_layer
        self._walked: tuple[Tables, Tables] | None = None

    def _propagate(self) -> Tables:
        if not self.training:
            return self._mean()
        self._walked = self._walk_shifted()
        return self._walked[0]

    def _walk_shifted(self) -> tuple[Tables, Tables]:
        _, *after = self.walk(self.noise)
        return self.split(reduce(torch.add, after) / self.layers), self.split(after[self.contrast_layer - 1])

    def views(self) -> tuple[Tables, Tables]:
        """The vectors that the step ranks by, and those of the early layer; given out once, since a graph of gradients
        serves one backward pass."""
        walked, self._walked = self._walked, None
        return walked or self._walk_shifted()
