"""What structures are tried on: a tensor, observations of one, or anything that a loss says of a network.

A target is a value that goes to worker processes. It fits one structure at a time, and what it returns depends on
nothing but its arguments: not on what was tried before, nor on who asks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from tenfold.decomposition import find, relative_error
from tenfold.decomposition._gauss_newton import GaussNewton
from tenfold.decomposition._iterate import is_tree
from tenfold.decomposition._left_out import drawn_from, split
from tenfold.decomposition._registry import Progress
from tenfold.decomposition._sweep_program import program
from tenfold.decomposition.als_observed import als_observed
from tenfold.decomposition.many_starts import ManyStarts
from tenfold.decomposition.tensor_ring import opened_rings
from tenfold.errors import DataError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure
from tenfold.structure_search._descent import Descent
from tenfold.structure_search.cuts import Cuts
from tenfold.structure_search.held_out import leaves_out

# Entries that a tensor on the way of a fit may have, or four times as many as the data.
_ROOM = 2**26
# Random starts for each structure: as many as take this many multiplications a sweep, between these bounds.
_BUSY, _FEWEST, _MOST = 2**26, 2, 32
# Multiplications that one fit may take: it makes fewer sweeps rather, but so many at least.
_WORK, _LEAST_SWEEPS = 2**35, 8
# After so many sweeps only half of the starts goes on.
_HALVINGS = (3, 6, 12, 24, 40)
# Before so many sweeps no fit is given up.
_PATIENT = 12
# A fit ends when so many sweeps lower its error by less than this part, or after so many sweeps in all.
_WINDOW, _SETTLED = 5, 3e-4
SWEEPS = 100
# A fit that would need this many times its last progress to be worth anything is given up.
_HOPE = 20.0
# After so many sweeps networks that are so many times worse than they might be go on by steps in all cores at once,
# where they have no more parameters than this: as many of them as take so many multiplications to factor.
_SWEPT, _FAR, _STEPPED = 12, 10.0, 800
_FACTORED, _MOST_STEPPED = 2**27, 16
# So many steps in all; half of the networks goes on after some. The gain of the last few tells whether they settled.
_STEPS, _STEP_HALVINGS, _STEP_WINDOW = 60, (10, 20, 30, 40), 8
# Errors that no fit need go below.
_EXACT = 1e-9
# Where cells are missing half of the sweeps look for a ridge; with 100 in all, three of eight fits of a planted ring
# ended far from it, with 200 one.
_OBSERVED_SWEEPS = 200
# The part of observations that is left out to compare structures.
_HELD_OUT = 0.1
# Of fewer cells than this, or fibres where whole ones are missing, none are kept for the end: they would say little,
# and the others cannot spare them (with 10 of 50 fibres left out, not 5, il2 is predicted three times worse).
_FEW = 200
# Steps of a gradient method for a loss.
_DESCENT = 300


@dataclass(frozen=True)
class Fitted:
    """One structure fitted.

    Attributes:
        network: the best found.
        error: relative error, on what was left out where cells are missing; the loss, where there is one.
        sweeps: how many were made, all starts together.
        finished: False if the fit was given up because it could not win any more, or because it was told to stop.
        inside: where ``error`` is that of a prediction, what the cells that the network was fitted to say of it.
    """

    network: Network
    error: float
    sweeps: int
    finished: bool = True
    inside: float | None = None


class Target(Protocol):
    """What a search fits structures to."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def size(self) -> int:
        """Numbers that a network replaces."""
        ...

    def has_room(self, structure: Structure) -> bool:
        """Whether what a fit of the structure makes on the way is not too large to be made."""
        ...

    def bound(self, structure: Structure) -> float:
        """An error that no network of the structure is below."""
        ...

    def fit(
        self,
        structure: Structure,
        *,
        near: Network | None = None,
        seed: int = 0,
        sweeps: int | None = None,
        within: float = math.inf,
        stop: Callable[[], bool] | None = None,
    ) -> Fitted:
        """The best network of a structure.

        Args:
            near: a network to start from besides random ones.
            seed: fixes the random ones.
            sweeps: so many from ``near`` only, for a first look; by default as many as it takes from all starts.
            within: an error above which the result is of no use.
            stop: asked after each sweep; as soon as it says so, the best so far is returned.
        """
        ...


