"""Features as matrices: operators on one irrep, and those of space itself."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from sympy.physics.wigner import wigner_6j
from torch import Tensor

from tenfold.errors import TenfoldError
from tenfold.so3 import Irreps, clebsch_gordan, random_rotations, rotate, wigner_3j
from tenfold.so3.products import Product, Unsuited, product_methods
from tenfold.so3.products._matrices import matrix_factor
from tenfold.so3.products.cartesian_matrix import CartesianAnticommutator, CartesianMatrix
from tenfold.so3.products.matrix import MatrixProduct


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("spin", [0, 1, 2, 3])
def test_factors_are_6j_symbols(spin: int) -> None:
    for a in range(2 * spin + 1):
        for b in range(2 * spin + 1):
            for c in range(abs(a - b), min(a + b, 2 * spin) + 1):
                expected = abs(float(wigner_6j(a, b, c, spin, spin, spin)))
                assert abs(matrix_factor(spin, False, a, b, c)) == pytest.approx(expected, rel=1e-12, abs=1e-14)
    assert matrix_factor(2, False, 1, 1, 1) == pytest.approx(-0.0745356, abs=1e-7)
    assert matrix_factor(2, False, 2, 2, 3) == pytest.approx(-0.1142857, abs=1e-7)


def test_coefficients_are_the_factors_times_3j() -> None:
    irreps = Irreps("0e+1e+2e+3e+4e")
    found = MatrixProduct(irreps, irreps, irreps, normalization="none").coefficients()
    for a in range(5):
        for b in range(5):
            for c in range(5):
                block = found[a * a : (a + 1) ** 2, b * b : (b + 1) ** 2, c * c : (c + 1) ** 2]
                expected = matrix_factor(2, False, a, b, c) * wigner_3j(a, b, c)
                torch.testing.assert_close(block, expected, rtol=0, atol=1e-11)


def test_products_of_matrices_are_associative() -> None:
    irreps = Irreps("3x0e+3x1e+3x2e+3x3e+3x4e")
    product = MatrixProduct(irreps, irreps, irreps, normalization="none", weights="degree")
    # The basis of degree l has norm one together: its matrices are orthonormal once 2 l + 1 is taken out.
    norms = torch.tensor([2.0 * degree + 1 for degree in range(5) for _ in range(3)], dtype=torch.float64)
    weight = torch.cat([torch.ones(30, dtype=torch.float64), norms])
    x, y, z = (normal(4, irreps.dim, seed=seed) for seed in range(3))
    one, other = product(product(x, y, weight), z, weight), product(x, product(y, z, weight), weight)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def matrices(features: Tensor, channels: int) -> Tensor:
    """Trace, antisymmetric and symmetric part, written out."""
    scalar, vector, tensor = (
        part.unflatten(-1, (channels, -1)) for part in features.split([channels, 3 * channels, 5 * channels], dim=-1)
    )
    found = scalar[..., None] * torch.eye(3, dtype=features.dtype) / math.sqrt(3)
    x, y, z = (vector / math.sqrt(2)).unbind(-1)
    zero = torch.zeros_like(x)
    found = found + torch.stack([zero, z, -y, -z, zero, x, y, -x, zero], dim=-1).unflatten(-1, (3, 3))
    return found + torch.einsum("...m,ijm->...ij", tensor, clebsch_gordan(1, 1, 2).to(features.dtype))


@pytest.mark.parametrize(
    ("make", "parity", "multiply"),
    [
        (CartesianMatrix, "e", lambda x, y: 2 * x @ y),
        (CartesianAnticommutator, "o", lambda x, y: x @ y + y @ x),
    ],
)
def test_matrices_of_space_are_multiplied_as_tensornet_does(make, parity: str, multiply) -> None:
    irreps = Irreps(f"4x0e+4x1{parity}+4x2e")
    product = make(irreps, irreps, irreps, normalization="integral")
    x, y = normal(6, irreps.dim, seed=1), normal(6, irreps.dim, seed=2)
    found = matrices(product(x, y), 4)
    torch.testing.assert_close(found, multiply(matrices(x, 4), matrices(y, 4)), rtol=0, atol=1e-12)


def test_the_anticommutator_follows_the_inversion_and_the_product_does_not() -> None:
    """Of a vector that changes sign the matrix is transposed."""
    irreps = Irreps("0e+1o+2e")
    x, y = normal(6, 9, seed=1), normal(6, 9, seed=2)
    inversion = -torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(matrices(rotate(x, irreps, inversion), 1), matrices(x, 1).mT, rtol=0, atol=1e-14)
    product = CartesianAnticommutator(irreps, irreps, irreps)
    turned = product(rotate(x, irreps, inversion), rotate(y, irreps, inversion))
    torch.testing.assert_close(turned, rotate(product(x, y), irreps, inversion), rtol=0, atol=1e-13)
    with pytest.raises(Unsuited, match="all of one parity"):
        CartesianMatrix(irreps, irreps, irreps)


def products() -> list[Product]:
    return [
        MatrixProduct("2x1o+2x2e", "1x1o+1x2e", "2x1e+2x0e", weights="degree"),
        MatrixProduct("2x0o+2x1o", "0e+2e", "2x0o+2x3o", spin=3, layout="ir_mul"),
        CartesianMatrix("2x0e+2x1e+2x2e", "2x1e+2x2e", "2x0e+2x1e+2x2e", weights="degree", layout="ir_mul"),
        CartesianAnticommutator("2x0e+2x1o+2x2e", "0e+1o", weights="degree"),
    ]


@pytest.mark.parametrize("product", products(), ids=str)
def test_equivariance(product: Product) -> None:
    turn = random_rotations(5, seed=4)
    turn = torch.cat([turn, -turn])
    left, right = normal(10, product.irreps_in1.dim, seed=1), normal(10, product.irreps_in2.dim, seed=2)
    weight = product.random_weight(10, dtype=torch.float64) if product.weight_numel else None
    turned = [
        rotate(x, irreps, turn, product.layout)
        for x, irreps in ((left, product.irreps_in1), (right, product.irreps_in2))
    ]
    expected = rotate(product(left, right, weight), product.irreps_out, turn, product.layout)
    torch.testing.assert_close(product(*turned, weight), expected, rtol=0, atol=1e-11)
    assert float(expected.abs().max()) > 0.1


@pytest.mark.parametrize("product", products(), ids=str)
def test_derivatives_and_compilers(product: Product) -> None:
    given = [normal(2, product.irreps_in1.dim, seed=1), normal(2, product.irreps_in2.dim, seed=2)]
    if product.weight_numel:
        given.append(product.random_weight(dtype=torch.float64))
    torch.compiler.reset()
    compiled = torch.compile(product, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*given), product(*given), rtol=0, atol=1e-13)

    class Layer(torch.nn.Module):
        def forward(self, *tensors: Tensor) -> Tensor:
            return product(*tensors)

    exported = torch.export.export(Layer(), tuple(given)).module()
    torch.testing.assert_close(exported(*given), product(*given), rtol=0, atol=1e-13)
    single = product(*[x.float() for x in given])
    torch.testing.assert_close(single.double(), product(*given), rtol=0, atol=2e-5)
    assert product(*[x[:0] for x in given[:2]], *given[2:]).shape == (0, product.irreps_out.dim)
    given = [x.requires_grad_() for x in given]
    assert torch.autograd.gradcheck(product, given)
    assert torch.autograd.gradgradcheck(product, given)


def test_component_normalization_gives_variance_one() -> None:
    irreps = Irreps("20x0e+20x1e+20x2e")
    x, y = normal(2000, irreps.dim, seed=1), normal(2000, irreps.dim, seed=2)
    for product in (MatrixProduct(irreps, irreps, irreps), CartesianMatrix(irreps, irreps, irreps)):
        for block in product(x, y).split([block.dim for block in irreps], dim=-1):
            assert 0.95 < float(block.square().mean()) < 1.05


def test_what_does_not_fit_is_told() -> None:
    assert product_methods()["matrix"].complete
    assert not product_methods()["cartesian_anticommutator"].complete
    with pytest.raises(Unsuited, match="spin 1 has no matrices of degree 3: take 2"):
        MatrixProduct("3o", "0e", "3o", spin=1)
    with pytest.raises(Unsuited, match="irreps_in1 have degree 3, and these matrices none above 2"):
        CartesianMatrix("3e", "0e", "3e")
    with pytest.raises(Unsuited, match="no path leads"):
        MatrixProduct("0e", "0e", "1e")
    with pytest.raises(TenfoldError, match="normalization must be 'none' or 'component'"):
        MatrixProduct("0e", "0e", "0e", normalization="integral")


def test_products_of_matrices_can_be_kept_in_a_file():
    product = MatrixProduct("2x0e+2x1o", "2x0e+2x1o", "2x0e+2x1o", weights="degree")
    features, weight = torch.randn(2, 3, 8), product.random_weight()
    read = pickle.loads(pickle.dumps(product))
    assert torch.equal(read(*features, weight), product(*features, weight))
