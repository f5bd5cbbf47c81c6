"""All environments of a sweep, sharing what they have in common.

The terms are halved again and again. Below each half, data and the doubled network are first contracted with the terms
of the other half, so that dense data of any order is read about twice a sweep instead of once for each core: the
dimension tree of "Fast alternating LS algorithms for high order CANDECOMP/PARAFAC tensor factorizations", 2013, for any
network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from torch import Tensor

from tenfold.contraction import contract
from tenfold.decomposition._loss import Loss, Operand, double, primed

# What is shared is kept only up to this many entries, or as many as the data has.
_KEPT_ENTRIES = 2**20


def environments(
    loss: Loss, cores: Sequence[Tensor], places: Sequence[int]
) -> Iterator[tuple[int, list[Operand], list[Operand]]]:
    """For each of ``places`` in turn, operands whose product is the right side and the Gram matrix of its core.

    The first list is empty unless the data is dense, the second unless unlisted cells count. The core of a place may be
    replaced in ``cores`` before the next item is asked for, which then uses it. A core that is used at several terms
    cannot be among the places.
    """
    structure = loss.structure
    limit = max(_KEPT_ENTRIES, loss.data.numel() if loss.data is not None else 0)
    outside = set(structure.output_indices)

    def term(place: int) -> Operand:
        return structure.terms[place].indices, cores[structure.term_core[place]]

    def reduce(operands: list[Operand], wanted: set[str]) -> list[Operand]:
        kept: dict[str, int] = {}
        for indices, tensor in operands:
            kept.update((i, n) for i, n in zip(indices, tensor.shape, strict=True) if i in wanted)
        if len(operands) < 2 or math.prod(kept.values()) > limit:
            return operands
        return [(tuple(kept), contract(operands, tuple(kept)))]

    def visit(
        mine: Sequence[int], data: list[Operand], gram: list[Operand]
    ) -> Iterator[tuple[int, list[Operand], list[Operand]]]:
        if len(mine) == 1:
            yield mine[0], data, gram
            return
        half = len(mine) // 2
        for part, others in ((mine[:half], mine[half:]), (mine[half:], mine[:half])):
            yield from descend(part, others, data, gram)

    def descend(
        part: Sequence[int], others: Sequence[int], data: list[Operand], gram: list[Operand]
    ) -> Iterator[tuple[int, list[Operand], list[Operand]]]:
        terms = [term(place) for place in others]
        if loss.data is not None:
            data = [*data, *((indices, tensor.conj().to(loss.data.dtype)) for indices, tensor in terms)]
        if loss.background:
            gram = [*gram, *double(structure, terms)]
        if len(part) > 1:
            wanted = {i for place in part for i in structure.terms[place].indices}
            data = reduce(data, wanted)
            gram = reduce(gram, wanted | set(primed(structure, [i for i in wanted if i not in outside])))
        yield from visit(part, data, gram)

    rest = [place for place in range(len(structure.terms)) if place not in set(places)]
    root = [loss.operand()] if loss.data is not None else []
    yield from descend(places, rest, root, []) if rest else visit(places, root, [])
