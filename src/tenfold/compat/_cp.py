"""CP for scripts: starts, and the plain sweeps that keep some factors as they are or pull them to zero."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from tenfold import formats
from tenfold.compat import _ranks, _results
from tenfold.compat._arrays import Array, Kind, check_numbers, seed_of, taken, taken_mask
from tenfold.compat._common import check_svd
from tenfold.compat._watch import Watch
from tenfold.decomposition._normal import solve_normal
from tenfold.decomposition.tree_svd import st_hosvd
from tenfold.network import Network

# Passes over the columns of a nonnegative factor in one update.
_PASSES = 5


def dense(factors: Sequence[Tensor]) -> Tensor:
    return network(factors).dense()


def network(factors: Sequence[Tensor]) -> Network:
    return Network(formats.cp([len(factor) for factor in factors], factors[0].shape[1]), list(factors))


def relative_error(tensor: Tensor, factors: Sequence[Tensor], known: Tensor | None) -> float:
    residual = tensor - dense(factors)
    if known is not None:
        residual, tensor = residual * known, tensor * known
    total = float(torch.linalg.vector_norm(tensor))
    return float(torch.linalg.vector_norm(residual)) / total if total else 0.0


def imputed(tensor: Tensor, known: Tensor, ranks: Sequence[int], repeats: int) -> Tensor:
    """Unknown entries filled with the mean of the known ones, then ``repeats`` times with what Tucker makes of it."""
    found = torch.where(known, tensor, tensor[known].mean())
    for _ in range(repeats):
        core, bases = st_hosvd(found, [min(n, r) for n, r in zip(tensor.shape, ranks, strict=True)])
        structure = formats.tucker(tensor.shape, core.shape)
        found = torch.where(known, tensor, Network(structure, [core, *bases]).dense())
    return found


def start(tensor: Tensor, rank: int, init: Any, generator: torch.Generator) -> list[Tensor]:
    """Factors to start from, mode x rank.

    Raises:
        ValueError: ``init`` is no name of a start and no CP tensor of this rank.
    """
    if isinstance(init, str):
        if init == "random":
            return [_uniform((n, rank), tensor, generator) for n in tensor.shape]
        if init == "svd":
            return _singular(tensor, rank, generator)
        raise ValueError(f"init is {init!r}; it can be 'svd', 'random' or a CP tensor")
    try:
        weights, given = init
        factors = [taken(factor, "init")[0].to(tensor).clone() for factor in given]
        if weights is not None:
            factors[-1] = factors[-1] * taken(weights, "init")[0].to(tensor)
    except (TypeError, ValueError):
        raise ValueError("init must be 'svd', 'random' or a CP tensor: weights (or None) and factors") from None
    if len(factors) != tensor.ndim or any(factor.ndim != 2 or factor.shape[1] != rank for factor in factors):
        raise ValueError(
            f"init has factors of shapes {[tuple(factor.shape) for factor in factors]}, not of {rank} columns for each "
            f"of the {tensor.ndim} modes"
        )
    return factors


def _uniform(shape: tuple[int, int], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(like)


def _singular(tensor: Tensor, rank: int, generator: torch.Generator) -> list[Tensor]:
    """Leading left singular vectors of the unfoldings, each term with the weight that fits best."""
    factors: list[Tensor] = []
    for mode, extent in enumerate(tensor.shape):
        matrix = tensor.movedim(mode, 0).reshape(extent, -1)
        vectors = torch.linalg.eigh(matrix @ matrix.mH).eigenvectors
        leading = vectors.flip(1)[:, :rank]
        factors.append(torch.cat([leading, _uniform((extent, rank - leading.shape[1]), tensor, generator)], 1))
    gram, right = _normal(tensor, factors, 0)
    inner = (factors[0].conj() * right).sum(0)[:, None]
    weights = solve_normal(gram * (factors[0].mH @ factors[0]), inner)[:, 0]
    return [factors[0] * weights, *factors[1:]]


def sweeps(
    tensor: Tensor,
    factors: Sequence[Tensor],
    watch: Watch,
    *,
    count: int,
    fixed: Collection[int] = (),
    ridge: float = 0.0,
    nonnegative: Collection[int] = (),
    known: Tensor | None = None,
) -> list[Tensor]:
    """Plain alternating least squares, or coordinate descent where entries must not be negative.

    Every factor that is not ``fixed`` in turn minimises ``|X - M|^2 + ridge |A|^2``; unknown entries are filled with
    the model's after each sweep.
    """
    factors = [
        factor.clamp(min=0) if mode in nonnegative and mode not in fixed else factor
        for mode, factor in enumerate(factors)
    ]

    free = [mode for mode in range(tensor.ndim) if mode not in fixed]
    total = float(torch.linalg.vector_norm(tensor).double() ** 2)
    floor = 1e-4 if torch.finfo(tensor.dtype).eps > 1e-10 else 1e-12

    def work() -> list[Tensor]:
        data = tensor
        for _ in range(count):
            if known is not None:
                data = torch.where(known, tensor, dense(factors))
            for mode in free:
                gram, right = _normal(data, factors, mode)
                pulled = gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
                if mode in nonnegative:
                    factors[mode] = _descended(factors[mode], pulled, right)
                else:
                    factors[mode] = solve_normal(pulled, right.T).T
            now, square = list(factors), -1.0
            if known is None:
                last = factors[free[-1]]
                square = (
                    total - 2 * float((last.conj() * right).sum().real) + float((gram * (last.mH @ last)).sum().real)
                )
            # Where the terms cancel, and where not all is known, the residual itself.
            close = square <= floor * total
            error = relative_error(tensor, now, known) if close else math.sqrt(square / total)
            watch.add(error, lambda now=now: now)  # type: ignore[misc]
        return factors

    found: list[Tensor] = watch.run(work)
    return found


def _normal(tensor: Tensor, factors: Sequence[Tensor], mode: int) -> tuple[Tensor, Tensor]:
    """The Gram matrix of the other factors, and the data contracted with them (mode x rank)."""
    letters = "abcdefghijklmnop"[: tensor.ndim]
    others = [other for other in range(tensor.ndim) if other != mode]
    gram = reduce(torch.mul, (factors[other].mH @ factors[other] for other in others))
    equation = ",".join([letters, *(letters[other] + "z" for other in others)]) + f"->{letters[mode]}z"
    return gram, torch.einsum(equation, tensor, *(factors[other].conj() for other in others))


def _descended(factor: Tensor, gram: Tensor, right: Tensor) -> Tensor:
    factor = factor.clone()
    for _ in range(_PASSES):
        for column, curvature in enumerate(gram.diagonal().tolist()):
            if curvature > 0:
                step = (right[:, column] - factor @ gram[:, column]) / curvature
                factor[:, column] = (factor[:, column] + step).clamp(min=0)
    return factor


def normalised(factors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Weights, and factors whose columns have unit norm."""
    norms = [torch.linalg.vector_norm(factor, dim=0) for factor in factors]
    weights = math.prod(norms[1:], start=norms[0])
    unit = [factor / norm.where(norm > 0, torch.ones_like(norm)) for factor, norm in zip(factors, norms, strict=True)]
    return weights.to(factors[0].dtype), unit


