"""The row schema, the builder base on small fake trees, and reading audio."""

import io
import logging
import os
import shutil
import sys
from pathlib import PurePath

import datasets
import numpy as np
import pytest
import soundfile

from dataset_scripts import CORPORA, load_corpus, schema
from dataset_scripts.schema import (
    EMOTIONS,
    GENDERS,
    CorpusBuilder,
    CorpusError,
    find_files,
    read_audio,
    row_features,
    validate,
)


class TinyBuilder(CorpusBuilder):
    """Names are SPEAKER_EMOTION_TAKE; speaker x is of unknown gender, take 0 does not belong."""

    corpus = "tiny"
    language = "en"
    emotions = ("neutral", "anger")
    license = "none"
    citation = "nobody"
    homepage = "https://example.org"
    how_to_obtain = "Ask for tiny.zip."
    name_pattern = "SPEAKER_EMOTION_TAKE, e.g. a_anger_1.wav"
    left_out = "rehearsals"
    parsed = 0

    def parse(self, path: PurePath) -> dict | None:
        type(self).parsed += 1
        parts = path.stem.split("_")
        if len(parts) != 3 or parts[1] not in self.emotions:
            raise CorpusError("not three parts")
        if parts[2] == "0":
            return None
        gender = {"a": "female", "b": "male"}.get(parts[0])
        return {"speaker": parts[0], "gender": gender, "emotion": parts[1], "source_label": parts[1][:3].upper()}


def write_clip(path, seconds=0.1, sampling_rate=8000, value=0.25):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(round(seconds * sampling_rate), value), sampling_rate)


def load(data_dir, cache_dir, builder_class=TinyBuilder):
    builder = builder_class(data_dir=data_dir, cache_dir=cache_dir)
    builder.download_and_prepare()
    return builder.as_dataset(split="train")


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def cache_dir(tmp_path):
    return tmp_path / "cache"


def test_rows_follow_the_schema(data_dir, cache_dir):
    write_clip(data_dir / "x_neutral_1.wav", seconds=0.5)
    write_clip(data_dir / "a_anger_1.wav", seconds=0.25, sampling_rate=16000)
    dataset = load(data_dir, cache_dir)
    assert dataset[:] == {
        "utterance_id": ["tiny/a_anger_1", "tiny/x_neutral_1"],
        "audio": [{"bytes": None, "path": str(data_dir / f"{stem}.wav")} for stem in ("a_anger_1", "x_neutral_1")],
        "corpus": ["tiny", "tiny"],
        "language": ["en", "en"],
        "speaker_id": ["tiny/a", "tiny/x"],
        "session_id": [None, None],
        "gender": [GENDERS.index("female"), None],
        "emotion": [1, 0],
        "source_label": ["ANG", "NEU"],
        "text_id": [None, None],
        "duration_s": [0.25, 0.5],
    }
    assert dataset.features["emotion"].names == ["neutral", "anger"]
    assert dataset.features["audio"] == datasets.Audio(sampling_rate=16000, decode=False)


def test_order_does_not_depend_on_the_folders(data_dir, cache_dir):
    write_clip(data_dir / "two" / "a_anger_1.wav")
    write_clip(data_dir / "one" / "deep" / "b_anger_1.wav")
    write_clip(data_dir / "a_neutral_1.wav")
    expected = ["tiny/a_anger_1", "tiny/a_neutral_1", "tiny/b_anger_1"]
    assert list(load(data_dir, cache_dir)["utterance_id"]) == expected
    shutil.move(data_dir, data_dir.parent / "parent" / "data")
    assert list(load(data_dir.parent / "parent", cache_dir)["utterance_id"]) == expected


def test_suffixes_hidden_files_and_loops(data_dir):
    for name in ("a_anger_1.WAV", "a_anger_2.flac", "sub/a_anger_3.Ogg", "sub/a_anger_4.mp3", "a_anger_5.aiff"):
        write_clip(data_dir / name, sampling_rate=16000)
    for name in ("._a_anger_6.wav", ".DS_Store", ".hidden/a_anger_7.wav", "readme.txt", "notes"):
        path = data_dir / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (data_dir / "sub" / "loop").symlink_to(data_dir)
    (data_dir / "sub" / "self").symlink_to("self")
    files, tables, others = find_files(str(data_dir), metadata=r"(.*/)?README\.txt")
    assert [file.relative for file in files] == [
        "a_anger_1.WAV",
        "a_anger_2.flac",
        "a_anger_5.aiff",
        "sub/a_anger_3.Ogg",
        "sub/a_anger_4.mp3",
    ]
    assert [file.relative for file in tables] == ["readme.txt"]
    assert others == {"no suffix": 2}
    assert find_files(str(data_dir))[1:] == ([], {".txt": 1, "no suffix": 2})


