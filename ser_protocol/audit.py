"""Leaks between the parts of a split, whoever made it: shared speakers, utterances, segments, sessions and audio.

    python -m ser_protocol.audit dataset_scripts/splits/ravdess_speakers_12.json --data_dir DIR
    python -m ser_protocol.audit OUT/predictions.csv
    python -m ser_protocol.audit their_split.csv --speaker_pattern '^(\\d{4})_' --data_dir DIR

ends with 1 if it finds a leak, with 2 if the input cannot be audited, and else with 0. It reads

- a file of `dataset_scripts/splits/`; with `--data_dir` also the corpus's utterances, sessions, sentences and audio;
- a table (.csv, .tsv, .jsonl, .json list, .parquet) with a row per utterance and a part, `train`, `validation` or
  `test`. Without a part, the fold of a row is the one that tests it, and all other rows are taken to train that fold:
  so are predictions.csv and most cross-validation lists. Where a fold_NN/metrics.json lies beside, its lists of
  speakers are taken instead. With `--data_dir` the audio is looked for under the utterances' paths or file names.

Audio that is identical, or nearly so, is found by `fingerprint.py`.
"""

import argparse
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import datasets
import numpy as np
import pandas as pd

from dataset_scripts import load_corpus
from dataset_scripts.folds import PARTS, Fold
from dataset_scripts.schema import AUDIO_SUFFIXES, OTHERS, CorpusError, listed

from .fingerprint import find_copies

LEAK, NOTE, NOT_CHECKED, CLEAN = "leak", "note", "not checked", "clean"
# Without these nothing can be said of unseen speakers.
ESSENTIAL = ("parts", "speakers")

PAIRS = (("test", "train"), ("test", "validation"), ("validation", "train"))
# Column of the table, what two parts must not share, how bad it is, and between which parts.
CHECKS = (
    ("speaker_id", "speakers", LEAK, PAIRS),
    ("utterance_id", "utterances", LEAK, PAIRS),
    ("source_id", "recordings cut into segments", LEAK, PAIRS),
    ("session_id", "sessions with dialogue partners", LEAK, PAIRS[:2]),  # the test part's people must be strangers
    ("text_id", "sentences", NOTE, PAIRS[:2]),  # most acted corpora have a few sentences, spoken by everybody
)
IN_WORDS = {"train": "training", "validation": "validation", "test": "test"}
PART_OF_NAME = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid", "dev"), "validation"),
    **dict.fromkeys(("test", "eval", "testing"), "test"),
}
COLUMN_NAMES = {
    "utterance": ("utterance", "utterance_id", "file", "file_name", "filename", "path", "name", "wav", "key"),
    "part": ("part", "split", "subset", "set", "partition"),
    "speaker": ("speaker", "speaker_id", "spk", "actor"),
    "fold": ("fold",),
    "session": ("session", "session_id", "dialogue"),
    "text": ("text", "text_id", "sentence", "transcript"),
    "source": ("source", "source_id", "source_utterance"),
    "start": ("start",),
    "end": ("end",),
}

# Names of segments, by what cannot be anything else: a marker word with a number, a range of seconds, or anything
# after the turn of an IEMOCAP utterance. A bare trailing number is no sign: in most corpora it counts turns or takes.
SEGMENT_NAMES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?P<source>.*\d.*)[-_.](?:seg|segment|chunk|part|slice|window)[-_.]?\d+",
        r"(?P<source>.+)[-_.@]\d+\.\d+s?[-_]\d+\.\d+s?",
        r"(?P<source>(?:.*/)?Ses0[1-5][FM]_(?:impro|script)\d\d[a-z]?(?:_\d[a-z]?)?_[FM](?:\d{3}|XX\d))[-_.].+",
    )
)


class AuditError(ValueError):
    """The input cannot be audited; the message says why and what to do."""


# ---------------------------------------------------------------------------------------------------------------------
# The report


@dataclass(frozen=True)
class Finding:
    """What one check found.

    `counts` gives fold -> number of cases; `text` says it in words, `examples` names cases, one a line.
    """

    check: str
    severity: str  # "leak", "note", "not checked" or "clean"
    text: str
    counts: Mapping[object, int] = field(default_factory=dict)
    examples: Sequence[str] = ()


