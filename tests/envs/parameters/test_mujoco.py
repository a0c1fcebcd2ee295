import gymnasium as gym
import numpy as np
import pytest

from rl_rms.envs.nonstationary import NonStationary
from rl_rms.envs.parameters import find_parameter
from rl_rms.envs.schedules import Step
from tests.naming import naming


def test_mujoco_contacts_have_the_friction_that_was_asked_for():
    pytest.importorskip("mujoco")
    env = NonStationary(gym.make("Hopper-v5"), {"friction": Step(before=0.3, after=1.7, at=30), "gravity": -5.0})
    data = env.unwrapped.data
    env.reset(seed=0)
    seen = set()
    for _ in range(60):
        friction = env.parameters["friction"]
        _, _, terminated, _, _ = env.step(np.zeros(3, np.float32))
        if data.ncon:
            assert data.contact.friction[:, 0] == pytest.approx(friction)
            seen.add(friction)
        if terminated:
            env.reset()
    assert seen == {0.3, 1.7}
    assert env.unwrapped.model.opt.gravity.tolist() == [0.0, 0.0, -5.0]
    assert find_parameter(env.unwrapped, "friction").value(env.unwrapped) == pytest.approx(1.7)
    assert find_parameter(env.unwrapped, "gravity").value(env.unwrapped) == -5.0


def test_mass_scale_equals_the_scaling_of_mujoco():
    mujoco = pytest.importorskip("mujoco")
    env, reference = gym.make("Ant-v5").unwrapped, gym.make("Ant-v5").unwrapped
    total = reference.model.body_mass.sum()
    mujoco.mj_setTotalmass(reference.model, 2 * total)
    mujoco.mj_setConst(reference.model, mujoco.MjData(reference.model))
    for one in (env, reference):
        one.reset(seed=0)
    for _ in range(3):
        env.step(np.ones(8))
    data = {
        name: np.array(getattr(env.data, name)) for name in ("qpos", "qvel", "xpos", "qacc_warmstart", "cfrc_ext")
    }
    find_parameter(env, "mass_scale").setter(env)(2.0)
    for name, before in data.items():
        assert getattr(env.data, name).tolist() == before.tolist(), f"{name} must stay as it was"
    for name in ("body_mass", "body_inertia", "body_subtreemass", "dof_invweight0", "body_invweight0"):
        assert getattr(env.model, name) == pytest.approx(getattr(reference.model, name), rel=1e-12)
    assert env.model.body_subtreemass[0] == pytest.approx(2 * total)
    env.reset(seed=0)
    for _ in range(20):
        assert env.step(np.ones(8))[0] == pytest.approx(reference.step(np.ones(8))[0], abs=1e-6)


def test_mass_of_a_body_combines_with_the_scale_of_all():
    pytest.importorskip("mujoco")
    env = gym.make("Hopper-v5").unwrapped
    model, torso = env.model, env.model.body("torso").id
    mass, inertia, leg = model.body_mass[torso], model.body_inertia[torso].copy(), model.body("leg").mass[0]
    find_parameter(env, "mass.torso").setter(env)(3 * mass)
    find_parameter(env, "mass_scale").setter(env)(2.0)
    assert model.body_mass[torso] == pytest.approx(6 * mass)
    assert model.body_inertia[torso] == pytest.approx(6 * inertia)
    assert model.body("leg").mass[0] == pytest.approx(2 * leg)
    assert model.body_subtreemass[0] == pytest.approx(model.body_mass.sum())
    assert find_parameter(env, "mass.torso").value(env) == pytest.approx(3 * mass)
    find_parameter(env, "mass_scale").setter(env)(1.0)
    find_parameter(env, "mass.torso").setter(env)(mass)
    assert model.body_mass[torso] == mass
    with pytest.raises(ValueError, match=naming("HopperEnv", "'mass.head'", "mass.torso")):
        NonStationary(gym.make("Hopper-v5"), {"mass.head": 1.0})


def test_mujoco_derives_its_constants_only_where_masses_move(monkeypatch):
    mujoco = pytest.importorskip("mujoco")
    env = gym.make("Hopper-v5").unwrapped
    calls = []
    derive = mujoco.mj_setConst
    monkeypatch.setattr(mujoco, "mj_setConst", lambda *args: (calls.append(args), derive(*args)))
    for name, value in {"gravity": -5.0, "friction": 0.5, "damping_scale": 2.0, "mass_scale": 1.0}.items():
        find_parameter(env, name).setter(env)(value)
    assert not calls
    find_parameter(env, "mass_scale").setter(env)(1.5)
    find_parameter(env, "armature_scale").setter(env)(1.5)
    assert len(calls) == 2
    assert env.data not in [data for _, data in calls]


def test_joint_friction_sets_only_joints_with_a_motor():
    pytest.importorskip("mujoco")
    env = gym.make("Hopper-v5").unwrapped
    find_parameter(env, "frictionloss").setter(env)(0.5)
    assert env.model.dof_frictionloss.tolist() == [0, 0, 0, 0.5, 0.5, 0.5]


def test_friction_scale_keeps_differences_between_geoms():
    pytest.importorskip("mujoco")
    env = gym.make("Hopper-v5").unwrapped
    made = env.model.geom_friction.copy()
    for scale in (2.0, 0.5):
        find_parameter(env, "friction_scale").setter(env)(scale)
        assert env.model.geom_friction[:, 0].tolist() == (made[:, 0] * scale).tolist()
        assert env.model.geom_friction[:, 1:].tolist() == made[:, 1:].tolist()
