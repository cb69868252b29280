"""Folds: build a model, train it, choose its epoch on validation speakers, predict the test speakers, pool, resume."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import math
import multiprocessing
import os
import resource
import shutil
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import safetensors.torch
import torch
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from torch.nn.utils import get_total_norm
from transformers import (
    AutoConfig,
    EvalPrediction,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import rotate_checkpoints
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from dataset_scripts.folds import PARTS, Fold
from modeling_camulenet import CAMuLeNetConfig, CAMuLeNetFeatureExtractor, CAMuLeNetForAudioClassification

from .calibration import calibration_error, fit_temperature, with_temperature
from .feature_cache import CachedFeatures
from .feature_store import IGNORED_LABEL, FeatureStore, FeatureSubset, LengthBuckets, collate
from .files import (
    CHECKSUMS,
    damaged_files,
    json_text,
    read_checksums,
    remove_leftovers,
    sha256,
    write_atomically,
    write_checksums,
    write_json,
)
from .metrics.ser_metrics import ser_scores
from .presets import build_config
from .statistics import read_predictions

logger = logging.getLogger(__name__)

TRAINER_FOLDER = "trainer"  # the Trainer's own checkpoints inside a fold's folder; removed when the fold is complete
TRAINING_RECORD = "training.json"  # how a folder's model was trained; written after the model
PREDICTIONS, METRICS = "predictions.csv", "metrics.json"  # of a complete fold; the metrics are written last
CHECKPOINT_SUFFIXES = (".json", ".safetensors", ".py")
LOCKS = "locks"  # which call does which part of a run, while it is not pooled
ENCODER_FILE = "encoder.safetensors"  # a frozen encoder's weights, once for all folds
# A checkpoint with a frozen encoder: the encoder's weights, and all that was trained.
ENCODER_SHARD, TRAINED_SHARD = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
ENCODER_PREFIX = "camulenet.speech_encoder.encoder."
PLACE = "place"  # of a training clip among the fold's, in its batch
SOFTMAX_FUSIONS = ("co_attention", "attention")  # whose weights over the frames sum to 1


class RunError(ValueError):
    """A run that cannot be done as asked; the message names the remedy."""


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """
    Where a fold's model comes from.

    Args:
        preset: one of `presets.PRESETS`.
        encoder_name_or_path: pre-trained speech encoder; `None`: the preset's own, from scratch.
        model_name_or_path: CAMuLeNet checkpoint to fine-tune; wins over the other two.
        overrides: fields of `CAMuLeNetConfig` that differ from the preset.
        hub: `revision`, `token` and `cache_dir` for the Hub.
        lora_rank: rank of the corrections that LoRA learns of a frozen encoder's attention; `None`: no LoRA.
    """

    preset: str
    encoder_name_or_path: str | None = None
    model_name_or_path: str | None = None
    overrides: dict = dataclasses.field(default_factory=dict)
    hub: dict = dataclasses.field(default_factory=dict)
    lora_rank: int | None = None

    @cached_property
    def checkpoint_config(self) -> CAMuLeNetConfig | None:
        """
        Configuration of the checkpoint to fine-tune, if there is one.

        Raises:
            RunError: `model_name_or_path` is not a CAMuLeNet checkpoint.
        """
        if self.model_name_or_path is None:
            return None
        config = AutoConfig.from_pretrained(self.model_name_or_path, **self.hub)
        if config.model_type != CAMuLeNetConfig.model_type:
            raise RunError(
                f"--model_name_or_path {self.model_name_or_path} is a {config.model_type!r} checkpoint, not a "
                "CAMuLeNet one. For a pre-trained speech encoder use --encoder_name_or_path."
            )
        return config

    def prior_speakers(self) -> set[str]:
        """`speaker_id`s that the checkpoint to fine-tune has met; none without one."""
        return set(self.checkpoint_config.training_speakers) if self.checkpoint_config else set()

    @cached_property
    def caches_encoder(self) -> bool:
        """Whether the encoder's frames are the same throughout a run, so that they are computed once."""
        config = self.checkpoint_config or build_config(self.preset)
        layers, fusion = (
            self.overrides.get(name, getattr(config, name)) for name in ("trainable_encoder_layers", "fusion")
        )
        return layers == 0 and fusion != "branches" and self.lora_rank is None

    def build(
        self, dataset: datasets.Dataset, speakers: Sequence[str], with_encoder: bool = True
    ) -> CAMuLeNetForAudioClassification:
        """
        A model for the emotions and genders of `dataset`, to be trained or selected on `speakers`; without its encoder
        to be trained on the encoder's cached frames.

        Raises:
            RunError: no encoder for a preset that needs a pre-trained one, or not a CAMuLeNet checkpoint; LoRA without
                `peft` or on an encoder that is not pre-trained and frozen.
            ValueError: an encoder that CAMuLeNet cannot use.
        """
        if self.lora_rank is not None:
            return self._build_with_lora(dataset, speakers)
        emotions, genders = (dataset.features[name].names for name in ("emotion", "gender"))
        if self.model_name_or_path is None and not build_config(self.preset).num_genders:
            genders = []  # a preset of the emotion alone
        fields = {
            "id2label": dict(enumerate(emotions)),
            "label2id": {name: index for index, name in enumerate(emotions)},
            "id2gender": dict(enumerate(genders)),
            "training_speakers": sorted({*speakers, *self.prior_speakers()}),
            **self.overrides,
        }
        if self.model_name_or_path is not None:
            return CAMuLeNetForAudioClassification.from_pretrained(
                self.model_name_or_path,
                ignore_mismatched_sizes=True,
                with_encoder=with_encoder,
                **fields,
                **self.hub,
            )
        config = build_config(self.preset, **fields)
        if self.encoder_name_or_path is not None:
            return CAMuLeNetForAudioClassification.from_encoder_pretrained(
                self.encoder_name_or_path, config, with_encoder, **self.hub
            )
        if config.has_encoder and config.freeze_encoder:
            raise RunError(
                f"The preset {self.preset} freezes its encoder, which without --encoder_name_or_path would stay "
                "random. Give a checkpoint (for example openai/whisper-base), or take --preset camulenet-small, which "
                "trains everything from scratch."
            )
        return CAMuLeNetForAudioClassification(config)

    def _build_with_lora(self, dataset: datasets.Dataset, speakers: Sequence[str]) -> CAMuLeNetForAudioClassification:
        if self.encoder_name_or_path is None and self.model_name_or_path is None:
            raise RunError(
                "--lora_rank adapts a pre-trained encoder, and there is none: give --encoder_name_or_path (or "
                "--model_name_or_path), or leave it out."
            )
        try:
            from .lora import add_lora
        except ImportError as error:
            raise RunError(f'--lora_rank needs peft ({error}): pip install "camulenet[lora]"') from error
        model = dataclasses.replace(self, lora_rank=None).build(dataset, speakers)
        layers = model.config.trainable_encoder_layers
        if layers:
            raise RunError(
                f"--lora_rank adapts a frozen encoder, and trainable_encoder_layers is {layers}: give "
                "--trainable_encoder_layers 0, or leave --lora_rank out."
            )
        add_lora(model.camulenet.speech_encoder, self.lora_rank)
        return model


