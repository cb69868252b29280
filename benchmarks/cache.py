"""The cache of a frozen encoder's features: size, resident memory, exactness.

    python benchmarks/cache.py --lists DIR

A real build over noise clips of the durations in DIR/cremad.csv (EmoBox's metadata) with a Whisper encoder of one
layer of width 1024 and the branches of `camulenet`; without `--lists` over 744 clips about as long, a tenth of
CREMA-D, and the sizes are multiplied by ten. Beside it stands the released code's one pickle, by really pickling one
clip's tensors of the preset `paper`. Then an epoch is read as training reads it. Last, logits from the cache are
compared with those of the same model on the waveforms, clip by clip.
"""

import csv
import pickle
import tempfile
from pathlib import Path

import numpy as np
import torch
from inputs import NUM_LABELS, SAMPLING_RATE, ravdess_durations, whisper_config
from measure import Row, Side, arguments_of, peak_memory_bytes, progress, report, serve
from synthetic_corpus import load, write_corpus, write_encoder
from transformers import WhisperConfig

from modeling_camulenet import CAMuLeNetFeatureExtractor, CAMuLeNetForAudioClassification
from ser_protocol.feature_cache import CachedFeatures
from ser_protocol.feature_store import collate
from ser_protocol.presets import build_config

BATCH = 64


def build(folder: Path, dtype: str = "float16"):
    """Model and cached features of the corpus in `folder`."""
    config = build_config("camulenet", num_labels=NUM_LABELS)
    model = CAMuLeNetForAudioClassification.from_encoder_pretrained(str(folder / "encoder"), config).eval()
    features = CachedFeatures(load(folder / "corpus"), model, str(folder / "cache"), dtype, progress=False)
    return model, features


def crema_d_durations(lists: Path | None) -> np.ndarray:
    """Seconds of CREMA-D's clips, or of a tenth as many of the same mean and spread."""
    if lists is None:
        return np.random.default_rng(0).normal(2.54, 0.51, 744).clip(1.27, 5.0)
    with open(lists / "cremad.csv") as file:
        return np.array([float(row["seconds"]) for row in csv.DictReader(file)])


def released_bytes_per_clip() -> int:
    """Size of one clip in the released code's pickle: encoder output, spectrogram and MFCCs in float32."""
    config = build_config("paper", encoder_config=whisper_config("medium"), num_labels=NUM_LABELS)
    extractor = CAMuLeNetFeatureExtractor.from_model_config(config)
    features = extractor(np.zeros(3 * SAMPLING_RATE, np.float32), return_tensors="np")
    frames = np.zeros((config.gate_positions, config.encoder_config.d_model), np.float32)
    return len(pickle.dumps([frames, *(features[name][0].astype(np.float32) for name in ("spectrogram", "mfcc"))]))


def size_of(folder: Path, kinds: str) -> int:
    return sum(
        path.stat().st_size for path in (folder / "cache").rglob("*.safetensors") if path.parts[-2].startswith(kinds)
    )


def read_an_epoch(folder: Path) -> dict:
    """Peak memory of a process that reads every clip in batches; the cache is there already."""
    _, features = build(folder)
    del _
    rows = torch.randperm(len(features.clips), generator=torch.Generator().manual_seed(0)).tolist()
    items = features.subset(rows)
    for first in range(0, len(rows), BATCH):
        collate([items[index] for index in range(first, min(first + BATCH, len(rows)))])
    return {"peak_bytes": peak_memory_bytes()}


def largest_logit_difference(folder: Path, dtype: str) -> float:
    """Between cached features and waveforms, over all clips and both heads."""
    model, features = build(folder, dtype=dtype)
    items, worst = features.subset(range(len(features.clips))), 0.0
    with torch.no_grad():
        for index in range(len(items)):
            batch = collate([items[index]])
            waveform = torch.from_numpy(features._load(features.clips[index][0]))[None]
            cached, direct = model(**batch), model(input_values=waveform)
            for name in ("logits", "gender_logits"):
                worst = max(worst, float((cached[name] - direct[name]).abs().max()))
    return worst


def main() -> None:
    arguments = arguments_of(
        __doc__,
        lambda parser: (
            parser.add_argument("--lists", type=Path, help="folder with EmoBox's cremad.csv"),
            parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)"),
        ),
    )
    torch.set_num_threads(arguments.threads)
    if arguments.side:
        serve(lambda: read_an_epoch(arguments.folder), at_least_s=0)
        return
    durations = crema_d_durations(arguments.lists)
    times, whose = (1, "CREMA-D's durations") if arguments.lists else (10, "a tenth of CREMA-D, times ten")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary)
        progress(f"writing {len(durations)} clips")
        write_corpus(folder / "corpus", durations)
        config = WhisperConfig(d_model=1024, encoder_layers=1, encoder_attention_heads=16, encoder_ffn_dim=4096)
        write_encoder(folder / "encoder", config)
        progress("building the cache")
        build(folder)
        frames, everything = (times * size_of(folder, kinds) for kinds in ("encoder", ""))
        released = times * len(durations) * released_bytes_per_clip()
        progress("reading an epoch")
        with Side("read", ["--folder", str(folder)], arguments.threads) as side:
            resident = side.measure()["peak_bytes"]

        exact = folder / "exact"
        write_corpus(exact / "corpus", ravdess_durations(48))
        write_encoder(exact / "encoder", "tiny")
        progress("comparing logits")
        differences = {dtype: largest_logit_difference(exact, dtype) for dtype in ("float16", "float32")}
    pickled = "the released code's pickle"
    rows = [
        Row("cache_frames", f"encoder frames at width 1024, fp16 ({whose})", [frames], [released], pickled, "bytes"),
        Row("cache_with_features", "the same with branch features", [everything], [released], pickled, "bytes"),
        Row("cache_resident", "resident memory while an epoch is read", [resident], [released], pickled, "bytes"),
        *(
            Row(f"cached_logits_{dtype}", f"cached against uncached logits, {dtype}", [value], unit="")
            for dtype, value in differences.items()
        ),
    ]
    report(rows, arguments)


if __name__ == "__main__":
    main()
