"""``rl-rms evaluate RUN``: evaluates the agent of a run in the run's environment."""

from collections.abc import Sequence
from dataclasses import replace

from rl_rms.cli.console import Counter, make_console, shown_return
from rl_rms.cli.errors import UserError
from rl_rms.cli.groups import NEWEST, newest_run
from rl_rms.cli.parser import Parser
from rl_rms.cli.runs import CHECKPOINTS, read_run
from rl_rms.cli.trust import HELP, check_folder, own_optimizer, own_policy


def main(argv: Sequence[str]) -> int:
    """Evaluate a run's agent with the arguments after ``rl-rms evaluate``.

    Raises:
        UserError: If the run or its checkpoint cannot be read, if the folder is not trusted, or if an option is
            out of its range.
    """
    parser = Parser(
        prog="rl-rms evaluate",
        usage="rl-rms evaluate RUN ... [--OPTION VALUE ...]",
        description="Play episodes with the agent of a run, in the run's environment.",
        examples=[
            "rl-rms evaluate runs/drifting_cartpole",
            "rl-rms evaluate runs/drifting_cartpole/*-seed0 --episodes 100 --deterministic false",
            "rl-rms evaluate runs/drifting_cartpole/*-seed0 --clock 0   # at the start of the drift",
        ],
    )
    parser.add_argument("runs", type=str, nargs="+", metavar="RUN", help=NEWEST)
    parser.add_argument("--episodes", type=int, default=20, help="Episodes to play, >= 1.")
    parser.add_argument(
        "--deterministic", type=bool, default=True, help="Whether to take the most likely actions."
    )
    parser.add_argument("--seed", type=int, default=1_000_000, help="Seed of the environment and the actions.")
    parser.add_argument(
        "--clock",
        type=int | None,
        default=None,
        help="Value of the environment's clock at the start, in env steps; null for the checkpoint's env steps.",
    )
    parser.add_argument(
        "--checkpoint",
        type=str,
        default=f"{CHECKPOINTS}/final.safetensors",
        help="Path of the checkpoint, relative to the run's folder.",
    )
    parser.add_argument("--trust", action="store_true", help=HELP)
    arguments = parser.parse_args(list(argv))
    for name, least in (("episodes", 1), ("seed", 0), ("clock", 0)):
        if arguments[name] is not None and arguments[name] < least:
            raise UserError(f"--{name} must be >= {least}, got {arguments[name]}")

    import numpy as np
    import torch

    from rl_rms.agents.evaluation import evaluate
    from rl_rms.cli.build import build, make_env

    folder = newest_run(arguments.runs)
    run = read_run(folder)
    check_folder(run.config, folder, "evaluate", trust=arguments.trust)
    torch.set_num_threads(run.config.num_threads)
    config = run.config
    # Independent clocks divide a reading by the number of sub-environments.
    if config.env.sharing != "independent" and arguments.episodes < config.env.num_envs:
        config = replace(config, env=replace(config.env, num_envs=arguments.episodes))
    env = make_env(config)
    seed: int | None = arguments.seed
    try:
        # Building an agent also applies on_env_error and env_timeout to env, and reports errors of its reset.
        agent = type(build(config, env)).load(
            folder / arguments.checkpoint,
            policy=own_policy(config),
            optimizer=own_optimizer(config),
            device=config.agent.device,
        )
        agent.session.lend_wrapper_states(env)
        if config.env.curriculum is not None:
            env.reset(seed=seed)
            if agent.session.lend_curriculum(env):
                seed = None  # a reset with a seed would restart the curriculum
    except (FileNotFoundError, ValueError) as error:
        raise UserError(str(error)) from error
    agent.generator.bit_generator.state = np.random.default_rng(arguments.seed).bit_generator.state
    clock = agent.num_timesteps if arguments.clock is None else arguments.clock
    with Counter(make_console(), "episodes") as counter:
        result = evaluate(
            agent,
            env,
            arguments.episodes,
            deterministic=arguments.deterministic,
            seed=seed,
            clock=clock,
            progress=counter.show,
        )
    env.close()
    print(
        f"mean return {shown_return(result.mean_reward)} +- {shown_return(result.std_reward)} (standard "
        f"deviation), mean length {result.mean_ep_length:.1f} env steps, {arguments.episodes} episodes, "
        f"environment clock from {clock:,}"
    )
    return 0
