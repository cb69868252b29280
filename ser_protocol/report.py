"""The report of a suite: Table 1 of its corpora and presets, and what lies behind it.

    python -m ser_protocol.report OUT [--reference camulenet-small] [--baseline camulenet-small-baseline]

OUT is a suite's output folder (suite.py): OUT/<corpus>/<row>/seed_<seed>/ for each run, or OUT/<corpus>/<row>/ for a
row without seeds, like a peer. OUT/suite.json, which a suite writes, tells which runs there are to be, in which order.
Written to OUT/report/:

- report.html, all of it in one file, and what `ser_protocol.embeddings` and `ser_protocol.similarity` drew of the
  reference, if it lies in OUT/<corpus>/<row>/seed_<seed>/ or OUT/<corpus>/similarity/;
- table_1.md, table_1.tex, table_1.csv: WA and WF1 of each row on each corpus, as in the paper's Table 1;
- scores.csv, comparisons.csv, groups.csv: every score with its interval; each row against the reference; scores of
  each speaker, gender, language and emotion;
- calibration.csv, where models give probabilities: calibration error, negative log-likelihood, Brier score;
- ensembles.csv, where a row has several seeds: scores of their models as one, their probabilities averaged;
- crossed.csv, where a run tests a corpus that it was not trained on (`--protocol cross-corpus`): scores by the corpora
  of training and test;
- figures/*.png.

Scores of a cell are means over the training seeds that are there. What is missing is shown as missing.
"""

import argparse
import base64
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from . import figures
from .calibration import emotion_probabilities, run_calibration, with_temperature
from .files import write_atomically
from .metrics.ser_metrics import SCORES
from .presets import PRESETS
from .statistics import (
    MIN_SPEAKERS,
    aligned_tables,
    bootstrap_over_speakers,
    check_predictions,
    corpus_of,
    emotion_scores,
    group_scores,
    holm,
    mcnemar_test,
    mean_gain,
    paired_difference,
    permutation_test,
    pooled_scores,
    read_predictions,
    seed_ensemble,
    seed_sd,
    speakers_needed,
)
from .suite import GRID_FILE, RUN_FILE
from .tables import SCORE_NAMES, markdown_table

FOLDER = "report"
TEMPLATE = Path(__file__).with_name("templates") / "report.html"
REFERENCES = ("camulenet", "camulenet-small")  # the models that the others are compared with
COLUMNS = ["utterance_id", "speaker_id", "fold", "emotion", "gender", "predicted_emotion", "predicted_gender"]
CALIBRATION = ("ece", "nll", "brier")
UNRELIABLE = "†"  # behind an interval over too few speakers
SIGNIFICANCE = 0.05
POINTS = 0.05  # the difference whose need of speakers is told
NEAR_UNIFORM = 0.95  # share of the entropy of equal weights
DPI = 200  # of figures that may be printed
REMEDY = "Delete it and results.json, and pool the folds again by the same command as before."
WIDE_GAP = 0.25  # WA on the speakers that were trained on less WA on unseen ones


class ReportError(ValueError):
    """A folder that no report can be made of; the message names the remedy."""


@dataclass
class Cell:
    """
    The runs of one row on one corpus.

    Args:
        corpus, row: of the table.
        tables: predictions of the complete runs, by seed (`""` for a row without seeds).
        runs: the content of their results.json, by seed.
        metrics: metrics.json of their folds, by seed, or what results.json says of a fold.
        open: what is missing of the other runs, in words.
    """

    corpus: str
    row: str
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    runs: dict[str, dict] = field(default_factory=dict)
    metrics: dict[str, list[dict]] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)

    @property
    def seeds(self) -> list[pd.DataFrame]:
        """The tables, as statistics.py takes them."""
        return list(self.tables.values())

    @cached_property
    def scores(self) -> dict:
        """`{score: {"value", "low", "high", "reliable", "seed_sd"}}`; empty without a complete run."""
        if not self.tables:
            return {}
        pooled, spread, bootstrap = pooled_scores(self.seeds), seed_sd(self.seeds), bootstrap_over_speakers(self.seeds)
        none = {"low": None, "high": None}
        return {
            name: {"value": value, **(bootstrap["intervals"][name] or none), "reliable": bootstrap["reliable"]}
            | {"seed_sd": spread[name]}
            for name, value in pooled.items()
        }

    @property
    def missing(self) -> str:
        """What is missing, in words; empty where nothing is."""
        return "; ".join(self.open) or ("" if self.tables else "missing")

    def text(self, score: str) -> str:
        """A score as text, or what is missing."""
        if not self.tables:
            return self.missing
        value = self.scores[score]["value"]
        return "–" if value is None else f"{value:.3f}"

    def interval(self, score: str) -> str:
        """A score's interval as text."""
        return _interval_text(self.scores[score]) if self.tables else ""


