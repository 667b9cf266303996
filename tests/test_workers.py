"""Children: replies find who asked, the dead are replaced, voices change without a dropped request."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import LlamaForCausalLM

from ada_memory.engines.engine import Completion, Sampling
from ada_memory.errors import BadInput, BadModel, Unavailable, WorkerDied
from ada_memory.records import Chat, Message
from ada_memory.service import voice
from ada_memory.service.embedding import Embedding
from ada_memory.service.serving import Voice
from ada_memory.service.workers import Worker
from ada_memory.settings import EmbedderSettings, ModelSettings
from ada_memory.sovereign.generations import Serving
from tests.models import tiny_model

STUB = """
import json, os, sys, time
print(json.dumps({"ready": True, "pid": os.getpid()}), flush=True)
for line in sys.stdin:
    r = json.loads(line)
    op, out = r["op"], {"id": r["id"], "ok": True, "pid": os.getpid()}
    if op == "die" or (op == "die once" and not os.path.exists(r["mark"])):
        open(r["mark"], "a").close()
        os._exit(3)
    if op == "later":
        held = out
        continue
    if op == "now":
        print(json.dumps(out), flush=True)
        out = held
    if op == "noise":
        print("a library talks", flush=True)
    if op == "large":
        out["text"] = "x" * 1_000_000 + r["text"][-1]
    if op == "refuse":
        out = {"id": r["id"], "ok": False, "type": "BadInput", "error": "not that", "hint": "this"}
    print(json.dumps(out), flush=True)
