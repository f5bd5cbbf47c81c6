"""Linear algebra of structured matrices: covariances, Kronecker and Toeplitz matrices, state-space smoothing."""
