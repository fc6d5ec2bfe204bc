"""The one training loop: phases of updates, with averages, log, evaluation, atomic checkpoints and exact resume.

It knows no method.  Every random draw comes from a generator seeded with (seed, phase, step, update, repeat, part of the
batch), and the order of the data is a function of the seed: a resumed run goes on exactly without any saved random state.
"""

import contextlib
import copy
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Literal

import torch
from torch import Tensor

from regraft.core import norms
from regraft.core.errors import Interrupted, OutOfMemory, TrainingError
from regraft.core.networks import Generator
from regraft.core.randomness import derive
from regraft.runs.store import RunStore
from regraft.training.checkpoint import changing_tensors, load_tensors
from regraft.training.engine import Averages, Engine, Order
from regraft.training.observation import Observer
from regraft.training.updates import Adaptation, Data, Phase, Update


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the loop runs.

    Attributes:
        seed: seed of every random draw and of the order of the data.
        device: where to compute.
        accumulate: parts that each batch is computed in.
        precision: ``float32`` or ``bfloat16``, of forward passes.
        observe_every: steps between two calls of the observer, 0 for none.
        checkpoint_every: steps between two checkpoints.
        log_every: steps that are averaged in one line of the log.
    """

    seed: int = 0
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))
    accumulate: int = 1
    precision: str = "float32"
    observe_every: int = 0
    checkpoint_every: int = 200
    log_every: int = 20


@dataclasses.dataclass
class Position:
    """Where the loop is; saved with every checkpoint.

    Attributes:
        phase: index of the phase.
        step: steps done in the phase.
        total: steps done in all phases.
        items: data items drawn so far.
        best_step: the step of the best generator observed, or None.
        stopped: why the observer stopped the run early, or None.
    """

    phase: int = 0
    step: int = 0
    total: int = 0
    items: int = 0
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
            data: target data to train on, without what is held out.
            plan: how to run.
            store: where log and checkpoints go.
            observer: measures the generator during the run, or None.
            emit: called with every log line and event.
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
        """Number of steps of all phases."""
        return sum(phase.steps for phase in self.adaptation.phases)

    def result(self, keep: Literal["best", "last"]) -> Result:
        """Return the generator that a finished run keeps.  Call it once, as it may change the trained generator in place.

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
        """Return the generator as it would be saved now: averaged, with measured statistics and mean style."""
        live = self.adaptation.generator
        generator = self.averages.modules.get("generator", live)
        if not isinstance(generator, Generator):
            raise TypeError(f"the averaged generator is a {type(generator).__name__}")
        trained = {id(p) for p in self.adaptation.trained().values()}
        moves_styles = any(id(p) in trained for m in live.style_path for p in m.parameters())
        uses_batch = norms.uses_batch_statistics(live)
        if uses_batch or moves_styles:
            generator = copy.deepcopy(generator)
        if moves_styles:
            generator.measure_mean_style()
        if uses_batch:
            norms.calibrate(generator, like=live)
        return generator

    def run(self, resume: bool = False) -> None:
        """Train to the end, or until the observer or a signal stops the run.

        Args:
            resume: whether to go on from the store's checkpoint, if it has one.

        Raises:
            TrainingError: if a loss is not finite; the last checkpoint stays.
            OutOfMemory: if the device's memory is too small; the message says what to lower.
            Interrupted: after a signal, when the state has been saved.
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
            for repeat in range(update.count_at(position.step)):
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
        # A generator that does not change cannot become worse, and must not end a phase that trains something else.
        if due and self._moves_generator(phase):
            self._observe()
        if position.total % self.plan.checkpoint_every == 0 or (at_end and position.total < self.total_steps):
            self._save()
        if self._stop_requested:
            self._save()
            where = f": go on with --resume {self.store.folder}" if self.store.folder is not None else ""
            raise Interrupted(f"stopped at step {position.total} of {self.total_steps}; the state is saved{where}")

    def _update(self, phase: Phase, number: int, update: Update, repeat: int) -> None:
        """Do one optimiser step of one update, over its micro-batches."""
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
        of_generator = {id(p) for p in self.adaptation.generator.parameters()}
        return any(id(p) in of_generator for update in phase.updates for p in self.engine.parameters(update))

    def _observe(self) -> None:
        assert self.observer is not None  # both callers check
        self._flush_log()
        generator = self.generator()
        observation = self.observer(self.position.total, generator)
        self.observer_state = observation.state
        if observation.best:
            self.position.best_step = self.position.total
            self.store.save_best(self.position.total, generator.state_dict())
        self.position.stopped = observation.stop
        line = {"step": self.position.total, "held_out": observation.values, "best": observation.best}
        self.store.log(line)
        self.emit({"event": "observation", **line, "stop": observation.stop})

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
        """Write a checkpoint of everything that the rest of the run depends on."""
        self._flush_log()
        trained = set(self.adaptation.trained())
        self.store.save_state(
            {
                "position": dataclasses.asdict(self.position),
                "modules": changing_tensors(self.adaptation.modules, trained),
                "averages": changing_tensors(self.averages.modules, trained),
                "optimisers": self.engine.state(),
                "observer": self.observer_state,
            }
        )

    def _load(self) -> bool:
        """Take up the store's checkpoint; False if it has none."""
        state = self.store.load_state()
        if state is None:
            return False
        self.position = Position(**state["position"])
        load_tensors(self.adaptation.modules, state["modules"])
        load_tensors(self.averages.modules, state["averages"])
        phases, position = self.adaptation.phases, self.position
        if phases and position.phase == len(phases):
            done = position.total - sum(phase.steps for phase in phases[:-1])
            if done < phases[-1].steps:  # a finished run that was lengthened
                position.phase, position.step = len(phases) - 1, done
        self._resume_phase(state["optimisers"])
        self.observer_state = state["observer"]
        if self.observer is not None:
            self.observer.load(self.observer_state)
        return True

    def _resume_phase(self, optimisers: dict[str, Any]) -> None:
        """Go on in the phase of the present position, with the saved state of its optimisers."""
        phases, position = self.adaptation.phases, self.position
        if position.phase >= len(phases):
            # A finished run is still sampled and measured, in the modes that it ended in.
            if phases and phases[-1].modes is not None:
                phases[-1].modes()
            return
        phase = phases[position.phase]
        self.engine.enter(phase, keep=False)
        self.engine.load(optimisers)
        # A stop between two phases is saved as the end of the first.
        if position.step == phase.steps and position.phase + 1 < len(phases) and not position.stopped:
            position.phase += 1
            position.step = 0
            self._enter(phases[position.phase])
        elif phase.modes is not None:
            phase.modes()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn SIGINT and SIGTERM into a stop after the present step; a second signal ends at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def request_stop(number: int, frame: FrameType | None) -> None:
            if self._stop_requested:
                raise KeyboardInterrupt
            self._stop_requested = True
            self.emit({"event": "stopping"})

        before = {s: signal.signal(s, request_stop) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)


def _split(batch: int, parts: int) -> list[int]:
    """Return the sizes of ``parts`` micro-batches, as even as possible; none is empty."""
    return [size for size in (batch // parts + (i < batch % parts) for i in range(parts)) if size]


@contextlib.contextmanager
def _memory_advice(batch: int, plan: Plan) -> Iterator[None]:
    """Turn an error for lack of memory into one that says what to lower."""
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
