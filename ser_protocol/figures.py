"""Figures of predictions and metrics, in colours that everyone can tell apart."""

import io
import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .files import write_atomically
from .statistics import emotion_confusion, pooled_scores, speaker_scores
from .tables import SCORE_NAMES

# Okabe and Ito's colours (2008): told apart with every common form of colour blindness.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
DPI = 100


def write_plots(predictions, fold_metrics, directory):
    """Write confusion_matrix.png, speakers.png and, if any fold has a history, learning_curves.png.

    Returns:
        `list[pathlib.Path]`: the files written.
    """
    figures = {
        "confusion_matrix.png": confusion_figure(predictions),
        "speakers.png": speakers_figure(speaker_scores(predictions), pooled_scores(predictions)),
    }
    histories = {metrics["fold"]: metrics for metrics in fold_metrics if metrics.get("history")}
    if histories:
        figures["learning_curves.png"] = curves_figure(histories)
    paths = []
    for name, figure in figures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI)
        paths.append(Path(directory) / name)
        write_atomically(paths[-1], buffer.getvalue())
    return paths


def confusion_figure(predictions):
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


def speakers_figure(speakers, pooled):
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


def curves_figure(histories, columns=4):
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
