"""Fifty writers at once on the ledger's table: the Rust tests in `crates/aws/tests/store.rs`, against the deployed stack."""

import re
import os
import subprocess

import stack


def test_of_fifty_writers_at_once_exactly_one_wins_each_round(aws):
    table = aws.client("dynamodb").describe_table(TableName=aws.outputs["LedgerTable"])["Table"]
    scratch = "serin-races"  # a table of its own with the same keys: whatever is left in it is nobody else's
    keys = {name: table[name] for name in ("KeySchema", "AttributeDefinitions")}
    aws.client("dynamodb").create_table(TableName=scratch, BillingMode="PAY_PER_REQUEST", **keys)
    env = stack.clean_environment(
        AWS_ENDPOINT_URL=aws.endpoint,
        AWS_REGION=stack.REGION,
        AWS_ACCESS_KEY_ID=stack.ROOT_KEYS["aws_access_key_id"],
        AWS_SECRET_ACCESS_KEY=stack.ROOT_KEYS["aws_secret_access_key"],
        LEDGER_TABLE=scratch,
        **{name: value for name, value in os.environ.items() if name in ("CARGO_HOME", "RUSTUP_HOME")},
    )
    command = "cargo test --workspace --locked --quiet --test store -- --ignored --nocapture --test-threads 1".split()
    played = subprocess.run(command, cwd=stack.ROOT, env=env, capture_output=True, text=True, timeout=600)
    assert played.returncode == 0, played.stdout + played.stderr
    print(played.stdout)
    for race in ("entries", "leases", "holds", "right to restore"):
        assert re.search(rf"{race}: 20 rounds of 50 ", played.stdout), played.stdout
