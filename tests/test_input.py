"""Clumsy and hostile clients on raw sockets: nobody is held up, nothing half-sent is kept, nothing leaks."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket as sockets
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from ada_memory.client import Client
from ada_memory.errors import AdaError, BadInput, Conflict, Unavailable
from ada_memory.service.rooms import MOST_CHATS
from ada_memory.settings import Home
from tests.daemons import PATIENCE_SECONDS, Running, command, environment, running, short_folder, until
from tests.models import tiny_model

PATIENCE = 1.0
MOST_BYTES = 3_000_000
INTERACTION = "/v1/interactions"
CHAT = "/v1/chat/completions"
GOOD = {"role": "user", "content": "Hello."}
LONG = 100_000

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="descriptors are counted in /proc")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"model.name={tiny_model(tmp_path_factory.mktemp('model'), limit=2048)}"


@pytest.fixture(scope="module")
def daemon(model: str) -> Iterator[Running]:
    sets = (
        model,
        f"socket.max_body_bytes={MOST_BYTES}",
        f"socket.patience_seconds={PATIENCE}",
        "sunset.capacity=0",
        "model.threads=1",
        "model.warm=true",
    )
    with short_folder() as short, running(short / "home", short / "s", *sets) as alive:
        with alive.client() as client:  # both workers are up, so that descriptors can be counted
            client.post("What a lovely day.")
            until(lambda: client.status()["workers"] == {"embed": "ready", "voice": "ready"})
        yield alive


@pytest.fixture
def ada(daemon: Running) -> Iterator[Client]:
    with daemon.client() as client:
        yield client


def connected(daemon: Running, stack: ExitStack | None = None) -> sockets.socket:
    raw = sockets.socket(sockets.AF_UNIX)
    if stack is not None:
        stack.enter_context(raw)
    raw.settimeout(PATIENCE_SECONDS)
    raw.connect(str(daemon.socket))
    return raw


def rest(raw: sockets.socket) -> bytes:
    """All that comes until the other end hangs up."""
    found = b""
    try:
        while part := raw.recv(1 << 20):
            found += part
    except ConnectionResetError:
        pass
    return found


def parsed(answer: bytes) -> tuple[int, Any]:
    """Status and JSON of the first response in some bytes."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 "), answer[:200]
    length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    end = int(length[0].partition(b":")[2]) if length else None
    return int(head.split()[1]), json.loads(body[:end] or b"null")


def exchange(daemon: Running, sent: bytes) -> tuple[int, Any]:
    """Send some bytes, as far as they are taken, and read what comes back."""
    with connected(daemon) as raw:
        try:
            raw.sendall(sent)
        except BrokenPipeError:
            pass
        return parsed(rest(raw))


