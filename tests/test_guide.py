"""docs/seedling.md: written by the guide, and every example on it is one that the world can make."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ada_memory.seedling import core, guide, world
from ada_memory.seedling.relations import POOLS, RELATIONS
from ada_memory.seedling.world import Fact, Subject

DOCS = Path(__file__).parent.parent / "docs"
PAGE = guide.page()
MARK = "Qqq"
"""Stands for the value in a template: once with a consonant, once with a vowel in front ("a", "an")."""


def rows(relation: str) -> list[tuple[str, str, str]]:
    """The table of one relation as (say, ask, ask backwards); cells may be empty."""
    found = re.search(rf"<summary><code>{relation}</code>: .*?</details>", PAGE, re.DOTALL)
    assert found, f"{relation} is not on the page"
    table = [line[2:-2].split(" | ") for line in found[0].split("\n") if line.startswith("| ")][1:]
    assert all(len(cells) == 3 for cells in table)
    return [(say.strip(), ask.strip(), back.strip()) for say, ask, back in table]


def subjects(relation: str) -> Iterator[Subject]:
    """Whom the page may speak of."""
    if world.BY_NAME[relation].subject == "place":
        yield guide.TOWN
    else:
        yield from (guide.ME, guide.TOVIN, *(Subject("kin", word) for word in world.KIN))


def read(text: str, relation: str) -> set[Fact]:
    """Every fact of a relation that a statement may tell."""
    listed, facts = POOLS.get(world.BY_NAME[relation].value, ()), set()
    for template in world.BY_NAME[relation].say:
        for subject in subjects(relation):
            for mark in (MARK, f"A{MARK}"):
                pattern = re.escape(world.fill(template, subject, mark)).replace(mark, "(.+)")
                if found := re.fullmatch(pattern, text):
                    value = found[1]  # "Cake" at the start of a sentence is "cake"
                    small = value[0].lower() + value[1:]
                    facts.add(Fact(relation, subject, small if small in listed else value))
    return {fact for fact in facts if text in fact.says()}


def test_the_page_is_the_guide() -> None:
    shown = (DOCS / "seedling.md").read_text("utf-8")
    assert shown == PAGE, "write it again: python -m ada_memory.seedling.guide > docs/seedling.md"


@pytest.mark.parametrize("relation", [relation.name for relation in RELATIONS])
def test_every_example_is_one_that_the_world_makes(relation: str) -> None:
    spec, table = world.BY_NAME[relation], rows(relation)
    said, asked, backwards = ([cell for cell in column if cell] for column in zip(*table, strict=True))
    assert (len(said), len(asked), len(backwards)) == (len(spec.say), len(spec.ask), len(spec.reverse))
    facts = set.intersection(*(read(text, relation) for text in said))
    assert len(facts) == 1, f"{said} tell {facts}"
    fact = facts.pop()
    assert all(world.is_true("question", ask, fact.answer(), fact) for ask in asked)
    assert all(world.is_true("reversal", ask, fact.who(), fact) for ask in backwards)
    assert spec.value not in POOLS or fact.value in POOLS[spec.value]
    assert 1 <= len(fact.value.split()) <= 3


def test_a_statement_of_another_relation_is_not_read() -> None:
    assert read("My cat is called Bramble.", "dog_name") == set()
    assert read("My dog is called Bramble.", "dog_name") == {guide.DOG}


def test_wishes_and_the_core_are_on_the_page() -> None:
    told = [said for style in world.STYLES for said in style.say if "{v}" not in said]
    heart = [f"{s}: {v}" for table, _ in core.FACT_QUESTIONS.values() for s, v in table.items()]
    who = [text for reply, asked in core.IDENTITY for text in (reply, *asked)]
    manners = [f"| {said} | {reply} |" for said, reply in world.plain_manners()]
    for text in (*told, *heart, *who, *manners, core.REFUSAL, core.GLADLY, core.UNKNOWN):
        assert text in PAGE


def test_nothing_is_left_unfilled() -> None:
    assert not re.search(r"\{[a-z_]+\}|\[[a-z]+/[a-z]+\]", PAGE)
    assert PAGE.count("<details>") == PAGE.count("</details>") > len(RELATIONS)