def sparse_part(residual: Tensor, sparsity: float | int) -> Tensor:
    """The largest entries of a residual, as many as ``sparsity`` says (a fraction of them if it is a float)."""
    count = int(sparsity * residual.numel()) if isinstance(sparsity, float) else int(sparsity)
    if count >= residual.numel():
        return residual
    made = torch.zeros_like(residual).reshape(-1)
    places = residual.abs().reshape(-1).topk(count).indices
    made[places] = residual.reshape(-1)[places]
    return made.reshape(residual.shape)


# --- what the functions for CP share ---------------------------------------------------------------------------------


def check_order(data: Tensor) -> None:
    if data.ndim < 2:
        raise ValueError(f"tensor has {data.ndim} axis; a CP decomposition needs at least 2")


def modes_to_keep(modes: Sequence[int] | None, order: int) -> list[int]:
    """The modes to keep; the last one only together with all others."""
    fixed = sorted(set(modes or ()))
    for mode in fixed:
        if not 0 <= mode < order:
            raise ValueError(f"fixed_modes names mode {mode}, but the tensor has modes 0 to {order - 1}")
    if order - 1 in fixed and len(fixed) < order:
        warnings.warn("the last mode cannot be fixed and is not; move its axis to the front", UserWarning, stacklevel=3)
        fixed.remove(order - 1)
    return fixed


