"""Cartesian tensors as irreps: spans, equivariance, known closed forms, and e3nn's irreps."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tenfold.errors import DataError, TenfoldError
from tenfold.so3 import (
    CartesianTensor,
    Irreps,
    from_mandel,
    from_voigt,
    random_rotations,
    rotate,
    to_mandel,
    to_voigt,
)

STIFFNESS = "ijkl=jikl=ijlk=klij"
# As many copies of each degree as characters of the rotations say.
FORMULAS = {
    "": "0e",
    "i": "1o",
    "ij=ji": "0e+2e",
    "ij=-ji": "1e",
    "ij": "0e+1e+2e",
    "ijk=ikj": "2x1o+2o+3o",
    "ijk=-jik=-ikj": "0o",
    "ijk=jki": "0o+1o+3o",
    "ijk=jik=ikj": "1o+3o",
    "ijk": "0o+3x1o+2x2o+3o",
    "ijkl=jikl=ikjl=ijlk": "0e+2e+4e",
    "ijkl=-jikl=-ijlk=klij": "0e+2e",
    STIFFNESS: "2x0e+2x2e+4e",
    "ijkl=jikl=ijlk": "2x0e+1e+3x2e+3e+4e",
    "ijkl": "3x0e+6x1e+6x2e+3x3e+4e",
}
ALL = pytest.mark.parametrize("formula", FORMULAS)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turned(tensor: Tensor, rank: int, matrix: Tensor) -> Tensor:
    """Every axis of tensors turned, as vectors are."""
    for axis in range(-rank, 0):
        tensor = (tensor.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return tensor


def symmetric(formula: str, tensor: Tensor) -> Tensor:
    """Means over the formula's terms, again and again: the only tensors that stay are those with the symmetries."""
    names, *terms = formula.split("=")
    batch = tensor.ndim - len(names)
    for _ in range(200):
        for term in terms:
            axes = [names.index(letter) for letter in term.removeprefix("-")]
            other = tensor.permute(*range(batch), *(batch + axis for axis in axes))
            # Both ways, so that the mean is an orthogonal projection for turns of three axes too.
            back = tensor.permute(*range(batch), *(batch + axes.index(axis) for axis in range(len(axes))))
            sign = -1 if term.startswith("-") else 1
            tensor = (2 * tensor + sign * (other + back)) / 4
    return tensor


@ALL
def test_the_irreps(formula: str) -> None:
    assert CartesianTensor(formula).irreps == Irreps(FORMULAS[formula])


@ALL
def test_bases_are_orthonormal_and_span_the_symmetric_tensors(formula: str) -> None:
    kind = CartesianTensor(formula)
    basis = kind.change_of_basis
    assert basis.shape == (kind.irreps.dim, *(3,) * kind.rank)
    flat = basis.reshape(kind.irreps.dim, -1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(len(flat), dtype=torch.float64), rtol=0, atol=1e-14)
    # The projection onto their span is that onto the symmetric tensors.
    tensors = normal(10, *(3,) * kind.rank)
    torch.testing.assert_close(
        kind.to_cartesian(kind.to_irreps(tensors)), symmetric(formula, tensors), rtol=0, atol=1e-12
    )


@ALL
def test_there_and_back(formula: str) -> None:
    kind = CartesianTensor(formula)
    features = normal(2, 4, kind.irreps.dim)
    tensors = kind.to_cartesian(features)
    assert tensors.shape == (2, 4, *(3,) * kind.rank)
    torch.testing.assert_close(kind.to_irreps(tensors), features, rtol=0, atol=1e-13)
    # Lengths are the same on both sides.
    torch.testing.assert_close(tensors.flatten(2).norm(dim=-1) if kind.rank else tensors.abs(), features.norm(dim=-1))


@ALL
@pytest.mark.parametrize("improper", [False, True])
def test_equivariance(formula: str, improper: bool) -> None:
    kind = CartesianTensor(formula)
    matrix = random_rotations(1, seed=3)[0] * (-1 if improper else 1)
    tensors = normal(5, *(3,) * kind.rank)
    found = kind.to_irreps(turned(tensors, kind.rank, matrix))
    torch.testing.assert_close(found, rotate(kind.to_irreps(tensors), kind.irreps, matrix), rtol=0, atol=1e-12)


