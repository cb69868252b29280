"""A checkpoint that listens to recordings one by one, with what is known about it: what app.py shows."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from transformers import Pipeline

from dataset_scripts.demo import DISCLAIMER
from modeling_camulenet.configuration_camulenet import FUSIONS_WITH_WEIGHTS
from modeling_camulenet.pipeline_camulenet import segments_of

from .calibration import fit_temperature, reliability, with_temperature
from .predict import load_classifier
from .speech import MIN_SPEECH_S, overlap_s, speech_spans
from .statistics import read_predictions

WINDOW_S, HOP_S = 3.0, 1.0  # of emotion over time
SHORT_S = 5.0  # a recording up to this is one utterance, a longer one is heard in windows
MAX_ATTENTION_S = 30.0  # a longer recording is too much for one picture of the co-attention
HYSTERESIS = 0.1  # the pipeline's default
# Music passes for speech now and then, for moments: this much of a recording is spoken, or a second of it.
SPOKEN_SHARE, SPOKEN_S = 0.1, 1.0
FAINT = 10 ** (-60 / 20)  # -60 dBFS: below this peak a recording holds next to nothing
BINS = 5  # of confidence; fewer than a reliability diagram's, for more clips in each
MIN_CLIPS = 20  # of which a share of right answers is told


@dataclass
class Hearing:
    """
    What a checkpoint makes of a recording.

    Args:
        waveform: (samples,), float32, as the model heard it.
        sampling_rate: in Hz.
        emotion: `{"label", "score"}` by falling score, calibrated where the checkpoint's `temperature` is known; of a
            recording over `SHORT_S` the mean over its windows with speech. Empty where no speech was found.
        gender: likewise, never calibrated; empty without a gender head, too.
        attention: (heads, frames) from the recording's start to its end, where the model has such weights.
        segments: `{"start_s", "end_s", "label", "score"}` of the stretches of one emotion, of a longer recording.
        speech_s: seconds of speech found.
        problem: why no emotion is named, in a sentence.
    """

    waveform: np.ndarray
    sampling_rate: int
    emotion: list[dict] = field(default_factory=list)
    gender: list[dict] = field(default_factory=list)
    attention: np.ndarray | None = None
    segments: list[dict] = field(default_factory=list)
    speech_s: float = 0.0
    problem: str | None = None

    @property
    def duration_s(self) -> float:
        return len(self.waveform) / self.sampling_rate


@dataclass
class Listener:
    """
    A checkpoint and the record of its run on test speakers, whom its models had not met unless the results say so.

    Args:
        name: folder or Hub id.
        classify: its pipeline.
        results: results.json of its run, if that came with it.
        predictions: predictions.csv of its run, if that came with it.
    """

    name: str
    classify: Pipeline
    results: dict | None = None
    predictions: pd.DataFrame | None = None

    @functools.cached_property
    def temperature(self) -> float | None:
        """What divides the emotion's logits: fitted on the run's test speakers, of whom a new recording is none."""
        if self.predictions is None or not len(self.predictions) or not self._same_emotions:
            return None
        return fit_temperature(self.predictions)

    @functools.cached_property
    def calibrated(self) -> pd.DataFrame | None:
        """The run's predictions at that temperature."""
        return None if self.temperature is None else with_temperature(self.predictions, self.temperature)

    @property
    def _same_emotions(self) -> bool:
        """Whether the predictions are about this model's emotions; a model may have been trained further."""
        return all(f"p_{name}" in self.predictions for name in self.emotions)

    @property
    def emotions(self) -> list[str]:
        return list(self.classify.model.config.id2label.values())

    @property
    def corpora(self) -> list[str]:
        """Corpora of the speakers that the checkpoint says it was trained on."""
        return sorted({speaker.split("/")[0] for speaker in self.classify.model.config.training_speakers})

    @property
    def is_demonstration(self) -> bool:
        return self.corpora == ["demo"]

    def about(self) -> list[str]:
        """What the model was trained on and how good it is, in sentences."""
        speakers, run = self.classify.model.config.training_speakers, (self.results or {}).get("run", {})
        if not speakers:
            return ["Nothing says what this model was trained on: its answers may mean nothing."]
        lines = [f"Trained on {len(speakers)} speakers of {', '.join(self.corpora)}."]
        if self.is_demonstration:
            lines.insert(0, f"A demonstration model: its answers about real voices mean nothing. {DISCLAIMER}")
        elif run.get("disclaimer"):
            lines.append(run["disclaimer"])
        pooled = (self.results or {}).get("pooled")
        if not pooled:
            return [*lines, "No figures on unseen speakers came with it."]
        wa, count = pooled["wa"], len(self.results["per_emotion"])
        interval = f" ({wa['low']:.0%} to {wa['high']:.0%})" if wa["low"] is not None else ""
        whom = "they had not met" if self.results["unseen_speakers"] else "were not all new to them"
        whose = f"of the clips of speakers that {whom}, with {count} emotions"
        lines.append(f"Models trained like it were right about {wa['value']:.0%}{interval} {whose}.")
        return [*lines, *self.results["warnings"]]

    def confidence_line(self, score: float) -> str:
        """What an answer with this score is worth, by the record of the run."""
        if self.temperature is None:
            return "This share is the model's own and not calibrated: no predictions on unseen speakers came with it."
        met = self.results is not None and self.results["unseen_speakers"] is False
        whom = "speakers who were not all new to the models" if met else "unseen speakers"
        bins = reliability(self.calibrated, BINS)
        row = bins.iloc[min(int(score * BINS), BINS - 1)]
        if row["num_utterances"] < MIN_CLIPS:
            return f"Calibrated on {whom}; too few of their answers were as sure as this one to say more."
        return (
            f"Calibrated on {whom}: of {row['num_utterances']:.0f} answers that were {row['low']:.0%} to "
            f"{row['high']:.0%} sure, {row['accuracy']:.0%} were right."
        )

    def scaled(self, rows: list[dict]) -> list[dict]:
        """Scores of emotions at the temperature, in the same order."""
        if self.temperature is None or not rows:
            return rows
        powers = np.array([row["score"] for row in rows]) ** (1 / self.temperature)
        return [{**row, "score": float(score)} for row, score in zip(rows, powers / powers.sum())]

    def listen(self, recording: str | dict) -> Hearing:
        """
        Hear a recording.

        Args:
            recording: path, or `{"array", "sampling_rate"}`.
        Raises:
            ValueError: it cannot be decoded, is empty, silent or over 300 s (`CAMuLeNetPipeline`).
        """
        waveform = self.classify.preprocess(recording)["input_values"][0].numpy()
        hearing = Hearing(waveform, self.classify.feature_extractor.sampling_rate)
        spans = speech_spans(waveform, hearing.sampling_rate)
        hearing.speech_s = overlap_s(spans, 0, hearing.duration_s)
        if not spans or hearing.speech_s < min(SPOKEN_SHARE * hearing.duration_s, SPOKEN_S):
            hearing.problem = self._nothing_said(hearing)
            return hearing
        config = self.classify.model.config
        heads = {"return_gender": True} if config.id2gender else {}
        raw = {"array": waveform, "sampling_rate": hearing.sampling_rate}
        if hearing.duration_s <= MAX_ATTENTION_S:
            seen = {"return_attention": True} if config.fusion in FUSIONS_WITH_WEIGHTS else {}
            whole = self.classify(raw, top_k=None, **heads, **seen)
            whole = whole if isinstance(whole, dict) else {"emotion": whole}
            hearing.attention = self._over_all(whole.get("attention"), hearing.duration_s)
        if hearing.duration_s <= SHORT_S:
            hearing.emotion, hearing.gender = self.scaled(whole["emotion"]), whole.get("gender", [])
            return hearing
        windows = self.classify(raw, timeline=True, window_s=WINDOW_S, hop_s=HOP_S, top_k=None, **heads)["windows"]
        for window in windows:
            heard = overlap_s(spans, window["start_s"], window["end_s"]) >= MIN_SPEECH_S
            window["emotion"] = self.scaled(window["emotion"]) if heard else []
        hearing.segments = segments_of(windows, HYSTERESIS)
        for head in ("emotion", *(["gender"] if heads else [])):
            setattr(hearing, head, _mean([window[head] for window in windows if window["emotion"]]))
        return hearing

    def _over_all(self, attention: np.ndarray | None, duration_s: float) -> np.ndarray | None:
        """Attention (heads, frames) to the recording's end: 0 on what a model with `max_duration_s` does not read."""
        read_s = self.classify.model.base_model.feature_extractor.max_duration_s
        if attention is None or read_s is None or duration_s <= read_s:
            return attention
        frames = attention.shape[1]
        return np.pad(attention, ((0, 0), (0, round(frames * duration_s / read_s) - frames)))

    @staticmethod
    def _nothing_said(hearing: Hearing) -> str:
        peak = np.abs(hearing.waveform).max()
        if peak < FAINT:
            why = f"It is all but silent: its peak is {20 * np.log10(peak):.0f} dBFS."
        elif hearing.speech_s:
            why = f"No more than {hearing.speech_s:.1f} s sound like it: music or noise, perhaps?"
        else:
            why = "Music or noise, perhaps?"
        return f"No speech was found, so no emotion is named. {why}"


