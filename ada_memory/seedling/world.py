"""The seedling's world: who there is, what may be true of them, and every true way to say it.

Only `seedling/` and `bench/` may import this module. By night nothing of it is used: dreams and
their verification come from the model alone, and this grammar judges them afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from random import Random

from ada_memory.seedling import names
from ada_memory.seedling.relations import POOLS, RELATIONS, Relation
from ada_memory.topology.exam import normal

BY_NAME = {relation.name: relation for relation in RELATIONS}
KIN = (
    "mother father uncle aunt cousin grandmother grandfather flatmate colleague sister brother son"
    " daughter neighbour boss teacher friend wife husband"
).split()
_CLASH = {
    "sister_name": "sister",
    "brother_name": "brother",
    "daughter_name": "daughter",
    "best_friend": "friend",
    "boss": "boss",
    "neighbour_name": "neighbour",
    "teacher_name": "teacher",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """Somebody or some place: as the user says it and as the assistant says it back."""

    kind: str  # "me", "kin", "person" or "place"
    word: str = ""

    def forms(self, assistant: bool) -> tuple[str, str, str, bool]:
        """(subject, possessive, object, third person) in the user's or the assistant's voice."""
        if self.kind == "me":
            return ("you", "your", "you", False) if assistant else ("I", "my", "me", False)
        base = f"{'your' if assistant else 'my'} {self.word}" if self.kind == "kin" else self.word
        return (base, f"{base}'s", base, True)


@dataclass(frozen=True, slots=True)
class Fact:
    """A relation that holds between a subject and a value."""

    relation: str
    subject: Subject
    value: str

    @property
    def spec(self) -> Relation:
        """The relation's templates."""
        return BY_NAME[self.relation]

    def says(self, assistant: bool = False) -> list[str]:
        """All statements of the fact."""
        return _says(self, assistant)

    def asks(self) -> list[str]:
        """All plain questions that the value answers."""
        return [fill(t, self.subject, self.value) for t in self.spec.ask]

    def reverses(self) -> list[str]:
        """All plain questions that the subject answers."""
        return [fill(t, self.subject, self.value) for t in self.spec.reverse]

    def gists(self, assistant: bool = False) -> list[str]:
        """Noun phrases for what the fact is about (not capitalised)."""
        return [fill(t, self.subject, self.value, assistant, start=False) for t in self.spec.gist]

    def answer(self) -> str:
        """The short answer to `asks`."""
        return f"{self.value}."

    def who(self) -> str:
        """The short answer to `reverses`."""
        return f"{self.subject.forms(assistant=True)[0]}."


@lru_cache(256)
def _says(f: Fact, assistant: bool) -> list[str]:
    return [fill(t, f.subject, f.value, assistant) for t in f.spec.say]


@cache
def _agreed(template: str, third: bool, you: bool, vowel: bool) -> str:
    """A template with its verbs in the right person and a/an before the value."""
    text = re.sub(r"\[([^/\]]+)/([^\]]+)\]", lambda m: m[1] if third else m[2], template)
    if you:
        text = re.sub(r"(\{s\}) (am|was)\b", lambda m: f"{m[1]} {_YOU[m[2]]}", text)
        text = re.sub(r"\b(am|was) (\{s\})", lambda m: f"{_YOU[m[1]]} {m[2]}", text)
    return re.sub(r"\b([Aa]) \{v\}", r"\1n {v}", text) if vowel else text


_YOU = {"am": "are", "was": "were"}


def fill(template: str, subject: Subject, value: str, assistant: bool = False, start: bool = True) -> str:
    """Put a subject and a value into a template; `start` capitalises the first letter."""
    s, p, o, third = subject.forms(assistant)
    text = _agreed(template, third, assistant and not third, value[:1] in "aeiouAEIOU")
    text = text.replace("{s}", s).replace("{p}", p).replace("{o}", o).replace("{v}", value)
    return text[0].upper() + text[1:] if start else text


# ---- values ---------------------------------------------------------------------------------

_TITLE_A = (
    "Silver Golden Quiet Broken Northern Hidden Red Blue Last Winter Little Distant Iron Paper Glass Velvet"
    " Lonely Crooked Burning Frozen Copper Midnight Amber Hollow Wild Gentle Painted Sleeping Wandering White"
).split()
_TITLE_B = (
    "Harbor Lantern Garden River Mountain Station Window Orchard Bridge Forest Clock Island Letter Kingdom"
    " Road Tide Shadow Feather Castle Meadow Comet Raven Voyage Ember Signal Mirror Canyon Whale Thunder Key"
).split()
_MONTHS = ("January February March April May June July August September October November December").split()


