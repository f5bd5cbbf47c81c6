"""Larger public data sets, read from the folder that TENFOLD_DATA names; skipped where there is none."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np

import tenfold as tn
from tenfold.claims._recorded_shapes import recorded
from tenfold.claims.core_shape_bound import beyond


def test_a_ring_in_shuffled_order_is_recovered(tenfold_data: Path) -> None:
    """A 3^6 tensor made as a ring that visits the modes as 0 3 2 1 4 5: from its bonds alone, from every seed."""
    with np.load(tenfold_data / "tnss" / "tnls_demo_data.npz") as file:
        tensor, bonds = file["goal"].astype(np.float64), file["adj_matrix"]
    ranks = {(a, b): int(bonds[a, b]) for a, b in combinations(range(6), 2) if bonds[a, b] > 1}
    structure = tn.formats.fully_connected(tensor.shape, ranks)
    assert tn.formats.name(structure) == "tensor_ring"
    assert structure.parameters == 126
    for seed in range(3):
        fit = tn.fit(tensor, structure, seed=seed, max_sweeps=300)
        assert fit.method == "tensor_ring_als"
        assert fit.error < 1e-6, "the data is in single precision"


def test_an_image_as_a_ring_of_order_eight(tenfold_data: Path) -> None:
    """256 x 256 grey levels as 4^8: ten sweeps at rank 4 leave at most 0.0490 of the squares."""
    with np.load(tenfold_data / "tnss" / "Image_B.npz") as file:
        image = file["goal"].astype(np.float64)
    fit = tn.fit(image, tn.formats.tensor_ring(image.shape, 4), max_sweeps=10)
    assert fit.parameters == 8 * 4 * 4 * 4
    assert fit.error**2 <= 0.0490


def test_air_pollution_is_predicted_from_few_observations(tenfold_data: Path) -> None:
    """At 9,563 of 313 million cells: what was left out is predicted three times better than by the mean."""
    with np.load(tenfold_data / "completion" / "beijing_pm25_428x501x1461.npz") as file:
        held = file["test_masks"][0]
        coordinates, values = file["idx"].astype(np.int64), file["y"].astype(np.float64)
        shape = tuple(int(n) for n in file["shape"])
    observations = tn.Observations.from_coo(coordinates[~held], values[~held], shape)
    fit = tn.fit(observations, parameters=8000)
    assert fit.parameters <= 8000
    assert fit.observed == 9563
    found = fit.network.at(coordinates[held]).numpy()
    ours, mean = (np.sqrt(np.mean((x - values[held]) ** 2)) for x in (found, values[~held].mean()))
    assert ours < 0.36
    assert mean > 1


def test_recorded_core_shapes_keep_to_budgets_and_bounds(tenfold_data: Path) -> None:
    """1730 core shapes that others chose, with the error each reached: sizes, budgets, and what the bounds promise."""
    rows = recorded()
    assert len(rows) == 1730
    assert len({(row.dataset, row.budget) for row in rows if row.way == "hosvd-brute-force"}) > 100
    assert beyond(rows) == 0
