import gymnasium as gym
import numpy as np
import pytest

from rl_rms.agents import A2C
from rl_rms.agents.evaluation import evaluate
from rl_rms.envs import NonStationary, NonStationaryVector, make_vec
from rl_rms.envs.curricula import Staged, SuccessGated
from rl_rms.envs.schedules import Linear, OrnsteinUhlenbeck, Redraw
from tests.naming import naming

CHANGES = {"level": Linear(start=0.0, end=100.0, over=100)}


def test_frozen_at_a_clock_restores_the_episode_afterwards(probe):
    env = NonStationary(probe(), CHANGES)
    env.reset(seed=0)
    assert [env.step(None)[1] for _ in range(3)] == [0, 1, 2]
    with env.frozen(clock=70) as same:
        assert same is env
        assert [env.step(None)[1] for _ in range(2)] == [70, 70]
        # Frozen environments accept seeds and options and begin episodes, without advancing.
        env.reset(seed=9)
        assert (env.clock, env.step(None)[1]) == (70, 70)
        env.reset(options={"rl_rms.clock": 20})
        assert [env.step(None)[1] for _ in range(5)] == [20] * 5
    assert env.clock == 3
    # The episode of five steps continues with its fourth step.
    assert env.step(None)[0].tolist() == [4, 4]
    assert env.step(None)[1:3] == (4, True)


def test_target_that_a_wrapper_inside_changes_raises_value_error(probe):
    with pytest.raises(ValueError, match=naming("'level'", "NonStationary", "one wrapper")):
        NonStationary(NonStationary(probe(), CHANGES), {"level": 1.0})
    twice = NonStationary(NonStationary(probe(), {"level": 5.0, "reward.scale": 2.0}), {"reward.scale": 3.0})
    twice.reset(seed=0)
    assert twice.step(None)[1] == 30.0
    for mode, target in (("native", "g"), ("sync", "g"), ("sync", "reward.scale")):
        env = make_vec("Pendulum-v1", 2, {target: 2.0}, vectorization_mode=mode)
        with pytest.raises(ValueError, match=naming(f"'{target}'", "NonStationaryVector", "one wrapper")):
            NonStationaryVector(env, {target: 1.0})


def test_frozen_without_a_clock_keeps_the_present_clock(probe):
    env = NonStationary(probe(), CHANGES)
    env.reset(seed=0)
    env.step(None)
    with env.frozen():
        assert [env.step(None)[1] for _ in range(3)] == [1, 1, 1]
    assert env.clock == 1


def test_frozen_within_frozen_keeps_the_clock(probe):
    env = NonStationary(probe(), CHANGES)
    env.reset(seed=0)
    with env.frozen(clock=9):
        with env.frozen(clock=70):
            env.step(None)
        env.step(None)
        assert env.clock == 9
    env.step(None)
    assert env.clock == 1


def test_frozen_restores_the_environment_after_an_error(probe):
    env = NonStationary(probe(), CHANGES)
    env.reset(seed=0)
    with pytest.raises(RuntimeError, match=naming("evaluation")), env.frozen(clock=9):
        raise RuntimeError("evaluation")
    assert (env.clock, env.step(None)[1], env.step(None)[1]) == (0, 0, 1)


def test_frozen_draws_noise_and_restores_it(probe):
    env, other = (NonStationary(probe(length=50), {"reward.noise": 1.0}, seed=0) for _ in range(2))
    for one in (env, other):
        one.reset(seed=0)
    with env.frozen(clock=7):
        noises = [env.step(None)[1] for _ in range(10)]
    assert len(set(noises)) == 10
    assert [env.step(None)[1] for _ in range(5)] == [other.step(None)[1] for _ in range(5)]


@pytest.mark.parametrize("native", [True, False])
def test_frozen_vector_keeps_every_clock(native):
    mode = "vector_entry_point" if native else "sync"
    changes = {"gravity": Redraw(5.0, 15.0, every=10)}
    stages = Staged([{"length": 0.5}, {"length": 1.0}], threshold=1, window=1)
    env, undisturbed = (
        make_vec("CartPole-v1", 3, changes, curriculum=one, seed=0, vectorization_mode=mode)
        for one in (stages, Staged(stages.stages, threshold=1, window=1))
    )
    for one in (env, undisturbed):
        one.reset(seed=1)
    actions = np.array([0, 1, 1])
    for step in range(60):
        if step == 5:
            with env.frozen(clock=100):
                env.reset(seed=3)
                for _ in range(40):
                    env.step(actions)
                    assert env.parameters["gravity"] == env.oracle(100, 101)["gravity"][0]
                    assert env.parameters["length"].tolist() == [0.5] * 3
                assert env.curriculum.stage == 0
        ours, theirs = env.step(actions), undisturbed.step(actions)
        assert all(np.array_equal(one, other) for one, other in zip(ours[:4], theirs[:4], strict=True))
    assert env.clock == undisturbed.clock
    assert env.curriculum.stage == undisturbed.curriculum.stage == 1


def test_frozen_evaluation_changes_no_training():
    changes = {"gravity": Linear(start=9.8, end=20.0, over=5_000)}
    agents = [A2C(make_vec("CartPole-v1", 4, changes, seed=0), seed=0).learn(200) for _ in range(2)]
    with agents[0].env.frozen(clock=4_000) as env:
        result = evaluate(agents[0], env, episodes=4)
        assert env.clock == 4_000
    assert result.returns.shape == (4,)
    for agent in agents:
        agent.learn(200)
    assert agents[0].env.clock == agents[1].env.clock > 400
    assert all(
        map(np.array_equal, *([one.detach().numpy() for one in agent.policy.parameters()] for agent in agents))
    )


