"""A grid of runs: corpora x presets x seeds x folds, gone through cell by cell, resumed at any point.

    python -m ser_protocol.suite SUITE.yaml [--jobs 2] [--task 0 --num_tasks 8] [--status]

The file names what run_ser.py is called with:

    output_dir: results
    arguments: {cache_dir: cache}             # of every run, if any
    corpora:                                  # the columns of the table: arguments that say what is tested, and how
      ravdess: {corpus: ravdess, data_dir: $RAVDESS, protocol: speakers, num_folds: 12}
    presets:                                  # its rows: a preset, or further arguments under any other name
      camulenet-small: {seeds: [42, 43, 44]}
      spectrogram: {preset: camulenet-small, branches: [spectrogram]}
    seeds: [42]                               # of the rows that name none

Each run has an output folder of its own, OUTPUT_DIR/<corpus>/<preset>/seed_<seed>, and a cell is one of its folds;
OUTPUT_DIR/suite.json lists them, so that a report can tell what is missing. A
fold whose predictions.csv and metrics.json are there is complete, wherever it was run, and is never redone. Every cell
runs in a process of run_ser.py; a cell that fails is told of, and the others go on. `--num_tasks` shares the cells
among that many array jobs, of which `--task` says which this is.
"""

import argparse
import contextlib
import dataclasses
import difflib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml
from tqdm import tqdm
from transformers import TrainingArguments

from dataset_scripts.folds import STANDARD_FOLDS
from dataset_scripts.yaml_files import load_yaml

from .arguments import DataArguments, ModelArguments
from .files import write_atomically, write_json
from .presets import base_of

RUN_FILE = "run.yaml"  # the arguments of a run, in its folder: `run_ser.py run.yaml` does by hand what a suite does
LOG_FILE = "suite.log"
GRID_FILE = "suite.json"  # the runs of a suite, in its output folder
KEYS = {"output_dir", "arguments", "corpora", "presets", "seeds"}
DEFAULT_SEED = 42
VARIABLE = re.compile(r"\$([A-Za-z_]\w*|\{\w+\})", re.ASCII)  # names that a shell knows: US$5 is a price
FOLDER_NAME = re.compile(r"[^./\\][^/\\]*")
ARGUMENTS = [
    field.name for kind in (ModelArguments, DataArguments, TrainingArguments) for field in dataclasses.fields(kind)
]
POLL_S = 2.0  # how often the folds that are complete are counted


class SuiteError(ValueError):
    """A suite that cannot be run as it is written; the message names the remedy."""


@dataclass(frozen=True)
class Run:
    """
    One run of run_ser.py.

    Args:
        corpus, preset: names of its column and its row.
        seed: of the training.
        folder: where it goes.
        num_folds: how many folds it has.
        arguments: of run_ser.py, but for the folder and the folds.
    """

    corpus: str
    preset: str
    seed: int
    folder: Path
    num_folds: int
    arguments: dict = dataclasses.field(hash=False)

    def __str__(self) -> str:
        return f"{self.corpus} / {self.preset} / seed {self.seed}"

    def is_complete(self, fold: int) -> bool:
        """Whether a fold needs nothing more."""
        folder = self.folder / f"fold_{fold:02d}"
        return all((folder / name).is_file() for name in ("metrics.json", "predictions.csv"))

    @property
    def open_folds(self) -> list[int]:
        """The folds that are not complete."""
        return [fold for fold in range(self.num_folds) if not self.is_complete(fold)]

    @property
    def is_pooled(self) -> bool:
        """Whether the folds are pooled."""
        return (self.folder / "results.json").is_file()


