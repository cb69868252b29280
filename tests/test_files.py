import hashlib
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from ser_protocol.files import (
    damaged_files,
    read_checksums,
    remove_leftovers,
    sha256,
    write_atomically,
    write_checksums,
    write_json,
)


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


def test_checksums_know_what_is_not_as_it_was(tmp_path):
    for name in ("a.csv", "b c.json", "left alone"):
        (tmp_path / name).write_text(name)
    assert damaged_files(tmp_path) == [] and read_checksums(tmp_path) is None
    names = ("a.csv", "b c.json")
    write_checksums(tmp_path, {name: sha256(tmp_path / name) for name in names})
    expected = "".join(f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in names)
    assert (tmp_path / "SHA256SUMS").read_text() == expected  # what sha256sum writes
    assert damaged_files(tmp_path) == []
    (tmp_path / "left alone").write_text("something else")
    assert damaged_files(tmp_path) == []
    (tmp_path / "a.csv").write_text("b.csv")
    assert damaged_files(tmp_path) == ["a.csv"]
    (tmp_path / "b c.json").unlink()
    assert damaged_files(tmp_path) == ["a.csv", "b c.json"]


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"0123  a.csv\n", b"0" * 64 + b" a.csv\n", b"0" * 65 + b"  a\n"]
)
def test_damaged_checksums_are_damage(tmp_path, content):
    (tmp_path / "SHA256SUMS").write_bytes(content)
    assert damaged_files(tmp_path) == ["SHA256SUMS"] and read_checksums(tmp_path) is None


def test_a_file_of_two_names_is_noticed_by_both(tmp_path):
    (tmp_path / "one").write_text("x")
    os.link(tmp_path / "one", tmp_path / "two")
    write_checksums(tmp_path, {name: sha256(tmp_path / name) for name in ("one", "two")})
    assert damaged_files(tmp_path) == []
    (tmp_path / "one").write_text("longer")
    assert damaged_files(tmp_path) == ["one", "two"]


def test_leftovers_of_killed_processes(tmp_path):
    for name in (".results.json.0123.tmp", "results.json", ".hidden", "some.tmp"):
        (tmp_path / name).write_text(name)
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "results.json", "some.tmp"]
    remove_leftovers(tmp_path / "nowhere")
