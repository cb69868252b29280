"""Threads and data loader workers of training from the cache: seconds a step, by which the defaults are chosen.

    python benchmarks/threads.py

Epochs of `camulenet` over 256 clips as long as CREMA-D's, batch 64, read from a real cache of frames of width 1024.
"""

import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import torch
from inputs import NUM_LABELS
from measure import Row, arguments_of, in_turn, progress, report, serve
from synthetic_corpus import load, write_corpus, write_encoder
from torch.utils.data import DataLoader
from transformers import WhisperConfig

from modeling_camulenet import CAMuLeNetForAudioClassification
from ser_protocol.feature_cache import CachedFeatures
from ser_protocol.feature_store import LengthBuckets, collate
from ser_protocol.presets import build_config

NUM_CLIPS, BATCH_SIZE = 256, 64


def cached_model(folder: Path):
    """A model and the features of the corpus in `folder`, whose encoder is not kept."""
    config = build_config("camulenet", num_labels=NUM_LABELS)
    model = CAMuLeNetForAudioClassification.from_encoder_pretrained(str(folder / "encoder"), config)
    return model, CachedFeatures(load(folder / "corpus"), model, str(folder / "cache"), progress=False)


def epoch(folder: Path, num_workers: int):
    """A function that trains for one epoch and returns the seconds of a step."""
    model, features = cached_model(folder)
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-4)
    clips = features.training_subset(range(NUM_CLIPS))
    loader = DataLoader(
        clips,
        BATCH_SIZE,
        sampler=LengthBuckets(clips.durations_s, BATCH_SIZE, seed=0),
        collate_fn=collate,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
    )
    model.train()

    def run():
        for batch in loader:
            model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def add_arguments(parser):
    parser.add_argument("--all_threads", nargs="+", type=int, default=[1, 2], help="to try (default: 1 2)")
    parser.add_argument("--all_workers", nargs="+", type=int, default=[0, 1, 2], help="to try (default: 0 1 2)")
    parser.add_argument("--folder", type=Path, help="of a side: where the corpus, the encoder and the cache are")


def main() -> None:
    arguments = arguments_of(__doc__, add_arguments)
    if arguments.side:
        torch.set_num_threads(arguments.threads)
        serve(epoch(arguments.folder, int(arguments.side.split()[2])), at_least_s=0)
        return
    settings = {
        f"{threads} threads, {workers} workers": threads
        for threads, workers in product(arguments.all_threads, arguments.all_workers)
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        progress("building the cache")
        write_corpus(folder / "corpus", np.random.default_rng(0).normal(2.54, 0.51, NUM_CLIPS).clip(1.27, 5.0))
        config = WhisperConfig(d_model=1024, encoder_layers=1, encoder_attention_heads=16, encoder_ffn_dim=4096)
        write_encoder(folder / "encoder", config)
        cached_model(folder)
        sides = dict.fromkeys(settings, ["--folder", str(folder)])
        measured = in_turn(sides, arguments.repeats, settings)
    steps = NUM_CLIPS / BATCH_SIZE
    seconds = {name: [value / steps for value in side["seconds"]] for name, side in measured.items()}
    first, *others = seconds
    report(
        [Row("", f"cached training step, {name}", seconds[name], seconds[first], first) for name in others], arguments
    )


if __name__ == "__main__":
    main()
