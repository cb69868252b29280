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
from ser_protocol.audit import AuditError, AuditReport, Finding, audit, audit_file, folds_table

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
    columns = {"session_id": ["1", "1", "2", "3", "3"], "text_id": list("xyxzz")}
    report = audit(table(CLEAN_ROWS, **columns))
    assert report.clean and not report.leaks
    assert report.verdict() == (
        "CLEAN: no test speaker is in the training or validation part in the split; not checked: audio: none given."
    )
    assert not found(report, "note")
    assert [finding.check for finding in report.findings] == [
        *(f"{first} speakers in {second}" for first, second in module.PAIRS),
        *(f"{first} utterances in {second}" for first, second in module.PAIRS),
        *("test sessions with dialogue partners in train", "test sessions with dialogue partners in validation"),
        *("test sentences in train", "test sentences in validation", "audio"),
    ]
    assert found(report, "clean")["validation speakers in train"] == "no validation speakers in the training part"
    twice = pd.concat(
        [table(CLEAN_ROWS, **columns).assign(fold=fold, utterance_id=None) for fold in ("b", 10, "a", 9)]
    )
    assert audit(twice).folds == [9, 10, "a", "b"]
    assert " in 2 folds;" in audit(twice[twice["fold"].isin(["a", "b"])]).verdict()
    assert audit(twice).verdict() == (
        "CLEAN: no test speaker is in the training or validation part in 4 folds; not checked: utterances: none "
        "named, audio: none given."
    )


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
    # The fold with the most is named first, its examples in the order of the folds and at most eight of them.
    many = [(name, part, name) for name in "abcdefghi" for part in ("train", "test")]
    report = audit(pd.concat([table(rows), table(many).assign(fold=5)]))
    leak = report.leaks[0]
    assert leak.text == "9 of 9 test speakers are in the training part of fold 5 (and 2 more folds)"
    assert leak.counts == {0: 1, 1: 1, 5: 9}
    assert leak.examples == ["fold 0: ben", "fold 1: anna", "fold 5: a, b, c, d, e, f, g, h and 1 more"]


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
    several = pd.concat([table(rows).assign(fold=fold) for fold in range(3)] + [table(CLEAN_ROWS).assign(fold=3)])
    (leak,) = [leak for leak in audit(several).leaks if leak.check == "validation = test"]
    assert leak.text == "validation = test: the two parts are the same in fold 0 (and 2 more folds)"
    assert leak.counts == {0: 1, 1: 1, 2: 1}
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
    assert all(finding.examples == () for finding in report.findings)  # which sentences, nobody needs to know


def test_unknown_people():
    assert audit(table([*CLEAN_ROWS, ("o", "train", "bhavvani/others")])).clean
    (leak,) = audit(table([*CLEAN_ROWS, ("o", "test", "bhavvani/others")])).leaks
    assert (leak.check, leak.counts, leak.examples) == ("unknown people tested", {0: 1}, ["bhavvani/others"])
    assert leak.text == 'unknown people ("others") are tested: nobody can say that they are unseen'
    folds = [table(CLEAN_ROWS), table([("o", "test", "x/others"), ("p", "test", "y/others")]).assign(fold=1)]
    (leak,) = audit(pd.concat(folds)).leaks
    assert leak.text == 'unknown people ("others") are tested in fold 1: nobody can say that they are unseen'
    assert leak.counts == {1: 2} and [text.split(", ")[1] for text in leak.examples] in (["x/others"], ["y/others"])


def test_repeated_utterances_are_a_note():
    report = audit(table([*CLEAN_ROWS, ("c1", "test", "cleo")]))
    assert list(found(report, "note")) == ["repeated utterances"] and report.clean
    twice = [(name, part, speaker, fold) for fold in (0, 1) for name, part, speaker in CLEAN_ROWS]
    report = audit(table(twice))
    (note,) = [finding for finding in report.findings if finding.severity == "note"]
    assert note.counts == {1: 2} and note.examples == ["fold 1: c1, c2"]
    assert note.text == "2 utterances are twice in a part or tested twice: pooled figures would count them twice"
    # Once in each part is no repetition of this kind, nor are nameless utterances.
    assert not found(audit(table([("a1", "train", "anna"), ("a1", "test", "anna")])), "note")
    assert not found(audit(table([(None, "test", "anna"), (None, "test", "ben")])), "note")


