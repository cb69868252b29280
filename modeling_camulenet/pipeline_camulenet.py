# Copyright 2026 The CAMuLeNet maintainers. Licensed under the Apache License, Version 2.0.
"""The audio-classification pipeline of CAMuLeNet: recordings in any common form to emotions and genders."""

import io
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

import numpy as np
import torch
from transformers import AudioClassificationPipeline
from transformers.pipelines.audio_utils import ffmpeg_read

from .configuration_camulenet import FUSIONS_WITH_WEIGHTS

# soundfile raises an OSError where its library libsndfile is missing. Arrays need neither.
try:
    import soundfile
except (ImportError, OSError):
    soundfile = None

URL_TIMEOUT_S = 60
# Of a recording that is read whole; features of hours would not fit into memory.
MAX_DURATION_S = 300
FRAMES_AT_A_TIME = 2**20  # decoded: a file's header may promise more than there is
OF_THE_MODEL = ("return_embedding", "return_attention")
PARAMETERS = ("top_k", "function_to_apply", "return_gender", *OF_THE_MODEL)


@dataclass
class Recording:
    """
    A recording that is read part by part.

    Args:
        read: `read(n)` returns the next n samples, fewer at the end; (samples,) or (channels, samples).
        sampling_rate: in Hz.
        name: for messages, where it has one.
    """

    read: Callable[[int], np.ndarray]
    sampling_rate: float
    name: str | None

    @property
    def prefix(self) -> str:
        """What a message about it begins with."""
        return f"{self.name}: " if self.name else ""


def recording_in_memory(samples: np.ndarray, sampling_rate: float, name: str | None) -> Recording:
    """The recording of an array (samples,) or (channels, samples)."""
    position = 0

    def read(num_samples: int) -> np.ndarray:
        nonlocal position
        part = samples[..., position : position + num_samples]
        position += part.shape[-1]
        return part

    return Recording(read, sampling_rate, name)


@contextmanager
def recording_in_file(file: BinaryIO, name: str, sampling_rate: int) -> Iterator[Recording]:
    """
    The recording of an audio file, its channels averaged, float32: by soundfile, or by the ffmpeg program, which
    decodes the whole file at once, where soundfile does not know the format.

    Args:
        file: the audio file, which must stay open.
        name: of the file, for messages.
        sampling_rate: the rate in Hz that ffmpeg resamples to; soundfile keeps the file's.
    Raises:
        ValueError: neither can read it, or a part of it later on.
    """
    sound, reason = None, "soundfile is not installed (`pip install soundfile`)."
    if soundfile is not None:
        # Of a damaged file libsndfile asks Python's file objects for impossible places, which prints a traceback.
        path = getattr(file, "name", None)
        try:
            sound = soundfile.SoundFile(os.fsencode(path) if isinstance(path, str) else file)
        except soundfile.SoundFileError as error:
            reason = f"soundfile: {getattr(error, 'error_string', error)}"
    if sound is not None and sound.frames > 2**62:  # a FLAC that was written to a pipe: soundfile cannot go through it
        sound.close()
        sound, reason = None, "soundfile: the file's header does not say how long it is; write the file anew"
    if sound is not None:
        with sound:
            yield Recording(partial(_read_sound, sound, name), sound.samplerate, name)
        return
    file.seek(0)
    try:
        samples = ffmpeg_read(file.read(), sampling_rate)
    except ValueError as error:
        raise ValueError(f"{name}: the audio cannot be decoded. {reason} As fall-back: {error}.") from error
    yield recording_in_memory(samples, sampling_rate, name)


