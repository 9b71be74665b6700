"""A folder with a manifest is read as it was written, or not at all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from recdistill.errors import InputError
from recdistill.export.manifest import MANIFEST, open_manifest, whole_folder, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "export"
    with whole_folder(made) as partial:
        (partial / "weights.bin").write_bytes(bytes(range(256)))
        (partial / "card.md").write_text("words")
        write_manifest(partial, {"task": "ranking"})
    return made


def test_names_every_file_by_its_hash(folder: Path) -> None:
    manifest = open_manifest(folder)
    assert manifest["task"] == "ranking"
    assert set(manifest["files"]) == {"weights.bin", "card.md"}
    said = manifest["files"]["weights.bin"]
    assert said == {"bytes": 256, "sha256": hashlib.sha256(bytes(range(256))).hexdigest()}


@pytest.mark.parametrize("at", [0, 100, 255])
def test_a_changed_byte_is_named(folder: Path, at: int) -> None:
    content = bytearray((folder / "weights.bin").read_bytes())
    content[at] ^= 1
    (folder / "weights.bin").write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"weights\.bin") as caught:
        open_manifest(folder)
    assert caught.value.exit_code == 2


def test_a_file_that_is_missing_or_more_is_named(folder: Path) -> None:
    (folder / "stranger.pkl").write_bytes(b"x")
    with pytest.raises(InputError, match=r"stranger\.pkl"):
        open_manifest(folder)
    (folder / "stranger.pkl").unlink()
    (folder / "card.md").unlink()
    with pytest.raises(InputError, match=r"card\.md"):
        open_manifest(folder)


def test_a_link_is_no_file(folder: Path, tmp_path: Path) -> None:
    (folder / "card.md").rename(tmp_path / "elsewhere")
    (folder / "card.md").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"card\.md"):
        open_manifest(folder)


@pytest.mark.parametrize(
    "manifest",
    [
        "", "[]", "{}", "null", '{"format": 9, "files": {}}', '{"format": 1, "files": []}',
        '{"format": 1, "files": {"../x": {"bytes": 1, "sha256": ""}}}',
        '{"format": 1, "files": {"/etc/passwd": {"bytes": 1, "sha256": ""}}}',
        '{"format": 1, "files": {"card.md": 3}}', "[" * 100_000,
    ],
)  # fmt: skip
def test_any_other_manifest_is_refused(folder: Path, manifest: str) -> None:
    (folder / MANIFEST).write_text(manifest)
    with pytest.raises(InputError, match="manifest"):
        open_manifest(folder)


def test_no_manifest_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=MANIFEST):
        open_manifest(tmp_path)


def write_then_fail(folder: Path) -> None:
    (folder / "half").write_bytes(b"x")
    (folder / "nothing").read_bytes()


def test_a_failure_leaves_nothing_or_what_was_there(folder: Path, tmp_path: Path) -> None:
    before = json.loads((folder / MANIFEST).read_text())
    for place in (folder, tmp_path / "new"):
        with pytest.raises(FileNotFoundError), whole_folder(place) as partial:
            write_then_fail(partial)
    assert open_manifest(folder) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export"]


def test_a_second_export_takes_the_place_of_the_first(folder: Path, tmp_path: Path) -> None:
    with whole_folder(folder) as partial:
        (partial / "other").write_bytes(b"x")
        write_manifest(partial, {})
    assert set(open_manifest(folder)["files"]) == {"other"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export"]
