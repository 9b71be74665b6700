"""Files that are either whole or absent."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recdistill.errors import ResourceError

RESOURCES = (
    errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EPERM, errno.ENOTDIR, errno.EFBIG,
)  # fmt: skip


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder; when the block ends well it is synced and takes the name ``path``.

    Raises:
        ResourceError: no space, no permission or a read-only file system; the old file is intact.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise _resource(error, path) from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise _resource(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def _resource(error: OSError, path: Path) -> ResourceError | OSError:
    if error.errno not in RESOURCES:
        return error
    free = ""
    with contextlib.suppress(OSError):
        free = f", {shutil.disk_usage(path.parent).free / 2**20:,.0f} MiB free there"
    return ResourceError(
        f"cannot write {path.name}: {os.strerror(error.errno or 0)}{free}",
        where=str(path),
        fix="choose a place that can be written with cache=DIR and run.name=NAME, or free some space",
    )


def make_folder(folder: Path) -> None:
    """Makes a folder with its parents.

    Raises:
        ResourceError: it can't be made there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _resource(error, folder) from error


def sweep_temporaries(folder: Path) -> None:
    """Removes what a killed write left in ``folder``."""
    for left in folder.glob(".*.tmp"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Writes plain containers as JSON, atomically; keys keep their order."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=True) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def digest(content: Any) -> str:
    """Hash of plain containers, independent of the order of keys: 20 hex digits."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
