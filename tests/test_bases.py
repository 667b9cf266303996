"""Untouched models under the home: by their content, whole, never changed under a mind that grew on one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

from ada_memory.engines.engine import Hardware, open_engine
from ada_memory.errors import BadModel, NotFound
from ada_memory.records import Generation
from ada_memory.settings import CHECKOUT, Home, ModelSettings
from ada_memory.sovereign import bases, general, generations, shelf
from ada_memory.sovereign.bases import Base, prepare_base, verify_base
from tests.models import QUESTIONS, chat, tiny_model
from tests.nights import make_package

SEEDLING = ModelSettings()
AT = datetime(2026, 3, 1, 2, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return make_package(tmp_path / "package")


def named(folder: Path | str) -> ModelSettings:
    return ModelSettings(name=str(folder))


def grow(home: Home, base: Base, adapter: Path | None = None) -> Generation:
    """The next generation on what serves, put in place."""
    name, parent = generations.next_id(home), generations.active(home)
    if adapter is None:
        adapter = home.root / "trained"
        adapter.mkdir(exist_ok=True)
        (adapter / "adapter_model.safetensors").write_bytes(name.encode())
    made = Generation(name, parent, f"night-{name}", None, AT, "activate")
    written = generations.write(home, made, adapter, base)
    generations.activate_pointer(home, name)
    return written


def upgrade(package: Path, weights: bytes = b"another seedling") -> None:
    """What an update of the package may bring: other weights, another core and exam."""
    (package / "model" / "model.safetensors").write_bytes(weights)
    (package / "data" / "core.jsonl").write_text('{"another": "core"}\n', "utf-8")


# What lies where --------------------------------------------------------------------------------------


def test_the_seedling_lies_under_its_hash_with_its_core_and_exam(home: Home, package: Path) -> None:
    base = prepare_base(home, SEEDLING, package)
    assert (base.path, base.name) == (home.bases / base.hash[:12], "seedling-2")
    assert (base.path / "model.safetensors").read_bytes() == b"pristine"
    assert (base.core, base.exam) == (base.path / "core.jsonl", base.path / "exam.jsonl")
    assert (base.path / "exam.jsonl").read_bytes() == (package / "data" / "exam.jsonl").read_bytes()
    assert prepare_base(home, SEEDLING, package) == base
    verify_base(home, base)


def test_a_folder_brings_its_own_core_and_exam(home: Home, tmp_path: Path) -> None:
    model = make_package(tmp_path / "mine") / "model"
    bare = prepare_base(home, named(model))
    assert (bare.core, bare.exam) == (general.CORE, general.EXAM), "what it lacks is general"
    (model / "core.jsonl").write_text("{}\n", "utf-8")
    (model / "exam.jsonl").write_text("{}\n", "utf-8")
    base = prepare_base(home, named(model))
    assert base.core == base.path / "core.jsonl" and base.exam == base.path / "exam.jsonl"
    (model / "core.jsonl").write_text('{"better": 1}\n', "utf-8")
    again = prepare_base(home, named(model))
    assert again == base, "a better core is no other model"
    assert base.core.read_text("utf-8") == '{"better": 1}\n'
    verify_base(home, base)


def test_a_folder_is_copied_and_later_changes_to_it_are_another_base(home: Home, tmp_path: Path) -> None:
    model = make_package(tmp_path / "mine") / "model"
    base = prepare_base(home, named(model))
    assert base.path.parent == home.bases and base.name == str(model)
    for name in (".DS_Store", "README.md", "pytorch_model.bin"):
        (model / name).write_text("nothing that an engine loads", "utf-8")
    assert prepare_base(home, named(model)).hash == base.hash
    assert sorted(path.name for path in base.path.iterdir()) == ["config.json", "model.safetensors"]
    (model / "config.json").write_text('{"changed": 1}', "utf-8")
    assert prepare_base(home, named(model)).hash != base.hash
    assert base.path.is_dir()


def test_one_content_is_kept_once_whatever_it_is_called(home: Home, tmp_path: Path) -> None:
    first = make_package(tmp_path / "a") / "model"
    second = tmp_path / "b"
    shutil.copytree(first, second)
    assert prepare_base(home, named(first)).path == prepare_base(home, named(second)).path
    assert len(list(home.bases.glob("*.json"))) == 1


def test_a_base_outlives_its_source_and_goes_by_its_hash(home: Home, tmp_path: Path) -> None:
    model = make_package(tmp_path / "mine") / "model"
    base = prepare_base(home, named(model))
    (model / "config.json").write_text('{"newer": 1}', "utf-8")
    os.utime(model / "config.json", (2e9, 2e9))
    base = prepare_base(home, named(model))
    shutil.rmtree(model)
    assert prepare_base(home, named(model)) == base, "the latest that came from there"
    assert prepare_base(home, named(base.hash[:12])) == base
    shutil.rmtree(home.bases)
    for name in (str(model), base.hash[:12]):
        with pytest.raises(BadModel, match="no model"):
            prepare_base(home, named(name))


@pytest.mark.parametrize("name", ["seedling-9", "/no/such/folder", "0123456789ab"])
def test_a_model_that_is_not_there(home: Home, name: str) -> None:
    with pytest.raises(BadModel, match="no model"):
        prepare_base(home, named(name))


def test_a_folder_without_weights_is_no_model(home: Home, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="safetensors is missing"):
        prepare_base(home, named(tmp_path))


def test_a_model_that_does_not_fit_is_not_begun(home: Home, tmp_path: Path) -> None:
    model = make_package(tmp_path / "huge") / "model"
    with (model / "model.safetensors").open("wb") as file:
        file.truncate(8 << 40)  # a hole: eight terabytes that take no room here
    with pytest.raises(BadModel, match=r"needs 8796\.1 GB, and .* are free") as caught:
        prepare_base(home, named(model))
    assert "make room" in caught.value.hint
    assert [path for path in home.bases.iterdir() if not path.name.startswith(".lock")] == []


def test_a_home_that_cannot_be_written_says_so(home: Home, package: Path) -> None:
    home.bases.parent.mkdir(parents=True)
    home.bases.write_text("a file where a folder should be", "utf-8")
    with pytest.raises(BadModel, match="seedling-2 cannot be prepared") as caught:
        prepare_base(home, SEEDLING, package)
    assert str(home.bases) in caught.value.hint


# Trust ------------------------------------------------------------------------------------------------


def test_what_looks_as_it_did_is_not_read_again(home: Home, package: Path) -> None:
    base = prepare_base(home, SEEDLING, package)
    weights = base.path / "model.safetensors"
    before = weights.stat()
    weights.write_bytes(b"pristinE")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert prepare_base(home, SEEDLING, package) == base, "size and time are all that a start looks at"
    with pytest.raises(BadModel, match="not what it was"):
        verify_base(home, base)


def test_a_file_that_was_only_touched_is_read_once(home: Home, package: Path) -> None:
    base = prepare_base(home, SEEDLING, package)
    record = home.bases / f"{base.path.name}.json"
    before = record.read_bytes()
    os.utime(base.path / "model.safetensors", (1, 1))
    assert prepare_base(home, SEEDLING, package) == base
    assert record.read_bytes() != before
    assert json.loads(record.read_text("utf-8"))["files"]["model.safetensors"][1] == 1_000_000_000


@pytest.mark.parametrize("damage", ["changed", "gone", "added"])
def test_a_damaged_copy_is_made_again_from_its_source(home: Home, package: Path, damage: str) -> None:
    base = prepare_base(home, SEEDLING, package)
    grow(home, base)
    file = base.path / "model.safetensors"
    if damage == "gone":
        file.unlink()
    else:
        (file if damage == "changed" else base.path / "extra.json").write_bytes(b"pristinE")
    assert prepare_base(home, SEEDLING, package) == base
    verify_base(home, base)


def test_a_damaged_copy_whose_source_has_gone_on_is_refused(home: Home, package: Path) -> None:
    base = prepare_base(home, SEEDLING, package)
    grow(home, base)
    upgrade(package)
    (base.path / "model.safetensors").write_bytes(b"pristinE")
    with pytest.raises(BadModel, match="not what it was when it was put there") as caught:
        prepare_base(home, SEEDLING, package)
    assert "remove it" in caught.value.hint
    shutil.rmtree(base.path)  # the mend that it names
    fresh = prepare_base(home, SEEDLING, package)
    assert fresh.hash != base.hash
    with pytest.raises(BadModel, match="another base"):
        generations.serving(home, fresh, "gen-0001")


def test_a_record_that_was_lost_is_made_again(home: Home, package: Path) -> None:
    base = prepare_base(home, SEEDLING, package)
    grow(home, base)
    upgrade(package)
    record = home.bases / f"{base.path.name}.json"
    for broken in (None, "{", '{"hash": 1}'):
        record.unlink() if broken is None else record.write_text(broken, "utf-8")
        assert prepare_base(home, SEEDLING, package).hash == base.hash
        assert json.loads(record.read_text("utf-8"))["hash"] == base.hash


# A mind stays on what it grew on ----------------------------------------------------------------------


def adapter_of(base: Path, folder: Path, seed: int) -> Path:
    """A PEFT adapter that changes what the model says."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        adapted = get_peft_model(LlamaForCausalLM.from_pretrained(base), config)
    adapted.save_pretrained(str(folder))
    return folder


