"""Is a test speaker predicted better the more the training speakers sound alike? For analysis only.

    python -m ser_protocol.similarity RUN... --data_dir DIR [--speaker_encoder ID] [--output_dir OUT]

RUN is a finished run's output folder; several are seeds of one model. Every speaker is the mean of the embeddings of
their clips by a speaker encoder: `resemblyzer` (GE2E of Wan et al. 2018, whose weights are part of the package), or
the id or folder of a model that `AutoModelForAudioXVector` loads, like microsoft/wavlm-base-plus-sv. It goes into no
model and no score. Written to OUT: similarity.json and similarity.png.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import soxr
import torch
from scipy import stats
from tqdm import tqdm
from transformers import AutoFeatureExtractor, AutoModelForAudioXVector

from dataset_scripts import CorpusError
from dataset_scripts.schema import read_audio

from .embeddings import EmbeddingError, rows_of_run
from .figures import correlation_text, png, similarity_figure
from .files import write_atomically, write_json
from .statistics import CONFIDENCE, aligned_tables, read_predictions, speaker_scores

RATE = 16000  # of every speaker encoder here, in Hz
RESEMBLYZER = "resemblyzer"
INSTALL = "pip install --no-deps resemblyzer==0.1.4 webrtcvad-wheels==2.0.14.post1, and pip install librosa"
DISTANCES = {
    "nearest": "the distance to the nearest training speaker",
    "mean": "the mean distance to the training speakers",
}


class SimilarityError(ValueError):
    """What the analysis cannot be made of; the message names the remedy."""


def speaker_encoder(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """
    A function from a waveform (samples,) at 16 kHz, float32, to its speaker embedding (size,).

    Args:
        name: `"resemblyzer"`, or what `AutoModelForAudioXVector` loads.
    Raises:
        SimilarityError: it is not installed, not there, or reads another sampling rate.
    """
    if name == RESEMBLYZER:
        try:
            from resemblyzer import VoiceEncoder, preprocess_wav
        except ImportError as error:
            raise SimilarityError(f"resemblyzer cannot be imported ({error}). {INSTALL}.") from error
        encoder = VoiceEncoder("cpu", verbose=False)

        def embed(waveform):
            spoken = preprocess_wav(waveform)  # louder, and without long pauses
            return encoder.embed_utterance(spoken if len(spoken) else waveform)

        return embed
    try:
        extractor = AutoFeatureExtractor.from_pretrained(name)
        model = AutoModelForAudioXVector.from_pretrained(name).eval()
    except (OSError, ValueError) as error:
        raise SimilarityError(f"--speaker_encoder {name}: {error}") from error
    if extractor.sampling_rate != RATE:
        raise SimilarityError(f"--speaker_encoder {name} reads {extractor.sampling_rate} Hz, and {RATE} is needed.")

    def embed(waveform):
        with torch.inference_mode():
            inputs = extractor(waveform, sampling_rate=RATE, return_tensors="pt")
            return model(**inputs).embeddings[0].float().numpy()

    return embed


def speaker_embeddings(dataset: datasets.Dataset, embed: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    """speaker_id -> unit vector (size,): the mean direction of the speaker's clips."""
    sums = {}
    for row in tqdm(dataset.select_columns(["speaker_id", "audio"]), desc="speaker embeddings", unit="clip"):
        waveform, sampling_rate = read_audio(row["audio"])
        if sampling_rate != RATE:
            waveform = soxr.resample(waveform, sampling_rate, RATE)
        embedding = embed(waveform)
        sums[row["speaker_id"]] = sums.get(row["speaker_id"], 0) + embedding / np.linalg.norm(embedding)
    return {speaker: total / np.linalg.norm(total) for speaker, total in sums.items()}


def distances(embeddings: dict[str, np.ndarray], test: str, train: Sequence[str]) -> dict[str, float]:
    """Cosine distance (0: same direction, 1: at right angles) of a speaker to the `nearest` and, `mean`, to all."""
    away = 1 - np.stack([embeddings[name] for name in train]) @ embeddings[test]
    return {"nearest": float(away.min()), "mean": float(away.mean())}


def speaker_table(
    predictions: Sequence[pd.DataFrame], folds: Sequence[dict], embeddings: dict[str, np.ndarray]
) -> pd.DataFrame:
    """
    Each test speaker's scores, means over seeds, and distances to the training speakers of their fold.

    Args:
        predictions: tables of statistics.py, one a seed.
        folds: metrics.json of each fold, which names `train_speakers`; seeds share the folds.
        embeddings: from `speaker_embeddings`.
    Returns:
        indexed by speaker_id: `num_utterances`, the scores, `nearest`, `mean`.
    Raises:
        SimilarityError: there is no audio of a speaker.
    """
    train_of = {fold["fold"]: fold["train_speakers"] for fold in folds}
    speakers = {speaker for names in train_of.values() for speaker in names} | set(predictions[0]["speaker_id"])
    unknown = sorted(speakers - embeddings.keys())
    if unknown:
        raise SimilarityError(f"The corpus has no audio of {', '.join(unknown)}: is it the one of the run?")
    table = speaker_scores(list(predictions))
    fold_of = predictions[0].groupby("speaker_id")["fold"].first()
    away = [distances(embeddings, speaker, train_of[fold_of[speaker]]) for speaker in table.index]
    return table.join(pd.DataFrame(away, index=table.index))


