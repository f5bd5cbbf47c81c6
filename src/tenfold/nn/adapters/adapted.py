"""A model with adapters in it, and what is done with all of them at once."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from tenfold._files import atomic
from tenfold.errors import FileError, TenfoldError
from tenfold.nn.adapters.tucker import TuckerAdapter
from tenfold.nn.placing import place
from tenfold.nn.quantized import QuantizedConv, QuantizedLinear

_KEY = "tenfold.adapters"
_VERSION = 1


class Adapted:
    """The adapters of a model, by the names of the layers that they stand around.

    Attributes:
        model: the model, with the adapters in it; everything else in it is frozen.
        adapters: by name.
        left_alone: why, for each linear layer and convolution without one; empty where they come from a file.
    """

    def __init__(
        self, model: nn.Module, adapters: Mapping[str, TuckerAdapter], left_alone: Mapping[str, str] | None = None
    ) -> None:
        self.model, self.adapters, self.left_alone = model, dict(adapters), dict(left_alone or {})
        self._statistics = {name: value.clone() for name, value in _statistics(model)}

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is trained: give it to an optimizer."""
        for adapter in self.adapters.values():
            yield adapter.core
            yield from adapter.factors

    def merge(self) -> None:
        """Add all changes to the weights: the model is then as fast as before."""
        for adapter in self.adapters.values():
            adapter.merge()

    def unmerge(self) -> None:
        """All weights as they were."""
        for adapter in self.adapters.values():
            adapter.unmerge()

    def finish(self) -> nn.Module:
        """Merge the changes and take the adapters out; returns the model, its classes as before, frozen still."""
        for name, adapter in self.adapters.items():
            adapter.merge()
            place(self.model, name, adapter.base)
        self.adapters = {}
        return self.model

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the adapters alone as one safetensors file, with the statistics of batch norms that training changed.

        Raises:
            FileError: the file cannot be written.
        """
        tensors: dict[str, Tensor] = {}
        settings = {}
        for name, adapter in self.adapters.items():
            settings[name] = {"ranks": list(adapter.ranks), "scale": adapter.scale}
            tensors[f"{name}.core"] = adapter.core.detach().cpu().contiguous()
            for number, factor in enumerate(adapter.factors):
                tensors[f"{name}.factors.{number}"] = factor.detach().cpu().contiguous()
        statistics = []
        for name, value in _statistics(self.model):
            # What was registered later is no statistic of the model that the file is loaded into.
            if name in self._statistics and not torch.equal(value, self._statistics[name]):
                statistics.append(name)
                tensors[f"statistics.{name}"] = value.detach().cpu().contiguous()
        header = json.dumps({"version": _VERSION, "adapters": settings, "statistics": statistics})
        with atomic(path) as beside:
            save_file(tensors, beside, metadata={_KEY: header})

    def save_lora(self, folder: str | os.PathLike[str]) -> None:
        """Write the same changes as a folder of LoRA, which ``peft.PeftModel.from_pretrained(model, folder)`` reads.

        Raises:
            TenfoldError: a convolution is among the layers; its change is no product of two matrices.
            FileError: the folder cannot be written.
        """
        kernels = [name for name, adapter in self.adapters.items() if len(adapter.ranks) > 2]
        if kernels:
            raise TenfoldError(
                f"LoRA has no change of a convolution, as of {', '.join(kernels)}: adapt linear layers only, or merge"
            )
        pairs = {name: adapter.to_lora() for name, adapter in self.adapters.items()}
        ranks = {name: down.shape[0] for name, (down, _) in pairs.items()}
        rank = max(ranks.values())
        settings = {
            "peft_type": "LORA",
            "task_type": None,
            "inference_mode": True,
            "r": rank,
            "lora_alpha": rank,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": sorted(pairs),
            "rank_pattern": {name: r for name, r in ranks.items() if r != rank},
            "alpha_pattern": {name: r for name, r in ranks.items() if r != rank},
        }
        tensors = {}
        for name, (down, up) in pairs.items():
            tensors[f"base_model.model.{name}.lora_A.weight"] = down.cpu()
            tensors[f"base_model.model.{name}.lora_B.weight"] = up.cpu()
        with atomic(folder) as beside:
            beside.mkdir()
            (beside / "adapter_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
            save_file(tensors, beside / "adapter_model.safetensors")

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: nn.Module) -> Adapted:
        """Put the adapters of a file into the model that they were trained for.

        Raises:
            FileError: no such file, or none of these.
            TenfoldError: the model has no such layers.
        """
        try:
            with safe_open(path, framework="pt") as file:
                text = (file.metadata() or {}).get(_KEY)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            raise FileError(f"there is no file '{path}'") from None
        except (SafetensorError, OSError) as error:
            raise FileError(f"'{path}' is truncated or no safetensors file ({error})") from error
        if text is None:
            raise FileError(f"'{path}' holds no adapters")
        adapters = {}
        settings, statistics = _header(path, text)
        try:
            for name, one in settings.items():
                adapter = TuckerAdapter(_layer(model, name), tuple(one["ranks"]), scale=one["scale"])
                numbers = [tensors[f"{name}.core"], *(tensors[f"{name}.factors.{n}"] for n in range(len(one["ranks"])))]
                with torch.no_grad():
                    for mine, number in zip([adapter.core, *adapter.factors], numbers, strict=True):
                        if mine.shape != number.shape:
                            raise ValueError(f"'{name}' takes {tuple(mine.shape)}, the file has {tuple(number.shape)}")
                        mine.copy_(number)
                adapters[name] = adapter
            buffers = dict(_statistics(model))
            changed = {name: tensors[f"statistics.{name}"] for name in statistics}
            for name, value in changed.items():
                if buffers[name].shape != value.shape:
                    raise ValueError(f"'{name}' is {tuple(buffers[name].shape)} here, {tuple(value.shape)} in the file")
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise FileError(f"'{path}' does not fit this model: {' '.join(str(error).split())[:200]}") from error
        model.requires_grad_(False)
        for name, adapter in adapters.items():
            place(model, name, adapter)
        loaded = cls(model, adapters)
        for name, value in changed.items():
            buffers[name].copy_(value)
        return loaded

    def __repr__(self) -> str:
        trained = sum(p.numel() for p in self.parameters())
        whole = sum(p.numel() for p in self.model.parameters()) - trained
        return (
            f"{len(self.adapters)} adapters of {trained:,} numbers in a {type(self.model).__name__} of {whole:,} "
            f"({trained / max(whole, 1):.2%})"
        )


def adapt(
    model: nn.Module,
    rank: int | Sequence[int],
    *,
    only: str | Sequence[str] = "*",
    skip: str | Sequence[str] = (),
    scale: float = 1.0,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
) -> Adapted:
    """Freeze a model, and put an adapter around each of its linear layers and convolutions; in place.

    Args:
        model: the trained model.
        rank: see `TuckerAdapter`; a warning tells where the adapters have more numbers than the weights they change.
        only: a pattern of the names of layers that get one, as ``"*.query"``, or several.
        skip: a pattern of names that get none, or several.
        scale, dropout: see `TuckerAdapter`.
        generator: where the random numbers of the start come from.

    Returns:
        What is trained, merged and saved.

    Raises:
        TenfoldError: no layer with such a name can have one, or the model has adapters already.

    Paper: "FLoRA: Low-rank core space for N-dimension", 2024.
    """
    if any(isinstance(module, TuckerAdapter) for module in model.modules()):
        raise TenfoldError("the model has adapters already: take them out by finish() first")
    only, skip = ([each] if isinstance(each, str) else list(each) for each in (only, skip))
    layers = {
        name: module
        for name, module in model.named_modules(remove_duplicate=False)
        if name and isinstance(module, nn.Linear | _ConvNd | QuantizedLinear | QuantizedConv)
    }
    reasons = {name: _reason(model, name, module, only, skip) for name, module in layers.items()}
    left_alone = {name: reason for name, reason in reasons.items() if reason}
    chosen = [name for name in layers if name not in left_alone]
    if not chosen:
        told = "; ".join(f"'{name}' {reason}" for name, reason in left_alone.items())
        raise TenfoldError(f"no layer gets an adapter: {told or 'there is no linear layer and no convolution'}")
    adapters = {
        name: TuckerAdapter(layers[name], rank, scale=scale, dropout=dropout, generator=generator) for name in chosen
    }
    changed = sum(adapter.base.get_parameter("weight").numel() for adapter in adapters.values())
    added = sum(p.numel() for adapter in adapters.values() for p in (adapter.core, *adapter.factors))
    if added > changed:
        most = max(max(adapter.ranks[:2]) for adapter in adapters.values())
        warnings.warn(
            f"rank {rank} gives adapters of {added:,} numbers, more than the {changed:,} of the weights they change "
            f"(ranks are cut to the sizes of a layer, here to {most} at most): a smaller rank",
            stacklevel=2,
        )
    model.requires_grad_(False)
    for name, adapter in adapters.items():
        for trained in (adapter.core, *adapter.factors):
            trained.requires_grad_(True)
        place(model, name, adapter)
    return Adapted(model, adapters, left_alone)


def _reason(model: nn.Module, name: str, layer: nn.Module, only: Sequence[str], skip: Sequence[str]) -> str:
    """Why a layer gets no adapter; empty if it gets one."""
    if not _matches(name, only):
        return f"is not like {', '.join(only)}"
    if _matches(name, skip):
        return "is skipped"
    if isinstance(layer, QuantizedLinear | QuantizedConv):
        return "has a weight of whole numbers"
    if any(layer is module.out_proj for module in model.modules() if isinstance(module, nn.MultiheadAttention)):
        return "is read by attention, which does not call it"
    if type(layer) not in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d):
        return f"is a {type(layer).__name__}"
    if not isinstance(layer.weight, nn.Parameter):
        return "has a weight that is computed"
    # A change that is merged would reach whatever else uses the weight.
    others = [
        other
        for other, value in model.named_parameters(remove_duplicate=False)
        if value is layer.weight and other != f"{name}.weight"
    ]
    return f"shares its weight with '{others[0]}'" if others else ""


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _statistics(model: nn.Module) -> list[tuple[str, Tensor]]:
    """What training changes beside parameters, as the running means of batch norms."""
    kept = set(model.state_dict(keep_vars=True))
    kept -= {f"{name}.weight_before" for name, module in model.named_modules() if isinstance(module, TuckerAdapter)}
    return [(name, value) for name, value in model.named_buffers() if name in kept]


def _header(path: str | os.PathLike[str], text: str) -> tuple[dict[str, Any], list[str]]:
    """The settings of each adapter, and the names of the statistics in the file."""
    try:
        header = json.loads(text)
        version, settings, statistics = header["version"], header["adapters"], header.get("statistics", [])
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        raise FileError(f"'{path}' has a damaged header ({cause!r})") from cause
    if not isinstance(version, int) or version > _VERSION:
        raise FileError(f"'{path}' is of version {version}; this tenfold reads up to {_VERSION}")
    whole = isinstance(settings, dict) and all(
        isinstance(one, dict) and isinstance(one.get("ranks"), list) and isinstance(one.get("scale"), int | float)
        for one in settings.values()
    )
    if not whole or not isinstance(statistics, list) or not all(isinstance(name, str) for name in statistics):
        raise FileError(f"'{path}' has a damaged header")
    return settings, statistics


def _layer(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise TenfoldError(f"this {type(model).__name__} has no layer '{name}'") from None
