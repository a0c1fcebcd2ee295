"""A run's configuration: the dataclass behind the YAML files and the command line, and how both are read."""

import json
import re
import sys
from argparse import SUPPRESS, HelpFormatter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, get_loader

from rl_rms.agents.config import A2CConfig, AgentConfig, ReinforceConfig
from rl_rms.cli.errors import UserError, suggestion
from rl_rms.envs.checks import check_number, check_whole
from rl_rms.envs.config import EnvConfig

ALGORITHMS: dict[str, type[AgentConfig]] = {"a2c": A2CConfig, "reinforce": ReinforceConfig}

HELP_WIDTH = 100

# Keys whose contents are free, so that a dotted override may reach into them.
_FREE_FORM = ("env.changes", "env.curriculum", "env.kwargs", "agent.optimizer_kwargs")

# Of a configuration.
_MOST_VALUES, _DEEPEST = 100_000, 100

# What YAML takes escaped only.
_UNPRINTABLE = yaml.reader.Reader.NON_PRINTABLE

# How jsonargparse names a wrong key inside a group.
_GROUP = re.compile(r"Group '(.+?)' does not accept option '(.+?)'")


class _Dumper(yaml.SafeDumper):
    """Writes in quotes what `read_yaml` would take for a number and YAML 1.1 would not, such as a folder 1e3."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


@dataclass(frozen=True, kw_only=True)
class ScaleConfig:
    """Several processes that train one agent together, each with an equal share of env.num_envs.

    Args:
        engine: What starts them: ``torchrun``, by which ``rl-rms train`` is started, or ``ray``, which it starts.
        workers: Processes that Ray starts, >= 1; torchrun is told its own.
        where: Whether gradients are averaged and then normalized, as one process would (``global``), or each
            worker normalizes its own and the steps are averaged (``local``).
        timeout: Seconds that a worker waits for the others before it gives up, > 0; more than an evaluation takes.
        restarts: How often Ray starts the workers again from the last checkpoint, >= 0; torchrun is told its own.
        address: Of the Ray cluster to run on; null starts Ray on this machine.
    """

    engine: Literal["torchrun", "ray"] = "torchrun"
    workers: int = 1
    where: Literal["global", "local"] = "global"
    timeout: float = 120.0
    restarts: int = 1
    address: str | None = None

    def __post_init__(self) -> None:
        if self.engine not in ("torchrun", "ray"):
            raise ValueError(f"scale.engine must be torchrun or ray, got {self.engine!r}")
        if self.where not in ("global", "local"):
            raise ValueError(f"scale.where must be global or local, got {self.where!r}")
        check_whole("scale.workers", self.workers, least=1)
        if self.engine == "torchrun" and self.workers != 1:
            raise ValueError(
                f"scale.workers is Ray's number of processes, got {self.workers} with scale.engine torchrun; "
                f"start the command by torchrun --nproc-per-node {self.workers}, or set scale.engine to ray"
            )
        check_number("scale.timeout", self.timeout, above=0.0)
        check_whole("scale.restarts", self.restarts, least=0)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run.

    Args:
        env: The world.
        agent: The agent.
        total_timesteps: Env steps to train for, all sub-environments together.
        seed: Seeds the network, the actions, the environment and, unless env.drift_seed is set, its changes.
        log_interval: Updates between two entries of the log.
        checkpoint_every: Env steps between two checkpoints; null keeps only the one at the end.
        keep_checkpoints: How many of those on the way stay, the newest; null keeps all.
        eval_every: Env steps between two evaluations, of which there is one at the end, too; null for none. They
            are played in the run's own world, which stands still meanwhile; the training goes on as if they were
            not. The best agent is kept in ``checkpoints/best.safetensors``.
        eval_episodes: Episodes of each evaluation.
        eval_deterministic: Whether the most likely actions are played, ``both`` for those and drawn ones.
        eval_clocks: Readings of the world's clock at each of which to evaluate; null for the present one.
        stop_at: Mean return of an evaluation with which the training ends; null for none.
        patience: Evaluations in a row without a better mean return after which it ends; null for no such end.
        histogram_every: Env steps between two histograms of log10 v and log10 step in TensorBoard; null for none.
        video_every: Env steps between two videos of an episode in ``videos``, which need the extra ``video``; null
            for none.
        num_threads: Threads that torch uses; for small networks more than one is slower.
        runs_dir: Folder under which the run's folder is made.
        progress: What the standard output shows of it: ``auto`` (a live view in a terminal, elsewhere ``lines``),
            ``lines``, ``json`` (an object a line and nothing else) or ``none`` (the run's folder, at the end, as
            the only line).
        scale: Several processes that train it together.
    """

    env: EnvConfig = field(default_factory=EnvConfig)
    agent: AgentConfig = field(default_factory=A2CConfig)
    total_timesteps: int = 100_000
    seed: int = 0
    log_interval: int = 100
    checkpoint_every: int | None = None
    keep_checkpoints: int | None = 5
    eval_every: int | None = None
    eval_episodes: int = 10
    eval_deterministic: bool | Literal["both"] = True
    eval_clocks: list[int] | None = None
    stop_at: float | None = None
    patience: int | None = None
    histogram_every: int | None = None
    video_every: int | None = None
    num_threads: int = 1
    runs_dir: str = "runs"
    progress: Literal["auto", "lines", "json", "none"] = "auto"
    scale: ScaleConfig = field(default_factory=ScaleConfig)

    def __post_init__(self) -> None:
        for name in ("total_timesteps", "log_interval", "eval_episodes", "num_threads"):
            check_whole(name, getattr(self, name), least=1)
        for name in ("checkpoint_every", "eval_every", "histogram_every", "video_every"):
            if getattr(self, name) is not None:
                check_whole(f"{name}, unless it is null,", getattr(self, name), least=1, unit="env steps")
        for name in ("keep_checkpoints", "patience"):
            if getattr(self, name) is not None:
                check_whole(f"{name}, unless it is null,", getattr(self, name), least=1)
        if self.eval_every is None and (self.stop_at is not None or self.patience is not None):
            raise ValueError("stop_at and patience go by evaluations; set eval_every too")
        if self.stop_at is not None:
            check_number("stop_at", self.stop_at)
        for clock in self.eval_clocks or ():
            check_whole("each of eval_clocks", clock, least=0, unit="env steps")
        if self.progress not in ("auto", "lines", "json", "none"):
            raise ValueError(f"progress must be auto, lines, json or none, got {self.progress!r}")
        check_whole("seed", self.seed, least=0)

    @property
    def drift_seed(self) -> int:
        """Seed of the world's changes."""
        return self.seed if self.env.drift_seed is None else self.env.drift_seed

    @property
    def pace(self) -> int:
        """Env steps in which the world's clock goes on by one: with independent clocks each lives its share."""
        return self.env.num_envs if self.env.sharing == "independent" else 1

    def to_yaml(self) -> str:
        """The configuration as YAML that `read_config` reads back."""
        return yaml.dump(json.loads(json.dumps(asdict(self))), Dumper=_Dumper, sort_keys=False)


