"""BhavVani: its annotation in every layout, and loading trees of fake clips; the corpus itself is nowhere public."""

import codecs
import csv
import io
import logging
import os
import subprocess
from pathlib import Path, PurePath

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_scripts import CorpusError, load_corpora, load_corpus
from dataset_scripts.bhavvani import COLUMNS, BhavvaniBuilder, clip_name, find_columns, read_annotation, speaker_of
from dataset_scripts.label_maps import LABEL_MAPS, find_label_map
from dataset_scripts.schema import OTHERS

TABLE = """file_name,Emotion,Speaker,gender
train_1.mp4,Enjoyment,Maya,F
train_2.mp4,Contempt,Indira,M
val_1.mp4,Disgust,Sahil,M
val_2.mp4,Neutral,Monisha,F
test_1.mp4,Anger,Roshesh,M
test_2.mp4,Surprise,Doctor,F
test_3.mp4,Fear,others,M
"""
CLIPS = ("train_1", "train_2", "val_1", "val_2", "test_1", "test_2", "test_3")


@pytest.fixture
def corpus(tmp_path):
    """Writes an annotation and clips into `data`, and gives the arguments that load them."""

    def build(table: str | bytes = TABLE, clips=CLIPS, suffix=".wav"):
        data = tmp_path / "data"
        (data / "clips").mkdir(parents=True)
        (data / "final_annotation.csv").write_bytes(table.encode() if isinstance(table, str) else table)
        for clip in clips:
            with (data / "clips" / f"{clip}{suffix}").open("wb") as file:
                soundfile.write(file, np.zeros(160), 16000, format="WAV")
        return {"data_dir": data, "cache_dir": tmp_path / "cache"}

    return build


def read(*lines: str) -> dict:
    """The annotation of some lines under a usual header."""
    return read_annotation("\n".join(["clip,emotion,speaker,gender", *lines]).encode())


def test_load(corpus, caplog):
    with caplog.at_level(logging.INFO, logger="dataset_scripts"):
        dataset = load_corpus("bhavvani", **corpus(), label_map="bhavvani-8")
    assert list(dataset["utterance_id"]) == [f"bhavvani/{clip}" for clip in sorted(CLIPS)]
    rows = {row["utterance_id"].removeprefix("bhavvani/"): row for row in dataset}
    emotions, genders = dataset.features["emotion"].names, dataset.features["gender"].names
    assert {clip: (row["speaker_id"], emotions[row["emotion"]]) for clip, row in rows.items()} == {
        "train_1": ("bhavvani/maya", "happiness"),
        "train_2": ("bhavvani/indira", "contempt"),
        "val_1": ("bhavvani/sahil", "disgust"),
        "val_2": ("bhavvani/monisha", "neutral"),
        "test_1": ("bhavvani/roshesh", "anger"),
        "test_2": ("bhavvani/others", "surprise"),
        "test_3": ("bhavvani/others", "fear"),
    }
    assert [genders[rows[clip]["gender"]] for clip in ("train_1", "train_2", "test_2", "test_3")] == [
        *("female", "male", "female", "male")  # the last two are both others
    ]
    assert rows["train_1"]["source_label"] == "Enjoyment" and rows["train_1"]["language"] == "hi"
    assert set(dataset["text_id"]) == set(dataset["session_id"]) == {None}
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "Doctor (1)" in caplog.text


def test_contempt_joins_disgust_by_default(corpus):
    loaded = load_corpora(["bhavvani"], [(arguments := corpus())["data_dir"]], cache_dir=arguments["cache_dir"])
    assert loaded.label_map.name == "bhavvani-7" and loaded.counts_before["bhavvani"]["contempt"] == 1
    assert loaded.counts_after["bhavvani"]["disgust"] == 2 and len(loaded.dataset) == 7
    assert "contempt" not in loaded.dataset.features["emotion"].names


def test_maps_know_the_emotions():
    for name in LABEL_MAPS:
        if name.startswith("bhavvani"):
            assert set(find_label_map(name).emotions) <= set(BhavvaniBuilder.emotions)


def test_it_may_not_be_passed_on():
    assert not BhavvaniBuilder.redistributable


