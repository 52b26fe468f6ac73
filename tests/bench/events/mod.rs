//! Events on their way to a quorum queue of a private RabbitMQ: how many a second the relay of a server
//! publishes, and how long one takes from its commit to a consumer; against a bare publisher that has
//! no outbox, with the same messages and the same number of confirms in flight.

mod bare;
mod delay;
mod rate;

use std::path::Path;

use anyhow::{Context, Result};
use api::{
    app::{
        billing::Rules,
        tenants::{self, Bootstrap},
    },
    clock::{Clock, SystemClock},
};
use chrono::{DateTime, Utc};
use domain::{
    id::{OrganizationId, ProjectId, SandboxId},
    limits::Plan,
    scope::ScopeSet,
};
use lapin::{Channel, Connection, ConnectionProperties, options::QueuePurgeOptions};
use store::Db;

use crate::{postgres::Postgres, rabbit::Rabbit, table::Table};

/// As many as the relay has.
const IN_FLIGHT: usize = 100;
const EXCHANGE: &str = "crownest.events";
const QUEUE: &str = "crownest.usage";

pub async fn measure(
    table: &mut Table,
    programs: &Path,
    postgres: &Postgres,
    folder: &Path,
) -> Result<()> {
    let rabbit = tokio::task::spawn_blocking(|| Rabbit::start("bench")).await?;
    let db = postgres.database("events").await?;
    let stage = Stage {
        org: organization(&db).await?,
        db,
        database_url: postgres.url_of("events"),
        amqp_url: rabbit.url.clone(),
    };
    rate::measure(table, programs, &stage, folder).await?;
    // A server has threads, and so has this.
    let delays = tokio::task::spawn_blocking(move || -> Result<_> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(delay::measure(&stage))
    });
    delay::report(table, &delays.await??);
    Ok(())
}

/// What both measurements stand on.
struct Stage {
    db: Db,
    database_url: String,
    amqp_url: String,
    org: OrganizationId,
}

impl Stage {
    async fn connect(&self) -> Result<Connection> {
        let connecting = Connection::connect(&self.amqp_url, ConnectionProperties::default());
        connecting.await.context("connecting to the broker")
    }
}

/// Empties the queue; says how many messages were in it.
async fn empty(channel: &Channel) -> Result<u32> {
    Ok(channel.queue_purge(QUEUE.into(), QueuePurgeOptions::default()).await?)
}

async fn organization(db: &Db) -> Result<OrganizationId> {
    let wanted = Bootstrap {
        organization: "events".to_owned(),
        plan: Plan::Builder,
        email: "owner@events.example".to_owned(),
        project: None,
        scopes: ScopeSet::all(),
        project_ids: Vec::new(),
        restrict_to_project: false,
        key_name: "bench".to_owned(),
    };
    let rules = Rules::of(&api::config::Config::default());
    Ok(tenants::bootstrap(db, &rules, SystemClock.now(), wanted).await?.organization.id)
}

/// A window's usage; `number` tells one from the other.
fn usage(number: i64, sandbox: SandboxId, at: DateTime<Utc>) -> api::app::events::Payload {
    api::app::events::Payload::UsageRecorded(api::app::events::payload::UsageRecorded {
        sandbox_id: sandbox,
        project_id: ProjectId::generate(at),
        metric: "compute_unit_seconds",
        started_at: at,
        ended_at: at + chrono::TimeDelta::seconds(60),
        part: number,
        quantity: "60".to_owned(),
        credits: "0.060000000".to_owned(),
        pricing_version: "2026-07".to_owned(),
        period: "2031-01".to_owned(),
        transaction_id: Some(domain::id::TransactionId::generate(at)),
        correction: false,
    })
}
