import importlib.util
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PATH = Path(__file__).parent / "readers.py"
spec = importlib.util.spec_from_file_location("fuzz_readers", PATH)
readers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(readers)


@pytest.mark.parametrize("name", readers.TARGETS)
def test_readers_of_the_corpus_return_or_raise_one_sentence(name):
    files = sorted((readers.CORPUS / name).iterdir())
    assert len(files) >= 10
    for file in files:
        readers.TARGETS[name](file.read_bytes())


def test_reader_passes_on_an_unexpected_error(monkeypatch):
    def broken(content):
        raise KeyError("unexpected")

    monkeypatch.setattr(readers.storage, "decode", broken)
    with pytest.raises(KeyError):
        readers.read_checkpoint(b"{}")
