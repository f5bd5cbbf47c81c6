"""The named families of structures. Each function returns a `Structure` and nothing else; `name` recognises them.

Ranks are given either as one whole number, which every bond gets as far as its matricisation can use it, or as one
number for each bond, which are taken as they are and refused where they exceed what the bond can use.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

from tenfold.errors import StructureError
from tenfold.structure import Structure, Term

Ranks = int | Sequence[int]
Tree = int | tuple["Tree", "Tree"]

_MODE_LETTERS = "ijklmnop"
_BOND_LETTERS = "abcdefgh"


# --- decompositions of an array ---------------------------------------------------------------------------------------


def cp(shape: Sequence[int], rank: int) -> Structure:
    """Canonical polyadic decomposition: ``X[i,j,k] = sum_r A[i,r] B[j,r] C[k,r]``.

    Parameters: ``rank * sum(shape)``. Paper: "The expression of a tensor or a polyadic as a sum of products", 1927.
    """
    shape = _shape(shape)
    modes = _modes(len(shape))
    sizes = {**dict(zip(modes, shape, strict=True)), "r": _rank(rank, "rank")}
    terms = [(mode, "r") for mode in modes]
    return Structure.of(terms if len(modes) > 1 else [("i", "r"), ("r",)], modes, sizes)


def tucker(shape: Sequence[int], ranks: Ranks) -> Structure:
    """Tucker decomposition: a core of shape ``ranks`` with one factor matrix for each mode.

    Parameters: ``prod(ranks) + sum(n * r)``. Paper: "Some mathematical notes on three-mode factor analysis", 1966.
    """
    shape = _shape(shape)
    modes, bonds = _modes(len(shape)), _bonds(len(shape))
    ranks = _each(ranks, shape, [f"mode '{m}'" for m in modes])
    sizes = {**dict(zip(modes, shape, strict=True)), **dict(zip(bonds, ranks, strict=True))}
    factors = list(zip(modes, bonds, strict=True))
    return Structure.of([tuple(bonds), *factors], modes, sizes)


def tensor_train(shape: Sequence[int], ranks: Ranks) -> Structure:
    """Tensor train (matrix product state) with bond dimensions ``ranks``, one fewer than modes.

    Parameters: ``sum_k r[k-1] n[k] r[k]`` with ``r = 1`` at both ends. Paper: "Tensor-train decomposition", 2011.
    """
    shape = _shape(shape)
    modes, bonds = _modes(len(shape)), _bonds(len(shape) - 1)
    limits = [min(math.prod(shape[: k + 1]), math.prod(shape[k + 1 :])) for k in range(len(bonds))]
    ranks = _each(ranks, limits, [f"the bond between modes '{a}' and '{b}'" for a, b in pairwise(modes)])
    sizes = {**dict(zip(modes, shape, strict=True)), **dict(zip(bonds, ranks, strict=True))}
    return Structure.of(_chain(modes, bonds), modes, sizes)


def tensor_ring(shape: Sequence[int], ranks: Ranks) -> Structure:
    """Tensor ring with one rank for each mode; ``ranks[k]`` joins modes ``k`` and ``k + 1``, the last one to the first.

    Parameters: ``sum_k r[k-1] n[k] r[k]`` cyclically. Paper: "Tensor ring decomposition", 2016.
    """
    shape = _shape(shape)
    order = len(shape)
    if order < 2:
        raise StructureError("a tensor ring needs at least 2 modes")
    modes, bonds = _modes(order), _bonds(order)
    # A bond wider than everything else that its two cores could carry adds nothing.
    ranks = _each(ranks, [math.prod(shape)] * order, [f"bond {k}" for k in range(order)], "shape size")
    sizes = {**dict(zip(modes, shape, strict=True)), **dict(zip(bonds, ranks, strict=True))}
    return Structure.of([(bonds[k - 1], modes[k], bonds[k]) for k in range(order)], modes, sizes)


def fully_connected(
    shape: Sequence[int], ranks: int | Mapping[tuple[int, int], int] | Sequence[Sequence[int]]
) -> Structure:
    """Fully-connected tensor network: one core for each mode, a bond between every two cores.

    ``ranks`` is one number, a symmetric matrix, or a mapping from mode pairs ``(k, m)``, ``k < m``, to bond dimensions;
    bonds of dimension 1 (or absent from the mapping) are left out, which makes every network without inner cores a
    case of this one. Parameters: ``sum_k n[k] prod_m R[k,m]``.
    Paper: "Fully-connected tensor network decomposition and its application to higher-order tensor completion", 2021.
    """
    shape = _shape(shape)
    order = len(shape)
    modes = _modes(order)
    bond_of: dict[tuple[int, int], int] = {}
    for pair in combinations(range(order), 2):
        if isinstance(ranks, Mapping):
            value: Any = ranks.get(pair, ranks.get(pair[::-1], 1))
        else:
            value = ranks if _is_whole(ranks) else ranks[pair[0]][pair[1]]  # type: ignore[index]
        bond_of[pair] = _rank(value, f"rank of the bond between modes {pair[0]} and {pair[1]}")
    if isinstance(ranks, Mapping):
        for pair in ranks:
            if tuple(sorted(pair)) not in bond_of:
                raise StructureError(f"ranks names the bond {pair}, but the modes are 0 to {order - 1}")
    sizes = dict(zip(modes, shape, strict=True))
    terms: list[list[str]] = [[mode] for mode in modes]
    for (k, m), rank in bond_of.items():
        if rank > 1:
            name = f"r{k}_{m}"
            sizes[name] = rank
            terms[k].append(name)
            terms[m].append(name)
    return Structure.of(terms, modes, sizes)


def hierarchical_tucker(
    shape: Sequence[int], ranks: int | Mapping[frozenset[int], int], tree: Tree | None = None
) -> Structure:
    """Hierarchical Tucker decomposition over a binary dimension tree.

    ``tree`` is a nest of pairs of mode numbers such as ``((0, 1), (2, 3))``; the default splits the modes in halves.
    ``ranks`` is one number, or a mapping from the set of modes below an edge to that edge's rank (the two edges at the
    root separate the same modes and share one rank, by the set of either side). Each leaf is ``n x r``, each inner node
    ``r_left x r_right x r``, the root ``r x r``. Parameters: the sum of these sizes.
    Paper: "A new scheme for the tensor representation", 2009.
    """
    shape = _shape(shape)
    order = len(shape)
    if order < 2:
        raise StructureError("a hierarchical Tucker decomposition needs at least 2 modes")
    modes = _modes(order)
    tree = _halves(range(order)) if tree is None else tree
    leaves = sorted(_leaves(tree))
    if leaves != list(range(order)):
        raise StructureError(f"tree must hold each mode 0 to {order - 1} once, not {leaves}")
    sizes = dict(zip(modes, shape, strict=True))
    terms: list[tuple[str, ...]] = []
    total = math.prod(shape)

    def edge(node: Tree) -> str:
        below = frozenset(_leaves(node))
        part = math.prod(shape[m] for m in below)
        limit = min(part, total // part)
        if isinstance(ranks, Mapping):
            others = frozenset(range(order)) - below
            if below not in ranks and others not in ranks:
                raise StructureError(f"ranks has no entry for the edge above modes {sorted(below)}")
            given = ranks.get(below, ranks.get(others))
        else:
            given = ranks
        (rank,) = _each(given if not isinstance(ranks, Mapping) else [given], [limit], [f"modes {sorted(below)}"])
        name = "r" + "_".join(map(str, sorted(below)))
        sizes[name] = rank
        return name

    def walk(node: Tree, above: tuple[str, ...]) -> None:
        if isinstance(node, int):
            terms.append((modes[node], *above))
            return
        down = tuple(edge(child) for child in node)
        terms.append((*down, *above))
        for child, bond in zip(node, down, strict=True):
            walk(child, (bond,))

    walk(tree, ())
    return Structure.of(terms, modes, sizes)


# --- structured matrices ----------------------------------------------------------------------------------------------


def low_rank(rows: int, columns: int, rank: int) -> Structure:
    """A matrix of low rank: ``M[i,j] = sum_r A[i,r] B[r,j]``; a tensor train of two modes.

    Parameters: ``rank * (rows + columns)``.
    Paper: "The approximation of one matrix by another of lower rank", 1936.
    """
    return Structure("i r, r j -> i j", i=rows, j=columns, r=_rank(rank, "rank"))


def kronecker(rows: Sequence[int], columns: Sequence[int], terms: int = 1) -> Structure:
    """A sum of Kronecker products: ``sum_s A1[s] (x) A2[s] (x) ...`` with factors of ``rows[k] x columns[k]``.

    The matrix is ``prod(rows) x prod(columns)``. Parameters: ``terms * sum(rows * columns)``.
    Paper: "Approximation with Kronecker products", 1993.
    """
    rows, columns = _sides(rows, columns)
    terms = _rank(terms, "terms")
    if len(rows) == 1 and terms > 1:
        raise StructureError("a sum of Kronecker products needs at least 2 factors")
    up, down = _numbered("i", len(rows)), _numbered("j", len(rows))
    sizes = {**dict(zip(up, rows, strict=True)), **dict(zip(down, columns, strict=True))}
    shared: tuple[str, ...] = ()
    if len(rows) > 1:
        shared, sizes["s"] = ("s",), terms
    cores = [(*shared, i, j) for i, j in zip(up, down, strict=True)]
    return Structure.of(cores, [up, down], sizes)


def phm(rows: int, columns: int, n: int) -> Structure:
    """Parameterised hypercomplex multiplication: ``sum_s A[s] (x) B[s]`` with ``n`` matrices A of ``n x n``.

    The matrix is ``rows x columns``, both divisible by ``n``. Parameters: ``n^3 + rows * columns / n``.
    Paper: "Beyond fully-connected layers with quaternions: parameterization of hypercomplex multiplications with 1/n
    parameters", 2021.
    """
    n = _rank(n, "n")
    for label, extent in (("rows", rows), ("columns", columns)):
        if extent % n:
            raise StructureError(f"{label} {extent} is not divisible by n {n}")
    return kronecker((n, rows // n), (n, columns // n), n)


def tensor_train_matrix(rows: Sequence[int], columns: Sequence[int], ranks: Ranks) -> Structure:
    """Tensor-train matrix (matrix product operator): cores ``r[k-1] x rows[k] x columns[k] x r[k]``.

    The matrix is ``prod(rows) x prod(columns)``. Parameters: ``sum_k r[k-1] rows[k] columns[k] r[k]``.
    Paper: "Approximation of 2^d x 2^d matrices using tensor decomposition", 2010.
    """
    rows, columns = _sides(rows, columns)
    pairs = [m * n for m, n in zip(rows, columns, strict=True)]
    bonds = _numbered("r", len(rows) - 1)
    limits = [min(math.prod(pairs[: k + 1]), math.prod(pairs[k + 1 :])) for k in range(len(bonds))]
    ranks = _each(ranks, limits, [f"bond {k}" for k in range(len(bonds))])
    up, down = _numbered("i", len(rows)), _numbered("j", len(rows))
    sizes = {
        **dict(zip(up, rows, strict=True)),
        **dict(zip(down, columns, strict=True)),
        **dict(zip(bonds, ranks, strict=True)),
    }
    cores = [(*bonds[max(k - 1, 0) : k], up[k], down[k], *bonds[k : k + 1]) for k in range(len(rows))]
    return Structure.of(cores, [up, down], sizes)


def block_tensor_train(rows: Sequence[int], columns: Sequence[int], rank: Ranks) -> Structure:
    """Block tensor train: block-diagonal factors, one for each factor of the sides, with a rank between neighbours.

    With ``rows = (m1, m2)`` and ``columns = (n1, n2)``: ``M[(i1 i2), (j1 j2)] = sum_r A[i1,i2,j1,r] B[i2,j1,j2,r]``.
    Core ``k`` of ``c`` carries the rows ``i[k] ... i[c]``, the columns ``j[1] ... j[k]`` and the bonds to its
    neighbours: applied from the last one to the first, each takes in one column index and gives out one row index.
    Ranks are taken as they are. Parameters: ``sum_k r[k-1] r[k] m[k]...m[c] n[1]...n[k]`` with ``r = 1`` at both ends;
    rank 1 is `monarch`.
    Paper: "Compute better spent: replacing dense layers with structured matrices", 2024.
    """
    return _blocks(rows, columns, rank)


def monarch(rows: Sequence[int], columns: Sequence[int]) -> Structure:
    """Monarch matrix: a product of block-diagonal matrices up to permutations.

    With ``rows = (m1, m2)`` and ``columns = (n1, n2)``: ``M[(i1 i2), (j1 j2)] = A[i1,i2,j1] B[i2,j1,j2]``; nothing is
    summed. Parameters: ``m1 m2 n1 + m2 n1 n2``. More factors are the block tensor train without bonds.
    Paper: "Monarch: expressive structured matrices for efficient and accurate training", 2022.
    """
    return _blocks(rows, columns, None)


def _blocks(rows: Sequence[int], columns: Sequence[int], ranks: Ranks | None) -> Structure:
    rows, columns = _sides(rows, columns)
    count = len(rows)
    if count < 2:
        raise StructureError("rows and columns have at least two factors each, not 1")
    up, down = _numbered("i", count), _numbered("j", count)
    sizes = {**dict(zip(up, rows, strict=True)), **dict(zip(down, columns, strict=True))}
    bonds: tuple[str, ...] = ()
    if ranks is not None:
        bonds = ("r",) if count == 2 else _numbered("r", count - 1)
        given = [_rank(ranks, "rank")] * len(bonds) if _is_whole(ranks) else list(ranks)  # type: ignore[arg-type]
        if len(given) != len(bonds):
            raise StructureError(f"rank must be one number or {len(bonds)} numbers, not {len(given)}")
        sizes |= {bond: _rank(rank, f"rank[{k}]") for k, (bond, rank) in enumerate(zip(bonds, given, strict=True))}
    cores = [(*up[k:], *down[: k + 1], *bonds[max(k - 1, 0) : k], *bonds[k : k + 1]) for k in range(count)]
    return Structure.of(cores, [up, down], sizes)


# --- listing ----------------------------------------------------------------------------------------------------------


def for_arrays() -> dict[str, Callable[..., Structure]]:
    """The families whose functions take ``(shape, ranks)``, by name."""
    functions = (cp, tucker, tensor_train, tensor_ring, fully_connected, hierarchical_tucker)
    return {function.__name__: function for function in functions}


def examples() -> dict[str, tuple[Callable[..., Structure], Structure]]:
    """Every family's function with one small structure of it, by name."""
    # With three modes a fully-connected network is a ring.
    arrays = {name: (function, function((4, 5, 6, 7), 2)) for name, function in for_arrays().items()}
    return {
        **arrays,
        "low_rank": (low_rank, low_rank(6, 7, 2)),
        "kronecker": (kronecker, kronecker((2, 3), (4, 5), 3)),
        "phm": (phm, phm(8, 12, 4)),
        "tensor_train_matrix": (tensor_train_matrix, tensor_train_matrix((2, 3), (4, 5), 2)),
        "block_tensor_train": (block_tensor_train, block_tensor_train((2, 3), (4, 5), 2)),
        "monarch": (monarch, monarch((2, 3), (4, 5))),
    }


