"""Something like speech, for the tests of audio that sounds the same."""

import numpy as np

RATE = 16000  # Hz


def speech(seed, duration_s=2.0):
    """Something like speech: a gliding pitch, three moving formants, a change of both every 0.12 s or so."""
    generator = np.random.default_rng(seed)
    size = round(duration_s * RATE)
    knots = np.linspace(0, size, round(duration_s / 0.12) + 2)
    track = lambda low, high: np.interp(np.arange(size), knots, generator.uniform(low, high, len(knots)))  # noqa: E731
    pitch, formants = track(100, 250), [track(250, 900), track(900, 2300), track(2300, 3300)]
    phase, wave = 2 * np.pi * np.cumsum(pitch) / RATE, np.zeros(size)
    for harmonic in range(1, 24):
        distance = np.array([(harmonic * pitch - formant) / 120 for formant in formants])
        wave += (1 / (1 + distance**2)).sum(axis=0) * np.sin(harmonic * phase + generator.uniform(0, 6))
    wave = (wave + generator.normal(0, 0.05, size)) * track(0.2, 1)
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)
