"""ser_protocol.suite: what a file asks for, which cells are run, what is told of those that fail."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tiny_runs import write_ravdess

import run_ser
from ser_protocol.statistics import read_predictions
from ser_protocol.suite import GRID_FILE, Suite, SuiteError, cells_of, main, read_suite, status

ROOT = Path(__file__).parent.parent
CORPORA = {"one": {"corpus": "ravdess", "data_dir": "one", "num_folds": 3}, "two": {"corpus": "emodb", "num_folds": 2}}

# In the place of run_ser.py: notes its call, completes its folds, and fails at those that FAIL names.
STAND_IN = """
import json, os, sys, time
from pathlib import Path

import yaml

arguments = yaml.safe_load(Path(sys.argv[1]).read_text())
out = Path(arguments["output_dir"])
folds = [int(fold) for fold in sys.argv[3:]]
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([arguments["output_dir"], folds]) + "\\n")
for fold in folds:
    time.sleep(float(os.environ.get("SECONDS_A_FOLD", 0)))
    if f"{out.parent.name}:{fold}" in os.environ.get("FAIL", "").split():
        print("something before")
        sys.exit(f"run-ser: fold {fold} has no luck\\n  at all")
    for name in ("predictions.csv", "metrics.json"):
        path = out / f"fold_{fold:02d}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{arguments['preset']} {arguments['seed']}")