@dataclass
class Suite:
    """
    Cells by corpus and row, in the order of the table.

    Args:
        folder: where it lies.
        rows, corpora: their names, in order.
        cells: `{(row, corpus): Cell}`; a pair without a run has a cell without tables.
        reference: the row that the others are compared with.
        baseline: the row that the mean gain is over, if there is one.
    """

    folder: Path
    rows: list[str]
    corpora: list[str]
    cells: dict[tuple[str, str], Cell]
    reference: str
    baseline: str | None

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """
        The reference less each other row, on each corpus where both are complete: `difference`, `low`, `high` of WA
        and UA (`reliable`: not over too few speakers), permutation p values over speakers as they are and after Holm's
        correction over the rows of the corpus, the `smallest_p` that its speakers can give, McNemar's p of one seed
        (secondary), and the speakers that a difference of five points would take.
        """
        table = []
        for row in self.rows:
            for corpus in self.corpora:
                ours, other = self.cells[self.reference, corpus], self.cells[row, corpus]
                if row == self.reference or not ours.tables or not other.tables:
                    continue
                difference = paired_difference(ours.seeds, other.seeds)
                permutation = permutation_test(ours.seeds, other.seeds)
                needed = speakers_needed(ours.seeds, other.seeds, POINTS)["wa"]
                common = next(((seed, seed) for seed in ours.tables if seed in other.tables), None)
                seed, seed_of_row = common or (next(iter(ours.tables)), next(iter(other.tables)))
                mcnemar = mcnemar_test(ours.tables[seed], other.tables[seed_of_row])
                table.append(
                    {"row": row, "corpus": corpus, "seeds": len(ours.tables), "seeds_of_row": len(other.tables)}
                    | {f"{name}_{key}": value for name in ("wa", "ua") for key, value in difference[name].items()}
                    | {"reliable": difference["reliable"]}
                    | {f"{name}_p": permutation[name] for name in ("wa", "ua")}
                    | {"smallest_p": permutation["smallest"]}
                    | {"mcnemar_p": mcnemar["p"], "mcnemar_seed": seed, "mcnemar_seed_of_row": seed_of_row}
                    | {"speakers_for_5_points": needed["num_needed"] if needed else None}
                )
        table = pd.DataFrame(table, columns=COMPARISON_COLUMNS)
        for name in ("wa", "ua"):
            table[f"{name}_p_holm"] = table.groupby("corpus")[f"{name}_p"].transform(holm)
        return table

    def gain(self, row: str) -> dict | None:
        """`mean_gain` of the reference over a row, over the corpora where both are complete."""
        pairs = {
            corpus: (self.cells[self.reference, corpus].seeds, self.cells[row, corpus].seeds)
            for corpus in self.corpora
            if self.cells[self.reference, corpus].tables and self.cells[row, corpus].tables
        }
        return mean_gain(pairs) if pairs and row != self.reference else None

    def mark(self, row: str, corpus: str) -> str:
        """An asterisk where a row's WA differs from the reference's beyond chance, after the correction."""
        table = self.comparisons
        p = table.loc[(table["row"] == row) & (table["corpus"] == corpus), "wa_p_holm"]
        return "*" if len(p) and p.iloc[0] < SIGNIFICANCE else ""

    @cached_property
    def groups(self) -> pd.DataFrame:
        """Scores of each speaker, gender, emotion and language, of every row, in long form."""
        parts = []
        for cell in filter(lambda cell: cell.tables, self.cells.values()):
            keys = {"row": cell.row, "corpus": cell.corpus}
            for kind in ("speaker_id", "gender"):
                parts.append(group_scores(cell.seeds, kind).reset_index(names="group").assign(kind=kind, **keys))
            emotions = emotion_scores(cell.seeds).reset_index(names="group")
            parts.append(emotions.assign(kind="emotion", **keys))
        for row in self.rows:
            parts += self._languages(row)
        columns = ["row", "corpus", "kind", "group", "num_utterances", *_group_scores(parts)]
        parts = parts or [pd.DataFrame(columns=columns)]
        return pd.concat(parts)[columns].astype({"num_utterances": int})

    @cached_property
    def crossed(self) -> pd.DataFrame:
        """
        Scores by what was trained on, `train` ("emodb + ravdess"), and tested on, `test`, of every row and set of
        classes with a test corpus that is not among the training's: with `wa_low` and `wa_high`, and for comparison
        those of the same classes with it. `corpus` is the column of Table 1 that a line comes from.
        """
        lines = [line for cell in self.cells.values() if cell.tables for line in _crossed_lines(cell)]
        table = pd.DataFrame(lines, columns=CROSSED_COLUMNS)
        foreign = np.array(
            [test not in train.split(" + ") for train, test in zip(table["train"], table["test"])], dtype=bool
        )
        kept = table[foreign][["row", "classes"]].drop_duplicates()
        return table.merge(kept, on=["row", "classes"])

    @cached_property
    def ensembles(self) -> pd.DataFrame:
        """Scores of each cell's seeds as one model, with `wa_low` and `wa_high`; cells of several seeds only."""
        lines = []
        for cell in self.cells.values():
            if len(cell.tables) > 1 and all(emotion_probabilities(table) for table in cell.seeds):
                ensemble = seed_ensemble(cell.seeds)
                lines.append(
                    {"row": cell.row, "corpus": cell.corpus, "seeds": len(cell.tables), **pooled_scores(ensemble)}
                    | _wa_interval(ensemble)
                )
        return pd.DataFrame(lines)

    @cached_property
    def calibration(self) -> pd.DataFrame:
        """
        `ece`, `nll` and `brier` of each cell with probabilities, means over its seeds, and the same
        `_after_temperature`: NaN unless every fold has a temperature, which takes validation speakers of its own.
        """
        lines = []
        for cell in filter(lambda cell: cell.tables, self.cells.values()):
            found = [
                run_calibration(table, {fold["fold"]: fold.get("temperature") for fold in cell.metrics[seed]})
                for seed, table in cell.tables.items()
            ]
            if not all(found):
                continue
            line = {"row": cell.row, "corpus": cell.corpus, "seeds": len(found)}
            for when, suffix in (("as_is", ""), ("after_temperature", "_after_temperature")):
                parts = pd.DataFrame([each[when] or {} for each in found], columns=CALIBRATION)
                line |= parts.mean(skipna=False).add_suffix(suffix).to_dict()
            lines.append(line)
        return pd.DataFrame(lines)

    @property
    def leaky(self) -> list[str]:
        """The rows with a run whose test speakers are not all unseen, or not known to be."""
        return sorted(
            {cell.row for cell in self.cells.values() for run in cell.runs.values() if not run["unseen_speakers"]}
        )

    def _languages(self, row: str) -> list[pd.DataFrame]:
        """Mean over the corpora of one language, for each language with a complete run."""
        languages = {}
        for corpus in self.corpora:
            cell = self.cells[row, corpus]
            spoken = {tuple(run["run"].get("languages") or ()) for run in cell.runs.values()}
            if cell.tables and len(spoken) == 1 and len(language := spoken.pop()) == 1:
                languages.setdefault(language[0], []).append(cell)
        return [
            pd.DataFrame(
                [
                    {
                        "row": row,
                        "corpus": ", ".join(cell.corpus for cell in cells),
                        "kind": "language",
                        "group": language,
                        "num_utterances": sum(len(cell.seeds[0]) for cell in cells),
                        **{name: sum(cell.scores[name]["value"] for cell in cells) / len(cells) for name in SCORES},
                    }
                ]
            )
            for language, cells in languages.items()
        ]