def check_fixed(factors: Sequence[Tensor], fixed: Sequence[int], data: Tensor) -> None:
    for mode, factor in enumerate(factors):
        if len(factor) == data.shape[mode]:
            continue
        if mode in fixed:
            raise ValueError(f"mode {mode} is fixed with {len(factor)} rows, but the tensor has {data.shape[mode]}")


def maker(kind: Kind, data: Tensor, normalize: bool, sparsity: float | int | None) -> Callable[[Any], Any]:
    """From factors, or a network of them, to what a script gets."""

    def make(known: Any) -> Any:
        factors = list(known.cores) if isinstance(known, Network) else list(known)
        rest = sparse_part(data - dense(factors), sparsity) if sparsity else None
        weights = torch.ones(factors[0].shape[1], dtype=factors[0].dtype, device=factors[0].device)
        if normalize:
            weights, factors = normalised(factors)
        made = _results.cp(kind.out(weights), [kind.out(factor) for factor in factors])
        return made if rest is None else (made, kind.out(rest))

    return make


def result(kind: Kind, made: Any, watch: Watch, return_errors: bool) -> Any:
    return (made, watch.errors) if return_errors else made


def orthogonal_sweeps(
    data: Tensor, factors: list[Tensor], watch: Watch, count: int, fixed: Sequence[int]
) -> list[Tensor]:
    """Sweeps that begin with orthonormal columns in every factor that has enough rows."""
    silent = Watch(watch.kind, tol=None)
    for _ in range(count):
        start = [
            torch.linalg.qr(factor).Q if min(factor.shape) >= factor.shape[1] and mode not in fixed else factor
            for mode, factor in enumerate(factors)
        ]
        factors = sweeps(data, start, silent, count=1, fixed=fixed)
    return factors


def nonnegative(
    tensor: Array,
    rank: Any,
    *,
    n_iter_max: int,
    init: Any,
    svd: str,
    watch_options: dict[str, Any],
    random_state: Any,
    normalize_factors: bool,
    return_errors: bool,
    mask: Array,
    fixed_modes: Sequence[int] | None,
    nn_modes: Any,
) -> Any:
    data, kind = taken(tensor)
    known = taken_mask(mask, data.shape)
    check_numbers(data, known)
    check_order(data)
    check_svd(svd)
    rank = _ranks.cp(data.shape, rank)
    fixed = modes_to_keep(fixed_modes, data.ndim)
    chosen = list(range(data.ndim)) if nn_modes == "all" else sorted(nn_modes or ())
    make = maker(kind, data, normalize_factors, None)
    watch = Watch(kind, **watch_options)
    seed = seed_of(random_state)
    filled = data if known is None else imputed(data, known, [rank] * data.ndim, 1)
    factors = start(filled, rank, init, torch.Generator().manual_seed(seed))
    check_fixed(factors, fixed, data)
    if isinstance(init, str):
        factors = [factor.abs() if mode in chosen else factor for mode, factor in enumerate(factors)]
    if len(fixed) == data.ndim or n_iter_max == 0:
        return result(kind, make(factors), watch, return_errors)
    if fixed or known is not None:
        found = sweeps(data, factors, watch, count=n_iter_max, fixed=fixed, nonnegative=chosen, known=known)
    else:
        structure = formats.cp(data.shape, rank)
        options: dict[str, Any] = {"init": network(factors), "seed": seed, "nonnegative": chosen}
        found = list(watch.fit("cp_hals", data, structure, sweeps=n_iter_max, **options).cores)
    return result(kind, make(found), watch, return_errors)
