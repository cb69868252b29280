"""The predictions of a finished run, clip by clip, with their audio: what app.py walks through."""

import argparse
import functools
import itertools
import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import pandas as pd

from dataset_scripts import builder_class, load_by_arguments
from dataset_scripts.schema import EMOTIONS, in_order

from .calibration import emotion_probabilities
from .embeddings import arguments_of_run, embed, tsne
from .statistics import read_predictions


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """The run folders at and under some folders: those with results.json and predictions.csv."""
    found = {path.parent for folder in folders for path in Path(folder).rglob("results.json")}
    return sorted(path for path in found if (path / "predictions.csv").is_file())


class Run:
    """
    A run folder of run_ser.py.

    Args:
        folder: with results.json and predictions.csv.
        data_dirs: folders in which its corpora may lie if those of the command that made the run are gone; several
            corpora's in their order. Folders of other runs may be among them.

    Raises:
        OSError, ValueError: the files are not there or not what they should be.
    """

    def __init__(self, folder: Path, data_dirs: Sequence[Path] | None = None):
        self.folder = Path(folder)
        self.results = json.loads((self.folder / "results.json").read_text(encoding="utf-8"))
        table = read_predictions(self.folder / "predictions.csv")
        probabilities = emotion_probabilities(table)
        table["confidence"] = probabilities[1].max(axis=1) if probabilities else np.nan
        table["right"] = table["emotion"] == table["predicted_emotion"]
        self.table = table.set_index("utterance_id", drop=False).rename_axis(None)
        self.data_dirs = data_dirs
        self._maps = {}

    @property
    def emotions(self) -> list[str]:
        """All emotions of truth and predictions, in canonical order."""
        return in_order({*self.table["emotion"], *self.table["predicted_emotion"]}, EMOTIONS)

    def chosen(
        self,
        emotions: Sequence[str] = (),
        predicted: Sequence[str] = (),
        speakers: Sequence[str] = (),
        genders: Sequence[str] = (),
        right: bool | None = None,
        confidence: tuple[float, float] = (0.0, 1.0),
    ) -> pd.DataFrame:
        """The clips that meet all conditions; of an empty list every value will do."""
        table = self.table
        keep = np.ones(len(table), bool)
        columns = {"emotion": emotions, "predicted_emotion": predicted, "speaker_id": speakers, "gender": genders}
        for column, values in columns.items():
            if values:
                keep &= table[column].isin(values).to_numpy()
        if right is not None:
            keep &= (table["right"] == right).to_numpy()
        if confidence != (0.0, 1.0):
            keep &= table["confidence"].between(*confidence).to_numpy()
        return table[keep]

    @functools.cached_property
    def rows(self) -> tuple[datasets.Dataset, dict[str, int]]:
        """The corpus and the place of each of its utterances.

        Of several folders in which it may lie, the first that has most of the run's utterances.

        Raises:
            OSError, ValueError: it is not here, or cannot be read.
        """
        arguments = arguments_of_run(self.folder)
        candidates = self._candidates(arguments)
        best, most, problems = None, 0, []
        for folders in candidates:
            try:
                dataset = load_by_arguments(arguments, folders).dataset
            except (OSError, ValueError) as error:
                if len(candidates) == 1:
                    raise
                problems.append(str(error).partition("\n")[0])
                continue
            place = {name: row for row, name in enumerate(dataset["utterance_id"][:])}
            found = len(place.keys() & set(self.table.index))
            if len(candidates) == 1 or found == len(self.table):
                return dataset, place
            if found > most:
                best, most = (dataset, place), found
            elif not found:
                problems.append(f"{', '.join(map(str, folders))}: none of its utterances is there.")
        if best is None:
            raise ValueError(f"No folder holds the corpus of {self.folder}. {' '.join(problems)}")
        return best

    def _candidates(self, arguments: dict) -> list[Sequence[str | Path]]:
        """Folders that may be those of the corpora, in the order in which to try them."""
        names = [] if arguments["dataset_name"] else arguments["corpus"]
        needed = sum(builder_class(name).needs_data_dir for name in names)
        if not needed:
            return [()]  # a builder that makes its own audio would make it in a folder that is not its own
        recorded = _data_dirs_of(self.results["run"]["command"])
        if not self.data_dirs:
            return [recorded]
        # Those of the command first: files of two corpora of one's own may have the same names.
        there = [recorded] if recorded and all(Path(folder).expanduser().is_dir() for folder in recorded) else []
        return there + ([*itertools.combinations(self.data_dirs, needed)] or [self.data_dirs])

    def audio(self, utterance_id: str) -> dict:
        """`{"bytes", "path"}` of a clip (`schema.read_audio`).

        Raises:
            OSError, ValueError: the corpus is not here, or is another one.
        """
        dataset, place = self.rows
        if utterance_id not in place:
            raise ValueError(f"{utterance_id} is not in the corpus any more.")
        return dataset[place[utterance_id]]["audio"]

    def map_of(self, fold: int) -> pd.DataFrame:
        """
        The fold's test clips with their places `x`, `y` in a t-SNE of the final embedding.

        Raises:
            OSError, ValueError: the fold has no checkpoint, or the corpus is not here.
        """
        if fold in self._maps:
            return self._maps[fold]
        checkpoint = self.folder / f"fold_{fold:02d}"
        if not (checkpoint / "model.safetensors").is_file():
            raise ValueError(f"{checkpoint} has no checkpoint: its predictions are all that was kept.")
        table = self.table[self.table["fold"] == fold]
        dataset, place = self.rows
        points = tsne(embed(checkpoint, dataset.select([place[name] for name in table.index]))["fused"])
        self._maps[fold] = table.assign(x=points[:, 0], y=points[:, 1])
        return self._maps[fold]


def _data_dirs_of(command: str) -> list[str]:
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--data_dir", nargs="+", default=[])
    return parser.parse_known_args(shlex.split(command))[0].data_dir
