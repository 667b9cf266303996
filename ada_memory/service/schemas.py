"""The JSON that enters and leaves the API. Unknown fields, wrong types and empty text are errors."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ada_memory.records import Chat, Depth, Draft, Message, StageName

MOST_TOKENS = 4096


class In(BaseModel):
    """A request body: strict, and without fields that nobody reads."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Out(BaseModel):
    """A response body."""

    model_config = ConfigDict(extra="forbid")


def _said(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("is not Unicode: it holds half of a surrogate pair") from None
    return text


def _moment(text: object) -> datetime:
    """RFC 3339 with its offset, as UTC."""
    try:
        if not isinstance(text, str):
            raise ValueError
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a time such as 2026-03-01T09:30:00Z") from None
    if at.tzinfo is None:
        raise ValueError("needs its offset from UTC, such as 2026-03-01T09:30:00Z")
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError("lies outside the calendar") from None


def _whole(number: object) -> object:
    """4.0 is an integer in JSON."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


# What `_said` asks for, in JSON Schema: its \s knows fewer spaces than Python does.
NOT_BLANK: dict[str, Any] = {"minLength": 1, "pattern": r"[^\s\x1c-\x1f\x85]"}
Text = Annotated[str, Field(json_schema_extra=NOT_BLANK), AfterValidator(_said)]
Name = Annotated[str, Field(max_length=200, json_schema_extra=NOT_BLANK), AfterValidator(_said)]
Moment = Annotated[datetime, BeforeValidator(_moment), Field(examples=["2026-03-01T09:30:00Z"])]


class Turn(In):
    """One message of an interaction. A thought is what the model or the app kept to itself."""

    role: Literal["user", "assistant", "tool", "thought"]
    content: Text


class NewInteraction(In):
    """What an app hands in. With a `key` it may be sent again: one key of one app is kept once."""

    messages: Annotated[list[Turn], Field(min_length=1)]
    session: Name = "default"
    app: Name = "unknown"
    kind: Literal["chat", "rag", "code"] = "chat"
    tags: list[Literal["no-train", "no-recall", "later"]] = []
    at: Moment | None = None
    key: Name | None = None

    def draft(self, now: datetime, peer_uid: int | None) -> Draft:
        """As the journal takes it; `now` stands in for a time that was not given."""
        return Draft(
            messages=tuple(Message(turn.role, turn.content) for turn in self.messages), at=self.at or now,
            session=self.session, app=self.app, kind=self.kind, tags=tuple(dict.fromkeys(self.tags)),
            key=self.key, peer_uid=peer_uid,
        )


class Kept(Out):
    """The interaction is on disk."""

    id: str
    position: int
    duplicate: bool


class ChatMessage(In):
    """One message of a conversation, in OpenAI's shape; content is plain text."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Text


class AdaOptions(In):
    """What only Ada knows: whether to look things up in memory, and whether to keep this turn."""

    recall: bool = True
    remember: bool = True
    session: Name = "default"
    app: Name = "unknown"


class ChatRequest(In):
    """OpenAI's chat completion request, as far as it is served. `model` is echoed, whatever it names."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    model: Name | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS), BeforeValidator(_whole)] | None = None
    temperature: Annotated[float, Field(ge=0, le=5, allow_inf_nan=False)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**53), BeforeValidator(_whole)] | None = None
    stream: Annotated[bool, Field(json_schema_extra={"const": False})] = False
    ada: AdaOptions = AdaOptions()

    def chat(self) -> Chat:
        """The conversation as the rooms below speak of it."""
        return tuple(Message(message.role, message.content) for message in self.messages)


class ReplyMessage(Out):
    """What the model said."""

    role: Literal["assistant"] = "assistant"
    content: str


class Choice(Out):
    """The one completion."""

    index: int = 0
    message: ReplyMessage
    finish_reason: Literal["stop", "length"]


class Usage(Out):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class RecalledView(Out):
    """A memory that answers the question; `similarity` is a cosine, `text` what was said, letter by letter.

    `read` is what the model got to see of it: whole, part or no (its context had no room).
    """

    id: str
    similarity: float
    text: str
    route: str
    read: Literal["whole", "part", "no"]


class AdaReply(Out):
    """Which generation spoke, and what it was reminded of."""

    generation: str
    recalled: list[RecalledView]


class ChatReply(Out):
    """OpenAI's chat completion, and `ada`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    ada: AdaReply


class ModelView(Out):
    """One model that answers."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "ada"


class Models(Out):
    """The generation that serves."""

    object: Literal["list"] = "list"
    data: list[ModelView]


class SleepRequest(In):
    """Sleep now, deeply unless told; `until` names the stage after which the night is held open."""

    until: StageName | None = None
    depth: Depth | None = None


class RollbackRequest(In):
    """Back to the parent, or to the generation that `to` names."""

    to: Name | None = None


class ResetRequest(In):
    """Back to the untouched base; memories stay."""


class SleepReply(Out):
    """The night that was opened, goes on, stands still or ends. `paused` says for whom: owner or asked."""

    night: str
    state: str
    paused: str | None


class RollbackReply(Out):
    """The generation that serves now, and the one that served before."""

    generation: str
    previous: str


class Health(Out):
    """Whether the API answers."""

    status: Literal["ok", "starting"]
    version: str


class MemoryView(Out):
    """One memory. `state` is waiting, learned, skipped, superseded, set_aside, verbatim or ignored.

    `reasons` are the parts of its salience and, if it is verbatim, why; `why` tells them in words.
    """

    id: str
    text: str
    at: datetime
    role: str
    route: str
    salience: float
    reasons: dict[str, float]
    why: str
    tags: list[str]
    state: str
    similarity: float | None = None


class Memories(Out):
    """The memories nearest to a query, or the newest."""

    memories: list[MemoryView]


class StageView(Out):
    """One finished stage of a night."""

    stage: str
    outcome: str
    reason: str
    started_at: datetime
    finished_at: datetime
    figures: dict[str, Any]


class NightView(Out):
    """One night: its stages, and the report once there is one."""

    night: str
    kind: str
    depth: str
    opened_at: datetime
    parent: str
    stages: list[StageView]
    report: dict[str, Any] | None


class NightSummary(Out):
    """One night in a line."""

    night: str
    kind: str
    depth: str
    opened_at: datetime
    parent: str
    finished: bool
    summary: dict[str, Any] | None


class Nights(Out):
    """Nights, newest first."""

    nights: list[NightSummary]


class ReasonView(Out):
    """One thing that Ada waits for, or that keeps her from sleeping; `detail` is a sentence.

    `what` is night, paused, held, sunset, nothing, gap, refused, last night, encoding, aside or worker.
    """

    what: str
    detail: str
    at: datetime | None


class LastNightView(Out):
    """How the last finished night ended: learned, rejected, halted or skipped, and why.

    `fruitless` counts the nights in a row, this one included, that have brought no new generation.
    """

    night: str
    outcome: str
    reason: str
    ended_at: datetime
    fruitless: int


class EncodingView(Out):
    """What is not memories yet. `aside` counts those that fail by themselves and are tried again."""

    unencoded: int
    oldest: datetime | None
    trouble: str
    aside: int


class FaultView(Out):
    """How often a child has ended by itself since the daemon started, and why it did last."""

    deaths: int
    last: str


class Status(Out):
    """How the mind is just now."""

    version: str
    mind: str
    generation: str
    state: str
    night: str | None
    stage: str | None
    progress: dict[str, Any] | None
    held: str | None
    depth: str | None
    paused: str | None
    waiting: int
    capacity: int
    next_sunset: datetime | None
    last_slept: datetime | None
    counts: dict[str, int]
    model: str
    embedder: str
    socket: str
    pid: int
    workers: dict[str, str]
    base: str
    started_at: datetime
    seconds_left: float | None
    night_seconds_left: float | None
    gap_until: datetime | None
    refused_since: datetime | None
    refused_why: str
    last_night: LastNightView | None
    encoding: EncodingView
    faults: dict[str, FaultView]
    waits_for: list[ReasonView]


class CheckView(Out):
    """What one check found; `mend` says what to do if it is not well."""

    check: str
    state: Literal["ok", "warn", "fail", "skipped"]
    found: str
    mend: str


class Checkup(Out):
    """Every check of the journal, as `ada doctor` shows them."""

    checks: list[CheckView]


class ErrorBody(Out):
    """What is wrong, in which field, and what to do about it."""

    type: str
    message: str
    field: str = ""
    hint: str = ""


class ErrorReply(Out):
    """The one shape of every error."""

    error: ErrorBody


class LineKept(Out):
    """A line of a batch whose interaction is on disk; lines count from 1."""

    line: int
    id: str
    position: int
    duplicate: bool


class LineFailed(Out):
    """A line of a batch that was not kept, and why."""

    line: int
    error: ErrorBody


class BatchReply(Out):
    """What became of each line that was not empty, in order, and how many came to what."""

    lines: list[LineKept | LineFailed]
    kept: int
    duplicates: int
    failed: int
