"""Checks of a journal. Rows enter, findings leave; who may read it runs them, the daemon or the doctor."""

# ruff: noqa: S608 - the f-strings join constants of this house; values are always parameters

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from shlex import quote
from typing import Any

from ada_memory.circadian.bundle import read_bundle
from ada_memory.circadian.hours import last_sunset
from ada_memory.errors import AdaError
from ada_memory.hippocampus.journal import COUNTED
from ada_memory.hippocampus.migrations import MIGRATIONS
from ada_memory.service.checkup.finding import (
    RESTORE,
    Finding,
    Mind,
    fail,
    many,
    ok,
    size,
    skipped,
    span,
    warn,
)
from ada_memory.service.checkup.machine import SET_CLOCK

HUGE_WAL_BYTES = 200_000_000
STUCK_SECONDS = 600
NIGHTS_BACK = 5
NIGHTS_IN_A_ROW = 2
AHEAD_SECONDS = 300
SLEEPLESS_SUNSETS = 2


def journal(mind: Mind) -> Finding:
    """It opens, and this version knows how it is laid out."""
    applied = {name for (name,) in mind.db.execute("SELECT name FROM migrations")}
    known = [migration.__name__ for migration in MIGRATIONS]
    if unknown := applied - set(known):
        return fail(
            f"written by a newer version of Ada (migration {min(unknown)})", "update Ada, or " + RESTORE
        )
    count = _one(mind.db, "SELECT count(*) FROM interactions")
    said = f"{many(count, 'interaction')}, {size(mind.path.stat().st_size)}"
    missing = [name for name in known if name not in applied]
    if missing:
        return ok(f"{said}; {', '.join(missing)} will be applied when the daemon starts: keep a backup")
    wal = mind.path.with_name(f"{mind.path.name}-wal")
    log = wal.stat().st_size if wal.is_file() else 0
    if log > max(HUGE_WAL_BYTES, mind.path.stat().st_size):
        return warn(f"{said}, but its write-ahead log has {size(log)}", "stop the daemon and start it again")
    return ok(said)


