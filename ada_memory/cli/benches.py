"""The benchmarks: each one runs by itself, prints its figures and can print them as one JSON object."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ada_memory.cli.common import JsonFlag, answer, options
from ada_memory.errors import BadInput

Nights = Annotated[int, typer.Option(min=1, help="How many days and nights.")]
FactsPerNight = Annotated[int, typer.Option(min=1, help="New facts a day.")]
SeedOfNights = Annotated[int, typer.Option(help="Decides the facts and every draw of the nights.")]

bench = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The benchmarks behind every figure in the README."
)


@bench.callback()
def bench_root() -> None:
    """The benchmarks behind every figure in the README."""
    # being told to end is Ctrl-C here: a bench's daemon ends with it
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@bench.command("night")
def bench_night(
    ctx: typer.Context,
    facts: Annotated[int, typer.Option(min=1, help="How many new facts the day holds.")] = 20,
    seed: Annotated[int, typer.Option(help="Decides the facts and every draw of the night.")] = 7,
    as_json: JsonFlag = False,
) -> None:
    """One day of new facts, one night: what is known before, after, and what it cost.

    Runs on a home of its own that is thrown away, unless --home names one to keep.

    \b
    Examples:
      ada bench night --facts 20 --seed 7
      ada bench night --facts 20 --seed 7 --json | tail -1 | jq .recall_heldout
    """
    from ada_memory.bench import night

    chosen = options(ctx)
    result = night.run(facts=facts, seed=seed, json=as_json, home=chosen.home, settings=chosen.flags)

    answer(result, as_json, lambda: columns(result))


@bench.command("nights")
def bench_nights(
    ctx: typer.Context,
    nights: Nights = 30,
    facts_per_night: FactsPerNight = 10,
    seed: SeedOfNights = 7,
    plot: Annotated[Path | None, typer.Option(help="Draw it to this file (needs matplotlib).")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Many days and nights in one life: is the first day still known, and has anything else suffered?

    Thirty nights take an hour or two. Runs on a home of its own that is thrown away, unless --home
    names one to keep; there, a run that was ended goes on.

    \b
    Examples:
      ada bench nights --nights 30 --facts-per-night 10 --plot nights.png
      ada bench nights --nights 5 --json | tail -1 | jq '.recall_all_final, .exam_min'
    """
    from ada_memory.bench import nights as bench_of_nights

    chosen = options(ctx)
    if plot is not None:
        bench_of_nights.must_plot(plot)  # what is missing is missed now, not in two hours
    result = bench_of_nights.run(nights, facts_per_night, seed, home=chosen.home, settings=chosen.flags)
    answer(result, as_json, lambda: columns({k: v for k, v in result.items() if k != "nights"}))
    if plot is not None:
        bench_of_nights.plot(result, plot)


