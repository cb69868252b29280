"""Scores, values and tables as text."""

SCORE_NAMES = {"wa": "WA", "ua": "UA", "wf1": "WF1", "macro_f1": "macro F1", "gender_wa": "gender WA"}


def markdown_table(rows):
    """Markdown table; the first row is the header."""
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|" + " --- |" * len(cells[0]), *lines[1:]])


def aligned(rows):
    """Lines of text with columns that line up."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]


def score_text(value):
    """A score with three digits, a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"


def scaled_text(value, unit, digits):
    """`value` in `unit`s."""
    return "–" if value is None else f"{value / unit:.{digits}f}"


def value_text(value):
    """Any value, lists and dictionaries with commas."""
    if isinstance(value, (list, tuple)):
        return joined(value)
    if isinstance(value, dict):
        return joined(f"{name} {item}" for name, item in value.items())
    return "–" if value is None else str(value)


def joined(items):
    """Items with commas between them."""
    return ", ".join(map(str, items))
