"""What holds for each product: what it takes, what it refuses and in which words, and how it is differentiated."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from tenfold.errors import DataError, TenfoldError
from tenfold.so3 import (
    ClebschGordan,
    ClebschGordanConvolution,
    GauntConvolution,
    GridPower,
    SO2Convolution,
    SO2MixingConvolution,
    SymmetricContraction,
    random_rotations,
    rotate,
    spherical_harmonics,
    split,
    tensor_product,
    wigner_d,
)
from tenfold.so3.products import product_methods

NATURAL, AXIAL = "2x0e+2x1o+2x2e", "2x0e+2x1e+2x2e"
# Irreps that a method takes, where it does not take those of harmonics.
OWN = {"cartesian_matrix": (AXIAL, AXIAL), "matrix": (AXIAL, AXIAL), "poisson": (NATURAL, "2x1e+2x2o")}

MADE: dict[str, Callable[[], Any]] = {
    **{name: lambda name=name: product(name) for name in product_methods()},  # type: ignore[misc]
    "every path": lambda: ClebschGordan.full(NATURAL, "0e+1o"),
    "fully connected": lambda: ClebschGordan.fully_connected(NATURAL, "0e+1o", NATURAL),
    "convolution": lambda: ClebschGordanConvolution(NATURAL, 2, "0e+1o+1e+2e"),
    "gaunt convolution": lambda: GauntConvolution(NATURAL, 2, NATURAL),
    "so2 convolution": lambda: SO2Convolution(NATURAL, NATURAL),
    "so2 convolution, few orders": lambda: SO2Convolution(NATURAL, NATURAL, m_max=1),
    "so2 mixing convolution": lambda: SO2MixingConvolution(NATURAL, NATURAL),
    "contraction": lambda: SymmetricContraction(NATURAL, NATURAL, 2),
    "dense contraction": lambda: SymmetricContraction(NATURAL, NATURAL, 2, backend="dense"),
    "grid power": lambda: GridPower(NATURAL, NATURAL, 2),
    "weighted grid power": lambda: GridPower(NATURAL, NATURAL, 2, rank=2),
}
CONVOLUTIONS = [name for name in MADE if "convolution" in name]


def product(name: str) -> Any:
    given, out = OWN.get(name, (NATURAL, NATURAL))
    return tensor_product(given, given, out, method=name)


def drawn(one: Any, rows: int = 3, seed: int = 0) -> tuple[Tensor, ...]:
    """What it takes: two features, or a feature and vectors, or a feature; and weights that rows share."""
    sizes = [getattr(one, name).dim for name in ("irreps_in1", "irreps_in2", "irreps_in") if hasattr(one, name)]
    if hasattr(one, "degree"):
        sizes.append(3)
    generator = torch.Generator().manual_seed(seed)
    shapes = [(rows, size) for size in sizes] + ([(one.weight_numel,)] if one.weight_numel else [])
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


@pytest.mark.parametrize("name", MADE)
def test_what_is_no_tensor_is_refused_by_name(name: str) -> None:
    one = MADE[name]()
    given = drawn(one)
    for number in range(len(given)):
        for wrong in (given[number].tolist(), given[number].numpy()):
            with pytest.raises(DataError, match=r"^\w+ must be a torch.Tensor, not of type (list|ndarray): ") as caught:
                one(*given[:number], wrong, *given[number + 1 :])
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        (torch.int64, "must be floating, not torch.int64"),
        (torch.bool, "must be floating, not torch.bool"),
        (torch.complex128, "must be floating, not torch.complex128"),
        (torch.float8_e4m3fn, "must be of 16 bits or more"),
    ],
)
def test_numbers_that_are_not_real_are_refused(name: str, dtype: torch.dtype, words: str) -> None:
    one = MADE[name]()
    with pytest.raises(DataError, match=words):
        one(*(tensor.to(dtype) for tensor in drawn(one)))


@pytest.mark.parametrize("name", [name for name in MADE if name != "gaunt_fourier"])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float16, 0.01), (torch.bfloat16, 0.08), (torch.float32, 1e-5)])
def test_narrow_numbers(name: str, dtype: torch.dtype, tol: float) -> None:
    one = MADE[name]()
    given = tuple(tensor.to(dtype).requires_grad_() for tensor in drawn(one))
    # The same numbers: what differs is how they are multiplied.
    wide = tuple(tensor.detach().double().requires_grad_() for tensor in given)
    found, expected = one(*given), one(*wide)
    assert found.dtype == dtype
    assert (found.double() - expected).abs().max() <= tol * expected.abs().max()
    slopes = torch.autograd.grad(found.double().sum(), given)
    for slope, right in zip(slopes, torch.autograd.grad(expected.sum(), wide), strict=True):
        assert (slope.double() - right).abs().max() <= tol * right.abs().max()


@pytest.mark.parametrize("name", MADE)
def test_on_a_device_without_numbers(name: str) -> None:
    one = MADE[name]()
    given = drawn(one)
    found = one(*(tensor.to("meta") for tensor in given))
    assert found.device.type == "meta"
    assert found.shape == one(*given).shape
    if len(given) > 1:
        with pytest.raises(DataError, match=r"is on meta and .* on cpu: move one"):
            one(given[0].to("meta"), *given[1:])


@pytest.mark.parametrize("name", MADE)
def test_under_autocast_the_widest_dtype_is_taken(name: str) -> None:
    one = MADE[name]()
    given = tuple(tensor.float() for tensor in drawn(one))
    expected = one(*given)
    with torch.autocast("cpu", torch.bfloat16):
        found = one(given[0].bfloat16(), *given[1:])
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.1 * float(expected.abs().max()))
    if len(given) > 1:
        with pytest.raises(DataError, match="convert one of them"):
            one(given[0].bfloat16(), *given[1:])


@pytest.mark.parametrize("name", MADE)
def test_forward_mode(name: str) -> None:
    """Tangents of what operators return are not lost, whichever argument has one."""
    one = MADE[name]()
    given, along = drawn(one), drawn(one, seed=1)
    for number in range(len(given)):
        changes = [0.0 * change for change in along]
        changes[number] = along[number]
        _, slope = torch.func.jvp(one, given, tuple(changes))
        with forward_ad.dual_level():
            duals = list(given)
            duals[number] = forward_ad.make_dual(given[number], along[number])
            other = forward_ad.unpack_dual(one(*duals)).tangent
        step = 1e-6
        ahead, behind = (
            one(*(tensor + sign * step * change for tensor, change in zip(given, changes, strict=True)))
            for sign in (1, -1)
        )
        expected = (ahead - behind) / (2 * step)
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(slope, expected, rtol=0, atol=1e-7 * float(1 + expected.abs().max()))
        torch.testing.assert_close(other, slope, rtol=0, atol=1e-12 * float(1 + expected.abs().max()))


@pytest.mark.parametrize("name", MADE)
def test_derivatives_of_functions(name: str) -> None:
    one = MADE[name]()
    given = drawn(one, 2)

    def energy(*tensors: Tensor) -> Tensor:
        return one(*tensors).square().sum()

    found = torch.func.grad(energy, argnums=tuple(range(len(given))))(*given)
    leaves = tuple(tensor.clone().requires_grad_() for tensor in given)
    expected = torch.autograd.grad(energy(*leaves), leaves, create_graph=True)
    for slope, right in zip(found, expected, strict=True):
        torch.testing.assert_close(slope, right, rtol=0, atol=1e-11 * float(1 + right.detach().abs().max()))
    # Forward over backward: what the matrix of second derivatives makes of a direction.
    along = drawn(one, 2, seed=1)
    _, bent = torch.func.jvp(torch.func.grad(energy), given, along)
    total = torch.stack([(slope * way).sum() for slope, way in zip(expected, along, strict=True)]).sum()
    (right,) = torch.autograd.grad(total, leaves[0])
    torch.testing.assert_close(bent, right, rtol=0, atol=1e-10 * float(1 + right.detach().abs().max()))


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("vector", [(0.0, 1.0, 0.0), (0.0, -2.0, 0.0), (0.0, 0.0, 0.0), (1e-9, -1.0, 0.0)])
def test_derivatives_of_functions_at_the_poles_and_at_length_zero(name: str, vector: tuple[float, ...]) -> None:
    one = MADE[name]()
    features, vectors, weight = drawn(one, 2)
    vectors = torch.stack([torch.tensor(vector, dtype=torch.float64), vectors[1]])

    def energy(given: Tensor) -> Tensor:
        return one(features, given, weight).square().sum()

    leaf = vectors.clone().requires_grad_()
    (expected,) = torch.autograd.grad(energy(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(energy)(vectors), expected, rtol=1e-8, atol=1e-9)
    _, slope = torch.func.jvp(energy, (vectors,), (torch.ones_like(vectors),))
    torch.testing.assert_close(slope, expected.sum(), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in MADE if name not in CONVOLUTIONS])
def test_batches_of_functions(name: str) -> None:
    one = MADE[name]()
    given = drawn(one)
    expected = one(*given)
    dims = tuple(0 if tensor.ndim == 2 else None for tensor in given)
    torch.testing.assert_close(torch.vmap(one, in_dims=dims)(*given), expected, rtol=0, atol=1e-12)
    slopes = torch.vmap(torch.func.grad(lambda *row: one(*row).square().sum()), in_dims=dims)(*given)
    leaf = given[0].clone().requires_grad_()
    (right,) = torch.autograd.grad(one(leaf, *given[1:]).square().sum(), leaf)
    torch.testing.assert_close(slopes, right, rtol=0, atol=1e-11 * float(1 + right.detach().abs().max()))


@pytest.mark.parametrize("name", MADE)
def test_a_copy_is_the_same_product(name: str) -> None:
    one = MADE[name]()
    given = drawn(one)
    expected = one(*given)
    for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert repr(other) == repr(one)
        assert torch.equal(other(*given), expected)


@pytest.mark.parametrize("name", MADE)
def test_a_row_that_is_no_number_stays_alone(name: str) -> None:
    one = MADE[name]()
    given = drawn(one)
    expected = one(*given)
    for value in (float("nan"), float("inf")):
        broken = given[0].clone()
        broken[1] = value
        found = one(broken, *given[1:])
        assert not found[1].isfinite().all()
        torch.testing.assert_close(found[[0, 2]], expected[[0, 2]], rtol=0, atol=1e-13 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: spherical_harmonics(1, np.zeros(3)), "vectors"),
        (lambda: wigner_d(1, np.eye(3)), "matrices"),
        (lambda: rotate([0.0], "0e", random_rotations(1)), "features"),
        (lambda: rotate(torch.zeros(1), "0e", np.eye(3)), "matrices"),
        (lambda: split([0.0], "0e"), "features"),
    ],
)
def test_functions_refuse_in_the_same_words(call: Callable[[], Any], name: str) -> None:
    with pytest.raises(TenfoldError, match=rf"^{name} must be a torch.Tensor, not of type (list|ndarray): "):
        call()


@pytest.mark.parametrize("name", MADE)
def test_exported_for_any_number_of_rows(name: str) -> None:
    one = MADE[name]()

    class Layer(torch.nn.Module):
        def forward(self, *given: Tensor) -> Tensor:
            return one(*given)

    given, more = drawn(one, 5), drawn(one, 9)
    rows = torch.export.Dim("rows")
    shapes = (tuple({0: rows} if tensor.ndim == 2 else None for tensor in given),)
    exported = torch.export.export(Layer(), given, dynamic_shapes=shapes).module()
    torch.testing.assert_close(exported(*more), one(*more), rtol=0, atol=1e-12)
