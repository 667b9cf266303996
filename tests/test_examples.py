"""Models that were not grown on the night's words are shown each task solved; what is shown must be right."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from ada_memory.dream import craft, prompts
from ada_memory.dream.examples import Shown, dreamer, shown
from ada_memory.dream.generator import DreamGenerator
from ada_memory.dream.prompts import Claim
from ada_memory.engines.engine import Sampling
from ada_memory.records import Chat, DreamKind
from ada_memory.settings import DreamSettings
from tests.fake_engine import FakeEngine

OWN = Claim("My boat is called Zephyrine.")
TASKS = {
    "extract": prompts.extract("My boat is called Zephyrine."),
    "verify": prompts.verify(["My boat is called Zephyrine."], "What is my boat called?", "Zephyrine."),
    "rewrite": prompts.rewrite(["My boat is called Zephyrine."], "What is my boat called?", "Anna."),
    "supersede": prompts.supersede("My boat is called Zephyrine.", "I sold the boat."),
    **{f"dream {kind}": prompts.dream(kind, [OWN]) for kind in get_args(DreamKind)},
}


def turns(chat: Chat) -> list[tuple[str, str]]:
    """The examples in front of a task."""
    said = [message.content for message in chat[:-1]]
    return list(zip(said[::2], said[1::2], strict=True))


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_shown_before_it_is_set(name: str) -> None:
    chat = shown(TASKS[name])
    assert chat[-1:] == TASKS[name] and len(chat) > 1
    assert [message.role for message in chat] == ["user", "assistant"] * (len(chat) // 2) + ["user"]
    asked = TASKS[name][0].content.partition("\n")[0]
    assert {task.partition("\n")[0] for task, _ in turns(chat)} == {asked}


def test_what_is_shown_can_be_read() -> None:
    claims = [prompts.read_claims(reply) for _, reply in turns(shown(TASKS["extract"]))]
    assert [[claim.wish for claim in found] for found in claims] == [[False, True], []]
    for name, task in TASKS.items():
        if name.startswith("dream") or name == "rewrite":
            assert all(prompts.read_sample(reply) for _, reply in turns(shown(task))), name
    for name in ("verify", "supersede"):
        assert {reply for _, reply in turns(shown(TASKS[name]))} == {prompts.YES, prompts.NO}


def test_the_claims_that_are_shown_are_made_of_the_messages_own_words() -> None:
    [(task, reply), *_] = turns(shown(TASKS["extract"]))
    told = task.partition("Message: ")[2]
    [reading] = DreamGenerator(FakeEngine({task: reply}), DreamSettings(), 1).read([("m", told)])
    assert len(reading.claims) == 2


def test_other_chats_are_left_alone() -> None:
    for chat in (prompts.user("How are you?"), prompts.recall(["It is Bram."], "What is it called?")):
        assert shown(chat) == chat


def test_a_task_is_never_its_own_example() -> None:
    task = turns(shown(TASKS["extract"]))[0][0]
    assert task not in [asked for asked, _ in turns(shown(prompts.user(task)))]


def test_only_a_model_without_tasks_of_its_own_is_shown_them(tmp_path: Path) -> None:
    engine = FakeEngine()
    assert isinstance(dreamer(engine, tmp_path), Shown)
    (tmp_path / craft.BESIDE).write_text("", "utf-8")
    assert dreamer(engine, tmp_path) is engine


def test_the_shown_speaker_hears_examples_when_it_writes_and_when_it_judges() -> None:
    engine = FakeEngine()
    speaker = Shown(engine)
    speaker.generate([TASKS["extract"]], Sampling(8))
    speaker.score([TASKS["verify"]], [prompts.YES])
    assert engine.asked == [shown(TASKS["extract"])] and engine.scored == [shown(TASKS["verify"])]
