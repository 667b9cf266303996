"""Chat completions in OpenAI's shape: recall, generate, remember, reply.

With `"ada": {"recall": false, "remember": false}` nothing is looked up and nothing is kept.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from itertools import takewhile

from ada_memory.engines.engine import Sampling
from ada_memory.errors import BadInput, Unavailable
from ada_memory.hippocampus.recall import by_age, recall, within
from ada_memory.records import Answer, Chat, Draft, Message, Recalled
from ada_memory.service.reminders import Read, Reminder
from ada_memory.service.rooms import Rooms
from ada_memory.service.schemas import (
    AdaReply,
    ChatReply,
    ChatRequest,
    Choice,
    RecalledView,
    ReplyMessage,
    Usage,
)
from ada_memory.service.serving import Spoken


async def complete(rooms: Rooms, request: ChatRequest, peer_uid: int | None) -> ChatReply:
    """Answer one chat; what is to be remembered is on disk before this returns.

    Raises:
        BadInput: a request that is not served, or that the model cannot read.
        Unavailable: a worker cannot answer just now.
    """
    if request.stream:
        raise BadInput("streaming is not served yet", field="stream", hint='send "stream": false')
    chat = request.chat()
    if chat[-1].role not in ("user", "tool"):
        raise BadInput(
            "the last message must come from the user or a tool", field="messages",
            hint="there is nothing to answer",
        )
    began = rooms.clock()
    most = rooms.settings.recall.top_k if request.ada.recall else 0
    recalled = await look_up(rooms, _question(chat), most)
    near = within(recalled, rooms.settings.recall.max_chars)
    spoken = await rooms.voice.generate(chat, _sampling(rooms, request), _reminders(near))
    read = {item.memory.id: how for item, how in zip(near, spoken.read, strict=True)}
    put = tuple(name for name, how in read.items() if how != "no")
    answer = Answer(f"chatcmpl-{secrets.token_hex(12)}", spoken.generation, put)
    if request.ada.remember:
        await rooms.keep(_draft(request, chat, spoken, peer_uid, rooms, answer))
    views = [_view(item, read.get(item.memory.id, "no")) for item in recalled]
    return _reply(request, spoken, views, int(began.timestamp()), answer.id)


async def look_up(rooms: Rooms, text: str, limit: int) -> list[Recalled]:
    """The memories nearest to a text, best first, at most `limit`.

    Raises:
        Unavailable: the embed worker cannot answer just now.
    """
    if not limit or not text.strip() or not await asyncio.to_thread(rooms.journal.position):
        return []
    try:
        vector = (await rooms.embedding.encode([text]))[0]
        embedder = await rooms.embedding.hash()
    except Unavailable as error:
        raise Unavailable(
            f"memories cannot be looked up: {error.message}",
            hint='try again, or send "ada": {"recall": false}',
        ) from error
    settings = rooms.settings.recall.model_copy(update={"top_k": limit})
    return await asyncio.to_thread(recall, rooms.journal, embedder, vector, settings, rooms.vectors)


def _question(chat: Chat) -> str:
    return next((message.content for message in reversed(chat) if message.role == "user"), "")


def _reminders(recalled: Sequence[Recalled]) -> list[Reminder]:
    """Most similar first, each with its place by age."""
    ages = {item.memory.id: age for age, item in enumerate(by_age(recalled))}
    return [Reminder(item.memory.text, ages[item.memory.id]) for item in recalled]


def _view(item: Recalled, read: Read) -> RecalledView:
    memory = item.memory
    return RecalledView(
        id=memory.id, similarity=round(item.similarity, 6), text=memory.text, route=memory.route, read=read
    )


def _sampling(rooms: Rooms, request: ChatRequest) -> Sampling:
    seed = request.seed if request.seed is not None else secrets.randbits(32)
    return Sampling(
        max_tokens=request.max_tokens or rooms.settings.model.max_tokens, temperature=request.temperature,
        seed=seed if request.temperature else 0,
    )


def _draft(
    request: ChatRequest, chat: Chat, spoken: Spoken, peer_uid: int | None, rooms: Rooms, answer: Answer
) -> Draft:
    """This turn alone: what was said since the model spoke last, and its reply; the rest was kept before."""
    new = tuple(takewhile(lambda message: message.role != "assistant", reversed(chat)))[::-1]
    said = tuple(message for message in new if message.role != "system")
    reply = (Message("assistant", spoken.completion.text),) if spoken.completion.text.strip() else ()
    return Draft(
        messages=(*said, *reply), at=rooms.clock(), session=request.ada.session, app=request.ada.app,
        peer_uid=peer_uid, answer=answer,
    )


def _reply(
    request: ChatRequest, spoken: Spoken, recalled: list[RecalledView], created: int, name: str
) -> ChatReply:
    done = spoken.completion
    return ChatReply(
        id=name,
        created=created,
        model=request.model or spoken.generation,
        choices=[Choice(
            message=ReplyMessage(content=done.text), finish_reason="stop" if done.finished else "length"
        )],
        usage=Usage(
            prompt_tokens=done.prompt_tokens, completion_tokens=done.tokens,
            total_tokens=done.prompt_tokens + done.tokens,
        ),
        ada=AdaReply(generation=spoken.generation, recalled=recalled),
    )
