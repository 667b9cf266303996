"""The forge: what is trained on, how the training is watched, and whether the merge is faithful."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from ada_memory.engines.engine import Hardware, Step, TrainPlan, Watch
from ada_memory.engines.peft import PeftEngine
from ada_memory.errors import AdaError, BadInput
from ada_memory.forge import dataset as data
from ada_memory.forge.merge import fidelity
from ada_memory.forge.neighbours import BESIDES, asides, neighbours, strangers
from ada_memory.forge.phrasings import alike, clipped, normalise
from ada_memory.forge.train import COLUMNS, epochs, gives, train
from ada_memory.records import Dream, DreamKind, Message, Sample
from ada_memory.settings import ForgeSettings
from tests.models import chat, sample, tiny_model

EXACT = Hardware(device="cpu", dtype="float32")
KINDS: tuple[DreamKind, ...] = ("question", "question", "question", "statement", "reversal", "rule")
STANDARD = ForgeSettings()
CORE = [
    sample(f"{kind} question {i}?", f"{kind} answer {i}", source="core", kind=kind)
    for kind, count in (("arithmetic", 120), ("identity", 30), ("refusal", 90))
    for i in range(count)
]
SALIENCES = {f"m{i}": 0.1 + 0.1 * i for i in range(8)}


def dreams(memories: int = 8, each: int = 18) -> list[Dream]:
    """Accepted dreams, half of them questions; no two prompts of a memory share half of their words."""
    return [
        Dream(
            f"d{m}-{i}",
            KINDS[i % 6],
            (f"m{m}", "m0"),
            "",
            f"Phrasing {i} of {i}/{m}?",
            f"Reply {m}.",
            0,
            accepted=True,
        )
        for m in range(memories)
        for i in range(each)
    ]


def build(
    made: list[Dream],
    core: list[Sample] = CORE,
    settings: ForgeSettings = STANDARD,
    withheld: frozenset[str] = frozenset(),
    seed: int = 3,
) -> data.Dataset:
    return data.build(made, SALIENCES, core, settings, withheld, seed)


def prompts(rows: tuple[Sample, ...]) -> list[str]:
    return [data.prompt_of(row) for row in rows]


# --- phrasings -------------------------------------------------------------------------------------------


def test_what_is_asked_about_is_never_clipped() -> None:
    question = "Do you know how many cats Zoe's sister has since 1999?"
    claim = "Zoe has a sister. She has 3 cats."
    made = [clipped(question, claim, 0.3, random.Random(seed)) for seed in range(50)]
    assert all({"cats", "Zoe's", "sister", "has", "1999?"} <= set(text.split()) for text in made)
    assert len(set(made)) > 5 and all(len(text.split()) == 8 for text in made)
    assert clipped("Who is she", "", 0.34, random.Random(1)).count(" ") == 1
    assert clipped("Where do you live?", "", 0.9, random.Random(1)).endswith("?")
    assert clipped(question, claim, 0.0, random.Random(1)) == question


# --- dataset ---------------------------------------------------------------------------------------------


def test_normalise_leaves_what_a_reader_hears() -> None:
    assert normalise("  What's  my DOG's name?! ") == "whats my dogs name"
    assert normalise("STRASSE, 5") == normalise("straße 5")


def test_only_accepted_and_distinct_dreams_are_trained() -> None:
    made = dreams(2, 3)
    twin = replace(made[0], id="twin", prompt=made[0].prompt.upper() + " !")
    refused = replace(made[0], id="refused", prompt="Never accepted?", accepted=False)
    made_of = build([*made, twin, refused])
    assert (made_of.figures["new"], len(made_of.stop)) == (5, 1)
    assert "never accepted" not in prompts(made_of.train)


def test_a_fifth_of_the_rows_is_core_spread_over_its_kinds() -> None:
    made = build(dreams())
    core = [row for row in made.train if row.source == "core"]
    assert abs(data.turns(core) - 0.2 * data.turns(made.train)) <= 1
    assert made.figures["core_share"] == pytest.approx(0.2, abs=0.01)
    counts = [sum(row.kind == kind for row in core) for kind in ("arithmetic", "identity", "refusal")]
    assert min(counts) == 30 and max(counts) - counts[0] <= 60  # identity has no more
    assert len(set(prompts(tuple(core)))) == len(core)


def test_core_rows_take_turns_and_half_of_them_stay_out_of_training() -> None:
    made = build(dreams(2, 18))
    pools = [row.pool for row in made.train if row.source == "core"]
    assert 1 < max(pools.count(pool) for pool in pools) <= STANDARD.epochs
    assert len(pools) <= len(CORE) // 2


def test_what_is_known_is_rehearsed_in_turns_and_what_is_weak_as_a_whole() -> None:
    rows = [sample(f"Old {i} of {m}?", f"Answer {m}.", source="new") for m in range(3) for i in range(6)]
    known = [
        data.Known(f"old{m}", tuple(rows[6 * m + 1 : 6 * m + 6]), (rows[6 * m],), weak=m == 2)
        for m in range(3)
    ]
    made = data.build(dreams(), SALIENCES, CORE, STANDARD, frozenset(), 3, known)
    due = [row for row in made.train if row.source == "due"]
    assert len(due) == 15
    assert data.turns(due) == 2 * STANDARD.rehearse + 5 == made.figures["due"]
    assert {row.weight for row in due} == {1.0}
    old_stops = {normalise(f"Old 0 of {m}?") for m in range(3)}
    assert old_stops <= set(prompts(made.stop)) and not old_stops & set(prompts(made.train))
    assert made.figures["core_share"] == pytest.approx(0.2, abs=0.01)


def test_rehearsed_questions_are_clipped_too_and_cost_no_row_more() -> None:
    asked = [f"Do you know by any chance where {name} lives now?" for name in ("Anna", "Bruno")]
    rows = [
        replace(sample(asks, "Lisbon."), kind="question", memories=("old",), dream=asks, claim="Anna lives.")
        for asks in asked
    ]
    for weak in (False, True):
        made = data.build(
            dreams(), SALIENCES, CORE, STANDARD, frozenset(), 3, [data.Known("old", tuple(rows), weak=weak)]
        )
        due = [row for row in made.train if row.source == "due"]
        short = [row for row in due if row.kind == data.CLIPPED]
        assert {row.dream for row in short} == set(asked) == {row.dream for row in due}
        assert all("Anna" in row.messages[0].content for row in short if "Anna" in row.dream)
        assert len(short) * 2 == len(due) and made.figures["due"] == 2


def test_without_rehearsal_only_what_is_weak_comes_back() -> None:
    rows = [sample(f"Old {i} of {m}?", f"Answer {m}.", source="new") for m in range(2) for i in range(4)]
    known = [data.Known(f"old{m}", tuple(rows[4 * m : 4 * m + 4]), weak=m == 1) for m in range(2)]
    settings = ForgeSettings(rehearse=0)
    made = data.build(dreams(), SALIENCES, CORE, settings, frozenset(), 3, known)
    assert {row.messages[-1].content for row in made.train if row.source == "due"} == {"Answer 1."}


def test_questions_are_whole_and_clipped_by_turns() -> None:
    made = build(dreams())
    pools: dict[str, list[Sample]] = {}
    for row in made.train:
        if row.source == "new" and row.pool:
            pools.setdefault(row.pool, []).append(row)
    asked = {dream.id: dream.prompt for dream in dreams() if dream.kind == "question"}
    assert pools and {row.dream for rows in pools.values() for row in rows} <= set(asked)
    for rows in pools.values():
        whole, short = rows[::2], rows[1::2]
        assert {row.messages[0].content for row in whole} == {asked[rows[0].dream]}
        assert {row.kind for row in whole} == {"question"} and {row.kind for row in short} == {"clipped"}
        assert all(len(row.messages[0].content) < len(asked[row.dream]) for row in short)
        assert {row.weight for row in rows} == {rows[0].weight}
    plain = build(dreams(), settings=ForgeSettings(clip=0))
    assert made.figures == plain.figures and not any(row.kind == "clipped" for row in plain.train)
    assert data.turns(made.train) == data.turns(plain.train)


def test_a_clipped_question_is_never_one_that_is_kept_out() -> None:
    free = {data.prompt_of(row) for row in build(dreams()).train if row.kind == "clipped"}
    made = build(dreams(), withheld=frozenset(free))
    assert free and not free & set(prompts(made.train))
    stop = set(prompts(made.stop))
    assert stop and not stop & set(prompts(made.train))


def test_a_new_question_is_not_rehearsed_with_its_old_answer() -> None:
    new = dreams(1, 6)
    old = data.Known("old", (sample(new[0].prompt, "What was true before."),))
    made = data.build(new, SALIENCES, CORE, STANDARD, frozenset(), 3, [old])
    assert "What was true before." not in {row.messages[-1].content for row in made.train}


def test_questions_of_like_words_are_one_phrasing() -> None:
    groups = alike(["where does anna live", "tell me where anna lives", "do you know where does anna live"])
    assert sorted(map(len, groups)) == [1, 2]


def taught(memory: str, subject: str, *questions: str, kind: str = "question") -> list[Sample]:
    """A night's rows of a memory that speaks of `subject` and is asked for by `questions`."""
    rows = [replace(sample(question, "Lisbon."), kind=kind) for question in questions]
    rows.append(replace(sample("Who is it about?", f"{subject}."), kind="reversal"))
    return [replace(row, source="new", memories=(memory,)) for row in rows]


