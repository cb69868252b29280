"""Odd and bad audio files: each is read rightly or refused in words that name it, everywhere alike."""

import csv
import os
import re
import resource
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import soundfile
from odd_audio import ANY, BAD, RATE, encoded, flac_of_length, odd_files, on_grid, speech
from test_pipeline_camulenet import by_label, tiny_classifier

import app
from dataset_scripts import CorpusError, load_corpora
from dataset_scripts.schema import read_audio, read_duration
from modeling_camulenet import feature_extraction_camulenet as features
from modeling_camulenet import pipeline_camulenet
from ser_protocol import predict
from ser_protocol.listening import Listener

FILES = {file.name: file for file in odd_files()}
READABLE = [name for name, file in FILES.items() if isinstance(file.expected, np.ndarray)]
pytestmark = pytest.mark.filterwarnings("error")


def identifier(name: str) -> str:
    """For pytest, which takes no line ends in it."""
    return name.encode("unicode_escape").decode()[:60]


@pytest.fixture(scope="module")
def classifier():
    return tiny_classifier()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All files, with a table that gives each a label and a speaker."""
    folder = tmp_path_factory.mktemp("odd")
    with open(folder / "metadata.csv", "w", encoding="utf-8", newline="") as table:
        rows = csv.writer(table)
        rows.writerow(["file_name", "emotion", "speaker_id"])
        for number, (name, file) in enumerate(FILES.items()):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)
            rows.writerow([name, ("anger", "fear")[number % 2], f"s{number % 5}"])
    return folder


def test_there_are_enough():
    assert len(FILES) == len(odd_files()) >= 200
    assert sum(file.expected is BAD for file in FILES.values()) >= 80 and len(READABLE) >= 80


@pytest.mark.parametrize("name", FILES, ids=identifier)
def test_the_pipeline(name, folder, classifier):
    """The prediction of the clean clip in memory, or an error that names the file."""
    file, path = FILES[name], folder / name
    try:
        scores = by_label(classifier(path))
    except ValueError as error:
        assert file.expected is BAD or file.expected is ANY, error
        assert str(error).startswith(f"{path}: ")
        return
    assert file.expected is not BAD and scores.sum() == pytest.approx(1, abs=1e-5)
    if isinstance(file.expected, np.ndarray):
        np.testing.assert_allclose(
            scores, by_label(classifier(file.expected.astype(np.float32))), rtol=0, atol=file.tolerance
        )


def test_the_page(folder, classifier, monkeypatch, caplog):
    """Each file is drawn, or said to be what it is by its name alone; nothing of it is unforeseen."""
    shown = app.Page(["tiny"], [], [])
    monkeypatch.setattr(shown, "listener", lambda name: Listener(name, classifier))
    drawn = 0
    for name, file in FILES.items():
        html = shown.heard(str(folder / name), "tiny")
        assert caplog.records == [], name
        drawn += "<svg" in html
        if "<svg" not in html:
            assert Path(name).name in unescape(html) and str(folder) not in unescape(html), name
            assert not isinstance(file.expected, np.ndarray) or not file.expected.any(), name
        elif file.expected is BAD:
            raise AssertionError(f"{name} was drawn")
    assert drawn >= len(READABLE)


@pytest.mark.parametrize("name", FILES, ids=identifier)
def test_features_of_a_corpus(name, folder, classifier):
    """What training reads, as the pipeline: the extractor's features of `read_audio`, or an error."""
    file, path = FILES[name], folder / name
    try:
        made = classifier.feature_extractor(*read_audio({"path": str(path)}), return_tensors="np")
    except CorpusError as error:
        assert file.expected is BAD or file.expected is ANY
        assert str(error).startswith(f"{path}: ") and "object at 0x" not in str(error)
        return
    except ValueError as error:  # the caches put the file's name before it
        assert file.expected is BAD and "reaches" in str(error)
        return
    assert all(np.isfinite(values).all() for values in made.values())
    if isinstance(file.expected, np.ndarray) and file.tolerance < 1e-4:
        for key, values in classifier.feature_extractor(file.expected, return_tensors="np").items():
            np.testing.assert_allclose(made[key], values, rtol=0, atol=2e-2, err_msg=key)


def test_a_corpus_of_them(folder, tmp_path):
    """It is refused with the bad files named; --skip_bad_files goes on with all that can be read."""
    with pytest.raises(CorpusError, match="audio files of own in .* cannot be used") as refused:
        load_corpora(["own"], [folder], cache_dir=tmp_path)
    assert str(folder) in str(refused.value)
    loaded = load_corpora(["own"], [folder], cache_dir=tmp_path, skip_bad_files=True)
    kept = {Path(audio["path"]).relative_to(folder).as_posix() for audio in loaded.dataset["audio"]}
    assert kept >= set(READABLE)
    # Silence and far too loud samples are audio; the feature extractor and the pipeline refuse them.
    heard = ("all zeros", "gain", "channels that cancel")
    assert not [name for name in kept if FILES[name].expected is BAD and not name.startswith(heard)]
    for name in set(FILES) - kept:
        assert any(name in reason for reason in loaded.left_out_files), name


