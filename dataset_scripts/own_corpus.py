"""A user's own corpus: a folder of audio with a table or with a folder a class, or a dataset of the Hub.

Provenance, licence and citation: the user's; none of it is known here, and nothing of it is passed on.
How to obtain: it is the user's. Two layouts of a folder are read, as in the `audiofolder` of `datasets`:

- `metadata.csv`, `.tsv`, `.jsonl` or `.parquet`, in the folder or in folders below, with a row for each file: its path
  from there, its emotion, its speaker and, where they are known, gender, session, sentence and language. Columns go by
  the usual names (`COLUMNS`) or by those that the user gives. Text is UTF-8 or UTF-16; CSV may have semicolons.
- without such a table, a folder for each emotion, the speaker (and gender, session, text) in the path, picked out by a
  regular expression with named groups, like `(?P<speaker>spk\\d+)_(?P<gender>[fm])`.

A dataset of the Hub or a Parquet file, through `datasets.load_dataset`, has the same columns with its audio in one of
them. Words for emotions and genders become the canonical ones where `label_maps.json` knows them and stay as they are
where it does not, but that upper and lower case make no two of them; languages, labels and genders may be anything. A
gender that is missing is that of the speaker's other files.

Speakers are needed: without them nobody can keep a test speaker out of training, and a figure on clips of known
speakers says little about others.

Oddities: audio files that the table does not list are left out; files that it lists and that are not there are errors.
Tables come from other machines: paths may have the separators of Windows, accents in the other form of Unicode (macOS
decomposes those of file names), or lead to the files by other links.
"""

import io
import json
import logging
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import datasets
import pyarrow
import pyarrow.parquet
from datasets.exceptions import DatasetGenerationError

