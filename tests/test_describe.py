"""Tables and the picture of a corpus: their numbers, and that they hold for few and many speakers."""

import sys

import datasets
import numpy as np
import pytest
import soundfile

from dataset_scripts import describe
from dataset_scripts.schema import row_features


def table(rows, emotions=("neutral", "anger"), genders=("female", "male")) -> datasets.Dataset:
    """Rows of the schema from (speaker, gender, emotion, language, seconds)."""
    columns = row_features(emotions, genders)
    complete = [
        dict.fromkeys(columns)
        | {"utterance_id": f"toy/{index}", "corpus": "toy", "speaker_id": f"toy/{speaker}", "gender": gender}
        | {"emotion": emotion, "source_label": emotion[0].upper(), "language": language, "duration_s": seconds}
        for index, (speaker, gender, emotion, language, seconds) in enumerate(rows)
    ]
    return datasets.Dataset.from_list(complete, features=columns)


FEW = table(
    [
        ("02", "female", "anger", "de", 30.0),
        ("02", "female", "anger", "de", 36.0),
        ("01", "male", "neutral", "de", 60.0),
        ("01", "male", "anger", "de", 54.0),
        ("03", "female", "neutral", "de", 120.0),
    ]
)


def test_tables():
    frame = describe.utterances(FEW)
    assert describe.speaker_table(frame) == [
        ["speaker", "gender", "neutral", "anger", "all", "minutes"],
        ["01", "male", "1", "1", "2", "1.9"],
        ["02", "female", "0", "2", "2", "1.1"],
        ["03", "female", "1", "0", "1", "2.0"],
        ["all", "2 female, 1 male", "2", "3", "5", "5.0"],
    ]
    assert describe.emotion_table(frame) == [
        ["emotion", "the corpus's word", "utterances", "female", "male", "minutes", "median (s)"],
        ["neutral", "N", "2", "1", "1", "3.0", "90.00"],
        ["anger", "A", "3", "2", "1", "2.0", "36.00"],
        ["all", "", "5", "3", "2", "5.0", "54.00"],
    ]


def test_summary():
    assert describe.summary(describe.utterances(FEW)) == (
        "5 utterances of 3 speakers (2 female, 1 male), 0.08 hours.\n"
        "Languages (utterances): de (5).\n"
        "Duration of an utterance in seconds: shortest 30.00, 5 % 31.20, 25 % 36.00, median 54.00, 75 % 60.00, "
        "95 % 108.00, longest 120.00; mean 60.00."
    )


def test_people_who_are_not_known():
    rows = [("others", "female", "anger", "hi", 6.0), ("others", "male", "anger", "hi", 6.0)]
    rows += [("a/b", None, "neutral", "en", 6.0), ("c", "diverse", "neutral", "en", 6.0)]
    frame = describe.utterances(table(rows, ("neutral", "fear", "anger"), ("female", "male", "diverse")))
    assert list(frame["gender"].cat.categories) == ["female", "male", "diverse", "unknown"]
    assert describe.speaker_table(frame) == [
        ["speaker", "gender", "language", "neutral", "fear", "anger", "all", "minutes"],
        ["a/b", "unknown", "en", "1", "0", "0", "1", "0.1"],
        ["c", "diverse", "en", "1", "0", "0", "1", "0.1"],
        ["others", "several", "hi", "0", "0", "2", "2", "0.2"],
        ["all", "1 diverse, 1 unknown, 1 several", "en, hi", "2", "0", "2", "4", "0.4"],
    ]
    assert describe.emotion_table(frame)[2] == ["fear", "", "0", "0", "0", "0", "0", "0.0", "–"]
    assert "Languages (utterances): en (2), hi (2)." in describe.summary(frame)
    labels = legend(describe.picture(frame, "toy"))
    assert list(labels) == ["female", "male", "diverse", "unknown"] and len(set(labels.values())) == 4


def test_markdown_lines_up_and_escapes_bars():
    assert describe.markdown([["a", "long name"], ["x|y", "1"]]) == (
        "| a    | long name |\n| ---- | --------- |\n| x\\|y | 1         |"
    )


