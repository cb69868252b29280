"""Fine-tune CAMuLeNet and evaluate it on unseen speakers.

    accelerate launch run_ser.py --corpus ravdess --data_dir DIR --protocol speakers --num_folds 12 \\
        --preset camulenet --encoder_name_or_path openai/whisper-medium --output_dir OUT
    python run_ser.py CONFIG.yaml [flags that differ from the file]
    run-ser evaluate --model_name_or_path OUT/final --corpus crema_d --data_dir DIR --output_dir OUT2
    run-ser predict FILES_OR_FOLDERS --model OUT/final     # more: run-ser predict --help
    run-ser audit SPLIT_OR_TABLE                           # more: run-ser audit --help

Each fold trains a model, chooses its epoch by the UA on validation speakers (--train_on_validation: trains on them,
too, for a fixed number of epochs) and predicts the test speakers; when every fold of OUT is complete they are pooled.
A complete fold is never redone: the same command goes on where it stopped, and array jobs share one OUT by `--folds`.
"""

import argparse
import contextlib
import dataclasses
import errno
import gc
import json
import logging
import os
import platform
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

try:
    import torchaudio  # noqa: F401 (first: transformers imports it, too, and dies of it without a word)
except (ImportError, OSError) as error:
    sys.exit(
        f"run-ser: torchaudio cannot be imported ({error}). `make setup` installs it. Beside a CPU-only torch remove "
        "the files torchaudio/lib/*.so of its installation: they look for CUDA, and nothing here needs them."
    )
import datasets
import torch
import yaml
from accelerate import PartialState
from huggingface_hub import CommitOperationAdd, HfApi
from safetensors import SafetensorError
from transformers import HfArgumentParser, TrainingArguments
from transformers.utils import logging as transformers_logging

from dataset_scripts import CORPORA, CorpusError, LoadedCorpora, builder_class, load_by_arguments
from dataset_scripts.demo import DISCLAIMER
from dataset_scripts.folds import get_folds
from dataset_scripts.label_maps import with_labels
from dataset_scripts.own_corpus import COLUMNS
from dataset_scripts.publish import HUB_ERRORS, reason_of
from dataset_scripts.yaml_files import load_yaml
from modeling_camulenet import CAMuLeNetConfig
from modeling_camulenet.configuration_camulenet import CODE_VERSION
from ser_protocol import predict, presets
from ser_protocol.arguments import DataArguments, ModelArguments
from ser_protocol.audit import audit, folds_table
from ser_protocol.audit import main as audit_command
from ser_protocol.augmentation import training_augmentation
from ser_protocol.card import code_files, model_card
from ser_protocol.feature_cache import CacheError
from ser_protocol.figures import write_plots
from ser_protocol.files import CHECKSUMS, remove_leftovers, write_atomically, write_json
from ser_protocol.results import build_results, console_table, data_lines, results_markdown
from ser_protocol.runner import (
    LOCKS,
    FoldRunner,
    ModelSource,
    RunError,
    dataset_hash,
    is_trained,
    median_best_epoch,
    speakers_of,
)
from ser_protocol.statistics import check_predictions

# Flags that may differ between calls that share one --output_dir: none changes a figure.
FREE_ARGUMENTS = {
    "output_dir", "data_dir", "note", "folds", "token", "cache_dir", "cache_all_layers", "final_model", "do_train",
    "do_eval", "do_predict",
}  # fmt: skip
FREE_TRAINING_PREFIXES = (
    "logging_", "log_", "report_to", "push_to_hub", "hub_", "disable_tqdm", "dataloader_", "local_rank", "ddp_",
    "use_cpu", "run_name", "resume_from_checkpoint", "project", "trackio_", "save_", "eval_", "per_device_eval_",
    "include_", "prediction_",
)  # fmt: skip
HELD_ARGUMENTS = {"dataloader_drop_last", "eval_delay"}  # these do, whatever their prefix
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
ARGUMENTS = "arguments.json"  # of the first call with an --output_dir; those that change figures are held
PART_OF_A_RUN = re.compile(r"--(folds\b|do[_-](train|eval|predict)\b)")
# Of results.json's `run`, what says nothing of a checkpoint that is tested as it is.
OF_TRAINING = (
    *("num_epochs", "speed_factors", "crop_s", "spec_augment", "equalizer_db", "train_on_validation"),
    *("learning_rate", "lr_scheduler", "warmup", "weight_decay", "batch_size"),
    *("gender_loss_weight", "adversarial_gender", "lora_rank", "audit"),
)
SUBCOMMANDS = {"predict": predict.main, "audit": audit_command}  # beside `evaluate`, which is a run
TOKEN = re.compile(r"(--(?:hub[_-])?token[ =])\S+")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults behind the flags, and this module's text as it stands."""


