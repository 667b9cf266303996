"""What the command line shows, fed with the daemon's JSON: nothing is asked, nothing runs."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console, RenderableType

from ada_memory.cli import report as morning_report
from ada_memory.cli import show
from ada_memory.cli.text import clean, count, duration, figure, moment, short, spark
from ada_memory.cli.watch import NightView

NIGHT = "p000024"


def plain(what: RenderableType, width: int = 100) -> str:
    console = Console(width=width, no_color=True, force_terminal=False, record=True, file=None)
    with console.capture() as taken:
        console.print(what)
    return taken.get()


def report(**changed: Any) -> dict[str, Any]:
    """A night that went well, as report.json has it."""
    return {
        "night": NIGHT,
        "kind": "capacity",
        "verdict": "activate",
        "active": True,
        "generation": "gen-0001",
        "parent": "gen-0000",
        "opened_at": "2026-05-02T02:00:00+00:00",
        "seconds": 192.4,
        "seconds_by_stage": {"gather": 0.2, "dream": 61.0, "train": 95.5},
        "memories": 3,
        "learned": [
            {
                "memory": "m000001-0",
                "text": "My dog is called [bold]Bruno[/bold].",
                "claims": ["The user's dog is called Bruno."],
                "samples": 16,
                "questions": ["What is the name of my dog?"],
            }
        ],
        "set_aside": [
            {"memory": "m000002-0", "text": "Blah.", "outcome": "skipped", "reason": "no true dream"}
        ],
        "superseded": [
            {
                "memory": "m000003-0",
                "by": "m000004-0",
                "reason": "newer",
                "text": "Old home.",
                "by_text": "New home.",
            }
        ],
        "rejected": {
            "by_reason": {"not in the memory": 4},
            "examples": [{"prompt": "Who is Bruno?", "reply": "A cat.", "reason": "not in the memory"}],
        },
        "dreams_made": 40,
        "dreams_accepted": 36,
        "lucidity": [0.8, 0.95],
        "samples_per_memory_min": 12,
        "core_share": 0.2,
        "exam": {
            "facts": {"before": 0.98, "after": 0.96, "n": 300},
            "refusal": {"before": 1.0, "after": 1.0, "n": 100},
        },
        "rules": [{"figure": "kl", "value": 0.02, "limit": 0.5, "ok": True, "why": ""}],
        "loss": {"first": 3.2, "last": 0.1, "steps": 120, "curve": [3.2, 1.0, 0.4, 0.1]},
        "how_to_roll_back": "`ada rollback` lets gen-0000 serve again.",
        "halted": None,
        "skipped": None,
        **changed,
    }


REJECTED = report(
    verdict="reject",
    active=False,
    generation="gen-0000",
    learned=[],
    halted={"stage": "verdict", "reason": "the exam fell by 0.41"},
    rules=[
        {"figure": "exam_drop", "value": 0.41, "limit": 0.05, "ok": False, "why": "the core was forgotten"}
    ],
)
QUIET = report(
    verdict=None,
    active=False,
    generation="gen-0000",
    learned=[],
    set_aside=[],
    superseded=[],
    rejected={"by_reason": {}, "examples": []},
    dreams_made=None,
    dreams_accepted=None,
    lucidity=[],
    samples_per_memory_min=None,
    core_share=None,
    exam={},
    rules=[],
    loss={"first": None, "last": None, "steps": 0, "curve": []},
    skipped={"stage": "gather", "reason": "nothing was said today"},
)


def test_stored_text_cannot_steer_the_terminal() -> None:
    assert clean("a\x1b[2Jb\nc\u202ed\x9b") == "a\ufffd[2Jb c\ufffdd\ufffd"
    assert clean("one\n\ttwo\x07", lines=True) == "one\n\ttwo\ufffd"
    assert clean(None) == ""


def test_short_keeps_to_its_width() -> None:
    assert short("a  long\nline of words", 10) == "a long li…"
    assert short("fits", 4) == "fits"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.24, "0.2 s"),
        (59.96, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3720, "1 h 02 min"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_durations(seconds: object, said: str) -> None:
    assert duration(seconds) == said


def test_figures_and_counts() -> None:
    assert [figure(v) for v in (True, None, 0.123456, 7, {"a": 0.5}, [1, 2.0])] == [
        "yes", "–", "0.1235", "7", "a 0.5", "1, 2",
    ]  # fmt: skip
    assert (count(1, "memory"), count(2, "memory"), count(0, "dream")) == (
        "1 memory",
        "2 memories",
        "0 dreams",
    )
    assert moment("no time") == "no time"
    assert moment(None) == "never"


def test_sparks_fall_with_the_loss() -> None:
    assert spark([3, 2, 1, 0]) == "█▆▃▁"
    assert spark([float("nan"), 1.0]) == "▁"
    assert spark([]) == ""
    assert len(spark([float(v) for v in range(500)], 40)) == 40


def test_a_good_morning_tells_everything() -> None:
    said = plain(morning_report.render(report(), "/home/nights/report"), 160)
    for words in (
        "gen-0001 serves", "learned 1 memory", "36 of 40 dreams", "My dog is called [bold]Bruno[/bold].",
        "What is the name of my dog?", "no true dream", "Old home.", "New home.", "4 dreams", "A cat.",
        "facts", "-2.0%", "3.2 █▃▂▁ 0.1 in 120 steps", "80%  95%", "at least 12", "train 1 min 36 s",
        "`ada rollback` lets gen-0000 serve again.", "/home/nights/report",
    ):  # fmt: skip
        assert words in said, words


def test_the_exam_as_a_whole_counts_items_not_categories() -> None:
    assert "stood at 98.5% before and 97.0% after" in morning_report.summary(report())


def test_a_rejected_night_says_who_keeps_serving_and_which_rule_broke() -> None:
    said = plain(morning_report.render(REJECTED), 160)
    assert "rejected: gen-0000 keeps serving" in said
    assert "the new model was rejected at verdict: the exam fell by 0.41" in said
    assert "the core was forgotten" in said
    assert "gen-0001" not in said
    assert morning_report.refused(REJECTED)


def test_a_halted_night_is_no_rejection() -> None:
    halted = report(
        verdict=None, active=False, generation="gen-0000", halted={"stage": "train", "reason": "a NaN"}
    )
    assert "the night halted at train: a NaN" in morning_report.summary(halted)


def test_a_quiet_night_says_why() -> None:
    said = plain(morning_report.render(QUIET))
    assert "a quiet night: nothing was said today" in said
    assert "Exam" not in said
    assert "loss" not in said
    assert not morning_report.refused(QUIET)


STATUS: dict[str, Any] = {
    "version": "0.1.0", "mind": "default", "generation": "gen-0002", "state": "awake", "night": None,
    "stage": None, "progress": None, "held": None, "waiting": 1, "capacity": 64, "next_sunset": None,
    "last_slept": None,
    "counts": {"interactions": 5}, "model": "seedling-2", "embedder": "abc", "socket": "/s", "pid": 1,
    "workers": {},
}  # fmt: skip


def test_status_says_who_answers_and_each_reason_on_a_line_of_its_own() -> None:
    reasons = [
        {"what": "sunset", "detail": "3 memories wait; the next night is at 02:00 (in 5 h)", "at": None},
        {"what": "refused", "detail": "no night since 02:00: \x1b[2J the disk is full", "at": None},
    ]
    rejected = {"night": NIGHT, "outcome": "rejected", "reason": "verdict: kl = 0.9", "fruitless": 1}
    said = plain(show.status({**STATUS, "waits_for": reasons, "last_night": rejected, "base": "ab" * 32}))
    assert said.startswith("Ada is awake; gen-0002 answers.\n• 3 memories wait; the next night is at 02:00")
    assert "\n! no night since 02:00: \ufffd[2J the disk is full" in said
    assert f"{NIGHT} was rejected: verdict: kl = 0.9" in said
    assert "seedling-2 (abababababab)" in said
    assert show.status_sentence({**STATUS, "state": "asleep"}) == "Ada is asleep; gen-0002 answers meanwhile."
    assert "interactions" in plain(show.status(STATUS))


def test_memories_show_similarity_only_for_a_query() -> None:
    kept: dict[str, Any] = {
        "id": "m1",
        "text": "[red]x[/red]",
        "at": "2026-05-02T02:00:00Z",
        "route": "weights",
    }
    kept |= {"route": "weights", "salience": 0.5, "state": "waiting", "similarity": None}
    said = plain(show.memories([kept]))
    assert "[red]x[/red]" in said
    assert "Similarity" not in said
    assert "0.87" in plain(show.memories([{**kept, "similarity": 0.871}]))
    assert "no such memory" in plain(show.memories([]))


def test_nights_say_open_quiet_and_rejected() -> None:
    base = {"night": "2026-05-02", "kind": "clock", "opened_at": "2026-05-02T02:00:00Z", "parent": "gen-0000"}
    rows: list[dict[str, Any]] = [
        {**base, "finished": False, "summary": None},
        {
            **base,
            "finished": True,
            "summary": {"verdict": None, "learned": 0, "seconds": 1, "generation": "gen-0000"},
        },
        {**base, "finished": True, "summary": {"verdict": "reject", "learned": 0, "seconds": 90.0}},
    ]
    said = plain(show.nights(rows))
    assert [word for word in ("open", "nothing to learn", "reject", "1 min 30 s") if word not in said] == []


def stage_row(name: str, outcome: str = "done", reason: str = "", **figures: Any) -> dict[str, Any]:
    return {
        "stage": name, "outcome": outcome, "reason": reason, "figures": figures,
        "started_at": "2026-05-02T02:00:00+00:00", "finished_at": "2026-05-02T02:00:41+00:00",
    }  # fmt: skip


def test_a_stage_is_one_line() -> None:
    assert plain(show.stage(stage_row("verify", made=40, accepted=36, rejected={"x": 4}))).split() == [
        "✓", "verify", "41.0", "s", "accepted", "36", "made", "40",
    ]  # fmt: skip
    assert "the exam fell" in plain(show.stage(stage_row("verdict", "halt", "the exam fell")))


def test_figures_of_a_stage_have_their_rules_and_exam() -> None:
    row = stage_row(
        "map", exam={"facts": {"before": 0.9, "after": 0.8}}, kl=0.01,
        rules=[{"figure": "kl", "value": 0.01, "limit": 0.5, "ok": True, "why": "near"}],
    )  # fmt: skip
    said = plain(show.figures(row))
    assert "-10.0%" in said
    assert "near" in said
    assert "0.01" in said


def dream_event(number: int = 1, **changed: Any) -> dict[str, Any]:
    dream = {"id": f"d{number}", "kind": "question", "prompt": "What is my dog called?", "reply": "Bruno.",
             "attempt": 0, "score": None, "accepted": False, "reason": "", **changed}  # fmt: skip
    return {"event": "dream", "night": NIGHT, "dream": dream, "memory_text": "My dog is called Bruno."}


def test_a_dream_is_one_line_of_the_terminal() -> None:
    accepted = plain(show.dream(dream_event(score=0.9, accepted=True)))
    assert accepted.split()[:2] == ["✓", "question"]
    assert "What is my dog called? → Bruno." in accepted
    rejected = plain(
        show.dream(dream_event(score=0.1, reason="not in the memory", reply="Rex " * 90), 60), 60
    )
    assert "✗" in rejected
    assert "(not in the memory)" in rejected
    assert len(rejected.rstrip("\n")) <= 60
    assert "·" in plain(show.dream(dream_event()))


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"event": kind, "night": NIGHT, **fields}


def test_the_view_prints_what_is_over_and_moves_what_is_not() -> None:
    now = [0.0]
    view = NightView(NIGHT, 100, clock=lambda: now[0])
    assert view.take(event("stage", stage="dream", state="started")) == []
    assert view.take(event("progress", stage="dream", done=3, total=12, note="burst 1")) == []
    assert view.take(dream_event(1)) == []
    moving = plain(view)
    assert "dream" in moving
    assert "3/12" in moving
    assert "What is my dog called?" in moving
    (line,) = view.take(dream_event(1, score=0.9, accepted=True))
    assert "✓" in line.plain
    assert view.take(dream_event(1, score=0.9, accepted=True)) == []  # an event that is told again
    now[0] = 7.5
    (line,) = view.take(
        event("stage", stage="dream", state="finished", outcome="done", reason="", figures={"made": 12})
    )
    assert line.plain.split() == ["✓", "dream", "7.5", "s", "made", "12"]
    assert plain(view).strip() == ""


def test_where_nothing_moves_a_memory_is_one_true_dream_and_one_false() -> None:
    view = NightView(NIGHT, 100, brief=True, clock=lambda: 0.0)
    view.take(event("stage", stage="verify", state="started"))
    told = [
        view.take(dream_event(number, score=score, accepted=score > 0.5))
        for number, score in enumerate((0.9, 0.8, 0.1, 0.2))
    ]
    assert list(map(len, told)) == [1, 0, 1, 0]
    other = dream_event(5, score=0.9, accepted=True) | {"memory_text": "My cat is called Lola."}
    assert len(view.take(other)) == 1


def test_the_view_tells_what_is_left_and_that_the_night_stands_still() -> None:
    now = [50.0]
    view = NightView(NIGHT, 140, clock=lambda: now[0])
    view.take(event("stage", stage="train", state="started", seconds=0.1, eta_seconds=None))
    figures = {"seconds": 20.0, "eta_seconds": 40.0, "night_eta_seconds": 90.0}
    view.take(event("progress", stage="train", done=3, total=9, note="", **figures))
    moving = plain(view, 140)
    assert "about 40.0 s left, 1 min 30 s until morning" in moving
    assert "20.0 s" in moving
    assert [line.plain for line in view.so_far()] == [
        "  train 3 of 9, 20.0 s so far, about 40.0 s left, 1 min 30 s until morning"
    ], "where nothing moves"
    now[0] += 45.0
    assert [line.plain for line in view.so_far()] == [
        "  train 3 of 9, 1 min 05 s so far, about 45.0 s until morning"
    ], "without tidings time goes on, and what should be over is not told"
    now[0] -= 45.0
    (line,) = view.take(event("pause", state="paused", why="owner"))
    assert "`ada resume`" in line.plain
    assert "`ada resume`" in plain(view, 140)
    view.still(None)
    assert "40.0 s left" in plain(view, 140)
    (line,) = view.take(event("stage", stage="train", state="finished", outcome="done", seconds=61.0))
    assert "1 min 01 s" in line.plain, "of work, not of the clock"
    assert view.so_far() == []


def test_a_stage_that_cannot_tell_how_far_it_is_tells_what_it_does() -> None:
    view = NightView(NIGHT, 100, clock=lambda: 0.0)
    view.take(event("stage", stage="map", state="started"))
    assert [line.plain for line in view.so_far()] == ["  map under way, 0.0 s so far"]
    exam = event("progress", stage="map", done=0, total=0, note="the exam, 900 questions", eta_seconds=30.0)
    view.take(exam)
    assert [line.plain for line in view.so_far()] == [
        "  map: the exam, 900 questions, 0.0 s so far, about 30.0 s left"
    ]
    assert "the exam, 900 questions" in plain(view)


def test_the_view_draws_the_loss_while_training() -> None:
    view = NightView(NIGHT, 120, clock=lambda: 0.0)
    for step, loss in enumerate((3.0, 1.0, 0.5), start=1):
        view.take(
            {"event": "step", "step": step, "steps": 9, "loss": loss, "drift": 0.01, "learning_rate": 4e-4}
        )
    moving = plain(view, 120)
    assert "3/9" in moving
    assert "loss 0.5" in moving
    assert "█▂▁" in moving


def test_the_view_ignores_other_nights_and_what_is_over() -> None:
    view = NightView(NIGHT, clock=lambda: 0.0)
    assert (
        view.take(
            {"event": "stage", "night": "p1", "stage": "gather", "state": "finished", "outcome": "done"}
        )
        == []
    )
    assert len(view.rows([stage_row("gather")])) == 1
    assert view.rows([stage_row("gather")]) == []
    assert view.take(event("stage", stage="gather", state="started")) == []
    assert view.current == ""
    assert view.take(event("interaction", id="x")) == []
