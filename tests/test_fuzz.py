"""Anything at all: damaged audio, arrays, tables and splits are read or refused, never a crash.

The readers of each corpus have such tests in their own files. `make fuzz` runs all of them for long.
"""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from odd_audio import encoded, on_grid, speech
from test_pipeline_camulenet import tiny_classifier

from dataset_scripts import CorpusError
from dataset_scripts.schema import read_audio, read_duration
from modeling_camulenet import CAMuLeNetFeatureExtractor
from ser_protocol.audit import PART_OF_NAME, AuditError, AuditReport, audit_file

QUICK = settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
CONTAINERS = {
    ".wav": ("WAV", "PCM_16"),
    ".float.wav": ("WAV", "FLOAT"),
    ".adpcm.wav": ("WAV", "IMA_ADPCM"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".aiff": ("AIFF", "PCM_16"),
    ".w64": ("W64", "PCM_16"),
    ".caf": ("CAF", "PCM_16"),
    ".au": ("AU", "PCM_16"),
}
CONTENT = {
    suffix: encoded(on_grid(speech(duration_s=0.1)), file_format=file_format, subtype=subtype)
    for suffix, (file_format, subtype) in CONTAINERS.items()
}


@pytest.fixture(scope="module")
def classifier():
    return tiny_classifier()


@QUICK
@given(
    suffix=st.sampled_from(list(CONTENT)),
    # In the head, where it matters most, or anywhere.
    changes=st.lists(
        st.tuples(st.integers(0, 80) | st.integers(0, 4000), st.binary(min_size=1, max_size=6)), max_size=5
    ),
    cut=st.none() | st.integers(0, 4000),
)
def test_damaged_audio(tmp_path, classifier, suffix, changes, cut):
    content = bytearray(CONTENT[suffix][:cut])
    for place, new in changes:
        content[place : place + len(new)] = new
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(content)
    audio = {"path": str(path)}
    try:
        assert 0 < read_duration(audio) <= 300
        waveform, sampling_rate = read_audio(audio)
        assert waveform.dtype == np.float32 and np.isfinite(waveform).all() and len(waveform) <= 300 * sampling_rate
    except CorpusError as error:
        assert str(error).startswith(f"{path}: ")
    if len(content) and len(content) < 20000:
        try:
            result = classifier(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ")
        else:
            assert sum(row["score"] for row in result) == pytest.approx(1, abs=1e-4)


FLOATS = st.floats(width=32) | st.floats(-1, 1, width=32)
DTYPES = st.sampled_from(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "?"])
EXTRACTORS = [
    CAMuLeNetFeatureExtractor(),
    CAMuLeNetFeatureExtractor(encoder_input="fbank"),
    CAMuLeNetFeatureExtractor(feature_size=1, encoder_input="waveform", level_dbfs=-20.0, max_duration_s=0.05),
]


@QUICK
@given(
    values=st.lists(FLOATS, max_size=40),
    shape=st.sampled_from([(-1,), (1, -1), (-1, 1), (2, -1), (1, 1, -1), ()]),
    dtype=DTYPES,
    repeats=st.integers(1, 40),
    rate=st.none() | st.sampled_from([8000, 16000, 44100, 192000]) | st.integers(-1, 2**33) | st.floats(),
    extractor=st.sampled_from(EXTRACTORS),
)
def test_features_of_any_array(values, shape, dtype, repeats, rate, extractor):
    """Finite features of a recording, or `ValueError`."""
    with np.errstate(all="ignore"):
        array = np.tile(np.array(values, "f8"), repeats)
        if dtype[0] in "iu":
            array = np.nan_to_num(array).clip(-1, 1) * np.iinfo(dtype).max
        array = array.astype(dtype)
    if not shape:
        array = array[:1].reshape(()) if len(array) else array
    elif len(array) % 2 == 0 or 2 not in shape:
        array = array.reshape(shape) if len(array) else array
    try:
        made = extractor(array, sampling_rate=rate, return_tensors="np")
    except ValueError:
        return
    for name, feature in made.items():
        assert np.isfinite(feature).all(), name


CELL = st.sampled_from(["a", "b", "s1", "s2", "train", "test", "dev", "0", "1", ""]) | st.text(max_size=4)
HEADER = st.permutations(["utterance_id", "speaker_id", "fold", "part", "session", "start", "end"])


def is_answered(path) -> bool:
    """Whether the auditor reports on a file or refuses it by its name; any other exception fails the test."""
    try:
        return isinstance(audit_file(path), AuditReport)
    except (AuditError, CorpusError) as error:
        return path.name in str(error)


@QUICK
@given(
    header=HEADER,
    columns=st.integers(1, 7),
    rows=st.lists(st.lists(CELL, min_size=7, max_size=7), max_size=6),
    suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".json"]),
)
def test_audit_of_any_table(tmp_path, header, columns, rows, suffix):
    path = tmp_path / f"table{suffix}"
    table = [dict(zip(header[:columns], row)) for row in rows]
    if suffix == ".jsonl":
        text = "".join(json.dumps(row) + "\n" for row in table)
    elif suffix == ".json":
        text = json.dumps(table)
    else:
        separator = "," if suffix == ".csv" else "\t"
        text = "\n".join(separator.join(line) for line in [header[:columns], *(row[:columns] for row in rows)])
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    assert is_answered(path)


@QUICK
@given(content=st.binary(max_size=60), suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".json", ".parquet"]))
def test_audit_of_any_bytes(tmp_path, content, suffix):
    path = tmp_path / f"table{suffix}"
    path.write_bytes(content)
    assert is_answered(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["ravdess", "a/1"]) | CELL,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["speakers", "utterance_ids"]), inner),
    max_leaves=6,
)
PART = st.fixed_dictionaries({"speakers": JSON}, optional={"utterance_ids": JSON}) | JSON
FOLD = st.fixed_dictionaries(dict.fromkeys(dict.fromkeys(PART_OF_NAME.values()), PART)) | JSON


@QUICK
@given(content=st.fixed_dictionaries({"corpus": JSON, "folds": st.lists(FOLD, max_size=3) | JSON}) | JSON)
@example({"corpus": "ravdess", "folds": []})
def test_audit_of_any_split(tmp_path, content):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(content))
    assert is_answered(path)
