"""Putting other modules in the place of layers."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from tenfold.compression.census import Site


def replaced(model: nn.Module, modules: Mapping[tuple[str, ...], nn.Module]) -> nn.Module:
    """A copy of the model with other modules under the names given; the model itself keeps as it is.

    Each key holds all names of one layer, so that what was shared is shared again.
    """
    # Layers that go are not copied: the memo says that their copies exist already.
    memo = {id(model.get_submodule(names[0])): module for names, module in modules.items()}
    made = copy.deepcopy(model, memo)
    for names, module in modules.items():
        module.train(model.training)
        for name in names:
            _set(made, name, module)
    return made


@contextmanager
def swapped(model: nn.Module, site: Site, module: nn.Module) -> Iterator[None]:
    """The model itself with another module in the place of one layer, for as long as the block runs."""
    module.train(site.module.training)
    try:
        for name in site.names:
            _set(model, name, module)
        yield
    finally:
        for name in site.names:
            _set(model, name, site.module)


def _set(model: nn.Module, name: str, module: nn.Module) -> None:
    above, _, last = name.rpartition(".")
    parent = model.get_submodule(above)
    # Not by setattr: containers keep their children under names that are no attributes.
    parent._modules[last] = module