def request(body: bytes, *headers: str, path: str = INTERACTION, length: int | None = None) -> bytes:
    given = [f"Content-Length: {len(body) if length is None else length}"] if length != -1 else []
    if not any(header.startswith("Content-Type") for header in headers):
        given.append("Content-Type: application/json")
    lines = [f"POST {path} HTTP/1.1", "Host: ada", *given, *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body


def interaction(**fields: object) -> bytes:
    return json.dumps({"messages": [GOOD], "tags": ["no-train", "no-recall"], **fields}).encode()


def open_sockets(daemon: Running) -> int:
    """How many of the daemon's descriptors are its own socket or the connections on it."""
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    ours = {f"socket:[{row[6]}]" for row in rows if row[-1] == str(daemon.socket)}
    found = 0
    for entry in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        try:
            found += os.readlink(entry) in ours
        except FileNotFoundError:
            continue
    return found


def counted(daemon: Running) -> int:
    with daemon.client() as client:
        return int(client.status()["counts"]["interactions"])


def complaints(daemon: Running) -> list[str]:
    """Lines of the log that speak of something unexpected."""
    words = ("Traceback", "unexpected", "Exception", "Fatal", "never retrieved", "never awaited")
    return [line for line in daemon.said().splitlines() if any(word in line for word in words)]


@pytest.fixture
def unharmed(daemon: Running, ada: Client) -> Iterator[None]:
    """After the test the daemon holds no socket more than before, and its log has no complaint more."""
    ada.health()  # this one stays connected
    before = open_sockets(daemon)
    assert before >= 2
    said = complaints(daemon)
    yield
    until(lambda: open_sockets(daemon) <= before)
    assert complaints(daemon) == said


# Slow ones ---------------------------------------------------------------------------------------------


def drip(raw: sockets.socket, data: bytes) -> None:
    """Send byte by byte, each well within the time, until the other end has had enough."""
    for byte in data:
        if select.select([raw], [], [], PATIENCE / 10)[0]:
            return
        try:
            raw.send(bytes([byte]))
        except BrokenPipeError:
            return


ENDLESS = b"GET /v1/health HTTP/1.1\r\n" + b"X-Slow: yes\r\n" * 20  # some 30 times the patience
SLOW: list[tuple[bytes, bytes]] = [
    (b"", b""),
    (b"GET /v1/hea", b""),
    (b"", ENDLESS),
    (request(b'{"messages"', length=500), b""),
    (request(b"", length=5_000), b" " * 300),
    (request(b"a\r\n{", "Transfer-Encoding: chunked", length=-1), b""),
    (request(b"", "Transfer-Encoding: chunked", length=-1), b"1\r\n \r\n" * 50),
    (request(b"", "Expect: 100-continue", length=500), b""),
    (b"GET /v1/health HTTP/1.1\r\nHost: ada\r\n\r\nGET /v1/hea", b""),
]


def test_slow_clients_are_ended_and_hold_up_nobody(daemon: Running, ada: Client, unharmed: None) -> None:
    before = counted(daemon)
    with ExitStack() as stack:
        held = [(connected(daemon, stack), first, then) for first, then in SLOW * 5]
        drips = []
        for raw, first, then in held:
            raw.sendall(first)
            drips.append(threading.Thread(target=drip, args=(raw, then)))
            drips[-1].start()
        for number in range(20):
            ada.post(f"Meanwhile {number}.", tags=["no-train", "no-recall"])
        for each in drips:
            each.join()
        for raw, first, _ in held:
            answer = re.sub(rb"HTTP/1.1 100 .*\r\n\r\n", b"", rest(raw))
            if first.endswith(b"\r\n\r\nGET /v1/hea"):
                assert parsed(answer)[0] == 200
                answer = answer[answer.index(b"}") + 1 :]
            status, body = parsed(answer)
            assert status == 408, (first, answer)
            assert body["error"]["type"] == "BadInput" and "patience_seconds" in body["error"]["hint"]
    assert counted(daemon) == before + 20


def test_patience_is_for_requests_alone(daemon: Running, ada: Client) -> None:
    with connected(daemon) as raw, daemon.client() as watcher:
        events = watcher.events()
        ada.post("First.", key="patience-1")
        first = next(events)
        for _ in range(2):  # the same connection, idle for longer than a request may take
            raw.sendall(b"GET /v1/health HTTP/1.1\r\nHost: ada\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += raw.recv(65536)
            assert parsed(answer)[0] == 200
            time.sleep(PATIENCE * 1.5)
        kept = ada.post("Second.")
        assert first and any(event.get("id") == kept["id"] for event in events)
        events.close()  # type: ignore[attr-defined]


def test_who_never_reads_the_answer_is_cut_off(daemon: Running, ada: Client, unharmed: None) -> None:
    before = open_sockets(daemon)
    wrong = b"x\n" * 20_000  # each line is answered with an error of some 150 bytes
    with ExitStack() as stack:
        deaf = [connected(daemon, stack) for _ in range(4)]
        for raw in deaf[:2]:
            raw.sendall(request(wrong, "Content-Type: application/x-ndjson", path=f"{INTERACTION}/batch"))
        deaf[2].sendall(b"GET /v1/status HTTP/1.1\r\nHost: ada\r\n\r\n" * 1000)  # never reads any of them
        deaf[3].sendall(b"GET /v1/events HTTP/1.1\r\nHost: ada\r\n\r\n")
        lines = [{"messages": [{"role": "assistant", "content": "Hm."}]}] * 3000
        assert all("id" in outcome for outcome in ada.batch(lines))
        until(lambda: len(select.select(deaf, [], [], 0)[0]) == len(deaf))
        until(lambda: open_sockets(daemon) <= before)
        for number, raw in enumerate(deaf):
            answer = rest(raw)
            assert answer.startswith(b"HTTP/1.1 20") and len(answer) < 2_000_000, number
    assert len(list(ada.batch(wrong.splitlines()))) == 20_000, "who reads gets it all"


# Those that hang up --------------------------------------------------------------------------------------


def test_half_a_request_leaves_nothing(daemon: Running, unharmed: None) -> None:
    before = counted(daemon)
    whole = request(interaction())
    for size in (1, 20, whole.index(b"\r\n\r\n") + 2, whole.index(b"\r\n\r\n") + 4, len(whole) - 1):
        for kind in (sockets.SHUT_WR, None):
            with connected(daemon) as raw:
                raw.sendall(whole[:size])
                if kind is not None:
                    raw.shutdown(kind)
    chunked = request(b'5\r\n{"mes', "Transfer-Encoding: chunked", length=-1)
    with connected(daemon) as raw:
        raw.sendall(chunked)
    for _ in range(20):  # whole, but nobody waits for the answer
        with connected(daemon) as raw:
            raw.sendall(b"GET /v1/memories?limit=1000 HTTP/1.1\r\nHost: ada\r\n\r\n")
    until(lambda: counted(daemon) == before)


# Bytes ---------------------------------------------------------------------------------------------------

CHUNKED = "Transfer-Encoding: chunked"
HOSTILE: list[tuple[bytes, int]] = [
    (request(b"{}", length=MOST_BYTES + 1), 413),
    (request(b"{}", length=10**18), 413),
    (request(b"{}", length=10**40), 400),
    (request(b"{}", "Content-Length: -1", length=-1), 400),
    (request(b"{}", "Content-Length: 3"), 400),
    (request(interaction(), length=5), 400),
    (request(b" " * (8 * MOST_BYTES)), 413),
    (request((b"186a0\r\n" + b" " * 100_000 + b"\r\n") * 60, CHUNKED, length=-1), 413),
    (request(b"zz\r\n{}\r\n0\r\n\r\n", CHUNKED, length=-1), 400),
    (request(b"f" * 30 + b"\r\n{}", CHUNKED, length=-1), 400),
    (request(b"{}", "Transfer-Encoding: gzip", length=-1), 400),
    (request(interaction(), "X-Long: " + "x" * 1_000_000), 431),
    (request(interaction(), *["X: y"] * 200_000), 431),
    (b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\nHost: ada\r\n\r\n", 431),
    (b"GET /\xff\xfe HTTP/1.1\r\nHost: ada\r\n\r\n", 400),
    (b"GET /\x00 HTTP/1.1\r\nHost: ada\r\n\r\n", 400),
    (b"GET /v1/health HTTP/1.1\r\n\r\n", 400),
    (b"GET /v1/health SPDY/1.1\r\nHost: ada\r\n\r\n", 400),
    (b"GET /v1/health HTTP/1.1\r\nHost: ada\r\nBad\x00Name: x\r\n\r\n", 400),
    (b"GET /%FF%FE%00 HTTP/1.1\r\nHost: ada\r\nConnection: close\r\n\r\n", 404),
    (b"GET /v1/nights/%ED%A0%80 HTTP/1.1\r\nHost: ada\r\nConnection: close\r\n\r\n", 404),
    (b"GET * HTTP/1.1\r\nHost: ada\r\nConnection: close\r\n\r\n", 404),
    (b"OPTIONS * HTTP/1.1\r\nHost: ada\r\nConnection: close\r\n\r\n", 404),
    (b"CONNECT ada:80 HTTP/1.1\r\nHost: ada\r\nConnection: close\r\n\r\n", 404),
    (b"G\xc3\x84T /v1/health HTTP/1.1\r\nHost: ada\r\n\r\n", 400),
    (b"GET /v1/health HTTP/1.1\r\nHost: ada\r\nX: \xff\xfe\r\nConnection: close\r\n\r\n", 200),
    (b"GET /v1/memories?q=%FF%00%ED%A0%80&limit=1 HTTP/1.1\r\nHost: ada\r\nConnection: close\r\n\r\n", 200),
    (b"GET /v1/memories?limit=-0 HTTP/1.1\r\nHost: ada\r\nConnection: close\r\n\r\n", 400),
    (b"GET /v1/memories?limit=" + b"9" * 5000 + b" HTTP/1.1\r\nHost: ada\r\nConnection: close\r\n\r\n", 400),
    (request(b"{}", "Content-Type: text/plain"), 415),
    (request(interaction(), "Upgrade: websocket, Connection: upgrade"), 202),
]


@pytest.mark.parametrize(("sent", "status"), HOSTILE, ids=range(len(HOSTILE)))
def test_bytes_that_mean_no_good(daemon: Running, unharmed: None, sent: bytes, status: int) -> None:
    before = counted(daemon)
    answered, body = exchange(daemon, sent)
    assert answered == status, body
    assert status < 400 or set(body["error"]) == {"type", "message", "field", "hint"}
    assert counted(daemon) == before + (status == 202)


def nested(depth: int, open_: str, close: str) -> str:
    return open_ * depth + close * depth


BODIES: list[tuple[str, str, int]] = [
    (INTERACTION, nested(100_000, "[", "]"), 400),
    (INTERACTION, '{"a":' * 400_000 + "1" + "}" * 400_000, 400),
    (INTERACTION, '{"messages": ' + nested(700, "[", "]") + "}", 400),
    (INTERACTION, '{"messages": [{"role": "user", "content": ' + nested(900, "[", "]") + "}]}", 400),
    (INTERACTION, '{"messages": [{"role": "user", "content": "x"}], "at": 1e999}', 400),
    (INTERACTION, '{"messages": [{"role": "user", "content": "x"}], "at": -0.0}', 400),
    (INTERACTION, '{"messages": [{"role": "user", "content": "x"}], "at": "9999-12-31T23:59:59-14:00"}', 400),
    (INTERACTION, '{"messages": [{"role": "user", "content": "x"}], "at": "10000-01-01T00:00:00Z"}', 400),
    (INTERACTION, '{"messages": [{"role": "user", "content": "x"}], "at": "2026-13-01T00:00:00Z"}', 400),
    (INTERACTION, '{"messages": [{"role": "user", "content": "\\u0000"}], "key": ""}', 400),
    (INTERACTION, '{"messages": [{"role": "user", "content": "x"}], "tags": null}', 400),
    (INTERACTION, '{"messages": [{"role": "user", "content": NaN}]}', 400),
    (CHAT, '{"messages": [{"role": "user", "content": "x"}], "seed": 1' + "0" * 400 + "}", 400),
    (CHAT, '{"messages": [{"role": "user", "content": "x"}], "max_tokens": 1e400}', 400),
    (CHAT, '{"messages": [], "ada": {}}', 400),
]


@pytest.mark.parametrize(("path", "body", "status"), BODIES, ids=range(len(BODIES)))
def test_json_that_means_no_good(daemon: Running, unharmed: None, path: str, body: str, status: int) -> None:
    before = counted(daemon)
    answered, said = exchange(daemon, request(body.encode(), path=path))
    assert answered == status and said["error"]["type"] == "BadInput", said
    assert len(json.dumps(said)) < 3_000, "what was sent is not sent back"
    assert counted(daemon) == before


def on_disk(daemon: Running, name: str) -> list[tuple[str, str]]:
    """Time and content of an interaction, straight from the file."""
    with closing(sqlite3.connect(f"file:{Home(daemon.home).journal}?mode=ro", uri=True)) as db:
        rows = "SELECT at, content FROM interactions JOIN messages USING (position) WHERE id = ?"
        return db.execute(f"{rows} ORDER BY ordinal", (name,)).fetchall()


def test_of_a_name_that_stands_twice_the_last_counts(daemon: Running) -> None:
    twice = b'{"messages": [], "messages": [{"role": "user", "content": "a", "content": "b"}]}'
    status, kept = exchange(daemon, request(twice))
    assert status == 202
    assert [content for _, content in on_disk(daemon, kept["id"])] == ["b"]


def test_any_moment_of_the_calendar_can_be_kept_and_read(daemon: Running, ada: Client) -> None:
    moments = {
        "0001-01-01T00:00:00Z": "0001-01-01T00:00:00",
        "0001-01-01T14:00:00+14:00": "0001-01-01T00:00:00",
        "2024-02-29T00:00:00-00:00": "2024-02-29T00:00:00",
        "9999-12-31T23:59:59+14:00": "9999-12-31T09:59:59",
        "9999-12-31T23:59:59.999999Z": "9999-12-31T23:59:59",
    }
    for at, then in moments.items():
        kept = ada.post(f"Somebody said this at {at}.", at=at)
        assert on_disk(daemon, kept["id"])[0][0].startswith(then)
    until(lambda: not ada.status()["counts"]["unencoded"])
    found = {m["text"]: m["at"] for m in ada.memories(limit=1000)}
    assert all(found[f"Somebody said this at {at}."].startswith(then) for at, then in moments.items())


def test_what_is_long_comes_back_whole(daemon: Running, ada: Client) -> None:
    text = "a\x00b\N{CAT FACE}" + "".join(f" {n}" for n in range(LONG))[: LONG - 4]
    assert len(text) == LONG
    kept = ada.post(text, tags=["no-train"])
    assert [content for _, content in on_disk(daemon, kept["id"])] == [text]
    until(lambda: not ada.status()["counts"]["unencoded"])
    assert ada.memories(limit=1)[0]["text"] in text


def test_ten_thousand_messages_are_one_interaction(daemon: Running, ada: Client) -> None:
    messages = [{"role": "assistant", "content": f"{n}."} for n in range(10_000)]
    kept = ada.post(messages)
    assert [content for _, content in on_disk(daemon, kept["id"])] == [m["content"] for m in messages]
    until(lambda: not ada.status()["counts"]["unencoded"])


def test_a_question_that_is_too_long_for_the_model_is_refused(ada: Client) -> None:
    for recall in (True, False):
        with pytest.raises(BadInput, match="too long"):
            ada.chat("why " * (LONG // 4), recall=recall, remember=False)
    with pytest.raises(BadInput, match="no room"):
        ada.chat("Hello.", max_tokens=4096, recall=False, remember=False)
    turns = [{"role": role, "content": f"Turn {n}."} for n in range(2_000) for role in ("user", "assistant")]
    reply = ada.chat([*turns, GOOD], max_tokens=2, recall=False, remember=False)
    assert reply["choices"] and reply["usage"]["prompt_tokens"] < 2048, "the oldest turns gave way"


# Many at once --------------------------------------------------------------------------------------------


def at_once(daemon: Running, count: int, do: Callable[[Client, int], object]) -> list[object]:
    """What `do` returns or raises on so many connections at the same moment."""
    barrier = threading.Barrier(count)
    found: list[object] = [None] * count

    def go(number: int) -> None:
        with daemon.client() as client:
            barrier.wait()
            try:
                found[number] = do(client, number)
            except AdaError as error:
                found[number] = error

    threads = [threading.Thread(target=go, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_one_key_from_twenty_connections_is_one_row(daemon: Running) -> None:
    before = counted(daemon)
    found = at_once(daemon, 20, lambda client, _: client.post("Once.", key="race", tags=["no-train"]))
    receipts = [kept for kept in found if isinstance(kept, dict)]
    assert len(receipts) == 20 and len({kept["id"] for kept in receipts}) == 1
    assert [kept["duplicate"] for kept in receipts].count(False) == 1
    assert counted(daemon) == before + 1
    found = at_once(daemon, 10, lambda client, n: client.post(f"{n}", key="clash", tags=["no-train"]))
    assert sorted(type(one).__name__ for one in found) == [*["Conflict"] * 9, "dict"]
    assert all(one.field == "key" for one in found if isinstance(one, Conflict))
    found = at_once(daemon, 10, lambda client, n: client.post("Mine.", key="race", app=f"app{n}"))
    assert not any(kept["duplicate"] for kept in found if isinstance(kept, dict))
    assert counted(daemon) == before + 12


def test_chats_beyond_what_can_wait_are_sent_away(daemon: Running, ada: Client) -> None:
    ada.chat("Hello.", max_tokens=2, recall=False, remember=False)
    (voice,) = children(daemon.process.pid, b"service.voice")
    more = 6
    os.kill(voice, signal.SIGSTOP)
    try:
        with ExitStack() as stack:
            body = json.dumps(
                {"messages": [GOOD], "max_tokens": 2, "ada": {"recall": False, "remember": False}}
            ).encode()
            asking = [connected(daemon, stack) for _ in range(MOST_CHATS + more)]
            for raw in asking:
                raw.sendall(request(body, path=CHAT))
            until(lambda: len(select.select(asking, [], [], 0)[0]) >= more)
            time.sleep(0.5)  # one too many would be answered by now
            ready = select.select(asking, [], [], 0)[0]
            away = [rest(raw) for raw in ready]
            assert [parsed(answer)[0] for answer in away] == [503] * more
            assert all(b"retry-after: 5" in answer.lower() for answer in away)
            assert ada.health()["status"] == "ok"
            os.kill(voice, signal.SIGCONT)
            waited = [rest(raw) for raw in asking if raw not in ready]
            assert [parsed(answer)[0] for answer in waited] == [200] * MOST_CHATS
    finally:
        os.kill(voice, signal.SIGCONT)
    assert ada.chat("Hello.", max_tokens=2, recall=False, remember=False)["choices"]


def children(pid: int, word: bytes) -> list[int]:
    """Processes whose parent is `pid` and whose command line holds a word."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == pid and word in words:
            found.append(int(entry.name))
    return found


# While it wakes ------------------------------------------------------------------------------------------


def test_who_comes_while_it_wakes_is_answered_once_it_is_awake(model: str) -> None:
    with short_folder() as short:
        place = short / "s"
        process = subprocess.Popen(
            command(short / "home", place, model), stderr=subprocess.PIPE, env=environment()
        )
        try:
            until(place.exists)
            found: list[object] = []

            def ask() -> None:
                with Client(place) as client:
                    found.append(client.post("Good morning."))

            early = [threading.Thread(target=ask) for _ in range(20)]
            for thread in early:
                thread.start()
            for thread in early:
                thread.join()
            assert len(found) == 20
        finally:
            process.terminate()
            _, said = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, said.decode()


def test_who_waits_for_a_daemon_that_is_stopped_is_told(model: str) -> None:
    with short_folder() as short:
        place = short / "s"
        process = subprocess.Popen(
            command(short / "home", place, model), stderr=subprocess.PIPE, env=environment()
        )
        until(place.exists)
        process.send_signal(signal.SIGSTOP)  # it does not get any further
        told: list[object] = []

        def ask() -> None:
            with Client(place) as client:
                try:
                    told.append(client.health())
                except Unavailable as error:
                    told.append(error)

        early = threading.Thread(target=ask)
        early.start()
        time.sleep(0.2)
        process.terminate()
        process.send_signal(signal.SIGCONT)
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
        early.join()
        assert process.returncode == 0, said.decode()
        assert isinstance(told[0], Unavailable), told
