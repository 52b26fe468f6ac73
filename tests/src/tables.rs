//! The tables themselves, for what no request can show. Knows no rule.

use sea_orm::{ConnectionTrait, FromQueryResult, Statement};
use store::{Backend, Db};

/// The rows of a statement.
pub(crate) async fn rows<R: FromQueryResult>(db: &Db, sql: &str) -> Vec<R> {
    let c = db.read();
    let statement = Statement::from_string(c.get_database_backend(), sql);
    let rows = c.query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| R::from_query_result(row, "").unwrap()).collect()
}

/// The number of a statement such as `select count(*) from sandboxes`.
pub async fn number(db: &Db, sql: &str) -> i64 {
    let c = db.read();
    let statement = Statement::from_string(c.get_database_backend(), sql);
    let row = c.query_one_raw(statement).await.unwrap().unwrap();
    row.try_get_by_index(0).unwrap()
}

/// Runs a statement.
pub async fn execute(db: &Db, sql: &str) {
    db.write().execute_unprepared(sql).await.unwrap();
}

#[derive(FromQueryResult)]
struct Column {
    table_name: String,
    column_name: String,
}

/// The columns, as `table.column`, that hold a text anywhere in any row.
pub async fn holding(db: &Db, text: &str) -> Vec<String> {
    let columns = match db.backend() {
        Backend::Sqlite => {
            "select t.name as table_name, c.name as column_name
             from sqlite_master t join pragma_table_info(t.name) c where t.type = 'table'"
        }
        Backend::Postgres => {
            "select cast(table_name as text) as table_name, cast(column_name as text) as column_name
             from information_schema.columns where table_schema = current_schema()"
        }
    };
    // PostgreSQL prints bytes in hexadecimal.
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut holding = Vec::new();
    for Column { table_name, column_name } in rows(db, columns).await {
        let value = format!("cast(\"{column_name}\" as text)");
        let sql = format!(
            "select count(*) from \"{table_name}\"
             where {value} like '%{text}%' or {value} like '%{hex}%'"
        );
        if number(db, &sql).await > 0 {
            holding.push(format!("{table_name}.{column_name}"));
        }
    }
    holding
}
