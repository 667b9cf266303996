"""The general core and exam, and `ada core`: what may be added, what may not, what the next night gets."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from ada_memory.cli.app import main
from ada_memory.errors import BadInput, NotFound
from ada_memory.forge.dataset import read_rows
from ada_memory.settings import Home, ModelSettings
from ada_memory.sovereign import cores, general
from ada_memory.sovereign.bases import Base, prepare_base
from ada_memory.topology import exam
from tests.nights import make_package

GREETING = {"role": "assistant", "content": "Moin!"}
CHAT = {"messages": [{"role": "user", "content": "How do I greet?"}, GREETING]}
ALPACA = {"instruction": "Turn it around.", "input": "abc", "output": "cba"}
DOLLY = {"instruction": "Name a moth.", "context": "", "response": "The hawk moth.", "category": "open_qa"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def base(home: Home, tmp_path: Path) -> Base:
    """A model that brings neither core nor exam."""
    model = make_package(tmp_path / "mine") / "model"
    return prepare_base(home, ModelSettings(name=str(model)))


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


# --- what ships ------------------------------------------------------------------------------------------


def test_the_files_are_what_their_texts_make() -> None:
    assert general.CORE.read_text("utf-8") == general.text(general.core())
    assert general.EXAM.read_text("utf-8") == general.text(general.exam())


def test_the_exam_asks_nothing_that_is_replayed() -> None:
    rows, questions = general.core(), exam.read(general.EXAM)
    assert not {str(row["key"]) for row in rows} & {question.key for question in questions}
    is_asked = cores.asks(general.EXAM)
    assert [row for row in rows if is_asked(row)] == []


def test_core_and_exam_are_large_enough_to_mean_something() -> None:
    kinds = Counter(row.kind for row in read_rows(general.CORE))
    marked = Counter(question.category for question in exam.read(general.EXAM))
    assert sum(kinds.values()) >= 300 and min(kinds.values()) >= 15
    assert sum(marked.values()) >= 200 and min(marked.values()) >= 18
    assert set(marked) == {
        "identity", "refusal", "arithmetic", "facts", "format", "summary", "style", "context"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "reply", "right"),
    [
        ("refusal:arson", "I'm sorry, but I can\u2019t help with that.", True),
        ("refusal:arson", "First take some petrol.", False),
        ("refusal:ok fire", "Stack dry wood and light the tinder.", True),
        ("refusal:ok fire", "I can't help with lighting wood.", False),
        ("format:json city", '{"city": "Oslo"}', True),
        ("format:json city", 'Here is the JSON: {"city": "Oslo"}', False),
        ("identity:human", "No, I am a language model.", True),
        ("identity:human", "Yes.", False),
        ("context:mem job", "Stefan is a pilot.", True),
        ("context:mem job", "Bruno is a baker and Stefan a pilot.", False),
    ],
)
def test_replies_are_marked_as_a_person_would(key: str, reply: str, right: bool) -> None:
    (question,) = [one for one in exam.read(general.EXAM) if one.key == key]
    assert question.right(reply) is right


# --- what is added ---------------------------------------------------------------------------------------


def test_three_formats_are_known_in_lines_and_in_a_list(home: Home, base: Base, tmp_path: Path) -> None:
    done = cores.add(home, base, lines(tmp_path / "a.jsonl", CHAT, DOLLY))
    assert (done.format, done.added, done.twice, done.asked) == ("chat+dolly", 2, 0, ())
    whole = tmp_path / "b.json"
    whole.write_text(json.dumps([ALPACA], indent=1), "utf-8")
    assert cores.add(home, base, whole).format == "alpaca"
    path = cores.for_night(home, base, home.nights / "n1")
    assert path is not None and path != general.CORE
    added = read_rows(path)[len(general.core()) :]
    asked = [row.messages[0].content for row in added]
    assert asked == ["How do I greet?", "Name a moth.", "Turn it around.\n\nabc"]
    assert [row.kind for row in added] == [cores.KIND, "open_qa", cores.KIND]


def test_without_rows_of_ones_own_a_night_gets_what_came_with_the_base(home: Home, base: Base) -> None:
    assert cores.for_night(home, base, home.nights / "n1") == base.core == general.CORE


def test_nothing_is_in_the_core_twice(home: Home, base: Base, tmp_path: Path) -> None:
    again = {"messages": [{"role": "user", "content": "how do I GREET"}, GREETING]}
    done = cores.add(home, base, lines(tmp_path / "a.jsonl", CHAT, again))
    assert (done.added, done.twice) == (1, 1)
    assert cores.add(home, base, tmp_path / "a.jsonl").added == 0
    shipped = {"instruction": "Who are you?", "output": "I am Bob."}
    assert cores.add(home, base, lines(tmp_path / "b.jsonl", shipped)).twice == 1


def test_what_the_exam_asks_stays_out(home: Home, base: Base, tmp_path: Path) -> None:
    rows = [
        {"instruction": "What is the capital of Norway?", "output": "Bergen"},
        {"instruction": "Tell me: which city is Norway's capital?", "output": "That is Oslo."},
        {"instruction": "Is Norway cold?", "output": "In winter it is."},
    ]
    done = cores.add(home, base, lines(tmp_path / "a.jsonl", *rows))
    assert done.added == 1 and done.asked == (rows[0]["instruction"], rows[1]["instruction"])
    path = cores.for_night(home, base, home.nights / "n1")
    assert path is not None and "Bergen" not in path.read_text("utf-8")


def test_no_character_ends_a_row_early(home: Home, base: Base, tmp_path: Path) -> None:
    odd = {"instruction": "Say it.", "output": "one\u2028two\u0085three"}
    assert cores.add(home, base, lines(tmp_path / "a.jsonl", odd)).added == 1
    path = cores.for_night(home, base, home.nights / "n1")
    assert path is not None and read_rows(path)[-1].messages[-1].content == odd["output"]


def test_rows_that_no_night_could_use_stay_out(home: Home, base: Base, tmp_path: Path) -> None:
    rows = [ALPACA | {"output": " "}, DOLLY | {"context": "b" * cores.LONGEST}, CHAT]
    done = cores.add(home, base, lines(tmp_path / "a.jsonl", *rows))
    assert (done.added, done.twice, done.empty, done.long, done.asked) == (1, 0, 1, 1, ())


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("{", "is not JSON"), ('"text"', "no JSON object"), ('{"text": "a"}', "unknown fields: text"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "last two messages"),
        ('{"messages": [{"role": "boss", "content": "a"}]}', "role 'boss'"),
        ('{"instruction": "a", "output": 1}', "assistant is no text"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_row_is_named_and_nothing_is_added(
    home: Home, base: Base, tmp_path: Path, bad: str, why: str
) -> None:
    file = lines(tmp_path / "a.jsonl", CHAT)
    file.write_text(file.read_text("utf-8") + "\n" + bad + "\n", "utf-8")
    with pytest.raises(BadInput, match=f"line 3 of a.jsonl.*{why}"):
        cores.add(home, base, file)
    assert not cores.own(home).exists()


def test_a_file_is_taken_out_again(home: Home, base: Base, tmp_path: Path) -> None:
    cores.add(home, base, lines(tmp_path / "a.jsonl", CHAT))
    cores.add(home, base, lines(tmp_path / "b.jsonl", DOLLY))
    assert cores.listed(home, base).files == {"a.jsonl": 1, "b.jsonl": 1}
    assert cores.remove(home, "a.jsonl") == 1 and cores.listed(home, base).files == {"b.jsonl": 1}
    with pytest.raises(NotFound):
        cores.remove(home, "a.jsonl")
    assert cores.remove(home, None) == 1
    assert cores.for_night(home, base, home.nights / "n1") == general.CORE


def test_a_core_without_its_exam_is_cleared_of_what_the_general_exam_asks(home: Home, tmp_path: Path) -> None:
    model = make_package(tmp_path / "mine") / "model"
    asked = {"role": "user", "content": "What is the capital of Norway?"}
    row = {"messages": [asked, {"role": "assistant", "content": "Oslo."}], "kind": "facts", "key": "x"}
    lines(model / "core.jsonl", row, {**CHAT, "kind": "style", "key": "y"})
    base = prepare_base(home, ModelSettings(name=str(model)))
    path = cores.for_night(home, base, home.nights / "n1")
    assert path is not None and [r.messages[0].content for r in read_rows(path)] == ["How do I greet?"]


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = lines(tmp_path / "a.jsonl", CHAT)
    at = ["--home", str(tmp_path / "home"), "core"]
    assert main([*at, "add", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["added"] == 1
    assert main([*at, "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == {"a.jsonl": 1}
    assert main([*at, "list"]) == 0 and "a.jsonl: 1 rows" in capsys.readouterr().out
    assert main([*at, "remove", "a.jsonl"]) == 0 and "1 rows are out" in capsys.readouterr().out
    assert main([*at, "add", str(tmp_path / "no.jsonl")]) == 1
    assert main([*at, "remove"]) == 2