SEGMENTS = [
    ("talk1_seg03", "talk1"),
    ("talk1-segment-12.wav", "talk1"),
    ("wavs/talk1.chunk2.flac", "wavs/talk1"),
    ("train/talk1_part2.wav", "talk1"),
    ("talk-0.0-3.0.wav", "talk"),
    ("talk_12.50_15.25", "talk"),
    ("Ses01F_impro01_F000_1.wav", "Ses01F_impro01_F000"),
    ("C:\\Wavs\\TEST\\Dev\\Talk1_SEG3.WAV", "C:/Wavs/Talk1"),
    ("train_seg1.d/talk1.wav.seg2", "train_seg1.d/talk1.wav"),
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
    # Where a recording is here whole, its file's suffix and part do not make it another.
    report = audit(table([*CLEAN_ROWS, ("test/talk1_seg01.wav", "test", "dan"), ("train/talk1.flac", "train", "eve")]))
    assert list(found(report)) == ["test recordings cut into segments in train"]
    assert report.leaks[0].examples == ["talk1"]


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
    assert report.verdict() == (
        "UNDECIDED: no leak among what could be checked; not checked: speakers of 2 utterances: not named, sessions "
        "with dialogue partners: none named, sentences: none named, audio: none given."
    )
    (finding,) = [finding for finding in report.findings if finding.check == "speakers"]
    assert finding.counts == {0: 2} and finding.examples == ["u1", "u2"]
    # An utterance of two folds is one utterance and two cases.
    again = pd.concat([table(rows), table(rows[:-1]).assign(fold=1)])
    (finding,) = [finding for finding in audit(again).findings if finding.check == "speakers"]
    assert finding.text == "speakers of 2 utterances: not named" and finding.counts == {0: 2, 1: 1}
    # Where the part states its speakers, nothing is missing.
    assert audit(table([*rows, (None, "train", "dan")])).clean
    assert not audit(table([*rows, (None, "test", "dan")])).clean
    assert not audit(table([*rows, (None, "train", "dan", 1)])).clean


@pytest.mark.parametrize("part", ["train", "test"])
def test_one_part_only_is_undecided(part):
    report = audit(table([("a1", part, "anna"), ("b1", part, "ben")]))
    other = {"train": "test", "test": "train"}[part]
    assert report.verdict().startswith("UNDECIDED")
    assert found(report, "not checked")["parts"] == f"{other} part: none"
    report = audit(table([*CLEAN_ROWS, ("a1", part, "anna", 1), ("a1", part, "anna", 2)]))
    finding = next(finding for finding in report.findings if finding.check == "parts")
    assert finding.text == f"{other} part: none in fold 1 (and 1 more folds)" and finding.counts == {1: 1, 2: 1}


def test_no_validation_part():
    rows = [row for row in CLEAN_ROWS if row[1] != "validation"]
    report = audit(table(rows))
    assert report.clean and found(report, "not checked")["validation"] == "validation part: none"


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (table(CLEAN_ROWS)[:0], "the table has no rows"),
        (
            table(CLEAN_ROWS).drop(columns="speaker_id"),
            "the table lacks speaker_id; its columns are utterance_id, part, fold",
        ),
        (table(CLEAN_ROWS)[["part"]], "the table lacks utterance_id, fold, speaker_id; its columns are part"),
        (
            table([("a1", "x", "anna"), ("a2", "dev", "anna"), ("a3", None, "anna")]),
            "unknown part 'dev', 'x', '(empty)'; parts are train, validation, test",
        ),
        (table([*CLEAN_ROWS, ("a1", "train", "anna", None)]), "the fold is empty in 1 of 6 rows; fill it in"),
    ],
)
def test_tables_that_cannot_be_audited(frame, message):
    with pytest.raises(AuditError) as error:
        audit(frame)
    assert str(error.value) == message


