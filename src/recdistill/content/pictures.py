"""Vectors of pictures, by any image encoder."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from recdistill.content.base import ContentEncoder
from recdistill.content.parts import in_parts
from recdistill.content.rows import NEW_ITEMS, NewRows
from recdistill.content.sentences import fetched, local_folder, used
from recdistill.data.hashing import hash_ids
from recdistill.data.interactions import Dataset
from recdistill.errors import InputError
from recdistill.runs.atomic import digest, file_digest

CHUNK = 32  # batches that are kept at a time
ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


class PictureEncoder(ContentEncoder):
    """The vector that an image encoder gives to the picture of an item: the file ``FOLDER/ITEM.jpg``, ``.jpeg``,
    ``.png`` or ``.webp`` by its original id. Items without a picture have no vector.

    The vector is the projected one of encoders of images and texts, as CLIP's (Radford et al., ICML 2021); else what
    the encoder pools of the picture; else the mean over its last layer's places.

    Args:
        folder: of the pictures.
        model: a folder or a name at the Hugging Face hub, of any image encoder that the library transformers loads.
        revision: of a name at the hub.
        batch_size: pictures at a time.
        dim, whiten: see :class:`~recdistill.content.base.ContentEncoder`.

    Raises:
        InputError: there is no such folder or model, a picture can't be read, or no item has one.
    """

    def __init__(
        self, folder: str, model: str, revision: str | None = None, batch_size: Annotated[int, Ge(1)] = 32,
        dim: Annotated[int, Ge(1)] | None = None, whiten: bool = False,
    ):  # fmt: skip
        super().__init__(dim, whiten)
        self.folder, self.model, self.revision, self.batch_size = folder, model, revision, batch_size

    def content(self, key: str) -> Any:
        folder = local_folder(self.model)
        model = digest({str(file.relative_to(folder)): file_digest(file) for file in used(folder)}) if folder else None
        return [model, digest({name: file_digest(file) for name, file in self.pictures(key).items()})]

    def depends_on(self, data: Dataset, key: str) -> dict[str, Any]:
        return {"model": self.model, "revision": self.revision, "content": self.content(key),
                "items": hash_ids(data.items)}  # fmt: skip

    def pictures(self, key: str) -> dict[str, Path]:
        """The picture of each item that has one, by original id; of two the first in the order of the endings."""
        folder = Path(self.folder).expanduser()
        if not folder.is_dir():
            raise InputError(f"there is no folder '{self.folder}'", where=f"{key}.folder", fix="the pictures' folder")
        files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in ENDINGS]
        files.sort(key=lambda file: ENDINGS.index(file.suffix.lower()), reverse=True)
        return {file.stem: file for file in files}

    def compute(self, data: Dataset, folder: Path, key: str) -> Tensor:
        return self.encoded(data.items.astype(str), folder, key, f"{key}.folder")

    def of_new(self, rows: NewRows, key: str) -> Tensor:
        """From the same folder."""
        if rows.vectors:
            raise InputError(
                f"'{rows.file}' holds vectors, and '{self.model}' makes them of pictures", where=NEW_ITEMS,
                fix=f"a .csv file with the column item, and the pictures in '{self.folder}'",
            )  # fmt: skip
        return self.encoded(rows.ids, None, key, NEW_ITEMS)

    def encoded(self, ids: np.ndarray[Any, Any], folder: Path | None, key: str, where: str) -> Tensor:
        """Float32 ``[n, d]`` of the items ``ids``, NaN for those without a picture; kept in the folder, if any."""
        of = self.pictures(key)
        there = [at for at, one in enumerate(ids) if one in of]
        if not there:
            raise InputError(
                f"none of the {len(ids)} items has a picture in '{self.folder}'", where=where,
                why=f"it holds {', '.join(of[name].name for name in list(of)[:3]) or 'no picture'}; items are "
                f"{', '.join(map(repr, ids[:3]))}", fix="name the files by the items' ids, such as 123.jpg",
            )  # fmt: skip
        encoder = cache(lambda: self.load(key))
        files = [of[ids[at]] for at in there]

        def compute(start: int, end: int) -> np.ndarray[Any, Any]:
            parts = range(start, end, self.batch_size)
            return np.concatenate([encoder()(files[at : min(at + self.batch_size, end)]) for at in parts])

        size = CHUNK * self.batch_size
        found = (
            in_parts(len(files), size, folder, compute, key, "pictures")
            if folder else torch.from_numpy(compute(0, len(files)))
        )  # fmt: skip
        vectors = torch.full((len(ids), found.shape[1]), float("nan"))
        vectors[torch.tensor(there)] = found
        return vectors

    def load(self, key: str) -> Any:
        """From files ``[n]`` to float32 ``[n, d]``."""
        try:
            import PIL  # noqa: F401
            from transformers import AutoImageProcessor, AutoModel
        except ImportError as error:
            raise InputError(
                "no library for pictures is installed", where=key, fix='pip install "recdistill[images]"'
            ) from error
        folder = local_folder(self.model) or fetched(self.model, self.revision, key, f"{key}.model=FOLDER")
        try:
            prepare = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)  # type: ignore[no-untyped-call]
            model = AutoModel.from_pretrained(folder, trust_remote_code=False, use_safetensors=True).eval()
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"'{self.model}' can't be loaded as an image encoder", where=f"{key}.model",
                why=str(error).split("\n")[0][:200],
                fix="a folder with config.json, preprocessor_config.json and model.safetensors",
            ) from error  # fmt: skip

        @torch.inference_mode()
        def encode(files: list[Path]) -> np.ndarray[Any, Any]:
            pixels = prepare(images=[opened(file, key) for file in files], return_tensors="pt")
            return pooled(model, pixels).float().numpy()

        return encode


def opened(file: Path, key: str) -> Any:
    """The picture in a file, in red, green and blue."""
    from PIL import Image

    try:
        with Image.open(file) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"'{file}' can't be read as a picture", where=f"{key}.folder", why=str(error)[:200],
            fix="replace it, or take it away: its item has then no vector",
        ) from error  # fmt: skip


def pooled(model: Any, pixels: Any) -> Tensor:
    """The vector ``[B, d]`` of each picture, see :class:`PictureEncoder`."""
    if hasattr(model, "get_image_features"):
        found = model.get_image_features(**pixels)
        return found if isinstance(found, Tensor) else found.pooler_output
    answer = model(**pixels)
    if getattr(answer, "pooler_output", None) is not None:
        return answer.pooler_output.flatten(1)  # type: ignore[no-any-return]
    last = answer.last_hidden_state
    return last.mean(1) if last.dim() == 3 else last.flatten(2).mean(2)  # type: ignore[no-any-return]
