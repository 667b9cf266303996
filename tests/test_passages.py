"""A message is cut so that nothing is lost, and what is exact stays in one piece with what leads to it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ada_memory.hippocampus.passages import BLOCK, PASSAGE, passages, to_embed
from ada_memory.records import Kind, Role
from ada_memory.settings import RouterSettings

SETTINGS = RouterSettings()
PIECES = [
    "I live in Lisbon. ", "Thanks! ", "The map is at https://maps.example/a?b=c. ", "\n", "\n\n\n", "```py\n",
    "```\n", "x = f(y)\n", "    return x\n", "{", '{"a": [1, 2]}\n', "a,b,c\n", "| a | b |\n", "    ", "\t",
    "Dr. Weiss called. ", "$ git push\n", "word " * 300, "z" * 1_500, "我住在上海。", "key: value\n",
    "\r\n", "~~~", "!", "É\u2028",
]  # fmt: skip


def cut(text: str, kind: Kind = "chat", role: Role = "user") -> list[tuple[str, str]]:
    return [(made.route, made.text) for made in passages(text, kind, role, SETTINGS)]


def solid(text: str) -> str:
    return "".join(text.split())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), st.sampled_from(["chat", "rag", "code"]))
def test_the_passages_are_the_text(text: str, kind: Kind) -> None:
    found = passages(text, kind, "user", SETTINGS)
    assert solid("".join(made.text for made in found)) == solid(text)
    assert all(len(made.text) <= BLOCK for made in found)
    assert all(made.text.strip() and to_embed(made.text) for made in found)


def test_plain_sentences_stay_one_message() -> None:
    text = "Good morning! I slept badly. My cat is called Mo.\nShe is three. Bye!"
    assert cut(text) == [("weights", text)]


def test_what_is_verbatim_as_a_whole_stays_as_it_came() -> None:
    for text in ("    return x + 1;\n", "\n\tmake -C build all\n\n", '{"a":  1}\n', "https://a.example "):
        assert cut(text) == [("verbatim", text)]


def test_a_sentence_around_an_address_takes_the_one_it_needs() -> None:
    assert cut("I like tea. The form is online. It is at www.forms.example/7. I am Jo.") == [
        ("weights", "I like tea."),
        ("verbatim", "The form is online. It is at www.forms.example/7."),
        ("weights", "I am Jo."),
    ]
    assert cut("Our menu:\nhttps://menu.example") == [("verbatim", "Our menu:\nhttps://menu.example")]


def test_a_block_takes_the_line_that_leads_to_it() -> None:
    code = "for (const row of rows) {\n  print(row);\n\n  count += 1;\n}"
    text = f"My brother is called Leo. This prints the rows:\n\n{code}\n\nHe lives in Bonn."
    assert cut(text) == [
        ("weights", "My brother is called Leo."),
        ("verbatim", f"This prints the rows:\n\n{code}"),
        ("weights", "He lives in Bonn."),
    ]


def test_long_prose_is_cut_between_paragraphs_and_lines() -> None:
    paragraphs = [
        f"Part {n}. " + "The harbour was full of ships and the town of noise. " * 8 for n in range(40)
    ]
    found = cut("\n\n".join(paragraphs))
    assert all(route == "verbatim" and len(text) <= PASSAGE for route, text in found)
    assert all(text.startswith("Part ") for _, text in found)
    assert len(found) <= len(paragraphs)


def test_code_and_documents_stay_whole_as_long_as_they_may() -> None:
    code = "".join(f"def f{n}(x):\n    return x + {n}\n\n\n" for n in range(100))
    assert len(cut(code[:3_900])) == 1
    assert all(text.lstrip().startswith(("def", "return")) for _, text in cut(code * 3))
    document = json.dumps({f"key {n}": list(range(10)) for n in range(60)}, indent=1)
    assert cut(document) == [("verbatim", document)]


def test_a_tool_and_a_document_are_never_told_apart_into_facts() -> None:
    text = "My cat is called Mo. It is on https://cats.example."
    assert cut(text, role="tool") == cut(text, "rag", "assistant") == [("verbatim", text)]
    assert cut(text, role="assistant") == cut("  ") == []


@pytest.mark.parametrize(
    "text",
    [
        "a_" * 50_000, "(" * 100_000, "[" * 100_000, '{"a":' * 20_000, "x" + "\n" * 100_000 + "y",
        "`a " * 33_000,
        "```\n" * 25_000, "<a " * 33_000, "," * 100_000, "1 " * 50_000, "a@" * 50_000, "SELECT " * 14_000,
    ],
)  # fmt: skip
def test_a_hostile_text_is_cut_like_any_other(text: str) -> None:
    found = passages(text, "chat", "user", SETTINGS)
    assert solid("".join(made.text for made in found)) == solid(text)
    assert len(found) <= 1_100
