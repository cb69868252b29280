"""The predict command: what it prints of a clip, and its errors."""

import re
import sys

import pytest
import soundfile
from transformers import AutoModelForAudioClassification

from modeling_camulenet.pipeline_camulenet import CAMuLeNetPipeline
from ser_protocol import predict


@pytest.fixture
def clips(ravdess):
    return [str(ravdess[3] / f"03-01-{emotion}-01-01-01-02.wav") for emotion in ("05", "01")]


def run(monkeypatch, capsys, *argv) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["predict", *map(str, argv)])
    predict.main()
    return capsys.readouterr().out.splitlines()


def test_a_line_a_file(clips, finished_run, monkeypatch, capsys):
    lines = run(monkeypatch, capsys, *clips, "--model", finished_run / "final", "--top_k", 2)
    model = AutoModelForAudioClassification.from_pretrained(finished_run / "final").eval()
    classify = CAMuLeNetPipeline(model=model, feature_extractor=model.camulenet.feature_extractor, device="cpu")
    assert len(lines) == 2
    for line, clip in zip(lines, clips):
        waveform, rate = soundfile.read(clip)
        expected = classify({"array": waveform, "sampling_rate": rate}, return_gender=True)
        first, second = expected["emotion"][:2]
        gender = expected["gender"][0]
        assert line == (
            f"{clip}: emotion {first['label']} {first['score']:.2f}, {second['label']} {second['score']:.2f}; "
            f"gender {gender['label']} {gender['score']:.2f}"
        )
        assert first["score"] >= second["score"] and gender["score"] >= 0.5


def test_a_single_task_model(clips, finished_run, tmp_path, monkeypatch, capsys):
    model = AutoModelForAudioClassification.from_pretrained(finished_run / "final", id2gender={})
    model.save_pretrained(tmp_path)
    model.camulenet.feature_extractor.save_pretrained(tmp_path)
    (line,) = run(monkeypatch, capsys, clips[0], "--model", tmp_path, "--top_k", 1)
    assert re.fullmatch(rf"{re.escape(clips[0])}: emotion [a-z]+ [01]\.\d\d", line)


@pytest.mark.parametrize(
    ("file", "model", "top_k", "message"),
    [
        ("missing.wav", "final", 3, "missing.wav"),
        ("text.wav", "final", 3, "text.wav: the audio cannot be decoded"),
        ("clip", "nowhere", 3, "nowhere"),
        ("clip", "final", 0, "`top_k` is 0"),
    ],
)
def test_errors_are_said_without_a_traceback(
    clips, finished_run, tmp_path, monkeypatch, capsys, file, model, top_k, message
):
    (tmp_path / "text.wav").write_bytes(b"no audio at all")
    path = clips[0] if file == "clip" else tmp_path / file
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, capsys, path, "--model", finished_run / model, "--top_k", top_k)
    assert isinstance(ended.value.code, str) and ended.value.code.startswith("predict: ")
    assert message in ended.value.code
