"""Measures how much and how long a burst of gradients affects RMSprop's second moment v, by kind of clipping.

Root v is the square root of v. Gradients are normal noise in a thousand coordinates, each with its own standard
deviation (its scale). A burst enlarges the gradients of all coordinates, or of one coordinate, in a single update.
A lasting change enlarges all gradients from one update on.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rl_rms.optim.rmsprop import RMSprop
from rl_rms.studies.drawing import COLORS
from rl_rms.studies.frame import Cell, Results, Study, Table, Verdict, grid
from rl_rms.studies.intervals import interquartile, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_TENSORS = 5
SCALES = torch.logspace(-2, 0, 1_000, dtype=torch.float64)
WARM_UP = 300
NEAR = 0.1
# The limits of norms are twice the usual norms. ``max_grad_value`` is three times the largest scale.
# ``max_update_rms`` is twice the usual root mean square of the gradients divided by root v.
CLIPS: dict[str, dict[str, Any]] = {
    "none": {},
    "max_grad_norm": {"max_grad_norm": 2.0 * float(SCALES.norm())},
    "max_tensor_norm": {"max_tensor_norm": 2.0 * float(SCALES.norm()) / math.sqrt(NUM_TENSORS)},
    "max_grad_value": {"max_grad_value": 3.0},
    "max_grad_ratio": {"max_grad_ratio": 3.0},
    "max_update_rms": {"max_update_rms": 2.0},
}
BEFORE = ("max_grad_norm", "max_tensor_norm", "max_grad_value", "max_grad_ratio")
# The coordinates that each burst, or the lasting change, affects.
WHERE = {"all": slice(None), "large": slice(-1, None), "small": slice(0, 1), "lasting": slice(None)}
BURSTS = ("all", "large", "small")
SIZE, LASTING_SIZE = 1_000.0, 10.0


def cells(quick: bool) -> Sequence[Cell]:
    """Return a cell for each kind of clipping and of burst, with the number of updates measured from the burst."""
    return grid(clip=CLIPS, burst=WHERE, after=[60 if quick else 1_200])


def measure(seed: int, *, clip: str, burst: str, after: int) -> dict[str, Any]:
    """Measure the effects of a burst, compared with the same noise without burst and clipping.

    Returns:
        ``root``: root v of the coordinates in the burst, divided by its expected value, at `moments`.
            ``recovery``: updates after the burst until this ratio is within a tenth of 1, at most ``after``.
            ``others``: step of the other coordinates in the update with the burst, divided by their step without
            burst and clipping; nan without other coordinates.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = SCALES * torch.randn(WARM_UP + after, len(SCALES), generator=generator, dtype=torch.float64)
    hit = torch.zeros(len(SCALES), dtype=torch.bool)
    hit[WHERE[burst]] = True
    grads = noise.clone()
    if burst == "lasting":
        grads[WARM_UP:] *= LASTING_SIZE
    else:
        grads[WARM_UP, hit] = SIZE * (SCALES * noise[WARM_UP].sign())[hit]
    roots, steps = _descend(grads, hit, NUM_TENSORS, **CLIPS[clip])
    due, steps_due = _descend(noise, hit, 1)
    ratio = (roots / due).mean(1).numpy() / (LASTING_SIZE if burst == "lasting" else 1.0)
    near = np.abs(ratio - 1.0) <= NEAR
    return {
        "root": ratio[moments(after)],
        "recovery": int(near.argmax()) if near.any() else after,
        "others": float((steps / steps_due)[~hit].mean()),
    }


def _descend(grads: Tensor, hit: Tensor, num_tensors: int, **options: Any) -> tuple[Tensor, Tensor]:
    """Train parameters by RMSprop with given gradients.

    Args:
        grads: Shape ``(WARM_UP + after, coordinates)``.
        hit: Whether a coordinate is in the burst, shape ``(coordinates,)``.
        num_tensors: Number of tensors, each with coordinates of all scales.
        **options: Options of the optimizer.

    Returns:
        Root v of the coordinates in the burst, without bias correction, at each update from the burst on, shape
        ``(after, hit coordinates)``; and the step in the update with the burst, divided by the learning rate,
        shape ``(coordinates,)``.
    """
    params = [torch.zeros_like(part, requires_grad=True) for part in _split(grads[0], num_tensors)]
    optimizer = RMSprop(params, lr=1.0, bias_correction=True, **options)
    roots = []
    for update, grad in enumerate(grads):
        for param, part in zip(params, _split(grad, num_tensors), strict=True):
            param.grad = part.clone()
        before = _join(params) if update == WARM_UP else None
        optimizer.step()
        if before is not None:
            steps = _join(params) - before
        if update >= WARM_UP:
            roots.append(_join([optimizer.state[param]["square_avg"] for param in params])[hit].sqrt())
    return torch.stack(roots), steps


def _split(coordinates: Tensor, num_tensors: int) -> list[Tensor]:
    return [coordinates[i::num_tensors] for i in range(num_tensors)]