COMPARISON_COLUMNS = [
    *("row", "corpus", "seeds", "seeds_of_row"),
    *(f"{name}_{key}" for name in ("wa", "ua") for key in ("difference", "low", "high")),
    *("reliable", "wa_p", "ua_p", "smallest_p", "mcnemar_p", "mcnemar_seed", "mcnemar_seed_of_row"),
    "speakers_for_5_points",
]
CROSSED_COLUMNS = [
    *("row", "corpus", "classes", "train", "test", "num_utterances"),
    *(*SCORES, "wa_low", "wa_high", "reliable"),
]


def _wa_interval(tables) -> dict:
    """`wa_low`, `wa_high` and `reliable` of one model."""
    bootstrap = bootstrap_over_speakers(tables)
    wa = bootstrap["intervals"]["wa"] or {"low": None, "high": None}
    return {"wa_low": wa["low"], "wa_high": wa["high"], "reliable": bootstrap["reliable"]}


def _interval_text(values: Mapping, name: str = "", form: str = ".3f") -> str:
    """`low` and `high` of something (`<name>_low`, ...) as text, with a mark unless `reliable`; empty without them."""
    low, high = (values[f"{name}_{end}" if name else end] for end in ("low", "high"))
    return "" if pd.isna(low) else f"({low:{form}} to {high:{form}}){'' if values['reliable'] else UNRELIABLE}"


def _crossed_lines(cell: Cell) -> list[dict]:
    """Scores of a cell by the corpora that its folds trained on and tested."""
    tables = []
    for seed, table in cell.tables.items():
        speakers = {metrics["fold"]: metrics.get("train_speakers") or [] for metrics in cell.metrics[seed]}
        train = {fold: " + ".join(sorted({name.split("/")[0] for name in names})) for fold, names in speakers.items()}
        tables.append(table.assign(train=table["fold"].map(train), test=corpus_of(table)))
    known = emotion_probabilities(tables[0])
    classes = "; ".join(known[0] if known else sorted(set(tables[0]["emotion"])))
    lines = []
    for train, test in tables[0][["train", "test"]].drop_duplicates().itertuples(index=False):
        parts = [table[(table["train"] == train) & (table["test"] == test)] for table in tables]
        scores = {name: value for name, value in pooled_scores(parts).items() if name in SCORES}
        place = {"row": cell.row, "corpus": cell.corpus, "classes": classes, "train": train, "test": test}
        lines.append({**place, "num_utterances": len(parts[0]), **scores, **_wa_interval(parts)})
    return lines


def cross_corpus_matrix(crossed: pd.DataFrame, score: str = "wa") -> pd.DataFrame:
    """
    A score by training (rows) and test corpus (columns), of one row and set of classes of `Suite.crossed`. Where
    several columns of Table 1 train and test on the same corpora, the first counts.
    """
    return crossed.drop_duplicates(["train", "test"]).pivot(index="train", columns="test", values=score)


