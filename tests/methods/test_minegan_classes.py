"""Mining classes of conditional sources without labels, and fine-tuning only the filters that matter."""

import pytest
import torch

import regraft
from regraft.composites.mined import MinerConfig, mined_class_shares, with_miners
from regraft.core import discover
from regraft.core.build import build_with
from regraft.core.config import Recipe, parse
from regraft.core.randomness import generator_at
from regraft.methods._sparse import FilterMasks
from regraft.runs.store import RunStore
from regraft.training.loop import Loop, Plan
from support.plugins import find_plugin
from support.toys import toy_gan, toy_images

MINEGAN = find_plugin("methods", "minegan")
CONDITIONAL = [name for name in discover.names("backbones") if find_plugin("backbones", name).conditional]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def conditional(name="dcgan"):
    return toy_gan(name, channels=3 if name not in ("dcgan", "mlp") else 1, n_classes=3)


def attached(source, seed=0, images=None, **settings):
    config = parse(MINEGAN.Config, {"mining_steps": 3, "finetuning_steps": 3} | settings, "minegan")
    return MINEGAN.attach([source], images or toy_images(), config, generator_at(seed, "init"))


def run(adaptation, images=None):
    loop = Loop(adaptation, images or toy_images(), Plan(), RunStore(None))
    loop.run()
    return loop


@pytest.mark.parametrize("form", ["onehot", "embedding"])
@pytest.mark.parametrize("name", CONDITIONAL)
def test_classes_of_every_family_can_be_mined(name, form):
    source = conditional(name)
    made = with_miners(MinerConfig(classes=form), source.generator).eval()
    made.initialise(rng())
    assert made.n_classes == 0
    u = made.latent.sample(4, rng(1))
    images = made(u)
    assert torch.isfinite(images).all()
    again = build_with(made.describe(), made.state_dict(), "test")
    assert torch.equal(again(u), images)
    images.square().sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in made.class_miner.parameters())
    assert mined_class_shares(made).sum().item() == pytest.approx(1, abs=1e-4)


def test_onehot_weights_are_mixed_by_the_sources_own_table():
    source = conditional()
    made = with_miners(MinerConfig(classes="onehot"), source.generator).eval()
    made.initialise(rng())
    u = made.latent.sample(4, rng(1))
    weights = made.class_miner.raw(u).softmax(1)
    assert torch.allclose(made(u), source.generator(u, source.generator.embed(weights)))


def test_a_new_class_miner_spreads_over_all_classes():
    source = toy_gan(n_classes=10, latent_dim=64, width=4)
    made = with_miners(MinerConfig(classes="onehot"), source.generator)
    made.initialise(rng())
    weights = made.class_miner.raw(made.latent.sample(2000, rng(1))).softmax(1)
    assert weights.max(1).values.median() > 0.7
    assert weights.mean(0).min() > 0.05


def test_a_new_embedding_has_mean_and_spread_of_the_classes():
    source = toy_gan(n_classes=10, latent_dim=64, width=4)
    made = with_miners(MinerConfig(classes="embedding"), source.generator)
    made.initialise(rng())
    table = source.generator.embed(torch.arange(10)).vector
    codes = made.class_miner(made.latent.sample(4000, rng(1)), source.generator).vector
    assert (codes.mean(0) - table.mean(0)).abs().max() < 0.2
    assert (codes.std(0) - table.std(0, correction=0)).abs().max() < 1.5


def test_mined_classes_are_the_nearest_ones():
    source = toy_gan(n_classes=4, latent_dim=6, width=4)
    with torch.no_grad():
        for norm in source.generator.norms:
            if hasattr(norm, "gain"):
                norm.gain.copy_(torch.randn(norm.gain.shape, generator=rng(1)))
                norm.shift.copy_(torch.randn(norm.shift.shape, generator=rng(2)))
    for form in ("onehot", "embedding"):
        made = with_miners(MinerConfig(classes=form), source.generator)
        table = source.generator.embed(torch.arange(4)).vector
        with torch.no_grad():
            for p in made.class_miner.parameters():
                p.zero_()
            own = (
                (table[2] - made.class_miner.centre) / made.class_miner.spread if form == "embedding" else torch.eye(4)[2] * 50
            )
            made.class_miner.layers[1].bias.copy_(own)
        assert mined_class_shares(made).tolist() == pytest.approx([0, 0, 1, 0], abs=1e-3)


