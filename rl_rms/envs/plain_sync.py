"""Saves and restores a user's SyncVectorEnv, without adding wrappers to its sub-environments."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.vector import SyncVectorEnv, VectorEnv

from rl_rms.envs.backend import OTHERWISE
from rl_rms.envs.clocks import Mask
from rl_rms.envs.encoding import decode, encode
from rl_rms.envs.gymnasium_internals import continue_plain_sync
from rl_rms.envs.layers import Layers, check_wrappers, lost_sentence
from rl_rms.envs.notices import Notices
from rl_rms.envs.snapshots import has_known_state, known_state, restore_known_state

# The saved state of the delayed actions if no target delays actions.
_NO_DELAY = encode(None)


class PlainSync:
    """Saves and restores the state of a SyncVectorEnv within its episodes.

    Attributes:
        last: The last observations, which the caller sets; None before the first reset.
    """

    def __init__(self, env: VectorEnv) -> None:
        assert isinstance(env.unwrapped, SyncVectorEnv)
        self.last: Any = None
        self._env, self._base = env, env.unwrapped
        self._outer = Layers(env, self._base)
        self._layers = [Layers(one, one.unwrapped) for one in self._base.envs]
        self._notices = Notices()

    @property
    def lost_wrappers(self) -> list[str]:
        """Names of the wrappers whose state cannot be saved."""
        return sorted({name for layers in (self._outer, *self._layers) for name in layers.lost})

    def snapshot(self) -> dict[str, Any] | None:
        """Return the sub-environments' state within their episodes as plain JSON data.

        The result is None before the first reset. If the state cannot be saved, the result is None with a warning.
        """
        if self.last is None:
            return None
        lost = self.lost_wrappers
        if lost:
            self._notices.give(lost_sentence(lost))
            return None
        unknown = sorted({type(one.unwrapped).__name__ for one in self._base.envs if not has_known_state(one)})
        if unknown:
            self._notices.give(
                f"the state of {' and '.join(unknown)} within episodes cannot be saved in a SyncVectorEnv; make "
                "the vector environment with rl_rms.envs.make_vec or rl_rms.envs.ResilientSyncVectorEnv, or "
                "declare the state with rl_rms.envs.register_state"
            )
            return None
        try:
            known = [known_state(one) for one in self._base.envs]
        except ValueError as error:
            self._notices.give(
                f"the state of {type(self._base.envs[0].unwrapped).__name__} within its episode cannot be saved: "
                f"{error}; a restored environment begins new episodes"
            )
            return None
        inner = [layers.state_dict() for layers in self._layers]
        return {
            "each": [
                {"known": one, "wrappers": states, "delayed": _NO_DELAY}
                for one, states in zip(known, inner, strict=True)
            ],
            "wrappers": [[] for _ in known],
            "vector_wrappers": self._outer.state_dict(),
            "last": encode(self.last),
        }

    def restore(self, snapshot: Mapping[str, Any], resetting: Mask) -> None:
        """Restore a snapshot.

        Raises:
            OtherWrappersError: If the state was saved with other wrappers.
            ValueError: If the state belongs to another kind of vector environment, or to another number of
                sub-environments.
        """
        each = snapshot.get("each", ())
        if len(each) != len(self._layers) or not all("known" in one for one in each):
            raise ValueError(OTHERWISE)
        check_wrappers(snapshot["vector_wrappers"], self._outer.names)
        for layers, one, outside in zip(self._layers, each, snapshot["wrappers"], strict=True):
            check_wrappers([*outside, *one["wrappers"]], layers.names)
        for env, layers, one, outside in zip(
            self._base.envs, self._layers, each, snapshot["wrappers"], strict=True
        ):
            restore_known_state(env, one["known"])
            layers.load_state_dict([*outside, *one["wrappers"]])
        self._outer.load_state_dict(snapshot["vector_wrappers"])
        self.last = decode(snapshot["last"])
        continue_plain_sync(self._base, self.last, np.asarray(resetting))
