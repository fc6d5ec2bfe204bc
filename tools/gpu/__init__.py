"""The sections of ``tools/gpu_check.py``: one file each, with a function ``run(job)`` that reports rows as it goes."""
