"""The map: every figure by which a new model is compared with its parent. Judges nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ada_memory.engines.engine import Engine, Sampling
from ada_memory.engines.weights import changes
from ada_memory.records import Chat, Sample
from ada_memory.topology.exam import Question, marks, normal, sit

Say = Callable[[str], None]
"""Told in words what is being done."""
_PROMPTS = 256
BLIND = 0.2
"""Marks of the parent below which a category cannot tell whether the child is worse: nothing can fall."""


def survey(
    parent: Engine,
    child: Engine,
    base_folder: Path,
    child_folder: Path,
    questions: Sequence[Question],
    prompts: Sequence[Chat],
    stop: Sequence[Sample],
    say: Say,
) -> dict[str, object]:
    """Exam of both by category, KL on fixed prompts (nats), change of weights, repetition, recall."""
    say(f"the parent's exam, {len(questions)} questions")
    before = sit(parent, questions)
    say(f"the new model's exam, {len(questions)} questions")
    after = sit(child, questions)
    say("comparing weights")
    weights = changes(base_folder, child_folder)
    say(f"asking both for what was learned, {len(stop)} questions")
    fixed = list(prompts)[:_PROMPTS]
    new = [row for row in stop if row.source == "new"]
    known = [row for row in stop if row.source != "new"]
    marked = marks(questions, before)
    return {
        "exam_before": marked,
        "exam_after": marks(questions, after),
        "exam_items": len(questions),
        "exam_blind": sorted(name for name, mark in marked.items() if name != "all" and mark < BLIND),
        "kl": divergence(parent, child, fixed) if fixed else float("nan"),
        "norm_growth": max(weights.relative.values(), default=float("nan")),
        "norm_growth_worst": max(weights.relative, key=lambda k: weights.relative[k], default=""),
        "not_finite": weights.not_finite,
        "repetition": repetition(after),
        "empty": sum(not reply.strip() for reply in after) / max(1, len(after)),
        "recall": recall(child, new),
        "recall_before": recall(parent, new),
        "recall_items": len(new),
        "recall_known": recall(child, known) if known else None,
        "recall_known_before": recall(parent, known) if known else None,
        "recall_known_items": len(known),
    }


def divergence(parent: Engine, child: Engine, chats: Sequence[Chat]) -> float:
    """Mean KL(parent ‖ child) over the first token of the reply, in nats."""
    p, q = parent.distributions(chats).astype(np.float64), child.distributions(chats).astype(np.float64)
    return float(np.mean(np.sum(np.exp(p) * (p - q), axis=1)))


def repetition(replies: Sequence[str], n: int = 3) -> float:
    """Mean share of a reply's n-grams of words that it has said before."""
    shares = []
    for reply in replies:
        words = reply.split()
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        shares.append(1 - len(set(grams)) / len(grams) if grams else 0.0)
    return float(np.mean(shares)) if shares else float("nan")


def recall(engine: Engine, stop: Sequence[Sample]) -> float:
    """Share of held-out phrasings of the night that get the reply they should; NaN if there are none."""
    if not stop:
        return float("nan")
    replies = engine.generate([s.messages[:-1] for s in stop], Sampling(48))
    return float(
        np.mean(
            [normal(r.text) == normal(s.messages[-1].content) for r, s in zip(replies, stop, strict=True)]
        )
    )
