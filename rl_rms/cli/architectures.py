"""``rl-rms architectures SEARCH``: policy networks ranked under several optimizers, and whether the ranking holds.

A sweep over every network with every optimizer at each of its learning rates, and a report on top: the ranking
under each optimizer at its best rates, Kendall's tau between rankings beside the tau that noise alone leaves of a
single one, and in words whether another optimizer would have chosen another network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rl_rms.agents import files
from rl_rms.cli.config import Parser, RunConfig
from rl_rms.cli.errors import UserError, suggestion
from rl_rms.cli.search import Search, SweepConfig, find_sweep, label, read_varied
from rl_rms.cli.sweep import add_options, options_of, sweep
from rl_rms.cli.trials import counted, open_study
from rl_rms.cli.trust import see_working_folder
from rl_rms.cli.yaml_files import read_file
from rl_rms.studies.rankings import agreement, noise_floor, regret

if TYPE_CHECKING:
    import optuna

Floats = npt.NDArray[np.float64]
NETWORK, TRAINING = "network", "trained by"
_KEYS = ("config", "networks", "optimizers", "fix", "metric", "seeds")


@dataclass(frozen=True)
class Architectures(Search):
    """A sweep whose points are a network by name, and an optimizer by name with a learning rate.

    Attributes:
        networks: Keys of ``agent.policy`` by network.
        optimizers: Keys of ``agent`` by optimizer.
        rates: Learning rates by optimizer.
    """

    networks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    optimizers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rates: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def trainings(self) -> dict[str, tuple[str, float]]:
        """Optimizer and learning rate of each choice of the sweep."""
        return trainings(self.rates)

    def run_config(self, values: Mapping[str, Any], seed: int) -> RunConfig:
        """The configuration of one training, its network and optimizer spelled out."""
        optimizer, rate = self.trainings[values[TRAINING]]
        spelled = {f"agent.policy.{key}": value for key, value in self.networks[values[NETWORK]].items()}
        spelled |= {f"agent.{key}": value for key, value in self.optimizers[optimizer].items()}
        return super().run_config({**spelled, "agent.learning_rate": rate}, seed)

    def question(self) -> dict[str, Any]:
        """The sweep's, and what its names stand for."""
        return {**super().question(), "networks": dict(self.networks), "optimizers": dict(self.optimizers)}


def trainings(rates: Mapping[str, Sequence[float]]) -> dict[str, tuple[str, float]]:
    """Optimizer and learning rate by the name of the choice that the two make."""
    return {f"{name}, lr {rate:g}": (name, rate) for name, given in rates.items() for rate in given}


def main(argv: Sequence[str]) -> int:
    """Rank as the words after ``rl-rms architectures`` say.

    Returns:
        Exit status.

    Raises:
        UserError: If the search is wrong.
    """
    parser = Parser(
        prog="rl-rms architectures",
        usage="rl-rms architectures SEARCH [--OPTION VALUE ...]",
        description=(
            "Rank policy networks under several optimizers: SEARCH is a YAML file or the name of a packaged "
            "one. A search that was stopped goes on where it was."
        ),
        examples=[
            "rl-rms architectures architectures_cartpole",
            "rl-rms architectures architectures_cartpole --workers 4",
        ],
    )
    parser.add_argument("search", type=str, metavar="SEARCH", help="YAML file or packaged name.")
    add_options(parser)
    arguments = parser.parse_args(list(argv))
    see_working_folder()
    search = read_architectures(arguments.search)
    folder, storage, workers, engine = options_of(arguments, search)
    status = sweep(search, folder, storage, workers, engine)
    report(open_study(search, storage), search, folder)
    return status


def read_architectures(name: str) -> Architectures:
    """Read a search by path or packaged name.

    Args:
        name: Path of a YAML file, or the name of a packaged one, with the keys ``config``, ``networks`` (keys of
            agent.policy by name), ``optimizers`` (keys of agent by name, with a list of learning rates under
            ``learning_rate``), and as in a sweep ``fix``, ``metric`` and ``seeds``, of which there must be two.

    Raises:
        UserError: If the file, a key, a value or the configuration that it varies is wrong.
    """
    path = find_sweep(name)
    tree = read_file(path, name)
    for key in tree:
        if key not in _KEYS:
            raise UserError(
                f"{name}: there is no key {key!r}; there are {', '.join(_KEYS)}{suggestion(key, _KEYS)}"
            )
    for key in ("config", "networks", "optimizers"):
        if key not in tree:
            raise UserError(f"{name}: {key} is missing")
    networks = _by_name(tree, "networks", least=2)
    optimizers = {one: dict(keys) for one, keys in _by_name(tree, "optimizers", least=1).items()}
    rates = {}
    for one, keys in optimizers.items():
        given = keys.pop("learning_rate", None)
        if not isinstance(given, list) or not given or not all(isinstance(rate, (int, float)) for rate in given):
            raise UserError(f"optimizers.{one}.learning_rate must be a list of learning rates, got {given!r}")
        rates[one] = given
    search = Architectures(
        path.stem,
        SweepConfig(
            config=tree["config"],
            vary={NETWORK: list(networks), TRAINING: list(trainings(rates))},
            fix=tree.get("fix", {}),
            metric=tree.get("metric", "life"),
            seeds=tree.get("seeds", (0, 1, 2, 3)),
            sampler="grid",
            trials=len(networks) * sum(map(len, rates.values())),
        ),
        read_varied(path, tree["config"]),
        networks=networks,
        optimizers=optimizers,
        rates=rates,
    )
    if len(search.sweep.seeds) < 2:
        raise UserError(f"seeds must be at least two, so that noise can be told, got {search.sweep.seeds!r}")
    search.check()
    return search


