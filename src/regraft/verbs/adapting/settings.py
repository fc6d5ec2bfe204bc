"""Settings of the method: parse them, complete them, and override objective and recipe as the job says."""

from collections.abc import Sequence

from regraft.core.config import OBJECTIVES, Objective, Recipe, merge, parse
from regraft.core.errors import ConfigError
from regraft.core.gan import GAN
from regraft.core.jobs import AdaptJob
from regraft.methods.base import Method, MethodConfig


def parse_settings(job: AdaptJob, method: Method[MethodConfig]) -> MethodConfig:
    """Parse the method's settings of a job, whose method is named.

    Raises:
        ConfigError: naming every setting that is unknown or does not fit.
    """
    settings = dict(job.settings)
    if job.steps is not None:
        if "steps" not in method.Config.model_fields:
            raise ConfigError(f"--steps {job.steps}: {job.method} trains nothing")
        settings["steps"] = job.steps
    return parse(method.Config, settings, f"settings of {job.method}")


def complete(
    job: AdaptJob, method: Method[MethodConfig], config: MethodConfig, sources: Sequence[GAN], n_classes: int
) -> tuple[MethodConfig, tuple[GAN, ...]]:
    """Complete the method's settings, and give each source the objective and recipe that it is trained with.

    Args:
        job: the settings; its method is named.
        method, config: the method of that name, with its parsed settings.
        sources: loaded GANs.
        n_classes: classes of the target that are learned.
    """
    config = method.complete_config(config, sources, n_classes, job.seed)
    if not sources:
        return _override_own_training(job, method, config), ()
    return config, tuple(s.trained_with(*_override_training(job, *method.training(config, s))) for s in sources)


def _override_training(job: AdaptJob, objective: Objective, recipe: Recipe) -> tuple[Objective, Recipe]:
    """Return an objective and a recipe with the changes that a job asks for."""
    if isinstance(job.objective, str):
        objective = OBJECTIVES[job.objective]
    elif job.objective:
        objective = parse(Objective, merge(objective.model_dump(), job.objective), "objective")
    changes = dict(job.recipe) | ({"batch": job.batch} if isinstance(job.batch, int) else {})
    if changes:
        recipe = parse(Recipe, merge(recipe.model_dump(), changes), "recipe")
    return objective, recipe


def _override_own_training(job: AdaptJob, method: Method[MethodConfig], config: MethodConfig) -> MethodConfig:
    """Change objective and recipe among a method's own settings, where they are if there is no source to carry them."""
    asked = {"objective": bool(job.objective), "recipe": bool(job.recipe) or isinstance(job.batch, int)}
    fields = type(config).model_fields
    missing = [name for name, is_asked in asked.items() if is_asked and name not in fields]
    if missing:
        raise ConfigError(
            f"{job.method} without a source has no {' or '.join(missing)} that could be set; its own settings are: "
            + ", ".join(field for field in fields if field not in asked)
        )
    if not asked.keys() & fields.keys():
        return config
    values = dict(zip(asked, _override_training(job, *method.training(config, None)), strict=True))
    return config.model_copy(update={name: value for name, value in values.items() if name in fields})
