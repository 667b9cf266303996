"""How much a text matters, from 0 to 1. A text and its vector enter, a score with its parts leaves.

Judged by form alone: who speaks, names, numbers, wishes, questions, courtesies, and whether a sentence holds
any word that still says something tomorrow (`language`). It knows no world and no model. What is doubtful
is kept, below what is clear: a lost fact is worse than a kept remark. Novelty only scales importance, and
never to nothing: a correction is almost the sentence it corrects (cosine 0.96 for two birthdays a day
apart), so what is near to something known must still get through.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ada_memory.hippocampus import forms, language
from ada_memory.hippocampus.vectors import cosines
from ada_memory.records import Kind, Role, Salience
from ada_memory.settings import SalienceSettings

Floats = NDArray[np.float32]

JUDGED = 600  # characters of a sentence that are looked at
LOW, FRAGMENT, DOUBT, PLAIN, WANTED = 0.1, 0.2, 0.4, 0.52, 0.9


@dataclass(frozen=True, slots=True)
class _Sentence:
    """One sentence as it is judged: courtesies around it are gone, `content` is what is not light."""

    plain: str
    words: tuple[str, ...]
    content: tuple[str, ...]
    names: int
    length: int
    marks: dict[str, float]


def score(  # noqa: PLR0913
    text: str, role: Role, kind: Kind, vector: Floats | None, neighbours: Floats, settings: SalienceSettings
) -> Salience:
    """Weigh a text against the vectors (n, d) of what is known already; n may be 0.

    `reasons` holds novelty (1 - the largest cosine), importance, and the marks found in the sentence that
    matters most. Code and what the owner was thinking are never small talk.
    """
    novelty = 1.0
    if vector is not None and len(neighbours):
        novelty = float(np.clip(1.0 - cosines(neighbours, vector).max(), 0.0, 1.0))
    importance, marks = importance_of(text)
    if kind == "code" or (role == "thought" and "question" not in marks):
        importance = max(importance, PLAIN)
    weights = settings.novelty + settings.importance
    scale = (settings.importance + settings.novelty * novelty) / weights if weights else 1.0
    reasons = {"novelty": round(novelty, 4), "importance": round(importance, 4)} | marks
    return Salience(round(importance * scale, 4), reasons)


def importance_of(text: str) -> tuple[float, dict[str, float]]:
    """Importance of the sentence that matters most, and the marks that were found in it."""
    ends = language.sentences(text)
    judged = (_judge(text[start : min(end, start + JUDGED)]) for start, end in ends)
    return max(judged, key=lambda found: found[0], default=(0.0, {}))


def _judge(text: str) -> tuple[float, dict[str, float]]:
    sentence = _read(text)
    importance, mark = _importance(sentence)
    return importance, sentence.marks | ({mark: 1.0} if mark else {})


def _read(text: str) -> _Sentence:
    """Take the courtesies off a sentence and look at what is left."""
    whole = forms.VOCATIVE.sub("", text.strip().replace("’", "'"))
    told = forms.TOLD.sub("", forms.OPENING.sub("", whole))
    asks = whole.endswith(("?", "？"))
    if told != forms.OPENING.sub("", whole):
        asks = bool(forms.ASKS.match(told.lower()))
    tagged = forms.TAG.sub(".", told)
    asks = asks and tagged == told
    core = forms.OPENING.sub("", tagged)
    plain = core.lower().strip(" ,;:")
    tokens = language.WORD.findall(core)
    words = tuple(token.lower() for token in tokens)
    light = language.light(language.guess(list(words)))
    known = light | language.DATES
    content = tuple(word for i, word in enumerate(words) if _tells(word, words[i - 1] if i else "", known))
    names = sum(token[0].isupper() and token.lower() not in known for token in tokens[1:])
    found = {
        "wish": bool(forms.WISH.search(plain)) or _habit(plain, asks, words, content),
        "own": any(word in forms.OWN for word in words),
        "first_person": any(word in forms.SELF for word in words),
        "names": names,
        "numbers": bool(forms.NUMBER.search(forms.SPAN.sub("", plain))),
        "dates": any(word in language.DATES for word in words),
        "plan": bool(forms.PLAN.search(plain)),
        "question": asks or bool(forms.ASKS.match(plain)),
        "correction": bool(forms.CORRECTS.search(whole.lower())),
    }
    marks = {name: float(value) for name, value in found.items() if value}
    length = len(words) + len(forms.IDEOGRAPH.findall(core)) // 2
    return _Sentence(plain, words, content, names, length, marks)


def _habit(plain: str, asks: bool, words: tuple[str, ...], content: tuple[str, ...]) -> bool:
    """Whether a statement tells what is always so, or always to be done."""
    about = bool(content or forms.EVERY.search(plain) or forms.CUE.search(plain))
    return forms.HABIT.search(plain) is not None and not asks and about and len(words) > 2


def _tells(word: str, before: str, known: frozenset[str]) -> bool:
    """Whether a word still says something tomorrow: a cook or a watch does, to cook or to watch does not."""
    verb = word in language.ALONE or word in language.FLEETING
    if verb and word not in language.SMALL and before in ("a", "an"):
        return True
    adverb = word.endswith("ly") and len(word) > 4 and word not in language.NOT_ADVERBS
    return word not in known and not adverb


def _importance(s: _Sentence) -> tuple[float, str]:  # noqa: PLR0911 - a line a rule, the first decides
    """A figure, and the mark that says why it is low; what is said by the way stays below any threshold."""
    holds = bool(s.names) or bool({"own", "numbers", "dates"} & s.marks.keys())
    if "wish" in s.marks and s.length > 1 and not ("question" in s.marks and not forms.WISH.search(s.plain)):
        return WANTED, ""
    if "question" in s.marks:
        return LOW, ""
    if "correction" in s.marks and holds and (s.content or s.names):
        return PLAIN, ""
    if forms.REQUEST.match(s.plain) and "plan" not in s.marks:
        return LOW, "request"
    if forms.GREETING.search(s.plain) and len(s.content) - s.names <= 0 and s.length <= 6:
        return LOW, "courtesy"
    if s.length < 2 or (s.length < 3 and not holds and "first_person" not in s.marks):
        return FRAGMENT if s.content or s.names else LOW, "" if s.content else _why_hollow(s)
    if not s.content and not s.names:
        return _hollow(s)
    if forms.REMARK.search(s.plain) and not holds and "correction" not in s.marks:
        return LOW, "remark"
    if not holds and _of_the_moment(s):
        return LOW, "passing"
    if _doubtful(s, holds):
        return DOUBT, "doubt"
    figure = PLAIN + 0.2 * ("own" in s.marks) + 0.15 * ("first_person" in s.marks)
    figure += 0.15 * bool({"numbers", "dates"} & s.marks.keys())
    return min(figure + 0.12 * min(s.names, 2), 1.0), ""


def _hollow(s: _Sentence) -> tuple[float, str]:
    """A sentence of light words alone: a habit or a taste all the same, or nothing that lasts."""
    if habit := _habitual(s):
        return habit, "" if habit > DOUBT else "doubt"
    exact = bool({"numbers", "dates"} & s.marks.keys())
    fleeting = any(word in language.FLEETING for word in s.words)
    if "numbers" in s.marks and not fleeting:
        return PLAIN if forms.COPULA.search(s.plain) or "own" in s.marks else DOUBT, ""
    if exact and "correction" in s.marks:
        return PLAIN, ""
    if exact and ("first_person" in s.marks or "own" in s.marks):
        return DOUBT, "doubt"
    return LOW, _why_hollow(s)


def _habitual(s: _Sentence) -> float:
    """What a habit, a taste or a skill is worth that is told in light words; 0 if there is none."""
    habit = forms.HABITUAL.search(s.plain)
    if habit:
        does, what = habit[1], set(habit[2].strip(" .!").split())
        if does in language.ATTITUDES and what and not forms.POINTING.match(habit[2]):
            return PLAIN
        if does in language.ALONE or (
            does in language.REGULAR and what & (language.SMALL | language.AT_HOME)
        ):
            return DOUBT
    lasts = (forms.SKILL, forms.REGULARLY, forms.IS_A)
    return DOUBT if any(form.search(s.plain) for form in lasts) else 0.0


def _why_hollow(s: _Sentence) -> str:
    if any(word in language.COURTEOUS for word in s.words):
        return "courtesy"
    return "passing" if "first_person" in s.marks or "own" in s.marks else "remark"


def _of_the_moment(s: _Sentence) -> bool:
    """Whether a sentence tells what somebody does as they write, or has just done about the house."""
    if forms.JUST_NOW.search(s.plain):
        return True
    if not set(s.content) <= language.AT_HOME or _habitual(s):
        return False
    if any(word in language.FLEETING for word in s.words) or forms.THERE.match(s.plain):
        return True
    judges = any(word in language.PASSING for word in s.words) and forms.IS.search(s.plain) is not None
    return judges and "first_person" not in s.marks


def _doubtful(s: _Sentence, holds: bool) -> bool:
    """Whether a sentence may be of the moment alone: it is kept, but below what is clear."""
    if holds or "correction" in s.marks:
        return False
    fleeting = any(word in language.FLEETING for word in s.words)
    pointing = forms.POINTS.match(s.plain) is not None
    return bool(forms.DEICTIC.search(s.plain)) or pointing or ("first_person" in s.marks and fleeting)
