"""The keys of a recipe: one frozen model a topic, one sentence a field. Defaults are the released behaviour.

Blocks are counted as in the paper: 1-based, "after block i".
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PlainValidator, model_validator

from cascade_clip.config.dataset_address import as_location
from cascade_clip.config.section import Integer, Number, PositiveInt, Section, Share
from cascade_clip.config.training_free import TrainingFreeConfig
from cascade_clip.extensions import AGGREGATIONS, HOSTS

Positive = Annotated[Number, Field(gt=0.0)]
Fraction = Annotated[Number, Field(ge=0.0, lt=1.0)]
NonNegative = Annotated[Number, Field(ge=0.0)]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class PaperFigure(Section):
    """Which figure of the paper a recipe reproduces."""

    table: str
    """Table of the paper as keyed in `evaluation/published.json`, for example "table2_sota"."""
    row: str
    """Name of the row in that table, for example "Cascade-CLIP"."""


class ClipConfig(Section):
    """Which CLIP is used; see `cascade_clip.model.clip.load`."""

    architecture: str = "ViT-B-16-quickgelu"
    """An open_clip name, `hf-hub:ORG/NAME`, `local-dir:FOLDER` or `bundled`."""
    weights: str = "openai"
    """A pretrained tag of open_clip or a file; hf-hub, local-dir and bundled bring their own."""


class TextConfig(Section):
    """How class names become text embeddings."""

    templates: str = "multi"
    """`single`, `multi` (15 sentences, as released), `imagenet` (open_clip's 80) or a file of sentences with {}."""
    readable: bool = False
    """Use a class list's readable text ("concrete wall") instead of the raw string ("wall-concrete"), as released."""
    half: bool = True
    """Round the embeddings to half precision, as in the released embedding files (SPEC section 2); false keeps fp32."""


class PromptConfig(Section):
    """Learnable visual prompts of the encoder."""

    tokens: PositiveInt = 50
    """Prompt tokens a block."""
    depth: PositiveInt | None = None
    """Blocks that see prompts, from the first on; unset: all of them (deep prompts)."""
    dropout: Fraction = 0.1
    """Dropout of the projected prompts while training."""


class SpectralConfig(Section):
    """Spectral prompt of SPT-SEG: a learnable filter of the patches in the frequency domain."""

    grid: PositiveInt = 32
    """Side of the square grid of patches that the weight is made for: training crop / patch size, 32 as released;
    images on other grids are filtered with the same kernel, cut or padded."""
    train: bool = True
    """Train the weight; SPT's key for what is not frozen is unknown, and under Cascade-CLIP's ("prompt") the weight
    would stay at its random start."""


class StageProjectionConfig(Section):
    """Norm and projection that take a tapped block's tokens to the joint image-text space."""

    init: Literal["random", "clip"] = "random"
    """`random`: N(0, 1/W), as released; `clip`: a copy of CLIP's own final norm and projection."""
    train: bool = False
    """Train them; as released they stay frozen at their start."""


class AggregationConfig(Section):
    """How the blocks of one stage are merged."""

    kind: Annotated[str, AfterValidator(AGGREGATIONS.check)] = "gaussian"
    """A name of `cascade_clip.extensions.AGGREGATIONS`. `gaussian`: neighbourhood Gaussian aggregation (NGA);
    `sum`: a plain sum; `concat`: channels side by side, then a linear layer; `self-attention`: between the blocks'
    tokens of a location, then their mean (paper, Table 8)."""
    formula: Literal["released", "paper"] = "released"
    """`released`: exp(-(d - l)^2 / 2 sigma^2); `paper`: Equation 4 with its (d - l + 1)."""
    sigma: Positive = 1.0
    """Width of the Gaussian that gives the starting weights."""
    train: bool = True
    """Let the weights be trained, as released; false keeps them at the Gaussian, or at one each for `sum`."""

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if self.kind != "gaussian" and (self.sigma != 1.0 or self.formula != "released"):
            raise ValueError(
                f'sigma and formula shape the Gaussian, which kind = "{self.kind}" has not: leave them out'
            )
        if self.kind in {"concat", "self-attention"} and not self.train:
            raise ValueError(
                f'kind = "{self.kind}" starts from random weights and merges nothing sensible untrained: leave'
                ' train = false out, or take "gaussian" or "sum"'
            )
        return self


class DecoderConfig(Section):
    """Text-image decoder of a stage."""

    layers: PositiveInt = 3
    """Decoder layers; the mask is read from the last."""
    heads: PositiveInt | None = None
    """Attention heads; unset: joint dimension / 64, as in the released models (8 at 512), and 8 for host `spt-seg`,
    one of them for high frequencies."""
    gate: Literal["released", "open"] = "released"
    """Start of the gates of host `spt-seg`. `released`: N(0, 1), which closes about every third decoder for good: it
    outputs 0 and has no gradient; `open`: the same, but turned so that the first tokens pass."""
    expansion: PositiveInt = 4
    """Hidden width of the feed-forward part as a multiple of the joint dimension."""
    dropout: Fraction = 0.1
    """Dropout of attention probabilities, both residual branches and the hidden layer while training."""


class ModelConfig(Section):
    """The network: host, stages and what the cascade adds to the host."""

    host: Annotated[str, AfterValidator(HOSTS.check)] = "zegclip"
    """A name of `cascade_clip.extensions.HOSTS`. `zegclip`: deep visual prompts and a prompt norm; `spt-seg`: these, a
    spectral prompt, and decoders that read high and low frequencies; `frozen-clip`: CLIP's encoder as it is."""
    stages: tuple[tuple[PositiveInt, ...], ...] | None = None
    """Blocks of each stage, 1-based, "after block i"; `[[12]]` is the host without the cascade. Unset: the paper's
    {6-8}, {9-11}, {12} of 12 blocks; in a CLIP of another depth each stage begins in proportion and ends before the
    next, {12-17}, {18-23}, {24} of 24. Run folders and checkpoints hold the stages themselves."""
    prompts: PromptConfig = PromptConfig()
    """Visual prompts (hosts `zegclip` and `spt-seg`)."""
    spectral: SpectralConfig = SpectralConfig()
    """Spectral prompt (host `spt-seg` only)."""
    prompt_norm: bool | None = None
    """One trainable LayerNorm before every tap and the final output; unset: as the host has it."""
    stage_projection: StageProjectionConfig = StageProjectionConfig()
    """Norm and projection of the tapped blocks."""
    aggregation: AggregationConfig = AggregationConfig()
    """How the blocks of one stage are merged."""
    decoders_per_stage: PositiveInt = 1
    """Decoders that read a stage's merged features, each drawn on its own; several on a single stage are what the
    cascade is compared with at equal parameters (paper, Table 7)."""
    decoder: DecoderConfig = DecoderConfig()
    """Text-image decoder of a stage."""
    text_projection: Literal["independent", "shared"] = "independent"
    """One projection of the relation descriptor a stage, or one for all stages (paper, Table 9)."""
    class_embeddings: Literal[1, 2] = 2
    """How often CLIP's class embedding is added to its token: twice as released (SPEC section 3), once as CLIP does."""
    position_resize: Literal["bilinear", "bicubic-antialias"] = "bilinear"
    """How position embeddings meet another grid: bilinear as released, or as open_clip does."""

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        if self.stages is None:
            return self
        if not self.stages or any(not stage for stage in self.stages):
            raise ValueError("every stage needs at least one block, for example [[6, 7, 8], [9, 10, 11], [12]]")
        for stage in self.stages:
            if list(stage) != sorted(set(stage)):
                raise ValueError(f"the blocks of a stage are given once each and in rising order, got {list(stage)}")
        return self


class DataConfig(Section):
    """What is trained on and how an image reaches the network."""

    split: str | None = None
    """A split by name, or a TOML file of an own one; unset: the dataset's own classes, all of them seen."""
    dataset: Annotated[Path | str | None, PlainValidator(as_location)] = None
    """A folder, `hub:ORG/NAME` or an address; unset: `$CASCADE_CLIP_DATA/NAME`, else the user's data folder."""
    stream: bool = False
    """Read a dataset at an address from there while training, keeping nothing on the disk."""
    mean: tuple[Number, Number, Number] = IMAGENET_MEAN
    """Mean that is subtracted, RGB on 0..255; ImageNet's as released."""
    std: tuple[Positive, Positive, Positive] = IMAGENET_STD
    """Standard deviation that divides, RGB on 0..255; ImageNet's as released."""
    short_side: PositiveInt = 512
    """Length of the short side before the ratio is drawn, and in inference."""
    long_side: PositiveInt = 2048
    """Length of the long side of the training target box before the ratio is drawn."""
    ratio: tuple[Positive, Positive] = (0.5, 2.0)
    """Range of the training resize."""
    crop: PositiveInt = 512
    """Side of the square training crop."""
    largest_class: Annotated[Number, Field(gt=0, le=1)] = 0.75
    """A crop in which one class covers this share or more of the labelled pixels is redrawn."""
    flip: Share = 0.5
    """Probability of a horizontal flip."""
    photometric: bool = True
    """Brightness, contrast, saturation and hue distortion."""

    @model_validator(mode="after")
    def _check_ratio(self) -> Self:
        low, high = self.ratio
        if not 0.01 <= low <= high <= 100:
            raise ValueError(
                f"ratio: the smaller number comes first, both between 0.01 and 100 (got {low:g} to {high:g})"
            )
        return self


class LossConfig(Section):
    """Weights of the loss terms and what ignored pixels mean."""

    focal: NonNegative = 100.0
    """Weight of the focal loss."""
    dice: NonNegative = 1.0
    """Weight of the dice loss, or of SSIM in its place."""
    region: Literal["dice", "ssim"] | None = None
    """Loss beside the focal loss: dice, or SSIM of logits and masks; unset: as the host has it (SSIM for
    `spt-seg`, else dice)."""
    ignored: Literal["negative", "masked"] = "negative"
    """`negative`: unlabelled pixels are negatives of every class, as released; `masked`: they do not count."""


class TrainConfig(Section):
    """The training loop."""

    init: str | None = None
    """Checkpoint whose weights training starts from (`--init`). Unset: weights are drawn."""
    iterations: PositiveInt = 80_000
    """Optimiser steps."""
    batch: PositiveInt = 16
    """Images a step over all processes; kept when the number of processes changes."""
    micro_batch: PositiveInt | None = None
    """Most images a process runs through the network at once; the rest is gradient accumulation. Unset: no limit."""
    lr: Positive = 2e-5
    """Base learning rate of AdamW."""
    encoder_lr_factor: Positive = 10.0
    """Multiplier of the base rate for what trains in the encoder (prompts and their norm)."""
    head_lr_factor: Positive = 10.0
    """Multiplier of the base rate for the head."""
    weight_decay: NonNegative = 0.01
    """Decoupled weight decay."""
    decay_norms: bool = True
    """Decay norms and biases too, as released (SPEC section 9); false exempts one-dimensional tensors."""
    warmup: Annotated[Integer, Field(ge=0)] = 1500
    """Steps of linear warm-up."""
    warmup_ratio: Annotated[Number, Field(gt=0, le=1)] = 1e-6
    """Factor of the rate at the first step of the warm-up."""
    power: NonNegative = 0.9
    """Power of the polynomial decay."""
    min_lr: NonNegative = 1e-6
    """Rate at which the polynomial decay ends."""
    gradient_checkpointing: bool = False
    """Recompute the encoder's blocks in the backward pass instead of keeping their activations."""
    deterministic: bool = True
    """On a CUDA device, add up in the same order in every run, so that a seed gives the same weights bit for bit; false
    for an own network whose operations have no such order. Other devices do so anyway."""
    compile: bool = False
    """Compile the network with `torch.compile`: minutes of warm-up in the first step, faster ones after it. Dropout
    then draws other masks, so that weights differ from those of a run without it."""
    workers: Annotated[Integer, Field(ge=0, le=1024)] | None = None
    """Processes that read and augment images, each training process; 0: none beside it. Unset: one for each core that
    it may use, at most eight. They change no sample."""
    validate_every: Annotated[Integer, Field(ge=0)] = 0
    """Steps between validations; 0: only after the last step (the released code never validates)."""
    validate_images: Annotated[Integer, Field(ge=0)] = 0
    """Images of each validation, spread over the set; 0: all of them."""
    pictures: Annotated[Integer, Field(ge=0)] = 4
    """Validation images, always the same, whose predictions each validation pictures beside their labels, and every
    three minutes between them; 0: none, and no curves either. They change no weight and no random draw."""
    save_every: PositiveInt = 1000
    """Steps between saved states that `--resume` continues from."""
    log_every: PositiveInt = 50
    """Steps between lines of metrics.jsonl."""


class SelfTrainingConfig(Section):
    """Transductive training: pixels of unseen classes get pseudo labels; only these classes' names are given."""

    init: str | None = None
    """Checkpoint whose weights it starts from, as released that of half-way through inductive training (`--init`)."""
    teacher: Literal["self", "fixed", "moving-average"] = "self"
    """Who guesses. `self`: the model as it trains, in the same pass, dropout included (released); `fixed`: the model
    that it starts from; `moving-average`: the mean of the model's recent weights. The last two guess without dropout
    and cost a pass more."""
    decay: Fraction = 0.999
    """Share of the moving average that a step keeps."""
    threshold: Fraction = 0.0
    """Pixels whose best score among unseen classes is lower stay ignored; 0: every one is named, as released."""
    location: Literal["known", "unknown"] = "known"
    """`known`: only pixels whose true class is unseen are named (released: the label map says where, not which);
    `unknown`: every pixel that carries no seen label, also those that belong to no class."""

    @model_validator(mode="after")
    def _check_decay(self) -> Self:
        if self.teacher != "moving-average" and self.decay != type(self).model_fields["decay"].default:
            raise ValueError(f'decay is for teacher = "moving-average", here it is "{self.teacher}": leave it out')
        return self


class InferenceConfig(Section):
    """Sliding window and scores."""

    crop: PositiveInt = 512
    """Side of the square window."""
    stride: PositiveInt = 426
    """Distance of windows."""
    seen_bias: NonNegative = 0.1
    """Subtracted from the scores of seen classes: 0.1 inductive, 0 after self-training."""
    flip: bool = False
    """Average the scores with those of the mirrored image."""
    window_batch: PositiveInt = 4
    """Windows that run through the network at once."""
    training_free: TrainingFreeConfig | None = None
    """How cosines become labels; unset: the network is trained and gives mask logits."""

    @model_validator(mode="after")
    def _check_stride(self) -> Self:
        if self.stride > self.crop:
            raise ValueError(
                f"the stride ({self.stride}) may not exceed the crop ({self.crop}): pixels would be left out"
            )
        return self


class EvaluationConfig(Section):
    """What validation scores, where that is not what was trained on: evaluation across datasets."""

    split: str | None = None
    """A split by name or file, for example `voc` after training on COCO; its dataset is looked for in
    `$CASCADE_CLIP_DATA/NAME`, then in the user's data folder."""
    templates: str | None = None
    """Templates of its class names, as for `text.templates`; unset: those of training."""


class Recipe(Section):
    """Everything that decides a run."""

    name: str = "unnamed"
    """Name that tables and run folders show."""
    paper: PaperFigure | None = None
    """The figure of the paper that this recipe reproduces."""
    seed: Annotated[Integer, Field(ge=0, lt=2**31)] = 0
    """One seed decides initial weights, order of images, augmentation and dropout."""
    clip: ClipConfig = ClipConfig()
    """Which CLIP is used."""
    text: TextConfig = TextConfig()
    """How class names become text embeddings."""
    model: ModelConfig = ModelConfig()
    """The network."""
    data: DataConfig = DataConfig()
    """Training data and preprocessing."""
    loss: LossConfig = LossConfig()
    """The loss."""
    train: TrainConfig = TrainConfig()
    """The training loop."""
    self_training: SelfTrainingConfig | None = None
    """Transductive training with `self-train`; unset: inductive."""
    inference: InferenceConfig = InferenceConfig()
    """Sliding window and scores."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """What validation scores."""

    @property
    def region_loss(self) -> Literal["dice", "ssim"]:
        """Loss beside the focal loss: the recipe's, else its host's (SPEC section 16)."""
        if self.loss.region is not None:
            return self.loss.region
        return HOSTS.load(self.model.host).region_loss
