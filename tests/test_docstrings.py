"""The examples of the docstrings give what stands below them."""

import doctest
from importlib import import_module

import pytest

from tests.test_architecture import MODULES

WITH_EXAMPLES = sorted(name for name, path in MODULES.items() if ">>>" in path.read_text())


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_of(name):
    failed, attempted = doctest.testmod(import_module(name))  # tells what differs on stdout
    assert attempted
    assert not failed
