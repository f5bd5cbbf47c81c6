"""Other libraries' functions by their own names and arguments, computed here: change one import line of a script."""
