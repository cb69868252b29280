# Copyright 2026 The CAMuLeNet maintainers. Licensed under the Apache License, Version 2.0.
"""PyTorch CAMuLeNet: Figure 1 of arXiv 2406.08931, read top to bottom. Tensors are (batch, frames, dim)."""

from contextlib import nullcontext
from dataclasses import dataclass
from math import sqrt

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import ModelOutput

from .configuration_camulenet import CAMuLeNetConfig
from .feature_extraction_camulenet import CAMuLeNetFeatureExtractor, frame_mask
from .speech_encoder_camulenet import SpeechEncoder, SpeechEncoderCheckpoint

# Each layer: output channels, kernel, stride, padding; kernel and stride of the max pool that follows, or None.
SPECTROGRAM_CONVOLUTIONS = {
    # torchvision's.
    "alexnet": (
        (64, 11, 4, 2, (3, 2)),
        (192, 5, 1, 2, (3, 2)),
        (384, 3, 1, 1, None),
        (256, 3, 1, 1, None),
        (256, 3, 1, 1, (3, 2)),
    ),
    # Of the paper's baselines.
    "small_cnn": ((16, 3, 1, 1, (2, 2)), (32, 3, 1, 1, (2, 2)), (64, 3, 1, 1, (2, 2)), (128, 3, 1, 1, (2, 2))),
}


@dataclass
class CAMuLeNetModelOutput(ModelOutput):
    """
    Output of [`CAMuLeNetModel`].

    Args:
        embeddings (`torch.FloatTensor` of shape `(batch, embedding_size)`):
            The final fused embedding: [MFCC; spectrogram; attended encoder], of these what the model has.
        co_attention_weights (`torch.FloatTensor` of shape `(batch, heads, encoder_frames)`, *optional*):
            Weights over the encoder's frames, sum 1 over the real ones and 0 on padding. With `fusion="gate"` the
            gate's own weights, which need not sum to 1; absent with the fusions that have no such weights.
        last_hidden_state (`torch.FloatTensor` of shape `(batch, encoder_frames, encoder_dim)`, *optional*):
            The encoder's frames; absent with `fusion="branches"`.
        hidden_states (`tuple(torch.FloatTensor)`, *optional*, when `output_hidden_states=True`):
            The encoder's hidden states, each (batch, encoder_frames, encoder_dim).
        attentions (`tuple(torch.FloatTensor)`, *optional*, when `output_attentions=True`):
            The encoder's self-attentions, each (batch, encoder_heads, encoder_frames, encoder_frames).
    """

    embeddings: torch.FloatTensor | None = None
    co_attention_weights: torch.FloatTensor | None = None
    last_hidden_state: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


