"""Every product turns with what it multiplies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch

from tenfold import so3
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.so3 import Irreps, equivariance_error
from tenfold.so3.layouts import Layout
from tenfold.so3.products import Convolution, ManyBodyProduct, Unsuited, product_methods

_ALLOWED = 1e-10
_LAYOUTS: tuple[Layout, ...] = ("mul_ir", "ir_mul")

# Features of products: with the parities of harmonics, made of two such like a cross product, with both parities, and
# with one alone. A product is measured on those that it does not refuse.
_NATURAL, _BOTH = "2x0e+2x1o+2x2e+2x3o", "2x0e+2x0o+2x1e+2x1o+2x2e+2x2o"
_FEATURES = (
    (_NATURAL, _NATURAL, _NATURAL),
    (_NATURAL, "0e+1o+2e", "2x1e+2x2o+2x3e"),
    (_BOTH, _BOTH, _BOTH),
    ("2x0e+2x1e+2x2e",) * 3,
    ("2x0e+2x1o+2x2e",) * 3,
)


class Along(NamedTuple):
    """A convolution, whether it says that the inversion is a symmetry, and whether all edges share its weights."""

    make: Callable[[Layout], Convolution]
    improper: bool = True
    shared: bool = False


CONVOLUTIONS: Mapping[type[Convolution], tuple[Along, ...]] = {
    so3.ClebschGordanConvolution: (
        Along(lambda layout: so3.ClebschGordanConvolution(_BOTH, 2, _BOTH, layout=layout)),
        Along(lambda layout: so3.ClebschGordanConvolution(_BOTH, 2, _BOTH, layout=layout, keep_paths=False)),
    ),
    so3.GauntConvolution: (Along(lambda layout: so3.GauntConvolution(_NATURAL, 3, _NATURAL, layout=layout)),),
    so3.SO2Convolution: (
        Along(lambda layout: so3.SO2Convolution(_NATURAL, _NATURAL, layout=layout)),
        Along(lambda layout: so3.SO2Convolution(_NATURAL, "2x0o+2x1e+2x2o", m_max=1, layout=layout)),
        Along(lambda layout: so3.SO2Convolution(_NATURAL, _NATURAL, parity=False, layout=layout), improper=False),
    ),
    so3.SO2MixingConvolution: (
        Along(lambda layout: so3.SO2MixingConvolution(_NATURAL, "3x0e+3x1o+3x2e", layout=layout), shared=True),
        Along(
            lambda layout: so3.SO2MixingConvolution(_NATURAL, _NATURAL, parity=False, layout=layout),
            improper=False,
            shared=True,
        ),
    ),
}

MANY_BODY: Mapping[type[ManyBodyProduct], tuple[Callable[[Layout], ManyBodyProduct], ...]] = {
    so3.GridPower: (
        lambda layout: so3.GridPower(_NATURAL, _NATURAL, 3, layout=layout),
        lambda layout: so3.GridPower(_NATURAL, _NATURAL, 3, rank=2, layout=layout),
    ),
    so3.SymmetricContraction: (
        lambda layout: so3.SymmetricContraction("2x0e+2x1o+2x2e", "2x0e+2x1o", 3, layout=layout, backend="polynomials"),
        lambda layout: so3.SymmetricContraction("2x0e+2x1o+2x2e", "2x0e+2x1o", 3, layout=layout, backend="dense"),
        lambda layout: so3.SymmetricContraction("2x0o+2x1e+2x1o", "2x0o+2x1e+2x2o", 2, layout=layout),
    ),
}


@claim(
    "product_equivariance",
    paper="Tensor field networks: Rotation- and translation-equivariant neural networks for 3D point clouds",
    year=2018,
    where="Combining representations using tensor products",
    stated="Products of features that turn with space, and convolutions and polynomials made of them, turn with space.",
)
def product_equivariance(*, seed: int = 0, rotations: int = 2) -> Measurement:
    """Turn before and after each product, convolution along edges and product of a feature with itself that there is.

    All registered products are measured on those of five kinds of features, with parities of harmonics and others,
    that they multiply; in both layouts, at random weights, in double precision. Rotations are random, each without and
    with the inversion; without it alone for convolutions that were made not to know it. Holds if no difference is more
    than 1e-10 of the largest number, no product refuses all kinds of features, and none returns only zeros.
    """
    errors: dict[str, float] = {}
    cases = 0
    for name, error in _errors(seed, rotations):
        errors[name] = max(errors.get(name, 0.0), math.inf if math.isnan(error) else error)
        cases += 1
    unmeasured = sorted(set(product_methods()) - set(errors))
    worst = max(errors.values())
    lines = [f"{len(errors)} products in {cases} cases, largest difference {worst:.1e}"]
    lines += [f"{name}: {error:.1e}" for name, error in errors.items()]
    if unmeasured:
        lines.append(f"not measured: {', '.join(unmeasured)}")
    numbers: dict[str, Number] = {"products": len(errors), "cases": cases, "largest difference": worst, **errors}
    return Measurement(worst <= _ALLOWED and not unmeasured, "\n".join(lines), numbers)


def _errors(seed: int, rotations: int) -> Iterator[tuple[str, float]]:
    for layout in _LAYOUTS:
        yield from _of_products(layout, seed, rotations)
        yield from _of_convolutions(layout, seed, rotations)
        yield from _of_polynomials(layout, seed, rotations)


def _of_products(layout: Layout, seed: int, rotations: int) -> Iterator[tuple[str, float]]:
    for name, method in product_methods().items():
        for sides in _FEATURES:
            try:
                product = method.make(*map(Irreps, sides), layout=layout)
            except Unsuited:
                continue
            weight = product.random_weight(seed=seed, dtype=torch.float64) if product.weight_numel else None

            def multiply(left, right, product=product, weight=weight):  # type: ignore[no-untyped-def]
                return _something(product(left, right, weight))

            yield (
                name,
                equivariance_error(multiply, sides[:2], sides[2], layout=layout, rotations=rotations, seed=seed),
            )


def _of_convolutions(layout: Layout, seed: int, rotations: int) -> Iterator[tuple[str, float]]:
    generator = torch.Generator().manual_seed(seed)
    nodes, edges = 4, 9
    source, target = torch.randint(nodes, (2, edges), generator=generator)
    vectors = torch.randn(edges, 3, generator=generator, dtype=torch.float64)
    # Along the polar axis both ways, where angles are not defined.
    vectors[0], vectors[1] = torch.tensor([[0.0, 1.0, 0.0], [0.0, -2.0, 0.0]], dtype=torch.float64)
    for kind, several in CONVOLUTIONS.items():
        for make, improper, shared in several:
            convolution = make(layout)
            weight = convolution.random_weight(*(() if shared else (edges,)), seed=seed, dtype=torch.float64)

            def messages(features, along, convolution=convolution, weight=weight):  # type: ignore[no-untyped-def]
                return _something(convolution(features, along, weight, source=source, target=target, nodes=nodes))

            error = equivariance_error(
                messages,
                (convolution.irreps_in, "1o"),
                convolution.irreps_out,
                inputs=[None, vectors],
                batch=nodes,
                rotations=rotations,
                improper=improper,
                layout=layout,
                seed=seed,
            )
            yield kind.__name__, error


def _of_polynomials(layout: Layout, seed: int, rotations: int) -> Iterator[tuple[str, float]]:
    for kind, several in MANY_BODY.items():
        for make in several:
            product = make(layout)
            weight = product.random_weight(seed=seed, dtype=torch.float64) if product.weight_numel else None

            def power(features, product=product, weight=weight):  # type: ignore[no-untyped-def]
                return _something(product(features, weight))

            error = equivariance_error(
                power, product.irreps_in, product.irreps_out, layout=layout, rotations=rotations, seed=seed
            )
            yield kind.__name__, error


def _something(found: torch.Tensor) -> torch.Tensor:
    """The same; numbers that are no numbers where all are zero, which would turn with anything."""
    return found if bool(found.any()) else torch.full_like(found, math.nan)
