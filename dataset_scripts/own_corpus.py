"""A user's own corpus: a folder of audio with a table or with a folder a class, or a dataset of the Hub.

Provenance, licence and citation: the user's; none of it is known here, and nothing of it is passed on.
How to obtain: it is the user's. Two layouts of a folder are read, as in the `audiofolder` of `datasets`:

- `metadata.csv`, `.tsv`, `.jsonl` or `.parquet`, in the folder or in folders below, with a row for each file: its path
  from there, its emotion, its speaker and, where they are known, gender, session, sentence and language. Columns go by
  the usual names (`COLUMNS`) or by those that the user gives.
- without such a table, a folder for each emotion, the speaker (and gender, session, text) in the path, picked out by a
  regular expression with named groups, like `(?P<speaker>spk\\d+)_(?P<gender>[fm])`.

A dataset of the Hub or a Parquet file, through `datasets.load_dataset`, has the same columns with its audio in one of
them. Words for emotions and genders become the canonical ones where `label_maps.json` knows them and stay as they are
where it does not; languages, labels and genders may be anything.

Speakers are needed: without them nobody can keep a test speaker out of training, and a figure on clips of known
speakers says little about others.

Oddities: audio files that the table does not list are left out; files that it lists and that are not there are errors.
"""

import json
import logging
import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import datasets
import pandas as pd

from . import CORPORA
from .label_maps import canonical
from .schema import (
    EMOTIONS,
    GENDERS,
    CorpusBuilder,
    CorpusError,
    CorpusFile,
    in_order,
    listed,
    read_duration,
    row_features,
    validate,
)

logger = logging.getLogger(__name__)

# What a column is for -> the names that it goes by, when the user names none; case does not matter.
COLUMNS = {
    "audio": ("audio", "file_name", "file", "filename", "path", "wav"),
    "label": ("emotion", "label", "emotion_label"),
    "speaker": ("speaker_id", "speaker", "spk_id", "spk"),
    "gender": ("gender", "sex"),
    "session": ("session_id", "session"),
    "text": ("text_id", "sentence_id", "sentence"),
    "language": ("language", "lang"),
}
NEEDED = ("audio", "label", "speaker")
WHY_SPEAKERS = (
    "Without speakers no test speaker can be kept out of training, and figures on speakers whom the model knows say "
    "little about others"
)


@dataclass
class OwnCorpusConfig(datasets.BuilderConfig):
    """What the user says of the corpus.

    `corpus_name` is the prefix of utterance and speaker ids; `language` an ISO 639 code; `columns` maps keys of
    `COLUMNS` to the table's names; `file_pattern` is searched in each path inside the folder.
    """

    corpus_name: str = "own"
    language: str = "und"  # ISO 639-2 for undetermined
    columns: Mapping[str, str] | None = None
    file_pattern: str | None = None


