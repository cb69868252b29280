"""Folds: which utterances train, validate and test a model.

Every protocol but `random`, `test-selected` and `official` keeps the speakers of the three parts apart, so a test
speaker is unseen: in neither training nor validation. The folds that published figures rest on lie in `splits/` as
data, made from the table of speakers in `splits/speakers.json` by

    python -m dataset_scripts.folds                                      # every file of splits/ again
    python -m dataset_scripts.folds --corpus ravdess --data_dir DIR      # its speakers and its files from the corpus

Order of the speakers: women and men each in sorted order (another seed than 0 shuffles within each), merged so that
every stretch of the order has the corpus's share of both; with as many women as men they alternate, a man first. So
RAVDESS runs 01, 02, ... 24 and EmoDB 03, 08, 10, 09, 11, 13, 12, 14, 15, 16. Test groups are stretches of this order.
Validation is the first pair of a man and a woman (first with first, second with second, ...) after the last test
speaker, in cyclic order, that holds none of the test speakers; where there is no such pair, the next two speakers.

Where speakers share sessions (IEMOCAP's dialogues), those who do stand together and validate together: in the order of
their names if everybody shares one, otherwise where the first of them stands among the others. The dialogue partners
of test speakers who are not tested themselves leave the fold: they are in no part of it. Unknown people
(`<corpus>/others`, BhavVani) train in every fold and are never tested.
"""

import argparse
import hashlib
import json
import logging
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import datasets

from . import CORPORA, load_corpus
from .schema import GENDERS, OTHERS, CorpusError, in_order

logger = logging.getLogger(__name__)

CROSSED = {"cross-corpus": "corpus", "cross-language": "language"}  # what is left out: all that have one value of it
LEAKY = ("random", "test-selected")
PROTOCOLS = ("speakers", "loso", "sessions", "emobox", "official", *CROSSED, *LEAKY)
# The folds of `splits/`: corpus -> protocol -> number of folds, for `speakers` also the default.
STANDARD_FOLDS = {
    "iemocap": {"speakers": 10, "loso": 10, "sessions": 5, "emobox": 5},
    "ravdess": {"speakers": 12, "loso": 24, "emobox": 6},
    "crema_d": {"speakers": 10, "loso": 91},
    "emodb": {"speakers": 10, "loso": 10},
    "cafe": {"speakers": 6, "loso": 12, "emobox": 3},
    "bhavvani": {"speakers": 5, "loso": 5},
}
# Test speakers of the folds that EmoBox published (Ma et al. 2024, Interspeech, doi 10.21437/Interspeech.2024-788).
# Its folds of CREMA-D and EmoDB share speakers between training and test and are left out.
EMOBOX_TEST = {
    "ravdess": ("01 11 20 21", "04 10 12 14", "08 09 19 23", "03 05 07 24", "02 15 16 18", "06 13 17 22"),
    "cafe": ("01 07 08 10", "02 04 09 12", "03 05 06 11"),
    "iemocap": ("Ses01M Ses01F", "Ses02M Ses02F", "Ses03M Ses03F", "Ses04M Ses04F", "Ses05M Ses05F"),
}
OFFICIAL_PARTS = {"bhavvani": re.compile("(?P<part>train|val|test)_")}  # at the start of the utterance's name
SPLITS = Path(__file__).with_name("splits")
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Fold:
    """One partition of a dataset into row numbers, each list ascending; `validation` may be empty.

    Rows in no part are those of a test speaker's dialogue partners. `leaky`: test speakers are met in training or
    validation, so that figures are not unseen-speaker figures. `files`: names in `splits/` that it is from, if any.
    """

    index: int
    train: list[int]
    validation: list[int]
    test: list[int]
    protocol: str
    leaky: bool = False
    files: tuple[str, ...] = field(default=(), compare=False)


