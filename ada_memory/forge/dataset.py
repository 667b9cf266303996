"""What a night trains on: accepted dreams, what is rehearsed, a share of core, and what watches them.

In: dreams, how much their memories matter, samples of what is known already, the core's rows. Out: chat rows
in three lists. `train` carries loss, `stop` holds phrasings that are only asked, `anchors` are rows on which
the model is held to its base. No prompt of `stop` or of what is withheld ever occurs in `train`.

Rows in a pool take turns: one of each pool an epoch. So an old memory is heard in another phrasing every
time, at the price of one row, the core in other rows, and a question whole and clipped by turns.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ada_memory.engines.folder import publish
from ada_memory.errors import AdaError, BadInput
from ada_memory.forge.phrasings import clipped, held_out, normalise
from ada_memory.records import Dream, Message, Sample
from ada_memory.settings import ForgeSettings

LIGHTEST, HEAVIEST = 0.75, 1.25
CLIPS = 2
"""Ways in which a question is clipped."""
CLIPPED = "clipped"
"""The kind of such rows: they are no samples of their own."""
MORE = ("kind", "dream", "pool", "claim")
"""Fields of a sample that tell where it comes from."""
OLD_STOPS = 256
"""Most known memories that watch the training beside the new ones, by a question each."""


@dataclass(frozen=True, slots=True)
class Known:
    """A memory of earlier nights: the samples that taught it, and the questions that were only asked.

    `weak` says that those questions were not all answered when the night began.
    """

    memory: str
    train: tuple[Sample, ...]
    stop: tuple[Sample, ...] = ()
    weak: bool = False


@dataclass(frozen=True, slots=True)
class Dataset:
    """The rows of a night and what there is to report about them."""

    train: tuple[Sample, ...]
    stop: tuple[Sample, ...]
    anchors: tuple[Sample, ...]
    figures: Mapping[str, object]


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
    known: Sequence[Known] = (),
) -> Dataset:
    """Make the night's rows: the same arguments give the same rows.

    Raises:
        BadInput: a share of core is wanted and there is no core.
    """
    shuffle = random.Random(seed)
    never = {normalise(prompt) for prompt in withheld}
    kept = _distinct(dream for dream in dreams if dream.accepted)
    allowed = [dream for dream in kept if normalise(dream.prompt) not in never]
    asked = held_out(allowed, shuffle)
    train = [dream for dream in allowed if normalise(dream.prompt) not in asked]
    new = _weighted([_row(dream) for dream in train], saliences)
    stop = [_row(dream) for dream in allowed if normalise(dream.prompt) in asked]
    prompts = {prompt_of(row) for row in new}
    watched = [[row for row in old.stop if prompt_of(row) not in prompts] for old in known]
    asked |= {prompt_of(row) for rows in watched for row in rows}

    # A row that asks a stop question would teach its answer, one that asks what is new an old answer.
    taken = never | asked | prompts
    due = _rehearsed(known, taken, settings, shuffle)
    taken |= {prompt_of(row) for row in due}
    pool = [row for row in core if prompt_of(row) not in taken]
    replayed, anchors = _core(pool, len(new) + turns(due), settings, shuffle)
    barred = never | asked
    varied = [row for whole in new for row in _by_turns(whole, CLIPS, settings.clip, barred, shuffle)]
    rows = (*varied, *due, *replayed)
    figures = _figures(train, rows) | {
        "stop": len(stop),
        "anchors": len(anchors),
        "known": len(known),
        "withheld_dropped": len(kept) - len(allowed),
    }
    # a question each: a memory that is asked for in many ways would speak for all
    watching = [shuffle.choice(rows) for rows in watched if rows]
    stop += shuffle.sample(watching, min(len(watching), OLD_STOPS))
    return Dataset(rows, tuple(stop), anchors, figures)


def turns(rows: Sequence[Sample]) -> int:
    """How many of the rows an epoch takes: each that stands alone, and one of every pool."""
    return sum(not row.pool for row in rows) + len({row.pool for row in rows if row.pool})


def mending(
    rows: Sequence[Sample], weak: Collection[str], core_share: float, shuffle: random.Random
) -> list[int]:
    """Which rows mend the `weak` memories: all of theirs, as many of others, and core in its share."""
    own: list[int] = []
    others: list[int] = []
    core: list[int] = []
    for number, row in enumerate(rows):
        part = core if not row.memories else own if row.memories[0] in weak else others
        part.append(number)
    beside = shuffle.sample(others, min(len(own), len(others)))
    replayed = min(_replayed(len(own) + len(beside), core_share), len(core))
    return [*own, *beside, *shuffle.sample(core, replayed)] if own else []


def write(dataset: Dataset, folder: Path) -> None:
    """Write train.jsonl, stop.jsonl, anchors.jsonl and figures.json; the folder appears whole."""

    def fill(folder: Path) -> None:
        for name in ("train", "stop", "anchors"):
            lines = [json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in getattr(dataset, name)]
            (folder / f"{name}.jsonl").write_text("".join(lines), "utf-8")
        (folder / "figures.json").write_text(json.dumps(dict(dataset.figures), indent=2) + "\n", "utf-8")

    publish(folder, fill)


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
    """Read chat JSONL; `source`, `weight`, `memories`, `slack` and `MORE` may be left out.

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
            source, slack = row.get("source", "core"), float(row.get("slack", 0.0))
            more = {key: row.get(key, "") for key in MORE}
            rows.append(Sample(messages, source, weight, memories, **more, slack=slack))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AdaError(f"line {number} of {file} is not a chat row: {error!r}") from None
    return rows


