//! What operators do to a team's account, and its books as they can be read: ledger, statements,
//! alerts. The acts are those of the operator's command line.

use std::{future::Future, sync::Arc};

use api::app::{
    App,
    audit::Actor,
    billing::{manage, statements, tick},
    error::Result,
};
use billing::{credit::GrantKind, pricing::PricingVersion};
use chrono::{DateTime, Utc};
use domain::{id::OrganizationId, limits::Plan};
use serde_json::Value;
use store::{Backend, Everyone, billing::Billing, rows::WindowRow};
use uuid::Uuid;

use crate::{team::Team, time, world::World};

/// Why operators of stories do what they do.
const REASON: &str = "the story wants it";

/// Credit that was bought, under a key of its own.
#[must_use]
pub fn bought(credits: &str) -> manage::NewGrant {
    granted(GrantKind::Purchased, credits, &format!("{credits} bought"))
}

/// Credit of a kind, under a key.
#[must_use]
#[track_caller]
pub fn granted(kind: GrantKind, credits: &str, key: &str) -> manage::NewGrant {
    manage::NewGrant {
        kind,
        credits: credits.parse().unwrap(),
        priority: None,
        expires_at: None,
        key: key.to_owned(),
        reason: REASON.to_owned(),
    }
}

fn books() -> Billing {
    store::billing(Everyone::for_worker("story"))
}

