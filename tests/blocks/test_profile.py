"""The profile block meets Prefect's own standards, and options of a run have precedence."""

from prefect.testing.standard_test_suites.blocks import BlockStandardTestSuite

from blocks import EnhancementProfile
from panelworks.domain.options import EnhanceOptions


class TestProfile:
    """The parts of Prefect's standard suite that need no picture from the internet."""

    suite = BlockStandardTestSuite

    def test_it_is_described(self) -> None:
        assert EnhancementProfile.get_description()
        self.suite.test_has_a_documentation_url(None, EnhancementProfile)  # type: ignore[arg-type]
        self.suite.test_all_fields_have_a_description(None, EnhancementProfile)  # type: ignore[arg-type]
        self.suite.test_has_a_valid_code_example(None, EnhancementProfile)  # type: ignore[arg-type]


def test_options_of_a_run_have_precedence() -> None:
    profile = EnhanceOptions(preset="sora", scale=4, face=True)
    merged = EnhanceOptions(scale=3).with_defaults_from(profile)
    assert (merged.preset, merged.scale, merged.face) == ("sora", 3, True)
