"""page.py: the page's parts say what they are given, and only that."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import soundfile

from dataset_scripts.schema import EMOTIONS
from ser_protocol import page
from ser_protocol.exploring import Run
from ser_protocol.listening import Hearing, load_listener

EVIL = '<script>alert("x")</script>'
RATE = 16000


class Reader(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(html)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "br", "circle", "path", "use", "image", "rect", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        self.text += data

    def of(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def listener(finished_run):
    return load_listener(str(finished_run / "final"))


@pytest.fixture(scope="module")
def run(finished_run):
    return Run(finished_run)


@pytest.fixture
def hearing():
    rng = np.random.default_rng(0)
    return Hearing(
        waveform=(0.1 * rng.standard_normal(8 * RATE)).astype(np.float32),
        sampling_rate=RATE,
        emotion=[{"label": "anger", "score": 0.7}, {"label": "fear", "score": 0.3}],
        gender=[{"label": "female", "score": 0.9}, {"label": "male", "score": 0.1}],
        attention=rng.dirichlet(np.ones(100), size=4),
        segments=[
            {"start_s": 0.0, "end_s": 2.0, "label": "anger", "score": 0.8},
            {"start_s": 4.0, "end_s": 8.0, "label": "fear", "score": 0.6},
        ],
        speech_s=6.0,
    )


def test_text_is_legible_on_every_colour():
    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    assert len({page.colour_of(name) for name in EMOTIONS}) == len(EMOTIONS) == 10
    for name in (*EMOTIONS, "my own"):
        colour = page.colour_of(name)
        brighter, darker = sorted((luminance(colour), luminance(page.text_on(colour))), reverse=True)
        assert (brighter + 0.05) / (darker + 0.05) >= 4.5, name  # WCAG 2, level AA


def test_the_player_holds_the_sound():
    time = np.arange(2 * 44100) / 44100
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    (audio,) = Reader(page.player(tone, 44100)).of("audio")
    assert "autoplay" not in audio and audio["src"].startswith("data:audio/mpeg;base64,")
    sound, rate = soundfile.read(io.BytesIO(base64.b64decode(audio["src"].split(",")[1])))
    assert rate == RATE and len(sound) == pytest.approx(2 * RATE, abs=0.1 * RATE)
    spectrum = np.abs(np.fft.rfft(sound[RATE // 2 : RATE // 2 + RATE]))
    assert spectrum.argmax() == 440 and np.abs(sound[RATE // 2 : -RATE // 2]).max() == pytest.approx(0.5, abs=0.05)
    assert "autoplay" in Reader(page.player(tone, 44100, autoplay=True)).of("audio")[0]


def test_a_hearing(listener, hearing):
    html = page.hearing_html(listener, hearing)
    read = Reader(html)
    first, second = read.of("button")
    assert (first["data-start"], first["data-end"]) == ("0.000", "2.000")
    assert first["aria-label"] == "Play anger, 0.0 to 2.0 s, 80%"
    assert "left:50.000%;width:50.000%" in second["style"]
    assert "anger 70%, female 90%" in read.text and "Emotion, mean over windows of 3 s" in read.text
    (figure,) = read.of("svg")
    assert figure["width"] == "100%" and figure["role"] == "img"
    assert figure["aria-label"] == "Waveform and spectrogram of 8.0 seconds, with the co-attention over the waveform"
    assert "currentColor" in page.hearing_html(listener, hearing) and "#010203" not in page.hearing_html(
        listener, hearing
    )
    bars = [
        re.search(r"width:([\d.]+)%", span["style"])[1] for span in read.of("span") if "width" in span.get("style", "")
    ]
    assert bars == ["70.0", "30.0", "90.0", "10.0"]
    for line in listener.about():
        assert line in read.text


def test_a_hearing_without_speech(listener, hearing):
    silent = Hearing(hearing.waveform, RATE, problem="No speech was found.")
    read = Reader(page.hearing_html(listener, silent))
    assert "No speech was found." in read.text and "%" not in read.text.split("Models trained")[0]
    assert read.of("button") == [] and len(read.of("audio")) == 1


@pytest.mark.parametrize("num_samples", [1, 100, 3 * RATE, 300 * RATE])
def test_recordings_of_any_length_are_drawn(listener, num_samples):
    waveform = np.linspace(-0.5, 0.5, num_samples, dtype=np.float32)
    html = page.hearing_html(listener, Hearing(waveform, RATE, problem="x"))
    assert len(Reader(html).of("svg")) == 1 and len(html) < 4_000_000


def test_the_matrix_has_every_clip_once(run):
    read = Reader(page.matrix_html(run.table))
    cells = {(b["data-truth"], b["data-predicted"]): b for b in read.of("button")}
    expected = pd.crosstab(run.table["emotion"], run.table["predicted_emotion"])
    assert len(cells) == len(run.emotions) ** 2
    for (truth, predicted), button in cells.items():
        count = expected[predicted].get(truth, 0) if predicted in expected else 0
        assert button["title"].startswith(f"{count} clips of {truth} heard as {predicted}, ")
    assert "No clips." in page.matrix_html(run.table.head(0)) and "No clips." in page.speakers_html(run.table.head(0))


def test_speakers_are_sorted_by_their_accuracy(run):
    read = Reader(page.speakers_html(run.table))
    wa = run.table.groupby("speaker_id")["right"].mean()
    order = [button["data-speaker"] for button in read.of("button")]
    assert sorted(order) == sorted(wa.index) and wa[order].is_monotonic_decreasing
    assert f"{wa.max():.0%}" in read.text and "8 clips" in read.text


def test_the_map_has_a_dot_for_each_clip(run):
    points = run.table.assign(x=np.arange(48.0), y=np.arange(48.0) ** 2)
    read = Reader(page.map_html(points, 2))
    dots = [g["data-clip"] for g in read.of("g")]
    assert dots == points["utterance_id"].tolist()
    hollow = [circle["fill"] == "none" for circle in read.of("circle")]
    assert hollow == (~points["right"]).tolist()
    assert all(24 <= float(circle[axis]) <= 616 for circle in read.of("circle") for axis in ("cx", "cy"))


def test_a_clip(run):
    name = run.table.index[0]
    row = run.table.loc[name]
    read = Reader(page.clip_html(run, name, np.zeros(RATE, np.float32), RATE))
    assert f"{name}: {row['emotion']} heard as {row['predicted_emotion']}" in read.text
    assert "autoplay" in read.of("audio")[0]
    assert f"{row[f'p_{row.predicted_emotion}']:.0%}" in read.text


def test_the_table_of_clips(run):
    table = page.clips_table(pd.concat([run.table] * 11))
    assert len(table) == 500 and list(table) == [
        "clip",
        "speaker",
        "gender",
        "emotion",
        "heard as",
        "answer",
        "confidence",
    ]
    assert (table["answer"][:48] == np.where(run.table["right"], "right", "wrong")).all()


def test_nothing_from_outside_becomes_markup(listener, hearing, run):
    hearing.segments[0]["label"] = hearing.emotion[0]["label"] = hearing.gender[0]["label"] = EVIL
    table = run.table.assign(emotion=EVIL, speaker_id=EVIL, x=range(48), y=range(48))
    table["utterance_id"] = [f"{EVIL}{number}" for number in range(48)]
    parts = [
        page.problem(EVIL),
        page.notes([EVIL]),
        page.hearing_html(listener, hearing),
        page.matrix_html(table),
        page.speakers_html(table),
        page.map_html(table, 0),
    ]
    for part in parts:
        assert "<script" not in part and Reader(part).of("script") == []
        assert "&lt;script&gt;" in part
