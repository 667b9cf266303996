"""Heavy stages that take milliseconds: real files of the right shape, and no model.

`toy.json` beside the base says what goes wrong: {"kill": [stage, …], "raise": stage, "hang": stage,
"verdict": "reject", "superseded": [memory], "unclaimed": [memory], "refused": [memory], "overrides":
[{"memory", "claim", "newer"}]}. A stage in "kill"
kills its own process, once for each time that it is named.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any, cast

from ada_memory.circadian.bundle import Done, Emit, Ending, Halt, NightBundle, Skip
from ada_memory.records import StageName
from ada_memory.sovereign.disk import read_lines, write_lines

KINDS = ("question", "statement")


def _toy(night: NightBundle) -> dict[str, Any]:
    path = night.base.parent / "toy.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return found


def _trouble(night: NightBundle, stage: StageName, emit: Emit) -> Path:
    work, toy = night.work(stage), _toy(night)
    half = work / f"half-{os.getpid()}"
    half.write_text("written before the trouble", "utf-8")
    print("what libraries print must not reach the events")  # noqa: T201
    emit({"event": "progress", "night": night.night, "stage": stage, "done": 1, "total": 2, "note": ""})
    if stage in toy.get("kill", []):
        toy["kill"].remove(stage)
        (night.base.parent / "toy.json").write_text(json.dumps(toy), "utf-8")
        os.kill(os.getpid(), signal.SIGKILL)
    if stage == toy.get("raise"):
        raise ValueError("the toy is broken")
    while stage == _toy(night).get("hang"):
        time.sleep(0.01)
    half.unlink()
    return work


def _gathered(night: NightBundle) -> list[str]:
    return [str(row["id"]) for row in read_lines(night.done("gather") / "memories.jsonl")]


def dream(night: NightBundle, emit: Emit) -> Ending:
    work = _trouble(night, "dream", emit)
    unclaimed = _toy(night).get("unclaimed", [])
    claims = [m for m in _gathered(night) if m not in unclaimed]
    write_lines(work / "claims.jsonl", [{"memory": m, "claim": f"claim of {m}"} for m in claims])
    overrides = [row for row in _toy(night).get("overrides", []) if row["memory"] in claims]
    write_lines(work / "overrides.jsonl", overrides)
    if not claims:
        return Skip("the model found nothing to learn in the memories", {"claims": 0})
    return Done({"claims": len(claims)})


def verify(night: NightBundle, emit: Emit) -> Ending:
    work, toy = _trouble(night, "verify", emit), _toy(night)
    rows: list[dict[str, object]] = []
    for claim in read_lines(night.done("dream") / "claims.jsonl"):
        memory = str(claim["memory"])
        for kind in KINDS:
            accepted = memory not in toy.get("refused", [])
            rows.append({
                "id": f"{night.night}-{len(rows)}", "kind": kind, "memories": [memory],
                "claim": claim["claim"], "prompt": f"What about {memory}?", "reply": "This.",
                "cycle": 0, "attempt": 0, "score": 0.9 if accepted else 0.1, "accepted": accepted,
                "reason": "" if accepted else "not in the memory: a parrot",
                "reads": [{"memory": memory, "how": "verifier"}],
            })
    write_lines(work / "dreams.jsonl", rows)
    gathered = _gathered(night)
    there = {*gathered, *(row["id"] for row in read_lines(night.done("gather") / "known.jsonl"))}
    superseded = [m for m in toy.get("superseded", []) if m in there]
    row = {"by": gathered[-1], "reason": "newer"}
    write_lines(work / "superseded.jsonl", [{"memory": m, **row} for m in superseded])
    good = sum(bool(row["accepted"]) for row in rows)
    return Done({"made": len(rows), "accepted": good, "lucidity": [good / max(1, len(rows))]})


def dataset(night: NightBundle, emit: Emit) -> Ending:
    work = _trouble(night, "dataset", emit)
    superseded = {row["memory"] for row in read_lines(night.done("verify") / "superseded.jsonl")}
    dreams = [row for row in read_lines(night.done("verify") / "dreams.jsonl") if row["accepted"]]
    rows = [
        {
            "messages": [
                {"role": "user", "content": d["prompt"]},
                {"role": "assistant", "content": d["reply"]},
            ],
            "source": "new", "weight": 1.0, "memories": d["memories"], "kind": d["kind"], "dream": d["id"],
        }
        for d in dreams
        if isinstance(d["memories"], list) and d["memories"][0] not in superseded
    ]
    for known in read_lines(night.done("gather") / "known.jsonl"):
        rows += [
            {
                "messages": [
                    {"role": "user", "content": sample["prompt"]},
                    {"role": "assistant", "content": sample["reply"]},
                ],
                "source": "due", "weight": 1.0, "memories": [known["id"]], "kind": sample["kind"],
                "dream": sample["dream"],
            }
            for sample in cast("list[dict[str, object]]", known["samples"])
        ]
    write_lines(work / "train.jsonl", rows)
    return Done({"new": len(rows), "core": 0, "core_share": 0.2, "samples_per_memory_min": 2})


def train(night: NightBundle, emit: Emit) -> Ending:
    work = _trouble(night, "train", emit)
    adapter = work / night.adapter_name
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}", "utf-8")
    (adapter / "adapter_model.safetensors").write_bytes(f"{night.seed}".encode())
    lines = [f"{step},0,{3.0 / step},0.0,0.0004,10," for step in range(1, 101)]
    header = "step,epoch,loss,kl,learning_rate,tokens,stop_recall"
    (work / "loss.csv").write_text("\n".join([header, *lines]) + "\n", "utf-8")
    (work / "toy.json").write_text(json.dumps({"died": night.died}), "utf-8")
    return Done({"steps": 100})


def merge(night: NightBundle, emit: Emit) -> Ending:
    model = _trouble(night, "merge", emit) / "model"
    model.mkdir()
    (model / "config.json").write_text("{}", "utf-8")
    (model / "model.safetensors").write_bytes(b"merged")
    return Done({"kl": 0.0, "top1": 1.0})


def map_(night: NightBundle, emit: Emit) -> Ending:
    _trouble(night, "map", emit)
    exam = {"identity": 1.0, "facts": 0.9, "all": 0.95}
    return Done({"exam_before": exam, "exam_after": {**exam, "facts": 0.8}, "kl": float("nan")})


def verdict(night: NightBundle, emit: Emit) -> Ending:
    work = _trouble(night, "verdict", emit)
    word = _toy(night).get("verdict", "activate")
    ok = word != "reject"
    rules = [{"figure": "kl", "value": None, "limit": 0.5, "ok": ok, "why": "answers must stay"}]
    if word == "reject":
        return Halt("rejected: kl = missing", {"verdict": word, "rules": rules})
    if word == "reduced":
        (work / "adapter").mkdir()
        (work / "adapter" / "adapter_model.safetensors").write_bytes(b"weaker")
    return Done({"verdict": word, "rules": rules})
