"""The config and the data of a finished run once more, from its folder: untrusted, so through the gate."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recdistill.config import check, compose, gate
from recdistill.config.plugins import plugin_modules
from recdistill.config.yaml_safety import scan_file
from recdistill.content.base import with_vectors
from recdistill.data import store as data_store
from recdistill.data.hashing import hash_ids, hash_part
from recdistill.data.interactions import Data, Dataset
from recdistill.data.prepare import prepare
from recdistill.errors import InputError
from recdistill.models.build import instantiate
from recdistill.reporting.finished import Run
from recdistill.runs.atomic import digest, read_json
from recdistill.stages.nodes import encoders_of

CONFIG = "config.yaml"


@dataclass(frozen=True)
class Remade:
    """The data of a run.

    Attributes:
        dataset: with all parts.
        hashes: of its content: each part, and ``catalogue``, the users and items.
        origin: where it comes from, one sentence.
    """

    dataset: Data
    hashes: dict[str, str]
    origin: str

    @classmethod
    def of(cls, dataset: Data, origin: str) -> Remade:
        hashes = {name: hash_part(getattr(dataset, name)) for name in dataset.manifest["parts"]}
        if not isinstance(dataset, Dataset):
            return cls(dataset, hashes, origin)
        ids = dataset.users[: dataset.train.n_users], dataset.items[: dataset.train.n_items]
        return cls(dataset, hashes | {"catalogue": hash_ids(*ids)}, origin)


def remade_config(folder: Path, data_path: str | None = None) -> dict[str, Any]:
    """The resolved config of a run, looked at like one from the command line.

    Args:
        folder: of the run.
        data_path: where the data are now, instead of where the config says.

    Raises:
        InputError: there is none, it is no plain YAML, or it names what a config must not name.
    """
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    file = folder / CONFIG
    if not file.is_file():
        raise InputError("the run has no config", where=str(file), fix="copy the whole run folder, with config.yaml")
    scan_file(file)
    try:
        cfg = OmegaConf.load(file)
    except (OmegaConfBaseException, OSError, ValueError) as error:
        raise InputError("the config of the run cannot be read", where=str(file), why=str(error)) from error
    if not isinstance(cfg, DictConfig):
        raise InputError("the config of the run is no mapping", where=str(file), fix="make the run again")
    if data_path:
        _move(cfg, data_path)
    try:
        resolved = compose.resolve(cfg)
        gate.check_config(resolved, plugin_modules())
        check.require_valid(check.check_config(resolved, plugins=plugin_modules(), sections=resolved))
    except InputError as error:
        error.why = "\n".join(text for text in (error.why, f"in the config of the run, {file}") if text)
        raise
    return resolved


def _move(cfg: Any, data_path: str) -> None:
    if "path" not in (cfg.get("data") or {}):
        raise InputError("these data have no path", where="verify.data", why="they are made up", fix="leave it out")
    cfg.data.path = data_path


def remade_data(run: Run, node: dict[str, Any], caches: Sequence[str], known: dict[str, Remade]) -> Remade:
    """The data, prepared anew from their source; from a cache, where the source can't be read any more.

    Args:
        node: ``data`` of the run's config.
        caches: folders of caches to look into.
        known: data that were made before, by their config; added to.

    Raises:
        InputError: neither gives them.
    """
    key = digest([node, run.summary["data"].get("fingerprint")])
    if key not in known:
        try:
            source, filters, split = (instantiate(node[name]) for name in ("source", "filters", "split"))
            dataset = with_vectors(prepare(source, filters, split), encoders_of(node), Path(caches[0]))
            known[key] = Remade.of(dataset, f"data prepared anew from {source.where()}")
        except InputError as error:
            known[key] = _cached(run, caches, error)
    return known[key]


def _cached(run: Run, caches: Sequence[str], error: InputError) -> Remade:
    """Data of the run's fingerprint; that their content is the one it stands for is for the checks to say."""
    wanted = run.summary["data"].get("fingerprint")
    files = [file for cache in dict.fromkeys(caches) for file in sorted(Path(cache).glob("data/*/dataset.json"))]
    for file in files:
        with contextlib.suppress(ValueError, AttributeError, InputError):  # one that can't be read is none
            if read_json(file).get("fingerprint") == wanted:
                origin = f"data from the cache {file.parent}, by hash; the source can't be read: {error.what}"
                return Remade.of(data_store.load(file.parent), origin)
    error.fix = "\n".join(
        text for text in (error.fix, "or say where the data are: verify.data=PATH, or a cache with them: cache=DIR")
        if text
    )  # fmt: skip
    raise error