def test_report_as_text_and_for_cards():
    report = audit(
        table([("a1", "train", "anna"), ("c1", "test", "cleo"), ("a1", "train", "cleo")], text_id=list("xxy"))
    )
    verdict = (
        "LEAK: 1 of 1 test speakers are in the training part; not checked: validation part: none, sessions with "
        "dialogue partners: none named, audio: none given."
    )
    repeated = "1 utterances are twice in a part or tested twice: pooled figures would count them twice"
    assert report.verdict() == verdict
    assert report.summary() == {
        "verdict": verdict,
        "clean": False,
        "num_folds": 1,
        "leaks": ["1 of 1 test speakers are in the training part"],
        "notes": ["1 of 1 test sentences are in the training part", repeated],
        "not_checked": ["validation part: none", "sessions with dialogue partners: none named", "audio: none given"],
    }
    cells = [tuple(map(str.strip, line.split("|")[1:-1])) for line in report.markdown().splitlines() if "|" in line]
    assert cells[2:] == [
        ("validation", "not checked", "1 of 1", "1", "validation part: none"),
        ("test speakers in train", "leak", "1 of 1", "1", "1 of 1 test speakers are in the training part"),
        ("test utterances in train", "clean", "", "", "no test utterances in the training part"),
        ("sessions with dialogue partners", "not checked", "", "", "sessions with dialogue partners: none named"),
        ("test sentences in train", "note", "1 of 1", "1", "1 of 1 test sentences are in the training part"),
        ("repeated utterances", "note", "1 of 1", "1", repeated),
        ("audio", "not checked", "", "", "audio: none given"),
    ]
    assert report.markdown().endswith("|\n\ntest speakers in train:\n  cleo\n\nrepeated utterances:\n  a1")


def test_report_as_markdown():
    findings = [
        Finding("speakers", "leak", "a|b\nc", {0: 1, 2: 3}, ["x", "y"]),
        Finding("audio", "not checked", "none given"),
    ]
    assert (
        AuditReport([0, 1, 2], findings).markdown()
        == """\
LEAK: a|b
c; not checked: none given.

| check    | result      | folds  | cases | in words   |
|----------|-------------|--------|-------|------------|
| speakers | leak        | 2 of 3 | 4     | a\\|b c     |
| audio    | not checked |        |       | none given |

speakers:
  x
  y"""
    )


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
    assert list(frame.index) == list(range(8))
    # Two folds that test the same row.
    frame = folds_table(dataset, [Fold(fold, [0, 1], [2, 3], [4, 5], "speakers") for fold in (0, 1)])
    (note,) = [finding for finding in audit(frame).findings if finding.check == "repeated utterances"]
    assert note.examples == ["fold 1: c/02_0, c/02_1"]


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
    assert audit_file(write_split(tmp_path / "latin.json", test="\udce9ric")).clean  # a name that is not UTF-8


def test_split_with_utterance_ids(tmp_path):
    path = write_split(tmp_path / "official.json")
    split = json.loads(path.read_text())
    split["folds"][0]["train"]["utterance_ids"] = ["u1", "u2"]
    split["folds"][0]["test"]["utterance_ids"] = ["u2"]
    path.write_text(json.dumps(split))
    report = audit_file(path)
    assert list(found(report)) == ["test utterances in train"]
    # The ids name nobody, and need not: the part states its speakers.
    assert "speakers" not in found(report, "not checked") and report.leaks[0].examples == ["u2"]


