"""How often each searcher finds a planted structure, and after how many evaluations.

    python -m benchmarks.recovery --orders 4 5 6 --seeds 20 --json recovery.json

Tensors are made by random networks of a hidden structure: a graph, a train or a ring with its modes in random order, a
tree, a Tucker network. A search is over when it has a network with an error below 10^-6 and no more parameters than the
planted one, or when its evaluations or its seconds are used up: those of the processor, so that others on the machine
change nothing. A run that is interrupted goes on where it was if it is given the same file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from scipy.stats import binomtest

from benchmarks import machine
from tenfold.errors import TenfoldError
from tenfold.network import Network
from tenfold.structure import Structure
from tenfold.structure_search import (
    Chain,
    Dense,
    FullyConnected,
    Point,
    Ring,
    Session,
    SizeWithin,
    Space,
    Spent,
    Tree,
    Tucker,
    searchers,
)

ERROR = 1e-6
# Modes and bonds are planted, and bonds looked for, between these.
SIZES, RANKS = (3, 4), (2, 4)
# What each planted family is looked for in: structures like it, and for two of them all graphs.
FAMILIES: dict[str, tuple[type[Space], ...]] = {
    "graph": (FullyConnected,),
    "train": (Chain, FullyConnected),
    "ring": (Ring, FullyConnected),
    "tree": (Tree,),
    "tucker": (Tucker,),
}
_TEMPLATES: dict[str, type[Space]] = {"train": Chain, "ring": Ring, "tree": Tree, "tucker": Tucker}


@dataclass(frozen=True)
class Question:
    """One search to make.

    Attributes:
        planted: the family.
        space: the name of the space that is searched.
        seed: of the tensor, of its fits and of the searcher.
        evaluations: how many it may take, as papers count them.
        seconds: of the processor; a fit that is under way goes on to its end.
    """

    planted: str
    space: str
    order: int
    searcher: str
    seed: int
    evaluations: int
    seconds: float


@dataclass(frozen=True)
class Answer:
    """How it went: after how many evaluations and fits it was over, and why it did not run, if it did not.

    Evaluations are those that had been asked for by then: searchers ask for several at once.
    """

    recovered: bool
    counted: int
    fits: int
    seconds: float
    parameters: int
    planted_parameters: int
    refused: str = ""


def planted(family: str, order: int, seed: int) -> Structure:
    """A structure of a family, drawn again until it has at most half as many parameters as its tensor has entries."""
    generator = np.random.default_rng([seed, order, list(FAMILIES).index(family)])
    while True:
        shape = tuple(generator.integers(SIZES[0], SIZES[1] + 1, order).tolist())
        if family == "graph":
            space: Space = FullyConnected(shape, RANKS[1])
            there = _connected(order, generator)
            low, high = RANKS
            ranks = [int(generator.integers(low, high + 1)) if edge in there else 1 for edge in space.edges]
        else:
            space = _TEMPLATES[family](shape, RANKS[1])
            # A factor of a Tucker network that is square says nothing.
            tops = [min(RANKS[1], n - 1) for n in shape] if family == "tucker" else [RANKS[1]] * len(space.edges)
            ranks = [int(generator.integers(RANKS[0], top + 1)) for top in tops]
        modes = generator.permutation(order).tolist() if space.orders else range(order)
        structure = space.structure(Point(tuple(ranks), tuple(modes)))
        if 2 * structure.parameters <= structure.size:
            return structure


def _connected(order: int, generator: np.random.Generator) -> set[tuple[int, int]]:
    """The edges of a random tree on the modes, and a few more."""
    modes = generator.permutation(order).tolist()
    edges = {tuple(sorted((modes[k], modes[int(generator.integers(k))]))) for k in range(1, order)}
    left = [edge for edge in itertools.combinations(range(order), 2) if edge not in edges]
    more = generator.permutation(len(left))[: order // 3].tolist()
    return {(a, b) for a, b in edges} | {left[k] for k in more}


def asked(question: Question) -> Answer:
    """Plant and search."""
    structure = planted(question.planted, question.order, question.seed)
    data = Network.random(structure, seed=question.seed, dtype=torch.float64).dense()
    space = _space(question)(tuple(data.shape), RANKS[1])

    def found(session: Session) -> bool:
        best = session.best
        return best is not None and best.error <= ERROR and best.parameters <= structure.parameters

    def watch(session: Session) -> None:
        if found(session) or time.process_time() - started >= question.seconds:
            raise Spent

    refused = ""
    started = time.process_time()
    how = {"seed": question.seed, "evaluations": question.evaluations, "watch": watch}
    with Session(Dense(data), SizeWithin(ERROR), **how) as session:
        with suppress(Spent):
            try:
                searchers()[question.searcher].function(session, space, seed=question.seed)
            except TenfoldError as cause:
                refused = str(cause)
        best = session.best
        return Answer(
            found(session),
            session.counted,
            session.fits,
            time.process_time() - started,
            best.parameters if best is not None and best.error <= ERROR else -1,
            structure.parameters,
            refused,
        )


def _space(question: Question) -> type[Space]:
    return next(space for space in FAMILIES[question.planted] if space.__name__ == question.space)


def questions(
    families: Iterable[str],
    orders: Iterable[int],
    spaces: Iterable[str],
    names: Iterable[str],
    seeds: int,
    evaluations: int,
    seconds: float,
) -> Iterator[Question]:
    """All of them, those that differ in the seed only one after the other; no searcher is asked for what it cannot."""
    known, looked = searchers(), set(spaces)
    for family, order in itertools.product(families, orders):
        for space, name, seed in itertools.product(FAMILIES[family], names, range(seeds)):
            if space.__name__ in looked and issubclass(space, known[name].spaces):
                yield Question(family, space.__name__, order, name, seed, evaluations, seconds)


def interval(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % confidence interval of a rate."""
    found = binomtest(successes, trials).proportion_ci(0.95, "wilson")
    return float(found.low), float(found.high)


