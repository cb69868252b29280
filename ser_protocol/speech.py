"""Where there is speech in a recording.

A model of emotion names one for music and noise, too. Before it is asked, Silero VAD (https://github.com/snakers4/
silero-vad, MIT; its weights come with its wheel) tells where somebody speaks. It takes no part in training or in any
figure.
"""

import functools
import threading
import warnings

import numpy as np
import soxr
import torch

MIN_SPEECH_S = 0.25  # of a stretch of speech: a syllable
# Of 1440 clips of RAVDESS 21 were no speech at Silero's 0.5, the screams of women first of all, and 14 at 0.3, where
# one of 99 stretches of game music and its noises passed for speech, as before; at 0.2 it were 7 and 4.
THRESHOLD = 0.3
VAD_RATE = 16000  # Hz
# The detector keeps its state between the parts of a recording.
LOCK = threading.Lock()


@functools.cache
def _detector():
    """Silero's model and its function.

    Raises:
        ImportError: the package is not there.
    """
    threads = torch.get_num_threads()
    try:
        from silero_vad import get_speech_timestamps, load_silero_vad

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript, in which the model comes
            model = load_silero_vad()
    except ImportError as error:
        raise ImportError(f'Finding speech needs silero-vad: pip install "camulenet[app]" ({error}).') from error
    finally:
        torch.set_num_threads(threads)  # the import sets it to 1, for the whole process
    return model, get_speech_timestamps


def speech_spans(waveform: np.ndarray, sampling_rate: int) -> list[tuple[float, float]]:
    """
    Stretches of speech as (start, end) in seconds, in order.

    Args:
        waveform: (samples,), float32.
        sampling_rate: in Hz.
    """
    model, find = _detector()
    if sampling_rate != VAD_RATE:
        waveform = soxr.resample(waveform, sampling_rate, VAD_RATE)
    with LOCK:
        spans = find(
            torch.from_numpy(waveform),
            model,
            threshold=THRESHOLD,
            sampling_rate=VAD_RATE,
            min_speech_duration_ms=round(1000 * MIN_SPEECH_S),
        )
    return [(span["start"] / VAD_RATE, span["end"] / VAD_RATE) for span in spans]


def overlap_s(spans: list[tuple[float, float]], start_s: float, end_s: float) -> float:
    """Seconds of `spans` between two times."""
    return sum(max(min(end, end_s) - max(start, start_s), 0.0) for start, end in spans)
