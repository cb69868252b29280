# Copyright 2026 The CAMuLeNet maintainers. Licensed under the Apache License, Version 2.0.
"""The audio-classification pipeline of CAMuLeNet: recordings in any common form to emotions and genders."""

import io
import os
import urllib.request
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from transformers import AudioClassificationPipeline
from transformers.pipelines.audio_utils import ffmpeg_read

# soundfile raises an OSError where its library libsndfile is missing. Arrays need neither.
try:
    import soundfile
except (ImportError, OSError):
    soundfile = None

URL_TIMEOUT_S = 60


def decode(content: bytes, name: str, sampling_rate: int) -> tuple[np.ndarray, int]:
    """
    Samples of an audio file, by soundfile, or by the ffmpeg program where soundfile does not know the format.

    Args:
        content: the whole file.
        name: of the file, for messages.
        sampling_rate: the rate in Hz that ffmpeg resamples to; soundfile keeps the file's.
    Returns:
        Float32 samples, (channels, samples) from soundfile and (samples,) from ffmpeg, and their rate in Hz.
    Raises:
        ValueError: neither can read it.
    """
    reason = "soundfile is not installed (`pip install soundfile`)."
    if soundfile is not None:
        try:
            samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
            return samples.T, rate
        except soundfile.SoundFileError as error:
            reason = f"soundfile: {getattr(error, 'error_string', error)}"
    try:
        return ffmpeg_read(content, sampling_rate), sampling_rate
    except ValueError as error:
        raise ValueError(f"{name}: the audio cannot be decoded. {reason} As fall-back: {error}.") from error


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

    def __call__(self, inputs, **kwargs):
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
            batch_size (`int`, *optional*, defaults to 1):
                Recordings that the model sees at once. The scores do not depend on it.

        Returns:
            For each recording a list of `{"label": str, "score": float}`, or with `return_gender`
            `{"emotion": [...], "gender": [...]}` of such lists, each by falling score.

        Raises:
            ValueError: audio that cannot be decoded, is empty, holds NaN or has more than two dimensions;
                `return_gender` of a model without a gender head.
        """
        if is_recording(inputs) or not isinstance(inputs, Iterable) or (isinstance(inputs, list) and inputs):
            return super().__call__(inputs, **kwargs)
        # The base class streams generators and torch datasets only; of an empty list it wants the first item.
        results = super().__call__((recording for recording in inputs), **kwargs)
        return list(results) if isinstance(inputs, Sequence) else results

    def _sanitize_parameters(self, **parameters):
        # Only what is given is passed on: a call without `top_k` keeps the one that the pipeline was made with.
        unknown = sorted(set(parameters) - {"top_k", "function_to_apply", "return_gender"})
        if unknown:
            raise TypeError(f"CAMuLeNetPipeline has no parameters {unknown}.")
        top_k, function_to_apply = parameters.get("top_k"), parameters.get("function_to_apply")
        if top_k is not None and top_k < 1:
            raise ValueError(f"`top_k` is {top_k}; expected at least 1, or None for all emotions.")
        if function_to_apply not in (None, "softmax", "sigmoid", "none"):
            raise ValueError(f"`function_to_apply` is {function_to_apply!r}; expected 'softmax', 'sigmoid' or 'none'.")
        if parameters.get("return_gender") and not self.model.config.id2gender:
            raise ValueError("`return_gender` needs a gender head; this model has none (`config.id2gender` is empty).")
        return {}, {}, parameters

    def preprocess(self, inputs) -> dict[str, torch.Tensor]:
        """
        One recording as the model's raw input, of which the model computes the features itself: padding of waveforms
        is all that batching needs.

        Returns:
            `input_values` (1, samples), float32 whatever the model's precision, and `attention_mask` (1, samples).
        """
        samples, sampling_rate, name = self._read(inputs)
        try:
            waveform = self.feature_extractor.prepare_waveform(samples, sampling_rate)
        except ValueError as error:
            raise ValueError(f"{name}: {error}" if name else str(error)) from error
        input_values = torch.from_numpy(waveform)[None]
        return {"input_values": input_values, "attention_mask": torch.ones_like(input_values, dtype=torch.long)}

    def _read(self, inputs) -> tuple[np.ndarray, int | None, str | None]:
        """The samples of a recording, their rate in Hz (`None`: the model's) and its name, where it has one."""
        if isinstance(inputs, Mapping):
            return self._read_mapping(inputs)
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
            return inputs, None, None

        name = str(getattr(inputs, "name", "audio file"))
        if isinstance(inputs, (str, os.PathLike)):
            name = os.fspath(inputs)
            inputs = self._fetch(name)
        elif hasattr(inputs, "read"):
            inputs = inputs.read()
        if not isinstance(inputs, (bytes, bytearray)):
            raise TypeError(
                "Expected a recording as a path, a URL, bytes, a binary file, an array, a tensor or a dict with "
                f'"array" and "sampling_rate", got {type(inputs).__name__}.'
            )
        return *decode(bytes(inputs), name, self.feature_extractor.sampling_rate), name

    def _read_mapping(self, inputs: Mapping) -> tuple[np.ndarray, int | None, str | None]:
        samples = inputs.get("raw") if inputs.get("raw") is not None else inputs.get("array")
        name, content = inputs.get("path"), inputs.get("bytes")
        if samples is not None:
            sampling_rate = inputs.get("sampling_rate")
            if not sampling_rate or sampling_rate < 0:
                raise ValueError(f'"sampling_rate" is {sampling_rate!r}; expected the rate of the audio in Hz.')
            samples = samples if isinstance(samples, torch.Tensor) else np.asarray(samples)
            return self._read(samples)[0], sampling_rate, name
        if content is not None:
            name = name or "audio file"
            return *decode(bytes(content), name, self.feature_extractor.sampling_rate), name
        if name is not None:
            return self._read(name)
        raise ValueError(
            'Expected a dict with "raw" or "array" and "sampling_rate", or with "bytes" or "path"; got the keys '
            f'{sorted(inputs)}. Of a dataset, pass the audio column: `dataset["audio"]`.'
        )

    @staticmethod
    def _fetch(name: str) -> bytes:
        """Content of a file or of an http(s) URL."""
        if not name.startswith(("http://", "https://")):
            with open(name, "rb") as file:
                return file.read()
        # Some hosts refuse Python's own name.
        request = urllib.request.Request(name, headers={"User-Agent": "transformers"})
        try:
            with urllib.request.urlopen(request, timeout=URL_TIMEOUT_S) as response:
                return response.read()
        except OSError as error:
            raise OSError(f"{name}: {error}") from error

    def _forward(self, model_inputs):
        return self.model(**model_inputs, return_dict=True)

    def postprocess(self, model_outputs, top_k=None, function_to_apply=None, return_gender=False):
        """The model's outputs for one recording, `logits` (1, num_labels), as the result of `__call__`."""
        config = self.model.config
        emotion = self._ranked(model_outputs["logits"], config.id2label, function_to_apply)[:top_k]
        if not return_gender:
            return emotion
        gender = self._ranked(model_outputs["gender_logits"], config.id2gender, function_to_apply)
        return {"emotion": emotion, "gender": gender}

    @staticmethod
    def _ranked(logits: torch.Tensor, names: dict[int, str], function_to_apply: str | None) -> list[dict]:
        """`{"label", "score"}` of each class of `logits` (1, classes), by falling score."""
        scores = logits[0].float()
        if function_to_apply != "none":
            scores = scores.sigmoid() if function_to_apply == "sigmoid" else scores.softmax(-1)
        scores, classes = scores.sort(descending=True, stable=True)
        return [{"label": names[index], "score": score} for score, index in zip(scores.tolist(), classes.tolist())]
