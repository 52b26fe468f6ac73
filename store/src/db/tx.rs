//! A transaction. Dropped without a commit, it is rolled back.

use std::sync::atomic::{AtomicBool, Ordering};

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, Statement,
};

use super::in_time;
use crate::error::{Error, Result};

/// An open transaction. Functions that change several rows together, or that lock, take one instead
/// of any connection.
#[derive(Debug)]
pub struct Tx {
    inner: DatabaseTransaction,
    /// After a failed statement PostgreSQL turns a commit into a rollback and reports success; SQLite
    /// would commit the rest. Here it is neither: such a transaction cannot be committed.
    failed: AtomicBool,
}

impl Tx {
    pub(super) const fn new(inner: DatabaseTransaction) -> Self {
        Self { inner, failed: AtomicBool::new(false) }
    }

    pub(super) const fn inner(&self) -> &DatabaseTransaction {
        &self.inner
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; then it is not known whether it was done. [`Error::Corrupt`] when a
    /// statement failed before; then nothing was.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn commit(self) -> Result<()> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(Error::Corrupt("a transaction goes on after a failure".to_owned()));
        }
        in_time(self.inner.commit()).await
    }

    /// Undoes everything now, not when the connection is used next.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; it is undone all the same.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn rollback(self) -> Result<()> {
        in_time(self.inner.rollback()).await
    }

    fn note<T>(&self, result: std::result::Result<T, DbErr>) -> std::result::Result<T, DbErr> {
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        result
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Tx {
    fn get_database_backend(&self) -> DbBackend {
        self.inner.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> std::result::Result<ExecResult, DbErr> {
        self.note(self.inner.execute_raw(statement).await)
    }

    async fn execute_unprepared(&self, sql: &str) -> std::result::Result<ExecResult, DbErr> {
        self.note(self.inner.execute_unprepared(sql).await)
    }

    async fn query_one_raw(
        &self,
        statement: Statement,
    ) -> std::result::Result<Option<QueryResult>, DbErr> {
        self.note(self.inner.query_one_raw(statement).await)
    }

    async fn query_all_raw(
        &self,
        statement: Statement,
    ) -> std::result::Result<Vec<QueryResult>, DbErr> {
        self.note(self.inner.query_all_raw(statement).await)
    }
}
