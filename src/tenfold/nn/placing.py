"""Putting a module in the place of another, inside a model."""

from __future__ import annotations

from torch import nn


def place(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module under the dotted name of one that is there.

    Layers of ``nn.TransformerEncoder`` above it are told not to take their fused shortcut, which reads the weights of
    ``nn.Linear`` themselves.

    Raises:
        AttributeError: there is nothing under that name.
    """
    above, _, last = name.rpartition(".")
    parent = model.get_submodule(above)
    if last not in parent._modules:
        raise AttributeError(f"{type(model).__name__} has no module '{name}'")
    # Not by setattr: containers keep their children under names that are no attributes.
    parent._modules[last] = module
    while above:
        parent = model.get_submodule(above)
        _plain(parent)
        above = above.rpartition(".")[0]
    _plain(model)


def _plain(module: nn.Module) -> None:
    if isinstance(module, nn.TransformerEncoderLayer):
        module.activation_relu_or_gelu = 0
    if isinstance(module, nn.TransformerEncoder):
        module.use_nested_tensor = False
