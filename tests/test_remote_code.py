"""A checkpoint works without this package: in a fresh process, by the Auto classes, `pipeline` and its own files."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from encoders import ENCODERS
from safetensors.torch import load_file
from transformers.dynamic_module_utils import get_relative_imports

import modeling_camulenet
from modeling_camulenet import CAMuLeNetConfig, CAMuLeNetFeatureExtractor, CAMuLeNetForAudioClassification

PACKAGE = Path(modeling_camulenet.__file__).parent
FILES = sorted(path for path in PACKAGE.glob("*.py") if path.name != "__init__.py")
RATE = 44100

CHILD = """
import importlib
import json
import shutil
import sys
from pathlib import Path

OURS = ("modeling_camulenet", "dataset_scripts", "ser_protocol", "run_ser")


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in OURS:
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)


sys.meta_path.insert(0, Blocker())
for name in OURS:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    raise AssertionError(f"{name} can be imported")

import numpy as np
import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification, pipeline

assert shutil.which("ffmpeg") is None
work = Path(sys.argv[1])
clip = np.load(work / "clip.npy")
rate = int(sys.argv[2])


def answers(checkpoint):
    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=True)
    assert config.model_type == "camulenet" and config.id2gender == {0: "female", 1: "male"}
    extractor = AutoFeatureExtractor.from_pretrained(checkpoint, trust_remote_code=True)
    base = AutoModel.from_pretrained(checkpoint, trust_remote_code=True)
    model = AutoModelForAudioClassification.from_pretrained(checkpoint, trust_remote_code=True)
    assert not base.training and not model.training
    features = extractor(extractor.prepare_waveform(clip, rate), return_tensors="pt")
    with torch.no_grad():
        output = model(**features)
        embeddings = base(**features).embeddings
    classifier = pipeline("audio-classification", model=checkpoint, trust_remote_code=True, device="cpu")
    assert type(classifier).__name__ == "CAMuLeNetPipeline", type(classifier)
    path = work / "clip.wav"
    results = [
        classifier(str(path), return_gender=True),
        classifier(path.read_bytes(), return_gender=True),
        classifier(extractor.prepare_waveform(clip, rate), return_gender=True),
        classifier({"array": clip, "sampling_rate": rate}, return_gender=True),
        *classifier([path, {"raw": clip, "sampling_rate": rate}], batch_size=2, return_gender=True),
    ]
    scores = [[row["score"] for key in ("emotion", "gender") for row in result[key]] for result in results]
    arrays = {
        "logits": output.logits, "gender_logits": output.gender_logits, "embeddings": embeddings,
        "scores": torch.tensor(scores),
    }
    return model, extractor, {name: array.numpy() for name, array in arrays.items()}


def save_again(model, extractor, name):
    model.save_pretrained(work / name)
    extractor.save_pretrained(work / name)
    return str(work / name)


# From a directory, from a hub id (in the hub's cache), and each saved again and loaded from there.
found = {}
for name, checkpoint in (("directory", str(work / "check-point.1")), ("hub", "me/camulenet")):
    model, extractor, found[name] = answers(checkpoint)
    again = save_again(model, extractor, name + "_again")
    _, _, found[name + "_again"] = answers(again)
