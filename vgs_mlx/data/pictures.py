"""Pictures of a data set: a file, a data URI or bytes become a decoded RGB image, or a reason why not.

Nothing is trusted. Only common raster formats are opened; a file or picture that is suspiciously large is refused
before it is read or decoded; one that is cut short is refused instead of being filled with grey. What a picture shows
is preserved: greys of more than eight bits are scaled (see greys.py), colours stay as stored.
"""

import base64
import binascii
import functools
import hashlib
import io
import unicodedata
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from PIL import Image, ImageOps, PngImagePlugin, features

from vgs_mlx.data import greys
from vgs_mlx.errors import Refusal
from vgs_mlx.types import Picture

# JPEG includes the MPO of many phones. Pillow reads AVIF from 11.3 on, if it was built with it.
AVIF = ("AVIF",) if "avif" in features.get_supported_modules() else ()
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", *AVIF)
PIXEL_LIMIT = 89_478_485  # where Pillow warns of a decompression bomb; here such a picture is refused
BYTE_LIMIT = 3 * PIXEL_LIMIT  # of an encoded picture: as many pixels uncompressed, 268 MB
DARK = 64  # of 256: 14-bit values in a 16-bit file have upper eight bits below this

LONGEST_NAME = 255  # bytes of a file's name; base64 of a picture is longer
# how the base64 of each format begins
BASE64_STARTS = {"png": "iVBORw0KGgo", "jpeg": "/9j/", "gif": "R0lGOD", "webp": "UklGR"}

# Image generators write their whole workflow into a PNG's text; by default Pillow refuses more than 1 MiB of it
TEXT_LIMIT = PngImagePlugin.MAX_TEXT_MEMORY  # bytes, 64 MiB
PngImagePlugin.MAX_TEXT_CHUNK = TEXT_LIMIT


class Changed(Refusal):
    """A picture has changed since its row was checked."""


def from_file(path: Path, name: str) -> Picture:
    """A picture in a file; `name` is what messages call it."""
    return from_bytes(functools.partial(_read, path), name)


def from_bytes(fetch: Callable[[], bytes], name: str) -> Picture:
    """A picture whose encoded bytes `fetch` returns each time the picture is opened."""
    encoded = functools.partial(_fetched, fetch, name)
    return Picture(name, lambda: _decode(encoded(), name), encoded)


def from_data_uri(uri: str) -> Picture:
    """A picture written as `data:image/png;base64,...`."""
    head = uri[:40].split(",")[0].removeprefix("data:").split(";")[0]
    name = f"data URI ({head or 'no type'}, {len(uri)} characters)"
    return from_bytes(functools.partial(_unpack, uri), name)


def looked_at(picture: Picture, where: str, sizes: MutableMapping[str, tuple[int, int]]) -> Picture:
    """The picture with its size and the digest of its bytes; its pixels are decoded and dropped again.

    From then on it opens only while its bytes stay the same; else opening it raises `Changed`, which names the row
    (`where`). `sizes` maps digests to sizes, so that bytes that many rows share are decoded once. A drawn picture gets
    its size alone. Raises `Refusal` for a picture that can't be used.
    """
    if picture.encoded is None:
        return picture if picture.size else replace(picture, size=picture.open().size)
    data = picture.encoded()
    digest = _digest(data)
    if digest not in sizes:
        sizes[digest] = _decode(data, picture.name).size
    open_again = functools.partial(_open_again, picture, where, digest)
    return replace(picture, open=open_again, size=sizes[digest], digest=digest)


def inside(folder: Path, text: str, *, allow_outside: bool) -> Path:
    """The file that `text` names relative to `folder`, with every symlink and `..` resolved.

    Raises `Refusal` for a file outside the folder: a downloaded data set must not read other files. A name is found
    even if its accents are composed in the text and decomposed on disk (a Mac's archive), or the reverse.
    """
    if text.startswith("file:///"):
        text = unquote(text.removeprefix("file://"))
    if "://" in text:
        raise Refusal(f"picture {shown(text)}: a web address; download it and give a path")
    if len(text) > LONGEST_NAME and (kind := _kind_of_base64(text)):
        fix = f"write data:image/{kind};base64,..."
        raise Refusal(f"picture {shown(text[:40])}...: base64 without its head: {fix}")
    try:
        path = _as_on_disk(folder, text).resolve()
        outside = not path.is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, a symlink loop, a zero byte
        raise Refusal(f"picture {shown(text)}: not a usable path ({shown(str(error))})") from error
    if outside and not allow_outside:
        fix = "--set data.allow_outside=true permits it"
        raise Refusal(f"picture {shown(text)}: leaves the data set's folder ({fix})")
    return path