class _HelpFormatter(DefaultHelpFormatter):
    """jsonargparse's help, laid out for the width that every screen has."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=HELP_WIDTH)  # type: ignore[no-untyped-call]


class Parser(ArgumentParser):
    """jsonargparse's parser whose help ends with examples and whose errors suggest what was probably meant.

    Args:
        examples: Commands that show what it is for.
        **options: Of jsonargparse's parser.
    """

    def __init__(self, *, examples: Sequence[str] = (), **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_HelpFormatter, **options)
        self.examples = tuple(examples)

    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        """The help, with the examples at its end."""
        shown = "".join(f"  {example}\n" for example in self.examples)
        given = () if formatter is None else (formatter,)  # which jsonargparse 4.49 does not take
        return super().format_help(*given) + (f"\nexamples:\n{shown}" if shown else "")

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """End with status 2 and a sentence."""
        raise UserError(self._with_suggestion(" ".join(message.split())))

    def _with_suggestion(self, message: str) -> str:
        message = _GROUP.sub(r"there is no key '\1.\2'", message)
        known = [option for action in self._actions for option in action.option_strings if len(option) > 2]
        known += [option[2:] for option in known]
        for word in message.replace("'", " ").replace('"', " ").replace("=", " ").split():
            if ("." in word or word.startswith("--")) and word not in known:
                hint = suggestion(word, known)
                if hint:
                    return message + hint
        return message


def run_parser(algorithm: str = "a2c") -> Parser:
    """The parser of a run's keys, with the agent's keys of one algorithm.

    Raises:
        UserError: If there is no such algorithm.
    """
    if algorithm not in ALGORITHMS:
        raise UserError(
            f"agent.algorithm must be one of {', '.join(ALGORITHMS)}, got {algorithm!r}"
            + suggestion(str(algorithm), ALGORITHMS)
        )
    parser = Parser()
    parser.add_argument("--config", action="config", help=SUPPRESS)  # how parse_config passes the tree on
    parser.add_class_arguments(RunConfig, None, as_group=False, instantiate=False, skip={"env", "agent", "scale"})
    parser.add_class_arguments(EnvConfig, "env")
    parser.add_class_arguments(ALGORITHMS[algorithm], "agent")
    parser.add_class_arguments(ScaleConfig, "scale")
    return parser


def read_config(config: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a configuration by path or packaged name and override keys of it.

    Args:
        config: Path of a YAML file, or the name of a packaged one.
        overrides: As on the command line, ``["--agent.half_life", "20_000 steps"]``.

    Raises:
        UserError: If the file, a key, a type or a range is wrong.
    """
    path = find_config(config)
    return parse_config(read_yaml(path.read_text(), str(config)), overrides)