@pytest.mark.parametrize(
    ("name", "speaker"),
    [
        *(("Maya", "maya"), ("MAYA ", "maya"), ("maya sarabhai", "maya"), ("Maya_Sarabhai", "maya")),
        *(("Indravadan", "indira"), ("Rosesh Sarabhai", "roshesh"), ("Monisha", "monisha"), ("sahil", "sahil")),
        *(("", OTHERS), ("Doctor", OTHERS), ("other", OTHERS), ("Amayan", OTHERS), ("Mayank", OTHERS), ("7", OTHERS)),
        # A character with somebody else: neither the character's clip nor unknown people's.
        *(("Maya, Sahil", None), ("Maya & Sahil", None), ("maya/doctor", None), ("Maya Sahil", None)),
        *(("Doctor and Maya", None), ("Maya and Doctor", None), ("Maya's mother", None), ("Maya 2", None)),
    ],
)
def test_speakers(name, speaker):
    assert speaker_of(name) == speaker


@pytest.mark.parametrize(
    "value",
    ["train_12", "train_12.mp4", "train_12.WAV", "clips/train_12.mp4", "/a.b/train_12", "C:\\clips\\train_12.mp4"],
)
def test_clip_names(value):
    assert clip_name(value) == "train_12"


def test_a_point_in_a_clip_name_is_no_suffix():
    assert clip_name("train_1.5") == clip_name("train_1.5.mp4") == PurePath("train_1.5.wav").stem


@pytest.mark.parametrize(
    "header",
    [
        ["clip", "emotion", "speaker", "gender"],
        ["File Name", "EMOTION-LABEL", "Character", "Sex"],
        ["video_name", "Label", "spk", "Gender "],
        ["path", "class", "Actor", "gender"],
    ],
)
def test_columns_are_found_by_their_usual_names(header):
    found = find_columns(["", *reversed(header), "transcript"])
    assert found == {"clip": 4, "emotion": 3, "speaker": 2, "gender": 1}


def test_unclear_columns_are_all_named_and_renaming_settles_them():
    with pytest.raises(CorpusError) as error:
        find_columns(["file", "video", "emo", "actor", "gender", "text"])
    message = str(error.value)
    assert "the columns are 'file', 'video', 'emo', 'actor', 'gender', 'text'" in message
    assert "'file' and 'video' may all hold it; rename the column that holds it to `clip`" in message
    assert "no column is called emotion, emotion_label" in message and "to `emotion`" in message
    assert "speaker:" not in message and "gender:" not in message
    assert find_columns(["file", "clip", "emotion", "label", "actor", "gender"])["emotion"] == 2


