"""Files that are there whole or not at all. Paths and content enter; nothing leaves but what is on disk.

A new file or folder is written beside its place, flushed to the disk, and renamed into it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType

TEMPORARY = ".tmp-"
"""How the names of unfinished files and folders begin."""

_READ_BYTES = 1 << 20
_UNSUPPORTED = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # the first two differ on macOS
_NO_HARD_LINK = _UNSUPPORTED | {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EACCES}
_NO_FULL_SYNC = _UNSUPPORTED | {errno.EINVAL, errno.ENOTTY}


def flush(handle: int, system: ModuleType = fcntl) -> None:
    """Flush an open file to the disk. On macOS `fsync` stops at the drive's cache, F_FULLFSYNC does not.

    Where the file system knows no F_FULLFSYNC (network shares, exFAT) `fsync` must do. `system` is `fcntl`.
    """
    full = getattr(system, "F_FULLFSYNC", None)  # on macOS alone
    if full is not None:
        try:
            system.fcntl(handle, full)
        except OSError as error:
            if error.errno not in _NO_FULL_SYNC:
                raise
        else:
            return
    os.fsync(handle)


def sync(path: Path) -> None:
    """Flush one file, or one folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        flush(handle)
    finally:
        os.close(handle)


def replace_text(path: Path, text: str) -> None:
    """Put `text` (UTF-8) into `path` in one step: a reader sees the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(TEMPORARY + path.name)
    partial.write_text(text, "utf-8")
    sync(partial)
    partial.replace(path)
    sync(path.parent)


def append_line(path: Path, line: str) -> None:
    """Add one line to `path` and flush it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        flush(file.fileno())


def publish(partial: Path, place: Path) -> None:
    """Rename the finished folder `partial` to `place`, every file in it flushed first.

    Whatever lay at `place` is replaced; callers use it for folders that nobody has opened.
    """
    for path in sorted(partial.rglob("*")):
        if not path.is_symlink():
            sync(path)
    sync(partial)
    remove(place)
    partial.rename(place)
    sync(place.parent)


def remove(folder: Path) -> None:
    """Remove a folder, if it is there, so that a crash leaves it whole or not at all."""
    gone = folder.with_name(f"{TEMPORARY}gone-{folder.name}")
    shutil.rmtree(gone, ignore_errors=True)
    try:
        folder.rename(gone)
    except FileNotFoundError:
        return
    shutil.rmtree(gone, ignore_errors=True)


def sweep(folder: Path, spare: str = "") -> list[Path]:
    """Remove what interrupted writes have left under `folder`; only for who alone writes there.

    A folder that holds one called `spare` stays: somebody will go on with it.
    """
    found = [path for path in sorted(folder.rglob(f"{TEMPORARY}*")) if not path.is_symlink()]
    left = [path for path in found if not (spare and (path / spare).is_dir())]
    for path in left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return left


def fresh(partial: Path) -> Path:
    """An empty folder at `partial`; what an interrupted attempt left there is removed."""
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def link_tree(source: Path, target: Path) -> None:
    """Copy the files of `source` into `target` by hard links, or byte by byte where links cannot be."""
    for path in files(source):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path.resolve(), copy)
        except OSError as error:
            if error.errno not in _NO_HARD_LINK:
                raise
            shutil.copyfile(path, copy)


def files(folder: Path) -> list[Path]:
    """The regular files under `folder` by name; hidden ones (download caches, `.DS_Store`) do not count."""

    def is_hidden(path: Path) -> bool:
        return any(part.startswith(".") for part in path.relative_to(folder).parts)

    return sorted(path for path in folder.rglob("*") if path.is_file() and not is_hidden(path))


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a folder by its path within it, in hex."""
    return {path.relative_to(folder).as_posix(): file_hash(path) for path in files(folder)}


def folder_hash(hashes: Mapping[str, str]) -> str:
    """One SHA-256 for a folder: of its files' names and hashes, in hex."""
    lines = (f"{name}\0{hashes[name]}\n" for name in sorted(hashes))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def plain(value: object) -> object:
    """The value as strict JSON can hold it: NaN and infinities become text, so that they stay visible."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    item = getattr(value, "item", None)  # numpy scalars
    return plain(item()) if callable(item) else str(value)


def to_json(value: object, indent: int | None = None) -> str:
    """`value` as strict JSON text."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


def read_lines(path: Path) -> list[dict[str, object]]:
    """The JSON objects of a JSONL file, none if there is no such file.

    Raises:
        ValueError: a line is not JSON.
    """
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    return [row for row in rows if isinstance(row, dict)]


def write_lines(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write one JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(to_json(row) + "\n" for row in rows)
