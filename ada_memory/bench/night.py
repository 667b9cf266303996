"""`ada bench night`: one day of new facts, one night, and what is known before and after.

Everything is real: the daemon in its own process, posts over its socket, the night as it runs for anybody.
Only the questions differ: they are asked in phrasings that were kept out of the night.
"""

from __future__ import annotations

import json as json_
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ada_memory.bench import day as days
from ada_memory.bench.clock import device_name
from ada_memory.bench.house import House, house
from ada_memory.dream.rem import holds
from ada_memory.engines.engine import Engine
from ada_memory.errors import AdaError
from ada_memory.records import Message
from ada_memory.seedling import core as core_items
from ada_memory.seedling import exam, world
from ada_memory.topology.exam import Question, marks, normal, sit


def run(
    facts: int,
    seed: int,
    json: bool = False,
    home: Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Run the benchmark; progress goes to standard error.

    Raises:
        AdaError: the daemon failed, or something that judges was found in what was trained on.
    """
    told = days.day(facts, seed)
    asked, styled, core = days.questions(told), days.manners(told), exam.core_exam("judge", seed, 2)
    with tempfile.TemporaryDirectory(prefix="ada-bench-") as scratch:
        kept_back = days.keep_back(told, Path(scratch))
        flags = {"sunset.at": "", "sunset.capacity": 0, "forge.withhold": kept_back, **(settings or {})}
        with house(home, flags) as ada:
            before = ada.engine()
            figures: dict[str, object] = {"facts": facts, "seed": seed, "engine": ada.engine_name()}
            figures["device"] = device_name()
            say("before the night: asking")
            figures |= _ask("before", before, asked, styled, core)
            figures["leak_before"] = days.leak(before, told, seed)["all"]
            ada.tell((item.text for item in told), f"night-{seed}")
            say(f"{len(told)} interactions are in the hippocampus; the night begins")
            started = time.monotonic()
            name = str(ada.client.sleep()["night"])
            report = ada.wait_night(name)
            figures["seconds"] = round(time.monotonic() - started, 1)
            say(f"awake: {report['verdict']}; asking again")
            after = ada.engine()
            figures |= _ask("after", after, asked, styled, core)
            leaks = days.leak(after, told, seed)
            figures |= {"leak_after": leaks.pop("all"), "leak_by_subject": leaks}
            folder = ada.home.nights / name
            figures |= {
                "recall_heldout": figures.pop("recall_after"),
                "missed": _missed(after, asked),
                "recall_trained": _trained(after, folder),
            }
            figures |= _dreams(folder, _owners(ada, told), told) | _night(report, folder)
            if made_rows(folder):
                assert_apart(folder, asked, core)
    return figures


def say(text: str) -> None:
    """Progress for whoever watches."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _ask(
    when: str, engine: Engine, asked: Sequence[Question], styled: Sequence[Question], core: Sequence[Question]
) -> dict[str, object]:
    by_category = marks(core, sit(engine, core))
    out: dict[str, object] = {
        f"recall_{when}": round(days.recall(engine, asked), 4),
        f"style_{when}": round(days.follows(engine, styled), 4),
        f"core_{when}": round(by_category.pop("all"), 4),
        "core_items": len(core),
    }
    name = "core_by_category" if when == "after" else "core_by_category_before"
    return out | {name: {k: round(v, 4) for k, v in by_category.items()}}


def _missed(engine: Engine, asked: Sequence[Question]) -> list[dict[str, str]]:
    """What was asked and not known, for whoever wants to know why."""
    replies = zip(asked, sit(engine, asked), strict=True)
    return [
        {"question": q.messages[-1].content, "value": q.answer, "reply": r}
        for q, r in replies
        if not q.right(r)
    ]


def _owners(ada: House, told: Sequence[days.Told]) -> dict[str, days.Told]:
    """Which memory holds which message."""
    by_text = {item.text: item for item in told}
    return {m["id"]: by_text[m["text"]] for m in ada.client.memories(limit=1_000) if m["text"] in by_text}


def _trained(engine: Engine, folder: Path) -> float:
    """Recall of the questions that the night trained on."""
    rows = [
        r
        for r in _rows(folder / "dataset" / "train.jsonl")
        if r["source"] != "core" and r["kind"] == "question"
    ]
    asked = [
        Question(
            "trained", "", (Message("user", r["messages"][-2]["content"]),), r["messages"][-1]["content"]
        )
        for r in rows
    ]
    return days.recall(engine, asked) if asked else 0.0


