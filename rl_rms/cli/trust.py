"""Refuses untrusted folders that name code, contain links, or have callbacks that write elsewhere or send data."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rl_rms.agents.config import TRUSTED
from rl_rms.agents.config_parts import PolicyConfig
from rl_rms.cli.callbacks import named_callbacks
from rl_rms.cli.config import RunConfig
from rl_rms.cli.errors import UserError

# Environments and wrappers of packages that this library or its extras install have import paths with these
# prefixes.
KNOWN_ENVS = ("ale_py:", "gymnasium_robotics:", "minigrid:", "shimmy:")
KNOWN_WRAPPERS = ("minigrid.wrappers:", "stable_baselines3.common.atari_wrappers:")
# These callbacks of the library write only into the run folder, except for EvalCallback's best_path.
_LOCAL_CALLBACKS = ("AdaptationCallback", "EvalCallback", "HistogramCallback", "ProgressCallback")
HELP = (
    "Import code that the folder names, and follow its links. rl-rms resume also calls callbacks that write "
    "elsewhere or send data. Use this option only if you trust the folder's author."
)


def see_working_folder() -> None:
    """Let imports find modules in the working folder, as ``python -m`` does."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)


def named_code(config: RunConfig) -> dict[str, str]:
    """Return the texts of a configuration that may make a run import user code, by dotted key."""
    named = {}
    if ":" in config.env.id and not config.env.id.startswith(KNOWN_ENVS):
        named["env.id"] = config.env.id
    if not config.agent.optimizer.startswith(TRUSTED):
        named["agent.optimizer"] = config.agent.optimizer
    named |= {f"agent.policy.{name}": path for name, path in config.agent.policy.user_classes.items()}
    for number, (name, arguments) in enumerate(named_callbacks(config.callbacks)):
        if ":" in name:
            named[f"callbacks.{number}"] = name
        # EvalCallback may make an environment from an id such as module:Id, which imports the module.
        named |= {place: text for place, text in _texts(f"callbacks.{number}", arguments) if ":" in text}
    teacher = (config.env.curriculum or {}).get("teacher")
    if isinstance(teacher, dict) and isinstance(teacher.get("choose"), str):
        named["env.curriculum.teacher.choose"] = teacher["choose"]
    # An environment may make another environment from an id in its kwargs. Gymnasium imports the part before a
    # colon.
    named |= {place: text for place, text in _texts("env.kwargs", config.env.kwargs) if ":" in text}
    return named | {
        place: text
        for place, text in _texts("env.wrappers", config.env.wrappers)
        if ":" in text and not text.startswith(KNOWN_WRAPPERS)
    }


def own_optimizer(config: RunConfig) -> str | None:
    """The import path of the user's own optimizer, which a checkpoint must not set; None for known optimizers."""
    return named_code(config).get("agent.optimizer")


def own_policy(config: RunConfig) -> PolicyConfig | None:
    """The policy's configuration if it names the user's classes, which a checkpoint must not set; else None."""
    return config.agent.policy if config.agent.policy.user_classes else None


def _texts(place: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _texts(place, key)
            yield from _texts(f"{place}.{key}", one)
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _texts(f"{place}.{index}", one)


def _callbacks_with_effects_elsewhere(config: RunConfig) -> list[str]:
    """Return the callbacks of the library that may write files outside of the run folder, or send data."""
    return [
        name
        for name, arguments in named_callbacks(config.callbacks)
        if ":" not in name and (name not in _LOCAL_CALLBACKS or "best_path" in arguments)
    ]


def check_code(config: RunConfig, source: str, mend: str) -> None:
    """Raise an error for a configuration that names code.

    Args:
        config: The configuration.
        source: Origin of the configuration, such as its folder, as text for the error.
        mend: How the user can allow the code, as text for the error.

    Raises:
        UserError: If the configuration names code.
    """
    named = named_code(config)
    if named:
        listed = ", ".join(f"{key} {path!r}" for key, path in named.items())
        raise UserError(f"{source} names code that may be imported and run: {listed}; {mend}")


def check_folder(config: RunConfig, folder: Path, command: str, *, trust: bool) -> None:
    """Check that a folder is trusted, or that it needs no trust.

    Args:
        config: The configuration in the folder.
        folder: The folder.
        command: The command. Only ``resume`` calls callbacks.
        trust: Whether the user trusts the folder. If so, imports also search the working folder.

    Raises:
        UserError: If the folder is not trusted, and contains links, names code, or, for ``resume``, names
            callbacks that may write files elsewhere or send data.
    """
    if trust:
        see_working_folder()
        return
    from rl_rms.agents import files

    mend = f"run rl-rms {command} {folder} --trust if you trust the author of the folder"
    check_code(config, str(folder), mend)
    callbacks = _callbacks_with_effects_elsewhere(config) if command == "resume" else []
    if callbacks:
        raise UserError(
            f"{folder} has callbacks that may write files outside of the folder, or send data: "
            f"{', '.join(callbacks)}; {mend}"
        )
    try:
        files.check_no_links(folder)
    except ValueError as error:
        raise UserError(f"{error}, or {mend}") from error
