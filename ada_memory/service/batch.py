"""Many interactions at once: lines of JSON enter, what became of each leaves once all of it is on disk.

A line fails alone. Lines that are kept stand in the journal in the order in which they came.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pydantic import ValidationError

from ada_memory.errors import AdaError, BadInput
from ada_memory.records import Receipt
from ada_memory.service import problems
from ada_memory.service import schemas as s
from ada_memory.service.rooms import Rooms

log = logging.getLogger("ada.api")

PIECE = 512
"""Lines that are read and queued at a time: others who post meanwhile wait no longer than for these."""

ONE_A_LINE = "send one interaction a line, as JSON in UTF-8"
BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            problems.LINES[0]: {
                "schema": {
                    "type": "string",
                    "minLength": 1,
                    "pattern": r"\S",
                    "description": "One NewInteraction in each line, as JSON in UTF-8. Empty lines are "
                    "passed over. All lines together are one body and have its limit.",
                    "examples": ['{"messages": [{"role": "user", "content": "My dog is called Bruno."}]}\n'],
                }
            }
        },
    }
}
"""What the API's description says of the body."""

Line = tuple[int, bytes]


async def keep(rooms: Rooms, body: bytes, peer_uid: int | None) -> s.BatchReply:
    """Keep each line of a body, and say what became of it.

    Raises:
        BadInput: the body holds no line at all.
    """
    lines = list(_lines(body))
    if not lines:
        raise BadInput("the body holds no line", hint=ONE_A_LINE)
    said: list[s.LineKept | s.LineFailed] = []
    for start in range(0, len(lines), PIECE):
        piece = lines[start : start + PIECE]
        outcomes = await _keep_piece(rooms, piece, peer_uid)
        said += [_say(number, outcome) for (number, _), outcome in zip(piece, outcomes, strict=True)]
    kept = [line for line in said if isinstance(line, s.LineKept)]
    again = sum(line.duplicate for line in kept)
    return s.BatchReply(lines=said, kept=len(kept) - again, duplicates=again, failed=len(said) - len(kept))


async def _keep_piece(rooms: Rooms, piece: Sequence[Line], peer_uid: int | None) -> list[Receipt | AdaError]:
    """Queue the good lines in order, so that they share a commit, then wait for all of them."""

    def read() -> list[s.NewInteraction | AdaError]:
        return [_read(line) for _, line in piece]

    async def put(line: s.NewInteraction | AdaError) -> Receipt:
        if isinstance(line, AdaError):
            raise line
        return await rooms.keep(line.draft(rooms.clock(), peer_uid))

    put_all = [put(line) for line in await asyncio.to_thread(read)]
    outcomes: list[Receipt | AdaError] = []
    for outcome in await asyncio.gather(*put_all, return_exceptions=True):
        if not isinstance(outcome, Receipt | AdaError):
            raise outcome
        outcomes.append(outcome)
    ours = [o for o in outcomes if isinstance(o, AdaError) and problems.status_of(o) >= 500]
    if ours:
        log.warning("%d lines of a batch were not kept: %s", len(ours), ours[0].message)
    return outcomes


def _lines(body: bytes) -> Iterator[Line]:
    """The lines that hold something, with their numbers from 1."""
    for number, line in enumerate(body.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        if line.strip():
            yield number, line


def _read(line: bytes) -> s.NewInteraction | AdaError:
    """An interaction, or what is wrong with its line."""
    try:
        value = json.loads(line.decode("utf-8"))
        return s.NewInteraction.model_validate(value)
    except ValidationError as error:
        if not isinstance(value, dict):
            return BadInput("the line is not a JSON object", hint=ONE_A_LINE)
        return problems.explain(error.errors(include_url=False, include_input=False))
    except UnicodeDecodeError as error:
        return BadInput(f"the line is not UTF-8 at byte {error.start}", hint=ONE_A_LINE)
    except json.JSONDecodeError as error:
        return BadInput(f"the line is not JSON: {error.msg} at character {error.pos}", hint=ONE_A_LINE)
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets nested by the thousand
        return BadInput("the line is not JSON that can be read", hint=ONE_A_LINE)


def _say(number: int, outcome: Receipt | AdaError) -> s.LineKept | s.LineFailed:
    if isinstance(outcome, AdaError):
        return s.LineFailed(line=number, error=s.ErrorBody(**problems.describe(outcome)))
    return s.LineKept(line=number, id=outcome.id, position=outcome.position, duplicate=outcome.duplicate)
