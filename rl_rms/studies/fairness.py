"""Tests whether RMSprop disadvantages a group with noisy features, and whether a second moment per group helps.

A linear policy decides on the applicants of `rl_rms.envs.lending`, with 64 new applicants in each update. In the
supervised setting, the policy learns from the labels with the log loss. In the bandit setting, the policy samples
its decisions and learns from the rewards of these decisions (REINFORCE).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rl_rms.envs.lending import Applicants, Lending, true_positive_rates
from rl_rms.optim.groups import GroupRMSprop, Label
from rl_rms.studies.drawing import COLORS
from rl_rms.studies.frame import Cell, Results, Study, Table, Verdict, grid
from rl_rms.studies.intervals import Estimate, interquartile_mean, short, trimmed_mean
from rl_rms.studies.optimizers import Ladder, half_decades

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCH, TESTED, UPDATES = 64, 20_000, 1_000
CHECKPOINTS = [5, 10, 20, 35, 50, 75, 100, 150, 200, 300, 500, 750, 1_000]
EARLY = CHECKPOINTS[2:5]
RATES = half_decades(1e-4, 10.0)
# Whether the loss weights the groups equally. Otherwise, the loss weights each group by its number of applicants.
EQUAL_WEIGHTS = {
    "SGD": False,
    "RMSprop": False,
    "per group": False,
    "equalized": False,
    "reweighted": True,
    "per group, reweighted": True,
}
SCORES = {"supervised": "accuracy", "bandit": "mean reward"}

Step = Callable[[Tensor, Mapping[Label, Tensor], Mapping[Label, float]], Tensor]


def cells(quick: bool) -> Sequence[Cell]:
    """Return a cell for each setting, kind of policy weights (shared or own) and optimizer."""
    if quick:
        few = [by for by in EQUAL_WEIGHTS if by != "equalized"]
        return grid(setting=["supervised"], weights=["shared", "own"], by=few, updates=[200])
    return grid(setting=SCORES, weights=["shared", "own"], by=EQUAL_WEIGHTS, updates=[UPDATES])


def inputs(applicants: Applicants, weights: str) -> Tensor:
    """Return the policy's inputs.

    With ``weights="own"``, the policy gets the features of the noisy group a second time, with separate weights.
    For the quiet group, these additional inputs are 0.
    """
    x = torch.from_numpy(applicants.observations)
    return torch.cat([x, x[:, :-2] * x[:, -1:]], 1) if weights == "own" else x


def make_step(by: str, like: Tensor) -> Step:
    """Return the function that updates the parameters of all rates from the groups' gradients and weights."""
    if by in ("SGD", "RMSprop", "reweighted"):
        ladder = Ladder("SGD" if by == "SGD" else "RMSprop", RATES)

        def step(params: Tensor, grads: Mapping[Label, Tensor], weights: Mapping[Label, float]) -> Tensor:
            mean = torch.stack([weights[group] * grad for group, grad in grads.items()]).sum(0)
            return ladder.step(params, mean / sum(weights.values()))

        return step
    unit, rates = torch.zeros_like(like, requires_grad=True), torch.tensor(RATES)[:, None]
    optimizer = GroupRMSprop([unit], lr=1.0, equalize=by == "equalized")

    def step_by_group(params: Tensor, grads: Mapping[Label, Tensor], weights: Mapping[Label, float]) -> Tensor:
        # As in `Ladder`, the step at rate 1 is multiplied by each rate.
        unit.data.zero_()
        optimizer.step({group: [grad] for group, grad in grads.items()}, weights)
        return params + rates * unit.detach()

    return step_by_group


