"""The morning report. The folder of a night enters; one plain dict leaves, and the files made of it.

It reads whatever stages left behind and invents nothing: a figure that no stage gave is null, a list that
no stage wrote is empty. So it can be built after any ending, and built again.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ada_memory.circadian.bundle import NightBundle, read_result
from ada_memory.circadian.page import page
from ada_memory.circadian.pause import Pause, read_orders, seconds_paused
from ada_memory.circadian.stages import NAMES
from ada_memory.dream.rem import holds
from ada_memory.records import StageRecord
from ada_memory.sovereign.disk import append_line, read_lines, to_json
from ada_memory.words import overlap

Report = dict[str, Any]
Outcomes = Mapping[str, tuple[str, str]]
EXAMPLES = 10
QUESTIONS = 3


def build(night: NightBundle) -> Report:
    """The report of a night from its folder, as `report.json` holds it."""
    ended = {name: record for name in NAMES if name != "report" and (record := read_result(night, name))}
    figures = {name: record.figures for name, record in ended.items()}
    became = _outcomes(night)
    texts = {str(row["id"]): str(row["text"]) for row in read_lines(night.done("gather") / "memories.jsonl")}
    texts |= {str(row["id"]): str(row["text"]) for row in read_lines(night.done("gather") / "skipped.jsonl")}
    active = _outcome(ended, "activate") == "done"
    verify, dataset = figures.get("verify", {}), figures.get("dataset", {})
    pauses = read_orders(night.folder).pauses
    by_stage = {name: _seconds(record, pauses) for name, record in ended.items()}
    return {
        "night": night.night,
        "kind": night.kind,
        "depth": night.depth,
        "base": night.base_hash,
        "verdict": figures.get("verdict", {}).get("verdict"),
        "active": active,
        "generation": night.generation if active else night.parent,
        "parent": night.parent,
        "opened_at": night.opened_at.isoformat(),
        "seconds": round(sum(by_stage.values()), 3),
        "seconds_by_stage": {name: round(seconds, 3) for name, seconds in by_stage.items()},
        "seconds_paused": round(_paused(night, ended.values(), pauses), 3),
        "memories": len(texts),
        "learned": _learned(night, texts, became),
        "set_aside": _others(texts, became, "set_aside", "skipped"),
        "superseded": _superseded(night, texts),
        "rejected": _rejected(night),
        "dreams_made": verify.get("made"),
        "dreams_accepted": verify.get("accepted"),
        "lucidity": _list(verify.get("lucidity")),
        "samples_per_memory_min": dataset.get("samples_per_memory_min"),
        "core_share": dataset.get("core_share"),
        "exam": _exam(night, figures.get("map", {})),
        "rules": _list(figures.get("verdict", {}).get("rules")),
        "loss": _loss(night.done("train") / "loss.csv"),
        "figures": {name: dict(values) for name, values in figures.items()},
        "how_to_roll_back": _how_to_roll_back(night, active),
        "halted": _first(ended, "halt"),
        "skipped": _first(ended, "skip"),
    }


def write(night: NightBundle, folder: Path, experiments: Path) -> Report:
    """Write report.json, report.md and loss.csv into `folder`, and the night's line into `experiments`."""
    report = build(night)
    loss = night.done("train") / "loss.csv"
    if loss.is_file():
        shutil.copyfile(loss, folder / "loss.csv")
    (folder / "report.json").write_text(to_json(report, indent=2) + "\n", "utf-8")
    (folder / "report.md").write_text(page(report), "utf-8")
    # One line a night: a report that is written again after a crash finds its line there.
    if not any(row.get("night") == night.night for row in read_lines(experiments)):
        changed = night.settings.model_dump(mode="json", exclude_defaults=True)
        append_line(experiments, to_json({**summary(report), "seed": night.seed, "settings": changed}))
    return report


def read(folder: Path) -> Report | None:
    """The report in a night's folder; None until it is written."""
    path = folder / "report" / "report.json"
    if not path.is_file():
        return None
    report: Report = json.loads(path.read_text("utf-8"))
    return report


def summary(report: Mapping[str, Any]) -> dict[str, object]:
    """The few figures by which nights are compared."""
    names = (
        "night", "kind", "depth", "opened_at", "verdict", "active", "generation", "parent", "seconds",
        "seconds_paused", "dreams_made", "dreams_accepted", "samples_per_memory_min", "core_share", "halted",
        "skipped",
    )
    short = {name: report.get(name) for name in names}
    for name in ("learned", "set_aside", "superseded"):
        short[name] = len(_list(report.get(name)))
    for side in ("before", "after"):
        short[f"exam_{side}"] = mean_exam(report.get("exam") or {}, side)
    return short


def mean_exam(exam: Mapping[str, Mapping[str, Any]], side: str) -> float | None:
    """The exam's mean over its categories, by items where their number ("n") is known."""
    rows = [row for row in exam.values() if _is_number(row.get(side))]
    parts = [(float(row[side]), float(row.get("n") or 1)) for row in rows]
    if not parts:
        return None
    return sum(value * weight for value, weight in parts) / sum(weight for _, weight in parts)


