import numpy as np
import pytest

from rl_rms.agents import A2C, PPO, Reinforce
from rl_rms.cli.runs import read_run
from rl_rms.envs import make_vec
from rl_rms.envs.curricula import Staged
from rl_rms.envs.schedules import Constant, PoissonJumps, Sinusoid

JUMPS = PoissonJumps(low=0.3, high=2.0, mean_dwell=50)


class Own(Constant):
    """A schedule that cannot be written as YAML."""

    name = "own"


def trained(kind, env, folder, **hyperparameters):
    kind(env, seed=3, **hyperparameters).learn(200, log_dir=folder)
    return read_run(folder).config


@pytest.mark.parametrize("kind", [A2C, PPO, Reinforce])
def test_learn_writes_the_configuration_of_its_training(kind, tmp_path):
    env = make_vec("CartPole-v1", 2, {"length": JUMPS}, sharing="independent", seed=7)
    config = trained(kind, env, tmp_path, half_life="500 steps")
    assert (config.agent.algorithm, config.agent.half_life) == (kind.algorithm, "500 steps")
    assert (config.env.id, config.env.num_envs, config.env.sharing) == ("CartPole-v1", 2, "independent")
    assert config.env.schedules() == {"length": JUMPS}
    assert (config.total_timesteps, config.seed, config.drift_seed) == (200, 3, 7)


def test_learn_with_equal_seeds_omits_drift_seed(tmp_path):
    assert trained(A2C, make_vec("CartPole-v1", 1, {"length": JUMPS}), tmp_path).env.drift_seed is None


def test_learn_in_an_environment_without_changes_writes_its_id(tmp_path):
    assert trained(A2C, "CartPole-v1", tmp_path).env.id == "CartPole-v1"


def test_learn_with_a_curriculum_writes_it(tmp_path):
    curriculum = Staged([{"length": 1.0}, {"length": 0.5}], threshold=400, window=20)
    config = trained(A2C, make_vec("CartPole-v1", 1, curriculum=curriculum), tmp_path)
    assert config.env.make_curriculum().targets == ("length",)


def test_learn_with_a_schedule_of_the_user_leaves_the_changes_out(tmp_path):
    assert trained(A2C, make_vec("CartPole-v1", 1, {"length": Own(0.4)}), tmp_path).env.changes == {}


def test_learn_with_an_object_in_the_optimizer_arguments_writes_its_text(tmp_path):
    config = trained(A2C, "CartPole-v1", tmp_path, optimizer_kwargs={"eps": np.float32(0.5)})
    assert config.agent.optimizer_kwargs == {"eps": "0.5"}


def test_learn_into_the_folder_of_another_training_replaces_its_configuration(tmp_path):
    trained(A2C, "CartPole-v1", tmp_path)
    with pytest.warns(UserWarning, match="earlier1"):
        assert trained(PPO, "CartPole-v1", tmp_path).agent.algorithm == "ppo"
    assert read_run(tmp_path / "earlier1").config.agent.algorithm == "a2c"


def test_learn_keeps_a_configuration_of_the_command_line(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 5\n")
    assert trained(A2C, "CartPole-v1", tmp_path).seed == 5


def test_learn_in_a_changing_environment_logs_its_regimes(tmp_path):
    trained(A2C, make_vec("CartPole-v1", 2, {"gravity": Sinusoid(9.8, 4.0, 100)}), tmp_path)
    assert read_run(tmp_path).series("adaptation/mean")[0]
