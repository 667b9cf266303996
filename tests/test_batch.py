"""Many interactions in one request: kept in order, each line by itself, on disk before the reply."""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import httpx
import pytest

from ada_memory.cli import main
from ada_memory.client import Client
from ada_memory.errors import AdaError, BadInput, Conflict
from ada_memory.hippocampus.journal import Journal
from ada_memory.service.batch import PIECE
from ada_memory.service.problems import LINES
from ada_memory.settings import Home
from tests.daemons import Running, running, short_folder
from tests.models import tiny_model

BATCH = "/v1/interactions/batch"
MOST_BYTES = 400_000
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"model.name={tiny_model(tmp_path_factory.mktemp('model'))}"


@pytest.fixture(scope="module")
def daemon(model: str) -> Iterator[Running]:
    sets = (model, f"socket.max_body_bytes={MOST_BYTES}", "sunset.capacity=0")
    with short_folder() as short, running(short / "home", short / "s", *sets) as alive:
        yield alive


@pytest.fixture
def ada(daemon: Running) -> Iterator[Client]:
    with daemon.client() as client:
        yield client


@pytest.fixture
def http(daemon: Running) -> Iterator[httpx.Client]:
    with daemon.http() as client:
        yield client


def said(text: str, **fields: object) -> dict[str, Any]:
    """An interaction that leaves no memory to train on."""
    return {"messages": [{"role": "user", "content": text}], "tags": ["no-train"], **fields}


