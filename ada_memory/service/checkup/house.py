"""Checks of the home: who can read it, room on the disk, settings, socket, leftovers, the service."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from shlex import quote

from ada_memory.service.checkup.finding import Case, Finding, fail, many, ok, size, skipped, span, warn, worst
from ada_memory.settings import DELIMITER, ENV_PREFIX, Settings
from ada_memory.sovereign.disk import TEMPORARY

NETWORK = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "afpfs",
    "webdav",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "lustre",
}
OTHERS_TOOLS = {"ADA_HOME", "ADA_INCLUDE_PATH", "ADA_OBJECTS_PATH", "ADA_PRJ_PATH"}  # an Ada compiler's
HALF = (TEMPORARY, ".copy-")
LEFTOVER_SECONDS = 86_400
HUGE_LOG_BYTES = 100_000_000
LEAST_FREE_BYTES = 500_000_000
UNIT = "ada-memory.service"
PLIST = "org.ada-memory.daemon.plist"


def home(case: Case) -> Finding:
    """It is there, it can be written, and nobody else can read a mind."""
    root, var = case.home.root, case.home.var
    if not root.is_dir():
        mend = "`ada run` makes it; if it should be another, --home or ADA_HOME names it"
        return warn(f"{root} is not there", mend)
    place = var if var.exists() else root
    if not os.access(place, os.W_OK | os.X_OK):
        return fail(
            f"{place} cannot be written by this user", f"$ sudo chown -R $(id -un) {quote(str(place))}"
        )
    if not case.home.mind.exists():
        return ok(f"{root}; no mind {case.settings.mind.id!r} yet, `ada run` makes it")
    strange = [path for path in _way(case) if path.stat().st_uid != os.getuid()]
    if strange:
        return fail(f"{strange[0]} belongs to another user", f"$ sudo chown -R $(id -un) {quote(str(var))}")
    if all(path.stat().st_mode & 0o055 for path in _way(case)):
        said = f"others on this machine can read {case.home.mind} (mode {_mode(case.home.mind)})"
        return fail(said, f"$ chmod -R go-rwx {quote(str(var))}")
    return ok(f"{root}, open to its owner alone")


def _way(case: Case) -> list[Path]:
    """The folders of which one must be closed."""
    return [case.home.var, case.home.mind.parent, case.home.mind]


def _mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):04o}"


def disk(case: Case) -> Finding:
    """Room for a night: merged weights twice and the night's own files."""
    from ada_memory.service.checkup.weights import base_folder, folder_size

    need = max(LEAST_FREE_BYTES, 3 * folder_size(base_folder(case.home, case.settings)))
    free = shutil.disk_usage(_nearest(case.home.var)).free
    said = f"{size(free)} free; a night of this model takes up to {size(need)}"
    mend = f"make room where {case.home.var} lies; docs/operations.md says what may be deleted"
    if free < need:
        return fail(said, mend)
    return warn(said, mend) if free < 2 * need else ok(said)


