"""`panelworks score`: assess pages without enhancing them."""

from typing import Annotated

import typer

from panelworks import pictures, quality
from panelworks.cli.options import Json
from panelworks.cli.output import expand_sources, print_json
from panelworks.errors import PanelworksError
from panelworks.quality.learned import learned_scorers
from panelworks.quality.scorers import SCORERS
from panelworks.settings import get_settings
from panelworks.sources.fetch import fetch


def score(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="Like the sources of 'enhance'.", show_default=False),
    ],
    json: Json = False,
) -> None:
    """Score pages without changing them: resolution, technical quality and the decision of the gate."""
    with expand_sources(images, get_settings().max_source_bytes) as found:
        code = score_all(found, json=json)
    raise typer.Exit(code)


def score_all(images: list[str], *, json: bool) -> int:
    """Print a report for each picture. Return the exit code."""
    settings = get_settings()
    scorers = (*SCORERS, *learned_scorers(settings))
    failures = 0
    for image in images:
        try:
            fetched = fetch(image, settings)
            picture = pictures.decode(fetched.data, settings).picture
        except PanelworksError as error:
            failures += 1
            if json:
                print_json({"uri": image[:200], "error": {"code": error.code, "message": error.message}})
            else:
                print(f"{image[:200]}: {error} [{error.code}]")
            continue
        report = quality.assess(picture, scorers)
        decision = quality.decide(report, settings.quality_threshold, settings.technical_threshold)
        if json:
            print_json(
                {
                    "uri": fetched.uri,
                    "width": picture.width,
                    "height": picture.height,
                    **report.model_dump(),
                    "good": decision.good,
                    "reason": decision.reason,
                }
            )
            continue
        components = " ".join(f"{name} {value:.2f}" for name, value in report.components.items())
        verdict = "damaged" if report.damage else "good" if decision.good else "enhance"
        reason = f"{decision.reason}; {report.damage}" if report.damage else decision.reason
        print(f"{image}: {report.overall:.2f} {verdict}, {reason}\n    {components}")
    return 1 if failures else 0
