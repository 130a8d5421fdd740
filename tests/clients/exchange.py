"""The files through which tests ask clients in other languages: requests in, answers out, each a few lines of text.

    request<TAB>SIGNATURE                          answer<TAB>MEDIAN_MS        or: error<TAB>MESSAGE
    NAME<TAB>DTYPE<TAB>SHAPE<TAB>VALUES            NAME<TAB>DTYPE<TAB>SHAPE<TAB>VALUES
    (an empty line)                                (an empty line)

A shape is `2,3`, of a scalar nothing. Values are separated by commas: strings and messages are their bytes in
hexadecimal digits, float32 its bits in eight of them, bool 0 or 1. So no language needs a library to read them, and
answers can be compared bit for bit.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

_TYPES = {"int32": np.int32, "bool": np.bool_}


@dataclass
class Answer:
    """What a client got: outputs by name, or what the error said; and the median time of a call, if it was measured."""

    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    error: str = ""
    ms: float | None = None


def write_requests(path: Path, requests) -> None:
    """Writes `(signature, inputs)`, the inputs being arrays by name; strings are bytes in arrays of objects."""
    with path.open("w", encoding="utf-8") as file:
        for signature, inputs in requests:
            lines = [_line(name, value) for name, value in inputs.items()]
            file.write("\n".join([f"request\t{signature}", *lines, "", ""]))


def read_answers(path: Path) -> list[Answer]:
    """Reads what a client wrote, an answer a request."""
    answers = []
    for block in path.read_text(encoding="utf-8").split("\n\n")[:-1]:
        (kind, told), *lines = (line.split("\t") for line in block.split("\n"))
        if kind == "error":
            answers.append(Answer(error=bytes.fromhex(told).decode("utf-8", "replace")))
        else:
            outputs = {name: _array(dtype, shape, values) for name, dtype, shape, values in lines}
            answers.append(Answer(outputs, ms=float(told) if told else None))
    return answers


def _line(name, value):
    if value.dtype == object:
        dtype, texts = "string", [one.hex() for one in value.ravel()]
    elif value.dtype == np.float32:
        dtype, texts = "float32", [f"{bits:08x}" for bits in value.ravel().view(np.uint32)]
    else:
        dtype, texts = value.dtype.name, [str(int(one)) for one in value.ravel()]
    return "\t".join([name, dtype, ",".join(map(str, value.shape)), ",".join(texts)])


def _array(dtype, shape, values):
    sizes = tuple(int(size) for size in shape.split(",") if size)
    # A single empty string and no string at all are the same text.
    texts = values.split(",") if np.prod(sizes, dtype=int) else []
    if dtype == "string":
        flat = np.empty(len(texts), object)
        flat[:] = [bytes.fromhex(text) for text in texts]
    elif dtype == "float32":
        flat = np.array([int(text, 16) for text in texts], np.uint32).view(np.float32)
    else:
        flat = np.array([int(text) for text in texts], _TYPES[dtype])
    return flat.reshape(sizes)
