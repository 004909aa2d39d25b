//! What a flow agrees on with its neighbours, read out of its file: the attributes that it sets and its flow variables.

use serde_json::Value;
use serin_controller::ports::Interface;

/// An attribute whose name the flow computes.
const COMPUTED: &str = "(computed)";

/// An action inside of another is five levels deeper.
const DEEPEST: usize = 300;
/// The vendor's 10,000 actions, each of some hundred words.
const MOST: usize = 2_000_000;

/// What the reader needs for the deepest, with room to spare; memory that is not used costs nothing.
const STACK: usize = 64 << 20;

/// What the flow in an exported file agrees on, or why the file cannot be read.
pub(crate) fn interface(file: &str) -> Result<Interface, String> {
    // Reading recurses, and a stack that overflows ends the process.
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || read(file));
        let read = reader.map_err(|error| format!("the exported file could not be read: {error}"))?.join();
        read.unwrap_or_else(|_| Err("the exported file could not be read".to_owned()))
    })
}

fn read(file: &str) -> Result<Interface, String> {
    // The reader's own bounds are those of settings: actions of a flow are nested deeper, and there may be thousands of them.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEEPEST, max_nodes: MOST, max_events: 3 * MOST },
    };
    // Its words may repeat pieces of the file.
    let file: Value = serde_saphyr::from_str_with_options(file, options).map_err(|_| "the exported file is no yaml".to_owned())?;
    let root = file.as_object().filter(|root| root.len() == 1).and_then(|root| root.values().next()).filter(|flow| flow.is_object());
    let flow = root.ok_or("the exported file is not that of one flow")?;
    let mut interface = Interface::default();
    for variable in entries(flow, "variables") {
        // `stringVariable: {name: Flow.X}`
        for (key, inner) in variable.as_object().into_iter().flatten() {
            if let (Some(kind), Some(name)) = (key.strip_suffix("Variable"), inner["name"].as_str()) {
                interface.variables.insert(name.to_owned(), kind.to_owned());
            }
        }
    }
    collect(flow, &mut interface);
    Ok(interface)
}

/// Actions are nested in tasks, menus, states and the outputs of other actions.
fn collect(value: &Value, interface: &mut Interface) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                if key == "setParticipantData" {
                    let names = entries(inner, "attributes").map(|entry| attribute(&entry["attribute"]["name"]));
                    interface.participant_data.extend(names.map(|name| (name, "string".to_owned())));
                }
                collect(inner, interface);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, interface)),
        _ => {}
    }
}

fn entries<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// `{lit: name}`, or an expression.
fn attribute(name: &Value) -> String {
    match &name["lit"] {
        Value::String(text) => text.clone(),
        Value::Null => COMPUTED.to_owned(),
        // A name such as `1`, unquoted.
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
inboundCall:
  name: Main_IVR_Green
  variables:
    - stringVariable:
        name: Flow.Branch
        initialValue: {lit: "north"}
    - integerVariable: {name: Flow.Tries, initialValue: {noValue: true}}
    - stringCollectionVariable: {name: Flow.Skills}
  startUpRef: "/inboundCall/tasks/task[route]"
  tasks:
    - task:
        name: route
        variables:
          - stringVariable: {name: Task.Arm, initialValue: {lit: "blue"}}
        actions:
          - setParticipantData:
              name: tag
              attributes:
                - attribute: {name: {lit: canaryArm}, value: {exp: Task.Arm}}
                - attribute: {name: {exp: 'Append("x", Task.Arm)'}, value: {lit: y}}
          - decision:
              name: open?
              condition: {exp: 'Task.Arm == "green"'}
              outputs:
                "yes":
                  actions:
                    - setParticipantData: {name: deep, attributes: [{attribute: {name: {lit: language}, value: {lit: en}}}]}
                "no": {actions: [{disconnect: {name: Disconnect}}]}
"#;

    #[test]
    fn attributes_are_found_wherever_they_are_set_and_variables_of_the_flow_alone() {
        let found = interface(FILE).unwrap();
        let attributes: Vec<&str> = found.participant_data.keys().map(String::as_str).collect();
        assert_eq!(attributes, ["(computed)", "canaryArm", "language"]);
        assert!(found.participant_data.values().all(|kind| kind == "string"));
        let variables: Vec<(&str, &str)> = found.variables.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
        assert_eq!(variables, [("Flow.Branch", "string"), ("Flow.Skills", "stringCollection"), ("Flow.Tries", "integer")]);
    }

    #[test]
    fn a_flow_may_agree_on_nothing() {
        assert_eq!(interface("inboundCall:\n  name: A\n"), Ok(Interface::default()));
    }

    #[test]
    fn deep_nesting_is_read_to_its_end() {
        let line = |depth: usize, text: &str| format!("{}{text}\n", " ".repeat(depth));
        let mut file = "inboundCall:\n name: A\n".to_owned();
        file += &(1..290).map(|depth| line(depth, "outputs:")).collect::<String>();
        file += &line(290, "setParticipantData: {attributes: [{attribute: {name: {lit: deep}}}]}");
        assert!(interface(&file).unwrap().participant_data.contains_key("deep"));
    }

    #[test]
    fn what_is_not_one_flow_is_refused_without_being_repeated() {
        for bad in
            ["", "a: [", "just text", "- a\n", "inboundCall: 3\n", "inboundCall: {name: A}\ninboundChat: {name: B}\n", "<html>hunter2"]
        {
            let refused = interface(bad).unwrap_err();
            assert!(refused.starts_with("the exported file is") && !refused.contains("hunter2"), "{bad:?}: {refused}");
        }
    }
}
