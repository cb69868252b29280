"""Variants of the preset `camulenet-small` on RAVDESS's actors 1 to 12: four held out, eight trained on, three times.

    python benchmarks/select_recipe.py --data_dir DIR --output_dir OUT --variants recipe concat --seeds 42 43
    python benchmarks/select_recipe.py --data_dir DIR --output_dir OUT --variants mine --variants_file mine.yaml

Every choice of the recipe was made by this table; actors 13 to 24 are never read. A variant is what differs from the
preset: `config` (fields of CAMuLeNetConfig), `training` (TrainingArguments), `speed_factors`, `crop_s`,
`equalizer_db`, `spec_augment`. Parts that are done already are only shown again.
"""

import argparse
import copy
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from statistics import mean

import datasets
import torch
import yaml
from transformers import TrainingArguments

from dataset_scripts import load_corpora
from dataset_scripts.folds import Fold
from ser_protocol import presets
from ser_protocol.augmentation import training_augmentation
from ser_protocol.feature_store import FeatureStore
from ser_protocol.runner import FoldRunner, ModelSource

PRESET = "camulenet-small"
HELD_OUT = ((1, 2, 7, 8), (3, 4, 9, 10), (5, 6, 11, 12))
VARIANTS = {
    "recipe": {},
    "no-equalizer": {"equalizer_db": 0.0},
    "equalizer-5-smoothing": {"equalizer_db": 5.0, "config": {"label_smoothing": 0.1}},
    "spec-augment": {"spec_augment": True},
    "two-more-speeds": {"speed_factors": [0.93, 1.07]},
    "no-pooled-norm": {"config": {"pooled_batch_norm": False}},
    "two-shared-layers": {"config": {"classifier_num_layers": 2}},
    "no-branch-heads": {"config": {"branch_loss_weight": 0.0}},
    **{name: {"config": changes} for name, changes in presets.ABLATIONS.items()},
}


def merged(base: Mapping, changes: Mapping) -> dict:
    """`base` with `changes`, key by key in nested dictionaries."""
    result = copy.deepcopy(dict(base))
    for name, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = merged(result[name], value) if nested else value
    return result


def run_part(variant: dict, part: int, training: TrainingArguments, dataset, stores: dict) -> dict:
    """metrics.json of one held-out part of a variant, trained where that was not done yet."""
    fields = merged(presets.CONFIGS[PRESET], variant.get("config", {}))
    source = ModelSource(PRESET, overrides=fields)
    extractor = source.build(dataset, []).camulenet.feature_extractor
    speed_factors = variant.get("speed_factors", presets.SPEED_FACTORS[PRESET])
    augment = training_augmentation(
        extractor, variant.get("spec_augment", False), variant.get("equalizer_db", presets.EQUALIZER_DB[PRESET])
    )
    crop_s = variant.get("crop_s", presets.CROP_S[PRESET])
    runner = FoldRunner(dataset, extractor, source, training, augment, speed_factors, crop_s)
    if not runner.is_complete(part):
        key = json.dumps([extractor.to_dict(), speed_factors], sort_keys=True, default=str)
        if key not in stores:
            stores.clear()  # one at a time fits into memory
            stores[key] = FeatureStore(dataset, extractor, speed_factors, progress=False)
        runner.store = stores[key]
        held_out = {f"ravdess/{actor:02d}" for actor in HELD_OUT[part]}
        speakers = dataset["speaker_id"][:]
        test = [row for row, speaker in enumerate(speakers) if speaker in held_out]
        train = [row for row, speaker in enumerate(speakers) if speaker not in held_out]
        runner.run(Fold(part, train, [], test, "speakers"))
        for path in runner.fold_dir(part).iterdir():
            if path.name not in ("metrics.json", "predictions.csv"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return json.loads((runner.fold_dir(part) / "metrics.json").read_text())


def first_twelve(data_dir: str) -> datasets.Dataset:
    """The utterances of actors 1 to 12."""
    dataset = load_corpora(["ravdess"], [data_dir]).dataset
    return dataset.filter(lambda speaker: speaker <= "ravdess/12", input_columns="speaker_id")


def row_of(name: str, seed: int, parts: list[dict]) -> str:
    """One line of the table: scores part by part and their mean."""
    cells = [f"{name:24s} {seed}"]
    for title, metric in (("WA", "wa"), ("UA", "ua"), ("gender", "gender_wa")):
        values = [part["test"][metric] for part in parts if metric in part["test"]]
        if values:
            cells.append(f"{title} {' '.join(f'{value:.3f}' for value in values)}, mean {mean(values):.3f}")
    loss = mean(part["history"][-1]["train_loss"] for part in parts)
    return " | ".join([*cells, f"train loss {loss:.2f}", f"{mean(part['train_s'] for part in parts):.0f} s"])


def main() -> None:
    """Train and show what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True, help="RAVDESS")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--variants", nargs="+", default=["recipe"], help=f"Of {', '.join(VARIANTS)}, or of the file.")
    parser.add_argument("--variants_file", help="YAML: more variants by name.")
    parser.add_argument("--parts", nargs="+", type=int, default=[0, 1, 2], choices=range(len(HELD_OUT)))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42])
    args = parser.parse_args()
    variants = dict(VARIANTS)
    if args.variants_file:
        variants |= yaml.safe_load(Path(args.variants_file).read_text(encoding="utf-8"))
    unknown = set(args.variants) - set(variants)
    if unknown:
        parser.error(f"unknown variants {', '.join(sorted(unknown))}; known are {', '.join(variants)}")

    torch.set_num_threads(1)
    dataset, stores = first_twelve(args.data_dir), {}
    for seed in args.seeds:
        for name in args.variants:
            arguments = merged(presets.TRAINING[PRESET], variants[name].get("training", {}))
            output_dir = str(Path(args.output_dir) / f"{name}_{seed}")
            quiet = {"disable_tqdm": True, "dataloader_pin_memory": False, "report_to": "none", "use_cpu": True}
            training = TrainingArguments(output_dir, seed=seed, **quiet, **arguments)
            parts = [run_part(variants[name], part, training, dataset, stores) for part in args.parts]
            print(row_of(name, seed, parts), flush=True)


if __name__ == "__main__":
    main()
