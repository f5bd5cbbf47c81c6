"""Convolutions along edges as products in the frame of each edge, where a filter only turns around the edge."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold._arguments import quoted, whole_number
from tenfold.errors import DataError, TenfoldError
from tenfold.so3._given import check_floating
from tenfold.so3.irreps import Given
from tenfold.so3.layouts import Layout
from tenfold.so3.products._aligned_convolution import AlignedConvolution
from tenfold.so3.products._aligned_form import Form
from tenfold.so3.products._registry import Unsuited

Weights = Literal["frame", "paths"]


class SO2Convolution(AlignedConvolution):
    """The convolution of Clebsch-Gordan products, with weights of the edge's own frame: all paths at ``O(L^3)``.

    Seen from the edge, the harmonics of its direction have order 0 only, so features of order m and -m meet nothing but
    themselves. A pair of degrees has ``2 min(l, l') + 1`` paths, and as many numbers say what happens to its orders:
    those are the weights. Between them and the weights of paths is an orthogonal matrix,
    `from_path_weights` and `to_path_weights`, so independent normal weights mean the same here and there.

    Args:
        irreps_in: each degree once, in equally many channels, like ``"64x0e+64x1o+64x2e"``.
        irreps_out: the same, in as many channels.
        degree: the largest of the filter; by default all that can matter. With fewer, weights must be ``"paths"``.
        m_max: orders above this are left out, which is cheaper and no Clebsch-Gordan product any more; all by default.
            Edges of length zero then keep degrees up to it.
        weights: ``"frame"`` or ``"paths"``. The latter are e3nn's of a ``uvu`` product with harmonics of degrees 0 to
            ``degree`` in component normalization, in the order of ``irreps_in.paths(harmonics, irreps_out)``.
        channelwise: whether each channel has weights of its own.
        parity: whether the inversion is a symmetry too. Without it paths of all parities are there, and what irreps say
            of parity is not looked at.
        layout: of features and messages.

    Raises:
        Unsuited: the irreps are no functions on the sphere, differ in channels, or no path leads from one to the other.
        TenfoldError: weights of the frame are asked for with a filter that is not free.

    Cost: ``O(L^3)`` for each edge and channel, where a Clebsch-Gordan product takes ``O(L^6)``.
    Paper: "Reducing SO(3) Convolutions to SO(2) for Efficient Equivariant GNNs", 2023.
    """

    def __init__(
        self,
        irreps_in: Given,
        irreps_out: Given,
        *,
        degree: int | None = None,
        m_max: int | None = None,
        weights: Weights = "frame",
        channelwise: bool = True,
        parity: bool = True,
        layout: Layout = "mul_ir",
    ) -> None:
        super().__init__(irreps_in, 0, irreps_out, layout=layout)
        sign = self._signals(parity, channelwise)
        full = self._inner.lmax + self._outer.lmax
        self.degree = full if degree is None else whole_number("degree", degree, 0)
        if weights not in ("frame", "paths"):
            raise TenfoldError(f"weights must be 'frame' or 'paths', not {quoted(weights)}")
        if weights == "frame" and self.degree < full:
            raise TenfoldError(
                f"degree {self.degree} of the filter leaves weights of the frame unfree, which need {full}: "
                "give weights='paths', or no degree"
            )
        self.m_max = min(self._inner.lmax, self._outer.lmax) if m_max is None else whole_number("m_max", m_max, 0)
        even, odd = sign >= 0, sign <= 0
        self._form = Form(weights, self._inner.degrees, self._outer.degrees, self.degree, self.m_max, even, odd)
        count = self._form.mixing().shape[1]
        if not count or not self._form.slots():
            raise Unsuited(f"no path leads from '{self.irreps_in}' to '{self.irreps_out}' with this filter")
        self.weight_numel = count * self._copies

    def from_path_weights(self, weight: Float[Tensor, "*batch paths"]) -> Float[Tensor, "*batch weight_numel"]:
        """Weights of the frame from those of the Clebsch-Gordan paths, which e3nn's ``uvu`` product takes.

        Raises:
            DataError: the last axis has not the channels of every path.
        """
        return self._converted(weight, back=False)

    def to_path_weights(self, weight: Float[Tensor, "*batch weight_numel"]) -> Float[Tensor, "*batch paths"]:
        """The inverse of `from_path_weights`.

        Raises:
            DataError: the last axis has not ``weight_numel`` numbers.
            TenfoldError: orders are left out, so there are no such weights.
        """
        if self.m_max < min(self._inner.lmax, self._outer.lmax):
            raise TenfoldError(f"m_max {self.m_max} leaves orders out: no weights of paths do the same")
        return self._converted(weight, back=True)

    def _converted(self, weight: Tensor, back: bool) -> Tensor:
        form = Form(
            "paths", self._form.inner, self._form.outer, self.degree, self.m_max, self._form.even, self._form.odd
        )
        check_floating("weight", weight)
        matrix = torch.from_numpy(form.mixing()).to(weight)
        matrix, channels = matrix.T if back else matrix, self._copies
        if weight.ndim == 0 or weight.shape[-1] != matrix.shape[1] * channels:
            raise DataError(
                f"weight must end with {matrix.shape[1] * channels} numbers, not be of shape {tuple(weight.shape)}"
            )
        return torch.einsum("sp,...pc->...sc", matrix, weight.unflatten(-1, (-1, channels))).flatten(-2)
