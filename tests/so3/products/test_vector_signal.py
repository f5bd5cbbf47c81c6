"""Cross products of vector fields on the sphere, alone and beside products of functions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from sympy.physics.wigner import wigner_9j
from torch import Tensor

from tenfold.so3 import Irreps, random_rotations, relayout, rotate, spherical_harmonics, wigner_3j
from tenfold.so3._wigner3j import complex_3j
from tenfold.so3.freedom import degrees_of_freedom, interactability
from tenfold.so3.products import Product, Unsuited, product_methods
from tenfold.so3.products.gaunt_grid import GauntGrid
from tenfold.so3.products.vector_signal import VectorCross, VectorSignal, cross_factor


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


TRIPLES = [
    ((1, 0), (1, 0), (1, 0)),
    ((1, 1), (1, 1), (1, 0)),
    ((1, 1), (1, 1), (1, 2)),
    ((2, 1), (2, 1), (1, 0)),
    ((2, 3), (3, 2), (2, 1)),
    ((3, 2), (4, 3), (4, 3)),
    ((2, 2), (1, 0), (2, 2)),
]


@pytest.mark.parametrize(("left", "right", "out"), TRIPLES)
def test_factors_are_9j_symbols(left: tuple[int, int], right: tuple[int, int], out: tuple[int, int]) -> None:
    (j1, l1), (j2, l2), (j3, l3) = left, right, out
    sizes = math.prod((2 * j + 1) * (2 * n + 1) for j, n in (left, right, out)) / (4 * math.pi)
    nine = abs(float(wigner_9j(l1, l2, l3, 1, 1, 1, j1, j2, j3)))
    expected = math.sqrt(6 * sizes) * nine * abs(complex_3j((l1, l2, l3), (0, 0, 0)))
    assert abs(cross_factor(left, right, out)) == pytest.approx(expected, rel=1e-12, abs=1e-14)


def test_every_odd_path_is_there_and_no_other() -> None:
    for a in range(7):
        for b in range(7):
            for c in range(abs(a - b), a + b + 1):
                factor = VectorCross.factor(a, b, c)
                assert factor > 0.5 if (a + b + c) % 2 else factor == 0


def test_coefficients_are_the_factors_times_3j() -> None:
    left, right = Irreps.harmonics(4), Irreps("0e+1o+2e+3o")
    out = Irreps([(1, (degree, -((-1) ** degree))) for degree in range(6)])
    found = VectorCross(left, right, out, normalization="integral").coefficients()
    for a in range(5):
        for b in range(4):
            for c in range(6):
                block = found[a * a : (a + 1) ** 2, b * b : (b + 1) ** 2, c * c : (c + 1) ** 2]
                expected = VectorCross.factor(a, b, c) * wigner_3j(a, b, c)
                torch.testing.assert_close(block, expected, rtol=0, atol=1e-11)


def field(features: Tensor, degree: int, points: Tensor) -> Tensor:
    """The gradients of solid harmonics, scaled to norm one on the sphere, added up."""
    found = []
    for j in range(1, degree + 1):
        x = points.clone().requires_grad_()
        solid = spherical_harmonics(j, x, normalize=False) @ features[j * j : (j + 1) ** 2]
        (gradient,) = torch.autograd.grad(solid.sum(), x)
        found.append(gradient / math.sqrt(j * (2 * j + 1)))
    return torch.stack(found).sum(0)


def test_what_comes_out_is_the_part_of_the_cross_product_in_such_fields() -> None:
    """Integrated over the sphere against each of them, on a grid of another kind."""
    left, right = normal(9, seed=1), normal(16, seed=2)
    steps = 40
    cosine, area = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(20))
    turn = 2 * math.pi * torch.arange(steps, dtype=torch.float64) / steps
    y, angle = (x.flatten() for x in torch.meshgrid(cosine, turn, indexing="ij"))
    sine = (1 - y * y).sqrt()
    points = torch.stack([sine * angle.sin(), y, sine * angle.cos()], dim=-1)
    weights = area.repeat_interleave(steps) * 2 * math.pi / steps
    crossed = torch.linalg.cross(field(left, 2, points), field(right, 3, points))
    product = VectorCross("0e+1o+2e", "0e+1o+2e+3o", "0o+1e+2o+3e", normalization="integral")
    found = product(left, right)
    for component in range(1, 16):
        one = torch.zeros(16, dtype=torch.float64)
        one[component] = 1
        integral = (weights[:, None] * field(one, 3, points) * crossed).sum()
        assert float(found[component]) == pytest.approx(float(integral), abs=1e-11)
    assert float(found[1:].abs().max()) > 0.1


IRREPS = ("2x1o+2x2e", "1x0o+1x1o", "2x1e+2x2o+2x0e")


def products() -> list[Product]:
    return [
        VectorSignal(*IRREPS, weights="degree"),
        VectorSignal("2x1o", "1o", "2x0e+2x1e", layout="ir_mul"),
        VectorSignal("1o+2e", "1o", "0e+1e+1o", weights="degree", rank=2),
        VectorCross("2x1o", "2x1o+2x2e", weights="degree", rank=2),
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


# Compilers take seconds for each.
@pytest.mark.parametrize(
    "product", [p if n == 2 else pytest.param(p, marks=pytest.mark.slow) for n, p in enumerate(products())], ids=str
)
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
    torch.testing.assert_close(single.double(), product(*given), rtol=0, atol=1e-5)
    assert product(*[x[:0] for x in given[:2]], *given[2:]).shape == (0, product.irreps_out.dim)
    given = [x.requires_grad_() for x in given]
    assert torch.autograd.gradcheck(product, given)
    assert torch.autograd.gradgradcheck(product, given)


def test_a_sum_is_its_parts() -> None:
    """Each part alone, of the features that it takes, with its weights."""
    left, right, out = Irreps("2x0e+2x1o"), Irreps("2x0e+2x1o"), Irreps("2x0e+2x1o+2x1e")
    product = VectorSignal(left, right, out, weights="degree", normalization="integral")
    even = GauntGrid(left, right, "2x0e+2x1o", weights="degree", normalization="integral")
    odd = VectorCross(left, right, "2x1e", weights="degree", normalization="integral")
    x, y, weight = normal(5, 8, seed=1), normal(5, 8, seed=2), product.random_weight(dtype=torch.float64)
    assert product.weight_numel == even.weight_numel + odd.weight_numel
    one, two = weight[: even.weight_numel], weight[even.weight_numel :]
    expected = torch.cat([even(x, y, one), odd(x, y, two)], dim=-1)
    torch.testing.assert_close(product(x, y, weight), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("rank", "reached"), [(1, 7), (2, 11)])
def test_two_products_with_weights_reach_every_odd_path_up_to_degree_three(rank: int, reached: int) -> None:
    irreps = Irreps.harmonics(3)
    product = VectorCross(irreps, irreps, "1e+2o+3e", weights="degree", rank=rank)
    assert len(interactability(product)) == 11
    assert degrees_of_freedom(product) == reached


def test_other_fields_add_no_odd_path_and_have_all_even_ones_but_that_of_scalars() -> None:
    shifts = list(itertools.product((-1, 0, 1), repeat=3))
    for a, b in itertools.product(range(4), repeat=2):
        for c in range(abs(a - b), a + b + 1):
            factors = [cross_factor((a, a + i), (b, b + j), (c, c + k)) for i, j, k in shifts]
            assert any(abs(factor) > 1e-12 for factor in factors) == ((a, b, c) != (0, 0, 0))


def test_layouts_agree() -> None:
    one, other = (VectorSignal(*IRREPS, layout=layout, weights="degree") for layout in ("mul_ir", "ir_mul"))
    x, y, weight = (
        normal(5, one.irreps_in1.dim),
        normal(5, one.irreps_in2.dim, seed=1),
        one.random_weight(dtype=torch.float64),
    )
    found = other(
        relayout(x, one.irreps_in1, "mul_ir", "ir_mul"), relayout(y, one.irreps_in2, "mul_ir", "ir_mul"), weight
    )
    back = relayout(found, one.irreps_out, "ir_mul", "mul_ir")
    torch.testing.assert_close(back, one(x, y, weight), rtol=0, atol=1e-12)


def test_what_it_is_registered_as_and_what_it_refuses() -> None:
    method = product_methods()["vector_signal"]
    assert method.complete
    with pytest.raises(Unsuited, match="no path leads from '1x0e' x '1x1o' to 1x2e"):
        method.make(Irreps("0e"), Irreps("1o"), Irreps("1o+2e"), layout="mul_ir")
    with pytest.raises(Unsuited, match="must have each irrep once"):
        method.make(Irreps("2x0e+3x1o"), Irreps("1o"), Irreps("1o"), layout="mul_ir")
