"""The benchmark of training in low rank runs everybody and shows what it measured."""

from __future__ import annotations

from benchmarks.low_rank_training import CONVOLUTIONAL, LINEAR, at_rank, steps, tables


def test_everybody_runs_and_is_shown() -> None:
    found = steps("convolutional", 3, 1, width=6, batch=2)
    assert set(found["seconds"]) == {"dense", "dense, truncated by SVD, fine-tuned", *CONVOLUTIONAL}
    assert all(seconds > 0 for seconds in found["seconds"].values())
    accuracy = at_rank("two hidden layers of 128", 4, 1, 0)
    cut = {"dense, truncated by SVD", "dense, truncated by SVD, fine-tuned"}
    assert set(accuracy["accuracy"]) == {"dense", *cut, *LINEAR}
    # Everybody has the same rank, so as many numbers.
    assert {accuracy["numbers"][name] for name in (*cut, *LINEAR)} == {3338}
    shown = tables({"accuracy": [accuracy], "steps": [found]})
    assert shown.count("| DLRT |") == 2
    assert "rank 4" in shown