@dataclass(frozen=True)
class AuditReport:
    """Findings of an audit of the folds `folds`, one or more for each check."""

    folds: Sequence[object]
    findings: Sequence[Finding]

    @property
    def leaks(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == LEAK]

    @property
    def clean(self) -> bool:
        """Whether all test speakers were compared with all training speakers, and nothing leaks."""
        missed = {finding.check for finding in self.findings if finding.severity == NOT_CHECKED}
        return not self.leaks and missed.isdisjoint(ESSENTIAL)

    def verdict(self) -> str:
        """One sentence that begins with LEAK, CLEAN or UNDECIDED."""
        if self.leaks:
            said = ["LEAK: " + "; ".join(self._texts(LEAK))]
        elif not self.clean:
            said = ["UNDECIDED: no leak among what could be checked"]
        else:
            folds = f"{len(self.folds)} folds" if len(self.folds) > 1 else "the split"
            said = [f"CLEAN: no test speaker is in the training or validation part in {folds}"]
            said += [each.text for each in self.findings if (each.check, each.severity) == ("audio", CLEAN)]
        not_checked = self._texts(NOT_CHECKED)
        return "; ".join(said + ["not checked: " + ", ".join(not_checked)] * bool(not_checked)) + "."

    def markdown(self) -> str:
        """The verdict, a table of all checks, and the cases of each by name."""
        rows = [("check", "result", "folds", "cases", "in words")]
        for finding in self.findings:
            numbers = (f"{len(finding.counts)} of {len(self.folds)}", sum(finding.counts.values()))
            rows.append((finding.check, finding.severity, *(numbers if finding.counts else ("", "")), finding.text))
        cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(*cells)]
        lines = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths))} |" for row in cells]
        lines.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")
        cases = [f"{each.check}:\n{listed(list(each.examples))}" for each in self.findings if each.examples]
        return "\n\n".join([self.verdict(), "\n".join(lines), *cases])

    def summary(self) -> dict:
        """For results.json and cards: `verdict`, `clean`, `num_folds`; `leaks`, `notes`, `not_checked`, each a list of
        sentences.
        """
        lists = {"leaks": LEAK, "notes": NOTE, "not_checked": NOT_CHECKED}
        texts = {name: self._texts(severity) for name, severity in lists.items()}
        return {"verdict": self.verdict(), "clean": self.clean, "num_folds": len(self.folds), **texts}

    def _texts(self, severity):
        return [finding.text for finding in self.findings if finding.severity == severity]


# ---------------------------------------------------------------------------------------------------------------------
# The checks


def folds_table(dataset: datasets.Dataset, folds: Sequence[Fold]) -> pd.DataFrame:
    """The table for `audit` of our own folds; rows of the dataset that are in no part of a fold are absent from it.

    Args:
        dataset: rows of `dataset_scripts.schema`.
        folds: from `dataset_scripts.folds.get_folds`.
    """
    rows = _rows(dataset)
    parts = [rows.iloc[getattr(fold, part)].assign(fold=fold.index, part=part) for fold in folds for part in PARTS]
    return pd.concat(parts, ignore_index=True)


def _rows(dataset):
    """utterance_id, speaker_id, session_id and text_id of a dataset; the last two with their corpus in front."""
    columns = dataset.select_columns(["utterance_id", "speaker_id", "session_id", "text_id"]).to_dict()
    for name in ("session_id", "text_id"):
        columns[name] = [value and f"{corpus}/{value}" for corpus, value in zip(dataset["corpus"], columns[name])]
    return pd.DataFrame(columns)


