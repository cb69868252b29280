"""The row schema that every corpus shares, the builder base that fills it, and the checks that hold it.

A row is one utterance. `utterance_id` is `<corpus>/<file stem>` and `speaker_id` is `<corpus>/<speaker>`, so rows
of several corpora can be mixed without clashes. `audio` is stored as a path (or as bytes) and never decoded by
`datasets`, whose decoder needs torchcodec and ffmpeg: `read_audio` decodes it with soundfile.
"""

import filecmp
import hashlib
import io
import json
import logging
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

import datasets
import numpy as np
import soundfile
from datasets.exceptions import DatasetGenerationError

logger = logging.getLogger(__name__)

EMOTIONS = (
    "neutral",
    "calm",
    "happiness",
    "sadness",
    "anger",
    "fear",
    "disgust",
    "surprise",
    "boredom",
    "contempt",
)
GENDERS = ("female", "male")
# The speaker of clips by people of whom nobody knows which is which: they may train a model, never test it.
OTHERS = "others"

# What soundfile (libsndfile) reads from a file by itself and speech comes in; header-less formats are not among them.
AUDIO_SUFFIXES = (".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".sph", ".w64", ".wav")
# Outside of these a header is wrong, and what it says would turn a second into hours.
SAMPLING_RATES = range(1_000, 768_001)  # Hz
MAX_DURATION_S = 300  # of an utterance; features of hours would not fit into memory
FRAMES_AT_A_TIME = 2**20  # decoded: a header may promise more than there is
SCHEMA_VERSION = 3  # part of the cache key: raise it when the features or the way rows are made change
MAX_LISTED = 20  # problems spelt out in one error message
MAX_PLACES = 5  # lines or files spelt out for one problem
CUT = f"an utterance lasts at most {MAX_DURATION_S} s: cut the file into utterances"
REPORT_FILE = "report.json"  # beside a prepared table: what was said and left out when it was made


class CorpusError(ValueError):
    """A corpus cannot be used as it lies on disk; the message says what is wrong and what to do."""


class CorpusFile(NamedTuple):
    """One file: absolute path, path inside data_dir with forward slashes, size and time."""

    path: str
    relative: str
    size: int  # bytes; -1 for a link that leads nowhere
    mtime_ns: int


def in_order(names: Iterable[str], first: tuple[str, ...]) -> list[str]:
    """The distinct names: those of `first` in its order, then the others sorted."""
    names = set(names)
    return [name for name in first if name in names] + sorted(names - set(first))


def row_features(emotions: Iterable[str], genders: Iterable[str] = GENDERS) -> datasets.Features:
    """The features of a corpus with these emotions and genders, as written to the cache.

    `audio` is a plain struct here because an `Audio` feature calls torchcodec when rows are encoded, even with
    `decode=False`; `CorpusBuilder` casts it afterwards.
    """
    return datasets.Features(
        {
            "utterance_id": datasets.Value("string"),
            "audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            "corpus": datasets.Value("string"),
            "language": datasets.Value("string"),
            "speaker_id": datasets.Value("string"),
            "session_id": datasets.Value("string"),
            "gender": datasets.ClassLabel(names=list(genders)),
            "emotion": datasets.ClassLabel(names=list(emotions)),
            "source_label": datasets.Value("string"),
            "text_id": datasets.Value("string"),
            "duration_s": datasets.Value("float64"),
        }
    )


def listed(problems: list[str]) -> str:
    """The first `MAX_LISTED` problems, one a line, and a count of the others."""
    lines = [f"  {problem}" for problem in problems[:MAX_LISTED]]
    if len(problems) > MAX_LISTED:
        lines.append(f"  ... and {len(problems) - MAX_LISTED} more")
    return "\n".join(lines)


def some(places: Sequence[object]) -> str:
    """The first `MAX_PLACES` places of one problem, like "4, 7 and 12 more"."""
    more = f" and {len(places) - MAX_PLACES} more" if len(places) > MAX_PLACES else ""
    return ", ".join(map(str, places[:MAX_PLACES])) + more


def _is_utf8(text: str) -> bool:
    """Whether a path, as Python names it, is valid UTF-8 on disk."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(text: str) -> str:
    """The same with question marks for bytes that are not UTF-8."""
    return text.encode(errors="replace").decode()


def find_files(data_dir: str, metadata: str = "(?!)") -> tuple[list[CorpusFile], list[CorpusFile], Counter]:
    """What lies under a folder.

    Links are followed, each directory is entered once (so loops end), and hidden files and folders (`._*`,
    `.DS_Store`) are skipped.

    Args:
        data_dir: the folder.
        metadata: regular expression that paths inside it match as a whole, if they are read for labels or speakers;
            by default none does.

    Returns:
        the files with an audio suffix, the metadata files, both sorted, and how many other files there are per suffix.

    Raises:
        CorpusError: a directory cannot be listed.
    """

    def unlistable(error: OSError):
        raise CorpusError(f"cannot list {error.filename}: {error.strerror}") from error

    is_metadata = re.compile(metadata, re.IGNORECASE).fullmatch
    audio, tables, others, entered = [], [], Counter(), set()
    for folder, subfolders, names in os.walk(data_dir, followlinks=True, onerror=unlistable):
        identity = os.stat(folder)
        if (identity.st_dev, identity.st_ino) in entered:
            subfolders.clear()
            continue
        entered.add((identity.st_dev, identity.st_ino))
        # Sorted in place: os.walk descends in this order, which decides by which of two links a folder is entered.
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in names:
            if name.startswith("."):
                continue
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, data_dir).replace(os.sep, "/")
            suffix = os.path.splitext(name)[1].lower()
            if suffix in AUDIO_SUFFIXES:
                found = audio
            elif is_metadata(relative):
                found = tables
            else:
                others[suffix or "no suffix"] += 1
                continue
            try:
                status = os.stat(path)
                size, mtime_ns = status.st_size, status.st_mtime_ns
            except OSError:
                size, mtime_ns = -1, 0  # a broken link: reported with the unreadable files
            found.append(CorpusFile(path, relative, size, mtime_ns))
    return sorted(audio, key=lambda file: file.relative), sorted(tables, key=lambda file: file.relative), others


def read_duration(audio: Mapping) -> float:
    """Length of a row's `audio` in seconds, from its header; see `read_audio`.

    Raises:
        CorpusError: the header cannot be read, says that there are no samples, says nothing of their number, or has
            a length or a sampling rate that no utterance has.
    """
    source, name = _source(audio)
    try:
        header = soundfile.info(source)
    except (soundfile.SoundFileError, OSError) as error:
        raise CorpusError(f"{name}: not readable as audio ({_reason(error)})") from error
    if header.frames <= 0:
        raise CorpusError(f"{name}: holds no samples")
    if header.frames > 2**62:  # what libsndfile says of a FLAC that was written to a pipe
        raise CorpusError(f"{name}: its header does not say how long it is; write the file anew")
    _check_rate(header.samplerate, name)
    if header.frames > MAX_DURATION_S * header.samplerate:
        raise CorpusError(f"{name}: lasts {header.frames / header.samplerate:.1f} s; {CUT}")
    return header.frames / header.samplerate


def read_audio(audio: Mapping) -> tuple[np.ndarray, int]:
    """Decode a row's `audio`.

    Args:
        audio: `{"bytes", "path"}`; the bytes win where both are given.

    Returns:
        waveform (samples,), float32, channels averaged, at the file's own rate; sampling rate in Hz.

    Raises:
        CorpusError: the audio is missing, unreadable, empty or longer than `MAX_DURATION_S`, holds NaN or infinite
            samples, or has a sampling rate outside of `SAMPLING_RATES`.
    """
    source, name = _source(audio)
    parts, num_samples = [], 0
    try:
        with soundfile.SoundFile(source) as sound:
            sampling_rate = sound.samplerate
            _check_rate(sampling_rate, name)
            while num_samples <= MAX_DURATION_S * sampling_rate:
                part = sound.read(FRAMES_AT_A_TIME, dtype="float32", always_2d=True).mean(axis=1)
                if not len(part):
                    break
                parts.append(part)
                num_samples += len(part)
    except (soundfile.SoundFileError, OSError) as error:
        raise CorpusError(f"{name}: not readable as audio ({_reason(error)})") from error
    if not parts:
        raise CorpusError(f"{name}: holds no samples")
    if num_samples > MAX_DURATION_S * sampling_rate:
        raise CorpusError(f"{name}: lasts more than {MAX_DURATION_S} s; {CUT}")
    waveform = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if not np.isfinite(waveform).all():
        raise CorpusError(f"{name}: holds NaN or infinite samples")
    return waveform, sampling_rate


def _check_rate(sampling_rate: int, name: str) -> None:
    if sampling_rate not in SAMPLING_RATES:
        raise CorpusError(
            f"{name}: its header says {sampling_rate} Hz; expected {SAMPLING_RATES[0]} to {SAMPLING_RATES[-1]}. "
            "Write the file anew at its true rate"
        )


def _reason(error: Exception) -> str:
    """What libsndfile says, without the object that it was said of."""
    return getattr(error, "error_string", str(error))


def _source(audio: Mapping) -> tuple[str | io.BytesIO, str]:
    """What soundfile opens, and what to call it in messages."""
    content, path = audio.get("bytes"), audio.get("path")
    if content is None and path is None:
        raise CorpusError("audio has neither bytes nor a path")
    return path if content is None else io.BytesIO(content), path or "audio bytes"


def undecodable_rows(dataset: datasets.Dataset) -> dict[int, str]:
    """row -> what is wrong with its audio, for every row whose audio `read_audio` refuses."""
    problems = {}
    for row, audio in enumerate(datasets.utils.tqdm(dataset["audio"], desc="reading audio", unit=" clips")):
        try:
            read_audio(audio)
        except CorpusError as error:
            problems[row] = str(error)
    return problems


def validate(dataset: datasets.Dataset) -> None:
    """Hold a dataset against the row schema; builders do this with every result.

    Raises:
        CorpusError: lists every departure: columns and their types, labels out of order (the canonical ones first,
            then the others sorted), empty or repeated utterance ids, ids without their corpus as prefix, a speaker of
            two genders (but for `OTHERS`), an unknown emotion or gender, a duration that is not a positive number.
    """
    if not len(dataset):
        raise CorpusError("the dataset has no rows")
    emotions = getattr(dataset.features.get("emotion"), "names", [])
    genders = getattr(dataset.features.get("gender"), "names", [])
    expected = row_features(emotions, genders) if emotions else {}
    problems = []
    for kind, names, first in (("emotions", emotions, EMOTIONS), ("genders", genders, GENDERS)):
        if list(names) != in_order(names, first):
            problems.append(f"{kind} are not in canonical order: {', '.join(names)}")
        problems += [f"{kind} hold the name {name!r}" for name in names if not name.strip() or name != name.strip()]
    if set(dataset.features) != set(expected):
        problems.append(f"columns {sorted(dataset.features)} instead of {sorted(row_features(EMOTIONS))}")
    else:
        problems += [
            f"column {name} is {dataset.features[name]} instead of {feature}"
            for name, feature in expected.items()
            if name != "audio" and dataset.features[name] != feature
        ]
        if not isinstance(dataset.features["audio"], datasets.Audio) or dataset.features["audio"].decode:
            problems.append("column audio is not Audio(decode=False)")
    if problems:
        raise CorpusError(f"the dataset does not follow the row schema:\n{listed(problems)}")

    columns = dataset.select_columns([name for name in expected if name != "audio"]).to_dict()
    genders_of = defaultdict(set)
    for row in zip(*(columns[name] for name in columns)):
        row = dict(zip(columns, row))
        utterance_id, speaker_id, corpus = row["utterance_id"], row["speaker_id"], row["corpus"]
        if not row["language"] or not row["source_label"]:
            problems.append(f"{utterance_id}: language or source_label is empty")
        for identifier in (utterance_id, speaker_id):
            if not corpus or not identifier or not identifier.startswith(f"{corpus}/") or identifier.endswith("/"):
                problems.append(f"{utterance_id}: {identifier!r} is not '<corpus>/<name>' with corpus {corpus!r}")
        if row["emotion"] is None or not 0 <= row["emotion"] < len(emotions):
            problems.append(f"{utterance_id}: unknown emotion {row['emotion']}")
        if row["gender"] is not None and not 0 <= row["gender"] < len(genders):
            problems.append(f"{utterance_id}: unknown gender {row['gender']} (None stands for not known)")
        if row["duration_s"] is None or not 0 < row["duration_s"] < float("inf"):
            problems.append(f"{utterance_id}: duration_s is {row['duration_s']}")
        if speaker_id != f"{corpus}/{OTHERS}":
            genders_of[speaker_id].add(row["gender"])
    repeats = [name for name, count in Counter(columns["utterance_id"]).items() if count > 1]
    problems += [f"{name}: utterance_id occurs more than once" for name in repeats]
    problems += [f"{name}: more than one gender" for name, known in genders_of.items() if len(known) > 1]
    if problems:
        raise CorpusError(f"the dataset does not follow the row schema:\n{listed(problems)}")


class CorpusBuilder(datasets.GeneratorBasedBuilder):
    """Base of the corpora: a `datasets` builder that is imported and instantiated, one subclass and file a corpus.

    `builder.download_and_prepare(); builder.as_dataset(split="train")` gives the validated dataset with `audio` as
    `Audio(sampling_rate=16000, decode=False)`, rows sorted by utterance_id. A prepared corpus is reused only while
    the audio and metadata files under data_dir keep their names, sizes and modification times.

    A subclass over files declares the attributes below and `parse`, and `read_metadata` where labels or speakers do
    not lie in the names. One that makes its own audio sets `needs_data_dir = False` and overrides `rows`.

    Args:
        data_dir: folder that holds the corpus, its root or a parent of it.
        cache_dir: where `datasets` keeps the prepared table; its usual cache by default.
        skip_bad_files: leave files that cannot be used out and list them in `left_out_files`, instead of an error.
        config_name: one of BUILDER_CONFIGS, for a corpus that has several sets of labels.

    Raises:
        CorpusError: data_dir is missing, is not a directory, or was given to a corpus that has none; there is no
            such configuration.
    """

    VERSION = "1.0.0"  # of the parser: raise it when the same files would give other rows
    corpus: str
    language: str  # ISO 639-1
    emotions: tuple[str, ...]  # the corpus's own label set: canonical ones in the order of EMOTIONS, others sorted
    genders: tuple[str, ...] = GENDERS
    license: str
    license_id: str = "other"  # as the Hub names it
    redistributable = True  # whether the licence lets others pass the recordings on
    citation: str
    homepage: str
    how_to_obtain: str
    name_pattern: str  # what a file name must look like, for error messages
    metadata_pattern = "(?!)"  # regular expression of the metadata files; see `find_files`
    left_out: str = ""  # what `parse` returns None for, for the log
    needs_data_dir = True
    # What the complete corpus holds; empty where nobody has published it.
    expected_counts: Mapping[str, int] = {}  # emotion -> utterances
    expected_speakers: tuple[str, ...] = ()

    def __init__(
        self,
        data_dir: str | os.PathLike | None = None,
        cache_dir: str | os.PathLike | None = None,
        *,
        skip_bad_files: bool = False,
        config_name: str | None = None,
        **kwargs,
    ):
        self.skip_bad_files = skip_bad_files
        self.notes: list[str] = []  # what to warn of whenever the table is loaded, not only when it is made
        self.files, self.metadata_files, self.other_files = [], [], Counter()
        known = [config.name for config in self.BUILDER_CONFIGS]
        if config_name is not None and config_name not in known:
            names = f"there are {', '.join(known)}" if known else "it has one only: leave the name out"
            raise CorpusError(f"{self.corpus} has no configuration {config_name!r}; {names}")
        if self.needs_data_dir:
            if data_dir is None:
                raise CorpusError(f"{self.corpus} needs a data_dir. {self.how_to_obtain}")
            # Absolute: rows keep paths, and the same relative name means another folder in another directory.
            data_dir = os.path.abspath(os.path.expanduser(data_dir))
            if not os.path.isdir(data_dir):
                raise CorpusError(f"data_dir {data_dir} is not a directory. {self.how_to_obtain}")
            self.files, self.metadata_files, self.other_files = find_files(data_dir, self.metadata_pattern)
        elif data_dir is not None:
            raise CorpusError(f"{self.corpus} brings its own audio and takes no data_dir, got {data_dir}")
        # Left to itself, datasets swaps open, os, pathlib and numpy inside the modules of a builder for versions that
        # stream from URLs and lack parts of the real ones. The corpora are local; this marks the modules as done.
        for cls in type(self).__mro__:
            if issubclass(cls, CorpusBuilder):
                sys.modules[cls.__module__]._patched_for_streaming = True
        super().__init__(
            data_dir=data_dir,
            cache_dir=cache_dir,
            dataset_name=self.corpus,
            config_name=config_name,
            hash=self._listing_hash(),
            **kwargs,
        )

    def read_metadata(self) -> None:
        """Read `metadata_files`, before the first call of `parse`; nothing by default. Warnings go to `notes`.

        Raises:
            CorpusError: they are missing or cannot be read.
        """

    def parse(self, path: PurePath) -> dict | None:
        """Fields of one audio file, from its path and the metadata.

        Args:
            path: path of the file inside data_dir.

        Returns:
            `speaker` (without the corpus), `gender`, `emotion`, `source_label` and, where the corpus has them,
            `text_id`, `session_id` and `language`; None for a file that is recognised but does not belong to the
            corpus.

        Raises:
            CorpusError: the name is not one of this corpus; the message says what is wrong with it.
        """
        raise NotImplementedError

    def utterance_name(self, path: PurePath) -> str:
        """What follows the corpus in the utterance_id of the file at `path` inside data_dir."""
        return path.stem

    def row(self, name: str, fields: Mapping, audio: Mapping, duration_s: float) -> dict:
        """One row of the schema from an utterance's name and the fields of `parse`."""
        return {
            "utterance_id": f"{self.corpus}/{name}",
            "audio": audio,
            "corpus": self.corpus,
            "language": fields.get("language", self.language),
            "speaker_id": f"{self.corpus}/{fields['speaker']}",
            "session_id": fields.get("session_id"),
            "gender": fields["gender"],
            "emotion": fields["emotion"],
            "source_label": fields["source_label"],
            "text_id": fields.get("text_id"),
            "duration_s": duration_s,
        }

    def rows(self) -> Iterator[dict]:
        """Rows of the schema, sorted by utterance_id.

        Raises:
            CorpusError: no file of the corpus is there; or, unless bad files are skipped: names that do not parse,
                different files for one utterance, files without a readable header. It lists all such files.
        """
        utterances, problems = self._utterances()
        for name, (file, fields) in sorted(utterances.items()):
            try:
                audio = {"bytes": None, "path": file.path}
                if not _is_utf8(file.path):
                    # Arrow holds UTF-8 only, and so no path that leads to this file: the row takes its content.
                    audio = {"bytes": Path(file.path).read_bytes(), "path": _printable(file.path)}
                duration_s = read_duration(audio)
            except (CorpusError, OSError) as error:
                problems.append(_printable(str(error)))
            else:
                yield self.row(name, fields, audio, duration_s)
        if problems and not self.skip_bad_files:
            raise CorpusError(
                f"{len(problems)} audio files of {self.corpus} in {self.config.data_dir} cannot be used (names are "
                f"expected to be {self.name_pattern}):\n{listed(problems)}\n"
                f"Fetch them again, move them elsewhere, or point data_dir at {self.corpus} alone; --skip_bad_files "
                "goes on without them."
            )
        self._problems = problems

    def _utterances(self) -> tuple[dict[str, tuple[CorpusFile, dict]], list[str]]:
        """name -> (file, fields) of every utterance of the corpus, copies removed; and what is wrong with others."""
        self.read_metadata()
        found, problems, skipped = defaultdict(list), [], []
        for file in self.files:
            path = PurePath(file.relative)
            try:
                fields = self.parse(path)
                name = self.utterance_name(path)
                if fields is not None and not _is_utf8(name):
                    raise CorpusError("the name is not valid UTF-8; rename the file")
            except CorpusError as error:
                problems.append(f"{_printable(file.relative)}: {error}")
                continue
            if fields is None:
                skipped.append(file.relative)
            else:
                found[name].append((file, fields))
        if skipped:
            example = _printable(skipped[0])
            self.notes.append(f"{self.corpus}: {len(skipped)} files left out ({self.left_out}), e.g. {example}")
        others = ", ".join(f"{count} {suffix}" for suffix, count in sorted(self.other_files.items()))
        if not found:
            raise CorpusError(
                f"no audio of {self.corpus} under {self.config.data_dir}: looked for {self.name_pattern}, suffixes "
                f"{' '.join(AUDIO_SUFFIXES)}; found {len(skipped)} files that are recognised but do not belong, "
                f"{len(problems)} with other names and these others: {others or 'none'}. {self.how_to_obtain}"
                + (f"\n{listed(problems)}" if problems else "")
            )
        if others:
            logger.info("%s: files that are not audio were not looked at: %s", self.corpus, others)
        return self._without_copies(found, problems), problems

    def _without_copies(self, found: Mapping[str, list], problems: list[str]) -> dict[str, tuple[CorpusFile, dict]]:
        """The first file of every utterance whose files are equal byte by byte; others are added to `problems`."""
        kept, copies = {}, []
        for name, ((first, fields), *others) in found.items():
            differing = []
            for other, _ in others:
                try:
                    same = filecmp.cmp(first.path, other.path, shallow=False)
                except OSError:
                    same = False
                (copies if same else differing).append(f"{first.relative} and {other.relative}")
            if differing:
                problems += [f"{_printable(pair)}: different files of the same utterance" for pair in differing]
            else:
                kept[name] = (first, fields)
        if copies:
            example = _printable(copies[0])
            self.notes.append(f"{self.corpus}: {len(copies)} identical copies left out, e.g. {example}")
        return kept

    @property
    def left_out_files(self) -> list[str]:
        """The files that a prepared corpus goes without, each with the reason; empty unless bad files are skipped."""
        return self._report()["left_out_files"]

    def _report(self) -> dict[str, list[str]]:
        return json.loads(Path(self.cache_dir, REPORT_FILE).read_text(encoding="utf-8"))

    def download_and_prepare(self, *args, **kwargs):
        """As in `datasets`, but a `CorpusError` comes out as itself instead of as the cause of another error."""
        try:
            super().download_and_prepare(*args, **kwargs)
        except DatasetGenerationError as error:
            if isinstance(error.__cause__, CorpusError):
                raise error.__cause__ from None
            raise

    def _download_and_prepare(self, *args, **kwargs):
        self._problems, self.notes = [], []
        super()._download_and_prepare(*args, **kwargs)
        # Beside the table, into the folder that appears under its name when it is complete.
        report = {"left_out_files": self._problems, "notes": self.notes}
        Path(self._output_dir, REPORT_FILE).write_text(json.dumps(report), encoding="utf-8")

    def _listing_hash(self) -> str:
        """What a prepared table depends on: the code's versions and the listing of the files."""
        digest = hashlib.sha256(f"{SCHEMA_VERSION}\n{self.VERSION}\n{self.skip_bad_files}\n".encode())
        for file in [*self.files, *self.metadata_files]:
            digest.update(os.fsencode(f"{file.relative}\0{file.size}\0{file.mtime_ns}\n"))
        return digest.hexdigest()[:16]

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            features=row_features(self.emotions, self.genders),
            citation=self.citation,
            homepage=self.homepage,
            license=self.license,
        )

    def _split_generators(self, dl_manager) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(name="train")]

    def _generate_examples(self) -> Iterator[tuple[str, dict]]:
        for row in self.rows():
            yield row["utterance_id"], row

    def _as_dataset(self, split="train", in_memory: bool = False) -> datasets.Dataset:
        dataset = super()._as_dataset(split=split, in_memory=in_memory)
        dataset = dataset.cast_column("audio", datasets.Audio(sampling_rate=16000, decode=False))
        validate(dataset)
        if str(split) == "train":
            for note in self._report()["notes"]:
                logger.warning(note)
            self._check_counts(dataset)
        return dataset

    def _check_counts(self, dataset: datasets.Dataset) -> None:
        """Warn of what a partial copy misses; refuse a copy that holds more than the corpus does."""
        names = dataset.features["emotion"].names
        counts = Counter(names[emotion] for emotion in dataset["emotion"][:])
        surplus = [
            f"{emotion} {counts[emotion]} instead of {number}"
            for emotion, number in self.expected_counts.items()
            if counts[emotion] > number
        ]
        if surplus:
            raise CorpusError(
                f"{self.config.data_dir} holds more than {self.corpus} has ({', '.join(surplus)}): "
                f"is it another release? {self.how_to_obtain}"
            )
        missing = [
            f"{number - counts[emotion]} of {number} {emotion}"
            for emotion, number in self.expected_counts.items()
            if counts[emotion] < number
        ]
        present = set(dataset["speaker_id"][:])
        absent = [name for name in self.expected_speakers if f"{self.corpus}/{name}" not in present]
        if absent:
            missing.append(f"all of speaker {', '.join(absent)}")
        if missing:
            here = sum(counts[emotion] for emotion in self.expected_counts) or len(dataset)
            total = sum(self.expected_counts.values())
            logger.warning(
                "%s: %s utterances are here; missing are %s. Figures on a part are not figures on the corpus.",
                self.corpus,
                f"{here} of {total}" if total else here,
                "; ".join(missing),
            )
