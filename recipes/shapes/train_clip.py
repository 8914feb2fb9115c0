"""Train the bundled CLIP on image-caption pairs of the drawn world, from one seed, on CPU or GPU.

No masks and no labels of pixels: what the losses know of an image is which class names its caption holds. One loss is
CLIP's, on the class token; the other asks that some patch tokens agree with the caption, and teaches the last block
where things are.
Needs PyTorch 2.9 or newer (`torch.optim.Muon`). `pairs` draws what is trained on, `zero_shot` measures the result.

    python recipes/shapes/train_clip.py --output runs/shapes-clip
"""

import argparse
import json
import math
import multiprocessing
import os
import platform
import socket
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from pairs import CurriculumStage, Pairs, write_merges
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from zero_shot import TEMPLATES, class_embeddings, held_out_scenes, naming_accuracy, patch_localisation, to_tensor

from cascade_clip.model.clip.text import encode_text
from cascade_clip.shapes.classes import CLASS_NAMES, caption_of_one

PATCH, GRID, CONTEXT = 8, 16, 56
SHARPNESS = 8.0
"""How near the maximum the pooling of patches lies: 0 is the mean, infinity the maximum."""
MODEL: dict[str, Any] = {
    "embed_dim": 128,
    "quick_gelu": True,
    "vision_cfg": {"image_size": PATCH * GRID, "patch_size": PATCH, "width": 96, "layers": 12, "head_width": 24},
    "text_cfg": {"context_length": CONTEXT, "vocab_size": 0, "width": 96, "heads": 4, "layers": 3},
}
PREPROCESS = {
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "interpolation": "bilinear",
    "resize_mode": "shortest",
}
CURRICULUM = (
    CurriculumStage(size=48, things=(1, 1), stuff=(1, 1), batch=192, share=0.4445, pool=40_000),
    CurriculumStage(size=64, things=(1, 2), stuff=(1, 2), batch=128, share=0.1777, pool=20_000),
    CurriculumStage(size=128, things=(1, 5), stuff=(1, 3), batch=48, share=0.3778, pool=16_000),
)


def position_window(model: CLIP, side: int, top: int, left: int) -> Tensor:
    """Positions (1, side^2, W) of a window of the table: small scenes then teach every place of the large grid."""
    table = model.visual.positional_embedding[1:].view(GRID, GRID, -1)
    return table[top : top + side, left : left + side].reshape(1, side * side, -1)