def ndjson(*lines: Mapping[str, Any] | bytes) -> bytes:
    return b"".join((x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\n" for x in lines)


def journal(home: Path) -> list[tuple[int, str, str]]:
    """Position, id and text of everything that is on disk."""
    with closing(sqlite3.connect(f"file:{Home(home).journal}?mode=ro", uri=True)) as db:
        query = "SELECT position, id, content FROM interactions JOIN messages USING (position) ORDER BY 1"
        return db.execute(query).fetchall()


def test_the_order_of_the_lines_is_the_order_of_the_journal(daemon: Running, http: httpx.Client) -> None:
    before = len(journal(daemon.home))
    lines = [said(f"Line {n}.") for n in range(2 * PIECE + 10)]
    reply = http.post(BATCH, content=ndjson(*lines), headers=NDJSON)
    assert reply.status_code == 200, reply.text
    answer = reply.json()
    assert (answer["kept"], answer["duplicates"], answer["failed"]) == (len(lines), 0, 0)
    assert [line["line"] for line in answer["lines"]] == list(range(1, len(lines) + 1))
    assert set(answer["lines"][0]) == {"line", "id", "position", "duplicate"}
    on_disk = journal(daemon.home)[before:]
    assert [(line["position"], line["id"]) for line in answer["lines"]] == [row[:2] for row in on_disk]
    assert [text for _, _, text in on_disk] == [line["messages"][0]["content"] for line in lines]
    assert [position for position, _, _ in on_disk] == list(range(before + 1, before + len(lines) + 1))


BAD: list[tuple[bytes, str, str]] = [
    (b"{", "JSON", ""),
    (b"[" * 5_000, "JSON", ""),
    (b'{"messages": ' + b"9" * 5_000 + b"}", "JSON", ""),
    (b"[1]", "object", ""),
    (b"null", "object", ""),
    (b'{"messages": "\xff"}', "UTF-8", ""),
    (b'{"messages": []}', "", "messages"),
    (b'{"messages": [{"role": "user", "content": "x"}], "sesion": "s"}', "unknown", "sesion"),
    (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "surrogate", "messages.0.content"),
    (b'{"messages": [{"role": "user", "content": "x"}], "at": "0001-01-01T00:00:00+14:00"}', "", "at"),
]


def test_a_bad_line_fails_alone_and_says_why(daemon: Running, http: httpx.Client) -> None:
    before = len(journal(daemon.home))
    good = said("Good.")
    body = b"\xef\xbb\xbf" + ndjson(good, *(bad for bad, _, _ in BAD), b"", b"  \r", good)
    reply = http.post(BATCH, content=body.rstrip(b"\n"), headers=NDJSON)
    assert reply.status_code == 207
    answer = reply.json()
    assert (answer["kept"], answer["duplicates"], answer["failed"]) == (2, 0, len(BAD))
    lines = answer["lines"]
    assert [line["line"] for line in lines] == [*range(1, len(BAD) + 2), len(BAD) + 4]
    for line, (_, word, field) in zip(lines[1:-1], BAD, strict=True):
        error = line["error"]
        assert set(error) == {"type", "message", "field", "hint"}
        assert (error["type"], error["field"]) == ("BadInput", field) and word in error["message"]
    kept = journal(daemon.home)[before:]
    assert [(lines[0]["id"], lines[-1]["id"])] == [(kept[0][1], kept[1][1])] and len(kept) == 2


def test_keys_mean_the_same_in_a_batch_and_alone(ada: Client) -> None:
    alone = ada.post("By itself.", app="keys", key="1", tags=["no-train"])
    first, other, twice, another, bare = ada.batch(
        [
            said("By itself.", app="keys", key="1"),
            said("Something else.", app="keys", key="1"),
            said("Twice.", app="keys", key="2"),
            said("Twice.", app="keys", key="2"),
            said("Something else.", app="others", key="1"),
        ]
    )
    assert (first["id"], first["duplicate"]) == (alone["id"], True)
    assert (other["error"]["type"], other["error"]["field"]) == ("Conflict", "key")
    assert (another["id"], another["duplicate"], twice["duplicate"]) == (twice["id"], True, False)
    assert bare["duplicate"] is False
    assert ada.post("Twice.", app="keys", key="2", tags=["no-train"])["duplicate"] is True
    with pytest.raises(Conflict):
        ada.post("Thrice.", app="keys", key="2")


def test_only_lines_of_json_are_taken(http: httpx.Client, daemon: Running) -> None:
    line = ndjson(said("A kind of line."))
    for kind in LINES:
        assert http.post(BATCH, content=line, headers={"Content-Type": f"{kind}; charset=utf-8"}).is_success
    before = len(journal(daemon.home))
    for path, kind in ((BATCH, "application/json"), (BATCH, ""), ("/v1/interactions", LINES[0])):
        headers = {"Content-Type": kind} if kind else {}
        reply = http.post(path, content=line, headers=headers)
        assert reply.status_code == 415 and "Content-Type: application/" in reply.json()["error"]["hint"]
    for empty in (b"", b"\n \r\n\n"):
        reply = http.post(BATCH, content=empty, headers=NDJSON)
        assert reply.status_code == 400 and "no line" in reply.json()["error"]["message"]
    assert http.post(BATCH, content=line * (MOST_BYTES // len(line) + 1), headers=NDJSON).status_code == 413
    assert len(journal(daemon.home)) == before


def test_batches_at_the_same_time_each_keep_their_order(daemon: Running) -> None:
    def send(who: int) -> None:
        with daemon.client() as client:
            outcomes = list(client.batch(said(f"{who}: {n}") for n in range(PIECE + 100)))
        told[who] = [line["position"] for line in outcomes]

    told: dict[int, list[int]] = {}
    threads = [threading.Thread(target=send, args=(who,)) for who in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = {position: text for position, _, text in journal(daemon.home)}
    for who, positions in told.items():
        assert positions == sorted(set(positions))
        assert [texts[position] for position in positions] == [f"{who}: {n}" for n in range(PIECE + 100)]
    assert len(told) == 3


def test_kill_9_loses_no_line_that_was_acknowledged(model: str) -> None:
    acknowledged: list[dict[str, Any]] = []
    day = [said(f"Line {n}.", key=f"k{n}") for n in range(30_000)]

    def post(alive: Running) -> None:
        with alive.client() as client:
            try:
                acknowledged.extend(client.batch(day, 50_000))
            except AdaError:
                return

    with short_folder() as short:
        with running(short / "home", short / "s", model) as alive:
            poster = threading.Thread(target=post, args=(alive,))
            poster.start()
            while len(acknowledged) < 1_000:
                assert poster.is_alive() and alive.process.poll() is None, alive.said()
            alive.stop(signal.SIGKILL)
            poster.join()
        with Journal.open(Home(short / "home").journal) as opened:
            opened.check()
            kept = opened.interactions(limit=100_000)
    assert {line["id"] for line in acknowledged} <= {interaction.id for interaction in kept}
    assert [i.draft.key for i in kept] == [f"k{n}" for n in range(len(kept))]
    assert 1_000 <= len(acknowledged) <= len(kept) < len(day)


def test_the_client_sends_as_much_as_fits_and_counts_through(ada: Client) -> None:
    long = said("x" * MOST_BYTES)
    one, two, three = said("One.", key="c1"), said("Two.", key="c2"), said("Three.")
    lines: list[dict[str, Any] | bytes] = [one, b"", two, long, b'{"mess\nages": 1}', three]
    outcomes = list(ada.batch(lines, most_bytes=200))
    assert [outcome["line"] for outcome in outcomes] == [1, 3, 4, 5, 6]
    assert [outcome.get("error", {}).get("type") for outcome in outcomes] == [
        None,
        None,
        "BadInput",
        "BadInput",
        None,
    ]
    assert "larger" in outcomes[2]["error"]["message"]
    with pytest.raises(BadInput, match="larger"):
        list(ada.batch([said("a" * 150_000)] * 4, most_bytes=2 * MOST_BYTES))
    assert list(ada.batch([])) == []


def ada_post(daemon: Running, *words: str) -> int:
    sets = ("--set", f"socket.path={daemon.socket}", "--set", f"socket.max_body_bytes={MOST_BYTES}")
    return main(["post", "--home", str(daemon.home), *sets, *words])


def test_a_file_can_be_posted_mended_and_posted_again(
    daemon: Running, ada: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "day.ndjson"

    def write(lines: Sequence[str | Mapping[str, Any]]) -> None:
        file.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines) + "\n", "utf-8")

    hello, own = {"messages": said("Hello.")["messages"]}, said("Mine.", key="own", app="other")
    write([hello, "", own, {**hello, "sesion": "x"}, "{nonsense", hello])
    before = len(journal(daemon.home))
    assert ada_post(daemon, "--file", str(file), "--tag", "no-train", "--json") == 1
    out = capsys.readouterr()
    told = json.loads(out.out)
    assert {k: told[k] for k in ("file", "kept", "duplicates", "failed")} == {
        "file": str(file),
        "kept": 3,
        "duplicates": 0,
        "failed": 2,
    }
    assert [error["line"] for error in told["errors"]] == [4, 5]
    assert "line 4: unknown field sesion" in out.err and "line 5: the line is not JSON" in out.err
    assert len(journal(daemon.home)) == before + 3
    with pytest.raises(Conflict):
        ada.post("Not mine.", app="other", key="own")

    write([hello, "", own, {**hello, "session": "x"}, hello, hello])
    assert ada_post(daemon, "--file", str(file), "--tag", "no-train") == 0
    assert "2 kept, 3 already there, 0 refused" in capsys.readouterr().out


def test_a_file_for_a_daemon_that_is_not_there_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "day.ndjson"
    file.write_bytes(ndjson(said("Hello.")))
    sets = ("--set", f"socket.path={tmp_path / 'none'}") if len(str(tmp_path)) < 90 else ()
    assert main(["post", "--home", str(tmp_path), *sets, "--file", str(file)]) == 3
    told = capsys.readouterr().err
    assert "after line 0: no daemon answers" in told and "post the file again" in told


def test_lines_are_read_from_standard_input(
    daemon: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    piped = BytesIO(ndjson(said("From a pipe."), b'"\xff"', said("And more.")))
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(piped))
    assert ada_post(daemon, "--file", "-") == 1
    out = capsys.readouterr()
    assert "2 kept" in out.out and "line 2: the line is not UTF-8" in out.err


def test_the_description_tells_of_lines_and_of_both_answers(http: httpx.Client) -> None:
    operation = http.get("/v1/openapi.json").json()["paths"][BATCH]["post"]
    body = operation["requestBody"]
    assert body["required"] and list(body["content"]) == ["application/x-ndjson"]
    assert body["content"]["application/x-ndjson"]["schema"]["type"] == "string"
    assert {"200", "207", "4XX", "503"} <= set(operation["responses"])
    assert "each line is kept or refused by itself" in operation["description"]
