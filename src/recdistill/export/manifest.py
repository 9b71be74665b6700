"""A folder whose every file is named in a manifest with its hash: written whole or not at all, and read as it was."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recdistill.errors import InputError
from recdistill.runs.atomic import make_folder, read_json, write_json

MANIFEST = "manifest.json"
FORMAT = 1
MAX_MANIFEST_BYTES = 2**22


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yields a folder beside ``folder`` to write into, which takes its place when the block ends well. Otherwise
    nothing of it stays, and what was there before does."""
    partial, old = (folder.with_name(f".{folder.name}.{word}") for word in ("partial", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    make_folder(partial)
    try:
        yield partial
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(partial, ignore_errors=True)


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Names every file below ``folder`` with its bytes and SHA-256, beside ``facts``: the last to be written."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file != folder / MANIFEST)
    listed = {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in files
    }
    write_json(folder / MANIFEST, {"format": FORMAT, **facts, "files": listed})


def open_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder whose files are those that were written.

    Raises:
        InputError: there is none, it says something else, or a file is missing, was changed or was put there since.
    """
    if not (folder / MANIFEST).is_file():
        raise InputError(f"no {MANIFEST} in {folder}", where=str(folder), fix="recdistill run export=[bundle,onnx]")
    manifest = _read(folder)
    listed = manifest["files"]
    for name, said in listed.items():
        file = folder / name
        if not file.is_file() or file.is_symlink():
            raise _changed(file, "it is missing")
        if file.stat().st_size != said["bytes"] or sha256(file) != said["sha256"]:
            raise _changed(file, "it does not match its hash in the manifest")
    for file in folder.rglob("*"):
        if not file.is_dir() and (name := file.relative_to(folder).as_posix()) not in listed and name != MANIFEST:
            raise _changed(file, "the manifest does not name it")
    return manifest


def _read(folder: Path) -> dict[str, Any]:
    where = folder / MANIFEST
    try:
        if where.stat().st_size > MAX_MANIFEST_BYTES:
            raise ValueError(f"it has more than {MAX_MANIFEST_BYTES:,} bytes")
        manifest: dict[str, Any] = read_json(where)
        if manifest["format"] != FORMAT:
            raise ValueError(f"its format is {manifest['format']}, not {FORMAT}")
        for name, said in manifest["files"].items():
            if Path(name).is_absolute() or ".." in Path(name).parts or "\\" in name:
                raise ValueError(f"{name!r} is outside of the folder")
            if not isinstance(said["bytes"], int) or not isinstance(said["sha256"], str):
                raise TypeError(f"{name!r} has no bytes and hash")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            "the manifest can't be read", where=str(where), why=f"{type(error).__name__}: {error}",
            fix="export again",
        ) from error  # fmt: skip
    return manifest


def _changed(file: Path, why: str) -> InputError:
    return InputError(
        f"{file.name} is not the file that was exported", where=str(file), why=why, fix="export again, or copy it again"
    )


def sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
