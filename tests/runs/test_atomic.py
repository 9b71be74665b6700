"""Files that are whole or absent."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from recdistill.errors import ResourceError
from recdistill.runs.atomic import atomic_path, digest, file_digest, read_json, sweep_temporaries, write_json


def test_it_is_there_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "a" / "file.txt"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent  # os.replace works within one file system only
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o644
    assert os.listdir(target.parent) == ["file.txt"]


def test_a_failure_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:  # noqa: PT012
        temporary.write_text("half")
        _ = 1 // 0
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EFBIG])
def test_what_the_system_refuses(code: int, tmp_path: Path) -> None:
    """R4, B40."""
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(ResourceError) as caught, atomic_path(target):
        raise OSError(code, os.strerror(code))
    assert caught.value.exit_code == 4
    for text in (str(target), "MiB free", "cache=DIR", os.strerror(code)):
        assert text in str(caught.value)
    assert target.read_text() == "old"


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises((ResourceError, FileExistsError)), atomic_path(tmp_path / "x" / "file"):
        pass


def test_sweeping(tmp_path: Path) -> None:
    (tmp_path / ".last.ckpt.abc.tmp").write_text("half")
    (tmp_path / "last.ckpt").write_text("whole")
    sweep_temporaries(tmp_path)
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_json_and_digests(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ü": [1, 2.5, None]})
    assert read_json(tmp_path / "a.json") == {"ü": [1, 2.5, None]}
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})
    before = file_digest(tmp_path / "a.json")
    write_json(tmp_path / "a.json", {"ü": [1, 2.5, 0]})
    assert file_digest(tmp_path / "a.json") != before