def test_a_table_of_them(folder, classifier, tmp_path, capfd):
    """Each file is in the table or among the bad ones, and is predicted as alone."""
    files = [str(folder / name) for name in FILES]
    output = tmp_path / "table.csv"
    bad = predict.write_table(files, classifier, "m", output, batch_size=16)
    with open(output, encoding="utf-8", newline="") as table:
        rows = {row["file"]: row for row in csv.DictReader(table)}
    assert set(rows) | set(bad) == set(files) and not set(rows) & set(bad)
    assert {str(folder / name) for name in READABLE} <= set(rows)
    assert all(message.startswith(file) for file, message in bad.items())
    for file in list(rows)[::10]:
        for item in classifier(file):
            assert float(rows[file][f"p_{item['label']}"]) == pytest.approx(item["score"], abs=1e-5)
    # A repeat does nothing but try the bad ones again.
    before = output.read_bytes()
    assert predict.write_table(files, classifier, "m", output) == bad and output.read_bytes() == before
    assert len(capfd.readouterr().out) == 0


def test_a_row_cut_within_a_name_of_two_lines(folder, classifier, tmp_path):
    files = [str(folder / name) for name in ("flac.wav", "new\nline.wav")]
    output = tmp_path / "table.csv"
    predict.write_table(files, classifier, "m", output)
    whole = output.read_bytes()
    for end in range(whole.index(b"new"), len(whole)):
        output.write_bytes(whole[:end])
        predict.write_table(files, classifier, "m", output)
        assert output.read_bytes() == whole


def test_names_that_are_not_utf8(folder, classifier, tmp_path, monkeypatch, capsys):
    (tmp_path / "clips").mkdir()
    for name in (b"caf\xe9.wav", b"good.wav"):
        (tmp_path / "clips" / os.fsdecode(name)).write_bytes(FILES["flac.wav"].content)
    monkeypatch.setattr(predict, "pipeline", lambda *args, **kwargs: classifier)
    for arguments in ([], ["--output", str(tmp_path / "t.csv")], ["--timeline", str(tmp_path / "lines")]):
        with pytest.raises(SystemExit) as ended:
            predict.main([str(tmp_path / "clips"), "--model", "m", *arguments])
        assert re.search("1 of 2 files cannot be used:\n  .*not valid UTF-8; rename it", ended.value.code)
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 2 and (tmp_path / "lines/good.txt").exists()


def test_a_flac_from_a_pipe(tmp_path, classifier, monkeypatch):
    """Its header leaves the length open, which soundfile does not get through."""
    path = tmp_path / "pipe.flac"
    path.write_bytes(flac_of_length(encoded(on_grid(speech()), file_format="FLAC"), 0))
    monkeypatch.setenv("PATH", "")  # no ffmpeg, which could
    with pytest.raises(ValueError, match="pipe.flac: .*does not say how long it is; write the file anew"):
        classifier(path)
    with pytest.raises(CorpusError, match="pipe.flac: .*does not say how long it is; write the file anew"):
        read_duration({"path": str(path)})


@pytest.mark.parametrize("channels", [1, 6])
def test_two_hours(channels, tmp_path, classifier):
    """Refused at once where a recording is read whole; followed window by window where it is a time line."""
    path = tmp_path / "long.wav"
    sound = speech(8000)
    with soundfile.SoundFile(path, "w", 8000, channels, "PCM_16") as file:
        for _ in range(7200 // 600):
            file.write(np.repeat(sound[:, None], channels, axis=1))
            file.write(np.zeros((600 * 8000 - len(sound), channels), np.int16))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="long.wav: .* more than 300 s.*timeline"):
        classifier(path)
    with pytest.raises(CorpusError, match="long.wav: lasts more than 300 s"):
        read_audio({"path": str(path)})
    if channels == 1:
        result = classifier(path, timeline=True, window_s=30.0, hop_s=30.0, batch_size=4)
        assert len(result["windows"]) == 240 and result["windows"][-1]["end_s"] == 7200
        assert [bool(window["emotion"]) for window in result["windows"]] == [True, *[False] * 19] * 12
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB


def test_the_limits_of_corpora_and_of_the_extractor_are_the_same():
    from dataset_scripts import schema

    assert list(schema.SAMPLING_RATES)[:: len(schema.SAMPLING_RATES) - 1] == [
        features.MIN_SAMPLING_RATE,
        features.MAX_SAMPLING_RATE,
    ]
    assert schema.MAX_DURATION_S == pipeline_camulenet.MAX_DURATION_S
    assert features.MIN_SAMPLING_RATE < 8000 < RATE < 192000 < features.MAX_SAMPLING_RATE