class OwnCorpusBuilder(CorpusBuilder):
    """A folder of audio of the user's; see the module's docstring.

    Args:
        data_dir, cache_dir, skip_bad_files, config_name: see `CorpusBuilder`.
        options: fields of `OwnCorpusConfig`.

    Raises:
        CorpusError: a column is missing or is one of several, nothing tells the speakers, the regular expression is
            none, or the table cannot be read.
    """

    BUILDER_CONFIG_CLASS = OwnCorpusConfig
    corpus = "own"
    license = "the user's"
    citation = ""
    homepage = ""
    how_to_obtain = (
        "Give a folder of audio with a metadata.csv (columns file_name, emotion, speaker_id and, where known, "
        "gender), or with a folder for each emotion and a --file_pattern with a group (?P<speaker>...)."
    )
    name_pattern = "as the metadata lists them, or EMOTION/NAME"
    metadata_pattern = r"(.*/)?metadata\.(csv|tsv|jsonl|parquet)"
    left_out = "not listed in the metadata"

    def _info(self) -> datasets.DatasetInfo:
        """The labels are what the folder holds: it is read before anything else."""
        config = self.config
        if not re.fullmatch(r"[\w.-]+", config.corpus_name) or config.corpus_name in set(CORPORA) - {"own"}:
            raise CorpusError(
                f"corpus_name {config.corpus_name!r} must be letters, digits, '.', '_' and '-', and none of "
                f"{', '.join(CORPORA)}"
            )
        self.corpus, self.language = config.corpus_name, config.language
        self.pattern = _compiled(config.file_pattern)
        self.fields = {file.relative: self._from_path(file.relative) for file in self.files}
        if self.metadata_files:
            self.fields = self._from_tables()
        elif self.pattern is None or "speaker" not in self.pattern.groupindex:
            raise CorpusError(
                f"{self.config.data_dir} has no metadata.csv, .tsv, .jsonl or .parquet, and no --file_pattern with a "
                f"group (?P<speaker>...) tells the speakers. {WHY_SPEAKERS}. {self.how_to_obtain}"
            )
        usable = [fields for fields in self.fields.values() if isinstance(fields, dict)]
        self.emotions = tuple(in_order({fields["emotion"] for fields in usable}, EMOTIONS))
        self.genders = tuple(in_order({fields["gender"] for fields in usable} - {None}, GENDERS)) or GENDERS
        return super()._info()

    def parse(self, path: PurePath) -> dict | None:
        """Fields of a file from the table, or from its path. See `CorpusBuilder.parse`."""
        fields = self.fields.get(path.as_posix())
        if isinstance(fields, CorpusError):
            raise fields
        return fields

    def _utterances(self) -> tuple[dict[str, tuple[CorpusFile, dict]], list[str]]:
        """See `CorpusBuilder._utterances`; files that a table lists and that are not there are problems, too."""
        utterances, problems = super()._utterances()
        present = {file.relative for file in self.files}
        return utterances, problems + [f"{path}: listed, but not there" for path in self.fields if path not in present]

    def utterance_name(self, path: PurePath) -> str:
        """The path without its suffix: stems repeat between the folders of a user."""
        return path.with_suffix("").as_posix()

    def _from_path(self, relative: str) -> dict | CorpusError:
        """What folder and pattern say of a file."""
        match = self.pattern.search(relative) if self.pattern else None
        if self.pattern and match is None:
            return CorpusError(f"--file_pattern {self.pattern.pattern!r} does not match")
        groups = {name: value for name, value in match.groupdict().items() if value} if match else {}
        groups.setdefault("label", groups.pop("emotion", None) or PurePath(relative).parent.name)
        return _fields(groups, self.corpus)

    def _from_tables(self) -> dict[str, dict | CorpusError]:
        """Path inside data_dir -> fields, of every row of every table."""
        fields = {}
        for file in self.metadata_files:
            table = _read_table(file.path)
            groups = self.pattern.groupindex if self.pattern else {}
            columns = find_columns(list(table.columns), self.config.columns, file.path, known={*groups} - {"emotion"})
            folder = posixpath.dirname(file.relative)
            for number, row in enumerate(table.to_dict("records"), start=1):
                cells = {kind: _text(row[column]) for kind, column in columns.items()}
                if cells["audio"] is None:
                    raise CorpusError(f"{file.path}, row {number}: no file in column {columns['audio']}")
                relative = posixpath.normpath(posixpath.join(folder, cells.pop("audio").replace(os.sep, "/")))
                match = self.pattern.search(relative) if self.pattern else None
                cells |= {kind: value for kind, value in (match.groupdict() if match else {}).items() if value}
                of_row = _fields(cells, self.corpus)
                if fields.setdefault(relative, of_row) != of_row:
                    raise CorpusError(f"{file.path}, row {number}: {relative} is listed before, and otherwise")
        return fields