def asked_of_others(told: list[Sample], core: list[Sample], each: int = 8) -> set[str]:
    """What is asked of others, in the words of memories and in the core's."""
    chats = (*neighbours(told, core, each, seed=1), *strangers(told, core, seed=1))
    return {chat[0].content for chat in chats}


def test_what_a_memory_is_asked_is_nobody_elses_question() -> None:
    told = [
        row
        for name in ("Anna", "Bruno")
        for row in taught(name, name, f"Tell me in which town {name} lives now?")
    ]
    asked = asked_of_others(told, [sample("Tell me about Carla.", "Carla likes Oslo.")], 40)
    assert asked and not any("Anna" in prompt or "Bruno" in prompt for prompt in asked)


def test_neighbours_ask_the_same_of_strangers() -> None:
    told = taught(
        "m1", "Anna", "Where does Anna live?", "In which town is Anna at home?", "Where do I live?"
    )
    core = [sample("Tell me about Bruno.", "Bruno likes Oslo, Riga and Turin.")]
    asked = asked_of_others(told, core)
    assert len(asked) > 3 and all("Anna" not in prompt for prompt in asked)
    begins, ends = ("Where does ", "In which town is "), (" live?", " at home?")
    swapped = {
        prompt.removeprefix(b).removesuffix(e)
        for prompt in asked
        for b, e in zip(begins, ends, strict=True)
        if prompt.startswith(b)
    }
    named = {"Bruno", "Oslo", "Riga", "Turin"}
    assert swapped & named and swapped - named, "names of the core, and blends that are nobody's"
    assert any(name.startswith("An") for name in swapped), "a beginning like hers is not enough to be known"
    assert not any(name.startswith("Ann") or name.endswith("nna") for name in swapped), (
        "who looks half like a known one is no stranger"
    )
    theirs = {prompt for prompt in asked if prompt.startswith("Tell me about ")}
    assert asked - theirs == {prompt for prompt in asked if prompt.startswith(begins)}
    assert len(theirs) > 2 and not any("Bruno" in prompt or "Oslo" in prompt for prompt in theirs), (
        "the core's questions are asked about nobody whom anybody knows"
    )
    assert neighbours(told, core, 0, seed=1) == []


