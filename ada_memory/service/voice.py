"""The voice worker: holds the model that serves. JSON lines in on stdin, JSON lines out on stdout.

    {"id": 7, "op": "generate", "chats": [[{"role", "content"}]], "max_tokens": 24, "temperature": 0}
    {"id": 7, "ok": true, "completions": [{"text", "prompt_tokens", "tokens", "finished"}]}

A request of one chat may bring "reminders": [{"text", "age"}], most similar first; as many as fit are put
into the chat, and "read" says of each whether that was "whole", in "part" or "no".

Greedy requests that wait are answered in one batch; drawn ones each alone, so that a seed means one text.
It never sees the journal and never writes a file.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ada_memory.child import end_with_parent, keep_stdout
from ada_memory.engines.engine import Completion, Engine, Hardware, Sampling, open_engine
from ada_memory.errors import AdaError, BadInput
from ada_memory.records import Chat, Message
from ada_memory.service.reminders import Read, Reminder, fit

BATCH = 32
PROBES = ("Who are you?", "Hello!", "What can you do?")

Request = Mapping[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until stdin ends."""
    options = _options(argv)
    end_with_parent(options.parent)
    out = keep_stdout()
    hardware = Hardware(device=options.device, dtype=options.dtype, threads=options.threads)
    try:
        engine = open_engine(options.engine, options.model, options.adapter, hardware)
    except AdaError as error:
        kind = type(error).__name__
        _write(out, {"ready": False, "type": kind, "error": error.message, "hint": error.hint})
        sys.stderr.write(f"{error.message}\n")
        return 1
    _write(out, {"ready": True, "engine": options.engine, "layers": engine.layers, "limit": engine.limit})
    serve(engine, sys.stdin, out)
    return 0


def serve(engine: Engine, requests: Iterable[str], out: TextIO) -> None:
    """Answer each line of `requests`; those that came while the model was busy go together."""
    waiting: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, waiting), daemon=True).start()
    held: list[Request] = []
    while True:
        held = held or [*_next(waiting)]
        if not held:
            return
        held += _pending(waiting)
        batch, held = _together(held)
        for reply in answer(engine, batch):
            _write(out, reply)


def answer(engine: Engine, batch: Sequence[Request]) -> list[dict[str, object]]:
    """Replies to requests whose sampling is equal; one that the model cannot read fails alone."""
    if len(batch) == 1:
        return [_answer_one(engine, batch[0])]
    try:
        asked = [_asked(engine, request) for request in batch]
        done = engine.generate([chat for chats, _ in asked for chat in chats], _sampling(batch[0]))
    except (AdaError, ValueError, RuntimeError, KeyError, TypeError):
        return [_answer_one(engine, request) for request in batch]
    said = iter(done)
    return [
        _said(request, [next(said) for _ in chats], read)
        for request, (chats, read) in zip(batch, asked, strict=True)
    ]


def _answer_one(engine: Engine, request: Request) -> dict[str, object]:
    try:
        if request.get("op") == "probe":
            return _probe(engine, request)
        if request.get("op") != "generate":
            raise BadInput(f"the voice knows no {request.get('op')!r}")
        chats, read = _asked(engine, request)
        return _said(request, engine.generate(chats, _sampling(request)), read)
    except AdaError as error:
        return _failed(request, type(error).__name__, error.message, error.hint)
    except (ValueError, KeyError, TypeError) as error:
        return _failed(request, "BadInput", f"the model cannot read this chat: {error}")
    except RuntimeError as error:  # out of memory, most often: the worker itself is still well
        return _failed(request, "Unavailable", f"the model failed: {error}", "ask for less, or try again")


def _said(request: Request, completions: Sequence[Completion], read: Sequence[Read]) -> dict[str, object]:
    said = [
        {"text": c.text, "prompt_tokens": c.prompt_tokens, "tokens": c.tokens, "finished": c.finished}
        for c in completions
    ]
    return {"id": request.get("id"), "ok": True, "completions": said, "read": list(read)}


def _failed(request: Request, kind: str, message: str, hint: str = "") -> dict[str, object]:
    return {"id": request.get("id"), "ok": False, "type": kind, "error": message, "hint": hint}


def _probe(engine: Engine, request: Request) -> dict[str, object]:
    """Does the model compute finite figures, and does it say anything at all?"""
    chats: list[Chat] = [(Message("user", text),) for text in PROBES]
    # a log-probability of -inf is a token that cannot come, which is allowed; NaN and +inf never are
    figures = engine.distributions(chats)
    finite = bool(not np.isnan(figures).any() and np.isfinite(figures.max(axis=-1)).all())
    said = engine.generate(chats, Sampling(max_tokens=16))
    return {"id": request.get("id"), "ok": True, "finite": finite, "text": " ".join(c.text for c in said)}


def _together(held: Sequence[Request]) -> tuple[list[Request], list[Request]]:
    """The requests to answer now: the first, and with it those that may share its batch."""
    first = held[0]
    batch: list[Request] = [first]
    rest: list[Request] = []
    for request in held[1:]:
        same = _shared(first) is not None and _shared(request) == _shared(first)
        (batch if same and len(batch) < BATCH else rest).append(request)
    return batch, rest


def _shared(request: Request) -> tuple[object, ...] | None:
    """What must be equal for two requests to be one batch; None: this one goes alone."""
    if request.get("op") != "generate" or request.get("temperature"):
        return None
    return ("greedy", request.get("max_tokens"))


def _chats(request: Request) -> list[Chat]:
    return [tuple(Message(m["role"], m["content"]) for m in chat) for chat in request["chats"]]


def _asked(engine: Engine, request: Request) -> tuple[list[Chat], list[Read]]:
    """The chats of a request, reminded of as much as fits, and what of each memory that is."""
    chats = _chats(request)
    reminders = [Reminder(str(one["text"]), int(one["age"])) for one in request.get("reminders", ())]
    if not reminders:
        return chats, []
    chat, read = fit(chats[0], reminders, engine.measure, engine.limit - int(request["max_tokens"]))
    return [chat], read


def _sampling(request: Request) -> Sampling:
    return Sampling(
        max_tokens=int(request["max_tokens"]), temperature=float(request.get("temperature", 0)),
        seed=int(request.get("seed", 0)), whole=True,
    )


def _listen(lines: Iterable[str], waiting: queue.SimpleQueue[Request | None]) -> None:
    for line in lines:
        waiting.put(json.loads(line))
    waiting.put(None)


def _next(waiting: queue.SimpleQueue[Request | None]) -> list[Request]:
    request = waiting.get()
    return [] if request is None else [request]


def _pending(waiting: queue.SimpleQueue[Request | None]) -> list[Request]:
    """All that waits already. The end of input is put back: it comes after them."""
    found: list[Request] = []
    while not waiting.empty():
        request = waiting.get()
        if request is None:
            waiting.put(None)
            break
        found.append(request)
    return found


def _write(out: TextIO, reply: Mapping[str, object]) -> None:
    out.write(json.dumps(reply) + "\n")
    out.flush()


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ada-voice", description="The worker that holds the model.")
    parser.add_argument("--engine", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--parent", type=int, default=0, help="pid of the daemon; end when it ends")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
