"""A small convolutional network on grey images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isqrt
from typing import Annotated, ClassVar

from annotated_types import Ge, MinLen
from torch import Tensor, nn

from recdistill.data.interactions import Schema
from recdistill.data.rows import Rows
from recdistill.errors import InputError
from recdistill.models.base import TableModel
from recdistill.models.pieces import Cut, Kind, Pieces, places


class CNN(TableModel):
    """Stages of a 3 × 3 convolution, relu and 2 × 2 max pooling, which halves the sides, then a linear layer.

    Source: LeCun et al., Gradient-based learning applied to document recognition, Proceedings of the IEEE 86(11), 1998;
    with padding, rectified linear units and max pooling.

    Args:
        schema: sizes of the data.
        channels: of each stage, the first one first.
        image: the vector feature that holds the pixels, row after row.
        height: of the images, in pixels; None for squares.

    Raises:
        InputError: there is no such feature, its length is no multiple of the height, or stages leave nothing of it.
    """

    tasks = ("classification",)
    trunk = "stages"
    cuttable: ClassVar[Mapping[Kind, str]] = {"units": "channels"}

    def __init__(
        self,
        schema: Schema,
        channels: Annotated[Sequence[Annotated[int, Ge(1)]], MinLen(1)] = (16, 32),
        image: str = "image",
        height: Annotated[int, Ge(1)] | None = None,
    ):
        super().__init__(schema)
        self.image, self.shape = image, _shape(schema, image, height)
        left = [side >> len(channels) for side in self.shape]
        if not all(left):
            raise InputError(
                f"{len(channels)} stages leave nothing of {self.shape[0]} × {self.shape[1]} pixels",
                where="net.channels",
                why="each halves the sides",
                fix="fewer of them, such as net.channels=[16]; or data.resize=28, where the source has it",
            )
        stages: list[nn.Module] = []
        for before, after in pairwise([1, *channels]):
            stages += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels[-1] * left[0] * left[1], schema.n_outputs)

    def pieces(self) -> list[Pieces]:
        found, convolutions = [], range(0, len(self.stages), 3)
        for number in convolutions:
            last = number == convolutions[-1]
            count = int(self.stages[number].out_channels)  # type: ignore[arg-type]
            read = places(count, width=self.head.in_features // count if last else 1)
            reader = "head.weight" if last else f"stages.{number + 3}.weight"
            own = (Cut(f"stages.{number}.{part}", 0, places(count)) for part in ("weight", "bias"))
            found.append(Pieces("units", count, (*own, Cut(reader, 1, read, gate=True))))
        return found

    def forward(self, rows: Rows) -> Tensor:
        pixels = rows.vector[self.image].reshape(-1, 1, *self.shape)  # [B, 1, height, width]
        logits: Tensor = self.head(self.stages(pixels).flatten(1))
        return logits


def _shape(schema: Schema, image: str, height: int | None) -> tuple[int, int]:
    """Height and width of the images, checked."""
    vectors = schema.features.get("vector", {})
    if image not in vectors:
        raise InputError(
            f"the data have no vector feature '{image}'",
            where="net.image",
            why=f"there are: {', '.join(sorted(vectors)) or 'none'}",
            fix=f"net.image={min(vectors)}" if vectors else "data with images, such as data=mnist",
        )
    size = vectors[image]
    rows = isqrt(size) if height is None else height
    if size % rows or (height is None and rows**2 != size):
        what = "no square" if height is None else f"no rows of a height of {height}"
        raise InputError(
            f"the {size} numbers of '{image}' are {what}",
            where="net.height",
            fix="net.height=ROWS, how many rows of pixels an image has",
        )
    return rows, size // rows
