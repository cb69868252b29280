import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from ser_protocol.files import write_atomically, write_json


def test_writes_are_atomic(tmp_path, monkeypatch):
    path = tmp_path / "new" / "results.md"
    write_atomically(path, "one é")
    assert path.read_text(encoding="utf-8") == "one é"
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "two")
    assert path.read_text(encoding="utf-8") == "one é"
    assert os.listdir(path.parent) == ["results.md"]


def test_json_is_plain(tmp_path):
    content = {
        "b": np.float32(0.5),
        "a": [np.int64(3), float("nan"), math.inf, 1 / 3],
        "path": Path("x"),
        "list": np.arange(2),
    }
    write_json(tmp_path / "x.json", content)
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == {"b": 0.5, "a": [3, None, None, 0.333333], "path": "x", "list": [0, 1]}
    assert text.startswith('{\n  "b"')
