"""Figures of predictions and metrics, in colours that everyone can tell apart."""

import io
import math
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from scipy.signal import ShortTimeFFT

from dataset_scripts.schema import EMOTIONS, in_order

from .calibration import calibration_error, reliability
from .files import write_atomically
from .statistics import emotion_confusion, pooled_scores, speaker_scores
from .tables import SCORE_NAMES

# Okabe and Ito's colours (2008): told apart with every common form of colour blindness.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
PALETTE = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "osD^vP*Xhd"  # with the colours no two of 40 classes are alike
DPI = 100
# Stands for the colour of the text around a figure in a page, light or dark.
INK = "#010203"
IN_A_PAGE = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "svg.fonttype": "none",  # text stays text, for screen readers and for the page's own font
    "svg.hashsalt": "camulenet",
    "font.family": "sans-serif",
}
# Where the axes of `recording_figure` lie, as shares of its width: the page lays its time line along them.
LEFT, RIGHT = 0.09, 0.91
COLUMNS = 1000  # that a recording is drawn with, whatever its length
SPECTRUM_S = 0.025  # window of the spectrogram
FLOOR_DB = -70  # below the loudest point


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
    paths = [Path(directory) / name for name in figures]
    for path, figure in zip(paths, figures.values()):
        write_atomically(path, png(figure))
    return paths


def png(figure, dpi=DPI):
    """A figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def svg(figure, description):
    """A figure as SVG to stand in a page, in the page's text colour and as wide as there is room.

    Args:
        description (`str`): what it shows, for those who do not see it; plain text without markup.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(IN_A_PAGE):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue().replace(INK, "currentColor")
    text = text[text.index("<svg") :]
    width, height = (72 * inches for inches in figure.get_size_inches())
    return text.replace(
        f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="{width:g}pt" height="{height:g}pt"',
        f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="100%" role="img" aria-label="{description}"',
    )


def recording_figure(waveform, sampling_rate, weights=None):
    """A recording's waveform, with the co-attention over it, above its spectrogram.

    Args:
        waveform (`np.ndarray`): (samples,).
        sampling_rate (`int`): in Hz.
        weights (`np.ndarray`, *optional*): (heads, frames) over the recording; their mean over heads is drawn, and at
            a dotted line all frames weigh the same.
    """
    duration_s = len(waveform) / sampling_rate
    with matplotlib.rc_context(IN_A_PAGE):
        figure = Figure(figsize=(9, 3.8))
        figure.subplots_adjust(LEFT, 0.13, RIGHT, 0.97, hspace=0.12)
        upper, lower = figure.subplots(2, 1, sharex=True)
        parts = np.array_split(waveform, min(COLUMNS, len(waveform)))
        times = np.linspace(0, duration_s, len(parts))
        low, high = ([float(function(part)) for part in parts] for function in (np.min, np.max))
        upper.fill_between(times, low, high, color="0.55", linewidth=0.5)
        upper.set_ylabel("amplitude", fontsize=10)
        upper.set_xlim(0, duration_s)
        if weights is not None:
            over = upper.twinx()
            mean = weights.mean(axis=0)
            over.stairs(100 * mean, np.linspace(0, duration_s, len(mean) + 1), color=ORANGE, linewidth=1.6)
            over.axhline(100 / len(mean), color=BLUE, linestyle=":", linewidth=1.2)
            over.set_ylim(bottom=0)
            over.set_ylabel("co-attention (%)", fontsize=10)
        window = round(SPECTRUM_S * sampling_rate)
        hop = max(window // 4, len(waveform) // COLUMNS)
        # A recording shorter than a window has one spectrum.
        padded = np.pad(waveform, (0, max(window - len(waveform), 0)))
        transform = ShortTimeFFT(np.hanning(window), hop, sampling_rate)
        power = transform.spectrogram(padded)
        decibels = 10 * np.log10(np.maximum(power / max(power.max(), 1e-20), 10 ** (FLOOR_DB / 10)))
        extent = (0, duration_s, 0, sampling_rate / 2000)
        lower.imshow(decibels, origin="lower", aspect="auto", extent=extent, cmap="magma")
        lower.set_ylabel("frequency (kHz)", fontsize=10)
        lower.set_xlabel("time (s)", fontsize=10)
    return figure


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
    """For each fold, losses and, with validation, its UA below, over epochs; a dotted line marks the epoch kept.

    Args:
        histories (`dict`): fold -> its metrics.json, with a `history`.
    """
    columns = min(columns, len(histories))
    validated = any(row.get("validation_ua") is not None for fold in histories.values() for row in fold["history"])
    panels = 2 if validated else 1  # of each fold
    bands = math.ceil(len(histories) / columns)
    figure = Figure(figsize=(max(5, 3.1 * columns), 2.2 * panels * bands + 0.6), layout="constrained")
    axes = figure.subplots(panels * bands, columns, squeeze=False, sharex=True)
    for place, (fold, metrics) in enumerate(sorted(histories.items())):
        band, column = divmod(place, columns)
        shown = axes[panels * band : panels * (band + 1), column]
        _curve(shown[0], metrics["history"], "train_loss", BLUE, "-", "training loss")
        _curve(shown[0], metrics["history"], "validation_loss", ORANGE, "--", "validation loss")
        shown[0].set_title(f"fold {fold}", fontsize=12)
        if validated:
            _curve(shown[1], metrics["history"], "validation_ua", GREEN, "-", "validation UA")
            shown[1].set_ylim(0, 1)
        shown[-1].set_xlabel("epoch", fontsize=11)
        shown[-1].tick_params(labelbottom=True)
        for panel, label in zip(shown, ("loss (nats)", "UA (0 to 1)")):
            if metrics.get("best_epoch") is not None:
                panel.axvline(metrics["best_epoch"], color="black", linestyle=":", linewidth=1, label="epoch kept")
            if column == 0:
                panel.set_ylabel(label, fontsize=11)
    for column in range((len(histories) - 1) % columns + 1, columns):
        for panel in axes[-panels:, column]:
            panel.set_visible(False)
    handles = {
        label: handle for panel in axes[:panels, 0] for handle, label in zip(*panel.get_legend_handles_labels())
    }
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), fontsize=10)
    return figure


