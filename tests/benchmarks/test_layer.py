"""A layer of a network trained on real spectra: what is searched by its outputs keeps doing what it did."""

from __future__ import annotations

import warnings

import pytest
import torch

from benchmarks.layer import Trained, searched, trained
from tenfold.network import Network
from tenfold.structure import Structure
from tenfold.structure_search import Dense, Loss, Point, Ring

SPACE = Ring((64, 100), folds=((8, 8), (10, 10)), max_rank=8)


@pytest.fixture(scope="module")
def network() -> Trained:
    return trained()


def test_the_loss_is_that_of_the_outputs(network: Trained) -> None:
    structure = Structure("o a, a i -> o i", o=64, i=100, a=3)
    other = Network.random(structure, seed=0)
    wanted, got = (network.inputs @ weight.T for weight in (network.weight, other.dense()))
    assert float(network.loss(other)) == pytest.approx(float((got - wanted).norm() / wanted.norm()), rel=1e-9)


def test_the_network_tells_something_of_pixels_it_has_not_seen(network: Trained) -> None:
    assert network.explained(network.weight) > 0.85
    assert network.explained(0 * network.weight) < 0.1


def test_a_tenth_of_the_weights_does_what_all_do(network: Trained) -> None:
    """One structure with one weight in ten, by the outputs and by the weight."""
    structure = SPACE.structure(Point((4, 4, 4, 4), (0, 2, 1, 3)))
    assert structure.parameters == 576
    by_loss = Loss(network.loss, (64, 100)).fit(structure).network
    by_weight = Dense(network.weight).fit(structure).network
    assert float(network.loss(by_loss)) < 0.6 * float(network.loss(by_weight))
    whole, kept, left = (network.explained(weight) for weight in (network.weight, by_loss.dense(), by_weight.dense()))
    assert kept > left
    assert whole - kept < 0.5 * (whole - left)


def test_searches_for_a_layer_stay_within_the_size(network: Trained) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = searched(network, 640, 4, method="random_search", max_rank=4)
    for one in found:
        assert one.shape == (64, 100)
    assert found[0].of_loss
    assert found[0].error == pytest.approx(float(network.loss(found[0].network)), rel=1e-6)
    assert found[1].error == pytest.approx(
        float(torch.linalg.norm(found[1].network.dense() - network.weight) / torch.linalg.norm(network.weight)),
        rel=1e-6,
    )
