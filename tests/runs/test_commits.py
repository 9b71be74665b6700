"""Which commit a run says it was made by: that of the package, not of the folder where it ran."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from recdistill.runs.commits import commits


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def checkout(folder: Path, file: str) -> str:
    """A repository with one file; gives the start of its commit."""
    (folder / file).parent.mkdir(parents=True)
    (folder / file).write_text("x = 1\n")
    git(folder, "init", "-q")
    git(folder, "add", file)
    git(folder, "commit", "-q", "-m", file)
    return git(folder, "rev-parse", "--short=12", "HEAD")


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkout around the folder of the tests counts."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


def test_package_and_project_are_told_apart(tmp_path: Path) -> None:
    package, project = tmp_path / "ours", tmp_path / "theirs"
    ours, theirs = checkout(package, "src/pack/__init__.py"), checkout(project, "notes/conf.yaml")
    assert commits(package / "src/pack", project / "notes") == {"commit": ours, "project_commit": theirs}
    (package / "src/pack/__init__.py").write_text("x = 2\n")
    assert commits(package / "src/pack", project) == {"commit": f"{ours}+", "project_commit": theirs}
    (project / "notes/conf.yaml").write_text("changed\n")
    assert commits(package / "src/pack", project)["project_commit"] == f"{theirs}+"
    assert commits(package / "src/pack", package) == {"commit": f"{ours}+", "project_commit": None}
    assert commits(package / "src/pack", tmp_path) == {"commit": f"{ours}+", "project_commit": None}


def test_a_package_installed_below_a_project_is_not_of_its_commit(tmp_path: Path) -> None:
    theirs = checkout(tmp_path / "theirs", "notes/conf.yaml")
    installed = tmp_path / "theirs/venv/pack"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    assert commits(installed, tmp_path / "theirs") == {"commit": None, "project_commit": theirs}


def test_the_current_folder_has_no_say_in_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = commits()["commit"]
    theirs = checkout(tmp_path / "theirs", "notes/conf.yaml")
    monkeypatch.chdir(tmp_path / "theirs")
    found = commits()
    assert (found["commit"], found["project_commit"]) == (here, theirs)


def test_without_git_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commits() == {"commit": None, "project_commit": None}
