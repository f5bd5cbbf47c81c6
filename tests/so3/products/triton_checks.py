"""Kernels of Triton against sums of torch, by Triton's interpreter; `test_trilinear_triton` starts it.

The interpreter has to be chosen before Triton is loaded, and then serves the whole process.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from tenfold.so3.products import _trilinear, _trilinear_plain
from tenfold.so3.products import _trilinear_triton as kernels
from tenfold.so3.products import _trilinear_triton_text as text
from tenfold.so3.products._terms import Coupling, Terms, terms
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


@pytest.fixture(params=[True, False], ids=["written out", "tables"])
def written_out(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both kinds of kernels, however many terms there are."""
    monkeypatch.setattr(kernels, "_WRITTEN_OUT", 1 << 30 if request.param else 0)
    monkeypatch.setattr(kernels, "_SEGMENT", 7)
    kernels._tables.cache_clear()
    return request.param


def close(found: Tensor, expected: Tensor) -> None:
    """Where numbers have 16 bits, they are rounded once more."""
    assert found.shape == expected.shape
    limit = {torch.float64: 1e-13, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}[found.dtype]
    scale = float(expected.abs().max()) if expected.numel() else 1.0
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=limit * max(scale, 1e-30))


def every_kernel(
    coefficients: Terms, batch: int, channels: int, right_channels: int, rows: int, width: int, dtype: torch.dtype
) -> None:
    """All operators in all their variants, against the sums of torch in double precision."""
    lefts, rights, outs, number = coefficients.sizes
    key, plan = coefficients.key, plan_of(coefficients.key)
    left, left2 = drawn(batch, lefts, channels, dtype=dtype), drawn(batch, lefts, channels, seed=1, dtype=dtype)
    right, right2 = (drawn(batch, rights, right_channels, seed=seed, dtype=dtype) for seed in (2, 3))
    grad = drawn(batch, outs, channels, seed=4, dtype=dtype)
    weight = drawn(rows, number, width, seed=5, dtype=dtype)
    wide = {id(one): one.double() for one in (left, left2, right, right2, grad, weight)}

    def same(name: str, *given: Tensor | None, flags: tuple[bool, ...] = ()) -> None:
        found = getattr(kernels, name)(*given, key, *flags)
        exact = [None if one is None else wide[id(one)] for one in given]
        expected = getattr(_trilinear_plain, name)(*exact, plan, *flags)
        pairs = zip(found, expected, strict=True) if name == "gradients" else [(found, expected)]
        for one, other in pairs:
            assert one.dtype == dtype
            assert one.is_contiguous()
            close(one, other)

    for factor in (None, weight):
        same("forward", left, right, factor, None, None)
        same("forward", left, right, factor, left2, right2)
        same("gradients", left, right, factor, grad)
    for shared, narrow in itertools.product((False, True), repeat=2):
        same("weights", left, right, grad, None, None, flags=(shared, narrow))
        same("weights", left, right, grad, left2, right2, flags=(shared, narrow))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("separate", [False, True])
def test_they_are_the_sums_of_torch(written_out: bool, separate: bool, dtype: torch.dtype) -> None:
    every_kernel(paths(1, separate=separate), 5, 3, 3, 5, 3, dtype)


def test_more_paths_than_one_segment(written_out: bool) -> None:
    every_kernel(paths(2, separate=False), 2, 3, 1, 2, 3, torch.float64)


@pytest.mark.parametrize(
    ("batch", "channels", "right_channels", "rows", "width"),
    [
        (1, 1, 1, 1, 1),
        (3, 1, 1, 3, 1),
        (2, 64, 1, 1, 64),
        (3, 21, 21, 3, 1),
        (2, 150, 1, 2, 150),  # two tiles of channels, the second one not full
        (2, 129, 129, 1, 1),
        (131, 2, 2, 1, 2),  # three tiles of rows
    ],
)
def test_all_shapes(written_out: bool, batch: int, channels: int, right_channels: int, rows: int, width: int) -> None:
    every_kernel(paths(1, separate=False), batch, channels, right_channels, rows, width, torch.float64)


def test_sums_over_many_rows_are_cut_into_parts(written_out: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_PARTS", 2)
    coefficients = paths(1, separate=True)
    left, right, grad = (drawn(701, size, 1, seed=size) for size in (*coefficients.sizes[:2], coefficients.sizes[2]))
    for narrow in (False, True):
        found = kernels.weights(left, right, grad, None, None, coefficients.key, True, narrow)
        plan = plan_of(coefficients.key)
        close(found, _trilinear_plain.weights(left, right, grad, None, None, plan, True, narrow))


@pytest.mark.parametrize("separate", [False, True])
def test_components_that_are_read_again(separate: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_KEPT", 3)
    for made in (text.forward, text.gradients, text.weights):
        made.cache_clear()
    every_kernel(paths(2, separate=separate), 2, 2, 2, 2, 2, torch.float64)


@pytest.mark.parametrize(("batch", "channels"), [(0, 4), (3, 0), (0, 0)])
def test_nothing_gives_nothing(written_out: bool, batch: int, channels: int) -> None:
    every_kernel(paths(1, separate=True), batch, channels, 1, 1, 1, torch.float32)


def test_components_and_paths_of_which_nothing_comes_are_zero(written_out: bool) -> None:
    every_kernel(terms([], (4, 4, 3)), 2, 3, 1, 1, 3, torch.float64)
    every_kernel(terms([Coupling((1, 1, 1), 1.0, 1, 2, 2)], (5, 7, 6)), 2, 3, 1, 2, 1, torch.float64)


def test_steps_between_components_and_paths_that_share_them(written_out: bool) -> None:
    couplings = [Coupling((1, 2, 2), 0.7, 1, 0, 1, (2, 3, 4)), Coupling((1, 2, 1), -0.7, 1, 0, 1, (2, 3, 4))]
    every_kernel(terms(couplings, (6, 13, 18)), 3, 5, 5, 3, 5, torch.float64)


def test_memory_may_lie_otherwise(written_out: bool) -> None:
    coefficients = paths(1, separate=False)
    left, right = drawn(4, 3, 6).transpose(1, 2)[:, 1:5], drawn(1, 4, 3, seed=1).expand(4, 4, 3)
    found = kernels.forward(left, right, None, None, None, coefficients.key)
    close(found, _trilinear_plain.forward(left, right, None, None, None, plan_of(coefficients.key)))


def test_rows_and_channels_know_nothing_of_each_other(written_out: bool) -> None:
    coefficients = paths(1, separate=False)
    left, right, grad = (drawn(5, 4, 21, seed=seed) for seed in range(3))
    left[3, :, 17] = torch.nan
    to_left, to_right = kernels.gradients(left, right, None, grad, coefficients.key)
    assert not to_left.isnan().any()
    assert to_right.isnan().any(1).nonzero().tolist() == [[3, 17]]
    broken = kernels.forward(left, right, None, None, None, coefficients.key).isnan().any(1)
    assert broken.nonzero().tolist() == [[3, 17]]


def test_the_operators_take_them_with_all_derivatives(written_out: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "serves", lambda tensor: True)
    coefficients = paths(1, separate=False)
    leaves = [drawn(2, 4, 2), drawn(2, 4, 1, seed=1), drawn(1, coefficients.sizes[3], 2, seed=2)]
    for leaf in leaves:
        leaf.requires_grad_()

    def function(*tensors: Tensor) -> Tensor:
        return _trilinear.trilinear(*tensors, coefficients)

    assert torch.autograd.gradcheck(function, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)
