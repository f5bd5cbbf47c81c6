"""The squared distance between data and a network, and what its minimisation needs, for every kind of data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor

from tenfold.contraction import contract
from tenfold.decomposition._cells import Cells
from tenfold.decomposition._error import relative_error, split_axes, squared_norm
from tenfold.decomposition._registry import Data
from tenfold.errors import DataError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure

# Dense data up to this many entries is used in double precision whatever its own: it costs next to nothing.
_SMALL = 2**20

Operand = tuple[tuple[str, ...], Tensor]


class Loss:
    """``|X - N|^2`` for dense, sparse or partly known X, and networks N of one structure.

    Inside, X is divided by ``scale``, its root mean square, and cores are double precision. Cells that nobody listed
    are known to be zero (``background``) for sparse data, and do not count for partly known data. ``coarse``: products
    with the data have single precision only.

    Args:
        data: what to fit.
        structure: of the networks.
        init: a network that will be started from; complex numbers in it make all cores complex.
        double: whether large dense data is used in double precision too; else products with it keep its own.

    Raises:
        DataError: the data is of another shape than the structure, or has NaN or infinite entries.
    """

    def __init__(self, data: Data, structure: Structure, *, init: Network | None = None, double: bool = False) -> None:
        split = split_axes(data, structure)
        self.original, self.structure = data, structure
        self.device = data.device
        is_complex = data.dtype.is_complex or (init is not None and init.dtype.is_complex)
        self.dtype = torch.complex128 if is_complex else torch.float64
        self.result_dtype = torch.promote_types(data.dtype, torch.complex64) if is_complex else data.dtype
        self.data: Tensor | None = None
        self.cells: Cells | None = None
        self.background = True
        # Divided by its root mean square, the data has as large a squared norm as it has entries.
        self.total = float(structure.size)
        if isinstance(data, Observations):
            self.background = data.rest == "zero"
            if not self.background:
                self.total = float(len(data) if data.weights is None else data.weights.double().sum())
            norm = data.norm()
        else:
            norm = _norm(data)
        if norm == 0:
            self.total = 0.0
        self.scale = norm / math.sqrt(self.total) if norm else 1.0
        if isinstance(data, Observations):
            self.cells = Cells(structure, data, self.scale, self.dtype)
            self.coarse = False
        else:
            wanted = torch.promote_types(data.dtype, torch.complex64 if is_complex else torch.float32)
            if double or data.numel() <= _SMALL:
                wanted = self.dtype
            assert isinstance(split, Tensor)
            self.data = split.detach().to(wanted)
            self.coarse = wanted.to_real() == torch.float32

    @property
    def floor(self) -> float:
        """Below this relative error, errors made from norms have cancelled."""
        return 1e-2 if self.coarse else 1e-5

    @property
    def exact(self) -> float:
        """A relative error that no further work can improve in the precision at hand."""
        if self.data is None and self.background:
            return 1e-7  # known from norms only: nothing sparse has a residual that could be summed
        return 1e-6 if self.result_dtype.to_real() != torch.float64 else 1e-13

    # --- in and out ---------------------------------------------------------------------------------------------------

    def start(self, network: Network) -> list[Tensor]:
        """Cores to work on, for the scaled data, balanced."""
        factor = self.scale ** (-1 / len(self.structure.terms))
        return balance(self.structure, [core.detach().to(self.device, self.dtype) * factor for core in network.cores])

    def network(self, cores: Sequence[Tensor]) -> Network:
        """The network for the data as given, in its dtype."""
        return self._unscaled(cores).to(self.result_dtype)

    def error(self, cores: Sequence[Tensor]) -> float:
        """The true relative error."""
        return relative_error(self.original, self._unscaled(cores))

    def _unscaled(self, cores: Sequence[Tensor]) -> Network:
        factor = self.scale ** (1 / len(self.structure.terms))
        return Network(self.structure, [core.detach() * factor for core in cores])

    # --- the distance -------------------------------------------------------------------------------------------------

    def measure(self, cores: Sequence[Tensor]) -> float:
        """The relative error; a true residual is summed where the norms have cancelled."""
        with torch.no_grad():
            error = math.sqrt(max(float(self.relative(cores)), 0.0))
        return self.error(cores) if self.cancelled(error) else error

    def cancelled(self, error: float) -> bool:
        """Whether a relative error made from norms is too small to be known that way, and can be known better."""
        return error < self.floor and self.exact < self.floor

    def relative(self, cores: Sequence[Tensor], *, residual: bool = False) -> Shaped[Tensor, ""]:
        """``|X - N|^2 / |X|^2``, differentiable.

        From norms and inner products, which cancel for small errors; with ``residual``, dense data is subtracted.
        """
        return sum(self._parts(cores, residual), torch.zeros((), dtype=torch.float64, device=self.device))

    def backward(self, cores: Sequence[Tensor], *, residual: bool = False) -> float:
        """`relative`, adding its gradient to that of the cores; listed cells batch by batch, to save memory."""
        values = []
        for part in self._parts(cores, residual):
            if part.requires_grad:
                part.backward()
            values.append(float(part.detach()))
        return math.fsum(values)

    def _parts(self, cores: Sequence[Tensor], residual: bool) -> Iterator[Shaped[Tensor, ""]]:
        """What `relative` is the sum of."""
        terms = self.terms(cores)
        if residual and self.data is not None:
            difference = self.data.to(self.dtype) / self.scale - contract(terms, self.structure.output_indices)
            yield difference.abs().square().sum() / self.total
            return
        if self.background:
            yield 1 + contract(double(self.structure, terms), ()).real / self.total
        if self.data is not None:
            yield -2 * contract([*self._conjugate(terms), self.operand()], ()).real / (self.scale * self.total)
        if self.cells is not None:
            for cells in self.cells.batches(None):
                yield self._listed(cores, cells) / self.total

    def _listed(self, cores: Sequence[Tensor], cells: slice) -> Shaped[Tensor, ""]:
        """What listed cells add to the squared distance: beyond ``|X|^2 + |N|^2`` where the rest is zero."""
        assert self.cells is not None
        found, values = self.cells.evaluate(cores, cells), self.cells.values[cells]
        weights = None if self.cells.weights is None else self.cells.weights[cells]
        if not self.background:
            square = (found - values).abs().square()
            return (square if weights is None else weights * square).sum()
        inner = (found.conj() * values).real
        if weights is None:
            return -2 * inner.sum()
        return ((weights - 1) * found.abs().square() - 2 * weights * inner).sum()

    # --- least squares in one core ------------------------------------------------------------------------------------

    def terms(self, cores: Sequence[Tensor]) -> list[Operand]:
        """Index names and tensor of each term."""
        places = zip(self.structure.terms, self.structure.term_core, strict=True)
        return [(term.indices, cores[number]) for term, number in places]

    def operand(self) -> Operand:
        """The dense data with its indices."""
        assert self.data is not None
        return self.structure.output_indices, self.data

    def _conjugate(self, terms: Sequence[Operand]) -> list[Operand]:
        assert self.data is not None
        return [(indices, tensor.conj().to(self.data.dtype)) for indices, tensor in terms]

    @property
    def gram_weights(self) -> Tensor | None:
        """How much more the square of a listed cell counts than the background; None for not at all."""
        if self.cells is None:
            return None
        weights = self.cells.weights
        if self.background:
            return None if weights is None else weights - 1
        return torch.ones(len(self.cells), dtype=torch.float64, device=self.device) if weights is None else weights

    def right(self, cores: Sequence[Tensor], place: int) -> Tensor:
        """The adjoint of ``core -> network`` (the core at one term, all else fixed) applied to the data."""
        if self.cells is None:
            others = [term for n, term in enumerate(self.terms(cores)) if n != place]
            found = contract([*self._conjugate(others), self.operand()], self.structure.terms[place].indices)
            return found.to(self.dtype) / self.scale
        return self.cells.untable(self.cells.adjoint(cores, place, self.weighted_values()), place)

    def weighted_values(self) -> Shaped[Tensor, " n"]:
        """Listed values times weights."""
        assert self.cells is not None
        return self.cells.values if self.cells.weights is None else self.cells.weights * self.cells.values

    def normal(self, cores: Sequence[Tensor], number: int, direction: Tensor) -> Tensor:
        """``J^H J direction`` where J is the derivative of the network in core ``number``, summed over its uses."""
        terms, uses = self.terms(cores), self.structure.cores[number].terms
        result = torch.zeros_like(direction)
        if self.background:
            for use in uses:
                conjugates = [(ix, t.conj()) for n, (ix, t) in enumerate(terms) if n != use]
                for other in uses:
                    moved = [(ix, direction if n == other else t) for n, (ix, t) in enumerate(terms)]
                    layer = [(primed(self.structure, ix), t) for ix, t in moved]
                    result = result + contract([*conjugates, *layer], terms[use][0])
        weights = self.gram_weights
        if weights is not None:
            assert self.cells is not None
            cells = self.cells
            change = sum(cells.apply(cores, use, cells.table(direction, use)) for use in uses)
            for use in uses:
                result = result + cells.untable(cells.adjoint(cores, use, weights * change), use)
        return result


def primed(structure: Structure, indices: Sequence[str]) -> tuple[str, ...]:
    """The same indices with inner ones renamed, for the second layer of ``<N, N>``. No name has an apostrophe."""
    outside = set(structure.output_indices)
    return tuple(i if i in outside else f"{i}'" for i in indices)


def double(structure: Structure, terms: Sequence[Operand]) -> list[Operand]:
    """The terms conjugated, and once more with inner indices primed: their product sums to ``<N, N>``."""
    conjugates = [(indices, tensor.conj()) for indices, tensor in terms]
    return [*conjugates, *((primed(structure, indices), tensor) for indices, tensor in terms)]


def balance(structure: Structure, cores: Sequence[Tensor]) -> list[Tensor]:
    """Cores of equal norm that make the same tensor; unchanged where one of them is zero."""
    norms = [float(torch.linalg.vector_norm(core)) for core in cores]
    if not all(norm > 0 and math.isfinite(norm) for norm in norms):
        return list(cores)
    uses = [len(core.terms) for core in structure.cores]
    level = sum(n * math.log(norm) for n, norm in zip(uses, norms, strict=True)) / sum(uses)
    return [core * math.exp(level - math.log(norm)) for core, norm in zip(cores, norms, strict=True)]


def _norm(data: Tensor) -> float:
    """The Frobenius norm, safe from overflow; refuses NaN and infinity."""
    square = squared_norm(data)
    if 1e-200 < square < 1e200:
        return math.sqrt(square)
    finite = torch.isfinite(data)
    if not finite.all():
        where = tuple((~finite).nonzero()[0].tolist())
        raise DataError(
            f"data holds {data[where].item()} at {where}: give finite numbers, or Observations.from_nan(data) "
            f"where NaN means missing"
        )
    largest = float(data.abs().max())
    return (
        largest * math.sqrt(squared_norm(data.to(torch.promote_types(data.dtype, torch.float64)) / largest))
        if largest
        else 0.0
    )
