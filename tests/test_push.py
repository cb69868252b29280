"""A run is pushed to the Hub and loads from there, against a local server that speaks the Hub's protocol."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hub_server import TOKEN, HubServer
from tiny_runs import FINISHED, digests, files_of

from modeling_camulenet import CAMuLeNetForAudioClassification

ROOT = Path(__file__).parent.parent
PUSHES = """
import json, sys
from tiny_runs import call
outcomes = []
for argv in json.loads(sys.argv[1]):
    try:
        call(*argv)
    except SystemExit as end:
        outcomes.append(end.code)
    else:
        outcomes.append("pushed")
json.dump(outcomes, open("outcomes.json", "w"))
"""
# Loads with transformers alone, at each revision that is named.
LOADS = """
import json, sys
import numpy as np
from transformers import AutoModel, AutoModelForAudioClassification, pipeline
clip = np.sin(np.arange(8000) ** 1.2 / 9).astype(np.float32)
found = []
for revision in sys.argv[1:]:
    kwargs = {"revision": revision, "trust_remote_code": True}
    classify = pipeline(model="me/camulenet", device="cpu", **kwargs)
    model = AutoModelForAudioClassification.from_pretrained("me/camulenet", **kwargs)
    embeddings = AutoModel.from_pretrained("me/camulenet", **kwargs)(**classify.preprocess(clip)).embeddings
    found.append({
        "pipeline": type(classify).__name__,
        "changed": hasattr(type(classify), "changed"),
        "result": classify(clip, return_gender=True),
        "logits": model(**classify.preprocess(clip)).logits.tolist(),
        "embeddings": embeddings.tolist(),
    })
json.dump(found, open("found.json", "w"))
assert "modeling_camulenet" not in sys.modules
"""


@pytest.fixture(scope="module")
def hub():
    with HubServer() as hub:
        yield hub


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("push")


@pytest.fixture(scope="module")
def python(hub, work):
    """Runs Python code against the Hub, in the folder `work`."""

    def python(code, *argv, **environment):
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **hub.environment(work / "hub"), **environment}
        child = subprocess.run(
            [sys.executable, "-c", code, *argv],
            env=variables,
            cwd=work,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert child.returncode == 0, child.stdout + child.stderr
        return child.stdout + child.stderr

    return python


@pytest.fixture(scope="module")
def pushed(ravdess, finished_run, hub, work, python):
    """Outcome of each push of one finished run, what they printed, and the run's folder."""
    out = work / "out"
    shutil.copytree(finished_run, out)
    arguments = [*map(str, (*ravdess, *FINISHED)), "--output_dir", str(out), "--push_to_hub", "true"]
    arguments += ["--hub_model_id", "me/camulenet", "--hub_private_repo", "true", "--hub_token"]
    hub.refuse_uploads = 1
    calls = [[*arguments, token] for token in ("hf_wrong", TOKEN, TOKEN, TOKEN)]
    printed = python(PUSHES, json.dumps(calls), HF_TOKEN="", PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    return json.loads((work / "outcomes.json").read_text()), printed, out


def test_refusals_and_repeats(pushed, finished_run, hub):
    outcomes, _, out = pushed
    wrong, broken, *repeated = outcomes
    assert wrong.startswith("run-ser: me/camulenet was not pushed: ") and "401" in wrong
    assert broken.startswith("run-ser: me/camulenet was not pushed: ") and "no large files today" in broken
    assert "Repeat the command" in wrong and "Repeat the command" in broken
    assert repeated == ["pushed", "pushed"]
    # Each large file once, however many calls it took.
    assert hub.uploads == len(hub.repos["model", "me/camulenet"].large) == len(hub.blobs)
    # Nothing was trained again.
    for name in ("model.safetensors", "config.json", "training.json"):
        assert (out / "final" / name).read_bytes() == (finished_run / "final" / name).read_bytes()


def test_what_is_pushed(pushed, hub):
    _, _, out = pushed
    repo = hub.repos["model", "me/camulenet"]
    assert repo.private
    results = {name: (out / name).read_bytes() for name in ("results.json", "results.md", "predictions.csv")}
    plots = {f"plots/{name}": content for name, content in files_of(out / "plots").items()}
    checkpoint = files_of(out / "final")
    assert checkpoint.pop("SHA256SUMS")  # of a fold they would name its own predictions, in place of which come all
    assert repo.files == {".gitattributes": b"", **checkpoint, **results, **plots}
    assert {"model.safetensors", "config.json", "preprocessor_config.json", "README.md", "results.json"} <= set(
        repo.files
    )
    assert {"pipeline_camulenet.py", "predictions.csv", "results.md", "plots/speakers.png"} <= set(repo.files)
    card = repo.files["README.md"].decode()
    assert 'model="me/camulenet", revision=commit, trust_remote_code=True' in card


def test_no_token_is_printed_or_written(pushed):
    outcomes, printed, out = pushed
    for token in (TOKEN, "hf_wrong"):
        assert token not in printed + "".join(outcomes)
        assert [name for name, content in files_of(out).items() if token.encode() in content] == []


def test_a_pushed_model_loads_and_a_pinned_one_stays(pushed, hub, work, python):
    _, _, out = pushed
    repo = hub.repos["model", "me/camulenet"]
    first = repo.revision
    python(LOADS, "main")
    (found,) = json.loads((work / "found.json").read_text())
    assert found["pipeline"] == "CAMuLeNetPipeline" and not found["changed"]

    model = CAMuLeNetForAudioClassification.from_pretrained(out / "final").eval()
    classify = model.pipeline(model.camulenet.feature_extractor, device="cpu")
    clip = np.sin(np.arange(8000) ** 1.2 / 9).astype(np.float32)
    output = model(**classify.preprocess(clip))
    np.testing.assert_allclose(found["logits"], output.logits.detach(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["embeddings"], output.embeddings.detach(), rtol=0, atol=1e-5)
    for head, rows in classify(clip, return_gender=True).items():
        assert [row["label"] for row in found["result"][head]] == [row["label"] for row in rows]
        scores = [row["score"] for row in found["result"][head]]
        np.testing.assert_allclose(scores, [row["score"] for row in rows], rtol=0, atol=1e-5)

    # A file changes: in a new commit, and behind the back of the one that was loaded.
    name = "pipeline_camulenet.py"
    changed = repo.files[name] + b"\nCAMuLeNetPipeline.changed = True\n"
    repo.commit("another pipeline", {name: changed})
    repo.history[first][name] = changed
    before = digests(out)
    python(LOADS, first, "main")
    pinned, newest = json.loads((work / "found.json").read_text())
    assert not pinned["changed"] and newest["changed"]
    assert pinned["result"] == found["result"]
    assert digests(out) == before
