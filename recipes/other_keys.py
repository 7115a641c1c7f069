"""Keys of MindFormers' and ms-swift's configurations, and what does their work here: none of them
is taken, each is refused with the name of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# Values are our key, or a sentence where there is none.
MINDFORMERS: Final = {
    "data_parallel": "parallel.data",
    "model_parallel": "parallel.model",
    "enable_parallel_optimizer": "parallel.shard: optimizer (or weights)",
    "parallel_optimizer_config": "parallel.shard: optimizer (or weights)",
    "recompute_config": "parallel.recompute",
    "recompute_slice_activation": "parallel.recompute, which keeps the whole input of each layer",
    "use_parallel": "parallel, and the number of processes of recipes.launch",
    "parallel_mode": "parallel",
    "parallel_config": "parallel",
    "full_batch": "parallel.data: every process reads its own samples",
    "dataset_strategy": "parallel.data: every process reads its own samples",
    "gradient_accumulation_steps": "run.accumulation",
    "gradient_aggregation_group": "nothing: gradients are summed in buckets in any case",
    "load_checkpoint": "model.weights",
    "auto_trans_ckpt": "nothing: every layout loads every checkpoint",
    "transform_strategy": "nothing: every layout loads every checkpoint",
    "resume_training": "run.resume",
    "output_dir": "run.output",
    "runner_config": "run and data",
    "epochs": "run.epochs",
    "num_iters": "run.steps",
    "sink_mode": "nothing: every step is started from Python",
    "sink_size": "nothing: every step is started from Python",
    "runner_wrapper": "optimizer.clip and loss_scale",
    "use_clip_grad": "optimizer.clip",
    "max_grad_norm": "optimizer.clip",
    "scale_sense": "loss_scale",
    "lr_schedule": "schedule",
    "learning_rate": "schedule.peak",
    "lr_end": "schedule.end",
    "warmup_lr_init": "schedule.start",
    "device_target": "run.device (device for a prediction)",
    "max_device_memory": "run.device_memory (device_memory for a prediction)",
    "train_dataset": "data and template",
    "train_dataset_task": "data and template",
    "eval_dataset": "data.evaluate",
    "do_eval": "run.evaluate_every",
    "eval_step_interval": "run.evaluate_every",
    "callbacks": "run.checkpoint_every and run.keep",
    "save_checkpoint_steps": "run.checkpoint_every",
    "keep_checkpoint_max": "run.keep",
    "compute_dtype": "model.dtype",
    "param_init_type": "model.parameters",
    "use_flash_attention": "nothing: attention is fused wherever the device takes it",
    "use_past": "nothing: predictions keep keys and values in any case",
    "pet_config": "lora",
    "target_modules": "lora.targets",
    "lora_rank": "lora.rank",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "freeze_vision": "stage",
    "freeze_resampler": "stage",
    "freeze_llm": "stage",
    "max_decode_length": "generation.length",
    "do_sample": "generation.temperature: 0 is greedy",
    "vocab_file": "tokenizer.path",
    "use_seq_parallel": "not built: layers are not divided along the sequence; "
    "parallel.recompute saves as much of their memory",
    "context_parallel": "not built: no sequence is divided among devices; "
    "parallel.recompute and parallel.model save memory",
    "pipeline_stage": "not built: layers are not divided into stages; see parallel.model",
    "micro_batch_num": "not built: there are no pipeline stages; see run.accumulation",
    "micro_batch_interleave_num": "not built: batches are not interleaved; see run.accumulation",
    "vocab_emb_dp": "nothing: the vocabulary is divided among parallel.model devices in any case, "
    "as with vocab_emb_dp: False",
}
SWIFT: Final = {
    "lora_target_modules": "lora.targets, where ALL and all are every linear layer but the head",
    "deepspeed": "parallel.shard: optimizer (as ZeRO-2) or weights (as ZeRO-3)",
    "gradient_checkpointing": "parallel.recompute",
    "per_device_train_batch_size": "data.batch_size",
    "max_length": "data.seq_length and template.max_length",
    "num_train_epochs": "run.epochs",
    "ckpt_dir": "model.weights and model.adapter",
}


def explain(key: str, value: Any) -> str:
    """What does here what a key of another tool does there, after a blank; empty for a key of
    none. Of a section, its keys are explained too.

    >>> explain("model_parallel", 2)
    " MindFormers' model_parallel is here: parallel.model."
    """
    said = ""
    for tool, names in (("MindFormers'", MINDFORMERS), ("ms-swift's", SWIFT)):
        if key in names:
            said = f" {tool} {key} is here: {names[key]}."
    if isinstance(value, Mapping):
        said += "".join(explain(str(inner), each) for inner, each in value.items())
    return said