def _row(dream: Dream) -> Sample:
    messages = (Message("user", dream.prompt), Message("assistant", dream.reply))
    return Sample(messages, "new", 1.0, dream.memories, dream.kind, dream.id, claim=dream.claim)


def _by_turns(
    row: Sample, clips: int, share: float, barred: set[str], shuffle: random.Random
) -> list[Sample]:
    """The row; of a question a pool of it and so many clipped versions, whole every other time."""
    if row.kind != "question" or not share:
        return [row]
    asked, reply = row.messages
    prompts = [clipped(asked.content, row.claim, share, shuffle) for _ in range(clips)]
    whole = replace(row, pool=row.pool or f"clip/{row.memories[0]}/{row.dream}")
    rows = []
    for prompt in prompts:
        ok = prompt != asked.content and normalise(prompt) not in barred
        short = replace(whole, messages=(Message("user", prompt), reply), kind=CLIPPED)
        rows += [whole, short] if ok else []
    return rows or [row]


def _distinct(dreams: Iterable[Dream]) -> list[Dream]:
    """The first of each prompt and reply that are the same to a reader."""
    first: dict[tuple[str, str], Dream] = {}
    for dream in dreams:
        first.setdefault((normalise(dream.prompt), normalise(dream.reply)), dream)
    return list(first.values())


def _rehearsed(
    known: Sequence[Known], taken: set[str], settings: ForgeSettings, shuffle: random.Random
) -> tuple[Sample, ...]:
    """Samples of known memories: of a weak one all, of any other `rehearse` an epoch, taking turns."""
    rows: list[Sample] = []
    each = settings.rehearse
    for old in known:
        if not (each or old.weak):
            continue
        free = [replace(row, source="due", weight=1.0) for row in old.train if prompt_of(row) not in taken]
        shuffle.shuffle(free)
        if not old.weak:
            free = [replace(row, pool=f"{old.memory}/{at % each}") for at, row in enumerate(free)]
        clips = CLIPS if old.weak else 1
        rows += [turn for row in free for turn in _by_turns(row, clips, settings.clip, taken, shuffle)]
    return tuple(rows)


def _weighted(rows: Sequence[Sample], saliences: Mapping[str, float]) -> list[Sample]:
    """Weights in proportion to salience, from 0.75 to 1.25, with a mean of 1."""
    known = [saliences.get(row.memories[0]) for row in rows]
    told = [value for value in known if value is not None and value > 0]
    if not told:
        return list(rows)
    usual = sum(told) / len(told)
    raw = [usual if value is None else max(value, 0.0) for value in known]
    low, high = 0.0, HEAVIEST / min(value for value in raw if value > 0)
    for _ in range(60):  # the mean grows with the scale, so halving the interval finds it
        scale = (low + high) / 2
        mean = sum(_bounded(scale * value) for value in raw) / len(raw)
        low, high = (scale, high) if mean < 1 else (low, scale)
    return [
        replace(row, weight=round(_bounded(high * value), 6)) for row, value in zip(rows, raw, strict=True)
    ]


def _bounded(weight: float) -> float:
    return min(max(weight, LIGHTEST), HEAVIEST)


def _core(
    core: Sequence[Sample], new: int, settings: ForgeSettings, shuffle: random.Random
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Rows to replay in pools, so many that they are `share` of every epoch, and other rows as anchors."""
    wanted = _replayed(new, settings.core_share)
    order = [replace(row, source="core", weight=1.0) for row in _spread(core, shuffle)]
    if wanted and not order:
        raise BadInput(
            "there is no core to replay", hint="give the model a core.jsonl, or set forge.core_share = 0"
        )
    # Half of the core at most is replayed: what is left anchors the model without being trained.
    depth = max(1, min(settings.epochs, len(order) // (2 * wanted))) if wanted else 0
    replayed = [
        replace(order[(turn * wanted + at) % len(order)], pool=f"core/{at}")
        for at in range(wanted)
        for turn in range(depth)
    ]
    used = min(wanted * depth, len(order))
    held = (order[used:] + order[:used])[: settings.anchors]
    return tuple(replayed), tuple(replace(row, slack=settings.slack) for row in held)


def _replayed(others: int, share: float) -> int:
    """How many core rows are that share of all, with so many others."""
    return round(share * others / (1 - share))


def _spread(core: Sequence[Sample], shuffle: random.Random) -> list[Sample]:
    """All core rows once, shuffled, the kinds taking turns."""
    kinds: dict[str, list[Sample]] = {}
    for row in core:
        kinds.setdefault(row.kind, []).append(row)
    piles = [shuffle.sample(kinds[kind], len(kinds[kind])) for kind in sorted(kinds)]
    most = max(map(len, piles), default=0)
    return [pile[turn] for turn in range(most) for pile in piles if turn < len(pile)]


def _figures(new: Sequence[Dream], rows: Sequence[Sample]) -> dict[str, object]:
    """Counts of the rows of an epoch. A dream counts for its first memory."""
    kinds: dict[str, list[str]] = {}
    for dream in new:
        kinds.setdefault(dream.memories[0], []).append(dream.kind)
    due, core = (turns([row for row in rows if row.source == source]) for source in ("due", "core"))
    return {
        "rows": turns(rows),
        "new": len(new),
        "due": due,
        "core": core,
        "core_share": round(core / turns(rows), 4) if rows else 0.0,
        "samples_per_memory": {m: {"count": len(k), "kinds": len(set(k))} for m, k in kinds.items()},
        "samples_per_memory_min": min((len(k) for k in kinds.values()), default=0),
        "kinds_per_memory_min": min((len(set(k)) for k in kinds.values()), default=0),
    }