def is_trained(directory: Path) -> bool:
    """Whether a folder holds a model that was trained to its end."""
    return (directory / TRAINING_RECORD).is_file()


def speakers_of(dataset: datasets.Dataset, rows: Sequence[int]) -> list[str]:
    """Sorted `speaker_id`s of some rows."""
    ids = dataset.select(rows)["speaker_id"]
    return sorted(set(ids))


def dataset_hash(dataset: datasets.Dataset) -> str:
    """SHA-256 of what a run learns from: utterances, speakers, labels and durations."""
    columns = ("utterance_id", "speaker_id", "emotion", "gender", "duration_s")
    rows = list(zip(*(list(dataset[column]) for column in columns)))
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """WA, UA, WF1, macro F1 and, over the clips with a gender label, the gender's WA."""
    logits, gender_logits = _heads(prediction.predictions)
    labels, gender_labels = prediction.label_ids
    scores = ser_scores(logits.argmax(axis=-1).tolist(), labels.tolist())
    labelled = gender_labels != IGNORED_LABEL
    if gender_logits is not None and labelled.any():
        scores["gender_wa"] = float((gender_logits.argmax(axis=-1) == gender_labels)[labelled].mean())
    return scores


def _heads(predictions) -> tuple[np.ndarray, np.ndarray | None]:
    """Emotion and gender logits of a Trainer's predictions: a tuple, or one array from a single-task model."""
    return (predictions[0], predictions[1]) if isinstance(predictions, tuple) else (predictions, None)


