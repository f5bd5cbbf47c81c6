"""What comes into each layer on the calibration data: its first two moments; and on one example, to time it with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tenfold.compression.census import Site
from tenfold.linalg.roots import root_of

# Largest number of entries of a patch for which all its products are kept; above it those of the channels.
_WIDEST = 1600
# Positions of one batch that are looked at in a convolution, so that its patches fit into memory.
_POSITIONS = 4096
# Numbers of a layer's inputs that are kept, about, and the fewest inputs.
_KEPT, _FEWEST = 2**18, 4
# Between these, sums of squares of 32 bits neither vanish nor overflow.
_SMALL, _LARGE = 1e-12, 1e12

Forward = Callable[[nn.Module, Any], Any]


@dataclass(frozen=True, eq=False)
class Moments:
    """What came into one layer.

    Attributes:
        mean: ``E[x]``, float64: of the vectors that come into a linear layer, of the patches under a kernel (channels
            slowest), or of the channels alone where patches are too long; None for an embedding.
        covariance: ``E[(x - E[x]) (x - E[x])^T]`` of the same.
        counts: how often each row of an embedding was asked for.
        number: of the vectors, patches or rows that were seen; 0 where it was not counted.
        sample: some of the inputs, evenly from all that were seen, as the layer takes them: vectors for a linear layer,
            whole examples for a convolution; None for an embedding.
    """

    mean: Float[Tensor, " n"] | None
    covariance: Float[Tensor, "n n"] | None
    counts: Float[Tensor, " rows"] | None
    number: int = 0
    sample: Tensor | None = None

    @cached_property
    def root(self) -> Float[Tensor, "n n"]:
        """A triangular root of the covariance, made once. Raises `ValueError` for an embedding."""
        if self.covariance is None:
            raise ValueError("an embedding has no covariance")
        return root_of(self.covariance)


class _Sum:
    def __init__(self, site: Site) -> None:
        self.site, self.number = site, 0
        self.total: Tensor | None = None
        self.sum: Tensor | float = 0.0
        # Every so many inputs are kept; where they become too many, every second of them, and then half as many.
        self.kept: list[Tensor] = []
        self.apart = 1

    def add(self, x: Tensor) -> None:
        if self.site.kind == "embedding":
            rows = self.site.weight.shape[0]
            made = torch.bincount(x.detach().reshape(-1), minlength=rows).to(torch.float64)
            self.number += x.numel()
        else:
            self._keep(x.detach())
            vectors = _vectors(self.site, x.detach())
            if vectors.numel() and not _SMALL < float(vectors.abs().max()) < _LARGE:
                vectors = vectors.double()
            made = (vectors.T @ vectors).to(torch.float64)
            self.sum = self.sum + vectors.sum(dim=0).to(torch.float64)
            self.number += len(vectors)
        self.total = made if self.total is None else self.total + made

    def _keep(self, x: Tensor) -> None:
        spatial = self.site.weight.ndim - 2
        inputs = x.reshape(-1, x.shape[-1]) if not spatial else x[None] if x.ndim == spatial + 1 else x
        if not inputs.numel():
            return
        most = max(_KEPT // inputs[0].numel(), _FEWEST)
        while -(-len(inputs) // self.apart) > most:
            self._thin()
        self.kept.append(inputs[:: self.apart].clone())
        if sum(map(len, self.kept)) > most:
            self._thin()

    def _thin(self) -> None:
        self.apart *= 2
        self.kept = [part[::2].clone() for part in self.kept]

    @property
    def sample(self) -> Tensor | None:
        """What was kept; None where inputs are of several shapes."""
        alike = len({part.shape[1:] for part in self.kept}) == 1
        return torch.cat(self.kept) if alike else None


def _vectors(site: Site, x: Tensor) -> Float[Tensor, "n features"]:
    """The vectors that a layer multiplies its matrix with: inputs, patches, or channels."""
    if not x.is_floating_point() or x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    if site.kind == "linear":
        return x.reshape(-1, x.shape[-1])
    spatial = site.weight.ndim - 2
    if x.ndim == spatial + 1:
        x = x[None]
    if site.weight[0].numel() > _WIDEST:
        made = x.movedim(1, -1).reshape(-1, x.shape[1])
    else:
        made = _patches(site.module, x, spatial)
    if len(made) > _POSITIONS:
        made = made[torch.linspace(0, len(made) - 1, _POSITIONS, device=made.device).long()]
    return made


def _patches(module: Any, x: Tensor, spatial: int) -> Float[Tensor, "n patch"]:
    """Everything that lies under the kernel somewhere, channels slowest, as ``weight.flatten(1)``."""
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    if module.padding_mode == "zeros":
        x = functional.pad(x, module._reversed_padding_repeated_twice)
    else:
        x = functional.pad(x, module._reversed_padding_repeated_twice, mode=module.padding_mode)
    for axis in range(spatial):
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        x = x.unfold(2 + axis, reach, stride[axis])[..., :: dilation[axis]]
    # batch, channels, positions..., kernel...
    x = x.movedim(1, 1 + spatial)
    return x.reshape(-1, x.shape[1 + spatial] * _product(kernel))


def _product(numbers: Sequence[int]) -> int:
    made = 1
    for number in numbers:
        made *= number
    return made


def collect(
    model: nn.Module, sites: Sequence[Site], data: Iterable[Any], forward: Forward, *, tell: Callable[[int], None]
) -> tuple[dict[str, Moments], list[Any]]:
    """Run the model on the data and look at what comes into each site.

    Returns:
        The moments by name; a site that never ran is not among them. And the batches, kept for what comes later.
    """
    sums = {site.name: _Sum(site) for site in sites}
    kept = []
    with torch.no_grad(), _watched(sites, lambda site, x: sums[site.name].add(x)):
        for number, batch in enumerate(data):
            forward(model, batch)
            kept.append(batch)
            tell(number + 1)
    found = {}
    for name, one in sums.items():
        if one.total is None or not one.number:
            continue
        second = one.total / one.number
        if one.site.kind == "embedding":
            found[name] = Moments(None, None, second, one.number)
        else:
            mean = torch.as_tensor(one.sum / one.number)
            found[name] = Moments(mean, second - torch.outer(mean, mean), None, one.number, one.sample)
    return found, kept


@dataclass(frozen=True, eq=False)
class Call:
    """What one layer is asked for in one call of the model: its input the first time, and how often it runs."""

    x: Tensor
    times: int


def calls(model: nn.Module, sites: Sequence[Site], example: Any, forward: Forward) -> dict[str, Call]:
    """What each site is asked for when the model runs on the example; those that do not run are not among them."""
    found: dict[str, Call] = {}

    def look(site: Site, x: Tensor) -> None:
        known = found.get(site.name)
        found[site.name] = Call(x.detach().clone(), 1) if known is None else Call(known.x, known.times + 1)

    with torch.no_grad(), _watched(sites, look):
        forward(model, example)
    return found


@contextmanager
def _watched(sites: Sequence[Site], see: Callable[[Site, Tensor], None]) -> Iterator[None]:
    """Shows what comes into each site, for as long as the block runs."""
    handles = []
    for site in sites:

        def look(_module: nn.Module, given: tuple[Any, ...], named: dict[str, Any], site: Site = site) -> None:
            x = given[0] if given else named.get("input")
            if isinstance(x, Tensor):
                see(site, x)

        handles.append(site.module.register_forward_pre_hook(look, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
