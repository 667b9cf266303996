"""What counts as worth knowing, and what must be kept letter by letter."""

from __future__ import annotations

import numpy as np
import pytest

from ada_memory.hippocampus.router import route
from ada_memory.hippocampus.salience import score
from ada_memory.records import Kind, Role, Salience
from ada_memory.settings import RouterSettings, SalienceSettings

NONE = np.zeros((0, 0), dtype=np.float32)
FACTS = [
    "My cat is called Mo.",
    "I live in Lisbon.",
    "The meeting room is on the third floor.",
    "We moved to a new house last spring.",
    "I love jazz.",
    "I have no siblings.",
    "I no longer eat meat.",
    "Tomas has two dogs.",
    "Zorvane is allergic to nuts.",
    "the cat sleeps in the kitchen",
    "He likes his coffee black.",
    "The park is nice in autumn.",
    "Public transport is free here.",
    "Our train leaves at 7.",
    "It is my birthday on Friday.",
    "Hi, I'm Tom.",
    "Thanks, I got a new job.",
    "Good morning! My brother Leo got a job in Turin.",
    "What a day! I finally bought a bike.",
    "Yes, Mia lives in Rome.",
    "Actually, my dog is called Rex, not Max.",
    "My favourite colour is green, thanks for asking!",
    "Mein Hund heißt Rex.",
    "Je travaille comme boulanger.",
    "我的狗叫小白。",
]
WISHES = [
    "Call me Captain.",
    "Could you call me Jo from now on?",
    "Please answer in one word.",
    "From now on, reply in French.",
    "Remember that the door code changed.",
    "I prefer tea to coffee.",
    "Keep your answers short.",
    "Nenn mich Jo.",
]
SMALL_TALK = [
    "Thanks!",
    "How are you today?",
    "What a rainy morning.",
    "Hello!",
    "Good night, Ada!",
    "Okay, sounds good.",
    "Nice, thank you so much.",
    "See you tomorrow!",
    "Haha, great.",
    "I'm fine, thanks.",
    "The weather is lovely today.",
    "It is raining again.",
    "Wow, that is amazing!",
    "Well, never mind.",
    "No worries.",
    "Good morning! How are you?",
    "Can you help me?",
    "What is my cat called?",
    "Where does Tomas live?",
    "Do you remember my cat?",
    "Danke!",
    "Yes.",
    "...",
    "",
]


def weigh(text: str, role: Role = "user", kind: Kind = "chat") -> Salience:
    return score(text, role, kind, None, NONE, SalienceSettings())


@pytest.mark.parametrize("text", FACTS + WISHES)
def test_facts_and_wishes_matter(text: str) -> None:
    assert weigh(text).score >= 0.4
    assert route(text, "chat", "user", RouterSettings())[0] == "weights"


@pytest.mark.parametrize("text", SMALL_TALK)
def test_small_talk_and_questions_do_not(text: str) -> None:
    assert weigh(text).score < SalienceSettings().threshold


def test_a_wish_matters_more_than_a_name_and_a_name_more_than_none() -> None:
    scores = [weigh(text).score for text in ("Call me Jo.", "My cat is called Mo.", "The cat sleeps a lot.")]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 3


def test_novelty_is_distance_to_the_nearest_and_scales_the_score() -> None:
    known = np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32)
    new = np.array([0, 0, 2], dtype=np.float32)
    half = np.array([0.5, 0, np.sqrt(0.75)], dtype=np.float32)
    settings = SalienceSettings()
    found = [score(FACTS[0], "user", "chat", v, known, settings) for v in (new, half, known[1])]
    assert [s.reasons["novelty"] for s in found] == pytest.approx([1.0, 0.5, 0.0], abs=1e-3)
    assert found[0].score > found[1].score > found[2].score


def test_a_correction_survives_however_near_it_is() -> None:
    vector = np.array([1.0, 0.0], dtype=np.float32)
    for text in ("My dog is called Rex, not Max.", "Zorvane is allergic to milk."):
        found = score(text, "user", "chat", vector, vector[None, :], SalienceSettings())
        assert found.reasons["novelty"] == 0
        assert found.score >= SalienceSettings().threshold


def test_weights_of_the_settings_count() -> None:
    known = np.array([[1.0, 0.0]], dtype=np.float32)
    only_form = SalienceSettings(novelty=0, importance=1)
    found = score(FACTS[0], "user", "chat", known[0], known, only_form)
    assert found.score == found.reasons["importance"]
    only_new = SalienceSettings(novelty=1, importance=0)
    assert score(FACTS[0], "user", "chat", known[0], known, only_new).score == 0
    nothing = SalienceSettings(novelty=0, importance=0)
    assert score(FACTS[0], "user", "chat", known[0], known, nothing).score > 0.4


def test_scores_stay_between_0_and_1() -> None:
    many = "My sisters Ana, Bea, Cleo and Dora from Rome always call me at 7 on Friday, remember that."
    assert 0.9 <= weigh(many).score <= 1


VERBATIM = [
    ("```\nx = 1\n```", "code"),
    ("def area(r):\n    return 3.14 * r * r", "code"),
    ("for i in range(10): print(i)", "code"),
    ("const total = items.reduce((a, b) => a + b);", "code"),
    ("if (ready) {\n  go();\n}", "code"),
    ("select is nothing, but SELECT name FROM users is", "code"),
    ("Run this: os.remove('x')", "code"),
    ("see https://example.org/a?b=c", "address"),
    ("www.example.org is mine", "address"),
    ('{"name": "Mo", "age": 3}', "data"),
    ('the config is ["a", "b"]', "data"),
    ("word " * 200, "long"),
    ("+49 170 1234567", "numbers"),
    ("My number is 555 0199 2231 77", "numbers"),
]


@pytest.mark.parametrize(("text", "reason"), VERBATIM)
def test_what_must_come_back_letter_by_letter(text: str, reason: str) -> None:
    assert route(text, "chat", "user", RouterSettings()) == ("verbatim", reason)


@pytest.mark.parametrize(
    "text",
    [
        "I paid 20 for dinner; it was fine.",
        "Public transport is free if you are under 18.",
        "For dinner:\nbread and soup",
        "If it rains: bring an umbrella.",
        "I import tea and sell it to cafes (mostly in Rome).",
        "My shop opens at 9.30 and closes at 17.45 every day of the week.",
        "Select a table from the list, she said.",
        "e.g. Mia likes cats [and dogs].",
        "I <3 my dog",
    ],
)
def test_prose_is_not_taken_for_code(text: str) -> None:
    assert route(text, "chat", "user", RouterSettings())[0] == "weights"


def test_the_models_own_words_never_reach_the_weights() -> None:
    assert route("My cat is called Mo.", "chat", "assistant", RouterSettings())[0] == "ignored"
    for kind in ("rag", "code"):
        assert route("My cat is called Mo.", kind, "assistant", RouterSettings())[0] == "verbatim"


def test_limits_of_the_settings_count() -> None:
    assert route("x" * 60, "chat", "user", RouterSettings(long_chars=50))[0] == "verbatim"
    assert route("I am 44.", "chat", "user", RouterSettings(digit_share=0.9))[0] == "weights"
    assert route("I am 44.", "chat", "user", RouterSettings(digit_share=0.1))[0] == "verbatim"
    assert route("anything", "code", "user", RouterSettings())[0] == "verbatim"
    assert route("  ", "chat", "user", RouterSettings())[0] == "ignored"
