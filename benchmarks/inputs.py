"""What the benchmarks measure on: synthetic audio of real lengths, configurations of encoders with random weights."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import WhisperConfig

from modeling_camulenet import CAMuLeNetFeatureExtractor, CAMuLeNetForAudioClassification
from ser_protocol.feature_store import collate
from ser_protocol.presets import build_config

SAMPLING_RATE = 16000  # Hz
NUM_LABELS = 8  # RAVDESS's emotions

# openai/whisper-*: width, encoder layers, heads; all have four times the width in their feed-forward layers.
WHISPER_SIZES = {"tiny": (384, 4, 6), "base": (512, 6, 8), "small": (768, 12, 12), "medium": (1024, 24, 16)}


def whisper_config(size: str) -> WhisperConfig:
    """The configuration of openai/whisper-`size`, with sdpa attention."""
    width, layers, heads = WHISPER_SIZES[size]
    return WhisperConfig(
        d_model=width,
        encoder_layers=layers,
        encoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        decoder_layers=1,
        attn_implementation="sdpa",
    )


def ravdess_durations(num_clips: int, seed: int = 0) -> np.ndarray:
    """Durations in seconds as those of RAVDESS's clips: 3.70 on average, from 2.94 to 5.27."""
    return np.random.default_rng(seed).normal(3.7, 0.34, num_clips).clip(2.94, 5.27)


def synthetic_clips(durations_s: Sequence[float], seed: int = 0) -> list[np.ndarray]:
    """A vowel-like tone of wandering pitch in noise for each duration, float32."""
    generator = np.random.default_rng(seed)
    clips = []
    for duration in durations_s:
        time = np.arange(round(duration * SAMPLING_RATE)) / SAMPLING_RATE
        pitch = generator.uniform(90, 250) * (1 + 0.1 * np.sin(2 * np.pi * generator.uniform(0.5, 3) * time))
        phase = 2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE
        tone = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 16))
        loudness = np.sin(np.pi * time / duration) ** 2
        clips.append((0.1 * tone * loudness + 0.003 * generator.standard_normal(len(time))).astype(np.float32))
    return clips


def random_model(preset: str, size: str, with_encoder: bool = True, **overrides) -> CAMuLeNetForAudioClassification:
    """A preset's model with a Whisper encoder of random weights, or without its encoder."""
    config = build_config(preset, encoder_config=whisper_config(size), num_labels=NUM_LABELS, **overrides)
    return CAMuLeNetForAudioClassification(config, with_encoder=with_encoder)


def cached_items(model: CAMuLeNetForAudioClassification, durations_s: Sequence[float]) -> list[dict]:
    """
    What the cache holds of some clips for the training of `model`: the encoder's real frames in half precision (here
    random), the branch features and the labels.
    """
    extractor = CAMuLeNetFeatureExtractor.from_model_config(model.config)
    generator = torch.Generator().manual_seed(0)
    items = []
    for index, clip in enumerate(synthetic_clips(durations_s)):
        features = extractor(clip, sampling_rate=SAMPLING_RATE, return_tensors="pt")
        # Whisper's frames are those of its mel spectrogram, halved; of the stock window only the clip's are kept.
        num_frames = (int(features["attention_mask"].sum()) + 1) // 2
        if not model.config.use_masks:
            num_frames = model.config.gate_positions  # the released code keeps the whole window
        size = model.config.encoder_config.d_model
        items.append(
            {
                "encoder_frames": torch.randn(num_frames, size, generator=generator).half(),
                "encoder_frames_mask": torch.ones(num_frames, dtype=torch.long),
                **{name: features[name][0].half() for name in ("spectrogram", "mfcc")},
                **{name: features[name][0] for name in ("spectrogram_mask", "mfcc_mask")},
                "labels": torch.tensor(index % NUM_LABELS),
                "gender_labels": torch.tensor(index % 2),
            }
        )
    return items


def cached_batch(model: CAMuLeNetForAudioClassification, durations_s: Sequence[float]) -> dict[str, torch.Tensor]:
    """A batch of `cached_items`, padded to its longest clip."""
    return collate(cached_items(model, durations_s))
