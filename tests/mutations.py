"""Files made from right ones to break whoever reads them, each by its number alone.

Whatever a function here makes depends on its arguments and the state of ``random``, so that an input
which breaks something can be made again from the number that seeds it.
"""

import copy
import io
import json
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

# Numbers at which counts, sizes and offsets turn over.
EXTREME = (0, 1, -1, 127, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**53 + 1, 2**63 - 1)
EXTREME += (2**63, 2**64 - 1, -(2**63))
# The same as JSON writes them, and numbers that have no bytes of their own.
NUMBERS = (
    *map(str, EXTREME),
    "1e999",
    "-1e999",
    "NaN",
    "Infinity",
    "-Infinity",
    "1e-320",
    "-0.0",
    "0.5",
    "1" + "0" * 400,
    "-1" + "0" * 4000,
    "1" * 5000,
)
TEXTS = (
    "",
    "\0",
    "\ud800",
    "../../x",
    "/etc/passwd",
    "a\nb",
    "NaN",
    "x" * 300,
    "x" * 100_000,
    "%s{0}",
    "-1",
    "\N{ARABIC-INDIC DIGIT ONE}",
)
DEPTHS = (10, 60, 90, 150, 400, 900, 980, 990, 1_000, 1_500, 100_000)


def mutated_bytes(random: Random, data: bytes) -> bytes:
    """A file of which one to three places were changed, wherever they are and whatever is there."""
    for _ in range(random.randint(1, 3)):
        data = random.choice(_OF_BYTES)(random, data)
    return data


def _flipped(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8)) if data else 0):
        changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _replaced(random: Random, data: bytes) -> bytes:
    size = random.choice((1, 2, 4, 8, 64))
    at = random.randrange(len(data) + 1)
    new = random.choice((bytes(size), b"\xff" * size, random.randbytes(size)))
    return data[:at] + new + data[at + size :]


def _with_a_number(random: Random, data: bytes) -> bytes:
    """An extreme whole number, over what is there."""
    size = random.choice((2, 4, 8))
    number = random.choice(EXTREME) % 2 ** (8 * size)
    at = random.randrange(len(data) + 1)
    return data[:at] + number.to_bytes(size, random.choice(("little", "big"))) + data[at + size :]


def _cut(random: Random, data: bytes) -> bytes:
    return data[: random.choice((random.randrange(len(data) + 1), random.randrange(min(64, len(data) + 1))))]


def _extended(random: Random, data: bytes) -> bytes:
    size = random.choice((1, 8, 1_000, 100_000))
    more = random.choice((bytes(size), random.randbytes(size), data[:size]))
    return more + data if random.random() < 0.2 else data + more


def _moved(random: Random, data: bytes) -> bytes:
    """A block removed, given twice, or exchanged with what follows."""
    start, middle, end = sorted(random.randrange(len(data) + 1) for _ in range(3))
    one, other = data[start:middle], data[middle:end]
    return data[:start] + random.choice((b"", one, one + one + other, other + one)) + data[end:]


_OF_BYTES: tuple[Callable[[Random, bytes], bytes], ...] = (
    _flipped,
    _flipped,
    _replaced,
    _with_a_number,
    _cut,
    _extended,
    _moved,
)


def mutated_json(random: Random, value: Any) -> bytes:
    """A JSON file whose values, or in a fifth of all cases whose bytes, are other ones."""
    if random.random() < 0.2:
        return _broken_text(random, json.dumps(value).encode())
    return json_bytes(random, mutated_value(random, value))


def mutated_value(random: Random, value: Any) -> Any:
    """A value with one to three changes of keys, types and numbers, at any depth."""
    value = copy.deepcopy(value)
    for _ in range(random.randint(1, 3)):
        value = _changed(random, value)
    return value


class Written:
    """What stands in a JSON file as these bytes, whether or not it is JSON."""

    def __init__(self, text: str) -> None:
        self.text = text


def json_bytes(random: Random, value: Any) -> bytes:
    """A JSON file, in which a key may stand twice."""
    text = _dumped(random, value, duplicates=random.random() < 0.1)
    return text.encode("utf-8", "surrogatepass" if random.random() < 0.5 else "replace")


