"""Every layer on every pair of structures: it tells apart what it must, and nothing that it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.expressivity import (
    CHAINS,
    CONVOLUTIONS,
    Network,
    chain_row,
    neighbourhoods,
    networks,
    scalars_of,
    tables,
)
from tenfold.so3 import expressivity

PAGE = Path(__file__).parents[2] / "docs" / "nn.md"
QUICK = ("GauntConvolution, 3 layers", "`clebsch_gordan` twice", "`gaunt_grid` three times", "GridPower of 2")


def agrees(network: Network) -> None:
    """What a network can know of and no more: so many neighbours, up to a degree, with a hand or without."""
    found = expressivity.suite(scalars_of(network), neighbourhoods(), seeds=2)
    assert found.sound
    for pair in neighbourhoods():
        assert found.separated[pair.name] == (network.reason(pair) == ""), (pair.name, network.reason(pair), str(found))


@pytest.mark.parametrize("network", [n for n in networks() if n.name in QUICK], ids=lambda network: network.name)
def test_a_few_layers(network: Network) -> None:
    agrees(network)


@pytest.mark.slow
@pytest.mark.parametrize("network", networks(), ids=lambda network: f"{network.name} {network.degree}")
def test_every_layer(network: Network) -> None:
    agrees(network)


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_chains_take_half_their_length_in_layers(kind: str) -> None:
    for layers in (1, 2, 3):
        assert chain_row(kind, 1, layers, seeds=1) == tuple(layers > length // 2 for length in CHAINS)


def test_chains_look_alike_to_invariant_messages() -> None:
    assert not any(chain_row("ClebschGordanConvolution", 0, max(CHAINS), seeds=1))


def test_the_quick_layers_are_among_all() -> None:
    assert {network.name for network in networks()} >= set(QUICK)


@pytest.mark.slow
def test_the_documentation_shows_what_layers_tell_apart() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for table in tables().split("\n\n"):
        assert table.strip() in page
