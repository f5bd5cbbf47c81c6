"""What weights of products reach, and which irreps meet in them: counted."""

from __future__ import annotations

from collections.abc import Callable

from tenfold.claims._registry import Measurement, Number, claim
from tenfold.so3 import GauntGrid, Irreps, tensor_product
from tenfold.so3.freedom import degrees_of_freedom, interactability
from tenfold.so3.products import Product

# Degrees of left, right and out; what a Clebsch-Gordan product reaches with paths of even sums, and with all of them;
# what a Gaunt product reaches.
_COUNTS = {(1, 1, 1): (4, 5, 4), (2, 2, 2): (11, 15, 7), (2, 2, 4): (14, 19, 9), (3, 3, 3): (23, 34, 10)}


@claim(
    "tensor_product_expressivity",
    paper="The Price of Freedom: Exploring Expressivity and Runtime Tradeoffs in Equivariant Tensor Products",
    year=2025,
    where="Expressivity and interactability",
    stated=(
        "Weights of a Clebsch-Gordan product reach as many dimensions as there are paths, O(L^3), those of a Gaunt "
        "product O(L); and in a Gaunt product no irreps meet whose degrees have an odd sum."
    ),
)
def tensor_product_expressivity(*, seed: int = 0) -> Measurement:
    """Count the rank of the map from weights to coefficients, and the irreps that meet, for products of all degrees.

    Numbers are counted for degrees up to (1, 1, 1), (2, 2, 2), (2, 2, 4) and (3, 3, 3) on the left, on the right and
    out, at random weights. Holds if Clebsch-Gordan products reach 4, 11, 14 and 23 dimensions with the parities of
    harmonics and 5, 15, 19 and 34 with all parities out, as many as there are paths; Gaunt products 4, 7, 9 and 10, two
    less than they have weights; and if the triples of degrees that meet are those of the triangle inequality, without
    the odd sums wherever parities or Gaunt products forbid them.
    """
    numbers: dict[str, Number] = {}
    lines = []
    holds = True
    for degrees, expected in _COUNTS.items():
        single = [Irreps.harmonics(degree) for degree in degrees]
        both = Irreps([(1, (degree, parity)) for degree in range(degrees[2] + 1) for parity in (1, -1)])
        reachable = Irreps([(1, ir) for ir in sorted({path.ir for path in single[0].paths(single[1], both)})])
        products: dict[str, tuple[Product, Callable[[int], bool]]] = {
            "Clebsch-Gordan, even": (tensor_product(single[0], single[1], single[2], method="clebsch_gordan"), _even),
            "Clebsch-Gordan, all": (tensor_product(single[0], single[1], reachable, method="clebsch_gordan"), _any),
            "Gaunt": (GauntGrid(*single, weights="degree"), _even),
        }
        shown = []
        for (name, (product, allowed)), wanted in zip(products.items(), expected, strict=True):
            reached = degrees_of_freedom(product, seed=seed)
            met = {(one.left.l, one.right.l, one.out.l) for one in interactability(product, seed=seed)}
            paths = _triangles(degrees, allowed)
            numbers |= {f"{name}, {degrees}: expressivity": reached, f"{name}, {degrees}: interactions": len(met)}
            weights = product.weight_numel - 2 if name == "Gaunt" else len(paths)
            holds = holds and reached == wanted == weights and met == paths
            shown.append(f"{name}: {reached} of {wanted}, {len(met)} of {len(paths)} triples meet")
        lines.append(f"degrees up to {degrees}: {'; '.join(shown)}")
    return Measurement(holds, "\n".join(lines), numbers)


def _even(total: int) -> bool:
    return total % 2 == 0


def _any(total: int) -> bool:
    return True


def _triangles(degrees: tuple[int, int, int], allowed: Callable[[int], bool]) -> set[tuple[int, int, int]]:
    """Triples up to these degrees that keep to the triangle inequality and have an allowed sum."""
    return {
        (a, b, c)
        for a in range(degrees[0] + 1)
        for b in range(degrees[1] + 1)
        for c in range(abs(a - b), min(a + b, degrees[2]) + 1)
        if allowed(a + b + c)
    }
