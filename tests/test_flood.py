"""A flood of posts: fifty a second for a minute, and a bench that would say so if one was lost."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ada_memory.bench import flood
from ada_memory.bench.flood import Looks, Post
from ada_memory.hippocampus.journal import Journal
from ada_memory.records import Draft, Message
from ada_memory.settings import Home
from tests.models import tiny_model


@pytest.mark.slow
def test_fifty_messages_a_second_for_a_minute(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    found = flood.run(rate=50, seconds=60, settings={"model.name": model, "model.threads": 1})
    assert (found["sent"], found["acknowledged"], found["failed"]) == (3000, 3000, 0), found
    assert (found["lost"], found["duplicated"], found["unencoded"]) == (0, 0, 0), found
    assert found["looks_failed"] == 0 and int(str(found["looks"])) > 0, found
    assert int(str(found["memories"])) >= 3000


def test_what_is_lost_or_there_twice_is_counted(tmp_path: Path) -> None:
    home = Home(tmp_path)
    posts = [Post(text) for text in flood.messages(5, 1)]
    with Journal.open(home.journal) as journal:
        for post in (*posts[:3], posts[1]):
            draft = Draft(messages=(Message("user", post.text),), at=datetime.now(UTC))
            post.id = journal.append(draft).result().id
    posts[3].id = "0" * 32
    posts[4].error = "Unavailable: gone"
    assert flood.audit(home, posts) == {"lost": 1, "duplicated": 1}
    posts[0].id = posts[2].id
    assert flood.audit(home, posts)["lost"] == 2, "under the id of another"


def test_figures_of_a_flood() -> None:
    posts = [Post(str(n), id=str(n), seconds=n / 1000) for n in range(1, 101)]
    posts.append(Post("x", error="Conflict: no", seconds=9.0))
    told = flood.tell(posts, Looks(seconds=[0.25], errors=["Unavailable: gone"]))
    assert (told["sent"], told["acknowledged"], told["failed"]) == (101, 100, 1)
    assert (told["p50_ms"], told["p99_ms"], told["max_ms"]) == (51.0, 100.0, 100.0)
    assert (told["looks"], told["looks_failed"], told["looks_p99_ms"]) == (2, 1, 250.0)
    assert told["errors"] == {"Conflict: no": 1, "Unavailable: gone": 1}
    nothing = flood.tell([Post("x", error="Unavailable: gone")], Looks())
    assert (nothing["p99_ms"], nothing["looks_p99_ms"]) == (None, None)


def test_messages_are_facts_of_which_no_two_are_alike() -> None:
    said = flood.messages(500, 3)
    assert len(set(said)) == 500 and said == flood.messages(500, 3) != flood.messages(500, 4)
