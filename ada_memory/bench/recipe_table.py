"""How others train by night, as they publish it: what a day left enters, rows and a plan leave.

Read in their repositories; no line of theirs is used. Where a recipe leaves something open, or cannot be
followed by a small model, it gets what serves it best, and `notes` says so. All of them train with Adam at a
constant learning rate, one row a step, without clipping, and the prompt carries loss as the reply does.

- circadia: CollOfTheWild/Circadia (678e1cc), README.md ("recommended sweet spot"), sleep.py and
  adapters/nightly_update/adapter_config.json: `mlx_lm.lora` with 50 iterations at 2e-5 and its defaults of
  rank 8, scale 20 and the last 16 layers; every turn as it was said.
- sleeping-llm: vbario/sleeping-llm (cf7432f, the version of its first page), config.yaml,
  src/sleep/curator.py and trainer.py: rank 16, alpha 32, 8 layers, 1e-4, one epoch over one extracted
  question a fact, the turns themselves, a fifth of them again from the replay buffer, three rows of identity.
- sleeping-llm-code: the same as its code runs it: src/backend/mlx_backend.py never hands rank and alpha on,
  so `mlx_lm.lora` trains with its own rank 8 and scale 20.
- sleeping-llm-2026: the same project at 661057d (March 2026), config.yaml and src/sleep/trainer.py: ten
  iterations a fact over the questions alone, each of them twice, at 1e-4; rank 8, scale 20, 8 layers.
- sage: dp-web4/SAGE (5b924e1), sage/raising/training/sleep_training.py and prepare_training_data.py: rank 4,
  alpha 8, q and v, dropout 0.05, AdamW at 1e-5 with a decay of 0.01, three epochs of turns, the loss of each
  times its salience.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ada_memory.engines.engine import TrainPlan
from ada_memory.records import Sample

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
"""Learning rates that every recipe is tried with, besides its own."""
REPLAYED, IDENTITY_ROWS = 0.2, 3
UNCLIPPED = 1e9


@dataclass(frozen=True, slots=True)
class Material:
    """What a day leaves to train on. Every chat ends with the assistant.

    `turns` are what the user said and the model replied, weighed by salience (0 to 1); `pairs` one true
    question and answer for each thing told; `identity` rows that the model knows by heart.
    """

    turns: tuple[Sample, ...]
    pairs: tuple[Sample, ...]
    identity: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to train by night: so many iterations, or so many a fact, else the plan's epochs.

    `last_layers` in the plan is what its authors set; a model with fewer layers is trained in all of them.
    """

    name: str
    rows: Callable[[Material], list[Sample]]
    plan: TrainPlan
    notes: str
    iterations: int = 0
    iterations_per_fact: int = 0

    def steps(self, rows: int, facts: int) -> int:
        """How many steps it trains, one row each."""
        return self.iterations or self.iterations_per_fact * facts or self.plan.epochs * rows


def raw(day: Material) -> list[Sample]:
    """The turns as they were said, all of the same weight."""
    return [replace(turn, weight=1.0) for turn in day.turns]


def weighed(day: Material) -> list[Sample]:
    """The turns as they were said, the weightiest first."""
    return sorted(day.turns, key=lambda turn: -turn.weight)


def curated(day: Material) -> list[Sample]:
    """A question a fact, the turns, the weightiest fifth of them again, and identity."""
    again = weighed(day)[: max(1, int(REPLAYED * len(day.turns)))]
    return [*day.pairs, *raw(day), *(replace(turn, weight=1.0) for turn in again), *day.identity]


def twice(day: Material) -> list[Sample]:
    """The questions alone, each two times: so often does a fact of middling priority stand in the file."""
    return [*day.pairs, *day.pairs]


def _plan(rate: float, rank: int, alpha: int, **other: object) -> TrainPlan:
    plain = TrainPlan(
        rank=rank,
        alpha=alpha,
        learning_rate=rate,
        warmup=0.0,
        decay=False,
        epochs=1,
        batch_size=1,
        max_grad_norm=UNCLIPPED,
        drift_weight=0.0,
        mask_prompt=False,
    )
    return replace(plain, **other)  # type: ignore[arg-type]


MLX_RANK, MLX_ALPHA = 8, 160
"""What `mlx_lm.lora` trains with if nobody says otherwise: rank 8 and a scale of 20."""

RECIPES = (
    Recipe(
        "circadia",
        raw,
        _plan(2e-5, MLX_RANK, MLX_ALPHA, last_layers=16),
        "all turns trained, none left to its retrieval, which an empty context does without; no augmentation",
        iterations=50,
    ),
    Recipe(
        "sleeping-llm",
        curated,
        _plan(1e-4, 16, 32, last_layers=8),
        "its questions and answers are true by construction, its identity rows are the base's own",
    ),
    Recipe(
        "sleeping-llm-code",
        curated,
        _plan(1e-4, MLX_RANK, MLX_ALPHA, last_layers=8),
        "as sleeping-llm, with the rank and scale that its command really trains with",
    ),
    Recipe(
        "sleeping-llm-2026",
        twice,
        _plan(1e-4, MLX_RANK, MLX_ALPHA, last_layers=8),
        "its questions and answers are true by construction",
        iterations_per_fact=10,
    ),
    Recipe(
        "sage",
        weighed,
        _plan(1e-5, 4, 8, targets=("q_proj", "v_proj"), dropout=0.05, weight_decay=0.01, epochs=3),
        "weighed by our salience and nothing left out: its own scale finds these turns too dull to train on; "
        "no system prompt, since nobody asks with one",
    ),
)
"""The recipes of the projects that this one set out to better."""


def rates(recipe: Recipe) -> tuple[float, ...]:
    """The learning rates of a sweep, its own among them, rising."""
    return tuple(sorted({*RATES, recipe.plan.learning_rate}))