def load_dataset_rows(
    dataset_name: str,
    dataset_config_name: str | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    corpus_name: str = "own",
    language: str = "und",
    cache_dir: str | os.PathLike | None = None,
    token: str | None = None,
    skip_bad_files: bool = False,
) -> tuple[datasets.Dataset, list[str]]:
    """Rows of the schema from a dataset of the Hub, a folder that `load_dataset` reads, or a Parquet file.

    Args:
        dataset_name: Hub id, folder, or Parquet file; all splits are taken together, since folds are ours to make.
            One that `dataset_scripts.publish` wrote is taken as it is.
        dataset_config_name: the dataset's configuration.
        columns: keys of `COLUMNS` -> the dataset's names.
        corpus_name: prefix of utterance and speaker ids.
        language: ISO 639 code, where no column tells it.
        cache_dir: where `datasets` keeps what it fetches.
        token: for the Hub.
        skip_bad_files: leave out rows that cannot be used.

    Returns:
        the dataset, sorted by utterance_id, and what was left out, with the reasons.

    Raises:
        CorpusError: the dataset cannot be loaded, columns are missing, or rows cannot be used; it lists all of them.
    """
    is_file = Path(dataset_name).is_file()
    source = {"path": "parquet", "data_files": str(dataset_name)} if is_file else {"path": str(dataset_name)}
    cache_dir = None if cache_dir is None else str(cache_dir)
    try:
        loaded = datasets.load_dataset(**source, name=dataset_config_name, cache_dir=cache_dir, token=token)
    except Exception as error:
        # Whatever the readers of a dozen formats and the Hub's client raise: none of it is ours to tell apart.
        raise CorpusError(
            f"--dataset_name {dataset_name} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    splits = [loaded[name].cast(loaded[min(loaded)].features) for name in sorted(loaded)]
    dataset = datasets.concatenate_datasets(splits)
    audio_like = [name for name, feature in dataset.features.items() if isinstance(feature, datasets.Audio)]
    if set(dataset.features) == set(row_features(EMOTIONS)):
        dataset = dataset.cast_column("audio", datasets.Audio(sampling_rate=16000, decode=False))
        validate(dataset)
        return _sorted(dataset), []

    if columns is None or "audio" not in columns:
        columns = {**(columns or {}), **({"audio": audio_like[0]} if len(audio_like) == 1 else {})}
    of_kind = find_columns(dataset.column_names, columns, str(dataset_name))
    audio = dataset.select_columns(of_kind["audio"])
    if of_kind["audio"] != "audio":
        audio = audio.rename_column(of_kind["audio"], "audio")
    if isinstance(audio.features["audio"], datasets.Value):
        raise CorpusError(
            f"{dataset_name}: column {of_kind['audio']} holds paths or names, not audio. A folder of audio with a "
            "table is read by --corpus own --data_dir DIR"
        )
    audio = audio.cast_column("audio", datasets.Audio(sampling_rate=16000, decode=False))
    cells = {}
    for kind, column in of_kind.items():
        if kind != "audio":
            feature, values = dataset.features[column], dataset[column]
            if isinstance(feature, datasets.ClassLabel):
                values = [None if value is None or value < 0 else feature.names[value] for value in values]
            cells[kind] = [_text(value) for value in values]
    rows, problems, left_out = {}, [], set()
    for number, source in enumerate(audio["audio"]):
        name = f"{number:06d}" + (f"_{PurePath(source['path']).stem}" if source["path"] else "")
        try:
            fields = _fields({kind: values[number] for kind, values in cells.items()}, corpus_name)
            if isinstance(fields, CorpusError):
                raise fields
            rows[number] = {"name": name, **fields, "duration_s": read_duration(source)}
        except CorpusError as error:
            problems.append(f"row {number}: {error}")
            left_out.add(number)
    if problems and not skip_bad_files or not rows:
        raise CorpusError(f"{len(problems)} rows of {dataset_name} cannot be used:\n{listed(problems)}")
    kept = list(rows.values())
    emotions = in_order({row["emotion"] for row in kept}, EMOTIONS)
    genders = in_order({row["gender"] for row in kept} - {None}, GENDERS) or list(GENDERS)
    values = {
        "utterance_id": [f"{corpus_name}/{row['name']}" for row in kept],
        "corpus": [corpus_name] * len(kept),
        "language": [row.get("language", language) for row in kept],
        "speaker_id": [f"{corpus_name}/{row['speaker']}" for row in kept],
        "session_id": [row["session_id"] for row in kept],
        "gender": [None if row["gender"] is None else genders.index(row["gender"]) for row in kept],
        "emotion": [emotions.index(row["emotion"]) for row in kept],
        "source_label": [row["source_label"] for row in kept],
        "text_id": [row["text_id"] for row in kept],
        "duration_s": [row["duration_s"] for row in kept],
    }
    features = row_features(emotions, genders)
    table = datasets.Dataset.from_dict(values, features=datasets.Features({name: features[name] for name in values}))
    dataset = datasets.concatenate_datasets([audio.select(list(rows)).flatten_indices(), table], axis=1)
    dataset = dataset.select_columns(list(features))
    validate(dataset)
    return _sorted(dataset), problems


def _sorted(dataset: datasets.Dataset) -> datasets.Dataset:
    """Rows in the order of utterance_id."""
    return dataset.select(sorted(range(len(dataset)), key=list(dataset["utterance_id"]).__getitem__))


def find_columns(
    present: Sequence[str], given: Mapping[str, str] | None, source: str, known: set[str] = frozenset()
) -> dict[str, str]:
    """What each column is for.

    Args:
        present: the table's columns.
        given: keys of `COLUMNS` -> names, from the user.
        source: what the table is called in messages.
        known: what is known from elsewhere and needs no column.

    Raises:
        CorpusError: a needed column is missing, a named one is not there, or several go by the usual names.
    """
    columns = {}
    for kind, usual in COLUMNS.items():
        if given and given.get(kind) is not None:
            candidates = [name for name in present if name == given[kind]]
            names = given[kind]
        else:
            candidates = [name for name in present if str(name).strip().lower() in usual]
            names = ", ".join(usual)
        flag = f"--{kind}_column_name"
        if len(candidates) > 1:
            raise CorpusError(
                f"{source}: several columns may be the {kind}: {', '.join(candidates)}; choose with {flag}"
            )
        if candidates:
            columns[kind] = candidates[0]
        elif (given and given.get(kind) is not None) or (kind in NEEDED and kind not in known):
            why = f" {WHY_SPEAKERS}." if kind == "speaker" else ""
            raise CorpusError(
                f"{source} has no column for the {kind}: looked for {names}, found {', '.join(map(str, present))}; "
                f"name it with {flag}.{why}"
            )
    return columns


def _fields(cells: Mapping[str, str | None], corpus: str) -> dict | CorpusError:
    """The fields of `CorpusBuilder.parse` from what the columns or the groups of a pattern say."""
    missing = [kind for kind in ("label", "speaker") if not cells.get(kind)]
    if missing:
        return CorpusError(f"its {' and '.join(missing)} is not given")
    if "/" in cells["speaker"]:
        return CorpusError(f"its speaker {cells['speaker']!r} holds a '/'")
    fields = {
        "speaker": cells["speaker"],
        "gender": canonical("gender", cells["gender"]) if cells.get("gender") else None,
        "emotion": canonical("emotion", cells["label"]),
        "source_label": cells["label"],
        "session_id": f"{corpus}/{cells['session']}" if cells.get("session") else None,
        "text_id": cells.get("text"),
    }
    return fields | ({"language": cells["language"]} if cells.get("language") else {})


def _compiled(file_pattern: str | None) -> re.Pattern | None:
    """The regular expression of --file_pattern."""
    if file_pattern is None:
        return None
    try:
        pattern = re.compile(file_pattern)
    except re.error as error:
        raise CorpusError(f"--file_pattern {file_pattern!r} is no regular expression: {error}") from error
    known = {"speaker", "emotion", *COLUMNS} - {"audio", "label"}
    if not pattern.groupindex or set(pattern.groupindex) - known:
        raise CorpusError(
            f"--file_pattern {file_pattern!r} needs named groups like (?P<speaker>...); known are "
            f"{', '.join(sorted(known))}"
        )
    return pattern


def _read_table(path: str) -> pd.DataFrame:
    """A metadata file, every cell of CSV and TSV as text: a speaker 007 stays 007."""
    suffix = os.path.splitext(path)[1].lower()
    try:
        if suffix == ".parquet":
            return pd.read_parquet(path)
        if suffix == ".jsonl":
            with open(path, encoding="utf-8") as lines:
                return pd.DataFrame([json.loads(line) for line in lines if line.strip()], dtype=object)
        separator = "\t" if suffix == ".tsv" else ","
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError, TypeError) as error:
        raise CorpusError(f"{path} cannot be read: {error}") from error


def _text(value: object) -> str | None:
    """A cell as text; None for an empty one."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    return str(value).strip() or None
