"""What the documentation shows is what happens."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tenfold as tn
from tenfold.structure_search import searchers
from tenfold.verbs.search_result import Candidate

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


SESSIONS = [page for page in PAGES if blocks(page, "pycon")]


@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: page.name)
def test_sessions_print_what_the_page_shows(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")  # tables fold where a terminal is narrower
    text = "\n".join(blocks(page, "pycon"))
    session = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(session, out=said.append)
    assert result.failed == 0, "".join(said)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_compile(page: Path) -> None:
    for number, block in enumerate(blocks(page, "python")):
        compile(block, f"{page.name}, block {number}", "exec")


def test_the_table_of_layers_has_all_of_them() -> None:
    page = (ROOT / "docs" / "layers.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`(\w+)`", page))
    assert set(tn.nn.__all__) <= told, set(tn.nn.__all__) - told


USE_OF_THE_EXAMPLE = """
import tenfold as tn

structure = tn.formats.tucker((9, 8, 7), (2, 3, 4))
data = tn.Network.random(structure, seed=1, dtype=torch.float64).dense()
result = tn.decomposition.find("sketched_tucker").function(data, structure)
assert result.network.structure == structure, result.network.structure
assert result.error < 1e-12, result.error
assert torch.allclose(result.network.dense(), data)
"""


def test_the_example_of_a_method_is_a_method(tmp_path: Path) -> None:
    # In a process of its own: registering a method is for good.
    script = tmp_path / "sketched_tucker.py"
    script.write_text(blocks(ROOT / "CONTRIBUTING.md", "python")[0] + USE_OF_THE_EXAMPLE, encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


USE_OF_THE_MODEL = """
from tenfold.completion import find

generator = torch.Generator().manual_seed(0)
cells = torch.stack([torch.randint(n, (400,), generator=generator) for n in (6, 5)], 1)
numbers = [torch.randn(n, generator=generator, dtype=torch.float64) for n in (6, 5)]
values = numbers[0][cells[:, 0]] + numbers[1][cells[:, 1]]
noisy = values + 0.1 * torch.randn(400, generator=generator, dtype=torch.float64)
steps = []
fitted = find("effects").function(Task(cells.double(), noisy, (6, 5)), ridge=1e-3, callback=steps.append)
for model in (fitted, find("effects").restore(fitted.state()), find("effects").restore(steps[0].state())):
    told = model.predict(cells.double())
    assert float((told.mean - values).abs().max()) < 0.1, told.mean - values
    assert 0.005 < float(told.noise) < 0.02, told.noise
    assert 0.3 < float((told.mean - values).square().mean() / told.variance.mean()) < 3, told.variance
"""


def test_the_example_of_a_completion_method_is_one(tmp_path: Path) -> None:
    (example,) = [block for block in blocks(ROOT / "CONTRIBUTING.md", "python") if '@method("effects"' in block]
    script = tmp_path / "effects.py"
    script.write_text(example + USE_OF_THE_MODEL, encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


USE_OF_THE_SEARCHER = """
import torch
import tenfold as tn

ring = tn.formats.tensor_ring((3, 3, 3, 3), [2, 2, 2, 2])
data = tn.Network.random(ring, seed=0, dtype=torch.float64).dense()
found = tn.search(data, error=1e-6, method="coin_flips", evaluations=40)
assert found.parameters <= ring.parameters, found
assert found.error < 1e-6, found
"""


def test_the_example_of_a_searcher_is_a_searcher(tmp_path: Path) -> None:
    (example,) = [block for block in blocks(ROOT / "CONTRIBUTING.md", "python") if "coin_flips" in block]
    script = tmp_path / "coin_flips.py"
    script.write_text(example + USE_OF_THE_SEARCHER, encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("page", "kind"), [("search.md", tn.Search), ("search.md", Candidate)])
def test_everything_that_a_search_has_is_listed(page: str, kind: type) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    listed = text[text.index("## What comes back") : text.index("## What is asked for")]
    public = [name for name in {*dir(kind), *kind.__dataclass_fields__} if not name.startswith("_")]
    assert [name for name in sorted(public) if not re.search(rf"`(search\.)?{name}\b", listed)] == []


def test_the_searchers_and_their_options_are_those_of_the_page() -> None:
    text = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    rows = [re.split(r"(?<!\\)\|", line) for line in text.splitlines() if line.startswith('| `"')]
    listed = {re.findall(r'"(\w+)"', row[1])[0]: set(re.findall(r"`(\w+)`", row[3])) for row in rows if len(row) == 5}
    assert listed == {name: set(entry.options) for name, entry in searchers().items()}
