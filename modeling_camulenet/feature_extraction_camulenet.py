# Copyright 2026 The CAMuLeNet maintainers. Licensed under the Apache License, Version 2.0.
"""CAMuLeNet feature extractor: waveforms to the encoder's input, a mel spectrogram and MFCCs, batched in torch."""

from functools import lru_cache
from inspect import signature

import numpy as np
import torch

# First, and not only for these two: it names the transformers to install where this one lacks what follows.
from .configuration_camulenet import BRANCHES, ENCODER_CONTEXTS

# isort: split
from transformers import BatchFeature, SequenceFeatureExtractor
from transformers.audio_utils import mel_filter_bank, window_function
from transformers.utils.generic import maybe_autocast

# soxr is needed only for audio at another sampling rate; a checkpoint must load without it.
try:
    import soxr
except ImportError:
    soxr = None

# OpenAI's Whisper front end: 25 ms Hann windows every 10 ms over 30 s (transformers, WhisperFeatureExtractor).
WHISPER_N_FFT = 400
WHISPER_HOP_LENGTH = 160
WHISPER_WINDOW_S = 30

# Kaldi's filter bank, wav2vec2-bert's front end: 25 ms Povey windows every 10 ms, two neighbours stacked to one frame
# (transformers, SeamlessM4TFeatureExtractor).
FBANK_WINDOW_LENGTH = 400
FBANK_HOP_LENGTH = 160
FBANK_N_FFT = 512
FBANK_STRIDE = 2
FBANK_FLOOR = 1.192092955078125e-07

MAX_CHANNELS = 32
# Outside of these a rate in Hz is a mistake, and resampling would turn a second into hours.
MIN_SAMPLING_RATE, MAX_SAMPLING_RATE = 1_000, 768_000
# Times full scale. More is integers as floats, not loud speech.
MAX_AMPLITUDE = 100
# So many neighbouring mel filters are applied at a time, to the FFT bins that they read: most of a bank is zeros.
FILTERS_AT_A_TIME = 16
# Samples of clips whose features a CPU computes at a time: so many stay in its cache.
SAMPLES_AT_A_TIME = 2**18