class Speaker(NamedTuple):
    """What the folds depend on: gender, None for not known; sessions, sorted; number of utterances."""

    gender: str | None
    sessions: tuple[str, ...] = ()
    utterances: int | None = None


def get_folds(dataset: datasets.Dataset, protocol: str, num_folds: int | None = None, seed: int = 0) -> list[Fold]:
    """Folds of a dataset. Over all folds each row is tested exactly once, but for those of unknown people and, with
    `official`, of the other parts.

    Args:
        dataset: rows of `schema.py`. Of several corpora, fold k is each one's fold k put together (`loso`: one after
            the other, with every other corpus in training).
        protocol: `loso`, one test speaker a fold; `speakers`, `num_folds` groups of speakers balanced in gender;
            `sessions`, the speakers of one session a fold; `emobox`, the folds that EmoBox published; `official`, the
            corpus's own parts as one fold; `cross-corpus` and `cross-language`, every speaker of one corpus or
            language a fold, the others in training. Deliberately leaky, for showing what leaks are worth: `random`,
            utterances dealt at random, class by class, without regard to speakers; `test-selected`, the test speakers
            of `speakers` as the validation part, too, and everybody else in training.
        num_folds: for `speakers`, `random` and `test-selected`; by default the corpus's standard (`STANDARD_FOLDS`),
            else 10, or as many as there are speakers, if these are fewer. The other protocols say themselves how many
            there are.
        seed: 0 keeps the natural order of the speakers; any other shuffles them. For `random` always a shuffle.

    Raises:
        CorpusError: the protocol is unknown, or is not one of this corpus; there are fewer speakers (`random`:
            utterances) than folds; or a fold has nobody to train on.
    """
    if protocol not in PROTOCOLS:
        raise CorpusError(f"unknown protocol {protocol!r}; there are {', '.join(PROTOCOLS)}")
    speaker_ids = dataset["speaker_id"][:]
    speakers = speaker_table(dataset)
    of_corpus = defaultdict(dict)
    for name, speaker in speakers.items():
        of_corpus[name.split("/")[0]][name] = speaker
    if num_folds is None and protocol in ("speakers", *LEAKY):
        standard = STANDARD_FOLDS.get(next(iter(of_corpus)), {}).get("speakers", 10) if len(of_corpus) == 1 else 10
        num_folds = min(standard, *(len(_named(group)) for group in of_corpus.values()))

    files = ()
    if protocol == "random":
        rows = _random_rows(dataset, num_folds, seed)
    elif protocol == "official":
        if num_folds not in (None, 1):
            raise CorpusError(f"official has 1 fold, not {num_folds}; leave num_folds out")
        rows = [_official_rows(dataset)]
    elif protocol in CROSSED:
        parts = crossed_parts(speakers, _values_of(dataset, CROSSED[protocol]), seed)
        if num_folds not in (None, len(parts)):
            raise CorpusError(f"{protocol} has {len(parts)} folds here, not {num_folds}; leave num_folds out")
        rows = [_rows_of(fold, speaker_ids) for fold in parts]
    else:
        of_speakers = "speakers" if protocol == "test-selected" else protocol
        committed = {
            corpus: _committed_parts(dataset, corpus, group, of_speakers, num_folds, seed)
            for corpus, group in of_corpus.items()
        }
        files = tuple(found[0] for found in committed.values() if found)
        parts_of = {
            corpus: found[1] if found else speaker_parts(of_corpus[corpus], of_speakers, num_folds, seed)
            for corpus, found in committed.items()
        }
        if protocol == "loso":
            parts = [fold for folds in parts_of.values() for fold in folds]
            trained_elsewhere = [
                [name for name in speakers if name.split("/")[0] != corpus]
                for corpus, folds in parts_of.items()
                for _ in folds
            ]
            parts = [{**fold, "train": [*fold["train"], *more]} for fold, more in zip(parts, trained_elsewhere)]
        else:
            counts = {corpus: len(folds) for corpus, folds in parts_of.items()}
            if len(set(counts.values())) > 1:
                raise CorpusError(f"{protocol} has different numbers of folds in these corpora: {counts}")
            parts = [
                {part: [name for fold in folds for name in fold[part]] for part in PARTS}
                for folds in zip(*parts_of.values())
            ]
        rows = [_rows_of(fold, speaker_ids) for fold in parts]
    if protocol == "test-selected":
        rows = [
            {"train": sorted([*fold["train"], *fold["validation"]]), "validation": fold["test"], "test": fold["test"]}
            for fold in rows
        ]
    folds = []
    for index, of_fold in enumerate(rows):
        met = {speaker_ids[row] for part in ("train", "validation") for row in of_fold[part]}
        leaky = any(speaker_ids[row] in met for row in of_fold["test"])
        folds.append(Fold(index, **of_fold, protocol=protocol, leaky=leaky, files=files))
    _check(folds, dataset, speaker_ids)
    return folds


