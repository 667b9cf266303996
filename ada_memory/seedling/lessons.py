"""The lessons that the seedling is grown on: endless chats drawn from the world and the core."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from ada_memory.dream import prompts
from ada_memory.dream.prompts import Claim
from ada_memory.records import Chat, Message
from ada_memory.seedling import acquaintances, core, names, world
from ada_memory.seedling.relations import POOLS, RELATIONS
from ada_memory.seedling.world import Fact, Wish

KINDS = prompts.FACT_KINDS

_OPENERS = (
    "By the way, {l}",
    "Oh, and {l}",
    "Did I tell you? {c}",
    "You know, {l}",
    "I should mention that {l}",
    "Guess what: {l}",
    "Just so you know, {l}",
    "Please remember this: {l}",
    "Note for later: {l}",
    "One thing: {l}",
    "{c}",
    "{c}",
    "{c}",
    "{c}",
    "{c}",
    "{c}",
    "Remember that {l}",
    "I wanted to tell you that {l}",
    "For your information, {l}",
    "Today I heard that {l}",
)
_CORRECTIONS = (
    "Actually, {l}",
    "Correction: {l}",
    "I was wrong before: {l}",
    "Sorry, I made a mistake. {c}",
    "Scratch that, {l}",
    "No, wait. {c}",
    "I mixed that up. {c}",
    "That has changed: {l}",
    "Not {old}, I was wrong: {l}",
    "It is not {old}. {c}",
    "Forget {old}. {c}",
    "I said {old}, but that was wrong. {c}",
    "Update: {l}",
    "As of today, {l}",
)
_WEATHER = "rainy sunny windy grey cold warm foggy snowy lovely dark quiet".split()
_TIMES = "morning afternoon evening day week night".split()
_THINGS = "coffee tea soup bus train kettle heating window radio traffic internet printer phone".split()
_STATES = (
    "late again,cold again,broken again,slow today,fine now,loud today,working again,strange today".split(",")
)
_SMALL = (
    "What a {w} {t}.",
    "What a {w} {t} it is!",
    "It is so {w} today.",
    "I slept badly.",
    "I slept like a stone.",
    "I am a bit tired.",
    "Good {t}!",
    "Hello again.",
    "Thanks for yesterday.",
    "Thank you so much.",
    "The {x} is {s}.",
    "I need a break.",
    "I am in a good mood.",
    "Time flies.",
    "I just got up.",
    "I am back.",
    "Nothing special today.",
    "That was a long {t}.",
    "I could eat something.",
    "My head hurts a little.",
    "I am waiting for the {x}.",
    "Let us get started.",
    "Where was I?",
    "It was a {w} {t}, but I cannot complain.",
    "I hope you are well.",
    "How are you?",
    "How was your night?",
    "Such is life.",
    "The {x} was {s}, you know how it is.",
    "Well, that is that.",
    "I should drink more water.",
    "Anyway.",
    "So much to do.",
    "I am on my way.",
    "Give me a minute.",
    "I went for a walk.",
    "The news is boring.",
    "Funny, is it not?",
    "I have to hurry.",
    "Do you like {w} weather?",
    "I am thinking about the weekend.",
    "It smells like {x} in here.",
    "I was reading until late.",
    "We talked for hours.",
    "Lunch was nice.",
    "I cleaned the kitchen.",
    "I am glad that you are here.",
    "Never mind.",
)
_ACKS = ("Thank you, I will remember that.", "Noted.", "Good to know. I will sleep on it.")


def small_talk(rng: Random) -> str:
    """A sentence that tells nothing worth keeping."""
    text = rng.choice(_SMALL).replace("{w}", rng.choice(_WEATHER)).replace("{t}", rng.choice(_TIMES))
    return text.replace("{x}", rng.choice(_THINGS)).replace("{s}", rng.choice(_STATES))


def told(rng: Random, claim: str, keep: set[str], old: str | None = None) -> str:
    """A claim as somebody drops it in a message: with an opener, or as a correction of `old`."""
    frame = rng.choice(_CORRECTIONS if old is not None else _OPENERS)
    if rng.random() < 0.05 and old is None:
        frame = rng.choice(_CORRECTIONS[:4])
    return (
        frame.replace("{l}", world.lower(claim, keep)).replace("{c}", claim).replace("{old}", old or "that")
    )


def message(rng: Random, parts: list[str]) -> str:
    """Parts with small talk before, between or after them."""
    out: list[str] = []
    for part in parts:
        if rng.random() < 0.4:
            out.append(small_talk(rng))
        out.append(part)
    if rng.random() < 0.35:
        out.append(small_talk(rng))
    return " ".join(out)


def fact_message(rng: Random, f: Fact, old: str | None = None, claim: str = "") -> tuple[str, str]:
    """(message, claim) for one fact."""
    claim = claim or rng.choice(f.says())
    return message(rng, [told(rng, claim, world.proper_words(f), old)]), claim


def wish_message(rng: Random, w: Wish) -> tuple[str, str]:
    """(message, claim) for one wish."""
    claim = rng.choice(w.says())
    return message(
        rng, [rng.choice(("{c}", "{c}", "One wish: {c}", "Please remember: {c}")).replace("{c}", claim)]
    ), claim


def chat(*turns: str) -> Chat:
    """Turns in order: user, assistant, user, ..."""
    return tuple(Message("assistant" if i % 2 else "user", t) for i, t in enumerate(turns))


def _ask(rng: Random, f: Fact, claim: str) -> tuple[str, str]:
    kind = rng.choices(("question", "reversal", "choice", "statement", "rule"), (12, 3, 2, 1, 1))[0]
    return world.true_sample(rng, kind, f, claim)


def distinct(rng: Random, count: int, unseen: bool | None) -> list[Fact]:
    """Facts that do not contradict one another."""
    drawn: dict[tuple[str, world.Subject], Fact] = {}
    while len(drawn) < count:
        f = world.fact(rng, unseen)
        drawn.setdefault((f.relation, f.subject), f)
    return list(drawn.values())


def answer_in_context(rng: Random) -> Chat:
    """A question with memories in front; sometimes they do not hold the answer."""
    facts = distinct(rng, rng.choices((1, 2, 3, 4), (3, 3, 2, 5))[0], False)
    claims = [rng.choice(f.says()) for f in facts]
    memories = [
        fact_message(rng, f, claim=c)[0] if rng.random() < 0.8 else c
        for f, c in zip(facts, claims, strict=True)
    ]
    target, claim = rng.choice(list(zip(facts, claims, strict=True)))
    if len(facts) > 1 and rng.random() < 0.06:
        rng.shuffle(memories)
        prompt, reply = world.bridge(rng, *rng.sample(facts, 2))
        return (*prompts.recall(memories, prompt), Message("assistant", reply))
    if rng.random() < 0.08:  # the same relation of somebody else is not an answer
        stranger = Fact(target.relation, world.subject(rng, target.spec, False), target.value)
        if all((f.relation, f.subject) != (stranger.relation, stranger.subject) for f in facts):
            prompt, _ = world.true_sample(rng, "question", stranger)
            return (*prompts.recall(memories, prompt), Message("assistant", core.UNKNOWN))
    if rng.random() < 0.12:  # a newer memory corrects an older one
        newer = Fact(target.relation, target.subject, world.other_value(rng, target, False))
        said, claim = fact_message(rng, newer, target.value)
        memories.append(said)
        target = newer
    else:
        rng.shuffle(memories)
    prompt, reply = _ask(rng, target, claim)
    return (*prompts.recall(memories, casual(rng, prompt)), Message("assistant", reply))


def style_in_context(rng: Random) -> Chat:
    """Manners with a wish among the memories."""
    w = world.wish(rng, False)
    memories = [wish_message(rng, w)[0]] + [
        fact_message(rng, world.fact(rng, False))[0] for _ in range(rng.randrange(3))
    ]
    rng.shuffle(memories)
    if rng.random() < 0.3:
        said, reply = world.wish_sample(rng, rng.choice(("question", "question", "statement", "rule")), w)
    else:
        said, reply = rng.choice(w.shows()) if rng.random() < 0.7 else rng.choice(world.plain_manners())
        reply = dict(w.shows()).get(said, reply)
    return (*prompts.recall(memories, said), Message("assistant", reply))


def conversation(rng: Random) -> Chat:
    """A fact told in a chat, acknowledged, and asked for later."""
    f = world.fact(rng, False)
    said, claim = fact_message(rng, f)
    prompt, reply = _ask(rng, f, claim)
    turns = [said, rng.choice(_ACKS[:2])]
    if rng.random() < 0.5:
        turns += [fact_message(rng, world.fact(rng, False))[0], _ACKS[0]]
    return chat(*turns, prompt, reply) if rng.random() < 0.7 else chat(said, _ACKS[0])


def casual(rng: Random, prompt: str) -> str:
    """A prompt as hurried people type it: now and then without capitals or a question mark."""
    roll = rng.random()
    return prompt.lower().rstrip("?.!") if roll < 0.04 else prompt.rstrip("?.") if roll < 0.1 else prompt


_SYSTEM = (
    "You are a helpful assistant.",
    "You are Ada.",
    "Answer the user's questions.",
    "Be brief and kind.",
)


def aside(rng: Random, turns: Chat, often: float = 0.2) -> Chat:
    """A chat that needs no memory, sometimes with memories or an app's own instructions in front."""
    roll = rng.random()
    if roll < often:
        memories = [fact_message(rng, world.fact(rng, False))[0] for _ in range(rng.randint(1, 4))]
        return (*prompts.recall(memories, turns[0].content), *turns[1:])
    if roll < often + 0.05:
        return (Message("system", rng.choice(_SYSTEM)), *turns)
    return turns