def says(serving: generations.Serving) -> list[bytes]:
    engine = open_engine("peft", serving.model, serving.adapter, Hardware("cpu", "float32", 1))
    return [row.tobytes() for row in engine.distributions([chat(question) for question in QUESTIONS])]


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # peft asks transformers so
def test_five_generations_survive_another_seedling(home: Home, tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "data").mkdir(parents=True)
    (package / "data" / "core.jsonl").write_text("{}\n", "utf-8")
    tiny_model(package / "model")
    base = prepare_base(home, SEEDLING, package)
    for seed in range(5):
        grow(home, base, adapter_of(base.path, tmp_path / f"adapter{seed}", seed))
    before = {name: says(generations.serving(home, base, name)) for name in ("gen-0000", "gen-0005")}

    shutil.rmtree(package / "model")
    tiny_model(package / "model", seed=1)
    (package / "data" / "core.jsonl").write_text('{"another": "core"}\n', "utf-8")
    pinned = prepare_base(home, SEEDLING, package)
    assert pinned == base
    assert pinned.core is not None and pinned.core.read_text("utf-8") == "{}\n", "a core stays with its model"
    assert generations.verify_chain(home, "gen-0005", pinned.hash)[-1] == "gen-0000"
    for name, said in before.items():
        assert says(generations.serving(home, pinned, name)) == said
    grow(home, pinned, tmp_path / "adapter0")
    assert prepare_base(home, SEEDLING, package) == base


