//! Whether this server can do its work: the database answers and the driver's host is fit.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use super::App;

const DEADLINE: Duration = Duration::from_secs(5);

/// One thing that was looked at.
#[derive(Debug, Clone)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// Whether it is fit.
    pub ok: bool,
    /// In words, without inside details.
    pub detail: String,
}

/// How long a finding about the driver holds: looking starts a sandbox, and anybody may ask.
const HOLDS_FOR: Duration = Duration::from_secs(15);

/// The last finding about the driver.
#[derive(Debug, Default)]
pub struct Readiness {
    driver: Mutex<Option<(Instant, Check)>>,
}

/// Looks at everything that a request needs.
pub async fn ready(app: &Arc<App>) -> Vec<Check> {
    let database = tokio::time::timeout(DEADLINE, app.db.ping()).await;
    let database = check("database", database.map(|result| result.map_err(|e| e.to_string())));
    vec![database, driver(app).await]
}

/// One look at a time; whoever asks meanwhile gets the same finding.
async fn driver(app: &Arc<App>) -> Check {
    let mut last = app.readiness.driver.lock().await;
    if let Some((at, found)) = &*last
        && at.elapsed() < HOLDS_FOR
    {
        return found.clone();
    }
    let found = tokio::time::timeout(DEADLINE, app.driver.check()).await;
    let found = found.map(|result| result.map(|_| ()).map_err(|e| e.to_string()));
    let found = check("driver", found);
    *last = Some((Instant::now(), found.clone()));
    found
}

fn check(
    name: &'static str,
    result: Result<Result<(), String>, tokio::time::error::Elapsed>,
) -> Check {
    let detail = match result {
        Ok(Ok(())) => return Check { name, ok: true, detail: "ok".to_owned() },
        Ok(Err(error)) => {
            tracing::warn!(check = name, error, "not ready");
            "not usable; the server's log says why"
        }
        Err(_) => {
            tracing::warn!(check = name, "not ready: no answer in time");
            "no answer in time"
        }
    };
    Check { name, ok: false, detail: detail.to_owned() }
}
