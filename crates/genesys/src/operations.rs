//! Every operation of Genesys Cloud that Serin uses, with the permission it needs and why. What is not here cannot be called.

/// One operation of the vendor's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// HTTP method.
    pub method: &'static str,
    /// Path with `{placeholders}`, as the vendor writes it.
    pub path: &'static str,
    /// Permissions of the OAuth client's role: any one of them will do; none where the vendor names none.
    pub permissions: &'static [&'static str],
    /// Which of Serin's clients needs it.
    pub client: Client,
    /// Whether it may be sent again when it is unknown whether the first one arrived.
    pub repeatable: bool,
    /// What Serin wants with it.
    pub why: &'static str,
}

/// Serin's two OAuth clients, each with a request budget of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// The evaluator's and the executor's.
    Both,
    /// The executor's alone: it changes flows.
    Publisher,
}

/// Measures cohorts.
pub const QUERY_FLOW_AGGREGATES: Operation = Operation {
    method: "POST",
    path: "/api/v2/analytics/flows/aggregates/query",
    permissions: &["analytics:flowAggregate:view"],
    client: Client::Both,
    repeatable: true,
    why: "how the calls of both cohorts ended, minute by minute",
};
/// Reads finished conversations. The vendor would also take `analytics:agentConversationDetail:view`, which shows a client its own only.
pub const QUERY_CONVERSATION_DETAILS: Operation = Operation {
    method: "POST",
    path: "/api/v2/analytics/conversations/details/query",
    permissions: &["analytics:conversationDetail:view", "analytics:agentConversationDetail:view"],
    client: Client::Both,
    repeatable: true,
    why: "how long agents took and how callers fared in the queue; without it these stay unknown",
};
/// Reads a flow.
pub const GET_FLOW: Operation = Operation {
    method: "GET",
    path: "/api/v2/flows/{flowId}",
    permissions: &["architect:flow:view"],
    client: Client::Both,
    repeatable: true,
    why: "which version is published, who holds the lock, which operation runs",
};
/// Lists the versions of a flow.
pub const LIST_VERSIONS: Operation = Operation {
    method: "GET",
    path: "/api/v2/flows/{flowId}/versions",
    permissions: &["architect:flow:view"],
    client: Client::Both,
    repeatable: true,
    why: "which versions exist, and which were published: publishing a missing one is answered with success",
};
/// Reads the configuration of a version.
pub const GET_CONFIGURATION: Operation = Operation {
    method: "GET",
    path: "/api/v2/flows/{flowId}/versions/{versionId}/configuration",
    permissions: &["architect:flow:view"],
    client: Client::Both,
    repeatable: true,
    why: "to know a configuration again under another version number or in the other flow",
};
/// Publishes a version.
pub const PUBLISH: Operation = Operation {
    method: "POST",
    path: "/api/v2/flows/actions/publish",
    permissions: &["architect:flow:publish", "architect:flow:unlock"],
    client: Client::Publisher,
    repeatable: false,
    why: "the canary version at start, the rollback target in a restoration",
};
/// Starts an export.
pub const EXPORT: Operation = Operation {
    method: "POST",
    path: "/api/v2/flows/export/jobs",
    permissions: &["architect:jobExport:create"],
    client: Client::Publisher,
    repeatable: true,
    why: "the promoted configuration, on its way into the stable flow",
};
/// Looks at an export.
pub const GET_EXPORT: Operation = Operation {
    method: "GET",
    path: "/api/v2/flows/export/jobs/{jobId}",
    permissions: &["architect:jobExport:view"],
    client: Client::Publisher,
    repeatable: true,
    why: "whether the export is ready, and where",
};
/// Registers a publish job. A second registration is harmless: a job starts when its file is uploaded.
pub const REGISTER_JOB: Operation = Operation {
    method: "POST",
    path: "/api/v2/flows/jobs",
    permissions: &["architect:job:create"],
    client: Client::Publisher,
    repeatable: true,
    why: "to publish the promoted configuration into the stable flow",
};
/// Looks at a publish job.
pub const GET_JOB: Operation = Operation {
    method: "GET",
    path: "/api/v2/flows/jobs/{jobId}",
    permissions: &["architect:job:view"],
    client: Client::Publisher,
    repeatable: true,
    why: "whether the publish job has ended, and how",
};

