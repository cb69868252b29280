# Copyright 2026 The CAMuLeNet maintainers. Licensed under the Apache License, Version 2.0.
"""CAMuLeNet feature extractor: waveforms to the encoder's input, a mel spectrogram and MFCCs, batched in torch."""

from functools import lru_cache

import numpy as np
import torch
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.audio_utils import mel_filter_bank


# soxr is needed only for audio at another sampling rate; a checkpoint must load without it.
try:
    import soxr
except ImportError:
    soxr = None

# OpenAI's Whisper front end: 25 ms Hann windows every 10 ms over a 30 s window (transformers, WhisperFeatureExtractor).
WHISPER_N_FFT = 400
WHISPER_HOP_LENGTH = 160
WHISPER_WINDOW_S = 30

SPECTROGRAM_DEFAULTS = {
    "window_ms": 25.0,
    "hop_ms": 10.0,
    "n_fft": None,
    "window": "hann",
    "num_mel_bins": 128,
    "mel_scale": "slaney",
    "mel_norm": "slaney",
    "decibel": True,
    "pad_mode": "reflect",
}
MFCC_DEFAULTS = {
    "window_ms": 25.0,
    "hop_ms": 10.0,
    "n_fft": None,
    "window": "hann",
    "num_mel_bins": 80,
    "mel_scale": "htk",
    "mel_norm": None,
    "num_mfcc": 40,
    "pad_mode": "reflect",
}