def test_labels_and_projection_are_left_out():
    """A critic's class table gets no gradient, and labels change nothing."""
    source = conditional()
    states = []
    for labels in (None, [k % 3 for k in range(12)]):
        images = toy_images(labels=labels)
        adaptation = attached(source, images=images)
        table = [(k, p.clone()) for k, p in adaptation.critic.named_parameters() if "class" in k or "embed" in k or "proj" in k]
        loop = run(adaptation, images)
        assert all(torch.equal(value, dict(adaptation.critic.named_parameters())[k]) for k, value in table)
        states.append(loop.generator().state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_kept_classes_stay_classes():
    adaptation = attached(conditional(), miner={"classes": "keep"})
    run(adaptation)
    assert adaptation.generator.n_classes == 3
    assert adaptation.findings(adaptation.generator, True) == {}


@pytest.mark.parametrize("form", ["onehot", "embedding"])
def test_adapter_and_stand_alone_generator(form, tmp_path, photos):
    source = regraft.convert(conditional(), tmp_path / "source")
    run = regraft.adapt(
        photos,
        source,
        out=tmp_path / "run",
        method="minegan",
        steps=4,
        held_out=2,
        recipe={"batch": 4},
        miner={"classes": form},
    )
    want = run.gan.sample(5, 1)
    assert torch.equal(regraft.load_adapter(tmp_path / "run").sample(5, 1), want)
    assert torch.equal(regraft.load(regraft.convert(tmp_path / "run", tmp_path / "alone")).sample(5, 1), want)
    (shares,) = run.findings["mined_classes"]
    assert sum(shares) == pytest.approx(1, abs=1e-3)


class TestSparse:
    def state(self, source, **settings):
        adaptation = attached(source, **settings)
        before = {k: v.clone() for k, v in adaptation.generator.source.named_parameters()}
        loop = run(adaptation)
        return adaptation, before, {**loop.generator().state_dict(), **adaptation.critic.state_dict()}

    @pytest.mark.parametrize("name", ["dcgan", "mlp"])
    def test_all_filters_is_plain_finetuning_bit_for_bit(self, name):
        source = toy_gan(name)
        source = source.trained_with(source.objective, Recipe(batch=4, generator_norm="batch", ema_decay=0.9))
        _, _, plain = self.state(source)
        _, _, whole = self.state(source, sparse=1.0)
        assert plain.keys() == whole.keys()
        assert all(torch.equal(plain[k], whole[k]) for k in plain)

    def test_only_chosen_filters_move(self):
        adaptation, before, _ = self.state(toy_gan(), sparse=0.5)
        masks = adaptation.modules["masks"]
        moved_somewhere = False
        for name, now in adaptation.generator.source.named_parameters():
            mask, axis = masks.mask(f"source.{name}"), masks.axes[f"source.{name}"]
            moved = (now != before[name]).movedim(axis, 0).reshape(len(mask), -1).any(1)
            assert mask.sum() == -(-len(mask) // 2)
            assert not (moved & ~mask).any()
            moved_somewhere |= bool(moved.any())
        assert moved_somewhere

    def test_a_transposed_convolutions_filters_are_its_outputs(self):
        source = toy_gan()
        masks = FilterMasks(source.generator.requires_grad_(True), dict(source.generator.named_parameters()))
        transposed = [
            f"{name}.weight" for name, m in source.generator.named_modules() if isinstance(m, torch.nn.ConvTranspose2d)
        ]
        assert transposed
        assert all(masks.axes[name] == 1 for name in transposed)

    def test_importance_is_the_mean_squared_gradient(self):
        """A loss of known slope: of three rows the first and the last have the greatest."""
        layer = torch.nn.Linear(2, 3, bias=False)
        masks = FilterMasks(layer, {"weight": layer.weight})
        slope = torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, -2.5]])
        masks.choose(0.6, lambda draws: (layer.weight * slope).sum(), 2, seed=0)
        assert masks.mask("weight").tolist() == [True, False, True]

    def test_stopped_and_resumed_keeps_its_choice(self, tmp_path):
        source = toy_gan()
        plan = Plan(checkpoint_every=5)
        first = attached(source, sparse=0.5, mining_steps=3, finetuning_steps=4)
        Loop(first, toy_images(), plan, RunStore(tmp_path / "a")).run()
        again = attached(source, sparse=0.5, mining_steps=3, finetuning_steps=4)
        loop = Loop(again, toy_images(), plan, RunStore(tmp_path / "a"))
        assert loop._load()
        for name, mask in first.modules["masks"].state_dict().items():
            assert torch.equal(mask, again.modules["masks"].state_dict()[name])
            assert not mask.all() or len(mask) == 1


