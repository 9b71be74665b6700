"""Fetching public data: over https, of a known size and hash, whole or not at all.

Nothing is unpacked before its hash was compared, and then named members only.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import shutil
import ssl
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from recdistill import __version__
from recdistill.data.archives import safe_name, unpack
from recdistill.errors import InputError, ResourceError
from recdistill.runs.atomic import make_folder

CHUNK = 1 << 20
LARGEST = 20 * 2**30  # of a file whose size is not known beforehand
TIMEOUT = 60.0  # seconds without a byte

Opener = Callable[[str], contextlib.AbstractContextManager[IO[bytes]]]
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RemoteFile:
    """One file to fetch.

    Attributes:
        url: https.
        sha256: of the file, 64 hex digits.
        bytes: its size; None where it is not known.
        name: of the file that is kept; None for the last part of the url.
        members: paths in an archive (.zip, .tar, .tar.gz, .tgz, .gz): these are kept, without their folders, and
            the archive is not. Empty for a file that is kept as it is.
    """

    url: str
    sha256: str
    bytes: int | None = None
    name: str | None = None
    members: Sequence[str] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        require_https(self.url, "the address")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256.lower()):
            raise InputError(
                f"{self.sha256!r} is no SHA-256", where="download.sha256", why="it has 64 digits from 0 to f",
                fix="take it from where the file is published; sha256sum FILE gives that of a file of yours",
            )  # fmt: skip

    @property
    def file_name(self) -> str:
        return safe_name(self.name or urllib.parse.unquote(urllib.parse.urlsplit(self.url).path).rpartition("/")[2])


def download(
    files: Sequence[RemoteFile],
    folder: Path,
    *,
    opener: Opener | None = None,
    report: Report = lambda _name, _done, _total: None,
) -> list[Path]:
    """Fetches files into a new folder, which appears when all of them are there and right.

    Args:
        files: what to fetch.
        folder: where to; it must not exist.
        opener: opens an address; :func:`open_https` by default.
        report: is told name, bytes so far and bytes in all (0 for unknown).

    Returns:
        The files that are there now, by name.

    Raises:
        InputError: the folder exists; the server does not give the file; size or hash are wrong; an archive is unsafe
            or lacks a member.
        ResourceError: no space or no permission.
    """
    if folder.exists():
        raise InputError(f"{folder} is there already", where="download.root", fix="remove it, or download.root=DIR")
    with (
        _writing(folder),
        _parent(folder),
        tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as made,
    ):
        _require_space(Path(made), sum(file.bytes or 0 for file in files))
        kept = Path(made, "kept")
        kept.mkdir(mode=0o755)
        for file in files:
            target = Path(made if file.members else kept, file.file_name)
            fetch(file, target, opener or open_https, report)
            if file.members:
                unpack(target, file.members, kept)
                target.unlink()
        kept.rename(folder)
    return sorted(folder.iterdir())


def fetch(file: RemoteFile, target: Path, opener: Opener, report: Report) -> None:
    """Writes one file, of the right size and hash, or raises InputError."""
    largest, done, digest = file.bytes or LARGEST, 0, hashlib.sha256()
    if target.exists():
        raise InputError(f"two of the files are called {target.name}", where="download.files", fix="name: OTHER")
    with _asking(file.url), opener(file.url) as stream, target.open("xb") as out:
        while chunk := stream.read(min(CHUNK, largest + 1 - done)):
            done += len(chunk)
            if done > largest:
                raise _wrong(file, f"is larger than the {largest:,} bytes that are expected")
            digest.update(chunk)
            out.write(chunk)
            report(target.name, done, file.bytes or 0)
    if file.bytes is not None and done < file.bytes:
        raise _wrong(file, f"ended after {done:,} of {file.bytes:,} bytes")
    if digest.hexdigest() != file.sha256.lower():
        raise _wrong(file, f"has the SHA-256 {digest.hexdigest()}, expected {file.sha256.lower()}")


def _wrong(file: RemoteFile, why: str) -> InputError:
    return InputError(
        f"{file.file_name} {why}; nothing is kept", where=file.url, why="the transfer was broken, or the file changed",
        fix="try again; if it stays so, the file was replaced: look at where it is published",
    )  # fmt: skip


@contextlib.contextmanager
def _parent(folder: Path) -> Iterator[None]:
    """Makes the folder above; where nothing came into it, it goes again."""
    new = [above for above in folder.parents if not above.exists()]
    make_folder(folder.parent)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # not empty
            for above in new:
                above.rmdir()


@contextlib.contextmanager
def _asking(url: str) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        raise InputError(f"the server answered {error.code} {error.reason}", where=url) from error
    except (urllib.error.URLError, TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(
            "the file could not be fetched", where=url, why=str(reason) or type(reason).__name__,
            fix="look at the connection; behind a proxy: https_proxy=http://HOST:PORT",
        ) from error  # fmt: skip


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"{folder} cannot be written: {error.strerror or error}", where=str(folder),
            fix="free some space, or choose another place: download.root=DIR",
        ) from error  # fmt: skip


def _require_space(folder: Path, needed: int) -> None:
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise ResourceError(
                f"{needed / 2**20:,.0f} MiB are needed and {free / 2**20:,.0f} MiB are free", where=str(folder),
                fix="free some space, or choose another place: download.root=DIR",
            )  # fmt: skip


def require_https(url: str, what: str) -> None:
    """Raises InputError for any other scheme, and for a name or password in the address."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.password:
        raise InputError(
            f"{what} is not a plain https one", where=f"{parts.scheme}://{parts.hostname or ''}",
            fix="https://HOST/PATH",
        )  # fmt: skip


class _HttpsRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to https alone."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:  # fmt: skip
        require_https(newurl, "the address that the server points to")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def open_https(url: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    """Opens an https address, by the system's certificates and the proxy of the environment."""
    director = urllib.request.OpenerDirector()  # without the handlers of http, ftp, file and data
    for handler in (
        urllib.request.ProxyHandler(), urllib.request.HTTPSHandler(), urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor(), _HttpsRedirects(),
    ):  # fmt: skip
        director.add_handler(handler)
    headers = {"User-Agent": f"recdistill/{__version__}", "Accept-Encoding": "identity"}
    response: contextlib.AbstractContextManager[IO[bytes]] = director.open(
        urllib.request.Request(url, headers=headers), timeout=TIMEOUT
    )
    return response