def _nearest(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def filesystem(case: Case) -> Finding:
    """SQLite's WAL and file locks need a file system of this machine."""
    if sys.platform == "darwin":
        listed = subprocess.run(
            ["/sbin/mount"], capture_output=True, text=True, check=True, timeout=10
        ).stdout
    else:
        listed = Path("/proc/self/mounts").read_text("utf-8", "replace")
    kind = mounted(listed, _nearest(case.home.var).resolve())
    if kind in NETWORK or kind.startswith("fuse"):
        said = f"{kind or 'unknown'}: locks and SQLite's WAL cannot be trusted there"
        return warn(
            said, "move the home to a local disk and set ADA_HOME to it; `ada` must be stopped meanwhile"
        )
    return ok(kind or "unknown")


def mounted(listed: str, path: Path) -> str:
    """The type of the file system of `path`: from /proc/self/mounts, or from what `mount` says on macOS."""
    best, kind = -1, ""
    for line in listed.splitlines():
        if " on /" in line and line.rstrip().endswith(")"):  # /dev/disk1 on / (apfs, local)
            place, _, rest = line.split(" on ", 1)[1].rpartition(" (")
            name = rest.rstrip(") ").split(",")[0]
        else:
            fields = line.split(" ")
            if len(fields) < 3:
                continue
            place, name = fields[1].replace("\\040", " "), fields[2]
        if path.is_relative_to(place) and len(place) >= best:
            best, kind = len(place), name
    return kind


def settings(case: Case) -> Finding:
    """The file and the environment can be read, and every variable names something."""
    file = case.home.etc / "ada.toml"
    if case.bad is not None:
        return fail(f"{case.bad.message} (what follows is looked at with the defaults)", case.bad.hint)
    stray = [
        name
        for name in sorted(case.env)
        if name.startswith(ENV_PREFIX) and name not in OTHERS_TOOLS and DELIMITER not in name
    ]
    if stray:
        return worst([_stray(name) for name in stray], "")
    since = str((case.status or {}).get("started_at") or "")
    if since and file.is_file() and file.stat().st_mtime > _seconds(since):
        return warn(f"{file} was changed after the daemon had read it", "start the daemon again")
    return ok(str(file) if file.is_file() else f"all at their defaults ({file} is not there)")


def _stray(name: str) -> Finding:
    keys = {
        f"{ENV_PREFIX}{section}{DELIMITER}{key}".upper()
        for section, table in Settings()
        for key in type(table).model_fields
    }
    near = get_close_matches(name, [*keys, "ADA_HOME"], 1, 0.7)
    mend = f"did you mean {near[0]}?" if near else ""
    return warn(f"the environment variable {name} names no setting", f"{mend}\n$ unset {name}".lstrip())


def _seconds(moment: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(moment).timestamp()


def leftovers(case: Case) -> Finding:
    """Half-written files that no stage is at work on any more."""
    old = [
        path
        for path in _partials(case.home.var)
        if case.now.timestamp() - path.lstat().st_mtime > LEFTOVER_SECONDS
    ]
    if not old:
        return ok("nothing half-written lies about")
    said = f"{many(len(old), 'half-written file')}, older than a day"
    return warn(said, "\n".join(f"$ rm -r {quote(str(path))}" for path in old[:5]))


def _partials(var: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(var):
        for name in [*folders, *files]:
            if name.startswith(HALF):
                yield Path(folder, name)
        folders[:] = [name for name in folders if not name.startswith(HALF)]


def logs(case: Case) -> Finding:
    """The logs of the children have no end of their own."""
    found = sorted([*(case.home.var / "log").glob("*"), *case.home.nights.glob("*/sleeper.log")])
    large = [path for path in found if path.stat().st_size > HUGE_LOG_BYTES]
    if large:
        said = "; ".join(f"{path} is {size(path.stat().st_size)}" for path in large)
        return warn(said, "\n".join(f"$ : > {quote(str(path))}" for path in large))
    return ok(f"{size(sum(path.stat().st_size for path in found))} in {many(len(found), 'file')}")


def backup(case: Case) -> Finding:
    """The newest copy of the journal in var/backups; elsewhere nobody looks."""
    if not case.home.journal.is_file():
        return skipped("there is no journal yet")
    folder = case.home.var / "backups"
    made = [path.stat().st_mtime for path in folder.glob("*.db")] if folder.is_dir() else []
    if not made:
        mend = "docs/operations.md has the command; a backup that lies elsewhere is as good or better"
        return skipped(f"no backup in {folder}", mend)
    return ok(f"the newest of {len(made)} is {span(case.now.timestamp() - max(made))} old")


def service(case: Case) -> Finding:
    """Whether the machine starts Ada by itself."""
    if sys.platform == "darwin":
        plist = Path.home() / "Library" / "LaunchAgents" / PLIST
        if plist.is_file():
            return ok(f"a launchd agent: {plist}")
    elif shutil.which("systemctl"):
        said = _ask("systemctl", "--user", "is-enabled", UNIT)
        if said == "enabled":
            return _unit()
    return ok("not installed as a service: `ada run` in a terminal starts it")


def _unit() -> Finding:
    state = _ask("systemctl", "--user", "is-active", UNIT)
    if state == "failed":
        mend = f"$ journalctl --user -u {UNIT} -n 50   # says why\n$ systemctl --user restart {UNIT}"
        return fail(f"the systemd unit {UNIT} has failed", mend)
    if _ask("loginctl", "show-user", "--property=Linger", "--value", str(os.getuid())) == "no":
        said = f"the systemd unit {UNIT} is {state}, but ends when you log out, and with it the nights"
        return warn(said, "$ loginctl enable-linger")
    return ok(f"the systemd unit {UNIT} is {state}")


def _ask(*words: str) -> str:
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
