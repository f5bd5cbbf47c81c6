"""Draws air.png: how well fine particles in Beijing are predicted.

python docs/images/air.py
"""

from pathlib import Path

import tenfold as tn
from tenfold.io import read

# As the command on the page of `complete`.
posterior = tn.complete(
    read("sample:beijing_pm25"),
    "funbat_cp",
    continuous=["temperature", "pressure", "day"],
    rank=12,
    holdout=0.2,
)
posterior.plot().savefig(Path(__file__).parent / "air.png", dpi=80)
