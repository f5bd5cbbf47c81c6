"""Many starts at once: each is what `als` makes of it alone."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from strategies import structures

from tenfold import formats
from tenfold.decomposition import Progress, relative_error
from tenfold.decomposition._gauss_newton import GaussNewton
from tenfold.decomposition._sweep_program import _Compiler, program
from tenfold.decomposition.als import als
from tenfold.decomposition.many_starts import ManyStarts
from tenfold.errors import DataError, StructureError
from tenfold.network import Network
from tenfold.structure import Structure

RING = formats.tensor_ring((4, 3, 4, 3), ranks=(2, 3, 2, 2))
STRUCTURES = {
    "matrix": Structure("i a, a j -> i j", i=5, j=6, a=2),
    "train": formats.tensor_train((3, 4, 3, 4), ranks=(2, 3, 2)),
    "ring": RING,
    "cp": formats.cp((4, 5, 3), rank=3),
    "tucker": formats.tucker((4, 5, 3), ranks=(2, 2, 2)),
    "monarch": formats.monarch((3, 2), (2, 4)),
    "btt": formats.block_tensor_train((3, 2), (2, 4), rank=2),
    "kronecker": Structure("n a b, n c d -> (a c) (b d)", n=2, a=3, b=2, c=2, d=3),
    "apart": Structure("i a, j a, k -> i j k", i=3, j=3, k=4, a=2),
    "one core": Structure("i j -> j i", i=3, j=4),
}


def normal(structure: Structure, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(structure.shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def alone(data: torch.Tensor, start: Network, sweeps: int) -> list[tuple[float, torch.Tensor]]:
    """Error and tensor after each sweep of `als` from one start."""
    seen: list[tuple[float, torch.Tensor]] = []

    def note(progress: Progress) -> None:
        seen.append((progress.error, progress.network().dense()))

    # `als` takes the terms as they come, many starts in an order that saves products.
    first = start.structure
    order = program(first, data.is_complex()).order
    structure = Structure.of([first.terms[place] for place in order], first.outputs, first.sizes)
    cores = [start.cores[first.term_core[place]] for place in order]
    als(data, structure, init=Network(structure, cores), max_sweeps=sweeps, tol=0.0, callback=note)
    return seen


def same_as_als(data: torch.Tensor, starts: list[Network], sweeps: int, tolerance: float = 1e-8) -> None:
    many = ManyStarts(data, starts[0].structure, starts=0, init=starts)
    expected = [alone(data, start, sweeps) for start in starts]
    for sweep in range(sweeps):
        errors = many.sweep()
        for n, seen in enumerate(expected):
            if sweep < len(seen):
                error, tensor = seen[sweep]
                assert float(errors[n]) == pytest.approx(error, abs=tolerance)
                found = many.network(n).dense()
                assert float((found - tensor).norm()) <= tolerance * float(data.norm())


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_every_start_is_what_als_makes_of_it(name: str, dtype: torch.dtype) -> None:
    structure = STRUCTURES[name]
    starts = [Network.random(structure, seed=seed, dtype=dtype) for seed in range(3)]
    same_as_als(normal(structure, dtype), starts, 12)


@settings(max_examples=40, suppress_health_check=[HealthCheck.filter_too_much])
@given(structures(shared=False, scalars=False), st.integers(0, 99))
def test_every_start_of_any_structure_is_what_als_makes_of_it(structure: Structure, seed: int) -> None:
    assume(structure.output_indices)
    # Few sweeps: where a least-squares problem is singular, rounding chooses among its solutions.
    starts = [Network.random(structure, seed=seed + n) for n in range(2)]
    data = normal(structure, seed=seed)
    many = ManyStarts(data, structure, starts=0, init=starts)
    first = many.sweep()
    for n, start in enumerate(starts):
        assert float(first[n]) == pytest.approx(alone(data, start, 1)[0][0], abs=1e-6)


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("whole", [False, True])
def test_both_ways_to_the_same_sweep(name: str, whole: bool) -> None:
    structure = STRUCTURES[name]
    data = normal(structure)
    many = ManyStarts(data, structure, starts=3, seed=2)
    other = ManyStarts(data, structure, starts=3, seed=2)
    other._program = _Compiler(structure, False, whole, many._program.order).program
    for _ in range(5):
        assert torch.allclose(many.sweep(), other.sweep(), atol=1e-10)


@pytest.mark.parametrize("name", STRUCTURES)
def test_errors_never_grow_and_are_the_true_ones(name: str) -> None:
    structure = STRUCTURES[name]
    data = normal(structure)
    many = ManyStarts(data, structure, starts=4)
    assert torch.isinf(many.errors).all()
    before = many.sweep()
    for _ in range(25):
        errors = many.sweep()
        assert (errors <= before + 1e-12).all()
        before = errors
    for n in range(4):
        assert relative_error(data, many.network(n)) == pytest.approx(float(many.errors[n]), abs=1e-7)
    assert relative_error(data, many.best()) == pytest.approx(float(many.errors.min()), abs=1e-7)


def test_a_planted_ring_is_found_to_rounding() -> None:
    data = Network.random(RING, seed=4).dense()
    many = ManyStarts(data, RING, starts=8)
    for _ in range(150):
        many.sweep()
    assert float(many.errors.min()) < 1e-11
    assert relative_error(data, many.best()) < 1e-11


@pytest.mark.parametrize("scale", [1e150, 1e-150, 1e-300])
def test_data_of_any_scale(scale: float) -> None:
    data = Network.random(RING, seed=4).dense()
    plain, scaled = (ManyStarts(data * factor, RING, starts=4, seed=1) for factor in (1.0, scale))
    for _ in range(10):
        assert torch.allclose(plain.sweep(), scaled.sweep(), atol=1e-9)
    assert relative_error(data * scale, scaled.best()) == pytest.approx(float(scaled.errors.min()), abs=1e-8)


def test_starts_given_for_data_of_any_scale() -> None:
    start = Network.random(RING, seed=9)
    exact = start.dense()
    for scale in (1.0, 1e100, 1e-100):
        network = Network(RING, [core * scale**0.25 for core in start.cores])
        many = ManyStarts(exact * scale, RING, starts=0, init=[network])
        assert float(many.sweep().max()) < 1e-12


def test_single_precision_keeps_its_dtype() -> None:
    data = Network.random(RING, seed=4).dense().float()
    many = ManyStarts(data, RING, starts=8)
    for _ in range(80):
        many.sweep()
    best = many.best()
    assert best.dtype == torch.float32
    assert relative_error(data, best) < 1e-6


def test_a_zero_tensor() -> None:
    many = ManyStarts(torch.zeros(RING.shape), RING, starts=3)
    assert many.sweep().tolist() == [0.0, 0.0, 0.0]
    assert not many.best().dense().any()


def test_one_entry() -> None:
    structure = Structure("i a, a j -> i j", i=1, j=1, a=1)
    many = ManyStarts(torch.full((1, 1), -3.0), structure, starts=2)
    assert float(many.sweep().max()) < 1e-7
    assert float(many.best().dense()) == pytest.approx(-3)


def test_keep_goes_on_with_some() -> None:
    data = normal(RING)
    many, other = (ManyStarts(data, RING, starts=5, seed=3) for _ in range(2))
    many.sweep()
    other.sweep()
    many.keep([3, 1])
    assert torch.equal(many.errors, other.errors[[3, 1]])
    for _ in range(3):
        assert torch.allclose(many.sweep(), other.sweep()[[3, 1]], atol=1e-12)
    many.keep(torch.tensor([1]))
    assert relative_error(data, many.best()) == pytest.approx(float(other.errors[1]), abs=1e-8)


def test_starts_are_fixed_by_the_seed() -> None:
    data = normal(RING)
    a, b, c = (ManyStarts(data, RING, starts=2, seed=seed).sweep() for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_singular_problems_leave_the_others_alone() -> None:
    """A start of zeros is stuck; one of huge numbers and good ones beside it are not."""
    data = Network.random(RING, seed=4).dense()
    zero = Network(RING, [torch.zeros_like(core) for core in Network.random(RING).cores])
    huge = Network(RING, [core * 1e60 for core in Network.random(RING, seed=2).cores])
    good = Network.random(RING, seed=3)
    many = ManyStarts(data, RING, starts=0, init=[zero, huge, good])
    expected = alone(data, good, 8)
    for sweep in range(8):
        errors = many.sweep()
        assert float(errors[2]) == pytest.approx(expected[sweep][0], abs=1e-8)
    assert float(errors[0]) == pytest.approx(1)
    assert float(errors[1]) == math.inf  # its squares have overflowed
    assert int(errors.argmin()) == 2


def test_what_is_refused() -> None:
    data = normal(RING)
    with pytest.raises(DataError, match="data has shape"):
        ManyStarts(data[1:], RING, starts=1)
    with pytest.raises(StructureError, match="nothing to start from"):
        ManyStarts(data, RING, starts=0)
    with pytest.raises(StructureError, match="another structure"):
        ManyStarts(data, RING, starts=0, init=[Network.random(STRUCTURES["train"])])
    twice = Structure("U[i r], U[j r] -> i j", i=3, j=3, r=2)
    with pytest.raises(StructureError, match="uses a core twice"):
        ManyStarts(normal(twice), twice, starts=1)


def jacobian(network: Network) -> torch.Tensor:
    """Of the entries in all numbers of the network, by automatic differentiation."""
    structure = network.structure
    outer = structure.output_shape

    def entries(*cores: torch.Tensor) -> torch.Tensor:
        return Network(structure, list(cores)).dense().reshape(outer).flatten()

    if not network.cores[0].is_complex():
        parts = torch.autograd.functional.jacobian(entries, tuple(network.cores))
        return torch.cat([part.flatten(1) for part in parts], 1)
    columns = []  # the network is linear in each core, so a unit core gives a column
    for place, core in enumerate(network.cores):
        for unit in torch.eye(core.numel(), dtype=core.dtype):
            cores = [unit.reshape(core.shape) if k == place else one for k, one in enumerate(network.cores)]
            columns.append(entries(*cores))
    return torch.stack(columns, 1)


@pytest.mark.parametrize("name", ["train", "ring", "cp", "tucker", "matrix"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_gauss_newton_system_is_that_of_the_jacobian(name: str, dtype: torch.dtype) -> None:
    structure = STRUCTURES[name]
    networks = [Network.random(structure, seed=seed, dtype=dtype) for seed in range(2)]
    cores = [torch.stack([network.cores[n] for network in networks]) for n in range(len(structure.cores))]
    system = GaussNewton(structure, [core.indices for core in structure.cores])
    residual = normal(structure, dtype).reshape(structure.output_shape) - system.network(cores)
    matrix, descent = system.matrix(cores), system.descent(cores, residual)
    for n, network in enumerate(networks):
        exact = jacobian(network)
        torch.testing.assert_close(matrix[n], exact.mH @ exact)
        torch.testing.assert_close(descent[n], exact.mH @ residual[n].flatten())


@pytest.mark.parametrize("name", ["train", "ring", "cp", "tucker"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_steps_in_all_cores_never_raise_an_error(name: str, dtype: torch.dtype) -> None:
    structure = STRUCTURES[name]
    data = 1e100 * normal(structure, dtype)
    many = ManyStarts(data, structure, starts=4)
    before = many.sweep()
    for _ in range(20):
        errors = many.step()
        assert (errors <= before + 1e-12).all()
        many.keep(errors.argsort()[: max(2, len(errors) - 1)])
        before = many.errors
    for n in range(2):
        assert relative_error(data, many.network(n)) == pytest.approx(float(many.errors[n]), abs=1e-12)


def test_steps_in_all_cores_leave_a_swamp() -> None:
    """Nearly collinear factors: a hundred sweeps creep where thirty steps arrive."""
    structure = formats.cp((6, 7, 8), rank=4)
    generator = torch.Generator().manual_seed(1)
    mix = torch.linalg.cholesky(0.95 * torch.ones(4, 4, dtype=torch.float64) + 0.05 * torch.eye(4)).mT
    cores = [
        torch.linalg.qr(torch.randn(n, 4, generator=generator, dtype=torch.float64))[0] @ mix for n in structure.shape
    ]
    data = Network(
        structure, [core if i.indices[0] != "r" else core.mT for core, i in zip(cores, structure.cores, strict=True)]
    ).dense()
    swept, stepped = (ManyStarts(data, structure, starts=4, seed=0) for _ in range(2))
    for _ in range(12):
        swept.sweep()
        stepped.sweep()
    for _ in range(88):
        swept.sweep()
    for _ in range(30):
        stepped.step()
    assert float(stepped.errors.min()) < 1e-12
    assert float(swept.errors.min()) > 1e-6


def test_cores_that_share_a_mode_do_not_step_together() -> None:
    shared = Structure("a i, b i -> i a b", i=3, a=2, b=2)
    assert not GaussNewton.takes(shared)
    with pytest.raises(StructureError, match="share a mode"):
        ManyStarts(normal(shared), shared, starts=2).step()


def test_halves_of_a_ring_in_any_order_are_arcs() -> None:
    """However the modes are numbered, a sweep costs what it does along the ring."""
    along = formats.tensor_ring((4,) * 8, ranks=(5,) * 8)
    places = [0, 3, 6, 1, 4, 7, 2, 5]
    mixed = Structure.of([along.terms[place] for place in places], along.outputs, along.sizes)
    assert program(mixed, False).work == pytest.approx(program(along, False).work, rel=0.1)
    assert program(mixed, False).work < 0.1 * min(
        _Compiler(mixed, False, whole, tuple(range(8))).work for whole in (False, True)
    )
