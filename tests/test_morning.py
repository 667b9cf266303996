"""The morning report: what it says after a good night, a refused one, a quiet one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ada_memory.circadian import morning, page
from ada_memory.circadian.bundle import read_bundle
from tests.nights import Mind, whole_night


@pytest.fixture
def mind(tmp_path: Path) -> Iterator[Mind]:
    made = Mind(tmp_path)
    yield made
    made.journal.close()


def read_page(mind: Mind, night: str) -> str:
    return (mind.night(night) / "report" / "report.md").read_text("utf-8")


def test_a_good_night(mind: Mind) -> None:
    cat, odd, slight = mind.say("My cat is | Miso."), mind.say("Odd."), mind.say("Hm.", salience=0.1)
    mind.toy(refused=[odd])
    night = asyncio.run(whole_night(mind))
    report = mind.report(night)
    assert morning.read(mind.night(night)) == report
    assert (report["verdict"], report["active"]) == ("activate", True)
    assert (report["generation"], report["parent"]) == ("gen-0001", "gen-0000")
    assert report["learned"] == [
        {
            "memory": cat, "text": "My cat is | Miso.", "claims": [f"claim of {cat}"], "samples": 2,
            "questions": [f"What about {cat}?"],
        }
    ]
    assert [(row["memory"], row["outcome"]) for row in report["set_aside"]] == [
        (slight, "skipped"), (odd, "set_aside"),
    ]
    assert report["rejected"]["by_reason"] == {"not in the memory": 2}
    assert report["rejected"]["examples"][0]["reply"] == "This."
    assert (report["dreams_made"], report["dreams_accepted"], report["lucidity"]) == (4, 2, [0.5])
    assert report["exam"] == {
        "facts": {"before": 0.9, "after": 0.8, "n": 2}, "identity": {"before": 1.0, "after": 1.0, "n": 1},
    }
    assert report["loss"]["first"] == 3.0 and report["loss"]["last"] == pytest.approx(0.03)
    assert report["loss"]["steps"] == 100 and len(report["loss"]["curve"]) == 60
    assert report["figures"]["map"]["kl"] == "nan", "a figure that is no number stays visible"
    assert set(report["seconds_by_stage"]) == {
        "gather", "dream", "verify", "dataset", "train", "merge", "map", "verdict", "activate",
    }
    loss = (mind.night(night) / "report" / "loss.csv").read_bytes()
    assert loss == (mind.night(night) / "train" / "loss.csv").read_bytes()


def test_what_a_newer_memory_overrides_is_told_in_words(mind: Mind) -> None:
    old = mind.say("My sister lives in Oslo.")
    asyncio.run(whole_night(mind))
    mind.say("My sister lives in Bergen.")
    mind.toy(superseded=[old])
    (row,) = mind.report(asyncio.run(whole_night(mind)))["superseded"]
    assert (row["text"], row["by_text"]) == ("My sister lives in Oslo.", "My sister lives in Bergen.")


def test_the_page_is_for_a_person(mind: Mind) -> None:
    mind.say("My cat is\n# called | Miso.")
    said = read_page(mind, asyncio.run(whole_night(mind)))
    assert "Ada woke as **gen-0001**. She learned 1 memory." in said
    assert "- My cat is # called | Miso. *(2 samples)*\n  - What about m000001-0?" in said
    assert "| facts | 90% | 80% | -10.0 |" in said
    assert "`ada rollback` lets gen-0000 serve again" in said
    assert "@" in said.split("```")[1]


def test_the_questions_that_are_shown_are_unlike(mind: Mind) -> None:
    mind.say("My cat is called Miso.")
    night = asyncio.run(whole_night(mind))
    file = mind.night(night) / "dataset" / "train.jsonl"
    row = json.loads(next(line for line in file.read_text("utf-8").splitlines() if '"question"' in line))
    asked = [
        "What is my cat called?", "Do you know what my cat is called?", "So what is my cat called?",
        "Tell me the name of my cat.", "Who is Miso?",
    ]  # fmt: skip
    rows = [
        row | {"dream": str(at), "messages": [{"role": "user", "content": said}, row["messages"][-1]]}
        for at, said in enumerate(asked)
    ]
    file.write_text("".join(json.dumps(one) + "\n" for one in rows), "utf-8")
    assert morning.build(read_bundle(mind.night(night)))["learned"][0]["questions"] == [
        asked[0], asked[3], asked[4],
    ]  # fmt: skip


def test_a_refused_night_claims_nothing(mind: Mind) -> None:
    mind.say("My cat is called Miso.")
    mind.toy(verdict="reject")
    night = asyncio.run(whole_night(mind))
    report, said = mind.report(night), read_page(mind, night)
    assert (report["active"], report["generation"], report["learned"]) == (False, "gen-0000", [])
    assert report["halted"] == {"stage": "verdict", "reason": "rejected: kl = missing"}
    assert "There is nothing to roll back: gen-0000 still serves." in said
    assert "**decided**" in said and "What was learned" not in said
    assert "wait for the next night" in said


def test_a_quiet_night(mind: Mind) -> None:
    said = read_page(mind, asyncio.run(whole_night(mind)))
    assert "A quiet night: nothing waits to be learned. gen-0000 keeps serving." in said
    assert "None" not in said and "nan" not in said


def test_one_line_a_night_in_experiments(mind: Mind) -> None:
    mind.say("My cat is called Miso.")
    night = asyncio.run(whole_night(mind))
    morning.write(read_bundle(mind.night(night)), mind.night(night) / "report", mind.home.experiments)
    (line,) = mind.home.experiments.read_text("utf-8").splitlines()
    found = json.loads(line)
    assert found["learned"] == 1 and found["night"] == night
    assert found["exam_before"] == pytest.approx((0.9 * 2 + 1.0) / 3)
    assert found["exam_after"] == pytest.approx((0.8 * 2 + 1.0) / 3)


def test_a_report_can_be_written_of_any_wreck(mind: Mind, tmp_path: Path) -> None:
    mind.say("My cat is called Miso.")
    night = asyncio.run(whole_night(mind, "gather"))
    report = morning.build(read_bundle(mind.night(night)))
    assert (report["active"], report["dreams_made"], report["exam"]) == (False, None, {})
    assert page.page(report)


def test_the_sparkline_is_one_line_of_ascii() -> None:
    line = page.sparkline([3.0, 1.5, float("nan"), 0.0])
    assert len(line) == 4 and line.isascii()
    assert (line[0], line[2], line[3]) == ("@", "?", "_")
    assert page.sparkline([1.0, 1.0]) == "__" and page.sparkline([]) == ""