@dataclass(frozen=True)
class Dense:
    """A whole tensor in memory, real or complex."""

    data: Tensor
    exact: float = _EXACT
    _cuts: dict[tuple[int, ...], Cuts] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (self.data.is_floating_point() or self.data.is_complex()):
            raise DataError(f"data must be floating or complex, not {self.data.dtype}; convert it first")
        if not self.data.numel():
            raise DataError(f"data of shape {tuple(self.data.shape)} is empty; there is nothing to search for")
        if not bool(torch.isfinite(self.data).all()):
            raise DataError(
                "data has NaN or infinite entries; give Observations.from_nan(data) where NaN means missing"
            )

    def __getstate__(self) -> dict[str, object]:
        # Workers fit; bounds are the business of who asks them.
        return {**vars(self), "_cuts": {}}

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape)

    @property
    def size(self) -> int:
        return self.data.numel()

    def has_room(self, structure: Structure) -> bool:
        # Many bonds between many modes: few parameters, but what is left after the first products has all the bonds.
        return program(structure, self.data.is_complex()).largest <= max(_ROOM, 4 * self.size)

    def bound(self, structure: Structure) -> float:
        return self.cuts(structure.output_shape).bound(structure)

    def cuts(self, shape: tuple[int, ...], stop: Callable[[], bool] | None = None) -> Cuts:
        """The singular values across all cuts of the data with this shape.

        Args:
            stop: asked before each cut; as soon as it says so, the rest is left out, and nothing is remembered.
        """
        if shape not in self._cuts:
            made = Cuts(self.data.reshape(shape), stop)
            if made.stopped:
                return made
            self._cuts[shape] = made
        return self._cuts[shape]

    def fit(
        self,
        structure: Structure,
        *,
        near: Network | None = None,
        seed: int = 0,
        sweeps: int | None = None,
        within: float = math.inf,
        stop: Callable[[], bool] | None = None,
    ) -> Fitted:
        init = [] if near is None else [near]
        work = program(structure, self.data.is_complex()).work
        starts = 0 if near is not None and sweeps is not None else max(_FEWEST, min(_MOST, int(_BUSY / work)))
        if is_tree(structure) and len(structure.terms) > 1 and sweeps is None:
            # The sequential SVD of a tree is near the best there is; from there it is downhill.
            init.append(find("tree_svd").function(self.data, structure).network)
            starts = 0
        elif sweeps is None:
            init += opened_rings(self.data.reshape(structure.output_shape), structure, seed)
        many = ManyStarts(self.data, structure, starts=starts, init=init, seed=seed)
        if sweeps is not None:
            done = 0
            while done < sweeps and not (done and stop is not None and stop()):
                many.sweep()
                done += 1
            finished = done == sweeps
        else:
            affordable = max(_LEAST_SWEEPS, int(_WORK / (work * _FEWEST)))
            together = structure.parameters <= _STEPPED and GaussNewton.takes(structure)
            # Singular values across all cuts are not taken before a fit asks for them.
            least = (lambda: self.bound(structure)) if together else None
            done, finished = _run(many, min(SWEEPS, affordable), self.exact, within, least, stop)
        network = many.best()
        return Fitted(network, relative_error(self.data, network), done, finished)


