import time

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

from ser_protocol.metrics.ser_metrics import SCORES, ser_scores
from ser_protocol.statistics import (
    bootstrap_over_speakers,
    check_predictions,
    fold_scores,
    majority_class_scores,
    paired_difference,
    pooled_scores,
    read_predictions,
    speaker_scores,
)

EMOTIONS = ["anger", "fear", "sadness", "neutral"]


def table(rows):
    """Predictions from (utterance, speaker, fold, emotion, predicted emotion, gender, predicted gender) rows."""
    names = ["utterance_id", "speaker_id", "fold", "emotion", "predicted_emotion", "gender", "predicted_gender"]
    return pd.DataFrame(rows, columns=names)


@pytest.fixture
def six():
    """Two folds of two speakers; 4 of 6 emotions right; the gender of x/3 is not known."""
    return table(
        [
            ("x/a", "x/1", 0, "anger", "anger", "male", "male"),
            ("x/b", "x/1", 0, "anger", "fear", "male", "female"),
            ("x/c", "x/2", 0, "fear", "fear", "female", "female"),
            ("x/d", "x/2", 0, "anger", "anger", "female", "female"),
            ("x/e", "x/3", 1, "fear", "fear", "", "male"),
            ("x/f", "x/3", 1, "fear", "sadness", "", "female"),
        ]
    )


