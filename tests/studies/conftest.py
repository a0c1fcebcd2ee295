"""The fixture ``quick``: results of a study's quick run with ``rl-rms study``."""

import functools
import tempfile
from pathlib import Path

import pytest

from rl_rms.cli.main import main
from rl_rms.studies import load
from rl_rms.studies.pages import Finding, read

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == HERE:  # one worker runs all tests of a file, which share a quick run
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@functools.cache
def _quick_run(name):
    with tempfile.TemporaryDirectory() as folder:
        words = ["study", name, "--quick", "--processes=1", f"--output={folder}", f"--runs_dir={folder}/events"]
        assert main(words) == 0
        study, results = load(name), read(load(name), Path(folder))
        page = (Path(folder) / f"{name}.md").read_text()
        assert Finding.of(study, results).to_markdown() == page
        assert (Path(folder) / f"{name}.png").stat().st_size > 5_000
        assert len(list(Path(folder).glob(f"events/{name}/*/events*"))) == len(results.cells)
        assert len(results.seeds) == study.quick_seeds
    return results


@pytest.fixture
def quick(request):
    """Results of the quick run of the study that the test file is named after."""
    pytest.importorskip("rliable")
    return _quick_run(request.path.stem.removeprefix("test_"))
