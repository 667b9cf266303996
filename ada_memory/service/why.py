"""`why`: from any name to what it came from and what came of it. A name enters; one answer leaves.

Everything is read out of the journal and the manifests; nothing is computed that they do not hold, except
which memories in the weights lie near a question.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Literal

from ada_memory.errors import BadInput, NotFound
from ada_memory.hippocampus.vectors import exact
from ada_memory.records import Interaction, Memory
from ada_memory.service import why_views as v
from ada_memory.service.why_line import (
    Line,
    Place,
    answer_names,
    base_view,
    dream_views,
    generation_view,
    line_of,
    link_views,
    night_line,
    settled_views,
)

NAMES = (
    "a generation (gen-0003, or latest), a memory (m000012-0), an answer (chatcmpl-…), an interaction (its "
    "id, or how it begins), a night (p7, 2026-03-01: as `ada nights` lists it) or a dream (p7:d00-00012)"
)
_NOT_KEPT = "only answers that were remembered are kept: one asked with remember=false left nothing"
_NEAR, _NEAREST = 0.3, 3


def why(place: Place, name: str, limit: int = 20) -> v.Why:
    """What a thing came from and what came of it; long lists have at most `limit` rows.

    Raises:
        NotFound: nothing goes by this name.
        BadInput: several interactions or answers begin so.
    """
    name = place.serves if name in ("latest", "active") else name.strip()
    if name.startswith("gen-"):
        return generation_view(place, name, limit)
    if re.fullmatch(r"m\d+-\d+", name):
        return _memory(place, name, limit)
    if name.startswith("chatcmpl-"):
        return _answer(place, _position(place, "answers", name, _NOT_KEPT))
    night, mark, dream = name.replace("/", ":").partition(":")
    if mark:
        return _dream(place, night, dream)
    if re.fullmatch(r"[0-9a-fA-F]{6,32}", name):
        return _interaction(place, _position(place, "interactions", name.lower(), ""))
    try:
        return _night(place, name, limit)
    except NotFound:
        raise NotFound(f"nothing is called {name[:80]!r}", hint=f"give {NAMES}") from None


def _memory(place: Place, name: str, limit: int) -> v.WhyMemory:
    journal, memory = place.journal, place.journal.memory(name)
    rows = {row.id: row for row in journal.generations()}
    made = {row.night: row.id for row in rows.values()}
    became, taught = journal.became(memories=[name]), journal.taught_to(name)
    total, dreams = journal.dreams_of(name, limit)
    carried, line = [], {one.generation for one in taught}
    for row in rows.values():  # oldest first: a parent comes before its children
        if row.id not in line and row.parent in line:
            line.add(row.id)
            carried.append(row.id)
    return v.WhyMemory(
        id=name,
        text=memory.text,
        role=memory.role,
        at=memory.at,
        route=memory.route,
        salience=memory.salience.score,
        reasons=dict(memory.salience.reasons),
        tags=list(memory.tags),
        state=state_of(memory, became[-1].outcome if became else None),
        interactions=[_source(one) for one in _interactions(place, memory.interactions)],
        read_by={str(how): count for how, count in journal.dream_counts(name).items()},
        dreams=v.Listed(total=total, rows=dream_views(dreams)),
        nights=[
            v.OutcomeView(
                night=one.night, outcome=one.outcome, reason=one.reason, generation=made.get(one.night)
            )
            for one in became
        ],
        overrides=[
            v.OverrideView(night=night, memory=one.memory, claim=one.claim, newer=one.newer)
            for night, one in journal.overrides(name)
        ],
        taught=[
            v.TaughtView(
                generation=one.generation, night=rows[one.generation].night, train=one.train, stop=one.stop
            )
            for one in taught
        ],
        carried_by=carried,
        answers=answer_names(journal.answers(memory=name, limit=limit)),
    )


def _answer(place: Place, position: int) -> v.WhyAnswer:
    found = place.journal.answer_at(position)
    [turn] = _interactions(place, [position])
    if found is None or turn.draft.answer is None:
        raise NotFound("no answer was kept there", hint=_NOT_KEPT)
    recalled = turn.draft.answer.memories
    line = line_of(place, found.generation)
    sources = place.journal.sources(recalled)
    said = [message.content for message in turn.draft.messages if message.role == "assistant"]
    return v.WhyAnswer(
        id=found.id,
        interaction=turn.id,
        at=turn.draft.at,
        generation=found.generation,
        asked=found.asked,
        reply=said[-1] if said else "",
        recalled=[
            v.RecalledMemory(
                id=memory.id,
                text=memory.text,
                interactions=sources.get(memory.id, []),
                generation=line.known[memory.id].generation if memory.id in line.known else None,
            )
            for memory in sorted(place.journal.memories(ids=recalled), key=lambda m: recalled.index(m.id))
        ],
        in_the_weights=_near(place, position, line),
        base=base_view(place, found.generation),
        line=link_views(line),
    )


def _near(place: Place, position: int, line: Line) -> list[v.NearMemory]:
    """The memories that a line has learned and that lie nearest to what was asked."""
    made = place.journal.made_of(position)
    vector = place.journal.vector_of(made[-1]) if made else None
    if vector is None:
        return []
    names, matrix = place.journal.vectors(vector[0], ids=set(line.known) - set(made))
    near = [(one, cosine) for one, cosine in exact(names, matrix, vector[1], _NEAREST) if cosine >= _NEAR]
    sources = place.journal.sources(one for one, _ in near)
    return [
        v.NearMemory(
            id=one,
            text=line.known[one].text,
            night=line.known[one].night,
            similarity=round(cosine, 4),
            generation=line.known[one].generation,
            interactions=sources.get(one, []),
        )
        for one, cosine in near
    ]


def _interaction(place: Place, position: int) -> v.WhyInteraction:
    journal = place.journal
    [found] = _interactions(place, [position])
    memories = journal.memories(ids=journal.made_of(position))
    became = {one.memory: one.outcome for one in journal.became(memories=[one.id for one in memories])}
    return v.WhyInteraction(
        id=found.id,
        position=position,
        at=found.draft.at,
        app=found.draft.app,
        session=found.draft.session,
        tags=list(found.draft.tags),
        messages=[v.MessageView(role=one.role, content=one.content) for one in found.draft.messages],
        memories=[
            v.ForwardMemory(
                id=one.id,
                text=one.text,
                route=one.route,
                state=state_of(one, became.get(one.id)),
                taught=[to.generation for to in journal.taught_to(one.id)],
            )
            for one in memories
        ],
        answer=_answer(place, position) if found.draft.answer else None,
    )


def _night(place: Place, name: str, limit: int) -> v.WhyNight:
    journal, night, stages = place.journal, place.journal.night(name), place.journal.stages(name)
    became = journal.became(night=name)
    settled = {one.memory for one in became}
    open_ = [row for row in journal.dreamt_by(name) if row[0] not in settled]
    sources = journal.sources(row[0] for row in open_[:limit])
    listed = settled_views(place, became, limit)
    rest = [
        v.SettledMemory(
            id=memory,
            text=text,
            interactions=sources.get(memory, []),
            outcome="waiting",
            reason=f"{accepted} of {made} dreams accepted, nothing taught",
        )
        for memory, text, made, accepted in open_
    ]
    outcomes = Counter(str(one.outcome) for one in became)
    return v.WhyNight(
        id=name,
        started_by=night.kind,
        opened_at=night.opened_at,
        upto=night.upto,
        parent=night.parent,
        finished=any(stage.name == "report" for stage in stages),
        generation=next((row.id for row in journal.generations() if row.night == name), None),
        summary=night_line(place, night),
        stages=[v.StageLine(stage=one.name, outcome=one.outcome, reason=one.reason) for one in stages],
        outcomes=outcomes | ({"waiting": len(rest)} if rest else {}),
        memories=v.Listed(total=listed.total + len(rest), rows=[*listed.rows, *rest][:limit]),
    )


def _dream(place: Place, night: str, name: str) -> v.WhyDream:
    found, taught = place.journal.dream(night, name)
    dream, journal = found.dream, place.journal
    reads = [(memory, "bridge" if place_ else "own") for place_, memory in enumerate(dream.memories)]
    reads += [(read.memory, read.how) for read in dream.reads]
    texts = {memory.id: memory.text for memory in journal.memories(ids={memory for memory, _ in reads})}
    sources = journal.sources(texts)
    return v.WhyDream(
        name=f"{night}:{name}",
        night=night,
        generation=found.generation,
        form=dream.kind,
        claim=dream.claim,
        prompt=dream.prompt,
        reply=dream.reply,
        cycle=dream.cycle,
        attempt=dream.attempt,
        score=dream.score,
        accepted=dream.accepted,
        reason=dream.reason,
        reads=[
            v.ReadView(id=one, text=texts.get(one, ""), interactions=sources.get(one, []), how=how)
            for one, how in reads
        ],
        taught=[v.TaughtDream(generation=generation, part=part) for generation, part in taught],
    )


def state_of(memory: Memory, settled: str | None) -> str:
    """What has become of a memory, in one word: what the latest night said, or where it waits."""
    if settled is not None or memory.route == "ignored":
        return settled or "ignored"
    return "waiting" if memory.route == "weights" and "no-train" not in memory.tags else "verbatim"


def _position(place: Place, table: Literal["interactions", "answers"], start: str, hint: str) -> int:
    """The place in the journal of what goes by this id, or alone begins so."""
    found = place.journal.starting_with(table, start)
    noun = table[:-1]
    if not found:
        raise NotFound(f"there is no {noun} {start!r}", hint=hint or f"give {NAMES}")
    if len(found) > 1 and found[0][0] != start:
        raise BadInput(f"several {table} begin with {start!r}", hint="give more of the id", field="name")
    return found[0][1]


def _interactions(place: Place, positions: Iterable[int]) -> list[Interaction]:
    return [one for position in positions for one in place.journal.interactions(position - 1, 1)]


def _source(one: Interaction) -> v.SourceView:
    return v.SourceView(
        id=one.id, position=one.position, at=one.draft.at, app=one.draft.app, session=one.draft.session
    )
