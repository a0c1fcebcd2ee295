import os
import signal

import gymnasium as gym
import pytest
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from rl_rms.agents import A2C
from rl_rms.envs import EnvError, NonStationary, ResilientAsyncVectorEnv, ResilientSyncVectorEnv, make_vec
from rl_rms.envs.resilience import set_reaction
from tests.faulty import Faulty
from tests.naming import naming


def makers(*kinds):
    return [lambda kind=kind: Faulty(**kind) for kind in kinds]


def test_set_reaction_of_the_librarys_environments_returns_their_log():
    env = ResilientSyncVectorEnv(makers({}))
    log = set_reaction(env, "restart")
    assert log is env.fault_log is set_reaction(env)
    assert log.on_env_error == "restart"
    assert set_reaction(make_vec("Faulty-v0", 2, vectorization_mode="sync"), "restart").on_env_error == "restart"


@pytest.mark.parametrize(
    "make",
    [
        lambda: gym.make_vec("CartPole-v1", 2),
        lambda: gym.make_vec("CartPole-v1", 2, vectorization_mode="sync"),
        lambda: AsyncVectorEnv(makers({})),
    ],
)
def test_set_reaction_of_other_environments_raises_value_error(make):
    env = make()
    assert set_reaction(env) is None
    kind = type(env).__name__
    with pytest.raises(
        ValueError, match=naming("on_env_error='restart'", kind, "rl_rms.envs.make_vec", "ResilientSyncVectorEnv")
    ):
        set_reaction(env, "restart")
    with pytest.raises(
        ValueError, match=naming("env_timeout", "1.5", kind, "rl_rms.envs.make_vec", "ResilientAsyncVectorEnv")
    ):
        set_reaction(env, env_timeout=1.5)
    env.close()


def test_set_reaction_timeout_in_this_process_raises_value_error():
    with pytest.raises(
        ValueError, match=naming("env_timeout", "ResilientSyncVectorEnv", "ResilientAsyncVectorEnv")
    ):
        set_reaction(ResilientSyncVectorEnv(makers({})), env_timeout=1.0)


def test_set_reaction_restart_of_changing_sub_environments_raises_value_error():
    env = ResilientSyncVectorEnv([lambda: NonStationary(Faulty(), {"level": 2.0})])
    with pytest.raises(ValueError, match=naming("on_env_error='restart'", "NonStationary", "independent")):
        set_reaction(env, "restart")


def test_set_reaction_sets_the_timeout_of_workers():
    env = ResilientAsyncVectorEnv(makers({}))
    set_reaction(env, env_timeout=2.5)
    assert env.env_timeout == 2.5
    env.close()


@pytest.mark.filterwarnings("ignore:.*(Received the following error|Traceback|Raising the last)")
@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
@pytest.mark.parametrize("fault", [{"at": 3}, {"at_reset": 1}])
def test_learn_fault_in_the_users_environment_is_named_with_number_and_seed(kind, fault):
    env = kind(makers({}, fault, {}))
    with pytest.raises(EnvError) as raised:
        A2C(env, seed=7).learn(100)
    assert (raised.value.indices, raised.value.seeds) == ((1,), (8,))
    assert "the motor burnt" in raised.value.problem
    assert isinstance(raised.value.__cause__, RuntimeError)
    assert ("step 3 of its episode" if "at" in fault else "at a reset") in str(raised.value)
    if kind is SyncVectorEnv:
        env.close()


def test_learn_killed_worker_of_the_users_environment_is_named():
    env = AsyncVectorEnv(makers({}, {}, {}))
    agent = A2C(env, seed=7).learn(30)
    os.kill(env.processes[2].pid, signal.SIGKILL)
    env.processes[2].join()
    with pytest.raises(EnvError) as raised:
        agent.learn(100)
    assert raised.value.indices == (2,)
    env.close(terminate=True)


def test_learn_error_outside_of_the_sub_environments_is_not_named():
    class Broken(SyncVectorEnv):
        def step(self, actions):
            raise ZeroDivisionError("in the vector environment")

    with pytest.raises(ZeroDivisionError, match=naming("vector environment")):
        A2C(Broken(makers({}, {})), seed=0).learn(10)


@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
def test_learn_does_not_modify_the_users_environment(kind):
    env = kind(makers({}, {}))
    before, attributes = type(env), set(vars(env))
    subs = list(getattr(env, "envs", []))
    A2C(env, seed=0).learn(100)
    assert type(env) is before
    assert set(vars(env)) == attributes
    assert all(one is other for one, other in zip(getattr(env, "envs", []), subs, strict=True))
    assert env.call("has_wrapper_attr", "parameter_targets") == (False, False)
    env.close()
