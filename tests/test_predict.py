"""The predict command: lines, tables and time lines of files, what is left of an interrupted call, and errors."""

import json
import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import soundfile
import torch
from encoders import write_wav2vec2
from transformers import AutoModelForAudioClassification

import run_ser
from modeling_camulenet import CAMuLeNetConfig, CAMuLeNetForAudioClassification
from modeling_camulenet.pipeline_camulenet import CAMuLeNetPipeline
from ser_protocol import predict


@pytest.fixture
def clips(ravdess):
    return [str(ravdess[3] / f"03-01-{emotion}-01-01-01-02.wav") for emotion in ("05", "01")]


def run(monkeypatch, capsys, *argv) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["predict", *map(str, argv)])
    predict.main()
    return capsys.readouterr().out.splitlines()


def test_a_line_a_file(clips, finished_run, monkeypatch, capsys):
    lines = run(monkeypatch, capsys, *clips, "--model", finished_run / "final", "--top_k", 2)
    model = AutoModelForAudioClassification.from_pretrained(finished_run / "final").eval()
    classify = CAMuLeNetPipeline(model=model, feature_extractor=model.camulenet.feature_extractor, device="cpu")
    assert len(lines) == 2
    for line, clip in zip(lines, clips):
        waveform, rate = soundfile.read(clip)
        expected = classify({"array": waveform, "sampling_rate": rate}, return_gender=True)
        first, second = expected["emotion"][:2]
        gender = expected["gender"][0]
        assert line == (
            f"{clip}: emotion {first['label']} {first['score']:.2f}, {second['label']} {second['score']:.2f}; "
            f"gender {gender['label']} {gender['score']:.2f}"
        )
        assert first["score"] >= second["score"] and gender["score"] >= 0.5


def test_a_single_task_model(clips, finished_run, tmp_path, monkeypatch, capsys):
    model = AutoModelForAudioClassification.from_pretrained(finished_run / "final", id2gender={})
    model.save_pretrained(tmp_path)
    model.camulenet.feature_extractor.save_pretrained(tmp_path)
    (line,) = run(monkeypatch, capsys, clips[0], "--model", tmp_path, "--top_k", 1)
    assert re.fullmatch(rf"{re.escape(clips[0])}: emotion [a-z]+ [01]\.\d\d", line)


@pytest.mark.parametrize(
    ("file", "model", "top_k", "message"),
    [
        ("missing.wav", "final", 3, "missing.wav"),
        ("text.wav", "final", 3, "text.wav: the audio cannot be decoded"),
        ("clip", "nowhere", 3, "nowhere"),
        ("clip", "final", 0, "`top_k` is 0"),
    ],
)
def test_errors_are_said_without_a_traceback(
    clips, finished_run, tmp_path, monkeypatch, capsys, file, model, top_k, message
):
    (tmp_path / "text.wav").write_bytes(b"no audio at all")
    path = clips[0] if file == "clip" else tmp_path / file
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, capsys, path, "--model", finished_run / model, "--top_k", top_k)
    assert isinstance(ended.value.code, str) and ended.value.code.startswith("predict: ")
    assert message in ended.value.code


# ---------------------------------------------------------------------------------------------------------------------
# Many files


@pytest.fixture
def corpus(clips, ravdess, tmp_path):
    """A folder of six clips of different lengths in two subfolders, one that is no audio, and a text."""
    folder = tmp_path / "corpus"
    for number, path in enumerate(sorted(Path(ravdess[3]).glob("*-0[56].wav"))[:6]):
        target = folder / ("a" if number % 2 else "b") / f"clip{number}.wav"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (folder / "a" / "bad.wav").write_bytes(b"no audio at all")
    (folder / "notes.md").write_text("no audio by its name")
    return folder


def classifier(finished_run) -> CAMuLeNetPipeline:
    model = AutoModelForAudioClassification.from_pretrained(finished_run / "final").eval()
    return CAMuLeNetPipeline(model=model, feature_extractor=model.camulenet.feature_extractor, device="cpu")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--output", "x.csv", "--timeline", "y"], "give either --output or --timeline"),
        (["--hop_s", "0"], "--hop_s 0.0: give more than 0 and at most --window_s, 3.0"),
        (["--window_s", "1", "--hop_s", "1.5"], "--hop_s 1.5: give more than 0 and at most --window_s, 1.0"),
    ],
)
def test_arguments_that_cannot_be(capsys, argv, message):
    with pytest.raises(SystemExit):
        predict.main(["clip.wav", "--model", "x", *argv])
    assert capsys.readouterr().err.endswith(f"run-ser predict: error: {message}\n")


