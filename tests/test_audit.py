"""The audit of splits: each leak on a table made by hand, files of others, audio, and real data where it is there."""

import csv
import json
import random
import shutil
import sys
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import soundfile
from voices import RATE, speech

from dataset_scripts.folds import SPLITS, Fold
from ser_protocol import audit as module
from ser_protocol.audit import AuditError, audit, audit_file, folds_table

RESULTS = Path(__file__).parent.parent / "results"
SHARED = Path(__file__).parent.parent / ".." / "shared" / "data"
CLEAN_ROWS = [
    ("a1", "train", "anna"),
    ("a2", "train", "anna"),
    ("b1", "validation", "ben"),
    ("c1", "test", "cleo"),
    ("c2", "test", "cleo"),
]


def table(rows, **columns) -> pd.DataFrame:
    """(utterance, part, speaker) or (utterance, part, speaker, fold) a row; fold 0 by default."""
    frame = pd.DataFrame([(*row, 0)[:4] for row in rows], columns=["utterance_id", "part", "speaker_id", "fold"])
    return frame.assign(**columns)


def found(report, severity="leak") -> dict[str, str]:
    return {finding.check: finding.text for finding in report.findings if finding.severity == severity}


# ---------------------------------------------------------------------------------------------------------------------
# Checks on tables


def test_clean_split():
    report = audit(table(CLEAN_ROWS, session_id=["1", "1", "2", "3", "3"], text_id=list("xyxzz")))
    assert report.clean and not report.leaks
    assert report.verdict() == (
        "CLEAN: no test speaker is in the training or validation part in the split; not checked: audio: none given."
    )
    assert not found(report, "note")


def test_test_speakers_in_training_are_counted_by_fold():
    rows = [
        *[("a1", "train", "anna", 0), ("b1", "train", "ben", 0), ("b2", "validation", "dora", 0)],
        *[("b3", "test", "ben", 0), ("c1", "test", "cleo", 0)],
        *[("a1", "train", "anna", 1), ("d1", "validation", "dora", 1), ("a3", "test", "anna", 1)],
        *[("a1", "train", "anna", 2), ("d1", "validation", "dora", 2), ("c1", "test", "cleo", 2)],
    ]
    report = audit(table(rows))
    assert found(report) == {
        "test speakers in train": "1 of 2 test speakers are in the training part of fold 0 (and 1 more folds)"
    }
    (leak,) = report.leaks
    assert leak.counts == {0: 1, 1: 1} and leak.examples == ["fold 0: ben", "fold 1: anna"]
    assert report.verdict().startswith(
        "LEAK: 1 of 2 test speakers are in the training part of fold 0 (and 1 more folds);"
    )
    assert not report.clean


@pytest.mark.parametrize(
    ("row", "check"),
    [
        (("c9", "validation", "cleo"), "test speakers in validation"),
        (("b9", "train", "ben"), "validation speakers in train"),
        (("c9", "train", "cleo"), "test speakers in train"),
    ],
)
def test_speakers_between_two_parts(row, check):
    assert list(found(audit(table([*CLEAN_ROWS, row])))) == [check]


@pytest.mark.parametrize(
    ("row", "check"),
    [
        (("c1", "train", "dan"), "test utterances in train"),
        (("c1", "validation", "dan"), "test utterances in validation"),
        (("b1", "train", "dan"), "validation utterances in train"),
    ],
)
def test_utterances_between_two_parts(row, check):
    assert list(found(audit(table([*CLEAN_ROWS, row])))) == [check]


def test_validation_that_is_the_test_part():
    rows = [("a1", "train", "anna"), ("c1", "validation", "cleo"), ("c1", "test", "cleo")]
    assert found(audit(table(rows)))["validation = test"] == "validation = test: the two parts are the same"
    speakers_only = table([(None, part, speaker) for _, part, speaker in rows])
    assert "validation = test" in found(audit(speakers_only))
    # One speaker's other utterances are a leak of speakers, and not the same part.
    assert "validation = test" not in found(audit(table([*rows[:2], ("c2", "test", "cleo")])))


