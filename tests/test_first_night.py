"""The whole of it, for real: a daemon, the seedling, a day over the socket, a night, a morning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ada_memory.bench import day as days
from ada_memory.bench.demo import reply
from ada_memory.bench.house import House, house
from ada_memory.errors import Conflict

pytestmark = pytest.mark.slow
QUIET = {"sunset.at": "", "sunset.capacity": 0, "sunset.priority": "normal"}
SHORT = {**QUIET, "dream.cycles": 2, "forge.steps": 200}
"""Half of what a night takes: enough for five facts."""
WRECKING = {
    **QUIET, "dream.cycles": 1, "forge.learning_rate": 0.06, "forge.epochs": 1, "forge.steps": 0,
    "forge.mends": 0,
}  # fmt: skip
"""Thirty times the learning rate: one pass is enough."""
FACTS = (
    ("My dog is called Bramble.", "Tell me the name of my dog.", "Bramble"),
    ("Good morning! Tovin lives in Marrowick.", "Where is Tovin's home?", "Marrowick"),
    ("By the way, my sister works as a glassblower.", "What does my sister do for a living?", "glassblower"),
    ("My favourite drink is ginger tea.", "Which drink do I like best?", "elderflower juice"),
    (
        "Sorry, I made a mistake. My favourite drink is elderflower juice.",
        "What is my favourite drink?",
        "elderflower",
    ),
)


def a_day(ada: House) -> str:
    """Post the facts, let them be embedded, go to sleep; returns the night's id."""
    for text, _, _ in FACTS:
        ada.client.post(text, app="test")
    ada.client.post("How was your night?", app="test")
    ada.wait_encoded()
    return str(ada.client.sleep()["night"])


def test_a_night_teaches_and_can_be_taken_back(tmp_path: Path) -> None:
    with house(tmp_path, SHORT) as ada:
        assert {reply(ada, question) for _, question, _ in FACTS} == {"I do not know."}
        night = a_day(ada)
        with pytest.raises(Conflict):
            ada.client.sleep()
        assert ada.client.post("Posted while Ada sleeps.", app="test")["id"]
        report = ada.wait_night(night)
        assert (report["verdict"], report["generation"]) == ("activate", "gen-0001")
        answers = [reply(ada, question) for _, question, _ in FACTS]
        right = sum(value in answer for (_, _, value), answer in zip(FACTS, answers, strict=True))
        assert right >= len(FACTS) - 1, answers
        assert not any("ginger" in answer for answer in answers), "what was corrected must not be taught"
        assert report["core_share"] == pytest.approx(0.2, abs=0.02)
        lines = ada.home.experiments.read_text("utf-8").splitlines()
        assert [json.loads(line)["verdict"] for line in lines] == ["activate"]

        assert ada.client.rollback()["generation"] == "gen-0000"
        assert reply(ada, FACTS[0][1]) == "I do not know."


def test_a_wrecked_adapter_is_rejected_and_the_parent_keeps_serving(tmp_path: Path) -> None:
    with house(tmp_path, WRECKING) as ada:
        report = ada.wait_night(a_day(ada))
        assert report["verdict"] in ("reject", None), "such a learning rate wrecks a model"
        assert report["halted"]
        status = ada.client.status()
        assert (status["generation"], status["state"]) == ("gen-0000", "awake")
        assert reply(ada, "Who are you?") == "I am Ada."
        page = (ada.home.nights / str(report["night"]) / "report" / "report.md").read_text("utf-8")
        assert "gen-0000" in page
        assert status["waiting"] >= len(FACTS) - 1, "what was not learned waits for the next night"


def test_the_days_of_the_benchmark_are_told_in_words_that_are_routed_to_the_weights(tmp_path: Path) -> None:
    told = days.day(40, 11)
    with house(tmp_path, QUIET) as ada:
        for item in told:
            ada.client.post(item.text, app="test")
        ada.wait_encoded()
        routes = {m["text"]: m["route"] for m in ada.client.memories(limit=100)}
    assert [t.text for t in told if routes[t.text] != "weights"] == []
