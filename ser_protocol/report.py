"""What a finished run leaves for its readers: results.json, results.md, plots, a terminal table and the model card.

Everything is rendered from one `results` dict (`build_results`), so no figure is computed twice. A run whose folds are
not all there has no pooled figures: every output says so instead of printing numbers.
"""

import hashlib
import io
import json
import math
import os
import re
import uuid
from pathlib import Path

import numpy as np
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from matplotlib.figure import Figure

from .calibration import run_calibration
from .metrics.ser_metrics import SCORES
from .statistics import (
    MIN_SPEAKERS,
    bootstrap_over_speakers,
    check_predictions,
    emotion_confusion,
    fold_scores,
    majority_class_scores,
    pooled_scores,
    speaker_scores,
)

FORMAT_VERSION = 1
CARD_TEMPLATE = Path(__file__).with_name("templates") / "model_card.md"

SCORE_NAMES = {"wa": "WA", "ua": "UA", "wf1": "WF1", "macro_f1": "macro F1", "gender_wa": "gender WA"}
FOLD_FIELDS = (
    "train_speakers",
    "validation_speakers",
    "test_speakers",
    "num_train",
    "num_validation",
    "num_test",
    "best_epoch",
    "num_epochs",
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
    "licenses",
    "languages",
    "warnings",
    "data",
    "audit",
    "base_model",
)
MAX_LISTED = 20  # left-out files named in text; results.json has all

