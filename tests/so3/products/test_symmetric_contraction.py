"""Symmetric contractions: kernels against dense couplings, the basis against characters, and what turns with space."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tenfold.errors import DataError, TenfoldError
from tenfold.so3 import Irrep, Irreps, random_rotations, relayout, rotate, wigner_3j
from tenfold.so3.products import Unsuited, _polynomial_operators
from tenfold.so3.products.symmetric_contraction import SymmetricContraction

SIGNAL = "3x0e+3x1o+3x2e"
IRREP = st.builds(Irrep, st.integers(0, 2), st.sampled_from([1, -1]))
SEED = st.integers(0, 2**20)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def inputs(contraction: SymmetricContraction, nodes: int, species: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Features, a table of weights, and species of which some may not occur."""
    which = torch.randint(species, (nodes,), generator=torch.Generator().manual_seed(seed))
    table = contraction.random_weight(species, seed=seed + 1, dtype=torch.float64)
    return normal(nodes, contraction.irreps_in.dim, seed=seed + 2), table, which


def loops() -> Any:
    """Inside, all polynomials are run through in loops, which need no compilation of their own."""
    return mock.patch.dict(_polynomial_operators._WRITTEN_OUT, dict.fromkeys(_polynomial_operators._WRITTEN_OUT, 0))


def sphere_average(character: Any, copies: int, degree: int) -> int:
    """How often a degree occurs in a symmetric power, by characters alone: Molien's average over all rotations."""
    count = 4 * 64
    angles = 2 * np.pi * (np.arange(count) + 0.5) / count
    # Symmetric powers of eigenvalues, by Newton's identities.
    powers = [character(n * angles) for n in range(copies + 1)]
    symmetric = [np.ones(count)]
    for n in range(1, copies + 1):
        symmetric.append(sum(powers[i] * symmetric[n - i] for i in range(1, n + 1)) / n)
    own = sum(np.cos(m * angles) for m in range(-degree, degree + 1))
    average = np.mean(symmetric[copies] * own * (1 - np.cos(angles)))
    assert abs(average - round(average)) < 1e-8
    return round(average)


@settings(max_examples=15, deadline=None)
@given(st.lists(IRREP, min_size=1, max_size=3), st.lists(IRREP, min_size=1, max_size=2), st.integers(1, 3), SEED)
def test_kernels_are_the_dense_contraction(ins: list[Irrep], outs: list[Irrep], correlation: int, seed: int) -> None:
    irreps_in, irreps_out = Irreps([(2, ir) for ir in ins]), Irreps([(2, ir) for ir in outs])
    fast = SymmetricContraction(irreps_in, irreps_out, correlation, backend="polynomials")
    plain = SymmetricContraction(irreps_in, irreps_out, correlation, backend="dense")
    if not fast.weight_numel:
        assert not fast(normal(3, irreps_in.dim)).any()
        return
    features, table, species = inputs(fast, 9, 3, seed)
    with loops():
        found = fast(features, table, species)
    wanted = plain(features, table, species)
    assert (found - wanted).abs().max() <= 1e-12 * (1 + wanted.abs().max())


@settings(max_examples=10, deadline=None)
@given(st.lists(IRREP, min_size=1, max_size=3), IRREP, st.integers(1, 3), st.booleans(), SEED)
def test_it_turns_with_the_feature(ins: list[Irrep], out: Irrep, correlation: int, improper: bool, seed: int) -> None:
    contraction = SymmetricContraction(Irreps([(2, ir) for ir in ins]), Irreps([(2, out)]), correlation)
    if not contraction.weight_numel:
        return
    features, table, species = inputs(contraction, 5, 2, seed)
    turn = random_rotations(1, seed=seed)[0] * (-1 if improper else 1)
    with loops():
        found = contraction(rotate(features, contraction.irreps_in, turn), table, species)
        wanted = rotate(contraction(features, table, species), contraction.irreps_out, turn)
    assert (found - wanted).abs().max() <= 1e-10 * (1 + wanted.abs().max())


