# Copyright 2026 The CAMuLeNet maintainers. Licensed under the Apache License, Version 2.0.
"""The pre-trained speech encoder behind one output: frames (batch, frames, dim) and their mask."""

from copy import deepcopy

import torch
from torch import nn
from transformers import MODEL_MAPPING, AutoConfig, AutoFeatureExtractor, PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from transformers.utils import logging
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .feature_extraction_camulenet import FBANK_STRIDE, CAMuLeNetFeatureExtractor, encoder_input_of, frame_mask

logger = logging.get_logger(__name__)

# Frames by which neighbouring windows of a recording longer than the encoder's positions overlap (20 ms each). Half
# of the overlap at each inner edge is dropped: there a frame has the least context.
WINDOW_OVERLAP = 300

# Architectures whose real frames never see padding, given their mask and `keep_padding_out`; tests hold each. Others
# (sew, wav2vec2-conformer, ...) read clips of the same length together, unpadded.
MASKED_ENCODERS = (
    "data2vec-audio",
    "hubert",
    "unispeech",
    "unispeech-sat",
    "wav2vec2",
    "wav2vec2-bert",
    "wavlm",
    "whisper",
)

# What an encoder is built without: masking its own frames (SpecAugment), skipping layers, whose gradients and hidden
# states would be missing, and the adapter that shortens the frames for a text decoder.
LEFT_OUT = {
    "apply_spec_augment": False,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "layerdrop": 0.0,
    "encoder_layerdrop": 0.0,
    "add_adapter": False,
    "use_intermediate_ffn_before_adapter": False,
}
# What SpecAugment puts in the place of a masked frame. unispeech-sat builds it even without; it is never read.
SPEC_AUGMENT_VECTOR = "masked_spec_embed"


class ClipLengthWhisperEncoder(WhisperEncoder):
    """
    Whisper's encoder on a clip's real length.

    The stock encoder wants exactly 30 s and ignores its mask. This one takes up to that, masks the padding after every
    layer that mixes frames, and equals the stock encoder on a full window. The weights are the same.
    """

    # Of a whole Whisper: no news that the rest of it is left out.
    _keys_to_ignore_on_load_unexpected = [r"^(model\.)?decoder\.", r"^proj_out\."]

    @merge_with_config_defaults
    @capture_outputs
    def forward(self, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs):
        """
        Args:
            input_features: (batch, num_mel_bins, mel frames), at most 2 * max_source_positions frames.
            attention_mask: (batch, mel frames), or `None` when every frame is real.
        Returns:
            `BaseModelOutput` with (batch, ceil(mel frames / 2), d_model).
        """
        padding = None if attention_mask is None else attention_mask[:, None, :].to(input_features.dtype)
        # Zeros behind the clip are what a convolution sees behind the end of its input.
        hidden_states = input_features if padding is None else input_features * padding
        hidden_states = nn.functional.gelu(self.conv1(hidden_states))
        hidden_states = hidden_states if padding is None else hidden_states * padding
        hidden_states = nn.functional.gelu(self.conv2(hidden_states)).permute(0, 2, 1)
        positions = torch.arange(hidden_states.shape[1], device=hidden_states.device)
        hidden_states = hidden_states + self.embed_positions(positions)
        hidden_states = nn.functional.dropout(hidden_states, p=self.dropout, training=self.training)

        mask = create_bidirectional_mask(
            config=self.config,
            inputs_embeds=hidden_states,
            attention_mask=None if attention_mask is None else attention_mask[:, ::2],
        )
        for layer in self.layers:
            if self.training and torch.rand([]) < self.layerdrop:
                continue
            hidden_states = layer(hidden_states, mask, **kwargs)
        return BaseModelOutput(last_hidden_state=self.layer_norm(hidden_states))


