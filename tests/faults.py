"""Faults: runs of run_ser.py that are killed, stopped, out of disk, damaged or beside each other, until they finish.

    python tests/faults.py [--kills 40] [--seed 0] [--only NAME ...]     # make faults; writes docs/faults.md

Every fault meets the same small run from nothing: the cache of a frozen encoder, three folds of two epochs, the final
model. Afterwards the same command is called until it ends, and what it left is compared with what an undisturbed run
leaves, byte by byte but for the times. Each call is a process of its own, forked from one that has imported torch, so
that a random moment of its life is a moment of work.
"""

import argparse
import multiprocessing
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tiny_runs import digest, write_ravdess
from transformers import WhisperConfig, WhisperModel

ROOT = Path(__file__).parent.parent
REPORT = ROOT / "docs" / "faults.md"
NUM_FOLDS = 3
KINDS = 3  # of features in the cache: those of the encoder and of two branches
TIMES = re.compile(r'^ *"(train_s|peak_memory_bytes)": .*$', re.MULTILINE)
ENDS_S = 240  # a call takes seconds; one that hangs is a fault, too
GO_ON = "Finished epochs and folds are kept: the same command goes on from there."
ANEW = "fold goes on without it"

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["run_ser", "transformers.models.whisper.modeling_whisper"])