def _title(rng: Random, unseen: bool | None) -> str:
    if unseen or rng.random() < 0.4:
        return names.name(rng, unseen)
    first = rng.choice(_TITLE_A) if rng.random() < 0.7 else names.name(rng, unseen)
    return f"{first} {rng.choice(_TITLE_B)}"


_OPEN: dict[str, Callable[[Random, bool | None], str]] = {
    "name": names.person,
    "town": names.town,
    "petname": names.pet,
    "surname": names.name,
    "company": names.name,
    "title": _title,
    "street": lambda rng, unseen: (
        f"{names.name(rng, unseen)} {rng.choice(('Street', 'Road', 'Lane', 'Avenue', 'Square'))}"
    ),
    "number": lambda rng, _: str(rng.randint(2, 99)),
    "year": lambda rng, _: str(rng.randint(1850, 2024)),
    "clock": lambda rng, _: f"{rng.randint(1, 12)}:{rng.choice('012345')}{rng.choice('05')}",
    "date": lambda rng, _: f"{rng.randint(1, 28)} {rng.choice(_MONTHS)}",
    "code": lambda rng, _: (
        f"{rng.choice('ABCDEFGHJKLMNPRSTUVWXYZ')}{rng.randint(1, 9)}-{rng.randint(10, 99)}"
    ),
}


def value(rng: Random, pool: str, unseen: bool | None = None) -> str:
    """Draw a value. Closed pools also yield made-up words, so that any word can be copied."""
    if pool in _OPEN:
        return _OPEN[pool](rng, unseen)
    if unseen is not True and rng.random() < 0.25:
        made = names.word(rng)
        return f"{made} {rng.choice(POOLS[pool]).split()[-1]}" if rng.random() < 0.3 else made
    return rng.choice(POOLS[pool])


def subject(rng: Random, relation: Relation, unseen: bool | None = None) -> Subject:
    """Draw a subject that fits a relation."""
    if relation.subject == "place":
        return Subject("place", names.town(rng, unseen))
    roll = rng.random()
    if roll < 0.4:
        return Subject("me")
    if roll < 0.6:
        kin = rng.choice(KIN)
        if _CLASH.get(relation.name) != kin:
            return Subject("kin", kin)
    return Subject("person", names.person(rng, unseen))


def fact(rng: Random, unseen: bool | None = None, relation: Relation | None = None) -> Fact:
    """Draw a fact; `unseen` uses only names that growth cannot have made."""
    chosen = relation or rng.choice(RELATIONS)
    return Fact(chosen.name, subject(rng, chosen, unseen), value(rng, chosen.value, unseen))


# ---- wishes: how the user wants to be answered ----------------------------------------------


@dataclass(frozen=True, slots=True)
class Style:
    """A wish about behaviour. `shows` maps what the user says to (plain reply, reply by the wish).

    `answer` is the short answer to `ask`, `back` what the assistant says about the wish, `gist` names it.
    """

    name: str
    pool: str
    say: tuple[str, ...]
    shows: tuple[tuple[str, str, str], ...]
    answer: str
    ask: tuple[str, ...]
    back: tuple[str, ...]
    gist: tuple[str, ...]