def _dumped(random: Random, value: Any, *, duplicates: bool) -> str:
    def dumped(part: Any) -> str:
        if isinstance(part, Written):
            return part.text
        if isinstance(part, Mapping):
            pairs = [(key, dumped(of)) for key, of in part.items()]
            if duplicates and pairs:
                pairs.append((random.choice(pairs)[0], random.choice(pairs)[1]))
            return "{" + ", ".join(f"{json.dumps(key)}: {text}" for key, text in pairs) + "}"
        if isinstance(part, list | tuple):
            return "[" + ", ".join(map(dumped, part)) + "]"
        return json.dumps(part, ensure_ascii=random.random() < 0.9)

    return dumped(value)


def hostile_value(random: Random) -> Any:
    """A value of any type, most likely one that nobody expects."""
    return random.choice(
        (
            lambda: Written(random.choice(NUMBERS)),
            lambda: Written(random.choice(NUMBERS)),
            lambda: random.choice(TEXTS),
            lambda: random.choice((None, True, False, [], {}, [[]], [{}], {"": None}, [None])),
            lambda: [random.choice((1, 0.5, "a", None))] * random.choice((1, 3, 1_000)),
            lambda: Written(nested(random.choice(DEPTHS), random.random() < 0.5)),
        )
    )()


def nested(depth: int, objects: bool) -> str:
    """Lists in lists, or objects in objects."""
    return '{"a":' * depth + "1" + "}" * depth if objects else "[" * depth + "]" * depth


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container with every key in it, at any depth."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            keys: Sequence[Any] = list(one)
        elif isinstance(one, list):
            # Of long lists the first and last entries are as good as all.
            keys = [*range(len(one))] if len(one) <= 8 else [0, 1, len(one) - 1]
        else:
            continue
        found += [(one, key) for key in keys]
        waiting += [one[key] for key in keys]
    return found


def _changed(random: Random, value: Any) -> Any:
    places = _places(value)
    if not places or random.random() < 0.02:
        return hostile_value(random)
    holder, key = random.choice(places)
    kind = random.randrange(14)
    if kind <= 2:
        holder[key] = hostile_value(random)
    elif kind >= 8:
        holder[key] = _alike(random, holder[key])
    elif kind == 3:
        del holder[key]
    elif kind == 4:
        # What stands somewhere else, of whatever type that is.
        other, at = random.choice(places)
        holder[key] = copy.deepcopy(other[at])
    elif kind == 5 and isinstance(holder, dict):
        holder[random.choice((*TEXTS, str(key).upper(), f"{key}x"))] = holder.pop(key)
    elif kind == 6:
        old = holder[key]
        holder[key] = random.choice((str(old), [old], {"a": old}, float(len(str(old))), bool(old)))
    elif isinstance(holder, list):
        holder[:] = random.choice((holder * 2, holder[::-1], holder[:1] * 300, [holder[key]]))
    else:
        holder[key] = hostile_value(random)
    return value


def _alike(random: Random, value: Any) -> Any:
    """Another value of the same type, which may well be as good."""
    if isinstance(value, bool) or value is None:
        return random.choice((True, False, None))
    if isinstance(value, int | float):
        return type(value)(random.choice((0, 1, 2, 3, 7, 100, value * 2, value + 1, -value)))
    return hostile_value(random)


def _broken_text(random: Random, text: bytes) -> bytes:
    at = random.randrange(len(text) + 1)
    return random.choice(
        (
            lambda: mutated_bytes(random, text),
            lambda: b"\xef\xbb\xbf" + text,
            lambda: text[:at] + b"\0" + text[at:],
            lambda: text[:at] + b"\xff\xfe" + text[at:],
            lambda: text.decode().encode("utf-16"),
            lambda: nested(random.choice(DEPTHS), random.random() < 0.5).encode(),
            lambda: b"[" * random.choice(DEPTHS),
            lambda: text + text,
            lambda: random.choice((b"", b" ", b"null", b"[]", b"{}", b'"a"', b"NaN", b"1" * 5000)),
        )
    )()


def mutated_lines(random: Random, lines: Sequence[Any]) -> bytes:
    """A file of JSON values, one on each line."""
    texts = [json.dumps(line).encode() for line in lines]
    number = random.randrange(len(texts))
    kind = random.randrange(4)
    if kind <= 1:
        texts[number] = mutated_json(random, lines[number])
    elif kind == 2:
        texts.insert(number, random.choice((b"", b"\r", texts[0], b"\xe2\x80\xa8", b"\x0c")))
    whole = b"\n".join(texts) + b"\n"
    return mutated_bytes(random, whole) if kind == 3 else whole


