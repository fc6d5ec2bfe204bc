"""What takes long to make is made once, also where several processes share the tests."""

import os


def made_once(tmp_path_factory, name, make):
    """A folder that the first process which asks for it fills; tests only read it.

    Args:
        tmp_path_factory: pytest's fixture.
        name: of the folder.
        make: fills it; it is given the folder, which is there and empty.
    """
    import fcntl

    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, done = root / name, root / f"{name}.done"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            done.touch()
    return folder
