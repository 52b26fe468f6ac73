//! What a machine's life costs: the windows of its meter against the life that the API tells of.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::{stage::Stage, wait::until};

/// The wire tells instants to this, and cuts off the rest.
const PRECISION: TimeDelta = TimeDelta::milliseconds(1);

/// A window of usage: its first instant, the first one after it, its seconds.
type Window = (DateTime<Utc>, DateTime<Utc>, i64);

/// Waits until the life of a machine that has ended is in the books, and returns its seconds: the whole ones
/// from when it was ready to its end, in windows without a gap, each second once.
pub async fn of(stage: &Stage, sandbox: &str) -> i64 {
    let told = stage.knows(sandbox).await;
    let (from, until_end) = (instant(&told["readyAt"]), instant(&told["endedAt"]));
    let life = until_end - from;
    let (least, most) = ((life - PRECISION).num_seconds(), (life + PRECISION).num_seconds());
    let billed = |windows: &[Window]| windows.iter().map(|window| window.2).sum::<i64>();
    let settled = async || {
        let windows = windows(stage, sandbox).await;
        (billed(&windows) >= least).then_some(windows)
    };
    let (windows, _) = until(&format!("{least} s of {sandbox} are booked"), settled).await;
    let seconds = billed(&windows);
    assert!((least..=most).contains(&seconds), "{life} of {sandbox}: {windows:#?}");
    for pair in windows.windows(2) {
        assert_eq!(pair[0].1, pair[1].0, "neither a gap nor a second twice: {windows:#?}");
    }
    if let (Some(first), Some(last)) = (windows.first(), windows.last()) {
        // A window without a whole second is none, at the beginning as at the end.
        assert!(
            first.0 >= from && first.0 - from < TimeDelta::seconds(1) + PRECISION,
            "{windows:#?}"
        );
        assert!(last.1 <= until_end + PRECISION, "{windows:#?}");
    }
    seconds
}

/// A machine's windows so far, in their order.
pub async fn windows(stage: &Stage, sandbox: &str) -> Vec<Window> {
    let path = format!(
        "/admin/v1/organizations/{}/usage-windows?from=2026-01-01T00:00:00Z&limit=500",
        stage.org
    );
    let told = stage.admin.get(&path).await;
    assert_eq!(told["hasMore"], false, "a story has few windows");
    let windows = told["data"].as_array().unwrap().iter();
    let ours = windows.filter(|window| {
        window["sandboxId"] == *sandbox && window["metric"] == "compute_unit_seconds"
    });
    let window = |window: &Value| {
        assert!(window["transactionId"].is_string(), "the ledger has it: {window}");
        let quantity = window["quantity"].as_str().unwrap().parse().unwrap();
        (instant(&window["from"]), instant(&window["until"]), quantity)
    };
    ours.map(window).collect()
}

/// An instant of the wire's.
pub fn instant(text: &Value) -> DateTime<Utc> {
    text.as_str().unwrap_or_else(|| panic!("{text} is no instant")).parse().unwrap()
}
