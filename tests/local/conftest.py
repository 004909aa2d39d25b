"""One deployed stack for the whole session."""

import pytest
import stack


@pytest.fixture(scope="session")
def aws():
    """The production template in the local AWS, stage `local`, secrets seeded. Fails (never skips) when the binaries are missing."""
    try:
        for name in stack.FUNCTIONS:
            stack.binary(name)
    except stack.LocalError as missing:
        pytest.fail(str(missing), pytrace=False)
    with stack.Stack() as local:
        local.deploy("local", parameters={"Flows": "main_ivr", "GenesysOrganizationId": "00000000-0000-0000-0000-000000000000"})
        local.seed_secrets()
        yield local
