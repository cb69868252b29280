"""Runs of run_ser.py one after another, for torchrun: `two_processes.py RUNS.json`, a list of lists of arguments."""

import json
import sys
from pathlib import Path

import torch
from transformers import Trainer

import run_ser

train = Trainer.train


def train_with_a_seed_of_its_own(self, **kwargs):
    seeds = [None, None]
    torch.distributed.all_gather_object(seeds, torch.initial_seed())
    assert seeds == [42, 43]  # of dropout, speeds and stretches
    return train(self, **kwargs)


Trainer.train = train_with_a_seed_of_its_own
runs = json.loads(Path(sys.argv[1]).read_text())
for argv in runs:
    sys.argv[1:] = argv  # which results.json tells
    run_ser.run(*run_ser.parse_arguments(argv))
    assert torch.distributed.get_world_size() == 2 and torch.distributed.get_backend() == "gloo"
run_ser.leave_process_group()
threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]  # none elsewhere than on Linux
assert not [name for name in threads if "gloo" in name], threads