def test_oracle_equals_the_later_parameters(probe):
    env = NonStationary(probe(length=50), {"level": OrnsteinUhlenbeck(0.0, 1.0, tau=20)}, seed=3, env_index=2)
    env.reset(seed=0)
    levels = env.oracle(0, 60)["level"]
    assert env.oracle(10, 20)["level"].tolist() == levels[10:20].tolist()
    for step in range(60):
        assert env.step(None)[1] == levels[step]
    assert env.oracle(5, 5)["level"].shape == (0,)
    with pytest.raises(ValueError, match=naming("t1", ">= 5", "4")):
        env.oracle(5, 4)
    with pytest.raises(ValueError, match=naming("t0", ">= 0", "-1")):
        env.oracle(-1, 4)


def test_curriculum_sets_parameters_in_workers(probes):
    stages = [{"length": 0.5}, {"length": 0.3}, {"length": 0.2}]
    shown = []
    for mode in ("sync", "async"):
        env = make_vec(
            "CartPole-v1", 2, curriculum=Staged(stages, threshold=5, window=2), vectorization_mode=mode, seed=0
        )
        env.reset(seed=1)
        seen = []
        for _ in range(80):
            observations, *_ = env.step(np.array([0, 1]))
            seen.append(
                (observations.tolist(), env.parameters["length"].tolist(), env.unwrapped.get_attr("length"))
            )
        shown.append(seen)
        assert env.curriculum.stage == 2
        env.close()
    assert shown[0] == shown[1]
    assert {tuple(one[1]) for one in shown[0]} > {(0.5, 0.5)}


class Goal(gym.Env):
    """An environment that reports the success of each episode."""

    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)
    size = 1.0

    def __init__(self, key="is_success"):
        self.key = key

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.full(1, self.size / 10, np.float32), self.size, True, False, {self.key: bool(action)}


def goals():
    """A curriculum whose stage rises after a few successes."""
    return SuccessGated([{"size": 1.0}, {"size": 2.0}], min_episodes=2, threshold=0.3, window=4, cooldown=0)


@pytest.mark.parametrize(("key", "success_key"), [("is_success", None), ("success", None), ("won", "won")])
def test_success_key_is_the_entry_of_info_that_the_curriculum_reads(key, success_key):
    single = NonStationary(Goal(key), curriculum=goals(), success_key=success_key)
    vector = make_vec(lambda: Goal(key), 2, curriculum=goals(), success_key=success_key)
    for env, action in ((single, 1), (vector, np.array([1, 1]))):
        env.reset(seed=0)
        for _ in range(20):
            env.step(action)
            if env is single:
                env.reset()
        assert env.curriculum.stage == 1


def test_success_key_that_no_info_has_is_named():
    env = NonStationary(Goal(), curriculum=goals(), success_key="won")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=naming("success_key", "success_return")):
        env.step(1)


@pytest.mark.parametrize("success_key", ["", 3])
def test_success_key_that_is_no_name_is_named(success_key):
    with pytest.raises(ValueError, match=naming("success_key", repr(success_key), "is_success")):
        make_vec("CartPole-v1", success_key=success_key)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_success_in_every_autoreset_mode_reaches_the_curriculum(mode):
    gate = {"min_episodes": 2, "threshold": 0.3, "window": 4, "cooldown": 0}
    curriculum = SuccessGated([{"size": 1.0}, {"size": 2.0}, {"size": 3.0}], **gate)
    env = NonStationaryVector(
        gym.vector.SyncVectorEnv([Goal, Goal], autoreset_mode=gym.vector.AutoresetMode(mode)),
        curriculum=curriculum,
    )
    env.reset(seed=0)
    for _ in range(6):
        env.step(np.array([0, 0]))
        if mode == "Disabled":
            env.reset(options={"reset_mask": np.array([True, True])})
    assert curriculum.stage == 0
    for _ in range(20):
        env.step(np.array([1, 1]))
        if mode == "Disabled":
            env.reset(options={"reset_mask": np.array([True, True])})
    assert curriculum.stage == 2


def test_reset_with_a_seed_restarts_the_curriculum(probe):
    env = NonStationary(probe(), curriculum=Staged([{"level": 1.0}, {"level": 2.0}], threshold=1, window=1))
    env.reset(seed=0)
    for _ in range(5):
        env.step(None)
    env.reset()
    assert (env.parameters["level"], env.regime) == (2.0, 1)
    env.reset(seed=0)
    assert (env.parameters["level"], env.regime) == (1.0, 0)


def test_reset_with_a_seed_restarts_the_curriculum_of_a_vector(probes):
    stages = [{"level": 1.0}, {"level": 2.0}]
    env = NonStationaryVector(probes([2, 2]), curriculum=Staged(stages, threshold=1, window=1))
    env.reset(seed=0)
    actions = np.zeros((2, 2), np.float32)
    for _ in range(3):
        env.step(actions)
    assert (env.parameters["level"].tolist(), env.regime) == ([2, 2], 1)
    env.reset(options={"reset_mask": np.array([True, True])}, seed=0)
    assert env.regime == 1
    env.reset(seed=0)
    assert (env.parameters["level"].tolist(), env.regime) == ([1, 1], 0)
