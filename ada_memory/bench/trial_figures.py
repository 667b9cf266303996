"""What a trial found. A night's folder, its report and answers enter; plain figures and sentences leave."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ada_memory.dream.craft import Mark, Task, shares
from ada_memory.forge.train import epochs
from ada_memory.settings import ForgeSettings
from ada_memory.sovereign import choosing
from ada_memory.sovereign.disk import read_lines
from ada_memory.topology.exam import normal

Row = dict[str, Any]
TARGET = 100
"""Memories of the night that is projected."""
ASKED = 3
"""Questions of each fact that are shown and asked."""
DOES: Mapping[Task, str] = {
    "extract": "read facts and wishes out of messages",
    "dream": "make training samples of a fact",
    "verify": "tell true samples from false ones",
    "rewrite": "mend a wrong sample",
    "supersede": "see that a newer message overrides an older one",
}
BARS: Mapping[Task, tuple[float, float]] = {
    "extract": (0.75, 0.35), "dream": (0.75, 0.35), "rewrite": (0.7, 0.3),
    "verify": (0.85, 0.65), "supersede": (0.85, 0.65),  # by chance a yes or no is right half the time
}  # fmt: skip
"""From which share of right answers a model can do a task, and from which barely."""
NEEDED: tuple[Task, ...] = ("extract", "dream", "verify")
LOADS = {"dream": 1, "verify": 1, "train": 1, "merge": 3, "map": 2}
"""How often each stage loads the model: that part of its time does not grow with the memories."""
GROW = ("dream", "verify", "dataset", "train")


def describe(folder: Path) -> Row:
    """How many parameters the weights of a folder hold, and what architecture they are."""
    kinds = choosing.config_of(folder).get("architectures") or []
    return {"parameters": choosing.parameters(folder), "architecture": kinds[0] if kinds else None}


def sentence(about: Mapping[str, Any]) -> str:
    """What the model is, in one line."""
    count = about["parameters"]
    size = f"{count / 1e6:,.1f} M parameters" if count >= 1e5 else f"{count:,} parameters"
    runs = f"engine {about['engine']}, device {about['device']}"
    return f"{about['architecture'] or 'model'}, {size}, {runs}, reads {about['context']:,} tokens"


def can(marks: Sequence[Mark]) -> dict[str, Row]:
    """For each task: share, right, items, whether the model "can", "barely" can or "cannot", a sentence."""
    found = {}
    for task, share in shares(marks).items():
        own = [mark.right for mark in marks if mark.item.task == task]
        word = level(task, share)
        says = f"{word} {DOES[task]}: {sum(own)} of {len(own)} right"  # type: ignore[index]
        if word == "cannot" and task in NEEDED:
            says += "; choose an instruct model, or a larger one"
        found[task] = {"share": share, "right": sum(own), "items": len(own), "level": word, "says": says}
    return found


def level(task: str, share: float) -> str:
    """Whether a share of right answers means that a model "can", "barely" can or "cannot" do a task."""
    well, barely = next(bars for name, bars in BARS.items() if name == task)
    return "can" if share >= well else "barely can" if share >= barely else "cannot"


def same(said: str, wanted: str) -> bool:
    """Whether a reply is the one that was wanted, as the night itself judges it."""
    return normal(said) == normal(wanted)


def facts(
    texts: Sequence[str],
    positions: Sequence[int],
    memories: Sequence[Mapping[str, Any]],
    night: Path,
    report: Mapping[str, Any],
) -> list[Row]:
    """One row for each text: its memory, route, claims, samples, what became of it, what to ask."""
    by_position = {int(str(m["id"])[1:].split("-")[0]): m for m in reversed(memories)}
    claims: list[Row] = read_lines(night / "dream" / "claims.jsonl")
    dreams: list[Row] = read_lines(night / "verify" / "dreams.jsonl")
    stop, train = (read_lines(night / "dataset" / f"{name}.jsonl") for name in ("stop", "train"))
    samples = Counter(_owner(row) for row in (*stop, *train))
    learned = {row["memory"] for row in report.get("learned") or []}
    found = []
    for text, position in zip(texts, positions, strict=True):
        memory = by_position.get(position, {})
        name = str(memory.get("id", ""))
        row: Row = {
            "text": text, "memory": name or None, "route": memory.get("route"), "why": memory.get("why"),
            "claims": [c["claim"] for c in claims if c["memory"] == name],
            "dreams": sum(name in d["memories"] for d in dreams), "samples": samples[name] if name else 0,
            "learned": name in learned,
        }  # fmt: skip
        row["became"] = _became(row, report, night)
        row["asked"] = _questions(name, stop, train)
        found.append(row)
    return found


def _became(row: Mapping[str, Any], report: Mapping[str, Any], night: Path) -> str:
    """What became of a fact, in words."""
    if row["learned"]:
        return "learned"
    if row["route"] != "weights":
        how = {"verbatim": "kept word for word, to be recalled and not learned", None: "not kept"}
        return f"{how.get(row['route'], 'let go')}: {row['why'] or 'it says nothing to keep'}"
    said = [r for r in report.get("set_aside") or [] if r["memory"] == row["memory"]]
    said += [r for r in report.get("superseded") or [] if r["memory"] == row["memory"]]
    said += [r for r in read_lines(night / "gather" / "skipped.jsonl") if r["id"] == row["memory"]]
    if said:
        return f"set aside: {said[0]['reason']}"
    if not row["claims"]:
        return "not learned: the model read no fact out of it"
    if not row["samples"]:
        return "not learned: no dream of it was found true"
    halted = report.get("halted") or {}
    return f"not learned: {halted.get('reason') or 'the night did not come to its end'}"


def _questions(memory: str, stop: Sequence[Row], train: Sequence[Row]) -> list[Row]:
    """Phrasings that the night kept back; where it kept none, one that was trained, marked as such."""
    own = [(row, False) for row in stop if _owner(row) == memory]
    own = own or [(row, True) for row in train if _owner(row) == memory and row.get("kind") == "question"][:1]
    turns = [(*(m["content"] for m in row["messages"][-2:]), trained) for row, trained in own[:ASKED]]
    return [{"question": asked, "wanted": wanted, "trained": trained} for asked, wanted, trained in turns]


def _owner(row: Mapping[str, Any]) -> str:
    return str((row.get("memories") or [""])[0])


def night(report: Mapping[str, Any], rows: Sequence[Row]) -> Row:
    """The figures of the night and of the answers, without the projection."""
    held_out = [q for row in rows for q in row["asked"] if not q["trained"]]
    stopped = report.get("halted") or report.get("skipped") or {}
    figures = report.get("figures") or {}
    surveyed = figures.get("map", {})
    return {
        "facts": list(rows), "learned": sum(row["learned"] for row in rows), "questions": len(held_out),
        "recall_before": _share(held_out, "before"),
        "recall_after": _share(held_out, "after", surveyed.get("recall")),
        "exam": report.get("exam") or {}, "exam_before": surveyed.get("exam_before", {}).get("all"),
        "exam_after": surveyed.get("exam_after", {}).get("all"), "craft_after": surveyed.get("craft_after"),
        "seconds": report.get("seconds"), "seconds_by_stage": report.get("seconds_by_stage") or {},
        "dreams_made": report.get("dreams_made"), "dreams_accepted": report.get("dreams_accepted"),
        "verdict": report.get("verdict"), "active": bool(report.get("active")),
        "reason": stopped.get("reason"), "stage": stopped.get("stage"),
        "rules_broken": [rule for rule in report.get("rules") or [] if not rule.get("ok")],
        "counts": _counts(figures, rows),
    }  # fmt: skip


def _share(asked: Sequence[Row], side: str, otherwise: object = None) -> float | None:
    """Share of right answers; of a model that was refused, what the night's own survey found."""
    right = [bool(q[f"right_{side}"]) for q in asked if f"right_{side}" in q]
    if right:
        return round(sum(right) / len(right), 4)
    return float(otherwise) if isinstance(otherwise, int | float) and math.isfinite(otherwise) else None


