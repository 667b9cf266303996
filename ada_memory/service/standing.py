"""Why nothing happens just now, and what would change that. The daemon's rooms enter, `Standing` leaves.

Each thing that Ada waits for, or that keeps her from sleeping, is one `Reason`: a word for programs, a
sentence for people, and a time if there is one. `Status` has the figures of the sentence as fields too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from itertools import takewhile

from ada_memory.circadian.hours import zone
from ada_memory.circadian.sunset import Outlook
from ada_memory.hippocampus.journal import Journal
from ada_memory.records import StageRecord
from ada_memory.service.checkup.finding import many, span
from ada_memory.service.checkup.mind import arrived
from ada_memory.service.rooms import Rooms

NIGHTS_BACK = 8
BEHIND_SECONDS = 60.0
DOING = {
    "gather": "gathering what waits", "dream": "dreaming", "verify": "checking the dreams",
    "dataset": "making the samples", "train": "training", "merge": "merging the weights",
    "map": "sitting the exam", "verdict": "weighing the verdict", "activate": "changing over",
    "report": "writing the report",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that is waited for, or that is in the way."""

    what: str
    detail: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LastNight:
    """How the last finished night ended: learned, rejected, halted or skipped, and why."""

    night: str
    outcome: str
    reason: str
    ended_at: datetime
    fruitless: int
    """How many nights in a row, this one included, have brought no new generation."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What `/v1/status` says beyond plain figures."""

    outlook: Outlook
    last_night: LastNight | None
    oldest_unencoded: datetime | None
    reasons: tuple[Reason, ...]


def read(rooms: Rooms, state: Mapping[str, object]) -> Standing:
    """Everything at once, from the journal: not for the loop's own thread."""
    journal, now = rooms.journal, rooms.clock()
    outlook = rooms.sunset.outlook()
    place = zone(rooms.settings.sunset)
    oldest = next((arrived(one.id) for one in journal.unencoded(1)), None)
    last = _last_night(journal)
    reasons = [*_night(state, place)]
    if state["state"] == "awake":
        reasons += [*_sunset(outlook, bool(state.get("held")), now, place), *_sleepless(outlook, place)]
        reasons += _last(last)
    reasons += [*_encoding(rooms, oldest, now), *_children(rooms)]
    return Standing(outlook, last, oldest, tuple(reasons))


def _last_night(journal: Journal) -> LastNight | None:
    """The newest night that has a report."""
    nights = ((night.id, journal.stages(night.id)) for night in journal.nights(NIGHTS_BACK))
    ended = [(name, rows, *_ending(rows)) for name, rows in nights if rows and rows[-1].name == "report"]
    if not ended:
        return None
    name, rows, outcome, reason = ended[0]
    fruitless = sum(1 for _ in takewhile(lambda night: night[2] != "learned", ended))
    return LastNight(name, outcome, reason, rows[-1].finished_at, fruitless)


def _ending(rows: list[StageRecord]) -> tuple[str, str]:
    """What a night came to, and why."""
    for row in rows:
        if row.outcome == "skip":
            return "skipped", row.reason
        if row.outcome == "halt":
            word = "rejected" if row.name == "verdict" else "halted"
            return word, f"{row.name}: {row.reason.removeprefix('rejected: ')}"
    figures = next((row.figures for row in rows if row.name == "activate"), {})
    return "learned", str(figures.get("generation", ""))


def _night(state: Mapping[str, object], place: tzinfo) -> Iterator[Reason]:
    """A night that is under way, stands still or is held."""
    name, light = state.get("night"), " (light)" if state.get("depth") == "light" else ""
    if state["state"] != "awake":
        doing = DOING.get(str(state.get("stage") or ""), "at its start")
        progress = state.get("progress")
        if isinstance(progress, dict) and progress.get("total"):
            doing += f", {progress.get('done')} of {progress['total']}"
        elif isinstance(progress, dict) and progress.get("note"):
            doing += f", {progress['note']}"
        yield Reason("night", f"night {name}{light}: {doing}{_left(state)}")
        yield from _still(state, place)
        if state.get("trouble"):
            yield Reason("stuck", f"the night cannot go on, and tries again: {state['trouble']}")
    elif state.get("held"):
        held = f"night {name}{light} is held after {state['held']}: `ada sleep` finishes it"
        yield Reason("held", held)