def ended(monkeypatch, *argv) -> str:
    """The message with which the command ends."""
    monkeypatch.setattr(sys, "argv", ["run-ser", "predict", *map(str, argv)])
    with pytest.raises(SystemExit) as end:
        run_ser.main()
    return end.value.code


@pytest.mark.parametrize("name", ["predictions.csv", "predictions.jsonl"])
def test_a_table_of_many_files(name, corpus, finished_run, tmp_path, monkeypatch):
    output = tmp_path / name
    arguments = (corpus, "--model", finished_run / "final", "--output", output, "--batch_size", 4)
    message = ended(monkeypatch, *arguments)
    assert message.startswith("predict: 1 of 7 files cannot be used:")
    assert message.count("bad.wav: the audio cannot be decoded") == 1
    table = pd.read_csv(output) if output.suffix == ".csv" else pd.read_json(output, lines=True)
    assert set(table["file"]) == {str(path) for path in corpus.rglob("clip*.wav")} and len(table) == 6
    durations = [soundfile.info(path).duration for path in table["file"]]
    assert durations == sorted(durations)
    classify = classifier(finished_run)
    for row in table.to_dict("records"):
        expected = classify(row["file"], return_gender=True)
        for head, items in expected.items():
            assert row[f"predicted_{head}"] == items[0]["label"]
            assert [row[f"p_{item['label']}"] for item in items] == pytest.approx(
                [item["score"] for item in items], abs=2e-5
            )

    # A call that was killed while it wrote: the rest follows, and what is there stays.
    whole = output.read_bytes()
    lines = whole.splitlines(keepends=True)
    output.write_bytes(b"".join(lines[:-2]) + lines[-2][:20])
    opened = []
    read = soundfile.SoundFile.__init__
    monkeypatch.setattr(
        soundfile.SoundFile,
        "__init__",
        lambda self, file, *args, **kw: opened.append(file) or read(self, file, *args, **kw),
    )
    ended(monkeypatch, *arguments)
    again = pd.read_csv(output) if output.suffix == ".csv" else pd.read_json(output, lines=True)
    assert output.read_bytes().startswith(b"".join(lines[:-2]))
    pd.testing.assert_frame_equal(again, table, rtol=0, atol=2e-5)
    assert {path for path in opened if isinstance(path, str)} == {*table["file"][-2:], str(corpus / "a" / "bad.wav")}


def test_ctrl_c_keeps_the_rows_that_are_done(ravdess, finished_run, tmp_path, monkeypatch, capsys):
    table = tmp_path / "table.csv"
    arguments = (ravdess[3], "--model", finished_run / "final", "--batch_size", 4, "--output", table)
    classify, read, preprocess = classifier(finished_run), [], CAMuLeNetPipeline.preprocess

    def interrupted(self, inputs):
        if len(read) == 20:
            raise KeyboardInterrupt
        read.append(inputs)
        return preprocess(self, inputs)

    # A checkpoint brings a class of its own, which the call would load.
    monkeypatch.setattr(predict, "pipeline", lambda *_, **__: classify)
    with monkeypatch.context() as patch:
        patch.setattr(CAMuLeNetPipeline, "preprocess", interrupted)
        with pytest.raises(SystemExit) as ended:
            run(patch, capsys, *arguments)
    assert ended.value.code == 130
    assert "predict: stopped; the same command goes on from here." in capsys.readouterr().err
    done = pd.read_csv(table)
    assert 0 < len(done) < 48
    run(monkeypatch, capsys, *arguments)
    whole = pd.read_csv(table)
    pd.testing.assert_frame_equal(whole.head(len(done)), done)
    assert whole["file"].nunique() == len(whole) == 48


def test_a_table_of_another_model_is_left_as_it_is(clips, finished_run, tmp_path, monkeypatch, capsys):
    output = tmp_path / "predictions.csv"
    run(monkeypatch, capsys, *clips, "--model", finished_run / "final", "--output", output)
    before = output.read_bytes()
    message = ended(monkeypatch, *clips, "--model", finished_run / "fold_00", "--output", output)
    assert str(finished_run / "final") in message and "another --output" in message
    assert output.read_bytes() == before
    assert ".csv or .jsonl" in ended(monkeypatch, *clips, "--model", finished_run / "final", "--output", "table.txt")