# --- recognising ------------------------------------------------------------------------------------------------------


def name(structure: Structure, called: str = "") -> str | None:
    """The family that a structure belongs to, as the name of its function here, or None.

    That is the one that it is ``called`` where it belongs to it, for a train of two cores is a CP as well.

    The order of cores and modes does not matter (a train that visits the modes in another order is a tensor train);
    the narrowest family wins: ``monarch`` before ``block_tensor_train``, ``phm`` before ``kronecker``, ``tensor_ring``
    before ``fully_connected``. A train of two modes is a ``low_rank`` matrix where it is called so, or where a side is
    a group of indices. Bonds of dimension 1 count as bonds, absent ones do not.
    """
    if any(len(core.terms) > 1 for core in structure.cores):
        return None
    called = called.replace(" ", "_")
    if called in _FAMILIES and _FAMILIES[called](structure):
        return called
    for family, belongs in _FAMILIES.items():
        if belongs(structure):
            return family
    return None


def _is_cp(s: Structure) -> bool:
    if len(s.inner_indices) != 1 or not _one_mode_each(s):
        return False
    (r,) = s.inner_indices
    return all(r in term.indices for term in s.terms) and len(s.output_indices) > 1


def _is_tucker(s: Structure) -> bool:
    cores = [term.indices for term in s.terms if not _outer(s, term)]
    leaves = [term for term in s.terms if _outer(s, term)]
    if len(cores) != 1 or len(leaves) != len(cores[0]) or len(leaves) != len(s.output_indices):
        return False
    return all(len(t.indices) == 2 and len(_outer(s, t)) == 1 and set(t.indices) & set(cores[0]) for t in leaves)


