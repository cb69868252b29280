"""Reliability, calibration error and temperature, against hand-worked numbers and libraries."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from ser_protocol.calibration import (
    calibration_error,
    calibration_scores,
    emotion_probabilities,
    fit_temperature,
    reliability,
    run_calibration,
    with_temperature,
)

EMOTIONS = ["neutral", "anger", "fear"]


def table(logits, truth, fold=0):
    """Predictions with the probabilities of these logits, rounded as the runner rounds them."""
    probabilities = softmax(np.asarray(logits, dtype=float), axis=1)
    columns = {f"p_{name}": probabilities[:, column].round(6) for column, name in enumerate(EMOTIONS)}
    answers = np.take(EMOTIONS, probabilities.argmax(axis=1))
    genders = {"p_female": 0.25, "p_male": 0.75}
    rows = pd.DataFrame({"fold": fold, "emotion": np.take(EMOTIONS, truth), "predicted_emotion": answers})
    return rows.assign(**columns, **genders)


def drawn(temperature, num_clips=4000, seed=0):
    """Predictions of a model whose logits are `temperature` times too large for how often it is right."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=1.5, size=(num_clips, 3))
    truth = [generator.choice(3, p=row) for row in softmax(logits, axis=1)]
    return table(logits * temperature, truth)


@pytest.fixture
def four():
    """Confidence .9 twice, once right; .6 twice, both right."""
    logits = np.log([[0.9, 0.05, 0.05], [0.9, 0.05, 0.05], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]])
    return table(logits, [0, 1, 1, 2])


def test_emotions_without_genders(four):
    emotions, probabilities = emotion_probabilities(four)
    assert emotions == EMOTIONS
    np.testing.assert_allclose(probabilities[2], [0.2, 0.6, 0.2])
    assert emotion_probabilities(four[["emotion", "predicted_emotion"]]) is None
    others = four.rename(columns={"p_male": "p_x"}).assign(gender="x", predicted_gender="female")
    assert emotion_probabilities(others)[0] == EMOTIONS


@pytest.mark.parametrize("names", [("weiblich", "männlich"), ("female", "male", "diverse"), ("0", "1")])
def test_genders_of_any_name_are_no_emotions(four, names):
    # A part of a corpus may have none of a gender, in the truth as in the answers.
    genders = {f"p_{name}": share for name, share in zip(names, (0.7, 0.2, 0.1) if len(names) == 3 else (0.7, 0.3))}
    others = four.drop(columns=["p_female", "p_male"]).assign(**genders, gender=names[0], predicted_gender=names[0])
    assert emotion_probabilities(others)[0] == EMOTIONS
    assert calibration_error(others) == calibration_error(four)
    assert fit_temperature(others) == fit_temperature(four)


def test_labels_that_are_never_likely():
    rows = pd.DataFrame({"emotion": ["b", "a"], "predicted_emotion": ["a", "a"], "gender": "male"})
    rows = rows.assign(p_a=[0.9, 1.0], p_b=[0.1, 0.0], p_c=0.0, p_female=0.0, p_male=1.0)
    assert emotion_probabilities(rows)[0] == ["a", "b", "c"]
    assert emotion_probabilities(rows.drop(columns=["p_female", "p_male"]))[0] == ["a", "b", "c"]


@pytest.mark.parametrize("changed", [{"p_fear": 0.5}, {"p_male": 0.9}, {"p_x": 0.1}])
def test_columns_that_are_no_probabilities(four, changed):
    with pytest.raises(ValueError, match="The probabilities of neutral, anger, fear, female, male"):
        emotion_probabilities(four.assign(**changed))