def test_split_with_its_corpus(ravdess, tmp_path):
    # 6 actors of the fixture: 1 and 2 train, 3 and 4 validate, 5 and 6 are tested.
    names = {"train": ("01", "02"), "validation": ("03", "04"), "test": ("05", "06")}
    fold = {part: {"speakers": [f"ravdess/{name}" for name in speakers]} for part, speakers in names.items()}
    path = tmp_path / "ravdess.json"
    path.write_text(json.dumps({"corpus": "ravdess", "folds": [fold]}))
    report = audit_file(path, data_dir=ravdess[3])
    assert "test utterances in train" in found(report, "clean")
    assert found(report, "note")["test sentences in train"] == "2 of 2 test sentences are in the training part"
    assert {"utterances", "audio"}.isdisjoint(found(report, "not checked"))
    assert found(report, "clean")["audio"] == "none of 48 clips sounds like one of another part"
    # Utterances by their names, where a part has them: one of actor 3 validates, and all of 5 and 6 are tested.
    fold["validation"]["utterance_ids"] = ["ravdess/03-01-01-01-01-01-03"]
    fold["test"]["speakers"].append("ravdess/03")
    path.write_text(json.dumps({"corpus": "ravdess", "folds": [fold]}))
    report = audit_file(path, data_dir=ravdess[3])
    assert found(report) == {
        "test speakers in validation": "1 of 3 test speakers are in the validation part",
        "test utterances in validation": "1 of 24 test utterances are in the validation part",
    }
    assert report.verdict().startswith(f"LEAK: {'; '.join(found(report).values())}")
    assert set(found(report, "note")) == {"test sentences in train", "test sentences in validation"}
    # What a split names and the corpus does not have is looked for and missed.
    fold["train"]["utterance_ids"] = ["ravdess/03-01-01-01-01-01-01", "ravdess/absent"]
    path.write_text(json.dumps({"corpus": "ravdess", "folds": [fold, fold]}))
    report = audit_file(path, data_dir=ravdess[3])
    assert report.folds == [0, 1]
    assert found(report, "not checked")["audio files"] == "audio of 1 of 26 utterances: missing or unreadable"
    assert found(report)["test utterances in validation"] == (
        "1 of 24 test utterances are in the validation part of fold 0 (and 1 more folds)"
    )


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
    assert found(report, "note") == {
        "training": "nobody says who trains: all other rows are taken to do so in fold 0 (and 2 more folds)"
    }
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
    # The rows of a fold's parts are those of their speakers, and their speakers those of metrics.json.
    table, assumed = module._tested_once(path, pd.DataFrame(ROWS, columns=["utterance_id", "speaker_id", "fold"]))
    assert assumed == []
    stated = sorted(zip(table["fold"], table["part"], table["speaker_id"], table["utterance_id"].fillna("")))
    assert stated == [
        *((0, "test", "c/a", "c/a1"), (0, "test", "c/a", "c/a2")),
        *((0, "train", "c/c", ""), (0, "train", "c/c", "c/c1")),
        *((0, "validation", "c/b", ""), (0, "validation", "c/b", "c/b1")),
        *(
            (1, "test", "c/b", "c/b1"),
            (1, "train", "c/a", ""),
            (1, "train", "c/a", "c/a1"),
            (1, "train", "c/a", "c/a2"),
        ),
        *((1, "validation", "c/c", ""), (1, "validation", "c/c", "c/c1")),
        *(
            (2, "test", "c/c", "c/c1"),
            (2, "train", "c/a", ""),
            (2, "train", "c/a", "c/a1"),
            (2, "train", "c/a", "c/a2"),
        ),
        *((2, "train", "c/b", ""), (2, "train", "c/b", "c/b1")),
    ]
    (tmp_path / "fold_02" / "metrics.json").unlink()
    assert found(audit_file(path), "note")["training"].endswith("all other rows are taken to do so in fold 2")
    (tmp_path / "fold_02" / "metrics.json").write_text(json.dumps(content))
    (tmp_path / "fold_01" / "metrics.json").write_text(
        json.dumps({"train_speakers": ["c/a", "c/b"], "validation_speakers": ["c/b"]})
    )
    # Which utterances of c/b train and which validate nobody can say: none is in two parts.
    assert list(found(audit_file(path))) == [
        *["test speakers in train", "test speakers in validation", "validation speakers in train"]
    ]
    metrics = tmp_path / "fold_01" / "metrics.json"
    metrics.write_text("{}")
    with pytest.raises(AuditError) as error:
        audit_file(path)
    assert str(error.value) == f"{metrics}: no lists train_speakers and validation_speakers; run the fold again"
    metrics.write_text(json.dumps({"train_speakers": None, "validation_speakers": None}))
    with pytest.raises(AuditError) as error:
        audit_file(path)
    assert str(error.value) == (
        f"{metrics}: train_speakers is null: the checkpoint that was tested does not say on whom it was trained, so "
        "nobody can tell whether it leaks"
    )


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


@pytest.mark.filterwarnings("error")  # pandas warns where it guesses what separates columns
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_formats(tmp_path, suffix):
    assert audit_file(write_table(tmp_path / f"clean{suffix}", THEIRS)).clean
    leaky = [*THEIRS, {"file": "004_x.wav", "split": "train", "spk": "003"}]
    assert list(found(audit_file(write_table(tmp_path / f"leaky{suffix}", leaky)))) == ["test speakers in train"]
    upper = (tmp_path / f"clean{suffix}").rename(tmp_path / f"CLEAN{suffix.upper()}")
    if suffix == ".jsonl":
        upper.write_text(upper.read_text().replace("\n", "\n \n"))
    assert audit_file(str(upper)).clean


