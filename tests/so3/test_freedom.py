"""How many bilinear maps a product reaches, and between which irreps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tenfold.so3 import Irreps, wigner_3j
from tenfold.so3.freedom import Interaction, degrees_of_freedom, interactability
from tenfold.so3.products import Product
from tenfold.so3.products.gaunt_fourier import GauntFourier
from tenfold.so3.products.gaunt_grid import GauntGrid
from tenfold.so3.products.gaunt_poisson import GauntPoisson
from tenfold.so3.products.matrix import MatrixProduct
from tenfold.so3.products.vector_signal import VectorSignal


class EveryPath(Product):
    """A weight for each path and nothing else: the product that others are measured against."""

    def __init__(self, irreps_in1: Irreps, irreps_in2: Irreps, irreps_out: Irreps) -> None:
        self.paths = irreps_in1.paths(irreps_in2, irreps_out)
        super().__init__(irreps_in1, irreps_in2, irreps_out, layout="mul_ir", weight_numel=len(self.paths))

    def _product(self, left: Tensor, right: Tensor, weight: Tensor | None) -> Tensor:
        assert weight is not None
        out = left.new_zeros(len(left), self.irreps_out.dim)
        places = {block.ir: where for block, where in zip(self.irreps_out, self.irreps_out.slices(), strict=True)}
        for number, path in enumerate(self.paths):
            a, b = self.irreps_in1[path.left].ir, self.irreps_in2[path.right].ir
            first, second = left[:, self.irreps_in1.slices()[path.left]], right[:, self.irreps_in2.slices()[path.right]]
            made = torch.einsum("abc,na,nb->nc", wigner_3j(a.l, b.l, path.ir.l), first, second)
            added = torch.zeros_like(out)
            added[:, places[path.ir]] = weight[number] * made
            out = out + added
        return out


# Degrees of left, right and out: dimensions that degrees' factors reach, paths of an even sum, and all paths.
COUNTS = {(1, 1, 1): (4, 4, 5), (2, 2, 2): (7, 11, 15), (2, 2, 4): (9, 14, 19), (3, 3, 3): (10, 23, 34)}


@pytest.mark.parametrize("make", [GauntGrid, GauntFourier])
@pytest.mark.parametrize(("degrees", "counts"), COUNTS.items())
def test_weights_of_degrees_reach_two_less_than_their_number(make, degrees, counts) -> None:
    irreps = [Irreps.harmonics(degree) for degree in degrees]
    product = make(*irreps, weights="degree")
    assert degrees_of_freedom(product) == counts[0] == product.weight_numel - 2
    found = interactability(product)
    assert len(found) == counts[1]
    assert all((one.left.l + one.right.l + one.out.l) % 2 == 0 for one in found)


@pytest.mark.parametrize(("degrees", "counts"), COUNTS.items())
def test_a_weight_for_each_path_reaches_as_many_as_paths(degrees, counts) -> None:
    left, right, out = (Irreps.harmonics(degree) for degree in degrees)
    product = EveryPath(left, right, out)
    assert degrees_of_freedom(product) == counts[1] == len(interactability(product))
    every = Irreps([block.ir for block in Irreps([(1, (n, p)) for n in range(degrees[2] + 1) for p in (1, -1)])])
    product = EveryPath(left, right, every)
    assert degrees_of_freedom(product) == counts[2] == len(interactability(product))


def test_more_products_of_rank_one_reach_more_until_all_even_paths_are_free() -> None:
    irreps = Irreps.harmonics(2)
    found = [
        degrees_of_freedom(GauntGrid(irreps, irreps, irreps, weights="degree", rank=rank)) for rank in (1, 2, 3, 4)
    ]
    assert found[0] == 7
    assert found == sorted(found)
    assert found[-1] == 11


@pytest.mark.parametrize("make", [GauntPoisson, VectorSignal, MatrixProduct])
def test_complete_products_have_every_path(make) -> None:
    left, right, out = Irreps("0e+1o+2e"), Irreps("0e+1o+2e+3o"), Irreps("0e+1o+2e+1e+2o+3e+3o")
    expected = {Interaction(left[p.left].ir, right[p.right].ir, p.ir) for p in left.paths(right, out)}
    assert set(interactability(make(left, right, out))) == expected
    assert any((one.left.l + one.right.l + one.out.l) % 2 for one in expected)


def test_channels_count_each_for_itself_and_without_weights_there_is_nothing_to_reach() -> None:
    irreps = Irreps("3x0e+3x1o")
    for layout in ("mul_ir", "ir_mul"):
        product = GauntGrid(irreps, irreps, irreps, weights="degree", layout=layout)
        assert degrees_of_freedom(product) == 3 * 4
        assert [str(one) for one in interactability(product)] == [
            "0e x 0e -> 0e",
            "0e x 1o -> 1o",
            "1o x 0e -> 1o",
            "1o x 1o -> 0e",
        ]
    assert degrees_of_freedom(GauntGrid(irreps, irreps, irreps)) == 0
