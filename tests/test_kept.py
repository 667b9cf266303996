"""What is kept and why, as apps and people see it; with a daemon whose model reads 256 tokens only."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from ada_memory.cli import main
from ada_memory.client import Client
from ada_memory.errors import NotFound
from tests.daemons import Running, running, short_folder
from tests.models import tiny_model

FORM = "The parking form is at https://city.example/forms/parking?id=77&lang=en."
CODE = "def retry(call, times=3):\n" + "\n".join(f"    step_{n} = call(times, {n})" for n in range(60)) + "\n"
STAYED_OUT = ("I slept badly.", "Can you sum this up?")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    model = tiny_model(tmp_path_factory.mktemp("model"))
    sets = (f"model.name={model}", "sunset.capacity=0", "model.threads=1")
    with short_folder() as short, running(short / "home", short / "s", *sets) as alive:
        with alive.client() as ada:
            for text in ("My cat is called Mo.", *STAYED_OUT, f"Hello! {FORM} I live in Lisbon.", CODE):
                ada.post(text)
            deadline = time.monotonic() + 120
            while ada.status()["counts"]["unencoded"]:
                assert time.monotonic() < deadline, alive.said()
                time.sleep(0.05)
        yield alive


@pytest.fixture
def ada(daemon: Running) -> Iterator[Client]:
    with daemon.client() as client:
        yield client


def test_every_memory_says_why(ada: Client) -> None:
    why = {memory["text"]: memory["why"] for memory in ada.memories()}
    assert why["My cat is called Mo."] == "something of yours, a name, new"
    assert why["I slept badly."] == "stayed out: a passing state"
    assert why["Can you sum this up?"] == "stayed out: a question"
    assert why[FORM] == "verbatim: an address, new"
    assert {memory["text"] for memory in ada.memories(routes=["ignored"])} >= set(STAYED_OUT)
    kept = ada.memories(routes=["weights", "verbatim"])
    assert [memory["id"] for memory in kept] == ["m000005-0", "m000004-2", "m000004-1", "m000001-0"]
    one = ada.memory("m000004-1")
    assert (one["text"], one["reasons"]["verbatim:address"]) == (FORM, 1)
    with pytest.raises(NotFound):
        ada.memory("m000099-0")


def test_an_app_gets_back_what_was_posted_letter_by_letter_though_the_model_cannot_read_it(
    ada: Client,
) -> None:
    reply = ada.chat("How did I write the retry function?", max_tokens=16, remember=False)
    best = reply["ada"]["recalled"][0]
    assert (best["text"], best["route"]) == (CODE, "verbatim")
    assert best["read"] in ("part", "no")
    assert reply["usage"]["prompt_tokens"] <= 256 - 16
    form = ada.chat("What was the link to the parking form?", max_tokens=16, remember=False)
    assert [(one["text"], one["read"]) for one in form["ada"]["recalled"]][0] == (FORM, "whole")


def test_the_command_line_shows_reasons(daemon: Running, capsys: pytest.CaptureFixture[str]) -> None:
    def ada(*words: str) -> str:
        main([*words, "--home", str(daemon.home), "--set", f"socket.path={daemon.socket}"])
        out = capsys.readouterr()
        return out.out + out.err

    listed = ada("memories")
    assert "names you" in listed or "something of yours" in listed
    assert "slept" not in listed
    assert "stayed out: a passing state" in ada("memories", "--all")
    assert "Lisbon" not in ada("memories", "--route", "ignored")
    assert "verbatim: an address" in ada("memories", "m000004-1")
    assert json.loads(ada("memories", "m000004-1", "--json"))["text"] == FORM
    assert "not searched" in ada("memories", "cats", "--all")
