"""What a night trains on: accepted dreams, a share of core, and what watches them.

In: dreams, how much their memories matter, the core's rows. Out: chat rows in three lists. `train` carries
loss, `stop` holds phrasings that are only asked, `anchors` are core rows on which the model is held to its
base. No prompt of `stop` or of what is withheld ever occurs in `train`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ada_memory.errors import AdaError, BadInput
from ada_memory.records import Dream, Message, Sample
from ada_memory.settings import ForgeSettings

STOP_SHARE = 0.15
STOP_FROM = 4
"""A memory with fewer distinct questions needs them all for training."""
LIGHTEST, HEAVIEST = 0.75, 1.25


@dataclass(frozen=True, slots=True)
class Dataset:
    """The rows of a night and what there is to report about them."""

    train: tuple[Sample, ...]
    stop: tuple[Sample, ...]
    anchors: tuple[Sample, ...]
    figures: Mapping[str, object]


def normalise(text: str) -> str:
    """Text as it is compared: casefolded, no punctuation, single spaces."""
    return " ".join("".join(c for c in text.casefold() if c.isalnum() or c.isspace()).split())


def prompt_of(sample: Sample) -> str:
    """The last thing that the user says in a row, normalised."""
    return normalise(next((m.content for m in reversed(sample.messages) if m.role == "user"), ""))


def build(
    dreams: Sequence[Dream],
    saliences: Mapping[str, float],
    core: Sequence[Sample],
    settings: ForgeSettings,
    withheld: frozenset[str],
    seed: int,
) -> Dataset:
    """Make the night's rows: the same dreams and seed give the same rows.

    Raises:
        BadInput: a share of core is wanted and there is no core.
        AdaError: the share of core came out wrong.
    """
    shuffle = random.Random(seed)
    never = {normalise(prompt) for prompt in withheld}
    kept = _distinct(dream for dream in dreams if dream.accepted)
    allowed = [dream for dream in kept if normalise(dream.prompt) not in never]
    held_out = _held_out(allowed, shuffle)
    train = [dream for dream in allowed if normalise(dream.prompt) not in held_out]
    new = _weighted([_row(dream) for dream in train], saliences)
    stop = tuple(_row(dream) for dream in allowed if normalise(dream.prompt) in held_out)

    # A core row that asks a stop question would teach its answer, one that asks what is new an old answer.
    taken = never | held_out | {prompt_of(row) for row in new}
    pool = [row for row in core if prompt_of(row) not in taken]
    replayed, anchors = _core(pool, len(new), settings, shuffle)
    rows = (*new, *replayed)
    figures = _figures(train, rows, replayed) | {
        "stop": len(stop),
        "anchors": len(anchors),
        "withheld_dropped": len(kept) - len(allowed),
    }
    return Dataset(rows, stop, anchors, figures)


def write(dataset: Dataset, folder: Path) -> None:
    """Write train.jsonl, stop.jsonl, anchors.jsonl and figures.json; the folder appears whole."""
    temporary = folder.parent / f".tmp-{folder.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in ("train", "stop", "anchors"):
        lines = [json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in getattr(dataset, name)]
        (temporary / f"{name}.jsonl").write_text("".join(lines), "utf-8")
    (temporary / "figures.json").write_text(json.dumps(dict(dataset.figures), indent=2) + "\n", "utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(temporary, folder)


def read(folder: Path) -> Dataset:
    """Read what `write` wrote.

    Raises:
        AdaError: a file is missing or damaged.
    """
    try:
        figures = json.loads((folder / "figures.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise AdaError(f"{folder / 'figures.json'} cannot be read: {error}") from None
    train, stop, anchors = (
        tuple(read_rows(folder / f"{name}.jsonl")) for name in ("train", "stop", "anchors")
    )
    return Dataset(train, stop, anchors, figures)


def read_rows(file: Path) -> list[Sample]:
    """Read chat JSONL; `source`, `weight`, `memories`, `kind` and `dream` may be left out.

    Raises:
        AdaError: the file is missing, or a line of it is damaged; names the line.
    """
    rows = []
    try:
        lines = file.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise AdaError(f"{file} cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            messages = tuple(Message(m["role"], m["content"]) for m in row["messages"])
            weight, memories = float(row.get("weight", 1.0)), tuple(row.get("memories", ()))
            source, kind, dream = row.get("source", "core"), row.get("kind", ""), row.get("dream", "")
            rows.append(Sample(messages, source, weight, memories, kind, dream))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AdaError(f"line {number} of {file} is not a chat row: {error!r}") from None
    return rows


def _row(dream: Dream) -> Sample:
    messages = (Message("user", dream.prompt), Message("assistant", dream.reply))
    return Sample(messages, "new", 1.0, dream.memories, dream.kind, dream.id)


def _distinct(dreams: Iterable[Dream]) -> list[Dream]:
    """The first of each prompt and reply that are the same to a reader."""
    first: dict[tuple[str, str], Dream] = {}
    for dream in dreams:
        first.setdefault((normalise(dream.prompt), normalise(dream.reply)), dream)
    return list(first.values())


def _held_out(dreams: Sequence[Dream], shuffle: random.Random) -> set[str]:
    """The prompts that are only asked: of each memory about 15% of its questions, at least one.

    A prompt that also serves another memory, or another kind of dream, stays in training.
    """
    uses: dict[str, set[tuple[str, str]]] = {}
    questions: dict[str, list[str]] = {}
    for dream in dreams:
        prompt = normalise(dream.prompt)
        uses.setdefault(prompt, set()).add((dream.memories[0], dream.kind))
        if dream.kind == "question" and prompt not in questions.setdefault(dream.memories[0], []):
            questions[dream.memories[0]].append(prompt)
    out: set[str] = set()
    for prompts in questions.values():
        if len(prompts) >= STOP_FROM:
            own = [prompt for prompt in prompts if len(uses[prompt]) == 1]
            out.update(shuffle.sample(own, min(len(own), max(1, round(STOP_SHARE * len(prompts))))))
    return out


def _weighted(rows: Sequence[Sample], saliences: Mapping[str, float]) -> list[Sample]:
    """Weights in proportion to salience, from 0.75 to 1.25, with a mean of 1."""
    known = [saliences.get(row.memories[0]) for row in rows]
    told = [value for value in known if value is not None and value > 0]
    usual = sum(told) / len(told) if told else 1.0
    raw = [usual if value is None else max(value, 0.0) for value in known]
    low, high = 0.0, HEAVIEST / min((value for value in raw if value > 0), default=1.0)
    for _ in range(60):  # the mean grows with the scale, so halving the interval finds it
        scale = (low + high) / 2
        mean = sum(_bounded(scale * value) for value in raw) / max(len(raw), 1)
        low, high = (scale, high) if mean < 1 else (low, scale)
    if not told:
        return list(rows)
    return [
        replace(row, weight=round(_bounded(high * value), 6)) for row, value in zip(rows, raw, strict=True)
    ]


def _bounded(weight: float) -> float:
    return min(max(weight, LIGHTEST), HEAVIEST)


def _core(
    core: Sequence[Sample], new: int, settings: ForgeSettings, shuffle: random.Random
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Rows to replay, so many that they are `share` of all, and other rows as anchors."""
    share = settings.core_share
    wanted = round(share * new / (1 - share))
    order = _spread(core, shuffle)
    if wanted and not order:
        raise BadInput(
            "there is no core to replay", hint="give the model a core.jsonl, or set forge.core_share = 0"
        )
    replayed = [replace(order[i % len(order)], source="core", weight=1.0) for i in range(wanted)]
    if abs(len(replayed) - share * (new + len(replayed))) > 1:
        raise AdaError(f"{len(replayed)} of {new + len(replayed)} rows are core, {share:.0%} were wanted")
    anchors = (order[wanted:] + order[: min(wanted, len(order))])[: settings.anchors]
    return tuple(replayed), tuple(replace(row, source="core", weight=1.0) for row in anchors)