class MaskedGroupNormConvLayer(GradientCheckpointingLayer):
    """
    The first convolution of a `feat_extract_norm="group"` encoder, its norm over time over the clip's own frames.

    The stock norm (one group a channel) counts the zeros behind a clip, so that every frame depends on the padding.

    Args:
        layer: the stock layer, whose parameters this one takes over under their names.
    """

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.conv, self.layer_norm, self.activation = layer.conv, layer.layer_norm, layer.activation

    def forward(self, hidden_states: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """
        Args:
            hidden_states: (batch, 1, samples). lengths: (batch,), in samples.
        Returns:
            (batch, channels, frames).
        """
        hidden_states = self.conv(hidden_states)
        num_frames = (lengths - self.conv.kernel_size[0]) // self.conv.stride[0] + 1
        count = num_frames[:, None, None]
        # A sum over time overflows half precision.
        values = hidden_states.to(torch.promote_types(hidden_states.dtype, torch.float32))
        mask = frame_mask(num_frames, values.shape[2])[:, None].to(values.dtype)
        # These are the longest activations of the encoder: as few passes over them as it takes.
        values = (values - values @ mask.transpose(1, 2) / count) * mask
        variance = torch.linalg.vector_norm(values, dim=2, keepdim=True).square() / count
        scale = (variance + self.layer_norm.eps).rsqrt() * self.layer_norm.weight[:, None]
        values = torch.addcmul(self.layer_norm.bias[:, None].to(values.dtype), values, scale.to(values.dtype))
        return self.activation(values.to(hidden_states.dtype))


class MaskedFeatureEncoder(nn.Module):
    """
    The convolutions of a `feat_extract_norm="group"` encoder. They read (waveforms, lengths) where the stock ones read
    waveforms: the encoder around them hands its input on as it is.

    Args:
        feature_encoder: the stock convolutions, whose parameters these take over under their names.
    """

    def __init__(self, feature_encoder: nn.Module):
        super().__init__()
        first, *others = feature_encoder.conv_layers
        self.conv_layers = nn.ModuleList([MaskedGroupNormConvLayer(first), *others])

    def forward(self, input_values: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """
        Args:
            input_values: waveforms (batch, samples) and lengths (batch,), in samples.
        Returns:
            (batch, channels, frames).
        """
        waveforms, lengths = input_values
        first, *others = self.conv_layers
        hidden_states = first(waveforms[:, None], lengths)
        for layer in others:
            hidden_states = layer(hidden_states)
        return hidden_states


def _zeros_stay_zeros(module: nn.Module, args: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
    """Forward hook: frames (batch, dim, frames) that come in as zeros, as padding does, go out as zeros."""
    return output * args[0].ne(0).any(dim=1, keepdim=True)


def keep_padding_out(encoder: PreTrainedModel) -> PreTrainedModel:
    """
    Mends, in place, what in a stock encoder reads padding in spite of the mask. The names of its weights stay.

    What is mended: a group norm over time, and what follows one another inside the positional convolution, to which
    padding comes as zeros but of which a batch norm or an inner layer makes something else.
    """
    config = encoder.config
    if config.model_type not in MASKED_ENCODERS:
        return encoder
    if getattr(config, "feat_extract_norm", None) == "group" and config.model_type != "data2vec-audio":
        encoder.feature_extractor = MaskedFeatureEncoder(encoder.feature_extractor)
    if config.model_type == "data2vec-audio":
        for layer in encoder.encoder.pos_conv_embed.layers:
            layer.register_forward_hook(_zeros_stay_zeros)
    if getattr(config, "conv_pos_batch_norm", False):
        encoder.encoder.pos_conv_embed.batch_norm.register_forward_hook(_zeros_stay_zeros)
    return encoder


def _encoder_class(encoder_config) -> type[PreTrainedModel]:
    encoder_input_of(encoder_config)
    return ClipLengthWhisperEncoder if encoder_config.model_type == "whisper" else MODEL_MAPPING[type(encoder_config)]


def _config_of_encoder(encoder_config):
    """Copy of an encoder's configuration without what an encoder is built without."""
    encoder_config = deepcopy(encoder_config)
    for name, value in LEFT_OUT.items():
        if hasattr(encoder_config, name):
            setattr(encoder_config, name, value)
    if encoder_config._attn_implementation == "sdpa" and not _encoder_class(encoder_config)._supports_sdpa:
        encoder_config._attn_implementation = "eager"  # WavLM's attention is its own
    return encoder_config


class SpeechEncoderCheckpoint:
    """
    A pre-trained speech encoder where it lies: what it is, without its weights until they are asked for.

    Args:
        encoder_name_or_path: Hub id or directory of a checkpoint; only its encoder half is used.
        dtype: of the weights, whatever they were stored in.
        kwargs: passed to `from_pretrained`: `revision`, `token`, ...
    Attributes:
        config: the encoder's configuration.
        extractor_arguments: arguments of [`CAMuLeNetFeatureExtractor`] that give it what it was trained on.
    Raises:
        OSError: there is no such checkpoint, or it needs a token.
        ValueError: the checkpoint holds no encoder that CAMuLeNet can use, or its feature extractor does not go with
            it.
    """

    def __init__(self, encoder_name_or_path: str, dtype: torch.dtype = torch.float32, **kwargs):
        self.name, self.dtype, self.kwargs = encoder_name_or_path, dtype, kwargs
        hub_arguments = ("revision", "token", "cache_dir", "local_files_only", "subfolder")
        hub = {name: kwargs[name] for name in hub_arguments if name in kwargs}
        config = AutoConfig.from_pretrained(encoder_name_or_path, **hub)
        # Without a key mapping the keys of a whole Whisper do not match the encoder's, which would stay random in
        # silence.
        self._key_mapping = {r"^(model\.)?encoder\.": ""} if config.model_type == "whisper" else None
        if config.model_type == "speech-encoder-decoder":
            config, self._key_mapping = config.encoder, {r"^encoder\.": ""}
        try:
            self._class = _encoder_class(config)
        except ValueError as error:
            raise ValueError(f"{encoder_name_or_path} is a {config.model_type!r} checkpoint: {error}") from None
        self.config = _config_of_encoder(config)
        self.extractor_arguments = _extractor_arguments(encoder_name_or_path, self.config, hub)

    def load(self) -> PreTrainedModel:
        """
        The encoder with its weights.

        Raises:
            ValueError: the checkpoint lacks some of its weights.
        """
        encoder, report = self._class.from_pretrained(
            self.name,
            config=self.config,
            key_mapping=self._key_mapping,
            output_loading_info=True,
            dtype=self.dtype,
            **self.kwargs,
        )
        missing = sorted(set(report["missing_keys"]) - {SPEC_AUGMENT_VECTOR})
        if missing:
            raise ValueError(f"{self.name} lacks encoder weights: {missing[:5]} ...")
        return encoder


def _extractor_arguments(encoder_name_or_path: str, encoder_config, hub: dict) -> dict:
    """Arguments of [`CAMuLeNetFeatureExtractor`] that the checkpoint's own feature extractor asks for."""
    encoder_input = encoder_input_of(encoder_config)
    try:
        stock = AutoFeatureExtractor.from_pretrained(encoder_name_or_path, **hub)
    except (OSError, ValueError) as error:
        logger.warning(
            f"{encoder_name_or_path}: its feature extractor cannot be read; that of its architecture is taken, at "
            f"16000 Hz. ({error})"
        )
        return {}
    sampling_rate = CAMuLeNetFeatureExtractor().sampling_rate
    if stock.sampling_rate != sampling_rate:
        raise ValueError(
            f"{encoder_name_or_path} was trained on audio at {stock.sampling_rate} Hz; CAMuLeNet's is at "
            f"{sampling_rate} Hz. Choose a checkpoint of that rate."
        )
    if encoder_input == "waveform":
        return {"do_normalize": bool(getattr(stock, "do_normalize", True))}
    name, size = ("num_mel_bins", stock.feature_size)
    if encoder_input == "fbank":
        name, size = ("feature_projection_input_dim", stock.num_mel_bins * stock.stride)
        if stock.stride != FBANK_STRIDE:
            raise ValueError(
                f"{encoder_name_or_path}: its feature extractor stacks {stock.stride} frames; CAMuLeNet's stacks "
                f"{FBANK_STRIDE}."
            )
    if size != getattr(encoder_config, name):
        raise ValueError(
            f"{encoder_name_or_path}: its feature extractor computes {size} values a frame, its encoder expects "
            f"{getattr(encoder_config, name)} ({name})."
        )
    return {}


class AbsentEncoder(nn.Module):
    """
    A frozen encoder whose frames were computed before: its configuration without its weights.

    Args:
        config: the encoder's configuration.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, *args, **kwargs):
        raise ValueError(
            "This model was built without its encoder and takes `encoder_frames` only. Build it with_encoder=True, or "
            "load it from its checkpoint, to give it audio."
        )


def _layers_of_output(output: BaseModelOutput) -> list[torch.Tensor]:
    """Hidden states, if there are any, and then the last one as the encoder returns it; (batch, frames, dim) each."""
    return [*(output.hidden_states or ()), output.last_hidden_state]


def _padded_output(rows: list[list[torch.Tensor]], num_frames: int) -> BaseModelOutput:
    """The output of a batch, padded to `num_frames`, from each row's layers (frames, dim), as `_layers_of_output`."""
    layers = [
        torch.stack([nn.functional.pad(frames, (0, 0, 0, num_frames - len(frames))) for frames in layer])
        for layer in zip(*rows)
    ]
    return BaseModelOutput(last_hidden_state=layers[-1], hidden_states=tuple(layers[:-1]) or None)


class SpeechEncoder(nn.Module):
    """
    A speech encoder by its configuration, with random weights; `CAMuLeNetPreTrainedModel.from_encoder_pretrained`
    brings the pre-trained ones in.

    A batch equals its clips one by one, whatever the architecture.

    Args:
        config: `CAMuLeNetConfig`; reads `encoder_config`, `encoder_context`, `trainable_encoder_layers` and
            `use_weighted_layer_sum`.
        with_encoder: whether the encoder itself is there; only a frozen one can be left out.
    Raises:
        ValueError: no speech encoder that CAMuLeNet can use; a context or a number of layers that it does not have.
    """

    def __init__(self, config, with_encoder: bool = True):
        super().__init__()
        encoder_config = _config_of_encoder(config.encoder_config)
        self.encoder_input = encoder_input_of(encoder_config)
        if config.encoder_context == "padded" and self.encoder_input != "log_mel":
            raise ValueError(
                f"encoder_context='padded' is Whisper's 30 s window; a {encoder_config.model_type} encoder reads a "
                "clip at its own length: use encoder_context='clip'."
            )
        if with_encoder:
            # The precision is that of the model around it, not the one that the encoder's checkpoint was stored in.
            from_config = _encoder_class(encoder_config)._from_config
            self.encoder = keep_padding_out(from_config(encoder_config, dtype=torch.get_default_dtype()))
        else:
            self.encoder = AbsentEncoder(encoder_config)
        self.output_size = encoder_config.hidden_size
        self.masked = config.encoder_context == "clip"
        self.trainable_layers = config.trainable_encoder_layers
        num_layers = encoder_config.num_hidden_layers
        if self.trainable_layers > num_layers:
            raise ValueError(
                f"trainable_encoder_layers is {self.trainable_layers}; the encoder has {num_layers} layers."
            )
        if config.use_weighted_layer_sum:
            self.layer_weights = nn.Parameter(torch.zeros(num_layers + 1))
        self.use_weighted_layer_sum = config.use_weighted_layer_sum
        self.adapted = False  # whether a frozen encoder's layers hold adapters (LoRA), which are trained
        if with_encoder:
            self.freeze()
            self.train()

    @property
    def is_trained(self) -> bool:
        """Whether training changes the encoder's frames."""
        return self.adapted or self.trainable_layers != 0

    @property
    def layers(self) -> nn.ModuleList:
        """The encoder's transformer layers."""
        if self.encoder_input == "log_mel":
            return self.encoder.layers
        inner = self.encoder.encoder
        return inner.layers if hasattr(inner, "layers") else inner.encoder.layer  # SEW-D's lie one deeper

    def take_over(self, encoder: PreTrainedModel):
        """Puts an encoder with pre-trained weights in the place of the random one."""
        self.encoder = keep_padding_out(encoder)
        self.freeze()
        self.train()

    def _trained_modules(self) -> list[nn.Module]:
        if self.trainable_layers == -1:
            return [self.encoder]
        if self.trainable_layers == 0:
            return []
        modules = list(self.layers[-self.trainable_layers :])
        # The norm behind the last layer, where there is one.
        if self.encoder_input == "log_mel":
            modules.append(self.encoder.layer_norm)
        elif getattr(self.encoder.config, "do_stable_layer_norm", False):
            modules.append(self.encoder.encoder.layer_norm)
        return modules

    def freeze(self):
        """Takes the gradients of what never trains: all but the trained layers, and Whisper's positions."""
        if isinstance(self.encoder, AbsentEncoder):
            return
        self.encoder.requires_grad_(False)
        for module in self._trained_modules():
            module.requires_grad_(True)
        if self.encoder_input == "log_mel":
            self.encoder.embed_positions.requires_grad_(False)
        elif hasattr(self.encoder, SPEC_AUGMENT_VECTOR):
            getattr(self.encoder, SPEC_AUGMENT_VECTOR).requires_grad_(False)

    def freeze_convolutions(self):
        """Takes the gradients of the convolutions before the layers, for `trainable_encoder_layers=-1`."""
        for name in ("conv1", "conv2", "feature_extractor"):
            if hasattr(self.encoder, name):
                getattr(self.encoder, name).requires_grad_(False)

    def train(self, mode: bool = True):
        # What is frozen gives the same frames in training as in evaluation: no dropout.
        super().train(False)
        for module in self.layers if self.adapted else self._trained_modules():
            module.train(mode)
        for module in self.encoder.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()  # the statistics are the pre-training's: a batch's hold padding
        self.training = mode and self.is_trained
        return self

    def num_frames(self, lengths: torch.Tensor) -> torch.Tensor:
        """Real frames that the encoder makes of inputs (batch,) of `lengths` mel frames, stacked frames or samples."""
        if self.encoder_input == "log_mel":
            return (lengths + 1) // 2
        if self.encoder_input == "waveform":
            lengths = lengths.clamp(min=self._min_length())
            for kernel, stride in zip(self.encoder.config.conv_kernel, self.encoder.config.conv_stride):
                lengths = (lengths - kernel) // stride + 1
        return lengths.clamp(min=1)

    def _min_length(self) -> int:
        """The shortest input of which the encoder makes a frame."""
        if self.encoder_input != "waveform":
            return 1
        config = self.encoder.config
        length = getattr(config, "squeeze_factor", 1)  # SEW's layers read so many frames as one
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride)):
            length = (length - 1) * stride + kernel
        return length

    def forward(
        self,
        input_features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> tuple[BaseModelOutput, torch.Tensor]:
        """
        The frames that the rest of the model reads: [`~SpeechEncoder.encode`], and with `use_weighted_layer_sum` the
        learned sum of its hidden states in the place of `last_hidden_state`.
        """
        every_layer = output_hidden_states or self.use_weighted_layer_sum
        output, mask = self.encode(input_features, attention_mask, every_layer, output_attentions)
        if self.use_weighted_layer_sum:
            output.last_hidden_state = self.weighted_sum(output.hidden_states)
            output.hidden_states = output.hidden_states if output_hidden_states else None
        return output, mask

    def output_of(
        self, encoder_frames: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[BaseModelOutput, torch.Tensor]:
        """
        What [`~SpeechEncoder.forward`] returns, of frames that the encoder made before.

        Args:
            encoder_frames: (batch, frames, dim), or with `use_weighted_layer_sum` every layer's, (batch, frames,
                num_layers + 1, dim).
            mask: (batch, frames); by default all are real.
        Raises:
            ValueError: frames of another encoder.
        """
        layers = (len(self.layer_weights),) if self.use_weighted_layer_sum else ()
        if encoder_frames.shape[2:] != (*layers, self.output_size):
            raise ValueError(
                f"`encoder_frames` has the shape {tuple(encoder_frames.shape)}, expected (batch, frames, "
                f"{', '.join(map(str, (*layers, self.output_size)))})."
            )
        if mask is None:
            mask = torch.ones(encoder_frames.shape[:2], dtype=torch.long, device=encoder_frames.device)
        if self.use_weighted_layer_sum:
            encoder_frames = self.weighted_sum(encoder_frames.unbind(2))
        return BaseModelOutput(last_hidden_state=encoder_frames), mask

    def weighted_sum(self, hidden_states: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """
        The learned sum of the encoder's hidden states.

        Args:
            hidden_states: num_layers + 1 tensors (batch, frames, dim).
        Returns:
            (batch, frames, dim).
        """
        weights = self.layer_weights.softmax(dim=0)
        return sum(weight * hidden_state for weight, hidden_state in zip(weights, hidden_states, strict=True))

    def encode(
        self,
        input_features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> tuple[BaseModelOutput, torch.Tensor]:
        """
        The encoder's own output, which for a frozen encoder is the same at every step.

        Args:
            input_features: what [`CAMuLeNetFeatureExtractor`] computes for this encoder: (batch, mel frames,
                num_mel_bins), (batch, stacked frames, feature_projection_input_dim) or (batch, samples).
            attention_mask: (batch, the same frames or samples); by default all are real.
        Returns:
            The encoder's output, whose `last_hidden_state` is (batch, frames, dim), and the frames' mask (batch,
            frames). Recordings longer than Whisper's window are read in overlapping windows, and encoders that have
            no exact mask read clips of one length at a time: there are no `attentions` then.
        Raises:
            ValueError: `input_features` are another encoder's.
        """
        self._check_input(input_features)
        input_features = input_features.to(self.encoder.dtype)
        if attention_mask is None:
            attention_mask = torch.ones(input_features.shape[:2], dtype=torch.long, device=input_features.device)
        outputs = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.is_trained):
            if self.encoder_input == "log_mel":
                return self._encode_log_mel(input_features, attention_mask, **outputs), attention_mask[:, ::2]
            return self._encode(input_features, attention_mask, **outputs)

    def _check_input(self, input_features: torch.Tensor):
        if self.encoder_input == "waveform":
            if input_features.ndim != 2:
                raise ValueError(
                    "The encoder expects waveforms (batch, samples) as `input_features`, got the shape "
                    f"{tuple(input_features.shape)}. Use a feature extractor with encoder_input='waveform'."
                )
            return
        config = self.encoder.config
        size = config.num_mel_bins if self.encoder_input == "log_mel" else config.feature_projection_input_dim
        if input_features.ndim != 3 or input_features.shape[-1] != size:
            feature_size = size if self.encoder_input == "log_mel" else size // FBANK_STRIDE
            raise ValueError(
                f"The encoder expects `input_features` of {size} mel bins, got {input_features.shape[-1]}. Use a "
                f"feature extractor with encoder_input={self.encoder_input!r} and feature_size={feature_size}."
            )

    def _encode(
        self, inputs: torch.Tensor, attention_mask: torch.Tensor, output_hidden_states: bool, output_attentions: bool
    ) -> tuple[BaseModelOutput, torch.Tensor]:
        """Of encoders that read a clip of any length: all but Whisper."""
        shortest = self._min_length()
        missing = max(shortest - inputs.shape[1], 0)
        inputs = nn.functional.pad(inputs, (0, 0) * (inputs.ndim - 2) + (0, missing))
        lengths = attention_mask.sum(dim=1).clamp(min=shortest)
        mask = frame_mask(lengths, inputs.shape[1])
        inputs = inputs * nn.functional.pad(attention_mask, (0, missing)).to(inputs.dtype).view(
            *mask.shape, *[1] * (inputs.ndim - 2)
        )
        if self.encoder.config.model_type in MASKED_ENCODERS:
            masked_norm = isinstance(getattr(self.encoder, "feature_extractor", None), MaskedFeatureEncoder)
            output = self.encoder(
                (inputs, lengths) if masked_norm else inputs,
                attention_mask=mask,
                output_hidden_states=output_hidden_states,
                output_attentions=output_attentions,
            )
        else:
            output = self._encode_by_length(inputs, lengths, output_hidden_states)
        return output, frame_mask(self.num_frames(lengths), output.last_hidden_state.shape[1])

    def _encode_by_length(self, inputs: torch.Tensor, lengths: torch.Tensor, output_hidden_states: bool):
        rows = [None] * len(inputs)
        for length in lengths.unique().tolist():
            same = (lengths == length).nonzero().flatten()
            output = self.encoder(inputs[same, :length], output_hidden_states=output_hidden_states)
            for row, *layers in zip(same.tolist(), *_layers_of_output(output)):
                rows[row] = layers
        return _padded_output(rows, max(len(layers[-1]) for layers in rows))

    def _encode_log_mel(
        self, input_features: torch.Tensor, attention_mask: torch.Tensor, output_hidden_states, output_attentions
    ) -> BaseModelOutput:
        """Of Whisper, at the clip's length or in its window."""
        if input_features.shape[1] > 2 * self.encoder.max_source_positions:
            return self._read_in_windows(input_features, attention_mask, output_hidden_states)
        return self.encoder(
            input_features.transpose(1, 2),
            attention_mask if self.masked else None,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )

    def _read_in_windows(
        self, input_features: torch.Tensor, attention_mask: torch.Tensor, output_hidden_states: bool
    ) -> BaseModelOutput:
        """Output of a batch in which some recording is longer than the encoder's window."""
        window = self.encoder.max_source_positions
        overlap = min(WINDOW_OVERLAP, window // 2)
        rows = []
        # One recording at a time: where its windows lie depends on its own length only.
        for features, mask in zip(input_features, attention_mask):
            end = max(int(mask.sum()), 1)
            num_frames = (end + 1) // 2
            starts = range(0, max(num_frames - overlap, 1), window - overlap)
            if not self.masked:
                end = 2 * (starts[-1] + window)
                # Whisper's log-mel of silence: 8 below the loudest cell in log10, scaled by 4, at least that of 1e-10.
                silence = max(float(features.max()) - 2.0, -1.5)
                features = nn.functional.pad(features, (0, 0, 0, max(end - len(features), 0)), value=silence)
            features = features[:end]
            pieces = []
            for start in starts:
                part = features[None, 2 * start : 2 * (start + window)]
                output = self.encoder(part.transpose(1, 2), output_hidden_states=output_hidden_states)
                first = 0 if start == 0 else overlap // 2
                last = window if start == starts[-1] else window - (overlap - overlap // 2)
                pieces.append([layer[0, first:last] for layer in _layers_of_output(output)])
            rows.append([torch.cat(layer)[:num_frames] for layer in zip(*pieces)])
        return _padded_output(rows, (input_features.shape[1] + 1) // 2)