def encode_images(model: CLIP, images: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Embed images (B, 3, S, S) with patch positions (1, N, W): unit class tokens (B, C) and patch tokens (B, N, C).

    The patch tokens take the value path of the last block, as the training-free method `value` reads them.
    """
    visual = model.visual
    tokens = visual.conv1(images).flatten(2).transpose(1, 2) + positions
    first = (visual.class_embedding + visual.positional_embedding[0]).expand(len(images), 1, -1)
    hidden = visual.ln_pre(torch.cat([first, tokens], 1))
    *blocks, last = visual.transformer.resblocks
    for block in blocks:
        hidden = block(hidden)
    weight, bias = last.attn.in_proj_weight.chunk(3)[2], last.attn.in_proj_bias.chunk(3)[2]
    patches = last.attn.out_proj(functional.linear(last.ln_1(hidden[:, 1:]), weight, bias))
    both = torch.cat([last(hidden)[:, :1], patches], 1)
    embedded = functional.normalize(visual.ln_post(both) @ visual.proj, dim=-1)
    return embedded[:, 0], embedded[:, 1:]


def _one_way(logits: Tensor, positive: Tensor) -> Tensor:
    """Mean over positive pairs of -log(e^s / (e^s + sum over negatives)), rows weighted alike."""
    negatives = logits.masked_fill(positive, float("-inf")).logsumexp(1, keepdim=True)
    each = torch.where(positive, functional.softplus(negatives - logits), logits.new_zeros(()))
    count = positive.sum(1)
    return (each.sum(1) / count.clamp(min=1))[count > 0].mean()


def contrastive_loss(logits: Tensor, positive: Tensor) -> Tensor:
    """Multi-positive contrastive loss, both ways, of logits (B, T); positive (B, T) bool: the caption is true."""
    return 0.5 * (_one_way(logits, positive) + _one_way(logits.T, positive.T))


def best_patches(patches: Tensor, texts: Tensor) -> Tensor:
    """How well some patches of each image agree with each text: a smooth maximum over patches of their cosines.

    Args:
        patches: Unit embeddings (B, N, C).
        texts: Unit embeddings (T, C).

    Returns:
        (B, T), between the mean and the maximum of the N cosines (log-sum-exp pooling, Pinheiro and Collobert 2015).
    """
    cosines = torch.einsum("bnc,tc->btn", patches, texts)
    return (SHARPNESS * cosines).logsumexp(2).sub(math.log(cosines.shape[2])) / SHARPNESS


def learning_rate(step: int, steps: int, warmup: int = 100) -> float:
    """Linear warm-up, then a cosine to 2 % of the peak."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))


def make_optimizers(model: CLIP, patch_scale: torch.nn.Parameter, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for everything else."""
    matrices = [p for name, p in model.named_parameters() if "resblocks" in name and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [patch_scale, *(p for p in model.parameters() if id(p) not in chosen)]
    return [
        torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
    ]


def stage_at(step: int, steps: int) -> CurriculumStage:
    """The stage of the curriculum that a step belongs to."""
    reached = 0.0
    for stage in CURRICULUM:
        reached += stage.share
        if step < round(reached * steps):
            return stage
    return CURRICULUM[-1]


def save_folder(model: CLIP, config: dict[str, Any], output: Path) -> None:
    """Write `open_clip_config.json` and the weights in half precision, each at once."""
    tensors = {name: value.detach().half().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, output / "weights.part", metadata={"format": "pt"})
    (output / "weights.part").replace(output / "open_clip_model.safetensors")
    text = json.dumps({"model_cfg": config, "preprocess_cfg": PREPROCESS}, indent=2)
    (output / "open_clip_config.json").write_text(text + "\n")


class Trainer:
    """Model, tokenizer, optimisers and the step reached."""

    def __init__(self, output: Path, seed: int, lr: float, device: str, compiled: bool) -> None:
        torch.manual_seed(seed)
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self.output, self.seed, self.lr, self.device, self.step = output, seed, lr, torch.device(device), 0
        self.tokenizer = SimpleTokenizer(bpe_path=str(output / "bpe.txt.gz"), context_length=CONTEXT)
        self.config = MODEL | {"text_cfg": MODEL["text_cfg"] | {"vocab_size": self.tokenizer.vocab_size}}
        self.model = CLIP(**self.config).to(self.device)
        self.patch_scale = torch.nn.Parameter(self.model.logit_scale.detach().clone())
        self.optimizers = make_optimizers(self.model, self.patch_scale, lr)
        self.encode = torch.compile(encode_images, dynamic=False) if compiled else encode_images

    def train_step(self, pairs: Pairs, stage: CurriculumStage, steps: int) -> tuple[float, float]:
        """Take one step; return the loss of the class token and that of the patches."""
        rng = np.random.default_rng([self.seed, 1, self.step, self.rank])
        size = stage.batch // self.world
        images, captions, positive = pairs.batch(rng, size, size // 4)
        pixels = to_tensor(images).to(self.device)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = self.lr * learning_rate(self.step, steps)
        side = stage.size // PATCH
        top, left = (int(i) for i in rng.integers(0, GRID - side + 1, 2))
        whole, patches = self.encode(self.model, pixels, position_window(self.model, side, top, left))
        texts = functional.normalize(encode_text(self.model, self.tokenizer(captions).to(self.device)), dim=-1)
        positive, names = positive.to(self.device), len(captions) - size // 4
        scale, patch_scale = (value.exp().clamp(max=100) for value in (self.model.logit_scale, self.patch_scale))
        loss = contrastive_loss(scale * whole @ texts.T, positive)
        # Captions of one class alone: no single patch shows all that a full caption names.
        local = contrastive_loss(patch_scale * best_patches(patches, texts[:names]), positive[:, :names])
        (loss + local).backward()
        self._average_gradients()
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        return float(loss.detach()), float(local.detach())

    def _average_gradients(self) -> None:
        """Average the gradients over processes, in one message."""
        if self.world == 1:
            return
        gradients = [p.grad for p in (*self.model.parameters(), self.patch_scale) if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, mean in zip(gradients, (flat / self.world).split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def save(self) -> None:
        """Write the model folder and what resuming needs."""
        save_folder(self.model, self.config, self.output)
        states = [optimizer.state_dict() for optimizer in self.optimizers]
        state = {"model": self.model.state_dict(), "patch_scale": self.patch_scale.detach(), "optimizers": states}
        torch.save(state | {"step": self.step}, self.output / "state.part")
        (self.output / "state.part").replace(self.output / "state.pt")

    def resume(self) -> None:
        """Go on from `state.pt`."""
        state = torch.load(self.output / "state.pt", map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.patch_scale.data.copy_(state["patch_scale"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step = state["step"]

    def report(self, line: dict[str, Any], *, scenes: int, started: float) -> None:
        """Save, measure on `scenes` held-out scenes and log a line."""
        self.save()
        line |= self.measure(scenes, scenes // 5)
        line["seconds"] = round(time.time() - started)
        with (self.output / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def write_card(self, scenes: int) -> None:
        """Measure thoroughly and write the model card."""
        last = json.loads((self.output / "log.jsonl").read_text().splitlines()[-1])
        figures = last | self.measure(scenes, scenes // 5)
        (self.output / "README.md").write_text(card(figures, self.lr, self.seed, self.world, scenes))

    def measure(self, scenes: int, dense: int) -> dict[str, float]:
        """Zero-shot figures on held-out scenes of 128 pixels; localisation on `dense` full ones."""
        self.model.eval()
        text = class_embeddings(self.model, self.tokenizer)
        figures = asdict(naming_accuracy(self.model, text, held_out_scenes(scenes)))
        things, stuff = patch_localisation(self.model, text, held_out_scenes(dense, dense=True))
        figures |= {"patch_miou_things": things, "patch_miou_stuff": stuff}
        self.model.train()
        return {name: round(value, 4) for name, value in figures.items()}


def _wording(seed: int) -> list[str]:
    """Captions enough to hold every word of the world and of the usual prompts."""
    rng = np.random.default_rng([seed, 2])
    return [caption_of_one(name, rng) for name in CLASS_NAMES for _ in range(60)] + list(TEMPLATES)


def _seconds_so_far(output: Path | None) -> float:
    """What the log of an interrupted run says it took."""
    if output is None:
        return 0.0
    return float(json.loads((output / "log.jsonl").read_text().splitlines()[-1])["seconds"])


def _hardware(processes: int) -> str:
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} CPU cores, {processes} processes; torch {torch.__version__}"


def card(line: dict[str, Any], lr: float, seed: int, processes: int, scenes: int) -> str:
    """Word the model card from the last line of the log."""
    stages = "\n".join(
        f"| {stage.size} x {stage.size} | {stage.things[0]} to {stage.things[1]}"
        f" | {stage.stuff[0]} to {stage.stuff[1]}"
        f" | {stage.pool} | {stage.batch} | {round(stage.share * line['step'])} |"
        for stage in CURRICULUM
    )
    figures = {name: f"{100 * value:.1f} %" for name, value in line.items() if isinstance(value, float)}
    figures |= {"seconds": str(line["seconds"]), "minutes": f"{line['seconds'] / 60:.0f}", "steps": str(line["step"])}
    template = Path(__file__).with_name("clip_card.md").read_text()
    return template.format(
        **figures, stages=stages, scenes=scenes, dense=scenes // 5, lr=lr, seed=seed, hardware=_hardware(processes)
    )


def train(arguments: argparse.Namespace) -> None:
    """Run the curriculum; the first process logs and saves every `--every` steps."""
    output: Path = arguments.output
    trainer = Trainer(output, arguments.seed, arguments.lr, arguments.device, arguments.compile)
    if arguments.resume:
        trainer.resume()
    current: CurriculumStage | None = None
    started, recent = time.time() - _seconds_so_far(output if arguments.resume else None), []
    while trainer.step < arguments.steps:
        stage = stage_at(trainer.step, arguments.steps)
        if stage is not current:
            pairs, current = Pairs.draw(arguments.seed, stage, trainer.rank, trainer.world), stage
        recent.append(trainer.train_step(pairs, stage, arguments.steps))
        if trainer.rank == 0 and (trainer.step % arguments.every == 0 or trainer.step == arguments.steps):
            loss, local = (round(float(value), 4) for value in np.mean(recent, axis=0))
            line = {"step": trainer.step, "size": stage.size, "loss": loss, "patch_loss": local}
            trainer.report(line, scenes=min(200, arguments.scenes), started=started)
            recent = []
    if trainer.rank == 0:
        trainer.write_card(arguments.scenes)


def _process(rank: int, arguments: argparse.Namespace, port: int) -> None:
    """One of several processes on this machine."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // arguments.processes))
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=arguments.processes)
    train(arguments)
    dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of the model, in open_clip's format")
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=200, help="steps between log lines and saves")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--processes", type=int, default=1, help="processes a step is split over (on a CPU: one a core)"
    )
    parser.add_argument(
        "--scenes", type=int, default=2000, help="held-out scenes that the model card's figures rest on"
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile the image tower (needs a C++ compiler)")
    parser.add_argument("--resume", action="store_true", help="go on from the last save in --output")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_merges(arguments.output / "bpe.txt.gz", _wording(arguments.seed))
    if arguments.processes == 1:
        train(arguments)
        return
    port, context = _free_port(), multiprocessing.get_context("spawn")
    processes = [context.Process(target=_process, args=(rank, arguments, port)) for rank in range(arguments.processes)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
