"""all-MiniLM-L6-v2 on the way of the guide for Hugging Face models: before and after each step.

`python -m benchmarks hugging_face run --data-dir DIR` measures and keeps the figures;
`python -m benchmarks hugging_face report` writes the table into the guide.
"""

import argparse
import copy
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.learn import placed
from benchmarks.micro.timing import interleaved
from benchmarks.reporting.tables import number, percent
from benchmarks.results import BenchmarkError, Row, load, rows_as_json, short, write_text

try:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional as F

    from benchmarks.models import minilm
    from benchmarks.models.distillation import Distillation
    from benchmarks.models.minilm import batches_of, is_inner, sentences
    from structmat.nn import Config, convert_, cost
except ImportError as missing:
    raise BenchmarkError(
        f"{missing.name} is not installed; install it with pip install 'structmat[learn,hf]'"
    ) from None

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "hugging_face.json"
PAGE = ROOT / "docs" / "guide" / "hugging_face.md"
#: Lines around the table on the page.
BEGIN = "<!-- figures of MiniLM, by `python -m benchmarks hugging_face report` -->"
END = "<!-- end of these figures -->"
SCHEMA = 1
KEYS = ("schema", "command", "machine", "settings", "rows")
TRAINING = "classics_train.txt.xz"
HELD_OUT = {"classics": "classics_test.txt.xz", "wikitext2": "wikitext2_test.txt"}
BUDGETS = (0.5, 0.25)
#: Sentences of a batch; batches that calibrate; batches that distil.
BATCH, CALIBRATION, STEPS = 16, 16, 2000
#: Sentences of each text that is not trained on, and characters of a text that are read.
SENTENCES, CHARACTERS = 300, 40_000_000
#: Sentences that are timed, each of this many tokens.
TIMED, TOKENS = (1, 32), 24
SECONDS_A_TIME = 6.0


Batch = dict[str, Tensor]


def embedded(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """States of all tokens, zero in the padding, and the mean state of each sentence."""
    mask = batch["attention_mask"].unsqueeze(-1)
    states = model(**batch).last_hidden_state * mask
    return states, states.sum(1) / mask.sum(1)


def distil(student: nn.Module, teacher: nn.Module, batches: Sequence[Batch]) -> nn.Module:
    """Teach a converted model the states of the original one, one batch of sentences a step."""
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-4, total_steps=len(batches))
    for batch in batches:
        with torch.no_grad():
            wanted, goal = embedded(teacher, batch)
        found, own = embedded(student, batch)
        loss = (found - wanted).square().sum() / wanted.square().sum()
        loss += 1 - F.cosine_similarity(own, goal).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return student.eval()


