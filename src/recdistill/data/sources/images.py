"""What sources of labelled images share: pixels as a vector feature, a validation part, and another size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import polars as pl
import torch
from annotated_types import Ge, MinLen
from torch.nn.functional import interpolate

from recdistill.data.sources.base import PARTS, TRAIN, VALID, RawLog
from recdistill.data.sources.labelled import WHOLE
from recdistill.errors import InputError

IMAGE = "image"
_CHUNK = 4096  # images that are scaled at a time

Pixels = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Images:
    """The images of a file.

    Attributes:
        pixels: float32 ``[N, height, width]``, 0 to 1.
        label: int64 ``[N]``, classes from 0 on.
    """

    pixels: Pixels
    label: np.ndarray[Any, np.dtype[np.int64]]


Classes = Annotated[Sequence[Annotated[int, Ge(0)]], MinLen(2)]
"""Labels that are kept, the first of them as class 0."""


def image_table(
    parts: Mapping[str, Images], *, valid: float, resize: int | None, where: str, warnings: list[str],
    classes: Classes | None = None,
) -> RawLog:  # fmt: skip
    """The table of images: ``value`` is the class, and the feature ``image`` the pixels, row after row.

    Args:
        parts: under ``train`` and ``test``, or all under :data:`~recdistill.data.sources.labelled.WHOLE`: there are no
            parts then.
        valid: share of the training part that validates, the same images every time.
        resize: side of a square that all images are scaled to; None leaves them as they are.
        where: the files, for messages.
        warnings: oddities of the files.
        classes: see :data:`Classes`; None for all.

    Raises:
        InputError: the parts have images of several sizes, or none of a class that is asked for.
    """
    if classes is not None:
        parts = {name: _only(images, classes, where) for name, images in parts.items()}
    sizes = {images.pixels.shape[1:] for images in parts.values()}
    if len(sizes) > 1 and resize is None:
        text = " and ".join(sorted(f"{height} × {width}" for height, width in sizes))
        raise InputError(f"the images are of several sizes: {text}", where=where, fix="data.resize=28")
    vectors = [_flat(images.pixels, resize) for images in parts.values()]
    label = np.concatenate([images.label for images in parts.values()])
    events = pl.DataFrame({"value": label.astype(np.float64), IMAGE: pl.Series(IMAGE, np.concatenate(vectors))})
    if WHOLE not in parts:
        part = np.concatenate([_part(name, len(images.label), valid) for name, images in parts.items()])
        events = events.with_columns(pl.Series("part", part))
    side = ", ".join(f"{height} × {width}" for height, width in sizes)
    said = f"{side} pixels of 0 to 1" + (f", scaled to {resize} × {resize}" if resize else "")
    facts: dict[str, int | str] = {"classes": np.unique(label).size, "size of an image": said}
    return RawLog(events, kinds={"context": {IMAGE: "vector"}}, facts=facts, warnings=warnings)


def cropped(images: Images, crop: int, where: str) -> Images:
    """The images without their border.

    Raises:
        InputError: nothing is left of them.
    """
    height, width = images.pixels.shape[1:]
    if not crop:
        return images
    if 2 * crop >= min(height, width):
        raise InputError(f"a border of {crop} leaves nothing of {height} × {width} pixels", where="data.crop",
                         why=where, fix="data.crop=4")  # fmt: skip
    return Images(images.pixels[:, crop : height - crop, crop : width - crop], images.label)


def some_classes(classes: Classes | None) -> dict[str, Any]:
    """The choice as a part of a fingerprint, which is as it was where all classes are kept."""
    return {} if classes is None else {"classes": list(classes)}


def _only(images: Images, classes: Classes, where: str) -> Images:
    """The images of some classes, which are numbered in their order."""
    there = np.unique(images.label).tolist()
    if len(set(classes) & set(there)) < len(classes):
        raise InputError(
            f"these are not so many classes of the images: {list(classes)}", where="data.classes",
            why=f"in {where} there are {', '.join(map(str, there))}", fix="data.classes=[3,8]",
        )  # fmt: skip
    match = images.label[:, None] == np.asarray(classes)
    kept = match.any(1)
    return Images(images.pixels[kept], match[kept].argmax(1).astype(np.int64))


def _flat(pixels: Pixels, side: int | None) -> Pixels:
    """``[N, d]``, the rows of each image one behind the other."""
    if side is not None and pixels.shape[1:] != (side, side):
        pixels = resized(pixels, side)
    return pixels.reshape(len(pixels), -1)


def resized(pixels: Pixels, side: int) -> Pixels:
    """``[N, side, side]``: bilinear, and where images shrink each pixel is a mean over all that fall on it, weighted by
    a triangle (as Pillow's ``BILINEAR``)."""
    found = [
        interpolate(part.unsqueeze(1), (side, side), mode="bilinear", antialias=True).squeeze(1)
        for part in torch.split(torch.from_numpy(pixels), _CHUNK)
    ]
    return torch.cat(found).clamp(0, 1).numpy()


def _part(name: str, rows: int, valid: float) -> np.ndarray[Any, np.dtype[np.int8]]:
    """The part of each row of a file."""
    part = np.full(rows, PARTS.index(name), dtype=np.int8)
    if name == PARTS[TRAIN]:
        part[np.random.default_rng(0).permutation(rows)[: round(rows * valid)]] = VALID
    return part
