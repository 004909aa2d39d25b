//! What the fuzzer found interesting, played without it. `docs/decisions/0022-the-endpoint-asks-without-an-sdk.md` tells how.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "its helpers may fail loudly")]

#[path = "../fuzz/checks.rs"]
mod checks;

fn play(target: &str, check: fn(&[u8])) {
    let folder = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut played = 0;
    for file in std::fs::read_dir(&folder).expect(&folder) {
        let path = file.unwrap().path();
        // A panic names the input that made it.
        println!("{}", path.display());
        check(&std::fs::read(&path).unwrap());
        played += 1;
    }
    assert!(played >= 2, "{folder} has {played} files");
}

#[test]
fn any_event_gets_an_answer_that_a_flow_can_use() {
    play("event", checks::event);
}

#[test]
fn any_parameters_send_a_call_to_one_side() {
    play("parameters", checks::parameters);
}

#[test]
fn any_answer_of_parameter_store_is_read_or_refused() {
    play("get_parameters", checks::get_parameters);
}

#[test]
fn any_answer_of_dynamodb_is_read_or_refused() {
    play("batch_get_item", checks::batch_get_item);
}