if all((out / f"fold_{fold:02d}" / "metrics.json").is_file() for fold in range(arguments["num_folds"])):
    (out / "results.json").write_text("{}")
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A folder in which `python -m run_ser` is the stand-in; gives a function that reads its calls so far."""
    (tmp_path / "run_ser.py").write_text(STAND_IN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    (tmp_path / "calls").touch()
    return lambda: [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]


def write(folder: Path, **suite) -> Path:
    path = folder / "suite.yaml"
    suite = {"output_dir": "out", "corpora": CORPORA, "presets": ["a", "b"], **suite}
    if set(map(str, suite["presets"] or ())) <= {"a", "b"}:  # rows whose name is no preset
        suite["presets"] = {name: {"preset": "paper"} for name in suite["presets"]}
    path.write_text(yaml.safe_dump(suite, sort_keys=False))
    return path


# ---------------------------------------------------------------------------------------------------------------------
# The file


def test_the_runs_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA", "/data")
    path = write(
        tmp_path,
        arguments={"num_train_epochs": 3, "cache_dir": "$DATA/cache"},
        corpora={
            "ravdess": {"corpus": "ravdess", "data_dir": "$DATA/ravdess", "num_train_epochs": 5},
            "both": {"corpus": ["ravdess", "emodb"], "data_dir": ["$DATA/ravdess", "emodb"], "num_folds": 4},
        },
        presets={"paper": None, "narrow": {"preset": "paper", "branches": ["mfcc"], "seeds": [1, 2]}},
        seeds=[7],
    )
    runs = read_suite(path)
    assert [(run.corpus, run.preset, run.seed, run.num_folds) for run in runs] == [
        ("ravdess", "paper", 7, 12),  # the corpus's standard number of folds
        ("both", "paper", 7, 4),
        ("ravdess", "narrow", 1, 12),
        ("both", "narrow", 1, 4),
        ("ravdess", "narrow", 2, 12),
        ("both", "narrow", 2, 4),
    ]
    assert runs[0].arguments == {
        "num_train_epochs": 5,
        "cache_dir": "/data/cache",
        "corpus": "ravdess",
        "data_dir": "/data/ravdess",
        "preset": "paper",
        "seed": 7,
    }
    assert runs[3].arguments["data_dir"] == ["/data/ravdess", "emodb"]
    assert runs[3].arguments["branches"] == ["mfcc"] and runs[3].arguments["preset"] == "paper"
    assert runs[3].folder == Path("out/both/narrow/seed_1")


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        ({"preset": ["a"], "seed": 1}, "unknown keys preset, seed; known are arguments, corpora, output_dir"),
        ({"corpora": None}, "corpora must map names to arguments"),
        ({"corpora": {"own": {"corpus": "own"}}}, "corpora: own: say num_folds"),
        (
            {"corpora": {"x": {"data_dir": "$NOT_SET_AT_ALL/x", "num_folds": 2}}},
            r"\$NOT_SET_AT_ALL/x: there is no such",
        ),
        ({"presets": {"paper": ["mfcc"]}}, r"presets: paper: \['mfcc'\] does not map names"),
        ({"presets": {"paper": {"output_dir": "x"}}}, "presets: paper: output_dir is the suite's to give"),
        ({"seeds": 42}, "seeds of a: 42 is not a list"),
        ({"seeds": []}, r"seeds of a: \[\] is not a list of whole numbers"),
        ({"seeds": [True]}, r"seeds of a: \[True\] is not a list of whole numbers"),
        ({"seeds": [-1]}, r"seeds of a: \[-1\] is not a list of whole numbers"),
        ({"seeds": [42, 42]}, r"seeds of a: \[42, 42\] has one twice"),
        (
            {"arguments": {"learning_rat": 1}},
            "arguments: learning_rat is no argument of run_ser.py; is it learning_rate",
        ),
        ({"corpora": {"x": {"protocl": "loso"}}}, "corpora: x: protocl is no argument of run_ser.py; is it protocol"),
        (
            {"presets": {"paper": {"zzzz": 1}}},
            "presets: paper: zzzz is no argument of run_ser.py. `run-ser --help` lists",
        ),
        ({"corpora": {"x": {"seeds": [1], **CORPORA["one"]}}}, "corpora: x: seeds is no argument of run_ser.py"),
        ({"presets": ["camulenet-smal"]}, "presets: camulenet-smal: Unknown preset 'camulenet-smal'; known are"),
        ({"presets": {"x": {"preset": ["paper"]}}}, "presets: x: Unknown preset"),
        ({"presets": {None: {"preset": "paper"}}}, "presets: None cannot name a folder"),
        ({"corpora": {"report": CORPORA["one"]}}, "corpora: 'report' cannot name a folder of its own"),
        ({"corpora": {"../x": CORPORA["one"]}}, "corpora: '../x' cannot name a folder"),
        ({"corpora": {"x": {"corpus": "emodb", "num_folds": True}}}, "corpora: x: say num_folds"),
        ({"arguments": ["a", "b"]}, r"arguments: \['a', 'b'\] does not map names"),
        ({"arguments": "num_folds"}, "arguments: 'num_folds' does not map names"),
        ({"output_dir": 2024}, "output_dir: 2024 is not text; put a folder's name in quotes"),
        (
            {"presets": [{"a": {"seeds": [1]}}]},
            r"presets: \{'a': .*\} is not the name of a preset; rows with arguments",
        ),
        ({"corpora": {"own": {"corpus": 3}}}, "corpora: own: say num_folds"),
        ({"corpora": {"own": {"corpus": "emodb", "protocol": ["loso"]}}}, "corpora: own: say num_folds"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_what_is_wrong(tmp_path, suite, message):
    with pytest.raises(SuiteError, match=message):
        read_suite(write(tmp_path, **suite))


def test_a_dollar_that_names_no_variable_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA", "/data")
    pattern = r"(?P<speaker>s\d+)_\d+[.]wav$"
    own = {"corpus": "own", "data_dir": "${DATA}/x", "file_pattern": pattern, "num_folds": 2}
    [run] = read_suite(write(tmp_path, corpora={"own": own}, presets=["a"]))
    assert run.arguments["file_pattern"] == pattern and run.arguments["data_dir"] == "/data/x"
    for name in ("$NOT_SET_AT_ALL", "${NOT_SET_AT_ALL}"):
        with pytest.raises(SuiteError, match="there is no such environment variable"):
            read_suite(write(tmp_path, corpora={"own": {**own, "data_dir": name}}))
    [run] = read_suite(write(tmp_path, corpora={"own": {**own, "note": "costs US$5"}}, presets=["a"]))
    assert run.arguments["note"] == "costs US$5"


def test_a_row_of_a_model_gets_no_preset(tmp_path):
    rows = {
        "tuned": {"model_name_or_path": "m"},
        "both": {"model_name_or_path": "m", "preset": "paper"},
        "paper": None,
    }
    runs = read_suite(write(tmp_path, corpora={"one": CORPORA["one"]}, presets=rows))
    assert [run.arguments.get("preset") for run in runs] == [None, "paper", "paper"]  # run_ser.py refuses the second
    assert runs[0].folder == Path("out/one/tuned/seed_42")
    [run] = read_suite(
        write(
            tmp_path, arguments={"model_name_or_path": "m"}, corpora={"one": CORPORA["one"]}, presets={"tuned": None}
        )
    )
    assert "preset" not in run.arguments


def test_the_command_says_what_is_wrong(tmp_path, monkeypatch, capsys):
    path = tmp_path / "suite.yaml"
    path.write_text("corpora: [")
    monkeypatch.setattr(sys, "argv", ["suite", str(path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code.startswith(f"suite: {path} is not YAML: while parsing")
    for wrong in (["--jobs", "0"], ["--task", "2", "--num_tasks", "2"], ["--task", "-1"]):
        monkeypatch.setattr(sys, "argv", ["suite", str(path), *wrong])
        with pytest.raises(SystemExit):
            main()
        assert "--jobs is at least 1, and --task from 0 to below --num_tasks." in capsys.readouterr().err


def test_status_runs_nothing(tmp_path, stand_in, monkeypatch, capsys):
    path = write(tmp_path)
    monkeypatch.setattr(sys, "argv", ["suite", str(path), "--status"])
    main()
    assert capsys.readouterr().out == status(read_suite(path)) + "\n" and stand_in() == []


def test_a_file_that_is_no_suite(tmp_path):
    with pytest.raises(SuiteError, match="There is no suite file .*none.yaml"):
        read_suite(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(SuiteError, match="must hold the keys"):
        read_suite(tmp_path / "list.yaml")
    (tmp_path / "latin.yaml").write_bytes("output_dir: é\n".encode("latin-1"))
    with pytest.raises(SuiteError, match="latin.yaml is not UTF-8 .*; save it as UTF-8"):
        read_suite(tmp_path / "latin.yaml")
    (tmp_path / "date.yaml").write_text("output_dir: 2001-99-99\n")
    with pytest.raises(SuiteError, match="date.yaml is not YAML"):
        read_suite(tmp_path / "date.yaml")
    (tmp_path / "part.yaml").write_text("corpora: {}\n")
    with pytest.raises(SuiteError, match="lacks output_dir, presets"):
        read_suite(tmp_path / "part.yaml")
    (tmp_path / "twice.yaml").write_text("output_dir: x\ncorpora:\n  a: {}\n  a: {}\n")
    with pytest.raises(SuiteError, match="twice.yaml is not YAML: a twice in one map; leave one out"):
        read_suite(tmp_path / "twice.yaml")


# ---------------------------------------------------------------------------------------------------------------------
# The cells


def test_the_report_knows_what_is_to_come(tmp_path, stand_in, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["suite", str(write(tmp_path, seeds=[1, 2])), "--task", "1", "--num_tasks", "9"])
    with pytest.raises(SystemExit):
        main()
    runs = json.loads((tmp_path / "out" / GRID_FILE).read_text())["runs"]
    assert runs == [
        {"corpus": corpus, "preset": preset, "seed": seed, "num_folds": num_folds}
        for preset in "ab"
        for seed in (1, 2)
        for corpus, num_folds in (("one", 3), ("two", 2))
    ]


def test_every_cell_is_run_once_in_a_process_a_run(tmp_path, stand_in):
    runs = read_suite(write(tmp_path, seeds=[1, 2]))
    assert Suite(cells_of(runs)).run() == {}
    assert stand_in() == [
        [f"out/{corpus}/{preset}/seed_{seed}", list(range(folds))]
        for preset in "ab"
        for seed in (1, 2)
        for corpus, folds in (("one", 3), ("two", 2))
    ]
    assert (tmp_path / "out/two/b/seed_2/fold_01/metrics.json").read_text() == "paper 2"
    assert status(runs).splitlines() == [
        "preset  seed  one  two",
        "a       1     3/3  2/2",
        "a       2     3/3  2/2",
        "b       1     3/3  2/2",
        "b       2     3/3  2/2",
    ]


def test_what_is_complete_is_not_run_again(tmp_path, stand_in):
    runs = read_suite(write(tmp_path, presets=["a"]))
    for fold, names in ((0, ("predictions.csv", "metrics.json")), (1, ("metrics.json",))):
        for name in names:
            path = runs[0].folder / f"fold_{fold:02d}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("before")
    assert "1/3" in status(runs)
    Suite(cells_of(runs)).run()
    assert stand_in() == [["out/one/a/seed_42", [1, 2]], ["out/two/a/seed_42", [0, 1]]]
    assert (runs[0].folder / "fold_00" / "metrics.json").read_text() == "before"
    Suite(cells_of(runs)).run()
    assert len(stand_in()) == 2
    (runs[1].folder / "results.json").unlink()  # all folds are there: only pooled
    assert "2/2 not pooled" in status(runs)
    Suite(cells_of(runs)).run()
    assert stand_in()[2:] == [["out/two/a/seed_42", []]]


def test_two_jobs_share_each_run(tmp_path, stand_in):
    Suite(cells_of(read_suite(write(tmp_path, presets=["a"]))), jobs=2).run()
    assert sorted(stand_in()) == [
        ["out/one/a/seed_42", [0, 2]],
        ["out/one/a/seed_42", [1]],
        ["out/two/a/seed_42", [0]],
        ["out/two/a/seed_42", [1]],
    ]


def test_array_jobs_share_all_cells_and_none_twice(tmp_path):
    runs = read_suite(write(tmp_path, seeds=[1, 2, 3]))
    parts = [cells_of(runs, task, 4) for task in range(4)]
    shared = [(run, fold) for part in parts for run, folds in part.items() for fold in folds]
    assert len(shared) == len(set(shared)) == 30
    assert set(shared) == {(run, fold) for run in runs for fold in range(run.num_folds)}
    assert max(sum(map(len, part.values())) for part in parts) == 8


def test_a_cell_that_fails_does_not_stop_the_rest(tmp_path, stand_in, monkeypatch, capsys):
    monkeypatch.setenv("FAIL", "a:1")
    monkeypatch.setattr(sys, "argv", ["suite", str(write(tmp_path))])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert stand_in()[:3] == [
        ["out/one/a/seed_42", [0, 1, 2]],
        ["out/one/a/seed_42", [2]],
        ["out/two/a/seed_42", [0, 1]],
    ]
    printed = capsys.readouterr().out
    assert "a       42    2/3  1/2" in printed and "b       42    3/3  2/2" in printed
    log = "out/one/a/seed_42/suite.log"
    assert f"failed: one / a / seed 42, fold 1 ({log}): fold 1 has no luck\n  at all\n" in printed
    assert "something before" in (tmp_path / log).read_text()
    # Mended, only what failed is run.
    monkeypatch.setenv("FAIL", "")
    before = len(stand_in())
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert stand_in()[before:] == [["out/one/a/seed_42", [1]], ["out/two/a/seed_42", [1]]]


def test_a_run_that_fails_whatever_the_fold_is_given_up(tmp_path, stand_in, monkeypatch):
    monkeypatch.setenv("FAIL", "a:0 a:1 a:2")
    runs = read_suite(write(tmp_path))
    failures = Suite(cells_of(runs)).run()
    assert [(run.corpus, run.preset, fold) for run, fold in failures] == [
        ("one", "a", 0),
        ("one", "a", 1),
        ("one", "a", 2),
        ("two", "a", 0),
        ("two", "a", 1),
    ]
    assert [folds for folder, folds in stand_in() if folder == "out/one/a/seed_42"] == [[0, 1, 2], [1, 2]]


def test_fewer_folds_than_the_suite_counts(tmp_path, monkeypatch):
    """Part of a corpus has fewer folds than the whole; what run_ser.py says of it becomes a remedy."""
    with pytest.raises(run_ser.RunError) as error:
        run_ser.chosen_folds([None] * 2, range(3))
    monkeypatch.setattr(Suite, "_call", lambda *_: str(error.value))
    [run] = read_suite(write(tmp_path, corpora={"one": CORPORA["one"]}, presets=["a"]))
    failures = Suite(cells_of([run])).run()
    message = "--folds 2: there are 2 folds, 0 to 1. The suite counts 3: give one num_folds: 2 in its file."
    assert failures == {(run, fold): message for fold in range(3)}


def test_a_stopped_suite_ends_its_processes_and_goes_on_later(tmp_path, stand_in):
    path = write(tmp_path, presets=["a"])
    environment = {**os.environ, "SECONDS_A_FOLD": "0.5", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "ser_protocol.suite", str(path)], env=environment, stderr=subprocess.PIPE, text=True
    )
    first = tmp_path / "out/one/a/seed_42/fold_00/metrics.json"
    deadline = time.monotonic() + 60
    while not first.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and "The same command goes on" in errors
    assert not (tmp_path / "out/two").exists()
    runs = read_suite(path)
    assert 1 <= 3 - len(runs[0].open_folds) < 3
    assert Suite(cells_of(runs)).run() == {}
    assert [run.open_folds for run in runs] == [[], []]


# ---------------------------------------------------------------------------------------------------------------------
# The real run_ser.py


def test_a_suite_gives_what_run_ser_gives(tmp_path, monkeypatch):
    write_ravdess(tmp_path / "data", actors=range(1, 5), statements=(1,))
    common = {
        "data_dir": str(tmp_path / "data"),
        "cache_dir": str(tmp_path / "cache"),
        "num_train_epochs": 1,
        "speed_factors": [1.0],
        "use_cpu": True,
    }
    path = write(
        tmp_path,
        output_dir=str(tmp_path / "out"),
        arguments=common,
        corpora={"ravdess": {"corpus": "ravdess", "num_folds": 2, "note": "Tones, no voices."}},
        presets={"narrow": {"preset": "camulenet-small", "branches": ["mfcc"]}},
    )
    monkeypatch.chdir(ROOT)
    [run] = read_suite(path)
    assert Suite(cells_of([run])).run() == {}
    assert not (run.folder / "final").exists()
    results = json.loads((run.folder / "results.json").read_text())
    assert results["run"]["branches"] == ["mfcc"] and results["run"]["disclaimer"] == "Tones, no voices."
    assert "--branches mfcc" in results["run"]["command"]  # what is in the file, not the file's name
    # By hand, the same folds.
    flags = [text for name, value in {**common, "corpus": "ravdess"}.items() for text in (f"--{name}", str(value))]
    flags[flags.index("[1.0]")] = "1.0"
    by_hand = tmp_path / "by_hand"
    subprocess.run(
        [sys.executable, "run_ser.py", *flags, "--num_folds", "2", "--branches", "mfcc", "--seed", "42"]
        + ["--output_dir", str(by_hand), "--final_model", "none", "--disable_tqdm", "true"],
        check=True,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    assert read_predictions(run.folder / "predictions.csv").equals(read_predictions(by_hand / "predictions.csv"))
