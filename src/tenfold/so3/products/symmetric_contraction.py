"""All products of one feature with itself up to a number of factors, each with its weight: MACE's contraction."""

from __future__ import annotations

from functools import cache
from itertools import permutations
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold._arguments import closest, quoted
from tenfold.errors import DataError, TenfoldError
from tenfold.so3._given import check_floating
from tenfold.so3._transforms import followed
from tenfold.so3.irreps import Given, Irrep, Irreps
from tenfold.so3.layouts import Layout, relayout
from tenfold.so3.products._couplings import symmetric_couplings
from tenfold.so3.products._many_body import ManyBodyProduct
from tenfold.so3.products._polynomial_operators import symmetric_polynomials
from tenfold.so3.products._polynomials import polynomials
from tenfold.so3.products._registry import Unsuited

Backend = Literal["auto", "polynomials", "dense"]
BACKENDS = ("auto", "polynomials", "dense")
# What kernels are compiled for.
_COMPILED = (torch.float32, torch.float64)


class SymmetricContraction(ManyBodyProduct):
    """Polynomials of a feature's channels, one at a time: all that turn with it, up to a degree, each with a weight.

    Channel ``c`` of an irrep that comes out is ``sum over n and k of w[n, k, c] U[n, k](x_c, ..., x_c)`` with ``n``
    copies of ``x_c``, all components of the feature in that channel. The tensors ``U[n, k]`` are an orthonormal basis
    of those that are symmetric in the copies and turn as the irrep does: fewer than the trees of Clebsch-Gordan
    coefficients that lead there, of which many are the same once they are symmetric, or zero. `couplings` returns them,
    `change_of_basis` the matrix by which weights for others become weights for these.

    Weights are ordered by irrep, degree, ``k`` and channel; `weight_shapes` says how many of each.

    Args:
        irreps_in: blocks that all have the same multiplicity, the number of channels.
        irreps_out: the same.
        correlation: how many copies are multiplied at most.
        layout: of both.
        backend: ``"polynomials"`` runs through the monomials that occur, with the weights of each species multiplied
            into their coefficients, in compiled loops on the CPU. ``"dense"`` contracts the couplings with one copy of
            the feature after the other; it runs wherever torch does. ``"auto"`` is the former where it runs.

    Attributes:
        channels: how many there are.
        weight_shapes: couplings and channels, for each block that comes out and each degree from 1, in that order.

    Raises:
        Unsuited: multiplicities differ.
        TenfoldError: the irreps, the layout or the backend are none.

    Cost: for each node and channel one multiplication and addition for each monomial of each component, 231 for three
    copies of degrees 0 to 2, and a multiplication for each different monomial. A gradient costs two to three times as
    much, the gradient of a gradient again as much. ``"dense"`` takes ``dim ** correlation`` for each component.
    Paper: "MACE: Higher order equivariant message passing neural networks for fast and accurate force fields", 2022.
    """

    def __init__(
        self,
        irreps_in: Given,
        irreps_out: Given,
        correlation: int,
        *,
        layout: Layout = "mul_ir",
        backend: Backend = "auto",
    ) -> None:
        super().__init__(irreps_in, irreps_out, correlation, layout=layout)
        if backend not in BACKENDS:
            hint = closest(backend, BACKENDS) if isinstance(backend, str) else ""
            raise TenfoldError(f"backend must be 'auto', 'polynomials' or 'dense', not {quoted(backend)}{hint}")
        self.backend: Backend = backend
        muls = {block.mul for block in (*self.irreps_in, *self.irreps_out)}
        if len(muls) != 1 or 0 in muls or not self.irreps_in:
            raise Unsuited(
                f"irreps '{self.irreps_in}' and '{self.irreps_out}' must all have the same multiplicity, the number of "
                "channels, like '64x0e+64x1o+64x2e' and '64x0e'"
            )
        self.channels = muls.pop()
        self._key = (_once(self.irreps_in), _once(self.irreps_out), self.correlation)
        counts = [count for of_block in polynomials(*self._key).paths for count in of_block]
        self.weight_shapes = tuple((count, self.channels) for count in counts)
        self.weight_numel = self.channels * sum(counts)

    def couplings(self, block: int, degree: int) -> Float[Tensor, "coupling component *components"]:
        """The tensors of a block that comes out, for so many copies, in double precision.

        Each component of each is a symmetric tensor of norm one, orthogonal to all others.

        Raises:
            TenfoldError: there is no such block or degree.

        Cost: ``dim ** degree`` numbers for each.
        """
        if not (0 <= block < len(self.irreps_out) and 1 <= degree <= self.correlation):
            raise TenfoldError(
                f"block {block} of degree {degree} is not among {len(self.irreps_out)} blocks, counted from 0, and "
                f"degrees 1 to {self.correlation}"
            )
        return _dense(self._key[0], str(self.irreps_out[block].ir), degree)

    def change_of_basis(
        self, block: int, tensors: Float[Tensor, "component *components k"]
    ) -> Float[Tensor, "k coupling"]:
        """What tensors that others use are in terms of `couplings`: ``theirs.T @ this`` are the weights for these.

        Args:
            block: of the irreps that come out.
            tensors: an axis for the components of the irrep, which may be missing where it has only one; an axis of all
                components of the feature for each copy; and one that numbers the tensors. MACE's ``U_matrix`` is this.

        Raises:
            DataError: the shape is another one, or the tensors do not turn as the irrep does.
            TenfoldError: there is no such block or degree.
        """
        check_floating("tensors", tensors)
        size, dim = polynomials(*self._key).components[0], self.irreps_out[block].ir.dim
        if dim == 1 and (tensors.ndim == 2 or tensors.shape[0] != 1):
            tensors = tensors[None]
        degree = tensors.ndim - 2
        if tensors.shape[:-1] != (dim, *[size] * degree):
            raise DataError(
                f"tensors of shape {tuple(tensors.shape)} must be of shape ({dim}, {size}, ..., {size}, k), an axis of "
                f"{size} for each copy of '{self._key[0]}'"
            )
        ours = self.couplings(block, degree)
        given = tensors.double()
        axes = range(1, degree + 1)
        orders = [given.permute(0, *order, degree + 1) for order in permutations(axes)]
        symmetric = torch.stack(orders).mean(dim=0)
        found = torch.einsum("ka,ab->bk", ours.flatten(1), symmetric.flatten(0, -2)) / dim
        left = symmetric - torch.einsum("bk,k...->...b", found, ours)
        if left.norm() > 1e-4 * given.norm():
            raise DataError(
                f"tensors do not turn as {self.irreps_out[block].ir}: couplings leave {left.norm():.2g} over"
            )
        return found

    def _product(
        self,
        features: Float[Tensor, "batch dim"],
        weight: Float[Tensor, "rows weight_numel"] | None,
        species: Int[Tensor, " batch"] | None,
    ) -> Float[Tensor, "batch out"]:
        assert weight is not None or not self.weight_numel
        turned = relayout(features, self.irreps_in, self.layout, "ir_mul")
        inside = turned.unflatten(-1, (-1, self.channels))
        if weight is None:
            return features.new_zeros(features.shape[0], self.irreps_out.dim)
        table = weight.unflatten(-1, (-1, self.channels))
        compiled = features.device.type == "cpu" and features.dtype in _COMPILED
        if self.backend == "polynomials" and not compiled:
            raise DataError(
                f"backend 'polynomials' takes torch.float32 and torch.float64 on the CPU, not {features.dtype} on "
                f"{features.device}: use 'dense'"
            )
        if self.backend != "dense" and compiled and not followed(features, weight):
            found = symmetric_polynomials(inside, table, species, *self._key)
        else:
            found = self._horner(inside, table, species)
        return relayout(found.flatten(-2), self.irreps_out, "ir_mul", self.layout)

    def _horner(
        self,
        features: Float[Tensor, "batch component channel"],
        weight: Float[Tensor, "rows path channel"],
        species: Int[Tensor, " batch"] | None,
    ) -> Float[Tensor, "batch out channel"]:
        """From the highest degree down: couplings of all species with their weights, times a copy, plus the next."""
        parts = iter(weight.split([count for count, _ in self.weight_shapes], dim=-2))
        found = []
        for _, ir in self.irreps_out:
            total: Tensor | None = None
            for degree, part in reversed([(n, next(parts)) for n in range(1, self.correlation + 1)]):
                tensors = _dense(self._key[0], str(ir), degree).to(weight)
                weighted = torch.einsum("k...i,ekc->ec...i", tensors, part)
                weighted = weighted if species is None else weighted[species]
                total = weighted if total is None else weighted + total
                total = torch.einsum("nc...i,nic->nc...", total.expand(features.shape[0], *total.shape[1:]), features)
            assert total is not None  # a degree is at least 1
            found.append(total.transpose(1, 2))
        return torch.cat(found, dim=1)


