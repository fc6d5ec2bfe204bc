"""Random variables of TransferGAN's networks under names that end as the authors' do."""

import numpy as np


def variables(widths=(6, 4, 3), latent=5, classes=3, channels=3, seed=0):
    """Random variables of an ACGAN pair (or, with classes=0, an unconditional one) whose names end as the authors' do."""
    rng = np.random.default_rng(seed)
    made = {}

    def put(name, *shape, scope=True):
        made[f"{name.rpartition('.')[0]}/{name}" if scope else name] = (rng.normal(size=shape) * 0.3).astype("f4")

    def norm(name, *shape):
        put(f"{name}.scale", *shape, scope=False)
        put(f"{name}.offset", *shape, scope=False)

    def block(name, a, middle, b, norm_shape):
        norm(f"{name}.BN1", *norm_shape, a)
        norm(f"{name}.BN2", *norm_shape, middle)
        put(f"{name}.Conv1.Filters", 3, 3, a, middle)
        for leaf, k, inputs in (("Conv2", 3, middle), ("Shortcut", 1, a)):
            put(f"{name}.{leaf}.Filters", k, k, inputs, b)
            put(f"{name}.{leaf}.Biases", b)

    by_class = (classes,) if classes else ()
    put("Generator.Input.W", latent, 16 * widths[0])
    put("Generator.Input.b", 16 * widths[0])
    for k, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        block(f"Generator.Res{k + 1}", a, b, b, by_class)
    norm("Generator.OutputN", *by_class, widths[-1])
    put("Generator.Output.Filters", 3, 3, widths[-1], channels)
    put("Generator.Output.Biases", channels)
    down = widths[::-1]
    put("Discriminator.Input.Filters", 3, 3, channels, down[0])
    put("Discriminator.Input.Biases", down[0])
    for k, (a, b) in enumerate(zip(down[:-1], down[1:], strict=True)):
        block(f"Discriminator.Res{k + 1}", a, a, b, ())
    for name, outputs in (("Output", 1), *([("ACGANOutput", classes)] if classes else [])):
        put(f"Discriminator.{name}.W", 16 * down[-1], outputs)
        put(f"Discriminator.{name}.b", outputs)
    return made
