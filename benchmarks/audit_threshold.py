"""How well the audit tells copies of a clip from others: the figures behind `fingerprint.MAX_BIT_ERRORS`.

    python benchmarks/audit_threshold.py --data_dir RAVDESS EMODB

For each folder of audio it prints

- the differing bits of all pairs of different clips, at their best offset, without any candidate search. A folder
  holds many pairs of one actor with the same sentence and emotion, the hardest of all;
- for each way to alter a clip the differing bits against the original, and how many of the altered clips are missed
  by the audit's whole search among all clips of the folder;
- how long reading and searching took.

Only numpy's generator with seed 0 draws anything. About 6 minutes on one core for RAVDESS and EmoDB-2s.
"""

import argparse
import io
import time
from pathlib import Path

import numpy as np
import soundfile
import soxr
from tqdm.auto import tqdm

from dataset_scripts.schema import AUDIO_SUFFIXES, read_audio
from ser_protocol import fingerprint as acoustic

NUM_ALTERED = 100  # clips of each folder that are altered, evenly spread over it
NUM_LOWEST = 8  # pairs of different clips that are printed
JOINED_S = 12  # length of the recordings that 3 s are cut from


def through(container, subtype=None, compression_level=None):
    """Write and read again; `compression_level` is soundfile's, 0 (largest file) to 1."""

    def alter(waveform, rate, generator):
        file = io.BytesIO()
        soundfile.write(file, waveform, rate, format=container, subtype=subtype, compression_level=compression_level)
        file.seek(0)
        return soundfile.read(file, dtype="float32")

    return alter


def resampled(new_rate):
    return lambda waveform, rate, generator: (soxr.resample(waveform, rate, new_rate), new_rate)


def gain(decibel):
    return lambda waveform, rate, generator: (np.clip(waveform * 10 ** (decibel / 20), -1, 1), rate)


def padded(lead_s, trail_s):
    return lambda waveform, rate, generator: (
        np.pad(waveform, (round(lead_s * rate), round(trail_s * rate))),
        rate,
    )


def trimmed(lead_s, trail_s):
    return lambda waveform, rate, generator: (waveform[round(lead_s * rate) : -round(trail_s * rate)], rate)


def noisy(snr_db):
    def alter(waveform, rate, generator):
        noise = generator.normal(size=len(waveform)) * np.sqrt(np.mean(waveform**2)) * 10 ** (-snr_db / 20)
        return (waveform + noise).astype(np.float32), rate

    return alter


def middle(seconds):
    def alter(waveform, rate, generator):
        start = max(0, len(waveform) - round(seconds * rate)) // 2
        return waveform[start : start + round(seconds * rate)], rate

    return alter


def chain(*steps):
    def alter(waveform, rate, generator):
        for step in steps:
            waveform, rate = step(waveform, rate, generator)
        return waveform, rate

    return alter


# Rates in kbit/s as measured on 16 kHz mono RAVDESS clips.
ALTERATIONS = {
    "MP3, 64 kbit/s": through("MP3", None, 0.0),
    "MP3, 33 kbit/s": through("MP3", None, 0.5),
    "MP3, 20 kbit/s": through("MP3", None, 0.8),
    "MP3, 17 kbit/s": through("MP3", None, 0.99),
    "Opus, 138 kbit/s": through("OGG", "OPUS", 0.5),
    "Opus, 62 kbit/s": through("OGG", "OPUS", 0.8),
    "Opus, 12 kbit/s": through("OGG", "OPUS", 0.99),
    "Vorbis, 58 kbit/s": through("OGG", "VORBIS", 0.5),
    "Vorbis, 39 kbit/s": through("OGG", "VORBIS", 0.99),
    "8 kHz": resampled(8000),
    "22.05 kHz": resampled(22050),
    "44.1 kHz": resampled(44100),
    "gain -12 dB": gain(-12),
    "gain +12 dB, clipped": gain(12),
    "1 s of silence after": padded(0, 1),
    "0.4037 s of silence before": padded(0.4037, 0),
    "0.1033 s and 0.1 s off the ends": trimmed(0.1033, 0.1),
    "0.3047 s and 0.3 s off the ends": trimmed(0.3047, 0.3),
    "noise, 30 dB": noisy(30),
    "middle 1.5 s": middle(1.5),
    "trimmed, -6 dB, MP3 33 kbit/s": chain(trimmed(0.2087, 0.1), gain(-6), through("MP3", None, 0.5)),
}


def load(folder):
    paths = [path for path in sorted(Path(folder).rglob("*")) if path.suffix.lower() in AUDIO_SUFFIXES]
    return {path.stem: read_audio({"path": str(path)}) for path in tqdm(paths, desc=str(folder))}