@bench.command("again")
def bench_again(
    ctx: typer.Context,
    night: Annotated[int, typer.Argument(min=1, help="Which of the kept nights, by its number.")],
    order: Annotated[int, typer.Option(help="Draws rows and strangers otherwise: how much is chance.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """One night of `ada bench nights` once more, with other settings: what does a change bring?

    The home that the run was kept in is named by --home and not changed. Dreams are taken as they were,
    dataset and training are done anew from the same parent, and the same questions are asked.

    \b
    Examples:
      ada bench nights --seed 41 --home life
      ada bench again 20 --home life --set forge.noise=0
      ada bench again 20 --home life --order 1 --json | jq '.recall_all, .then.recall_all'
    """
    from ada_memory.bench import again

    chosen = options(ctx)
    if chosen.home is None:
        raise BadInput("which life?", hint="--home names the home that `ada bench nights` was kept in")
    result = again.run(chosen.home, night, order, chosen.flags)

    answer(result, as_json, lambda: columns(result))


@bench.command("seal")
def bench_seal(
    ctx: typer.Context,
    nights: Nights = 8,
    facts_per_night: FactsPerNight = 10,
    seed: SeedOfNights = 7,
    as_json: JsonFlag = False,
) -> None:
    """SEAL's setting: edits merged one on another, beside as many nights. What is left of the first day?

    The same facts both ways. The nights run on a home that is thrown away, unless --home names one to keep.

    \b
    Examples:
      ada bench seal
      ada bench seal --nights 4 --json | tail -1 | jq '.stacked.first_final, .ada.first_final'
    """
    from ada_memory.bench import seal

    chosen = options(ctx)
    result = seal.run(nights, facts_per_night, seed, home=chosen.home, settings=chosen.flags)

    def render() -> Any:
        from ada_memory.cli.bench_tables import seal as table

        return table(result)

    answer(result, as_json, render)


@bench.command("recipes")
def bench_recipes(
    ctx: typer.Context,
    facts: Annotated[int, typer.Option(min=1, help="How many new facts the day holds.")] = 20,
    seed: Annotated[int, typer.Option(help="Decides the day and every draw of a run.")] = 7,
    only: Annotated[str | None, typer.Option(help="One recipe alone, such as sage; ada is ours.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Train by the recipes of Circadia, Sleeping LLM and SAGE, and by a night of ours; ask them all the same.

    Each recipe runs as published and at the best learning rate of a sweep, chosen on another day. The night
    runs on a home of its own that is thrown away, unless --home names one to keep.

    \b
    Examples:
      ada bench recipes --facts 20 --seed 7
      ada bench recipes --only sage
      ada bench recipes --json | tail -1 | jq '.recipes[] | [.name, .kind, .recall_heldout, .core_after]'
    """
    from ada_memory.bench import recipes

    chosen = options(ctx)
    result = recipes.run(facts=facts, seed=seed, only=only, home=chosen.home, settings=chosen.flags)

    def render() -> Any:
        from ada_memory.cli.bench_tables import recipes as tables

        return tables(result)

    answer(result, as_json, render)


@bench.command("kills")
def bench_kills(
    ctx: typer.Context,
    kills: Annotated[int, typer.Option(min=1, help="How many processes are killed.")] = 200,
    seed: Annotated[int, typer.Option(help="Decides whom and when, as far as a machine repeats itself.")] = 7,
    rate: Annotated[float, typer.Option(min=0.1, help="Posts a second that go on all the while.")] = 4.0,
    as_json: JsonFlag = False,
) -> None:
    """Kill the daemon and its children, in every stage of the night and at any moment; count what is lost.

    Nights run on a tiny random model, so 200 kills take about a quarter of an hour. Exit 1 if anything was
    lost, kept twice, served half or left unfinished.

    \b
    Examples:
      ada bench kills --kills 40
      ada bench kills --kills 200 --json | tail -1 | jq '{lost, duplicated, served_bad, nights_unfinished}'
    """
    from ada_memory.bench import kills as bench_of_kills

    chosen = options(ctx)
    result = bench_of_kills.run(kills=kills, seed=seed, rate=rate, home=chosen.home, settings=chosen.flags)

    answer(result, as_json, lambda: columns(result))
    raise typer.Exit(1 if any(result[name] for name in bench_of_kills.MUST_BE_ZERO) else 0)


@bench.command("flood")
def bench_flood(
    ctx: typer.Context,
    rate: Annotated[float, typer.Option(min=0.1, help="Messages a second.")] = 50.0,
    seconds: Annotated[float, typer.Option(min=0.1, help="For how long.")] = 60.0,
    as_json: JsonFlag = False,
) -> None:
    """Post at a steady rate and look meanwhile: what is lost, what is slow.

    Runs on a home of its own that is thrown away, unless --home names one to keep. Exits
    with 1 if a request failed or anything acknowledged is lost or there twice.

    \b
    Examples:
      ada bench flood --rate 50 --seconds 60
      ada bench flood --rate 50 --seconds 60 --json | jq '.lost, .p99_ms'
    """
    from ada_memory.bench import flood

    chosen = options(ctx)
    result = flood.run(rate=rate, seconds=seconds, home=chosen.home, settings=chosen.flags)

    answer(result, as_json, lambda: columns(result))
    if any(result[name] for name in ("failed", "looks_failed", "lost", "duplicated", "unencoded")):
        raise typer.Exit(1)


@bench.command("forge")
def bench_forge(  # noqa: PLR0913, PLR0917  one parameter for each flag
    ctx: typer.Context,
    against: Annotated[
        str, typer.Option(help="Whom to train beside: mlx-lm, trl, or both with a comma between.")
    ] = "mlx-lm,trl",
    engine: Annotated[
        str, typer.Option(help="Our engines, with commas between: default, peft, mlx.")
    ] = "default,mlx",
    model: Annotated[str, typer.Option(help="seedling, 0.5b or both.")] = "both",
    facts: Annotated[int, typer.Option(min=1, help="How many facts the night's rows are about.")] = 20,
    seed: Annotated[int, typer.Option(help="Decides the rows, their order and the random weights.")] = 7,
    repeats: Annotated[int, typer.Option(min=1, help="How often everybody trains; medians count.")] = 3,
    steps: Annotated[
        int, typer.Option(min=0, help="Updates in a training; 0 means 40 on the seedling, 8 at 0.5b.")
    ] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Train the same rows with our forge, mlx_lm.lora and TRL: tokens a second, memory, seconds to recall.

    Each trains in a process of its own, one after the other. Whoever is not installed is left out, and
    it says how to install it.

    \b
    Examples:
      ada bench forge --against mlx-lm,trl
      ada bench forge --against trl --model seedling --steps 30 --repeats 1
      ada bench forge --json | tail -1 | jq '.speedup_mlx_lm, .speedup_trl, .seconds_to_recall'
    """
    from ada_memory.bench import forge

    _as_it_ships(ctx)
    result = forge.run(
        against=names(against),
        engines=names(engine),
        models=forge.MODELS if model == "both" else names(model),
        facts=facts,
        seed=seed,
        repeats=repeats,
        steps=steps,
    )
    answer(result, as_json, lambda: columns(result))


@bench.command("dream")
def bench_dream(
    ctx: typer.Context,
    facts: Annotated[int, typer.Option(min=1, help="How many facts the day holds.")] = 20,
    seed: Annotated[int, typer.Option(help="Decides the facts and every dream.")] = 7,
    cycles: Annotated[int, typer.Option(min=1, help="REM cycles that are dreamt both ways.")] = 2,
    as_json: JsonFlag = False,
) -> None:
    """Dream of a day's memories all at once and one at a time: dreams a second, and whether they agree.

    \b
    Examples:
      ada bench dream
      ada bench dream --cycles 1 --json | tail -1 | jq .speedup
    """
    from ada_memory.bench import dream

    _as_it_ships(ctx)
    result = dream.run(facts=facts, seed=seed, cycles=cycles)
    answer(result, as_json, lambda: columns(result))


@bench.command("cycles")
def bench_cycles(
    ctx: typer.Context,
    facts: Annotated[int, typer.Option(min=1, help="How many facts the day holds.")] = 20,
    seed: SeedOfNights = 7,
    cycles: Annotated[str, typer.Option(help="Numbers of REM cycles, with commas.")] = "1,2,4,6",
    density: Annotated[str, typer.Option(help="Dreams a memory gets in a cycle, with commas.")] = "16",
    as_json: JsonFlag = False,
) -> None:
    """Sleep on one day with fewer and with more REM cycles: what does one more bring, and what does it cost?

    A whole night for each number of cycles and each density, every one on a home that is thrown away.

    \b
    Examples:
      ada bench cycles
      ada bench cycles --cycles 2,4 --density 8,16 --json | tail -1 | jq '.nights[].a_cycle_more'
    """
    from ada_memory.bench import cycles as bench_of_cycles

    def numbers(name: str, text: str) -> list[int]:
        try:
            return [int(part) for part in names(text)]
        except ValueError:
            raise typer.BadParameter(f"{name} takes whole numbers with commas, not {text!r}") from None

    counts, densities = numbers("--cycles", cycles), numbers("--density", density)
    result = bench_of_cycles.run(facts, seed, counts, densities, options(ctx).flags)

    def render() -> Any:
        from ada_memory.cli.bench_tables import cycles as table

        return table(result)

    answer(result, as_json, render)


def _as_it_ships(ctx: typer.Context) -> None:
    """Raises BadInput if settings were given to a benchmark that measures what ships."""
    if options(ctx).flags:
        raise BadInput("this benchmark measures the settings that ship", hint="leave --set out")


def names(text: str) -> list[str]:
    """The parts of a list with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def columns(result: Mapping[str, object]) -> Any:
    """Figures by name, for people."""
    from ada_memory.cli.show import facts

    return facts((name.replace("_", " "), value) for name, value in result.items())
