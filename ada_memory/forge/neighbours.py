"""Neighbours of what was learned: questions near to those that are taught, which should change nothing.

Rows of the night and of the core enter; prompts leave. A model that has just learned where Petronella lives
tends to know where everybody lives, and to answer whatever it is asked about her with her town. Held to its
base on the same questions about somebody else, and on other questions about her, it goes on saying that it
does not know. (Knowledge editing judges edits by such prompts: "neighbourhood" in CounterFact, 2202.05262;
"relation specificity" in 2307.12976.)
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ada_memory.forge.dataset import CLIPPED
from ada_memory.forge.phrasings import words
from ada_memory.records import Chat, Message, Sample
from ada_memory.words import Alikes

_NAME = re.compile(r"(?<=[a-z,0-9'] )[A-Z][\w-]*\w")
_PLAIN = re.compile(r"\b[a-z][\w-]*\w")
_WORD = re.compile(r"[A-Z][\w-]*\w")
ALIKE = 0.8
"""Shared words, of all words of both, above which two prompts ask the same."""
GAP = "\N{OPEN BOX}"
"""What stands in a question for the name that is taken out; nobody types it."""
USER = "I"
"""The subject of what people say of themselves."""
_OF_THE_USER = {"does": "do", "is": "am", "has": "have", "did": "did", "was": "was", "can": "can"}
"""What stands before a name in questions, and before "I"."""
SHARED = 512
"""Neighbours of all that is rehearsed, and strangers that the core's own questions are asked about."""
BESIDES = 256
"""Most asides about any subject, besides those about new ones; what memories answer is still among them."""


def names(texts: Iterable[str]) -> set[str]:
    """Words with a capital in the middle of a sentence that nobody writes without one.

    Hers is none: whoever asks may call her by it.
    """
    texts = list(texts)
    plain = {word for text in texts for word in _PLAIN.findall(text)}
    return {w for text in texts for w in _NAME.findall(text) if w.lower() not in plain} - {"Ada"}


def neighbours(rows: Sequence[Sample], core: Sequence[Sample], each: int, seed: int) -> list[Chat]:
    """Up to `each` prompts for every new memory, and `SHARED` for all others together: the names swapped.

    A memory's questions are asked about strangers in its subject's place; of one without a name there are
    none. The strangers are names of the core that no row of the night speaks of, and nobody's names. The
    same strangers every night would be learned by heart. A prompt that turns out to be asked of some memory
    is left out.
    """
    cast = _Cast(rows, core, f"neighbours/{seed}")
    if not cast.enough or not each:
        return []
    new, old = (_questions([r for r in rows if r.source == s], cast.called) for s in ("new", "due"))
    pick = cast.shuffle.choice
    asked = [pick(own) for own in new for _ in range(each)]
    asked += [pick(pick(old)) for _ in range(SHARED if old else 0)]
    return _untaught([_swapped(prompt, theirs, cast.anybody) for prompt, theirs in asked], rows)


def strangers(rows: Sequence[Sample], core: Sequence[Sample], seed: int) -> list[Chat]:
    """`SHARED` of the core's own questions, asked about nobody; every night has others."""
    cast = _Cast(rows, core, f"strangers/{seed}")
    plain = [row.messages[0].content for row in core if len(row.messages) == 2]
    asked = [prompt for prompt in plain if "\n" not in prompt and set(_WORD.findall(prompt)) & cast.common]
    if not cast.enough or not asked:
        return []
    drawn = (cast.shuffle.choice(asked) for _ in range(SHARED))
    return _untaught([_swapped(prompt, cast.common, cast.nobody) for prompt in drawn], rows)


class _Cast:
    """The names that come in the place of one whom a question is about.

    A name of nobody goes on like one of the core's; half of them begin like one whom a memory speaks of, or
    beginnings like theirs would be all that it takes to be known.
    """

    def __init__(self, rows: Sequence[Sample], core: Sequence[Sample], seed: str) -> None:
        self.shuffle = random.Random(seed)
        self.common = names(_texts(core))
        # where a clipped sentence has lost its end, the first word of the next one would look like a name
        known = names(_texts(row for row in rows if row.kind != CLIPPED))
        self.called = _subject_names(rows, known)
        self._blended = sorted(self.common if len(self.common) > 1 else known | self.common)
        self._unheard = sorted(self.common - known)
        self._met = sorted(set().union(*self.called.values()))
        self.enough = len(self._blended) > 1

    def anybody(self) -> str:
        """A name of the core's that no row of the night speaks of, or nobody's."""
        pick = self.shuffle.choice
        return pick((pick(self._unheard), self.nobody())) if self._unheard else self.nobody()

    def nobody(self) -> str:
        """A name that nobody has."""
        one, two = self.shuffle.sample(self._blended, 2)
        if self._met and self.shuffle.random() < 0.5:
            # no more than a third: to be told from one who is met would take every letter
            return _blend(self.shuffle.choice(self._met), two, 3)
        return _blend(one, two, 2)


