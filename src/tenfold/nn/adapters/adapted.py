"""A model with adapters in it, and what is done with all of them at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tenfold._files import atomic
from tenfold.errors import FileError, TenfoldError
from tenfold.nn.adapters.tucker import TuckerAdapter
from tenfold.nn.placing import place

_KEY = "tenfold.adapters"
_VERSION = 1


class Adapted:
    """The adapters of a model, by the names of the layers that they stand around.

    Attributes:
        model: the model, with the adapters in it; everything else in it is frozen.
        adapters: by name.
    """

    def __init__(self, model: nn.Module, adapters: Mapping[str, TuckerAdapter]) -> None:
        self.model, self.adapters = model, dict(adapters)

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
        """Merge the changes and take the adapters out; returns the model, its classes as before."""
        for name, adapter in self.adapters.items():
            adapter.merge()
            place(self.model, name, adapter.base)
        self.adapters = {}
        return self.model

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the adapters alone as one safetensors file. Raises `FileError` where it cannot be written."""
        tensors: dict[str, Tensor] = {}
        settings = {}
        for name, adapter in self.adapters.items():
            settings[name] = {"ranks": list(adapter.ranks), "scale": adapter.scale}
            tensors[f"{name}.core"] = adapter.core.detach().cpu().contiguous()
            for number, factor in enumerate(adapter.factors):
                tensors[f"{name}.factors.{number}"] = factor.detach().cpu().contiguous()
        header = json.dumps({"version": _VERSION, "adapters": settings})
        with atomic(path) as beside:
            save_file(tensors, beside, metadata={_KEY: header})

    def save_lora(self, folder: str | os.PathLike[str]) -> None:
        """Write the same changes as a folder of LoRA, which ``peft.PeftModel.from_pretrained(model, folder)`` reads.

        Raises:
            TenfoldError: a convolution is among the layers; its change is no product of two matrices.
            FileError: the folder cannot be written.
        """
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
        try:
            settings = json.loads(text)["adapters"]
            for name, one in settings.items():
                adapter = TuckerAdapter(_layer(model, name), tuple(one["ranks"]), scale=one["scale"])
                numbers = [tensors[f"{name}.core"], *(tensors[f"{name}.factors.{n}"] for n in range(len(one["ranks"])))]
                with torch.no_grad():
                    for mine, number in zip([adapter.core, *adapter.factors], numbers, strict=True):
                        mine.copy_(number)
                adapters[name] = adapter
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise FileError(f"'{path}' does not fit this model: {' '.join(str(error).split())[:200]}") from error
        model.requires_grad_(False)
        for name, adapter in adapters.items():
            place(model, name, adapter)
        return cls(model, adapters)

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
    only: Sequence[str] = ("*",),
    skip: Sequence[str] = (),
    scale: float = 1.0,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
) -> Adapted:
    """Freeze a model, and put an adapter around each of its linear layers and convolutions; in place.

    Args:
        model: the trained model.
        rank: see `TuckerAdapter`.
        only: patterns of the names of layers that get one, as ``"*.query"``.
        skip: patterns of names that get none.
        scale, dropout: see `TuckerAdapter`.
        generator: where the random numbers of the start come from.

    Returns:
        What is trained, merged and saved.

    Raises:
        TenfoldError: no layer has such a name.

    Paper: "FLoRA: Low-rank core space for N-dimension", 2024.
    """
    known = {name: m for name, m in model.named_modules() if name and _can(m)}
    # What attention computes in one step it reads from the layer, and would not see the change.
    read = {id(m.out_proj) for m in model.modules() if isinstance(m, nn.MultiheadAttention)}
    chosen = {
        name: module
        for name, module in known.items()
        if id(module) not in read and _matches(name, only) and not _matches(name, skip)
    }
    if not chosen:
        raise TenfoldError(f"no linear layer or convolution has a name like {', '.join(only)}; there are {len(known)}")
    model.requires_grad_(False)
    adapters = {
        name: TuckerAdapter(module, rank, scale=scale, dropout=dropout, generator=generator)
        for name, module in chosen.items()
    }
    for name, adapter in adapters.items():
        place(model, name, adapter)
    return Adapted(model, adapters)


def _can(module: nn.Module) -> bool:
    return type(module) in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _layer(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise TenfoldError(f"this {type(model).__name__} has no layer '{name}'") from None