def test_dialogue_partners():
    rows = [("f", "test", "Ses01F"), ("m", "train", "Ses01M"), ("x", "train", "Ses02M"), ("y", "validation", "Ses02F")]
    report = audit(table(rows, session_id=["Ses01", "Ses01", "Ses02", "Ses02"]))
    assert list(found(report)) == ["test sessions with dialogue partners in train"]  # validation shares Ses02 freely
    report = audit(table(rows, session_id=["Ses01", None, "Ses02", "Ses01"]))
    assert list(found(report)) == ["test sessions with dialogue partners in validation"]
    assert "sessions with dialogue partners" in found(audit(table(rows)), "not checked")


def test_shared_sentences_are_a_note():
    report = audit(table(CLEAN_ROWS, text_id=list("xyxxz")))
    assert report.clean
    assert found(report, "note") == {
        "test sentences in train": "1 of 2 test sentences are in the training part",
        "test sentences in validation": "1 of 2 test sentences are in the validation part",
    }


def test_unknown_people():
    assert audit(table([*CLEAN_ROWS, ("o", "train", "bhavvani/others")])).clean
    assert list(found(audit(table([*CLEAN_ROWS, ("o", "test", "bhavvani/others")])))) == ["unknown people tested"]


def test_repeated_utterances_are_a_note():
    report = audit(table([*CLEAN_ROWS, ("c1", "test", "cleo")]))
    assert list(found(report, "note")) == ["repeated utterances"] and report.clean
    twice = [(name, part, speaker, fold) for fold in (0, 1) for name, part, speaker in CLEAN_ROWS]
    report = audit(table(twice))
    (note,) = [finding for finding in report.findings if finding.severity == "note"]
    assert note.counts == {1: 2} and note.examples == ["fold 1: c1, c2"]


SEGMENTS = [
    ("talk1_seg03", "talk1"),
    ("talk1-segment-12.wav", "talk1"),
    ("wavs/talk1.chunk2.flac", "wavs/talk1"),
    ("train/talk1_part2.wav", "talk1"),
    ("talk-0.0-3.0.wav", "talk"),
    ("talk_12.50_15.25", "talk"),
    ("Ses01F_impro01_F000_1.wav", "Ses01F_impro01_F000"),
    ("wav/Ses05M_script01_1b_MXX0-2", "wav/Ses05M_script01_1b_MXX0"),
]
UTTERANCES = [
    *("ravdess/03-01-05-01-02-01-24", "wav/03a01Fa.wav", "AudioWAV/1001_DFA_ANG_XX.wav", "Colere/Faible/01-C-1-1.wav"),
    *("Ses01F_impro01_F000", "Ses01M_script01_1_M012.wav", "Ses05F_script02_2_FXX1", "Ses03M_impro05a_M003"),
    *("train_12.mp4", "MSP-PODCAST_0001_0008.wav", "dia0_utt3", "X_000", "segment_0001", "part_2", "03a01Fa_2"),
]


@pytest.mark.parametrize(("name", "source"), SEGMENTS)
def test_names_of_segments(name, source):
    assert module._source(name) == source


@pytest.mark.parametrize("name", UTTERANCES)
def test_names_of_whole_utterances(name):
    assert module._source(name) is None


@pytest.mark.parametrize("other", ["talk1_seg02", "talk1"])
def test_segments_of_one_recording(other):
    report = audit(table([*CLEAN_ROWS, ("talk1_seg01", "test", "dan"), (other, "train", "eve")]))
    assert list(found(report)) == ["test recordings cut into segments in train"]
    assert audit(table([*CLEAN_ROWS, ("talk1_seg01", "test", "cleo"), ("talk1_seg02", "test", "cleo")])).clean


def test_segments_by_source():
    report = audit(table(CLEAN_ROWS, source_id=["r1", "r2", None, "r2", "r3"]))
    assert list(found(report)) == ["test recordings cut into segments in train"]


def test_speakers_without_utterances():
    report = audit(table([(None, part, speaker) for _, part, speaker in CLEAN_ROWS]))
    assert report.clean and "utterances" in found(report, "not checked")


