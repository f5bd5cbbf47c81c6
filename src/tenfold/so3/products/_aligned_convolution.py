"""What convolutions of functions on the sphere in the frames of edges have in common."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from tenfold.so3._transforms import followed
from tenfold.so3.irreps import Irreps
from tenfold.so3.products import _aligned
from tenfold.so3.products._aligned_form import Form
from tenfold.so3.products._convolution import Convolution
from tenfold.so3.products._registry import Unsuited
from tenfold.so3.products._signals import Signal


class AlignedConvolution(Convolution):
    """A filter that keeps channels apart, with weights for each of them or the same for all."""

    _form: Form

    def _signals(self, parity: bool, channelwise: bool) -> int:
        """Reads the irreps; 1 or -1 for the parity of what a filter multiplies with, 0 where none is asked for."""
        self._inner = signal("irreps_in", self.irreps_in, parity)
        self._outer = signal("irreps_out", self.irreps_out, parity)
        if self._inner.channels != self._outer.channels:
            raise Unsuited(
                f"irreps_out '{self.irreps_out}' have {self._outer.channels} channels and irreps_in "
                f"{self._inner.channels}: a filter keeps channels apart, so they must be equally many"
            )
        self._copies = self._inner.channels if channelwise else 1
        return self._inner.parity * self._outer.parity if parity else 0

    def _messages(
        self,
        features: Float[Tensor, "nodes dim"],
        vectors: Float[Tensor, "edges 3"],
        weight: Float[Tensor, "edges weight_numel"] | Float[Tensor, " weight_numel"] | None,
        source: Int[Tensor, " edges"] | None,
        target: Int[Tensor, " edges"] | None,
        nodes: int,
    ) -> Float[Tensor, "rows out"]:
        assert weight is not None
        factors = weight.reshape(
            1 if weight.ndim == 1 else weight.shape[0], self.weight_numel // self._copies, self._copies
        )
        seen = self._inner.components(features, self.layout)
        run = _aligned.plain_messages if followed(features, vectors, weight) else _aligned.messages
        made = run(self._form, seen, vectors, factors, source, target, nodes)
        return self._outer.features(made, self.layout)


def signal(name: str, irreps: Irreps, parity: bool) -> Signal:
    """Irreps as functions on the sphere; parities are taken to be those of harmonics where they do not matter."""
    return Signal.of(name, irreps if parity else Irreps([(mul, (ir.l, (-1) ** ir.l)) for mul, ir in irreps]))