def read_suite(path: str | Path) -> list[Run]:
    """
    The runs of a suite file, row by row, seed by seed, corpus by corpus: the table fills from the top.

    Raises:
        SuiteError: no such file, not YAML, unknown or missing keys, arguments or presets, something else than a key
            takes, an environment variable that is not set.
    """
    path = Path(path)
    if not path.is_file():
        raise SuiteError(f"There is no suite file {path}.")
    try:
        suite = load_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path} is not UTF-8 ({error}); save it as UTF-8.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SuiteError(f"{path} is not YAML: {error}") from error
    if not isinstance(suite, dict):
        raise SuiteError(f"{path} must hold the keys {', '.join(sorted(KEYS))}.")
    unknown, missing = (
        sorted(map(str, suite.keys() - KEYS)),
        sorted({"output_dir", "corpora", "presets"} - suite.keys()),
    )
    if unknown:
        raise SuiteError(f"{path}: unknown keys {', '.join(unknown)}; known are {', '.join(sorted(KEYS))}.")
    if missing:
        raise SuiteError(f"{path}: lacks {', '.join(missing)}.")
    corpora, presets = (_table(path, suite, key) for key in ("corpora", "presets"))
    common, output_dir = suite.get("arguments") or {}, suite["output_dir"]
    if not isinstance(common, dict):
        raise SuiteError(f"{path}: arguments: {common!r} does not map names to arguments of run_ser.py.")
    _check_arguments(path, "arguments", common)
    if not isinstance(output_dir, str):
        raise SuiteError(f"{path}: output_dir: {output_dir!r} is not text; put a folder's name in quotes.")
    runs = []
    for preset, row in presets.items():
        seeds = row.pop("seeds", suite.get("seeds", [DEFAULT_SEED]))
        if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
            raise SuiteError(f"{path}: seeds of {preset}: {seeds!r} is not a list of whole numbers, like [42, 43].")
        if len(set(seeds)) < len(seeds):
            raise SuiteError(f"{path}: seeds of {preset}: {seeds!r} has one twice.")
        for seed in seeds:
            for corpus, column in corpora.items():
                arguments = {**common, **column, "preset": preset, **row, "seed": seed}
                if arguments.get("model_name_or_path") and "preset" not in row:
                    del arguments["preset"]  # a model brings its own, and run_ser.py refuses another
                else:
                    _check_preset(path, preset, arguments["preset"])
                arguments = _expanded(path, arguments)
                folder = Path(_expanded(path, output_dir)) / corpus / preset / f"seed_{seed}"
                runs.append(Run(corpus, preset, seed, folder, _num_folds(path, corpus, arguments), arguments))
    return runs


def _table(path: Path, suite: dict, key: str) -> dict[str, dict]:
    """The columns or rows by name; a list names presets without further arguments."""
    table = suite[key]
    if isinstance(table, list) and key == "presets":
        wrong = [name for name in table if not isinstance(name, str)]
        if wrong:
            raise SuiteError(
                f"{path}: presets: {wrong[0]!r} is not the name of a preset; rows with arguments go without the dash."
            )
        table = dict.fromkeys(table)
    if not isinstance(table, dict) or not table:
        raise SuiteError(f"{path}: {key} must map names to arguments of run_ser.py.")
    for name, arguments in table.items():
        # A folder has this name; the report's is beside the columns'.
        if not isinstance(name, str) or not FOLDER_NAME.fullmatch(name) or (key, name) == ("corpora", "report"):
            raise SuiteError(f"{path}: {key}: {name!r} cannot name a folder of its own; give another name.")
        if not isinstance(arguments or {}, dict):
            raise SuiteError(f"{path}: {key}: {name}: {arguments!r} does not map names to arguments of run_ser.py.")
        reserved = {"output_dir", "folds", "seed"} & (arguments or {}).keys()
        if reserved:
            raise SuiteError(f"{path}: {key}: {name}: {', '.join(sorted(reserved))} is the suite's to give.")
        _check_arguments(path, f"{key}: {name}", arguments or {}, more=("seeds",) if key == "presets" else ())
    return {name: dict(arguments or {}) for name, arguments in table.items()}


def _check_arguments(path: Path, place: str, arguments: dict, more: Sequence[str] = ()) -> None:
    known = [*ARGUMENTS, *more]
    for name in arguments:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            raise SuiteError(
                f"{path}: {place}: {name} is no argument of run_ser.py"
                + (f"; is it {close[0]}?" if close else ". `run-ser --help` lists them.")
            )


def _check_preset(path: Path, row: str, preset) -> None:
    try:
        base_of(str(preset))
    except ValueError as error:
        raise SuiteError(f"{path}: presets: {row}: {error}") from error


