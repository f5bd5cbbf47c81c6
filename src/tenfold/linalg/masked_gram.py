"""Solving with ``P (⊗K) Pᵀ + D``, where P takes some cells of a grid: the leading eigenvectors of ⊗K as features.

A feature is a product of one eigenvector of each axis, so products of two features are products of pairs of them. The
Gram matrix of the features over the observed cells is read from a table that successive contractions of the precisions
with such pairs give; no matrix of cells by features is ever made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold.linalg.kronecker import kron_apply, outer

# Entries of a table of pairs (128 MiB); larger ones are made block by block.
_TABLE = 2**24
# Entries of a part of the Gram matrix that is read from a table at once.
_GATHER = 2**22


def leading(
    values: Sequence[Float[Tensor, " n"]], *, above: float, at_most: int
) -> tuple[list[Int[Tensor, " R"]], Int[Tensor, "r K"]]:
    """The products of eigenvalues larger than ``above``, the largest ``at_most`` of them.

    Returns:
        the eigenvalues of each axis that occur in one, as places in descending order, and a row for each product: its
        places in those lists. Costs a pass over all products that could be large enough.
    """
    order = [torch.argsort(value, descending=True, stable=True) for value in values]
    largest = [float(value.max()) for value in values]
    kept = []
    for axis, value in enumerate(values):
        rest = math.prod(largest[:axis] + largest[axis + 1 :])
        kept.append(order[axis][: int((value * rest > above).sum())])
    products = outer([value[places] for value, places in zip(values, kept, strict=True)])
    chosen = products.flatten() > above
    if int(chosen.sum()) > at_most:
        chosen = torch.zeros_like(chosen)
        chosen[products.flatten().topk(at_most).indices] = True
    return kept, chosen.reshape(products.shape).nonzero()


@dataclass(frozen=True, eq=False)
class MaskedGram:
    """Features ``Φ = P U Λ^½`` of the leading eigenpairs of a Kronecker product, and what is solved with them.

    Args:
        values: eigenvalues of each axis, not negative.
        vectors: eigenvectors of each axis.
        precisions: 1 over the variance of the noise of each cell, 0 where nothing was observed.
        scale: what the Kronecker product is multiplied with.
        above: eigenvalues of it below this are left out.
        at_most: and no more than this many are kept.

    Cost for r features of R eigenvectors of each axis: contractions of the cells with R²/2 pairs of each axis, r³/3 for
    a Cholesky factor, memory for some r² numbers.
    """

    values: tuple[Float[Tensor, " n"], ...]
    vectors: tuple[Float[Tensor, "n n"], ...]
    precisions: Float[Tensor, "..."]
    scale: float
    above: float
    at_most: int

    @cached_property
    def _chosen(self) -> tuple[list[Tensor], Tensor]:
        return leading(self.values, above=self.above / self.scale, at_most=self.at_most)

    @property
    def places(self) -> Int[Tensor, "r K"]:
        """For each feature, which of the kept eigenvectors of each axis it is the product of."""
        return self._chosen[1]

    @cached_property
    def spectra(self) -> list[Float[Tensor, " R"]]:
        """The kept eigenvalues of each axis."""
        return [value[kept] for value, kept in zip(self.values, self._chosen[0], strict=True)]

    @cached_property
    def bases(self) -> list[Float[Tensor, "n R"]]:
        """The kept eigenvectors of each axis."""
        return [vector[:, kept] for vector, kept in zip(self.vectors, self._chosen[0], strict=True)]

    @property
    def rank(self) -> int:
        """The number of features r."""
        return len(self.places)

    @cached_property
    def roots(self) -> Float[Tensor, " r"]:
        """Square roots of the eigenvalues of the features."""
        product = torch.full((self.rank,), self.scale, dtype=self.precisions.dtype, device=self.precisions.device)
        for axis, spectrum in enumerate(self.spectra):
            product = product * spectrum[self.places[:, axis]]
        return product.sqrt()

    @cached_property
    def gram(self) -> Float[Tensor, "r r"]:
        """``Φᵀ D⁻¹ Φ`` over the observed cells."""
        # First the axis that shrinks the tensor most.
        widths = [
            len(spectrum) * (len(spectrum) + 1) / 2 / len(b)
            for spectrum, b in zip(self.spectra, self.bases, strict=True)
        ]
        order = sorted(range(len(widths)), key=widths.__getitem__)
        places = self.places[:, order]
        inside = _between(self.precisions.permute(order), [self.bases[axis] for axis in order], places, places)
        return self.roots[:, None] * inside * self.roots

    @cached_property
    def cholesky(self) -> Float[Tensor, "r r"]:
        """The lower factor of ``B = 1 + gram``."""
        whole = self.gram.clone()
        whole.diagonal().add_(1)
        return torch.linalg.cholesky(whole)

    @cached_property
    def inverse(self) -> Float[Tensor, "r r"]:
        """``B⁻¹``: the posterior covariance of the weights of the features."""
        return torch.cholesky_inverse(self.cholesky)

    def log_determinant(self) -> float:
        """Of ``Φ Φᵀ + D`` over the observed cells."""
        seen = self.precisions[self.precisions > 0]
        return 2 * float(self.cholesky.diagonal().log().sum()) - float(seen.log().sum())

    def project(self, cells: Float[Tensor, "..."]) -> Float[Tensor, "... r"]:
        """``Φᵀ`` applied to tensors of cells, which are taken as zero nowhere but where they are."""
        inside = kron_apply([basis.T for basis in self.bases], cells)
        batch = inside.shape[: inside.ndim - len(self.bases)]
        return inside.reshape(*batch, -1)[..., self._box] * self.roots

    def expand(
        self, weights: Float[Tensor, "... r"], bases: Sequence[Float[Tensor, "m R"]] | None = None
    ) -> Float[Tensor, "..."]:
        """``U Λ^½`` applied to weights: on all cells, or where ``bases`` continue the eigenvectors to."""
        bases = self.bases if bases is None else bases
        shape = [len(spectrum) for spectrum in self.spectra]
        inside = weights.new_zeros((*weights.shape[:-1], math.prod(shape)))
        inside[..., self._box] = weights * self.roots
        return kron_apply(bases, inside.reshape(*weights.shape[:-1], *shape))

    @cached_property
    def _box(self) -> Tensor:
        place = torch.zeros(self.rank, dtype=torch.int64, device=self.places.device)
        for axis, spectrum in enumerate(self.spectra):
            place = place * len(spectrum) + self.places[:, axis]
        return place

    def solve(self, right: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """``(Φ Φᵀ + D)⁻¹`` of the observed cells applied to tensors of cells; zero in the others."""
        weighted = right * self.precisions
        weights = self.weights(weighted)
        return weighted - self.precisions * self.expand(weights)

    def weights(self, weighted: Float[Tensor, "..."]) -> Float[Tensor, "... r"]:
        """``B⁻¹ Φᵀ`` applied to tensors of cells: the posterior mean of the weights, of ``D⁻¹ y``."""
        projected = self.project(weighted)
        flat = projected.reshape(-1, self.rank)
        return torch.cholesky_solve(flat.T, self.cholesky).T.reshape(projected.shape)

    def continued(self, axis: int, cross: Float[Tensor, "m n"]) -> Float[Tensor, "m R"]:
        """The eigenvectors of an axis at new positions, of the covariances of those with the axis."""
        return cross @ self.bases[axis] / self.spectra[axis]

    def variance(self, bases: Sequence[Float[Tensor, "m R"]] | None = None) -> Float[Tensor, "..."]:
        """The posterior variance that the features leave, on all cells or where ``bases`` continue them to."""
        bases = self.bases if bases is None else bases
        return _diagonal(self.roots[:, None] * self.inverse * self.roots, bases, self.places, self.places)

    def spread(self, bases: Sequence[Float[Tensor, "m R"]] | None = None) -> Float[Tensor, "..."]:
        """The prior variance that the features have."""
        bases = self.bases if bases is None else bases
        shape = [len(spectrum) for spectrum in self.spectra]
        inside = self.roots.new_zeros(math.prod(shape))
        inside[self._box] = self.roots.square()
        return kron_apply([basis.square() for basis in bases], inside.reshape(shape))

    def derivatives(self, inside: Float[Tensor, "r r"], axis: int) -> Float[Tensor, "n n"]:
        """The matrix G with ``tr(G dK) = Σ inside[p, q] u_pᵀ (scale ⊗…dK…) u_q`` over features p, q; K of one axis."""
        size = len(self.spectra[axis])
        strides = [math.prod(len(s) for s in self.spectra[place + 1 :]) for place in range(len(self.spectra))]
        number = torch.full((math.prod(len(s) for s in self.spectra),), -1, device=self.places.device)
        number[self._box] = torch.arange(self.rank, device=self.places.device)
        # The features that differ from each one in this axis only.
        first = self._box - self.places[:, axis] * strides[axis]
        other = number[first[:, None] + torch.arange(size, device=first.device) * strides[axis]]
        found = inside.gather(1, other.clamp(min=0)).where(other >= 0, 0.0)
        rest = self.roots.square() / self.spectra[axis][self.places[:, axis]]
        small = inside.new_zeros(size, size).index_add(0, self.places[:, axis], rest[:, None] * found)
        return self.bases[axis] @ ((small + small.T) / 2) @ self.bases[axis].T


def _pairs(left: Float[Tensor, "n R"]) -> tuple[Float[Tensor, "n P"], Int[Tensor, "R R"]]:
    """Products of two columns, each pair once, and where the pair of two columns is."""
    size = left.shape[1]
    first, second = torch.triu_indices(size, size, device=left.device)
    where = torch.empty(size, size, dtype=torch.int64, device=left.device)
    where[first, second] = where[second, first] = torch.arange(len(first), device=left.device)
    return left[:, first] * left[:, second], where


def _tables(bases: Sequence[Tensor], left: Tensor, right: Tensor) -> tuple[list[Tensor], list[Tensor]] | None:
    """Pairs of the columns of each axis that occur; None where the table of all of them would be too large."""
    sizes = [int(torch.maximum(left[:, axis].max(), right[:, axis].max())) + 1 for axis in range(len(bases))]
    if len(bases) > 1 and math.prod(size * (size + 1) // 2 for size in sizes) > _TABLE:
        return None
    made = [_pairs(basis[:, :size]) for basis, size in zip(bases, sizes, strict=True)]
    return [table for table, _ in made], [where for _, where in made]


def _parts(where: Sequence[Tensor], left: Tensor, right: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of the matrix between two lists of features, and where in the table their entries are."""
    step = max(1, _GATHER // max(1, len(right)))
    for start in range(0, len(left), step):
        rows = slice(start, min(start + step, len(left)))
        place = torch.zeros(rows.stop - start, len(right), dtype=torch.int64, device=left.device)
        for axis, table in enumerate(where):
            place *= int(table[-1, -1]) + 1
            place += table[left[rows, axis, None], right[None, :, axis]]
        yield rows, place


def _blocks(left: Tensor, right: Tensor) -> Iterator[tuple[int, list[tuple[int, Tensor, Tensor]]]]:
    """The columns a of the first axis in ``left``, and for each the columns b in ``right`` with the features of both.

    Of two equal lists each pair comes once, with b not before a.
    """
    for a in left[:, 0].unique().tolist():
        mine = (left[:, 0] == a).nonzero()[:, 0]
        others = [b for b in right[:, 0].unique().tolist() if left is not right or b >= a]
        yield a, [(b, mine, (right[:, 0] == b).nonzero()[:, 0]) for b in others]


def _between(cells: Tensor, bases: Sequence[Tensor], left: Tensor, right: Tensor) -> Tensor:
    """``Σ cells ∏ bases[·, p] bases[·, q]`` for the features p of ``left`` and q of ``right``."""
    result = cells.new_empty(len(left), len(right))
    if not result.numel():
        return result
    made = _tables(bases, left, right)
    if made is not None:
        tables, where = made
        flat = kron_apply([table.T for table in tables], cells).flatten()
        for rows, place in _parts(where, left, right):
            result[rows] = flat[place]
        return result
    basis = bases[0]
    for a, blocks in _blocks(left, right):
        columns = [b for b, _, _ in blocks]
        inside = (basis[:, a, None] * basis[:, columns]).T @ cells.reshape(len(cells), -1)
        for row, (_, mine, theirs) in zip(inside, blocks, strict=True):
            part = _between(row.reshape(cells.shape[1:]), bases[1:], left[mine, 1:], right[theirs, 1:])
            result[mine[:, None], theirs] = part
            if left is right:
                result[theirs[:, None], mine] = part.T
    return result


def _diagonal(inside: Tensor, bases: Sequence[Tensor], left: Tensor, right: Tensor) -> Tensor:
    """``Σ inside[p, q] ∏ bases[·, p] bases[·, q]`` on the grid: the adjoint of `_between`."""
    shape = tuple(len(basis) for basis in bases)
    if not inside.numel():
        return inside.new_zeros(shape)
    made = _tables(bases, left, right)
    if made is not None:
        tables, where = made
        flat = inside.new_zeros(math.prod(table.shape[1] for table in tables))
        for rows, place in _parts(where, left, right):
            flat.index_add_(0, place.flatten(), inside[rows].flatten())
        return kron_apply(tables, flat.reshape([table.shape[1] for table in tables]))
    result = inside.new_zeros(shape)
    basis = bases[0]
    for a, blocks in _blocks(left, right):
        parts = []
        for b, mine, theirs in blocks:
            twice = 2.0 if left is right and a != b else 1.0
            parts.append(twice * _diagonal(inside[mine[:, None], theirs], bases[1:], left[mine, 1:], right[theirs, 1:]))
        pairs = basis[:, a, None] * basis[:, [b for b, _, _ in blocks]]
        result += (pairs @ torch.stack(parts).flatten(1)).reshape(shape)
    return result
