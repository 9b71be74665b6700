"""Named members out of zip, tar and gz files, and nothing else."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from recdistill.errors import InputError

CHUNK = 1 << 20
RATIO = 100  # bytes out of one byte in, at most; deflate can give 1,032
LEAST = 1 << 20  # bytes out that are always allowed


class Readable(Protocol):
    """What Capped reads."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes."""


class Capped:
    """A stream that ends in an error instead of in more bytes than it may give.

    Args:
        stream: what is read.
        budget: bytes, in a list of one that several streams may share.
        where: of the error.
    """

    def __init__(self, stream: Readable, budget: list[int], where: str):
        self.stream, self.budget, self.where = stream, budget, where

    def read(self, size: int = -1) -> bytes:
        left = self.budget[0] + 1
        chunk = self.stream.read(left if size < 0 else min(size, left))
        self.budget[0] -= len(chunk)
        if self.budget[0] < 0:
            raise _unsafe(self.where, f"it unpacks to more than {RATIO} times its size")
        return chunk


def unpack(archive: Path, members: Sequence[str], folder: Path) -> list[Path]:
    """Writes members of an archive into a folder, by their names without folders.

    Args:
        archive: .zip, .tar, .tar.gz, .tgz or .gz, by its name. The content of a .gz may have any one name.
        members: paths in the archive.
        folder: exists.

    Raises:
        InputError: no archive, a damaged one, one with absolute paths, ``..`` or links, one that unpacks to more than
            :data:`RATIO` times its size, or one without a member.
    """
    names = {member: safe_name(PurePosixPath(member).name) for member in members}
    if len(set(names.values())) < len(names):
        raise InputError("two members have one name", where=", ".join(members))
    budget = [max(LEAST, archive.stat().st_size * RATIO)]
    found = []
    with _readable(archive):
        for name, stream in _streams(archive, list(members), budget):
            target = folder / names[name]
            with target.open("xb") as out:
                while chunk := stream.read(CHUNK):
                    out.write(chunk)
            found.append(name)
    if absent := [name for name in names if name not in found]:
        raise InputError(f"{archive.name} has no member {absent[0]!r}", where="members")
    return [folder / names[name] for name in found]


def _streams(archive: Path, members: list[str], budget: list[int]) -> Iterator[tuple[str, Capped]]:
    if archive.name.endswith(".zip"):
        return _from_zip(archive, members, budget)
    if archive.name.endswith((".tar", ".tar.gz", ".tgz")):
        return _from_tar(archive, members, budget)
    if archive.name.endswith(".gz") and len(members) == 1:
        return _from_gzip(archive, members[0], budget)
    raise InputError(
        f"{archive.name} is no archive with {len(members)} members", where="members",
        why=".zip, .tar, .tar.gz and .tgz are read, and a .gz has one",
    )  # fmt: skip


def _from_zip(archive: Path, members: list[str], budget: list[int]) -> Iterator[tuple[str, Capped]]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            _require_inside(archive, info.filename)
            if stat.S_ISLNK(info.external_attr >> 16):
                raise _unsafe(archive.name, f"its member {info.filename!r} is a link")
            if info.filename in members and not info.is_dir():
                if info.flag_bits & 1:
                    raise InputError(f"{info.filename!r} is encrypted", where=archive.name)
                with file.open(info) as stream:
                    yield info.filename, Capped(stream, budget, archive.name)


def _from_tar(archive: Path, members: list[str], budget: list[int]) -> Iterator[tuple[str, Capped]]:
    with contextlib.ExitStack() as stack:
        packed = stack.enter_context(archive.open("rb"))
        raw: Readable = packed if archive.name.endswith(".tar") else stack.enter_context(gzip.open(packed))
        # As a stream and under the cap: headers and passed-over members cost their size too.
        file = stack.enter_context(tarfile.open(fileobj=Capped(raw, budget, archive.name), mode="r|"))  # type: ignore[call-overload]
        for info in file:
            _require_inside(archive, info.name)
            if not (info.isreg() or info.isdir()):
                raise _unsafe(archive.name, f"its member {info.name!r} is a link or a device")
            if info.name in members and info.isreg():
                stream = file.extractfile(info)
                assert stream is not None
                yield info.name, Capped(stream, [info.size], archive.name)


def _from_gzip(archive: Path, member: str, budget: list[int]) -> Iterator[tuple[str, Capped]]:
    with gzip.open(archive) as stream:
        yield member, Capped(stream, budget, archive.name)


@contextlib.contextmanager
def _readable(archive: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise InputError(f"{Path(error.filename).name} is there twice", where=archive.name) from error
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise InputError(f"{archive.name} is damaged", where=archive.name, why=str(error)) from error
    except NotImplementedError as error:  # a way of compression that Python has not
        raise InputError(f"{archive.name} can't be read", where=archive.name, why=str(error)) from error


def _require_inside(archive: Path, name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name or (path.parts and path.parts[0].endswith(":")):
        raise _unsafe(archive.name, f"its member {name!r} leads out of the folder")


def _unsafe(where: str, why: str) -> InputError:
    return InputError("the archive is unsafe and was not unpacked", where=where, why=why)


def safe_name(name: str, where: str = "download.files") -> str:
    """The name of a file or folder itself; ``where`` it was given.

    Raises:
        InputError: it is empty, hidden, has a folder in it, or characters that can't be printed.
    """
    if not name or name.startswith(".") or "/" in name or "\\" in name or not name.isprintable():
        raise InputError(
            f"{name!r} is no name of a file or folder", where=where, why="it is empty, hidden or leads elsewhere"
        )
    return name
