"""`Search`: what the verb `search` returns."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenfold import formats
from tenfold._along import bonds_along
from tenfold.contraction import ratio
from tenfold.network import Network
from tenfold.structure import Structure
from tenfold.structure_search.objectives import Objective, SizeWithin
from tenfold.structure_search.pareto import knee
from tenfold.structure_search.spaces import Space

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tenfold.verbs.result import Fit


# Errors at and below this are zero to rounding.
_EXACT = 1e-7


@dataclass(frozen=True, repr=False)
class Candidate:
    """One structure that a search fitted to the end.

    Attributes:
        name: the family and the ranks.
        error: relative error of its network, on what was left out where cells are missing; the loss, where there is
            one.
        value: what the search minimises, made of size and error.
        counted: evaluations until then, as papers count them; 0 for common formats, which come first.
        seconds: what the fit took.
        elapsed: seconds since the search began.
    """

    name: str
    structure: Structure
    parameters: int
    error: float
    value: float
    counted: int
    seconds: float
    elapsed: float

    def __repr__(self) -> str:
        return f"<{self.name}: {self.parameters:,} parameters, {self.error:.4g}, after {self.counted:,} evaluations>"


@dataclass(frozen=True, eq=False)
class Search:
    """What `search` found: a network, and all structures that it was chosen from.

    Attributes:
        fit: the network as a `Fit`, which shows, expands and reports it.
        error: what was minimised or kept within its budget: relative Frobenius error (on what was left out where cells
            are missing), or the loss.
        history: every structure that was fitted to the end, in the order in which that was done.
        front: those of them that no other beats in both size and error, smallest first.
        counted: evaluations that were asked for, as papers count them.
        fits: how many of those had to be fitted; the others had been seen before or could not win.
        space: where was looked.
        method: the searcher.
        seed: of all random draws.
        seconds: the time it took, that before it was taken up again included.
        target: what was asked for, in words.
        objective: the same as a value.
        stopped: why it ended: ``"evaluations"``, ``"seconds"``, ``"finished"``, ``"answers"`` (of a guard) or
            ``"interrupted"``.
        journal: the folder that it is kept in; None if it is not.
        of_loss: whether ``error`` is a loss.
        tested: relative error, of the network before it is fitted to all cells, on those that were kept for the end.
            ``error`` is the least of many, so chance makes it too small; this one it does not. None where none were.
        tested_cells: how many those are. The standard error of ``tested`` is about ``tested / sqrt(2 tested_cells)``.
    """

    fit: Fit
    error: float
    history: tuple[Candidate, ...]
    front: tuple[Candidate, ...]
    counted: int
    fits: int
    space: Space
    method: str
    seed: int
    seconds: float
    target: str
    objective: Objective
    stopped: str
    journal: str | None = None
    of_loss: bool = False
    tested: float | None = None
    tested_cells: int = 0

    @property
    def network(self) -> Network:
        return self.fit.network

    @property
    def structure(self) -> Structure:
        return self.network.structure

    @property
    def parameters(self) -> int:
        return self.network.parameters

    @property
    def shape(self) -> tuple[int, ...]:
        return self.network.shape

    @property
    def measure(self) -> str:
        """What ``error`` is called."""
        return self.fit.measure if self.fit.observed == self.fit.cells else "held-out error"

    @property
    def ratio(self) -> float:
        """Entries of the array for each parameter of the network."""
        return ratio(self.structure.size, self.parameters)

    @property
    def knee(self) -> Candidate | None:
        """Where the front bends: beyond it more parameters gain less than before. None where it has no such place."""
        bent = [one for one in self.front if one.error < math.inf]
        if len(bent) < 3:
            return None
        place = knee([(math.log(one.parameters), math.log(max(one.error, _EXACT))) for one in bent])
        return bent[place] if 0 < place < len(bent) - 1 else None

    @property
    def gained(self) -> str | None:
        """How much better the best is than any common format, in words. None where none of them were tried."""
        common = [one for one in self.history if not one.counted]
        if not common:
            return None
        best = min(common, key=lambda one: self.objective.rank(one.parameters, one.error))
        if self.met and not self.objective.met(best.parameters, best.error):
            return f"no common format keeps to what was asked for; {best.name} came nearest"
        smaller = self.met and isinstance(self.objective, SizeWithin)
        now, before = (self.parameters, best.parameters) if smaller else (self.error, best.error)
        if now >= before or f"{now:.4g}" == f"{before:.4g}":
            return f"nothing: {best.name}, a common format, is as good"
        said = f"{before:,} parameters" if smaller else f"error {before:.4g}"
        less = f"{1 - now / before:.{0 if before < 100 * now else 2}%}"
        return (
            f"{less} {'fewer parameters' if smaller else 'less error'} than the best common format: {best.name}, {said}"
        )

    @property
    def met(self) -> bool:
        """Whether what was asked for was kept."""
        return self.objective.met(self.parameters, self.error)

    @property
    def interrupted(self) -> bool:
        return self.stopped == "interrupted"

    @property
    def why_stopped(self) -> str:
        """``stopped`` in words, and how to go on."""
        return _STOPPED.get(self.stopped, self.stopped) + self._how_on()

    def _how_on(self) -> str:
        if self.stopped in ("finished", "answers"):
            return ""
        if self.journal is None:
            return "; a folder to resume from would let the same call go on" if self.interrupted else ""
        more = {"evaluations": " with more of them", "seconds": " with more of it"}.get(self.stopped, "")
        return f"; the same call{more} goes on from '{self.journal}'"

    def summary(self) -> dict[str, Any]:
        """The result as plain numbers and text, for JSON."""
        from tenfold.verbs._spaces import in_words

        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "structure": self.structure.pattern,
            "sizes": dict(self.structure.sizes),
            "format": formats.name(self.structure),
            "shape": list(self.shape),
            "parameters": self.parameters,
            "ratio": self.ratio,
            "space": in_words(self.space),
            "knee": None if self.knee is None else self.knee.parameters,
            "front": [
                {"parameters": one.parameters, "error": one.error, "structure": one.structure.pattern}
                for one in self.front
            ],
        }

    def report(self, path: str | os.PathLike[str], *, saved: str | None = None) -> None:
        """Write one HTML page that opens offline: the network and its rivals, front, path of the search, the fit.

        Args:
            path: where.
            saved: the file that the network was saved to, for the page to name it.
        """
        from tenfold import report

        report.write(self.fit, path, search=self, saved=saved)

    def plot(self) -> Figure:
        """A matplotlib figure: the network, the front and the path of the search at a glance."""
        from tenfold import report

        return report.plot_search(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network and what was tried to one file, ``.tn`` by custom; `tenfold.load` reads it as a `Fit`."""
        self.fit.save(path)

    def __str__(self) -> str:
        from tenfold.verbs._search_table import table

        return table(self)

    __repr__ = __str__


