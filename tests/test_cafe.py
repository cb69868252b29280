"""CaFE: names, the official file list, and loading trees of fake clips whose folders are spelt in every way."""

import csv
import logging
import os
import unicodedata
from collections import Counter
from pathlib import Path, PurePath

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_scripts import CorpusError, load_corpus
from dataset_scripts.cafe import EMOTION_LETTERS, CafeBuilder
from dataset_scripts.label_maps import canonical
from dataset_scripts.schema import read_audio

SHARED = Path(__file__).parent.parent / ".." / "shared" / "data"
parse = CafeBuilder.parse


def write_clip(folder: bytes, stem: str, value: float = 0.0) -> None:
    """A clip of 10 ms in a folder whose name is given in bytes."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    with open(os.path.join(folder, f"{stem}.wav".encode()), "wb") as file:
        soundfile.write(file, np.full(480, value), 48000, format="WAV")


def test_parse():
    assert parse(PurePath("CaFE_48k/Colère/Faible/01-C-1-6.WAV")) == {
        "speaker": "01",
        "gender": "male",
        "emotion": "anger",
        "source_label": "Colère",
        "text_id": "6",
    }
    assert parse(PurePath("12-N-1-1.wav"))["gender"] == "female"
    assert parse(PurePath("Joie/Fort/10-P-2-3.wav"))["emotion"] == "fear"  # the name decides, not the folder


def test_words_are_known():
    assert all(canonical("emotion", word) == emotion for emotion, word in EMOTION_LETTERS.values())


@pytest.mark.parametrize(
    "stem",
    [
        *(
            "",
            "00-C-1-1",
            "13-C-1-1",
            "1-C-1-1",
            "01-A-1-1",
            "01-c-1-1",
            "01-C-0-1",
            "01-C-3-1",
            "01-C-1-0",
            "01-C-1-7",
        ),
        "01-N-2-1",  # strong neutral
        *("01-C-1", "01-C-1-1-1", "01_C_1_1", "01-C-1-1 (1)", "01-C-1-1\n", "٠1-C-1-1", "03-01-05-01-02-01-24"),
    ],
)
def test_bad_names_are_refused(stem):
    with pytest.raises(CorpusError):
        parse(PurePath(f"{stem}.wav"))


FIELD = st.one_of(st.integers(0, 13).map(lambda number: f"{number:02d}"), st.sampled_from("CDJNPSTA12367"), st.text())


@settings(derandomize=True, deadline=None)
@given(st.one_of(st.text(), st.lists(FIELD, min_size=3, max_size=5).map("-".join)))
def test_any_name_is_parsed_or_refused(name):
    try:
        fields = parse(PurePath(f"{name}.wav"))
    except CorpusError:
        return
    stem = PurePath(f"{name}.wav").stem
    assert len(stem) == 8 and (fields["speaker"], fields["text_id"]) == (stem[:2], stem[-1])
    assert fields["emotion"] in CafeBuilder.emotions
    assert fields["gender"] == ("female", "male")[int(stem[:2]) % 2]


def test_official_list():
    path = SHARED / "emobox" / "cafe.csv"
    if not path.is_file():
        pytest.skip("the official file list is not on this machine")
    words = {
        **{"c": "colère", "d": "dégoût", "j": "joie", "n": "neutre"},
        **{"p": "peur", "s": "surprise", "t": "tristesse"},
    }
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    counts, speakers = Counter(), Counter()
    for row in rows:
        fields = parse(PurePath(row["path"]))
        assert fields["emotion"] == canonical("emotion", words[row["label"]])
        counts[fields["emotion"]] += 1
        speakers[fields["speaker"]] += 1
    assert counts == CafeBuilder.expected_counts and len(rows) == 936
    assert speakers == dict.fromkeys(CafeBuilder.expected_speakers, 78)


# How archives and unpackers leave "Colère": composed, decomposed, as DOS and Windows bytes, garbled, without accent.
SPELLINGS = {
    "nfc": "Colère".encode(),
    "nfd": unicodedata.normalize("NFD", "Colère").encode(),
    "cp437": b"Col\x8are",
    "cp850": "Colère".encode("cp850"),
    "latin-1": "Colère".encode("latin-1"),
    "garbled": "Col\u0160re".encode(),
    "plain": b"Colere",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_load_a_part(tmp_path, spelling, caplog):
    root = os.fsencode(tmp_path / "data")
    write_clip(os.path.join(root, b"CaFE_48k", SPELLINGS[spelling], b"Faible"), "01-C-1-1", 0.5)
    write_clip(os.path.join(root, b"CaFE_48k", b"Neutre"), "02-N-1-6")
    with caplog.at_level(logging.INFO, logger="dataset_scripts"):
        dataset = load_corpus("cafe", tmp_path / "data", cache_dir=tmp_path / "cache")
    assert list(dataset["utterance_id"]) == ["cafe/01-C-1-1", "cafe/02-N-1-6"]
    assert list(dataset["speaker_id"]) == ["cafe/01", "cafe/02"]
    assert dataset.features["gender"].int2str(list(dataset["gender"])) == ["male", "female"]
    assert dataset.features["emotion"].int2str(list(dataset["emotion"])) == ["anger", "neutral"]
    assert list(dataset["source_label"]) == ["Colère", "Neutre"] and list(dataset["text_id"]) == ["1", "6"]
    assert set(dataset["language"]) == {"fr"} and set(dataset["duration_s"]) == {0.01}
    assert "2 of 936 utterances are here" in caplog.text and "all of speaker 03, 04" in caplog.text
    waveform, sampling_rate = read_audio(dataset[0]["audio"])
    assert sampling_rate == 48000 and np.allclose(waveform, 0.5, atol=1e-3)
    # A path that is not UTF-8 cannot be kept: its row carries the content instead.
    assert (dataset[0]["audio"]["bytes"] is None) == (spelling in ("nfc", "nfd", "garbled", "plain"))


def test_copies_under_two_spellings(tmp_path, caplog):
    for folder in (SPELLINGS["nfc"], SPELLINGS["nfd"], SPELLINGS["cp850"]):
        write_clip(os.path.join(os.fsencode(tmp_path / "data"), folder, b"Fort"), "03-C-2-2")
    dataset = load_corpus("cafe", tmp_path / "data", cache_dir=tmp_path / "cache")
    assert list(dataset["utterance_id"]) == ["cafe/03-C-2-2"]
    assert "2 identical copies left out" in caplog.text


def test_two_releases_are_refused(tmp_path):
    root = os.fsencode(tmp_path / "data")
    for folder in (b"CaFE_48k/Joie/Fort", b"CaFE_192k_1/Joie/Fort", b"CaFE_192k_2/Neutre"):
        write_clip(os.path.join(root, folder), "03-J-2-2", len(folder) / 100)
    with pytest.raises(CorpusError, match="two releases.*CaFE_192k and CaFE_48k.*point data_dir at CaFE_48k alone"):
        load_corpus("cafe", tmp_path / "data", cache_dir=tmp_path / "cache")
    assert len(load_corpus("cafe", tmp_path / "data" / "CaFE_48k", cache_dir=tmp_path / "cache")) == 1


def test_the_two_archives_of_192_khz_are_one_release(tmp_path):
    root = os.fsencode(tmp_path / "data")
    write_clip(os.path.join(root, b"CaFE_192k_1", b"Joie", b"Fort"), "03-J-2-2")
    write_clip(os.path.join(root, b"CaFE_192k_2", b"Tristesse", b"Fort"), "03-T-2-2")
    assert len(load_corpus("cafe", tmp_path / "data", cache_dir=tmp_path / "cache")) == 2


def test_all_bad_files_are_listed(tmp_path):
    folder = os.path.join(os.fsencode(tmp_path / "data"), SPELLINGS["cp850"])
    for stem in ("01-C-1-1", "01-C-1-9", "01-X-1-1"):
        write_clip(folder, stem)
    with pytest.raises(CorpusError) as error:
        load_corpus("cafe", tmp_path / "data", cache_dir=tmp_path / "cache")
    assert "01-C-1-9.wav: " in str(error.value) and "01-X-1-1.wav: " in str(error.value)
    str(error.value).encode()  # can be printed
    dataset = load_corpus("cafe", tmp_path / "data", cache_dir=tmp_path / "cache", skip_bad_files=True)
    assert list(dataset["utterance_id"]) == ["cafe/01-C-1-1"]
