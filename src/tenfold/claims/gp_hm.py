"""Solutions that turn fast: a prior with peaks at frequencies, and the same prior without them."""

from __future__ import annotations

from tenfold.claims._progress import steps as watch
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.linalg.spectral_mixture import Spectrum
from tenfold.pde import collocation, gp_hm, read
from tenfold.verbs.solution import Solution

_PROBLEM = "sample:poisson_sin100"
_PRIORS: tuple[tuple[str, Spectrum, bool], ...] = (
    ("Student-t mixture", "student", True),
    ("Matern 5/2", "student", False),
    ("Gaussian mixture", "gaussian", True),
    ("squared exponential", "gaussian", False),
)
# How many times the error of a mixture the other must have.
_BETTER = 10.0


@claim(
    "gp_hm",
    paper="Solving High Frequency and Multi-Scale PDEs with Gaussian Processes",
    year=2024,
    where="the comparison with Gaussian processes of Matern and squared-exponential covariance",
    stated="A mixture of peaks in the power spectrum solves what the same covariance without cosines does not.",
)
def gp_hm_frequencies(*, seed: int = 0, steps: int = 1000) -> Measurement:
    """Solve u'' = -10000 sin 100x on [0, 2 pi] with 400 points by each of four priors.

    Each is fitted in two ways: by ``steps`` steps of Adam from the paper's start (the last step counts, not the best
    one on the way), and by collocation. The paper takes up to a million steps, so a thousand tell how fast each
    descends rather than where it ends. Nothing is drawn, whatever the seed. Takes minutes.

    Holds if in both ways the relative L2 error of the Matern 5/2 prior is at least 10 times that of the Student-t
    mixture, and that of the squared-exponential one at least 10 times that of the Gaussian mixture.
    """
    del seed
    problem = read(_PROBLEM)
    errors: dict[str, dict[str, float]] = {"Adam": {}, "collocation": {}}
    for name, spectrum, cosine in watch("prior", _PRIORS):
        for way in errors:
            if way == "Adam":
                found = gp_hm(problem, steps=steps, spectrum=spectrum, cosine=cosine, checkpoints=1)
            else:
                found = collocation(problem, spectrum=spectrum, cosine=cosine)
            error = Solution.of(problem, found, way, 0.0).error
            assert error is not None
            errors[way][name] = error
    numbers: dict[str, Number] = {}
    lines = []
    holds = True
    for way, found_errors in errors.items():
        numbers |= {f"{way}: {name}": error for name, error in found_errors.items()}
        lines.append(f"{way}: " + ", ".join(f"{name} {error:.2g}" for name, error in found_errors.items()))
        pairs = [(found_errors[_PRIORS[n][0]], found_errors[_PRIORS[n + 1][0]]) for n in (0, 2)]
        holds &= all(without >= _BETTER * mixture for mixture, without in pairs)
    return Measurement(holds, "\n".join(lines), numbers)
