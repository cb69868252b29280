"""The parts of app.py's page as HTML. All text that comes from outside is escaped."""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd
import soundfile
import soxr

from dataset_scripts.schema import EMOTIONS, in_order

from .exploring import Run
from .figures import LEFT, RIGHT, recording_figure, svg
from .listening import SHORT_S, WINDOW_S, Hearing, Listener
from .statistics import emotion_confusion, speaker_scores

# Paul Tol's "muted" scheme (2021), made for colour blindness; a label stands beside every colour all the same.
MUTED = ("#BBBBBB", "#88CCEE", "#DDCC77", "#332288", "#CC6677", "#AA4499", "#117733", "#44AA99", "#999933", "#882255")
PLAYED_RATE = 16000  # Hz
MAX_LISTED = 500  # rows that the table of clips shows


def colour_of(emotion: str) -> str:
    """The emotion's colour, the same on all of the page; one that is no canonical emotion gets one by its name."""
    place = EMOTIONS.index(emotion) if emotion in EMOTIONS else sum(emotion.encode())
    return MUTED[place % len(MUTED)]


def text_on(colour: str) -> str:
    """Black or white, whichever is read more easily on a colour (WCAG's relative luminance)."""
    channels = np.array([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "#000000" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "#ffffff"


def player(waveform: np.ndarray, sampling_rate: int, autoplay: bool = False) -> str:
    """An audio element that holds its sound, MP3 of a constant rate: it needs no file and every browser plays it."""
    if sampling_rate != PLAYED_RATE:
        waveform = soxr.resample(waveform, sampling_rate, PLAYED_RATE)
    sound = io.BytesIO()
    soundfile.write(sound, np.clip(waveform, -1, 1), PLAYED_RATE, format="MP3", bitrate_mode="CONSTANT")
    data = base64.b64encode(sound.getvalue()).decode()
    start = " autoplay" if autoplay else ""
    return f'<audio controls{start} aria-label="the recording" src="data:audio/mpeg;base64,{data}"></audio>'


def problem(message: str) -> str:
    """What went wrong."""
    return f'<p class="problem" role="alert">{escape(message)}</p>'


def notes(lines: Sequence[str]) -> str:
    """Sentences in small print."""
    return f'<p class="notes">{escape(" ".join(lines))}</p>'


def bars(rows: Sequence[dict], title: str, coloured: bool = True) -> str:
    """Scores as bars, one below the other."""
    lines = []
    for row in rows:
        colour = colour_of(row["label"]) if coloured else "currentColor"
        lines.append(
            f'<tr><th scope="row">{escape(row["label"])}</th><td><span class="bar" '
            f'style="width:{100 * row["score"]:.1f}%;background:{colour}"></span></td><td>{row["score"]:.0%}</td></tr>'
        )
    return f'<table class="bars"><caption>{escape(title)}</caption><tbody>{"".join(lines)}</tbody></table>'


def band(hearing: Hearing) -> str:
    """Emotion over time: a button for each segment, as wide as it is long, that plays it."""
    parts = []
    for row in hearing.segments:
        left, width = (100 * row[key] / hearing.duration_s for key in ("start_s", "end_s"))
        colour, label = colour_of(row["label"]), escape(row["label"])
        words = f"{label}, {row['start_s']:.1f} to {row['end_s']:.1f} s, {row['score']:.0%}"
        parts.append(
            f'<button type="button" data-start="{row["start_s"]:.3f}" data-end="{row["end_s"]:.3f}" title="{words}" '
            f'aria-label="Play {words}" style="left:{left:.3f}%;width:{width - left:.3f}%;background:{colour};'
            f'color:{text_on(colour)}">{label}</button>'
        )
    margins = f"margin-left:{100 * LEFT:g}%;margin-right:{100 * (1 - RIGHT):g}%"
    return (
        f'<div class="band" role="group" aria-label="Emotion over time; each part plays when it is clicked" '
        f'style="{margins}">{"".join(parts)}</div>'
    )


def hearing_html(listener: Listener, hearing: Hearing) -> str:
    """All that is shown of a recording that a checkpoint has heard."""
    parts = [f'<p class="model">Model: <code>{escape(listener.name)}</code></p>']
    if listener.is_demonstration:
        parts.append('<p class="demonstration" role="note">Demonstration model, trained on synthetic speech.</p>')
    if hearing.problem:
        parts.append(f'<p class="verdict" role="status">{escape(hearing.problem)}</p>')
    else:
        best = hearing.emotion[0]
        gender = f", {escape(hearing.gender[0]['label'])} {hearing.gender[0]['score']:.0%}" if hearing.gender else ""
        over = "" if hearing.duration_s <= SHORT_S else f", mean over windows of {WINDOW_S:g} s"
        verdict = f"<strong>{escape(best['label'])}</strong> {best['score']:.0%}{gender}"
        parts += [
            f'<p class="verdict" role="status">{verdict}</p>',
            notes([listener.confidence_line(best["score"])]),
        ]
    parts.append(player(hearing.waveform, hearing.sampling_rate))
    said = f"Waveform and spectrogram of {hearing.duration_s:.1f} seconds"
    if hearing.attention is not None:
        said += ", with the co-attention over the waveform"
    figure = svg(recording_figure(hearing.waveform, hearing.sampling_rate, hearing.attention), said)
    playhead = f'<div class="playhead" data-left="{LEFT:g}" data-right="{RIGHT:g}" hidden></div>'
    over_time = band(hearing) if hearing.segments else ""
    recording = f'<div class="recording">{figure}{playhead}</div>'
    parts.append(f'<div class="scroll"><div class="timeline">{over_time}{recording}</div></div>')
    if hearing.attention is not None:
        parts.append(notes(["Orange: how much the model listens to each moment; dotted: all moments alike."]))
    elif not hearing.problem:
        parts.append(notes(["No co-attention is drawn: the recording is too long for it, or the model has none."]))
    if not hearing.problem:
        parts.append(bars(hearing.emotion, f"Emotion{over}"))
        if hearing.gender:
            parts.append(bars(hearing.gender, f"Gender, as the model has it{over}", coloured=False))
    parts.append(notes(listener.about()))
    return f'<div class="hearing">{"".join(parts)}</div>'


def matrix_html(table: pd.DataFrame) -> str:
    """A confusion matrix whose cells are buttons; data-truth and data-predicted say which clips they hold."""
    if table.empty:
        return notes(["No clips."])
    labels, counts = emotion_confusion(table)
    head = "".join(f'<th scope="col">{escape(label)}</th>' for label in labels)
    lines = []
    for truth, row in zip(labels, counts):
        cells = []
        for predicted, count in zip(labels, row):
            share = count / max(row.sum(), 1)
            words = f"{count} clips of {escape(truth)} heard as {escape(predicted)}, {share:.0%}"
            fill = f"color-mix(in srgb, var(--cell) {100 * share:.0f}%, transparent)"
            cells.append(
                f'<td style="background:{fill}"><button type="button" data-truth="{escape(truth)}" '
                f'data-predicted="{escape(predicted)}" aria-label="{words}" title="{words}">{count}</button></td>'
            )
        lines.append(f'<tr><th scope="row">{escape(truth)}</th>{"".join(cells)}</tr>')
    return (
        '<p class="title" id="matrix-title">True emotion (rows) by predicted emotion (columns)</p><div class="scroll">'
        f'<table class="matrix" aria-labelledby="matrix-title"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>{notes(['Click a cell to list its clips.'])}"
    )


def speakers_html(table: pd.DataFrame) -> str:
    """WA of each speaker as bars, best first; each name is a button (data-speaker)."""
    if table.empty:
        return notes(["No clips."])
    lines = []
    for speaker, row in speaker_scores(table).sort_values("wa", ascending=False, kind="stable").iterrows():
        name = escape(speaker)
        lines.append(
            f'<tr><th scope="row"><button type="button" data-speaker="{name}" title="Show the clips of {name}">{name}'
            f'</button></th><td><span class="bar" style="width:{100 * row["wa"]:.1f}%;background:var(--cell)"></span>'
            f"</td><td>{row['wa']:.0%}</td><td>{row['num_utterances']:.0f} clips</td></tr>"
        )
    return f'<table class="bars"><caption>WA of each speaker</caption><tbody>{"".join(lines)}</tbody></table>'


def map_html(points: pd.DataFrame, fold: int) -> str:
    """A t-SNE as SVG: a dot for each clip (data-clip) with the beginning of its true emotion, hollow where wrong."""
    size, edge = 640, 24
    places = points[["x", "y"]].to_numpy()
    spread = np.maximum(np.ptp(places, axis=0), 1e-9)
    places = edge + (size - 2 * edge) * (places - places.min(axis=0)) / spread
    dots = []
    for (_, row), (x, y) in zip(points.iterrows(), places):
        colour, clip = colour_of(row["emotion"]), escape(row["utterance_id"])
        words = f"{clip}: {escape(row['emotion'])}, heard as {escape(row['predicted_emotion'])}"
        fill = f'fill="{colour}"' if row["right"] else f'fill="none" stroke="{colour}" stroke-width="2.5"'
        ink = text_on(colour) if row["right"] else "currentColor"
        dots.append(
            f'<g data-clip="{clip}"><title>{words}</title><circle cx="{x:.1f}" cy="{y:.1f}" r="9" {fill}/>'
            f'<text x="{x:.1f}" y="{y + 3:.1f}" fill="{ink}">{escape(row["emotion"][:2])}</text></g>'
        )
    legend = "".join(
        f'<li><span style="background:{colour_of(name)}"></span>{escape(name)}</li>'
        for name in in_order(set(points["emotion"]), EMOTIONS)
    )
    words = f"t-SNE of the final embedding of {len(points)} test clips of fold {fold}"
    return (
        f'<figure class="map"><svg viewBox="0 0 {size} {size}" role="img" aria-label="{words}">{"".join(dots)}</svg>'
        f'<figcaption>{words}; filled: right, hollow: wrong. A click plays a clip.<ul class="legend">{legend}</ul>'
        "</figcaption></figure>"
    )


def clip_html(run: Run, utterance_id: str, waveform: np.ndarray, sampling_rate: int) -> str:
    """A clip of a run, which plays at once, with what was heard in it."""
    row = run.table.loc[utterance_id]
    gender = f", {row['gender']} heard as {row['predicted_gender']}" if row["predicted_gender"] else ""
    words = f"{utterance_id}: {row['emotion']} heard as {row['predicted_emotion']}{gender}; fold {row['fold']}"
    scores = [
        {"label": name, "score": row[f"p_{name}"]} for name in run.emotions if f"p_{name}" in row.index
    ]  # as predicted, not calibrated
    shown = bars(sorted(scores, key=lambda item: -item["score"]), "Emotion, as predicted") if scores else ""
    return f'<div class="clip"><p>{escape(words)}</p>{player(waveform, sampling_rate, autoplay=True)}{shown}</div>'


def clips_table(table: pd.DataFrame) -> pd.DataFrame:
    """The clips as the page lists them, in words, the first `MAX_LISTED`."""
    shown = table.head(MAX_LISTED)
    answers = shown["right"].map({True: "right", False: "wrong"})
    confidence = shown["confidence"].map(lambda value: "" if np.isnan(value) else f"{value:.0%}")
    return pd.DataFrame(
        {
            "clip": shown["utterance_id"],
            "speaker": shown["speaker_id"],
            "gender": shown["gender"],
            "emotion": shown["emotion"],
            "heard as": shown["predicted_emotion"],
            "answer": answers,
            "confidence": confidence,
        }
    )
