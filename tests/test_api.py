"""The API over a real socket, with a real journal, embedder and (tiny, random) model behind it."""

from __future__ import annotations

import json
import os
import signal
import socket as sockets
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

from ada_memory.client import Client
from ada_memory.errors import BadInput, BadModel, Conflict, NotFound
from ada_memory.records import Generation
from ada_memory.settings import Home, ModelSettings
from ada_memory.sovereign.generations import active, prepare_base, write
from tests.daemons import Running, running, short_folder, until
from tests.models import tiny_model

MOST_BYTES = 20_000


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    model = tiny_model(tmp_path_factory.mktemp("model"), limit=2048)
    sets = (
        f"model.name={model}", f"socket.max_body_bytes={MOST_BYTES}", "sunset.capacity=0", "model.threads=1",
    )
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


def interactions(ada: Client) -> int:
    return int(ada.status()["counts"]["interactions"])


def encoded(ada: Client) -> bool:
    return int(ada.status()["counts"]["unencoded"]) == 0


def test_health_models_and_status(ada: Client, daemon: Running) -> None:
    assert ada.health()["status"] == "ok"
    assert [model["id"] for model in ada.models()["data"]] == ["gen-0000"]
    status = ada.status()
    assert (status["mind"], status["generation"], status["state"]) == ("default", "gen-0000", "awake")
    assert (status["socket"], status["pid"]) == (str(daemon.socket), daemon.process.pid)
    assert set(status["workers"]) == {"embed", "voice"}


def test_an_interaction_is_kept_with_who_said_it(ada: Client) -> None:
    before = interactions(ada)
    at = "2026-03-01T09:30:00+02:00"
    kept = ada.post("Marta lives in Porto.", app="notes", session="s1", at=at, key="k1")
    assert kept["position"] == before + 1 and kept["duplicate"] is False
    again = ada.post("Marta lives in Porto.", app="notes", session="s1", key="k1")
    assert (again["id"], again["duplicate"]) == (kept["id"], True)
    with pytest.raises(Conflict, match="k1") as caught:
        ada.post("Marta lives in Faro.", app="notes", session="s1", key="k1")
    assert caught.value.field == "key"
    assert interactions(ada) == before + 1
    until(lambda: encoded(ada))
    memory = next(m for m in ada.memories() if m["text"] == "Marta lives in Porto.")
    assert memory["at"] == "2026-03-01T07:30:00Z"
    assert (memory["route"], memory["state"]) == ("weights", "waiting")


def test_memories_are_found_by_meaning(ada: Client) -> None:
    reply = {"role": "assistant", "content": "Nice!"}
    ada.post([{"role": "user", "content": "My dog is called Bruno."}, reply])
    ada.post("The tax office opens at nine on Mondays.", tags=["no-recall"])
    until(lambda: encoded(ada))
    found = ada.memories("What is the name of my dog?", limit=3)
    assert found[0]["text"] == "My dog is called Bruno." and found[0]["similarity"] > 0.3
    assert [m["similarity"] for m in found] == sorted((m["similarity"] for m in found), reverse=True)
    assert all("tax office" not in m["text"] for m in ada.memories("When does the tax office open?"))
    assert len(ada.memories(limit=1)) == 1
    with pytest.raises(BadInput, match="limit"):
        ada.memories(limit=0)


def test_a_chat_recalls_and_remembers(ada: Client) -> None:
    ada.post("My boat is called Aurora.")
    until(lambda: encoded(ada))
    before = interactions(ada)
    reply = ada.chat("What is my boat called?", max_tokens=8, model="anything", session="s2", app="cli")
    assert reply["object"] == "chat.completion" and reply["model"] == "anything"
    assert reply["choices"][0]["message"]["role"] == "assistant"
    assert reply["usage"]["completion_tokens"] <= 8
    assert reply["ada"]["generation"] == "gen-0000"
    names = {memory["id"]: memory["text"] for memory in ada.memories(limit=1000)}
    assert "My boat is called Aurora." in [names[one["id"]] for one in reply["ada"]["recalled"]]
    assert interactions(ada) == before + 1, "the turn was on disk before the reply came"

    quiet = ada.chat("What is my boat called?", max_tokens=8, recall=False, remember=False)
    assert quiet["ada"]["recalled"] == []
    assert interactions(ada) == before + 1
    assert quiet["usage"]["prompt_tokens"] < reply["usage"]["prompt_tokens"]


