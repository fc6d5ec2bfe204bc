"""How different two sets of images look to a network: distances between its features, layer by layer.

Three networks serve: the source's critic (by stage), VGG16 and MobileNet v1 from files that the user has.
"""

import abc
import copy
import pathlib

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

from regraft.core.errors import SourceError
from regraft.core.gan import GAN
from regraft.core.networks import Critic, evaluating
from regraft.extractors import mobilenet_v1
from regraft.files.weights import read_state_dict

VGG_CONVS = ((0, 64), (2, 64), (5, 128), (7, 128), (10, 256), (12, 256), (14, 256), (17, 512), (19, 512), (21, 512))
"""conv1_1 to conv4_3 of VGG16: position in the usual list of layers, and width."""
VGG_POOLED = (5, 10, 17)
"""Positions of convolutions that come after a pooling layer."""
VGG_MEAN = (103.939, 116.779, 123.68)
"""Mean of blue, green and red, in [0, 255], which the published weights expect to be subtracted."""
TORCH_MEAN, TORCH_SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of red, green and blue, in [0, 1], by which weights with torch's names expect images standardised."""

MOBILE_KEPT = (1, 3, 5, 11)
"""Separable convolutions of MobileNet v1 that are compared: the last one at each resolution."""


class Perception(nn.Module, abc.ABC):
    """A frozen network that compares images.

    Attributes:
        relative: whether differences are divided by the features' own size, for networks whose features have no known scale.
    """

    relative: bool = True

    @abc.abstractmethod
    def features(self, images: Tensor) -> list[Tensor]:
        """Return the features (N, ...) of images (N, C, H, W) in [-1, 1], one tensor per compared layer, from the image on."""

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """Return the mean absolute differences of features, divided by the target's mean if ``relative``, summed over layers.

        Args:
            x: images (N, C, H, W), through which gradients pass.
            target: images of the same shape.

        Returns:
            Scalar.
        """
        with torch.no_grad():
            target_features = self.features(target)
        differences = []
        for ours, theirs in zip(self.features(x), target_features, strict=True):
            difference = (ours - theirs).abs().mean()
            differences.append(difference / theirs.abs().mean().clamp_min(1e-8) if self.relative else difference)
        return torch.stack(differences).sum()


class CriticPerception(Perception):
    """Compares the outputs of a critic's hidden stages."""

    def __init__(self, critic: Critic) -> None:
        super().__init__()
        self.critic = copy.deepcopy(critic).requires_grad_(False).eval()

    def features(self, images: Tensor) -> list[Tensor]:
        """See :meth:`Perception.features`."""
        outputs: list[Tensor] = []

        def keep(module: nn.Module, inputs: object, output: object) -> None:
            # Some blocks hand on features and an image.
            value = output[0] if isinstance(output, tuple) else output
            if isinstance(value, Tensor):
                outputs.append(value)

        hooks = [stage.register_forward_hook(keep) for stage in self.critic.stages[:-1]]
        try:
            with evaluating(self.critic):
                self.critic(images)
        finally:
            for hook in hooks:
                hook.remove()
        return outputs


class FilePerception(Perception):
    """A network from a file, whose tensors move with the module."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.names = sorted(tensors)
        for number, name in enumerate(self.names):
            self.register_buffer(f"t{number}", tensors[name].detach().clone().float(), persistent=False)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Tensors by the file's names."""
        return {name: self.get_buffer(f"t{number}") for number, name in enumerate(self.names)}


