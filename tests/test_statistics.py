import itertools
import math
import sys
import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support, recall_score

from ser_protocol.metrics.ser_metrics import SCORES, ser_scores
from ser_protocol.statistics import (
    bootstrap_over_speakers,
    check_predictions,
    emotion_confusion,
    emotion_scores,
    fold_scores,
    group_scores,
    holm,
    main,
    majority_class_scores,
    mcnemar_test,
    mean_gain,
    paired_difference,
    permutation_test,
    pooled_scores,
    read_predictions,
    seed_ensemble,
    seed_sd,
    speaker_scores,
    speakers_needed,
    t_test_power,
    t_test_size,
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


# ---------------------------------------------------------------------------------------------------------------------
# Groups


def test_group_scores_by_hand(six):
    genders = group_scores(six, "gender")  # x/3 has none
    assert genders.index.tolist() == ["female", "male"]
    assert genders["num_utterances"].tolist() == [2, 2]
    assert genders["wa"].tolist() == [1.0, 0.5]
    assert genders["gender_wa"].tolist() == [1.0, 0.5]
    languages = group_scores(six.assign(language=["de"] * 3 + ["en"] * 3), "language")
    assert languages["wa"].tolist() == pytest.approx([2 / 3, 2 / 3])
    assert languages.loc["de", "ua"] == pytest.approx((1 / 2 + 1) / 2)


def test_emotion_scores_equal_sklearn(six):
    names, counts = emotion_confusion(six)
    assert names == ["sadness", "anger", "fear"]  # canonical order
    assert counts.tolist() == [[0, 0, 0], [0, 2, 1], [1, 0, 2]]
    scores = emotion_scores(six)
    assert scores.index.tolist() == ["anger", "fear"]
    expected = precision_recall_fscore_support(six["emotion"], six["predicted_emotion"], labels=["anger", "fear"])
    for column, values in zip(("precision", "recall", "f1", "num_utterances"), expected):
        assert scores[column].tolist() == pytest.approx(values.tolist()), column
    never = emotion_scores(six.assign(predicted_emotion="anger"))
    assert math.isnan(never.loc["fear", "precision"]) and never.loc["fear", "f1"] == 0


# ---------------------------------------------------------------------------------------------------------------------
# Seeds


@pytest.fixture
def seeds():
    """Three models of the same clips, of 10 speakers."""
    first = random_table(10)
    generator = np.random.default_rng(1)
    others = [first.copy() for _ in range(2)]
    for other in others:
        wrong = generator.random(len(other)) < 0.2
        other.loc[wrong, "predicted_emotion"] = "neutral"
    return [first, *others]


def test_scores_of_seeds_are_means(seeds):
    each = [pooled_scores(table) for table in seeds]
    shuffled = [seeds[0], seeds[1].sample(frac=1, random_state=0), seeds[2]]
    for name, value in pooled_scores(shuffled).items():
        assert value == pytest.approx(np.mean([row[name] for row in each]))
        assert seed_sd(shuffled)[name] == pytest.approx(np.std([row[name] for row in each], ddof=1))
    assert set(seed_sd(seeds[0]).values()) == {None}
    speakers = speaker_scores(seeds)
    assert speakers["wa"].mean() == pytest.approx(pooled_scores(seeds)["wa"])
    assert speakers["num_utterances"].unique().tolist() == [60]
    assert emotion_scores(seeds)["num_utterances"].sum() == 600
    assert emotion_scores(seeds)["recall"].mean() == pytest.approx(pooled_scores(seeds)["ua"])


def test_seeds_share_their_draws(seeds):
    # The same model thrice is as certain as once; wrongly, more clips would make it surer.
    thrice, once = (bootstrap_over_speakers(tables)["intervals"] for tables in ([seeds[0]] * 3, seeds[0]))
    assert all(thrice[name] == pytest.approx(once[name]) for name in once if once[name])
    twice, once = (paired_difference(tables, seeds[1:]) for tables in ([seeds[0]] * 2, seeds[0]))
    assert all(twice[name] == pytest.approx(once[name]) for name in ("wa", "ua", "wf1", "macro_f1"))
    between = bootstrap_over_speakers(seeds)["intervals"]["wa"]
    assert between["low"] < pooled_scores(seeds)["wa"] < between["high"]
    difference = paired_difference(seeds, seeds[0])["ua"]["difference"]
    assert difference == pytest.approx(pooled_scores(seeds)["ua"] - pooled_scores(seeds[0])["ua"])


def test_a_seed_without_gender_leaves_no_gender_score(seeds):
    tables = [seeds[0], seeds[1].assign(predicted_gender="")]
    assert pooled_scores(tables)["gender_wa"] is None and seed_sd(tables)["gender_wa"] is None
    assert bootstrap_over_speakers(tables)["intervals"]["gender_wa"] is None


def test_seeds_are_of_the_same_clips(seeds):
    with pytest.raises(ValueError, match="Of 599 eligible utterances: 1 predicted but not eligible"):
        pooled_scores([seeds[0], seeds[1][1:]])
    with pytest.raises(ValueError, match="There is no table"):
        pooled_scores([])
    with pytest.raises(ValueError, match="A table of predictions is empty"):
        pooled_scores(seeds[0][:0])
    for scored in (pooled_scores, bootstrap_over_speakers):  # a clip twice in one table, too
        with pytest.raises(ValueError, match="2 predicted more than once"):
            scored(pd.concat([seeds[0], seeds[0][:2]]))


# ---------------------------------------------------------------------------------------------------------------------
# Tests


def swapped_differences(a, b):
    """WA and UA differences, recomputed from the rows, of all ways of swapping the tables speaker by speaker."""
    speakers = sorted(a["speaker_id"].unique())
    for swap in itertools.product((False, True), repeat=len(speakers)):
        flip = a["speaker_id"].map(dict(zip(speakers, swap)))
        new_a, new_b = (
            pooled_scores(one.assign(predicted_emotion=one["predicted_emotion"].where(~flip, other)))
            for one, other in ((a, b["predicted_emotion"]), (b, a["predicted_emotion"]))
        )
        yield [new_a[name] - new_b[name] for name in ("wa", "ua")]


def with_probabilities(six, emotions, genders):
    """Three emotions' and two genders' probabilities for `six`; the answers are the likeliest."""
    emotions = pd.DataFrame(emotions, columns=["p_anger", "p_fear", "p_sadness"])
    genders = pd.DataFrame(genders, columns=["p_female", "p_male"])
    answers = {
        "predicted_emotion": emotions.idxmax(axis=1).str[2:],
        "predicted_gender": genders.idxmax(axis=1).str[2:],
    }
    return pd.concat([six, emotions, genders], axis=1).assign(**answers)


def test_seed_ensemble_by_hand(six):
    sure, torn = [0.9, 0.1, 0.0], [0.4, 0.5, 0.1]
    first = with_probabilities(six, [sure] * 3 + [torn] * 3, [[0.6, 0.4]] * 6)
    second = with_probabilities(six, [torn] * 2 + [sure[::-1]] + [torn] * 3, [[0.1, 0.9]] * 6)
    ensemble = seed_ensemble([first, second.sample(frac=1, random_state=0)])
    # (.65, .3, .05) twice, then (.45, .1, .45), whose first of two equal ones is named, then fear three times.
    assert ensemble["predicted_emotion"].tolist() == ["anger"] * 3 + ["fear"] * 3
    np.testing.assert_allclose(ensemble.loc[0, ["p_anger", "p_fear", "p_sadness"]].tolist(), [0.65, 0.3, 0.05])
    np.testing.assert_allclose(ensemble.loc[0, ["p_female", "p_male"]].tolist(), [0.35, 0.65])
    assert set(ensemble["predicted_gender"]) == {"male"}
    assert pooled_scores(ensemble)["wa"] == pytest.approx(4 / 6)  # a, b, e and f


def test_seed_ensemble_without_a_gender_head(six):
    tables = [with_probabilities(six, [[0.1, 0.2, 0.7]] * 6, [[0.5, 0.5]] * 6) for _ in range(2)]
    tables = [each.drop(columns=["p_female", "p_male"]).assign(predicted_gender="") for each in tables]
    ensemble = seed_ensemble(tables)
    assert set(ensemble["predicted_emotion"]) == {"sadness"} and pooled_scores(ensemble)["gender_wa"] is None


def test_seed_ensemble_wants_the_same_labels(six):
    table = with_probabilities(six, [[0.1, 0.2, 0.7]] * 6, [[0.5, 0.5]] * 6)
    for other in (six, table.rename(columns={"p_sadness": "p_disgust"})):
        for pair in ([table, other], [other, table]):
            with pytest.raises(ValueError, match="of the same labels can be averaged"):
                seed_ensemble(pair)


def test_permutation_equals_swapping_the_rows():
    # Unequal numbers of clips, and not every emotion from every speaker.
    a = random_table(6, clips=14, right=0.6)
    a = a[(a["speaker_id"] != "x/03") | (a["emotion"] != "fear")].reset_index(drop=True)[5:].reset_index(drop=True)
    b = a.assign(predicted_emotion=a["predicted_emotion"].where(a.index % 5 != 0, "anger"))
    differences = np.abs(list(swapped_differences(a, b)))
    expected = (differences >= differences[0] - 1e-12).mean(axis=0)
    test = permutation_test(a, b)
    assert [test["wa"], test["ua"]] == pytest.approx(expected.tolist())
    assert 0.02 < expected[1] < 1  # neither end, where a wrong test could be right by chance
    assert (test["exact"], test["num_flips"], test["smallest"]) == (True, 64, 1 / 32)
    assert permutation_test(b, a) == test


def test_permutation_by_hand():
    # One clip a speaker; a is right on 5 of 5, b on none: 2 of 2^5 swaps are as extreme.
    a = table([(str(n), f"x/{n}", 0, "anger", "anger", "", "") for n in range(5)])
    b = a.assign(predicted_emotion="fear")
    test = permutation_test(a, b)
    assert test["wa"] == test["ua"] == test["smallest"] == 1 / 16
    assert permutation_test(a, a)["wa"] == 1.0


def test_permutation_of_many_speakers_is_sampled():
    a = random_table(20, right=0.6, seed=3)
    b = random_table(20, right=0.5, seed=4).assign(emotion=a["emotion"])
    test = permutation_test(a, b, num_flips=4000)
    differences = (speaker_scores(a)["wa"] - speaker_scores(b)["wa"]).to_numpy()
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=20000, rng=np.random.default_rng(0)
    )
    assert test["wa"] == pytest.approx(expected.pvalue, abs=0.02)
    assert not test["exact"] and test["num_flips"] == 4000
    assert test == permutation_test(a, b, num_flips=4000) != permutation_test(a, b, num_flips=4000, seed=1)
    never = permutation_test(a.assign(predicted_emotion=a["emotion"]), a.assign(predicted_emotion="x"), num_flips=99)
    assert never["wa"] == never["smallest"] == 0.01  # the observed one counts