def _join(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([tensor.detach() for tensor in tensors], dim=1).flatten()


def moments(after: int) -> list[int]:
    """Return the updates after which root v is recorded. Update 0 has the burst."""
    return sorted({round(moment) - 1 for moment in np.geomspace(1, after, 40)})


def pollution(results: Results, clip: str, burst: str) -> float:
    """Return root v right after a burst, divided by its expected value."""
    return interquartile(results.values("root", clip=clip, burst=burst)[:, 0])


def contained(results: Results, clip: str) -> list[str]:
    """Return the bursts right after which root v is at most a tenth above its expected value."""
    return [burst for burst in BURSTS if pollution(results, clip, burst) <= 1 + NEAR]


def tables(results: Results) -> Sequence[Table]:
    """Tabulate root v after a burst, the recovery, and the effect of a burst in one coordinate on the others."""
    rows = []
    for clip in CLIPS:
        row = [short(pollution(results, clip, burst)) for burst in BURSTS]
        row += [_recovery(results, clip, burst) for burst in WHERE]
        row.append(short(interquartile(results.values("others", clip=clip, burst="large"))))
        rows.append([clip, *row])
    header = [
        "clipping by",
        *(f"root v / expected value: {burst}" for burst in BURSTS),
        *(f"recovery in updates: {burst}" for burst in WHERE),
        "step of the unchanged coordinates / expected: large",
    ]
    return [Table(header, rows)]


def _recovery(results: Results, clip: str, burst: str) -> str:
    of = {"clip": clip, "burst": burst}
    recovery = interquartile(results.values("recovery", **of))
    after = results.cells[results.where(**of)[0]]["after"]
    return f"> {after:,}" if recovery >= after else f"{recovery:,.0f}"


def verdict(results: Results) -> Verdict:
    """Judge the claim by the clipping arguments that keep every burst out of v."""
    wherever = [clip for clip in BEFORE if contained(results, clip) == list(BURSTS)]
    worst = {clip: max(pollution(results, clip, burst) for burst in BURSTS) for clip in CLIPS}
    best, *others = sorted(BEFORE, key=worst.__getitem__)
    sentence = (
        f"Without clipping, root v after a burst is up to {short(worst['none'])} times its expected value. "
        f"Clipping by {best} limits this factor to {short(worst[best])}. With every other argument that clips "
        f"gradients before they enter v, the factor after the worst burst is at least {short(worst[others[0]])}. "
        f"After a lasting change, v adapts in {_recovery(results, 'none', 'lasting')} updates without clipping, "
        f"and in {_recovery(results, best, 'lasting')} updates with {best}."
    )
    if wherever == list(BEFORE):
        return Verdict("holds", sentence)
    if not wherever:
        return Verdict("does not hold", sentence)
    return Verdict("conditional", sentence, f"only for clipping by {' and '.join(wherever)}")


def draw(results: Results, figure: "Figure") -> None:
    """Draw root v after a burst and after a lasting change."""
    titles = {
        "all": "burst in all coordinates",
        "small": "burst in one coordinate of small scale",
        "lasting": "gradients ten times as large from then on",
    }
    axes = figure.subplots(1, 3)
    for axis, (burst, title) in zip(axes, titles.items(), strict=True):
        for i, clip in enumerate(CLIPS):
            traces = results.values("root", clip=clip, burst=burst)
            after = results.cells[results.where(clip=clip, burst=burst)[0]]["after"]
            middle = [interquartile(column) for column in traces.T]
            # Some lines coincide, and different line styles keep each line visible.
            style = {"none": "-", "max_update_rms": ":", "max_grad_norm": "--"}.get(clip, "-")
            axis.plot(np.array(moments(after)) + 1, middle, style, color=COLORS[i], label=clip)
        axis.set(xscale="log", yscale="log", xlabel="updates from the burst on", title=title)
    axes[0].set_ylabel("root v / expected value")
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=7, loc="outside right center")


STUDY = Study(
    name="clipping",
    claim="Clipping gradients before they enter RMSprop's second moment v keeps outliers out of v.",
    mechanism="`rl_rms.RMSprop` clips gradients by `max_grad_norm`, `max_tensor_norm`, `max_grad_value` and "
    "`max_grad_ratio` before it updates v. `rl_rms.RMSprop` clips updates by `max_update_rms` after it has "
    "updated v.",
    setup="The gradients of 1,000 coordinates are normally distributed. Each coordinate has its own standard "
    "deviation, called its scale, from 0.01 to 1. The coordinates form five tensors. The optimizer has rho = "
    f"0.99. After {WARM_UP} updates, the gradients change in one of four ways:"
    "\n\n- **all:** in one update, the gradient of every coordinate is 1,000 times its scale, with a random sign."
    "\n\n- **large:** in one update, only the gradient of the coordinate with the largest scale is 1,000 "
    "times its scale, with a random sign."
    "\n\n- **small:** in one update, only the gradient of the coordinate with the smallest scale is 1,000 "
    "times its scale, with a random sign."
    f"\n\n- **lasting:** from update {WARM_UP + 1} on, all gradients are ten times as large."
    "\n\nA training run with the same noise, but without burst and clipping, gives the expected value of root v, "
    "the square root of v. In the case `lasting`, the expected value is multiplied by ten. The study measures "
    "root v of the coordinates that change, divided by its expected value, after the first changed update. "
    "Recovery is the number of further updates until this ratio is within 10 % of 1. The last column shows the "
    "step of the unchanged coordinates in the update with the burst, divided by their step without burst and "
    "clipping."
    "\n\nThese are the limits of the clipping methods:"
    "\n\n- `max_grad_norm` is twice the usual norm of the whole gradient, and `max_tensor_norm` is twice "
    "the usual norm of a tensor's gradient."
    "\n\n- `max_grad_value` is three times the largest scale."
    "\n\n- `max_grad_ratio` is 3, so the limit is three times the previous root v of the coordinate."
    "\n\n- `max_update_rms` is twice the usual root mean square of g / root v, which is 1.",
    caveat="The gradients are normally distributed. For heavy-tailed gradients, max_grad_ratio also clips the "
    "tails, so v is smaller than the second moment of the gradients. A lower max_grad_norm limits bursts more, "
    "but also shortens ordinary updates more often.",
    cells=cells,
    measure=measure,
    tables=tables,
    verdict=verdict,
    draw=draw,
    quick_seeds=2,
    size=(11.0, 3.6),
)