def all_pairs(prints, block=64):
    """`acoustic.bit_error_rate` of all pairs, shape (clips, clips), 1 on and under the diagonal; a block at a time."""
    size = 1 << (2 * max(len(each.words) for each in prints)).bit_length()
    spectra = np.stack([acoustic.spectra(each, size).astype(np.complex64).T for each in prints], axis=1)
    bits, loud = spectra[..., :32], spectra[..., 32]  # (frequencies, clips, 32), (frequencies, clips)
    num_loud = np.array([each.loud.sum() for each in prints])
    rates = np.ones((len(prints), len(prints)), np.float32)
    starts = range(0, len(prints), block)
    for first, second in tqdm([(first, second) for first in starts for second in starts if first <= second], "pairs"):
        rows, columns = slice(first, first + block), slice(second, second + block)
        agreement = np.fft.irfft(bits[:, rows] @ bits[:, columns].conj().swapaxes(1, 2), n=size, axis=0)
        overlap = np.fft.irfft(loud[:, rows, None] * loud[:, None, columns].conj(), n=size, axis=0)
        needed = np.maximum(
            acoustic.MIN_OVERLAP, acoustic.MIN_SHARE * np.minimum.outer(num_loud[rows], num_loud[columns])
        )
        rate = np.where(overlap > needed - 0.5, 0.5 - agreement / (64 * np.maximum(overlap, 1)), 1)
        rates[rows, columns] = rate.min(axis=0)
    rates[np.tril_indices(len(prints))] = 1
    return rates


def print_different(names, clips, prints):
    rates = all_pairs(prints)
    copies = [
        (row, column)
        for row, column in zip(*np.nonzero(rates < 0.01))
        if np.array_equal(clips[names[row]][0], clips[names[column]][0])
    ]
    for row, column in copies:
        print(f"same samples in the corpus, not counted below: {names[row]} = {names[column]}")
        rates[row, column] = 1
    upper = np.triu_indices(len(names), 1)
    found = (rates[upper] <= acoustic.MAX_BIT_ERRORS).sum()
    print(
        f"{len(upper[0]) - len(copies)} pairs of different clips, "
        f"{found} at or under {acoustic.MAX_BIT_ERRORS}; lowest:"
    )
    for index in np.argsort(rates[upper], kind="stable")[:NUM_LOWEST]:
        row, column = upper[0][index], upper[1][index]
        print(f"  {rates[row, column]:.3f}  {names[row]}  {names[column]}")


def print_altered(clips, names, prints):
    chosen = [round(place) for place in np.linspace(0, len(names) - 1, NUM_ALTERED)]
    print(f"{'altered':32} differing bits: median, highest; over the threshold; missed of {len(chosen)}")
    for label, alter in ALTERATIONS.items():
        generator = np.random.default_rng(0)
        altered = [acoustic.fingerprint(*alter(*clips[names[index]], generator)) for index in chosen]
        rates = [acoustic.bit_error_rate(prints[index], copy) for index, copy in zip(chosen, altered)]
        print_rates(label, rates, prints, altered, chosen)


def print_segments(clips):
    """3 s out of recordings of `JOINED_S`: neighbouring clips of the folder, joined; the cut then goes through MP3."""
    recordings, cuts, parts, generator = [], [], [], np.random.default_rng(0)
    for waveform, rate in clips.values():
        parts.append(waveform)
        if sum(map(len, parts)) >= JOINED_S * rate and len(recordings) < NUM_ALTERED:
            joined, parts = np.concatenate(parts), []
            start = generator.integers(len(joined) - 3 * rate)
            recordings.append(acoustic.fingerprint(joined, rate))
            cut = ALTERATIONS["MP3, 33 kbit/s"](joined[start : start + 3 * rate], rate, generator)
            cuts.append(acoustic.fingerprint(*cut))
    rates = [acoustic.bit_error_rate(whole, cut) for whole, cut in zip(recordings, cuts)]
    label = f"3 s of {JOINED_S} s, MP3 33 kbit/s"
    print_rates(label, rates, recordings, cuts, range(len(cuts)))


def print_rates(label, rates, originals, altered, owners):
    found = {(first, second - len(originals)) for first, second, _ in acoustic.similar_pairs([*originals, *altered])}
    missed = sum((owner, index) not in found for index, owner in enumerate(owners))
    over = sum(rate > acoustic.MAX_BIT_ERRORS for rate in rates)
    print(f"{label:32} {np.median(rates):.3f} {max(rates):.3f} {over:4} {missed:4} of {len(rates)}", flush=True)


def main():
    parser = argparse.ArgumentParser(description="Copies and other clips under the audit's fingerprint.")
    parser.add_argument("--data_dir", required=True, nargs="+", help="folders of audio")
    for folder in parser.parse_args().data_dir:
        clips = load(folder)
        names = list(clips)
        start = time.perf_counter()
        prints = [acoustic.fingerprint(*clip) for clip in clips.values()]
        made = time.perf_counter()
        pairs = acoustic.similar_pairs(prints)
        searched = time.perf_counter()
        print(f"\n{folder}: {len(names)} clips; fingerprints {made - start:.1f} s, search {searched - made:.1f} s")
        print(f"the audit's search finds {[(names[first], names[second]) for first, second, _ in pairs]}")
        print_different(names, clips, prints)
        print_altered(clips, names, prints)
        print_segments(clips)


if __name__ == "__main__":
    main()
