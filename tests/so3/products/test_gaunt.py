"""Functions on the sphere multiplied: on grids and by Fourier series, against integrals in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tenfold.errors import TenfoldError
from tenfold.so3 import Irreps, gaunt, random_rotations, relayout, rotate, spherical_harmonics, wigner_3j
from tenfold.so3.products import Product, Unsuited, _sphere_kernels, product_methods
from tenfold.so3.products._signal_product import SignalProduct
from tenfold.so3.products._sphere_grid import dense, faster, multiplied, on_sphere, separable
from tenfold.so3.products._sphere_kernels import multiply
from tenfold.so3.products._sphere_plans import plan
from tenfold.so3.products._sphere_tables import sizes
from tenfold.so3.products.gaunt_fourier import GauntFourier, Series, lengths
from tenfold.so3.products.gaunt_grid import GauntGrid
from tenfold.so3.products.gaunt_poisson import GauntPoisson
from tenfold.so3.products.poisson import Poisson

DEGREES = st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True).map(sorted)
MAKERS = [
    pytest.param(lambda *a, **k: GauntGrid(*a, method="dense", **k), id="dense"),
    pytest.param(lambda *a, **k: GauntGrid(*a, method="separable", **k), id="separable"),
    pytest.param(GauntFourier, id="fourier"),
    pytest.param(Poisson, id="bracket"),
]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def signal(degrees: list[int], channels: int, parity: int = 1) -> Irreps:
    return Irreps([(channels, (degree, parity * (-1) ** degree)) for degree in degrees])


def expected(product: SignalProduct, weight: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """The sum over paths, written out: layout ``mul_ir``, one batch axis."""
    signals = [product.left, product.right, product.out]
    sizes = [product.rank * len(one.degrees) * one.channels for one in signals]
    factors = [torch.ones(1, len(one.degrees), one.channels, dtype=left.dtype) for one in signals]
    if weight is not None:
        cut = weight.split(sizes)
        # Degree, rank and channel in memory.
        factors = [
            part.reshape(len(one.degrees), product.rank, one.channels).transpose(0, 1)
            for part, one in zip(cut, signals, strict=True)
        ]
    found = []
    lefts, rights = (
        [part.unflatten(-1, (one.channels, -1)) for part in x.split([b.dim for b in irreps], dim=-1)]
        for x, one, irreps in ((left, signals[0], product.irreps_in1), (right, signals[1], product.irreps_in2))
    )
    for k, degree in enumerate(signals[2].degrees):
        total = torch.zeros(len(left), signals[0].channels, 2 * degree + 1, dtype=left.dtype)
        for i, first in enumerate(signals[0].degrees):
            for j, second in enumerate(signals[1].degrees):
                couple = product.factor(first, second, degree) * wigner_3j(first, second, degree)
                both = rights[j].expand(-1, signals[0].channels, -1)
                path = torch.einsum("bci,bcj,ijk->bck", lefts[i], both, couple)
                for a, b, c in zip(*factors, strict=True):
                    total = total + (a[i] * b[j] * c[k])[:, None] * path
        found.append((total * product.scale[k]).flatten(-2))
    return torch.cat(found, dim=-1)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
@given(DEGREES, DEGREES, st.data())
@settings(max_examples=20, deadline=None)
def test_the_product_is_the_sum_over_paths(make, layout: str, first: list[int], second: list[int], data) -> None:
    most = first[-1] + second[-1]
    out = data.draw(st.lists(st.integers(0, most), min_size=1, max_size=3, unique=True).map(sorted))
    parities = data.draw(st.tuples(st.sampled_from([1, -1]), st.sampled_from([1, -1])))
    channels = data.draw(st.sampled_from([1, 2, 3]))
    right_channels = data.draw(st.sampled_from([1, channels]))
    rank = data.draw(st.sampled_from([0, 1, 2]))
    options = {"weights": "degree", "rank": rank} if rank else {}
    product = make(
        signal(first, channels, parities[0]),
        signal(second, right_channels, parities[1]),
        signal(out, channels, parities[0] * parities[1] * (-1 if make is Poisson else 1)),
        layout=layout,
        normalization=data.draw(st.sampled_from(["integral", "component"])),
        **options,
    )
    left, right = normal(4, product.irreps_in1.dim, seed=1), normal(4, product.irreps_in2.dim, seed=2)
    weight = product.random_weight(dtype=torch.float64) if rank else None
    given_left = relayout(left, product.irreps_in1, "mul_ir", layout)
    given_right = relayout(right, product.irreps_in2, "mul_ir", layout)
    found = relayout(product(given_left, given_right, weight), product.irreps_out, layout, "mul_ir")
    torch.testing.assert_close(found, expected(product, weight, left, right), rtol=0, atol=1e-11)


def test_coefficients_are_integrals_and_the_bracket_those_of_gradients() -> None:
    irreps = Irreps.harmonics(3)
    found = GauntGrid(irreps, irreps, irreps, normalization="integral").coefficients()
    for a, b, c in ((0, 0, 0), (1, 1, 2), (2, 3, 1), (3, 3, 2), (1, 1, 1), (3, 2, 2)):
        block = found[a * a : (a + 1) ** 2, b * b : (b + 1) ** 2, c * c : (c + 1) ** 2]
        torch.testing.assert_close(block, gaunt(a, b, c), rtol=0, atol=1e-13)


POISSON = {
    (1, 1, 1): 1.196827,
    (1, 2, 2): 2.676186,
    (2, 2, 1): 2.676186,
    (2, 2, 3): 5.352372,
    (2, 3, 4): 8.462844,
    (3, 3, 3): 9.673836,
    (1, 3, 3): 4.478116,
    (1, 1, 2): 0.0,
    (2, 2, 2): 0.0,
}


@pytest.mark.parametrize(("degrees", "factor"), POISSON.items())
def test_brackets_have_the_published_factors(degrees: tuple[int, int, int], factor: float) -> None:
    assert Poisson.factor(*degrees) == pytest.approx(factor, abs=1e-6)


def values(features: Tensor, degree: int, points: Tensor) -> Tensor:
    return features @ spherical_harmonics(range(degree + 1), points).T


def test_what_comes_out_is_the_function_that_was_multiplied() -> None:
    points = normal(50, 3, seed=3)
    left, right = normal(16, seed=1), normal(9, seed=2)
    product = GauntGrid("0e+1o+2e+3o", "0e+1o+2e", Irreps.harmonics(5), normalization="integral")
    expected = values(left, 3, points) * values(right, 2, points)
    torch.testing.assert_close(values(product(left, right), 5, points), expected, rtol=0, atol=1e-11)


def test_the_bracket_is_the_triple_product_of_position_and_gradients() -> None:
    points = torch.nn.functional.normalize(normal(50, 3, seed=3), dim=-1).requires_grad_()
    left, right = normal(16, seed=1), normal(9, seed=2)
    slopes = [torch.autograd.grad(values(f, n, points).sum(), points)[0] for f, n in ((left, 3), (right, 2))]
    expected = (points * torch.linalg.cross(*slopes)).sum(-1)
    product = Poisson("0e+1o+2e+3o", "0e+1o+2e", "0o+1e+2o+3e+4o", normalization="integral")
    torch.testing.assert_close(values(product(left, right), 4, points), expected, rtol=0, atol=1e-11)


def test_commutative_and_with_a_unit_and_associative_where_nothing_is_cut_off() -> None:
    one = GauntGrid("0e+1o+2e", "0e+1o+2e", Irreps.harmonics(4), normalization="integral")
    x, y, z = (normal(9, seed=seed) for seed in range(3))
    torch.testing.assert_close(one(x, y), one(y, x), rtol=0, atol=1e-13)
    constant = torch.zeros(9, dtype=torch.float64)
    constant[0] = math.sqrt(4 * math.pi)
    torch.testing.assert_close(one(x, constant)[:9], x, rtol=0, atol=1e-13)
    after = GauntGrid(Irreps.harmonics(4), "0e+1o+2e", Irreps.harmonics(6), normalization="integral")
    torch.testing.assert_close(after(one(x, y), z), after(one(y, z), x), rtol=0, atol=1e-12)


def test_a_product_of_values_does_not_see_antisymmetric_paths_and_a_bracket_no_others() -> None:
    vector = Irreps("1o")
    assert float(GauntGrid("0e+1o", "0e+1o", "0e+1o").coefficients()[1:, 1:, 1:].abs().max()) < 1e-13
    bracket = Poisson(vector, vector, "1e", normalization="component").coefficients()
    epsilon = math.sqrt(6) * wigner_3j(1, 1, 1)
    torch.testing.assert_close(bracket, epsilon / math.sqrt(2), rtol=0, atol=1e-13)


@pytest.mark.parametrize("degrees", [(3, 2, 5), (4, 4, 4), (0, 0, 0), (1, 0, 1), (0, 3, 3), (2, 3, 0), (7, 6, 9)])
@pytest.mark.parametrize("shape", [(7, 5), (3, 64), (2, 100), (1, 1), (70, 1)])
def test_all_ways_give_the_same(degrees: tuple[int, int, int], shape: tuple[int, int]) -> None:
    left, right = (normal(shape[0], (n + 1) ** 2, shape[1], seed=n) for n in degrees[:2])
    expected = dense(left, right, "multiply", degrees)
    every = [range(n + 1) for n in degrees]
    for found in (
        separable(left, right, degrees),
        on_sphere(left, right, "multiply", every, [1.0] * len(every[2])),
        Series(degrees, lengths(degrees))(left, right),
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def moved(seed: int, count: int, channels: int, role: int, degrees: list[list[int]], dtype: torch.dtype) -> Tensor:
    return normal(count, sum(2 * n + 1 for n in degrees[role]), channels, seed=seed, dtype=dtype)


@pytest.mark.parametrize("kind", ["multiply", "bracket", "cross"])
@given(DEGREES, DEGREES, DEGREES, st.integers(1, 70), st.integers(1, 5), st.booleans(), st.data())
@settings(max_examples=25, deadline=None)
def test_sums_of_products_in_one_pass_are_those_of_dense_matrices(
    kind: str, left: list[int], right: list[int], out: list[int], channels: int, count: int, single: bool, data
) -> None:
    """Any number of signals in any of the three roles, in any number of products, on any number of channels."""
    degrees, dtype = [left, right, out], torch.float32 if single else torch.float64
    roles = data.draw(st.lists(st.integers(0, 2), min_size=2, max_size=5))
    given_signals = [moved(n, count, channels, role, degrees, dtype) for n, role in enumerate(roles)]
    pairs = [(a, b) for a, x in enumerate(roles) for b, y in enumerate(roles) if y == (x + 1) % 3]
    if not pairs:
        return
    chosen_pairs = data.draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=4))
    wanted = sorted({(roles[a] + 2) % 3 for a, _ in chosen_pairs})
    terms = [n for a, b in chosen_pairs for n in (a, b, wanted.index((roles[a] + 2) % 3))]
    scale = data.draw(st.lists(st.floats(0.5, 2), min_size=len(out), max_size=len(out)))
    found, plain = (
        multiplied(given_signals, roles, terms, wanted, kind, *degrees, scale, method)
        for method in ("separable", "dense")
    )
    for one, other in zip(found, plain, strict=True):
        torch.testing.assert_close(
            one, other, rtol=0, atol=(1e-4 if single else 1e-11) * (1 + float(other.abs().max()))
        )


@pytest.mark.parametrize("kind", ["multiply", "bracket", "cross"])
def test_a_gradient_takes_each_signal_to_the_sphere_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    def counted(given_signals, roles, terms, wanted, plan):
        calls.append((len(given_signals), len(wanted)))
        return multiply(given_signals, roles, terms, wanted, plan)

    monkeypatch.setattr(_sphere_kernels, "multiply", counted)
    left, right = normal(3, 9, 2, seed=1).requires_grad_(), normal(3, 9, 2, seed=2).requires_grad_()
    out = on_sphere(left, right, kind, [range(3)] * 3, [1.0] * 3)
    grad = normal(3, 9, 2, seed=3).requires_grad_()
    firsts = torch.autograd.grad(out, (left, right), grad, create_graph=True)
    torch.autograd.grad(firsts, (left, right, grad), (normal(3, 9, 2, seed=4), normal(3, 9, 2, seed=5)))
    assert calls == [(2, 1), (3, 2), (5, 3)]


@pytest.mark.parametrize("channels", [64, 5])
def test_threads_share_the_channels(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sphere_kernels, "_WORTH_SHARING", 0)
    left, right = normal(11, 16, channels, seed=1), normal(11, 16, channels, seed=2)
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(on_sphere(left, right, "bracket", [range(4)] * 3, [1.0] * 4))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_the_plan_takes_no_more_operations_than_transforms_that_are_separable() -> None:
    """Multiplications for one channel, of three signals of all degrees up to L on the octant: O(L^3)."""
    counts = {}
    for n in (8, 16, 32):
        every = (tuple(range(n + 1)),) * 3
        counts[n] = plan("multiply", every, (1.0,) * (n + 1), 3 * n, _sphere_kernels.TILE, "float64").operations
    powers = [math.log2(counts[2 * n] / counts[n]) for n in (8, 16)]
    assert all(2.5 < power < 3.1 for power in powers), powers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("make", [*MAKERS[1:]])
def test_half_precision_is_rounded_at_the_end(make, dtype: torch.dtype) -> None:
    product = make("2x1o+2x2e", "2x1o+2x2e", "2x1e+2x2o+2x3e" if make is Poisson else "2x0e+2x1o+2x2e+2x3o")
    left, right = (
        normal(6, product.irreps_in1.dim, seed=1).to(dtype),
        normal(6, product.irreps_in2.dim, seed=2).to(dtype),
    )
    found = product(left, right)
    assert found.dtype == dtype
    expected = product(left.double(), right.double())
    torch.testing.assert_close(
        found.double(), expected, rtol=4 * torch.finfo(dtype).eps, atol=1e-2 * torch.finfo(dtype).eps
    )


@pytest.mark.parametrize("less", [(1, 0), (0, 1)])
def test_one_point_less_is_wrong(less: tuple[int, int]) -> None:
    degrees = (3, 2, 5)
    left, right = normal(10, 16, 3, seed=1), normal(10, 9, 3, seed=2)
    right_one = dense(left, right, "multiply", degrees)
    rings, steps = sizes(10)
    assert (dense(left, right, "multiply", degrees, (rings, steps)) - right_one).abs().max() == 0
    found = dense(left, right, "multiply", degrees, (rings - less[0], steps - less[1]))
    assert (found - right_one).abs().max() > 1e-2
    down, around = lengths(degrees)
    exact = Series(degrees, (down, around))(left, right)
    torch.testing.assert_close(exact, right_one, rtol=0, atol=1e-11)
    assert (Series(degrees, (down - less[0], around - less[1]))(left, right) - right_one).abs().max() > 1e-2


@pytest.mark.parametrize("method", ["gaunt_grid", "gaunt_fourier", "poisson", "gaunt_poisson"])
@pytest.mark.parametrize("parity", [1, -1])
def test_equivariance(method: str, parity: int) -> None:
    made = product_methods()[method]
    turns = -1 if method == "poisson" else 1
    out = signal([1, 2, 3], 2, parity * turns)
    if method == "gaunt_poisson":
        out = out + signal([1, 2], 2, -parity)
    product = made.make(signal([0, 1, 2], 2), signal([0, 1, 3], 2, parity), out, layout="ir_mul")
    turn = random_rotations(5, seed=4)
    turn = torch.cat([turn, -turn])
    left, right = normal(10, product.irreps_in1.dim, seed=1), normal(10, product.irreps_in2.dim, seed=2)
    weight = product.random_weight(10, dtype=torch.float64)
    found = product(
        rotate(left, product.irreps_in1, turn, "ir_mul"), rotate(right, product.irreps_in2, turn, "ir_mul"), weight
    )
    expected = rotate(product(left, right, weight), product.irreps_out, turn, "ir_mul")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    assert float(expected.abs().max()) > 0.1


def everything() -> list[Product]:
    irreps = signal([0, 1, 2], 2)
    return [
        GauntGrid(irreps, "1o", weights="degree", rank=2, method="dense"),
        GauntGrid("2x1o", "0e+2e", signal([1, 3], 2), layout="ir_mul", weights="degree", method="separable"),
        GauntGrid("1o", "1o+2e"),
        GauntFourier(irreps, "1o", weights="degree"),
        Poisson(irreps, "1o", weights="degree"),
        GauntPoisson("2x1o", "1o", "2x0e+2x1e", weights="degree", layout="ir_mul"),
    ]


@pytest.mark.parametrize("product", everything(), ids=str)
def test_derivatives(product: Product) -> None:
    given = [normal(2, product.irreps_in1.dim, seed=1), normal(2, product.irreps_in2.dim, seed=2)]
    if product.weight_numel:
        given.append(product.random_weight(dtype=torch.float64))
    given = [one.requires_grad_() for one in given]
    assert torch.autograd.gradcheck(product, given)
    assert torch.autograd.gradgradcheck(product, given, gen_non_contig_grad_outputs=True)


@pytest.mark.parametrize("product", everything(), ids=str)
def test_compilers_take_it_whole(product: Product) -> None:
    given = [normal(3, product.irreps_in1.dim, seed=1), normal(3, product.irreps_in2.dim, seed=2)]
    if product.weight_numel:
        given.append(product.random_weight(3, dtype=torch.float64))
    torch.compiler.reset()
    compiled = torch.compile(product, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*given), product(*given), rtol=0, atol=1e-13)

    class Layer(torch.nn.Module):
        def forward(self, *tensors: Tensor) -> Tensor:
            return product(*tensors)

    exported = torch.export.export(Layer(), tuple(given)).module()
    torch.testing.assert_close(exported(*given), product(*given), rtol=0, atol=1e-13)


@pytest.mark.parametrize("product", everything(), ids=str)
def test_single_precision_and_batches_without_rows(product: Product) -> None:
    given = [normal(20, product.irreps_in1.dim, seed=1), normal(20, product.irreps_in2.dim, seed=2)]
    if product.weight_numel:
        given.append(product.random_weight(20, dtype=torch.float64))
    expected = product(*given)
    found = product(*[one.float() for one in given])
    assert found.dtype == torch.float32
    assert float((found.double() - expected).abs().max()) < 1e-5 * float(expected.abs().max())
    empty = [one[:0].requires_grad_() for one in given]
    nothing = product(*empty)
    assert nothing.shape == (0, product.irreps_out.dim)
    assert all(
        grad.shape == one.shape for grad, one in zip(torch.autograd.grad(nothing.sum(), empty), empty, strict=True)
    )


def test_component_normalization_gives_variance_one() -> None:
    irreps = Irreps([(20, block.ir) for block in Irreps.harmonics(2)])
    out = Irreps([(20, block.ir) for block in Irreps.harmonics(3)])
    left, right = normal(2000, irreps.dim, seed=1), normal(2000, irreps.dim, seed=2)
    for product in (GauntGrid(irreps, irreps, out), Poisson(irreps, irreps, "20x1e+20x2o+20x3e")):
        for block in product(left, right).split([block.dim for block in product.irreps_out], dim=-1):
            assert 0.95 < float(block.square().mean()) < 1.05
    product = GauntPoisson(irreps, irreps, out + Irreps("20x1e"), weights="degree")
    found = product(left, right, product.random_weight(2000, dtype=torch.float64))
    assert 0.9 < float(found.square().mean()) < 1.1


def test_the_faster_way_is_found_once() -> None:
    faster.cache_clear()
    first = faster((1, 1, 1), torch.float64, torch.device("cpu"))
    assert first in ("dense", "separable")
    assert faster((1, 1, 1), torch.float64, torch.device("cpu")) == first
    assert faster.cache_info().misses == 1


@pytest.mark.parametrize(
    ("irreps", "says"),
    [
        (("2x0e+2x1o", "3x0e", None), "irreps_in2 have 3 channels for 2 of irreps_in1"),
        (("2x0e+2x1o+2x1e", "2x0e", None), "irreps_in1 '2x0e[+]2x1o[+]2x1e' are no function on the sphere"),
        (("2x0e+2x1o", "2x0e+2x1o", "2x1e"), "have not the parity of this product .*whose degree 1 is 1o"),
        (("2x0e+2x1o", "2x0e+2x1o", "2x3o"), "have degree 3, above 1 [+] 1"),
        (("2x0e+2x1o", "2x0e+2x1o", "4x0e"), "must have 2 channels"),
        (("2x1o+2x0e", "2x0e", None), "increasing order"),
        (("", "2x0e", None), "are no function"),
    ],
)
def test_irreps_that_do_not_fit_are_told(irreps: tuple, says: str) -> None:
    with pytest.raises(Unsuited, match=says):
        GauntGrid(*irreps)


def test_options_that_there_are_not_are_told() -> None:
    with pytest.raises(TenfoldError, match="method must be 'auto' or 'dense' or 'separable', not 'densse'"):
        GauntGrid("0e", "0e", method="densse")
    with pytest.raises(TenfoldError, match="rank 2 needs weights='degree'"):
        GauntGrid("0e", "0e", rank=2)
    with pytest.raises(TenfoldError, match="normalization must be"):
        GauntGrid("0e", "0e", normalization="norm")
    with pytest.raises(Unsuited, match="no path leads"):
        GauntPoisson("0e", "0e", "1e")
    with pytest.raises(Unsuited, match="must have each irrep once"):
        GauntPoisson("0e+0e", "0e", "0e")
