"""What is built can be used: conf/ is in the wheel, and an installed ``recdistill`` works from any folder."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from mini_conf import REPO, write_tree

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("build", "hatchling")),
    reason="needs build and hatchling",
)


def call(*command: str, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=os.environ | env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the builds read, so that nothing is left in the repo."""
    copy = tmp_path_factory.mktemp("repo")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("src", "conf"):
        shutil.copytree(REPO / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(REPO / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def dist(repo: Path) -> Path:
    """The folder of the sdist, and of the wheel that was built from it."""
    call("-m", "build", "--no-isolation", cwd=repo)
    return repo / "dist"


@pytest.fixture(scope="module")
def site(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the installed wheel."""
    target = tmp_path_factory.mktemp("site")
    (wheel,) = dist.glob("*.whl")
    call("-m", "pip", "install", "-q", "--no-deps", "--target", str(target), str(wheel), cwd=dist)
    return target


def shipped() -> set[str]:
    return {p.relative_to(REPO).as_posix() for p in (REPO / "conf").rglob("*.yaml")}


def test_conf_is_in_the_wheel(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"recdistill/{name}" for name in shipped()} <= names
    assert {"recdistill/py.typed", "recdistill/cli/__init__.py"} <= names
    assert not any(name.startswith(("tests/", "conf/")) for name in names)


def test_conf_is_in_the_sdist(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {*shipped(), "hatch_build.py", "LICENSE"} <= names


def test_installed_works_from_any_folder(site: Path, tmp_path: Path) -> None:
    assert "\ndistiller\n" in call("-m", "recdistill", "ls", cwd=tmp_path, PYTHONPATH=str(site))
    text = call("-m", "recdistill", "run", "--cfg", "job", cwd=tmp_path, PYTHONPATH=str(site))
    assert "temperature: 2.0" in text
    assert str(site) in call("-m", "recdistill", "run", "--info", "searchpath", cwd=tmp_path, PYTHONPATH=str(site))
    assert not list(tmp_path.iterdir())


def test_file_of_the_user_wins_over_the_installed(site: Path, tmp_path: Path) -> None:
    write_tree(tmp_path, {"my conf/student/mf.yaml": "# Mine\nmine: 42\n"})
    words = ("--config-dir", "my conf", "student=mf")
    text = call("-m", "recdistill", "run", "--cfg", "job", *words, cwd=tmp_path, PYTHONPATH=str(site))
    assert "mine: 42" in text
    listed = call("-m", "recdistill", "ls", "student", "--config-dir", "my conf", cwd=tmp_path, PYTHONPATH=str(site))
    assert "Mine" in listed


def test_console_script(site: Path, tmp_path: Path) -> None:
    assert call(str(site / "bin/recdistill"), "--version", cwd=tmp_path, PYTHONPATH=str(site)).strip()


@pytest.mark.parametrize(("version", "copied"), [("standard", True), ("editable", False)])
def test_editable_install_has_no_copy_of_conf(version: str, copied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPO))
    hook = importlib.import_module("hatch_build").ConfInWheel
    data: dict[str, dict[str, str]] = {"force_include": {}}
    hook.initialize(hook.__new__(hook), version, data)
    assert bool(data["force_include"]) == copied
