"""The one training loop: phases of updates, with averages, log, evaluation, atomic checkpoints and exact resume.

Nothing in it knows a method.  Every random draw comes from a generator made of (seed, phase, step, update, repeat, part of
the batch), and the order of the data is a function of the seed, so that a resumed run needs no random state to go on exactly.
"""

import contextlib
import copy
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from regraft.core import norms
from regraft.core.errors import Interrupted, OutOfMemory, TrainingError
from regraft.core.networks import Generator
from regraft.core.randomness import derive
from regraft.runs.store import RunStore
from regraft.training.engine import Averages, Engine, Order
from regraft.training.observation import Observer
from regraft.training.updates import Adaptation, Data, Phase, Update


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the loop runs; none of it but ``accumulate`` changes the result of a seed."""

    seed: int = 0
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))
    accumulate: int = 1
    precision: str = "float32"
    observe_every: int = 0
    checkpoint_every: int = 200
    log_every: int = 20


@dataclasses.dataclass
class Position:
    """Where the loop is; saved with every checkpoint."""

    phase: int = 0
    step: int = 0  # in the phase
    total: int = 0
    items: int = 0  # data items drawn so far
    best_step: int | None = None
    stopped: str | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """The generator that a run keeps.

    Attributes:
        generator: frozen and in evaluation mode.
        step: the step that it is of.
        is_last: whether that is the run's last step.
    """

    generator: Generator
    step: int
    is_last: bool


class Loop:
    """One run of an adaptation over its phases."""

    def __init__(
        self,
        adaptation: Adaptation,
        data: Data,
        plan: Plan,
        store: RunStore,
        observer: Observer | None = None,
        emit: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            adaptation: what is trained; moved to the plan's device.
            data: target data without what is held out.
            plan: how to run.
            store: where log and checkpoints go.
            observer: held-out evaluation, or None.
            emit: told of every log line and event.
        """
        self.adaptation, self.data, self.plan, self.store = adaptation, data, plan, store
        self.observer, self.emit = observer, emit or (lambda event: None)
        for module in adaptation.modules.values():
            module.to(plan.device)
        self.averages = Averages(adaptation, adaptation.ema_decay)
        self.order = Order(data.n, plan.seed)
        self.engine = Engine()
        self.position = Position()
        self.observer_state: dict[str, Any] = {}
        self.all_parameters = [p for m in adaptation.modules.values() for p in m.parameters()]
        self._stop_requested = False
        self._log: dict[str, list[float]] = {}

    @property
    def total_steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.adaptation.phases)

    def result(self, keep: Literal["best", "last"]) -> Result:
        """Return the generator that a finished run keeps; ask once, it may change the last generator in place.

        Args:
            keep: ``best`` for the best generator observed (the last one if none was), ``last`` for the last.
        """
        generator = self.generator()
        last, best = self.position.total, self.position.best_step
        step = best if keep == "best" and best is not None else last
        if step != last:
            generator.load_state_dict(self.store.load_best(step))
            self.emit({"event": "kept", "step": step, "of": last})
        return Result(generator.requires_grad_(False).eval(), step, step == last)

    def generator(self) -> Generator:
        """The generator as it would be saved now: averaged, with measured statistics."""
        live = self.adaptation.generator
        judged = self.averages.modules.get("generator", live)
        if not isinstance(judged, Generator):
            raise TypeError(f"the averaged generator is a {type(judged).__name__}")
        trained = {id(p) for p in self.adaptation.trained().values()}
        moves_styles = any(id(p) in trained for m in live.style_path for p in m.parameters())
        uses_batch = norms.uses_batch_statistics(live)
        if uses_batch or moves_styles:
            judged = copy.deepcopy(judged)
        if moves_styles:
            judged.measure_mean_style()
        if uses_batch:
            norms.calibrate(judged, like=live)
        return judged

    def run(self, resume: bool = False) -> None:
        """Train to the end, or to a stop.

        Args:
            resume: go on from the store's checkpoint, if it has one.

        Raises:
            TrainingError: when a loss is not finite; the last checkpoint stays.
            OutOfMemory: with what to lower.
            Interrupted: after a signal, with the state saved.
        """
        phases = self.adaptation.phases
        resumed = resume and self._load()
        if resumed and (self.position.stopped or self.position.phase >= len(phases)):
            return
        with self._signals(), _memory_advice(self.adaptation.batch, self.plan):
            if not resumed and self.observer is not None and self.plan.observe_every and phases:
                self._observe()
            while self.position.phase < len(phases) and self.position.stopped is None:
                phase = phases[self.position.phase]
                if not resumed:
                    self._enter(phase)
                resumed = False
                while self.position.step < phase.steps and self.position.stopped is None:
                    self._step(phase)
                if self.position.step == phase.steps:
                    self.position.phase += 1
                    self.position.step = 0
        self._flush_log()
        if phases:
            self._save()

    def _enter(self, phase: Phase) -> None:
        self.engine.enter(phase, keep=phase.keep_optimisers)
        if phase.from_averages:
            self.averages.adopt()
        if phase.on_enter is not None:
            phase.on_enter()
            self.averages.restart()
        if phase.modes is not None:
            phase.modes()
        self.emit({"event": "phase", "phase": phase.name, "steps": phase.steps})

    def _step(self, phase: Phase) -> None:
        position = self.position
        started = time.perf_counter()
        for number, update in enumerate(phase.updates):
            if position.step % update.every == 0:
                for repeat in range(update.repeat):
                    self._update(phase, number, update, repeat)
        position.step += 1
        position.total += 1
        self.averages.update(position.total)
        self._note({"seconds": time.perf_counter() - started})
        at_end = position.step == phase.steps
        if position.total % self.plan.log_every == 0 or at_end:
            self._flush_log()
        every = self.plan.observe_every
        due = self.observer is not None and every and (position.total % every == 0 or position.total == self.total_steps)
        # What does not change cannot become worse, and must not end a phase that trains something else.
        if due and self._moves_generator(phase):
            self._observe()
        if position.total % self.plan.checkpoint_every == 0 or (at_end and position.total < self.total_steps):
            self._save()
        if self._stop_requested:
            self._save()
            where = f": go on with --resume {self.store.folder}" if self.store.folder is not None else ""
            raise Interrupted(f"stopped at step {position.total} of {self.total_steps}; the state is saved{where}")

    def _update(self, phase: Phase, number: int, update: Update, repeat: int) -> None:
        """One optimiser step of one update, over its micro-batches."""
        plan, position = self.plan, self.position
        moved = self.engine.parameters(update)
        for p in self.all_parameters:
            p.requires_grad_(False)
        for p in moved:
            p.requires_grad_(True)
            p.grad = None
        if update.reuse and repeat:
            position.items -= self.adaptation.batch
        data = phase.data or self.data
        for micro, size in enumerate(_split(self.adaptation.batch, plan.accumulate)):
            seed = derive(plan.seed, phase.name, position.phase, position.step, number, repeat, micro)
            rng = torch.Generator(device=plan.device).manual_seed(seed)
            batch = data.batch(self.order.take(position.items, size), rng, plan.device)
            position.items += size
            with torch.autocast(plan.device.type, torch.bfloat16, enabled=plan.precision == "bfloat16"):
                loss, values = update.loss(batch, rng)
            if not math.isfinite(loss.item()):
                raise TrainingError(
                    f"the loss of update {update.name} is {loss.item()} at step {position.total} (phase {phase.name}); the "
                    "last good state is kept. Lower the step sizes (--set recipe.generator_lr=..., recipe.critic_lr=...) or "
                    "change the objective, and start again; --resume alone meets the same point"
                )
            self.engine.backward(loss, size / self.adaptation.batch)
            self._note(values)
        self.engine.step(update, position.step)
        if update.after_step is not None:
            update.after_step()

    def _moves_generator(self, phase: Phase) -> bool:
        own = {id(p) for p in self.adaptation.generator.parameters()}
        return any(id(p) in own for update in phase.updates for p in self.engine.parameters(update))

    def _observe(self) -> None:
        assert self.observer is not None  # both callers check
        self._flush_log()
        generator = self.generator()
        seen = self.observer(self.position.total, generator)
        self.observer_state = seen.state
        if seen.best:
            self.position.best_step = self.position.total
            self.store.save_best(self.position.total, generator.state_dict())
        self.position.stopped = seen.stop
        line = {"step": self.position.total, "held_out": seen.values, "best": seen.best}
        self.store.log(line)
        self.emit({"event": "observation", **line, "stop": seen.stop})

    def _note(self, values: dict[str, Tensor | float]) -> None:
        for name, value in values.items():
            self._log.setdefault(name, []).append(float(value))

    def _flush_log(self) -> None:
        if not self._log:
            return
        phases = self.adaptation.phases
        phase = phases[min(self.position.phase, len(phases) - 1)]
        means = {name: round(sum(values) / len(values), 6) for name, values in self._log.items()}
        line = {"step": self.position.total, "phase": phase.name, **means}
        self._log = {}
        self.store.log(line)
        self.emit({"event": "step", "of": self.total_steps, **line})

    def _save(self) -> None:
        """Write a checkpoint: everything the rest of the run depends on."""
        self._flush_log()
        trained = set(self.adaptation.trained())
        kept = {
            name: {k: v for k, v in module.state_dict().items() if self._is_state(name, k, module, trained)}
            for name, module in self.adaptation.modules.items()
        }
        averages = {
            name: {k: v for k, v in module.state_dict().items() if f"{name}.{k}" in trained or _is_buffer(module, k)}
            for name, module in self.averages.modules.items()
        }
        self.store.save_state(
            {
                "position": dataclasses.asdict(self.position),
                "modules": kept,
                "averages": averages,
                "optimisers": self.engine.state(),
                "observer": self.observer_state,
            }
        )

    @staticmethod
    def _is_state(name: str, key: str, module: nn.Module, trained: set[str]) -> bool:
        return f"{name}.{key}" in trained or _is_buffer(module, key)

    def _load(self) -> bool:
        state = self.store.load_state()
        if state is None:
            return False
        self.position = Position(**state["position"])
        for group, modules in (("modules", self.adaptation.modules), ("averages", self.averages.modules)):
            for name, tensors in state[group].items():
                known = modules[name].state_dict()
                if other := [k for k, v in tensors.items() if k not in known or v.shape != known[k].shape]:
                    raise TrainingError(
                        f"the saved state has {name}.{other[0]} of shape {tuple(tensors[other[0]].shape)}, which this run does "
                        "not; was a setting or regraft changed?"
                    )
                modules[name].load_state_dict(tensors, strict=False)
        phases = self.adaptation.phases
        if phases and self.position.phase == len(phases):
            done = self.position.total - sum(phase.steps for phase in phases[:-1])
            if done < phases[-1].steps:  # a finished run that was lengthened
                self.position.phase, self.position.step = len(phases) - 1, done
        # A stop between two phases is saved as the end of the first.
        if self.position.phase < len(phases):
            phase = phases[self.position.phase]
            if self.position.step == phase.steps and self.position.phase + 1 < len(phases) and not self.position.stopped:
                self.engine.enter(phase, keep=False)
                self.engine.load(state["optimisers"])
                self.position.phase += 1
                self.position.step = 0
                self._enter(phases[self.position.phase])
            else:
                self.engine.enter(phase, keep=False)
                self.engine.load(state["optimisers"])
                if phase.modes is not None:
                    phase.modes()
        elif phases and (modes := phases[-1].modes) is not None:
            modes()  # what is still asked of a finished run is asked of it as it ended
        self.observer_state = state["observer"]
        if self.observer is not None:
            self.observer.load(self.observer_state)
        return True

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn SIGINT and SIGTERM into a stop after the present step; a second one ends at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def request(number: int, frame: Any) -> None:
            if self._stop_requested:
                raise KeyboardInterrupt
            self._stop_requested = True
            self.emit({"event": "stopping"})

        before = {s: signal.signal(s, request) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)


def _split(batch: int, parts: int) -> list[int]:
    """Sizes of micro-batches, as even as can be."""
    return [size for size in (batch // parts + (i < batch % parts) for i in range(parts)) if size]


def _is_buffer(module: nn.Module, key: str) -> bool:
    owner, _, leaf = key.rpartition(".")
    return leaf in module.get_submodule(owner)._buffers


@contextlib.contextmanager
def _memory_advice(batch: int, plan: Plan) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if (
            not isinstance(error, torch.OutOfMemoryError)
            and "can't allocate memory" not in text
            and "out of memory" not in text
        ):
            raise
        raise OutOfMemory(
            f"out of memory on {plan.device} with a batch of {batch} in {plan.accumulate} part(s): lower it with --batch "
            f"{max(1, batch // 2)}, or keep the batch and compute it in more parts with --accumulate {plan.accumulate * 2}"
        ) from None
