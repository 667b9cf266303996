"""REM: cycles of bursts, and the loop of verify, rewrite and dream again. All state is the list of dreams."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ada_memory.dream.generator import DreamGenerator
from ada_memory.dream.prompts import Claim
from ada_memory.dream.verifier import rewrite, verify
from ada_memory.records import Dream
from ada_memory.words import overlap

Claims = Sequence[tuple[str, Claim]]
Progress = Callable[[int, int, str], None]
PART = 256
"""Dreams made in one go: enough to fill the batches of a model, few enough to say how far it is."""
JUDGED = 128
"""Dreams judged in one go: each is several prompts."""
ENOUGH = 10
"""Accepted, distinct dreams below which a memory is dreamt of again."""
RETELLINGS = 4
"""Most accepted statements of a memory by which its refused dreams are judged again."""
SPARE = "enough of this memory"
"""Why a dream that holds is let go."""
ALIKE = 0.6
"""Shared words, of all words of both, above which two prompts are worded alike."""


def dreamt(generator: DreamGenerator, claims: Claims, cycles: int, progress: Progress) -> list[Dream]:
    """The dreams of so many REM cycles."""
    settings = generator.settings
    wanted = cycles * (len(claims) * settings.burst + settings.bridges)
    dreams: list[Dream] = []
    for number in range(cycles):
        for part in cycle(generator, claims, number):
            dreams += part
            progress(len(dreams), wanted, f"REM cycle {number + 1} of {cycles}")
    return dreams


def cycle(generator: DreamGenerator, claims: Claims, number: int) -> Iterator[list[Dream]]:
    """One REM cycle, part by part: a burst of dreams of every claim, then a few bridges of distant ones."""
    settings = generator.settings
    part = max(PART // settings.burst, 1)
    for start in range(0, len(claims), part):
        yield generator.burst(claims[start : start + part], number, settings.burst)
    yield generator.bridges(claims, number, settings.bridges)


def verified(
    generator: DreamGenerator,
    dreams: Sequence[Dream],
    claims: Claims,
    texts: Mapping[str, str],
    show: Callable[[Dream], None],
    progress: Progress,
) -> list[Dream]:
    """Every dream with its verdict.

    Failures are rewritten and thin memories dreamt of again, `rewrites` times at most. What is refused for a
    memory of few questions is judged again by its retellings.
    """
    settings = generator.settings
    final: list[Dream] = []
    todo = list(dreams)
    rounds = settings.rewrites + 1
    for attempt in range(rounds):
        judged = _judge(generator, todo, final, texts, attempt * len(dreams), show, progress)
        final += judged
        if attempt == rounds - 1:
            break
        again = _again(generator, final, claims, settings.cycles + attempt)
        todo = [*rewrite(generator.engine, list(filter(_refused, judged)), texts), *again]
        if not todo:
            break
    return _best(_retold(generator, final, show), settings.samples_per_memory)


def _judge(
    generator: DreamGenerator,
    todo: Sequence[Dream],
    final: Sequence[Dream],
    texts: Mapping[str, str],
    before: int,
    show: Callable[[Dream], None],
    progress: Progress,
) -> list[Dream]:
    known = {_key(d) for d in final if d.accepted}
    fresh: list[Dream] = []
    twins: list[Dream] = []
    for dream in todo:
        if dream.prompt and _key(dream) in known:
            twins.append(replace(dream, accepted=False, reason="duplicate"))
        else:
            known.add(_key(dream))
            fresh.append(dream)
    judged: list[Dream] = []
    for start in range(0, len(fresh), JUDGED):
        part = verify(generator.engine, fresh[start : start + JUDGED], texts, generator.settings)
        for dream in part:
            show(dream)
        judged += part
        good = sum(d.accepted for d in judged)
        progress(before + len(judged), before + len(fresh), f"{good} accepted of {len(judged)}")
    return [*judged, *twins]


def _retold(generator: DreamGenerator, dreams: Sequence[Dream], show: Callable[[Dream], None]) -> list[Dream]:
    """The dreams; of those that were refused, some accepted.

    A model may misread one wording, and then refuses every question about it, however right. The statements
    that it accepted say the same in other words: what holds by one of them holds.
    """
    asked = Counter(d.memories[0] for d in dreams if d.accepted and d.kind == "question")
    told: dict[str, dict[str, None]] = defaultdict(dict)
    for dream in dreams:
        if dream.accepted and dream.kind == "statement" and asked[dream.memories[0]] < ENOUGH:
            told[dream.memories[0]].setdefault(dream.reply)
    final = {dream.id: dream for dream in dreams}
    for turn in range(RETELLINGS):
        texts = {memory: list(replies)[turn] for memory, replies in told.items() if len(replies) > turn}
        alone = (d for d in final.values() if d.prompt and len(d.memories) == 1 and d.memories[0] in texts)
        refused = list(filter(_refused, alone))
        for dream in verify(generator.engine, refused, texts, generator.settings) if refused else ():
            if dream.accepted:
                final[dream.id] = dream
                show(dream)
    return list(final.values())


def _refused(dream: Dream) -> bool:
    """Whether a dream did not pass, for a reason of its own."""
    return not dream.accepted and dream.reason != "duplicate"


def _again(generator: DreamGenerator, final: Sequence[Dream], claims: Claims, number: int) -> list[Dream]:
    have = Counter(d.memories[0] for d in final if d.accepted)
    thin = [(memory, claim) for memory, claim in claims if have[memory] < ENOUGH]
    return generator.burst(thin, number, generator.settings.burst) if thin else []


def _best(dreams: Sequence[Dream], wanted: int) -> list[Dream]:
    """Accepted dreams beyond `wanted` a memory are let go, first those worded like another one.

    Kinds take turns, questions more often; among equals the surest comes first.
    """
    by_memory: dict[str, list[Dream]] = defaultdict(list)
    for dream in dreams:
        if dream.accepted:
            by_memory[dream.memories[0]].append(dream)
    kept: set[str] = set()
    for own in by_memory.values():
        rank: Counter[str] = Counter()
        turns = []
        worded = _worded(sorted(own, key=lambda d: -(d.score or 0)))
        for _, dream in sorted(worded, key=lambda pair: pair[0]):
            share = 3 if dream.kind in ("question", "style") else 1
            turns.append(((rank[dream.kind] + 1) / share, dream.id))
            rank[dream.kind] += 1
        kept |= {id_ for _, id_ in sorted(turns)[:wanted]}
    return [d if not d.accepted or d.id in kept else replace(d, accepted=False, reason=SPARE) for d in dreams]


def _worded(dreams: Iterable[Dream]) -> Iterator[tuple[int, Dream]]:
    """Each dream with the number of dreams of its kind before it whose prompt has much the same words."""
    seen: dict[str, list[tuple[set[str], int]]] = defaultdict(list)
    for dream in dreams:
        words = set(dream.prompt.casefold().split())
        alike = seen[dream.kind]
        for at, (others, count) in enumerate(alike):
            if overlap(words, others) > ALIKE:
                alike[at] = (others, count + 1)
                yield count, dream
                break
        else:
            alike.append((words, 1))
            yield 0, dream


def _key(dream: Dream) -> tuple[str, str, str]:
    return (
        dream.memories[0],
        " ".join(dream.prompt.casefold().split()),
        " ".join(dream.reply.casefold().split()),
    )


def holds(accepted: bool, reason: str) -> bool:
    """Whether the verifier found a dream true: it was accepted, or let go because there were enough."""
    return accepted or reason == SPARE


def figures(dreams: Sequence[Dream], cycles: int) -> dict[str, object]:
    """Counts, and lucidity: the share of a cycle's dreams that the verifier found true."""
    by_cycle: dict[int, list[bool]] = defaultdict(list)
    failed = [d for d in dreams if not holds(d.accepted, d.reason)]
    for dream in dreams:
        if dream.attempt == 0 and dream.reason != "duplicate":
            by_cycle[dream.cycle].append(holds(dream.accepted, dream.reason))
    return {
        "made": len(dreams),
        "accepted": sum(d.accepted for d in dreams),
        "rewritten": sum(d.attempt > 0 for d in dreams),
        "rewritten_accepted": sum(d.attempt > 0 and d.accepted for d in dreams),
        "lucidity": [round(sum(by_cycle[c]) / max(1, len(by_cycle[c])), 4) for c in range(cycles)],
        "spare": sum(d.reason == SPARE and not d.accepted for d in dreams),
        "rejected": dict(Counter(_short(d.reason) for d in failed).most_common()),
        "by_kind": dict(Counter(d.kind for d in dreams if d.accepted)),
    }


def _short(reason: str) -> str:
    return reason.partition(":")[0]