def safetensors_parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and the bytes of its tensors."""
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def safetensors_bytes(header: bytes, tensors: bytes, length: int | None = None) -> bytes:
    """A safetensors file that claims its header to have such a length; its own if ``None``."""
    return struct.pack("<Q", len(header) if length is None else length) + header + tensors


def mutated_safetensors(random: Random, data: bytes) -> bytes:
    """A safetensors file with another header, other metadata of ours in it, or other bytes anywhere."""
    header, tensors = safetensors_parts(data)
    kind = random.randrange(7)
    if kind == 0:
        return mutated_bytes(random, data)
    if kind == 1:
        # Damage where the header is; elsewhere it hits numbers, of which any will do.
        start = len(data) - len(tensors)
        return mutated_bytes(random, data[:start]) + tensors
    if kind == 2:
        text = json.dumps(header).encode()
        length = random.choice(
            (0, 1, 7, len(text) - 1, len(text) + 1, 2**20, 100_000_001, 2**31, 2**63, 2**64 - 1)
        )
        return safetensors_bytes(text, tensors, length)
    if kind == 3:
        ours = header["__metadata__"]
        ours["igr"] = mutated_json(random, json.loads(ours["igr"])).decode("utf-8", "replace")
        return safetensors_bytes(json.dumps(header).encode(), tensors)
    if kind == 4:
        return safetensors_bytes(mutated_json(random, header), tensors)
    if kind == 5:
        return safetensors_bytes(json.dumps(header).encode(), mutated_bytes(random, tensors))
    name = random.choice([key for key in header if key != "__metadata__"])
    entry, other = header[name], random.choice([of for key, of in header.items() if key != "__metadata__"])
    random.choice(
        (
            lambda: entry.update(data_offsets=other["data_offsets"]),
            lambda: entry.update(data_offsets=[random.choice(EXTREME), random.choice(EXTREME)]),
            lambda: entry.update(data_offsets=entry["data_offsets"][::-1]),
            lambda: entry.update(
                dtype=random.choice(("F64", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "F4", "?"))
            ),
            lambda: entry.update(shape=[random.choice(EXTREME) for _ in range(random.randrange(4))]),
            lambda: entry.update(shape=[2**32, 2**32, 2**32, 0]),
            lambda: entry.update(shape=[1] * random.choice((30, 70, 5000)) + entry["shape"]),
            lambda: entry.update(shape=other["shape"], dtype=other["dtype"]),
            lambda: entry.update(shape=entry["shape"][::-1]),
            lambda: header.pop(name),
            lambda: header.update({random.choice(TEXTS): header.pop(name)}),
        )
    )()
    # Ones that the encoding refuses cannot be in a file.
    text = json.dumps(header, ensure_ascii=random.random() < 0.5).encode("utf-8", "replace")
    return safetensors_bytes(text, tensors)


def mutated_gzip(random: Random, content: bytes, forged: bytes) -> bytes:
    """A gzip archive of a content that is not what it should be, or of the right one with a broken form.

    Arguments:
        random: What happens.
        content: The right content.
        forged: What stands at the end of an archive of it, CRC-32 and length; many of the others end so too.
    """
    kind = random.randrange(6)
    other = content if kind <= 1 else mutated_bytes(random, content)
    if kind == 5:
        other += bytes(random.choice((1, 10**6)))
        if random.random() < 0.3:
            # The right one and much more.
            packer = zlib.compressobj(1, zlib.DEFLATED, 31)
            start = packer.compress(content) + packer.flush(zlib.Z_FULL_FLUSH)
            return start + deflated_zeros(600) + forged
    packer = zlib.compressobj(random.choice((0, 1, 9)), zlib.DEFLATED, 31)
    archive = packer.compress(other) + packer.flush()
    if kind == 1:
        # Flags of the header, behind which come fields of any length.
        flags = random.randrange(256)
        extra = random.choice((b"", b"x" * 100_000, b"\0", b"\xff\xff" + b"x" * 70_000))
        return archive[:3] + bytes([flags]) + archive[4:10] + extra + archive[10:]
    if random.random() < 0.6:
        archive = archive[:-8] + forged
    if kind == 0:
        body = mutated_bytes(random, archive[:-8])
        return body + archive[-8:] if random.random() < 0.7 else mutated_bytes(random, archive)
    return archive


def deflated_zeros(megabytes: int) -> bytes:
    """So many times 2^20 zeros as a stream of deflate, made in no time."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * megabytes + packer.flush()