def parse_arguments(argv: list[str]) -> tuple[ModelArguments, DataArguments, TrainingArguments]:
    """
    Arguments from the command line, or from a YAML file named first; flags after it win.

    Raises:
        RunError: unknown preset or keys, no --output_dir, or what TrainingArguments refuses.
    """
    argv = flags_of(argv)
    parser = HfArgumentParser(
        (ModelArguments, DataArguments, TrainingArguments),
        prog="run-ser",
        usage="%(prog)s [CONFIG.yaml] [flags] | run-ser evaluate [flags] | run-ser predict ... | run-ser audit ...",
        description=__doc__,
        formatter_class=HelpFormatter,
    )
    known = parser._option_string_actions
    for flag in ("--branches", "--speed_factors"):
        known[flag].nargs = "*"  # none of them is a choice, too
    unknown = [flag for flag in argv if flag.startswith("--") and flag.split("=")[0] not in known]
    if unknown:
        raise RunError(f"Unknown arguments: {', '.join(unknown)}. `run-ser --help` lists the known ones.")
    given = parser.parse_args(argv)
    if given.model_name_or_path and (given.preset or given.encoder_name_or_path):
        raise RunError("--model_name_or_path brings its own encoder and preset: leave the other two flags out.")
    pretrained = given.model_name_or_path or given.encoder_name_or_path
    if bool(given.corpus) == bool(given.dataset_name):
        raise RunError("Give either --corpus, with its --data_dir, or --dataset_name.")
    preset = given.preset or ("camulenet" if pretrained else "camulenet-small")
    try:
        base = presets.base_of(preset)
    except ValueError as error:
        raise RunError(str(error)) from error
    if given.output_dir is None:
        raise RunError("--output_dir says where the run goes: give a folder, for example runs/ravdess.")
    # The preset's training arguments are defaults: parsing again lets any flag win over them.
    parser.set_defaults(
        preset=None if given.model_name_or_path else preset,
        multitask=presets.build_config(preset).num_genders > 0,
        speed_factors=presets.SPEED_FACTORS.get(base, []),
        crop_s=presets.CROP_S.get(base),
        # What a frozen encoder reads is computed once, and altered by nothing.
        equalizer_db=None if pretrained else presets.EQUALIZER_DB.get(base),
        # Of test-selected, the validation part is the test part.
        train_on_validation=base in presets.TRAIN_ON_VALIDATION and given.protocol != "test-selected",
        dataloader_pin_memory=torch.cuda.is_available(),
        **presets.TRAINING[base],
    )
    try:
        model_args, data_args, training_args = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    except ValueError as error:
        raise RunError(str(error)) from error
    if training_args.num_train_epochs <= 0:
        raise RunError(
            f"--num_train_epochs {training_args.num_train_epochs:g} trains nothing: give 1 or more, or test a "
            "checkpoint as it is with `run-ser evaluate`."
        )
    if model_args.train_on_validation and data_args.protocol == "test-selected":
        raise RunError(
            "--train_on_validation with --protocol test-selected would train on the test speakers, who choose the "
            "epoch there: leave it out."
        )
    return model_args, data_args, training_args


def flags_of(argv: list[str]) -> list[str]:
    """The command line with the flags of a configuration file in the file's place."""
    is_file = argv and argv[0].endswith((".yaml", ".yml", ".json"))
    if argv and not is_file and not argv[0].startswith("-"):
        commands = ", ".join([*SUBCOMMANDS, "evaluate"])
        raise RunError(f"{argv[0]} is neither a configuration file (.yaml, .yml, .json) nor one of {commands}.")
    return _file_arguments(Path(argv[0])) + argv[1:] if is_file else argv


def _file_arguments(path: Path) -> list[str]:
    if not path.is_file():
        raise RunError(f"There is no configuration file {path}.")
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is not YAML in UTF-8: {error}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} must map argument names to values, one a line, like `corpus: ravdess`.")
    argv = []
    for name, value in content.items():
        values = value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else value]
        if value is not None:
            argv += [f"--{name}", *map(str, values)]
    return argv


