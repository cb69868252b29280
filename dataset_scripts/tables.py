"""Tables as text, as spreadsheets and scripts write them."""

import codecs
import csv
import io

from .schema import CorpusError

SEPARATORS = ",;\t|"


def decoded(content: bytes) -> str:
    """The text of a file in UTF-8, with or without a byte order mark, or in UTF-16 with one.

    Raises:
        CorpusError: it is something else; nothing in a file tells the encodings of single languages apart.
    """
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(f"it is not UTF-8 ({error}); save it as UTF-8") from error


def read_table(content: bytes, separators: str = SEPARATORS) -> list[tuple[int, list[str]]]:
    """The lines of a table that hold anything, with their numbers; the first are the columns' names.

    Args:
        content: text as of `decoded`.
        separators: what may lie between values; it is the one that the first line has most of.

    Raises:
        CorpusError: it is not such text, or empty.
    """
    text = decoded(content)
    first_line = text.lstrip().partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(separators, key=first_line.count))
    try:
        lines = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise CorpusError(f"line {reader.line_num}: {error}; save it as CSV in UTF-8") from error
    lines = [(number, cells) for number, cells in lines if any(cell.strip() for cell in cells)]
    if not lines:
        raise CorpusError("it is empty")
    return lines