def _is_tensor_train(s: Structure) -> bool:
    return _one_mode_each(s) and not _grouped(s) and _is_path(s)


def _is_tensor_ring(s: Structure) -> bool:
    n = len(s.terms)
    if not _one_mode_each(s) or n < 2 or not _bonds_join_two(s):
        return False
    degrees = [len(t.indices) - 1 for t in s.terms]
    return all(d == 2 for d in degrees) and len(s.inner_indices) == n and _connected(s)


def _is_fully_connected(s: Structure) -> bool:
    n = len(s.terms)
    if not _one_mode_each(s) or n < 2 or not _bonds_join_two(s):
        return False
    joined = {s.terms_with(bond) for bond in s.inner_indices}
    return len(joined) == len(s.inner_indices) == n * (n - 1) // 2


def _is_hierarchical_tucker(s: Structure) -> bool:
    n = len(s.output_indices)
    leaves = [t for t in s.terms if _outer(s, t)]
    inner = [t for t in s.terms if not _outer(s, t)]
    if n < 2 or len(leaves) != n or len(inner) != n - 1 or not _bonds_join_two(s) or _grouped(s):
        return False
    if any(len(t.indices) != 2 for t in leaves):
        return False
    degrees = sorted(len(t.indices) for t in inner)
    return degrees == [2] + [3] * (n - 2) and len(s.inner_indices) == 2 * n - 2 and _connected(s)


