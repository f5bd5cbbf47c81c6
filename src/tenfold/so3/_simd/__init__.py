"""Vectors of numbers inside Numba: what the processor does at once is said, not hoped for.

LLVM makes vectors of loops only where it can prove that no arrays overlap, which it rarely can. Values of the type
`lanes.Lanes` are vectors from the start. All are as long as the longest registers that there are: on shorter ones they
take two or four, which leaves the processor more to do at once, and was faster than vectors of their own length in
every kernel that was tried with registers of 32 bytes.

- `lanes`: the type and its arithmetic.
- `arrays`: from memory and to memory.
- `sums`: sums of products of lanes, of numbers in arrays and of tuples.
- `squares`: between rows of vectors of three or more numbers and lanes of them.
- `blocks`: steps from memory to memory, on several vectors found by their address.
- `llvm`: the code that all of these write.

All but this module load Numba: only modules of kernels import them. A kernel imports functions by name: Numba needs
them among its globals. It does not see when one of them was edited: what it keeps on disk depends on the file of the
kernel.
"""

# The bytes of a value, and the length of a line of the caches.
BYTES = 64
