"""Scores of a model's predictions, and how far they can be trusted.

A predictions table has one row per clip: `utterance_id, speaker_id, fold, emotion, gender, predicted_emotion,
predicted_gender`, and one `p_<label>` column for each label. `gender` is empty where a corpus does not say it, and
`predicted_gender` is empty throughout for a model without a gender head. Where `tables` are asked for, that is one
such table, or a list of them: the same clips predicted by the same model trained from several seeds. Scores are then
means over the seeds.

Clips of one speaker resemble each other, so the unit that is resampled is the speaker (a cluster bootstrap: Davison &
Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8), the same draws for every seed. The interval
says how the pooled figure would move with other speakers, the models being fixed; it leaves out the spread between
training seeds, which `seed_sd` gives.

    python -m ser_protocol.statistics A/predictions.csv B/predictions.csv

prints how far A is ahead of B on the same utterances.
"""

import argparse
import itertools
import math
import sys

import numpy as np
import pandas as pd
from scipy import stats

from dataset_scripts.schema import EMOTIONS, in_order

from .calibration import emotion_probabilities
from .metrics.ser_metrics import SCORES, confusion_matrix, scores_from_confusion, ser_scores

# Under this many speakers the percentiles of a bootstrap over speakers are marked unreliable.
MIN_SPEAKERS = 8
CONFIDENCE = 0.95
# Up to this many speakers a permutation test tries all 2^n ways of swapping them.
MAX_EXACT_SPEAKERS = 12
TESTED = ("wa", "ua")  # scores with a permutation test


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


def corpus_of(predictions):
    """The corpus of each clip, from its speaker's id: a Series."""
    return predictions["speaker_id"].str.split("/").str[0].rename("corpus")


def pooled_scores(tables):
    """Scores over all rows together; of several seeds their mean.

    Returns:
        `dict`: `wa`, `ua`, `wf1`, `macro_f1` of the emotion and `gender_wa`, the accuracy of the gender over the clips
        that have a gender label, or `None` if none has or a model predicts no gender.
    """
    return _over_seeds(aligned_tables(tables)[0], np.mean)


def seed_sd(tables):
    """Standard deviation of each pooled score over the seeds (`ddof=1`); all `None` with one seed."""
    (tables,) = aligned_tables(tables)
    if len(tables) == 1:
        return dict.fromkeys((*SCORES, "gender_wa"))
    return _over_seeds(tables, lambda values: np.std(values, ddof=1))


