"""Augmentation of training features; validation and test features are never touched."""

from collections.abc import Callable
from functools import reduce
from math import pi, sqrt

import torch
from torchaudio.transforms import FrequencyMasking, TimeMasking

from modeling_camulenet import CAMuLeNetFeatureExtractor

# Decibels of one unit of Whisper's log-mel, which is a quarter of the decimal logarithm of the power.
WHISPER_UNIT_DB = 40.0


class SpecAugment:
    """
    SpecAugment (Park et al. 2019, arXiv 1904.08779) without time warping, the masks filled with the clip's mean.

    Args:
        num_masks: masks along time, and as many along frequency, for each feature.
        max_share: the longest mask, as a share of the clip's frames or of the bins.
    """

    def __init__(self, num_masks: int = 2, max_share: float = 0.15):
        self.num_masks = num_masks
        self.max_share = max_share

    def __call__(self, item: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """
        An utterance's features by name, (frames, bins) or of all layers (frames, layers, bins), masked, alike in every
        layer; its masks and labels as they are.
        """
        return {name: self._masked(tensor) if tensor.ndim > 1 else tensor for name, tensor in item.items()}

    def _masked(self, features: torch.Tensor) -> torch.Tensor:
        masked = features.movedim(0, -1)  # torchaudio: (..., bins, frames)
        fill = float(features.float().mean())
        frequency = FrequencyMasking(int(self.max_share * masked.shape[-2]) + 1)
        time = TimeMasking(int(self.max_share * masked.shape[-1]) + 1)
        for _ in range(self.num_masks):
            masked = time(frequency(masked, fill), fill)
        return masked.movedim(-1, 0)


class RandomEqualizer:
    """
    A random smooth frequency response, the same for all features of an utterance: another microphone, room and voice.

    The response in decibels is a sum of cosines over the mel bins: a curve over the bins of the spectrogram and of
    Whisper's log-mel, a constant for each of the first MFCCs. An encoder's input of another kind is left as it is.

    Args:
        extractor: computed the features.
        deviation_db: standard deviation of each cosine's amplitude.
        num_cosines: the first is a tilt, the others finer and finer ripples.
    """

    def __init__(self, extractor: CAMuLeNetFeatureExtractor, deviation_db: float, num_cosines: int = 4):
        self.deviation_db, self.num_cosines = deviation_db, num_cosines
        self.decibel = extractor.spectrogram["decibel"]
        self.has_log_mel = extractor.encoder_input == "log_mel"
        self.mfcc_scale = sqrt(extractor.mfcc["num_mel_bins"] / 2)  # of an orthonormal cosine transform

    def __call__(self, item: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """An utterance's features (frames, bins) altered, by name; its masks and labels as they are."""
        amplitudes = torch.randn(self.num_cosines) * self.deviation_db
        altered = dict(item)
        if "spectrogram" in item:
            spectrogram = item["spectrogram"]
            curve = self._curve(amplitudes, spectrogram.shape[1])
            altered["spectrogram"] = spectrogram + curve if self.decibel else spectrogram * 10 ** (curve / 10)
        if self.has_log_mel:
            log_mel = item["input_features"]
            altered["input_features"] = log_mel + self._curve(amplitudes, log_mel.shape[1]) / WHISPER_UNIT_DB
        if "mfcc" in item:
            shift = torch.zeros(max(item["mfcc"].shape[1], 1 + self.num_cosines))
            shift[1 : 1 + self.num_cosines] = amplitudes * self.mfcc_scale
            altered["mfcc"] = item["mfcc"] + shift[: item["mfcc"].shape[1]]
        return altered

    @staticmethod
    def _curve(amplitudes: torch.Tensor, num_bins: int) -> torch.Tensor:
        position = (torch.arange(num_bins) + 0.5) / num_bins
        order = torch.arange(1, len(amplitudes) + 1)
        return torch.cos(pi * position[:, None] * order) @ amplitudes


def training_augmentation(
    extractor: CAMuLeNetFeatureExtractor, spec_augment: bool = False, equalizer_db: float | None = None
) -> Callable | None:
    """
    What alters an utterance's training features, or `None`.

    Args:
        extractor: computed the features.
        spec_augment: whether stretches are masked.
        equalizer_db: deviation of a random frequency response; `None` or 0: none.
    """
    steps = [RandomEqualizer(extractor, equalizer_db)] if equalizer_db else []
    steps += [SpecAugment()] if spec_augment else []
    return (lambda item: reduce(lambda features, step: step(features), steps, item)) if steps else None
