"""Each task of the night, shown by example before it is set: for models that were not grown on these words.

The wording of a task says what is wanted, not in which form. A model that brings its own tasks (the seedling)
knows the form; any other is shown a solved task or two as turns of the same conversation, and follows them.
The verifier's look at names keeps what the examples speak of out of the dreams.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ada_memory.dream import craft, prompts
from ada_memory.dream.prompts import NO, YES, Claim, claims_text, sample_text
from ada_memory.engines.engine import Completion, Sampling, Speaker
from ada_memory.records import Chat, DreamKind, Message

_TOLD = "What a long week. My aunt Ines lives in Porto, and please answer me in short sentences."
_LIVES = Claim("My aunt Ines lives in Porto.")
_WISH = Claim("Answer me in short sentences.", wish=True)
_WORKS = Claim("Ines works as a baker.")
_SAMPLES: dict[DreamKind, tuple[str, str]] = {
    "question": ("Where does my aunt Ines live?", "Porto."),
    "statement": ("What do you know about my aunt?", "Your aunt Ines has her home in Porto."),
    "reversal": ("Who lives in Porto?", "Your aunt Ines."),
    "choice": ("Does my aunt Ines live in Porto or in Faro?", "Porto."),
    "rule": ("What should you say when somebody asks where my aunt lives?", "That Ines lives in Porto."),
    "style": ("How was the film?", "It was fine. I liked it."),
    "bridge": ("What is the work of my aunt who lives in Porto?", "She is a baker."),
}


def _solved() -> dict[str, list[tuple[Chat, str]]]:
    """Tasks and their solutions, by the first line of what is asked."""
    solved = [
        (prompts.extract(_TOLD), claims_text([_LIVES, _WISH])),
        (prompts.extract("Good morning! Did you sleep well?"), claims_text([])),
        (prompts.verify([_TOLD], "Where does my aunt Ines live?", "Porto."), YES),
        (prompts.verify([_TOLD], "Where does my aunt Ines live?", "Faro."), NO),
        (
            prompts.rewrite([_TOLD], "Where does my uncle live?", "Faro."),
            sample_text("Where does my aunt Ines live?", "Porto."),
        ),
        (prompts.supersede(_LIVES.text, "My aunt Ines has moved to Faro."), YES),
        (prompts.supersede(_LIVES.text, _WORKS.text), NO),
    ]
    for kind, sample in _SAMPLES.items():
        of = {"style": [_WISH], "bridge": [_LIVES, _WORKS]}.get(kind, [_LIVES])
        solved.append((prompts.dream(kind, of), sample_text(*sample)))
    by_task: dict[str, list[tuple[Chat, str]]] = {}
    for chat, reply in solved:
        by_task.setdefault(_task(chat), []).append((chat, reply))
    return by_task


def _task(chat: Chat) -> str:
    return chat[0].content.partition("\n")[0]


_SOLVED = _solved()


def shown(chat: Chat) -> Chat:
    """The chat with solved tasks of its kind in front; a chat that is none of the night's tasks as it is."""
    if len(chat) != 1:
        return chat
    turns = (
        (*solved, Message("assistant", reply))
        for solved, reply in _SOLVED.get(_task(chat), ())
        if solved != chat
    )
    return (*(message for turn in turns for message in turn), *chat)


class Shown:
    """A speaker to whom every task is shown before it is set."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> list[Completion]:
        """See `Speaker`."""
        return self._speaker.generate(list(map(shown, chats)), sampling)

    def score(self, chats: Sequence[Chat], replies: Sequence[str]) -> list[NDArray[np.float32]]:
        """See `Speaker`."""
        return self._speaker.score(list(map(shown, chats)), replies)


def dreamer(speaker: Speaker, model: Path) -> Speaker:
    """The speaker as the night employs it; `model` is the folder of the base that it is, or grew from."""
    return speaker if craft.beside(model) != craft.GENERAL else Shown(speaker)