def _group_scores(parts: list[pd.DataFrame]) -> list[str]:
    """Which scores any of the tables has."""
    return [
        name
        for name in (*SCORES, "gender_wa", "recall", "precision", "f1")
        if any(name in part.columns for part in parts)
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def read_suite_folder(folder: str | Path, reference: str | None = None, baseline: str | None = None) -> Suite:
    """
    The cells of a suite's output folder.

    Raises:
        ReportError: nothing in it, predictions that do not cover every utterance exactly once, unknown reference.
    """
    folder = Path(folder)
    planned = _read(folder / GRID_FILE, _planned) if (folder / GRID_FILE).is_file() else {}
    there = [(path.name, path.parent.name) for path in sorted(folder.glob("*/*")) if path.is_dir()]
    cells = {}
    for row, corpus in dict.fromkeys([*planned, *there]):
        cell = _cell(folder / corpus / row, planned.get((row, corpus), {}))
        if corpus != FOLDER and cell.missing != "missing":
            cells[row, corpus] = cell
    if not any(cell.tables or cell.open for cell in cells.values()):
        raise ReportError(
            f"{folder} holds no runs: there is no {folder}/<corpus>/<row>/seed_<seed>/ with folds in it."
        )
    names = {row for row, _ in cells}
    ordered = [*(row for row, _ in planned), *PRESETS]
    rows = [*sorted(names - set(ordered)), *(name for name in dict.fromkeys(ordered) if name in names)]
    ordered = list(dict.fromkeys(corpus for _, corpus in planned))
    corpora = [*ordered, *sorted({corpus for _, corpus in cells} - set(ordered))]
    if reference is None:
        reference = next((name for name in REFERENCES if name in names), None)
        if reference is None:
            raise ReportError(
                f"Give --reference, the row that the others are compared with: {folder} has no "
                f"{' or '.join(REFERENCES)}, but {', '.join(rows)}."
            )
    if reference not in names:
        raise ReportError(f"--reference: {reference} is none of the rows of {folder}: {', '.join(rows)}.")
    if baseline is None:
        baseline = {"camulenet": "baseline"}.get(reference, f"{reference}-baseline")
        baseline = baseline if baseline in names else None
    elif baseline not in names:
        raise ReportError(f"--baseline: {baseline} is none of the rows of {folder}: {', '.join(rows)}.")
    for corpus in corpora:
        _check_same_utterances([cells[row, corpus] for row in rows if (row, corpus) in cells])
    for row in rows:
        for corpus in corpora:
            cells.setdefault((row, corpus), Cell(corpus, row))
    return Suite(folder, rows, corpora, cells, reference, baseline)


def _planned(path: Path) -> dict[tuple[str, str], dict[str, int]]:
    """(row, corpus) -> seed -> how many folds, of a suite's list of its runs."""
    planned = {}
    for run in json.loads(path.read_text(encoding="utf-8"))["runs"]:
        planned.setdefault((run["preset"], run["corpus"]), {})[str(run["seed"])] = run["num_folds"] + 0
    return planned


def _results(path: Path) -> dict:
    """results.json; raises KeyError or TypeError unless what is read of it is in its place."""
    results = json.loads(path.read_text(encoding="utf-8"))
    if not results["incomplete"]:
        dict.fromkeys(row["fold"] for row in results["folds"]["rows"])
        results["pooled"]["wa"]["value"], results["unseen_speakers"]
    results["run"]["num_folds"]
    return results


def _metrics(path: Path) -> dict:
    """A fold's metrics.json; raises KeyError or TypeError unless it names the fold."""
    metrics = json.loads(path.read_text(encoding="utf-8"))
    metrics["fold"]
    return metrics


def _read(path: Path, reader: Callable):
    try:
        return reader(path)
    except (OSError, ValueError, KeyError, TypeError) as error:  # the last two: JSON of other things
        raise ReportError(
            f"{path} cannot be read ({type(error).__name__}: {error}). Delete it, and run its suite or run_ser.py "
            "again."
        ) from error


def _cell(path: Path, planned: Mapping[str, int]) -> Cell:
    """The runs of OUT/<corpus>/<row>; `planned`: how many folds the suite gives each seed."""
    cell = Cell(corpus=path.parent.name, row=path.name)
    seeds = {run.name.removeprefix("seed_") for run in path.glob("seed_*")} | planned.keys()
    for seed in sorted(seeds, key=lambda seed: (len(seed), seed)) or [""]:
        run = path / f"seed_{seed}" if seed else path
        folds = {
            fold["fold"]: fold for fold in (_read(file, _metrics) for file in sorted(run.glob("fold_*/metrics.json")))
        }
        results = _read(run / "results.json", _results) if (run / "results.json").is_file() else None
        if results and not results["incomplete"] and (run / "predictions.csv").is_file():
            cell.tables[seed] = _checked(run, results)
            cell.runs[seed] = results
            cell.metrics[seed] = list(({row["fold"]: row for row in results["folds"]["rows"]} | folds).values())
        elif folds or results or seed in planned or (run / RUN_FILE).is_file():
            num_folds = planned.get(seed) or (results and results["run"]["num_folds"])
            cell.open.append(f"{f'seed {seed}: ' if seed else ''}{_progress(len(folds), num_folds)}")
    return cell


def _progress(done: int, num_folds: int | None) -> str:
    if not done:
        return "no fold yet"
    if num_folds is None or done >= num_folds:
        return f"{done} fold{'s' if done > 1 else ''}, not pooled"
    return f"{done} of {num_folds} folds"


def _checked(run: Path, results: dict) -> pd.DataFrame:
    """
    The predictions of a complete run.

    Raises:
        ReportError: they do not cover every utterance exactly once, with an answer, or are not those of results.json.
    """
    path = run / "predictions.csv"
    table = _read(path, read_predictions)
    problem = next(_problems(table, results, run), None)
    if problem:
        raise ReportError(f"{path}: {problem} {REMEDY}")
    return table


def _problems(table: pd.DataFrame, results: dict, run: Path):
    """What is wrong with a run's predictions, in words."""
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        yield f"there is no column {', '.join(missing)}."
    try:
        check_predictions(table, table["utterance_id"].unique())
        known = emotion_probabilities(table)
    except ValueError as error:
        yield str(error)
    rows = results["folds"]["rows"]
    expected = results["run"].get("num_eligible_utterances", sum(row["num_utterances"] for row in rows))
    if len(table) != expected:
        yield f"it has {len(table)} of {expected} eligible utterances."
    silent = table["utterance_id"][table["predicted_emotion"] == ""].tolist()
    if silent:
        yield f"{len(silent)} utterances have no answer, such as {silent[0]}."
    strange = sorted(set(table["predicted_emotion"]).difference(known[0])) if known else []
    if strange:
        yield f"the answers {', '.join(strange)} are none of the model's emotions, {', '.join(known[0])}."
    folds = [run / f"fold_{row['fold']:02d}" / "predictions.csv" for row in rows]
    if all(fold.is_file() for fold in folds):
        tested = pd.concat([_read(fold, read_predictions) for fold in folds])
        try:
            check_predictions(table, tested["utterance_id"])
        except ValueError as error:
            yield f"its folds predict other utterances. {error}"
    wa, stated = pooled_scores(table)["wa"], results["pooled"]["wa"]["value"]
    if abs(wa - stated) > 1e-4:
        yield f"its WA is {wa:.4f}, and results.json says {stated:.4f}."


def _check_same_utterances(cells: list[Cell]) -> None:
    """All complete runs on a corpus must be of the same utterances, with the same emotions and speakers."""
    tables = [(cell, seed, table) for cell in cells for seed, table in cell.tables.items()]
    for cell, seed, table in tables[1:]:
        first, first_seed, eligible = tables[0]
        try:
            aligned_tables(table, eligible)
        except ValueError as error:
            raise ReportError(
                f"{cell.corpus}: {cell.row} {seed} and {first.row} {first_seed} were tested on different clips or "
                f"labels: {error} Rows are compared on the same clips: give each label map or part of a corpus its "
                "own column."
            ) from error


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def table_1(suite: Suite, below: bool = False) -> list[list[str]]:
    """
    Rows of text, the header first: a column a corpus, WA (its interval) / WF1 in each cell, and the reference's mean
    gain.

    Args:
        suite: its cells.
        below: whether the intervals stand below the scores, in a second line of the cell.
    """
    lines = [["", *(f"{corpus}, WA / WF1" for corpus in suite.corpora), "mean gain of the reference (WA)"]]
    for row in suite.rows:
        cells = [_scores_text(suite, suite.cells[row, corpus], below) for corpus in suite.corpora]
        lines.append([_row_name(suite, row), *cells, _gain_text(suite.gain(row), below)])
    return lines


def _scores_text(suite: Suite, cell: Cell, below: bool) -> str:
    if not cell.tables:
        return cell.missing
    mark, interval, missing = suite.mark(cell.row, cell.corpus), cell.interval("wa"), cell.missing
    wa = f"{cell.text('wa')}{mark}" if below else f"{cell.text('wa')}{f' {interval}' if interval else ''}{mark}"
    lines = [
        f"{wa} / {cell.text('wf1')}",
        *([interval] if below and interval else []),
        *([missing] if missing else []),
    ]
    return ("\n" if below else "; ").join(lines)


def _row_name(suite: Suite, row: str) -> str:
    seeds = {len(suite.cells[row, corpus].tables) for corpus in suite.corpora} - {0}
    count = (
        f" ({min(seeds)}{f' to {max(seeds)}' if len(seeds) > 1 else ''} seeds)" if max(seeds, default=0) > 1 else ""
    )
    return f"{row}{count}"


def _gain_text(gain: dict | None, below: bool = False) -> str:
    if gain is None:
        return ""
    interval = _interval_text(gain["wa"] | {"reliable": gain["reliable"]}, form="+.3f")
    corpora = f"{gain['num_corpora']} corp{'us' if gain['num_corpora'] == 1 else 'ora'}"
    value = f"{gain['wa']['difference']:+.3f}"
    if below:
        return "\n".join(filter(None, [f"{value}, {corpora}", interval]))
    return f"{value}{f' {interval}' if interval else ''}, {corpora}"


def comparisons_table(suite: Suite) -> list[list[str]]:
    """Rows of text, the header first: the reference less each row."""
    lines = [
        ["row", "corpus", "seeds of both", "ΔWA (95 %)", "p", "p, Holm", "ΔUA (95 %)", "p", "p, Holm"]
        + ["McNemar's p (secondary)", "speakers for 5 points"]
    ]
    for _, line in suite.comparisons.iterrows():
        cells = [line["row"], line["corpus"], f"{line['seeds']}, {line['seeds_of_row']}"]
        for name in ("wa", "ua"):
            cells += [f"{line[f'{name}_difference']:+.3f}\n{_interval_text(line, name, '+.3f')}".strip()]
            cells += [_p_text(line[f"{name}_p"]), _p_text(line[f"{name}_p_holm"])]
        seeds = " against ".join(filter(None, dict.fromkeys((line["mcnemar_seed"], line["mcnemar_seed_of_row"]))))
        needed = line["speakers_for_5_points"]
        cells += [f"{_p_text(line['mcnemar_p'])}{f' (seed {seeds})' if seeds else ''}"]
        lines.append([*cells, "–" if pd.isna(needed) else str(int(needed))])
    return lines


def _p_text(p: float) -> str:
    return "<\N{NO-BREAK SPACE}0.001" if p < 0.001 else f"{p:.3f}"


def seeds_table(suite: Suite) -> list[list[str]]:
    """Rows of text, the header first: every score of every cell, its interval, and its deviation over seeds."""
    lines = [["corpus", "row", "seeds", *(f"{SCORE_NAMES[name]} ± seeds (95 %)" for name in (*SCORES, "gender_wa"))]]
    for corpus in suite.corpora:
        for row in suite.rows:
            cell = suite.cells[row, corpus]
            if cell.tables:
                seeds = ", ".join(filter(None, cell.tables)) or "–"
                lines.append([corpus, row, seeds, *(_with_sd(cell, name) for name in (*SCORES, "gender_wa"))])
    return lines


def _with_sd(cell: Cell, name: str) -> str:
    sd = cell.scores[name]["seed_sd"]
    return f"{cell.text(name)}{f' ± {sd:.3f}' if sd is not None else ''}\n{cell.interval(name)}".strip()


def calibration_table(suite: Suite) -> list[list[str]]:
    """Rows of text, the header first: calibration of each row with probabilities."""
    names = [f"{name}{suffix}" for suffix in ("", "_after_temperature") for name in CALIBRATION]
    words = {"ece": "ECE", "nll": "NLL (nats)", "brier": "Brier"}
    header = [f"{words[name]}{after}" for after in ("", ", after temperature") for name in CALIBRATION]
    return [["row", "corpus", *header]] + [
        [line["row"], line["corpus"], *("–" if pd.isna(line[name]) else f"{line[name]:.3f}" for name in names)]
        for _, line in suite.calibration.iterrows()
    ]


def _ensembles_rows(suite: Suite) -> list[list[str]]:
    header = ["row", "corpus", "seeds", "WA (95 %)", *(SCORE_NAMES[name] for name in (*SCORES[1:], "gender_wa"))]
    return [header] + [
        [line["row"], line["corpus"], str(line["seeds"]), _wa_with_interval(line)]
        + ["–" if pd.isna(line[name]) else f"{line[name]:.3f}" for name in (*SCORES[1:], "gender_wa")]
        for _, line in suite.ensembles.iterrows()
    ]


def latex(rows: list[list[str]], caption: str, notes: str = "") -> str:
    """A booktabs table that a paper can \\input, no wider than its text; a cell's further lines stand small below."""
    lines = [
        r"% \usepackage{booktabs, graphicx}",
        r"\begin{table*}",
        rf"\caption{{{_latex_text(caption)}}}",
        r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'c' * (len(rows[0]) - 1)}}}",
        r"\toprule",
        " & ".join(map(_latex_text, rows[0])) + r" \\",
        r"\midrule",
    ]
    for row in rows[1:]:
        parts = [cell.split("\n") for cell in row]
        for number in range(max(map(len, parts))):
            cells = [_latex_text(part[number]) if number < len(part) else "" for part in parts]
            lines.append(
                " & ".join(rf"{{\scriptsize {cell}}}" if number and cell else cell for cell in cells) + r" \\"
            )
    lines += [r"\bottomrule", r"\end{tabular}}"]
    lines += [r"\par\smallskip", rf"\footnotesize {_latex_text(notes)}"] if notes else []
    return "\n".join([*lines, r"\end{table*}"]) + "\n"


