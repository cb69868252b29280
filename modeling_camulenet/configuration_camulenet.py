# Copyright 2026 The CAMuLeNet maintainers. Licensed under the Apache License, Version 2.0.
"""CAMuLeNet model configuration."""

from copy import deepcopy
from typing import Any

import transformers

# Before anything is imported that an older one lacks. Every way to a checkpoint leads through this file first: the
# feature extractor's imports it before all else, and whatever loads the model or the pipeline reads the configuration.
if tuple(map(int, transformers.__version__.split(".")[:2])) < (5, 23):
    raise RuntimeError(
        f"CAMuLeNet needs transformers 5.23 or newer, and this is {transformers.__version__}: "
        '`pip install --upgrade "transformers>=5.23"`.'
    )

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

# Of this code, and of the checkpoints that it writes: the format grows by one with whatever older code would read
# wrongly. Every format from 1 on is read; a checkpoint that names none is of format 1.
CODE_VERSION = "0.1.0"
FORMAT_VERSION = 1

# What a checkpoint offers to the Auto classes and `pipeline()`: files that `save_pretrained` puts beside the weights.
AUTO_MAP = {
    "AutoConfig": "configuration_camulenet.CAMuLeNetConfig",
    "AutoFeatureExtractor": "feature_extraction_camulenet.CAMuLeNetFeatureExtractor",
    "AutoModel": "modeling_camulenet.CAMuLeNetModel",
    "AutoModelForAudioClassification": "modeling_camulenet.CAMuLeNetForAudioClassification",
}
CUSTOM_PIPELINES = {
    "audio-classification": {
        "impl": "pipeline_camulenet.CAMuLeNetPipeline",
        "pt": ["AutoModelForAudioClassification"],
        "type": "audio",
    }
}

BRANCHES = ("spectrogram", "mfcc")
FUSIONS = ("co_attention", "gate", "concat", "attention", "image", "none", "branches")
FUSIONS_WITH_WEIGHTS = ("co_attention", "gate", "attention")  # over the encoder's frames
ENCODER_CONTEXTS = ("clip", "padded")
SPECTROGRAM_CONVOLUTIONS = ("alexnet", "small_cnn")
POOLINGS = ("statistics", "flatten")
FEATURE_NORMS = ("batch", "utterance", "time_l2", "none")


