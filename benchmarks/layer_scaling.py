"""How the error of networks falls with compute when their layers are structured, on a random function and on real data.

    python -m benchmarks.layer_scaling --steps 800 --json benchmarks/results/layer_scaling.json
    python -m benchmarks.layer_scaling --smoke

Networks of several widths are trained as in the claim `btt_scaling`: on what a random network does to random inputs,
and on a hyperspectral image, where 48 bands of a pixel predict 144 others (all pixels, and the error is that on them).
For each family the exponent p of error = a products^-p, the median over seeds, and the error at equal compute.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import machine
from tenfold.claims._clock import exponent
from tenfold.claims.btt_scaling import WIDTHS, problem, scaled
from tenfold.io.samples import find

SMOKE = {name: widths[:2] for name, widths in WIDTHS.items()}


def pixels() -> tuple[Tensor, Tensor]:
    """Every fourth band, and the three between."""
    values = torch.as_tensor(np.load(find("indian_pines").path)["values"].astype("float32")).flatten(0, 1)[:, :192]
    values = (values - values.mean(0)) / values.std(0)
    known = torch.arange(values.shape[1]) % 4 == 0
    return values[:, known], values[:, ~known]


def measure(task: str, seeds: int, steps: int, widths: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """For each family the points of all seeds, the exponent, and the error in the middle of the common range."""
    found: dict[str, dict[str, Any]] = {}
    for name, each in widths.items():
        runs = []
        for seed in range(seeds):
            inputs, wanted = problem(seed, 2000) if task == "teacher" else pixels()
            runs.append([scaled(name, width, inputs, wanted, steps, 128, seed) for width in each])
        products = [point[0] for point in runs[0]]
        errors = [median(run[n][1] for run in runs) for n in range(len(each))]
        power = -median(exponent(*zip(*run, strict=True)) for run in runs)
        found[name] = {"widths": list(each), "products": products, "errors": errors, "exponent": power}
        print(
            f"{task:8} {name:10} exponent {power:.3f}   "
            + "  ".join(f"{error:.4f} at {count}" for count, error in zip(products, errors, strict=True)),
            flush=True,
        )
    low = max(min(each["products"]) for each in found.values())
    high = min(max(each["products"]) for each in found.values())
    middle = math.sqrt(low * high)
    for name, each in found.items():
        logs = [
            math.log(e) + each["exponent"] * math.log(p) for p, e in zip(each["products"], each["errors"], strict=True)
        ]
        each["error_at_equal_products"] = math.exp(sum(logs) / len(logs) - each["exponent"] * math.log(middle))
        print(f"{task:8} {name:10} error {each['error_at_equal_products']:.4f} at {middle:.0f} products")
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.layer_scaling", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--json", type=Path, help="write the numbers here, as JSON")
    parser.add_argument("--smoke", action="store_true", help="two widths and few steps, to see that it runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args(arguments)
    seeds, steps = (1, 20) if options.smoke else (options.seeds, options.steps)
    widths = SMOKE if options.smoke else dict(WIDTHS)
    with machine.threads(1):
        found = {task: measure(task, seeds, steps, widths) for task in ("teacher", "pixels")}
    if options.json is not None:
        made = {"machine": machine.description(1), "seeds": seeds, "steps": steps, "tasks": found}
        options.json.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
