"""Singular vectors find sparse tensors on grids at least as well as alternating minimisation."""

from __future__ import annotations

from statistics import median

from tenfold.claims._registry import Measurement, Number, claim
from tenfold.claims._sparse_recovery import classic_sbl, kronecker, kronecker_omp, nmse, on_support, planted
from tenfold.completion.am_krosbl import am_krosbl
from tenfold.completion.svd_krosbl import svd_krosbl


@claim(
    "krosbl_nmse",
    paper=(
        "Bayesian Algorithms for Kronecker-structured Sparse Vector Recovery With Application to IRS-MIMO Channel "
        "Estimation"
    ),
    year=2023,
    where="the simulations with synthetic data",
    stated=(
        "On sparse tensors whose nonzeros are a grid, variances by singular vectors are at least as near as variances "
        "by alternating minimisation, and both nearer than sparse Bayesian learning without that structure."
    ),
)
def krosbl_nmse(*, seed: int = 0, trials: int = 15, decibel: float = 15.0, classic: int = 2) -> Measurement:
    """27 normal nonzeros of 15 × 15 × 15 entries, seen through normal matrices of 8, 12 and 15 rows at 15 dB.

    Both begin with variances of one, which is what the nonzeros have, as in the paper. Holds if the median error by
    singular vectors is at most that by alternating minimisation over ``trials`` draws, and both are below the median of
    learning without the structure on the first ``classic`` draws (of those alone; it takes ten seconds each). Told
    beside: both from a start that follows the data, matching pursuit that is told the number of nonzeros, and least
    squares that is told where they are.
    """
    errors: dict[str, list[float]] = {
        name: []
        for name in (
            "singular vectors",
            "alternating",
            "singular vectors, own start",
            "alternating, own start",
            "matching pursuit",
            "least squares",
            "no structure",
        )
    }
    for number in range(trials):
        one = planted(seed + number, decibel)
        given = one.measured, one.dictionaries
        for name, method in (("singular vectors", svd_krosbl), ("alternating", am_krosbl)):
            errors[name].append(nmse(method(*given, noise=one.noise, start=1.0).mean, one.truth))
            errors[f"{name}, own start"].append(nmse(method(*given, noise=one.noise).mean, one.truth))
        errors["matching pursuit"].append(nmse(kronecker_omp(*given, 3), one.truth))
        errors["least squares"].append(nmse(on_support(*given, one.support), one.truth))
        if number < classic:
            plain = classic_sbl(one.measured, kronecker(one.dictionaries), one.noise)
            errors["no structure"].append(nmse(plain.reshape(one.truth.shape), one.truth))
    medians = {name: median(some) for name, some in errors.items() if some}
    first = {name: median(errors[name][:classic]) for name in ("singular vectors", "alternating")} if classic else {}
    holds = medians["singular vectors"] <= medians["alternating"]
    holds = holds and all(value < medians["no structure"] for value in first.values())
    lines = [f"median error of {trials} draws at {decibel:g} dB"]
    lines += [f"{name}: {value:.2g}" for name, value in medians.items() if name != "no structure"]
    if classic:
        beside = ", ".join(f"{name} {value:.2g}" for name, value in first.items())
        lines.append(f"no structure: {medians['no structure']:.2g} on the first {classic} (there {beside})")
    numbers: dict[str, Number] = {"trials": trials, **medians}
    return Measurement(holds, "\n".join(lines), numbers | {f"first: {name}": value for name, value in first.items()})
