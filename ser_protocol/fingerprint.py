"""Clips that hold the same sound: an acoustic fingerprint and the search for its copies.

A clip that was re-encoded, resampled, amplified, padded or cut has other bytes and the same sound. It is found by an
acoustic fingerprint after Haitsma & Kalker, "A Highly Robust Audio Fingerprinting System"
(ISMIR 2002), scaled to clips of seconds: every 8 ms a word of 32 bits, the signs of the differences of energy between
neighbours of 33 bands (300 to 2000 Hz) and between two frames (of 128 ms). Clips with a few equal words are laid over
each other at every offset; the share of differing bits at the best one, over frames that are loud in both, decides.

The threshold, 20 % of the bits, was measured with `benchmarks/audit_threshold.py` on RAVDESS (1440 clips) and EmoDB-2s
(535 clips cut to 2 s).

- No false alarm among all 1,036,079 and 142,845 pairs of different clips. The lowest are 28.8 % in RAVDESS, the two
  repetitions of one actor, sentence, emotion and intensity, and 36.0 % in EmoDB-2s. RAVDESS (our copy) itself holds
  one clip twice: 03-01-03-01-02-01-07 and 03-01-03-01-02-02-07 decode to the same samples. EmoDB-2s holds none.
- 100 clips of each corpus were altered and looked for among all clips of the corpus. None was missed after MP3 of 64
  or 33 kbit/s, Opus of 138 or 62, Vorbis of 58, resampling to 8, 22.05 and 44.1 kHz, 12 dB less gain, 1 s of silence
  after or 0.4 s before, 0.1 or 0.3 s off both ends, noise at 30 dB, a cut of the middle 1.5 s, or a trimmed,
  attenuated MP3 (highest share 11.1 %). Missed of 100, RAVDESS / EmoDB-2s: Vorbis of 39 kbit/s 1 / 0, MP3 of 20 kbit/s
  3 / 0 and of 17 kbit/s 9 / 0, Opus of 12 kbit/s 80 / 44, 12 dB more gain with clipping 0 / 4.
- 3 s out of 12 s of joined clips, as MP3: missed 7 of 100 in RAVDESS, where most of a cut is 30 dB under the loudest
  of the 12 s, and 0 of 89 in EmoDB-2s. Changes of speed or pitch and cuts under 0.6 s of sound are not found.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
from tqdm.auto import tqdm

from dataset_scripts.schema import CorpusError, read_audio

RATE = 8000  # Hz: what every copy of a clip still has
WINDOW, HOP = 1024, 64  # samples at RATE: 128 and 8 ms
HANN = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
BAND_EDGES = np.round(np.geomspace(300, 2000, 34) * WINDOW / RATE).astype(int)  # of 33 bands, in bins of 7.8 Hz
LOUD_DB = 30  # a frame is loud within this range under the clip's loudest frame
SILENT_DBFS = -80  # a clip whose loudest frame has a lower root mean square is silent: dither of 16 bits has -96
MIN_OVERLAP = 75  # loud frames (0.6 s) that two clips must share ...
MIN_SHARE = 0.5  # ... and which share of the loud frames of the one that has fewer
MAX_BIT_ERRORS = 0.2  # see above
MIN_EQUAL_WORDS = 2
MAX_NEIGHBOURS = 50  # clips that an equal word links with each clip: bounds the search on steady tones


class Fingerprint(NamedTuple):
    """`words` (frames,), uint32: signs of differences of energy; `loud` (frames,), bool; a frame is 8 ms."""

    words: np.ndarray
    loud: np.ndarray


def fingerprint(waveform: np.ndarray, sampling_rate: int) -> Fingerprint | None:
    """Fingerprint of a clip, None for one that is silent or shorter than a window (0.13 s).

    Args:
        waveform: (samples,), float32.
        sampling_rate: Hz.
    """
    if sampling_rate != RATE:
        waveform = soxr.resample(waveform, sampling_rate, RATE)
    if len(waveform) < WINDOW:
        return None
    padded = np.pad(waveform.astype(np.float32), WINDOW // 2)  # silence, as if somebody else had padded the clip
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * HANN)) ** 2
    energy = np.add.reduceat(power, BAND_EDGES, axis=1)[:, :-1]  # (frames + 1, bands); what lies above is no band
    differences = np.diff(np.diff(energy, axis=1), axis=0) > 0  # (frames, 32)
    words = np.packbits(differences, axis=1).view(np.uint32)[:, 0]
    # Mean square of the frame within the bands, by Parseval's theorem; 3/8 is the mean square of the window.
    level = 10 * np.log10(energy[1:].sum(axis=1) * 2 / WINDOW**2 / 0.375 + 1e-12)
    return Fingerprint(words, level > level.max() - LOUD_DB) if level.max() > SILENT_DBFS else None


def bit_error_rate(first: Fingerprint, second: Fingerprint) -> float:
    """Share of differing bits, 0 to 0.5 or so, at the offset where it is lowest; 1 if no offset has enough overlap."""
    size = 1 << (len(first.words) + len(second.words)).bit_length()
    product = spectra(first, size) * spectra(second, size).conj()
    # Correlations over all offsets: bits that agree minus bits that differ, and frames that are loud in both.
    agreement, overlap = np.fft.irfft([product[:32].sum(axis=0), product[32]], n=size)
    needed = max(MIN_OVERLAP, MIN_SHARE * min(first.loud.sum(), second.loud.sum()))
    enough = overlap > needed - 0.5
    return max(0.0, float(np.min(0.5 - agreement[enough] / (64 * overlap[enough]), initial=1.0)))


def spectra(fingerprint, size):
    """Spectra of the 32 bits as +1 and -1 in loud frames and 0 elsewhere, and of loudness: (33, size / 2 + 1)."""
    bits = np.unpackbits(fingerprint.words.view(np.uint8).reshape(-1, 4), axis=1).T
    signs = np.where(fingerprint.loud, 2.0 * bits - 1, 0)
    return np.fft.rfft(np.vstack([signs, fingerprint.loud]), n=size)


def similar_pairs(fingerprints: Sequence[Fingerprint]) -> list[tuple[int, int, float]]:
    """All pairs within `MAX_BIT_ERRORS` that share some words exactly: (index, larger index, share of bits)."""
    words = [np.unique(each.words[each.loud]) for each in fingerprints]
    clips = np.repeat(np.arange(len(words)), [len(each) for each in words])
    words = np.concatenate([*words, np.empty(0, np.uint32)])
    order = np.lexsort((clips, words))
    words, clips = words[order], clips[order]
    # Within a run of equal words, clips are ascending: each is linked with the next ones.
    links = []
    for step in range(1, MAX_NEIGHBOURS + 1):
        equal = words[step:] == words[:-step]
        links.append(clips[:-step][equal] * len(fingerprints) + clips[step:][equal])
    pairs, counts = np.unique(np.concatenate(links), return_counts=True)
    found = []
    for pair in pairs[counts >= MIN_EQUAL_WORDS]:
        first, second = divmod(int(pair), len(fingerprints))
        rate = bit_error_rate(fingerprints[first], fingerprints[second])
        if rate <= MAX_BIT_ERRORS:
            found.append((first, second, rate))
    return found


def find_copies(audio: Mapping[str, Mapping]) -> tuple[dict[tuple[str, str], str], list[str], dict[str, str]]:
    """Utterances that hold the same sound; each clip is read once, and only its fingerprint is kept.

    Args:
        audio: utterance_id -> `{"bytes", "path"}`.

    Returns:
        (utterance, other utterance) -> "same file", "same samples" or how many bits differ; the utterances that are
        silent (or under 0.13 s), compared with nothing; utterance_id -> why it cannot be read.
    """
    copies, silent, unreadable, owners, prints = {}, [], {}, {}, {}
    for name, source in tqdm(audio.items(), desc="audio", unit="clip"):
        try:
            content = Path(source["path"]).read_bytes() if source.get("bytes") is None else source["bytes"]
            waveform, sampling_rate = read_audio({"bytes": content, "path": source.get("path")})
        except (CorpusError, OSError) as error:
            unreadable[name] = str(error)
            continue
        acoustic = fingerprint(waveform, sampling_rate)
        if acoustic is None:
            silent.append(name)
            continue
        samples = hashlib.sha256(b"%d " % sampling_rate + waveform.tobytes()).digest()
        for key, how in ((hashlib.sha256(content).digest(), "same file"), (samples, "same samples")):
            first = owners.setdefault(key, name)
            if first != name:
                copies[first, name] = how
                break
        else:
            prints[name] = acoustic
    names = list(prints)
    for first, second, rate in similar_pairs(list(prints.values())):
        copies[names[first], names[second]] = f"{rate:.1%} of the fingerprint's bits differ"
    return copies, silent, unreadable
