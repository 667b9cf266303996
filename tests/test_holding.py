"""What lies near to what is taught: how far each of it may move, and how often it comes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from ada_memory.circadian.holding import ASTRAY_TURNS, Held
from ada_memory.records import Message, Sample
from ada_memory.settings import ForgeSettings

SETTINGS = ForgeSettings(slack=0.01, slack_near=0.3)


def row(prompt: str) -> Sample:
    return Sample((Message("user", prompt), Message("assistant", "I do not know.")), "self")


def test_what_no_memory_comes_near_to_is_held_like_the_core() -> None:
    near, far, aside = (row(f"Where does {name} live?") for name in ("Anbruno", "Carbruno", "Anna's aunt"))
    anchors = Held((near,), (far,), (aside,)).anchors(SETTINGS)
    assert {anchor.messages: anchor.slack for anchor in anchors} == {
        near.messages: SETTINGS.slack_near,
        far.messages: SETTINGS.slack,
        aside.messages: SETTINGS.slack_near,
    }


def test_what_has_gone_astray_takes_several_turns() -> None:
    asides = (row("Where does my aunt live?"), row("Where does my uncle live?"))
    held = Held(asides=asides, astray=asides[:1])
    turns = Counter(replace(anchor, slack=0.0) for anchor in held.anchors(SETTINGS))
    assert turns == {asides[0]: ASTRAY_TURNS, asides[1]: 1}
    assert held.figures() == {"neighbours": 0, "strangers": 0, "asides": 2, "asides_astray": 1}


def test_nothing_is_held_to_nothing() -> None:
    assert Held().anchors(SETTINGS) == ()