def test_utterances_without_speaker_leave_it_undecided():
    rows = [*CLEAN_ROWS, ("u1", "train", None), ("u2", "train", np.nan)]
    report = audit(table(rows))
    assert not report.clean and not report.leaks
    assert report.verdict().startswith(
        "UNDECIDED: no leak among what could be checked; not checked: speakers of 2 utt"
    )
    # Where the part states its speakers, nothing is missing.
    assert audit(table([*rows, (None, "train", "dan")])).clean


@pytest.mark.parametrize("part", ["train", "test"])
def test_one_part_only_is_undecided(part):
    report = audit(table([("a1", part, "anna"), ("b1", part, "ben")]))
    assert report.verdict().startswith("UNDECIDED") and "parts" in found(report, "not checked")


def test_no_validation_part():
    rows = [row for row in CLEAN_ROWS if row[1] != "validation"]
    report = audit(table(rows))
    assert report.clean and found(report, "not checked")["validation"] == "validation part: none"


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (table(CLEAN_ROWS)[:0], "no rows"),
        (table(CLEAN_ROWS).drop(columns="speaker_id"), "lacks speaker_id; its columns are utterance_id, part, fold"),
        (table([("a1", "dev", "anna")]), "unknown part 'dev'; parts are train, validation, test"),
        (table([("a1", None, "anna")]), "unknown part"),
        (table([("a1", "train", "anna", None)]), "the fold is empty in 1 of 1 rows"),
    ],
)
def test_tables_that_cannot_be_audited(frame, message):
    with pytest.raises(AuditError, match=message):
        audit(frame)


def test_report_as_text_and_for_cards():
    report = audit(table([*CLEAN_ROWS, ("c9", "train", "cleo")], text_id=list("xyxxzz")))
    lines = report.markdown().splitlines()
    assert lines[0] == report.verdict() and lines[2].startswith("| check ") and lines[3].startswith("|---")
    assert len({len(line) for line in lines if line.startswith("|")}) == 1  # columns line up
    summary = report.summary()
    assert json.loads(json.dumps(summary)) == summary
    assert summary["leaks"] == ["1 of 1 test speakers are in the training part"] and not summary["clean"]
    assert summary["notes"] and summary["not_checked"] and summary["num_folds"] == 1


# ---------------------------------------------------------------------------------------------------------------------
# Our own folds and splits


def corpus(num_speakers, num_utterances):
    rows = [
        (f"c/{speaker:02d}_{number}", f"c/{speaker:02d}")
        for speaker in range(num_speakers)
        for number in range(num_utterances)
    ]
    names, speakers = zip(*rows)
    columns = {"utterance_id": names, "speaker_id": speakers, "session_id": None, "text_id": "t", "corpus": "c"}
    return datasets.Dataset.from_pandas(pd.DataFrame(columns))


def test_folds_table():
    dataset = corpus(4, 2)
    frame = folds_table(dataset, [Fold(0, [0, 1], [2, 3], [4, 5], "speakers"), Fold(3, [0], [], [7], "random")])
    assert list(zip(frame["fold"], frame["part"], frame["utterance_id"])) == [
        *[(0, "train", "c/00_0"), (0, "train", "c/00_1"), (0, "validation", "c/01_0"), (0, "validation", "c/01_1")],
        *[(0, "test", "c/02_0"), (0, "test", "c/02_1"), (3, "train", "c/00_0"), (3, "test", "c/03_1")],
    ]
    assert set(frame["text_id"]) == {"c/t"} and frame["session_id"].isna().all()
    assert audit(frame).clean


@pytest.mark.parametrize(
    "path", [path for path in sorted(SPLITS.glob("*.json")) if path.name != "speakers.json"], ids=str
)
def test_committed_splits_are_clean(path):
    report = audit_file(path)
    assert report.clean, report.verdict()


def write_split(path, test="b"):
    parts = {"train": ["a"], "validation": ["c"], "test": [test], "excluded": ["d"]}
    folds = [{part: {"speakers": names} for part, names in parts.items()}]
    path.write_text(json.dumps({"corpus": "demo", "protocol": "speakers", "folds": folds}))
    return path


