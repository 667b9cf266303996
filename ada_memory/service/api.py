"""The HTTP API. A request enters, validated; the rooms do it; JSON leaves. No rule is decided here."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from ada_memory import __version__
from ada_memory.circadian import morning
from ada_memory.errors import NotFound
from ada_memory.hippocampus import reasons
from ada_memory.records import Memory, NightRecord, Route
from ada_memory.service import batch, openai, problems, standing, why
from ada_memory.service import schemas as s
from ada_memory.service.checkup import Finding, Mind, of_mind
from ada_memory.service.rooms import Rooms
from ada_memory.service.why_line import Place
from ada_memory.service.why_views import Why
from ada_memory.service.wire import uid_of
from ada_memory.sovereign import succession

MOST_LISTED: Final = 1000
MOST_WALKED: Final = 100_000
Limit = Annotated[int, Query(ge=1, le=MOST_LISTED)]
Found = list[tuple[Memory, float | None]]
Peer = Annotated["int | None", Depends(uid_of)]


def build(rooms: Rooms) -> FastAPI:
    """The app of one daemon."""
    app = FastAPI(
        title="Ada Memory", version=__version__,
        description="A local model with a day and a night. Every error has one shape.",
        openapi_url="/v1/openapi.json", docs_url=None, redoc_url=None,
        responses={"4XX": {"model": s.ErrorReply}, 503: {"model": s.ErrorReply}},
        # FastAPI can hand requests and what is in them to a collector: never from here
        telemetry={
            "tracing": False, "metrics": False, "logs": False, "operation_spans": False,
            "auto_configure": False,
        },
    )
    started_at = rooms.clock()
    problems.install(app, rooms.settings.socket)
    _day(app, rooms)
    _look(app, rooms, started_at)
    _night(app, rooms)
    return app


def _day(app: FastAPI, rooms: Rooms) -> None:
    @app.post("/v1/interactions", status_code=202)
    async def post_interaction(body: s.NewInteraction, peer: Peer) -> s.Kept:
        """Keep an interaction. 202 comes only when it is on disk."""
        receipt = await rooms.keep(body.draft(rooms.clock(), peer))
        return s.Kept(id=receipt.id, position=receipt.position, duplicate=receipt.duplicate)

    @app.post(
        "/v1/interactions/batch", response_model=s.BatchReply, openapi_extra=batch.BODY,
        responses={207: {"model": s.BatchReply, "description": "Some lines were not kept"}},
    )
    async def post_batch(request: Request, peer: Peer) -> Response:
        """Keep many interactions, one JSON object a line; each line is kept or refused by itself.

        200: every line is on disk, or was before (a duplicate). 207: some lines were refused, and the
        reply says which and why; all others are on disk. 400: there was no line at all.
        """
        reply = await batch.keep(rooms, await request.body(), peer)
        text = await asyncio.to_thread(reply.model_dump_json)
        return Response(text, 207 if reply.failed else 200, media_type="application/json")

    @app.post("/v1/chat/completions")
    async def chat(body: s.ChatRequest, peer: Peer) -> s.ChatReply:
        """Answer a chat, reminded of what fits, and remember it."""
        with rooms.asking():
            return await openai.complete(rooms, body, peer)

    @app.get(
        "/v1/events", response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    )
    async def events(last_event_id: Annotated[str, Header()] = "") -> StreamingResponse:
        """Server-sent events: first those of the night so far, then all that comes."""
        after = int(last_event_id) if last_event_id.isdecimal() and len(last_event_id) < 19 else 0
        quiet = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(rooms.events.stream(after), media_type="text/event-stream", headers=quiet)


def _look(app: FastAPI, rooms: Rooms, started_at: datetime) -> None:
    @app.get("/v1/health")
    async def health() -> s.Health:
        """Whether the daemon answers."""
        return s.Health(status="ok", version=__version__)

    @app.get("/v1/models")
    async def models() -> s.Models:
        """The generation that serves, in OpenAI's shape."""
        return s.Models(data=[s.ModelView(id=rooms.voice.generation)])

    @app.get("/v1/status")
    async def status() -> s.Status:
        """How the mind is just now."""
        return await _status(rooms, started_at)

    @app.get("/v1/checkup")
    async def checkup(deep: bool = False) -> s.Checkup:
        """Every check of the journal; `deep` reads every page of it."""
        found = await asyncio.to_thread(_checkup, rooms, deep)
        return s.Checkup(checks=[
            s.CheckView(check=name, state=one.state, found=one.found, mend=one.mend)
            for name, one in found.items()
        ])

    @app.get("/v1/memories")
    async def memories(
        q: Annotated[str | None, Query(max_length=10_000)] = None, limit: Limit = 20,
        route: Annotated[list[Route] | None, Query()] = None,
    ) -> s.Memories:
        """The memories nearest to `q`, best first; without `q` the newest, of the routes named (or all)."""
        if q is not None and q.strip():
            near = await openai.look_up(rooms, q, limit)
            found: Found = [
                (one.memory, one.similarity) for one in near if route is None or one.memory.route in route
            ]
        else:
            found = [(memory, None) for memory in await asyncio.to_thread(_newest, rooms, limit, route)]
        return await asyncio.to_thread(_memories, rooms, found)

    @app.get("/v1/memories/{name}")
    async def memory(name: str) -> s.MemoryView:
        """One memory, with why it is kept or stays out."""
        found = await asyncio.to_thread(rooms.journal.memory, name)
        return (await asyncio.to_thread(_memories, rooms, [(found, None)])).memories[0]

    @app.get("/v1/why/{name}")
    async def why_(name: str, limit: Annotated[int, Query(ge=1, le=MOST_WALKED)] = 20) -> Why:
        """What a generation, memory, answer, interaction, night or dream came from, and what came of it."""
        place = Place(rooms.home, rooms.journal, rooms.base, rooms.voice.generation)
        return await asyncio.to_thread(why.why, place, name, limit)