def test_a_head_alone_belongs_to_a_model_too(clips, finished_run, tmp_path):
    output, classify = tmp_path / "predictions.csv", classifier(finished_run)
    predict.write_table(clips, classify, "m", output)
    rows = output.read_text().splitlines(keepends=True)
    output.write_text(rows[0])
    predict.write_table(clips, classify, "m", output)
    assert output.read_text() == "".join(rows)
    head = rows[0].replace("p_anger", "p_boredom")
    output.write_text(head)
    with pytest.raises(ValueError, match="with other columns than those of m: give another --output"):
        predict.write_table(clips, classify, "m", output)
    assert output.read_text() == head


def test_an_emotion_and_a_gender_of_one_name(clips, finished_run, tmp_path):
    """Two columns would have that name, and a row one value for both."""
    classify = classifier(finished_run)
    classify.model.config.id2gender = {0: "female", 1: "neutral"}
    with pytest.raises(ValueError, match="m has an emotion and a gender of one name, neutral, .*: rename one"):
        predict.write_table(clips, classify, "m", tmp_path / "table.csv")
    assert not (tmp_path / "table.csv").exists()


def test_what_the_model_itself_refuses_is_named_at_the_end(corpus, finished_run, tmp_path, monkeypatch):
    """A model with a gate has weights for so many frames, here those of 0.3 s."""
    config = CAMuLeNetConfig.from_pretrained(finished_run / "final", fusion="gate", gate_positions=15)
    torch.manual_seed(0)
    model = CAMuLeNetForAudioClassification(config)
    model.save_pretrained(tmp_path / "gate")
    model.camulenet.feature_extractor.save_pretrained(tmp_path / "gate")
    output = tmp_path / "table.csv"
    arguments = (corpus, "--model", tmp_path / "gate", "--output", output, "--batch_size", 4)
    long = {str(path) for path in corpus.rglob("clip*.wav") if soundfile.info(path).duration > 0.3}
    assert 0 < len(long) < 6 and len(long) % 4  # some are in a batch with others
    for _ in range(2):
        message = ended(monkeypatch, *arguments)
        assert message.startswith(f"predict: {1 + len(long)} of 7 files cannot be used:")
        for file in long:
            assert f"  {file}: fusion='gate' has weights for 15 encoder frames" in message
        table = pd.read_csv(output)
        assert set(table["file"]) == {str(path) for path in corpus.rglob("clip*.wav")} - long and len(
            table
        ) == 6 - len(long)
    classify = model.eval().pipeline(model.camulenet.feature_extractor, device="cpu")
    for row in table.to_dict("records"):
        for item in classify(row["file"]):
            assert row[f"p_{item['label']}"] == pytest.approx(item["score"], abs=2e-5)


def test_another_revision_is_another_model(clips, finished_run, tmp_path, monkeypatch):
    """A folder has no revisions and takes any, as those of a repository."""
    model = str(finished_run / "final")
    for flag, target, word in (("--output", "table.csv", "not of"), ("--timeline", "lines", "not")):
        arguments = (*clips, "--model", model, flag, tmp_path / target)
        for _ in range(2):
            predict.main([*map(str, arguments), "--revision", "first"])
        assert f"{model}@first, {word} {model}@second: " in ended(monkeypatch, *arguments, "--revision", "second")
        assert f"{model}@first, {word} {model}: " in ended(monkeypatch, *arguments)
    assert list(pd.read_csv(tmp_path / "table.csv")["model"]) == [f"{model}@first"] * 2
    assert json.loads((tmp_path / "lines" / "timelines.json").read_text())["model"] == f"{model}@first"


def test_files_that_are_no_time_lines_are_left_alone(corpus, finished_run, tmp_path, monkeypatch):
    arguments = ("--model", finished_run / "final", "--timeline", corpus, "--window_s", 0.2, "--hop_s", 0.1)
    for name in ("clip1.txt", "clip3.TextGrid", "clip5.csv"):
        (corpus / "a" / name).write_text("what was said")
        message = ended(monkeypatch, corpus, *arguments)
        assert f"{corpus / 'a' / name} is there already and no time line of ours ({corpus} has no timelines" in message
        assert "give another --timeline folder" in message
        assert {path.name for path in corpus.rglob("*") if path.suffix not in (".wav", "")} == {"notes.md", name}
        (corpus / "a" / name).unlink()
    ended(monkeypatch, corpus, *arguments)
    assert len(list(corpus.rglob("clip*.TextGrid"))) == 6
    # Ours is written last: one without the other two is somebody's.
    (corpus / "a" / "clip1.TextGrid").unlink()
    assert f"{corpus / 'a' / 'clip1.txt'} is there already" in ended(monkeypatch, corpus, *arguments)
    assert not (corpus / "a" / "clip1.TextGrid").exists()