def test_split_with_a_shared_speaker(tmp_path):
    assert audit_file(write_split(tmp_path / "clean.json")).clean
    assert list(found(audit_file(write_split(tmp_path / "leaky.json", test="a")))) == ["test speakers in train"]


def test_split_with_utterance_ids(tmp_path):
    path = write_split(tmp_path / "official.json")
    split = json.loads(path.read_text())
    split["folds"][0]["train"]["utterance_ids"] = ["u1", "u2"]
    split["folds"][0]["test"]["utterance_ids"] = ["u2"]
    path.write_text(json.dumps(split))
    assert list(found(audit_file(path))) == ["test utterances in train"]


def test_split_with_its_corpus(ravdess, tmp_path):
    # 6 actors of the fixture: 1 and 2 train, 3 and 4 validate, 5 and 6 are tested.
    names = {"train": ("01", "02"), "validation": ("03", "04"), "test": ("05", "06")}
    fold = {part: {"speakers": [f"ravdess/{name}" for name in speakers]} for part, speakers in names.items()}
    path = tmp_path / "ravdess.json"
    path.write_text(json.dumps({"corpus": "ravdess", "folds": [fold]}))
    report = audit_file(path, data_dir=ravdess[3])
    assert "test utterances in train" in found(report, "clean")
    assert "test sentences in train" in found(report, "note")
    assert {"utterances", "audio"}.isdisjoint(found(report, "not checked"))


# ---------------------------------------------------------------------------------------------------------------------
# Predictions


def write_predictions(folder, rows):
    lines = [(name, speaker, fold, "anger", "anger") for name, speaker, fold in rows]
    frame = pd.DataFrame(lines, columns=["utterance_id", "speaker_id", "fold", "emotion", "predicted_emotion"])
    frame.to_csv(folder / "predictions.csv", index=False)
    return folder / "predictions.csv"


ROWS = [("c/a1", "c/a", 0), ("c/a2", "c/a", 0), ("c/b1", "c/b", 1), ("c/c1", "c/c", 2)]


def test_predictions_alone(tmp_path):
    report = audit_file(write_predictions(tmp_path, ROWS))
    assert report.clean and "validation part: none in fold 0 (and 2 more folds)" in report.verdict()
    assert found(report, "note")["training"].startswith(
        "nobody says who trains: all other rows are taken to do so in fold 0"
    )
    report = audit_file(write_predictions(tmp_path, [*ROWS, ("c/a3", "c/a", 1)]))
    assert list(found(report)) == ["test speakers in train"]
    assert report.leaks[0].counts == {0: 1, 1: 1}


def test_an_utterance_predicted_twice(tmp_path):
    report = audit_file(write_predictions(tmp_path, [*ROWS, ROWS[0]]))
    assert "repeated utterances" in found(report, "note")
    report = audit_file(write_predictions(tmp_path, [*ROWS, ("c/a1", "c/a", 2)]))
    assert "repeated utterances" in found(report, "note") and "test utterances in train" in found(report)


def test_predictions_beside_their_folds(tmp_path):
    path = write_predictions(tmp_path, ROWS)
    speakers = {0: (["c/c"], ["c/b"]), 1: (["c/a"], ["c/c"]), 2: (["c/a", "c/b"], [])}
    for fold, (train, validation) in speakers.items():
        (tmp_path / f"fold_{fold:02d}").mkdir()
        content = {"train_speakers": train, "validation_speakers": validation}
        (tmp_path / f"fold_{fold:02d}" / "metrics.json").write_text(json.dumps(content))
    report = audit_file(path)
    assert report.clean and "training" not in found(report, "note")
    assert "validation speakers in train" in found(report, "clean")
    (tmp_path / "fold_01" / "metrics.json").write_text(
        json.dumps({"train_speakers": ["c/a", "c/b"], "validation_speakers": ["c/b"]})
    )
    assert list(found(audit_file(path))) == [
        *["test speakers in train", "test speakers in validation", "validation speakers in train"]
    ]
    (tmp_path / "fold_01" / "metrics.json").write_text("{}")
    with pytest.raises(AuditError, match=r"fold_01.metrics\.json: no lists"):
        audit_file(path)