def _night(app: FastAPI, rooms: Rooms) -> None:
    @app.post("/v1/sleep", status_code=202)
    async def sleep(body: s.SleepRequest | None = None) -> s.SleepReply:
        """Open a night now, or go on with the one that is held."""
        asked = body or s.SleepRequest()
        return _as_it_is(rooms, (await rooms.night.sleep("manual", asked.until, asked.depth)).id)

    @app.post("/v1/wake", status_code=202)
    async def wake() -> s.SleepReply:
        """End the night that is under way or held: it halts, and its memories wait for the next."""
        return _as_it_is(rooms, await rooms.night.wake())

    @app.post("/v1/nights/current/pause")
    async def pause() -> s.SleepReply:
        """Stop the night that is under way where it is, until it is resumed, also by another daemon."""
        return _as_it_is(rooms, await rooms.night.pause())

    @app.post("/v1/nights/current/resume")
    async def resume() -> s.SleepReply:
        """Let a night that stands still go on."""
        return _as_it_is(rooms, await rooms.night.go_on())

    @app.get("/v1/nights")
    async def nights(limit: Limit = 20) -> s.Nights:
        """Nights, newest first."""
        return await asyncio.to_thread(_nights, rooms, limit)

    @app.get("/v1/nights/{night}")
    async def one_night(night: str) -> s.NightView:
        """One night with its stages and its report; `latest` is the newest."""
        return await asyncio.to_thread(_one_night, rooms, night)

    @app.post("/v1/rollback")
    async def rollback(body: s.RollbackRequest | None = None) -> s.RollbackReply:
        """Let the parent, or the generation named, serve again."""
        now, before = await succession.rollback(
            rooms.home, rooms.journal, rooms.base, rooms.voice.swap, rooms.clock, body.to if body else None
        )
        return _turned(rooms, now, before)

    @app.post("/v1/reset")
    async def reset(body: s.ResetRequest | None = None) -> s.RollbackReply:
        """Back to the untouched base. Memories stay."""
        now, before = await succession.reset(
            rooms.home, rooms.journal, rooms.base, rooms.voice.swap, rooms.clock
        )
        return _turned(rooms, now, before)


def _as_it_is(rooms: Rooms, night: str) -> s.SleepReply:
    now = rooms.night.state()
    return s.SleepReply(night=night, state=str(now["state"]), paused=_text(now["paused"]))


def _turned(rooms: Rooms, now: str, before: str) -> s.RollbackReply:
    rooms.events.publish({"event": "active", "generation": now})
    return s.RollbackReply(generation=now, previous=before)


