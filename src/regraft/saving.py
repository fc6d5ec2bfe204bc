"""GANs as sources on disk: regraft's own safetensors and JSON."""

import pathlib

from regraft import adapter
from regraft.formats import native
from regraft.gan import GAN, Description
from regraft.store import write_json, write_tensors


def save_source(folder: pathlib.Path, gan: GAN) -> None:
    """Write a GAN's networks and description into a folder; loading it gives bit-identical networks.

    Raises:
        MissingCapability: for networks that were handed over as Python modules.
    """
    description, tensors = adapter.stand_alone(gan)
    networks: dict[str, Description] = {"generator": description}
    whole = {f"generator.{k}": v for k, v in tensors.items()}
    if gan.critic is not None:
        networks["critic"] = gan.critic.describe()
        whole |= {f"critic.{k}": v for k, v in gan.critic.state_dict().items()}
    if gan.autoencoder is not None:
        networks["autoencoder"] = gan.autoencoder.describe()
        whole |= {f"autoencoder.{k}": v for k, v in gan.autoencoder.state_dict().items()}
    whole, same = native.without_repeats(whole)
    record = native.record_of(networks, gan.objective, gan.recipe, gan.provenance, gan.aspect) | {"same": same}
    write_tensors(folder / native.TENSORS, whole, {"format": "pt"})
    write_json(folder / native.RECORD, record)
