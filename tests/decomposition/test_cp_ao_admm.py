"""cp_ao_admm: constraints hold on the result, the objective falls, planted factors, what is refused."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from decomposition.test_constraints import allowed
from hypothesis import given, settings
from hypothesis import strategies as st

import tenfold as tn
from tenfold import formats
from tenfold.claims.cp_recovery import match
from tenfold.decomposition import constraints as c
from tenfold.decomposition._arrays import whole_array
from tenfold.decomposition._two_groups import TwoGroups
from tenfold.decomposition.cp_ao_admm import Model, Problem, cp_ao_admm
from tenfold.decomposition.cp_hals import cp_hals
from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.network import Network
from tenfold.structure import Structure

ALL = [
    c.Nonnegative(),
    c.L1(0.02),
    c.L1(0.02, nonnegative=True),
    c.Simplex(),
    c.Box(0.1, 0.9),
    c.L2Ball(1.5),
    c.L2Ball(1.5, nonnegative=True),
    c.Smooth(0.05),
    c.Smooth(0.05, nonnegative=True),
    c.Monotone(),
    c.Monotone(increasing=False, nonnegative=True),
    c.Unimodal(),
    c.Unimodal(nonnegative=True),
    c.Sparse(3),
    c.Sparse(3, nonnegative=True),
    c.GroupLasso(0.02),
]


def positive(shape: tuple[int, ...], rank: int, seed: int = 0) -> Network:
    generator = torch.Generator().manual_seed(seed)
    return Network(
        formats.cp(shape, rank), [torch.rand(n, rank, generator=generator, dtype=torch.float64) for n in shape]
    )


def noisy(network: Network, level: float, seed: int = 0) -> torch.Tensor:
    signal = network.dense()
    noise = torch.randn(signal.shape, generator=torch.Generator().manual_seed(seed), dtype=signal.dtype)
    return signal + level * signal.norm() / noise.norm() * noise


def true_error(data: torch.Tensor, network: Network) -> float:
    return float(torch.linalg.vector_norm(data - network.dense()) / torch.linalg.vector_norm(data))


@pytest.mark.parametrize("constraint", ALL, ids=str)
@pytest.mark.parametrize("mode", [0, 2])
def test_each_constraint_holds_and_the_error_is_true(constraint, mode):
    data = noisy(positive((8, 9, 10), 3), 0.2)
    result = cp_ao_admm(data, formats.cp(data.shape, 3), constraints={mode: constraint}, max_sweeps=20)
    assert allowed(constraint, result.network.cores[mode].T)
    assert result.error == pytest.approx(true_error(data, result.network), rel=1e-9)
    assert result.error < 0.8
    if not constraint.degree:
        assert all(b <= a for a, b in pairwise(result.errors))


@settings(max_examples=12, deadline=None)
@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    rank=st.integers(1, 7),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    picked=st.lists(st.sampled_from([None, *ALL]), min_size=4, max_size=4),
)
def test_any_mixture_holds_and_its_objective_falls(shape, rank, seed, dtype, picked):
    data = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    structure = formats.cp(shape, rank)
    chosen = dict(enumerate(picked[: len(shape)]))
    given = {mode: constraint for mode, constraint in chosen.items() if constraint is not None}
    result = cp_ao_admm(data, structure, constraints=given, max_sweeps=10)
    for mode, constraint in given.items():
        assert allowed(constraint, result.network.cores[mode].T, 1e-5 if dtype == torch.float32 else 1e-12)
    assert all(torch.isfinite(core).all() for core in result.network.cores)
    # Every plain sweep lowers the objective.
    whole = whole_array(data, structure, "test")
    constraints = [*chosen.values()] + [None] * (max(len(shape), 2) - len(shape))
    tensor = whole.tensor if len(shape) > 1 else whole.tensor[:, None]
    problem = Problem(TwoGroups.of(tensor), Model.of(constraints, whole), torch.Generator().manual_seed(0))
    state = problem.begin([torch.rand(rank, n, dtype=dtype) for n in tensor.shape])
    objectives = []
    for _ in range(6):
        state, objective, _ = problem.sweep(state)
        objectives.append(objective)
    slack = 1e-9 if dtype == torch.float64 else 1e-4
    assert all(b <= a * (1 + slack) + slack for a, b in pairwise(objectives))


def test_without_constraints_it_is_least_squares_and_nonnegative_is_hals():
    planted = positive((12, 13, 14), 3)
    data = noisy(planted, 0.05)
    plain = cp_ao_admm(data, planted.structure, tol=1e-10)
    exact = cp_ao_admm(planted.dense(), planted.structure, tol=1e-12)
    assert exact.error < 1e-6
    assert match(planted, exact.network) > 0.9999
    assert plain.error < true_error(data, planted)
    mine = cp_ao_admm(data, planted.structure, constraints="nonnegative", tol=1e-10)
    hals = cp_hals(data, planted.structure, tol=1e-10)
    assert mine.error == pytest.approx(hals.error, rel=1e-5)
    assert match(planted, mine.network) > 0.99


@pytest.mark.parametrize("seed", range(3))
def test_planted_shapes_are_found(seed):
    time = torch.linspace(0, 1, 40, dtype=torch.float64)
    bumps = torch.stack([torch.exp(-(((time - centre) / 0.1) ** 2)) for centre in (0.2, 0.5, 0.8)], 1)
    first, second, _ = positive((15, 16, 40), 3, seed).cores
    planted = Network(formats.cp((15, 16, 40), 3), [first, second / second.sum(0), bumps])
    data = noisy(planted, 0.2, seed)
    result = cp_ao_admm(
        data,
        planted.structure,
        seed=seed,
        constraints={"i": "nonnegative", "j": "simplex", "k": "unimodal+nonnegative"},
    )
    assert match(planted, result.network) > 0.98
    torch.testing.assert_close(result.network.cores[1].sum(0), torch.ones(3, dtype=torch.float64))


def test_a_weight_that_no_system_can_hold_is_named():
    data = torch.randn(6, 7, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for text in ("smooth:1e30", "smooth:1e30+nonnegative"):
        with pytest.raises(TenfoldError, match=r"smooth has weight 1e\+30, too large for this data"):
            cp_ao_admm(data, formats.cp((6, 7, 8), 2), constraints=text)


def test_smoothing_removes_noise_and_weights_do_not_depend_on_units():
    time = torch.linspace(0, 1, 60, dtype=torch.float64)
    waves = torch.stack([torch.sin(2 * math.pi * (time + 0.1)), torch.cos(4 * math.pi * time)], 1)
    first, second, _ = positive((10, 11, 60), 2).cores
    planted = Network(formats.cp((10, 11, 60), 2), [first, second, waves])
    data = noisy(planted, 1.0)
    rough = cp_ao_admm(data, planted.structure)
    smooth, larger = (
        cp_ao_admm(scale * data, planted.structure, constraints={"k": "smooth:1"}, tol=1e-10) for scale in (1, 1e6)
    )
    signal = planted.dense()
    assert true_error(signal, smooth.network) < 0.8 * true_error(signal, rough.network)
    # The starts and so the paths are others, the minimum is not.
    assert true_error(1e6 * smooth.network.dense(), larger.network) < 1e-4


def test_a_penalty_is_not_escaped_by_moving_the_scale():
    data = noisy(positive((10, 11, 12), 3), 0.1)
    weak, strong = (
        cp_ao_admm(data, formats.cp(data.shape, 3), constraints={"k": c.L1(weight)}, tol=1e-9)
        for weight in (1e-4, 0.05)
    )
    assert weak.error < strong.error < 1
    for result in (weak, strong):
        assert all((core.norm(dim=0) <= 1 + 1e-12).all() for core in result.network.cores[:2])


def test_names_of_modes_and_cores_of_other_structures():
    structure = Structure("r k, w[r], i r, j l r -> i (j k) l", i=4, j=3, k=5, l=2, r=2)
    cores = [
        torch.rand(core.shape, generator=torch.Generator().manual_seed(n)) for n, core in enumerate(structure.cores)
    ]
    data = noisy(Network(structure, [core.double() for core in cores]), 0.1)
    result = cp_ao_admm(data, structure, constraints={"k": "simplex", 0: "nonnegative", "2": "box:-1,1"})
    shares, _, amounts, levels = result.network.cores
    torch.testing.assert_close(shares.sum(1), torch.ones(2, dtype=torch.float64))
    assert (amounts >= 0).all()
    assert levels.abs().max() <= 1
    everywhere = cp_ao_admm(data, structure, constraints=c.Nonnegative())
    assert all((everywhere.network.cores[number] >= 0).all() for number in (0, 2, 3))


def test_init_seed_callback_and_error():
    planted = positive((8, 9, 10), 3)
    data = noisy(planted, 0.1)
    structure = planted.structure
    asked = {"i": "simplex", "j": "l1:0.01"}
    seen = []
    first = cp_ao_admm(
        data,
        structure,
        seed=3,
        constraints=asked,
        callback=lambda p: seen.append((p.error, true_error(data, p.network()))),
    )
    second = cp_ao_admm(data, structure, seed=3, constraints=asked)
    assert all(torch.equal(a, b) for a, b in zip(first.network.cores, second.network.cores, strict=True))
    assert tuple(error for error, _ in seen) == first.errors
    assert all(error == pytest.approx(true, rel=1e-6) for error, true in seen)
    again = cp_ao_admm(data, structure, init=first.network, constraints=asked, max_sweeps=1)
    assert again.error == pytest.approx(first.error, rel=1e-3)
    stopped = cp_ao_admm(data, structure, constraints=asked, error=0.5)
    assert stopped.stopped == "error"
    assert stopped.error <= 0.5


def test_zero_scale_and_refusals():
    planted = positive((6, 7, 8), 2)
    structure, data = planted.structure, noisy(planted, 0.1)
    for asked in (None, "nonnegative", {"i": "simplex"}, {"i": "smooth:1"}):
        result = cp_ao_admm(torch.zeros(6, 7, 8), structure, constraints=asked)
        assert result.error == 0
    asked = {"i": "simplex", "j": "box:0,1", "k": "nonnegative"}
    usual = cp_ao_admm(data, structure, constraints=asked)
    for scale in (1e-150, 1e150):
        result = cp_ao_admm(data * scale, structure, constraints=asked)
        assert result.error == pytest.approx(usual.error, rel=1e-3)
        assert allowed(c.Simplex(), result.network.cores[0].T)
        assert allowed(c.Box(0, 1), result.network.cores[1].T)
    with pytest.raises(DataError, match="out of range where the constraints bound every mode"):
        cp_ao_admm(data * 1e150, structure, constraints="box:0,1")
    with pytest.raises(DataError, match="NaN"):
        cp_ao_admm(torch.full((6, 7, 8), math.nan), structure)
    with pytest.raises(DataError, match="needs real numbers"):
        cp_ao_admm(data.to(torch.complex64), structure)
    with pytest.raises(StructureError, match="cp_ao_admm needs one inner index"):
        cp_ao_admm(data, formats.tucker((6, 7, 8), 2))
    with pytest.raises(StructureError, match="init has structure"):
        cp_ao_admm(data, structure, init=positive((6, 7, 8), 3))
    with pytest.raises(StructureError, match="constraints names index 'z'"):
        cp_ao_admm(data, structure, constraints={"z": "nonnegative"})
    with pytest.raises(TenfoldError, match="constraints has two for the mode of '0'"):
        cp_ao_admm(data, structure, constraints={"i": "nonnegative", 0: "simplex"})
    with pytest.raises(TenfoldError, match="constraints holds 3"):
        cp_ao_admm(data, structure, constraints={"i": 3})


def test_fit_passes_constraints_on_by_the_names_of_the_axes():
    data = noisy(positive((8, 9, 10), 2), 0.1).numpy()
    asked = {"time": "unimodal+nonnegative", "place": "simplex"}
    fit = tn.fit(data, "cp", ranks=2, dims=("place", "kind", "time"), method="cp_ao_admm", constraints=asked)
    assert fit.method == "cp_ao_admm"
    assert allowed(c.Simplex(), fit.network.cores[0].T)
    assert allowed(c.Unimodal(nonnegative=True), fit.network.cores[2].T)


@pytest.mark.parametrize("text", ["l2_ball:1e300", "simplex:1e200", "box:0,1e300", "box:-1e300,1", "l1:1e100"])
def test_constraints_out_of_range_are_refused(text: str) -> None:
    data = positive((6, 5, 4), 2).dense().float()
    with pytest.raises(TenfoldError, match=r"out of range for torch\.float32; give at most 1\.8e\+19"):
        cp_ao_admm(data, formats.cp((6, 5, 4), 2), constraints={0: text})
    unbounded = cp_ao_admm(data, formats.cp((6, 5, 4), 2), constraints={0: "box:0,inf"})
    assert unbounded.error < 1e-2
