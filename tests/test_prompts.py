"""The wording of the night's tasks, and how replies to them are read."""

from __future__ import annotations

from typing import get_args

import pytest

from ada_memory.dream import prompts
from ada_memory.dream.prompts import Claim
from ada_memory.records import DreamKind

DOG, CAPTAIN = Claim("My dog is called Bram."), Claim("Call me Captain.", wish=True)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "Bram.",
        "Q: What is my dog called?",
        "A: Bram.",
        "A: Bram.\nQ: What is my dog called?",
        "Q: What is my dog called? A: Bram.",
        "Q:\nA: Bram.",
        "Q: \nA: Bram.",
        "Q: What is my dog called?\nA:",
        "Q: What is my dog called?\nA:  \n",
        "Q: What is my dog called?\nA: Bram.\nQ: And my cat?",
        "Q: What is my dog called?\nAnd my cat?\nA: Bram.",
        "Here it is.\nQ: What is my dog called?\nA: Bram.",
        "q: What is my dog called?\na: Bram.",
    ],
)
def test_malformed_sample_is_none(reply: str) -> None:
    assert prompts.read_sample(reply) is None


@pytest.mark.parametrize(
    "reply",
    [
        prompts.sample_text("What is my dog called?", "Bram."),
        "\n Q:What is my dog called?  \n\n  A:   Bram. \n",
    ],
)
def test_sample_is_read_without_the_space_around_it(reply: str) -> None:
    assert prompts.read_sample(reply) == ("What is my dog called?", "Bram.")


def test_sample_may_hold_marks_of_its_own() -> None:
    assert prompts.read_sample("Q: Is it Q: or A:?\nA: A: it is.") == ("Is it Q: or A:?", "A: it is.")


@pytest.mark.parametrize(
    "reply", ["", "None.", "None", "Fact:", "- Wish:  ", "Nothing here.", "Factual: no", "I think Fact: no"]
)
def test_nothing_claimed(reply: str) -> None:
    assert prompts.read_claims(reply) == []


def test_claims_survive_being_written_and_read() -> None:
    claims = [DOG, CAPTAIN, Claim("Fact: I like facts.")]
    assert prompts.read_claims(prompts.claims_text(claims)) == claims


def test_empty_claims_are_written_as_none() -> None:
    assert prompts.claims_text([]) == "None."


def test_claims_are_picked_out_of_talk_once_each() -> None:
    lines = (
        "Sure!",
        "- Fact: My dog is called Bram.",
        "* wish:  Call me Captain. ",
        "FACT: My dog is called Bram.",
        "Bye.",
    )
    assert prompts.read_claims("\n".join(lines)) == [DOG, CAPTAIN]


def test_an_empty_claim_does_not_swallow_the_next_line() -> None:
    assert prompts.read_claims("- Fact:\n- Fact: My dog is called Bram.") == [DOG]


def test_the_same_words_as_fact_and_as_wish_are_two_claims() -> None:
    assert len(prompts.read_claims("- Fact: Call me Captain.\n- Wish: Call me Captain.")) == 2


@pytest.mark.parametrize("kind", get_args(DreamKind))
def test_every_kind_can_be_asked_for(kind: DreamKind) -> None:
    [turn] = prompts.dream(kind, [DOG, CAPTAIN])
    assert turn.role == "user"
    assert turn.content.endswith("\nFact: My dog is called Bram.\nWish: Call me Captain.")


def test_kinds_are_asked_for_in_different_words() -> None:
    kinds = get_args(DreamKind)
    assert len({prompts.dream(kind, [DOG]) for kind in kinds}) == len(kinds)
    assert set(prompts.FACT_KINDS) | set(prompts.WISH_KINDS) | {"bridge"} == set(kinds)


def test_verify_and_rewrite_show_every_message_and_the_sample_last() -> None:
    for make in (prompts.verify, prompts.rewrite):
        [turn] = make(["I have a dog.", "It is Bram."], "What is it called?", "Bram.")
        assert turn.content.endswith(
            "\nMessage: I have a dog.\nMessage: It is Bram.\nQ: What is it called?\nA: Bram."
        )


def test_supersede_says_which_is_old() -> None:
    [turn] = prompts.supersede("It was Bram.", "It is Rex.")
    assert turn.content.endswith("\nOld: It was Bram.\nNew: It is Rex.")


def test_recall_puts_memories_in_front_in_their_order() -> None:
    system, asked = prompts.recall(["I have a dog.", "It is Bram."], "What is it called?")
    assert (system.role, system.content) == ("system", "Memories:\n- I have a dog.\n- It is Bram.")
    assert (asked.role, asked.content) == ("user", "What is it called?")
