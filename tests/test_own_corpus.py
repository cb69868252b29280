"""A user's own corpus: tables, folders and datasets, on small made-up trees."""

import codecs
import csv
import io
import json
import logging
import os
import re
import shutil
import sys
import unicodedata
from pathlib import Path, PurePosixPath

import datasets
import huggingface_hub
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataset_scripts import CORPORA, CorpusError, load_corpora, load_corpus
from dataset_scripts.own_corpus import COLUMNS, OwnCorpusBuilder, find_columns, load_dataset_rows
from dataset_scripts.schema import GENDERS, row_features, validate

HEADER = ("file_name", "emotion", "speaker_id", "gender")
ROWS = [("a.wav", "angry", "007", "F"), ("sub/b.wav", "Sad", "8", "male")]
SPEAKER = r"(?P<speaker>spk\d+)"
QUICK = settings(
    derandomize=True,
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def wav_bytes(seconds=0.1, value=0.25, sampling_rate=8000):
    content = io.BytesIO()
    soundfile.write(content, np.full(round(seconds * sampling_rate), value), sampling_rate, format="WAV")
    return content.getvalue()


CLIP = wav_bytes()


def write_clips(folder, *names):
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wav_bytes(0.1 * (number + 1)))


def write_table(path, rows=ROWS, header=HEADER):
    """A metadata file in the format that its suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [dict(zip(header, row)) for row in rows]
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    else:
        with open(path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([header, *rows])


@pytest.fixture
def folder(tmp_path):
    """A folder with three clips and no table."""
    write_clips(tmp_path / "data", "a.wav", "sub/b.wav", "sub/c.flac.wav")
    return tmp_path / "data"


@pytest.fixture
def load(folder, tmp_path):
    """`load_corpus("own")` on that folder."""

    def call(data_dir=folder, **options):
        return load_corpus("own", data_dir, cache_dir=tmp_path / "cache", **options)

    return call


@pytest.fixture
def refusal(load):
    """The message of the error that it ends with."""

    def call(*arguments, **options):
        with pytest.raises(CorpusError) as error:
            load(*arguments, **options)
        return str(error.value)

    return call


# ---------------------------------------------------------------------------------------------------------------------
# Tables


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_gives_the_rows(folder, load, suffix):
    write_table(folder / f"metadata.{suffix}")
    dataset = load()
    assert dataset[:] == {
        "utterance_id": ["own/a", "own/sub/b"],
        "audio": [{"bytes": None, "path": str(folder / name)} for name in ("a.wav", "sub/b.wav")],
        "corpus": ["own", "own"],
        "language": ["und", "und"],
        "speaker_id": ["own/007", "own/8"],
        "session_id": [None, None],
        "gender": [0, 1],
        "emotion": [1, 0],
        "source_label": ["angry", "Sad"],
        "text_id": [None, None],
        "duration_s": [0.1, 0.2],
    }
    assert dataset.features["emotion"].names == ["sadness", "anger"]
    assert dataset.features["gender"].names == list(GENDERS)


def test_every_column(folder, load):
    header = ("Path", "LABEL", "spk", "sex", "session", "sentence", "lang", "remark")
    rows = [("a.wav", "joy", "x", "w", "s1", "t1", "de", "?"), ("sub/b.wav", "joy", "y", "", "", "", "", "")]
    write_table(folder / "metadata.csv", rows, header)
    dataset = load(corpus_name="mine", language="en")
    assert dataset.select_columns(["speaker_id", "session_id", "text_id", "language", "gender", "corpus"])[:] == {
        "speaker_id": ["mine/x", "mine/y"],
        "session_id": ["mine/s1", None],
        "text_id": ["t1", None],
        "language": ["de", "en"],
        "gender": [0, None],
        "corpus": ["mine", "mine"],
    }
    assert dataset["utterance_id"][:] == ["mine/a", "mine/sub/b"]


def test_tables_of_subfolders(folder, load):
    """As in audiofolder: paths go from the folder of the table."""
    write_table(folder / "metadata.csv", ROWS[:1])
    write_table(
        folder / "sub" / "metadata.jsonl", [("b.wav", "sad", "8", "m"), ("./../sub/c.flac.wav", "x", "8", "m")]
    )
    dataset = load()
    assert dataset["utterance_id"][:] == ["own/a", "own/sub/b", "own/sub/c.flac"]
    assert dataset.features["emotion"].names == ["sadness", "anger", "x"]


def test_absolute_paths_and_repeated_rows(folder, load, refusal):
    rows = [ROWS[0], (str(folder / "a.wav"), *ROWS[0][1:]), ("./sub/../a.wav", "ANGRY".lower(), "007", "f")]
    write_table(folder / "metadata.csv", rows)
    assert load()["utterance_id"][:] == ["own/a"]
    write_table(folder / "metadata.csv", [ROWS[0], ROWS[1], ("a.wav", "sad", "007", "F")])
    assert refusal() == f"{folder / 'metadata.csv'}, row 3: a.wav is listed before, and otherwise"
    # Across tables, too.
    write_table(folder / "metadata.csv", ROWS)
    write_table(folder / "sub" / "metadata.csv", [("../a.wav", "sad", "007", "F")])
    assert refusal() == f"{folder / 'sub' / 'metadata.csv'}, row 1: a.wav is listed before, and otherwise"


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_byte_order_mark(folder, load, suffix):
    write_table(folder / f"metadata.{suffix}")
    path = folder / f"metadata.{suffix}"
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert load()["speaker_id"][:] == ["own/007", "own/8"]


def test_csv_as_spreadsheets_write_it(folder, load, refusal):
    def write(text):
        (folder / "metadata.csv").write_bytes(text.encode())

    # An empty cell at the end of each row, blank lines, spaces, quotes, line ends of Windows.
    write('file_name,emotion,speaker_id\r\na.wav,angry,007,\r\n\r\nsub/b.wav, "sad" ,8,\r\n')
    dataset = load()
    assert dataset["speaker_id"][:] == ["own/007", "own/8"] and dataset["source_label"][:] == ["angry", '"sad"']
    write('file_name,emotion,speaker_id,sentence\na.wav,angry,007,"oh, no"\n')
    assert load()["text_id"][:] == ["oh, no"]
    write("file_name,emotion,speaker_id,sentence\na.wav,angry,007,oh, no\n")
    assert "metadata.csv cannot be read: line 2 has more cells than there are columns; quote those that" in refusal()
    write("file_name,emotion,speaker_id,gender\na.wav,angry,007\n")  # a row may end early
    assert load()["gender"][:] == [None]
    write("file_name,emotion,speaker_id\na.wav,angry,007\n,,\n , ,,\n,,\n")  # below the table, cells that were emptied
    assert load()["speaker_id"][:] == ["own/007"]
    write("file_name;emotion;speaker_id;sentence\na.wav;angry;007;oh, no\n")
    assert load()["text_id"][:] == ["oh, no"]
    write("file_name;emotion;speaker_id\na.wav;angry;007;oh\n")
    assert "line 2 has more cells than there are columns" in refusal()


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_utf16(folder, load, suffix):
    path = folder / f"metadata.{suffix}"
    write_table(path, [("a.wav", "colère", "Zoë", "f")])
    path.write_bytes(path.read_text("utf-8").encode("utf-16"))
    dataset = load()
    assert (dataset["speaker_id"][:], dataset.features["emotion"].names) == (["own/Zoë"], ["anger"])


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_empty_rows(folder, load, suffix):
    write_table(folder / f"metadata.{suffix}", [ROWS[0], (None, None, "", " ")])
    assert load()["utterance_id"][:] == ["own/a"]


def test_numbers_of_parquet_and_jsonl(folder, load):
    rows = [("a.wav", "x", 7.0, None, 3), ("sub/b.wav", "x", 8.0, None, None), ("sub/c.flac.wav", "x", 8.5, None, 4)]
    header = ("file_name", "emotion", "speaker", "gender", "session")
    for suffix in ("parquet", "jsonl"):
        write_table(folder / f"metadata.{suffix}", rows, header)
        dataset = load()
        assert dataset["speaker_id"][:] == ["own/7", "own/8", "own/8.5"]
        assert dataset["session_id"][:] == ["own/3", None, "own/4"]
        (folder / f"metadata.{suffix}").unlink()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("metadata.csv", b"", "it is empty"),
        ("metadata.csv", "file_name,emotion,speaker_id\na.wav,x,é\n".encode("latin-1"), "save it as UTF-8"),
        ("metadata.csv", "file_name,emotion,speaker_id\na.wav,x,1\n".encode("utf-16")[:-1], "save it as UTF-8"),
        ("metadata.csv", b'file_name,"' + b"x" * 200_000, "field larger than field limit"),
        ("metadata.jsonl", b'{"file_name": "a.wav"', "Expecting"),
        ("metadata.jsonl", b'{"file_name": "a.wav"}\n3\n', "a line is not an object"),
        ("metadata.jsonl", b"[" * 100_000, "recursion"),
        ("metadata.parquet", b"PAR1 nothing PAR1", "cannot be read"),
        ("sub/Metadata.TSV", b"x\ty\n", "has no column for the audio"),
    ],
)
def test_tables_that_cannot_be_read(folder, refusal, name, content, reason):
    (folder / name).write_bytes(content)
    message = refusal()
    assert message.startswith(str(folder / name)) and reason in message


# ---------------------------------------------------------------------------------------------------------------------
# Columns


def test_columns_that_the_user_names(folder, load, refusal):
    header = ("clip", "mood", "who", "speaker", "emotion")
    write_table(folder / "metadata.csv", [("a.wav", "glad", "x", "y", "sad")], header)
    assert "no column for the audio: looked for audio, file_name, " in refusal()
    assert refusal().endswith("found clip, mood, who, speaker, emotion; name it with --audio_column_name.")
    assert load(columns={"audio": "clip"})["speaker_id"][:] == ["own/y"]
    dataset = load(columns={"audio": "clip", "speaker": "who", "label": "mood", "gender": None})
    assert (dataset["speaker_id"][:], dataset["source_label"][:]) == (["own/x"], ["glad"])
    for kind in COLUMNS:  # one that is named must be there, needed or not, and to the letter
        message = refusal(columns={"audio": "clip"} | {kind: "Clip"})
        assert f"no column for the {kind}: looked for Clip, found clip, mood" in message
        assert f"name it with --{kind}_column_name" in message


def test_columns_that_may_be_several(folder, refusal, load):
    header = ("file_name", "emotion", "speaker", "Speaker_ID ", "sex", "gender")
    write_table(folder / "metadata.csv", [("a.wav", "sad", "x", "y", "f", "m")], header)
    assert "several columns may be the speaker: speaker, Speaker_ID ; choose with --speaker_column_name" in refusal()
    assert "several columns may be the gender: sex, gender" in refusal(columns={"speaker": "speaker"})
    dataset = load(columns={"speaker": "Speaker_ID ", "gender": "sex"})
    assert (dataset["speaker_id"][:], dataset["gender"][:]) == (["own/y"], [0])
    write_table(folder / "metadata.csv", [("a.wav", "sad", "x", "y")], ("file_name", "emotion", "speaker", "speaker"))
    assert "several columns may be the speaker: speaker, speaker" in refusal()


def test_why_speakers_are_needed(folder, refusal):
    write_table(folder / "metadata.csv", header=("file_name", "emotion", "who", "gender"))
    message = refusal()
    assert "no column for the speaker: looked for speaker_id, speaker, spk_id, spk, found file_name" in message
    assert "name it with --speaker_column_name. Without speakers no test speaker can be kept out" in message
    (folder / "metadata.csv").unlink()
    for pattern in (None, "(?P<gender>[fm])"):
        message = refusal(file_pattern=pattern)
        assert f"{folder} has no metadata.csv, .tsv, .jsonl or .parquet, and no --file_pattern with a group" in message
        assert "Without speakers no test speaker can be kept out" in message


def test_pattern_beside_a_table(folder, load, refusal):
    write_table(folder / "metadata.csv", [("a.wav",), ("sub/b.wav",), ("sub/c.flac.wav",)], ("file_name",))
    dataset = load(file_pattern=r"(?P<emotion>.)(?P<speaker>\.)")
    assert dataset["speaker_id"][:] == ["own/."] * 3
    assert dataset["source_label"][:] == ["a", "b", "c"]
    assert "no column for the speaker" in refusal(file_pattern="(?P<emotion>.)")
    assert "no column for the label" in refusal(file_pattern="(?P<speaker>.)")
    message = refusal(file_pattern="sub/(?P<emotion>.)(?P<speaker>.)")
    assert "a.wav: no label and no speaker is given" in message and "sub/b.wav:" not in message


def test_find_columns():
    assert find_columns(["FILE", "Label", "spk", "x"], None, "t") == {
        "audio": "FILE",
        "label": "Label",
        "speaker": "spk",
    }
    assert find_columns(["FILE"], {}, "t", known={"label", "speaker"}) == {"audio": "FILE"}
    with pytest.raises(CorpusError, match="t has no column for the label: .* found 0, file; name it with --label_col"):
        find_columns([0, "file"], None, "t")


# ---------------------------------------------------------------------------------------------------------------------
# Rows that cannot be used


def test_rows_without_speaker_or_label_are_listed_together(folder, refusal, load):
    rows = [("a.wav", "", " ", "f"), ("sub/b.wav", "sad", "", "f"), ("sub/c.flac.wav", "sad", "x/y", "f")]
    write_table(folder / "metadata.csv", rows)
    write_clips(folder, "d.wav")
    write_table(folder / "metadata.csv", [*rows, ("d.wav", "sad", "1", ""), ("gone.wav", "boredom", "1", "")])
    message = refusal()
    assert message.startswith(f"4 audio files of own in {folder} cannot be used")
    reasons = [
        "a.wav: no label and no speaker is given",
        "sub/b.wav: no speaker is given",
        "sub/c.flac.wav: its speaker 'x/y' holds a '/'",
        "gone.wav: listed, but not there",
    ]
    assert [line.strip() for line in message.splitlines()[1:5]] == reasons
    loaded = load_corpora(["own"], [folder], cache_dir=folder.parent / "cache", skip_bad_files=True)
    assert loaded.left_out_files == reasons
    assert loaded.dataset["utterance_id"][:] == ["own/d"]
    assert loaded.dataset.features["emotion"].names == ["sadness"]  # what is left out adds no class
    assert loaded.counts_before == loaded.counts_after == {"own": {"sadness": 1}}


def test_files_that_are_not_there(folder, refusal):
    (folder / "d.m4a").write_bytes(b"x")
    write_table(folder / "metadata.csv", [*ROWS, ("d.m4a", "sad", "1", ""), ("sub/B.wav", "sad", "1", "")])
    message = refusal()
    assert "d.m4a: listed, but no audio" in message and "sub/B.wav: listed, but not there" in message
    assert "a.wav:" not in message
    write_table(folder / "metadata.csv", [("wavs/a.wav", "sad", "1", ""), ("a", "sad", "1", "")])
    message = refusal()
    assert message.startswith(f"no file that the metadata of {folder} lists can be used; paths go from the folder of")
    assert "wavs/a.wav: listed, but not there" in message and "  a: listed" in message
    # Audio that lies outside of the folder is none of it.
    shutil.copy(folder / "a.wav", folder.parent / "outside.wav")
    for name in ("../outside.wav", "sub/../../outside.wav", str(folder.parent / "outside.wav")):
        write_table(folder / "metadata.csv", [ROWS[0], (name, "sad", "1", "")])
        assert f"{folder.parent / 'outside.wav'}: listed, but outside of {folder}; link it into that" in refusal()
    write_table(folder / "metadata.csv", [ROWS[0], ("", "sad", "1", "")])
    assert refusal() == f"{folder / 'metadata.csv'}, row 2: no file in column file_name"


def test_paths_of_other_machines(folder, load, refusal, tmp_path):
    """Through other links, with the separators of Windows, with spaces around or inside."""
    write_clips(folder, " d.wav")
    (tmp_path / "elsewhere").mkdir()
    write_clips(tmp_path / "elsewhere", "e.wav")
    (folder / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(folder)
    names = [
        str(folder / "a.wav"),
        " sub\\b.wav ",
        ".\\sub\\c.flac.wav",
        " d.wav",
        str(tmp_path / "elsewhere" / "e.wav"),
    ]
    write_table(folder / "metadata.csv", [(name, "sad", "1", "f") for name in names])
    expected = ["own/ d", "own/a", "own/more/e", "own/sub/b", "own/sub/c.flac"]
    for data_dir in (folder, tmp_path / "link"):
        assert load(data_dir)["utterance_id"][:] == expected
    write_table(folder / "metadata.csv", [ROWS[0], (str(folder / "gone.wav"), "sad", "1", "f")])
    assert "\n  gone.wav: listed, but not there\n" in refusal(tmp_path / "link")
    # A name with a backslash is found before a folder.
    write_clips(folder, "sub\\b.wav")
    write_table(folder / "metadata.csv", [("sub\\b.wav", "sad", "1", "f")])
    assert load()["utterance_id"][:] == ["own/sub\\b"]


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_accents_as_macos_writes_them(tmp_path, load, on_disk, in_table):
    on_disk, in_table = (
        {word: unicodedata.normalize(form, word) for word in ("Colère", "Zoë")} for form in (on_disk, in_table)
    )
    data = tmp_path / "accents"
    write_clips(data, f"{on_disk['Colère']}/{on_disk['Zoë']}_1.wav", f"{on_disk['Colère']}/{on_disk['Zoë']}_2.wav")
    rows = [(f"{in_table['Colère']}/{in_table['Zoë']}_1.wav", in_table["Colère"], in_table["Zoë"], "")]
    rows += [(f"{on_disk['Colère']}/{on_disk['Zoë']}_2.wav", "Colère", "Zoë", "f")]
    write_table(data / "metadata.csv", rows)
    tables = load(data)
    (data / "metadata.csv").unlink()
    folders = load(data, file_pattern="(?P<speaker>Zoë)")
    for dataset in (tables, folders):
        assert dataset.features["emotion"].names == ["anger"] and dataset["source_label"][:] == ["Colère"] * 2
        assert dataset["speaker_id"][:] == ["own/Zoë"] * 2
        assert [Path(audio["path"]).parent.name for audio in dataset["audio"]] == [on_disk["Colère"]] * 2


def test_the_same_bad_row_twice(folder, refusal):
    write_table(folder / "metadata.csv", [ROWS[0], ("sub/b.wav", "", "1", ""), ("sub/b.wav", "", "1", "")])
    assert "1 audio files of own" in refusal() and "sub/b.wav: no label is given" in refusal()


def test_unlisted_audio_is_left_out_with_a_word(folder, load, caplog):
    write_table(folder / "metadata.csv", ROWS[:1])
    with caplog.at_level(logging.INFO, logger="dataset_scripts.schema"):
        assert load()["utterance_id"][:] == ["own/a"]
    assert "own: 2 files left out (not listed in the metadata), e.g. sub/b.wav" in caplog.text


def test_a_speaker_of_two_genders(folder, refusal, load):
    write_table(folder / "metadata.csv", [("a.wav", "sad", "1", "f"), ("sub/b.wav", "sad", "1", "m")])
    assert refusal() == (
        f"{folder}: these speakers have more than one gender; correct their rows, or give two people two names:\n"
        "  speaker '1' is female in a.wav and male in sub/b.wav"
    )
    # But nobody knows who the others are.
    write_table(folder / "metadata.csv", [("a.wav", "sad", "others", "f"), ("sub/b.wav", "sad", "others", "m")])
    assert load()["gender"][:] == [0, 1]


def test_a_missing_gender_is_that_of_the_speakers_other_files(folder, load):
    write_clips(folder, "d.wav", "e.wav")
    rows = [("a.wav", "sad", "1", ""), ("sub/b.wav", "sad", "1", "m"), ("sub/c.flac.wav", "sad", "2", "NA")]
    rows += [("d.wav", "sad", "others", "f"), ("e.wav", "sad", "others", "")]
    write_table(folder / "metadata.csv", rows)
    dataset = load()
    assert dataset["utterance_id"][:] == ["own/a", "own/d", "own/e", "own/sub/b", "own/sub/c.flac"]
    assert dataset["gender"][:] == [1, 0, None, 1, None]


def test_text_that_is_not_unicode(folder, refusal):
    record = {"file_name": "a.wav", "emotion": "sad", "speaker": "\ud800"}
    write_table(folder / "metadata.jsonl", [("sub/b.wav", "sad", "1")], ("file_name", "emotion", "speaker"))
    with open(folder / "metadata.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(record))
    assert "a.wav: what is said of it is not valid UTF-8" in refusal()


# ---------------------------------------------------------------------------------------------------------------------
# Words


@pytest.mark.parametrize(
    ("words", "names", "values"),
    [
        (["F", "w", "Woman", " female "], ["female"], [0, 0, 0, 0]),
        (["m", "Male", "MEN", ""], ["male"], [0, 0, 0, None]),
        (["m", "W", "", "man"], ["female", "male"], [1, 0, None, 1]),
        (["", "", " ", ""], ["female", "male"], [None] * 4),
        (["nonbinary", "f", "Agender", ""], ["female", "Agender", "nonbinary"], [2, 0, 1, None]),
        (["x", "x", "y", "m"], ["male", "x", "y"], [1, 1, 2, 0]),
        (["Agender", "agender", "AGENDER", "f"], ["female", "agender"], [1, 1, 1, 0]),
        (["NA", "nan", "Unknown", "n/a"], ["female", "male"], [None] * 4),
        (["none", "NULL", "-", "?"], ["female", "male"], [None] * 4),
    ],
)
def test_gender_words(tmp_path, load, words, names, values):
    data = tmp_path / "genders"
    write_clips(data, *(f"{number}.wav" for number in range(4)))
    write_table(data / "metadata.csv", [(f"{n}.wav", "sad", f"s{n}", word) for n, word in enumerate(words)])
    dataset = load(data)
    assert dataset.features["gender"].names == names
    assert dataset["gender"][:] == values


def test_labels_nobody_knows_stay(folder, load):
    rows = [
        ("a.wav", "Schadenfreude", "1", ""),
        ("sub/b.wav", "boredem", "1", ""),
        ("sub/c.flac.wav", "日本", "1", ""),
    ]
    write_table(folder / "metadata.csv", rows)
    dataset = load()
    assert dataset.features["emotion"].names == ["boredom", "Schadenfreude", "日本"]
    assert dataset["emotion"][:] == [1, 0, 2]
    assert dataset["source_label"][:] == ["Schadenfreude", "boredem", "日本"]


def test_upper_and_lower_case_make_one_class(folder, load):
    words = ["STRESSED", "stressed", "Stressed"]
    names = ["a.wav", "sub/b.wav", "sub/c.flac.wav"]
    for _ in range(3):  # whichever comes first
        words = words[1:] + words[:1]
        write_table(folder / "metadata.csv", [(name, word, "1", "") for name, word in zip(names, words)])
        dataset = load()
        assert dataset.features["emotion"].names == ["stressed"] and dataset["source_label"][:] == words
    write_table(folder / "metadata.csv", [(name, word, "1", "") for name, word in zip(names, words[1:] + ["calm"])])
    label_map = folder.parent / "map.yaml"
    label_map.write_text("STRESSED: Tense\ncalm: tense\n")
    assert load_corpora(["own"], [folder], cache_dir=folder.parent / "cache", label_map=label_map).counts_after == {
        "own": {"tense": 3}
    }


# ---------------------------------------------------------------------------------------------------------------------
# A folder for each emotion


@pytest.fixture
def tree(tmp_path):
    data = tmp_path / "tree"
    write_clips(data, "angry/spk1_f.wav", "angry/spk2_m.wav", "sad/spk1_f.wav", "sad/take/calm/spk2_m.WAV")
    return data


def test_folder_for_each_emotion(tree, load):
    for name in (".DS_Store", "._spk9_f.wav", ".hidden/spk9_f.wav", "angry/._spk1_f.wav", "readme.txt"):
        path = tree / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (tree / "sad" / "loop").symlink_to(tree)
    dataset = load(tree, file_pattern=r"(?P<speaker>spk\d)_(?P<gender>[fm])")
    assert dataset.remove_columns(["audio", "duration_s", "corpus", "language", "session_id", "text_id"])[:] == {
        # The same stem in two folders is two utterances.
        "utterance_id": ["own/angry/spk1_f", "own/angry/spk2_m", "own/sad/spk1_f", "own/sad/take/calm/spk2_m"],
        "speaker_id": ["own/spk1", "own/spk2", "own/spk1", "own/spk2"],
        "gender": [0, 1, 0, 1],
        "emotion": [2, 2, 1, 0],
        "source_label": ["angry", "angry", "sad", "calm"],
    }
    assert dataset.features["emotion"].names == ["calm", "sadness", "anger"]


def test_groups_of_a_pattern(tree, load):
    pattern = (
        r"^(?P<emotion>\w+)/.*(?P<speaker>spk(?P<session>\d))_(?P<text>.)(?P<gender>nothing)?.*(?P<language>[Ww])"
    )
    dataset = load(tree, file_pattern=pattern, language="en")
    assert dataset["source_label"][:] == ["angry", "angry", "sad", "sad"]
    assert dataset["session_id"][:] == ["own/1", "own/2", "own/1", "own/2"]
    assert dataset["text_id"][:] == ["f", "m", "f", "m"]
    assert dataset["gender"][:] == [None] * 4
    assert dataset["language"][:] == ["w", "w", "w", "W"]


def test_files_that_a_pattern_does_not_match_are_listed(tree, refusal, load):
    write_clips(tree, "angry/other.wav", "spk3_f.wav", "sad/spk_f.wav")
    message = refusal(tree, file_pattern=SPEAKER)
    assert message.startswith(f"3 audio files of own in {tree} cannot be used")
    for name in ("angry/other.wav", "sad/spk_f.wav"):
        assert rf"{name}: --file_pattern '(?P<speaker>spk\\d+)' does not match" in message
    assert "spk3_f.wav: no label is given" in message  # it lies in no folder
    assert "own/angry/other" not in load(tree, file_pattern=SPEAKER, skip_bad_files=True)["utterance_id"]
    # A group that takes nothing tells no speaker.
    assert "angry/other.wav: no speaker is given" in refusal(tree, file_pattern=r"(?P<speaker>spk\d*)?[fmr]\.")


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(?P<speaker>", "is no regular expression: missing ), unterminated subpattern"),
        ("(?P<speaker>a{99999999999999999999})", "is no regular expression"),
        ("(" * 5000, "is no regular expression"),
        (
            r"(spk\d)",
            "needs named groups like (?P<speaker>...); known are emotion, gender, language, session, speaker",
        ),
        (r"(?P<speaker>.)(?P<age>.)", "needs named groups"),
        (r"(?P<label>.)(?P<speaker>.)", "needs named groups"),
        ("", "needs named groups"),
    ],
)
def test_bad_patterns(tree, refusal, pattern, reason):
    assert reason in refusal(tree, file_pattern=pattern)


def test_folder_that_is_not_utf8(tree, refusal):
    os.rename(tree / "sad", os.fsencode(tree) + b"/tr\xe9s")
    message = refusal(tree, file_pattern=SPEAKER)
    assert "tr?s/spk1_f.wav" in message and "not valid UTF-8" in message and "angry" not in message


# ---------------------------------------------------------------------------------------------------------------------
# Names, caches


@pytest.mark.parametrize("name", ["", "a/b", "..", ".x", "a b", "-", "emodb", "demo", "a\n"])
def test_bad_corpus_names(folder, refusal, name):
    write_table(folder / "metadata.csv")
    assert f"corpus_name {name!r} must be letters, digits" in refusal(corpus_name=name)
    with pytest.raises(CorpusError, match="corpus_name .* must be letters"):
        load_dataset_rows("nowhere.parquet", corpus_name=name)


def test_good_corpus_names(folder, load):
    write_table(folder / "metadata.csv", ROWS[:1])
    for name in ("own", "Übung-2.1_b", "7"):
        assert load(corpus_name=name)["speaker_id"][:] == [f"{name}/007"]
    assert "own" in CORPORA


def test_cache_notices_another_table(folder, load, tmp_path):
    write_table(folder / "metadata.csv")
    first = load()
    assert load()._fingerprint == first._fingerprint
    write_table(folder / "metadata.csv", [("a.wav", "happy", "007", "F"), ROWS[1]])  # as long as before
    os.utime(folder / "metadata.csv", ns=(1, 1))
    assert load()["source_label"][:] == ["happy", "Sad"]
    write_table(folder / "sub" / "metadata.csv", [("c.flac.wav", "x", "9", "")])
    assert load()["source_label"][:] == ["happy", "Sad", "x"]
    # What the user says of the columns is part of it, too.
    (folder / "sub" / "metadata.csv").unlink()
    assert load(columns={"label": "gender", "gender": "emotion"})["source_label"][:] == ["F", "male"]
    assert load(language="de")["language"][:] == ["de", "de"]
    assert load()["source_label"][:] == ["happy", "Sad"]


def test_parse_only_what_lies_there(folder):
    write_table(folder / "metadata.csv", ROWS[:1])
    builder = OwnCorpusBuilder(data_dir=folder, cache_dir=folder.parent / "cache")
    assert builder.parse(PurePosixPath("a.wav"))["speaker"] == "007"
    assert builder.parse(PurePosixPath("sub/b.wav")) is None
    assert builder.utterance_name(PurePosixPath("sub/c.flac.wav")) == "sub/c.flac"


# ---------------------------------------------------------------------------------------------------------------------
# Anything goes in, rows or a CorpusError come out

CELL = st.one_of(
    st.sampled_from(["", " ", "a.wav", "b.wav", "x/a.wav", "sad", "f", "1", "/", "..", "\0", '"', "\r", "others"]),
    st.text(max_size=5),
)
NAME = st.text(st.sampled_from("ab1_. -é日"), min_size=1, max_size=4).filter(lambda name: name not in (".", ".."))


def holds_or_is_refused(data_dir, cache_dir, **options):
    """Load the folder; a crash other than CorpusError fails the test."""
    try:
        loaded = load_corpora(["own"], [data_dir], cache_dir=cache_dir, **options)
    except CorpusError as error:
        assert str(error)
        return None
    validate(loaded.dataset)
    return loaded.dataset


@pytest.fixture
def fresh(tmp_path):
    """Empties a folder before each example."""

    def make():
        shutil.rmtree(tmp_path / "fresh", ignore_errors=True)
        (tmp_path / "fresh" / "data").mkdir(parents=True)
        return tmp_path / "fresh" / "data"

    return make


@QUICK
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["a.wav", "./b.wav"]) | CELL, st.lists(CELL, min_size=2, max_size=5)),
        max_size=3,
        unique_by=lambda row: row[0],
    ),
    more=st.permutations(["gender", "session", "lang", "", "x"]),
    suffix=st.sampled_from(["csv", "tsv", "jsonl"]),
    skip=st.booleans(),
)
def test_any_table(fresh, rows, more, suffix, skip):
    data = fresh()
    for name in ("a.wav", "b.wav"):
        (data / name).write_bytes(CLIP)
    rows = [(file, *cells) for file, cells in rows]
    write_table(data / f"metadata.{suffix}", rows, ["file_name", "emotion", "speaker", *more])
    dataset = holds_or_is_refused(data, data.parent / "cache", skip_bad_files=skip)
    assert dataset is None or {*dataset["utterance_id"]} <= {"own/a", "own/b"}


@QUICK
@given(content=st.binary(max_size=60), suffix=st.sampled_from(["csv", "tsv", "jsonl", "parquet"]))
def test_any_bytes_as_a_table(fresh, content, suffix):
    data = fresh()
    (data / "a.wav").write_bytes(CLIP)
    (data / f"metadata.{suffix}").write_bytes(content)
    assert holds_or_is_refused(data, data.parent / "cache") is None


@QUICK
@given(
    paths=st.lists(st.lists(NAME, min_size=1, max_size=3), min_size=1, max_size=4),
    pattern=st.sampled_from(
        [r"(?P<speaker>[^/]+)", r"(?P<speaker>\w)(?P<gender>.)?", r"(?P<emotion>.).*(?P<speaker>.)"]
    ),
    skip=st.booleans(),
)
def test_any_tree(fresh, paths, pattern, skip):
    data = fresh()
    for parts in paths:
        path = data.joinpath(*parts).with_name(f"{parts[-1]}.wav")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            continue
        path.write_bytes(CLIP)
    dataset = holds_or_is_refused(data, data.parent / "cache", file_pattern=pattern, skip_bad_files=skip)
    if dataset is not None:
        for row in dataset:
            relative = Path(row["audio"]["path"]).relative_to(data).as_posix()
            assert row["utterance_id"] == f"own/{relative.removesuffix('.wav')}"
            assert row["speaker_id"] == f"own/{re.search(pattern, relative)['speaker'].strip()}"


@QUICK
@given(pattern=st.text(st.sampled_from("()[]{}?P<speaker>|*+.\\d19-^$:=!"), max_size=25))
def test_any_pattern(tree, tmp_path, pattern):
    for written in (pattern, f"(?P<speaker>{pattern})"):
        dataset = holds_or_is_refused(tree, tmp_path / "cache", file_pattern=written)
        # What is taken is a regular expression that names the speaker of every clip.
        for row in dataset or ():
            relative = Path(row["audio"]["path"]).relative_to(tree).as_posix()
            assert row["speaker_id"] == f"own/{re.search(written, relative)['speaker'].strip()}"


# ---------------------------------------------------------------------------------------------------------------------
# Datasets


def dataset_of(columns, audio_column="audio", **features):
    """A dataset with these columns and clips of 0.1, 0.2, ... s; columns are text, but for those in `features`."""
    number = len(next(iter(columns.values())))
    audio = [{"bytes": wav_bytes(0.1 * (n + 1)), "path": f"clip{n}.wav"} for n in range(number)]
    plain = datasets.Features(
        {
            **{name: features.get(name, datasets.Value("string")) for name in columns},
            audio_column: {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
        }
    )
    dataset = datasets.Dataset.from_dict({**columns, audio_column: audio}, features=plain)
    return dataset.cast_column(audio_column, datasets.Audio(decode=False))


TWO = {"emotion": ["happy", "glad"], "speaker": ["1", "2"], "gender": ["M", ""]}


@pytest.fixture
def rows_of(tmp_path):
    def call(dataset, **options):
        dataset.to_parquet(tmp_path / "rows.parquet")
        return load_dataset_rows(str(tmp_path / "rows.parquet"), cache_dir=tmp_path / "cache", **options)

    return call


def test_parquet_file(rows_of):
    dataset, left_out = rows_of(dataset_of(TWO), corpus_name="mine", language="en")
    assert left_out == []
    assert dataset.features["audio"] == datasets.Audio(sampling_rate=16000, decode=False)
    assert dataset[:] == {
        "utterance_id": ["mine/000000_clip0", "mine/000001_clip1"],
        "audio": [{"bytes": wav_bytes(0.1 * (n + 1)), "path": f"clip{n}.wav"} for n in range(2)],
        "corpus": ["mine", "mine"],
        "language": ["en", "en"],
        "speaker_id": ["mine/1", "mine/2"],
        "session_id": [None, None],
        "gender": [0, None],
        "emotion": [0, 1],
        "source_label": ["happy", "glad"],
        "text_id": [None, None],
        "duration_s": [0.1, 0.2],
    }
    assert dataset.features["emotion"].names == ["happiness", "glad"]
    assert dataset.features["gender"].names == ["male"]


def test_genders_of_a_dataset(rows_of):
    columns = {"emotion": ["Stressed", "stressed", "sad"], "speaker": ["1", "1", "2"], "gender": ["", "f", "NA"]}
    dataset, _ = rows_of(dataset_of(columns))
    assert dataset["gender"][:] == [0, 0, None] and dataset.features["gender"].names == ["female"]
    assert dataset.features["emotion"].names == ["sadness", "stressed"] and dataset["emotion"][:] == [1, 1, 0]
    with pytest.raises(CorpusError, match="rows.parquet: .*\n  speaker '1' is male in row 0 and female in row 1$"):
        rows_of(dataset_of({**columns, "gender": ["m", "f", ""]}))


def test_class_labels_and_numbers(rows_of):
    dataset, _ = rows_of(
        dataset_of(
            {
                "label": [1, 0, 1],
                "spk_id": [7, 8, 9],
                "sex": [0, None, -1],
                "session": [1, 2, 1],
                "lang": ["de", "", None],
            },
            "wav",
            label=datasets.ClassLabel(names=["sad", "neutral"]),
            spk_id=datasets.Value("int64"),
            sex=datasets.ClassLabel(names=["F", "M"]),
            session=datasets.Value("int32"),
        ),
        language="fr",
    )
    assert dataset["speaker_id"][:] == ["own/7", "own/8", "own/9"]
    assert dataset.features["emotion"].names == ["neutral", "sadness"]
    assert dataset["emotion"][:] == [0, 1, 0]
    assert dataset["source_label"][:] == ["neutral", "sad", "neutral"]
    assert dataset["gender"][:] == [0, None, None]  # -1 is what datasets of the Hub say for unknown
    assert dataset["session_id"][:] == ["own/1", "own/2", "own/1"]
    assert dataset["language"][:] == ["de", "fr", "fr"]


def test_the_only_audio_column_is_the_audio(rows_of):
    # "file" and "path" are names that audio goes by, too; the feature tells.
    dataset, _ = rows_of(dataset_of({**TWO, "file": ["x", "y"], "path": ["x", "y"]}, "recording"))
    assert dataset["duration_s"][:] == [0.1, 0.2]
    with pytest.raises(CorpusError, match="column file holds paths or names, not audio.*--corpus own --data_dir DIR"):
        rows_of(dataset_of({**TWO, "file": ["x", "y"]}, "recording"), columns={"audio": "file"})
    with pytest.raises(CorpusError, match="column n holds no audio"):
        rows_of(dataset_of({**TWO, "n": [1, 2]}, "recording", n=datasets.Value("int64")), columns={"audio": "n"})


def test_splits_are_joined(tmp_path):
    folder = tmp_path / "hub"
    folder.mkdir()
    for split, speaker in (("train", "1"), ("test", "2")):
        dataset_of({"emotion": ["x", "y"], "speaker": [speaker] * 2}).to_parquet(folder / f"{split}.parquet")
    dataset, _ = load_dataset_rows(str(folder), cache_dir=tmp_path / "cache")
    # In the order of their names: test, train.
    assert dataset["speaker_id"][:] == ["own/2", "own/2", "own/1", "own/1"]
    assert dataset["utterance_id"][:] == [f"own/00000{n}_clip{n % 2}" for n in range(4)]


def test_published_rows_are_taken_as_they_are(rows_of, folder, tmp_path):
    write_table(folder / "metadata.csv", [("a.wav", "zeal", "1", "x"), ("sub/b.wav", "sad", "2", "f")])
    own = load_corpus("own", folder, cache_dir=tmp_path / "cache", corpus_name="mine", language="de")
    embedded = own.map(lambda row: {"audio": {"bytes": Path(row["audio"]["path"]).read_bytes(), "path": "c.wav"}})
    back, left_out = rows_of(embedded.select([1, 0]), corpus_name="other", language="en")
    assert left_out == [] and back.features == own.features
    assert back.remove_columns("audio")[:] == own.remove_columns("audio")[:]
    assert back[0]["audio"] == {"bytes": wav_bytes(0.1), "path": "c.wav"}
    with pytest.raises(CorpusError, match="utterance_id occurs more than once"):
        rows_of(embedded.select([0, 0]))


def test_missing_columns(rows_of):
    for name, kind in (("emotion", "label"), ("speaker", "speaker")):
        with pytest.raises(CorpusError, match=f"no column for the {kind}: .* name it with --{kind}_column_name"):
            rows_of(dataset_of({key: value for key, value in TWO.items() if key != name}))
    with pytest.raises(CorpusError, match="Without speakers no test speaker can be kept out"):
        rows_of(dataset_of({"emotion": ["x", "y"]}))
    with pytest.raises(CorpusError, match="no column for the speaker: looked for who, found"):
        rows_of(dataset_of(TWO), columns={"speaker": "who"})
    dataset, _ = rows_of(dataset_of({**TWO, "who": ["x", "y"]}), columns={"speaker": "who"})
    assert dataset["speaker_id"][:] == ["own/x", "own/y"]


def test_rows_that_cannot_be_used(rows_of):
    good = dataset_of({"emotion": ["sad", "", "sad", "sad", "sad"], "speaker": ["1", "1", None, "2", "3"]})
    features = good.features
    rows = good.to_list()
    rows[3]["audio"] = {"bytes": b"no sound", "path": "bad.wav"}
    rows[4]["audio"] = None
    bad = datasets.Dataset.from_list(rows, features=row_audio(features)).cast_column("audio", features["audio"])
    with pytest.raises(CorpusError) as error:
        rows_of(bad)
    message = str(error.value)
    assert message.startswith("4 rows of ") and "row 1: no label is given" in message
    assert "row 2: no speaker is given" in message and "row 3: bad.wav: not readable as audio" in message
    assert "row 4: audio has neither bytes nor a path" in message
    dataset, left_out = rows_of(bad, skip_bad_files=True)
    assert [line.split(":")[0] for line in left_out] == ["row 1", "row 2", "row 3", "row 4"]
    assert dataset["utterance_id"][:] == ["own/000000_clip0"] and dataset[0]["audio"]["bytes"] == wav_bytes(0.1)
    with pytest.raises(CorpusError, match="4 rows of"):
        rows_of(bad.select(range(1, 5)), skip_bad_files=True)
    with pytest.raises(CorpusError, match="cannot be loaded"):
        rows_of(good.select([]))


def row_audio(features):
    """The same features with the audio as a plain struct, whose rows nothing encodes."""
    return datasets.Features({**features, "audio": row_features(["x"])["audio"]})


def test_dataset_that_cannot_be_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    (tmp_path / "bad.parquet").write_bytes(b"garbage")
    (tmp_path / "empty").mkdir()
    for name in ("nobody/nothing", tmp_path / "bad.parquet", tmp_path / "empty", ""):
        with pytest.raises(CorpusError, match="--dataset_name .* cannot be loaded: "):
            load_dataset_rows(str(name), cache_dir=tmp_path / "cache")


def test_a_dataset_of_audio_files(folder, tmp_path, monkeypatch):
    """`datasets` needs torchcodec for them and says so in the cause of its error only."""
    monkeypatch.setitem(sys.modules, "torchcodec.encoders", None)
    write_table(folder / "metadata.csv")

    def message(name):
        with pytest.raises(CorpusError) as error:
            load_dataset_rows(name, cache_dir=tmp_path / "cache")
        return str(error.value)

    said = message(str(folder))
    assert said.startswith(f"--dataset_name {folder} cannot be loaded: ImportError: To support encoding audio data, ")
    assert said.endswith(f"Without torchcodec, read it by --corpus own --data_dir {folder}")
    load_dataset = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda path, **options: load_dataset(str(folder), **options))
    fetch = "fetch it (hf download me/clips --repo-type dataset --local-dir DIR)"
    assert message("me/clips").endswith(f"torchcodec, {fetch} and read it by --corpus own --data_dir DIR")