def _is_matrix_of_pairs(s: Structure) -> bool:
    """Two grouped axes with as many indices each, core k carrying index k of both."""
    if len(s.outputs) != 2 or len(s.outputs[0]) != len(s.outputs[1]) or len(s.terms) != len(s.outputs[0]):
        return False
    pairs = {frozenset(pair) for pair in zip(*s.outputs, strict=True)}
    return {frozenset(_outer(s, t)) for t in s.terms} == pairs


def _is_kronecker(s: Structure) -> bool:
    if not _is_matrix_of_pairs(s):
        return False
    if len(s.terms) == 1:
        return not s.inner_indices
    return len(s.inner_indices) == 1 and all(s.inner_indices[0] in t.indices for t in s.terms)


def _is_phm(s: Structure) -> bool:
    if not _is_kronecker(s) or len(s.terms) != 2:
        return False
    n = s.sizes[s.inner_indices[0]]
    return s.sizes[s.outputs[0][0]] == s.sizes[s.outputs[1][0]] == n


def _is_tensor_train_matrix(s: Structure) -> bool:
    return _is_matrix_of_pairs(s) and len(s.terms) > 1 and _is_path(s)


def _is_low_rank(s: Structure) -> bool:
    if len(s.outputs) != 2 or len(s.terms) != 2 or len(s.inner_indices) != 1 or not all(s.outputs):
        return False
    wanted = {frozenset((*group, *s.inner_indices)) for group in s.outputs}
    return {frozenset(t.indices) for t in s.terms} == wanted


