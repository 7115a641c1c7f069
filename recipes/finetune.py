r"""Fine-tune a model: whole, in stages, or by LoRA.

    python -m recipes.finetune CONFIG.yaml data.train=stores/train run.output=out
    python -m recipes.launch --processes 8 finetune CONFIG.yaml parallel.data=4 parallel.model=2

`recipes/configs` has a folder of CONFIG.yaml files a model family.

The output folder gets config.json, metrics.jsonl, loss.png, checkpoints/, and at the end what was
trained: adapter.safetensors for LoRA, else weights.safetensors. Samples that `data.on_error` leaves
out are in skipped.jsonl. `run.resume=true` goes on from the last checkpoint.

What a device will need is said first, and refused if it is more than `run.device_memory`.
`run.dry=true` says no more than that of the whole job, and makes a step of a small model.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import mindspore as ms

from mmdata.errors import MMDataError
from mmdata.pipeline import Batch, Stream
from models.model import VisionLanguageModel
from models.parallel import Groups, Layout, model_group
from models.sharding import DataGroup, data_group, kept_types
from models.weights import model_parameters, save_lora, save_weights, whole_shapes
from recipes import build, checkpoints, dry, heartbeat
from recipes.config import FinetuneConfig, read
from recipes.inputs import model_inputs
from recipes.metrics import Metrics, Screen, StepTimer, plot_loss
from recipes.optimizers import AdamW, layer_rates
from recipes.schedules import Schedule
from recipes.sharding import Sharding, count_bytes, describe_sharding, shard_training
from recipes.step import Trainer, count_targets
from recipes.streams import endless, held_out_stream, total_steps, training_stream


@dataclass(frozen=True, eq=False)
class Run:
    """A run that is ready to make its steps, `done` of which were made before."""

    config: FinetuneConfig
    stream: Stream
    held_out: Stream | None
    schedule: Schedule
    steps: int
    trained: checkpoints.Trained
    sharding: Sharding
    trainer: Trainer
    done: int

    @property
    def layout(self) -> Layout:
        """Where its processes stand."""
        return self.trained.layout

    @property
    def is_first(self) -> bool:
        """Whether this process speaks for all."""
        return self.layout.rank == 0


def finetune(config: FinetuneConfig) -> Path:
    """Train as the configuration says; the folder with the results comes back."""
    build.start_mindspore(config.run.device, config.run.graph, config.run.device_id)
    layout, groups = build.join_devices(config.parallel, config.run.parallel)
    said = dry.describe_job(config, layout.size)
    if layout.rank == 0:
        print(said, file=sys.stderr)

    run = prepare(config, layout, groups)
    if run.is_first:
        describe(run)
    train(run)
    write_results(config, run.trained)
    return config.run.output


def prepare(config: FinetuneConfig, layout: Layout, groups: Groups) -> Run:
    """Make the batches, the model and what trains it, and go back to the last checkpoint if the run
    is to be resumed.
    """
    config.run.output.mkdir(parents=True, exist_ok=True)
    tokenizer = build.build_tokenizer(config.model.family, config.tokenizer)
    template = build.build_template(config.model.family, tokenizer, config.template)
    stream = training_stream(config, template, layout)
    held_out = held_out_stream(config, template, stream.mixture)
    steps = total_steps(config, stream)
    schedule = build.build_schedule(config.schedule, steps)

    data = data_group(layout, groups)
    model = build_model(config, tokenizer.vocab_size, layout, groups)
    if config.model.weights is None:
        save_weights(model, config.run.output / "base.safetensors", writes=layout.rank == 0)
    names, sharding, trainer = build_trainer(config, model, layout, data)
    trained = checkpoints.Trained(model, names, trainer.optimizer, layout, data, sharding.buckets)
    done = resume(config, trained, trainer, stream) if config.run.resume else 0
    return Run(config, stream, held_out, schedule, steps, trained, sharding, trainer, done)


def train(run: Run) -> None:
    """Make the steps that are left, with a line of metrics and, when due, a checkpoint of each."""
    config = run.config
    metrics = Metrics(config.run.output / "metrics.jsonl", run.done) if run.is_first else None
    screen, clock = Screen(run.steps), StepTimer()
    batches = endless(run.stream)
    for step in range(run.done + 1, run.steps + 1):
        with clock.wait():
            taken = [next(batches) for _ in range(config.run.accumulation)]
        rate = run.schedule(step - 1)
        loss, norm = run.trainer.step([model_inputs(batch) for batch in taken], rate)
        heartbeat.beat(step)

        line = {
            "step": step,
            "epoch": taken[-1].epoch,
            "loss": loss,
            "gradient_norm": norm,
            "rate": rate,
            "loss_scale": run.trainer.scale,
            **measure_speed(taken, clock, run.layout),
        }
        if run.held_out and is_due(step, config.run.evaluate_every, run.steps):
            line["held_out_loss"] = evaluate(run.trained.model, run.held_out)
        if metrics is not None:
            metrics.write(line)
            screen.show(line)
        if config.run.checkpoint_every and is_due(step, config.run.checkpoint_every, run.steps):
            keep_checkpoint(run, step)


def measure_speed(taken: Sequence[Batch], clock: StepTimer, layout: Layout) -> dict[str, float]:
    """How long a step of these batches took, and what all processes together have read in it."""
    seconds, waiting = clock.lap()
    tokens = sum(batch.tokens for batch in taken) * layout.data
    return {
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "data_wait": waiting,
        "samples": sum(len(batch.ids) for batch in taken) * layout.data,
    }


def keep_checkpoint(run: Run, step: int) -> None:
    """Save all that a run needs to go on behind `step`, and remove what is older than is kept."""
    options = run.config.run
    state = {
        "step": step,
        "scale": run.trainer.scale,
        "good_steps": run.trainer.good_steps,
        "stream": run.stream.state_dict(),
    }
    folder = checkpoints.checkpoint_folder(options.output, step)
    checkpoints.save(folder, run.trained, state, pieces=options.checkpoint_pieces)
    if run.is_first:
        checkpoints.prune(options.output, options.keep)


def build_model(
    config: FinetuneConfig, vocabulary: int, layout: Layout, groups: Groups
) -> VisionLanguageModel:
    """The part of the model that this process holds."""
    spread = data_group(layout, groups) if config.parallel.shard == "weights" else None
    group = model_group(layout, groups)
    return build.build_model(config.model, vocabulary, config.run.seed, group, spread)


def build_trainer(
    config: FinetuneConfig, model: VisionLanguageModel, layout: Layout, data: DataGroup | None
) -> tuple[list[str], Sharding, Trainer]:
    """What trains of a model, how that is spread, and what makes steps of it."""
    names = build.choose_trained(model, config)
    build.recompute(model, config)

    options = config.optimizer
    decay = options.layer_decay if options.layer_scale else 1.0
    rates = layer_rates(names, decay, model_parameters(model))
    sharding = shard_training(
        model, options.weight_decay, rates, layout, data, config.parallel.shard
    )
    optimizer = AdamW(
        sharding.parameters,
        options.betas,
        options.eps,
        bias_correction=options.bias_correction,
        rates=sharding.rates,
        decays=sharding.decays,
    )
    trainer = Trainer(model, optimizer, options.clip, config.loss_scale, sharding.exchange)
    return names, sharding, trainer


def dry_run(config: FinetuneConfig) -> None:
    """Say what a job needs, and make a step of a small model in its way: in its own layout if its
    processes have been started, else alone; on the CPU where its device is not at hand.
    """
    try:
        build.start_mindspore(config.run.device, config.run.graph, config.run.device_id)
    except RuntimeError:
        if build.is_first():
            print(f"no {config.run.device} here: the step is made on the CPU")
        build.start_mindspore("CPU", config.run.graph)
    layout, groups = Layout(), Groups()
    if build.is_launched():
        layout, groups = build.join_devices(config.parallel, config.run.parallel)
    said = dry.describe_job(config, layout.size if build.is_launched() else None)
    if layout.rank == 0:
        print(said)

    small = dry.shrink(config)
    if not build.is_launched():
        alone = replace(config.parallel, data=1, model=1, shard="none")
        small = replace(small, parallel=alone)
    vocabulary = small.model.changes["language"]["vocabulary"]
    model = build_model(small, vocabulary, layout, groups)
    _, _, trainer = build_trainer(small, model, layout, data_group(layout, groups))
    loss, norm = trainer.step([dry.sample_arrays(model)], config.schedule.peak)
    if layout.rank == 0:
        print(
            f"a step of a tiny {config.model.family}, computed in {small.model.dtype}: "
            f"loss {loss:.3f}, gradient norm {norm:.3f}"
        )


def rate_warning(config: FinetuneConfig, schedule: Schedule, steps: int) -> str | None:
    """What to say of a run that ends before its learning rate has grown; None where it does."""
    highest = max(schedule(step) for step in range(steps))
    if highest >= 0.99 * config.schedule.peak:
        return None
    return (
        f"{steps:,} updates reach a rate of {highest:.2e}, the peak of the schedule is "
        f"{config.schedule.peak:.2e}: this run hardly trains. Give run.steps, run.epochs or "
        "data.random_mapping for more updates, or a smaller schedule.warmup_steps"
    )


def is_due(step: int, every: int, last: int) -> bool:
    """Whether something is to be done after this step: at every so many, and at the end."""
    return step == last or (every > 0 and step % every == 0)


def evaluate(model: VisionLanguageModel, held_out: Stream) -> float:
    """The mean loss over all targets of an epoch;
    rows that only fill the last batch do not count.
    """
    model.set_train(False)
    total, targets = 0.0, 0
    for batch in held_out:
        arrays = model_inputs(batch)
        if batch.repeated:
            arrays[1] = arrays[1].copy()
            arrays[1][-batch.repeated :] = -100
        total += float(model(*map(ms.Tensor, arrays))) * count_targets(arrays)
        targets += count_targets(arrays)
    model.set_train(True)
    return total / max(targets, 1)


def resume(
    config: FinetuneConfig, trained: checkpoints.Trained, trainer: Trainer, stream: Stream
) -> int:
    """Go back to the last checkpoint; the number of steps that it had made."""
    found = checkpoints.complete(config.run.output)
    if not found:
        return 0
    state = checkpoints.restore(found[-1], trained)
    trainer.scale, trainer.good_steps = state["scale"], state["good_steps"]
    stream.load_state_dict(state["stream"])
    return int(state["step"])


def describe(run: Run) -> None:
    """Write the configuration down and say what will happen."""
    config, trained = run.config, run.trained
    (config.run.output / "config.json").write_text(
        json.dumps(asdict(config), default=str, indent=1)
    )
    sizes = {name: math.prod(shape) for name, shape in whole_shapes(trained.model).items()}
    kept = sorted(set(kept_types(trained.model).values()))
    share = f"{sum(sizes[name] for name in trained.names):,} of {sum(sizes.values()):,}"
    share += f" parameters train (kept in {', '.join(kept)}, computed in {config.model.dtype})"
    said = [
        f"{config.model.family} {config.model.size}: {share}; steps {run.done + 1} to {run.steps}"
    ]
    if run.layout.size > 1:
        held = count_bytes(trained.model, run.trainer.optimizer, run.sharding)
        said.append(describe_sharding(run.sharding, held, run.layout, config.parallel.shard))
    if (warning := rate_warning(config, run.schedule, run.steps)) is not None:
        said.append(f"warning: {warning}")
    print("\n".join(said), file=sys.stderr)


def write_results(config: FinetuneConfig, trained: checkpoints.Trained) -> None:
    """Write what was trained, and draw the loss."""
    output, writes = config.run.output, trained.layout.rank == 0
    if config.lora.targets:
        save_lora(trained.model, output / "adapter.safetensors", writes=writes)
    else:
        save_weights(trained.model, output / "weights.safetensors", writes=writes)
    if writes:
        plot_loss(output / "metrics.jsonl", output / "loss.png")


def main(line: list[str] | None = None) -> int:
    """Run from a shell; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="a YAML of recipes/configs")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="values that go before the YAML's"
    )
    options = parser.parse_args(line)
    heartbeat.begin()
    try:
        config = read(FinetuneConfig, options.config, options.overrides)
        if config.run.dry:
            dry_run(config)
            return 0
        output = finetune(config)
    except dry.DoesNotFitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except MMDataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"done: {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
