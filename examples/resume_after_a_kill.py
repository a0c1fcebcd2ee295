"""Kill a run with SIGKILL, resume it from its last checkpoint, and compare it with an uninterrupted run.

Both runs have the same seed. The resumed run repeats the env steps after the checkpoint exactly, so both end with
bit-identical weights, although the environment drifts.

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
    """Start a run that saves a checkpoint every ``every`` env steps."""
    options = {"total_timesteps": total_timesteps, "checkpoint_every": every, "runs_dir": folder}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    return subprocess.Popen([*RL_RMS, "train", "drifting_cartpole", *arguments], stdout=subprocess.DEVNULL)


def kill_at_first_checkpoint(training: subprocess.Popen[bytes], folder: Path) -> int:
    """Kill a run after its first checkpoint and return the env step of its newest checkpoint."""
    while training.poll() is None and not any(folder.rglob("step_*.safetensors")):
        time.sleep(0.01)
    training.send_signal(signal.SIGKILL)
    training.wait()
    return int(max(path.stem for path in folder.rglob("step_*.safetensors")).removeprefix("step_"))


def run_of(folder: Path) -> Path:
    """Return the only run in a folder."""
    (run,) = folder.glob("drifting_cartpole/*")
    return run


def main(total_timesteps: int = 300_000, every: int = 20_000) -> bool:
    """Train both runs and compare their weights.

    Returns:
        True if the run was killed before its end and all weights are equal.
    """
    with tempfile.TemporaryDirectory() as parent:
        uninterrupted, killed = Path(parent) / "uninterrupted", Path(parent) / "killed"
        start(uninterrupted, total_timesteps, every).wait()
        checkpoint = kill_at_first_checkpoint(start(killed, total_timesteps, every), killed)
        ended = (run_of(killed) / "summary.json").exists()
        when = "after" if ended else "before"
        print(f"killed after the checkpoint at env step {checkpoint:,}, {when} the end of the run")
        subprocess.run([*RL_RMS, "resume", run_of(killed)], check=True, stdout=subprocess.DEVNULL)

        agents = [
            A2C.load(run_of(folder) / "checkpoints" / "final.safetensors") for folder in (uninterrupted, killed)
        ]
        print(
            f"env steps: {agents[0].num_timesteps:,} uninterrupted, {agents[1].num_timesteps:,} killed and resumed"
        )
        weights = [agent.policy.state_dict() for agent in agents]
        same = all(bool((tensor == weights[1][name]).all()) for name, tensor in weights[0].items())
        print(f"weights are {'bit-identical' if same else 'different'}")
        return same and not ended


if __name__ == "__main__":
    main()
