"""How the tests are spread over several processes."""

import pytest
from tests.harness.receiver_client import ROOT
from tests.harness.spread import TOGETHER, scope_of


@pytest.mark.parametrize("path", TOGETHER)
def test_a_file_that_stays_together_is_one_scope(path):
    """Its tests share a scope, whatever their parameters; a file that is gone or renamed is noticed."""
    assert (ROOT / path).is_file()
    assert {scope_of(f"{path}::test_a"), scope_of(f"{path}::test_b[x::y]")} == {path}


def test_any_other_test_stands_alone():
    """Two tests of one file may run in two processes."""
    assert scope_of("tests/core/test_retry.py::test_a[1]") != scope_of("tests/core/test_retry.py::test_a[2]")


def test_every_process_shuffles_alike(pytestconfig):
    """A process started by ``-n`` has the seed of the one that started it, so that all see the same order."""
    given = getattr(pytestconfig, "workerinput", None)
    assert given is None or given["randomly_seed"] == pytestconfig.getoption("randomly_seed")