def test_greedy_is_repeatable_and_a_seed_means_one_text(ada: Client) -> None:
    def say(**fields: float) -> str:
        given: dict[str, Any] = {"max_tokens": 12, **fields}
        reply = ada.chat("Hello there.", recall=False, remember=False, **given)
        return str(reply["choices"][0]["message"]["content"])

    assert say() == say()
    assert say(temperature=1.5, seed=1) == say(temperature=1.5, seed=1)
    assert len({say(temperature=1.5, seed=seed) for seed in range(4)}) > 1


def test_only_the_new_turn_of_a_conversation_is_kept(ada: Client, daemon: Running) -> None:
    ada.chat(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "My aunt is called Zelda."},
            {"role": "assistant", "content": "I see."},
            {"role": "user", "content": "My uncle is called Quentin."},
        ],
        max_tokens=4,
    )
    until(lambda: encoded(ada))
    texts = [memory["text"] for memory in ada.memories(limit=1000)]
    assert "My uncle is called Quentin." in texts
    assert not {"My aunt is called Zelda.", "Be brief.", "I see."} & set(texts)


def test_chats_at_the_same_time_are_all_answered(daemon: Running) -> None:
    said: list[str] = []

    def talk(number: int) -> None:
        with daemon.client() as client:
            reply = client.chat(f"Question {number}.", max_tokens=6, recall=False, remember=False)
            said.append(reply["choices"][0]["message"]["content"])

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 12


INTERACTION = "/v1/interactions"
CHAT = "/v1/chat/completions"
GOOD = {"role": "user", "content": "Hello."}
BAD: list[tuple[str, Any, str]] = [
    (INTERACTION, {}, "messages"),
    (INTERACTION, [], ""),
    (INTERACTION, None, ""),
    (INTERACTION, {"messages": []}, "messages"),
    (INTERACTION, {"messages": [{"role": "system", "content": "x"}]}, "messages.0.role"),
    (INTERACTION, {"messages": [{"role": "user", "content": " \n"}]}, "messages.0.content"),
    (INTERACTION, {"messages": [{"role": "user", "content": 7}]}, "messages.0.content"),
    (INTERACTION, {"messages": [{"role": "user", "content": "half \ud800 of a pair"}]}, "messages.0.content"),
    (INTERACTION, {"messages": [{**GOOD, "name": "x"}]}, "messages.0.name"),
    (INTERACTION, {"messages": [GOOD], "tag": []}, "tag"),
    (INTERACTION, {"messages": [GOOD], "\ud800": 1}, ""),
    (INTERACTION, {"messages": [GOOD], "tags": ["secret"]}, "tags.0"),
    (INTERACTION, {"messages": [GOOD], "kind": "mail"}, "kind"),
    (INTERACTION, {"messages": [GOOD], "at": "yesterday"}, "at"),
    (INTERACTION, {"messages": [GOOD], "at": "2026-03-01T09:30:00"}, "at"),
    (INTERACTION, {"messages": [GOOD], "at": 1_700_000_000}, "at"),
    (INTERACTION, {"messages": [GOOD], "at": "0001-01-01T00:00:00+14:00"}, "at"),
    (INTERACTION, {"messages": [GOOD], "app": ""}, "app"),
    (INTERACTION, {"messages": [GOOD], "key": "k" * 201}, "key"),
    (INTERACTION, {"messages": [GOOD], "session": "\ud800"}, "session"),
    (CHAT, {"messages": [{"role": "user", "content": "\udfff"}]}, "messages.0.content"),
    (CHAT, {"messages": [GOOD], "model": "\ud800"}, "model"),
    (CHAT, {"messages": [GOOD], "stream": True}, "stream"),
    (CHAT, {"messages": [GOOD], "stream": "yes"}, "stream"),
    (CHAT, {"messages": [{"role": "assistant", "content": "Hm."}]}, "messages"),
    (CHAT, {"messages": [{"role": "thought", "content": "Hm."}]}, "messages.0.role"),
    (CHAT, {"messages": [GOOD], "max_tokens": 0}, "max_tokens"),
    (CHAT, {"messages": [GOOD], "max_tokens": 10**9}, "max_tokens"),
    (CHAT, {"messages": [GOOD], "temperature": -1}, "temperature"),
    (CHAT, {"messages": [GOOD], "temperature": float("nan")}, "temperature"),
    (CHAT, {"messages": [GOOD], "seed": 2**70}, "seed"),
    (CHAT, {"messages": [GOOD], "top_p": 0.5}, "top_p"),
    (CHAT, {"messages": [GOOD], "ada": {"recal": True}}, "ada.recal"),
    ("/v1/sleep", {"until": "breakfast"}, "until"),
    ("/v1/rollback", {"to": ""}, "to"),
    ("/v1/reset", {"really": True}, "really"),
]