def legend(figure) -> dict:
    """Label -> colour."""
    (box,) = figure.legends
    return {text.get_text(): patch.get_facecolor() for text, patch in zip(box.get_texts(), box.get_patches())}


def test_the_picture_shows_the_numbers():
    frame = describe.utterances(FEW)
    figure = describe.picture(frame, "toy")
    numbers, lengths, totals, cells, scale = figure.axes
    assert figure.get_suptitle() == "toy: 5 utterances of 3 speakers"
    assert list(legend(figure)) == ["female", "male"]
    assert [axes.get_xlabel().split("\n")[0] for axes in (numbers, lengths, cells)] == [
        *("utterances", "duration of an utterance (s)", "speaker")
    ]
    assert [axes.get_ylabel() for axes in (numbers, totals, cells, scale)] == [
        *("emotion", "utterances", "emotion", "utterances")
    ]
    # Emotions by gender: women's bars, then men's behind them.
    assert [bar.get_width() for bar in numbers.patches] == [1, 2, 1, 1]
    assert [bar.get_x() for bar in numbers.patches] == [0, 0, 1, 2]
    assert [text.get_text() for text in numbers.texts] == ["2", "3"]
    assert [label.get_text() for label in numbers.get_yticklabels()] == ["neutral", "anger"]
    # Speakers: women first.
    assert [label.get_text() for label in cells.get_xticklabels()] == ["02", "03", "01"]
    assert [bar.get_height() for bar in totals.patches] == [2, 1, 0, 0, 0, 2]
    assert [text.get_text() for text in cells.texts] == ["0", "1", "1", "2", "0", "1"]


@pytest.mark.parametrize(("speakers", "named"), [(1, True), (6, True), (91, True), (200, False)])
def test_the_picture_holds_for_any_number_of_speakers(speakers, named):
    rows = [(f"{1000 + k}", ("female", "male")[k % 2], "anger", "en", 1.0 + k) for k in range(speakers)]
    figure = describe.picture(describe.utterances(table(rows)), "toy")
    cells = figure.axes[3]
    width, height = figure.get_size_inches()
    assert describe.MIN_WIDTH <= width <= describe.MAX_WIDTH and height < width
    figure.canvas.draw()
    labels = cells.get_xticklabels()
    assert len(labels) == (speakers if named else 0)
    boxes = [label.get_window_extent() for label in labels]
    assert all(left.x1 <= right.x0 for left, right in zip(boxes, boxes[1:])), "names lie over each other"
    assert (f"({speakers};" in cells.get_xlabel()) != named


def test_the_program(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "clips"
    folder.mkdir()
    for index, stem in enumerate(("03a01Fa", "03a01Nc", "08b01Wa")):
        soundfile.write(folder / f"{stem}.wav", np.zeros(1600 * (index + 1)), 16000)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    argv = ["describe", "emodb", "--data_dir", str(folder), "--output_dir", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", argv)
    describe.main()
    text = (tmp_path / "out/emodb.md").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    assert text.startswith("# emodb\n\n3 utterances of 2 speakers (1 female, 1 male), 0.00 hours.\n")
    assert text.removeprefix("# emodb\n\n") in printed
    assert "\n| 03      | male " in text and str(tmp_path / "out/emodb.png") in printed
    picture = (tmp_path / "out/emodb.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    describe.main()
    assert (tmp_path / "out/emodb.png").read_bytes() == picture

    monkeypatch.setattr(sys, "argv", [*argv, "--label_map", "common-4"])
    describe.main()
    assert "| speaker | gender           | neutral | happiness | sadness | anger |" in capsys.readouterr().out


def test_a_corpus_that_is_not_there_is_said(tmp_path, monkeypatch, capsys):
    argv = ["describe", "emodb", "--data_dir", str(tmp_path / "nowhere"), "--output_dir", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit):
        describe.main()
    assert "nowhere is not a directory" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
