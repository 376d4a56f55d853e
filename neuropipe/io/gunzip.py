"""A gzip file read from any place: states of the inflater are kept on the way through it."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

# Unpacked bytes between two kept states, of about 100 kB each.
MARK_BYTES = 2**25
INPUT_BYTES = 2**16
GZIP = 31  # window bits: gzip's header and checksum


class Gunzip(io.RawIOBase):
    """Unpacked bytes of a gzip file; a step back costs `MARK_BYTES` at most, not the whole file.

    Parameters
    ----------
    path : of one or several members, zeros behind them
    end : unpacked bytes that are of interest; once they are read, the rest is read too, so that
        the checksum at the end is compared

    Notes
    -----
    Not for several threads at once; nibabel's proxies hold a lock.
    """

    def __init__(self, path: str | Path, end: int) -> None:
        super().__init__()
        self._file = open(path, "rb")  # noqa: SIM115  closed by `close`
        self._inflate = zlib.decompressobj(GZIP)
        self._at = 0
        self._end = end
        self._marks = [(0, 0, self._inflate.copy())]

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that it can be read from any place."""
        return True

    def tell(self) -> int:
        """Return the unpacked position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an unpacked position, from the start or from here."""
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("the unpacked size is not known before it is read")
        target = offset + (self._at if whence == io.SEEK_CUR else 0)
        at, place, state = max(
            (mark for mark in self._marks if mark[0] <= target), key=lambda mark: mark[0]
        )
        if target < self._at or at > self._at:
            self._at, self._inflate = at, state.copy()
            self._file.seek(place)
        while self._at < target and self._piece(min(target - self._at, MARK_BYTES)):
            pass
        return self._at

    def readinto(self, buffer) -> int:
        """Fill a buffer as far as one step of unpacking does."""
        view = memoryview(buffer).cast("B")
        piece = self._piece(len(view)) if len(view) else b""
        view[: len(piece)] = piece
        if self._at >= self._end:
            place, state, at = self._file.tell(), self._inflate.copy(), self._at
            while self._piece(MARK_BYTES):
                pass
            self._file.seek(place)
            self._inflate, self._at, self._end = state, at, 2**63
        return len(piece)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def _piece(self, most: int) -> bytes:
        """Return the next bytes, none at the end of the file."""
        while True:
            if self._inflate.eof:
                source = self._inflate.unused_data or self._file.read(INPUT_BYTES)
                if not source:
                    return b""
                source = source.lstrip(b"\0")
                self._inflate = zlib.decompressobj(GZIP)
                if not source:
                    source = self._after_zeros()
                    if not source:
                        return b""
            else:
                source = self._inflate.unconsumed_tail or self._file.read(INPUT_BYTES)
                if not source:
                    raise EOFError(f"the packed data end after {self._at} bytes, in mid-stream")
            piece = self._inflate.decompress(source, most)
            if piece:
                self._at += len(piece)
                if self._at >= self._marks[-1][0] + MARK_BYTES:
                    self._marks.append((self._at, self._file.tell(), self._inflate.copy()))
                return piece

    def _after_zeros(self) -> bytes:
        while source := self._file.read(INPUT_BYTES):
            if source := source.lstrip(b"\0"):
                return source
        return b""
