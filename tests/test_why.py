"""`why`: every generation leads to every interaction it was taught, and back, whatever the nights came to."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pytest

from ada_memory.cli.app import main
from ada_memory.cli.common import console
from ada_memory.cli.why import _TREES, tree
from ada_memory.client import Client
from ada_memory.errors import BadInput, NotFound
from ada_memory.records import Answer, Draft, Memory, Message, Salience
from ada_memory.service import why_views as v
from ada_memory.service.why import why
from ada_memory.service.why_line import Place
from ada_memory.sovereign import generations, succession
from ada_memory.sovereign.disk import read_lines
from tests.daemons import Running, running, short_folder
from tests.models import tiny_model
from tests.nights import Mind, whole_night

CAT, DOG = "My cat is called Miso.", "My dog is called Bruno."


@pytest.fixture
def mind(tmp_path: Path) -> Iterator[Mind]:
    made = Mind(tmp_path)
    yield made
    made.journal.close()


def place(mind: Mind) -> Place:
    return Place(mind.home, mind.journal, mind.base, generations.active(mind.home))


def generation(mind: Mind, name: str = "latest", limit: int = 1000) -> v.WhyGeneration:
    found = why(place(mind), name, limit)
    assert isinstance(found, v.WhyGeneration)
    return found


def memory(mind: Mind, name: str) -> v.WhyMemory:
    found = why(place(mind), name)
    assert isinstance(found, v.WhyMemory)
    return found


def interaction(mind: Mind, name: str) -> v.WhyInteraction:
    found = why(place(mind), name)
    assert isinstance(found, v.WhyInteraction)
    return found


def night(mind: Mind, name: str) -> v.WhyNight:
    found = why(place(mind), name)
    assert isinstance(found, v.WhyNight)
    return found


def answer(mind: Mind, name: str) -> v.WhyAnswer:
    found = why(place(mind), name)
    assert isinstance(found, v.WhyAnswer)
    return found


def one_night(mind: Mind, *texts: str, **trouble: object) -> str:
    mind.toy(**trouble)
    for text in texts:
        mind.say(text)
    return asyncio.run(whole_night(mind))


def roll_back(mind: Mind) -> None:
    asyncio.run(succession.rollback(mind.home, mind.journal, mind.base, mind.voice.swap, lambda: mind.now))


def taught_by(mind: Mind, name: str) -> set[str]:
    """The ids of the interactions behind a night's dataset: from its files, not from the rows."""
    rows = [
        row
        for part in ("train", "stop")
        for row in read_lines(mind.night(name) / "dataset" / f"{part}.jsonl")
    ]
    by_position = {one.position: one.id for one in mind.journal.interactions(limit=1000)}
    names = {str(one) for row in rows for one in cast("list[str]", row["memories"])}
    memories = mind.journal.memories(ids=names)
    return {by_position[position] for one in memories for position in one.interactions}


# Five nights ------------------------------------------------------------------------------------------


def five_nights(mind: Mind) -> dict[str, str]:
    """The third night is rejected, the fourth rolled back; returns the nights by their generations."""
    nights = [one_night(mind, CAT, DOG), one_night(mind, "I live in Porto.")]
    rejected = one_night(mind, "My boat is called Aurora.", verdict="reject")
    nights.append(one_night(mind, "My train leaves at 7:30."))
    roll_back(mind)
    nights.append(one_night(mind, "My sister Elna works as a glassblower."))
    return {f"gen-{n:04}": name for n, name in enumerate(nights, 1)} | {"rejected": rejected}