@pytest.mark.parametrize("seed", [42, 43, 44])
@pytest.mark.parametrize(("name", "num_folds"), [("ravdess", 12), ("emodb-2s", 10)])
def test_predictions_of_committed_results(name, num_folds, seed):
    report = audit_file(RESULTS / name / "camulenet-small" / f"seed_{seed}" / "predictions.csv")
    assert report.clean and len(report.folds) == num_folds
    assert "test speakers in train" in found(report, "clean")


# ---------------------------------------------------------------------------------------------------------------------
# Tables of others

THEIRS = [
    {"file": "001_x.wav", "split": "Training", "spk": "001"},
    {"file": "002_x.wav", "split": "dev", "spk": "002"},
    {"file": "003_x.wav", "split": "eval", "spk": "003"},
]


def write_table(path, rows):
    frame = pd.DataFrame(rows)
    if path.suffix in (".csv", ".tsv"):
        frame.to_csv(path, index=False, sep="," if path.suffix == ".csv" else "\t")
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        path.write_text(frame.to_json(orient="records", lines=path.suffix == ".jsonl"))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_formats(tmp_path, suffix):
    assert audit_file(write_table(tmp_path / f"clean{suffix}", THEIRS)).clean
    leaky = [*THEIRS, {"file": "004_x.wav", "split": "train", "spk": "003"}]
    assert list(found(audit_file(write_table(tmp_path / f"leaky{suffix}", leaky)))) == ["test speakers in train"]


def test_columns_by_name(tmp_path):
    rows = [{"clip": row["file"], "cv": "k1", "role": row["split"], "who": row["spk"]} for row in THEIRS]
    columns = {"utterance": "clip", "fold": "cv", "part": "role", "speaker": "who"}
    report = audit_file(write_table(tmp_path / "t.csv", rows), columns=columns)
    assert report.clean and report.folds == ["k1"]


def test_spaces_and_numbers_do_not_hide_a_speaker(tmp_path):
    rows = [*THEIRS, {"file": "004_x.wav", "split": "train", "spk": " 003 "}]
    assert audit_file(write_table(tmp_path / "t.csv", rows)).leaks
    rows = [row | {"spk": int(row["spk"])} for row in THEIRS] + [{"file": "x", "split": "train", "spk": 3}]
    assert audit_file(write_table(tmp_path / "t.parquet", rows)).leaks


def test_segments_by_times(tmp_path):
    times = [(0, 3), (0, 3), (0, 3), (3, 6)]
    rows = [
        row | {"start": start, "end": end}
        for row, (start, end) in zip([*THEIRS, THEIRS[2] | {"split": "train"}], times)
    ]
    report = audit_file(write_table(tmp_path / "t.csv", rows))
    assert list(found(report)) == ["test speakers in train", "test recordings cut into segments in train"]