def correlation(distance: Sequence[float], score: Sequence[float], seed: int = 0, num_resamples: int = 2000) -> dict:
    """
    Spearman's and Pearson's correlation with 95 % percentile intervals over resampled speakers.

    Returns:
        `spearman` and `pearson`, each a `{"value", "low", "high"}`, `None` where all score alike; `num_speakers`,
        `num_resamples`, `seed`.
    """
    data = np.asarray(distance), np.asarray(score)
    draws = np.random.default_rng(seed).integers(len(score), size=(num_resamples, len(score)))
    result = {"num_speakers": len(score), "num_resamples": num_resamples, "seed": seed}
    for name, function in (("spearman", stats.spearmanr), ("pearson", stats.pearsonr)):
        resampled = [_correlation(function, *(values[draw] for values in data)) for draw in draws]
        resampled = [value for value in resampled if value is not None]
        bounds = (
            np.percentile(resampled, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]) if resampled else (None, None)
        )
        result[name] = {"value": _correlation(function, *data), "low": bounds[0], "high": bounds[1]}
    return result


def _correlation(function: Callable, x: np.ndarray, y: np.ndarray) -> float | None:
    """`None` where one of the two does not vary, as in a resample of one speaker over and over."""
    return float(function(x, y).statistic) if np.ptp(x) and np.ptp(y) else None


def analyse(runs: Sequence[Path], dataset: datasets.Dataset, encoder: str) -> tuple[pd.DataFrame, dict]:
    """
    The table of speakers, and what similarity.json holds.

    Raises:
        SimilarityError: a run is not complete, or see the other functions.
    """
    missing = [
        str(run) for run in runs if not (run / "results.json").is_file() or not (run / "predictions.csv").is_file()
    ]
    if missing:
        raise SimilarityError(f"{', '.join(missing)}: no results.json and predictions.csv; finish the run first.")
    folds = json.loads((runs[0] / "results.json").read_text())["folds"]["rows"]
    if any(fold["train_speakers"] is None for fold in folds):
        raise SimilarityError(f"{runs[0]}/results.json does not say who trained in each fold.")
    predictions = [read_predictions(run / "predictions.csv") for run in runs]
    try:
        aligned_tables(predictions)
    except ValueError as error:
        raise SimilarityError(
            f"{', '.join(map(str, runs))} are not seeds of one model on one corpus: {error} Give each its own call."
        ) from error
    table = speaker_table(predictions, folds, speaker_embeddings(dataset, speaker_encoder(encoder)))
    return table, {
        "speaker_encoder": encoder,
        "runs": len(runs),
        "distance": "cosine, of the mean direction of a speaker's clips, to the training speakers of the fold",
        "correlation": {
            name: {score: correlation(table[name], table[score]) for score in ("wa", "ua")} for name in DISTANCES
        },
        "speakers": table.reset_index().to_dict("records"),
    }


def main() -> None:
    """Console entry."""
    parser = argparse.ArgumentParser(
        prog="python -m ser_protocol.similarity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, help="output folders of finished runs: seeds of one model")
    parser.add_argument("--data_dir", nargs="+", default=[], help="folders of the runs' corpora, in their order")
    parser.add_argument("--speaker_encoder", default=RESEMBLYZER, help=f"default: {RESEMBLYZER}")
    parser.add_argument("--output_dir", type=Path, help="default: the first run's folder")
    arguments = parser.parse_args()
    try:
        dataset = rows_of_run(arguments.runs[0], arguments.data_dir)
        table, content = analyse(arguments.runs, dataset, arguments.speaker_encoder)
    except (SimilarityError, EmbeddingError, CorpusError) as error:
        sys.exit(f"similarity: {error}")
    folder = arguments.output_dir or arguments.runs[0]
    write_json(folder / "similarity.json", content)
    figure = similarity_figure(table, {words: content["correlation"][name]["wa"] for name, words in DISTANCES.items()})
    write_atomically(folder / "similarity.png", png(figure, dpi=200))
    for name, words in DISTANCES.items():
        for score, values in content["correlation"][name].items():
            print(f"{score.upper()} against {words}: {correlation_text(values)}")
    print(f"Written: {folder / 'similarity.json'}, similarity.png")


if __name__ == "__main__":
    main()
