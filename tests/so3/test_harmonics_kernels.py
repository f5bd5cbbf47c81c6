"""The kernels of spherical harmonics give what plain torch gives, differentiated as often as it is."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tenfold.so3 import spherical_harmonics
from tenfold.so3._harmonics import _WORTH_THREADS, bends, harmonics, slopes
from tenfold.so3._harmonics_plain import plain_harmonics

DEGREES = st.lists(st.integers(0, 6), min_size=1, max_size=4, unique=True)
OPTIONS = st.tuples(DEGREES, st.booleans(), st.sampled_from(["integral", "component", "norm"]))
DTYPES = [torch.float32, torch.float64]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def close(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    size = float(expected.detach().abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(found, expected, rtol=0, atol=64 * torch.finfo(found.dtype).eps * max(size, 1e-30))


def derivatives(function: Any, vectors: Tensor, grad: Tensor, pull: Tensor, options: Any) -> list[Tensor]:
    """Values, their gradient along ``grad``, and both gradients of this one along ``pull``."""
    values = function(vectors, *options)
    (first,) = torch.autograd.grad(values, vectors, grad, create_graph=True)
    second = torch.autograd.grad(first, (vectors, grad), pull, materialize_grads=True)
    return [values, first, *second]


@settings(max_examples=60, deadline=None)
@given(OPTIONS, st.integers(0, 50), st.integers(0, 2**20), st.sampled_from(DTYPES))
def test_values_and_both_derivatives_are_those_of_plain_torch(
    options: tuple[list[int], bool, str], count: int, seed: int, dtype: torch.dtype
) -> None:
    vectors = normal(count, 3, seed=seed, dtype=dtype)
    if count > 3:
        vectors[count // 2] = 0
    vectors.requires_grad_()
    components = sum(2 * degree + 1 for degree in options[0])
    grad = normal(count, components, seed=seed + 1, dtype=dtype).requires_grad_()
    pull = normal(count, 3, seed=seed + 2, dtype=dtype)

    for found, expected in zip(
        derivatives(harmonics, vectors, grad, pull, options),
        derivatives(plain_harmonics, vectors, grad, pull, options),
        strict=True,
    ):
        close(found, expected)


@pytest.mark.parametrize("count", [0, 5, 16, 37])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    ("largest", "normalization", "dtype"),
    [
        (0, "component", torch.float64),
        (1, "integral", torch.float32),
        (2, "component", torch.float32),
        (2, "norm", torch.float64),
        (3, "component", torch.float32),
        (4, "component", torch.float64),
        (5, "norm", torch.float64),
        (6, "component", torch.float32),
        (7, "component", torch.float64),
    ],
)
def test_all_degrees_up_to_one(
    largest: int, normalization: str, dtype: torch.dtype, normalize: bool, count: int
) -> None:
    """Written out up to degree 6; alone, with vectors that fill lanes, and with some that are left over."""
    options = (list(range(largest + 1)), normalize, normalization)
    vectors = normal(count, 3, seed=count, dtype=dtype)
    if count > 5:
        vectors[3] = 0
    vectors.requires_grad_()
    grad = normal(count, (largest + 1) ** 2, seed=1, dtype=dtype).requires_grad_()
    pull = normal(count, 3, seed=2, dtype=dtype)
    for found, expected in zip(
        derivatives(harmonics, vectors, grad, pull, options),
        derivatives(plain_harmonics, vectors, grad, pull, options),
        strict=True,
    ):
        close(found, expected)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_third_and_fourth_derivatives(normalize: bool) -> None:
    """A function of one number, differentiated four times, with the gradient a function of it as well."""
    start = normal(5, 3, seed=1)
    way, mixed = normal(5, 3, seed=2), normal(5, 25, seed=3)

    def derived(function) -> list[Tensor]:
        step = torch.zeros((), dtype=torch.float64, requires_grad=True)
        value = (function(start + torch.sin(step) * way, range(5), normalize, "component") ** 2 * mixed).sum()
        found = []
        for _ in range(4):
            (value,) = torch.autograd.grad(value, step, create_graph=True)
            found.append(value)
        return found

    def kernels(vectors: Tensor, degrees: range, *options) -> Tensor:
        return harmonics(vectors, list(degrees), *options)

    for found, expected in zip(derived(kernels), derived(plain_harmonics), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize("normalize", [True, False])
def test_derivatives_by_differences(normalize: bool) -> None:
    vectors = torch.cat([normal(18, 3), torch.tensor([[0, 1, 0], [0, -1, 0], [1, 0, 0]])]).requires_grad_()

    def values(given: Tensor) -> Tensor:
        return harmonics(given, [3, 0, 1], normalize, "norm")

    assert torch.autograd.gradcheck(values, vectors)
    assert torch.autograd.gradgradcheck(values, vectors)


@pytest.mark.parametrize("operator", ["values", "slopes", "bends"])
def test_operators_are_what_torch_expects_of_them(operator: str) -> None:
    vectors = normal(17, 3).requires_grad_()
    grad, pull = normal(17, 12, seed=1).requires_grad_(), normal(17, 3, seed=2).requires_grad_()
    options = ([1, 4], True, "integral")
    function, given = {
        "values": (harmonics, (vectors, *options)),
        "slopes": (slopes, (vectors, grad, *options)),
        "bends": (bends, (vectors, grad, pull, *options)),
    }[operator]
    torch.library.opcheck(function, given)


@pytest.mark.parametrize("exponent", [-320, -300, -200, -100, 0, 100, 200, 300])
def test_lengths_of_any_size(exponent: int) -> None:
    """With one ordinary vector and a zero beside it; gradients are as large as one over the length."""
    size = float(f"1e{exponent}")
    unit = torch.tensor([[0.6, 0.0, 0.8], [1.0, 2.0, -2.0]], dtype=torch.float64)
    vectors = torch.cat([unit * size, unit, torch.zeros(1, 3, dtype=torch.float64)]).requires_grad_()
    found = harmonics(vectors, [1, 3], True, "integral")
    # Of the smallest numbers only a few digits are kept.
    near = 1e-3 if exponent < -308 else 1e-13
    torch.testing.assert_close(found[:2], found[2:4], rtol=near, atol=near)
    assert not found[4].any()
    if exponent > -308:
        weight = normal(2, 10, seed=1).repeat(2, 1)
        (grad,) = torch.autograd.grad(found[:4], vectors, weight)
        torch.testing.assert_close(grad[:2] * size, grad[2:4], rtol=1e-12, atol=1e-12)
        assert not grad[4].any()


def test_bad_numbers_stay_with_their_vector() -> None:
    vectors = normal(40, 3)
    vectors[3, 0], vectors[20, 2] = float("nan"), float("inf")
    found = spherical_harmonics([0, 1, 2], vectors)
    expected = plain_harmonics(vectors, [0, 1, 2], True, "integral")
    bad = torch.tensor([3, 20])
    assert found[bad, 1:4].isnan().all()
    assert expected[bad, 1:4].isnan().all()
    keep = torch.ones(40, dtype=torch.bool).index_fill(0, bad, False)
    close(found[keep], expected[keep])


@pytest.mark.parametrize("dtype", DTYPES)
def test_memory_in_any_order(dtype: torch.dtype) -> None:
    whole = normal(2, 6, 5, 7, dtype=dtype)
    vectors = whole[:, ::2, :, 3].movedim(1, -1)
    assert not vectors.is_contiguous()
    wide = spherical_harmonics(range(4), vectors)
    assert wide.shape == (2, 5, 16)
    close(wide, plain_harmonics(vectors, range(4), True, "integral"))
    leaf = vectors.detach().requires_grad_()
    # A sum's gradient is one number that is seen in many places.
    (found,) = torch.autograd.grad(spherical_harmonics(range(4), leaf).sum(), leaf)
    (expected,) = torch.autograd.grad(plain_harmonics(leaf, range(4), True, "integral").sum(), leaf)
    close(found, expected)


def test_without_vectors() -> None:
    for shape in ((0, 3), (2, 0, 3)):
        vectors = torch.zeros(shape, requires_grad=True)
        found = spherical_harmonics([1, 2], vectors)
        assert found.shape == (*shape[:-1], 8)
        (grad,) = torch.autograd.grad(found.sum(), vectors)
        assert grad.shape == shape
    constant = spherical_harmonics([1, 2], torch.zeros(4, 3))
    assert not constant.requires_grad


def test_all_threads_write_the_same_numbers() -> None:
    count = _WORTH_THREADS // 49 + 1000
    vectors = normal(count, 3, dtype=torch.float32).requires_grad_()
    grad = normal(count, 49, seed=1, dtype=torch.float32)
    before, runs = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            values = spherical_harmonics(range(7), vectors)
            runs.append((values.detach(), *torch.autograd.grad(values, vectors, grad)))
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*runs, strict=True):
        assert torch.equal(one, other)


def test_transforms_of_functions_take_the_plain_way() -> None:
    vectors = normal(4, 5, 3)
    whole = spherical_harmonics(range(4), vectors)
    close(torch.vmap(lambda v: spherical_harmonics(range(4), v))(vectors), whole)
    first = torch.func.jacfwd(lambda v: spherical_harmonics(range(4), v))(vectors[0, 0])
    close(torch.func.jacrev(lambda v: spherical_harmonics(range(4), v))(vectors[0, 0]), first)

    def energy(v: Tensor) -> Tensor:
        return spherical_harmonics(range(4), v).cumsum(-1).square().sum()

    leaf = vectors.clone().requires_grad_()
    (expected,) = torch.autograd.grad(energy(leaf), leaf)
    close(torch.vmap(torch.vmap(torch.func.grad(energy)))(vectors), expected)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(vectors[0, 0], vectors[1, 0])
        moved = torch.autograd.forward_ad.unpack_dual(spherical_harmonics(range(4), dual)).tangent
    close(moved, first @ vectors[1, 0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_takes_the_plain_way(dtype: torch.dtype) -> None:
    vectors = normal(6, 3).to(dtype)
    found = spherical_harmonics([0, 1, 2], vectors)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), spherical_harmonics([0, 1, 2], vectors.double()), rtol=0, atol=0.03)


def test_compiled_as_one_graph() -> None:
    def energy(vectors: Tensor) -> Tensor:
        return spherical_harmonics("2x1o+3o", vectors).cumsum(-1).square().sum()

    compiled = torch.compile(energy, fullgraph=True, backend="aot_eager")
    for count in (5, 40):
        vectors = normal(count, 3).requires_grad_()
        (found,) = torch.autograd.grad(compiled(vectors), vectors)
        (expected,) = torch.autograd.grad(energy(vectors), vectors)
        close(found, expected)
    over = torch.compile(torch.vmap(torch.func.grad(energy)), backend="aot_eager")
    vectors = normal(6, 3)
    close(over(vectors), torch.vmap(torch.func.grad(energy))(vectors))


def test_numba_is_loaded_by_the_first_batch() -> None:
    script = (
        "import sys, torch, tenfold as tn\n"
        "tn.so3.Irreps('1o')\n"
        "assert 'numba' not in sys.modules\n"
        "tn.so3.spherical_harmonics(1, torch.ones(3))\n"
        "assert 'numba' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_who_looks_sees_the_operator() -> None:
    """Without anyone looking it is left out, and gives the same."""
    seen = []

    class Looking(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    vectors = normal(20, 3)
    alone = spherical_harmonics(range(3), vectors)
    with Looking():
        found = spherical_harmonics(range(3), vectors)
    assert "tenfold.so3_harmonics.default" in seen
    torch.testing.assert_close(alone, found, rtol=0, atol=0)


def test_vectors_whose_sign_is_in_the_view() -> None:
    vectors = normal(200, 3)
    close(spherical_harmonics(3, torch._neg_view(vectors)), spherical_harmonics(3, -vectors))
