"""What run_ser.py can be told beside transformers' own `TrainingArguments`: its flags, and the keys of its files."""

import dataclasses
import re

from dataset_scripts import CORPORA
from dataset_scripts.folds import PROTOCOLS
from dataset_scripts.label_maps import LABEL_MAPS
from dataset_scripts.own_corpus import COLUMNS

from . import presets
from .feature_cache import DTYPES


@dataclasses.dataclass
class ModelArguments:
    """What is trained."""

    preset: str | None = dataclasses.field(
        default=None,
        metadata={
            "help": f"One of {presets.PRESETS_IN_WORDS}. Default: camulenet with a pre-trained encoder, "
            "camulenet-small without one. A checkpoint to fine-tune brings its own."
        },
    )
    encoder_name_or_path: str | None = dataclasses.field(
        default=None, metadata={"help": "Pre-trained speech encoder: a Hub id or a directory."}
    )
    model_name_or_path: str | None = dataclasses.field(
        default=None,
        metadata={"help": "CAMuLeNet checkpoint to fine-tune: a Hub id or a directory. New labels welcome."},
    )
    encoder_context: str | None = dataclasses.field(
        default=None, metadata={"help": "clip (real length, masked) or padded (30 s window). Default: the preset's."}
    )
    trainable_encoder_layers: int | None = dataclasses.field(
        default=None,
        metadata={
            "help": "How many of the encoder's last layers are trained: 0 (frozen), n, or -1 (everything). Default: "
            "the preset's."
        },
    )
    lora_rank: int | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Train the frozen encoder by LoRA of this rank on its attention, like 8; the saved model has it "
            'merged. Needs peft: pip install "camulenet[lora]".'
        },
    )
    use_weighted_layer_sum: bool | None = dataclasses.field(
        default=None, metadata={"help": "Learn a weighted sum of the encoder's layers. Default: its last layer."}
    )
    branches: list[str] | None = dataclasses.field(
        default=None, metadata={"help": "Ablation: the branches beside the encoder. Default: the preset's."}
    )
    fusion: str | None = dataclasses.field(
        default=None,
        metadata={
            "help": "How the encoder joins the branches: co_attention, gate, concat, attention, image, none (the "
            "encoder alone) or branches (no encoder). Default: the preset's."
        },
    )
    spec_augment: bool = dataclasses.field(
        default=False, metadata={"help": "SpecAugment: mask stretches of the training features."}
    )
    equalizer_db: float | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Give each training clip a random smooth frequency response, each time another, of this deviation "
            "in decibels; 0: none. Default: the preset's."
        },
    )
    speed_factors: list[float] | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Speeds of further copies of the training clips, like 0.9 1.1; 1: none. Default: the preset's."
        },
    )
    crop_s: float | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Cut longer training clips to a random stretch of this many seconds, each time another; 0: leave "
            "them whole. Default: the preset's."
        },
    )
    train_on_validation: bool | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Train on the validation speakers, too, for the whole number of epochs, in place of choosing the "
            "epoch by them. Default: the preset's."
        },
    )
    multitask: bool = dataclasses.field(
        default=True,
        metadata={"help": "Learn the gender beside the emotion. False: the emotion alone. Default: the preset's."},
    )
    model_revision: str = dataclasses.field(default="main", metadata={"help": "Branch, tag or commit on the Hub."})
    token: str | None = dataclasses.field(default=None, metadata={"help": "Hub token; default: the one logged in."})
    final_model: str = dataclasses.field(
        default="all",
        metadata={
            "help": "The model to publish when all folds are complete: all (trained on all speakers), fold_NN (that "
            "fold's, which the figures are about), or none."
        },
    )
    cache_dir: str | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Where downloads and the features of frozen encoders are kept (ser_protocol.feature_cache)."
        },
    )
    cache_dtype: str = dataclasses.field(
        default="float16",
        metadata={
            "help": f"How a frozen encoder's features are stored: one of {', '.join(DTYPES)}. With float16 decibels "
            "are 16-bit integers over each clip's range, which round less."
        },
    )
    cache_all_layers: bool = dataclasses.field(
        default=False,
        metadata={"help": "Agree to the size of every layer of a frozen encoder, for --use_weighted_layer_sum."},
    )

    def __post_init__(self):
        if not re.fullmatch(r"all|none|fold_\d{2,}", self.final_model):
            raise ValueError(f"--final_model {self.final_model}: give all, none, or a fold like fold_03.")
        if self.cache_dtype not in DTYPES:
            raise ValueError(f"--cache_dtype {self.cache_dtype}: give one of {', '.join(DTYPES)}.")
        if self.lora_rank is not None and self.lora_rank <= 0:
            raise ValueError(f"--lora_rank {self.lora_rank}: give a rank above 0, or leave it out for no LoRA.")
        if any(factor <= 0 for factor in self.speed_factors or []):
            raise ValueError(f"--speed_factors {self.speed_factors}: a speed must be above 0; 1.0 is the clip's own.")
        self.speed_factors = [factor for factor in self.speed_factors or [] if factor != 1.0]
        if (self.equalizer_db or 0) < 0:
            raise ValueError(f"--equalizer_db {self.equalizer_db}: give a deviation in decibels; 0 is none.")
        self.equalizer_db = self.equalizer_db or None
        if (self.crop_s or 0) < 0:
            raise ValueError(f"--crop_s {self.crop_s}: give a number of seconds; 0 leaves the clips whole.")
        self.crop_s = self.crop_s or None


