"""`fit`: an array in, a network of the structure in it out."""

from __future__ import annotations

import math
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psutil
import torch
from torch import Tensor

from tenfold import formats
from tenfold._arguments import closest
from tenfold._blocks import Blocks, memory_bytes, memory_text
from tenfold._threads import threads_for
from tenfold._trees import bond_limits, check_tree
from tenfold.decomposition import (
    KINDS,
    Entry,
    Method,
    Progress,
    Projected,
    Stream,
    choose,
    find,
    kind_of,
    methods,
    relative_error,
)
from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure, index_names
from tenfold.structure_search import (
    Budget,
    Trial,
    as_whole,
    climb,
    leaves_out,
    listed_size,
    observed_trials,
    rank_trials,
    tree_trials,
)
from tenfold.verbs._arrays import Prepared, as_text, prepare
from tenfold.verbs._budget import DEFAULT_ERROR, budget_of, check_seconds, check_seed, in_words
from tenfold.verbs._facts import observed_cells, rescaled, spectra_of
from tenfold.verbs._options import check_options
from tenfold.verbs._progress import Bar, progress_bar
from tenfold.verbs._searching import after, best_of
from tenfold.verbs.result import Fit

# What is asked for when nothing is and cells are missing.
_PREDICTION = "the best prediction of missing cells"
# What people call the kinds of data.
_KINDS = {
    "array": "whole arrays",
    "sparse": "sparse arrays",
    "missing": "arrays with missing cells",
    "blocks": "arrays read block by block",
}