def speaker_table(dataset: datasets.Dataset) -> dict[str, Speaker]:
    """speaker_id -> what the folds depend on, sorted by speaker_id."""
    names = dataset.features["gender"].names
    genders, sessions, counts = {}, defaultdict(set), Counter()
    for speaker, gender, session in zip(dataset["speaker_id"][:], dataset["gender"], dataset["session_id"][:]):
        genders[speaker] = None if gender is None or speaker.endswith(f"/{OTHERS}") else names[gender]
        counts[speaker] += 1
        if session is not None:
            sessions[speaker].add(session)
    return {name: Speaker(genders[name], tuple(sorted(sessions[name])), counts[name]) for name in sorted(genders)}


def crossed_parts(
    speakers: Mapping[str, Speaker], value_of: Mapping[str, str], seed: int = 0
) -> list[dict[str, list[str]]]:
    """The folds of `cross-corpus` and `cross-language`.

    Args:
        speakers: `<corpus>/<speaker>` -> what the rule depends on.
        value_of: `<corpus>/<speaker>` -> corpus or language.
        seed: see `speaker_parts`.

    Returns:
        One dictionary a fold, of one value each, in sorted order: the speakers of "train", "validation" and "test",
        sorted. Validation is the first pair of the order of the next corpus, in cyclic order, that has another value
        and four speakers who can be told apart; there is none if no corpus has. Unknown people train, but not beside
        test speakers of their own corpus or language.

    Raises:
        CorpusError: there is only one value, or nobody with a value can be tested.
    """
    values = sorted(set(value_of.values()))
    if len(values) < 2:
        raise CorpusError(f"all speakers are of {values[0]}: to leave one out and train on others takes two or more")
    parts = []
    for place, value in enumerate(values):
        test = sorted(_named({name: speakers[name] for name in speakers if value_of[name] == value}))
        if not test:
            raise CorpusError(f"nobody knows who the speakers of {value} are: they are trained on and never tested")
        train = {name for name in speakers if value_of[name] != value}
        validation = []
        for other in [*values[place + 1 :], *values[:place]]:
            corpora = defaultdict(dict)
            for name in sorted(_named({name: speakers[name] for name in train if value_of[name] == other})):
                corpora[name.split("/")[0]][name] = speakers[name]
            units = [_validation_units(group, seed) for group in corpora.values() if len(group) >= 4]
            if units:
                validation = sorted(units[0][0])
                break
        parts.append({"train": sorted(train - set(validation)), "validation": validation, "test": test})
    return parts


def _validation_units(speakers: Mapping[str, Speaker], seed: int) -> list[Sequence[str]]:
    """Who can validate together, of one corpus."""
    order, pairs = _order(speakers, _linked(speakers), seed)
    return pairs or [order[:2]]


def _values_of(dataset: datasets.Dataset, column: str) -> dict[str, str]:
    """speaker_id -> the one value of a column."""
    values = {}
    for speaker, value in zip(dataset["speaker_id"][:], dataset[column][:]):
        if values.setdefault(speaker, value) != value:
            raise CorpusError(f"{speaker} has more than one {column}: {values[speaker]} and {value}")
    return values