@pytest.mark.parametrize("correlation", [1, 2, 3, 4])
@pytest.mark.parametrize("lmax", [0, 1, 2])
def test_there_are_as_many_couplings_as_characters_say(lmax: int, correlation: int) -> None:
    blocks = [Irrep(degree, (-1) ** degree) for degree in range(lmax + 1)]
    both = [*blocks, *(Irrep(degree, -((-1) ** degree)) for degree in range(lmax + 1))]

    def character(angles: Any) -> Any:
        # Each in both parities: together these occur as often as an average over rotations alone says.
        return 2 * sum(np.cos(m * angles) for ir in blocks for m in range(-ir.l, ir.l + 1))

    contraction = SymmetricContraction(Irreps([(1, ir) for ir in both]), "0e+0o+1e+1o", correlation)
    counts = [count for count, _ in contraction.weight_shapes]
    for degree in range(1, correlation + 1):
        even, odd, true, pseudo = counts[degree - 1 :: correlation]
        assert even + odd == sphere_average(character, degree, 0)
        assert true + pseudo == sphere_average(character, degree, 1)


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_couplings_are_orthonormal_and_symmetric(degree: int) -> None:
    contraction = SymmetricContraction("1x0e+1x1o+1x2e", "1x0e+1x1o+1x2e", 4)
    for block in range(3):
        tensors = contraction.couplings(block, degree)
        rows = tensors.flatten(2).flatten(0, 1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows), dtype=torch.float64), rtol=0, atol=1e-13)
        for order in permutations(range(2, 2 + degree)):
            assert torch.equal(tensors.permute(0, 1, *order), tensors)


def test_closed_forms_of_two_copies_of_a_vector() -> None:
    contraction = SymmetricContraction("1x1o", "1x0e+1x1e+1x2e", 2)
    assert contraction.weight_shapes == ((0, 1), (1, 1), (0, 1), (0, 1), (0, 1), (1, 1))
    vectors = normal(6, 3)
    found = contraction(vectors, torch.ones(2, dtype=torch.float64))
    # The length, and the traceless part; no cross product of a vector with itself.
    torch.testing.assert_close(found[:, 0].abs(), vectors.square().sum(-1) / math.sqrt(3))
    assert not found[:, 1:4].any()
    quadrupole = math.sqrt(5) * torch.einsum("ijk,ni,nj->nk", wigner_3j(1, 1, 2), vectors, vectors)
    torch.testing.assert_close(found[:, 4:].abs(), quadrupole.abs())


