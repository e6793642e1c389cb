"""Read which primary keys an OpenPGP file holds (RFC 4880 §4, §6, §12.2; RFC 9580 §5.5.4), without gpg."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator

from rackhand.remote.problem import Problem

ARMOR = re.compile(
    rb"^-----BEGIN PGP PUBLIC KEY BLOCK-----[ \t]*\r?\n(?P<headers>(?:[^\r\n:]+: [^\r\n]*\r?\n)*)[ \t]*\r?\n"
    rb"(?P<body>[A-Za-z0-9+/=\s]+?)^(?:=(?P<checksum>[A-Za-z0-9+/]{4})[ \t]*\r?\n)?-----END PGP PUBLIC KEY BLOCK-----",
    re.MULTILINE,
)
PUBLIC_KEY = 6
# Signature, marker, trust, user id, public subkey, user attribute, padding: all that may follow a public key.
COMPANIONS = (2, 10, 12, 13, 14, 17, 21)
CRC24_INIT, CRC24_POLYNOMIAL = 0xB704CE, 0x1864CFB


def fingerprints(data: bytes) -> list[str]:
    """Return the fingerprints (upper-case hex) of the primary keys in `data`, armored or binary, in order.

    Raises Problem `repository-key` when `data` is anything but public keys.
    """
    try:
        return [_fingerprint(body) for block in _blocks(data) for tag, body in _packets(block) if tag == PUBLIC_KEY]
    except (ValueError, IndexError) as error:
        what = f"the key file is not an OpenPGP public key: {error}"
    raise Problem("repository-key", what, "check what the key's URL really serves")


def _blocks(data: bytes) -> Iterator[bytes]:
    if b"-----BEGIN PGP" not in data:
        yield data
        return
    matches = list(ARMOR.finditer(data))
    if len(matches) != data.count(b"-----BEGIN PGP"):
        raise ValueError("a damaged or private armored block")
    for match in matches:
        yield _dearmor(match["body"], match["checksum"])


def _dearmor(body: bytes, checksum: bytes | None) -> bytes:
    try:
        block = base64.b64decode(b"".join(body.split()), validate=True)
        expected = None if checksum is None else base64.b64decode(checksum)
    except binascii.Error as error:
        raise ValueError(f"bad base64 ({error})") from None
    if expected is not None and expected != _crc24(block):
        raise ValueError("wrong checksum, the file is damaged")
    return block


def _crc24(block: bytes) -> bytes:
    crc = CRC24_INIT
    for byte in block:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= CRC24_POLYNOMIAL
    return crc.to_bytes(3, "big")


def _packets(block: bytes) -> Iterator[tuple[int, bytes]]:
    position, first = 0, True
    while position < len(block):
        tag, start, length = _header(block, position)
        position = start + length
        if position > len(block):
            raise ValueError("the file ends inside a packet")
        if tag not in ((PUBLIC_KEY,) if first else (PUBLIC_KEY, *COMPANIONS)):
            raise ValueError(f"unexpected packet type {tag}")
        first = False
        yield tag, block[start:position]
    if first:
        raise ValueError("the file is empty")


def _header(block: bytes, position: int) -> tuple[int, int, int]:
    """Return tag, start and length in bytes of the packet's body."""
    head = block[position]
    if not head & 0x80:
        raise ValueError("no packet header where one must be")
    if head & 0x40:
        return (head & 0x3F, *_new_length(block, position + 1))
    kind = head & 3
    if kind == 3:
        raise ValueError("a packet of indeterminate length")
    start = position + 1 + (1 << kind)
    if start > len(block):
        raise ValueError("the file ends inside a packet")
    return head >> 2 & 0xF, start, int.from_bytes(block[position + 1 : start], "big")


def _new_length(block: bytes, position: int) -> tuple[int, int]:
    first = block[position]
    if first < 192:
        return position + 1, first
    if first < 224:
        return position + 2, ((first - 192) << 8) + block[position + 1] + 192
    if first < 255:
        raise ValueError("a key in partial packets")
    return position + 5, int.from_bytes(block[position + 1 : position + 5], "big")


def _fingerprint(body: bytes) -> str:
    if len(body) < 6:
        raise ValueError("an empty key packet")
    if body[0] == 4:
        # SHA-1 is what version 4 defines; it names the key here, and the wanted name is pinned in full.
        return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False).hexdigest().upper()
    if body[0] == 6:
        return hashlib.sha256(b"\x9b" + len(body).to_bytes(4, "big") + body).hexdigest().upper()
    raise ValueError(f"a key of version {body[0]}")