# Licences that a corpus may have and the Hub has an id for.
HUB_LICENSES = {"cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "odbl"}

PROTOCOLS = {
    "loso": "Each fold tests one speaker (on IEMOCAP that speaker's dialogue partner is left out of the fold).",
    "speakers": "Each fold tests one group of speakers, balanced in gender where the corpus allows it.",
    "sessions": "Each fold tests the speakers of one session.",
    "emobox": "The test speakers of each fold are those that EmoBox published.",
    "official": "The parts are the corpus's own.",
    "random": "Utterances are dealt to folds at random, whoever speaks: this shows what a leak is worth.",
}

# Okabe and Ito's colours (2008): told apart with every common form of colour blindness.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
DPI = 100


# ---------------------------------------------------------------------------------------------------------------------
# Files


def write_atomically(path, content):
    """Write `content` (`str`, as UTF-8, or `bytes`) so that readers see the old file or the new one, never a part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path, content):
    """Write `content` as JSON, atomically: indent 2, floats rounded to 6 digits, `null` for NaN and infinity."""
    write_atomically(path, json.dumps(_plain(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def _plain(value):
    """The same content in types that JSON has."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


# ---------------------------------------------------------------------------------------------------------------------
# results.json


def build_results(predictions, fold_metrics, run):
    """Gather the content of results.json.

    Args:
        predictions (`pandas.DataFrame`): the predictions of the folds that are there (columns in statistics.py).
        fold_metrics (`list[dict]`): the content of each fold's metrics.json. Fields read: `fold`, those named in
            `FOLD_FIELDS`, and `test` (compared with the predictions).
        run (`dict`): what ran, kept as it is. Required: `corpus`, `protocol`, `num_folds`. Read where given: `data`
            (what was taken of the corpora; see `data_lines`), `audit` (from `audit.AuditReport.summary`),
            `num_eligible_utterances` (how many `predictions` must hold), `disclaimer` (`str`), `warnings`,
            `languages`, `licenses` (`list[str]`), `command` (`str`), `versions` (`dict`), `base_model` (pre-trained
            encoder; in the metadata if it is a Hub id), `hub_model_id`.

    Returns:
        `dict`: `format_version`; `run`; `incomplete`, `None` or a sentence that says why there are no pooled figures;
        `pooled`, `{score: {value, low, high}}`; `interval`, how `low` and `high` came about; `folds`, `{rows, mean,
        sd}`; `majority_class`; `per_emotion`, `{emotion: {recall, num_utterances}}`; `confusion_matrix`, `{labels,
        counts}` with a row per true emotion; `calibration`, from `calibration.run_calibration` (`None` for predictions
        without probabilities); `unseen_speakers`, whether no test speaker is in its fold's training or
        validation part (`None` if the folds do not name them); `warnings`.
    """
    results = {
        "format_version": FORMAT_VERSION,
        "run": run,
        "incomplete": _incomplete(predictions, run),
        "pooled": None,
        "interval": None,
        "folds": None,
        "majority_class": None,
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
        results |= _pooled(predictions)
        temperatures = {metrics["fold"]: metrics.get("temperature") for metrics in fold_metrics}
        results["calibration"] = run_calibration(predictions, temperatures)
        if not results["interval"]["reliable"]:
            count = results["interval"]["num_speakers"]
            results["warnings"].append(
                f"The intervals are unreliable: {count} speakers, and a bootstrap wants {MIN_SPEAKERS} or more."
            )
    return _plain(results)


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
            f"Not every emotion is spoken in the test part of fold {_join(lacking)}: UA and macro F1 of these folds "
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


# ---------------------------------------------------------------------------------------------------------------------
# Text


def results_markdown(results):
    """Render results.md."""
    run = results["run"]
    parts = [f"# {run['corpus']}: results", *_banner(results)]
    if results["pooled"]:
        parts += ["## Pooled over all folds", scores_table(results), _reading(results)]
    if results["folds"]:
        parts += ["## Folds", _folds_table(results)]
    if results["pooled"]:
        parts += ["## Emotions", _emotions_table(results), _confusion_table(results)]
    if results.get("calibration"):
        parts += ["## Calibration", calibration_line(results["calibration"])]
    if run.get("data"):
        parts += ["## Data", "\n".join(f"- {line}" for line in data_lines(run["data"]))]
    if run.get("audit"):
        parts.append(f"Audit of the folds: {run['audit']['verdict']}")
    parts += ["## Run", _run_table(run)]
    if run.get("command"):
        parts.append(f"```bash\n{run['command']}\n```")
    if run.get("versions"):
        parts.append("Versions: " + _join(f"{name} {version}" for name, version in run["versions"].items()) + ".")
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
        lines += _aligned(_score_rows(results))
    elif results["folds"]:
        names = _scores_given(results["folds"]["mean"])
        header = ["fold", *(SCORE_NAMES[name] for name in names)]
        lines += _aligned(
            [header, *([row["fold"], *(_score(row[n]) for n in names)] for row in results["folds"]["rows"])]
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
    return _join(f"{name} {count}" for name, count in counts.items() if count)


def scores_table(results):
    """Markdown table of the pooled scores: value, interval, mean ± sd over folds, majority class."""
    return _table(_score_rows(results))


def _score_rows(results):
    rows = [["score", "pooled", "95 % interval", "folds: mean ± sd", "majority"]]
    for name in _scores_given({name: score["value"] for name, score in results["pooled"].items()}):
        score, folds = results["pooled"][name], results["folds"]
        interval = "–" if score["low"] is None else f"{_score(score['low'])} to {_score(score['high'])}"
        spread = "" if folds["sd"][name] is None else f" ± {_score(folds['sd'][name])}"
        mean, majority = _score(folds["mean"][name]) + spread, _score(results["majority_class"][name])
        rows.append([SCORE_NAMES[name], _score(score["value"]), interval, mean, majority])
    return rows


def _reading(results):
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
    line = f"Expected calibration error (15 bins of confidence): as is {_score(calibration['as_is']['ece'])}"
    if calibration["after_temperature"] is None:
        return f"{line}; no temperature was fitted, which takes validation speakers in every fold."
    values = calibration["temperatures"].values()
    return (
        f"{line}, after temperature scaling {_score(calibration['after_temperature']['ece'])} "
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
        sizes = " / ".join(_text(row[field]) for field in ("num_train", "num_validation", "num_test"))
        epochs = _text(row["best_epoch"]) + (f" of {row['num_epochs']}" if row["num_epochs"] else "")
        cost = [_scaled(row["train_s"], 60, 1), _scaled(row["peak_memory_bytes"], 1e6, 0)]
        people = [_speakers(row["test_speakers"]), _speakers(row["validation_speakers"])]
        rows.append([row["fold"], *people, sizes, epochs, *(_score(row[name]) for name in names), *cost])
    return _table(rows)


def _emotions_table(results):
    rows = [["emotion", "utterances", "recall"]]
    rows += [[name, row["num_utterances"], _score(row["recall"])] for name, row in results["per_emotion"].items()]
    return _table(rows)


def _confusion_table(results):
    labels, counts = results["confusion_matrix"]["labels"], results["confusion_matrix"]["counts"]
    return _table([["true \\ predicted", *labels], *([label, *row] for label, row in zip(labels, counts))])


def _run_table(run):
    fields = {name: value for name, value in run.items() if name not in PLACED_FIELDS and value is not None}
    return _table([["what", "value"], *([name, _text(value)] for name, value in fields.items())])


def _table(rows):
    """Markdown table; the first row is the header."""
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|" + " --- |" * len(cells[0]), *lines[1:]])


def _aligned(rows):
    """Lines of text with columns that line up."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]


def _scores_given(scores):
    return [name for name in SCORE_NAMES if scores.get(name) is not None]


def _score(value):
    return "–" if value is None else f"{value:.3f}"


def _scaled(value, unit, digits):
    return "–" if value is None else f"{value / unit:.{digits}f}"


def _text(value):
    if isinstance(value, (list, tuple)):
        return _join(value)
    if isinstance(value, dict):
        return _join(f"{name} {item}" for name, item in value.items())
    return "–" if value is None else str(value)


def _speakers(ids, shown=12):
    """Speakers by name, without the corpus in front; a long list is cut, results.json has all of it."""
    if not ids:
        return "–"
    names = [str(speaker).split("/", 1)[-1] for speaker in ids]
    return " ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _join(items):
    return ", ".join(map(str, items))


# ---------------------------------------------------------------------------------------------------------------------
# The model card


def code_files(folder):
    """Name -> SHA-256 (hexadecimal) of each Python file that a checkpoint's folder ships."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(folder).glob("*.py"))}


def model_card(results, checkpoint=None, model_id=None, published="final", code=None):
    """Render a README.md with Hub metadata, for a run's output folder or for one of its checkpoints.

    Args:
        results (`dict`): from `build_results`.
        checkpoint (`str`, *optional*): which folder of the output the card lies in, `"final"` or `"fold_03"`; `None`
            for the output folder itself.
        model_id (`str`, *optional*): what the examples load: a Hub id or a path. Defaults to `run["hub_model_id"]`.
        published (`str`, *optional*): the folder of the output whose model is the one to use; `None` if there is none.
        code (`dict`, *optional*): the checkpoint's Python files, from `code_files`.

    Returns:
        `str`: the card. Its `model-index` holds the pooled WA, UA, WF1 and macro F1, if there are any.
    """
    run = results["run"]
    hosted = model_id or run.get("hub_model_id")
    model_id = hosted or f"path/to/{checkpoint or published or 'fold_00'}"
    data = ModelCardData(
        model_name=model_id.split("/")[-1] if hosted else f"camulenet-{run['corpus'].replace(' + ', '-')}",
        library_name="transformers",
        pipeline_tag="audio-classification",
        tags=["audio", "speech-emotion-recognition", "camulenet", *run["corpus"].split(" + ")],
        language=run.get("languages") or None,
        base_model=_hub_id(run.get("base_model")),
        metrics=list(SCORES) if results["pooled"] else None,
        eval_results=_eval_results(results) or None,
        **_license(run.get("licenses") or []),
    )
    card = ModelCard.from_template(
        data,
        template_path=str(CARD_TEMPLATE),
        run=run,
        results=results,
        model_id=model_id,
        checkpoint=checkpoint,
        published=published,
        code_table=_table([["file", "SHA-256"], *code.items()]) if code else "",
        fold=_fold_of(results, checkpoint),
        data_lines=data_lines(run["data"]) if run.get("data") else [],
        protocol=PROTOCOLS.get(run["protocol"], ""),
        validated=bool(results["folds"]) and all(row["validation_speakers"] for row in results["folds"]["rows"]),
        scores=scores_table(results) if results["pooled"] else "",
        reading=_reading(results) if results["pooled"] else "",
        emotions=_emotions_table(results) if results["pooled"] else "",
        calibration=calibration_line(results["calibration"]) if results.get("calibration") else "",
        run_table=_run_table(run),
        versions=_text(run.get("versions") or {}),
        licenses=_text(run.get("licenses") or []),
        join=_join,
        score=_score,
        speakers=_speakers,
    )
    return str(card).rstrip() + "\n"


def _eval_results(results):
    run, pooled = results["run"], results["pooled"] or {}
    return [
        EvalResult(
            task_type="audio-classification",
            task_name="Speech emotion recognition",
            dataset_type=str(run["corpus"]),
            dataset_name=str(run["corpus"]),
            dataset_config=f"{run['protocol']}, {run['num_folds']} folds",
            dataset_split="test",
            metric_type=name,
            metric_name=f"{SCORE_NAMES[name]}, pooled over folds",
            metric_value=pooled[name]["value"],
        )
        for name in SCORES
        if pooled
    ]


def _license(licenses):
    """Licence fields of the metadata: the corpora's, as the weights come from them; a mixture is "other".

    A corpus writes "CC BY-NC-SA 4.0" where the Hub wants "cc-by-nc-sa-4.0".
    """
    ids = {name.lower().replace(" ", "-") for name in licenses}
    if len(ids) == 1 and ids <= HUB_LICENSES:
        return {"license": ids.pop()}
    return {"license": "other", "license_name": "see-card"} if licenses else {}


def _hub_id(name):
    """`name` if it can be a Hub id, else `None`: the Hub refuses a card whose base model is a local folder."""
    return name if name and re.fullmatch(r"[\w.-]*\w(/[\w.-]*\w)?", name) and not Path(name).exists() else None


def _fold_of(results, checkpoint):
    """The row of the fold that a checkpoint folder named fold_NN belongs to, or `None`."""
    rows = results["folds"]["rows"] if results["folds"] else []
    return next((row for row in rows if checkpoint == f"fold_{row['fold']:02d}"), None)


# ---------------------------------------------------------------------------------------------------------------------
# Plots


def write_plots(predictions, fold_metrics, directory):
    """Write confusion_matrix.png, speakers.png and, if any fold has a history, learning_curves.png.

    Returns:
        `list[pathlib.Path]`: the files written.
    """
    figures = {
        "confusion_matrix.png": _confusion_figure(predictions),
        "speakers.png": _speakers_figure(speaker_scores(predictions), pooled_scores(predictions)),
    }
    histories = {metrics["fold"]: metrics for metrics in fold_metrics if metrics.get("history")}
    if histories:
        figures["learning_curves.png"] = _curves_figure(histories)
    paths = []
    for name, figure in figures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI)
        paths.append(Path(directory) / name)
        write_atomically(paths[-1], buffer.getvalue())
    return paths


def _confusion_figure(predictions):
    """Share of each true emotion by predicted emotion (colour), with the numbers of clips."""
    labels, counts = emotion_confusion(predictions)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.5 + 0.75 * len(labels)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share < 0.5 else "black"
        text = f"{share:.0%}\n{counts[row, column]}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=10)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", fontsize=11)
    axes.set_yticks(range(len(labels)), labels, fontsize=11)
    axes.set_xlabel("predicted emotion", fontsize=12)
    axes.set_ylabel("true emotion", fontsize=12)
    figure.colorbar(image, ax=axes, label="share of the true emotion's clips", shrink=0.8)
    return figure


def _speakers_figure(speakers, pooled):
    """UA and WA of each speaker, best on top, beside the pooled figures."""
    speakers = speakers.sort_values("ua")
    figure = Figure(figsize=(8, 1.6 + 0.36 * len(speakers)), layout="constrained")
    axes = figure.add_subplot()
    for offset, name, colour, style in ((0.2, "ua", BLUE, "--"), (-0.2, "wa", ORANGE, ":")):
        rows = np.arange(len(speakers)) + offset
        axes.barh(rows, speakers[name], height=0.38, color=colour, label=f"{SCORE_NAMES[name]} of the speaker")
        axes.axvline(pooled[name], color="black", linestyle=style, label=f"{SCORE_NAMES[name]} pooled")
    names = [f"{speaker} ({count})" for speaker, count in speakers["num_utterances"].items()]
    axes.set_yticks(range(len(speakers)), names, fontsize=10)
    axes.set_ylim(-0.6, len(speakers) - 0.4)
    axes.set_xlim(0, 1)
    axes.set_xlabel("score (share, 0 to 1)", fontsize=12)
    axes.set_ylabel("speaker (number of clips)", fontsize=12)
    figure.legend(loc="outside upper center", ncols=4, fontsize=10)
    return figure


def _curves_figure(histories, columns=4):
    """For each fold, losses above and validation UA below, over epochs; a dotted line marks the epoch kept."""
    columns = min(columns, len(histories))
    bands = math.ceil(len(histories) / columns)
    figure = Figure(figsize=(max(5, 3.1 * columns), 4.4 * bands + 0.6), layout="constrained")
    axes = figure.subplots(2 * bands, columns, squeeze=False, sharex=True)
    for place, (fold, metrics) in enumerate(sorted(histories.items())):
        band, column = divmod(place, columns)
        loss, recall = axes[2 * band, column], axes[2 * band + 1, column]
        _curve(loss, metrics["history"], "train_loss", BLUE, "-", "training loss")
        _curve(loss, metrics["history"], "validation_loss", ORANGE, "--", "validation loss")
        _curve(recall, metrics["history"], "validation_ua", GREEN, "-", "validation UA")
        loss.set_title(f"fold {fold}", fontsize=12)
        recall.set_ylim(0, 1)
        recall.set_xlabel("epoch", fontsize=11)
        recall.tick_params(labelbottom=True)
        for panel in (loss, recall):
            if metrics.get("best_epoch") is not None:
                panel.axvline(metrics["best_epoch"], color="black", linestyle=":", linewidth=1, label="epoch kept")
        if column == 0:
            loss.set_ylabel("loss (nats)", fontsize=11)
            recall.set_ylabel("UA (0 to 1)", fontsize=11)
    for column in range((len(histories) - 1) % columns + 1, columns):
        axes[-2, column].set_visible(False)
        axes[-1, column].set_visible(False)
    handles = {label: handle for panel in axes[:2, 0] for handle, label in zip(*panel.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), fontsize=10)
    return figure


def _curve(axes, history, field, colour, style, label):
    points = [(row["epoch"], row[field]) for row in history if row.get(field) is not None]
    if points:
        # A marker keeps the curve of a one-epoch run visible.
        axes.plot(*zip(*points), color=colour, linestyle=style, marker=".", label=label)