def _read_sound(sound, name: str, num_samples: int) -> np.ndarray:
    """The next samples (samples,) of a `soundfile.SoundFile`, its channels averaged."""
    parts, wanted = [np.zeros(0, np.float32)], num_samples
    while wanted > 0:
        try:
            part = sound.read(min(wanted, FRAMES_AT_A_TIME), dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise ValueError(f"{name}: the audio is damaged. soundfile: {error}") from error
        if not len(part):
            break
        parts.append(part.mean(axis=1))
        wanted -= len(part)
    return np.concatenate(parts)


@contextmanager
def open_file(name: str) -> Iterator[BinaryIO]:
    """A file, or a copy on disk of what an http(s) URL names, for reading bytes."""
    if not name.startswith(("http://", "https://")):
        with open(name, "rb") as file:
            yield file
        return
    # Some hosts refuse Python's own name.
    request = urllib.request.Request(name, headers={"User-Agent": "transformers"})
    with tempfile.TemporaryFile() as file:
        try:
            with urllib.request.urlopen(request, timeout=URL_TIMEOUT_S) as response:
                shutil.copyfileobj(response, file)
        except OSError as error:
            raise OSError(f"{name}: {error}") from error
        file.seek(0)
        yield file


def segments_of(windows: list[dict], hysteresis: float) -> list[dict]:
    """
    Stretches of one emotion each, of the overlapping windows of a recording.

    A stretch goes on until another emotion's score exceeds its own by more than `hysteresis`, or a silent window ends
    it. It changes half-way between the middles of two windows.

    Args:
        windows: at least one, in order: `start_s`, `end_s`, and `emotion`, `{"label", "score"}` of every emotion, or
            of none where the window is silent.
        hysteresis: in units of the scores.
    Returns:
        `{"start_s", "end_s", "label", "score"}` of each stretch, in order, the score a mean over its windows.
    """
    middles = [(window["start_s"] + window["end_s"]) / 2 for window in windows]
    inner = [(first + second) / 2 for first, second in zip(middles, middles[1:])]
    edges = [windows[0]["start_s"], *inner, windows[-1]["end_s"]]
    segments, label = [], None
    for window, start_s, end_s in zip(windows, edges, edges[1:]):
        scores = {row["label"]: row["score"] for row in window["emotion"]}
        previous, best = label, max(scores, key=scores.get, default=None)
        if label not in scores or scores[best] > scores[label] + hysteresis:
            label = best
        if label is None:
            continue
        if label != previous:
            segments.append({"start_s": start_s, "end_s": end_s, "label": label, "score": []})
        segments[-1]["end_s"] = end_s
        segments[-1]["score"].append(scores[label])
    return [{**segment, "score": sum(segment["score"]) / len(segment["score"])} for segment in segments]


def is_recording(inputs) -> bool:
    """Whether `inputs` is one recording in a form that can be iterated over, and not several recordings."""
    single = (str, bytes, bytearray, np.ndarray, torch.Tensor, Mapping)
    return isinstance(inputs, single) or hasattr(inputs, "read") or hasattr(inputs, "get_all_samples")


class CAMuLeNetPipeline(AudioClassificationPipeline):
    """
    Emotions, and on request genders, of recordings.

    ```python
    >>> from transformers import pipeline

    >>> classifier = pipeline("audio-classification", model="me/camulenet", trust_remote_code=True)
    >>> classifier("clip.flac", top_k=2)
    [{'label': 'anger', 'score': 0.81}, {'label': 'fear', 'score': 0.07}]
    >>> classifier("clip.flac", top_k=1, return_gender=True)
    {'emotion': [{'label': 'anger', 'score': 0.81}],
     'gender': [{'label': 'female', 'score': 0.99}, {'label': 'male', 'score': 0.01}]}
    >>> classifier("meeting.wav", timeline=True)["segments"]
    [{'start_s': 0.0, 'end_s': 7.0, 'label': 'neutral', 'score': 0.64},
     {'start_s': 7.0, 'end_s': 9.8, 'label': 'anger', 'score': 0.71}]
    ```

    Around a model in memory: `CAMuLeNetPipeline(model=model, feature_extractor=feature_extractor)`. The model is put
    into evaluation mode.
    """

    def __init__(self, *args, **kwargs):
        # The base class puts 5 for a `top_k` that is not given, and then returns all labels nevertheless.
        super().__init__(*args, **{"top_k": None, **kwargs})
        # In training mode a prediction would be random, and would move the running statistics of the feature norms.
        self.model.eval()

    def check_model_type(self, supported_models):
        """Nothing: the base class logs an error for every model that is not part of transformers."""

    def __call__(
        self,
        inputs,
        timeline: bool = False,
        window_s: float = 3.0,
        hop_s: float = 1.0,
        hysteresis: float = 0.1,
        **kwargs,
    ):
        """
        Classify one recording or many.

        Args:
            inputs:
                One recording:
                    - `str` or `pathlib.Path`: an audio file, or an http(s) URL of one;
                    - `bytes` or a binary file object: the content of an audio file;
                    - `np.ndarray` or `torch.Tensor` of shape (samples,) or (channels, samples) at the model's
                      sampling rate: floating point in [-1, 1], or integers over their whole range;
                    - `{"raw" or "array": samples, "sampling_rate": Hz}`, at any rate;
                    - `{"bytes": ..., "path": ...}`, a row of a datasets column `Audio(decode=False)`;
                    - an audio decoder of torchcodec, a row of a datasets column `Audio()`.
                Several: a list or a datasets column of these gives a list of results; a generator, another iterable or
                a torch dataset gives an iterator over them, which reads only as far as it is asked.
            top_k (`int`, *optional*):
                Number of emotions, the likeliest first. By default all.
            function_to_apply (`str`, *optional*, defaults to `"softmax"`):
                What makes scores of logits: `"softmax"`, `"sigmoid"` or `"none"`.
            return_gender (`bool`, *optional*, defaults to `False`):
                Whether the gender head's classes are returned, too.
            return_embedding (`bool`, *optional*, defaults to `False`):
                Whether the fused embedding is returned, too.
            return_attention (`bool`, *optional*, defaults to `False`):
                Whether the weights over the encoder's frames are returned, too.
            batch_size (`int`, *optional*, defaults to 1):
                Recordings (with `timeline` windows) that the model sees at once. The scores do not depend on it.
            timeline (`bool`, *optional*, defaults to `False`):
                Emotion over time, in windows, for a recording of any length: a file that soundfile knows is read part
                by part and never held whole. A call's argument, not one of `pipeline()`.
            window_s (`float`, *optional*, defaults to 3.0):
                Length of the windows in seconds, best that of the clips that the model was trained on. Each is read
                as a recording of its own. The last one ends with the recording; a shorter recording is one window.
            hop_s (`float`, *optional*, defaults to 1.0):
                Seconds from one window's start to the next one's; at most `window_s`.
            hysteresis (`float`, *optional*, defaults to 0.1):
                A segment's emotion gives way to another one whose score is higher by more than this. 0: each window's
                likeliest.

        Returns:
            For each recording a list of `{"label": str, "score": float}` by falling score. With any `return_...` a
            dictionary of

            - `"emotion"`: that list;
            - `"gender"`: such a list;
            - `"embedding"`: `np.ndarray` of shape (embedding_size,), float32, [MFCC; spectrogram; attended encoder];
            - `"attention"`: `np.ndarray` of shape (heads, frames), float32, over the encoder's frames, which lie at
              equal distances from the recording's start to its end, or to `max_duration_s` of the feature extractor
              if that is earlier; each head's weights sum to 1, except for those of `fusion="gate"`.

            With `timeline` a dictionary of

            - `"windows"`: for each window in order `{"start_s": float, "end_s": float}` (seconds from the recording's
              start) together with the dictionary above. The `"emotion"` of a window in which every sample is 0 is
              empty, and nothing else is there;
            - `"segments"`: `{"start_s", "end_s", "label", "score"}` of the stretches of one emotion, the score its
              mean over the windows; silent windows belong to none.

        Raises:
            ValueError: audio that cannot be decoded, is empty, holds NaN, is silent (every sample is 0), has more than
                two dimensions, is far beyond full scale or at a rate that no speech has, or, without `timeline`, lasts
                more than 300 s; `return_gender` of a model without a gender head, `return_attention` of one without
                such weights.
        """
        if timeline:
            if not 0 < hop_s <= window_s:
                raise ValueError(f"`hop_s` is {hop_s}; expected more than 0 and at most `window_s`, {window_s}.")
            follow = partial(self._timeline, window_s=window_s, hop_s=hop_s, hysteresis=hysteresis, **kwargs)
            if isinstance(inputs, torch.utils.data.Dataset) and not isinstance(inputs, Iterable):
                inputs = map(inputs.__getitem__, range(len(inputs)))
            if is_recording(inputs) or not isinstance(inputs, Iterable):
                return follow(inputs)
            return [follow(each) for each in inputs] if isinstance(inputs, Sequence) else map(follow, inputs)
        if is_recording(inputs) or not isinstance(inputs, Iterable) or (isinstance(inputs, list) and inputs):
            return super().__call__(inputs, **kwargs)
        # The base class streams generators and torch datasets only; of an empty list it wants the first item.
        results = super().__call__((recording for recording in inputs), **kwargs)
        return list(results) if isinstance(inputs, Sequence) else results

    def _timeline(self, recording, window_s: float, hop_s: float, hysteresis: float, **kwargs) -> dict[str, list]:
        """Windows and segments of one recording."""
        top_k = kwargs.get("top_k", self._postprocess_params.get("top_k"))
        self._sanitize_parameters(top_k=top_k)
        windows, heard = [], []

        def read() -> Iterator[np.ndarray]:
            for start_s, end_s, waveform in self._windows(recording, window_s, hop_s):
                windows.append({"start_s": start_s, "end_s": end_s, "emotion": []})
                if waveform.any():
                    heard.append(windows[-1])
                    yield waveform

        # In this process: a worker would fill lists of its own.
        results = super().__call__(read(), **{**kwargs, "top_k": None, "num_workers": 0})
        for index, result in enumerate(results):
            heard[index] |= result if isinstance(result, dict) else {"emotion": result}
        segments = segments_of(windows, hysteresis)
        for window in windows:
            window["emotion"] = window["emotion"][:top_k]
        return {"windows": windows, "segments": segments}

    def _windows(self, inputs, window_s: float, hop_s: float) -> Iterator[tuple[float, float, np.ndarray]]:
        """Start and end of each window in seconds, and its samples (samples,) at the model's sampling rate."""
        with self._opened(inputs) as recording:
            window, hop = (max(round(length_s * recording.sampling_rate), 1) for length_s in (window_s, hop_s))
            samples = part = recording.read(window)
            end, silent = 0, True
            while part.shape[-1] or not end:
                waveform = self._prepared(recording, samples)
                silent = silent and not waveform.any()
                end += part.shape[-1]
                yield (end - samples.shape[-1]) / recording.sampling_rate, end / recording.sampling_rate, waveform
                part = recording.read(hop)
                samples = np.concatenate((samples, part), axis=-1)[..., -window:]
            self._check_sound(recording, not silent)

    def _sanitize_parameters(self, **parameters):
        # Only what is given is passed on: a call without `top_k` keeps the one that the pipeline was made with.
        unknown = sorted(set(parameters) - set(PARAMETERS))
        if unknown:
            raise TypeError(f"CAMuLeNetPipeline has no parameters {unknown} (`timeline` belongs to its call).")
        config, top_k = self.model.config, parameters.get("top_k")
        function_to_apply = parameters.get("function_to_apply")
        if top_k is not None and top_k < 1:
            raise ValueError(f"`top_k` is {top_k}; expected at least 1, or None for all emotions.")
        if function_to_apply not in (None, "softmax", "sigmoid", "none"):
            raise ValueError(f"`function_to_apply` is {function_to_apply!r}; expected 'softmax', 'sigmoid' or 'none'.")
        if parameters.get("return_gender") and not config.id2gender:
            raise ValueError("`return_gender` needs a gender head; this model has none (`config.id2gender` is empty).")
        if parameters.get("return_attention") and config.fusion not in FUSIONS_WITH_WEIGHTS:
            raise ValueError(f"`return_attention` needs weights over frames; fusion={config.fusion!r} has none.")
        return {}, {name: parameters[name] for name in OF_THE_MODEL if name in parameters}, parameters

    def preprocess(self, inputs) -> dict[str, torch.Tensor]:
        """
        One recording as the model's raw input, of which the model computes the features itself: padding of waveforms
        is all that batching needs.

        Returns:
            `input_values` (1, samples), float32 whatever the model's precision, and `attention_mask` (1, samples).
        """
        with self._opened(inputs) as recording:
            longest = round(MAX_DURATION_S * recording.sampling_rate)
            samples = recording.read(longest + 1)
            if samples.shape[-1] > longest:
                raise ValueError(
                    f"{recording.prefix}The audio lasts more than {MAX_DURATION_S} s, too long to be one recording: "
                    "read it in windows (`timeline`), or cut it."
                )
            waveform = self._prepared(recording, samples)
            self._check_sound(recording, waveform.any())
        input_values = torch.from_numpy(waveform)[None]
        return {"input_values": input_values, "attention_mask": torch.ones_like(input_values, dtype=torch.long)}

    def _prepared(self, recording: Recording, samples: np.ndarray) -> np.ndarray:
        """Samples (samples,) or (channels, samples) of a recording as (samples,) at the model's sampling rate."""
        try:
            return self.feature_extractor.prepare_waveform(samples, recording.sampling_rate)
        except ValueError as error:
            raise ValueError(f"{recording.prefix}{error}") from error

    @staticmethod
    def _check_sound(recording: Recording, sounds: bool):
        if not sounds:
            raise ValueError(f"{recording.prefix}The audio is silent: every sample is 0.")

    @contextmanager
    def _opened(self, inputs) -> Iterator[Recording]:
        """A recording in any form."""
        inputs, sampling_rate, name = self._taken_apart(inputs)
        if isinstance(inputs, np.ndarray):
            yield recording_in_memory(inputs, sampling_rate, name)
        elif isinstance(inputs, (bytes, bytearray)):
            with recording_in_file(io.BytesIO(inputs), name, self.feature_extractor.sampling_rate) as recording:
                yield recording
        else:
            rate = self.feature_extractor.sampling_rate
            with open_file(inputs) as file, recording_in_file(file, name, rate) as recording:
                yield recording

    def _taken_apart(self, inputs) -> tuple[np.ndarray | bytes | str, float, str | None]:
        """A recording as its samples, its file's content or its file's name; its rate in Hz, if samples; its name."""
        own_rate = self.feature_extractor.sampling_rate
        if isinstance(inputs, Mapping):
            return self._mapping_taken_apart(inputs)
        if hasattr(inputs, "get_all_samples"):
            decoded = inputs.get_all_samples()
            return decoded.data.numpy(), decoded.sample_rate, None
        if isinstance(inputs, torch.Tensor):
            inputs = inputs.detach().cpu()
            # NumPy has no bfloat16.
            inputs = (inputs.float() if inputs.is_floating_point() else inputs).numpy()
        if isinstance(inputs, np.ndarray):
            if inputs.ndim == 2 and inputs.shape[0] > inputs.shape[1] > 0:
                raise ValueError(f"Expected audio of shape (channels, samples), got {inputs.shape}: transpose it.")
            if inputs.ndim == 0:
                raise ValueError(f"Expected audio of shape (samples,) or (channels, samples), got {inputs.shape}.")
            return inputs, own_rate, None

        name = str(getattr(inputs, "name", "audio file"))
        if isinstance(inputs, (str, os.PathLike)):
            return os.fspath(inputs), own_rate, os.fspath(inputs)
        if hasattr(inputs, "read"):
            inputs = inputs.read()
        if not isinstance(inputs, (bytes, bytearray)):
            raise TypeError(
                "Expected a recording as a path, a URL, bytes, a binary file, an array, a tensor or a dict with "
                f'"array" and "sampling_rate", got {type(inputs).__name__}.'
            )
        return inputs, own_rate, name

    def _mapping_taken_apart(self, inputs: Mapping) -> tuple[np.ndarray | bytes | str, float, str | None]:
        samples = inputs.get("raw") if inputs.get("raw") is not None else inputs.get("array")
        name, content = inputs.get("path"), inputs.get("bytes")
        if samples is not None:
            sampling_rate = inputs.get("sampling_rate")
            if not sampling_rate or sampling_rate < 0:
                raise ValueError(f'"sampling_rate" is {sampling_rate!r}; expected the rate of the audio in Hz.')
            samples = samples if isinstance(samples, torch.Tensor) else np.asarray(samples)
            return self._taken_apart(samples)[0], sampling_rate, name
        if content is not None:
            return self._taken_apart(content)[0], self.feature_extractor.sampling_rate, name or "audio file"
        if name is not None:
            return self._taken_apart(name)
        raise ValueError(
            'Expected a dict with "raw" or "array" and "sampling_rate", or with "bytes" or "path"; got the keys '
            f'{sorted(inputs)}. Of a dataset, pass the audio column: `dataset["audio"]`.'
        )

    def _forward(self, model_inputs, return_embedding: bool = False, return_attention: bool = False):
        outputs = self.model(**model_inputs, return_dict=True)
        # What is not asked for is not kept: a long recording has many windows.
        kept = {"logits": outputs["logits"]}
        if self.model.config.id2gender:
            kept["gender_logits"] = outputs["gender_logits"]
        if return_embedding:
            kept["embeddings"] = outputs["embeddings"]
        if return_attention:
            kept["co_attention_weights"] = outputs["co_attention_weights"]
            kept["num_frames"] = self._num_encoder_frames(**model_inputs)
        return kept

    def _num_encoder_frames(self, input_values: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Real frames (batch,) that the encoder makes of the recordings of a batch (batch, samples)."""
        model = self.model.base_model
        read = model.feature_extractor.extract(input_values, attention_mask.sum(dim=1), ("encoder",))
        return model.speech_encoder.num_frames(read["attention_mask"].sum(dim=1))

    def postprocess(
        self,
        model_outputs,
        top_k: int | None = None,
        function_to_apply: str | None = None,
        return_gender: bool = False,
        return_embedding: bool = False,
        return_attention: bool = False,
    ):
        """The model's outputs for one recording, `logits` (1, num_labels), ..., as the result of `__call__`."""
        config = self.model.config
        result = {"emotion": self._ranked(model_outputs["logits"], config.id2label, function_to_apply)[:top_k]}
        if return_gender:
            result["gender"] = self._ranked(model_outputs["gender_logits"], config.id2gender, function_to_apply)
        if return_embedding:
            result["embedding"] = model_outputs["embeddings"][0].float().numpy()
        if return_attention:
            num_frames = int(model_outputs["num_frames"][0])
            result["attention"] = model_outputs["co_attention_weights"][0, :, :num_frames].float().numpy()
        return result if len(result) > 1 else result["emotion"]

    @staticmethod
    def _ranked(logits: torch.Tensor, names: dict[int, str], function_to_apply: str | None) -> list[dict]:
        """`{"label", "score"}` of each class of `logits` (1, classes), by falling score."""
        scores = logits[0].float()
        if function_to_apply != "none":
            scores = scores.sigmoid() if function_to_apply == "sigmoid" else scores.softmax(-1)
        scores, classes = scores.sort(descending=True, stable=True)
        return [{"label": names[index], "score": score} for score, index in zip(scores.tolist(), classes.tolist())]