# An operator, so that compilers take the table as it is: what is kept while they trace is none.
@torch.library.custom_op("tenfold::so3_dense_couplings", mutates_args=())
def _dense(irreps_in: str, out: str, degree: int) -> Tensor:
    """Symmetric tensors ``[coupling, component, *components]`` that features of one channel are contracted with."""
    return _made_dense(irreps_in, out, degree).clone()


@_dense.register_fake
def _(irreps_in: str, out: str, degree: int) -> Tensor:
    couplings = symmetric_couplings(_irreps_of(irreps_in), Irrep(out), degree)
    return torch.empty(len(couplings), Irrep(out).dim, *[Irreps(irreps_in).dim] * degree, dtype=torch.float64)


def _irreps_of(irreps_in: str) -> tuple[Irrep, ...]:
    return tuple(block.ir for block in Irreps(irreps_in))


@cache
def _made_dense(irreps_in: str, out: str, degree: int) -> Float[Tensor, "coupling component *components"]:
    size = Irreps(irreps_in).dim
    couplings = symmetric_couplings(_irreps_of(irreps_in), Irrep(out), degree)
    found = torch.zeros(len(couplings), Irrep(out).dim, *[size] * degree, dtype=torch.float64)
    for tensor, coupling in zip(found, couplings, strict=True):
        for component, monomial, value in zip(coupling.component, coupling.monomial, coupling.value, strict=True):
            places = set(permutations(coupling.monomials[monomial]))
            for place in places:
                tensor[(int(component), *place)] = float(value) / len(places)
    return found


def _once(irreps: Irreps) -> str:
    """The irreps of one channel."""
    return str(Irreps([(1, block.ir) for block in irreps]))
