"""What the night asks of its model: the wording of every task, and how the replies are read.

A model that is to dream must understand these prompts. They are plain requests that instruction
models follow; the seedling was grown on exactly these words. Nothing here knows any fact.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ada_memory.records import Chat, DreamKind, Message

FACT_KINDS: tuple[DreamKind, ...] = ("question", "statement", "reversal", "choice", "rule")
WISH_KINDS: tuple[DreamKind, ...] = ("style", "question", "statement", "rule")

_ASK: dict[DreamKind, str] = {
    "question": "Ask a question that this answers, then give the short answer.",
    "statement": "Ask to hear about this, then state it in other words.",
    "reversal": "Ask for whom or what this is true, then give the short answer.",
    "choice": "Ask a question with two answers to choose from, then give the right one.",
    "rule": "Ask what to say when somebody asks about this, then give the rule.",
    "style": "Show how to follow this wish: what I say, then what you answer.",
    "bridge": "Ask one question that needs both facts, then give the short answer.",
}

_EXTRACT = "List each fact and each wish in this message, one a line. If there is none, say None."
_VERIFY = "Going only by the message, is the reply right? Say Yes or No."
_REWRITE = "Going only by the message, write the question and the reply as they should be."
_SUPERSEDE = "Does the new message change what the old one says? Say Yes or No."


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that a memory says: a fact about the world or a wish about how to behave."""

    text: str
    wish: bool = False


def _label(claim: Claim) -> str:
    return "Wish" if claim.wish else "Fact"


def user(text: str) -> Chat:
    """A conversation of one turn."""
    return (Message("user", text),)


def extract(message: str) -> Chat:
    """Ask which facts and wishes a message holds."""
    return user(f"{_EXTRACT}\nMessage: {message}")


def claims_text(claims: Sequence[Claim]) -> str:
    """The reply to `extract` that holds these claims."""
    return "\n".join(f"- {_label(c)}: {c.text}" for c in claims) or "None."


def read_claims(reply: str) -> list[Claim]:
    """The claims in a reply to `extract`; lines that are neither fact nor wish are passed over."""
    found = re.findall(r"^\s*[-*]?\s*(Fact|Wish):[ \t]*(\S.*?)\s*$", reply, re.MULTILINE | re.IGNORECASE)
    return list(dict.fromkeys(Claim(text, kind.lower() == "wish") for kind, text in found))


def dream(kind: DreamKind, claims: Sequence[Claim]) -> Chat:
    """Ask for one training sample of a kind; bridges take two claims, all others one."""
    return user("\n".join([_ASK[kind], *(f"{_label(claim)}: {claim.text}" for claim in claims)]))


def sample_text(prompt: str, reply: str) -> str:
    """The reply to `dream` that holds this sample."""
    return f"Q: {prompt}\nA: {reply}"


def read_sample(reply: str) -> tuple[str, str] | None:
    """Prompt and reply out of a reply to `dream` or `rewrite`; None if it is not of that form."""
    found = re.fullmatch(r"\s*Q:[ \t]*(\S[^\n]*?)\s*\n\s*A:[ \t]*(\S[^\n]*?)\s*", reply)
    return (found[1], found[2]) if found else None


def verify(messages: Sequence[str], prompt: str, reply: str) -> Chat:
    """Ask whether a sample is true of the messages it was dreamt from."""
    told = "\n".join(f"Message: {message}" for message in messages)
    return user(f"{_VERIFY}\n{told}\n{sample_text(prompt, reply)}")


def rewrite(messages: Sequence[str], prompt: str, reply: str) -> Chat:
    """Ask for a mended version of a sample that the verifier refused."""
    told = "\n".join(f"Message: {message}" for message in messages)
    return user(f"{_REWRITE}\n{told}\n{sample_text(prompt, reply)}")


def supersede(old: str, new: str) -> Chat:
    """Ask whether a newer message overrides an older one."""
    return user(f"{_SUPERSEDE}\nOld: {old}\nNew: {new}")


def recall(memories: Sequence[str], question: str) -> Chat:
    """A question with memories in front of it, as the day asks it too."""
    return (
        Message("system", "Memories:\n" + "\n".join(f"- {m}" for m in memories)),
        Message("user", question),
    )


YES, NO = "Yes.", "No."
