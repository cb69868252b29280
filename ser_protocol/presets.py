"""Presets: what each changes in the default configuration (`CAMuLeNetConfig`) and in the training arguments.

`CONFIGS` and the training arguments hold bases. A variant of a base, like `camulenet-small-concat`, changes further
fields and trains as its base does.
"""

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
    # The same from scratch on a CPU: small convolutions, coarser frames, a small encoder. Chosen on RAVDESS's actors 1
    # to 12 (results/LOG.md).
    "camulenet-small": {
        "encoder_config": {
            "model_type": "whisper",
            "d_model": 32,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "dropout": 0.1,
        },
        "trainable_encoder_layers": -1,
        "branch_size": 128,
        "spectrogram_convolutions": "small_cnn",
        "spectrogram_batch_norm": True,
        "bfloat16_convolutions": True,
        "pooled_batch_norm": True,
        "gru_hidden_size": 24,
        "gru_num_layers": 1,
        "classifier_num_layers": 0,
        "dropout": 0.3,
        "gender_loss_weight": 0.5,
        "branch_loss_weight": 0.5,
        "feature_extractor": {
            "spectrogram": {"hop_ms": 16.0, "num_mel_bins": 64},
            "mfcc": {"window_ms": 64.0, "hop_ms": 64.0, "num_mfcc": 24},
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
# The paper's baselines: the frames of any encoder into a small CNN, single task. It names four 2-D convolutions with
# batch norm and max pooling, a dropout of .25 and four fully connected layers. Left open, and chosen here: kernels of
# 3x3 and pools of 2x2; no normalisation before the first convolution; mean and deviation over the clip's real frames,
# however many, between convolutions and fully connected layers; dropout before the first two of these.
BASELINE = {
    "fusion": "image",
    "branches": [],
    "spectrogram_convolutions": "small_cnn",
    "spectrogram_batch_norm": True,
    "feature_norm": "none",
    "branch_size": 128,
    "branch_loss_weight": 0.0,
    "classifier_hidden_size": [32, 16],
    "classifier_num_layers": 2,
    "dropout": 0.25,
    "id2gender": {},
}
ABLATIONS = {
    # The paper's own two.
    "no-multitask": {"id2gender": {}},
    # What it put in the co-attention's place it does not say. The embedding remains the three side by side, so without
    # weights the encoder's part is the plain mean of its frames.
    "no-coattention-no-multitask": {"fusion": "concat", "id2gender": {}},
    # Other fusions.
    "concat": {"fusion": "concat"},
    "gate": {"fusion": "gate"},
    "encoder-attention": {"fusion": "attention", "branches": []},
    # Parts left out.
    "no-spectrogram": {"branches": ["mfcc"]},
    "no-mfcc": {"branches": ["spectrogram"]},
    "no-encoder": {"fusion": "branches", "trainable_encoder_layers": 0},
    "encoder-only": {"fusion": "none", "branches": []},
    "spectrogram-only": {"fusion": "branches", "branches": ["spectrogram"], "trainable_encoder_layers": 0},
    # What the gender is worth: other weights (0 is no-multitask), and whether hiding it is better than learning it.
    "gender-weight-0.1": {"gender_loss_weight": 0.1},
    "gender-weight-1": {"gender_loss_weight": 1.0},
    "adversarial-gender": {"adversarial_gender": True},
}
ABLATED = ("camulenet", "camulenet-small")
# Name -> base, and what differs from it.
VARIANTS = {
    "baseline": ("camulenet", BASELINE),
    "camulenet-small-baseline": ("camulenet-small", BASELINE),
    **{f"{base}-{name}": (base, changes) for base in ABLATED for name, changes in ABLATIONS.items()},
}
PRESETS = (*CONFIGS, *VARIANTS)
PRESETS_IN_WORDS = (
    f"{', '.join(CONFIGS)}, baseline, camulenet-small-baseline; or {' or '.join(ABLATED)} with an ablation behind a "
    f"hyphen, like camulenet-concat: {', '.join(ABLATIONS)}"
)

# Training arguments, by base; a flag on the command line wins.
# Defaults of transformers.TrainingArguments.
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
        "learning_rate": 2e-3,
        "per_device_train_batch_size": 32,
        "num_train_epochs": 30,
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
# Deviation of a random frequency response of each training clip, in decibels: other microphones, rooms and voices.
EQUALIZER_DB = {"camulenet-small": 3.0}
# Presets that train on the validation speakers, too, and keep the last epoch: the speakers are worth more there.
TRAIN_ON_VALIDATION = ("camulenet-small",)


def base_of(name: str) -> str:
    """
    The preset whose training arguments a preset has: its base, or itself.

    Raises:
        ValueError: unknown preset.
    """
    if name not in PRESETS:
        raise ValueError(f"Unknown preset {name!r}; known are {PRESETS_IN_WORDS}.")
    return VARIANTS[name][0] if name in VARIANTS else name


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
    base = base_of(name)
    _, changes = VARIANTS.get(name, (base, {}))
    fields = {**CONFIGS[base], **changes, **overrides}
    if encoder_config is not None:
        fields["encoder_config"] = dict(encoder_config) if isinstance(encoder_config, Mapping) else encoder_config
    return CAMuLeNetConfig(**fields)
