"""The families that people run, with small random weights, through everything that a model goes through here.

They cannot dream, so dreams are written by rote (`ada_memory.bench.drill_stages`); the rest is real.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import transformers

from ada_memory.bench import drill_stages, kills
from ada_memory.bench.house import House, launch, stop, wait_awake
from ada_memory.circadian.bundle import Done, NightBundle, begin, finish
from ada_memory.client import Client
from ada_memory.engines.engine import Hardware, Sampling, Step, TrainPlan, open_engine
from ada_memory.engines.peft import PeftEngine
from ada_memory.engines.text import Wording
from ada_memory.records import Chat, Message, Sample
from ada_memory.service import voice
from ada_memory.settings import Home, ModelSettings, Settings, load
from ada_memory.sovereign.bases import prepare_base
from ada_memory.sovereign.disk import write_lines
from tests import architectures
from tests.architectures import NAMES
from tests.daemons import short_folder

HF: Any = transformers
EXACT = Hardware(device="cpu", dtype="float32")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LONG = "Who are you, then? Where does Anna live and what is my dog called? I work as a baker in Lisbon."
DAY = ("My dog is called Rex and he is brown.", "Anna moved to Lisbon last year.", "I work as a baker.")


def said(*turns: tuple[Any, str]) -> Chat:
    return tuple(Message(role, text) for role, text in turns)


CHATS = [
    said(("user", "Who?")), said(("user", LONG)), said(("user", "Hi"), ("assistant", "me"), ("user", "And?")),
    said(("system", "Memories:\n- Anna is a baker."), ("user", "What is Anna?")), said(("user", "Who?")),
]  # fmt: skip
REPLIES = ["Ada", "I am Ada, a small model.", "x", "a baker", "Rex"]


@pytest.fixture(scope="module", params=NAMES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A name and the folder of its model."""
    name: str = request.param
    return name, architectures.make(name, tmp_path_factory.mktemp(name))


@pytest.fixture(scope="module")
def engine(family: tuple[str, Path]) -> PeftEngine:
    return PeftEngine(family[1], None, EXACT)


@pytest.fixture(scope="module")
def wording(family: tuple[str, Path]) -> Wording:
    tokenizer = HF.AutoTokenizer.from_pretrained(family[1])
    return Wording(tokenizer, architectures.stops(family[1]), 512)


@pytest.fixture(scope="module")
def by_hand(family: tuple[str, Path]) -> Any:
    """The model as transformers loads it, with the attention that its authors wrote."""
    return HF.AutoModelForCausalLM.from_pretrained(
        family[1], dtype=torch.float32, attn_implementation="eager"
    ).eval()


@torch.no_grad()
def test_scores_of_a_batch_are_those_of_each_row_alone(
    engine: PeftEngine, wording: Wording, by_hand: Any
) -> None:
    scores = engine.score(CHATS, REPLIES)
    for row, score in zip(wording.rows(CHATS, REPLIES), scores, strict=True):
        logs = by_hand(torch.tensor([row.prompt + row.reply])).logits[0].log_softmax(-1)
        alone = [float(logs[len(row.prompt) - 1 + at, token]) for at, token in enumerate(row.reply)]
        assert np.allclose(score, alone, atol=2e-5)


