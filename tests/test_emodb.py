"""EmoDB: names, the official file list, and loading a tree of fake clips and, where it is there, the real one."""

import csv
from collections import Counter
from pathlib import Path, PurePath

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_scripts import CorpusError, load_corpus
from dataset_scripts.emodb import SPEAKERS, EmodbBuilder

SHARED = Path(__file__).parent.parent / ".." / "shared" / "data"
parse = EmodbBuilder.parse


@pytest.mark.parametrize(
    ("letter", "emotion"),
    [
        ("W", "anger"),
        ("L", "boredom"),
        ("E", "disgust"),
        ("A", "fear"),
        ("F", "happiness"),
        ("T", "sadness"),
        ("N", "neutral"),
    ],
)
def test_parse_letters(letter, emotion):
    fields = parse(PurePath(f"wav/16b10{letter}d.wav"))
    assert (fields["speaker"], fields["gender"], fields["text_id"]) == ("16", "female", "b10")
    assert fields["emotion"] == emotion


def test_genders():
    male = {speaker for speaker in SPEAKERS if parse(PurePath(f"{speaker}a01Fa.wav"))["gender"] == "male"}
    assert male == {"03", "10", "11", "12", "15"} and len(SPEAKERS) == 10


@pytest.mark.parametrize(
    "stem",
    [
        *("", "03a01F", "03a01Fab", "3a01Fa", "03a01Xa", "03a01fa", "03A01Fa", "03a01FA", "03a03Fa", "03c01Fa"),
        *("04a01Fa", "17a01Fa", "00a01Fa", "03a01Fa ", "03a01Fa\n", "03-a01-F-a", "03a01F1", "03-01-05-01-02-01-24"),
    ],
)
def test_bad_names_are_refused(stem):
    with pytest.raises(CorpusError):
        parse(PurePath(f"{stem}.wav"))


@settings(derandomize=True, deadline=None)
@given(st.one_of(st.text(), st.from_regex(r"[01][0-9][abc][01][0-9][A-Z][a-zA-Z]?", fullmatch=True)))
def test_any_name_is_parsed_or_refused(name):
    try:
        fields = parse(PurePath(f"{name}.wav"))
    except CorpusError:
        return
    stem = PurePath(f"{name}.wav").stem
    assert len(stem) == 7 and (fields["speaker"], fields["text_id"]) == (stem[:2], stem[2:5])
    assert SPEAKERS[fields["speaker"]] == fields["gender"] and fields["emotion"] in EmodbBuilder.emotions


def test_official_list():
    path = SHARED / "emobox" / "emodb.csv"
    if not path.is_file():
        pytest.skip("the official file list is not on this machine")
    # The list spells boredom so.
    aliases = {"happy": "happiness", "sad": "sadness", "boredem": "boredom"}
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    counts = Counter()
    for row in rows:
        emotion = parse(PurePath(row["path"]))["emotion"]
        assert emotion == aliases.get(row["label"], row["label"])
        counts[emotion] += 1
    assert counts == EmodbBuilder.expected_counts and len(rows) == 535


@pytest.mark.parametrize("folder", ["", "wav", "emodb/wav"])
def test_load_a_part(tmp_path, folder, caplog):
    (tmp_path / "data" / folder).mkdir(parents=True)
    for stem in ("13b03Lc", "03a01Fa", "03a01Nc"):
        soundfile.write(tmp_path / "data" / folder / f"{stem}.wav", np.zeros(1600), 16000)
    dataset = load_corpus("emodb", tmp_path / "data", cache_dir=tmp_path / "cache")
    assert list(dataset["utterance_id"]) == ["emodb/03a01Fa", "emodb/03a01Nc", "emodb/13b03Lc"]
    assert list(dataset["speaker_id"]) == ["emodb/03", "emodb/03", "emodb/13"]
    assert dataset.features["emotion"].int2str(list(dataset["emotion"])) == ["happiness", "neutral", "boredom"]
    assert list(dataset["source_label"]) == ["Freude", "neutral", "Langeweile"]
    assert set(dataset["language"]) == {"de"}
    assert "3 of 535 utterances are here" in caplog.text


def test_load_the_corpus(tmp_path, caplog):
    if not (SHARED / "emodb_2s").is_dir():
        pytest.skip("EmoDB is not on this machine")
    dataset = load_corpus("emodb", SHARED / "emodb_2s", cache_dir=tmp_path)
    assert len(dataset) == 535 and not caplog.records
    assert len(set(dataset["speaker_id"])) == 10
