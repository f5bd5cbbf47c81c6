"""The sum over paths and its derivatives against dense tensors of coefficients, and kernels against sums of torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tenfold.errors import DataError
from tenfold.so3 import _memory
from tenfold.so3.products import _trilinear, _trilinear_loops, _trilinear_plain, _trilinear_written
from tenfold.so3.products._terms import Coupling, Terms, read, terms
from tenfold.so3.products._trilinear import trilinear
from tenfold.so3.products._trilinear_plan import plan_of


def paths(degree: int, *, separate: bool) -> Terms:
    """All paths up to a degree, each to components of its own, or added up."""
    found, size = [], 0
    for l1, l2 in itertools.product(range(degree + 1), repeat=2):
        for l3 in range(abs(l1 - l2), min(l1 + l2, degree) + 1):
            found.append(Coupling((l1, l2, l3), 1.3 - 0.1 * l3, l1 * l1, l2 * l2, size if separate else l3 * l3))
            size += 2 * l3 + 1
    components = (degree + 1) ** 2
    return terms(found, (components, components, size if separate else components))


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def dense(left: Tensor, right: Tensor, weight: Tensor | None, coefficients: Terms) -> Tensor:
    _, _, outs, paths = coefficients.sizes
    table = torch.zeros(*coefficients.sizes, dtype=torch.float64)
    where = (coefficients.left, coefficients.right, coefficients.out, coefficients.path)
    table[tuple(torch.from_numpy(index) for index in where)] = torch.from_numpy(coefficients.value)
    pairs = (left.double()[:, :, None] * right.double()[:, None]).flatten(1, 2)
    by_path = (table.flatten(0, 1).flatten(1).T @ pairs).unflatten(1, (outs, paths))
    return (by_path if weight is None else by_path * weight[:, None].double()).sum(2)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor | None, Terms]:
    coefficients = paths(draw(st.integers(0, 2)), separate=draw(st.booleans()))
    batch, channels = draw(st.sampled_from([1, 2, 3, 67])), draw(st.sampled_from([1, 3, 8, 16, 21, 64, 75]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    seed = draw(st.integers(0, 1000))
    left = drawn(batch, coefficients.sizes[0], channels, seed=seed, dtype=dtype)
    right = drawn(batch, coefficients.sizes[1], draw(st.sampled_from([1, channels])), seed=seed + 1, dtype=dtype)
    rows, width = draw(st.sampled_from([1, batch])), draw(st.sampled_from([1, channels]))
    weight = drawn(rows, coefficients.sizes[3], width, seed=seed + 2, dtype=dtype)
    return left, right, weight if draw(st.booleans()) else None, coefficients


def close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    limit = 1e-12 if found.dtype == torch.float64 else 2e-5
    scale = float(expected.abs().max()) if expected.numel() else 1.0
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=limit * max(scale, 1))


@given(problems())
@settings(max_examples=30)
def test_it_is_the_dense_sum(problem: tuple[Tensor, Tensor, Tensor | None, Terms]) -> None:
    close(trilinear(*problem), dense(*problem))


@given(problems())
@settings(max_examples=25)
def test_first_and_second_derivatives_are_those_of_the_dense_sum(
    problem: tuple[Tensor, Tensor, Tensor | None, Terms],
) -> None:
    *tensors, coefficients = problem
    found = []
    for function in (trilinear, dense):
        given_ = [None if tensor is None else tensor.clone().requires_grad_() for tensor in tensors]
        leaves = [tensor for tensor in given_ if tensor is not None]
        out = function(*given_, coefficients)
        grad = drawn(*out.shape, seed=5, dtype=out.dtype).requires_grad_()
        first = torch.autograd.grad(out, leaves, grad, create_graph=True)
        upstream = [drawn(*one.shape, seed=6 + n, dtype=one.dtype) for n, one in enumerate(first)]
        found.append((*first, *torch.autograd.grad(first, [*leaves, grad], upstream)))
    for one, other in zip(*found, strict=True):
        close(one.detach(), other.detach())


@pytest.mark.parametrize("right_channels", [1, 2])
@pytest.mark.parametrize("shape", [None, (1, 1), (1, 2), (2, 1), (2, 2)])
def test_derivatives_by_differences(right_channels: int, shape: tuple[int, int] | None) -> None:
    coefficients = paths(1, separate=False)
    given_ = [drawn(2, 4, 2), drawn(2, 4, right_channels, seed=1)]
    if shape is not None:
        given_.append(drawn(shape[0], coefficients.sizes[3], shape[1], seed=2))
    for tensor in given_:
        tensor.requires_grad_()

    def function(left: Tensor, right: Tensor, weight: Tensor | None = None) -> Tensor:
        return trilinear(left, right, weight, coefficients)

    assert torch.autograd.gradcheck(function, given_)
    assert torch.autograd.gradgradcheck(function, given_)


def test_the_third_derivative() -> None:
    coefficients = paths(1, separate=True)
    tensors = [drawn(3, 4, 5), drawn(3, 4, 1, seed=1), drawn(1, coefficients.sizes[3], 5, seed=2)]
    found = []
    for function in (trilinear, dense):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        value = function(*leaves, coefficients).pow(2).sum()
        for _ in range(3):
            grads = torch.autograd.grad(value, leaves, create_graph=True)
            value = sum((grad.pow(2).sum() for grad in grads), start=torch.zeros((), dtype=torch.float64))
        found.append(value.detach())
    torch.testing.assert_close(*found, rtol=1e-11, atol=0)


KINDS = ["code", "loops"]


@contextmanager
def kernels(kind: str) -> Iterator[None]:
    """Code, or loops."""
    with pytest.MonkeyPatch.context() as patch:
        if kind == "loops":
            patch.setattr(_trilinear_written, "_MOST_TERMS", -1)
        yield


@pytest.mark.parametrize("kind", KINDS)
@given(problem=problems(), shared=st.booleans(), narrow=st.booleans())
@settings(max_examples=25)
def test_kernels_and_sums_of_torch_are_the_same(
    kind: str, problem: tuple[Tensor, Tensor, Tensor | None, Terms], shared: bool, narrow: bool
) -> None:
    with kernels(kind):
        compare(problem, shared, narrow)


def compare(problem: tuple[Tensor, Tensor, Tensor | None, Terms], shared: bool, narrow: bool) -> None:
    left, right, weight, coefficients = problem
    key, plan = coefficients.key, plan_of(coefficients.key)
    left2, right2 = drawn(*left.shape, seed=3, dtype=left.dtype), drawn(*right.shape, seed=4, dtype=left.dtype)
    grad = drawn(len(left), coefficients.sizes[2], left.shape[2], seed=5, dtype=left.dtype)
    both = (left, right, weight, left2, right2)
    close(_trilinear._forward(*both, key), _trilinear_plain.forward(*both, plan))
    by_kernel = _trilinear._gradients(left, right, weight, grad, key)
    by_sums = _trilinear_plain.gradients(left, right, weight, grad, plan)
    for one, other in zip(by_kernel, by_sums, strict=True):
        close(one, other)
    if weight is not None:
        sizes = _trilinear._shared_and_narrow(weight, left)
        every = (*by_sums, _trilinear_plain.weights(left, right, grad, None, None, plan, *sizes))
        for one, other in zip(_trilinear._all(left, right, weight, grad, key), every, strict=True):
            close(one, other)
    for pair in ((None, None), (left2, right2)):
        found = _trilinear._weights(left, right, grad, *pair, key, shared, narrow)
        close(found, _trilinear_plain.weights(left, right, grad, *pair, plan, shared, narrow))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_results_larger_than_the_caches(kind: str, weighted: bool) -> None:
    with kernels(kind):
        large(weighted)


def large(weighted: bool) -> None:
    coefficients = paths(2, separate=True)
    left, right = drawn(1300, 9, 64, dtype=torch.float32), drawn(1300, 9, 64, seed=1, dtype=torch.float32)
    weight = drawn(1, 15, 64, seed=2, dtype=torch.float32) if weighted else None
    found = trilinear(left, right, weight, coefficients)
    assert found.nbytes > _trilinear_written._STREAMED
    some = slice(None, None, 97)
    close(found[some], dense(left[some], right[some], weight, coefficients))
    grads = drawn(*found.shape, seed=3, dtype=torch.float32)
    by_left, _ = _trilinear._gradients(left, right, weight, grads, coefficients.key)
    plan = plan_of(coefficients.key)
    expected, _ = _trilinear_plain.gradients(left[some], right[some], weight, grads[some], plan)
    close(by_left[some], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_channels_know_nothing_of_each_other(kind: str) -> None:
    with kernels(kind):
        broken_at_one_place()


def broken_at_one_place() -> None:
    # 21 channels are a vector of 16 and others.
    coefficients = paths(2, separate=False)
    left, right = drawn(6, 9, 21, dtype=torch.float32), drawn(6, 9, 21, seed=1, dtype=torch.float32)
    whole = trilinear(left, right, None, coefficients)
    left[3, :, 17] = torch.nan
    broken = trilinear(left, right, None, coefficients)
    assert broken[3, :, 17].isnan().all()
    broken[3, :, 17] = whole[3, :, 17]
    assert torch.equal(broken, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_depends_on_the_number_of_threads(kind: str) -> None:
    with kernels(kind):
        same_for_all_threads()


def same_for_all_threads() -> None:
    coefficients = paths(2, separate=True)
    left, right = drawn(301, 9, 64, dtype=torch.float32), drawn(301, 9, 64, seed=1, dtype=torch.float32)
    grad = drawn(301, coefficients.sizes[2], 64, seed=2, dtype=torch.float32)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            out = _trilinear._forward(left, right, None, None, None, coefficients.key)
            by_both = _trilinear._gradients(left, right, None, grad, coefficients.key)
            by_weight = _trilinear._weights(left, right, grad, None, None, coefficients.key, True, False)
            found.append((out, *by_both, by_weight))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("weighted", [False, True])
def test_operators_keep_what_torch_asks_of_them(weighted: bool) -> None:
    coefficients = paths(1, separate=False)
    key, number = coefficients.key, coefficients.sizes[3]
    left, right = drawn(3, 4, 2).requires_grad_(), drawn(3, 4, 1, seed=1).requires_grad_()
    weight = drawn(1, number, 2, seed=2).requires_grad_() if weighted else None
    grad = drawn(3, 4, 2, seed=3).requires_grad_()
    torch.library.opcheck(_trilinear._forward, (left, right, weight, None, None, key))
    torch.library.opcheck(_trilinear._forward, (left, right, weight, left, right, key))
    torch.library.opcheck(_trilinear._gradients, (left, right, weight, grad, key))
    torch.library.opcheck(_trilinear._weights, (left, right, grad, None, None, key, True, False))
    if weight is not None:
        torch.library.opcheck(_trilinear._all, (left, right, weight, grad, key))


@pytest.mark.parametrize("rows", [1, 2])
def test_batches_of_batches(rows: int) -> None:
    coefficients = paths(1, separate=False)
    left, right = drawn(5, 2, 4, 3), drawn(2, 4, 1, seed=1)
    weight = drawn(5, rows, coefficients.sizes[3], 3, seed=2)

    def value(one: Tensor, factors: Tensor) -> Tensor:
        return trilinear(one, right, factors, coefficients)

    def slope(one: Tensor, factors: Tensor) -> tuple[Tensor, ...]:
        return torch.func.grad(lambda *both: value(*both).pow(3).sum(), argnums=(0, 1))(one, factors)

    close(torch.vmap(value)(left, weight), torch.stack([value(*both) for both in zip(left, weight, strict=True)]))
    every = torch.vmap(slope)(left, weight)
    for number in range(5):
        leaves = [left[number].clone().requires_grad_(), weight[number].clone().requires_grad_()]
        expected = torch.autograd.grad(value(*leaves).pow(3).sum(), leaves)
        for one, other in zip(every, expected, strict=True):
            close(one[number], other)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("of_each", [False, True])
def test_all_gradients_under_vmap(rows: int, of_each: bool) -> None:
    coefficients = paths(1, separate=False)
    left, right, grads = drawn(3, 4, 2), drawn(3, 4, 1, seed=1), drawn(5, 3, 4, 2, seed=2)
    weights = drawn(5, rows, coefficients.sizes[3], 2, seed=3)

    def every(grad: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        return _trilinear._all(left, right, weight, grad, coefficients.key)

    together = torch.vmap(every, (0, 0 if of_each else None))(grads, weights if of_each else weights[0])
    for number in range(5):
        alone = every(grads[number], weights[number if of_each else 0])
        for one, other in zip(together, alone, strict=True):
            close(one[number], other)


def test_derivatives_under_vmap_are_those_of_each_row() -> None:
    coefficients = paths(1, separate=False)
    left, right = drawn(4, 3, 4, 2).requires_grad_(), drawn(3, 4, 2, seed=1).requires_grad_()
    weight = drawn(1, coefficients.sizes[3], 1, seed=2).requires_grad_()
    leaves = (left, right, weight)
    together = torch.vmap(lambda one: trilinear(one, right, weight, coefficients))(left)
    apart = torch.stack([trilinear(one, right, weight, coefficients) for one in left])
    grad = drawn(*apart.shape, seed=3)
    found, expected = (torch.autograd.grad(value, leaves, grad) for value in (together, apart))
    for one, other in zip(found, expected, strict=True):
        close(one, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    coefficients = paths(2, separate=False)
    left, right = drawn(5, 9, 16, dtype=dtype), drawn(5, 9, 1, seed=1, dtype=dtype)
    found = trilinear(left, right, None, coefficients)
    assert found.dtype == dtype
    torch.testing.assert_close(found, dense(left, right, None, coefficients).to(dtype), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(("batch", "channels"), [(0, 4), (3, 0), (0, 0), (0, 64)])
def test_nothing_gives_nothing(batch: int, channels: int) -> None:
    coefficients = paths(1, separate=True)
    left = torch.zeros(batch, 4, channels, requires_grad=True)
    right = torch.zeros(batch, 4, 1, requires_grad=True)
    weight = torch.ones(1, coefficients.sizes[3], 1, requires_grad=True)
    out = trilinear(left, right, weight, coefficients)
    assert out.shape == (batch, coefficients.sizes[2], channels)
    for grad, leaf in zip(torch.autograd.grad(out.sum(), (left, right, weight)), (left, right, weight), strict=True):
        assert torch.equal(grad, torch.zeros_like(leaf))


def test_without_paths_out_is_zero() -> None:
    coefficients = terms([], (4, 4, 3))
    assert torch.equal(trilinear(drawn(2, 4, 16), drawn(2, 4, 1), None, coefficients), drawn(2, 3, 16) * 0)


def test_components_without_a_path_are_zero() -> None:
    coefficients = terms([Coupling((1, 1, 1), 1.0, 0, 0, 2)], (3, 3, 6))
    left, right = drawn(2, 3, 16), drawn(2, 3, 16, seed=1)
    close(trilinear(left, right, None, coefficients), dense(left, right, None, coefficients))


@pytest.mark.parametrize("kind", KINDS)
def test_paths_that_count_nothing(kind: str) -> None:
    coefficients = terms([Coupling((1, 1, 1), 0.0, 0, 0, 0), Coupling((0, 1, 1), 2.0, 3, 0, 3)], (4, 3, 6))
    left, right = drawn(2, 4, 16).requires_grad_(), drawn(2, 3, 16, seed=1).requires_grad_()
    weight = drawn(2, 2, 16, seed=2).requires_grad_()
    with kernels(kind):
        found = trilinear(left, right, weight, coefficients)
        close(found.detach(), dense(left.detach(), right.detach(), weight.detach(), coefficients))
        grads = torch.autograd.grad(found.sum(), (left, right, weight))
    expected = torch.autograd.grad(dense(left, right, weight, coefficients).sum(), (left, right, weight))
    for one, other in zip(grads, expected, strict=True):
        close(one, other)


def test_where_code_is_not_loaded_and_where_there_is_too_much_of_it_loops_run(monkeypatch: pytest.MonkeyPatch) -> None:
    coefficients = paths(1, separate=True)
    tensors = (drawn(2, 4, 16), drawn(2, 4, 16, seed=1), None)
    assert _trilinear._kernels(coefficients.key) is _trilinear_written
    written = trilinear(*tensors, coefficients)
    with kernels("loops"):
        assert _trilinear._kernels(coefficients.key) is _trilinear_loops
    monkeypatch.setattr(_trilinear_written.sys, "platform", "win32")
    assert _trilinear._kernels(coefficients.key) is _trilinear_loops
    close(trilinear(*tensors, coefficients), written)


def test_steps_between_components() -> None:
    coefficients = terms([Coupling((1, 2, 2), 0.7, 1, 0, 1, (2, 3, 4))], (6, 13, 18))
    left, right = drawn(2, 6, 5), drawn(2, 13, 5, seed=1)
    plain = terms([Coupling((1, 2, 2), 0.7, 0, 0, 0)], (3, 5, 5))
    expected = torch.zeros(2, 18, 5, dtype=torch.float64)
    expected[:, 1::4] = dense(left[:, 1::2], right[:, ::3], None, plain)
    close(trilinear(left, right, None, coefficients), expected)


def test_a_key_says_everything() -> None:
    before = terms([Coupling((1, 2, 2), 1 / 3, 1, 0, 1, (2, 3, 4)), Coupling((0, 0, 0), -2.0, 0, 0, 0)], (6, 13, 18))
    after = read(before.key)
    assert after.paths == before.paths
    assert after.sizes == before.sizes
    assert after.key == before.key
    assert (after.value == before.value).all()


@pytest.mark.parametrize(
    ("shapes", "word"),
    [
        (((2, 3, 5), (2, 4, 5), None), "left must be of shape (batch, 4, channel), not (2, 3, 5)"),
        (((2, 4, 5), (3, 4, 5), None), "right must be of shape (2, 4, 5 or 1), not (3, 4, 5)"),
        (((2, 4, 5), (2, 4, 2), None), "right must be of shape (2, 4, 5 or 1), not (2, 4, 2)"),
        (((2, 4, 5), (2, 4, 1), (2, 3, 5)), "weight must be of shape (2 or 1, 5, 5 or 1), not (2, 3, 5)"),
    ],
)
def test_what_does_not_fit(shapes: tuple[tuple[int, ...] | None, ...], word: str) -> None:
    tensors = [None if shape is None else torch.zeros(shape) for shape in shapes]
    with pytest.raises(DataError) as caught:
        trilinear(*tensors, paths(1, separate=False))
    assert word in str(caught.value)


def test_large_memory_is_used_again_but_never_twice_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "_free", [])
    size = _memory._LARGE // 4 + 1000
    first, second = _memory.empty((size,), torch.float32), _memory.empty((size,), torch.float32)
    first.fill_(1)
    second.fill_(2)
    assert bool((first == 1).all())
    assert first.data_ptr() % 64 == 0
    part, place = first[10:20], first.data_ptr()
    del first
    third = _memory.empty((size,), torch.float32)
    assert third.data_ptr() != place  # a part of it is still there
    assert bool((part == 1).all())
    del part
    assert _memory.empty((size,), torch.float32).data_ptr() == place


def test_memory_that_is_kept_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "_KEPT", 3 * _memory._LARGE)
    monkeypatch.setattr(_memory, "_free", [])
    held = [_memory.empty((_memory._LARGE + 1000 * n,), torch.uint8) for n in range(5)]
    del held
    assert 0 < sum(map(len, _memory._free)) <= 3 * _memory._LARGE