def test_mirror_images_are_told_apart_by_pseudoscalars() -> None:
    # A vector, a quadrupole and an octupole in general position have a hand: four copies and fewer can tell.
    contraction = SymmetricContraction("1x1o+1x2e+1x3o", "1x0o+1x0e", 4)
    counts = [count for count, _ in contraction.weight_shapes]
    assert not any(counts[:3])
    assert counts[3]
    features, weight = normal(4, contraction.irreps_in.dim), contraction.random_weight(dtype=torch.float64)
    mirrored = rotate(features, contraction.irreps_in, -torch.eye(3, dtype=torch.float64))
    here, there = contraction(features, weight), contraction(mirrored, weight)
    assert here[:, 0].abs().min() > 1e-3
    torch.testing.assert_close(there, here * torch.tensor([-1.0, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("channels", [2, 16, 19])
def test_derivatives(channels: int) -> None:
    irreps = f"{channels}x0e+{channels}x1o"
    contraction = SymmetricContraction(irreps, irreps, 3, layout="ir_mul")
    features, table, species = inputs(contraction, 3, 2)
    if channels > 2:
        # Numerical derivatives of few numbers: of a scale and a shift instead of all of them.
        scale, shift = normal(2, seed=5).requires_grad_(), normal(2, seed=6).requires_grad_()

        def few(scale: Tensor, shift: Tensor) -> Tensor:
            found = contraction(features * scale[0] + shift[0], table * scale[1] + shift[1], species)
            return found.unflatten(-1, (-1, channels)).sum(-1)

        assert torch.autograd.gradcheck(few, (scale, shift))
        assert torch.autograd.gradgradcheck(few, (scale, shift))
        return
    features, table = features.requires_grad_(), table.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: contraction(x, w, species), (features, table))
    assert torch.autograd.gradgradcheck(lambda x, w: contraction(x, w, species), (features, table))


@pytest.mark.parametrize("correlation", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_derivatives_are_those_of_the_dense_contraction(correlation: int) -> None:
    def differentiated(backend: Any) -> list[Tensor]:
        contraction = SymmetricContraction(SIGNAL, SIGNAL, correlation, backend=backend)
        features, table, species = inputs(contraction, 41, 3)
        features, table = features.requires_grad_(), table.requires_grad_()
        out = contraction(features, table, species)
        grads = torch.autograd.grad((out * normal(*out.shape, seed=9)).sum(), (features, table), create_graph=True)
        # As forces do: a function of both gradients, differentiated once more.
        loss = grads[0].sin().sum() + (grads[1] * normal(*table.shape, seed=10)).sum()
        return [out, *grads, *torch.autograd.grad(loss, (features, table))]

    wanted, written_out = differentiated("dense"), differentiated("polynomials")
    with loops():
        in_loops = differentiated("polynomials")
    for found in (written_out, in_loops):
        for one, other in zip(found, wanted, strict=True):
            assert (one - other).abs().max() <= 1e-12 * (1 + other.abs().max())


def test_only_what_is_wanted_is_differentiated() -> None:
    contraction = SymmetricContraction(SIGNAL, SIGNAL, 3)
    features, table, species = inputs(contraction, 6, 2)
    alone = torch.autograd.grad(contraction(features.requires_grad_(), table, species).sum(), features)[0]
    weights = torch.autograd.grad(
        contraction(features.detach(), table.requires_grad_(), species).sum(), table, create_graph=True
    )[0]
    assert weights.shape == table.shape
    both = torch.autograd.grad(contraction(features, table, species).sum(), (features, table))
    torch.testing.assert_close(alone, both[0], rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(weights, both[1], rtol=1e-13, atol=1e-13)


def test_a_third_derivative_is_refused() -> None:
    contraction = SymmetricContraction("2x0e+2x1o", "2x0e", 3)
    features, table, species = inputs(contraction, 2, 1)
    found = contraction(features.requires_grad_(), table, species).sum()
    for _ in range(2):
        (gradient,) = torch.autograd.grad(found, features, create_graph=True)
        found = gradient.square().sum()
    with pytest.raises(TenfoldError, match="use 'dense' for a third"):
        torch.autograd.grad(found, features)


@pytest.mark.parametrize("backend", ["polynomials", "dense"])
def test_layouts_differ_in_order_alone(backend: Any) -> None:
    first = SymmetricContraction(SIGNAL, "3x0e+3x1o", 3, layout="mul_ir", backend=backend)
    second = SymmetricContraction(SIGNAL, "3x0e+3x1o", 3, layout="ir_mul", backend=backend)
    features, table, species = inputs(first, 5, 2)
    moved = second(relayout(features, SIGNAL, "mul_ir", "ir_mul"), table, species)
    wanted = first(features, table, species)
    torch.testing.assert_close(relayout(moved, "3x0e+3x1o", "ir_mul", "mul_ir"), wanted, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("backend", ["polynomials", "dense"])
def test_weights_shared_by_species_and_of_each_node(backend: Any) -> None:
    contraction = SymmetricContraction(SIGNAL, SIGNAL, 3, backend=backend)
    features, table, species = inputs(contraction, 12, 4)
    by_species = contraction(features, table, species)
    torch.testing.assert_close(contraction(features, table[species]), by_species, rtol=1e-13, atol=1e-13)
    shared = contraction(features, table[1])
    torch.testing.assert_close(shared[species == 1], by_species[species == 1], rtol=1e-13, atol=1e-13)
    grid = contraction(features.reshape(3, 4, -1), table, species.reshape(3, 4))
    assert torch.equal(grid.flatten(0, 1), by_species)
    several = contraction(features[:4], table[:, None])  # every node with every row
    assert several.shape == (4, 4, contraction.irreps_out.dim)
    torch.testing.assert_close(several[2], contraction(features[:4], table[2]), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("nodes", [1, 33, 5000])
def test_threads_give_the_same_bits(nodes: int) -> None:
    contraction = SymmetricContraction("16x0e+16x1o", "16x0e+16x1o", 3, layout="ir_mul")
    features, table, species = inputs(contraction, nodes, 3)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            given, weight = features.clone().requires_grad_(), table.clone().requires_grad_()
            out = contraction(given, weight, species)
            first = torch.autograd.grad(out.square().sum(), (given, weight), create_graph=True)
            found.append((out, *first, *torch.autograd.grad(first[0].square().sum(), (given, weight))))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


@pytest.mark.parametrize("backend", ["polynomials", "dense"])
def test_no_nodes(backend: Any) -> None:
    contraction = SymmetricContraction(SIGNAL, "3x1o", 3, backend=backend)
    features, table, species = inputs(contraction, 0, 2)
    features, table = features.requires_grad_(), table.requires_grad_()
    out = contraction(features, table, species)
    assert out.shape == (0, 9)
    by_features, by_table = torch.autograd.grad(out.sum(), (features, table))
    assert by_features.shape == features.shape
    assert not by_table.any()
    assert contraction(features.reshape(2, 0, 27), table[0]).shape == (2, 0, 9)


def test_degree_zero_is_a_polynomial_of_numbers() -> None:
    contraction = SymmetricContraction("4x0e", "4x0e", 3)
    assert contraction.weight_shapes == ((1, 4), (1, 4), (1, 4))
    features, table, species = inputs(contraction, 5, 2)
    one, two, three = table[species].unflatten(-1, (3, 4)).unbind(1)
    x = features
    # The signs of a basis are its own.
    signs = [float(contraction.couplings(0, degree).sign()) for degree in (1, 2, 3)]
    wanted = signs[0] * one * x + signs[1] * two * x**2 + signs[2] * three * x**3
    torch.testing.assert_close(contraction(features, table, species), wanted)


def test_single_precision() -> None:
    contraction = SymmetricContraction(SIGNAL, SIGNAL, 3)
    features, table, species = inputs(contraction, 20, 2)
    wanted = contraction(features, table, species)
    found = contraction(features.float(), table.float(), species)
    assert found.dtype == torch.float32
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_half_precision_takes_the_dense_way() -> None:
    contraction = SymmetricContraction(SIGNAL, SIGNAL, 2)
    features, table, species = (tensor for tensor in inputs(contraction, 4, 2))
    found = contraction(features.bfloat16(), table.bfloat16(), species)
    assert found.dtype == torch.bfloat16
    assert (found - contraction(features, table, species)).abs().max() < 0.5
    only = SymmetricContraction(SIGNAL, SIGNAL, 2, backend="polynomials")
    with pytest.raises(DataError, match="use 'dense'"):
        only(features.bfloat16(), table.bfloat16(), species)


def test_nothing_leads_there() -> None:
    contraction = SymmetricContraction("2x1o", "2x0o", 2)
    assert contraction.weight_numel == 0
    assert not contraction(normal(3, 6)).any()
    with pytest.raises(DataError, match="takes no weights"):
        contraction(normal(3, 6), normal(0))


def test_weights_for_other_tensors_become_weights_for_these() -> None:
    contraction = SymmetricContraction("1x0e+1x1o+1x2e", "1x1o", 3)
    basis = contraction.couplings(0, 3)
    mixing = normal(7, len(basis))
    # Seven tensors that are not symmetric, some of them dependent on others.
    theirs = torch.einsum("ab,b...->...a", mixing, basis)
    skewed = theirs + (lambda t: t - t.transpose(1, 2))(turned_pairs(contraction))[..., None]
    for tensors in (theirs, skewed):
        torch.testing.assert_close(contraction.change_of_basis(0, tensors), mixing, rtol=1e-12, atol=1e-12)
    with pytest.raises(DataError, match="do not turn as 1o"):
        contraction.change_of_basis(0, normal(3, 9, 9, 9, 2))
    with pytest.raises(DataError, match="must be of shape"):
        contraction.change_of_basis(0, normal(3, 9, 8, 9, 2))


def turned_pairs(contraction: SymmetricContraction) -> Tensor:
    """An equivariant tensor of three copies with no symmetry: a vector times a quadrupole, in the first two only."""
    tensor = torch.zeros(3, 9, 9, 9, dtype=torch.float64)
    tensor[:, 1:4, 4:9, 0] = math.sqrt(3) * wigner_3j(1, 1, 2).permute(1, 0, 2)
    return tensor


def test_compilers_and_exports_see_one_graph() -> None:
    contraction = SymmetricContraction(SIGNAL, "3x0e+3x1o", 3)
    features, table, species = inputs(contraction, 6, 2)

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(table)

        def forward(self, features: Tensor, species: Tensor) -> Tensor:
            return contraction(features, self.weight, species)

    layer = Layer()
    wanted = layer(features, species)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    given = features.clone().requires_grad_()
    found = compiled(given, species)
    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-13)
    (slope,) = torch.autograd.grad(found.square().sum(), given)
    again = features.clone().requires_grad_()
    (expected,) = torch.autograd.grad(layer(again, species).square().sum(), again)
    torch.testing.assert_close(slope, expected, rtol=1e-12, atol=1e-12)
    exported = torch.export.export(layer, (features, species))
    assert torch.equal(exported.module()(features, species), wanted)


def test_operators_are_what_torch_expects() -> None:
    contraction = SymmetricContraction("16x0e+16x1o", "16x0e+16x1o", 2, layout="ir_mul")
    features, table, species = inputs(contraction, 4, 2)
    arguments = (
        features.unflatten(-1, (-1, 16)).requires_grad_(),
        table.unflatten(-1, (-1, 16)).requires_grad_(),
        species,
        *contraction._key,
    )
    torch.library.opcheck(torch.ops.tenfold.so3_symmetric_contraction.default, arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, w, s: (x[:, :-1], w, s), "must end with the 27"),
        (lambda x, w, s: (x, None, None), "weight must end with"),
        (lambda x, w, s: (x, w[:, :-1], s), "weight must end with"),
        (lambda x, w, s: (x.float(), w, s), "convert one of them"),
        (lambda x, w, s: (x, w, s[:-1]), "must be one for each feature"),
        (lambda x, w, s: (x, w, s.int()), "species must be torch.int64"),
        (lambda x, w, s: (x, w, s + 2), "species 3 has no row"),
        (lambda x, w, s: (x, w, s - 1), "species -1 has no row"),
        (lambda x, w, s: (x, w[0], s), "must be a table"),
        (lambda x, w, s: (x, w, None), "do not broadcast"),
        (lambda x, w, s: (x.long(), w, s), "must be floating"),
    ],
)
def test_what_does_not_fit_is_named(change: Any, message: str) -> None:
    contraction = SymmetricContraction(SIGNAL, SIGNAL, 2)
    features, table, _ = inputs(contraction, 6, 2)
    arguments = change(features, table, torch.tensor([0, 1, 1, 0, 1, 0]))
    with pytest.raises(DataError, match=message):
        contraction(*arguments)


def test_irreps_that_do_not_fit_are_named() -> None:
    with pytest.raises(Unsuited, match="the same multiplicity"):
        SymmetricContraction("2x0e+3x1o", "2x0e", 2)
    with pytest.raises(Unsuited, match="the same multiplicity"):
        SymmetricContraction("2x0e+2x1o", "3x0e", 2)
    with pytest.raises(Unsuited, match="the same multiplicity"):
        SymmetricContraction("", "3x0e", 2)
    with pytest.raises(TenfoldError, match="backend must be"):
        SymmetricContraction("2x0e", "2x0e", 2, backend="sparse")  # type: ignore[arg-type]
    with pytest.raises(TenfoldError, match="correlation"):
        SymmetricContraction("2x0e", "2x0e", 0)
    with pytest.raises(TenfoldError, match="a layout is"):
        SymmetricContraction("2x0e", "2x0e", 2, layout="muls")  # type: ignore[arg-type]
    with pytest.raises(TenfoldError, match="block 1 of degree 3"):
        SymmetricContraction("2x0e", "2x0e", 2).couplings(1, 3)


def test_tables_that_are_made_while_it_is_exported_serve_afterwards() -> None:
    """Tables of these irreps are made nowhere else: where they were kept as tracing sees them, nothing worked later."""
    contraction = SymmetricContraction("1x0e+1x1e+1x3o", "1x1e+1x3o", 2, backend="dense")
    features, weight = torch.randn(3, 11), contraction.random_weight()

    class Layer(torch.nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return contraction(features, weight)

    exported = torch.export.export(Layer(), (features,)).module()
    expected = SymmetricContraction("1x0e+1x1e+1x3o", "1x1e+1x3o", 2)(features, weight)
    for found in (contraction(features, weight), exported(features)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
