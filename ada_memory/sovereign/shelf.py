"""The shelf of untouched models under the home. A folder of files enters; one named by its content leaves.

`bases/<first 12 hex>/` holds the files of a model, and the core and exam that came with it. The record beside
it, `bases/<first 12 hex>.json`, says what was hashed: {"hash", "sources": {name: {file: [bytes, mtime]}},
"files": {file: [bytes, mtime, sha256]}}. So a start looks at sizes and times alone and hashes what looks
changed. Several daemons may share a home: whoever prepares a model holds the lock of its name (`alone`), and
whoever reads or writes records that of the shelf (`locked`).
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ada_memory.errors import BadModel
from ada_memory.settings import Home
from ada_memory.sovereign.disk import (
    TEMPORARY,
    file_hash,
    files,
    folder_hash,
    fresh,
    publish,
    replace_text,
    to_json,
)

DATA = ("core.jsonl", "exam.jsonl", "craft.jsonl")
"""What may come with a model and is no part of its identity: a better exam is no other model."""
_SHORT = 12
_NOT_LOADED = frozenset({".md", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".msgpack", ".h5", ".ot"})
_READ_BYTES = 1 << 20
_GAP_BYTES = 64 << 20  # left free on the disk: the journal must go on
Looks = dict[str, list[int]]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One base on the shelf, as its record says. `sources` are the names it came by and how they looked."""

    hash: str
    sources: Mapping[str, Looks]
    files: Mapping[str, tuple[int, int, str]]


def place(home: Home, whole: str) -> Path:
    """The folder of a base, by its hash or the first 12 digits of it."""
    return home.bases / whole[:_SHORT]


def find(home: Home, whole: str) -> Entry | None:
    """The base with this hash (or the first 12 digits of it); a folder that lost its record is hashed anew.

    Raises:
        BadModel: the folder's content is not what its name says.
    """
    folder = place(home, whole)
    if not folder.is_dir():
        return None
    entry = _read(_record(folder))
    if entry is None:
        seen = _hashed(folder, {})
        entry = Entry(_identity(seen), {}, seen)
        if not entry.hash.startswith(folder.name):
            raise _changed(folder)
        _write(home, entry)
    return entry if entry.hash.startswith(whole) else None


def entries(home: Home) -> list[Entry]:
    """All bases that have a record and a folder."""
    found = [_read(path) for path in sorted(home.bases.glob("*.json"))]
    return [entry for entry in found if entry is not None and place(home, entry.hash).is_dir()]


def check(home: Home, entry: Entry) -> Entry:
    """Trust the files that look as recorded, hash the others; returns the entry as it is now.

    Raises:
        BadModel: a file was changed, is gone, or came in addition.
    """
    folder = place(home, entry.hash)
    now = _all_looks(folder)
    if now == {name: list(row[:2]) for name, row in entry.files.items()}:
        return entry
    same = {name: row[2] for name, row in entry.files.items() if list(row[:2]) == now.get(name)}
    seen = _hashed(folder, same)
    if _identity(seen) != entry.hash:
        raise _changed(folder)
    return _write(home, Entry(entry.hash, entry.sources, seen))


def verify(folder: Path, whole: str) -> None:
    """Hash every file of a base, however it looks.

    Raises:
        BadModel: it is gone, or not what its hash says.
    """
    names = [path.relative_to(folder).as_posix() for path in files(folder)] if folder.is_dir() else []
    if folder_hash({name: file_hash(folder / name) for name in names if name not in DATA}) != whole:
        raise _changed(folder)


def looks(folder: Path) -> Looks:
    """Size and time of each file of a model as it comes: what no engine loads is left out."""
    return {
        name: look
        for name, look in _all_looks(folder).items()
        if name not in DATA and Path(name).suffix.lower() not in _NOT_LOADED
    }


def content_hash(folder: Path) -> str:
    """The hash that a model as it comes would have on the shelf."""
    return folder_hash({name: file_hash(folder / name) for name in looks(folder)})


def put(home: Home, name: str, source: Path) -> Entry:
    """Copy a model onto the shelf, hashing as it is read. Nothing is there until all of it is.

    Raises:
        BadModel: the disk is too small, or the model changed meanwhile.
    """
    before = looks(source)
    need, free = sum(size for size, _ in before.values()), shutil.disk_usage(home.bases).free
    full = f"{source} does not fit on the disk: its copy needs {size(need)}, and {size(free)} are free"
    mend = f"make room under {home.bases}, or keep the home on a larger disk ($ADA_HOME)"
    if need + _GAP_BYTES > free:
        raise BadModel(full, hint=mend, field="model.name")
    partial = fresh(home.bases / f".copy-{_slug(name)}")
    try:
        hashes = {file: _copy(source / file, partial / file) for file in before}
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BadModel(full, hint=mend, field="model.name") from error
        hint = "make it readable for this user, or set model.name to another"
        raise BadModel(f"{source} cannot be copied: {error}", hint=hint, field="model.name") from error
    if looks(source) != before:
        shutil.rmtree(partial, ignore_errors=True)
        raise BadModel(f"{source} changed while it was copied", hint="start again")
    return _place(home, name, before, partial, hashes)


