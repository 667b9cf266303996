"""Exam questions, and what counts as a right answer. Knows no fact itself: questions come from files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ada_memory.engines.engine import Engine, Sampling
from ada_memory.errors import BadInput
from ada_memory.records import Chat, Message

ANSWER = Sampling(max_tokens=24)


def normal(text: str) -> str:
    """Text without case, punctuation (but for that inside words, times and codes) and double spaces."""
    words = re.sub(r"[^\w\s:'-]", " ", text.casefold()).split()
    return " ".join(word for raw in words if (word := raw.strip(":'-")))


@dataclass(frozen=True, slots=True)
class Question:
    """A chat to continue; right if the reply holds `answer` and none of `wrong`.

    "copper|salt" is held if either is. `key` names what is asked, so that training data can be checked
    against it.
    """

    category: str
    key: str
    messages: Chat
    answer: str
    wrong: tuple[str, ...] = ()

    def right(self, reply: str) -> bool:
        """Whether a reply counts, after normalisation."""
        said = f" {normal(reply)} "
        held = [f" {answer} " for part in self.answer.split("|") if (answer := normal(part))]
        held = [answer for answer in held if answer in said]
        if not held:
            return False
        rest = said
        for answer in held:
            rest = rest.replace(answer, " | ")
        return not any(f" {normal(w)} " in rest for w in self.wrong)


def read(path: Path) -> list[Question]:
    """The questions of an exam file (JSON lines).

    Raises:
        BadInput: the file is missing or not an exam.
    """
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line.strip()]
        return [
            Question(
                r["category"],
                r["key"],
                tuple(Message(m["role"], m["content"]) for m in r["messages"]),
                r["answer"],
                tuple(r["wrong"]),
            )
            for r in rows
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is not an exam file: {error}") from error


def sit(engine: Engine, questions: Sequence[Question]) -> list[str]:
    """The model's replies, decoded greedily in at most 24 tokens."""
    return [c.text for c in engine.generate([q.messages for q in questions], ANSWER)]


def marks(questions: Sequence[Question], replies: Sequence[str]) -> dict[str, float]:
    """Share of right answers by category, and over all of them ("all"); empty for an empty exam."""
    by: dict[str, list[bool]] = {}
    for question, reply in zip(questions, replies, strict=True):
        right = question.right(reply)
        by.setdefault("all", []).append(right)
        by.setdefault(question.category, []).append(right)
    return {name: sum(got) / len(got) for name, got in by.items()}
