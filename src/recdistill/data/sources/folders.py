"""Which files a path means: one file, a folder of parts, or a pattern; and what is never opened: archives."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from recdistill.data.sources.files import GZIP, existing_file, first_bytes, names_in, override, printable, suffix
from recdistill.errors import InputError

_PACKED = {".zip": "unzip", ".7z": "7z x", ".rar": "unrar x", ".bz2": "bunzip2 -k", ".xz": "unxz -k"}
_TAR = {".tar", ".tgz", ".tbz", ".tbz2", ".txz"}
_MAGIC = {b"PK\x03\x04": ".zip", b"7z\xbc\xaf\x27\x1c": ".7z", b"Rar!": ".rar", b"BZh": ".bz2", b"\xfd7zXZ\x00": ".xz"}
_PLACEHOLDERS = (".", "_")  # how names of files begin that a writer leaves beside its parts, such as _SUCCESS
_WORDS = ("readme", "license", "licence")  # how names of files begin that tell of the data


def data_files(path: str | Path, key: str = "data.path") -> list[Path]:
    """The files that a path means, sorted by name: a file, all of a folder, or those of a pattern such as ``a/*.csv``.

    Raises:
        InputError: for no file, an empty file, an archive, or a folder with files of several kinds.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(_PLACEHOLDERS)]
        _check_one_kind(path, files, key)
    elif not path.exists() and "*" in path.name and path.parent.is_dir():
        files = [file for file in sorted(path.parent.glob(path.name)) if file.is_file()]
    else:
        files = []
    # Writers leave empty parts for empty shares of the data.
    files = [file for file in files if file.stat().st_size] or files[:1]
    files = [existing_file(file, key) for file in files] or [existing_file(path, key, or_folder=True)]
    for file in files:
        if not file.name.isprintable() and file != path:
            name = printable(str(file))
            raise InputError(f"the name of '{name}' has control characters", where=key, fix="rename the file")
        refuse_archive(file, key)
    return files


def the_file(path: Path, kinds: Collection[str]) -> Path:
    """A file, or the only one of some extensions in a folder.

    Raises:
        InputError: where there is none, or several.
    """
    found = [file for file in path.iterdir() if file.is_file() and suffix(file) in kinds] if path.is_dir() else []
    return existing_file(found[0] if len(found) == 1 else path, or_folder=True)


def folder_with(folder: Path, names: Iterable[str]) -> Path:
    """The folder that holds some files: the one that is given or, where it holds none of them, the only one in it that
    does."""
    names = list(names)
    if not folder.is_dir() or any((folder / name).exists() for name in names):
        return folder
    below = [child for child in folder.iterdir() if child.is_dir() and any((child / name).exists() for name in names)]
    return below[0] if len(below) == 1 else folder


def offer_below(folder: Path, names: Iterable[str]) -> None:
    """Raise InputError where a folder holds none of some files, and a folder in it does."""
    names = list(names)
    if not folder.is_dir() or any((folder / name).exists() for name in names):
        return
    inside = sorted(child for child in folder.iterdir() if child.is_dir())
    below = [child for child in inside if any((child / name).exists() for name in names)]
    if below:
        raise InputError(
            f"'{folder}' holds no {' or '.join(names)}, and a folder in it does",
            where="data.path",
            why=f"in it: {names_in(folder)}",
            fix=", or ".join(override("data.path", child) for child in below[:3]),
        )


def refuse_archive(path: Path, key: str) -> None:
    """Raise InputError for an archive: it may hold anything, under any name, of any size."""
    head = path.open("rb").read(8)
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), suffix(path))
    zipped = head.startswith(GZIP)
    if kind in _TAR or (zipped and first_bytes(path)[257:262] == b"ustar"):
        unpack, look = "tar -xf", "tar -tf"
    elif kind in _PACKED:
        unpack, look = _PACKED[kind], "unzip -l" if kind == ".zip" else ""
    else:
        return
    raise InputError(
        f"'{path}' is an archive, and the file in it is needed",
        where=key,
        why="archives are not unpacked here: what they hold, and where it would land, is not ours to trust",
        fix=(f"look into it with {look} '{path}', then " if look else "") + f"{unpack} '{path}' and {key}=FILE",
    )


def _check_one_kind(folder: Path, files: list[Path], key: str) -> None:
    if not files:
        below = [path for path in sorted(folder.iterdir()) if path.is_dir() and any(map(Path.is_file, path.iterdir()))]
        fix = ", or ".join(override(key, path) for path in below[:3]) or f"{key}=FILE"
        raise InputError(f"'{folder}' holds no files", where=key, why=f"in it: {names_in(folder)}", fix=fix)
    kinds = {suffix(file) for file in files}
    if len(kinds) > 1:
        data = [file for file in files if not file.name.lower().startswith(_WORDS)] or files
        most = max(sorted({suffix(file) for file in data}), key=[suffix(file) for file in data].count)
        alike = [file for file in data if suffix(file) == most]
        one = alike[0] if len(alike) == 1 else None
        raise InputError(
            f"'{folder}' holds files of {len(kinds)} kinds, and parts of one table are needed",
            where=key,
            why=f"in it: {names_in(folder)}",
            fix=override(key, one) if one else f"one file, or a pattern: {override(key, folder / f'*{most}*')}",
        )
