"""The factor match score: a value between 0 and 1 with the right partner for each component."""

import pytest
import torch

from tenfold import components, formats
from tenfold.errors import StructureError
from tenfold.network import Network

STRUCTURE = formats.cp((7, 6, 5), 3)


def test_partners_are_found_through_a_permutation():
    network = Network.random(STRUCTURE, seed=0)
    other = network.replace([core[:, [2, 0, 1]] for core in network.cores])
    match = components.factor_match_score(network, other)
    assert match.permutation == (1, 2, 0)
    assert match.scores == pytest.approx((1, 1, 1))
    assert components.factor_match_score(components.canonical(network), other).score == pytest.approx(1)


def test_the_score_is_that_of_its_definition():
    a = torch.eye(3, dtype=torch.float64)[:, :1]
    b = torch.tensor([[0.8], [0.6], [0.0]], dtype=torch.float64)
    structure = formats.cp((3, 3, 3), 1)
    first, second = Network(structure, [2 * a, a, a]), Network(structure, [b, a, b])
    assert components.factor_match_score(first, second, weights=False).score == pytest.approx(0.64)
    assert components.factor_match_score(first, second).score == pytest.approx(0.64 * 0.5)


def test_a_component_and_its_negative_agree_only_without_weights():
    network = Network.random(STRUCTURE, seed=0)
    negative = network.replace([-network.cores[0], *network.cores[1:]])
    assert components.factor_match_score(network, negative, weights=False).score == pytest.approx(1)
    assert components.factor_match_score(network, negative).score == 0


def test_unrelated_components_score_low_and_close_ones_high():
    scores = [
        components.factor_match_score(Network.random(formats.cp((40, 40, 40), 3), seed=s),
                                      Network.random(formats.cp((40, 40, 40), 3), seed=100 + s)).score
        for s in range(5)
    ]  # fmt: skip
    assert max(scores) < 0.1
    network = Network.random(STRUCTURE, seed=0)
    noise = Network.random(STRUCTURE, seed=1)
    near = network.replace([c + 0.01 * n for c, n in zip(network.cores, noise.cores, strict=True)])
    assert 0.95 < components.factor_match_score(network, near).score < 1


def test_other_ranks_match_the_smaller_one():
    network = Network.random(STRUCTURE, seed=0)
    fewer = Network(formats.cp((7, 6, 5), 2), [core[:, :2] for core in network.cores])
    match = components.factor_match_score(network, fewer)
    assert match.permutation == (0, 1, -1)
    assert match.score == pytest.approx(1)
    assert components.factor_match_score(fewer, network).permutation == (0, 1)


def test_complex_phases_play_no_role():
    network = Network.random(STRUCTURE, seed=0, dtype=torch.complex128)
    turned = network.replace([network.cores[0] * 1j, network.cores[1] * -1j, network.cores[2]])
    assert components.factor_match_score(network, turned).score == pytest.approx(1)
    real = Network.random(STRUCTURE, seed=0)
    assert components.factor_match_score(real, real.to(torch.complex128)).score == pytest.approx(1)
    assert components.factor_match_score(real.to(torch.complex128), real).score == pytest.approx(1)


def test_other_shapes_are_refused():
    with pytest.raises(StructureError, match="match fits of one array"):
        components.factor_match_score(Network.random(STRUCTURE), Network.random(formats.cp((7, 6, 4), 3)))