def entropy_share(weights: torch.Tensor) -> torch.Tensor:
    """
    Entropy of attention weights (batch, heads, frames) as a share of the entropy of equal weights, 1: the attention
    chooses nothing; 0: it looks at one frame. Mean over the heads, (batch,); frames with no weight do not count.
    """
    entropy = -torch.xlogy(weights, weights).sum(dim=-1)
    return (entropy / (weights > 0).sum(dim=-1).clamp(min=2).log()).mean(dim=-1)


class FoldProgress(ProgressCallback):
    """One line an epoch beside the progress bar, in place of the Trainer's dictionaries."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or self.training_bar is None:
            return
        parts = {"train loss": logs.get("loss"), "validation loss": logs.get("eval_loss"), "UA": logs.get("eval_ua")}
        shown = ", ".join(f"{name} {value:.3f}" for name, value in parts.items() if value is not None)
        if shown:
            self.training_bar.write(f"{self.name}, epoch {logs['epoch']:.0f}: {shown}")


class TrainingClips(torch.utils.data.Dataset):
    """
    A fold's training clips, each with its place among them, so that a batch can be named. The speed, stretch and
    augmentation that a clip gets are a function of seed, epoch and place alone: the same in any order, on any number
    of processes and of the data loader's workers.

    Args:
        clips: features and labels.
        utterance_ids: of the clips, in their order.
        seed: of the draws.
    """

    def __init__(self, clips: FeatureSubset, utterance_ids: Sequence[str], seed: int):
        self.clips, self.utterance_ids, self.seed = clips, utterance_ids, seed
        self.epoch = multiprocessing.RawValue("q", 0)  # in shared memory: workers that outlive an epoch see it, too

    @property
    def durations_s(self) -> list[float]:
        """Seconds of each clip."""
        return self.clips.durations_s

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        entropy = np.random.SeedSequence([self.seed, self.epoch.value, index])
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(int(entropy.generate_state(1, np.uint64)[0]))
            return self.clips[index] | {PLACE: torch.tensor(index)}


class EpochOfDraws(TrainerCallback):
    """Tells the training clips of each epoch that begins."""

    def __init__(self, clips: TrainingClips):
        self.clips = clips

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.clips.epoch.value = math.floor(state.epoch)


class FoldTrainer(Trainer):
    """
    The Trainer, which trains by [`LengthBuckets`] where clips are grouped by length, evaluates in order, notes in
    training the loss of each head and how hard it pulls at the fused embedding that the heads share, in evaluation how
    spread out the co-attention is, and stops at a loss that is no number.

    Args:
        name: of the fold, for messages.
    """

    def __init__(self, *args, name: str, **kwargs):
        super().__init__(*args, **kwargs)
        self.name = name
        self._of_heads = defaultdict(list)  # losses and gradient norms since the last log
        self.attention_entropies = []  # of the clips that this process evaluated

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        places = inputs.pop(PLACE, None)
        embeddings = []  # of the outputs they are copies where precision is mixed, and have no part in the losses
        with self.model.camulenet.register_forward_hook(lambda _, args, output: embeddings.append(output.embeddings)):
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if model.training:
            if not loss.isfinite():
                ids = ", ".join(self.train_dataset.utterance_ids[place] for place in places.tolist())
                rate, norm = self.args.learning_rate, self.args.max_grad_norm
                raise RunError(
                    f"{self.name}: the loss is {loss.item()} at step {self.state.global_step + 1}, epoch "
                    f"{math.floor(self.state.epoch) + 1}, on the batch of {ids}. These clips or the weights of the "
                    f"step before are to blame: try a --learning_rate below {rate:g}, a --max_grad_norm below "
                    f"{norm:g}, or to leave out --bf16 and --fp16. Finished folds are kept."
                )
            for head in ("emotion", "gender"):
                head_loss = outputs.get(f"{head}_loss")
                if head_loss is not None:
                    self._of_heads[f"{head}_loss"].append(head_loss.detach())
                    weighted = getattr(self.model.config, f"{head}_loss_weight") * head_loss.sum()
                    pulls = torch.autograd.grad(weighted, embeddings, retain_graph=True)
                    self._of_heads[f"{head}_grad_norm"].append(get_total_norm(pulls))
        elif outputs.get("co_attention_weights") is not None and self.model.config.fusion in SOFTMAX_FUSIONS:
            self.attention_entropies += entropy_share(outputs["co_attention_weights"].float()).tolist()
        return (loss, outputs) if return_outputs else loss

    def log(self, logs, start_time=None):
        if "loss" in logs:
            logs |= {name: torch.stack(values).mean().item() for name, values in self._of_heads.items()}
            self._of_heads.clear()
        super().log(logs, start_time)

    def _save_checkpoint(self, model, trial):
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # each process writes its own random state
        if self.args.should_save:
            # The checkpoint before goes only now that this one is whole: a kill in between must leave one of them.
            folder = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
            write_checksums(folder, {path.name: sha256(path) for path in sorted(folder.iterdir())})
            rotate_checkpoints(self.args.output_dir, 1, self.state.best_model_checkpoint)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        # Both heads are scored here.
        ignored = [name for name in self.model.config.keys_to_ignore_at_inference if name != "gender_logits"]
        return super().prediction_step(model, inputs, prediction_loss_only, ignored)

    def _get_eval_sampler(self, eval_dataset):
        # Grouped by length, the Trainer would shuffle what it predicts, too.
        return torch.utils.data.SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None

    def _get_train_sampler(self, train_dataset=None):
        train_dataset = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return LengthBuckets(train_dataset.durations_s, batch_size, self.args.data_seed)


class FoldRunner:
    """
    Runs the folds of one output directory.

    Args:
        dataset: rows of `dataset_scripts.schema`.
        extractor: computes the features; the Trainer saves it with each checkpoint.
        source: where each fold's model comes from.
        training_args: `TrainingArguments`; the folds lie in its `output_dir`.
        augment: augmentation of a clip's training features, or `None`.
        speed_factors: speeds at which further copies of the training clips are made.
        crop_s: longer training clips are cut to a random stretch of this many seconds each time, or `None`.
        cache: further arguments of [`CachedFeatures`], which holds the features where the encoder is frozen.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        extractor: CAMuLeNetFeatureExtractor,
        source: ModelSource,
        training_args: TrainingArguments,
        augment: Callable | None = None,
        speed_factors: Sequence[float] = (),
        crop_s: float | None = None,
        cache: Mapping | None = None,
    ):
        self.cache = cache or {}
        self.dataset, self.extractor, self.source = dataset, extractor, source
        self.args, self.augment, self.speed_factors, self.crop_s = training_args, augment, speed_factors, crop_s
        self.output_dir = Path(training_args.output_dir)

    @cached_property
    def store(self) -> FeatureStore | CachedFeatures:
        """The features of every utterance, computed when first needed; on disk where the encoder is frozen."""
        progress = not self.args.disable_tqdm and self.args.should_save
        if not self.source.caches_encoder:
            return FeatureStore(self.dataset, self.extractor, self.speed_factors, progress)
        model = self.source.build(self.dataset, [])
        store = CachedFeatures(
            self.dataset,
            model,
            speed_factors=self.speed_factors,
            autocast_dtype=torch.bfloat16 if self.args.bf16 else torch.float16 if self.args.fp16 else None,
            device=str(self.args.device),
            progress=progress,
            **self.cache,
        )
        if self.args.should_save:
            self._keep_encoder(model)
        return store

    def _keep_encoder(self, model: CAMuLeNetForAudioClassification) -> None:
        """The frozen encoder's weights in the output folder, from where each fold's checkpoint has them."""
        path, encoder = self.output_dir / ENCODER_FILE, model.camulenet.speech_encoder.encoder
        weights = {f"{ENCODER_PREFIX}{name}": tensor.contiguous() for name, tensor in encoder.state_dict().items()}
        with contextlib.suppress(OSError, SafetensorError), safe_open(path, "pt") as written:
            is_same = set(written.keys()) == set(weights) and all(
                torch.equal(written.get_tensor(name), tensor.cpu()) for name, tensor in weights.items()
            )
            if is_same:
                return
        write_atomically(path, safetensors.torch.save(weights, {"format": "pt"}))

    def prepare(self) -> None:
        """
        Read the audio and compute the features.

        Raises:
            CorpusError: some audio cannot be used; names all such files.
        """
        _ = self.store

    def fold_dir(self, index: int) -> Path:
        """Folder of a fold."""
        return self.output_dir / f"fold_{index:02d}"

    def is_complete(self, index: int) -> bool:
        """Whether a fold needs nothing more."""
        return all((self.fold_dir(index) / name).is_file() for name in (PREDICTIONS, METRICS))

    def agreed(self, value):
        """`value` of the first process in all processes: what lies on the disk may change while they look at it."""
        return broadcast_object_list([value])[0]

    @contextlib.contextmanager
    def claimed(self, part: str) -> Iterator[bool]:
        """
        Whether a part of the run, like "fold_03", is this call's to do. While the context lasts no other call that
        shares the output folder gets it; one that another call has is not waited for.
        """
        with contextlib.ExitStack() as stack:
            is_free = True
            if self.args.process_index == 0:
                (self.output_dir / LOCKS).mkdir(parents=True, exist_ok=True)
                try:
                    stack.enter_context(FileLock(self.output_dir / LOCKS / f"{part}.lock", timeout=0))
                except Timeout:
                    is_free = False
            yield self.agreed(is_free)

    def reopen_if_damaged(self, directory: Path) -> None:
        """
        Take a fold's or the final model's folder for unfinished if something in it is not as it was written, and say
        so: `run` and `train_final` make that again. Of a complete fold, files that were removed are not missed.
        """
        if self.args.process_index == 0 and (is_trained(directory) or (directory / METRICS).is_file()):
            damaged = set(damaged_files(directory))
            if (directory / METRICS).is_file():
                damaged = {name for name in damaged if (directory / name).exists()}
                damaged |= set() if _is_json(directory / METRICS) else {METRICS}  # older folds have no checksums
            else:
                damaged -= {PREDICTIONS, METRICS}
            # The weights of a frozen encoder are those in the output folder.
            of_encoder = damaged & {ENCODER_SHARD} if self.source.caches_encoder else set()
            of_model = damaged - of_encoder - {PREDICTIONS, METRICS}
            if damaged:
                names = ", ".join(sorted(damaged))
                again = "The model is trained again." if of_model else "Made again without training."
                logger.warning(f"{directory}: damaged {names}. {again}")
                for name in (*of_encoder, METRICS, *([TRAINING_RECORD] if of_model else [])):
                    (directory / name).unlink(missing_ok=True)
        self.agreed(None)  # the others look at the folder only now

    def run(self, fold: Fold, do_train: bool = True, do_eval: bool = True, do_predict: bool = True) -> None:
        """Train, validate and test one fold, going on where an interrupted run stopped."""
        directory = self.fold_dir(fold.index)
        self.reopen_if_damaged(directory)
        if self.args.process_index == 0:
            remove_leftovers(directory)
        model, training = self._trained(directory, fold.train, fold.validation, do_train, name=f"fold {fold.index}")
        trainer = self._trainer(
            model,
            directory,
            name=f"fold {fold.index}",
            eval_strategy="no",
            save_strategy="no",
            load_best_model_at_end=False,
        )
        if not training:  # a checkpoint that is tested as it is met nobody of these parts
            fold = dataclasses.replace(fold, train=[], validation=fold.validation if do_eval else [])
        metrics = {
            "fold": fold.index,
            **{f"{part}_speakers": speakers_of(self.dataset, getattr(fold, part)) for part in PARTS},
            **{f"num_{part}": len(getattr(fold, part)) for part in PARTS},
            "num_epochs": math.ceil(self.args.num_train_epochs) if training else None,
            "temperature": None,  # fitted on validation speakers or not at all
            **training,
        }
        if training:
            metrics["train"], _ = self._evaluate(trainer, fold.train)
        # With --allow_leak test speakers are among these: the report says so by comparing them.
        met = sorted({*metrics["train_speakers"], *self.source.prior_speakers()})
        metrics["train_speakers"] = met or None  # a checkpoint that does not say whom it met
        if do_eval and fold.validation:
            metrics["validation"], validated = self._evaluate(trainer, fold.validation)
            metrics["temperature"] = fit_temperature(validated)
            metrics["validation"]["ece"] = calibration_error(validated)
            after = with_temperature(validated, metrics["temperature"])
            metrics["validation"]["ece_after_temperature"] = calibration_error(after)
            if trainer.is_world_process_zero():
                scores = ", ".join(f"{name} {metrics['validation'][name]:.3f}" for name in ("wa", "ua"))
                print(f"fold {fold.index}, validation: {scores}")
        if do_predict:
            metrics["test"], predictions = self._evaluate(trainer, fold.test)
            if trainer.is_world_process_zero():
                predictions.insert(2, "fold", fold.index)
                self._finish(directory, {PREDICTIONS: predictions.to_csv(index=False), METRICS: json_text(metrics)})
                shutil.rmtree(directory / TRAINER_FOLDER, ignore_errors=True)
        trainer.accelerator.wait_for_everyone()

    def _finish(self, directory: Path, texts: dict[str, str]) -> None:
        """Write the last files of a folder by name, each with its checksum; the last of them marks it as finished."""
        *before, last = texts
        for name in before:
            write_atomically(directory / name, texts[name])
        checksums = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
        write_checksums(directory, (read_checksums(directory) or {}) | checksums)
        write_atomically(directory / last, texts[last])

    def train_final(self, directory: Path, num_epochs: int | None) -> None:
        """
        The model to publish: all speakers, a fixed number of epochs (`None`: as long as the folds). Nothing is left to
        test it on.
        """
        changes = {} if num_epochs is None else {"num_train_epochs": num_epochs, "max_steps": -1}
        self.reopen_if_damaged(directory)
        if self.args.process_index == 0:
            remove_leftovers(directory)
        self._trained(directory, range(len(self.dataset)), [], do_train=True, name="final", **changes)
        if self.args.should_save:
            shutil.rmtree(directory / TRAINER_FOLDER, ignore_errors=True)

    def metrics(self, num_folds: int) -> list[dict]:
        """metrics.json of the folds that are complete, in order."""
        complete = [index for index in range(num_folds) if self.is_complete(index)]
        return [json.loads((self.fold_dir(index) / METRICS).read_text()) for index in complete]

    def predictions(self, num_folds: int) -> pd.DataFrame:
        """Predictions of the folds that are complete, in the order of the folds."""
        complete = [index for index in range(num_folds) if self.is_complete(index)]
        return pd.concat([read_predictions(self.fold_dir(index) / PREDICTIONS) for index in complete])

    def _trained(
        self, directory: Path, train: Sequence[int], validation: Sequence[int], do_train: bool, name: str, **changes
    ) -> tuple[CAMuLeNetForAudioClassification, dict]:
        """The model of a folder, trained (with `changes` of the arguments) where it is not yet, and how that went."""
        if is_trained(directory):
            with_encoder = not self.source.caches_encoder
            if self.args.process_index == 0 and not with_encoder and not (directory / ENCODER_SHARD).exists():
                self.prepare()
                self._link_encoder(directory)
            self.agreed(None)  # the others load it only now
            model = CAMuLeNetForAudioClassification.from_pretrained(directory, with_encoder=with_encoder)
            return model, json.loads((directory / TRAINING_RECORD).read_text())
        set_seed(self.args.seed)
        speakers = speakers_of(self.dataset, [*train, *validation])
        model = self.source.build(self.dataset, speakers, with_encoder=not self.source.caches_encoder)
        if not do_train:
            self._check_heads(model.config, name)
            return model, {}

        validated = bool(validation)
        trainer = self._trainer(
            model,
            directory,
            name,
            train_dataset=TrainingClips(
                self.store.training_subset(train, self.augment, self.crop_s),
                list(self.dataset.select(train)["utterance_id"]),
                self._data_seed,
            ),
            eval_dataset=self.store.subset(self._by_length(validation)) if validated else None,
            eval_strategy="epoch" if validated else "no",
            save_strategy="epoch",
            logging_strategy="epoch",
            save_total_limit=None,  # FoldTrainer keeps the last one and the best
            load_best_model_at_end=validated,
            metric_for_best_model="ua" if validated else None,
            greater_is_better=True if validated else None,
            **changes,
        )
        if self.args.process_index:
            set_seed(self.args.seed + self.args.process_index)  # or all would draw the same dropout and stretches
        last_checkpoint = self.agreed(
            _usable_checkpoint(directory / TRAINER_FOLDER) if self.args.process_index == 0 else None
        )
        started = time.perf_counter()
        trainer.train(resume_from_checkpoint=last_checkpoint)
        training = {
            "best_epoch": None,
            # Not known of a fold that was interrupted: part of it ran in another process.
            "train_s": time.perf_counter() - started if last_checkpoint is None else None,
            "peak_memory_bytes": _peak_memory_bytes(),
            "history": _history(trainer.state.log_history),
        }
        if validated:
            training["best_epoch"] = next(
                math.ceil(log["epoch"])
                for log in trainer.state.log_history
                if "eval_ua" in log and log["step"] == trainer.state.best_global_step
            )
        if self.source.lora_rank is not None:
            from .lora import merge_lora

            merge_lora(model.camulenet.speech_encoder)
        trainer.save_model(str(directory))
        if trainer.is_world_process_zero():
            # The Trainer's pickle of its arguments: a checkpoint holds safetensors, JSON and Python only.
            (directory / "training_args.bin").unlink(missing_ok=True)
            if self.source.caches_encoder:
                self._add_encoder(directory)
            files = [path for path in sorted(directory.iterdir()) if path.suffix in CHECKPOINT_SUFFIXES]
            files = [path for path in files if path.name not in (METRICS, TRAINING_RECORD)]  # of an earlier training
            write_checksums(directory, {path.name: sha256(path) for path in files})
            self._finish(directory, {TRAINING_RECORD: json_text(training)})
        trainer.accelerator.wait_for_everyone()
        return model, training

    def _add_encoder(self, directory: Path) -> None:
        """Makes a whole checkpoint of one whose encoder was not in memory; the encoder's file is one for all folds."""
        self._link_encoder(directory)
        os.replace(directory / SAFE_WEIGHTS_NAME, directory / TRAINED_SHARD)
        weight_map, total_size = {}, 0
        for name in (ENCODER_SHARD, TRAINED_SHARD):
            with safe_open(directory / name, "pt") as shard:
                weight_map |= dict.fromkeys(shard.keys(), name)
                total_size += sum(shard.get_tensor(key).nbytes for key in shard.keys())  # noqa: SIM118
        write_json(
            directory / SAFE_WEIGHTS_INDEX_NAME, {"metadata": {"total_size": total_size}, "weight_map": weight_map}
        )

    def _link_encoder(self, directory: Path) -> None:
        encoder = directory / ENCODER_SHARD
        encoder.unlink(missing_ok=True)
        try:
            os.link(self.output_dir / ENCODER_FILE, encoder)
        except OSError:  # a file system without hard links
            shutil.copyfile(self.output_dir / ENCODER_FILE, encoder)

    def _check_heads(self, config: CAMuLeNetConfig, name: str) -> None:
        """
        Whether a model that is not trained here can predict.

        Raises:
            RunError: its heads are new, hence random.
        """
        trained = self.source.checkpoint_config
        if trained is None:
            raise RunError(f"The model of {name} is not trained yet: --do_train trains it.")
        if config.id2label != trained.id2label or config.id2gender not in ({}, trained.id2gender):
            heads = [*trained.id2label.values(), *trained.id2gender.values()]
            wanted = [*config.id2label.values(), *config.id2gender.values()]
            raise RunError(
                f"{self.source.model_name_or_path} predicts {', '.join(heads)}, not {', '.join(wanted)}. Test it on "
                "what it knows (--label_map, or --multitask false where only the gender is missing), or fine-tune it: "
                "run_ser.py with --model_name_or_path and --do_train."
            )

    def _trainer(self, model, directory: Path, name: str, train_dataset=None, eval_dataset=None, **changes) -> Trainer:
        args = dataclasses.replace(
            self.args,
            output_dir=str(directory / TRAINER_FOLDER),
            push_to_hub=False,
            hub_token=None,  # the Trainer puts its arguments beside the weights
            label_smoothing_factor=0.0,  # the model does it (run_ser.run): the Trainer's own leaves the gender out
            remove_unused_columns=False,
            **self._ddp_arguments(model.config),
            **changes,
        )
        trainer = FoldTrainer(
            model=model,
            args=args,
            data_collator=collate,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=self.extractor,
            compute_metrics=compute_metrics,
            name=name,
        )
        if train_dataset is not None:
            trainer.add_callback(EpochOfDraws(train_dataset))
        if not args.disable_tqdm:
            trainer.remove_callback(ProgressCallback)
            trainer.add_callback(FoldProgress(name))
        return trainer

    @property
    def _data_seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def _ddp_arguments(self, config: CAMuLeNetConfig) -> dict:
        """Training arguments by which several processes do what one does on the global batch."""
        arguments = {"data_seed": self._data_seed}
        if self.args.ddp_find_unused_parameters is None:
            # AlexNet's classifier is never used, nor are some weights of encoders (the norm behind a weighted sum).
            arguments["ddp_find_unused_parameters"] = not config.freeze_encoder or config.alexnet_classifier
        return arguments

    def _by_length(self, rows: Sequence[int]) -> list[int]:
        """Rows with the longest clips first: batches of like lengths, and too large a batch fails at once."""
        return sorted(rows, key=lambda row: self.store.durations_s[row][0], reverse=True)

    def _evaluate(self, trainer: Trainer, rows: Sequence[int]) -> tuple[dict[str, float], pd.DataFrame]:
        """Scores and predictions (predictions.csv without `fold`) over some rows, in the order of the dataset."""
        rows = self._by_length(rows)
        trainer.attention_entropies.clear()
        output = trainer.predict(self.store.subset(rows), metric_key_prefix="test")
        scores = {
            name: output.metrics[f"test_{name}"]
            for name in ("wa", "ua", "wf1", "macro_f1", "gender_wa", "loss")
            if f"test_{name}" in output.metrics
        }
        if trainer.attention_entropies:
            scores["co_attention_entropy"] = statistics.fmean(trainer.attention_entropies)
        config = trainer.model.config
        logits, gender_logits = _heads(output.predictions)
        heads = {"emotion": (logits, config.id2label)}
        if gender_logits is not None:
            heads["gender"] = (gender_logits, config.id2gender)
        part = self.dataset.select(rows)
        truth = {name: part.features[name].names for name in ("emotion", "gender")}
        columns = {"utterance_id": list(part["utterance_id"]), "speaker_id": list(part["speaker_id"])}
        for name, names in truth.items():
            columns[name] = [None if label is None else names[label] for label in part[name]]
        for name in truth:
            best = heads[name][0].argmax(axis=-1) if name in heads else [None] * len(rows)
            columns[f"predicted_{name}"] = [None if index is None else heads[name][1][int(index)] for index in best]
        for head_logits, names in heads.values():
            probabilities = torch.from_numpy(head_logits).double().softmax(dim=-1).numpy()
            columns |= {f"p_{names[index]}": probabilities[:, index].round(6) for index in sorted(names)}
        return scores, pd.DataFrame(columns, index=rows).sort_index()


