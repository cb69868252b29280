"""A corpus of noise with the lengths of a real one, and checkpoints of encoders with random weights, on disk."""

import csv
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import soundfile
from inputs import SAMPLING_RATE, whisper_config
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel, set_seed

from dataset_scripts import load_corpora

EMOTIONS = ("neutral", "happiness", "sadness", "anger")
NUM_SPEAKERS = 24


def write_corpus(folder: Path, durations_s: Sequence[float]) -> Path:
    """16-bit WAV files of noise, of 24 speakers in 4 emotions, with the table that `--corpus own` reads."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    with open(folder / "metadata.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "emotion", "speaker_id", "gender"])
        for number, duration_s in enumerate(durations_s):
            name, speaker = f"{number:05d}.wav", number % NUM_SPEAKERS
            noise = 0.1 * random.standard_normal(round(duration_s * SAMPLING_RATE), dtype=np.float32)
            soundfile.write(folder / name, noise, SAMPLING_RATE, subtype="PCM_16")
            emotion = EMOTIONS[number // NUM_SPEAKERS % len(EMOTIONS)]
            table.writerow([name, emotion, f"s{speaker:02d}", ("female", "male")[speaker % 2]])
    return folder


def load(folder: Path) -> datasets.Dataset:
    """The rows of a folder of `write_corpus`."""
    return load_corpora(["own"], [str(folder)], cache_dir=str(folder.parent / "tables")).dataset


def write_encoder(folder: Path, config: WhisperConfig | str) -> Path:
    """A whole Whisper of random weights; `config` may name a size."""
    set_seed(0)
    config = whisper_config(config) if isinstance(config, str) else config
    config.decoder_layers, config.vocab_size, config.decoder_ffn_dim = 1, 8, 8
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"):
        setattr(config, name, 0)
    config.decoder_attention_heads = config.encoder_attention_heads
    WhisperModel(config).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(folder)
    return folder