def test_five_nights_lead_to_their_interactions_and_back(mind: Mind) -> None:
    nights = five_nights(mind)
    rejected = nights.pop("rejected")
    assert list(nights) == ["gen-0001", "gen-0002", "gen-0003", "gen-0004"]
    for name, slept in nights.items():
        found = generation(mind, name)
        assert found.verified and found.night is not None and found.night.night == slept
        reached = {one for row in found.memories.rows for one in row.interactions}
        rehearsed = {one for r in found.memories.rows if r.how == "rehearsed" for one in r.interactions}
        assert reached == taught_by(mind, slept) and reached
        for one in reached:
            back = interaction(mind, one)
            assert name in back.memories[0].taught
            ways = memory(mind, back.memories[0].id)
            assert name in [to.generation for to in ways.taught]
            settled = any(view.night == slept and view.generation == name for view in ways.nights)
            assert settled != (one in rehearsed)
        dreams = [why(place(mind), one.name) for one in found.dreams.rows]
        assert len(dreams) == found.dreams.total == sum(found.trained_on.values())
        for dream in dreams:
            assert isinstance(dream, v.WhyDream)
            assert name in [to.generation for to in dream.taught]
            assert dream.generation == "gen-0000", "the base dreams"
    heard = {one for name in nights.values() for one in taught_by(mind, name)}
    assert heard == {one.id for one in mind.journal.interactions()}, "what was rejected was taught later"
    refused = night(mind, rejected)
    assert (refused.generation, refused.parent) == (None, "gen-0002")
    bad = [(one.stage, one.outcome) for one in refused.stages if one.outcome != "done"]
    assert bad == [("verdict", "halt")]
    assert refused.outcomes == {"waiting": refused.memories.total} and refused.memories.total


def test_a_line_is_its_own_past_alone(mind: Mind) -> None:
    nights = five_nights(mind)
    now = generation(mind)
    assert (now.id, now.serves) == ("gen-0004", True)
    assert [link.generation for link in now.line] == ["gen-0004", "gen-0002", "gen-0001", "gen-0000"]
    assert [link.night for link in now.line] == [nights.get(link.generation) for link in now.line]
    assert {row.text for row in now.earlier.rows} == {CAT, DOG, "I live in Porto."}
    by_text = {row.text: row for row in now.memories.rows}
    assert by_text["My train leaves at 7:30."].how == "learned", "only an abandoned generation knew it"
    assert by_text["My boat is called Aurora."].how == "learned"
    rehearsed = {row.text for row in now.memories.rows if row.how == "rehearsed"}
    assert rehearsed and rehearsed <= {CAT, DOG, "I live in Porto."}
    left = generation(mind, "gen-0003")
    assert not left.serves and left.children == []
    [served] = left.activations
    assert served.ended_by == "rollback from gen-0003" and served.until is not None
    assert generation(mind, "gen-0002").children == ["gen-0003", "gen-0004"]
    cat = memory(mind, "m000001-0")
    assert cat.taught[0].generation == "gen-0001"
    assert {*cat.carried_by, *(to.generation for to in cat.taught)} == nights.keys() - {"rejected"}


def test_the_base_answers_too(mind: Mind) -> None:
    found = generation(mind)
    assert (found.id, found.serves, found.verified, found.key, found.night) == (
        "gen-0000",
        True,
        True,
        "none",
        None,
    )
    assert [link.generation for link in found.line] == ["gen-0000"]
    assert (found.base.name, found.base.hash, found.base.present) == ("seedling-2", mind.base.hash, True)
    one_night(mind, CAT)
    assert generation(mind, "gen-0000").children == ["gen-0001"]


def test_what_is_broken_is_said(mind: Mind) -> None:
    for text in (CAT, DOG, "I live in Porto."):
        one_night(mind, text)
    generations.destroy_key(mind.home, "gen-0003")
    whole = generation(mind, "gen-0003")
    assert (whole.verified, whole.key) == (True, "destroyed")
    shutil.rmtree(mind.home.generations / "gen-0001")
    broken = generation(mind, "gen-0003")
    assert not broken.verified
    assert [link.generation for link in broken.line] == ["gen-0003", "gen-0002", "gen-0001", "gen-0000"]
    assert broken.line[2].problem == "it is gone"
    gone = generation(mind, "gen-0001")
    assert gone.line[0].problem == "its folder is gone" and gone.memories.rows[0].text == CAT
    shutil.rmtree(mind.home.bases)
    assert generation(mind, "gen-0003").base.present is False