WINDOWS = {"hann": torch.hann_window, "hamming": torch.hamming_window}
# What a setting may be, where it is a choice.
CHOICES = {
    "encoder_input": ("log_mel", "fbank", "waveform"),
    "encoder_context": ENCODER_CONTEXTS,
    "branches": BRANCHES,
    "window": tuple(WINDOWS),
    "pad_mode": ("reflect", "constant"),
}

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
def _mel_bands(
    n_fft: int, num_mel_bins: int, sampling_rate: int, scale: str, norm: str | None
) -> list[tuple[slice, np.ndarray]]:
    """
    Mel filter bank in bands of neighbouring filters: the FFT bins that a band reads, few for the low ones, and its
    filters (those bins, mel bins), float32.
    """
    filters = mel_filter_bank(n_fft // 2 + 1, num_mel_bins, 0.0, sampling_rate / 2, sampling_rate, norm, scale)
    bands = []
    for first in range(0, num_mel_bins, FILTERS_AT_A_TIME):
        band = filters[:, first : first + FILTERS_AT_A_TIME].astype(np.float32)
        read = np.flatnonzero(band.any(axis=1))
        bins = slice(int(read[0]), int(read[-1]) + 1) if read.size else slice(0, 1)
        bands.append((bins, np.ascontiguousarray(band[bins])))
    return bands


def to_mel(
    power: torch.Tensor,
    n_fft: int,
    sampling_rate: int,
    num_mel_bins: int,
    scale: str = "slaney",
    norm: str | None = "slaney",
) -> torch.Tensor:
    """Mel power spectra (..., num_mel_bins) of power spectra (..., n_fft // 2 + 1)."""
    bands = _mel_bands(n_fft, num_mel_bins, sampling_rate, scale, norm)
    return torch.cat([power[..., bins] @ torch.from_numpy(band).to(power.device) for bins, band in bands], dim=-1)


@lru_cache(maxsize=4)
def _kaldi_filters(num_mel_bins: int, sampling_rate: int) -> np.ndarray:
    """Kaldi's mel filter bank of shape (FBANK_N_FFT // 2 + 1, num_mel_bins), float64."""
    return mel_filter_bank(
        FBANK_N_FFT // 2 + 1,
        num_mel_bins,
        20,
        sampling_rate // 2,
        sampling_rate,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )


@lru_cache(maxsize=4)
def _dct_matrix(num_mfcc: int, num_mel_bins: int) -> np.ndarray:
    """Orthonormal DCT-II of shape (num_mel_bins, num_mfcc), float32."""
    position = np.arange(num_mel_bins)[:, None] + 0.5
    matrix = np.cos(np.pi / num_mel_bins * position * np.arange(num_mfcc)[None, :]) * np.sqrt(2.0 / num_mel_bins)
    matrix[:, 0] /= np.sqrt(2.0)
    return matrix.astype(np.float32)


def frame_mask(num_frames: torch.Tensor, max_frames: int) -> torch.Tensor:
    """Mask of shape (batch, max_frames), `torch.long`: 1 on the first `num_frames[i]` frames of clip i."""
    return (torch.arange(max_frames, device=num_frames.device)[None, :] < num_frames[:, None]).long()


def encoder_input_of(encoder_config) -> str:
    """
    What a speech encoder reads: `"log_mel"` (Whisper), `"fbank"` (wav2vec2-bert) or `"waveform"` (wav2vec 2.0 and all
    that begin with its convolutions).

    Raises:
        ValueError: it is no speech encoder, or none that CAMuLeNet can use.
    """
    model_type = encoder_config.model_type
    if model_type == "whisper":
        return "log_mel"
    if model_type == "wav2vec2-bert":
        return "fbank"
    # Of all architectures, only the speech encoders on raw audio have both.
    convolves = hasattr(encoder_config, "conv_kernel") and hasattr(encoder_config, "conv_stride")
    if convolves and not encoder_config.is_encoder_decoder:
        return "waveform"
    raise ValueError(
        f"{model_type!r} is no speech encoder that CAMuLeNet can use. Those are whisper, wav2vec2-bert and the "
        "encoders of raw audio: wav2vec2 (XLS-R, MMS), hubert, wavlm, data2vec-audio, unispeech, unispeech-sat, ..."
    )


def _samples_at(position: torch.Tensor, waveforms: torch.Tensor, lengths: torch.Tensor, extent: torch.Tensor):
    """
    Samples of the clip, then silence up to `extent`, mirrored at both ends of that as often as it takes: a clip may be
    shorter than half a window.

    Args:
        position: (batch, positions), in samples; any integers.
        waveforms: (batch, samples). lengths, extent: (batch,), in samples.
    Returns:
        (batch, positions).
    """
    period = (2 * (extent - 1)).clamp(min=1)[:, None]
    source = position.remainder(period)
    source = torch.minimum(source, period - source) * (extent > 1)[:, None]
    return waveforms.gather(1, source.clamp(max=waveforms.shape[1] - 1)) * (source < lengths[:, None])


def _extend(waveforms: torch.Tensor, lengths: torch.Tensor, pad: int, reflect: bool) -> torch.Tensor:
    """
    Each clip mirrored (`reflect`) or continued with silence over `pad` samples before and after it, so that no frame
    depends on the batch's padding.

    Args:
        waveforms: (batch, samples), zero behind each clip. lengths: (batch,), in samples.
    Returns:
        (batch, samples + 2 * pad).
    """
    signal = torch.nn.functional.pad(waveforms, (pad, pad))
    if reflect:
        edge = torch.arange(pad, device=waveforms.device)
        position = torch.cat(((edge - pad).expand(lengths.shape[0], -1), lengths[:, None] + edge), dim=1)
        signal = signal.scatter(1, position + pad, _samples_at(position, waveforms, lengths, lengths))
    return signal


def _windowed_power(frames: torch.Tensor, window: str, window_length: int) -> torch.Tensor:
    """Power spectra (..., n_fft // 2 + 1) of frames (..., n_fft), the window in their middle."""
    n_fft = frames.shape[-1]
    before = (n_fft - window_length) // 2
    weights = WINDOWS[window](window_length, device=frames.device)
    weights = torch.nn.functional.pad(weights, (before, n_fft - window_length - before))
    spectrum = torch.fft.rfft(frames * weights)
    return torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)


