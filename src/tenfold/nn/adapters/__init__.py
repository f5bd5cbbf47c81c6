"""Small trainable additions to the frozen layers of a trained model."""

from __future__ import annotations

from tenfold.nn.adapters.adapted import Adapted, adapt
from tenfold.nn.adapters.tucker import TuckerAdapter

__all__ = ["Adapted", "TuckerAdapter", "adapt"]