def _dreams(folder: Path, owners: Mapping[str, days.Told], told: Sequence[days.Told]) -> dict[str, object]:
    """How well the verifier told true dreams from false ones, judged by the world's grammar."""
    truth: dict[str, list[bool]] = defaultdict(list)
    true_dreams = true_accepted = 0
    rows = _rows(folder / "verify" / "dreams.jsonl")
    held: Counter[str] = Counter()
    examples: list[dict[str, object]] = []
    for row in rows:
        is_true, is_held = _is_true(row, owners), holds(row["accepted"], row["reason"])
        held[row["kind"]] += is_held
        if row["accepted"]:
            truth[row["kind"]].append(is_true)
            if not is_true:
                examples.append({k: row[k] for k in ("kind", "claim", "prompt", "reply", "score")})
        if is_true and row["reason"] != "duplicate":
            true_dreams += 1
            true_accepted += is_held
    accepted = [ok for group in truth.values() for ok in group]
    return {
        "dreams_made": len(rows),
        "dreams_accepted": len(accepted),
        "dream_precision": round(sum(accepted) / max(1, len(accepted)), 4),
        "dream_precision_by_kind": {
            kind: round(sum(group) / len(group), 4) for kind, group in sorted(truth.items())
        },
        "dreams_held_by_kind": dict(sorted(held.items())),
        "verifier_recall": round(true_accepted / max(1, true_dreams), 4),
        "dreams_accepted_but_false": examples[:20],
        "dreams_by_reason": dict(Counter(r["reason"].split(":")[0] for r in rows if not r["accepted"])),
    }


def _is_true(row: Mapping[str, Any], owners: Mapping[str, days.Told]) -> bool:
    if not row["prompt"]:
        return False
    of = [owners[m].of for m in row["memories"] if m in owners]
    if row["kind"] == "bridge":
        return len(of) == 2 and _bridges(row["prompt"], row["reply"], of)
    return len(of) == 1 and world.is_true(row["kind"], row["prompt"], row["reply"], of[0])


def _bridges(prompt: str, reply: str, of: Sequence[world.Fact | world.Wish]) -> bool:
    a, b = of
    return isinstance(a, world.Fact) and isinstance(b, world.Fact) and world.is_bridge(prompt, reply, a, b)


def _night(report: Mapping[str, Any], folder: Path) -> dict[str, object]:
    keep = (
        "verdict",
        "halted",
        "generation",
        "samples_per_memory_min",
        "core_share",
        "lucidity",
        "seconds_by_stage",
    )
    file = folder / "dataset" / "figures.json"
    made = json_.loads(file.read_text("utf-8")) if file.is_file() else {}
    kinds = {"kinds_per_memory_min": made.get("kinds_per_memory_min")}
    return {k: report[k] for k in keep if k in report} | kinds


def made_rows(folder: Path) -> bool:
    """Whether a night came to make what it trains on; one that ended before has taught nothing."""
    file = folder / "dataset" / "result.json"
    return file.is_file() and json_.loads(file.read_text("utf-8"))["outcome"] == "done"


def assert_apart(folder: Path, asked: Sequence[Question], core: Sequence[Question]) -> None:
    """Check that nothing that judges was trained on, watched, replayed or used as an anchor."""
    rows = [r for name in ("train", "stop", "anchors") for r in _rows(folder / "dataset" / f"{name}.jsonl")]
    if not rows:
        raise AdaError(f"{folder} holds no dataset: nothing can be said about what was trained on")
    seen = {normal(m["content"]) for r in rows for m in r["messages"] if m["role"] == "user"}
    judged = {
        normal(q.messages[-1].content)
        for q in (*asked, *core)
        if q.category not in ("context", "format", "summary")
    }
    if both := seen & judged:
        raise AdaError(f"judged prompts were trained on: {sorted(both)[:3]}")
    pairs = {q.key for q in core if q.category in ("facts", "people", "arithmetic")}
    if both := pairs & set(_keys(r for r in rows if r["source"] != "new")):
        raise AdaError(f"judged facts or operand pairs were replayed: {sorted(both)[:3]}")


def _keys(rows: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """The keys of the core facts and sums that rows of training data ask for."""
    by_prompt = {normal(i.prompt): i.key for i in (*core_items.facts(), *core_items.people())}
    for row in rows:
        prompt = normal(row["messages"][-2]["content"])
        yield from (by_prompt[asked] for asked in world.unframed(prompt) if asked in by_prompt)
        numbers = [w for w in prompt.split() if w.isdigit()]
        if len(numbers) == 2 and any(w in prompt.split() for w in ("plus", "minus", "times")):
            low, high = sorted(map(int, numbers))
            yield f"{low},{high}"


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json_.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []
