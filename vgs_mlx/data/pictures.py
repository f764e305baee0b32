"""Pictures of a data set: from a file, a data URI or bytes to a decoded RGB image, or the reason why not.

Nothing is trusted: only common raster formats are opened, a picture too large to be honest is refused before
its pixels are decoded, and one that is cut short is refused instead of being filled with grey.
"""

import base64
import binascii
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vgs_mlx.errors import Refusal
from vgs_mlx.types import Picture

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # JPEG takes in many phones' MPO
PIXEL_LIMIT = 89_478_485  # where Pillow warns of a decompression bomb; here it is the end


def from_file(path: Path, name: str) -> Picture:
    """A picture in a file; `name` is what messages call it."""
    return Picture(name, lambda: _decode(lambda: _read(path, name), name))


def from_bytes(fetch: Callable[[], bytes], name: str) -> Picture:
    """A picture whose encoded bytes `fetch` returns each time the picture is opened."""
    return Picture(name, lambda: _decode(fetch, name))


def from_data_uri(uri: str) -> Picture:
    """A picture written out as `data:image/png;base64,...`."""
    head = uri[:40].split(",")[0].removeprefix("data:").split(";")[0]
    name = f"data URI ({head or 'no type'}, {len(uri)} characters)"
    return Picture(name, lambda: _decode(lambda: _unpack(uri, name), name))


def inside(folder: Path, text: str, *, allow_outside: bool) -> Path:
    """The file that `text` names, seen from `folder`, with every symlink and `..` resolved.

    Refuses one that lies outside the folder: a data set from elsewhere must not reach into other files.
    """
    if "://" in text:
        raise Refusal(f"picture {shown(text)}: a web address; download it and give a path")
    try:
        path = (folder / text).resolve()
        outside = not path.is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, a symlink loop, a zero byte
        raise Refusal(f"picture {shown(text)}: not a usable path ({error})") from error
    if outside and not allow_outside:
        mend = "--set data.allow_outside=true permits it"
        raise Refusal(f"picture {shown(text)}: leaves the data set's folder ({mend})")
    return path


def shown(text: str) -> str:
    """`text` for a message: printable, on one line, and not endless."""
    plain = "".join(character if character.isprintable() else "?" for character in text[:121])
    return plain if len(plain) <= 120 else plain[:117] + "..."


def _read(path: Path, name: str) -> bytes:
    try:
        if not path.exists():
            raise Refusal(f"picture {name}: no such file")
        if not path.is_file():  # a folder, or a pipe that would never end
            raise Refusal(f"picture {name}: not a file")
        return path.read_bytes()
    except OSError as error:
        raise Refusal(f"picture {name}: can't be read ({error.strerror})") from error


def _unpack(uri: str, name: str) -> bytes:
    head, comma, body = uri.partition(",")
    if not comma or not head.endswith(";base64"):
        raise Refusal(f"picture {name}: not of the form data:image/png;base64,...")
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(f"picture {name}: broken base64 ({error})") from error


def _decode(fetch: Callable[[], bytes], name: str) -> Image.Image:
    """The picture in RGB: upright as its EXIF orientation says, transparency on white, first frame only."""
    data = fetch()
    if not data:
        raise Refusal(f"picture {name}: empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > PIXEL_LIMIT:
                raise _bomb(name, f"{image.width}x{image.height} pixels")
            return _to_rgb(ImageOps.exif_transpose(image))
    except Image.UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise Refusal(f"picture {name}: not a picture that can be read ({known})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _bomb(name, "far too many pixels") from error
    except Refusal:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
        raise Refusal(f"picture {name}: damaged or cut short ({shown(str(error))})") from error


def _bomb(name: str, size: str) -> Refusal:
    return Refusal(f"picture {name}: {size}, above the limit of {PIXEL_LIMIT:,} (a decompression bomb?)")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow's own conversion would clip to white
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