def test_columns_by_name(tmp_path):
    rows = [{"clip": row["file"], "cv": "k1", "role": row["split"], "who": row["spk"]} for row in THEIRS]
    columns = {"utterance": "clip", "fold": "cv", "part": "role", "speaker": "who"}
    report = audit_file(write_table(tmp_path / "t.csv", rows), columns=columns)
    assert report.clean and report.folds == ["k1"]
    # Numbers are numbers if all are, and a given column goes before one with a usual name.
    for folds, numbers in (
        (["2", "10", "2"], [2, 10]),
        (["2", "10", "k"], ["10", "2", "k"]),
        (["1234567890"] * 3, ["1234567890"]),
    ):
        rows = [row | {"fold": fold, "spk": "same", " Who ": row["spk"]} for row, fold in zip(THEIRS, folds)]
        report = audit_file(write_table(tmp_path / "t.csv", rows), columns={"speaker": " Who "})
        assert report.folds == numbers and not report.leaks
    # Names of columns are found whatever their case and blanks.
    rows = [{" File": row["file"], "SPLIT ": row["split"].upper(), "Actor": row["spk"]} for row in THEIRS]
    assert audit_file(write_table(tmp_path / "t.csv", rows)).clean
    rows = [row | {"source": row["spk"][-1] * 2, "Sentence": "x", "dialogue": row["spk"]} for row in THEIRS]
    report = audit_file(write_table(tmp_path / "t.csv", rows))
    assert set(found(report, "clean")) > {
        *("test recordings cut into segments in train", "test sessions with dialogue partners in train")
    }
    assert "test sentences in train" in found(report, "note")


def test_folds_with_names_and_none_at_all(tmp_path):
    assert audit_file(write_table(tmp_path / "t.csv", THEIRS)).folds == [0]
    rows = [{"file": row["file"], "spk": row["spk"], "fold": f"k{row['spk']}"} for row in THEIRS]
    report = audit_file(write_table(tmp_path / "t.csv", rows))
    assert report.clean and report.folds == ["k001", "k002", "k003"]


def test_empty_cells_are_missing_values(tmp_path):
    assert [module._text(value) for value in (None, np.nan, "", " ", " a ", 3)] == [None] * 4 + ["a", "3"]
    rows = [row | {"session": session} for row, session in zip(THEIRS, ["", " ", "3"])]
    for suffix in (".csv", ".jsonl"):
        report = audit_file(write_table(tmp_path / f"t{suffix}", rows))
        assert report.clean and "test sessions with dialogue partners in train" not in found(report, "clean")
    assert not audit_file(write_table(tmp_path / "t.csv", [*THEIRS, THEIRS[0] | {"file": "x", "spk": " "}])).clean


def test_spaces_and_numbers_do_not_hide_a_speaker(tmp_path):
    rows = [*THEIRS, {"file": "004_x.wav", "split": "train", "spk": " 003 "}]
    assert audit_file(write_table(tmp_path / "t.csv", rows)).leaks
    for suffix in (".csv", ".tsv"):  # in text, 1 and 001 are two
        rows = [*THEIRS, {"file": "004_x.wav", "split": "test", "spk": "1"}]
        assert audit_file(write_table(tmp_path / f"t{suffix}", rows)).clean
        rows = [{"file": part, "split": part, "spk": "NA"} for part in ("train", "dev", "test")]  # a name like another
        assert "test speakers in train" in found(audit_file(write_table(tmp_path / f"t{suffix}", rows)))
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
    assert report.leaks[1].examples == ["003_x.wav"]
    # Without both ends, rows of a file are repetitions of it; a source that is given stays.
    without = [{name: value for name, value in row.items() if name != "end"} for row in rows]
    assert "test utterances in train" in found(audit_file(write_table(tmp_path / "t.csv", without)))
    rows = [row | {"source": number} for number, row in enumerate(rows)]
    assert list(found(audit_file(write_table(tmp_path / "t.csv", rows)))) == ["test speakers in train"]
    table, _ = module._own_table(tmp_path, pd.DataFrame(rows), None, {})
    assert list(table["utterance_id"]) == [*("001_x.wav@0-3", "002_x.wav@0-3", "003_x.wav@0-3", "003_x.wav@3-6")]