def _is_blocks(s: Structure, *, bonds: bool) -> bool:
    if len(s.outputs) != 2 or len(s.outputs[0]) != len(s.outputs[1]) or len(s.terms) != len(s.outputs[0]):
        return False
    (up, down), count = s.outputs, len(s.terms)
    if count < 2 or len(s.inner_indices) != bonds * (count - 1) or not _bonds_join_two(s):
        return False
    by_outer = {frozenset(_outer(s, t)): set(t.indices) for t in s.terms}
    wanted = [frozenset((*up[k:], *down[: k + 1])) for k in range(count)]
    if set(by_outer) != set(wanted):
        return False
    inner = set(s.inner_indices)
    return not bonds or all(by_outer[a] & by_outer[b] & inner for a, b in pairwise(wanted))


_FAMILIES = {
    "monarch": lambda s: _is_blocks(s, bonds=False),
    "block_tensor_train": lambda s: _is_blocks(s, bonds=True),
    "phm": _is_phm,
    "kronecker": _is_kronecker,
    "tensor_train_matrix": _is_tensor_train_matrix,
    "tensor_train": _is_tensor_train,
    "low_rank": _is_low_rank,
    "cp": _is_cp,
    "tucker": _is_tucker,
    "tensor_ring": _is_tensor_ring,
    "fully_connected": _is_fully_connected,
    "hierarchical_tucker": _is_hierarchical_tucker,
}


def _outer(s: Structure, term: Term) -> tuple[str, ...]:
    outside = set(s.output_indices)
    return tuple(index for index in term.indices if index in outside)


