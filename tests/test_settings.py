"""Settings: the template cannot drift, later sources win, and every error names key, value and origin."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from ada_memory.errors import BadSetting
from ada_memory.settings import CHECKOUT, Home, Origin, Settings, home_root, load, origins, template


def _write(folder: Path, text: str) -> Path:
    file = folder / "ada.toml"
    file.write_text(text, "utf-8")
    return file


def test_etc_holds_the_template() -> None:
    assert (CHECKOUT / "etc" / "ada.toml").read_text("utf-8") == template()


def test_template_names_every_key_with_one_comment_and_its_default(tmp_path: Path) -> None:
    lines = template().splitlines()
    for number, line in enumerate(lines):
        if line.startswith("#") and " = " in line and not line.startswith("# "):
            assert lines[number - 1].startswith("# ")
    uncommented = "\n".join(line[1:] if line[:1] == "#" and line[:2] != "# " else line for line in lines)
    assert tomllib.loads(uncommented) == Settings().model_dump()
    assert load(_write(tmp_path, uncommented), env={}) == Settings()


def test_no_file_means_defaults(tmp_path: Path) -> None:
    assert load(tmp_path / "none.toml", env={}) == Settings()


def test_file_then_environment_then_flags(tmp_path: Path) -> None:
    file = _write(tmp_path, '[sunset]\nat = "03:00"\ncapacity = 3\nmin_gap_minutes = 1.5\n')
    env = {"ADA_SUNSET__AT": "04:00", "ADA_SUNSET__CAPACITY": "4", "ADA_RECALL__TOP_K": "7"}
    settings = load(file, env, {"sunset.at": "05:00"})
    assert settings.sunset.at == "05:00"
    assert settings.sunset.capacity == 4
    assert settings.sunset.min_gap_minutes == 1.5
    assert settings.sunset.catch_up is True
    assert settings.recall.top_k == 7


def test_only_the_environment_that_is_given_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADA_SUNSET__AT", "04:00")
    assert load(tmp_path / "none.toml", env={}).sunset.at == "02:00"


def test_loaded_settings_are_frozen_and_survive_json_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(tmp_path / "none.toml", {"ADA_SUNSET__CAPACITY": "9"})
    with pytest.raises(ValidationError):
        settings.sunset.capacity = 1  # type: ignore[misc]
    monkeypatch.setenv("ADA_SUNSET__CAPACITY", "11")
    copy = type(settings).model_validate(json.loads(settings.model_dump_json()))
    assert copy == settings


def test_variables_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    env = {"ADA_HOME": str(tmp_path), "ADA_INCLUDE_PATH": "/usr/lib/ada", "SUNSET__AT": "nonsense"}
    assert load(env=env) == Settings()


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ('[sunset]\nat = "3 pm"\n', "sunset.at", "'3 pm'"),
        ("[sunset]\ncapacity = -1\n", "sunset.capacity", "-1"),
        ('[mind]\nid = "../other"\n', "mind.id", "'../other'"),
        ("[sunset]\ncapactiy = 5\n", "sunset.capactiy", "5"),
        ("[sunsett]\ncapacity = 5\n", "sunsett", "5"),
        ('at = "03:00"\n', "at", "'03:00'"),
        ("sunset = 3\n", "sunset", "3"),
    ],
)
def test_a_bad_file_is_named_with_key_and_value(tmp_path: Path, text: str, key: str, said: str) -> None:
    file = _write(tmp_path, text)
    with pytest.raises(BadSetting) as caught:
        load(file, env={})
    assert caught.value.field == key
    assert key in caught.value.message
    assert said in caught.value.message
    assert str(file) in caught.value.message


@pytest.mark.parametrize("content", [b'at = "03:00\n', b"[sunset]\nat = \xff\n", b"[sunset\n"])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "ada.toml"
    file.write_bytes(content)
    with pytest.raises(BadSetting, match="is not TOML") as caught:
        load(file, env={})
    assert str(file) in caught.value.message


@pytest.mark.parametrize(
    ("env", "key", "said"),
    [
        ({"ADA_SUNSET__AT": "noon"}, "sunset.at", "'noon'"),
        ({"ADA_SUNSET__CAPACITY": "many"}, "sunset.capacity", "'many'"),
        ({"ADA_SUNSET__FOO": "1"}, "sunset.foo", "'1'"),
        ({"ADA_SUNSETT__AT": "1"}, "sunsett.at", "'1'"),
        ({"ADA_SUNSET__AT__HOUR": "1"}, "sunset.at", "'1'"),
        ({"ADA_SUNSET": '{"at": "03:00"}'}, "sunset", "03:00"),
    ],
)
def test_a_bad_variable_is_named_with_key_and_value(env: Mapping[str, str], key: str, said: str) -> None:
    with pytest.raises(BadSetting) as caught:
        load(Path("none.toml"), env)
    (variable,) = env
    assert caught.value.field == key
    assert said in caught.value.message
    assert f"environment variable {variable}" in caught.value.message


@pytest.mark.parametrize(
    ("flag", "value", "key"),
    [
        ("sunset.at", "noon", "sunset.at"),
        ("sunset.foo", "1", "sunset.foo"),
        ("sunsett.at", "1", "sunsett.at"),
        ("sunset", "1", "sunset"),
        ("sunset.at.hour", "1", "sunset.at.hour"),
    ],
)
def test_a_bad_flag_is_named_with_key_and_value(flag: str, value: str, key: str) -> None:
    with pytest.raises(BadSetting) as caught:
        load(Path("none.toml"), {}, {flag: value})
    assert caught.value.field == key
    assert repr(value) in caught.value.message
    assert f"flag --set {flag}" in caught.value.message


def test_the_origin_is_the_source_that_won(tmp_path: Path) -> None:
    file = _write(tmp_path, '[sunset]\nat = "03:00"\n')
    with pytest.raises(BadSetting, match="environment variable ADA_SUNSET__AT"):
        load(file, {"ADA_SUNSET__AT": "noon"})
    with pytest.raises(BadSetting, match="flag --set sunset.at"):
        load(file, {"ADA_SUNSET__AT": "04:00"}, {"sunset.at": "noon"})


WAYS = '''# a comment, then every way to write a key
sunset.at = "03:00"
sunset . "capacity" = 3

[recall]  # a table
top_k = 7
  min_similarity = 0.5
[mind]
id = """
long-name"""
[forge]
rank = 8
'''


def test_every_setting_tells_its_origin(tmp_path: Path) -> None:
    file = _write(tmp_path, WAYS)
    env = {"ADA_RECALL__TOP_K": "9", "ADA_FORGE__ALPHA": "3", "ADA_HOME": "elsewhere"}
    found = origins(file, env, {"forge.rank": "4"})
    assert list(found) == [f"{name}.{key}" for name, table in Settings() for key in type(table).model_fields]
    assert {key: at for key, at in found.items() if at.kind != "default"} == {
        "sunset.at": Origin("file", str(file), 2),
        "sunset.capacity": Origin("file", str(file), 3),
        "recall.min_similarity": Origin("file", str(file), 7),
        "mind.id": Origin("file", str(file), 9),
        "recall.top_k": Origin("environment", "ADA_RECALL__TOP_K"),
        "forge.alpha": Origin("environment", "ADA_FORGE__ALPHA"),
        "forge.rank": Origin("flag", "--set forge.rank"),
    }
    assert set(origins(tmp_path / "none", {}).values()) == {Origin("default")}
    inline = _write(tmp_path, 'sunset = { catch_up = true, at = "03:00" }\n')
    assert origins(inline, {})["sunset.at"].line == 1


def test_a_bad_value_is_told_with_its_line_and_a_bad_key_with_its_neighbour(tmp_path: Path) -> None:
    file = _write(tmp_path, '[sunset]\ncatch_up = true\nat = "3 pm"\n')
    with pytest.raises(BadSetting, match=f"{file}, line 3") as caught:
        load(file, env={})
    assert "Local time" in caught.value.hint
    assert "02:00" in caught.value.hint
    file = _write(tmp_path, "[sunset]\n\ncapactiy = 5\n")
    with pytest.raises(BadSetting, match=f"{file}, line 3") as caught:
        load(file, env={})
    assert "did you mean sunset.capacity?" in caught.value.hint


def test_home_is_ada_home_or_the_checkout(tmp_path: Path) -> None:
    assert home_root({"ADA_HOME": str(tmp_path)}) == tmp_path.resolve()
    assert home_root({}) == CHECKOUT
    home = Home(tmp_path, "ada")
    assert home.journal == tmp_path / "var" / "minds" / "ada" / "journal.db"
    assert home.socket(Settings().socket) == tmp_path / "var" / "run" / "ada.sock"


def test_importing_settings_leaves_the_loader_for_later() -> None:
    code = "import sys, ada_memory.settings; sys.exit('pydantic_settings' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
