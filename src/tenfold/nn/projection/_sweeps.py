"""Sweeps of least squares over the cores of one structure or of a sum, with the covariance of what comes in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.contraction import contract, plan
from tenfold.decomposition._solve import conjugate_gradient, solve
from tenfold.nn.projection._chain import balanced
from tenfold.structure import Structure

# Normal matrices of more entries than this, or that take more work to make, are applied and not made.
_ENTRIES, _FLOPS = 2**23, 2e10
# Relative to the diagonal; it damps the step and never the core, so the error does not grow.
_RIDGE = 1e-12
_CG_TOLERANCE, _CG_ITERATIONS = 1e-9, 40
# Matrices of more entries than this get few sweeps and iterations: what comes later hardly lowers the error.
_LARGE, _LARGE_SWEEPS, _LARGE_ITERATIONS = 2**20, 6, 8
# Of a Gauss-Newton step: iterations, and how often it is damped more.
_CG_NEWTON, _TRIES = 60, 6
# Jacobians of at most so many entries are made.
_JACOBIAN = 2**22

Operand = tuple[tuple[str, ...], Tensor]
Cores = list[list[Tensor]]


class Approximation:
    """``||(W - sum of structures) C||_F`` as a function of the cores, each of which is linear in it.

    Args:
        weight: the matrix ``W``.
        structures: what is added up.
        root: ``C``, or None for the identity.
        fixed: for each structure, the numbers of the cores that stay.
    """

    def __init__(
        self,
        weight: Float[Tensor, "rows columns"],
        structures: Sequence[Structure],
        root: Float[Tensor, "columns columns"] | None,
        fixed: Sequence[frozenset[int]],
    ) -> None:
        self.weight, self.structures, self.root, self.fixed = weight, tuple(structures), root, tuple(fixed)
        self.covariance = None if root is None else root @ root.T
        self.goal = weight if self.covariance is None else weight @ self.covariance
        self.total = float((self.goal * weight).sum())

    def error(self, cores: Sequence[Sequence[Tensor]]) -> float:
        """The squared distance, over that of the zero matrix where this is not zero."""
        left = self.weight - self.dense(cores)
        distance = float((left if self.root is None else left @ self.root).square().sum())
        return distance / self.total if self.total > 0 else distance

    def dense(self, cores: Sequence[Sequence[Tensor]]) -> Tensor:
        """The matrix that the cores make."""
        return torch.stack([self._one(term, cores[term]) for term in range(len(self.structures))]).sum(0)

    def sweeps(self, cores: Sequence[Sequence[Tensor]], *, most: int, tolerance: float) -> Cores:
        """Solve for each core in turn until a sweep lowers the error by less than this part of it, or so many times.

        The error never grows. Cores that are used more than once stay; `newton` moves these.
        """
        current = [list(each) for each in cores]
        best, error = current, self.error(current)
        for _ in range(most):
            for term, structure in enumerate(self.structures):
                goal = self._goal_without(term, current)
                for number, core in enumerate(structure.cores):
                    if number not in self.fixed[term] and len(core.terms) == 1:
                        current[term][number] = self._solved(term, current[term], number, goal)
                current[term] = balanced(structure, current[term], self.fixed[term])
            after = self.error(current)
            if not after < error:
                break
            gained, error = error - after, after
            best = [list(each) for each in current]
            if gained <= tolerance * error or error < 1e-30:
                break
        return best

    def _one(self, term: int, cores: Sequence[Tensor]) -> Tensor:
        structure = self.structures[term]
        return contract(_operands(structure, cores), structure.output_indices).reshape(structure.shape)

    def _goal_without(self, term: int, cores: Sequence[Sequence[Tensor]]) -> Tensor:
        """What is left for one structure of a sum, times the covariance."""
        if len(self.structures) == 1:
            return self.goal
        others = torch.stack([self._one(n, cores[n]) for n in range(len(self.structures)) if n != term]).sum(0)
        return self.goal - (others if self.covariance is None else others @ self.covariance)

    def _solved(self, term: int, cores: Sequence[Tensor], number: int, goal: Tensor) -> Tensor:
        """The best core while the others stay, by its normal equations."""
        structure = self.structures[term]
        (place,) = structure.cores[number].terms
        indices = structure.terms[place].indices
        others = [operand for n, operand in enumerate(_operands(structure, cores)) if n != place]
        right = contract([(structure.output_indices, goal.reshape(structure.output_shape)), *others], indices)
        old = cores[number]
        coupled = self._coupled(structure, indices)
        beside = [i for n, t in enumerate(structure.terms) if n != place for i in t.indices]
        shared = [i for i in indices if i not in coupled and i in beside]
        own = [i for i in indices if i not in coupled and i not in shared]
        gram = self._gram(structure, others)
        primed = [_prime(i) for i in coupled]
        layout = [*shared, *coupled, *own]
        count, unknowns = (math.prod(structure.sizes[i] for i in group) for group in (shared, coupled))
        if gram and self._makeable(structure, gram, (*shared, *coupled, *primed), count * unknowns**2):
            matrix = contract(gram, (*shared, *coupled, *primed)).reshape(count, unknowns, unknowns)
            turn = [indices.index(i) for i in layout]
            before = old.permute(turn).reshape(count, unknowns, -1)
            asked = right.permute(turn).reshape(count, unknowns, -1)
            new = before + solve(matrix, asked - matrix @ before, _RIDGE)
            return new.reshape([structure.sizes[i] for i in layout]).permute([layout.index(i) for i in indices])
        if not gram:
            return right
        renamed = tuple(_prime(i) if i in coupled else i for i in indices)

        def apply(core: Tensor) -> Tensor:
            return contract([(renamed, core), *gram], indices)

        iterations = _LARGE_ITERATIONS if self.weight.numel() > _LARGE else min(_CG_ITERATIONS, old.numel())
        change = conjugate_gradient(apply, right - apply(old), tolerance=_CG_TOLERANCE, iterations=iterations)
        return old + change

    def _coupled(self, structure: Structure, indices: Sequence[str]) -> list[str]:
        """The indices of a core whose values are not unknowns of their own: bonds, and columns that correlate."""
        columns = () if self.covariance is None else structure.outputs[1]
        return [i for i in indices if i in structure.inner_indices or i in columns]

    def _gram(self, structure: Structure, others: Sequence[Operand]) -> list[Operand]:
        """The other cores twice, and the covariance between; the second time all but rows have names of their own."""
        doubled = set(structure.inner_indices)
        columns = structure.outputs[1]
        made = list(others)
        if self.covariance is not None:
            doubled |= set(columns)
            sizes = [structure.sizes[i] for i in columns]
            names = (*columns, *(_prime(i) for i in columns))
            made.append((names, self.covariance.reshape(*sizes, *sizes)))
        twice = [(tuple(_prime(i) if i in doubled else i for i in names), tensor) for names, tensor in others]
        return [*made, *twice]

    @staticmethod
    def _makeable(structure: Structure, gram: Sequence[Operand], output: Sequence[str], entries: int) -> bool:
        if entries > _ENTRIES:
            return False
        sizes = {i: n for names, tensor in gram for i, n in zip(names, tensor.shape, strict=True)}
        return plan([names for names, _ in gram], output, sizes).flops <= _FLOPS

    def newton(self, cores: Sequence[Sequence[Tensor]], *, most: int, tolerance: float) -> Cores:
        """Damped Gauss-Newton steps in all cores at once, as `sweeps`; near a fit they take far fewer.

        Each step is a least-squares problem that is solved by conjugate gradients, without its matrix. A step that does
        not lower the error is taken back, and damped more.
        """
        best, error, damping = [list(each) for each in cores], self.error(cores), 1e-3
        places = [(t, n) for t, each in enumerate(best) for n in range(len(each)) if n not in self.fixed[t]]
        for _ in range(most):
            step_at = self._linearised(best, places)
            for _ in range(_TRIES):
                trial = _moved(best, places, step_at(damping * math.sqrt(error)))
                after = self.error(trial)
                if after < error:
                    break
                damping *= 10
            else:
                return best
            damping = max(damping / 5, 1e-12)
            gained, error, best = error - after, after, trial
            if gained <= tolerance * error or error < 1e-28:
                break
        return best

    def _linearised(self, cores: Cores, places: Sequence[tuple[int, int]]) -> Callable[[float], list[Tensor]]:
        """The damped step of least squares around these cores, as a function of the damping."""
        shapes = [cores[t][n].shape for t, n in places]
        left = self.weight - self.dense(cores)
        right = self._backward(cores, places, left if self.covariance is None else left @ self.covariance)
        if right.numel() * self.weight.numel() <= _JACOBIAN:
            columns = self._jacobian(cores, places)
            beside = columns if self.covariance is None else torch.einsum("rcp,cd->rdp", columns, self.covariance)
            gram = columns.flatten(0, 1).T @ beside.flatten(0, 1)

            def exact(level: float) -> list[Tensor]:
                damped = gram + level * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
                return _parts(solve(damped[None], right[None, :, None], _RIDGE)[0, :, 0], shapes)

            return exact

        def normal(step: Tensor) -> Tensor:
            moved = self._forward(cores, places, _parts(step, shapes))
            return self._backward(cores, places, moved if self.covariance is None else moved @ self.covariance)

        def iterated(level: float) -> list[Tensor]:
            step = conjugate_gradient(lambda x: normal(x) + level * x, right, tolerance=1e-6, iterations=_CG_NEWTON)
            return _parts(step, shapes)

        return iterated

    def _others(self, cores: Cores, term: int, number: int) -> list[tuple[tuple[str, ...], list[Operand]]]:
        """For each use of a core, its indices there and all the other operands."""
        operands = _operands(self.structures[term], cores[term])
        uses = self.structures[term].cores[number].terms
        return [(operands[place][0], [*operands[:place], *operands[place + 1 :]]) for place in uses]

    def _forward(self, cores: Cores, places: Sequence[tuple[int, int]], steps: Sequence[Tensor]) -> Tensor:
        """How the matrix moves with the cores."""
        made = torch.zeros_like(self.weight)
        for (t, n), step in zip(places, steps, strict=True):
            for indices, others in self._others(cores, t, n):
                part = contract([(indices, step), *others], self.structures[t].output_indices)
                made = made + part.reshape(made.shape)
        return made

    def _backward(self, cores: Cores, places: Sequence[tuple[int, int]], matrix: Tensor) -> Tensor:
        """The transpose of `_forward`, as one vector."""
        found = []
        for t, n in places:
            structure = self.structures[t]
            goal = (structure.output_indices, matrix.reshape(structure.output_shape))
            parts = [contract([goal, *others], indices) for indices, others in self._others(cores, t, n)]
            found.append(torch.stack(parts).sum(0).reshape(-1))
        return torch.cat(found)

    def _jacobian(self, cores: Cores, places: Sequence[tuple[int, int]]) -> Float[Tensor, "rows columns unknowns"]:
        """The matrix of `_forward`."""
        found = []
        for t, n in places:
            structure = self.structures[t]
            part = self.weight.new_zeros(*self.weight.shape, cores[t][n].numel())
            for indices, others in self._others(cores, t, n):
                units = [
                    ((i, _prime(i)), torch.eye(structure.sizes[i], dtype=part.dtype, device=part.device))
                    for i in indices
                ]
                output = (*structure.output_indices, *(_prime(i) for i in indices))
                part = part + contract([*others, *units], output).reshape(part.shape)
            found.append(part)
        return torch.cat(found, dim=2)


def _moved(cores: Cores, places: Sequence[tuple[int, int]], by: Sequence[Tensor]) -> Cores:
    made = [list(each) for each in cores]
    for (t, n), step in zip(places, by, strict=True):
        made[t][n] = made[t][n] + step
    return made


def _parts(flat: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    return [part.reshape(shape) for part, shape in zip(flat.split([s.numel() for s in shapes]), shapes, strict=True)]


def start(structure: Structure, fixed: Mapping[int, Tensor], like: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Random cores whose matrix has about the norm 1, and the fixed ones as they are."""
    inner = math.prod(structure.sizes[i] for i in structure.inner_indices) or 1
    each = (1 / (inner * max(structure.size, 1))) ** (0.5 / len(structure.terms))
    return [
        fixed[n].to(like)
        if n in fixed
        else each * torch.randn(core.shape, generator=generator, dtype=like.dtype).to(like.device)
        for n, core in enumerate(structure.cores)
    ]


def refined(
    weight: Tensor,
    structure: Structure,
    root: Tensor | None,
    cores: Sequence[Tensor],
    *,
    most: int = 30,
    tolerance: float = 1e-3,
) -> list[Tensor]:
    """Cores with no larger an error than those given, by sweeps."""
    problem = Approximation(weight, [structure], root, [frozenset()])
    if weight.numel() > _LARGE:
        most = min(most, _LARGE_SWEEPS)
    found = problem.sweeps([cores], most=most, tolerance=tolerance)
    if any(len(core.terms) > 1 for core in structure.cores):
        found = problem.newton(found, most=most, tolerance=tolerance)
    return found[0]


def _operands(structure: Structure, cores: Sequence[Tensor]) -> list[Operand]:
    return [(t.indices, cores[n]) for t, n in zip(structure.terms, structure.term_core, strict=True)]


def _prime(index: str) -> str:
    # No index of a structure contains a quote.
    return index + "'"