def audit(table: pd.DataFrame, audio: Mapping[str, Mapping] | None = None) -> AuditReport:
    """Look for leaks between the parts of each fold.

    Args:
        table: one row for each utterance of each part of each fold. Columns `utterance_id`, `fold`, `part` ("train",
            "validation" or "test") and `speaker_id`; optionally `session_id`, `text_id` and `source_id` (the recording
            that an utterance was cut from). A row without an utterance_id states a speaker of the part. Missing values
            are None or NaN.
        audio: utterance_id -> `{"bytes", "path"}`, see `schema.read_audio`. Without it no audio is compared.

    Raises:
        AuditError: the table is empty, lacks a column or a fold, or has an unknown part.
    """
    _check_table(table)
    folds = sorted(table["fold"].unique().tolist(), key=lambda fold: (isinstance(fold, str), fold))
    findings = [*_absent_parts(table, folds), *_unnamed_speakers(table)]
    table = table.assign(source_id=_sources(table))
    sets = {column: _sets(table, column) for column, *_ in CHECKS}
    for column, what, severity, pairs in CHECKS:
        if sets[column]:
            findings += [finding for pair in pairs for finding in _shared(sets[column], folds, *pair, what, severity)]
        elif column != "source_id":  # whole utterances are no gap
            findings.append(Finding(what, NOT_CHECKED, f"{what}: none named"))
    findings += _same_parts(sets["utterance_id"] or sets["speaker_id"], folds)
    findings += _unknown_people(sets["speaker_id"], folds)
    findings += _repeated(table, folds)
    if audio is None:
        findings.append(Finding("audio", NOT_CHECKED, "audio: none given"))
    else:
        findings += _audio(table, folds, audio)
    return AuditReport(folds, findings)


def _check_table(table):
    missing = [name for name in ("utterance_id", "fold", "part", "speaker_id") if name not in table]
    if missing:
        raise AuditError(f"the table lacks {_join(missing)}; its columns are {_join(table.columns)}")
    if table.empty:
        raise AuditError("the table has no rows")
    unknown = sorted(set(table["part"].dropna()) - set(PARTS)) + ["(empty)"] * bool(table["part"].isna().any())
    if unknown:
        raise AuditError(f"unknown part {_join(map(repr, unknown))}; parts are {_join(PARTS)}")
    if table["fold"].isna().any():
        raise AuditError(f"the fold is empty in {table['fold'].isna().sum()} of {len(table)} rows; fill it in")


def _sets(table, column):
    """(fold, part) -> set of the values of a column."""
    if column not in table:
        return {}
    rows = table.loc[table[column].notna(), ["fold", "part", column]].drop_duplicates()
    return {key: set(values) for key, values in rows.groupby(["fold", "part"])[column]}


def _absent_parts(table, folds):
    """Parts that are not there and so cannot be compared."""
    present = set(zip(table["fold"], table["part"]))
    for part in PARTS:
        lacking = {fold: 1 for fold in folds if (fold, part) not in present}
        if lacking:
            check = "validation" if part == "validation" else "parts"
            yield Finding(check, NOT_CHECKED, f"{part} part: none{_at(lacking, folds, 'in')}", lacking)


def _unnamed_speakers(table):
    """Utterances of nobody knows whom, but for parts that state their speakers beside."""
    stated = set(zip(*(table.loc[table["utterance_id"].isna(), name] for name in ("fold", "part"))))
    unnamed = table[table["speaker_id"].isna() & table["utterance_id"].notna()]
    unnamed = unnamed[[key not in stated for key in zip(unnamed["fold"], unnamed["part"])]]
    if len(unnamed):
        ids = unnamed["utterance_id"].drop_duplicates()
        counts = {fold: len(rows) for fold, rows in unnamed.groupby("fold")}
        yield Finding("speakers", NOT_CHECKED, f"speakers of {len(ids)} utterances: not named", counts, list(ids))


def _shared(sets, folds, first, second, what, severity):
    """The finding on what two parts share, none if no fold has both."""
    both = [fold for fold in folds if (fold, first) in sets and (fold, second) in sets]
    if not both:
        return []
    shared = {fold: sorted(sets[fold, first] & sets[fold, second]) for fold in both}
    shared = {fold: names for fold, names in shared.items() if names}
    check = f"{first} {what} in {second}"
    if not shared:
        return [Finding(check, CLEAN, f"no {IN_WORDS[first]} {what} in the {IN_WORDS[second]} part")]
    worst = max(shared, key=lambda fold: len(shared[fold]))
    text = (
        f"{len(shared[worst])} of {len(sets[worst, first])} {IN_WORDS[first]} {what} are in the "
        f"{IN_WORDS[second]} part" + _at([worst, *(fold for fold in shared if fold != worst)], folds)
    )
    finding = _finding(check, severity, text, shared, folds)
    return [finding if severity == LEAK else replace(finding, examples=())]  # which sentences, nobody needs to know


