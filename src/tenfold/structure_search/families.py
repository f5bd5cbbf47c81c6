"""Tree-shaped families of structures for arrays of a shape, with the largest ranks that are of use."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, permutations

from tenfold import formats
from tenfold._trees import bond_limits
from tenfold.structure import Structure

# Modes at least this long are also tried in pieces.
_LONG = 16
# With at most this many modes a train is tried in every order.
_ALL_ORDERS = 4


def tree_families(
    shape: tuple[int, ...], modes: Sequence[str], *, folded: bool = True
) -> Iterator[tuple[str, Structure]]:
    """Labels and structures with the largest ranks that are of use; ``folded``: also those that cut modes in pieces."""
    order = len(shape)
    sizes = dict(zip(modes, shape, strict=True))
    plain = [(mode,) for mode in modes]
    if order >= 3:
        yield "tucker", formats.tucker(shape, max(shape)).name_outputs(modes)
    if order >= 2:
        orders = permutations(range(order)) if order <= _ALL_ORDERS else [tuple(range(order))]
        for chosen in orders:
            if chosen[0] < chosen[-1]:  # a train read backwards is the same train
                natural = chosen == tuple(range(order))
                label = "tensor train" if natural else f"tensor train ({' '.join(modes[k] for k in chosen)})"
                yield label, _train([(modes[k],) for k in chosen], plain, sizes)
    if order >= 4:
        full = formats.hierarchical_tucker(shape, math.prod(shape))
        yield "hierarchical tucker", full.name_outputs(modes)
    if folded:
        yield from _folded_families(shape, modes, sizes)


def _folded_families(
    shape: tuple[int, ...], modes: Sequence[str], sizes: dict[str, int]
) -> Iterator[tuple[str, Structure]]:
    """Trains over modes cut into a coarse and a fine part (patches), or into levels; two long modes together."""
    long = sorted((k for k, n in enumerate(shape) if n >= _LONG), key=lambda k: -shape[k])[:3]
    groups = list(combinations(sorted(long), 2)) if len(long) >= 2 else [tuple(long)] if long else []
    for group in groups:
        others = [(modes[k],) for k in range(len(shape)) if k not in group]
        for patch in (4, 8, 16):
            fine = [_near_divisor(shape[k], patch) for k in group]
            if None in fine:
                continue
            factors = {k: (shape[k] // f, f) for k, f in zip(group, fine, strict=True) if f is not None}
            label = f"patches {' x '.join(f'{modes[k]}/{f[1]}' for k, f in factors.items())}"
            yield label, _folded_train(factors, modes, sizes, others)
        levels = [_levels(shape[k]) for k in group]
        if min(map(len, levels)) >= 3 and len({len(level) for level in levels}) == 1:
            label = f"levels {' x '.join('·'.join(map(str, level)) for level in levels)}"
            yield label, _folded_train(dict(zip(group, levels, strict=True)), modes, sizes, others)


def _folded_train(
    factors: Mapping[int, tuple[int, ...]],
    modes: Sequence[str],
    sizes: dict[str, int],
    others: Sequence[tuple[str, ...]],
) -> Structure:
    depth = len(next(iter(factors.values())))
    taken = set(modes)
    names = {k: [_free(f"{modes[k]}{level + 1}", taken) for level in range(depth)] for k in factors}
    outputs = [tuple(names[k]) if k in names else (mode,) for k, mode in enumerate(modes)]
    split = {name: n for k, factor in factors.items() for name, n in zip(names[k], factor, strict=True)}
    sites = [tuple(names[k][level] for k in factors) for level in range(depth)]
    kept = {mode: n for mode, n in sizes.items() if modes.index(mode) not in factors}
    return _train([*sites, *others], outputs, {**kept, **split})


def _train(sites: Sequence[tuple[str, ...]], outputs: Sequence[tuple[str, ...]], sizes: dict[str, int]) -> Structure:
    """A train with one core for each group of output indices and the largest bonds of use."""
    taken = set(sizes)
    bonds = [_free(f"r{k + 1}" if len(sites) > 2 else "r", taken) for k in range(len(sites) - 1)]
    terms = [(*bonds[max(k - 1, 0) : k], *site, *bonds[k : k + 1]) for k, site in enumerate(sites)]
    thin = Structure.of(terms, outputs, {**sizes, **dict.fromkeys(bonds, 1)})
    return thin.replace(bond_limits(thin))


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _near_divisor(n: int, target: int) -> int | None:
    """The proper divisor of n nearest to target, if one is within a factor of two."""
    divisors = [d for d in range(target // 2 + 1, min(2 * target, n // 2 + 1)) if n % d == 0]
    return min(divisors, key=lambda d: abs(math.log(d / target)), default=None)


def _levels(n: int) -> tuple[int, ...]:
    """n as a product of factors of 4 to 8 where its divisors allow, largest factors first."""
    factors = []
    while n > 8:
        step = next((d for d in (8, 7, 6, 5, 4) if n % d == 0 and n // d > 1), None)
        if step is None:
            break
        factors.append(step)
        n //= step
    return (*factors, n)
