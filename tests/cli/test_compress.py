"""The command compress: models by name, what comes out, and what it says when something is wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import tenfold as tn
from tenfold.cli.app import _run
from tenfold.io.modules import module_of

MODELS = """
import torch
from pathlib import Path
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 32))

def large():
    return nn.Sequential(*(nn.Linear(384, 384) for _ in range(12)))

def calibration():
    Path("started").touch()
    return [torch.randn(64, 384) for _ in range(2)]

def breaks():
    yield torch.randn(60, 32)
    raise RuntimeError("the stream broke")

def number():
    return 3

def nothing(model, batch):
    model(batch)

def raises(*_):
    raise ValueError("nothing here")

class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(32, 32)

    def forward(self, x):
        y = self.a(x)
        return y if y.sum() > 0 else -y
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_networks.py").write_text(MODELS)
    (tmp_path / "my_broken.py").write_text("raise RuntimeError('at import')")
    monkeypatch.delitem(sys.modules, "my_networks", raising=False)
    generator = np.random.default_rng(0)
    np.save("x.npy", generator.normal(size=(200, 32)).astype(np.float32))
    np.save("narrow.npy", np.zeros((40, 31), np.float32))
    np.savez("two.npz", a=np.zeros((3, 32)), b=np.zeros(3))
    (tmp_path / "bad.npy").write_bytes(b"xx")
    return tmp_path


def compress(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capfd.readouterr()
    code = _run(["compress", *arguments], debug=False)
    out, err = capfd.readouterr()
    return code, out, err


def test_a_model_by_name_becomes_a_file_a_page_and_json(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = compress(
        capfd, "my_networks:build", "--size", "0.3", "--data", "x.npy", "-o", "s.tn", "--report", "p.html", "--json"
    )
    assert (code, err) == (0, "")
    assert json.loads(out)["size"] <= 0.3
    assert "1 threads" not in (folder / "p.html").read_text()
    import my_networks

    again = tn.nn.load("s.tn", my_networks.build())
    assert again(torch.zeros(1, 32)).shape == (1, 32)
    save_file(my_networks.build().state_dict(), "m.safetensors")
    more = ("--size", "0.3", "-o", "t.tn", "--report", "", "-q")
    assert compress(capfd, "m.safetensors", "--into", "my_networks:build", *more) == (0, "", "")
    (folder / "cut.safetensors").write_bytes((folder / "m.safetensors").read_bytes()[:100])
    code, out, err = compress(capfd, "cut.safetensors", "--into", "my_networks:build", *more)
    assert code == 1
    assert "truncated" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("my_networks:bild", "has no function 'bild' (did you mean 'build'?)"),
        ("missing.safetensors", "there is no file 'missing.safetensors'"),
        ("my_nowhere:build", "cannot import 'my_nowhere'"),
        ("my_broken:build", "RuntimeError: at import"),
        ("my_networks:number", "must return a torch.nn.Module, not 'int'"),
        ("my_networks:raises", "my_networks:raises raised ValueError: nothing here"),
        ("my_networks:build --data narrow.npy", "does not run on batch 1 of the data"),
        ("my_networks:build --data two.npz", "holds 2 arrays"),
        ("my_networks:build --data bad.npy", "holds no numbers, or is damaged"),
        ("my_networks:build --data my_networks:breaks", "data raised RuntimeError after 1 batches: the stream broke"),
        ("my_networks:build --data my_networks:number", "must return batches"),
        ("my_networks:build --data x.npy --metric my_networks:raises", "my_networks:raises raised ValueError"),
        ("my_networks:build --size 0.001", "tenfold: error: --size 0.001 is out of reach: the smallest"),
        (
            "my_networks:build --data x.npy --forward my_networks:nothing",
            "tensor: the model, or --forward where",
        ),
        ("my_networks:build --finetune 2", "fine-tuning needs --data"),
        ("my_networks:build --export s.pt2", "--export needs --data"),
        ("my_networks:build --export s.onnx", "ends in .pt2"),
        ("my_networks:build --export nowhere/s.pt2", "there is no folder"),
        ("my_networks:build --only nothing.*", "no layer's name matches 'nothing.*'"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    folder: Path, capfd: pytest.CaptureFixture[str], arguments: str, says: str
) -> None:
    code, out, err = compress(capfd, "--size", "0.3", *arguments.split(), "-o", "s.tn", "--report", "")
    assert code == 1
    assert out == ""
    assert len(err.splitlines()) == 1
    assert says in err
    assert not (folder / "s.tn").exists()


def test_numbers_out_of_range_are_wrong_usage(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for option in ("--batch", "--limit", "--threads"):
        code, _, err = compress(capfd, "my_networks:build", "--size", "0.3", option, "0")
        assert code == 2
        assert option in err


def test_a_model_that_has_no_program_is_kept_all_the_same(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, _, err = compress(
        capfd,
        "my_networks:Branch",
        "--size",
        "0.5",
        "--data",
        "x.npy",
        "-o",
        "s.tn",
        "--report",
        "",
        "--export",
        "s.pt2",
    )
    assert code == 1
    assert "torch cannot export this Branch" in err
    assert "the model is in 's.tn'" in err
    assert len(err.splitlines()) == 1
    assert (folder / "s.tn").exists()


@pytest.mark.slow
def test_an_interrupt_leaves_nothing_half_written(folder: Path) -> None:
    words = ["compress", "my_networks:large", "--size", "0.3", "--data", "my_networks:calibration"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tenfold", *words, "-o", "s.tn"], stderr=subprocess.PIPE, text=True, cwd=folder
    )
    until = time.monotonic() + 120
    while not (folder / "started").exists() and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("tenfold: error: interrupted")
    assert not [path for path in folder.iterdir() if path.suffix in (".tn", ".html")]


def test_a_folder_of_transformers_keeps_its_head(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, num_labels=3
    )
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    given = module_of(str(tmp_path))
    assert type(given.module).__name__ == "BertForSequenceClassification"
    assert given.forward is not None
    batch = {"input_ids": torch.ones(2, 5, dtype=torch.long), "attention_mask": torch.ones(2, 5, dtype=torch.long)}
    assert given.forward(given.module, batch).shape == (2, 3)
    # Of a class that transformers does not have, the rest is read, and a warning says so.
    told = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**told, "architectures": ["MyBert"]}))
    with pytest.warns(UserWarning, match="MyBert, which transformers does not have: a BertModel was made"):
        given = module_of(str(tmp_path))
    assert given.forward is not None
    assert given.forward(given.module, batch).shape == (2, 32)