@dataclasses.dataclass
class DataArguments:
    """What it is trained and tested on."""

    corpus: list[str] | None = dataclasses.field(
        default=None, metadata={"help": f"One or several of {', '.join(CORPORA)}; several need a --label_map."}
    )
    data_dir: list[str] | None = dataclasses.field(
        default=None, metadata={"help": "Each corpus's folder, in the same order (none for demo)."}
    )
    dataset_name: str | None = dataclasses.field(
        default=None,
        metadata={"help": "In place of --corpus: a dataset of the Hub, a folder for load_dataset, or a Parquet file."},
    )
    dataset_config_name: str | None = dataclasses.field(
        default=None,
        metadata={"help": "Configuration of the dataset, or of a corpus that has several: listeners of crema_d."},
    )
    label_map: str | None = dataclasses.field(
        default=None,
        metadata={
            "help": f"Which classes are used and joined: {', '.join(LABEL_MAPS)}, or a YAML or JSON file that maps "
            "emotions to classes. Default: the corpus's usual ones."
        },
    )
    corpus_name: str = dataclasses.field(
        default="own", metadata={"help": "Name of your own data, the prefix of its utterance and speaker ids."}
    )
    language: str = dataclasses.field(
        default="und", metadata={"help": "ISO 639 code of your own data's language, where no column tells it."}
    )
    audio_column_name: str | None = dataclasses.field(
        default=None, metadata={"help": f"Column of your own data. Default: {', '.join(COLUMNS['audio'])}."}
    )
    label_column_name: str | None = dataclasses.field(
        default=None, metadata={"help": f"Likewise, of the emotion: {', '.join(COLUMNS['label'])}."}
    )
    speaker_column_name: str | None = dataclasses.field(
        default=None, metadata={"help": f"Likewise: {', '.join(COLUMNS['speaker'])}."}
    )
    gender_column_name: str | None = dataclasses.field(
        default=None, metadata={"help": f"Likewise, if there is one: {', '.join(COLUMNS['gender'])}."}
    )
    session_column_name: str | None = dataclasses.field(
        default=None,
        metadata={"help": f"Likewise, of recordings that speakers share: {', '.join(COLUMNS['session'])}."},
    )
    text_column_name: str | None = dataclasses.field(
        default=None, metadata={"help": f"Likewise, of the sentence: {', '.join(COLUMNS['text'])}."}
    )
    language_column_name: str | None = dataclasses.field(
        default=None, metadata={"help": f"Likewise: {', '.join(COLUMNS['language'])}."}
    )
    file_pattern: str | None = dataclasses.field(
        default=None,
        metadata={
            "help": "Regular expression, searched in each path of --corpus own, whose named groups tell the speaker "
            "(and gender, session, text, emotion), like (?P<speaker>spk\\d+)."
        },
    )
    skip_bad_files: bool = dataclasses.field(
        default=False, metadata={"help": "Go on without files that cannot be used; results.json lists them."}
    )
    protocol: str = dataclasses.field(
        default="speakers",
        metadata={
            "help": f"One of {', '.join(PROTOCOLS)}: groups of unseen speakers; one a fold; IEMOCAP's sessions; "
            "EmoBox's folds; the corpus's own parts; one corpus or language left out of several; and, leaky, to "
            "compare: random utterances, and the epoch chosen on the test speakers."
        },
    )
    num_folds: int | None = dataclasses.field(default=None, metadata={"help": "Default: the corpus's standard."})
    folds: list[int] | None = dataclasses.field(
        default=None, metadata={"help": "Run these folds only, counted from 0. Default: all."}
    )
    split_seed: int = dataclasses.field(default=0, metadata={"help": "Order of the speakers; 0 is the natural one."})
    note: str | None = dataclasses.field(
        default=None,
        metadata={"help": "A sentence about the data that every output shows, where it is not as released."},
    )
    allow_leak: bool = dataclasses.field(
        default=False, metadata={"help": "Test on speakers that --model_name_or_path has met; every output says so."}
    )