np.savez(work / "found.npz", **{f"{name}/{key}": value for name in found for key, value in found[name].items()})
assert not any(name.split(".")[0] in OURS for name in sys.modules)
"""


def save_tiny(folder: Path, **kwargs) -> CAMuLeNetForAudioClassification:
    torch.manual_seed(0)
    encoder = {
        "model_type": "whisper",
        "d_model": 16,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
    }
    config = CAMuLeNetConfig(encoder_config=encoder, width_multiplier=0.125, branch_size=64, num_labels=5)
    model = CAMuLeNetForAudioClassification(config).eval()
    model.save_pretrained(folder, **kwargs)
    CAMuLeNetFeatureExtractor.from_model_config(config).save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("remote_code")


@pytest.fixture(scope="module")
def model(work):
    model = save_tiny(work / "check-point.1")
    # The same checkpoint as the hub's cache keeps a downloaded one.
    cached = work / "hub" / "models--me--camulenet"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    save_tiny(cached / "snapshots" / ("0" * 40))
    return model


@pytest.fixture(scope="module")
def clip(work):
    random = np.random.default_rng(0)
    time = np.arange(RATE) / RATE
    clip = (0.3 * np.sin(2 * np.pi * 220 * time**1.5) + 0.01 * random.standard_normal(RATE)).astype(np.float32)
    np.save(work / "clip.npy", clip)
    soundfile.write(work / "clip.wav", clip, RATE, subtype="FLOAT")
    return clip


@pytest.fixture(scope="module")
def found(work, model, clip):
    """What the child process computes with the checkpoint, by name."""
    script = work / "child.py"
    script.write_text(CHILD)
    elsewhere = work / "elsewhere"
    elsewhere.mkdir()
    environment = {
        **os.environ,
        "PATH": "",
        "HF_HOME": str(work / "home"),
        "HF_HUB_CACHE": str(work / "hub"),
        "HF_MODULES_CACHE": str(work / "modules"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-I", str(script), str(work), str(RATE)]
    child = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=240)
    assert child.returncode == 0, child.stdout + child.stderr
    assert "not supported" not in child.stderr, child.stderr
    with np.load(work / "found.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("name", ["directory", "directory_again", "hub", "hub_again"])
def test_loads_without_the_package(name, found, model, clip):
    extractor = CAMuLeNetFeatureExtractor.from_model_config(model.config)
    features = extractor(clip, sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        output = model(**features)
    for key in ("logits", "gender_logits", "embeddings"):
        # Not to the last bit: kernels differ with the alignment of the weights in memory.
        np.testing.assert_allclose(found[f"{name}/{key}"], output[key].numpy(), rtol=0, atol=1e-5)
    ranked = [output[key][0].softmax(-1).sort(descending=True).values for key in ("logits", "gender_logits")]
    scores = found[f"{name}/scores"]
    np.testing.assert_allclose(scores, np.tile(torch.cat(ranked).numpy(), (len(scores), 1)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["check-point.1", "directory_again", "hub_again"])
def test_checkpoints_are_complete(name, found, model, work):
    weights = load_file(work / name / "model.safetensors")
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[key], tensor) for key, tensor in model.state_dict().items())
    assert {path.name for path in (work / name).glob("*.py")} == {path.name for path in FILES}
    # Saved again, a checkpoint does not point back to where it came from.
    for file in ("config.json", "preprocessor_config.json"):
        assert "me/camulenet" not in (work / name / file).read_text()


def test_sharded_checkpoint(tmp_path):
    model = save_tiny(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    loaded = CAMuLeNetForAudioClassification.from_pretrained(tmp_path).state_dict()
    expected = model.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


OTHER_ENCODER = """
import sys
import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification

checkpoint, clips, found = sys.argv[1:]
extractor = AutoFeatureExtractor.from_pretrained(checkpoint, trust_remote_code=True)
features = extractor([clip for clip in np.load(clips).values()], return_tensors="pt")
model = AutoModelForAudioClassification.from_pretrained(checkpoint, trust_remote_code=True)
base = AutoModel.from_pretrained(checkpoint, trust_remote_code=True)
with torch.no_grad():
    np.savez(found, logits=model(**features).logits, embeddings=base(**features).embeddings)
assert "modeling_camulenet" not in sys.modules
"""


def test_an_encoder_of_raw_audio_loads_without_the_package(tmp_path):
    """One whose group norm is mended, behind a checkpoint's own code."""
    torch.manual_seed(0)
    encoder = ENCODERS["wav2vec2, group norm"]
    config = CAMuLeNetConfig(encoder_config=encoder, width_multiplier=0.125, branch_size=64, num_labels=5)
    model = CAMuLeNetForAudioClassification(config).eval()
    extractor = CAMuLeNetFeatureExtractor.from_model_config(config)
    model.save_pretrained(tmp_path / "checkpoint")
    extractor.save_pretrained(tmp_path / "checkpoint")
    clips = [
        0.1 * np.random.default_rng(seed).standard_normal(n).astype(np.float32) for seed, n in enumerate((9, 9000))
    ]
    np.savez(tmp_path / "clips.npz", *clips)
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    (tmp_path / "child.py").write_text(OTHER_ENCODER)
    names = ("child.py", "checkpoint", "clips.npz", "found.npz")
    command = [sys.executable, "-I", *(str(tmp_path / name) for name in names)]
    child = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert child.returncode == 0, child.stdout + child.stderr
    with torch.no_grad():
        expected = model(**extractor(clips, return_tensors="pt"))
    with np.load(tmp_path / "found.npz") as found:
        for name in ("logits", "embeddings"):
            np.testing.assert_allclose(found[name], expected[name].numpy(), rtol=0, atol=1e-5)


def absolute_imports(tree: ast.AST, guarded: bool = False):
    """Top-level names of absolute imports in a file, each with whether a `try` block guards it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], guarded) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0], guarded
        else:
            yield from absolute_imports(node, guarded or isinstance(node, ast.Try))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_imports_of_the_files_that_ship(path):
    tree = ast.parse(path.read_text())
    for name, guarded in absolute_imports(tree):
        allowed = {"torch", "numpy", "transformers", *sys.stdlib_module_names}
        assert name in (allowed | {"soundfile", "soxr"} if guarded else allowed), f"{path.name} imports {name}"

    relative = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    # transformers copies what `from .file import name` names, all in one folder, and takes text for code.
    assert all(node.level == 1 and node.module and "." not in node.module for node in relative)
    assert {node.module for node in relative} == set(get_relative_imports(path))
    assert {node.module for node in relative} <= {file.stem for file in FILES}
