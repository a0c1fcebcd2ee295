"""The parameters of Gymnasium's toy text environments. All of these parameters are probabilities.

Setting ``success_rate`` or ``rainy_probability`` changes the environment's transition table. For each state and
action, the table lists the outcomes ``(probability, next state, reward, terminated)``. Blackjack has no table and
no parameter.
"""

from typing import Any

from rl_rms.envs.parameters.registry import register_parameter

_LAKE = "gymnasium.envs.toy_text.frozen_lake:FrozenLakeEnv"
_CLIFF = "gymnasium.envs.toy_text.cliffwalking:CliffWalkingEnv"
_TAXI = "gymnasium.envs.toy_text.taxi:TaxiEnv"

_Outcome = tuple[float, int, float, bool]
_Rows = dict[int, list[_Outcome]]


def _intended(rows: _Rows, action: int) -> _Outcome:
    # Without slipping, the intended move is the only outcome. With slipping, this move is the second of three.
    return rows[action][len(rows[action]) // 2]


def _is_end(state: int, rows: _Rows) -> bool:
    return all(next_state == state and over for row in rows.values() for _, next_state, _, over in row)


def _set_success_rate(env: Any, rate: float) -> None:
    """Make the intended move with probability ``rate``. The two perpendicular moves are equally likely."""
    astray = (1.0 - rate) / 2.0
    for state, rows in env.P.items():
        if _is_end(state, rows):
            continue
        intended = [_intended(rows, action)[1:] for action in range(4)]
        for action in range(4):
            rows[action] = [
                (astray, *intended[action - 1]),
                (rate, *intended[action]),
                (astray, *intended[(action + 1) % 4]),
            ]


def _success_rate(env: Any) -> float:
    return next(_intended(rows, 0)[0] for state, rows in env.P.items() if not _is_end(state, rows))


for _class in (_LAKE, _CLIFF):
    register_parameter(_class, "success_rate", set=_set_success_rate, get=_success_rate, low=0, high=1)


def _set_rainy_probability(env: Any, probability: float) -> None:
    """Make the intended move with the given probability. The two perpendicular moves are equally likely."""
    aside = (1.0 - probability) / 2.0
    for rows in env.P.values():
        for row in rows.values():
            if len(row) == 3:
                row[:] = [(share, *one[1:]) for share, one in zip((probability, aside, aside), row, strict=True)]


def _rainy_probability(env: Any) -> float:
    return float(env.P[0][0][0][0])


def _without_rain(env: Any) -> str | None:
    return None if len(env.P[0][0]) == 3 else "it does not rain; make the environment with is_rainy=True"


def _without_fickleness(env: Any) -> str | None:
    if env.fickle_passenger:
        return None
    return "the passenger is not fickle; make the environment with fickle_passenger=True"


def _pick_up(env: Any) -> None:
    row, column, _, destination = env.decode(env.s)
    env.s = env.encode(row, column, 4, destination)


register_parameter(
    _TAXI,
    "rainy_probability",
    set=_set_rainy_probability,
    get=_rainy_probability,
    low=0,
    high=1,
    inert=_without_rain,
)
# The environment reads ``fickle_probability`` only when an episode begins.
register_parameter(
    _TAXI,
    "fickle_probability",
    low=0,
    high=1,
    inert=_without_fickleness,
    effect="reset",
    provoke=_pick_up,
)
