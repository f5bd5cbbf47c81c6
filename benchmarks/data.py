"""Input that all contenders get: a network with noise, so that the error to reach is known."""

from __future__ import annotations

import torch
from torch import Tensor

from tenfold.network import Network
from tenfold.structure import Structure

NOISE = 0.1


def planted(structure: Structure, seed: int = 0) -> tuple[Tensor, Network]:
    """A dense tensor in double precision, 10 % noise, and the network inside."""
    network = Network.random(structure, seed=seed, dtype=torch.float64)
    signal = network.dense().contiguous()
    noise = torch.randn(signal.shape, generator=torch.Generator().manual_seed(seed + 1), dtype=signal.dtype)
    return signal + NOISE * float(signal.norm() / noise.norm()) * noise, network


def nearby(network: Network, seed: int = 2, distance: float = 0.5) -> Network:
    """A start from which alternating methods arrive: the cores with noise of ``distance`` times their size."""
    generator = torch.Generator().manual_seed(seed)
    cores = []
    for core in network.cores:
        noise = torch.randn(core.shape, generator=generator, dtype=core.dtype)
        cores.append(core + distance * float(core.norm() / noise.norm()) * noise)
    return network.replace(cores)
