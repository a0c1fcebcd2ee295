"""The conventions and defaults of other RMSprop implementations.

``"torch"`` is `torch.optim.RMSprop`, the default optimizer of Stable-Baselines3's A2C. ``"rmsprop_tf_like"`` is
the ``RMSpropTFLike`` of Stable-Baselines3. That class reproduces results of Stable-Baselines with TensorFlow. A2C
uses ``RMSpropTFLike`` only with ``policy_kwargs={"optimizer_class": RMSpropTFLike}``.

The values are from the sources of torch 2.13 (``torch.optim.RMSprop``), Stable-Baselines3 2.9
(``common.sb2_compat.rmsprop_tf_like.RMSpropTFLike``), TensorFlow 2.21 (``tf.compat.v1.train.RMSPropOptimizer``),
Keras 3.15 (``keras.optimizers.RMSprop``) and optax 0.2.8 (``optax.rmsprop``). timm's ``RMSpropTF`` is the preset
"tf1" with ``lr=1e-2``.
"""

from typing import Any, Literal, get_args

Preset = Literal["torch", "rmsprop_tf_like", "tf1", "keras", "optax"]

_OPTIONS = (
    "lr",
    "rho",
    "eps",
    "eps_in_sqrt",
    "initial_second_moment",
    "lr_in_momentum",
    "decoupled_weight_decay",
)
_VALUES: dict[Preset, tuple[Any, ...]] = {
    "torch": (1e-2, 0.99, 1e-8, False, 0.0, False, False),
    "rmsprop_tf_like": (1e-2, 0.99, 1e-8, True, 1.0, False, False),
    "tf1": (None, 0.9, 1e-10, True, 1.0, True, False),
    "keras": (1e-3, 0.9, 1e-7, True, 0.0, True, True),
    "optax": (None, 0.9, 1e-8, True, 0.0, True, False),
}


def preset(like: Preset, **given: Any) -> dict[str, Any]:
    """The options of a library's RMSprop, overridden by the user's options.

    Args:
        like: Name of the preset.
        **given: Options of `rl_rms.RMSprop` by name; None means not given.

    Returns:
        ``lr``, ``rho``, ``eps``, ``eps_in_sqrt``, ``initial_second_moment``, ``lr_in_momentum``,
        ``decoupled_weight_decay`` and all other given options.

    Raises:
        ValueError: If the preset is unknown, or if neither the library nor the user sets a learning rate.

    Examples:
        >>> preset("rmsprop_tf_like", lr=7e-4)["initial_second_moment"]
        1.0
    """
    if like not in _VALUES:
        raise ValueError(f"like must be one of {', '.join(map(repr, get_args(Preset)))}, got {like!r}")
    options: dict[str, Any] = dict(zip(_OPTIONS, _VALUES[like], strict=True))
    options.update({name: value for name, value in given.items() if value is not None})
    if options["lr"] is None:
        raise ValueError(f"like={like!r} has no default learning rate; give lr")
    return options
