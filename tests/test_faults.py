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
    assert faults.stops(signal.SIGTERM, 1).lost == "nothing"  # stops() itself asserts status and line


def test_two_calls_at_once_of_the_same_fold(faults):
    assert faults.same_fold().lost == "nothing"  # same_fold() itself asserts that one call trained it