def measure(seed: int, *, setting: str, weights: str, by: str, updates: int) -> dict[str, Any]:
    """Train a policy, and evaluate it on unseen applicants at `CHECKPOINTS`.

    Returns:
        The gap, the noisy group's true positive rate, and means of gap and score over early and late checkpoints.
        All values belong to the learning rate with the best late score. ``rate`` is this learning rate.
    """
    env, rng = Lending(), np.random.default_rng(seed)
    tested, taught = env.applicants(TESTED, rng), env.applicants(BATCH * updates, rng)
    x_tested, in_tested = inputs(tested, weights), np.eye(2)[tested.groups]
    lessons = zip(
        inputs(taught, weights).view(updates, BATCH, -1),
        torch.from_numpy(np.eye(2, dtype=np.float32)[taught.groups]).view(updates, BATCH, 2),
        taught.repays.reshape(updates, BATCH),
        strict=True,
    )
    params = torch.zeros(len(RATES), x_tested.shape[1])
    step, evaluated = make_step(by, params), []
    for update, (x, in_group, repays) in enumerate(lessons, 1):
        probability = torch.sigmoid(params @ x.T)
        if setting == "supervised":
            error = probability - torch.from_numpy(repays).float()
        else:
            lends = torch.from_numpy(rng.random(BATCH, np.float32)) < probability
            error = -torch.from_numpy(env.rewards(lends, repays)).float() * (lends.float() - probability)
        sizes = {k: n for k, n in enumerate(in_group.sum(0).tolist()) if n}
        grads: dict[Label, Tensor] = {k: (error * in_group[:, k]) @ x / n for k, n in sizes.items()}
        counts: dict[Label, float] = {k: float(n) for k, n in sizes.items()}
        params = step(params, grads, dict.fromkeys(counts, 1.0) if EQUAL_WEIGHTS[by] else counts)
        if update in CHECKPOINTS:
            actions = (params @ x_tested.T > 0).numpy()
            scored = actions == tested.repays if setting == "supervised" else env.rewards(actions, tested.repays)
            rates = true_positive_rates(actions, tested.groups, tested.repays)
            evaluated.append((rates, scored @ in_tested / in_tested.sum(0), scored.mean(1)))
    tpr, of_groups, score = (np.array(values) for values in zip(*evaluated, strict=True))
    # The best rate has the highest score with the groups weighted as in the loss.
    importance = np.full(2, 0.5) if EQUAL_WEIGHTS[by] else in_tested.mean(0)
    best = int((of_groups @ importance)[-3:].mean(0).argmax())
    gap = tpr[:, best, 0] - tpr[:, best, 1]
    early = [CHECKPOINTS.index(update) for update in EARLY]
    return {
        "gap": gap,
        "noisy": tpr[:, best, 1],
        "early": gap[early].mean(),
        "late": gap[-3:].mean(),
        "early_score": score[early, best].mean(),
        "late_score": score[-3:, best].mean(),
        "rate": RATES[best],
    }


@functools.cache
def best_rule() -> tuple[float, float, float]:
    """Return the gap, the accuracy and the mean reward of the best possible rule."""
    env = Lending()
    people = env.applicants(100_000, np.random.default_rng(0))
    actions = env.best_actions(people.observations)
    quiet, noisy = true_positive_rates(actions, people.groups, people.repays)
    return quiet - noisy, (actions == people.repays).mean(), env.rewards(actions, people.repays).mean()


def narrowed(results: Results, when: str, by: str, rival: str = "RMSprop", **of: Any) -> Estimate:
    """Return the gap of a rival minus the gap of an optimizer, paired by seed."""
    return interquartile_mean(results.values(when, by=rival, **of) - results.values(when, by=by, **of))


def tables(results: Results) -> Sequence[Table]:
    """Tabulate gaps, reductions of the gaps, and scores by setting, weights and optimizer."""
    header = ["setting, weights", "optimizer", "early gap", "late gap"]
    header += ["reduction of the early gap", "reduction of the late gap"]
    rows = []
    for cell in results.cells:
        of = {key: cell[key] for key in ("setting", "weights")}
        middles = {name: trimmed_mean(results.values(name, **cell)) for name in ("early", "late", *_SCORED)}
        gains = [
            "" if cell["by"] == "RMSprop" else _signed(narrowed(results, when, cell["by"], **of))
            for when in ("early", "late")
        ]
        gaps, scores = (
            [f"{middles[when]:.3f}" for when in ("early", "late")],
            [f"{middles[s]:.3f}" for s in _SCORED],
        )
        rate = short(float(np.median(results.values("rate", **cell))))
        rows.append([", ".join(of.values()), cell["by"], *gaps, *gains, *scores, rate])
    gap, accuracy, mean_reward = best_rule()
    for setting, score in zip(SCORES, (accuracy, mean_reward), strict=True):
        rows.append([setting, "best possible rule", "", f"{gap:.3f}", "", "", "", f"{score:.3f}", ""])
    return [Table([*header, "early score", "late score", "learning rate"], rows)]


_SCORED = ("early_score", "late_score")


def verdict(results: Results) -> Verdict:
    """Judge the claim by the cases in which `GroupRMSprop` has a narrower gap than RMSprop."""
    settings = [{"setting": w, "weights": s} for w in results.levels("setting") for s in results.levels("weights")]

    def wins(when: str, by: str, rival: str = "RMSprop") -> int:
        return sum(narrowed(results, when, by, rival, **of).low > 0 for of in settings)

    pairs = 2 * len(settings)
    early, late = (
        wins(when, "per group") + wins(when, "per group, reweighted", "reweighted") for when in ("early", "late")
    )
    of = {"setting": results.levels("setting")[0], "weights": "shared"}
    scores = [results.values("late_score", by=by, **of) for by in ("RMSprop", "reweighted")]

    def among(count: int, total: int = len(settings)) -> str:
        return (
            f"none of the {total}"
            if count == 0
            else f"all {total}"
            if count == total
            else f"{count} of the {total}"
        )

    sentence = (
        f"The study compares `GroupRMSprop` (per group) with RMSprop in {pairs} cases. In each case, both "
        "optimizers use the same group weights in the loss. `GroupRMSprop` significantly narrows the early gap "
        f"in {among(early, pairs)} cases, and the late gap in {among(late, pairs)} cases. SGD has a significantly "
        f"narrower early gap than RMSprop in {among(wins('early', 'SGD'))} combinations of setting and policy "
        "weights. Equal weights for the groups significantly narrow RMSprop's early gap in "
        f"{among(wins('early', 'reweighted'))} combinations, and its late gap in "
        f"{among(wins('late', 'reweighted'))} combinations. In the {of['setting']} setting with shared weights, "
        f"equal weights lower the late {SCORES[of['setting']]} by {trimmed_mean(scores[0] - scores[1]):.3f}."
    )
    if late > pairs / 2:
        return Verdict("holds", sentence)
    if early > pairs / 2:
        return Verdict("conditional", sentence, "only early in the training")
    return Verdict("does not hold", sentence)


