import gc
import io
import sys
from pathlib import Path

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pytest
import torch
from moviepy.video.io.ImageSequenceClip import ImageSequenceClip
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_rms.agents import A2C, VideoCallback
from rl_rms.agents.video import as_gif
from rl_rms.envs import NonStationary, make_vec
from rl_rms.envs.encoding import decode
from rl_rms.envs.schedules import Linear
from tests.naming import naming


@pytest.mark.parametrize(("frames", "shown"), [(3, 3), (100, 100), (101, 51), (500, 100)])
def test_as_gif_limits_frames_and_size(frames, shown):
    pictures = [np.full((400, 600, 3), (37 * i) % 256, dtype=np.uint8) for i in range(frames)]
    gif = Image.open(io.BytesIO(as_gif(pictures, fps=50)))
    assert gif.n_frames == shown
    assert gif.size == (320, 213)
    assert gif.info["duration"] == pytest.approx(1_000 * -(-frames // 100) / 50, abs=10)


def agent():
    return A2C(make_vec("CartPole-v1", num_envs=4), seed=0)


def test_video_callback_without_moviepy_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "moviepy", None)
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    with pytest.raises(ImportError, match=naming("video", "moviepy", "pip install 'rl_rms[video]'")):
        VideoCallback(env, tmp_path / "videos", every=10)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_video_callback_records_the_environment_at_the_current_clock(tmp_path):
    made = NonStationary(
        gym.make("CartPole-v1", render_mode="rgb_array", max_episode_steps=12),
        {"gravity": Linear(start=9.8, end=20.0, over=1_000)},
        seed=0,
    )
    clocks = []

    class Watched(gym.Wrapper):
        def reset(self, *, seed=None, options=None):
            clocks.append((options or {}).get("rl_rms.clock"))
            return super().reset(seed=seed, options=options)

    callback = VideoCallback(Watched(made), tmp_path / "videos", every=200)
    trained = agent().learn(500, callback, log_dir=tmp_path / "log")
    alone = agent().learn(500)
    for one, other in zip(trained.policy.parameters(), alone.policy.parameters(), strict=True):
        assert torch.equal(one, other)
    videos = sorted((tmp_path / "videos").glob("*.mp4"))
    steps = [int(video.name[5:15]) for video in videos]
    assert [step // 100 for step in steps] == [2, 4, 5]
    assert [clock for clock in clocks if clock is not None] == steps
    shown = EventAccumulator(str(tmp_path / "log"), size_guidance={"images": 0}).Reload().Images("eval/episode")
    assert [one.step for one in shown] == steps
    assert shown[0].encoded_image_string.startswith(b"GIF89a")
    reader = imageio_ffmpeg.read_frames(str(videos[0]))
    width, height = next(reader)["size"]
    assert (width, height) == (600, 400)
    assert np.frombuffer(next(reader), np.uint8).std() > 1.0  # the image is not empty
    reader.close()
    gc.collect()  # closes the pipes that the ffmpeg wrappers leave open


def test_video_callback_full_disk_warns_and_continues(tmp_path, monkeypatch):
    folder = tmp_path / "videos"
    callback = VideoCallback(
        gym.make("CartPole-v1", render_mode="rgb_array", max_episode_steps=12), folder, every=100
    )
    write = ImageSequenceClip.write_videofile

    def fill(clip, path, **options):
        if "step_00000001" in path:
            Path(path).write_bytes(b"begun")
            raise OSError("[Errno 32] Broken pipe\n\n [mp4 @ 0x5] No header: No space left on device\n\n Perhaps")
        write(clip, path, **options)
        if "step_00000002" in path:
            Path(path).write_bytes(Path(path).read_bytes()[:500])

    monkeypatch.setattr(ImageSequenceClip, "write_videofile", fill)
    with pytest.warns(UserWarning, match=naming("video", "env step")) as caught:
        trained = A2C("CartPole-v1", n_steps=50, seed=0).learn(300, callback)
    assert trained.num_timesteps >= 300
    problems = [str(one.message).split(f" cannot be written to {folder}: ")[1].split(";")[0] for one in caught]
    assert problems == ["No header: No space left on device", "ffmpeg has not finished the file"]
    assert [video.name[:13] for video in folder.iterdir()] == ["step_00000003"]


def test_video_callback_link_at_the_file_name_is_not_followed(tmp_path):
    folder, victim = tmp_path / "videos", tmp_path / "victim"
    env = gym.make("CartPole-v1", render_mode="rgb_array", max_episode_steps=12)
    callback = VideoCallback(env, folder, every=100)
    victim.write_text("precious")
    folder.mkdir()
    names = [f"step_{step:010d}-episode-0.mp4" for step in range(50, 151)]
    for name in names:
        (folder / name).symlink_to(victim)
    A2C("CartPole-v1", n_steps=50, seed=0).learn(100, callback)
    assert victim.read_text() == "precious"
    videos = [one for one in folder.iterdir() if not one.is_symlink()]
    assert [one.name in names for one in videos] == [True]
    gc.collect()  # closes the pipes that the ffmpeg wrappers leave open


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_video_callback_vector_of_one_has_the_clock_and_wrapper_states_of_the_training(tmp_path):
    def make(num_envs, **kwargs):
        changes = {"gravity": Linear(start=9.8, end=20.0, over=1_000)}
        return make_vec("CartPole-v1", num_envs, changes, wrappers=["NormalizeObservation"], seed=0, **kwargs)

    filmed = make(1, render_mode="rgb_array", max_episode_steps=12)
    trained = A2C(make(2), seed=0).learn(100)
    steps = trained.num_timesteps
    trained.learn(1, VideoCallback(filmed, tmp_path / "videos", every=1))
    assert len(list((tmp_path / "videos").glob("*.mp4"))) == 1
    assert steps < filmed.clock <= trained.num_timesteps + 12
    (saved,) = statistics(filmed)
    assert saved > statistics(trained.env)[0]
    gc.collect()  # closes the pipes that the ffmpeg wrappers leave open


def statistics(env):
    """The number of observations that NormalizeObservation has seen, by sub-environment."""
    return [
        float(decode(outer[0]["attributes"]["obs_rms"]["statistics"])["count"]) for _, outer in env.wrapper_states
    ]


def test_video_callback_vector_with_different_wrappers_raises_at_the_start(tmp_path):
    env = make_vec("CartPole-v1", 1, wrappers=["NormalizeObservation"], render_mode="rgb_array")
    trained = A2C(make_vec("CartPole-v1", 2, vectorization_mode="sync"), seed=0)
    trained.observation_space = env.single_observation_space
    with pytest.raises(ValueError, match=naming("NormalizeObservation", "wrappers")):
        trained.learn(100, VideoCallback(env, tmp_path / "videos", every=10_000))


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_video_callback_with_the_folder_of_earlier_videos_adds_to_it_without_a_warning(tmp_path):
    (tmp_path / "earlier.mp4").touch()
    env = gym.make("CartPole-v1", render_mode="rgb_array", max_episode_steps=5)
    agent().learn(10, VideoCallback(env, tmp_path, every=10))
    assert len(list(tmp_path.glob("*.mp4"))) == 2


def test_video_callback_vector_of_several_raises(tmp_path):
    with pytest.raises(ValueError, match=naming("num_envs", "3", "1")):
        VideoCallback(make_vec("CartPole-v1", 3, render_mode="rgb_array"), tmp_path, every=10)


def test_video_callback_env_without_render_mode_raises(tmp_path):
    with pytest.raises(ValueError, match=naming("render_mode='rgb_array'", "None")):
        VideoCallback(gym.make("CartPole-v1"), tmp_path, every=10)


def test_video_callback_env_with_different_spaces_raises_at_the_start(tmp_path):
    env = gym.make("Acrobot-v1", render_mode="rgb_array")
    with pytest.raises(ValueError, match=naming("env", "video", "observation_space", "Box")):
        agent().learn(100, VideoCallback(env, tmp_path / "videos", every=10_000))