def test_known_ones() -> None:
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(CartesianTensor("i").change_of_basis, eye, rtol=0, atol=1e-15)
    matrix = normal(3, 3)
    features = CartesianTensor("ij").to_irreps(matrix)
    axial = torch.stack([matrix[1, 2] - matrix[2, 1], matrix[2, 0] - matrix[0, 2], matrix[0, 1] - matrix[1, 0]])
    assert float(features[0]) == pytest.approx(float(matrix.trace()) / math.sqrt(3))
    torch.testing.assert_close(features[1:4], axial / math.sqrt(2), rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(CartesianTensor("ij=-ji").to_irreps(matrix), features[1:4])
    torch.testing.assert_close(CartesianTensor("ij=ji").to_irreps(matrix), features[[0, 4, 5, 6, 7, 8]])
    # Of an outer product of a vector with itself the second degree is a harmonic.
    x, y, z = vector = normal(3, seed=1)
    by_hand = [x * z, x * y, (2 * y * y - x * x - z * z) / math.sqrt(12), y * z, (z * z - x * x) / 2]
    found = CartesianTensor("ij=ji").to_irreps(torch.outer(vector, vector))[1:]
    torch.testing.assert_close(found, math.sqrt(2) * torch.stack(by_hand), rtol=1e-13, atol=1e-15)


def test_the_order_within_a_multiplicity_stays() -> None:
    """The first scalar of a stiffness is its double trace, coupled through degree 0; the second is what is left."""
    isotropic = CartesianTensor(STIFFNESS).change_of_basis[:2]
    eye = torch.eye(3, dtype=torch.float64)
    traces = torch.einsum("ij,kl->ijkl", eye, eye)
    mixed = torch.einsum("ik,jl->ijkl", eye, eye) + torch.einsum("il,jk->ijkl", eye, eye)
    shear = mixed - 2 / 3 * traces
    torch.testing.assert_close(isotropic[0], traces / 3, rtol=0, atol=1e-14)
    torch.testing.assert_close(isotropic[1], shear / shear.norm(), rtol=0, atol=1e-14)
    # The first vector of a piezoelectric tensor comes from a trace over its first two axes, made symmetric.
    found = CartesianTensor("ijk=ikj").change_of_basis
    first = (torch.einsum("ij,kc->cijk", eye, eye) + torch.einsum("ik,jc->cijk", eye, eye)) / math.sqrt(8)
    second = torch.einsum("jk,ic->cijk", eye, eye) - first / math.sqrt(2)
    torch.testing.assert_close(found[:3], first, rtol=0, atol=1e-14)
    torch.testing.assert_close(found[3:6], -second / math.sqrt(2.5), rtol=0, atol=1e-14)


def test_parities_of_axes() -> None:
    assert CartesianTensor("ij=ji", i="1e").irreps == CartesianTensor("ij=ji").irreps
    assert CartesianTensor("ij", j="1e").irreps == Irreps("0o+1o+2o")
    assert CartesianTensor("ijk=ikj", j="1e").irreps == Irreps("2x1o+2o+3o")
    assert CartesianTensor("ijk=ikj", i="1e").irreps == Irreps("2x1e+2e+3e")
    mixed = CartesianTensor("ij", j="1e")
    inversion = -torch.eye(3, dtype=torch.float64)
    features = mixed.to_irreps(normal(3, 3))
    torch.testing.assert_close(rotate(features, mixed.irreps, inversion), -features)


def test_equal_formulas_are_equal() -> None:
    # Generators of one group.
    one, other = CartesianTensor(" ijk = jik = ikj "), CartesianTensor("abc=bca=bac")
    assert one == other
    assert hash(one) == hash(other)
    assert one.formula == "ijk=jik=ikj"
    assert one != CartesianTensor("ijk=ikj")
    assert one != CartesianTensor("ijk=jik=ikj", i="1e")
    assert repr(CartesianTensor("ij=ji")) == "CartesianTensor('ij=ji': 1x0e+1x2e)"


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_signs_and_any_exchanges(data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, 4))
    names = "ijkl"[:rank]
    orders = st.sampled_from(["".join(order) for order in permutations(names)])
    terms = data.draw(st.lists(st.builds("{}{}".format, st.sampled_from(["", "-"]), orders), max_size=3))
    formula = "=".join([names, *terms])
    whole = symmetric(formula, torch.eye(3**rank, dtype=torch.float64).reshape(-1, *(3,) * rank))
    dimension = round(float(whole.reshape(3**rank, 3**rank).trace()))
    if dimension == 0:
        with pytest.raises(TenfoldError, match="leaves no tensor but zero"):
            CartesianTensor(formula)
    else:
        assert CartesianTensor(formula).irreps.dim == dimension


