"""Which loops a product runs through: its terms, grouped so that kernels find what they need nearby."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Float64, Int32, Int64

from tenfold.so3.products._terms import Terms, read


@dataclass(frozen=True)
class Plan:
    """The terms of a product, by pairs of components and by ends.

    A pair is a component of left and one of right that are multiplied; an end is a component of out that a path leads
    to. Groups hold the pairs of one block of left with one of right, and the ends of the paths between them. Terms say
    how much of a pair there is in an end: they are there twice, in the order of the ends and in that of the pairs.

    Attributes:
        sizes: how many components left, right and out have, and how many paths there are.
        group_pairs: where the pairs of each group begin.
        pair_left: the component of left of each pair; pair_right: that of right.
        group_ends: where the ends of each group begin; ends of equally many terms are neighbours, so that a processor
            can tell how often a loop will run.
        end_path: the path of each end; end_out: its component.
        end_terms: where the terms of each end begin, then ``end_pairs``, counted within the group, and ``end_values``.
        pair_terms: where the terms of each pair begin, then ``pair_ends``, counted within the group, and
            ``pair_values``.
    """

    sizes: tuple[int, int, int, int]
    group_pairs: Int64[np.ndarray, " groups+1"]
    pair_left: Int64[np.ndarray, " pairs"]
    pair_right: Int64[np.ndarray, " pairs"]
    group_ends: Int64[np.ndarray, " groups+1"]
    end_path: Int64[np.ndarray, " ends"]
    end_out: Int64[np.ndarray, " ends"]
    end_terms: Int64[np.ndarray, " ends+1"]
    end_pairs: Int32[np.ndarray, " n"]
    end_values: Float64[np.ndarray, " n"]
    pair_terms: Int64[np.ndarray, " pairs+1"]
    pair_ends: Int32[np.ndarray, " n"]
    pair_values: Float64[np.ndarray, " n"]

    @cached_property
    def once(self) -> bool:
        """Whether every component of out is the end of exactly one path."""
        return np.array_equal(np.sort(self.end_out), np.arange(self.sizes[2]))

    @cached_property
    def runs(self) -> tuple[Int64[np.ndarray, " groups+1"], Int64[np.ndarray, " runs+1"]]:
        """Where pairs of another component of left begin, and which of these places is the first of each group."""
        new = np.ones(len(self.pair_left) + 1, dtype=bool)
        new[1:-1] = self.pair_left[1:] != self.pair_left[:-1]
        new[self.group_pairs] = True
        runs = np.flatnonzero(new)
        return np.searchsorted(runs, self.group_pairs), runs

    @cached_property
    def most_pairs(self) -> int:
        """In a group."""
        return int(np.diff(self.group_pairs).max(initial=0))

    @cached_property
    def most_ends(self) -> int:
        """In a group."""
        return int(np.diff(self.group_ends).max(initial=0))

    @cached_property
    def pair_outs(self) -> Int32[np.ndarray, " n"]:
        """Like ``pair_ends``, but the components of out."""
        groups = np.repeat(np.repeat(self.group_ends[:-1], np.diff(self.group_pairs)), np.diff(self.pair_terms))
        return self.end_out[groups + self.pair_ends].astype(np.int32)

    @cached_property
    def matrix(self) -> Float64[torch.Tensor, "pair end"]:
        """All terms as a dense matrix."""
        ends = np.repeat(np.arange(len(self.end_out)), np.diff(self.end_terms))
        first = np.repeat(self.group_pairs[:-1], np.diff(self.group_ends))[ends]
        dense = np.zeros((len(self.pair_left), len(self.end_out)))
        np.add.at(dense, (first + self.end_pairs, ends), self.end_values)
        return torch.from_numpy(dense)


@lru_cache(maxsize=256)
def plan_of(key: str) -> Plan:
    """The plan of terms with this key."""
    return _plan(read(key))


def _plan(terms: Terms) -> Plan:
    # A group is all that has the components of left and of right in common with a path of its own.
    of_path = _groups(terms)
    group = of_path[terms.path]
    pairs, pair = _distinct(group, terms.left, terms.right)
    ends, end = _distinct(group, terms.path, terms.out)
    counts = np.bincount(end, minlength=ends.shape[1])
    order = np.lexsort((ends[2], ends[1], counts, ends[0]))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    ends, end = ends[:, order], place[end]
    number = int(of_path.max(initial=-1)) + 1
    group_pairs = np.searchsorted(pairs[0], np.arange(number + 1))
    group_ends = np.searchsorted(ends[0], np.arange(number + 1))
    by_end, by_pair = np.lexsort((pair, end)), np.lexsort((end, pair))
    return Plan(
        sizes=terms.sizes,
        group_pairs=group_pairs,
        pair_left=pairs[1],
        pair_right=pairs[2],
        group_ends=group_ends,
        end_path=ends[1],
        end_out=ends[2],
        end_terms=_starts(end, ends.shape[1]),
        end_pairs=(pair - group_pairs[group])[by_end].astype(np.int32),
        end_values=terms.value[by_end],
        pair_terms=_starts(pair, pairs.shape[1]),
        pair_ends=(end - group_ends[group])[by_pair].astype(np.int32),
        pair_values=terms.value[by_pair],
    )


def _distinct(*columns: Int64[np.ndarray, " n"]) -> tuple[Int64[np.ndarray, "column m"], Int64[np.ndarray, " n"]]:
    """The different entries in their order, and which of them each one is."""
    found, which = np.unique(np.stack(columns), axis=1, return_inverse=True)
    # Kernels read rows of it by their addresses.
    return np.ascontiguousarray(found), which.reshape(-1)


def _groups(terms: Terms) -> Int64[np.ndarray, " path"]:
    """The group of each path: paths between the same blocks of left and right have the same one."""
    blocks = [(one.degrees[0], one.left, one.steps[0], one.degrees[1], one.right, one.steps[1]) for one in terms.paths]
    found = {block: number for number, block in enumerate(sorted(set(blocks), key=lambda b: (b[1], b[4])))}
    return np.array([found[block] for block in blocks], dtype=np.int64)


def _starts(labels: Int64[np.ndarray, " n"], number: int) -> Int64[np.ndarray, " number+1"]:
    return np.concatenate([[0], np.cumsum(np.bincount(labels, minlength=number))]).astype(np.int64)