def _grouped(s: Structure) -> bool:
    """Whether this is a matrix with row and column groups, which the matrix families claim."""
    return len(s.outputs) == 2 and all(len(group) > 1 for group in s.outputs) and _is_matrix_of_pairs(s)


def _one_mode_each(s: Structure) -> bool:
    return all(len(_outer(s, t)) == 1 for t in s.terms) and len(s.terms) == len(s.output_indices)


def _bonds_join_two(s: Structure) -> bool:
    return all(len(s.terms_with(bond)) == 2 for bond in s.inner_indices)


def _connected(s: Structure) -> bool:
    reached, todo = {0}, [0]
    while todo:
        for index in s.terms[todo.pop()].indices:
            for place in s.terms_with(index):
                if place not in reached:
                    reached.add(place)
                    todo.append(place)
    return len(reached) == len(s.terms)


def _is_path(s: Structure) -> bool:
    if not _bonds_join_two(s) or len(s.inner_indices) != len(s.terms) - 1 or not _connected(s):
        return False
    inner = set(s.inner_indices)
    return all(sum(i in inner for i in t.indices) <= 2 for t in s.terms)


# --- reading arguments ------------------------------------------------------------------------------------------------


def _is_whole(value: Any) -> bool:
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, bool)


def _rank(value: Any, label: str) -> int:
    if not _is_whole(value):
        raise StructureError(f"{label} must be a whole number, not {value!r}")
    if value < 1:
        raise StructureError(f"{label} must be at least 1, not {value}")
    return operator.index(value)


def _shape(shape: Sequence[int]) -> tuple[int, ...]:
    if _is_whole(shape) or not all(_is_whole(n) for n in shape):
        raise StructureError(f"shape must be a sequence of whole numbers, not {shape!r}")
    if not len(shape):
        raise StructureError("shape must have at least one mode")
    return tuple(_rank(n, f"shape[{k}]") for k, n in enumerate(shape))


def _sides(rows: Sequence[int], columns: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    rows, columns = _shape(rows), _shape(columns)
    if len(rows) != len(columns):
        raise StructureError(f"rows and columns must have as many factors, not {len(rows)} and {len(columns)}")
    return rows, columns


def _each(ranks: Any, limits: Sequence[int], labels: Sequence[str], what: str = "size") -> tuple[int, ...]:
    """One rank for each bond: a single number is cut to each limit, given ones must keep to it."""
    if _is_whole(ranks):
        rank = _rank(ranks, "ranks")
        return tuple(min(rank, limit) for limit in limits)
    given = [_rank(r, f"ranks[{k}]") for k, r in enumerate(ranks)]
    if len(given) != len(limits):
        raise StructureError(f"ranks must be one number or {len(limits)} numbers, not {len(given)}")
    for rank, limit, label in zip(given, limits, labels, strict=True):
        if rank > limit:
            raise StructureError(f"rank {rank} exceeds {label} of {what} {limit}")
    return tuple(given)


def _numbered(letter: str, n: int) -> tuple[str, ...]:
    return tuple(f"{letter}{k + 1}" for k in range(n))


def _modes(n: int) -> tuple[str, ...]:
    return tuple(_MODE_LETTERS[:n]) if n <= len(_MODE_LETTERS) else _numbered("i", n)


def _bonds(n: int) -> tuple[str, ...]:
    return tuple(_BOND_LETTERS[:n]) if n <= len(_BOND_LETTERS) else _numbered("a", n)


def _chain(modes: Sequence[str], bonds: Sequence[str]) -> list[tuple[str, ...]]:
    return [(*bonds[max(k - 1, 0) : k], mode, *bonds[k : k + 1]) for k, mode in enumerate(modes)]


def _halves(modes: Sequence[int]) -> Tree:
    if len(modes) == 1:
        return modes[0]
    half = len(modes) // 2
    return _halves(modes[:half]), _halves(modes[half:])


def _leaves(tree: Tree) -> list[int]:
    if _is_whole(tree):
        return [operator.index(tree)]  # type: ignore[arg-type]
    if not isinstance(tree, tuple) or len(tree) != 2:
        raise StructureError(f"tree must be a nest of pairs like ((0, 1), (2, 3)), not {tree!r}")
    return [leaf for child in tree for leaf in _leaves(child)]
