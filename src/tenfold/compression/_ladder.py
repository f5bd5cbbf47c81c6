"""Which ranks are tried."""

from __future__ import annotations

# Between two ranks lies about this factor.
_FACTOR = 1.33
# Ranks above this are multiples of it, which is what vector units like.
_EVEN = 16


def ladder(largest: int) -> list[int]:
    """Ranks from 1 to below ``largest``, in even ratios; multiples of 16 where they are large."""
    found, rank = [], 1.0
    while rank < largest:
        even = round(rank)
        if even > 2 * _EVEN:
            even = round(even / _EVEN) * _EVEN
        if even < largest:
            found.append(even)
        rank *= _FACTOR
    return sorted(set(found))