def damaged(content: bytes, name: str) -> list[bytes]:
    """The content of a file cut in half, and with a bit flipped: in its data, or of a list of checksums in one."""
    place = 40 if name == "SHA256SUMS" else len(content) - 9
    return [content[: len(content) // 2], content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]]


def write_inputs(folder: Path) -> None:
    """A corpus of 48 tones and a tiny Whisper with random weights."""
    write_ravdess(folder / "ravdess")
    torch.manual_seed(0)
    sizes = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16, "vocab_size": 20}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    WhisperModel(WhisperConfig(**sizes, **decoder, **tokens)).save_pretrained(folder / "encoder")


def arguments_of(inputs: Path, num_folds: int = NUM_FOLDS) -> list[str]:
    """The run: relative to the folder that it is called in, so that every one has the same command."""
    flags = {
        "corpus": "ravdess",
        "data_dir": inputs / "ravdess",
        "encoder_name_or_path": inputs / "encoder",
        "preset": "camulenet-small",
        "trainable_encoder_layers": 0,
        "train_on_validation": "false",
        "speed_factors": 0.9,
        "num_folds": num_folds,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 8,
        "output_dir": "out",
        "cache_dir": "cache",
        "use_cpu": "true",
        "disable_tqdm": "true",
    }
    return [str(text) for name, value in flags.items() for text in (f"--{name}", value)]


def call_run_ser(folder: str, argv: list[str], log: str) -> None:
    """What a call does in its process."""
    import run_ser

    signal.signal(signal.SIGINT, signal.default_int_handler)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(folder)
    sys.argv = ["run_ser.py", *argv]
    sys.exit(run_ser.main())


class Call:
    """
    A call of run_ser.py.

    Args:
        folder: that it is called in.
        argv: its arguments.
    """

    def __init__(self, folder: Path, argv: list[str]):
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"log-{len(list(folder.glob('log-*')))}"
        self.log.touch()
        self.process = context.Process(target=call_run_ser, args=(str(folder), argv, str(self.log)))
        self.process.start()

    def ended(self, within_s: float = ENDS_S) -> bool:
        """Whether it ends by itself in some seconds."""
        self.process.join(within_s)
        return self.process.exitcode is not None

    def end(self, number: signal.Signals | None = None) -> int:
        """Its exit status, after a signal if one is given."""
        if number is not None:
            os.kill(self.process.pid, number)
        if not self.ended():
            self.process.kill()
            raise AssertionError(f"A call hangs; it said:\n{self.said()}")
        return self.process.exitcode

    def said(self) -> str:
        """Its output and its errors."""
        return self.log.read_text(errors="replace")


def finish(folder: Path, argv: list[str]) -> str:
    """Call until it ends well, which is at once; what it said."""
    call = Call(folder, argv)
    status = call.end()
    assert status == 0, f"The call after the fault ended with {status}:\n{call.said()}"
    return call.said()


def left_by(folder: Path) -> dict[str, str]:
    """What a finished run left, but for its times: predictions, results and weights by name."""
    out = folder / "out"
    files = {"results.json": TIMES.sub("", (out / "results.json").read_text())}
    files["predictions.csv"] = (out / "predictions.csv").read_text()
    for path in sorted(out.rglob("*.safetensors")):
        files[str(path.relative_to(out))] = digest(path)
    rest = [path for path in out.rglob("*") if path.suffix == ".tmp" or path.name in ("trainer", "locks")]
    return files | {"left over": str(rest)}


def at_work(folder: Path) -> str:
    """What a run was doing when it was killed, by the files that are there."""
    out = folder / "out"
    shards = list((folder / "cache").glob("camulenet_features/*/*.safetensors"))
    folds = [out / f"fold_{index:02d}" for index in range(NUM_FOLDS)]
    if len(shards) < KINDS:
        return "building the cache" if (folder / "cache" / "camulenet_features").exists() else "reading the corpus"
    for fold in folds:
        if not (fold / "metrics.json").exists():
            return "prediction" if (fold / "training.json").exists() else "training"
    return "the final model" if (out / "results.json").exists() else "pooling"


@dataclass(frozen=True)
class Outcome:
    """
    A row of the report.

    Args:
        fault: what was done to a run.
        times: how often.
        happened: what it did.
        lost: of its results.
    """

    fault: str
    times: int
    happened: str
    lost: str = "nothing"


class Faults:
    """
    Faults in a folder.

    Args:
        folder: for inputs and runs.
        seed: of the moments.
    """

    def __init__(self, folder: Path, seed: int = 0):
        self.folder, self.random = folder, np.random.default_rng(seed)
        write_inputs(folder / "inputs")
        self.argv = arguments_of(folder / "inputs")
        finish(folder / "warm", [*self.argv, "--help"])  # imports everything
        self._number, lengths_s = 0, []
        for name in ("undisturbed", "again"):
            started = time.perf_counter()
            finish(folder / name, self.argv)
            lengths_s.append(time.perf_counter() - started)
        self.length_s = min(lengths_s)
        self.expected = left_by(folder / "undisturbed")
        self.check(folder / "again")

    def new_run(self, like: Path | None = None) -> Path:
        """Folder of another run, empty or as another left it."""
        self._number += 1
        folder = self.folder / f"run-{self._number}"
        if like is None:
            folder.mkdir()
        else:
            subprocess.run(["cp", "-a", str(like), str(folder)], check=True)  # hard links stay such
        return folder

    def check(self, folder: Path, expected: dict[str, str] | None = None) -> None:
        """Whether a run left what an undisturbed one does; it is removed."""
        expected, found = self.expected if expected is None else expected, left_by(folder)
        differing = [name for name in {*expected, *found} if expected.get(name) != found.get(name)]
        assert not differing, f"{folder}: {', '.join(sorted(differing))} differ"
        shutil.rmtree(folder)

    def kills(self, count: int) -> Outcome:
        """SIGKILL at random moments, up to three times a run."""
        moments, killed = Counter(), 0
        while killed < count:
            folder = self.new_run()
            for _ in range(min(3, count - killed)):
                call = Call(folder, self.argv)
                # Denser at the start, where the cache is built.
                if call.ended(self.random.uniform() ** 2 * self.length_s):
                    break
                call.end(signal.SIGKILL)
                moments[at_work(folder)] += 1
                killed += 1
            finish(folder, self.argv)
            self.check(folder)
        places = ", ".join(f"{place} {number}" for place, number in moments.most_common())
        return Outcome(f"SIGKILL at a random moment ({places})", count, "the same command went on")

    def stops(self, number: signal.Signals, count: int) -> Outcome:
        """A signal that asks a run to stop."""
        stopped = 0
        while stopped < count:
            folder = self.new_run()
            call = Call(folder, self.argv)
            while not (folder / "cache").exists():  # it has not begun
                assert not call.ended(0.01), call.said()
            if call.ended(self.random.uniform(0, 0.8) * self.length_s):
                continue
            status = call.end(number)
            said = call.said()
            if ": results, plots, card" in said:
                continue  # it was over but for the end of its process
            stopped += 1
            assert status == 128 + number, f"{number.name}: exit status {status}:\n{said}"
            assert said.endswith(f"run-ser: stopped by {number.name}. {GO_ON}\n") and "Traceback" not in said, said
            finish(folder, self.argv)
            self.check(folder)
        name = "Ctrl-C (SIGINT)" if number == signal.SIGINT else number.name
        happened = f"stopped with status {128 + number}, no traceback, said that the same command goes on; it did"
        return Outcome(name, count, happened)

    def refusals(self, folder: Path, place: str, *words: str) -> None:
        """A call that ends with status 1 and says why, without a traceback."""
        call = Call(folder, self.argv)
        status, said = call.end(), call.said()
        last = said.rstrip().splitlines()[-1] if said.strip() else ""
        assert status == 1 and "Traceback" not in said, f"{place}: exit status {status}:\n{said}"
        assert last.startswith("run-ser: ") and all(word in last for word in words), f"{place}: it says {last}"

    def full_disk(self, place: str, shares: tuple[float, ...]) -> Outcome:
        """A disk that fills up, of the run ("out") or of its cache, at some shares of what lies there in the end."""
        whole = sum(path.stat().st_size for path in (self.folder / "undisturbed" / place).rglob("*") if path.is_file())
        for share in shares:
            folder = self.new_run()
            with Disk(folder / place, round(share * whole)) as disk:
                self.refusals(folder, f"{place}, {share:.0%}", "Make room")
                disk.remount("size=1g")
                finish(folder, self.argv)
                shutil.copytree(folder, copy := self.new_run(), dirs_exist_ok=True)
            shutil.rmtree(folder)
            self.check(copy)
        what = "`--output_dir`" if place == "out" else "`--cache_dir`"
        happened = "ended with status 1 and one line that says so; with room, the same command went on"
        return Outcome(f"the disk of {what} is full at {', '.join(f'{s:.0%}' for s in shares)}", len(shares), happened)

    def read_only(self, place: str) -> Outcome:
        """A folder that cannot be written."""
        folder = self.new_run()
        with Disk(folder / place, 10**9) as disk:
            disk.remount("ro")
            self.refusals(folder, place, place, "cannot be written")
            assert place == "cache" or not (folder / "cache").exists(), "It was found out too late."
            disk.remount("rw")
            finish(folder, self.argv)
            shutil.copytree(folder, copy := self.new_run(), dirs_exist_ok=True)
        shutil.rmtree(folder)
        self.check(copy)
        what = "`--output_dir`" if place == "out" else "`--cache_dir`"
        when = " before anything was computed" if place == "out" else ""
        return Outcome(f"{what} is read-only", 1, f"ended with status 1 and one line that says so{when}")

    def interrupted_run(self) -> Path:
        """A run that was killed in fold 1, after a first epoch."""
        folder = self.new_run()
        call = Call(folder, self.argv)
        while not list(folder.glob("out/fold_01/trainer/*/SHA256SUMS")):
            assert not call.ended(0.005), f"No checkpoint was seen:\n{call.said()}"
        call.end(signal.SIGKILL)
        return folder

    def damages(self) -> list[Outcome]:
        """Files that are cut in half, or of which a bit is flipped, one after the other."""
        whole, interrupted = self.folder / "undisturbed", self.interrupted_run()
        fold, checkpoint = "out/fold_01", "out/fold_01/trainer/checkpoint-*"
        rows = []
        for what, run, pattern, redone, happened in (
            ("predictions.csv of a fold", whole, f"{fold}/predictions.csv", "1", "fold predicted again"),
            ("metrics.json of a fold", whole, f"{fold}/metrics.json", "1", "fold predicted again"),
            ("the trained weights of a fold", whole, f"{fold}/model-00002*", "1", "fold trained again"),
            ("training.json of a fold", whole, f"{fold}/training.json", "1", "fold trained again"),
            ("config.json of a fold", whole, f"{fold}/config.json", "1", "fold trained again"),
            ("SHA256SUMS of a fold", whole, f"{fold}/SHA256SUMS", "1", "fold trained again"),
            ("the encoder that all share", whole, "out/encoder.safetensors", "012", "written and linked again"),
            ("weights of the final model", whole, "out/final/model-00002*", "", "trained again"),
            ("weights in the Trainer's checkpoint", interrupted, f"{checkpoint}/model.safetensors", "12", ANEW),
            ("optimizer.pt in it", interrupted, f"{checkpoint}/optimizer.pt", "12", ANEW),
            ("scheduler.pt in it", interrupted, f"{checkpoint}/scheduler.pt", "12", ANEW),
            ("rng_state.pth in it", interrupted, f"{checkpoint}/rng_state.pth", "12", ANEW),
            ("trainer_state.json in it", interrupted, f"{checkpoint}/trainer_state.json", "12", ANEW),
            ("SHA256SUMS in it", interrupted, f"{checkpoint}/SHA256SUMS", "12", ANEW),
            ("a shard of encoder frames", interrupted, "cache/*/encoder-*/*.safetensors", "12", "shard built again"),
            ("a shard of MFCCs", interrupted, "cache/*/mfcc-*/*.safetensors", "12", "shard built again"),
            ("settings.json of the cache", interrupted, "cache/*/encoder-*/settings.json", "12", "written again"),
        ):
            for way in (0, 1):
                folder = self.new_run(like=run)
                path = sorted(folder.glob(pattern))[-1]
                path.write_bytes(damaged(path.read_bytes(), path.name)[way])
                said = finish(folder, self.argv)
                # A shared encoder is found by its name in a fold, and a wrong checksum is some file's.
                named = path.parent.name if "checkpoint" in pattern else path.name
                is_named = named in said or path.name in ("encoder.safetensors", "SHA256SUMS")
                assert is_named and "damaged" in said, f"{what}: nothing is said of it:\n{said}"
                assert "".join(re.findall(r"fold (\d), validation", said)) == redone, f"{what}: {said}"
                self.check(folder)
            rows.append(Outcome(f"damaged: {what}", 2, f"noticed by its checksum, said; {happened}"))
        shutil.rmtree(interrupted)

        folder = self.new_run(like=whole)
        path = folder / "out" / "arguments.json"
        path.write_bytes(path.read_bytes()[:100])
        self.refusals(folder, "arguments.json", "remove that file and call again")
        path.unlink()
        finish(folder, self.argv)
        self.check(folder)
        happened = "refused with status 1 and the remedy, which went on"
        return [*rows, Outcome("damaged: arguments.json of the run", 1, happened)]

    def array(self) -> Outcome:
        """Four calls at once that share both folders, with a fold each."""
        argv = arguments_of(self.folder / "inputs", num_folds=4)
        folder = self.new_run()
        finish(folder, argv)
        expected = left_by(folder)
        folder = self.new_run()
        calls = [Call(folder, [*argv, "--folds", str(fold)]) for fold in range(4)]
        statuses, said = [call.end() for call in calls], "".join(call.said() for call in calls)
        assert statuses == [0] * 4 and said.count(": results, plots, card") == 1, f"{statuses}\n{said}"
        self.check(folder, expected)
        return Outcome("four calls at once, a fold each, one cache", 1, "all ended well, one of them pooled")

    def same_fold(self) -> Outcome:
        """Two calls at once for the same fold."""
        folder = self.new_run()
        calls = [Call(folder, [*self.argv, "--folds", "1"]) for _ in range(2)]
        statuses, said = [call.end() for call in calls], "".join(call.said() for call in calls)
        assert statuses == [0, 0] and said.count("fold 1, validation") == 1, f"{statuses}\n{said}"
        finish(folder, self.argv)
        self.check(folder)
        return Outcome("two calls at once, the same fold", 1, "one did it, the other left it to that one and said so")

    def same_run(self) -> Outcome:
        """The same call three times at once, of which one is killed."""
        folder = self.new_run()
        calls = [Call(folder, self.argv) for _ in range(3)]
        if not calls[0].ended(self.length_s):
            calls[0].end(signal.SIGKILL)
        statuses = [call.end() for call in calls[1:]]
        assert statuses == [0, 0], f"{statuses}\n" + "".join(call.said() for call in calls)
        finish(folder, self.argv)
        self.check(folder)
        return Outcome("three calls at once for all folds, one killed", 1, "they shared the folds, and went on")


class Disk:
    """
    A disk of its own in the place of a folder, as long as the context lasts.

    Args:
        folder: an empty one, or none.
        num_bytes: its size.
    Raises:
        Skipped: nothing can be mounted here.
    """

    def __init__(self, folder: Path, num_bytes: int):
        self.folder, self.num_bytes = folder, num_bytes

    def __enter__(self) -> "Disk":
        self.folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={self.num_bytes}", "tmpfs", str(self.folder)]
        if os.geteuid() or not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            raise Skipped("not tried: only root can mount a disk for it, where that is allowed")
        return self

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.folder)], check=True)

    def __exit__(self, *error) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)


