"""The API is asked whatever its description allows, and some that it does not."""

import pytest

pytestmark = pytest.mark.slow
schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")


def test_the_server_keeps_its_description(application_of_run):
    """No crash, no undescribed status, no answer of another form than described."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    app = application_of_run[0]
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", app, headers={"host": "127.0.0.1"})
    asked = []

    @given(st.data())
    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(data):
        operation = data.draw(st.sampled_from([found.ok() for found in schema.get_all_operations()]))
        case = data.draw(operation.as_strategy())
        # No schema says which bytes are an image, so nearly all that fit it are rightly refused.
        answer = case.call_and_validate(headers={"host": "127.0.0.1"}, excluded_checks=[positive_data_acceptance])
        asked.append((operation.path, answer.status_code))

    ask()
    assert {path for path, _ in asked} == {"/api/health", "/api/run", "/api/predict"}
    assert all(status < 500 for _, status in asked)