def load_data(data_args: DataArguments, cache_dir: str | None, token: str | None) -> LoadedCorpora:
    """The utterances that the arguments ask for."""
    for_own_data = {"corpus_name", "language", "file_pattern", *(f"{kind}_column_name" for kind in COLUMNS)}
    if data_args.dataset_name:
        unread = {"data_dir", "file_pattern"}
    else:
        unread = set() if "own" in data_args.corpus else for_own_data
    defaults = {field.name: field.default for field in dataclasses.fields(data_args)}
    ignored = sorted(name for name in unread if getattr(data_args, name) != defaults[name])
    if ignored:
        raise RunError(f"--{', --'.join(ignored)}: not read for these data; leave out what is for other data.")
    return load_by_arguments(vars(data_args), data_args.data_dir or [], cache_dir=cache_dir, token=token)


def held_arguments(model_args, data_args, training_args, num_folds: int, data_hash: str) -> dict:
    """
    The arguments that change figures, the same as those of an earlier call in the same OUT.

    Raises:
        RunError: they are not; names each difference.
    """
    training = {
        name: value
        for name, value in training_args.to_sanitized_dict().items()
        if name in HELD_ARGUMENTS or not name.startswith(FREE_TRAINING_PREFIXES)
    }
    arguments = dataclasses.asdict(model_args) | dataclasses.asdict(data_args) | training
    arguments |= {"num_folds": num_folds, "num_processes": training_args.world_size, "dataset_sha256": data_hash}
    arguments = {name: value for name, value in sorted(arguments.items()) if name not in FREE_ARGUMENTS}
    arguments = json.loads(json.dumps(arguments, default=str))
    path = Path(training_args.output_dir) / ARGUMENTS
    if path.is_file():
        # An argument that the run's version did not have yet was, in effect, at its default.
        kinds = (type(model_args), type(data_args), TrainingArguments)
        defaults = {field.name: field.default for kind in kinds for field in dataclasses.fields(kind)}
        try:
            written = json.loads(path.read_text())
        except ValueError as error:
            raise RunError(
                f"{path} is damaged: nobody knows whether the folds there were made with these arguments. If you do, "
                "remove that file and call again; otherwise give another --output_dir."
            ) from error
        before = {name: defaults[name] for name in arguments if name in defaults} | written
        changed = [name for name in arguments | before if arguments.get(name) != before.get(name)]
        if changed:
            lines = "\n".join(
                f"  {name}: {before.get(name)!r} before, {arguments.get(name)!r} now" for name in changed
            )
            raise RunError(
                f"{training_args.output_dir} holds a run with other arguments:\n{lines}\n"
                "Give another --output_dir, or the same arguments to go on with that run."
            )
    return arguments


def chosen_folds(folds: list, numbers: list[int] | None) -> list:
    """The folds of --folds, all by default."""
    if numbers is None:
        return folds
    wrong = [number for number in numbers if not 0 <= number < len(folds)]
    if wrong:
        raise RunError(f"--folds {' '.join(map(str, wrong))}: there are {len(folds)} folds, 0 to {len(folds) - 1}.")
    return [folds[number] for number in sorted(set(numbers))]


def check_final_model(final_model: str, num_folds: int, push_to_hub: bool) -> None:
    """
    Whether there will be a model to publish.

    Raises:
        RunError: --final_model names a fold that there is not, or nothing where something is to be pushed.
    """
    if final_model == "none" and push_to_hub:
        raise RunError("--push_to_hub with --final_model none: there is no model to push. Give all, or fold_NN.")
    if final_model.startswith("fold_") and int(final_model.removeprefix("fold_")) >= num_folds:
        raise RunError(
            f"--final_model {final_model}: there are {num_folds} folds, fold_00 to fold_{num_folds - 1:02d}."
        )


