"""Each study's quick run, which goes by the same path as the command's."""

import functools
import json

import pytest

from rl_rms.studies import load
from rl_rms.studies.frame import read, run, write

pytest.importorskip("rliable")


@functools.cache
def _results(name):
    return run(load(name), quick=True)


@pytest.fixture
def quick(request, tmp_path):
    """The results of the study that the test's file is named after, and its page, written and read back."""
    name = request.path.stem.removeprefix("test_")
    study, results = load(name), _results(name)
    page = write(study, results, tmp_path).read_text()
    again = read(study, tmp_path)
    assert study.table(again).to_markdown() in page
    assert (tmp_path / f"{name}.png").stat().st_size > 5_000
    assert json.loads((tmp_path / f"{name}.json").read_text())["seeds"] == study.quick_seeds
    return results
