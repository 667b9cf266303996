"""`ada why`: what a name came from and what came of it. A name enters; a tree to read, or JSON, leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ada_memory.cli.common import JsonFlag, answer, daemon
from ada_memory.cli.text import clean, count, figure, moment, short

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

JSON = Mapping[str, Any]
Draw = Callable[[JSON], "Text"]
SHOWN, ALL = 8, 100_000
WIDTH = 64
MARKS = {"done": "✓", "skip": "–", "halt": "✗"}


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("why")(why)


def why(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What to explain: by default the one that serves.")] = "latest",
    everything: Annotated[bool, typer.Option("--all", help="Cut no list short.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Walk from a generation to its nights, dreams, memories and interactions, and back.

    A name is a generation (gen-0003), a memory (m000012-0), an answer (chatcmpl-…), an
    interaction (its id, or how it begins), a night (p7, 2026-03-01) or a dream (p7:d00-00012).

    \b
    Examples:
      ada why                     what the generation that serves was taught, and from what
      ada why m000012-0           where a memory came from, and who knows it
      ada why chatcmpl-5f0c       did it know this, or was it reminded?
    """
    with daemon(ctx) as client:
        found = client.why(name, ALL if everything else None if as_json else SHOWN)
    answer(found, as_json, lambda: tree(found))


def tree(found: JSON) -> Tree:
    """The tree of one answer of GET /v1/why."""
    made: Tree = _TREES[str(found["kind"])](found)
    return made


def _generation(g: JSON) -> Tree:
    made = _root(g["id"], _verdict(g))
    _base(made, g)
    _line(made, g["line"])
    if g["night"]:
        made.add(_night_text(g["night"]))
    trained, stopped = _sum(g["trained_on"]), _sum(g["stopped_by"])
    if trained or stopped:
        said = f"{count(trained, 'dream')}: {_kinds(g['trained_on'])}"
        stop = f"; {count(stopped, 'more question')} told when to stop" if stopped else ""
        _branch(made, "trained on", said + stop, g["dreams"]["rows"], _dream_text, g["dreams"]["total"])
    _listed(made, "memories in them", g["memories"], _taught_text)
    _listed(made, "superseded", g["superseded"], _settled_text)
    _listed(made, "known from earlier nights", g["earlier"], _known_text)
    if g["children"]:
        made.add(_text("grew into", *g["children"]))
    _branch(made, "served", "", g["activations"], _served_text)
    _listed(made, "answers", g["answers"], _answer_text)
    return made


def _verdict(g: JSON) -> str:
    words = ["the untouched base"] if g["line"][0]["night"] is None and not g["night"] else []
    words += ["serves now"] if g["serves"] else []
    if g["key"] == "destroyed":
        words.append("its dataset can no longer be tested")
    return ", ".join(words)


def _memory(m: JSON) -> Tree:
    made = _root(m["id"], f"“{short(m['text'], WIDTH)}”")
    reasons = "  ".join(f"{name} {figure(value)}" for name, value in m["reasons"].items())
    made.add(_text("salience", f"{m['salience']:.2f}", f"→ {m['route']}", f"({reasons})" if reasons else ""))
    made.add(_text("state", m["state"], *(["tags " + ", ".join(m["tags"])] if m["tags"] else [])))
    _branch(made, "said in", "", m["interactions"], lambda i: _text(i["id"], moment(i["at"]), i["app"]))
    _branch(
        made,
        "nights",
        "",
        m["nights"],
        lambda n: _text(
            n["night"], n["outcome"], n["reason"], f"→ {n['generation']}" if n["generation"] else ""
        ),
    )
    _branch(made, "corrections", "", m["overrides"], lambda o: _override_text(m, o))
    _branch(
        made, "taught to", "", m["taught"], lambda t: _text(t["generation"], f"night {t['night']}", _parts(t))
    )
    if m["carried_by"]:
        made.add(_text("carried by", *m["carried_by"]))
    reads = ", ".join(f"{number} as {how}" for how, number in m["read_by"].items())
    _branch(made, "read for dreams", reads, m["dreams"]["rows"], _dream_text, m["dreams"]["total"])
    _listed(made, "put before answers", m["answers"], _answer_text)
    return made


