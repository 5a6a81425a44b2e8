"""Options that several commands share."""

from typing import Annotated

import typer

Model = Annotated[str, typer.Option("--model", metavar="NAME", help="The model; the only one where none is named.")]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="NAME", help="A model to serve, repeatable; all of a base where none is named."),
]
Actor = Annotated[str, typer.Option("--actor", help="Who asks for it.")]
Reason = Annotated[str, typer.Option("--reason", help="Why.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]
