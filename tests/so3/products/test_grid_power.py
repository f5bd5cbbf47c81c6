"""Powers of functions on the sphere: against chains of Gaunt integrals, and against symmetric contractions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tenfold.errors import DataError, TenfoldError
from tenfold.so3 import Irreps, gaunt, random_rotations, relayout, rotate, spherical_harmonics
from tenfold.so3.products import Unsuited
from tenfold.so3.products._sphere_tables import grid, sizes
from tenfold.so3.products.grid_power import _CACHED, GridPower, _made_harmonics
from tenfold.so3.products.symmetric_contraction import SymmetricContraction

SEED = st.integers(0, 2**20)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def signal(channels: int, degrees: Any, parity: int = 1) -> Irreps:
    return Irreps([(channels, (degree, parity * (-1) ** degree)) for degree in degrees])


def table(first: list[int], second: list[int], out: list[int]) -> Tensor:
    """The Gaunt integrals of all components of some degrees."""
    return torch.cat([torch.cat([torch.cat([gaunt(a, b, c) for c in out], 2) for b in second], 1) for a in first])


def chained(factors: list[Tensor], degrees: list[int], outs: list[int]) -> Tensor:
    """Products of ``[node, component]``, one factor after the other, no degree left out on the way."""
    found, before = factors[0], degrees
    for copy, factor in enumerate(factors[1:], start=2):
        after = outs if copy == len(factors) else list(range(max(before) + max(degrees) + 1))
        found = torch.einsum("na,nb,abc->nc", found, factor, table(before, degrees, after))
        before = after
    return found


@pytest.mark.parametrize("correlation", [2, 3, 4])
@pytest.mark.parametrize(("degrees", "outs"), [([0, 1, 2], [0, 1, 2]), ([1, 3], [0, 2, 3]), ([0], [0]), ([2], [1, 4])])
def test_powers_are_chains_of_gaunt_integrals(correlation: int, degrees: list[int], outs: list[int]) -> None:
    power = GridPower(signal(1, degrees), signal(1, outs), correlation, normalization="integral")
    features = normal(5, power.irreps_in.dim)
    wanted = chained([features] * correlation, degrees, outs)
    assert (power(features) - wanted).abs().max() <= 1e-11 * (1 + wanted.abs().max())


def test_one_copy_is_the_feature_itself() -> None:
    power = GridPower(signal(2, [0, 1, 2]), signal(2, [1, 2, 3]), 1)
    features = normal(4, power.irreps_in.dim)
    found = power(features)
    torch.testing.assert_close(found[:, :16], features[:, 2:])
    assert found[:, 16:].abs().max() < 1e-13


@pytest.mark.parametrize("rank", [1, 3])
def test_weights_of_a_rank_are_sums_of_weighted_chains(rank: int) -> None:
    degrees, outs, copies, channels = [0, 1, 2], [0, 1, 3], 3, 2
    irreps = signal(channels, degrees), signal(channels, outs)
    power = GridPower(*irreps, copies, rank=rank, layout="ir_mul", normalization="integral")
    assert power.weight_numel == rank * (copies * 3 + 3) * channels
    features, weight = normal(4, power.irreps_in.dim), normal(power.weight_numel, seed=1)
    rows = weight.reshape(rank, copies * 3 + 3, channels)
    wanted = torch.zeros(4, 11, channels, dtype=torch.float64)
    sizes, out_sizes = torch.tensor([1, 3, 5]), torch.tensor([1, 3, 7])
    for row in rows:
        for channel in range(channels):
            x = features.reshape(4, 9, channels)[..., channel]
            factors = [x * row[3 * n : 3 * n + 3, channel].repeat_interleave(sizes) for n in range(copies)]
            after = row[3 * copies :, channel].repeat_interleave(out_sizes)
            wanted[..., channel] += after * chained(factors, degrees, outs)
    found = power(features, weight) * math.sqrt(rank)
    assert (found - wanted.flatten(1)).abs().max() <= 1e-11 * wanted.abs().max()


def test_it_is_the_product_of_functions() -> None:
    power = GridPower(signal(1, [0, 1, 2]), signal(1, range(7)), 3, normalization="integral")
    features, directions = normal(3, 9), normal(8, 3, seed=1)
    values = features @ spherical_harmonics([0, 1, 2], directions).T
    torch.testing.assert_close(power(features) @ spherical_harmonics(range(7), directions).T, values**3)


@pytest.mark.parametrize("total", [5, 7, 8])
def test_a_coarser_grid_would_not_do(total: int) -> None:
    errors = []
    for fineness in (total, total - 1):
        sides = grid(*sizes(fineness))
        weights = torch.from_numpy(sides.area).repeat_interleave(len(sides.turn))
        # Harmonics of two degrees are orthogonal; their products are polynomials of degree ``total``.
        low, high = (_made_harmonics((degree,), fineness) for degree in (2, total - 2))
        errors.append(float((low.T @ (weights[:, None] * high)).abs().max()))
    assert errors[0] < 1e-13
    assert errors[1] > 1e-2


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([1, -1]), st.integers(1, 3), st.integers(0, 2), st.booleans(), SEED)
def test_it_turns_with_the_feature(parity: int, correlation: int, rank: int, improper: bool, seed: int) -> None:
    irreps = signal(2, [0, 1, 2], parity), signal(2, [0, 1, 2], parity**correlation)
    power = GridPower(*irreps, correlation, rank=rank)
    features = normal(4, power.irreps_in.dim, seed=seed)
    arguments = (normal(power.weight_numel, seed=seed + 1),) if rank else ()
    turn = random_rotations(1, seed=seed)[0] * (-1 if improper else 1)
    found = power(rotate(features, irreps[0], turn), *arguments)
    wanted = rotate(power(features, *arguments), irreps[1], turn)
    assert (found - wanted).abs().max() <= 1e-10 * (1 + wanted.abs().max())


@pytest.mark.parametrize("correlation", [2, 3])
def test_powers_are_symmetric_contractions(correlation: int) -> None:
    # There are weights for which the contraction is the power: those of its own tensor in the basis of couplings.
    degrees = [0, 1, 2]
    contraction = SymmetricContraction(signal(1, degrees), signal(1, degrees), correlation)
    power = GridPower(signal(1, degrees), signal(1, degrees), correlation, normalization="integral")
    weight = []
    for block, degree in enumerate(degrees):
        tensor = table(degrees, degrees, degrees if correlation == 2 else list(range(5)))
        if correlation == 3:
            tensor = torch.einsum("abx,xcd->abcd", tensor, table(list(range(5)), degrees, degrees))
        tensor = tensor[..., degree**2 : (degree + 1) ** 2].movedim(-1, 0)[..., None]
        lower = [
            torch.zeros(count, dtype=torch.float64)
            for count, _ in contraction.weight_shapes[block * correlation : (block + 1) * correlation - 1]
        ]
        weight += [*lower, contraction.change_of_basis(block, tensor)[0]]
    features = normal(6, 9)
    torch.testing.assert_close(contraction(features, torch.cat(weight)), power(features), rtol=1e-11, atol=1e-11)


def test_functions_have_no_hand() -> None:
    # Four different factors make a pseudoscalar of a vector, a quadrupole and an octupole; functions never do.
    with pytest.raises(Unsuited, match="the other parity"):
        GridPower("1x1o+1x2e+1x3o", "1x0o", 4)
    power = GridPower("2x0e+2x1o+2x2e+2x3o", "2x0e", 4, rank=2)
    features, weight = normal(5, power.irreps_in.dim), normal(power.weight_numel, seed=1)
    mirrored = rotate(features, power.irreps_in, -torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(power(mirrored, weight), power(features, weight))
    contraction = SymmetricContraction("1x1o+1x2e+1x3o", "1x0o", 4)
    assert contraction(normal(5, 15), contraction.random_weight(dtype=torch.float64)).abs().min() > 1e-4


@pytest.mark.parametrize("copies", [2, 3])
def test_independent_copies_keep_their_variance(copies: int) -> None:
    degrees = [0, 1, 2]
    # What it is scaled by, applied to a product of copies that are different.
    irreps, one = signal(1, degrees), normal(1, 9)
    ways = ("component", "integral")
    scaled, plain = (GridPower(irreps, irreps, copies, normalization=way)(one) for way in ways)
    found = chained([normal(20000, 9, seed=n) for n in range(copies)], degrees, degrees) * (scaled / plain)
    for degree in degrees:
        variance = float(found[:, degree**2 : (degree + 1) ** 2].square().mean())
        assert 0.9 < variance < 1.1


def test_derivatives() -> None:
    power = GridPower(signal(2, [0, 1]), signal(2, [0, 1]), 3, rank=2)
    features, weight = normal(3, 8).requires_grad_(), normal(2, power.weight_numel, seed=1).requires_grad_()
    species = torch.tensor([1, 0, 1])
    assert torch.autograd.gradcheck(lambda x, w: power(x, w, species), (features, weight))
    assert torch.autograd.gradgradcheck(lambda x, w: power(x, w, species), (features, weight))


def test_layouts_species_and_batches() -> None:
    irreps = signal(3, [0, 1, 2])
    first, second = (GridPower(irreps, irreps, 3, rank=2, layout=layout) for layout in ("mul_ir", "ir_mul"))
    features, weight = normal(6, 27), normal(4, first.weight_numel, seed=1)
    species = torch.tensor([0, 3, 1, 1, 0, 3])
    found = first(features, weight, species)
    moved = second(relayout(features, irreps, "mul_ir", "ir_mul"), weight, species)
    torch.testing.assert_close(relayout(moved, irreps, "ir_mul", "mul_ir"), found)
    torch.testing.assert_close(first(features, weight[species]), found)
    torch.testing.assert_close(first(features, weight[3])[1], found[1])
    torch.testing.assert_close(
        first(features.reshape(2, 3, -1), weight, species.reshape(2, 3)), found.reshape(2, 3, -1)
    )
    assert first(features[:0], weight, species[:0]).shape == (0, 27)
    with pytest.raises(DataError, match="species 4 has no row"):
        first(features, weight, species + 1)


def test_many_nodes_are_worked_on_in_portions() -> None:
    power = GridPower(signal(64, [0, 1, 2]), signal(64, [0, 1, 2]), 3, rank=1)
    features, weight = normal(100, power.irreps_in.dim), normal(3, power.weight_numel, seed=1)
    species = torch.arange(100) % 3
    assert 100 * power.points * 64 > 2 * _CACHED
    found = power(features, weight, species)
    alone = torch.stack([power(row, weight[which]) for row, which in zip(features, species, strict=True)])
    torch.testing.assert_close(found, alone, rtol=1e-12, atol=1e-12)


def test_compilers_and_exports_see_one_graph() -> None:
    power = GridPower(signal(3, [0, 1, 2]), signal(3, [0, 1]), 3, rank=1)

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(normal(2, power.weight_numel))

        def forward(self, features: Tensor, species: Tensor) -> Tensor:
            return power(features, self.weight, species)

    layer, arguments = Layer(), (normal(4, 27), torch.tensor([0, 1, 1, 0]))
    wanted = layer(*arguments)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(*arguments), wanted)
    torch.testing.assert_close(torch.export.export(layer, arguments).module()(*arguments), wanted)


@pytest.mark.parametrize(
    ("irreps", "message"),
    [
        (("2x0e+3x1o", "2x0e"), "no function on the sphere"),
        (("2x0e+2x1e", "2x0e"), "no function on the sphere"),
        (("2x0e+2x1o", "3x0e"), "must have the 2 channels"),
        (("2x0o+2x1e", "2x0o"), "the other parity"),
    ],
)
def test_irreps_that_do_not_fit_are_named(irreps: tuple[str, str], message: str) -> None:
    with pytest.raises(Unsuited, match=message):
        GridPower(*irreps, 2)


def test_arguments_that_do_not_fit_are_named() -> None:
    with pytest.raises(TenfoldError, match="normalization must be"):
        GridPower("1x0e", "1x0e", 2, normalization="norm")  # type: ignore[arg-type]
    with pytest.raises(TenfoldError, match="rank"):
        GridPower("1x0e", "1x0e", 2, rank=-1)
    power = GridPower("1x0e+1x1o", "1x0e", 2)
    with pytest.raises(DataError, match="takes no weights"):
        power(normal(2, 4), normal(3))
    with pytest.raises(DataError, match="must end with the 4"):
        power(normal(2, 5))
    with pytest.raises(DataError, match="must be floating"):
        power(torch.ones(2, 4, dtype=torch.int64))