def test_bases_made_in_inference_mode_serve_later_derivatives() -> None:
    kind = CartesianTensor("ijk=-ikj")
    with torch.inference_mode():
        kind.to_irreps(torch.zeros(3, 3, 3))
    tensor = torch.ones(3, 3, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(kind.to_irreps(tensor).square().sum(), tensor)
    assert grad.shape == (3, 3, 3)


def test_derivatives_compilers_and_dtypes() -> None:
    kind = CartesianTensor("ij=ji")

    def there_and_back(tensor: Tensor) -> Tensor:
        return kind.to_cartesian(kind.to_irreps(tensor))

    tensors = normal(4, 3, 3)
    assert torch.autograd.gradcheck(there_and_back, tensors.clone().requires_grad_())
    compiled = torch.compile(there_and_back, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(tensors), (tensors + tensors.mT) / 2)
    torch.testing.assert_close(torch.vmap(there_and_back)(tensors), (tensors + tensors.mT) / 2)
    for dtype in (torch.float32, torch.complex128):
        assert kind.to_irreps(tensors.to(dtype)).dtype == dtype
    assert kind.to_irreps(torch.zeros(0, 3, 3)).shape == (0, 6)
    kept = kind.change_of_basis
    kept.zero_()
    assert kind.change_of_basis.any()


@pytest.mark.parametrize(
    ("formula", "indices", "message"),
    [
        ("ij=jk", {}, "'jk' must have the letters of 'ij', each once"),
        ("ii", {}, "must begin with different small letters"),
        ("-ij=ji", {}, "must begin with different small letters"),
        (3, {}, "formula must be like 'ij=ji', not 3"),
        ("ij=-ij", {}, "leaves no tensor but zero"),
        ("ijkl=-jikl=-ikjl=-ijlk", {}, "leaves no tensor but zero: use fewer"),
        ("ijklmno", {}, "has 7 axes: at most 6"),
        ("ij=ji", {"k": "1o"}, "index 'k' does not occur in 'ij'"),
        ("ij=ji", {"i": "0e"}, "index 'i' must be '1o' or '1e', a vector or a pseudovector, not '0e'"),
        ("ij=ji", {"i": "1o", "j": "1e"}, "index 'j' is exchanged with one of the other parity"),
    ],
)
def test_what_is_no_tensor_is_told(formula: str, indices: dict[str, str], message: str) -> None:
    with pytest.raises(TenfoldError, match=message):
        CartesianTensor(formula, **indices)


def test_what_does_not_fit_is_told() -> None:
    kind = CartesianTensor("ij=ji")
    with pytest.raises(DataError, match=r"tensor of shape \(3, 2\) must end with \(3, 3\), the axes of 'ij=ji'"):
        kind.to_irreps(torch.zeros(3, 2))
    with pytest.raises(DataError, match=r"tensor of shape \(3,\) must end"):
        kind.to_irreps(torch.zeros(3))
    with pytest.raises(DataError, match="must end with the 6 of '1x0e\\+1x2e'"):
        kind.to_cartesian(torch.zeros(9))
    with pytest.raises(DataError, match=r"floating or complex, not torch\.int64"):
        kind.to_irreps(torch.zeros(3, 3, dtype=torch.int64))


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("formula", [f for f in FORMULAS if f and f != "ijkl"])
def test_the_irreps_are_those_of_e3nn(formula: str) -> None:
    o3 = pytest.importorskip("e3nn.o3")
    names = formula.split("=")[0]
    theirs = o3.ReducedTensorProducts(formula, **dict.fromkeys(names, "1o"))
    kind = CartesianTensor(formula)
    assert kind.irreps == Irreps(theirs.irreps_out)
    # Bases within a multiplicity may differ, the spaces of each irrep may not.
    ours, other = (
        basis.double().reshape(kind.irreps.dim, -1) for basis in (kind.change_of_basis, theirs.change_of_basis)
    )
    for where in kind.irreps.slices():
        torch.testing.assert_close(ours[where].T @ ours[where], other[where].T @ other[where], rtol=0, atol=1e-5)


def stiffness(seed: int = 0) -> Tensor:
    return CartesianTensor(STIFFNESS).to_cartesian(normal(2, 21, seed=seed))


def test_mandel_matrices_turn_by_orthogonal_ones() -> None:
    matrix = random_rotations(1, seed=1)[0]
    # What a rotation does to the six numbers of a strain, column by column.
    columns = from_mandel(torch.eye(6, dtype=torch.float64), 2)
    turn = to_mandel(matrix @ columns @ matrix.T, 2).T
    torch.testing.assert_close(turn @ turn.T, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-14)
    tensor = stiffness()
    found = to_mandel(turned(tensor, 4, matrix), 4)
    torch.testing.assert_close(found, turn @ to_mandel(tensor, 4) @ turn.T, rtol=0, atol=1e-13)
    torch.testing.assert_close(to_mandel(tensor, 4).flatten(1).norm(dim=1), tensor.flatten(1).norm(dim=1))
    # Voigt's do not.
    columns = from_voigt(torch.eye(6, dtype=torch.float64), 2)
    turn = to_voigt(matrix @ columns @ matrix.T, 2).T
    assert float((turn @ turn.T - torch.eye(6)).abs().max()) > 0.1


def test_voigt_entries_and_laws() -> None:
    tensor = stiffness()[0]
    pairs = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
    by_hand = torch.stack([torch.stack([tensor[i, j, k, n] for k, n in pairs]) for i, j in pairs])
    torch.testing.assert_close(to_voigt(tensor, 4), by_hand, rtol=0, atol=1e-14)
    strain = normal(3, 3, seed=4)
    strain = strain + strain.T
    stress = torch.einsum("ijkl,kl->ij", tensor, strain)
    by_matrix = to_voigt(tensor, 4) @ to_voigt(strain, 2, engineering=True)
    torch.testing.assert_close(to_voigt(stress, 2), by_matrix, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(to_mandel(stress, 2), to_mandel(tensor, 4) @ to_mandel(strain, 2))
    # Compliance is the inverse of stiffness in both notations.
    compliance = from_mandel(torch.linalg.inv(to_mandel(tensor, 4)), 4)
    inverse = to_voigt(compliance, 4, engineering=True) @ to_voigt(tensor, 4)
    torch.testing.assert_close(inverse, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("rank", [2, 4])
def test_pairs_there_and_back(rank: int) -> None:
    pairs = normal(3, *(6,) * (rank // 2))
    torch.testing.assert_close(to_mandel(from_mandel(pairs, rank), rank), pairs)
    for engineering in (False, True):
        back = from_voigt(pairs, rank, engineering=engineering)
        assert torch.equal(back, back.mT)
        torch.testing.assert_close(to_voigt(back, rank, engineering=engineering), pairs)


def test_pairs_that_do_not_fit_are_told() -> None:
    with pytest.raises(DataError, match="rank must be 2 or 4, not 3"):
        to_mandel(torch.zeros(3, 3, 3), 3)
    with pytest.raises(DataError, match=r"tensor of shape \(3, 4\) and torch.float32 must be floating and end"):
        to_mandel(torch.zeros(3, 4), 2)
    with pytest.raises(DataError, match=r"pairs of shape \(6,\) and torch.float32 must .* end with \(6, 6\)"):
        from_voigt(torch.zeros(6), 4)