def describe_run(
    model_args,
    data_args,
    training_args,
    data: LoadedCorpora,
    folds,
    config: CAMuLeNetConfig,
    num_parameters: dict[str, int],
    warnings: list[str],
) -> dict:
    """The `run` part of results.json: what ran, on what, how."""
    dataset = data.dataset
    met = [speaker.split("/")[0] for speaker in config.training_speakers]  # by the checkpoint that is gone on from
    sources = sources_of([*(data_args.corpus or []), *met])
    if data_args.dataset_name:
        info = dataset.info
        sources.append(source_fields(data_args.dataset_name, info.license, "", info.citation, info.homepage))
    if model_args.model_name_or_path:
        encoder = f"of the checkpoint {model_args.model_name_or_path}"
    else:
        from_scratch = f"{config.encoder_config.model_type}, from scratch" if config.has_encoder else "none"
        encoder = model_args.encoder_name_or_path or from_scratch
    return {
        "corpus": " + ".join(dict.fromkeys(dataset["corpus"][:])),
        "dataset": data_args.dataset_name,
        "dataset_config": data_args.dataset_config_name,
        "data": describe_data(data),
        "audit": audit(folds_table(dataset, folds)).summary(),
        "protocol": data_args.protocol,
        "num_folds": len(folds),
        "split_seed": data_args.split_seed,
        "fold_files": sorted({name for fold in folds for name in fold.files}) or None,
        "seed": training_args.seed,
        "preset": model_args.preset,
        "encoder": encoder,
        "base_model": model_args.model_name_or_path or model_args.encoder_name_or_path,
        "encoder_context": config.encoder_context,
        "branches": config.branches,
        "fusion": config.fusion,
        "multitask": bool(config.num_genders),
        "gender_loss_weight": config.gender_loss_weight if config.num_genders else None,
        "adversarial_gender": config.adversarial_gender if config.num_genders else None,
        "num_eligible_utterances": len(eligible_rows(folds)),
        "num_speakers": len(set(dataset["speaker_id"][:])),
        "lora_rank": model_args.lora_rank,
        "cache_dtype": model_args.cache_dtype
        if config.has_encoder and config.freeze_encoder and not model_args.lora_rank
        else None,
        **num_parameters,
        "num_epochs": training_args.num_train_epochs,
        "speed_factors": model_args.speed_factors,
        "crop_s": model_args.crop_s,
        "spec_augment": model_args.spec_augment,
        "equalizer_db": model_args.equalizer_db,
        "train_on_validation": model_args.train_on_validation,
        "learning_rate": training_args.learning_rate,
        "lr_scheduler": str(training_args.lr_scheduler_type.value),
        "warmup": training_args.warmup_steps,
        "weight_decay": training_args.weight_decay,
        "batch_size": training_args.train_batch_size
        * training_args.gradient_accumulation_steps
        * training_args.world_size,
        "num_processes": training_args.world_size,
        "hardware": hardware(),
        "languages": sorted(set(dataset["language"][:])),
        "language_of_corpus": language_of_corpus(dataset),
        "sources": sources,
        "licenses": sorted({source["license"] for source in sources} - {""}),
        "hub_model_id": training_args.hub_model_id,
        "disclaimer": " ".join(filter(None, [DISCLAIMER * ("demo" in (data_args.corpus or [])), data_args.note]))
        or None,
        "warnings": warnings,
        "command": whole_command(command_flags(sys.argv[1:])),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "transformers", "datasets", "accelerate", "numpy")}
        | {"camulenet": CODE_VERSION},
    }


def sources_of(names: list[str]) -> list[dict[str, str]]:
    """Licence and citation of each corpus that is named and known here, each once."""
    builders = [builder_class(name) for name in sorted(set(names) & set(CORPORA))]
    return [source_fields(b.corpus, b.license, b.license_id, b.citation, b.homepage) for b in builders]


def source_fields(corpus: str, license: str, license_id: str, citation: str, homepage: str) -> dict[str, str]:
    """A corpus as the card names it; `license_id` is the Hub's, "" where that is for the card to find."""
    return {
        "corpus": corpus,
        "license": license,
        "license_id": license_id,
        "citation": " ".join(citation.split()),
        "homepage": homepage,
    }


def hardware() -> str:
    """What computes, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"a CPU ({platform.machine()}, {threads} thread{'s' if threads > 1 else ''})"


def language_of_corpus(dataset) -> dict[str, str] | None:
    """Corpus -> its language; `None` where a corpus has several, or all have the same."""
    pairs = set(zip(dataset["corpus"][:], dataset["language"][:]))
    languages = dict(pairs)
    return languages if len(languages) == len(pairs) and len(set(languages.values())) > 1 else None


def describe_data(data: LoadedCorpora) -> dict:
    """What was taken of the corpora; see `results.data_lines`."""
    return {
        "label_map": data.label_map and data.label_map._asdict(),
        "utterances_before": data.counts_before,
        "utterances": data.counts_after,
        "left_out_files": data.left_out_files,
    }


def eligible_rows(folds) -> list[int]:
    """The rows that are tested, over all folds."""
    return sorted(row for fold in folds for row in fold.test)


def command_flags(argv: list[str]) -> list[str]:
    """The flags of a call, behind "evaluate" where that is the subcommand."""
    return ["evaluate", *flags_of(argv[1:])] if argv[:1] == ["evaluate"] else flags_of(argv)


def evaluation_arguments(argv: list[str]) -> list[str]:
    """
    What `run-ser evaluate` passes on: the checkpoint as it is, tested on every fold, and nothing trained.

    Raises:
        RunError: no checkpoint, or something is to be trained.
    """
    flags = flags_of(argv)
    names = {flag.split("=")[0] for flag in flags}
    if "--model_name_or_path" not in names:
        raise RunError("evaluate tests a checkpoint: give --model_name_or_path.")
    wrong = sorted(names & {"--do_train", "--preset", "--encoder_name_or_path", "--final_model", "--push_to_hub"})
    if wrong:
        raise RunError(f"evaluate trains and publishes nothing: leave out {', '.join(wrong)}.")
    return [*flags, "--do_predict", "--final_model", "none"]


def whole_command(argv: list[str]) -> str:
    """The command that does all that this call and the earlier ones of its array did; without tokens."""
    if argv[:1] == ["evaluate"]:
        return "run-ser " + TOKEN.sub(r"\1...", shlex.join(argv))
    whole, is_part = [], False
    for argument in argv:
        if argument.startswith("--"):
            is_part = bool(PART_OF_A_RUN.match(argument))
        if not is_part:
            whole.append(argument)
    return "python run_ser.py " + TOKEN.sub(r"\1...", shlex.join(whole))


class CollectedWarnings(logging.Handler):
    """Collects what `dataset_scripts` warns of, for the outputs: it bears on the figures."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord):
        self.messages.append(record.getMessage())