def test_two_columns_of_one_name_are_unclear():
    with pytest.raises(CorpusError, match="'emotion' and 'Emotion' may all hold it"):
        find_columns(["clip", "emotion", "Emotion", "speaker", "gender"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_separators_and_encodings(encoding, separator, newline):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, lineterminator=newline)
    writer.writerow(["text", "clip", "emotion", "speaker", "gender"])
    writer.writerow(['अरे, नहीं; हाँ|ना\t"ओ"\nठीक', "train_1.mp4", "Sadness", "Maya", "F"])
    assert read_annotation(text.getvalue().encode(encoding)) == {
        "train_1": {"speaker": "maya", "gender": "female", "emotion": "sadness", "source_label": "Sadness"}
    }


def test_other_encodings_are_refused():
    with pytest.raises(CorpusError, match="not UTF-8.*save it as UTF-8"):
        read_annotation("clip,emotion,speaker,gender\ntrain_1,Anger,Mäya,F".encode("latin-1"))


@pytest.mark.parametrize("content", [b"", b"\n\n", b" , \n", codecs.BOM_UTF8])
def test_an_empty_file_is_refused(content):
    with pytest.raises(CorpusError, match="empty"):
        read_annotation(content)


def test_lines_that_agree_may_repeat():
    assert len(read("train_1.mp4,Anger,Maya,F", "", "train_1.wav,Anger,maya,female")) == 1


def test_a_missing_gender():
    clips = read("a,Anger,Maya,", "b,Anger,maya,F", "c,Anger,Doctor,N/A", "d,Anger,Sahil")
    assert [clips[clip]["gender"] for clip in "abcd"] == ["female", "female", None, None]


def test_all_bad_lines_are_listed():
    with pytest.raises(CorpusError) as error:
        read(
            "train_1,Anger,Maya,F",
            "train_1.mp4,Fear,Maya,F",
            *[f"train_{number},Happyish,Doctor,F" for number in range(10, 18)],
            "train_2,,Maya,F",
            "train_3,Anger,,F",
            ",Anger,Maya,F",
            "train_4,Anger,Doctor,both",
            "train_5,Anger,Maya,M",
            "train_6,Anger,Maya, F,extra",
        )
    message = str(error.value)
    for expected in (
        "line 3: clip 'train_1' is something else in line 2",
        "line 4, 5, 6, 7, 8 and 3 more: unknown emotion 'Happyish'; known are neutral, happiness",
        "line 12: unknown emotion ''",
        "line 13: no speaker; write `others`",
        "line 14: no clip is named",
        "line 15: unknown gender 'both'",
        "line 17: more values than the 4 columns",
        "maya is female in line 2, 3, 12, 14 and male in line 16",
    ):
        assert expected in message


def test_two_genders_of_others_are_fine():
    assert {fields["gender"] for fields in read("a,Anger,Doctor,F", "b,Anger,Doctor,M").values()} == {"female", "male"}


def test_several_talkers_are_left_out(corpus, caplog):
    table = TABLE.replace("test_3.mp4,Fear,others,M", 'test_3.mp4,Fear,"Maya, Doctor",M')
    with caplog.at_level(logging.INFO, logger="dataset_scripts"):
        dataset = load_corpus("bhavvani", **corpus(table))
    assert len(dataset) == 6
    assert "1 files left out (a main character together with somebody else)" in caplog.text


def test_a_part_of_the_clips(corpus, caplog):
    assert len(load_corpus("bhavvani", **corpus(clips=CLIPS[1:]))) == 6
    assert "1 of the 7 clips in final_annotation.csv are not here as audio, e.g. train_1" in caplog.text
    assert "all of speaker maya" in caplog.text and "ffmpeg" not in caplog.text


def test_clips_that_are_not_listed(corpus):
    arguments = corpus(clips=[*CLIPS, "train_8", "train_9"])
    with pytest.raises(CorpusError) as error:
        load_corpus("bhavvani", **arguments)
    for clip in ("train_8", "train_9"):
        assert f"clips/{clip}.wav: final_annotation.csv does not list this clip" in str(error.value)
    assert len(load_corpus("bhavvani", **arguments, skip_bad_files=True)) == 7


def test_an_error_in_the_annotation_names_the_file(corpus):
    arguments = corpus(TABLE.replace("Speaker", "Who"))
    with pytest.raises(CorpusError, match="final_annotation.csv: the columns are .*'Who'.*\n.*rename.*to `speaker`"):
        load_corpus("bhavvani", **arguments)


def test_no_annotation(corpus):
    arguments = corpus()
    (arguments["data_dir"] / "final_annotation.csv").unlink()
    with pytest.raises(CorpusError, match="no final_annotation.csv under .*given out by its authors on request"):
        load_corpus("bhavvani", **arguments)


def test_several_annotations(corpus):
    arguments = corpus()
    copy = arguments["data_dir"] / "old" / "Final_Annotation.CSV"
    copy.parent.mkdir()
    copy.write_text(TABLE)
    assert len(load_corpus("bhavvani", **arguments)) == 7
    copy.write_text(TABLE.replace("Anger", "Fear"))
    with pytest.raises(CorpusError, match="different files final_annotation.csv; keep one of") as error:
        load_corpus("bhavvani", **arguments)
    assert str(copy) in str(error.value)


def test_an_annotation_that_cannot_be_read(corpus):
    arguments = corpus()
    (arguments["data_dir"] / "final_annotation.csv").unlink()
    (arguments["data_dir"] / "final_annotation.csv").symlink_to("nowhere.csv")
    with pytest.raises(CorpusError, match="final_annotation.csv: not readable"):
        load_corpus("bhavvani", **arguments)


def test_video_only_says_how_to_convert(corpus, tmp_path):
    arguments = corpus(suffix=".mp4")
    with pytest.raises(CorpusError, match="holds 7 .mp4 files and no audio") as error:
        load_corpus("bhavvani", **arguments)
    command = str(error.value).splitlines()[-1]
    assert "-ac 1 -ar 16000" in command
    # Run with a stand-in that copies its input, the third argument, to its output, the last.
    fake = tmp_path / "bin" / "ffmpeg"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\ninput=$3\nfor output; do :; done\ncp "$input" "$output"\n')
    fake.chmod(0o755)
    path = f"{fake.parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["sh", "-c", command], check=True, env={**os.environ, "PATH": path})
    assert (arguments["data_dir"] / "clips" / "train_1.wav").is_file()
    assert len(load_corpus("bhavvani", **arguments)) == 7


def test_some_videos_not_converted(corpus, caplog):
    arguments = corpus(clips=CLIPS[1:])
    (arguments["data_dir"] / "clips" / "train_1.mp4").write_bytes(b"")
    assert len(load_corpus("bhavvani", **arguments)) == 6
    assert "not here as audio, e.g. train_1" in caplog.text and "ffmpeg" in caplog.text


NAMES = [name for names in COLUMNS.values() for name in names]
CELL = st.one_of(
    st.text(max_size=8), st.sampled_from(["train_1.mp4", "Anger", "Contempt", "Maya", "M", "F", "x,y", '"'])
)
TABLES = st.tuples(
    st.lists(st.one_of(st.sampled_from(NAMES), st.text(max_size=5)), max_size=6),
    st.lists(st.lists(CELL, max_size=6), max_size=5),
    st.sampled_from(",;\t|"),
).map(lambda parts: "\n".join(parts[2].join(line) for line in [parts[0], *parts[1]]))
ROWS = st.tuples(CELL, CELL, CELL, CELL).map(",".join)


@settings(derandomize=True, deadline=None)
@given(
    st.one_of(
        st.binary(),
        TABLES.map(str.encode),
        st.lists(ROWS, max_size=4).map(lambda rows: "\n".join(["clip,emotion,speaker,gender", *rows]).encode()),
        st.tuples(st.sampled_from(["utf-8-sig", "utf-16"]), TABLES).map(lambda pair: pair[1].encode(pair[0])),
    )
)
def test_any_content_is_read_or_refused(content):
    try:
        clips = read_annotation(content)
    except CorpusError as error:
        assert str(error)
        return
    genders = {}
    for clip, fields in clips.items():
        assert clip
        if fields is None:
            continue
        assert set(fields) == {"speaker", "gender", "emotion", "source_label"}
        assert fields["emotion"] in BhavvaniBuilder.emotions and fields["source_label"]
        assert fields["gender"] in (None, "female", "male")
        assert fields["speaker"] in BhavvaniBuilder.expected_speakers
        if fields["speaker"] != OTHERS:
            assert genders.setdefault(fields["speaker"], fields["gender"]) == fields["gender"]


@settings(derandomize=True, deadline=None)
@given(st.text())
def test_any_words_are_taken(text):
    assert speaker_of(text) in (*BhavvaniBuilder.expected_speakers, None)
    assert "/" not in clip_name(text)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.lists(st.from_regex(r"(clips/)?(train|val|x)_[0-9](\.mp4)?\.wav", fullmatch=True), max_size=4))
def test_any_tree_is_parsed_or_refused(tmp_path_factory, names):
    folder: Path = tmp_path_factory.mktemp("tree")
    (folder / "final_annotation.csv").write_text("clip,emotion,speaker,gender\ntrain_1,Anger,Maya,F\n")
    builder = BhavvaniBuilder(folder, cache_dir=folder / "cache")
    builder.read_metadata()
    for name in names:
        try:
            fields = builder.parse(PurePath(name))
        except CorpusError:
            assert PurePath(name).stem != "train_1"
        else:
            assert PurePath(name).stem == "train_1" and fields["speaker"] == "maya"