def _counts(figures: Mapping[str, Mapping[str, Any]], rows: Sequence[Row]) -> dict[str, int]:
    """What the stages had to do, for the projection."""
    wanted = {"dreams": ("verify", "made"), "rows": ("dataset", "rows"), "steps": ("train", "steps"),
              "stop_questions": ("dataset", "stop"), "exam_items": ("map", "exam_items")}  # fmt: skip
    found = {name: figures.get(stage, {}).get(key) for name, (stage, key) in wanted.items()}
    return {"memories": sum(bool(row["claims"]) for row in rows)} | {k: int(v or 0) for k, v in found.items()}


def project(figures: Mapping[str, Any], load_seconds: float, forge: ForgeSettings) -> Row | None:
    """Seconds of a night of 100 memories, from this one; None if it never trained.

    For each stage `fixed + memories · per_memory`: loading the model is fixed; what dreams, their checks and
    the rows take grows with the memories; training grows with its steps, of which a small night has more for
    each memory; of the map only the questions about them grow.
    """
    by_stage: Mapping[str, float] = figures["seconds_by_stage"]
    counts: Mapping[str, int] = figures["counts"]
    if not counts["memories"] or not by_stage.get("train"):
        return None
    stages = {}
    for name, seconds in by_stage.items():
        work = max(seconds - LOADS.get(name, 0) * load_seconds, 0.0)
        grows = work if name in GROW else 0.0
        if name == "map":
            grows = work * counts["stop_questions"] / max(1, counts["stop_questions"] + counts["exam_items"])
        each = grows / counts["memories"]
        if name == "train" and counts["steps"]:
            steps = _steps(counts["rows"] * TARGET / counts["memories"], forge)
            each = work * steps / counts["steps"] / TARGET
        stages[name] = {
            "seconds": round(seconds, 2), "fixed": round(seconds - grows, 2), "per_memory": round(each, 3),
            "projected": round(seconds - grows + TARGET * each, 1),
        }  # fmt: skip
    total = sum(stage["projected"] for stage in stages.values())
    return {
        "memories": TARGET, "measured_on": counts["memories"], "load_seconds": load_seconds, "stages": stages,
        "seconds": round(total, 1), "minutes": round(total / 60, 1),
        "arithmetic": f"sum over the stages of fixed + {TARGET} x per_memory, where per_memory = "
        f"(seconds - fixed) / {counts['memories']}, and of train that of the steps of so many rows; fixed is "
        "loading the model and what looks at no memory",
    }  # fmt: skip


def _steps(rows: float, forge: ForgeSettings) -> int:
    """Steps of a training on so many rows."""
    return epochs(math.ceil(rows), forge) * math.ceil(rows / forge.batch_size)