@dataclass
class CAMuLeNetClassifierOutput(ModelOutput):
    """
    Output of [`CAMuLeNetForAudioClassification`].

    Args:
        loss (`torch.FloatTensor` of shape `(1,)`, *optional*, when `labels` are given):
            Weighted sum of the emotion's and the gender's cross-entropy, and of those of the branches' own heads.
        logits (`torch.FloatTensor` of shape `(batch, num_labels)`):
            Emotion scores before the softmax.
        gender_logits (`torch.FloatTensor` of shape `(batch, num_genders)`, *optional*, with a gender head):
            Gender scores before the softmax.
        emotion_loss, gender_loss (`torch.FloatTensor` of shape `(1,)`, *optional*):
            The two cross-entropies, unweighted, each over the labelled clips.
        embeddings, co_attention_weights, hidden_states, attentions:
            As in [`CAMuLeNetModelOutput`].
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    gender_logits: torch.FloatTensor | None = None
    emotion_loss: torch.FloatTensor | None = None
    gender_loss: torch.FloatTensor | None = None
    embeddings: torch.FloatTensor | None = None
    co_attention_weights: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


def masked_mean(frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """
    Mean over the real frames.

    Args:
        frames: (batch, frames, ...). mask: (batch, frames).
    Returns:
        (batch, ...).
    """
    weights = mask.float().view(*mask.shape, *[1] * (frames.ndim - 2))  # a sum of frames overflows half precision
    return ((frames * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)).to(frames.dtype)


def masked_mean_and_std(frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """
    Mean and standard deviation over the real frames, one behind the other.

    Args:
        frames: (batch, frames, dim). mask: (batch, frames).
    Returns:
        (batch, 2 * dim). The deviation of a single frame is the root of 1e-5, whose gradient is finite.
    """
    mean = masked_mean(frames.float(), mask)
    variance = masked_mean((frames - mean[:, None]).square(), mask)
    return torch.cat((mean, (variance + 1e-5).sqrt()), dim=1).to(frames.dtype)


def adaptive_average(hidden: torch.Tensor, lengths: torch.Tensor, num_bins: int) -> torch.Tensor:
    """
    The averages of `adaptive_avg_pool2d` along time over each clip's own frames, however long the batch is.

    Args:
        hidden: (batch, channels, frames, cells). lengths: (batch,), in frames.
    Returns:
        (batch, channels, num_bins, cells).
    """
    bins = torch.arange(num_bins, device=hidden.device)
    first = bins * lengths[:, None] // num_bins
    end = -(-(bins + 1) * lengths[:, None] // num_bins)
    frame = torch.arange(hidden.shape[2], device=hidden.device)
    inside = (frame >= first[:, :, None]) & (frame < end[:, :, None])  # (batch, num_bins, frames)
    return torch.einsum("bnt,bctf->bcnf", (inside / (end - first)[:, :, None]).to(hidden.dtype), hidden)


def reverse_gradient(hidden: torch.Tensor) -> torch.Tensor:
    """`hidden` itself, whose gradient changes its sign on the way back (Ganin and Lempitsky 2015, ICML)."""
    constant = hidden.detach()
    return constant + (constant - hidden)


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """Sum over all processes, with gradients."""
    if not _is_distributed():
        return values
    from torch.distributed.nn.functional import all_reduce  # torch alone does not import it

    return all_reduce(values)


class MaskedBatchNorm(nn.Module):
    """
    Batch normalisation over the real frames of the global batch; by running statistics in evaluation.

    A step that accumulates gradients normalises each of its batches by itself: it is not that of one large batch.

    Args:
        num_features: size of the last dimension.
        affine: whether a learned scale and shift follow.
        initial_variance: running variance before any training.
    """

    momentum = 0.1
    epsilon = 1e-5

    def __init__(self, num_features: int, affine: bool = True, initial_variance: float = 1.0):
        super().__init__()
        self.initial_variance = initial_variance
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.full((num_features,), initial_variance))
        self.register_buffer("num_batches", torch.tensor(0))

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """
        Args:
            hidden: (batch, frames, ..., num_features). mask: (batch, frames).
        Returns:
            Of the shape and dtype of `hidden`.
        """
        if self.training and not _is_distributed() and bool(mask.all()):
            return self._normalise_all(hidden)
        if self.training:
            mean, variance = self._batch_statistics(hidden.float(), mask)
        else:
            mean, variance = self.running_mean.float(), self.running_var.float()
        scale = (variance + self.epsilon).rsqrt()
        if self.weight is None:
            return ((hidden - mean) * scale).to(hidden.dtype)
        return ((hidden - mean) * (scale * self.weight) + self.bias).to(hidden.dtype)

    def _batch_statistics(self, hidden: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weights = mask.float().view(*mask.shape, *[1] * (hidden.ndim - 2)).expand(*hidden.shape[:-1], 1).flatten(0, -2)
        hidden = hidden.flatten(0, -2)
        sums = _sum_over_processes(torch.cat(((hidden * weights).sum(dim=0), weights.sum()[None])))
        count = sums[-1].clamp(min=1)
        mean = sums[:-1] / count
        # Of what is around the mean: as the mean square less the squared mean, all digits of a small one are lost.
        variance = _sum_over_processes(((hidden - mean).square() * weights).sum(dim=0)) / count
        self._update_running(mean, variance)
        return mean, variance

    def _normalise_all(self, hidden: torch.Tensor) -> torch.Tensor:
        """The same where every frame is real, by torch's own kernel, which is many times faster."""
        flat = hidden.flatten(0, -2)
        flat, mean, inverse_deviation = torch.native_batch_norm(
            flat, self.weight, self.bias, None, None, True, 0.0, self.epsilon
        )
        self._update_running(mean, inverse_deviation.square().reciprocal() - self.epsilon)
        return flat.view(hidden.shape)

    @torch.no_grad()
    def _update_running(self, mean: torch.Tensor, variance: torch.Tensor):
        # The plain mean of the first batches: a small corpus has few, and they are far from the initial values.
        self.num_batches += 1
        momentum = (1 / self.num_batches).clamp(min=self.momentum)
        for running, value in ((self.running_mean, mean), (self.running_var, variance)):
            running.lerp_(value.to(running.dtype), momentum.to(running.dtype))