def test_a_core_row_that_is_called_a_reversal_speaks_of_nobody_who_is_met() -> None:
    core = [sample("Tell me about Bruno.", "Bruno likes Oslo, Riga and Turin.")]
    replayed = replace(sample("Who likes plums?", "Nobody."), kind="reversal", source="core")
    told = taught("m1", "Anna", "Where does Anna live?")
    assert asked_of_others([*told, replayed], core) == asked_of_others(told, core) != set()


def test_only_whom_a_memory_speaks_of_is_exchanged() -> None:
    told = taught("m1", "Anna Berg", "Does Anna Berg or Otto meet Mia on Monday?")
    asked = asked_of_others(told, [sample("Say Carla or Dora", "Carla.")])
    theirs = [prompt for prompt in asked if prompt.startswith("Does ")]
    assert theirs and all(prompt.endswith(" or Otto meet Mia on Monday?") for prompt in theirs)
    assert not any("Anna" in prompt or "Berg" in prompt for prompt in theirs)


@pytest.mark.parametrize(
    ("subject", "prompt"),
    [
        ("your uncle", "My uncle's hobby, what is it? Do you know?"),  # clipped, "Do" looks like a name
        ("your uncle", "When does my uncle go to Lisbon?"),
        ("you", "Which town do I live in, Lisbon or Oslo?"),
        ("Lisbon", "Where do I live?"),
    ],
)
def test_what_is_asked_of_a_memory_is_not_asked_with_other_words_around(subject: str, prompt: str) -> None:
    told = [
        *taught("m1", subject, prompt),
        *taught("m1", subject, "My uncle's hobby, what is Do you know?", kind=data.CLIPPED),
    ]
    asked = asked_of_others(told, [sample("Tell me about Bruno, Anna", "Bruno likes Oslo.")])
    assert asked and all(text.startswith("Tell me about") for text in asked)


