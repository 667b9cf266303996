"""The verifier: every dream against the memory it came from, scored 0 to 1; failures are rewritten.

Three tests, and a dream must pass all: names and numbers in it occur in its memories; the model,
reading the memories, answers the dream's question in the same words; the model says that it is right.
A name that was copied wrong is put right before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ada_memory.dream import prompts
from ada_memory.dream.reading import yes
from ada_memory.engines.engine import Sampling, Speaker
from ada_memory.records import Dream, Read
from ada_memory.settings import DreamSettings

_ASKED_AGAIN = ("question", "reversal", "choice", "style", "bridge")
_WORD = re.compile(r"[\w:'-]*\w")
_NO_NAMES = {"I", "You", "Yes", "No", "Ada"}
ALIKE = 2
"""Letters with which a name that was copied wrong begins like the right one."""


def verify(
    engine: Speaker, dreams: Sequence[Dream], texts: Mapping[str, str], settings: DreamSettings
) -> list[Dream]:
    """The same dreams, judged, with what was read for it. `texts` maps memory ids to their text."""
    dreams = [replace(d, reply=_respelled(d.reply, d)) for d in dreams]
    readable = [d for d in dreams if d.prompt]
    told = {d.id: [texts[m] for m in d.memories] for d in readable}
    sure = dict(
        zip(
            (d.id for d in readable),
            yes(engine, [prompts.verify(told[d.id], d.prompt, d.reply) for d in readable]),
            strict=True,
        )
    )
    asked = [d for d in readable if d.kind in _ASKED_AGAIN]
    answers = engine.generate([prompts.recall(told[d.id], d.prompt) for d in asked], Sampling(40))
    again = {d.id: _respelled(a.text, d) for d, a in zip(asked, answers, strict=True)}
    return [
        _judge(d, told.get(d.id, []), sure.get(d.id, 0.0), again.get(d.id), settings.accept) for d in dreams
    ]


def _judge(dream: Dream, told: Sequence[str], sure: float, again: str | None, accept: float) -> Dream:
    if not dream.prompt:  # such a dream was put before nobody
        return replace(dream, score=0.0, accepted=False, reason="unreadable")
    reads = dict.fromkeys([*dream.reads, *(Read(memory, "verifier") for memory in dream.memories)])
    dream = replace(dream, reads=tuple(reads))
    stray = strays(dream, told)
    if stray:
        return replace(
            dream, score=0.0, accepted=False, reason=f"not in the memory: {', '.join(sorted(stray))}"
        )
    if again is not None and _plain(again) != _plain(dream.reply):
        return replace(dream, score=0.0, accepted=False, reason=f"the memory answers: {again}")
    if sure < accept:
        return replace(dream, score=sure, accepted=False, reason="the verifier says no")
    return replace(dream, score=sure, accepted=True, reason="")


def strays(dream: Dream, told: Sequence[str]) -> set[str]:
    """Names and numbers of a dream that are in none of its memories.

    The prompt of a choice names a wrong answer on purpose, and a style shows words of its own: there only
    the reply is looked at.
    """
    found = _named(dream.reply, answer=dream.kind != "style")
    if dream.kind not in ("choice", "style"):
        found |= _named(dream.prompt)
    return _missing(found, " ".join(told))


def _named(text: str, *, answer: bool = False) -> set[str]:
    """Names and numbers: a name is a word with a capital that does not start a sentence.

    Where an answer is a single word, that is no start but all of it.
    """
    words = list(_WORD.finditer(text))
    alone = answer and len(words) == 1
    found: set[str] = set()
    for match in words:
        word, before = match[0], text[: match.start()].rstrip()
        starts = not alone and before[-1:] in ("", ".", "!", "?", ":")
        name = word[0].isupper() and not starts and word.partition("'")[0] not in _NO_NAMES
        if name or any(c.isdigit() for c in word):
            found.add(word)
    return found


def _missing(names: Iterable[str], text: str) -> set[str]:
    """Those of the names that the text does not hold."""
    plain = _plain(text)
    known = set(plain.split())
    return {
        name
        for name in names
        if not set(_plain(name.removesuffix("'s")).split()) <= known and _plain(name) not in known
    }


def _respelled(reply: str, dream: Dream) -> str:
    """The reply with its one name that is not in the claim exchanged for the one that is meant.

    Rare names are copied wrong now and then, the same way each time, so that asking again finds nothing. What
    was read in a claim is a name of it: of those that are not spoken of yet the only one, if it begins alike.
    """
    stray = _missing(_named(reply, answer=dream.kind != "style"), dream.claim)
    meant = _missing(_named(dream.claim), f"{dream.prompt} {reply}")
    if len(stray) != 1 or len(meant) != 1:
        return reply
    wrong, right = (name.removesuffix("'s") for name in (*stray, *meant))
    if wrong[:ALIKE] != right[:ALIKE]:
        return reply
    return re.sub(rf"(?<!\w){re.escape(wrong)}(?!\w)", lambda _: right, reply)


def rewrite(engine: Speaker, dreams: Sequence[Dream], texts: Mapping[str, str]) -> list[Dream]:
    """Failed dreams as the model would put them right; bridges, and what it cannot mend, are left out."""
    failed = [d for d in dreams if d.prompt and d.kind != "bridge"]
    chats = [prompts.rewrite([texts[m] for m in d.memories], d.prompt, d.reply) for d in failed]
    mended = []
    for dream, reply in zip(failed, engine.generate(chats, Sampling(72)), strict=True):
        sample = prompts.read_sample(reply.text) if reply.finished else None
        if sample and sample != (dream.prompt, dream.reply):
            mended.append(
                replace(
                    dream,
                    id=f"{dream.id.split('r')[0]}r{dream.attempt + 1}",
                    prompt=sample[0],
                    reply=sample[1],
                    attempt=dream.attempt + 1,
                    score=None,
                    accepted=False,
                    reason="",
                    reads=tuple(Read(memory, "rewriter") for memory in dream.memories),
                )
            )
    return mended


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s:'-]", " ", text.casefold()).replace("'s ", " ").split())
