"""One exported model as a service has it: opened, checked, warm."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from recdistill.errors import InputError
from recdistill.export.manifest import MANIFEST, open_manifest
from recdistill.export.names import GRAPH
from recdistill.serving.batcher import Batcher
from recdistill.serving.catalogue import NONE, Catalogue, read_catalogue, unreadable
from recdistill.serving.ranker import List, ListAsk, Ranker, Scorer, open_session
from recdistill.serving.settings import PREFIX, Settings
from recdistill.serving.table import Columns, Inputs, read_columns
from recdistill.serving.vectors import FoldIn, Vectors, fold_of
from recdistill.serving.weights import item_vectors, read_info

INLINE_MS = 2.0  # a full batch that takes longer has a thread of its own
WARM_CALLS = 5
EXAMPLES = 32
RANKS = ("ranking", "sequence")
MAKE = "recdistill run export=[bundle,onnx] run.name=mine; recdistill serve outputs/mine"
Watch = Callable[[str, int, float], None]
Stamp = tuple[str, int, int, int]


@dataclass(frozen=True)
class Place:
    """Where a model comes from.

    Attributes:
        name: that requests call it by.
        folder: of the bundle; it may be a link.
    """

    name: str
    folder: Path


@dataclass
class Served:
    """A model that answers.

    Attributes:
        place: where it was read.
        stamp: what was there, see :func:`stamp_of`.
        manifest: of the bundle.
        catalogue: of a model that ranks; None of one of rows.
        ranker: likewise.
        columns, scorer: of a model of rows.
        vectors: of items; None where the model has none.
        lists: batches for ``ranker``.
        predictions: batches for ``scorer``.
        batch_ms: of a full batch, when it was warm.
        facts: what a request may know of the model.
        searches: by ``vectors``, that threads are at or that wait for one; of ``max_queue`` at most.
    """

    place: Place
    stamp: Stamp
    manifest: dict[str, Any]
    catalogue: Catalogue | None = None
    ranker: Ranker | None = None
    columns: Columns | None = None
    scorer: Scorer | None = None
    vectors: Vectors | None = None
    lists: Batcher[ListAsk, List] | None = None
    predictions: Batcher[Inputs, Any] | None = None
    batch_ms: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    searches: int = 0
    max_queue: int = 1

    @property
    def name(self) -> str:
        return self.place.name


def stamp_of(folder: Path) -> Stamp | None:
    """What changes when a bundle is replaced; None while nothing is there."""
    try:
        real = folder.resolve()
        found = os.stat(real / MANIFEST)
    except OSError:
        return None
    return str(real), found.st_ino, found.st_mtime_ns, found.st_size


def open_served(place: Place, settings: Settings, watch: Watch = lambda _name, _n, _seconds: None) -> Served:
    """Reads a bundle, checks every file against the manifest, and runs the graph until it is warm.

    Raises:
        InputError: the folder is no bundle with a graph, is damaged, or was replaced meanwhile.
    """
    stamp = stamp_of(place.folder)
    manifest = open_manifest(place.folder)
    folder = place.folder.resolve()
    session = open_session(folder, settings.threads)
    info = read_info(folder)
    served = Served(place, stamp or ("", 0, 0, 0), manifest, max_queue=settings.max_queue)
    if manifest.get("task") in RANKS:
        served.catalogue = read_catalogue(folder)
        n_items = len(served.catalogue.items)
        served.ranker = Ranker(session, n_items, manifest["task"] == "sequence", _length(folder, info))
        table = item_vectors(folder, info, n_items)
        served.vectors = None if table is None else Vectors(table, _fold(folder, manifest))
    else:
        served.columns = read_columns(folder, info["schema"], bool(manifest.get("logarithms", False)))
        served.scorer = Scorer(session)
    _warm_up(served, settings, watch)
    served.facts = facts_of(served)
    if stamp is None or stamp_of(place.folder) != stamp:
        raise InputError("the bundle was replaced while it was read", where=str(place.folder), fix="try again")
    return served


def _fold(folder: Path, manifest: dict[str, Any]) -> FoldIn | None:
    try:
        return fold_of(manifest)
    except ValueError as error:
        raise unreadable(folder / MANIFEST, error) from error


def _length(folder: Path, info: dict[str, Any]) -> int:
    length = info["schema"].get("max_length", 0)
    if not isinstance(length, int) or length < 0:
        raise unreadable(folder, ValueError(f"max_length is {length!r}"))
    return length


def _warm_up(served: Served, settings: Settings, watch: Watch) -> None:
    """Runs batches of one and of the largest size, and decides whether the model has a thread.

    Raises:
        InputError: the graph fails, or what it says is no number.
    """
    ranker, scorer, columns = served.ranker, served.scorer, served.columns
    try:
        if ranker is not None and served.catalogue is not None:
            asks = _examples(served.catalogue, ranker)
            served.batch_ms = _time(lambda n: ranker.run([asks[0]] * n), settings.max_batch)
            sound = all(np.isfinite(one.score).all() and len(one.item) for one in ranker.run(asks))
            every = ListAsk(asks[0].query, np.arange(ranker.n_items, dtype=np.int64), ranker.k)
            sound = sound and not len(ranker.run([every])[0].item)  # what the graph has besides is not in the catalogue
            if served.vectors is not None and served.vectors.fold is not None:
                sound = sound and bool(np.isfinite(served.vectors.of_history(np.arange(1), NONE, ranker.k).score).all())
        else:
            assert scorer is not None
            assert columns is not None
            row = columns.encode([{}])
            served.batch_ms = _time(lambda n: scorer.run([row] * n), settings.max_batch)
            sound = all(np.isfinite(one).all() for one in scorer.run([row]))
    except InputError:
        raise
    except Exception as error:  # onnxruntime has a class of its own for each status
        raise unreadable(served.place.folder / GRAPH, error) from error
    if not sound:
        raise unreadable(served.place.folder / GRAPH, ValueError("it answers with what is no number or no item"))
    more: dict[str, Any] = {
        "max_batch": settings.max_batch, "max_wait": settings.max_wait_ms / 1000, "max_queue": settings.max_queue,
        "inline": served.batch_ms <= INLINE_MS, "watch": lambda n, seconds: watch(served.name, n, seconds),
    }  # fmt: skip
    if ranker is not None:
        served.lists = Batcher(ranker.run, **more)
    elif scorer is not None:
        served.predictions = Batcher(scorer.run, **more)


def _examples(catalogue: Catalogue, ranker: Ranker) -> list[ListAsk]:
    """Users from the first to the last, or histories of the first and the last items."""
    n = len(catalogue.user_row) if ranker.takes == "user" else len(catalogue.items)
    length = 1 if ranker.takes == "user" else min(ranker.max_length or 50, n)
    starts = np.unique(np.linspace(0, n - length, EXAMPLES).astype(np.int64)) if n else NONE
    return [ListAsk(np.arange(start, start + length, dtype=np.int64), NONE, ranker.k) for start in starts]


def _time(run: Callable[[int], object], largest: int) -> float:
    """Milliseconds of a batch of the largest size, the least of some calls."""
    best = float("inf")
    for _ in range(WARM_CALLS):
        run(1)
        started = perf_counter()
        run(largest)
        best = min(best, perf_counter() - started)
    return 1000 * best


def places_of(words: Sequence[str]) -> list[Place]:
    """From ``FOLDER`` or ``NAME=FOLDER``, each a bundle or the folder of a run with one or several.

    Raises:
        InputError: no bundle is there, or two have one name.
    """
    places: list[Place] = []
    for word in words:
        name, equals, path = word.partition("=")
        given, folder = (name, Path(path)) if equals and not Path(word).exists() else ("", Path(word))
        found = _bundles(folder)
        if not found:
            raise _no_bundle(folder, word)
        run = given or (_name(found[0]) if len(words) > 1 else "")
        for at in found:
            own = given if len(found) == 1 else "_".join(part for part in (run, _role(at)) if part)
            places.append(Place(own or _name(at), at))
    names = [place.name for place in places]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two bundles are called {twice}", where=twice, fix="name them: one=FOLDER two=FOLDER")
    return places


def _bundles(folder: Path) -> list[Path]:
    """The folder itself, or those that a run left in it: the last model first."""
    if (folder / MANIFEST).is_file():
        return [folder]
    # A name with a dot is of an export that was replaced.
    return sorted(at for at in folder.glob("export*") if "." not in at.name and (at / MANIFEST).is_file())


def _no_bundle(folder: Path, word: str) -> InputError:
    fix = f"{PREFIX}{word}" if word.partition("=")[0] in Settings.model_fields else MAKE
    if jobs := sorted({at.parent.parent for at in folder.glob(f"*/export*/{MANIFEST}")}):
        fix = f"one of the runs in it: recdistill serve {jobs[0]}"
    why = f"neither it nor export/ in it has a {MANIFEST}"
    return InputError(f"there is no bundle in {folder}", where=word, why=why, fix=fix)


def _role(folder: Path) -> str:
    """``teacher`` of ``export_teacher``; of ``export``, the end of a line, nothing but its name."""
    return folder.name.removeprefix("export").removeprefix("_") or "last"


def _name(folder: Path) -> str:
    """What a bundle is called that nobody named: after its run."""
    real = folder.absolute()
    own = real.parent.name if real.name.startswith("export") else real.name
    role = real.name.removeprefix("export_") if real.name.startswith("export_") else ""
    return "_".join(part for part in (own, role) if part) or "model"


def label_of(folder: Path) -> str:
    """First line of the model card, such as ``MF d=8, int8``; "" without one."""
    try:
        with (folder / "README.md").open(encoding="utf-8") as card:
            return card.readline(200).removeprefix("#").strip()
    except (OSError, ValueError):
        return ""


def facts_of(served: Served) -> dict[str, Any]:
    """What a request may know of a model."""
    manifest, ranker, catalogue, columns = served.manifest, served.ranker, served.catalogue, served.columns
    files = manifest["files"]
    graph = int(files.get(GRAPH, {}).get("bytes", 0))
    exported: dict[str, Any] = next((one for one in manifest.get("exports", []) if one.get("file") == GRAPH), {})
    found: dict[str, Any] = {
        "name": served.name, "label": label_of(served.place.folder), "task": manifest.get("task"),
        "model": manifest.get("model"), "data": manifest.get("data"), "weights_hash": manifest.get("weights_hash"),
        "bytes": graph, "p50_ms": exported.get("latency", {}).get("p50_ms"),
    }  # fmt: skip
    if ranker is not None and catalogue is not None:
        found |= {
            "takes": ranker.takes, "reads_histories": reads_histories(served), "max_k": ranker.k,
            "n_items": len(catalogue.items),
            "n_users": len(catalogue.user_row), "has_titles": bool(catalogue.titles),
            "has_histories": catalogue.histories is not None, "similar": similar_by(served),
            "some_users": list(catalogue.user_row)[:: max(1, len(catalogue.user_row) // 8)][:8],
        }  # fmt: skip
    elif columns is not None:
        found["features"] = columns.names
    return found


def reads_histories(served: Served) -> bool:
    """Whether it makes lists for histories: in its graph, or by folding them in."""
    folds = served.vectors is not None and served.vectors.fold is not None
    return folds or (served.ranker is not None and served.ranker.takes != "user")


def similar_by(served: Served) -> str | None:
    """How items like another are found: by their vectors, or as the list of who had that one alone."""
    if served.vectors is not None:
        return "vectors"
    return "history" if served.ranker is not None and served.ranker.takes != "user" else None
