"""`panelworks score`: assess pages without enhancing them."""

from typing import Annotated

import typer

from panelworks import pictures, quality
from panelworks.cli.options import Json
from panelworks.cli.output import expand_sources, print_json
from panelworks.domain.options import EnhanceOptions
from panelworks.errors import PanelworksError
from panelworks.page.delivery import delivery_size
from panelworks.quality.learned import learned_scorers
from panelworks.quality.scorers import SCORERS
from panelworks.settings import Settings, get_settings
from panelworks.video.source import fetch_picture


def score(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="Like the sources of 'enhance'.", show_default=False),
    ],
    json: Json = False,
) -> None:
    """Score pages without changing them: as they look at the size of their largest variant, and the decision of the gate."""
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
            fetched = fetch_picture(image, settings)
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
        size = _delivery_size(picture.size, settings, enlarged=not decision.good)
        report = quality.score_delivery(report, picture, size, scorers)
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
        shown = "x".join(map(str, size))
        print(f"{image}: {report.overall:.2f} at {shown}, {verdict}, {reason}\n    as it is: {components}")
    return 1 if failures else 0


def _delivery_size(size: tuple[int, int], settings: Settings, *, enlarged: bool) -> tuple[int, int]:
    """The size of a page's largest variant with default options."""
    options = EnhanceOptions().resolve(settings, size)
    scale = options.scale if enlarged else 1.0
    master = (round(size[0] * scale), round(size[1] * scale))
    return delivery_size(master, [spec.box_of(master) for spec in options.variant_specs])
