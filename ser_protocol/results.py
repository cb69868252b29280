"""What a finished run says: results.json, results.md and a table for the terminal.

Everything is rendered from one `results` dict (`build_results`), so no figure is computed twice. A run whose folds are
not all there has no pooled figures: every output says so instead of printing numbers.
"""

from .calibration import run_calibration
from .files import plain
from .statistics import (
    MIN_SPEAKERS,
    bootstrap_over_speakers,
    check_predictions,
    corpus_of,
    emotion_confusion,
    fold_scores,
    majority_class_scores,
    pooled_scores,
)
from .tables import SCORE_NAMES, aligned, joined, markdown_table, scaled_text, score_text, value_text

FORMAT_VERSION = 1
GROUPS = {"corpus": "Corpora", "language": "Languages", "gender": "Genders of the speakers"}

FOLD_FIELDS = (
    "train_speakers",
    "validation_speakers",
    "test_speakers",
    "num_train",
    "num_validation",
    "num_test",
    "best_epoch",
    "num_epochs",
    "train",
    "validation",
    "temperature",
    "train_s",
    "peak_memory_bytes",
)
# Fields of `run` that have a place of their own in the outputs; the rest is listed in a table as it is.
PLACED_FIELDS = (
    "command",
    "versions",
    "disclaimer",
    "sources",
    "licenses",
    "languages",
    "warnings",
    "data",
    "audit",
    "base_model",
    "language_of_corpus",
)
MAX_LISTED = 20  # left-out files named in text; results.json has all


def build_results(predictions, fold_metrics, run):
    """Gather the content of results.json.

    Args:
        predictions (`pandas.DataFrame`): the predictions of the folds that are there (columns in statistics.py).
        fold_metrics (`list[dict]`): the content of each fold's metrics.json. Fields read: `fold`, those named in
            `FOLD_FIELDS`, and `test` (compared with the predictions).
        run (`dict`): what ran, kept as it is. Required: `corpus`, `protocol`, `num_folds`. Read where given: `data`
            (what was taken of the corpora; see `data_lines`), `audit` (from `audit.AuditReport.summary`),
            `num_eligible_utterances` (how many `predictions` must hold), `disclaimer` (`str`), `warnings`,
            `languages`, `licenses` (`list[str]`), `sources` (`list[dict]`: `corpus`, `license`, `license_id`,
            `citation` and `homepage` of each corpus that the model has met), `language_of_corpus` (`{corpus:
            language}`), `tested_checkpoint` (what was tested as it is: nothing was trained), `command` (`str`),
            `versions` (`dict`), `base_model` (pre-trained encoder; in the metadata if it is a Hub id), `hub_model_id`,
            `fold_files` (names in `dataset_scripts/splits/`).

    Returns:
        `dict`: `format_version`; `run`; `incomplete`, `None` or a sentence that says why there are no pooled figures;
        `pooled`, `{score: {value, low, high}}`; `interval`, how `low` and `high` came about; `folds`, `{rows, mean,
        sd}`; `majority_class`; `per_corpus`, `per_language` and `per_gender` (of the speaker), `{group: {score:
        {value, low, high}, num_utterances, num_speakers}}`, `None` where there is one corpus, one language, no gender
        known; `per_emotion`, `{emotion: {recall, num_utterances}}`; `confusion_matrix`, `{labels, counts}` with a row
        per true emotion; `calibration`, from `calibration.run_calibration` (`None` for predictions without
        probabilities); `unseen_speakers`, whether no test speaker is in its fold's training or validation part
        (`None` if the folds do not name them); `warnings`.
    """
    results = {
        "format_version": FORMAT_VERSION,
        "run": run,
        "incomplete": _incomplete(predictions, run),
        "pooled": None,
        "interval": None,
        "folds": None,
        "majority_class": None,
        "per_corpus": None,
        "per_language": None,
        "per_gender": None,
        "per_emotion": None,
        "confusion_matrix": None,
        "calibration": None,
        "unseen_speakers": None,
        "warnings": list(run.get("warnings", [])),
    }
    if len(predictions):
        check_predictions(predictions, predictions["utterance_id"].unique())
        results["folds"] = _folds(predictions, fold_metrics)
        results["unseen_speakers"] = _unseen_speakers(results["folds"]["rows"])
        results["warnings"] += _fold_warnings(predictions, fold_metrics, results["unseen_speakers"])
    if not results["incomplete"]:
        predictions = predictions.reset_index(drop=True)
        results |= _pooled(predictions)
        corpora = corpus_of(predictions)
        results["per_corpus"] = _per_group(predictions, corpora, least=2)
        results["per_language"] = _per_group(predictions, corpora.map(run.get("language_of_corpus") or {}), least=2)
        results["per_gender"] = _per_group(predictions, predictions["gender"], least=1)
        temperatures = {metrics["fold"]: metrics.get("temperature") for metrics in fold_metrics}
        results["calibration"] = run_calibration(predictions, temperatures)
        if not results["interval"]["reliable"]:
            count = results["interval"]["num_speakers"]
            results["warnings"].append(
                f"The intervals are unreliable: {count} speakers, and a bootstrap wants {MIN_SPEAKERS} or more."
            )
    return plain(results)