impl World {
    async fn operates<F, T>(&self, work: impl FnOnce(Arc<App>) -> F) -> T
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        self.server().within(work).await.unwrap()
    }

    /// A team buys credit.
    pub async fn sells(&self, team: &Team, credits: &str) {
        self.grants(team, bought(credits)).await;
    }

    /// Grants credit.
    pub async fn grants(&self, team: &Team, new: manage::NewGrant) {
        let org = team.org();
        self.operates(move |app| async move {
            manage::change(&app, &Actor::operator(), org, new).await
        })
        .await;
    }

    /// Changes a plan now, or at an instant to come.
    pub async fn changes_plan(&self, team: &Team, plan: Plan, at: Option<&str>) {
        let (org, at) = (team.org(), at.map(time::at));
        let change = move |app| async move {
            let set = manage::SetPlan { plan, at, reason: REASON.to_owned() };
            manage::change(&app, &Actor::operator(), org, set).await
        };
        self.operates(change).await;
    }

    /// Sets how much may be invoiced in a month.
    pub async fn caps(&self, team: &Team, cap: Option<&str>) {
        let (org, cap) = (team.org(), cap.map(|cap| cap.parse().unwrap()));
        let set = move |app| async move {
            let set = manage::SetSpendCap { cap, reason: REASON.to_owned() };
            manage::change(&app, &Actor::operator(), org, set).await
        };
        self.operates(set).await;
    }

    /// Sets a limit whatever the plan says, or leaves it to the plan again.
    pub async fn limits(&self, team: &Team, name: &'static str, value: Option<u64>) {
        let org = team.org();
        let set = move |app| async move {
            let (name, reason) = (name.to_owned(), REASON.to_owned());
            manage::change(&app, &Actor::operator(), org, manage::SetLimit { name, value, reason })
                .await
        };
        self.operates(set).await;
    }

    /// Publishes a pricing version that becomes valid `after` from now.
    pub async fn publishes(&self, after: &str, version: PricingVersion) {
        let version = PricingVersion { valid_from: self.now() + time::span(after), ..version };
        self.operates(move |app| async move {
            manage::publish_pricing(&app, &Actor::operator(), &version).await
        })
        .await;
    }

    /// Publishes a pricing version and waits until it is in force.
    pub async fn introduces(&self, version: PricingVersion) {
        self.publishes("60s", version).await;
        self.advance("60s").await;
    }

    /// The statement of a period, as it was closed or as it stands.
    pub async fn statement(&self, team: &Team, period: &str) -> Value {
        let (org, period) = (team.org(), period.parse().unwrap());
        let get = move |app: Arc<App>| async move { statements::get(&app, org, period).await };
        serde_json::to_value(self.operates(get).await).unwrap()
    }

    /// The balance of an account such as `usage` or `credit:free`, in nano-credits.
    pub async fn balance(&self, team: &Team, account: &str) -> i64 {
        let totals = books().totals_from_postings(self.db().read(), team.org()).await.unwrap();
        totals.iter().filter(|total| total.account == account).map(|total| total.amount).sum()
    }

    /// What is left of all credit, in nano-credits.
    pub async fn credit(&self, team: &Team) -> i64 {
        let grants = books().all_grants(self.db().read(), team.org()).await.unwrap();
        grants.iter().map(|grant| grant.remaining).sum()
    }

    /// The windows that began in a span of time, in order.
    pub async fn windows(&self, team: &Team, from: &str, until: &str) -> Vec<WindowRow> {
        let (from, until) = (time::at(from), time::at(until));
        books().windows(self.db().read(), team.org(), (from, until), None, 1_000_000).await.unwrap()
    }

    /// The alerts of a month as `subject percent`.
    pub async fn alerts(&self, team: &Team, month: &str) -> Vec<String> {
        let alerts = books().alerts(self.db().read(), team.org(), time::at(month)).await.unwrap();
        alerts.iter().map(|alert| format!("{} {}", alert.subject, alert.percent)).collect()
    }

    /// A team's organization as the database's literal.
    #[must_use]
    pub fn literal(&self, team: &Team) -> String {
        self.literal_of(team.org().uuid())
    }

    /// An id as the database's literal.
    #[must_use]
    pub fn literal_of(&self, id: Uuid) -> String {
        match self.db().backend() {
            Backend::Sqlite => format!("x'{}'", id.simple()),
            Backend::Postgres => format!("uuid '{id}'"),
        }
    }

    /// Makes accounts due whose sandboxes are now known to have lived through a window that is not
    /// settled. A server's own loop may have settled them after the clock moved and before anybody
    /// looked who is alive, and then they would be due in a window's time only: in real time that is
    /// the order of things, in a story it is chance.
    pub(crate) async fn wakes_books(&self) {
        let (now, grid) =
            (self.now().timestamp_micros(), self.window().num_microseconds().unwrap());
        let end = format!("(m.settled_until / {grid} + 1) * {grid}");
        let behind = format!(
            "update billing_accounts set due_at = {now} where due_at > {now} and org_id in (
               select m.org_id from meters m join sandboxes s on s.id = m.sandbox_id
               where m.metric = 'compute_unit_seconds' and m.closed_at is null
                 and {end} <= {now} and {end} <= s.seen_alive_at and {end} <= s.expires_at)"
        );
        self.executes(&behind).await;
    }

    /// Settles whoever is due at any server until nobody is.
    pub async fn settles_books(&self) {
        let settled = async || {
            for server in self.servers() {
                // A failure is retried by the server's own loop.
                let _ = server.within(|app| async move { tick::round(&app).await }).await;
            }
            (self.n_due(self.now()).await == 0).then_some(())
        };
        self.until("accounts that are not due", settled).await;
    }

    /// Accounts that are to be settled, or whose sandboxes are to be stopped.
    async fn n_due(&self, now: DateTime<Utc>) -> i64 {
        let now = now.timestamp_micros();
        let due = format!(
            "select count(*) from billing_accounts a where due_at <= {now} or (stops_at <= {now}
               and exists (select 1 from sandboxes s where s.org_id = a.org_id
                 and s.phase in ('creating', 'starting', 'ready')
               union all select 1 from meters m where m.org_id = a.org_id
                 and m.settled_until < m.closed_at))"
        );
        self.number(&due).await
    }
}

impl Team {
    /// Its organization.
    #[must_use]
    pub fn org(&self) -> OrganizationId {
        self.org_id.parse().unwrap()
    }

    /// The credit that is left, as the usage summary says; none when there is no end to it.
    pub async fn remaining(&self) -> Option<f64> {
        self.get("/v1/usage").await.is(200)["credits"]["remaining"].as_f64()
    }

    /// Why and when a sandbox ended.
    pub async fn end_of(&self, sandbox: &str) -> (String, String) {
        let seen = self.sandbox(sandbox).await;
        let text = |name: &str| seen[name].as_str().unwrap_or("not at all").to_owned();
        (text("destroyedReason"), text("destroyedAt"))
    }
}