def test_linked_folder_is_found_once(data_dir, cache_dir, tmp_path):
    write_clip(tmp_path / "elsewhere" / "a_anger_1.wav")
    data_dir.mkdir()
    (data_dir / "first").symlink_to(tmp_path / "elsewhere")
    (data_dir / "second").symlink_to(tmp_path / "elsewhere")
    dataset = load(data_dir, cache_dir)
    assert [audio["path"] for audio in dataset["audio"]] == [str(data_dir / "first" / "a_anger_1.wav")]


def test_all_bad_names_are_listed(data_dir, cache_dir):
    write_clip(data_dir / "a_anger_1.wav")
    for number in range(23):
        write_clip(data_dir / f"bad{number:02d}.wav")
    with pytest.raises(CorpusError) as error:
        load(data_dir, cache_dir)
    message = str(error.value)
    assert message.startswith(
        f"23 audio files of tiny in {data_dir} cannot be used (names are expected to be SPEAKER_"
    )
    assert "bad19.wav: not three parts" in message and "bad20.wav" not in message
    assert "... and 3 more" in message and "move them elsewhere" in message


def test_bad_names_and_unreadable_files_are_listed_together_or_skipped(data_dir, cache_dir):
    write_clip(data_dir / "a_anger_1.wav")
    write_clip(data_dir / "one" / "a_anger_2.wav")
    write_clip(data_dir / "two" / "a_anger_2.wav", value=0.5)
    write_clip(data_dir / "bad.wav")
    (data_dir / "b_anger_1.wav").write_bytes(b"no sound at all")
    reasons = (
        "bad.wav: not three parts",
        "one/a_anger_2.wav and two/a_anger_2.wav: different files of the same utterance",
        f"{data_dir}/b_anger_1.wav: not readable as audio",
    )
    with pytest.raises(CorpusError, match="3 audio files of tiny") as error:
        load(data_dir, cache_dir)
    assert all(reason in str(error.value) for reason in reasons)
    assert "--skip_bad_files" in str(error.value)
    for _ in range(2):  # made, and from the cache
        builder = TinyBuilder(data_dir=data_dir, cache_dir=cache_dir, skip_bad_files=True)
        builder.download_and_prepare()
        assert builder.as_dataset(split="train")["utterance_id"][:] == ["tiny/a_anger_1"]
        assert len(builder.left_out_files) == 3
        assert all(file.startswith(reason) for file, reason in zip(builder.left_out_files, reasons))


@pytest.mark.parametrize("content", ["nothing", "left out", "other files"])
def test_no_file_of_the_corpus(data_dir, cache_dir, content):
    data_dir.mkdir()
    if content == "left out":
        write_clip(data_dir / "a_anger_0.wav")
    if content == "other files":
        (data_dir / "a_anger_1.mp4").write_bytes(b"x")
    with pytest.raises(CorpusError) as error:
        load(data_dir, cache_dir)
    message = str(error.value)
    assert f"no audio of tiny under {data_dir}" in message and "SPEAKER_EMOTION_TAKE" in message
    assert "Ask for tiny.zip." in message
    assert f"found {int(content == 'left out')} files that are recognised" in message
    assert ("1 .mp4" in message) == (content == "other files")


def test_data_dir_missing(data_dir):
    with pytest.raises(CorpusError, match=r"tiny needs a data_dir\. Ask for tiny\.zip"):
        TinyBuilder()
    with pytest.raises(CorpusError, match=r"data is not a directory\. Ask for tiny\.zip"):
        TinyBuilder(data_dir=data_dir)


def test_unreadable_files_are_listed_together(data_dir, cache_dir):
    write_clip(data_dir / "a_anger_1.wav")
    write_clip(data_dir / "a_anger_2.wav", seconds=0)
    (data_dir / "a_anger_3.wav").write_bytes(b"")
    (data_dir / "a_anger_4.wav").write_bytes(b"no sound at all")
    (data_dir / "a_anger_5.wav").symlink_to(data_dir / "gone.wav")
    with pytest.raises(CorpusError) as error:
        load(data_dir, cache_dir)
    message = str(error.value)
    assert message.startswith(f"4 audio files of tiny in {data_dir} cannot be used")
    assert "a_anger_2.wav: holds no samples" in message
    assert all(f"a_anger_{number}.wav: not readable as audio" in message for number in (3, 4, 5))


