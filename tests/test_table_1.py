"""The commands of results/README.md that would fill Table 1: a cell each, and they run on tiny random checkpoints."""

import json
import re
import subprocess
from itertools import product
from pathlib import Path

import pytest
from test_lora import save_encoder
from tiny_runs import call, write_ravdess

import run_ser
from dataset_scripts.folds import STANDARD_FOLDS
from modeling_camulenet import CAMuLeNetConfig
from ser_protocol.statistics import read_predictions
from ser_protocol.suite import read_suite

README = Path(__file__).parent.parent / "results" / "README.md"
CORPORA = ("crema_d", "iemocap", "ravdess", "emodb", "cafe", "bhavvani")
MEDIUM = "openai/whisper-medium"
OURS = ("camulenet", "camulenet-no-multitask", "camulenet-no-coattention-no-multitask")
CONTEXTS = ("clip", "padded")
# Rows of the table: preset, encoder, context.
ROWS = [
    ("baseline", "facebook/wav2vec2-base", "clip"),
    ("baseline", "facebook/hubert-base-ls960", "clip"),
    ("baseline", "microsoft/wavlm-base", "clip"),
    *product(["baseline"], ["openai/whisper-base"], CONTEXTS),
    *product(["baseline", *OURS], [MEDIUM], CONTEXTS),
]


def family_of(encoder: str) -> str:
    """The model type of a Hub id here."""
    return encoder.split("/")[1].split("-")[0]


@pytest.fixture(scope="module")
def section() -> str:
    return README.read_text(encoding="utf-8").split("\n## Table 1")[1].split("\n## ")[0]


@pytest.fixture(scope="module")
def commands(section) -> dict[tuple, list[str]]:
    """Corpus, preset, encoder and context of each command of the loop, and its arguments."""
    (script,) = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    shown = subprocess.run(
        ["bash", "-euc", 'accelerate() { echo "$*"; }\n' + script], capture_output=True, text=True, check=True
    ).stdout
    found = {}
    for launch, program, *argv in map(str.split, shown.splitlines()):
        assert (launch, program) == ("launch", "run_ser.py")
        flags = dict(zip(argv[::2], argv[1::2], strict=True))
        cell = tuple(flags[f"--{name}"] for name in ("corpus", "preset", "encoder_name_or_path", "encoder_context"))
        assert cell not in found
        found[cell] = argv
    return found


def test_there_is_a_command_for_every_cell(commands):
    assert sorted(commands) == sorted((corpus, *row) for corpus in CORPORA for row in ROWS)
    folders = [argv[argv.index("--output_dir") + 1] for argv in commands.values()]
    assert len(set(folders)) == len(folders) == 78


def test_the_suite_does_what_the_commands_do(commands, monkeypatch):
    for corpus in CORPORA:
        monkeypatch.setenv(corpus.upper(), f"DIR/{corpus}")
    runs = read_suite(README.with_name("table_1.yaml"))
    cells = {}
    for run in runs:
        arguments = dict(run.arguments)
        assert arguments.pop("seed") == 42
        cell = tuple(arguments[name] for name in ("corpus", "preset", "encoder_name_or_path", "encoder_context"))
        cells[cell] = [text for name, value in arguments.items() for text in (f"--{name}", str(value))]
    for cell, argv in commands.items():
        flags = dict(zip(argv[::2], argv[1::2]))
        del flags["--output_dir"]
        assert flags == dict(zip(cells[cell][::2], cells[cell][1::2]))
    assert len(runs) == len(cells) == len(commands)
    (report,) = re.findall(r"ser_protocol.report runs/table_1 --reference (\S+) --baseline (\S+)", README.read_text())
    assert set(report) < {run.preset for run in runs} and runs[0].folder.parts[:2] == ("runs", "table_1")


def test_the_table_has_a_row_for_every_command(section):
    rows = re.findall(r"^\| `(.+)`, (.+), (.+) \|( \|){6}$", section, re.MULTILINE)
    assert [row[:3] for row in rows] == [(preset, name.split("/")[1], context) for preset, name, context in ROWS]
    assert len(re.findall(r"^\| .*, the paper( \| \.\d{3}/\.\d{3}){6} \|$", section, re.MULTILINE)) == 8


def test_the_folds_are_those_that_are_data(commands):
    for (corpus, *_), argv in commands.items():
        assert argv[argv.index("--num_folds") + 1] == str(STANDARD_FOLDS[corpus]["speakers"])


def test_the_arguments_are_known(commands):
    for row in ROWS:
        model_args, data_args, _ = run_ser.parse_arguments(commands["cafe", *row])
        assert (model_args.preset, model_args.encoder_name_or_path, model_args.encoder_context) == row
        assert (data_args.corpus, data_args.protocol, data_args.num_folds) == (["cafe"], "speakers", 6)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """A tiny random checkpoint of the same family for each encoder of the commands."""
    folders = {}
    for encoder in sorted({encoder for _, encoder, _ in ROWS}):
        family = family_of(encoder)
        folders[encoder] = tmp_path_factory.mktemp(family)
        # The base models have a group norm.
        save_encoder("whisper" if family == "whisper" else f"{family}, group norm", folders[encoder])
    return folders


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Arguments that name 12 tones of 6 speakers and a cache, of which one fold is trained for one epoch."""
    folder = write_ravdess(tmp_path_factory.mktemp("ravdess"), emotions=("01", "05"), statements=(1,))
    fold = ("--num_folds", 3, "--folds", 0, "--num_train_epochs", 1)
    return "--data_dir", folder, "--cache_dir", tmp_path_factory.mktemp("cache"), *fold


@pytest.mark.parametrize("row", ROWS, ids=", ".join)
def test_every_row_runs(commands, checkpoints, corpus, tmp_path, row):
    argv = commands["ravdess", *row]
    argv = [str(checkpoints.get(argument, argument)) for argument in argv]
    call(*argv, *corpus, "--output_dir", tmp_path)  # the last of two flags wins
    preset, encoder, context = row
    config = CAMuLeNetConfig.from_pretrained(tmp_path / "fold_00")
    assert config.encoder_config.model_type == family_of(encoder)
    assert config.encoder_context == context and config.freeze_encoder
    assert config.fusion == {"baseline": "image", "camulenet-no-coattention-no-multitask": "concat"}.get(
        preset, "co_attention"
    )
    assert (config.num_genders > 0) == (preset == "camulenet")
    metrics = json.loads((tmp_path / "fold_00/metrics.json").read_text())
    assert ("gender_wa" in metrics["test"]) == (preset == "camulenet")
    assert set(read_predictions(tmp_path / "fold_00/predictions.csv")["speaker_id"]) == {"ravdess/01", "ravdess/02"}
