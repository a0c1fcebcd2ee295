"""``rl-rms tune CONFIG``: learning rate, half-life and epsilon by meta-gradient, in some lives of an agent."""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rl_rms.agents import files
from rl_rms.agents.config import Adaptable, AgentConfig, MetaConfig
from rl_rms.cli.config import Parser, RunConfig, find_config, one_sentence, parse_config
from rl_rms.cli.errors import UserError
from rl_rms.cli.runs import CONFIG, new_folder
from rl_rms.cli.signals import heeded, status_of
from rl_rms.cli.trust import see_working_folder
from rl_rms.cli.yaml_files import read_file
from rl_rms.half_life import HalfLife, parse_half_life

Ratios = dict[str, float]
TUNED = "tuned.yaml"


@dataclass(frozen=True, kw_only=True)
class TuneConfig(MetaConfig):
    """How to tune.

    Args:
        lives: Trainings of total_timesteps env steps each, one after the other, >= 1.
    """

    adapt: Sequence[Adaptable] = ("learning_rate", "half_life", "eps")
    lives: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lives < 1:
            raise ValueError(f"tune.lives must be >= 1, got {self.lives}")

    def meta(self) -> MetaConfig:
        """The agent's part of it."""
        return MetaConfig(**{one.name: getattr(self, one.name) for one in fields(MetaConfig)})


@dataclass(frozen=True)
class Life:
    """What one training came to.

    Attributes:
        began: What it began with, as ratios to what the configuration states, by hyperparameter.
        found: What it found, likewise: the geometric mean over all but its first quarter.
        score: Mean return over its env steps.
        collapsed: Whether its returns were worse at the end than at the beginning, before anything was learned.
    """

    began: Ratios
    found: Ratios
    score: float
    collapsed: bool


