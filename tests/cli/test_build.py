import subprocess
import sys

import pytest

from rl_rms.cli.main import main
from tests.naming import mentions


@pytest.mark.parametrize(
    ("env_id", "package", "extra"), [("LunarLander-v3", "Box2D", "box2d"), ("Hopper-v5", "mujoco", "mujoco")]
)
def test_train_without_a_simulator_names_its_extra(env_id, package, extra, tmp_path):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from rl_rms.cli.main import main\n"
        f"sys.exit(main(['train', 'cartpole_a2c', '--env.id', {env_id!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert mentions(done.stderr.lower(), env_id.lower(), package.lower(), f"pip install 'rl_rms[{extra}]'")


def test_train_wrapper_without_its_package_names_the_wrapper_and_the_package(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "cv2", None)
    words = ["--env.wrappers=[AddRenderObservation, {ResizeObservation: {shape: [9, 9]}}]"]
    assert main(["train", "cartpole_a2c", "--env.kwargs.render_mode=rgb_array", *words]) == 2
    message = capsys.readouterr().err
    assert mentions(message, "env.wrappers", "ResizeObservation", "opencv", "pip install")
    assert "CartPole-v1 needs" not in message


def test_train_videos_without_moviepy_names_the_extra(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rl_rms.cli.build.find_spec", lambda _: None)
    assert main(["train", "cartpole_a2c", "--video_every=10"]) == 2
    assert mentions(capsys.readouterr().err, "video_every", "moviepy", "pip install 'rl_rms[video]'")
    assert not (tmp_path / "runs").exists()


@pytest.mark.filterwarnings("ignore:.*render_mode")
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--agent.mask_actions=true"], ["agent", "mask_actions", "info"]),
        (
            ["--agent.policy.norm=batch", "--agent.n_steps=1", "--env.num_envs=1"],
            ['norm="batch"'],
        ),
        (["--env.id=Pendulum-v1", "--agent.mask_actions=true"], ["mask_actions", "Discrete"]),
        (["--agent.policy.squash_actions=true"], ["squash_actions", "Box"]),
        (["--agent.normalize_observation=690 steps", "--env.id=FrozenLake-v1"], ["normalize_observation", "Box"]),
        (["--video_every=10", "--env.id=rl_rms/Bandit-v0", "--env.vectorization_mode=sync"], ["video_every"]),
    ],
)
def test_train_wrong_value_for_the_environment_raises_before_a_folder_is_made(
    tmp_path, monkeypatch, capsys, words, named
):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "cartpole_a2c", "--total_timesteps=500", *words]) == 2
    assert mentions(capsys.readouterr().err, *named)
    assert not (tmp_path / "runs").exists()


def test_train_video_of_a_preprocessing_vector_env_raises_before_a_folder_is_made(tmp_path, monkeypatch, capsys):
    (tmp_path / "cropped.py").write_text(
        "import gymnasium as gym\n"
        "from gymnasium.envs.classic_control.cartpole import CartPoleEnv\n"
        "def vector(num_envs):\n"
        "    stack = lambda: gym.wrappers.FrameStackObservation(CartPoleEnv(), 2)\n"
        "    return gym.vector.SyncVectorEnv([stack] * num_envs)\n"
        "gym.register('Cropped-v0', CartPoleEnv, vector_entry_point=vector)\n"
    )
    monkeypatch.chdir(tmp_path)
    words = ["train", "cartpole_a2c", "--env.id=cropped:Cropped-v0", "--env.vectorization_mode=vector_entry_point"]
    assert main([*words, "--video_every=10"]) == 2
    said = capsys.readouterr().err
    for named in ("video_every", "(2, 4)", "(4,)", "env.vectorization_mode to sync"):
        assert named in said
    assert not (tmp_path / "runs").exists()