def _finding(check, severity, text, cases, folds):
    """`cases`: fold -> names."""
    examples = [f"{f'fold {fold}: ' * (len(folds) > 1)}{_join(names, 8)}" for fold, names in cases.items()]
    return Finding(check, severity, text, {fold: len(names) for fold, names in cases.items()}, examples)


def _unknown_people(speakers, folds):
    tests = {fold: speakers.get((fold, "test"), ()) for fold in folds}
    cases = {fold: [name for name in names if str(name).split("/")[-1] == OTHERS] for fold, names in tests.items()}
    cases = {fold: names for fold, names in cases.items() if names}
    if cases:
        text = f'unknown people ("{OTHERS}") are tested{_at(cases, folds, "in")}: nobody can say that they are unseen'
        yield _finding("unknown people tested", LEAK, text, cases, folds)


def _same_parts(sets, folds):
    """Validation parts that are the test part: the model is selected on what it is tested on."""
    same = {
        fold: 1 for fold in folds if (fold, "test") in sets and sets[fold, "test"] == sets.get((fold, "validation"))
    }
    if same:
        text = f"validation = test: the two parts are the same{_at(same, folds, 'in')}"
        yield Finding("validation = test", LEAK, text, same)


def _repeated(table, folds):
    """Utterances that a part holds twice, or that several folds test: pooled figures would count them twice."""
    rows = table[table["utterance_id"].notna()]
    again = rows.duplicated(["fold", "part", "utterance_id"])
    again |= rows.duplicated(["part", "utterance_id"]) & (rows["part"] == "test")
    if again.any():
        cases = {fold: sorted(set(group)) for fold, group in rows[again].groupby("fold")["utterance_id"]}
        total = len(set().union(*cases.values()))
        text = f"{total} utterances are twice in a part or tested twice: pooled figures would count them twice"
        yield _finding("repeated utterances", NOTE, text, cases, folds)


def _sources(table):
    """The recording of each row that is a segment: by `source_id` or, without it, by a name that says so."""
    if "source_id" in table:
        return table["source_id"]
    names = table["utterance_id"].dropna().unique()
    source_of = {name: source for name in names if (source := _source(name))}
    # The whole recording is as good as another segment of it.
    recordings = set(source_of.values())
    source_of |= {name: plain for name in names if recordings and (plain := _plain(name)) in recordings}
    return table["utterance_id"].map(source_of).astype(object)


def _plain(utterance):
    """An utterance's name without audio suffix and without the folders that only say which part it is in."""
    *folders, name = str(utterance).replace("\\", "/").split("/")
    for suffix in AUDIO_SUFFIXES:
        name = name[: -len(suffix)] if name.lower().endswith(suffix) else name
    return "/".join([*(folder for folder in folders if folder.lower() not in PART_OF_NAME), name])


def _source(utterance):
    """Name of the recording that an utterance is a segment of, by its own name, or None."""
    name = _plain(utterance)
    return next((found["source"] for pattern in SEGMENT_NAMES if (found := pattern.fullmatch(name))), None)


def _at(concerned, folds, word="of"):
    """The folds concerned, like " of fold 0 (and 3 more folds)"; nothing where there is only one fold."""
    first, *more = concerned
    return f" {word} fold {first}" + (f" (and {len(more)} more folds)" if more else "") if len(folds) > 1 else ""


def _join(names: Iterable, shown: int | None = None) -> str:
    names = list(map(str, names))
    more = len(names) - len(names[:shown])
    return ", ".join(names[:shown]) + (f" and {more} more" if more else "")


# ---------------------------------------------------------------------------------------------------------------------
# Audio


