"""The client's own part: errors by their type, text as one message, a daemon that is not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ada_memory.client import Client
from ada_memory.errors import AdaError, BadInput, Conflict, JournalError, NotFound, Unavailable
from tests.fake_daemon import FakeDaemon, problem


def test_nobody_there_is_unavailable_and_says_what_to_do(tmp_path: Path) -> None:
    with Client(tmp_path / "none.sock") as ada:
        with pytest.raises(Unavailable, match=r"none\.sock") as caught:
            ada.health()
        assert "ada run" in caught.value.hint
        with pytest.raises(Unavailable):
            next(ada.events())


@pytest.mark.parametrize(
    ("status", "named", "raised"),
    [
        (400, "BadInput", BadInput), (404, "NotFound", NotFound), (409, "Conflict", Conflict),
        (503, "Unavailable", Unavailable), (503, "JournalError", JournalError), (500, "AdaError", AdaError),
        (409, "SomethingNew", Conflict), (418, "sys", BadInput),
    ],
)
def test_errors_come_back_as_what_they_are(status: int, named: str, raised: type[AdaError]) -> None:
    with FakeDaemon({"GET /v1/status": problem(status, named, "that is why", "do this")}) as daemon:
        with Client(daemon.socket) as ada, pytest.raises(AdaError) as caught:
            ada.status()
    assert type(caught.value) is raised
    assert (caught.value.message, caught.value.hint) == ("that is why", "do this")


def test_an_error_in_no_known_shape_is_still_an_ada_error() -> None:
    with FakeDaemon({"GET /v1/status": (500, ["nonsense"])}) as daemon, Client(daemon.socket) as ada:
        with pytest.raises(AdaError, match="500"):
            ada.status()


def test_only_what_was_given_is_sent() -> None:
    reply = (202, {"id": "a", "position": 1, "duplicate": False})
    with FakeDaemon({"POST /v1/interactions": reply, "POST /v1/chat/completions": (200, {})}) as daemon:
        with Client(daemon.socket) as ada:
            ada.post("Hello.", app="notes", key=None)
            ada.chat([{"role": "user", "content": "Hi."}], recall=False, seed=3)
        assert daemon.bodies("POST /v1/interactions") == [
            {"messages": [{"role": "user", "content": "Hello."}], "app": "notes"}
        ]
        assert daemon.bodies("POST /v1/chat/completions") == [{
            "messages": [{"role": "user", "content": "Hi."}], "seed": 3,
            "ada": {"recall": False, "remember": True},
        }]


def test_a_name_cannot_leave_its_place_in_the_path() -> None:
    with FakeDaemon({}) as daemon, Client(daemon.socket) as ada:
        with pytest.raises(AdaError):
            ada.night("../status?x")
        assert [route for route, _, _ in daemon.asked] == ["GET /v1/nights/..%2Fstatus%3Fx"]


def test_importing_the_client_imports_no_http_library() -> None:
    code = "import sys, ada_memory.client; sys.exit('httpx' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
