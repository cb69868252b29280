"""The ONNX file: equal to PyTorch at every length, alone and in batches, and usable without torch."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
from conftest import TINY
from encoders import ENCODERS, write_wav2vec2
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from modeling_camulenet import CAMuLeNetForAudioClassification
from ser_protocol.export import MIN_SAMPLES, OUTPUTS, ExportError, _ExportedGRU, export, main, weights_sha256

EXAMPLE = Path(__file__).parents[1] / "examples" / "onnx_predict.py"
LENGTHS = (1, 1600, 9280, 10240, 32077, 50001)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny model whose logits are far from each other."""
    from conftest import TINY_ENCODER

    from modeling_camulenet import CAMuLeNetConfig

    torch.manual_seed(0)
    config = CAMuLeNetConfig(encoder_config=TINY_ENCODER, **{**TINY, "id2label": dict(enumerate("abcd"))})
    model = CAMuLeNetForAudioClassification(config)
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.mul_(20)
    folder = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-sa-4.0\n---\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def exported(checkpoint):
    written = export(checkpoint, checkpoint / "model.onnx")
    assert written["difference"] < 1e-4 and written["megabytes"] < 2
    return checkpoint / "model.onnx"


def clips_of(lengths):
    generator = np.random.default_rng(0)
    return [(0.1 * generator.standard_normal(length)).astype(np.float32) for length in lengths]


def batch_of(clips):
    mask = np.arange(max(map(len, clips))) < np.array([[len(clip)] for clip in clips])
    values = np.zeros(mask.shape, dtype=np.float32)
    for row, clip in zip(values, clips):
        row[: len(clip)] = clip
    return {"input_values": values, "attention_mask": mask.astype(np.int64)}


def in_torch(checkpoint, clip):
    model = CAMuLeNetForAudioClassification.from_pretrained(checkpoint).eval()
    with torch.inference_mode():
        return model(input_values=torch.from_numpy(clip)[None])


def test_each_length_alone(checkpoint, exported):
    session = onnxruntime.InferenceSession(exported)
    assert [output.name for output in session.get_outputs()] == list(OUTPUTS)
    for clip in clips_of(LENGTHS):
        logits, gender_logits, weights = session.run(None, batch_of([clip]))
        expected = in_torch(checkpoint, clip)
        np.testing.assert_allclose(logits, expected.logits, atol=1e-4)
        np.testing.assert_allclose(gender_logits, expected.gender_logits, atol=1e-4)
        frames = expected.co_attention_weights.shape[2]
        np.testing.assert_allclose(weights[:, :, :frames], expected.co_attention_weights, atol=1e-4)
        assert not weights[:, :, frames:].any()  # the padding of short clips


def test_a_batch_equals_its_clips(exported):
    session = onnxruntime.InferenceSession(exported)
    clips = clips_of(LENGTHS)
    logits, gender_logits, _ = session.run(None, batch_of(clips))
    for row, clip in enumerate(clips):
        alone = session.run(None, batch_of([clip]))
        np.testing.assert_allclose(logits[row], alone[0][0], atol=1e-4)
        np.testing.assert_allclose(gender_logits[row], alone[1][0], atol=1e-4)


def test_what_the_file_says_of_itself(checkpoint, exported):
    about = onnxruntime.InferenceSession(exported).get_modelmeta().custom_metadata_map
    assert json.loads(about["id2label"]) == {"0": "a", "1": "b", "2": "c", "3": "d"}
    assert json.loads(about["id2gender"]) == {"0": "female", "1": "male"}
    assert (about["sampling_rate"], about["max_samples"], about["license"]) == ("16000", "480000", "cc-by-nc-sa-4.0")
    assert int(about["format_version"]) >= 1
    # By hand, of the checkpoint's own file.
    digest = hashlib.sha256()
    with safe_open(checkpoint / "model.safetensors", "np") as file:
        for name in sorted(file.keys()):
            digest.update(name.encode() + file.get_tensor(name).tobytes())
    assert about["weights_sha256"] == digest.hexdigest()
    assert weights_sha256(load_file(checkpoint / "model.safetensors")) == digest.hexdigest()


def test_eight_bits(checkpoint, exported, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["export", str(checkpoint), "--quantize", "int8"])
    main()
    assert "model_int8.onnx" in capsys.readouterr().out
    quantized = onnxruntime.InferenceSession(checkpoint / "model_int8.onnx")
    inputs = batch_of(clips_of([32077]))
    exact = onnxruntime.InferenceSession(exported).run(["logits"], inputs)[0]
    rounded = quantized.run(["logits"], inputs)[0]
    assert 0 < np.abs(rounded - exact).max() < 0.1 * np.ptp(exact)