LATEX = {
    **{character: f"\\{character}" for character in "&%_#${}"},
    **{"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"},
    **{
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "*": r"\textsuperscript{*}",
        UNRELIABLE: r"\textsuperscript{\dag}",
    },
    **{"Δ": r"$\Delta$", "±": r"$\pm$", "–": "--"},
}


def _latex_text(text: str) -> str:
    escaped = text.translate(str.maketrans(LATEX))
    return re.sub(r"(?<![\w-])-(?=[\d.])", "$-$", escaped)  # a minus sign


def scores_frame(suite: Suite) -> pd.DataFrame:
    """Every score of every cell in long form; a cell without a complete run is a line without a value."""
    lines = []
    for (row, corpus), cell in suite.cells.items():
        for name in (*SCORES, "gender_wa"):
            values = cell.scores.get(name, dict.fromkeys(("value", "low", "high", "reliable", "seed_sd")))
            lines.append({"row": row, "corpus": corpus, "seeds": len(cell.tables), "score": name, **values})
    return pd.DataFrame(lines)


# ---------------------------------------------------------------------------------------------------------------------
# Diagnostics


def diagnostics(cell: Cell) -> tuple[list[list[str]], list[str]]:
    """
    What the folds of a cell noted of themselves, as rows of text with the header first, and what in it asks for care.
    Values are means over folds and seeds; what was not noted says so.
    """
    folds = [metrics for run in cell.metrics.values() for metrics in run]

    def mean(*keys):
        values = []
        for metrics in folds:
            for key in keys:
                metrics = (metrics or {}).get(key)
            if metrics is not None:
                values.append(metrics)
        return sum(values) / len(values) if values else None

    def last(key):
        values = [history[-1].get(key) for history in (metrics.get("history") or [] for metrics in folds) if history]
        values = [value for value in values if value is not None]
        return sum(values) / len(values) if values else None

    train, unseen, entropy = mean("train", "wa"), mean("test", "wa"), mean("test", "co_attention_entropy")
    emotion_pull, gender_pull = last("emotion_grad_norm"), last("gender_grad_norm")
    values = {
        "WA on the training speakers": train,
        "WA on the validation speakers": mean("validation", "wa"),
        "WA on unseen speakers": unseen,
        "co-attention entropy, share of uniform, unseen speakers": entropy,
        "emotion loss in the last epoch (nats)": last("train_emotion_loss"),
        "gender loss in the last epoch (nats)": last("train_gender_loss"),
        "gradient norm in the last epoch": last("grad_norm"),
        "weighted emotion loss's gradient norm at the embedding, last epoch": emotion_pull,
        "weighted gender loss's gradient norm at the embedding, last epoch": gender_pull,
    }
    warnings = []
    if train is not None and unseen is not None and train - unseen > WIDE_GAP:
        warnings.append(
            f"WA is {train - unseen:.2f} higher on the speakers that were trained on than on unseen ones: the model "
            "knows them by heart in part."
        )
    if entropy is not None and entropy > NEAR_UNIFORM:
        warnings.append(
            f"The co-attention's entropy is {entropy:.0%} of that of equal weights: it hardly chooses between frames."
        )
    if emotion_pull is not None and gender_pull is not None and gender_pull > emotion_pull > 0:
        warnings.append(
            f"The gender loss pulls at the embedding {gender_pull / emotion_pull:.1f} times as hard as the emotion "
            "loss: try a lower --gender_loss_weight."
        )
    rows = [["mean over folds", "value"]]
    return [
        *rows,
        *([name, "not noted" if value is None else f"{value:.3f}"] for name, value in values.items()),
    ], warnings


