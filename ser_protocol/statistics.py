"""Scores of a table of predictions, and how far they can be trusted.

A predictions table has one row per clip: `utterance_id, speaker_id, fold, emotion, gender, predicted_emotion,
predicted_gender`, and one `p_<label>` column for each label. `gender` is empty where a corpus does not say it, and
`predicted_gender` is empty throughout for a model without a gender head.

Clips of one speaker resemble each other, so the unit that is resampled is the speaker (a cluster bootstrap: Davison &
Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8). The interval says how the pooled figure would
move with other speakers, the models being fixed; it leaves out the spread between training seeds.

    python -m ser_protocol.statistics A/predictions.csv B/predictions.csv

prints how far A is ahead of B on the same utterances.
"""

import argparse

import numpy as np
import pandas as pd

from .metrics.ser_metrics import SCORES, scores_from_confusion, ser_scores

# Under this many speakers the percentiles of a bootstrap over speakers are marked unreliable.
MIN_SPEAKERS = 8
CONFIDENCE = 0.95


def read_predictions(path):
    """Read a `predictions.csv`; empty genders come back as `""`, whatever the labels are called."""
    text = ["utterance_id", "speaker_id", "emotion", "gender", "predicted_emotion", "predicted_gender"]
    return pd.read_csv(path, dtype=dict.fromkeys(text, str), na_filter=False)


def check_predictions(predictions, utterance_ids):
    """Raise `ValueError` unless every eligible utterance was predicted exactly once, and no other was.

    Args:
        predictions (`pandas.DataFrame`): a predictions table.
        utterance_ids (iterable of `str`): the eligible utterances.
    """
    eligible, predicted = pd.Index(utterance_ids), pd.Index(predictions["utterance_id"])
    problems = {
        "not predicted": eligible.difference(predicted),
        "predicted more than once": predicted[predicted.duplicated()].unique(),
        "predicted but not eligible": predicted.difference(eligible),
    }
    found = [f"{len(ids)} {problem} ({_some(ids)})" for problem, ids in problems.items() if len(ids)]
    if found:
        raise ValueError(f"Of {len(eligible)} eligible utterances: " + "; ".join(found) + ".")


def pooled_scores(predictions):
    """Scores over all rows together.

    Returns:
        `dict`: `wa`, `ua`, `wf1`, `macro_f1` of the emotion and `gender_wa`, the accuracy of the gender over the clips
        that have a gender label, or `None` if none has or the model predicts no gender.
    """
    scores = ser_scores(predictions["predicted_emotion"], predictions["emotion"])
    labelled, right = _gender_hits(predictions)
    return scores | {"gender_wa": float(right.sum() / labelled.sum()) if labelled.any() else None}


def bootstrap_over_speakers(predictions, num_resamples=2000, seed=0):
    """95 % percentile intervals of the pooled scores, by resampling speakers with replacement.

    A class that no resampled speaker has drops out of that resample's UA and macro F1, as everywhere else.

    Returns:
        `dict`: `intervals`, a `{"low", "high"}` for each score (`None` where there is no score, or only one speaker:
        nothing can be resampled); `num_speakers`, `num_resamples`, `seed`; `reliable`, False under 8 speakers.
    """
    speakers, codes = np.unique(predictions["speaker_id"].astype(str), return_inverse=True)
    draws = _speaker_draws(len(speakers), num_resamples, seed)
    samples = scores_from_confusion(_resampled_confusion(predictions, codes, draws))
    samples["gender_wa"] = _resampled_gender_wa(predictions, codes, draws)
    return {
        "intervals": {name: _interval(values) if len(speakers) > 1 else None for name, values in samples.items()},
        **_resampling(len(speakers), num_resamples, seed),
    }


def fold_scores(predictions):
    """Scores of each fold, and their mean and standard deviation over folds (`ddof=1`: the folds are a sample).

    Returns:
        `dict`: `rows`, a list of `{"fold", "num_utterances", **scores}` in fold order; `mean` and `sd`, a `dict` of
        scores each. `sd` is `None` with one fold; a fold without a gender score is left out of that score's mean.
    """
    rows = [
        {"fold": int(fold), "num_utterances": len(rows), **pooled_scores(rows)}
        for fold, rows in predictions.groupby("fold", sort=True)
    ]
    columns = {name: [row[name] for row in rows if row[name] is not None] for name in (*SCORES, "gender_wa")}
    return {
        "rows": rows,
        "mean": {name: float(np.mean(values)) if values else None for name, values in columns.items()},
        "sd": {name: float(np.std(values, ddof=1)) if len(values) > 1 else None for name, values in columns.items()},
    }


def majority_class_scores(predictions):
    """Chance: the scores of always answering the most frequent class of the pooled truth.

    Returns:
        `dict`: `emotion` and `gender` (the answers; of equally frequent ones the first by name; `gender` is `None`
        without gender labels), the scores, and `gender_wa`.
    """
    emotion = _most_frequent(predictions["emotion"])
    genders = predictions["gender"][_filled(predictions["gender"])]
    gender = _most_frequent(genders) if len(genders) else None
    constant = predictions.assign(predicted_emotion=emotion, predicted_gender=gender or "")
    return {"emotion": emotion, "gender": gender, **pooled_scores(constant)}


