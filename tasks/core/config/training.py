"""The specification of a training."""

from typing import Literal, Self

from pydantic import Field

from tasks.core.config.base import Spec

Schedule = Literal["constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"]


class PriorSpec(Spec):
    """Prior preservation: pictures of the class, rendered by the bare base, are trained on beside the new ones."""

    prompts: tuple[str, ...] = Field((), description="What the class pictures show; empty: no prior preservation.")
    pictures: int = Field(100, ge=1, description="Class pictures, over all prompts.")
    batch: int = Field(1, ge=1, description="Class pictures in each forward pass, beside the batch.")
    weight: float = Field(1.0, ge=0, description="Weight of their loss.")
    steps: int = Field(25, ge=1, description="Denoising steps they are rendered with.")
    guidance: float = Field(7.5, ge=1, description="Guidance scale they are rendered with.")


class ValidationSpec(Spec):
    """Validation: the loss on held-out pictures, with the same noises and times whenever it is taken."""

    every: int = Field(100, ge=0, description="Steps between two; 0: none, and the last LoRA is the challenger.")
    pictures: int = Field(16, ge=1, description="Held-out pictures it is taken on, at most.")
    patience: int = Field(0, ge=0, description="Validations without a better one that end the training; 0: none do.")


class ComputeSpec(Spec):
    """How a training is carried out: what is trained stays the same, up to rounding."""

    processes: int = Field(
        1, ge=1, description="Processes that share each step, one a GPU; their losses are those of one process."
    )
    micro_batch: int = Field(0, ge=0, description="Pictures a forward pass; 0: as many as the memory holds.")
    gradient_checkpointing: bool = Field(False, description="Compute activations twice rather than keep them.")
    channels_last: bool = Field(False, description="Channels last in memory, which some GPUs convolve faster.")
    compile: bool = Field(
        False, description="Compile the UNet: minutes at the start, faster steps; not with many shapes."
    )


class TrainSpec(Spec):
    """A LoRA training."""

    resolution: int = Field(512, ge=16, multiple_of=8, description="Side of the training pictures, in pixels.")
    buckets: bool = Field(False, description="Keep about the shapes of pictures; else the squares in their middle.")
    bucket_step: int = Field(64, ge=8, multiple_of=8, description="What the sides of a bucket are multiples of.")
    crop: Literal["center", "random"] = Field("center", description="What is cut off so that a picture fits.")
    crops: int = Field(4, ge=1, description="Places of each picture that `random` takes.")
    flip: bool = Field(False, description="Also mirrored pictures; wrong for motifs that have a handedness.")
    steps: int = Field(800, ge=1, description="Optimiser steps.")
    batch: int = Field(1, ge=1, description="Pictures of an optimiser step: batch * accumulation.")
    accumulation: int = Field(4, ge=1, description="Times `batch` that a step takes; memory decides how they are run.")
    rank: int = Field(4, ge=1, description="Rank of the LoRA.")
    alpha: float = Field(4.0, gt=0, description="Alpha of the LoRA; its scale is alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of the inputs of the LoRA that a step leaves out.")
    rslora: bool = Field(False, description="Scale by alpha / sqrt(rank), which lets large ranks learn.")
    dora: bool = Field(False, description="Also learn the magnitude of each weight (DoRA); slower.")
    targets: tuple[str, ...] = Field(
        ("to_q", "to_k", "to_v", "to_out.0"), description="Endings of the names of the modules that get a LoRA."
    )
    optimiser: Literal["adamw", "adamw_8bit"] = Field(
        "adamw",
        description="adamw_8bit keeps its state in eight bits: needs `pip install --no-deps -r infra/gpu.lock`.",
    )
    learning_rate: float = Field(1e-4, gt=0, description="Learning rate of AdamW.")
    schedule: Schedule = Field("constant", description="Learning-rate schedule, one of diffusers'.")
    warmup: int = Field(0, ge=0, description="Steps over which the learning rate rises.")
    clip_norm: float = Field(1.0, gt=0, description="Gradients with a larger norm are scaled down to it.")
    min_snr_gamma: float = Field(
        0.0, ge=0, description="Weighs times by min(SNR, gamma), arXiv:2303.09556; 5 is usual, 0 is off."
    )
    noise_offset: float = Field(
        0.0, ge=0, description="Noise by channel, which lets it learn dark and bright; 0.05 to 0.1 is usual, 0 is off."
    )
    seed: int = Field(42, ge=0, description="Seed of everything random.")
    prior: PriorSpec = Field(PriorSpec(), description="Prior preservation.")
    validation: ValidationSpec = Field(ValidationSpec(), description="Validation on held-out pictures.")
    checkpoint_every: int = Field(100, ge=1, description="Steps between checkpoints.")
    keep_checkpoints: int = Field(2, ge=1, description="Checkpoints that are kept, the newest.")
    sample_every: int = Field(400, ge=1, description="Steps between sample pictures.")
    sample_prompt: str = Field("a picture of cloth in {trigger}", description="Prompt of the sample pictures.")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="Precision of the forward pass; bf16 where the GPU has it, fp16 with a scale against underflow.",
    )
    compute: ComputeSpec = Field(ComputeSpec(), description="How the training is carried out.")

    @property
    def effective(self) -> int:
        """Pictures of an optimiser step."""
        return self.batch * self.accumulation

    def identity(self) -> Self:
        """The specification without what changes nothing but rounding."""
        return self.model_copy(update={"compute": ComputeSpec()})