# ---------------------------------------------------------------------------------------------------------------------
# All of it


def write_report(suite: Suite, folder: Path) -> list[Path]:
    """
    Write the files that the module's docstring lists.

    Returns:
        The files.
    """
    drawn = {name: figures.png(figure, dpi=DPI) for name, figure in _figures(suite).items()} | _drawn_before(suite)
    reading = _reading(suite)
    rows = table_1(suite)
    files = {
        "table_1.md": f"{markdown_table(rows)}\n\n{reading}\n",
        "table_1.tex": latex(table_1(suite, below=True), f"{_title(suite)}.", reading),
        "table_1.csv": pd.DataFrame(rows[1:], columns=["row", *rows[0][1:]]).to_csv(index=False),
        "scores.csv": scores_frame(suite).to_csv(index=False, float_format="%.6f"),
        "comparisons.csv": suite.comparisons.to_csv(index=False, float_format="%.6f"),
        **{
            f"{name}.csv": table.to_csv(index=False, float_format="%.6f")
            for name in ("calibration", "crossed", "ensembles")
            if len(table := getattr(suite, name))
        },
        "groups.csv": suite.groups.to_csv(index=False, float_format="%.6f"),
        **{f"figures/{name}.png": content for name, content in drawn.items()},
        "report.html": report_html(suite, drawn, reading),
    }
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]


