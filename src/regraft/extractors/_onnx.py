"""Run networks in ONNX files with ONNX Runtime, which the optional extra ``onnx`` installs.

A graph may keep its weights in other files, which the digest of its own file does not cover.  Such graphs are recognised by the
fields of the file, and refused.

Source: onnx.proto (names and numbers of the fields), and the encoding of protocol buffers.
"""

import pathlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from regraft.core.errors import MissingCapability, SourceError

PARTS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""Messages that may contain a tensor, and their fields that lead to one."""
LOCATION = 14
"""Field of a tensor that says where its values are; 0 means in the file."""
WIDTHS = {1: 8, 2: 0, 5: 4}
"""Bytes of a field's value by its type; 0 if a length stands before the value."""


def graph(path: pathlib.Path) -> Callable[[Tensor], Tensor]:
    """Load an ONNX graph with one input.

    Args:
        path: the file.

    Returns:
        Function of images (N, C, H, W), float32, on the CPU, that returns the first output.

    Raises:
        MissingCapability: if ONNX Runtime is not installed.
        SourceError: if the file is no such graph or keeps tensors in other files; when called, if the graph does not run.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped]
        from onnxruntime.capi import onnxruntime_pybind11_state as runtime  # type: ignore[import-untyped]
    except ImportError:
        raise MissingCapability(f"{path}: ONNX files need ONNX Runtime: pip install 'regraft[onnx]'") from None
    # Errors of ONNX Runtime have no base class of their own.
    failures = tuple(e for e in vars(runtime).values() if isinstance(e, type) and issubclass(e, Exception))
    unreadable: tuple[type[Exception], ...] = (*failures, OSError, UnicodeDecodeError, _Malformed)

    def failure(what: str, error: Exception) -> SourceError:
        return SourceError(f"{path}: {what}: {' '.join(str(error).split())[-200:]}")

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # the error says what is wrong
    options.add_session_config_entry("session.load_model_format", "ONNX")  # its other format has other fields
    try:
        content = path.read_bytes()
        if _refers_to_files(content):
            raise SourceError(
                f"{path}: keeps tensors in other files, which its sha256 does not cover; save it as one file: "
                "onnx.save(onnx.load(FILE), OTHER_FILE)"
            )
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except unreadable as error:
        raise failure("is not a graph that ONNX Runtime reads", error) from None
    inputs = [i.name for i in session.get_inputs()]
    if len(inputs) != 1:
        raise SourceError(f"{path}: has {len(inputs)} inputs ({', '.join(inputs)}); a feature network has one, the images")
    output = session.get_outputs()[0].name

    def run(images: Tensor) -> Tensor:
        try:
            values = session.run([output], {inputs[0]: images.float().cpu().numpy()})[0]
        except failures as error:
            raise failure(f"does not run on {len(images)} images of {tuple(images.shape[1:])}", error) from None
        return torch.from_numpy(values)

    return run


class _Malformed(Exception):
    """The bytes are no protocol buffer."""


def _refers_to_files(model: bytes) -> bool:
    """Return whether a tensor of the model has its values in another file."""
    unread = [("model", memoryview(model))]
    while unread:
        kind, message = unread.pop()
        for number, value in _fields(message):
            if isinstance(value, int):
                if kind == "tensor" and number == LOCATION and value:
                    return True
            elif number in PARTS[kind]:
                unread.append((PARTS[kind][number], value))
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield numbers and values (integers or bytes) of the fields of a protocol buffer.

    Raises:
        _Malformed: if the bytes are none.
    """
    at = 0
    while at < len(message):
        tag, at = _integer(message, at)
        number, wire = (tag & 0xFFFFFFFF) >> 3, tag & 7
        if wire == 0:
            value, at = _integer(message, at)
            yield number, value
            continue
        if wire not in WIDTHS:
            raise _Malformed(f"field {number} of type {wire}")
        size, at = (WIDTHS[wire], at) if WIDTHS[wire] else _integer(message, at)
        if size > len(message) - at:
            raise _Malformed(f"field {number} goes beyond the end")
        yield number, message[at : at + size]
        at += size


def _integer(message: memoryview, at: int) -> tuple[int, int]:
    """Read an integer of seven bits per byte; return it and the position after it."""
    value = 0
    for place, byte in enumerate(message[at : at + 10]):
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise _Malformed("an integer without an end")
