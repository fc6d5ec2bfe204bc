"""What authors' own code computed."""

import numpy as np
import torch


def recorded_arrays(folder):
    """Recorded inputs and outputs of a reference checkpoint, by name."""
    with np.load(folder / "io.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}
