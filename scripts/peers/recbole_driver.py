"""Trains a model of RecBole 1.2.1 on exported pairs or histories and writes its scores of the whole catalogue.

    python3 -m venv PEERS/recbole
    PEERS/recbole/bin/pip install -c constraints.txt torch recbole==1.2.1 "pandas<3" "setuptools<80"
    PEERS/recbole/bin/python scripts/peers/recbole_driver.py GIVEN.npz SPEC.json OUT

Called by ``scripts/benchmark_models.py``, which makes both files. ``SPEC.json`` holds ``model``, ``seed``, ``settings``
(RecBole's own keys) and ``sequence``: whether a user is its history. Written are ``OUT.npy``, float32
``[n_users, n_items]``, and ``OUT.json``, the CPU seconds of each epoch and the versions.

RecBole 1.2.1 is older than the numpy, scipy and torch it runs on here; what it misses of theirs is given back below.
Nothing of its models, losses, batches and samplers is touched. No checkpoint is written or read.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch

REMOVED = {"bool8": np.bool_, "float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}
for alias, kind in REMOVED.items():
    if not hasattr(np, alias):
        setattr(np, alias, kind)
if not hasattr(scipy.sparse.dok_matrix, "_update"):
    scipy.sparse.dok_matrix._update = lambda self, entries: self._dict.update(entries)

from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset  # noqa: E402
from recbole.data.utils import create_samplers, get_dataloader  # noqa: E402
from recbole.model.abstract_recommender import AbstractRecommender  # noqa: E402
from recbole.utils import get_model, get_trainer, init_seed  # noqa: E402

CHUNK = 256  # users that are scored at once


def write_atomic(given: dict[str, np.ndarray], folder: Path) -> None:
    """The pairs as RecBole's file; the time of a pair is its place, which keeps the order of a history."""
    pairs = zip(given["user"].tolist(), given["item"].tolist(), strict=True)
    lines = [f"u{user}\ti{item}\t{place}" for place, (user, item) in enumerate(pairs)]
    (folder / "given").mkdir()
    header = "user_id:token\titem_id:token\ttimestamp:float"
    (folder / "given" / "given.inter").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


def configure(spec: dict[str, Any], folder: Path) -> Config:
    """RecBole's config: all pairs train, nothing is validated."""
    plain = {
        "data_path": str(folder), "checkpoint_dir": str(folder), "use_gpu": False, "state": "ERROR",
        "show_progress": False, "seed": spec["seed"], "reproducibility": True, "learner": "adam", "weight_decay": 0.0,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "eval_step": 0,
        "eval_args": {"split": {"RS": [1.0, 0.0, 0.0]}, "order": "TO", "group_by": None, "mode": "full"},
    }  # fmt: skip
    return Config(model=spec["model"], dataset="given", config_dict={**plain, **spec["settings"]})


def train(config: Config) -> tuple[torch.nn.Module, Any, list[float]]:
    """The model, the data set that numbers users and items, and the seconds of each epoch."""
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    parts = dataset.build()
    sampler, *_ = create_samplers(config, dataset, parts)
    loader = get_dataloader(config, "train")(config, parts[0], sampler, shuffle=True)
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, loader.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    seconds: list[float] = []
    epoch = trainer._train_epoch

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        loss = epoch(*args, **kwargs)
        seconds.append(time.process_time() - start)
        print(f"epoch {len(seconds)}: {seconds[-1]:.2f} s, loss {loss}", file=sys.stderr, flush=True)
        return loss

    trainer._train_epoch = timed
    trainer.fit(loader, valid_data=None, verbose=False, saved=False, show_progress=False)
    return model.eval(), dataset, seconds


@torch.inference_mode()
def score(model: torch.nn.Module, dataset: Any, given: dict[str, np.ndarray], sequence: bool) -> np.ndarray:
    """Scores ``[n_users, n_items]`` in our numbers."""
    n_users, n_items = int(given["n_users"]), int(given["n_items"])
    items = torch.from_numpy(dataset.token2id("item_id", [f"i{i}" for i in range(n_items)]))
    users = torch.from_numpy(dataset.token2id("user_id", [f"u{u}" for u in range(n_users)]))
    scores = np.empty((n_users, n_items), dtype=np.float32)
    for first in range(0, n_users, CHUNK):
        here = slice(first, min(first + CHUNK, n_users))
        asked = {"user_id": users[here]}
        if sequence:
            asked |= histories(given, items, here, int(dataset.config["MAX_ITEM_LIST_LENGTH"]))
        scores[here] = of_catalogue(model, asked, items)
    return scores


def of_catalogue(model: torch.nn.Module, asked: dict[str, torch.Tensor], items: torch.Tensor) -> np.ndarray:
    """Scores ``[B, n_items]``; of a model that knows pairs alone its logits, whose sigmoid could tie."""
    users = asked["user_id"]
    if type(model).full_sort_predict is AbstractRecommender.full_sort_predict:
        found = model(users.repeat_interleave(len(items)), items.repeat(len(users))).view(len(users), -1)
    else:
        found = model.full_sort_predict(asked).view(len(users), -1)[:, items]
    return found.numpy()


def histories(given: dict[str, np.ndarray], items: torch.Tensor, here: slice, longest: int) -> dict[str, torch.Tensor]:
    """The last items before the test part, padded with 0 behind the end, as RecBole lays out its own."""
    indptr, known = given["history_indptr"], given["history_item"]
    rows = [items[known[indptr[u] : indptr[u + 1]][-longest:]] for u in range(here.start, here.stop)]
    padded = torch.zeros(len(rows), longest, dtype=torch.int64)
    for row, history in zip(padded, rows, strict=True):
        row[: len(history)] = history
    return {"item_id_list": padded, "item_length": torch.tensor([len(row) for row in rows])}


def main() -> None:
    given_file, spec_file, out = (Path(argument) for argument in sys.argv[1:])
    given, spec = dict(np.load(given_file)), json.loads(spec_file.read_text())
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        sys.argv[1:] = []  # RecBole reads them too
        write_atomic(given, Path(temporary))
        model, dataset, seconds = train(configure(spec, Path(temporary)))
    np.save(out.with_suffix(".npy"), score(model, dataset, given, spec["sequence"]))
    versions = {name: version(name) for name in ("recbole", "torch", "numpy")}
    size = sum(parameter.numel() for parameter in model.parameters())
    out.with_suffix(".json").write_text(json.dumps({"seconds": seconds, "versions": versions, "parameters": size}))


if __name__ == "__main__":
    main()
