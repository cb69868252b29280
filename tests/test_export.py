"""The ONNX file: equal to PyTorch at every length, alone and in batches, and usable without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
from encoders import ENCODERS
from torch import nn

from modeling_camulenet import CAMuLeNetForAudioClassification
from ser_protocol.export import MIN_SAMPLES, OUTPUTS, ExportError, _ExportedGRU, export, main

EXAMPLE = Path(__file__).parents[1] / "examples" / "onnx_predict.py"
LENGTHS = (1, 1600, 9280, 10240, 32077, 50001)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny model whose logits are far from each other."""
    from conftest import TINY, TINY_ENCODER

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


def test_what_the_file_says_of_itself(exported):
    about = onnxruntime.InferenceSession(exported).get_modelmeta().custom_metadata_map
    assert json.loads(about["id2label"]) == {"0": "a", "1": "b", "2": "c", "3": "d"}
    assert json.loads(about["id2gender"]) == {"0": "female", "1": "male"}
    assert (about["sampling_rate"], about["max_samples"], about["license"]) == ("16000", "480000", "cc-by-nc-sa-4.0")
    assert len(about["weights_sha256"]) == 64 and int(about["format_version"]) >= 1


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
    from conftest import TINY

    from modeling_camulenet import CAMuLeNetConfig

    torch.manual_seed(0)
    config = CAMuLeNetConfig(encoder_config=ENCODERS["wav2vec2, layer norm"], **TINY)
    CAMuLeNetForAudioClassification(config).save_pretrained(tmp_path)
    assert export(tmp_path, tmp_path / "model.onnx")["difference"] < 1e-4


def test_what_is_refused(checkpoint, tmp_path, monkeypatch, capsys):
    with pytest.raises(ExportError, match="one layer and direction"):
        _ExportedGRU(nn.GRU(2, 2, bidirectional=True, batch_first=True))
    monkeypatch.setattr("ser_protocol.export.TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="differ from PyTorch's by .*; nothing is written"):
        export(checkpoint, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
    monkeypatch.setattr(sys, "argv", ["export", "me/model-of-the-hub"])
    with pytest.raises(SystemExit):
        main()
    assert "--output says where the file of a model of the Hub goes" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["export", str(tmp_path / "nothing"), "--output", str(tmp_path / "x.onnx")])
    with pytest.raises(SystemExit, match="export: .*nothing"):
        main()
