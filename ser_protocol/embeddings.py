"""What a fold's model makes of its test speakers: Figure 3 of the paper, and where it listens.

    python -m ser_protocol.embeddings OUT/fold_00 --data_dir DIR [--clips UTTERANCE_ID ...]

OUT is a run of run_ser.py, whose arguments say which corpora its clips are of, and fold_00 one of its folds, with its
checkpoint and predictions.csv. Written to --output_dir, by default the plots of the run: embeddings.png, a t-SNE of
the encoder's mean frame beside one of the final embedding, and attention.png, the co-attention over the waveform of
some clips, by default the first of each emotion. The clips are those of the fold's test speakers.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import torch
from sklearn.manifold import TSNE
from tqdm import tqdm
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

from dataset_scripts import CorpusError, load_by_arguments
from dataset_scripts.schema import read_audio

from .figures import attention_figure, embeddings_figure, png
from .files import write_atomically
from .statistics import read_predictions

PERPLEXITY = 30  # scikit-learn's default
MIN_CLIPS = 5  # of a t-SNE


class EmbeddingError(ValueError):
    """What cannot be shown; the message names the remedy."""


def arguments_of_run(run: Path) -> dict:
    """
    The arguments of the command that made a run, by its arguments.json.

    Args:
        run: an output folder of run_ser.py.

    Raises:
        EmbeddingError: the run does not say, or the file is damaged.
    """
    path = run / "arguments.json"
    if not path.is_file():
        raise EmbeddingError(f"There is no {path}, which says what was run: give the output folder of a run.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EmbeddingError(f"{path} is damaged ({error}): give a run whose file is whole.") from error


def rows_of_run(run: Path, data_dirs: Sequence[str]) -> datasets.Dataset:
    """
    The utterances that a run is about.

    Args:
        run: an output folder of run_ser.py.
        data_dirs: a folder for each of its corpora that needs one.

    Raises:
        EmbeddingError: the run does not say.
        CorpusError: the corpora cannot be read.
    """
    return load_by_arguments(arguments_of_run(run), data_dirs).dataset


def embed(folder: Path, dataset: datasets.Dataset) -> dict[str, np.ndarray | list]:
    """
    What a checkpoint makes of each row, clip by clip.

    Returns:
        `encoder`: (clips, encoder_dim), the mean over a clip's encoder frames, `None` without an encoder. `fused`:
        (clips, embedding_size), the final embedding. `attention`: for each clip (heads, frames), the weights over its
        encoder frames, `None` where the fusion has none. `read_s`: the seconds of each clip that the model reads, over
        which these frames extend.
    """
    extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
    model = AutoModelForAudioClassification.from_pretrained(folder, trust_remote_code=True).eval()
    longest_s = extractor.max_duration_s or math.inf
    encoder, fused, attention, read_s = [], [], [], []
    for row in tqdm(dataset, desc="embeddings", unit="clip"):
        waveform, sampling_rate = read_audio(row["audio"])
        read_s.append(min(len(waveform) / sampling_rate, longest_s))
        inputs = extractor(waveform, sampling_rate, return_tensors="pt")
        with torch.inference_mode():
            output = model.camulenet(**inputs)
        fused.append(output.embeddings[0].float().numpy())
        if output.last_hidden_state is not None:
            # The encoder's frames of padding, up to 30 s of them, show nothing of the clip.
            num_frames = int(model.camulenet.speech_encoder.num_frames(inputs["attention_mask"].sum(dim=1)))
            encoder.append(output.last_hidden_state[0, :num_frames].float().mean(dim=0).numpy())
            if output.co_attention_weights is not None:
                attention.append(output.co_attention_weights[0, :, :num_frames].float().numpy())
    return {
        "encoder": np.stack(encoder) if encoder else None,
        "fused": np.stack(fused),
        "attention": attention or None,
        "read_s": read_s,
    }


def tsne(points: np.ndarray, seed: int = 0) -> np.ndarray:
    """
    Two dimensions (clips, 2) of many (clips, size), each of them of unit variance.

    Raises:
        EmbeddingError: there are too few clips.
    """
    if len(points) < MIN_CLIPS:
        raise EmbeddingError(f"A t-SNE of {len(points)} clips shows nothing: it takes at least {MIN_CLIPS}.")
    spread = points.std(axis=0)
    scaled = (points - points.mean(axis=0)) / np.where(spread > 0, spread, 1)
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(scaled)


def first_of_each_emotion(predictions: pd.DataFrame) -> list[str]:
    """The first clip of each emotion that the model has right, else the first; utterance ids."""
    ordered = predictions.assign(wrong=predictions["emotion"] != predictions["predicted_emotion"])
    return (
        ordered.sort_values(["wrong", "utterance_id"]).groupby("emotion", sort=False)["utterance_id"].first().tolist()
    )


def write_figures(
    folder: Path, dataset: datasets.Dataset, clips: Sequence[str] | None, output_dir: Path
) -> list[Path]:
    """
    Write embeddings.png and, of a model with weights over frames, attention.png.

    Args:
        folder: the checkpoint, with its predictions.csv.
        dataset: rows of `schema.py`; those that were predicted are shown.
        clips: utterance ids of the clips whose attention is shown; `None`: `first_of_each_emotion`.
    Returns:
        The files.
    Raises:
        EmbeddingError: no predictions, or they are of other clips; an unknown clip; too few clips.
    """
    path = folder / "predictions.csv"
    if not path.is_file():
        raise EmbeddingError(f"There is no {path}: give the folder of a fold that is complete.")
    predictions = read_predictions(path)
    place = {name: row for row, name in enumerate(dataset["utterance_id"][:])}
    missing = [name for name in predictions["utterance_id"] if name not in place]
    if missing:
        raise EmbeddingError(f"The corpus has {len(missing)} of the clips of {path} not, like {missing[0]}.")
    shown = clips or first_of_each_emotion(predictions)
    unknown = sorted(set(shown) - set(predictions["utterance_id"]))
    if unknown:
        raise EmbeddingError(f"--clips: {', '.join(unknown)}: not among the test clips of {path}.")
    rows = dataset.select([place[name] for name in predictions["utterance_id"]])
    made = embed(folder, rows)
    panels = {"encoder, mean over frames": made["encoder"], "final embedding": made["fused"]}
    points = {name: tsne(values) for name, values in panels.items() if values is not None}
    drawn = {"embeddings.png": embeddings_figure(points, predictions["emotion"].tolist())}
    if made["attention"]:
        number = {name: row for row, name in enumerate(predictions["utterance_id"])}
        of_clips = {}
        for name in shown:
            waveform, sampling_rate = read_audio(rows[number[name]]["audio"])
            waveform = waveform[: round(made["read_s"][number[name]] * sampling_rate)]
            of_clips[name] = waveform, sampling_rate, made["attention"][number[name]]
        emotion = predictions.set_index("utterance_id")["emotion"]
        drawn["attention.png"] = attention_figure({f"{name}: {emotion[name]}": of_clips[name] for name in shown})
    for name, figure in drawn.items():
        write_atomically(output_dir / name, png(figure, dpi=200))
    return [output_dir / name for name in drawn]


def main() -> None:
    """Console entry."""
    parser = argparse.ArgumentParser(
        prog="python -m ser_protocol.embeddings",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("fold", type=Path, help="a checkpoint's folder with its predictions.csv; its code is run")
    parser.add_argument("--data_dir", nargs="+", default=[], help="folders of the run's corpora, in their order")
    parser.add_argument("--clips", nargs="+", help="utterance ids whose co-attention is shown")
    parser.add_argument("--output_dir", type=Path, help="default: plots/ beside the fold")
    arguments = parser.parse_args()
    try:
        dataset = rows_of_run(arguments.fold.parent, arguments.data_dir)
        output_dir = arguments.output_dir or arguments.fold.parent / "plots"
        files = write_figures(arguments.fold, dataset, arguments.clips, output_dir)
    except (EmbeddingError, CorpusError, OSError) as error:
        sys.exit(f"embeddings: {error}")
    print(f"Written: {', '.join(map(str, files))}")


if __name__ == "__main__":
    main()
