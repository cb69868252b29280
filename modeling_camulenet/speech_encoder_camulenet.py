# Copyright 2026 The CAMuLeNet maintainers. Licensed under the Apache License, Version 2.0.
"""The pre-trained speech encoder behind one output: frames (batch, frames, dim) and their mask."""

import torch
from torch import nn
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

# Frames by which neighbouring windows of a recording longer than the encoder's positions overlap (20 ms each). Half
# of the overlap at each inner edge is dropped: there a frame has the least context.
WINDOW_OVERLAP = 300


class ClipLengthWhisperEncoder(WhisperEncoder):
    """
    Whisper's encoder on a clip's real length.

    The stock encoder wants exactly 30 s and ignores its mask. This one takes up to that, masks the padding after every
    layer that mixes frames, and equals the stock encoder on a full window. The weights are the same.
    """

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


class SpeechEncoder(nn.Module):
    """
    A speech encoder by its configuration, with random weights; `CAMuLeNetPreTrainedModel.from_encoder_pretrained`
    brings the pre-trained ones in.

    Args:
        config: `CAMuLeNetConfig`; reads `encoder_config`, `encoder_context` and `freeze_encoder`.
    """

    def __init__(self, config):
        super().__init__()
        if config.encoder_config.model_type != "whisper":
            raise ValueError(
                f"`encoder_config.model_type` is {config.encoder_config.model_type!r}; this version of CAMuLeNet has "
                "the encoders: whisper (any size)."
            )
        # The precision is that of the model around it, not the one that the encoder's checkpoint was stored in.
        dtype = torch.get_default_dtype()
        self.encoder = ClipLengthWhisperEncoder._from_config(config.encoder_config, dtype=dtype)
        self.output_size = config.encoder_config.d_model
        self.masked = config.encoder_context == "clip"
        self.frozen = config.freeze_encoder
        self.freeze()

    def freeze(self):
        """Takes the gradients of what never trains: a frozen encoder, or only Whisper's positions."""
        (self if self.frozen else self.encoder.embed_positions).requires_grad_(False)

    def train(self, mode: bool = True):
        # A frozen encoder gives the same frames in training as in evaluation: no dropout, no layer drop.
        return super().train(mode and not self.frozen)

    def forward(
        self,
        input_features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> tuple[BaseModelOutput, torch.Tensor]:
        """
        Args:
            input_features: (batch, mel frames, num_mel_bins).
            attention_mask: (batch, mel frames); by default every frame is real.
        Returns:
            The encoder's output, whose `last_hidden_state` is (batch, frames, dim), and the frames' mask (batch,
            frames). A recording longer than the encoder's window is read in overlapping windows; it has no
            `hidden_states` or `attentions`.
        Raises:
            ValueError: `input_features` has another number of mel bins than the encoder.
        """
        num_mel_bins = self.encoder.config.num_mel_bins
        if input_features.shape[-1] != num_mel_bins:
            raise ValueError(
                f"The encoder expects `input_features` of {num_mel_bins} mel bins, got {input_features.shape[-1]}. "
                f"Use a feature extractor with feature_size={num_mel_bins}."
            )
        input_features = input_features.to(self.encoder.conv1.weight.dtype)
        if attention_mask is None:
            attention_mask = torch.ones(input_features.shape[:2], dtype=torch.long, device=input_features.device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            if input_features.shape[1] <= 2 * self.encoder.max_source_positions:
                output = self.encoder(
                    input_features.transpose(1, 2),
                    attention_mask if self.masked else None,
                    output_hidden_states=output_hidden_states,
                    output_attentions=output_attentions,
                )
            else:
                output = BaseModelOutput(last_hidden_state=self._read_in_windows(input_features, attention_mask))
        return output, attention_mask[:, ::2]

    def _read_in_windows(self, input_features: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Frames (batch, frames, dim) of a batch in which some recording is longer than the encoder's window."""
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
                frames = self.encoder(part.transpose(1, 2)).last_hidden_state[0]
                first = 0 if start == 0 else overlap // 2
                last = window if start == starts[-1] else window - (overlap - overlap // 2)
                pieces.append(frames[first:last])
            rows.append(torch.cat(pieces)[:num_frames])
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return nn.functional.pad(padded, (0, 0, 0, (input_features.shape[1] + 1) // 2 - padded.shape[1]))
