"""Kernels for GPUs where there is none: compared by Triton's interpreter, and compiled for the architectures."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tenfold.so3.products import _trilinear_triton as kernels

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="triton is not installed; it comes with torch for CUDA, or by pip on Linux"
)
CHECKS = Path(__file__).with_name("triton_checks.py")


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], env=os.environ | environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@needs_triton
@pytest.mark.slow
def test_they_are_the_sums_of_torch() -> None:
    told = run("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(CHECKS), TRITON_INTERPRET="1")
    assert " passed" in told
    assert "skipped" not in told


COMPILE = """
import itertools, sys
import triton.language as tl
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tenfold.so3.products import _trilinear_triton_text as text
from tenfold.so3.products._terms import Coupling, terms
from tenfold.so3.products._trilinear_triton import _OPTIONS
from tenfold.so3.products._trilinear_triton_kernels import contract

INTEGERS = ("segments", "target_ends", "end_factor", "end_terms", "term_x", "term_y")
pairs = itertools.product(range(2), repeat=2)
couplings = [Coupling((a, b, c), 1.0, a * a, b * b, c * c) for a, b in pairs for c in range(abs(a - b), 2)]
key = terms(couplings, (4, 4, 4)).key
tile = {"ROWS": 4, "LANES": 32}


def check(kernel, constants, data, number, architecture):
    kinds = {}
    for name in kernel.arg_names:
        word = name.removesuffix("_ptr")
        pointer = "*i32" if word in INTEGERS else f"*{number}" if word == "value" else f"*{data}"
        kinds[name] = "constexpr" if name in constants else pointer if name.endswith("_ptr") else "i32"
    source = ASTSource(fn=kernel, signature=kinds, constexprs=constants)
    made = compile(source, target=GPUTarget("cuda", architecture, 32), options=_OPTIONS)
    print(architecture, data, len(made.asm["cubin"]), made.asm["ptx"].count("fma.rn"))


for architecture, (data, number) in itertools.product((80, 90), (("fp32", "fp32"), ("fp64", "fp64"), ("bf16", "fp32"))):
    kind = {"NUMBER": {"fp32": tl.float32, "fp64": tl.float64}[number]}
    step, weighted = {"RIGHT_STEP": 0}, {"WEIGHT_STEP": 1}
    check(text.forward(key, weighted=True, second=True), tile | step | weighted | kind, data, number, architecture)
    check(text.gradients(key, weighted=True, narrow=True), tile | step | weighted | kind, data, number, architecture)
    for summed, narrow in itertools.product((False, True), repeat=2):
        kernel = text.weights(key, second=False, summed=summed, narrow=narrow)
        check(kernel, tile | step | kind, data, number, architecture)
        flags = {"Y_STEP": 1, "FACTOR_STEP": 0, "FACTOR": True, "SECOND": True, "SUMMED": summed, "NARROW": narrow}
        check(contract, tile | flags | kind, data, number, architecture)
"""


@needs_triton
@pytest.mark.slow
def test_they_compile_for_gpus_without_one(tmp_path: Path) -> None:
    # Triton reads the text of kernels from files.
    script = tmp_path / "compiled.py"
    script.write_text(COMPILE)
    lines = run(str(script), TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path / "cache")).splitlines()
    assert len(lines) == 60
    assert {line.split()[0] for line in lines} == {"80", "90"}
    assert all(int(line.split()[2]) > 1000 for line in lines)
    # A product and the sum it goes into are one instruction.
    assert all(int(line.split()[3]) > 0 for line in lines)


def test_a_processor_needs_nothing_that_loads_triton() -> None:
    code = (
        "import sys, torch, tenfold as tn; product = tn.so3.tensor_product('0e+1o', '0e+1o', '0e+1o');"
        "product(torch.ones(1, 4), torch.ones(1, 4), product.random_weight());"
        "print(sorted(name for name in sys.modules if 'tenfold.so3.products._trilinear_triton' in name))"
    )
    assert run("-c", code).strip() == "['tenfold.so3.products._trilinear_triton']"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_they_are_for_gpus(dtype: torch.dtype) -> None:
    assert not kernels.serves(torch.ones(2, dtype=dtype))
    assert not kernels.serves(torch.ones(2, dtype=dtype, device="meta"))
