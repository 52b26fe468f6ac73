//! The names of all metrics and what they mean. A name that is not described here has no help text, which
//! a test tells.

/// Upper ends of the buckets of every histogram, in seconds: from a read that is remembered to a
/// command in the foreground.
pub const BUCKETS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

pub const BUILD_INFO: &str = "crownest_build_info";
pub const REQUEST_SECONDS: &str = "crownest_http_request_duration_seconds";
pub const REQUESTS_IN_FLIGHT: &str = "crownest_http_requests_in_flight";
pub const REQUESTS_ABANDONED: &str = "crownest_http_requests_abandoned_total";
pub const VERIFICATION_SECONDS: &str = "crownest_key_verification_duration_seconds";
pub const VERIFICATION_REFUSALS: &str = "crownest_key_verification_refusals_total";
pub const DRIVER_SECONDS: &str = "crownest_driver_verb_duration_seconds";
pub const DRIVER_ERRORS: &str = "crownest_driver_errors_total";
pub const MACHINE_STARTS: &str = "crownest_machine_starts_total";
pub const WORK_FAILURES: &str = "crownest_work_failures_total";
pub const CONFIRMS: &str = "crownest_publisher_confirms_total";
pub const NACKS: &str = "crownest_publisher_nacks_total";
pub const RETURNS: &str = "crownest_publisher_returns_total";
pub const CONNECTION_FAILURES: &str = "crownest_publisher_connection_failures_total";
pub const CONNECTED: &str = "crownest_publisher_connected";
pub const CONFIRM_SECONDS: &str = "crownest_publisher_confirm_duration_seconds";
pub const DATABASE_UP: &str = "crownest_database_up";
pub const CONNECTIONS: &str = "crownest_database_connections";
pub const OUTBOX_EVENTS: &str = "crownest_outbox_events";
pub const OUTBOX_LAG: &str = "crownest_outbox_lag_seconds";
pub const METER_LAG: &str = "crownest_meter_lag_seconds";
pub const ACCOUNT_LAG: &str = "crownest_account_lag_seconds";
pub const SANDBOXES: &str = "crownest_sandboxes";

/// Every metric with its help text.
pub const TABLE: &[(&str, &str)] = &[
    (BUILD_INFO, "Always 1; the labels tell what runs."),
    (
        REQUEST_SECONDS,
        "Time from a request to the head of its answer, by operation and class of status.",
    ),
    (REQUESTS_IN_FLIGHT, "Requests without an answer yet."),
    (REQUESTS_ABANDONED, "Requests whose clients went away before the answer."),
    (VERIFICATION_SECONDS, "Time to verify a key by argon2, with the wait for a turn."),
    (
        VERIFICATION_REFUSALS,
        "Requests turned away because too many keys were waiting to be verified.",
    ),
    (DRIVER_SECONDS, "Time that calls of the driver took, whatever came of them."),
    (DRIVER_ERRORS, "Calls of the driver that failed; abandoned: nobody waited for the answer."),
    (
        MACHINE_STARTS,
        "Machines by how they started: with memory that others share, with a copy of it, by a boot.",
    ),
    (WORK_FAILURES, "Failures of background work; all of it is tried again."),
    (CONFIRMS, "Events that a queue of the broker took."),
    (NACKS, "Events that the broker refused."),
    (RETURNS, "Events that came back because no queue takes them."),
    (CONNECTION_FAILURES, "Connections to the broker that were lost or could not be made."),
    (CONNECTED, "Whether there is a connection to the broker."),
    (CONFIRM_SECONDS, "Time from publishing an event to the broker's confirm."),
    (DATABASE_UP, "Whether the database answered this scrape in time."),
    (CONNECTIONS, "Open connections of this server to the database."),
    (
        OUTBOX_EVENTS,
        "Events that wait for the broker's confirm, of all servers; counted to a million.",
    ),
    (OUTBOX_LAG, "Age of the oldest event that waits for the broker's confirm, of all servers."),
    (METER_LAG, "Age of the oldest second of use that is not in the books yet, of all servers."),
    (
        ACCOUNT_LAG,
        "For how long the most overdue account has been due to be settled, of all servers.",
    ),
    (SANDBOXES, "Sandboxes that are not over, by status, of all servers."),
];
