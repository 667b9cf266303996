"""TRL's SFTTrainer on a job of `ada bench forge`: `python -m ada_memory.bench.contenders.trl_sft JOB`.

Variants: `batches` is packing (best-fit decreasing, into as many packs as an epoch has updates), padding_free
(a batch's rows end to end), grouped (batches of like length, padded) or random (padded). `dtype` is that of
the frozen weights; products are in bfloat16 (autocast) unless `mixed` is "no". Gradient checkpointing is off,
for it trades time for memory. Nothing is logged, evaluated or saved while the clock runs.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import transformers
from datasets import Dataset, disable_caching, disable_progress_bars
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer
from trl.data_utils import pack_dataset

from ada_memory.bench.clock import Clock, Job, report, versions


class Timed(SFTTrainer):  # type: ignore[misc]
    """The trainer as it is, but that it keeps each loss (as a tensor: nothing waits for it)."""

    kept: list[torch.Tensor]

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One update; its loss is kept."""
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        self.kept.append(loss)
        return loss


class Times(transformers.TrainerCallback):
    """Takes the time of each update."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """The clock starts."""
        self.clock.start()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """An update is done; on a GPU only once it has done all that it was told."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.clock.step()


def pack_length(lengths: list[int], bins: int) -> int:
    """The shortest pack with which TRL's own packing makes at most so many bins of rows of these lengths."""
    rows = Dataset.from_dict({"input_ids": [[0] * length for length in lengths]})
    size = max(*lengths, -(-sum(lengths) // bins))
    while len(pack_dataset(rows, size)) > bins:
        size += 1
    return size


def main() -> None:
    """Run the job in the first argument."""
    job = Job.given()
    disable_progress_bars()
    disable_caching()
    library: Any = transformers  # its own annotations do not know what its options return
    library.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    tokenizer = library.AutoTokenizer.from_pretrained(job.model)
    chats = job.rows()
    rows = Dataset.from_list([{"prompt": chat[:-1], "completion": chat[-1:]} for chat in chats])
    batches = job.variant.get("batches", "packing")
    packing = batches == "packing"
    lengths = [len(tokenizer.apply_chat_template(chat, return_dict=False)) for chat in chats]
    with tempfile.TemporaryDirectory() as scratch:
        config = SFTConfig(
            output_dir=scratch,
            model_init_kwargs={"dtype": job.variant.get("dtype", "bfloat16")},
            bf16=job.variant.get("mixed", "yes") == "yes",
            gradient_checkpointing=False,
            packing=packing,
            padding_free=batches == "padding_free",
            max_length=pack_length(lengths, job.updates // job.epochs) if packing else None,
            train_sampling_strategy="group_by_length" if batches == "grouped" else "random",
            per_device_train_batch_size=1 if packing else job.batch_size,
            num_train_epochs=job.epochs,
            learning_rate=job.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=round(job.warmup * job.updates),
            max_grad_norm=1.0,
            use_cpu=not torch.cuda.is_available(),
            seed=job.seed,
            disable_tqdm=True,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
        )
        lora = LoraConfig(
            r=job.rank,
            lora_alpha=round(job.scale * job.rank),
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        clock = Clock()
        trainer = Timed(
            job.model,
            args=config,
            train_dataset=rows,
            processing_class=tokenizer,
            peft_config=lora,
            callbacks=[Times(clock)],
        )
        trainer.kept = []
        trainer.train()
        clock.losses = [float(loss) for loss in trainer.kept]
        made: Any = trainer.train_dataset
        trained = sum(label != -100 for labels in made["labels"] for label in labels)
        report(
            job,
            clock,
            trained,
            sum(map(len, made["input_ids"])),
            versions=versions(("trl", "transformers", "peft", "torch", "accelerate")),
        )


if __name__ == "__main__":
    main()