def test_flac_of_unstated_length_is_refused(data_dir, cache_dir):
    write_clip(data_dir / "a_anger_1.flac")
    content = bytearray((data_dir / "a_anger_1.flac").read_bytes())
    content[21] &= 0xF0  # the last 36 bits of these bytes are STREAMINFO's number of samples, 0 for not known
    content[22:26] = bytes(4)
    (data_dir / "a_anger_1.flac").write_bytes(content)
    with pytest.raises(CorpusError, match=r"a_anger_1\.flac: its header does not say how long it is"):
        load(data_dir, cache_dir)


def test_folder_that_is_not_utf8(data_dir, cache_dir):
    write_clip(data_dir / "sound.wav")
    content = (data_dir / "sound.wav").read_bytes()
    folder = os.fsencode(data_dir) + b"/Col\x8are"
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    os.rename(data_dir / "sound.wav", folder + b"/a_anger_1.wav")
    dataset = load(data_dir, cache_dir)
    assert dataset[0]["audio"] == {"bytes": content, "path": f"{data_dir}/Col?re/a_anger_1.wav"}
    assert len(read_audio(dataset[0]["audio"])[0]) == 800
    os.rename(folder + b"/a_anger_1.wav", folder + b"/\x8a_anger_1.wav")
    with pytest.raises(CorpusError, match=r"\?_anger_1\.wav: the name is not valid UTF-8; rename the file"):
        load(data_dir, cache_dir)


def test_copies(data_dir, cache_dir, caplog):
    write_clip(data_dir / "one" / "a_anger_1.wav")
    write_clip(data_dir / "two" / "a_anger_1.wav")
    dataset = load(data_dir, cache_dir)
    assert [audio["path"] for audio in dataset["audio"]] == [str(data_dir / "one" / "a_anger_1.wav")]
    assert "1 identical copies left out, e.g. one/a_anger_1.wav and two/a_anger_1.wav" in caplog.text
    write_clip(data_dir / "two" / "a_anger_1.wav", value=0.5)
    with pytest.raises(CorpusError, match="different files of the same utterance"):
        load(data_dir, cache_dir)


def test_left_out_files_are_logged_whenever_the_table_is_loaded(data_dir, cache_dir, caplog):
    for name in ("a_anger_1.wav", "a_anger_0.wav", "copy/a_anger_1.wav"):
        write_clip(data_dir / name)
    for _ in range(2):  # the second time the table is there already
        caplog.clear()
        assert len(load(data_dir, cache_dir)) == 1
        warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert "tiny: 1 files left out (rehearsals), e.g. a_anger_0.wav" in warnings
        assert "tiny: 1 identical copies left out, e.g. a_anger_1.wav and copy/a_anger_1.wav" in warnings


def test_cache_is_reused_until_a_file_changes(data_dir, cache_dir, monkeypatch):
    monkeypatch.setattr(TinyBuilder, "parsed", 0)
    write_clip(data_dir / "a_anger_1.wav", seconds=0.1)
    first = load(data_dir, cache_dir)
    again = load(data_dir, cache_dir)
    assert TinyBuilder.parsed == 1 and again._fingerprint == first._fingerprint

    write_clip(data_dir / "b_anger_1.wav")
    assert len(load(data_dir, cache_dir)) == 2
    write_clip(data_dir / "a_anger_1.wav", seconds=0.3)
    assert list(load(data_dir, cache_dir)["duration_s"]) == [0.3, 0.1]
    # The same name, size and length, other sound: the modification time tells.
    before = load(data_dir, cache_dir)
    write_clip(data_dir / "a_anger_1.wav", seconds=0.3, value=0.5)
    os.utime(data_dir / "a_anger_1.wav", ns=(1, 1))
    assert load(data_dir, cache_dir)._fingerprint != before._fingerprint
    (data_dir / "b_anger_1.wav").unlink()
    assert len(load(data_dir, cache_dir)) == 1


def test_cache_knows_the_parsers_version(data_dir, cache_dir):
    class Newer(TinyBuilder):
        VERSION = "1.0.1"

    write_clip(data_dir / "a_anger_1.wav")
    old, new = (builder(data_dir=data_dir, cache_dir=cache_dir) for builder in (TinyBuilder, Newer))
    assert old.cache_dir != new.cache_dir


