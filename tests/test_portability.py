"""That Ada would run on macOS, as far as Linux can show it: no call without its twin, old make, plain sh."""

from __future__ import annotations

import ast
import errno
import os
import plistlib
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from types import ModuleType

import pytest

from ada_memory.client import Client
from ada_memory.errors import BadSetting, Conflict, JournalError
from ada_memory.hippocampus.journal import Journal
from ada_memory.hippocampus.store import pragmas
from ada_memory.service.wire import Door, check
from ada_memory.settings import CHECKOUT
from ada_memory.sovereign.disk import flush, link_tree
from tests.daemons import running, short_folder
from tests.mac.linux_only import LINUX_ONLY

MAC = CHECKOUT / "tests" / "mac"
SOURCES = [*sorted((CHECKOUT / "ada_memory").rglob("*.py")), CHECKOUT / "circadian_daemon.py"]
SETUP = CHECKOUT / "scripts" / "setup.sh"
MAKEFILE = CHECKOUT / "Makefile"


# A Mac, as far as Linux can play one ------------------------------------------------------------------


NIGHT = """
import asyncio, os, sys
from pathlib import Path
from tests.nights import Mind, whole_night
assert sys.platform == "darwin" and not hasattr(os, "sched_setscheduler")
mind = Mind(Path(sys.argv[1]))
mind.say("My cat is called Miso.")
night = asyncio.run(whole_night(mind))
print(*(outcome for _, outcome in mind.stages(night)))
mind.journal.close()
"""