def test_mcnemar_by_hand():
    # a alone right 6 times, b alone once, both right twice: two-sided binomial, 2 * (1 + 7) / 2^7.
    rows = [(str(n), "x/1", 0, "anger", "anger" if n < 8 else "fear", "", "") for n in range(10)]
    a = table(rows)
    b = a.assign(predicted_emotion=["anger"] * 2 + ["fear"] * 6 + ["anger", "fear"])
    assert mcnemar_test(a, b) == {"only_a": 6, "only_b": 1, "p": pytest.approx(0.125)}
    assert mcnemar_test(b, a)["p"] == pytest.approx(0.125)
    assert mcnemar_test(a, a) == {"only_a": 0, "only_b": 0, "p": 1.0}


def test_holm_by_hand():
    # 3 * .01, 2 * .02 = .04, 1 * .03 but not below the one before it
    assert holm([0.02, 0.01, 0.03]).tolist() == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_mean_gain_by_hand():
    rows = [(str(n), f"x/{n}", 0, "anger", "anger", "", "") for n in range(10)]
    good = table(rows)
    bad, half = good.assign(predicted_emotion="fear"), good.copy()
    half.loc[5:, "predicted_emotion"] = "fear"
    certain = mean_gain({"one": (good, bad), "two": (good, good)})
    assert certain["wa"] == {"difference": 0.5, "low": 0.5, "high": 0.5}
    assert (certain["num_corpora"], certain["reliable"]) == (2, True)
    # A mean of two independent binomials of 10 draws of 1/2: sd sqrt(.25 / 10 / 2) = .112
    gain = mean_gain({"one": (good, half), "two": (good, half)})["wa"]
    assert gain["difference"] == 0.5
    assert (gain["high"] - gain["low"]) / 2 == pytest.approx(1.96 * 0.112, abs=0.04)
    alone = paired_difference(good, half)["wa"]  # sd .158
    assert gain["high"] - gain["low"] < 0.85 * (alone["high"] - alone["low"])
    assert not mean_gain({"one": (good, half), "two": (good[:7], half[:7])})["reliable"]
    single = mean_gain({"one": (good, half), "two": (good[:1], half[:1])})["wa"]
    assert single == {"difference": 0.25, "low": None, "high": None}
    with pytest.raises(ValueError, match="no corpus"):
        mean_gain({})


