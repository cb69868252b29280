"""A few of the faults of faults.py, which has them all (`make faults`)."""

import signal

import pytest
from faults import Faults


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    return Faults(tmp_path_factory.mktemp("faults"))


def test_kills_lose_nothing(faults):
    assert faults.kills(3).lost == "nothing"


def test_a_signal_ends_a_run_with_its_status_and_a_line(faults):
    faults.stops(signal.SIGTERM, 1)


def test_two_calls_at_once_of_the_same_fold(faults):
    faults.same_fold()
