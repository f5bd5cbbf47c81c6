"""Other ways to a smaller network: truncated SVD of each weight, TensorLy-Torch, and torch's own whole numbers.

None looks at data. With the first two each layer keeps one part of its parameters, the same for all, found so that the
whole network has the size asked for; a layer that would not become smaller is left as it is. So are the first and the
last layer of a network with convolutions, as is usual: they are small, and it is hurt most there. What they give can be
trained on like any other network, as by `tenfold.compression.distil`.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from tenfold.compression import size_of

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
# A layer and the part of its parameters to keep, to what takes its place; None where that would be no smaller.
Replace = Callable[[nn.Module, float], nn.Module | None]


def truncated_svd(model: nn.Module, size: float) -> nn.Module:
    """A copy in ``size`` times as many bytes, every weight by its truncated singular value decomposition.

    A linear layer becomes two, a convolution one to fewer channels and one by a 1 x 1 kernel, an embedding a narrower
    one and a linear layer. Of its size this is the nearest matrix to each weight (Eckart and Young, 1936).
    """
    return _sized(model, size, _by_svd)


def tensorly_torch(model: nn.Module, size: float, factorization: str = "tucker") -> nn.Module:
    """A copy in ``size`` times as many bytes, by ``FactorizedConv.from_conv`` and ``FactorizedLinear.from_linear``.

    Factorised, not reconstructed. Tucker convolutions keep their spatial modes whole (``fixed_rank_modes="spatial"``),
    as one wants for a chain of convolutions. A linear layer is a matrix of two modes by "cp", which for a matrix is its
    truncated SVD; "tucker" there spends parameters on a core, and "blocktt" fails. An embedding would be the same, and
    is by truncated SVD. Of convolutions with unequal strides or with groups it makes others: they are left alone.
    """
    return _sized(model, size, lambda layer, part: _by_tensorly(layer, part, factorization))


def torch_dynamic(model: nn.Module) -> nn.Module:
    """A copy whose linear layers multiply whole numbers of 8 bits, by ``torch.ao.quantization.quantize_dynamic``.

    Weights have a scale for each row; all that comes into a layer at once has a single one.
    """
    from torch.ao import quantization

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is to move to another package
        kinds = {nn.Linear: quantization.per_channel_dynamic_qconfig}
        return quantization.quantize_dynamic(copy.deepcopy(model).eval(), kinds, torch.qint8)


def bytes_of(network: nn.Module) -> int:
    """As `size_of`, which does not see what torch has packed."""
    packed = [m.weight() for m in network.modules() if isinstance(m, torch.ao.nn.quantized.dynamic.Linear)]
    # A byte for each number, a scale of 8 for each row; biases are packed too.
    return size_of(network)[0] + sum(weight.numel() + (8 + 4) * len(weight) for weight in packed)


def missing() -> str:
    """What is not here."""
    return "" if find_spec("tltorch") else "the package tensorly-torch is not installed"


def _sized(model: nn.Module, size: float, replace: Replace) -> nn.Module:
    wanted = size * size_of(model)[0]
    low, high = 0.0, 1.0
    for _ in range(12):  # on shapes alone: no weight is decomposed
        part = (low + high) / 2
        low, high = (part, high) if _bytes_at(model, part) <= wanted else (low, part)
    made = copy.deepcopy(model)
    for name, layer in _layers(model):
        smaller = replace(layer, low)
        if smaller is not None:
            parent, _, leaf = name.rpartition(".")
            setattr(made.get_submodule(parent), leaf, smaller)
    return made.eval()


def _layers(model: nn.Module) -> list[tuple[str, Any]]:
    kinds = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    found = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, kinds)]
    return found[1:-1] if any(isinstance(layer, Convolution) for _, layer in found) else found


def _matrix(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.detach().flatten(1)


def _rank(layer: nn.Module, part: float) -> int:
    """The rank at which both factors have that part of the weight's parameters; 0 where a layer is left alone."""
    rows, columns = _matrix(layer).shape
    rank = max(1, int(part * rows * columns / (rows + columns)))
    return rank if rank * (rows + columns) < rows * columns and getattr(layer, "groups", 1) == 1 else 0


def _bytes_at(model: nn.Module, part: float) -> float:
    saved = 0
    for _, layer in _layers(model):
        rows, columns = _matrix(layer).shape
        rank = _rank(layer, part)
        if rank:
            saved += (rows * columns - rank * (rows + columns)) * layer.weight.element_size()
    return size_of(model)[0] - saved


def _by_svd(layer: nn.Module, part: float) -> nn.Module | None:
    rank = _rank(layer, part)
    if not rank:
        return None
    left, values, right = torch.linalg.svd(_matrix(layer), full_matrices=False)
    up, down = left[:, :rank] * values[:rank].sqrt(), values[:rank, None].sqrt() * right[:rank]
    if isinstance(layer, nn.Embedding):
        narrow, wide = nn.Embedding(len(up), rank, layer.padding_idx), nn.Linear(rank, down.shape[1], bias=False)
        return nn.Sequential(_with(narrow, up), _with(wide, down.T))
    if isinstance(layer, nn.Linear):
        first, last = nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, len(up), layer.bias is not None)
        return nn.Sequential(_with(first, down), _with(last, up, layer.bias))
    assert isinstance(layer, Convolution)
    kind, ones = type(layer), (1,) * (layer.weight.ndim - 2)
    given: Any = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "padding_mode")}
    spatial = kind(layer.in_channels, rank, layer.kernel_size, bias=False, **given)
    last = kind(rank, layer.out_channels, ones, bias=layer.bias is not None)
    return nn.Sequential(
        _with(spatial, down.reshape(spatial.weight.shape)), _with(last, up.reshape(last.weight.shape), layer.bias)
    )


def _with(layer: Any, weight: Tensor, bias: Tensor | None = None) -> nn.Module:
    layer.weight.data = weight.contiguous().clone()
    if bias is not None:
        layer.bias.data = bias.detach().clone()
    return layer


def _by_tensorly(layer: nn.Module, part: float, factorization: str) -> nn.Module | None:
    import tltorch

    if isinstance(layer, nn.Embedding):
        return _by_svd(layer, part)
    stride = getattr(layer, "stride", (1,))
    if not _rank(layer, part) or len(set(stride)) > 1:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(layer, nn.Linear):
            shapes: Any = {
                "in_tensorized_features": (layer.in_features,),
                "out_tensorized_features": (layer.out_features,),
            }
            return tltorch.FactorizedLinear.from_linear(
                layer,
                part,
                False,
                factorization="cp",
                implementation="factorized",
                bias=layer.bias is not None,
                **shapes,
            )
        fixed = {"fixed_rank_modes": "spatial"} if factorization == "tucker" else {}
        return tltorch.FactorizedConv.from_conv(
            layer, part, implementation="factorized", factorization=factorization, **fixed
        )
