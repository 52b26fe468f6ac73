//! The audit trail's rows. What is hashed and how is not decided here.

use domain::id::OrganizationId;
use migrations::rows::AuditRow;
use sea_orm::{ConnectionTrait, FromQueryResult};

use crate::{
    Reach,
    db::{Sql, Tx},
    error::{Error, Result},
};

/// The audit trail within reach.
#[must_use]
pub const fn audit(reach: Reach) -> Audit {
    Audit { reach }
}

/// The audit trail within a reach.
#[derive(Debug, Clone)]
pub struct Audit {
    reach: Reach,
}

/// The end of an organization's chain.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct ChainEnd {
    /// The number of the last entry; 0 before the first.
    pub last_seq: i64,
    /// Its hash; that of the chain's beginning before the first.
    pub last_hash: Vec<u8>,
}

/// Which entries are wanted; what is `None` is not asked about.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Who acted.
    pub actor: Option<String>,
    /// What was done.
    pub action: Option<String>,
    /// On what.
    pub object: Option<String>,
    /// From this instant on, in microseconds.
    pub from: Option<i64>,
    /// Before this instant, in microseconds.
    pub until: Option<i64>,
}

impl Audit {
    /// Takes the end of a chain and holds it until the transaction ends; begins the chain with
    /// `genesis` if there is none.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn hold_chain(
        &self,
        tx: &Tx,
        org: OrganizationId,
        genesis: &[u8],
    ) -> Result<ChainEnd> {
        self.reach.must_cover(org, None)?;
        let end = Sql::new(
            "insert into audit_chains (org_id, last_seq, last_hash) values ($1, 0, $2)
             on conflict (org_id) do update set last_seq = audit_chains.last_seq
             returning last_seq, last_hash",
            [org.uuid().into(), genesis.to_vec().into()],
        );
        let end = end.one(tx).await?;
        end.ok_or_else(|| Error::Corrupt("a chain that is held has an end".to_owned()))
    }

    /// Appends entries to a chain that is held; the last one is its new end.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, n = entries.len()))]
    pub async fn append(&self, tx: &Tx, entries: &[AuditRow]) -> Result<()> {
        let Some(last) = entries.last() else { return Ok(()) };
        for entry in entries {
            self.reach.must_cover(OrganizationId::from_uuid(entry.org_id), None)?;
        }
        let rows = entries.iter().map(|e| {
            [
                e.org_id.into(),
                e.seq.into(),
                e.at.into(),
                e.actor.as_str().into(),
                e.action.as_str().into(),
                e.object.as_str().into(),
                e.outcome.as_str().into(),
                e.origin.as_str().into(),
                e.request_id.as_str().into(),
                e.details.as_str().into(),
                e.hash.clone().into(),
            ]
        });
        Sql::new(
            "insert into audit_entries (org_id, seq, at, actor, action, object, outcome, origin,
               request_id, details, hash) values ",
            [],
        )
        .rows(rows)
        .execute(tx)
        .await?;
        let moved = Sql::new(
            "update audit_chains set last_seq = $2, last_hash = $3 where org_id = $1",
            [last.org_id.into(), last.seq.into(), last.hash.clone().into()],
        );
        if moved.execute(tx).await? == 1 { Ok(()) } else { Err(Error::Stale) }
    }

    /// The end of a chain, if it has begun.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn chain_end(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
    ) -> Result<Option<ChainEnd>> {
        let sql =
            Sql::new("select a.last_seq, a.last_hash from audit_chains a where a.org_id = ", []);
        self.reach.by_org(sql.bind(org.uuid()), "a.org_id").one(c).await
    }

    /// Entries of an organization after a number, in their order.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, org = %org))]
    pub async fn list(
        &self,
        c: &impl ConnectionTrait,
        org: OrganizationId,
        filter: &AuditFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<AuditRow>> {
        let mut sql = Sql::new(
            "select a.org_id, a.seq, a.at, a.actor, a.action, a.object, a.outcome, a.origin,
               a.request_id, a.details, a.hash from audit_entries a where a.org_id = ",
            [],
        )
        .bind(org.uuid())
        .text(" and a.seq > ")
        .bind(after);
        for (column, value) in
            [("actor", &filter.actor), ("action", &filter.action), ("object", &filter.object)]
        {
            if let Some(value) = value {
                sql = sql.text(" and a.").text(column).text(" = ").bind(value.as_str());
            }
        }
        if let Some(from) = filter.from {
            sql = sql.text(" and a.at >= ").bind(from);
        }
        if let Some(until) = filter.until {
            sql = sql.text(" and a.at < ").bind(until);
        }
        let sql = self.reach.by_org(sql, "a.org_id").text(" order by a.seq limit ");
        sql.bind(i64::from(limit)).all(c).await
    }
}