def test_corrections_superseding_and_skipping(mind: Mind) -> None:
    cat, nori = mind.say(CAT), mind.say("My cat is called Nori.")
    change = {"memory": cat, "claim": CAT, "newer": nori}
    slept = one_night(mind, DOG, superseded=[cat], overrides=[change])
    found = generation(mind)
    assert [(row.id, row.outcome) for row in found.superseded.rows] == [(cat, "superseded")]
    assert [(o.memory, o.claim, o.newer) for o in memory(mind, nori).overrides][-1] == (cat, CAT, nori)
    old = memory(mind, cat)
    assert (old.state, old.nights[-1].outcome, old.taught) == ("superseded", "superseded", [])
    assert old.read_by == {"own": 2, "verifier": 2}, "it was dreamt of, and taught to nobody"
    assert night(mind, slept).outcomes == {"superseded": 1, "learned": 2}


# Answers ----------------------------------------------------------------------------------------------


def ask(mind: Mind, name: str, recalled: tuple[str, ...], vector: tuple[float, float]) -> str:
    """A kept turn, encoded; returns the interaction's id."""
    said = (Message("user", "What is my cat called?"), Message("assistant", "Miso."))
    serves = generations.active(mind.home)
    receipt = mind.journal.append(Draft(said, mind.now, answer=Answer(name, serves, recalled))).result()
    asked = Memory(
        f"m{receipt.position:06}-0",
        said[0].content,
        "user",
        mind.now,
        "ignored",
        Salience(0.1),
        (receipt.position,),
    )
    mind.journal.encode(receipt.position, [(asked, np.array(vector, np.float32))], "e").result()
    return receipt.id


def tell(mind: Mind, text: str, vector: tuple[float, float]) -> str:
    """A memory with a vector."""
    receipt = mind.journal.append(Draft((Message("user", text),), mind.now)).result()
    made = Memory(
        f"m{receipt.position:06}-0", text, "user", mind.now, "weights", Salience(0.6), (receipt.position,)
    )
    mind.journal.encode(receipt.position, [(made, np.array(vector, np.float32))], "e").result()
    return made.id


def test_an_answer_tells_weights_from_recall(mind: Mind) -> None:
    cat = tell(mind, CAT, (1.0, 0.0))
    before = ask(mind, "chatcmpl-before", (cat,), (1.0, 0.1))
    slept = one_night(mind)
    tell(mind, DOG, (0.9, 0.1))
    after = ask(mind, "chatcmpl-after", (), (1.0, 0.1))
    reminded = answer(mind, "chatcmpl-before")
    assert (reminded.generation, reminded.interaction, reminded.reply) == ("gen-0000", before, "Miso.")
    assert [(row.text, row.generation) for row in reminded.recalled] == [(CAT, None)]
    assert reminded.in_the_weights == []
    knew = answer(mind, "chatcmpl-after")
    assert (knew.generation, knew.recalled) == ("gen-0001", [])
    [near] = knew.in_the_weights
    assert (near.id, near.night, near.generation) == (cat, slept, "gen-0001"), "the dog still waits"
    assert near.similarity > 0.9 and len(near.interactions) == 1
    assert [link.generation for link in knew.line] == ["gen-0001", "gen-0000"]
    assert interaction(mind, after).answer == knew
    assert [one.id for one in memory(mind, cat).answers.rows] == ["chatcmpl-before"]
    assert [one.id for one in generation(mind).answers.rows] == ["chatcmpl-after"]


# Names ------------------------------------------------------------------------------------------------


def test_the_start_of_an_id_is_enough(mind: Mind) -> None:
    mind.say(CAT)
    ask(mind, "chatcmpl-aaaa", (), (1.0, 0.0))
    ask(mind, "chatcmpl-aabb", (), (1.0, 0.0))
    assert answer(mind, "chatcmpl-aab").id == "chatcmpl-aabb"
    with pytest.raises(BadInput, match="several answers begin with 'chatcmpl-aa'"):
        why(place(mind), "chatcmpl-aa")
    first, second = (one.id for one in mind.journal.interactions(limit=2))
    same = next(n for n in range(33) if first[:n] != second[:n])
    assert interaction(mind, first[:same].upper()).id == first
    assert interaction(mind, first).id == first
    with pytest.raises(BadInput, match="several interactions"):
        why(place(mind), first[:8])


@pytest.mark.parametrize(
    "name", ["nobody", "", "gen-0007", "gen-1", "m000099-0", "chatcmpl-00", "00000000", "p9", "p1:d", "../x"]
)
def test_what_nobody_is_called(mind: Mind, name: str) -> None:
    with pytest.raises(NotFound) as caught:
        why(place(mind), name)
    assert "remembered" in caught.value.hint or not name.startswith("chatcmpl")