from . import CORPORA
from .label_maps import canonical, gender_of, one_spelling
from .schema import (
    AUDIO_SUFFIXES,
    EMOTIONS,
    GENDERS,
    OTHERS,
    CorpusBuilder,
    CorpusError,
    CorpusFile,
    in_order,
    listed,
    read_duration,
    row_features,
    some,
    validate,
)
from .tables import SEPARATORS, decoded, read_table

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
            none, the table cannot be read, or a speaker has two genders.
    """

    VERSION = "1.1.0"
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
    metadata_pattern = r"(?s:.*/)?metadata\.(csv|tsv|jsonl|parquet)"
    left_out = "not listed in the metadata"

    def _info(self) -> datasets.DatasetInfo:
        """The labels are what the folder holds: it is read before anything else."""
        config = self.config
        _check_corpus_name(config.corpus_name)
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
        of_files = {file.relative: self.fields.get(file.relative) for file in self.files}
        usable = {path: fields for path, fields in of_files.items() if isinstance(fields, dict)}
        usable = _in_agreement(usable, self.config.data_dir)
        self.fields |= usable
        self.emotions = tuple(in_order({fields["emotion"] for fields in usable.values()}, EMOTIONS))
        self.genders = tuple(in_order({fields["gender"] for fields in usable.values()} - {None}, GENDERS)) or GENDERS
        return super()._info()

    def parse(self, path: PurePath) -> dict | None:
        """Fields of a file from the table, or from its path. See `CorpusBuilder.parse`."""
        fields = self.fields.get(path.as_posix())
        if isinstance(fields, str):
            raise CorpusError(fields)
        return fields

    def _utterances(self) -> tuple[dict[str, tuple[CorpusFile, dict]], list[str]]:
        """See `CorpusBuilder._utterances`; files that a table lists and that are not there are problems, too."""

        def state(path: str) -> str:
            if os.path.isabs(path):
                return f"outside of {self.config.data_dir}; link it into that folder, or write paths that lie in it"
            return "no audio" if os.path.exists(os.path.join(self.config.data_dir, path)) else "not there"

        present = {file.relative for file in self.files}
        absent = [f"{path}: listed, but {state(path)}" for path in self.fields if path not in present]
        if absent and len(absent) == len(self.fields):
            raise CorpusError(
                f"no file that the metadata of {self.config.data_dir} lists can be used; paths go from the folder "
                f"of the metadata, suffixes are {' '.join(AUDIO_SUFFIXES)}:\n{listed(absent)}"
            )
        utterances, problems = super()._utterances()
        return utterances, problems + absent

    def utterance_name(self, path: PurePath) -> str:
        """The path without its suffix: stems repeat between the folders of a user."""
        return path.with_suffix("").as_posix()

    def _from_pattern(self, relative: str) -> dict[str, str] | None:
        """What --file_pattern says of a file, under the keys of `COLUMNS`; None where it does not match."""
        match = self.pattern.search(_composed(relative)) if self.pattern else None
        if match is None:
            return None
        groups = {kind: _text(value) for kind, value in match.groupdict().items()}
        return {"label" if kind == "emotion" else kind: value for kind, value in groups.items() if value}

    def _from_path(self, relative: str) -> dict | str:
        """What folder and pattern say of a file; see `_fields`."""
        groups = self._from_pattern(relative)
        if self.pattern and groups is None:
            return f"--file_pattern {self.pattern.pattern!r} does not match"
        return _fields({"label": _text(PurePath(relative).parent.name), **(groups or {})}, self.corpus)

    def _from_tables(self) -> dict[str, dict | str]:
        """Path as of `_listed_path` -> what `_fields` makes of its row, of every row of every table."""
        # By what else leads there, too; a path as it is wins.
        self.paths = {_real(file.path): file.relative for file in self.files}
        self.paths |= {_composed(file.relative): file.relative for file in self.files}
        self.paths |= {file.relative: file.relative for file in self.files}
        fields = {}
        groups = {"label" if kind == "emotion" else kind for kind in (self.pattern.groupindex if self.pattern else ())}
        for file in self.metadata_files:
            names, rows = _read_table(file.path)
            columns = find_columns(names, self.config.columns, file.path, known=groups)
            folder = os.path.dirname(file.path)
            for number, row in enumerate(rows, start=1):
                if not any(map(_text, row.values())):
                    continue  # as spreadsheets leave them below a table
                cells = {kind: _text(row.get(column)) for kind, column in columns.items()}
                if cells["audio"] is None:
                    raise CorpusError(f"{file.path}, row {number}: no file in column {columns['audio']}")
                del cells["audio"]  # as it is written: spaces may be part of a name
                relative = self._listed_path(folder, str(row[columns["audio"]]))
                of_row = _fields(cells | (self._from_pattern(relative) or {}), self.corpus)
                if fields.setdefault(relative, of_row) != of_row:
                    raise CorpusError(f"{file.path}, row {number}: {relative} is listed before, and otherwise")
        return fields

    def _listed_path(self, folder: str, name: str) -> str:
        """Path inside data_dir of what a table in `folder` names, or an absolute path where that lies outside."""
        paths = [os.path.join(folder, written) for written in (name, name.strip(), name.strip().replace("\\", "/"))]
        data_dir = self.config.data_dir
        for path in paths:
            relative = _relative(path, data_dir)
            for key in (relative, _composed(relative), _real(path)):
                if key in self.paths:
                    return self.paths[key]
        path = paths[1]
        inside = [_relative(path, data_dir), _relative(_real(path), _real(data_dir))]
        return next((each for each in inside if each.split("/")[0] != ".."), os.path.normpath(path))


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
        CorpusError: the dataset cannot be loaded, columns are missing, a speaker has two genders, or rows cannot be
            used; it lists all of them.
    """
    _check_corpus_name(corpus_name)
    is_file = Path(dataset_name).is_file()
    source = {"path": "parquet", "data_files": str(dataset_name)} if is_file else {"path": str(dataset_name)}
    cache_dir = None if cache_dir is None else str(cache_dir)
    try:
        loaded = datasets.load_dataset(**source, name=dataset_config_name, cache_dir=cache_dir, token=token)
        dataset = datasets.concatenate_datasets([loaded[name] for name in sorted(loaded)])
    except Exception as error:
        # Whatever the readers of a dozen formats and the Hub's client raise: none of it is ours to tell apart.
        raise CorpusError(f"--dataset_name {dataset_name} cannot be loaded: {_why(error, dataset_name)}") from error
    audio_like = [name for name, feature in dataset.features.items() if isinstance(feature, datasets.Audio)]
    if set(dataset.features) == set(row_features(EMOTIONS)):
        dataset = _with_audio(dataset, "audio", dataset_name)
        validate(dataset)
        return _sorted(dataset), []

    if columns is None or "audio" not in columns:
        columns = {**(columns or {}), **({"audio": audio_like[0]} if len(audio_like) == 1 else {})}
    of_kind = find_columns(dataset.column_names, columns, str(dataset_name))
    audio = _with_audio(dataset.select_columns(of_kind["audio"]), of_kind["audio"], dataset_name)
    if of_kind["audio"] != "audio":
        audio = audio.rename_column(of_kind["audio"], "audio")
    cells = {}
    for kind, column in of_kind.items():
        if kind != "audio":
            feature, values = dataset.features[column], dataset[column]
            if isinstance(feature, datasets.ClassLabel):
                values = [None if value is None or value < 0 else feature.names[value] for value in values]
            cells[kind] = [_text(value) for value in values]
    rows, problems = {}, []
    for number, source in enumerate(audio["audio"]):
        source = source or {}
        name = f"{number:06d}" + (f"_{PurePath(source['path']).stem}" if source.get("path") else "")
        try:
            fields = _fields({kind: values[number] for kind, values in cells.items()}, corpus_name)
            if isinstance(fields, str):
                raise CorpusError(fields)
            rows[number] = {"name": name, **fields, "duration_s": read_duration(source)}
        except CorpusError as error:
            problems.append(f"row {number}: {error}")
    if problems and not skip_bad_files or not rows:
        raise CorpusError(f"{len(problems)} rows of {dataset_name} cannot be used:\n{listed(problems)}")
    kept = list(_in_agreement({f"row {number}": row for number, row in rows.items()}, str(dataset_name)).values())
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
    dataset = datasets.concatenate_datasets([audio.select(list(rows)), table], axis=1)
    dataset = dataset.select_columns(list(features))
    validate(dataset)
    return _sorted(dataset), problems