class PooledNorm(MaskedBatchNorm):
    """Batch normalisation of pooled vectors (batch, num_features)."""

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Normalised vectors of the shape and dtype of `pooled`."""
        return super().forward(pooled[:, None], torch.ones_like(pooled[:, :1], dtype=torch.long))[:, 0]


class FeatureNorm(nn.Module):
    """
    Normalisation of a branch's features, per coefficient (`config.feature_norm`).

    Args:
        num_features: number of coefficients a frame.
        kind: `"batch"`: statistics of the training data, running as in batch normalisation; `"utterance"`: of the
            clip's real frames; `"time_l2"`: L2 norm along time, padding included (released code); `"none"`.
    """

    # Before any training the statistics are of the order of decibels of speech.
    initial_variance = 400.0

    def __init__(self, num_features: int, kind: str):
        super().__init__()
        self.kind = kind
        if kind == "batch":
            self.batch_norm = MaskedBatchNorm(num_features, affine=False, initial_variance=self.initial_variance)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """
        Args:
            features: (batch, frames, num_features). mask: (batch, frames).
        Returns:
            (batch, frames, num_features), 0 on padding.
        """
        features = features.float()
        if self.kind == "time_l2":
            return nn.functional.normalize(features, dim=1)
        if self.kind == "utterance":
            mean = masked_mean(features, mask)[:, None]
            variance = masked_mean((features - mean).square(), mask)[:, None]
            features = (features - mean) * (variance + 1e-5).rsqrt()
        if self.kind == "batch":
            features = self.batch_norm(features, mask)
        return features * mask[:, :, None]


class SpectrogramBranch(nn.Module):
    """
    AlexNet's convolutions, or the paper's small CNN, over the spectrogram, masked statistics over time, one fully
    connected layer. With `fusion="image"` another one reads the encoder's frames as if they were a spectrogram.

    Args:
        config: `CAMuLeNetConfig`.
        num_mel_bins: bins of the spectrogram, or the size of an encoder frame.
    """

    def __init__(self, config: CAMuLeNetConfig, num_mel_bins: int):
        super().__init__()
        self.use_masks = config.use_masks
        self.flatten = config.pooling == "flatten"
        self.bfloat16_convolutions = config.bfloat16_convolutions
        self.layers = SPECTROGRAM_CONVOLUTIONS[config.spectrogram_convolutions]
        channels = [max(round(width * config.width_multiplier), 1) for width, *_ in self.layers]
        self.feature_norm = FeatureNorm(
            num_mel_bins, "none" if config.feature_norm == "time_l2" else config.feature_norm
        )
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel, stride, padding)
            for inputs, outputs, (_, kernel, stride, padding, _) in zip([1, *channels], channels, self.layers)
        )
        self.batch_norms = nn.ModuleList(map(MaskedBatchNorm, channels)) if config.spectrogram_batch_norm else None
        self.min_frames = self._min_length()
        cells = self.num_output_frames(max(num_mel_bins, self.min_frames))
        pooled_size = channels[-1] * (36 if self.flatten else 2 * cells)
        self.pooled_norm = PooledNorm(pooled_size) if config.pooled_batch_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.projection = nn.Linear(pooled_size, config.branch_size)
        if config.alexnet_classifier:
            self.alexnet_classifier = nn.Sequential(
                nn.Linear(36 * channels[-1], 4096), nn.Linear(4096, 4096), nn.Linear(4096, config.num_labels)
            )

    def _in_bfloat16(self, hidden: torch.Tensor) -> bool:
        """Whether the convolutions are trained in half precision here; predictions are always in full."""
        wanted = self.bfloat16_convolutions and self.training and hidden.device.type == "cpu"
        return wanted and torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()

    def num_output_frames(self, num_frames: int) -> int:
        """Frames (or frequency cells) that the convolutions make of `num_frames` frames (or bins)."""
        for _, kernel, stride, padding, pool in self.layers:
            num_frames = (num_frames + 2 * padding - kernel) // stride + 1
            if pool:
                num_frames = (num_frames - pool[0]) // pool[1] + 1
        return num_frames

    def _min_length(self) -> int:
        """The fewest frames (or bins) of which the convolutions make one."""
        length = 1
        for _, kernel, stride, padding, pool in reversed(self.layers):
            if pool:
                length = (length - 1) * pool[1] + pool[0]
            length = (length - 1) * stride + kernel - 2 * padding
        return length

    def forward(self, spectrogram: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """
        Args:
            spectrogram: (batch, frames, num_mel_bins). mask: (batch, frames).
        Returns:
            (batch, branch_size).
        """
        weight = self.convolutions[0].weight
        hidden = self.feature_norm(spectrogram, mask if self.use_masks else torch.ones_like(mask)).to(weight.dtype)
        missing = [max(self.min_frames - size, 0) for size in hidden.shape[1:]]
        hidden = nn.functional.pad(hidden, (0, missing[1], 0, missing[0]))[:, None]
        lengths = mask.sum(dim=1) if self.use_masks else torch.full_like(mask[:, 0], hidden.shape[2])
        lengths = lengths.clamp(min=self.min_frames)
        # Training on stretches of one length: there is no padding to mask.
        masked = self.use_masks and not (self.training and bool((lengths == hidden.shape[2]).all()))

        # hidden: (batch, channels, frames, bins). Zeros behind a clip are what a convolution sees behind the end of
        # its input, and a pool's real outputs see real inputs only: a clip's frames are the same in any batch.
        with torch.autocast("cpu", torch.bfloat16) if self._in_bfloat16(hidden) else nullcontext():
            hidden = hidden.contiguous(memory_format=torch.channels_last)
            for layer, (convolution, (*_, kernel, stride, padding, pool)) in enumerate(
                zip(self.convolutions, self.layers)
            ):
                hidden = convolution(hidden)
                lengths = (lengths + 2 * padding - kernel) // stride + 1
                if self.batch_norms is not None:
                    real = frame_mask(lengths, hidden.shape[2])
                    hidden = self.batch_norms[layer](hidden.permute(0, 2, 3, 1), real).permute(0, 3, 1, 2)
                if pool:
                    hidden = nn.functional.max_pool2d(hidden, *pool)
                    lengths = (lengths - pool[0]) // pool[1] + 1
                hidden = nn.functional.relu(hidden)
                if masked:
                    hidden = hidden * frame_mask(lengths, hidden.shape[2])[:, None, :, None].to(hidden.dtype)
        hidden = hidden.to(weight.dtype)

        if self.flatten:
            pooled = nn.functional.adaptive_avg_pool2d(adaptive_average(hidden, lengths, 6), 6).flatten(1)
        else:
            frames = hidden.permute(0, 2, 1, 3).flatten(2)  # (batch, frames, channels * cells)
            pooled = masked_mean_and_std(frames, frame_mask(lengths, frames.shape[1]))
        return nn.functional.relu(self.projection(self.dropout(self.pooled_norm(pooled))))


class MfccBranch(nn.Module):
    """
    A bidirectional GRU over the MFCCs, masked statistics over time, one fully connected layer.

    Each direction of each layer is a GRU of its own: the backward one reads every clip reversed within its length,
    which needs no packed sequences and can be exported.

    Args:
        config: `CAMuLeNetConfig`.
        num_mfcc: coefficients a frame.
    """

    def __init__(self, config: CAMuLeNetConfig, num_mfcc: int):
        super().__init__()
        self.use_masks = config.use_masks
        self.fixed_frames = config.mfcc_frames if config.pooling == "flatten" else None
        hidden_size = max(round(config.gru_hidden_size * config.width_multiplier), 1)
        input_sizes = [num_mfcc] + [2 * hidden_size] * (config.gru_num_layers - 1)
        self.feature_norm = FeatureNorm(num_mfcc, config.feature_norm)
        self.forward_layers = nn.ModuleList(nn.GRU(size, hidden_size, batch_first=True) for size in input_sizes)
        self.backward_layers = nn.ModuleList(nn.GRU(size, hidden_size, batch_first=True) for size in input_sizes)
        self.gru_dropout = nn.Dropout(config.gru_dropout)
        self.dropout = nn.Dropout(config.dropout)
        pooled_size = 2 * hidden_size * (self.fixed_frames or 2)
        self.pooled_norm = PooledNorm(pooled_size) if config.pooled_batch_norm else nn.Identity()
        self.projection = nn.Linear(pooled_size, config.branch_size)

    def forward(self, mfcc: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """
        Args:
            mfcc: (batch, frames, num_mfcc). mask: (batch, frames).
        Returns:
            (batch, branch_size).
        Raises:
            ValueError: with `pooling="flatten"`, more frames than `mfcc_frames`.
        """
        mask = mask if self.use_masks else torch.ones_like(mask)
        hidden = self.feature_norm(mfcc, mask).to(self.projection.weight.dtype)
        index = torch.arange(mask.shape[1], device=mask.device)[None, :]
        lengths = mask.sum(dim=1, keepdim=True)
        backwards = torch.where(index < lengths, lengths - 1 - index, index)[:, :, None]

        for layer, (forward_gru, backward_gru) in enumerate(zip(self.forward_layers, self.backward_layers)):
            hidden = self.gru_dropout(hidden) if layer else hidden
            reverse = backwards.expand(-1, -1, hidden.shape[2])
            ahead, _ = forward_gru(hidden)
            back, _ = backward_gru(hidden.gather(1, reverse))
            hidden = torch.cat((ahead, back.gather(1, backwards.expand(-1, -1, back.shape[2]))), dim=2)

        if self.fixed_frames is None:
            pooled = masked_mean_and_std(hidden, mask)
        else:
            missing = self.fixed_frames - hidden.shape[1]
            if missing < 0:
                raise ValueError(
                    f"This model flattens {self.fixed_frames} MFCC frames, got {hidden.shape[1]}. Its feature "
                    "extractor cuts clips to that length (max_duration_s); the preset `camulenet` takes any length."
                )
            pooled = nn.functional.pad(hidden * mask[:, :, None], (0, 0, 0, missing)).flatten(1)
        return nn.functional.relu(self.projection(self.dropout(self.pooled_norm(pooled))))


class CoAttention(nn.Module):
    """
    Softmax attention over the encoder's frames, several heads, queried by the branches.

    Args:
        query_size: size of the query; 0 for a learned query (`fusion="attention"`).
        frame_size: size of an encoder frame.
        hidden_size: size of the output.
        num_heads: number of heads.
    """

    def __init__(self, query_size: int, frame_size: int, hidden_size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        if query_size:
            self.query = nn.Linear(query_size, hidden_size)
        else:
            self.learned_query = nn.Parameter(torch.empty(hidden_size))
        self.key = nn.Linear(frame_size, hidden_size)
        self.value = nn.Linear(frame_size, hidden_size)

    def forward(self, branches: torch.Tensor | None, frames: torch.Tensor, mask: torch.Tensor):
        """
        Args:
            branches: (batch, query_size), or `None` with a learned query.
            frames: (batch, frames, frame_size). mask: (batch, frames).
        Returns:
            (batch, hidden_size) and the weights (batch, num_heads, frames), which sum to 1 over the real frames.
        """
        query = self.learned_query.expand(frames.shape[0], -1) if branches is None else self.query(branches)
        query = query.unflatten(1, (self.num_heads, -1))
        key, value, key_bias, value_bias = (
            parameter.unflatten(0, (self.num_heads, -1))
            for parameter in (self.key.weight, self.value.weight, self.key.bias, self.value.bias)
        )
        # One query a clip: it is taken to the frames, and what is attended to the values, not every frame to both.
        scores = torch.einsum("bhf,btf->bht", torch.einsum("bhd,hdf->bhf", query, key), frames)
        scores = (scores + torch.einsum("bhd,hd->bh", query, key_bias)[:, :, None]) / sqrt(query.shape[-1])
        scores = scores.masked_fill(mask[:, None, :] == 0, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1, dtype=torch.float32).to(scores.dtype)
        attended = torch.einsum("bht,btf->bhf", weights, frames)
        return (torch.einsum("bhf,hdf->bhd", attended, value) + value_bias).flatten(1), weights


class PositionalGate(nn.Module):
    """
    The paper's gate: one rectified weight for each frame position, predicted from the branches; no key, no softmax.

    Args:
        query_size: size of the concatenated branches.
        num_positions: frame positions that have a weight.
    """

    def __init__(self, query_size: int, num_positions: int):
        super().__init__()
        self.weights = nn.Linear(query_size, num_positions)

    def forward(self, branches: torch.Tensor, frames: torch.Tensor, mask: torch.Tensor):
        """
        Args:
            branches: (batch, query_size). frames: (batch, frames, dim). mask: (batch, frames).
        Returns:
            (batch, dim) and the weights (batch, 1, frames).
        Raises:
            ValueError: more frames than positions.
        """
        if frames.shape[1] > self.weights.out_features:
            raise ValueError(
                f"fusion='gate' has weights for {self.weights.out_features} encoder frames, got {frames.shape[1]}. "
                "Use fusion='co_attention' for recordings of any length."
            )
        weights = nn.functional.relu(self.weights(branches))[:, : frames.shape[1]] * mask
        return torch.einsum("bt,btd->bd", weights, frames), weights[:, None]


class CAMuLeNetPreTrainedModel(PreTrainedModel):
    """Weight initialisation and loading, common to the CAMuLeNet models."""

    config_class = CAMuLeNetConfig
    base_model_prefix = "camulenet"
    main_input_name = "input_features"
    input_modalities = ("audio",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["WhisperEncoderLayer", "SpectrogramBranch", "MfccBranch", "CoAttention"]
    # The loss is a mean over the batch: Trainer must not rescale it by the number of items.
    accepts_loss_kwargs = False

    def __init__(self, config: CAMuLeNetConfig, *args, **kwargs):
        config.check()
        super().__init__(config, *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            init.kaiming_uniform_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.GRU):
            bound = 1 / sqrt(module.hidden_size)
            for parameter in module.parameters():
                init.uniform_(parameter, -bound, bound)
        elif isinstance(module, CoAttention) and hasattr(module, "learned_query"):
            init.normal_(module.learned_query, std=self.config.initializer_range)
        elif isinstance(module, SpeechEncoder) and module.use_weighted_layer_sum:
            init.zeros_(module.layer_weights)
        elif isinstance(module, MaskedBatchNorm):
            init.zeros_(module.running_mean)
            init.constant_(module.running_var, module.initial_variance)
            init.zeros_(module.num_batches)
            if module.weight is not None:
                init.ones_(module.weight)
                init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    @classmethod
    def from_encoder_pretrained(
        cls, encoder_name_or_path: str, config: CAMuLeNetConfig, with_encoder: bool = True, **kwargs
    ):
        """
        A model with a pre-trained encoder; all else is initialised at random.

        Args:
            encoder_name_or_path (`str`):
                Hub id or directory of a speech encoder's checkpoint, bare or inside a whole model (Whisper,
                Wav2Vec2ForCTC, ...); only its encoder half is loaded.
            config ([`CAMuLeNetConfig`]):
                The rest of the model; its `encoder_config` is replaced by the checkpoint's, and its
                `feature_extractor` normalises waveforms as the checkpoint's own does.
            with_encoder (`bool`, *optional*, defaults to `True`):
                Whether the encoder's weights are loaded. Without them the model takes `encoder_frames` only.
            kwargs:
                Passed to `from_pretrained` of the encoder: `revision`, `token`, ... The `dtype`, by default float32
                whatever the checkpoint was stored in, becomes that of the whole model.
        Raises:
            OSError: there is no such checkpoint, or it needs a token.
            ValueError: the checkpoint holds no encoder that CAMuLeNet can use, or lacks some of its weights; or its
                feature extractor has another sampling rate or size; or the model reads no encoder.
        """
        if not config.has_encoder:
            raise ValueError(f"fusion={config.fusion!r} is the branches alone: leave the encoder out.")
        checkpoint = SpeechEncoderCheckpoint(encoder_name_or_path, **kwargs)
        config.encoder_config = checkpoint.config
        config.feature_extractor = {**config.feature_extractor, **checkpoint.extractor_arguments}
        model = cls(config, with_encoder=False).to(checkpoint.dtype)
        if with_encoder:
            model.base_model.speech_encoder.take_over(checkpoint.load())
        return model

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        loaded = super().from_pretrained(*args, **kwargs)
        # transformers makes every weight that it loads trainable.
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.base_model.speech_encoder.freeze()
        return loaded


class CAMuLeNetModel(CAMuLeNetPreTrainedModel):
    """
    CAMuLeNet without heads: the fused embedding of an utterance.

    Args:
        config ([`CAMuLeNetConfig`]): the model's configuration.
        with_encoder (`bool`, *optional*, defaults to `True`):
            Whether the encoder is there. Without it the model takes `encoder_frames` only.
    """

    def __init__(self, config: CAMuLeNetConfig, with_encoder: bool = True):
        super().__init__(config)
        self.speech_encoder = SpeechEncoder(config, with_encoder and config.has_encoder)
        self.feature_extractor = CAMuLeNetFeatureExtractor.from_model_config(config)
        if "spectrogram" in config.branches:
            self.spectrogram_branch = SpectrogramBranch(config, self.feature_extractor.spectrogram["num_mel_bins"])
        if "mfcc" in config.branches:
            self.mfcc_branch = MfccBranch(config, self.feature_extractor.mfcc["num_mfcc"])

        size, frame_size = config.branch_size, self.speech_encoder.output_size
        query_size = size * len(config.branches)
        if config.fusion in ("co_attention", "attention"):
            query_size = query_size if config.fusion == "co_attention" else 0
            self.co_attention = CoAttention(query_size, frame_size, size, config.num_attention_heads)
            frame_size = size
        elif config.fusion == "gate":
            self.gate = PositionalGate(query_size, config.gate_positions)
        self.dropout = nn.Dropout(config.dropout)
        if config.fusion == "image":
            self.encoder_branch = SpectrogramBranch(config, frame_size)
        elif config.has_encoder:
            self.attended_norm = PooledNorm(frame_size) if config.pooled_batch_norm else nn.Identity()
            self.encoder_projection = nn.Linear(frame_size, size)
        self.embedding_size = size * (len(config.branches) + config.has_encoder)
        self.post_init()

    def forward(
        self,
        input_features: torch.FloatTensor | None = None,
        input_values: torch.FloatTensor | None = None,
        attention_mask: torch.LongTensor | None = None,
        spectrogram: torch.FloatTensor | None = None,
        spectrogram_mask: torch.LongTensor | None = None,
        mfcc: torch.FloatTensor | None = None,
        mfcc_mask: torch.LongTensor | None = None,
        encoder_frames: torch.FloatTensor | None = None,
        encoder_frames_mask: torch.LongTensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> CAMuLeNetModelOutput | tuple:
        r"""
        Args:
            input_features (`torch.FloatTensor` of shape `(batch, mel_frames, num_mel_bins)`, *optional*):
                What the encoder reads: its log-mel spectrogram, or for an encoder of raw audio the waveform as
                [`CAMuLeNetFeatureExtractor`] normalises it, (batch, samples).
            input_values (`torch.FloatTensor` of shape `(batch, samples)`, *optional*):
                The raw waveform, in place of all features, which the model then computes itself.
            attention_mask (`torch.LongTensor` of shape `(batch, mel_frames)` or `(batch, samples)`, *optional*):
                1 on real frames or samples; by default all are.
            spectrogram (`torch.FloatTensor` of shape `(batch, spectrogram_frames, spectrogram_bins)`, *optional*):
                The spectrogram branch's input, with `spectrogram_mask` (batch, spectrogram_frames).
            mfcc (`torch.FloatTensor` of shape `(batch, mfcc_frames, num_mfcc)`, *optional*):
                The MFCC branch's input, with `mfcc_mask` (batch, mfcc_frames).
            encoder_frames (`torch.FloatTensor` of shape `(batch, encoder_frames, encoder_dim)`, *optional*):
                What the encoder made of the clip before, in place of `input_features`, with `encoder_frames_mask`
                (batch, encoder_frames); (batch, encoder_frames, num_layers + 1, encoder_dim) with
                `use_weighted_layer_sum`. A frozen encoder need not run again, nor be there.
        """
        return_dict = self.config.return_dict if return_dict is None else return_dict
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        features = {
            "input_features": input_features,
            "attention_mask": attention_mask,
            "spectrogram": spectrogram,
            "spectrogram_mask": spectrogram_mask,
            "mfcc": mfcc,
            "mfcc_mask": mfcc_mask,
        }
        if input_values is not None:
            if attention_mask is None:
                attention_mask = torch.ones_like(input_values, dtype=torch.long)
            parts = (*(["encoder"] if self.config.has_encoder else []), *self.config.branches)
            features = self.feature_extractor.extract(input_values, attention_mask.sum(dim=1).clamp(min=1), parts)
        self._check_features(features, encoder_frames)

        if not self.config.has_encoder:
            encoder_output, frames_mask = BaseModelOutput(), None
        elif encoder_frames is None:
            encoder_output, frames_mask = self.speech_encoder(
                features["input_features"], features["attention_mask"], output_hidden_states, output_attentions
            )
        else:
            encoder_output, frames_mask = self.speech_encoder.output_of(encoder_frames, encoder_frames_mask)
        embeddings, weights = [], None
        for name in ("mfcc", "spectrogram"):
            if name in self.config.branches:
                mask = features.get(f"{name}_mask")
                mask = torch.ones_like(features[name][..., 0], dtype=torch.long) if mask is None else mask
                branch = self.mfcc_branch if name == "mfcc" else self.spectrogram_branch
                embeddings.append(branch(features[name], mask))

        if self.config.has_encoder:
            frames_mask = frames_mask if self.config.use_masks else torch.ones_like(frames_mask)
            attended, weights = self._fuse(embeddings, encoder_output.last_hidden_state, frames_mask)
            embeddings.append(attended)
        output = CAMuLeNetModelOutput(
            embeddings=torch.cat(embeddings, dim=1),
            co_attention_weights=weights,
            last_hidden_state=encoder_output.last_hidden_state,
            hidden_states=encoder_output.hidden_states,
            attentions=encoder_output.attentions,
        )
        return output if return_dict else output.to_tuple()

    def _check_features(self, features: dict[str, torch.Tensor | None], encoder_frames: torch.Tensor | None):
        of_encoder = ("input_features",) if self.config.has_encoder and encoder_frames is None else ()
        missing = [name for name in (*of_encoder, *self.config.branches) if features.get(name) is None]
        if missing:
            raise ValueError(
                f"CAMuLeNet needs {', '.join(missing)} (or `input_values` with `attention_mask` instead of all "
                "features). CAMuLeNetFeatureExtractor computes them."
            )

    def _fuse(self, branches: list[torch.Tensor], frames: torch.Tensor, mask: torch.Tensor):
        """The encoder's frames (batch, frames, dim) as an embedding (batch, branch_size), and the weights, if any."""
        if self.config.fusion == "image":
            return self.encoder_branch(frames, mask), None
        frames = frames.to(self.encoder_projection.weight.dtype)
        if self.config.fusion == "attention":
            attended, weights = self.co_attention(None, frames, mask)
        elif self.config.fusion in ("co_attention", "gate"):
            fuse = self.co_attention if self.config.fusion == "co_attention" else self.gate
            query = self.dropout(torch.cat(branches[::-1], dim=1))  # [spectrogram; MFCC]
            attended, weights = fuse(query, frames, mask)
        else:
            attended, weights = masked_mean(frames, mask), None
        return nn.functional.relu(self.encoder_projection(self.dropout(self.attended_norm(attended)))), weights


