"""Papers' sentences, measured: one file for each claim.

>>> from tenfold.claims import registry
>>> print(registry()["tt_svd_bound"].measure())
"""

from tenfold.claims._registry import Claim, Measure, Measurement, Result, claim, registry

__all__ = ["Claim", "Measure", "Measurement", "Result", "claim", "registry"]
