"""Between the journal's rows and the records of the house. Nothing here touches a file."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ada_memory.errors import BadInput
from ada_memory.records import (
    Answer,
    Draft,
    Dream,
    Generation,
    Interaction,
    Memory,
    Message,
    NightRecord,
    Read,
    Salience,
    StageRecord,
)

Row = tuple[Any, ...]

INTERACTION = (
    "position, id, app, session, kind, at, tags, key, peer_uid, "
    "(SELECT json_array(id, generation, (SELECT json_group_array(memory) FROM (SELECT memory FROM "
    "answer_memories WHERE position = answers.position ORDER BY ordinal))) FROM answers "
    "WHERE position = interactions.position)"
)
MEMORY = (
    "number, id, text, role, at, route, salience, reasons, tags, "
    "(SELECT json_group_array(position) FROM memory_interactions WHERE memory = memories.id)"
)
DREAM = (
    "id, kind, claim, prompt, reply, cycle, attempt, score, accepted, reason, "
    "(SELECT json_group_array(json_array(memory, how)) FROM "
    "(SELECT memory, how FROM dream_memories WHERE dream = dreams.number ORDER BY ordinal))"
)
NIGHT = "id, kind, opened_at, upto, parent, seed, depth"
STAGE = "night, name, outcome, reason, started_at, finished_at, figures"
GENERATION = "id, parent, night, adapter, created_at, verdict"


def stamp(at: datetime) -> str:
    """A time as it is stored: UTC, of fixed width, so that text order is time order.

    Raises:
        BadInput: the time has no zone.
    """
    if at.tzinfo is None:
        raise BadInput(f"the time {at.isoformat()} has no zone", field="at")
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def dump(value: Mapping[str, object] | Sequence[object]) -> str:
    """JSON, compact; BadInput if a value in it cannot be written as JSON."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise BadInput(f"cannot be kept as JSON: {error}") from None


def next_id(last: str | None) -> str:
    """A sortable id of 32 hex digits in the layout of UUIDv7, later in order than `last`."""
    head = time.time_ns() // 1_000_000 << 80
    value = head | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    if last is not None:
        value = max(value, int(last, 16) + 1)  # the clock may have been set back
    return f"{value:032x}"


def to_interaction(row: Row, messages: Sequence[tuple[Any, str]]) -> Interaction:
    """A row of INTERACTION with its (role, content) pairs in order."""
    position, name, app, session, kind, at, tags, key, peer_uid, answered = row
    chat = tuple(Message(role, content) for role, content in messages)
    draft = Draft(
        chat, datetime.fromisoformat(at), session, app, kind, tuple(json.loads(tags)), key, peer_uid,
        None if answered is None else _answer(*json.loads(answered)),
    )
    return Interaction(name, position, draft)


def _answer(name: str, generation: str, memories: Sequence[str]) -> Answer:
    return Answer(name, generation, tuple(memories))


def to_memory(row: Row) -> Memory:
    """A row of MEMORY."""
    _, name, text, role, at, route, salience, reasons, tags, positions = row
    return Memory(
        name, text, role, datetime.fromisoformat(at), route, Salience(salience, json.loads(reasons)),
        tuple(sorted(json.loads(positions))), tuple(json.loads(tags)),
    )


def to_dream(row: Row) -> Dream:
    """A row of DREAM."""
    name, kind, claim, prompt, reply, cycle, attempt, score, accepted, reason, rows = row
    read = [(str(memory), how) for memory, how in json.loads(rows)]
    return Dream(
        name, kind, tuple(memory for memory, how in read if how in ("own", "bridge")), claim, prompt, reply,
        cycle, attempt, score, bool(accepted), reason,
        tuple(Read(memory, how) for memory, how in read if how in ("verifier", "rewriter")),
    )


def to_night(row: Row) -> NightRecord:
    """A row of NIGHT."""
    name, kind, opened_at, upto, parent, seed, depth = row
    return NightRecord(name, kind, datetime.fromisoformat(opened_at), upto, parent, seed, depth)


def to_stage(row: Row) -> StageRecord:
    """A row of STAGE."""
    night, name, outcome, reason, started_at, finished_at, figures = row
    return StageRecord(
        night, name, outcome, reason, datetime.fromisoformat(started_at),
        datetime.fromisoformat(finished_at), json.loads(figures),
    )


def to_generation(row: Row) -> Generation:
    """A row of GENERATION."""
    name, parent, night, adapter, created_at, verdict = row
    return Generation(name, parent, night, adapter, datetime.fromisoformat(created_at), verdict)
