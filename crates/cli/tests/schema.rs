//! The schema that editors get is the one that the types say.
#![allow(clippy::unwrap_used)]

use std::path::Path;

#[test]
fn the_published_schema_is_the_one_of_the_types() {
    let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rollout.schema.json");
    let generated = serde_json::to_string_pretty(&serin_core::schema::rollout_file()).unwrap() + "\n";
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&published, &generated).unwrap();
    }
    assert!(
        std::fs::read_to_string(&published).unwrap_or_default() == generated,
        "docs/rollout.schema.json is not what the types say: look at the difference that UPDATE_SNAPSHOTS=1 makes, and commit it"
    );
}