def set_up_threads() -> None:
    """
    One thread a process for training on a CPU, unless OMP_NUM_THREADS says otherwise: two folds at once on a thread
    each get further than one fold on two, and on a busy machine threads that wait for each other take many times as
    long (benchmarks/threads.py, training_step.py --threads).
    """
    if "OMP_NUM_THREADS" not in os.environ and not torch.cuda.is_available():
        torch.set_num_threads(1)


def ask_for_determinism() -> None:
    """
    On a GPU the algorithms that give the same numbers again, where there are such; torch warns of each other that it
    meets. --full_determinism refuses those instead. Without being asked, CUDA gave sixteen different predictions in
    sixteen runs of one fold with one seed (docs/scale.md).
    """
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # costs time, and is for finding defects


def run(model_args: ModelArguments, data_args: DataArguments, training_args: TrainingArguments) -> None:
    """Everything that the arguments ask for."""
    ask_for_determinism()
    transformers_logging.disable_progress_bar()  # of writing weights, every epoch; the folds have theirs
    check_output_dir(Path(training_args.output_dir))
    data_warnings = CollectedWarnings()
    logging.getLogger("dataset_scripts").addHandler(data_warnings)
    data = load_data(data_args, model_args.cache_dir, model_args.token)
    dataset = data.dataset
    if training_args.should_save:
        print("\n".join(data_lines(describe_data(data))))
    folds = get_folds(dataset, data_args.protocol, data_args.num_folds, data_args.split_seed)
    if model_args.train_on_validation:
        folds = [
            dataclasses.replace(fold, train=sorted([*fold.train, *fold.validation]), validation=[]) for fold in folds
        ]
    logging.getLogger("dataset_scripts").removeHandler(data_warnings)
    wanted = chosen_folds(folds, data_args.folds)
    check_final_model(model_args.final_model, len(folds), training_args.push_to_hub)
    # With an --eval_strategy, TrainingArguments sets do_eval by itself.
    do_eval = training_args.do_eval and training_args.eval_strategy == "no"
    everything = not (training_args.do_train or do_eval or training_args.do_predict)
    stages = {name: everything or getattr(training_args, name) for name in ("do_train", "do_eval", "do_predict")}
    trained_here = stages["do_train"] or any(map(is_trained, Path(training_args.output_dir).glob("fold_*")))
    hub = {"revision": model_args.model_revision, "token": model_args.token, "cache_dir": model_args.cache_dir}
    with model_errors(model_args):
        checkpoint = ModelSource(model_args.preset, model_name_or_path=model_args.model_name_or_path, hub=hub)
        if checkpoint.checkpoint_config is not None and not trained_here:
            dataset = under_labels_of(checkpoint.checkpoint_config, dataset)
    emotions, genders = (dataset.features[name].names for name in ("emotion", "gender"))
    overrides = {"id2gender": dict(enumerate(genders)) if model_args.multitask else {}}
    if model_args.multitask and len(set(dataset["gender"][:]) - {None}) < 2:
        overrides["id2gender"] = {}
        data_warnings.messages.append("No two genders of speakers are known: the model learns the emotion alone.")
    both = sorted(set(emotions) & set(overrides["id2gender"].values()))
    if both:
        raise RunError(
            f"{', '.join(both)}: the corpus has an emotion and a gender of that name, and predictions.csv one column "
            "for each name. Give one of them another name, or learn the emotion alone (--multitask false)."
        )
    for name in ("encoder_context", "trainable_encoder_layers", "use_weighted_layer_sum", "branches", "fusion"):
        if getattr(model_args, name) is not None:
            overrides[name] = getattr(model_args, name)
    if model_args.fusion == "none":
        overrides.setdefault("branches", [])
    if model_args.fusion == "branches":
        overrides.setdefault("trainable_encoder_layers", 0)
    if training_args.label_smoothing_factor:
        overrides["label_smoothing"] = training_args.label_smoothing_factor
    source = ModelSource(
        model_args.preset,
        model_args.encoder_name_or_path,
        model_args.model_name_or_path,
        overrides,
        hub,
        model_args.lora_rank,
    )
    with model_errors(model_args):
        # The folds of earlier calls are in the results, too: with a leak allowed, all are looked at.
        warnings = leak_warnings(data_args, dataset, folds if data_args.allow_leak else wanted, source)
        # Built once before hours are spent: an encoder that cannot be used is an error now.
        model = source.build(dataset, [])
    check_cache_arguments(source, model_args, training_args)
    extractor, config = model.camulenet.feature_extractor, model.config
    num_parameters = {
        "num_parameters": model.num_parameters(),
        "num_trainable_parameters": model.num_parameters(only_trainable=True),
    }
    del model  # its encoder may be large
    warnings += data_warnings.messages + cut_warnings(dataset, extractor)
    arguments = held_arguments(model_args, data_args, training_args, len(folds), dataset_hash(dataset))

    augment = training_augmentation(extractor, model_args.spec_augment, model_args.equalizer_db)
    speed_factors, crop_s = model_args.speed_factors, model_args.crop_s
    cache = {
        "cache_dir": model_args.cache_dir,
        "dtype": model_args.cache_dtype,
        "all_layers_confirmed": model_args.cache_all_layers,
    }
    runner = FoldRunner(dataset, extractor, source, training_args, augment, speed_factors, crop_s, cache)
    reopen_damaged(runner, wanted)
    to_do = [fold for fold in wanted if not runner.agreed(runner.is_complete(fold.index))]
    if not source.caches_encoder:
        set_up_threads()
    if to_do:
        runner.prepare()
    set_up_threads()  # an encoder that fills the cache makes use of all before
    path, text = runner.output_dir / ARGUMENTS, json.dumps(arguments, indent=2) + "\n"  # unrounded: they are compared
    if training_args.should_save and not (path.is_file() and path.read_text() == text):
        # Only now that the audio is known to be good, or mending it would be a change.
        write_atomically(path, text)
    for fold in to_do:
        with runner.claimed(runner.fold_dir(fold.index).name) as is_free:
            if not is_free:
                if training_args.should_save:
                    print(f"fold {fold.index}: left to another call, which is at it.")
            elif not runner.agreed(runner.is_complete(fold.index)):
                runner.run(fold, **stages)

    def is_complete() -> bool:
        return runner.agreed(all(runner.is_complete(fold.index) for fold in folds))

    if is_complete():
        reopen_damaged(runner, [fold for fold in folds if fold not in wanted])
    run = describe_run(model_args, data_args, training_args, data, folds, config, num_parameters, warnings)
    if not trained_here:
        run |= {"tested_checkpoint": model_args.model_name_or_path, **dict.fromkeys(OF_TRAINING)}
    if is_complete():
        with runner.claimed("results") as is_free:
            if is_free:
                finish(runner, run, eligible_rows(folds), stages["do_train"], model_args.final_model)
            elif training_args.should_save:
                print("The folds are left to another call, which pools them.")
    elif training_args.should_save and stages["do_predict"] and runner.metrics(len(folds)):
        print(console_table(build_results(runner.predictions(len(folds)), runner.metrics(len(folds)), run)))


