"""What a chat template takes. Turns enter in any order and role; turns that this template accepts leave.

Families differ: Gemma 2 refuses a system message and turns that do not alternate, Gemma 3 takes a system
message in front only, many know no tool. What a template refuses, or drops without a word, is said in the
user's turn instead: memories are put before a question as a system message and must not be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from jinja2.exceptions import TemplateError

Turn = dict[str, str]
REFUSALS = (TemplateError, TypeError, KeyError, ValueError)
"""What templates raise over a chat that they do not take; some only stumble over a field that is missing."""

_MARK = "Mind the gap"
_GAP = "\n\n"


@dataclass(frozen=True, slots=True)
class Manners:
    """What a template takes beside the user's and the assistant's turns, and whether these must alternate."""

    system: Literal["anywhere", "first", "never"] = "anywhere"
    tool: bool = True
    loose: bool = True


def manners(write: Callable[[Sequence[Turn]], str]) -> Manners:
    """Try a template on a few chats. What it does not write out again it does not take."""

    def takes(*roles: str) -> bool:
        """Whether the last role but one, or the last if there is none after it, is heard."""
        said = [{"role": role, "content": f"{_MARK} {at}"} for at, role in enumerate(roles)]
        try:
            written = write(said)
        except REFUSALS:
            return False
        return all(turn["content"] in written for turn in said)

    first = takes("system", "user")
    anywhere = first and takes("user", "assistant", "system", "user")
    loose = takes("user", "user") and takes("assistant", "user")
    return Manners(
        "anywhere" if anywhere else "first" if first else "never", takes("user", "assistant", "tool"), loose
    )


def fitting(turns: Sequence[Turn], manners: Manners) -> list[Turn]:
    """The same words in turns that the template takes; all of them untouched if it takes any."""
    known = [turn if turn["role"] != "tool" or manners.tool else {**turn, "role": "user"} for turn in turns]
    opening, rest = _opening(known)
    if manners.system != "anywhere" or not manners.loose:
        if manners.system == "never" or not rest:
            opening, rest = [], [*opening, *rest]
        opening = [_joined(opening)] if opening else []
        rest = _folded(rest)
    return [*opening, *(rest if manners.loose else _alternating(rest))]


def _opening(turns: Sequence[Turn]) -> tuple[list[Turn], list[Turn]]:
    count = next((at for at, turn in enumerate(turns) if turn["role"] != "system"), len(turns))
    return list(turns[:count]), list(turns[count:])


def _folded(turns: Sequence[Turn]) -> list[Turn]:
    """System messages said at the beginning of the user's next turn, or as one if none follows."""
    done: list[Turn] = []
    held: list[Turn] = []
    for turn in turns:
        if turn["role"] == "system":
            held.append(turn)
        elif turn["role"] == "user":
            done.append(_joined([*held, turn]))
            held = []
        else:
            done.append(turn)
    return [*done, {**_joined(held), "role": "user"}] if held else done


def _alternating(turns: Sequence[Turn]) -> list[Turn]:
    """Neighbours of one role as one turn, the user first."""
    done: list[Turn] = []
    for turn in turns:
        if done and done[-1]["role"] == turn["role"]:
            done[-1] = _joined([done[-1], turn])
        else:
            done.append(turn)
    return [{"role": "user", "content": ""}, *done] if done and done[0]["role"] == "assistant" else done


def _joined(turns: Sequence[Turn]) -> Turn:
    """Several turns as one, in the last one's role."""
    return {"role": turns[-1]["role"], "content": _GAP.join(turn["content"] for turn in turns)}