def test_relative_data_dir_is_another_in_another_place(tmp_path, cache_dir, monkeypatch):
    for place in ("here", "there"):
        write_clip(tmp_path / place / "data" / "a_anger_1.wav")
        os.utime(tmp_path / place / "data" / "a_anger_1.wav", ns=(1, 1))
        monkeypatch.chdir(tmp_path / place)
        dataset = load("data", cache_dir)
        assert dataset[0]["audio"]["path"] == str(tmp_path / place / "data" / "a_anger_1.wav")


def test_datasets_leaves_our_modules_alone(data_dir, cache_dir):
    write_clip(data_dir / "a_anger_1.wav")
    load(data_dir, cache_dir)
    for module in (sys.modules[__name__], schema):
        assert (module.os, module.np) == (sys.modules["os"], sys.modules["numpy"])
        assert "open" not in vars(module)


class CountedBuilder(TinyBuilder):
    expected_counts = {"neutral": 1, "anger": 2}
    expected_speakers = ("a", "b")


def test_partial_corpus_warns(data_dir, cache_dir, caplog):
    write_clip(data_dir / "a_anger_1.wav")
    for _ in range(2):  # from the cache too
        caplog.clear()
        assert len(load(data_dir, cache_dir, CountedBuilder)) == 1
        assert "1 of 3 utterances are here; missing are 1 of 1 neutral; 1 of 2 anger; all of speaker b" in caplog.text


def test_complete_corpus_is_silent_and_surplus_refused(data_dir, cache_dir, caplog):
    for name in ("a_anger_1", "b_anger_1", "b_neutral_1"):
        write_clip(data_dir / f"{name}.wav")
    assert len(load(data_dir, cache_dir, CountedBuilder)) == 3
    assert not caplog.records
    write_clip(data_dir / "a_anger_2.wav")
    with pytest.raises(CorpusError, match=r"more than tiny has \(anger 3 instead of 2\): is it another release"):
        load(data_dir, cache_dir, CountedBuilder)


class SyntheticBuilder(TinyBuilder):
    """A corpus that makes its own audio."""

    corpus = "synthetic"
    needs_data_dir = False

    def rows(self):
        content = io.BytesIO()
        soundfile.write(content, np.zeros(800), 8000, format="WAV")
        fields = {"speaker": "a", "gender": "female", "emotion": "anger", "source_label": "ANG"}
        yield self.row("a_anger_1", fields, {"bytes": content.getvalue(), "path": "a_anger_1.wav"}, 0.1)


def test_corpus_without_data_dir(data_dir, cache_dir):
    dataset = load(None, cache_dir, SyntheticBuilder)
    assert dataset[0]["utterance_id"] == "synthetic/a_anger_1"
    assert len(read_audio(dataset[0]["audio"])[0]) == 800
    with pytest.raises(CorpusError, match="takes no data_dir"):
        load(data_dir, cache_dir, SyntheticBuilder)


