"""EmoDB: names, the official file list, and loading a tree of fake clips and, where it is there, the real one."""

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
from dataset_scripts.emodb import EMOTION_LETTERS, SPEAKERS, STEMS, EmodbBuilder
from dataset_scripts.label_maps import canonical

SHARED = Path(__file__).parent.parent / ".." / "shared" / "data"
parse = EmodbBuilder.parse


@pytest.mark.parametrize(
    ("stem", "emotion"),
    [
        ("16b10Wb", "anger"),
        ("16b10Lb", "boredom"),
        ("16b10Eb", "disgust"),
        ("16b10Aa", "fear"),
        ("16b10Fb", "happiness"),
        ("16b10Td", "sadness"),
        ("16b03Nb", "neutral"),
    ],
)
def test_parse(stem, emotion):
    fields = parse(PurePath(f"wav/{stem}.wav"))
    assert (fields["speaker"], fields["gender"], fields["text_id"]) == ("16", "female", stem[2:5])
    assert fields["emotion"] == emotion == canonical("emotion", fields["source_label"])


def test_genders():
    genders = {stem[:2]: parse(PurePath(f"{stem}.wav"))["gender"] for stem in STEMS}
    assert {speaker for speaker, gender in genders.items() if gender == "male"} == {"03", "10", "11", "12", "15"}
    assert len(genders) == 10


def test_release_1():
    letters = {letter: emotion for letter, (emotion, _) in EMOTION_LETTERS.items()}
    assert Counter(letters[stem[5]] for stem in STEMS) == EmodbBuilder.expected_counts and len(STEMS) == 535


@pytest.mark.parametrize("path", ["wav/03a01Ab.wav", "wav/12a04Wa.wav", "laryngo/03a01Fa.wav", "laryngo/03a01Ab.wav"])
def test_what_release_2_adds_is_left_out(path):
    assert parse(PurePath("emodb_2.0", path)) is None


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
@given(
    st.one_of(
        st.text(),
        st.from_regex(r"[01][0-9][abc][01][0-9][A-Z][a-zA-Z]?", fullmatch=True),
        st.tuples(st.sampled_from(sorted(STEMS)), st.sampled_from("abcdefg")).map(lambda pair: pair[0][:6] + pair[1]),
    )
)
def test_any_name_is_parsed_left_out_or_refused(name):
    try:
        fields = parse(PurePath(f"{name}.wav"))
    except CorpusError:
        return
    stem = PurePath(f"{name}.wav").stem
    assert len(stem) == 7 and (fields is None) == (stem not in STEMS)
    if fields is None:
        return
    assert (fields["speaker"], fields["text_id"]) == (stem[:2], stem[2:5])
    assert SPEAKERS[fields["speaker"]] == fields["gender"] and fields["emotion"] in EmodbBuilder.emotions


def test_official_list():
    path = SHARED / "emobox" / "emodb.csv"
    if not path.is_file():
        pytest.skip("the official file list is not on this machine")
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    counts = Counter()
    for row in rows:
        emotion = parse(PurePath(row["path"]))["emotion"]
        assert emotion == canonical("emotion", row["label"])
        counts[emotion] += 1
    assert counts == EmodbBuilder.expected_counts and len(rows) == 535
    assert {PurePath(row["path"]).stem for row in rows} == STEMS


@pytest.mark.parametrize("folder", ["", "wav", "emodb/wav"])
def test_load_a_part(tmp_path, folder, caplog):
    (tmp_path / "data" / folder).mkdir(parents=True)
    for stem in ("13b03Lb", "03a01Fa", "03a01Nc"):
        soundfile.write(tmp_path / "data" / folder / f"{stem}.wav", np.zeros(1600), 16000)
    dataset = load_corpus("emodb", tmp_path / "data", cache_dir=tmp_path / "cache")
    assert list(dataset["utterance_id"]) == ["emodb/03a01Fa", "emodb/03a01Nc", "emodb/13b03Lb"]
    assert list(dataset["speaker_id"]) == ["emodb/03", "emodb/03", "emodb/13"]
    assert dataset.features["emotion"].int2str(list(dataset["emotion"])) == ["happiness", "neutral", "boredom"]
    assert list(dataset["source_label"]) == ["Freude", "neutral", "Langeweile"]
    assert set(dataset["language"]) == {"de"}
    assert "3 of 535 utterances are here" in caplog.text


def test_load_release_2(tmp_path, caplog):
    """As its archive unpacks: release 1's clip among others, each with a laryngogram of the same name."""
    for stem in ("03a01Fa", "03a01Ab"):
        for value, folder in enumerate(("wav", "laryngo")):
            (tmp_path / "emodb_2.0" / folder).mkdir(parents=True, exist_ok=True)
            soundfile.write(tmp_path / "emodb_2.0" / folder / f"{stem}.wav", np.full(1600, value / 2), 16000)
    with caplog.at_level(logging.INFO, logger="dataset_scripts"):
        dataset = load_corpus("emodb", tmp_path / "emodb_2.0", cache_dir=tmp_path / "cache")
    assert list(dataset["utterance_id"]) == ["emodb/03a01Fa"]
    assert dataset[0]["audio"]["path"].endswith("wav/03a01Fa.wav")
    assert "3 files left out (what release 2.0 adds" in caplog.text


def test_load_the_corpus(tmp_path, caplog):
    if not (SHARED / "emodb_2s").is_dir():
        pytest.skip("EmoDB is not on this machine")
    dataset = load_corpus("emodb", SHARED / "emodb_2s", cache_dir=tmp_path)
    assert len(dataset) == 535 and not caplog.records
    assert len(set(dataset["speaker_id"])) == 10
