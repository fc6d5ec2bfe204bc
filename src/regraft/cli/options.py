"""Command-line options made from settings, so that no option is typed twice."""

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_args, get_origin

import typer

from regraft.core.config import Config


def options_from(model: type[Config], leave_out: Sequence[str] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command one option per field of a model; the command receives what the user gave as ``given``.

    Args:
        model: the settings.
        leave_out: fields that the command takes in another way, or that only ``--set`` reaches.
    """
    fields = {name: field for name, field in model.model_fields.items() if name not in leave_out}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = [p for p in inspect.signature(command).parameters.values() if p.name != "given"]

        def wrapped(**values: Any) -> Any:
            given = {k: values.pop(k) for k in fields}
            given = {k: v for k, v in given.items() if v is not None and v != [] and v != ()}
            return command(given=given, **values)

        extra = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_option(name, field))
            for name, field in fields.items()
        ]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        wrapped.__signature__ = inspect.Signature([*parameters, *extra])  # type: ignore[attr-defined]
        wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
        wrapped.__annotations__ = {p.name: p.annotation for p in (*parameters, *extra)}
        return wrapped

    return decorate


def _option(name: str, field: Any) -> Any:
    flag = f"--{name.replace('_', '-')}"
    text = field.description or ""
    default = field.get_default()
    if default not in (None, (), {}, False):
        shown = ", ".join(map(str, default)) if isinstance(default, tuple) else default
        text += f" [default: {shown}]"
    kind = _kind(field.annotation)
    flags = f"{flag}/--no-{name.replace('_', '-')}" if kind is bool else flag
    # A missing option is None: only what the user gave overrides a file of settings.
    return Annotated[kind | None, typer.Option(flags, help=text, show_default=False)]


def _kind(annotation: Any) -> Any:
    """What the command line reads a field as."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind(get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        inner = [a for a in get_args(annotation) if a is not type(None) and get_origin(a) is not dict]
        return _kind(inner[0]) if len(inner) == 1 else str
    return annotation


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress.")]


Sources = Annotated[
    list[str] | None,
    typer.Option("--source", "-s", help="Pretrained GAN: a file, folder, card, run, or bundled name; may be repeated."),
]


Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting as key=value: the method's (freeze=2), recipe.*, objective.*; may be repeated."),
]
