"""Putting other modules in the place of layers."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tenfold.compression.census import Site
from tenfold.compression.outputs import Forward
from tenfold.errors import TenfoldError
from tenfold.nn.placing import place


def check_copies(model: nn.Module) -> None:
    """Tell early that a model cannot be copied; no numbers are copied for it.

    Raises:
        TenfoldError: something in the model has no copy.
    """
    try:
        _with_the_same_numbers(model)
    except Exception as error:
        said = " ".join(str(error).split()).split(". ")[0][:160]
        raise TenfoldError(
            f"this {type(model).__name__} cannot be copied by copy.deepcopy ({said}); take out of it what has no copy"
        ) from error


def _with_the_same_numbers(model: nn.Module) -> nn.Module:
    """A copy of the model whose parameters and buffers are the model's own."""
    memo: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, memo)


def reached_from_copies(
    model: nn.Module, sites: Sequence[Site], batches: Sequence[Any], forward: Forward
) -> frozenset[str]:
    """Names of layers of the model itself that its copies run, so that nothing can take their place in a copy.

    A function that is kept in a module, or a hook, knows the module that it was made for, and is not copied with it.
    """
    made = _with_the_same_numbers(model)
    runs = {site.name: (Runs(), Runs()) for site in sites}
    handles = []
    try:
        for site in sites:
            for module, counted in zip((site.module, made.get_submodule(site.name)), runs[site.name], strict=True):
                handles.append(module.register_forward_pre_hook(counted.count))
        with torch.no_grad():
            for batch in batches:
                forward(made, batch)
                if all(one.number or other.number for one, other in runs.values()):
                    break
    finally:
        for handle in handles:
            handle.remove()
    return frozenset(name for name, (one, _) in runs.items() if one.number)


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
            place(made, name, module)
    return made


class Runs:
    """How often a module ran, once `count` is a hook before its forward."""

    def __init__(self) -> None:
        self.number = 0

    def count(self, *_: Any) -> None:
        """One run more."""
        self.number += 1


@contextmanager
def swapped(model: nn.Module, site: Site, module: nn.Module) -> Iterator[Runs]:
    """The model itself with another module in the place of one layer, for as long as the block runs.

    Gives the number of its runs. Only inside `every_layer_runs`: a fused shortcut around the layer would read weights
    that are not there.
    """
    module.train(site.module.training)
    runs = Runs()
    handle = module.register_forward_pre_hook(runs.count)
    parents = []
    for name in site.names:
        above, _, last = name.rpartition(".")
        parents.append((model.get_submodule(above), last))
    try:
        for parent, last in parents:
            parent._modules[last] = module
        yield runs
    finally:
        handle.remove()
        for parent, last in parents:
            parent._modules[last] = site.module


@contextmanager
def every_layer_runs() -> Iterator[None]:
    """No fused shortcuts of ``nn.TransformerEncoder`` around its layers, for as long as the block runs."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