def _incomplete(predictions, run):
    """Why there are no pooled figures, as a sentence, or `None`."""
    done = sorted(int(fold) for fold in predictions["fold"].unique())
    if len(done) < run["num_folds"]:
        names = f" ({', '.join(map(str, done))})" if done else ""
        return f"Only {len(done)} of {run['num_folds']} folds are complete{names}."
    expected = run.get("num_eligible_utterances", len(predictions))
    if len(predictions) != expected:
        return f"Only {len(predictions)} of {expected} eligible utterances are predicted."
    return None


def _pooled(predictions):
    values, bootstrap = pooled_scores(predictions), bootstrap_over_speakers(predictions)
    intervals = bootstrap.pop("intervals")
    none = {"low": None, "high": None}
    labels, counts = emotion_confusion(predictions)
    support = counts.sum(axis=1)
    return {
        "pooled": {name: {"value": value, **(intervals[name] or none)} for name, value in values.items()},
        "interval": {"method": "95 % percentile bootstrap over speakers", **bootstrap},
        "majority_class": majority_class_scores(predictions),
        "per_emotion": {
            label: {"recall": counts[row, row] / support[row], "num_utterances": support[row]}
            for row, label in enumerate(labels)
            if support[row]
        },
        "confusion_matrix": {"labels": labels, "counts": counts},
    }


def _per_group(predictions, groups, least):
    """Scores with intervals of each group of clips, `None` if there are fewer than `least`; an empty one is none."""
    known = groups[groups.notna() & (groups != "")]
    if known.nunique() < least:
        return None
    scores = {}
    for group, rows in predictions.loc[known.index].groupby(known):
        values, bootstrap = pooled_scores(rows), bootstrap_over_speakers(rows)
        none = {"low": None, "high": None}
        scores[group] = {
            **{name: {"value": value, **(bootstrap["intervals"][name] or none)} for name, value in values.items()},
            "num_utterances": len(rows),
            "num_speakers": bootstrap["num_speakers"],
        }
    return scores


def _folds(predictions, fold_metrics):
    folds, metrics = fold_scores(predictions), {metrics["fold"]: metrics for metrics in fold_metrics}
    folds["rows"] = [
        {**row, **{field: metrics.get(row["fold"], {}).get(field) for field in FOLD_FIELDS}} for row in folds["rows"]
    ]
    return folds


def _unseen_speakers(rows):
    if any(row["test_speakers"] is None or row["train_speakers"] is None for row in rows):
        return None
    return all(
        set(row["test_speakers"]).isdisjoint(row["train_speakers"] + (row["validation_speakers"] or []))
        for row in rows
    )


def _fold_warnings(predictions, fold_metrics, unseen_speakers):
    warnings = []
    if unseen_speakers is False:
        warnings.append("Test speakers are also in training or validation: these are not unseen-speaker figures.")
    emotions = predictions["emotion"].nunique()
    lacking = [int(fold) for fold, rows in predictions.groupby("fold") if rows["emotion"].nunique() < emotions]
    if lacking:
        warnings.append(
            f"Not every emotion is spoken in the test part of fold {joined(lacking)}: UA and macro F1 of these folds "
            "are means over fewer emotions."
        )
    for metrics in fold_metrics:
        rows = predictions[predictions["fold"] == metrics["fold"]]
        stated = metrics.get("test", {}).get("wa")
        if stated is not None and len(rows) and abs(stated - pooled_scores(rows)["wa"]) > 1e-4:
            warnings.append(
                f"Fold {metrics['fold']}: metrics.json says WA {stated:.4f}, its predictions say otherwise."
            )
    return warnings


