"""The doctor: each thing that can be wrong is made wrong for real, and must be found with its mend."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from ada_memory.cli import main
from ada_memory.errors import BadSetting, JournalError
from ada_memory.hippocampus.journal import Journal
from ada_memory.records import Draft, Generation, Message, NightRecord, StageRecord
from ada_memory.service.checkup import CHECKS, OF_MIND, Case, Finding, examine, wake
from ada_memory.service.checkup.finding import fail, guarded, many, ok, size, span, warn, worst
from ada_memory.service.checkup.house import mounted
from ada_memory.service.checkup.reading import index_rows, read_only
from ada_memory.service.checkup.wake import is_held
from ada_memory.settings import CHECKOUT, Home, ModelSettings, Settings, load
from ada_memory.sovereign import generations
from ada_memory.sovereign.bases import prepare_base
from tests.daemons import running, short_folder
from tests.fake_daemon import FakeDaemon
from tests.models import tiny_model

NOW = datetime.now(UTC)
OPERATIONS = CHECKOUT / "docs" / "operations.md"


@pytest.fixture
def root() -> Iterator[Path]:
    with short_folder() as folder:
        yield folder


@pytest.fixture
def home(root: Path) -> Home:
    """A home that has lived: a base, an interaction, a generation that serves."""
    before = os.umask(0o077)
    try:
        home = Home(root / "home")
        base = prepare_base(home, Settings().model)
        with Journal.open(home.journal) as journal:
            journal.append(Draft((Message("user", "My dog is called Bruno."),), NOW)).result()
            journal.encode(1, [], "none").result()
            adapter = root / "adapter"
            adapter.mkdir()
            (adapter / "adapter_model.safetensors").write_bytes(b"weights")
            for number in (1, 2):
                name, parent = generations.generation_name(number), generations.generation_name(number - 1)
                night = NightRecord(f"p{number}", "manual", NOW, 1, parent, 7)
                journal.open_night(night).result()
                journal.record_stage(StageRecord(night.id, "report", "done", "", NOW, NOW)).result()
                made = generations.write(
                    home, Generation(name, parent, night.id, None, NOW, "activate"), adapter, base
                )
                journal.record_generation(made, []).result()
        generations.activate_pointer(home, "gen-0002")
        home.run.mkdir()
        return home
    finally:
        os.umask(before)


def look(home: Home, settings: Settings | None = None, **changed: Any) -> dict[str, Finding]:
    """Every finding of a home whose daemon is not asked."""
    case = Case(home, settings or Settings(), datetime.now(UTC), {})
    return dict(examine(replace(case, **changed)))


def tree(root: Path) -> dict[str, tuple[int, str]]:
    """Every path under a folder, with its mode and what is in it."""
    return {
        str(path): (
            path.lstat().st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(root.rglob("*"))
    }


def test_a_healthy_home_has_nothing_wrong_but_that_nobody_is_awake(home: Home) -> None:
    found = look(home, deep=True)
    assert found.keys() == CHECKS.keys() | OF_MIND.keys()
    assert {name: one for name, one in found.items() if one.state in ("warn", "fail")} == {
        "daemon": Finding("warn", "not running: nothing is kept, answered or learned", "$ ada run")
    }
    assert (found["integrity"].state, found["generations"].found) == ("ok", "2 whole, with unbroken lines")
    assert found["base"].found.endswith("every byte")


def test_it_changes_no_byte(home: Home) -> None:
    before = tree(home.root)
    look(home)
    look(home, deep=True)
    assert tree(home.root) == before


def test_a_home_that_is_new_has_nothing_wrong_either(root: Path) -> None:
    found = look(Home(root))
    assert [name for name, one in found.items() if one.state == "fail"] == []
    assert found["journal"].state == "skipped"
    assert list(root.iterdir()) == []
    assert look(Home(root / "none"))["home"].state == "warn"


def break_mode(home: Home) -> None:
    for folder in (home.var, home.mind.parent, home.mind):
        folder.chmod(0o755)


def break_adapter(home: Home) -> None:
    (home.generations / "gen-0002" / "adapter" / "adapter_model.safetensors").write_bytes(b"other")


def break_old_adapter(home: Home) -> None:
    (home.generations / "gen-0001" / "adapter" / "adapter_model.safetensors").write_bytes(b"other")


def break_manifest(home: Home) -> None:
    path = home.generations / "gen-0002" / "manifest.json"
    path.write_text(path.read_text("utf-8").replace("p2", "p3"), "utf-8")


def break_chain(home: Home) -> None:
    """A parent that is sound in itself, but not the one that its child was grown on."""
    from ada_memory.sovereign.disk import to_json
    from ada_memory.sovereign.manifests import sealed

    path = home.generations / "gen-0001" / "manifest.json"
    body = json.loads(path.read_text("utf-8"))
    body.pop("commitment")
    body["night"] = "another"
    path.write_text(to_json({**body, "commitment": sealed(body)}), "utf-8")


def break_pointer(home: Home) -> None:
    (home.mind / "active").write_text("gen-0007\n", "utf-8")


def tear_pointer(home: Home) -> None:
    (home.mind / "active").write_bytes(b"\xff\xfe")


def break_key(home: Home) -> None:
    (home.generations / "gen-0001" / "key").chmod(0o644)


def break_merged(home: Home) -> None:
    (home.merged / "gen-0002").mkdir(parents=True)


def keep_merged(home: Home) -> None:
    (home.merged / "gen-0001").mkdir(parents=True)


def break_base(home: Home) -> None:
    model = next(path for path in home.bases.iterdir() if path.is_dir()) / "model.safetensors"
    model.write_bytes(b"0" * model.stat().st_size)


def lose_base(home: Home) -> None:
    shutil.rmtree(home.bases)


def grow_base(home: Home) -> None:
    """A model of a petabyte, as far as anybody can tell without reading it."""
    model = next(path for path in home.bases.iterdir() if path.is_dir()) / "model.safetensors"
    os.truncate(model, 1 << 43)


def leave_half(home: Home) -> None:
    left = home.mind / "generations" / ".tmp-gen 3"
    left.mkdir()
    os.utime(left, (1, 1))


def fill_log(home: Home) -> None:
    (home.var / "log").mkdir()
    (home.var / "log" / "voice.log").touch()
    os.truncate(home.var / "log" / "voice.log", 1 << 30)


def truncate_journal(home: Home) -> None:
    os.truncate(home.journal, home.journal.stat().st_size // 2)


def empty_journal(home: Home) -> None:
    home.journal.write_bytes(b"not SQLite at all, but long enough to be read as if it were" * 100)


def write(home: Home, *statements: str) -> None:
    db = sqlite3.connect(home.journal, isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()


def come_from_the_future(home: Home) -> None:
    write(home, "INSERT INTO migrations VALUES ('m999_more')")


def orphan(home: Home) -> None:
    write(home, "INSERT INTO memory_interactions VALUES ('m1', 99)")


def stamp_ahead(home: Home) -> None:
    ahead = int((NOW + timedelta(days=2)).timestamp() * 1000)
    insert = f"INSERT INTO interactions (id, app, session, kind, at, tags) VALUES ('{ahead:012x}{0:020x}'"
    write(home, f"{insert}, 'a', 's', 'chat', '{NOW.isoformat()}', '[]')")


def leave_unencoded(home: Home) -> None:
    write(home, "INSERT INTO unencoded VALUES (1)")


def lose_vectors(home: Home) -> None:
    memory = "('m1', 'Bruno', 'user', '2026-01-01', 'weights', 0.5, '{}', '[]')"
    write(
        home,
        f"INSERT INTO memories (id, text, role, at, route, salience, reasons, tags) VALUES {memory}",
        "INSERT INTO vectors (memory, embedder, vector) VALUES ('m1', 'feedfeedfeedfeed', x'00000000')",
    )


def open_night(home: Home) -> None:
    write(home, "DELETE FROM stages WHERE night = 'p2'")


def halt_nights(home: Home) -> None:
    stage = f"'verdict', 'halt', 'rejected: kl = 0.9', '{NOW.isoformat()}', '{NOW.isoformat()}', '{{}}'"
    columns = "night, name, outcome, reason, started_at, finished_at, figures"
    for night in ("p1", "p2"):
        write(home, f"INSERT INTO stages ({columns}) VALUES ('{night}', {stage})")


def never_sleep(home: Home) -> None:
    lose_vectors(home)
    write(home, f"UPDATE nights SET opened_at = '{(NOW - timedelta(days=9)).isoformat()}'")


def lose_generation(home: Home) -> None:
    shutil.rmtree(home.generations / "gen-0001")


def kill_daemon(home: Home) -> None:
    """What a daemon that was killed leaves: a socket where nobody answers, a lock that nobody holds."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(home.socket(Settings().socket)))
    home.socket(Settings().socket).chmod(0o600)
    (home.run / "ada.sock.lock").touch()


