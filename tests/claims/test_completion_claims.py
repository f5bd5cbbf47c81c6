"""The claims about completion measure what they say: small runs."""

from __future__ import annotations

from tenfold.claims.altmin_nearly_linear import altmin_nearly_linear, completed
from tenfold.claims.dynamic_mri_phantom import dynamic_mri_phantom
from tenfold.claims.sensing_rates import sensing_rates
from tenfold.claims.sensing_rebalanced import sensing_rebalanced


def test_a_matrix_is_completed_to_the_residual_asked_for() -> None:
    run = completed(400, 3, "cg", 0)
    assert run.work == 400 * 36 * 3  # ceil(2 k ln n) entries in each row
    assert run.unseen < 1e-5
    assert 3 < run.sweeps < 40


def test_times_are_told_for_rows_and_ranks() -> None:
    found = altmin_nearly_linear(largest=4_000, highest=8)
    assert {f"{solver}: exponent" for solver in ("exact", "cg", "sketched")} <= set(found.numbers)
    assert found.text.startswith(
        "1,000 rows at rank 4, 4,000 rows at rank 4, 2,000 rows at rank 4, 2,000 rows at rank 8"
    )


def test_balanced_factors_on_one_draw() -> None:
    assert sensing_rebalanced(seeds=1).holds


def test_rates_on_one_draw() -> None:
    found = sensing_rates(seeds=1)
    assert found.holds
    assert -1.15 < float(found.numbers["draw 0: power"] or 0) < -0.85


def test_a_small_phantom() -> None:
    found = dynamic_mri_phantom(size=32, frames=8, steps=60)
    assert float(found.numbers["both, 3 times"] or 0) > float(found.numbers["zero-filled"] or 0) + 3
    assert len(found.numbers) == 10
