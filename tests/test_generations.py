"""Generations on disk: whole or not there, and any change to them is seen."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ada_memory.errors import BadModel, NotFound
from ada_memory.records import Generation
from ada_memory.settings import Home, ModelSettings
from ada_memory.sovereign import generations
from ada_memory.sovereign.bases import Base, prepare_base
from tests.nights import make_package

AT = datetime(2026, 3, 1, 2, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def base(home: Home, tmp_path: Path) -> Base:
    return prepare_base(home, ModelSettings(), make_package(tmp_path / "package"))


def grow(home: Home, base: Base, weights: bytes = b"adapter", dataset: bytes = b"{}\n") -> Generation:
    """Write the next generation on the latest one."""
    name = generations.next_id(home)
    parent = generations.generation_name(generations.number(name) - 1)
    source = home.root / "trained"
    source.mkdir(exist_ok=True)
    (source / "adapter_model.safetensors").write_bytes(weights)
    (source / "adapter_config.json").write_text("{}", "utf-8")
    rows = home.root / "train.jsonl"
    rows.write_bytes(dataset)
    draft = Generation(name, parent, f"night-{name}", None, AT, "activate")
    return generations.write(home, draft, source, base, [rows])


def test_the_package_is_copied_under_its_own_hash(home: Home, tmp_path: Path) -> None:
    package = make_package(tmp_path / "package")
    base = prepare_base(home, ModelSettings(), package)
    assert base.path == home.bases / base.hash[:12]
    assert (base.path / "model.safetensors").read_bytes() == b"pristine"
    assert base.core == package / "data" / "core.jsonl"
    assert prepare_base(home, ModelSettings(), package) == base
    (package / "model" / "model.safetensors").write_bytes(b"upgraded")
    upgraded = prepare_base(home, ModelSettings(), package)
    assert upgraded.path != base.path and base.path.is_dir()


def test_a_copy_that_was_damaged_is_made_again(home: Home, tmp_path: Path) -> None:
    package = make_package(tmp_path / "package")
    base = prepare_base(home, ModelSettings(), package)
    (base.path / "model.safetensors").write_bytes(b"pristinE")
    assert prepare_base(home, ModelSettings(), package) == base
    assert (base.path / "model.safetensors").read_bytes() == b"pristine"


def test_a_local_folder_is_used_in_place(home: Home, tmp_path: Path) -> None:
    model = make_package(tmp_path / "mine") / "model"
    base = prepare_base(home, ModelSettings(name=str(model)))
    assert (base.path, base.core) == (model, None)
    assert not home.bases.exists()
    (model / ".DS_Store").write_text("no part of the model", "utf-8")
    assert prepare_base(home, ModelSettings(name=str(model))).hash == base.hash
    (model / "config.json").write_text('{"changed": 1}', "utf-8")
    assert prepare_base(home, ModelSettings(name=str(model))).hash != base.hash


@pytest.mark.parametrize("name", ["seedling-2", "/no/such/folder"])
def test_a_model_that_is_not_there(home: Home, name: str) -> None:
    with pytest.raises(BadModel, match="no model"):
        prepare_base(home, ModelSettings(name=name))


def test_a_folder_without_weights_is_no_model(home: Home, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="safetensors is missing"):
        prepare_base(home, ModelSettings(name=str(tmp_path)))


def test_a_generation_reads_as_it_was_written(home: Home, base: Base) -> None:
    written = grow(home, base)
    assert written == generations.read(home, "gen-0001")
    assert (written.parent, written.night, written.verdict) == ("gen-0000", "night-gen-0001", "activate")
    assert written.created_at == AT and written.adapter is not None
    assert generations.next_id(home) == "gen-0002"
    key = home.generations / "gen-0001" / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_writing_again_changes_nothing_and_another_night_may_not(home: Home, base: Base) -> None:
    written = grow(home, base)
    source = home.root / "trained"
    assert generations.write(home, written, source, base) == written
    other = Generation("gen-0001", "gen-0000", "another", None, AT)
    with pytest.raises(BadModel, match="belongs to night"):
        generations.write(home, other, source, base)


def test_an_adapter_without_weights_is_refused(home: Home, base: Base, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(BadModel, match="no adapter weights"):
        generations.write(home, Generation("gen-0001", "gen-0000", "n", None, AT), empty, base)
    with pytest.raises(NotFound):
        generations.read(home, "gen-0001")


@pytest.mark.parametrize("file", ["adapter/adapter_model.safetensors", "adapter/adapter_config.json"])
def test_a_changed_adapter_is_seen(home: Home, base: Base, file: str) -> None:
    grow(home, base)
    (home.generations / "gen-0001" / file).write_bytes(b"other")
    with pytest.raises(BadModel, match="damaged"):
        generations.read(home, "gen-0001")


def test_a_changed_manifest_is_seen(home: Home, base: Base) -> None:
    grow(home, base)
    path = home.generations / "gen-0001" / "manifest.json"
    body = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**body, "verdict": "reduced"}), "utf-8")
    with pytest.raises(BadModel, match="changed after it was written"):
        generations.read(home, "gen-0001")
    path.write_text("{", "utf-8")
    with pytest.raises(BadModel, match="damaged"):
        generations.read(home, "gen-0001")


def test_the_chain_holds_without_keys_and_the_data_cannot_be_guessed(home: Home, base: Base) -> None:
    grow(home, base)
    grow(home, base)
    first, second = (generations.manifest(home, name) for name in ("gen-0001", "gen-0002"))
    assert first["parent_commitment"] == base.hash
    assert second["parent_commitment"] == first["commitment"]
    assert first["dataset"] != second["dataset"], "the same rows under another key"
    generations.destroy_key(home, "gen-0001")
    assert not (home.generations / "gen-0001" / "key").exists()
    assert generations.manifest(home, "gen-0001") == first


def test_the_base_serves_until_a_pointer_says_otherwise(home: Home, base: Base) -> None:
    assert generations.active(home) == "gen-0000"
    assert generations.serving(home, base, "gen-0000") == generations.Serving("gen-0000", base.path, None)
    grow(home, base)
    generations.activate_pointer(home, "gen-0001")
    assert generations.active(home) == "gen-0001"
    (home.mind / "active").write_text("gen-1; rm", "utf-8")
    with pytest.raises(BadModel, match="damaged"):
        generations.active(home)


def test_merged_weights_serve_where_they_are_whole(home: Home, base: Base, tmp_path: Path) -> None:
    grow(home, base)
    adapter = home.generations / "gen-0001" / "adapter"
    plain = generations.Serving("gen-0001", base.path, adapter)
    assert generations.serving(home, base, "gen-0001") == plain
    generations.cache_merged(home, "gen-0001", make_package(tmp_path / "merged") / "model")
    merged = home.merged / "gen-0001"
    assert generations.serving(home, base, "gen-0001") == generations.Serving("gen-0001", merged, None)
    (merged / "model.safetensors").unlink()
    assert generations.serving(home, base, "gen-0001") == plain
    generations.drop_merged(home, "gen-0000")
    assert not merged.exists()


def test_a_generation_does_not_serve_on_another_base(home: Home, base: Base) -> None:
    grow(home, base)
    other = Base(base.path, "0" * 64, None, None)
    with pytest.raises(BadModel, match="another base"):
        generations.serving(home, other, "gen-0001")


@pytest.mark.parametrize("name", ["gen-1", "gen-00001", "../gen-0001", "gen-", "gen-0009"])
def test_what_is_no_generation(home: Home, name: str) -> None:
    with pytest.raises(NotFound):
        generations.read(home, name)


def test_leftovers_of_a_crash_are_in_nobodys_way(home: Home, base: Base) -> None:
    leftover = home.generations / ".tmp-gen-0001" / "adapter"
    leftover.mkdir(parents=True)
    (leftover / "half").write_text("", "utf-8")
    assert generations.next_id(home) == "gen-0001"
    grow(home, base)
    assert sorted(p.name for p in home.generations.iterdir()) == ["gen-0001"]
    assert not (home.generations / "gen-0001" / "adapter" / "half").exists()
