"""Small data sets in every kind of container, all of the same twelve pictures.

``WRITERS`` maps a container's name (its file in ``regraft/data/containers``) to functions that write into an empty folder and
return what to open.  A new container adds its writer here; ``test_fuzz_containers.py`` insists on it.
"""

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import torch
from PIL import Image

N, SIDE = 12, 16
PIXELS = np.random.default_rng(7).integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8)
PLANES = np.ascontiguousarray(PIXELS.transpose(0, 3, 1, 2))
GREY = PIXELS[..., 0].copy()
LABELS = np.arange(N) % 3
NAMES = ("cat", "dog", "owl")


def picture(k):
    """One picture as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[k]).save(buffer, "PNG")
    return buffer.getvalue()


def add(archive, name, data):
    """Add a file to a tar archive."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def write_npz(folder):
    np.savez(folder / "x.npz", x_train=PIXELS, y_train=LABELS[:, None], x_test=PIXELS[:4], y_test=LABELS[:4, None])
    return folder / "x.npz"


def write_packed_npz(folder):
    np.savez_compressed(folder / "x.npz", images=PLANES.astype(np.float32) / 255, labels=np.eye(3, dtype=int)[LABELS])
    return folder / "x.npz"


def write_npy(folder):
    np.save(folder / "x_train.npy", PIXELS)
    np.save(folder / "y_train.npy", LABELS)
    return folder / "x_train.npy"