async def _status(rooms: Rooms, started_at: datetime) -> s.Status:
    journal, settings, state = rooms.journal, rooms.settings, rooms.night.state()

    def read() -> tuple[dict[str, int], datetime | None, standing.Standing]:
        return journal.counts(), journal.last_slept(), standing.read(rooms, state)

    counts, slept, now = await asyncio.to_thread(read)
    workers = (rooms.embedding.worker, rooms.voice.worker)
    refused_since, refused_why = now.outlook.last_refusal or (None, "")
    return s.Status(
        version=__version__, mind=settings.mind.id, generation=rooms.voice.generation,
        state=str(state["state"]), night=_text(state.get("night")), stage=_text(state.get("stage")),
        progress=_table(state.get("progress")), held=_text(state.get("held")), waiting=now.outlook.waiting,
        capacity=now.outlook.capacity, next_sunset=now.outlook.next_sunset, last_slept=slept, counts=counts,
        model=settings.model.name, base=rooms.base.hash, embedder=settings.embedder.name,
        socket=str(rooms.socket), pid=os.getpid(), workers={worker.name: worker.state for worker in workers},
        faults={one.name: s.FaultView(deaths=one.deaths, last=one.fault) for one in workers if one.deaths},
        started_at=started_at, seconds_left=_seconds(state.get("eta_seconds")),
        night_seconds_left=_seconds(state.get("night_eta_seconds")), depth=_text(state.get("depth")),
        paused=_text(state.get("paused")), gap_until=now.outlook.gap_until,
        refused_since=refused_since, refused_why=refused_why,
        last_night=None if now.last_night is None else s.LastNightView(**asdict(now.last_night)),
        encoding=s.EncodingView(
            unencoded=counts["unencoded"], oldest=now.oldest_unencoded, trouble=rooms.encoder.trouble,
            aside=len(rooms.encoder.aside),
        ),
        waits_for=[s.ReasonView(**asdict(reason)) for reason in now.reasons],
    )


def _checkup(rooms: Rooms, deep: bool) -> dict[str, Finding]:
    """The doctor's checks of the journal that we hold."""
    with rooms.journal.reading() as db:
        return of_mind(Mind(
            db, rooms.home.journal, rooms.home, rooms.settings, rooms.vectors.embedder, rooms.vectors.count,
            rooms.clock(), deep, awake=True,
        ))


def _text(value: object) -> str | None:
    return str(value) if value else None


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _table(value: object) -> dict[str, Any] | None:
    return dict(value) if isinstance(value, dict) else None


def _newest(rooms: Rooms, limit: int, routes: list[Route] | None) -> list[Memory]:
    """The newest memories of some routes, or of all."""
    wanted: list[Route | None] = list(dict.fromkeys(routes)) if routes else [None]
    found = [
        memory
        for route in wanted
        for memory in rooms.journal.memories(route=route, limit=limit, newest_first=True)
    ]
    if len(wanted) > 1:
        found.sort(key=lambda memory: (memory.interactions, len(memory.id), memory.id), reverse=True)
    return found[:limit]


def _memories(rooms: Rooms, found: Found) -> s.Memories:
    settled = {name: row.outcome for name, row in rooms.journal.settlements().items()}
    return s.Memories(memories=[_view(memory, near, settled.get(memory.id)) for memory, near in found])


def _view(memory: Memory, similarity: float | None, settled: str | None) -> s.MemoryView:
    return s.MemoryView(
        id=memory.id, text=memory.text, at=memory.at, role=memory.role, route=memory.route,
        salience=memory.salience.score, reasons=dict(memory.salience.reasons), why=reasons.why(memory),
        tags=list(memory.tags),
        state=why.state_of(memory, settled), similarity=None if similarity is None else round(similarity, 6),
    )


def _nights(rooms: Rooms, limit: int) -> s.Nights:
    rows = []
    for night in rooms.journal.nights(limit):
        report = _report(rooms, night)
        rows.append(s.NightSummary(
            night=night.id, kind=night.kind, depth=night.depth, opened_at=night.opened_at,
            parent=night.parent,
            finished=any(stage.name == "report" for stage in rooms.journal.stages(night.id)),
            summary=None if report is None else dict(morning.summary(report)),
        ))
    return s.Nights(nights=rows)


def _one_night(rooms: Rooms, name: str) -> s.NightView:
    if name == "latest":
        night = next(iter(rooms.journal.nights(1)), None)
        if night is None:
            raise NotFound("there was no night yet", hint="`ada sleep` starts one")
    else:
        night = rooms.journal.night(name)
    stages = [
        s.StageView(
            stage=row.name, outcome=row.outcome, reason=row.reason, started_at=row.started_at,
            finished_at=row.finished_at, figures=dict(row.figures),
        )
        for row in rooms.journal.stages(night.id)
    ]
    return s.NightView(
        night=night.id, kind=night.kind, depth=night.depth, opened_at=night.opened_at, parent=night.parent,
        stages=stages, report=_report(rooms, night),
    )


def _report(rooms: Rooms, night: NightRecord) -> dict[str, Any] | None:
    path = rooms.home.nights / night.id / "report" / "report.json"
    try:
        report = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) else None
