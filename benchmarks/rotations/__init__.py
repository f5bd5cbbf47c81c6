"""Products of irreps beside those of other libraries, each in a process and an environment of its own."""