def draw(results: Results, figure: "Figure") -> None:
    """Draw the gap over the updates."""
    names, kinds = results.levels("setting"), results.levels("weights")
    panels = figure.subplots(len(names), len(kinds), sharex=True, sharey=True, squeeze=False)
    gap = best_rule()[0]
    for row, setting in zip(panels, names, strict=True):
        for axis, weights in zip(row, kinds, strict=True):
            for color, by in zip(COLORS, results.levels("by"), strict=False):
                curve = trimmed_mean(results.values("gap", setting=setting, weights=weights, by=by))
                style = "--" if EQUAL_WEIGHTS[by] else "-"
                axis.plot(CHECKPOINTS[: len(curve)], curve, style, color=color, label=by, linewidth=1.4)
            axis.axhline(gap, color="grey", linewidth=0.8, linestyle=":", label="best possible rule")
            axis.set_title(f"{setting}, {weights} weights")
            axis.set(xscale="log", ylabel="gap of true positive rates" if axis is row[0] else "")
    for axis in panels[-1]:
        axis.set_xlabel("updates")
    panels[0, -1].legend()


def _signed(gain: Estimate) -> str:
    return f"{gain.middle:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"


STUDY = Study(
    name="fairness",
    claim="If the gradients of a group of people have a high variance, RMSprop damps these gradients. The policy "
    "therefore learns more slowly for this group than for other groups. A second moment per group, or equal "
    "variances of the groups' gradients, prevents this delay.",
    mechanism="`rl_rms.optim.groups.GroupRMSprop` has a second moment for each group. With `equalize=True`, "
    "`GroupRMSprop` equalizes the noise of the groups' gradients instead. `rl_rms.envs.lending.Lending` is the "
    "environment.",
    setup="A linear policy decides on the loans of two groups of applicants. The noisy group contains a "
    "fifth of the applicants, and its features have more noise than the features of the quiet group. "
    f"The policy gets the features and the group of an applicant. Each update uses {BATCH} new "
    "applicants."
    "\n\n- **Setting.** A supervised policy learns from labels with the log loss, and its score is "
    "the accuracy. A bandit policy learns from rewards by REINFORCE, and its score is the mean reward "
    "of its most likely actions."
    "\n\n- **Weights.** Both groups share the weights of the policy (shared), or the noisy group has "
    "additional weights (own)."
    "\n\n- **Optimizer.** The optimizer is SGD, RMSprop, `GroupRMSprop` (per group), or `GroupRMSprop` with "
    "`equalize=True` (equalized). RMSprop and `GroupRMSprop` have a half-life of 69 updates. In the "
    "rows with `reweighted`, the loss weights both groups equally. In the other rows, the loss weights each group "
    "by its share of the batch. The optimizer of the row `reweighted` is RMSprop."
    "\n\n- **Gap.** The gap is the true positive rate of the quiet group minus the true positive rate "
    f"of the noisy group, on {TESTED:,} unseen applicants."
    "\n\n- **Time.** Early values are means over updates 20, 35 and 50. Late values are means over "
    "updates 500, 750 and 1,000."
    "\n\n- **Reduction.** The reduction in a row is the gap in the row `RMSprop` of the same setting and weights, "
    "minus the gap in this row, paired by seed. A reduction is positive if the gap is narrower than with RMSprop."
    "\n\n- **Learning rate.** Each seed uses the best of eleven learning rates, two per decade. The "
    "best rate has the highest late score, with the groups weighted as in the loss. The table shows "
    "the median of the best rates over seeds.",
    caveat="The policy is linear, and the groups differ only in noise and size. A network, or groups with "
    "other rates of repayment, may behave differently. A policy that is poor for both groups can also have "
    "a narrow early gap. The raw data therefore also contain the true positive rate of the noisy "
    "group. The noise was chosen so that the best possible rule leaves a gap of about 0.13.",
    cells=cells,
    measure=measure,
    tables=tables,
    verdict=verdict,
    draw=draw,
    size=(9.0, 6.0),
)
