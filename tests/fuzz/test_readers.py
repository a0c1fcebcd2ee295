import importlib.util
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PATH = Path(__file__).parent / "readers.py"
spec = importlib.util.spec_from_file_location("fuzz_readers", PATH)
readers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(readers)


@pytest.mark.parametrize("name", readers.TARGETS)
def test_the_corpus_is_read_or_refused_in_a_sentence(name):
    files = sorted((readers.CORPUS / name).iterdir())
    assert len(files) >= 10
    for file in files:
        readers.TARGETS[name](file.read_bytes())


def test_another_error_would_end_the_fuzzing(monkeypatch):
    def broken(content):
        raise KeyError("unexpected")

    monkeypatch.setattr(readers.storage, "decode", broken)
    with pytest.raises(KeyError):
        readers.read_checkpoint(b"{}")
