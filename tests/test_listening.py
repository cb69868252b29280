"""listening.py: what a checkpoint makes of a recording, against its pipeline, scipy and hand-worked numbers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY
from encoders import write_wav2vec2
from hub_server import TOKEN, HubServer
from scipy.special import log_softmax, softmax

from dataset_scripts import load_corpus
from dataset_scripts.schema import read_audio
from modeling_camulenet import CAMuLeNetForAudioClassification
from ser_protocol import listening
from ser_protocol.calibration import fit_temperature
from ser_protocol.listening import Listener, load_listener

ROOT = Path(__file__).parent.parent
RATE = 16000


@pytest.fixture(scope="module")
def speech() -> list[np.ndarray]:
    corpus = load_corpus("demo")
    return [read_audio(corpus[row]["audio"])[0] for row in (0, 60, 130, 300)]


@pytest.fixture(scope="module")
def listener(finished_run) -> Listener:
    return load_listener(str(finished_run / "final"))


def raw(waveform: np.ndarray) -> dict:
    return {"array": waveform, "sampling_rate": RATE}


def scores(rows: list[dict]) -> dict[str, float]:
    return {row["label"]: row["score"] for row in rows}


def at_temperature(rows: list[dict], temperature: float) -> dict[str, float]:
    scaled = softmax(np.log([row["score"] for row in rows]) / temperature)
    return dict(zip((row["label"] for row in rows), scaled.tolist()))


def test_a_short_recording(listener, speech):
    hearing = listener.listen(raw(speech[0]))
    plain = listener.classify(raw(speech[0]), top_k=None, return_gender=True, return_attention=True)
    assert hearing.duration_s == pytest.approx(len(speech[0]) / RATE) and hearing.duration_s < 5
    assert scores(hearing.emotion) == pytest.approx(at_temperature(plain["emotion"], listener.temperature), abs=1e-6)
    assert [row["label"] for row in hearing.emotion] == [row["label"] for row in plain["emotion"]]
    assert hearing.gender == plain["gender"] and hearing.problem is None and hearing.segments == []
    np.testing.assert_array_equal(hearing.attention, plain["attention"])


def test_a_longer_recording_is_heard_in_windows(listener, speech):
    silence = np.zeros(5 * RATE, np.float32)
    recording = np.concatenate([speech[0], speech[1], silence, speech[2], speech[3]])
    hearing = listener.listen(raw(recording))
    before_s, after_s = (len(speech[0]) + len(speech[1])) / RATE, (len(speech[0]) + len(speech[1])) / RATE + 5
    # Silence belongs to no segment, but for what the windows around it reach over it.
    assert hearing.segments[0]["start_s"] < 1 and hearing.segments[-1]["end_s"] == pytest.approx(hearing.duration_s)
    assert any(
        first["end_s"] < second["start_s"] and first["end_s"] > before_s - 2 and second["start_s"] < after_s + 2
        for first, second in zip(hearing.segments, hearing.segments[1:])
    )
    windows = listener.classify(raw(recording), timeline=True, top_k=None, return_gender=True)["windows"]
    silent = [w for w in windows if w["start_s"] > before_s and w["end_s"] < after_s]
    assert silent  # the recording has such windows
    heard = [w for w in windows if w not in silent]
    mean = pd.DataFrame([at_temperature(w["emotion"], listener.temperature) for w in heard]).mean()
    assert scores(hearing.emotion) == pytest.approx(mean.to_dict(), abs=1e-6)
    assert scores(hearing.gender) == pytest.approx(pd.DataFrame([scores(w["gender"]) for w in heard]).mean().to_dict())
    assert sum(scores(hearing.emotion).values()) == pytest.approx(1)


def in_memory(config) -> Listener:
    """A model of random weights, without a record."""
    model = CAMuLeNetForAudioClassification(config)
    return Listener("x", model.pipeline(model.camulenet.feature_extractor, device="cpu"))


def test_attention_of_a_model_that_reads_the_beginning(tiny_config, speech):
    """Its frames lie where they are heard; what is not read has no weight."""
    extractor = {**TINY["feature_extractor"], "max_duration_s": 2.0}
    hearing = in_memory(tiny_config(feature_extractor=extractor)).listen(raw(np.concatenate(speech[:3])[: 4 * RATE]))
    assert hearing.attention.shape == (2, 200)  # a frame is 20 ms
    np.testing.assert_allclose(hearing.attention[:, :100].sum(axis=1), 1, atol=1e-5)
    assert not hearing.attention[:, 100:].any() and hearing.attention[:, 99].all()


@pytest.mark.parametrize("fusion", ["image", "branches", "gate"])
def test_without_weights_over_frames_there_is_no_attention(tiny_config, speech, fusion):
    listener = in_memory(tiny_config(fusion=fusion))
    hearing = listener.listen(raw(speech[0]))
    assert hearing.emotion == listener.classify(raw(speech[0]))
    assert (hearing.attention is not None) == (fusion == "gate")


@pytest.mark.parametrize(
    ("waveform", "said"),
    [
        (0.1 * np.random.default_rng(0).standard_normal(2 * RATE), "Music or noise, perhaps?"),
        (1e-4 * np.random.default_rng(0).standard_normal(2 * RATE), "It is all but silent: its peak is -6"),
    ],
)
def test_without_speech_no_emotion_is_named(listener, waveform, said):
    hearing = listener.listen(raw(waveform.astype(np.float32)))
    assert hearing.emotion == hearing.gender == hearing.segments == []
    assert hearing.problem.startswith("No speech was found, so no emotion is named.") and said in hearing.problem


def test_a_moment_of_speech_in_a_long_noise_is_not_enough(listener, monkeypatch):
    noise = (0.1 * np.random.default_rng(0).standard_normal(10 * RATE)).astype(np.float32)
    monkeypatch.setattr(listening, "speech_spans", lambda *_: [(2.0, 2.6)])
    hearing = listener.listen(raw(noise))
    assert hearing.emotion == [] and "No more than 0.6 s sound like it" in hearing.problem
    monkeypatch.setattr(listening, "speech_spans", lambda *_: [(2.0, 3.1)])
    assert listener.listen(raw(noise)).emotion


def test_silence_and_broken_files_are_refused(listener, tmp_path):
    with pytest.raises(ValueError, match="silent"):
        listener.listen(raw(np.zeros(RATE, np.float32)))
    (tmp_path / "x.wav").write_text("no audio")
    with pytest.raises(ValueError, match=r"x\.wav: the audio cannot be decoded"):
        listener.listen(str(tmp_path / "x.wav"))


def test_the_temperature_is_that_of_unseen_speakers(listener, finished_run):
    predictions = pd.read_csv(finished_run / "predictions.csv")
    names = [f"p_{name}" for name in listener.emotions]
    probabilities = np.maximum(predictions[names].to_numpy(), 5e-7)
    truth = [listener.emotions.index(name) for name in predictions["emotion"]]

    def nll(temperature: float) -> float:
        logits = np.log(probabilities / probabilities.sum(axis=1, keepdims=True)) / temperature
        return -log_softmax(logits, axis=1)[np.arange(len(truth)), truth].mean()

    assert listener.temperature == fit_temperature(predictions)
    assert nll(listener.temperature) <= min(nll(t) for t in np.geomspace(0.06, 19, 200)) + 1e-9


def test_what_an_answer_is_worth(listener):
    table = pd.DataFrame(
        {
            "emotion": ["anger"] * 40,
            "predicted_emotion": ["anger"] * 30 + ["neutral"] * 10,
            **{"p_anger": [0.7] * 30 + [0.3] * 10, "p_neutral": [0.3] * 30 + [0.7] * 10},
        }
    )
    worth = Listener("x", listener.classify)
    worth.temperature, worth.calibrated = 1.0, table  # cached properties
    assert worth.confidence_line(0.7) == (
        "Calibrated on unseen speakers: of 40 answers that were 60% to 80% sure, 75% were right."
    )
    assert "too few" in worth.confidence_line(0.99) and "too few" in worth.confidence_line(1.0)
    # A protocol that leaks on purpose, or a split of one's own.
    worth.results = {"unseen_speakers": False}
    assert worth.confidence_line(0.7).startswith(
        "Calibrated on speakers who were not all new to the models: of 40 answ"
    )
    assert worth.confidence_line(1.0).startswith("Calibrated on speakers who were not all new to the models; too few")


def test_a_checkpoint_without_its_run(finished_run, speech, tmp_path):
    shutil.copytree(finished_run / "fold_00", tmp_path / "alone")
    alone = load_listener(str(tmp_path / "alone"))
    assert alone.temperature is None and "not calibrated" in alone.confidence_line(0.9)
    plain = alone.classify(raw(speech[0]), top_k=None)
    assert alone.listen(raw(speech[0])).emotion == plain
    assert alone.about() == ["Trained on 4 speakers of ravdess.", "No figures on unseen speakers came with it."]


def test_what_a_model_says_of_itself(listener, finished_run):
    wa = json.loads((finished_run / "results.json").read_text())["pooled"]["wa"]
    assert listener.about()[:2] == [
        "Trained on 6 speakers of ravdess.",
        f"Models trained like it were right about {wa['value']:.0%} ({wa['low']:.0%} to {wa['high']:.0%}) of the "
        "clips of speakers that they had not met, with 4 emotions.",
    ]
    config = listener.classify.model.config
    speakers = config.training_speakers
    try:
        config.training_speakers = ["demo/en1", "demo/en2"]
        assert listener.is_demonstration and listener.about()[0].startswith("A demonstration model: its answers about")
        config.training_speakers = []
        assert listener.about() == ["Nothing says what this model was trained on: its answers may mean nothing."]
    finally:
        config.training_speakers = speakers


def test_from_the_hub_with_its_record(listener, finished_run, tmp_path):
    files = {path.name: path for path in (finished_run / "final").iterdir() if path.is_file()}
    files |= {name: finished_run / name for name in ("results.json", "predictions.csv")}
    program = """
import sys
from huggingface_hub import HfApi
from ser_protocol.listening import load_listener
api = HfApi()
api.create_repo("me/camulenet")
api.upload_folder(repo_id="me/camulenet", folder_path=sys.argv[1])
print("temperature", repr(load_listener("me/camulenet").temperature))
"""
    folder = tmp_path / "pushed"
    folder.mkdir()
    for name, path in files.items():
        shutil.copy(path, folder / name)
    with HubServer() as hub:
        environment = {**os.environ, **hub.environment(tmp_path / "home"), "HF_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", program, folder], env=environment, text=True, capture_output=True, timeout=300
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"temperature {listener.temperature!r}" in done.stdout


def test_another_model_is_refused(tmp_path):
    write_wav2vec2(tmp_path)
    with pytest.raises(ValueError, match="is a wav2vec2 model; expected a CAMuLeNet checkpoint"):
        load_listener(str(tmp_path))
