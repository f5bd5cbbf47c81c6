"""The room finds its claims, and a claim says what was measured, kept to or not."""

from __future__ import annotations

import json
import pkgutil

import pytest

import tenfold.claims
from tenfold.claims import Claim, Measurement, claim, registry


def test_every_public_module_registers_its_claim() -> None:
    modules = {m.name for m in pkgutil.iter_modules(tenfold.claims.__path__) if not m.name.startswith("_")}
    assert set(registry()) == modules - {"papers"}


def test_a_claim_states_its_paper() -> None:
    for name, known in registry().items():
        assert known.name == name
        assert 1900 < known.year < 2100
        assert known.paper
        assert known.where
        assert known.stated.endswith(".")
        assert "Hold" in (known.function.__doc__ or ""), f"{name} does not say what decides"


def test_a_claim_that_fails_says_so() -> None:
    def no(*, seed: int = 0) -> Measurement:
        return Measurement(False, f"2 is not below 1\nseed {seed}", {"found": 2})

    result = Claim("small", "On numbers", 1999, "Theorem 1", "Two is below one.", no).measure(seed=3)
    assert not result.holds
    assert str(result).startswith("small: does not hold")
    assert "On numbers, 1999 (Theorem 1)" in str(result)
    assert "seed 3" in str(result)
    plain = json.loads(json.dumps(result.summary()))
    assert plain["holds"] is False
    assert plain["numbers"] == {"found": 2}
    assert plain["seconds"] >= 0


def test_a_name_belongs_to_one_claim() -> None:
    assert "tt_svd_bound" in registry()
    with pytest.raises(ValueError, match="'tt_svd_bound' is registered already"):

        @claim("tt_svd_bound", paper="Another", year=2000, where="", stated="")
        def another(*, seed: int = 0) -> Measurement:
            raise AssertionError
