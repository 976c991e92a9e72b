"""Callback for Lightning that learns structure under a budget.

import lightning
from structmat.nn.lightning import StructureCallback
trainer = lightning.Trainer(max_epochs=5, callbacks=[StructureCallback(budget=0.2)])
"""

from collections.abc import Mapping
from typing import Any

from structmat.errors import InputError, MissingDependencyError
from structmat.nn.training.for_trainers import Rules

try:
    from lightning.pytorch import Callback
except ImportError:
    raise MissingDependencyError(
        "lightning is not installed; install it with pip install 'structmat[lightning]'"
    ) from None

__all__ = ["StructureCallback"]


class StructureCallback(Callback):
    """Learn structure and meet a budget on learned layers while Lightning trains.

    When training starts, the rules that `structure` names are attached to the trainer's
    one optimizer, for as many steps as the trainer expects to take. The log gets the cost
    of the learned layers, a fraction of dense, as ``structure_cost``. With "gaudi" it also
    gets σ, as ``structure_sigma``. Lightning's checkpoints hold the state, so a resumed
    training continues as if it had not stopped.

    Parameters
    ----------
    budget : float
        Fraction of the dense cost, as for `Anneal` and `BudgetProjection`.
    structure : str
        "anneal" projects dense weights onto structures of falling cost (`Anneal`); "gaudi"
        follows gradients through Gaudi masks (`BudgetProjection` and `SigmaSchedule`).
    anneal, projection, sigma : mapping, optional
        Further options of `Anneal`, of `BudgetProjection` and of `SigmaSchedule`.

    Raises
    ------
    InputError
        If options belong to the other `structure`, or, when training starts, if the trainer
        has no end or several optimizers, or the model has no layers of that sort.

    Examples
    --------
    >>> callback = StructureCallback(0.2, anneal={"charge": 4.0})
    >>> callback.state_dict()
    {}
    """

    def __init__(
        self,
        budget: float,
        *,
        structure: str = "anneal",
        anneal: Mapping[str, Any] | None = None,
        projection: Mapping[str, Any] | None = None,
        sigma: Mapping[str, Any] | None = None,
    ) -> None:
        self._rules = Rules(budget, structure, anneal, projection, sigma)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Attach the rules to the trainer's optimizer."""
        if len(trainer.optimizers) != 1:
            raise InputError(
                f"the trainer has {len(trainer.optimizers)} optimizers; expected one "
                "(give Anneal the list of them, by hand)"
            )
        self._rules.begin(pl_module, trainer.optimizers[0], trainer.estimated_stepping_batches)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Log the figures of the rules, as often as the trainer logs."""
        if trainer.global_step % trainer.log_every_n_steps == 0:
            pl_module.log_dict(self._rules.metrics())

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Detach the rules from the optimizer."""
        self._rules.end()

    def state_dict(self) -> dict[str, Any]:
        """State for Lightning's checkpoints."""
        return self._rules.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state of a checkpoint until training starts."""
        self._rules.load_state_dict(state_dict)