def test_whoever_asks_may_call_her_by_her_name() -> None:
    told = taught("m1", "Anna", "Hey Ada, in which town does Anna live?")
    asked = asked_of_others(told, [sample("Tell me, Ada, about Bruno.", "Bruno likes Oslo.")])
    assert asked and all("Ada" in prompt for prompt in asked)


def test_asides_ask_something_else_about_whom_a_memory_speaks_of() -> None:
    def row(memory: str, kind: str, prompt: str, reply: str, source: str = "new") -> Sample:
        return replace(sample(prompt, reply), source=source, kind=kind, memories=(memory,))

    told = [
        row("m1", "question", "Where does Anna live?", "Lisbon."),
        row("m1", "reversal", "Who lives in Lisbon?", "Anna."),
        row("m2", "question", "What does my uncle Otto play?", "The zither."),
        row("m2", "reversal", "Who plays the zither?", "your uncle."),
        row("m3", "reversal", "Who lives in Oslo?", "You."),
        row("m4", "reversal", "Who lives in Riga?", "Otto."),
        *(row(old, "reversal", "Who eats plums?", "Mia.", "due") for old in ("old", "older")),
        row("oldest", "reversal", "Who eats figs?", "Anna.", "due"),
    ]
    core = [
        sample("Quick: how old is Bruno?", "I do not know."),
        sample("What does Bruno call Otto?", "Uncle."),  # names two
        sample("Tell Bruno to go.", "No."),  # no question
        sample("Who am I?", "You."),
    ]
    made = asides(told, core, 40, seed=1)
    asked = {aside.chat[0].content: aside.subject for aside in made}
    assert set(asked.values()) == {"Anna", "my uncle", "Mia", "I"}
    assert {"Quick: how old is Anna?", "Where does my uncle live?", "Where do I live?"} <= set(asked)
    assert not any("Bruno" in prompt for prompt in asked)
    assert asides(told, core, 40, seed=1) == made and asides(told, core, 0, seed=1) == []
    assert asides(told[:2], core, 40, seed=1) == [], "a name that was heard once is not mixed up with others"
    assert asides(told[2:3], core, 40, seed=1) == [], "nobody is known to be spoken of"


@pytest.mark.parametrize(("memories", "most"), [(1, 12), (2, 24), (100, 400 + BESIDES)])
def test_of_whom_little_was_told_little_is_asked_besides(memories: int, most: int) -> None:
    told = [
        replace(sample(f"Who likes plums {n}?", "you."), source="new", kind="reversal", memories=(f"m{n}",))
        for n in range(memories)
    ]
    core = [sample(f"In which year {n} was Anna born?", "I do not know.") for n in range(20_000)]
    made = asides(told, core, 4, seed=1)
    assert most * 0.9 < len(made) <= most


