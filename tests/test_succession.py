"""Who serves, after everything that can go wrong between one voice and the next."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path

import pytest
from filelock import FileLock

from ada_memory.errors import BadModel, Conflict, JournalError, NotFound
from ada_memory.hippocampus.journal import Journal
from ada_memory.sovereign import generations, succession
from ada_memory.sovereign.generations import Serving
from tests.nights import Mind, make_package
from tests.test_generations import grow


class Unlucky(Journal):
    """A journal on a full disk, as far as activations go."""

    def record_activation(self, generation: str, at: datetime, reason: str) -> Future[None]:
        failed: Future[None] = Future()
        failed.set_exception(JournalError("the disk is full"))
        return failed


@pytest.fixture
def mind(tmp_path: Path) -> Iterator[Mind]:
    made = Mind(tmp_path)
    grow(made.home, made.base)
    grow(made.home, made.base)
    yield made
    made.journal.close()


def activate(mind: Mind, generation: str) -> None:
    asyncio.run(
        succession.activate(
            mind.home, mind.journal, mind.base, generation, mind.voice.swap, "test", lambda: mind.now
        )
    )


def rollback(mind: Mind, to: str | None = None) -> tuple[str, str]:
    return asyncio.run(
        succession.rollback(mind.home, mind.journal, mind.base, mind.voice.swap, lambda: mind.now, to)
    )


def reset(mind: Mind) -> tuple[str, str]:
    return asyncio.run(
        succession.reset(mind.home, mind.journal, mind.base, mind.voice.swap, lambda: mind.now)
    )


def spoken(mind: Mind) -> list[str]:
    return [serving.generation for serving in mind.voice.spoke]


def test_activation_swaps_points_and_records(mind: Mind, tmp_path: Path) -> None:
    for name in ("gen-0001", "gen-0002"):
        generations.cache_merged(mind.home, name, make_package(tmp_path / "m") / "model")
    activate(mind, "gen-0001")
    assert (generations.active(mind.home), spoken(mind)) == ("gen-0001", ["gen-0001"])
    assert mind.journal.activations(1)[0] == ("gen-0001", mind.now, "test")
    assert [folder.name for folder in mind.home.merged.iterdir()] == ["gen-0001"]


def test_the_pointer_moves_only_after_the_voice_has_spoken(mind: Mind) -> None:
    seen: list[str] = []

    async def swap(serving: Serving) -> None:
        seen.append(generations.active(mind.home))

    asyncio.run(
        succession.activate(mind.home, mind.journal, mind.base, "gen-0001", swap, "test", lambda: mind.now)
    )
    assert seen == ["gen-0000"]


def test_a_failed_probe_changes_nothing(mind: Mind) -> None:
    activate(mind, "gen-0001")
    pointer = (mind.home.mind / "active").read_bytes()
    mind.voice.refuses = {"gen-0002"}
    with pytest.raises(BadModel, match="says nothing"):
        activate(mind, "gen-0002")
    assert (mind.home.mind / "active").read_bytes() == pointer
    assert len(mind.journal.activations()) == 1


def test_a_journal_that_fails_brings_the_old_voice_back(mind: Mind) -> None:
    activate(mind, "gen-0001")
    mind.journal.close()
    with Unlucky.open(mind.home.journal) as unlucky:
        mind.journal = unlucky
        with pytest.raises(JournalError):
            activate(mind, "gen-0002")
        assert generations.active(mind.home) == "gen-0001"
        assert spoken(mind) == ["gen-0001", "gen-0002", "gen-0001"]


def test_a_damaged_generation_is_never_swapped_in(mind: Mind) -> None:
    (mind.home.generations / "gen-0001" / "adapter" / "adapter_model.safetensors").write_bytes(b"bad")
    with pytest.raises(BadModel, match="damaged"):
        activate(mind, "gen-0001")
    assert (generations.active(mind.home), spoken(mind)) == ("gen-0000", [])


def test_activating_what_is_active_adds_the_missing_row_alone(mind: Mind) -> None:
    generations.activate_pointer(mind.home, "gen-0001")  # as after a crash between pointer and row
    activate(mind, "gen-0001")
    activate(mind, "gen-0001")
    assert spoken(mind) == []
    assert [row.generation for row in mind.journal.activations()] == ["gen-0001"]


def test_rollback_goes_to_the_parent_or_where_it_is_told(mind: Mind) -> None:
    activate(mind, "gen-0002")
    assert rollback(mind) == ("gen-0001", "gen-0002")
    assert rollback(mind, "gen-0002") == ("gen-0002", "gen-0001")
    assert rollback(mind, "gen-0000") == ("gen-0000", "gen-0002")
    assert spoken(mind) == ["gen-0002", "gen-0001", "gen-0002", "gen-0000"]
    with pytest.raises(Conflict, match="no parent"):
        rollback(mind)
    with pytest.raises(Conflict, match="serves already"):
        rollback(mind, "gen-0000")
    with pytest.raises(NotFound):
        rollback(mind, "gen-0009")


def test_rollback_leaves_a_damaged_generation_behind(mind: Mind) -> None:
    activate(mind, "gen-0002")
    (mind.home.generations / "gen-0002" / "adapter" / "adapter_model.safetensors").write_bytes(b"bad")
    assert rollback(mind) == ("gen-0001", "gen-0002")


@pytest.mark.parametrize("pointer", ["gen-0002\n", "rubbish"])
def test_reset_returns_to_the_base_from_anywhere(mind: Mind, pointer: str) -> None:
    (mind.home.mind / "active").write_text(pointer, "utf-8")
    assert reset(mind)[0] == "gen-0000"
    assert (generations.active(mind.home), spoken(mind)) == ("gen-0000", ["gen-0000"])
    assert reset(mind) == ("gen-0000", "gen-0000")
    assert (mind.home.generations / "gen-0002").is_dir()


def test_a_rollback_that_came_first_is_not_undone(mind: Mind) -> None:
    activate(mind, "gen-0001")
    night = succession.activate(
        mind.home, mind.journal, mind.base, "gen-0002", mind.voice.swap, "night", lambda: mind.now,
        after="gen-0000",
    )
    with pytest.raises(Conflict, match="gen-0001 was put in place"):
        asyncio.run(night)
    assert generations.active(mind.home) == "gen-0001"


def test_one_change_at_a_time(mind: Mind) -> None:
    inside: list[str] = []

    async def slow(serving: Serving) -> None:
        inside.append(serving.generation)
        await asyncio.sleep(0)
        assert generations.active(mind.home) == "gen-0000" or inside == ["gen-0001", "gen-0002"]

    async def both() -> None:
        args = (mind.home, mind.journal, mind.base)
        await asyncio.gather(
            *(succession.activate(*args, g, slow, "test", lambda: mind.now) for g in ("gen-0001", "gen-0002"))
        )

    with FileLock(mind.home.mind / "active.lock"):
        async def held() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await both()

        asyncio.run(held())
        assert inside == []
    asyncio.run(both())
    assert generations.active(mind.home) == "gen-0002"
