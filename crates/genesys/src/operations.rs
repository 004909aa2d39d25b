//! Every operation of Genesys Cloud that Serin uses, with the permission it needs and why. What is not here cannot be called.

/// One operation of the vendor's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// HTTP method.
    pub method: &'static str,
    /// Path with `{placeholders}`, as the vendor writes it.
    pub path: &'static str,
    /// Permissions of the OAuth client's role: any one of them will do.
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

/// All of them.
pub const ALL: [&Operation; 10] = [
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
];
