"""`Predictor`: images of any size to labels, for any vocabulary."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascade_clip.config.schema import DataConfig, InferenceConfig
from cascade_clip.config.training_free import TrainingFreeConfig
from cascade_clip.data.resize import resize_bilinear, test_size
from cascade_clip.data.transforms import normalise
from cascade_clip.errors import UserError, counted
from cascade_clip.inference.class_scores import Winners
from cascade_clip.inference.query_labels import class_probabilities
from cascade_clip.inference.score_maps import ScoreMaps, queries_of
from cascade_clip.inference.segmentation import Segmentation
from cascade_clip.inference.sliding_window import (
    EncodingNetwork,
    MaskNetwork,
    WindowBatch,
    WindowBox,
    WindowLogits,
    averaged_cosines,
    averaged_scores,
    boxes_of,
    encoded_batches,
    window_batches,
    window_logits,
)
from cascade_clip.inference.vocabulary import Vocabulary
from cascade_clip.model.network import CascadeNetwork, DecoderSums
from cascade_clip.runtime import check_memory

LARGEST_LOGITS = 2**28
"""Most mask logits of an image's windows: 1 GiB. Only extremely long and narrow images come near it."""
MOST_ENCODED_WINDOWS = 16
"""Most windows whose encoding `set_image` keeps: about 250 MB with ViT-B/16 and windows of 512 x 512 pixels."""


class _Prepared(NamedTuple):
    """An image as the network takes it."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB, the image itself."""
    pixels: Tensor
    """(3, h, w) float32, normalised, on the device."""
    batches: Sequence[WindowBatch] | None = None
    """Its encoded windows; None: they are cut and encoded anew for every vocabulary."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image itself."""
        return self.image.shape[0], self.image.shape[1]