def markdown(runs: Iterable[tuple[Question, Answer]]) -> str:
    """One line for each searcher, family, space and order; medians of evaluations and fits are those of successes."""
    lines = [
        "| planted | looked for in | modes | searcher | found | 95 % interval | evaluations | fits | seconds |",
        "|---|---|--:|---|--:|--:|--:|--:|--:|",
    ]

    def row(run: tuple[Question, Answer]) -> tuple[str, str, int, int, str]:
        question = run[0]
        return question.planted, question.space, question.order, question.evaluations, question.searcher

    for key, group in itertools.groupby(sorted(runs, key=row), key=row):
        answers = [answer for _, answer in group]
        ran = [answer for answer in answers if not answer.refused]
        family, space, order, _, name = key
        start = f"| {family} | {space} | {order} | {name} |"
        if not ran:
            lines.append(f"{start} refuses: {answers[0].refused} | | | | |")
            continue
        good = [answer for answer in ran if answer.recovered]
        low, high = interval(len(good), len(ran))
        counts = f"{median(a.counted for a in good):g} | {median(a.fits for a in good):g}" if good else "|"
        seconds = median(answer.seconds for answer in ran)
        lines.append(f"{start} {len(good)} of {len(ran)} | {low:.2f} to {high:.2f} | {counts} | {seconds:.2f} |")
    return "\n".join(lines) + "\n"


def read(file: Path | None) -> dict[Question, Answer]:
    """What such a file holds, if it is there."""
    if file is None or not file.exists():
        return {}
    runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
    return {Question(**run["question"]): Answer(**run["answer"]) for run in runs}


def write(file: Path, runs: dict[Question, Answer]) -> None:
    """All runs and what they were made with."""
    record = {
        "machine": machine.description(1),
        "error": ERROR,
        "sizes": SIZES,
        "ranks": RANKS,
        "runs": [{"question": asdict(question), "answer": asdict(answer)} for question, answer in runs.items()],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    part.replace(file)


def main(arguments: list[str] | None = None, ask: Callable[[Question], Answer] = asked) -> int:
    """Run; returns the exit status."""
    names = list(searchers())
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery", description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny: does everything run?")
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    spaces = sorted({space.__name__ for some in FAMILIES.values() for space in some})
    parser.add_argument("--spaces", nargs="+", choices=spaces, default=spaces, help="where they are looked for")
    parser.add_argument("--searchers", nargs="+", choices=names, default=names)
    parser.add_argument("--orders", nargs="+", type=int, choices=range(4, 9), default=[4, 5, 6, 7, 8])
    parser.add_argument("--seeds", type=int, default=20, help="tensors of each kind (default 20)")
    parser.add_argument("--evaluations", type=int, default=500, help="for each search (default 500)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the processor, for each search (default 60)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all runs there, and go on with what it has")
    parser.add_argument("--table", metavar="FILE", type=Path, help="search nothing, print the table of such a file")
    chosen = parser.parse_args(arguments)
    if chosen.table is not None:
        print(markdown(read(chosen.table).items()), end="")
        return 0
    for name in ("seeds", "evaluations", "seconds"):
        if not getattr(chosen, name) > 0:
            parser.error(f"--{name} {getattr(chosen, name)} is not positive")
    if chosen.smoke:
        chosen.families, chosen.orders, chosen.seeds, chosen.evaluations = ["tucker"], [4], 1, 4
    kept = read(chosen.json)
    wanted = list(
        questions(
            chosen.families,
            chosen.orders,
            chosen.spaces,
            chosen.searchers,
            chosen.seeds,
            chosen.evaluations,
            chosen.seconds,
        )
    )
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for number, question in enumerate(wanted, start=1):
            if question not in kept:
                kept[question] = ask(question)
                if chosen.json is not None:
                    write(chosen.json, kept)
            if sys.stderr.isatty():
                print(f"\r{number} of {len(wanted)}", end="", file=sys.stderr, flush=True)
    finally:
        torch.set_num_threads(before)
    print(markdown((question, kept[question]) for question in wanted), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