def _run(
    many: ManyStarts,
    most: int,
    exact: float,
    within: float,
    least: Callable[[], float] | None,
    stop: Callable[[], bool] | None,
) -> tuple[int, bool]:
    """Sweep until one start has settled and the others have been left behind, or until ``stop`` says so.

    ``least`` gives an error that none of the networks is below, where they can step in all cores at once.
    """
    best: list[float] = []
    for done in range(1, most + 1):
        errors = many.sweep()
        best.append(float(errors.min()))
        if best[-1] <= exact:
            return done, True
        if stop is not None and stop():
            return done, False
        if done == _SWEPT and least is not None and _FAR * least() < best[-1]:
            more, finished = _step(many, exact, within, stop)
            return done + more, finished
        if done in _HALVINGS and len(errors) > 1:
            many.keep(errors.argsort()[: (len(errors) + 1) // 2])
        if done > _WINDOW:
            gained = best[-1 - _WINDOW] - best[-1]
            if len(many.errors) <= 2 and gained <= _SETTLED * best[-1]:
                return done, True
            if done >= _PATIENT and best[-1] - _HOPE * max(gained, 0.0) > within:
                return done, False
    return most, True


def _step(many: ManyStarts, exact: float, within: float, stop: Callable[[], bool] | None) -> tuple[int, bool]:
    """The same by steps in all cores at once."""
    many.keep(many.errors.argsort()[: max(1, min(_MOST_STEPPED, int(3 * _FACTORED / many.structure.parameters**3)))])
    best: list[float] = []
    for done in range(1, _STEPS + 1):
        errors = many.step()
        best.append(float(errors.min()))
        if best[-1] <= exact:
            return done, True
        if stop is not None and stop():
            return done, False
        if done in _STEP_HALVINGS and len(errors) > 1:
            many.keep(errors.argsort()[: (len(errors) + 1) // 2])
        if len(many.errors) <= 2 and done > _STEP_WINDOW:
            gained = best[-1 - _STEP_WINDOW] - best[-1]
            if gained <= _SETTLED * best[-1]:
                return done, True
            if best[-1] - _HOPE * gained > within:
                return done, False
    return _STEPS, True


class _Stopped(Exception):
    """Ends a fit of observations between two sweeps."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress


@dataclass(frozen=True)
class Observed:
    """Observations of a tensor; the error is that on cells that are left out, the same ones for every structure.

    Networks are fitted to the other cells, with a ridge chosen for each. With a choice of its own of what is left out,
    each structure would be luckier or unluckier than the next by more than structures differ.

    Args:
        data: on a grid, with cells missing. Where none is missing, or there are fewer than 20, none is left out.
        seed: of what is left out.
        holdout: the part of the cells that is.
        test: the part of the cells that is kept for the end: no fit sees them and no error is taken on them. None are
            of fewer than 200, or, where whole fibres are missing, of fewer fibres.

    Attributes:
        train, held, test_cells: the cells that networks are fitted to, those that are left out, and those that are kept
            for the end, if any.
    """

    data: Observations
    seed: int = 0
    holdout: float = _HELD_OUT
    test: float = 0.0
    train: Observations = field(init=False, repr=False, compare=False)
    held: Observations | None = field(init=False, repr=False, compare=False)
    test_cells: Observations | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.data.shape is None:
            raise DataError("observations at continuous coordinates have no grid; put them on one with on_grid()")
        if self.data.rest == "zero":
            raise DataError("the cells that are not listed are known to be zero: give the whole tensor to Dense")
        if not 0 < self.holdout < 1:
            raise DataError(f"holdout must be above 0 and below 1, not {self.holdout!r}")
        if not 0 <= self.test < 1 - self.holdout:
            raise DataError(f"test must be at least 0 and leave something to fit beside holdout, not {self.test!r}")
        train, held, test = self.data, None, None
        if leaves_out(self.data):
            train, held = split(self.data, self.holdout, self.seed)
            if self.test and drawn_from(self.data) >= _FEW:
                train, test = split(train, self.test / (1 - self.holdout), self.seed + 1)
        object.__setattr__(self, "train", train)
        object.__setattr__(self, "held", held)
        object.__setattr__(self, "test_cells", test)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape or ())

    @property
    def size(self) -> int:
        return self.data.distinct

    def has_room(self, structure: Structure) -> bool:
        return True

    def bound(self, structure: Structure) -> float:
        return 0.0

    def fit(
        self,
        structure: Structure,
        *,
        near: Network | None = None,
        seed: int = 0,
        sweeps: int | None = None,
        within: float = math.inf,
        stop: Callable[[], bool] | None = None,
    ) -> Fitted:
        most = sweeps or _OBSERVED_SWEEPS

        def after(progress: Progress) -> None:
            if stop is not None and stop():
                raise _Stopped(progress)

        try:
            found = als_observed(self.train, structure, init=near, seed=seed, max_sweeps=most, tol=1e-4, callback=after)
        except _Stopped as early:
            network = early.progress.network()
            error = relative_error(self.train if self.held is None else self.held, network)
            return Fitted(network, error, early.progress.sweep, finished=False)
        if self.held is None:
            return Fitted(found.network, found.error, found.sweeps)
        # What chose the ridge is a prediction too, of cells among those that the network is fitted to in the end.
        inside = found.error if found.held_out is None else found.held_out
        return Fitted(found.network, relative_error(self.held, found.network), found.sweeps, inside=inside)

    def tested(self, network: Network) -> float | None:
        """The error of a network on the cells kept for the end; to be asked once, of what was chosen."""
        return None if self.test_cells is None else relative_error(self.test_cells, network)

    def whole(self, network: Network, seed: int = 0) -> Network:
        """The network that goes on from one of `fit` with all cells, those that it has not seen too."""
        if self.held is None:
            return network
        return als_observed(self.data, network.structure, init=network, seed=seed, max_sweeps=_OBSERVED_SWEEPS).network


@dataclass(frozen=True)
class Loss:
    """Anything differentiable that is to be made small: ``loss(network)`` is a scalar, smaller is better.

    Args:
        loss: a function that can be sent to other processes if there are any; at least 0.
        shape: of the tensor that networks stand for.
    """

    loss: Callable[[Network], Tensor]
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float64
    steps: int = _DESCENT

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def has_room(self, structure: Structure) -> bool:
        return True

    def bound(self, structure: Structure) -> float:
        return 0.0

    def fit(
        self,
        structure: Structure,
        *,
        near: Network | None = None,
        seed: int = 0,
        sweeps: int | None = None,
        within: float = math.inf,
        stop: Callable[[], bool] | None = None,
    ) -> Fitted:
        first = near if near is not None else Network.random(structure, seed=seed, dtype=self.dtype)
        steps = min(self.steps, sweeps * len(first.cores)) if sweeps else self.steps
        descent = Descent(self.loss, first, steps, stop)
        descent.run()
        return Fitted(Network(structure, descent.best), descent.lowest, descent.made, finished=not descent.cut)
