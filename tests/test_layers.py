"""The house as DESIGN draws it: who may know whom. Imports under TYPE_CHECKING and in functions count too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ada_memory.settings import CHECKOUT

PACKAGE = "ada_memory"
WORDS = frozenset({"records", "errors", "settings", "words", "child"})
ROOMS = frozenset({"hippocampus", "sovereign", "dream", "forge", "topology"})
HOUSE = frozenset({"engines", "circadian", "service", "circadian_daemon"})
# What each storey may look down on, besides itself. Rooms on one storey do not know one another.
MAY_KNOW: dict[str, frozenset[str]] = {
    **{word: WORDS for word in WORDS},
    "engines": WORDS,
    **{room: WORDS | {"engines"} for room in ROOMS},
    "circadian": WORDS | {"engines"} | ROOMS,
    "service": WORDS | {"engines"} | ROOMS | {"circadian"},
    "circadian_daemon": WORDS | {"engines"} | ROOMS | {"circadian", "service"},
    # Beside the house:
    "client": WORDS,
    # Who looks at a house where nobody answers; models are chosen, and the core filled, before anybody does.
    "cli": WORDS | {"client", "bench", "service.checkup", "sovereign", "engines.engine"},
    "seedling": WORDS | {"engines", "dream.prompts", "topology.exam"},  # the words of the night's own tasks
    "bench": WORDS | ROOMS | HOUSE | {"client", "cli", "seedling"},
}
# The seedling's package names a folder of weights; its modules know the world, which nobody else may.
SEEDLING_PACKAGE = f"{PACKAGE}.seedling"
MODEL_LIBRARIES = frozenset(
    {"torch", "transformers", "peft", "mlx", "mlx_lm", "sentence_transformers", "trl"}
)
# Other people's trainers, which `ada bench forge` runs as programs of their own: each is written as a user of
# that trainer would write it, so they use its libraries, and nothing of the house may import them.
CONTENDERS = f"{PACKAGE}.bench.contenders"


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module: `lazy` if a function does it."""

    module: str
    target: str
    line: int
    lazy: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def _sources() -> dict[str, Path]:
    """Every module of the house by its dotted name."""
    found = {"circadian_daemon": CHECKOUT / "circadian_daemon.py"}
    for path in sorted((CHECKOUT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(CHECKOUT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {name: path for name, path in found.items() if path.is_file()}


SOURCES = _sources()


def _walk(node: ast.AST, lazy: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield child, inside
        yield from _walk(child, inside)


def _targets(node: ast.AST, package: str, modules: frozenset[str]) -> Iterator[str]:
    """The modules that one statement imports; `from room import module` names the module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, base] if base else above)
        for alias in node.names:
            whole = f"{base}.{alias.name}"
            yield whole if whole in modules else base
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in {"import_module", "__import__"}:
            yield str(node.args[0].value)


def imports_of(module: str, text: str, is_package: bool, modules: frozenset[str]) -> list[Import]:
    """All imports of one module's source."""
    package = module if is_package else module.rpartition(".")[0]
    return [
        Import(module, target, getattr(node, "lineno", 0), lazy)
        for node, lazy in _walk(ast.parse(text))
        for target in _targets(node, package, modules)
    ]


IMPORTS = [
    found
    for name, path in SOURCES.items()
    for found in imports_of(name, path.read_text("utf-8"), path.name == "__init__.py", frozenset(SOURCES))
]


def room_of(module: str) -> str | None:
    """The room a module of the house stands in; None for the package itself and for strangers."""
    first, _, rest = module.partition(".")
    if first == PACKAGE:
        return rest.partition(".")[0] or None
    return first if first == "circadian_daemon" else None


def is_allowed(found: Import) -> bool:
    """Whether one import keeps to the house."""
    here, there = room_of(found.module), room_of(found.target)
    if f"{found.target}.".startswith(f"{CONTENDERS}."):
        return False
    if there is None or here == there:
        return True
    if here is None:
        return False
    if there == "seedling" and here != "bench":
        return found.target == SEEDLING_PACKAGE and here in MAY_KNOW["circadian_daemon"]
    if (here, there) == ("cli", "bench"):
        return found.lazy
    return bool({there, found.target.removeprefix(f"{PACKAGE}.")} & MAY_KNOW[here])


def may_use_models(module: str) -> frozenset[str]:
    """The model libraries that a module may import."""
    if room_of(module) == "engines" or module.startswith(f"{SEEDLING_PACKAGE}.grow"):
        return MODEL_LIBRARIES - {"sentence_transformers", "trl"}
    if module.startswith(f"{CONTENDERS}."):
        return MODEL_LIBRARIES - {"sentence_transformers"}
    if module == f"{PACKAGE}.hippocampus.embedder":
        return frozenset({"sentence_transformers", "torch"})
    return frozenset()


def test_every_room_has_its_place() -> None:
    rooms = {room_of(module) for module in SOURCES} - {None}
    assert rooms <= MAY_KNOW.keys(), "a new room: say in this test whom it may know"


def test_nobody_looks_up_or_sideways() -> None:
    assert [str(found) for found in IMPORTS if not is_allowed(found)] == []


def test_model_libraries_stay_in_their_rooms() -> None:
    wrong = [
        str(found)
        for found in IMPORTS
        if (library := found.target.partition(".")[0]) in MODEL_LIBRARIES
        and library not in may_use_models(found.module)
    ]
    assert wrong == []


@pytest.mark.parametrize("module", ["ada_memory.client", "ada_memory.cli", "circadian_daemon"])
def test_what_people_start_loads_no_model_library(module: str) -> None:
    code = f"import sys, {module}; sys.exit(', '.join({set(MODEL_LIBRARIES)!r} & sys.modules.keys()) or 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_there_is_no_circle() -> None:
    # Inside a room, a factory may reach for an implementation that imports the factory's own module.
    edges: dict[str, set[str]] = {name: set() for name in SOURCES}
    for found in IMPORTS:
        if not found.lazy and found.target in SOURCES and found.target != found.module:
            edges[found.module].add(found.target)
    assert _circle(edges) == []


def _circle(edges: dict[str, set[str]]) -> list[str]:
    """What is left after taking away, again and again, all modules that import nothing that is left."""
    left = {name: set(targets) for name, targets in edges.items()}
    while leaves := {name for name, targets in left.items() if not targets & left.keys()}:
        left = {name: targets for name, targets in left.items() if name not in leaves}
    return sorted(left)


@pytest.mark.parametrize(
    ("module", "text", "allowed"),
    [
        ("ada_memory.forge.train", "from ada_memory.engines.engine import Engine", True),
        ("ada_memory.forge.train", "from ada_memory.engines import engine", True),
        ("ada_memory.forge.train", "from ada_memory.dream.rem import cycle", False),
        ("ada_memory.forge.train", "from ..dream import rem", False),
        ("ada_memory.forge.train", "from . import dataset", True),
        ("ada_memory.forge.train", "def f():\n    import ada_memory.circadian.night", False),
        ("ada_memory.forge.train", "if TYPE_CHECKING:\n    from ada_memory.service import api", False),
        ("ada_memory.forge.train", "import_module('ada_memory.topology.map')", False),
        ("ada_memory.records", "from ada_memory.engines.engine import Engine", False),
        ("ada_memory.circadian.stages", "from ada_memory.forge import train", True),
        ("ada_memory.circadian.stages", "from ada_memory.seedling.world import draw", False),
        ("ada_memory.circadian.stages", "from ada_memory.seedling.grow import grow", False),
        ("ada_memory.sovereign.bases", "import ada_memory.seedling", True),
        ("ada_memory.cli", "from ada_memory.client import Client", True),
        ("ada_memory.cli", "from ada_memory.bench import night", False),
        ("ada_memory.cli", "def f():\n    from ada_memory.bench import night", True),
        ("ada_memory.cli", "from ada_memory.service import daemon", False),
        ("ada_memory.client", "from ada_memory.hippocampus import journal", False),
        ("ada_memory.seedling.grow", "from ada_memory.dream.prompts import question", True),
        ("ada_memory.seedling.grow", "from ada_memory.dream.rem import cycle", False),
        ("ada_memory.bench.night", "from ada_memory.seedling.world import draw", True),
        ("ada_memory.bench.forge", "from ada_memory.bench.contenders import trl_sft", False),
        ("ada_memory.bench.contenders.trl_sft", "from ada_memory.bench.clock import Clock", True),
        ("circadian_daemon", "from ada_memory.service.daemon import Daemon", True),
        ("ada_memory.service.daemon", "import circadian_daemon", False),
        ("ada_memory", "from ada_memory.records import Dream", False),
    ],
)
def test_the_rules_can_tell(module: str, text: str, allowed: bool) -> None:
    modules = {"engines.engine", "dream.rem", "forge.dataset", "service.api", "forge.train", "seedling.world"}
    known = frozenset(f"{PACKAGE}.{name}" for name in modules)
    assert all(is_allowed(found) for found in imports_of(module, text, False, known)) is allowed


def test_a_circle_would_be_seen() -> None:
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}) == ["a", "b", "c", "d"]
