"""Real fits, small, for the tests of the report."""

from __future__ import annotations
