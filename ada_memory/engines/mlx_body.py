"""The insides of mlx-lm's models, which give logits of every place and nothing else.

In: a model of mlx-lm, token ids. Out: logits of chosen places only (the output layer is the largest product
of a small model), the state after any layer. Works on every model whose body is `model` and whose layers are
a list, which is nearly all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ada_memory.engines.mlx_core import mx, nn
from ada_memory.errors import BadModel

BLOCKS = ("mlp", "feed_forward")
"""What a layer's block is called in which tokens do not meet."""


class _Found(Exception):  # noqa: N818
    """Not an error: the state that was looked for, and no need to go on."""

    def __init__(self, state: Any) -> None:
        self.state = state


class _Probe:
    """Stands in a layer's place, looks like it, and hands over what would enter it."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __call__(self, state: Any, *_: Any, **__: Any) -> Any:
        raise _Found(state)


class _Twice:
    """Stands in a layer's place and gives what it gives, but keeps for the way back only what entered it."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

        def run(adapter: Any, *args: Any, **kwargs: Any) -> Any:
            layer.update(adapter)
            return layer(*args, **kwargs)

        self._run = mx.checkpoint(run)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(self._layer.trainable_parameters(), *args, **kwargs)


class Body:
    """A model of mlx-lm whose output layer is only run where it is wanted.

    With `recompute` a layer is computed a second time on the way back instead of being kept (1604.06174).
    """

    def __init__(self, model: Any) -> None:
        """Takes the model over.

        Raises:
            BadModel: it is built unlike the others.
        """
        self.model = model
        text = getattr(model, "language_model", model)
        inner: Any = getattr(text, "model", None)
        if not isinstance(getattr(inner, "layers", None), list):
            raise BadModel("this engine cannot read such a model", hint='set model.engine = "peft"')
        self.recompute = False
        self._inner = inner
        self._where: Any = None
        self._noise = 0.0
        body = self

        class Picking(type(inner)):  # type: ignore[misc]
            def __call__(self, *args: Any, **kwargs: Any) -> Any:
                states = super().__call__(*args, **kwargs)
                if body._where is None:
                    return states
                return states.reshape(-1, states.shape[-1])[body._where][None]

        inner.__class__ = Picking
        for name in BLOCKS:
            if isinstance(block := getattr(inner.layers[-1], name, None), nn.Module):
                self._spare(block)
        for embedding in inner.children().values():
            if isinstance(embedding, (nn.Embedding, nn.QuantizedEmbedding)):
                self._blur(embedding)

    def logits(self, ids: Any, where: Any, cache: Any = None, noise: float = 0.0) -> Any:
        """Logits at `where`, places counted through the flat ids (rows, width): (places, vocabulary).

        `noise` is as in a `TrainPlan`, on every row.
        """
        with self._picking(where, noise):
            return self.model(ids, cache=cache)[0].astype(mx.float32)

    def states(self, ids: Any, where: Any) -> Any:
        """What the output layer reads at `where`, as in `logits`: float32, (places, hidden size)."""
        with self._picking(where):
            return self._inner(ids)[0].astype(mx.float32)

    def state(self, ids: Any, layer: int) -> Any:
        """The state of each token after `layer` (0 is the embedding): (rows, width, hidden size).

        After the last layer it is what the output layer sees, as in transformers.
        """
        layers = self._inner.layers
        if layer == len(layers):
            return self._inner(ids)
        with self._instead([_Probe(one) if at == layer else one for at, one in enumerate(layers)]):
            try:
                self._inner(ids)
            except _Found as found:
                return found.state
        raise BadModel("the model ran past its layers", hint='set model.engine = "peft"')

    def _blur(self, embedding: Any) -> None:
        """Let what the embedding gives have noise while there is to be some."""
        body = self

        class Blurred(type(embedding)):  # type: ignore[misc]
            def __call__(self, ids: Any) -> Any:
                out = super().__call__(ids)
                if not body._noise:
                    return out
                size = mx.sqrt(mx.square(out).mean(-1, keepdims=True))
                return out + body._noise * size * mx.random.normal(out.shape, dtype=out.dtype)

        embedding.__class__ = Blurred

    def _spare(self, block: Any) -> None:
        """Let a block of the last layer work at the chosen places alone; at the others it gives zeros."""
        body = self

        class Sparing(type(block)):  # type: ignore[misc]
            def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
                flat, where = x.reshape(-1, x.shape[-1]), body._where
                if where is None or where.size >= len(flat):
                    return super().__call__(x, *args, **kwargs)
                made = super().__call__(flat[where][None], *args, **kwargs)[0]
                # gathered, not scattered: a place that is chosen twice would count twice on the way back
                back = mx.full((len(flat),), where.size, mx.int32)
                back[where] = mx.arange(where.size)
                made = mx.concatenate([made, mx.zeros((1, made.shape[-1]), made.dtype)])
                return made[back].reshape(*x.shape[:-1], -1)

        block.__class__ = Sparing

    @contextmanager
    def _picking(self, where: Any, noise: float = 0.0) -> Iterator[None]:
        layers = self._inner.layers
        twice = self.recompute and self.model.training
        self._where, self._noise = where, noise
        try:
            with self._instead([_Twice(layer) for layer in layers] if twice else layers):
                yield
        finally:
            self._where, self._noise = None, 0.0

    @contextmanager
    def _instead(self, others: list[Any]) -> Iterator[None]:
        """Let others stand in the layers' places."""
        layers, self._inner.layers = self._inner.layers, others
        try:
            yield
        finally:
            self._inner.layers = layers
