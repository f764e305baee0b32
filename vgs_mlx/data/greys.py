"""Grey pictures of more than eight bits: which of their numbers is black, and which is white.

Such a file seldom says so. 16 bits may hold 8-, 10- or 12-bit values; floats may run to 1 or to 255. The first of
these rules that applies decides:

1. What the file says: a PGM's maximum; the depth of a 12-bit TIFF; a TIFF's tags SMinSampleValue and SMaxSampleValue,
   else MinSampleValue and MaxSampleValue, if every value lies between them.
2. Without negative values: black is 0, and white is the picture's maximum rounded up to the next usual full scale
   (FULL_SCALES). Floats may overshoot it by a tenth at both ends, as resampling does; the excess is clipped.
3. With negative values, or values beyond 65,535: the minimum (or 0) is black, the maximum (or 0) is white.

NaN and -inf are black, inf is white. A TIFF whose photometric interpretation is "white is zero" is inverted. A picture
that would lose nearly all of its grey levels (a thermal camera's narrow band, a single hot pixel) is refused.
"""

import math

import numpy as np
from PIL import Image
from PIL.TiffTags import TAGS_V2

from vgs_mlx.errors import Refusal

FULL_SCALES = (1, 255, 1023, 4095, 16_383, 65_535)  # a mask or a share; 8, 10, 12, 14 and 16 bits
OVERSHOOT = 0.1  # of the full scale, at both ends of a float picture
FEWEST_LEVELS = 32  # a picture left with fewer is refused if it had more than twice as many before
TAG = {tag.name: number for number, tag in TAGS_V2.items()}


def to_eight_bits(pixels: Image.Image, file: Image.Image) -> Image.Image:
    """The grey picture `pixels` (mode I, I;16 or F) in mode L; `file` is the same picture as Pillow opened it.

    Raises `Refusal`, whose message lacks the picture's name.
    """
    values = np.asarray(pixels)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise Refusal("holds no finite number")
    low, high = float(finite.min()), float(finite.max())
    black, white = _stated(file, low, high) or _assumed(low, high, floats=pixels.mode == "F")
    numbers = np.nan_to_num(values.astype(np.float64), nan=black, posinf=white, neginf=black)
    shades = np.rint((numbers - black) * (255 / (white - black))).clip(0, 255).astype(np.uint8)
    _refuse_lost_levels(shades, finite, black, white)
    if file.format == "TIFF" and file.tag_v2.get(TAG["PhotometricInterpretation"]) == 0:
        shades = 255 - shades
    if "transparency" in file.info:  # the one grey of a PNG that is transparent; the background is white
        shades[values == file.info["transparency"]] = 255
    return Image.fromarray(shades)


def _stated(file: Image.Image, low: float, high: float) -> tuple[float, float] | None:
    """Black and white as the file states them; None where it doesn't."""
    if file.format == "PPM" and file.mode == "I":
        return 0, 65_535  # Pillow has scaled the file's maximum to this
    if file.format != "TIFF":
        return None
    tags = file.tag_v2
    if tags.get(TAG["BitsPerSample"]) == (12,):
        return 0, 4095
    for least, most in (("SMinSampleValue", "SMaxSampleValue"), ("MinSampleValue", "MaxSampleValue")):
        black, white = (float(np.ravel(tags.get(TAG[name], 0))[0]) for name in (least, most))
        if black <= low and high <= white and black < white < math.inf:
            return black, white
    return None


def _assumed(low: float, high: float, *, floats: bool) -> tuple[float, float]:
    """Black and white, from the values alone."""
    slack = OVERSHOOT if floats else 0
    full = next((full for full in FULL_SCALES if high <= full * (1 + slack)), None)
    if full is None or low < -slack * full:
        return min(low, 0), max(high, 0)
    return 0, full


def _refuse_lost_levels(shades: np.ndarray, values: np.ndarray, black: float, white: float) -> None:
    left = np.count_nonzero(np.bincount(shades.ravel(), minlength=256))
    if left >= FEWEST_LEVELS:
        return
    had = len(np.unique(values))
    if had > 2 * left:
        raise Refusal(
            f"its {had:,} grey levels between {values.min():g} and {values.max():g} become {left} with {black:g} as "
            f"black and {white:g} as white: scale its values to 0-255 and save it with 8 bits"
        )
