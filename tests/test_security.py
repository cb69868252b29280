"""What the product runs and leaves: no pickles, and checkpoints whose code can be checked against their card."""

import ast
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ser_protocol.files import CHECKSUMS

ROOT = Path(__file__).parent.parent
PRODUCT = [
    *ROOT.glob("*.py"),
    *(
        path
        for name in ("modeling_camulenet", "ser_protocol", "dataset_scripts")
        for path in (ROOT / name).rglob("*.py")
    ),
]
# Each of these runs what a file says, or writes such a file; or unpacks an archive, whose paths may lead anywhere.
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "zipfile", "tarfile"}
CALLS = {"torch.load", "torch.save", "yaml.load", "eval", "exec", "os.system", "shutil.unpack_archive"}
ARGUMENTS = {"allow_pickle", "shell"}


def dangers(source: str) -> list[str]:
    """Imports of `MODULES`, calls of `CALLS` and uses of `ARGUMENTS` in Python code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module.split(".")[0] in MODULES:
            found.append(node.module)
        elif isinstance(node, ast.Call):
            found += [name for name in [ast.unparse(node.func)] if name in CALLS]
            found += [keyword.arg for keyword in node.keywords if keyword.arg in ARGUMENTS]
    return found


def test_the_reader_of_dangers():
    source = "import pickle, os\nfrom joblib import load\nnp.load(x, allow_pickle=True)\ntorch.load(x)\nmodel.eval()"
    assert sorted(dangers(source)) == ["allow_pickle", "joblib", "pickle", "torch.load"]


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_pickle_in_the_code(path):
    assert dangers(path.read_text(encoding="utf-8")) == []


def test_a_run_leaves_no_pickle(finished_run, ravdess):
    """Whatever it is named: a pickle begins with \\x80 and its protocol, torch's files are zip archives."""
    cache = ravdess[ravdess.index("--cache_dir") + 1]
    paths = [path for folder in (finished_run, cache) for path in Path(folder).rglob("*") if path.is_file()]
    assert {path.suffix for path in paths if finished_run in path.parents and path.name != CHECKSUMS} <= {
        ".safetensors", ".json", ".py", ".md", ".csv", ".png",
    }  # fmt: skip
    for path in paths:
        with open(path, "rb") as file:
            head = file.read(2)
        assert not re.match(rb"\x80[\x00-\x05]|PK", head) or path.suffix == ".safetensors", path


def test_a_card_lists_the_code_that_a_checkpoint_ships(finished_run):
    for folder in [finished_run / "final", *sorted(finished_run.glob("fold_*"))]:
        card = (folder / "README.md").read_text()
        listed = dict(re.findall(r"^\| (\w+\.py) \| ([0-9a-f]{64}) \|$", card, re.M))
        files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.py")}
        assert listed == files and len(files) == 5
        assert "revision=commit, trust_remote_code=True" in card


OFFLINE = """
import importlib, sys

attempts = []

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.gethostbyname"):
        attempts.append(f"{event} {arguments}")
        raise RuntimeError(attempts[-1])

sys.addaudithook(refuse)
for name in sys.argv[1:]:
    importlib.import_module(name)
if attempts:  # of which somebody caught the error
    raise RuntimeError(attempts[0])
"""


def modules() -> list[str]:
    names = [path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in PRODUCT]
    return sorted(name.removesuffix(".__init__") for name in names if name not in ("setup", "app"))


def imported(*names: str) -> subprocess.CompletedProcess:
    """A process that imports these modules, and in which every connection is an error."""
    return subprocess.run([sys.executable, "-c", OFFLINE, *names], cwd=ROOT, capture_output=True, text=True)


def test_no_module_asks_the_network_when_it_is_imported(tmp_path):
    assert len(modules()) > 30
    done = imported(*modules())
    assert done.returncode == 0, done.stderr[-2000:]
    # The hook is in force.
    asking = tmp_path / "asking.py"
    for guard in ("", "import contextlib\nwith contextlib.suppress(Exception): "):
        asking.write_text(f"import socket\n{guard}socket.create_connection(('127.0.0.1', 9))")
        done = subprocess.run([sys.executable, "-c", OFFLINE, "asking"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode and "RuntimeError: socket." in done.stderr
