"""`ada bench nights`: thirty days of new facts, a night after each, and what is still known of all of them.

One daemon lives through all of it. After every night it is asked for tonight's facts and for every fact ever
taught, in phrasings that no night has seen, and sits an exam of which nothing is ever trained or replayed.
A home that is kept holds the figures night by night, and a run that was ended goes on there.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ada_memory.bench import day as days
from ada_memory.bench.clock import device_name
from ada_memory.bench.house import House, house
from ada_memory.bench.night import assert_apart, made_rows, say
from ada_memory.engines.engine import Engine
from ada_memory.errors import AdaError, BadInput
from ada_memory.seedling import exam
from ada_memory.sovereign.disk import append_line, read_lines
from ada_memory.topology.exam import Question, marks, sit

EXAM_SCALE = 3
"""Makes an exam of about 1,000 items."""
UNTOLD = 2
"""Questions about the subject of each fact that nobody has told the answer to."""
NAMED = "name a .png in a folder that is there"
DIARY = "bench-nights.jsonl"
"""In the home: whose nights these are and the exam before them, then a line a night."""


def run(
    nights: int,
    facts_per_night: int,
    seed: int,
    home: Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Run the benchmark, or go on with it in `home`; a line a night goes to standard error.

    Raises:
        BadInput: the home holds other nights than these.
        AdaError: the daemon failed, or something that judges was found in what was trained on.
    """
    calendar = days.calendar(nights, facts_per_night, seed)
    core = exam.core_exam("judge", seed, EXAM_SCALE)
    with tempfile.TemporaryDirectory(prefix="ada-bench-") as scratch:
        # beside a home that is kept: a night that was begun goes on with it
        where = home or Path(scratch)
        where.mkdir(parents=True, exist_ok=True)
        kept_back = days.keep_back([told for day in calendar for told in day], where)
        flags = {"sunset.at": "", "sunset.capacity": 0, "forge.withhold": kept_back, **(settings or {})}
        with house(home, flags) as ada:
            diary = ada.home.root / DIARY
            chosen = {name: str(value) for name, value in (settings or {}).items()}
            whose = {"seed": seed, "facts_per_night": facts_per_night, **chosen}
            before, rows = _lived(diary, whose)
            if not before:
                before = marks(core, sit(ada.engine(), core))
                append_line(diary, json.dumps({**whose, "before": before}))
            say(f"before: exam {before['all']:.3f} on {len(core)} items")
            for row in rows[:nights]:
                say(_line(row, before["all"]))
            for number in range(len(rows) + 1, nights + 1):
                taught = calendar[:number]
                row = _night(ada, taught[-1], number)
                row |= ask(ada.engine(), taught, core, seed)
                if made_rows(folder := ada.home.nights / str(row["name"])):
                    assert_apart(folder, questions(taught), core)
                append_line(diary, json.dumps(row))
                rows.append(row)
                say(_line(row, before["all"]))
    about = {"seed": seed, "facts_per_night": facts_per_night, "device": device_name()}
    return _figures(rows[:nights], before, len(core)) | about


def _lived(diary: Path, whose: Mapping[str, object]) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """The exam before the first night and the nights that a home has behind it; nothing of a new home.

    A last line that was cut off goes: its night is there, and is asked about again.
    """
    text = diary.read_bytes() if diary.is_file() else b""
    if text and not text.endswith(b"\n"):
        os.truncate(diary, text.rfind(b"\n") + 1)
    lines: list[dict[str, Any]] = read_lines(diary)
    if not lines:
        return {}, []
    head, *rows = lines
    before = head.pop("before")
    if head != whose:
        raise BadInput(
            f"{diary.parent} holds other nights: {head}",
            hint="name another --home, or the same --seed, --facts-per-night and settings",
        )
    return before, rows


def _night(ada: House, told: Sequence[days.Told], number: int) -> dict[str, Any]:
    """Post a day, sleep, and what the night itself has to say; one that is there is not slept again."""
    ada.tell((item.text for item in told), f"night-{number}")
    began = time.monotonic()
    there = ada.client.nights(number)
    begun = len(there) == number
    name = str((there[0] if begun else ada.client.sleep())["night"])
    report = ada.wait_night(name)
    seconds = report["seconds"] if begun else round(time.monotonic() - began, 1)
    folder = ada.home.nights / name
    trained, mapped, built = (_figures_of(folder, stage) for stage in ("train", "map", "dataset"))
    return {
        "night": number, "name": name, "verdict": report.get("verdict"), "seconds": seconds,
        "seconds_by_stage": report.get("seconds_by_stage"), "rows": built.get("rows"),
        "due": built.get("due"), "reviewed": built.get("reviewed"), "recall_due": built.get("recall_due"),
        "epochs": trained.get("epochs"), "steps": trained.get("steps"),
        "mends": trained.get("mends"), "stop_recall": trained.get("stop_recall"),
        "adapter_norm": mapped.get("norm_growth"),
    }


