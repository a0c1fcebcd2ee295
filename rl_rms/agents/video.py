"""Videos of an agent, recorded with Gymnasium's recorder."""

import re
import tempfile
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.error import DependencyNotInstalled
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.wrappers import RecordVideo, vector

from rl_rms.agents import files
from rl_rms.agents.callbacks import Periodic
from rl_rms.agents.evaluation import evaluate, evaluation_seed
from rl_rms.agents.logger import Logger
from rl_rms.agents.protocols import TrainedAgent
from rl_rms.envs import NonStationary, NonStationaryVector

# Maximum number of frames, and maximum side in pixels, of the animation in TensorBoard.
_MOST_FRAMES, _LARGEST = 100, 320
# ffmpeg writes this entry last. Players cannot play a video without this entry.
_INDEX = b"moov"


class VideoCallback(Periodic):
    """Records one episode at regular env steps and at the end of the training, without changing the training.

    The agent takes its most likely actions.

    Args:
        env: An environment with ``render_mode="rgb_array"``, or a vector of one sub-environment. The clock of a
            `rl_rms.envs.NonStationary` or `rl_rms.envs.NonStationaryVector` is set to the agent's env steps before
            each episode. The wrappers of a vector of `rl_rms.envs.make_vec` get the state of the training's
            wrappers, such as running statistics.
        folder: Folder of the files ``step_<env steps>-episode-<number>.mp4``.
        every: Env steps between two videos.

    Raises:
        ValueError: If ``every`` is not a whole number >= 1, or the environment has several sub-environments or
            does not render images. At the start of the training, if the environment's spaces or wrappers differ
            from the agent's.
        ImportError: If moviepy is not installed.
    """

    def __init__(self, env: gym.Env[Any, Any] | VectorEnv, folder: str | Path, every: int) -> None:
        super().__init__(every, at_end=True)
        if isinstance(env, VectorEnv) and env.num_envs != 1:
            raise ValueError(
                f"a video needs a single environment or a vector of one, got num_envs={env.num_envs}; make it "
                "with num_envs=1"
            )
        if env.render_mode != "rgb_array":
            raise ValueError(
                f"a video needs an environment made with render_mode='rgb_array', got {env.render_mode!r}"
            )
        try:
            # Each video gets its own folder, because Gymnasium warns about existing folders, for example after a
            # resume.
            with tempfile.TemporaryDirectory() as temporary:
                self._recorder = _recorder(env, f"{temporary}/videos")
        except DependencyNotInstalled as error:
            raise ImportError("a video needs moviepy; install it with pip install 'rl_rms[video]'") from error
        self._folder = Path(folder)
        self._has_clock = has_clock(env)

    def on_training_start(self, agent: TrainedAgent, logger: Logger) -> None:
        """Check the spaces, and compute the env steps of the first video.

        Raises:
            ValueError: If the environment's spaces differ from the agent's, or the wrappers of a vector of
                `rl_rms.envs.make_vec` differ from the training's wrappers.
        """
        super().on_training_start(agent, logger)
        check_spaces(agent, self._recorder)
        self._borrow_wrapper_states(agent)

    def act(self, agent: TrainedAgent, logger: Logger) -> bool | None:
        """Record one episode, write the video to the folder, and show it in TensorBoard."""
        self._recorder.name_prefix = f"step_{agent.num_timesteps:010d}"
        clock = agent.num_timesteps if self._has_clock else None
        self._borrow_wrapper_states(agent)
        with agent.actor.undisturbed():
            evaluate(agent, self._recorder, 1, seed=evaluation_seed(agent.seed), clock=clock)
        frames = self._recorder.recorded_frames[:]
        problem = self._write()
        if problem:
            warnings.warn(
                f"the video of env step {agent.num_timesteps:,} cannot be written to {self._folder}: {problem}; "
                "the training continues without this video",
                stacklevel=2,
            )
        logger.picture(agent.num_timesteps, "eval/episode", as_gif(frames, self._recorder.frames_per_sec))
        return None

    def _borrow_wrapper_states(self, agent: TrainedAgent) -> None:
        if isinstance(self._recorder, VectorEnv):
            agent.session.lend_wrapper_states(self._recorder)

    def _write(self) -> str:
        """Write the recorded episode, and return the cause of a failure; an empty text means success."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # The folder is new and has a random name, so no other process can have placed a link in it.
            with tempfile.TemporaryDirectory(prefix=".", dir=self._folder) as temporary:
                self._recorder.video_folder = temporary
                self._recorder.stop_recording()
                for video in Path(temporary).iterdir():
                    content = video.read_bytes()
                    if _INDEX not in content:
                        return "ffmpeg has not finished the file; the disk may be full"
                    files.write(self._folder / video.name, content)
        except OSError as error:
            # Otherwise the recorder would try to write the episode again at its next reset.
            self._recorder.recorded_frames, self._recorder.recording = [], False
            # ffmpeg's own message is in moviepy's message, after a component's name in brackets.
            cause = re.search(r"^\s*\[(?!Errno).*?\] (.+)$", str(error), re.MULTILINE)
            return cause[1] if cause else str(error)
        return ""


def check_spaces(agent: TrainedAgent, env: gym.Env[Any, Any] | VectorEnv) -> None:
    """Check that an environment has the agent's spaces.

    Raises:
        ValueError: If the environment's spaces differ from the agent's.
    """
    for name in ("observation_space", "action_space"):
        needed = getattr(agent, name)
        given = getattr(env, f"single_{name}" if isinstance(env, VectorEnv) else name)
        if given != needed:
            raise ValueError(
                f"env of a video must have the agent's {name} {needed}, got {given}; use an environment made "
                "with the same wrappers, or train without videos"
            )


def as_gif(frames: Sequence[Any], fps: float) -> bytes:
    """An animated GIF small enough for TensorBoard: at most 100 frames of at most 320 by 320 pixels.

    Args:
        frames: Images, uint8, each of shape ``(height, width, 3)``.
        fps: Frames per second.
    """
    from PIL import Image

    every = max(1, -(-len(frames) // _MOST_FRAMES))
    images = [Image.fromarray(frame) for frame in frames[::every]]
    for image in images:
        image.thumbnail((_LARGEST, _LARGEST))
    file = BytesIO()
    duration = round(1_000 * every / fps)
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=duration, loop=0)
    return file.getvalue()


def _recorder(env: gym.Env[Any, Any] | VectorEnv, folder: str) -> Any:
    """Wrap an environment in Gymnasium's recorder, and record each episode."""
    if isinstance(env, VectorEnv):
        return vector.RecordVideo(env, folder, episode_trigger=lambda _: True)
    return RecordVideo(env, folder, episode_trigger=lambda _: True, disable_logger=True)


def has_clock(env: gym.Env[Any, Any] | VectorEnv) -> bool:
    """Whether an environment is or wraps a `rl_rms.envs.NonStationary` or `rl_rms.envs.NonStationaryVector`."""
    layer: Any = env
    while isinstance(layer, (gym.Wrapper, VectorWrapper)):
        if isinstance(layer, (NonStationary, NonStationaryVector)):
            return True
        layer = layer.env
    return False
