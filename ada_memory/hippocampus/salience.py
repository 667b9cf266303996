"""How much a text matters, from 0 to 1. A text and its vector enter, a score with its parts leaves.

Judged by form alone: who speaks, names, numbers, wishes, questions, courtesies. It knows no world and no
model. Novelty only scales importance, and never to nothing: a correction is almost the sentence it corrects
(cosine 0.96 for two birthdays a day apart), so what is near to something known must still get through.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from ada_memory.hippocampus.vectors import cosines
from ada_memory.records import Kind, Role, Salience
from ada_memory.settings import SalienceSettings

Floats = NDArray[np.float32]

SENTENCE = re.compile(r"[^.!?…。！？\n]+[.!?…。！？]*")
WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def _phrases(*groups: str) -> str:
    return rf"(?:{'|'.join(groups)})"


NUMBER = re.compile(
    r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|hundred|thousand)\b"
)
WISH = re.compile(  # counts in a question too: "could you call me Jo?"
    r"\b" + _phrases(
        "from now on|don't forget|do not forget|call me|in future|keep in mind",
        "(?<!do you )remember (?:that|this|my|i)",
        "please (?:answer|reply|respond|write|speak|talk|address|use|keep|be)",
        "(?:answer|reply|respond|write|speak|talk|address) (?:me|to me|only|briefly|in|with|like|as)",
        "merke? dir|ab jetzt|nenn mich|vergiss nicht|rappelle-toi|souviens-toi|appelle-moi|désormais",
        "recuerda|llámame|a partir de ahora|ricorda|chiamami|d'ora in poi",
    ) + r"\b"
)
HABIT = re.compile(
    r"\b(?:remember|always|never(?! mind)|prefer)\b"
    r"|^(?:please )?(?:say|use|keep|avoid|greet|(?:end|start|begin|finish|sign) (?:every|each|all|your))\b"
)
OWN = frozenset(
    "my mine our ours myself ourselves mein meine meinen meiner meinem unser unsere mon ma mes notre nos mi "
    "mis nuestro nuestra mio mia nostro nostra meu minha nosso nossa мой моя моё наш".split()
)
SELF = frozenset(
    "i i'm i've i'd i'll we we're we've we'll me us ich wir mir mich je j'ai nous yo nosotros io noi eu "
    "я мы".split()
)
GREETING = _phrases(
    "thanks?|thank you|thx|cheers|hello|hi|hey|hiya|good (?:morning|afternoon|evening|night|day)|bye|goodbye",
    "see you|talk to you|take care|you(?:'re| are) welcome|sorry|sounds good|got it|never mind|no worries",
    "haha|lol|you too|i see|let me see|(?:i'm|i am|we're) (?:fine|well|good|okay|great)|nice to meet you",
    "hallo|danke|tschüss|guten (?:tag|morgen|abend)|bonjour|merci|salut|hola|gracias|adiós|ciao|grazie|olá",
    "obrigad[oa]|привет|спасибо",
)
PARTICLE = "ok|okay|sure|yes|yeah|yep|no|nope|great|nice|cool|perfect|wow|well|right|fine|oh|ah|actually"
COURTESY = re.compile(rf"\b{GREETING}\b")
REMARK = re.compile(  # says how something strikes the speaker, and of what only the moment knows
    rf"^(?:{PARTICLE})[.!]*$|^what an? |^how (?!to\b)\w+[!.]*$|^such an? "
    r"|\b(?:weather|lovely|awesome|wonderful|amazing)\b|^(?:it|that|this|these|those)\b|^(?:it|that)'s\b"
    r"|\b(?:again|today|tonight|right now|at the moment)\b"
)
LEAD = re.compile(rf"^(?:{GREETING}|{PARTICLE})\b(?: \w+)?\s*[,;:–-]\s+", re.IGNORECASE)
TAIL = re.compile(r"[,;–-]\s*(?:thanks|thank you)(?: (?:for|so|very)\b[^,]*)?[.!]*$", re.IGNORECASE)

LOW, FRAGMENT, PLAIN, WANTED = 0.1, 0.2, 0.52, 0.9


def score(
    text: str, role: Role, kind: Kind, vector: Floats | None, neighbours: Floats, settings: SalienceSettings
) -> Salience:
    """Weigh a text against the vectors (n, d) of what is known already; n may be 0.

    `reasons` holds novelty (1 - the largest cosine), importance, and the marks found in the sentence that
    matters most. Code and what the owner was thinking are never small talk.
    """
    novelty = 1.0
    if vector is not None and len(neighbours):
        novelty = float(np.clip(1.0 - cosines(neighbours, vector).max(), 0.0, 1.0))
    parts = [_sentence(part) for part in SENTENCE.findall(text) if part.strip()]
    importance, marks = max(parts, key=lambda part: part[0], default=(0.0, {}))
    if kind == "code" or (role == "thought" and "question" not in marks):
        importance = max(importance, PLAIN)
    weights = settings.novelty + settings.importance
    scale = (settings.importance + settings.novelty * novelty) / weights if weights else 1.0
    reasons = {"novelty": round(novelty, 4), "importance": round(importance, 4)} | marks
    return Salience(round(importance * scale, 4), reasons)


def _sentence(text: str) -> tuple[float, dict[str, float]]:
    """Importance of one sentence and the marks it was read from, courtesies around it left aside."""
    whole = text.strip().replace("’", "'")
    core = TAIL.sub("", LEAD.sub("", whole))
    plain = core.lower()
    words = WORD.findall(core)
    lower = [word.lower() for word in words]
    asks = whole.endswith(("?", "？"))
    found = {
        "wish": bool(WISH.search(plain) or (HABIT.search(plain) and not asks and len(words) > 2)),
        "own": any(word in OWN for word in lower),
        "first_person": any(word in SELF for word in lower),
        "names": sum(word[0].isupper() and word.lower() not in SELF for word in words[1:]),
        "numbers": bool(NUMBER.search(plain)),
        "question": asks,
        "courtesy": bool(COURTESY.search(plain)),
        "remark": bool(REMARK.search(plain)),
    }
    marks = {name: float(value) for name, value in found.items() if value}
    return _importance(marks, len(words) + len(IDEOGRAPH.findall(core)) // 2), marks


def _importance(marks: dict[str, float], length: int) -> float:
    """From marks and a length in words to a figure: what is said by the way stays below any threshold."""
    if "wish" in marks and length > 1:
        return WANTED
    if "question" in marks:
        return LOW
    names, speaks = marks.get("names", 0.0), "first_person" in marks
    holds = bool(names) or "own" in marks or "numbers" in marks
    if "courtesy" in marks and not ("own" in marks or "numbers" in marks or (names and length > 4)):
        return LOW
    if "remark" in marks and not (holds or (speaks and length > 4)):
        return LOW
    if length < 2 or (length < 3 and not holds and not speaks):
        return FRAGMENT
    figure = PLAIN + 0.2 * ("own" in marks) + 0.15 * speaks + 0.15 * ("numbers" in marks)
    return min(figure + 0.12 * min(names, 2.0), 1.0)