def _curve(axes, history, field, colour, style, label):
    points = [(row["epoch"], row[field]) for row in history if row.get(field) is not None]
    if points:
        # A marker keeps the curve of a one-epoch run visible.
        axes.plot(*zip(*points), color=colour, linestyle=style, marker=".", label=label)


def rows_figure(scores, reference, name="WA"):
    """A score of several models with its interval, one below the other; a line through the reference's.

    Args:
        scores (`dict`): model -> `{"value", "low", "high"}`, from top to bottom.
        reference (`str`): one of the models.
    """
    figure = Figure(figsize=(7, 1.2 + 0.32 * len(scores)), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(scores))[::-1]
    for place, (model, score) in zip(places, scores.items()):
        colour = ORANGE if model == reference else BLUE
        if score["low"] is not None:
            axes.plot([score["low"], score["high"]], [place, place], color=colour, linewidth=2.5)
        axes.plot(score["value"], place, marker="s" if model == reference else "o", color=colour, markersize=7)
        axes.annotate(
            f"{score['value']:.3f}",
            (1, place),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
        )
    if reference in scores:
        axes.axvline(scores[reference]["value"], color=ORANGE, linestyle=":", linewidth=1)
    axes.set_yticks(places, scores, fontsize=10)
    axes.set_ylim(-0.6, len(scores) - 0.4)
    axes.set_xlabel(f"{name} (share, 0 to 1), 95 % interval over speakers", fontsize=11)
    axes.grid(axis="x", alpha=0.3)
    return figure