def _by_name(tree: Mapping[str, Any], key: str, least: int) -> dict[str, Mapping[str, Any]]:
    given = tree[key]
    if (
        not isinstance(given, Mapping)
        or len(given) < least
        or not all(isinstance(one, Mapping) for one in given.values())
    ):
        raise UserError(f"{key} must hold at least {least} by name, each with its keys, got {given!r}")
    return dict(given)


# -- the report -------------------------------------------------------------------------------------------


def scores_at_best_rates(
    study: "optuna.Study", search: Architectures
) -> tuple[dict[str, Floats], dict[str, dict[str, float]]]:
    """Each network's scores under each optimizer, at the learning rate that is best for the two together.

    Args:
        study: The search's.
        search: The search.

    Returns:
        By optimizer, scores of shape ``(networks, seeds)``, and by optimizer and network the rate. Networks that
        no finished trial has are NaN.
    """
    seeds = [f"seed {seed}" for seed in search.sweep.seeds]
    names = list(search.networks)
    scores = {one: np.full((len(names), len(seeds)), np.nan) for one in search.optimizers}
    rates: dict[str, dict[str, float]] = {one: {} for one in search.optimizers}
    for trial in counted(study.get_trials(deepcopy=False)):
        if trial.state.name != "COMPLETE":
            continue
        optimizer, rate = search.trainings[trial.params[TRAINING]]
        row = names.index(trial.params[NETWORK])
        own = np.array([trial.user_attrs[seed]["score"] for seed in seeds])
        kept = scores[optimizer]
        if np.isnan(kept[row]).any() or own.mean() > kept[row].mean():
            kept[row] = own
            rates[optimizer][trial.params[NETWORK]] = rate
    return scores, rates


def verdict(scores: Mapping[str, Floats], names: Sequence[str]) -> str:
    """Whether the winner is the optimizer's doing, in words.

    It is, where the winner under one optimizer is surely worse under another than that one's own.
    """
    winners = {one: int(own.mean(1).argmax()) for one, own in scores.items()}
    if len(scores) == 1:
        (only,) = winners
        return (
            f"{names[winners[only]]} is first under {only}; with one optimizer nothing can be said of the others."
        )
    told = ", ".join(f"{names[row]} under {one}" for one, row in winners.items())
    if len(set(winners.values())) == 1:
        return f"The winner is not the optimizer's doing: it is {names[next(iter(winners.values()))]} under each."
    for one, row in winners.items():
        for other, own in scores.items():
            lost, low, _ = regret(own, row)
            if low > 0:
                return (
                    f"The winner is the optimizer's doing: first are {told}, and {names[row]}, first under {one}, "
                    f"falls {lost:.1f} short of the best under {other}, beyond chance."
                )
    return (
        f"Whether the winner is the optimizer's doing cannot be told: first are {told}, but under no optimizer is "
        "one of them surely worse than the first. More seeds could tell."
    )


def report(study: "optuna.Study", search: Architectures, folder: Path) -> None:
    """Print the rankings and what they are worth, and write them to ``architectures.md``.

    Args:
        study: The search's.
        search: The search.
        folder: Where to.
    """
    scores, rates = scores_at_best_rates(study, search)
    whole = {one: own for one, own in scores.items() if not np.isnan(own).any()}
    if not whole:
        return
    rng = np.random.default_rng(0)
    names = list(search.networks)
    lines = [
        f"| rank | {' | '.join(whole)} |",
        "|---:|" + "---|" * len(whole),
    ]
    order = {one: np.argsort(-own.mean(1)) for one, own in whole.items()}
    for rank in range(len(names)):
        cells = []
        for one, own in whole.items():
            row = order[one][rank]
            spread = own[row].std(ddof=1) / np.sqrt(own.shape[1])
            rate = rates[one][names[row]]
            cells.append(f"{names[row]} {own[row].mean():.1f} +- {spread:.1f} (lr {rate:g})")
        lines.append(f"| {rank + 1} | {' | '.join(cells)} |")
    lines += ["", "Mean +- standard error over seeds, at the best learning rate for network and optimizer.", ""]
    floors = {one: noise_floor(own, rng) for one, own in whole.items()}
    if len(whole) > 1:
        lines += ["| rankings | Kendall's tau (95 % interval) | within the one, the other |", "|---|---:|---:|"]
    for one, other in combinations(whole, 2):
        middle, low, high = agreement(whole[one], whole[other], rng)
        shown = f"{middle:.2f} ({low:.2f} to {high:.2f})"
        lines.append(f"| {one}, {other} | {shown} | {floors[one]:.2f}, {floors[other]:.2f} |")
    if len(whole) > 1:
        lines += ["", "Within: tau between two halves of an optimizer's own seeds, all that noise leaves.", ""]
    lines.append(verdict(whole, names))
    said = ", ".join(f"{name}: {label(dict(keys))}" for name, keys in search.networks.items())
    text = "\n".join(lines)
    path = folder / "architectures.md"
    files.write(path, f"# Networks ranked: {search.name}\n\n{text}\n\nNetworks: {said}.\n")
    print(f"\n{text}\n\n{path}")
