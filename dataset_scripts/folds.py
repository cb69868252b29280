"""Folds: which utterances train, validate and test a model.

Every protocol but `random` keeps the speakers of the three parts apart, so a test speaker is unseen: in neither
training nor validation. The folds that published figures rest on lie in `splits/` as data; they are made by

    python -m dataset_scripts.folds --corpus ravdess --data_dir DIR --protocol speakers --num_folds 12

Order of the speakers: women and men each in sorted order (another seed than 0 shuffles within each), merged so that
every stretch of the order has the corpus's share of both; with as many women as men they alternate, a man first. So
RAVDESS runs 01, 02, ... 24 and EmoDB 03, 08, 10, 09, 11, 13, 12, 14, 15, 16. Test groups are stretches of this order.
Validation is the first pair of a man and a woman (first with first, second with second, ...) after the test group, in
cyclic order, that holds none of the test speakers; where there is no such pair, the next two speakers.
"""

import argparse
import hashlib
import json
import logging
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets

from . import CORPORA, load_corpus
from .schema import CorpusError

logger = logging.getLogger(__name__)

PROTOCOLS = ("loso", "speakers", "random")
STANDARD_NUM_FOLDS = {"ravdess": 12, "emodb": 10}
SPLITS = Path(__file__).with_name("splits")
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Fold:
    """One partition of a dataset into row numbers, each list ascending; `validation` may be empty."""

    index: int
    train: list[int]
    validation: list[int]
    test: list[int]
    protocol: str

    @property
    def leaky(self) -> bool:
        """Whether test speakers are met in training: figures on such folds are not unseen-speaker figures."""
        return self.protocol == "random"


def get_folds(dataset: datasets.Dataset, protocol: str, num_folds: int | None = None, seed: int = 0) -> list[Fold]:
    """Folds of a dataset; over all folds each row is tested exactly once.

    Args:
        dataset: rows of `schema.py`.
        protocol: `loso`, one test speaker a fold; `speakers`, `num_folds` groups of speakers balanced in gender;
            `random`, utterances dealt at random, class by class, without regard to speakers: deliberately leaky, for
            showing what leaks are worth.
        num_folds: number of folds; by default the corpus's standard (RAVDESS 12, EmoDB 10), else 10, or as many as
            there are speakers, if these are fewer. `loso` has as many as there are speakers.
        seed: 0 keeps the natural order of the speakers; any other shuffles them. For `random` always a shuffle.

    Raises:
        CorpusError: the protocol is unknown, or there are fewer speakers (`random`: utterances) than folds.
    """
    if protocol not in PROTOCOLS:
        raise CorpusError(f"unknown protocol {protocol!r}; there are {', '.join(PROTOCOLS)}")
    speaker_ids = list(dataset["speaker_id"])
    genders = speaker_genders(dataset)
    corpora = sorted(set(dataset["corpus"]))
    corpus = corpora[0] if len(corpora) == 1 else None
    if protocol == "loso":
        if num_folds not in (None, len(genders)):
            raise CorpusError(f"loso has one fold a speaker: {len(genders)}, not {num_folds}; leave num_folds out")
        num_folds = len(genders)
    elif num_folds is None:
        num_folds = min(STANDARD_NUM_FOLDS.get(corpus, 10), len(genders))

    if protocol == "random":
        folds = _random_folds(dataset, num_folds, seed)
    else:
        committed = _committed_parts(dataset, corpus, protocol, num_folds, seed) if corpus else None
        folds = []
        for index, parts in enumerate(committed or speaker_parts(genders, num_folds, seed)):
            part_of = {speaker: part for part in PARTS for speaker in parts[part]}
            rows = {part: [] for part in PARTS}
            for row, speaker in enumerate(speaker_ids):
                rows[part_of[speaker]].append(row)
            folds.append(Fold(index, **rows, protocol=protocol))
    _check(folds, dataset, speaker_ids)
    return folds


def speaker_genders(dataset: datasets.Dataset) -> dict[str, str | None]:
    """speaker_id -> "female", "male" or None, sorted by speaker_id."""
    names = dataset.features["gender"].names
    genders = dict(zip(dataset["speaker_id"], dataset["gender"]))
    return {speaker: None if genders[speaker] is None else names[genders[speaker]] for speaker in sorted(genders)}


def speaker_parts(genders: Mapping[str, str | None], num_folds: int, seed: int = 0) -> list[dict[str, list[str]]]:
    """The rule at the top of this module.

    Args:
        genders: speaker -> "female", "male" or None for not known.
        num_folds: number of groups of speakers, each the test part of one fold.
        seed: 0 for the natural order, any other number for a shuffle within each gender.

    Returns:
        One dictionary a fold with the speakers of "train", "validation" and "test", sorted. There is no validation
        among fewer than four speakers, nor where it would leave nobody to train on.

    Raises:
        CorpusError: fewer than two folds, or fewer speakers than folds.
    """
    if not 2 <= num_folds <= len(genders):
        raise CorpusError(
            f"{num_folds} folds of {len(genders)} speakers: there must be at least 2 folds and a speaker for each; "
            "give another num_folds"
        )
    of_gender = {gender: sorted(s for s in genders if genders[s] == gender) for gender in ("male", "female", None)}
    if seed:
        generator = random.Random(seed)
        for speakers in of_gender.values():
            generator.shuffle(speakers)
    # Each gender spread evenly over [0, 1); the sort is stable, so of equals the man comes first.
    places = [((i + 0.5) / len(group), s) for group in of_gender.values() for i, s in enumerate(group)]
    order = [speaker for _, speaker in sorted(places, key=lambda place: place[0])]
    pairs = list(zip(of_gender["male"], of_gender["female"]))

    parts, end = [], 0
    for index in range(num_folds):
        start, end = end, end + len(order) // num_folds + (index < len(order) % num_folds)
        test = order[start:end]
        others = order[end:] + order[:start]  # in cyclic order after the test group
        validation = []
        if len(order) >= 4:
            # A pair stands where the later of its two stands.
            free = [pair for pair in pairs if not set(pair) & set(test)]
            place = {pair: max(others.index(speaker) for speaker in pair) for pair in free}
            validation = list(min(free, key=place.get)) if free else others[:2]
        if len(validation) == len(others):
            validation = []
        train = sorted(set(others) - set(validation))
        parts.append({"train": train, "validation": sorted(validation), "test": sorted(test)})
    return parts