def _expanded(path: Path, value):
    """`value` with the environment variables in its texts put in."""
    if isinstance(value, dict):
        return {name: _expanded(path, item) for name, item in value.items()}
    if isinstance(value, list):
        return [_expanded(path, item) for item in value]
    if not isinstance(value, str):
        return value
    expanded = os.path.expanduser(os.path.expandvars(value))
    if VARIABLE.search(expanded):  # what is left of them: a `$` alone ends many a regular expression
        raise SuiteError(f"{path}: {value}: there is no such environment variable; set it, or write the path itself.")
    return expanded


def _num_folds(path: Path, corpus: str, arguments: dict) -> int:
    names = arguments.get("corpus")
    name = names[0] if isinstance(names, list) and len(names) == 1 else names
    known = STANDARD_FOLDS.get(str(name), {}).get(str(arguments.get("protocol", "speakers")))
    num_folds = arguments.get("num_folds", known)
    if type(num_folds) is not int or num_folds < 1:
        raise SuiteError(f"{path}: corpora: {corpus}: say num_folds, a whole number: the cells are counted by it.")
    return num_folds


def write_grid(runs: Sequence[Run]) -> None:
    """List the runs in their output folder."""
    lines = [
        {"corpus": run.corpus, "preset": run.preset, "seed": run.seed, "num_folds": run.num_folds} for run in runs
    ]
    folder = runs[0].folder.parents[2]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / GRID_FILE, {"runs": lines})


def cells_of(runs: Sequence[Run], task: int = 0, num_tasks: int = 1) -> dict[Run, list[int]]:
    """
    The cells of an array job, as folds by run: every `num_tasks`-th of the grid, complete or not, so that jobs that
    start at different times never share one.
    """
    cells = [(run, fold) for run in runs for fold in range(run.num_folds)]
    mine: dict[Run, list[int]] = {}
    for run, fold in cells[task::num_tasks]:
        mine.setdefault(run, []).append(fold)
    return mine


class Suite:
    """
    Goes through the cells of some runs.

    Args:
        cells: folds by run, from `cells_of`.
        jobs: how many processes work at the same time.
    """

    def __init__(self, cells: dict[Run, list[int]], jobs: int = 1):
        self.cells, self.jobs = cells, jobs
        self.failures: dict[tuple[Run, int | None], str] = {}
        self.stopped = False
        self._processes: set[subprocess.Popen] = set()
        self._lock = threading.Lock()

    def run(self) -> dict[tuple[Run, int | None], str]:
        """
        Run what is not complete.

        Returns:
            The cells that failed, with what their process said last; a fold of `None` is the pooling of a run.
        """
        with tqdm(total=sum(map(len, self.cells.values())), unit="fold", initial=self._num_complete()) as self._bar:
            # A run's folds are dealt to all jobs, so that runs are finished one after the other.
            todo = {run: [fold for fold in folds if not run.is_complete(fold)] for run, folds in self.cells.items()}
            parts = [(run, folds[job :: self.jobs]) for run, folds in todo.items() for job in range(self.jobs)]
            with ThreadPoolExecutor(self.jobs) as pool:
                list(pool.map(lambda part: self._run_folds(*part), parts))
            with ThreadPoolExecutor(self.jobs) as pool:
                list(pool.map(self._pool, self.cells))
        return self.failures

    def stop(self) -> None:
        """End the processes; what they had finished is kept."""
        with self._lock:
            self.stopped = True
            for process in self._processes:
                process.terminate()

    def _run_folds(self, run: Run, folds: list[int]) -> None:
        """Some folds of a run in one process, or after a failure in another without the fold that failed."""
        failed_at_once = False
        while folds and not self.stopped:
            message = self._call(run, folds)
            left = [fold for fold in folds if not run.is_complete(fold)]
            if message is None or self.stopped:
                return
            at_once = len(left) == len(folds)
            # Twice in a row without a fold: what is wrong is not the fold.
            wrong = left if at_once and failed_at_once else left[:1]
            for fold in wrong:
                self._fail(run, fold, message)
            failed_at_once, folds = at_once, left[len(wrong) :]

    def _pool(self, run: Run) -> None:
        if run.open_folds or run.is_pooled or self.stopped:
            return
        message = self._call(run, None)
        if message is not None and not self.stopped:
            self._fail(run, None, message)

    def _fail(self, run: Run, fold: int | None, message: str) -> None:
        there_are = re.match(r"--folds .*: there are (\d+) folds", message)
        if there_are:  # part of a corpus, say: the suite cannot know, since it reads none
            message += f" The suite counts {run.num_folds}: give {run.corpus} num_folds: {there_are[1]} in its file."
        self.failures[run, fold] = message
        self._bar.write(f"failed: {cell_name(run, fold)}: {message}")

    def _call(self, run: Run, folds: list[int] | None) -> str | None:
        """Call run_ser.py; what it said last if it failed."""
        run.folder.mkdir(parents=True, exist_ok=True)
        arguments = {**run.arguments, "output_dir": str(run.folder), "final_model": "none", "disable_tqdm": True}
        write_atomically(run.folder / RUN_FILE, yaml.safe_dump(arguments, sort_keys=False, allow_unicode=True))
        command = [sys.executable, "-m", "run_ser", str(run.folder / RUN_FILE)]
        if folds is not None:
            command += ["--folds", *map(str, folds)]
        self._bar.set_postfix_str(str(run))
        with open(run.folder / LOG_FILE, "a+b") as log:
            start = log.seek(0, os.SEEK_END)
            with self._lock:
                if self.stopped:
                    return None
                process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
                self._processes.add(process)
            while process.returncode is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_S)
                self._bar.update(self._num_complete() - self._bar.n)
            with self._lock:
                self._processes.discard(process)
            log.seek(start)
            output = log.read().decode(errors="replace")
        return _last_words(output, process.returncode) if process.returncode else None

    def _num_complete(self) -> int:
        return sum(run.is_complete(fold) for run, folds in self.cells.items() for fold in folds)


