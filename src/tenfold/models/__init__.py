"""Whole models made of structures: what they say can be read off their cores."""

from __future__ import annotations

from tenfold.models.born_machine import BornMachine, born_machine

__all__ = ["BornMachine", "born_machine"]
