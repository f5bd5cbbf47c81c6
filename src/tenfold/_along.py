"""Walks along rings and trains."""

from __future__ import annotations

from tenfold.structure import Structure


def bonds_along(structure: Structure) -> list[str]:
    """The bonds, those of a ring or a train in the order in which one walks along it from the first core or an end."""
    walked = _walk(structure)
    return list(structure.inner_indices) if walked is None else [bond for bond, _ in walked]


def cores_along(structure: Structure) -> list[int] | None:
    """The numbers of the cores of a ring or a train in that order; None for what is neither."""
    walked = _walk(structure)
    return None if walked is None else list(dict.fromkeys([walked[0][1], *_far_ends(structure, walked)]))


def _walk(structure: Structure) -> list[tuple[str, int]] | None:
    """Each bond and the core that one comes from."""
    bonds = list(structure.inner_indices)
    ends = {bond: structure.terms_with(bond) for bond in bonds}
    degrees = [sum(place in pair for pair in ends.values()) for place in range(len(structure.terms))]
    if any(len(pair) != 2 for pair in ends.values()) or max(degrees, default=0) > 2 or not bonds:
        return None
    here = next((place for place, degree in enumerate(degrees) if degree == 1), 0)
    walked: dict[str, int] = {}
    while step := next((bond for bond in bonds if here in ends[bond] and bond not in walked), None):
        walked[step] = here
        a, b = ends[step]
        here = b if here == a else a
    return list(walked.items()) if len(walked) == len(bonds) else None


def _far_ends(structure: Structure, walked: list[tuple[str, int]]) -> list[int]:
    return [next(core for core in structure.terms_with(bond) if core != here) for bond, here in walked]
