"""Alternating least squares from many starts at once: one sweep of matrix products serves them all."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold._scales import power_of, times_power
from tenfold.contraction import contract
from tenfold.decomposition._error import squared_norm
from tenfold.decomposition._gauss_newton import STARTS, GaussNewton
from tenfold.decomposition._solve import solve
from tenfold.decomposition._sweep_program import Solve, program
from tenfold.errors import DataError, StructureError
from tenfold.network import Network
from tenfold.structure import Structure

# Relative to the diagonal.
_RIDGE = 1e-12
# Relative errors below this are summed from residuals: those from norms have lost half their digits.
_CANCELLED = 1e-5
# Residuals are made for networks of so many entries together.
_TOGETHER = 2**18
# Norms of cores drift apart slowly: they are made equal again after so many sweeps.
_DRIFT = 10
# What the diagonal is multiplied by at first where all cores step together, and how far that may go.
_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-3, 1e-15, 1e15
# The least that a number is damped as, beside the most.
_STIFF = 1e-8


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
        self.structure = structure
        self._power = power_of(data)
        self.data: Tensor = times_power(data.detach(), -self._power).to(wide).reshape(structure.output_shape)
        self.total = squared_norm(self.data)
        self._result = data.dtype
        self._program = program(structure, data.is_complex())
        takes = GaussNewton.takes(structure)
        self._gauss_newton = GaussNewton(structure, self._program.layouts) if takes else None
        self._sweeps = 0
        generator = torch.Generator().manual_seed(seed)
        # Every core with an axis more in front, which counts the networks, its own axes as the program wants them.
        self._cores = []
        factor = 2.0 ** (-self._power / len(structure.terms))
        for number, core in enumerate(structure.cores):
            drawn = torch.randn((starts, *core.shape), generator=generator, dtype=wide).to(data.device)
            given = [network.cores[number].detach().to(data.device, wide)[None] * factor for network in init]
            order = [core.indices.index(i) + 1 for i in self._program.layouts[number]]
            self._cores.append(torch.cat([drawn, *given]).permute(0, *order).contiguous())
        self.errors: Float[Tensor, " starts"] = torch.full((len(self._cores[0]),), math.inf, dtype=torch.float64)
        self._damping = torch.full_like(self.errors, _DAMPING)
        self._growth = torch.full_like(self.errors, 2.0)
        self._balance()

    def sweep(self) -> Float[Tensor, " starts"]:
        """Every core of every network once; returns the new `errors`."""
        if self.total == 0:
            self._cores = [torch.zeros_like(core) for core in self._cores]
            self.errors = torch.zeros_like(self.errors)
            return self.errors
        found, starts = self._program, len(self.errors)
        values: list[Tensor] = [*self._cores, self.data, *[self.data] * (found.slots - len(self._cores) - 1)]
        for step in found.steps:
            if isinstance(step, Solve):
                values[step.place] = self._solved(step, values)
            else:
                step.run(values, starts)
        self._cores = values[: len(self._cores)]
        self._sweeps += 1
        if self._sweeps % _DRIFT == 0:
            self._balance()
        small = (self.errors < _CANCELLED).nonzero().flatten()
        for some in small.split(max(1, _TOGETHER // self.data.numel())) if len(small) else ():
            self.errors[some] = self._measured(some)
        self.errors = torch.where(torch.isfinite(self.errors), self.errors, math.inf)
        return self.errors

    def step(self) -> Float[Tensor, " starts"]:
        """A damped Gauss-Newton step in all cores of each network at once, if it lowers its error; returns `errors`.

        Where sweeps creep because cores can only move together, this does not; near an exact fit digits double.

        Raises:
            StructureError: two cores share an output index, or there are fewer than two or more than eight of them.

        Cost: for P parameters ``P^3 / 3``, a contraction of the network with itself for each pair of cores, and one of
        the data for each core. Paper: "Damping parameter in Marquardt's method", 1999.
        """
        if self._gauss_newton is None:
            raise StructureError(f"'{self.structure}' has cores that share a mode, or more than eight; use sweeps")
        system = self._gauss_newton
        residual = self.data - system.network(self._cores)
        before = self._squares(residual)
        descent = system.descent(self._cores, residual)
        matrix = system.matrix(self._cores)
        diagonal = matrix.diagonal(dim1=1, dim2=2).real
        weight = torch.maximum(diagonal, _STIFF * diagonal.max(1, keepdim=True).values)
        damped = self._damping.to(weight.device)[:, None] * weight
        matrix.diagonal(dim1=1, dim2=2).add_(damped)
        factor, info = torch.linalg.cholesky_ex(matrix)
        step = torch.cholesky_solve(descent[:, :, None], factor)[:, :, 0]
        able = (info == 0) & torch.isfinite(torch.view_as_real(step) if step.is_complex() else step).flatten(1).all(1)
        step = torch.where(able[:, None], step, torch.zeros_like(step))
        moved = [core + part for core, part in zip(self._cores, system.split(step, self._cores), strict=True)]
        after = self._squares(self.data - system.network(moved))
        better = able & (after < before)
        self._cores = [
            torch.where(better.reshape(-1, *[1] * (core.ndim - 1)), new, core)
            for new, core in zip(moved, self._cores, strict=True)
        ]
        # The more of what the linear model promised has come true, the further it is trusted.
        promised = (step.conj() * (damped * step + descent)).real.sum(1)
        kept = ((before - after) / promised.clamp(min=torch.finfo(promised.dtype).tiny)).cpu()
        better = better.cpu()
        trust = torch.clamp(1 - (2 * kept - 1) ** 3, min=1 / 3)
        damping = torch.where(better, self._damping * trust, self._damping * self._growth)
        self._damping = damping.clamp(_LEAST_DAMPING, _MOST_DAMPING)
        self._growth = torch.where(better, 2.0, 2 * self._growth)
        self.errors = (torch.where(better, after.cpu(), before.cpu()) / self.total).sqrt()
        self.errors = torch.where(torch.isfinite(self.errors), self.errors, math.inf)
        return self.errors

    def keep(self, which: Int[Tensor, " kept"] | Sequence[int]) -> None:
        """Go on with these networks only."""
        chosen = torch.as_tensor(which, dtype=torch.int64)
        self._cores = [core[chosen.to(core.device)] for core in self._cores]
        self.errors, self._damping, self._growth = (one[chosen] for one in (self.errors, self._damping, self._growth))

    def network(self, n: int) -> Network:
        """The network of one start, for the data as given and in its dtype."""
        factor = 2.0 ** (self._power / len(self._cores))
        cores = []
        for core, kept, names in zip(self.structure.cores, self._cores, self._program.layouts, strict=True):
            cores.append(kept[n].permute([names.index(i) for i in core.indices]) * factor)
        return Network(self.structure, cores).to(self._result)

    def best(self) -> Network:
        """That of the least error."""
        return self.network(int(self.errors.argmin()))

    def _measured(self, some: Int[Tensor, " some"]) -> Float[Tensor, " some"]:
        """The errors of some networks, summed from residuals."""
        chosen = some.to(self.data.device)
        terms = [
            ((STARTS, *names), core[chosen]) for names, core in zip(self._program.layouts, self._cores, strict=True)
        ]
        residual = contract(terms, (STARTS, *self.structure.output_indices)) - self.data
        return residual.flatten(1).norm(dim=1).cpu() / math.sqrt(self.total)

    @staticmethod
    def _squares(residual: Tensor) -> Tensor:
        return residual.flatten(1).norm(dim=1) ** 2

    def _solved(self, step: Solve, values: list[Tensor]) -> Tensor:
        """The new cores at one term; the errors too, where it is the last."""
        old = values[step.place]
        starts = len(old)
        shape = (starts * step.blocks, step.columns, -1)
        before = old.reshape(shape)
        if step.matrix < 0:  # the only core is the data
            names = self._program.layouts[step.place]
            alone = self.data.permute([self.structure.output_indices.index(i) for i in names])
            right, matrix = alone.expand(old.shape).reshape(shape), torch.ones_like(before[:, :, :1])
        else:
            right = values[step.right].reshape(shape)
            matrix = values[step.matrix].reshape(starts * step.blocks, step.columns, step.columns)
        # The ridge damps the step and never the core, so no error grows, whatever the ridge.
        new = before + solve(matrix, right - matrix @ before, _RIDGE)
        if step.place == self._program.order[-1]:
            gained = ((matrix @ new - 2 * right).conj() * new).real
            square = self.total + gained.reshape(starts, -1).sum(1).cpu()
            self.errors = (square / self.total).clamp(min=0).sqrt()
        return new.reshape(old.shape)

    def _balance(self) -> None:
        """Cores of equal norm in each network; unchanged where one of them is zero."""
        norms = torch.stack([core.flatten(1).norm(dim=1) for core in self._cores])
        level = norms.log().mean(0).exp()
        factors = level / norms
        factors = torch.where(torch.isfinite(factors).all(0) & (factors > 0).all(0), factors, 1.0)
        self._cores = [
            core * factor.reshape(-1, *[1] * (core.ndim - 1)) for core, factor in zip(self._cores, factors, strict=True)
        ]
