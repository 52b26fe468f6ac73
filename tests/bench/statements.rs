//! Proves that a script for pgbench does the same statements as the server: both are brought into a
//! form in which only values are missing, and compared.

use std::{collections::BTreeSet, path::Path, time::Duration};

use anyhow::{Result, ensure};

use crate::postgres::{MARK, Postgres};

/// What servers do at times of their own, whoever asks what of them: settling accounts that are due, and
/// reading the price lists anew.
const OWN: [&str; 2] = ["for no key update of a skip locked", "from pricing_versions"];

/// How long the server is watched while nobody asks anything of it.
const IDLE: Duration = Duration::from_secs(6);
/// How long it takes at most until all sessions know that they are to log.
const TOLD: Duration = Duration::from_millis(300);
/// How long it may take to do in the background what a create leaves to be done.
const SETTLED: Duration = Duration::from_millis(1500);

/// Statements that belong together: a transaction, or one by itself.
type Unit = Vec<String>;

/// What the server does for one create.
#[derive(Debug)]
pub struct Done {
    /// Before it answers.
    pub request: Vec<String>,
    /// Afterwards, in the background.
    pub background: Vec<String>,
}

/// Watches a server do one thing; says what it did besides what it does all the time.
async fn units_of<F: Future<Output = Result<()>>>(
    postgres: &Postgres,
    one: F,
) -> Result<Vec<Unit>> {
    postgres.log_statements(true).await?;
    tokio::time::sleep(IDLE).await;
    let n_idle = postgres.log()?.len();
    one.await?;
    tokio::time::sleep(SETTLED).await;
    let log = postgres.log()?;
    postgres.log_statements(false).await?;

    // What it does all the time is not done for the create.
    let idle: BTreeSet<Unit> = units(&log[..n_idle]).into_iter().collect();
    let own = |unit: &Unit| OWN.iter().any(|words| unit.iter().any(|text| text.contains(words)));
    let done = units(&log[n_idle..]).into_iter();
    Ok(done.filter(|unit| !idle.contains(unit) && !own(unit)).collect())
}

/// What a server does for a create.
pub async fn of_create<F: Future<Output = Result<()>>>(
    postgres: &Postgres,
    one: F,
) -> Result<Done> {
    let new = units_of(postgres, one).await?;
    let insert = |unit: &Unit| unit.iter().any(|text| text.starts_with("insert into sandboxes"));
    let end = new.iter().position(insert).map_or(0, |at| at + 1);
    let (request, background) = new.split_at(end);
    Ok(Done { request: request.concat(), background: background.concat() })
}

/// What a server does to answer one request that changes nothing.
pub async fn of_read<F: Future<Output = Result<()>>>(
    postgres: &Postgres,
    one: F,
) -> Result<Vec<String>> {
    Ok(units_of(postgres, one).await?.concat())
}

/// What is done while nobody else does anything.
pub async fn during<F: Future<Output = Result<()>>>(
    postgres: &Postgres,
    one: F,
) -> Result<Vec<String>> {
    postgres.log_statements(true).await?;
    tokio::time::sleep(TOLD).await;
    let n_before = postgres.log()?.len();
    one.await?;
    let log = postgres.log()?;
    postgres.log_statements(false).await?;
    Ok(units(&log[n_before..]).concat())
}

/// Compares what the server did with what a script does.
pub fn must_agree(script: &Path, text: &str, done: &[String]) -> Result<()> {
    let scripted: Vec<_> = scripted(text);
    let list = |statements: &[String]| {
        statements.iter().map(|text| format!("\n  {text};")).collect::<String>()
    };
    ensure!(
        scripted == done,
        "{} has\n{}\n\nbut the server does\n{}",
        script.display(),
        list(&scripted),
        list(done)
    );
    Ok(())
}