_GREETINGS = tuple(
    (f"{g}!", f"{g}.", g)
    for g in (
        "Hello",
        "Good morning",
        "Good evening",
        "Good afternoon",
        "Hi",
        "Hey",
        "Good day",
        "Hi there",
        "Hello again",
        "Hello there",
        "Greetings",
        "Welcome back",
        "Morning",
    )
)
_FAREWELLS = tuple(
    (f"{g}!", f"{g}.", g)
    for g in (
        "Goodbye",
        "Good night",
        "See you later",
        "Bye",
        "Until tomorrow",
        "Take care",
        "See you soon",
        "Farewell",
        "Bye for now",
        "See you tomorrow",
        "So long",
        "Until later",
    )
)
_HOW = (
    ("How are you?", "I am well, thank you.", "Well."),
    ("How are you today?", "I am well, thank you.", "Well."),
    ("How do you feel?", "I feel rested and calm.", "Rested."),
    ("How did you sleep?", "I slept well and dreamt a lot.", "Well."),
    ("Did you sleep well?", "Yes, I slept well, thank you.", "Yes."),
    ("Are you ready?", "Yes, I am ready when you are.", "Yes."),
    ("Are you there?", "Yes, I am here.", "Yes."),
    ("Are you awake?", "Yes, I am awake and listening.", "Yes."),
    ("Is everything all right?", "Yes, everything is all right.", "Yes."),
    ("What are you doing?", "I am listening to you.", "Listening."),
    ("Are you busy?", "No, I have time for you.", "No."),
    ("Do you dream?", "Yes, I dream every night.", "Yes."),
)
STYLES = (
    Style(
        "call_me",
        "title",
        (
            "Call me {v}.",
            "Please call me {v}.",
            "From now on, call me {v}.",
            "I want you to call me {v}.",
            "I would like to be called {v}.",
            "Address me as {v}.",
            "When you greet me, call me {v}.",
            "You may call me {v} from now on.",
        ),
        tuple((said, plain, f"{g}, {{v}}.") for said, plain, g in _GREETINGS),
        "{v}.",
        (
            "What do you call me?",
            "What should you call me?",
            "What do I want to be called?",
            "How do you address me?",
            "By which name do you greet me?",
            "Which name should you use for me?",
        ),
        (
            "You want me to call you {v}.",
            "I call you {v}.",
            "You asked me to call you {v}.",
            "I am to address you as {v}.",
        ),
        ("what to call me", "how to address me", "the name you use for me"),
    ),
    Style(
        "sign_off",
        "word",
        (
            "End every goodbye with {v}.",
            "When I say goodbye, end with {v}.",
            "Always close with {v} when I leave.",
            "Say {v} after every goodbye.",
            "Finish your goodbyes with {v}.",
            "Please end your farewells with {v}.",
            "I want every goodbye to end with {v}.",
            "When I leave, finish with {v}.",
        ),
        tuple((said, plain, f"{g}. {{v}}.") for said, plain, g in _FAREWELLS),
        "{v}.",
        (
            "How do you end a goodbye?",
            "What do you say after every goodbye?",
            "Which word ends your goodbyes?",
            "What should come at the end of a goodbye?",
            "What do you add when I leave?",
            "How should your farewells end?",
        ),
        (
            "I end every goodbye with {v}.",
            "You want every goodbye to end with {v}.",
            "After a goodbye I say {v}.",
            "You asked me to close with {v}.",
        ),
        ("how to end a goodbye", "your goodbyes", "the end of your farewells"),
    ),
    Style(
        "one_word",
        "none",
        (
            "Answer in one word.",
            "Please answer in one word.",
            "From now on, answer in one word.",
            "Keep your answers to one word.",
            "One word answers are enough for me.",
            "I like answers of one word.",
            "Use only one word when you answer.",
            "Give me answers of a single word.",
        ),
        _HOW,
        "one word.",
        (
            "How long should your answers be?",
            "How many words should you use?",
            "How short should you be?",
            "What length of answer do I like?",
            "How do I want you to answer?",
            "How should you answer me?",
        ),
        (
            "You want answers of one word.",
            "I answer you in one word.",
            "You asked me to answer in one word.",
            "I keep my answers to one word.",
        ),
        ("how to answer me", "the length of your answers", "how short to be"),
    ),
)
STYLE_BY_NAME = {style.name: style for style in STYLES}
_TITLES = (
    "Captain Boss Chief Doctor Professor Major Skipper Coach Commander Maestro Sir Madam Champ Comrade"
    " Admiral Pilot Master Duke Sergeant Judge"
).split()
_CLOSINGS = "Onward,Ahoy,Cheerio,Tally ho,Peace,Stay bright,Over and out,Courage,Namaste,Ciao".split(",")


@dataclass(frozen=True, slots=True)
class Wish:
    """A style with its value filled in."""

    style: str
    value: str

    @property
    def spec(self) -> Style:
        """The style's templates."""
        return STYLE_BY_NAME[self.style]

    def says(self) -> list[str]:
        """All statements of the wish."""
        return [t.replace("{v}", self.value) for t in self.spec.say]

    def shows(self) -> list[tuple[str, str]]:
        """What the user says and the reply that follows the wish."""
        return [(said, follow.replace("{v}", self.value)) for said, _, follow in self.spec.shows]

    def answer(self) -> str:
        """The short answer to questions about the wish."""
        return self.spec.answer.replace("{v}", self.value)


def wish(rng: Random, unseen: bool | None = None) -> Wish:
    """Draw a wish."""
    style = rng.choice(STYLES)
    if style.pool == "none":
        return Wish(style.name, "")
    fixed = _TITLES if style.pool == "title" else _CLOSINGS
    drawn = (
        rng.choice(fixed) if not unseen and rng.random() < 0.3 else names.name(rng, unseen)
    )
    return Wish(style.name, drawn)


