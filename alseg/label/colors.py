"""Colours that people with any kind of colour vision tell apart."""

import numpy as np
from numpy.typing import NDArray

#: The palette of Okabe and Ito, https://jfly.uni-koeln.de/color, black last: on dark photographs
#: it is the hardest to see. (Its grey stands for void on the page.)
OKABE_ITO = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
    (0, 114, 178), (213, 94, 0), (204, 121, 167), (0, 0, 0),
)  # fmt: skip


def safe_colors(n: int) -> NDArray[np.uint8]:
    """Colours for n classes, (n, 3), uint8, RGB.

    The first eight are those of Okabe and Ito; after them come lighter and darker shades, half way
    to white and to black, and then all again: more colours than that nobody tells apart, and names
    stand beside them.
    """
    base = np.array(OKABE_ITO, dtype=np.float64)
    light, dark = (base[:7] + 255) / 2, base[:7] / 2
    table = np.concatenate([base, light, dark]).round().astype(np.uint8)
    return table[np.arange(n) % len(table)]
