"""Moving a mind to another model: its base is shelved, the setting written, the line of generations chosen.

The daemon carries it out when it wakes (lines.py). Until then everything goes on as it was.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from ada_memory.errors import BadSetting
from ada_memory.settings import Home, Settings
from ada_memory.sovereign import bases, lines
from ada_memory.sovereign.disk import replace_text
from ada_memory.sovereign.manifests import ROOT

_SECTION = re.compile(r"^\s*\[model\]\s*(#.*)?$")
_ANY_SECTION = re.compile(r"^\s*\[")
_NAME = re.compile(r"^\s*name\s*=")
_DEFAULT = re.compile(r"^\s*#\s*name\s*=")


@dataclass(frozen=True, slots=True)
class Moved:
    """What was done: the base, the file that names it, and the generation that will serve on it."""

    name: str
    hash: str
    file: str
    generation: str
    learns_anew: bool


def use(home: Home, settings: Settings, name: str, file: Path) -> Moved:
    """Prepare a base, write its name into the settings and choose its line.

    Raises:
        BadModel: the model cannot be prepared.
        BadSetting: the settings file cannot be changed by one line.
    """
    called = bases.called(name)
    before = bases.prepare_base(home, settings.model)
    after = bases.prepare_base(home, settings.model.model_copy(update={"name": called}))
    write_name(file, called)
    home.mind.mkdir(parents=True, exist_ok=True)
    generation = lines.choose(home, before.hash, after.hash)
    anew = after.hash != before.hash and generation == ROOT
    return Moved(called, after.hash, str(file), generation, anew)


def write_name(file: Path, name: str) -> None:
    """Set model.name in a settings file; every other line stays as it is.

    Raises:
        BadSetting: the file is no TOML, or the name stands in it in a way that one line cannot change.
    """
    text = file.read_text("utf-8") if file.is_file() else ""
    changed = _with_name(text, name)
    try:
        before, after = tomllib.loads(text), tomllib.loads(changed)
    except tomllib.TOMLDecodeError as error:
        raise BadSetting(f"{file} is no TOML: {error}", hint="mend it by hand", field="model.name") from error
    before.setdefault("model", {})["name"] = name
    if before != after:
        hint = f"set name = {json.dumps(name)} under [model] by hand"
        raise BadSetting(f"model.name cannot be set in {file} by one line", hint=hint, field="model.name")
    replace_text(file, changed)


def _with_name(text: str, name: str) -> str:
    """The text with one line changed: the name in [model], else its default there, else a new line."""
    ours = f"name = {json.dumps(name, ensure_ascii=False)}"
    rows = text.splitlines()
    start = next((at for at, row in enumerate(rows) if _SECTION.match(row)), None)
    if start is None:
        return "\n".join([*rows, *([""] if rows else []), "[model]", ours]) + "\n"
    end = next((at for at in range(start + 1, len(rows)) if _ANY_SECTION.match(rows[at])), len(rows))
    inside = range(start + 1, end)
    place = next((at for at in inside if _NAME.match(rows[at])), None)
    if place is None:
        place = next((at for at in inside if _DEFAULT.match(rows[at])), None)
    if place is None:
        rows.insert(start + 1, ours)
    else:
        rows[place] = ours
    return "\n".join(rows) + "\n"