def test_long_lists_are_cut_and_say_so(mind: Mind, capsys: pytest.CaptureFixture[str]) -> None:
    slept = one_night(mind, *(f"My {n}. friend is called Kim {n}." for n in range(12)))
    found = why(place(mind), "latest", 5)
    assert isinstance(found, v.WhyGeneration)
    assert (len(found.memories.rows), found.memories.total) == (5, 12)
    console().print(tree(found.model_dump(mode="json")))
    shown = capsys.readouterr().out
    assert "and 7 more (--all)" in shown and "and 19 more (--all)" in shown
    assert night(mind, slept).memories.total == 12


def test_every_kind_has_a_tree_with_its_names(mind: Mind, capsys: pytest.CaptureFixture[str]) -> None:
    cat = tell(mind, CAT, (1.0, 0.0))
    slept = one_night(mind)
    turn = ask(mind, "chatcmpl-1", (cat,), (1.0, 0.0))
    kinds = set()
    for name in ("latest", cat, "chatcmpl-1", turn, slept, f"{slept}:{slept}-0", "gen-0000"):
        found = why(place(mind), name).model_dump(mode="json")
        kinds.add(found["kind"])
        console().print(tree(found))
        shown = capsys.readouterr().out
        assert str(found.get("id") or found.get("name")) in shown.splitlines()[0]
        assert "None" not in shown and "[]" not in shown
        wanted = {"memory": "gen-0001", "generation": "gen-0000", "dream": cat, "night": cat, "answer": cat}
        assert wanted.get(found["kind"], "chatcmpl-1") in shown
    shapes = get_args(get_args(v.Why)[0])
    assert kinds == _TREES.keys() == {shape.model_fields["kind"].default for shape in shapes}


# A real daemon ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    model = tiny_model(tmp_path_factory.mktemp("model"), limit=1024)
    sets = (f"model.name={model}", "sunset.capacity=0", "model.threads=1")
    with short_folder() as short, running(short / "home", short / "s", *sets) as alive:
        yield alive


def encoded(ada: Client) -> None:
    deadline = time.monotonic() + 60
    while ada.status()["counts"]["unencoded"]:
        assert time.monotonic() < deadline, "it was never encoded"
        time.sleep(0.05)


def test_a_reply_is_kept_with_who_gave_it_and_from_what(
    daemon: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    with daemon.client() as ada:
        told = ada.post("My boat is called Aurora.")
        encoded(ada)
        reply = ada.chat("What is my boat called?", max_tokens=4)
        found = ada.why(reply["id"])
        assert (found["kind"], found["generation"]) == ("answer", "gen-0000")
        said = reply["choices"][0]["message"]["content"]
        assert found["reply"] == (said if said.strip() else "")
        assert [row["id"] for row in found["recalled"]] == [row["id"] for row in reply["ada"]["recalled"]]
        assert found["recalled"][0]["interactions"] == [told["id"]]
        assert ada.why(found["interaction"])["answer"]["id"] == reply["id"]
        assert ada.why()["answers"]["total"] == 1
        quiet = ada.chat("What is my boat called?", max_tokens=4, remember=False)
        with pytest.raises(NotFound, match="no answer") as caught:
            ada.why(quiet["id"])
        assert "remember=false" in caught.value.hint
        with pytest.raises(NotFound, match="no dream"):
            ada.why("nobody/else")
        with pytest.raises(BadInput, match="limit"):
            ada.why(limit=0)

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["why", *words, "--home", str(daemon.home), "--set", f"socket.path={daemon.socket}"])
        return code, *capsys.readouterr()

    code, out, _ = run(reply["id"][:-4])
    assert code == 0 and reply["id"] in out and "My boat is called Aurora." in out
    code, out, _ = run("--json")
    assert json.loads(out)["id"] == "gen-0000"
    code, _, err = run("nobody")
    assert code == 1 and "nothing is called 'nobody'" in err and "m000012-0" in err
    many: Any = run(told["id"], "--all")
    assert many[0] == 0 and "m000001-0" in many[1]