def test_read_audio_mixes_down_at_the_native_rate(tmp_path):
    stereo = np.stack([np.full(30, 0.5), np.full(30, -0.25)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 44100, subtype="PCM_16")
    waveform, sampling_rate = read_audio({"bytes": None, "path": str(tmp_path / "a.wav")})
    assert sampling_rate == 44100 and waveform.dtype == np.float32 and waveform.shape == (30,)
    np.testing.assert_array_equal(waveform, np.float32(0.125))


def test_read_audio_prefers_bytes(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(5), 8000)
    soundfile.write(tmp_path / "b.wav", np.zeros(7), 8000)
    audio = {"bytes": (tmp_path / "a.wav").read_bytes(), "path": str(tmp_path / "b.wav")}
    assert len(read_audio(audio)[0]) == 5


def test_bad_audio_is_refused_by_name(data_dir, cache_dir):
    for number in range(6):
        write_clip(data_dir / f"a_anger_{number}.wav", sampling_rate=1000)
    dataset = load(data_dir, cache_dir)
    assert all(len(read_audio(audio)[0]) for audio in dataset["audio"])
    bad = np.zeros(100)
    for number, value in ((1, np.nan), (2, np.inf)):
        bad[50] = value
        soundfile.write(data_dir / f"a_anger_{number}.wav", bad, 1000, subtype="FLOAT")
    soundfile.write(data_dir / "a_anger_3.wav", np.zeros(0), 1000)
    (data_dir / "a_anger_4.wav").write_bytes(b"RIFF")
    reasons = {1: "holds NaN", 2: "holds NaN or inf", 3: "holds no samples", 4: "not readable"}
    for number, reason in reasons.items():
        with pytest.raises(CorpusError, match=f"a_anger_{number}.wav: {reason}"):
            read_audio({"bytes": None, "path": str(data_dir / f"a_anger_{number}.wav")})
    (data_dir / "a_anger_5.wav").unlink()
    with pytest.raises(CorpusError, match="a_anger_5"):
        read_audio(dataset[4]["audio"])
    with pytest.raises(CorpusError, match="neither bytes nor a path"):
        read_audio({"bytes": None, "path": None})


GOOD = {
    "utterance_id": ["tiny/1", "tiny/2"],
    "audio": [{"bytes": b"", "path": "1.wav"}, {"bytes": None, "path": "2.wav"}],
    "corpus": ["tiny"] * 2,
    "language": ["en"] * 2,
    "speaker_id": ["tiny/a"] * 2,
    "session_id": [None, "s"],
    "gender": [0, 0],
    "emotion": [0, 1],
    "source_label": ["n", "a"],
    "text_id": [None] * 2,
    "duration_s": [1.0, 2.0],
}


def dataset_of(columns, emotions=("neutral", "anger")):
    features = row_features(emotions)
    features["audio"] = datasets.Audio(sampling_rate=16000, decode=False)
    plain = datasets.Dataset.from_dict(columns, features=row_features(emotions))
    return plain.cast_column("audio", features["audio"])


def test_validate_accepts_the_schema():
    assert validate(dataset_of(GOOD)) is None
    assert validate(dataset_of({**GOOD, "gender": [None, None]})) is None


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("utterance_id", ["tiny/1", "tiny/1"], "tiny/1: utterance_id occurs more than once"),
        ("utterance_id", ["tiny/1", "2"], "'2' is not '<corpus>/<name>' with corpus 'tiny'"),
        ("utterance_id", ["tiny/1", None], "None is not '<corpus>/<name>'"),
        ("speaker_id", ["tiny/a", "big/a"], "'big/a' is not '<corpus>/<name>'"),
        ("speaker_id", ["tiny/a", "tiny/"], "'tiny/' is not '<corpus>/<name>'"),
        ("gender", [0, 1], "tiny/a: more than one gender"),
        ("gender", [0, None], "tiny/a: more than one gender"),
        ("gender", [-1, -1], "unknown gender -1"),
        ("emotion", [0, None], "tiny/2: unknown emotion None"),
        ("emotion", [0, -1], "tiny/2: unknown emotion -1"),
        ("duration_s", [1.0, 0.0], "tiny/2: duration_s is 0.0"),
        ("duration_s", [1.0, float("nan")], "tiny/2: duration_s is nan"),
        ("duration_s", [1.0, float("inf")], "tiny/2: duration_s is inf"),
        ("language", ["en", ""], "tiny/2: language or source_label is empty"),
        ("source_label", ["n", None], "tiny/2: language or source_label is empty"),
    ],
)
def test_validate_refuses_values(column, values, message):
    with pytest.raises(CorpusError) as error:
        validate(dataset_of({**GOOD, column: values}))
    assert message in str(error.value)


def test_validate_refuses_columns():
    good = dataset_of(GOOD)
    for bad, message in (
        (good.remove_columns("text_id"), "instead of"),
        (good.add_column("fold", [0, 1]), "fold"),
        (good.remove_columns("emotion"), "columns"),
        (good.cast_column("duration_s", datasets.Value("float32")), "column duration_s"),
        (good.cast_column("gender", datasets.ClassLabel(names=["male", "female"])), "genders are not in canonical"),
        (good.cast_column("audio", datasets.Audio()), "decode=False"),
        (dataset_of(GOOD, emotions=("anger", "neutral")), "canonical order"),
        (dataset_of(GOOD, emotions=("rage", "neutral")), "canonical order: rage"),
        (good.select([]), "no rows"),
    ):
        with pytest.raises(CorpusError, match=message):
            validate(bad)


def test_unknown_corpus_lists_the_known():
    with pytest.raises(CorpusError, match="unknown corpus 'ravdes'; known are iemocap, ravdess"):
        load_corpus("ravdes")
    assert set(CORPORA) == {"iemocap", "ravdess", "crema_d", "emodb", "cafe", "bhavvani", "own", "demo"}


def test_canonical_emotions_are_fixed():
    # Their order decides label ids in published checkpoints.
    assert " ".join(EMOTIONS) == "neutral calm happiness sadness anger fear disgust surprise boredom contempt"
    assert " ".join(GENDERS) == "female male"