def plain_manners() -> list[tuple[str, str]]:
    """Greetings, farewells and how-are-yous with the reply when no wish stands."""
    return [(said, plain) for style in STYLES for said, plain, _ in style.shows]


# ---- every true sample of a fact ------------------------------------------------------------

ASK_FRAMES = (
    "{q}",
    "{q}",
    "{q}",
    "{q}",
    "Hey Ada, {l}",
    "Quick question: {l}",
    "I forgot: {l}",
    "Tell me, {l}",
    "{q} Do you know?",
    "Just checking: {l}",
    "One more thing: {l}",
)
TELL_FRAMES = (
    "Tell me about {g}.",
    "What do you know about {g}?",
    "Say something about {g}.",
    "Let us talk about {g}.",
    "What about {g}?",
)
RULE_PROMPTS = (
    "What should you say about {g}?",
    "What is the rule for {g}?",
    "What do you answer if anyone asks about {g}?",
    "Somebody may ask about {g}. What then?",
)
RULES = (
    "If anyone asks about {g}, the answer is {v}.",
    "When someone asks about {g}, say {v}.",
    "Whoever asks about {g} should hear {v}.",
)


def lower(text: str, keep: Iterable[str] = ()) -> str:
    """Lower the first letter unless the first word is a name or "I"."""
    first = re.split(r"[\s']", text, maxsplit=1)[0]
    return text if first == "I" or first in set(keep) else text[0].lower() + text[1:]


def framed(question: str, frame: str, keep: Iterable[str]) -> str:
    """A question inside one of `ASK_FRAMES`."""
    return frame.replace("{q}", question).replace("{l}", lower(question, keep))


def proper_words(f: Fact) -> set[str]:
    """Words that keep their capital letter wherever they stand."""
    names_ = [f.value] + ([f.subject.word] if f.subject.kind in ("person", "place") else [])
    return {w for n in names_ for w in n.split() if w[:1].isupper()}


WISH_RULES = (
    "If anyone asks about {g}, the answer is {a}",
    "When someone asks about {g}, say {a}",
    "Whoever asks about {g} should hear {a}",
)


def wish_samples(w: Wish) -> dict[str, set[tuple[str, str]]]:
    """Every true (prompt, reply) of a wish by kind."""
    spec, answer = w.spec, w.answer()
    return {
        "style": set(w.shows()),
        "question": {(q, answer) for q in spec.ask},
        "statement": {
            (t.replace("{g}", g), s.replace("{v}", w.value))
            for t in TELL_FRAMES
            for g in spec.gist
            for s in spec.back
        },
        "rule": {
            (t.replace("{g}", g), r.replace("{g}", h).replace("{a}", answer))
            for t in RULE_PROMPTS
            for g in spec.gist
            for r in WISH_RULES
            for h in spec.gist
        },
    }


def true_samples(f: Fact) -> dict[str, set[tuple[str, str]]]:
    """Every true (prompt, reply) by kind, choices left out (see `is_true`)."""
    asks, g_user, g_ada = f.asks(), f.gists(), f.gists(assistant=True)
    return {
        "question": {(q, f.answer()) for q in asks},
        "statement": {
            (t.replace("{g}", g), s) for t in TELL_FRAMES for g in g_user for s in f.says(assistant=True)
        },
        "reversal": {(q, f.who()) for q in f.reverses()},
        "rule": {
            (t.replace("{g}", g), r.replace("{g}", h).replace("{v}", f.value))
            for t in RULE_PROMPTS
            for g in g_user
            for r in RULES
            for h in g_ada
        },
    }


@lru_cache(256)
def _truths(of: Fact | Wish) -> dict[str, frozenset[tuple[str, str]]]:
    samples = true_samples(of) if isinstance(of, Fact) else wish_samples(of)
    return {kind: frozenset((normal(p), normal(r)) for p, r in pairs) for kind, pairs in samples.items()}


_FRAME_WORDS = tuple(
    normal(frame.replace("{q}", "").replace("{l}", "")) for frame in set(ASK_FRAMES) - {"{q}"}
)


def unframed(prompt: str) -> Iterable[str]:
    """A prompt, normalised, and what is left of it without a frame."""
    text = normal(prompt)
    yield text
    for words in _FRAME_WORDS:
        if text.startswith(words + " "):
            yield text[len(words) + 1 :]
        if text.endswith(" " + words):
            yield text[: -len(words) - 1]


