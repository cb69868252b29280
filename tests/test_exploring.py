"""exploring.py: the predictions of a run, against pandas and the corpus."""

import json
import shutil

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


def test_a_corpus_elsewhere_is_named(finished_run, ravdess, tmp_path):
    run = Run(finished_run, [tmp_path / "gone"])
    with pytest.raises((ValueError, OSError), match="gone"):
        run.audio("ravdess/03-01-01-01-01-01-01")
    moved = shutil.copytree(ravdess[3], tmp_path / "moved")
    found = Run(finished_run, [moved]).audio("ravdess/03-01-01-01-01-01-01")
    assert str(found["path"]).startswith(str(moved))


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
    table = pd.read_csv(kept / "predictions.csv")
    table[[name for name in table if not name.startswith("p_")]].to_csv(kept / "predictions.csv", index=False)
    assert Run(kept).table["confidence"].isna().all()
    (kept / "results.json").write_text("{")
    with pytest.raises(json.JSONDecodeError):
        Run(kept)