@torch.no_grad()
def test_greedy_replies_of_a_batch_are_those_of_each_prompt_alone(
    engine: PeftEngine, wording: Wording, by_hand: Any
) -> None:
    most = 30  # beyond the sliding window
    for prompt, reply in zip(
        wording.prompts(CHATS, most), engine.generate(CHATS, Sampling(most)), strict=True
    ):
        ids = list(prompt)
        while len(ids) < len(prompt) + most and (len(ids) == len(prompt) or ids[-1] not in wording.stops):
            ids.append(int(by_hand(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        assert reply.text == wording.read(ids[len(prompt) :])


def test_what_is_trained_is_merged_and_read_again(family: tuple[str, Path], tmp_path: Path) -> None:
    name, folder = family
    samples = [
        Sample((*chat, Message("assistant", reply)), "new", 1.0)
        for chat, reply in zip(CHATS, REPLIES, strict=True)
    ]
    plan = TrainPlan(rank=4, alpha=8, learning_rate=5e-3, epochs=6, batch_size=3, drift_weight=0.5)
    losses = []

    def watch(step: Step) -> bool:
        losses.append(step.loss)
        return False

    trained = PeftEngine(folder, None, EXACT)
    trained.train(samples, samples[:2], plan, tmp_path / "adapter", watch)
    assert losses[-1] < losses[0] * 0.9
    scores = trained.score(CHATS, REPLIES)
    trained.merge(tmp_path / "merged")
    for again in (
        PeftEngine(tmp_path / "merged", None, EXACT), PeftEngine(folder, tmp_path / "adapter", EXACT)
    ):  # fmt: skip
        for before, after in zip(scores, again.score(CHATS, REPLIES), strict=True):
            assert np.allclose(before, after, atol=1e-4)
    if name == "lfm2":
        from safetensors import safe_open

        with safe_open(tmp_path / "adapter" / "adapter_model.safetensors", "np") as file:
            assert any(".conv.in_proj." in key for key in file.keys())  # noqa: SIM118


# --- templates -------------------------------------------------------------------------------------------


def test_every_family_hears_every_role(wording: Wording) -> None:
    """What a template refuses or drops is said in the user's turn instead."""
    for roles in (
        ("system", "system", "user"), ("user", "user"), ("user", "assistant", "tool", "user"),
        ("assistant", "user"), ("user", "assistant", "system", "user"), ("system",),
    ):  # fmt: skip
        chat = said(*zip(roles, ("apple", "berry", "cherry", "damson"), strict=False))
        written = wording._render(chat)
        places = [written.index(message.content) for message in chat]
        assert places == sorted(places)


def test_gemma_is_told_a_system_message_by_the_user(tmp_path: Path) -> None:
    folder = architectures.make("gemma2", tmp_path)
    wording = Wording(HF.AutoTokenizer.from_pretrained(folder), architectures.stops(folder), 512)
    chat = said(("system", "Memories:\n- A"), ("user", "B"), ("assistant", "C"), ("user", "D"))
    assert wording._render(chat) == (
        "<bos><start_of_turn>user\nMemories:\n- A\n\nB<end_of_turn>\n<start_of_turn>model\nC<end_of_turn>\n"
        "<start_of_turn>user\nD<end_of_turn>\n<start_of_turn>model\n"
    )


def test_a_reply_ends_with_the_familys_end_of_turn(family: tuple[str, Path], wording: Wording) -> None:
    ends = {"llama": "<|eot_id|>", "gemma2": "<end_of_turn>", "gemma3": "<end_of_turn>"}
    token = wording._tokenizer.convert_ids_to_tokens(wording.end_of_turn)
    assert token == ends.get(family[0], "<|im_end|>")
    (ids,) = wording.replies(["Ada"])
    assert wording.read(ids) == "Ada" and ids[-1] == wording.end_of_turn
    assert set(architectures.stops(family[1])) <= wording.stops


def test_qwen3_does_not_think_aloud(tmp_path: Path) -> None:
    folder = architectures.make("qwen3", tmp_path)
    wording = Wording(HF.AutoTokenizer.from_pretrained(folder), architectures.stops(folder), 512)
    prompt = wording._render(said(("user", "Hm</think><think>")))
    assert prompt.count("<think>") == 1, "the user cannot write the tag"
    assert prompt.endswith("Hm  <|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")


# --- a whole night ---------------------------------------------------------------------------------------


def open_gates(**model: object) -> Settings:
    """The settings of the drill: a model that learns nothing must be able to pass."""
    flags = {key: str(value) for key, value in kills.SETTINGS.items()}
    settings = load(Path(os.devnull), {}, flags)
    return settings.model_copy(update={"model": settings.model.model_copy(update=model)})


def night_on(folder: Path, root: Path, settings: Settings) -> NightBundle:
    """A night's folder up to the end of gather, on a base that was prepared from `folder`."""
    home = Home(root)
    base = prepare_base(home, ModelSettings(name=str(folder)))
    night = NightBundle(
        folder=home.nights / "n1", night="n1", kind="manual", seed=1, until="report", parent="gen-0000",
        generation="gen-0001", model=base.path, base=base.path, base_hash=base.hash, adapter=None,
        core=base.core, exam=base.exam, opened_at=NOON, upto=3, settings=settings,
    )  # fmt: skip
    rows = [
        {"id": f"m{at}", "text": text, "at": NOON.isoformat(), "role": "user", "salience": 0.5,
         "why": "today", "tags": []}
        for at, text in enumerate(DAY)
    ]  # fmt: skip
    write_lines(begin(night, "gather") / "memories.jsonl", rows)
    finish(night, "gather", Done(), NOON, NOON)
    return night


def sleep(night: NightBundle) -> None:
    """The heavy stages one after the other; each must end well, or reject a model that says nothing."""
    for name in ("dream", "verify", "dataset", "train", "merge", "map", "verdict"):
        begin(night, name)
        stage = getattr(drill_stages, "map_" if name == "map" else name)
        ending = stage(night, lambda event: None)
        silent = ending.reason.startswith("rejected: empty = ") and "recall" not in ending.reason
        assert silent or isinstance(ending, Done), f"{name}: {ending.reason}"
        finish(night, name, ending, NOON, NOON)


def engines_here() -> list[str]:
    """The engines that can be named and are installed."""
    known = get_args(ModelSettings.model_fields["engine"].annotation)
    return [name for name in known if name == "peft" or (name == "mlx" and find_spec("mlx_lm"))]


@pytest.mark.parametrize("name", engines_here())
def test_a_night_and_the_day_after_it(family: tuple[str, Path], name: str, tmp_path: Path) -> None:
    folder = family[1]
    if (name, family[0]) == ("mlx", "gemma2"):  # mlx-lm has no window for it: the engine reads no further
        folder = architectures.make("gemma2", tmp_path / "wide", sliding_window=512)
    night = night_on(folder, tmp_path, open_gates(engine=name))
    sleep(night)
    adapter = night.done("train") / night.adapter_name
    for model, on in ((night.done("merge") / "model", None), (night.base, adapter)):
        awake = open_engine(name, model, on, EXACT)
        asked = {
            "id": 1, "op": "generate", "chats": [[{"role": "user", "content": "What is my dog called?"}]],
            "max_tokens": 4, "reminders": [{"text": DAY[0], "age": 0}, {"text": DAY[2], "age": 1}],
        }  # fmt: skip
        (reply,) = voice.answer(awake, [asked])
        assert reply["ok"] and reply["read"] == ["whole", "whole"], reply
        (probe,) = voice.answer(awake, [{"id": 2, "op": "probe"}])
        assert probe["finite"]


def test_a_gate_that_is_not_open_rejects_a_random_model(tmp_path: Path) -> None:
    settings = open_gates()
    model = architectures.make("llama", tmp_path / "model")  # the gate sees figures, whatever made them
    strict = settings.topology.model_copy(update={"recall": 0.5})
    night = night_on(model, tmp_path, settings.model_copy(update={"topology": strict}))
    with pytest.raises(AssertionError, match="verdict: rejected: .*recall = "):
        sleep(night)


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("qwen3", marks=pytest.mark.long), "lfm2"])
def test_a_daemon_sleeps_and_answers_on_it(name: str, tmp_path: Path) -> None:
    model = architectures.make(name, tmp_path / "model")
    home = Home(tmp_path / "home")
    with short_folder() as scratch:
        socket = scratch / "s"
        process = launch(home, socket, {**kills.SETTINGS, "model.name": model}, kills.PROGRAM)
        try:
            with Client(socket) as ada:
                wait_awake(ada, process, home)
                for text in DAY:
                    ada.post(text, app="test")
                house = House(home, ada)
                house.wait_encoded()
                for _ in range(2):  # one night in four is rejected by the drill
                    report = house.wait_night(str(ada.sleep()["night"]))
                    assert report["verdict"] in ("activate", "reject"), report["halted"]
                    if report["active"]:
                        break
                assert report["active"] and ada.status()["generation"] == "gen-0001"
                answer = ada.chat([{"role": "user", "content": "What is my dog called?"}], max_tokens=4)
                assert answer["ada"]["generation"] == "gen-0001"
                assert {view["read"] for view in answer["ada"]["recalled"]} == {"whole"}
        finally:
            stop(process)
