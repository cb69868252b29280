"""speech.py: speech is found where it is, and in nothing else."""

from pathlib import Path

import numpy as np
import pytest
import soxr
import torch

from dataset_scripts import load_corpus
from dataset_scripts.schema import read_audio
from ser_protocol.speech import overlap_s, speech_spans

RATE = 16000
DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    """A clip of the demonstration corpus, between a second of silence on each side."""
    row = load_corpus("demo")[0]
    waveform, sampling_rate = read_audio(row["audio"])
    assert sampling_rate == RATE
    return np.pad(waveform, RATE)


def test_speech_is_found_where_it_is(spoken):
    threads = torch.get_num_threads()
    spans = speech_spans(spoken, RATE)
    assert torch.get_num_threads() == threads
    duration_s = len(spoken) / RATE
    assert spans[0][0] == pytest.approx(1, abs=0.3) and spans[-1][1] == pytest.approx(duration_s - 1, abs=0.3)
    assert overlap_s(spans, 0, duration_s) > 0.7 * (duration_s - 2)
    assert speech_spans(spoken, RATE) == spans  # the detector's state of one recording is not that of the next


@pytest.mark.parametrize("rate", [8000, 44100])
def test_the_rate_does_not_matter(spoken, rate):
    expected = speech_spans(spoken, RATE)
    spans = speech_spans(soxr.resample(spoken, RATE, rate).astype(np.float32), rate)
    assert spans[0][0] == pytest.approx(expected[0][0], abs=0.25)
    assert spans[-1][1] == pytest.approx(expected[-1][1], abs=0.25)


@pytest.mark.parametrize("sound", ["silence", "noise", "tone", "chords", "hum"])
def test_nothing_else_is_speech(sound):
    time = np.arange(5 * RATE) / RATE
    plucked = np.exp(-3 * (2 * time % 1))
    waveform = {
        "silence": np.zeros(5 * RATE),
        "noise": 0.1 * np.random.default_rng(0).standard_normal(5 * RATE),
        "tone": 0.3 * np.sin(2 * np.pi * 440 * time),
        "chords": plucked * sum(0.2 * np.sin(2 * np.pi * pitch * time) for pitch in (220, 277, 330)),
        "hum": 0.3 * np.sign(np.sin(2 * np.pi * 100 * time)),
    }[sound]
    assert speech_spans(waveform.astype(np.float32), RATE) == []


def test_overlap():
    spans = [(0.5, 1.5), (2.0, 4.0)]
    assert overlap_s(spans, 0, 10) == 3.0
    assert overlap_s(spans, 1.0, 3.0) == 1.5
    assert overlap_s(spans, 1.5, 2.0) == overlap_s([], 0, 9) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("corpus", "folder"), [("ravdess", "ravdess"), ("emodb", "emodb_2s")])
def test_acted_emotion_is_still_speech(corpus, folder):
    """Shouts, whispers and sobs: what the page would refuse of real corpora is at most one clip in a hundred."""
    if not (DATA / folder).is_dir():
        pytest.skip(f"the {corpus} recordings are not here")
    missed = []
    rows = load_corpus(corpus, DATA / folder)
    for row in rows:
        waveform, sampling_rate = read_audio(row["audio"])
        duration_s = len(waveform) / sampling_rate
        if overlap_s(speech_spans(waveform, sampling_rate), 0, duration_s) < min(0.1 * duration_s, 1.0):
            missed.append(row["utterance_id"])
    print(f"{corpus}: no speech in {len(missed)} of {len(rows)} clips: {missed}")
    assert len(missed) <= 0.01 * len(rows)