def parse_config(tree: dict[str, Any], overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration of a tree of plain data and overrides as on the command line."""
    known = [one.name for one in fields(RunConfig)]
    for key in tree:
        if key not in known:
            raise UserError(
                f"there is no key {str(key)!r}; there are {', '.join(known)}{suggestion(str(key), known)}"
            )
    agent = tree.get("agent", {})
    held = {key: tree.get(key, {}) for key in ("env", "agent", "scale")}
    held["agent.policy"] = agent.get("policy", {}) if isinstance(agent, dict) else {}
    for key, value in held.items():
        if not isinstance(value, dict):
            raise UserError(f"{key} must hold keys, got {value!r}; leave it out for the defaults")
    _check_words(tree, "")
    rest = _apply_free_form(tree, list(overrides))
    parser = run_parser(algorithm_of(tree, rest))
    try:
        values = parser.instantiate(parser.parse_args(["--config", _as_text(tree), *rest]))
        return RunConfig(**{one.name: values[one.name] for one in fields(RunConfig)})
    except OverflowError as error:
        raise UserError(f"{_too_large(tree, rest)} is a number larger than any here may be") from error
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from error


def _check_words(tree: dict[str, Any], where: str) -> None:
    """Refuse keys that are no words, where not any text may be a key.

    Raises:
        UserError: If there is one.
    """
    for key, value in tree.items():
        place = where + str(key)
        if place in _FREE_FORM:
            continue
        if not str(key) or any(map(str.isspace, str(key))):
            raise UserError(f"there is no key {place!r}: a key is a word")
        if isinstance(value, dict):
            _check_words(value, f"{place}.")


def _too_large(tree: dict[str, Any], overrides: Sequence[str]) -> str:
    """The key of a whole number that no float comes near, or the words of an override with one."""
    for key, value in tree.items():
        if isinstance(value, dict):
            found = _too_large(value, ())
            if found:
                return f"{key}.{found}"
        elif isinstance(value, int) and abs(value) > sys.float_info.max:
            return str(key)
    return " ".join(overrides)


def _as_text(tree: dict[str, Any]) -> str:
    """JSON that YAML reads alike: of what JSON escapes as two halves it has no half, and some must be escaped."""
    return _UNPRINTABLE.sub(lambda one: f"\\u{ord(one[0]):04x}", json.dumps(tree, ensure_ascii=False))


def algorithm_of(tree: dict[str, Any], overrides: Sequence[str]) -> str:
    """The algorithm that a tree and overrides choose: which keys the agent has depends on it."""
    words = [word for override in overrides for word in override.split("=", 1)]
    if "--agent.algorithm" in words[:-1]:
        return words[words.index("--agent.algorithm") + 1]
    agent = tree.get("agent")
    return str(agent.get("algorithm", "a2c")) if isinstance(agent, dict) else "a2c"


def find_config(config: str | Path) -> Path:
    """The file of a configuration given by path or packaged name.

    Raises:
        UserError: If there is none.
    """
    if Path(config).is_file():
        return Path(config)
    packaged = {
        Path(file.name).stem: file
        for file in resources.files("rl_rms.configs").iterdir()
        if file.name.endswith(".yaml")
    }
    if str(config) in packaged:
        return Path(str(packaged[str(config)]))
    raise UserError(
        f"there is no configuration {str(config)!r}: give a YAML file or one of {', '.join(sorted(packaged))}"
        + suggestion(str(config), packaged)
    )


def read_yaml(text: str, name: str) -> dict[str, Any]:
    """YAML as plain data, with ``7e-4`` and ``1e3`` read as numbers.

    Raises:
        UserError: If it is no YAML, holds no keys, or spells out more values than any configuration has.
    """
    try:
        tree = get_loader("yaml")(text)
    except (yaml.YAMLError, ValueError, TypeError) as error:  # such as a date that there is not
        raise UserError(f"{name} is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise UserError(f"{name} is nested more than {_DEEPEST} levels deep") from error
    _check_size(tree, name)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UserError(f"{name} must hold keys such as env, agent and total_timesteps, got {tree!r}")
    return tree


def _check_size(tree: Any, name: str) -> None:
    """Refuse a tree that no configuration is: a few lines of aliases can stand for billions of values.

    Raises:
        UserError: If it spells out too many values, or is nested too deeply.
    """
    seen = 0
    waiting = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        seen += 1
        if seen > _MOST_VALUES:
            raise UserError(
                f"{name} spells out more than {_MOST_VALUES:,} values, counting all that aliases stand for"
            )
        if depth > _DEEPEST:
            raise UserError(f"{name} is nested more than {_DEEPEST} levels deep")
        if isinstance(node, (dict, list)):
            inner = node.values() if isinstance(node, dict) else node
            waiting.extend((one, depth + 1) for one in inner)


def _apply_free_form(tree: dict[str, Any], overrides: list[str]) -> list[str]:
    """Put overrides that reach into free-form keys into the tree; return the others."""
    rest: list[str] = []
    words = iter(overrides)
    for word in words:
        prefix = next((key for key in _FREE_FORM if word.startswith(f"--{key}.")), None)
        if prefix is None:
            rest.append(word)
            continue
        name, separator, text = word[2:].partition("=")
        if not separator:
            following = next(words, None)
            if following is None:
                raise UserError(f"--{name} needs a value")
            text = following
        *path, last = (*prefix.split("."), *_split(name[len(prefix) + 1 :]))
        node = tree
        for key in path:
            child = node.get(key)
            if not isinstance(child, dict):
                child = node[key] = {}
            node = child
        node[last] = get_loader("yaml")(text)
    return rest


def _split(name: str) -> list[str]:
    """``reward.scale.step.at`` into its keys: the targets reward.*, observation.* and action.* hold a dot."""
    keys = name.split(".")
    return [".".join(keys[:2]), *keys[2:]] if keys[0] in {"reward", "observation", "action"} else keys