def test_speaker_pattern(tmp_path):
    path = write_table(tmp_path / "t.csv", [{"file": row["file"], "split": row["split"]} for row in THEIRS])
    assert audit_file(path, speaker_pattern=r"^(\d+)_").clean
    assert audit_file(path, speaker_pattern=r"^\d(?P<speaker>\d)").leaks
    for pattern, message in [
        ("(", "regular expression"),
        (r"\d+", "with a group"),
        ("^(001)", "no speaker in 2:\n  002_x"),
    ]:
        with pytest.raises(AuditError, match=message):
            audit_file(path, speaker_pattern=pattern)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"split": "train", "spk": "1"}],
            r"no column of utterances \(the columns are split, spk\).*--utterance_column",
        ),
        ([{"file": "a", "spk": "1"}], "no column of parts or folds .*--part_column"),
        ([{"file": "a", "split": "train"}], "no column of speakers .* cannot be audited for them.*--speaker_pattern"),
        (
            [{"file": "a", "path": "b", "split": "train", "spk": "1"}],
            "file, path could each be the utterance.*--utterance_col",
        ),
        ([{"file": "a", "split": "holdout", "spk": "1"}], "unknown part 'holdout' in split; known are train"),
        (
            [{"file": "a", "split": "train", "spk": "1"}, {"file": "", "split": "test", "spk": "1"}],
            "file is empty in row 2",
        ),
        ([{"file": "a", "split": "", "spk": "1"}], "split is empty in row 1"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, rows, message):
    with pytest.raises(AuditError, match=message):
        audit_file(write_table(tmp_path / "t.csv", rows))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "not readable"),
        ("t.csv", "file,split,spk\n", "no rows"),
        ("t.json", "{", "not readable"),
        ("t.json", "{}", "not like the files of dataset_scripts/splits"),
        ("t.json", '{"corpus": "demo", "folds": []}', "no fold names a speaker"),
        ("t.jsonl", "[", "not readable"),
        ("t.txt", "", "not one of .csv"),
        ("t.parquet", "x", "not readable"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(AuditError, match=message):
        audit_file(tmp_path / name)


def test_column_or_folder_that_is_not_there(tmp_path):
    path = write_table(tmp_path / "t.csv", THEIRS)
    with pytest.raises(AuditError, match="no column 'who' for the speaker; the columns are file, split, spk"):
        audit_file(path, columns={"speaker": "who"})
    with pytest.raises(AuditError, match="data_dir .*nowhere is not a directory"):
        audit_file(path, data_dir=tmp_path / "nowhere")
    with pytest.raises(AuditError, match="no audio file is named like an utterance, such as 001_x.wav"):
        audit_file(path, data_dir=tmp_path)
    with pytest.raises(AuditError, match="not readable"):
        audit_file(tmp_path / "absent.csv")


def run_main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["audit", *map(str, arguments)])
    return module.main()


def test_exit_codes(tmp_path, monkeypatch, capsys):
    path = write_table(tmp_path / "t.csv", THEIRS)
    assert run_main(monkeypatch, path) == 0
    assert capsys.readouterr().out.startswith("CLEAN: ")
    assert run_main(monkeypatch, path, "--speaker_column", "split") == 0
    assert run_main(monkeypatch, path, "--speaker_pattern", "(x)") == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("  ")
    assert run_main(monkeypatch, write_table(tmp_path / "u.csv", THEIRS[:1])) == 2
    assert capsys.readouterr().out.startswith("UNDECIDED: ")
    assert run_main(monkeypatch, path, "--speaker_column", "who") == 2
    assert capsys.readouterr().err.startswith("audit: ")


# ---------------------------------------------------------------------------------------------------------------------
# Audio


@pytest.fixture(scope="module")
def voices():
    return [speech(seed) for seed in range(8)]


def write_clips(folder, clips):
    folder.mkdir(exist_ok=True)
    for name, wave in clips.items():
        soundfile.write(folder / name, wave, RATE)
    return folder


def theirs_with_audio(folder, voices, **more):
    names = [row["file"] for row in THEIRS]
    return write_clips(folder, dict(zip(names, voices)) | more)


def test_same_audio_in_two_parts(tmp_path, voices):
    path = write_table(tmp_path / "t.csv", [*THEIRS, {"file": "004_x.flac", "split": "test", "spk": "004"}])
    folder = theirs_with_audio(tmp_path / "wav", voices)
    copies = {
        "same file": lambda target: target.write_bytes((folder / "001_x.wav").read_bytes()),
        "same samples": lambda target: soundfile.write(
            target, soundfile.read(folder / "001_x.wav", dtype="int16")[0], RATE
        ),
        "of the fingerprint's bits differ": lambda target: soundfile.write(target, voices[0][4000:-3000], RATE),
    }
    for how, write in copies.items():
        write(folder / "004_x.flac")
        report = audit_file(path, data_dir=folder)
        assert list(found(report)) == ["same audio in two parts"]
        (example,) = report.leaks[0].examples
        assert example.startswith("001_x.wav = 004_x.flac (") and how in example
    soundfile.write(folder / "004_x.flac", voices[5], RATE)
    report = audit_file(path, data_dir=folder)
    assert report.clean and "none of 4 clips sounds like one of another part" in report.verdict()


