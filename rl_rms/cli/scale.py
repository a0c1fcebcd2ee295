"""Configures and starts the processes of torchrun or Ray that train one agent together."""

import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rl_rms.cli.errors import UserError, require
from rl_rms.cli.signals import sigterm_raises
from rl_rms.envs.checks import check_int, check_number

if TYPE_CHECKING:
    from rl_rms.agents.workers import Workers


@dataclass(frozen=True, kw_only=True)
class ScaleConfig:
    """Several processes that train one agent together, each with an equal share of env.num_envs.

    Args:
        engine: ``torchrun``: start ``rl-rms train`` with torchrun. ``ray``: ``rl-rms train`` starts Ray's workers.
        workers: Processes that Ray starts, >= 1. With torchrun, set ``--nproc-per-node`` instead.
        sync: With ``global``, the workers average their gradients before the optimizer's step. With ``local``,
            each worker's optimizer uses the worker's own gradient, and the workers average their steps.
        timeout: Maximum time that a worker waits for the others, in seconds, > 0. The maximum must exceed the
            duration of an evaluation, during which all workers but the first wait.
        restarts: Maximum number of restarts by Ray, from the newest checkpoint, >= 0. With torchrun, set
            ``--max-restarts`` instead.
        address: Address of the Ray cluster; null starts Ray on this machine. A file must not contain an address.
    """

    engine: Literal["torchrun", "ray"] = "torchrun"
    workers: int = 1
    sync: Literal["global", "local"] = "global"
    timeout: float = 120.0
    restarts: int = 1
    address: str | None = None

    def __post_init__(self) -> None:
        if self.engine not in ("torchrun", "ray"):
            raise ValueError(f"scale.engine must be torchrun or ray, got {self.engine!r}")
        if self.sync not in ("global", "local"):
            raise ValueError(f"scale.sync must be global or local, got {self.sync!r}")
        check_int("scale.workers", self.workers, least=1)
        if self.engine == "torchrun" and self.workers != 1:
            raise ValueError(
                f"scale.workers must be 1 with scale.engine torchrun, got {self.workers}; start the command with "
                f"torchrun --nproc-per-node {self.workers}, or set scale.engine to ray"
            )
        check_number("scale.timeout", self.timeout, above=0.0)
        check_int("scale.restarts", self.restarts, least=0)


@contextmanager
def process_group(scale: ScaleConfig) -> Iterator["Workers"]:
    """Yield the workers that Ray or a launcher such as torchrun started; without them, a single worker.

    Raises:
        UserError: If other workers have died or did not answer in time.
    """
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    from rl_rms.agents.workers import ALONE, LostWorkersError, Workers

    if dist.is_available() and dist.is_initialized():  # by Ray
        yield Workers.of_process_group()
        return
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    # torch.compiler.reset imports torch's compiler. If an optimizer imported the compiler within the process
    # group, the group would exist until the interpreter exits, and its threads would sometimes abort the process.
    torch.compiler.reset()

    timeout = timedelta(seconds=scale.timeout)
    store, rank, size = next(rendezvous("env://", timeout=timeout))
    # The launcher's store survives a restart, and still has the addresses of dead workers.
    store = PrefixStore(f"attempt {_restarts()}", store)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timeout)
    try:
        yield Workers.of_process_group()
    except LostWorkersError as error:
        raise UserError(str(error)) from error
    finally:
        dist.destroy_process_group()


def was_restarted() -> bool:
    """Whether torchrun has restarted these workers after a failure."""
    return _restarts() > 0


def _restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def require_ray(extra: str, need: str, *modules: str) -> None:
    """Check that an extra with Ray is installed. The arguments are as in `rl_rms.cli.errors.require`."""
    # Ray sends usage reports unless this variable is 0.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    require(extra, need, *modules)


def require_ray_train() -> None:
    """Check that Ray Train is installed, and that torchrun has not started several processes.

    Raises:
        UserError: If Ray Train is not installed, or torchrun has started several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "scale.engine ray starts its own workers, so each process of torchrun would train another agent; "
            "start the command without torchrun, or leave scale.engine out"
        )
    require_ray("ray", "scale.engine ray needs Ray", "ray", "ray.train.torch")


def run_with_ray(scale: ScaleConfig, work: Callable[..., Any], *, folder: Path, **arguments: Any) -> None:
    """Run ``work`` in workers of Ray Train, and restart them if one fails.

    Args:
        scale: Settings of the workers and of the Ray cluster.
        work: Function that can be pickled; called in every worker, within the workers' process group.
        folder: Run folder, visible on all machines; passed to ``work`` as ``folder``.
        **arguments: Other arguments of ``work``.

    Raises:
        UserError: If Ray is not installed, or the workers failed more often than ``scale.restarts``.
    """
    require_ray_train()
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    folder = folder.absolute()

    def loop(given: dict[str, Any]) -> None:
        work(**given)

    started_here = not ray.is_initialized()
    if started_here:
        # The output of Ray's workers would mix with the command's output.
        ray.init(address=scale.address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        with sigterm_raises():  # Ray's own SIGTERM handler would abort the process
            TorchTrainer(
                loop,
                train_loop_config={"folder": folder, **arguments},
                torch_config=TorchConfig(backend="gloo", timeout_s=math.ceil(scale.timeout)),
                scaling_config=ScalingConfig(num_workers=scale.workers, resources_per_worker={"CPU": 1}),
                run_config=RunConfig(
                    name="ray", storage_path=str(folder), failure_config=FailureConfig(max_failures=scale.restarts)
                ),
            ).fit()
    except TrainingFailedError as error:
        raise UserError(
            f"the workers failed: {error}; rl-rms resume {folder} continues from the newest checkpoint"
        ) from error
    finally:
        if started_here:
            ray.shutdown()