def _title(suite: Suite) -> str:
    return f"Speech emotion recognition{'' if suite.leaky else ' on unseen speakers'}"


def _reading(suite: Suite) -> str:
    """How Table 1 is to be read."""
    sentences = [
        "WA is accuracy, WF1 the F1 weighted by class, pooled over all folds, each utterance predicted once by a "
        f"model that never met its speaker{', but for the rows named last' if suite.leaky else ''}; means over "
        "training seeds. Intervals: 95 % bootstrap over speakers; they and the p values leave out the spread between "
        "training seeds."
    ]
    if not all(cell.scores["wa"]["reliable"] for cell in suite.cells.values() if cell.tables):
        sentences.append(f"{UNRELIABLE}: over fewer than {MIN_SPEAKERS} speakers of a corpus, and so unreliable.")
    compared = suite.comparisons.groupby("corpus", sort=False)
    if len(compared):
        counts = ", ".join(f"{corpus} {len(lines)}" for corpus, lines in compared)
        sentences.append(
            f"An asterisk: WA differs from that of {suite.reference}, permutation over speakers, p < {SIGNIFICANCE} "
            f"after Holm's correction over the comparisons on a corpus ({counts})."
        )
        for corpus, lines in compared:
            smallest = lines["smallest_p"].max()
            if smallest * len(lines) >= SIGNIFICANCE:
                sentences.append(
                    f"On {corpus} no row can be marked: its speakers are too few for a p value below {smallest:.2g}, "
                    f"and there are {len(lines)} comparisons."
                )
        sentences.append(f"Mean gain: of {suite.reference} over the row, each corpus weighing the same.")
    if suite.leaky:
        sentences.append(f"NOT unseen speakers, or not known to be: {', '.join(suite.leaky)}.")
    return " ".join(sentences)


def _figures(suite: Suite) -> dict:
    """The figures by name: of all rows on each corpus, and of the reference alone."""
    drawn = {}
    for number, (classes, table) in enumerate(_crossed_of(suite, suite.reference)):
        drawn[f"crossed_{number}"] = figures.matrix_figure(cross_corpus_matrix(table), f"WA, {len(classes)} classes")
    for corpus in suite.corpora:
        complete = {
            row: suite.cells[row, corpus].scores["wa"] for row in suite.rows if suite.cells[row, corpus].tables
        }
        if complete:
            drawn[f"{corpus}_rows"] = figures.rows_figure(complete, suite.reference)
        cell = suite.cells[suite.reference, corpus]
        if not cell.tables:
            continue
        drawn[f"{corpus}_confusion"] = figures.confusion_figure(cell.seeds)
        speakers = suite.groups.query("row == @cell.row and corpus == @corpus and kind == 'speaker_id'")
        drawn[f"{corpus}_speakers"] = figures.speakers_figure(speakers.set_index("group"), pooled_scores(cell.seeds))
        together = pd.concat(cell.seeds)
        if emotion_probabilities(together):
            drawn[f"{corpus}_reliability"] = figures.reliability_figure(together, _scaled_by_temperature(cell))
        seed, metrics = next(iter(cell.metrics.items()))
        histories = {fold["fold"]: fold for fold in metrics if fold.get("history")}
        if histories:
            drawn[f"{corpus}_curves"] = figures.curves_figure(histories)
    return drawn


def _drawn_before(suite: Suite) -> dict[str, bytes]:
    """Figures that take audio or checkpoints and lie in the suite's folder: of embeddings.py and similarity.py."""
    drawn = {}
    for corpus in suite.corpora:
        runs = suite.folder / corpus / suite.reference
        for kind in ("embeddings", "attention"):
            paths = [*sorted(runs.glob(f"seed_*/plots/{kind}.png")), *runs.glob(f"plots/{kind}.png")]
            if paths:
                drawn[f"{corpus}_{kind}"] = paths[0].read_bytes()
        places = [suite.folder / corpus / "similarity", *sorted(runs.glob("seed_*")), runs]
        paths = [path for place in places if (path := place / "similarity.png").is_file()]
        if paths:
            drawn[f"{corpus}_similarity"] = paths[0].read_bytes()
    return drawn


def _crossed_of(suite: Suite, row: str) -> list[tuple[list[str], pd.DataFrame]]:
    """A row's lines of `Suite.crossed` for each set of classes."""
    table = suite.crossed[suite.crossed["row"] == row]
    return [(classes.split("; "), lines) for classes, lines in table.groupby("classes")]