def reliability_figure(predictions, scaled=None):
    """Accuracy over confidence in bins, as is and after temperature scaling, above how many clips each bin has.

    Args:
        predictions, scaled (`pandas.DataFrame`): predictions as they are, and with temperatures if there are any.
    """
    figure = Figure(figsize=(4.6, 5.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="black", linestyle=":", linewidth=1, label="perfectly calibrated")
    for table, colour, marker, label in (
        (predictions, BLUE, "o", "as is"),
        (scaled, ORANGE, "s", "after temperature"),
    ):
        if table is None:
            continue
        bins = reliability(table)
        error = calibration_error(table)
        upper.plot(
            bins["confidence"], bins["accuracy"], color=colour, marker=marker, label=f"{label} (ECE {error:.3f})"
        )
        lower.stairs(bins["num_utterances"], [*bins["low"], 1.0], color=colour, linewidth=1.5)
    upper.set_ylabel("accuracy (share of clips)", fontsize=11)
    upper.set_ylim(0, 1)
    upper.set_xlim(0, 1)
    upper.legend(fontsize=10, loc="upper left")
    lower.set_ylabel("clips", fontsize=11)
    lower.set_xlabel("confidence (probability of the answer)", fontsize=11)
    return figure


def matrix_figure(matrix, name="WA"):
    """A heat map of scores by what a model was trained on (rows) and tested on (columns); missing cells stay empty.

    Args:
        matrix (`pandas.DataFrame`): scores, NaN where there is none.
    """
    figure = Figure(figsize=(2.6 + 1.1 * len(matrix.columns), 1.6 + 0.8 * len(matrix)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(matrix.to_numpy(dtype=float), cmap="cividis", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(matrix.to_numpy(dtype=float)):
        missing = np.isnan(value)
        colour = "black" if missing or value >= 0.5 else "white"
        axes.text(column, row, "missing" if missing else f"{value:.3f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(matrix.columns)), matrix.columns, rotation=30, ha="right", fontsize=10)
    axes.set_yticks(range(len(matrix)), matrix.index, fontsize=10)
    axes.set_xlabel("tested on", fontsize=11)
    axes.set_ylabel("trained on", fontsize=11)
    figure.colorbar(image, ax=axes, label=f"{name} (share, 0 to 1)", shrink=0.8)
    return figure


def similarity_figure(speakers, correlations):
    """WA of each test speaker, named, over each distance to the training speakers.

    Args:
        speakers (`pandas.DataFrame`): from `similarity.speaker_table`.
        correlations (`dict`): distance in words -> from `similarity.correlation`, in the order `nearest`, `mean`.
    """
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, column, (words, correlation) in zip(panels, ("nearest", "mean"), correlations.items(), strict=True):
        axes.scatter(speakers[column], speakers["wa"], color=BLUE, s=28, zorder=2)
        axes.margins(0.1)
        names = [str(name).split("/", 1)[-1] for name in speakers.index]
        _label_points(axes, speakers[[column, "wa"]].to_numpy(), names)
        axes.set_title(correlation_text(correlation), fontsize=11)
        axes.set_xlabel(f"{words} (cosine)", fontsize=11)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("WA of the test speaker (0 to 1)", fontsize=11)
    return figure


def _label_points(axes, points, names):
    """Names beside points (points, 2), each at the corner that hides the fewest other points and names."""
    size = 7.0, 9.0  # points: of a character, and of a line
    shares = (points - points.min(axis=0)) / np.maximum(np.ptp(points, axis=0), 1e-9)
    places = shares * (300, 220)  # roughly, in points
    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in places]
    for (x, y), point, name in zip(places, points, names):
        width = size[0] * len(name)
        corners = [(5, 2), (-5 - width, 2), (5, -2 - size[1]), (-5 - width, -2 - size[1])]
        boxes = [(x + dx, y + dy, x + dx + width, y + dy + size[1]) for dx, dy in corners]
        hidden = [sum(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in taken) for a in boxes]
        best = int(np.argmin(hidden))
        taken.append(boxes[best])
        axes.annotate(
            name, point, corners[best], textcoords="offset points", fontsize=9, annotation_clip=False, zorder=3
        )


def correlation_text(correlation):
    """Spearman's of `similarity.correlation` in words."""
    spearman = correlation["spearman"]
    if spearman["value"] is None:
        return f"all {correlation['num_speakers']} speakers alike: no correlation"
    interval = f"{spearman['low']:+.2f} to {spearman['high']:+.2f}"
    return f"Spearman {spearman['value']:+.2f} (95 %: {interval}), {correlation['num_speakers']} speakers"


def embeddings_figure(points, emotions):
    """Clips in two dimensions, a panel for each space, coloured and marked by emotion.

    Args:
        points (`dict`): name of the space -> array (clips, 2).
        emotions (`list[str]`): of each clip.
    """
    figure = Figure(figsize=(5.2 * len(points), 5.2), layout="constrained")
    panels = figure.subplots(1, len(points), squeeze=False)[0]
    for axes, (name, places) in zip(panels, points.items()):
        for number, emotion in enumerate(in_order(set(emotions), EMOTIONS)):
            chosen = places[[label == emotion for label in emotions]]
            style = {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)]}
            axes.scatter(chosen[:, 0], chosen[:, 1], s=24, label=emotion, edgecolors="0.2", linewidths=0.4, **style)
        axes.set_title(f"t-SNE of the {name}", fontsize=12)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel("dimension 1 (no unit)", fontsize=10)
        axes.set_ylabel("dimension 2 (no unit)", fontsize=10)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=10)
    return figure


def attention_figure(clips):
    """Waveforms with the co-attention over them, the mean over its heads; at a dotted line all frames weigh the same.

    Args:
        clips (`dict`): title -> (waveform (samples,), sampling rate in Hz, weights (heads, frames)).
    """
    columns = 2 if len(clips) > 1 else 1
    bands = math.ceil(len(clips) / columns)
    figure = Figure(figsize=(5.2 * columns, 1.9 * bands + 0.4), layout="constrained")
    panels = figure.subplots(bands, columns, squeeze=False)
    for axes, (title, (waveform, sampling_rate, weights)) in zip(panels.flat, clips.items()):
        duration_s = len(waveform) / sampling_rate
        axes.plot(np.arange(len(waveform)) / sampling_rate, waveform, color="0.7", linewidth=0.5)
        axes.set_title(title, fontsize=10)
        axes.set_xlim(0, duration_s)
        axes.set_xlabel("time (s)", fontsize=9)
        axes.set_ylabel("amplitude", fontsize=9)
        over = axes.twinx()
        mean = weights.mean(axis=0)
        edges = np.linspace(0, duration_s, len(mean) + 1)
        over.stairs(100 * mean, edges, color=ORANGE, linewidth=1.3, fill=False)
        over.axhline(100 / len(mean), color=BLUE, linestyle=":", linewidth=1)
        over.set_ylim(bottom=0)
        over.set_ylabel("weight (%)", fontsize=9, color=ORANGE)
    for axes in panels.flat[len(clips) :]:
        axes.set_visible(False)
    return figure