def _mean(windows: list[list[dict]]) -> list[dict]:
    """Mean score of each label over windows, by falling score."""
    scores = pd.DataFrame([{row["label"]: row["score"] for row in rows} for rows in windows]).mean()
    ranked = scores.sort_values(ascending=False, kind="stable")
    return [{"label": label, "score": score} for label, score in ranked.items()]


def load_listener(name: str, revision: str | None = None) -> Listener:
    """
    A checkpoint with the record of its run: results.json and predictions.csv beside it, as on the Hub, or in the
    folder above, as of a run's `final` and `fold_NN`.

    Raises:
        OSError, ValueError: there is no such checkpoint, or it is none of CAMuLeNet.
    """
    classify = load_classifier(name, revision)
    find = _local_file(Path(name)) if Path(name).is_dir() else _hub_file(name, revision)
    results, predictions = find("results.json"), find("predictions.csv")
    return Listener(
        name,
        classify,
        json.loads(Path(results).read_text(encoding="utf-8")) if results else None,
        read_predictions(predictions) if results and predictions else None,
    )


def _local_file(folder: Path) -> Callable[[str], Path | None]:
    home = next((place for place in (folder, folder.resolve().parent) if (place / "results.json").is_file()), None)
    return lambda name: home / name if home and (home / name).is_file() else None


def _hub_file(repo_id: str, revision: str | None) -> Callable[[str], str | None]:
    def find(name: str) -> str | None:
        try:
            return hf_hub_download(repo_id, name, revision=revision)
        except EntryNotFoundError:
            return None

    return find