# ---------------------------------------------------------------------------------------------------------------------
# Power


# Pairs for 80 % power at 5 %, two-sided, of Cohen's small, medium and large effects: G*Power 3.1, matched pairs.
@pytest.mark.parametrize("effect, size", [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_pairs_needed(effect, size):
    assert t_test_size(effect) == size
    assert t_test_power(effect, size - 1) < 0.8 <= t_test_power(effect, size)


def test_power_equals_simulation():
    samples = np.random.default_rng(0).normal(0.6, 1, size=(20000, 12))
    assert t_test_power(0.6, 12) == pytest.approx(
        (stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).mean(), abs=0.01
    )
    assert t_test_power(0, 12) == pytest.approx(0.05)


def test_ends_of_power():
    assert t_test_size(math.inf) == t_test_size(20) == 2
    assert t_test_power(math.inf, 24) == 1.0
    for effect in (0, -1, math.nan):
        with pytest.raises(ValueError, match="must be above 0"):
            t_test_size(effect)


def test_speakers_needed_of_a_balanced_corpus():
    a, b = random_table(12, seed=3), random_table(12, right=0.5, seed=4)
    needed = speakers_needed(a, b, 0.05)
    differences = speaker_scores(a)["wa"] - speaker_scores(b)["wa"]
    assert needed["wa"]["sd"] == pytest.approx(differences.std())
    assert needed["wa"]["num_needed"] == t_test_size(0.05 / differences.std())
    assert needed["wa"]["power"] == pytest.approx(t_test_power(0.05 / differences.std(), 12))
    assert needed["num_speakers"] == 12
    assert speakers_needed(a, b, 0.1)["wa"]["num_needed"] < needed["wa"]["num_needed"]
    assert speakers_needed(a, a, 0.05)["wa"]["num_needed"] == 2
    assert speakers_needed(a[:60], b[:60], 0.05)["wa"] is None


def test_spread_of_an_unbalanced_corpus_is_that_of_the_bootstrap():
    a, b = random_table(40, seed=3), random_table(40, right=0.5, seed=4)
    keep = np.random.default_rng(0).random(2400) < np.repeat(np.linspace(0.2, 1, 40), 60)
    a, b = a[keep], b[keep]
    needed, bootstrap = speakers_needed(a, b, 0.05), paired_difference(a, b)
    for name in ("wa", "ua"):
        error = (bootstrap[name]["high"] - bootstrap[name]["low"]) / (2 * 1.96)
        assert needed[name]["sd"] / math.sqrt(40) == pytest.approx(error, rel=0.1)


# ---------------------------------------------------------------------------------------------------------------------
# Command line


def test_command_line(tmp_path, capsys, monkeypatch):
    a = random_table(5, clips=8)
    b = a.assign(predicted_emotion="fear")
    for name, rows in (("a", a), ("b", b)):
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
    monkeypatch.setattr(sys, "argv", ["statistics", str(tmp_path / "a.csv"), str(tmp_path / "b.csv")])
    main()
    lines = capsys.readouterr().out.splitlines()
    difference = paired_difference(a, b)["wa"]
    assert lines[0] == (
        f"WA {difference['difference']:+.3f} (95 % interval over speakers {difference['low']:+.3f} to "
        f"{difference['high']:+.3f}), permutation over speakers p = {permutation_test(a, b)['wa']:.4f}"
    )
    assert lines[1].startswith("UA +") and lines[2].startswith("Permutation: all 32 swaps of 5 speakers")
    mcnemar = mcnemar_test(a, b)
    assert lines[3].startswith("Secondary") and f"{mcnemar['only_a']} clips right in A alone" in lines[3]
    assert len(lines) == 4


def test_command_line_of_one_speaker_and_of_other_clips(tmp_path, capsys, monkeypatch):
    a = random_table(1, clips=8)
    other = a.assign(utterance_id=a["utterance_id"] + "x")
    for name, rows in (("a", a), ("other", other), ("empty", a[:0])):
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
    monkeypatch.setattr(sys, "argv", ["statistics", *[str(tmp_path / "a.csv")] * 2])
    main()
    assert capsys.readouterr().out.startswith("WA +0.000 (no interval over one speaker), permutation")
    for name, message in (
        ("other", "Of 8 eligible utterances: 8 not predicted"),
        ("absent", "No such file"),
        ("empty", "A table of predictions is empty"),
    ):
        first = "empty" if name == "empty" else "a"
        monkeypatch.setattr(sys, "argv", ["statistics", str(tmp_path / f"{first}.csv"), str(tmp_path / f"{name}.csv")])
        with pytest.raises(SystemExit, match=f"^statistics: .*{name}.csv: .*{message}"):
            main()
