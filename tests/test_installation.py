"""What an installation needs: pinned versions; to run, neither the network, nor root, nor files it may write to."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_security import OFFLINE
from tiny_runs import files_of, write_ravdess

ROOT = Path(__file__).parent.parent
NOBODY = 65534

# ---------------------------------------------------------------------------------------------------------------------
# Pins


def test_every_direct_dependency_is_pinned_once(monkeypatch):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins == sorted(pins, key=str.lower) and all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    versions = {canonicalize_name(name): version for name, version in (pin.split("==") for pin in pins)}
    assert len(versions) == len(pins)
    asked = {}
    monkeypatch.setattr(setuptools, "setup", asked.update)
    runpy.run_path(str(ROOT / "setup.py"))
    texts = {*asked["install_requires"], *(text for extra in asked["extras_require"].values() for text in extra)}
    requirements = [Requirement(text) for text in texts]
    assert {"torch", "datasets", "peft", "onnx", "opensmile", "pytest"} <= {each.name for each in requirements}
    assert [str(each) for each in requirements if canonicalize_name(each.name) not in versions] == []
    for each in requirements:
        assert each.specifier.contains(versions[canonicalize_name(each.name)]), each


# ---------------------------------------------------------------------------------------------------------------------
# A run


def unprivileged() -> list[str]:
    """What to put before a command so that permissions hold for it, as they do for everybody but root."""
    if os.geteuid():
        return []
    # Where others cannot reach the interpreter, root without its capabilities is bound by permissions as well.
    for command in (
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"],
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all"],
    ):
        if shutil.which("setpriv") and not subprocess.run([*command, sys.executable, "-c", "import numpy"]).returncode:
            return command
    pytest.skip("root cannot become somebody else here: setpriv is missing or not permitted")


@pytest.fixture
def place():
    """A folder that other users reach, unlike tmp_path."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(folder)


JOB = """
import os, sys
from pathlib import Path

import run_ser
from ser_protocol import predict
from tiny_runs import call

installed = Path(os.environ["PYTHONPATH"])
assert Path(run_ser.__file__).parent == installed and "PYTHONDONTWRITEBYTECODE" not in os.environ
for path in (installed / "new.py", Path(run_ser.__file__)):
    try:
        path.open("a")
    except PermissionError:
        continue
    raise AssertionError(f"{path} can be written to")
corpus = ("--corpus", "ravdess", "--data_dir", "data", "--num_folds", 2, "--num_train_epochs", 1)
for _ in range(2):  # the second call writes the results again
    call(*corpus, "--output_dir", "out")
predict.main(["data", "--model", "out/fold_00", "--output", "table.csv"])
"""


def test_a_run_needs_neither_the_network_nor_root_nor_a_package_it_can_write_to(place):
    user = unprivileged()
    source, site, home = (place / name for name in ("source", "site", "home"))
    for name in ("modeling_camulenet", "dataset_scripts", "ser_protocol"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run_ser.py", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--no-compile", "--target", site, source], check=True)
    write_ravdess(home / "data", actors=range(1, 5), statements=(1,))
    shutil.copy(ROOT / "tests" / "tiny_runs.py", home)
    (home / "job.py").write_text(JOB)
    before = files_of(site)
    assert {"run_ser.py", "dataset_scripts/splits/speakers.json", "ser_protocol/templates/model_card.md"} <= {*before}
    for path in [site, *site.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    for path in [home, *home.rglob("*")] if f"--reuid={NOBODY}" in user else ():
        os.chown(path, NOBODY, NOBODY)

    kept = {name: os.environ[name] for name in ("PATH", "LANG", "OMP_NUM_THREADS") if name in os.environ}
    done = subprocess.run(
        [*user, sys.executable, "-c", OFFLINE, "job"],
        env={**kept, "HOME": str(home), "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"},
        cwd=home,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert files_of(site) == before
    predicted = pd.read_csv(home / "out" / "predictions.csv")
    assert sorted(predicted["utterance_id"]) == sorted(f"ravdess/{path.stem}" for path in home.glob("data/*.wav"))
    assert len(predicted) == len(pd.read_csv(home / "table.csv")) == 16