def test_the_example_runs_without_torch(exported, tmp_path):
    clip = clips_of([MIN_SAMPLES])[0]
    soundfile.write(tmp_path / "one.wav", np.stack([clip, clip], axis=1), 8000, subtype="FLOAT")
    assert len(EXAMPLE.read_text().splitlines()) <= 60
    without = "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; import runpy; "
    call = f"sys.argv = ['onnx_predict.py', {str(exported)!r}, {str(tmp_path / 'one.wav')!r}]; "
    code = without + call + f"runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    emotions, genders = done.stdout.split("one.wav: ")[1].split(" | ")
    assert {part.split()[0] for part in emotions.split(", ")} <= set("abcd") and len(genders.split(", ")) == 2
    soundfile.write(tmp_path / "long.wav", np.zeros(480001), 16000)
    call = call.replace("one.wav", "long.wav")
    code = without + call + f"runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "480001 samples; the model takes 1 to 480000" in done.stderr


def test_an_encoder_of_raw_audio(tmp_path):
    from modeling_camulenet import CAMuLeNetConfig

    torch.manual_seed(0)
    config = CAMuLeNetConfig(encoder_config=ENCODERS["wav2vec2, layer norm"], **TINY)
    CAMuLeNetForAudioClassification(config).save_pretrained(tmp_path)
    assert export(tmp_path, tmp_path / "model.onnx")["difference"] < 1e-4


def written(config, folder: Path) -> Path:
    torch.manual_seed(0)
    CAMuLeNetForAudioClassification(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("fusion", ["branches", "none"])
def test_a_model_of_one_half(tiny_config, tmp_path, fusion):
    """Without an encoder its features are no part of the graph, nor is its limit."""
    folder = written(tiny_config(fusion=fusion, branches=["mfcc"] if fusion == "branches" else []), tmp_path)
    assert export(folder, tmp_path / "model.onnx")["difference"] < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    limit = 480000 if fusion == "none" else 2**22
    assert session.get_modelmeta().custom_metadata_map["max_samples"] == str(limit)
    for clip in clips_of([1, 9280, *([500000] if fusion == "branches" else [])]):
        logits = session.run(["logits"], batch_of([clip]))[0]
        np.testing.assert_allclose(logits, in_torch(folder, clip).logits, atol=1e-4)


def test_a_model_that_reads_the_beginning_of_a_clip(tiny_config, tmp_path):
    """Of longer clips nothing more is read, and the graph takes none."""
    extractor = {**TINY["feature_extractor"], "max_duration_s": 2.5}
    folder = written(tiny_config(feature_extractor=extractor), tmp_path)
    assert export(folder, tmp_path / "model.onnx")["difference"] < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert session.get_modelmeta().custom_metadata_map["max_samples"] == "40000"
    for clip in clips_of([1, 9280, 39999, 40000]):
        logits = session.run(["logits"], batch_of([clip]))[0]
        np.testing.assert_allclose(logits, in_torch(folder, clip).logits, atol=1e-4)
    folder = written(tiny_config(feature_extractor={**extractor, "max_duration_s": 1.5}), tmp_path / "short")
    with pytest.raises(ExportError, match=r"no more than 24000 samples of a clip \(`max_duration_s`\)"):
        export(folder, tmp_path / "short.onnx")


def test_what_is_no_checkpoint_is_refused_without_a_traceback(checkpoint, tmp_path, monkeypatch):
    write_wav2vec2(tmp_path / "other")
    for name in ("newer", "cut"):
        shutil.copytree(checkpoint, tmp_path / name, ignore=shutil.ignore_patterns("*.onnx"))
    config = json.loads((tmp_path / "newer" / "config.json").read_text())
    (tmp_path / "newer" / "config.json").write_text(json.dumps(config | {"format_version": 99}))
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    for name, message in (
        ("other", "other is a wav2vec2 model; expected a CAMuLeNet checkpoint"),
        ("newer", "This checkpoint has format 99"),
        ("cut", "Error while deserializing header"),
    ):
        monkeypatch.setattr(sys, "argv", ["export", str(tmp_path / name)])
        with pytest.raises(SystemExit, match=f"export: .*{message}"):
            main()
        assert not (tmp_path / name / "model.onnx").exists()


def test_what_is_refused(checkpoint, tmp_path, monkeypatch, capsys):
    with pytest.raises(ExportError, match="one layer and direction"):
        _ExportedGRU(nn.GRU(2, 2, bidirectional=True, batch_first=True))
    monkeypatch.setattr("ser_protocol.export.TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="differ from PyTorch's by .*, more than -1; nothing is written"):
        export(checkpoint, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
    monkeypatch.setattr(sys, "argv", ["export", "me/model-of-the-hub"])
    with pytest.raises(SystemExit):
        main()
    assert "--output says where the file of a model of the Hub goes" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["export", str(tmp_path / "nothing"), "--output", str(tmp_path / "x.onnx")])
    with pytest.raises(SystemExit, match="export: .*nothing"):
        main()
