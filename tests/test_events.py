"""Events: in order, replayed to the late, never waiting for the slow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

from ada_memory.service.events import Events, lines


async def take(stream: AsyncIterator[str], count: int) -> list[str]:
    """The next events of a stream, comments left out."""
    found: list[str] = []
    while len(found) < count:
        text = await anext(stream)
        if not text.startswith(":"):
            found.append(text)
    return found


def test_a_late_viewer_sees_the_start_of_this_night_and_not_of_the_last() -> None:
    async def talk() -> None:
        events = Events(replay=3)
        events.publish({"event": "night", "state": "opened", "night": "old"})
        events.publish({"event": "night", "state": "opened", "night": "new"})
        for number in range(50):
            events.publish({"event": "step", "step": number})
        seen = [event for _, event in events.missed()]
        assert seen[0] == {"event": "night", "state": "opened", "night": "new"}
        assert [event.get("step") for event in seen[1:]] == [47, 48, 49]
        numbers = [number for number, _ in events.missed()]
        assert numbers == sorted(numbers)
        assert events.missed(after=numbers[-2]) == [(numbers[-1], seen[-1])]
        assert len(events.missed(after=10_000)) == 4, "a number of an earlier daemon says nothing here"

    asyncio.run(talk())


def test_streams_get_what_comes_from_any_thread_and_end_with_close() -> None:
    async def talk() -> None:
        events = Events()
        stream = events.stream()
        await anext(stream)
        event = {"event": "active", "generation": "gen-0001"}
        thread = threading.Thread(target=events.publish, args=(event,))
        thread.start()
        thread.join()
        assert await take(stream, 1) == [lines(1, event)]
        events.close()
        assert [text async for text in stream] == []
        assert [text async for text in events.stream(after=1)] == [": ada\n\n"]

    asyncio.run(talk())


def test_a_slow_viewer_loses_the_oldest_and_learns_it_by_the_number() -> None:
    async def talk() -> None:
        events = Events(backlog=2)
        stream = events.stream()
        await anext(stream)
        for number in range(5):
            events.publish({"event": "step", "step": number})
        assert [text.splitlines()[0] for text in await take(stream, 2)] == ["id: 4", "id: 5"]

    asyncio.run(talk())


def test_silence_is_broken_by_a_heartbeat() -> None:
    async def talk() -> None:
        stream = Events().stream(heartbeat=0.01)
        await anext(stream)
        assert (await anext(stream)).startswith(": ")

    asyncio.run(talk())


def test_an_event_is_three_lines_whatever_is_in_it() -> None:
    text = lines(7, {"event": "dream", "text": "two\nlines\r\u2028"})
    assert text.startswith("id: 7\nevent: dream\ndata: {") and text.endswith("}\n\n")
    assert len(text.splitlines()) == 4