def main(arguments: Sequence[str]) -> int:
    """Run one command; 0 if all went well."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks hugging_face", description=__doc__)
    parser.add_argument("what", choices=("run", "report"), help="measure, or write the table")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder with the text files")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of the distillation")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    if options.what == "run":
        if options.data_dir is None:
            raise BenchmarkError("--data-dir is missing; expected the folder with the text files")
        write_text(options.output, rows_as_json(measured(options.data_dir, options.steps)))
        print(f"wrote {options.output.name}")
    found = table(load(RESULT, SCHEMA, KEYS))
    write_text(PAGE, placed(PAGE.read_text(encoding="utf-8"), found, PAGE.name, BEGIN, END))
    print(f"wrote {PAGE.name}")
    return 0


def measured(data_dir: Path, steps: int) -> Row:
    """Content of the result file."""
    torch.manual_seed(0)
    busy = short(os.getloadavg()[0])
    return {
        "schema": SCHEMA,
        "command": f"python -m benchmarks hugging_face run --data-dir DIR --steps {steps}",
        "machine": machine.facts(),
        # Processes that wanted a core when it began; seconds of training are of the processor.
        "load": busy,
        "settings": {"batch": BATCH, "calibration": CALIBRATION, "steps": steps, "tokens": TOKENS},
        "rows": list(rows(data_dir, steps)),
    }


def rows(data_dir: Path, steps: int) -> Iterator[Row]:
    """The original model, and for each budget the model after each step of the guide."""
    folder = data_dir / "text" if (data_dir / "text").is_dir() else data_dir
    original, encode = minilm.pretrained()
    needed = max(steps, CALIBRATION)
    text = sentences(folder / TRAINING, 2 * needed * BATCH, CHARACTERS)
    batches = batches_of(encode(text), BATCH, 0)[:needed]
    held_out = {
        name: batches_of(encode(sentences(folder / file, SENTENCES, CHARACTERS)), BATCH)
        for name, file in HELD_OUT.items()
    }
    # The task measures alone: the guide's own loop trains.
    task = Distillation(original, batches[:1], held_out)

    def row(name: str, budget: float, model: Any, seconds: float) -> Row:
        figures = task.measure(model)
        print(f"{name}, {budget:g}: cosine {figures['score']}", flush=True)
        return {
            "step": name,
            "budget": budget,
            "cosine": figures["score"],
            **figures["scores"],
            "megabytes": short(saved_bytes(model.bert) / 2**20),
            "relative_cost": short(cost(model, batches[0]).everything.relative_cost),
            "seconds": short(seconds),
            **times(model, original),
        }

    yield row("original", 1.0, original, 0.0) | {"one_point": short(task.one_point())}
    for budget in BUDGETS:
        for name, calibration in (("weights", None), ("calibrated", batches[:CALIBRATION])):
            begin, student = time.process_time(), copy.deepcopy(original)
            config = Config(kind="low_rank", budget=budget, start="weights", shares="error")
            convert_(student, config, is_inner, example=batches[0], calibration=calibration)
            yield row(name, budget, student, time.process_time() - begin)
        begin = time.process_time()
        masked = [{"input_ids": b, "attention_mask": torch.ones_like(b)} for b in batches[:steps]]
        distil(student.bert.train(), original.bert, masked)
        yield row("distilled", budget, student, time.process_time() - begin)


def saved_bytes(model: Any) -> int:
    """Bytes of the weights that `save_pretrained` writes."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))


@torch.no_grad()
def times(model: nn.Module, original: nn.Module) -> Row:
    """Time of a batch over that of the original model, turn by turn."""
    found = {}
    for count in TIMED:
        tokens = torch.randint(1000, 20000, (count, TOKENS))
        calls = {"own": lambda t=tokens: model(t), "dense": lambda t=tokens: original(t)}
        timing = interleaved(calls, seconds=SECONDS_A_TIME / 2, least=5)
        found[f"time of {count}"] = short(timing.ratio("own", "dense"))
    return found


NAMES = {
    "original": "the original model",
    "weights": "fitted to the weights",
    "calibrated": "calibrated",
    "distilled": "calibrated and distilled",
}


def table(result: Row) -> str:
    """Table of a result in Markdown, with a line on the machine."""
    lines = []
    for row in result["rows"]:
        name = NAMES[row["step"]]
        lines.append(
            [
                name if row["step"] == "original" else f"{percent(row['budget'])}, {name}",
                f"{row['cosine']:.3f}",
                f"{row['rank_correlation']:.3f}",
                f"{row['megabytes']:.0f}",
                *(number(row[f"time of {count}"]) for count in TIMED),
                f"{row['seconds'] / 60:.1f}" if row["seconds"] else "–",
            ]
        )
    heads = ["model", "cosine", "rank correlation", "MiB", "time of 1", "of 32", "minutes"]
    cells = [f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *lines)]
    facts, settings = result["machine"], result["settings"]
    note = (
        f"Cosine to the original on sentences that are not trained on (one embedding for all of "
        f"them has {result['rows'][0]['one_point']:.2f}), and rank correlation of the similarities "
        f"of all pairs. Distilled in {settings['steps']} steps of {settings['batch']} sentences, "
        f"one seed; times of 1 and 32 sentences of {settings['tokens']} tokens over those of the "
        f"original; minutes of one processor. {facts['cpu']}, structmat {facts['structmat']}, "
        f"torch {facts['peers']['torch']}, {facts['date']}."
    )
    return "\n".join([*cells, "", note])
