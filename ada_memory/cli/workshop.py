"""Commands beside the day and the night: settings, the demonstration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from ada_memory.cli.benches import bench
from ada_memory.cli.common import JsonFlag, options

config = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="What can be set, and how it is set now."
)


def register(app: typer.Typer) -> None:
    """Add the workshop's commands to the app."""
    app.add_typer(config, name="config")
    app.add_typer(bench, name="bench")
    app.command()(demo)


@config.command("show")
def config_show(
    ctx: typer.Context,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Every setting as it counts now: etc/ada.toml < environment < --set.

    \b
    Examples:
      ada config show
      ada config show --origin
      ada config show --json | jq .sunset
    """
    chosen = options(ctx)
    values = chosen.load()[0].model_dump(mode="json")
    if not origin:
        typer.echo(json.dumps(values) if as_json else toml(values))
        return
    from ada_memory.settings import home_root, origins

    env = chosen.environment()
    found = origins(env=env, flags=chosen.flags)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    section: {
                        key: {"value": value, "origin": at.kind, "name": at.name, "line": at.line}
                        for key, value in table.items()
                        for at in (found[f"{section}.{key}"],)
                    }
                    for section, table in values.items()
                }
            )
        )
        return
    file = home_root(env) / "etc" / "ada.toml"
    says = {key: str(at).replace(str(file), "etc/ada.toml") for key, at in found.items()}
    typer.echo(f"# etc/ada.toml is {file}{'' if file.is_file() else ', which is not there'}\n")
    typer.echo(toml(values, says))


def toml(values: dict[str, dict[str, Any]], says: Mapping[str, str] | None = None) -> str:
    """Settings as the TOML that would set them; with `says`, by `section.key`, as a comment beside each."""
    rows = {
        section: {key: f"{key} = {json.dumps(value)}" for key, value in table.items()}
        for section, table in values.items()
    }
    width = max((len(line) for table in rows.values() for line in table.values()), default=0)
    blocks = []
    for section, table in rows.items():
        comments = {key: f"  # {says[f'{section}.{key}']}" if says else "" for key in table}
        lines = [f"{line:<{width if says else 0}}{comments[key]}" for key, line in table.items()]
        blocks.append("\n".join([f"[{section}]", *lines]))
    return "\n\n".join(blocks)


@config.command("template")
def config_template() -> None:
    """etc/ada.toml with every key explained and at its default.

    \b
    Example:
      ada config template > etc/ada.toml
    """
    from ada_memory.settings import template

    typer.echo(template(), nl=False)


@config.command("path")
def config_path(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Where the settings file lies, or would lie.

    \b
    Example:
      ${EDITOR:-vi} "$(ada config path)"
    """
    from ada_memory.settings import home_root

    file = home_root(options(ctx).environment()) / "etc" / "ada.toml"
    typer.echo(json.dumps({"path": str(file), "exists": file.is_file()}) if as_json else str(file))


def demo(ctx: typer.Context) -> None:
    """A whole day and night, live, on a throw-away home.

    It is what `make night` runs.

    \b
    Example:
      ada demo
    """
    from ada_memory.bench import demo as first_night

    raise typer.Exit(first_night.run(home=options(ctx).home))