def _answer(a: JSON) -> Tree:
    made = _root(a["id"], f"by {a['generation']}, {moment(a['at'])}")
    made.add(_text("asked", short(a["asked"], WIDTH)))
    made.add(_text("said", short(a["reply"], WIDTH)))
    made.add(_text("kept as", a["interaction"]))
    alone = "" if a["recalled"] else "nothing: the weights answered alone"
    _branch(made, "reminded of", alone, a["recalled"], _recalled_text)
    nothing = "nothing that lies near" if not a["in_the_weights"] else ""
    _branch(
        made,
        "in its weights, nearest",
        nothing,
        a["in_the_weights"],
        lambda n: _text(
            n["id"],
            short(n["text"], WIDTH),
            f"{n['generation']}, night {n['night']}",
            f"{n['similarity']:.2f}",
        ),
    )
    _base(made, a)
    _line(made, a["line"])
    return made


def _interaction(i: JSON) -> Tree:
    made = _root(i["id"], f"{i['app']}, {moment(i['at'])}, position {i['position']}")
    for message in i["messages"]:
        made.add(_text(message["role"], short(message["content"], WIDTH)))
    _branch(
        made,
        "memories",
        "" if i["memories"] else "none",
        i["memories"],
        lambda m: _text(
            m["id"], m["state"], short(m["text"], WIDTH), "→ " + ", ".join(m["taught"]) if m["taught"] else ""
        ),
    )
    if i["answer"]:
        made.add(_answer(i["answer"]))
    return made


def _night(n: JSON) -> Tree:
    made = _root(f"night {n['id']}", "" if n["finished"] else "not finished")
    made.add(_night_text(n["summary"]))
    came = f"→ {n['generation']}" if n["generation"] else "and made nothing"
    made.add(_text("grew from", n["parent"], came))
    ended = [stage for stage in n["stages"] if stage["outcome"] != "done"]
    for stage in ended:
        made.add(_text(f"{MARKS[stage['outcome']]} {stage['stage']}", short(stage["reason"], 2 * WIDTH)))
    outcomes = ", ".join(f"{number} {word.replace('_', ' ')}" for word, number in n["outcomes"].items())
    _branch(made, "memories", outcomes, n["memories"]["rows"], _settled_text, n["memories"]["total"])
    return made


def _dream(d: JSON) -> Tree:
    made = _root(d["name"], f"a {d['form']}, dreamt by {d['generation']}")
    made.add(_text("claim", short(d["claim"], 2 * WIDTH)))
    made.add(_text("Q", short(d["prompt"], 2 * WIDTH)))
    made.add(_text("A", short(d["reply"], 2 * WIDTH)))
    score = "" if d["score"] is None else f"score {d['score']:.2f}"
    made.add(_text("verdict", "accepted" if d["accepted"] else f"rejected: {d['reason']}", score))
    _branch(
        made, "read", "", d["reads"], lambda r: _text(r["id"], r["how"], short(r["text"], WIDTH), _from(r))
    )
    taught = [f"{one['generation']} ({one['part']})" for one in d["taught"]]
    made.add(_text("taught to", *(taught or ["nobody"])))
    return made


_TREES: Mapping[str, Callable[[JSON], Any]] = {
    "generation": _generation,
    "memory": _memory,
    "answer": _answer,
    "interaction": _interaction,
    "night": _night,
    "dream": _dream,
}


def _root(name: str, words: str) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    line = Text(clean(name), style="bold")
    line.append(f"  {clean(words)}" if words else "", style="not bold")
    return Tree(line, guide_style="dim")


def _text(name: str, *words: object) -> Text:
    """A name to copy, then words; what is empty is left out."""
    from rich.text import Text

    line = Text(overflow="fold")
    parts = [clean(word) for word in words if word not in ("", None)]
    if name:
        line.append(clean(name), style="cyan")
        line.append("  " if parts else "")
    return line.append("  ".join(parts))


