//! A transaction. Dropped without a commit, it is rolled back.

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, Statement,
};

use crate::error::Result;

/// An open transaction. Functions that change several rows together, or that lock, take one instead
/// of any connection.
#[derive(Debug)]
pub struct Tx(DatabaseTransaction);

impl Tx {
    pub(super) const fn new(inner: DatabaseTransaction) -> Self {
        Self(inner)
    }

    pub(super) const fn inner(&self) -> &DatabaseTransaction {
        &self.0
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`]; then it is not known whether it was done.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn commit(self) -> Result<()> {
        Ok(self.0.commit().await?)
    }

    /// Undoes everything now, not when the connection is used next.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`]; it is undone all the same.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn rollback(self) -> Result<()> {
        Ok(self.0.rollback().await?)
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Tx {
    fn get_database_backend(&self) -> DbBackend {
        self.0.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> std::result::Result<ExecResult, DbErr> {
        self.0.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> std::result::Result<ExecResult, DbErr> {
        self.0.execute_unprepared(sql).await
    }

    async fn query_one_raw(
        &self,
        statement: Statement,
    ) -> std::result::Result<Option<QueryResult>, DbErr> {
        self.0.query_one_raw(statement).await
    }

    async fn query_all_raw(
        &self,
        statement: Statement,
    ) -> std::result::Result<Vec<QueryResult>, DbErr> {
        self.0.query_all_raw(statement).await
    }
}
