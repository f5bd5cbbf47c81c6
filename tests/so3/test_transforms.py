"""Compilers, `vmap` and half precision take everything that computes with tensors."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tenfold.so3 import (
    Irreps,
    clebsch_gordan,
    gaunt,
    random_rotations,
    rotate,
    spherical_harmonics,
    wigner_3j,
    wigner_d,
    wigner_d_from_angles,
    wigner_d_from_quaternion,
)

VECTORS = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
FEATURES = torch.randn(7, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
QUATERNIONS = torch.randn(7, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def products(vectors: torch.Tensor) -> torch.Tensor:
    tables = wigner_3j(1, 1, 2) + clebsch_gordan(1, 1, 2) + gaunt(1, 1, 2)
    return torch.einsum("abc,...a,...b->...c", tables, vectors, vectors)


class OneDevice(TorchDispatchMode):
    """Refuses what a GPU would: an operation on tensors of two devices, numbers aside."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor) and leaf.ndim]
        assert len({tensor.device for tensor in tensors}) <= 1, func
        return func(*args, **(kwargs or {}))


CALLS = {
    "harmonics": (lambda v: spherical_harmonics(range(5), v), (VECTORS,)),
    "matrices": (lambda r: wigner_d(4, r), (random_rotations(7),)),
    "angles": (lambda a, b, c: wigner_d_from_angles(4, a, b, c), tuple(VECTORS.T)),
    "quaternions": (lambda q: wigner_d_from_quaternion(3, q), (QUATERNIONS,)),
    "features": (lambda x, r: rotate(x, "2x1e+2o+3x3o", r), (FEATURES, -random_rotations(7))),
    "products": (products, (VECTORS,)),
}


@pytest.mark.parametrize("name", CALLS)
def test_vmap_sees_single_vectors(name: str) -> None:
    function, arguments = CALLS[name]
    torch.testing.assert_close(torch.vmap(function)(*arguments), function(*arguments), rtol=0, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_compiled_in_one_graph(name: str) -> None:
    function, arguments = CALLS[name]
    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*arguments), function(*arguments), rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    irreps, rotations = Irreps.harmonics(3), random_rotations(4)
    features = spherical_harmonics(irreps, VECTORS[:4].to(dtype))
    found = rotate(features, irreps, rotations.to(dtype))
    assert found.dtype == dtype
    expected = rotate(spherical_harmonics(irreps, VECTORS[:4]), irreps, rotations)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=12 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("name", [name for name in CALLS if name != "products"])
def test_tables_follow_to_another_device(name: str) -> None:
    """To the device without numbers, which every machine has."""
    function, arguments = CALLS[name]
    elsewhere = [argument.to("meta") for argument in arguments]
    with OneDevice():
        found = function(*elsewhere)
    assert found.device.type == "meta"
    assert found.shape == function(*arguments).shape
