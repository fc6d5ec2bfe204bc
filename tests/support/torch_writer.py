"""torch's container before 1.6, written so that every process writes the same bytes."""

import io
import pickle
import struct

import torch


def legacy_bytes(value):
    """torch's container before 1.6, with storages numbered in order.

    torch's own writer names and sorts them by their addresses, so that no two processes would write the same bytes.
    """
    storages = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if not isinstance(item, torch.storage.TypedStorage):
                return None
            key, _ = storages.setdefault(item._untyped_storage._cdata, (str(len(storages)), item))
            return "storage", getattr(torch, item._pickle_storage_type()), key, "cpu", item._size(), None

    made = io.BytesIO()
    sizes = {"short": 2, "int": 4, "long": 4}
    for head in (
        torch.serialization.MAGIC_NUMBER,
        1001,
        {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes},
    ):
        pickle.dump(head, made, 2)
    Pickler(made, 2).dump(value)
    pickle.dump([key for key, _ in storages.values()], made, 2)
    for _, storage in storages.values():
        content = torch.tensor([], dtype=torch.uint8).set_(storage._untyped_storage)
        made.write(struct.pack("<q", storage._size()) + content.numpy().tobytes())
    return made.getvalue()
