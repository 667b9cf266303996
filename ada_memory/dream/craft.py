"""Craft: how well a model does the night's own tasks. Items with known right answers enter, marks leave.

The exam of the health check asks what a model knows; this one asks whether it can still extract, dream,
verify, rewrite and tell old from new, through the very functions that the night uses. Items come from a JSON
lines file: one ships for any instruct model (`GENERAL`), a model may bring its own beside its weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ada_memory.dream import prompts
from ada_memory.dream.generator import DreamGenerator
from ada_memory.dream.prompts import Claim
from ada_memory.dream.reading import yes
from ada_memory.engines.engine import Sampling, Speaker
from ada_memory.errors import BadInput
from ada_memory.records import Chat, DreamKind
from ada_memory.settings import DreamSettings

Task = Literal["extract", "dream", "verify", "rewrite", "supersede"]
TASKS: tuple[Task, ...] = get_args(Task)
GENERAL = Path(__file__).with_name("craft.jsonl")
BESIDE = "craft.jsonl"
"""What a model's own items are called, in the folder of its weights."""
_TOKENS = 72
_SEED = 1


@dataclass(frozen=True, slots=True)
class Item:
    """One small task.

    `facts` and `wishes` are what `extract` must find: words that one claim of that kind must hold. `asks`
    and `says` are words that prompt and reply of a sample must hold, `hides` and `lacks` words that they
    must not; "nurse|nursing" is held if either is. `right` is the answer to `verify` and `supersede`.
    """

    task: Task
    messages: tuple[str, ...]
    kind: DreamKind = "question"
    prompt: str = ""
    reply: str = ""
    right: bool = True
    facts: tuple[str, ...] = ()
    wishes: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    def chat(self) -> Chat:
        """What the model is asked."""
        if self.task == "extract":
            return prompts.extract(self.messages[0])
        if self.task == "dream":
            wish = self.kind == "style" or bool(self.wishes)
            return prompts.dream(self.kind, [Claim(text, wish) for text in self.messages])
        if self.task == "supersede":
            return prompts.supersede(*self.messages)
        ask = prompts.verify if self.task == "verify" else prompts.rewrite
        return ask(self.messages, self.prompt, self.reply)


@dataclass(frozen=True, slots=True)
class Mark:
    """What the model made of one item."""

    item: Item
    said: str
    right: bool


def beside(model: Path) -> Path:
    """The items for a model: its own, if its folder brings any, else those for any model."""
    own = model / BESIDE
    return own if own.is_file() else GENERAL


def read(path: Path = GENERAL) -> list[Item]:
    """The items of a file.

    Raises:
        BadInput: the file is missing, empty, or not of this form.
    """
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line.strip()]
        items = [_item(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} holds no tasks that can be read: {error}") from error
    if {item.task for item in items} != set(TASKS):
        raise BadInput(f"{path} lacks tasks: it needs items of {', '.join(TASKS)}")
    return items


def _item(row: dict[str, Any]) -> Item:
    if row["task"] not in TASKS:
        raise ValueError(f"there is no task {row['task']!r}")
    lists = ("messages", "facts", "wishes", "asks", "says", "hides", "lacks")
    if any(not isinstance(row.get(name, []), list) for name in lists):
        raise TypeError("messages, facts and words are lists")
    if not isinstance(row.get("right", True), bool):
        raise TypeError("right is true or false")
    values: dict[str, Any] = {k: tuple(value) if k in lists else value for k, value in row.items()}
    return Item(**values)


def sit(engine: Speaker, items: Sequence[Item], settings: DreamSettings) -> list[Mark]:
    """Every item done by the model, in order, as the night would have it done with these settings."""
    by_task = {task: [item for item in items if item.task == task] for task in TASKS}
    marks: dict[int, Mark] = {}
    for task, own in by_task.items():
        if own:
            done = _DO[task](engine, own, settings)
            marks.update(zip(map(id, own), done, strict=True))
    return [marks[id(item)] for item in items]


def shares(marks: Sequence[Mark]) -> dict[str, float]:
    """Share of right answers for each task; "verify" is judged half on true samples, half on false ones."""
    out: dict[str, float] = {}
    for task in TASKS:
        own = [mark for mark in marks if mark.item.task == task]
        if not own:
            continue
        groups = [[m.right for m in own if m.item.right is side] for side in (True, False)]
        means = [sum(group) / len(group) for group in groups if group]
        out[task] = round(sum(means) / len(means), 4)
    return out


def _extract(engine: Speaker, items: Sequence[Item], settings: DreamSettings) -> list[Mark]:
    named = [(str(number), item.messages[0]) for number, item in enumerate(items)]
    readings = DreamGenerator(engine, settings, _SEED).read(named)
    return [
        Mark(item, prompts.claims_text(reading.claims), finds(item, reading.claims))
        for item, reading in zip(items, readings, strict=True)
    ]


def finds(item: Item, claims: Sequence[Claim]) -> bool:
    """Whether the claims are those of the message: every one of its facts and wishes, and nothing else."""
    wanted = [(words, False) for words in item.facts] + [(words, True) for words in item.wishes]
    fits = [[c.wish is wish and holds(c.text, words.split()) for words, wish in wanted] for c in claims]
    every = all(any(row[i] for row in fits) for i in range(len(wanted)))
    return every and all(any(row) for row in fits)


def _sample(engine: Speaker, items: Sequence[Item], settings: DreamSettings) -> list[Mark]:
    """Dreams are drawn at the night's temperature; what is rewritten is decoded greedily, as at night."""
    dreams = items[0].task == "dream"
    drawn = Sampling(_TOKENS, settings.temperature, settings.min_p, seed=_SEED)
    replies = engine.generate([item.chat() for item in items], drawn if dreams else Sampling(_TOKENS))
    return [
        Mark(item, reply.text, reply.finished and is_true(item, reply.text))
        for item, reply in zip(items, replies, strict=True)
    ]


def is_true(item: Item, reply: str) -> bool:
    """Whether a reply is a sample of the right form that says what the item's message says."""
    sample = prompts.read_sample(reply)
    if sample is None:
        return False
    prompt, answer = sample
    wrong = any(_has(prompt, w) for w in item.hides) or any(_has(answer, w) for w in item.lacks)
    return holds(prompt, item.asks) and holds(answer, item.says) and not wrong


def _judge(engine: Speaker, items: Sequence[Item], settings: DreamSettings) -> list[Mark]:
    least = settings.accept if items[0].task == "verify" else 0.5
    sure = yes(engine, [item.chat() for item in items])
    return [Mark(item, f"{p:.3f}", (p >= least) is item.right) for item, p in zip(items, sure, strict=True)]


_DO = {
    "extract": _extract, "dream": _sample, "rewrite": _sample, "verify": _judge, "supersede": _judge,
}  # fmt: skip


def holds(text: str, words: Sequence[str]) -> bool:
    """Whether a text holds every one of these words or phrases; `a|b` is held if either is."""
    return all(any(_has(text, choice) for choice in word.split("|")) for word in words)


def _has(text: str, phrase: str) -> bool:
    said, wanted = (" ".join(re.findall(r"[\w:-]*\w", part.casefold())) for part in (text, phrase))
    return f" {wanted} " in f" {said} "
