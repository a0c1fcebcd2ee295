import copy
import json
import math
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from rl_rms.envs import NonStationary, NonStationaryVector, make_vec
from rl_rms.envs.curricula import Staged
from rl_rms.envs.drift import regime_changes, trace
from rl_rms.envs.schedules import Linear, PoissonJumps, Redraw, Sinusoid, Step
from tests.envs.vectors import NativeProbes, play
from tests.naming import naming

CHANGES = {
    "gravity": Sinusoid(mean=9.8, amplitude=4, period=300),
    "length": Redraw(low=0.3, high=0.9, every=40),
    "masscart": PoissonJumps(low=0.5, high=2, mean_dwell=25),
    "reward.scale": Step(before=1, after=3, at=60),
    "observation.offset": Redraw(values=[-0.5, 0.5], every=70),
    "action.flip": Step(before=0, after=1, at=90),
}


MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED]


def make(kind, lengths, mode, probes):
    return NativeProbes(lengths, mode) if kind == "native" else probes(lengths, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["native", "sync"])
def test_clock_counts_only_true_transitions_in_every_autoreset_mode(kind, mode, probes):
    # Episodes have 1, 2 and 5 env steps. In 12 vector steps of NextStep mode, the sub-environments have 6, 8 and
    # 10 transitions. The other modes have no reset frames.
    true = [6, 8, 10] if mode is AutoresetMode.NEXT_STEP else [12, 12, 12]
    shared = NonStationaryVector(
        make(kind, [1, 2, 5], mode, probes), {"reward.offset": Linear(0, 1000, over=1000)}
    )
    shared.reset(seed=0)
    shown = play(shared, 12)
    assert shared.clock == sum(true)
    assert shared.clocks.tolist() == [sum(true)] * 3
    # All rewards use the clock at the beginning of the vector step. Reset frames have the reward 0.
    before = 0
    for _, rewards, _, _ in shown:
        assert set(rewards) <= {1.0 + before, 0.0}
        before += np.count_nonzero(rewards)
    assert before == sum(true)

    alone = NonStationaryVector(
        make(kind, [1, 2, 5], mode, probes), {"reward.offset": Linear(0, 1000, over=1000)}, sharing="independent"
    )
    alone.reset(seed=0)
    shown = play(alone, 12)
    assert alone.clocks.tolist() == true
    assert alone.clock == sum(true)
    for i, num_steps in enumerate(true):
        assert [rewards[i] for _, rewards, _, _ in shown if rewards[i]] == list(range(1, num_steps + 1))


@pytest.mark.parametrize("sharing", ["shared", "independent"])
def test_only_reset_with_a_seed_and_without_a_mask_rewinds_the_clock(sharing, probes):
    env = NonStationaryVector(probes([3, 4], AutoresetMode.DISABLED), {"level": 2.0}, sharing=sharing, seed=0)
    env.reset(seed=0)
    play(env, 5)
    assert env.clock == 10
    env.reset()
    assert env.clock == 10
    env.reset(seed=1, options={"reset_mask": np.array([True, False])})
    assert env.clock == 10
    env.reset(options={"rl_rms.clock": 7})
    assert (env.clock, env.clocks.tolist()) == (7, [7, 7] if sharing == "shared" else [4, 3])
    env.clock = 5
    assert env.clock == 5
    env.reset(seed=[3, 4])
    assert env.clock == 0
    with pytest.raises(ValueError, match=naming("clock", ">= 0", "-1")):
        env.clock = -1


@pytest.mark.parametrize("kind", ["native", "sync"])
def test_reset_after_an_ended_episode_leaves_no_reset_frame(kind, probes):
    env = NonStationaryVector(make(kind, [2, 9], AutoresetMode.NEXT_STEP, probes), {"level": 2.0})
    env.reset(seed=0)
    play(env, 2)  # the first episode has ended
    env.reset()
    play(env, 1)
    assert env.clock == 6


def test_reset_with_options_leaves_the_users_dictionary_unchanged(probes):
    env = NonStationaryVector(probes([3, 4]), {"level": 2.0})
    options = {"rl_rms.clock": 3, "reset_mask": np.array([True, True])}
    env.reset(options=options)
    assert set(options) == {"rl_rms.clock", "reset_mask"}


