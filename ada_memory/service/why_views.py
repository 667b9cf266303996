"""The answers of GET /v1/why/{name}: one shape for each kind of thing, told apart by `kind`.

A list that may grow long is a `total` and its first `rows`; ask with a larger `limit` for more of them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field

from ada_memory.records import Outcome, StageName
from ada_memory.service.schemas import Out

T = TypeVar("T")
Settled = Literal["learned", "skipped", "superseded", "set_aside"]


class Listed(Out, Generic[T]):
    """How many there are, and the first of them."""

    total: int
    rows: list[T]


class MemoryName(Out):
    """A memory and the interactions that it was made of."""

    id: str
    text: str
    interactions: list[str]


class BaseView(Out):
    """The untouched model under a generation. `present` says whether its copy is under the home."""

    name: str
    hash: str
    present: bool


class LinkView(Out):
    """One generation of a line. `problem` says why its place in the chain cannot be believed, or nothing."""

    generation: str
    night: str | None
    created_at: datetime | None
    verdict: str | None
    learned: int
    problem: str


class ActivationView(Out):
    """When a generation began to serve, and why; `until` and `ended_by` are null while it serves."""

    at: datetime
    reason: str
    until: datetime | None
    ended_by: str | None


class DreamView(Out):
    """One dream; `name` is what `why` calls it: the night, a colon, the dream's id."""

    name: str
    form: str
    prompt: str
    reply: str
    accepted: bool
    reason: str
    how: list[str]


class TaughtMemory(MemoryName):
    """A memory that a generation was taught, with the number of its dreams in train and in stop.

    `how` is learned (here first), rehearsed (an ancestor had learned it), bridged (in another's dreams only)
    or taught (the night did not get to settle it).
    """

    how: Literal["learned", "rehearsed", "bridged", "taught"]
    train: int
    stop: int


class SettledMemory(MemoryName):
    """What a night made of a memory; `waiting` if it dreamt of it and settled nothing."""

    outcome: Settled | Literal["waiting"]
    reason: str


class KnownMemory(MemoryName):
    """A memory that an ancestor, or the generation itself, has learned: in which night."""

    generation: str
    night: str


class NearMemory(KnownMemory):
    """A memory in the weights that lies near to what was asked; `similarity` is a cosine."""

    similarity: float


class RecalledMemory(MemoryName):
    """A memory that was put before the model; `generation` is the one that had learned it as well, if any."""

    generation: str | None


class AnswerName(Out):
    """A kept answer in a line."""

    id: str
    generation: str
    interaction: str
    at: datetime
    asked: str


class NightLine(Out):
    """A night in a line; null is what its report does not say."""

    night: str
    started_by: str
    opened_at: datetime
    verdict: str | None
    dreams_made: int | None
    dreams_accepted: int | None
    exam_before: float | None
    exam_after: float | None


class WhyGeneration(Out):
    """A generation: what it stands on, what its night taught it, what it had from before, and who came after.

    `serves` says whether it answers now. `key` is whether the commitment to its dataset can still be tested.
    `core` is the SHA-256 of the core that its night replayed. Dreams are counted by kind.
    """

    kind: Literal["generation"] = "generation"
    id: str
    serves: bool
    base: BaseView
    line: list[LinkView]
    verified: bool
    key: Literal["kept", "destroyed", "none"]
    core: str | None
    night: NightLine | None
    trained_on: dict[str, int]
    stopped_by: dict[str, int]
    dreams: Listed[DreamView]
    memories: Listed[TaughtMemory]
    superseded: Listed[SettledMemory]
    earlier: Listed[KnownMemory]
    children: list[str]
    activations: list[ActivationView]
    answers: Listed[AnswerName]


class SourceView(Out):
    """An interaction that a memory came from."""

    id: str
    position: int
    at: datetime
    app: str
    session: str


class OutcomeView(Out):
    """What one night made of a memory, and the generation that it made."""

    night: str
    outcome: Settled
    reason: str
    generation: str | None


class OverrideView(Out):
    """A claim of `memory` that was dropped because `newer` says otherwise."""

    night: str
    memory: str
    claim: str
    newer: str


class TaughtView(Out):
    """A generation that was taught a memory, and in how many dreams of each part."""

    generation: str
    night: str | None
    train: int
    stop: int


class WhyMemory(Out):
    """A memory: where it came from, who dreamt of it, what became of it, who was taught it.

    `read_by` counts the dreams that read it by how they did: own, bridge, verifier, rewriter. `carried_by`
    are the generations that grew from one that was taught it.
    """

    kind: Literal["memory"] = "memory"
    id: str
    text: str
    role: str
    at: datetime
    route: str
    salience: float
    reasons: dict[str, float]
    tags: list[str]
    state: str
    interactions: list[SourceView]
    read_by: dict[str, int]
    dreams: Listed[DreamView]
    nights: list[OutcomeView]
    overrides: list[OverrideView]
    taught: list[TaughtView]
    carried_by: list[str]
    answers: Listed[AnswerName]


class WhyAnswer(Out):
    """An answer: who gave it, what was put before the model, and what its weights had been taught nearby."""

    kind: Literal["answer"] = "answer"
    id: str
    interaction: str
    at: datetime
    generation: str
    asked: str
    reply: str
    recalled: list[RecalledMemory]
    in_the_weights: list[NearMemory]
    base: BaseView
    line: list[LinkView]


class MessageView(Out):
    """One message as it was kept."""

    role: str
    content: str


class ForwardMemory(Out):
    """A memory made of an interaction, what became of it, and the generations that were taught it."""

    id: str
    text: str
    route: str
    state: str
    taught: list[str]


class WhyInteraction(Out):
    """An interaction and what came of it; `answer` if the model's reply in it was given here."""

    kind: Literal["interaction"] = "interaction"
    id: str
    position: int
    at: datetime
    app: str
    session: str
    tags: list[str]
    messages: list[MessageView]
    memories: list[ForwardMemory]
    answer: WhyAnswer | None


class StageLine(Out):
    """How a stage ended."""

    stage: StageName
    outcome: Outcome
    reason: str


class WhyNight(Out):
    """A night: what started it, how it ended, which memories it dealt with, and the generation it made."""

    kind: Literal["night"] = "night"
    id: str
    started_by: str
    opened_at: datetime
    finished: bool
    upto: int
    parent: str
    generation: str | None
    summary: NightLine
    stages: list[StageLine]
    outcomes: dict[str, int]
    memories: Listed[SettledMemory]


class ReadView(MemoryName):
    """A memory that was read for a dream: how is own, bridge, verifier or rewriter."""

    how: str


class TaughtDream(Out):
    """A generation whose dataset holds a dream, and the part of it: train or stop."""

    generation: str
    part: Literal["train", "stop"]


class WhyDream(Out):
    """A dream: who dreamt it in which night, of which memories, how it was judged, and who was taught it."""

    kind: Literal["dream"] = "dream"
    name: str
    night: str
    generation: str
    form: str
    claim: str
    prompt: str
    reply: str
    cycle: int
    attempt: int
    score: float | None
    accepted: bool
    reason: str
    reads: list[ReadView]
    taught: list[TaughtDream]


Why = Annotated[
    WhyGeneration | WhyMemory | WhyAnswer | WhyInteraction | WhyNight | WhyDream, Field(discriminator="kind")
]