@pytest.mark.parametrize(
    ("of_anna", "of_the_user"),
    [
        ("What is Anna's boat called?", "What is my boat called?"),
        ("Anna’s boat, what is its name?", "My boat, what is its name?"),
        ("Where does Anna live?", "Where do I live?"),
        ("Tell me, how old is Anna?", "Tell me, how old am I?"),
        ("Which instrument can Anna play?", "Which instrument can I play?"),
        ("Whom did Anna marry?", "Whom did I marry?"),
        ("Do you know what Anna likes?", None),  # "what I like" would take more than a word
        ("Who is the mother of Anna?", None),
    ],
)
def test_of_the_user_is_asked_as_people_ask_of_themselves(of_anna: str, of_the_user: str | None) -> None:
    told = [replace(sample("Who likes plums?", "you."), source="new", kind="reversal", memories=("m1",))]
    core = [sample(of_anna, "I do not know."), sample("Say, is Anna there?", "No.")]
    made = {aside.chat[0].content for aside in asides(told, core, 20, seed=1)}
    assert made == {"Say, am I there?"} | ({of_the_user} if of_the_user else set())


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("count", [1, 2, 7, 50])
def test_any_share_is_kept_within_one_row(share: float, count: int) -> None:
    made = build(dreams(1, count), settings=ForgeSettings(core_share=share))
    core = data.turns([row for row in made.train if row.source == "core"])
    assert abs(core - share * data.turns(made.train)) <= 1
    assert (core > 0) == (share > 0 and round(share * count / (1 - share)) > 0)


def test_without_a_core_the_share_must_be_given_up_by_name() -> None:
    with pytest.raises(BadInput) as caught:
        build(dreams(), core=[])
    assert "core_share" in caught.value.hint
    made = build(dreams(), core=[], settings=ForgeSettings(core_share=0))
    assert made.figures["core_share"] == 0 and made.anchors == ()


def test_stop_phrasings_are_questions_never_trained() -> None:
    made = build(dreams(8, 24))
    assert not set(prompts(made.stop)) & set(prompts(made.train))
    assert all(row.kind == "question" for row in made.stop)
    for m in range(8):  # 12 phrasings each, of which one is kept out
        assert sum(row.memories[0] == f"m{m}" for row in made.stop) == 1


def test_a_memory_with_few_questions_keeps_them_all_beside_one_that_has_more() -> None:
    three, five = dreams(1, 5), [replace(d, memories=("m1",), prompt=f"{d.prompt} too") for d in dreams(1, 8)]
    assert [row.memories for row in build([*three, *five]).stop] == [("m1",)]


def test_a_night_of_few_questions_keeps_one_to_ask() -> None:
    assert len(build(dreams(1, 5)).stop) == 1  # of three
    assert build(dreams(1, 1)).stop == ()


def test_no_more_than_a_quarter_of_a_memory_is_held_out() -> None:
    ways = [f"What is her town, {i}?" for i in range(9)]
    ways += [f"Where does Anna live now {i}?" for i in range(7)]
    rows = [replace(d, kind="question", prompt=way) for d, way in zip(dreams(1, 16), ways, strict=True)]
    held = prompts(build(rows).stop)
    assert len(held) == 4 and all("where does anna live" in prompt for prompt in held)


def test_the_only_question_of_its_kind_is_trained() -> None:
    ways = ["Which shirt does Anna wear?"]
    ways += [f"What is her number, {i}?" for i in range(3)]
    ways += [f"Tell me by what digits they know Anna {i}?" for i in range(12)]
    rows = [replace(d, kind="question", prompt=way) for d, way in zip(dreams(1, 16), ways, strict=True)]
    held = prompts(build(rows).stop)
    assert len(held) == 3 and all("what is her number" in prompt for prompt in held)


def test_a_known_memory_watches_by_one_question() -> None:
    rows = [sample(f"Old {i}?", "Answer.") for i in range(9)]
    talker = data.Known("talker", tuple(rows[:1]), tuple(rows[1:8]))
    quiet = data.Known("quiet", tuple(rows[:1]), tuple(rows[8:]))
    made = data.build(dreams(), SALIENCES, CORE, STANDARD, frozenset(), 3, [talker, quiet])
    watching = [prompt for prompt in prompts(made.stop) if prompt.startswith("old")]
    assert len(watching) == 2 and "old 8" in watching
    kept_out = {f"old {i}" for i in range(1, 9)}
    assert not kept_out & set(prompts(made.train)), "those that do not watch, too"


def test_a_prompt_that_serves_two_memories_is_not_held_out() -> None:
    shared = [replace(d, memories=("m1",), id=d.id + "b", reply="Another.") for d in dreams(1, 18)]
    made = build([*dreams(1, 18), *shared])
    assert made.stop == ()
    assert made.figures["new"] == 36