_STOPPED = {
    "evaluations": "the evaluations were used up",
    "seconds": "the time was used up",
    "finished": "the searcher had nothing more to try",
    "answers": "the held-out cells have answered as often as they may",
    "interrupted": "interrupted; this is the best until then",
}
# Ranks of separate parts that fit beside their name.
_SHOWN_RANKS = 5
_PLAIN = (
    "error",
    "tested",
    "counted",
    "fits",
    "method",
    "seed",
    "seconds",
    "target",
    "met",
    "gained",
    "stopped",
    "journal",
)


def label(structure: Structure, called: str = "network") -> str:
    """What a structure is called in tables: its family, or what else it is ``called``, and its ranks."""
    if called == "network" and structure.order > 1 and _parts(structure) > 1:
        called = "separate parts" if structure.inner_indices else "outer product"
    family = (formats.name(structure) or called).replace("_", " ")
    ranks = [str(structure.sizes[index]) for index in bonds_along(structure)]
    if called == "separate parts" and len(ranks) > _SHOWN_RANKS:  # no chain in which each has its place
        ranks = [*ranks[: _SHOWN_RANKS - 1], "…"]
    return f"{family} {'·'.join(ranks)}" if ranks else family


def _parts(structure: Structure) -> int:
    """How many pieces the graph falls into."""
    piece = list(range(len(structure.terms)))
    for index in structure.inner_indices:
        joined = {piece[term] for term in structure.terms_with(index)}
        piece = [min(joined) if old in joined else old for old in piece]
    return len(set(piece))