def adopt(home: Home, name: str, folder: Path) -> Entry:
    """Put a finished download onto the shelf by renaming it."""
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub client's own notes
    hashes = {path.relative_to(folder).as_posix(): file_hash(path) for path in files(folder)}
    return _place(home, name, {}, folder, {file: hashes[file] for file in hashes if file not in DATA})


def bring_data(home: Home, entry: Entry, source: Path) -> Entry:
    """Let core and exam on the shelf be those that come with the model now."""
    folder = place(home, entry.hash)
    for name in DATA:
        if (source / name).is_file():
            text, there = (source / name).read_text("utf-8"), folder / name
            if not there.is_file() or there.read_text("utf-8") != text:
                replace_text(there, text)
    return check(home, entry)


@contextmanager
def alone(home: Home, name: str) -> Iterator[None]:
    """One process at a time prepares what goes by this name; others wait for it. Copies take minutes."""
    home.bases.mkdir(parents=True, exist_ok=True)
    with _lock(home, _slug(name)):
        yield


@contextmanager
def locked(home: Home) -> Iterator[None]:
    """One process at a time reads and writes records; never held while something is copied."""
    with _lock(home, "shelf"):
        yield


def sweep(home: Home, name: str) -> None:
    """Remove what interrupted writes and copies have left; downloads (`.partial-…`) wait to be resumed.

    The caller holds both locks. A copy that another process is making is left alone.
    """
    for left in [*home.bases.glob(f"{TEMPORARY}*"), *home.bases.glob(f"*/{TEMPORARY}*")]:
        _remove(left)
    for copy in home.bases.glob(".copy-*"):
        slug = copy.name.removeprefix(".copy-")
        if slug == _slug(name):
            _remove(copy)
            continue
        other = _file_lock(home, slug)
        try:
            with other.acquire(timeout=0):
                _remove(copy)
        except Timeout:
            continue


def download_folder(home: Home, name: str) -> Path:
    """Where a download lies until it is whole; kept when interrupted: the hub's client resumes in it."""
    return home.bases / f".partial-{_slug(name)}"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _file_lock(home: Home, slug: str) -> FileLock:
    return FileLock(home.bases / f".lock-{slug}", thread_local=False, mode=0o600)


@contextmanager
def _lock(home: Home, slug: str) -> Iterator[None]:
    lock = _file_lock(home, slug)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is at this model (%s); waiting for it", slug)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _place(home: Home, name: str, source: Looks, partial: Path, hashes: Mapping[str, str]) -> Entry:
    """Rename a finished folder to its hash, unless that is there whole; then write its record."""
    whole = folder_hash(hashes)
    folder = place(home, whole)
    with locked(home):
        try:
            there = find(home, whole)
            there = check(home, there) if there else None
        except BadModel:
            there = None
        if there is None:
            publish(partial, folder)
            there = Entry(whole, {}, _hashed(folder, hashes))
        else:
            shutil.rmtree(partial)
        return _write(home, Entry(whole, {**there.sources, name: source}, there.files))


def _identity(seen: Mapping[str, tuple[int, int, str]]) -> str:
    return folder_hash({name: row[2] for name, row in seen.items() if name not in DATA})


def _hashed(folder: Path, known: Mapping[str, str]) -> dict[str, tuple[int, int, str]]:
    """How each file looks, with its hash; those that are known are not read."""
    rows = _all_looks(folder).items()
    return {name: (size, at, known.get(name) or file_hash(folder / name)) for name, (size, at) in rows}


def _all_looks(folder: Path) -> Looks:
    found: Looks = {}
    for path in files(folder):
        stat = path.stat()
        found[path.relative_to(folder).as_posix()] = [stat.st_size, stat.st_mtime_ns]
    return found


def _copy(source: Path, target: Path) -> str:
    """Copy a file and return its SHA-256, reading it once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with source.open("rb") as read, target.open("wb") as write:
        while block := read.read(_READ_BYTES):
            digest.update(block)
            write.write(block)
    return digest.hexdigest()


def _record(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _read(record: Path) -> Entry | None:
    """A record; None if there is none that can be read, for it can be made again."""
    try:
        body = json.loads(record.read_text("utf-8"))
        rows = {name: (int(a), int(b), str(c)) for name, (a, b, c) in body["files"].items()}
        entry = Entry(str(body["hash"]), dict(body["sources"]), rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return entry if entry.hash.startswith(record.stem) and _identity(rows) == entry.hash else None


def _write(home: Home, entry: Entry) -> Entry:
    body = {"hash": entry.hash, "sources": entry.sources, "files": entry.files}
    replace_text(_record(place(home, entry.hash)), to_json(body, indent=1) + "\n")
    return entry


def _changed(folder: Path) -> BadModel:
    return BadModel(
        f"the base in {folder} is not what it was when it was put there",
        hint="restore that folder from a backup; or remove it, and Ada starts as gen-0000 of the model that "
        "the settings name",
    )


def _slug(name: str) -> str:
    """A name that can be part of a file's name."""
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        return name.replace("/", "--")
    return hashlib.sha256(name.encode()).hexdigest()[:_SHORT]


def size(count: int) -> str:
    """Bytes as people read them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
