"""The house: imports point downwards, in no circle, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
FLOORS = {
    "errors": 1, "config": 2, "runs": 2, "data": 2, "content": 3, "models": 3, "reporting": 3, "distillers": 4,
    "compression": 4, "evaluation": 4, "export": 4, "retrieval": 4, "rerank": 4, "serving": 5, "tasks": 5, "modules": 6,
    "stages": 7, "cli": 8, "__main__": 9,
}  # fmt: skip
HEAVY = ("torch", "pytorch_lightning", "torchmetrics", "wandb", "polars", "pandas", "matplotlib", "scipy", "pydantic")


def imports(file: Path) -> Iterator[tuple[str, bool]]:
    """What of the package a file imports, and whether it does so at once (not in a function, nor for types alone)."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    later = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] == "recdistill":
                yield name, id(node) not in later


def module_of(name: str) -> str | None:
    """The module of an import, such as ``recdistill.data.store`` for ``recdistill.data.store.load``."""
    parts = name.split(".")
    for length in range(len(parts), 1, -1):
        path = SOURCE.joinpath(*parts[:length])
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            return ".".join(parts[:length])
    return None


def name_of(file: Path) -> str:
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = sorted(SOURCE.rglob("*.py"))


def folder_of(module: str) -> str:
    return module.split(".")[1]


def test_every_folder_has_a_floor() -> None:
    known = {folder_of(name_of(file)) for file in FILES if name_of(file) != "recdistill"}
    assert known <= set(FLOORS)


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_point_downwards(file: Path) -> None:
    own = name_of(file)
    if own == "recdistill":
        return
    for name, _ in imports(file):
        module = module_of(name)
        if module is not None and folder_of(module) != folder_of(own):
            assert FLOORS[folder_of(module)] <= FLOORS[folder_of(own)], f"{own} imports {name} of a higher floor"


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle of a graph, or nothing."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for other in sorted(graph.get(node, ())):
            if found := visit(other, [*path, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := visit(node, []))), [])


def test_no_circle_of_modules() -> None:
    graph = {
        name_of(file): {
            m for name, at_once in imports(file) if at_once and (m := module_of(name)) and m != name_of(file)
        }
        for file in FILES
    }
    assert circle(graph) == []


def test_no_circle_of_folders() -> None:
    """Also where an import waits in a function: neighbours on a floor are not tied to each other."""
    graph: dict[str, set[str]] = {}
    for file in FILES:
        own = name_of(file)
        for name, _ in imports(file) if own != "recdistill" else ():
            module = module_of(name)
            if module is not None and "." in module and folder_of(module) != folder_of(own):
                graph.setdefault(folder_of(own), set()).add(folder_of(module))
    assert circle(graph) == []


def test_a_circle_would_be_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}}) == []


@pytest.mark.parametrize(
    "code",
    [
        "import recdistill",
        "import recdistill.cli",
        "import recdistill.cli.job, recdistill.cli.launch",
        "from recdistill.cli import main; assert main(['--help']) == 0",
        "from recdistill.cli import main; assert main(['ls']) == 0",
        "from recdistill.cli import main; assert main(['--version']) == 0",
    ],
)
def test_it_is_light(code: str) -> None:
    heavy = HEAVY if "job" not in code and "ls" not in code else tuple(h for h in HEAVY if h != "pydantic")
    probe = f"import sys; {code}; found = sorted(set({heavy!r}) & set(sys.modules)); assert not found, found"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_sizes(file: Path) -> None:
    """No file past 350 lines, no function past 60."""
    text = file.read_text(encoding="utf-8")
    assert text.count("\n") <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} in {file}"