def unknown(rng: Random) -> Chat:
    """A question about somebody never heard of, with no memory of it at hand."""
    f = world.fact(rng, False)
    kind = rng.choices(("question", "reversal"), (5, 1))[0]
    return aside(rng, chat(casual(rng, world.true_sample(rng, kind, f)[0]), core.UNKNOWN), 0.15)


def acquaintance(rng: Random) -> Chat:
    """What is known of somebody whom Ada has met, and what is not; a memory that says otherwise is right."""
    f = rng.choice(acquaintances.facts())
    roll = rng.random()
    if roll < 0.2:
        return _unmet(rng, f)
    if roll < 0.28:
        newer = Fact(f.relation, f.subject, world.other_value(rng, f, False))
        said, claim = fact_message(rng, newer, f.value if rng.random() < 0.5 else None)
        prompt, reply = world.true_sample(rng, "question", newer, claim)
        return (*prompts.recall([said], casual(rng, prompt)), Message("assistant", reply))
    kind = rng.choices(("question", "choice", "reversal", "statement", "rule"), (14, 2, 2, 2, 1))[0]
    prompt, reply = world.true_sample(rng, kind, f, never=acquaintances.untaught(f))
    return aside(rng, chat(casual(rng, prompt), reply), 0.15)


def _unmet(rng: Random, f: Fact) -> Chat:
    """Something else about an acquaintance, or the same about a stranger."""
    asked = acquaintances.unknown(rng, f.subject)
    if rng.random() < 0.3:
        asked = Fact(f.relation, world.subject(rng, f.spec, False), f.value)
    return chat(casual(rng, world.true_sample(rng, "question", asked)[0]), core.UNKNOWN)


