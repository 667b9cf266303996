"""The first two promises: nothing acknowledged is lost, nothing half is served, kill it where you like.

`ada bench kills --kills 200` is the same with more of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ada_memory.bench import kills
from ada_memory.circadian.stages import STAGES


# httpx forgets a socket now and then when the other end dies while it connects.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
def test_kill_anything_anywhere(tmp_path: Path) -> None:
    found = kills.run(20, seed=1, home=tmp_path)
    assert found["kills"] == 20
    assert {name: found[name] for name in kills.MUST_BE_ZERO} == dict.fromkeys(kills.MUST_BE_ZERO, 0)
    assert int(str(found["acknowledged"])) > 20
    assert int(str(found["answered"])) > 0
    assert "Traceback" not in (tmp_path / "daemon.log").read_text("utf-8")


def test_every_target_dies_in_every_stage_of_its_own() -> None:
    plan = kills.Plan.of(200)
    assert plan.left.total() == 200
    assert {stage for (target, stage) in plan.left if target == "daemon"} == {"", *(s.name for s in STAGES)}
    assert {stage for (target, stage) in plan.left if target == "sleeper"} == {
        s.name for s in STAGES if s.heavy
    }
    assert all(count >= 200 // len(plan.left) for count in plan.left.values())