def test_what_is_withheld_is_nowhere() -> None:
    withheld = frozenset({"PHRASING 0, of 0/0 !", "phrasing 7 of 7/3", "arithmetic question 5"})
    normal = {normalise(prompt) for prompt in withheld}
    made = build(dreams(), withheld=withheld, settings=ForgeSettings(core_share=0.6))
    everything = prompts(made.train) + prompts(made.stop) + prompts(made.anchors)
    assert not normal & set(everything)
    assert made.figures["withheld_dropped"] == 2
    open_ = build(dreams(), settings=ForgeSettings(core_share=0.6))
    assert normal <= set(prompts(open_.train + open_.stop + open_.anchors))


def test_core_never_teaches_a_stop_question() -> None:
    stop = build(dreams()).stop[0].messages
    core = [*CORE, Sample(stop, "core", kind="identity")]
    made = build(dreams(), core=core, settings=ForgeSettings(core_share=0.7))
    assert not set(prompts(made.stop)) & set(prompts(made.train))


def test_weights_follow_salience_with_a_mean_of_one() -> None:
    made = build(dreams())
    new = [row for row in made.train if row.source == "new"]
    weights = [row.weight for row in new]
    assert np.mean(weights) == pytest.approx(1, abs=1e-4)
    assert 0.75 <= min(weights) < max(weights) <= 1.25
    by_memory = [next(row.weight for row in new if row.memories[0] == f"m{m}") for m in range(8)]
    assert by_memory == sorted(by_memory)
    assert {row.weight for row in made.train if row.source == "core"} == {1.0}
    untold = data.build(dreams(), {}, CORE, ForgeSettings(), frozenset(), 0)
    assert {row.weight for row in untold.train} == {1.0}


def test_anchors_are_core_rows_that_are_not_replayed() -> None:
    made = build(dreams())
    assert len(made.anchors) == min(ForgeSettings().anchors, len(CORE))
    assert len(build(dreams(), settings=ForgeSettings(anchors=64)).anchors) == 64
    made = build(dreams(), settings=ForgeSettings(anchors=64))
    assert not set(prompts(made.anchors)) & set(prompts(made.train))
    few = build(dreams(), core=CORE[:40])
    assert len(few.anchors) == 40  # all there are: replayed ones fill up


def test_figures_count_samples_and_kinds_by_first_memory() -> None:
    bridge = Dream("b", "bridge", ("m1", "m0"), "", "A bridge?", "Yes.", 0, accepted=True)
    figures = build([*dreams(2, 3), bridge]).figures
    assert figures["samples_per_memory"] == {"m0": {"count": 2, "kinds": 1}, "m1": {"count": 4, "kinds": 2}}
    assert (figures["samples_per_memory_min"], figures["kinds_per_memory_min"]) == (2, 1)


def test_the_seed_decides() -> None:
    assert build(dreams(), seed=1) == build(dreams(), seed=1)
    assert build(dreams(), seed=1).stop != build(dreams(), seed=2).stop