def _audio(table, folds, audio):
    wanted = table["utterance_id"].dropna().unique()
    copies, silent, unreadable = find_copies({name: audio[name] for name in wanted if name in audio})
    problems = [f"{name}: no such audio file" for name in wanted if name not in audio]
    problems += [f"{name}: {reason}" for name, reason in unreadable.items()]
    if problems:
        text = f"audio of {len(problems)} of {len(wanted)} utterances: missing or unreadable"
        yield Finding("audio files", NOT_CHECKED, text, examples=problems)
    if silent:
        text = f"{len(silent)} clips are silent or under 0.13 s and were compared with nothing"
        yield Finding("silent clips", NOTE, text, examples=silent)
    parts = defaultdict(set)  # (utterance, fold) -> parts
    copied = table["utterance_id"].isin({name for pair in copies for name in pair})
    for name, fold, part in table.loc[copied, ["utterance_id", "fold", "part"]].values:
        parts[name, fold].add(part)
    cases, harmless = defaultdict(list), []
    for (first, second), how in copies.items():
        example = f"{first} = {second} ({how})"
        apart = [fold for fold in folds if len(parts[first, fold] | parts[second, fold]) > 1]
        for fold in apart:
            cases[fold].append(example)
        harmless += [] if apart else [example]
    if cases:
        examples = sorted({example for fold in cases for example in cases[fold]})
        counts = {fold: len(cases[fold]) for fold in sorted(cases)}
        text = f"pairs of clips with the same sound in two parts{_at(counts, folds)}: {len(examples)}"
        yield Finding("same audio in two parts", LEAK, text, counts, examples)
    elif compared := len(wanted) - len(problems) - len(silent):
        yield Finding("audio", CLEAN, f"none of {compared} clips sounds like one of another part")
    if harmless:
        text = f"pairs of clips with the same sound in the same part: {len(harmless)}"
        yield Finding("same audio in one part", NOTE, text, examples=harmless)


# ---------------------------------------------------------------------------------------------------------------------
# Files


def audit_file(
    path: str | Path,
    data_dir: str | Path | None = None,
    speaker_pattern: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> AuditReport:
    """Audit a file of one of the kinds at the top of this module.

    Args:
        path: the file.
        data_dir: folder of the audio.
        speaker_pattern: regular expression whose group `speaker`, or first group, is the speaker in an utterance.
        columns: column of a table for some of `COLUMN_NAMES`, where another than the usual names is meant.

    Raises:
        AuditError: the file cannot be used; the message says why.
        CorpusError: the corpus of a split cannot be loaded from data_dir.
    """
    path = Path(path)
    if data_dir is not None and not Path(data_dir).is_dir():
        raise AuditError(f"data_dir {data_dir} is not a directory")
    content = _read(path)
    if isinstance(content, dict):
        return audit(*_split_table(path, content, data_dir))
    table, assumed = _own_table(path, content, speaker_pattern, columns or {})
    audio = None if data_dir is None else _find_audio(table["utterance_id"].dropna().unique(), data_dir)
    report = audit(table, audio)
    if assumed:
        text = f"nobody says who trains: all other rows are taken to do so{_at(assumed, report.folds, 'in')}"
        report = replace(report, findings=[*report.findings, Finding("training", NOTE, text)])
    return report


def _read(path):
    """A dict for a split of ours, a DataFrame for a table."""
    readers = {
        ".csv": lambda: pd.read_csv(path, dtype=str, keep_default_na=False),
        ".tsv": lambda: pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False),
        ".jsonl": lambda: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()],
        ".json": lambda: json.loads(path.read_text(encoding="utf-8")),
        ".parquet": lambda: pd.read_parquet(path),
    }
    if path.suffix.lower() not in readers:
        raise AuditError(f"{path}: not one of {_join(readers)}")
    try:
        content = readers[path.suffix.lower()]()
    except (OSError, ValueError, NotImplementedError, RecursionError) as error:
        raise AuditError(f"{path}: not readable ({error})") from error
    if isinstance(content, (dict, pd.DataFrame)):
        return content
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise AuditError(f"{path}: its rows are not objects, like {{...}}")
    return pd.DataFrame(content)