def write_zip(folder):
    with zipfile.ZipFile(folder / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for k in range(N):
            archive.writestr(f"{NAMES[LABELS[k]]}/{k:02d}.png", picture(k))
    return folder / "x.zip"


def write_tree(folder, name="x.tar", mode="w"):
    with tarfile.open(folder / name, mode) as archive:
        for k in range(N):
            add(archive, f"set/{NAMES[LABELS[k]]}/{k:02d}.png", picture(k))
    return folder / name


def write_packed_tree(folder):
    return write_tree(folder, "x.tar.gz", "w:gz")


def write_xz_tree(folder):
    return write_tree(folder, "x.tar.xz", "w:xz")


def write_shard(folder, name="shard-000000.tar", labels=("cls",)):
    with tarfile.open(folder / name, "w") as archive:
        for k in range(N):
            add(archive, f"{k:06d}.png", picture(k))
            if "cls" in labels:
                add(archive, f"{k:06d}.cls", str(LABELS[k]).encode())
            if "json" in labels:
                add(archive, f"{k:06d}.json", json.dumps({"label": NAMES[LABELS[k]], "caption": "x"}).encode())
    return folder / name


def write_idx(folder, name="train", packed=False):
    images = struct.pack(">IIII", 2051, *GREY.shape) + GREY.tobytes()
    labels = struct.pack(">II", 2049, N) + LABELS.astype(np.uint8).tobytes()
    (folder / f"{name}-labels-idx1-ubyte").write_bytes(labels)
    path = folder / f"{name}-images-idx3-ubyte{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(images, mtime=0) if packed else images)
    return path


def write_packed_idx(folder):
    return write_idx(folder, packed=True)


def write_tensors(folder):
    torch.save({"images": torch.from_numpy(PLANES), "labels": torch.from_numpy(LABELS)}, folder / "x.pt")
    return folder / "x.pt"


def write_legacy_tensor(folder):
    torch.save(torch.from_numpy(PLANES) / 127.5 - 1, folder / "x.pth", _use_new_zipfile_serialization=False)
    return folder / "x.pth"


def write_safetensors(folder):
    from safetensors.torch import save_file

    save_file({"images": torch.from_numpy(PLANES), "labels": torch.from_numpy(LABELS)}, folder / "x.safetensors")
    return folder / "x.safetensors"


def cifar_pixels():
    """The pictures enlarged to the side of CIFAR, (N, 3072)."""
    return PLANES.repeat(2, 2).repeat(2, 3).reshape(N, -1)


def python2_batch(data, labels):
    """A batch as Python 2 pickled it."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    shape = b"".join(b"M" + struct.pack("<H", n) for n in data.shape) + b"\x86"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    raw = data.tobytes()
    state = b"(K\x01" + shape + dtype + b"\x89T" + struct.pack("<I", len(raw)) + raw + b"tb"
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    return b"\x80\x02}q\x01(" + text(b"labels") + b"](" + numbers + b"e" + text(b"data") + array + state + b"u."


def write_cifar(folder):
    (folder / "data_batch_1").write_bytes(python2_batch(cifar_pixels(), LABELS.tolist()))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(NAMES)}, 2))
    return folder / "data_batch_1"


def write_new_cifar(folder):
    batch = {b"data": cifar_pixels(), b"fine_labels": LABELS.tolist(), b"coarse_labels": [0] * N}
    (folder / "train").write_bytes(pickle.dumps(batch, 5))
    return folder / "train"


def write_binary_cifar(folder):
    rows = np.concatenate([LABELS[:, None].astype(np.uint8), cifar_pixels()], 1)
    (folder / "data_batch_1.bin").write_bytes(rows.tobytes())
    return folder / "data_batch_1.bin"


def write_gif(folder):
    frames = [Image.fromarray(p) for p in PIXELS]
    frames[0].save(folder / "x.gif", save_all=True, append_images=frames[1:])
    return folder / "x.gif"


def write_tiff(folder):
    frames = [Image.fromarray(p) for p in PIXELS]
    frames[0].save(folder / "x.tif", save_all=True, append_images=frames[1:])
    return folder / "x.tif"


def table():
    """A table of a Hugging Face data set."""
    import pyarrow

    pair = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(NAMES)}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    schema = pyarrow.schema([("image", pair), ("label", pyarrow.int64())], metadata=metadata)
    rows = [{"bytes": picture(k), "path": f"{k}.png"} for k in range(N)]
    return pyarrow.table([pyarrow.array(rows, pair), pyarrow.array(LABELS.tolist(), pyarrow.int64())], schema=schema)


def write_parquet(folder):
    import pyarrow.parquet

    pyarrow.parquet.write_table(table(), folder / "train-00000-of-00001.parquet", row_group_size=5)
    return folder / "train-00000-of-00001.parquet"


def write_arrow(folder):
    import pyarrow

    made = table()
    with pyarrow.OSFile(str(folder / "x.arrow"), "wb") as file, pyarrow.ipc.new_stream(file, made.schema) as stream:
        for batch in made.to_batches(5):
            stream.write_batch(batch)
    return folder / "x.arrow"


def write_feather(folder):
    import pyarrow.feather

    pyarrow.feather.write_feather(table(), folder / "x.feather", compression="zstd")
    return folder / "x.feather"


def write_lmdb(folder, sizes=(8, SIDE)):
    import lmdb

    with lmdb.open(str(folder / "base"), map_size=1 << 24) as base, base.begin(write=True) as writing:
        for k in range(N):
            for size in sizes:
                buffer = io.BytesIO()
                Image.fromarray(PIXELS[k]).resize((size, size), Image.Resampling.NEAREST).save(buffer, "PNG")
                # Longer than half a page, so that it lies on pages of its own.
                content = buffer.getvalue() + (bytes(3000) if k % 2 else b"")
                writing.put(f"{size}-{k:05d}".encode(), content)
        writing.put(b"length", str(N).encode())
    (folder / "base" / "lock.mdb").unlink()
    return folder / "base" / "data.mdb"


def write_hdf5(folder):
    """As BigGAN does: begun with one piece, and resized for each further one."""
    import h5py

    with h5py.File(folder / "I16.hdf5", "w") as file:
        images = file.create_dataset("imgs", (5, *PLANES.shape[1:]), "uint8", maxshape=(N, *PLANES.shape[1:]), chunks=True)
        labels = file.create_dataset("labels", (5,), "int64", maxshape=(N,), chunks=(5,))
        images[...], labels[...] = PLANES[:5], LABELS[:5]
        images.resize(N, 0)
        labels.resize(N, 0)
        images[5:], labels[5:] = PLANES[5:], LABELS[5:]
    return folder / "I16.hdf5"


def write_packed_hdf5(folder):
    import h5py

    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("images", data=PIXELS.astype(np.float32) / 255, compression="gzip", shuffle=True, fletcher32=True)
        file.create_dataset("labels", data=LABELS)
    return folder / "x.h5"


WRITERS = {
    "arrow": [write_arrow, write_feather],
    "cifar": [write_cifar, write_new_cifar, write_binary_cifar],
    "frames": [write_gif, write_tiff],
    "hdf5": [write_hdf5, write_packed_hdf5],
    "idx": [write_idx, write_packed_idx],
    "lmdb": [write_lmdb],
    "npy": [write_npy],
    "npz": [write_npz, write_packed_npz],
    "parquet": [write_parquet],
    "tar": [write_tree, write_packed_tree, write_xz_tree, write_shard],
    "tensors": [write_tensors, write_legacy_tensor, write_safetensors],
    "zip": [write_zip],
}


def templates(folder):
    """Every writer's data set once, as (container, folder, what to open in it)."""
    made = []
    for container, writers in sorted(WRITERS.items()):
        for writer in writers:
            own = folder / writer.__name__
            own.mkdir(parents=True)
            made.append((container, own, writer(own).relative_to(own)))
    return made
