"""Files that are written whole or not at all."""

import json
import math
import os
import uuid
from pathlib import Path

import numpy as np


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
    write_atomically(path, json.dumps(plain(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


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
