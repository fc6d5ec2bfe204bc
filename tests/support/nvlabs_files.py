"""Writes pickles as NVlabs' code does, from known tensors and without that code."""

import contextlib
import io
import pickle
import re
import sys
import types

import numpy as np
import torch

from support.torch_writer import legacy_bytes

FIR = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64


class EasyDict(dict):
    """NVlabs' dictionary with attributes, by its name alone."""


class Network:
    """Stands for dnnlib.tflib.network.Network."""

    def __init__(self, state):
        self.__dict__.update(state)


class Module:
    """A module that pickles through NVlabs' device."""

    def __init__(self, class_name, state, source="raise RuntimeError('must never run')"):
        self.meta = {"type": "class", "version": 6, "module_src": source, "class_name": class_name, "state": state}

    def __reduce__(self):
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)


@contextlib.contextmanager
def nvlabs_modules():
    """The modules whose names the pickles carry, for as long as a file is written or changed."""

    def _reconstruct_persistent_obj(meta):
        made = Module.__new__(Module)
        made.meta = meta
        return made

    members = {
        "torch_utils": {},
        "torch_utils.persistence": {"_reconstruct_persistent_obj": _reconstruct_persistent_obj},
        "dnnlib": {},
        "dnnlib.util": {"EasyDict": EasyDict},
        "dnnlib.tflib": {},
        "dnnlib.tflib.network": {"Network": Network},
    }
    for name, content in members.items():
        module = types.ModuleType(name)
        for key, value in content.items():
            value.__module__, value.__qualname__ = name, key
            setattr(module, key, value)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in members:
            del sys.modules[name]


class Pickler(pickle.Pickler):
    """Writes storages as torch does, but for their keys, which torch makes of addresses."""

    def reducer_override(self, value):
        if isinstance(value, torch.storage.TypedStorage):
            return torch.storage._load_from_bytes, (legacy_bytes(value),)
        return NotImplemented


def dumped(content, protocol=3):
    """Bytes of a pickle, the same in every process."""
    made = io.BytesIO()
    with nvlabs_modules():
        Pickler(made, protocol).dump(content)
    return made.getvalue()


def tree(tensors, class_name, options, attributes=None, as_buffers=(), filters=True):
    """A module tree from named tensors.

    Args:
        tensors: names to tensors.
        class_name: of the root.
        options: its ``_init_kwargs``.
        attributes: module path to attributes that it has beside tensors.
        as_buffers: parameters whose names begin so are stored as buffers, as frozen layers are.
        filters: whether convolutions carry StyleGAN2's resampling filter.
    """
    buffers = re.compile(r"(w_avg|noise_const|magnitude_ema|up_filter|down_filter|freqs|phases|transform)$")
    tensors = dict(tensors)
    if filters:
        stems = {name.rpartition(".")[0] for name, value in tensors.items() if name.endswith("weight") and value.dim() == 4}
        blocks = {re.match(r"(.*\bb\d+)", stem)[1] for stem in stems}
        tensors |= {f"{stem}.resample_filter": FIR.clone() for stem in stems | blocks if "torgb" not in stem}

    def build(prefix):
        inside = {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
        state = {"training": False, "_parameters": {}, "_buffers": {}, "_non_persistent_buffers_set": set(), "_modules": {}}
        for name, value in inside.items():
            head, _, tail = name.partition(".")
            if tail:
                if head not in state["_modules"]:
                    state["_modules"][head] = build(f"{prefix}{head}.")
            elif buffers.search(name) or name == "resample_filter" or (prefix + name).startswith(tuple(as_buffers)):
                state["_buffers"][name] = value.detach()
            else:
                state["_parameters"][name] = torch.nn.Parameter(value.detach().clone(), requires_grad=False)
        state["_parameters"]["none"] = None
        state["_init_args"], state["_init_kwargs"] = (), easy(options) if not prefix else EasyDict()
        state["weight_gain"] = np.float64(0.5)
        state.update((attributes or {}).get(prefix.rstrip("."), {}))
        return Module(class_name if not prefix else "Part", state)

    return build("")


def easy(options):
    """Settings as nested dictionaries of theirs."""
    return EasyDict({k: EasyDict(v) if isinstance(v, dict) else v for k, v in options.items()})


def tf_network(name, variables, options, components=None, function="G_main"):
    """A TensorFlow network."""
    return Network(
        {
            "version": 4,
            "name": name,
            "static_kwargs": options,
            "components": components or {},
            "build_module_src": "raise RuntimeError('must never run')",
            "build_func_name": function,
            "variables": [(k, v.detach().numpy()) for k, v in variables.items()],
        }
    )
