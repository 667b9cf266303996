"""`ada try`: figures from a night's folder, sentences for people, and the real thing in a throw-away home."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from ada_memory.bench import tiny
from ada_memory.bench import trial_figures as made
from ada_memory.cli import trial
from ada_memory.cli.trial_page import conclusion, page
from ada_memory.dream.craft import Item, Mark
from ada_memory.errors import BadInput
from ada_memory.settings import CHECKOUT, ForgeSettings
from tests.daemons import short_folder

# ---- figures --------------------------------------------------------------------------------


def marks(task: Any, right: int, wrong: int) -> list[Mark]:
    return [Mark(Item(task, ("a",)), "", turn < right) for turn in range(right + wrong)]


@pytest.mark.parametrize(
    ("task", "right", "word"),
    [("extract", 9, "can"), ("extract", 5, "barely can"), ("extract", 1, "cannot"), ("verify", 5, "cannot"),
     ("verify", 7, "barely can"), ("verify", 9, "can"), ("dream", 0, "cannot")],
)  # fmt: skip
def test_what_a_model_can_do_is_said_in_words(task: Any, right: int, word: str) -> None:
    row = made.can(marks(task, right, 10 - right))[task]
    assert (row["level"], row["right"], row["items"]) == (word, right, 10)
    assert row["says"].startswith(word)
    assert ("instruct" in row["says"]) is (word == "cannot")


def write(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def sample(memory: str, question: str, reply: str, kind: str = "question") -> dict[str, Any]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
    return {"messages": turns, "memories": [memory], "kind": kind, "source": "new"}


def memory(position: int, text: str, route: str = "weights") -> dict[str, Any]:
    return {"id": f"m{position:06d}-0", "text": text, "route": route, "why": "a name"}


TEXTS = ("My dog is Rex.", "a = b + c", "Well.", "Tom sings.", "I am tall.", "Eva swims.")
FIRST, FOURTH = "m000001-0", "m000004-0"


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    """Six facts: learned, verbatim, not kept, no claim, no dream accepted, learned with nothing held out."""
    kept = [memory(1, TEXTS[0]), memory(2, TEXTS[1], "verbatim"), memory(4, TEXTS[3]), memory(5, TEXTS[4]),
            memory(6, TEXTS[5])]  # fmt: skip
    claims = [{"memory": FIRST, "claim": "My dog is Rex."}, {"memory": "m000005-0", "claim": "I am tall."}]
    write(tmp_path, "dream/claims.jsonl", [*claims, {"memory": "m000006-0", "claim": "Eva swims."}])
    write(tmp_path, "verify/dreams.jsonl", [{"memories": [FIRST, FOURTH]}, {"memories": ["m000005-0"]}])
    write(tmp_path, "dataset/stop.jsonl", [sample(FIRST, f"Dog {i}?", "Rex.") for i in range(4)])
    trained = [sample(FIRST, "Dog?", "Rex."), sample("m000006-0", "Eva.", "Eva swims.", "statement")]
    write(tmp_path, "dataset/train.jsonl", [*trained, sample("m000006-0", "What does Eva do?", "Swim.")])
    report = {"learned": [{"memory": FIRST}, {"memory": "m000006-0"}]}
    return made.facts(TEXTS, [1, 2, 3, 4, 5, 6], kept, tmp_path, report)


def test_each_fact_has_what_became_of_it(rows: list[dict[str, Any]]) -> None:
    assert [row["became"].partition(":")[0] for row in rows] == [
        "learned", "kept word for word, to be recalled and not learned", "not kept", "not learned",
        "not learned", "learned",
    ]  # fmt: skip
    assert "read no fact" in rows[3]["became"]
    assert "no dream" in rows[4]["became"]
    assert [row["samples"] for row in rows] == [5, 0, 0, 0, 0, 2]
    assert [row["dreams"] for row in rows] == [1, 0, 0, 1, 1, 0]


def test_questions_are_those_kept_back_and_a_trained_one_only_if_there_is_none(
    rows: list[dict[str, Any]],
) -> None:
    assert [q["question"] for q in rows[0]["asked"]] == ["Dog 0?", "Dog 1?", "Dog 2?"]
    assert not any(q["trained"] for q in rows[0]["asked"])
    assert rows[5]["asked"] == [{"question": "What does Eva do?", "wanted": "Swim.", "trained": True}]


REPORT: dict[str, Any] = {
    "active": True, "verdict": "activate", "seconds": 100.0, "exam": {"facts": {"before": 1.0, "after": 0.9}},
    "seconds_by_stage": {"gather": 1.0, "dream": 12.0, "verify": 22.0, "train": 42.0, "merge": 6.0,
                         "map": 24.0},
    "rules": [{"figure": "kl", "ok": True}],
    "figures": {"verify": {"made": 80}, "dataset": {"rows": 50, "stop": 10}, "train": {"steps": 30},
                "map": {"exam_items": 90, "recall": 0.5, "exam_before": {"all": 1.0},
                        "exam_after": {"all": 0.9}, "craft_after": {"verify": 0.9}}},
}  # fmt: skip


def figures(rows: list[dict[str, Any]], **report: object) -> dict[str, Any]:
    known = made.night({**REPORT, **report}, rows)
    about = {"name": "m", "load_seconds": 2.0, "configured": False}
    more = {"can": made.can(marks("extract", 1, 9)), "craft_before": {"verify": 1.0}, "kept": None}
    memory_mb = {"sleeper": 500.0, "gpu": None}
    ahead = made.project(known, 2.0, ForgeSettings())
    return {"model": about, **more, **known, "memory_mb": memory_mb, "projection": ahead}


def answer(rows: list[dict[str, Any]], side: str, *right: bool) -> None:
    asked = [q for row in rows for q in row["asked"]]
    for question, good in zip(asked, right, strict=True):
        question |= {side: "Rex." if good else "?", f"right_{side}": good}


def test_recall_counts_no_trained_question(rows: list[dict[str, Any]]) -> None:
    answer(rows, "before", False, False, False, False)
    answer(rows, "after", True, True, False, True)
    found = figures(rows)
    assert (found["questions"], found["recall_before"], found["recall_after"]) == (3, 0.0, 0.6667)
    assert (found["exam_before"], found["exam_after"], found["learned"]) == (1.0, 0.9, 2)


def test_a_refused_models_recall_is_that_of_the_survey(rows: list[dict[str, Any]]) -> None:
    answer(rows, "before", False, False, False, False)
    found = figures(
        rows, active=False, verdict="reject", halted={"stage": "verdict", "reason": "rejected: kl"}
    )
    assert (found["recall_before"], found["recall_after"]) == (0.0, 0.5)
    assert trial.ending(found) == 4
    assert any("rejected: kl" in line for line in conclusion(found))


def test_the_projection_is_what_its_arithmetic_says(rows: list[dict[str, Any]]) -> None:
    ahead = figures(rows)["projection"]
    assert ahead["measured_on"] == 3
    stages = ahead["stages"]
    assert stages["gather"] == {"seconds": 1.0, "fixed": 1.0, "per_memory": 0.0, "projected": 1.0}
    assert stages["dream"] == {"seconds": 12.0, "fixed": 2.0, "per_memory": 3.333, "projected": 335.3}
    assert stages["map"]["fixed"] == pytest.approx(24 - 20 * 10 / 100)
    # 50 rows of 3 memories took 30 steps in 40 s; 1,667 rows are 209 batches in 4 epochs
    assert stages["train"]["projected"] == pytest.approx(2 + 40 / 30 * 4 * 209, abs=0.1)
    assert ahead["seconds"] == pytest.approx(sum(stage["projected"] for stage in stages.values()))


def test_a_night_that_never_trained_projects_nothing(rows: list[dict[str, Any]]) -> None:
    short = {"gather": 1.0, "dream": 12.0}
    assert figures(rows, seconds_by_stage=short)["projection"] is None


def test_the_page_says_it_all_and_steers_no_terminal(rows: list[dict[str, Any]]) -> None:
    answer(rows, "before", False, False, False, False)
    answer(rows, "after", True, True, False, True)
    rows[0]["asked"][0]["after"] = "Rex \x1b[2J[bold]"
    stream = io.StringIO()
    Console(file=stream, width=160, markup=False).print(page(figures(rows)))
    said = stream.getvalue()
    for part in ("Dog 0?", "(trained)", "0% before, 67% after", "500 MB", "100 memories", "ada model use m"):
        assert part in said
    assert "\x1b" not in said


# ---- what is typed --------------------------------------------------------------------------


def test_facts_come_from_flags_and_file(tmp_path: Path) -> None:
    (tmp_path / "facts.txt").write_text("Two.\n\n  Three.  \n", "utf-8")
    assert trial.facts(["One."], tmp_path / "facts.txt") == ["One.", "Two.", "Three."]
    with pytest.raises(BadInput, match="cannot be read"):
        trial.facts([], tmp_path / "none.txt")
    with pytest.raises(BadInput, match="more than"):
        trial.facts(["x"] * 51, None)


def test_with_nothing_typed_there_are_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n \n"))
    assert trial.facts([], None) == list(trial.EXAMPLES)
    monkeypatch.setattr("sys.stdin", io.StringIO("Tom sings.\n"))
    assert trial.facts([], None) == ["Tom sings."]


# ---- the real thing -------------------------------------------------------------------------


@pytest.fixture
def scratch() -> Iterator[Path]:
    with short_folder() as folder:
        (folder / "tmp").mkdir()
        yield folder


def start(scratch: Path, *words: str, said: str | None = None) -> subprocess.Popen[str]:
    """`ada try` with a home and a folder for temporary files of its own."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("ADA_")}
    env = {**own, "ADA_HOME": str(scratch / "home"), "TMPDIR": str(scratch / "tmp"), "HF_HUB_OFFLINE": "1"}
    env["TORCHINDUCTOR_CACHE_DIR"] = str(scratch / "torch")  # torch makes that folder whatever it is used for
    process = subprocess.Popen(
        [sys.executable, "-m", "ada_memory.cli", "try", "--json", *words],
        env=env, cwd=CHECKOUT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(said or "")
    process.stdin.close()
    process.stdin = None
    return process


def left(scratch: Path) -> list[str]:
    """What is still there: temporary files, and anything in the user's own home."""
    return [str(path) for name in ("tmp", "home") for path in (scratch / name).glob("*")]


@pytest.mark.slow
def test_a_model_that_reads_nothing_is_told_so(scratch: Path) -> None:
    model = tiny.make(scratch / "model")
    process = start(scratch, "--model", str(model), "--fact", "My dog is called Bramble.")
    out, err = process.communicate()
    assert process.returncode == 1, err
    found = json.loads(out)
    assert found["model"]["parameters"] > 10_000
    assert found["can"]["extract"]["level"] == "cannot"
    assert "cannot read facts" in err and "instruct model" in err
    assert found["facts"][0]["became"].startswith("not learned: the model read no fact")
    assert (found["active"], found["projection"]) == (False, None)
    assert any("read no fact" in line for line in conclusion({**found, "kept": None}))
    assert left(scratch) == []


@pytest.mark.parametrize("damage", ["no template", "no model"])
def test_a_model_that_cannot_be_tried_is_named_with_the_reason(scratch: Path, damage: str) -> None:
    model = scratch / "model"
    if damage == "no template":
        tiny.make(model)
        config = json.loads((model / "tokenizer_config.json").read_text("utf-8"))
        del config["chat_template"]
        (model / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    process = start(scratch, "--model", str(model), "--fact", "My dog is called Bramble.")
    out, err = process.communicate()
    assert process.returncode == 1, err
    error = json.loads(out)["error"]
    assert error["type"] == "BadModel" and error["message"] and error["hint"]
    assert ("chat template" in error["message"]) is (damage == "no template")
    assert "Traceback" not in err
    assert left(scratch) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-C", "kill"])
def test_whoever_interrupts_it_finds_nothing_left(scratch: Path, number: signal.Signals) -> None:
    model = tiny.make(scratch / "model")
    process = start(scratch, "--model", str(model), "--fact", "My dog is called Bramble.")
    assert process.stderr is not None
    while "post" not in (line := process.stderr.readline()):
        assert line, "it ended before the day began"
    children = psutil.Process(process.pid).children(recursive=True)
    assert children, "a daemon runs"
    process.send_signal(number)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert "Interrupted" in err and "Traceback" not in err and not out
    assert [child for child in children if child.is_running() and child.status() != "zombie"] == []
    assert left(scratch) == []


def test_a_folder_in_use_is_not_a_place_to_keep(scratch: Path) -> None:
    process = start(scratch, "--keep", str(CHECKOUT), "--fact", "My dog is called Bramble.")
    out, _ = process.communicate()
    assert process.returncode == 1
    assert "not empty" in json.loads(out)["error"]["message"]


@pytest.mark.long
def test_five_facts_on_the_seedling(scratch: Path) -> None:
    process = start(scratch, "--set", "dream.cycles=2", said="\n".join(trial.EXAMPLES))
    out, err = process.communicate()
    assert process.returncode == 0, err
    found = json.loads(out)
    assert {row["text"]: row["route"] for row in found["facts"]} == dict.fromkeys(trial.EXAMPLES, "weights")
    assert all(row["claims"] and row["samples"] and row["asked"] for row in found["facts"])
    assert [found["can"][task]["level"] for task in ("extract", "dream", "verify")] == ["can"] * 3
    assert found["questions"] >= 4
    assert found["recall_before"] < 0.3 and found["recall_after"] >= 0.7
    assert found["exam"] and found["exam_before"] - found["exam_after"] < 0.06
    assert found["craft_before"]["verify"] - found["craft_after"]["verify"] < 0.15
    assert found["memory_mb"]["sleeper"] > 50
    assert found["projection"]["seconds"] > found["seconds"]
    assert found["active"] and found["verdict"] in ("activate", "reduced")
    assert left(scratch) == []