# The methods of right archives.
_READ = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Positions and forms in an entry of the central directory of a zip archive.
_FIELDS = {
    "version": (6, "<H"),
    "flags": (8, "<H"),
    "method": (10, "<H"),
    "date": (12, "<I"),
    "crc": (16, "<I"),
}
_FIELDS |= {
    "packed": (20, "<I"),
    "size": (24, "<I"),
    "name": (28, "<H"),
    "extra": (30, "<H"),
    "comment": (32, "<H"),
}
_FIELDS |= {"attributes": (38, "<I"), "offset": (42, "<I")}
_NAMES = (
    "../x",
    "/etc/passwd",
    "a/../../x",
    "C:\\x",
    "..\\x",
    "a\nb",
    "x" * 60_000,
    "\0",
    ".",
    "",
    "é/ü",
    "__MACOSX/._x",
)


def mutated_zip(
    random: Random, files: Mapping[str, bytes], mutated_image: Callable[[Random, bytes], bytes]
) -> bytes:
    """A zip archive with other files, other names, another directory, or other bytes anywhere.

    Arguments:
        random: What happens.
        files: What a right one has, images, by their names.
        mutated_image: Makes another image of one.
    """
    names = list(files)
    victim = random.choice(names)
    kind = random.randrange(10)
    if kind == 0:
        return mutated_bytes(random, zipped(files))
    if kind <= 3:
        return zipped({**files, victim: mutated_image(random, files[victim])}, random.choice(_READ))
    if kind == 4:
        entries = [*files.items()]
        entries.insert(random.randrange(len(entries)), (random.choice((*_NAMES, victim)), files[victim]))
        return zipped(entries, random.choice(_READ))
    if kind == 5:
        # A bomb, which may be declared as what it is.
        megabytes = random.choice((1, 600))
        data = zipped({**files, victim: deflated_zeros(megabytes)}, zipfile.ZIP_STORED)
        data = patched_zip(data, victim, "method", zipfile.ZIP_DEFLATED)
        return patched_zip(
            data, victim, "size", random.choice((megabytes * 2**20, len(files[victim]), 2**32 - 2))
        )
    if kind == 6:
        link = zipfile.ZipInfo(victim)
        link.create_system, link.external_attr = 3, random.choice((0o120777, 0o020666, 0o010666)) << 16
        return zipped({**{name: of for name, of in files.items() if name != victim}, link: b"/etc/passwd"})
    if kind == 7:
        return patched_zip(zipped(files), victim, "method", random.choice((1, 8, 9, 12, 14, 93, 99)))
    if kind == 8:
        # The end of the directory, and what is before it in archives of more than 4 GB.
        data = zipped(files)
        start = data.rindex(b"PK\5\6")
        end = mutated_bytes(random, data[start:]) if random.random() < 0.5 else data[start:]
        locator = struct.pack("<4sIQI", b"PK\6\7", 0, random.choice(EXTREME) % 2**64, 1)
        sizes = [random.choice((len(files), len(data), start, *EXTREME)) % 2**64 for _ in range(4)]
        record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, *sizes)
        return data[:start] + random.choice((b"", record + locator, locator)) + end
    data = zipped(files, random.choice(_READ))
    for _ in range(random.randint(1, 3)):
        field = random.choice([*_FIELDS])
        data = patched_zip(data, victim, field, random.choice(EXTREME))
    return data


def zipped(
    files: Mapping[Any, bytes] | Sequence[tuple[Any, bytes]], method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    """A zip archive, the same one at every call; a name may be there twice."""
    buffer = io.BytesIO()
    pairs = files.items() if isinstance(files, Mapping) else files
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings(action="ignore"):
        for name, data in pairs:
            archive.writestr(
                name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name), data, method
            )
    return buffer.getvalue()


def patched_zip(data: bytes, name: str, field: str, value: int) -> bytes:
    """An archive whose directory says something else of a file."""
    at, form = _FIELDS[field]
    changed = bytearray(data)
    start = data.rfind(name.encode()) - 46
    if start >= 0:
        struct.pack_into(form, changed, start + at, value % 2 ** (8 * struct.calcsize(form)))
    return bytes(changed)