class CAMuLeNetConfig(PreTrainedConfig):
    r"""
    Configuration of [`CAMuLeNetModel`] and [`CAMuLeNetForAudioClassification`]: Figure 1 of arXiv 2406.08931, made
    independent of the clip's length. The defaults are the preset `camulenet`, except for the encoder's size: the
    encoder of a checkpoint takes its place.

    Args:
        encoder_config (`dict` or `PreTrainedConfig`, *optional*, defaults to Whisper-tiny's):
            Configuration of the speech encoder, rebuilt by its `model_type`: `whisper`, `wav2vec2-bert`, or an encoder
            of raw audio (`wav2vec2`, `hubert`, `wavlm`, `data2vec-audio`, `unispeech`, `unispeech-sat`, ...). Only the
            encoder half is built, without SpecAugment, layer drop and adapter.
        encoder_context (`str`, *optional*, defaults to `"clip"`):
            What the encoder sees: `"clip"`, the clip's real frames, masked; or `"padded"`, the stock 30 s window of
            Whisper with silence behind the clip, of which only the clip's own frames are used afterwards.
        trainable_encoder_layers (`int`, *optional*, defaults to 0):
            How many of the encoder's last layers are trained. 0: the encoder is left as it is, without gradients and
            dropout. Its number of layers: all but the convolutions before them. -1: everything.
        use_weighted_layer_sum (`bool`, *optional*, defaults to `False`):
            Whether the encoder's frames are a learned weighted sum of all its layers' in place of the last one's.
        branches (`list[str]`, *optional*, defaults to `["spectrogram", "mfcc"]`):
            The branches beside the encoder. An ablation leaves one out.
        fusion (`str`, *optional*, defaults to `"co_attention"`):
            How the encoder's frames join the branches: `"co_attention"` (masked softmax attention queried by the
            branches), `"gate"` (the paper's weights by frame position), `"concat"` (mean over frames), `"attention"`
            (attention pooling with a learned query), `"image"` (convolutions over the frames as a one-channel image),
            `"none"` (the encoder's mean alone; no branches) or `"branches"` (the branches alone; no encoder).
        branch_size (`int`, *optional*, defaults to 512):
            Size of the embedding of each branch and of the attended encoder.
        width_multiplier (`float`, *optional*, defaults to 1.0):
            Scales the channels of the spectrogram branch's convolutions and the hidden size of the MFCC branch's GRU.
        spectrogram_convolutions (`str`, *optional*, defaults to `"alexnet"`):
            Convolutions of the spectrogram branch, and over the encoder's frames with `fusion="image"`: `"alexnet"`,
            or `"small_cnn"`, the four of 3x3 of the paper's baselines, which lose less detail and cost less when
            trained from scratch.
        spectrogram_batch_norm (`bool`, *optional*, defaults to `False`):
            Whether a batch norm over the real frames follows each convolution, which training from scratch needs.
        pooled_batch_norm (`bool`, *optional*, defaults to `False`):
            Whether a batch norm follows the pooling of each branch and of the encoder's frames, which training from
            scratch needs: their means and deviations are of very different sizes.
        bfloat16_convolutions (`bool`, *optional*, defaults to `False`):
            Whether training on a CPU computes the spectrogram branch's convolutions in bfloat16, which is about twice
            as fast where the CPU has instructions for it. Predictions are in the model's own precision.
        gru_hidden_size (`int`, *optional*, defaults to 256):
            Hidden size of each direction of the MFCC branch's GRU, before `width_multiplier`.
        gru_num_layers (`int`, *optional*, defaults to 2):
            Number of bidirectional GRU layers.
        gru_dropout (`float`, *optional*, defaults to 0.3):
            Dropout between the GRU layers (0.3 in the released code).
        pooling (`str`, *optional*, defaults to `"statistics"`):
            How a branch's frames become one vector: `"statistics"`, masked mean and standard deviation over time, or
            `"flatten"`, the released model's flattening of a fixed number of frames.
        mfcc_frames (`int`, *optional*, defaults to 501):
            Number of MFCC frames that `pooling="flatten"` flattens (501 frames of 10 ms are 5.005 s).
        feature_norm (`str`, *optional*, defaults to `"batch"`):
            Normalisation of the branches' features: `"batch"` (per coefficient, running statistics of the training
            data), `"utterance"` (per coefficient, masked statistics of the clip), `"time_l2"` (the released model's
            L2 norm along padded time, MFCC only) or `"none"`.
        use_masks (`bool`, *optional*, defaults to `True`):
            Whether padding is masked. `False` reproduces the released model, whose output depends on the padding.
        alexnet_classifier (`bool`, *optional*, defaults to `False`):
            Whether AlexNet's own classifier is kept among the parameters, its output unused, as released.
        num_attention_heads (`int`, *optional*, defaults to 8):
            Heads of the co-attention.
        gate_positions (`int`, *optional*, defaults to 1500):
            Number of encoder frames that `fusion="gate"` has weights for.
        classifier_hidden_size (`int` or `list[int]`, *optional*, defaults to 128):
            Size of the fully connected layers shared by the heads, or of each of them.
        classifier_num_layers (`int`, *optional*, defaults to 2):
            Number of these layers. 0: the heads read the fused embedding itself.
        dropout (`float`, *optional*, defaults to 0.1):
            Dropout before each fully connected layer.
        emotion_loss_weight (`float`, *optional*, defaults to 1.0):
            Weight of the emotion's cross-entropy.
        gender_loss_weight (`float`, *optional*, defaults to 0.25):
            Weight of the gender's cross-entropy (the released 0.1 to 0.4).
        branch_loss_weight (`float`, *optional*, defaults to 0.0):
            Weight of the same loss of linear heads on each branch's embedding, the attended encoder's included. They
            serve training only: from scratch, no branch is left untrained behind the one that learns fastest. 0: no
            such heads.
        label_smoothing (`float`, *optional*, defaults to 0.0):
            Label smoothing of the emotion's cross-entropies.
        id2gender (`dict[int, str]`, *optional*, defaults to `{0: "female", 1: "male"}`):
            Names of the gender head's classes. Empty: no gender head, single-task training.
        adversarial_gender (`bool`, *optional*, defaults to `False`):
            Whether the layers below the gender heads get these heads' gradients reversed (Ganin and Lempitsky 2015,
            ICML), weighted as ever: the heads learn to tell the gender, the rest learns to hide it from them.
        feature_extractor (`dict`, *optional*):
            Arguments of [`CAMuLeNetFeatureExtractor`] for the branch features, and `do_normalize` as the encoder was
            trained. The model computes the features itself when it is given a raw waveform.
        training_speakers (`list[str]`, *optional*):
            `speaker_id` of every speaker whose clips trained or selected this checkpoint, by which `run_ser.py`
            refuses a test on people the checkpoint has met.
        initializer_range (`float`, *optional*, defaults to 0.02):
            Standard deviation of the normal initialisation of embeddings and of the attention's learned query.

    Example:

    ```python
    >>> from modeling_camulenet import CAMuLeNetConfig, CAMuLeNetForAudioClassification

    >>> config = CAMuLeNetConfig(encoder_config={"model_type": "whisper", "d_model": 64, "encoder_layers": 2})
    >>> model = CAMuLeNetForAudioClassification(config)
    ```"""

    model_type = "camulenet"
    # A Trainer's predictions are then the emotion's logits alone, as scripts for any audio classification expect.
    keys_to_ignore_at_inference = [
        "gender_logits",
        "emotion_loss",
        "gender_loss",
        "embeddings",
        "co_attention_weights",
        "hidden_states",
        "attentions",
    ]
    sub_configs_defaults = {"encoder_config": SubConfigSpec(config_class=AutoConfig, model_type="whisper")}

    encoder_config: Any = None
    encoder_context: str = "clip"
    trainable_encoder_layers: int = 0
    use_weighted_layer_sum: bool = False
    branches: Any = BRANCHES
    fusion: str = "co_attention"
    branch_size: int = 512
    width_multiplier: float = 1.0
    spectrogram_convolutions: str = "alexnet"
    spectrogram_batch_norm: bool = False
    pooled_batch_norm: bool = False
    bfloat16_convolutions: bool = False
    gru_hidden_size: int = 256
    gru_num_layers: int = 2
    gru_dropout: float = 0.3
    pooling: str = "statistics"
    mfcc_frames: int = 501
    feature_norm: str = "batch"
    use_masks: bool = True
    alexnet_classifier: bool = False
    num_attention_heads: int = 8
    gate_positions: int = 1500
    classifier_hidden_size: Any = 128
    classifier_num_layers: int = 2
    dropout: float = 0.1
    emotion_loss_weight: float = 1.0
    gender_loss_weight: float = 0.25
    branch_loss_weight: float = 0.0
    label_smoothing: float = 0.0
    id2gender: Any = None
    adversarial_gender: bool = False
    feature_extractor: Any = None
    training_speakers: Any = None
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs):
        self._check_format(kwargs.get("format_version", 1), kwargs.get("camulenet_version"))
        self._normalise()
        super().__post_init__(**kwargs)
        self._validate()

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        loaded = super().from_dict(config_dict, **kwargs)
        # transformers sets what `from_pretrained` was given beside the checkpoint after `__post_init__`.
        (loaded[0] if isinstance(loaded, tuple) else loaded).check()
        return loaded

    def check(self):
        """
        Bring the fields, which may have been set since, into the form in which they are read.

        Raises:
            ValueError: one has a value that cannot be.
        """
        self._normalise()
        self._validate()

    def _normalise(self):
        self.branches = list(self.branches)
        if not isinstance(self.classifier_hidden_size, int):
            self.classifier_hidden_size = list(self.classifier_hidden_size)
        self.feature_extractor = deepcopy(self.feature_extractor or {})
        self.training_speakers = list(self.training_speakers or [])
        genders = {0: "female", 1: "male"} if self.id2gender is None else self.id2gender
        self.id2gender = {int(index): name for index, name in genders.items()}

    def save_pretrained(self, save_directory, **kwargs):
        # transformers notes only the class that is saved; a checkpoint must load through all of them.
        self.auto_map = dict(AUTO_MAP)
        self.custom_pipelines = dict(CUSTOM_PIPELINES)
        self.format_version, self.camulenet_version = FORMAT_VERSION, CODE_VERSION
        super().save_pretrained(save_directory, **kwargs)

    @property
    def num_genders(self) -> int:
        """Number of the gender head's classes; 0 when there is no gender head."""
        return len(self.id2gender)

    @property
    def has_encoder(self) -> bool:
        """Whether the model reads an encoder at all."""
        return self.fusion != "branches"

    @property
    def freeze_encoder(self) -> bool:
        """Whether the encoder is left as it is."""
        return self.trainable_encoder_layers == 0

    @staticmethod
    def _check_format(format_version: int, camulenet_version: str | None):
        if format_version > FORMAT_VERSION:
            raise ValueError(
                f"This checkpoint has format {format_version}, of camulenet {camulenet_version}; the code that reads "
                f"it is camulenet {CODE_VERSION}, which knows formats up to {FORMAT_VERSION}. Install camulenet "
                f"{camulenet_version} or newer, or leave out `import modeling_camulenet` and load the checkpoint by "
                "its own code, with trust_remote_code=True."
            )

    def _validate(self):
        def refuse(name: str, expected: str):
            raise ValueError(f"CAMuLeNetConfig: `{name}` is {getattr(self, name)!r}; expected {expected}.")

        choices = {
            "encoder_context": ENCODER_CONTEXTS,
            "fusion": FUSIONS,
            "spectrogram_convolutions": SPECTROGRAM_CONVOLUTIONS,
            "pooling": POOLINGS,
            "feature_norm": FEATURE_NORMS,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                refuse(name, f"one of {', '.join(allowed)}")
        if len(set(self.branches)) != len(self.branches) or not set(self.branches) <= set(BRANCHES):
            refuse("branches", f"a selection of {', '.join(BRANCHES)}")
        if self.fusion == "none" and self.branches:
            refuse("branches", "[] with fusion='none', which is the encoder alone")
        if self.fusion in ("co_attention", "gate") and not self.branches:
            refuse("branches", f"at least one: fusion={self.fusion!r} is queried by them")
        if not self.has_encoder:
            alone = f"with fusion={self.fusion!r}, which is the branches without an encoder"
            if not self.branches:
                refuse("branches", f"at least one {alone}")
            if self.trainable_encoder_layers != 0:
                refuse("trainable_encoder_layers", f"0 {alone}")
            if self.use_weighted_layer_sum:
                refuse("use_weighted_layer_sum", f"False {alone}")
        positive = (
            "width_multiplier",
            "branch_size",
            "gru_hidden_size",
            "gru_num_layers",
            "mfcc_frames",
            "num_attention_heads",
            "gate_positions",
        )
        for name in positive:
            if getattr(self, name) <= 0:
                refuse(name, "a positive number")
        sizes = self.classifier_hidden_size
        if min(sizes if isinstance(sizes, list) else [sizes], default=1) <= 0:
            refuse("classifier_hidden_size", "a positive number, or a list of them")
        if isinstance(sizes, list) and len(sizes) != self.classifier_num_layers:
            refuse(
                "classifier_hidden_size", f"one size, or classifier_num_layers ({self.classifier_num_layers}) sizes"
            )
        if self.branch_size % self.num_attention_heads:
            refuse("branch_size", f"a multiple of num_attention_heads ({self.num_attention_heads})")
        if self.trainable_encoder_layers < -1:
            refuse("trainable_encoder_layers", "a number of layers, or -1 for everything")
        if self.classifier_num_layers < 0:
            refuse("classifier_num_layers", "a number of layers, or 0 for none")
        for name in ("dropout", "gru_dropout", "label_smoothing"):
            if not 0.0 <= getattr(self, name) < 1.0:
                refuse(name, "a number from 0 to below 1")
        for name in ("emotion_loss_weight", "gender_loss_weight", "branch_loss_weight"):
            if getattr(self, name) < 0:
                refuse(name, "a number of at least 0")
        if sorted(self.id2gender) != list(range(self.num_genders)):
            refuse("id2gender", f"names for the indices {', '.join(map(str, range(self.num_genders)))}")
        if self.adversarial_gender and not self.num_genders:
            refuse("adversarial_gender", "False without a gender head (id2gender is empty)")


CAMuLeNetConfig.register_for_auto_class()

__all__ = ["CAMuLeNetConfig"]
