"""A model some of whose layers were replaced, as one file, and back into the model that it was made from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tenfold._files import atomic
from tenfold.errors import FileError, TenfoldError
from tenfold.nn.placing import place
from tenfold.nn.recipes import module_of, recipe_of

_VERSION = 1
_KEY = "tenfold.model"


def save(
    path: str | os.PathLike[str],
    model: nn.Module,
    replaced: Mapping[tuple[str, ...], nn.Module],
    *,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write a model's numbers, and how the replaced layers are made, as one safetensors file.

    Args:
        path: of the file.
        model: with the replaced layers in it.
        replaced: under which names each of them is.
        record: what else is to be known of it, as JSON knows it.

    What ``get_extra_state`` gives is kept where it is a tensor or JSON knows it, and else left to the model that the
    file is loaded into.

    Raises:
        FileError: the file cannot be written.
    """
    tensors, aliases, extra = _unique(model)
    # The format has no complex numbers of 128 bits: they are kept as pairs.
    pairs = [name for name, value in tensors.items() if value.dtype == torch.complex128]
    tensors |= {name: torch.view_as_real(tensors[name].resolve_conj()) for name in pairs}
    layers = [{"names": list(names), "recipe": recipe_of(module)} for names, module in replaced.items()]
    header = {
        "version": _VERSION,
        "layers": layers,
        "aliases": aliases,
        "record": dict(record or {}),
        **({"extra": extra} if extra else {}),
        **({"pairs": pairs} if pairs else {}),
    }
    with atomic(path) as beside:
        try:
            save_file(tensors, beside, metadata={_KEY: json.dumps(header)})
        except (SafetensorError, KeyError, ValueError) as error:  # among them dtypes that the format does not know
            raise FileError(f"cannot write '{path}': {error}") from error


def _unique(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str], dict[str, Any]]:
    """Each tensor once, for other names of the same numbers under which they are, and what JSON knows of the rest."""
    extra: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple[Any, ...], str] = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            with suppress(TypeError, ValueError):
                if json.loads(json.dumps(value)) == value:
                    extra[name] = value
            continue
        key = (value.untyped_storage().data_ptr(), value.storage_offset(), tuple(value.shape), value.stride())
        if value.numel() and key in first:
            aliases[name] = first[key]
            continue
        first[key] = name
        tensors[name] = value.detach().cpu().contiguous().clone()
    return tensors, aliases, extra


def record_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What else was to be known of the model. Raises `FileError` where the file holds none."""
    return dict(_header(path)["record"])


def load(path: str | os.PathLike[str], model: nn.Module) -> nn.Module:
    """Put a stored model's layers and numbers into the model that it was made from.

    Args:
        path: of a file that `save` wrote.
        model: the same architecture and dtype; its numbers do not matter. It is changed, where nothing is raised.

    Returns:
        The model, in evaluation mode.

    Raises:
        FileError: no such file, or not one of these, or damaged, or of a newer version.
        TenfoldError: the model is not the one that the file was made from.
    """
    header = _header(path)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, source in header["aliases"].items():
        if source not in tensors:
            raise FileError(f"'{path}' has a damaged header (no numbers '{source}')")
        tensors[name] = tensors[source]
    for name in header.get("pairs", ()):
        if name not in tensors or tensors[name].shape[-1:] != (2,) or tensors[name].dtype != torch.float64:
            raise FileError(f"'{path}' has a damaged header (no complex numbers '{name}')")
        tensors[name] = torch.view_as_complex(tensors[name])
    made = [(layer["names"], module_of(layer["recipe"])) for layer in header["layers"]]
    for names, module in made:
        for name in names:
            _check_numbers(path, name, module, tensors)
    _check_model(path, model, header, tensors)
    for names, module in made:
        for name in names:
            place(model, name, module)
    kept = {name: value for name, value in model.state_dict().items() if not isinstance(value, Tensor)}
    try:
        model.load_state_dict({**tensors, **kept, **header.get("extra", {})})
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise TenfoldError(f"'{path}' does not fit this {type(model).__name__}: {said[:300]}") from error
    return model.eval()


def _check_numbers(path: str | os.PathLike[str], name: str, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Refuses a file whose recipe of a layer and numbers for it are not of one kind."""
    own = {f"{name}.{key}": v for key, v in module.state_dict().items() if isinstance(v, Tensor)}
    inside = {key: value for key, value in tensors.items() if key.startswith(f"{name}.")}

    def kinds(found: Mapping[str, Tensor]) -> dict[str, tuple[object, ...]]:
        return {key: (value.shape, value.is_floating_point()) for key, value in found.items()}

    if kinds(own) != kinds(inside):
        raise FileError(f"'{path}' is damaged: its numbers of the layer '{name}' do not fit how the layer is made")