def test_calibration_by_hand(four):
    # two bins: right half the time at .9, always at .6
    assert calibration_error(four) == pytest.approx((2 * 0.4 + 2 * 0.4) / 4)
    assert calibration_error(four, num_bins=1) == pytest.approx(abs(0.75 - 0.75))
    scores = calibration_scores(four)
    assert scores["ece"] == pytest.approx(0.4)
    assert scores["nll"] == pytest.approx(-(np.log(0.9) + np.log(0.05) + 2 * np.log(0.6)) / 4)
    right, wrong, unsure = 0.1**2 + 2 * 0.05**2, 0.9**2 + 0.95**2 + 0.05**2, 0.4**2 + 2 * 0.2**2
    assert scores["brier"] == pytest.approx((right + wrong + 2 * unsure) / 4)
    bins = reliability(four, num_bins=5)
    assert bins["num_utterances"].tolist() == [0, 0, 2, 0, 2]  # .6 closes its bin
    assert bins["accuracy"].tolist()[2::2] == [1.0, 0.5] and np.isnan(bins["accuracy"][0])
    assert bins[["low", "high"]].iloc[2].tolist() == pytest.approx([0.4, 0.6])


def test_reliability_equals_sklearn():
    predictions = drawn(1.5)
    bins = reliability(predictions)
    bins = bins[bins["num_utterances"] > 0]
    confidence = emotion_probabilities(predictions)[1].max(axis=1)
    right = predictions["predicted_emotion"] == predictions["emotion"]
    accuracy, mean_confidence = calibration_curve(right, confidence, n_bins=15)
    np.testing.assert_allclose(bins["accuracy"], accuracy)
    np.testing.assert_allclose(bins["confidence"], mean_confidence)
    labels = sorted(EMOTIONS)
    expected = log_loss(predictions["emotion"], predictions[[f"p_{name}" for name in labels]], labels=labels)
    assert calibration_scores(predictions)["nll"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(temperature):
    predictions = drawn(temperature)
    fitted = fit_temperature(predictions)
    assert fitted == pytest.approx(temperature, rel=0.1)
    # the least likelihood of all: looked up on a grid
    losses = {
        t: calibration_scores(with_temperature(predictions, t))["nll"] for t in fitted * np.array([0.98, 1, 1.02])
    }
    assert min(losses, key=losses.get) == fitted
    assert calibration_error(with_temperature(predictions, fitted)) < 0.03
    if temperature == 3.0:
        assert calibration_error(predictions) > 0.15


def test_always_right_ends_at_the_bound():
    assert fit_temperature(table([[2, 0, 0], [0, 2, 0]], [0, 1])) < 0.06


def test_temperature_changes_no_answer():
    predictions = drawn(2.0, num_clips=200)
    scaled = with_temperature(predictions, 2.0)
    assert (
        emotion_probabilities(scaled)[1].argmax(axis=1) == emotion_probabilities(predictions)[1].argmax(axis=1)
    ).all()
    np.testing.assert_allclose(scaled[["p_neutral", "p_anger", "p_fear"]].sum(axis=1), 1)
    assert scaled["p_male"].tolist() == predictions["p_male"].tolist()
    by_hand = with_temperature(table(np.log([[0.64, 0.32, 0.04]]), [0]), 2.0)  # square roots: .8, .566, .2
    assert by_hand["p_neutral"][0] == pytest.approx(0.8 / (0.8 + 0.32**0.5 + 0.2))


def test_folds_have_their_own_temperatures(four):
    predictions = pd.concat([four, four.assign(fold=1)], ignore_index=True)
    scaled = with_temperature(predictions, {0: 1.0, 1: 2.0})
    assert scaled["p_anger"].tolist() == pytest.approx(
        [*four["p_anger"], *with_temperature(four, 2.0)["p_anger"]], abs=1e-6
    )
    both = run_calibration(predictions, {0: 1.0, 1: 2.0})
    assert both["temperatures"] == {0: 1.0, 1: 2.0}
    assert both["as_is"] == pytest.approx(calibration_scores(four))
    assert both["after_temperature"] == pytest.approx(calibration_scores(scaled))
    for lacking in ({}, {0: 1.0}, {0: 1.0, 1: None}):
        none = run_calibration(predictions, lacking)
        assert none["after_temperature"] is None and none["temperatures"] is None
        assert none["as_is"] == both["as_is"]
    assert run_calibration(predictions[["fold", "emotion", "predicted_emotion"]], {}) is None


def test_an_emotion_that_the_model_does_not_know_is_refused(four):
    with pytest.raises(ValueError, match="no probability of the true emotion boredom"):
        calibration_scores(four.assign(emotion="boredom"))
