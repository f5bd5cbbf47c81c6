"""Products of functions on the sphere with weights: in one kernel, against factors multiplied by torch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tenfold.so3.irreps import Irreps
from tenfold.so3.products import _sphere_kernels
from tenfold.so3.products._signal_product import SignalProduct
from tenfold.so3.products._sphere_weighted import _derivatives, on_sphere_weighted
from tenfold.so3.products.gaunt_grid import GauntGrid
from tenfold.so3.products.gaunt_poisson import GauntPoisson
from tenfold.so3.products.poisson import Poisson
from tenfold.so3.products.vector_signal import VectorSignal

DEGREES = st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True).map(sorted)
KINDS = ["multiply", "bracket", "cross"]


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def arguments(
    degrees: list[list[int]], batch: int, channels: int, shared: list[bool], dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """Left, right, what comes out, and the factors of each."""
    signals = [normal(batch, sum(2 * n + 1 for n in some), channels, seed=k) for k, some in enumerate(degrees)]
    factors = [
        normal(1 if one else batch, len(some), channels, seed=3 + k)
        for k, (some, one) in enumerate(zip(degrees, shared, strict=True))
    ]
    return [one.to(dtype) for one in (*signals, *factors)]


@pytest.mark.parametrize("kind", KINDS)
@given(
    DEGREES,
    DEGREES,
    DEGREES,
    st.integers(1, 70),
    st.integers(1, 5),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=5, max_size=5).filter(any),
    st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_one_pass_gives_what_factors_give_that_torch_multiplies_by(
    kind: str,
    left: list[int],
    right: list[int],
    out: list[int],
    channels: int,
    batch: int,
    shared: list[bool],
    wanted: list[bool],
    single: bool,
) -> None:
    degrees, dtype = [left, right, out], torch.float32 if single else torch.float64
    one, two, three, *factors = arguments(degrees, batch, channels, shared, dtype)
    scale = [0.5 + n for n in range(len(out))]
    found, plain = (
        [
            on_sphere_weighted((one, two), factors, kind, degrees, scale, method),
            *_derivatives(one, two, three, *factors, wanted, kind, *degrees, scale, method),
        ]
        for method in ("separable", "dense")
    )
    assert len(found) == 1 + sum(wanted)
    for ours, theirs in zip(found, plain, strict=True):
        atol = (1e-4 if single else 1e-11) * (1 + float(theirs.abs().max()))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


@pytest.mark.parametrize("channels", [32, 33])
def test_many_items_in_many_blocks(channels: int) -> None:
    """Blocks of channels that end with an item, and blocks that reach over several."""
    degrees = [[0, 1, 2], [1, 2], [0, 1, 3]]
    one, two, three, *factors = arguments(degrees, 40, channels, [True, False, True])
    found, plain = (
        _derivatives(one, two, three, *factors, [True] * 5, "multiply", *degrees, [1.0] * 3, method)
        for method in ("separable", "dense")
    )
    torch.testing.assert_close(found, plain, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [[True, True, True], [False, True, False]])
def test_derivatives_of_every_order(kind: str, shared: list[bool]) -> None:
    degrees = [[0, 1], [1, 2], [1, 2]]
    given_tensors = [one.requires_grad_() for one in arguments(degrees, 2, 2, shared)]

    def product(one: Tensor, two: Tensor, *factors: Tensor) -> Tensor:
        return on_sphere_weighted((one, two), factors, kind, degrees, [1.0, 2.0])

    def derivatives(*tensors: Tensor) -> list[Tensor]:
        return _derivatives(*tensors, [True] * 5, kind, *degrees, [1.0, 2.0], "auto")

    first = [one for place, one in enumerate(given_tensors) if place != 2]
    assert torch.autograd.gradcheck(product, first)
    assert torch.autograd.gradgradcheck(product, first, gen_non_contig_grad_outputs=True)
    assert torch.autograd.gradgradcheck(lambda *tensors: tuple(derivatives(*tensors)), given_tensors)


@pytest.mark.parametrize("needed", [[True, False, False], [False, False, True], [False, True, True]])
def test_second_derivatives_by_some_of_the_arguments(needed: list[bool]) -> None:
    product = GauntGrid("2x0e+2x1o", "2x1o+2x2e", "2x1o+2x3o", weights="degree", layout="ir_mul")
    tensors = [
        normal(3, product.irreps_in1.dim, seed=1),
        normal(3, product.irreps_in2.dim, seed=2),
        normal(product.weight_numel, seed=3),
    ]
    tensors = [one.requires_grad_(flag) for one, flag in zip(tensors, needed, strict=True)]
    assert torch.autograd.gradgradcheck(product, tensors)


def products() -> list[SignalProduct | GauntPoisson | VectorSignal]:
    irreps = Irreps("3x0e+3x1o+3x2e")
    return [
        GauntGrid(irreps, "1o+2e", "3x1o+3x3o", weights="degree", layout="ir_mul"),
        GauntGrid(irreps, irreps, "3x1o+3x2e", weights="degree", rank=2, layout="ir_mul"),
        Poisson(irreps, irreps, "3x1e+3x2o", weights="degree"),
        GauntPoisson(irreps, irreps, irreps + Irreps("3x1e"), weights="degree"),
        VectorSignal(irreps, irreps, irreps + Irreps("3x1e"), weights="degree"),
    ]


@pytest.mark.parametrize("each", [True, False])
@pytest.mark.parametrize("product", products(), ids=str)
def test_torch_func_finds_the_same_derivatives(product, each: bool) -> None:
    """It follows operations of torch, and `backward` the kernels."""
    left, right = normal(4, product.irreps_in1.dim, seed=1), normal(4, product.irreps_in2.dim, seed=2)
    weight = product.random_weight(*([4] if each else []), dtype=torch.float64)
    cotangent = normal(4, product.irreps_out.dim, seed=3)
    tensors = [one.requires_grad_() for one in (left, right, weight)]
    out = product(*tensors)
    found = torch.autograd.grad(out, tensors, cotangent)
    plain, back = torch.func.vjp(product, *[one.detach() for one in tensors])
    torch.testing.assert_close(out, plain, rtol=0, atol=1e-11)
    torch.testing.assert_close(found, back(cotangent), rtol=0, atol=1e-11)


@pytest.mark.parametrize("shared", [True, False])
def test_mapped_over_what_they_are_given(shared: bool) -> None:
    product = GauntGrid("2x0e+2x1o", "2x1o+2x2e", "2x1o+2x3o", weights="degree", layout="ir_mul")
    left = normal(5, 3, product.irreps_in1.dim, seed=1)
    right = normal(3, product.irreps_in2.dim, seed=2)
    weight = normal(5, product.weight_numel, seed=3) if shared else normal(5, 3, product.weight_numel, seed=3)
    found = torch.vmap(product, in_dims=(0, None, 0))(left, right, weight)
    for n in range(5):
        torch.testing.assert_close(found[n], product(left[n], right, weight[n]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("mapped", [(0, 1, None, None, 0, 2), (None, None, 0, None, None, None), (None, 0, 0, 1, 1, 0)])
@pytest.mark.parametrize("shared", [[True] * 3, [False, True, False]])
def test_derivatives_mapped_over_what_they_are_given(mapped: tuple[int | None, ...], shared: list[bool]) -> None:
    degrees = [[0, 1], [1, 2], [1, 2]]
    options = ([True] * 5, "multiply", *degrees, [1.0, 2.0], "auto")
    several = [arguments(degrees, 3, 2, shared), [2 * one + 1 for one in arguments(degrees, 3, 2, shared)]]
    each = [
        first if at is None else torch.stack([first, more], at)
        for at, first, more in zip(mapped, *several, strict=True)
    ]
    found = torch.vmap(lambda *tensors: _derivatives(*tensors, *options), in_dims=mapped)(*each)
    for n in range(2):
        own = [one if at is None else one.select(at, n) for at, one in zip(mapped, each, strict=True)]
        torch.testing.assert_close([one[n] for one in found], _derivatives(*own, *options), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shared", [True, False])
def test_operators_say_what_shapes_they_make(shared: bool) -> None:
    degrees = [[0, 1], [1, 2], [1, 2]]
    one, two, three, *factors = [x.requires_grad_() for x in arguments(degrees, 2, 3, [shared] * 3)]
    options = ("bracket", *degrees, [1.0, 2.0], "auto")
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.tenfold.so3_on_sphere_weighted, (one, two, *factors, *options), test_utils=tests)
    wanted = [True, False, True, False, True]
    back = torch.ops.tenfold.so3_on_sphere_weighted_back
    torch.library.opcheck(back, (one, two, three, *factors, wanted, *options), test_utils=tests)


@pytest.mark.parametrize("channels", [64, 5])
def test_threads_share_the_channels(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sphere_kernels, "_WORTH_SHARING", 0)
    degrees = [[0, 1, 2]] * 3
    tensors = arguments(degrees, 11, channels, [True, False, True])
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(_derivatives(*tensors, [True] * 5, "cross", *degrees, [1.0] * 3, "auto"))
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        for one, other in zip(found[0][:2], others[:2], strict=True):
            assert torch.equal(one, other)
        torch.testing.assert_close(found[0][2:], others[2:], rtol=1e-13, atol=1e-13)


def test_weights_are_multiplied_by_in_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, list[bool], list[int]]] = []
    kernel = _sphere_kernels.multiply_weighted

    def counted(signals, roles, terms, wanted, plan, weighted):
        calls.append((len(signals), list(weighted.outs), list(weighted.against)))
        return kernel(signals, roles, terms, wanted, plan, weighted)

    monkeypatch.setattr(_sphere_kernels, "multiply_weighted", counted)
    product = GauntGrid("2x0e+2x1o", "2x1o", "2x1o", weights="degree", layout="ir_mul")
    tensors = [normal(3, 8, seed=1), normal(3, 6, seed=2), normal(product.weight_numel, seed=3)]
    left, right, weight = (one.requires_grad_() for one in tensors)
    out = product(left, right, weight).sum()
    torch.autograd.grad(out, (left, weight), retain_graph=True)
    torch.autograd.grad(out, right)
    assert calls[0] == (2, [True], [-1])
    assert len(calls) == 3
    assert calls[1][0] == calls[2][0] == 3
