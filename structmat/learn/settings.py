"""How each model is trained where the command line does not say."""

from dataclasses import replace

from structmat.learn.train import Settings

__all__ = ["default_settings"]

_TRANSFORMER = Settings(
    epochs=10, batch=64, lr=1e-3, weight_decay=0.05, warmup=0.05, structure_lr=2e-3
)
_DEFAULTS = {
    "mlp": Settings(epochs=12, batch=256, lr=1e-3),
    "mixer": _TRANSFORMER,
    "vit": _TRANSFORMER,
    "resnet": replace(_TRANSFORMER, lr=2e-3, weight_decay=5e-4),
    "gpt": replace(_TRANSFORMER, batch=32, weight_decay=0.1),
}


def default_settings(data: str, model: str) -> Settings:
    """Settings for a data set and a model.

    The digits are few, and take many short epochs.

    Examples
    --------
    >>> default_settings("digits", "mlp").epochs, default_settings("text", "gpt").batch
    (60, 32)
    """
    if data == "digits":
        return Settings() if model == "mlp" else replace(_DEFAULTS[model], epochs=30)
    return _DEFAULTS[model]