def fit(
    data: Any,
    structure: Structure | str | None = None,
    *,
    error: float | None = None,
    parameters: int | None = None,
    ratio: float | None = None,
    method: str | Method | None = None,
    sizes: Mapping[str, int] | None = None,
    ranks: int | Sequence[int] | None = None,
    weights: Any = None,
    init: Network | None = None,
    seed: int = 0,
    max_sweeps: int | None = None,
    tol: float | None = None,
    dtype: torch.dtype | str | None = None,
    dims: Sequence[str] | None = None,
    coordinates: Mapping[str, Any] | None = None,
    units: Mapping[str, str] | None = None,
    source: str | None = None,
    source_dtype: str | None = None,
    memory: int | str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    client: Any = None,
    seconds: float | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Fit:
    """Fit a network to data.

    With a structure, its cores are found by the method made for its format. Without one, a ladder of common formats is
    climbed under the budget and the best network returned, with all that was tried.

    Args:
        data: an array (NumPy, torch, xarray, nested lists, ``numpy.ma``), a SciPy, torch or PyData sparse array
            (zeros are data), or `Observations`. Whole numbers become float64; other dtypes are kept. Arrays that are
            not in memory (Dask, Zarr, HDF5, ``numpy.memmap``, what `tenfold.io.read` leaves in its file, `Blocks`) are
            read box by box where they are too large for it.
        structure: a `Structure`, a pattern whose outputs get their sizes from the data, or the name of a format
            (`tenfold.formats.for_arrays`). Bonds without a size are found when a budget is given and the structure is a
            tree, CP or a ring.
        error: relative Frobenius error not to exceed, with as few parameters as can be found. Without a structure,
            nothing larger than the list of its entries is made of a large sparse array.
        parameters: a number of parameters not to exceed, with as small an error as can be found.
        ratio: the same as ``parameters``: entries of the array for each parameter, at least.
        method: the name of a method (`tenfold.decomposition.methods`) or a function with their signature.
        sizes: index sizes for a pattern.
        ranks: ranks for the name of a format: one number, or as many as it has.
        weights: nonnegative weights of the entries, of the data's shape.
        init: a network to start from, of the structure given.
        seed: fixes every random draw.
        max_sweeps, tol: when an iterative method stops; each method has its own defaults.
        dtype: compute in this dtype instead of the data's own.
        dims, coordinates, units: names of axes, labels along them and the units of these, for people; taken from
            xarray where it has them.
        source, source_dtype: where the data came from and how its numbers were stored there, for people; the
            first is taken from what `tenfold.io.read` gives.
        memory: the memory to get by with, as "2 GB" or a number of bytes, beyond what is in use already; by default
            half of what is free. An array that needs more to be decomposed at once is read box by box.
        checkpoint: a folder for what is known so far of a whole array that is read box by box: the same call goes on
            from there, and ends with the same result.
        client: a ``dask.distributed.Client`` whose workers read a whole array box by box.
        seconds: without a structure, what is left of this time after the ladder is spent on a search for a structure
            (`search`); what is found is never worse than the ladder's.
        progress: show a progress bar on standard error; by default when that is a terminal.
        options: what the method takes beyond these (see its own documentation), such as ``constraints``.

    Returns:
        A `Fit`. An interrupt (Ctrl-C) returns the best found so far with ``fit.interrupted`` set; before anything is
        found it passes through.

    Raises:
        DataError: the data cannot be fitted (wrong shape, empty, NaN, infinite).
        StructureError: the structure does not parse or does not fit the data.
        TenfoldError: the budget cannot be met, arguments contradict each other, or the method is not known.
    """
    started = time.perf_counter()
    in_blocks = checkpoint is not None or client is not None
    if client is not None and not hasattr(client, "submit"):
        raise TenfoldError(f"client must be a dask.distributed.Client, not {type(client).__name__}")
    if memory is not None:
        memory_bytes(memory)  # says what is wrong with it, whatever the data are
    ready = prepare(
        data,
        weights=weights,
        dtype=dtype,
        dims=dims,
        coordinates=coordinates,
        units=units,
        memory=memory,
        in_blocks=in_blocks,
    )
    if isinstance(ready.data, Blocks) and ready.data.ndim == 1:
        raise DataError(
            f"data has one axis of {ready.cells:,} entries ({memory_text(ready.data.nbytes)}), too many to be "
            f"decomposed in memory, and only arrays of several axes are read box by box: reshape it, or give more of it"
        )
    source = ready.source if source is None else source
    budget = budget_of(error, parameters, ratio, ready.cells)
    modes = index_names(ready.dims)
    seed = check_seed(seed)
    seconds = check_seconds(seconds)
    _check_sweeps(max_sweeps, tol)
    own = {name: value for name, value in options.items() if value is not None}
    options = {"init": init, "max_sweeps": max_sweeps, "tol": tol, **own}
    streaming = {"memory": memory, "checkpoint": checkpoint, "client": client}
    searched: Any = None
    beyond = ""
    power = ready.power
    asked = structure.replace("_", " ") if isinstance(structure, str) and "->" not in structure else None
    structure = _named(structure, ranks, sizes, ready, budget)
    if structure is not None and seconds is not None:
        raise TenfoldError("seconds is given beside a structure, and is for searching one; leave one of them out")
    with threads_for(ready.cells), progress_bar(progress) as bar, _resumable(checkpoint):
        if structure is None:
            _refuse({"method": method, "sizes": sizes or None, **options}, "without a structure; give a structure")
            if budget.error is None and budget.parameters is None and not leaves_out(ready.scaled):
                budget = budget_of(DEFAULT_ERROR, None, None, ready.cells)
            if seconds is not None:
                _check_searchable(ready)
            searched = _searched(ready, budget, seed, streaming, bar, "any")
            steps = climb(searched, budget, modes=modes, seed=seed, on_rung=bar.rung)
            found = best_of(bar.trials(steps, budget.rank), budget)
            if seconds is not None and found[2] != "interrupted":
                found, beyond = _searched_on(found, ready, budget, seconds - (time.perf_counter() - started), seed, bar)
        elif isinstance(structure, str) and "->" not in structure:
            _refuse({"method": method, **options}, f"but {structure} has no ranks; give ranks")
            searched = _searched(ready, budget, seed, streaming, bar, structure)
            found = _family_of(structure, ready, searched, budget, seed, bar)
        else:
            full, open_bonds = _resolve(structure, ready, sizes, budget)
            if open_bonds:
                _refuse({"method": method, **options}, f"but bond '{open_bonds[0]}' has no size; give it one")
                if isinstance(ready.data, Blocks) and budget.error is not None:
                    found = _run(ready, full, _entry(None, full, ready.data), budget, seed, streaming, bar, asked)
                else:
                    searched = _searched(ready, budget, seed, streaming, bar, full.pattern)
                    found = _ranks_of(full, open_bonds, searched, budget, seed, bar, asked)
            else:
                ready = ready if method else _made_whole(ready, full)
                entry = _entry(method, full, ready.data)
                check_options(entry, own)
                if isinstance(ready.data, Blocks):
                    entry, options = _in_blocks(entry, options, own, streaming)
                found = _run(ready, full, entry, budget, seed, options, bar, asked)
                power = 0 if entry.scales else power
        best, trials, stopped = found
        try:
            spectra = spectra_of(ready, searched)
        except KeyboardInterrupt:
            spectra, stopped = {}, "interrupted"
    assert best.network is not None
    front = tuple(trial.without_network(chosen=trial is best) for trial in trials)
    if budget.error is not None and not budget.met(best) and stopped != "interrupted":
        warnings.warn(_missed(best, budget, structure is not None, ready.data), stacklevel=2)
    if best.held_out is not None and best.baseline is not None and best.held_out >= best.baseline:
        warnings.warn(
            f"cells that were left out are predicted no better than by the mean of the others (held-out error "
            f"{best.held_out:.3g}, of the mean {best.baseline:.3g}): {observed_cells(ready):,} observations are too "
            f"few for any network that was tried",
            stacklevel=2,
        )
    return Fit(
        network=rescaled(best.network, power),
        error=best.error,
        method=best.method,
        seconds=time.perf_counter() - started,
        stopped=stopped,
        target=in_words(budget) if structure is not None or budget != Budget() else _PREDICTION,
        front=front,
        dims=ready.dims,
        coordinates=ready.coordinates,
        units=ready.units,
        spectra=spectra,
        source=None if source is None else as_text(source),
        source_dtype=source_dtype or ready.source_dtype,
        deviance=best.deviance,
        observed=observed_cells(ready),
        cells=ready.cells,
        seed=seed,
        data=ready.data,
        searched=beyond,
    )


def _refuse(options: Mapping[str, Any], why: str) -> None:
    """Raise for the first option that is given where it has no meaning."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise TenfoldError(f"{given[0]} is given {why}, or leave {given[0]} out")


def _check_searchable(ready: Prepared) -> None:
    """Raise where no structure can be searched in the time left after the ladder."""
    if isinstance(ready.data, Blocks):
        raise TenfoldError("seconds is given, but the array is read box by box, and a search needs it in memory")
    if isinstance(as_whole(ready.data), Observations):
        raise TenfoldError(
            "seconds is given, but cells are missing or the sparse array is too large to search in; leave it out, or "
            "use search"
        )


def _searched_on(
    found: tuple[Trial, list[Trial], str], ready: Prepared, budget: Budget, left: float, seed: int, bar: Bar
) -> tuple[tuple[Trial, list[Trial], str], str]:
    """The time that is left spent on a search, beside what the ladder found; and that in words."""
    if left <= 0:
        warnings.warn("the common formats took all the seconds; no other structure was searched for", stacklevel=3)
        return found, "nothing: the common formats took all the seconds"
    return after(found, ready, budget, seconds=left, seed=seed, bar=bar)


def _ranks_of(
    full: Structure,
    open_bonds: Sequence[str],
    searched: Any,
    budget: Budget,
    seed: int,
    bar: Bar,
    asked: str | None,
) -> tuple[Trial, list[Trial], str]:
    """A tree whose bonds have no sizes yet, ``asked`` for by that name."""
    data = as_whole(searched)
    label = asked or (formats.name(full) or "tree").replace("_", " ")
    bar.rung(label, 0, 1)
    if not isinstance(data, Observations):
        return best_of(tree_trials(data, full, budget, label), budget)

    def build(rank: int) -> Structure:
        return full.replace({bond: min(rank, full.sizes[bond]) for bond in open_bonds})

    return best_of(observed_trials(data, label, build, budget, seed), budget)


def _family_of(
    family: str, ready: Prepared, searched: Any, budget: Budget, seed: int, bar: Bar
) -> tuple[Trial, list[Trial], str]:
    """A format that is no tree and whose ranks were not given."""
    data, label = as_whole(searched), family.replace("_", " ")
    bar.rung(label, 0, 1)
    if isinstance(data, Observations):

        def build(rank: int) -> Structure:
            return formats.for_arrays()[family](ready.shape, rank).name_outputs(index_names(ready.dims))

        return best_of(observed_trials(data, label, build, budget, seed), budget)
    return best_of(rank_trials(data, family, budget, index_names(ready.dims), seed), budget)


def _searched(
    ready: Prepared, budget: Budget, seed: int, streaming: Mapping[str, Any], bar: Bar, about: str
) -> Tensor | Observations | Projected:
    """What networks are looked for in: the data, or what is left of it when it is projected while it is read."""
    if not isinstance(ready.scaled, Blocks):
        return ready.scaled
    said = {"structure": about, "error": budget.error, "parameters": budget.parameters}
    stream = Stream(ready.scaled, **streaming, seed=seed, watch=bar.boxes, about=said)
    return stream.projected(index_names(ready.dims), error=budget.error, parameters=budget.parameters)


def _in_blocks(
    entry: Entry, options: Mapping[str, Any], own: Mapping[str, Any], streaming: Mapping[str, Any]
) -> tuple[Entry, dict[str, Any]]:
    """The method for arrays that are read box by box, and in it the one that was asked for."""
    if "blocks" in entry.takes and entry.name in methods():
        return entry, {**options, **streaming}
    if entry.name not in methods():
        raise TenfoldError(f"method '{entry.name}' is given, but the array is read box by box; give a method's name")
    for name in own:
        raise TenfoldError(
            f"method '{entry.name}' takes no {name} while the array is read box by box; leave {name} out, or leave "
            f"checkpoint and client out and give memory enough for the whole array"
        )
    return find("streamed_svd"), {**options, **streaming, "inner": entry.name}


@contextmanager
def _resumable(checkpoint: str | os.PathLike[str] | None) -> Iterator[None]:
    """Says after an interrupt how to go on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if checkpoint is not None:
            stop.add_note(f"the same call goes on from checkpoint '{checkpoint}'")
        raise


def _run(
    ready: Prepared,
    structure: Structure,
    entry: Entry,
    budget: Budget,
    seed: int,
    options: Mapping[str, Any],
    bar: Bar,
    asked: str | None,
) -> tuple[Trial, list[Trial], str]:
    """One method on one structure, ``asked`` for by that name. An interrupt keeps the network of the last sweep."""
    if budget.parameters is not None:
        raise TenfoldError(
            f"parameters or ratio is given, but '{structure}' has fixed sizes ({structure.parameters:,} parameters); "
            f"leave the size of a bond open, or leave the structure out"
        )
    kind = kind_of(ready.data)
    if kind not in entry.takes:
        able = [name for name, other in methods().items() if kind in other.takes]
        same = [name for name in able if entry.nonnegative and methods()[name].nonnegative]
        tables = (
            f", of which {', '.join(same)} keep{'s' if len(same) == 1 else ''} every entry nonnegative" if same else ""
        )
        if kind == "missing" and "sparse" in entry.takes:
            tables += ", and a table whose other cells are zero is read with rest='zero' (fit --rest zero)"
        raise TenfoldError(f"method '{entry.name}' does not take {_KINDS[kind]}; {', '.join(able)} do{tables}")
    core = max(structure.cores, key=lambda core: math.prod(core.shape))
    if 8 * math.prod(core.shape) > psutil.virtual_memory().total:
        entries = math.prod(core.shape)
        raise StructureError(
            f"core '{core.name}' of '{structure}' has {entries:,} entries, more than memory; give less"
        )
    label = asked or (formats.name(structure) or "network").replace("_", " ")
    latest: list[Progress] = []
    started = time.perf_counter()

    def watch(state: Progress) -> None:
        latest[:] = [state]
        bar.sweep(entry.name, state.sweep, state.max_sweeps, state.error)

    given = {name: value for name, value in options.items() if value is not None}
    if kind == "blocks" and "watch" in entry.options:
        given["watch"] = bar.boxes
    taken, power = (ready.data, 0) if entry.scales else (ready.scaled, ready.power)
    if "init" in given:
        _check_init(given["init"], ready.data.dtype)
        given["init"] = rescaled(given["init"], -power)
    try:
        done = entry.function(taken, structure, error=budget.error, seed=seed, callback=watch, **given)
        network, reached, stopped, deviance = done.network, done.error, done.stopped, done.deviance
    except KeyboardInterrupt:
        if not latest:
            raise
        network, reached, stopped, deviance = latest[0].network(), latest[0].error, "interrupted", None
        if not isinstance(ready.scaled, Blocks):
            reached = relative_error(ready.scaled, rescaled(network, power - ready.power))
    seconds = time.perf_counter() - started
    trial = Trial(label, network.structure, network.parameters, reached, seconds, entry.name, network=network)
    if deviance is not None:
        # It grows with the data, which were divided by a power of two.
        true = deviance * 2.0 ** min(power, 1023)
        trial = replace(trial, deviance=true if math.isfinite(true) else None)
    return trial, [trial], stopped


def _check_init(init: Any, dtype: torch.dtype) -> None:
    """Raise unless a method can start from it."""
    if not isinstance(init, Network):
        raise TenfoldError(f"init must be a Network, not {type(init).__name__}")
    for number, core in enumerate(init.structure.cores):
        values = init.cores[number]
        bad = values.numel() - int(torch.isfinite(values).sum())
        if bad:
            raise DataError(f"init has {bad:,} entries that are NaN or infinite in core '{core.name}'; replace them")
        if values.is_complex() and not dtype.is_complex:
            raise DataError(f"init is {values.dtype}, but the data are {dtype}; give the real part, or complex data")


def _missed(best: Trial, budget: Budget, structure_given: bool, data: Tensor | Observations | Blocks) -> str:
    """What to say when the error asked for was not reached."""
    assert budget.error is not None
    said = f"the error is {best.error:.4g}, above the {budget.error:g} asked for"
    if structure_given:
        return f"{said}: '{best.structure}' needs larger ranks"
    listed = None if isinstance(data, Blocks) else listed_size(data)
    if listed is not None:
        return f"{said}: no network that takes less than the {listed:,} numbers of a list of the entries came nearer"
    if best.held_out is None:
        return f"{said}: no larger network that was tried came nearer"
    return f"{said}: larger networks were no better at what was left out, or too large to try"


def _entry(method: str | Method | None, structure: Structure, data: Tensor | Observations | Blocks) -> Entry:
    if method is None:
        return choose(structure, data)
    if isinstance(method, str):
        return find(method)
    name = getattr(method, "__name__", "method")
    return Entry(name, method, (), KINDS, finds_ranks=False, summary="")


def _named(
    structure: Structure | str | None,
    ranks: int | Sequence[int] | None,
    sizes: Mapping[str, int] | None,
    ready: Prepared,
    budget: Budget,
) -> Structure | str | None:
    """The name of a format with its ranks as a structure, that of a tree without them as a pattern of open bonds."""
    if not isinstance(structure, str) or "->" in structure:
        if ranks is not None:
            raise StructureError("ranks go with the name of a format; give structure='tucker', for example")
        return structure
    known = formats.for_arrays()
    if structure not in known:
        others = formats.examples()
        if structure in others:
            raise StructureError(
                f"{structure} is a family of matrices, whose sides it may split: give a pattern, such as "
                f"'{others[structure][1].pattern}'"
            )
        raise StructureError(
            f"structure '{structure}' is neither a pattern (with '->') nor a format{closest(structure, known)}; "
            f"formats are {', '.join(known)}"
        )
    if sizes:
        raise StructureError(f"sizes go with a pattern; give ranks for the format {structure}")
    modes = index_names(ready.dims)
    if ranks is not None:
        try:
            return known[structure](ready.shape, ranks).name_outputs(modes)
        except StructureError as cause:
            raise StructureError(_in_the_datas_names(str(cause), modes)) from None
    if budget.error is None and budget.parameters is None:
        raise StructureError(
            f"structure '{structure}' needs ranks (one number, or one for each bond) or an error or size"
        )
    thin = known[structure](ready.shape, 1).name_outputs(modes)
    try:
        check_tree(thin, structure)
    except StructureError:
        return structure
    return thin.pattern


def _in_the_datas_names(message: str, modes: Sequence[str]) -> str:
    """An error about a format with the data's names of its modes instead of the letters of the format."""
    letters = dict(zip("ijklmnop", modes, strict=False))
    return re.sub(r"'([i-p])'", lambda found: f"'{letters.get(found[1], found[1])}'", message)


def _check_order(structure: Structure, ready: Prepared) -> None:
    """Raise where a structure puts the data's own axis names on other axes than theirs."""
    modes = index_names(ready.dims)
    if not ready.named:
        return
    for axis, group in enumerate(structure.outputs):
        for index in group:
            if index in modes and modes.index(index) != axis:
                raise StructureError(
                    f"the structure has '{index}' on axis {axis}, but the data's axes are {', '.join(modes)}: "
                    f"write the outputs in the data's order"
                )


def _made_whole(ready: Prepared, structure: Structure) -> Prepared:
    """The whole array where every cell is known and that is affordable, unless there is a method for the entries."""
    if kind_of(ready.data) == "sparse" and choose(structure, ready.data).name != "als":
        return ready
    return replace(ready, data=as_whole(ready.data), scaled=as_whole(ready.scaled))


def _resolve(
    structure: Structure | str, ready: Prepared, sizes: Mapping[str, int] | None, budget: Budget
) -> tuple[Structure, list[str]]:
    """The structure with all sizes, and the bonds whose sizes are limits only because none were given."""
    if isinstance(structure, Structure):
        if sizes:
            raise StructureError("sizes go with a pattern; use structure.replace(...) on a Structure")
        if structure.shape != ready.shape:
            raise StructureError(f"'{structure}' makes shape {structure.shape}, but the data has shape {ready.shape}")
        _check_order(structure, ready)
        return structure, []
    if not isinstance(structure, str):
        raise StructureError(f"structure must be a Structure or a pattern, not {type(structure).__name__}")
    sizes = dict(sizes or {})
    thin = Structure.for_shape(structure, ready.shape, sizes, bonds=1)
    _check_order(thin, ready)
    missing = [index for index in thin.inner_indices if index not in sizes]
    if not missing:
        return thin, []
    if budget.error is None and budget.parameters is None:
        raise StructureError(
            f"index '{missing[0]}' of '{thin.pattern}' has no size: give sizes={{'{missing[0]}': 8}} "
            f"(--size {missing[0]}=8), or an error or a number of parameters"
        )
    try:
        limits = bond_limits(thin)
    except StructureError as reason:
        raise StructureError(f"give a size to '{missing[0]}': only ranks of trees can be found ({reason})") from None
    return thin.replace({bond: limits[bond] for bond in missing}), missing


def _check_sweeps(max_sweeps: int | None, tol: float | None) -> None:
    if max_sweeps is not None and (isinstance(max_sweeps, bool) or not isinstance(max_sweeps, int) or max_sweeps < 1):
        raise TenfoldError(f"max_sweeps must be a whole number of at least 1, not {max_sweeps!r}")
    if tol is not None and not (isinstance(tol, (int, float)) and 0 <= tol < 1):
        raise TenfoldError(f"tol must be at least 0 and below 1, not {tol!r}")
