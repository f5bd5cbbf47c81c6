"""The functions that people call: choose, call, wrap the result."""
