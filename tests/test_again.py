"""A night of a kept life, trained once more: on the tiny model, whose dreams are written by rote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from ada_memory.bench import again, nights, tiny
from ada_memory.bench import day as days
from ada_memory.circadian.bundle import Done, NightBundle, finish, write_bundle
from ada_memory.errors import BadInput, BadSetting
from ada_memory.records import Dream, StageName
from ada_memory.settings import Home, Settings
from ada_memory.sovereign.disk import append_line, write_lines


def a_life(root: Path) -> Home:
    """A home with one night of `ada bench nights` behind it, on the tiny model, dreamt by rote."""
    home, base = Home(root / "home"), tiny.make(root / "tiny")
    [told] = days.calendar(1, 2, 7)
    memories: list[dict[str, object]] = [
        {"id": f"m{at}", "text": item.text, "salience": 0.5} for at, item in enumerate(told)
    ]
    dreams = [
        Dream(f"d{at}", "question", (f"m{at % 2}",), told[at % 2].text, f"What is said of {at}?", "That.", 0)
        for at in range(8)
    ]
    bundle = NightBundle(
        home.nights / "p2", "p2", "manual", 1, "report", "gen-0000", "gen-0001", base, base, "", None,
        base / "core.jsonl", base / "exam.jsonl", datetime.now(UTC), 2,
        Settings(model={"dtype": "float32"}, forge={"rank": 4, "epochs": 3, "steps": 0, "drift_weight": 0}),
    )  # fmt: skip
    made: Sequence[tuple[StageName, str, list[dict[str, object]]]] = (
        ("gather", "memories", memories), ("gather", "known", []), ("dream", "overrides", []),
        ("verify", "dreams", [asdict(replace(dream, accepted=True, score=1.0)) for dream in dreams]),
    )  # fmt: skip
    for stage, name, rows in made:
        bundle.work(stage).mkdir(parents=True, exist_ok=True)
        write_lines(bundle.work(stage) / f"{name}.jsonl", rows)
    for stage in again.KEPT:
        finish(bundle, stage, Done(), bundle.opened_at, bundle.opened_at)
    write_bundle(bundle)
    for line in (
        {"seed": 7, "facts_per_night": 2, "before": {"all": 0}},
        {"night": 1, "name": "p2", "recall_all": 0.5, "steps": 9},
    ):
        append_line(home.root / nights.DIARY, json.dumps(line))
    return home


def test_a_night_of_a_kept_life_is_trained_again_and_the_life_left_as_it_is(tmp_path: Path) -> None:
    home = a_life(tmp_path)
    before = {path: path.read_bytes() for path in home.root.rglob("*") if path.is_file()}
    found = again.run(home.root, 1, settings={"forge.epochs": "1"})
    assert (found["night"], found["settings"]) == (1, {"forge.epochs": "1"})
    assert found["epochs"] == 1 and int(str(found["steps"])) > 0
    assert 0 <= float(str(found["recall_all"])) <= 1 and 0 <= float(str(found["probability"])) < 0.1
    assert cast(dict[str, object], found["then"])["recall_all"] == 0.5
    assert cast(dict[str, object], found["then"])["steps"] == 9
    assert before == {path: path.read_bytes() for path in home.root.rglob("*") if path.is_file()}
    shutil.rmtree(home.nights / "p2" / "verify")
    with pytest.raises(BadInput, match="no verify any more"):
        again.run(home.root, 1)
    with pytest.raises(BadInput, match="holds 1 nights"):
        again.run(home.root, 2)
    with pytest.raises(BadSetting, match=r"forge\.nose"):
        again.run(home.root, 1, settings={"forge.nose": "0"})