def test_speaker_pattern(tmp_path):
    path = write_table(tmp_path / "t.csv", [{"file": row["file"], "split": row["split"]} for row in THEIRS])
    assert audit_file(path, speaker_pattern=r"^(\d+)_").clean
    # The named group counts, wherever it is; the middle one of the three digits is the same in all.
    assert audit_file(path, speaker_pattern=r"^\d(?P<speaker>\d)").leaks
    assert audit_file(path, speaker_pattern=r"^(\d\d\d)?(?P<speaker>_)").leaks
    for pattern, message in [
        (
            "(",
            "--speaker_pattern '(': missing ), unterminated subpattern at position 0; it must be a regular expression "
            "with a group",
        ),
        (
            r"\d+",
            "--speaker_pattern '\\\\d+': no such group; it must be a regular expression with a group",
        ),
        (
            "^(001)",
            f"{path}: --speaker_pattern '^(001)' finds no speaker in 2:\n  002_x.wav\n  003_x.wav",
        ),
        (
            "^0(0[23])?",
            f"{path}: --speaker_pattern '^0(0[23])?' finds no speaker in 1:\n  001_x.wav",
        ),
    ]:
        with pytest.raises(AuditError) as error:
            audit_file(path, speaker_pattern=pattern)
        assert str(error.value) == message


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"split": "train", "spk": "1"}],
            "no column of utterances (the columns are split, spk); name it with --utterance_column",
        ),
        (
            [{"file": "a", "spk": "1"}],
            "no column of parts or folds (the columns are file, spk); name one: --part_column or --fold_column",
        ),
        (
            [{"file": "a", "split": "train"}],
            "no column of speakers (the columns are file, split), so it cannot be audited for them; name it with "
            "--speaker_column, or give --speaker_pattern, a regular expression that finds the speaker in an utterance",
        ),
        (
            [{"file": "a", "path": "b", "split": "train", "spk": "1"}],
            "file, path could each be the utterance (the columns are file, path, split, spk); name one with "
            "--utterance_column",
        ),
        (
            [{"file": "a", "split": f"part {number:02d}", "spk": "1"} for number in range(22)],
            f"unknown part {str([f'part {number:02d}' for number in range(20)])[1:-1]} and 2 more in split; known are "
            "train, training, validation, val, valid, dev, test, eval, testing",
        ),
        (
            [{"file": "a", "split": "train", "spk": "1"}, {"file": "", "split": "test", "spk": "1"}],
            "column file is empty in row 2, counted from 1; fill it in",
        ),
        (
            [{"file": "a", "split": "", "spk": "1"}] * 21,
            f"column split is empty in row {', '.join(map(str, range(1, 21)))} and 1 more, counted from 1; fill it in",
        ),
        (
            [{"file": "a", "fold": "", "spk": "1"}],
            "column fold is empty in row 1, counted from 1; fill it in",
        ),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, rows, message):
    path = write_table(tmp_path / "t.csv", rows)
    with pytest.raises(AuditError) as error:
        audit_file(path)
    assert str(error.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "not readable (No columns to parse from file)"),
        ("t.csv", "file,split,spk\n", "no rows"),
        ("t.json", "{", "not readable (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
        ("t.json", "{}", "not like the files of dataset_scripts/splits (no 'folds')"),
        ("t.json", '{"corpus": "demo", "folds": []}', "no fold names a speaker"),
        ("t.json", "[1]", "its rows are not objects, like {...}"),
        ("t.json", '"x"', "its rows are not objects, like {...}"),
        ("t.jsonl", "[", "not readable (Expecting value: line 1 column 2 (char 1))"),
        ("t.txt", "", "not one of .csv, .tsv, .jsonl, .json, .parquet"),
        ("t.parquet", "x", "not readable ("),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(AuditError) as error:
        audit_file(tmp_path / name)
    said = str(error.value)
    assert said == f"{tmp_path / name}: {message}" or message.endswith("(") and f"{name}: {message}" in said


@pytest.mark.parametrize(
    ("corpus", "train", "message"),
    [
        ({}, {"speakers": ["a"]}, "no 'corpus'"),
        ({"corpus": "demo"}, ["a"], "no list indices must be integers or slices, not str"),
        ({"corpus": "demo"}, {}, "no 'speakers'"),
        ({"corpus": "demo"}, {"speakers": ["a", 1]}, "a speaker or utterance is not text"),
        ({"corpus": "demo"}, {"speakers": "ab"}, "a speaker or utterance is not text"),
        ({"corpus": "demo"}, {"speakers": ["a"], "utterance_ids": [1]}, "a speaker or utterance is not text"),
    ],
)
def test_splits_that_cannot_be_used(tmp_path, corpus, train, message):
    other = {"speakers": []}
    path = tmp_path / "split.json"
    path.write_text(json.dumps({**corpus, "folds": [{"train": train, "validation": other, "test": other}]}))
    with pytest.raises(AuditError) as error:
        audit_file(path)
    assert str(error.value) == f"{path}: not like the files of dataset_scripts/splits ({message})"


def test_column_or_folder_that_is_not_there(tmp_path):
    path = write_table(tmp_path / "t.csv", THEIRS)
    for more, message in (
        (
            {"columns": {"speaker": "who"}},
            f"{path}: no column 'who' for the speaker; the columns are file, split, spk",
        ),
        ({"data_dir": tmp_path / "nowhere"}, f"data_dir {tmp_path}/nowhere is not a directory"),
        ({"data_dir": tmp_path}, f"{tmp_path}: no audio file is named like an utterance, such as 001_x.wav"),
    ):
        with pytest.raises(AuditError) as error:
            audit_file(path, **more)
        assert str(error.value) == message
    with pytest.raises(AuditError, match="not readable"):
        audit_file(tmp_path / "absent.csv")


def run_main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["audit", *map(str, arguments)])
    return module.main()


