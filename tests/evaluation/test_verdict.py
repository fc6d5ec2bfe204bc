"""The verdict: planted failures are called by name, real images raise no alarm, a run's course is read right."""

import pytest
import torch

from regraft.evaluation.verdict import judge
from support.toys import strokes


def rows(values, best, floor=0.01, step=100, **more):
    made = [{"step": k * step, "kmmd_target": v, "kmmd_floor": floor, "best": b} for k, (v, b) in enumerate(zip(values, best))]
    return [row | {key: column[k] for key, column in more.items()} for k, row in enumerate(made)]


@pytest.mark.parametrize("seed", range(4))
class TestPlanted:
    def test_real_images_raise_no_alarm(self, seed):
        verdict = judge(strokes(200, seed), strokes(20, seed + 100), strokes(5, seed + 200))
        assert verdict.word == "unknown"
        assert not any(f.alarm for f in verdict.findings)

    def test_replayed_training_images_are_copying(self, seed):
        training = strokes(20, seed)
        rng = torch.Generator().manual_seed(seed)
        samples = training[torch.randint(20, (200,), generator=rng)]
        samples = samples + 0.05 * torch.randn(samples.shape, generator=rng)
        assert judge(samples, training, strokes(5, seed + 1)).word == "copying"

    def test_three_images_are_a_collapse_even_if_they_are_training_images(self, seed):
        training = strokes(20, seed)
        rng = torch.Generator().manual_seed(seed)
        assert judge(training[torch.randint(3, (200,), generator=rng)], training).word == "collapsed"
        other = strokes(3, seed + 1)[torch.randint(3, (200,), generator=rng)]
        assert judge(other, training).word == "collapsed"

    def test_one_image_with_noise_is_a_collapse(self, seed):
        samples = strokes(1, seed) + 0.1 * torch.randn(100, 1, 16, 16, generator=torch.Generator().manual_seed(seed))
        assert judge(samples, strokes(20, seed + 1)).word == "collapsed"


class TestCourse:
    images = (strokes(100, 0), strokes(20, 1), strokes(5, 2))

    def judged(self, history, **more):
        return judge(*self.images, history=history, **more)

    def test_stopped_far_too_late(self):
        history = rows([1, 0.1, 0.2, 0.4, 0.6], [True, True, False, False, False])
        verdict = self.judged(history)
        assert verdict.word == "overfitting"
        assert "0.1 at step 100" in verdict.sentence

    def test_the_kept_step_of_the_same_run_is_no_overfitting(self):
        history = rows([1, 0.3, 0.1, 0.4, 0.6], [True, True, True, False, False])
        assert self.judged(history, step=200).word == "good"

    def test_below_the_floor_is_good(self):
        assert self.judged(rows([1, 0.1, 0.005], [True] * 3)).word == "good"

    def test_still_falling(self):
        assert self.judged(rows([1, 0.8, 0.6, 0.4, 0.2], [True] * 5)).word == "still improving"

    def test_levelled_off(self):
        assert self.judged(rows([1, 0.5, 0.2, 0.1, 0.098, 0.097], [True] * 6)).word == "good"

    def test_no_better_than_the_source(self):
        verdict = self.judged(rows([0.5, 0.5, 0.49], [True] * 3))
        assert verdict.word == "unknown"
        assert "another source" in verdict.sentence

    @pytest.mark.parametrize("augmented, word", [(False, "overfitting"), (True, "good")])
    def test_unseen_images_scored_below_generated_ones(self, augmented, word):
        history = rows(
            [1, 0.1, 0.005],
            [True] * 3,
            critic_train=[1.0, 2.0, 3.0],
            critic_held=[-1.0, -0.5, -1.0],
            critic_fake=[-1.0, 0.0, 0.0],
        )
        assert self.judged(history, augmented=augmented).word == word

    def test_copying_outweighs_a_fine_curve(self):
        training = self.images[1]
        verdict = judge(training.repeat(5, 1, 1, 1), training, history=rows([1, 0.1, 0.005], [True] * 3))
        assert verdict.word == "copying"
        assert verdict.findings[0].alarm

    def test_samples_alone_with_a_discrepancy(self):
        assert self.judged((), discrepancy=(0.01, 0.01)).word == "good"
        assert self.judged((), discrepancy=(0.5, 0.01)).word == "unknown"

    def test_few_held_out_images_are_a_caution(self):
        assert any("Only 5 images" in c for c in self.judged(()).cautions)
        assert any("No image was" in c for c in judge(self.images[0], self.images[1]).cautions)


def test_some_copies_are_said_beside_a_good_word():
    training, new = strokes(60, 0), strokes(400, 1)
    mixed = torch.cat([training[:40].repeat(2, 1, 1, 1)[:60], new[:340]])
    found = judge(mixed, training, strokes(40, 2), discrepancy=(0.001, 0.01))
    clean = judge(new, training, strokes(40, 2), discrepancy=(0.001, 0.01))
    assert found.word == clean.word == "good"
    assert "of them lie on a training image or next to one" in found.sentence
    assert any("Look at these" in caution for caution in found.cautions)
    assert "no nearer to training images than real ones are" in clean.sentence
    assert not any("Look at these" in caution for caution in clean.cautions)


def test_values_that_are_no_numbers_are_a_collapse():
    samples = strokes(50, 1)
    samples[3] = float("nan")
    found = judge(samples, strokes(20, 0))
    assert found.word == "collapsed"
    assert "no finite numbers" in found.sentence


def test_nearer_by_memorising_is_overfitting():
    values = [0.3, 0.2, 0.15, 0.12, 0.1]
    history = rows(values, [True, True, True, False, False])
    found = judge(strokes(60, 1), strokes(20, 0), history=history)
    assert found.word == "overfitting"
    assert "come nearer to the target images after step 200 only as training images are memorised" in found.sentence
