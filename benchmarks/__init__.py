"""tenfold beside its peers, in one process, with equal threads, on equal input: ``python -m benchmarks``."""