/// The server's units in the order of their ends.
fn units(log: &str) -> Vec<Unit> {
    let mut open: Vec<(&str, Unit)> = Vec::new();
    let mut units = Vec::new();
    let mut entries = log.split(MARK).skip(1);
    while let (Some(who), Some(entry)) = (entries.next(), entries.next()) {
        let (session, name) = who.split_once(' ').unwrap_or((who, ""));
        let Some(statement) = statement(entry).filter(|_| name == "crownest") else { continue };
        let text = canonical(statement);
        match open.iter().position(|(owner, _)| *owner == session) {
            Some(at) => {
                open[at].1.push(text.clone());
                if text == "commit" || text == "rollback" {
                    units.push(open.remove(at).1);
                }
            }
            None if text == "begin" => open.push((session, vec![text])),
            None => units.push(vec![text]),
        }
    }
    units
}

/// The statement of a log entry, if it is one.
fn statement(entry: &str) -> Option<&str> {
    let text = entry.trim_start().strip_prefix("LOG:  ")?;
    match text.strip_prefix("execute ") {
        Some(named) => named.split_once(": ").map(|(_, statement)| statement),
        None => text.strip_prefix("statement: "),
    }
}

/// The statements of a script, without what sets it up.
fn scripted(script: &str) -> Vec<String> {
    let mut text = String::new();
    let mut setting_up = false;
    for line in script.lines().map(str::trim) {
        if line.starts_with("\\if") {
            setting_up = true;
        } else if line.starts_with("\\endif") {
            setting_up = false;
        } else if line == "\\gset" && !setting_up {
            text.push(';');
        } else if !(setting_up || line.starts_with('\\') || line.starts_with("--")) {
            text.push_str(line);
            text.push(' ');
        }
    }
    text.split(';').map(canonical).filter(|statement| !statement.is_empty()).collect()
}

/// A statement with one space between words, and `?` for each value: a parameter, a literal, a
/// variable of pgbench, or one of the functions that stand for one.
fn canonical(statement: &str) -> String {
    let mut out = String::new();
    let mut rest = statement.trim().trim_end_matches(';');
    while let Some(first) = rest.chars().next() {
        let word = |from: usize| {
            let more = rest[from..].chars();
            from + more.take_while(|c| c.is_alphanumeric() || *c == '_').count()
        };
        let len = match first {
            '$' | ':' => word(1),
            '\'' => 2 + rest[1..].find('\'').unwrap_or(rest.len() - 2),
            c if c.is_alphanumeric() || c == '_' => word(0),
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(len);
        rest = after;
        if token.starts_with("bench_") {
            rest = rest.split_once(')').map_or("", |(_, after)| after);
        }
        let starts = |set: &[char]| token.starts_with(set);
        let is_value = starts(&['$', ':', '\''])
            || token.starts_with("bench_")
            || token.eq_ignore_ascii_case("null")
            || token.chars().all(|c| c.is_ascii_digit());
        if first.is_whitespace() {
            if !out.ends_with(' ') {
                out.push(' ');
            }
        } else if is_value {
            out.push('?');
        } else {
            out.push_str(&token.to_lowercase());
        }
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_and_a_log_are_the_same_but_for_values() {
        let log = "@@7 crownest@@LOG:  execute sqlx_s_3: select a,\n\t  b from t\n\twhere id = $1 \
                   and phase in ('x', 'y')\n@@7 crownest@@LOG:  statement: BEGIN\n\
                   @@8 other@@LOG:  statement: select 1\n\
                   @@7 crownest@@DETAIL:  parameters\n\
                   @@7 crownest@@LOG:  execute sqlx_s_4: insert into t values ($1, $2, 3)\n\
                   @@7 crownest@@LOG:  execute sqlx_s_5: select 1\n\
                   @@7 crownest@@LOG:  statement: COMMIT\n";
        let script = "\\if :n = 0\nselect 9 \\gset\n\\endif\n\\set n :n + 1\n-- why\n\
                      select a, b from t where id = bench_id(:c, :n) and phase in ('x', 'y');\n\
                      begin;\ninsert into t\n values (:a, 'b', 3);\nselect 2\n\\gset\n\\set n :n + 1\ncommit;\n";
        assert_eq!(units(log).concat(), scripted(script));
        assert_eq!(scripted(script)[2], "insert into t values (?, ?, ?)");
        assert_eq!(units(log).len(), 2, "a statement and a transaction");
    }
}
