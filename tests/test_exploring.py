"""exploring.py: the predictions of a run, against pandas and the corpus."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dataset_scripts import EMOTIONS, load_corpus
from ser_protocol.exploring import Run, find_runs
from ser_protocol.statistics import read_predictions


@pytest.fixture(scope="module")
def run(finished_run) -> Run:
    return Run(finished_run)


def test_runs_are_found(finished_run, tmp_path):
    for name in ("a/b", "c"):
        (tmp_path / name).mkdir(parents=True)
        for file in ("results.json", "predictions.csv"):
            shutil.copy(finished_run / file, tmp_path / name / file)
    (tmp_path / "c" / "predictions.csv").unlink()
    assert find_runs([tmp_path]) == [tmp_path / "a" / "b"]
    assert find_runs([finished_run, tmp_path / "absent"]) == [finished_run]


def test_filters(run, finished_run):
    table = read_predictions(finished_run / "predictions.csv")
    right = table["emotion"] == table["predicted_emotion"]
    # The model knows all emotions of RAVDESS; of half of them there are no clips.
    confidence = table[[f"p_{name}" for name in EMOTIONS if f"p_{name}" in table]].max(axis=1)

    def ids(rows) -> set:
        return set(table["utterance_id"][rows])

    def chosen(**filters) -> set:
        return set(run.chosen(**filters)["utterance_id"])

    assert set(run.emotions) == {*table["emotion"], *table["predicted_emotion"]}
    assert run.emotions == [name for name in EMOTIONS if name in run.emotions]
    assert len(run.chosen()) == len(table) == 48
    assert chosen(right=True) == ids(right) and chosen(right=False) == ids(~right)
    assert 0 < right.sum() < 48
    assert chosen(emotions=["anger", "sadness"]) == ids(table["emotion"].isin(["anger", "sadness"]))
    assert chosen(predicted=["neutral"]) == ids(table["predicted_emotion"] == "neutral")
    assert chosen(speakers=["ravdess/02"]) == ids(table["speaker_id"] == "ravdess/02")
    assert chosen(genders=["male"], right=True) == ids((table["gender"] == "male") & right)
    middle = float(confidence.median())
    assert chosen(confidence=(middle, 1.0)) == ids(confidence >= middle - 1e-9)
    assert chosen(emotions=["anger"], speakers=["ravdess/01"], predicted=["boredom"]) == set()


def test_audio_is_the_corpus_s(run, ravdess):
    corpus = load_corpus("ravdess", ravdess[3])
    for row in (0, 17, 47):
        assert run.audio(corpus[row]["utterance_id"]) == corpus[row]["audio"]
    with pytest.raises(ValueError, match="ravdess/none is not in the corpus"):
        run.audio("ravdess/none")


def copied(run: Path, folder: Path, data_dir: Path, **arguments) -> Path:
    """The record of a run as if its command had named another folder, and its arguments were others."""
    folder.mkdir(parents=True)
    shutil.copy(run / "predictions.csv", folder)
    results = json.loads((run / "results.json").read_text())
    results["run"]["command"] = f"python run_ser.py --corpus x --data_dir {data_dir} --output_dir OUT"
    (folder / "results.json").write_text(json.dumps(results))
    arguments = json.loads((run / "arguments.json").read_text()) | arguments
    (folder / "arguments.json").write_text(json.dumps(arguments))
    return folder


CLIP = "03-01-01-01-01-01-01"


def test_a_corpus_that_has_moved(finished_run, ravdess, tmp_path):
    moved = shutil.copytree(ravdess[3], tmp_path / "moved")
    gone = copied(finished_run, tmp_path / "run", tmp_path / "gone")
    with pytest.raises(ValueError, match="gone is not a directory"):
        Run(gone).audio(f"ravdess/{CLIP}")
    with pytest.raises(ValueError, match="nowhere is not a directory"):
        Run(gone, [tmp_path / "nowhere"]).audio(f"ravdess/{CLIP}")
    assert Run(gone, [moved]).audio(f"ravdess/{CLIP}")["path"] == str(moved / f"{CLIP}.wav")
    # Where the run was made the corpus is as it was.
    assert Run(finished_run, [moved]).audio(f"ravdess/{CLIP}")["path"] == str(ravdess[3] / f"{CLIP}.wav")


def test_of_several_folders_each_run_takes_its_own(finished_run, ravdess, tmp_path):
    moved = shutil.copytree(ravdess[3], tmp_path / "moved")
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(moved / f"{CLIP}.wav", other / "03-01-01-01-01-01-24.wav")
    run = copied(finished_run, tmp_path / "run", tmp_path / "gone")
    assert Run(run, [other, moved]).audio(f"ravdess/{CLIP}")["path"] == str(moved / f"{CLIP}.wav")
    (moved / f"{CLIP}.wav").unlink()  # what is left can be heard
    name = "03-01-05-01-01-01-02"
    assert Run(run, [other, moved]).audio(f"ravdess/{name}")["path"] == str(moved / f"{name}.wav")
    with pytest.raises(ValueError) as refused:
        Run(run, [other, tmp_path / "nowhere"]).audio(f"ravdess/{name}")
    assert f"No folder holds the corpus of {run}." in str(refused.value)
    assert f"{other}: none of its utterances is there." in str(refused.value)
    assert f"{tmp_path / 'nowhere'} is not a directory" in str(refused.value)


def test_own_corpora_with_the_same_names(finished_run, ravdess, tmp_path):
    """As IDs they are one corpus: each run takes the folder of its own command."""
    runs, folders = [], []
    own = {
        "corpus": ["own"],
        "corpus_name": "ravdess2",
        "file_pattern": r"-(?P<emotion>\d\d)-01-\d\d-01-(?P<speaker>\d\d)",
    }
    for name in ("first", "second"):
        folders.append(shutil.copytree(ravdess[3], tmp_path / name))
        runs.append(copied(finished_run, tmp_path / "runs" / name, folders[-1], **own))
        table = (runs[-1] / "predictions.csv").read_text().replace("ravdess/", "ravdess2/")
        (runs[-1] / "predictions.csv").write_text(table)
    for run, folder in zip(runs, folders):
        assert Run(run, folders).audio(f"ravdess2/{CLIP}")["path"] == str(folder / f"{CLIP}.wav")


def test_a_corpus_that_needs_no_folder_gets_none(finished_run, ravdess, tmp_path):
    """The demonstration's builder would make its clips in the user's."""
    given = shutil.copytree(ravdess[3], tmp_path / "given")
    before = sorted(given.rglob("*"))
    demo = load_corpus("demo")[0]
    run = Run(copied(finished_run, tmp_path / "run", given, corpus=["demo"], label_map=None), [given])
    assert run.audio(demo["utterance_id"]) == demo["audio"]
    assert sorted(given.rglob("*")) == before


def test_the_map_of_a_fold(run):
    points = run.map_of(1)
    assert set(points["utterance_id"]) == set(run.table["utterance_id"][run.table["fold"] == 1])
    assert np.isfinite(points[["x", "y"]].to_numpy()).all() and points["x"].nunique() > 1
    assert run.map_of(1) is points  # what took a minute is not computed again


def test_a_run_of_which_only_predictions_were_kept(finished_run, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("results.json", "predictions.csv", "arguments.json"):
        shutil.copy(finished_run / name, kept / name)
    with pytest.raises(ValueError, match="fold_00 has no checkpoint"):
        Run(kept).map_of(0)
    (kept / "arguments.json").write_text("{")
    with pytest.raises(ValueError, match=f"^{kept}/arguments.json is damaged"):
        Run(kept).audio(f"ravdess/{CLIP}")
    (kept / "arguments.json").unlink()
    with pytest.raises(ValueError, match=f"^There is no {kept}/arguments.json, which says what was run"):
        Run(kept).audio(f"ravdess/{CLIP}")
    table = pd.read_csv(kept / "predictions.csv")
    table[[name for name in table if not name.startswith("p_")]].to_csv(kept / "predictions.csv", index=False)
    assert Run(kept).table["confidence"].isna().all()
    (kept / "results.json").write_text("{")
    with pytest.raises(json.JSONDecodeError):
        Run(kept)
