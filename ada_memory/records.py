"""The values that cross from one room to another. Nothing here does anything.

Times are timezone-aware datetimes in UTC. Scores and shares are floats from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Role = Literal["system", "user", "assistant", "tool", "thought"]
Kind = Literal["chat", "rag", "code"]
Route = Literal["weights", "verbatim", "ignored"]
DreamKind = Literal["question", "statement", "reversal", "choice", "rule", "style", "bridge"]
NightKind = Literal["clock", "capacity", "manual"]
Depth = Literal["light", "deep"]
StageName = Literal[
    "gather", "dream", "verify", "dataset", "train", "merge", "map", "verdict", "activate", "report"
]
Outcome = Literal["done", "skip", "halt"]
Verdict = Literal["activate", "reduced", "reject"]
Part = Literal["train", "stop"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


Chat = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply of the model: its id (`chatcmpl-…`), who gave it, the ids of the memories put before it."""

    id: str
    generation: str
    memories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """An interaction as an app hands it in, before the journal has given it a place.

    `answer` says where the reply in it came from, if it was given here.
    """

    messages: Chat
    at: datetime
    session: str = "default"
    app: str = "unknown"
    kind: Kind = "chat"
    tags: tuple[str, ...] = ()
    key: str | None = None
    peer_uid: int | None = None
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class Interaction:
    """A draft that is on disk: `position` orders the journal, from 1 and without a gap."""

    id: str
    position: int
    draft: Draft


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an app gets back once its interaction is durable."""

    id: str
    position: int
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Salience:
    """How much a memory matters (0 to 1) and the parts that the figure was made of."""

    score: float
    reasons: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Memory:
    """One thing somebody said that may be worth keeping. Knows the interactions it came from."""

    id: str
    text: str
    role: Role
    at: datetime
    route: Route
    salience: Salience
    interactions: tuple[int, ...]
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recalled:
    """A memory that answers a query; `similarity` is the cosine of the two vectors."""

    memory: Memory
    similarity: float


@dataclass(frozen=True, slots=True)
class Read:
    """A memory whose text was put before the verifier of a dream, or before the rewriter that made it."""

    memory: str
    how: Literal["verifier", "rewriter"]


@dataclass(frozen=True, slots=True)
class Override:
    """A claim of a memory that was not dreamt of, because a `newer` memory says otherwise."""

    memory: str
    claim: str
    newer: str


@dataclass(frozen=True, slots=True)
class Dream:
    """One candidate training sample: a user's prompt and the reply it should get.

    `memories` are the ids of the memories that it was dreamt from: its own first, then those that it bridges.
    `reads` are the memories that were read to judge or to mend it.
    """

    id: str
    kind: DreamKind
    memories: tuple[str, ...]
    claim: str
    prompt: str
    reply: str
    cycle: int
    attempt: int = 0
    score: float | None = None
    accepted: bool = False
    reason: str = ""
    reads: tuple[Read, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of training data. Only the last message (the reply) carries loss.

    `source` is "new", "due", "core" or "self"; `weight` multiplies the row's loss. `dream` is the id of the
    dream that it was made of and `claim` what that says, empty for core. Rows of one `pool` take turns: an
    epoch trains one of them. A row that is not learned but held, an anchor, may drift by `slack` before it is
    pulled back: an answer is not in danger because a state has moved a little, and what is held to the spot
    stands in the way of what is learned (a hinge, as the "free bits" of 1606.04934).
    """

    messages: Chat
    source: str
    weight: float = 1.0
    memories: tuple[str, ...] = ()
    kind: str = ""
    dream: str = ""
    pool: str = ""
    claim: str = ""
    slack: float = 0.0


@dataclass(frozen=True, slots=True)
class StageRecord:
    """One finished stage of a night, as the journal keeps it."""

    night: str
    name: StageName
    outcome: Outcome
    reason: str
    started_at: datetime
    finished_at: datetime
    figures: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NightRecord:
    """One night. `id` is the local date for clock nights, `p<position>` for others.

    A light one teaches what is new, in few cycles, and gives way to who speaks; a deep one also asks what is
    due.
    """

    id: str
    kind: NightKind
    opened_at: datetime
    upto: int
    parent: str
    seed: int
    depth: Depth = "deep"


@dataclass(frozen=True, slots=True)
class Generation:
    """One version of a mind: a cumulative adapter over a pristine base ("gen-0000" is the base)."""

    id: str
    parent: str | None
    night: str | None
    adapter: str | None
    created_at: datetime
    verdict: Verdict | None = None