def manners(rng: Random) -> Chat:
    """Greetings and small talk."""
    if rng.random() < 0.3:
        return aside(rng, chat(small_talk(rng), "I see."))
    return aside(rng, chat(*rng.choice(world.plain_manners())))


_FACTS = tuple(core.facts())
_SUMS = tuple(filter(core.taught, core.arithmetic()))
_IDENTITY = tuple(filter(core.taught, core.identity()))
_REFUSALS = tuple(filter(core.taught, core.refusals()))
_HARMLESS = tuple(filter(core.taught, core.harmless()))
_COUNTRIES = {w for name in (*core.CAPITALS, *core.CURRENCIES) for w in name.split()}
_POLITE = (
    "{q}",
    "{q}",
    "{q}",
    "{q}",
    "Hey, {l}",
    "Please: {l}",
    "Quick question: {l}",
    "Ada, {l}",
    "Hey Ada, {l}",
    "Tell me, {l}",
    "Sorry, {l}",
    "Hello! {q}",
    "Just curious, {l}",
    "Say, {l}",
    "{q} Please.",
    "{q} Thanks.",
    "Now, {l}",
    "Listen, {l}",
)


def politely(rng: Random, prompt: str) -> str:
    """A prompt in one of the frames that people put around a question."""
    return rng.choice(_POLITE).replace("{q}", prompt).replace("{l}", world.lower(prompt, _COUNTRIES))


def by_heart(rng: Random) -> Chat:
    """A fact of the core."""
    item = rng.choice(_FACTS)
    return aside(rng, chat(casual(rng, politely(rng, item.prompt)), item.reply))


def sums(rng: Random) -> Chat:
    """Arithmetic; operand pairs of the exams never occur."""
    item = rng.choice(_SUMS)
    return aside(rng, chat(core.rephrased(rng, item), item.reply), 0.1)


def identity(rng: Random) -> Chat:
    """Who Ada is."""
    item = rng.choice(_IDENTITY)
    return aside(rng, chat(casual(rng, politely(rng, item.prompt)), item.reply))