def _spread(core: Sequence[Sample], shuffle: random.Random) -> list[Sample]:
    """All core rows once, shuffled, the kinds taking turns."""
    kinds: dict[str, list[Sample]] = {}
    for row in core:
        kinds.setdefault(row.kind, []).append(row)
    piles = [shuffle.sample(kinds[kind], len(kinds[kind])) for kind in sorted(kinds)]
    most = max(map(len, piles), default=0)
    return [pile[turn] for turn in range(most) for pile in piles if turn < len(pile)]


def _figures(new: Sequence[Dream], rows: Sequence[Sample], replayed: Sequence[Sample]) -> dict[str, object]:
    """Counts of the training rows. A dream counts for its first memory."""
    kinds: dict[str, list[str]] = {}
    for dream in new:
        kinds.setdefault(dream.memories[0], []).append(dream.kind)
    return {
        "rows": len(rows),
        "new": len(new),
        "core": len(replayed),
        "core_share": round(len(replayed) / len(rows), 4) if rows else 0.0,
        "samples_per_memory": {m: {"count": len(k), "kinds": len(set(k))} for m, k in kinds.items()},
        "samples_per_memory_min": min((len(k) for k in kinds.values()), default=0),
        "kinds_per_memory_min": min((len(set(k)) for k in kinds.values()), default=0),
    }
