"""The line of a generation: what it stands on, and what each ancestor learned. Names enter, rows leave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ada_memory.circadian import morning
from ada_memory.errors import AdaError, NotFound
from ada_memory.hippocampus.journal import Journal
from ada_memory.hippocampus.lineage import Answered, Became, Dreamt
from ada_memory.records import Generation, NightRecord
from ada_memory.service import why_views as v
from ada_memory.settings import Home
from ada_memory.sovereign import manifests, shelf
from ada_memory.sovereign.bases import Base
from ada_memory.sovereign.manifests import ROOT, Link


class Place(NamedTuple):
    """Where an answer is looked for: `serves` is the generation that answers now."""

    home: Home
    journal: Journal
    base: Base
    serves: str


class Known(NamedTuple):
    """A memory that a line has learned: where first."""

    text: str
    night: str
    generation: str


class Line(NamedTuple):
    """A generation and its ancestors, youngest first, and what they have learned by memory."""

    links: list[Link]
    rows: Mapping[str, Generation]
    known: dict[str, Known]

    @property
    def whole(self) -> bool:
        """Whether every link of the chain holds, down to the base."""
        return self.links[-1].generation == ROOT and not any(link.problem for link in self.links)


def line_of(place: Place, generation: str) -> Line:
    """Walk from a generation to the base.

    Raises:
        NotFound: neither the disk nor the journal knows it.
    """
    rows = {row.id: row for row in place.journal.generations()}
    try:
        links = manifests.line(place.home, generation)
    except NotFound:
        if generation not in rows:
            raise
        links = [Link(generation, "its folder is gone")]
    while links[-1].generation != ROOT and links[-1].generation in rows:  # the journal knows the rest
        below = rows[links[-1].generation].parent or ROOT
        links.append(Link(below, "nothing below the break can be checked"))
    known: dict[str, Known] = {}
    for link in reversed(links):
        night = rows[link.generation].night if link.generation in rows else None
        for one in place.journal.became(night=night) if night else ():
            if one.outcome == "learned":
                known.setdefault(one.memory, Known(one.text, one.night, link.generation))
    return Line(links, rows, known)


def link_views(line: Line) -> list[v.LinkView]:
    """The line as it is answered."""
    learned: dict[str, int] = {}
    for one in line.known.values():
        learned[one.generation] = learned.get(one.generation, 0) + 1
    return [
        v.LinkView(
            generation=link.generation,
            night=row.night if row else None,
            created_at=row.created_at if row else None,
            verdict=row.verdict if row else None,
            learned=learned.get(link.generation, 0),
            problem=link.problem,
        )
        for link in line.links
        for row in [line.rows.get(link.generation)]
    ]


def base_view(place: Place, generation: str) -> v.BaseView:
    """The base under a generation; of gen-0000 the one that serves."""
    said = {"name": place.base.name, "hash": place.base.hash}
    if generation != ROOT:
        try:
            said = {"name": "", **manifests.base_of(place.home, generation)}
        except AdaError:
            return v.BaseView(name="", hash="", present=False)
    present = shelf.place(place.home, said["hash"]).is_dir()
    return v.BaseView(name=said["name"], hash=said["hash"], present=present)


def night_line(place: Place, night: NightRecord) -> v.NightLine:
    """A night and the few figures of its report."""
    figures: Mapping[str, Any] = {}
    try:
        report = morning.read(place.home.nights / night.id)
        figures = morning.summary(report) if report else {}
    except (OSError, ValueError, TypeError, AttributeError):
        pass  # a report that cannot be read says nothing
    return v.NightLine(
        night=night.id,
        started_by=night.kind,
        opened_at=night.opened_at,
        verdict=figures.get("verdict"),
        dreams_made=figures.get("dreams_made"),
        dreams_accepted=figures.get("dreams_accepted"),
        exam_before=figures.get("exam_before"),
        exam_after=figures.get("exam_after"),
    )


def core_of(place: Place, generation: str) -> str | None:
    """The hash of the core that a generation's night replayed."""
    try:
        return str(manifests.manifest(place.home, generation).get("core") or "") or None
    except AdaError:
        return None