class VGG16(FilePerception):
    """The ten convolutions from conv1_1 to conv4_3, after relu.

    Weights named conv1_1 ... are the published ones, trained with Caffe: they expect blue first, values in [0, 255] and means
    subtracted, and their features are compared as they are.  Weights with torch's names (``features.0.weight``) are taken to
    expect red first and unit deviation; their features have another size.
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__(tensors)
        self.relative = "features.0.weight" in self.names

    def features(self, images: Tensor) -> list[Tensor]:
        """See :meth:`Perception.features`."""
        x = (images.expand(-1, 3, -1, -1) + 1) / 2
        if self.relative:
            mean, spread = (images.new_tensor(v).view(1, 3, 1, 1) for v in (TORCH_MEAN, TORCH_SPREAD))
            x = (x - mean) / spread
        else:
            x = x.flip(1) * 255 - images.new_tensor(VGG_MEAN).view(1, 3, 1, 1)
        t, outputs = self.tensors, []
        for number, name in enumerate(_vgg_names(self.names)):
            if VGG_CONVS[number][0] in VGG_POOLED and min(x.shape[2:]) >= 2:
                x = F.max_pool2d(x, 2)
            x = F.relu(F.conv2d(x, t[f"{name}.weight"], t[f"{name}.bias"], padding=1))
            outputs.append(x)
        return outputs


class MobileNetV1(FilePerception):
    """The last layer of MobileNet v1 at each resolution from half to a sixteenth of the side.

    Small images are enlarged to 64 pixels: the network halves them at once.
    """

    def features(self, images: Tensor) -> list[Tensor]:
        """See :meth:`Perception.features`."""
        x = images.expand(-1, 3, -1, -1)
        side = min(x.shape[2:])
        if side < 64:
            x = F.interpolate(x, scale_factor=-(-64 // side), mode="bilinear", align_corners=False)
        outputs = mobilenet_v1.block_outputs(self.tensors, x, max(MOBILE_KEPT))
        return [output for k, output in enumerate(outputs, start=1) if k in MOBILE_KEPT]


def perception(name: str, source: GAN | None) -> Perception | None:
    """Make the network that a setting names.

    Args:
        name: ``critic``, ``none``, or a file of VGG16's or MobileNet v1's tensors.
        source: whose critic may serve.

    Raises:
        MissingCapability: if there is no critic.
        SourceError: if the file is missing, or holds neither VGG16 nor MobileNet v1.
    """
    if name == "none":
        return None
    if name == "critic":
        if source is None:
            raise SourceError("perceptual=critic needs a source")
        return CriticPerception(source.require("critic", for_="bsa with perceptual=critic"))
    tensors = _read(pathlib.Path(name))
    if "conv_pw_1.weight" in tensors:
        return MobileNetV1(_checked(tensors, mobilenet_v1.tensor_shapes(max(MOBILE_KEPT)), name))
    names = _vgg_names(list(tensors))
    if names:
        widths = [width for _, width in VGG_CONVS]
        shapes: dict[str, tuple[int, ...]] = {
            f"{n}.weight": (b, a, 3, 3) for n, a, b in zip(names, [3, *widths[:-1]], widths, strict=True)
        }
        shapes |= {f"{n}.bias": (b,) for n, b in zip(names, widths, strict=True)}
        return VGG16(_checked(tensors, shapes, name))
    raise SourceError(
        f"{name}: neither VGG16 (features.0.weight ..., or conv1_1.weight ...) nor MobileNet v1 (conv_pw_1.weight ...); it "
        f"holds {next(iter(tensors), 'nothing')} ..."
    )


def _vgg_names(names: list[str]) -> list[str]:
    """Return the names of the ten convolutions as a file spells them, none if it is no VGG16."""
    by_number = [f"features.{number}" for number, _ in VGG_CONVS]
    by_block = [f"conv{b}_{k}" for b, count in ((1, 2), (2, 2), (3, 3), (4, 3)) for k in range(1, count + 1)]
    return next((convs for convs in (by_number, by_block) if f"{convs[0]}.weight" in names), [])


def _checked(tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], where: str) -> dict[str, Tensor]:
    """Return the tensors that are compared, with their shapes checked; later layers and the classifier are left out."""
    for name, shape in shapes.items():
        if name not in tensors:
            raise SourceError(f"{where}: a perceptual network without the tensor {name}")
        if tuple(tensors[name].shape) != shape:
            raise SourceError(f"{where}: {name} is {tuple(tensors[name].shape)}, must be {shape}")
    return {name: tensors[name] for name in shapes}


def _read(path: pathlib.Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise SourceError(f"{path}: there is no such file; perceptual= takes critic, none, or a file of VGG16 or MobileNet v1")
    return read_state_dict(path)