def test_a_mind_without_generations_takes_the_new_seedling(home: Home, package: Path) -> None:
    base = prepare_base(home, SEEDLING, package)
    upgrade(package)
    assert prepare_base(home, SEEDLING, package).hash != base.hash


def test_a_reset_lets_go_of_the_old_seedling_and_its_hash_leads_back(home: Home, package: Path) -> None:
    old = prepare_base(home, SEEDLING, package)
    grow(home, old)
    upgrade(package)
    generations.activate_pointer(home, "gen-0000")
    new = prepare_base(home, SEEDLING, package)
    assert new.hash != old.hash
    with pytest.raises(BadModel, match=rf"another base \(seedling-2, {old.hash[:12]}\)") as caught:
        generations.serving(home, new, "gen-0001")
    assert f"set model.name to {old.hash[:12]}" in caught.value.hint
    back = prepare_base(home, named(old.hash[:12]), package)
    assert back == old, "by its real name, so that what grows on it is still a seedling's"
    assert generations.serving(home, back, "gen-0001").model == old.path


def test_another_model_by_name_is_another_base(home: Home, package: Path, tmp_path: Path) -> None:
    seedling = prepare_base(home, SEEDLING, package)
    grow(home, seedling)
    model = make_package(tmp_path / "mine") / "model"
    (model / "config.json").write_text('{"mine": 1}', "utf-8")
    mine = prepare_base(home, named(model))
    assert mine.hash != seedling.hash
    assert generations.read(home, "gen-0001").parent == "gen-0000", "what grew before stays"
    generations.activate_pointer(home, "gen-0000")
    grow(home, mine)
    (model / "config.json").write_text('{"mine": 2}', "utf-8")
    assert prepare_base(home, named(model)) == mine, "the folder has changed, not what the mind grew on"
    assert prepare_base(home, SEEDLING, package) == seedling


