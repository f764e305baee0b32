"""How SmolVLM's processor cuts a picture into tiles, from its size alone. Needs no library."""

import math
from dataclasses import dataclass, replace

LONGEST = 4096  # pixels of a side, even if the settings ask for more


@dataclass(frozen=True)
class Tiling:
    """A processor's settings, in pixels."""

    longest: int  # what a picture's longer side is scaled to, up or down
    side: int  # of a tile
    splits: bool = True  # False: a picture is one tile

    @property
    def most(self) -> int:
        """The most tiles along the longer side."""
        return math.ceil(min(self.longest, LONGEST) / self.side) if self.splits else 1

    def narrowed(self, width: int, height: int, limit: int | None) -> "Tiling":
        """The settings for one picture with the most tiles whose grid fits into `limit` pixels, or one tile."""
        if limit is None:
            return self
        for count in range(self.most, 1, -1):
            fewer = replace(self, longest=min(self.longest, count * self.side))
            rows, columns = fewer.grid(width, height)
            if rows * columns * self.side**2 <= limit:
                return fewer
        return replace(self, splits=False)

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of tiles, with the steps and rounding of the processor."""
        if not self.splits:
            return 1, 1
        wide = width >= height
        aspect = width / height
        long, short = self.longest, int(self.longest / aspect if wide else self.longest * aspect)
        short = max(short + short % 2, 1)
        if long > LONGEST:
            aspect = long / short if wide else short / long
            long, short = LONGEST, max(int(LONGEST / aspect if wide else LONGEST * aspect), 1)
        # the side that was longer may now be the shorter one by a pixel
        columns, rows = (long, short) if wide else (short, long)
        aspect = columns / rows
        if columns >= rows:
            columns = math.ceil(columns / self.side)
            rows = math.ceil(int(columns * self.side / aspect) / self.side)
        else:
            rows = math.ceil(rows / self.side)
            columns = math.ceil(int(rows * self.side * aspect) / self.side)
        return rows, columns