def open_socket(home: Home) -> None:
    kill_daemon(home)
    home.socket(Settings().socket).chmod(0o666)


def put_file(home: Home) -> None:
    home.socket(Settings().socket).write_text("mine", "utf-8")


def open_run(home: Home) -> None:
    home.run.chmod(0o777)


WRONG: Mapping[str, tuple[Any, str, str, str, str]] = {
    # what is done: (how, the check, its state, what it says, what to do)
    "others can read": (break_mode, "home", "fail", "can read", "$ chmod -R go-rwx {var}"),
    "adapter": (break_adapter, "generations", "fail", "damaged", "`ada rollback gen-0001`"),
    "adapter served": (break_adapter, "pointer", "fail", "damaged", "`ada rollback`"),
    "adapter of old": (break_old_adapter, "generations", "warn", "damaged", "restore {mind}"),
    "manifest": (break_manifest, "generations", "fail", "changed after", "`ada rollback gen-0001`"),
    "chain": (break_chain, "generations", "fail", "breaks at gen-0001", "rollback"),
    "pointer": (break_pointer, "pointer", "fail", "names gen-0007", "$ ada rollback gen-0002"),
    "torn pointer": (tear_pointer, "pointer", "fail", "damaged", "`ada reset`"),
    "key": (break_key, "keys", "warn", "1 key of", "$ chmod 600 {mind}/generations/gen-0001/key"),
    "half a merge": (break_merged, "merged", "warn", "not whole", "$ rm -r {mind}/merged/gen-0002"),
    "old merge": (keep_merged, "merged", "warn", "nobody needs", "$ rm -r {mind}/merged/gen-0001"),
    "base": (break_base, "base", "warn", "does not look", "ada doctor --deep"),
    "base gone": (lose_base, "base", "fail", "is gone", "restore that folder"),
    "no room": (grow_base, "disk", "fail", "free", "make room where {var} lies"),
    "no memory": (grow_base, "memory", "warn", "a night of this model", "smaller model"),
    "leftovers": (leave_half, "leftovers", "warn", "1 half-written file", "$ rm -r '{mind}"),
    "log": (fill_log, "logs", "warn", "1.1 GB", "$ : > {var}/log/voice.log"),
    "half a journal": (truncate_journal, "journal", "fail", "cannot be read", "restore a backup"),
    "no journal": (empty_journal, "journal", "fail", "cannot be read", "restore a backup"),
    "newer journal": (come_from_the_future, "journal", "fail", "m999_more", "update Ada"),
    "orphans": (orphan, "integrity", "fail", "refers to", "restore a backup"),
    "clock": (stamp_ahead, "last stamp", "warn", "ahead of the clock", "set the clock"),
    "unencoded": (leave_unencoded, "encoding", "warn", "1 interaction yet", "$ ada run"),
    "vectors": (lose_vectors, "vectors", "warn", "feedfeedfeedfeed", "set embedder.name back"),
    "open night": (open_night, "nights", "warn", "p2 is not over", "$ ada run"),
    "halted nights": (halt_nights, "nights", "warn", "last 2 nights came to nothing", "`ada morning`"),
    "no nights": (never_sleep, "sleep", "warn", "sunsets have passed", "$ ada run"),
    "generation gone": (lose_generation, "ledger", "warn", "gen-0001 in the journal", "restore"),
    "killed daemon": (kill_daemon, "daemon", "warn", "was killed", "$ ada run"),
    "open socket": (open_socket, "socket", "fail", "0666", "$ chmod 600 {run}/ada.sock"),
    "no socket": (put_file, "socket", "fail", "not a socket", "mv {run}/ada.sock"),
    "open folder": (open_run, "socket", "fail", "0777", "$ chmod go-w {run}"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_found_with_its_mend(home: Home, what: str) -> None:
    wreck, check, state, says, mend = WRONG[what]
    wreck(home)
    before = tree(home.root) if what not in ("no room", "no memory", "log") else {}
    found = look(home, deep=what in ("orphans", "adapter of old"))[check]
    assert found.state == state, found
    assert says in found.found
    assert mend.format(var=home.var, mind=home.mind, run=home.run) in found.mend
    if before:
        assert tree(home.root) == before


def test_deep_reads_what_looks_right(home: Home) -> None:
    model = next(path for path in home.bases.iterdir() if path.is_dir()) / "model.safetensors"
    stat = model.stat()
    break_base(home)
    os.utime(model, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert look(home)["base"].state == "ok"
    assert look(home, deep=True)["base"].state == "fail"


def test_a_damaged_page_is_found_deep_down(home: Home) -> None:
    with Journal.open(home.journal) as journal:
        for number in range(200):
            journal.append(Draft((Message("user", f"Fact {number} " * 40),), NOW)).result()
    data = bytearray(home.journal.read_bytes())
    data[-20_000:-12_000] = b"\x07" * 8000
    home.journal.write_bytes(data)
    assert look(home)["integrity"].state == "skipped"
    found = look(home, deep=True)["integrity"]
    assert found.state == "fail"
    assert "backup" in found.mend


def test_a_journal_of_a_killed_daemon_is_read_without_a_trace(home: Home) -> None:
    script = (
        "import os, sys; from pathlib import Path; from datetime import UTC, datetime\n"
        "from ada_memory.hippocampus.journal import Journal\n"
        "from ada_memory.records import Draft, Message\n"
        "journal = Journal.open(Path(sys.argv[1]))\n"
        "journal.append(Draft((Message('user', 'In the log alone.'),), datetime.now(UTC))).result()\n"
        "os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(home.journal)]).returncode == 9
    assert home.journal.with_name("journal.db-wal").stat().st_size > 0
    before = tree(home.root)
    found = look(home)
    assert tree(home.root) == before
    assert found["journal"].found.startswith("2 interactions")
    with Journal.open(home.journal) as journal:
        assert journal.position() == 2


def test_a_journal_that_somebody_holds_is_left_alone(home: Home) -> None:
    with Journal.open(home.journal) as journal:
        found = look(home)
        assert found["journal"].state == "skipped"
        assert "encoding" not in found
        journal.append(Draft((Message("user", "Still mine."),), NOW)).result()


def test_asking_for_a_lock_takes_it_from_nobody(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not is_held(lock)
    assert not lock.exists()
    with FileLock(lock):
        assert is_held(lock)
    assert not is_held(lock)
    with FileLock(lock, timeout=0):
        pass


def test_a_daemon_that_hangs_is_no_daemon_that_is_gone(home: Home) -> None:
    kill_daemon(home)
    with FileLock(home.run / "ada.sock.lock"):
        found = look(home, silence="no answer in time")["daemon"]
    assert (found.state, "no answer in time" in found.found) == ("fail", True)
    assert str(home.run / "ada.sock") in found.mend


def test_a_socket_path_that_is_too_long(home: Home) -> None:
    settings = load(env={}, file=home.root / "none", flags={"socket.path": "/tmp/" + "x" * 120})
    found = look(home, settings)["socket"]
    assert (found.state, "bytes long" in found.found, "socket.path" in found.mend) == ("fail", True, True)


def test_settings_that_cannot_be_read_and_variables_that_name_nothing(home: Home) -> None:
    bad = BadSetting("sunset.at = 'x' in etc/ada.toml, line 3", hint="a local time")
    found = look(home, bad=bad)["settings"]
    assert (found.state, "line 3" in found.found, found.mend) == ("fail", True, "a local time")
    found = look(home, env={"ADA_SUNSET_AT": "3", "ADA_HOME": "x", "ADA_INCLUDE_PATH": "y"})["settings"]
    assert (found.state, "ADA_SUNSET_AT" in found.found) == ("warn", True)
    assert found.mend == "did you mean ADA_SUNSET__AT?\n$ unset ADA_SUNSET_AT"


def test_a_zone_and_a_model_that_are_not_there(home: Home) -> None:
    shutil.rmtree(home.mind)
    flags = {"sunset.timezone": "Mars/Olympus", "model.name": "/no/such/model", "model.threads": "9999"}
    found = look(home, load(home.root / "none", {}, flags))
    assert (found["clock"].state, "Mars/Olympus" in found["clock"].found) == ("fail", True)
    assert "Europe/Berlin" in found["clock"].mend
    assert (found["base"].state, "seedling-2" in found["base"].mend) == ("fail", True)
    assert (found["cores"].state, "model.threads" in found["cores"].mend) == ("warn", True)


def test_a_model_that_is_not_the_one_that_was_grown_on(home: Home) -> None:
    (base,) = (path.name for path in home.bases.iterdir() if path.is_dir())
    for same in ("seedling-2", base):
        settings = load(home.root / "none", {}, {"model.name": same})
        assert look(home, settings)["pointer"].state == "ok"
        assert look(home, settings)["base"].found.endswith("13 MB")
    found = look(home, load(home.root / "none", {}, {"model.name": "owner/model"}))["pointer"]
    assert (found.state, "grown on seedling-2" in found.found) == ("fail", True)
    assert found.mend == f"set model.name to {base}, or `ada reset` to start from the new one"


def test_an_embedder_that_is_not_there_is_told_by_its_own_error(home: Home, tmp_path: Path) -> None:
    found = look(home, load(home.root / "none", {}, {"embedder.name": str(tmp_path)}))["embedder"]
    assert (found.state, "no .safetensors" in found.found, bool(found.mend)) == ("fail", True, True)


STATUS = {
    "version": "0.1.0", "pid": 7, "generation": "gen-0002", "started_at": NOW.isoformat(),
    "workers": {"voice": "ready", "embed": "ready"}, "faults": {},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "check", "state", "says", "mend"),
    [
        ({}, "daemon", "ok", "pid 7", ""),
        ({"version": "0.0.9"}, "daemon", "warn", "0.0.9", "start it again"),
        ({"generation": "gen-0001"}, "pointer", "fail", "gen-0001 answers", "`ada rollback gen-0002`"),
        ({"workers": {"voice": "idle"}}, "voice", "fail", "out of memory", "voice.log"),
        ({"faults": {"embed": {"deaths": 3, "last": "it ended"}}}, "embed", "warn", "3 times", "embed.log"),
        (
            {"started_at": "2020-01-01T00:00:00Z"},
            "settings",
            "warn",
            "changed after",
            "start the daemon again",
        ),
    ],
)
def test_what_the_daemon_says_is_checked(
    home: Home, changed: dict[str, Any], check: str, state: str, says: str, mend: str
) -> None:
    home.etc.mkdir()
    (home.etc / "ada.toml").write_text("", "utf-8")
    os.utime(home.etc / "ada.toml", (1.6e9, 1.6e9))
    (home.var / "log").mkdir()
    (home.var / "log" / "voice.log").write_text("RuntimeError: out of memory\n", "utf-8")
    found = look(home, status={**STATUS, **changed})[check]
    assert (found.state, says in found.found, mend in found.mend) == (state, True, True), found


def test_a_check_that_stumbles_is_a_finding() -> None:
    def stumble() -> Finding:
        raise ZeroDivisionError("by zero")

    def refuse() -> Finding:
        raise JournalError("it is damaged", hint="mend it")

    assert guarded(refuse) == fail("it is damaged", "mend it")
    found = guarded(stumble)
    assert (found.state, "ZeroDivisionError" in found.found, bool(found.mend)) == ("fail", True, True)
    assert worst([ok("a"), fail("b", "do b"), warn("c", "do c")], "") == Finding(
        "fail", "a; b; c", "do b\ndo c"
    )
    assert worst([], "all well") == ok("all well")


def test_words_for_figures() -> None:
    assert [size(n) for n in (0, 999, 1500, 12e6, 3.2e12)] == ["0 B", "999 B", "1.5 kB", "12 MB", "3.2 TB"]
    assert [span(n) for n in (5, 120, 7200, 864_000)] == ["5 s", "2 min", "2 h", "10 days"]
    assert (many(1, "night"), many(2, "memory")) == ("1 night", "2 memories")


LINUX = "/dev/sda1 / ext4 rw 0 0\nserver:/x /home/ada\\040b nfs4 rw 0 0\ntmpfs /home/ada tmpfs rw 0 0\n"
MACOS = "/dev/disk3s1s1 on / (apfs, sealed, local)\n//me@nas/x on /Volumes/a b (smbfs, nodev)\n"


@pytest.mark.parametrize(
    ("listed", "path", "kind"),
    [
        (LINUX, "/etc", "ext4"), (LINUX, "/home/ada/x", "tmpfs"), (LINUX, "/home/ada b/x", "nfs4"),
        (MACOS, "/Users/ada", "apfs"), (MACOS, "/Volumes/a b/x", "smbfs"), ("", "/", ""),
    ],
)  # fmt: skip
def test_the_file_system_under_a_path(listed: str, path: str, kind: str) -> None:
    assert mounted(listed, Path(path)) == kind


def test_the_index_is_counted_in_its_own_file(tmp_path: Path) -> None:
    import numpy as np

    from ada_memory.hippocampus.vectors import Vectors

    assert index_rows(tmp_path / "chroma", "abc") is None
    with Vectors(tmp_path / "chroma", "abc") as vectors:
        vectors.upsert(["a", "b"], np.eye(2, 4, dtype=np.float32))
    before = tree(tmp_path)
    assert (index_rows(tmp_path / "chroma", "abc"), index_rows(tmp_path / "chroma", "other")) == (2, 0)
    assert tree(tmp_path) == before
    with read_only(tmp_path / "chroma" / "chroma.sqlite3") as db, pytest.raises(sqlite3.OperationalError):
        db.execute("DELETE FROM embeddings")


def test_the_command_says_all_and_fails_if_something_failed(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--home", str(home.root)]
    assert main(["doctor", *where]) == 0
    said = capsys.readouterr().out
    assert "! daemon       not running" in said
    assert "\n               → ada run\n" in said
    break_pointer(home)
    assert main(["doctor", "--json", *where]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["well"] is False
    (found,) = (row for row in told["checks"] if row["check"] == "pointer")
    assert (found["state"], found["mend"]) == ("fail", "$ ada rollback gen-0002")
    assert {row["state"] for row in told["checks"]} == set(told["counts"])


def test_the_command_tells_of_settings_that_stop_all_others(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    home.etc.mkdir()
    (home.etc / "ada.toml").write_text("[sunset]\nat = '25:00'\n", "utf-8")
    assert main(["doctor", "--json", "--home", str(home.root)]) == 1
    rows = {row["check"]: row for row in json.loads(capsys.readouterr().out)["checks"]}
    assert "line 2" in rows["settings"]["found"]
    assert rows["journal"]["state"] == "ok"


def test_a_daemon_without_a_checkup_is_told_apart(home: Home) -> None:
    """An older daemon knows no such route: what it said of itself still counts."""
    with FakeDaemon({"GET /v1/status": (200, STATUS)}) as daemon:
        daemon.socket.chmod(0o600)
        assert main(["doctor", "--home", str(home.root), "--set", f"socket.path={daemon.socket}"]) == 0


def test_a_worker_that_nobody_has_asked_yet_is_well_where_it_starts_on_demand(home: Home) -> None:
    idle = {**STATUS, "workers": {"voice": "idle", "embed": "idle"}}
    case = Case(home, Settings(), NOW, {}, status=idle)
    lazy = replace(case, settings=Settings(model=ModelSettings(warm=False)))
    assert (wake.voice(case).state, wake.voice(lazy).state) == ("fail", "ok")
    died = {**idle, "faults": {"voice": {"deaths": 1, "last": "out of memory"}}}
    assert wake.voice(replace(lazy, status=died)).state == "fail"


def test_it_works_while_the_daemon_runs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = f"model.name={tiny_model(root / 'model')}"
    with running(root / "home", root / "s", model) as daemon, daemon.client() as ada:
        ada.post("My dog is called Bruno.")
        words = ["doctor", "--deep", "--json", "--home", str(daemon.home)]
        words += ["--set", f"socket.path={daemon.socket}", "--set", "sunset.at=", "--set", model]
        words += ["--set", "model.warm=false"]
        assert main(words) == 0
        rows = {row["check"]: row for row in json.loads(capsys.readouterr().out)["checks"]}
        assert rows.keys() == CHECKS.keys() | OF_MIND.keys()
        assert [row for row in rows.values() if row["state"] == "warn"] == []
        assert f"pid {daemon.process.pid}" in rows["daemon"]["found"]
        assert rows["journal"]["found"].startswith("1 interaction, ")
        assert rows["integrity"]["state"] == "ok"
        backup = home_of(root).var / "backups"
        backup.mkdir()
        (line,) = re.findall(
            r"^\$ \.venv/bin/python -c \"(.+)\" \S+ \S+$", OPERATIONS.read_text("utf-8"), re.M
        )
        paths = [str(home_of(root).journal), str(backup / "journal.db")]
        subprocess.run([sys.executable, "-c", line, *paths], check=True)
    with Journal.open(backup / "journal.db") as restored:  # as docs/operations.md says
        assert [one.draft.messages[0].content for one in restored.interactions()] == [
            "My dog is called Bruno."
        ]
    assert look(home_of(root))["backup"].state == "ok"


def home_of(root: Path) -> Home:
    return Home(root / "home")