/// Reads the audit.
pub const QUERY_AUDITS: Operation = Operation {
    method: "POST",
    path: "/api/v2/audits/query/realtime",
    permissions: &["audits:audit:view"],
    client: Client::Both,
    repeatable: true,
    why: "who changed a flow or a data table by hand",
};
/// Lists the rows of a data table.
pub const LIST_ROWS: Operation = Operation {
    method: "GET",
    path: "/api/v2/flows/datatables/{datatableId}/rows",
    permissions: &["architect:datatable:view", "architect:datatableRow:view"],
    client: Client::Both,
    repeatable: true,
    why: "to confirm that there is no such row",
};
/// Reads a row of a data table.
pub const GET_ROW: Operation = Operation {
    method: "GET",
    path: "/api/v2/flows/datatables/{datatableId}/rows/{rowId}",
    permissions: &["architect:datatable:view", "architect:datatableRow:view"],
    client: Client::Both,
    repeatable: true,
    why: "where the traffic cop sends the calls",
};
/// Makes a row of a data table.
pub const ADD_ROW: Operation = Operation {
    method: "POST",
    path: "/api/v2/flows/datatables/{datatableId}/rows",
    permissions: &["architect:datatable:add", "architect:datatableRow:add"],
    client: Client::Both,
    repeatable: false,
    why: "the first time that a flow's calls are pointed somewhere",
};
/// Replaces a row of a data table. Not sent twice: a late one could overtake a row that takes the calls away again.
pub const PUT_ROW: Operation = Operation {
    method: "PUT",
    path: "/api/v2/flows/datatables/{datatableId}/rows/{rowId}",
    permissions: &["architect:datatable:edit", "architect:datatableRow:edit"],
    client: Client::Both,
    repeatable: false,
    why: "sends the calls to the canary flow",
};
/// Replaces a row of a data table by one under which stable has the calls; the evaluator contains with it, without waiting for anyone.
pub const CONTAIN_ROW: Operation = Operation { repeatable: true, why: "takes the calls away from the canary flow", ..PUT_ROW };
/// Looks whether dependencies are tracked.
pub const GET_DEPENDENCY_BUILD: Operation = Operation {
    method: "GET",
    path: "/api/v2/architect/dependencytracking/build",
    permissions: &["architect:dependencyTracking:view"],
    client: Client::Publisher,
    repeatable: true,
    why: "what is tracked in part tells nothing",
};
/// Lists what a version of a flow needs.
pub const LIST_CONSUMED_RESOURCES: Operation = Operation {
    method: "GET",
    path: "/api/v2/architect/dependencytracking/consumedresources",
    permissions: &["architect:dependencyTracking:view"],
    client: Client::Publisher,
    repeatable: true,
    why: "a version that needs something deleted must not get calls",
};
/// Runs a data action. Whatever it does it would do twice.
pub const TEST_ACTION: Operation = Operation {
    method: "POST",
    path: "/api/v2/integrations/actions/{actionId}/test",
    permissions: &["integrations:action:execute", "bridge:actions:execute"],
    client: Client::Publisher,
    repeatable: false,
    why: "whether the traffic cop gets an answer",
};
/// Reads a data action.
pub const GET_ACTION: Operation = Operation {
    method: "GET",
    path: "/api/v2/integrations/actions/{actionId}",
    permissions: &["integrations:action:view", "bridge:actions:view"],
    client: Client::Publisher,
    repeatable: true,
    why: "how long a call may wait for the traffic cop's answer",
};
/// Starts a validation. The vendor names no permission.
pub const VALIDATE: Operation = Operation {
    method: "POST",
    path: "/api/v2/flows/validate/jobs",
    permissions: &[],
    client: Client::Publisher,
    repeatable: true,
    why: "a version that does not validate must not get calls",
};
/// Looks at a validation. The vendor names no permission.
pub const GET_VALIDATION: Operation = Operation {
    method: "GET",
    path: "/api/v2/flows/validate/jobs/{jobId}",
    permissions: &[],
    client: Client::Publisher,
    repeatable: true,
    why: "whether the validation has ended, and how",
};
/// Lists IVR configurations.
pub const LIST_IVRS: Operation = Operation {
    method: "GET",
    path: "/api/v2/architect/ivrs",
    permissions: &["routing:callRoute:view"],
    client: Client::Publisher,
    repeatable: true,
    why: "which numbers lead to which flow",
};
/// Reads an IVR configuration.
pub const GET_IVR: Operation = Operation {
    method: "GET",
    path: "/api/v2/architect/ivrs/{ivrId}",
    permissions: &["routing:callRoute:view"],
    client: Client::Publisher,
    repeatable: true,
    why: "which flow its numbers lead to, and its version",
};
/// Replaces an IVR configuration, if it has the version still.
pub const PUT_IVR: Operation = Operation {
    method: "PUT",
    path: "/api/v2/architect/ivrs/{ivrId}",
    permissions: &["routing:callRoute:edit"],
    client: Client::Publisher,
    repeatable: false,
    why: "to put the traffic cop in front of a flow, and to take it away again",
};
/// Reads an emergency group.
pub const GET_EMERGENCY_GROUP: Operation = Operation {
    method: "GET",
    path: "/api/v2/architect/emergencygroups/{emergencyGroupId}",
    permissions: &["routing:emergencyGroup:view"],
    client: Client::Publisher,
    repeatable: true,
    why: "whether an emergency is declared, and its version",
};
/// Replaces an emergency group, if it has the version still.
pub const PUT_EMERGENCY_GROUP: Operation = Operation {
    method: "PUT",
    path: "/api/v2/architect/emergencygroups/{emergencyGroupId}",
    permissions: &["routing:emergencyGroup:edit"],
    client: Client::Publisher,
    repeatable: false,
    why: "to declare an emergency, and to end it",
};
/// Lists flow outcomes.
pub const LIST_OUTCOMES: Operation = Operation {
    method: "GET",
    path: "/api/v2/flows/outcomes",
    permissions: &["architect:flowOutcome:view"],
    client: Client::Publisher,
    repeatable: true,
    why: "which outcomes the two branches of a flow may begin and end",
};
/// Starts reading many conversations. A second job costs a little and changes nothing.
pub const START_DETAILS_JOB: Operation = Operation {
    method: "POST",
    path: "/api/v2/analytics/conversations/details/jobs",
    permissions: &["analytics:conversationDetail:view", "analytics:agentConversationDetail:view"],
    client: Client::Publisher,
    repeatable: true,
    why: "attributes of participants come out of such jobs only",
};
/// Looks at such a job.
pub const GET_DETAILS_JOB: Operation = Operation {
    method: "GET",
    path: "/api/v2/analytics/conversations/details/jobs/{jobId}",
    permissions: &["analytics:conversationDetail:view", "analytics:agentConversationDetail:view"],
    client: Client::Publisher,
    repeatable: true,
    why: "whether the job has ended, and how",
};
/// Reads what such a job found.
pub const GET_DETAILS: Operation = Operation {
    method: "GET",
    path: "/api/v2/analytics/conversations/details/jobs/{jobId}/results",
    permissions: &["analytics:conversationDetail:view", "analytics:agentConversationDetail:view"],
    client: Client::Publisher,
    repeatable: true,
    why: "which callers had which branch",
};
/// Reads limits of the organization. The vendor names no permission.
pub const GET_LIMITS: Operation = Operation {
    method: "GET",
    path: "/api/v2/organizations/limits/namespaces/{namespaceName}",
    permissions: &[],
    client: Client::Publisher,
    repeatable: true,
    why: "how much the organization itself may do",
};

/// All of them.
pub const ALL: [&Operation; 32] = [
    &QUERY_FLOW_AGGREGATES,
    &QUERY_CONVERSATION_DETAILS,
    &GET_FLOW,
    &LIST_VERSIONS,
    &GET_CONFIGURATION,
    &PUBLISH,
    &EXPORT,
    &GET_EXPORT,
    &REGISTER_JOB,
    &GET_JOB,
    &QUERY_AUDITS,
    &LIST_ROWS,
    &GET_ROW,
    &ADD_ROW,
    &PUT_ROW,
    &CONTAIN_ROW,
    &GET_DEPENDENCY_BUILD,
    &LIST_CONSUMED_RESOURCES,
    &TEST_ACTION,
    &GET_ACTION,
    &VALIDATE,
    &GET_VALIDATION,
    &LIST_IVRS,
    &GET_IVR,
    &PUT_IVR,
    &GET_EMERGENCY_GROUP,
    &PUT_EMERGENCY_GROUP,
    &LIST_OUTCOMES,
    &START_DETAILS_JOB,
    &GET_DETAILS_JOB,
    &GET_DETAILS,
    &GET_LIMITS,
];
