"""The command line as people meet it: words in, exit code and text out; behind the socket is a fake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ada_memory import __version__
from ada_memory.cli import main
from ada_memory.cli.common import hoist
from ada_memory.cli.watch import watch
from ada_memory.client import Client
from tests.fake_daemon import Answer, FakeDaemon, Reply, problem
from tests.test_cli_views import NIGHT, QUIET, REJECTED, STATUS, dream_event, event, report, stage_row

CHAT = {
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Bruno [/b]."}, "finish_reason": "stop"}
    ],
    "ada": {"generation": "gen-0001", "recalled": []},
}
KEPT = {"id": "0190", "position": 7, "duplicate": False}


def night(*rows: dict[str, Any], told: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "night": NIGHT, "kind": "manual", "opened_at": "2026-05-02T02:00:00Z", "parent": "gen-0000",
        "stages": list(rows), "report": told,
    }  # fmt: skip


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    replies: dict[str, Reply] = {
        "POST /v1/interactions": (202, KEPT),
        "POST /v1/chat/completions": (200, CHAT),
        "GET /v1/status": (200, STATUS),
        "POST /v1/sleep": (202, {"night": NIGHT, "state": "asleep"}),
        f"GET /v1/nights/{NIGHT}": (200, night(stage_row("gather"), told=report())),
        "GET /v1/nights/latest": (200, night(stage_row("gather"), told=report())),
        "POST /v1/rollback": (200, {"generation": "gen-0000", "previous": "gen-0001"}),
        "POST /v1/reset": (200, {"generation": "gen-0000", "previous": "gen-0001"}),
    }
    with FakeDaemon(replies) as fake:
        yield fake


def ada(daemon: FakeDaemon, *words: str) -> int:
    return main([*words, "--home", str(daemon.folder), "--set", f"socket.path={daemon.socket}"])


def asleep_until_drained(daemon: FakeDaemon, *streams: list[dict[str, Any]], end: dict[str, Any]) -> None:
    """Let the daemon sleep until its last stream of events has been read; then the night is `end`."""
    over: list[bool] = []
    daemon.streams = list(streams)
    daemon.drained = lambda: over.append(True)
    sleeping = {**STATUS, "state": "asleep", "night": NIGHT, "stage": None}

    def status(_: dict[str, Any]) -> Answer:
        return 200, STATUS if over else sleeping

    def found(_: dict[str, Any]) -> Answer:
        return 200, end if over else night(stage_row("gather", memories=3))

    daemon.replies["GET /v1/status"] = status
    daemon.replies[f"GET /v1/nights/{NIGHT}"] = found


# ---- what it costs to start


def test_help_and_version_import_nothing_heavy() -> None:
    script = (
        "import sys\nfrom ada_memory.cli import main\ncode = main(sys.argv[1:])\n"
        "print(json.dumps([code, sorted({n.split('.')[0] for n in sys.modules})]))"
    )
    for words in (["--help"], ["--version"], ["sleep", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", "import json\n" + script, *words],
            capture_output=True,
            text=True,
            check=True,
        )
        code, modules = json.loads(done.stdout.splitlines()[-1])
        assert code == 0
        heavy = {"torch", "transformers", "peft", "chromadb", "sentence_transformers", "numpy"}
        slow = {"httpx", "rich", "fastapi", "uvicorn"}
        slow |= {"pydantic"} if len(words) == 1 else set()  # typer itself reads a command's values with it
        assert not (heavy | slow) & set(modules)


def test_a_command_that_talks_imports_nothing_heavy(daemon: FakeDaemon) -> None:
    script = (
        "import sys\nfrom ada_memory.cli import main\nmain(sys.argv[1:])\n"
        "heavy = ('torch', 'transformers', 'peft', 'chromadb', 'sentence_transformers')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    words = ["status", "--home", str(daemon.folder), "--set", f"socket.path={daemon.socket}"]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
    assert "Ada is awake" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
    assert "\x1b" not in done.stdout  # plain when nobody looks


COMMANDS = [
    *("pause", "resume", "wake"),
    *("run", "post", "ask", "sleep", "status", "morning", "nights", "memories", "dream", "map", "rollback"),
    *("doctor", "reset", "demo", "forge train", "bench night", "bench forge", "bench dream"),
    *("bench nights", "bench again", "bench seal", "bench cycles", "bench recipes", "bench kills"),
    "bench flood",
    *("config show", "config template", "config path"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    said = capsys.readouterr().out
    assert "Example" in said
    assert f"ada {command}" in said


def test_version_and_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ada {__version__}\n"
    for words in (
        ["nonsense"],
        ["status", "--set", "sunset"],
        ["forge", "train"],
        ["reset"],
        ["sleep", "--until", "x"],
    ):
        assert main(words) == 2, words
        assert capsys.readouterr().out == ""


def test_global_options_may_stand_anywhere() -> None:
    assert hoist(["post", "x", "--home", "/h", "--set=a.b=1"]) == ["--home", "/h", "--set=a.b=1", "post", "x"]
    assert hoist(["ask", "--", "--home", "x"]) == ["ask", "--", "--home", "x"]
    assert hoist(["ask", "--home"]) == ["--home", "ask"]


# ---- the daemon is not there, or says no


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket")  # httpcore closes no socket that fails
def test_an_unreachable_daemon_is_code_3_and_says_the_mend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--home", str(tmp_path), "--set", f"socket.path={tmp_path / 'no.sock'}"]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert "ada run" in said.err


def test_an_error_says_what_and_what_to_do(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.replies["POST /v1/rollback"] = problem(
        404, "NotFound", "there is no gen-0009", "`ada nights` lists them"
    )
    assert ada(daemon, "rollback", "gen-0009") == 1
    said = capsys.readouterr().err
    assert "error: there is no gen-0009" in said
    assert "`ada nights` lists them" in said


def test_an_unknown_setting_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--home", str(tmp_path), "--set", "sunset.att=03:00"]) == 1
    assert "sunset.att" in capsys.readouterr().err


# ---- the day


def test_post_sends_what_was_said(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "--role",
        "tool",
        "--session",
        "s",
        "--app",
        "a",
        "--kind",
        "rag",
        "--tag",
        "later",
        "--tag",
        "no-recall",
    )
    assert ada(daemon, "post", "My dog is called Bruno.", *words, "--key", "k1") == 0
    assert daemon.bodies("POST /v1/interactions") == [
        {
            "messages": [{"role": "tool", "content": "My dog is called Bruno."}], "session": "s", "app": "a",
            "kind": "rag", "tags": ["later", "no-recall"], "key": "k1",
        }
    ]  # fmt: skip
    assert "position 7" in capsys.readouterr().out
    assert ada(daemon, "post", "x", "--json") == 0
    assert json.loads(capsys.readouterr().out) == KEPT


def test_post_reads_standard_input(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO("two\nlines\n"))
    assert ada(daemon, "post", "-") == 0
    assert daemon.bodies("POST /v1/interactions")[0]["messages"][0]["content"] == "two\nlines"
    monkeypatch.setattr(sys, "stdin", StringIO(" \n"))
    assert ada(daemon, "post", "-") == 2


def test_post_file_needs_a_file_and_nothing_beside_it(daemon: FakeDaemon, tmp_path: Path) -> None:
    assert ada(daemon, "post", "--file", str(tmp_path / "none")) == 1
    assert ada(daemon, "post", "text", "--file", str(tmp_path / "none")) == 2
    assert daemon.asked == []


def test_ask_prints_the_reply_as_it_is(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--no-recall", "--no-remember", "--max-tokens", "9", "--temperature", "0.5")
    assert ada(daemon, "ask", "What is my dog called?", *words) == 0
    assert capsys.readouterr().out == "Bruno [/b].\n"
    (body,) = daemon.bodies("POST /v1/chat/completions")
    assert body["messages"] == [{"role": "user", "content": "What is my dog called?"}]
    assert (body["max_tokens"], body["temperature"]) == (9, 0.5)
    assert (body["ada"]["recall"], body["ada"]["remember"]) == (False, False)
    assert ada(daemon, "ask", "Who?", "--json") == 0
    assert json.loads(capsys.readouterr().out) == CHAT


def test_ask_shows_what_is_kept_word_for_word(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    link = "The form is at https://city.example/[b]?id=77"
    near = {"id": "m000006-0", "similarity": 0.8, "text": link, "route": "verbatim", "read": "whole"}
    daemon.replies["POST /v1/chat/completions"] = (200, CHAT | {"ada": {"recalled": [near]}})
    assert ada(daemon, "ask", "Where is the form?") == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("Bruno [/b].\n", f"kept word for word, m000006-0:\n{link}\n")
    learned = {**near, "route": "weights"}
    daemon.replies["POST /v1/chat/completions"] = (200, CHAT | {"ada": {"recalled": [learned, near]}})
    assert ada(daemon, "ask", "Where is the form?") == 0
    assert capsys.readouterr().err == ""


def test_ask_without_a_question_on_a_terminal_is_a_chat(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = StringIO("Hello.\nAnd now?\n\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    assert ada(daemon, "ask") == 0
    first, second = daemon.bodies("POST /v1/chat/completions")
    assert [m["content"] for m in first["messages"]] == ["Hello."]
    assert [m["content"] for m in second["messages"]] == ["Hello.", "Bruno [/b].", "And now?"]
    assert capsys.readouterr().out.count("Bruno [/b].") == 2


def test_status_memories_and_nights(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    memory = {"id": "m1", "text": "Bruno", "at": "2026-05-02T02:00:00Z", "role": "user", "route": "weights",
              "salience": 0.6, "reasons": {}, "tags": [], "state": "waiting", "similarity": 0.9}  # fmt: skip
    daemon.replies["GET /v1/memories"] = 200, {"memories": [memory]}
    row = {"kind": "clock", "opened_at": "", "parent": "gen-0000", "finished": False, "summary": None}
    rows = [{**row, "night": str(number)} for number in range(3)]
    daemon.replies["GET /v1/nights"] = 200, {"nights": rows}
    assert ada(daemon, "status", "--json") == 0
    assert json.loads(capsys.readouterr().out) == STATUS
    assert ada(daemon, "memories", "a dog & more", "--limit", "5") == 0
    assert "Bruno" in capsys.readouterr().out
    assert daemon.asked[-1][2] == {"q": ["a dog & more"], "limit": ["5"]}
    assert ada(daemon, "nights", "--limit", "2", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"nights": rows}
    assert daemon.asked[-1][2] == {"limit": ["2"]}


# ---- the night


def test_watch_shows_the_night_even_if_the_stream_breaks(daemon: FakeDaemon) -> None:
    asleep_until_drained(
        daemon,
        [
            event("stage", stage="verify", state="started"),
            dream_event(1, score=0.9, accepted=True),
            dream_event(2, score=0.1, reason="not in the memory"),
        ],
        [
            dream_event(1, score=0.9, accepted=True),
            event(
                "stage", stage="verify", state="finished", outcome="done", reason="", figures={"accepted": 1}
            ),
            event("stage", stage="gather", state="finished", outcome="done", reason="", figures={}),
        ],
        end=night(
            stage_row("gather"), stage_row("verify"), stage_row("verdict", verdict="activate"), told=report()
        ),
    )
    out = Console(file=StringIO(), width=100, force_terminal=False)
    with Client(daemon.socket) as client:
        found = watch(client, NIGHT, out)
    assert found["generation"] == "gen-0001"
    assert isinstance(out.file, StringIO)
    marks = [line.split()[:2] for line in out.file.getvalue().splitlines()]
    assert marks == [
        ["✓", "gather"], ["✓", "question"], ["✗", "question"], ["✓", "verify"], ["✓", "verdict"],
    ]  # fmt: skip


def test_sleep_watches_and_ends_with_the_summary(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ada(daemon, "sleep") == 0
    said = capsys.readouterr().out
    assert "✓ gather" in said
    assert "learned 1 memory" in said
    assert daemon.bodies("POST /v1/sleep") == [{}]


@pytest.mark.parametrize(("told", "code"), [(REJECTED, 4), (QUIET, 0)])
def test_the_exit_code_of_sleep_tells_a_rejected_night(
    daemon: FakeDaemon, told: dict[str, Any], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.replies[f"GET /v1/nights/{NIGHT}"] = 200, night(told=told)
    assert ada(daemon, "sleep", "--json") == code
    assert json.loads(capsys.readouterr().out)["report"] == told


def test_sleep_until_holds_the_night(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.replies["GET /v1/status"] = 200, {**STATUS, "night": NIGHT, "held": "gather"}
    daemon.replies[f"GET /v1/nights/{NIGHT}"] = 200, night(stage_row("gather"))
    assert ada(daemon, "sleep", "--until", "gather") == 0
    assert "held after gather" in capsys.readouterr().out
    assert daemon.bodies("POST /v1/sleep") == [{"until": "gather"}]


def test_ctrl_c_stops_the_watching_and_not_the_night(daemon: FakeDaemon) -> None:
    asleep_until_drained(daemon, [], [], end=night())
    daemon.drained = lambda: None  # it sleeps on
    words = ["sleep", "--home", str(daemon.folder), "--set", f"socket.path={daemon.socket}"]
    watching = subprocess.Popen(
        [sys.executable, "-m", "ada_memory.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  shells may ignore it
    )
    assert watching.stdout is not None
    assert "gather" in watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=20)
    assert watching.returncode == 130
    assert f"night {NIGHT} goes on" in said
    assert "Traceback" not in said


def test_sleep_joins_a_night_that_is_under_way(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.replies["POST /v1/sleep"] = problem(409, "Conflict", "Ada is asleep already")
    daemon.replies["GET /v1/status"] = 200, {**STATUS, "state": "asleep", "night": NIGHT}
    assert ada(daemon, "sleep") == 0
    assert "under way already" in capsys.readouterr().err
    assert ada(daemon, "sleep", "--no-watch") == 1
    assert "asleep already" in capsys.readouterr().err


def test_a_night_is_paused_resumed_and_ended(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    told = {"night": NIGHT, "state": "asleep", "paused": None}
    daemon.replies |= {
        "POST /v1/nights/current/pause": (200, {**told, "paused": "owner"}),
        "POST /v1/nights/current/resume": (200, told),
        "POST /v1/wake": (202, told),
    }
    for command, said in (("pause", "ada resume"), ("resume", "goes on"), ("wake", "waits for the next")):
        assert ada(daemon, command) == 0
        assert said in capsys.readouterr().out
    assert ada(daemon, "sleep", "--light", "--no-watch") == 0
    assert daemon.bodies("POST /v1/sleep") == [{"depth": "light"}]


def test_sleep_without_watching(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert ada(daemon, "sleep", "--no-watch", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"night": NIGHT, "state": "asleep"}


@pytest.mark.parametrize(
    ("command", "until", "shown"),
    [
        ("dream", "verify", ["dream", "verify"]),
        ("forge train --circadian", "merge", ["dataset", "train", "merge"]),
        ("map", "verdict", ["map", "verdict"]),
    ],
)
def test_stages_by_hand(
    daemon: FakeDaemon, command: str, until: str, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("gather", "dream", "verify", "dataset", "train", "merge", "map", "verdict")
    daemon.replies["GET /v1/status"] = 200, {**STATUS, "night": NIGHT, "held": until}
    daemon.replies[f"GET /v1/nights/{NIGHT}"] = 200, night(*(stage_row(name, count=3) for name in names))
    assert ada(daemon, *command.split(), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert [row["stage"] for row in said["stages"]] == shown
    assert daemon.bodies("POST /v1/sleep") == [{"until": until}]
    assert ada(daemon, *command.split()) == 0
    assert f"✓ {shown[-1]}" in capsys.readouterr().out


def test_a_map_that_rejects_is_code_4(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    rules = [{"figure": "kl", "value": 9.0, "limit": 0.5, "ok": False, "why": "far from the parent"}]
    halted = stage_row("verdict", "halt", "kl", rules=rules)
    daemon.replies[f"GET /v1/nights/{NIGHT}"] = 200, night(stage_row("map"), halted)
    assert ada(daemon, "map") == 4
    assert "far from the parent" in capsys.readouterr().out


def test_morning(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    folder = daemon.folder / "var" / "minds" / "default" / "nights" / NIGHT / "report"
    folder.mkdir(parents=True)
    assert ada(daemon, "morning") == 0
    said = capsys.readouterr().out
    assert "gen-0001 serves" in said
    assert NIGHT in said
    assert "/report" in said
    assert ada(daemon, "morning", NIGHT, "--json") == 0
    assert json.loads(capsys.readouterr().out) == report()
    daemon.replies["GET /v1/nights/latest"] = 200, night(stage_row("gather"))
    assert ada(daemon, "morning") == 1
    assert "has no report yet" in capsys.readouterr().err


def test_rollback_and_reset(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert ada(daemon, "rollback") == 0
    assert "gen-0000 serves now (before: gen-0001)" in capsys.readouterr().out
    assert ada(daemon, "rollback", "gen-0002", "--json") == 0
    assert daemon.bodies("POST /v1/rollback") == [{}, {"to": "gen-0002"}]
    assert ada(daemon, "reset") == 2
    assert daemon.bodies("POST /v1/reset") == []
    assert ada(daemon, "reset", "--yes") == 0
    assert daemon.bodies("POST /v1/reset") == [{}]


# ---- the workshop


def test_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "ada.toml").write_text('[sunset]\nat = "04:30"\n', "utf-8")
    assert main(["config", "show", "--json", "--home", str(tmp_path), "--set", "sunset.capacity=3"]) == 0
    sunset = json.loads(capsys.readouterr().out)["sunset"]
    assert (sunset["at"], sunset["capacity"]) == ("04:30", 3)
    assert main(["config", "show", "--home", str(tmp_path)]) == 0
    assert 'at = "04:30"' in capsys.readouterr().out
    assert main(["config", "path", "--home", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "etc" / "ada.toml")
    assert main(["config", "show", "--origin", "--home", str(tmp_path), "--set", "mind.id=x"]) == 0
    said = capsys.readouterr().out
    assert {table["at"] for name, table in tomllib.loads(said).items() if name == "sunset"} == {"04:30"}
    lines = dict(line.split("  # ") for line in said.splitlines() if "  # " in line)
    origins = {setting.strip(): origin for setting, origin in lines.items()}
    assert origins['at = "04:30"'] == "etc/ada.toml, line 2"
    assert (origins['id = "x"'], origins["top_k = 4"]) == ("flag --set mind.id", "default")
    assert main(["config", "show", "--origin", "--json", "--home", str(tmp_path)]) == 0
    file = str(tmp_path / "etc" / "ada.toml")
    told = json.loads(capsys.readouterr().out)["sunset"]["at"]
    assert told == {"value": "04:30", "origin": "file", "name": file, "line": 2}
    assert main(["config", "template"]) == 0
    assert "[sunset]" in capsys.readouterr().out


def test_run_becomes_the_daemon_with_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execv", lambda *call: became.append(call))
    assert main(["run", "--home", str(tmp_path), "--set", "sunset.min_gap_minutes=5"]) == 0
    ((program, words),) = became
    assert program == words[0] == sys.executable
    assert any(word.removesuffix(".py").endswith("circadian_daemon") for word in words[1:3])
    assert words[-4:] == ["--home", str(tmp_path), "--set", "sunset.min_gap_minutes=5"]
    assert main(["run", "--home", str(tmp_path), "--set", "sunset.at=soon"]) == 1
    assert len(became) == 1
