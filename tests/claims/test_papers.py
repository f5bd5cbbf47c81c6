"""The list of papers is complete and leads to code that is there."""

from __future__ import annotations

import importlib

from tenfold import formats
from tenfold.claims import registry
from tenfold.claims.papers import papers
from tenfold.decomposition import methods


def test_every_method_and_format_has_its_paper() -> None:
    listed = {paper.method for paper in papers()}
    without = (set(methods()) | set(formats.examples())) - listed
    assert not without, f"give {', '.join(sorted(without))} an entry in src/tenfold/papers.toml"


def test_modules_import_and_have_the_method() -> None:
    for paper in papers():
        module = importlib.import_module(paper.module)
        if paper.method in methods():
            assert methods()[paper.method].function.__module__ == paper.module
        elif paper.method in formats.examples():
            assert hasattr(module, paper.method)


def test_claims_are_known_and_every_claim_is_used() -> None:
    used = {paper.claim for paper in papers() if paper.claim}
    assert used == set(registry())
    assert {paper.status for paper in papers()} == {"measured", "implemented"}
    assert all((paper.status == "measured") == bool(paper.claim) for paper in papers())


def test_a_paper_has_one_year() -> None:
    years: dict[str, set[int]] = {}
    for paper in papers():
        assert paper.authors
        years.setdefault(paper.title, set()).add(paper.year)
    assert all(len(found) == 1 for found in years.values())
    titles = {known.paper: known.year for known in registry().values()}
    assert all(years[title] == {year} for title, year in titles.items() if title in years)
