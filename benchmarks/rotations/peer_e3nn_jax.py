"""e3nn on JAX, compiled as one function; channels are an axis of the batch, as its documentation has them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.rotations.questions import Question, sorted_paths


def prepare(
    question: Question, numbers: dict[str, np.ndarray], variant: str, threads: int
) -> Callable[[], tuple[Any, ...]]:
    """The work as e3nn-jax does it; threads are those that the process may run on."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    import jax

    names = [name.removeprefix("input_") for name in numbers if name.startswith("input_")]
    inputs = [jax.numpy.asarray(_swapped(numbers[f"input_{name}"])) for name in names]
    directions = [jax.numpy.asarray(_swapped(numbers[f"direction_{name}"])) for name in names]
    cotangent = jax.numpy.asarray(_swapped(_theirs(question, numbers["cotangent"])))
    function = _function(question, numbers)

    def backward(inputs: list[Any], cotangent: Any) -> Any:
        result, pull = jax.vjp(function, *inputs)
        return pull(cotangent), result

    def double(inputs: list[Any], cotangent: Any, directions: list[Any]) -> Any:
        first, pull = jax.vjp(lambda xs, v: backward(xs, v)[0], inputs, cotangent)
        return pull(tuple(directions)), first

    compiled = jax.jit({"forward": lambda xs: function(*xs), "backward": backward, "double": double}[question.mode])
    arguments = {"forward": (inputs,), "backward": (inputs, cotangent), "double": (inputs, cotangent, directions)}

    def run() -> tuple[Any, ...]:
        found = jax.block_until_ready(compiled(*arguments[question.mode]))
        if question.mode == "forward":
            return (found,)
        return tuple(found[0]) if question.mode == "backward" else (*found[0][0], found[0][1])

    return run


def arrays(question: Question, results: tuple[Any, ...]) -> list[np.ndarray]:
    """Results in channels last."""
    found = [_swapped(np.asarray(result)) for result in results]
    last = None if question.mode == "backward" else _theirs(question, found[-1], back=True)
    return found if last is None else [*found[:-1], last]


def _theirs(question: Question, array: np.ndarray, back: bool = False) -> np.ndarray:
    """The paths of a full product in their order, natural parities first in a degree; or back."""
    if question.work != "full":
        return array
    ours = sorted_paths(question.degree, question.degree, question.degree)
    order = sorted(range(len(ours)), key=lambda n: (ours[n][2], sum(ours[n]) % 2, n))
    begins = np.cumsum([0, *(2 * path[2] + 1 for path in ours)])
    places = np.concatenate([np.arange(begins[n], begins[n + 1]) for n in order])
    return array[:, np.argsort(places) if back else places]


def _swapped(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.swapaxes(1, 2)) if array.ndim == 3 else array


def _function(question: Question, numbers: dict[str, np.ndarray]) -> Callable[..., Any]:
    import e3nn_jax as e3nn
    import jax
    import jax.numpy as jnp

    q = question
    irreps = e3nn.Irreps([(1, (degree, (-1) ** degree)) for degree in range(q.degree + 1)])
    if q.work == "harmonics":
        return lambda vectors: e3nn.spherical_harmonics(irreps, vectors, True, "component").array
    kept = [e3nn.Irrep(degree, parity) for degree in range(q.degree + 1) for parity in (1, -1)]
    if q.work == "full":

        def full(left: Any, right: Any) -> Any:
            one, other = e3nn.IrrepsArray(irreps, left), e3nn.IrrepsArray(irreps, right)
            return e3nn.tensor_product(one, other, filter_ir_out=kept).array

        return full
    if q.work != "edges":
        raise NotImplementedError(f"e3nn-jax has no such product as '{q.work}'")
    source, target = jnp.asarray(numbers["source"]), jnp.asarray(numbers["target"])
    harmonics = e3nn.Irreps([(1, (degree, (-1) ** degree)) for degree in range(q.filter_degree + 1)])

    def edges(features: Any, vectors: Any, weight: Any) -> Any:
        along = e3nn.spherical_harmonics(harmonics, vectors, True, "component")
        one = e3nn.IrrepsArray(irreps, features[source])
        messages = e3nn.tensor_product(one, along[:, None, :], filter_ir_out=list(irr for _, irr in irreps))
        sizes = jnp.asarray([ir.dim for mul, ir in messages.irreps for _ in range(mul)])
        spread = jnp.repeat(weight, sizes, axis=2, total_repeat_length=messages.irreps.dim)
        summed = jax.ops.segment_sum(messages.array * spread, target, q.rows)
        return summed

    return edges
