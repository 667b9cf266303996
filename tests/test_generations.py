"""Generations on disk: whole or not there, and any change to them is seen."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ada_memory.errors import BadModel, NotFound
from ada_memory.records import Generation
from ada_memory.settings import Home, ModelSettings
from ada_memory.sovereign import generations, manifests
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
    assert generations.verify_chain(home, "gen-0002", base.hash) == ["gen-0002", "gen-0001", "gen-0000"]
    for name in ("gen-0001", "gen-0002"):
        generations.destroy_key(home, name)
        assert not (home.generations / name / "key").exists()
    assert generations.manifest(home, "gen-0001") == first
    assert generations.verify_chain(home, "gen-0002", base.hash)[-1] == "gen-0000"


def test_a_guess_at_the_dataset_can_be_tested_with_the_key_alone(home: Home, base: Base) -> None:
    said = b'{"messages": "My dog is called Bruno."}\n'
    grow(home, base, dataset=said)
    body = (home.generations / "gen-0001" / "manifest.json").read_text("utf-8")
    rows = hashlib.sha256(said).hexdigest()
    listing = f"train.jsonl\0{rows}\n".encode()
    for guess in (rows, hashlib.sha256(listing).hexdigest(), hashlib.sha256(said.strip()).hexdigest()):
        assert guess not in body
    key = bytes.fromhex((home.generations / "gen-0001" / "key").read_text("utf-8"))
    keyed = hmac.new(key, listing, "sha256").hexdigest()
    assert generations.manifest(home, "gen-0001")["dataset"] == keyed, "with the key it can be checked"


def reseal(home: Home, name: str, **changed: object) -> None:
    """Change a manifest as somebody would who knows how it is sealed."""
    path = home.generations / name / "manifest.json"
    body = {**json.loads(path.read_text("utf-8")), **changed}
    del body["commitment"]
    path.write_text(json.dumps({**body, "commitment": manifests.sealed(body)}), "utf-8")


def test_a_link_that_was_changed_and_sealed_again_breaks_the_chain(home: Home, base: Base) -> None:
    for _ in range(3):
        grow(home, base)
    reseal(home, "gen-0002", verdict="reduced")
    assert generations.manifest(home, "gen-0002")["verdict"] == "reduced", "it is sound in itself"
    with pytest.raises(BadModel, match=r"breaks at gen-0002: its child was grown on another version"):
        generations.verify_chain(home, "gen-0003", base.hash)
    assert generations.verify_chain(home, "gen-0001", base.hash) == ["gen-0001", "gen-0000"]


def test_a_chain_ends_on_its_base_and_never_turns(home: Home, base: Base) -> None:
    grow(home, base)
    grow(home, base)
    with pytest.raises(BadModel, match="another base"):
        generations.verify_chain(home, "gen-0002", "0" * 64)
    reseal(home, "gen-0001", parent_commitment="0" * 64)
    with pytest.raises(BadModel, match="breaks at gen-0000: gen-0001 was grown on another base"):
        generations.verify_chain(home, "gen-0001")
    reseal(home, "gen-0001", parent="gen-0002")
    with pytest.raises(BadModel, match="no older"):
        generations.verify_chain(home, "gen-0001")
    shutil.rmtree(home.generations / "gen-0001")
    with pytest.raises(BadModel, match="breaks at gen-0001: it is gone"):
        generations.verify_chain(home, "gen-0002")
    with pytest.raises(NotFound):
        generations.verify_chain(home, "gen-0009")
    assert generations.verify_chain(home, "gen-0000", base.hash) == ["gen-0000"]


def test_the_core_that_was_replayed_is_named(home: Home, base: Base) -> None:
    grow(home, base)
    assert generations.manifest(home, "gen-0001")["core"] is None
    assert base.core is not None
    draft = Generation("gen-0002", "gen-0001", "n", None, AT)
    generations.write(home, draft, home.root / "trained", base, (), base.core)
    named = generations.manifest(home, "gen-0002")["core"]
    assert named == hashlib.sha256(base.core.read_bytes()).hexdigest()


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
