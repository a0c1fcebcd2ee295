"""The help of ``rl-rms train``: the most used keys or all keys."""

from collections.abc import Sequence

from rl_rms.cli.config import ALGORITHMS, algorithm_of, find_config, run_parser
from rl_rms.cli.yaml_files import read_file

KEYS = {
    "--env.id ID": "Gymnasium's id of the environment",
    "--env.num_envs N": "number of parallel sub-environments",
    "--env.changes.TARGET SCHEDULE": "schedule of a parameter; draw it with rl-rms plot-schedule",
    "--agent.algorithm NAME": " or ".join(ALGORITHMS),
    "--agent.half_life VALUE": '69 (updates), "20_000 steps" (env steps), match or auto',
    "--agent.learning_rate RATE": "step size: a number or a schedule",
    "--total_timesteps N": "env steps to train for, all sub-environments together",
    "--seed N": "seed of the network, the actions and the environment",
    "--eval_every N": "env steps between two evaluations",
    "--checkpoint_every N": "env steps between two checkpoints; the last one is saved at the end",
    "--video_every N": "env steps between two videos; needs the extra video",
    "--scale.engine ray": "train in several processes (--scale.workers N); or use torchrun",
    "--progress HOW": "auto, lines, json (for scripts) or none (only the run's folder)",
    "--runs_dir FOLDER": "parent folder of the run's folder",
}
EXAMPLES = (
    "rl-rms train drifting_cartpole",
    'rl-rms train drifting_cartpole --agent.half_life "20_000 steps" --seed 1',
    "rl-rms train cartpole_a2c --env.changes.gravity '{step: {before: 9.8, after: 20, at: 50000}}'",
    "rl-rms train cartpole_a2c --env.id Acrobot-v1 --agent.policy.hidden_sizes [32,32]",
    "rl-rms train drifting_cartpole --seeds 0-4 --jobs 2",
    "rl-rms train drifting_cartpole --progress json | jq .return",
)


_USAGE = "rl-rms train CONFIG [--seeds SEEDS [--jobs N]] [--KEY VALUE ...]"
_OPTIONS = {
    "--seeds 0-4": "train several seeds (or 0,3,7), each in its own process",
    "--jobs N": "processes at a time with --seeds; by default the number of CPUs",
}
_ALL = "--help=all"


def help_of(config: str | None, words: Sequence[str]) -> str | None:
    """Return the help text if the words after ``rl-rms train`` contain a help option; otherwise None.

    Raises:
        UserError: If the configuration does not exist or is not YAML, or the algorithm does not exist.
    """
    if _ALL in words:
        tree = {} if config is None else read_file(find_config(config), config)
        parser = run_parser(algorithm_of(tree, words))
        parser.usage = _USAGE
        parser.description = (
            "CONFIG is a YAML file or the name of a packaged configuration. Every key of it can be overridden. "
            f"--agent.algorithm ({', '.join(ALGORITHMS)}) determines the agent's keys. --seeds 0-4 (or 0,3,7) "
            "trains several seeds, each in its own process, --jobs N at a time."
        )
        parser.examples = EXAMPLES
        return parser.format_help()
    return _short() if "-h" in words or "--help" in words else None


def _short() -> str:
    keys = "".join(f"  {key:<30}{meaning}\n" for key, meaning in KEYS.items())
    options = "".join(f"  {option:<30}{meaning}\n" for option, meaning in _OPTIONS.items())
    examples = "".join(f"  {example}\n" for example in EXAMPLES)
    return (
        f"usage: {_USAGE}\n\nTrain an agent. CONFIG is a YAML file or the name of a packaged configuration: "
        "drifting_cartpole,\ncartpole_a2c, cartpole_ppo, pendulum_ppo and others. Every key of it can be "
        f"overridden.\n\nmost used keys:\n{keys}\noptions:\n{options}  {_ALL:<30}every key, with its meaning, "
        f"type and default\n  {'--print_config':<30}print the resulting configuration and "
        f"exit\n\nexamples:\n{examples}"
    )
