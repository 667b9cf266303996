"""The benchmark of dreaming: the same dreams, all at once and one at a time."""

from __future__ import annotations

import pytest

from ada_memory.bench import dream
from ada_memory.bench.forge_data import SEEDLING
from ada_memory.engines.engine import Sampling, open_engine
from ada_memory.errors import AdaError
from ada_memory.records import Message


@pytest.mark.slow
def test_both_ways_dream_the_same() -> None:
    figures = dream.run(facts=2, seed=3, cycles=1)
    assert figures["dreams"] == figures["dreams_same"]
    assert int(str(figures["dreams"])) >= 16
    assert isinstance(figures["speedup"], float)


def test_an_engine_that_is_told_so_decodes_one_chat_at_a_time() -> None:
    engine = open_engine("peft", SEEDLING)
    chats = [(Message("user", text),) for text in ("Who are you?", "What is 2 plus 3?")]
    replies = engine.generate(chats, Sampling(8))
    dream.one_at_a_time(engine)
    sizes: list[int] = []
    within = engine._model.forward  # type: ignore[attr-defined]

    def forward(*args: object, **kwargs: object) -> object:
        sizes.append(len(kwargs["input_ids"]))  # type: ignore[arg-type]
        return within(*args, **kwargs)

    engine._model.forward = forward  # type: ignore[attr-defined]
    assert engine.generate(chats, Sampling(8)) == replies
    assert set(sizes) == {1}
    with pytest.raises(AdaError, match="one chat at a time"):
        dream.one_at_a_time(object())  # type: ignore[arg-type]
