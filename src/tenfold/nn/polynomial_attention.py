"""Attention to pairs of tokens by polynomials: nearly linear in tokens, for small scores, with a bound on its error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tenfold._arguments import quoted, real_number, whole_number
from tenfold.errors import DataError, TenfoldError
from tenfold.nn._attention_inputs import check_causal, computed_in, mask_of, scale_of

# Features of a polynomial that fit into memory beside anything else.
_MOST_FEATURES = 200_000
_LARGEST_DEGREE = 100


@dataclass(frozen=True)
class PolynomialError:
    """How far polynomial tensor attention can be from the exact one.

    Attributes:
        scores: no score is larger than this in absolute value.
        degree: of the polynomial.
        features: how many monomials of up to this degree there are.
        relative: bound on the relative error of every weight before the softmax's division.
        output: bound on the error of every output, in exact arithmetic, in units of ``max |V1| max |V2|``; it is never
            larger than 2, since outputs are averages of products of values.
    """

    scores: float
    degree: int
    features: int
    relative: float
    output: float


def polynomial_error(scores: float, degree: int, dim: int) -> PolynomialError:
    """The error of the Taylor polynomial of ``exp`` where scores lie in ``[-scores, scores]``, and keys have ``dim``.

    The polynomial ``P_g`` of even degree ``g`` is off by at most ``eps = e^R R^(g+1) / (g+1)!``, relatively, where
    ``|x| <= R``. Weights are off by factors in ``[1 - eps, 1 + eps]``, so outputs by ``2 eps / (1 - eps)``.

    Raises:
        TenfoldError: a degree that is odd or negative: such polynomials have zeros, and outputs would have poles.
    """
    degree, dim = even_degree(degree), whole_number("dim", dim, 1)
    scores = real_number("scores", scores, "a bound on the scores, at least 0")
    if scores < 0:
        raise TenfoldError(f"scores must be a bound on the scores, at least 0, not {quoted(scores)}")
    logarithm = scores + (degree + 1) * math.log(scores) - math.lgamma(degree + 2) if scores else -math.inf
    relative = math.exp(logarithm) if logarithm < 700 else math.inf
    output = min(2.0, 2 * relative / (1 - relative)) if relative < 1 else 2.0
    return PolynomialError(scores, degree, math.comb(dim + degree, degree), relative, output)


def polynomial_degree(scores: float, error: float, dim: int = 1) -> int:
    """The smallest even degree for which `polynomial_error` keeps outputs to ``error``, in units of the values.

    Raises:
        TenfoldError: no degree up to 100 does.
    """
    error = real_number("error", error, "a positive number")
    if not error > 0:
        raise TenfoldError(f"error must be a positive number, not {quoted(error)}")
    for degree in range(0, _LARGEST_DEGREE + 1, 2):
        if polynomial_error(scores, degree, dim).output <= error:
            return degree
    raise TenfoldError(
        f"scores of up to {scores:.3g} need a degree above {_LARGEST_DEGREE} for error {error:.3g}; "
        "take tensor_attention, or a smaller scale"
    )


@torch.no_grad()
def score_bound(query: Tensor, key1: Tensor, key2: Tensor, *, scale: float | None = None) -> float:
    """A bound on all scores ``|S_ijk|`` in linear time: the best of Hölder's inequality and three of Cauchy's."""
    scale = scale_of(scale, query)
    if 0 in (query.numel(), key1.numel(), key2.numel()):
        return 0.0
    query, key1, key2 = (x.double() for x in (query.abs(), key1.abs(), key2.abs()))
    top1, top2 = key1.amax(dim=-2, keepdim=True), key2.amax(dim=-2, keepdim=True)
    long1, long2 = (key.norm(dim=-1, keepdim=True).amax(dim=-2, keepdim=True) for key in (key1, key2))
    bounds = (
        (query * top1 * top2).sum(dim=-1, keepdim=True),
        (query * top1).norm(dim=-1, keepdim=True) * long2,
        (query * top2).norm(dim=-1, keepdim=True) * long1,
        query.amax(dim=-1, keepdim=True) * long1 * long2,
    )
    least = bounds[0]
    for bound in bounds[1:]:
        least = torch.minimum(least, bound)
    return abs(scale) * float(least.amax())


def polynomial_tensor_attention(
    query: Float[Tensor, "*batch query dim"],
    key1: Float[Tensor, "*batch first dim"],
    key2: Float[Tensor, "*batch second dim"],
    value1: Float[Tensor, "*batch first value"],
    value2: Float[Tensor, "*batch second value"],
    *,
    scale: float | None = None,
    causal: bool = False,
    mask1: Bool[Tensor, "*batch first"] | None = None,
    mask2: Bool[Tensor, "*batch second"] | None = None,
    degree: int | None = None,
    error: float | None = None,
) -> Float[Tensor, "*batch query value"]:
    """`tensor_attention` with a Taylor polynomial in place of ``exp``, which never forms a pair: linear in tokens.

    A polynomial of the scores is a sum over monomials of queries times monomials of keys, so sums over first and
    second keys are taken one after the other. It is for small scores: their bound ``R`` (`score_bound`) decides the
    degree ``g`` (`polynomial_degree`), and there are ``r = C(dim + g, g)`` monomials.

    Args:
        scale, causal, mask1, mask2: as in `tensor_attention`.
        degree: even, since Taylor polynomials of ``exp`` of even degree have no zero. If left out, the smallest that
            ``error`` asks for, found from the scores' bound.
        error: how far outputs may be from the exact ones, in units of ``max |V1| max |V2|``, in exact arithmetic;
            0.01 if neither is given. A degree alone is taken as it is, without looking at the scores.

    Returns: outputs, as `tensor_attention`. Rounding adds about ``e^(2R)`` units in the last place.

    Raises:
        TenfoldError: the degree is odd; with the degree given the scores are too large for the error; or there would
            be more than 200,000 monomials, as large scores or keys need.
        DataError: shapes or dtypes do not fit together, or scores are no numbers.

    Cost: ``O(n r d)`` operations and ``O(n r)`` memory, forward and backward.
    Paper: "How to Capture Higher-order Correlations? Generalizing Matrix Softmax Attention to Kronecker Computation",
    2024.
    """
    scale = scale_of(scale, query)
    dtype, batch, tensors = computed_in(query, key1, key2, value1, value2)
    if causal:
        check_causal(query, key1, key2)
    masks = [mask_of(name, mask, key, batch) for name, mask, key in (("mask1", mask1, key1), ("mask2", mask2, key2))]
    query, keys, values = tensors[0], tensors[1:3], tensors[3:]
    ones = []
    for place, mask in enumerate(masks):
        if mask is None:
            ones.append(torch.ones_like(values[place][..., :1]))
            continue
        keys[place], values[place] = (x.masked_fill(~mask[..., None], 0.0) for x in (keys[place], values[place]))
        ones.append(mask[..., None].to(values[place].dtype))
    degree = _degree(query, keys, scale, degree, error)
    with torch.autocast(query.device.type, enabled=False):
        # The last component adds up the weights.
        values = [torch.cat([value, one], dim=-1) for value, one in zip(values, ones, strict=True)]
        left = _monomials(query * scale, degree) * _inverse_factorials(query.shape[-1], degree).to(query)
        first, second = (_monomials(key, degree) for key in keys)
        if causal:
            sums = _prefix_sums(left, first, second, *values)
        else:
            sums = left @ ((first.mT @ values[0]) * (second.mT @ values[1]))
        total = sums[..., -1:]
        # Nothing to attend to: zero, as in the exact one.
        out = sums[..., :-1] / total.masked_fill(total == 0, 1.0)
    return out.to(dtype)


def even_degree(degree: int) -> int:
    """The degree; raises `TenfoldError` where it is odd or negative."""
    degree = whole_number("degree", degree, 0)
    if degree % 2:
        raise TenfoldError(
            f"degree {degree} is odd, and such a polynomial has a zero; take {degree - 1} or {degree + 1}"
        )
    return degree


def _degree(query: Tensor, keys: Sequence[Tensor], scale: float, degree: int | None, error: float | None) -> int:
    """The degree to take; refuses what would not keep to the error, or not fit into memory."""
    if degree is None or error is not None:
        scores = score_bound(query, *keys, scale=scale)
        if not math.isfinite(scores):
            raise DataError("scores are not finite: query, key1 or key2 have NaN or infinity in them")
        wanted = 0.01 if error is None else error
        needed = polynomial_degree(scores, wanted)
        if degree is not None and even_degree(degree) < needed:
            found = polynomial_error(scores, degree, query.shape[-1]).output
            raise TenfoldError(
                f"degree {degree} keeps outputs to {found:.3g}, not to error {wanted:.3g}, with scores of up to "
                f"{scores:.3g}; take degree {needed}, or a smaller scale"
            )
        degree = needed if degree is None else degree
    degree, dim = even_degree(degree), query.shape[-1]
    features = math.comb(dim + degree, degree)
    if features > _MOST_FEATURES:
        raise TenfoldError(
            f"degree {degree} of keys of size {dim} has {features:,} monomials, more than {_MOST_FEATURES:,}; take "
            "tensor_attention, fewer components, or a smaller scale"
        )
    return degree


@cache
def _multi_indices(dim: int, degree: int) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """For each degree the monomials, as the variables that are multiplied, in the order of `_monomials`."""
    found: list[tuple[tuple[int, ...], ...]] = [((),)]
    for _ in range(degree):
        last = found[-1]
        found.append(tuple((v, *rest) for v in range(dim) for rest in last if not rest or rest[0] >= v))
    return tuple(found)


def _monomials(x: Float[Tensor, "*batch n dim"], degree: int) -> Float[Tensor, "*batch n features"]:
    """All monomials of up to this degree: those of the next degree are a variable times the last from it on."""
    dim = x.shape[-1]
    parts = [torch.ones_like(x[..., :1])]
    # Where in the last degree the monomials begin whose first variable is at least v.
    starts = [0] * dim
    for _ in range(degree):
        last = parts[-1]
        parts.append(torch.cat([x[..., v : v + 1] * last[..., starts[v] :] for v in range(dim)], dim=-1))
        sizes = [last.shape[-1] - start for start in starts]
        starts = [sum(sizes[:v]) for v in range(dim)]
    return torch.cat(parts, dim=-1)


@cache
def _factorials(dim: int, degree: int) -> tuple[float, ...]:
    """One over the factorials of the exponents of each monomial, which is what the sum over them takes."""
    return tuple(
        1 / math.prod(math.factorial(len(list(same))) for _, same in groupby(index))
        for indices in _multi_indices(dim, degree)
        for index in indices
    )


def _inverse_factorials(dim: int, degree: int) -> Tensor:
    return torch.tensor(_factorials(dim, degree), dtype=torch.float64)


def _prefix_sums(left: Tensor, first: Tensor, second: Tensor, value1: Tensor, value2: Tensor) -> Tensor:
    """For each token what the sums up to it make; pieces of them are computed again backward, not kept."""
    features, width = first.shape[-1], value1.shape[-1]
    state = first.new_zeros(2, *first.shape[:-2], features, width)
    found = []
    # A state is kept for each piece; pieces as long as values are wide keep no more than the monomials.
    for piece in _pieces(left.shape[-2], max(32, width)):
        given = (x[..., piece, :] for x in (left, first, second, value1, value2))
        if torch.is_grad_enabled() and any(x.requires_grad for x in (left, first, second, value1, value2)):
            out, state = checkpoint(_piece, state, *given, use_reentrant=False)
        else:
            out, state = _piece(state, *given)
        found.append(out)
    return torch.cat(found, dim=-2) if found else left.new_zeros(*left.shape[:-1], width)


def _pieces(length: int, step: int) -> list[slice]:
    return [slice(start, start + step) for start in range(0, length, step)]


def _piece(
    state: Tensor, left: Tensor, first: Tensor, second: Tensor, value1: Tensor, value2: Tensor
) -> tuple[Tensor, Tensor]:
    sums = [
        (key[..., None] * value[..., None, :]).cumsum(dim=-3) + before[..., None, :, :]
        for key, value, before in ((first, value1, state[0]), (second, value2, state[1]))
    ]
    out = (left[..., None, :] @ (sums[0] * sums[1])).squeeze(-2)
    return out, torch.stack([one[..., -1, :, :] for one in sums])