def _check_model(
    path: str | os.PathLike[str], model: nn.Module, header: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Refuses a model that is not of the shapes and dtypes of the one that the file was made from."""
    kind = type(model).__name__
    twice = "; of a model that was compressed twice, load the file of the first time into it before"
    names = [name for layer in header["layers"] for name in layer["names"]]
    shapes = {one["name"]: tuple(one["shape"]) for one in header["record"].get("layers", ())}
    for name in names:
        try:
            layer = model.get_submodule(name)
        except AttributeError:
            raise TenfoldError(
                f"'{path}' replaces the layer '{name}', which this {kind} does not have; give the model that was "
                f"compressed{twice}"
            ) from None
        weight: Any = getattr(layer, "weight", None)
        if name in shapes and type(layer).__module__.startswith("torch.nn.") and not is_lazy(weight):
            _agree(path, f"{name}.weight", shapes[name], tuple(weight.shape))
    own = {name: value for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}
    inside = tuple(f"{name}." for name in names)
    for name, value in own.items():
        if name.startswith(inside) or is_lazy(value):
            continue
        if name not in tensors:
            raise TenfoldError(f"'{path}' has no numbers '{name}', as this {kind} has; give the same model{twice}")
        if value.is_meta:
            raise TenfoldError(f"this {kind} has no numbers to be filled: '{name}' is on the device 'meta'")
        _agree(path, name, tuple(tensors[name].shape), tuple(value.shape))
        _agree(path, name, tensors[name].dtype, value.dtype)
    more = [name for name in tensors if name not in own and not name.startswith(inside)]
    if more:
        raise TenfoldError(f"'{path}' has numbers '{more[0]}', which this {kind} has not; give the same model{twice}")


def _agree(path: str | os.PathLike[str], name: str, stored: object, own: object) -> None:
    if stored != own:
        raise TenfoldError(f"'{path}' was made from another model: its '{name}' was {stored}, and here it is {own}")


def _header(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
    except FileNotFoundError:
        raise FileError(f"there is no file '{path}'") from None
    except (SafetensorError, OSError) as error:
        raise FileError(f"'{path}' is truncated or no tenfold file ({error})") from error
    if text is None:
        raise FileError(f"'{path}' holds no compressed model")
    try:
        header = json.loads(text)
        version = header["version"]
    except (ValueError, KeyError, TypeError) as cause:
        raise FileError(f"'{path}' has a damaged header ({cause!r})") from cause
    if not isinstance(version, int) or version > _VERSION:
        raise FileError(f"'{path}' is of version {version}; this tenfold reads up to {_VERSION}")
    if not _sound(header):
        raise FileError(f"'{path}' has a damaged header")
    return dict(header)


def _sound(header: Mapping[str, Any]) -> bool:
    """Whether all that is read of a header is there, and of its kind."""
    layers, aliases, record = (header.get(key) for key in ("layers", "aliases", "record"))
    if not isinstance(layers, list) or not isinstance(aliases, dict) or not isinstance(record, dict):
        return False
    told = record.get("layers", [])
    return (
        all(
            isinstance(one, dict) and _words(one.get("names")) and isinstance(one.get("recipe"), dict) for one in layers
        )
        and _words([*aliases.values()])
        and isinstance(told, list)
        and all(isinstance(one, dict) and isinstance(one.get("shape"), list) and "name" in one for one in told)
        and isinstance(header.get("extra", {}), dict)
        and _words(header.get("pairs", []))
    )


def _words(given: object) -> bool:
    return isinstance(given, list) and all(isinstance(one, str) for one in given)
