"""The served OpenAPI document against the daemon that serves it: 2,000 generated requests and more.

What is said of requests and replies is true: no server error, no status, type or body that is not described,
nothing refused that is said to be welcome, nothing welcome that is said to be refused. `ADA_CASES=200` asks
for so many fuzzed requests of each operation instead of the usual, and for other ones each time.
"""

from __future__ import annotations

import os
import socket as sockets
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from schemathesis.generation.feedback import NO_FEEDBACK
from schemathesis.pytest._test_builder import build_operation_test  # what `parametrize` calls; see pyproject
from schemathesis.specs.openapi.checks import positive_data_acceptance
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from tests.daemons import PATIENCE_SECONDS, Running, running, short_folder
from tests.models import tiny_model

LEAST = 2_000
MORE = int(os.environ.get("ADA_CASES", "0"))
URL = "http://ada"
EVENT_STREAM = "text/event-stream"


class Unix(HTTPAdapter):
    """Requests that go through a Unix socket, whatever host they name."""

    def __init__(self, path: str) -> None:
        super().__init__()

        class Connection(HTTPConnection):
            def connect(self) -> None:
                self.sock = sockets.socket(sockets.AF_UNIX)
                self.sock.connect(path)

        class Pool(HTTPConnectionPool):
            ConnectionCls = Connection

        self._pool = Pool("ada")

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> HTTPConnectionPool:
        return self._pool

    def close(self) -> None:
        self._pool.close()


INTERACTION = '{"messages": [{"role": "user", "content": "%s"}], "tags": ["no-train", "no-recall"]}'
LINE = st.one_of(
    st.sampled_from(["a", "b", "My dog is called Bruno."]).map(lambda text: INTERACTION % text),
    st.sampled_from(["", "{", "[1]", '{"messages": []}', INTERACTION % "a" + "}"]),
    st.text(max_size=30),
)
BODY = st.lists(LINE, min_size=1, max_size=6).map("\n".join).filter(str.strip).map(str.encode)
schemathesis.openapi.media_type("application/x-ndjson", BODY)

Case = schemathesis.Case[Any]
Operation = schemathesis.APIOperation[Any, Any, Any, Any]
EVENTS = "GET /v1/events"
CHAT = "POST /v1/chat/completions"
RULES = settings(
    max_examples=MORE or 170, derandomize=not MORE, deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One whose model answers at once; its nights end early, for want of a core."""
    model = tiny_model(tmp_path_factory.mktemp("model"), limit=128)
    sets = (f"model.name={model}", "model.threads=1", "model.max_tokens=4", "sunset.capacity=0")
    with short_folder() as short, running(short / "home", short / "s", *sets) as alive:
        yield alive


@pytest.fixture(scope="module")
def session(daemon: Running) -> Iterator[requests.Session]:
    with requests.Session() as opened:
        opened.trust_env = False
        opened.mount(URL, Unix(str(daemon.socket)))
        yield opened


def operations(session: requests.Session) -> dict[str, Operation]:
    """What the daemon says that it does, by method and path."""
    document = session.get(f"{URL}/v1/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    # the first answer waits for the model to be loaded, beside whatever else the machine does
    schema.config.update(base_url=URL, request_timeout=PATIENCE_SECONDS)
    found: list[Any] = list(schema.get_all_operations())
    return {result.ok().label: result.ok() for result in found}


def unexpected(daemon: Running) -> list[str]:
    words = ("Traceback", "unexpected", "Exception")
    return [line for line in daemon.said().splitlines() if any(word in line for word in words)]


@pytest.mark.slow
def test_the_api_is_what_it_says(daemon: Running, session: requests.Session) -> None:
    seen: Counter[str] = Counter()
    answered: Counter[int] = Counter()

    @RULES
    def ask(case: Case) -> None:
        seen[case.operation.label] += 1
        # a schema cannot say that somebody else must have spoken last, nor what the model has room for
        left_out: list[Any] = [positive_data_acceptance] if case.operation.label == CHAT else []
        reply = case.call_and_validate(base_url=URL, session=session, excluded_checks=left_out)
        answered[reply.status_code] += 1

    served = operations(session)
    for label, operation in served.items():
        if label == EVENTS:
            continue  # never ends: see below
        build_operation_test(
            config=operation.schema.config, operation=operation, test_func=ask, given_kwargs={},
            feedback=NO_FEEDBACK,
        )()  # fmt: skip
    print(f"{seen.total()} cases: {dict(seen)}; answers: {dict(answered)}")  # noqa: T201
    assert seen.total() >= LEAST
    assert set(seen) == set(served) - {EVENTS}
    assert max(answered) < 500 and {200, 202, 207, 400, 404, 405, 409, 415} <= set(answered)
    assert unexpected(daemon) == []


def test_what_there_is_looks_as_described(daemon: Running, session: requests.Session) -> None:
    with daemon.client() as ada:
        kept = ada.post("My dog is called Bruno.", key="named")
        answer = ada.chat("What is my dog called?", max_tokens=2)
        while ada.status()["counts"]["unencoded"]:
            time.sleep(0.05)
        memory = f"m{kept['position']:06}-0"
        if not ada.nights():
            ada.sleep()
    there = {
        "GET /v1/memories/{name}": [{"name": memory}], "GET /v1/nights/{night}": [{"night": "latest"}],
        "GET /v1/why/{name}": [{"name": name} for name in (memory, answer["id"], "gen-0000")],
    }  # fmt: skip
    served = operations(session)
    assert {label for label, operation in served.items() if operation.path_parameters} == set(there)
    for label, names in there.items():
        for name in names:
            reply = served[label].Case(path_parameters=name).call_and_validate(base_url=URL, session=session)
            assert reply.status_code == 200, (label, name)


def test_the_stream_is_what_it_says(daemon: Running, session: requests.Session) -> None:
    @settings(RULES, max_examples=30)
    @given(case=operations(session)[EVENTS].as_strategy())
    def watch(case: Case) -> None:
        asked = case.as_transport_kwargs(base_url=URL)
        with session.request(**asked, stream=True) as reply:  # as far as its first line
            assert (reply.status_code, reply.headers["content-type"].partition(";")[0]) == (200, EVENT_STREAM)
            assert next(reply.iter_lines()) == b": ada"

    watch()
    assert unexpected(daemon) == []