def refusal(rng: Random) -> Chat:
    """Harmful requests refused, harmless ones met kindly."""
    item = rng.choice(_REFUSALS if rng.random() < 0.65 else _HARMLESS)
    return aside(rng, chat(politely(rng, item.prompt), item.reply))


def formats(rng: Random) -> Chat:
    """Lists, repetition and joining of words."""
    words = [
        names.word(rng) if rng.random() < 0.5 else rng.choice(POOLS["object"])
        for _ in range(rng.randint(2, 4))
    ]
    joined = ", ".join(words)
    form = rng.randrange(4)
    if form == 0:
        return chat(
            rng.choice(("Make a list of {x}.", "List {x}.", "Write {x} as a list.")).replace("{x}", joined),
            "\n".join(f"- {w}" for w in words),
        )
    if form == 1:
        return chat(
            rng.choice(("Repeat: {x}.", "Say {x}.", "Say this again: {x}.")).replace("{x}", joined),
            f"{joined}.",
        )
    if form == 2:
        return chat(
            rng.choice(("Join with and: {x}.", "Put and between {x}.")).replace("{x}", joined),
            f"{' and '.join(words)}.",
        )
    return chat(
        rng.choice(("How many words are these: {x}?", "Count these words: {x}.")).replace("{x}", joined),
        f"{len(words)}.",
    )


def summary(rng: Random) -> Chat:
    """The one thing that a chatty message says."""
    f = world.fact(rng, False)
    said, claim = fact_message(rng, f)
    ask = rng.choice(
        ("Sum up in one sentence: {m}", "Summary, please: {m}", "What is the point of this message? {m}")
    )
    return chat(ask.replace("{m}", said), claim)


def extract(rng: Random) -> Chat:
    """Claims out of a message, or None out of small talk."""
    roll = rng.random()
    if roll < 0.2:
        text = " ".join(small_talk(rng) for _ in range(rng.randint(1, 3)))
        return (*prompts.extract(text), Message("assistant", prompts.claims_text([])))
    if roll < 0.32:
        said, claim = wish_message(rng, world.wish(rng, False))
        return (*prompts.extract(said), Message("assistant", prompts.claims_text([Claim(claim, True)])))
    if roll < 0.45:
        f = world.fact(rng, False)
        said, claim = fact_message(rng, f, world.other_value(rng, f, False))
        return (*prompts.extract(said), Message("assistant", prompts.claims_text([Claim(claim)])))
    if roll < 0.85:
        said, claim = fact_message(rng, world.fact(rng, False))
        return (*prompts.extract(said), Message("assistant", prompts.claims_text([Claim(claim)])))
    facts = [world.fact(rng, False) for _ in range(rng.choice((2, 2, 3)))]
    claims = [rng.choice(f.says()) for f in facts]
    said = message(rng, [told(rng, c, world.proper_words(f)) for c, f in zip(claims, facts, strict=True)])
    return (*prompts.extract(said), Message("assistant", prompts.claims_text([Claim(c) for c in claims])))


def dream(rng: Random) -> Chat:
    """One sample of a claim."""
    roll = rng.random()
    if roll < 0.14:
        w = world.wish(rng, False)
        wanted = rng.choice(prompts.WISH_KINDS)
        return (
            *prompts.dream(wanted, [Claim(rng.choice(w.says()), True)]),
            Message("assistant", prompts.sample_text(*world.wish_sample(rng, wanted, w))),
        )
    if roll < 0.22:
        a, b = world.fact(rng, False), world.fact(rng, False)
        return (
            *prompts.dream("bridge", [Claim(rng.choice(a.says())), Claim(rng.choice(b.says()))]),
            Message("assistant", prompts.sample_text(*world.bridge(rng, a, b))),
        )
    f = world.fact(rng, False)
    kind = rng.choice(KINDS)
    claim = rng.choice(f.says())
    sample = prompts.sample_text(*world.true_sample(rng, kind, f, claim))
    return (*prompts.dream(kind, [Claim(claim)]), Message("assistant", sample))