def _why(error: Exception, dataset_name: str | os.PathLike) -> str:
    """Why `load_dataset` failed, with the remedy where it is known."""
    if type(error) is DatasetGenerationError and error.__cause__:
        error = error.__cause__  # the error itself says nothing but that there was one
    reason = f"{type(error).__name__}: {error}"
    if not (isinstance(error, ImportError) and "torchcodec" in reason):
        return reason
    is_folder = Path(dataset_name).is_dir()
    fetch = "" if is_folder else f"fetch it (hf download {dataset_name} --repo-type dataset --local-dir DIR) and "
    return (
        f"{reason} Its audio lies in files, for which `datasets` needs torchcodec; one in Parquet needs none. Without "
        f"torchcodec, {fetch}read it by --corpus own --data_dir {dataset_name if is_folder else 'DIR'}"
    )


def _with_audio(dataset: datasets.Dataset, column: str, dataset_name: str | os.PathLike) -> datasets.Dataset:
    """The dataset with `column` as audio that is not decoded."""
    feature = dataset.features[column]
    if isinstance(feature, datasets.Value) and "string" in feature.dtype:
        raise CorpusError(
            f"{dataset_name}: column {column} holds paths or names, not audio. A folder of audio with a table is read "
            "by --corpus own --data_dir DIR"
        )
    try:
        return dataset.cast_column(column, datasets.Audio(sampling_rate=16000, decode=False))
    except (TypeError, ValueError, pyarrow.ArrowException) as error:
        raise CorpusError(f"{dataset_name}: column {column} holds no audio, but {feature}") from error


def _sorted(dataset: datasets.Dataset) -> datasets.Dataset:
    """Rows in the order of utterance_id."""
    return dataset.select(sorted(range(len(dataset)), key=dataset["utterance_id"][:].__getitem__))


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


def _fields(cells: Mapping[str, str | None], corpus: str) -> dict | str:
    """The fields of `CorpusBuilder.parse` from what the columns or the groups of a pattern say, or what is wrong."""
    missing = [kind for kind in ("label", "speaker") if not cells.get(kind)]
    if missing:
        return f"no {' and no '.join(missing)} is given"
    if "/" in cells["speaker"]:
        return f"its speaker {cells['speaker']!r} holds a '/'"
    try:
        "".join(cell for cell in cells.values() if cell).encode()
    except UnicodeEncodeError:
        return "what is said of it is not valid UTF-8"
    fields = {
        "speaker": cells["speaker"],
        "gender": gender_of(cells.get("gender")),
        "emotion": canonical("emotion", cells["label"]),
        "source_label": cells["label"],
        "session_id": f"{corpus}/{cells['session']}" if cells.get("session") else None,
        "text_id": cells.get("text"),
    }
    return fields | ({"language": cells["language"]} if cells.get("language") else {})


