"""Configurations of tiny speech encoders, one for each architecture and each way its convolutions are normalised."""

from pathlib import Path

import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForSequenceClassification

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
CONVOLUTIONS = {  # the fewest samples are 30, a frame every 20
    "conv_dim": (8, 8, 8),
    "conv_kernel": (10, 3, 2),
    "conv_stride": (5, 2, 2),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}


def encoder_of_audio(model_type: str, norm: str, **others) -> dict:
    return {
        "model_type": model_type,
        **SIZES,
        **CONVOLUTIONS,
        "feat_extract_norm": norm,
        "do_stable_layer_norm": norm == "layer",
        **others,
    }


OF_AUDIO = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat")
ENCODERS = {
    **{f"{name}, {norm} norm": encoder_of_audio(name, norm) for name in OF_AUDIO for norm in ("group", "layer")},
    "mms": encoder_of_audio("wav2vec2", "layer", adapter_attn_dim=4),
    "mhubert": encoder_of_audio("hubert", "group", conv_pos_batch_norm=True),
    "data2vec-audio": encoder_of_audio("data2vec-audio", "layer", num_conv_pos_embeddings=3, conv_pos_kernel_size=5),
    "wav2vec2-bert": {"model_type": "wav2vec2-bert", **SIZES},
    "wav2vec2-bert, rotary": {"model_type": "wav2vec2-bert", "position_embeddings_type": "rotary", **SIZES},
    "sew": encoder_of_audio("sew", "group", squeeze_factor=2),
    "sew-d": encoder_of_audio("sew-d", "group", squeeze_factor=2),
    "wav2vec2-conformer": encoder_of_audio("wav2vec2-conformer", "group", conv_depthwise_kernel_size=5),
}
# Where to compute in bfloat16: on CPUs with AMX oneDNN's forward convolutions in bfloat16 of groups of fewer than 16
# channels are wrong (torch 2.13, even kernels). The groups of released encoders have 24 channels or more.
BFLOAT16_ENCODERS = {
    name: {**encoder, "num_conv_pos_embedding_groups": 1} if "num_conv_pos_embedding_groups" in encoder else encoder
    for name, encoder in ENCODERS.items()
}


def errors_in_bfloat16(convolution: torch.nn.Module, inputs: torch.Tensor) -> list[float]:
    """How far from single precision output, gradient of the inputs and of the weights are, relative norms."""
    found = []
    for is_half in (False, True):
        read = inputs.clone().requires_grad_()
        convolution.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
            output = convolution(read)
        output.float().square().sum().backward()
        found.append([output.detach().float(), read.grad, convolution.weight.grad.clone()])
    return [float((half - single).norm() / single.norm()) for single, half in zip(*found)]


def write_wav2vec2(folder: Path) -> None:
    """A checkpoint that classifies audio and is none of CAMuLeNet."""
    config = Wav2Vec2Config(**SIZES, **CONVOLUTIONS, classifier_proj_size=4)
    Wav2Vec2ForSequenceClassification(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
