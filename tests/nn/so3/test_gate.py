"""The gate against its definition and against e3nn's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.errors import EquivarianceError, TenfoldError
from tenfold.nn.so3 import Gate
from tenfold.so3 import Irrep, Irreps, relayout

SCALARS = st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["0e", "0o"])), max_size=3).map(Irreps)
GATED = st.lists(
    st.tuples(st.integers(1, 3), st.builds(Irrep, st.integers(0, 3), st.sampled_from([1, -1]))), max_size=3
).map(Irreps)


def arguments(scalars: Irreps, gated: Irreps, odd: int) -> tuple:
    """Arguments of a gate: sigmoids for even scalars, tangents for odd; some gates odd."""
    odd = min(odd, gated.num_irreps)
    gates = Irreps([(odd, "0o"), (gated.num_irreps - odd, "0e")]).simplify()

    def functions(irreps: Irreps) -> list:
        return [torch.tanh if block.ir.p < 0 else torch.sigmoid for block in irreps]

    return scalars, functions(scalars), gates, functions(gates), gated


def test_scalars_pass_and_the_rest_is_multiplied() -> None:
    gate = Gate("2x0e", torch.sigmoid, "3x0e", torch.sigmoid, "2x1o+1x2e", normalize=False)
    assert gate.irreps_in == Irreps("5x0e+2x1o+1x2e")
    assert gate.irreps_out == Irreps("2x0e+2x1o+1x2e")
    x = torch.randn(4, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scale = torch.sigmoid(x[:, 2:5])
    vectors = x[:, 5:11].reshape(4, 2, 3) * scale[:, :2, None]
    expected = torch.cat([torch.sigmoid(x[:, :2]), vectors.flatten(1), x[:, 11:] * scale[:, 2:]], dim=-1)
    torch.testing.assert_close(gate(x), expected, rtol=0, atol=1e-15)


def test_odd_gates_change_the_parity_of_their_part() -> None:
    gate = Gate("", torch.tanh, "1x0o+2x0e", [torch.tanh, torch.tanh], "2x1o+2e")
    assert gate.irreps_out == Irreps("1x1e+1x1o+1x2e")
    assert Gate("", torch.tanh, "2x0o", torch.abs, "2x1o").irreps_out == Irreps("2x1o")


def test_what_cannot_gate_is_told() -> None:
    with pytest.raises(TenfoldError, match="gates must be as many as the 3 of '3x1o', not 2"):
        Gate("0e", torch.tanh, "2x0e", torch.tanh, "3x1o")
    with pytest.raises(TenfoldError, match="scalars must be of degree 0, not '1x1o'"):
        Gate("1o", torch.tanh, "", torch.tanh, "")
    with pytest.raises(TenfoldError, match="gates must be of degree 0, not '1x1e'"):
        Gate("0e", torch.tanh, "1e", torch.tanh, "1o")
    with pytest.raises(EquivarianceError, match="odd and even functions only"):
        Gate("0e", torch.tanh, "0o", torch.sigmoid, "1o")


@pytest.mark.peer
@settings(max_examples=12)
@given(SCALARS, GATED, st.integers(0, 4), st.sampled_from(["mul_ir", "ir_mul"]), st.integers(0, 2**20))
def test_results_are_those_of_e3nn(scalars: Irreps, gated: Irreps, odd: int, layout: str, seed: int) -> None:
    e3nn = pytest.importorskip("e3nn.nn")
    if not scalars.num_irreps + gated.num_irreps:
        return
    scalars, first, gates, second, gated = arguments(scalars, gated, odd)
    theirs = e3nn.Gate(str(scalars), first, str(gates), second, str(gated))
    # Their factors are means of a million random numbers.
    given_first = [lambda x, a=act: a.f(x) * a.cst for act in theirs.act_scalars.acts]
    given_second = [lambda x, a=act: a.f(x) * a.cst for act in theirs.act_gates.acts]
    gate = Gate(scalars, first, gates, second, gated, layout=layout)
    plain = Gate(scalars, given_first, gates, given_second, gated, normalize=False, layout=layout)
    assert gate.irreps_in == Irreps(theirs.irreps_in)
    assert gate.irreps_out.simplify() == Irreps(theirs.irreps_out).simplify()
    x = torch.randn(3, gate.irreps_in.dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    turned = relayout(x, gate.irreps_in, "mul_ir", layout)
    found = relayout(plain(turned), gate.irreps_out, layout, "mul_ir")
    torch.testing.assert_close(found, theirs.double()(x), rtol=0, atol=1e-12)
    found = relayout(gate(turned), gate.irreps_out, layout, "mul_ir")
    torch.testing.assert_close(found, theirs.double()(x), rtol=1e-2, atol=1e-12)