HELP = """
usage: run-ser audit [-h] [--data_dir DATA_DIR] [--speaker_pattern SPEAKER_PATTERN]
                     [--utterance_column UTTERANCE_COLUMN] [--part_column PART_COLUMN]
                     [--speaker_column SPEAKER_COLUMN] [--fold_column FOLD_COLUMN]
                     [--session_column SESSION_COLUMN] [--text_column TEXT_COLUMN]
                     [--source_column SOURCE_COLUMN] [--start_column START_COLUMN]
                     [--end_column END_COLUMN]
                     file

Leaks between the parts of a split or a table of predictions.

positional arguments:
  file                  a file of dataset_scripts/splits, a predictions.csv, or a table of utterances

options:
  -h, --help            show this help message and exit
  --data_dir DATA_DIR   folder that holds the audio
  --speaker_pattern SPEAKER_PATTERN
                        regular expression; its first group is the speaker in an utterance
  --utterance_column UTTERANCE_COLUMN
                        default: utterance, utterance_id, file, file_name, filename, path, name, wav, key
  --part_column PART_COLUMN
                        default: part, split, subset, set, partition
  --speaker_column SPEAKER_COLUMN
                        default: speaker, speaker_id, spk, actor
  --fold_column FOLD_COLUMN
                        default: fold
  --session_column SESSION_COLUMN
                        default: session, session_id, dialogue
  --text_column TEXT_COLUMN
                        default: text, text_id, sentence, transcript
  --source_column SOURCE_COLUMN
                        default: source, source_id, source_utterance
  --start_column START_COLUMN
                        default: start
  --end_column END_COLUMN
                        default: end
"""


def test_help(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run_main(monkeypatch, "--help")
    assert capsys.readouterr().out.split() == HELP.split()


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
    printed = capsys.readouterr()
    message = f"{path}: no column 'who' for the speaker; the columns are file, split, spk"
    assert printed.err == f"audit: {message}\n" and not printed.out
    assert run_main(monkeypatch, path, "--data_dir", tmp_path) == 2
    assert "no audio file is named like an utterance" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["audit", "--help"])
    assert module.main([str(path)]) == 0


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
        assert list(found(report)) == ["same audio in two parts"] and not found(report, "note")
        (example,) = report.leaks[0].examples
        assert example.startswith("001_x.wav = 004_x.flac (") and how in example
    soundfile.write(folder / "004_x.flac", voices[5], RATE)
    report = audit_file(path, data_dir=folder)
    assert report.verdict() == (
        "CLEAN: no test speaker is in the training or validation part in the split; none of 4 clips sounds like one "
        "of another part; not checked: sessions with dialogue partners: none named, sentences: none named."
    )


