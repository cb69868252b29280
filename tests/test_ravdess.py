"""RAVDESS: names, the official file list, and loading a tree of fake clips and, where it is there, the real one."""

import csv
import logging
from collections import Counter
from pathlib import Path, PurePath

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_scripts import CorpusError, load_corpus
from dataset_scripts.ravdess import RavdessBuilder

SHARED = Path(__file__).parent.parent / ".." / "shared" / "data"
parse = RavdessBuilder.parse


def test_parse():
    assert parse(PurePath("Actor_12/03-01-06-02-01-02-13.WAV")) == {
        "speaker": "13",
        "gender": "male",
        "emotion": "fear",
        "source_label": "fearful",
        "text_id": "01",
    }
    assert parse(PurePath("03-01-01-01-02-01-24.wav"))["gender"] == "female"


@pytest.mark.parametrize(
    "stem", ["03-02-03-01-01-01-01", "01-01-03-01-01-01-01", "02-01-03-01-01-01-01", "01-02-03-02-02-02-24"]
)
def test_song_and_video_are_left_out(stem):
    assert parse(PurePath(f"{stem}.wav")) is None


@pytest.mark.parametrize(
    "stem",
    [
        "",
        "03-01-09-01-01-01-01",  # no such emotion
        "03-01-00-01-01-01-01",
        "03-01-03-03-01-01-01",  # no such intensity
        "03-01-01-02-01-01-01",  # strong neutral
        "03-01-03-01-03-01-01",  # no such statement
        "03-01-03-01-01-03-01",  # no such repetition
        "03-01-03-01-01-01-00",  # no such actor
        "03-01-03-01-01-01-25",
        "04-01-03-01-01-01-01",  # no such modality
        "03-03-03-01-01-01-01",  # no such channel
        "03-01-03-01-01-01",
        "03-01-03-01-01-01-01-01",
        "3-1-3-1-1-1-1",
        "03-01-03-01-01-01-01 (1)",
        "03-01-03-01-01-01-01\n",
        "03_01_03_01_01_01_01",
        "٠3-01-03-01-01-01-01",
        "03a01Fa",
    ],
)
def test_bad_names_are_refused(stem):
    with pytest.raises(CorpusError):
        parse(PurePath(f"{stem}.wav"))


FIELD = st.one_of(st.integers(0, 30).map(lambda number: f"{number:02d}"), st.text(max_size=3))


@settings(derandomize=True, deadline=None)
@given(st.one_of(st.text(), st.lists(FIELD, min_size=5, max_size=8).map("-".join)))
def test_any_name_is_parsed_left_out_or_refused(name):
    try:
        fields = parse(PurePath(f"{name}.wav"))
    except CorpusError:
        return
    stem = PurePath(f"{name}.wav").stem
    assert len(stem) == 20
    if fields is None:
        assert stem[:5] != "03-01"
    else:
        assert stem.startswith("03-01") and fields["speaker"] == stem[-2:]
        assert fields["emotion"] in RavdessBuilder.emotions
        assert fields["gender"] == ("female", "male")[int(stem[-1]) % 2]


def test_official_list():
    path = SHARED / "emobox" / "ravdess.csv"
    if not path.is_file():
        pytest.skip("the official file list is not on this machine")
    aliases = {
        **{"Neutral": "neutral", "Calm": "calm", "Happy": "happiness", "Sad": "sadness", "Angry": "anger"},
        **{"Fearful": "fear", "Disgust": "disgust", "Surprised": "surprise"},
    }
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    counts = Counter()
    for row in rows:
        fields = parse(PurePath(row["path"]))
        assert fields["emotion"] == aliases[row["label"]]
        assert fields["speaker"] == PurePath(row["path"]).parent.name.removeprefix("Actor_")
        counts[fields["emotion"]] += 1
    assert counts == RavdessBuilder.expected_counts and len(rows) == 1440


@pytest.fixture
def fake_tree(tmp_path):
    """Six clips of the speech archive, unpacked beside a second copy of one and beside song and video sound."""
    for folder, stem in (
        ("Audio_Speech_Actors_01-24/Actor_01", "03-01-01-01-01-01-01"),
        ("Audio_Speech_Actors_01-24/Actor_01", "03-01-05-02-02-02-01"),
        ("Audio_Speech_Actors_01-24/Actor_02", "03-01-08-01-01-01-02"),
        ("Audio_Speech_Actors_01-24/Actor_02", "03-01-02-01-01-01-03"),  # in the wrong actor's folder
        ("copy/Actor_01", "03-01-01-01-01-01-01"),
        ("Audio_Song_Actors_01-24/Actor_01", "03-02-05-02-02-02-01"),
        ("Video/Actor_01", "01-01-05-02-02-02-01"),
    ):
        path = tmp_path / "data" / folder / f"{stem}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(480), 48000)
    return tmp_path / "data"


def test_load_a_part(fake_tree, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="dataset_scripts"):
        dataset = load_corpus("ravdess", fake_tree, cache_dir=tmp_path / "cache")
    assert list(dataset["utterance_id"]) == [
        "ravdess/03-01-01-01-01-01-01",
        "ravdess/03-01-02-01-01-01-03",
        "ravdess/03-01-05-02-02-02-01",
        "ravdess/03-01-08-01-01-01-02",
    ]
    assert list(dataset["speaker_id"]) == ["ravdess/01", "ravdess/03", "ravdess/01", "ravdess/02"]
    assert dataset.features["gender"].int2str(list(dataset["gender"])) == ["male", "male", "male", "female"]
    assert dataset.features["emotion"].int2str(list(dataset["emotion"])) == ["neutral", "calm", "anger", "surprise"]
    assert list(dataset["text_id"]) == ["01", "01", "02", "01"]
    assert set(dataset["language"]) == {"en"} and set(dataset["duration_s"]) == {0.01}
    assert "2 files left out (song, or the sound of a video)" in caplog.text
    assert "1 identical copies left out" in caplog.text
    assert "4 of 1440 utterances are here" in caplog.text and "all of speaker 04, 05" in caplog.text


def test_load_the_corpus(tmp_path, caplog):
    if not (SHARED / "ravdess").is_dir():
        pytest.skip("RAVDESS is not on this machine")
    dataset = load_corpus("ravdess", SHARED / "ravdess", cache_dir=tmp_path)
    assert len(dataset) == 1440 and not caplog.records
    assert set(Counter(dataset["speaker_id"]).values()) == {60}
