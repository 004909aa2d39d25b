"""A zip with one program in it, the same bytes for the same program whenever and wherever it is made."""

import struct
import zlib

import deflate

# What zip tools take for "no time": the first day it can say, 1980-01-01 00:00:00.
_DATE, _TIME = (1 << 5) | 1, 0
_MODE = 0o100755  # a regular file that everybody may read and run; Lambda runs it as a user of its own
_UNIX, _VERSION, _DEFLATED = 3 << 8, 20, 8


def zipped(program: bytes, name: str = "bootstrap") -> bytes:
    """The zip's bytes.

    Python's own `zipfile` compresses with whatever zlib the interpreter was linked to, and those differ; the library here comes with its
    compressor, at an exact version. What is written down is name, size, checksum and mode, and nothing of the file it was read from.
    """
    packed = deflate.deflate_compress(program, 9)
    label = name.encode("ascii")
    entry = struct.pack(
        "<HHHHHIIIHH", _VERSION, 0, _DEFLATED, _TIME, _DATE, zlib.crc32(program), len(packed), len(program), len(label), 0
    )
    local = b"PK\x03\x04" + entry + label + packed
    central = b"PK\x01\x02" + struct.pack("<H", _UNIX | _VERSION) + entry + struct.pack("<HHHII", 0, 0, 0, _MODE << 16, 0) + label
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)
    return local + central + end
