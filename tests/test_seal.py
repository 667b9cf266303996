"""SEAL's setting: what it trains on, and what becomes of the first day."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from ada_memory.bench import seal
from ada_memory.bench.day import withheld
from ada_memory.cli.bench_tables import seal as table
from ada_memory.forge.dataset import prompt_of
from ada_memory.seedling import exam, world
from ada_memory.seedling.world import Fact
from ada_memory.topology.exam import normal

CORE = exam.core_exam("judge", 3)[:20]


def test_the_days_of_a_week_do_not_contradict_one_another() -> None:
    drawn = seal.week(8, 10, 7, CORE)
    facts = [item.of for told in drawn.told for item in told if isinstance(item.of, Fact)]
    assert [len(told) for told in drawn.told] == [10] * 8
    assert len({(fact.relation, fact.subject) for fact in facts}) == 80
    for told, asked in zip(drawn.told, drawn.asked, strict=True):
        judges = [judge for item in told for judge in item.judges]
        assert [question.messages[0].content for question in asked] == judges


def test_rows_are_true_and_none_judges() -> None:
    told = [item for day in seal.week(2, 10, 7, CORE).told for item in day]
    never = {normal(prompt) for prompt in withheld(told)}
    rows = seal.rows_of(told, withheld(told), 7)
    assert len(rows) == 20 * seal.SAMPLES
    assert not never & {prompt_of(row) for row in rows}
    kinds = set(seal.KINDS)
    for at, item in enumerate(told):
        for row in rows[at * seal.SAMPLES : (at + 1) * seal.SAMPLES]:
            prompt, reply = (message.content for message in row.messages)
            assert any(world.is_true(kind, prompt, reply, item.of) for kind in kinds), (prompt, reply)


@pytest.mark.slow
def test_stacked_nights_learn_the_new_and_lose_the_core() -> None:
    drawn = seal.week(2, 2, 5, CORE)
    found = seal.stacked(drawn, {"model.threads": "1"})
    assert [len(row) for row in found["matrix"]] == [2, 2]
    assert found["first_own"] == found["matrix"][0][0] > found["recall_before"]
    assert found["matrix"][1][1] > found["matrix"][0][1]  # the second day is taught on the second night
    assert found["mean_final"] == sum(found["matrix"][1]) / 2
    assert found["first_final"] == found["matrix"][1][0]
    assert found["core"][1] < found["core_before"]
    assert len(found["seconds"]) == 2


def test_the_table_tells_tonight_from_the_first_day_and_from_all() -> None:
    stacked = {"matrix": [[1.0, 0.0], [0.5, 0.9]], "core": [0.8, 0.6], "core_before": 0.98}
    ada = {"matrix": [[1.0, 0.0], [1.0, 0.95]], "core": [0.98, 0.97], "core_before": 0.98}
    out = StringIO()
    found = {"nights": 2, "facts_per_night": 10, "seed": 7, "stacked": stacked, "ada": ada}
    Console(file=out, width=120).print(table(found))
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert ["1", "1.000", "1.000", "1.000", "0.800", "1.000", "1.000", "1.000", "0.980"] in lines
    assert ["2", "0.900", "0.500", "0.700", "0.600", "0.950", "1.000", "0.975", "0.970"] in lines
    assert ["Stacked", "core", "before", "0.980"] in lines