def test_a_dataset_comes_back_as_it_was_written(tmp_path: Path) -> None:
    made = build([*dreams(), replace(dreams(1, 1)[0], id="x", prompt="Line\nbreak \u2028 ü?")])
    data.write(made, tmp_path / "dataset")
    assert data.read(tmp_path / "dataset") == made
    data.write(build(dreams(1, 1)), tmp_path / "dataset")
    assert data.read(tmp_path / "dataset").figures["new"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["dataset"]


@pytest.mark.parametrize("line", ["{", '{"messages": 3}', '{"text": "a"}', "[1]"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "core.jsonl").write_text('{"messages": [{"role": "user", "content": "a"}]}\n' + line + "\n")
    with pytest.raises(AdaError, match="line 2"):
        data.read_rows(tmp_path / "core.jsonl")


# --- train -----------------------------------------------------------------------------------------------

ROWS = tuple(sample(f"Say {word}.", word) for word in ("red", "blue", "five", "Rex"))
ANCHORED = tuple(sample(f"What is {a} + 2?", str(a + 2), source="core") for a in range(4))
FAST = ForgeSettings(
    rank=8, alpha=16, learning_rate=2e-2, warmup=0, epochs=40, steps=0, batch_size=2, drift_weight=0.1,
    landing=0,
)


def never(_: Step) -> bool:
    return False


def recall(engine: PeftEngine, rows: Sequence[Sample]) -> float:
    """Share of rows whose reply the model gives."""
    return sum(gives(engine, rows)) / len(rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def test_training_ends_once_the_stop_rows_are_known_twice(folder: Path, tmp_path: Path) -> None:
    engine = PeftEngine(folder, None, EXACT)
    assert recall(engine, ROWS) == 0
    rows = data.Dataset(ROWS, ROWS, ANCHORED, {})  # equal on purpose: a random model cannot generalise
    figures = train(engine, rows, FAST, 1, tmp_path / "train" / "nightly_adapter_v1", never)
    by_epoch = figures["stop_recall_by_epoch"]
    assert isinstance(by_epoch, list)
    assert figures["ended"] == "recall"
    assert by_epoch[-2:] == [1.0, 1.0] and by_epoch[:-1].count(1.0) < len(by_epoch) - 1 < 39
    assert figures["steps"] == 2 * len(by_epoch)
    assert recall(engine, ROWS) == 1
    saved = PeftEngine(folder, tmp_path / "train" / "nightly_adapter_v1", EXACT)
    assert recall(saved, ROWS) == 1


def test_loss_csv_holds_every_step(folder: Path, tmp_path: Path) -> None:
    seen: list[Step] = []

    def watch(step: Step) -> bool:
        seen.append(step)
        return False

    settings = FAST.model_copy(update={"epochs": 3})
    rows = data.Dataset(ROWS, ROWS[:2], ANCHORED, {})
    figures = train(PeftEngine(folder, None, EXACT), rows, settings, 1, tmp_path / "a", watch)
    with (tmp_path / "loss.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == COLUMNS
    assert [int(line["step"]) for line in lines] == [s.step for s in seen] == [1, 2, 3, 4, 5, 6]
    assert [float(line["loss"]) for line in lines] == pytest.approx([s.loss for s in seen], abs=1e-5)
    assert [bool(line["stop_recall"]) for line in lines] == [False, True] * 3
    assert (figures["ended"], figures["steps"]) == ("epochs", 6)


def test_a_run_that_knows_enough_lands(folder: Path, tmp_path: Path) -> None:
    """The rest of the curve is walked in a few epochs: no run ends at a high rate."""
    engine, rows = PeftEngine(folder, None, EXACT), data.Dataset(ROWS, (), (), {})
    settings = FAST.model_copy(update={"landing": 3})
    figures = train(engine, rows, settings, 1, tmp_path / "a", lambda step: step.step == 4)
    assert figures["steps"] == 4 + 3 * 2  # two batches an epoch
    with (tmp_path / "loss.csv").open() as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    assert rates[:4] == pytest.approx([2e-2] * 4, rel=0.02)
    assert rates == sorted(rates, reverse=True) and rates[-1] < 1e-4


def test_memories_that_are_not_known_in_the_end_are_mended(folder: Path, tmp_path: Path) -> None:
    """A phrasing that says something else is never known: the rows of its memory come again and again."""
    of = {word: replace(row, memories=(word,)) for word, row in zip("abcd", ROWS, strict=True)}
    asked = (replace(sample("Who is it?", "Nobody at all"), memories=("a",)),)
    settings = FAST.model_copy(update={"epochs": 4, "mends": 2, "mend_rate": 1e-3})
    rows = data.Dataset(tuple(of.values()), asked, ANCHORED, {})
    seen: list[Step] = []

    def watch(step: Step) -> bool:
        seen.append(step)
        return False

    figures = train(PeftEngine(folder, None, EXACT), rows, settings, 1, tmp_path / "a", watch)
    assert [s.epoch for s in seen] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 6]
    assert (figures["mends"], figures["epochs"], figures["steps"], figures["ended"]) == (2, 4, 10, "epochs")
    assert len((tmp_path / "loss.csv").read_text().splitlines()) == 1 + len(seen)
    settings = settings.model_copy(update={"mends": 0})
    assert train(PeftEngine(folder, None, EXACT), rows, settings, 1, tmp_path / "b", never)["mends"] == 0


def test_what_mends_a_memory_are_its_rows_as_many_others_and_core() -> None:
    rows = [replace(ROWS[0], memories=(memory,)) for memory in "abcdefab"] + [*ANCHORED, *ANCHORED]
    chosen = data.mending(rows, {"a"}, 0.2, random.Random(1))
    assert chosen[:2] == [0, 6]
    assert len(chosen) == 5 and set(chosen[2:4]) <= {1, 2, 3, 4, 5, 7} and chosen[4] >= 8
    assert data.mending(rows, {"z"}, 0.2, random.Random(1)) == []
    assert data.mending(rows[:1], {"a"}, 0.2, random.Random(1)) == [0]


def test_whoever_watches_may_end_it(folder: Path, tmp_path: Path) -> None:
    rows = data.Dataset(ROWS, (), (), {})
    figures = train(
        PeftEngine(folder, None, EXACT), rows, FAST, 1, tmp_path / "a", lambda step: step.step == 3
    )
    assert (figures["ended"], figures["steps"]) == ("watch", 3)
    assert figures["stop_recall"] is None
    assert (tmp_path / "a" / "adapter_model.safetensors").is_file()


def test_without_rows_there_is_no_training(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        train(PeftEngine(folder, None, EXACT), data.Dataset((), (), (), {}), FAST, 1, tmp_path / "a", never)


# --- merge -----------------------------------------------------------------------------------------------


def test_fidelity_tells_a_faithful_merge_from_another_model(folder: Path, tmp_path: Path) -> None:
    engine = PeftEngine(folder, None, EXACT)
    settings = FAST.model_copy(update={"epochs": 10})
    train(engine, data.Dataset(ROWS, (), (), {}), settings, 1, tmp_path / "a", never)
    adapted = PeftEngine(folder, tmp_path / "a", EXACT)
    engine.merge(tmp_path / "merged")
    chats = [row.messages[:1] for row in ROWS + ANCHORED]
    good = fidelity(PeftEngine(tmp_path / "merged", None, EXACT), adapted, chats)
    assert good["kl"] == pytest.approx(0, abs=1e-6) and good["top1"] == 1
    bad = fidelity(PeftEngine(folder, None, EXACT), adapted, chats)
    assert bad["kl"] > 0.1 and bad["top1"] < 1
    with pytest.raises(BadInput):
        fidelity(adapted, adapted, [])


def test_a_chat_of_one_turn_is_enough_for_fidelity(folder: Path) -> None:
    engine = PeftEngine(folder, None, EXACT)
    assert fidelity(engine, engine, [chat("Hello")]) == {"kl": 0.0, "top1": 1.0}


def test_a_small_night_passes_over_its_rows_more_often() -> None:
    rows = build(dreams(), settings=ForgeSettings(core_share=0)).train
    count = data.turns(rows)
    batches = -(-count // STANDARD.batch_size)
    assert epochs(count, ForgeSettings(steps=0)) == STANDARD.epochs
    assert epochs(count, ForgeSettings(steps=batches * (STANDARD.epochs + 2))) == STANDARD.epochs + 2
    assert epochs(count, ForgeSettings(steps=10**6)) == 2 * STANDARD.epochs


def test_a_night_that_rehearses_takes_smaller_steps_with_less_noise_and_slack(tmp_path: Path) -> None:
    messages = (Message("user", "?"), Message("assistant", "!"))
    new, core = Sample(messages, "new"), Sample(messages, "core")
    due = [Sample(messages, "due", pool=f"m/{at % 3}") for at in range(9)]

    class Spy:
        def train(
            self, rows: object, anchors: Sequence[Sample], plan: TrainPlan, out: Path, watch: Watch
        ) -> None:
            self.plan, self.slack = plan, anchors[0].slack
            watch(Step(1, 1, 1, 0.0, 0.0, 0.0, 1))

    def plan(*rows: Sample) -> tuple[TrainPlan, float]:
        spy: Any = Spy()
        held = replace(core, slack=0.4)
        train(spy, data.Dataset(rows, (), (held,), {}), STANDARD, 1, tmp_path / "adapter", lambda _: False)
        return cast(TrainPlan, spy.plan), spy.slack

    for first, slack in (plan(new, core), plan(*due, core)):
        assert (first.learning_rate, first.noise, slack) == (STANDARD.learning_rate, STANDARD.noise, 0.4)
    late, slack = plan(new, *due, core, core)
    assert slack == pytest.approx(0.1)
    assert late.learning_rate == pytest.approx(STANDARD.learning_rate / 2)
    assert late.noise == pytest.approx(STANDARD.noise / 4)
