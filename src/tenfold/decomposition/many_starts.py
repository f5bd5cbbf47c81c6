"""Alternating least squares from many starts at once: one sweep of matrix products serves them all."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold._scales import power_of, times_power
from tenfold.contraction import contract
from tenfold.decomposition._environments import environments
from tenfold.decomposition._error import squared_norm
from tenfold.decomposition._loss import Operand, primed
from tenfold.decomposition._solve import solve
from tenfold.errors import DataError, StructureError
from tenfold.network import Network
from tenfold.structure import Structure

# The index that counts the starts; no name that a person gives has an apostrophe first.
_STARTS = "starts_"
# Relative to the diagonal.
_RIDGE = 1e-12
# Relative errors below this are summed from residuals: those from norms have lost half their digits.
_CANCELLED = 1e-5


class ManyStarts:
    """Networks of one structure, fitted to one tensor side by side.

    Each sweep solves one least-squares problem for each core of each network, as `als` does for one; the products with
    the data are made for all networks together. For tensors of a few thousand entries, where a sweep of one network is
    made of calls and not of arithmetic, sixteen take little longer than one.

    Args:
        data: a real or complex floating tensor of the structure's shape.
        structure: every core used once.
        starts: how many random networks to begin with.
        init: networks of the same structure to begin with besides.
        seed: fixes the random ones.

    Attributes:
        errors: relative Frobenius error of each network, as of the last sweep; infinite before the first.

    Raises:
        StructureError: a core is used several times, an ``init`` has another structure, or there is nothing to start.
        DataError: the data is of another shape.

    Cost of a sweep: that of `als`, times the number of networks, in the same number of calls.
    """

    def __init__(
        self, data: Tensor, structure: Structure, *, starts: int, init: Sequence[Network] = (), seed: int = 0
    ) -> None:
        if any(len(core.terms) > 1 for core in structure.cores):
            raise StructureError(f"'{structure}' uses a core twice; many starts take structures that do not")
        if any(network.structure != structure for network in init):
            raise StructureError(f"init has another structure than '{structure}'")
        if starts + len(init) < 1:
            raise StructureError("there is nothing to start from: give starts or init")
        if tuple(data.shape) != structure.shape:
            raise DataError(f"data has shape {tuple(data.shape)}, but '{structure}' makes {structure.shape}")
        wide = torch.complex128 if data.is_complex() else torch.float64
        self.network_structure = structure
        self.background = True  # every cell of the data counts
        self._power = power_of(data)
        self.data: Tensor = times_power(data.detach(), -self._power).to(wide).reshape(structure.output_shape)
        self.total = squared_norm(self.data)
        self._result = data.dtype
        generator = torch.Generator().manual_seed(seed)
        self._cores = []
        factor = 2.0 ** (-self._power / len(structure.terms))
        for number, core in enumerate(structure.cores):
            drawn = torch.randn((starts, *core.shape), generator=generator, dtype=wide).to(data.device)
            given = [network.cores[number].detach().to(data.device, wide)[None] * factor for network in init]
            self._cores.append(torch.cat([drawn, *given]))
        self.errors: Float[Tensor, " starts"] = torch.full((len(self._cores[0]),), math.inf, dtype=torch.float64)
        self._arrange()

    def _arrange(self) -> None:
        """The structure with one more output, which counts the starts and lies on every core."""
        plain = self.network_structure
        self.structure = Structure.of(
            [(_STARTS, *term.indices) for term in plain.terms],
            [(_STARTS,), *((index,) for index in plain.output_indices)],
            {_STARTS: len(self.errors), **plain.sizes},
        )
        self._balance()

    def operand(self) -> Operand:
        """The data with its indices: the same for every start."""
        return self.network_structure.output_indices, self.data

    def sweep(self) -> Float[Tensor, " starts"]:
        """Every core of every network once; returns the new `errors`."""
        if self.total == 0:
            self._cores = [torch.zeros_like(core) for core in self._cores]
            self.errors = torch.zeros_like(self.errors)
            return self.errors
        square = torch.full_like(self.errors, math.nan)
        for place, operands, gram in environments(self, self._cores, range(len(self.structure.terms))):
            square = self._update(place, operands, gram)
        self._balance()
        self.errors = (square / self.total).clamp(min=0).sqrt()
        for n in (self.errors < _CANCELLED).nonzero().flatten().tolist():
            residual = self.data - self._alone(n).dense().reshape(self.data.shape)
            self.errors[n] = math.sqrt(squared_norm(residual) / self.total)
        self.errors = torch.where(torch.isfinite(self.errors), self.errors, math.inf)
        return self.errors

    def keep(self, which: Int[Tensor, " kept"] | Sequence[int]) -> None:
        """Go on with these networks only."""
        chosen = torch.as_tensor(which, dtype=torch.int64)
        self._cores = [core[chosen.to(core.device)] for core in self._cores]
        self.errors = self.errors[chosen]
        self._arrange()

    def best(self) -> Network:
        """The network of the least error, for the data as given and in its dtype."""
        network = self._alone(int(self.errors.argmin()))
        factor = 2.0 ** (self._power / len(network.cores))
        return Network(network.structure, [core * factor for core in network.cores]).to(self._result)

    def _alone(self, n: int) -> Network:
        return Network(self.network_structure, [core[n] for core in self._cores])

    def _update(self, place: int, operands: list[Operand], gram: list[Operand]) -> Float[Tensor, " starts"]:
        """Solve for the cores at one term; returns the squared distances."""
        structure = self.structure
        indices = structure.terms[place].indices
        outputs = structure.output_indices
        inner = tuple(i for i in indices if i not in outputs)
        shared = tuple(i for i in indices if i in outputs and (i == _STARTS or len(structure.terms_with(i)) > 1))
        own = tuple(i for i in indices if i not in inner and i not in shared)
        layout = (*shared, *inner, *own)
        blocks = math.prod(structure.sizes[i] for i in shared)
        columns = math.prod(structure.sizes[i] for i in inner)
        starts = structure.sizes[_STARTS]
        old = self._cores[place].permute([indices.index(i) for i in layout])
        shape = old.shape
        old = old.reshape(blocks, columns, -1)
        if gram:
            right = contract(operands, layout).reshape(blocks, columns, -1)
            matrix = contract(gram, (*shared, *inner, *primed(structure, inner))).reshape(blocks, columns, columns)
        else:  # the only core is the data
            alone = self.data.permute([self.network_structure.output_indices.index(i) for i in layout[1:]])
            right = alone.expand(starts, *alone.shape).reshape(blocks, columns, -1)
            matrix = torch.ones(1, 1, 1, dtype=old.dtype, device=old.device)
        new = old + solve(matrix, right - matrix @ old, _RIDGE)
        self._cores[place] = new.reshape(shape).permute([layout.index(i) for i in indices])
        gained = ((matrix @ new - 2 * right).conj() * new).real
        return self.total + gained.reshape(starts, -1).sum(1)

    def _balance(self) -> None:
        """Cores of equal norm in each network; unchanged where one of them is zero."""
        norms = torch.stack([core.flatten(1).norm(dim=1) for core in self._cores])
        level = norms.log().mean(0).exp()
        factors = level / norms
        factors = torch.where(torch.isfinite(factors).all(0) & (factors > 0).all(0), factors, 1.0)
        self._cores = [
            core * factor.reshape(-1, *[1] * (core.ndim - 1)) for core, factor in zip(self._cores, factors, strict=True)
        ]