def test_a_model_of_another_kind(clips, tmp_path, monkeypatch):
    write_wav2vec2(tmp_path)
    for argv in ((), ("--output", tmp_path / "table.csv")):
        assert ended(monkeypatch, *clips, "--model", tmp_path, *argv) == (
            f"predict: {tmp_path} is a wav2vec2 model; expected a CAMuLeNet checkpoint."
        )
    assert not (tmp_path / "table.csv").exists()


def test_time_lines(corpus, finished_run, tmp_path, monkeypatch):
    out = tmp_path / "out"
    arguments = (corpus, "--model", finished_run / "final", "--timeline", out, "--window_s", 0.2, "--hop_s", 0.1)
    assert "1 of 7 files" in ended(monkeypatch, *arguments)
    names = {path.relative_to(corpus).with_suffix("").as_posix() for path in corpus.rglob("clip*.wav")}
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written == {f"{name}{suffix}" for name in names for suffix in (".csv", ".TextGrid", ".txt")} | {
        "timelines.json"
    }
    file = corpus / "b" / "clip0.wav"
    expected = classifier(finished_run)(file, timeline=True, window_s=0.2, hop_s=0.1)
    table = pd.read_csv(out / "b" / "clip0.csv")
    assert list(table["start_s"]) == pytest.approx([row["start_s"] for row in expected["windows"]], abs=1e-3)
    for row, window in zip(table.to_dict("records"), expected["windows"], strict=True):
        assert [row[f"p_{item['label']}"] for item in window["emotion"]] == pytest.approx(
            [item["score"] for item in window["emotion"]], abs=2e-5
        )
    labels = [line.split("\t") for line in (out / "b" / "clip0.txt").read_text().splitlines()]
    assert [label for _, _, label in labels] == [row["label"] for row in expected["segments"]]

    (out / "b" / "clip0.txt").write_text("kept")
    ended(monkeypatch, *arguments)
    assert (out / "b" / "clip0.txt").read_text() == "kept"
    message = ended(monkeypatch, *[finished_run / "fold_00" if a == finished_run / "final" else a for a in arguments])
    assert f"time lines of model {finished_run / 'final'}, not {finished_run / 'fold_00'}" in message
    message = ended(monkeypatch, *[0.4 if a == 0.2 else a for a in arguments])
    assert "time lines of window_s 0.2, not 0.4: give another --timeline folder" in message


SEGMENTS = [
    {"start_s": 0.5, "end_s": 2.5, "label": "calm", "score": 0.6},
    {"start_s": 2.5, "end_s": 4.0, "label": 'so "calm"', "score": 0.6},
    {"start_s": 6.0, "end_s": 7.25, "label": "anger", "score": 0.6},
]


def test_textgrid_by_hand():
    """Praat wants intervals without gaps, and quotes doubled."""
    text = predict.textgrid(SEGMENTS, 8.0)
    intervals = re.findall(r'intervals \[(\d)\]:\n +xmin = (\S+)\n +xmax = (\S+)\n +text = "(.*)"\n', text)
    assert [(int(number), float(first), float(last), label) for number, first, last, label in intervals] == [
        (1, 0, 0.5, ""),
        (2, 0.5, 2.5, "calm"),
        (3, 2.5, 4, 'so ""calm""'),
        (4, 4, 6, ""),
        (5, 6, 7.25, "anger"),
        (6, 7.25, 8, ""),
    ]
    assert text.startswith('File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 8.0\n')
    assert "intervals: size = 6\n" in text
    assert "intervals: size = 1\n" in predict.textgrid([{**SEGMENTS[0], "start_s": 0.0}], 2.5)


def test_audacity_labels_by_hand():
    assert predict.audacity_labels(SEGMENTS[:1]) == "0.500000\t2.500000\tcalm\n"


def test_what_is_found(corpus, tmp_path):
    files = predict.audio_files([str(corpus), str(corpus / "a" / "clip1.wav"), str(corpus / "notes.md")])
    assert len(files) == 8 and files[-1].endswith("notes.md")
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="none holds no audio"):
        predict.audio_files([str(tmp_path / "none")])
    with pytest.raises(ValueError, match="would have one time line"):
        predict.names_of([str(corpus / "a" / "x.wav"), str(corpus / "b" / "x.wav")], [])
