"""
Freeze, save, reload, compile, export
=====================================

A network with learned layers leaves the training. You will see that its outputs stay the same when
it is frozen, saved and loaded, compiled and run as ONNX, and what it multiplies and stores.
"""

import importlib.util
import tempfile
import warnings
from pathlib import Path

import torch
from torch import nn

from structmat.nn import Anneal, Config, convert_, cost, freeze_, load_model, save_model


def network():
    hidden = [nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(512, 10))


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
# Loading needs the dense architecture only. The last digits of compiled networks may differ.
folder, outputs = Path(tempfile.mkdtemp()), {"trained": model.eval()(x)}
freeze_(model)
outputs["frozen"] = model(x)
save_model(folder / "model.safetensors", model)
outputs["reloaded"] = load_model(folder / "model.safetensors", network()).eval()(x)
outputs["compiled"] = torch.compile(model, fullgraph=True)(x)
if any(importlib.util.find_spec(f"onnx{name}") is None for name in ("", "script", "runtime")):
    print("ONNX is left out: it needs onnx, onnxscript and onnxruntime")
else:
    import onnxruntime

    warnings.simplefilter("ignore")  # those of torch's export speak of torch alone
    how = {"dynamo": True, "verbose": False, "external_data": False}
    batch = ({0: torch.export.Dim("batch")},)  # any number of examples
    torch.onnx.export(model, (x[:5],), folder / "model.onnx", dynamic_shapes=batch, **how)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    given = {session.get_inputs()[0].name: x.numpy()}
    outputs["ONNX"] = torch.tensor(session.run(None, given)[0])

# %%
# The largest difference from the outputs of the trained network:
apart = {name: (out - outputs["trained"]).abs().max().item() for name, out in outputs.items()}
print("\n".join(f"{name:10} {difference:.1e}" for name, difference in apart.items()))

print(own := cost(model, x[:1]))
save_model(folder / "dense.safetensors", dense)
own_size, size = ((folder / f"{n}.safetensors").stat().st_size for n in ("model", "dense"))
print(
    f"Seen: {', '.join(outputs)} agree to {max(apart.values()):.0e},\n"
    f"in outputs of up to {outputs['trained'].abs().max():.2g}; the network takes\n"
    f"{100 * own.everything.relative_cost:.3g} % of the dense multiplications, and its file "
    f"{100 * own_size / size:.0f} % of the bytes."
)