class Skipped(Exception):
    """A fault that cannot be tried here; says why."""


def scenarios(faults: Faults, num_kills: int) -> dict[str, Callable[[], Outcome | list[Outcome]]]:
    """What is tried, by name."""
    return {
        "kills": lambda: faults.kills(num_kills),
        "sigterm": lambda: faults.stops(signal.SIGTERM, 3),
        "ctrl-c": lambda: faults.stops(signal.SIGINT, 3),
        "full output": lambda: faults.full_disk("out", (0.02, 0.1, 0.4, 0.7, 0.95)),
        "full cache": lambda: faults.full_disk("cache", (0.1, 0.5, 0.9)),
        "read-only output": lambda: faults.read_only("out"),
        "read-only cache": lambda: faults.read_only("cache"),
        "damages": faults.damages,
        "array": faults.array,
        "same fold": faults.same_fold,
        "same run": faults.same_run,
    }


def report(rows: list[Outcome], faults: Faults, minutes: float, seed: int) -> str:
    """docs/faults.md."""
    how = (
        "Each fault meets a small run of run_ser.py from nothing: 48 clips, the cache of a frozen encoder, three "
        f"folds of two epochs, the final model; undisturbed it takes {faults.length_s:.0f} s. Then the same command "
        "is called until it ends, and predictions.csv, results.json (but for its times) and all weights are "
        "compared, byte by byte, with what the undisturbed run left. What may be lost is work: the epoch, shard "
        "or prediction that was under way, and what a damaged file held."
    )
    made = (
        f"What happens to a run when something does. Made by `make faults` (tests/faults.py, seed {seed}) in "
        f"{minutes:.0f} minutes on {os.cpu_count()} cores ({platform.system()})."
    )
    lines = [
        "# Faults",
        "",
        *textwrap.wrap(made, 119),
        "",
        *textwrap.wrap(how, 119),
        "",
        "| fault | tried | what happened | lost of the results |",
        "| --- | --- | --- | --- |",
        *(f"| {row.fault} | {row.times or ''} | {row.happened} | {row.lost} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40, help="SIGKILLs at random moments (default 40)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some faults, without a report")
    arguments = parser.parse_args()
    started = time.perf_counter()
    rows, failed = [], False
    with tempfile.TemporaryDirectory() as folder:
        faults = Faults(Path(folder), arguments.seed)
        print(f"undisturbed: {faults.length_s:.1f} s", flush=True)
        for name, run in scenarios(faults, arguments.kills).items():
            if arguments.only and name not in arguments.only:
                continue
            try:
                outcomes = run()
            except Skipped as reason:
                outcomes = Outcome(name, 0, str(reason), "")
            except AssertionError as error:
                failed = True
                print(f"{name}: {error}", file=sys.stderr, flush=True)
                outcomes = Outcome(name, 1, "**failed**", "?")
            outcomes = outcomes if isinstance(outcomes, list) else [outcomes]
            rows += outcomes
            for row in outcomes:
                print(f"{time.perf_counter() - started:.0f} s: {row.fault}: {row.happened}", flush=True)
    if not arguments.only:
        REPORT.write_text(report(rows, faults, (time.perf_counter() - started) / 60, arguments.seed))
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
