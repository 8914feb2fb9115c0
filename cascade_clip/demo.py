"""A page on which one drops a photograph, types words and sees masks, and its HTTP interface (extra `demo`, Gradio)."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial, wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.analysis.observed_model import plain_encoder
from cascade_clip.analysis.similarity import patch_similarity
from cascade_clip.analysis.stage_masks import decoder_names
from cascade_clip.data.images import check_image, open_image
from cascade_clip.drawing.overlay import value_picture
from cascade_clip.drawing.palette import Colour, class_colours, hex_colour
from cascade_clip.errors import UserError, first_line
from cascade_clip.inference.drawn_scenes import OTHER_IMAGE, may_be_drawn
from cascade_clip.inference.predictor import Predictor
from cascade_clip.inference.segmentation import Segmentation
from cascade_clip.inference.vocabulary import Vocabulary
from cascade_clip.model.network import CascadeNetwork, DecoderSums
from cascade_clip.segmenter import CascadeCLIP

LARGEST_UPLOAD = "20mb"
LARGEST_SIDE = 2048
"""Larger photographs are shrunk to this side first, so that a page answers in seconds."""
SMALLEST_MAP = 512
"""Long side in pixels that similarity maps have at least."""
MASK_OPACITY = 0.55
"""Gradio's own 0.85 hides the photograph."""
_KEPT_IMAGES = 4
_P = ParamSpec("_P")
_R = TypeVar("_R")


