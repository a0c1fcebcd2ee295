"""A training is killed with SIGKILL and goes on from its last checkpoint as if nothing had been.

Two runs with the same seed: one is left alone; the other is killed as soon as it has a checkpoint, and resumed.
Nothing after the checkpoint is lost for good: what is lived again is lived the same, and both end with the same
weights, to the bit, in a world whose gravity swings and whose pole's length jumps.

Run: python examples/resume_after_a_kill.py
"""

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rl_rms.agents import A2C

RL_RMS = [sys.executable, "-m", "rl_rms.cli.main"]


def start(folder: Path, total_timesteps: int, every: int) -> subprocess.Popen[bytes]:
    """Start a training, which leaves a checkpoint behind after every so many env steps."""
    options = {"total_timesteps": total_timesteps, "checkpoint_every": every, "runs_dir": folder}
    words = [f"--{name}={value}" for name, value in options.items()]
    return subprocess.Popen([*RL_RMS, "train", "drifting_cartpole", *words], stdout=subprocess.DEVNULL)


def kill_at_first_checkpoint(training: subprocess.Popen[bytes], folder: Path) -> int:
    """Kill a training, and say at how many env steps its newest checkpoint was written."""
    while training.poll() is None and not any(folder.rglob("step_*.safetensors")):
        time.sleep(0.01)
    training.send_signal(signal.SIGKILL)
    training.wait()
    return int(max(path.stem for path in folder.rglob("step_*.safetensors")).removeprefix("step_"))


def run_of(folder: Path) -> Path:
    """The one run in a folder."""
    (run,) = folder.glob("drifting_cartpole/*")
    return run


def main(total_timesteps: int = 300_000, every: int = 20_000) -> bool:
    """Train both, and compare what they come to.

    Returns:
        Whether all weights are the same.
    """
    with tempfile.TemporaryDirectory() as parent:
        alone, killed = Path(parent) / "alone", Path(parent) / "killed"
        start(alone, total_timesteps, every).wait()
        checkpoint = kill_at_first_checkpoint(start(killed, total_timesteps, every), killed)
        ended = (run_of(killed) / "summary.json").exists()
        print(f"killed after its checkpoint at env step {checkpoint:,}; {'had' if ended else 'had not'} ended")
        subprocess.run([*RL_RMS, "resume", run_of(killed)], check=True, stdout=subprocess.DEVNULL)

        agents = [A2C.load(run_of(folder) / "checkpoints" / "final.safetensors") for folder in (alone, killed)]
        print(f"env steps: {agents[0].num_timesteps:,} left alone, {agents[1].num_timesteps:,} killed and resumed")
        weights = [agent.policy.state_dict() for agent in agents]
        same = all(bool((one == weights[1][name]).all()) for name, one in weights[0].items())
        print(f"weights are {'the same to the bit' if same else 'different'}")
        return same and not ended


if __name__ == "__main__":
    main()
