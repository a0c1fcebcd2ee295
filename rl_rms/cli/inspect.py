"""``rl-rms inspect ENV``: lists what can change in an environment, and whether a change has an effect."""

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

from rl_rms.cli.config import RunConfig, find_config, parse_config
from rl_rms.cli.errors import UserError
from rl_rms.cli.parser import Parser
from rl_rms.cli.trust import see_working_folder
from rl_rms.cli.yaml_files import read_file
from rl_rms.envs.checks import number_of
from rl_rms.envs.config import EnvConfig


def main(argv: Sequence[str]) -> int:
    """Inspect an environment with the arguments after ``rl-rms inspect``.

    Raises:
        UserError: If the environment does not exist or cannot be made, or the configuration is wrong.
    """
    parser = Parser(
        prog="rl-rms inspect",
        usage="rl-rms inspect ENV",
        description="List what can change in an environment: numbers by their paths, and transforms of rewards, "
        "observations and actions. Each change is tested on a copy of the environment with random actions.",
        examples=[
            "rl-rms inspect CartPole-v1",
            "rl-rms inspect drifting_cartpole",
        ],
    )
    parser.add_argument(
        "env",
        type=str,
        metavar="ENV",
        help="Environment id of Gymnasium, module:Id, or a configuration: a YAML file or a packaged name.",
    )
    config = _read(parser.parse_args(list(argv)).env)

    from rl_rms.cli.build import make_env
    from rl_rms.envs.inspection import effect, find_targets
    from rl_rms.envs.parametrized import find_parametrized

    alone = replace(config.env, num_envs=1, vectorization_mode="sync", changes={}, curriculum=None, observe=None)
    vector: Any = make_env(replace(config, env=alone))
    try:
        env = find_parametrized(vector.unwrapped.envs[0]).env
        targets = find_targets(env)
        rows = [(one.name, one.kind, _shown(one.value)) for one in targets]
        columns = [("target", "type", "value"), *rows]
        name, kind, value = (max(map(len, column)) for column in zip(*columns, strict=True))
        print(f"{'target':<{name}}  {'type':<{kind}}  {'value':>{value}}  effect")
        for row, target in zip(rows, targets, strict=True):
            start = f"{row[0]:<{name}}  {row[1]:<{kind}}  {row[2]:>{value}}  "
            print(start + effect(target), flush=True)
    finally:
        vector.close()
    return 0


def _read(word: str) -> RunConfig:
    """Read the configuration that a word names, or make a configuration for an environment id."""
    see_working_folder()
    try:
        path = find_config(word)
    except UserError as no_config:
        from gymnasium.error import Error

        from rl_rms.envs import tasks  # noqa: F401  (it registers environments)
        from rl_rms.envs.specs import find_spec

        try:
            find_spec(word)
        except Error as error:
            from rl_rms.cli.build import how_to_register

            mend = how_to_register(word, error)
            raise UserError(f"{word} is not an environment id: {error}{mend} And {no_config}") from error
        except ModuleNotFoundError:
            pass  # make_env will report the missing module
        return RunConfig(env=EnvConfig(id=word))
    return parse_config(read_file(path, word))


def _shown(value: object) -> str:
    if isinstance(value, Enum):
        return f"{value.name} = {number_of(value):g}"
    return f"{value:g}" if isinstance(value, float) else str(value)
