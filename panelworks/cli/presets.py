"""`panelworks presets`: which variants a preset cuts."""

from panelworks.cli.options import Json
from panelworks.cli.output import print_json
from panelworks.domain.formats import PRESETS


def presets(json: Json = False) -> None:
    """List the presets and the variants that each cuts."""
    for name, specs in PRESETS.items():
        if json:
            print_json({"name": name, "variants": [spec.model_dump() for spec in specs]})
        else:
            variants = ", ".join(
                f"{s.name} {s.width or '*'}x{s.height or '*'} {s.format} q{s.quality}" for s in specs
            )
            print(f"{name:<18} {variants}")
