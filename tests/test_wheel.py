"""The wheel holds everything that a mind needs, and `ada` starts from it in an empty environment."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

import ada_memory
from ada_memory.settings import CHECKOUT

PARTS = ("ada_memory", "etc", "systemd", "launchd")
FILES = ("pyproject.toml", "circadian_daemon.py", "README.md", "LICENSE")
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]


def _run(command: list[str | Path], cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from a copy: setuptools would take over what an older build left behind."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for part in PARTS:
        shutil.copytree(CHECKOUT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(CHECKOUT / name, source / name)
    _run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source], folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment that holds the wheel; its libraries are borrowed from this one."""
    root = tmp_path_factory.mktemp("empty")
    venv.create(root / "env", symlinks=True)
    paths = sysconfig.get_paths("venv", {"base": str(root / "env"), "platbase": str(root / "env")})
    python = Path(paths["scripts"]) / "python"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    _run([*pip, "install", "-q", "--no-deps", "--no-index", wheel], root)
    # A path alone: the .pth files of that folder (this checkout among them) are not followed.
    (Path(paths["purelib"]) / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", "utf-8")
    return python.parent


def test_everything_travels_in_the_wheel(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    shared = {name.partition(".data/data/")[2] for name in names if ".data/data/" in name}
    assert shared == {
        "share/ada-memory/etc/ada.toml",
        "share/ada-memory/systemd/ada-memory.service",
        "share/ada-memory/launchd/org.ada-memory.daemon.plist",
    }
    package = CHECKOUT / "ada_memory"
    wanted = {path for path in package.rglob("*.py") if "__pycache__" not in path.parts}
    for folder in ("model", "data"):
        wanted |= {path for path in (package / "seedling" / folder).rglob("*") if path.is_file()}
    expected = {path.relative_to(CHECKOUT).as_posix() for path in wanted} | {"circadian_daemon.py"}
    assert expected - names == set()
    assert [name for name in names if name.startswith(("tests/", "var/"))] == []


def test_ada_starts_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    assert "Usage" in _run([installed / "ada", "--help"], tmp_path)
    code = "import ada_memory, circadian_daemon as d; print(ada_memory.__file__, d.__file__, sep='\\n')"
    places = _run([installed / "python", "-c", code], tmp_path).splitlines()
    assert all(Path(place).is_relative_to(installed.parent) for place in places), places


def test_what_is_imported_is_declared() -> None:
    """The development tools are installed too, so an undeclared library would be missed only by users."""
    declared = {_plain(re.split(r"[^\w.-]", line)[0]) for line in PROJECT["dependencies"]}
    extras = PROJECT["optional-dependencies"]
    optional = {_plain(re.split(r"[^\w.-]", line)[0]) for line in (*extras["mlx"], *extras["bench"])}
    optional.add("datasets")  # comes with trl, for the runner that needs it
    known = importlib.metadata.packages_distributions()
    missing = set()
    for path in [*(CHECKOUT / "ada_memory").rglob("*.py"), CHECKOUT / "circadian_daemon.py"]:
        for name in _top_level_imports(path) - sys.stdlib_module_names - {"ada_memory", "circadian_daemon"}:
            if not {_plain(owner) for owner in known.get(name, [name])} & (declared | optional):
                missing.add(f"{path.relative_to(CHECKOUT)}: {name}")
    assert missing == set()


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _top_level_imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


def test_the_changelog_knows_this_version() -> None:
    newest = re.search(r"^## (\S+)", (CHECKOUT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == ada_memory.__version__
