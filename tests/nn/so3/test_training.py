"""Networks with each product are trained: what they can learn they learn, what they cannot tell apart they do not."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import molecule, tetris
from tenfold.so3 import assert_equivariant


def falls(losses: list[float]) -> bool:
    """Whether the last of them are below the first."""
    assert all(map(math.isfinite, losses))
    return sum(losses[-3:]) < 0.9 * sum(losses[:3])


def turns(trained: tetris.Trained) -> None:
    """Invariants stay, and the pseudoscalar changes sign under inversions alone."""
    network = copy.deepcopy(trained.network).double()
    positions = next(tetris.pieces(seed=5)).double()
    assert_equivariant(network, "1o", tetris.IRREPS_OUT, inputs=[positions], tol=1e-9)


def turns_molecule(trained: molecule.Trained, folder: Path) -> None:
    """Energies stay, forces turn."""
    potential = copy.deepcopy(trained.potential).double()
    positions = molecule.Frames.read(folder / "test_MD_300K.xyz", 2).positions.double()

    @torch.enable_grad()
    def found(positions: Tensor) -> tuple[Tensor, Tensor]:
        energies, forces = potential.with_forces(positions)
        return energies.detach()[:, None], forces.detach()

    assert_equivariant(found, "1o", ("0e", "1o"), inputs=[positions], tol=1e-9)


@pytest.fixture
def acac(tenfold_data: Path) -> Path:
    """The folder with frames of acetylacetone."""
    folder = tenfold_data / "3bpa" / "acac"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing: frames of acetylacetone are read from there")
    return folder


@pytest.mark.parametrize("method", ["ClebschGordanConvolution", "gaunt_poisson"])
def test_a_few_steps_on_tetris_pieces(method: str) -> None:
    trained = tetris.train(method, steps=8)
    assert falls(trained.losses)
    turns(trained)


@pytest.mark.slow
def test_a_few_steps_on_a_molecule(acac: Path) -> None:
    trained = molecule.train("SymmetricContraction", acac, steps=8, batch=2, frames=2, tests=2)
    assert falls(trained.losses)
    turns_molecule(trained, acac)


@pytest.mark.slow
@pytest.mark.parametrize("method", [method for method in tetris.METHODS if method not in tetris.WITHOUT_A_HAND])
def test_tetris_pieces_are_told_apart(method: str) -> None:
    trained = tetris.train(method)
    assert trained.accuracy() == 1.0
    turns(trained)
    # Mirrored, the two screws are taken for each other and every other piece for itself.
    positions = next(tetris.pieces(seed=7))
    with torch.no_grad():
        mirrored = tetris.logits(trained.network(-positions)).argmax(dim=1)
    assert mirrored.tolist() == [0, 1, 2, 3, 4, 5, 7, 6]


@pytest.mark.slow
@pytest.mark.parametrize("method", tetris.WITHOUT_A_HAND)
def test_mirror_images_look_alike_without_cross_products(method: str) -> None:
    trained = tetris.train(method, steps=150)
    assert 6 / 8 <= trained.accuracy() <= 7 / 8, "the other six are told apart"
    # Two of eight pieces in a tie: at best the loss is a quarter of log 2.
    bound = math.log(2) / 4
    assert bound - 1e-5 < min(trained.losses)
    assert trained.losses[-1] < bound + 0.05
    turns(trained)
    with torch.no_grad():
        found = copy.deepcopy(trained.network).double()(next(tetris.pieces(seed=7)).double())
    torch.testing.assert_close(found[6], found[7], rtol=0, atol=1e-4)
    assert float((found[5] - found[7]).abs().max()) > 1


@pytest.mark.slow
@pytest.mark.parametrize("method", molecule.METHODS)
def test_forces_of_a_molecule_are_learned(method: str, acac: Path) -> None:
    trained = molecule.train(method, acac)
    assert falls(trained.losses)
    assert trained.force_error < 0.4 * trained.no_force
    assert trained.energy_error < 0.6 * trained.mean_energy
    turns_molecule(trained, acac)
