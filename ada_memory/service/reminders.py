"""How much of what was recalled a model can read beside a chat. Texts enter, a chat that fits leaves.

Recall must never cost an answer, nor push out what is being asked. So memories get the room that the
conversation leaves, half of the model's context at most where it leaves less; whole ones only, the most
similar first. Only if none fits whole is the most similar one cut, at the end of a line and for all to see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from ada_memory.hippocampus.recall import listing
from ada_memory.records import Chat, Message

Read = Literal["whole", "part", "no"]
Measure = Callable[[Sequence[Chat]], list[int]]
MORE = "[…]"
LEAST = 60
"""Characters below which the beginning of a memory tells nobody anything."""


@dataclass(frozen=True, slots=True)
class Reminder:
    """A memory as the voice gets it: its text, and its place among the others by age (0 is the oldest)."""

    text: str
    age: int


def fit(chat: Chat, reminders: Sequence[Reminder], measure: Measure, budget: int) -> tuple[Chat, list[Read]]:
    """A chat with the memories that fit into `budget` tokens, and what of each (most similar first) is read.

    `measure` tells the tokens of each chat.
    """
    share = _share(chat, measure, budget) if reminders else 0

    def fits(kept: Sequence[Reminder]) -> bool:
        return not kept or measure([_reminded(chat, kept)])[0] - bare <= share

    bare = measure([chat])[0] if reminders else 0
    if fits(reminders):
        return _reminded(chat, reminders), ["whole"] * len(reminders)
    kept: list[Reminder] = []
    for reminder in reminders:
        if fits([*kept, reminder]):
            kept.append(reminder)
    if not kept and (part := _part(reminders[0], fits)):
        return _reminded(chat, [part]), ["part", *["no"] * (len(reminders) - 1)]  # type: ignore[list-item]
    return _reminded(chat, kept), ["whole" if reminder in kept else "no" for reminder in reminders]


def _share(chat: Chat, measure: Measure, budget: int) -> int:
    """Tokens that memories may take: what the chat leaves or half of all, but never the last message's."""
    opening = _opening(chat)
    whole, needed = measure([chat, (*opening, chat[-1])])
    return min(max(budget - whole, budget // 2), budget - needed)


def _part(reminder: Reminder, fits: Callable[[Sequence[Reminder]], bool]) -> Reminder | None:
    """The longest beginning of a memory that fits, marked as one; None if it would be next to nothing."""
    low, high = 0, len(reminder.text)
    while low < high:
        middle = (low + high + 1) // 2
        if fits([_cut(reminder, middle)]):
            low = middle
        else:
            high = middle - 1
    return _cut(reminder, low) if low >= LEAST else None


def _cut(reminder: Reminder, length: int) -> Reminder:
    head = reminder.text[:length]
    at = head.rfind("\n")
    return Reminder(f"{head[:at] if at >= length // 2 else head}\n{MORE}", reminder.age)


def _opening(chat: Chat) -> Chat:
    return tuple(takewhile(lambda message: message.role == "system", chat))


def _reminded(chat: Chat, kept: Sequence[Reminder]) -> Chat:
    """Memories come after the app's own opening system messages, before the conversation, oldest first."""
    if not kept:
        return chat
    opening = _opening(chat)
    texts = [reminder.text for reminder in sorted(kept, key=lambda reminder: reminder.age)]
    return (*opening, Message("system", listing(texts)), *chat[len(opening) :])
