"""Files that extractors are made from."""

import torch


def network_card(folder, text):
    """Write the card of a network; return the extractor's name with it."""
    path = folder / "card.yaml"
    path.write_text(text)
    return f"network:{path}"


class Program(torch.nn.Module):
    """Counts nothing, keeps what it was given visible: the mean of each colour of its bytes."""

    def __init__(self):
        super().__init__()
        self.output = torch.nn.Linear(3, 4)

    def forward(self, img: torch.Tensor, return_features: bool = False):
        return img.float().mean((2, 3)) if return_features else self.output(img.float().mean((2, 3)))
