//! Whether this server can do its work: the database answers and the driver's host is fit.

use std::{sync::Arc, time::Duration};

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

/// Looks at everything that a request needs.
pub async fn ready(app: &Arc<App>) -> Vec<Check> {
    let database = tokio::time::timeout(DEADLINE, app.db.ping());
    let driver = tokio::time::timeout(DEADLINE, app.driver.check());
    let (database, driver) = tokio::join!(database, driver);
    let database = check("database", database.map(|result| result.map_err(|e| e.to_string())));
    let driver =
        check("driver", driver.map(|result| result.map(|_| ()).map_err(|e| e.to_string())));
    vec![database, driver]
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
