//! A private PostgreSQL that is as durable as one in production. Nobody else's load is on it; its
//! housekeeping is done by hand between measurements.

use std::{
    fs, io,
    net::TcpListener,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use sea_orm::{ConnectionTrait, Statement};
use store::Db;
use tokio::process::{Child, Command};

const START: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Begins each entry of the log, so that entries of several lines can be told apart.
pub const MARK: &str = "@@";

/// What differs from PostgreSQL's own defaults, all of which are for production.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
timezone = 'UTC'
autovacuum = off
max_wal_size = '4GB'
log_parameter_max_length = 0
";

/// A running server. Ends when it is dropped.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    user: Option<u32>,
    port: u16,
    child: Child,
    /// For housekeeping.
    pub db: Db,
}

impl Postgres {
    pub async fn start(programs: &Path, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        // PostgreSQL refuses to run as root.
        let user = rustix::process::geteuid().is_root().then(unprivileged).transpose()?;
        if let Some(user) = user {
            chown(folder, Some(user), Some(user))?;
            if let Some(parent) = folder.parent() {
                fs::set_permissions(parent, fs::Permissions::from_mode(0o711))?;
            }
        }
        let data = folder.join("data");
        let mut initdb = command(programs, "initdb", user);
        initdb.arg("--pgdata").arg(&data).args(["--username=bench", "--auth=trust"]);
        let made = initdb.args(["--encoding=UTF8", "--locale=C"]).output().await?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));

        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let settings = format!("{SETTINGS}port = {port}\nlog_line_prefix = '{MARK}%p %a{MARK}'\n");
        let file = data.join("postgresql.conf");
        fs::write(&file, fs::read_to_string(&file)? + &settings)?;
        let log = fs::File::create(folder.join("log"))?;
        let mut postgres = command(programs, "postgres", user);
        postgres.arg("-D").arg(&data).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let child = postgres.spawn().context("starting postgres")?;
        let db = connect(port).await?;
        let postgres = Self {
            programs: programs.to_owned(),
            folder: folder.to_owned(),
            user,
            port,
            child,
            db,
        };
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            let value: String = postgres.value(&format!("show {setting}")).await?;
            ensure!(value == "on", "{setting} is {value}");
        }
        Ok(postgres)
    }

    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// A program of PostgreSQL that connects to this server.
    pub fn client(&self, program: &str) -> Command {
        let mut command = command(&self.programs, program, self.user);
        command.args(["--host=127.0.0.1", "--username=bench"]).arg(format!("--port={}", self.port));
        command.current_dir(&self.folder);
        command
    }

    /// One more database, with our tables.
    pub async fn database(&self, name: &str) -> Result<Db> {
        self.execute(&format!("create database {name}")).await?;
        let options = store::Options { max_connections: 4 };
        let db = Db::connect(&self.url_of(name), options).await?;
        db.migrate().await?;
        Ok(db)
    }

    pub fn url_of(&self, database: &str) -> String {
        url(self.port, database)
    }

    pub async fn execute(&self, sql: &str) -> Result<()> {
        execute(&self.db, sql).await
    }

    /// The one value that a query gives.
    pub async fn value<V: sea_orm::TryGetable>(&self, sql: &str) -> Result<V> {
        value(&self.db, sql).await
    }

    pub async fn tidy(&self) -> Result<()> {
        tidy(&self.db).await
    }

    /// Logs every statement, or none.
    pub async fn log_statements(&self, on: bool) -> Result<()> {
        let what = if on { "all" } else { "none" };
        self.execute(&format!("alter system set log_statement = '{what}'")).await?;
        self.execute("select pg_reload_conf()").await
    }

    /// Everything logged so far.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join("log"))?)
    }
}

pub async fn execute(db: &Db, sql: &str) -> Result<()> {
    db.write().execute_unprepared(sql).await.with_context(|| sql.to_owned())?;
    Ok(())
}

/// The one value that a query gives.
pub async fn value<V: sea_orm::TryGetable>(db: &Db, sql: &str) -> Result<V> {
    let c = db.read();
    let statement = Statement::from_string(c.get_database_backend(), sql);
    let row = c.query_one_raw(statement).await?.with_context(|| sql.to_owned())?;
    Ok(row.try_get_by_index(0)?)
}

/// Puts the tables in the same order before each measurement.
pub async fn tidy(db: &Db) -> Result<()> {
    execute(db, "vacuum analyze").await?;
    execute(db, "checkpoint").await
}

/// What pgbench tells at its end.
#[derive(Debug, Clone, Copy)]
pub struct Pgbench {
    /// Scripts a second, over all connections.
    pub rate: f64,
    /// How long one takes, in milliseconds.
    pub mean: f64,
}

impl Pgbench {
    pub async fn run(mut pgbench: Command) -> Result<Self> {
        let done = pgbench.output().await?;
        let told = String::from_utf8_lossy(&done.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
        ensure!(done.status.success(), "pgbench: {told}{complaint}");
        let number = |after: &str| {
            let line = told.lines().find_map(|line| line.strip_prefix(after));
            line.and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok())
                .with_context(|| format!("pgbench says no {after}: {told}{complaint}"))
        };
        Ok(Self { rate: number("tps = ")?, mean: number("latency average = ")? })
    }
}

fn url(port: u16, database: &str) -> String {
    format!("postgres://bench@127.0.0.1:{port}/{database}")
}

async fn connect(port: u16) -> Result<Db> {
    let deadline = tokio::time::Instant::now() + START;
    loop {
        let options = store::Options { max_connections: 1 };
        match Db::connect(&url(port, "postgres"), options).await {
            Ok(db) => return Ok(db),
            Err(error) if tokio::time::Instant::now() >= deadline => {
                return Err(error).context("PostgreSQL does not come up");
            }
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

fn command(programs: &Path, program: &str, user: Option<u32>) -> Command {
    let mut command = Command::new(programs.join(program));
    command.stdin(Stdio::null()).current_dir("/");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command
}

/// The user that Debian's package makes, or nobody.
fn unprivileged() -> io::Result<u32> {
    let users = fs::read_to_string("/etc/passwd")?;
    let id = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        line.split(':').nth(2)?.parse().ok()
    };
    id("postgres").or_else(|| id("nobody")).ok_or_else(|| io::Error::other("no user for postgres"))
}
