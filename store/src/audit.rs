//! The audit trail's rows. What is hashed and how is not decided here.

use domain::id::OrganizationId;
use migrations::rows::AuditRow;
use sea_orm::{ConnectionTrait, FromQueryResult};
use uuid::Uuid;

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

/// One of the chains that the trail consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    /// What was done in or to an organization.
    Organization(OrganizationId),
    /// What concerns no organization, such as operators' keys.
    Installation,
}

impl From<OrganizationId> for Chain {
    fn from(org: OrganizationId) -> Self {
        Self::Organization(org)
    }
}

impl Chain {
    /// What its rows have for `org_id`: no organization has the nil id.
    #[must_use]
    pub const fn org_id(self) -> Uuid {
        match self {
            Self::Organization(org) => org.uuid(),
            Self::Installation => Uuid::nil(),
        }
    }

    /// The chain that a row belongs to.
    #[must_use]
    pub fn of(row: &AuditRow) -> Self {
        if row.org_id.is_nil() {
            Self::Installation
        } else {
            Self::Organization(OrganizationId::from_uuid(row.org_id))
        }
    }
}

impl std::fmt::Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Organization(org) => org.fmt(f),
            Self::Installation => f.write_str("installation"),
        }
    }
}

/// The end of a chain.
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
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, %chain))]
    pub async fn hold_chain(&self, tx: &Tx, chain: Chain, genesis: &[u8]) -> Result<ChainEnd> {
        self.must_cover(chain)?;
        let end = Sql::new(
            "insert into audit_chains (org_id, last_seq, last_hash) values ($1, 0, $2)
             on conflict (org_id) do update set last_seq = audit_chains.last_seq
             returning last_seq, last_hash",
            [chain.org_id().into(), genesis.to_vec().into()],
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
            self.must_cover(Chain::of(entry))?;
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
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, %chain))]
    pub async fn chain_end(
        &self,
        c: &impl ConnectionTrait,
        chain: Chain,
    ) -> Result<Option<ChainEnd>> {
        let sql =
            Sql::new("select a.last_seq, a.last_hash from audit_chains a where a.org_id = ", []);
        self.reach.by_org(sql.bind(chain.org_id()), "a.org_id").one(c).await
    }

    /// Entries of a chain after a number, in their order.
    ///
    /// # Errors
    /// As any statement.
    #[tracing::instrument(level = "debug", skip_all, fields(by = %self.reach, %chain))]
    pub async fn list(
        &self,
        c: &impl ConnectionTrait,
        chain: Chain,
        filter: &AuditFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<AuditRow>> {
        let mut sql = Sql::new(
            "select a.org_id, a.seq, a.at, a.actor, a.action, a.object, a.outcome, a.origin,
               a.request_id, a.details, a.hash from audit_entries a where a.org_id = ",
            [],
        )
        .bind(chain.org_id())
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

    /// No tenant reaches the chain of the installation.
    fn must_cover(&self, chain: Chain) -> Result<()> {
        match (chain, &self.reach) {
            (Chain::Organization(org), reach) => reach.must_cover(org, None),
            (Chain::Installation, Reach::Everyone { .. }) => Ok(()),
            (Chain::Installation, Reach::Tenant { .. }) => Err(Error::Missing("chain")),
        }
    }
}