def _blend(one: str, two: str, parts: int) -> str:
    """The first of so many parts of one name, and the other parts of another."""
    return one[: -(-len(one) // parts)] + two[len(two) // parts :].lower()


class Aside(NamedTuple):
    """A question that may ask something else about one whom a memory speaks of."""

    chat: Chat
    subject: str


def asides(rows: Sequence[Sample], core: Sequence[Sample], each: int, seed: int) -> list[Aside]:
    """`each` questions about the subject of every new memory; of all, twice as many up to `BESIDES`.

    Only about the user, whom or what the user calls "my", and others of whom several memories speak: a name
    that was heard once is mixed up with no other, and to hold it there costs recall.

    The questions are those of the core and of other memories, the name in them exchanged for the subject. So
    some ask just what the memory says: whoever uses them finds out which. Of the user they are asked as "my"
    and "I", where that can be done word for word.
    """
    if not each:
        return []
    shuffle = random.Random(f"asides/{seed}")
    new, old = (_called([row for row in rows if row.source == source]) for source in ("new", "due"))
    often = Counter((*new, *old))
    new, old = ([who for who in called if _own(who) or often[who] > 1] for called in (new, old))
    forms = _forms(row for row in rows if row.kind == "question")
    forms += _forms(row for row in core if len(row.messages) == 2)
    of_user = [form for form in map(_of_the_user, forms) if GAP not in form]
    wanted = [who for who in new for _ in range(each)]
    told = [*new, *old]  # of whom little was told, much that is held would drown it
    wanted += shuffle.choices(told, k=min(2 * each * len(told), BESIDES)) if told else []
    made: dict[Aside, None] = {}
    for subject in wanted:
        if usable := of_user if subject == USER else forms:
            question = _filled(shuffle.choice(usable), subject)
            made[Aside((Message("user", question),), subject)] = None
    taught = _taught(rows)
    return [aside for aside in made if words(aside.chat[0].content) not in taught]


def _untaught(prompts: Iterable[str], rows: Iterable[Sample]) -> list[Chat]:
    """Each prompt once, but for those that are asked of some memory."""
    taught = _taught(rows)
    return [(Message("user", prompt),) for prompt in dict.fromkeys(prompts) if words(prompt) not in taught]


def _called(rows: Sequence[Sample]) -> list[str]:
    """Of whom each memory speaks, as its user calls them."""
    found = _subjects(rows).values()
    return [USER if who.casefold() == "you" else re.sub("^[Yy]our ", "my ", who) for who in found]


def _own(subject: str) -> bool:
    """Whether it is the user, or somebody or something of the user's."""
    return subject == USER or subject.startswith("my ")


def _subjects(rows: Sequence[Sample]) -> dict[str, str]:
    """Of whom each memory speaks: what most of its dreams of the kind "reversal" answer with."""
    said: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row.kind == "reversal" and row.memories:  # a core row may be called so too
            said[row.memories[0]][row.messages[-1].content.rstrip(".")] += 1
    return {memory: answers.most_common(1)[0][0] for memory, answers in said.items()}


def _forms(rows: Iterable[Sample]) -> list[str]:
    """The questions that name one body, with a gap for the name."""
    prompts = [row.messages[-2].content for row in rows]
    theirs = names(prompts)

    def gap(found: re.Match[str]) -> str:
        return GAP if set(found[0].split()) <= theirs else found[0]

    made = (re.sub(rf"{_WORD.pattern}(?: {_WORD.pattern})*", gap, prompt) for prompt in prompts)
    return [form for form in made if form.count(GAP) == 1 and form.endswith("?")]


def _of_the_user(form: str) -> str:
    """The question asked by whom it is about; the gap stays where that takes more than a word."""
    words = re.sub(rf"{GAP}['\u2019]s\b", "my", form)
    before = "|".join(_OF_THE_USER)
    return re.sub(rf"\b({before}) {GAP}", lambda found: f"{_OF_THE_USER[found[1]]} {USER}", words)


def _filled(form: str, subject: str) -> str:
    text = form.replace(GAP, subject)
    return text[:1].upper() + text[1:]


def _subject_names(rows: Sequence[Sample], known: set[str]) -> dict[str, set[str]]:
    """The names that the subject of each memory goes by."""
    return {memory: known & set(_WORD.findall(subject)) for memory, subject in _subjects(rows).items()}


def _questions(rows: Sequence[Sample], called: Mapping[str, set[str]]) -> list[list[tuple[str, set[str]]]]:
    """The questions of each memory that name its subject, and which of the subject's names they hold."""
    found: dict[str, list[tuple[str, set[str]]]] = {}
    for row in rows:
        if row.kind == "question":
            prompt, memory = row.messages[-2].content, row.memories[0]
            if theirs := called.get(memory, set()) & set(_WORD.findall(prompt)):
                found.setdefault(memory, []).append((prompt, theirs))
    return list(found.values())


def _swapped(prompt: str, theirs: set[str], other: Callable[[], str]) -> str:
    """The prompt with each of their names exchanged for another one."""
    new: dict[str, str] = {}

    def exchange(found: re.Match[str]) -> str:
        word = found[0]
        return new.setdefault(word, other()) if word in theirs else word

    return _WORD.sub(exchange, prompt)


def _taught(rows: Iterable[Sample]) -> Alikes:
    """What the memories are asked: a prompt is in it that asks in much the same words."""
    return Alikes((words(row.messages[-2].content) for row in rows if row.memories), ALIKE)


def _texts(rows: Iterable[Sample]) -> Iterable[str]:
    return (message.content for row in rows for message in row.messages)