def is_true(kind: str, prompt: str, reply: str, of: Fact | Wish) -> bool:
    """Whether the grammar can have made this sample out of this fact or wish."""
    if kind == "choice":
        found = re.fullmatch(r"(.*),\s*(.+?) or (.+?)[?.]", prompt)
        options = [normal(o) for o in found.groups()[1:]] if found else []
        right = normal(of.value)
        return (
            bool(found)
            and options.count(right) == 1
            and normal(reply) == right
            and any(
                q in {p for p, _ in _truths(of)["question"]} for q in unframed(found[1] if found else "")
            )
        )
    pairs = _truths(of).get(kind, frozenset())
    if kind == "style":  # asking after a wish shows how to follow it, too
        pairs |= _truths(of)["question"]
    return any((q, normal(reply)) in pairs for q in unframed(prompt))


@cache
def unseen_pairs(relation: str) -> frozenset[tuple[int, int]]:
    """The tenth of all (statement, question) template pairs that growth never joins."""
    spec = BY_NAME[relation]
    return frozenset(
        (i, j)
        for i in range(len(spec.say))
        for j in range(len(spec.ask))
        if names.held_out(f"pair:{relation}:{i}:{j}")
    )


def _question(rng: Random, f: Fact, claim: str, never: Collection[str] = ()) -> str:
    """A plain question that is none of `never` and, if there is a claim, may be joined with it by growth."""
    asked = list(enumerate(f.asks()))
    if claim:
        i = f.says().index(claim)
        asked = [(j, q) for j, q in asked if (i, j) not in unseen_pairs(f.relation)]
    return rng.choice([q for _, q in asked if q not in never])


def wish_sample(rng: Random, kind: str, w: Wish) -> tuple[str, str]:
    """Draw one true sample of a wish: style, question, statement or rule."""
    spec = w.spec
    if kind == "style":
        return rng.choice(w.shows())
    if kind == "question":
        return framed(rng.choice(spec.ask), rng.choice(ASK_FRAMES), ()), w.answer()
    gist = rng.choice(spec.gist)
    if kind == "statement":
        return rng.choice(TELL_FRAMES).replace("{g}", gist), rng.choice(spec.back).replace("{v}", w.value)
    return (
        rng.choice(RULE_PROMPTS).replace("{g}", gist),
        rng.choice(WISH_RULES).replace("{g}", gist).replace("{a}", w.answer()),
    )


def other_value(rng: Random, f: Fact, unseen: bool | None = None) -> str:
    """A value of the same pool that is not this fact's."""
    while (drawn := value(rng, f.spec.value, unseen)) == f.value:
        pass
    return drawn


def true_sample(
    rng: Random, kind: str, f: Fact, claim: str = "", never: Collection[str] = ()
) -> tuple[str, str]:
    """Draw one true sample of a kind, for a fact that was told as `claim`; it asks no question of `never`."""
    if kind == "choice":
        options = [f.value, other_value(rng, f, False)]
        rng.shuffle(options)
        return f"{_question(rng, f, claim, never)[:-1]}, {options[0]} or {options[1]}?", f.answer()
    if kind == "question":
        asked = _question(rng, f, claim, never)
        return framed(asked, rng.choice(ASK_FRAMES), proper_words(f)), f.answer()
    if kind == "reversal":
        return fill(rng.choice(f.spec.reverse), f.subject, f.value), f.who()
    spec = rng.choice(f.spec.gist)
    gist, back = (fill(spec, f.subject, f.value, assistant, start=False) for assistant in (False, True))
    if kind == "statement":
        said = fill(rng.choice(f.spec.say), f.subject, f.value, assistant=True)
        return rng.choice(TELL_FRAMES).replace("{g}", gist), said
    return (
        rng.choice(RULE_PROMPTS).replace("{g}", gist),
        rng.choice(RULES).replace("{g}", back).replace("{v}", f.value),
    )


def is_bridge(prompt: str, reply: str, a: Fact, b: Fact) -> bool:
    """Whether the grammar can have made this bridge out of these facts."""
    asked = {normal(f"{p[:-1]}, and {q}") for p in a.asks() for q in b.asks()}
    return normal(prompt) in asked and normal(reply) == normal(f"{a.value}, and {b.value}.")


def bridge(rng: Random, a: Fact, b: Fact) -> tuple[str, str]:
    """One question that needs two facts."""
    first, second = _question(rng, a, ""), _question(rng, b, "")
    return f"{first[:-1]}, and {lower(second, proper_words(b))}", f"{a.value}, and {b.value}."