def integrity(mind: Mind) -> Finding:
    """SQLite finds every page sound and every reference kept. Reads the whole file."""
    if not mind.deep:
        return skipped("`ada doctor --deep` reads the whole journal")
    faults = [str(row[0]) for row in mind.db.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
    orphans = {f"{table} refers to {parent} that are gone" for table, _, parent, _ in _foreign(mind.db)}
    if faults or orphans:
        return fail("; ".join([*faults, *sorted(orphans)][:3]), RESTORE)
    return ok("every page and every reference")


def _foreign(db: sqlite3.Connection) -> list[tuple[str, int, str, int]]:
    return db.execute("PRAGMA foreign_key_check").fetchall()


def encoding(mind: Mind) -> Finding:
    """What was posted becomes memories soon."""
    count, first = mind.db.execute("SELECT count(*), min(position) FROM unencoded").fetchone()
    if not count:
        return ok("nothing waits to become memories")
    name = _one(mind.db, "SELECT id FROM interactions WHERE position = ?", first)
    age = (mind.now - arrived(name)).total_seconds()
    said = f"{many(count, 'interaction')} yet to become memories, the first for {span(max(0, age))}"
    if not mind.awake:
        return warn(said, "$ ada run   # goes on with them")
    if age < STUCK_SECONDS:
        return ok(said)
    log = mind.home.var / "log" / "embed.log"
    return fail(
        said, f"`ada status` says what is in the way, `tail -50 {quote(str(log))}` what the embedder said"
    )


def arrived(name: str) -> datetime:
    """When an interaction came: by its id (UUIDv7), since its `at` is only the app's word."""
    return datetime.fromtimestamp(int(name[:12], 16) / 1000, UTC)


_RECALLABLE = "route <> 'ignored' AND instr(tags, '\"no-recall\"') = 0"


def vectors(mind: Mind) -> Finding:
    """Every memory that may be recalled has a vector of the embedder that is asked now."""
    if not mind.embedder:
        return skipped("the embedder is not on this machine")
    wanted = _one(mind.db, f"SELECT count(*) FROM memories WHERE {_RECALLABLE}")
    have = _one(
        mind.db,
        f"SELECT count(*) FROM memories WHERE {_RECALLABLE} AND EXISTS "
        "(SELECT 1 FROM vectors WHERE memory = memories.id AND embedder = ?)",
        mind.embedder,
    )
    others = [
        name for (name,) in mind.db.execute("SELECT DISTINCT embedder FROM vectors") if name != mind.embedder
    ]
    if have < wanted:
        said = f"{wanted - have} of {wanted} memories have no vector of this embedder ({mind.embedder}): "
        said += (
            f"they are not recalled; {'vectors of ' + ', '.join(others) if others else 'no others'} are there"
        )
        mend = "set embedder.name back to what they were made with: nothing embeds old memories again yet"
        return warn(said, mend)
    kept = f"; those of {len(others)} other embedders are kept too" if others else ""
    return ok(f"{have} of {wanted} memories that may be recalled{kept}")


def index(mind: Mind) -> Finding:
    """Chroma's index has the rows that the journal has. It is asked in large minds only."""
    rows = mind.indexed()
    wanted = _one(
        mind.db,
        "SELECT count(*) FROM vectors JOIN memories ON memories.id = memory "
        f"WHERE embedder = ? AND {_RECALLABLE}",
        mind.embedder,
    )
    have = _one(mind.db, "SELECT count(*) FROM vectors WHERE embedder = ?", mind.embedder)
    below = mind.settings.recall.exact_below
    said = f"{rows or 0} rows for {wanted} vectors"
    if have <= below:
        return ok(f"{said}; not asked up to {below} memories")
    if (rows or 0) < wanted:
        mend = "stop Ada and start her again: the index is then filled anew from the journal"
        return warn(f"{said}: recall may miss the others", mend)
    return ok(said)


def nights(mind: Mind) -> Finding:
    """The last nights ended, and ended well."""
    rows = mind.db.execute(
        "SELECT id, opened_at FROM nights ORDER BY number DESC LIMIT ?", (NIGHTS_BACK,)
    ).fetchall()
    if not rows:
        return ok("there was none yet")
    ended = {night: _ending(mind.db, night) for night, _ in rows}
    unfinished = [night for night, _ in rows if ended[night] is None]
    if unfinished and not mind.awake:
        return warn(
            f"night {unfinished[-1]} is not over", "$ ada run   # it goes on, or stays held as it was"
        )
    last = [ended[night] for night, _ in rows if ended[night] is not None]
    bad = []
    for ending in last:
        if ending is None or ending[0] != "halt":
            break
        bad.append(ending[1])
    if len(bad) >= NIGHTS_IN_A_ROW:
        said = f"the last {len(bad)} nights came to nothing: {bad[0]}"
        return warn(
            said,
            "`ada morning` tells the last of them; its limits are [topology] and [dream] in etc/ada.toml",
        )
    if unfinished:
        return _held(mind, unfinished[-1])
    said = f"the last was {rows[0][0]}"
    return ok(f"{said}: {last[0][1]}" if last and last[0] and last[0][1] else said)


def _ending(db: sqlite3.Connection, night: str) -> tuple[str, str] | None:
    """How a night ended and why; None while it has no report."""
    stages = db.execute(
        "SELECT name, outcome, reason FROM stages WHERE night = ? ORDER BY number", (night,)
    ).fetchall()
    if not any(name == "report" for name, _, _ in stages):
        return None
    early = next(((outcome, reason) for _, outcome, reason in stages if outcome != "done"), None)
    return early or ("done", "a new generation")


def _held(mind: Mind, night: str) -> Finding:
    try:
        bundle = read_bundle(mind.home.nights / night)
    except AdaError as error:
        return fail(error.message, f"restore {quote(str(mind.home.nights / night))} from a backup")
    if bundle.until != "report" and bundle.done(bundle.until).is_dir():
        return warn(f"night {night} is held after {bundle.until}", "$ ada sleep   # finishes it")
    return ok(f"night {night} is under way")


def sleep(mind: Mind) -> Finding:
    """No sunset after sunset passes without a night while memories wait."""
    waiting = _one(mind.db, f"SELECT count(*) FROM memories WHERE {COUNTED}")
    last = mind.db.execute("SELECT opened_at FROM nights ORDER BY number DESC LIMIT 1").fetchone()
    since = datetime.fromisoformat(last[0]) if last else _born(mind)
    said = f"{many(waiting, 'memory')} to be learned"
    sunsets, at = 0, last_sunset(mind.settings.sunset, mind.now)
    while at is not None and since is not None and at > since and sunsets <= 30:
        sunsets += 1
        at = last_sunset(mind.settings.sunset, at - timedelta(seconds=1))
    if not waiting or sunsets < SLEEPLESS_SUNSETS:
        return ok(said)
    said = f"{said}, and {sunsets} sunsets have passed without a night"
    if not mind.awake:
        return warn(
            f"{said}: no daemon was there", "$ ada run   # or install it as a service: docs/operations.md"
        )
    return warn(said, "`ada status` says why; `ada sleep` starts one now")


def _born(mind: Mind) -> datetime | None:
    name = mind.db.execute("SELECT id FROM interactions ORDER BY position LIMIT 1").fetchone()
    return arrived(name[0]) if name else None


def moment(mind: Mind) -> Finding:
    """The clock is not behind what it has stamped already."""
    last = mind.db.execute("SELECT id FROM interactions ORDER BY position DESC LIMIT 1").fetchone()
    if last is None:
        return ok("nothing was stamped yet")
    ahead = (arrived(last[0]) - mind.now).total_seconds()
    if ahead > AHEAD_SECONDS:
        said = f"the last interaction is stamped {span(ahead)} ahead of the clock: that was wrong, or is now"
        return warn(
            said,
            f"{SET_CLOCK}; positions keep their order all the same",
        )
    return ok(f"the last interaction came {span(max(0, -ahead))} ago")


def settled(mind: Mind) -> Finding:
    """The journal's word for who serves is that of the pointer, and every generation in it is on the disk."""
    names = [name for (name,) in mind.db.execute("SELECT id FROM generations ORDER BY number")]
    gone = [name for name in names if not (mind.home.generations / name / "manifest.json").is_file()]
    if gone:
        places = " ".join(quote(str(mind.home.generations / name)) for name in gone[:3])
        return warn(
            f"{', '.join(gone)} in the journal, but not on the disk", f"restore {places} from a backup"
        )
    return ok(f"{len(names)} in the journal, all on the disk" if names else "none yet")


def _one(db: sqlite3.Connection, query: str, *values: object) -> Any:
    return db.execute(query, values).fetchone()[0]