def _rows_of(fold: Mapping[str, Sequence[str]], speaker_ids: Sequence[str]) -> dict[str, list[int]]:
    """The rows of each part, of the speakers of each part."""
    part_of = {name: part for part in PARTS for name in fold[part]}
    rows = {part: [] for part in PARTS}
    for row, name in enumerate(speaker_ids):
        if name in part_of:
            rows[part_of[name]].append(row)
    return rows


def speaker_parts(
    speakers: Mapping[str, Speaker], protocol: str, num_folds: int | None = None, seed: int = 0
) -> list[dict[str, list[str]]]:
    """The rule at the top of this module, for one corpus.

    Args:
        speakers: `<corpus>/<speaker>` -> what the rule depends on.
        protocol: `speakers`, `loso`, `sessions` or `emobox`; see `get_folds`.
        num_folds: number of test groups; needed for `speakers`, and held against the others' own number.
        seed: 0 for the natural order, any other number for a shuffle within each gender, or of the sessions.

    Returns:
        One dictionary a fold with the speakers of "train", "validation", "test" and "excluded", sorted. There is no
        validation among fewer than four speakers, nor where it would leave nobody to train on.

    Raises:
        CorpusError: fewer than two folds, fewer speakers than folds, a protocol without folds for these speakers, or
            a fold in which every speaker shares a session with a test speaker.
    """
    others = [name for name in speakers if name.endswith(f"/{OTHERS}")]
    named = _named(speakers)
    units = _linked(named)  # speakers who share sessions, directly or through others
    partners = {name: set(unit) for unit in units for name in unit}
    if seed:
        random.Random(seed).shuffle(units)
    order, pairs = _order(named, units, seed)
    linked = any(len(unit) > 1 for unit in units)
    groups = _test_groups(named, order, units if linked else None, protocol, num_folds)

    parts = []
    for test in groups:
        excluded = set().union(*(partners[name] for name in test)) - set(test)
        last = max(order.index(name) for name in test)
        after = [name for name in order[last + 1 :] + order[: last + 1] if name not in {*test, *excluded}]
        if not after and not others:
            raise CorpusError(
                f"test speakers {', '.join(test)}: every other speaker shares a session with them, so nobody is left "
                "to train on; is the session column what it should be?"
            )
        validation = []
        if len(order) >= 4:
            # A pair stands where the later of its members stands.
            free = [pair for pair in pairs if set(pair) <= set(after)]
            place = {tuple(unit): max(after.index(name) for name in unit) for unit in free}
            validation = list(min(place, key=place.get)) if free else after[:2]
        if len(validation) == len(after) and not others:
            validation = []
        train = {*after, *others} - set(validation)
        of_fold = {"train": train, "validation": validation, "test": test, "excluded": excluded}
        parts.append({part: sorted(names) for part, names in of_fold.items()})
    return parts


def _named(speakers: Mapping[str, Speaker]) -> dict[str, Speaker]:
    """The speakers that can be tested: all but the unknown people."""
    return {name: speaker for name, speaker in speakers.items() if not name.endswith(f"/{OTHERS}")}


def _linked(speakers: Mapping[str, Speaker]) -> list[list[str]]:
    """Groups of speakers connected through sessions, in the order of their first names; within each, men first."""
    groups = []
    for name in sorted(speakers):
        sessions = set(speakers[name].sessions)
        joined = [group for group in groups if group["sessions"] & sessions]
        groups = [group for group in groups if group not in joined]
        groups.append(
            {
                "names": {name}.union(*(group["names"] for group in joined)),
                "sessions": sessions.union(*(group["sessions"] for group in joined)),
            }
        )
    units = [sorted(group["names"], key=lambda name: (speakers[name].gender != "male", name)) for group in groups]
    return sorted(units, key=min)


