"""Trainers beside torch save the structure: another draw of a model takes it from a checkpoint."""

import pytest
import torch
from nn_kinds import KINDS, converted, inputs
from torch import nn

slow_rest = [
    kind if kind in ("block_sparse", "frozen gblr") else pytest.param(kind, marks=pytest.mark.slow)
    for kind in KINDS
]


@pytest.mark.parametrize("kind", slow_rest)
@pytest.mark.parametrize("safe", [True, False])
def test_accelerate(kind, safe, tmp_path):
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed (extra hf)")

    def prepared(seed):
        model = converted(kind, start="scratch", seed=seed)
        accelerator = accelerate.Accelerator(cpu=True)
        optimizer = torch.optim.AdamW(model.parameters())
        return accelerator, *accelerator.prepare(model, optimizer)

    accelerator, model, optimizer = prepared(0)
    accelerator.backward(model(inputs("linear")).square().sum())
    optimizer.step()
    accelerator.save_state(str(tmp_path), safe_serialization=safe)
    other_accelerator, other, _ = prepared(1)
    other(inputs("linear"))
    other_accelerator.load_state(str(tmp_path))
    assert torch.equal(other(inputs("linear")), model(inputs("linear")))


@pytest.mark.filterwarnings(
    r"ignore:.isinstance\(treespec, LeafSpec\). is deprecated:FutureWarning"
)
@pytest.mark.filterwarnings("ignore::lightning.pytorch.utilities.warnings.PossibleUserWarning")
@pytest.mark.parametrize("kind", slow_rest)
def test_lightning(kind, tmp_path):
    try:
        from lightning import pytorch as lightning
    except (ImportError, RuntimeError) as error:  # a broken torchvision is a RuntimeError
        pytest.skip(f"lightning cannot be imported: {error}")

    class Module(lightning.LightningModule):
        def __init__(self, seed):
            super().__init__()
            self.model = converted(kind, start="scratch", seed=seed)

        def training_step(self, batch, _):
            return self.model(batch).square().mean()

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=0.01)

    def fitted(seed, steps, resumed=None):
        torch.manual_seed(0)
        module = Module(seed)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = lightning.Trainer(
            max_steps=steps, accelerator="cpu", enable_checkpointing=False, **quiet
        )
        loader = torch.utils.data.DataLoader(inputs("linear", 8), batch_size=4)
        trainer.fit(module, loader, ckpt_path=resumed)
        return trainer, module.eval()

    trainer, module = fitted(0, 2)
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    again = Module.load_from_checkpoint(tmp_path / "some.ckpt", seed=1).eval()
    x = inputs("linear")
    assert torch.equal(again.model(x), module.model(x))
    (_, expected), (_, resumed) = (fitted(seed, 4, tmp_path / "some.ckpt") for seed in (0, 1))
    assert not torch.equal(expected.model(x), module.model(x))
    assert torch.equal(resumed.model(x), expected.model(x))
    assert isinstance(resumed.model, nn.Sequential)