def _random_folds(dataset: datasets.Dataset, num_folds: int, seed: int) -> list[Fold]:
    """Utterances shuffled and dealt out class by class; the next fold's test part validates."""
    if not 2 <= num_folds <= len(dataset):
        raise CorpusError(f"{num_folds} folds of {len(dataset)} utterances: there must be at least 2 and one for each")
    ids, emotions = list(dataset["utterance_id"]), list(dataset["emotion"])
    rows = sorted(range(len(ids)), key=ids.__getitem__)  # the same folds whatever order the rows come in
    random.Random(seed).shuffle(rows)
    rows.sort(key=emotions.__getitem__)
    groups = [sorted(rows[index::num_folds]) for index in range(num_folds)]
    folds = []
    for index, test in enumerate(groups):
        validation = groups[(index + 1) % num_folds] if num_folds > 2 else []
        train = sorted(set(rows) - set(test) - set(validation))
        folds.append(Fold(index, train, validation, test, "random"))
    return folds


def _check(folds: Sequence[Fold], dataset: datasets.Dataset, speaker_ids: Sequence[str]) -> None:
    """Hold the folds against what get_folds promises, and say what a user should know of them."""
    emotions = list(dataset["emotion"])
    present = set(emotions)
    for fold in folds:
        rows = (fold.train, fold.validation, fold.test)
        assert sorted(fold.train + fold.validation + fold.test) == list(range(len(dataset)))
        if not fold.leaky:
            train, validation, test = ({speaker_ids[row] for row in part} for part in rows)
            assert not (train & validation or train & test or validation & test), "a speaker is in two parts"
        missing = present - {emotions[row] for row in fold.train}
        if missing:
            names = [dataset.features["emotion"].names[emotion] for emotion in sorted(missing)]
            logger.warning("fold %d: no training utterance of class %s", fold.index, ", ".join(names))
    assert sorted(row for fold in folds for row in fold.test) == list(range(len(dataset)))
    without = [str(fold.index) for fold in folds if not fold.validation]
    if without:
        logger.warning("no validation part in fold %s: too few speakers or folds", ", ".join(without))


def _committed_parts(dataset, corpus, protocol, num_folds, seed) -> list[dict[str, list[str]]] | None:
    """Speakers of the parts from `splits/`, where it has this split for exactly this dataset's speakers."""
    path = SPLITS / f"{corpus}_{protocol}_{num_folds}.json"
    if not path.is_file():
        return None
    split = json.loads(path.read_text(encoding="utf-8"))
    parts = [{part: fold[part]["speakers"] for part in PARTS} for fold in split["folds"]]
    speakers = {speaker for speakers in parts[0].values() for speaker in speakers}
    if split["seed"] != seed or speakers != set(dataset["speaker_id"]):
        return None
    if split["utterance_ids_sha256"] != hash_ids(dataset["utterance_id"]):
        logger.warning("%s was made on other utterances of %s than these", path.name, corpus)
    return parts


def hash_ids(utterance_ids) -> str:
    """sha256 of the sorted utterance ids, one a line."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(utterance_ids)).encode()).hexdigest()


def describe_split(dataset: datasets.Dataset, protocol: str, num_folds: int) -> dict:
    """The content of a file in `splits/`, by the rule (seed 0) and never by an older file.

    Raises:
        CorpusError: see `speaker_parts`.
    """
    counts = Counter(dataset["speaker_id"])
    folds = [
        {
            part: {"speakers": fold[part], "utterances": sum(counts[speaker] for speaker in fold[part])}
            for part in PARTS
        }
        for fold in speaker_parts(speaker_genders(dataset), num_folds)
    ]
    return {
        "corpus": dataset["corpus"][0],
        "protocol": protocol,
        "seed": 0,
        "num_folds": num_folds,
        "utterance_ids_sha256": hash_ids(dataset["utterance_id"]),
        "folds": folds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dataset_scripts.folds", description="Write a file of splits/.")
    parser.add_argument("--corpus", required=True, choices=CORPORA)
    parser.add_argument("--data_dir", help="folder that holds the corpus")
    parser.add_argument("--protocol", required=True, choices=[name for name in PROTOCOLS if name != "random"])
    parser.add_argument("--num_folds", type=int, help="default: the corpus's standard; loso: one a speaker")
    parser.add_argument("--output_dir", type=Path, default=SPLITS, help="default: the package's own splits folder")
    arguments = parser.parse_args()
    try:
        dataset = load_corpus(arguments.corpus, arguments.data_dir)
        num_folds = len(get_folds(dataset, arguments.protocol, arguments.num_folds))
    except CorpusError as error:
        parser.error(str(error))
    split = describe_split(dataset, arguments.protocol, num_folds)
    path = arguments.output_dir / f"{arguments.corpus}_{arguments.protocol}_{num_folds}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(split, indent=1) + "\n", encoding="utf-8", newline="\n")
    print(path)


if __name__ == "__main__":
    main()
