"""Coverage-guided fuzzing of the readers of untrusted files, which may raise only their documented errors.

Run: make fuzz, or python tests/fuzz/readers.py READER [options of libFuzzer], with a key of TARGETS as READER.

The slow tests read the corpus in tests/fuzz/corpus/. Fuzzing needs atheris, which has wheels for Linux only.
"""

import copy
import math
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

FUZZING = __name__ == "__main__"
if FUZZING:
    import atheris

# Modules whose coverage the fuzzer measures.
FOLLOWED = ["rl_rms.agents.storage", "rl_rms.cli.config", "rl_rms.cli.yaml_files", "yaml", "jsonargparse"]
FOLLOWED += ["rl_rms.cli.runs", "rl_rms.cli.search", "rl_rms.cli.overrides", "rl_rms.agents.metrics"]
FOLLOWED += [
    "rl_rms.optim.rmsprop",
    "rl_rms.optim.loading",
    "rl_rms.optim.states",
    "rl_rms.optim.options",
    "rl_rms.optim.estimators",
    "rl_rms.optim.guard",
]
with atheris.instrument_imports(FOLLOWED) if FUZZING else nullcontext():
    from rl_rms import RMSprop
    from rl_rms.agents import storage
    from rl_rms.agents.config_file import CONFIG
    from rl_rms.agents.metrics import METRICS
    from rl_rms.cli.config import find_config
    from rl_rms.cli.errors import UserError
    from rl_rms.cli.runs import SUMMARY, read_run, read_summary
    from rl_rms.cli.search import read_search
    from rl_rms.cli.yaml_files import read_yaml

CORPUS = Path(__file__).parent / "corpus"


def read_checkpoint(content: bytes) -> None:
    """Read any bytes as a checkpoint.

    Bytes that begin with ``{`` become the contents of a file with a valid checksum.
    """
    if content.startswith(b"{"):
        text = content.decode(errors="replace")
        entry = f"{storage.VERSION} {storage.checksum(text, {})} {text}"
        content = storage.save({}, {"rl_rms": entry})
    try:
        contents = storage.decode(content)
    except ValueError:
        return
    assert isinstance(contents, dict)


def read_yaml_file(content: bytes) -> None:
    """Read any text as a configuration."""
    try:
        tree = read_yaml(content.decode(errors="replace"), "mine.yaml")
    except UserError:
        return
    assert isinstance(tree, dict)


def _spliced(text: bytes, content: bytes) -> bytes:
    """Replace bytes of a text: two bytes give the place, the next the length, and the others the replacement."""
    start = int.from_bytes(content[:2], "little") % (len(text) + 1)
    length = content[2] if len(content) > 2 else 0
    return text[:start] + content[3:] + text[start + length :]


RUN = {
    CONFIG: find_config("drifting_cartpole").read_bytes(),
    METRICS: b"time/total_timesteps,rollout/ep_rew_mean\n128,20.5\n256,\n384,31.25\n",
    SUMMARY: b'{"total_timesteps": 384, "wall_time_seconds": 1.5, "final_return": null, '
    b'"final_return_episodes": 0, "memory": null, "interrupted": false, "versions": {}, "regimes": []}',
}


def read_run_folder(content: bytes) -> None:
    """Read a run's folder with a damaged file. The first byte chooses the file, the others change it."""
    damaged = sorted(RUN)[content[0] % len(RUN)] if content else ""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in RUN.items():
            (folder / file).write_bytes(_spliced(text, content[1:]) if file == damaged else text)
        for read in (read_run, read_summary):
            try:
                read(folder)
            except UserError:  # noqa: PERF203
                continue


SWEEP = find_config("half_life_cartpole", "sweep").read_bytes()