def _order(
    speakers: Mapping[str, Speaker], units: Sequence[Sequence[str]], seed: int
) -> tuple[list[str], list[Sequence[str]]]:
    """Every speaker in the order that the folds cut, and who can validate together; `units` are those of `_linked`."""
    linked = {name: unit for unit in units if len(unit) > 1 for name in unit}
    if len(linked) == len(speakers):
        return [name for unit in units for name in unit], list(units)
    order, _ = _gender_order(speakers, seed)
    order = list(dict.fromkeys(other for name in order for other in linked.get(name, [name])))
    _, pairs = _gender_order({name: speakers[name] for name in order if name not in linked}, seed)
    return order, [*pairs, *(unit for unit in units if len(unit) > 1)]


def _gender_order(speakers: Mapping[str, Speaker], seed: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Every speaker with each gender spread evenly, and the pairs of a man and a woman."""
    genders = {speaker.gender for speaker in speakers.values()} - {None}
    of_gender = {
        gender: sorted(name for name in speakers if speakers[name].gender == gender)
        for gender in [*in_order(genders | set(GENDERS), ("male", "female")), None]
    }
    if seed:
        generator = random.Random(seed)
        for names in of_gender.values():
            generator.shuffle(names)
    # Each gender spread evenly over [0, 1); the sort is stable, so of equals the man comes first.
    places = [((i + 0.5) / len(names), name) for names in of_gender.values() for i, name in enumerate(names)]
    order = [name for _, name in sorted(places, key=lambda place: place[0])]
    return order, list(zip(of_gender["male"], of_gender["female"]))


def _test_groups(
    speakers: Mapping[str, Speaker],
    order: Sequence[str],
    sessions: Sequence[Sequence[str]] | None,
    protocol: str,
    num_folds: int | None,
) -> list[list[str]]:
    """The test speakers of each fold."""
    if not order:
        raise CorpusError("nobody knows who the speakers are: such people are trained on and never tested")
    corpus = order[0].split("/")[0]
    if protocol == "speakers":
        if num_folds is None or not 2 <= num_folds <= len(order):
            raise CorpusError(
                f"{num_folds} folds of {len(order)} speakers: there must be at least 2 folds and a speaker for each; "
                "give another num_folds"
            )
        size, more = divmod(len(order), num_folds)
        ends = [size * (index + 1) + min(index + 1, more) for index in range(num_folds)]
        return [list(order[start:end]) for start, end in zip([0, *ends], ends)]
    if protocol == "loso":
        groups = [[name] for name in order]
    elif protocol == "sessions":
        if sessions is None:
            raise CorpusError(f"{corpus} has no sessions that speakers share; take the protocol speakers or loso")
        groups = [list(unit) for unit in sessions]
    else:
        if corpus not in EMOBOX_TEST:
            raise CorpusError(
                f"EmoBox has no speaker-disjoint folds of {corpus}, only of {', '.join(EMOBOX_TEST)}; take the "
                "protocol speakers or loso"
            )
        groups = [[f"{corpus}/{name}" for name in group.split()] for group in EMOBOX_TEST[corpus]]
        # Of a partial copy the folds are what is there of them.
        groups = [present for group in groups if (present := [name for name in group if name in speakers])]
    if num_folds not in (None, len(groups)):
        raise CorpusError(f"{protocol} has {len(groups)} folds here, not {num_folds}; leave num_folds out")
    if len(groups) < 2:
        raise CorpusError(f"{protocol} has {len(groups)} fold here: there must be at least 2 to train and to test")
    return groups


def _official_rows(dataset: datasets.Dataset) -> dict[str, list[int]]:
    """The parts that the corpus itself names."""
    corpora = sorted(set(dataset["corpus"][:]))
    if len(corpora) > 1 or corpora[0] not in OFFICIAL_PARTS:
        raise CorpusError(
            f"{' and '.join(corpora)} has no parts of its own, only {', '.join(OFFICIAL_PARTS)} has; take the "
            "protocol speakers or loso"
        )
    rows = {part: [] for part in PARTS}
    for row, name in enumerate(dataset["utterance_id"][:]):
        match = OFFICIAL_PARTS[corpora[0]].match(name.split("/")[1])
        if match is None:
            raise CorpusError(f"{name}: its name does not say which of the official parts it belongs to")
        rows["validation" if match["part"] == "val" else match["part"]].append(row)
    empty = [part for part in ("train", "test") if not rows[part]]
    if empty:
        raise CorpusError(f"the official {' and '.join(empty)} part of {corpora[0]} is empty: is the copy complete?")
    return rows


def _random_rows(dataset: datasets.Dataset, num_folds: int, seed: int) -> list[dict[str, list[int]]]:
    """Utterances shuffled and dealt out class by class; the next fold's test part validates."""
    if not 2 <= num_folds <= len(dataset):
        raise CorpusError(f"{num_folds} folds of {len(dataset)} utterances: there must be at least 2 and one for each")
    ids, emotions = dataset["utterance_id"][:], dataset["emotion"][:]
    rows = sorted(range(len(ids)), key=ids.__getitem__)  # the same folds whatever order the rows come in
    random.Random(seed).shuffle(rows)
    rows.sort(key=emotions.__getitem__)
    groups = [sorted(rows[index::num_folds]) for index in range(num_folds)]
    folds = []
    for index, test in enumerate(groups):
        validation = groups[(index + 1) % num_folds] if num_folds > 2 else []
        train = sorted(set(rows) - set(test) - set(validation))
        folds.append({"train": train, "validation": validation, "test": test})
    return folds


def _check(folds: Sequence[Fold], dataset: datasets.Dataset, speaker_ids: Sequence[str]) -> None:
    """Hold the folds against what get_folds promises, and say what a user should know of them."""
    emotions = dataset["emotion"][:]
    present = set(emotions)
    for fold in folds:
        rows = [*fold.train, *fold.test, *(fold.validation if fold.protocol != "test-selected" else [])]
        assert len(rows) == len(set(rows)), "a row is in two parts"
        if fold.protocol not in ("official", *LEAKY):
            train, validation = ({speaker_ids[row] for row in part} for part in (fold.train, fold.validation))
            assert not fold.leaky and not train & validation, "a speaker is in two parts"
        missing = present - {emotions[row] for row in fold.train}
        if missing:
            names = [dataset.features["emotion"].names[emotion] for emotion in sorted(missing)]
            logger.warning("fold %d: no training utterance of class %s", fold.index, ", ".join(names))
    if folds[0].protocol != "official":
        is_random = folds[0].protocol == "random"
        testable = [r for r, name in enumerate(speaker_ids) if is_random or not name.endswith(f"/{OTHERS}")]
        assert sorted(row for fold in folds for row in fold.test) == testable, "a row is not tested exactly once"
    without = [str(fold.index) for fold in folds if not fold.validation]
    if without:
        logger.warning("no validation part in fold %s: too few speakers or folds", ", ".join(without))


def _committed_parts(
    dataset: datasets.Dataset,
    corpus: str,
    speakers: Mapping[str, Speaker],
    protocol: str,
    num_folds: int | None,
    seed: int,
) -> tuple[str, list[dict[str, list[str]]]] | None:
    """A file's name in `splits/` and the speakers of its parts, where it has this split for just these speakers."""
    number = STANDARD_FOLDS.get(corpus, {}).get(protocol) if num_folds is None else num_folds
    path = SPLITS / f"{corpus}_{protocol}_{number}.json"
    if not path.is_file():
        return None
    split = json.loads(path.read_text(encoding="utf-8"))
    parts = [{part: fold[part]["speakers"] for part in PARTS} for fold in split["folds"]]
    if split["seed"] != seed or {name for fold in parts for names in fold.values() for name in names} != set(speakers):
        return None
    ids = [name for name in dataset["utterance_id"][:] if name.startswith(f"{corpus}/")]
    if split["utterance_ids_sha256"] not in (None, hash_ids(ids)):
        logger.info("%s was made on other utterances of %s than these", path.name, corpus)
    return path.name, parts


def hash_ids(utterance_ids: Iterable[str]) -> str:
    """sha256 of the sorted utterance ids, one a line."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(utterance_ids)).encode()).hexdigest()


def describe_speakers(dataset: datasets.Dataset) -> dict:
    """A corpus's entry in `splits/speakers.json`: hash of the utterance ids, and what `Speaker` holds of each."""
    table = {
        name: {field: value for field, value in speaker._asdict().items() if value != ()}
        for name, speaker in speaker_table(dataset).items()
    }
    return {"utterance_ids_sha256": hash_ids(dataset["utterance_id"][:]), "speakers": table}


def describe_split(corpus: str, entry: Mapping, protocol: str, num_folds: int | None = None) -> dict:
    """The content of a file in `splits/`, by the rule (seed 0) and never by an older file.

    Args:
        corpus: its name.
        entry: the corpus's entry in `splits/speakers.json`; see `describe_speakers`.
        protocol, num_folds: see `speaker_parts`.

    Raises:
        CorpusError: see `speaker_parts`.
    """
    speakers = {
        name: Speaker(fields["gender"], tuple(fields.get("sessions", ())), fields.get("utterances"))
        for name, fields in entry["speakers"].items()
    }
    folds = []
    for parts in speaker_parts(speakers, protocol, num_folds):
        fold = {}
        for part, names in parts.items():
            counts = [speakers[name].utterances for name in names]
            if names or part != "excluded":
                fold[part] = {"speakers": names, "utterances": None if None in counts else sum(counts)}
        folds.append(fold)
    return {
        "corpus": corpus,
        "protocol": protocol,
        "seed": 0,
        "num_folds": len(folds),
        "utterance_ids_sha256": entry["utterance_ids_sha256"],
        "folds": folds,
    }


def _write(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8", newline="\n")
    print(path)


def main() -> None:
    """Write the files of `splits/`."""
    parser = argparse.ArgumentParser(
        prog="python -m dataset_scripts.folds",
        description="Write the files of splits/ again: all from speakers.json, or a corpus's from the corpus itself.",
    )
    parser.add_argument("--corpus", choices=CORPORA, help="default: every corpus of speakers.json")
    parser.add_argument("--data_dir", help="folder that holds the corpus; its entry in speakers.json is made anew")
    parser.add_argument("--protocol", choices=("speakers", "loso", "sessions", "emobox"))
    parser.add_argument("--num_folds", type=int, help="default: the corpus's standard")
    parser.add_argument("--output_dir", type=Path, default=SPLITS, help="default: the package's own splits folder")
    arguments = parser.parse_args()
    table = json.loads((SPLITS / "speakers.json").read_text(encoding="utf-8"))
    try:
        if arguments.corpus and (arguments.data_dir or arguments.corpus not in table):
            table[arguments.corpus] = describe_speakers(load_corpus(arguments.corpus, arguments.data_dir))
        for corpus in [arguments.corpus] if arguments.corpus else table:
            standard = STANDARD_FOLDS.get(corpus, {})
            for protocol in [arguments.protocol] if arguments.protocol else standard:
                num_folds = standard.get(protocol) if arguments.num_folds is None else arguments.num_folds
                split = describe_split(corpus, table[corpus], protocol, num_folds)
                _write(arguments.output_dir / f"{corpus}_{protocol}_{split['num_folds']}.json", split)
    except CorpusError as error:
        parser.error(str(error))
    _write(arguments.output_dir / "speakers.json", dict(sorted(table.items())))


if __name__ == "__main__":
    main()
