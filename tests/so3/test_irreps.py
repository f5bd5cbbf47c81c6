"""The notation, the arithmetic and the selection rules of irreps."""

from __future__ import annotations

import re
import sys
from itertools import pairwise, product
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tenfold.errors import MissingExtra, TenfoldError
from tenfold.so3 import Irrep, Irreps, spherical_harmonics, wigner_d
from tenfold.so3.layouts import LAYOUTS

IRREP = st.builds(Irrep, st.integers(0, 12), st.sampled_from([1, -1]))
IRREPS = st.builds(Irreps, st.lists(st.tuples(st.integers(0, 40), IRREP), max_size=6))


@given(IRREPS)
def test_what_is_printed_is_read_back(irreps: Irreps) -> None:
    assert Irreps(str(irreps)) == irreps
    assert hash(Irreps(str(irreps))) == hash(irreps)
    assert Irreps(list(irreps)) == irreps


@given(IRREP)
def test_an_irrep_is_read_back(ir: Irrep) -> None:
    assert Irrep(str(ir)) == ir
    assert Irrep(ir) == ir
    assert (Irrep(f"{ir.l}y") == ir) == ir.natural


@pytest.mark.parametrize(
    ("given_as", "text"),
    [
        ("32x0e+16x1o", "32x0e+16x1o"),
        (" 2 x 1o + 0e ", "2x1o+1x0e"),
        ("2y+3y", "1x2e+1x3o"),
        ("", ""),
        (None, ""),
        (Irrep("2o"), "1x2o"),
        ([(2, "1o"), "3x0e", Irrep(2, 1), (4, (1, -1))], "2x1o+3x0e+1x2e+4x1o"),
    ],
)
def test_notation(given_as: object, text: str) -> None:
    assert str(Irreps(given_as)) == text
    assert repr(Irreps(given_as)) == text


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("2x", "'2x' is not like"),
        ("1o+", "irreps '1o+': '' is not like"),
        ("-1x0e", "'-1x0e'"),
        ("1.5x0e", "'1.5x0e'"),
        ("1x0e 1x1o", "'1x0e 1x1o'"),
        ("0E", "'0E'"),
        ("9" * 5000 + "x0e", "is not like"),
        ("1x" + "9" * 5000 + "e", "is not like"),
        ("١o", "'١o'"),
        (7, "irreps must be like '32x0e+16x1o', not 7"),
        ([(-1, "0e")], "a multiplicity must be a whole number of at least 0, not -1"),
        ([(1, 2, 3)], "not (1, 2, 3)"),
        ([7], "not 7"),
    ],
)
def test_bad_notation_is_told_in_one_line(bad: object, says: str) -> None:
    with pytest.raises(TenfoldError, match=re.escape(says)) as told:
        Irreps(bad)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("1x",), "an irrep is written as '1o'.*; not '1x'"),
        ((-1, 1), "degree must be a whole number of at least 0, not -1"),
        ((1, 0), r"parity must be 1 \(even\) or -1 \(odd\), not 0"),
        ((1,), "not 1$"),
    ],
)
def test_bad_irreps_are_told(arguments: tuple, says: str) -> None:
    with pytest.raises(TenfoldError, match=says):
        Irrep(*arguments)


def test_sizes() -> None:
    irreps = Irreps("3x0e+2x1o+0x5e+1x2e")
    assert (irreps.dim, irreps.num_irreps, irreps.lmax) == (3 + 6 + 5, 6, 2)
    assert irreps.slices() == (slice(0, 3), slice(3, 9), slice(9, 9), slice(9, 14))
    assert [block.dim for block in irreps] == [3, 6, 0, 5]
    assert irreps[1] == (2, Irrep("1o"))
    assert irreps[1:] == Irreps("2x1o+0x5e+2e")
    assert len(irreps) == 4
    assert "2e" in irreps
    assert "5e" not in irreps
    assert "2o" not in irreps


@pytest.mark.parametrize("empty", ["", "0x3e"])
def test_nothing_has_no_largest_degree(empty: str) -> None:
    assert Irreps(empty).dim == 0
    with pytest.raises(TenfoldError, match="no largest degree"):
        _ = Irreps(empty).lmax


def test_arithmetic() -> None:
    assert Irreps("1o") + "2x0e" == Irreps("1o+2x0e")
    assert "2x0e" + Irreps("1o") == Irreps("2x0e+1o")
    assert 2 * Irreps("1o+0e") == Irreps("1o+0e") * 2 == Irreps("1o+0e+1o+0e")
    assert 3 * Irrep("1o") == Irreps("3x1o")
    assert Irreps("1o") != Irreps("1e")
    assert Irreps.harmonics(3) == Irreps("0e+1o+2e+3o")
    assert Irreps("2x1o+0x0e+1o+0e+1o").simplify() == Irreps("3x1o+1x0e+1x1o")
    mixed = Irreps("1e+2x0e+1o+0o+3x0e")
    assert mixed.order() == (3, 1, 4, 2, 0)
    assert mixed.sort() == Irreps("0o+2x0e+3x0e+1o+1e")


