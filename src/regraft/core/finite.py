"""Numbers that are not finite (NaN or infinite) in weights: which tensors hold them, and how many."""

from collections.abc import Mapping

from torch import Tensor


def nonfinite(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Tensors that hold numbers that are not finite.

    Args:
        tensors: by name.

    Returns:
        Name to how many, in words: ``3 of 768 numbers``.
    """
    found = {}
    for name, value in tensors.items():
        # Two numbers decide without a copy of the tensor: a NaN or an infinity is its least or greatest one.
        if value.is_floating_point() and value.numel() and not all(end.isfinite() for end in value.aminmax()):
            found[name] = f"{int((~value.isfinite()).sum())} of {value.numel()} numbers"
    return found