def _still(state: Mapping[str, object], place: tzinfo) -> Iterator[Reason]:
    """Why a night that is under way stands still."""
    since = state.get("paused_since")
    at = since if isinstance(since, datetime) else None
    if state.get("paused") == "owner":
        for_long = f" since {_stamp(at, place)}" if at else ""
        yield Reason("paused", f"the night is paused{for_long}: `ada resume` lets it go on", at)
    elif state.get("paused") == "asked":
        yield Reason("paused", "the night stands still while somebody asks, and goes on once it is quiet", at)


def _left(state: Mapping[str, object]) -> str:
    """`, about 2 min left, 12 min of the night`; nothing of what is not known."""
    stage, night = state.get("eta_seconds"), state.get("night_eta_seconds")
    known = [f"{span(stage)} left"] if isinstance(stage, int | float) else []
    known += [f"{span(night)} until morning"] if isinstance(night, int | float) else []
    return f", about {', '.join(known)}" if known else ""


def _sunset(outlook: Outlook, held: bool, now: datetime, place: tzinfo) -> Iterator[Reason]:
    """What starts the next night."""
    at, missing = outlook.next_sunset, outlook.capacity - outlook.waiting
    starts = []
    if at is not None:
        starts.append(f"at {_hour(at, now, place)}")
    if outlook.capacity and not held and outlook.gap_until is None:
        starts.append("within a minute" if missing <= 0 else f"when {missing} more wait")
    waits = f"{many(outlook.waiting, 'memory')} {'waits' if outlook.waiting == 1 else 'wait'}"
    if starts:
        yield Reason(
            "sunset", f"{waits}; {'it goes on' if held else 'the next night is'} {', or '.join(starts)}", at
        )
    elif not held and not outlook.capacity:
        yield Reason("nothing", f"{waits}; sunset.at and sunset.capacity are off: `ada sleep` starts a night")
    if outlook.gap_until is not None and not held:
        reached = "capacity is reached, but" if missing <= 0 else "whatever comes,"
        said = f"{reached} the least gap after the last night of its kind holds until"
        yield Reason("gap", f"{said} {_hour(outlook.gap_until, now, place)}", outlook.gap_until)


def _sleepless(outlook: Outlook, place: tzinfo) -> Iterator[Reason]:
    """Why there is no night although one was due."""
    if outlook.last_refusal is not None:
        since, why = outlook.last_refusal
        yield Reason("refused", f"no night since {_stamp(since, place)}: {why}", since)


def _last(last: LastNight | None) -> Iterator[Reason]:
    """The last night, if it has brought nothing."""
    if last is None or not last.fruitless:
        return
    which = (
        "the last night"
        if last.fruitless == 1
        else f"the last of {last.fruitless} nights that taught nothing"
    )
    yield Reason("last night", f"{which}, {last.night}, was {last.outcome}: {last.reason}", last.ended_at)


def _encoding(rooms: Rooms, oldest: datetime | None, now: datetime) -> Iterator[Reason]:
    """Interactions that ought to be memories by now."""
    trouble, aside = rooms.encoder.trouble, rooms.encoder.aside
    age = (now - oldest).total_seconds() if oldest is not None else 0.0
    if oldest is not None and (trouble or age > BEHIND_SECONDS):
        count = rooms.journal.counts()["unencoded"]
        said = f"encoding is behind: {many(count, 'interaction')}, the first for {span(max(0.0, age))}"
        yield Reason("encoding", f"{said}: {trouble}" if trouble else said, oldest)
    if aside:
        why = next(iter(aside.values())).why
        said = f"{many(len(aside), 'interaction')} cannot be encoded and will be tried again: {why}"
        yield Reason("aside", said)


def _children(rooms: Rooms) -> Iterator[Reason]:
    for worker in (rooms.voice.worker, rooms.embedding.worker):
        if worker.deaths:
            times = "once" if worker.deaths == 1 else f"{worker.deaths} times"
            said = f"the {worker.name} worker has died {times}: {worker.fault}"
            yield Reason("worker", f"{said}; var/log/{worker.name}.log says more")


def _hour(at: datetime, now: datetime, place: tzinfo) -> str:
    """`02:00 (in 5 h)`; with its date if it is further off than a day."""
    away = (at - now).total_seconds()
    local = at.astimezone(place)
    return (
        f"{local:%H:%M}{'' if away < 86_400 else local.strftime(' on %Y-%m-%d')} (in {span(max(0.0, away))})"
    )


def _stamp(at: datetime, place: tzinfo) -> str:
    return f"{at.astimezone(UTC).astimezone(place):%Y-%m-%d %H:%M}"