def test_a_night_without_what_macos_lacks(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": f"{MAC}{os.pathsep}{CHECKOUT}"}
    done = subprocess.run(
        [sys.executable, "-c", NIGHT, str(tmp_path)], env=env, cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.stdout.split() == ["done"] * 10, done.stderr


def test_a_day_without_what_macos_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(MAC))
    with (
        short_folder() as folder,
        running(folder / "home", folder / "ada.sock", "sunset.capacity=0") as daemon,
    ):
        with daemon.client() as ada:
            ada.post("My cat is called Miso.")
            deadline = time.monotonic() + 60
            while not ada.status()["waiting"]:
                assert time.monotonic() < deadline, daemon.said()
                time.sleep(0.05)
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.said()


# No call without its twin ------------------------------------------------------------------------------

FORKS = {"os.fork", "os.forkpty", "pty.fork", "multiprocessing.set_start_method"}
MADE_BY_THE_DEFAULT = {"Event", "Lock", "Manager", "Pipe", "Pool", "Process", "Queue", "Value", "Array"}
LINUX_FILES = ("/proc/", "/sys/", "/dev/shm", "/run/", "/etc/machine-id")  # noqa: S108
ASKS = re.compile(r"sys\.platform|platform\.system|hasattr\(|\.exists\(|\.is_file\(")


def _names(tree: ast.AST) -> dict[str, str]:
    """What the module calls the modules that it imports."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _dotted(node: ast.AST, names: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, names)}.{node.attr}"
    return "?"


def forks(source: str) -> list[str]:
    """Where a module starts a process by forking, or by whatever the system's default is."""
    tree = ast.parse(source)
    names, found = _names(tree), []
    for node in ast.walk(tree):
        name = _dotted(node, names) if isinstance(node, ast.Attribute | ast.Name) else ""
        if name in FORKS:
            found.append(name)
        if not isinstance(node, ast.Call):
            continue
        module, _, function = _dotted(node.func, names).rpartition(".")
        given = {keyword.arg for keyword in node.keywords}
        if "preexec_fn" in given:
            found.append("preexec_fn")
        if module == "multiprocessing" and function in MADE_BY_THE_DEFAULT:
            found.append(f"multiprocessing.{function}")
        if function == "get_context" and not (node.args and ast.unparse(node.args[0]) == "'spawn'"):
            found.append("get_context")
        if function == "ProcessPoolExecutor" and "mp_context" not in given:
            found.append(function)
    return found


def linux_only(source: str) -> list[str]:
    """Uses of what only Linux has that no question guards, or whose guard leaves nothing to do elsewhere."""
    tree = ast.parse(source)
    names = _names(tree)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    known = {f"{module}.{name}" for module, found in LINUX_ONLY.items() for name in found}
    uses: list[tuple[str, ast.AST]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and (name := _dotted(node, names)) in known:
            uses.append((name, node))
        elif isinstance(node, ast.Attribute) and node.attr == "prctl":
            uses.append(("prctl", node))
        elif isinstance(node, ast.Constant) and str(node.value).startswith(LINUX_FILES):
            uses.append((str(node.value), node))
    return [name for name, node in uses if not _has_twin(node, parents)]


def _has_twin(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether there is a way round: a branch, a handler, or what follows the guard in its function."""
    below, above = node, parents.get(node)
    while above is not None:
        if isinstance(above, ast.IfExp) and ASKS.search(ast.unparse(above.test)):
            return True
        if isinstance(above, ast.If) and ASKS.search(ast.unparse(above.test)):
            return bool(above.orelse) or _siblings(above, parents) > 1
        if isinstance(above, ast.Try) and below in above.body and any(_handles(h) for h in above.handlers):
            return True
        if isinstance(above, ast.For) and below is above.iter:  # a list of files to try
            return any(isinstance(each, ast.Try) for each in above.body)
        if isinstance(above, ast.arguments):  # a default: the function must do without
            function = parents[above]
            return any(isinstance(each, ast.Try) for each in ast.walk(function))
        below, above = above, parents.get(above)
    return False


def _handles(handler: ast.ExceptHandler) -> bool:
    return not all(isinstance(each, ast.Raise) for each in handler.body)


def _siblings(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> int:
    """How many statements, docstrings aside, stand where this one stands."""
    body = [each for each in ast.iter_child_nodes(parents[node]) if isinstance(each, ast.stmt)]
    return sum(not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)) for each in body)


def test_nothing_forks() -> None:
    assert {path.name: found for path in SOURCES if (found := forks(path.read_text("utf-8")))} == {}


def test_nothing_is_for_linux_alone() -> None:
    assert {path.name: found for path in SOURCES if (found := linux_only(path.read_text("utf-8")))} == {}


@pytest.mark.parametrize("source", [
    "import os\nos.fork()",
    "from os import fork\nfork()",
    "import subprocess\nsubprocess.run([], preexec_fn=print)",
    "import multiprocessing as mp\nmp.Process(target=print)",
    "import multiprocessing as mp\nmp.get_context('fork').Process()",
    "from concurrent.futures import ProcessPoolExecutor\nProcessPoolExecutor(2)",
])  # fmt: skip
def test_forks_are_found(source: str) -> None:
    assert forks(source)


@pytest.mark.parametrize("source", [
    "import os\ndef f():\n    os.sched_setaffinity(0, {0})",
    "import os\ndef f():\n    if hasattr(os, 'eventfd'):\n        os.eventfd(0)",
    "from pathlib import Path\ndef f():\n    return Path('/proc/stat').read_text()",
    "from socket import SO_PEERCRED\nprint(SO_PEERCRED)",
    "import ctypes as c\ndef f():\n    try:\n        c.CDLL(0).prctl(1)\n    except OSError:\n        raise",
])  # fmt: skip
def test_calls_without_a_twin_are_found(source: str) -> None:
    assert linux_only(source)


def test_the_list_is_of_what_linux_has() -> None:
    """A name that is misspelt would be found nowhere, and guard nothing."""
    if sys.platform != "linux":
        pytest.skip("needs Linux to hold the list against")
    late = {"os.setns", "os.unshare"}  # Python shows them from 3.12 on
    missing = [
        f"{module}.{name}"
        for module, found in LINUX_ONLY.items()
        for name in found
        if not hasattr(__import__(module), name)
    ]
    assert set(missing) <= late


# Reaching the disk -------------------------------------------------------------------------------------


class Fcntl(ModuleType):
    """`fcntl` as macOS has it; `says` is the error number of its F_FULLFSYNC, 0 if it works."""

    F_FULLFSYNC = 51

    def __init__(self, says: int = 0) -> None:
        super().__init__("fcntl")
        self.says = says
        self.asked: list[tuple[int, int]] = []

    def fcntl(self, handle: int, command: int) -> int:
        self.asked.append((handle, command))
        if self.says:
            raise OSError(self.says, os.strerror(self.says))
        return 0


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    handles: list[int] = []
    monkeypatch.setattr(os, "fsync", handles.append)
    return handles


def test_macos_is_asked_for_a_full_sync(synced: list[int]) -> None:
    system = Fcntl()
    flush(7, system)
    assert (system.asked, synced) == ([(7, 51)], [])


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.EINVAL, errno.ENOTTY])
def test_a_share_without_full_sync_is_synced_as_well_as_it_can_be(synced: list[int], number: int) -> None:
    flush(7, Fcntl(number))
    assert synced == [7]


def test_a_disk_that_fails_is_no_share(synced: list[int]) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        flush(7, Fcntl(errno.EIO))
    assert synced == []


def test_elsewhere_fsync_is_enough(synced: list[int]) -> None:
    flush(7, ModuleType("fcntl"))
    assert synced == [7]


def test_only_one_place_flushes() -> None:
    """Whoever calls os.fsync himself stops at the drive's cache on macOS.

    Of a training's checkpoints nothing depends but some minutes: one that is lost is begun again.
    """
    callers = {path.name for path in SOURCES if "os.fsync" in path.read_text("utf-8")}
    assert callers - {"resume.py"} == {"disk.py"}


@pytest.mark.parametrize(("platform", "full"), [("darwin", 1), ("linux", 0)])
def test_sqlite_is_asked_for_a_full_sync_on_macos(tmp_path: Path, platform: str, full: int) -> None:
    db = sqlite3.connect(tmp_path / "journal.db")
    for name, value in pragmas(platform).items():
        db.execute(f"PRAGMA {name} = {value}")
    asked = ("fullfsync", "checkpoint_fullfsync", "synchronous", "foreign_keys")
    assert [db.execute(f"PRAGMA {name}").fetchone()[0] for name in asked] == [full, full, 2, 1]
    db.close()


@pytest.mark.parametrize("number", [errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EMLINK])
def test_where_links_cannot_be_files_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuses(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(os, "link", refuses)
    link_tree(tmp_path / "base", tmp_path / "copy")
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == b"weights"


# Paths -------------------------------------------------------------------------------------------------


def test_a_socket_path_is_measured_in_bytes() -> None:
    with short_folder() as folder:
        room = 103 - len(os.fsencode(folder)) - 1
        path = folder / ("ö" * (room // 2) + "x" * (room % 2))
        assert len(os.fsencode(path)) == 103 > len(str(path))
        with Door(path):
            assert path.is_socket()
        with pytest.raises(BadSetting, match="104 bytes long") as refused:
            check(path.with_name(path.name + "x"))
        assert "set socket.path to a shorter one" in refused.value.hint


def test_two_names_of_one_place_are_one_place() -> None:
    """/tmp is a link to /private/tmp on macOS: a lock must hold by whatever name it is reached."""
    with short_folder() as folder:
        real, other = folder / "private", folder / "tmp"
        real.mkdir()
        other.symlink_to(real)
        with Door(other / "ada.sock"), pytest.raises(Conflict), Door(real / "ada.sock"):
            pass
        journal = Journal.open(other / "mind" / "journal.db")
        try:
            with pytest.raises(JournalError, match="in use"):
                Journal.open(real / "mind" / "journal.db")
        finally:
            journal.close()


def test_a_daemon_is_reached_by_either_name_of_its_home() -> None:
    with short_folder() as folder:
        real, other = folder / "private", folder / "tmp"
        real.mkdir()
        other.symlink_to(real)
        with running(other / "home", other / "ada.sock", "sunset.capacity=0") as daemon:
            with Client(real / "ada.sock") as ada:
                assert ada.health()["status"] == "ok"
            assert (real / "home" / "var" / "minds" / "default" / "journal.db").is_file()
            assert daemon.stop() == 0


def test_no_two_names_differ_in_case_alone() -> None:
    """The file systems of macOS take them for one; and composed letters come back decomposed there."""
    for folder in ("ada_memory", "docs", "etc", "launchd", "scripts", "systemd", "tests"):
        paths = [
            p.relative_to(CHECKOUT).as_posix()
            for p in (CHECKOUT / folder).rglob("*")
            if "__pycache__" not in p.parts
        ]
        assert len({path.lower() for path in paths}) == len(paths)
        assert all(path.isascii() for path in paths)


# make and sh -------------------------------------------------------------------------------------------

LATER_THAN_3_81 = {
    r"^\s*\w+\s*!=": "X != date",
    r"::=": "X ::= 1",
    r"\$[({](file|guile|let|intcmp)\s": "$(file <x)",
    r"^\.(ONESHELL|RECIPEPREFIX|EXTRA_PREREQS|NOTINTERMEDIATE|WAIT)\b": ".ONESHELL:",
    r"^\s*\.?SHELLFLAGS|^\s*\.SHELLFLAGS": ".SHELLFLAGS := -ec",
    r"^\s*undefine\s": "undefine X",
    r"^\s*(override\s+)?define\s+\w+\s*[:?+]?=": "define X =",
    r"&\s*::?": "a b &: c",
    r"^[^\t#]*:\s*private\s": "a: private X = 1",
    r"^\s*-?load\s": "load x.so",
    r"(--output-sync|--trace|\s-O\b)": "$(MAKE) --output-sync all",
    r"^\s*-?include\s": "include other.mk",  # what it would include is not looked at here
}
GNU_ALONE = {
    r"\bsed\s+(-\w*[irz]|--)": "sed -i s/a/b/ x",
    r"\bgrep\s+(-\w*[Pz]|--)": "grep -oP x",
    r"\b(readlink|realpath)\b": "readlink -f x",
    r"\bstat\s+-": "stat -c %s x",
    r"\bdate\s+(-\w*[dI]|--)": "date -d now",
    r"\bmktemp\s+(-\w*[pt]|--)": "mktemp -p /tmp",
    r"\bsort\s+(-\w*V|--)": "sort -V",
    r"\bxargs\s+(-\w*r|--)": "xargs -r rm",
    r"\bfind\b.*\s-(printf|regextype)\b": "find . -printf %p",
    r"\bcp\s+(-\w*[ad]|--)": "cp --reflink=auto a b",
    r"\b(head|tail)\s+-n\s*[-+]?\d*\s*--|\bhead\s+-n\s*-": "head -n -1",
    r"^\s*(nproc|tac|sha256sum|md5sum|numfmt|gawk|getent|setsid|ionice|timeout)\b": "sha256sum x",
    r"[|(&;]\s*(nproc|tac|sha256sum|md5sum|numfmt|gawk|getent|setsid|ionice|timeout)\b": "$(nproc)",
    r"\bdf\s+(-\w*[T]|--)": "df --output=avail .",
    r"\bdu\s+(-\w*b|--)": "du -b x",
    r"\bls\s+--|\bln\s+(-\w*[rT]|--)|\binstall\s+-D": "ln -r a b",
    r"\becho\s+-[en]": "echo -e x",
    r"\[\[|<<<|&>|\bdeclare\b|\blocal\b|\bsource\b|\bfunction\s+\w|\bset -o pipefail|\$'": "[[ a = b ]]",
    r"\[ [^]]*==": "[ a == b ]",
}


def _found(patterns: dict[str, str], text: str) -> list[str]:
    return [pattern for pattern in patterns if re.search(pattern, text, re.MULTILINE)]


def test_the_patterns_find_what_they_are_for() -> None:
    for pattern, example in [*LATER_THAN_3_81.items(), *GNU_ALONE.items()]:
        assert re.search(pattern, example, re.MULTILINE), pattern


def test_the_makefile_keeps_to_what_macos_has() -> None:
    text = MAKEFILE.read_text("utf-8")
    assert _found(LATER_THAN_3_81, text) == []
    assert _found(GNU_ALONE, text) == []


def test_setup_is_plain_sh() -> None:
    text = "\n".join(
        line for line in SETUP.read_text("utf-8").splitlines() if not line.lstrip().startswith("#")
    )
    assert SETUP.read_text("utf-8").startswith("#!/bin/sh\n")
    assert _found(GNU_ALONE, text) == []


SHELLS = [
    [path, *rest]
    for name, *rest in (["dash"], ["bash", "--posix"], ["busybox", "sh"])
    if (path := shutil.which(name))
]


@pytest.fixture(params=SHELLS, ids=lambda shell: Path(shell[0]).name)
def shell(request: pytest.FixtureRequest) -> list[str]:
    found: list[str] = request.param
    return found


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A checkout in which nothing has been set up, and a `uname` that can be told what to say."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(SETUP, tmp_path / "scripts")
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    (tmp_path / "bin").mkdir()
    uname = tmp_path / "bin" / "uname"
    uname.write_text(
        '#!/bin/sh\ncase $1 in -m) echo "$FAKE_MACHINE" ;; *) echo "$FAKE_SYSTEM" ;; esac\n', "utf-8"
    )
    uname.chmod(0o755)
    yield tmp_path


@pytest.mark.parametrize(("system", "machine", "env", "says"), [
    ("Linux", "x86_64", {"TORCH": "gpu"}, "use TORCH=auto, TORCH=cpu or TORCH=cuda"),
    ("Linux", "x86_64", {"PYTHON": "/nowhere/python3"}, "python3 python3-venv, or make setup PYTHON="),
    ("Darwin", "arm64", {"PYTHON": "/nowhere/python3"}, "brew install python@3.13, or make setup PYTHON="),
    ("Darwin", "x86_64", {"PYTHON": sys.executable}, "use a Mac with Apple silicon, or Linux"),
])  # fmt: skip
def test_setup_says_what_is_missing(
    shell: list[str], checkout: Path, system: str, machine: str, env: dict[str, str], says: str
) -> None:
    path = f"{checkout / 'bin'}{os.pathsep}{os.environ['PATH']}"
    known = {"PATH": path, "FAKE_SYSTEM": system, "FAKE_MACHINE": machine, **env}
    done = subprocess.run(
        [*shell, "scripts/setup.sh"], cwd=checkout, env=known, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
    assert not (checkout / ".venv").exists()


# The units ---------------------------------------------------------------------------------------------

LAUNCHD_KEYS = {  # launchd.plist(5)
    "Label", "ProgramArguments", "RunAtLoad", "KeepAlive", "ThrottleInterval", "ExitTimeOut", "LowPriorityIO",
    "Nice", "Umask", "WorkingDirectory", "EnvironmentVariables", "ProcessType", "StandardErrorPath",
    "StandardOutPath", "HardResourceLimits", "SoftResourceLimits",
}  # fmt: skip
SYSTEMD_KEYS = {  # systemd.unit(5), .service(5), .exec(5), .kill(5): what the unit may use
    "Unit": {"Description", "Documentation", "After", "ConditionPathExists", "StartLimitBurst"},
    "Service": {
        "Type", "WorkingDirectory", "ExecStart", "Restart", "RestartSec", "TimeoutStopSec", "Nice", "UMask",
        "NoNewPrivileges", "LockPersonality", "RestrictRealtime", "RestrictSUIDSGID", "RestrictNamespaces",
        "RestrictAddressFamilies", "SystemCallArchitectures", "SystemCallFilter", "Environment", "KillMode",
    },
    "Install": {"WantedBy"},
}  # fmt: skip


def test_launchd_knows_every_key_of_the_agent() -> None:
    for path in (CHECKOUT / "launchd").glob("*.plist"):
        agent = plistlib.loads(path.read_bytes())
        assert set(agent) <= LAUNCHD_KEYS
        assert isinstance(agent["Umask"], int), "a string would be read as decimal or octal, by version"


def test_systemd_knows_every_key_of_the_unit() -> None:
    for path in (CHECKOUT / "systemd").glob("*.service"):
        unit = ConfigParser(interpolation=None, delimiters=("=",), strict=True)
        unit.optionxform = str  # type: ignore[assignment, method-assign]
        unit.read_string(path.read_text("utf-8"))
        assert set(unit.sections()) <= set(SYSTEMD_KEYS)
        for section in unit.sections():
            assert set(unit[section]) <= SYSTEMD_KEYS[section]


def test_what_the_units_start_is_in_the_wheel_too() -> None:
    modules = re.search(
        r"^py-modules = \[(.*)\]", (CHECKOUT / "pyproject.toml").read_text("utf-8"), re.MULTILINE
    )
    assert modules is not None and '"circadian_daemon"' in modules[1]