def to_level(waveforms: torch.Tensor, lengths: torch.Tensor, level_dbfs: float) -> torch.Tensor:
    """
    Clips scaled to one root mean square over their real samples; digital silence stays silent.

    Args:
        waveforms: (batch, samples), zero behind each clip. lengths: (batch,), in samples.
        level_dbfs: in decibels relative to full scale.
    Returns:
        (batch, samples).
    """
    rms = (waveforms.square().sum(dim=1) / lengths).sqrt().clamp(min=1e-6)
    return waveforms * (10 ** (level_dbfs / 20) / rms)[:, None]


def power_spectrogram(
    waveforms: torch.Tensor,
    lengths: torch.Tensor,
    n_fft: int,
    window_length: int,
    hop_length: int,
    window: str = "hann",
    pad_mode: str = "reflect",
) -> torch.Tensor:
    """
    Power spectrum of centred frames, equal for a clip alone and in any batch.

    Args:
        waveforms: (batch, samples), zero behind each clip. lengths: (batch,), in samples.
        n_fft, window_length, hop_length: in samples.
    Returns:
        (batch, 1 + samples // hop_length, n_fft // 2 + 1); clip i has `1 + lengths[i] // hop_length` real frames.
    """
    signal = _extend(waveforms, lengths, n_fft // 2, pad_mode == "reflect")
    return _windowed_power(signal.unfold(1, n_fft, hop_length), window, window_length)


def amplitude_to_db(power: torch.Tensor, mask: torch.Tensor, top_db: float = 80.0) -> torch.Tensor:
    """
    Decibels of a power spectrogram (batch, frames, bins), floored `top_db` below the loudest cell of each clip.

    The values of torchaudio's `AmplitudeToDB("power", top_db)` applied to each clip alone.
    """
    decibels = 10.0 * (power * mask[:, :, None]).clamp(min=1e-10).log10()
    return torch.maximum(decibels, decibels.amax(dim=(1, 2), keepdim=True) - top_db)


class _Spectra:
    """
    The power spectra of a batch. Features of the same windows and hops share one.

    Args:
        waveforms: (batch, samples), zero behind each clip. lengths: (batch,), in samples.
    """

    def __init__(self, waveforms: torch.Tensor, lengths: torch.Tensor):
        self.waveforms, self.lengths = waveforms, lengths
        self._computed = {}

    def power(self, n_fft: int, window_length: int, hop_length: int, window: str = "hann", pad_mode: str = "reflect"):
        """`power_spectrogram`, computed once."""
        settings = (n_fft, window_length, hop_length, window, pad_mode)
        if settings not in self._computed:
            self._computed[settings] = power_spectrogram(self.waveforms, self.lengths, *settings)
        return self._computed[settings]


class CAMuLeNetFeatureExtractor(SequenceFeatureExtractor):
    r"""
    Constructs a CAMuLeNet feature extractor.

    From mono waveforms it computes the encoder's input (the values of `WhisperFeatureExtractor`,
    `SeamlessM4TFeatureExtractor` or `Wav2Vec2FeatureExtractor`, whichever the encoder was trained on), a mel
    spectrogram in decibels (of `torchaudio.transforms.MelSpectrogram` and `AmplitudeToDB`) and MFCCs (of
    `torchaudio.transforms.MFCC`), each (batch, frames, bins) with its mask. A clip's features never depend on the
    clips it is batched with.

    Args:
        feature_size (`int`, *optional*, defaults to 80):
            Number of mel bins of the encoder's input; 1 for a waveform.
        sampling_rate (`int`, *optional*, defaults to 16000):
            Sampling rate of the model in Hz; other audio is resampled to it.
        padding_value (`float`, *optional*, defaults to 0.0):
            Value behind the end of a clip.
        encoder_input (`str`, *optional*, defaults to `"log_mel"`):
            What the encoder reads: `"log_mel"`, Whisper's spectrogram; `"fbank"`, wav2vec2-bert's Kaldi filter bank,
            each mel bin normalised over the clip; or `"waveform"`, the audio itself.
        do_normalize (`bool`, *optional*, defaults to `True`):
            Whether a `"waveform"` is given zero mean and unit variance over the clip.
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
        max_duration_s (`float`, *optional*):
            Cuts clips to this many seconds, as `pooling="flatten"` needs. `None`: read whole.
        level_dbfs (`float`, *optional*):
            Scales each clip to this root mean square, in decibels relative to full scale, before anything else is
            computed: how near the microphone was counts for nothing. `None`: as recorded.
        pad_to_max_duration (`bool`, *optional*, defaults to `False`):
            Pads the branches' audio to `max_duration_s` with silence that counts as real, as the released model does.
        return_raw (`bool`, *optional*, defaults to `False`):
            Return `input_values` and `attention_mask` only; the model computes the features itself, by this code.
    """

    model_input_names = ["input_features", "attention_mask", "spectrogram", "spectrogram_mask", "mfcc", "mfcc_mask"]

    def __init__(
        self,
        feature_size: int = 80,
        sampling_rate: int = 16000,
        padding_value: float = 0.0,
        encoder_input: str = "log_mel",
        do_normalize: bool = True,
        encoder_context: str = "clip",
        branches: list[str] | tuple[str, ...] = ("spectrogram", "mfcc"),
        spectrogram: dict | None = None,
        mfcc: dict | None = None,
        max_duration_s: float | None = None,
        level_dbfs: float | None = None,
        pad_to_max_duration: bool = False,
        return_raw: bool = False,
        **kwargs,
    ):
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)
        self.encoder_input = self._choice("encoder_input", encoder_input)
        self.do_normalize = do_normalize
        self.encoder_context = self._choice("encoder_context", encoder_context)
        self.branches = [self._choice("branches", branch) for branch in branches]
        self.spectrogram = self._settings("spectrogram", SPECTROGRAM_DEFAULTS, spectrogram)
        self.mfcc = self._settings("mfcc", MFCC_DEFAULTS, mfcc)
        self.max_duration_s = max_duration_s
        if level_dbfs is not None and level_dbfs > 0:
            raise ValueError(f"`level_dbfs` is {level_dbfs!r}; full scale is 0, expected at most that.")
        self.level_dbfs = level_dbfs
        if pad_to_max_duration and max_duration_s is None:
            raise ValueError("`pad_to_max_duration` is True; it needs `max_duration_s`, the length to pad to.")
        self.pad_to_max_duration = pad_to_max_duration
        self.return_raw = return_raw
        if return_raw:
            self.model_input_names = ["input_values", "attention_mask"]

    @staticmethod
    def _settings(name: str, defaults: dict, given: dict | None) -> dict:
        unknown = sorted(set(given or {}) - set(defaults))
        if unknown:
            raise ValueError(f"Unknown {name} settings {unknown}; known are {sorted(defaults)}.")
        settings = {**defaults, **(given or {})}
        for choice in ("window", "pad_mode"):
            CAMuLeNetFeatureExtractor._choice(choice, settings[choice])
        return settings

    @staticmethod
    def _choice(name: str, value: str) -> str:
        if value not in CHOICES[name]:
            raise ValueError(f"`{name}`: {value!r} is not one of {', '.join(CHOICES[name])}.")
        return value

    @classmethod
    def from_model_config(cls, config, **kwargs) -> "CAMuLeNetFeatureExtractor":
        """The feature extractor that a [`CAMuLeNetConfig`] asks for."""
        known = signature(cls).parameters
        unknown = sorted(set(config.feature_extractor) - set(known))
        if unknown:
            raise ValueError(f"Unknown feature_extractor settings {unknown}; known are {sorted(known)}.")
        encoder_config = config.encoder_config
        encoder_input = encoder_input_of(encoder_config)
        feature_size = 1
        if encoder_input == "log_mel":
            feature_size = encoder_config.num_mel_bins
        elif encoder_input == "fbank":
            feature_size = encoder_config.feature_projection_input_dim // FBANK_STRIDE
        arguments = {
            "feature_size": feature_size,
            "encoder_input": encoder_input,
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
            raw_speech: (samples,), or two dimensions of which the shorter one is the channels, which are averaged;
                integers of up to 32 bits are scaled to [-1, 1].
            sampling_rate: of `raw_speech` in Hz; by default the model's.
        Raises:
            ValueError: empty, not finite, of more than two dimensions, 64-bit integers or far beyond full scale, whose
                scale is lost, or at a sampling rate that no recording of speech has.
        """
        waveform = np.asarray(raw_speech.detach().cpu() if isinstance(raw_speech, torch.Tensor) else raw_speech)
        if waveform.ndim not in (1, 2):
            raise ValueError(f"Expected audio of shape (samples,) or (channels, samples), got {waveform.shape}.")
        if waveform.size == 0:
            raise ValueError("The audio is empty: it has 0 samples.")
        if np.issubdtype(waveform.dtype, np.integer):
            if waveform.dtype.itemsize > 4:
                raise ValueError(f"The audio is {waveform.dtype}, of unknown scale. Give floats, int16 or int32.")
            # Signed samples lie around 0, unsigned ones around the middle of their range.
            middle = 0.0 if waveform.dtype.kind == "i" else 1.0
            waveform = waveform / 2.0 ** (8 * waveform.dtype.itemsize - 1) - middle
        waveform = waveform.astype(np.float32, copy=False)
        if waveform.ndim == 2:
            if min(waveform.shape) > MAX_CHANNELS:
                raise ValueError(
                    f"The audio has the shape {waveform.shape}, read as {min(waveform.shape)} channels of one "
                    "recording. A batch is a list of recordings."
                )
            waveform = waveform.mean(axis=np.argmin(waveform.shape))
        if not np.isfinite(waveform).all():
            raise ValueError("The audio holds NaN or infinite samples.")
        peak = max(waveform.max(), -waveform.min())
        if peak > MAX_AMPLITUDE:
            raise ValueError(f"The audio reaches {peak:.6g}, of floats in [-1, 1]: scale it, or give it as integers.")
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            if not MIN_SAMPLING_RATE <= sampling_rate <= MAX_SAMPLING_RATE:
                raise ValueError(
                    f"The sampling rate is {sampling_rate} Hz; expected {MIN_SAMPLING_RATE} to {MAX_SAMPLING_RATE}."
                )
            if soxr is None:
                raise ImportError(
                    f"Resampling {sampling_rate} Hz to {self.sampling_rate} Hz needs `pip install soxr`."
                )
            resampled = soxr.resample(waveform, sampling_rate, self.sampling_rate)
            # A few samples at a high rate are less than one at ours: they stay one sample.
            waveform = resampled if resampled.size else waveform[:1]
        # torch shares its memory, and takes neither strides backwards nor what must not be written (np.frombuffer).
        return np.require(waveform, requirements=["C", "W"])

    def __call__(
        self,
        raw_speech,
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        padding: bool | str | None = None,
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
            padding (`bool` or `str`, *optional*):
                Clips of a batch are padded to the longest; features have no other form. Raw waveforms that become no
                tensors yet stay as long as they are: `pad` puts them together later, with their mask.
            device (`str`, *optional*, defaults to `"cpu"`):
                Where the features are computed.
            kwargs:
                With `return_raw` the other arguments of `pad`: `max_length`, `truncation`, ...

        Returns:
            `BatchFeature` with `input_features` and `attention_mask`, which are (batch, frames, feature_size) and
            (batch, frames) for `"log_mel"`, (batch, frames, 2 * feature_size) and (batch, frames) for `"fbank"`, and
            both (batch, samples) for `"waveform"`;
            `spectrogram` (batch, frames, bins) and `spectrogram_mask`, `mfcc` (batch, frames, num_mfcc) and
            `mfcc_mask`; or with `return_raw` `input_values` and `attention_mask` (batch, samples).
        """
        if padding is None:
            padding = not self.return_raw or return_tensors is not None
        if not self.return_raw and padding in (False, "do_not_pad"):
            raise ValueError("CAMuLeNetFeatureExtractor always pads a batch to its longest clip.")
        recordings = raw_speech if self._is_batch(raw_speech) else [raw_speech]
        waveforms = [self.prepare_waveform(recording, sampling_rate) for recording in recordings]
        if self.return_raw:
            raw = BatchFeature({"input_values": waveforms})
            return self.pad(raw, padding, return_tensors=return_tensors, **kwargs)
        features = self._extract_in_parts(waveforms, device)
        if return_tensors != "pt":
            features = {name: tensor.cpu().numpy() for name, tensor in features.items()}
        return BatchFeature(features)

    def _pad(self, processed_features, *args, **kwargs):
        # The base class pads (frames, feature_size); a raw waveform is (samples,).
        name = self.model_input_names[0]
        is_waveform = processed_features[name].ndim == 1 and self.feature_size > 1
        if is_waveform:
            processed_features[name] = processed_features[name][:, None]
        padded = super()._pad(processed_features, *args, **kwargs)
        if is_waveform:
            padded[name] = padded[name][:, 0]
        return padded

    @staticmethod
    def _is_batch(raw_speech) -> bool:
        # [0.1, 0.2] is one recording, [[0.1, 0.2]] and [array] are batches; an array is always one recording.
        return isinstance(raw_speech, (list, tuple)) and len(raw_speech) > 0 and np.ndim(raw_speech[0]) > 0

    def stack(
        self, waveforms: list[np.ndarray], device: str = "cpu", width: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        A padded batch (batch, samples), at least `width` samples wide, of recordings (samples,) from
        `prepare_waveform`, and their lengths.
        """
        lengths = torch.tensor([len(waveform) for waveform in waveforms])
        batch = torch.zeros(len(waveforms), max(int(lengths.max()), width))
        for row, waveform in zip(batch, waveforms):
            row[: len(waveform)] = torch.from_numpy(waveform)
        return batch.to(device), lengths.to(device)

    def _extract_in_parts(self, waveforms: list[np.ndarray], device: str) -> dict[str, torch.Tensor]:
        """Features of a batch, on a CPU a few clips of like lengths at a time, put together to the longest."""
        order = sorted(range(len(waveforms)), key=lambda row: len(waveforms[row]), reverse=True)
        longest = len(waveforms[order[0]])
        num_samples = SAMPLES_AT_A_TIME if torch.device(device).type == "cpu" else len(waveforms) * longest
        # Behind a clip in Whisper's own window lies silence, which is no zero: all are padded alike.
        width = longest if self.encoder_context == "padded" else 0
        features = {}
        while order:
            num_clips = max(num_samples // max(len(waveforms[order[0]]), width), 1)
            rows, order = order[:num_clips], order[num_clips:]
            batch, lengths = self.stack([waveforms[row] for row in rows], device, width)
            with maybe_autocast(batch.device.type, enabled=False):
                part = self._extract(batch, lengths, ("encoder", *self.branches))
            for name, tensor in part.items():
                if name not in features:  # of the longest clip
                    features[name] = tensor.new_empty(len(waveforms), *tensor.shape[1:])
                features[name][rows, : tensor.shape[1]] = tensor
                features[name][rows, tensor.shape[1] :] = 0
        return features

    def extract(
        self, waveforms: torch.Tensor, lengths: torch.Tensor, parts: tuple[str, ...] | None = None
    ) -> dict[str, torch.Tensor]:
        """
        Features of a padded batch; the model calls this when it is given raw audio.

        Args:
            waveforms: (batch, samples). lengths: (batch,), in samples, at least 1.
            parts: which features: `"encoder"` (its input), `"spectrogram"`, `"mfcc"`. By default the encoder's and
                the branches'.
        Returns:
            The tensors of [`~CAMuLeNetFeatureExtractor.__call__`].
        """
        waveforms = waveforms * (torch.arange(waveforms.shape[1], device=waveforms.device) < lengths[:, None])
        # Power spectra overflow half precision.
        with maybe_autocast(waveforms.device.type, enabled=False):
            return self._extract(waveforms.float(), lengths, parts or ("encoder", *self.branches))

    def _extract(
        self, waveforms: torch.Tensor, lengths: torch.Tensor, parts: tuple[str, ...]
    ) -> dict[str, torch.Tensor]:
        """As `extract`, of float32 waveforms that are zero behind each clip."""
        if self.max_duration_s is not None:
            samples = round(self.max_duration_s * self.sampling_rate)
            waveforms, lengths = waveforms[:, :samples], lengths.clamp(max=samples)
        if self.level_dbfs is not None:
            waveforms = to_level(waveforms, lengths, self.level_dbfs)
        spectra = _Spectra(waveforms, lengths)
        features = {}
        if "encoder" in parts and self.encoder_input == "log_mel":
            features |= self._log_mel(spectra)
        elif "encoder" in parts:
            features |= (self._fbank if self.encoder_input == "fbank" else self._waveform)(waveforms, lengths)
        if self.pad_to_max_duration:
            waveforms = torch.nn.functional.pad(waveforms, (0, samples - waveforms.shape[1]))
            spectra = _Spectra(waveforms, torch.full_like(lengths, samples))
        if "spectrogram" in parts:
            mel, mask = self._mel(spectra, "spectrogram")
            mel = amplitude_to_db(mel, mask) if self.spectrogram["decibel"] else mel
            features |= {"spectrogram": mel * mask[:, :, None], "spectrogram_mask": mask}
        if "mfcc" in parts:
            mel, mask = self._mel(spectra, "mfcc")
            dct = torch.from_numpy(_dct_matrix(self.mfcc["num_mfcc"], self.mfcc["num_mel_bins"])).to(mel.device)
            features |= {"mfcc": (amplitude_to_db(mel, mask) @ dct) * mask[:, :, None], "mfcc_mask": mask}
        return features

    def _mel(self, spectra: _Spectra, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Mel power spectrogram (batch, frames, bins) of the named branch, and its mask."""
        settings = getattr(self, name)
        window_length = round(settings["window_ms"] * self.sampling_rate / 1000)
        n_fft = settings["n_fft"] or window_length
        hop_length = self.hop_length(name)
        power = spectra.power(n_fft, window_length, hop_length, settings["window"], settings["pad_mode"])
        # An odd window is one sample short of being centred on the clip's last.
        mask = frame_mask(1 + (spectra.lengths - n_fft % 2) // hop_length, power.shape[1])
        mel = (settings[name] for name in ("num_mel_bins", "mel_scale", "mel_norm"))
        return to_mel(power, n_fft, self.sampling_rate, *mel), mask

    def _log_mel(self, spectra: _Spectra) -> dict[str, torch.Tensor]:
        """`input_features` and `attention_mask` with the values of `WhisperFeatureExtractor` on each clip."""
        waveforms, lengths = spectra.waveforms, spectra.lengths
        n_fft, hop_length = WHISPER_N_FFT, WHISPER_HOP_LENGTH
        window = WHISPER_WINDOW_S * self.sampling_rate
        longest = waveforms.shape[1]
        mel = to_mel(spectra.power(n_fft, n_fft, hop_length), n_fft, self.sampling_rate, self.feature_size)

        # Whisper computes the spectrum with silence up to 30 s behind the clip: the frames that reach over the clip's
        # end see that silence (and may be the loudest), and only a clip of 30 s or more is mirrored at its end.
        extent = lengths.clamp(min=window)
        first = ((lengths - n_fft // 2) // hop_length + 1).clamp(min=0)
        over_end = first[:, None] + torch.arange(-(-n_fft // hop_length), device=lengths.device)
        position = (over_end * hop_length - n_fft // 2)[:, :, None] + torch.arange(n_fft, device=lengths.device)
        frames = _samples_at(position.flatten(1), waveforms, lengths, extent).unflatten(1, position.shape[1:])
        mel = torch.nn.functional.pad(mel, (0, 0, 0, over_end.shape[1]))
        over_end = over_end[:, :, None].expand(-1, -1, mel.shape[2])
        power = _windowed_power(frames, "hann", n_fft)
        mel = mel.scatter(1, over_end, to_mel(power, n_fft, self.sampling_rate, self.feature_size))
        # Behind these, and behind 30 s or a longer clip's end, lies silence, not what was mirrored there.
        last = extent // hop_length
        mel = mel * frame_mask(torch.minimum(first + frames.shape[1], last), mel.shape[1])[:, :, None]

        # A begun frame counts, but Whisper drops that of a clip longer than 30 s.
        longest = max(longest, window) if self.encoder_context == "padded" else longest
        max_frames = (longest if longest > window else longest + hop_length - 1) // hop_length
        log_mel = mel.clamp(min=1e-10).log10()
        loudest = log_mel.amax(dim=(1, 2), keepdim=True)
        log_mel = torch.nn.functional.pad(log_mel, (0, 0, 0, max_frames - log_mel.shape[1]), value=-10.0)
        log_mel = (torch.maximum(log_mel, loudest - 8.0) + 4.0) * 0.25
        begun = (lengths + hop_length - 1) // hop_length
        mask = frame_mask(torch.minimum(begun, last), max_frames)
        if self.encoder_context == "clip":
            log_mel = log_mel * mask[:, :, None]
        return {"input_features": log_mel, "attention_mask": mask}

    def _fbank(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> dict[str, torch.Tensor]:
        """`input_features` and `attention_mask` with the values of `SeamlessM4TFeatureExtractor` on each clip."""
        # A clip shorter than one stacked frame is continued with silence up to it.
        shortest = FBANK_WINDOW_LENGTH + (FBANK_STRIDE - 1) * FBANK_HOP_LENGTH
        waveforms = torch.nn.functional.pad(waveforms, (0, max(shortest - waveforms.shape[1], 0)))
        num_frames = 1 + (lengths.clamp(min=shortest) - FBANK_WINDOW_LENGTH) // FBANK_HOP_LENGTH

        # The logarithm of the quietest bins is lost in single precision; Apple's GPUs have no other.
        dtype = torch.float32 if waveforms.device.type == "mps" else torch.float64
        frames = (waveforms.to(dtype) * 2**15).unfold(1, FBANK_WINDOW_LENGTH, FBANK_HOP_LENGTH)
        frames = frames - frames.mean(dim=-1, keepdim=True)
        frames = frames - 0.97 * torch.cat((frames[..., :1], frames[..., :-1]), dim=-1)
        window = torch.from_numpy(window_function(FBANK_WINDOW_LENGTH, "povey", periodic=False)).to(frames)
        power = torch.fft.rfft(frames * window, FBANK_N_FFT).abs().square()
        filters = torch.from_numpy(_kaldi_filters(self.feature_size, self.sampling_rate)).to(power)
        fbank = (power @ filters).clamp(min=FBANK_FLOOR).log()

        real = frame_mask(num_frames, fbank.shape[1])[:, :, None]
        mean = (fbank * real).sum(dim=1, keepdim=True) / num_frames[:, None, None]
        variance = ((fbank - mean) * real).square().sum(dim=1, keepdim=True) / (num_frames[:, None, None] - 1)
        fbank = ((fbank - mean) / (variance + 1e-7).sqrt() * real).float()

        # An odd last frame has no neighbour to be stacked with: it counts in the statistics, then goes.
        max_frames = fbank.shape[1] // FBANK_STRIDE
        mask = frame_mask(num_frames // FBANK_STRIDE, max_frames)
        stacked = fbank[:, : max_frames * FBANK_STRIDE].unflatten(1, (max_frames, FBANK_STRIDE)).flatten(2)
        return {"input_features": stacked * mask[:, :, None], "attention_mask": mask}

    def _waveform(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> dict[str, torch.Tensor]:
        """`input_features` and `attention_mask` with the values of `Wav2Vec2FeatureExtractor` on each clip."""
        mask = frame_mask(lengths, waveforms.shape[1])
        if self.do_normalize:
            mean = waveforms.sum(dim=1, keepdim=True) / lengths[:, None]
            centred = (waveforms - mean) * mask
            waveforms = centred / (centred.square().sum(dim=1, keepdim=True) / lengths[:, None] + 1e-7).sqrt()
        return {"input_features": waveforms, "attention_mask": mask}


CAMuLeNetFeatureExtractor.register_for_auto_class()

__all__ = ["CAMuLeNetFeatureExtractor"]
