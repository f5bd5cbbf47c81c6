"""Products chosen by name, by need, and by measuring."""

from __future__ import annotations

import importlib
import time

import pytest
import torch

from tenfold.errors import TenfoldError
from tenfold.so3 import Irreps, advise, tensor_product
from tenfold.so3.freedom import interactability
from tenfold.so3.products import ClebschGordan, Unsuited, product_methods

SIGNAL = "3x0e+3x1o+3x2e"


@pytest.mark.parametrize("name", product_methods())
def test_each_method_by_its_name(name: str) -> None:
    # Matrices are irreps of one parity; the bracket of two functions changes sign under the inversion.
    irreps = "3x0e+3x1e+3x2e" if name in ("cartesian_matrix", "matrix") else SIGNAL
    out = "3x0o+3x1e+3x2o" if name == "poisson" else irreps
    product = tensor_product(irreps, irreps, out, method=name, layout="ir_mul")
    features = torch.randn(2, 4, 27, generator=torch.Generator().manual_seed(0))
    weight = product.random_weight() if product.weight_numel else None
    assert product(features[0], features[1], weight).shape == (4, 27)
    assert product.irreps_out == Irreps(out)


def test_the_choice_keeps_what_is_asked_for() -> None:
    small, large = SIGNAL, Irreps([(3, block.ir) for block in Irreps.harmonics(8)])
    assert isinstance(tensor_product(small, small, small), ClebschGordan)
    single = Irreps([(1, block.ir) for block in large])
    everything = tensor_product(single, single, single)
    assert len(interactability(everything)) == len(single.paths(single, single))
    # A cross product needs paths of an odd sum: harmonics of both parities have them, and the choice keeps them.
    both = "0e+1o+1e+2e"
    assert len(interactability(tensor_product(both, both, both))) == len(Irreps(both).paths(both, both))
    assert not isinstance(tensor_product(large, large, large, paths="even"), ClebschGordan)


def test_what_is_no_function_on_the_sphere_has_a_product_too() -> None:
    irreps = "2x0e+2x6e+2x6e"
    assert isinstance(tensor_product(irreps, irreps, irreps), ClebschGordan)


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(TenfoldError, match=r"method 'gaunt' is not known; there are .*gaunt_grid"):
        tensor_product(SIGNAL, SIGNAL, SIGNAL, method="gaunt")
    with pytest.raises(TenfoldError, match="paths must be 'all' or 'even', not 'odd'"):
        tensor_product(SIGNAL, SIGNAL, SIGNAL, paths="odd")
    with pytest.raises(Unsuited, match="no function on the sphere"):
        tensor_product("2x1e+2x1o", "2x1e+2x1o", "2x1o", method="gaunt_grid")


def test_advice_is_a_table_of_what_was_measured() -> None:
    advice = advise("0e+1o", "0e+1o", "0e+1o", batch=5, channels=2)
    rows = {row.method: row for row in advice.rows}
    assert rows.keys() == product_methods().keys()
    assert advice.paths == 4
    exact = rows["clebsch_gordan"]
    assert (exact.paths, exact.freedom) == (4, 4)
    # No path of these has an odd sum, so functions on the sphere lack none, but their weights are factors of degrees.
    assert (rows["gaunt_grid"].paths, rows["gaunt_grid"].freedom) == (4, 4)
    assert 0 < exact.seconds < exact.gradient_seconds
    assert rows[advice.complete].paths == 4
    assert rows[advice.freest].freedom == 4
    last = repr(advice).splitlines()[-3:]
    assert last[0] == f"paths: which of the 4 triples of these irreps meet; fastest with all of them: {advice.complete}"
    assert last[1].endswith(f"fastest with most: {advice.freest}")
    assert last[2].endswith(f": {advice.fastest}")
    # Weights that are factors of degrees reach less than one for each path where there are more paths than factors.
    larger = advise("0e+1o+2e", "0e+1o+2e", "0e+1o+2e", batch=2, channels=1)
    freedoms = {row.method: row.freedom for row in larger.rows}
    assert (freedoms["gaunt_grid"], freedoms["clebsch_gordan"], larger.freest) == (7, 11, "clebsch_gordan")
    lacking = advise("0e+1e", "0e+1e", "0e+1e", batch=5, channels=2)
    refused = {row.method for row in lacking.rows if row.refused}
    assert "gaunt_grid" in refused
    assert "gaunt_grid: not here" in repr(lacking)


def test_advice_needs_irreps_and_rows() -> None:
    with pytest.raises(TenfoldError, match="irreps_in2 must have at least one irrep"):
        advise("0e", "", "0e")
    with pytest.raises(TenfoldError, match="batch must be a whole number of at least 1"):
        advise("0e", "0e", "0e", batch=0)


def test_what_compiling_takes_is_not_part_of_the_time(monkeypatch):
    module = importlib.import_module("tenfold.so3.advise")
    monkeypatch.setattr(module, "_LONG", 0.2)
    calls = []

    def work():
        calls.append(None)
        time.sleep(0.3 if len(calls) == 1 else 0)

    assert module._median(work, torch.device("cpu")) < 0.2
    assert len(calls) > 1