def test_a_seedling_that_was_installed_again_brings_its_core(home: Home, package: Path) -> None:
    base = prepare_base(home, SEEDLING, package)
    grow(home, base)
    os.utime(package / "model" / "model.safetensors", (1, 1))
    (package / "data" / "core.jsonl").write_text('{"better": 1}\n', "utf-8")
    again = prepare_base(home, SEEDLING, package)
    assert again == base
    assert base.core is not None and base.core.read_text("utf-8") == '{"better": 1}\n'


# Crashes and company ----------------------------------------------------------------------------------


def test_what_a_crash_left_is_swept_and_downloads_wait(home: Home, package: Path) -> None:
    base = prepare_base(home, SEEDLING, package)
    half = [home.bases / name for name in (".copy-seedling-2", ".copy-other--model")]
    half += [home.bases / ".tmp-gone-0123456789ab", base.path / ".tmp-core.jsonl", home.bases / ".tmp-x.json"]
    for path in half:
        path.mkdir() if "copy" in path.name or "gone" in path.name else path.write_text("", "utf-8")
    partial = shelf.download_folder(home, "other/model")
    partial.mkdir()
    assert prepare_base(home, SEEDLING, package) == base
    assert [path for path in half if path.exists()] == []
    assert partial.is_dir()


def test_a_copy_that_another_process_makes_is_left_alone(home: Home, package: Path) -> None:
    with shelf.alone(home, "other/model"):
        copy = home.bases / ".copy-other--model"
        copy.mkdir()
        prepare_base(home, SEEDLING, package)
        assert copy.is_dir()


def test_a_download_is_renamed_to_its_hash(home: Home, tmp_path: Path) -> None:
    partial = shelf.download_folder(home, "owner/model")
    shutil.copytree(make_package(tmp_path / "hub") / "model", partial)
    (partial / ".cache" / "huggingface").mkdir(parents=True)
    (partial / "core.jsonl").write_text("{}\n", "utf-8")
    entry = shelf.adopt(home, "owner/model", partial)
    assert not partial.exists()
    base = prepare_base(home, named("owner/model"))
    assert (base.hash, base.path) == (entry.hash, home.bases / entry.hash[:12])
    assert base.core == base.path / "core.jsonl"
    assert not (base.path / ".cache").exists()


CROWD = """
import sys
from pathlib import Path
from ada_memory.settings import Home, ModelSettings
from ada_memory.sovereign.bases import prepare_base, verify_base
sys.stdin.readline()
for _ in range(20):
    home = Home(Path(sys.argv[1]))
    verify_base(home, prepare_base(home, ModelSettings(name=sys.argv[2])))
"""


def test_daemons_that_prepare_one_base_at_once_agree(home: Home, tmp_path: Path) -> None:
    first = make_package(tmp_path / "a") / "model"
    (first / "model.safetensors").write_bytes(os.urandom(5_000_000))
    second = tmp_path / "b"
    shutil.copytree(first, second)
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, str(home.root), str(name)], stdin=subprocess.PIPE, cwd=CHECKOUT
        )
        for name in (first, second, first, second)
    ]
    for process in crowd:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(60) for process in crowd] == [0] * 4
    [record] = home.bases.glob("*.json")
    assert set(json.loads(record.read_text("utf-8"))["sources"]) == {str(first), str(second)}
    assert list(home.bases.glob(".copy-*")) == []


def test_a_manifest_that_cannot_be_read_holds_nothing_up(home: Home, package: Path) -> None:
    base = prepare_base(home, SEEDLING, package)
    grow(home, base)
    (home.generations / "gen-0001" / "manifest.json").write_text("{", "utf-8")
    assert prepare_base(home, SEEDLING, package) == base
    (home.mind / "active").write_text("nonsense", "utf-8")
    assert prepare_base(home, SEEDLING, package) == base
    with pytest.raises(NotFound):
        generations.read(home, "gen-0002")


def test_the_seedling_that_ships_is_a_base(home: Home) -> None:
    base = prepare_base(home, SEEDLING)
    assert base.core is not None and base.exam is not None
    assert base.hash == bases.model_hash(bases.PACKAGE / "model")