@contextlib.contextmanager
def model_errors(model_args: ModelArguments) -> Iterator[None]:
    """Why a model cannot be used, as a `RunError` that names it."""
    try:
        yield
    except RunError:
        raise
    except (ValueError, OSError, SafetensorError) as error:
        name = model_args.model_name_or_path or model_args.encoder_name_or_path
        where = "" if name is None or Path(name).exists() else " (there is no such directory here)"
        raise RunError(f"{name or model_args.preset} cannot be used{where}: {error}") from error


def under_labels_of(config: CAMuLeNetConfig, dataset: datasets.Dataset) -> datasets.Dataset:
    """The dataset with the labels of a checkpoint that is tested on it, where the checkpoint knows all of its."""
    for column, label_of in (("emotion", config.id2label), ("gender", config.id2gender)):
        names, known = dataset.features[column].names, [label_of[index] for index in sorted(label_of)]
        if names != known and set(names) <= set(known):
            place = {index: known.index(name) for index, name in enumerate(names)}
            dataset = with_labels(dataset, column, [place.get(label) for label in dataset[column][:]], known)
    return dataset


def reopen_damaged(runner: FoldRunner, folds: list) -> None:
    """Take folds for unfinished whose files are not as they were written, but those that another call is at."""
    for fold in folds:
        directory = runner.fold_dir(fold.index)
        if runner.agreed(directory.is_dir()):
            with runner.claimed(directory.name) as is_free:
                if is_free:
                    runner.reopen_if_damaged(directory)