def ask(
    engine: Engine, taught: Sequence[Sequence[days.Told]], core: Sequence[Question], seed: int
) -> dict[str, Any]:
    """What a model knows of the days that were taught, what it makes up, and how it does in the exam."""
    asked = questions(taught)
    replies = sit(engine, asked)
    recall = marks(asked, replies)
    first, tonight = len(questions(taught[:1])), len(questions(taught[:-1]))
    exam_now = marks(core, sit(engine, core))
    leaks = days.leak(engine, [told for day in taught for told in day], seed, UNTOLD)
    return {
        "recall_tonight": round(marks(asked[tonight:], replies[tonight:])["all"], 4),
        "recall_all": round(recall.pop("all"), 4),
        "recall_first": round(marks(asked[:first], replies[:first])["all"], 4),
        "recall_by_subject": {of: round(mark, 4) for of, mark in recall.items()},
        "leak": leaks.pop("all"),
        "leak_by_subject": leaks,
        "exam": round(exam_now.pop("all"), 4),
        "exam_by_category": {name: round(mark, 4) for name, mark in exam_now.items()},
    }


def questions(taught: Sequence[Sequence[days.Told]]) -> list[Question]:
    """What the judge asks about all days, in their order."""
    return [question for day in taught for question in days.questions(day)]


def _figures_of(folder: Path, stage: str) -> dict[str, Any]:
    path = folder / stage / "result.json"
    return dict(json.loads(path.read_text("utf-8"))["figures"]) if path.is_file() else {}


def _line(row: Mapping[str, Any], exam_start: float) -> str:
    return (
        f"night {row['night']:>2}: {row['verdict']}, tonight {row['recall_tonight']:.2f}, "
        f"all {row['recall_all']:.3f}, first {row['recall_first']:.2f}, "
        f"exam {row['exam'] - exam_start:+.3f}, leak {row['leak']:.2f}, {row['seconds']:.0f} s"
    )


def _figures(rows: Sequence[Mapping[str, Any]], before: Mapping[str, float], items: int) -> dict[str, object]:
    recalls, exams = [row["recall_all"] for row in rows], [row["exam"] for row in rows]
    return {
        "recall_all_final": recalls[-1],
        "recall_all_min": min(recalls),
        "recall_first_final": rows[-1]["recall_first"],
        "leak_final": rows[-1]["leak"],
        "exam_start": round(before["all"], 4),
        "exam_min": min(exams),
        "exam_final": exams[-1],
        "exam_items": items,
        "exam_by_category_start": {k: round(v, 4) for k, v in before.items() if k != "all"},
        "seconds_night_2": rows[1]["seconds"] if len(rows) > 1 else None,
        "seconds_last": rows[-1]["seconds"],
        "rejected": [row["night"] for row in rows if row["verdict"] not in ("activate", "reduced")],
        "nights": list(rows),
    }


def must_plot(path: Path) -> None:
    """See that a picture can be drawn, of that kind and in that folder; nothing is written.

    Raises:
        AdaError: matplotlib is not installed.
        BadInput: the picture cannot be written there.
    """
    kinds = _canvas().canvas.get_supported_filetypes()
    if path.suffix and path.suffix[1:].lower() not in kinds:
        raise BadInput(f"no picture can be a {path.suffix}", hint=NAMED)
    if not os.access(path.parent, os.W_OK):
        raise BadInput(f"the plot cannot be written in {path.parent}", hint=NAMED)


def plot(figures: Mapping[str, Any], path: Path) -> None:
    """Recall, exam and cost by night as a picture (PNG, SVG or PDF, by the name's ending).

    Raises:
        AdaError: matplotlib is not installed.
        BadInput: the picture cannot be written there.
    """
    figure = _canvas()
    rows = figures["nights"]
    x = [row["night"] for row in rows]
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for key, label in (
        ("recall_all", "all facts ever taught"),
        ("recall_tonight", "tonight's facts"),
        ("recall_first", "the first night's facts"),
        ("exam", "exam (never trained)"),
    ):
        top.plot(x, [row[key] for row in rows], label=label, marker=".", linewidth=1.5)
    top.axhline(figures["exam_start"] - 0.02, color="grey", linestyle=":", linewidth=1)
    top.set(ylabel="share answered right", ylim=(min(0.8, *(row["recall_all"] for row in rows)), 1.005))
    top.legend(loc="lower left", frameon=False)
    bottom.bar(x, [row["seconds"] for row in rows], color="grey")
    bottom.set(xlabel="night", ylabel="seconds")
    _save(figure, path)


def _canvas() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise AdaError("a plot needs matplotlib", hint="pip install matplotlib") from None
    return Figure(figsize=(8, 6), layout="constrained")


def _save(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise BadInput(f"the plot cannot be written: {error}", hint=NAMED) from None
