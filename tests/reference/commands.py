"""The command `dyeworks`: each command with its arguments and options."""

import inspect
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from deployments.cli.app import EXITS, app
from tests.reference.tables import code, table

KINDS = {Path: "PATH", str: "TEXT", int: "INTEGER", float: "NUMBER"}


def commands() -> list[str]:
    """All commands, those of a group one by one."""
    return [
        "## Commands",
        "",
        f"`make setup` installs `dyeworks` into `.venv/bin`; it runs in any folder. {EXITS}",
        "A command without `--model` means the only model of the store; where there is not just one, it ends and lists",
        "them.",
        "",
        *(line for name, command in walk() for line in _command(name, command)),
    ]


def walk() -> Iterator[tuple[str, TyperCommand]]:
    """Each command that can be run, with its whole name."""
    top = typer.main.get_command(app)
    assert isinstance(top, TyperGroup)
    yield from _below("dyeworks", top)


def _below(above: str, group: TyperGroup) -> Iterator[tuple[str, TyperCommand]]:
    for name, found in group.commands.items():
        if isinstance(found, TyperGroup):
            yield from _below(f"{above} {name}", found)
        elif isinstance(found, TyperCommand):
            yield f"{above} {name}", found


def _command(name: str, command: TyperCommand) -> list[str]:
    arguments = [p for p in command.params if isinstance(p, TyperArgument)]
    options = [p for p in command.params if isinstance(p, TyperOption)]
    needed = [f"{option.opts[0]} {_metavar(option)}" for option in options if option.required]
    optional = ["[OPTIONS]"] if len(needed) < len(options) else []
    usage = " ".join([name, *map(_metavar, arguments), *needed, *optional])
    parameters: list[TyperArgument | TyperOption] = [*arguments, *options]
    rows = [[code(_spelt(p)), _default(p), p.help or ""] for p in parameters]
    return [
        f"### {name}",
        "",
        f"    {usage}",
        "",
        *inspect.cleandoc(command.help or "").splitlines(),
        "",
        *(table(("argument or option", "default", "meaning"), rows) if rows else []),
    ]


def _spelt(parameter: TyperArgument | TyperOption) -> str:
    if isinstance(parameter, TyperArgument):
        return _metavar(parameter)
    assert isinstance(parameter, TyperOption)
    return parameter.opts[0] if parameter.is_flag else f"{parameter.opts[0]} {_metavar(parameter)}"


def _metavar(parameter: TyperArgument | TyperOption) -> str:
    kind = parameter.type_descriptor.annotation
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(choice.value) for choice in kind)
    return (parameter.metavar or KINDS.get(kind, "")) + ("..." if parameter.nargs == -1 else "")


def _default(parameter: TyperArgument | TyperOption) -> str:
    if parameter.required:
        return "required"
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    value = parameter.default
    return "" if value is None or value is False or value == "" else code(str(value))
