"""TensorLy's decompositions by its names, arguments and results, computed by tenfold.

Change one line of a script,

    from tensorly.decomposition import parafac, tucker
    from tenfold.compat.tensorly import parafac, tucker

and go on. Arguments that choose between algorithms for the same result (``svd``, ``linesearch``, ``exact``,
``ls_solve`` and their like) are checked and change nothing else. What is not there raises ``NotImplementedError``.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from tenfold import formats
from tenfold.compat import _cp, _parafac2, _ranks, _results, _sets, _trains, _tucker
from tenfold.compat._arrays import Array, check_numbers, seed_of, taken, taken_mask
from tenfold.compat._common import OWN_TOL, check_svd, missing, named
from tenfold.compat._watch import Watch
from tenfold.decomposition import choose, find
from tenfold.decomposition import parafac2 as fit_parafac2
from tenfold.decomposition.parafac2 import Parafac2 as Parafac2Fit
from tenfold.network import Network
from tenfold.observations import Observations

# On tensors with fewer entries one start, as TensorLy has it, is done before several have been compared.
_SMALL = 2**16


def parafac(
    tensor: Array,
    rank: Any,
    n_iter_max: int = 100,
    init: Any = "svd",
    svd: str = "truncated_svd",
    normalize_factors: bool = False,
    orthogonalise: bool | int = False,
    tol: float | None = 1e-8,
    random_state: Any = None,
    verbose: int | bool = 0,
    return_errors: bool = False,
    sparsity: float | int | None = None,
    l2_reg: float = 0,
    mask: Array = None,
    cvg_criterion: str = "abs_rec_error",
    fixed_modes: Sequence[int] | None = None,
    svd_mask_repeats: int = 5,
    linesearch: bool = False,
    callback: Callable[..., Any] | None = None,
) -> Any:
    """CP by `tenfold.decomposition.cp_als`; with a mask by the method for missing cells.

    ``sparsity`` finds the sparse part of what the CP tensor leaves over, once at the end.
    """
    data, kind = taken(tensor)
    known = taken_mask(mask, data.shape)
    check_numbers(data, known)
    _cp.check_order(data)
    rank = _ranks.cp(data.shape, rank)
    check_svd(svd)
    seed = seed_of(random_state)
    fixed = _cp.modes_to_keep(fixed_modes, data.ndim)
    make = _cp.maker(kind, data, normalize_factors, sparsity)
    watch = Watch(kind, tol=tol, criterion=cvg_criterion, verbose=verbose, callback=callback, make=make)

    filled = data
    if known is not None:
        filled = _cp.imputed(data, known, [rank] * data.ndim, svd_mask_repeats if named(init, "svd") else 0)
    plain = bool(fixed) or bool(l2_reg)
    # Where it is worth comparing starts, the method finds better ones than singular vectors.
    compared = named(init, "svd") and data.numel() > _SMALL and n_iter_max > 0
    compared = compared and not (plain or orthogonalise or callback or known is not None)
    factors: list[Tensor] | None = None
    if not compared:
        factors = _cp.start(filled, rank, init, torch.Generator().manual_seed(seed))
        _cp.check_fixed(factors, fixed, data)
        watch.first(_cp.relative_error(data, factors, known) if callback else 0.0, factors)
    done = 0
    if len(fixed) == data.ndim or n_iter_max == 0:
        assert factors is not None
        return _cp.result(kind, make(factors), watch, return_errors)
    if factors is not None and orthogonalise:
        done = min(int(orthogonalise) + 1, n_iter_max)
        factors = _cp.orthogonal_sweeps(filled, factors, watch, done, fixed)
        if done == n_iter_max:
            return _cp.result(kind, make(factors), watch, return_errors)
    if plain:
        assert factors is not None
        found = _cp.sweeps(data, factors, watch, count=n_iter_max - done, fixed=fixed, ridge=float(l2_reg), known=known)
    else:
        structure = formats.cp(data.shape, rank)
        options: dict[str, Any] = {"seed": seed}
        if known is not None:
            observed = Observations.from_masked(data, known)
            # A random start is better made where the unknown cells are known to be unknown.
            if not named(init, "random"):
                options["init"] = _cp.network(factors or [])
            name = choose(structure, observed).name
            network = watch.fit(name, observed, structure, sweeps=n_iter_max, tol=tol or OWN_TOL, **options)
        else:
            options |= {"starts": 0} if factors is None else {"init": _cp.network(factors)}
            if named(init, "random") and not done:
                options["compress"] = True
            network = watch.fit("cp_als", data, structure, sweeps=n_iter_max - done, **options)
        found = list(network.cores)
    return _cp.result(kind, make(found), watch, return_errors)


def non_negative_parafac(
    tensor: Array,
    rank: Any,
    n_iter_max: int = 100,
    init: Any = "svd",
    svd: str = "truncated_svd",
    tol: float | None = 10e-7,
    random_state: Any = None,
    verbose: int | bool = 0,
    normalize_factors: bool = False,
    return_errors: bool = False,
    mask: Array = None,
    cvg_criterion: str = "abs_rec_error",
    fixed_modes: Sequence[int] | None = None,
) -> Any:
    """Nonnegative CP by `tenfold.decomposition.cp_hals`, which needs fewer sweeps than multiplicative updates."""
    return _cp.nonnegative(
        tensor,
        rank,
        n_iter_max=n_iter_max,
        init=init,
        svd=svd,
        watch_options={"tol": tol, "criterion": cvg_criterion, "verbose": verbose},
        random_state=random_state,
        normalize_factors=normalize_factors,
        return_errors=return_errors,
        mask=mask,
        fixed_modes=fixed_modes,
        nn_modes="all",
    )


def non_negative_parafac_hals(
    tensor: Array,
    rank: Any,
    n_iter_max: int = 100,
    init: Any = "svd",
    svd: str = "truncated_svd",
    tol: float | None = 10e-8,
    random_state: Any = None,
    sparsity_coefficients: Any = None,
    fixed_modes: Sequence[int] | None = None,
    nn_modes: Any = "all",
    exact: bool = False,
    normalize_factors: bool = False,
    verbose: int | bool = False,
    return_errors: bool = False,
    cvg_criterion: str = "abs_rec_error",
) -> Any:
    """CP with nonnegative factors in all or some modes by `tenfold.decomposition.cp_hals`."""
    coefficients = sparsity_coefficients if isinstance(sparsity_coefficients, Sequence) else [sparsity_coefficients]
    if any(coefficients):
        raise missing("sparsity_coefficients", "constraints of tenfold.decomposition.cp_ao_admm")
    return _cp.nonnegative(
        tensor,
        rank,
        n_iter_max=n_iter_max,
        init=init,
        svd=svd,
        watch_options={"tol": tol, "criterion": cvg_criterion, "verbose": verbose},
        random_state=random_state,
        normalize_factors=normalize_factors,
        return_errors=return_errors,
        mask=None,
        fixed_modes=fixed_modes,
        nn_modes=nn_modes,
    )


def constrained_parafac(
    tensor: Array,
    rank: Any,
    n_iter_max: int = 100,
    n_iter_max_inner: int = 10,
    init: Any = "svd",
    svd: str = "truncated_svd",
    tol_outer: float | None = 1e-8,
    tol_inner: float | None = 1e-6,
    random_state: Any = None,
    verbose: int | bool = 0,
    return_errors: bool = False,
    cvg_criterion: str = "abs_rec_error",
    fixed_modes: Sequence[int] | None = None,
    non_negative: Any = None,
    l1_reg: Any = None,
    group_lasso: Any = None,
    l2_reg: Any = None,
    l2_square_reg: Any = None,
    unimodality: Any = None,
    normalize: Any = None,
    simplex: Any = None,
    normalized_sparsity: Any = None,
    soft_sparsity: Any = None,
    smoothness: Any = None,
    monotonicity: Any = None,
    hard_sparsity: Any = None,
) -> Any:
    """CP whose factors lie in sets, by `tenfold.decomposition.cp_ao_admm`; the factors returned do lie in them.

    Penalties are refused: with nothing that bounds the other modes their weight means nothing, for the scale of a
    penalised factor can go elsewhere. ``cp_ao_admm`` itself takes them, with a bound.
    """
    data, kind = taken(tensor)
    check_numbers(data)
    _cp.check_order(data)
    check_svd(svd)
    rank = _ranks.cp(data.shape, rank)
    penalties = {
        "l1_reg": l1_reg,
        "group_lasso": group_lasso,
        "l2_reg": l2_reg,
        "l2_square_reg": l2_square_reg,
        "smoothness": smoothness,
        "normalize": normalize,
        "normalized_sparsity": normalized_sparsity,
        "fixed_modes": fixed_modes,
    }
    for name, given in penalties.items():
        if given:
            raise missing(f"{name} of constrained_parafac", "tenfold.decomposition.cp_ao_admm with constraints=")
    constraints = _sets.by_mode(
        data.ndim,
        non_negative=non_negative,
        unimodality=unimodality,
        simplex=simplex,
        soft_sparsity=soft_sparsity,
        monotonicity=monotonicity,
        hard_sparsity=hard_sparsity,
    )
    seed = seed_of(random_state)
    make = _cp.maker(kind, data, False, None)
    watch = Watch(kind, tol=tol_outer, criterion=cvg_criterion, verbose=verbose)
    factors = _cp.start(data, rank, init, torch.Generator().manual_seed(seed))
    _cp.check_fixed(factors, [], data)
    if n_iter_max == 0:
        return _cp.result(kind, make(factors), watch, return_errors)
    options: dict[str, Any] = {"init": _cp.network(factors), "seed": seed, "constraints": constraints}
    network = watch.fit("cp_ao_admm", data, formats.cp(data.shape, rank), sweeps=n_iter_max, **options)
    return _cp.result(kind, make(network), watch, return_errors)


def tucker(
    tensor: Array,
    rank: Any,
    fixed_factors: Sequence[int] | None = None,
    n_iter_max: int = 100,
    init: Any = "svd",
    return_errors: bool = False,
    svd: str = "truncated_svd",
    tol: float | None = 10e-5,
    random_state: Any = None,
    mask: Array = None,
    verbose: int | bool = False,
) -> Any:
    """Tucker with orthonormal factors by `tenfold.decomposition.hooi`; with a mask by the method for missing cells."""
    data, kind = taken(tensor)
    ranks = _ranks.tucker(data.shape, rank)
    modes = list(range(data.ndim))
    if not fixed_factors:
        core, factors, watch = _tucker.orthogonal(
            data, kind, ranks, modes, n_iter_max, init, svd, tol, random_state, mask, verbose
        )
    else:
        if isinstance(init, str) or init is None:
            raise ValueError(f"fixed_factors is {fixed_factors}, but init is {init!r}; give a Tucker tensor as init")
        given = _tucker.given_factors(init, data, ranks, modes)
        kept = sorted(fixed_factors)
        free = [mode for mode in modes if mode not in kept]
        # What the kept factors can reach is all that the others need to see.
        seen = data
        for mode in kept:
            seen = _tucker.mode_product(seen, torch.linalg.pinv(given[mode]), mode)
            if not free:
                core = seen
        factors = list(given)
        watch = Watch(kind, tol=tol, verbose=verbose)
        if free:
            start = [given[mode] for mode in free]
            core, found, watch = _tucker.orthogonal(
                seen, kind, [ranks[m] for m in free], free, n_iter_max, start, svd, tol, random_state, mask, verbose
            )
            for mode, factor in zip(free, found, strict=True):
                factors[mode] = factor
    result = _results.tucker(kind.out(core), [kind.out(factor) for factor in factors])
    # With factors held TensorLy returns no errors, whatever is asked for.
    return (result, watch.errors) if return_errors and not fixed_factors else result


def partial_tucker(
    tensor: Array,
    rank: Any,
    modes: Sequence[int] | None = None,
    n_iter_max: int = 100,
    init: Any = "svd",
    tol: float | None = 10e-5,
    svd: str = "truncated_svd",
    random_state: Any = None,
    verbose: int | bool = False,
    mask: Array = None,
    svd_mask_repeats: int = 5,
) -> Any:
    """Tucker along some modes by `tenfold.decomposition.hooi`; returns ``(core, factors), errors``."""
    data, kind = taken(tensor)
    chosen = list(range(data.ndim)) if modes is None else list(modes)
    ranks = _ranks.tucker([data.shape[mode] for mode in chosen], rank)
    core, factors, watch = _tucker.orthogonal(
        data, kind, ranks, chosen, n_iter_max, init, svd, tol, random_state, mask, verbose
    )
    return (kind.out(core), [kind.out(factor) for factor in factors]), watch.errors


def non_negative_tucker(
    tensor: Array,
    rank: Any,
    n_iter_max: int = 10,
    init: Any = "svd",
    tol: float | None = 10e-5,
    random_state: Any = None,
    verbose: int | bool = False,
    return_errors: bool = False,
    normalize_factors: bool = False,
) -> Any:
    """Nonnegative Tucker by `tenfold.decomposition.nonnegative_tucker`; the columns of its factors have unit norm."""
    return _tucker.nonnegative(tensor, rank, n_iter_max, init, tol, random_state, verbose, return_errors)


def non_negative_tucker_hals(
    tensor: Array,
    rank: Any,
    n_iter_max: int = 100,
    init: Any = "svd",
    svd: str = "truncated_svd",
    tol: float | None = 1e-8,
    sparsity_coefficients: Any = None,
    core_sparsity_coefficient: float | None = None,
    fixed_modes: Sequence[int] | None = None,
    random_state: Any = None,
    verbose: int | bool = False,
    normalize_factors: bool = False,
    return_errors: bool = False,
    exact: bool = False,
    algorithm: str = "fista",
) -> Any:
    """Nonnegative Tucker by `tenfold.decomposition.nonnegative_tucker`."""
    check_svd(svd)
    if algorithm not in ("fista", "active_set"):
        raise ValueError(f"algorithm is {algorithm!r}; it can be 'fista' or 'active_set'")
    coefficients = sparsity_coefficients if isinstance(sparsity_coefficients, Sequence) else [sparsity_coefficients]
    if any(coefficients) or core_sparsity_coefficient:
        raise missing("sparsity of nonnegative Tucker", "non_negative_parafac_hals or constrained_parafac")
    if fixed_modes:
        raise missing("fixed_modes of nonnegative Tucker", "non_negative_parafac with fixed_modes")
    return _tucker.nonnegative(tensor, rank, n_iter_max, init, tol, random_state, verbose, return_errors)


def tensor_train(
    input_tensor: Array, rank: Any, svd: str = "truncated_svd", verbose: int | bool = False, random_state: Any = None
) -> Any:
    """Tensor train by `tenfold.decomposition.tree_svd`."""
    data, kind = taken(input_tensor, "input_tensor")
    return _results.train([kind.out(core) for core in _trains.cores(data, rank, svd, verbose)])


def tensor_train_matrix(
    tensor: Array, rank: Any, svd: str = "truncated_svd", verbose: int | bool = False, random_state: Any = None
) -> Any:
    """Tensor-train matrix of a tensor of shape rows + columns, by `tenfold.decomposition.tree_svd`."""
    data, kind = taken(tensor)
    if data.ndim % 2:
        raise ValueError(f"tensor has {data.ndim} axes; a train matrix needs as many for columns as for rows")
    count = data.ndim // 2
    rows, columns = data.shape[:count], data.shape[count:]
    pairs = data.permute([axis for k in range(count) for axis in (k, count + k)])
    merged = pairs.reshape([m * n for m, n in zip(rows, columns, strict=True)])
    cores = _trains.cores(merged, rank, svd, verbose)
    shapes = [(core.shape[0], m, n, core.shape[2]) for core, m, n in zip(cores, rows, columns, strict=True)]
    return _results.train_matrix([kind.out(core.reshape(s)) for core, s in zip(cores, shapes, strict=True)])


def tensor_ring(
    input_tensor: Array,
    rank: Any,
    mode: int = 0,
    svd: str = "truncated_svd",
    verbose: int | bool = False,
    random_state: Any = None,
) -> Any:
    """Tensor ring in one pass: the first core by singular values, the others as a train of what it leaves.

    `tensor_ring_als` finds smaller errors.

    Raises:
        ValueError: the first core's unfolding is smaller than its two ranks together.
    """
    data, kind = taken(input_tensor, "input_tensor")
    check_svd(svd)
    order = data.ndim
    if not 0 <= mode < order:
        raise ValueError(f"mode is {mode}, but input_tensor has modes 0 to {order - 1}")
    ranks = _ranks.ring(data.shape, rank)[:-1]
    turned = data.permute([(mode + place) % order for place in range(order)])
    before, after, *others = [ranks[(mode + place) % order] for place in range(order)]
    shape = turned.shape
    matrix = turned.reshape(shape[0], -1)
    if before * after > min(matrix.shape):
        raise ValueError(
            f"rank[{mode}] * rank[{mode + 1}] is {before * after}, but the unfolding of mode {mode} is "
            f"{matrix.shape[0]} x {matrix.shape[1]}; lower them or begin at another mode"
        )
    first, rest = find("tree_svd").function(matrix, formats.tensor_train(matrix.shape, [before * after])).network.cores
    # The bond that closes the ring goes through the rest as a part of the last mode.
    rest = rest.reshape(before, after, *shape[1:]).movedim(0, -1)
    sizes = [after * shape[1], *shape[2:]]
    sizes[-1] *= before
    chain = _trains.cores(rest.reshape(sizes), [1, *others, 1], svd, verbose)
    bonds = [after, *(core.shape[2] for core in chain[:-1]), before]
    cores = [first.reshape(shape[0], before, after).movedim(0, 1)]
    for place, core in enumerate(chain, 1):
        cores.append(core.reshape(bonds[place - 1], shape[place], bonds[place]))
    return _results.ring([kind.out(cores[(place - mode) % order]) for place in range(order)])


def tensor_ring_als(
    tensor: Array,
    rank: Any,
    ls_solve: str = "lstsq",
    n_iter_max: int = 100,
    tol: float = 1e-6,
    random_state: Any = None,
    verbose: int | bool = False,
    callback: Callable[..., Any] | None = None,
) -> Any:
    """Tensor ring by `tenfold.decomposition.tensor_ring_als`; for larger tensors it compares several starts."""
    if ls_solve not in ("lstsq", "normal_eq"):
        raise ValueError(f"ls_solve is {ls_solve!r}; it can be 'lstsq' or 'normal_eq'")
    data, kind = taken(tensor)
    structure = formats.tensor_ring(data.shape, _ranks.ring(data.shape, rank)[1:])

    def make(network: Network) -> Any:
        return _results.ring([kind.out(core) for core in network.cores])

    watch = Watch(kind, tol=tol, verbose=verbose, callback=callback, make=make)
    options: dict[str, Any] = {"seed": seed_of(random_state)}
    if data.numel() <= _SMALL:
        generator = torch.Generator().manual_seed(options["seed"])
        std = float(data.abs().square().mean()) ** 0.5
        start = Network.random(structure, std=std or 1.0, seed=generator, dtype=data.dtype).to(data.device)
        options["init"] = start
    return make(watch.fit("tensor_ring_als", data, structure, sweeps=n_iter_max, **options))


def parafac2(
    tensor_slices: Any,
    rank: int,
    n_iter_max: int = 2000,
    init: Any = "random",
    svd: str = "truncated_svd",
    normalize_factors: bool = False,
    tol: float | None = 1.0e-8,
    nn_modes: Any = None,
    random_state: Any = None,
    verbose: int | bool = False,
    return_errors: bool = False,
    n_iter_parafac: int = 5,
    linesearch: bool = True,
    mask: Any = None,
) -> Any:
    """PARAFAC2 by `tenfold.decomposition.parafac2`; with a mask by filling what is missing, again and again."""
    pairs = [taken(part, f"slice {number}") for number, part in enumerate(tensor_slices)]
    slices, kind = [part for part, _ in pairs], pairs[0][1]
    check_svd(svd)
    chosen = {0, 1, 2} if nn_modes == "all" else set(nn_modes or ())
    if 1 in chosen:
        warnings.warn("mode 1 of PARAFAC2 (the rows) cannot be nonnegative; it is left free", UserWarning, stacklevel=2)
    options: dict[str, Any] = {
        "nonnegative": [name for mode, name in ((0, "a"), (2, "c")) if mode in chosen],
        "seed": seed_of(random_state),
    }
    if isinstance(init, str) and init not in ("random", "svd"):
        raise ValueError(f"init is {init!r}; it can be 'random', 'svd' or a PARAFAC2 tensor")
    first = init if isinstance(init, str) else _parafac2.start(init, slices, rank)
    watch = Watch(kind, tol=tol, verbose=verbose, every=1 if mask is not None else n_iter_parafac)
    known = None if mask is None else [taken(part, "mask")[0] != 0 for part in mask]

    def work() -> Parafac2Fit:
        if known is not None:
            return _parafac2.imputed(slices, known, rank, first, (n_iter_max, n_iter_parafac), watch, options)
        return fit_parafac2(
            slices,
            rank,
            init=first,  # type: ignore[arg-type]
            max_sweeps=n_iter_max * n_iter_parafac,
            tol=0.0,
            accelerate=linesearch,
            callback=lambda progress: watch.add(progress.error, progress.result),
            **options,
        )

    found: Parafac2Fit = watch.run(work)
    factors = [found.a, found.h, found.c]
    weights = torch.ones(rank, dtype=found.a.dtype, device=found.a.device)
    if normalize_factors:
        weights, factors = _cp.normalised(factors)
    parts = [kind.out(weights), [kind.out(factor) for factor in factors], [kind.out(p) for p in found.projections]]
    result = _results.parafac2(*parts)
    return (result, watch.errors) if return_errors else result


# --- the same as classes ----------------------------------------------------------------------------------------------


class _Estimator:
    """Arguments now, the tensor later: ``fit_transform(tensor)`` returns and keeps ``decomposition_``.

    Where the function can return errors they are kept too, as ``errors_``.
    """

    _function: ClassVar[str]
    _with_errors: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        signature = inspect.signature(globals()[cls._function])
        _, rank, *rest = signature.parameters.values()
        # TensorLy's classes have their arguments in other orders than its functions.
        named = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in rest]
        cls.__signature__ = signature.replace(parameters=[rank, *named])  # type: ignore[attr-defined]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = type(self).__signature__.bind(*args, **kwargs)  # type: ignore[attr-defined]
        given.apply_defaults()
        self._names = tuple(given.arguments)
        self.__dict__.update(given.arguments)

    def fit_transform(self, tensor: Any) -> Any:
        """The decomposition of a tensor."""
        arguments = {name: getattr(self, name) for name in self._names}
        function = globals()[self._function]
        if self._with_errors:
            self.decomposition_, self.errors_ = function(tensor, **{**arguments, "return_errors": True})
        else:
            self.decomposition_ = function(tensor, **arguments)
        return self.decomposition_

    def fit(self, tensor: Any) -> Any:
        """`fit_transform`, for its own sake; returns the estimator."""
        self.fit_transform(tensor)
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._names)})"


class CP(_Estimator):
    """`parafac` with its arguments given first; ``fit_transform(tensor)`` runs it."""

    _function = "parafac"
    _with_errors = True


class CP_NN(_Estimator):
    """`non_negative_parafac` with its arguments given first; ``fit_transform(tensor)`` runs it."""

    _function = "non_negative_parafac"
    _with_errors = True


class CP_NN_HALS(_Estimator):
    """`non_negative_parafac_hals` with its arguments given first; ``fit_transform(tensor)`` runs it."""

    _function = "non_negative_parafac_hals"
    _with_errors = True


class Tucker(_Estimator):
    """`tucker` with its arguments given first; ``fit_transform(tensor)`` runs it."""

    _function = "tucker"


class TensorRing(_Estimator):
    """`tensor_ring` with its arguments given first; ``fit_transform(tensor)`` runs it."""

    _function = "tensor_ring"


class Tucker_NN(_Estimator):
    """`non_negative_tucker` with its arguments given first; ``fit_transform(tensor)`` runs it."""

    _function = "non_negative_tucker"
    _with_errors = True


class Tucker_NN_HALS(_Estimator):
    """`non_negative_tucker_hals` with its arguments given first; ``fit_transform(tensor)`` runs it."""

    _function = "non_negative_tucker_hals"
    _with_errors = True


class ConstrainedCP(_Estimator):
    """`constrained_parafac` with its arguments given first; ``fit_transform(tensor)`` runs it."""

    _function = "constrained_parafac"
    _with_errors = True


class TensorTrain(_Estimator):
    """`tensor_train` with its arguments given first; ``fit_transform(tensor)`` runs it."""

    _function = "tensor_train"


class TensorTrainMatrix(_Estimator):
    """`tensor_train_matrix` with its arguments given first; ``fit_transform(tensor)`` runs it."""

    _function = "tensor_train_matrix"


class TensorRingALS(_Estimator):
    """`tensor_ring_als` with its arguments given first; ``fit_transform(tensor)`` runs it."""

    _function = "tensor_ring_als"


class Parafac2(_Estimator):
    """`parafac2` with its arguments given first; ``fit_transform(tensor)`` runs it."""

    _function = "parafac2"
    _with_errors = True