class CAMuLeNetForAudioClassification(CAMuLeNetPreTrainedModel):
    """
    CAMuLeNet with an emotion head and, unless `config.id2gender` is empty, a gender head.

    Args:
        config ([`CAMuLeNetConfig`]): the model's configuration.
        with_encoder (`bool`, *optional*, defaults to `True`):
            Whether the encoder is there. Without it the model takes `encoder_frames` only.
    """

    def __init__(self, config: CAMuLeNetConfig, with_encoder: bool = True):
        super().__init__(config)
        self.camulenet = CAMuLeNetModel(config, with_encoder)
        if not with_encoder:
            self._keys_to_ignore_on_load_unexpected = [r"speech_encoder\.encoder\."]
        hidden = config.classifier_hidden_size
        hidden = hidden if isinstance(hidden, list) else [hidden] * config.classifier_num_layers
        self.dropout = nn.Dropout(config.dropout)
        sizes = [self.camulenet.embedding_size, *hidden]
        layers = [nn.Linear(*pair) for pair in zip(sizes, sizes[1:])]
        self.shared = nn.Sequential(*(module for layer in layers for module in (layer, nn.ReLU())))
        size = sizes[-1]
        self.classifier = nn.Linear(size, config.num_labels)
        if config.num_genders:
            self.gender_classifier = nn.Linear(size, config.num_genders)
        if config.branch_loss_weight:
            num_branches = self.camulenet.embedding_size // config.branch_size
            self.branch_classifiers = self._branch_heads(num_branches, config.num_labels)
            if config.num_genders:
                self.branch_gender_classifiers = self._branch_heads(num_branches, config.num_genders)
        self.post_init()

    def forward(
        self,
        input_features: torch.FloatTensor | None = None,
        input_values: torch.FloatTensor | None = None,
        attention_mask: torch.LongTensor | None = None,
        spectrogram: torch.FloatTensor | None = None,
        spectrogram_mask: torch.LongTensor | None = None,
        mfcc: torch.FloatTensor | None = None,
        mfcc_mask: torch.LongTensor | None = None,
        encoder_frames: torch.FloatTensor | None = None,
        encoder_frames_mask: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        gender_labels: torch.LongTensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> CAMuLeNetClassifierOutput | tuple:
        r"""
        Args:
            labels (`torch.LongTensor` of shape `(batch,)`, *optional*):
                Emotions, from 0 to `num_labels - 1`; -100 where there is none.
            gender_labels (`torch.LongTensor` of shape `(batch,)`, *optional*):
                Genders, from 0 to `num_genders - 1`; -100 where there is none.

        The other arguments are those of [`CAMuLeNetModel`].
        """
        return_dict = self.config.return_dict if return_dict is None else return_dict
        output = self.camulenet(
            input_features=input_features,
            input_values=input_values,
            attention_mask=attention_mask,
            spectrogram=spectrogram,
            spectrogram_mask=spectrogram_mask,
            mfcc=mfcc,
            mfcc_mask=mfcc_mask,
            encoder_frames=encoder_frames,
            encoder_frames_mask=encoder_frames_mask,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            return_dict=True,
        )
        hidden = self.shared(self.dropout(output.embeddings))
        logits = self.classifier(hidden)
        gender_logits = self.gender_classifier(self._for_gender(hidden)) if self.config.num_genders else None

        loss = emotion_loss = gender_loss = None
        if labels is not None:
            emotion_loss = self._cross_entropy(logits, labels, self.config.label_smoothing)
            loss = self.config.emotion_loss_weight * emotion_loss
            if gender_logits is not None and gender_labels is not None:
                gender_loss = self._cross_entropy(gender_logits, gender_labels)
                loss = loss + self.config.gender_loss_weight * gender_loss
            if self.config.branch_loss_weight:
                branch_loss = self._branch_loss(output.embeddings, labels, gender_labels)
                loss = loss + self.config.branch_loss_weight * branch_loss

        output = CAMuLeNetClassifierOutput(
            loss=loss,
            logits=logits,
            gender_logits=gender_logits,
            emotion_loss=emotion_loss,
            gender_loss=gender_loss,
            embeddings=output.embeddings,
            co_attention_weights=output.co_attention_weights,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )
        return output if return_dict else output.to_tuple()

    def freeze_feature_encoder(self):
        """
        Takes the gradients of the encoder's convolutions, which only `trainable_encoder_layers=-1` trains. Under this
        name `run_audio_classification.py` asks it of every model by default.
        """
        self.camulenet.speech_encoder.freeze_convolutions()

    def _for_gender(self, hidden: torch.Tensor) -> torch.Tensor:
        """What a gender head reads of what the emotion head reads."""
        return reverse_gradient(hidden) if self.config.adversarial_gender else hidden

    def _branch_heads(self, num_branches: int, num_classes: int) -> nn.ModuleList:
        return nn.ModuleList(nn.Linear(self.config.branch_size, num_classes) for _ in range(num_branches))

    def _branch_loss(
        self, embeddings: torch.Tensor, labels: torch.Tensor, gender_labels: torch.Tensor | None
    ) -> torch.Tensor:
        """Sum over the branches' own heads of what the model's loss is, of embeddings (batch, embedding_size)."""
        config, parts = self.config, self.dropout(embeddings).split(self.config.branch_size, dim=1)
        loss = config.emotion_loss_weight * sum(
            self._cross_entropy(classifier(part), labels, config.label_smoothing)
            for classifier, part in zip(self.branch_classifiers, parts)
        )
        if gender_labels is None or not config.num_genders:
            return loss
        return loss + config.gender_loss_weight * sum(
            self._cross_entropy(classifier(self._for_gender(part)), gender_labels)
            for classifier, part in zip(self.branch_gender_classifiers, parts)
        )

    def _cross_entropy(self, logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
        """
        Mean over the labelled clips; 0, not NaN, where there is none. In training over several processes, the mean of
        all processes' values is that over the labelled clips of the global batch; a step that accumulates gradients
        takes the mean of its batches' means.
        """
        total = nn.functional.cross_entropy(
            logits.float(), labels, ignore_index=-100, reduction="sum", label_smoothing=label_smoothing
        )
        count = (labels != -100).sum()
        if self.training and _is_distributed():
            torch.distributed.all_reduce(count)
            return total * torch.distributed.get_world_size() / count.clamp(min=1)
        return total / count.clamp(min=1)

    def pipeline(self, feature_extractor: CAMuLeNetFeatureExtractor, **kwargs):
        """The audio-classification pipeline around this model; keyword arguments are the pipeline's."""
        # Imported here because `save_pretrained` copies the files that this one imports, and every checkpoint must
        # carry its pipeline.
        from .pipeline_camulenet import CAMuLeNetPipeline

        return CAMuLeNetPipeline(
            model=self, feature_extractor=feature_extractor, task="audio-classification", **kwargs
        )


CAMuLeNetModel.register_for_auto_class("AutoModel")
CAMuLeNetForAudioClassification.register_for_auto_class("AutoModelForAudioClassification")

__all__ = ["CAMuLeNetForAudioClassification", "CAMuLeNetModel", "CAMuLeNetPreTrainedModel"]
