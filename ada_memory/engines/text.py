"""Chats to token ids and back, for one tokenizer.

In: chats, replies, token ids. Out: token ids, text. What a message says never becomes a control token:
the strings of special tokens are taken out of it, so nobody can write a turn for somebody else.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ada_memory.engines import turns
from ada_memory.errors import BadInput, BadModel
from ada_memory.records import Chat, Message

_REPLY = "Quite so"
_TODAY = "26 Jul 2024"
"""What Llama 3's templates tell as the date where they have none: a night is the same on every day."""


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt and the reply that it should get, both as token ids (the reply with its end of turn).

    Of an anchor `slack` says how far it may drift.
    """

    prompt: list[int]
    reply: list[int]
    slack: float = 0.0

    def __len__(self) -> int:
        return len(self.prompt) + len(self.reply)


class Wording:
    """How one model writes chats. `limit` is the longest sequence it can take, in tokens."""

    def __init__(self, tokenizer: Any, generation_stops: Sequence[int], limit: int) -> None:
        if not tokenizer.chat_template:
            raise BadModel("the model has no chat template", hint="use an instruct or chat model")
        self._tokenizer = tokenizer
        self.limit = limit
        self._manners = turns.Manners()
        self._control = sorted(_control(tokenizer), key=len, reverse=True)
        self.stops = set(generation_stops)
        if tokenizer.eos_token_id is not None:
            self.stops.add(int(tokenizer.eos_token_id))
        self._opening = ""  # what the template writes between its generation prompt and a reply
        self._manners = turns.manners(self._write)
        try:
            self.end_of_turn = self._find_end_of_turn()
        except BadInput as error:
            hint = "use an instruct or chat model"
            raise BadModel(f"its chat template does not work: {error.message}", hint=hint) from error
        self.stops.add(self.end_of_turn)
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.end_of_turn

    def prompts(self, chats: Sequence[Chat], room: int, *, whole: bool = False) -> list[list[int]]:
        """Token ids of each chat up to where the assistant begins; leaves `room` tokens for the reply.

        A chat that is too long loses its oldest turns first, its system messages after them, and its last
        message is cut, unless it is wanted whole.

        Raises:
            BadInput: a chat without a message, one that the model's template refuses, or one whose last
                message is wanted whole and does not fit.
        """
        sent = [[m for m in chat if m.role != "thought"] for chat in chats]
        rows = self._encode([self._render(messages) for messages in sent])
        most = self.limit - room
        if whole and most < 1:
            raise BadInput(
                f"a reply of {room} tokens leaves no room for a question in the model's {self.limit}",
                hint="ask for a smaller max_tokens",
            )
        fit = [
            ids if len(ids) <= most else self._cut(m, max(most, 1)) for m, ids in zip(sent, rows, strict=True)
        ]
        for ids in fit:
            if whole and len(ids) > most:
                raise BadInput(
                    f"the last message is too long: {len(ids)} tokens, of which the model reads {most} "
                    f"beside a reply of {room}",
                    hint="send less, or ask for a smaller max_tokens",
                )
        return [ids[-max(most, 1) :] for ids in fit]

    def measure(self, chats: Sequence[Chat]) -> list[int]:
        """Tokens of each chat up to where the assistant begins, nothing cut."""
        sent = [[m for m in chat if m.role != "thought"] for chat in chats]
        return [len(ids) for ids in self._encode([self._render(messages) for messages in sent])]

    def replies(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each reply, its end of turn included."""
        return [
            [*ids, self.end_of_turn]
            for ids in self._encode([self._opening + self._plain(text) for text in texts])
        ]

    def rows(self, chats: Sequence[Chat], replies: Sequence[str]) -> list[Row]:
        """Prompts and replies together; a prompt gives way if the two are too long."""
        ends = self.replies(replies)
        for text, ids in zip(replies, ends, strict=True):
            if len(ids) >= self.limit:
                raise BadInput(f"a reply of {len(ids)} tokens is too long for the model: {text[:60]!r}…")
        starts = self.prompts(chats, 0)
        return [Row(start[-(self.limit - len(end)) :], end) for start, end in zip(starts, ends, strict=True)]

    def texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of plain text, never none."""
        return [
            ids[: self.limit] or [self.end_of_turn] for ids in self._encode([self._plain(t) for t in texts])
        ]

    def read(self, ids: Sequence[int]) -> str:
        """Text of the ids, without control tokens and outer spaces."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        return list(self._tokenizer(list(texts), add_special_tokens=False)["input_ids"])

    def _render(self, messages: Sequence[Message], reply: str | None = None) -> str:
        if not messages:
            raise BadInput("a chat needs at least one message")
        said = [{"role": m.role, "content": self._plain(m.content)} for m in messages]
        try:
            return self._write(turns.fitting(said, self._manners), reply)
        except turns.REFUSALS as error:
            raise BadInput(f"the model's chat template refuses this chat: {error}") from None

    def _write(self, said: Sequence[turns.Turn], reply: str | None = None) -> str:
        """The template's own words. Models that can think aloud are asked not to: no night has use for it."""
        whole = [*said, {"role": "assistant", "content": reply}] if reply is not None else list(said)
        rendered = self._tokenizer.apply_chat_template(
            whole, tokenize=False, add_generation_prompt=reply is None, enable_thinking=False,
            date_string=_TODAY,
        )  # fmt: skip
        return str(rendered)

    def _plain(self, text: str) -> str:
        """The text with a space for each control string: without one, its neighbours might make another."""
        for control in self._control:
            text = text.replace(control, " ")
        return text

    def _cut(self, messages: Sequence[Message], most: int) -> list[int]:
        """A chat without as many of its oldest turns as is needed; at least its last message stays."""
        turns = [i for i, message in enumerate(messages[:-1]) if message.role != "system"]
        systems = [i for i, message in enumerate(messages[:-1]) if message.role == "system"]
        order = [*turns, *systems]

        def without(count: int) -> list[int]:
            gone = set(order[:count])
            return self._encode([self._render([m for i, m in enumerate(messages) if i not in gone])])[0]

        # found by halves: a conversation of thousands of turns must not be read thousands of times
        count = bisect_left(range(len(order)), True, key=lambda count: len(without(count)) <= most)
        return without(count)

    def _find_end_of_turn(self) -> int:
        """The token that the template writes after a reply, else the tokenizer's end of text."""
        asked = (Message("user", "a"),)
        before, after = self._render(asked), self._render(asked, reply=_REPLY)
        head, _, tail = after.rpartition(_REPLY)
        if head.startswith(before):
            self._opening = head[len(before) :]
        special = {i for i, token in self._tokenizer.added_tokens_decoder.items() if token.special}
        for token in self._encode([tail])[0]:
            if token in self.stops | special:
                return int(token)
        if self._tokenizer.eos_token_id is not None:
            return int(self._tokenizer.eos_token_id)
        if self.stops:
            return min(self.stops)
        raise BadModel("the model has no token that ends a turn", hint="set eos_token in its tokenizer")


def _control(tokenizer: Any) -> set[str]:
    """Strings that steer the model: special tokens, and tags that the template writes (Qwen3's <think>)."""
    added = tokenizer.added_tokens_decoder.values()
    return {
        token.content
        for token in added
        if token.content.strip()
        and (token.special or (token.content[0] == "<" and token.content in tokenizer.chat_template))
    }