def speaker_scores(predictions):
    """Scores of each speaker: a DataFrame indexed by `speaker_id`, with `num_utterances` and the scores."""
    rows = {
        speaker: {"num_utterances": len(rows), **pooled_scores(rows)}
        for speaker, rows in predictions.groupby("speaker_id", sort=True)
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("speaker_id")


def paired_difference(a, b, num_resamples=2000, seed=0):
    """Difference `a - b` of WA and UA between two models on the same utterances, with a 95 % interval.

    Both tables are scored on the same resampled speakers, so what the speakers have in common cancels out.

    Returns:
        `dict`: for `wa` and `ua` a `{"difference", "low", "high"}` (`low`, `high` are `None` with one speaker), then
        `num_speakers`, `num_resamples`, `seed`, `reliable` as in `bootstrap_over_speakers`.
    """
    check_predictions(a, b["utterance_id"])
    check_predictions(b, a["utterance_id"])
    a, b = (table.set_index("utterance_id").sort_index() for table in (a, b))
    for column in ("emotion", "speaker_id"):
        different = a.index[a[column] != b[column]]
        if len(different):
            raise ValueError(f"The two tables differ in {column} of {len(different)} utterances ({_some(different)}).")
    speakers, codes = np.unique(a["speaker_id"].astype(str), return_inverse=True)
    draws = _speaker_draws(len(speakers), num_resamples, seed)
    sample_a, sample_b = (scores_from_confusion(_resampled_confusion(table, codes, draws)) for table in (a, b))
    pooled_a, pooled_b = pooled_scores(a), pooled_scores(b)
    result = {}
    for name in ("wa", "ua"):
        interval = _interval(sample_a[name] - sample_b[name]) if len(speakers) > 1 else {"low": None, "high": None}
        result[name] = {"difference": pooled_a[name] - pooled_b[name], **interval}
    return result | _resampling(len(speakers), num_resamples, seed)


def _speaker_draws(num_speakers, num_resamples, seed):
    """How often each speaker is drawn in each resample: shape (resamples, speakers), each row sums to `speakers`."""
    probabilities = np.full(num_speakers, 1 / num_speakers)
    return np.random.default_rng(seed).multinomial(num_speakers, probabilities, size=num_resamples).astype(np.float64)


def _resampled_confusion(predictions, codes, draws):
    """Confusion matrices of all resamples, shape (resamples, classes, classes).

    A confusion matrix is a sum over speakers, so resampling speakers is one product with the numbers of draws.
    """
    labels, truth = np.unique(
        np.concatenate([predictions["emotion"].astype(str), predictions["predicted_emotion"].astype(str)]),
        return_inverse=True,
    )
    truth, predicted = np.split(truth, 2)
    num_speakers, num_classes = draws.shape[1], len(labels)
    cell = (codes * num_classes + truth) * num_classes + predicted
    by_speaker = np.bincount(cell, minlength=num_speakers * num_classes**2).reshape(num_speakers, -1)
    return (draws @ by_speaker).reshape(-1, num_classes, num_classes)


def _resampled_gender_wa(predictions, codes, draws):
    """Gender accuracy of all resamples, shape (resamples,); NaN where no drawn speaker has a gender label."""
    labelled, right = (np.bincount(codes, flags, draws.shape[1]) for flags in _gender_hits(predictions))
    with np.errstate(invalid="ignore"):
        return (draws @ right) / (draws @ labelled)


def _gender_hits(predictions):
    """Two boolean arrays, shape (clips,): has a gender label to score, and is right. All False if single-task."""
    if "predicted_gender" not in predictions or not _filled(predictions["predicted_gender"]).any():
        return np.zeros((2, len(predictions)), dtype=bool)
    labelled = _filled(predictions["gender"])
    return labelled, labelled & (predictions["gender"] == predictions["predicted_gender"]).to_numpy()


def _resampling(num_speakers, num_resamples, seed):
    reliable = num_speakers >= MIN_SPEAKERS
    return {"num_speakers": num_speakers, "num_resamples": num_resamples, "seed": seed, "reliable": reliable}


def _interval(values):
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.percentile(values, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return {"low": float(low), "high": float(high)}


def _most_frequent(labels):
    counts = labels.value_counts()
    return min(counts.index[counts == counts.max()])


def _filled(column):
    """Which entries hold a label: empty strings and missing values do not."""
    return (column.notna() & (column != "")).to_numpy(dtype=bool)


def _some(ids, shown=3):
    return ", ".join(map(str, ids[:shown])) + (", ..." if len(ids) > shown else "")


def main():
    parser = argparse.ArgumentParser(description="Difference of two predictions tables on the same utterances.")
    parser.add_argument("a", help="A predictions.csv.")
    parser.add_argument("b", help="Another, of the same utterances.")
    arguments = parser.parse_args()
    difference = paired_difference(read_predictions(arguments.a), read_predictions(arguments.b))
    for name in ("wa", "ua"):
        values = [f"{difference[name][key]:+.3f}" for key in ("difference", "low", "high")]
        print(f"{name.upper()} {values[0]} (95 % interval over speakers {values[1]} to {values[2]})")


if __name__ == "__main__":
    main()
