"""The embedder's process: JSON lines in on stdin, JSON lines out on stdout, the end of stdin ends it.

`{"id", "op": "encode", "texts": [...]}` gives `{"id", "ok": true, "vectors": <base64 of float32, row by
row>, "dim"}`; anything else gives `{"id", "ok": false, "error", "type"}`. The first line out is
`{"ready": true, "embedder": <hash>, "dim"}`, or `{"ready": false, "error", "type", "hint"}` and then exit 1.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

from ada_memory.child import end_with_parent, keep_stdout
from ada_memory.errors import AdaError, BadInput
from ada_memory.hippocampus.embedder import DEFAULT

if TYPE_CHECKING:
    from ada_memory.hippocampus.embedder import Embedder


def main(argv: Sequence[str] | None = None) -> int:
    """Load the model, then answer until stdin ends."""
    parser = argparse.ArgumentParser(prog="embed_worker", description="Embeds texts for the daemon.")
    parser.add_argument("--model", "--name", default=DEFAULT, help="a sentence-transformers model")
    parser.add_argument("--batch-size", type=int, default=32, help="texts embedded at a time")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves it to torch")
    parser.add_argument("--parent", type=int, default=0, help="pid of the daemon; end when it ends")
    arguments = parser.parse_args(argv)
    end_with_parent(arguments.parent)
    out = keep_stdout()
    try:
        from ada_memory.hippocampus.embedder import Embedder, resolve

        embedder = Embedder(resolve(arguments.model), arguments.batch_size, arguments.threads)
    except AdaError as error:
        _say(out, {"ready": False, "hint": error.hint} | _fault(error))
        return 1
    _say(out, {"ready": True, "embedder": embedder.hash, "dim": embedder.dim})
    for line in sys.stdin:
        if line.strip():
            _say(out, answer(line, embedder))
    return 0


def answer(line: str, embedder: Embedder) -> dict[str, object]:
    """The reply to one request line."""
    name: object = None
    try:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise BadInput("a request must be a JSON object")
        name = request.get("id")
        if request.get("op") != "encode":
            raise BadInput(f"there is no op {request.get('op')!r}", field="op")
        texts = request.get("texts")
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise BadInput("texts must be a list of strings", field="texts")
        vectors = embedder.encode([text.encode("utf-8", "replace").decode() for text in texts])
    except (AdaError, json.JSONDecodeError, RuntimeError, ValueError, IndexError) as error:
        return {"id": name, "ok": False} | _fault(error)
    packed = base64.b64encode(vectors.astype("<f4").tobytes()).decode("ascii")
    return {"id": name, "ok": True, "vectors": packed, "dim": embedder.dim}


def _fault(error: Exception) -> dict[str, object]:
    kind = "BadInput" if isinstance(error, json.JSONDecodeError) else type(error).__name__
    return {"error": str(error), "type": kind}


def _say(out: IO[str], reply: dict[str, object]) -> None:
    out.write(json.dumps(reply) + "\n")
    out.flush()


if __name__ == "__main__":
    sys.exit(main())