def test_same_audio_in_one_part_is_a_note(tmp_path, voices):
    path = write_table(tmp_path / "t.csv", [*THEIRS, {"file": "003_y.wav", "split": "test", "spk": "003"}])
    report = audit_file(path, data_dir=theirs_with_audio(tmp_path / "wav", voices, **{"003_y.wav": voices[2]}))
    assert report.clean
    assert found(report, "note") == {
        "same audio in one part": "pairs of clips with the same sound in the same part: 1"
    }
    (note,) = [finding for finding in report.findings if finding.check == "same audio in one part"]
    assert note.examples == ["003_x.wav = 003_y.wav (same file)"]
    rows = [*THEIRS, *({"file": f"{name}.wav", "split": "test", "spk": "003"} for name in ("003_y", "004_x", "004_y"))]
    for name in ("004_x", "004_y"):
        soundfile.write(tmp_path / "wav" / f"{name}.wav", voices[4], RATE)
    notes = found(audit_file(write_table(path, rows), data_dir=tmp_path / "wav"), "note")
    assert notes == {"same audio in one part": "pairs of clips with the same sound in the same part: 2"}


def test_clips_too_quiet_to_compare(tmp_path, voices):
    folder = theirs_with_audio(tmp_path / "wav", [voices[0], np.zeros(RATE), voices[1][:500]])
    report = audit_file(write_table(tmp_path / "t.csv", THEIRS), data_dir=folder)
    (note,) = [finding for finding in report.findings if finding.severity == "note"]
    assert (note.check, note.examples) == ("silent clips", ["002_x.wav", "003_x.wav"])
    assert note.text == "2 clips are silent or under 0.13 s and were compared with nothing"
    assert found(report, "clean")["audio"] == "none of 1 clips sounds like one of another part"
    for name in ("001_x.wav", "002_x.wav"):
        soundfile.write(folder / name, np.zeros(RATE), RATE)
    assert "audio" not in found(audit_file(tmp_path / "t.csv", data_dir=folder), "clean")  # no clip was compared


def test_audio_of_folds(tmp_path, voices):
    # Speakers a, b, c are each tested once; one clip of a is one of b: in one part in fold 2, in two in folds 0 and 1.
    folder = write_clips(tmp_path / "wav", {"a1.wav": voices[0], "b1.wav": voices[0] * 0.5, "c1.wav": voices[2]})
    path = write_predictions(tmp_path, [("c/a1", "c/a", 0), ("c/b1", "c/b", 1), ("c/c1", "c/c", 2)])
    (leak,) = audit_file(path, data_dir=folder).leaks
    assert leak.check == "same audio in two parts" and leak.counts == {0: 1, 1: 1}
    assert leak.text == "pairs of clips with the same sound in two parts of fold 0 (and 1 more folds): 1"
    assert len(leak.examples) == 1 and leak.examples[0].startswith("c/a1 = c/b1 (")


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
    assert found(report, "clean")["audio"] == "none of 2 clips sounds like one of another part"


def test_audio_is_found_by_path_or_only_by_its_name(tmp_path, voices):
    folder = write_clips(tmp_path / "wav", {})
    write_clips(folder / "one", {"a.wav": voices[0], "b.wav": voices[1]})
    write_clips(folder / "two", {"b.wav": voices[2], ".a.wav": voices[2], "c.wav": voices[2]})
    (folder / "a.txt").write_text("")
    (folder / "two" / "c.wav").rename(folder / "two" / "C.WAV")
    shutil.copy(folder / "one" / "a.wav", tmp_path / "outside.wav")
    outside = ["../outside.wav", "one/../../outside.wav", str(tmp_path / "outside.wav")]
    names = ["one/b.wav", "two/b.wav", "elsewhere/a", "b", "train/C.wav", ".a", *outside]
    assert module._find_audio(names, folder) == {
        "two/b.wav": {"bytes": None, "path": str(folder / "two" / "b.wav")},
        "one/b.wav": {"bytes": None, "path": str(folder / "one" / "b.wav")},
        "elsewhere/a": {"bytes": None, "path": str(folder / "one" / "a.wav")},
        "train/C.wav": {"bytes": None, "path": str(folder / "two" / "C.WAV")},
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
