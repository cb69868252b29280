"""The four scores of speech emotion recognition: WA, UA, weighted F1 and macro F1.

Names, as the field uses them:

- `wa` (weighted accuracy): the share of clips that are right, i.e. plain accuracy.
- `ua` (unweighted accuracy): the recall of each class, averaged over the classes *present in the truth*.
- `wf1`: the F1 of each class, averaged with the number of true clips of the class as its weight.
- `macro_f1`: the F1 of each class, averaged over the classes *present in the truth*.

Why the classes present in the truth: a fold or a resample may lack a class, and a model may predict a class that the
truth lacks. Counting such a class as 0 (scikit-learn's default for macro F1) makes the divisor depend on the model, so
two models on the same clips are averaged over different classes. Here the truth alone sets the divisor, UA and macro
F1 share it, and a clip predicted as an absent class still costs: it is a miss of its true class.

Offline, by path to this file (`evaluate` looks for `metrics.py` when it is given the folder, so name the file):

    metric = evaluate.load("ser_protocol/metrics/ser_metrics.py")
    metric.compute(predictions=[0, 1, 1], references=[0, 1, 0])

`evaluate` reads the imports of this file line by line: one import per line, and none of the project's own.
"""

import datasets
import evaluate
import numpy as np

SCORES = ("wa", "ua", "wf1", "macro_f1")

_DESCRIPTION = "Scores of speech emotion recognition: WA (accuracy), UA (mean recall), weighted F1 and macro F1."
_CITATION = """\
@inproceedings{goel2024camulenet,
  title     = {Exploring Multilingual Unseen Speaker Emotion Recognition: Leveraging Co-Attention Cues in Multitask Learning},
  author    = {Goel, Arnav and Hira, Medha and Gupta, Anubha},
  booktitle = {Proc. Interspeech 2024},
  year      = {2024},
}"""  # noqa: E501
_INPUTS = """
Args:
    predictions (`list` of `int` or `str`): predicted class of each clip, as an id or a label name.
    references (`list` of `int` or `str`): true class of each clip, in the same form.
Returns:
    `dict` with `wa`, `ua`, `wf1` and `macro_f1`, each a `float` in [0, 1].
"""


def confusion_matrix(predictions, references):
    """Count the clips of each true class (rows) that were predicted as each class (columns).

    Args:
        predictions, references: class ids or label names, shape (clips,).

    Returns:
        `(labels, counts)`: the sorted labels of truth and predictions together, shape (classes,), and the `int64`
        counts, shape (classes, classes).
    """
    predictions, references = np.asarray(predictions), np.asarray(references)
    if predictions.ndim != 1 or predictions.shape != references.shape:
        raise ValueError(f"Expected two lists of equal length, got {predictions.shape} and {references.shape}.")
    labels, codes = np.unique(np.concatenate([references, predictions]), return_inverse=True)
    truth, predicted = codes[: len(references)], codes[len(references) :]
    counts = np.bincount(truth * len(labels) + predicted, minlength=len(labels) ** 2)
    return labels, counts.reshape(len(labels), len(labels))


def scores_from_confusion(confusion):
    """The four scores of one or many confusion matrices: the formulas, in one place.

    Args:
        confusion: counts, rows true and columns predicted, shape (..., classes, classes).

    Returns:
        `dict` of `wa`, `ua`, `wf1`, `macro_f1`, each an array of shape (...); NaN where a matrix is empty.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)  # (..., classes)
    true = confusion.sum(axis=-1)
    predicted = confusion.sum(axis=-2)
    present = true > 0
    with np.errstate(invalid="ignore"):
        recall = np.where(present, hits / true, 0.0)
        f1 = np.where(present, 2 * hits / (true + predicted), 0.0)
        return {
            "wa": hits.sum(axis=-1) / true.sum(axis=-1),
            "ua": recall.sum(axis=-1) / present.sum(axis=-1),
            "wf1": (f1 * true).sum(axis=-1) / true.sum(axis=-1),
            "macro_f1": f1.sum(axis=-1) / present.sum(axis=-1),
        }


def ser_scores(predictions, references):
    """WA, UA, weighted F1 and macro F1 of one list of predictions, as `float`s in [0, 1].

    Class 0 is right once in two, class 1 twice in two; class 2 is predicted once and absent from the truth:

    >>> scores = ser_scores(predictions=[0, 2, 1, 1], references=[0, 0, 1, 1])
    >>> {name: round(score, 4) for name, score in scores.items()}
    {'wa': 0.75, 'ua': 0.75, 'wf1': 0.8333, 'macro_f1': 0.8333}
    """
    if len(references) == 0:
        raise ValueError("There are no clips to score.")
    _, confusion = confusion_matrix(predictions, references)
    return {name: float(score) for name, score in scores_from_confusion(confusion).items()}


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class SERMetrics(evaluate.Metric):
    """`ser_scores` as an `evaluate` metric."""

    def _info(self):
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=[
                datasets.Features({"predictions": datasets.Value(kind), "references": datasets.Value(kind)})
                for kind in ("int64", "string")
            ],
        )

    def _compute(self, predictions, references):
        return ser_scores(predictions, references)
