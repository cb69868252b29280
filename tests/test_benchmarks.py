"""The benchmarks' arithmetic and tables; nothing is timed here."""

import importlib.util
import json
import sys
from pathlib import Path
from subprocess import CalledProcessError
from types import SimpleNamespace

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


def load(name: str):
    """A script of benchmarks/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


measure = load("measure")
run = load("run")
Row = measure.Row


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.0123, "s", "12.3 ms"),
        (1.234, "s", "1.23 s"),
        (59.9, "s", "59.9 s"),
        (90.0, "s", "1.5 min"),
        (4.56e-6, "s", "4.56 µs"),
        (0.0, "s", "0 µs"),
        (1.94e9, "bytes", "1.94 GB"),
        (591.2e6, "bytes", "591 MB"),
        (335_286_438, "parameters", "335 M parameters"),
        (7_460_000, "parameters", "7.46 M parameters"),
        (0, "", "0"),
        (1234, "", "1234"),
        (4.2e-5, "", "4.2e-05"),
    ],
)
def test_quantities(value, unit, expected):
    assert measure.quantity(value, unit) == expected


def test_the_ratio_is_the_median_of_neighbouring_pairs_and_the_spread_their_ends():
    # A load that doubles both sides of the second pair changes nothing; medians apart would.
    row = Row("", "steps", [1.0, 2.0, 1.0], [8.0, 17.0, 9.0], "`paper`")
    assert row.ratios == [8.0, 8.5, 9.0]
    assert measure.ratio_text(row) == "8.5x (8 to 9)"
    assert measure.row_cells(row) == ["steps", "1 s", "9 s: `paper`", "8.5x (8 to 9)", "", ""]


def test_an_even_number_of_repeats_gives_the_mean_of_the_middle_two():
    assert measure.ratio_text(Row("", "", [1.0] * 4, [4.0, 1.0, 2.0, 8.0])) == "3x (1 to 8)"


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        (Row("step_time", "", [1.0], [10.0]), ["10x", "at least 10x", "yes"]),
        (Row("step_time", "", [1.0], [9.9]), ["9.9x", "at least 10x", "**no**"]),
        (Row("cache_frames", "", [2.0e9], [76e9], unit="bytes"), ["38x", "at most 2 GB", "yes"]),
        (Row("cache_frames", "", [2.1e9], [], unit="bytes"), ["", "at most 2 GB", "**no**"]),
        (Row("encoder_passes_of_later_folds", "", [0], unit=""), ["", "at most 0", "yes"]),
        (Row("cached_logits_float32", "", [2e-5], unit=""), ["", "at most 1e-05", "**no**"]),
        (Row("", "", [1.0], [3.0]), ["3x", "", ""]),
    ],
)
def test_targets(row, cells):
    assert measure.row_cells(row)[3:] == cells


def test_targets_are_those_of_rows_that_some_benchmark_writes():
    sources = "".join(path.read_text() for path in FOLDER.glob("*.py") if path.name != "measure.py")
    written = {"features_like_for_like", "features_released", "parameters", "step_time", "step_memory"}
    assert written < set(measure.TARGETS)
    assert all(f'"{key}"' in sources for key in written)


@pytest.fixture
def results(monkeypatch, tmp_path):
    """`run` on three benchmarks that only write a row; returns the calls that were made."""
    calls = []

    def call(command, check, cwd):
        calls.append(Path(command[1]).name)
        if calls[-1] == "broken.py":
            raise CalledProcessError(1, command)
        row = {
            "key": "encoder_base",
            "what": calls[-1],
            "ours": [1.0, 2.0],
            "other": [7.0, 15.0],
            "other_name": "stock",
        }
        Path(command[command.index("--rows") + 1]).write_text(json.dumps([row]))

    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(run, "RESULTS", tmp_path / "RESULTS.md")
    monkeypatch.setattr(run, "RESULTS_GPU", tmp_path / "RESULTS_GPU.md")
    monkeypatch.setattr(run, "code_hash", lambda: "now")
    monkeypatch.setattr(run, "subprocess", SimpleNamespace(run=call, CalledProcessError=CalledProcessError))
    monkeypatch.setattr(sys, "argv", ["run.py"])
    names = ("first", "second", "third")
    monkeypatch.setattr(run, "BENCHMARKS", [run.Benchmark(name, f"{name}.py --some 1") for name in names])
    return calls


def test_the_table(results, tmp_path):
    run.main()
    table = (tmp_path / "RESULTS.md").read_text()
    today = run.datetime.date.today().isoformat()
    cells = ["first.py", "1.5 s", "11 s: stock", "7.25x (7 to 7.5)", "at least 6x", "yes"]
    assert f"| {' | '.join(cells)} | `python benchmarks/first.py --some 1` | {today} |" in table
    assert "Every target is met." in table
    assert str(run.machine()["cores"]) + " cores" in table
    assert not list((tmp_path / "results").glob("unfinished*"))


def test_the_figures_of_a_gpu_have_a_table_of_their_own(results, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "BENCHMARKS", [*run.BENCHMARKS, run.Benchmark("card", "card.py", "gpu")])
    here = run.machine() | {"gpu": "a card"}
    monkeypatch.setattr(run, "machine", lambda: here)
    run.main()
    assert "card.py" not in (tmp_path / "RESULTS.md").read_text()
    monkeypatch.setattr(sys, "argv", ["run.py", "--gpu"])
    monkeypatch.setattr(run.torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):  # says that there is no GPU, before it measures anything
        run.main()
    assert "torch sees none" in capsys.readouterr().err and not (tmp_path / "RESULTS_GPU.md").exists()
    monkeypatch.setattr(run.torch.cuda, "is_available", lambda: True)
    run.main()
    table = (tmp_path / "RESULTS_GPU.md").read_text()
    assert "and one a card" in table and "card.py" in table and "first.py" not in table


def test_a_stopped_call_goes_on_and_a_finished_one_begins_anew(results, tmp_path, monkeypatch):
    benchmarks = run.BENCHMARKS
    broken = [benchmarks[0], run.Benchmark("second", "broken.py"), benchmarks[2]]
    monkeypatch.setattr(run, "BENCHMARKS", broken)
    with pytest.raises(SystemExit, match="Failed: second"):
        run.main()
    assert "first.py" in (tmp_path / "RESULTS.md").read_text()
    monkeypatch.setattr(run, "BENCHMARKS", benchmarks)
    results.clear()
    run.main()
    assert results == ["second.py"]
    run.main()
    assert results == ["second.py", "first.py", "second.py", "third.py"]


def test_rows_of_other_code_or_another_machine_are_not_taken_for_todays(results, tmp_path, monkeypatch):
    run.main()
    results.clear()
    (tmp_path / "results" / "unfinished").write_text("first\nsecond\nthird\n")
    path = tmp_path / "results" / "second.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"code": "before"}))
    path = tmp_path / "results" / "third.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"machine": {"cpu": "another"}}))
    monkeypatch.setattr(run, "BENCHMARKS", [run.BENCHMARKS[0]])
    run.main()
    assert results == []
    assert (tmp_path / "RESULTS.md").read_text().count("first.py --some") == 1


def test_rows_of_earlier_code_say_so(results):
    run.main()
    old = run.read_result("first") | {"code": "before"}
    state = {"code": "now", "machine": old["machine"]}
    assert ", earlier code |" in run.results_markdown([old], state)
    assert "earlier" not in run.results_markdown([run.read_result("second")], state)
