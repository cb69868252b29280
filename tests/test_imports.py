"""Imports go down only: programs -> ser_protocol -> (modeling_camulenet | dataset_scripts)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What each part of the house may import of the house, beside itself.
GROUND = {"modeling_camulenet", "dataset_scripts"}
FLOORS = {
    "modeling_camulenet": set(),
    "dataset_scripts": set(),
    "ser_protocol": GROUND,
    "run_ser": {"ser_protocol", *GROUND},
    "app": {"ser_protocol", *GROUND},
    "benchmarks": {"ser_protocol", *GROUND},
}
PARTS = {*FLOORS, "tests", "setup"}


def house_files() -> list[Path]:
    files = [*ROOT.glob("*.py")]
    for name in FLOORS:
        files += (ROOT / name).rglob("*.py")
    return sorted(path for path in files if path.relative_to(ROOT).parts[0].removesuffix(".py") in FLOORS)


def imported_parts(source: str) -> set[str]:
    """Parts of the house that a file imports absolutely, inside functions and guards, too."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names & PARTS


def test_the_reader_of_imports():
    source = "import os, ser_protocol.runner\ndef f():\n    from modeling_camulenet.x import y\n    from . import z"
    assert imported_parts(source) == {"ser_protocol", "modeling_camulenet"}


def test_every_floor_is_there():
    assert {"modeling_camulenet", "dataset_scripts", "ser_protocol", "run_ser"} <= {
        path.relative_to(ROOT).parts[0].removesuffix(".py") for path in house_files()
    }


@pytest.mark.parametrize("path", house_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_down_only(path):
    *folders, name = path.relative_to(ROOT).parts
    part = folders[0] if folders else name.removesuffix(".py")
    upwards = imported_parts(path.read_text()) - FLOORS[part] - {part}
    assert not upwards, f"{path.relative_to(ROOT)} imports {sorted(upwards)}"
    # A relative import stays within its own package.
    levels = [node.level for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    assert max(levels, default=0) <= len(folders)
