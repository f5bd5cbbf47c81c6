"""Contraction: in which order the cores of a network are multiplied, what that costs, and doing it on torch.

A `Plan` is found once for each combination of index pattern and sizes and kept; it runs as a sequence of pairwise
batched matrix products, so any number of indices, any dtype that torch can multiply, any device and autograd all work.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import opt_einsum

if TYPE_CHECKING:
    from jaxtyping import Shaped
    from torch import Tensor

    from tenfold.structure import Structure

# Above this many operands the exact search of opt_einsum takes seconds where each shares an index with many others.
_LARGE = 8
# Products of two numbers below 2**_POWER, and sums of many such, are far from the ends of double precision.
_POWER = 200
# Counts from here on are formatted as decimals.
_FLOAT = 10**300
# So many binary digits of a count are safe where counts are converted to floats and multiplied.
_EXPONENT = 300

Indices = tuple[int, ...]


class Step(NamedTuple):
    """One pairwise product ``left x right -> out``, or a lone operand when ``right`` is None.

    Positions are in single-assignment order: operands first, then results. The permutations bring the operands to
    (batch, kept, summed) and (batch, summed, kept).
    """

    left: int
    right: int | None
    inputs: tuple[Indices, ...]
    out: Indices
    sum_left: Indices
    sum_right: Indices
    permute_left: Indices
    permute_right: Indices
    batch: int
    kept_left: int
    kept_right: int
    summed: int


@dataclass(frozen=True)
class Plan:
    """How to contract operands with given indices and sizes.

    Attributes:
        steps: the pairwise products, in order.
        finish: the permutation of the last result's axes into the output.
        flops: multiplications and additions of all steps.
        naive_flops: the same for one loop over all indices at once.
        peak: the largest number of entries alive at once, operands and output included.
        largest: entries of the largest tensor made on the way, the output included.
    """

    steps: tuple[Step, ...]
    finish: Indices
    sizes: tuple[int, ...]
    flops: int
    naive_flops: int
    peak: int
    largest: int


def contract(terms: Sequence[tuple[Sequence[str], Tensor]], output: Sequence[str]) -> Shaped[Tensor, ...]:
    """The sum over every index that is not in ``output`` of the product of all terms.

    Args:
        terms: pairs of index names and a tensor with as many axes. Names shared between terms are one index.
        output: the indices to keep, in the order of the result's axes.

    Returns:
        The result, with one axis for each output index; gradients flow to all terms.

    Raises:
        ValueError: one index has two sizes or appears twice in a term or in the output, an output index lies on no
            term, or there is no term.
    """
    found = _found(terms, output)
    return execute(found, [tensor for _, tensor in terms])


def contract_scaled(terms: Sequence[tuple[Sequence[str], Tensor]], output: Sequence[str]) -> tuple[Tensor, int]:
    """``contract`` where what is on the way would leave the range of floating-point numbers.

    Returns:
        ``result`` and ``power``: the contraction is ``result * 2**power``.
    """
    from tenfold._scales import power_of, times_power  # imports torch, which plans and costs need not

    total = 0

    def rescaled(tensor: Tensor) -> Tensor:
        nonlocal total
        power = power_of(tensor)
        if abs(power) <= _POWER:
            return tensor
        total += power
        return times_power(tensor, -power)

    found = _found(terms, output)
    return execute(found, [rescaled(tensor) for _, tensor in terms], rescaled), total


def _found(terms: Sequence[tuple[Sequence[str], Tensor]], output: Sequence[str]) -> Plan:
    if not terms:
        raise ValueError("there is no term to contract")
    number: dict[str, int] = {}
    sizes: list[int] = []
    inputs = []
    for indices, tensor in terms:
        if len(indices) != tensor.ndim:
            raise ValueError(f"a term with indices {tuple(indices)} needs {len(indices)} axes, not {tensor.ndim}")
        for index, size in zip(indices, tensor.shape, strict=True):
            if index not in number:
                number[index] = len(sizes)
                sizes.append(size)
            elif sizes[number[index]] != size:
                raise ValueError(f"index '{index}' has sizes {sizes[number[index]]} and {size}")
        if len(set(indices)) < len(indices):
            raise ValueError(f"a term with indices {tuple(indices)} has one twice; take its diagonal first")
        inputs.append(tuple(number[index] for index in indices))
    if len(set(output)) < len(output):
        raise ValueError(f"output {tuple(output)} has an index twice")
    for index in output:
        if index not in number:
            raise ValueError(f"output index '{index}' lies on no term")
    return _plan(tuple(inputs), tuple(number[index] for index in output), tuple(sizes))


def plan(inputs: Sequence[Sequence[str]], output: Sequence[str], sizes: Mapping[str, int]) -> Plan:
    """The plan for operands with the given index names; found once and kept."""
    number: dict[str, int] = {}
    for indices in inputs:
        for index in indices:
            number.setdefault(index, len(number))
    return _plan(
        tuple(tuple(number[i] for i in indices) for indices in inputs),
        tuple(number[i] for i in output),
        tuple(sizes[i] for i in number),
    )


def execute(
    found: Plan, operands: Sequence[Tensor], then: Callable[[Tensor], Tensor] | None = None
) -> Shaped[Tensor, ...]:
    """Run a plan on its operands, which must have the shapes that it was made for; ``then`` sees every product."""
    values: list[Tensor | None] = list(operands)
    for step in found.steps:
        left = values[step.left]
        values[step.left] = None
        assert left is not None
        if step.sum_left:
            left = left.sum(step.sum_left)
        if step.right is None:
            values.append(left)
            continue
        right = values[step.right]
        values[step.right] = None
        assert right is not None
        if step.sum_right:
            right = right.sum(step.sum_right)
        shape = [found.sizes[index] for index in step.out]
        a = left.permute(step.permute_left)
        b = right.permute(step.permute_right)
        if step.summed == 1:
            a = a.reshape(step.batch, step.kept_left, 1)
            b = b.reshape(step.batch, 1, step.kept_right)
            made = a * b
        elif step.batch == 1:
            made = a.reshape(step.kept_left, step.summed) @ b.reshape(step.summed, step.kept_right)
        else:
            a = a.reshape(step.batch, step.kept_left, step.summed)
            made = a @ b.reshape(step.batch, step.summed, step.kept_right)
        made = made.reshape(shape)
        values.append(made if then is None else then(made))
    result = values[-1]
    assert result is not None
    return result.permute(found.finish)


@lru_cache(maxsize=4096)
def _plan(inputs: tuple[Indices, ...], output: Indices, sizes: tuple[int, ...]) -> Plan:
    live: dict[int, Indices] = dict(enumerate(inputs))
    left_on = Counter(index for indices in inputs for index in set(indices))
    kept = set(output)
    entries = sum(_size(indices, sizes) for indices in inputs)
    peak, largest, flops = entries, _size(output, sizes), 0
    steps: list[Step] = []
    position = len(inputs)
    for pair in _path(inputs, output, sizes):
        names = [live.pop(p) for p in pair]
        for indices in names:
            for index in indices:
                left_on[index] -= 1
        step, cost = _step(pair, names, {i for i in _union(names) if i in kept or left_on[i] > 0}, sizes)
        for index in step.out:
            left_on[index] += 1
        live[position] = step.out
        position += 1
        steps.append(step)
        flops += cost
        made = _size(step.out, sizes)
        largest = max(largest, made)
        peak = max(peak, entries + made)
        entries += made - sum(_size(indices, sizes) for indices in names)
    (last,) = live.values()
    naive = math.prod(sizes) * max(len(inputs) - (0 if set(range(len(sizes))) - kept else 1), 1)
    return Plan(tuple(steps), tuple(last.index(i) for i in output), sizes, flops, naive, peak, largest)


def _union(names: Sequence[Indices]) -> set[int]:
    return {index for indices in names for index in indices}


def _step(pair: Sequence[int], names: list[Indices], wanted: set[int], sizes: tuple[int, ...]) -> tuple[Step, int]:
    left, right = names[0], (names[1] if len(names) == 2 else ())
    # An index that only one operand carries and nobody wants is summed before anything is multiplied.
    drop_left = tuple(n for n, i in enumerate(left) if i not in wanted and i not in right)
    drop_right = tuple(n for n, i in enumerate(right) if i not in wanted and i not in left)
    flops = (_size(left, sizes) if drop_left else 0) + (_size(right, sizes) if drop_right else 0)
    a = [i for n, i in enumerate(left) if n not in drop_left]
    if len(names) == 1:
        return Step(pair[0], None, (left,), tuple(a), drop_left, (), (), (), 1, 1, 1, 1), flops
    b = [i for n, i in enumerate(right) if n not in drop_right]
    batch = [i for i in a if i in b and i in wanted]
    summed = [i for i in a if i in b and i not in wanted]
    only_a = [i for i in a if i not in b]
    only_b = [i for i in b if i not in a]
    step = Step(
        pair[0],
        pair[1],
        (left, right),
        tuple(batch + only_a + only_b),
        drop_left,
        drop_right,
        tuple(a.index(i) for i in batch + only_a + summed),
        tuple(b.index(i) for i in batch + summed + only_b),
        _size(batch, sizes),
        _size(only_a, sizes),
        _size(only_b, sizes),
        _size(summed, sizes),
    )
    work = _size({*a, *b}, sizes)
    return step, flops + work * (2 if step.summed > 1 else 1)


def _path(inputs: tuple[Indices, ...], output: Indices, sizes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Pairs of positions in single-assignment order."""
    if len(inputs) <= 2:
        return [tuple(range(len(inputs)))]
    if len(inputs) > _LARGE:
        import cotengra  # only networks with many cores pay for its import

        names = [[str(i) for i in indices] for indices in inputs]
        search = cotengra.RandomGreedyOptimizer(max_repeats=32, seed=0, accel=False, parallel=False)
        kept = [str(i) for i in output]
        try:
            linear = search(names, kept, {str(i): s for i, s in enumerate(sizes)})
        except OverflowError:
            # Results of more entries than a float can count: only the order of the sizes of indices is left.
            smaller = _EXPONENT / math.log2(math.prod(sizes))
            linear = search(names, kept, {str(i): math.ceil(s**smaller) for i, s in enumerate(sizes)})
    else:
        symbols = [opt_einsum.get_symbol(i) for i in range(len(sizes))]
        equation = ",".join("".join(symbols[i] for i in indices) for indices in inputs)
        equation += "->" + "".join(symbols[i] for i in output)
        shapes = [tuple(sizes[i] for i in indices) for indices in inputs]
        linear, _ = opt_einsum.contract_path(equation, *shapes, shapes=True, optimize="auto-hq")
    return _single_assignment(linear, len(inputs))


