"""Whether a model is as often right as it says: reliability, calibration error, temperature scaling.

The confidence of a prediction is its probability of the emotion it names. A model is calibrated if, of the clips that
it is 70 % sure of, 70 % are right. Dividing the logits by one temperature (Guo et al., "On Calibration of Modern
Neural Networks", 2017) changes the confidence and never the answer. The temperature is fitted on the validation
speakers of a fold; fitted on its test speakers it would flatter.

All functions take a predictions table (columns in statistics.py), whose `p_<emotion>` columns are rounded to 6 digits:
a probability of 0 counts as half of the last digit wherever a logarithm is taken.
"""

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from dataset_scripts.schema import GENDERS

NUM_BINS = 15
TEMPERATURES = (0.05, 20.0)  # where a temperature is looked for
SMALLEST = 5e-7
SUM_TOLERANCE = 1e-3  # of rounded probabilities


def emotion_probabilities(predictions):
    """The emotions that a model knows and their probabilities, shape (clips, emotions), each row summing to 1.

    The columns `p_<emotion>` come before the `p_<gender>`. Where the genders begin is read off the sums: those of the
    emotions are 1, and those of the genders, if there are any. The table's labels settle it where a label is so
    unlikely throughout that this leaves a choice.

    Returns:
        `(emotions, probabilities)`, or `None` for a table without probabilities.

    Raises:
        `ValueError`: the columns are not such.
    """
    names = [name[2:] for name in predictions.columns if name.startswith("p_")]
    if not names:
        return None
    columns = [predictions[name] for name in ("gender", "predicted_gender") if name in predictions]
    genders = set(GENDERS).union(*columns).difference(predictions["emotion"], predictions["predicted_emotion"])
    probabilities = predictions[[f"p_{name}" for name in names]].to_numpy(dtype=np.float64)
    sums = probabilities.cumsum(axis=1)
    rest = sums[:, -1:] - sums  # of the columns behind each
    ends = np.isclose(sums, 1, atol=SUM_TOLERANCE) & np.isclose(rest, 1, atol=SUM_TOLERANCE)
    ends[:, -1] = np.isclose(sums[:, -1], 1, atol=SUM_TOLERANCE)
    counts = [end + 1 for end in np.flatnonzero(ends.all(axis=0)) if genders.isdisjoint(names[: end + 1])]
    if not counts:
        raise ValueError(
            f"The probabilities of {', '.join(names)} are not those of emotions and, behind them, of genders: each "
            "must sum to 1 in every row."
        )
    return names[: counts[-1]], probabilities[:, : counts[-1]] / sums[:, counts[-1] - 1 : counts[-1]]


def fit_temperature(predictions):
    """The temperature with the least negative log-likelihood of the true emotions, between 0.05 and 20.

    Above 1 the model was too sure of itself. Where every clip is right, nothing bounds the confidence: near 0.05.
    """
    logits, truth = _logits(predictions)
    # The likelihood is convex in 1 / T, so it has one minimum over log T, too.
    fit = minimize_scalar(
        lambda log_temperature: _nll(logits / np.exp(log_temperature), truth),
        bounds=np.log(TEMPERATURES),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(fit.x))


def with_temperature(predictions, temperature):
    """The same predictions, the logits of the emotions divided by a temperature.

    Args:
        temperature (`float`, or `dict` of `float`): one for all clips, or one for each `fold`.
    """
    emotions, probabilities = emotion_probabilities(predictions)
    if isinstance(temperature, dict):
        temperature = predictions["fold"].map(temperature).to_numpy(dtype=np.float64)[:, None]
    scaled = softmax(np.log(np.maximum(probabilities, SMALLEST)) / temperature, axis=1)
    return predictions.assign(**{f"p_{name}": scaled[:, column] for column, name in enumerate(emotions)})


def reliability(predictions, num_bins=NUM_BINS):
    """The reliability diagram as a table: bins of equal width over the confidence, each closed above.

    Returns:
        `pandas.DataFrame`: a row for each bin, `low`, `high`, `num_utterances`, and their mean `confidence` and
        `accuracy` (NaN in an empty bin).
    """
    _, probabilities = emotion_probabilities(predictions)
    confidence = probabilities.max(axis=1)
    right = (predictions["predicted_emotion"] == predictions["emotion"]).to_numpy(dtype=np.float64)
    edges = np.linspace(0, 1, num_bins + 1)
    place = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    counts = np.bincount(place, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        means = {
            name: np.bincount(place, values, num_bins) / counts
            for name, values in (("confidence", confidence), ("accuracy", right))
        }
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "num_utterances": counts, **means})


def calibration_error(predictions, num_bins=NUM_BINS):
    """Expected calibration error (ECE): mean over clips of how far their bin's accuracy is from its confidence."""
    bins = reliability(predictions, num_bins)
    gaps = (bins["accuracy"] - bins["confidence"]).abs()
    return float((gaps * bins["num_utterances"]).sum() / bins["num_utterances"].sum())


def calibration_scores(predictions):
    """`ece`, `nll` (negative log-likelihood, nats a clip) and `brier` (squared error over the emotions, 0 to 2).

    Returns:
        `dict` of `float`, or `None` for a table without probabilities.
    """
    if emotion_probabilities(predictions) is None:
        return None
    _, probabilities = emotion_probabilities(predictions)
    logits, truth = _logits(predictions)
    squares = (probabilities - np.eye(probabilities.shape[1])[truth]) ** 2
    return {
        "ece": calibration_error(predictions),
        "nll": _nll(logits, truth),
        "brier": float(squares.sum(axis=1).mean()),
    }


def run_calibration(predictions, temperatures):
    """Calibration of a run's test predictions, as they are and with the temperatures of its folds.

    Args:
        predictions: of all folds.
        temperatures (`dict`): fold -> its temperature, `None` where none could be fitted.

    Returns:
        `dict`: `as_is` and `after_temperature`, each as from `calibration_scores`, and `temperatures`; the last two
        are `None` unless every fold has a temperature. `None` for predictions without probabilities.
    """
    as_is = calibration_scores(predictions)
    if as_is is None:
        return None
    folds = predictions["fold"].unique().tolist()
    if any(temperatures.get(fold) is None for fold in folds):
        return {"as_is": as_is, "after_temperature": None, "temperatures": None}
    after = calibration_scores(with_temperature(predictions, temperatures))
    return {"as_is": as_is, "after_temperature": after, "temperatures": {fold: temperatures[fold] for fold in folds}}


def _logits(predictions):
    """Logits up to a constant of each clip, shape (clips, emotions), and the column of the truth, shape (clips,)."""
    emotions, probabilities = emotion_probabilities(predictions)
    columns = {name: column for column, name in enumerate(emotions)}
    unknown = sorted(set(predictions["emotion"]) - set(emotions))
    if unknown:
        raise ValueError(f"The predictions have no probability of the true emotion {', '.join(map(str, unknown))}.")
    return np.log(np.maximum(probabilities, SMALLEST)), predictions["emotion"].map(columns).to_numpy(dtype=int)


def _nll(logits, truth):
    return float(-log_softmax(logits, axis=1)[np.arange(len(truth)), truth].mean())