@pytest.mark.parametrize("sharing", ["shared", "phase", "independent"])
def test_make_vec_in_every_vectorization_mode_gives_the_same_drift(sharing):
    actions = np.random.default_rng(0).integers(0, 2, size=150)
    shown = {}
    for mode in ("vector_entry_point", "sync", "async"):
        env = make_vec("CartPole-v1", 3, CHANGES, sharing=sharing, vectorization_mode=mode)
        env.reset(seed=4)
        shown[mode] = []
        for action in actions:
            *transition, info = env.step(np.full(3, action))
            shown[mode].append((*(one.tolist() for one in transition), info["rl_rms.regime"].tolist()))
            # The values equal the schedules at the clocks, independent of the episodes.
            for i, clock in enumerate(env.clocks):
                index = i if sharing == "independent" else 0
                changes = CHANGES
                if sharing == "phase":
                    # The phases are thirds of the cycle, or of the timescale.
                    spans = {"gravity": 300, "length": 32, "masscart": 25, "reward.scale": 60}
                    spans |= {"observation.offset": 56, "action.flip": 90}
                    changes = {name: one.ahead(round(i / 3 * spans[name])) for name, one in CHANGES.items()}
                held = {name: float(np.broadcast_to(value, 3)[i]) for name, value in env.parameters.items()}
                assert held == {name: values[0] for name, values in trace(changes, [clock], 4, index).items()}
                assert info["rl_rms.regime"][i] == regime_changes(changes, 0, clock, 4, index).size
        env.close()
    assert shown["sync"] == shown["async"]


def test_make_vec_with_independent_sharing_gives_the_drift_of_single_environments():
    env = make_vec("CartPole-v1", 2, CHANGES, sharing="independent", seed=4, vectorization_mode="sync")
    env.reset(seed=10)
    singles = [NonStationary(gym.make("CartPole-v1"), CHANGES, seed=4, env_index=i) for i in range(2)]
    for i, single in enumerate(singles):
        single.reset(seed=10 + i)
    resetting = np.zeros(2, bool)
    for k in range(300):
        observations, rewards, terminated, truncated, info = env.step(np.full(2, k % 3 == 0, dtype=int))
        for i, single in enumerate(singles):
            if resetting[i]:
                assert observations[i].tolist() == single.reset()[0].tolist()
                continue
            observation, reward, *_, single_info = single.step(int(k % 3 == 0))
            assert observations[i].tolist() == observation.tolist()
            assert (rewards[i], info["rl_rms.regime"][i]) == (reward, single_info["rl_rms.regime"])
        resetting = terminated | truncated


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["native", "sync"])
def test_step_in_every_autoreset_mode_transforms_observations_and_rewards(kind, mode, probes):
    changes = {"observation.offset": 10.0, "observation.gain": 2.0, "reward.scale": 3.0, "reward.offset": 0.5}
    env = NonStationaryVector(make(kind, [2, 3], mode, probes), changes)
    assert (env.single_observation_space.high == np.inf).all()
    assert env.observation_space.shape == (2, 2)
    observations, _ = env.reset(seed=0)
    assert observations.tolist() == [[10, 10]] * 2
    shown = play(env, 3)
    firsts = {
        AutoresetMode.NEXT_STEP: ([12, 14, 10], [12, 14, 16]),
        AutoresetMode.SAME_STEP: ([12, 10, 12], [12, 14, 10]),
        AutoresetMode.DISABLED: ([12, 14, 12], [12, 14, 16]),
    }[mode]
    for i, expected in enumerate(firsts):
        assert [observations[i, 0] for observations, *_ in shown] == expected
    assert [rewards[0] for _, rewards, *_ in shown] == [3.5, 3.5, 0 if mode is AutoresetMode.NEXT_STEP else 3.5]
    if mode is AutoresetMode.SAME_STEP:
        assert shown[1][-1]["final_obs"][0].tolist() == [14, 14]
        assert shown[1][-1]["final_obs"][1] is None
        assert shown[2][-1]["final_obs"][1].tolist() == [16, 16]


