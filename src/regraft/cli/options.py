"""Options of the command line, made from settings where a setting exists, so that every option is described once."""

import inspect
import pathlib
import types
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from regraft.core.config import Config

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of every random draw.")]
Resume = Annotated[
    pathlib.Path | None, typer.Option(help="Run folder to continue exactly where it stopped, with its own settings.")
]
RunOut = Annotated[pathlib.Path | None, typer.Option(help="Run folder to make; never overwritten.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Any other setting as key=value: the method's own (freeze=2), recipe.*, objective.*, and for pretrain "
        "backbone_settings.*; may be repeated.",
    ),
]
TargetImages = Annotated[str, typer.Argument(help="Target images: a folder, or a file of many (.zip, .npz, .tar, ...).")]
Sources = Annotated[
    list[str] | None,
    typer.Option("--source", "-s", help="Pretrained GAN: a file, folder, source card, run, or name; may be repeated."),
]
AdapterSources = Annotated[
    list[str] | None,
    typer.Option("--source", "-s", help="Source of a run or adapter, if it is not where the run expects it; may be repeated."),
]


def options_from(
    model: type[Config], *, only: Sequence[str] = (), leave_out: Sequence[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option per field of a settings class; the command receives as ``options`` those that the user gave.

    Args:
        model: the settings class.
        only: the fields to take; all if empty.
        leave_out: fields that the command takes in another way, or that only ``--set`` reaches.
    """
    fields = {name: field for name, field in model.model_fields.items() if name not in leave_out and (name in only or not only)}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def wrapped(**values: Any) -> None:
            options = {name: values.pop(name) for name in fields}
            command(options={k: v for k, v in options.items() if v is not None and v != [] and v != ()}, **values)

        parameters = [p for p in inspect.signature(command).parameters.values() if p.name != "options"]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        parameters += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_option(name, field))
            for name, field in fields.items()
        ]
        wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
        wrapped.__dict__["__signature__"] = inspect.Signature(parameters)
        wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
        return wrapped

    return decorate


def _option(name: str, field: FieldInfo) -> object:
    """Return the annotation of an option; if the user does not give it, its value is None, so that a file may set it."""
    flag = f"--{name.replace('_', '-')}"
    text = field.description or ""
    default = field.get_default()
    if default not in (None, (), {}, False):
        shown = ", ".join(map(str, default)) if isinstance(default, tuple) else default
        text += f" [default: {shown}]"
    kind = _option_type(field.annotation)
    flags = f"{flag}/--no-{name.replace('_', '-')}" if kind is bool else flag
    return Annotated[kind | None, typer.Option(flags, help=text, show_default=False)]


def _option_type(annotation: Any) -> Any:
    """Return the type that the command line reads for a field: a union of several types is read as text."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _option_type(get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        members = [a for a in get_args(annotation) if a is not type(None) and get_origin(a) is not dict]
        return _option_type(members[0]) if len(members) == 1 else str
    return annotation
