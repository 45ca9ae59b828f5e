"""Sizes of images are looked up once, and take the same memory however many were read."""

import numpy as np

from diffusionmtl.data.sizes import Sizes


def test_a_size_is_looked_up_once_and_never_where_the_image_was_read():
    sizes, looks = Sizes(3), []

    def look() -> tuple[int, int]:
        looks.append(1)
        return 30, 40

    sizes.note(1, np.zeros((5, 7, 3)))
    assert [sizes.of(index, look) for index in (0, 0, 1)] == [(30, 40), (30, 40), (5, 7)] and len(looks) == 1
