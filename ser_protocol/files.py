"""Files that are written whole or not at all, and that are known to be as they were written."""

import hashlib
import json
import math
import os
import re
import uuid
from pathlib import Path

import numpy as np

CHECKSUMS = "SHA256SUMS"  # of a folder's files; `sha256sum --check SHA256SUMS` reads it, too


def write_atomically(path, content):
    """Write `content` (`str`, as UTF-8, or `bytes`) so that readers see the old file or the new one, never a part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path, content):
    """Write `content` as JSON, atomically: indent 2, floats rounded to 6 digits, `null` for NaN and infinity."""
    write_atomically(path, json_text(content))


def json_text(content):
    """The text that `write_json` writes."""
    return json.dumps(plain(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def plain(value):
    """The same content in types that JSON has."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def remove_leftovers(folder):
    """Remove what processes that were killed in `write_atomically` left in a folder; nobody may be writing there."""
    for path in Path(folder).glob(".*.tmp"):
        path.unlink(missing_ok=True)


def sha256(path):
    """SHA-256 of a file. One that has several names, like the encoder's in all folds, is read once a process."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        if key in _linked:
            return _linked[key]
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if status.st_nlink > 1:
        _linked[key] = digest
    return digest


_linked = {}  # device, inode, time and size of a file with several names -> SHA-256


def write_checksums(folder, checksums):
    """Write SHA256SUMS, atomically.

    Args:
        folder (`str` or `Path`): the folder whose files these are.
        checksums (`dict[str, str]`): file name -> SHA-256.
    """
    write_atomically(Path(folder) / CHECKSUMS, "".join(f"{digest}  {name}\n" for name, digest in checksums.items()))


def read_checksums(folder):
    """The content of a folder's SHA256SUMS, `{file name: SHA-256}`; `None` where there is none or it is damaged."""
    try:
        lines = (Path(folder) / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    matches = [re.fullmatch(r"([0-9a-f]{64})  (.+)", line) for line in lines]
    return {match[2]: match[1] for match in matches} if lines and all(matches) else None


def damaged_files(folder):
    """Names of a folder's files that are not as its SHA256SUMS says, missing ones and a damaged SHA256SUMS included.

    A folder without SHA256SUMS has none: nothing is known of it.
    """
    folder, checksums = Path(folder), read_checksums(folder)
    if checksums is None:
        return [CHECKSUMS] if (folder / CHECKSUMS).is_file() else []
    return [
        name for name, digest in checksums.items() if not (folder / name).is_file() or sha256(folder / name) != digest
    ]