def _scaled_by_temperature(cell: Cell) -> pd.DataFrame | None:
    """The predictions after temperature scaling, where every fold of every seed has a temperature."""
    parts = []
    for seed, table in cell.tables.items():
        temperatures = {metrics["fold"]: metrics.get("temperature") for metrics in cell.metrics[seed]}
        if any(temperatures.get(fold) is None for fold in table["fold"].unique()):
            return None
        parts.append(with_temperature(table, temperatures))
    return pd.concat(parts)


CAPTIONS = {
    "rows": "WA of each row with its 95 % interval over speakers; the line is the reference.",
    "confusion": "Confusion of the reference, all seeds together: share of each true emotion, and numbers of clips.",
    "speakers": "Scores of each speaker, the reference.",
    "reliability": "Reliability of the reference's probabilities; below, how many clips have which confidence.",
    "embeddings": "The encoder's mean frame and the reference's final embedding, one fold's test speakers (t-SNE).",
    "attention": "Where the reference listens: co-attention over clips of one fold's test speakers.",
    "similarity": "Accuracy of each test speaker by the distance of their voice to the training speakers'.",
    "curves": "Learning curves of the reference, one seed.",
}


def report_html(suite: Suite, drawn: dict[str, bytes], reading: str) -> str:
    """The report as one page that needs nothing else."""
    sections = []
    for corpus in suite.corpora:
        cell = suite.cells[suite.reference, corpus]
        images = [
            {
                "data": base64.b64encode(drawn[f"{corpus}_{kind}"]).decode(),
                "caption": caption,
                "name": f"{corpus}_{kind}",
            }
            for kind, caption in CAPTIONS.items()
            if f"{corpus}_{kind}" in drawn
        ]
        rows, warnings = diagnostics(cell)
        notes = sorted({run["run"]["disclaimer"] for run in cell.runs.values() if run["run"].get("disclaimer")})
        groups = suite.groups.query("row == @suite.reference and corpus == @corpus")
        sections.append(
            {
                "corpus": corpus,
                "images": images,
                "diagnostics": rows if cell.metrics else None,
                "warnings": warnings,
                "notes": notes,
                "groups": {kind: _group_rows(groups, kind) for kind in ("gender", "emotion")},
            }
        )
    missing = [
        f"{row} on {corpus}: {suite.cells[row, corpus].missing}"
        for row in suite.rows
        for corpus in suite.corpora
        if suite.cells[row, corpus].missing
    ]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        reference=suite.reference,
        baseline=suite.baseline,
        gain=_gain_text(suite.gain(suite.baseline)) if suite.baseline else "",
        reading=reading,
        table_1=table_1(suite, below=True),
        comparisons=comparisons_table(suite),
        scores=seeds_table(suite),
        calibration=calibration_table(suite),
        ensembles=_ensembles_rows(suite),
        languages=_language_rows(suite),
        crossed=_crossed_rows(suite),
        leaky=", ".join(suite.leaky),
        title=_title(suite),
        heat_maps=[
            {"data": base64.b64encode(drawn[f"crossed_{number}"]).decode(), "classes": ", ".join(classes)}
            for number, (classes, _) in enumerate(_crossed_of(suite, suite.reference))
        ],
        sections=sections,
        missing=missing,
    )


def _group_rows(groups: pd.DataFrame, kind: str) -> list[list[str]] | None:
    part = groups[groups["kind"] == kind]
    names = ("recall", "precision", "f1") if kind == "emotion" else ("wa", "ua", "wf1", "gender_wa")
    if part.empty:
        return None
    header = [kind, "clips", *(SCORE_NAMES.get(name, name) for name in names)]
    values = [
        [
            line["group"],
            str(line["num_utterances"]),
            *("–" if pd.isna(line[name]) else f"{line[name]:.3f}" for name in names),
        ]
        for _, line in part.iterrows()
    ]
    return [header, *values]


def _crossed_rows(suite: Suite) -> list[list[str]]:
    header = ["row", "corpus", "trained on", "tested on", "classes", "clips", "WA (95 %)", "UA", "WF1"]
    return [header] + [
        [*line[["row", "corpus", "train", "test"]], str(len(line["classes"].split("; "))), str(line["num_utterances"])]
        + [_wa_with_interval(line), *(f"{line[name]:.3f}" for name in ("ua", "wf1"))]
        for _, line in suite.crossed.iterrows()
    ]


def _wa_with_interval(line: pd.Series) -> str:
    return f"{line['wa']:.3f} {_interval_text(line, 'wa')}".strip()


def _language_rows(suite: Suite) -> list[list[str]]:
    part = suite.groups.query("kind == 'language'")
    header = ["language", "corpora", "row", "clips", *(SCORE_NAMES[name] for name in SCORES)]
    return [header] + [
        [line["group"], line["corpus"], line["row"], str(line["num_utterances"]), *(f"{line[n]:.3f}" for n in SCORES)]
        for _, line in part.sort_values(["group", "row"]).iterrows()
    ]


def main() -> None:
    """Console entry."""
    parser = argparse.ArgumentParser(
        prog="python -m ser_protocol.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="A suite's output folder.")
    parser.add_argument("--reference", help="The row that the others are compared with (default: the full model).")
    parser.add_argument("--baseline", help="The row that the mean gain is over (default: the reference's baseline).")
    arguments = parser.parse_args()
    try:
        suite = read_suite_folder(arguments.folder, arguments.reference, arguments.baseline)
    except ReportError as error:
        sys.exit(f"report: {error}")
    files = write_report(suite, arguments.folder / FOLDER)
    print(markdown_table(table_1(suite)))
    print(
        f"\n{_reading(suite)}\n\nWritten: {len(files)} files in {arguments.folder / FOLDER}, report.html among them."
    )


if __name__ == "__main__":
    main()