def _branch(
    made: Tree, name: str, words: str, rows: Sequence[JSON], draw: Draw, total: int | None = None
) -> None:
    """A branch with a row for each; nothing if there are neither words nor rows."""
    if not (words or rows):
        return
    branch = made.add(_text(name, words))
    for row in rows:
        branch.add(draw(row))
    left = (len(rows) if total is None else total) - len(rows)
    if left > 0:
        branch.add(_text("", f"and {left} more (--all)"))


def _listed(made: Tree, name: str, listed: JSON, draw: Draw) -> None:
    total = listed["total"]
    _branch(made, name, str(total) if total else "", listed["rows"], draw, total)


def _base(made: Tree, of: JSON) -> None:
    base = of["base"]
    there = "" if base["present"] else "its copy is gone from var/bases"
    made.add(_text("base", base["name"], base["hash"][:12], there))


def _line(made: Tree, links: Sequence[JSON]) -> None:
    broken = any(link["problem"] for link in links)
    said = "the chain of manifests is broken" if broken else "the chain of manifests holds"
    _branch(
        made,
        "line",
        said,
        links,
        lambda one: _text(
            one["generation"],
            f"night {one['night']}" if one["night"] else "the untouched base",
            f"learned {one['learned']}" if one["night"] else "",
            one["problem"] and f"✗ {one['problem']}",
        ),
    )


def _night_text(n: JSON) -> Text:
    made, good = n["dreams_made"], n["dreams_accepted"]
    exam = [n["exam_before"], n["exam_after"]]
    return _text(
        f"night {n['night']}",
        n["started_by"],
        moment(n["opened_at"]),
        n["verdict"],
        f"{good} of {count(made, 'dream')} accepted" if made is not None else "",
        f"exam {exam[0]:.1%} → {exam[1]:.1%}" if None not in exam else "",
    )


def _dream_text(d: JSON) -> Text:
    judged = "" if d["accepted"] else f"✗ {short(d['reason'], WIDTH // 2)}"
    how = ", ".join(word for word in d["how"] if word not in ("own", "verifier"))  # the others are the rule
    return _text(d["name"], d["form"], short(f"{d['prompt']} → {d['reply']}", WIDTH), how, judged)


def _recalled_text(m: JSON) -> Text:
    known = f"{m['generation']} had learned it too" if m["generation"] else "not in its weights"
    return _text(m["id"], short(m["text"], WIDTH), known, _from(m))


def _taught_text(m: JSON) -> Text:
    return _text(m["id"], m["how"], f"“{short(m['text'], WIDTH)}”", _parts(m), _from(m))


def _settled_text(m: JSON) -> Text:
    said = m["outcome"].replace("_", " ")
    return _text(m["id"], said, f"“{short(m['text'], WIDTH)}”", m["reason"], _from(m))


def _known_text(m: JSON) -> Text:
    return _text(m["id"], f"night {m['night']}", f"“{short(m['text'], WIDTH)}”", _from(m))


def _served_text(a: JSON) -> Text:
    ended = f"until {moment(a['until'])}, {a['ended_by']}" if a["until"] else "and still does"
    return _text("", f"from {moment(a['at'])}, {a['reason']}", ended)


def _answer_text(a: JSON) -> Text:
    return _text(a["id"], moment(a["at"]), a["generation"], short(a["asked"], WIDTH))


def _override_text(m: JSON, o: JSON) -> Text:
    if o["newer"] == m["id"]:
        return _text(o["memory"], f"night {o['night']}", f"it corrects “{short(o['claim'], WIDTH)}”")
    return _text(o["newer"], f"night {o['night']}", f"corrects “{short(o['claim'], WIDTH)}” in it")


def _parts(row: JSON) -> str:
    stop = f", {row['stop']} to stop" if row["stop"] else ""
    return f"{count(row['train'], 'dream')}{stop}"


def _from(row: JSON) -> str:
    """The interactions that a row came from: so much of their ids as one needs to name them."""
    return "← " + ", ".join(one[:16] for one in row["interactions"]) if row["interactions"] else ""


def _kinds(kinds: JSON) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in kinds.items())


def _sum(kinds: JSON) -> int:
    return sum(kinds.values())
