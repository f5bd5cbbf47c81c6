"""Hypothesis strategies for what many tests need."""

from __future__ import annotations

from hypothesis import strategies as st

from tenfold.structure import Structure, Term


@st.composite
def structures(
    draw: st.DrawFn,
    *,
    terms: int = 4,
    indices: int = 5,
    size: int = 3,
    shared: bool = True,
    scalars: bool = True,
) -> Structure:
    """Any valid structure: bonds, hyperedges, outputs on several cores, cores used several times, grouped axes, scalar
    cores, sizes of 1, parts without connection, no outputs at all.

    Args:
        terms: terms at most, those of shared cores not counted.
        indices: indices at most.
        size: of an index at most.
        shared: whether cores may be used several times.
        scalars: whether there may be cores without indices, and networks without outputs.
    """
    names = [f"i{n}" for n in range(draw(st.integers(1, indices)))]
    sizes = {name: draw(st.integers(1, size)) for name in names}
    chosen = st.lists(st.sampled_from(names), unique=True, min_size=1, max_size=min(3, len(names)))
    made: list[Term] = []
    for _ in range(draw(st.integers(1, terms))):
        empty = scalars and draw(st.integers(0, 7)) == 0
        made.append(Term(None, () if empty else tuple(draw(chosen))))
    if shared and draw(st.booleans()):
        first = draw(st.integers(0, len(made) - 1))
        pattern = made[first].indices
        made[first] = Term("U", pattern)
        for _ in range(draw(st.integers(1, 2))):
            use: list[str] = []
            for index in pattern:
                fits = [name for name in names if sizes[name] == sizes[index] and name not in use]
                use.append(draw(st.sampled_from(fits)) if fits else "")
            if "" not in use:
                made.insert(draw(st.integers(0, len(made))), Term("U", tuple(use)))
    carried = [index for term in made for index in term.indices]
    outputs = [index for index in names if index in carried and (carried.count(index) == 1 or draw(st.booleans()))]
    if not scalars and not outputs:
        outputs = [carried[0]]
    outputs = draw(st.permutations(outputs))
    groups: list[tuple[str, ...]] = []
    for index in outputs:
        if groups and draw(st.integers(0, 3)) == 0:
            groups[-1] = (*groups[-1], index)
        else:
            groups.append((index,))
    return Structure.of(made, groups, {index: sizes[index] for index in names if index in carried})
