"""The claims about searches that breed structures measure what they say: what is planted, who is granted what."""

from __future__ import annotations

import pytest
import torch

from tenfold.claims import _tensors, search_map
from tenfold.claims._searches import planted_graph, searched
from tenfold.claims.search_genetic import search_genetic
from tenfold.structure_search import Chain, FullyConnected


def test_planted_graphs_are_connected_and_exact() -> None:
    graphs = set()
    for seed in range(12):
        target, space, size = planted_graph(seed)
        assert isinstance(space, FullyConnected)
        assert target.shape == space.shape == (3,) * 5
        # Five bonds of two: on five cores of three that is a tree and one edge more.
        assert 3 * 2**2 * 5 <= size <= 3 * 2**4 + 4 * 3 * 2**2
        # Every way to part the modes cuts a bond: no flattening has rank one.
        for mask in range(1, 16):
            rows = [mode for mode in range(5) if mask >> mode & 1]
            matrix = target.data.movedim(rows, list(range(len(rows)))).reshape(3 ** len(rows), -1)
            assert int(torch.linalg.matrix_rank(matrix, rtol=1e-10)) >= 2
        graphs.add(float(target.data.norm()))
    assert len(graphs) == 12


def test_searches_for_graphs_are_counted() -> None:
    run = searched("random_search", 1, 5, planted_graph)
    assert run.counted == 5
    assert run.fits <= 5


def test_a_map_is_granted_as_much_as_random_structures() -> None:
    data = _tensors.photograph(9).reshape((3,) * 4)
    space = Chain((3,) * 4, max_rank=4)
    asked = [search_map._bred(data, space, 0, 24), search_map._drawn(data, space, 0, 24)]
    for archive in asked:
        assert 1 <= len(archive) <= 24
        assert all(one.finished and one.parameters <= 81 for _, one in archive)


@pytest.mark.slow
def test_the_genetic_search_finds_what_random_draws_miss() -> None:
    found = search_genetic(seeds=4)
    assert found.numbers["found"] > found.numbers["found_at_random"]
