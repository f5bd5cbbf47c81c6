"""tenfold: multilinear structure, found, fitted and run fast.

>>> import tenfold as tn
>>> fit = tn.fit(array, error=0.05)
>>> fit.report("page.html")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module that holds it. Modules are imported on first use, so that `import tenfold` costs
# nothing and the command line answers without loading torch.
_HOME = {
    "Blocks": "tenfold._blocks",
    "Structure": "tenfold.structure",
    "Network": "tenfold.network",
    "Observations": "tenfold.observations",
    "TenfoldError": "tenfold.errors",
    "Fit": "tenfold.verbs.result",
    "Posterior": "tenfold.verbs.posterior",
    "Search": "tenfold.verbs.search_result",
    "complete": "tenfold.verbs.complete",
    "Compressed": "tenfold.verbs.compressed",
    "compress": "tenfold.verbs.compress",
    "fit": "tenfold.verbs.fit",
    "load": "tenfold.verbs.load",
    "search": "tenfold.verbs.search",
    "select_rank": "tenfold.verbs.select_rank",
    "Solution": "tenfold.verbs.solution",
    "solve": "tenfold.verbs.solve",
    "stability": "tenfold.verbs.stability",
}
_ROOMS = (
    "formats",
    "contraction",
    "completion",
    "compression",
    "components",
    "decomposition",
    "claims",
    "io",
    "linalg",
    "models",
    "nn",
    "pde",
    "report",
    "so3",
    "structure_search",
)

# Spelled out, because type checkers read it and cannot follow the two tables above; a test compares them.
__all__ = [
    "Blocks",
    "Compressed",
    "Fit",
    "Network",
    "Observations",
    "Posterior",
    "Search",
    "Solution",
    "Structure",
    "TenfoldError",
    "__version__",
    "claims",
    "complete",
    "completion",
    "components",
    "compress",
    "compression",
    "contraction",
    "decomposition",
    "fit",
    "formats",
    "io",
    "linalg",
    "load",
    "models",
    "nn",
    "pde",
    "report",
    "search",
    "select_rank",
    "so3",
    "solve",
    "stability",
    "structure_search",
]

if TYPE_CHECKING:
    from tenfold import (
        claims,
        completion,
        components,
        compression,
        contraction,
        decomposition,
        formats,
        io,
        linalg,
        models,
        nn,
        pde,
        report,
        so3,
        structure_search,
    )
    from tenfold._blocks import Blocks
    from tenfold.errors import TenfoldError
    from tenfold.network import Network
    from tenfold.observations import Observations
    from tenfold.structure import Structure
    from tenfold.verbs.complete import complete
    from tenfold.verbs.compress import compress
    from tenfold.verbs.compressed import Compressed
    from tenfold.verbs.fit import fit
    from tenfold.verbs.load import load
    from tenfold.verbs.posterior import Posterior
    from tenfold.verbs.result import Fit
    from tenfold.verbs.search import search
    from tenfold.verbs.search_result import Search
    from tenfold.verbs.select_rank import select_rank
    from tenfold.verbs.solution import Solution
    from tenfold.verbs.solve import solve
    from tenfold.verbs.stability import stability


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name in _ROOMS:
        value = importlib.import_module(f"tenfold.{name}")
    else:
        raise AttributeError(f"module 'tenfold' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