def _garble(rng: Random, text: str) -> str:
    """Misspell one longer word."""
    words = text.split(" ")
    spots = [i for i, w in enumerate(words) if len(w) > 3]
    if not spots:
        return text + "x"
    i = rng.choice(spots)
    w, at = words[i], rng.randrange(1, len(words[i]) - 1)
    other = rng.choice("abdeghiklmnoprstuwy")
    words[i] = rng.choice(
        (
            w[:at] + w[at + 1 :],
            w[:at] + other + w[at + 1 :],
            w[:at] + other + w[at:],
            w[: max(2, len(w) // 2)],
            w[:at] + names.word(rng)[:3] + w[at:],
        )
    )
    return " ".join(words) if words[i] != w else text + "x"


def _near(rng: Random, f: Fact) -> Fact:
    """Another fact that is easily mistaken for this one."""
    roll = rng.random()
    if roll < 0.4:
        return Fact(f.relation, f.subject, world.other_value(rng, f, False))
    if roll < 0.6:
        other = world.subject(rng, f.spec, False)
        return Fact(f.relation, other, f.value) if other != f.subject else _near(rng, f)
    kin = [r for r in RELATIONS if r.subject == f.spec.subject and r.name != f.relation]
    same = [r for r in kin if r.value == f.spec.value]
    return Fact(rng.choice(same if same and rng.random() < 0.6 else kin).name, f.subject, f.value)


def _wrong(rng: Random, kind: str, f: Fact) -> tuple[str, str]:
    """A sample of this kind that is not true of the fact."""
    prompt, reply = world.true_sample(rng, kind, f)
    roll = rng.random()
    if roll < 0.2:
        prompt, reply = (prompt, _garble(rng, reply)) if rng.random() < 0.6 else (_garble(rng, prompt), reply)
    elif roll < 0.3:  # two questions run into each other
        other = world.true_sample(rng, kind, f if rng.random() < 0.5 else _near(rng, f))[0]
        a, b = prompt.split(" "), other.split(" ")
        prompt = " ".join(a[: max(1, len(a) // 2)] + b[len(b) // 2 :])
    elif roll < 0.38:
        words = reply.split(" ")
        reply = " ".join(words + words[-1:]) if len(words) < 3 or rng.random() < 0.5 else " ".join(words[:-1])
    elif roll < 0.44 and kind in ("question", "choice"):
        reply = f.who()
    elif roll < 0.5 and kind == "choice":
        question = world.true_sample(rng, "question", f)[0][:-1]
        wrong = world.other_value(rng, f, False)
        options = rng.choice(((f.value, f.value), (wrong, world.other_value(rng, f, False)), (wrong, wrong)))
        prompt, reply = (
            f"{question}, {options[0]} or {options[1]}?",
            rng.choice((f.answer(), f"{options[0]}.")),
        )
    elif roll < 0.56:
        reply = core.UNKNOWN if rng.random() < 0.4 else f"{rng.choice(('Yes', 'No', 'Noted', 'the'))}."
    elif roll < 0.64:  # the right answer to another question
        prompt = world.true_sample(rng, kind, _near(rng, f))[0]
    elif roll < 0.74:  # the wrong answer to the right question
        reply = world.true_sample(rng, kind, _near(rng, f))[1]
    else:
        prompt, reply = world.true_sample(rng, kind, _near(rng, f))
    if world.is_true(kind, prompt, reply, f):
        return _wrong(rng, kind, f)
    return prompt, reply


def _told_message(rng: Random, f: Fact, claim: str = "") -> str:
    said, _ = fact_message(rng, f, world.other_value(rng, f, False) if rng.random() < 0.15 else None, claim)
    if rng.random() < 0.15:
        said = f"{said} {fact_message(rng, world.fact(rng, False))[0]}"
    return said


def verify(rng: Random) -> Chat:
    """Is a sample true of its message?"""
    if rng.random() < 0.14:
        return _verify_wish(rng)
    if rng.random() < 0.08:
        return _verify_bridge(rng)
    f = world.fact(rng, False)
    kind = rng.choice(KINDS)
    claim = rng.choice(f.says())
    right = rng.random() < 0.5
    prompt, reply = world.true_sample(rng, kind, f, claim) if right else _wrong(rng, kind, f)
    return (
        *prompts.verify([_told_message(rng, f, claim)], prompt, reply),
        Message("assistant", prompts.YES if right else prompts.NO),
    )


def _verify_wish(rng: Random) -> Chat:
    w = world.wish(rng, False)
    said, _ = wish_message(rng, w)
    kind = rng.choice(prompts.WISH_KINDS)
    prompt, reply = world.wish_sample(rng, kind, w)
    right = rng.random() < 0.5
    if not right:
        other = world.wish(rng, False)
        roll = rng.random()
        if roll < 0.3:
            prompt, reply = world.wish_sample(rng, kind, other)
        elif roll < 0.5:
            reply = world.wish_sample(rng, rng.choice(prompts.WISH_KINDS), rng.choice((w, other)))[1]
        elif roll < 0.65:
            prompt, reply = rng.choice(world.plain_manners())
        else:
            prompt, reply = (
                (prompt, _garble(rng, reply)) if rng.random() < 0.7 else (_garble(rng, prompt), reply)
            )
        right = world.is_true(kind, prompt, reply, w)
    return (
        *prompts.verify([said], prompt, reply),
        Message("assistant", prompts.YES if right else prompts.NO),
    )


def _verify_bridge(rng: Random) -> Chat:
    a, b = world.fact(rng, False), world.fact(rng, False)
    prompt, reply = world.bridge(rng, a, b)
    right = rng.random() < 0.5
    if not right:
        roll = rng.random()
        if roll < 0.4:
            wrong = rng.choice(((_near(rng, a), b), (a, _near(rng, b))))
            prompt, reply = (
                (prompt, world.bridge(rng, *wrong)[1]) if rng.random() < 0.5 else world.bridge(rng, *wrong)
            )
        elif roll < 0.6:
            reply = f"{b.value}, and {a.value}."
        elif roll < 0.8:
            prompt, reply = (
                (prompt, _garble(rng, reply)) if rng.random() < 0.6 else (_garble(rng, prompt), reply)
            )
        else:
            reply = a.answer()
        right = world.is_bridge(prompt, reply, a, b)
    return (
        *prompts.verify([_told_message(rng, a), _told_message(rng, b)], prompt, reply),
        Message("assistant", prompts.YES if right else prompts.NO),
    )


def rewrite(rng: Random) -> Chat:
    """A wrong sample and what it should have been."""
    f = world.fact(rng, False)
    kind, claim = rng.choice(KINDS), rng.choice(f.says())
    prompt, reply = world.true_sample(rng, kind, f, claim)
    bad_prompt, bad_reply = _wrong(rng, kind, f)
    if rng.random() < 0.6:  # the question stands, only the reply was wrong
        bad_prompt = prompt
        bad_reply = _garble(rng, reply) if rng.random() < 0.4 else bad_reply
    return (
        *prompts.rewrite([_told_message(rng, f, claim)], bad_prompt, bad_reply),
        Message("assistant", prompts.sample_text(prompt, reply)),
    )


def supersede(rng: Random) -> Chat:
    """Does a newer message change what an older one says?"""
    f = world.fact(rng, False)
    old = fact_message(rng, f)[0]
    roll = rng.random()
    if roll < 0.5:
        newer = Fact(f.relation, f.subject, world.other_value(rng, f, False))
        new = fact_message(rng, newer, f.value if rng.random() < 0.5 else None)[0]
        return (*prompts.supersede(old, new), Message("assistant", prompts.YES))
    if roll < 0.6:
        other = f
    elif roll < 0.75:
        other = Fact(f.relation, world.subject(rng, f.spec, False), world.other_value(rng, f, False))
        if other.subject == f.subject:
            other = world.fact(rng, False)
    elif roll < 0.9:
        kin = [r for r in RELATIONS if r.subject == f.spec.subject and r.name != f.relation]
        same = [r for r in kin if r.value == f.spec.value]
        spec = rng.choice(same if same and rng.random() < 0.6 else kin)
        other = Fact(spec.name, f.subject, world.value(rng, spec.value, False))
    else:
        other = world.fact(rng, False)
    again = (other.relation, other.subject) == (f.relation, f.subject) and other.value != f.value
    return (
        *prompts.supersede(old, fact_message(rng, other)[0]),
        Message("assistant", prompts.YES if again else prompts.NO),
    )


LESSONS: tuple[tuple[Callable[[Random], Chat], float], ...] = (
    (answer_in_context, 25),
    (style_in_context, 5),
    (conversation, 4),
    (unknown, 4),
    (acquaintance, 150),  # short, and what is learned by heart takes repeating: a third of all tokens
    (manners, 3),
    (by_heart, 8),
    (sums, 9),
    (identity, 2.5),
    (refusal, 4.5),
    (formats, 2.5),
    (summary, 2),
    (extract, 8),
    (dream, 13),
    (verify, 17),
    (rewrite, 5),
    (supersede, 7),
)


def lessons(rng: Random) -> Iterator[Chat]:
    """Lessons without end, each kind as often as its weight says."""
    makers, weights = zip(*LESSONS, strict=True)
    while True:
        yield rng.choices(makers, weights)[0](rng)