def dream_views(dreams: Iterable[Dreamt]) -> list[v.DreamView]:
    """Dreams as they are answered."""
    return [
        v.DreamView(
            name=f"{one.night}:{one.dream.id}",
            form=one.dream.kind,
            prompt=one.dream.prompt,
            reply=one.dream.reply,
            accepted=one.dream.accepted,
            reason=one.dream.reason,
            how=list(one.how),
        )
        for one in dreams
    ]


def answer_names(found: tuple[int, Sequence[Answered]]) -> v.Listed[v.AnswerName]:
    """Answers as they are listed."""
    total, rows = found
    return v.Listed(
        total=total,
        rows=[
            v.AnswerName(id=a.id, generation=a.generation, interaction=a.interaction, at=a.at, asked=a.asked)
            for a in rows
        ],
    )


def activation_views(place: Place, generation: str) -> list[v.ActivationView]:
    """When a generation served, newest first: each time ends where the next activation begins."""
    rows = place.journal.activations(1_000_000)
    return [
        v.ActivationView(
            at=row.at,
            reason=row.reason,
            until=after.at if after else None,
            ended_by=after.reason if after else None,
        )
        for row, after in zip(rows, [None, *rows], strict=False)
        if row.generation == generation
    ]


def generation_view(place: Place, name: str, limit: int) -> v.WhyGeneration:
    """A generation: what it stands on, what it was taught, what came after it."""
    journal = place.journal
    line = line_of(place, name)
    row = line.rows.get(name)
    key = place.home.generations / name / "key"
    became = journal.became(night=row.night) if row and row.night else []
    earlier = [(id_, one) for id_, one in line.known.items() if one.generation != name]
    shown, kinds = earlier[:limit], journal.taught_kinds(name)
    sources = journal.sources(id_ for id_, _ in shown)
    return v.WhyGeneration(
        id=name,
        serves=name == place.serves,
        base=base_view(place, name),
        line=link_views(line),
        verified=line.whole,
        key="none" if name == ROOT else "kept" if key.is_file() else "destroyed",
        core=core_of(place, name),
        trained_on=kinds["train"],
        stopped_by=kinds["stop"],
        night=night_line(place, journal.night(row.night)) if row and row.night else None,
        dreams=v.Listed(
            total=sum(kinds["train"].values()), rows=dream_views(journal.taught_dreams(name, limit))
        ),
        memories=_taught(place, name, line, became, limit),
        superseded=settled_views(place, (one for one in became if one.outcome == "superseded"), limit),
        earlier=v.Listed(
            total=len(earlier),
            rows=[
                v.KnownMemory(
                    id=id_,
                    text=one.text,
                    night=one.night,
                    generation=one.generation,
                    interactions=sources.get(id_, []),
                )
                for id_, one in shown
            ],
        ),
        children=[other.id for other in line.rows.values() if (other.parent or ROOT) == name],
        activations=activation_views(place, name),
        answers=answer_names(journal.answers(generation=name, limit=limit)),
    )


def _taught(
    place: Place, name: str, line: Line, became: Iterable[Became], limit: int
) -> v.Listed[v.TaughtMemory]:
    rows = place.journal.taught(name)
    learned = {one.memory for one in became if one.outcome == "learned"}
    sources = place.journal.sources(row.memory for row in rows[:limit])

    def how(memory: str, own: bool) -> Literal["learned", "rehearsed", "bridged", "taught"]:
        if memory in learned:
            return "learned" if line.known[memory].generation == name else "rehearsed"
        if not own:
            return "bridged"
        return "rehearsed" if memory in line.known else "taught"

    return v.Listed(
        total=len(rows),
        rows=[
            v.TaughtMemory(
                id=row.memory,
                text=row.text,
                interactions=sources.get(row.memory, []),
                train=row.train,
                stop=row.stop,
                how=how(row.memory, row.own),
            )
            for row in rows[:limit]
        ],
    )


def settled_views(place: Place, became: Iterable[Became], limit: int) -> v.Listed[v.SettledMemory]:
    """What a night made of memories, as it is listed."""
    rows = list(became)
    sources = place.journal.sources(row.memory for row in rows[:limit])
    return v.Listed(
        total=len(rows),
        rows=[
            v.SettledMemory(
                id=row.memory,
                text=row.text,
                outcome=row.outcome,
                reason=row.reason,
                interactions=sources.get(row.memory, []),
            )
            for row in rows[:limit]
        ],
    )
