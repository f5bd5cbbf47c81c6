"""The network in plain text, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from tenfold import formats
from tenfold.report.layout import path_of, ring_of
from tenfold.structure import Structure


def text(structure: Structure, *, width: int = 100) -> str:
    """The network as lines of text: trains and rings drawn, everything else as a table of its cores.

    Args:
        structure: what to draw.
        width: columns to keep to; longer trains go on below. A single wide core may exceed it.
    """
    family = formats.name(structure) or "network"
    shape = " x ".join(map(str, structure.shape)) or "scalar"
    head = f"{family}: {shape}, {structure.parameters:,} parameters"
    ring = ring_of(structure) if family == "tensor_ring" else None
    path = path_of(structure)
    if ring is not None:
        return "\n".join([head, *_line(structure, ring, width, closed=True)])
    if path is not None and len(path) > 1:
        return "\n".join([head, *_line(structure, path, width, closed=False)])
    return "\n".join([head, *_table(structure)])


def _line(structure: Structure, order: Sequence[int], width: int, *, closed: bool) -> list[str]:
    outside = set(structure.output_indices)
    legs = []
    for term in order:
        own = [i for i in structure.terms[term].indices if i in outside]
        legs.append(" ".join(f"{i}={structure.sizes[i]}" for i in own))
    bonds = [_bond(structure, a, b) for a, b in zip(order, [*order[1:], order[0]], strict=True)]
    # Each core stands at the left of a cell that holds its leg's label below and the bond to the next on its right.
    cells: list[tuple[str, str, str]] = []
    for place, leg in enumerate(legs):
        last = place == len(legs) - 1
        bond = "" if last and not closed else f"──{bonds[place]}──"
        room = max(len(bond) + 1, len(leg) + 2)
        core = "●" + (bond.ljust(room - 1, "─") if bond else "")
        cells.append((core, ("│" if leg else "").ljust(len(core)), leg.ljust(len(core))))
    rows: list[list[tuple[str, str, str]]] = [[]]
    for cell in cells:
        if rows[-1] and sum(len(core) for core, _, _ in rows[-1]) + len(cell[2]) + 4 > width:
            rows.append([])
        rows[-1].append(cell)
    lines: list[str] = []
    for n, row in enumerate(rows):
        start = "  " if n == 0 and not closed else ("╭─" if n == 0 else "──")
        end = "╮" if closed and n == len(rows) - 1 else ""
        for part in range(3):
            body = "".join(cell[part] for cell in row)
            lines.append(((start if part == 0 else ("│ " if closed and n == 0 else "  ")) + body).rstrip())
        if end:
            reach = max(len(lines[-3]), len(lines[-1]) + 1)
            lines[-3] = lines[-3].ljust(reach, "─") + end
            lines[-2] = lines[-2].ljust(reach) + "│"
            lines[-1] = lines[-1].ljust(reach) + "│"
            if len(rows) == 1:
                lines.append("╰" + "─" * (reach - 1) + "╯")
            else:
                lines.append(" " * reach + "╰── back to the first core")
    if any(len(group) > 1 for group in structure.outputs):
        lines.append(f"  pattern: {structure.pattern}")
    return [line for line in lines if line]


def _bond(structure: Structure, a: int, b: int) -> str:
    joining = [i for i in structure.terms[a].indices if i in structure.terms[b].indices]
    return "x".join(str(structure.sizes[i]) for i in joining)


def _table(structure: Structure) -> list[str]:
    rows = [("core", "indices", "shape", "parameters")]
    for core in structure.cores:
        used = f" (used {len(core.terms)} times)" if len(core.terms) > 1 else ""
        size = 1
        for n in core.shape:
            size *= n
        rows.append(
            (core.name + used, " ".join(core.indices) or "-", " x ".join(map(str, core.shape)) or "1", f"{size:,}")
        )
    wide = [max(len(row[k]) for row in rows) for k in range(4)]
    lines = ["  " + "  ".join(f"{row[k]:<{wide[k]}}" for k in range(3)) + f"  {row[3]:>{wide[3]}}" for row in rows]
    lines.insert(1, "  " + "─" * (sum(wide) + 6))
    lines.append(f"  pattern: {structure.pattern}")
    for label, indices in (("outputs", structure.output_indices), ("summed", structure.inner_indices)):
        if indices:
            lines.append(f"  {label}: " + ", ".join(f"{i}={structure.sizes[i]}" for i in indices))
    return lines