def _split_table(path, split, data_dir):
    """Table and audio of a file of `splits/`: a row for each speaker and, with data_dir, for each utterance."""
    try:
        parts = [(index, part, fold[part]) for index, fold in enumerate(split["folds"]) for part in PARTS]
        speakers = [(None, index, part, name) for index, part, stated in parts for name in stated["speakers"]]
        ids = [(name, index, part, None) for index, part, stated in parts for name in stated.get("utterance_ids", [])]
        corpus = split["corpus"]
        lists = [stated.get(kind, []) for *_, stated in parts for kind in ("speakers", "utterance_ids")]
    except (KeyError, TypeError, AttributeError) as error:
        raise AuditError(f"{path}: not like the files of dataset_scripts/splits (no {error})") from error
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        raise AuditError(f"{path}: not like the files of dataset_scripts/splits (a speaker or utterance is not text)")
    table = pd.DataFrame([*speakers, *ids], columns=["utterance_id", "fold", "part", "speaker_id"], dtype=object)
    if table.empty:
        raise AuditError(f"{path}: no fold names a speaker")
    if data_dir is None:
        return table, None
    dataset = load_corpus(corpus, data_dir)
    rows = _rows(dataset)
    chosen = [table[~table["utterance_id"].isin(rows["utterance_id"])]]
    for index, part, stated in parts:
        column = "utterance_id" if "utterance_ids" in stated else "speaker_id"
        named = stated.get("utterance_ids", stated["speakers"])
        chosen.append(rows[rows[column].isin(named)].assign(fold=index, part=part))
    return pd.concat(chosen), dict(zip(dataset["utterance_id"], dataset["audio"]))


def _own_table(path, frame, speaker_pattern, given):
    """The table for `audit` from a table with anybody's columns, and the folds whose training part is assumed."""
    columns = {role: _column(path, frame, role, given.get(role)) for role in COLUMN_NAMES}
    found = f"the columns are {_join(frame.columns)}"
    if frame.empty:
        raise AuditError(f"{path}: no rows")
    if columns["utterance"] is None:
        raise AuditError(f"{path}: no column of utterances ({found}); name it with --utterance_column")
    if columns["part"] is None and columns["fold"] is None:
        raise AuditError(f"{path}: no column of parts or folds ({found}); name one: --part_column or --fold_column")
    if columns["speaker"] is None and speaker_pattern is None:
        raise AuditError(
            f"{path}: no column of speakers ({found}), so it cannot be audited for them; name it with "
            "--speaker_column, or give --speaker_pattern, a regular expression that finds the speaker in an utterance"
        )
    text = {role: frame[name].map(_text).astype(object) for role, name in columns.items() if name is not None}
    for role in ("utterance", "part", "fold"):
        if role in text and (empty := text[role].isna()).any():
            rows = _join(empty[empty].index + 1, 20)
            raise AuditError(f"{path}: column {columns[role]} is empty in row {rows}, counted from 1; fill it in")
    if speaker_pattern is not None:
        text["speaker"] = _speakers(path, text["utterance"], speaker_pattern)
    if "start" in text and "end" in text:  # rows are stretches of files
        text.setdefault("source", text["utterance"])
        text["utterance"] = text["utterance"] + "@" + text["start"].astype(str) + "-" + text["end"].astype(str)
    roles = ("utterance", "speaker", "session", "text", "source")
    table = pd.DataFrame({f"{role}_id": text[role] for role in roles if role in text})
    folds = text.get("fold", pd.Series("0", index=frame.index))
    table["fold"] = folds.astype(int) if folds.str.fullmatch(r"\d{1,9}").all() else folds
    if "part" not in text:
        return _tested_once(path, table)
    table["part"] = text["part"].str.lower().map(PART_OF_NAME)
    unknown = sorted(set(text["part"][table["part"].isna()]))
    if unknown:
        known = _join(PART_OF_NAME)
        raise AuditError(
            f"{path}: unknown part {_join(map(repr, unknown), 20)} in {columns['part']}; known are {known}"
        )
    return table, []


def _column(path, frame, role, given):
    """Name of the column for a role, None where there is none."""
    if given is not None and given not in frame:
        raise AuditError(f"{path}: no column {given!r} for the {role}; the columns are {_join(frame.columns)}")
    found = [given] if given else [name for name in frame if str(name).strip().lower() in COLUMN_NAMES[role]]
    if len(found) > 1:
        among = f"the columns are {_join(frame.columns)}"
        raise AuditError(f"{path}: {_join(found)} could each be the {role} ({among}); name one with --{role}_column")
    return found[0] if found else None


def _text(value):
    """A cell as text, None for an empty one."""
    empty = value is None or value != value
    return None if empty or not str(value).strip() else str(value).strip()


