"""Trained models by name, and batches of inputs for them. Nothing is downloaded."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from tenfold._arguments import closest, quoted
from tenfold.compression import forward as usual_forward
from tenfold.errors import FileError, TenfoldError


@dataclass(frozen=True, eq=False)
class Given:
    """A model that was named.

    Attributes:
        module: the model, in evaluation mode.
        batches: inputs that come with it; None for most.
        forward: how it is called; None for the usual way.
        evaluate: a metric that comes with it; None for most.
        tokenize: makes a batch of sentences; None for models that read no text.
    """

    module: nn.Module
    batches: Iterable[Any] | None = None
    forward: Callable[[nn.Module, Any], Any] | None = None
    evaluate: Callable[[nn.Module], float] | None = None
    tokenize: Callable[[list[str]], Any] | None = None


def module_of(name: str, *, into: str | None = None) -> Given:
    """The model of a name.

    Args:
        name: ``package.module:function`` that makes it, ``timm:NAME``, a folder that transformers wrote,
            ``sample:digits``, or a file of numbers (.safetensors).
        into: for a file of numbers, ``package.module:function`` that makes the model they belong to.

    Raises:
        FileError: no such file, or its numbers do not fit.
        TenfoldError: no such function, it makes no module, or a library that is needed is not there.
    """
    if into is not None:
        return _filled(name, into)
    if name.startswith("sample:"):
        return _sample(name.removeprefix("sample:"))
    if name.startswith("timm:"):
        return Given(_timm(name.removeprefix("timm:")).eval())
    if Path(name).is_dir():
        return _transformers(name)
    if Path(name).suffix in (".safetensors", ".pt", ".pth", ".bin", ".onnx", ".pt2"):
        if not Path(name).exists():
            raise FileError(f"there is no file '{name}'")
        if Path(name).suffix != ".safetensors":
            raise FileError(f"'{name}' cannot be read: give package.module:function that makes the model from it")
        raise TenfoldError(f"'{name}' holds numbers but no model; say --into package.module:function that makes it")
    made = function_of(name)()
    if not isinstance(made, nn.Module):
        raise TenfoldError(f"{name}() must return a torch.nn.Module, not {quoted(type(made).__name__)}")
    return Given(made.eval())


def function_of(name: str) -> Callable[..., Any]:
    """The function ``package.module:function``, looked for in the current folder too.

    Raises:
        TenfoldError: not of this form, no such module or function.
    """
    place, colon, function = name.partition(":")
    if not colon or not place or not function:
        raise TenfoldError(f"'{name}' is no file and not of the form package.module:function")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(place)
    except ImportError as error:
        raise TenfoldError(f"cannot import '{place}' of '{name}': {error}") from error
    except Exception as error:
        raise TenfoldError(f"cannot import '{place}' of '{name}': {type(error).__name__}: {error}") from error
    found = getattr(module, function, None)
    if not callable(found):
        raise TenfoldError(f"module '{place}' has no function '{function}'{closest(function, _functions(module))}")

    @functools.wraps(found)
    def told(*given: Any, **named: Any) -> Any:
        try:
            return found(*given, **named)
        except (TenfoldError, MemoryError):
            raise
        except Exception as error:
            raise TenfoldError(f"{name} raised {type(error).__name__}: {error}") from error

    return told


def _functions(module: ModuleType) -> list[str]:
    return [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]


def batches_of(name: str, given: Given, *, batch: int, limit: int) -> Iterable[Any]:
    """Batches of inputs: a function's, or an array's or a text's in pieces.

    Args:
        name: ``package.module:function``, an array (.npy, .npz, .safetensors) whose first axis counts examples, or a
            text (.txt), a sentence in each line.
        given: the model; a text needs one that comes with a tokenizer.
        batch: examples in a piece.
        limit: examples that are used, from the start.

    Raises:
        FileError: no such file, or it cannot be read.
        TenfoldError: no such function, or no tokenizer.
    """
    suffix = Path(name).suffix
    if suffix not in (".npy", ".npz", ".safetensors", ".txt"):
        if Path(name).exists():
            raise FileError(f"'{name}' is no array (.npy, .npz, .safetensors), no .txt and no package.module:function")
        made = function_of(name)()
        if not isinstance(made, Iterable) or isinstance(made, torch.Tensor | Mapping | str):
            raise TenfoldError(f"{name}() must return batches, as a list, not {quoted(type(made).__name__)}")
        return made
    if not Path(name).is_file():
        raise FileError(f"there is no file '{name}'")
    if suffix == ".txt":
        if given.tokenize is None:
            raise TenfoldError(f"'{name}' is text, and this model comes with no tokenizer; give a function of batches")
        lines = [line.strip() for line in Path(name).read_text(encoding="utf-8").splitlines() if line.strip()][:limit]
        return [given.tokenize(lines[start : start + batch]) for start in range(0, len(lines), batch)]
    array = _array(name)[:limit]
    if array.is_floating_point():
        array = array.to(next((p.dtype for p in given.module.parameters() if p.is_floating_point()), array.dtype))
    return list(array.split(batch))


def _array(name: str) -> torch.Tensor:
    try:
        if name.endswith(".safetensors"):
            held: Mapping[str, Any] = load_file(name)
        elif name.endswith(".npz"):
            with np.load(name, allow_pickle=False) as file:
                held = {key: torch.from_numpy(file[key]) for key in file.files}
        else:
            held = {"": torch.from_numpy(np.load(name, allow_pickle=False))}
    except (SafetensorError, OSError, ValueError, EOFError, TypeError, BadZipFile) as error:
        said = "it holds no numbers, or is damaged" if "pickle" in str(error) else error
        raise FileError(f"'{name}' cannot be read: {said}") from error
    if len(held) != 1:
        raise FileError(f"'{name}' holds {len(held)} arrays; give a file with one")
    (array,) = held.values()
    if array.ndim == 0:
        raise FileError(f"'{name}' holds a single number, not examples along a first axis")
    return array


def _filled(name: str, into: str) -> Given:
    given = module_of(into)
    if not Path(name).is_file():
        raise FileError(f"there is no file '{name}'")
    try:
        numbers = load_file(name)
    except (SafetensorError, OSError) as error:
        raise FileError(f"'{name}' is truncated or no safetensors file ({error})") from error
    try:
        given.module.load_state_dict(numbers)
    except RuntimeError as error:
        raise FileError(f"'{name}' does not fit the model of {into}: {' '.join(str(error).split())[:300]}") from error
    return given


def _sample(name: str) -> Given:
    if name != "digits":
        raise FileError(f"there is no sample model '{name}'; there is digits")
    from tenfold.models import digits

    return Given(digits.digits(), digits.batches(), None, digits.accuracy)


def _timm(name: str) -> nn.Module:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import timm
    except ImportError:
        raise TenfoldError("timm: models need the extra 'models': pip install 'tenfold[models]'") from None
    try:
        return timm.create_model(name, pretrained=True)
    except Exception as error:
        raise FileError(f"timm has no weights of '{name}' on this machine, or no such model: {error}") from error


def _transformers(folder: str) -> Given:
    if not (Path(folder) / "config.json").is_file():
        raise FileError(f"the folder '{folder}' holds no config.json; transformers writes one beside the numbers")
    try:
        import transformers
    except ImportError:
        raise TenfoldError("folders of transformers need the extra 'models': pip install 'tenfold[models]'") from None
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        named = next(iter(getattr(config, "architectures", None) or ()), "")
        # The class that was saved, with its head; AutoModel alone would leave the head out.
        maker = getattr(transformers, named, None) or transformers.AutoModel
        module = maker.from_pretrained(folder, local_files_only=True).eval()
    except (OSError, ValueError, KeyError) as error:
        raise FileError(f"transformers cannot read '{folder}': {error}") from error
    if type(module).__name__ != named:
        saved = f"of a {named}, which transformers does not have" if named else "of a class that no config names"
        told = f"'{folder}' is {saved}: a {type(module).__name__} was made, and weights of a head are left out"
        warnings.warn(told, stacklevel=3)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError):
        return Given(module, None, _of_tokens)

    def tokenize(sentences: list[str]) -> Mapping[str, Any]:
        made: Mapping[str, Any] = tokenizer(
            sentences, padding=True, truncation=True, max_length=128, return_tensors="pt"
        )
        return dict(made)

    return Given(module, None, _of_tokens, None, tokenize)


def _of_tokens(model: nn.Module, batch: Any) -> Any:
    """What counts of an output: nothing that was said of padding.

    Of a model without a head the mean of the last hidden states over the tokens, of logits for each token those of
    tokens, of all others the whole output.
    """
    output = usual_forward(model, batch)
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    if mask is None or not isinstance(output, Mapping):
        return output
    if "last_hidden_state" in output:
        last = output["last_hidden_state"]
        mask = mask[..., None].to(last.dtype)
        return (last * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
    logits = output.get("logits")
    if logits is not None and logits.ndim == 3 and logits.shape[:2] == mask.shape:
        return logits[mask.bool()]
    return output if logits is None else logits