def _learned(night: NightBundle, texts: Mapping[str, str], became: Outcomes) -> list[Report]:
    rows: dict[str, Report] = {
        memory: {"memory": memory, "text": texts.get(memory, ""), "claims": [], "samples": 0, "questions": []}
        for memory, (outcome, _) in became.items()
        if outcome == "learned"
    }
    for claim in read_lines(night.done("dream") / "claims.jsonl"):
        if claim["memory"] in rows:
            rows[str(claim["memory"])]["claims"].append(claim["claim"])
    counted: set[object] = set()
    for row in read_lines(night.done("dataset") / "train.jsonl"):
        sample: Report = dict(row)
        own = rows.get((sample.get("memories") or [""])[0])
        if own is None or sample.get("dream") in counted:  # a dream may have several rows, which take turns
            continue
        counted.add(sample.get("dream"))
        own["samples"] += 1
        asked = next((m["content"] for m in reversed(sample["messages"]) if m["role"] == "user"), "")
        if sample.get("kind") == "question" and asked not in own["questions"]:
            own["questions"].append(asked)
    return [row | {"questions": _unlike(row["questions"])} for row in rows.values()]


def _unlike(questions: Sequence[str]) -> list[str]:
    """A few questions to show, the first and then always the one that is least like those shown."""
    words = {question: set(question.casefold().split()) for question in questions}
    shown = list(questions[:1])
    while len(shown) < min(QUESTIONS, len(words)):
        left = (question for question in questions if question not in shown)
        shown.append(min(left, key=lambda one: max(overlap(words[one], words[o]) for o in shown)))
    return shown


def _others(texts: Mapping[str, str], became: Outcomes, *outcomes: str) -> list[Report]:
    return [
        {"memory": memory, "text": texts.get(memory, ""), "outcome": outcome, "reason": reason}
        for memory, (outcome, reason) in became.items()
        if outcome in outcomes
    ]


def _superseded(night: NightBundle, texts: Mapping[str, str]) -> list[Report]:
    known = read_lines(night.done("gather") / "known.jsonl")  # what an earlier night learned, too
    texts = {str(row["id"]): str(row["text"]) for row in known} | dict(texts)
    rows = read_lines(night.done("verify") / "superseded.jsonl")
    return [
        {**row, "text": texts.get(str(row["memory"]), ""), "by_text": texts.get(str(row.get("by")), "")}
        for row in rows
    ]


def _rejected(night: NightBundle) -> Report:
    dreams = read_lines(night.done("verify") / "dreams.jsonl")
    failed = [row for row in dreams if not holds(bool(row.get("accepted")), str(row.get("reason")))]
    reasons = Counter(_short(row) for row in failed)
    shown = ("kind", "memories", "claim", "prompt", "reply", "score", "reason")
    return {
        "by_reason": dict(reasons.most_common()),
        "examples": [{name: row.get(name) for name in shown} for row in failed[:EXAMPLES]],
    }


def _short(row: Mapping[str, object]) -> str:
    """The reason for which a dream was rejected, without its particulars."""
    return str(row.get("reason") or "no reason given").split(":")[0]


def _exam(night: NightBundle, figures: Mapping[str, Any]) -> Report:
    """The exam by category: shares before and after, and the number of items."""
    before, after = (figures.get(f"exam_{side}") or {} for side in ("before", "after"))
    items = Counter(str(row.get("category")) for row in read_lines(night.exam)) if night.exam else Counter()
    return {
        name: {"before": before.get(name), "after": after.get(name), "n": items.get(name)}
        for name in sorted({*before, *after} - {"all"})
    }


def _loss(path: Path) -> Report:
    values: list[float] = []
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            values = [float(row["loss"]) for row in csv.DictReader(file) if row.get("loss")]
    return {
        "first": values[0] if values else None,
        "last": values[-1] if values else None,
        "steps": len(values),
        "curve": _thin(values),
    }


def _thin(values: list[float], points: int = 60) -> list[float]:
    """At most `points` values: the mean of each stretch, so that the curve's shape stays."""
    if len(values) <= points:
        return values
    edges = [round(index * len(values) / points) for index in range(points + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]


def _outcomes(night: NightBundle) -> Outcomes:
    path = night.done("activate") / "settled.json"
    if not path.is_file():
        return {}
    settled = json.loads(path.read_text("utf-8"))
    return {memory: (outcome, reason) for memory, (outcome, reason) in settled.items()}


def _how_to_roll_back(night: NightBundle, active: bool) -> str:
    if not active:
        return f"There is nothing to roll back: {night.parent} still serves."
    back = f"`ada rollback` lets {night.parent} serve again"
    return f"{back}; `ada reset` returns to the untouched base. Memories stay."


def _first(ended: Mapping[Any, StageRecord], outcome: str) -> Report | None:
    found = next((record for record in ended.values() if record.outcome == outcome), None)
    return {"stage": found.name, "reason": found.reason} if found else None


def _outcome(ended: Mapping[Any, StageRecord], stage: str) -> str | None:
    return ended[stage].outcome if stage in ended else None


def _seconds(record: StageRecord, pauses: Sequence[Pause]) -> float:
    """How long a stage has worked: what it stood still does not count."""
    took = (record.finished_at - record.started_at).total_seconds()
    return max(0.0, took - seconds_paused(pauses, record.started_at, record.finished_at))


def _paused(night: NightBundle, ended: Iterable[StageRecord], pauses: Sequence[Pause]) -> float:
    """How long the night stood still, from its opening to the last thing it did."""
    last = max((record.finished_at for record in ended), default=night.opened_at)
    return seconds_paused(pauses, night.opened_at, last)


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


