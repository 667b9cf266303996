"""Which claims a newer one corrects. Pairs of claims enter; for each, whether the older is to be given up.

Asked outright, a model takes "My sister is called Anna." for a change of "The library knows my sister by card
7.", and what it gives up so is lost. So the older claim is given up only if the newer one can answer for it,
and the older one for the newer: a shirt's number answers what number a library card has, not the other way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ada_memory.dream import prompts
from ada_memory.dream.prompts import Claim
from ada_memory.dream.reading import words, yes
from ada_memory.engines.engine import Sampling, Speaker
from ada_memory.records import Chat
from ada_memory.settings import DreamSettings

Pair = tuple[Claim, Claim]
"""Two claims: an older and a newer one, or the other way where the newer one's questions are asked."""
QUESTIONS = 6
"""Questions of each claim that are put to the other one."""
EITHER, TOGETHER = 1 / 3, 0.62
"""Share of them that must be answered, of each claim's and of both: what one corrects, the other denies."""
KEPT = 0.66
"""Share of them that an older wish may answer beside the newer one and yet be given up."""
_QUESTION_TOKENS, _REPLY_TOKENS = 72, 48


class _Asked(NamedTuple):
    """A question of a pair's first claim, and what that answers."""

    pair: Pair
    prompt: str
    answer: str


def corrected(engine: Speaker, pairs: Sequence[Pair], settings: DreamSettings, seed: int) -> list[bool]:
    """Whether the newer claim of each pair says what is true instead of the older one.

    Of facts the model must say so when asked outright. Of two wishes it cannot tell: that is read out of them
    alone. Where no question can be made of the older claim, what the model says outright stands.
    """
    said = [p > 0.5 for p in yes(engine, [prompts.supersede(old.text, new.text) for old, new in pairs])]
    doubtful = [pair for pair, change in zip(pairs, said, strict=True) if change or pair[0].wish]
    back = [(new, old) for old, new in doubtful if not old.wish]
    asked = _questions(engine, [*doubtful, *back], settings, seed)
    wishes = [question for question in asked if question.pair[0].wish]
    taken = _by_pair(asked, _taken(engine, asked))
    kept = _by_pair(wishes, _kept(engine, wishes))

    def given_up(pair: Pair, change: bool) -> bool:
        if pair not in taken:
            return change
        if pair[0].wish:
            return _share(taken[pair]) >= 1 / 2 and _share(kept[pair]) <= KEPT
        ways = [taken[way] for way in (pair, (pair[1], pair[0])) if way in taken]
        return min(map(_share, ways)) >= EITHER and _share([one for way in ways for one in way]) >= TOGETHER

    return [given_up(pair, change) for pair, change in zip(pairs, said, strict=True)]


def _share(found: Sequence[bool]) -> float:
    return sum(found) / len(found)


def _by_pair(asked: Sequence[_Asked], found: Sequence[bool]) -> dict[Pair, list[bool]]:
    """What was found for the questions of each pair that could be asked about."""
    by: dict[Pair, list[bool]] = {}
    for question, one in zip(asked, found, strict=True):
        by.setdefault(question.pair, []).append(one)
    return by


def _questions(engine: Speaker, pairs: Sequence[Pair], settings: DreamSettings, seed: int) -> list[_Asked]:
    """Up to `QUESTIONS` questions of each pair's first claim."""
    plan = [pair for pair in dict.fromkeys(pairs) for _ in range(QUESTIONS)]
    drawing = Sampling(_QUESTION_TOKENS, settings.temperature, settings.min_p, seed=seed)
    drawn = engine.generate([prompts.dream("question", [first]) for first, _ in plan], drawing)
    return [
        _Asked(pair, *sample)
        for pair, reply in zip(plan, drawn, strict=True)
        if (sample := prompts.read_sample(reply.text))
    ]


def _taken(engine: Speaker, asked: Sequence[_Asked]) -> list[bool]:
    """Whether the pair's second claim answers each question, and otherwise.

    What is said with it in front must differ from what is said without and from what the first one answers,
    and pass the verifier: a model reads something out of anything.
    """
    alone = _replies(engine, [prompts.user(question.prompt) for question in asked])
    told = _replies(engine, [prompts.recall([q.pair[1].text], q.prompt) for q in asked])
    checks = [
        prompts.verify([question.pair[1].text], question.prompt, reply)
        for question, reply in zip(asked, told, strict=True)
    ]
    return [
        sure > 0.5 and words(reply) not in (words(before), words(question.answer))
        for question, before, reply, sure in zip(asked, alone, told, yes(engine, checks), strict=True)
    ]


def _kept(engine: Speaker, asked: Sequence[_Asked]) -> list[bool]:
    """Whether the older claim answers each question with the newer one beside it.

    Of wishes a small model reads any as an answer to any, yet between two it chooses the right one. Of facts
    it often chooses the older, so that of them this would tell little.
    """
    both = _replies(engine, [prompts.recall([c.text for c in q.pair], q.prompt) for q in asked])
    return [words(reply) == words(question.answer) for question, reply in zip(asked, both, strict=True)]


def _replies(engine: Speaker, chats: Sequence[Chat]) -> list[str]:
    return [reply.text for reply in engine.generate(chats, Sampling(_REPLY_TOKENS))]
