"""Pictures that regraft writes."""

import numpy as np


def test_pixels_map_to_the_full_range():
    from support.toys import toy_images

    images = toy_images(n=50)
    assert images.tensor().min() == -1
    assert images.tensor().max() == 1
    from regraft.data.pictures import to_picture

    assert np.array_equal(np.asarray(to_picture(images.tensor()[3])), images.pixels[3, 0].numpy())
