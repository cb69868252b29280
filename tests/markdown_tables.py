"""Markdown as data."""

import re


def tables(markdown):
    """Markdown tables as lists of rows of cells, headers included."""
    found = re.findall(r"(?:^\|.*\|\n)+", markdown + "\n", flags=re.MULTILINE)
    split = [[[cell.strip() for cell in row.strip("|").split(" | ")] for row in t.splitlines()] for t in found]
    return [[row for row in rows if set(row[0]) != {"-"}] for rows in split]