def main(argv: Sequence[str]) -> int:
    """Tune as the words after ``rl-rms tune`` say.

    Returns:
        Exit status.

    Raises:
        UserError: If the configuration is wrong.
    """
    words = list(argv)
    config = words.pop(0) if words and not words[0].startswith("-") else None
    parser = Parser(
        usage="rl-rms tune CONFIG [--tune.KEY VALUE ...] [--KEY VALUE ...]",
        description=(
            "Learn RMSprop's learning rate, half-life and epsilon by meta-gradient. CONFIG is a YAML file or a "
            "packaged name, whose keys can be overridden as for rl-rms train."
        ),
        examples=[
            "rl-rms tune cartpole_a2c",
            "rl-rms tune drifting_cartpole --tune.lives 6 --total_timesteps 100_000",
            "rl-rms tune cartpole_a2c --tune.adapt [half_life] --agent.learning_rate 1e-3",
        ],
    )
    parser.add_class_arguments(TuneConfig, "tune")
    if "-h" in words or "--help" in words:
        parser.print_help()
        return 0
    if config is None:
        raise UserError(
            "rl-rms tune needs a configuration: a YAML file or a packaged name; see rl-rms tune --help"
        )
    own, rest = _split(words)
    try:
        tuning = parser.instantiate(parser.parse_args(own)).tune
    except (ValueError, TypeError) as error:
        raise UserError(one_sentence(str(error))) from error
    see_working_folder()
    path = find_config(config)
    run = parse_config(read_file(path, config), rest)
    return tune(run, tuning, path.stem)


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words of ``--tune.KEY VALUE``, and the others."""
    own: list[str] = []
    rest: list[str] = []
    into = rest
    for word in words:
        if word.startswith("--"):
            into = own if word.startswith("--tune.") else rest
        into.append(word)
    return own, rest


def tune(config: RunConfig, tuning: TuneConfig, name: str) -> int:
    """Live through some trainings, each beginning with what the one before has found.

    Args:
        config: The run to tune.
        tuning: How.
        name: Name of the parent of the folder that is written to.

    Returns:
        Exit status.

    Raises:
        UserError: If there is something in the configuration that cannot be tuned.
    """
    from rl_rms.cli.train import console_of

    check(config, tuning)
    console = console_of(config)
    folder = new_folder(Path(config.runs_dir), f"{name}-tune", config.seed)
    files.write(folder / CONFIG, config.to_yaml())
    console.print(
        f"tune {', '.join(tuning.adapt)} of {name}: {tuning.lives} lives of {config.total_timesteps:,} env steps, "
        f"windows of {tuning.window} updates that hold at most {tuning.memory_mb:g} MB",
        highlight=False,
        soft_wrap=True,
    )
    lives: list[Life] = []
    status = 0
    while len(lives) < tuning.lives and status == 0:
        number = len(lives)
        one = dataclasses.replace(config, seed=config.seed + number)
        try:
            life = live(one, tuning, beginning(lives, tuning), folder / f"life{number}")
        except KeyboardInterrupt as interrupt:
            status = status_of(interrupt)
            continue
        lives.append(life)
        failed = ", left, since it ended worse than it began" if life.collapsed else ""
        console.print(
            f"life {number}: mean return {life.score:.1f}; {describe(config.agent, life)}{failed}",
            highlight=False,
            soft_wrap=True,
        )
    if lives:
        files.write(
            folder / TUNED, dataclasses.replace(config, agent=scaled(config.agent, outcome(lives))).to_yaml()
        )
        console.print(f"train        rl-rms train {folder / TUNED}", highlight=False, soft_wrap=True)
    console.print(f"TensorBoard  tensorboard --logdir {folder}", highlight=False, soft_wrap=True)
    if config.progress == "none":
        print(folder)
    return status


def beginning(lives: Sequence[Life], tuning: TuneConfig) -> Ratios:
    """What the next life begins with: what the last one found.

    One training's return is too noisy to choose among lives by. But where a life has collapsed its hyperparameters
    went too far, and the next begins halfway between its beginning and that of the best.
    """
    if not lives:
        return dict.fromkeys(tuning.adapt, 1.0)
    last, best = lives[-1], max(lives, key=lambda life: life.score)
    return _between([last.began, best.began]) if last.collapsed else last.found


def outcome(lives: Sequence[Life]) -> Ratios:
    """What tuning comes to: the geometric mean of what the last two lives that did not collapse have found."""
    return _between([life.found for life in lives if not life.collapsed][-2:] or [lives[0].began])


def _between(ratios: Sequence[Ratios]) -> Ratios:
    return {name: statistics.geometric_mean([one[name] for one in ratios]) for name in ratios[0]}


def check(config: RunConfig, tuning: TuneConfig) -> None:
    """Refuse what cannot be tuned, before anything is written.

    Raises:
        UserError: With the key that is to be another.
    """
    agent = config.agent
    if agent.meta is not None:
        raise UserError("agent.meta adapts the hyperparameters already; leave it out to tune them")
    if "learning_rate" in tuning.adapt and isinstance(agent.learning_rate, dict):
        raise UserError(f"tune needs a number for agent.learning_rate, got {agent.learning_rate}")
    if isinstance(agent.critic_learning_rate, dict):
        raise UserError(f"tune needs a number for agent.critic_learning_rate, got {agent.critic_learning_rate}")
    from rl_rms.cli.train import build, make_env

    env = make_env(config)
    try:
        build(dataclasses.replace(config, agent=dataclasses.replace(agent, meta=tuning.meta())), env)
    finally:
        env.close()


def live(config: RunConfig, tuning: TuneConfig, began: Ratios, folder: Path | None) -> Life:
    """One training with hyperparameters that adapt themselves.

    Args:
        config: The run.
        tuning: How they adapt themselves.
        began: What they begin with, as ratios to what the run's configuration states.
        folder: For its TensorBoard events and metrics; None for neither.
    """
    import torch

    from rl_rms.agents.agent import Agent
    from rl_rms.cli.train import build, make_env, make_progress

    torch.set_num_threads(config.num_threads)
    env = make_env(config)
    agent_config = dataclasses.replace(scaled(config.agent, began), meta=tuning.meta())
    agent = build(dataclasses.replace(config, agent=agent_config), env)
    stretches: list[list[float]] = [[] for _ in range(20)]

    def count(trained: Agent) -> None:
        for episode in trained.new_episodes:
            stretch = (episode.num_timesteps - 1) * len(stretches) // config.total_timesteps
            stretches[min(stretch, len(stretches) - 1)].append(episode.ret)

    try:
        with heeded(agent):
            agent.learn(
                config.total_timesteps,
                [count, *make_progress(config)],
                log_dir=folder,
                log_interval=config.log_interval,
            )
    finally:
        env.close()
    assert agent.meta is not None
    means = [statistics.fmean(inside) for inside in stretches if inside]
    score = statistics.fmean(means) if means else -math.inf
    collapsed = bool(means) and statistics.fmean(means[-3:]) < means[0]
    path = agent.meta.path[len(agent.meta.path) // 4 :]
    moved = [math.exp(statistics.fmean(logs)) for logs in zip(*path, strict=True)] or [1.0] * len(tuning.adapt)
    found: Ratios = {name: began[name] * ratio for name, ratio in zip(tuning.adapt, moved, strict=True)}
    return Life(began, found, score, collapsed)


def scaled(agent: AgentConfig, ratios: Ratios) -> AgentConfig:
    """An agent's configuration with hyperparameters multiplied, each in the unit in which it was stated."""
    from rl_rms.agents.optimizers import DEFAULT_EPS, DEFAULT_HALF_LIFE

    changed: dict[str, Any] = {}
    if "learning_rate" in ratios:
        changed["learning_rate"] = _rounded(float(agent.learning_rate) * ratios["learning_rate"])  # type: ignore[arg-type]
        if agent.critic_learning_rate is not None:
            critic = float(agent.critic_learning_rate)  # type: ignore[arg-type]
            changed["critic_learning_rate"] = _rounded(critic * ratios["learning_rate"])
    if "half_life" in ratios:
        stated = parse_half_life(DEFAULT_HALF_LIFE if agent.half_life is None else agent.half_life)
        assert isinstance(stated, HalfLife)
        changed["half_life"] = f"{_rounded(stated.value * ratios['half_life']):g} {stated.unit}"
    if "eps" in ratios:
        eps = float(agent.optimizer_kwargs.get("eps", DEFAULT_EPS))
        changed["optimizer_kwargs"] = {**agent.optimizer_kwargs, "eps": _rounded(eps * ratios["eps"])}
    return dataclasses.replace(agent, **changed)


def describe(agent: AgentConfig, life: Life) -> str:
    """From where to where the hyperparameters of a configured agent went."""
    from rl_rms.agents.optimizers import DEFAULT_EPS, DEFAULT_HALF_LIFE

    def values(agent: AgentConfig) -> dict[str, Any]:
        return {
            "learning_rate": agent.learning_rate,
            "half_life": agent.half_life or f"{DEFAULT_HALF_LIFE:g} updates",
            "eps": agent.optimizer_kwargs.get("eps", DEFAULT_EPS),
        }

    before, after = (values(scaled(agent, ratios)) for ratios in (life.began, life.found))
    return ", ".join(f"{name} {before[name]} -> {after[name]}" for name in life.found)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
