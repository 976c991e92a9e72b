"""
Freeze, save, reload, compile, export
=====================================

A network with learned layers leaves the training. You will see its outputs after each step of the
way: frozen, saved and loaded again, compiled by torch, and run as ONNX; then its multiplications,
and the size of its file beside that of the dense network.
"""

import importlib.util
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_model as save_dense
from torch import nn

from structmat.nn import Anneal, Config, convert_, cost, freeze_, load_model, save_model

folder = Path(tempfile.mkdtemp())


def network():
    layers = [nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)]
    return nn.Sequential(*layers)


# %%
# A short training, in place of yours: the outputs come to follow those of a dense network.
torch.manual_seed(0)
x, dense, model = torch.randn(256, 64), network(), network()
convert_(model, Config(budget=0.05), lambda name, _: name != "4")
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
Anneal(model, optimizer, budget=0.05, total_steps=60)
for _ in range(60):
    optimizer.zero_grad()
    (model(x) - dense(x).detach()).square().mean().backward()
    optimizer.step()

# %%
# Each step returns outputs for the same inputs. Loading needs the dense architecture only. Compiled
# models and ONNX multiply in an order of their own, so their last digits may differ.
model.eval()
outputs = {"trained": model(x)}
freeze_(model)
outputs["frozen"] = model(x)
save_model(folder / "model.safetensors", model)
outputs["reloaded"] = load_model(folder / "model.safetensors", network()).eval()(x)
outputs["compiled"] = torch.compile(model, fullgraph=True)(x)
needed = ("onnx", "onnxscript", "onnxruntime")
missing = [name for name in needed if importlib.util.find_spec(name) is None]
if missing:
    print(f"no ONNX here: pip install {' '.join(missing)}")
else:
    import onnxruntime

    batch = ({0: torch.export.Dim("batch")},)
    path = folder / "model.onnx"
    how = {"dynamo": True, "verbose": False, "external_data": False}
    torch.onnx.export(model, (x[:5],), path, dynamic_shapes=batch, **how)
    session = onnxruntime.InferenceSession(path)
    outputs["ONNX"] = torch.tensor(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])

# %%
apart = {name: (out - outputs["trained"]).abs().max().item() for name, out in outputs.items()}
print("largest difference from the trained model, for outputs of")
print(f"size {outputs['trained'].abs().max():.2g}:")
print("\n".join(f"{name:10} {difference:.1e}" for name, difference in apart.items()))
print(cost(model, x[:1]))

# %%
save_dense(dense, str(folder / "dense.safetensors"))
own, whole = ((folder / f"{name}.safetensors").stat().st_size for name in ("model", "dense"))
together = cost(model, x[:1]).everything
print(
    f"Seen: {len(outputs)} forms of one model agree to {max(apart.values()):.0e}, with "
    f"{100 * together.relative_cost:.3g} % of the multiplications of the dense one and a file of "
    f"{own:,} bytes instead of {whole:,}."
)
