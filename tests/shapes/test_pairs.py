import gzip

import numpy as np
import torch
from open_clip import SimpleTokenizer
from pairs import CurriculumStage, Pairs, names_in, write_merges

from cascade_clip.shapes.classes import CLASS_NAMES

STAGE = CurriculumStage(size=48, things=(1, 1), stuff=(1, 1), batch=8, share=1.0, pool=12)


def test_names_are_read_whole():
    found = names_in(["a striped blue circle on grass", "the blue circle and a brick wall"])
    named = [{CLASS_NAMES[k] for k in torch.nonzero(row)[:, 0]} for row in found]
    assert named == [{"striped blue circle", "grass"}, {"blue circle", "brick wall"}]


def test_shares_of_a_pool_add_up_to_it():
    whole, first, second = Pairs.draw(1, STAGE), Pairs.draw(1, STAGE, 0, 2), Pairs.draw(1, STAGE, 1, 2)
    assert whole.images.shape == (12, 48, 48, 3)
    np.testing.assert_array_equal(whole.images[0::2], first.images)
    assert whole.captions[1::2] == second.captions


def test_batch_marks_true_captions():
    pairs = Pairs.draw(1, STAGE)
    images, captions, positive = pairs.batch(np.random.default_rng(0), 6, 3)
    assert images.shape == (6, 48, 48, 3)
    assert positive.shape == (6, len(captions))
    assert positive[[0, 1, 2], [-3, -2, -1]].all()
    rows = np.random.default_rng(0).integers(0, 12, 6)
    for image, row in enumerate(rows):
        own = names_in([pairs.captions[row]])[0]
        for text, caption in enumerate(captions):
            named = names_in([caption])[0]
            assert positive[image, text] == bool((own | ~named).all())


def test_merges_make_words_one_token_and_spell_others(tmp_path):
    file = tmp_path / "bpe.txt.gz"
    write_merges(file, ["a red star on grass.", "the starfish"])
    tokenizer = SimpleTokenizer(bpe_path=str(file), context_length=16)
    assert len(tokenizer.encode("a red star on grass")) == 5
    assert tokenizer.decode(tokenizer.encode("a zebra")) == "a zebra "
    assert tokenizer.vocab_size == 512 + len(gzip.decompress(file.read_bytes()).split(b"\n")) - 1 + 2