def finish(runner: FoldRunner, run: dict, eligible: list[int], do_train: bool, final_model: str) -> None:
    """Pool the folds, write what readers get, train the model to publish (where training is asked for), push it."""
    args, output_dir = runner.args, runner.output_dir
    fold_metrics = runner.metrics(run["num_folds"])
    predictions = runner.predictions(run["num_folds"])
    try:
        check_predictions(predictions, runner.dataset.select(eligible)["utterance_id"])
    except ValueError as error:
        raise RunError(f"{output_dir}: {error} Remove the folders of the folds concerned, and call again.") from error
    results = build_results(predictions, fold_metrics, run)
    if args.should_save:
        write_atomically(output_dir / "predictions.csv", predictions.to_csv(index=False))
        write_json(output_dir / "results.json", results)
        write_atomically(output_dir / "results.md", results_markdown(results))
        write_plots(predictions, fold_metrics, output_dir / "plots")
        print(console_table(results))
    final = output_dir / ("final" if final_model == "all" else final_model)
    if do_train and final_model == "all":
        runner.train_final(final, median_best_epoch(fold_metrics))
    if not args.should_save:
        return
    folders = [output_dir / "final", *(runner.fold_dir(metrics["fold"]) for metrics in fold_metrics)]
    checkpoints = [folder for folder in folders if is_trained(folder)]
    published = final.name if final in checkpoints else None
    write_atomically(output_dir / "README.md", model_card(results, published=published))
    for folder in checkpoints:
        card = model_card(results, folder.name, code=code_files(folder))
        write_atomically(folder / "README.md", card)
    for folder in (output_dir, output_dir / "plots", *folders):
        remove_leftovers(folder)
    shutil.rmtree(output_dir / LOCKS, ignore_errors=True)
    to_use = f"; the model to use is {final}" if published else ""
    print(f"In {output_dir}: results, plots, card{to_use}.")
    if args.push_to_hub:
        if not published:
            raise RunError(f"There is no checkpoint {final} to push: it comes with --do_train, or no --do_... at all.")
        push(final, output_dir, args)


def push(checkpoint: Path, output_dir: Path, args: TrainingArguments) -> None:
    """
    One push of a checkpoint with the results and plots of the run; it can be repeated.

    Raises:
        RunError: the Hub does not take it, or cannot be reached.
    """
    # A fold's own predictions give way to those of all folds, of which its checksums know nothing.
    files = {path.relative_to(checkpoint): path for path in checkpoint.rglob("*") if path.is_file()}
    files.pop(Path(CHECKSUMS), None)
    files |= {Path(name): output_dir / name for name in ("results.json", "results.md", "predictions.csv")}
    files |= {Path("plots", path.name): path for path in (output_dir / "plots").iterdir()}
    operations = [CommitOperationAdd(name.as_posix(), path) for name, path in sorted(files.items())]
    api, name = HfApi(token=args.hub_token), args.hub_model_id or output_dir.name
    try:
        repo_id = api.create_repo(name, private=args.hub_private_repo, exist_ok=True).repo_id
        commit = api.create_commit(repo_id, operations, commit_message="CAMuLeNet, trained by run_ser.py")
    except HUB_ERRORS as error:
        raise RunError(
            f"{name} was not pushed: {reason_of(error)}\nThe run itself is complete. Repeat the command when that is "
            "mended: nothing is trained again."
        ) from error
    print(f"Pushed to {commit.repo_url}")