def median_best_epoch(fold_metrics: Sequence[dict]) -> int | None:
    """Median of the folds' best epochs, rounded up; `None` where no fold was validated."""
    best = [metrics["best_epoch"] for metrics in fold_metrics if metrics.get("best_epoch")]
    return math.ceil(statistics.median(best)) if best else None


def _usable_checkpoint(trainer_folder: Path) -> str | None:
    """The Trainer's last checkpoint that is whole and as it was written, if there is one. Later ones are removed."""
    folders = sorted(trainer_folder.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    for folder in reversed(folders):
        if _is_intact(folder):
            best = json.loads((folder / TRAINER_STATE_NAME).read_text())["best_model_checkpoint"]
            if best is None or Path(best) == folder or _is_intact(Path(best)):
                return str(folder)
        if (folder / CHECKSUMS).is_file():  # or a kill came before its end, which is no damage
            logger.warning(f"{folder}: damaged, or the best checkpoint before it is. The fold goes on without it.")
        shutil.rmtree(folder)
    return None


def _is_intact(folder: Path) -> bool:
    return (folder / CHECKSUMS).is_file() and not damaged_files(folder)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def _history(log_history: Sequence[dict]) -> list[dict]:
    """The Trainer's log as one dictionary an epoch."""
    names = {
        "loss": "train_loss",
        "emotion_loss": "train_emotion_loss",
        "gender_loss": "train_gender_loss",
        "grad_norm": "grad_norm",
        "emotion_grad_norm": "emotion_grad_norm",
        "gender_grad_norm": "gender_grad_norm",
        "eval_loss": "validation_loss",
        "eval_ua": "validation_ua",
        "eval_wa": "validation_wa",
        "eval_gender_wa": "validation_gender_wa",
    }
    epochs = {}
    for log in log_history:
        values = {new: log[old] for old, new in names.items() if old in log}
        if values:
            epoch = math.ceil(log["epoch"])  # of a log inside an epoch, that epoch
            epochs.setdefault(epoch, {"epoch": epoch}).update(values)
    return list(epochs.values())


def _peak_memory_bytes() -> int:
    """Peak memory of the accelerator, or of this process, since it started."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes on Linux