def test_action_flip_by_sharing_flips_the_actions_of_all_or_of_each():
    def first(actions, flip, sharing):
        env = make_vec("CartPole-v1", 2, {"action.flip": flip}, sharing=sharing, seed=1)
        env.reset(seed=0)
        return env.step(np.array(actions))[0].tolist()

    assert first([0, 1], 1.0, "shared") == first([1, 0], 0.0, "shared") != first([0, 1], 0.0, "shared")
    # With seed 1, only the actions of the first sub-environment are flipped.
    redraw = Redraw(values=[0, 1], every=10)
    flips = [trace({"action.flip": redraw}, [0], 1, i)["action.flip"][0] for i in range(2)]
    assert flips == [1, 0]
    assert first([0, 0], redraw, "independent") == first([1, 0], 0.0, "shared")


DRAWN = {
    "reward.noise": 0.5,
    "observation.offsets": Sinusoid(mean=2, amplitude=1, period=30),
    "observation.offsets_draw": Redraw(values=[0, 1, 2], every=20),
    "observation.noise": Redraw(values=[0, 0.3], every=7),
    "observation.permute": Redraw(values=[0, 1, 2], every=15),
    "observation.mask": Redraw(values=[0, 0.5], every=40),
    "action.permute": Redraw(values=[0, 1, 2, 3], every=25),
    "action.delay": Redraw(values=[0, 1, 3], every=10),
    "action.noise": 0.2,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sharing", ["shared", "independent"])
def test_noise_in_native_and_sync_environments_is_the_same(sharing, mode, probes):
    boxes = {**DRAWN, "action.bias": Redraw(-0.5, 0.5, every=5), "action.gain": 0.5, "action.flip": 1.0}
    shown = {}
    for kind in ("native", "sync"):
        env = NonStationaryVector(make(kind, [2, 3, 9], mode, probes), boxes, sharing=sharing, seed=5)
        observations, _ = env.reset(seed=0)
        shown[kind] = [observations.tolist()]
        for observations, rewards, _, info in play(env, 60):
            final = [one if one is None else one.tolist() for one in info.get("final_obs", ())]
            shown[kind].append((observations.tolist(), rewards.tolist(), final))
        shown[kind].append(env.reset()[0].tolist())
    assert shown["native"] == shown["sync"]
    assert len({str(one) for one in shown["native"]}) == len(shown["native"])


@pytest.mark.parametrize("sharing", ["shared", "independent"])
def test_noise_in_sync_async_and_single_environments_is_the_same(sharing):
    shown = {}
    for mode in ("sync", "async"):
        env = make_vec("CartPole-v1", 2, DRAWN, sharing=sharing, seed=4, vectorization_mode=mode)
        shown[mode] = [env.reset(seed=10)[0].tolist()]
        shown[mode] += [
            (observations.tolist(), rewards.tolist())
            for observations, rewards, *_ in play(env, 80, np.arange(80) // 2 % 2)
        ]
        env.close()
    assert shown["sync"] == shown["async"]
    if sharing == "shared":
        return
    for i in range(2):
        env = NonStationary(gym.make("CartPole-v1"), DRAWN, seed=4, env_index=i)
        assert env.reset(seed=10 + i)[0].tolist() == shown["sync"][0][i]
        done = False
        for k in range(80):
            observations, rewards = shown["sync"][k + 1]
            if done:
                assert env.reset()[0].tolist() == observations[i]
                done = False
                continue
            observation, reward, terminated, truncated, _ = env.step(k // 2 % 2)
            done = terminated or truncated
            assert (observation.tolist(), reward) == (observations[i], rewards[i])


def test_shared_sub_environments_have_the_same_offsets_and_different_noise(probes):
    def first(changes, sharing):
        env = NonStationaryVector(probes([9] * 4), {"observation.offset": 1.0, **changes}, sharing=sharing, seed=1)
        env.reset(seed=0)
        return env.step(env.action_space.sample())[0]

    for changes, how_many in (
        ({"observation.noise": 1.0}, {"shared": 4, "independent": 4}),
        ({"observation.offsets": 1.0}, {"shared": 1, "independent": 4}),
    ):
        for sharing, distinct in how_many.items():
            assert len(np.unique(first(changes, sharing), axis=0)) == distinct


def test_reset_with_a_mask_keeps_the_other_observations(probes):
    for kind in ("native", "sync"):
        env = NonStationaryVector(make(kind, [9, 9], AutoresetMode.DISABLED, probes), {"observation.noise": 1.0})
        env.reset(seed=0)
        before = env.step(env.action_space.sample())[0].copy()
        after = env.reset(options={"reset_mask": np.array([True, False])})[0]
        assert after[1].tolist() == before[1].tolist()
        assert after[0].tolist() != before[0].tolist()


def test_timescale_with_shared_clock_counts_env_steps_of_all_sub_environments():
    assert make_vec("CartPole-v1", 4, CHANGES).timescale == 25
    assert make_vec("CartPole-v1", 4, CHANGES, sharing="independent").timescale == 100
    assert make_vec("CartPole-v1", 4).timescale == math.inf
    assert make_vec("CartPole-v1", 4, CHANGES).schedules == CHANGES


def test_make_vec_without_changes_has_a_clock_and_regimes():
    env = make_vec("Acrobot-v1", 2)
    assert isinstance(env.unwrapped, SyncVectorEnv)
    _, info = env.reset(seed=0)
    assert info["rl_rms.regime"].tolist() == [0, 0]
    *_, info = env.step(np.zeros(2, dtype=int))
    assert (env.clock, env.parameters, info["rl_rms.regime"].dtype, info["_rl_rms.regime"].tolist()) == (
        2,
        {},
        np.int64,
        [True] * 2,
    )


@pytest.mark.parametrize("sharing", ["shared", "independent"])
@pytest.mark.parametrize("mode", ["vector_entry_point", "sync", "async"])
def test_load_state_dict_from_json_gives_the_same_drift(mode, sharing):
    one = make_vec("CartPole-v1", 3, CHANGES, sharing=sharing, seed=3, vectorization_mode=mode)
    other = make_vec("CartPole-v1", 3, CHANGES, sharing=sharing, vectorization_mode=mode)
    one.reset(seed=0)
    play(one, 100, np.arange(100) % 2)
    other.reset(seed=8)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    for env in (one, other):
        env.reset()
    for _ in range(3):
        assert {k: np.array(v).tolist() for k, v in one.parameters.items()} == {
            k: np.array(v).tolist() for k, v in other.parameters.items()
        }
        assert one.clocks.tolist() == other.clocks.tolist()
        assert np.array_equal(one.regime, other.regime)
        for env in (one, other):
            play(env, 3, [0, 1, 0])
    one.close()
    other.close()


def test_load_state_dict_without_environments_counts_from_the_first_transition_of_new_episodes():
    one, other = (make_vec("CartPole-v1", 4, CHANGES, seed=3) for _ in range(2))
    one.reset(seed=0)
    while not one.unwrapped.prev_done.any():
        one.step(one.action_space.sample())
    other.reset(seed=1)
    other.load_state_dict(one.state_dict(environment=False))
    other.step(other.action_space.sample())
    assert other.clock == one.clock + 4


@pytest.mark.parametrize("duplicate", [lambda env: pickle.loads(pickle.dumps(env)), copy.deepcopy])
@pytest.mark.parametrize("sharing", ["shared", "independent"])
def test_copy_gives_the_same_transitions(duplicate, sharing):
    env = make_vec("CartPole-v1", 3, CHANGES, sharing=sharing, seed=3)
    env.reset(seed=0)
    play(env, 60, np.arange(60) % 2)
    twin = duplicate(env)
    theirs, ours = (play(one, 300, np.arange(300) // 2 % 2) for one in (twin, env))
    for their, our in zip(theirs, ours, strict=True):
        assert their[0].tolist() == our[0].tolist()
        assert their[1].tolist() == our[1].tolist()
    assert twin.state_dict() == env.state_dict()


def test_load_state_dict_of_another_kind_raises_value_error():
    shared, alone, more = (
        make_vec("CartPole-v1", n, sharing=how)
        for n, how in ((2, "shared"), (2, "independent"), (3, "independent"))
    )
    more.reset(seed=0)
    with pytest.raises(ValueError, match=naming("sharing='independent'", "num_envs=2", "sharing='shared'")):
        shared.load_state_dict(alone.state_dict())
    for state in (shared.state_dict(), more.state_dict()):
        with pytest.raises(ValueError, match=naming("sharing='independent'", "num_envs=2")):
            alone.load_state_dict(state)
    with pytest.raises(ValueError, match=naming("without a curriculum")):
        make_vec("CartPole-v1", 2, curriculum=Staged([{"length": 1.0}], 1)).load_state_dict(shared.state_dict())


@pytest.mark.parametrize("mode", MODES)
def test_curriculum_in_every_autoreset_mode_sets_the_task_of_each_next_episode(mode, probes):
    curriculum = Staged([{"level": 1.0}, {"level": 5.0}], threshold=2.0, window=2)
    env = NonStationaryVector(probes([2, 3], mode), {"reward.offset": 0.0}, curriculum=curriculum)
    assert env.curriculum is curriculum
    env.reset(seed=0)
    shown = play(env, 8)
    # Returns are 2 and 3, so the stage rises after the third vector step, in which the second episode ends.
    rewards = {
        AutoresetMode.NEXT_STEP: ([1, 1, 0, 1, 1, 0, 5, 5], [1, 1, 1, 0, 5, 5, 5, 0]),
        AutoresetMode.SAME_STEP: ([1, 1, 1, 1, 5, 5, 5, 5], [1, 1, 1, 5, 5, 5, 5, 5]),
        AutoresetMode.DISABLED: ([1, 1, 1, 1, 5, 5, 5, 5], [1, 1, 1, 5, 5, 5, 5, 5]),
    }[mode]
    for i, expected in enumerate(rewards):
        assert [one[i] for _, one, _, _ in shown] == expected
    assert [info["rl_rms.regime"].tolist() for *_, info in shown] == [[0, 0]] * 2 + [[1, 1]] * 6
    assert env.parameters["level"].tolist() == [5.0, 5.0]
    assert env.parameters["reward.offset"] == 0.0


def test_curriculum_in_native_and_sync_environments_is_the_same(probes):
    shown = {}
    for kind in ("native", "sync"):
        env = make(kind, [2, 3, 4], AutoresetMode.NEXT_STEP, probes)
        stages = [{"reward.scale": float(scale)} for scale in range(1, 6)]
        env = NonStationaryVector(
            env, {"reward.offset": Step(0, 1, at=20)}, curriculum=Staged(stages, 1.0, window=2)
        )
        env.reset(seed=0)
        shown[kind] = [(rewards.tolist(), info["rl_rms.regime"].tolist()) for _, rewards, _, info in play(env, 40)]
        assert env.curriculum.stage == 4
    assert shown["native"] == shown["sync"]


def test_constructor_around_other_vector_wrappers_finds_the_sub_environments(probes):
    env = NonStationaryVector(RecordEpisodeStatistics(probes([2, 2])), {"level": 7.0})
    env.reset(seed=0)
    play(env, 1)
    *_, info = play(env, 1)[0]
    assert info["episode"]["r"].tolist() == [14.0, 14.0]


def test_curriculum_in_workers_that_reset_within_a_step_raises_value_error():
    mode = {"autoreset_mode": "SameStep"}
    stages = Staged([{"length": 1.0}], 1)
    with pytest.raises(ValueError, match=naming('autoreset_mode="NextStep"', 'vectorization_mode="sync"')):
        make_vec("CartPole-v1", 2, curriculum=stages, vectorization_mode="async", vector_kwargs=mode)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"changes": {"gravitas": 3}},
            ("CartPoleVectorEnv", "'gravitas'", "force_mag", "gravity"),
        ),
        ({"changes": {"gravitas": 3}, "vectorization_mode": "async"}, ("CartPoleEnv", "'gravitas'")),
        ({"changes": {"gravity": {"sine": {}}}}, ("changes.gravity", "schedule")),
        ({"sharing": "none"}, ("sharing", "shared", "phase", "independent", "'none'")),
        ({"seed": 1.5}, ("seed", ">= 0", "1.5")),
        (
            {"changes": {"length": 1}, "curriculum": Staged([{"length": 1.0}], 1)},
            ("'length'", "changes", "curriculum"),
        ),
    ],
)
def test_make_vec_with_a_wrong_argument_names_it(arguments, said):
    with pytest.raises(ValueError, match=naming(*said)):
        make_vec("CartPole-v1", 2, **arguments)


def test_constructor_of_an_environment_without_autoreset_mode_raises_value_error(probes):
    env = probes([2])
    del env.metadata["autoreset_mode"]
    with pytest.raises(ValueError, match=naming("gymnasium.vector.AutoresetMode", "None")):
        NonStationaryVector(env)