def _in_agreement(rows: Mapping[str, dict], source: str) -> dict[str, dict]:
    """The fields of files or rows with one spelling of every word, and with each speaker's one gender.

    Args:
        rows: what the file or row is called -> its fields, as of `_fields`.
        source: what they are from, for messages.

    Raises:
        CorpusError: speakers have two genders; all of them are listed.
    """
    emotions = one_spelling(fields["emotion"] for fields in rows.values())
    genders = one_spelling(fields["gender"] for fields in rows.values() if fields["gender"])
    known = defaultdict(lambda: defaultdict(list))  # speaker -> gender -> files or rows
    for name, fields in rows.items():
        if fields["gender"] and fields["speaker"] != OTHERS:
            known[fields["speaker"]][genders[fields["gender"]]].append(name)
    problems = [
        f"speaker {speaker!r} is " + " and ".join(f"{gender} in {some(names)}" for gender, names in of_speaker.items())
        for speaker, of_speaker in known.items()
        if len(of_speaker) > 1
    ]
    if problems:
        raise CorpusError(
            f"{source}: these speakers have more than one gender; correct their rows, or give two people two names:\n"
            f"{listed(problems)}"
        )
    return {
        name: fields
        | {
            "emotion": emotions[fields["emotion"]],
            "gender": next(iter(known.get(fields["speaker"], ())), genders.get(fields["gender"])),
        }
        for name, fields in rows.items()
    }


def _check_corpus_name(name: str) -> None:
    """Refuse a name that cannot be a prefix of ids, or is another corpus's."""
    taken = [corpus for corpus in CORPORA if corpus != "own"]
    if not re.fullmatch(r"\w[\w.-]*", name) or name in taken:
        raise CorpusError(
            f"corpus_name {name!r} must be letters, digits, '.', '_' and '-', and none of {', '.join(taken)}"
        )


def _compiled(file_pattern: str | None) -> re.Pattern | None:
    """The regular expression of --file_pattern."""
    if file_pattern is None:
        return None
    try:
        pattern = re.compile(file_pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise CorpusError(f"--file_pattern {file_pattern!r} is no regular expression: {error}") from error
    known = {"speaker", "emotion", *COLUMNS} - {"audio", "label"}
    if not pattern.groupindex or set(pattern.groupindex) - known:
        raise CorpusError(
            f"--file_pattern {file_pattern!r} needs named groups like (?P<speaker>...); known are "
            f"{', '.join(sorted(known))}"
        )
    return pattern


def _read_table(path: str) -> tuple[list[str], list[dict]]:
    """Columns and rows of a metadata file. Every cell of CSV and TSV is text: a speaker 007 stays 007."""
    suffix = os.path.splitext(path)[1].lower()
    try:
        if suffix == ".parquet":
            table = pyarrow.parquet.ParquetFile(path).read()
            return table.column_names, table.to_pylist()
        content = Path(path).read_bytes()
        if suffix == ".jsonl":
            rows = [json.loads(line) for line in io.StringIO(decoded(content), newline="") if line.strip()]
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("a line is not an object, like {...}")
            return list(dict.fromkeys(name for row in rows for name in row)), rows
        (_, names), *lines = read_table(content, "\t" if suffix == ".tsv" else SEPARATORS)
        for number, cells in lines:
            if any(cell.strip() for cell in cells[len(names) :]):
                raise ValueError(
                    f"line {number} has more cells than there are columns; quote those that hold separators"
                )
        return names, [dict(zip(names, cells)) for _, cells in lines]
    except (OSError, ValueError, RecursionError, pyarrow.ArrowException) as error:
        raise CorpusError(f"{path} cannot be read: {error}") from error


def _relative(path: str, folder: str) -> str:
    """The path from a folder, with forward slashes."""
    return os.path.relpath(path, folder).replace(os.sep, "/")


def _real(path: str) -> str:
    """Where the links of a path lead."""
    try:
        return os.path.realpath(path)
    except ValueError:  # text that no path can be
        return path


def _composed(text: str) -> str:
    """Text with each accent in its letter, however it was typed or named."""
    return unicodedata.normalize("NFC", text)


def _text(value: object) -> str | None:
    """A cell as text; None for an empty one."""
    if isinstance(value, float):
        if value != value:
            return None
        value = int(value) if value.is_integer() else value  # whole numbers beside empty cells come as floats
    return None if value is None else _composed(str(value)).strip() or None