@given(IRREPS)
def test_simplifying_and_sorting_keep_what_there_is(irreps: Irreps) -> None:
    for other in (irreps.simplify(), irreps.sort(), irreps.sort().simplify()):
        assert other.dim == irreps.dim
        assert {ir: other.count(ir) for _, ir in irreps} == {ir: irreps.count(ir) for _, ir in irreps}
    blocks = irreps.sort().simplify()
    assert all(first.ir < second.ir and first.mul for first, second in pairwise(blocks))


@given(IRREP, IRREP)
def test_the_product_of_two_has_all_their_dimensions(left: Irrep, right: Irrep) -> None:
    found = left * right
    assert sum(ir.dim for ir in found) == left.dim * right.dim
    assert {ir.p for ir in found} == {left.p * right.p}
    assert [ir.l for ir in found] == sorted({ir.l for ir in found})
    assert found == right * left


@given(IRREPS, IRREPS)
def test_the_product_of_many_has_all_their_dimensions(left: Irreps, right: Irreps) -> None:
    whole = left.tensor_product(right)
    assert whole.dim == left.dim * right.dim
    assert whole == right.tensor_product(left)


def test_paths_are_the_selection_rules() -> None:
    left, right, out = Irreps("0e+2x1o+0x1e"), Irreps("1o+1e"), Irreps("0e+1o+1e+0x2e")
    found = {(path.left, path.right, str(path.ir)) for path in left.paths(right, out)}
    expected = {
        (i, j, str(c.ir))
        for (i, a), (j, b), c in product(enumerate(left), enumerate(right), out)
        if abs(a.ir.l - b.ir.l) <= c.ir.l <= a.ir.l + b.ir.l and a.ir.p * b.ir.p == c.ir.p and a.mul and b.mul and c.mul
    }
    assert found == expected
    assert len(left.paths(right)) == 2 + 6


def test_objects_of_other_libraries_are_taken_by_what_they_have() -> None:
    theirs = SimpleNamespace(l=2, p=-1)
    assert Irrep(theirs) == Irrep("2o")
    assert Irreps(theirs) == Irreps("2o")
    assert Irreps([(3, theirs), theirs]) == Irreps("3x2o+2o")


def test_e3nn_is_asked_for_only_when_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "e3nn", None)
    monkeypatch.setitem(sys.modules, "e3nn.o3", None)
    with pytest.raises(MissingExtra, match="pip install e3nn"):
        Irreps("1o").to_e3nn()


@pytest.mark.peer
def test_e3nn_there_and_back() -> None:
    o3 = pytest.importorskip("e3nn.o3")
    for text in ("", "3x1o+0x0e+1o+2e", "0e+0o+1e+1o"):
        ours, theirs = Irreps(text), o3.Irreps(text)
        assert ours.to_e3nn() == theirs
        assert Irreps(theirs) == Irreps(str(theirs)) == ours
        assert str(ours.sort()) == str(theirs.sort().irreps)


def test_cuequivariance_is_asked_for_only_when_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuequivariance", None)
    with pytest.raises(MissingExtra, match="pip install cuequivariance"):
        Irreps("1o").to_cuequivariance()


@pytest.mark.peer
def test_cuequivariance_there_and_back() -> None:
    cue = pytest.importorskip("cuequivariance")
    for text in ("", "3x1o+0x0e+1o+2e", "0e+0o+1e+1o"):
        ours, theirs = Irreps(text), cue.Irreps("O3", text)
        assert ours.to_cuequivariance() == theirs
        assert Irreps(theirs) == ours
    assert Irrep(cue.O3(l=2, p=-1)) == Irrep("2o")
    for without in (cue.Irreps("SO3", "2x1"), cue.Irreps("SU2", "1/2")):
        with pytest.raises(TenfoldError, match="has no parity: write '1o' or '1e'"):
            Irreps(without)


@pytest.mark.peer
def test_cuequivariance_has_these_layouts_and_this_basis() -> None:
    cue = pytest.importorskip("cuequivariance")
    assert {cue.mul_ir.name, cue.ir_mul.name} == set(LAYOUTS)
    # A block of two vectors as their layout has it: the shape of its axes.
    assert cue.ir_mul.shape(cue.Irreps("O3", "2x1o")[0]) == (3, 2)
    vector = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
    turn = torch.linalg.matrix_exp(torch.einsum("a,aij->ij", vector, torch.tensor(cue.O3(l=1, p=-1).X)))
    for degree in range(1, 5):
        generators = torch.tensor(cue.O3(l=degree, p=1).X)
        theirs = torch.linalg.matrix_exp(torch.einsum("a,aij->ij", vector, generators))
        torch.testing.assert_close(wigner_d(degree, turn), theirs, rtol=0, atol=1e-14)
    (values,) = cue.descriptors.spherical_harmonics(cue.O3(1, -1), [0, 1, 2, 3])(vector.numpy())
    ours = spherical_harmonics(range(4), vector, normalize=False, normalization="component")
    torch.testing.assert_close(ours, torch.tensor(values), rtol=0, atol=1e-14)
