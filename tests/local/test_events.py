"""Every sample in `events/` against the deployed function it belongs to, as `make invoke` sends it."""

import demo
import pytest
import stack

SAMPLES = sorted(path.stem for path in stack.EVENTS.glob("*.json"))


@pytest.fixture(scope="module")
def local():
    with demo.organization(demo.SEED) as genesys, stack.Stack() as aws:
        demo.deploy(aws, genesys)
        yield aws, genesys


def function_of(sample):
    return next(function for function in stack.FUNCTIONS if sample.startswith(function))


def test_every_function_has_a_plain_sample_and_one_that_is_no_event():
    for function in stack.FUNCTIONS:
        assert {function, f"{function}-not-an-event"} <= set(SAMPLES)


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_sample_is_served_or_refused_in_words(local, sample):
    aws, genesys = local
    function = function_of(sample)
    send = lambda: aws.invoke(function, stack.event(sample))  # noqa: E731
    if function == "random-percentage":
        answer = send()
        answer = answer if "statusCode" not in answer else stack.json.loads(answer["body"])
        # No rollout is open here, so every caller stays where they are.
        assert (answer["cohort"], answer["fallback"]) == ("stable", True)
        assert ("error" in answer) == sample.endswith("not-an-event")
    elif sample.endswith("not-an-event"):
        with pytest.raises(stack.FunctionFailed, match="accepted"):
            send()
    elif function == "canary-evaluator":
        assert send()["flows"] == []
    elif function == "rollback-executor":
        answer = send()
        assert answer.get("batchItemFailures", []) == []
        assert all("no rollout" in worked["step"] for worked in answer["worked"])
    else:
        before = len(genesys.webhook())
        assert send()["batchItemFailures"] == []
        assert len(genesys.webhook()) == before + 2