def results_markdown(results):
    """Render results.md."""
    run = results["run"]
    parts = [f"# {run['corpus']}: results", *_banner(results)]
    if results["pooled"]:
        parts += ["## Pooled over all folds", scores_table(results), reading(results)]
    for kind, title in GROUPS.items():
        if results[f"per_{kind}"]:
            parts += [f"## {title}", groups_table(results, kind)]
    if results["folds"]:
        parts += ["## Folds", _folds_table(results)]
    if results["pooled"]:
        parts += ["## Emotions", emotions_table(results), _confusion_table(results)]
    if results.get("calibration"):
        parts += ["## Calibration", calibration_line(results["calibration"])]
    if run.get("data"):
        parts += ["## Data", "\n".join(f"- {line}" for line in data_lines(run["data"]))]
    if run.get("audit"):
        parts.append(f"Audit of the folds: {run['audit']['verdict']}")
    parts += ["## Run", run_table(run)]
    if run.get("command"):
        parts.append(f"```bash\n{run['command']}\n```")
    if run.get("versions"):
        parts.append("Versions: " + joined(f"{name} {version}" for name, version in run["versions"].items()) + ".")
    return "\n\n".join(parts) + "\n"


def console_table(results):
    """A short table for the terminal."""
    run = results["run"]
    lines = [f"{run['corpus']}, protocol {run['protocol']}, {run['num_folds']} folds"]
    if run.get("disclaimer"):
        lines.append(run["disclaimer"])
    if results["incomplete"]:
        lines.append(f"{results['incomplete']} No pooled figures yet.")
    if results["pooled"]:
        lines += aligned(_score_rows(results))
    elif results["folds"]:
        names = _scores_given(results["folds"]["mean"])
        header = ["fold", *(SCORE_NAMES[name] for name in names)]
        lines += aligned(
            [header, *([row["fold"], *(score_text(row[n]) for n in names)] for row in results["folds"]["rows"])]
        )
    return "\n".join(lines + [f"warning: {warning}" for warning in results["warnings"]])


def data_lines(data):
    """What was taken of the corpora, in sentences: classes with their counts around the label map, files left out.

    Args:
        data (`dict`): `label_map` (`None`, or its `name`, `rule` and `emotions`), `utterances_before` and `utterances`
            (`{corpus: {emotion: count}}`), `left_out_files` (`list[str]`).
    """
    label_map = data["label_map"]
    lines = [f"Label map {label_map['name']}: {label_map['rule']}"] if label_map else []
    for corpus, counts in data["utterances"].items():
        line = f"{corpus}: {sum(counts.values())} utterances ({_counts(counts)})"
        before = data["utterances_before"][corpus]
        if before != counts:
            line += f", before the map {sum(before.values())} ({_counts(before)})"
        lines.append(line + ".")
    left_out = data["left_out_files"]
    if left_out:
        more = f"; and {len(left_out) - MAX_LISTED} more" if len(left_out) > MAX_LISTED else ""
        names = "; ".join(left_out[:MAX_LISTED]) + more
        lines.append(f"Files left out because they cannot be used: {len(left_out)} ({names}).")
    return lines


def _counts(counts):
    return joined(f"{name} {count}" for name, count in counts.items() if count)


def scores_table(results):
    """Markdown table of the pooled scores: value, interval, mean ± sd over folds, majority class."""
    return markdown_table(_score_rows(results))


def _score_rows(results):
    rows = [["score", "pooled", "95 % interval", "folds: mean ± sd", "majority"]]
    for name in _scores_given({name: score["value"] for name, score in results["pooled"].items()}):
        score, folds = results["pooled"][name], results["folds"]
        interval = "–" if score["low"] is None else f"{score_text(score['low'])} to {score_text(score['high'])}"
        spread = "" if folds["sd"][name] is None else f" ± {score_text(folds['sd'][name])}"
        mean, majority = score_text(folds["mean"][name]) + spread, score_text(results["majority_class"][name])
        rows.append([SCORE_NAMES[name], score_text(score["value"]), interval, mean, majority])
    return rows


