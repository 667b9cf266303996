"""What was recalled never costs an answer: it takes the room there is, whole, the most similar first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ada_memory.engines.engine import Sampling, open_engine
from ada_memory.records import Chat, Message
from ada_memory.service.reminders import MORE, Reminder, fit
from ada_memory.service.voice import answer
from tests.fake_engine import FakeEngine
from tests.models import EXACT, tiny_model

ASK: Chat = (Message("user", "What is it?"),)


def words(chats: Sequence[Chat]) -> list[int]:
    return [sum(len(message.content.split()) for message in chat) for chat in chats]


def said(chat: Chat) -> str:
    return next((message.content for message in chat if message.content.startswith("Memories:")), "")


def test_all_that_fits_is_put_behind_the_apps_own_words_oldest_first() -> None:
    chat = (Message("system", "Be kind."), *ASK)
    found, read = fit(chat, [Reminder("late", 1), Reminder("early", 0)], words, 50)
    assert [message.content for message in found] == ["Be kind.", "Memories:\n- early\n- late", "What is it?"]
    assert read == ["whole", "whole"]


def test_whole_memories_give_way_the_least_similar_first() -> None:
    long, short = Reminder("word " * 30, 0), Reminder("two words", 1)
    assert fit(ASK, [short, long], words, 20)[1] == ["whole", "no"]
    assert fit(ASK, [long, short], words, 20)[1] == ["no", "whole"]
    assert fit(ASK, [], words, 20) == (ASK, [])


def test_only_what_can_not_be_read_otherwise_is_cut_and_shows_it() -> None:
    lines = "\n".join(f"line {n} of the poem, as it was sent" for n in range(40))
    found, read = fit(ASK, [Reminder(lines, 0)], words, 60)
    assert read == ["part"]
    assert said(found).endswith(f"\n  {MORE}")
    assert words([found])[0] <= 60
    kept = said(found).removeprefix("Memories:\n- ").removesuffix(f"\n  {MORE}").replace("\n  ", "\n")
    assert lines.startswith(kept + "\n")
    assert fit(ASK, [Reminder(lines, 0)], words, 8) == (ASK, ["no"])


def test_a_long_conversation_leaves_memories_half_of_the_room() -> None:
    chat = (*(Message("user", "turn " * 10) for _ in range(20)), *ASK)
    assert fit(chat, [Reminder("word " * 30, 0)], words, 100)[1] == ["whole"]
    assert fit(chat, [Reminder("word " * 60, 0)], words, 100)[1] == ["part"]


def test_a_last_message_that_fills_the_room_has_it() -> None:
    chat = (Message("user", "word " * 95),)
    assert fit(chat, [Reminder("two words " * 4, 0)], words, 100)[1] == ["no"]


def test_a_voice_says_what_it_read_and_shares_batches_all_the_same() -> None:
    def request(number: int, *texts: str) -> dict[str, object]:
        reminders = [{"text": text, "age": age} for age, text in enumerate(texts)]
        chats = [[{"role": "user", "content": f"Question {number}?"}]]
        return {"id": number, "op": "generate", "chats": chats, "max_tokens": 8, "reminders": reminders}

    engine = FakeEngine()
    replies = answer(engine, [request(1, "a b c"), request(2), request(3, "word " * 2_000, "d e f")])
    assert [reply["read"] for reply in replies] == [["whole"], [], ["no", "whole"]]
    assert [said(chat) for chat in engine.asked] == ["Memories:\n- a b c", "", "Memories:\n- d e f"]


@pytest.mark.parametrize("text", ["x" * 4_000, "def f(x):\n    return x\n" * 170, "我的狗叫小白。" * 500])
def test_a_small_model_answers_however_much_is_recalled(tmp_path: Path, text: str) -> None:
    engine = open_engine("peft", tiny_model(tmp_path / "model"), None, EXACT)
    assert engine.limit == 256
    reminders = [Reminder(text, 0), Reminder("My dog is called Rex.", 1), Reminder(text + "!", 2)]
    found, read = fit(ASK, reminders, engine.measure, engine.limit - 16)
    assert read == ["no", "whole", "no"]
    assert engine.measure([found])[0] <= engine.limit - 16
    [done] = engine.generate([found], Sampling(16, whole=True))
    assert done.prompt_tokens == engine.measure([found])[0]
    found, read = fit(ASK, reminders[:1], engine.measure, engine.limit - 16)
    assert read == ["part"]
    assert engine.measure([found])[0] <= engine.limit - 16
