"""Coverage-guided fuzzing of what reads files from strangers: nothing but the announced errors may come out.

Run: make fuzz, or python tests/fuzz/readers.py checkpoint|config [-runs=1000000] [options of libFuzzer]

What was found interesting is kept in tests/fuzz/corpus/, which the default tests go through. Needs atheris, whose
wheels are for Linux.
"""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

FUZZING = __name__ == "__main__"
if FUZZING:
    import atheris

# What is to tell the fuzzer how far it gets.
FOLLOWED = ["rl_rms.agents.storage", "rl_rms.cli.config", "yaml", "jsonargparse"]
with atheris.instrument_imports(FOLLOWED) if FUZZING else nullcontext():
    from rl_rms.agents import storage
    from rl_rms.cli.config import read_yaml
    from rl_rms.cli.errors import UserError

CORPUS = Path(__file__).parent / "corpus"


def read_checkpoint(content: bytes) -> None:
    """A checkpoint of any bytes; what begins with ``{`` is a content in a file whose checksum fits."""
    if content.startswith(b"{"):
        text = content.decode(errors="replace")
        entry = f"{storage.VERSION} {storage._digest(text, {})} {text}"
        content = storage.save({}, {"rl_rms": entry})
    try:
        contents = storage.decode(content)
    except ValueError:
        return
    assert isinstance(contents, dict)


def read_config(content: bytes) -> None:
    """A configuration of any text."""
    try:
        tree = read_yaml(content.decode(errors="replace"), "mine.yaml")
    except UserError:
        return
    assert isinstance(tree, dict)


TARGETS: dict[str, Callable[[bytes], None]] = {"checkpoint": read_checkpoint, "config": read_config}


def main() -> None:
    """Fuzz a reader until its runs are over, or something else than it may comes out."""
    name, *options = sys.argv[1:]
    atheris.Setup([sys.argv[0], *options, str(CORPUS / name)], TARGETS[name])
    atheris.Fuzz()


if FUZZING:
    main()
