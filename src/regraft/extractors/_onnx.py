"""Networks in ONNX files, run by ONNX Runtime: the optional extra ``onnx``."""

import pathlib
from collections.abc import Callable

import torch
from torch import Tensor

from regraft.errors import MissingCapability, SourceError


def graph(path: pathlib.Path) -> Callable[[Tensor], Tensor]:
    """The first output of an ONNX graph with one input.

    Args:
        path: the file.

    Returns:
        Function of images (N, C, H, W), float32, on the CPU.

    Raises:
        MissingCapability: if ONNX Runtime is not installed.
        SourceError: if the file is no such graph, or (on use) does not run.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped]
        from onnxruntime.capi import onnxruntime_pybind11_state as runtime  # type: ignore[import-untyped]
    except ImportError:
        raise MissingCapability(f"{path}: ONNX files need ONNX Runtime: pip install 'regraft[onnx]'") from None
    # Its errors have no common base of their own.
    failures = tuple(e for e in vars(runtime).values() if isinstance(e, type) and issubclass(e, Exception))

    def failed(does: str, error: Exception) -> SourceError:
        return SourceError(f"{path}: {does}: {' '.join(str(error).split())[-200:]}")

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what is wrong is said by the error
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except failures as error:
        raise failed("is not a graph that ONNX Runtime reads", error) from None
    inputs = [i.name for i in session.get_inputs()]
    if len(inputs) != 1:
        raise SourceError(f"{path}: has {len(inputs)} inputs ({', '.join(inputs)}); a feature network has one, the images")
    output = session.get_outputs()[0].name

    def run(images: Tensor) -> Tensor:
        try:
            found = session.run([output], {inputs[0]: images.float().cpu().numpy()})[0]
        except failures as error:
            raise failed(f"does not run on {len(images)} images of {tuple(images.shape[1:])}", error) from None
        return torch.from_numpy(found)

    return run
