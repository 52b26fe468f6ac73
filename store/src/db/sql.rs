//! SQL text with its values. Values never become text: each is bound to a `$n`, which both databases
//! read.

use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Statement, Value};

use super::in_time;
use crate::error::Result;

/// A statement that is put together piece by piece.
pub(crate) struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    /// A text whose placeholders `$1`.. stand for `values`; what is bound later is numbered on.
    pub(crate) fn new(text: impl Into<String>, values: impl IntoIterator<Item = Value>) -> Self {
        Self { text: text.into(), values: values.into_iter().collect() }
    }

    pub(crate) fn text(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    /// Binds a value where the text ends.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        let number = self.values.len();
        self.text.push('$');
        self.text.push_str(&number.to_string());
        self
    }

    /// Binds a list in parentheses, for `in`. PostgreSQL takes no empty list; nothing equals null.
    pub(crate) fn list<V: Into<Value>>(mut self, values: impl IntoIterator<Item = V>) -> Self {
        let mut values = values.into_iter();
        self = match values.next() {
            Some(first) => self.text("(").bind(first),
            None => self.text("(null"),
        };
        for value in values {
            self = self.text(", ").bind(value);
        }
        self.text(")")
    }

    /// Appends rows of values, for `values`.
    pub(crate) fn rows<const N: usize>(
        mut self,
        rows: impl IntoIterator<Item = [Value; N]>,
    ) -> Self {
        for (at, row) in rows.into_iter().enumerate() {
            if at > 0 {
                self = self.text(", ");
            }
            self = self.list(row);
        }
        self
    }

    /// Appends a row lock, which SQLite neither has nor needs: its transactions write one at a time.
    pub(crate) fn lock(self, c: &impl ConnectionTrait, clause: &str) -> Self {
        if c.get_database_backend() == DbBackend::Postgres {
            return self.text(" ").text(clause);
        }
        self
    }

    fn statement(self, c: &impl ConnectionTrait) -> Statement {
        Statement::from_sql_and_values(c.get_database_backend(), self.text, self.values)
    }

    /// Runs it and says how many rows it changed.
    pub(crate) async fn execute(self, c: &impl ConnectionTrait) -> Result<u64> {
        Ok(in_time(c.execute_raw(self.statement(c))).await?.rows_affected())
    }

    /// Reads all rows.
    pub(crate) async fn all<R: FromQueryResult>(self, c: &impl ConnectionTrait) -> Result<Vec<R>> {
        let rows = in_time(c.query_all_raw(self.statement(c))).await?;
        Ok(rows
            .iter()
            .map(|row| R::from_query_result(row, ""))
            .collect::<std::result::Result<_, _>>()?)
    }

    /// Reads the first row, if there is one.
    pub(crate) async fn one<R: FromQueryResult>(
        self,
        c: &impl ConnectionTrait,
    ) -> Result<Option<R>> {
        let row = in_time(c.query_one_raw(self.statement(c))).await?;
        Ok(row.map(|row| R::from_query_result(&row, "")).transpose()?)
    }

    /// Reads one column of all rows.
    pub(crate) async fn column<V: sea_orm::TryGetable>(
        self,
        c: &impl ConnectionTrait,
    ) -> Result<Vec<V>> {
        let rows = in_time(c.query_all_raw(self.statement(c))).await?;
        Ok(rows.iter().map(|row| row.try_get_by_index(0)).collect::<std::result::Result<_, _>>()?)
    }

    /// Reads the one value of a statement that always gives one, such as a count.
    pub(crate) async fn value<V: sea_orm::TryGetable>(self, c: &impl ConnectionTrait) -> Result<V> {
        self.column(c).await?.pop().ok_or_else(|| {
            crate::Error::Corrupt("a statement that always gives a row gave none".to_owned())
        })
    }
}

/// A number of rows as a statement counts them.
pub(crate) fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// A count or size as it is stored.
pub(crate) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Reads a stored count or size.
pub(crate) fn unsigned(stored: i64, what: &str) -> Result<u64> {
    u64::try_from(stored).map_err(|_| crate::Error::Corrupt(format!("{what} is {stored}")))
}

/// Reads a stored word.
pub(crate) fn word<T: std::str::FromStr>(stored: &str, what: &str) -> Result<T> {
    stored.parse().map_err(|_| crate::Error::Corrupt(format!("{what} is {stored:?}")))
}