def read_sweep(content: bytes) -> None:
    """Read a changed sweep file."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "sweep.yaml"
        path.write_bytes(_spliced(SWEEP, content))
        try:
            read_search(str(path), {})
        except UserError:
            return


def _trained(make: Callable[..., torch.optim.Optimizer], **options: Any) -> torch.optim.Optimizer:
    """An optimizer of a matrix and a vector after some updates."""
    params = [torch.nn.Parameter(torch.ones(shape)) for shape in ((3, 2), (7,))]
    optimizer = make(params, **options)
    for update in range(20):
        for param in params:
            param.grad = torch.sin(update + torch.arange(float(param.numel()))).view(param.shape)
        optimizer.step()
    return optimizer


STATES = [
    lambda: _trained(RMSprop, momentum=0.5, centered=True, max_grad_norm=1.0),
    lambda: _trained(RMSprop, half_life="auto", optimism=1.0),
    lambda: _trained(torch.optim.RMSprop, momentum=0.5, centered=True),
]
# Each function replaces a part of a state dict.
MUTATIONS: list[Callable[[Any], Any]] = [
    lambda part: None,
    lambda part: -1,
    lambda part: math.nan,
    lambda part: 1e300,
    lambda part: "auto",
    lambda part: b"x",
    lambda part: [],
    lambda part: {},
    lambda part: True,
    lambda part: [part, part],
    lambda part: {0: part, "params": part},
    lambda part: torch.ones(64, 64),
    lambda part: torch.ones(()),
    lambda part: torch.ones(6, dtype=torch.int64),
    lambda part: torch.full((3, 2), math.nan),
    lambda part: torch.full((7,), math.inf),
    lambda part: torch.ones(2, 3).t(),
    lambda part: torch.ones(7).to_sparse(),
    lambda part: torch.ones(3, 2, dtype=torch.complex64),
    lambda part: torch.ones(7, device="meta"),
    lambda part: -part if isinstance(part, torch.Tensor) else part,
    lambda part: part[:1] if isinstance(part, list) else torch.ones(1) if isinstance(part, torch.Tensor) else part,
]
_DELETE = len(MUTATIONS)


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """All containers and keys in nested dictionaries and lists."""
    items = (
        list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    )
    return [place for key, value in items for place in ((tree, key), *_places(value))]


def read_optimizer(content: bytes) -> None:
    """Load an optimizer's state dict.

    The first byte chooses the state dict, and each of the next eight pairs of bytes changes one of its parts.
    """
    saved = copy.deepcopy(STATES[content[0] % len(STATES)]().state_dict()) if content else {}
    for where, how in zip(content[1:17:2], content[2:18:2], strict=False):
        places = _places(saved)
        if not places:
            break
        tree, key = places[where % len(places)]
        if how % (_DELETE + 1) == _DELETE:
            del tree[key]
        else:
            tree[key] = MUTATIONS[how % (_DELETE + 1)](tree[key])
    optimizer = _trained(RMSprop, half_life="auto", max_grad_norm=1.0)
    before = copy.deepcopy(optimizer.state_dict()["state"])
    params = optimizer.param_groups[0]["params"]
    try:
        optimizer.load_state_dict(saved)
    except ValueError:
        after = optimizer.state_dict()["state"]
        for index, state in before.items():
            assert all(
                torch.equal(torch.as_tensor(one), torch.as_tensor(after[index][key])) for key, one in state.items()
            )
        return
    if optimizer.param_groups[0]["capturable"]:
        return  # for accelerators only
    with torch.set_grad_enabled(not optimizer.param_groups[0]["differentiable"]):
        try:
            optimizer.step()
        except ValueError:  # a half-life in env steps without steps per update
            return
    for param in params:
        state = optimizer.state[param]
        assert state["square_avg"].shape == param.shape
        assert bool((state["square_avg"] >= 0).all())


TARGETS: dict[str, Callable[[bytes], None]] = {
    "checkpoint": read_checkpoint,
    "config": read_yaml_file,
    "run": read_run_folder,
    "sweep": read_sweep,
    "optimizer": read_optimizer,
}


def main() -> None:
    """Fuzz a reader for ``-runs`` inputs, or until the reader raises an undocumented error."""
    name, *options = sys.argv[1:]
    atheris.Setup([sys.argv[0], *options, str(CORPUS / name)], TARGETS[name])
    atheris.Fuzz()


if FUZZING:
    main()