def bootstrap_over_speakers(tables, num_resamples=2000, seed=0):
    """95 % percentile intervals of the pooled scores, by resampling speakers with replacement.

    A class that no resampled speaker has drops out of that resample's UA and macro F1, as everywhere else.

    Returns:
        `dict`: `intervals`, a `{"low", "high"}` for each score (`None` where there is no score, or only one speaker:
        nothing can be resampled); `num_speakers`, `num_resamples`, `seed`; `reliable`, False under 8 speakers.
    """
    (tables,) = aligned_tables(tables)
    (confusions,) = _speaker_confusions(tables)
    num_speakers = confusions.shape[1]
    draws = _speaker_draws(num_speakers, num_resamples, seed)
    samples = _resampled_scores(confusions, draws)
    samples["gender_wa"] = np.mean([_resampled_gender_wa(table, draws) for table in tables], axis=0)
    return {
        "intervals": {name: _interval(values) if num_speakers > 1 else None for name, values in samples.items()},
        **_resampling(num_speakers, num_resamples, seed),
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


def group_scores(tables, column):
    """Pooled scores of each group of clips: of each `"speaker_id"`, each `"gender"`, or any other column.

    Returns:
        `pandas.DataFrame`: indexed by the groups, with `num_utterances` and the scores; clips whose group is empty are
        left out.
    """
    (tables,) = aligned_tables(tables)
    groups = tables[0][column]
    rows = {}
    for group in sorted(groups[_filled(groups)].unique()):
        parts = [table[groups == group] for table in tables]
        rows[group] = {"num_utterances": len(parts[0]), **_over_seeds(parts, np.mean)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(column)


def speaker_scores(tables):
    """Scores of each speaker: a DataFrame indexed by `speaker_id`, with `num_utterances` and the scores."""
    return group_scores(tables, "speaker_id")


def emotion_confusion(tables):
    """Labels in canonical order, others after them, and the counts, shape (emotions, emotions), rows true.

    The counts are added up over the seeds.
    """
    truth, predicted = (
        np.concatenate([table[column].to_numpy(dtype=str) for table in aligned_tables(tables)[0]])
        for column in ("emotion", "predicted_emotion")
    )
    labels, counts = confusion_matrix(predicted, truth)
    names = in_order(labels.tolist(), EMOTIONS)
    order = [labels.tolist().index(name) for name in names]
    return names, counts[np.ix_(order, order)]


def emotion_scores(tables):
    """Scores of each emotion of the truth, in canonical order.

    Returns:
        `pandas.DataFrame`: indexed by `emotion`, with `num_utterances` (of one seed), `recall`, `precision` (NaN where
        the emotion is never predicted) and `f1`; with several seeds over their clips together.
    """
    labels, counts = emotion_confusion(tables)
    true, predicted, hits = counts.sum(axis=1), counts.sum(axis=0), np.diagonal(counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = {
            "num_utterances": true // len(aligned_tables(tables)[0]),
            "recall": hits / true,
            "precision": hits / predicted,
            "f1": 2 * hits / (true + predicted),
        }
    return pd.DataFrame(columns, index=pd.Index(labels, name="emotion"))[true > 0]


def seed_ensemble(tables):
    """The models of several seeds as one: their probabilities averaged, the likeliest emotion and gender answered.

    It takes as many models as there are seeds, so its scores stand beside those of single models, not among them.

    Args:
        tables: one of each seed, with the same `p_<label>` columns.

    Returns:
        `pandas.DataFrame`: a predictions table, sorted by utterance. `predicted_gender` stays empty without a gender
        head.

    Raises:
        `ValueError`: a table without probabilities, or with those of other labels.
    """
    (tables,) = aligned_tables(tables)
    labels = [[name for name in table.columns if name.startswith("p_")] for table in tables]
    if not labels[0] or any(set(names) != set(labels[0]) for names in labels):
        raise ValueError("Only tables with the probabilities (p_<label>) of the same labels can be averaged.")
    means = sum(table[labels[0]] for table in tables) / len(tables)
    emotions = [f"p_{name}" for name in emotion_probabilities(tables[0])[0]]
    answers = {"predicted_emotion": means[emotions].idxmax(axis=1).str[2:]}
    if genders := [name for name in labels[0] if name not in emotions]:
        answers["predicted_gender"] = means[genders].idxmax(axis=1).str[2:]
    return tables[0].assign(**means, **answers)


# ---------------------------------------------------------------------------------------------------------------------
# Two models on the same clips


def paired_difference(a, b, num_resamples=2000, seed=0):
    """Differences `a - b` of the scores of two models on the same utterances, with 95 % intervals.

    Both are scored on the same resampled speakers, so what the speakers have in common cancels out.

    Args:
        a, b: tables of each model; they need not have the same number of seeds.

    Returns:
        `dict`: for each of `SCORES` a `{"difference", "low", "high"}` (`low`, `high` are `None` with one speaker);
        `num_speakers`, `num_resamples`, `seed`, `reliable` as in `bootstrap_over_speakers`.

    Raises:
        `ValueError`: the tables differ in their utterances, or in the emotion or speaker of one.
    """
    differences, samples, num_speakers = _paired_samples(a, b, num_resamples, seed)
    none = {"low": None, "high": None}
    return {
        name: {"difference": differences[name], **(_interval(samples[name]) if num_speakers > 1 else none)}
        for name in SCORES
    } | _resampling(num_speakers, num_resamples, seed)


def mean_gain(comparisons, num_resamples=2000, seed=0):
    """Mean over corpora of the differences `a - b`, every corpus weighing the same, with 95 % intervals.

    Speakers are resampled within each corpus: the intervals are about other speakers of these corpora, not about other
    corpora.

    Args:
        comparisons (`dict`): corpus -> (tables a, tables b).

    Returns:
        `dict`: for each of `SCORES` a `{"difference", "low", "high"}` (`low`, `high` are `None` where a corpus has one
        speaker); `num_corpora`, `num_resamples`, `seed`; `reliable`, False if any corpus has under 8 speakers.
    """
    if not comparisons:
        raise ValueError("There is no corpus to average over.")
    parts = [_paired_samples(a, b, num_resamples, [seed, n]) for n, (a, b) in enumerate(comparisons.values())]
    speakers = min(num_speakers for _, _, num_speakers in parts)
    result = {}
    for name in SCORES:
        samples = np.mean([samples[name] for _, samples, _ in parts], axis=0)
        interval = _interval(samples) if speakers > 1 else {"low": None, "high": None}
        result[name] = {"difference": float(np.mean([part[name] for part, _, _ in parts])), **interval}
    return result | {
        "num_corpora": len(parts),
        "num_resamples": num_resamples,
        "seed": seed,
        "reliable": speakers >= MIN_SPEAKERS,
    }


def permutation_test(a, b, num_flips=10000, seed=0):
    """Two-sided p values of the differences in WA and UA, by swapping the two models' predictions speaker by speaker.

    If the models were as good as each other, either could have given either's predictions of a speaker. The truth is
    the same whoever is swapped, so both scores are sums over speakers and a swap turns the sign of that speaker's
    share. All `2 ** speakers` swaps are tried up to 12 speakers; with more, `num_flips` random ones, and the observed
    one counts among them (Phipson & Smyth, 2010), so no p value is 0.

    Args:
        a, b: tables of each model; all seeds of a speaker are swapped together.

    Returns:
        `dict`: `wa`, `ua`, the p values; `smallest`, the least p value that this test can give; `exact`, `num_flips`
        and `seed` (`None` if exact), `num_speakers`.
    """
    gains = _speaker_gains(*aligned_tables(a, b))
    num_speakers = len(gains["wa"])
    exact = num_speakers <= MAX_EXACT_SPEAKERS
    if exact:
        signs = np.array(list(itertools.product((1, -1), repeat=num_speakers)))
    else:
        signs = np.random.default_rng(seed).choice((1, -1), size=(num_flips, num_speakers))
    added = 0 if exact else 1
    result = {}
    for name in TESTED:
        # Sums of the same terms in other orders differ in their last digits; they count as equal.
        as_large = np.abs(signs @ gains[name]) >= abs(gains[name].sum()) - 1e-12
        result[name] = float((as_large.sum() + added) / (len(signs) + added))
    return result | {
        "smallest": 2 / len(signs) if exact else 1 / (num_flips + 1),
        "exact": exact,
        "num_flips": len(signs),
        "seed": None if exact else seed,
        "num_speakers": num_speakers,
    }


def mcnemar_test(a, b):
    """McNemar's exact two-sided test of the clips that one model has right and the other wrong. Secondary.

    It takes clips for independent, which those of one speaker are not: its p value is too small where models differ
    from speaker to speaker. `permutation_test` is the one to go by.

    Args:
        a, b (`pandas.DataFrame`): one table each: the test knows no seeds.

    Returns:
        `dict`: `only_a`, `only_b`, how many clips only that model has right, and `p`.
    """
    (a,), (b,) = aligned_tables(a, b)
    right_a, right_b = (table["predicted_emotion"] == table["emotion"] for table in (a, b))
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    return {"only_a": only_a, "only_b": only_b, "p": float(p)}


def holm(p_values):
    """P values of a family of comparisons, adjusted so that the chance of any false alarm stays (Holm, 1979).

    Args:
        p_values: shape (comparisons,).

    Returns:
        `numpy.ndarray`: shape (comparisons,), in the order given.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values)
    scaled = p_values[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted


def speakers_needed(a, b, difference, power=0.8, significance=0.05):
    """How many speakers it takes to see a difference between two models that vary as these do from speaker to speaker.

    The spread is taken from the two models at hand: the standard deviation over speakers of the difference (where
    speakers have unequal numbers of clips, of each speaker's influence on the pooled difference). The rest is a paired
    t test, see `t_test_size`.

    Args:
        a, b: tables of each model.
        difference (`float`): the difference to be seen, in the score's unit: 0.05 for five points.
        power (`float`): chance of seeing it.
        significance (`float`): of a two-sided test.

    Returns:
        `dict`: for `wa` and `ua` a `{"sd", "num_needed", "power"}`: the spread, the speakers needed, and the power
        that the speakers at hand give; `num_speakers`, the speakers at hand. `None` for a score with one speaker.
    """
    influences = _speaker_influences(*aligned_tables(a, b))
    num_speakers = len(influences["wa"])
    result = dict.fromkeys(TESTED)
    for name in TESTED if num_speakers > 1 else ():
        sd = float(np.std(influences[name], ddof=1))
        effect = abs(difference) / sd if sd else math.inf
        result[name] = {
            "sd": sd,
            "num_needed": t_test_size(effect, power, significance),
            "power": t_test_power(effect, num_speakers, significance),
        }
    return result | {"num_speakers": num_speakers}


def t_test_power(effect, size, significance=0.05):
    """Power of a two-sided paired t test, from the noncentral t distribution (Cohen, 1988, section 2.5).

    Args:
        effect (`float`): the difference, in standard deviations of the pairs' differences.
        size (`int`): number of pairs, at least 2.
    """
    # Beyond 20 standard deviations nothing changes, but the noncentral t runs out of digits.
    noncentrality, freedom = min(effect, 20) * math.sqrt(size), size - 1
    critical = stats.t.isf(significance / 2, freedom)
    beyond = stats.nct.sf(critical, freedom, noncentrality) + stats.nct.cdf(-critical, freedom, noncentrality)
    return float(min(beyond, 1.0))


def t_test_size(effect, power=0.8, significance=0.05):
    """The least number of pairs with which a two-sided paired t test reaches `power`.

    The normal approximation is a lower bound; from there it is counted up.

    Args:
        effect (`float`): as in `t_test_power`, above 0.
    """
    if not effect > 0:
        raise ValueError(f"The difference to be seen must be above 0, and is {effect} standard deviations.")
    normal = stats.norm.isf(significance / 2) + stats.norm.ppf(power)
    size = max(2, math.floor((normal / effect) ** 2))
    while t_test_power(effect, size, significance) < power:
        size += 1
    return size


# ---------------------------------------------------------------------------------------------------------------------
# Counting


def aligned_tables(*runs):
    """Each run as a list of tables, sorted by utterance.

    Args:
        runs: tables, one of a model or a list of them.

    Raises:
        `ValueError`: there is none, one is empty or has an utterance twice, or they differ in their utterances, or in
            the emotion or speaker of one.
    """
    runs = [[run] if isinstance(run, pd.DataFrame) else list(run) for run in runs]
    if not all(runs):
        raise ValueError("There is no table of predictions.")
    first, *others = (table for run in runs for table in run)
    if not len(first):
        raise ValueError("A table of predictions is empty.")
    check_predictions(first, first["utterance_id"].unique())
    for table in others:
        check_predictions(first, table["utterance_id"])
        check_predictions(table, first["utterance_id"])
    runs = [[table.sort_values("utterance_id", ignore_index=True) for table in run] for run in runs]
    first, *others = (table for run in runs for table in run)
    for table in others:
        for column in ("emotion", "speaker_id"):
            different = first["utterance_id"][first[column] != table[column]].tolist()
            if different:
                raise ValueError(
                    f"The two tables differ in {column} of {len(different)} utterances ({_some(different)})."
                )
    return runs


def _over_seeds(tables, statistic):
    """`statistic` of each pooled score of the tables; `None` where one has no such score."""
    scores = [_scores(table) for table in tables]
    columns = {name: [row[name] for row in scores] for name in scores[0]}
    return {name: None if None in values else float(statistic(values)) for name, values in columns.items()}


def _scores(table):
    scores = ser_scores(table["predicted_emotion"], table["emotion"])
    labelled, right = _gender_hits(table)
    return scores | {"gender_wa": float(right.sum() / labelled.sum()) if labelled.any() else None}


def _speaker_confusions(*runs):
    """Confusion matrices of each speaker: an array for each run, shape (seeds, speakers, classes, classes)."""
    tables = [table for run in runs for table in run]
    labels = np.unique(np.concatenate([table[name] for table in tables for name in ("emotion", "predicted_emotion")]))
    speakers, codes = np.unique(tables[0]["speaker_id"].astype(str), return_inverse=True)
    shape = (len(speakers), len(labels), len(labels))
    return [np.stack([_counts(table, codes, labels, shape) for table in run]) for run in runs]


def _counts(table, codes, labels, shape):
    truth, predicted = (np.searchsorted(labels, table[name]) for name in ("emotion", "predicted_emotion"))
    return np.bincount(np.ravel_multi_index((codes, truth, predicted), shape), minlength=math.prod(shape)).reshape(
        shape
    )


def _speaker_draws(num_speakers, num_resamples, seed):
    """How often each speaker is drawn in each resample: shape (resamples, speakers), each row sums to `speakers`."""
    probabilities = np.full(num_speakers, 1 / num_speakers)
    return np.random.default_rng(seed).multinomial(num_speakers, probabilities, size=num_resamples).astype(np.float64)


def _resampled_scores(confusions, draws):
    """The scores of all resamples, means over the seeds: arrays of shape (resamples,).

    A confusion matrix is a sum over speakers, so resampling speakers is one product with the numbers of draws.
    """
    num_seeds, num_speakers, num_classes, _ = confusions.shape
    resampled = draws @ confusions.reshape(num_seeds, num_speakers, -1)  # (seeds, resamples, classes²)
    scores = scores_from_confusion(resampled.reshape(num_seeds, len(draws), num_classes, num_classes))
    return {name: values.mean(axis=0) for name, values in scores.items()}


def _paired_samples(a, b, num_resamples, seed):
    """Differences of the pooled scores, those of all resamples (arrays of shape (resamples,)), number of speakers."""
    a, b = aligned_tables(a, b)
    confusions = _speaker_confusions(a, b)
    num_speakers = confusions[0].shape[1]
    draws = _speaker_draws(num_speakers, num_resamples, seed)
    sample_a, sample_b = (_resampled_scores(each, draws) for each in confusions)
    pooled_a, pooled_b = pooled_scores(a), pooled_scores(b)
    differences = {name: pooled_a[name] - pooled_b[name] for name in SCORES}
    return differences, {name: sample_a[name] - sample_b[name] for name in SCORES}, num_speakers


def _speaker_hits(a, b):
    """Clips that `a` has right beyond `b` (means over seeds), and all clips: shape (speakers, classes) each."""
    confusions = _speaker_confusions(a, b)
    right_a, right_b = (np.diagonal(each, axis1=-2, axis2=-1).mean(axis=0) for each in confusions)
    true = confusions[0][0].sum(axis=-1)
    present = true.any(axis=0)
    return (right_a - right_b)[:, present], true[:, present]


def _speaker_gains(a, b):
    """Each speaker's share in the differences of WA and UA: arrays of shape (speakers,) that sum to them."""
    gained, true = _speaker_hits(a, b)
    return {"wa": gained.sum(axis=1) / true.sum(), "ua": (gained / true.sum(axis=0)).mean(axis=1)}


def _speaker_influences(a, b):
    """How each speaker sways the differences of WA and UA: arrays of shape (speakers,) that sum to 0.

    With as many clips of each emotion from every speaker, it is the speaker's own difference less the pooled one; in
    general the empirical influence, whose standard error the bootstrap comes to (Davison & Hinkley, section 2.7).
    """
    gained, true = _speaker_hits(a, b)
    everyone = true.sum(axis=0)
    wa, recalls = gained.sum() / true.sum(), gained.sum(axis=0) / everyone
    return {
        "wa": len(true) * (gained.sum(axis=1) - true.sum(axis=1) * wa) / true.sum(),
        "ua": len(true) * ((gained - true * recalls) / everyone).mean(axis=1),
    }


def _resampled_gender_wa(table, draws):
    """Gender accuracy of all resamples, shape (resamples,); NaN where no drawn speaker has a gender label."""
    codes = np.unique(table["speaker_id"].astype(str), return_inverse=True)[1]
    labelled, right = (np.bincount(codes, flags, draws.shape[1]) for flags in _gender_hits(table))
    with np.errstate(invalid="ignore"):
        return (draws @ right) / (draws @ labelled)


def _gender_hits(table):
    """Two boolean arrays, shape (clips,): has a gender label to score, and is right. All False if single-task."""
    if "predicted_gender" not in table or not _filled(table["predicted_gender"]).any():
        return np.zeros((2, len(table)), dtype=bool)
    labelled = _filled(table["gender"])
    return labelled, labelled & (table["gender"] == table["predicted_gender"]).to_numpy()


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
    """Console entry."""
    parser = argparse.ArgumentParser(description="Difference of two predictions tables on the same utterances.")
    parser.add_argument("a", help="A predictions.csv.")
    parser.add_argument("b", help="Another, of the same utterances.")
    arguments = parser.parse_args()
    try:
        a, b = read_predictions(arguments.a), read_predictions(arguments.b)
        difference, permutation, mcnemar = paired_difference(a, b), permutation_test(a, b), mcnemar_test(a, b)
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"statistics: {arguments.a}, {arguments.b}: {error}")
    for name in TESTED:
        values = difference[name]
        interval = "no interval over one speaker"
        if values["low"] is not None:
            interval = f"95 % interval over speakers {values['low']:+.3f} to {values['high']:+.3f}"
        print(
            f"{name.upper()} {values['difference']:+.3f} ({interval}), "
            f"permutation over speakers p = {permutation[name]:.4f}"
        )
    how = "all" if permutation["exact"] else "random"
    print(f"Permutation: {how} {permutation['num_flips']} swaps of {permutation['num_speakers']} speakers, two-sided.")
    print(
        f"Secondary, as it takes clips of one speaker for independent: McNemar, {mcnemar['only_a']} clips right in A "
        f"alone, {mcnemar['only_b']} in B alone, exact p = {mcnemar['p']:.4f}"
    )


if __name__ == "__main__":
    main()