"""


def with_worker(tmp_path: Path, code: str, talk: Callable[[Worker], Awaitable[None]]) -> None:
    """Run `talk` with a worker whose child runs `code`, and close it."""

    async def run() -> None:
        worker = Worker("stub", [sys.executable, "-c", code], tmp_path / "log" / "stub.log")
        try:
            await talk(worker)
        finally:
            await worker.close()

    asyncio.run(run())


def test_a_worker_starts_when_first_asked_and_ends_with_close(tmp_path: Path) -> None:
    async def talk(worker: Worker) -> None:
        assert (worker.state, worker.pid) == ("idle", None)
        reply = await worker.call("hello")
        assert (worker.state, worker.pid) == ("ready", reply["pid"])
        await worker.close()
        assert worker.state == "closed"
        with pytest.raises(ProcessLookupError):
            os.kill(reply["pid"], 0)
        with pytest.raises(Unavailable):
            await worker.call("hello")

    with_worker(tmp_path, STUB, talk)


def test_replies_find_who_asked_in_any_order(tmp_path: Path) -> None:
    async def talk(worker: Worker) -> None:
        later = asyncio.create_task(worker.call("later"))
        await asyncio.sleep(0)
        await worker.warm()
        now = await asyncio.create_task(worker.call("now"))
        assert (await later)["id"] != now["id"]

    with_worker(tmp_path, STUB, talk)


def test_lines_may_be_large_and_noise_is_ignored(tmp_path: Path) -> None:
    async def talk(worker: Worker) -> None:
        assert len((await worker.call("large", text="é" * 500_000))["text"]) == 1_000_001
        assert (await worker.call("noise"))["ok"] is True

    with_worker(tmp_path, STUB, talk)


def test_a_child_that_dies_is_replaced_and_the_request_asked_again(tmp_path: Path) -> None:
    async def talk(worker: Worker) -> None:
        first = (await worker.call("hello"))["pid"]
        second = (await worker.call("die once", mark=str(tmp_path / "mark")))["pid"]
        assert first != second
        os.kill(second, signal.SIGKILL)
        assert (await worker.call("hello"))["pid"] not in (first, second)

    with_worker(tmp_path, STUB, talk)


def test_a_request_that_kills_twice_is_given_up_and_hurts_nobody_else(tmp_path: Path) -> None:
    async def talk(worker: Worker) -> None:
        with pytest.raises(Unavailable, match="twice"):
            await worker.call("die", mark=str(tmp_path / "mark"))
        assert (await worker.call("hello"))["ok"] is True

    with_worker(tmp_path, STUB, talk)


def test_what_a_worker_refuses_is_not_asked_again(tmp_path: Path) -> None:
    async def talk(worker: Worker) -> None:
        with pytest.raises(BadInput, match="not that") as caught:
            await worker.call("refuse")
        assert caught.value.hint == "this"

    with_worker(tmp_path, STUB, talk)


def test_a_child_that_is_never_ready_says_why(tmp_path: Path) -> None:
    async def silent(worker: Worker) -> None:
        with pytest.raises(WorkerDied) as caught:
            await worker.warm()
        assert "stub.log" in caught.value.hint
        assert "boom" in (tmp_path / "log" / "stub.log").read_text()

    async def honest(worker: Worker) -> None:
        with pytest.raises(BadModel, match="no weights"):
            await worker.call("hello")

    with_worker(tmp_path, "raise SystemExit('boom')", silent)
    with_worker(tmp_path, """print('{"ready": false, "type": "BadModel", "error": "no weights"}')""", honest)


def test_close_does_not_wait_for_a_child_that_is_still_loading(tmp_path: Path) -> None:
    async def talk(worker: Worker) -> None:
        asked = asyncio.create_task(worker.call("hello"))
        while worker.state != "starting":
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        await worker.close()
        with pytest.raises(Unavailable):
            await asked

    with_worker(tmp_path, "import time; time.sleep(600)", talk)


def test_a_caller_who_leaves_while_a_child_loads_is_really_gone(tmp_path: Path) -> None:
    async def talk(worker: Worker) -> None:
        asked = asyncio.create_task(worker.call("hello"))
        while worker.state != "starting":
            await asyncio.sleep(0.01)
        asked.cancel()
        await worker.close()
        with pytest.raises(asyncio.CancelledError):
            await asked

    with_worker(tmp_path, "import time; time.sleep(600)", talk)


def test_the_embed_worker_answers_the_loop_and_other_threads(tmp_path: Path) -> None:
    async def talk() -> None:
        embedding = Embedding(EmbedderSettings(), tmp_path)
        try:
            here = await embedding.encode(["My dog is called Rex.", "What is my dog called?", "Prices rose."])
            there = await asyncio.to_thread(embedding.encode_from_thread, ["My dog is called Rex."])
            assert here.shape == (3, 384) and here.dtype == np.float32
            assert np.allclose(np.linalg.norm(here, axis=1), 1, atol=1e-3)
            assert here[0] @ here[1] > here[0] @ here[2]
            assert there[0] @ here[0] > 0.99
            assert len(await embedding.hash()) == 16
        finally:
            await embedding.worker.close()

    asyncio.run(talk())


def broken_model(folder: Path) -> Path:
    """A model whose figures are not numbers."""
    tiny_model(folder)
    model = LlamaForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    model.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_voices_are_swapped_without_a_dropped_request(tmp_path: Path) -> None:
    first = Serving("gen-0000", tiny_model(tmp_path / "one", seed=1), None)
    second = Serving("gen-0001", tiny_model(tmp_path / "two", seed=2), None)
    bad = Serving("gen-0002", broken_model(tmp_path / "bad"), None)
    chat: Chat = (Message("user", "Where does Anna live?"),)
    heard: list[tuple[str, str]] = []

    async def keep_asking(voices: Voice, stop: asyncio.Event) -> None:
        while not stop.is_set():
            spoken = await voices.generate(chat, Sampling(max_tokens=12))
            heard.append((spoken.generation, spoken.completion.text))

    async def talk() -> None:
        voices = Voice(ModelSettings(threads=1), tmp_path / "log", first)
        stop = asyncio.Event()
        try:
            await voices.worker.warm()
            asking = [asyncio.create_task(keep_asking(voices, stop)) for _ in range(3)]
            old = voices.worker.pid
            with pytest.raises(BadModel, match="not finite"):
                await voices.swap(bad)
            assert (voices.generation, voices.worker.pid) == ("gen-0000", old)
            with pytest.raises(BadModel):
                await voices.swap(Serving("gen-0003", tmp_path / "nowhere", None))
            await voices.swap(second)
            assert voices.generation == "gen-0001"
            while heard[-1][0] != "gen-0001":
                await asyncio.sleep(0.01)
            os.kill(voices.worker.pid or 0, signal.SIGKILL)  # in the middle of requests: nobody notices
            count = len(heard)
            while len(heard) < count + 3:
                await asyncio.sleep(0.01)
            stop.set()
            await asyncio.gather(*asking)  # raises if a single request failed
        finally:
            await voices.close()
        with pytest.raises(ProcessLookupError):
            os.kill(old or 0, 0)

    asyncio.run(talk())
    texts = {generation: {text for g, text in heard if g == generation} for generation, _ in heard}
    assert set(texts) == {"gen-0000", "gen-0001"}
    assert all(len(said) == 1 for said in texts.values()), "greedy, so each generation says one thing"
    assert texts["gen-0000"] != texts["gen-0001"]


class Echo:
    """An engine that repeats the last message and notes what it was asked at a time."""

    layers = 1

    def __init__(self) -> None:
        self.batches: list[tuple[int, Sampling]] = []
        self.gate = threading.Event()

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> list[Completion]:
        self.gate.wait(60)
        if any(chat[-1].content == "bad" for chat in chats):
            raise ValueError("cannot read this")
        self.batches.append((len(chats), sampling))
        return [Completion(chat[-1].content, 1, 1, True) for chat in chats]

    def distributions(self, chats: Sequence[Chat]) -> NDArray[np.float32]:
        return np.full((len(chats), 4), -np.inf, dtype=np.float32)


def serve(engine: Any, requests: Sequence[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """What the voice says to requests that all came while it was busy with the first."""
    out = io.StringIO()

    def lines() -> Any:
        for number, request in enumerate(requests):
            yield json.dumps({"id": number, **request})
        engine.gate.set()

    voice.serve(engine, lines(), out)
    return {reply["id"]: reply for reply in map(json.loads, out.getvalue().splitlines())}


def ask(text: str, **fields: object) -> dict[str, object]:
    return {"op": "generate", "chats": [[{"role": "user", "content": text}]], "max_tokens": 8, **fields}


def test_greedy_requests_that_wait_share_a_batch_and_drawn_ones_do_not() -> None:
    engine = Echo()
    drawn = ask("drawn", temperature=1.0, seed=3)
    replies = serve(engine, [ask("first"), ask("a"), drawn, ask("b"), drawn, ask("longer", max_tokens=9)])
    said = [replies[n]["completions"][0]["text"] for n in range(6)]
    assert said == ["first", "a", "drawn", "b", "drawn", "longer"]
    assert sum(size for size, _ in engine.batches) == 6
    assert max(size for size, sampling in engine.batches if not sampling.temperature) >= 2
    assert {(size, s.seed) for size, s in engine.batches if s.temperature} == {(1, 3)}


def test_a_chat_that_cannot_be_read_fails_alone() -> None:
    replies = serve(Echo(), [ask("first"), ask("a"), ask("bad"), ask("b"), {"op": "sing"}])
    assert [replies[n]["ok"] for n in range(5)] == [True, True, False, True, False]
    assert replies[2]["type"] == replies[4]["type"] == "BadInput"


def test_the_probe_sees_figures_that_are_not_finite() -> None:
    assert serve(Echo(), [{"op": "probe"}])[0]["finite"] is False