def leak_warnings(data_args: DataArguments, dataset, folds, source: ModelSource) -> list[str]:
    """
    What makes the figures other than unseen-speaker figures.

    Raises:
        RunError: a test speaker is among those that the checkpoint was trained on, without --allow_leak.
    """
    warnings = []
    if any(fold.leaky for fold in folds):
        where = (
            "validation part, which chooses the epoch" if data_args.protocol == "test-selected" else "training part"
        )
        warnings.append(
            f"Protocol {data_args.protocol}: test speakers are in the {where}. These are not unseen-speaker figures."
        )
    tested = {speaker for fold in folds for speaker in speakers_of(dataset, fold.test)}
    met = sorted(tested & source.prior_speakers())
    if met:
        names = ", ".join(met[:10]) + (", ..." if len(met) > 10 else "")
        leak = f"{source.model_name_or_path} was trained on {len(met)} of the speakers to test on: {names}"
        if not data_args.allow_leak:
            raise RunError(f"Leak: {leak}. Test on others, or mark the leak in every output with --allow_leak.")
        warnings.append(f"Leak, allowed by --allow_leak: {leak}. These are not unseen-speaker figures.")
    return warnings


def check_cache_arguments(source: ModelSource, model_args: ModelArguments, training_args: TrainingArguments) -> None:
    """
    Whether every argument has something to act on.

    Raises:
        RunError: one would be ignored in silence, with the encoder's features in a cache or without.
    """
    if not source.caches_encoder and (model_args.cache_dtype != "float16" or model_args.cache_all_layers):
        raise RunError(
            "--cache_dtype and --cache_all_layers are for a frozen encoder, and this one is trained: leave them out."
        )
    if source.caches_encoder and training_args.gradient_checkpointing:
        raise RunError(
            "--gradient_checkpointing has nothing to do: the frozen encoder is cached. Leave it out, "
            "or train the encoder (--trainable_encoder_layers, --lora_rank)."
        )
    if source.caches_encoder and model_args.equalizer_db:
        raise RunError(
            "--equalizer_db alters what the encoder reads, and the frozen encoder is cached. Leave it out, or train "
            "the encoder (--trainable_encoder_layers, --lora_rank)."
        )


def cut_warnings(dataset, extractor) -> list[str]:
    """How many clips lose their end, with a preset that reads a fixed duration."""
    longest = extractor.max_duration_s
    cut = 0 if longest is None else sum(duration > longest for duration in dataset["duration_s"][:])
    return [f"{cut} of {len(dataset)} clips are longer than {longest} s and were cut."] if cut else []


def check_output_dir(output_dir: Path) -> None:
    """
    Whether the output folder can be written, before hours are spent on what goes there.

    Raises:
        RunError: it cannot.
    """
    folder = next(folder for folder in (output_dir.absolute(), *output_dir.absolute().parents) if folder.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise RunError(f"--output_dir {output_dir}: {folder} cannot be written. Give a folder that can be.")


def why_refused(error: Exception) -> str | None:
    """Why the disk refuses a file, if that is what the error says."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    # safetensors and torch.save have errors of their own for that.
    if os.strerror(errno.ENOSPC) in str(error) or "inline_container" in str(error):
        return str(error).splitlines()[0]
    return None


def leave_process_group() -> None:
    """Close torch's process group while the interpreter lives: one left to its end can abort the process.

    A thread of gloo that frees a tensor then is ended inside C++ (pytorch/pytorch#179291).
    """
    gc.collect()  # a model in a reference cycle keeps the group, and its threads, alive
    PartialState().destroy_process_group()


def main() -> int | None:
    """Console entry: errors that the user can mend are printed without a traceback."""
    subcommand = sys.argv[1] if sys.argv[1:] else None
    if subcommand in SUBCOMMANDS:
        return SUBCOMMANDS[subcommand](sys.argv[2:])
    received = []

    def stop(number, frame):
        received.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):  # the latter as a cluster ends a job whose time is over
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    go_on = "Finished epochs and folds are kept: the same command goes on from there."
    try:
        argv = evaluation_arguments(sys.argv[2:]) if subcommand == "evaluate" else sys.argv[1:]
        run(*parse_arguments(argv))
        leave_process_group()
    except (RunError, CorpusError, CacheError) as error:
        sys.exit(f"run-ser: {error}")
    except (KeyboardInterrupt, Exception) as error:
        if received or isinstance(error, KeyboardInterrupt):  # some C code makes another error of it
            number = signal.Signals(received[0] if received else signal.SIGINT)
            print(f"run-ser: stopped by {number.name}. {go_on}", file=sys.stderr)
            sys.exit(128 + number)  # as a shell has it
        reason = why_refused(error) if isinstance(error, (OSError, RuntimeError, SafetensorError)) else None
        if reason is None:
            raise
        sys.exit(f"run-ser: a file cannot be written or read ({reason}). Make room, or give access to it. {go_on}")


if __name__ == "__main__":
    sys.exit(main())