@pytest.mark.parametrize(("path", "body", "field"), BAD, ids=range(len(BAD)))
def test_bad_input_is_named_and_changes_nothing(
    http: httpx.Client, ada: Client, path: str, body: Any, field: str
) -> None:
    before = ada.status()["counts"]
    reply = http.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    error = problem(reply, 400, "BadInput")
    assert error["field"] == field and error["message"]
    after = ada.status()["counts"]
    assert (after["interactions"], after["nights"]) == (before["interactions"], before["nights"])


def problem(reply: httpx.Response, status: int, kind: str) -> dict[str, str]:
    """The error in a reply, whose shape and status are checked."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    body = reply.json()
    assert set(body) == {"error"} and set(body["error"]) == {"type", "message", "field", "hint"}
    assert body["error"]["type"] == kind
    error: dict[str, str] = body["error"]
    return error


@pytest.mark.parametrize(
    ("content", "kind", "status", "word"),
    [
        (b"{", "application/json", 400, "JSON"),
        (b'{"messages": [}', "application/json", 400, "JSON"),
        (b"[" * 9_000, "application/json", 400, "JSON"),
        (b'{"a": ' + b"9" * 9_000 + b"}", "application/json", 400, "JSON"),
        (b'{"messages": "\xff"}', "application/json", 400, "UTF-8"),
        (b'{"messages": []}', "text/plain", 415, "JSON"),
        (b'{"messages": []}', "", 415, "JSON"),
        (b" " * (MOST_BYTES + 1), "application/json", 413, str(MOST_BYTES)),
        (b"", "application/json", 400, ""),
    ],
)
def test_bad_bodies(http: httpx.Client, content: bytes, kind: str, status: int, word: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    reply = http.post(INTERACTION, content=content, headers=headers)
    assert word in problem(reply, status, "BadInput")["message"]


def test_a_body_that_does_not_say_how_large_it_is_is_counted(http: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(MOST_BYTES // 1000 + 2):
            yield b" " * 1000

    reply = http.post(INTERACTION, content=pieces(), headers={"Content-Type": "application/json"})
    problem(reply, 413, "BadInput")


def test_a_body_just_within_the_limit_is_taken(http: httpx.Client) -> None:
    body = json.dumps({"messages": [GOOD], "tags": ["no-train", "no-recall"]}).encode()
    padded = body + b" " * (MOST_BYTES - len(body))
    reply = http.post(INTERACTION, content=padded, headers={"Content-Type": "application/json"})
    assert reply.status_code == 202


def test_unknown_paths_and_wrong_methods(http: httpx.Client) -> None:
    assert "/v1/nothing" in problem(http.get("/v1/nothing"), 404, "NotFound")["message"]
    problem(http.get("/docs"), 404, "NotFound")
    wrong = http.delete(INTERACTION)
    assert "POST" in problem(wrong, 405, "BadInput")["hint"] and wrong.headers["allow"] == "POST"
    for name in ("nope", "..%2F..%2Fetc%2Fpasswd", "%00", "latest"):
        problem(http.get(f"/v1/nights/{name}"), 404, "NotFound")


def test_bytes_that_are_not_http_get_the_same_shape(daemon: Running) -> None:
    with sockets.socket(sockets.AF_UNIX) as raw:
        raw.connect(str(daemon.socket))
        raw.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        raw.settimeout(30)
        answer = b""
        while part := raw.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["error"]["type"] == "BadInput"


def test_the_peer_is_noted(daemon: Running, ada: Client) -> None:
    import sqlite3

    kept = ada.post("Who wrote this?")
    path = daemon.home / "var" / "minds" / "default" / "journal.db"
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        (uid,) = db.execute("SELECT peer_uid FROM interactions WHERE id = ?", (kept["id"],)).fetchone()
    finally:
        db.close()
    assert uid == os.getuid()


def test_openapi_names_every_path_and_the_one_error(http: httpx.Client) -> None:
    spec = http.get("/v1/openapi.json").json()
    assert set(spec["paths"]) == {
        "/v1/interactions", "/v1/chat/completions", "/v1/health", "/v1/models", "/v1/status", "/v1/memories",
        "/v1/sleep", "/v1/nights", "/v1/nights/{night}", "/v1/events", "/v1/rollback", "/v1/reset",
        "/v1/checkup", "/v1/interactions/batch", "/v1/memories/{name}", "/v1/why/{name}", "/v1/wake",
        "/v1/nights/current/pause", "/v1/nights/current/resume",
    }
    assert "HTTPValidationError" not in spec["components"]["schemas"]
    for methods in spec["paths"].values():
        for operation in methods.values():
            assert "4XX" in operation["responses"] and operation["description"]


def test_events_come_as_they_happen_and_are_replayed(daemon: Running, ada: Client) -> None:
    with daemon.client() as other:
        stream = other.events()
        kept = ada.post("Something new.", key="event")
        while (event := next(stream)).get("id") != kept["id"]:
            pass
        assert event["event"] == "interaction"
        stream.close()  # type: ignore[attr-defined]
        again = other.events()
        assert any(event.get("id") == kept["id"] for event in again)
        again.close()  # type: ignore[attr-defined]


def test_nights_and_generations_that_are_not_there(ada: Client) -> None:
    assert ada.nights() == []
    with pytest.raises(NotFound):
        ada.night()
    with pytest.raises(Conflict):
        ada.rollback()
    for name in ("gen-0007", "../../etc"):
        with pytest.raises(NotFound):
            ada.rollback(name)
    assert ada.reset() == {"generation": "gen-0000", "previous": "gen-0000"}


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # peft asks transformers so
def test_generations_change_hands_while_chats_go_on(daemon: Running, ada: Client, tmp_path: Path) -> None:
    settings = ModelSettings(name=ada.status()["model"])
    home = Home(daemon.home)
    base = prepare_base(home, settings)
    model = get_peft_model(
        LlamaForCausalLM.from_pretrained(base.path),
        LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False),
    )
    model.save_pretrained(str(tmp_path / "adapter"))
    born = datetime.now(UTC)
    child = Generation("gen-0001", "gen-0000", None, "nightly_adapter_v1", born)
    write(home, child, tmp_path / "adapter", base)
    stop = threading.Event()
    spoke: list[str] = []

    def talk() -> None:
        with daemon.client() as client:
            while not stop.is_set():
                reply = client.chat("Hello.", max_tokens=4, recall=False, remember=False)
                spoke.append(reply["ada"]["generation"])

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        assert ada.rollback("gen-0001") == {"generation": "gen-0001", "previous": "gen-0000"}
        assert ada.status()["generation"] == active(home) == "gen-0001"
        count = len(spoke)
        until(lambda: len(spoke) > count + 2)
        weights = home.generations / "gen-0001" / "adapter" / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
        assert ada.rollback() == {"generation": "gen-0000", "previous": "gen-0001"}, "also from a damaged one"
        with pytest.raises(BadModel):
            ada.rollback("gen-0001")
        assert ada.status()["generation"] == active(home) == "gen-0000"
        count = len(spoke)
        until(lambda: len(spoke) > count + 2)
    finally:
        stop.set()
        talker.join()
    assert spoke[-1] == "gen-0000" and "gen-0001" in spoke
    assert [spoke[i] for i in range(1, len(spoke)) if spoke[i] != spoke[i - 1]] == ["gen-0001", "gen-0000"]


def test_a_chat_survives_the_death_of_its_worker(ada: Client, daemon: Running) -> None:
    ada.chat("Hello.", max_tokens=2, recall=False, remember=False)
    for pid in children(daemon.process.pid):
        os.kill(pid, signal.SIGKILL)
    reply = ada.chat("What is my dog called?", max_tokens=2, remember=False)
    assert reply["choices"][0]["finish_reason"] in ("length", "stop")


def children(pid: int) -> list[int]:
    """The daemon's workers, by name."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == pid and (b"embed_worker" in words or b"service.voice" in words):
            found.append(int(entry.name))
    return found
