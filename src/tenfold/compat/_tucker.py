"""Tucker for scripts: cores and factors along some modes or all, with masks, starts and signs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tenfold.compat import _ranks, _results
from tenfold.compat._arrays import Array, Kind, seed_of, taken, taken_mask
from tenfold.compat._common import OWN_TOL, SVDS, check_svd, named
from tenfold.compat._watch import Watch
from tenfold.decomposition import choose
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure


def orthogonal(
    data: Tensor,
    kind: Kind,
    ranks: Sequence[int],
    modes: Sequence[int],
    n_iter_max: int,
    init: Any,
    svd: str,
    tol: float | None,
    random_state: Any,
    mask: Array,
    verbose: int | bool,
) -> tuple[Tensor, list[Tensor], Watch]:
    """A core and orthonormal factors for some modes."""
    check_svd(svd)
    seed = seed_of(random_state)
    watch = Watch(kind, tol=tol, verbose=verbose)
    structure = partial(data.shape, ranks, modes)
    options: dict[str, Any] = {"seed": seed}
    if named(init, "random"):
        generator = torch.Generator().manual_seed(seed)
        options["init"] = Network.random(structure, seed=generator, dtype=data.dtype).to(data.device)
    elif not named(init, "svd"):
        factors = given_factors(init, data, ranks, modes)
        core = data
        for mode, factor in zip(modes, factors, strict=True):
            core = mode_product(core, factor.mH, mode)
        options["init"] = Network(structure, [core, *factors])
    known = taken_mask(mask, data.shape)
    if known is None:
        network = watch.fit("hooi", data, structure, sweeps=max(n_iter_max, 1), **options)
    else:
        observed = Observations.from_masked(data, known)
        options.pop("init", None)
        name = choose(structure, observed).name
        network = watch.fit(name, observed, structure, sweeps=n_iter_max, tol=tol or OWN_TOL, **options)
    core, *factors = network.cores
    if known is not None:
        for place, mode in enumerate(modes):
            factors[place], triangle = torch.linalg.qr(factors[place])
            core = mode_product(core, triangle, mode)
    return core, list(factors), watch


def partial(shape: Sequence[int], ranks: Sequence[int], modes: Sequence[int]) -> Structure:
    """Tucker along some modes; the others stay on the core, whose axes are in the order of the tensor's."""
    names = [f"i{axis}" for axis in range(len(shape))]
    bonds = {mode: f"r{mode}" for mode in modes}
    sizes = {**dict(zip(names, shape, strict=True)), **dict(zip(bonds.values(), ranks, strict=True))}
    core = tuple(bonds.get(axis, name) for axis, name in enumerate(names))
    return Structure.of([core, *((names[mode], bonds[mode]) for mode in modes)], names, sizes)


def nonnegative(
    tensor: Array,
    rank: Any,
    n_iter_max: int,
    init: Any,
    tol: float | None,
    random_state: Any,
    verbose: int | bool,
    return_errors: bool,
) -> Any:
    data, kind = taken(tensor)
    ranks, modes = _ranks.tucker(data.shape, rank), list(range(data.ndim))
    structure = partial(data.shape, ranks, modes)
    generator = torch.Generator().manual_seed(seed_of(random_state))
    if named(init, "random"):
        start = Network.random(structure, seed=generator, dtype=data.dtype).to(data.device)
        core, *factors = (part.abs() for part in start.cores)
    elif named(init, "svd"):
        core, factors, _ = orthogonal(data, kind, ranks, modes, 1, "svd", SVDS[0], None, 0, None, False)
    elif isinstance(init, str):
        raise ValueError(f"init is {init!r}; it can be 'svd', 'random' or a Tucker tensor")
    else:
        factors = given_factors(init, data, ranks, modes)
        core = taken(next(iter(init)), "init")[0].to(data)
    watch = Watch(kind, tol=tol, verbose=verbose)
    first = Network(structure, [core.abs(), *(factor.abs() for factor in factors)])
    network = watch.fit("nonnegative_tucker", data, structure, sweeps=max(n_iter_max, 1), init=first)
    core, *factors = network.cores
    result = _results.tucker(kind.out(core), [kind.out(factor) for factor in factors])
    return (result, watch.errors) if return_errors else result


def given_factors(init: Any, data: Tensor, ranks: Sequence[int], modes: Sequence[int]) -> list[Tensor]:
    """The factors of a Tucker tensor, of a pair (core, factors), or of a list of factors."""
    pair = isinstance(init, tuple) or hasattr(init, "core")
    factors = [taken(factor, "init")[0].to(data) for factor in (tuple(init)[1] if pair else init)]
    expected = [(data.shape[mode], rank) for mode, rank in zip(modes, ranks, strict=True)]
    if [tuple(factor.shape) for factor in factors] != expected:
        raise ValueError(f"init has factors of shapes {[tuple(f.shape) for f in factors]}, not {expected}")
    return factors


def mode_product(tensor: Tensor, matrix: Tensor, mode: int) -> Tensor:
    return torch.tensordot(tensor, matrix.to(tensor.dtype), dims=([mode], [1])).movedim(-1, mode)