def _speakers(path, utterances, pattern):
    try:
        expression = re.compile(pattern)
        group = "speaker" if "speaker" in expression.groupindex else 1
        found = {name: expression.search(name) for name in utterances.unique()}
        missing = [name for name in found if not found[name] or not found[name][group]]
    except (re.error, IndexError) as error:
        raise AuditError(
            f"--speaker_pattern {pattern!r}: {error}; it must be a regular expression with a group"
        ) from error
    if missing:
        raise AuditError(
            f"{path}: --speaker_pattern {pattern!r} finds no speaker in {len(missing)}:\n{listed(missing)}"
        )
    return utterances.map(lambda name: found[name][group])


def _tested_once(path, table):
    """Parts from folds that say where a row is tested; who trains is in metrics.json, or all other rows do.

    Returns the table and the folds of which the latter is assumed.
    """
    parts, assumed = [], []
    for fold in table["fold"].unique():
        tested = table["fold"] == fold
        others = table[~tested].assign(fold=fold)
        parts.append(table[tested].assign(part="test"))
        metrics = path.parent / f"fold_{fold:02d}" / "metrics.json" if isinstance(fold, (int, np.integer)) else None
        if metrics is None or not metrics.is_file():
            parts.append(others.assign(part="train"))
            assumed.append(fold)
            continue
        stated = _read(metrics)
        try:
            if stated["train_speakers"] is None:
                raise AuditError(
                    f"{metrics}: train_speakers is null: the checkpoint that was tested does not say on whom it was "
                    "trained, so nobody can tell whether it leaks"
                )
            speakers = {part: set(stated[f"{part}_speakers"]) for part in ("train", "validation")}
        except (KeyError, TypeError) as error:
            raise AuditError(
                f"{metrics}: no lists train_speakers and validation_speakers; run the fold again"
            ) from error
        for part, names in speakers.items():
            parts.append(pd.DataFrame({"speaker_id": sorted(names)}).assign(fold=fold, part=part))
            # Of a speaker in both parts nobody can say which utterances are where.
            alone = names - speakers["validation" if part == "train" else "train"]
            parts.append(others[others["speaker_id"].isin(alone)].assign(part=part))
    return pd.concat(parts), assumed


def _find_audio(utterances, data_dir):
    """Utterance -> audio: the file at its path under data_dir, or else the only one with its name."""
    by_name, by_path = defaultdict(list), {}
    for path in sorted(Path(data_dir).rglob("*")):
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("."):
            by_name[path.stem].append(path)
            by_path[os.path.abspath(path)] = path
    audio = {}
    for utterance in utterances:
        # A path that leads out of data_dir names nothing.
        at_path = by_path.get(os.path.abspath(Path(data_dir, utterance)))
        same_name = by_name[_plain(utterance).split("/")[-1]]
        if at_path or len(same_name) == 1:
            audio[utterance] = {"bytes": None, "path": str(at_path or same_name[0])}
    if not audio:
        raise AuditError(f"{data_dir}: no audio file is named like an utterance, such as {utterances[0]}")
    return audio


def main(argv: Sequence[str] | None = None) -> int:
    """Console entry; the exit status: 0 clean, 1 leaks, 2 not all could be checked."""
    parser = argparse.ArgumentParser(
        prog="run-ser audit",
        description="Leaks between the parts of a split or a table of predictions.",
    )
    parser.add_argument("file", help="a file of dataset_scripts/splits, a predictions.csv, or a table of utterances")
    parser.add_argument("--data_dir", help="folder that holds the audio")
    parser.add_argument("--speaker_pattern", help="regular expression; its first group is the speaker in an utterance")
    for role, names in COLUMN_NAMES.items():
        parser.add_argument(f"--{role}_column", help=f"default: {_join(names)}")
    arguments = parser.parse_args(argv)
    columns = {role: name for role in COLUMN_NAMES if (name := getattr(arguments, f"{role}_column"))}
    try:
        report = audit_file(arguments.file, arguments.data_dir, arguments.speaker_pattern, columns)
    except (AuditError, CorpusError) as error:
        print(f"audit: {error}", file=sys.stderr)
        return 2
    print(report.markdown())
    return 1 if report.leaks else 0 if report.clean else 2


if __name__ == "__main__":
    sys.exit(main())
