import doctest
import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

from ser_protocol.metrics import ser_metrics
from ser_protocol.metrics.ser_metrics import confusion_matrix, scores_from_confusion, ser_scores


def sklearn_scores(predictions, references):
    present = sorted(set(references))
    averages = {"labels": present, "zero_division": 0}
    return {
        "wa": accuracy_score(references, predictions),
        "ua": recall_score(references, predictions, average="macro", **averages),
        "wf1": f1_score(references, predictions, average="weighted", **averages),
        "macro_f1": f1_score(references, predictions, average="macro", **averages),
    }


def test_hand_worked_example():
    # truth: 3 of class 0 (2 right), 2 of class 1 (1 right), 1 of class 2 (0 right, predicted as the absent class 3)
    references, predictions = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 3]
    # F1: class 0 2*2/(3+3) = 2/3, class 1 2*1/(2+2) = 1/2, class 2 0; class 3 is not in the truth and not averaged
    assert ser_scores(predictions, references) == pytest.approx(
        {
            "wa": 3 / 6,
            "ua": (2 / 3 + 1 / 2 + 0) / 3,
            "wf1": (3 * 2 / 3 + 2 * 1 / 2 + 0) / 6,
            "macro_f1": (2 / 3 + 1 / 2 + 0) / 3,
        }
    )


@pytest.mark.parametrize("true_classes, predicted_classes", [(8, 8), (3, 8), (8, 2), (1, 1), (1, 4)])
def test_equals_scikit_learn(true_classes, predicted_classes):
    generator = np.random.default_rng(true_classes * 10 + predicted_classes)
    references = generator.integers(true_classes, size=50)
    predictions = np.where(generator.random(50) < 0.5, references, generator.integers(predicted_classes, size=50))
    assert ser_scores(predictions, references) == pytest.approx(sklearn_scores(predictions, references), abs=1e-12)


@pytest.mark.parametrize("predictions, references, expected", [([4], [4], 1.0), ([4], [2], 0.0)])
def test_one_sample(predictions, references, expected):
    assert ser_scores(predictions, references) == dict.fromkeys(ser_metrics.SCORES, expected)
    assert sklearn_scores(predictions, references) == dict.fromkeys(ser_metrics.SCORES, expected)


def test_label_names_score_as_ids():
    references, predictions = np.array([0, 1, 2, 1]), np.array([0, 2, 2, 1])
    names = np.array(["anger", "fear", "sadness"], dtype=object)
    assert ser_scores(names[predictions], names[references]) == ser_scores(predictions, references)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="^There are no clips to score.$"):
        ser_scores([], [])
    with pytest.raises(ValueError, match=r"equal length, got \(2,\) and \(1,\)"):
        ser_scores([0, 1], [0])
    with pytest.raises(ValueError, match="equal length"):
        ser_scores([[0.1, 0.9]], [1])  # logits instead of ids


def test_confusion_rows_are_true_and_stacks_score_at_once():
    labels, counts = confusion_matrix(["b", "b", "c"], ["a", "b", "b"])
    assert labels.tolist() == ["a", "b", "c"]
    assert counts.tolist() == [[0, 1, 0], [0, 1, 1], [0, 0, 0]]
    # Of 3 clips of class 0 two are right and one is taken for the absent class 1: F1 is 2 * 2 / (3 + 2).
    matrices = np.stack([np.pad([[2, 1], [0, 0]], (0, 1)), counts, np.eye(3), np.zeros((3, 3))])
    with warnings.catch_warnings(action="error"):  # the empty matrix divides by zero, as it should
        stacked = scores_from_confusion(matrices)
    np.testing.assert_allclose(stacked["wa"], [2 / 3, 1 / 3, 1, np.nan])
    np.testing.assert_allclose(stacked["ua"], [2 / 3, 1 / 4, 1, np.nan])
    np.testing.assert_allclose(stacked["wf1"], [4 / 5, (0 + 2 * 1 / 2) / 3, 1, np.nan])
    np.testing.assert_allclose(stacked["macro_f1"], [4 / 5, (0 + 1 / 2) / 2, 1, np.nan])


def test_counts_of_any_type_score_alike():
    # 2 * 200 is 144 in 8 bits.
    small = scores_from_confusion(np.array([[200, 0], [55, 200]], dtype=np.uint8))
    assert small == scores_from_confusion([[200, 0], [55, 200]])
    assert small["wf1"] == pytest.approx((200 * 400 / 455 + 255 * 400 / 455) / 455)


def test_metric_of_evaluate(tmp_path):
    metric = ser_metrics.SERMetrics(cache_dir=tmp_path)
    for names in ([0, 1, 2], ["anger", "fear", "joy"]):
        references, predictions = [names[0], names[0], names[1]], [names[0], names[2], names[1]]
        # F1: 2/3, 1, and of the class that only the predictions have, none
        scores = {"wa": 2 / 3, "ua": 3 / 4, "wf1": (2 * 2 / 3 + 1) / 3, "macro_f1": (2 / 3 + 1) / 2}
        assert metric.compute(predictions=predictions, references=references) == pytest.approx(scores)
    fields = [{name: value.dtype for name, value in features.items()} for features in metric.features]
    assert fields == [{"predictions": kind, "references": kind} for kind in ("int64", "string")]
    assert metric.description == ser_metrics._DESCRIPTION and metric.citation == ser_metrics._CITATION
    assert metric.inputs_description.endswith(ser_metrics._INPUTS)


def test_doctest():
    assert doctest.testmod(ser_metrics).failed == 0


def test_loads_with_evaluate_by_path_offline(tmp_path):
    # A process of its own: evaluate copies the file into HF_HOME, and any connection would fail loudly.
    script = """
import socket, sys
def refuse(*_): raise AssertionError("the metric asked the network")
socket.socket.connect = socket.getaddrinfo = refuse
import evaluate
metric = evaluate.load(sys.argv[1])
by_id = metric.compute(predictions=[0, 2, 1, 1], references=[0, 0, 1, 1])
metric.add_batch(predictions=["anger", "surprise"], references=["anger", "anger"])
metric.add_batch(predictions=["fear", "fear"], references=["fear", "fear"])
by_name = metric.compute()
import json
print(json.dumps([by_id, by_name]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, ser_metrics.__file__],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_EVALUATE_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    by_id, by_name = json.loads(done.stdout.splitlines()[-1])
    assert by_id == by_name == ser_scores([0, 2, 1, 1], [0, 0, 1, 1])
    assert set(by_id) == {"wa", "ua", "wf1", "macro_f1"}