def random_table(num_speakers, clips=60, right=0.6, seed=0):
    """A balanced corpus like RAVDESS: each speaker says `clips` clips, and models differ by speaker."""
    generator = np.random.default_rng(seed)
    rows = []
    for speaker in range(num_speakers):
        skill = right + generator.normal(scale=0.1)
        for clip in range(clips):
            truth = EMOTIONS[clip % 4]
            guess = truth if generator.random() < skill else EMOTIONS[generator.integers(4)]
            gender = ["male", "female"][speaker % 2]
            rows.append((f"x/{speaker}-{clip}", f"x/{speaker:02d}", speaker // 2, truth, guess, gender, "male"))
    return table(rows)


def test_pooled_scores_by_hand(six):
    # anger: 2 of 3; fear: 2 of 3; sadness is predicted, never true. F1 of both: 2*2/(3+2) and 2*2/(3+3).
    assert pooled_scores(six) == pytest.approx(
        {
            "wa": 4 / 6,
            "ua": 2 / 3,
            "wf1": (3 * 0.8 + 3 * 2 / 3) / 6,
            "macro_f1": (0.8 + 2 / 3) / 2,
            "gender_wa": 3 / 4,
        }
    )


@pytest.mark.parametrize("empty", ["", None, np.nan])
def test_no_gender_score_for_a_single_task(six, empty):
    assert pooled_scores(six.assign(predicted_gender=empty))["gender_wa"] is None
    assert pooled_scores(six.assign(gender=empty))["gender_wa"] is None
    assert pooled_scores(six.drop(columns="predicted_gender"))["gender_wa"] is None
    assert bootstrap_over_speakers(six.assign(predicted_gender=empty))["intervals"]["gender_wa"] is None


def test_fold_scores_by_hand(six):
    folds = fold_scores(six)
    assert [(row["fold"], row["num_utterances"]) for row in folds["rows"]] == [(0, 4), (1, 2)]
    assert folds["rows"][0]["ua"] == pytest.approx((2 / 3 + 1) / 2)
    assert folds["rows"][1]["ua"] == 0.5
    assert folds["mean"]["wa"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert folds["sd"]["wa"] == pytest.approx(0.25 / np.sqrt(2))  # ddof=1: |a - b| / sqrt(2)
    # the genders of fold 1 are unknown: one fold is left, its mean stands, a spread does not
    assert folds["rows"][1]["gender_wa"] is None
    assert (folds["mean"]["gender_wa"], folds["sd"]["gender_wa"]) == (0.75, None)
    assert fold_scores(six[six["fold"] == 0])["sd"]["wa"] is None


def test_majority_class_by_hand(six):
    # anger and fear are equally frequent: the first by name. Its recall is 1, its F1 2*3/(3+6).
    chance = majority_class_scores(six)
    assert (chance["emotion"], chance["gender"]) == ("anger", "female")
    expected = {"wa": 1 / 2, "ua": 1 / 2, "wf1": 1 / 3, "macro_f1": 1 / 3, "gender_wa": 1 / 2}
    assert {name: chance[name] for name in expected} == pytest.approx(expected)
    assert majority_class_scores(six.assign(gender=""))["gender_wa"] is None


def test_speaker_scores(six):
    speakers = speaker_scores(six)
    assert speakers.index.tolist() == ["x/1", "x/2", "x/3"]
    assert speakers["wa"].tolist() == [0.5, 1.0, 0.5]
    assert speakers["num_utterances"].tolist() == [2, 2, 2]


def test_bootstrap_equals_resampling_the_rows():
    """The product with the numbers of draws is the same as stacking the drawn speakers' rows."""
    predictions = random_table(9, clips=10)
    predictions = predictions[(predictions["speaker_id"] != "x/03") | (predictions["emotion"] != "fear")]
    generator = np.random.default_rng(5)
    speakers = sorted(predictions["speaker_id"].unique())
    samples = {name: [] for name in SCORES}
    for counts in generator.multinomial(9, np.full(9, 1 / 9), size=60):
        rows = pd.concat(
            [predictions[predictions["speaker_id"] == s] for s, count in zip(speakers, counts) for _ in range(count)]
        )
        truth, guess, present = rows["emotion"], rows["predicted_emotion"], sorted(rows["emotion"].unique())
        samples["wa"].append(accuracy_score(truth, guess))
        samples["ua"].append(recall_score(truth, guess, labels=present, average="macro"))
        samples["wf1"].append(f1_score(truth, guess, labels=present, average="weighted"))
        samples["macro_f1"].append(f1_score(truth, guess, labels=present, average="macro"))
    bootstrap = bootstrap_over_speakers(predictions, num_resamples=60, seed=5)
    for name, values in samples.items():
        low, high = np.percentile(values, [2.5, 97.5])
        assert bootstrap["intervals"][name] == pytest.approx({"low": low, "high": high}), name
    assert (bootstrap["num_speakers"], bootstrap["num_resamples"], bootstrap["reliable"]) == (9, 60, True)


def test_resample_without_a_class_averages_over_the_others():
    # anger is said by x/1 alone, always right; fear by x/2 alone, always wrong. Half of the resamples hold one of
    # them only: UA 1 or 0; the others 1/2. With absent classes counted as 0, UA could never be 1.
    rows = [("a", "x/1", 0, "anger", "anger", "", ""), ("b", "x/2", 1, "fear", "anger", "", "")]
    bootstrap = bootstrap_over_speakers(table(rows))
    assert bootstrap["intervals"]["ua"] == {"low": 0.0, "high": 1.0}
    assert not bootstrap["reliable"]


def test_interval_covers_the_spread_between_speakers():
    """Clips of one speaker all right or all wrong: n speakers carry n, not n * clips, pieces of information."""
    rows = [
        (f"{s}-{c}", f"x/{s}", s, "anger", "anger" if s % 2 else "fear", "", "") for s in range(20) for c in range(50)
    ]
    interval = bootstrap_over_speakers(table(rows))["intervals"]["wa"]
    # binomial with n = 20, p = 1/2: sd 0.112, so about 0.5 ± 0.22; over 1000 clips it would be ± 0.03
    assert interval["low"] == pytest.approx(0.3, abs=0.051)
    assert interval["high"] == pytest.approx(0.7, abs=0.051)


def test_reliable_from_eight_speakers_and_nothing_from_one():
    assert not bootstrap_over_speakers(random_table(7))["reliable"]
    assert bootstrap_over_speakers(random_table(8))["reliable"]
    alone = bootstrap_over_speakers(random_table(1))
    assert set(alone["intervals"].values()) == {None}
    assert not alone["reliable"]


def test_bootstrap_is_fast_and_repeatable():
    predictions = random_table(24)
    start = time.perf_counter()
    first = bootstrap_over_speakers(predictions)
    assert time.perf_counter() - start < 3
    assert first == bootstrap_over_speakers(predictions.sample(frac=1, random_state=1))
    assert first != bootstrap_over_speakers(predictions, seed=1)
    for name, value in pooled_scores(predictions).items():
        assert first["intervals"][name]["low"] <= value <= first["intervals"][name]["high"]


def test_paired_difference_cancels_what_speakers_share():
    a = random_table(12, right=0.5)
    b = a.copy()
    flipped = a.groupby("speaker_id").head(5).index  # the same 5 clips of each speaker, made wrong in b
    b.loc[flipped, "predicted_emotion"] = "surprise"
    a.loc[flipped, "predicted_emotion"] = a.loc[flipped, "emotion"]
    difference = paired_difference(a, b.sample(frac=1, random_state=0))
    assert difference["wa"] == pytest.approx({"difference": 5 / 60, "low": 5 / 60, "high": 5 / 60})
    wa = bootstrap_over_speakers(a)["intervals"]["wa"]
    assert wa["high"] - wa["low"] > 0.05  # each alone is uncertain, their difference is not
    expected = ser_scores(a["predicted_emotion"], a["emotion"])["ua"] - pooled_scores(b)["ua"]
    assert difference["ua"]["difference"] == pytest.approx(expected)
    assert difference["reliable"]
    assert paired_difference(b, a)["wa"]["difference"] == pytest.approx(-5 / 60)


def test_paired_difference_wants_the_same_clips(six):
    with pytest.raises(ValueError, match=r"1 not predicted \(x/f\)"):
        paired_difference(six[:5], six)
    with pytest.raises(ValueError, match=r"differ in emotion of 1 utterances \(x/a\)"):
        paired_difference(six, six.assign(emotion=["fear", *six["emotion"][1:]]))
    with pytest.raises(ValueError, match="differ in speaker_id of 2 utterances"):
        paired_difference(six, six.replace({"speaker_id": {"x/3": "x/4"}}))


def test_check_predictions(six):
    ids = [f"x/{letter}" for letter in "abcdef"]
    check_predictions(six, ids)
    check_predictions(six.sample(frac=1, random_state=0), ids)
    with pytest.raises(ValueError, match=r"Of 8 eligible utterances: 2 not predicted \(x/g, x/h\)\."):
        check_predictions(six, [*ids, "x/h", "x/g"])
    with pytest.raises(ValueError, match=r"2 predicted more than once \(x/a, x/b\)"):
        check_predictions(pd.concat([six, six[:2]]), ids)
    with pytest.raises(ValueError, match=r"1 predicted but not eligible \(x/f\)"):
        check_predictions(six, ids[:5])
    with pytest.raises(ValueError, match=r"6 not predicted \(x/a, x/b, x/c, \.\.\.\)"):
        check_predictions(six[:0], ids)


def test_read_predictions_keeps_text_as_text(tmp_path, six):
    path = tmp_path / "predictions.csv"
    six = six.assign(speaker_id=["01", "01", "02", "02", "NA", "NA"], p_anger=[0.5, 0.25, 0, 1, 0, 0.125])
    six.to_csv(path, index=False)
    back = read_predictions(path)
    assert back["speaker_id"].tolist() == ["01", "01", "02", "02", "NA", "NA"]
    assert back["gender"].tolist() == six["gender"].tolist()
    assert back["p_anger"].tolist() == six["p_anger"].tolist()
    assert pooled_scores(back) == pooled_scores(six)