def _single_assignment(linear: Sequence[Sequence[int]], n: int) -> list[tuple[int, ...]]:
    """From positions in a shrinking list to positions that are never reused; larger groups become pairs."""
    alive = list(range(n))
    pairs: list[tuple[int, ...]] = []
    for group in linear:
        chosen = [alive[p] for p in sorted(group)]
        alive = [p for p in alive if p not in chosen]
        while len(chosen) > 1:
            pairs.append((chosen.pop(0), chosen.pop(0)))
            chosen.append(n)
            n += 1
        alive += chosen
    return pairs


def _size(indices: Sequence[int] | set[int], sizes: tuple[int, ...]) -> int:
    return math.prod(sizes[i] for i in indices)


# --- what it costs ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """What a structure costs: numbers to keep, and work and memory to make its dense tensor; prints as a table.

    Attributes:
        parameters: entries of all distinct cores.
        size: entries of the dense tensor.
        flops: multiplications and additions along the path.
        naive_flops: the same for one loop over all indices at once.
        peak: entries alive at once at the worst moment, cores and result included.
        largest: entries of the largest tensor made on the way.
        steps: the pairwise products as text: operands, result, flops, entries of the result.
    """

    pattern: str
    parameters: int
    size: int
    flops: int
    naive_flops: int
    peak: int
    largest: int
    steps: tuple[tuple[str, str, int, int], ...]

    def __str__(self) -> str:
        lines = [
            f"  structure           {self.pattern}",
            f"  parameters          {self.parameters:,} for {self.size:,} entries "
            f"(ratio {ratio(self.size, self.parameters):.4g})",
            f"  naive flops         {_rounded(self.naive_flops)}",
            f"  flops               {_rounded(self.flops)}  (speedup {ratio(self.naive_flops, self.flops):.4g})",
            f"  largest tensor      {_rounded(self.largest)} entries",
            f"  peak memory         {_rounded(self.peak)} entries",
        ]
        if self.steps:
            wide = max(12, *(len(a) for a, *_ in self.steps)), max(8, *(len(b) for _, b, *_ in self.steps))
            lines.append(f"  {'product':<{wide[0]}}   {'result':<{wide[1]}}   {'flops':>10}   {'entries':>10}")
            for a, b, flops, made in self.steps:
                lines.append(
                    f"  {a:<{wide[0]}}   {b:<{wide[1]}}   {_rounded(flops, '>10.3g')}   {_rounded(made, '>10.3g')}"
                )
        return "\n".join(lines)


def ratio(entries: int, parameters: int) -> float:
    """``entries / parameters``, infinite where that is too large for a float."""
    try:
        return entries / max(parameters, 1)
    except OverflowError:
        return math.inf


def _rounded(count: int, form: str = ".3e") -> str:
    """A count with a few digits; Python's integers may be larger than its floats."""
    return f"{count if count < _FLOAT else Decimal(count):{form}}"


def cost(structure: Structure) -> Cost:
    """The cost of making a structure's dense tensor; the path search is the only work done."""
    names = list(structure.sizes)
    found = plan([t.indices for t in structure.terms], structure.output_indices, structure.sizes)
    steps = []
    for step in found.steps:
        operands = " , ".join(" ".join(names[i] for i in indices) or "[]" for indices in step.inputs)
        made = _size(step.out, found.sizes)
        work = _size(_union(step.inputs), found.sizes) * (2 if step.summed > 1 else 1)
        steps.append((operands, " ".join(names[i] for i in step.out) or "[]", work, made))
    return Cost(
        structure.pattern,
        structure.parameters,
        structure.size,
        found.flops,
        found.naive_flops,
        found.peak,
        found.largest,
        tuple(steps),
    )