class Predictor:
    """A network and its settings for images: resizing, windows, bias, device, precision.

    `set_image` encodes an image once for any number of vocabularies. An image with one vocabulary only takes less
    memory by `segment_image`; many images are fastest by `label_maps`. Labels are equal in all three, but for the last
    bit of scores where an accelerator's batches hold several images.

    Example:
        >>> import numpy as np
        >>> from cascade_clip import CascadeCLIP
        >>> model = CascadeCLIP.from_pretrained("dense:bundled")
        >>> predictor = model.predictor()
        >>> predictor.set_image(np.zeros((64, 96, 3), np.uint8))
        >>> predictor.segment(model.vocabulary(["wood", "water"])).labels.shape
        (64, 96)
        >>> predictor.segment(model.vocabulary(["circle", "square", "grass"])).scores.dtype
        dtype('float32')
    """

    def __init__(
        self,
        network: MaskNetwork,
        data: DataConfig,
        inference: InferenceConfig,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        look: Callable[[NDArray[np.uint8]], object] | None = None,
    ) -> None:
        """See `CascadeCLIP.predictor`.

        The network is in evaluation mode on `device`, `dtype` is the precision of its products. `look` is called with
        every image before it is segmented, to warn of some.
        """
        self.network = network
        self.data = data
        self.inference = inference
        self.device = device
        self.dtype = dtype
        self.look = look
        self._image: _Prepared | None = None

    def set_image(self, image: NDArray[np.uint8]) -> None:
        """Encode an image (H, W, 3) uint8 RGB for `segment`, `scores` and `stage_scores`.

        The encoding is kept where the network can encode apart (one in PyTorch can, an exported one cannot) and the
        image has at most `MOST_ENCODED_WINDOWS` windows; otherwise only the pixels are kept.

        Raises UserError where the image is so narrow that not even one class's logits would fit into memory.
        """
        self._image = None
        prepared = self._prepare(image)
        windows = len(self._boxes(prepared.size)) * (2 if self.inference.flip else 1)
        if isinstance(self.network, EncodingNetwork) and windows <= MOST_ENCODED_WINDOWS:
            cut = window_batches([prepared.pixels], self.inference, self.network.patch_size)
            prepared = prepared._replace(batches=encoded_batches(self.network, cut, self.dtype, self.device))
        self._image = prepared

    def segment(self, vocabulary: Vocabulary, threshold: float | None = None) -> Segmentation:
        """Segment the image of `set_image`: labels and winning scores at its own size.

        Pixels whose winning score is below `threshold` belong to no class; None: every pixel has a class.

        Raises UserError where no image was set, or it is so narrow that its logits would not fit into memory.
        """
        return self._segment(self._current(), vocabulary, threshold)

    def segment_image(
        self, image: NDArray[np.uint8], vocabulary: Vocabulary, threshold: float | None = None
    ) -> Segmentation:
        """Segment an image (H, W, 3) uint8 RGB without keeping its encoding; otherwise as `segment`."""
        return self._segment(self._prepare(image, len(vocabulary.text)), vocabulary, threshold)

    def label_image(self, image: NDArray[np.uint8], vocabulary: Vocabulary, threshold: float | None = None) -> Winners:
        """Labels and winning scores (H, W) on the device of an image (H, W, 3) uint8 RGB; otherwise as `segment`."""
        return self._label(self._prepare(image, len(vocabulary.text)), vocabulary, threshold)[0]

    def label_maps(
        self, images: Iterable[NDArray[np.uint8]], vocabulary: Vocabulary, *, together: int | None = None
    ) -> Iterator[Tensor]:
        """Segment many images (H, W, 3) uint8 RGB without their scores: (H, W) labels of each in order, on the device.

        `together` is how many images share batches of windows; None: `images_together`. Errors as of `segment`.
        """
        stream = iter(images)
        while some := list(islice(stream, together or self.images_together)):
            prepared = [self._prepare(image, len(vocabulary.text)) for image in some]
            for image, windows in zip(prepared, self._logits(prepared, vocabulary.text), strict=True):
                yield self._score_maps(image, windows, vocabulary).labels().write()

    @property
    def images_together(self) -> int:
        """How many images share batches in `label_maps`: one on a CPU, which is no faster with several."""
        return 1 if self.device.type == "cpu" else self.inference.window_batch

    def scores(self, vocabulary: Vocabulary) -> Tensor:
        """Scores (K, h, w) float32 in [-bias, 1] of every class for the image of `set_image`, on the device.

        Their size is that at which the image is segmented: its short side is `data.short_side`. Of a training-free
        model they are the probabilities of `class_probabilities`, without refinement. Errors as of `segment`.
        """
        (windows,) = self._logits([self._current()], vocabulary.text)
        if (free := self.inference.training_free) is not None:
            queries, maps = queries_of(vocabulary), averaged_cosines(windows)
            return class_probabilities(maps, queries, len(vocabulary), free.logit_scale)
        return averaged_scores(windows, vocabulary.seen.to(self.device), self.inference.seen_bias)

    def stage_scores(self, text: Tensor) -> Tensor:
        """Scores of every decoder, one a stage in the cascade, for the image of `set_image` and text embeddings (K, C).

        (D + 1, K, h, w) float32 on the device in [0, 1]: sigmoid of the mask logits of each of D decoders, shallow to
        deep, and of their sum, averaged over windows; without any bias. Errors as of `segment`; UserError for a network
        without stages.
        """
        decoders = range(len(self.cascade.head.decoders))
        groups = [*([decoder] for decoder in decoders), decoders]
        # Every decoder's mask of a class counts as a class of its own.
        (windows,) = self._logits([self._current()], text, DecoderSums(self.cascade, groups), maps=len(groups))
        unseen = torch.zeros(len(groups) * len(text), dtype=torch.bool, device=self.device)
        return averaged_scores(windows, unseen, 0.0).unflatten(0, (len(groups), len(text)))

    @property
    def cascade(self) -> CascadeNetwork:
        """The network, where it has stages; a `UserError` where it is training-free or exported."""
        if not isinstance(self.network, CascadeNetwork):
            raise UserError("This model has no stages to look at: use a trained checkpoint that runs in PyTorch.")
        return self.network

    def _current(self) -> _Prepared:
        if self._image is None:
            raise UserError("No image was set: call set_image(image) first, or segment_image(image, vocabulary).")
        return self._image

    def _prepare(self, image: NDArray[np.uint8], classes: int = 1) -> _Prepared:
        self._check_logits_fit((image.shape[0], image.shape[1]), classes)
        if self.look is not None:
            self.look(image)
        pixels = torch.from_numpy(prepare_image(image, self.data, self.inference.training_free)).to(self.device)
        return _Prepared(image, pixels)

    def _segment(self, image: _Prepared, vocabulary: Vocabulary, threshold: float | None) -> Segmentation:
        (labels, scores), maps = self._label(image, vocabulary, threshold)
        array = labels.cpu().numpy()
        array = array if array.dtype == np.uint8 else array.astype(np.uint16)
        return Segmentation(
            array, scores.cpu().numpy(), vocabulary.names, vocabulary.colours, image=image.image, score_maps=maps
        )

    def _label(self, image: _Prepared, vocabulary: Vocabulary, threshold: float | None) -> tuple[Winners, ScoreMaps]:
        """Labels and scores of `labels_from_scores(scores)`, without its work for classes that cannot win."""
        (windows,) = self._logits([image], vocabulary.text)
        best = torch.empty(image.size, device=self.device)
        maps = self._score_maps(image, windows, vocabulary)
        return Winners(maps.labels().write(best, threshold), best), maps

    def _score_maps(self, image: _Prepared, windows: WindowLogits, vocabulary: Vocabulary) -> ScoreMaps:
        free = self.inference.training_free
        refined = free is not None and free.pamr_steps > 0
        return ScoreMaps(windows, image.size, image.pixels if refined else None, vocabulary, self.inference)

    def _logits(
        self, images: Sequence[_Prepared], text: Tensor, network: MaskNetwork | None = None, *, maps: int = 1
    ) -> list[WindowLogits]:
        """Logits of the windows of images, `maps` for each of the K classes of `text`."""
        for image in images:
            self._check_logits_fit(image.size, maps * len(text))
        return window_logits(
            network or self.network,
            [image.pixels for image in images],
            text.to(self.device),
            self.inference,
            dtype=self.dtype,
            batches=images[0].batches,
        )

    def _boxes(self, size: tuple[int, int]) -> list[WindowBox]:
        return boxes_of(input_size(size, self.data, self.inference.training_free), self.inference)

    def _check_logits_fit(self, size: tuple[int, int], classes: int) -> None:
        height, width = test_size(*size, self.data.short_side)
        resized = f"The image of {size[1]:,} x {size[0]:,} pixels, resized to {width:,} x {height:,},"
        check_memory(3 * 4 * height * width, resized, "lower data.short_side, or cut the image into pieces")
        boxes, patch = self._boxes(size), self.network.patch_size
        y1, x1, y2, x2 = boxes[0]
        patches = -(-(y2 - y1) // patch) * -(-(x2 - x1) // patch)
        if classes * len(boxes) * patches > LARGEST_LOGITS:
            raise UserError(
                f"The image is {size[1]} x {size[0]} pixels: with its short side at {self.data.short_side} its long"
                f" side has {max(boxes[-1][2:])}, and the mask logits of {counted(classes, 'class')} do"
                " not fit into memory. Cut it into pieces or give fewer classes."
            )


def prepare_image(
    image: NDArray[np.uint8], data: DataConfig, free: TrainingFreeConfig | None = None
) -> NDArray[np.float32]:
    """Resize an image (H, W, 3) uint8 to its `input_size` and normalise it: (3, h, w) float32 (SPEC section 1)."""
    height, width = input_size((image.shape[0], image.shape[1]), data, free)
    return normalise(resize_bilinear(image, height, width), data.mean, data.std)


def input_size(size: tuple[int, int], data: DataConfig, free: TrainingFreeConfig | None = None) -> tuple[int, int]:
    """Height and width to which an image of `size` is resized; `free` bounds them for training-free models."""
    if free is not None and not free.keep_aspect:
        return data.short_side, data.short_side
    return test_size(*size, data.short_side, None if free is None else free.long_side)
