"""`ada model`: what is looked at before it is used, what is written, what becomes of what was learned."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ada_memory.cli.app import main
from ada_memory.engines.engine import has_mlx
from ada_memory.errors import BadModel, BadSetting
from ada_memory.settings import Home, ModelSettings, Settings
from ada_memory.sovereign import choosing, generations, lines, moving
from ada_memory.sovereign.bases import prepare_base
from tests import architectures
from tests.models import packed
from tests.nights import Mind, make_package, whole_night


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return architectures.make("qwen3", tmp_path_factory.mktemp("qwen3"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


# --- the plan --------------------------------------------------------------------------------------------


def test_a_folder_is_looked_at_and_nothing_is_changed(home: Home, qwen: Path) -> None:
    plan = choosing.plan(home, Settings(), str(qwen))
    assert (plan.where, plan.architecture, plan.engine) == ("folder", "Qwen3ForCausalLM", "peft")
    assert plan.context == 512 and plan.parameters == choosing.parameters(qwen) > 10_000
    assert plan.download == 0 and plan.disk > 3 * plan.parameters * 2 and plan.problems == ()
    assert 0 < plan.serve < plan.train < plan.memory_free
    assert plan.minutes is None and not home.root.exists()


@pytest.mark.skipif(not has_mlx(), reason="MLX is made for Apple silicon and Linux, and is not here")
def test_a_packed_model_is_as_large_as_what_serves_of_it(home: Home, qwen: Path, tmp_path: Path) -> None:
    small = packed(qwen, tmp_path / "packed")
    plain, plan = (choosing.plan(home, Settings(), str(folder)) for folder in (qwen, small))
    assert plan.parameters == plain.parameters == int(choosing.parameters(qwen))
    assert (plan.engine, plan.problems) == ("mlx", ())
    assert plan.serve == plain.serve and plan.disk > 3 * plan.serve


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model_type": "bert"}, "no engine here runs it"),
        ({"quantization_config": {"quant_method": "gptq"}}, "packed by another tool"),
        ("chat_template.jinja", "no chat template"), ("tokenizer.json", "no tokenizer"),
        ("model.safetensors", "no safetensors weights"), ("config.json", "no config.json"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_said_before_anything_is_done(
    home: Home, qwen: Path, tmp_path: Path, change: str | dict[str, Any], why: str
) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    for path in qwen.iterdir():
        if path.name != change:
            os.link(path, folder / path.name)
    if isinstance(change, dict):
        body = json.loads((folder / "config.json").read_text("utf-8"))
        (folder / "config.json").unlink()
        (folder / "config.json").write_text(json.dumps(body | change), "utf-8")
    plan = choosing.plan(home, Settings(), str(folder))
    assert len(plan.problems) == 1 and why in plan.problems[0]


def test_what_is_no_model_at_all(home: Home) -> None:
    with pytest.raises(BadModel, match="there is no model"):
        choosing.plan(home, Settings(), "no model of this name")


@pytest.mark.parametrize(("engine", "there", "why"), [
    ("mlx", True, "the mlx engine does not read"), ("peft", False, "needs bitsandbytes"), ("peft", True, ""),
])  # fmt: skip
def test_what_cannot_be_packed_is_refused_before_it_starts(
    home: Home, qwen: Path, monkeypatch: pytest.MonkeyPatch, engine: str, there: bool, why: str
) -> None:
    monkeypatch.setattr(choosing, "find_spec", lambda name: object() if there else None)
    plan = choosing.plan(home, Settings(model={"engine": engine, "dtype": "nf4"}), str(qwen))
    assert [why in problem for problem in plan.problems] == ([True] if why else [])


# --- the hub ---------------------------------------------------------------------------------------------


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as looking at a model and fetching it needs."""

    folder: Path

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/o/m/tree/"):
            rows = [
                {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": p.name}
                for p in sorted(self.folder.iterdir())
            ]
            return self._send(json.dumps(rows).encode(), body, {"content-type": "application/json"})
        if path.startswith("/api/models/o/m"):
            names = [{"rfilename": p.name, "size": p.stat().st_size} for p in sorted(self.folder.iterdir())]
            said = {"id": "o/m", "modelId": "o/m", "sha": "a" * 40, "siblings": names, "private": False}
            return self._send(json.dumps(said).encode(), body, {"content-type": "application/json"})
        file = self.folder / path.rpartition("/")[2]
        if path.startswith("/o/m/resolve/") and file.is_file():
            return self._send(file.read_bytes(), body, {"ETag": f'"{file.name}"', "X-Repo-Commit": "a" * 40})
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("content-length", "0")
        self.end_headers()

    def _send(self, data: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in {"content-length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)


@pytest.fixture
def hub(qwen: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (Hub,), {"folder": qwen}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def ada(home: Home, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the hub's client reads its environment when it is imported."""
    hidden = ("ADA_", "HF_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    command = [sys.executable, "-m", "ada_memory.cli", "--home", str(home.root), "model", *words]
    return subprocess.run(
        command, env={**env, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_model_of_the_hub_is_weighed_then_fetched(home: Home, hub: str, qwen: Path, tmp_path: Path) -> None:
    edge = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    looked = ada(home, "use", "o/m", "--json", **edge)
    assert looked.returncode == 0, looked.stderr
    plan = json.loads(looked.stdout)
    assert plan["where"] == "hub" and plan["download"] >= (qwen / "model.safetensors").stat().st_size
    assert not (home.bases).exists(), "looking fetches no weights"
    done = ada(home, "use", "o/m", "--yes", "--json", **edge)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    base = home.bases / made["hash"][:12]
    assert (base / "model.safetensors").read_bytes() == (qwen / "model.safetensors").read_bytes()
    assert tomllib.loads((home.etc / "ada.toml").read_text("utf-8"))["model"]["name"] == "o/m"
    gone = ada(home, "use", "o/gone", "--json", **edge)
    assert gone.returncode == 1 and "o/gone could not be fetched" in gone.stderr and "do:" in gone.stderr
    offline = ada(home, "use", "p/q", "--json", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hf"))
    assert offline.returncode == 1 and "p/q could not be fetched" in offline.stderr


# --- the setting -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[model]\nname = "a/b"\n'),
        ("# mine\n[model]\n# the name\n#name = \"seedling-2\"\nthreads = 2 # two\n\n[dream]\n#name = 1\n",
         '# mine\n[model]\n# the name\nname = "a/b"\nthreads = 2 # two\n\n[dream]\n#name = 1\n'),
        ('[embedder]\nname = "x"\n[model] # here\nname = "old"\n',
         '[embedder]\nname = "x"\n[model] # here\nname = "a/b"\n'),
        ("[model]\nthreads = 1\n", '[model]\nname = "a/b"\nthreads = 1\n'),
        ('[embedder]\nname = "x"\n', '[embedder]\nname = "x"\n\n[model]\nname = "a/b"\n'),
    ],
)  # fmt: skip
def test_one_line_of_the_settings_changes(tmp_path: Path, before: str, after: str) -> None:
    file = tmp_path / "ada.toml"
    file.write_text(before, "utf-8")
    moving.write_name(file, "a/b")
    assert file.read_text("utf-8") == after


@pytest.mark.parametrize("text", ['model = {threads = 1}\n', 'model.name = "old"\n', "[model\n"])
def test_settings_that_one_line_cannot_change_stay(tmp_path: Path, text: str) -> None:
    file = tmp_path / "ada.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(BadSetting):
        moving.write_name(file, "a/b")
    assert file.read_text("utf-8") == text


# --- another base ----------------------------------------------------------------------------------------


def test_what_was_learned_is_learned_anew_on_another_base_and_the_way_back_is_open(tmp_path: Path) -> None:
    mind = Mind(tmp_path)
    told = mind.say("My dog is called Rex.")
    asyncio.run(whole_night(mind))
    assert generations.active(mind.home) == "gen-0001"
    other = make_package(tmp_path / "other") / "model"
    (other / "model.safetensors").write_bytes(b"another model")
    first, second = mind.base, prepare_base(mind.home, ModelSettings(name=str(other)))

    assert lines.choose(mind.home, first.hash, second.hash) == "gen-0000"
    assert lines.change(mind.home, mind.journal, first, lambda: mind.now) is None, "another base was prepared"
    assert lines.change(mind.home, mind.journal, second, lambda: mind.now) == "gen-0000"
    assert lines.change(mind.home, mind.journal, second, lambda: mind.now) is None, "once is enough"
    mind.base = second
    night = asyncio.run(whole_night(mind))
    gathered = (mind.night(night) / "gather" / "memories.jsonl").read_text("utf-8")
    assert told in gathered and generations.active(mind.home) == "gen-0002"
    assert generations.serving(mind.home, second, "gen-0002")

    assert lines.choose(mind.home, second.hash, first.hash) == "gen-0001"
    assert lines.change(mind.home, mind.journal, first, lambda: mind.now) == "gen-0001"
    assert generations.serving(mind.home, first, "gen-0001")
    assert [row[0] for row in mind.journal.activations(9)] == ["gen-0001", "gen-0002", "gen-0000", "gen-0001"]
    assert lines.choose(mind.home, first.hash, second.hash) == "gen-0002"


def test_a_choice_can_be_taken_back_before_it_is_carried_out(home: Home) -> None:
    lines.choose(home, "a" * 64, "b" * 64)
    assert lines.is_pending(home) == "b" * 64
    lines.choose(home, "a" * 64, "c" * 64)
    lines.choose(home, "c" * 64, "a" * 64)
    assert lines.is_pending(home) == ""


def test_the_commands(home: Home, qwen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--home", str(home.root), "model"]
    assert main([*at, "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["generation"] == "gen-0000" and shown["base"] == "seedling-2" and shown["context"] == 1024
    assert main([*at, "use", str(qwen), "--yes"]) == 0
    assert "gen-0000 serves once the daemon starts again" in capsys.readouterr().out
    assert main([*at, "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["architecture"] == "Qwen3ForCausalLM" and shown["after_restart"] == shown["hash"]
    assert main([*at, "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["bases"]
    assert {row["used"] for row in rows} == {True, False} and len(rows) == 2
    assert main([*at, "use", str(home.root / "none")]) == 1