def reading(results):
    """How to read the table of pooled scores, in a paragraph."""
    interval, majority = results["interval"], results["majority_class"]
    total = sum(row["num_utterances"] for row in results["folds"]["rows"])
    gender = f', and for the gender "{majority["gender"]}"' if majority["gender_wa"] is not None else ""
    reliable = "" if interval["reliable"] else f" (unreliable: fewer than {MIN_SPEAKERS} speakers)"
    return (
        f"{total} utterances of {interval['num_speakers']} speakers, each predicted once. "
        "WA is accuracy; UA is the mean recall over the emotions in the truth. "
        f"Intervals: {interval['method']}, {interval['num_resamples']} resamples, seed {interval['seed']}{reliable}; "
        "they leave out the spread between training seeds. "
        f'The majority class always answers "{majority["emotion"]}"{gender}.'
    )


def calibration_line(calibration):
    """What `calibration.run_calibration` found, as a paragraph."""
    line = f"Expected calibration error (15 bins of confidence): as is {score_text(calibration['as_is']['ece'])}"
    if calibration["after_temperature"] is None:
        return f"{line}; no temperature was fitted, which takes validation speakers in every fold."
    values = calibration["temperatures"].values()
    return (
        f"{line}, after temperature scaling {score_text(calibration['after_temperature']['ece'])} "
        f"(one temperature a fold, fitted on its validation part: {min(values):.2f} to {max(values):.2f})."
    )


def _banner(results):
    """The lines that must be read before any number."""
    lines = [f"> {results['run']['disclaimer']}"] if results["run"].get("disclaimer") else []
    if results["incomplete"]:
        lines.append(f"> {results['incomplete']} There are no pooled figures.")
    return lines + [f"> Warning: {warning}" for warning in results["warnings"]]


def _folds_table(results):
    names = _scores_given(results["folds"]["mean"])
    header = ["fold", "test speakers", "validation speakers", "train / validation / test utterances", "best epoch"]
    rows = [header + [SCORE_NAMES[name] for name in names] + ["minutes", "peak memory (MB)"]]
    for row in results["folds"]["rows"]:
        sizes = " / ".join(value_text(row[field]) for field in ("num_train", "num_validation", "num_test"))
        epochs = value_text(row["best_epoch"]) + (f" of {row['num_epochs']}" if row["num_epochs"] else "")
        cost = [scaled_text(row["train_s"], 60, 1), scaled_text(row["peak_memory_bytes"], 1e6, 0)]
        people = [speakers_text(row["test_speakers"]), speakers_text(row["validation_speakers"])]
        rows.append([row["fold"], *people, sizes, epochs, *(score_text(row[name]) for name in names), *cost])
    return markdown_table(rows)


def groups_table(results, kind):
    """Markdown table of the scores on each `"corpus"`, `"language"` or `"gender"`, intervals over its speakers."""
    groups = results[f"per_{kind}"]
    names = [name for name in SCORE_NAMES if any(scores[name]["value"] is not None for scores in groups.values())]
    rows = [[kind, "utterances", "speakers", *(f"{SCORE_NAMES[name]} (95 % interval)" for name in names)]]
    for group, scores in groups.items():
        cells = [
            score_text(scores[name]["value"])
            + ("" if scores[name]["low"] is None else f" ({scores[name]['low']:.3f} to {scores[name]['high']:.3f})")
            for name in names
        ]
        rows.append([group, scores["num_utterances"], scores["num_speakers"], *cells])
    return markdown_table(rows)


def emotions_table(results):
    """Markdown table of the recall of each emotion."""
    rows = [["emotion", "utterances", "recall"]]
    rows += [[name, row["num_utterances"], score_text(row["recall"])] for name, row in results["per_emotion"].items()]
    return markdown_table(rows)


def _confusion_table(results):
    labels, counts = results["confusion_matrix"]["labels"], results["confusion_matrix"]["counts"]
    return markdown_table([["true \\ predicted", *labels], *([label, *row] for label, row in zip(labels, counts))])


def run_table(run):
    """Markdown table of what ran."""
    fields = {name: value for name, value in run.items() if name not in PLACED_FIELDS and value is not None}
    return markdown_table([["what", "value"], *([name, value_text(value)] for name, value in fields.items())])


def _scores_given(scores):
    return [name for name in SCORE_NAMES if scores.get(name) is not None]


def speakers_text(ids, shown=12):
    """Speakers by name, without the corpus in front; a long list is cut, results.json has all of it."""
    if not ids:
        return "–"
    names = [str(speaker).split("/", 1)[-1] for speaker in ids]
    return " ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
