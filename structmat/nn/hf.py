"""Structured models in Hugging Face's transformers, saved, loaded and trained by its own means.

    structmat.nn.convert_(model, config)
    model.save_pretrained("folder")

    import structmat.nn.hf                   # wherever it is loaded again
    model = AutoModelForCausalLM.from_pretrained("folder")

Without the import, transformers warns of an unknown quantization type and refuses the files.
"""

from collections.abc import Mapping
from typing import Any

from structmat.errors import MissingDependencyError
from structmat.nn.training.for_trainers import Rules

try:
    from transformers import TrainerCallback
    from transformers.trainer_callback import ExportableState

    from structmat.nn.pretrained.config import StructureConfig
    from structmat.nn.pretrained.follow import follow
    from structmat.nn.pretrained.quantizer import StructureQuantizer, enable
except ImportError:
    raise MissingDependencyError(
        "transformers is not installed; install it with pip install 'structmat[hf]'"
    ) from None

__all__ = ["StructureCallback", "StructureConfig", "StructureQuantizer", "enable"]


class StructureCallback(TrainerCallback, ExportableState):
    """Learn structure and meet a budget on learned layers while the Trainer trains.

    When training begins, the rules that `structure` names are attached to the Trainer's
    optimizer for all its steps. The log (``state.log_history``, and the logs of later
    callbacks) gets the cost of the learned layers, a fraction of dense, as
    ``structure_cost``. With "gaudi" it also gets σ, as ``structure_sigma``. The Trainer's
    checkpoints hold the state, so a resumed training continues as if it had not stopped.

    With "gaudi", widths and locations need optimizer settings of their own: pass
    ``optimizers=(AdamW(parameter_groups(model, …)), None)`` to the Trainer.

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
        If options belong to the other `structure`, or, when training begins, if the model
        has no layers of that sort.

    Examples
    --------
    >>> callback = StructureCallback(0.2, anneal={"charge": 4.0})
    >>> callback.state()["args"]["budget"]
    0.2
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

    def on_train_begin(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        """Attach the rules to the Trainer's optimizer, with their state in a resumed training."""
        follow(objects["model"])
        saved = state.stateful_callbacks.get(type(self).__name__)
        if state.global_step > 0 and saved is not None:
            self._rules.load_state_dict(saved["attributes"]["rules"])
        self._rules.begin(objects["model"], objects["optimizer"], state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        """Add the figures of the rules to the log."""
        metrics = self._rules.metrics()
        objects["logs"].update(metrics)
        state.log_history[-1].update(metrics)

    def on_train_end(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
        """Detach the rules from the optimizer."""
        self._rules.end()

    def state(self) -> dict[str, Any]:
        """State for the Trainer's checkpoints."""
        rules = self._rules
        args = {"budget": rules.budget, "structure": rules.structure, "anneal": rules.anneal}
        args |= {"projection": rules.projection, "sigma": rules.sigma}
        return {"args": args, "attributes": {"rules": rules.state_dict()}}