def test_the_guide_draws_mined_classes_to_the_targets():
    """With the critic's part left out, what is asked for becomes what is wanted."""
    from regraft.methods._class_guide import ClassGuide

    source = toy_gan(n_classes=3)
    for form in ("onehot", "embedding"):
        with torch.no_grad():
            for norm in source.generator.norms:
                if hasattr(norm, "gain"):
                    norm.gain.copy_(torch.randn(norm.gain.shape, generator=rng(1)))
                    norm.shift.copy_(torch.randn(norm.shift.shape, generator=rng(2)))
        made = with_miners(MinerConfig(classes=form), source.generator).requires_grad_(True)
        made.initialise(rng())
        guide = ClassGuide(made, source.critic, source.recipe, 1.0)
        assert guide.gap(rng(), torch.device("cpu")).item() == 0
        guide.looks.shares.copy_(torch.tensor([0.7, 0.3, 0.0]))
        guide.looks.steps.fill_(1)
        optimiser = torch.optim.Adam(made.class_miner.parameters(), lr=2e-2)
        for step in range(150):
            optimiser.zero_grad()
            guide.gap(rng(step), torch.device("cpu")).backward()
            optimiser.step()
        assert made.class_miner.weights(made.latent.sample(2000, rng(1)), source.generator).mean(0).tolist() == pytest.approx(
            [0.7, 0.3, 0.0], abs=0.05
        )


def test_without_a_guide_or_with_many_classes_there_is_none():
    from regraft.methods._class_guide import class_guide

    source = toy_gan(n_classes=40)
    made = with_miners(MinerConfig(), source.generator)
    assert class_guide(made, source.critic, source.recipe, 1.0) is None
    few = with_miners(MinerConfig(), toy_gan(n_classes=3).generator)
    assert class_guide(few, source.critic, source.recipe, 0.0) is None
    assert "classes" in attached(conditional()).modules
    assert "classes" not in attached(conditional(), miner={"class_weight": 0.0}).modules


def test_targets_are_counted_once_a_step_however_a_batch_is_computed():
    seen = []
    for parts in (1, 4):
        adaptation = attached(conditional())
        Loop(adaptation, toy_images(), Plan(accumulate=parts), RunStore(None)).run()
        seen.append(int(adaptation.modules["classes"].steps))
    assert seen[0] == seen[1] == 6


def test_filters_of_which_nothing_is_known_stay_trainable():
    source = toy_gan().generator.requires_grad_(True)
    masks = FilterMasks(source, dict(source.named_parameters()))
    masks.choose(0.5, lambda rng: sum(p.sum() for p in source.parameters()) * 0, 2, 0)
    assert all(bool(masks.mask(name).all()) for name in masks.parameters_of)