def cell_name(run: Run, fold: int | None) -> str:
    """A cell and where its process's output is."""
    return f"{run}, {'pooling' if fold is None else f'fold {fold}'} ({run.folder / LOG_FILE})"


def _last_words(output: str, returncode: int) -> str:
    """run-ser's own message, or the last line of a traceback."""
    message = re.search(r"^run-ser: (.*)", output[output.rfind("\nrun-ser: ") + 1 :], re.DOTALL)
    if message:
        return message[1].strip()
    lines = output.strip().splitlines()
    return lines[-1] if lines else f"exit status {returncode}"


def status(runs: Iterable[Run]) -> str:
    """A table of how many folds of each run are complete: a line a row and seed, a column a corpus."""
    runs = list(runs)
    corpora = list(dict.fromkeys(run.corpus for run in runs))
    lines = {}
    for run in runs:
        done = run.num_folds - len(run.open_folds)
        line = lines.setdefault((run.preset, run.seed), dict.fromkeys(corpora, ""))
        line[run.corpus] = f"{done}/{run.num_folds}" + ("" if run.is_pooled or done < run.num_folds else " not pooled")
    rows = [["preset", "seed", *corpora]]
    rows += [[preset, str(seed), *columns.values()] for (preset, seed), columns in lines.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def main() -> None:
    """Console entry."""
    parser = argparse.ArgumentParser(
        prog="python -m ser_protocol.suite", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suite", help="A YAML file, as above.")
    parser.add_argument("--jobs", type=int, default=1, help="Processes at the same time (default 1).")
    parser.add_argument("--task", type=int, default=0, help="Which array job this is, from 0 (default 0).")
    parser.add_argument("--num_tasks", type=int, default=1, help="Array jobs that share the cells (default 1).")
    parser.add_argument("--status", action="store_true", help="Show what is complete, and run nothing.")
    arguments = parser.parse_args()
    if arguments.jobs < 1 or not 0 <= arguments.task < arguments.num_tasks:
        parser.error("--jobs is at least 1, and --task from 0 to below --num_tasks.")
    try:
        runs = read_suite(arguments.suite)
    except SuiteError as error:
        sys.exit(f"suite: {error}")
    if arguments.status:
        print(status(runs))
        return
    write_grid(runs)
    suite = Suite(cells_of(runs, arguments.task, arguments.num_tasks), arguments.jobs)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: suite.stop())
    failures = suite.run()
    print(status(runs))
    for (run, fold), message in failures.items():
        print(f"failed: {cell_name(run, fold)}: {message}")
    if suite.stopped:
        sys.exit("suite: stopped. The same command goes on where it was.")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