def shown(text: str) -> str:
    """`text` for a message: printable, on one line, at most 120 characters."""
    plain = "".join(character if character.isprintable() else "?" for character in text[:121])
    return plain if len(plain) <= 120 else plain[:117] + "..."


def _kind_of_base64(text: str) -> str | None:
    """The format of the picture whose base64 begins like `text`; None for other texts."""
    return next((kind for kind, start in BASE64_STARTS.items() if text.startswith(start)), None)


def _as_on_disk(folder: Path, text: str) -> Path:
    """`folder / text`, with each name in the Unicode form that exists on disk, if any does."""
    if text.isascii():
        return folder / text
    path = folder
    for name in Path(text).parts:
        forms = (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))
        path /= next((form for form in forms if (path / form).exists()), name)
    return path


def _read(path: Path) -> bytes:
    try:
        if not path.exists():
            raise Refusal("no such file")
        if not path.is_file():  # a folder, or a pipe that would never end
            raise Refusal("not a file")
        _refuse_large(path.stat().st_size)
        return path.read_bytes()
    except OSError as error:
        raise Refusal(f"can't be read ({error.strerror})") from error


def _unpack(uri: str) -> bytes:
    _refuse_large(len(uri) * 3 // 4)
    head, comma, body = uri.partition(",")
    if not comma or not head.endswith(";base64"):
        raise Refusal("not of the form data:image/png;base64,...")
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(f"broken base64 ({error})") from error


def _refuse_large(size: int) -> None:
    if size > BYTE_LIMIT:
        raise Refusal(f"{size / 1e6:,.0f} MB, above the limit of {BYTE_LIMIT / 1e6:,.0f} MB: scale it down")


def _fetched(fetch: Callable[[], bytes], name: str) -> bytes:
    """The picture's encoded bytes, neither empty nor too large. Raises `Refusal`."""
    try:
        data = fetch()
        if not data:
            raise Refusal("empty")
        _refuse_large(len(data))
        return data
    except Refusal as refusal:
        raise Refusal(f"picture {name}: {refusal}") from refusal


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _open_again(picture: Picture, where: str, digest: str) -> Image.Image:
    fix = f"since its row was checked ({where}): put it back"
    try:
        data = picture.encoded()
    except Refusal as refusal:
        raise Changed(f"{refusal}; this has changed {fix}") from refusal
    if _digest(data) != digest:
        raise Changed(f"picture {picture.name}: its bytes have changed {fix}")
    return _decode(data, picture.name)


def _decode(data: bytes, name: str) -> Image.Image:
    """The picture in RGB: upright as its EXIF orientation says, transparency on white, first frame only."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as file:
            if file.width * file.height > PIXEL_LIMIT:
                raise _bomb(f"{file.width}x{file.height} pixels")
            return _to_rgb(file)
    except Refusal as refusal:
        raise Refusal(f"picture {name}: {refusal}") from refusal
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
        raise Refusal(f"picture {name}: {_reason(error, data)}") from error


def _reason(error: Exception, data: bytes) -> str:
    """What Pillow's error means for the picture's owner."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return str(_bomb("far too many pixels"))
    rare = "a TIFF of a rare kind: save it as PNG" if data.startswith((b"II*\0", b"MM\0*")) else ""
    if isinstance(error, Image.UnidentifiedImageError):
        return f"not a picture that can be read ({rare or ', '.join(FORMATS)})"
    if "MAX_TEXT" in str(error):
        return f"more than {TEXT_LIMIT / 1e6:,.0f} MB of text beside its pixels: save it without its metadata"
    return f"damaged or cut short{rare and f', or {rare}'} ({shown(str(error))})"


def _bomb(size: str) -> Refusal:
    return Refusal(f"{size}, above the limit of {PIXEL_LIMIT:,} (a decompression bomb?)")


def _to_rgb(file: Image.Image) -> Image.Image:
    # Pillow keeps the upper eight bits of 16-bit colours, and forgets how a file was stored once it is loaded
    deep = any(";16" in str(tile.args) for tile in file.tile)
    image = ImageOps.exif_transpose(file)
    if image.mode == "F" or image.mode.startswith("I"):
        return greys.to_eight_bits(image, file).convert("RGB")
    flat = _flat(image)
    if deep and max(high for _, high in flat.getextrema()) < DARK:
        raise Refusal(
            f"16 bits a colour, and no value above {256 * DARK - 1:,} of 65,535 (8- to 14-bit values in a 16-bit "
            "file?): save it with 8 bits a colour"
        )
    return flat


def _flat(image: Image.Image) -> Image.Image:
    """The picture in RGB, transparency on white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