def test_same_audio_in_one_part_is_a_note(tmp_path, voices):
    path = write_table(tmp_path / "t.csv", [*THEIRS, {"file": "003_y.wav", "split": "test", "spk": "003"}])
    report = audit_file(path, data_dir=theirs_with_audio(tmp_path / "wav", voices, **{"003_y.wav": voices[2]}))
    assert report.clean and "same audio in one part" in found(report, "note")


def test_audio_of_folds(tmp_path, voices):
    # Speakers a, b, c are each tested once; one clip of a is one of b: in one part in fold 2, in two in folds 0 and 1.
    folder = write_clips(tmp_path / "wav", {"a1.wav": voices[0], "b1.wav": voices[0] * 0.5, "c1.wav": voices[2]})
    path = write_predictions(tmp_path, [("c/a1", "c/a", 0), ("c/b1", "c/b", 1), ("c/c1", "c/c", 2)])
    (leak,) = audit_file(path, data_dir=folder).leaks
    assert leak.check == "same audio in two parts" and leak.counts == {0: 1, 1: 1}


def test_missing_and_unreadable_audio_is_listed(tmp_path, voices):
    rows = THEIRS + [{"file": f"{number:03d}_y.wav", "split": "train", "spk": "001"} for number in range(30)]
    folder = theirs_with_audio(tmp_path / "wav", voices)
    (folder / "003_x.wav").write_bytes(b"not audio")
    report = audit_file(write_table(tmp_path / "t.csv", rows), data_dir=folder)
    (finding,) = [finding for finding in report.findings if finding.check == "audio files"]
    assert finding.text == "audio of 31 of 33 utterances: missing or unreadable" and len(finding.examples) == 31
    text = report.markdown()
    assert "  000_y.wav: no such audio file" in text and "  ... and 11 more" in text
    assert any("not readable as audio" in example for example in finding.examples)
    assert report.clean  # of speakers; the verdict says what was not compared
    assert "not checked: " in report.verdict() and finding.text in report.verdict()


def test_audio_is_found_by_path_or_only_by_its_name(tmp_path, voices):
    folder = write_clips(tmp_path / "wav", {})
    write_clips(folder / "one", {"a.wav": voices[0], "b.wav": voices[1]})
    write_clips(folder / "two", {"b.wav": voices[2]})
    shutil.copy(folder / "one" / "a.wav", tmp_path / "outside.wav")
    outside = ["../outside.wav", "one/../../outside.wav", str(tmp_path / "outside.wav")]
    audio = module._find_audio(["one/b.wav", "elsewhere/a", "b", *outside], folder)
    assert {name: Path(source["path"]).relative_to(folder).as_posix() for name, source in audio.items()} == {
        "one/b.wav": "one/b.wav",
        "elsewhere/a": "one/a.wav",
    }


# ---------------------------------------------------------------------------------------------------------------------
# Real data


@pytest.mark.parametrize(
    ("name", "pattern", "num_speakers"), [("cremad", r"/(\d{4})_", 91), ("emodb", r"/(\d\d)[ab]\d\d", 10)]
)
def test_random_utterances_like_emobox_are_caught(tmp_path, name, pattern, num_speakers):
    path = SHARED / "emobox" / f"{name}.csv"
    if not path.is_file():
        pytest.skip("the list of EmoBox's utterances is not here")
    with path.open(encoding="utf-8", newline="") as file:
        utterances = [row["path"] for row in csv.DictReader(file)]
    random.Random(0).shuffle(utterances)
    rows = [{"path": utterance, "fold": index % 5} for index, utterance in enumerate(utterances)]
    report = audit_file(write_table(tmp_path / "t.csv", rows), speaker_pattern=pattern)
    text = f"{num_speakers} of {num_speakers} test speakers are in the training part of fold 0 (and 4 more folds)"
    assert report.verdict().startswith(f"LEAK: {text};")
