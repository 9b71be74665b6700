"""``recdistill download``: says what is fetched and on which terms, fetches it, and says how to use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from recdistill.data.archives import safe_name
from recdistill.data.download import RemoteFile, Report, download
from recdistill.errors import InputError
from recdistill.reporting.escape import visible


def fetch(wanted: dict[str, Any], console: Console) -> Path:
    """Fetches what a section ``download`` of the config names.

    Args:
        wanted: ``root``; ``folder``, ``files``, ``terms`` and ``use`` of a known data set, or ``url``, ``sha256`` and
            ``members`` of any file.

    Raises:
        InputError: nothing is named; and see :func:`recdistill.data.download.download`.
    """
    files = remote_files(wanted)
    folder = Path(wanted["root"]).expanduser() / safe_name(
        wanted["folder"] or stem(files[0].file_name), "download.folder"
    )
    for file in files:
        size = f"{file.bytes / 2**20:,.1f} MiB" if file.bytes else "unknown size"
        console.print(Text(f"{visible(file.url)} ({size})"), soft_wrap=True)
    console.print(Text("terms: " + visible(wanted["terms"] or "those of its publisher: read them before you use it")))
    with progress(console) as report:
        found = download(files, folder, report=report)
    console.print(Text(f"{folder}: {', '.join(visible(file.name) for file in found)}"), soft_wrap=True)
    if wanted["use"]:
        console.print(Text(f"next: {visible(wanted['use'])} data.path={folder}"), soft_wrap=True)
    return folder


def remote_files(wanted: dict[str, Any]) -> list[RemoteFile]:
    """What to fetch; a url of the user's own goes before a known data set."""
    if wanted["url"]:
        if not wanted["sha256"]:
            raise InputError(
                "a file is fetched only if its SHA-256 is known", where="download.sha256",
                fix="download.sha256=DIGITS, as published beside the file",
            )  # fmt: skip
        return [RemoteFile(wanted["url"], wanted["sha256"], wanted["bytes"], members=wanted["members"])]
    if not wanted["files"]:
        raise InputError(
            "nothing to fetch is named", where="download",
            fix="recdistill download NAME, or download.url=https://... download.sha256=...; recdistill download lists",
        )  # fmt: skip
    return [RemoteFile(**file) for file in wanted["files"]]


def stem(name: str) -> str:
    """A file's name without the extensions of archives."""
    for ending in (".gz", ".tgz", ".tar", ".zip"):
        name = name.removesuffix(ending)
    return name


@contextmanager
def progress(console: Console) -> Iterator[Report]:
    """A bar for each file where somebody looks, nothing in a log."""
    if not console.is_terminal:
        yield lambda _name, _done, _total: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def report(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(visible(name), total=total or None)
            bars.update(tasks[name], completed=done)

        yield report
