"""Gaussian processes on the cells of a grid."""
