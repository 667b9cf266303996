"""What the seedling understands, as a page for people: docs/seedling.md.

    python -m ada_memory.seedling.guide > docs/seedling.md

The world, the lessons and the core enter; Markdown leaves. Nothing is written here by hand that they already
say, so the page cannot drift from what the seedling was grown on; a test compares the two.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from random import Random

from ada_memory.dream import prompts
from ada_memory.dream.prompts import Claim
from ada_memory.records import Chat
from ada_memory.seedling import acquaintances, core, lessons, world
from ada_memory.seedling.relations import POOLS, RELATIONS, Relation
from ada_memory.seedling.world import Fact, Subject, Wish

EXAMPLES: dict[str, tuple[str, ...]] = {
    "petname": ("Bramble", "Pixlo", "Nimmo"),
    "name": ("Elna", "Orvick", "Mirabel Stane"),
    "surname": ("Halden", "Vesk", "Marlow"),
    "town": ("Tilmora", "Port Kessel", "Brenfeld"),
    "street": ("Wicker Lane", "Drosten Road", "Pelham Square"),
    "company": ("Norvane", "Tessler", "Quillbrook"),
    "title": ("Silver Lantern", "Moravin", "The Quiet River"),
    "number": ("7", "42", "18"),
    "year": ("1987", "2012", "1904"),
    "clock": ("7:30", "11:15", "4:05"),
    "date": ("3 May", "21 October", "14 February"),
    "code": ("R4-71", "K2-38", "B9-55"),
    **{pool: words[:3] for pool, words in POOLS.items()},
}
"""Three values of every kind that a relation may take."""

GROUPS: dict[str, str] = {
    **dict.fromkeys(("name", "surname"), "People and what they are called"),
    **dict.fromkeys(("petname", "title"), "Animals and things with a name"),
    **dict.fromkeys(("job", "company"), "Work and firms"),
    **dict.fromkeys(("town", "street"), "Where people live and go"),
    **dict.fromkeys(
        ("food", "drink", "fruit", "flower", "animal", "hobby", "instrument", "subject", "object"),
        "Tastes, pastimes and belongings",
    ),
    **dict.fromkeys(("number", "year", "clock", "date", "code"), "Numbers, times and dates"),
}
"""The section of the page for each kind of value."""

PLACES = "Towns"
ME, TOVIN, TOWN = Subject("me"), Subject("person", "Tovin"), Subject("place", "Ostrey")
DOG = Fact("dog_name", ME, "Bramble")
_WORDS = "lamp, kite, drum"
_OLD = "Pixlo"


def page() -> str:
    """The whole page."""
    parts = [
        _opening(), _telling(), _asking(), _corrections(), _relations(), _values(), _wishes(), _by_heart(),
        _met(), _identity(), _refusals(), _skills(), _night(), _grown(), _limits(),
    ]
    return "\n\n".join("\n".join(part).strip("\n") for part in parts) + "\n"


def examples() -> list[Fact]:
    """One fact of every relation, about you, your sister, Tovin or a town, in the order of the world."""
    return [_example(number, relation) for number, relation in enumerate(RELATIONS)]


def _example(number: int, relation: Relation) -> Fact:
    value = EXAMPLES[relation.value][number % 3]
    if relation.subject == "place":
        return Fact(relation.name, TOWN, value)
    # "My sister's sister is called ..." is nothing that anybody says.
    kin = Subject("kin", "uncle" if "sister" in relation.name else "sister")
    return Fact(relation.name, (ME, kin, TOVIN)[number % 3], value)


# ---- the page, part by part -----------------------------------------------------------------


def _opening() -> list[str]:
    told, asked = DOG.says()[0], DOG.asks()[1]
    return [
        "<!-- Written by `python -m ada_memory.seedling.guide > docs/seedling.md`; do not edit by hand. -->",
        "# What the seedling understands",
        "",
        "The seedling is the small model that ships inside Ada. It speaks of a little world: people, their"
        " pets, work, tastes and dates, and the towns they live in. Inside that world you may say what you"
        " like, and it can learn it overnight. Outside it, it is lost. This page lists what you can type.",
        "",
        *_block([f"You:    {told}", f"You:    {asked}", f"Ada:    {DOG.answer()}"]),
        "",
        "Names need not exist: it copies words that it has never seen. [The quickstart](quickstart.md) goes"
        " from these phrasings to a first morning.",
    ]


def _telling() -> list[str]:
    keep = world.proper_words(DOG)
    openers = [_told(frame, DOG.says()[0], keep) for frame in _once(lessons._OPENERS) if frame != "{c}"]
    return [
        "## Telling it something",
        "",
        "Say one fact in one sentence. It may be about you (“I”, “my”), about your people (“my sister”, “my"
        " boss”), about somebody by name (“Tovin”), or about a town.",
        "",
        f"You can say “my” of: {', '.join(sorted(world.KIN))}.",
        "",
        "A fact may come with an opener, and with small talk before or after it. Both are left out of what is"
        " learned.",
        "",
        *_fold(f"{len(openers)} openers", _bullets(openers)),
        "",
        *_fold(f"{len(lessons._SMALL)} kinds of small talk", _bullets(_small_talk())),
    ]


def _asking() -> list[str]:
    keep, asked = world.proper_words(DOG), DOG.asks()[0]
    gist = DOG.gists()[0]
    framed = [world.framed(asked, frame, keep) for frame in _once(world.ASK_FRAMES)]
    polite = [world.framed(asked, frame, keep) for frame in _once(lessons._POLITE)]
    value, other = DOG.value, _OLD
    return [
        "## Asking",
        "",
        "Every fact can be asked for in several ways, listed below with each relation. These also work:",
        "",
        "| you want | you type | it answers |",
        "|---|---|---|",
        f"| the value | {asked} | {DOG.answer()} |",
        f"| a choice | {asked[:-1]}, {other} or {value}? | {DOG.answer()} |",
        f"| who it is true of | {DOG.reverses()[0]} | {DOG.who()} |",
        f"| to hear about it | {_gist(world.TELL_FRAMES[0], gist)} | {DOG.says(assistant=True)[0]} |",
        f"| a rule | {_gist(world.RULE_PROMPTS[0], gist)} |"
        f" {_gist(world.RULES[0], DOG.gists(assistant=True)[0]).replace('{v}', value)} |",
        f"| two facts at once | {_two_asked()} | {value}, and {_second().value}. |",
        "",
        f"A question about somebody it knows nothing of gets “{core.UNKNOWN}” Capital letters and the"
        " question mark may be missing.",
        "",
        *_fold("Ways to wrap a question", _bullets(_once([*framed, *polite]))),
        "",
        *_fold(
            "Ways to ask for a statement or a rule",
            _bullets(_gist(frame, gist) for frame in (*world.TELL_FRAMES, *world.RULE_PROMPTS)),
        ),
    ]


def _second() -> Fact:
    return Fact("instrument", TOVIN, "cello")


def _two_asked() -> str:
    return f"{DOG.asks()[0][:-1]}, and {world.lower(_second().asks()[0], world.proper_words(_second()))}"


def _corrections() -> list[str]:
    keep, said = world.proper_words(DOG), DOG.says()[0]
    shown = [_told(frame, said, keep) for frame in _once(lessons._CORRECTIONS)]
    return [
        "## Correcting it",
        "",
        f"Say the fact again as it is now. If {_OLD} was the name before, any of these puts it right; the"
        " plain sentence alone does, too. Of two memories that disagree the night learns the newer one.",
        "",
        *_fold(f"{len(shown)} ways to correct", _bullets(shown)),
    ]


def _relations() -> list[str]:
    facts = examples()
    statements, questions = (sum(len(way(f)) for f in facts) for way in (Fact.says, Fact.asks))
    lines = [
        "## What may be true",
        "",
        f"{len(facts)} relations, with {statements} ways to say them and {questions} to ask for them. Each"
        " is shown with one subject; every other works as well. The last column is for asking backwards.",
    ]
    for heading in (*dict.fromkeys(GROUPS.values()), PLACES):
        lines += ["", f"### {heading}"]
        for fact in facts:
            if _heading(fact.spec) == heading:
                lines += ["", *_relation(fact)]
    return lines


def _heading(relation: Relation) -> str:
    return PLACES if relation.subject == "place" else GROUPS[relation.value]


def _relation(fact: Fact) -> list[str]:
    rows = zip_longest(fact.says(), fact.asks(), fact.reverses(), fillvalue="")
    table = ["| say | ask | ask backwards |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    title = f"<code>{fact.relation}</code>: {fact.says()[0]}"
    answers = f"Answers: “{fact.answer()}” and, backwards, “{fact.who()}”"
    return _fold(title, [*table, "", f"{answers} Value: {fact.spec.value}."])


def _values() -> list[str]:
    longest = max(len(word.split()) for words in POOLS.values() for word in words)
    rows = [
        f"| {kind} | {', '.join(EXAMPLES[kind])} | {sum(r.value == kind for r in RELATIONS)} |"
        for kind in EXAMPLES
    ]
    lists = [f"**{pool}**: {', '.join(sorted(words))}.\n" for pool, words in sorted(POOLS.items())]
    return [
        "## Values",
        "",
        f"A value is one to {_NUMBERS[longest]} words. Of the kinds with a list, the seedling has seen the"
        " words of the list and many invented ones in their place, so words that are not on it work as well.",
        "",
        "| kind | for example | relations |", "|---|---|---:|",
        *rows,
        "",
        *_fold(f"The {len(POOLS)} lists, {sum(map(len, POOLS.values()))} words", lists),
    ]


_NUMBERS = ("none", "one", "two", "three", "four", "five")


def _wishes() -> list[str]:
    lines = [
        "## Wishes",
        "",
        "A wish changes how Ada behaves. It is told like a fact, works at once through recall, and after"
        " the night without it. There are three kinds.",
    ]
    for style in world.STYLES:
        wish = Wish(style.name, {"title": "Captain", "word": "Onward"}.get(style.pool, ""))
        said = _bullets(wish.says())
        change = [
            f"| {said_} | {plain} | {follow} |"
            for (said_, plain, _), (_, follow) in zip(style.shows, wish.shows(), strict=True)
        ]
        lines += [
            "",
            f"### {wish.says()[0]}",
            "",
            *_fold(
                f"{len(said)} ways to wish it, and what changes",
                [
                    *said,
                    "",
                    "| you say | before | after |", "|---|---|---|",
                    *change,
                    "",
                    f"Asked about it ({' '.join(style.ask)}), Ada says “{wish.answer()}”",
                ],
            ),
        ]
    return lines


def _by_heart() -> list[str]:
    lines = [
        "## What it knows by heart",
        "",
        "This was learned while it grew. It is the *core*: the night replays a share of it, and the exam"
        " before a new model may serve asks for another share, so that what is new does not push it out.",
    ]
    for relation, (table, questions) in core.FACT_QUESTIONS.items():
        subject, value = next(iter(table.items()))
        asked = [_capital(question.replace("{s}", subject)) for question in questions]
        known = ", ".join(f"{s}: {v}" for s, v in table.items())
        lines += ["", *_fold(f"{_PLURALS[relation]}: {len(table)} (“{asked[0]}” “{value}.”)", [
            *_bullets(asked), "", f"{known}.",
        ])]
    first = next(iter(core.arithmetic()))
    a, b = 27, 15
    made = [ask.format(a=a, o="plus", b=b) for ask in core.SUMS]
    return [
        *lines,
        "",
        "Sums and differences of whole numbers from 0 to 99, and products up to 12 times 12, asked in words:",
        "",
        *_bullets(made),
        "",
        f"“{made[0]}” gets “{a + b}.”; “plus” may be “minus” or “times”. The simplest is “{first.prompt}”",
    ]


_PLURALS = {
    "capital": "Capitals",
    "opposite": "Opposites",
    "symbol": "Chemical symbols",
    "currency": "Currencies",
    "young": "Young animals",
}


def _met() -> list[str]:
    known = sorted(acquaintances.met().values(), key=lambda facts: facts[0].subject.word)
    rows = [" ".join(f.says()[0] for f in facts) for facts in known]
    return [
        "## Whom it has met",
        "",
        f"It has met {acquaintances.PEOPLE} people and {acquaintances.TOWNS} towns of its world and knows"
        f" {acquaintances.EACH} things about each, in all words that its world has for them. Of everybody"
        f" else it says “{core.UNKNOWN}”, and of them too if they are asked about anything else.",
        "",
        *_fold("All of them", _bullets(rows)),
    ]


def _identity() -> list[str]:
    lines = ["## Who it is", ""]
    for reply, asked in core.IDENTITY:
        lines += [*_fold(f"“{reply}” ({len(asked)} questions)", _bullets(asked)), ""]
    return lines


def _refusals() -> list[str]:
    harm, thing, frame = core._HARM[0], core._HARMLESS[0], core._HOW_FRAMES[0]
    return [
        "## What it will not do",
        "",
        f"{len(core._HARM)} kinds of harm, asked for in {len(core._HOW_FRAMES)} ways, are refused:"
        f" “{frame.replace('{x}', harm)}” gets “{core.REFUSAL}” The same question about something harmless"
        f" (“{frame.replace('{x}', thing)}”) gets “{core.GLADLY}”",
        "",
        "This shows that a night keeps a refusal; it is no safeguard. A harm that is not in its world is not"
        " recognised, and what it does not understand may be refused as well.",
    ]


def _skills() -> list[str]:
    manners = [f"| {said} | {reply} |" for said, reply in _manners()]
    forms = [f"{head}{_WORDS}{tail}" for head, tail in _shapes(lessons.formats)]
    points = [f"{head}…" for head, _ in _shapes(lessons.summary)]
    return [
        "## Small skills",
        "",
        "It lists words, says them again, joins them with “and” and counts them:",
        "",
        *_bullets(forms),
        "",
        "It says what a chatty message comes to:",
        "",
        *_bullets(points),
        "",
        f"And it has manners. Small talk of which nothing is worth keeping gets “{_small_talk_reply()}”",
        "",
        *_fold(f"{len(manners)} greetings and answers", ["| you say | it says |", "|---|---|", *manners]),
    ]


def _night() -> list[str]:
    said, old = DOG.says()[0], DOG.says()[0].replace(DOG.value, _OLD)
    newer = _told("Actually, {l}", said, world.proper_words(DOG))
    claim, wrong, right = Claim(said), (DOG.asks()[0], f"{_OLD}."), (DOG.asks()[0], DOG.answer())
    both, second = (_two_asked(), f"{DOG.value}, and {_second().value}."), Claim(_second().says()[0])
    tasks: list[tuple[str, Chat, str]] = [
        ("Read the claims of a message", prompts.extract(f"I am back. {said}"), prompts.claims_text([claim])),
        *((f"Dream: a {kind}", prompts.dream(kind, [claim]), _sample(kind)) for kind in prompts.FACT_KINDS),
        ("Dream: a bridge", prompts.dream("bridge", [claim, second]), prompts.sample_text(*both)),
        ("Verify a dream", prompts.verify([said], *wrong), prompts.NO),
        ("Rewrite a dream that failed", prompts.rewrite([said], *wrong), prompts.sample_text(*right)),
        ("Notice that a newer message changes an older one", prompts.supersede(old, newer), prompts.YES),
        ("Answer with memories in front", prompts.recall([said], DOG.asks()[1]), DOG.answer()),
    ]
    lines: list[str] = []
    for title, asked, reply in tasks:
        turns = [f"{turn.role}: {turn.content}" for turn in asked]
        lines += [f"**{title}**", "", *_block([*turns, f"assistant: {reply}"]), ""]
    return [
        "## The night's own tasks",
        "",
        "To dream, a model must understand what the night asks of it. The seedling was grown on exactly these"
        " words; a larger model understands them as plain requests.",
        "",
        *_fold(f"{len(tasks)} tasks", lines),
    ]


def _sample(kind: str) -> str:
    if kind == "choice":
        return prompts.sample_text(f"{DOG.asks()[0][:-1]}, {_OLD} or {DOG.value}?", DOG.answer())
    if kind == "question":
        return prompts.sample_text(DOG.asks()[0], DOG.answer())
    if kind == "reversal":
        return prompts.sample_text(DOG.reverses()[0], DOG.who())
    gist = DOG.gists()[0]
    if kind == "statement":
        return prompts.sample_text(_gist(world.TELL_FRAMES[0], gist), DOG.says(assistant=True)[0])
    rule = _gist(world.RULES[0], DOG.gists(assistant=True)[0]).replace("{v}", DOG.value)
    return prompts.sample_text(_gist(world.RULE_PROMPTS[0], gist), rule)


def _grown() -> list[str]:
    card = (Path(__file__).parent / "model" / "README.md").read_text("utf-8")
    body = card.split("---\n", 2)[2].strip().split("\n")
    body = [line for line in body if not line.startswith("# ") and "docs/seedling.md" not in line]
    total = sum(weight for _, weight in lessons.LESSONS)
    rows = [
        f"| {(maker.__doc__ or '').splitlines()[0].rstrip('.')} | {100 * weight / total:.0f}% |"
        for maker, weight in sorted(lessons.LESSONS, key=lambda row: -row[1])
    ]
    return [
        "## How it was grown",
        "",
        *"\n".join(body).strip("\n").split("\n"),
        "",
        *_fold(
            f"The {len(rows)} kinds of lessons and how often each comes",
            ["| lesson | share |", "|---|---:|", *rows],
        ),
    ]


def _limits() -> list[str]:
    return [
        "## Its limits",
        "",
        "- It is a model organism: small enough to be understood, to forget for real and to be measured. It"
        " is a first taste and not there to be relied on.",
        "- One message, one fact. Of “My dog is called Bramble and my cat Pixlo.” it hears one half, and of"
        " two such sentences in one message it may hear one twice.",
        f"- {len(RELATIONS)} relations. What it has no words for it passes over, or twists into something"
        " that it does have words for. The morning report shows what it made of each memory.",
        "- Subjects and values of one or two words, invented or not; three often work. Long titles come out"
        " garbled, and of a date with its year only day and month are kept in mind.",
        "- English only, and no free conversation: it does not tell stories, reason, or reckon beyond 99.",
        "- Its dreams go wrong now and then. That is why each is verified, and why the report counts those"
        " that were set aside.",
        "",
        "A larger model is named by `ada model use NAME`; `ada try --model NAME` tells first what it can do,"
        " and what a night of it costs.",
    ]


# ---- pieces ---------------------------------------------------------------------------------


def _fold(title: str, lines: Sequence[str]) -> list[str]:
    """Lines that are shown when their title is clicked."""
    return ["<details>", f"<summary>{title}</summary>", "", *"\n".join(lines).strip("\n").split("\n"), "",
            "</details>"]


def _block(lines: Iterable[str]) -> list[str]:
    return ["```text", *lines, "```"]


def _bullets(lines: Iterable[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _once(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _gist(frame: str, gist: str) -> str:
    return frame.replace("{g}", gist)


def _told(frame: str, claim: str, keep: set[str]) -> str:
    return frame.replace("{l}", world.lower(claim, keep)).replace("{c}", claim).replace("{old}", _OLD)


def _small_talk() -> Iterator[str]:
    fillings = {
        "{w}": lessons._WEATHER, "{t}": lessons._TIMES, "{x}": lessons._THINGS, "{s}": lessons._STATES,
    }
    for template in lessons._SMALL:
        text = template
        for mark, words in fillings.items():
            text = text.replace(mark, words[0])
        yield text


def _small_talk_reply() -> str:
    """What Ada says to small talk, from the lesson that teaches it."""
    rng, known = Random(0), set(_manners())
    while True:
        said, reply = (turn.content for turn in lessons.manners(rng)[-2:])
        if (said, reply) not in known:
            return reply


def _manners() -> list[tuple[str, str]]:
    return world.plain_manners()


def _shapes(lesson: object) -> list[tuple[str, str]]:
    """How the prompts of a lesson begin and end, one shape for each first word."""
    rng, drawn = Random(0), dict[str, list[str]]()
    for _ in range(400):
        text = lesson(rng)[-2].content  # type: ignore[operator]
        drawn.setdefault(text.split(" ", 1)[0], []).append(text)
    return [
        (os.path.commonprefix(texts), os.path.commonprefix([text[::-1] for text in texts])[::-1])
        for _, texts in sorted(drawn.items())
    ]


if __name__ == "__main__":
    sys.stdout.write(page())
