"""Presets: what each changes in the default configuration (`CAMuLeNetConfig`) and in the training arguments."""

from collections.abc import Mapping

from modeling_camulenet import CAMuLeNetConfig

# The released model: one second of its spectrogram has 1600 frames (windows of 40 samples every 10, meant as
# milliseconds), nothing is masked, and the MFCCs of exactly 5.005 s are flattened (PAPER: get_whisper_embeddings...py,
# model.py of NLP-SBILAB/CAMuLeNet).
RELEASED_LAYERS = {
    "branch_size": 1024,
    "fusion": "gate",
    "pooling": "flatten",
    "alexnet_classifier": True,
    "emotion_loss_weight": 0.4,
    "gender_loss_weight": 0.1,
}
RELEASED_FEATURES = {
    "spectrogram": {
        "window_ms": 2.5,
        "hop_ms": 0.625,
        "n_fft": 800,
        "window": "hamming",
        "decibel": False,
        "pad_mode": "constant",
    },
    "mfcc": {"window_ms": 128.0, "num_mel_bins": 128, "mel_norm": "slaney", "pad_mode": "constant"},
    "max_duration_s": 5.005,
    "pad_to_max_duration": True,
}

CONFIGS = {
    # Figure 1, length-free; with a pre-trained encoder.
    "camulenet": {},
    # The same from scratch on a CPU: narrower, coarser frames, a small encoder. Chosen on RAVDESS's actors 1 to 12.
    "camulenet-small": {
        "encoder_config": {
            "model_type": "whisper",
            "d_model": 48,
            "encoder_layers": 1,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 96,
            "dropout": 0.1,
        },
        "trainable_encoder_layers": -1,
        "branch_size": 128,
        "width_multiplier": 0.375,
        "gru_hidden_size": 96,
        "gru_num_layers": 1,
        "spectrogram_batch_norm": True,
        "dropout": 0.3,
        "branch_loss_weight": 0.5,
        "feature_extractor": {
            "spectrogram": {"hop_ms": 16.0, "num_mel_bins": 64},
            "mfcc": {"hop_ms": 40.0},
            "level_dbfs": -25.0,
        },
    },
    # The released model with its defects, and the same layers with the features and masks repaired.
    "paper": {
        **RELEASED_LAYERS,
        "encoder_context": "padded",
        "use_masks": False,
        "feature_norm": "time_l2",
        "feature_extractor": RELEASED_FEATURES,
    },
    "paper-fixed": {**RELEASED_LAYERS, "feature_extractor": {"max_duration_s": 5.005}},
}

# Defaults of transformers.TrainingArguments; a flag on the command line wins.
RELEASED_TRAINING = {"learning_rate": 5e-5, "per_device_train_batch_size": 64, "num_train_epochs": 10}
TRAINING = {
    "camulenet": {
        "learning_rate": 1e-4,
        "per_device_train_batch_size": 64,
        "num_train_epochs": 20,
        "warmup_steps": 0.1,
        "lr_scheduler_type": "cosine",
        "train_sampling_strategy": "group_by_length",
    },
    "camulenet-small": {
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 16,
        "num_train_epochs": 25,
        "warmup_steps": 0.1,
        "lr_scheduler_type": "cosine",
        "weight_decay": 0.01,
    },
    "paper": RELEASED_TRAINING,
    "paper-fixed": RELEASED_TRAINING,
}
# Speeds of the further copies of the training clips. Batches are not drawn by length: the running statistics of the
# batch norms would follow the shortest clips, drawn last.
SPEED_FACTORS = {"camulenet-small": [0.86, 0.93, 1.07, 1.14]}
# Longer training clips are cut to a random stretch of these seconds: padding costs as much as speech.
CROP_S = {"camulenet-small": 2.56}
PRESETS = tuple(CONFIGS)


def build_config(name: str, encoder_config=None, **overrides) -> CAMuLeNetConfig:
    """
    The configuration of a preset.

    Args:
        name: one of `PRESETS`.
        encoder_config: `PreTrainedConfig` or `dict` of the speech encoder, in place of the preset's own.
        overrides: further fields of `CAMuLeNetConfig`: `num_labels`, `id2label`, `id2gender`, ...
    Raises:
        ValueError: unknown preset, or a field that `CAMuLeNetConfig` refuses.
    """
    if name not in CONFIGS:
        raise ValueError(f"Unknown preset {name!r}; known are {', '.join(PRESETS)}.")
    fields = {**CONFIGS[name], **overrides}
    if encoder_config is not None:
        fields["encoder_config"] = dict(encoder_config) if isinstance(encoder_config, Mapping) else encoder_config
    return CAMuLeNetConfig(**fields)
