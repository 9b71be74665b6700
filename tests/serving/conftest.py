"""Bundles of small models, made once, and a client for each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "contract"), str(HERE.parent / "stages")]

pytest.importorskip("onnxruntime", reason="pip install 'recdistill[serve]'")
pytest.importorskip("onnxscript", reason="pip install 'recdistill[onnx]'")
pytest.importorskip("fastapi", reason="pip install 'recdistill[serve]'")
pytest.importorskip("uvicorn", reason="pip install 'recdistill[serve]'")

from serving_kit import MODELS, Client, make_bundle  # noqa: E402


class Bundles(dict[str, Path]):
    """Made when they are first asked for."""

    def __init__(self, root: Path):
        super().__init__()
        self.root = root

    def __missing__(self, name: str) -> Path:
        self[name] = make_bundle(self.root / name, *MODELS[name])
        return self[name]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name of a model to its bundle."""
    return Bundles(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="session")
def client(bundles: dict[str, Path]) -> Iterator[Client]:
    """Of a service with all of them."""
    with Client([f"{name}={folder}" for name, folder in ((name, bundles[name]) for name in MODELS)]) as made:
        yield made


@pytest.fixture
def serving() -> Iterator[Callable[..., Client]]:
    """Makes clients of services with other settings."""
    made: list[Client] = []

    def make(*words: str | Path, token: str | None = None, loaded: bool = True) -> Client:
        made.append(Client([str(word) for word in words], token=token, loaded=loaded).__enter__())
        return made[-1]

    yield make
    for one in made:
        one.__exit__()