class Demo:
    """What the page does with its models, without the page.

    One call computes at a time, and the encodings of the last images are kept: other words, other stages and other
    points of one photograph do not encode it again.
    """

    def __init__(self, models: Mapping[str, CascadeCLIP]) -> None:
        """`models` by the names that the page shows, at least one."""
        self.models = dict(models)
        self._lock = threading.Lock()
        # The page names a file by the digest of its content, so that a name stands for one image.
        self._predictor = lru_cache(_KEPT_IMAGES)(self._new_predictor)

    def own_words(self, model: str) -> str:
        """The classes that a model was trained on, comma-separated; "" for a training-free one."""
        split = self.models[model].split
        return ", ".join(split.class_names) if split is not None else ""

    def stages(self, model: str) -> list[str]:
        """Names of a model's decoders, shallow to deep; empty for a model without stages."""
        network = self.models[model].network
        return list(decoder_names(network)) if isinstance(network, CascadeNetwork) else []

    def blocks(self, model: str) -> int:
        """Number of blocks of a model's CLIP."""
        return len(self.models[model].clip.visual.transformer.resblocks)

    def segment(
        self, model: str, photograph: str, words: str, stages: Sequence[str] | None = None
    ) -> tuple[NDArray[np.uint8], Segmentation]:
        """Segment an image file into comma-separated words; without any, into the classes that the model was trained
        on.

        The masks of the stages that are named are summed; None: of all. Gives the image (H, W, 3) uint8 RGB, with a
        long side of at most `LARGEST_SIDE`, and its labels. Raises UserError: no model, image or stage of that name, or
        words that cannot be embedded.
        """
        with self._lock:
            predictor = self._predictor(model, photograph, tuple(stages or ()))
            return _shrunk(photograph), predictor.segment(self._vocabulary(model, words))

    def similar_patches(self, model: str, photograph: str, point: Sequence[int]) -> dict[int, Image.Image]:
        """How alike all patches are to the one at a pixel (x, y) of the file, after each block of CLIP (Figure 1).

        Gives for each block, from 1, a map in the image's proportions, from the least similar patch in the first colour
        to the most similar in the last.
        """
        with self._lock:
            chosen = self._model(model)
            image, data = _shrunk(photograph), chosen.recipe.data
            whole = check_image(Path(photograph)).size
            x, y = (int(place * image.shape[axis] // whole[axis]) for place, axis in zip(point, (1, 0), strict=True))
            look = data.changed(mean=chosen.clip.mean, std=chosen.clip.std)
            found = patch_similarity(model, plain_encoder(chosen.clip.visual), image, (x, y), look, chosen.device)
        maps = {}
        for number, cosine in enumerate(found.cosine, start=1):
            picture = value_picture(cosine, float(cosine.min()), float(cosine.max()))
            scale = max(1.0, SMALLEST_MAP / max(image.shape))
            size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
            maps[number] = picture.resize(size, Image.Resampling.BICUBIC)
        return maps

    def colours(self, names: Sequence[str]) -> dict[str, str]:
        """Colour "#rrggbb" of each class: that of a trained model's own classes, and distinct ones for other words."""
        colours = class_colours(names, self._known_colours())
        return {name: hex_colour(colour) for name, colour in zip(names, colours, strict=True)}

    def record(self, photograph: str | None, words: str, model: str) -> dict[str, Any]:
        """What the HTTP interface answers: `predict`'s JSON, labels as rows of indices, and a warning or None."""
        if photograph is None:
            raise UserError("No image was sent.")
        image, found = self.segment(model, photograph, words)
        record = replace(found, colours=class_colours(found.classes, self._known_colours())).record()
        return {**record, "model": model, "labels": found.labels.tolist(), "warning": self.warning(model, image)}

    def warning(self, model: str, image: NDArray[np.uint8]) -> str | None:
        """What to say of an image (H, W, 3) uint8 RGB that the model was not made for; None: nothing."""
        return OTHER_IMAGE if self._model(model).look is not None and not may_be_drawn(image) else None

    def _known_colours(self) -> dict[str, Colour]:
        """Colours of the classes that any model was trained on: a word has one colour in all pictures."""
        splits = [model.split for model in self.models.values() if model.split is not None]
        return {entry.name: entry.colour for split in splits for entry in split.classes}

    def _model(self, name: str) -> CascadeCLIP:
        if name not in self.models:
            raise UserError(f'There is no model "{name}" here; there are {", ".join(self.models)}.')
        return self.models[name]

    def _vocabulary(self, model: str, words: str) -> Vocabulary:
        chosen = self._model(model)
        names = [name.strip() for name in words.split(",") if name.strip()]
        if names:
            return chosen.vocabulary(names)
        if chosen.split is None:
            raise UserError('Type the words to look for, for example "road, tree, sky".')
        return chosen.vocabulary(split=chosen.split)

    def _new_predictor(self, model: str, photograph: str, stages: tuple[str, ...]) -> Predictor:
        """What segments an image, encoded, by the decoders that are named; none: by all."""
        chosen = self._model(model)
        predictor = chosen.predictor()
        if stages and isinstance(chosen.network, CascadeNetwork):
            known = self.stages(model)
            if unknown := [name for name in stages if name not in known]:
                raise UserError(f'"{unknown[0]}" is no stage of "{model}"; its stages are {", ".join(known)}.')
            network = DecoderSums(chosen.network, [[known.index(name) for name in stages]])
            predictor = Predictor(
                network, predictor.data, predictor.inference, device=chosen.device, dtype=chosen.dtype
            )
        predictor.set_image(_shrunk(photograph))
        return predictor


def check_installed() -> None:
    """Raise UserError where Gradio is not installed."""
    if find_spec("gradio") is None:
        raise UserError("The page needs Gradio: pip install 'cascade-clip[demo]'.")


def launch(page: Any, host: str, port: int | None, opened: Callable[[str], None]) -> None:
    """Serve a page of `build_page` until it is interrupted; `opened` is called with its address once it answers.

    Without a `port`, the first free one from 7860 is taken. Raises UserError: the address is taken, or is none of this
    machine's.
    """
    try:
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            max_file_size=LARGEST_UPLOAD,
            prevent_thread_lock=True,
            quiet=True,
            footer_links=["api"],
        )
    except OSError as error:
        where = f"{host}:{port}" if port is not None else host
        raise UserError(
            f"The page cannot listen on {where} ({first_line(error)}): choose --host and --port."
        ) from error
    opened(url)
    page.block_thread()


def build_page(demo: Demo) -> Any:
    """Build the page, a `gradio.Blocks`, whose HTTP interface has `/segment`; raises UserError without Gradio."""
    check_installed()
    import gradio

    def told(call: Callable[_P, _R]) -> Callable[_P, _R]:
        """Show the sentence of a `UserError` on the page."""

        @wraps(call)
        def wrapped(*given: _P.args, **named: _P.kwargs) -> _R:
            try:
                return call(*given, **named)
            except UserError as error:
                raise gradio.Error(str(error), duration=None, print_exception=False) from error

        return wrapped

    names = list(demo.models)
    with gradio.Blocks(title="Cascade-CLIP") as page:
        # A mask whose name is pointed at stays opaque, and the others hidden.
        style = f"<style>img.mask:not(.active, .inactive) {{opacity: {MASK_OPACITY}}}</style>"
        gradio.HTML(style, padding=False)
        gradio.Markdown("# Cascade-CLIP\nDrop a photograph, type words, and see where they are.")
        with gradio.Row():
            with gradio.Column():
                photograph = gradio.Image(type="filepath", label="Photograph: click a point for patches like it")
                words = gradio.Textbox(
                    demo.own_words(names[0]), label="Words, comma-separated", placeholder="road, tree, sky, sofa|couch"
                )
                button = gradio.Button("Segment", variant="primary")
                blocks = demo.blocks(names[0])
                title = f"Patches like the one clicked ({names[0]})"
                similar = gradio.Image(label=title, interactive=False, type="pil", buttons=["download"])
                block = gradio.Slider(1, blocks, value=blocks, step=1, label="After block of CLIP")
            for name in names:
                with gradio.Column():
                    masks = gradio.AnnotatedImage(label=name)
                    scores = gradio.Dataframe(headers=["class", "share", "mean score"], interactive=False)
                    known = demo.stages(name)
                    stages = gradio.CheckboxGroup(known, value=known, label="Stages", visible=bool(known))
                show = told(partial(_shown, gradio, demo, name))
                for event in (button.click, words.submit, stages.input):
                    event(
                        show,
                        [photograph, words, stages],
                        [masks, scores],
                        trigger_mode="always_last",
                        concurrency_id="model",
                        api_visibility="private",
                    )
        maps = gradio.State({})

        def click(path: str, event: gradio.SelectData) -> tuple[Any, ...]:
            found = demo.similar_patches(names[0], path, event.index)
            return found, blocks, found[blocks]

        photograph.select(
            told(click), photograph, [maps, block, similar], concurrency_id="model", api_visibility="private"
        )
        block.release(lambda found, number: found.get(int(number)), [maps, block], similar, api_visibility="private")
        _add_call(gradio, demo, told(demo.record))
    return page


def _shown(
    gradio: Any, demo: Demo, model: str, photograph: str | None, words: str, stages: Sequence[str]
) -> tuple[Any, list[list[str]]]:
    """The masks and the rows of the table of one model."""
    if photograph is None:
        raise UserError("Drop a photograph first.")
    if demo.stages(model) and not stages:
        raise UserError("Choose at least one stage.")
    every = len(stages) == len(demo.stages(model))
    image, found = demo.segment(model, photograph, words, None if every else stages)
    if (warning := demo.warning(model, image)) is not None:
        gradio.Warning(f"{model}: {warning}", duration=None)
    shares = found.summary()
    masks = [((found.labels == share.index), share.name) for share in shares]
    colours = demo.colours(found.classes)
    picture = gradio.AnnotatedImage((image, masks), color_map=colours, label=model)
    return picture, [[share.name, f"{100 * share.share:.1f} %", f"{share.mean_score:.2f}"] for share in shares]


def _add_call(gradio: Any, demo: Demo, call: Callable[..., Any]) -> None:
    """Add `/segment` to the HTTP interface, by hidden components.

    The picture component checks that a path is one that was uploaded: no other file of the machine can be read.
    """
    model = gradio.Textbox(next(iter(demo.models)), visible=False, label="model")
    photograph = gradio.Image(type="filepath", visible=False, label="image")
    words = gradio.Textbox("", visible=False, label="words")
    answer = gradio.JSON(visible=False, label="labels")
    gradio.Button(visible=False).click(
        call, [photograph, words, model], answer, api_name="segment", concurrency_id="model"
    )


def _shrunk(photograph: str | Path) -> NDArray[np.uint8]:
    """Read an image with its long side brought down to `LARGEST_SIDE`."""
    image = Image.fromarray(open_image(Path(photograph)))
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)