@lru_cache(maxsize=16)
def _mel_filters(n_fft: int, num_mel_bins: int, sampling_rate: int, scale: str, norm: str | None) -> torch.Tensor:
    """Mel filter bank of shape (n_fft // 2 + 1, num_mel_bins), float32."""
    filters = mel_filter_bank(n_fft // 2 + 1, num_mel_bins, 0.0, sampling_rate / 2, sampling_rate, norm, scale)
    return torch.from_numpy(filters).float()


@lru_cache(maxsize=4)
def _dct_matrix(num_mfcc: int, num_mel_bins: int) -> torch.Tensor:
    """Orthonormal DCT-II of shape (num_mel_bins, num_mfcc), float32."""
    position = np.arange(num_mel_bins)[:, None] + 0.5
    matrix = np.cos(np.pi / num_mel_bins * position * np.arange(num_mfcc)[None, :]) * np.sqrt(2.0 / num_mel_bins)
    matrix[:, 0] /= np.sqrt(2.0)
    return torch.from_numpy(matrix).float()


def frame_mask(num_frames: torch.Tensor, max_frames: int) -> torch.Tensor:
    """Mask of shape (batch, max_frames), `torch.long`: 1 on the first `num_frames[i]` frames of clip i."""
    return (torch.arange(max_frames, device=num_frames.device)[None, :] < num_frames[:, None]).long()


def _extend(waveforms: torch.Tensor, lengths: torch.Tensor, pad: int, extent: torch.Tensor, reflect: bool):
    """
    Each clip with `pad` samples before and after it, so that no frame depends on the batch's padding.

    The signal is the clip, then silence up to `extent` samples; it is mirrored at both ends of that (`reflect`) or
    continued with silence. Mirroring goes on as often as it takes: a clip may be shorter than half a window.

    Args:
        waveforms: (batch, samples). lengths, extent: (batch,), in samples.
    Returns:
        (batch, samples + 2 * pad).
    """
    position = torch.arange(-pad, waveforms.shape[1] + pad, device=waveforms.device)[None, :]
    if reflect:
        period = (2 * (extent - 1)).clamp(min=1)[:, None]
        position = position.remainder(period)
        position = torch.minimum(position, period - position)
        position = position * (extent > 1)[:, None]
    inside = (position >= 0) & (position < lengths[:, None])
    return waveforms.gather(1, position.clamp(0, waveforms.shape[1] - 1).expand(inside.shape)) * inside


def power_spectrogram(
    waveforms: torch.Tensor,
    lengths: torch.Tensor,
    n_fft: int,
    window_length: int,
    hop_length: int,
    window: str = "hann",
    pad_mode: str = "reflect",
    extent: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Power spectrum of centred frames, equal for a clip alone and in any batch.

    Args:
        waveforms: (batch, samples), zero behind each clip. lengths: (batch,), in samples.
        n_fft, window_length, hop_length: in samples.
        extent: (batch,), the length in samples at whose end the signal is mirrored; by default the clip's.
    Returns:
        (batch, 1 + samples // hop_length, n_fft // 2 + 1); clip i has `1 + lengths[i] // hop_length` real frames.
    """
    taper = {"hann": torch.hann_window, "hamming": torch.hamming_window}[window]
    extent = lengths if extent is None else extent
    signal = _extend(waveforms, lengths, n_fft // 2, extent, pad_mode == "reflect")
    spectrum = torch.stft(
        signal,
        n_fft,
        hop_length,
        window_length,
        taper(window_length, device=signal.device),
        center=False,
        return_complex=True,
    )
    return spectrum.abs().square().transpose(1, 2)


def amplitude_to_db(power: torch.Tensor, mask: torch.Tensor, top_db: float = 80.0) -> torch.Tensor:
    """
    Decibels of a power spectrogram (batch, frames, bins), floored `top_db` below the loudest cell of each clip.

    The values of torchaudio's `AmplitudeToDB("power", top_db)` applied to each clip alone.
    """
    decibels = 10.0 * power.clamp(min=1e-10).log10()
    loudest = decibels.masked_fill(mask[:, :, None] == 0, -100.0).amax(dim=(1, 2), keepdim=True)
    return torch.maximum(decibels, loudest - top_db)


class CAMuLeNetFeatureExtractor(SequenceFeatureExtractor):
    r"""
    Constructs a CAMuLeNet feature extractor.

    From mono waveforms it computes the encoder's log-mel spectrogram (the values of `WhisperFeatureExtractor`), a mel
    spectrogram in decibels (of `torchaudio.transforms.MelSpectrogram` and `AmplitudeToDB`) and MFCCs (of
    `torchaudio.transforms.MFCC`), each (batch, frames, bins) with its mask. A clip's features never depend on the
    clips it is batched with.

    Args:
        feature_size (`int`, *optional*, defaults to 80):
            Number of mel bins of the encoder's input.
        sampling_rate (`int`, *optional*, defaults to 16000):
            Sampling rate of the model in Hz; other audio is resampled to it.
        padding_value (`float`, *optional*, defaults to 0.0):
            Value behind the end of a clip.
        encoder_context (`str`, *optional*, defaults to `"clip"`):
            `"clip"`: the clip's own frames; `"padded"`: the stock 30 s window (longer clips keep their length).
        branches (`list[str]`, *optional*, defaults to `["spectrogram", "mfcc"]`):
            Which branch features are computed.
        spectrogram (`dict`, *optional*):
            What differs from `SPECTROGRAM_DEFAULTS`: `window_ms` and `hop_ms` (milliseconds), `n_fft` (samples; by
            default the window's length), `window` (`"hann"` or `"hamming"`), `num_mel_bins`, `mel_scale`, `mel_norm`,
            `decibel` (`False`: power), `pad_mode` (`"reflect"` or `"constant"`).
        mfcc (`dict`, *optional*):
            What differs from `MFCC_DEFAULTS`: as above, and `num_mfcc`.
        fixed_duration_s (`float`, *optional*):
            Cuts or pads the branches' audio to this many seconds, as the released model does. `None`: real length.
        return_raw (`bool`, *optional*, defaults to `False`):
            Return `input_values` and `attention_mask` only; the model computes the features itself, by this code.
    """

    model_input_names = ["input_features", "attention_mask", "spectrogram", "spectrogram_mask", "mfcc", "mfcc_mask"]

    def __init__(
        self,
        feature_size: int = 80,
        sampling_rate: int = 16000,
        padding_value: float = 0.0,
        encoder_context: str = "clip",
        branches: list[str] | tuple[str, ...] = ("spectrogram", "mfcc"),
        spectrogram: dict | None = None,
        mfcc: dict | None = None,
        fixed_duration_s: float | None = None,
        return_raw: bool = False,
        **kwargs,
    ):
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)
        self.encoder_context = encoder_context
        self.branches = list(branches)
        self.spectrogram = self._settings("spectrogram", SPECTROGRAM_DEFAULTS, spectrogram)
        self.mfcc = self._settings("mfcc", MFCC_DEFAULTS, mfcc)
        self.fixed_duration_s = fixed_duration_s
        self.return_raw = return_raw
        if return_raw:
            self.model_input_names = ["input_values", "attention_mask"]

    @staticmethod
    def _settings(name: str, defaults: dict, given: dict | None) -> dict:
        unknown = sorted(set(given or {}) - set(defaults))
        if unknown:
            raise ValueError(f"Unknown {name} settings {unknown}; known are {sorted(defaults)}.")
        return {**defaults, **(given or {})}

    @classmethod
    def from_model_config(cls, config, **kwargs) -> "CAMuLeNetFeatureExtractor":
        """The feature extractor that a [`CAMuLeNetConfig`] asks for."""
        arguments = {
            "feature_size": config.encoder_config.num_mel_bins,
            "encoder_context": config.encoder_context,
            "branches": config.branches,
            **config.feature_extractor,
            **kwargs,
        }
        return cls(**arguments)

    def to_dict(self) -> dict:
        output = super().to_dict()
        # The instance's own list (return_raw) follows from return_raw; saving it would make two truths of one.
        output.pop("model_input_names", None)
        return output

    def hop_length(self, name: str) -> int:
        """Samples between two frames of `"spectrogram"` or `"mfcc"`."""
        return round(getattr(self, name)["hop_ms"] * self.sampling_rate / 1000)

    def prepare_waveform(self, raw_speech, sampling_rate: int | None = None) -> np.ndarray:
        """
        One recording as mono float32 at the model's sampling rate.

        Args:
            raw_speech: (samples,) or (channels, samples); integers are scaled to [-1, 1], channels are averaged.
            sampling_rate: of `raw_speech` in Hz; by default the model's.
        Raises:
            ValueError: empty, not finite, or of more than two dimensions.
        """
        waveform = np.asarray(raw_speech)
        if np.issubdtype(waveform.dtype, np.integer):
            waveform = waveform.astype(np.float32) / -float(np.iinfo(waveform.dtype).min or -(2**15))
        waveform = waveform.astype(np.float32, copy=False)
        if waveform.ndim == 2:
            waveform = waveform.mean(axis=0)
        if waveform.ndim != 1:
            raise ValueError(f"Expected audio of shape (samples,) or (channels, samples), got {np.shape(raw_speech)}.")
        if waveform.size == 0:
            raise ValueError("The audio is empty: it has 0 samples.")
        if not np.isfinite(waveform).all():
            raise ValueError("The audio holds NaN or infinite samples.")
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            if soxr is None:
                raise ImportError(f"Resampling {sampling_rate} Hz to {self.sampling_rate} Hz needs `pip install soxr`.")
            resampled = soxr.resample(waveform, sampling_rate, self.sampling_rate)
            # A few samples at a high rate are less than one at ours: they stay one sample.
            waveform = resampled if resampled.size else waveform[:1]
        return np.ascontiguousarray(waveform)

    def __call__(
        self,
        raw_speech,
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        padding: bool | str = True,
        device: str = "cpu",
        **kwargs,
    ) -> BatchFeature:
        """
        Features of one recording or a batch.

        Args:
            raw_speech (`np.ndarray`, `torch.Tensor`, `list[float]` or a list of these):
                Each (samples,) or (channels, samples).
            sampling_rate (`int`, *optional*):
                Sampling rate of `raw_speech` in Hz; by default the model's.
            return_tensors (`str`, *optional*):
                `"pt"` or `"np"`. By default NumPy arrays.
            padding (`bool` or `str`, *optional*, defaults to `True`):
                Clips of a batch are padded to the longest; the features of one batch have no other form.
            device (`str`, *optional*, defaults to `"cpu"`):
                Where the features are computed.

        Returns:
            `BatchFeature` with `input_features` (batch, frames, feature_size) and `attention_mask` (batch, frames),
            `spectrogram` (batch, frames, bins) and `spectrogram_mask`, `mfcc` (batch, frames, num_mfcc) and
            `mfcc_mask`; or with `return_raw` `input_values` and `attention_mask` (batch, samples).
        """
        if padding in (False, "do_not_pad"):
            raise ValueError("CAMuLeNetFeatureExtractor always pads a batch to its longest clip.")
        recordings = raw_speech if self._is_batch(raw_speech) else [raw_speech]
        waveforms = [self.prepare_waveform(recording, sampling_rate) for recording in recordings]
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        batch = torch.full((len(waveforms), int(lengths.max())), self.padding_value)
        for row, waveform in zip(batch, waveforms):
            row[: len(waveform)] = torch.from_numpy(waveform)
        if self.return_raw:
            features = {"input_values": batch, "attention_mask": frame_mask(lengths, batch.shape[1])}
        else:
            features = self.extract(batch.to(device), lengths.to(device))
        if return_tensors != "pt":
            features = {name: tensor.cpu().numpy() for name, tensor in features.items()}
        return BatchFeature(features)

    @staticmethod
    def _is_batch(raw_speech) -> bool:
        # [0.1, 0.2] is one recording, [[0.1, 0.2]] and [array] are batches; an array is always one recording.
        return isinstance(raw_speech, (list, tuple)) and len(raw_speech) > 0 and np.ndim(raw_speech[0]) > 0

    def extract(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        Features of a padded batch; the model calls this when it is given raw audio.

        Args:
            waveforms: (batch, samples). lengths: (batch,), in samples, at least 1.
        Returns:
            The tensors of [`~CAMuLeNetFeatureExtractor.__call__`].
        """
        waveforms = waveforms.float() * frame_mask(lengths, waveforms.shape[1])
        features = self._log_mel(waveforms, lengths)
        if self.fixed_duration_s is not None:
            samples = round(self.fixed_duration_s * self.sampling_rate)
            waveforms = torch.nn.functional.pad(waveforms, (0, max(samples - waveforms.shape[1], 0)))[:, :samples]
            lengths = torch.full_like(lengths, samples)
        if "spectrogram" in self.branches:
            mel, mask = self._mel(waveforms, lengths, "spectrogram")
            mel = amplitude_to_db(mel, mask) if self.spectrogram["decibel"] else mel
            features |= {"spectrogram": mel * mask[:, :, None], "spectrogram_mask": mask}
        if "mfcc" in self.branches:
            mel, mask = self._mel(waveforms, lengths, "mfcc")
            dct = _dct_matrix(self.mfcc["num_mfcc"], self.mfcc["num_mel_bins"]).to(mel.device)
            features |= {"mfcc": (amplitude_to_db(mel, mask) @ dct) * mask[:, :, None], "mfcc_mask": mask}
        return features

    def _mel(self, waveforms: torch.Tensor, lengths: torch.Tensor, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Mel power spectrogram (batch, frames, bins) of the named branch, and its mask."""
        settings = getattr(self, name)
        window_length = round(settings["window_ms"] * self.sampling_rate / 1000)
        n_fft = settings["n_fft"] or window_length
        hop_length = self.hop_length(name)
        power = power_spectrogram(
            waveforms, lengths, n_fft, window_length, hop_length, settings["window"], settings["pad_mode"]
        )
        filters = _mel_filters(
            n_fft, settings["num_mel_bins"], self.sampling_rate, settings["mel_scale"], settings["mel_norm"]
        )
        return power @ filters.to(power.device), frame_mask(1 + lengths // hop_length, power.shape[1])

    def _log_mel(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> dict[str, torch.Tensor]:
        """`input_features` and `attention_mask` with the values of `WhisperFeatureExtractor` on each clip."""
        window = WHISPER_WINDOW_S * self.sampling_rate
        longest = waveforms.shape[1]
        if self.encoder_context == "padded":
            longest = max(longest, window)
        # Whisper computes the spectrum with silence up to 30 s behind the clip: its last frames see that silence (and
        # may be the loudest, hence the two more), and only a clip of 30 s or more is mirrored at its end.
        waveforms = torch.nn.functional.pad(waveforms, (0, longest - waveforms.shape[1] + WHISPER_N_FFT))
        extent = lengths.clamp(min=window)
        power = power_spectrogram(
            waveforms, lengths, WHISPER_N_FFT, WHISPER_N_FFT, WHISPER_HOP_LENGTH, extent=extent
        )
        filters = _mel_filters(WHISPER_N_FFT, self.feature_size, self.sampling_rate, "slaney", "slaney")
        log_mel = (power @ filters.to(power.device)).clamp(min=1e-10).log10()
        heard = frame_mask(extent // WHISPER_HOP_LENGTH, log_mel.shape[1])
        loudest = log_mel.masked_fill(heard[:, :, None] == 0, -10.0).amax(dim=(1, 2), keepdim=True)
        log_mel = (torch.maximum(log_mel, loudest - 8.0) + 4.0) / 4.0

        max_frames = -(-longest // WHISPER_HOP_LENGTH)
        log_mel = log_mel[:, :max_frames]
        mask = frame_mask((lengths + WHISPER_HOP_LENGTH - 1) // WHISPER_HOP_LENGTH, max_frames)
        if self.encoder_context == "clip":
            log_mel = log_mel * mask[:, :, None]
        return {"input_features": log_mel, "attention_mask": mask}


CAMuLeNetFeatureExtractor.register_for_auto_class()

__all__ = ["CAMuLeNetFeatureExtractor"]
