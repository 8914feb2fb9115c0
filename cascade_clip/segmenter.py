"""`CascadeCLIP`: a trained or training-free model with its text tower; the Python face of the toolkit."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import torch
from huggingface_hub import HfApi
from torch import Tensor

from cascade_clip.checkpoint.folder import (
    CHECKPOINT_FOLDER,
    Checkpoint,
    checkpoint_folder,
    load_checkpoint,
    save_checkpoint,
)
from cascade_clip.compilation import warm_up
from cascade_clip.config.class_names import class_synonyms
from cascade_clip.config.schema import InferenceConfig, Recipe
from cascade_clip.data.catalogue import Split, get_split
from cascade_clip.drawing.palette import Colour
from cascade_clip.errors import UserError
from cascade_clip.faster_linear import use_faster_linears
from cascade_clip.inference.drawn_scenes import DrawnScenesOnly, scene_check
from cascade_clip.inference.exported_network import ExportedNetwork
from cascade_clip.inference.inputs import ImageInput, rgb_pixels, source_of
from cascade_clip.inference.predictor import Predictor
from cascade_clip.inference.query_vocabulary import query_vocabulary
from cascade_clip.inference.released_settings import benchmark_method, benchmark_recipe, general_recipe, with_refinement
from cascade_clip.inference.segmentation import Segmentation
from cascade_clip.inference.vocabulary import Vocabulary
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.load import Clip
from cascade_clip.model.clip.text import TextCache, embed_words, templates_of
from cascade_clip.model.dense import DenseNetwork, is_dense, load_dense
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.model.stages import with_stages
from cascade_clip.model.weights import without_weights
from cascade_clip.output_folder import check_output_folder
from cascade_clip.reachability import uploading_to_hub
from cascade_clip.runtime import DTYPES, check_memory, resolve_device, resolve_precision

OWN_LICENCE = "apache-2.0"


class CascadeCLIP:
    """Segments images into classes named in words.

    Attributes:
        network: Image and text embeddings -> mask logits.
        clip: The frozen CLIP, whose text tower embeds class names.
        recipe: How the model was built and trained, with its stages, and how images are resized and normalised.
        split: Classes it was trained on; None: not known.
        licence: Licence of the weights.
        device: Where it runs.
        dtype: Number format of the network's products.

    Example:
        >>> import numpy as np
        >>> from cascade_clip import CascadeCLIP
        >>> model = CascadeCLIP.from_pretrained("bundled")
        >>> segmentation = model.segment(np.zeros((64, 96, 3), np.uint8), classes=["water", "wood"])[0]
        >>> segmentation.classes, segmentation.labels.shape
        (('water', 'wood'), (64, 96))
    """

    look: DrawnScenesOnly | None = None
    """Warns of images that the model cannot know; None: it may know any."""

    def __init__(
        self,
        network: CascadeNetwork | DenseNetwork | ExportedNetwork,
        clip: Clip,
        recipe: Recipe,
        split: Split | None = None,
        *,
        licence: str = OWN_LICENCE,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
    ) -> None:
        """Join the parts; `from_pretrained` is the usual way. UserError for a device or precision that is not there."""
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        self.network = network.eval().to(self.device)
        self.clip = clip
        self.clip.model.to(self.device)
        use_faster_linears(self.network)
        use_faster_linears(self.clip.model)
        self.recipe = with_stages(recipe, network.encoder.blocks) if isinstance(network, CascadeNetwork) else recipe
        self.split = split
        self.licence = licence
        self.look = scene_check(recipe.clip.architecture, split)
        self._text_cache = TextCache()

    @classmethod
    def from_pretrained(
        cls,
        folder_or_hub_id: str | Path,
        *,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
        revision: str | None = None,
    ) -> Self:
        """Load a checkpoint folder, a model of the Hugging Face Hub, or a training-free model.

        Args:
            folder_or_hub_id: A folder of `save_pretrained`, `ORG/NAME` on the Hub, `bundled` (trained on drawn scenes,
                part of the package), or `dense:NAME` (training-free, see `load_dense`).
            device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
            precision: `fp32`, `bf16` or `fp16` for the network's products.
            revision: Branch, tag or commit on the Hub.

        Raises UserError for no checkpoint, one that does not fit, or a device that is not available.
        """
        # Before gigabytes are read: a typing mistake should not cost that.
        resolve_precision(precision, resolve_device(device))
        if is_dense(str(folder_or_hub_id)):
            dense, clip, recipe = load_dense(str(folder_or_hub_id))
            return cls(dense, clip, general_recipe(recipe, dense.method), device=device, precision=precision)
        found = load_checkpoint(checkpoint_folder(folder_or_hub_id, revision))
        with without_weights():
            network = build_network(found.recipe.model, found.clip.visual)
        network.load_own_tensors(found.tensors)
        parts = (network, found.clip, found.recipe, found.split)
        return cls(*parts, licence=found.licence, device=device, precision=precision)

    def save_pretrained(
        self, folder: str | Path, *, scores: Mapping[str, float] | None = None, include_clip: bool | None = None
    ) -> None:
        """Write a checkpoint folder (cascade_clip/README.md, section 4.5), see `save_checkpoint`.

        Raises UserError where the folder holds anything else than a checkpoint or cannot be written, or the model is
        training-free or exported and has no weights to save.
        """
        if isinstance(self.network, ExportedNetwork):
            raise UserError("An exported model holds no weights to save: use the checkpoint that it was exported from.")
        if not isinstance(self.network, CascadeNetwork):
            raise UserError(f'"{self.recipe.name}" is training-free: nothing was trained, so there is nothing to save.')
        check_output_folder(Path(folder), CHECKPOINT_FOLDER)
        checkpoint = Checkpoint(self.recipe, self.clip, self.network.own_tensors(), self.split, self.licence)
        save_checkpoint(Path(folder), checkpoint, scores=scores, include_clip=include_clip)

    def to(self, device: str | torch.device, *, precision: str | None = None) -> Self:
        """Move the model to a device, as `from_pretrained` takes it, and return the model itself.

        `precision` is that of the network's products from then on; None: as before. UserError for one that is not
        available; the model then stays where it is.
        """
        place = resolve_device(device)
        if isinstance(self.network, ExportedNetwork) and place != self.device:
            raise UserError("An exported model stays on the device it was loaded for: load it again for another one.")
        named = precision or next(name for name, dtype in DTYPES.items() if dtype == self.dtype)
        self.dtype, self.device = resolve_precision(named, place), place
        self.network.to(place)
        self.clip.model.to(place)
        return self

    def push_to_hub(self, repo_id: str, *, private: bool = False, revision: str | None = None) -> str:
        """Upload the checkpoint to `ORG/NAME` on the Hugging Face Hub and return the repository's address.

        The repository is made where it does not exist; `private` is then its visibility. `revision` is the branch.
        UserError where the Hub refuses or cannot be reached.
        """
        api = HfApi()
        with uploading_to_hub(repo_id), TemporaryDirectory() as temporary:
            url = api.create_repo(repo_id, private=private, exist_ok=True)
            folder = Path(temporary) / "checkpoint"
            self.save_pretrained(folder)
            api.upload_folder(repo_id=repo_id, folder_path=folder, revision=revision)
        return str(url)

    def compile(self, text: Tensor) -> float:
        """Compile the network with `torch.compile`, before images are segmented; scores then differ by rounding.

        `text` (K, C) are text embeddings of as many classes as there will be. Returns the seconds it took: a minute
        or more, which pays for many images. UserError for an exported model, which is compiled already, or one that
        cannot be compiled here.
        """
        if isinstance(self.network, ExportedNetwork):
            raise UserError("An exported model is compiled by its own runtime: leave --compile out.")
        inference, patch = self.recipe.inference, self.network.patch_size
        side = -(-inference.crop // patch) * patch
        windows = f"{inference.window_batch:,} windows of {side:,} x {side:,} pixels"
        check_memory(
            3 * 4 * side**2 * inference.window_batch, windows, "lower inference.crop or inference.window_batch"
        )
        return warm_up(self.network, text.to(self.device), side=side, batches=inference.window_batch, dtype=self.dtype)

    def embed(self, classes: Sequence[str], *, templates: str | None = None) -> Tensor:
        """Text embeddings (K, C) float32 of class names, unit vectors on the model's device, cached by vocabulary.

        "sofa|couch" gives synonyms of one class; `templates` is a set or file, None: the recipe's. Raises UserError for
        empty or repeated names, names too long, or no text tower.
        """
        return self._embed_words(class_synonyms(classes), templates=templates)

    def release_text_tower(self) -> None:
        """Free the text tower's memory, once all classes have been embedded.

        Vocabularies that were embedded before stay known; embedding another one, or saving CLIP, is then a `UserError`.
        """
        self.clip = self.clip.without_text()

    def text_embeddings_for(self, split: Split, *, templates: str | None = None) -> Tensor:
        """Text embeddings (K, C) of a split's classes: raw as released, readable where the recipe says so."""
        return self.embed(split.prompts if self.recipe.text.readable else split.class_names, templates=templates)

    def vocabulary(
        self,
        classes: Sequence[str] | None = None,
        *,
        split: str | Split | None = None,
        text_embeddings: Tensor | None = None,
        templates: str | None = None,
        background: Sequence[str] | bool | None = None,
    ) -> Vocabulary:
        """Classes to look for: give `classes`, `split` or `text_embeddings`, the last also beside one of the others.

        Without any, those that the model was trained on.

        Args:
            classes: K class names, which all count as unseen; "sofa|couch" gives synonyms.
            split: A split's name (or the split), with the class names and which of them are seen: the bias is
                subtracted from their scores.
            text_embeddings: (K, C) unit vectors in place of the text tower's; alone, the classes are called "class 0",
                "class 1" and so on.
            templates: Template set or file for class names; None: the recipe's.
            background: Of training-free models: pixels won by one of these words belong to no class. True: the
                recipe's (26 such as sky, wall, tree) without those that are classes; False: no background; None: True
                for a single class, else False. With False, too, scores are measured against these words.

        Of synonyms, a training-free model takes the one that fits a pixel best, a trained one their mean.

        Raises UserError if none of the three is given and the model has no classes of its own, for classes and split
        together, names that cannot be embedded, embeddings of another shape or not finite, or a background for a
        trained model.
        """
        if isinstance(classes, str):
            raise UserError(f'classes is one string, "{classes}": give a list of names, for example ["road", "tree"].')
        for name in classes or ():
            if not isinstance(name, str):
                raise UserError(f"A class is named by text; got {name!r} among the classes.")
        if classes is None and split is None and text_embeddings is None:
            split = self.split
        if (classes is None) == (split is None) and (classes is not None or text_embeddings is None):
            raise UserError(
                "Say what to look for: give either classes=[…] or split=…, or text_embeddings=… alone or beside them."
            )
        given = None if text_embeddings is None else self._checked(text_embeddings)
        chosen = get_split(split) if isinstance(split, str) else split
        if isinstance(self.network, DenseNetwork):
            embed = partial(self._embed_words, templates=templates)
            return query_vocabulary(self.recipe, self.network.method, embed, classes, chosen, given, background)
        if background is not None and background is not False:
            raise UserError(
                "A background is for training-free models: this one is trained, and its scores do not depend on the"
                " other classes. Give a threshold instead: pixels whose score is below it belong to no class."
            )
        if chosen is not None:
            text = self.text_embeddings_for(chosen, templates=templates) if given is None else given
            return Vocabulary.of_split(chosen, text)
        if given is not None:
            return Vocabulary.of_names(classes, given, known=self._known_colours)
        names = [name.split("|")[0].strip() for name in classes or ()]
        return Vocabulary.of_names(names, self.embed(classes or (), templates=templates), known=self._known_colours)

    @property
    def _known_colours(self) -> dict[str, Colour]:
        """Colours of the classes it was trained on: a class has one in all pictures."""
        return {} if self.split is None else dict(zip(self.split.class_names, self.split.colours, strict=True))

    def for_benchmark(self, split: Split) -> Self:
        """The model as it is evaluated on a split: a training-free one with the settings of its published figures.

        Where the split is not of a published benchmark, only its scores are the released ones; a trained model stays
        as it is.
        """
        if not isinstance(self.network, DenseNetwork):
            return self
        chosen, method = copy(self), benchmark_method(self.network.method, split)
        chosen.recipe = benchmark_recipe(self.recipe, method, split)
        if method is not self.network.method:
            chosen.network = DenseNetwork(self.network.visual, method).eval()
        return chosen

    def predictor(self, inference: InferenceConfig | None = None, *, refine: bool | None = None) -> Predictor:
        """A `Predictor` for this model; its `set_image` encodes one image for several vocabularies.

        Args:
            inference: Crop, stride, bias, mirrored averaging and windows a forward pass; None: the recipe's.
            refine: Whether a training-free model's scores are refined along the edges of the image (PAMR); None: as its
                method was released. UserError for a trained one.
        """
        chosen = with_refinement(inference or self.recipe.inference, refine)
        look = self.look
        return Predictor(self.network, self.recipe.data, chosen, device=self.device, dtype=self.dtype, look=look)

    def segment(
        self,
        images: ImageInput | list[ImageInput] | tuple[ImageInput, ...],
        classes: Sequence[str] | None = None,
        *,
        split: str | Split | None = None,
        text_embeddings: Tensor | None = None,
        threshold: float | None = None,
        background: Sequence[str] | bool | None = None,
        refine: bool | None = None,
    ) -> list[Segmentation]:
        """Segment images of any size into classes: one `Segmentation` an image, at its original size.

        Each also keeps its image, and what the scores of all classes can be computed from later.

        Args:
            images: One image or several: path, http:// or https:// address, bytes of a file, PIL image, (H, W, 3)
                uint8 array, or (3, H, W) tensor (uint8, or floating-point in [0, 1], RGB, not normalised).
            classes: As for `vocabulary`, with `split` and `text_embeddings`; without any, what the model was trained
            on.
            split: As for `vocabulary`.
            text_embeddings: As for `vocabulary`.
            threshold: Pixels whose winning score (0..1, after the bias) is below it belong to no class.
            background: As for `vocabulary`.
            refine: As for `predictor`.

        Raises UserError for a vocabulary that `vocabulary` refuses, a threshold below 0 or above 1, or an image that
        cannot be read.
        """
        if threshold is not None and not 0 <= threshold <= 1:
            raise UserError(f"The threshold is {threshold}; scores, and so thresholds, are 0 to 1.")
        vocabulary = self.vocabulary(classes, split=split, text_embeddings=text_embeddings, background=background)
        predictor, several = self.predictor(refine=refine), images if isinstance(images, list | tuple) else [images]
        found = (predictor.segment_image(rgb_pixels(image), vocabulary, threshold) for image in several)
        return [replace(one, source=source_of(image)) for one, image in zip(found, several, strict=True)]

    def _embed_words(self, words: Sequence[Sequence[str]], *, templates: str | None) -> Tensor:
        sentences, half = templates_of(templates or self.recipe.text.templates), self.recipe.text.half
        return embed_words(self.clip, words, sentences, half=half, cache=self._text_cache).to(self.device)

    def _checked(self, text: Tensor) -> Tensor:
        joint = self.clip.visual.proj.shape[1]
        if text.ndim != 2 or text.shape[1] != joint or not len(text):
            raise UserError(f"Text embeddings of shape {tuple(text.shape)} do not fit: (classes, {joint}) is expected.")
        if not text.isfinite().all():
            raise UserError("Text embeddings hold values that are NaN or infinite: give finite ones.")
        return text.float().to(self.device)
