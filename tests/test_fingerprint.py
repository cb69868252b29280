"""The acoustic fingerprint: altered copies are found, others are not, and the arithmetic by hand."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from voices import RATE, speech

from ser_protocol import fingerprint as acoustic
from ser_protocol.fingerprint import Fingerprint

SHARED = Path(__file__).parent.parent / ".." / "shared" / "data"


@pytest.fixture(scope="module")
def voices():
    return [speech(seed) for seed in range(8)]


def noise_30_db(wave):
    return wave + np.random.default_rng(0).normal(0, np.sqrt(np.mean(wave**2)) * 10**-1.5, len(wave))


ALTERATIONS = {
    "quieter": lambda wave: (wave * 0.25, RATE),
    "louder": lambda wave: (wave * 3, RATE),
    "44.1 kHz": lambda wave: (soxr.resample(wave, RATE, 44100), 44100),
    "8 kHz": lambda wave: (soxr.resample(wave, RATE, 8000), 8000),
    "padded": lambda wave: (np.pad(wave, (4321, 16000)), RATE),
    "trimmed": lambda wave: (wave[3333:-4000], RATE),
    "a cut of 1 s": lambda wave: (wave[9000:25000], RATE),
    "noise": lambda wave: (noise_30_db(wave), RATE),
    "stereo": lambda wave: (np.stack([wave, wave], axis=1), RATE),
}


@pytest.mark.parametrize("name", ALTERATIONS)
@pytest.mark.parametrize("suffix", [".ogg", ".mp3"])
def test_altered_copies_are_found(voices, tmp_path, name, suffix):
    altered, rate = ALTERATIONS[name](voices[3])
    soundfile.write(tmp_path / f"copy{suffix}", altered, rate)
    audio = {"copy": {"path": str(tmp_path / f"copy{suffix}")}}
    for number, wave in enumerate(voices):
        soundfile.write(tmp_path / f"{number}.wav", wave, RATE)
        audio[str(number)] = {"bytes": None, "path": str(tmp_path / f"{number}.wav")}
    copies, silent, unreadable = acoustic.find_copies(audio)
    assert list(copies) == [("copy", "3")] and not silent and not unreadable


def test_3_s_of_a_longer_recording():
    long = speech(100, duration_s=12)
    whole, cut = acoustic.fingerprint(long, RATE), acoustic.fingerprint(long[70001 : 70001 + 3 * RATE], RATE)
    others = [acoustic.fingerprint(speech(seed, duration_s=3), RATE) for seed in range(101, 105)]
    assert [pair[:2] for pair in acoustic.similar_pairs([whole, *others, cut])] == [(0, 5)]


def random_print(frames, seed=0):
    words = np.random.default_rng(seed).integers(0, 2**32, frames, dtype=np.uint32)
    return Fingerprint(words, np.ones(frames, dtype=bool))


def test_bit_error_rate_by_hand():
    whole = random_print(300)
    later = Fingerprint(whole.words[110:290].copy(), np.ones(180, dtype=bool))
    assert acoustic.bit_error_rate(whole, later) == pytest.approx(0, abs=1e-9)
    later.words[::2] ^= np.uint32(0b1011)  # 3 of 32 bits in every second frame
    assert acoustic.bit_error_rate(whole, later) == acoustic.bit_error_rate(later, whole) == pytest.approx(3 / 64)
    later.loud[::2] = False  # only frames that are loud in both count
    assert acoustic.bit_error_rate(whole, later) == pytest.approx(0, abs=1e-9)


def test_bit_error_rate_needs_overlap():
    whole = random_print(300)
    ones = np.ones(300, dtype=bool)
    enough = Fingerprint(whole.words[:75].copy(), ones[:75])
    assert acoustic.bit_error_rate(whole, enough) == pytest.approx(0, abs=1e-9)
    assert acoustic.bit_error_rate(whole, Fingerprint(whole.words[:74].copy(), ones[:74])) == 1
    # 100 frames are the same, but not half of what either clip has.
    half = Fingerprint(np.concatenate([whole.words[200:], random_print(200, 1).words]), ones)
    assert acoustic.bit_error_rate(whole, half) > acoustic.MAX_BIT_ERRORS


def test_similar_pairs_of_none_and_one():
    assert acoustic.similar_pairs([]) == [] and acoustic.similar_pairs([random_print(100)]) == []


def test_silent_and_very_short_clips_match_nothing(tmp_path):
    silence = np.zeros(RATE)
    faint = 1e-4 * np.random.default_rng(0).normal(size=RATE)
    clips = {"zeros": silence, "zeros_too": silence, "faint": faint, "one_sample": np.ones(1), "short": np.ones(900)}
    for name, wave in clips.items():
        soundfile.write(tmp_path / f"{name}.wav", wave, RATE)
    copies, silent, _ = acoustic.find_copies({name: {"path": str(tmp_path / f"{name}.wav")} for name in clips})
    assert not copies and set(silent) == set(clips)


def test_the_clip_that_ravdess_has_twice():
    folder = SHARED / "ravdess" / "Actor_07"
    if not folder.is_dir():
        pytest.skip("RAVDESS is not here")
    copies, silent, _ = acoustic.find_copies({path.stem: {"path": str(path)} for path in sorted(folder.glob("*.ogg"))})
    assert list(copies) == [("03-01-03-01-02-01-07", "03-01-03-01-02-02-07")] and not silent
